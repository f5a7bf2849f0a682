//! The runner over real sockets on loopback.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use dtls_psk::{
    Accepted, Answer, CertificateTypes, Config as DtlsConfig, Connection, CookieJar, Crypto as _, Datagram,
    HEADROOM, Handshake, Input, Instant, Operation, RustCrypto, Suite, Suites, TAILROOM,
};
use lwm2m_client::objects::{At, Object, ObjectDef, Path, Value, defs, path};
use lwm2m_client::simulated::Device;
use lwm2m_client::{
    Config, FactoryAccount, Key, Notice, RawPublicKey, Runner, Server, ShortServerId, Store, StoreError,
    provision, raw_public_key,
};
use lwm2m_coap::{Code, Kind, MessageId, udp};

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

/// Answers every registration, and tells where it came from.
fn register_all(socket: UdpSocket) -> mpsc::Receiver<SocketAddr> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let (message, token) = (&buffer[..length], usize::from(buffer[0] & 0x0f));
            if message[1] != Code::POST.as_u8() {
                continue;
            }
            let mut answer = vec![0x60 | message[0] & 0x0f, Code::CREATED.as_u8(), message[2], message[3]];
            answer.extend(&message[4..][..token]);
            answer.extend([0x82, b'r', b'd', 0x01, b'1']);
            socket.send_to(&answer, from).unwrap();
            if sender.send(from).is_err() {
                return;
            }
        }
    });
    receiver
}

fn turn_until_registered(runner: &mut Runner<'_>) {
    let mut device = Device::new("1");
    let mut objects: [&mut dyn Object; 1] = [&mut device];
    let is_registered = |notice: &Notice| matches!(notice, Notice::Registered { .. });
    let began = std::time::Instant::now();
    while !runner.turn(&mut objects, Duration::from_secs(1)).iter().any(is_registered) {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not register");
    }
}

fn leave_factory(uri: &str, store: &mut Store) -> Result<(), StoreError> {
    let server = Server::new(0, ShortServerId::FIRST, 86_400);
    provision(&[FactoryAccount::server(0, uri, server, None)], &mut |action| store.apply(action))
}

#[test]
fn in_another_network_a_device_without_security_registers_from_its_new_address() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("coap://{}", socket.local_addr().unwrap());
    let registered = register_all(socket);
    let mut store = Store::in_memory();
    leave_factory(&uri, &mut store).unwrap();
    let mut runner = Runner::new(Config::new("urn:dev:runner"), store);
    turn_until_registered(&mut runner);
    assert!(runner.received().is_some());
    runner.network_changed();
    turn_until_registered(&mut runner);
    let addresses = [registered.recv().unwrap(), registered.recv().unwrap()];
    assert_ne!(addresses[0], addresses[1]);
}

#[test]
fn a_factory_reset_leaves_nothing_but_the_accounts_of_the_factory() {
    let sockets = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    let uris = sockets.each_ref().map(|socket| format!("coap://{}", socket.local_addr().unwrap()));
    let registered = sockets.map(register_all);
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let server = Server::new(7, ShortServerId::FIRST, 86_400);
    let other = FactoryAccount::server(7, &uris[0], server, None);
    provision(&[other], &mut |action| store.apply(action)).unwrap();
    let mut runner = Runner::new(Config::new("urn:dev:runner"), store);
    turn_until_registered(&mut runner);
    assert!(registered[0].recv().is_ok());
    runner.factory_reset(|store| leave_factory(&uris[1], store)).unwrap();
    turn_until_registered(&mut runner);
    assert!(registered[1].recv().is_ok());
    drop(runner);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.load(Key::Server(7)), None);
    assert!(store.load(Key::Server(0)).is_some());
}

/// Serves one device: registers it, observes its temperature, and tells each value that it is notified of, the first one as well.
fn observe(socket: UdpSocket) -> mpsc::Receiver<String> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let (header, message) = udp::parse(&buffer[..length]).unwrap();
            let MessageId(id) = header.id;
            let [high, low] = id.to_be_bytes();
            match (message.code, message.options.uri_path().count()) {
                (Code::POST, segments) => {
                    let code = if segments == 1 { Code::CREATED } else { Code::CHANGED };
                    let mut answer = vec![0x60 | message.token.length(), code.as_u8(), high, low];
                    answer.extend(message.token.bytes());
                    if code == Code::CREATED {
                        answer.extend([0x82, b'r', b'd', 0x01, b'1']);
                    }
                    socket.send_to(&answer, from).unwrap();
                    if code == Code::CREATED {
                        // GET /3303/0/5700 as text, Observe 0.
                        let get = b"\x41\x01\x77\x77\x09\x60\x54\x33\x33\x30\x33\x01\x30\x045700\x60";
                        socket.send_to(get, from).unwrap();
                    }
                }
                (Code::CONTENT, _) => {
                    if header.kind == Kind::Confirmable {
                        socket.send_to(&[0x60, 0, high, low], from).unwrap();
                    }
                    if sender.send(String::from_utf8(message.payload.to_vec()).unwrap()).is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    receiver
}

const VALUE: Path = path!("/3303/0/5700");

/// A sensor whose value is what a test says.
struct Sensor(f64);

impl Object for Sensor {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        (at.resource == 5700).then_some(Value::Float(self.0))
    }
}

