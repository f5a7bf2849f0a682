//! A client and a server that prove themselves by signatures, with the owners of both, and what may be done to their messages.

use std::cell::RefCell;

use crate::owner::{Owner, bare_certificate};
use crate::support::*;
use dtls_psk::{
    CertificateType, CertificateTypes, ClientCertificate, Config, Handshake, Reason, Suite, Suites,
};

pub(crate) const SERVER_HELLO: u8 = 2;
pub(crate) const CERTIFICATE: u8 = 11;
pub(crate) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(crate) const CERTIFICATE_REQUEST: u8 = 13;
pub(crate) const CERTIFICATE_VERIFY: u8 = 15;
pub(crate) const CLIENT_KEY_EXCHANGE: u8 = 16;

/// Who speaks.
pub(crate) const UP: bool = true;
pub(crate) const DOWN: bool = false;

/// The kinds of certificates that this build has.
pub(crate) const TYPES: &[CertificateType] = &[
    CertificateType::RawPublicKey,
    #[cfg(feature = "x509")]
    CertificateType::X509,
];

pub(crate) fn config_of(suite: Suite, certificate_type: CertificateType) -> Config {
    let types = CertificateTypes {
        raw_public_key: certificate_type == CertificateType::RawPublicKey,
        #[cfg(feature = "x509")]
        x509: certificate_type == CertificateType::X509,
    };
    Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap()).with_certificate_types(types)
}

/// What a client with this kind of certificate is made with.
pub(crate) fn of_client(certificate_type: CertificateType) -> ClientCertificate<'static> {
    match certificate_type {
        #[cfg(feature = "x509")]
        CertificateType::X509 => ClientCertificate::X509 { server_name: None },
        _ => ClientCertificate::RawPublicKey,
    }
}

/// A client, its owner, and a server that knows nobody.
pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) owner: Owner,
    pub(crate) server: Server,
}

impl Pair {
    pub(crate) fn new(config: Config, certificate_type: CertificateType) -> Self {
        let mut random = Random(1);
        let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
        let certificate = of_client(certificate_type);
        let client = Client::certificate_client(at(0), &config, certificate, rng, Handshake::new()).unwrap();
        let mut server = Server { config, ..Server::new(2) };
        let mut owner = Owner::new(0xc1);
        for owner in [&mut owner, &mut server.owner] {
            owner.chain = vec![bare_certificate(&owner.raw_public_key())];
        }
        Self { client, owner, server }
    }

    /// Both sides have certificates of this kind, or keys.
    pub(crate) fn of(certificate_type: CertificateType) -> Self {
        Self::new(config_of(Suite::EcdheEcdsaAes128Ccm8, certificate_type), certificate_type)
    }

    pub(crate) fn talk_with(&mut self, tamper: impl FnMut(bool, &mut Vec<u8>) -> bool) -> Talk {
        let Self { client, owner, server } = self;
        talk_answering(client, server, at(0), tamper, |client| owner.answer(client, at(0)))
    }
}

/// The body of a Certificate for this key.
pub(crate) fn presented(certificate_type: CertificateType, key: &[u8]) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
    with_length(&match certificate_type {
        CertificateType::RawPublicKey => key.to_vec(),
        CertificateType::X509 => with_length(&bare_certificate(key)),
    })
}

/// Ends at the client for `reason`, with `alert` for the server.
pub(crate) fn is_refused_by_client(talk: &Talk, reason: Reason, alert: u8) {
    assert_eq!((&*talk.client, &*talk.server), (&[Event::Closed(reason)][..], &[][..]));
    assert_eq!(talk.from_client.last().unwrap()[13..], [2, alert], "{reason:?}");
}

pub(crate) fn is_refused_by_server(talk: &Talk, reason: Reason, alert: u8) {
    assert_eq!((&*talk.client, &*talk.server), (&[][..], &[Event::Closed(reason)][..]));
    assert_eq!(talk.from_server.last().unwrap()[13..], [2, alert], "{reason:?}");
}

/// Refused by who hears what is said in this direction.
pub(crate) fn is_refused(direction: bool, talk: &Talk, reason: Reason, alert: u8) {
    if direction == UP {
        is_refused_by_server(talk, reason, alert);
    } else {
        is_refused_by_client(talk, reason, alert);
    }
}

pub(crate) fn is_nobody(talk: &Talk) {
    assert_eq!((&*talk.client, &*talk.server), (&[][..], &[][..]));
}

/// Both talk while the messages of a type are changed in one direction alone.
pub(crate) fn changed(pair: &mut Pair, direction: bool, code: u8, change: impl Fn(&mut Vec<u8>)) -> Talk {
    pair.talk_with(|is_up, datagram| {
        if is_up == direction {
            change_messages(datagram, code, &change);
        }
        true
    })
}

/// Gives every handshake message in the clear another type and body; `None` takes it out and closes the gap in their numbers.
pub(crate) fn replaced(datagram: &mut Vec<u8>, mut replace: impl FnMut(u8, &[u8]) -> Option<(u8, Vec<u8>)>) {
    let mut gone = 0;
    *datagram = records_of(datagram)
        .into_iter()
        .flat_map(|record| {
            if record[0] != 22 || record[3..5] != [0, 0] {
                return record;
            }
            let mut messages = Vec::new();
            let mut rest = &record[13..];
            while let Some(length) = rest.get(10..12) {
                let (message, behind) =
                    rest.split_at(12 + usize::from(u16::from_be_bytes([length[0], length[1]])));
                let seq = u16::from_be_bytes([message[4], message[5]]);
                match replace(message[0], &message[12..]) {
                    Some((code, body)) => messages.extend(fragment(code, body.len(), seq - gone, 0, &body)),
                    None => gone += 1,
                }
                rest = behind;
            }
            [record[..11].to_vec(), (messages.len() as u16).to_be_bytes().to_vec(), messages].concat()
        })
        .collect();
}

/// RFC 6066 §3: server_name.
pub(crate) const SERVER_NAME: u16 = 0;

/// The extensions of a ServerHello.
pub(crate) fn extensions_of(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut rest = &body[usize::from(body[34]) + 40..];
    let mut extensions = Vec::new();
    while let Some(&[kind @ .., high, low]) = rest.first_chunk::<4>() {
        let (value, behind) = rest[4..].split_at(usize::from(u16::from_be_bytes([high, low])));
        extensions.push((u16::from_be_bytes(kind), value.to_vec()));
        rest = behind;
    }
    extensions
}

/// The extensions of the ServerHello among datagrams of a server.
pub(crate) fn server_hello_of(datagrams: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
    let seen = RefCell::new(Vec::new());
    for datagram in datagrams {
        change_messages(&mut datagram.clone(), 2, |body| *seen.borrow_mut() = extensions_of(body));
    }
    seen.into_inner()
}
