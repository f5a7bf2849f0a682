//! What honest devices notice of a flood, on real sockets: the time that handshakes and exchanges take before it and during it; and
//! what it takes of the memory of the server.
//!
//! Goals: 99 of 100 handshakes in less than a second, and exchanges in established sessions in less than 10 ms. `LWM2M_FLOOD=100`
//! makes it a hundred times as long, with a million hellos, 100,000 handshakes and as many transfers, and holds the server to
//! them; what is shorter has limits that are lower by as much, and on a machine with other work is judged by what was measured
//! before it. `--nocapture` shows the figures.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code with small numbers"
)]

mod common;
mod issued;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dtls_psk::{
    Answer, CertificateType, ClientCertificate, Connection, Crypto, Datagram, Handshake, Input, Operation,
    POINT, Psk, RustCrypto, SIGNATURE, Suite, Suites, raw_public_key,
};
use lwm2m_coap::{Code, udp};
use lwm2m_server::Provider;
use lwm2m_server::credentials::{
    CHAIN_MAX, Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Settings,
};
use lwm2m_server::driver::{self, Running};
use lwm2m_server::endpoint::{Addresses, Config};
use lwm2m_server::keys::{ServerKey, ServerKeys};
use lwm2m_server::store::{RedbStore, Sealer};

use rcgen::{Issuer, KeyPair};

use common::{Served, serve_arguments};
use issued::{authority, key_of, params};

const KEY: [u8; 16] = [7; 16];
/// Handshakes under way at once, and begun in a second: the flood meets both limits.
const HANDSHAKES: usize = 200;
const RATE: u32 = 1_000;
/// The latter where each costs the server whole paths and proofs, and the networks that they come from.
const RATE_OF_PROOFS: u32 = 400;
const NETWORKS: u64 = 64;
/// Devices whose sessions were there before.
const ESTABLISHED: u8 = 20;
/// What is measured at least, before the flood and during it.
const SAMPLES: usize = 200;
/// Peers without a registration for each step of the flood, of which so many come that some are turned away.
const STRANGERS: usize = 100;
/// The factor of a whole flood.
const FULL: u64 = 100;
/// How much more than before the flood 99 of 100 may take during a shorter one, where a machine with other work misses the goal.
/// The threads of the flood take processors too: with four busy processes beside it on two processors that made 3.4 times, at most.
const SLOWER: u32 = 10;
/// What no handshake and no exchange takes: five flights were lost, repeated after 1, 2, 4, 8 and 16 seconds (RFC 6347 §4.2.4).
const LONGEST: Duration = Duration::from_secs(31);
/// Datagrams that each of the two floods sends in a millisecond at most: what the machine needs itself stays free.
const A_MILLISECOND: u64 = 10;

/// One flood at a time: another one would begin or end amid what is measured.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

/// How a device proves who it is.
#[derive(Clone)]
enum Who {
    /// By the identity of a pre-shared key.
    Identity(String),
    /// By one with a key agreement besides.
    Agreeing(String),
    Holder(Holder),
}

/// Who has a key of P-256.
#[derive(Clone)]
struct Holder {
    secret: [u8; 32],
    /// Its certificates; `None` for a raw public key.
    chain: Option<Vec<Vec<u8>>>,
    /// What it signs with, which should be its secret; without anything it sends what is no signature of anything.
    signs_with: Option<[u8; 32]>,
}

impl Holder {
    fn new(secret: [u8; 32], chain: Option<Vec<Vec<u8>>>) -> Self {
        Self { secret, chain, signs_with: Some(secret) }
    }

    fn raw_public_key(&self) -> Vec<u8> {
        raw_public_key(&Provider::p256_public(&self.secret).unwrap()).to_vec()
    }

