//! A device whose storage holds any credential, and a server that has the right one: the handshake comes about exactly with
//! the records that it needs, and else ends with a reason.

use dtls_psk::{
    Accepted, Answer, CertificateType, CertificateTypes, Connection, CookieJar, Crypto as _, Datagram,
    Handshake, Instant as DtlsInstant, Operation, RustCrypto, Suite, Suites,
};
use lwm2m_client::{
    AccountId, Certificate, CertificateUsage, Client, Config, Credential, Event, FactoryAccount, Key,
    MatchingType, Notice, RawPublicKey, Server, ShortServerId, raw_public_key,
};
use lwm2m_coap::Instant;

use crate::devices::Storage;
use crate::script::{Script, random};

const DEVICE: [u8; 32] = [0xd1; 32];
const SERVER: [u8; 32] = [0x5e; 32];

/// The records that a script may put others in the place of.
const RECORDS: [Key; 4] = [Key::Identity(1), Key::Secret(1), Key::ServerKey(1), Key::ServerName(1)];

/// A certificate with this key and nothing else in it.
fn certificate(secret: &[u8; 32]) -> Vec<u8> {
    let key = raw_public_key(secret).expect("it is a key");
    [&[0x30, 0x67, 0x30, 0x65, 2, 0][..], &[0x30, 0].repeat(4), &key].concat()
}

/// Plays a handshake with what the script leaves of the credential.
pub fn credentials(script: &[u8]) {
    let mut script = Script(script);
    let Some(flags) = script.byte() else { return };
    let has_certificates = flags & 1 != 0;
    let usage = CertificateUsage::from_value(flags >> 1 & 3).unwrap_or_default();
    let matching = if flags & 8 != 0 { MatchingType::Sha256 } else { MatchingType::Exact };
    let [own, known] = [DEVICE, SERVER].map(|secret| match has_certificates {
        true => certificate(&secret),
        false => raw_public_key(&secret).expect("it is a key").to_vec(),
    });
    let credential: Credential<'_> = match has_certificates {
        true => {
            let (chain, private_key) = (Some(own.as_slice()), Some(DEVICE.as_slice()));
            let server_name = Some("lwm2m.example");
            Certificate { chain, private_key, server_certificate: &known, matching, usage, server_name }
                .into()
        }
        false => {
            let (public_key, private_key) = (Some(own.as_slice()), Some(DEVICE.as_slice()));
            RawPublicKey { public_key, private_key, server_key: &known }.into()
        }
    };
    let mut storage = Storage::default();
    let server = Server::new(0, ShortServerId::FIRST, 300);
    let account = FactoryAccount::server(1, "coaps://192.0.2.1", server, Some(credential));
    lwm2m_client::provision(&[account], &mut |action| storage.apply(action)).expect("memory does not fail");
    let whole = storage.current.clone();
    for (number, key) in RECORDS.into_iter().enumerate() {
        if flags >> (4 + number) & 1 != 0 {
            let bytes = script.bytes().unwrap_or_default();
            storage.current.insert(key, bytes.to_vec());
        }
    }
    let is_secured = play(&storage);
    let same = |key: Key| storage.current.get(&key) == whole.get(&key);
    let is_direct = !has_certificates || usage == CertificateUsage::DomainIssuedCertificate;
    if is_direct && matching == MatchingType::Exact && RECORDS.into_iter().all(same) {
        assert!(is_secured, "nothing was wrong with it");
    }
    if is_secured && !has_certificates {
        assert!(same(Key::ServerKey(1)) && same(Key::Identity(1)), "both sides knew each other");
    }
}