/// A device that its server observes.
fn observed(config: Config<'static>) -> (Runner<'static>, mpsc::Receiver<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("coap://{}", socket.local_addr().unwrap());
    let mut store = Store::in_memory();
    leave_factory(&uri, &mut store).unwrap();
    (Runner::new(config, store), observe(socket))
}

/// Takes turns until something is so.
fn turn_until(runner: &mut Runner<'_>, sensor: &mut Sensor, mut is_so: impl FnMut(&mut Runner<'_>) -> bool) {
    let mut device = Device::new("1");
    let began = std::time::Instant::now();
    while !is_so(runner) {
        runner.turn(&mut [&mut device, sensor], Duration::from_millis(10));
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come to that");
    }
}

#[cfg(feature = "offline")]
#[test]
fn of_what_is_due_without_a_network_the_last_1024_notifications_are_kept() {
    let (mut runner, told) = observed(Config::new("urn:dev:runner"));
    let mut sensor = Sensor(0.0);
    turn_until(&mut runner, &mut sensor, |_| told.try_recv().is_ok());
    runner.set_offline(true);
    let mut device = Device::new("1");
    for number in 1..=1100 {
        sensor.0 = f64::from(number);
        runner.client().changed(VALUE);
        runner.turn(&mut [&mut device, &mut sensor], Duration::ZERO);
        assert!(runner.sent().is_empty());
    }
    runner.set_offline(false);
    let mut values = Vec::new();
    turn_until(&mut runner, &mut sensor, |_| {
        values.extend(told.try_iter());
        values.last().is_some_and(|last| last == "1100")
    });
    let kept: Vec<String> = (77..=1100).map(|number: u16| number.to_string()).collect();
    assert_eq!(values, kept);
}

#[test]
fn in_queue_mode_the_receiver_may_be_off_a_while_after_the_last_message() {
    let config = Config { is_queue_mode: true, ..Config::new("urn:dev:runner") };
    let (mut runner, told) = observed(config);
    let mut sensor = Sensor(0.0);
    let awake = Duration::from_secs(93);
    assert_eq!(runner.sleeps_from(awake), None, "it has not begun");
    turn_until(&mut runner, &mut sensor, |runner| !runner.sent().is_empty());
    assert_eq!(runner.sleeps_from(awake), None, "the answer to Register is awaited");
    turn_until(&mut runner, &mut sensor, |runner| told.try_recv().is_ok() && runner.client().is_quiet());
    let first = runner.sleeps_from(awake).unwrap();
    assert!(first > runner.now() && first.since(runner.now()) <= awake);
    assert_eq!(first.since(runner.sleeps_from(Duration::from_secs(3)).unwrap()), Duration::from_secs(90));
    // Time alone does not change it.
    let then = runner.now();
    turn_until(&mut runner, &mut sensor, |runner| runner.now() > then.after_millis(20));
    assert_eq!(runner.sleeps_from(awake), Some(first));
    // A message does: the server thinks that the device listens.
    sensor.0 = 1.0;
    runner.client().changed(VALUE);
    turn_until(&mut runner, &mut sensor, |runner| told.try_recv().is_ok() && runner.client().is_quiet());
    assert!(runner.sleeps_from(awake).unwrap() > first);
    runner.client().update();
    runner.turn(&mut [&mut Device::new("1"), &mut sensor], Duration::ZERO);
    assert!(!runner.sent().is_empty());
    assert_eq!(runner.sleeps_from(awake), None, "the answer to Update is awaited");
}

#[test]
fn without_queue_mode_the_receiver_is_never_off() {
    let (mut runner, told) = observed(Config::new("urn:dev:runner"));
    turn_until(&mut runner, &mut Sensor(0.0), |runner| told.try_recv().is_ok() && runner.client().is_quiet());
    assert_eq!(runner.sleeps_from(Duration::ZERO), None);
}
