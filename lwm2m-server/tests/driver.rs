//! The driver on loopback: sockets, the handle, events, and a stop.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dtls_psk::{Connection, ConnectionId, Datagram, Handshake, Input, Psk};
use lwm2m_coap::{Code, Header, Kind, OptionNumber, Room, Writer, udp};
use lwm2m_server::access::Scope;
use lwm2m_server::credentials::{
    self, Credentials, Enrol, EnrolAccount, Identity, Kept, Key, KeyMaterial, Role, Settings,
};
use lwm2m_server::driver;
use lwm2m_server::endpoint::Addresses;
use lwm2m_server::observations::{Intent, IntentChange, Intents, Wanted};
use lwm2m_server::queue::{Limits, Queue, Queued};
use lwm2m_server::store::{
    AuditRow, Change, Heads, QueuedRequest, RedbStore, RequestChange, Reservation, Sealer, Store, StoreError,
    TokenRecord,
};
use lwm2m_server::{Event, ObservationId, Operation, RequestError, Value};
use tokio::net::UdpSocket;

#[tokio::test]
async fn a_device_registers_over_udp_is_read_and_the_driver_ends_with_its_handles() {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let settings = Settings { allow_nosec: true, ..Settings::default() };
    let credentials = Arc::new(Credentials::open(Arc::new(store), settings).unwrap());
    let addresses = Addresses { coap: Some("127.0.0.1:0".parse().unwrap()), ..Addresses::default() };
    let running =
        driver::start(driver::Settings { addresses, ..Default::default() }, credentials).await.unwrap();
    let server = running.server;
    let mut events = server.events();

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(running.addresses.coap.unwrap()).await.unwrap();
    let device = tokio::spawn(async move {
        let register = b"\x40\x02\x12\x34\xb2rd\x11\x28\x34ep=a\x07lt=3600\x09lwm2m=1.1\xff</3/0>".as_slice();
        // Longer than any message: the driver drops it before the endpoint sees it.
        socket.send(&[0; 4000]).await.unwrap();
        // The option deltas: Uri-Path 11, Content-Format 12, Uri-Query 15.
        socket.send(register).await.unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await.unwrap();
        let (_, answer) = udp::parse(&buffer[..length]).unwrap();
        assert_eq!(answer.code, Code::CREATED);

        let length = socket.recv(&mut buffer).await.unwrap();
        let (header, asked) = udp::parse(&buffer[..length]).unwrap();
        let mut out = [0; 200];
        let mut writer = Writer::new(&mut out, Room::NONE, Code::CONTENT);
        writer.option(OptionNumber::CONTENT_FORMAT, &[]).unwrap();
        writer.payload(b"95").unwrap();
        let header = Header { kind: Kind::Acknowledgement, id: header.id };
        let range = writer.finish().unwrap().emit(header, asked.token);
        socket.send(&out[range]).await.unwrap();
        socket
    });
    let told = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
    assert!(matches!(told, Event::Registered { endpoint } if &*endpoint == "a"));
    assert_eq!(server.devices().await.len(), 1);
    let content = server.read("a", "/3/0/9".parse().unwrap()).await.unwrap();
    assert_eq!(content.items, [("/3/0/9".parse().unwrap(), Value::Integer(95))]);
    assert_eq!(server.read("b", "/3/0/9".parse().unwrap()).await, Err(RequestError::UnknownDevice));
    let counters = server.counters().await;
    for counted in [("registered", 1), ("oversized", 1), ("unsent", 0)] {
        assert!(counters.contains(&counted), "{counted:?} of {counters:?}");
    }
    device.await.unwrap();

    drop(server);
    tokio::time::timeout(Duration::from_secs(20), running.task).await.unwrap().unwrap();
}

/// A store that panics when it is asked for a key, and fails so many times to write requests.
struct Broken(RedbStore, AtomicUsize);

impl Store for Broken {
    fn devices(&self) -> Result<Vec<credentials::Device>, StoreError> {
        self.0.devices()
    }

    fn commit(&self, change: &Change<'_>) -> Result<(), StoreError> {
        self.0.commit(change)
    }

    fn secret(&self, _: &str, _: Role, _: u32) -> Result<Option<Kept>, StoreError> {
        panic!("the test wants it");
    }

    fn note(
        &self,
        actor: &str,
        now_ms: u64,
        endpoint: Option<&str>,
        happened: &credentials::Happened,
    ) -> Result<(), StoreError> {
        self.0.note(actor, now_ms, endpoint, happened)
    }

