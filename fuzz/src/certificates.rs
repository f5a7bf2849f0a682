//! The messages of handshakes with raw public keys and certificates, read by a side whose turn it is to read them and by
//! somebody else (RFC 5246 §7.4.2, §7.4.4, RFC 6066 §3, RFC 7250 §3, RFC 8422 §5.4).

use dtls_psk::{
    Accepted, Answer, CertificateTypes, ClientCertificate, Computation, Config, Connection, CookieJar,
    Datagram, Handshake, Input, Instant, Operation, PeerCertificate, REPLY_MAX, Reason, SIGNATURE, Suites,
};
use p256::ecdsa::Signature;

use crate::dtls::ADDRESS;
use crate::dtls_insider::{Nothing, last_signature};
use crate::forgery::client_hello;
use crate::owner::certificate;
use crate::script::{Script, random};

type Side = Connection<1024, Handshake<1024, Nothing>, Nothing>;

const NOW: Instant = Instant::from_millis(0);
/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8.
const SUITE: [u8; 2] = [0xc0, 0xae];
const RSA_AND_ECDSA: &[u8] = &[0, 13, 0, 6, 0, 4, 4, 1, 4, 3];
const RAW_PUBLIC_KEYS: &[u8] = &[0, 19, 0, 2, 1, 2, 0, 20, 0, 2, 1, 2];
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// A message of the kind that the first byte names.
pub fn certificates(script: &[u8]) {
    let mut script = Script(script);
    let Some(kind) = script.byte() else { return };
    let (is_client, is_raw, body) = (kind & 1 == 0, kind & 2 == 0, script.0);
    match kind >> 2 & 3 {
        0 => presented(is_client, is_raw, body),
        1 if is_client => signed_share(is_raw, body),
        1 => signed_handshake(is_raw, body),
        2 => requested(is_raw, body),
        _ => named(body),
    }
}

fn presented(is_client: bool, is_raw: bool, body: &[u8]) {
    let mut reader = if is_client { client(is_raw) } else { server(is_raw) };
    reader.hear(CERTIFICATE, body);
    let content = vector24(body).filter(|(_, behind)| behind.is_empty()).map(|(content, _)| content);
    let chain = content.and_then(chain);
    let Some(pending) = reader.side.poll_pending() else {
        let key = if is_raw { content } else { None };
        assert!(key.is_none_or(|key| dtls_psk::point_of(key).is_none()), "a key is judged");
        return;
    };
    let Operation::CheckPeer { certificate } = pending.operation else { panic!("it is judged first") };
    let key = certificate.public_key().and_then(dtls_psk::point_of).expect("what is judged has a key");
    match certificate {
        PeerCertificate::RawPublicKey(shown) => {
            assert!(is_raw && Some(shown) == content && shown.ends_with(key));
        }
        PeerCertificate::X509(shown) => {
            assert!(!is_raw && Some(shown.clone().collect()) == chain);
            assert!(
                shown.clone().next().is_some_and(|first| first.windows(key.len()).any(|part| part == key))
            );
        }
        other => panic!("{other:?} is not known here"),
    }
}

fn signed_share(is_raw: bool, signed: &[u8]) {
    let mut client = trusting_client(is_raw);
    client.hear(SERVER_KEY_EXCHANGE, &[SHARE, signed].concat());
    client.hear(SERVER_HELLO_DONE, &[]);
    compare(signed, client.computation());
}

fn signed_handshake(is_raw: bool, signed: &[u8]) {
    let mut server = server(is_raw);
    server.hear(CERTIFICATE, &own_certificate(is_raw));
    server.answer(Answer::Trusted);
    server.hear(CLIENT_KEY_EXCHANGE, &SHARE[3..]);
    server.hear(CERTIFICATE_VERIFY, signed);
    compare(signed, server.computation());
}

