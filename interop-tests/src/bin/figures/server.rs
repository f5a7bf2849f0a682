//! The server in a process of its own, and what a request of a device costs it beside a bare echo.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use interop_tests::load::{Objects, Plan, fleet, name};
use lwm2m_server::credentials::{
    Authenticated, Credentials, Enrol, EnrolAccount, Fact, Identity, Key, KeyMaterial, Role,
    Settings as CredentialSettings,
};
use lwm2m_server::driver::{self, Addresses, Running};
use lwm2m_server::store::{RedbStore, Sealer};
use lwm2m_server::{Event, Operation, Path};
use std::net::SocketAddr;
use std::num::NonZeroU8;
use tokio::sync::mpsc;

use crate::children::Child;
use crate::machine::{cpu_of, resident};
use crate::security;
use crate::table::Table;
use crate::traffic::{Target, Traffic};

pub(crate) const KEY: &[u8; 16] = b"0123456789abcdef";

/// How many devices have a request, or their registration, under way at once.
const AT_ONCE: usize = 32;

/// What the server observes at every device in the memory section.
const OBSERVED: [Path; 2] = [Path::resource(3303, 0, 5700), Path::resource(3, 0, 9)];

/// Starts a server on loopback that knows `devices` with [`KEY`], or accepts everybody without security.
pub(crate) async fn start(prefix: &str, devices: usize, is_secure: bool) -> Running {
    let sealer = Sealer::new(&[1; 32], "figures").expect("a key of the right length");
    let store = RedbStore::in_memory(sealer).expect("a store in memory");
    let settings = CredentialSettings { allow_nosec: !is_secure, ..CredentialSettings::default() };
    let credentials = Credentials::open(Arc::new(store), settings).expect("an empty store opens");
    if is_secure {
        for number in 0..devices {
            enrol(&credentials, &name(prefix, number));
        }
    }
    serve_with(credentials, is_secure).await
}

/// Enrols one device whose identity is its name, and lets it have proven its credential, as all have that came once: the
/// first time alone makes the store write.
fn enrol(credentials: &Credentials, endpoint: &str) {
    let key = KeyMaterial::Given {
        identity: Identity::new(endpoint.as_bytes()).expect("a short name"),
        key: Key::new(KEY.to_vec()).expect("a key of a possible length"),
    };
    let accounts = vec![EnrolAccount { role: Role::Management, key }];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(0);
    let enrolled = credentials.enrol(now, "figures", endpoint, &Enrol { accounts, ..Enrol::default() });
    enrolled.expect("a new device is enrolled");
    let who = Authenticated { endpoint: endpoint.into(), role: Role::Management, generation: 1 };
    for fact in [Fact::Handshake { who: who.clone(), full: true }, Fact::Registered { who: who.clone() }] {
        credentials.report(now, &fact).expect("a store in memory takes it");
    }
}

async fn serve_with(credentials: Credentials, is_secure: bool) -> Running {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let addresses = match is_secure {
        true => Addresses { coaps: any, ..Addresses::default() },
        false => Addresses { coap: any, ..Addresses::default() },
    };
    let settings =
        driver::Settings { addresses, threads: Some(NonZeroU8::MIN), ..driver::Settings::default() };
    driver::start(settings, Arc::new(credentials)).await.expect("loopback can be listened on")
}

/// A server that knows the one device `endpoint`, in this process.
pub(crate) async fn start_for(endpoint: &str, is_secure: bool) -> Running {
    let sealer = Sealer::new(&[1; 32], "figures").expect("a key of the right length");
    let store = RedbStore::in_memory(sealer).expect("a store in memory");
    let settings = CredentialSettings { allow_nosec: !is_secure, ..CredentialSettings::default() };
    let credentials = Credentials::open(Arc::new(store), settings).expect("an empty store opens");
    if is_secure {
        enrol(&credentials, endpoint);
    }
    serve_with(credentials, is_secure).await
}

/// The address that `start` has bound.
pub(crate) fn address(running: &Running) -> SocketAddr {
    running.addresses.coaps.or(running.addresses.coap).expect("one of them is bound")
}