    /// Answers what a handshake asks; it knows its server.
    fn answer<C: Crypto>(&self, now: dtls_psk::Instant, session: &mut Session<C>) {
        while let Some(pending) = session.poll_pending() {
            let (id, own, slices, signature): (_, Vec<_>, Vec<&[u8]>, _);
            id = pending.id;
            let answer = match pending.operation {
                Operation::Compute(computation) => Answer::Computed(computation.run::<C>()),
                Operation::CheckPeer { .. } => Answer::Trusted,
                Operation::Present { certificate_type } => {
                    own = match (certificate_type, &self.chain) {
                        (CertificateType::X509, Some(chain)) => chain.clone(),
                        _ => vec![self.raw_public_key()],
                    };
                    slices = own.iter().map(Vec::as_slice).collect();
                    Answer::Certificates(&slices)
                }
                Operation::Sign { digest } => {
                    let signed = self.signs_with.map(|secret| Provider::p256_sign(&secret, digest).unwrap());
                    signature = signed.unwrap_or([0x55; SIGNATURE]);
                    Answer::Signature(&signature)
                }
                _ => Answer::Unknown,
            };
            session.provide(now, id, answer).unwrap();
        }
    }
}

type Session<C> = Connection<4096, Box<Handshake<4096, C>>, C>;

/// A device on a socket of its own.
struct Device<C: Crypto = RustCrypto> {
    socket: UdpSocket,
    session: Session<C>,
    holder: Option<Holder>,
    began: Instant,
    next_id: u16,
}

impl<C: Crypto> Device<C> {
    fn begin(from: Ipv4Addr, server: SocketAddr, who: &Who) -> Self {
        let now = dtls_psk::Instant::from_millis(0);
        let config = dtls_psk::Config::DEFAULT;
        let with_keys = config.with_suites(Suites::ALL);
        let (rng, memory) = (&mut random, Box::default());
        let session = match who {
            Who::Identity(identity) => {
                let psk = Psk { identity: identity.as_bytes(), key: &KEY };
                Session::client(now, &config, psk, rng, memory)
            }
            Who::Agreeing(identity) => {
                let suites = Suites::new(&[Suite::EcdhePskAes128Ccm8]).unwrap();
                let psk = Psk { identity: identity.as_bytes(), key: &KEY };
                Session::client(now, &config.with_suites(suites), psk, rng, memory)
            }
            Who::Holder(Holder { chain: None, .. }) => {
                Session::certificate_client(now, &with_keys, ClientCertificate::RawPublicKey, rng, memory)
            }
            Who::Holder(_) => {
                let certificate = ClientCertificate::X509 { server_name: None };
                Session::certificate_client(now, &with_keys, certificate, rng, memory)
            }
        };
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect(server).unwrap();
        let holder = match who {
            Who::Identity(_) | Who::Agreeing(_) => None,
            Who::Holder(holder) => Some(holder.clone()),
        };
        Self { socket, session: session.unwrap(), holder, began: Instant::now(), next_id: 1 }
    }

    fn now(&self) -> dtls_psk::Instant {
        dtls_psk::Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn flush(&mut self) {
        let mut out = [0; 1500];
        while let Some(length) = self.session.poll_transmit(self.now(), &mut out) {
            // A full buffer is a lost datagram.
            let _ = self.socket.send(&out[..length]);
        }
    }

    /// Takes in one datagram if one comes in time, and repeats what is due; the message in it, if it has one.
    fn receive(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 1500];
        let mut message = None;
        let now = self.now();
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let mut datagram = Datagram::new(&mut buffer[..length]);
                while let Some(input) = self.session.handle(now, &mut datagram) {
                    if let Input::Application(bytes) = input {
                        message = Some(bytes.to_vec());
                    }
                }
            }
            Err(_) => drop(self.session.handle_timeout(now)),
        }
        if let Some(holder) = &self.holder {
            holder.answer(now, &mut self.session);
        }
        self.flush();
        message
    }
}

impl Device {
    /// A whole handshake; how long it took.
    fn connect(from: Ipv4Addr, server: SocketAddr, who: &Who) -> (Self, Duration) {
        let mut device = Self::begin(from, server, who);
        device.flush();
        while !device.session.is_established() {
            assert!(!device.session.is_closed(), "an honest handshake is not refused");
            assert!(device.began.elapsed() < LONGEST, "the handshake comes to an end");
            device.receive(Duration::from_millis(100));
        }
        let took = device.began.elapsed();
        (device, took)
    }