/// Whatever is a signature to either is the same one to both; what only ours takes is none that could be right.
fn compare(signed: &[u8], proof: Option<Computation>) {
    let in_der = signed.strip_prefix(&[4, 3]).and_then(vector16).filter(|(_, behind)| behind.is_empty());
    let theirs = in_der.and_then(|(der, _)| Signature::from_der(der).ok());
    let theirs = theirs.map(|signature| <[u8; SIGNATURE]>::from(signature.to_bytes()));
    let ours = proof.map(|proof| {
        let _ = proof.run::<Nothing>();
        last_signature()
    });
    assert!(ours == theirs || ours.is_some_and(|ours| Signature::from_slice(&ours).is_err()));
}

fn requested(is_raw: bool, body: &[u8]) {
    let mut client = trusting_client(is_raw);
    client.hear(SERVER_KEY_EXCHANGE, &[SHARE, SIGNED].concat());
    let heard = client.hear(CERTIFICATE_REQUEST, body);
    let lists = vector8(body).and_then(|(types, rest)| {
        let (algorithms, rest) = vector16(rest)?;
        let (_authorities, rest) = vector16(rest)?;
        (rest.is_empty() && algorithms.len() % 2 == 0).then_some((types, algorithms))
    });
    let is_for_us = lists.map(|(types, algorithms)| {
        types.contains(&64) && algorithms.chunks(2).any(|algorithm| algorithm == [4, 3])
    });
    assert_eq!(heard, (is_for_us == Some(false)).then_some(Reason::UnofferedAlgorithm));
    client.hear(SERVER_HELLO_DONE, &[]);
    let asked = client.side.poll_pending().map(|pending| pending.id);
    assert_eq!(asked.is_some(), is_for_us == Some(true));
}

fn named(value: &[u8]) {
    let length = (value.len() as u16).to_be_bytes();
    let extensions = [RSA_AND_ECDSA, &[0, 0], &length, value].concat();
    if extensions.len() > 255 {
        return;
    }
    let (jar, hello) = (&mut jar(), client_hello(&[], &[0; 16], &SUITE, &extensions));
    match jar.accept(NOW, &config(), &mut random(1), ADDRESS, &hello, &mut [0; REPLY_MAX]) {
        Accepted::Verified(hello) => {
            let name = hello.server_name().unwrap_or_default();
            let names = vector16(value).map(|(names, _)| names).unwrap_or_default();
            assert!(name.is_empty() || names.windows(name.len()).any(|part| part == name));
            let mut rest = names;
            let mut hosts = 0;
            while let [kind, behind @ ..] = rest
                && let Some((name, behind)) = vector16(behind)
            {
                hosts += usize::from(*kind == 0);
                assert!(!name.is_empty());
                rest = behind;
            }
            assert!(rest.is_empty() && hosts <= 1, "RFC 6066 §3: one of a type at most");
        }
        Accepted::Refused { reason, .. } => assert_eq!(reason, Reason::ProtocolViolation),
        other => panic!("{other:?} for a ClientHello with a cookie"),
    }
}

/// A side, and how many messages it heard.
struct Reading {
    side: Side,
    count: u8,
}

fn config() -> Config {
    let types = CertificateTypes { raw_public_key: true, x509: true };
    Config::DEFAULT.with_suites(Suites::ALL).with_certificate_types(types)
}

fn jar() -> CookieJar<Nothing> {
    CookieJar::with_crypto(NOW, &mut random(2))
}

/// A client that heard a ServerHello.
fn client(is_raw: bool) -> Reading {
    let certificate = match is_raw {
        true => ClientCertificate::RawPublicKey,
        false => ClientCertificate::X509 { server_name: None },
    };
    let side = Side::certificate_client(NOW, &config(), certificate, &mut random(1), Handshake::default());
    let mut client = Reading { side: side.expect("there are suites"), count: 0 };
    let types: &[u8] = if is_raw { &[0, 10, 0, 19, 0, 1, 2, 0, 20, 0, 1, 2] } else { &[] };
    client.hear(SERVER_HELLO, &[&[0xfe, 0xfd][..], &[7; 32], &[0], &SUITE, &[0], types].concat());
    client
}

