//! The server in a process of its own, and what a request of a device costs it beside a bare echo.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use interop_tests::load::name;
use lwm2m_server::credentials::{
    Authenticated, Credentials, Enrol, EnrolAccount, Fact, Identity, Key, KeyMaterial, Role,
    Settings as CredentialSettings,
};
use lwm2m_server::driver::{self, Running};
use lwm2m_server::endpoint::Addresses;
use lwm2m_server::keys::ServerKeys;
use lwm2m_server::store::{RedbStore, Sealer};
use lwm2m_server::{Event, Operation, Path};
use std::net::SocketAddr;
use std::num::NonZeroU8;

use crate::children::Child;
use crate::machine::{cpu_of, resident};
use crate::protected::{aead, context};
use crate::security;
use crate::table::Table;
use crate::traffic::{SOCKETS, Security, Stage, Target, Traffic};

pub(crate) const KEY: &[u8; 16] = b"0123456789abcdef";

/// What the server observes at every device in the memory section.
const OBSERVED: [Path; 2] = [Path::resource(3303, 0, 5700), Path::resource(3, 0, 9)];

/// Whom a server lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Anybody,
    /// Devices with [`KEY`] as the pre-shared key.
    Dtls,
    /// Devices with [`KEY`] as the Master Secret.
    Oscore,
}

/// Starts a server on loopback that knows so many devices, or lets anybody in.
pub(crate) async fn start(prefix: &str, devices: usize, admission: Admission) -> Running {
    let credentials = nobody(admission == Admission::Anybody);
    for number in 0..devices {
        let name = name(prefix, number);
        match admission {
            Admission::Anybody => break,
            Admission::Dtls => enrol(&credentials, &name, given(&name)),
            Admission::Oscore => enrol(&credentials, &name, KeyMaterial::Oscore(context(number))),
        }
    }
    serve_with(credentials, admission == Admission::Dtls, ServerKeys::default()).await
}

/// The pre-shared key of a device whose identity is its name.
fn given(endpoint: &str) -> KeyMaterial {
    KeyMaterial::Given {
        identity: Identity::new(endpoint.as_bytes()).expect("a short name"),
        key: Key::new(KEY.to_vec()).expect("a key of a possible length"),
    }
}

/// Enrols one device, and lets it have proven its credential, as all have that came once: the
/// first time alone makes the store write.
fn enrol(credentials: &Credentials, endpoint: &str, key: KeyMaterial) {
    let accounts = vec![EnrolAccount { role: Role::Management, key }];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(0);
    let enrolled = credentials.enrol(now, "figures", endpoint, &Enrol { accounts, ..Enrol::default() });
    enrolled.expect("a new device is enrolled");
    let who = Authenticated::new(endpoint.into(), Role::Management, 1);
    for fact in [Fact::Handshake { who: who.clone(), full: true }, Fact::Registered { who: who.clone() }] {
        credentials.report(now, &fact).expect("a store in memory takes it");
    }
}

async fn serve_with(credentials: Credentials, is_secure: bool, keys: ServerKeys) -> Running {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let addresses = match is_secure {
        true => Addresses { coaps: any, ..Addresses::default() },
        false => Addresses { coap: any, ..Addresses::default() },
    };
    let mut settings =
        driver::Settings { addresses, threads: Some(NonZeroU8::MIN), ..driver::Settings::default() };
    settings.endpoint.keys = keys;
    driver::start(settings, Arc::new(credentials)).await.expect("loopback can be listened on")
}

/// A server that knows the one device `endpoint`, in this process.
pub(crate) async fn start_for(endpoint: &str, is_secure: bool) -> Running {
    let credentials = nobody(!is_secure);
    if is_secure {
        enrol(&credentials, endpoint, given(endpoint));
    }
    serve_with(credentials, is_secure, ServerKeys::default()).await
}

/// A server with keys of its own that knows one device, in this process.
pub(crate) async fn start_with(key: KeyMaterial, keys: ServerKeys) -> Running {
    let credentials = nobody(false);
    enrol(&credentials, "device", key);
    serve_with(credentials, true, keys).await
}

fn nobody(allow_nosec: bool) -> Credentials {
    let sealer = Sealer::new(&[1; 32], "figures").expect("a key of the right length");
    let store = RedbStore::in_memory(sealer).expect("a store in memory");
    let settings = CredentialSettings { allow_nosec, ..CredentialSettings::default() };
    Credentials::open(Arc::new(store), settings).expect("an empty store opens")
}

/// The address that `start` has bound.
pub(crate) fn address(running: &Running) -> SocketAddr {
    running.addresses.coaps.or(running.addresses.coap).expect("one of them is bound")
}