    /// A request and its answer; how long it took.
    fn ask(&mut self, code: Code, path: &[&[u8]], rest: &[u8]) -> (Vec<u8>, Duration) {
        self.next_id += 1;
        let [high, low] = self.next_id.to_be_bytes();
        let mut message = vec![0x40, code.as_u8(), high, low];
        for (number, segment) in path.iter().enumerate() {
            message.push((if number == 0 { 0xb0 } else { 0 }) | u8::try_from(segment.len()).unwrap());
            message.extend_from_slice(segment);
        }
        message.extend_from_slice(rest);
        let began = Instant::now();
        loop {
            let mut record = vec![0; dtls_psk::HEADROOM];
            record.extend_from_slice(&message);
            let end = record.len();
            record.extend_from_slice(&[0; dtls_psk::TAILROOM]);
            let range = self.session.seal(&mut record, dtls_psk::HEADROOM..end).unwrap();
            let _ = self.socket.send(&record[range]);
            let sent = Instant::now();
            // RFC 7252 §4.8: it is repeated after two seconds.
            while sent.elapsed() < Duration::from_secs(2) {
                if let Some(answer) = self.receive(Duration::from_millis(500)) {
                    return (answer, began.elapsed());
                }
            }
            assert!(began.elapsed() < LONGEST, "the request is answered");
        }
    }
}

/// What honest devices do and how long it takes them.
struct Honest {
    server: SocketAddr,
    /// With the locations of their registrations. So many that each stays below the rate of one device.
    established: Vec<(Device, Vec<u8>)>,
    /// Who comes again and again, each time from another address.
    newcomer: Who,
    turn: u16,
}

impl Honest {
    fn new(server: SocketAddr) -> Self {
        let established = (0..ESTABLISHED).map(|n| Who::Identity(format!("established-{n}")));
        Self::of(server, established, Who::Identity("honest".to_owned()))
    }

    fn of(server: SocketAddr, established: impl Iterator<Item = Who>, newcomer: Who) -> Self {
        let established = (0..).zip(established).map(|(n, who)| {
            let (mut device, _) = Device::connect(Ipv4Addr::new(127, 8, 0, n), server, &who);
            let register = b"\x11\x28\x38lt=86400\x09lwm2m=1.1\xff</1/0>,</3/0>";
            let (answer, _) = device.ask(Code::POST, &[b"rd"], register);
            let (_, message) = udp::parse(&answer).unwrap();
            assert_eq!(message.code, Code::CREATED);
            let location = message.options.iter().last().unwrap().1.to_vec();
            (device, location)
        });
        Self { server, established: established.collect(), newcomer, turn: 0 }
    }

    /// Handshakes and exchanges, `SAMPLES` of each at least, until `is_over`; the times of each in order.
    fn measure(&mut self, is_over: impl Fn() -> bool) -> [Vec<Duration>; 2] {
        let mut taken = [Vec::new(), Vec::new()];
        while taken[0].len() < SAMPLES || !is_over() {
            self.turn = self.turn.wrapping_add(1);
            let [high, low] = self.turn.to_be_bytes();
            let (_, took) = Device::connect(Ipv4Addr::new(127, 9, low, high), self.server, &self.newcomer);
            taken[0].push(took);
            let which = usize::from(self.turn) % self.established.len();
            taken[1].push(self.update(which));
            // A rate of honest devices: as fast as they can they would be a flood themselves.
            std::thread::sleep(Duration::from_millis(2));
        }
        taken.iter_mut().for_each(|times| times.sort());
        taken
    }

    /// An Update in the session that was there before; how long it took.
    fn update(&mut self, which: usize) -> Duration {
        let (device, location) = &mut self.established[which];
        let (answer, took) = device.ask(Code::POST, &[b"rd", location], b"");
        assert_eq!(udp::parse(&answer).unwrap().1.code, Code::CHANGED);
        took
    }
}