/// Lets device and server talk; whether they came to keys.
fn play(storage: &Storage) -> bool {
    let (now, time) = (Instant::from_millis(0), DtlsInstant::from_millis(0));
    let mut client: Client<'static, 2, 1, 1, 0, 512> = Client::new(Config::new("urn:dev:1"));
    let mut rng = random(7);
    let mut jar = CookieJar::new(time, &mut random(9));
    let mut server: Option<Connection<4096, Box<Handshake<4096>>>> = None;
    let (mut account, mut is_secured) = (None::<AccountId>, false);
    let mut out = [0; 576];
    for _ in 0..200 {
        let mut is_quiet = true;
        if client.poll_timeout().is_some_and(|next| next <= now) {
            client.handle_timeout(now, &mut [], &mut rng);
            is_quiet = false;
        }
        let mut to_device = Vec::new();
        while let Some((_, datagram)) = client.poll_transmit(now, &mut out, &mut [], &mut rng) {
            let mut datagram = datagram.to_vec();
            take(&mut jar, &mut server, time, &mut datagram, &mut to_device);
        }
        if let (Some(account), false) = (account, to_device.is_empty()) {
            is_quiet = false;
            for mut datagram in to_device {
                client.handle(now, account, &mut datagram, &mut [], &mut rng);
            }
        }
        while let Some(event) = client.poll_event() {
            is_quiet = false;
            match event {
                Event::Load { id, key } => client.loaded(id, storage.current.get(&key).map(Vec::as_slice)),
                Event::Persist { id, .. } => client.persisted(id, Ok(())),
                Event::Resolve { account: found, .. } => {
                    account = Some(found);
                    client.resolved(found, true);
                }
                Event::Notice(Notice::Secured { .. }) => is_secured = true,
                _ => {}
            }
        }
        if is_quiet {
            return is_secured;
        }
    }
    panic!("device and server never come to rest");
}

/// The server takes a datagram.
fn take(
    jar: &mut CookieJar,
    server: &mut Option<Connection<4096, Box<Handshake<4096>>>>,
    now: DtlsInstant,
    datagram: &mut [u8],
    to_device: &mut Vec<Vec<u8>>,
) {
    let types = CertificateTypes { x509: true, raw_public_key: true };
    let suites = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).unwrap_or_default();
    let config = dtls_psk::Config::DEFAULT.with_suites(suites).with_certificate_types(types);
    let mut out = [0; 1500];
    let connection = match server {
        Some(connection) => {
            let mut records = Datagram::new(datagram);
            while connection.handle(now, &mut records).is_some() {}
            connection
        }
        None => match jar.accept(now, &config, &mut random(11), b"device", datagram, &mut out) {
            Accepted::Reply(length) => return to_device.push(out[..length].to_vec()),
            Accepted::Verified(hello) => {
                let made =
                    Connection::server(now, &config, &hello, &mut random(13), Box::new(Handshake::new()));
                server.insert(made.expect("the hello was verified"))
            }
            other => panic!("{other:?}"),
        },
    };
    let raw = [DEVICE, SERVER].map(|secret| raw_public_key(&secret).expect("it is a key"));
    let own = certificate(&SERVER);
    while let Some(pending) = connection.poll_pending() {
        let id = pending.id;
        let signature;
        let answer = match pending.operation {
            Operation::Present { certificate_type: CertificateType::X509 } => Answer::Certificates(&[&own]),
            Operation::Present { .. } => Answer::Certificates(&[&raw[1]]),
            Operation::Sign { digest } => {
                signature = RustCrypto::p256_sign(&SERVER, digest).expect("it is a key");
                Answer::Signature(&signature)
            }
            Operation::CheckPeer { certificate } if certificate.public_key() == Some(&raw[0]) => {
                Answer::Trusted
            }
            Operation::CheckPeer { .. } => Answer::Refused(dtls_psk::Refusal::Unknown),
            Operation::Compute(computation) => Answer::Computed(computation.run::<RustCrypto>()),
            other => panic!("{other:?}"),
        };
        connection.provide(now, id, answer).expect("it was asked");
    }
    while let Some(length) = connection.poll_transmit(now, &mut out) {
        to_device.push(out[..length].to_vec());
    }
}