    fn audit(
        &self,
        endpoint: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.0.audit(endpoint, after, limit)
    }

    fn verify_audit(&self) -> Result<u64, StoreError> {
        self.0.verify_audit()
    }

    fn is_writable(&self) -> Result<(), StoreError> {
        self.0.is_writable()
    }

    fn backup(
        &self,
        now_ms: u64,
        actor: &str,
    ) -> Result<(std::fs::File, lwm2m_server::store::Backup), StoreError> {
        self.0.backup(now_ms, actor)
    }

    fn ticket_root(&self) -> Result<zeroize::Zeroizing<[u8; 32]>, StoreError> {
        self.0.ticket_root()
    }

    fn expect_sessions(&self, file: &[u8; 16]) -> Result<(), StoreError> {
        self.0.expect_sessions(file)
    }

    fn consume_sessions(&self, file: Option<&[u8; 16]>) -> Result<bool, StoreError> {
        self.0.consume_sessions(file)
    }

    fn requests(&self) -> Result<(u64, Heads), StoreError> {
        self.0.requests()
    }

    fn put_requests(&self, now_ms: u64, changes: &[RequestChange]) -> Result<(), StoreError> {
        let left = self.1.load(Ordering::Relaxed);
        if left > 0 {
            self.1.store(left.saturating_sub(1), Ordering::Relaxed);
            return Err(StoreError::Conflict);
        }
        self.0.put_requests(now_ms, changes)
    }

    fn request(&self, endpoint: &str, id: u64) -> Result<Option<QueuedRequest>, StoreError> {
        self.0.request(endpoint, id)
    }

    fn requests_of(&self, endpoint: &str) -> Result<Vec<QueuedRequest>, StoreError> {
        self.0.requests_of(endpoint)
    }

    fn observations_of(&self, endpoint: &str) -> Result<Intents, StoreError> {
        self.0.observations_of(endpoint)
    }

    fn add_observation(
        &self,
        endpoint: &str,
        intent: &Intent,
        most: usize,
    ) -> Result<Option<Wanted>, StoreError> {
        self.0.add_observation(endpoint, intent, most)
    }

    fn change_observations(
        &self,
        changes: &[(Arc<str>, ObservationId, IntentChange)],
    ) -> Result<usize, StoreError> {
        self.0.change_observations(changes)
    }