fn part(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn nobody() -> Who {
    Who::Identity("nobody".to_owned())
}

/// First flights from many addresses, whose answers nobody reads.
fn spoof(server: SocketAddr, times: u64, sent: &AtomicU64, stop: &AtomicBool) {
    let sockets: Vec<_> =
        (0..250).map(|n| UdpSocket::bind((Ipv4Addr::new(127, 1, 0, n), 0)).unwrap()).collect();
    let mut device: Device = Device::begin(Ipv4Addr::new(127, 1, 1, 1), server, &nobody());
    let mut hello = [0; 1500];
    let length = device.session.poll_transmit(device.now(), &mut hello).unwrap();
    for socket in sockets.iter().cycle() {
        if sent.load(Ordering::Relaxed) >= times && stop.load(Ordering::Relaxed) {
            return;
        }
        let _ = socket.send_to(&hello[..length], server);
        pace(sent);
    }
}

/// Handshakes of one network that end with their cookie; counts those that got so far.
fn begin_many(server: SocketAddr, begun: &AtomicU64, stop: &AtomicBool) {
    let mut turn = 0_u8;
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_add(1);
        let mut device: Device = Device::begin(Ipv4Addr::new(127, 2, 0, turn), server, &nobody());
        device.flush();
        device.socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut answer = [0; 1500];
        if let Ok(length) = device.socket.recv(&mut answer) {
            let now = device.now();
            while device.session.handle(now, &mut Datagram::new(&mut answer[..length])).is_some() {}
            device.flush();
            pace(begun);
        }
    }
}

/// Registrations from many addresses, of which the first of 1,000 blocks is all that comes.
fn send_halves(server: SocketAddr, sent: &AtomicU64, stop: &AtomicBool) {
    let mut message = b"\x40\x02\x00\x01\xb2rd\x11\x28\x34ep=x\xc1\x0e\xff".to_vec();
    message.extend_from_slice(&[b'<'; 1024]);
    for number in (0..1 << 24).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let address = Ipv4Addr::from_bits(0x7f10_0000 + number % 0x000f_0000);
        let socket = UdpSocket::bind((address, 0)).unwrap();
        let _ = socket.send_to(&message, server);
        pace(sent);
    }
}

/// Handshakes of another network that cost the server a signature each, and those who begin them nothing.
fn begin_many_with_keys(server: SocketAddr, sent: &AtomicU64, stop: &AtomicBool) {
    let mut turn = 0_u8;
    let stranger = Who::Holder(Holder::new([0x66; 32], None));
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_add(1);
        let mut device: Device = Device::begin(Ipv4Addr::new(127, 3, 0, turn), server, &stranger);
        // The cookie comes back, and then nothing more.
        device.flush();
        device.receive(Duration::from_millis(5));
        pace(sent);
    }
}

/// The rate of a flood is its own, not what the processors give.
fn pace(sent: &AtomicU64) {
    if sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(A_MILLISECOND) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Memory of a process in KiB, what it has or had at most, where the system says so.
fn memory(process: u32, which: &str) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(which))?.split_whitespace().nth(1)?.parse().ok()
}

fn factor() -> u64 {
    std::env::var("LWM2M_FLOOD").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1)
}

/// The limits in the configuration.
fn admission(rate: u32) -> String {
    format!("[admission]\nhandshakes = {HANDSHAKES}\nhandshake_rate = {rate}\n")
}

fn names() -> impl Iterator<Item = String> {
    (0..ESTABLISHED).map(|n| format!("established-{n}")).chain(["honest".to_owned()])
}