/// A client that was shown a certificate besides, and trusts it.
fn trusting_client(is_raw: bool) -> Reading {
    let mut client = client(is_raw);
    client.hear(CERTIFICATE, &own_certificate(is_raw));
    client.answer(Answer::Trusted);
    client
}

/// A server that sent its flight.
fn server(is_raw: bool) -> Reading {
    let types = if is_raw { RAW_PUBLIC_KEYS } else { &[] };
    let hello = client_hello(&[], &[0; 16], &SUITE, &[RSA_AND_ECDSA, types].concat());
    let (config, rng, mut out) = (config(), &mut random(1), [0; REPLY_MAX]);
    let accepted = jar().accept(NOW, &config, rng, ADDRESS, &hello, &mut out);
    let Accepted::Verified(hello) = accepted else { panic!("one cookie is as good as another here") };
    let side = Side::server(NOW, &config, &hello, rng, Handshake::default());
    let mut server = Reading { side: side.expect("the randomness is not all zeros"), count: 2 };
    let share = server.computation().expect("its share is computed first");
    let id = server.side.pending().expect("it is asked").id;
    assert_eq!(server.side.provide(NOW, id, Answer::Computed(share.run::<Nothing>())), Ok(None));
    server.answer(Answer::Certificates(&[&[0x30]]));
    server.answer(Answer::Signature(&[0; SIGNATURE]));
    server
}

impl Reading {
    /// Hears a message; `Some` if that was the end.
    fn hear(&mut self, code: u8, body: &[u8]) -> Option<Reason> {
        let ([_, length @ ..], seq) = ((body.len() as u32).to_be_bytes(), self.count);
        let front = [&[code][..], &length, &[0, seq, 0, 0, 0], &length].concat();
        let whole = ((front.len() + body.len()) as u16).to_be_bytes();
        let record = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, seq][..], &whole, &front, body];
        self.count += 1;
        let mut bytes = record.concat();
        let mut datagram = Datagram::new(&mut bytes);
        match self.side.handle(NOW, &mut datagram)? {
            Input::Closed(reason) => Some(reason),
            input => panic!("{input:?} in the middle of a handshake"),
        }
    }

    fn answer(&mut self, answer: Answer<'_>) {
        let id = self.side.poll_pending().expect("something is asked").id;
        assert_eq!(self.side.provide(NOW, id, answer), Ok(None));
    }

    fn computation(&mut self) -> Option<Computation> {
        let Operation::Compute(computation) = self.side.poll_pending()?.operation else {
            panic!("it is proven first")
        };
        Some(computation)
    }
}

/// The parameters of a share as they stand in a ServerKeyExchange; from the length on, those of a ClientKeyExchange.
const SHARE: &[u8] = &{
    let mut share = [4; 4 + 65];
    [share[0], share[1], share[2], share[3]] = [3, 0, 23, 65];
    share
};
const SIGNED: &[u8] = &[4, 3, 0, 8, 0x30, 6, 2, 1, 1, 2, 1, 1];

/// The body of a Certificate that is as it should be.
fn own_certificate(is_raw: bool) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&[0, 0, bytes.len() as u8][..], bytes].concat();
    let key = dtls_psk::raw_public_key(&[4; 65]);
    with_length(&if is_raw { key.to_vec() } else { with_length(&certificate(&key)) })
}

fn chain(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut chain = Vec::new();
    while !list.is_empty() {
        let (certificate, behind) = vector24(list)?;
        chain.push(certificate);
        list = behind;
    }
    Some(chain)
}

fn vector8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn vector24(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([high, length @ ..], rest) = bytes.split_first_chunk::<3>()?;
    rest.split_at_checked(usize::from(*high) << 16 | usize::from(u16::from_be_bytes(*length)))
}