    fn observed(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>, StoreError> {
        self.0.observed(after, limit)
    }

    fn profiles(&self) -> Result<lwm2m_server::profiles::Profiles, StoreError> {
        self.0.profiles()
    }

    fn put_profile(&self, actor: &str, now: u64, name: &str, of: u32, body: &[u8]) -> Result<(), StoreError> {
        self.0.put_profile(actor, now, name, of, body)
    }

    fn remove_profile(&self, actor: &str, now: u64, name: &str) -> Result<(), StoreError> {
        self.0.remove_profile(actor, now, name)
    }

    fn variables(&self, endpoint: &str) -> Result<lwm2m_server::profiles::Secrets, StoreError> {
        self.0.variables(endpoint)
    }

    fn models(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.0.models()
    }

    fn put_model(
        &self,
        actor: &str,
        now_ms: u64,
        object: (u16, lwm2m_objects::Version),
        xml: &[u8],
    ) -> Result<(), StoreError> {
        self.0.put_model(actor, now_ms, object, xml)
    }

    fn reserve(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError> {
        self.0.reserve(reservations)
    }

    fn reserved(&self, fingerprint: &[u8; 8]) -> Result<Option<oscore::Saved>, StoreError> {
        self.0.reserved(fingerprint)
    }

    fn campaigns(&self) -> &dyn lwm2m_server::store::CampaignStore {
        self.0.campaigns()
    }

    fn tokens(&self) -> Result<Vec<([u8; 32], TokenRecord)>, StoreError> {
        self.0.tokens()
    }

    fn remove_token(&self, hash: &[u8; 32], actor: &str, now_ms: u64) -> Result<(), StoreError> {
        self.0.remove_token(hash, actor, now_ms)
    }

    fn audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError> {
        self.0.audit_within(scope, after, limit)
    }

    fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<(), StoreError> {
        self.0.put_token(hash, token)
    }
}

#[tokio::test]
async fn all_threads_stop_when_one_panics_although_the_handle_is_held() {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let store = Broken(store, AtomicUsize::new(0));
    let settings = Settings { allow_nosec: true, ..Settings::default() };
    let credentials = Arc::new(Credentials::open(Arc::new(store), settings).unwrap());
    let key =
        KeyMaterial::Given { identity: Identity::new(b"id").unwrap(), key: Key::new(vec![7; 16]).unwrap() };
    let enrol = Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
    credentials.enrol(1, "test", "secure", &enrol).unwrap();
    let any = Some("127.0.0.1:0".parse().unwrap());
    let addresses = Addresses { coap: any, coaps: any, ..Addresses::default() };
    let settings = driver::Settings { addresses, threads: NonZeroU8::new(3), ..Default::default() };
    let running = driver::start(settings, credentials).await.unwrap();
    let server = running.server;

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(running.addresses.coap.unwrap()).await.unwrap();
    socket.send(b"\x40\x02\x12\x34\xb2rd\x11\x28\x34ep=a\x07lt=3600\x09lwm2m=1.1\xff</3/0>").await.unwrap();
    socket.recv(&mut [0; 100]).await.unwrap();
    let reader = server.clone();
    let unanswered = tokio::spawn(async move { reader.read("a", "/3/0/9".parse().unwrap()).await });
    socket.recv(&mut [0; 100]).await.unwrap();

    let coaps = running.addresses.coaps.unwrap();
    let device = tokio::spawn(async move { Device::connect(coaps, "id").await });
    let ended = tokio::time::timeout(Duration::from_secs(20), running.task).await.unwrap();
    assert!(ended.unwrap_err().is_panic());
    device.abort();
    let unanswered = tokio::time::timeout(Duration::from_secs(20), unanswered).await.unwrap().unwrap();
    assert_eq!(unanswered, Err(RequestError::Stopped));
    assert_eq!(server.read("a", "/3/0/9".parse().unwrap()).await, Err(RequestError::Stopped));
    // Every thread has closed its sockets.
    std::net::UdpSocket::bind(running.addresses.coap.unwrap()).unwrap();
}

/// A device with a session over a real socket.
struct Device {
    socket: UdpSocket,
    server: std::net::SocketAddr,
    session: Connection<512, Box<Handshake<512>>>,
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

impl Device {
    async fn connect(server: std::net::SocketAddr, identity: &str) -> Self {
        let config = dtls_psk::Config::DEFAULT.with_connection_id(ConnectionId::EMPTY);
        let psk = Psk { identity: identity.as_bytes(), key: &[7; 16] };
        let now = dtls_psk::Instant::from_millis(0);
        let session = Connection::client(now, &config, psk, &mut random, Box::default()).unwrap();
        let mut device = Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), server, session };
        while !device.session.is_established() {
            device.flush().await;
            assert_eq!(device.receive().await, None);
        }
        device
    }

    async fn flush(&mut self) {
        let mut out = [0; 1500];
        while let Some(length) = self.session.poll_transmit(dtls_psk::Instant::from_millis(0), &mut out) {
            self.socket.send_to(&out[..length], self.server).await.unwrap();
        }
    }

    /// Takes in one datagram; the message in it, if it has one.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 1500];
        let received = tokio::time::timeout(Duration::from_secs(20), self.socket.recv_from(&mut buffer));
        let (length, from) = received.await.expect("the server answers").unwrap();
        assert_eq!(from, self.server, "whichever thread it is");
        let mut datagram = Datagram::new(&mut buffer[..length]);
        let mut message = None;
        while let Some(input) = self.session.handle(dtls_psk::Instant::from_millis(0), &mut datagram) {
            if let Input::Application(bytes) = input {
                message = Some(bytes.to_vec());
            }
        }
        self.flush().await;
        message
    }

    async fn send(&mut self, message: &[u8]) {
        let mut record = vec![0; dtls_psk::HEADROOM];
        record.extend_from_slice(message);
        let end = record.len();
        record.extend_from_slice(&[0; dtls_psk::TAILROOM]);
        let range = self.session.seal(&mut record, dtls_psk::HEADROOM..end).unwrap();
        self.socket.send_to(&record[range], self.server).await.unwrap();
    }

    /// Sends a request; its answer.
    async fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(message).await;
        loop {
            if let Some(answer) = self.receive().await {
                return answer;
            }
        }
    }
}