async fn server(change: impl FnOnce(&mut driver::Settings)) -> Running {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let credentials = Arc::new(Credentials::open(Arc::new(store), Settings::default()).unwrap());
    for name in names() {
        let key = KeyMaterial::Given {
            identity: Identity::new(name.as_bytes()).unwrap(),
            key: Key::new(KEY.to_vec()).unwrap(),
        };
        let enrol =
            Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
        credentials.enrol(1, "test", &name, &enrol).unwrap();
    }
    let addresses = Addresses { coaps: Some("127.0.0.1:0".parse().unwrap()), ..Addresses::default() };
    let mut settings = driver::Settings { addresses, threads: NonZeroU8::new(2), ..Default::default() };
    change(&mut settings);
    driver::start(settings, credentials).await.unwrap()
}

/// Shows both, and fails where a goal is missed; during a flood that is short, only if it was not missed nearly as far before.
fn judge([before, during]: &[[Vec<Duration>; 2]; 2]) {
    for (what, index, goal) in [("handshakes", 0, 1000), ("exchanges", 1, 10)] {
        let [before, during] = [&before[index], &during[index]];
        println!(
            "{what}: p50 {:?}, p99 {:?} before, p50 {:?}, p99 {:?} of {} during; goal for p99 {goal} ms",
            part(before, 50),
            part(before, 99),
            part(during, 50),
            part(during, 99),
            during.len()
        );
        let goal = Duration::from_millis(goal);
        let bound = if factor() < FULL { goal.max(part(before, 99) * SLOWER) } else { goal };
        assert!(part(during, 99) < bound, "{what}: {:?} and not below {bound:?}", part(during, 99));
    }
}

/// What the server may hold for those whom it does not know, in bytes.
fn cap(unregistered: usize, assembling: usize) -> usize {
    const KIB: usize = 1024;
    // An association and its entries in the indexes are below 1 KiB, and what a worker judges is a copy of a message; a transfer has a
    // block, and its body counts by itself.
    let handshakes = HANDSHAKES * (size_of::<Handshake<4096>>() + 4 * KIB + KIB);
    let strangers = unregistered * 2 * KIB;
    let refusals = 65_536 * 64;
    handshakes + strangers + refusals + assembling
}

/// The server has taken no more memory since it had `resident` KiB than `cap` bytes.
fn check_memory(served: &Served, resident: Option<usize>, cap: usize) {
    if let (Some(before), Some(most)) = (resident, memory(served.child.id(), "VmHWM")) {
        let (grown, cap) = (most.saturating_sub(before), cap / 1024);
        println!("the server grew from {before} KiB by {grown} at most; the limits are {cap} KiB");
        assert!(grown <= cap);
    }
}

