//! The runner over real sockets on loopback, with a secure element that signs.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use dtls_psk::{
    Accepted, Answer, CertificateTypes, Config as DtlsConfig, Connection, CookieJar, Crypto as _, Datagram,
    HEADROOM, Handshake, Input, Instant, Operation, RustCrypto, Suite, Suites, TAILROOM,
};
use lwm2m_client::objects::Object;
use lwm2m_client::simulated::Device;
use lwm2m_client::{
    Config, FactoryAccount, Key, Notice, RawPublicKey, Runner, Server, ShortServerId, Store, provision,
    raw_public_key,
};
use lwm2m_coap::Code;

const DEVICE: [u8; 32] = [0xd1; 32];
const SERVER: [u8; 32] = [0x5e; 32];

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

/// Takes one device in by its raw public key, answers its registration, and tells what it presented.
fn serve(socket: &UdpSocket) -> Vec<u8> {
    let now = Instant::from_millis(0);
    let config = DtlsConfig::DEFAULT
        .with_suites(Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).unwrap())
        .with_certificate_types(CertificateTypes::RAW_PUBLIC_KEY);
    let mut jar = CookieJar::new(now, &mut random);
    let mut connection: Option<Connection<512>> = None;
    let mut presented = Vec::new();
    let (mut buffer, mut out) = ([0; 1500], [0; 1500]);
    loop {
        let (length, from): (_, SocketAddr) = socket.recv_from(&mut buffer).unwrap();
        let bytes = &mut buffer[..length];
        let Some(connection) = &mut connection else {
            let peer = from.to_string();
            match jar.accept(now, &config, &mut random, peer.as_bytes(), bytes, &mut out) {
                Accepted::Reply(length) => _ = socket.send_to(&out[..length], from).unwrap(),
                Accepted::Verified(hello) => {
                    let memory = Handshake::new();
                    let made = Connection::server(now, &config, &hello, &mut random, memory).unwrap();
                    let made = connection.insert(made);
                    answer(made, now, &mut presented);
                    flush(made, now, socket, from);
                }
                other => panic!("{other:?}"),
            }
            continue;
        };
        let mut records = Datagram::new(bytes);
        while let Some(input) = connection.handle(now, &mut records) {
            let Input::Application(message) = input else { continue };
            // A piggybacked 2.01 with a location.
            let token = usize::from(message[0] & 0x0f);
            let mut record = vec![0; HEADROOM];
            record.extend([0x60 | message[0] & 0x0f, Code::CREATED.as_u8(), message[2], message[3]]);
            record.extend(&message[4..][..token]);
            record.extend([0x82, b'r', b'd', 0x01, b'1']);
            let payload = HEADROOM..record.len();
            record.extend([0; TAILROOM]);
            let sealed = connection.seal(&mut record, payload).unwrap();
            socket.send_to(&record[sealed], from).unwrap();
            return presented;
        }
        answer(connection, now, &mut presented);
        flush(connection, now, socket, from);
    }
}

fn answer(connection: &mut Connection<512>, now: Instant, presented: &mut Vec<u8>) {
    let own = raw_public_key(&SERVER).unwrap();
    while let Some(pending) = connection.poll_pending() {
        let id = pending.id;
        let signature;
        let answer = match pending.operation {
            Operation::Present { .. } => Answer::Certificates(&[&own]),
            Operation::Sign { digest } => {
                signature = RustCrypto::p256_sign(&SERVER, digest).unwrap();
                Answer::Signature(&signature)
            }
            Operation::CheckPeer { certificate } => {
                presented.extend_from_slice(certificate.public_key().unwrap());
                Answer::Trusted
            }
            Operation::Compute(computation) => Answer::Computed(computation.run::<RustCrypto>()),
            other => panic!("{other:?}"),
        };
        connection.provide(now, id, answer).unwrap();
    }
}

fn flush(connection: &mut Connection<512>, now: Instant, socket: &UdpSocket, to: SocketAddr) {
    let mut out = [0; 1500];
    while let Some(length) = connection.poll_transmit(now, &mut out) {
        socket.send_to(&out[..length], to).unwrap();
    }
}

#[test]
fn a_device_registers_with_a_key_that_only_its_secure_element_has() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let uri = format!("coaps://{}", socket.local_addr().unwrap());
    let (sender, presented) = mpsc::channel();
    std::thread::spawn(move || sender.send(serve(&socket)).unwrap());

    let (public, server_key) = (raw_public_key(&DEVICE).unwrap(), raw_public_key(&SERVER).unwrap());
    let keys = RawPublicKey { public_key: Some(&public), private_key: None, server_key: &server_key };
    let server = Server::new(0, ShortServerId::FIRST, 86_400);
    let mut store = Store::in_memory();
    let account = FactoryAccount::server(1, &uri, server, Some(keys.into()));
    provision(&[account], &mut |action| store.apply(action)).unwrap();

    let config = Config { has_secure_element: true, ..Config::new("urn:dev:runner") };
    let mut asked = Vec::new();
    let signer = Box::new(|instance, digest: &[u8; 32]| {
        asked.push(instance);
        RustCrypto::p256_sign(&DEVICE, digest)
    });
    let mut runner = Runner::new(config, store).with_signer(signer);
    let mut device = Device::new("1");
    let mut objects: [&mut dyn Object; 1] = [&mut device];
    let is_registered = |notice: &Notice| matches!(notice, Notice::Registered { .. });
    while !runner.turn(&mut objects, Duration::from_secs(1)).iter().any(is_registered) {}
    assert_eq!(runner.store().load(Key::Secret(1)), None);
    assert_eq!(presented.recv().unwrap(), public);
    drop(runner);
    assert_eq!(asked, [1]);
}