/// The child process: a server that observes two resources of every device when `is_observing`.
pub(crate) async fn serve(devices: usize, admission: Admission, is_observing: bool) {
    let running = start("load", devices, admission).await;
    println!("{}", address(&running));
    if !is_observing {
        // Nobody listens to the events, as in a server without a browser in front of it.
        std::future::pending::<()>().await;
    }
    let mut events = running.server.events();
    loop {
        let Ok(event) = events.recv().await else { continue };
        if let Event::Registered { endpoint } = event {
            let server = running.server.clone();
            tokio::spawn(async move {
                for path in OBSERVED {
                    let observe = Operation::Observe { path, format: None };
                    if let Err(error) = server.request(&endpoint, observe, Duration::from_secs(60)).await {
                        eprintln!("{endpoint} is not observed: {error}");
                    }
                }
            });
        }
    }
}

/// Processor time of the server for each Update, beside that of an echo which is sent as many bytes by as many devices in the
/// same way.
pub(crate) fn requests(effort: u32, devices: usize) -> Table {
    let mut table =
        Table::new("Server, processor time for each request", &["what", "server", "floor", "ratio", "goal"]);
    let mut without_id = None;
    for (security, size) in [
        (Security::None, 16),
        (Security::Dtls(KEY), 42),
        (Security::ConnectionId(KEY), 49),
        (Security::Oscore, 29),
    ] {
        let echo = Child::start(&["echo"]);
        let server = Child::start(&server_arguments(devices, security, false));
        let began = cpu_of(server.id());
        let mut traffic = Traffic::begin(server.address(), devices, security, Stage::Registered);
        let registering = cpu_of(server.id()).saturating_sub(began) / u32::try_from(devices).unwrap_or(1);
        let crypto = match security {
            Security::None => Duration::ZERO,
            Security::Dtls(_) | Security::ConnectionId(_) => security::record(effort, 13),
            Security::Oscore => aead(effort),
        };
        for at_once in [SOCKETS, 1] {
            let (mut ours, mut floor) = (Duration::MAX, Duration::MAX);
            // The least of several rounds, turn by turn: what else the machine does hits both.
            for _ in 0..3 * effort {
                floor = floor.min(round(
                    &echo,
                    &mut traffic,
                    devices,
                    at_once,
                    Target::Echo(echo.address(), size),
                ));
                ours = ours.min(round(&server, &mut traffic, devices, at_once, Target::Server));
            }
            floor += crypto;
            let what = match security {
                Security::None => "Update, NoSec",
                Security::Dtls(_) => "Update over DTLS-PSK",
                Security::ConnectionId(_) => "Update over DTLS-PSK with a Connection ID",
                Security::Oscore => "Update under OSCORE",
            };
            let goal = match (security, at_once) {
                (_, 1) => "–",
                (Security::None, _) => "≤ 1.18 × echo",
                (Security::Dtls(_) | Security::ConnectionId(_), _) => "≤ 1.4 × (echo + open + seal)",
                (Security::Oscore, _) => "≤ 1.6 × (echo + AEAD)",
            };
            let what = format!("{what}, {at_once} under way at once");
            table.row([what, micros(ours), micros(floor), ratio(ours, floor), goal.into()]);
            match (security, without_id) {
                (Security::Dtls(_), None) => without_id = Some(ours),
                (Security::ConnectionId(_), Some(without)) if at_once > 1 => {
                    let what = "… beside the same without a Connection ID".to_owned();
                    table.row([what, micros(ours), micros(without), ratio(ours, without), "≤ 1.03".into()]);
                }
                _ => {}
            }
        }
        let name = match security {
            Security::None => "Register, NoSec",
            Security::Dtls(_) => "handshake and Register",
            Security::ConnectionId(_) => "handshake with a Connection ID, and Register",
            Security::Oscore => "Register under OSCORE, with keys derived and numbers reserved",
        };
        table.row([name.into(), micros(registering), "–".into(), "–".into(), "–".into()]);
    }
    table.note(format!(
        "{devices} registered devices over {SOCKETS} sockets, each at an address of its own, whose turn it is one after the \
         other. The echo is sent as many bytes from the same addresses. Both are whole processes, system calls included: the server under \
         tokio, the echo a blocking loop. Where one request is under way at once, each of them wakes a sleeping thread."
    ));
    table
}