/// What the server has counted.
fn counters(served: &Served) -> impl Fn(&str) -> u64 + use<> {
    let (_, metrics) = served.call("GET", "/metrics", None).unwrap();
    let metrics = metrics.as_str().unwrap().to_owned();
    move |name| {
        let name = format!("lwm2m_{name}_total ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }
}

#[test]
fn honest_devices_get_in_and_are_answered_during_a_flood() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("lwm2m.toml"));
    let unregistered = STRANGERS * usize::try_from(factor().min(FULL)).unwrap();
    let limits = format!("{}unregistered = {unregistered}\n", admission(RATE));
    std::fs::write(&config, limits).unwrap();
    let mut arguments = serve_arguments(&data);
    arguments.extend(
        ["--config", &config.display().to_string(), "--allow-nosec", "--threads", "2"].map(String::from),
    );
    let served = Served::start_with(&data, &arguments);
    let listener = |name: &str| -> SocketAddr { served.addresses[name].parse().unwrap() };
    let (coap, coaps) = (listener("coap"), listener("coaps"));
    for name in names() {
        let account = serde_json::json!({ "management": { "identity": name, "key": hex::encode(KEY) } });
        let route = format!("/devices/{name}/credentials");
        assert_eq!(served.call("PUT", &route, Some(&account)).unwrap().0, 201);
    }

    let [hellos, handshakes, transfers] = [10_000, 1_000, 1_000].map(|few| few * factor());
    let (spoofed, begun, halves, is_over) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let mut honest = Honest::new(coaps);
    let before = honest.measure(|| true);
    let resident = memory(served.child.id(), "VmRSS");
    let during = std::thread::scope(|scope| {
        scope.spawn(|| spoof(coaps, hellos, &spoofed, &is_over));
        scope.spawn(|| begin_many(coaps, &begun, &is_over));
        scope.spawn(|| begin_many(coaps, &begun, &is_over));
        scope.spawn(|| send_halves(coap, &halves, &is_over));
        let during = honest.measure(|| {
            let sent = |count: &AtomicU64| count.load(Ordering::Relaxed);
            sent(&spoofed) >= hellos && sent(&begun) >= handshakes && sent(&halves) >= transfers
        });
        is_over.store(true, Ordering::Relaxed);
        during
    });
    println!(
        "{} hellos without a cookie, {} handshakes that end with theirs, {} transfers that end with their first block",
        spoofed.into_inner(),
        begun.into_inner(),
        halves.into_inner()
    );
    check_memory(&served, resident, cap(unregistered, Config::default().assembling));
    let counter = counters(&served);
    let displaced =
        ["handshakes_displaced", "handshakes_over_rate", "hellos_put_off"].map(|name| (name, counter(name)));
    println!("{displaced:?}, turned_away {}", counter("turned_away"));
    judge(&[before, during]);
    for limit in ["handshakes_displaced", "turned_away"] {
        assert!(counter(limit) > 0, "{limit}: more came than may be kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn honest_devices_get_in_and_are_answered_while_the_server_has_signatures_to_make() {
    let _alone = ALONE.lock().await;
    let running = server(|settings| {
        settings.endpoint.keys = ServerKeys::new(vec![ServerKey::in_memory(&[0x51; 32]).unwrap()]);
    })
    .await;
    let coaps = running.addresses.coaps.unwrap();
    let (begun, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let times = 2_000 * factor();
    let measured = tokio::task::block_in_place(|| {
        let mut honest = Honest::new(coaps);
        let before = honest.measure(|| true);
        let during = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| begin_many_with_keys(coaps, &begun, &is_over));
            }
            let during = honest.measure(|| begun.load(Ordering::Relaxed) >= times);
            is_over.store(true, Ordering::Relaxed);
            during
        });
        [before, during]
    });
    let counters = running.server.counters().await;
    let counter = |name: &str| counters.iter().find(|(other, _)| *other == name).unwrap().1;
    let begun = begun.into_inner();
    println!("{begun} handshakes with keys begun, {} signatures and proofs made", counter("works"));
    judge(&measured);
    assert!(counter("works") * 2 > begun, "most of them made the server sign");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_has_a_pre_shared_key_gets_in_at_once_while_the_token_with_the_servers_key_does_not_answer() {
    const WORKERS: u8 = 2;
    let _alone = ALONE.lock().await;
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let sign = move |_: &_| {
        count.fetch_add(1, Ordering::Relaxed);
        loop {
            std::thread::park();
        }
    };
    let mut most = 0;
    let running = server(|settings| {
        let point = Provider::p256_public(&[0x51; 32]).unwrap();
        settings.endpoint.keys = ServerKeys::new(vec![ServerKey::elsewhere(&point, sign)]);
        settings.workers = NonZeroU8::new(WORKERS);
        most = settings.endpoint.works;
    })
    .await;
    let coaps = running.addresses.coaps.unwrap();
    // More than may be out, and none that would be over.
    let strangers = u16::try_from(most * 2).unwrap();
    let stranger = Who::Holder(Holder::new([0x66; 32], None));
    let took = tokio::task::block_in_place(|| {
        for number in 0..strangers {
            let [network, member] = number.to_be_bytes();
            let mut device: Device = Device::begin(Ipv4Addr::new(127, 3, network, member), coaps, &stranger);
            device.flush();
            // The cookie, whose answer makes the server ask for its signature.
            device.receive(Duration::from_secs(1));
        }
        let began = Instant::now();
        while asked.load(Ordering::Relaxed) < WORKERS.into() {
            assert!(began.elapsed() < Duration::from_secs(30), "the server asks its token");
            std::thread::yield_now();
        }
        let who = Who::Agreeing("honest".to_owned());
        Device::connect(Ipv4Addr::new(127, 9, 0, 1), coaps, &who).1
    });
    // Signatures are waited for until their handshakes end, after 90 s.
    assert!(took < Duration::from_secs(10), "{took:?}");
    let counters = running.server.counters().await;
    let counter = |name: &str| counters.iter().find(|(other, _)| *other == name).unwrap().1;
    assert!(counter("handshakes_begun") > most.try_into().unwrap(), "more than may be out");
    assert_eq!(asked.load(Ordering::Relaxed), u64::from(WORKERS), "all that could be asked hang");
}