#[tokio::test]
async fn several_threads_are_one_server_and_sessions_stay_where_they_are() {
    const DEVICES: usize = 24;
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let credentials = Arc::new(Credentials::open(Arc::new(store), Settings::default()).unwrap());
    for n in 0..DEVICES {
        let key = KeyMaterial::Given {
            identity: Identity::new(format!("id-{n}").as_bytes()).unwrap(),
            key: Key::new(vec![7; 16]).unwrap(),
        };
        let accounts = vec![EnrolAccount { role: Role::Management, key }];
        let enrol = Enrol { accounts, ..Enrol::default() };
        credentials.enrol(1, "test", &format!("device-{n}"), &enrol).unwrap();
    }
    let addresses = Addresses { coaps: Some("127.0.0.1:0".parse().unwrap()), ..Addresses::default() };
    let settings = driver::Settings { addresses, threads: NonZeroU8::new(3), ..Default::default() };
    let running = driver::start(settings, credentials).await.unwrap();
    let (server, address) = (running.server, running.addresses.coaps.unwrap());
    assert!(std::net::UdpSocket::bind(address).is_err(), "nobody else gets the port by accident");

    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let mut device = Device::connect(address, &format!("id-{n}")).await;
        let register = b"\x40\x02\x12\x34\xb2rd\x11\x28\x37lt=3600\x09lwm2m=1.1\xff</1/0>,</3/0>";
        let answer = device.ask(register).await;
        let (_, message) = udp::parse(&answer).unwrap();
        assert_eq!(message.code, Code::CREATED);
        let location: Vec<u8> = message.options.iter().last().unwrap().1.to_vec();
        devices.push((device, location));
    }
    assert_eq!(server.devices().await.len(), DEVICES);

    let mut events = server.events();
    // Each from another address, which the kernel may bring to any thread.
    for (device, location) in &mut devices {
        device.socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut update = b"\x40\x02\x12\x35\xb2rd\x04".to_vec();
        update.extend_from_slice(location);
        let answer = device.ask(&update).await;
        assert_eq!(udp::parse(&answer).unwrap().1.code, Code::CHANGED);
        assert_eq!(device.receive().await, None, "the challenge, which is answered");
        while !matches!(events.recv().await.unwrap(), Event::AddressChanged { .. }) {}
    }
    for (n, (device, _)) in devices.iter_mut().enumerate() {
        let name = format!("device-{n}");
        let path = "/3/0/9".parse().unwrap();
        let (read, ()) = tokio::join!(server.read(&name, path), async {
            let asked = loop {
                if let Some(asked) = device.receive().await {
                    break asked;
                }
            };
            let (header, message) = udp::parse(&asked).unwrap();
            let mut out = [0; 64];
            let mut writer = Writer::new(&mut out, Room::NONE, Code::CONTENT);
            writer.option(OptionNumber::CONTENT_FORMAT, &[]).unwrap();
            writer.payload(b"95").unwrap();
            let header = Header { kind: Kind::Acknowledgement, id: header.id };
            let range = writer.finish().unwrap().emit(header, message.token);
            device.send(&out[range]).await;
        });
        assert_eq!(read.unwrap().items, [(path, Value::Integer(95))]);
    }
    let counters = server.counters().await;
    for counted in [("handshakes_finished", 24), ("registered", 24), ("moved", 24), ("updated", 24)] {
        assert!(counters.contains(&counted), "{counted:?} of {counters:?}");
    }
    if cfg!(target_os = "linux") {
        assert!(counters.contains(&("passed_on", 0)), "the kernel finds the thread: {counters:?}");
    }
    assert_eq!(server.drop_sessions("device-3", Role::Management, None).await, 1);
    assert_eq!(server.devices().await.len(), DEVICES - 1);

    drop(server);
    tokio::time::timeout(Duration::from_secs(20), running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_has_its_id_once_it_is_on_disk_however_often_the_store_fails() {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let store = Arc::new(Broken(store, AtomicUsize::new(2)));
    let credentials = Arc::new(Credentials::open(Arc::<Broken>::clone(&store), Settings::default()).unwrap());
    let running = driver::start(driver::Settings::default(), credentials).await.unwrap();
    let queue =
        Queue::start(running.server.clone(), Arc::<Broken>::clone(&store), Limits::default()).unwrap();
    let operation = Operation::Read { path: "/3/0/9".parse().unwrap(), format: None };
    let queued = Queued { operation, priority: 128, expires: Duration::from_secs(60), actor: "test".into() };
    let added = queue.add("a", queued);
    let id = tokio::time::timeout(Duration::from_secs(20), added).await.unwrap().unwrap();
    assert_eq!(store.1.load(Ordering::Relaxed), 0, "it was tried again until it was written");
    let head = store.request("a", id).unwrap().unwrap().head;
    assert_eq!(head.expires_ms.saturating_sub(head.queued_ms), 60_000);
    assert!(queue.is_busy("a").await);
}