/// How long devices wait for the answer to an Update while the server is half as busy as it can be, beside an echo that is
/// sent as many bytes at the same rate.
pub(crate) fn latency(effort: u32, devices: usize) -> Table {
    const COLUMNS: &[&str] = &["what", "rate", "p50", "p99", "p99 of the echo", "above it", "goal"];
    let mut table = Table::new("Server, latency at half load", COLUMNS);
    for (what, security, size) in [
        ("Update, NoSec", Security::None, 16),
        ("Update over DTLS-PSK", Security::Dtls(KEY), 42),
        ("Update over DTLS-PSK with a Connection ID", Security::ConnectionId(KEY), 49),
    ] {
        let echo = Child::start(&["echo"]);
        let server = Child::start(&server_arguments(devices, security, false));
        let mut traffic = Traffic::begin(server.address(), devices, security, Stage::Registered);
        let count = devices.max(10_000);
        let began = Instant::now();
        traffic.run(count, SOCKETS, Target::Server);
        let gap = 2 * began.elapsed() / u32::try_from(count).unwrap_or(1);
        let mut tails = [[Duration::MAX; 2]; 2];
        // The least of several rounds, turn by turn: what else the machine does hits both.
        for _ in 0..3 * effort {
            for (tail, target) in tails.iter_mut().zip([Target::Server, Target::Echo(echo.address(), size)]) {
                let mut took = traffic.paced(count, gap, target);
                took.sort_unstable();
                *tail = [tail[0].min(took[count / 2]), tail[1].min(took[count * 99 / 100])];
            }
        }
        let [[p50, p99], [_, floor]] = tails;
        let rate = format!("{:.0}/s", 1.0 / gap.as_secs_f64());
        let above = micros(p99.saturating_sub(floor));
        let goal = "≤ 250 µs".to_owned();
        table.row([what.into(), rate, micros(p50), micros(p99), micros(floor), above, goal]);
    }
    table.note(format!(
        "{devices} registered devices as above. The rate is half of what the server and its load generator reach together on \
         this machine with {SOCKETS} under way. What comes late counts from when it was due."
    ));
    table
}

/// The processor time of `child` for each request of a round in which each device has its turn.
fn round(child: &Child, traffic: &mut Traffic, devices: usize, at_once: usize, target: Target) -> Duration {
    let count = devices.max(10_000);
    let began = cpu_of(child.id());
    traffic.run(count, at_once, target);
    cpu_of(child.id()).saturating_sub(began) / u32::try_from(count).unwrap_or(1)
}

/// Resident memory for each session, and for each idle device with two observations.
pub(crate) fn memory(devices: usize) -> Table {
    let mut table = Table::new("Server, resident memory", &["what", "for each", "whole process", "goal"]);
    let observed = Stage::Observed(OBSERVED.len());
    for (name, security, stage, goal) in [
        ("DTLS session alone", Security::Dtls(KEY), Stage::Connected, "–"),
        ("DTLS session alone, with a Connection ID", Security::ConnectionId(KEY), Stage::Connected, "–"),
        ("device, two observations, NoSec", Security::None, observed, "–"),
        ("device, two observations, DTLS", Security::Dtls(KEY), observed, "≤ 1024 B"),
        (
            "device, two observations, DTLS with a Connection ID",
            Security::ConnectionId(KEY),
            observed,
            "≤ 1024 B",
        ),
        ("device, two observations, OSCORE", Security::Oscore, observed, "–"),
    ] {
        // More that do not register are not kept.
        let count = if stage == Stage::Connected { devices.min(MOST_UNREGISTERED) } else { devices };
        let server = Child::start(&server_arguments(count, security, stage != Stage::Connected));
        let before = resident(server.id());
        let traffic = Traffic::begin(server.address(), count, security, stage);
        // Until what is remembered of the exchanges has been given back.
        std::thread::sleep(Duration::from_secs(5));
        let after = resident(server.id());
        drop(traffic);
        let each = after.saturating_sub(before) / count as u64;
        table.row([name.into(), format!("{each} B"), format!("{} MB", after / 1_000_000), goal.into()]);
    }
    table.note(format!(
        "{devices} devices, {MOST_UNREGISTERED} sessions at most. The growth of the process since before the first handshake; \
         credentials were enrolled and proven before. It includes what RFC 7252 makes the server remember of each exchange \
         for 247 s."
    ));
    table
}

/// Sessions without a registration that the server keeps for certain.
const MOST_UNREGISTERED: usize = 9000;

fn server_arguments(devices: usize, security: Security<'_>, is_observing: bool) -> Vec<String> {
    let mut arguments = vec!["server".to_owned(), format!("--devices={devices}")];
    arguments.extend(match security.admission() {
        Admission::Anybody => None,
        Admission::Dtls => Some("--secure".to_owned()),
        Admission::Oscore => Some("--oscore".to_owned()),
    });
    arguments.extend(is_observing.then(|| "--observe".to_owned()));
    arguments
}

fn micros(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

fn ratio(ours: Duration, floor: Duration) -> String {
    format!("{:.2}", ours.as_secs_f64() / floor.as_secs_f64())
}