/// Authorities, one below the other, and the devices that the lowest one vouches for.
struct Authorities {
    anchor: Vec<u8>,
    /// Below the anchor, the lowest one first.
    chain: Vec<Vec<u8>>,
    lowest: Issuer<'static, KeyPair>,
}

impl Authorities {
    /// Of the same names, whoever has the key at the top.
    fn new(top: u8) -> Self {
        let key = key_of([top; 32]);
        let anchor = authority("top").self_signed(&key).unwrap().der().to_vec();
        let mut above = Issuer::new(authority("top"), key);
        let mut chain = Vec::new();
        for number in 1..=CHAIN_MAX {
            let (params, key) = (authority(&format!("authority-{number}")), key_of([0xa0; 32]));
            chain.insert(0, params.signed_by(&key, &above).unwrap().der().to_vec());
            above = Issuer::new(params, key);
        }
        Self { anchor, chain, lowest: above }
    }

    fn holder(&self, name: &str, secret: [u8; 32]) -> Holder {
        let own = params(name).signed_by(&key_of(secret), &self.lowest).unwrap().der().to_vec();
        Holder::new(secret, Some([&[own][..], &self.chain].concat()))
    }
}

/// Whoever attacks by what others have to compute computes nothing.
enum Nothing {}

impl Crypto for Nothing {
    type Sha256 = <RustCrypto as Crypto>::Sha256;
    type Hmac = <RustCrypto as Crypto>::Hmac;

    fn p256_public(_: &[u8; 32]) -> Option<[u8; POINT]> {
        static ONE: std::sync::OnceLock<[u8; POINT]> = std::sync::OnceLock::new();
        Some(*ONE.get_or_init(|| Provider::p256_public(&[1; 32]).unwrap()))
    }

    fn p256_shared(_: &[u8; 32], _: &[u8; POINT], _: &mut [u8; 32]) -> Option<()> {
        Some(())
    }

    fn x25519_public(_: &[u8; 32]) -> Option<[u8; 32]> {
        Some([9; 32])
    }

    fn x25519_shared(_: &[u8; 32], _: &[u8; 32], _: &mut [u8; 32]) -> Option<()> {
        Some(())
    }

    fn p256_verify(_: &[u8; POINT], _: &[u8; 32], _: &[u8; SIGNATURE]) -> bool {
        true
    }
}

/// Whole handshakes up to a proof that is none, from many networks; counts those that were heard to the end.
fn prove_nothing(
    server: SocketAddr,
    attackers: &[Holder],
    turn: &AtomicU64,
    heard: &AtomicU64,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let number = turn.fetch_add(1, Ordering::Relaxed);
        // The next one is in another network.
        let [.., member, network] = (number / NETWORKS * 0x100 + number % NETWORKS).to_be_bytes();
        let from = Ipv4Addr::new(127, 64, network, member.max(1));
        let attacker = Who::Holder(attackers[number as usize % attackers.len()].clone());
        let mut device = Device::<Nothing>::begin(from, server, &attacker);
        device.flush();
        // The cookie, the server's flight, and the alert; whatever is lost is not worth a repetition.
        let mut has_said_all = false;
        while device.began.elapsed() < Duration::from_millis(500) && !has_said_all {
            device.receive(Duration::from_millis(20));
            has_said_all = device.session.suspicion().is_some();
        }
        heard.fetch_add(has_said_all.into(), Ordering::Relaxed);
    }
}