/// The child process: a server that observes two resources of every device when `is_observing`.
pub(crate) async fn serve(devices: usize, is_secure: bool, is_observing: bool) {
    let running = start("load", devices, is_secure).await;
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

fn plan(server: SocketAddr, is_secure: bool) -> Arc<Plan> {
    let key = is_secure.then(|| KEY.to_vec());
    Arc::new(Plan { server, key, lifetime: 86_400, objects: Objects::Sensor })
}

/// Processor time of the server for each Update, beside that of an echo which is sent as many bytes by as many devices in the
/// same way.
pub(crate) fn requests(effort: u32, devices: usize) -> Table {
    let mut table =
        Table::new("Server, processor time for each request", &["what", "server", "floor", "ratio", "goal"]);
    for (is_secure, size) in [(false, 16), (true, 42)] {
        let echo = Child::start(&["echo"]);
        let server = Child::start(&server_arguments(devices, is_secure, false));
        let began = cpu_of(server.id());
        let key = is_secure.then_some(KEY.as_slice());
        let mut traffic = Traffic::register(server.address(), devices, key);
        let registering = cpu_of(server.id()).saturating_sub(began) / u32::try_from(devices).unwrap_or(1);
        let crypto = if is_secure { security::record(effort, 13) } else { Duration::ZERO };
        for at_once in [AT_ONCE, 1] {
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
            let what = if is_secure { "Update over DTLS-PSK" } else { "Update, NoSec" };
            let goal = match (is_secure, at_once) {
                (_, 1) => "–",
                (false, _) => "≤ 1.18 × echo",
                (true, _) => "≤ 1.4 × (echo + open + seal)",
            };
            let what = format!("{what}, {at_once} under way at once");
            table.row([what, micros(ours), micros(floor), ratio(ours, floor), goal.into()]);
        }
        let name = if is_secure { "handshake and Register" } else { "Register, NoSec" };
        table.row([name.into(), micros(registering), "–".into(), "–".into(), "–".into()]);
    }
    table.note(format!(
        "{devices} registered devices, each with a socket, whose turn it is one after the other. The echo is sent as many \
         bytes from the same sockets. Both are whole processes, system calls included: the server under \
         tokio, the echo a blocking loop. Where one request is under way at once, each of them wakes a sleeping thread."
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

/// Resident memory for each idle device with two observations.
pub(crate) async fn memory(devices: usize) -> Table {
    let mut table = Table::new(
        "Server, resident memory for each idle registered device with two observations",
        &["what", "per device", "whole process", "goal"],
    );
    for is_secure in [false, true] {
        let server = Child::start(&server_arguments(devices, is_secure, true));
        let before = resident(server.id());
        let (reports, mut heard) = mpsc::unbounded_channel();
        let plan = plan(server.address(), is_secure);
        let patience = Duration::from_secs(300);
        let (fleet, latencies) = fleet(&plan, "load", devices, AT_ONCE, patience, &reports, &mut heard).await;
        assert_eq!(latencies.len(), devices, "every device registers");
        // Until the last observation stands and what is remembered of the exchanges has been given back.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = resident(server.id());
        drop(fleet);
        let each = after.saturating_sub(before) / devices as u64;
        let (name, goal) = if is_secure { ("DTLS-PSK session", "≤ 1024 B") } else { ("NoSec", "–") };
        table.row([name.into(), format!("{each} B"), format!("{} MB", after / 1_000_000), goal.into()]);
    }
    table.note(format!(
        "{devices} devices. The growth of the process since before the first registration; credentials were enrolled \
         and proven before. It includes what RFC 7252 makes the server remember of each exchange for 247 s."
    ));
    table
}

fn server_arguments(devices: usize, is_secure: bool, is_observing: bool) -> Vec<String> {
    let mut arguments = vec!["server".to_owned(), format!("--devices={devices}")];
    arguments.extend(is_secure.then(|| "--secure".to_owned()));
    arguments.extend(is_observing.then(|| "--observe".to_owned()));
    arguments
}

fn micros(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

fn ratio(ours: Duration, floor: Duration) -> String {
    format!("{:.2}", ours.as_secs_f64() / floor.as_secs_f64())
}