#[test]
fn honest_devices_get_in_and_are_answered_during_a_flood_of_chains_and_false_proofs() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let authorities = Authorities::new(0xa1);
    let server_key = key_of([0x51; 32]);
    let own = params("server").self_signed(&server_key).unwrap();
    let config = format!(
        "{}[[server_keys]]\nprivate_key = \"{}\"\ncertificate = \"{}\"\n[trust]\nanchors = [\"{}\"]\n",
        admission(RATE_OF_PROOFS),
        file("server.key", server_key.serialize_pem().as_bytes()),
        file("server.pem", own.pem().as_bytes()),
        file("top.der", &authorities.anchor),
    );
    let (data, config) = (folder.path().join("data"), file("lwm2m.toml", config.as_bytes()));
    let mut arguments = serve_arguments(&data);
    arguments.extend(["--config", &config, "--threads", "2"].map(String::from));
    let served = Served::start_quietly(&data, &arguments);
    let coaps: SocketAddr = served.addresses["coaps"].parse().unwrap();

    // Half of them have certificates, half raw public keys.
    let holders = (0..ESTABLISHED).map(|n| match n % 2 {
        0 => authorities.holder(&format!("established-{n}"), [n + 1; 32]),
        _ => Holder::new([n + 1; 32], None),
    });
    let holders: Vec<_> = holders.chain([authorities.holder("honest", [0x77; 32])]).collect();
    for (name, holder) in names().zip(&holders) {
        let account = match &holder.chain {
            Some(_) => serde_json::json!({ "mode": "x509", "binding": "name" }),
            None => serde_json::json!({ "mode": "rpk", "public_key": hex::encode(holder.raw_public_key()) }),
        };
        let body = serde_json::json!({ "management": account });
        let (status, answer) =
            served.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap();
        assert_eq!(status, 201, "{answer}");
    }

    // Who knows the certificates of a device and not its key; and who has forged all of them, under a top of the same name.
    let forged = Authorities::new(0xb1).holder("established-0", [0x66; 32]);
    let attackers = [
        Holder { signs_with: None, ..holders[0].clone() },
        Holder { signs_with: Some([0x66; 32]), ..holders[0].clone() },
        forged,
    ];
    let (turn, heard, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let times = 500 * factor();
    let [newcomer, established @ ..] =
        &holders.iter().rev().cloned().map(Who::Holder).collect::<Vec<_>>()[..]
    else {
        unreachable!("there are some")
    };
    let mut honest = Honest::of(coaps, established.iter().cloned(), newcomer.clone());
    let before = honest.measure(|| true);
    let (resident, count) = (memory(served.child.id(), "VmRSS"), counters(&served));
    let began = Instant::now();
    let during = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| prove_nothing(coaps, &attackers, &turn, &heard, &is_over));
        }
        let during = honest.measure(|| heard.load(Ordering::Relaxed) >= times);
        is_over.store(true, Ordering::Relaxed);
        during
    });
    let took = began.elapsed();
    for which in 0..honest.established.len() {
        honest.update(which);
    }

    let after = counters(&served);
    let counted = |name: &str| after(name) - count(name);
    let [begun, finished, failed, over_rate, works] =
        ["handshakes_begun", "handshakes_finished", "handshakes_failed", "handshakes_over_rate", "works"]
            .map(counted);
    println!(
        "in {took:?} {} handshakes with a proof that is none, of {begun} begun; {finished} finished, {failed} failed, \
         {over_rate} over the rate, {works} pieces of work",
        heard.into_inner()
    );
    check_memory(&served, resident, cap(Config::default().unregistered, 0));
    judge(&[before, during.clone()]);
    assert_eq!(finished, during[0].len() as u64, "all that are honest and nobody else");
    assert!(failed >= times, "each was refused");
    // A share, a signature, a path and a proof for each, and no more are begun than may be.
    assert!(works <= 4 * begun);
    assert!(begun <= u64::from(RATE_OF_PROOFS) * (took.as_secs() + 2));
}
