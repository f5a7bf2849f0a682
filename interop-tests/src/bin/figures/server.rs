//! The server in a process of its own, and what a request of a device costs it beside a bare echo.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use interop_tests::load::{Device, Objects, Order, Plan, Report, fleet, name};
use lwm2m_server::credentials::{
    Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Settings as CredentialSettings,
};
use lwm2m_server::driver::{self, Addresses, Running};
use lwm2m_server::store::{RedbStore, Sealer};
use lwm2m_server::{Event, Operation, Path};
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::children::Child;
use crate::machine::{cpu_of, resident};
use crate::table::Table;

pub(crate) const KEY: &[u8; 16] = b"0123456789abcdef";

/// How many devices have a request under way at once.
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

/// Enrols one device whose identity is its name.
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
}

async fn serve_with(credentials: Credentials, is_secure: bool) -> Running {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let addresses = match is_secure {
        true => Addresses { coaps: any, ..Addresses::default() },
        false => Addresses { coap: any, ..Addresses::default() },
    };
    let settings = driver::Settings { addresses, ..driver::Settings::default() };
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

/// Processor time of the server for each Update, beside that of an echo for a datagram of the same size.
pub(crate) async fn requests(effort: u32, devices: usize) -> Table {
    let mut table = Table::new(
        "Server, processor time for each request",
        &["what", "server", "bare echo", "ratio", "goal"],
    );
    let count = 10_000 * effort as usize;
    for (is_secure, size) in [(false, 16), (true, 42)] {
        let echo = Child::start(&["echo"]);
        let floor = echoes(&echo, size, count).await;
        let server = Child::start(&server_arguments(devices, is_secure, false));
        let (reports, mut heard) = mpsc::unbounded_channel();
        let plan = plan(server.address(), is_secure);
        let patience = Duration::from_secs(300);
        let began = cpu_of(server.id());
        let (fleet, latencies) = fleet(&plan, "load", devices, AT_ONCE, patience, &reports, &mut heard).await;
        assert_eq!(latencies.len(), devices, "every device registers");
        let registering = cpu_of(server.id()).saturating_sub(began) / u32::try_from(devices).unwrap_or(1);
        let began = cpu_of(server.id());
        updates(&fleet, count, &mut heard).await;
        let ours = cpu_of(server.id()).saturating_sub(began) / u32::try_from(count).unwrap_or(1);
        let (name, goal) = match is_secure {
            false => ("Update, NoSec", "≤ 1.18"),
            true => ("Update over DTLS-PSK", "≤ 1.4 × (echo + open + seal)"),
        };
        table.row([name.into(), micros(ours), micros(floor), ratio(ours, floor), goal.into()]);
        let name = if is_secure { "handshake and Register" } else { "Register, NoSec" };
        table.row([name.into(), micros(registering), "–".into(), "–".into(), "–".into()]);
    }
    table.note(format!(
        "{devices} registered devices, {AT_ONCE} requests under way at once, {count} requests. Both are whole processes, \
         system calls included: the server under tokio, the echo a blocking loop."
    ));
    table
}

/// Sends `count` Updates, always [`AT_ONCE`] under way.
async fn updates(devices: &[Device], count: usize, heard: &mut mpsc::UnboundedReceiver<(usize, Report)>) {
    let mut turn = devices.iter().cycle();
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered < AT_ONCE.min(devices.len()) {
            if let Some(device) = turn.next() {
                device.order(Order::Update).await;
            }
            sent += 1;
        }
        if let Some((_, Report::Updated(_))) = heard.recv().await {
            answered += 1;
        }
    }
}

/// Processor time of the echo for each datagram of `size` bytes, with as many sockets under way as devices.
async fn echoes(echo: &Child, size: usize, count: usize) -> Duration {
    let address = echo.address();
    let began = cpu_of(echo.id());
    let each = count / AT_ONCE;
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            tokio::spawn(async move {
                let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                socket.connect(address).await.expect("loopback");
                let mut buffer = vec![7; size];
                for _ in 0..each {
                    socket.send(&buffer).await.expect("loopback");
                    socket.recv(&mut buffer).await.expect("an echo");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the echo answers");
    }
    cpu_of(echo.id()).saturating_sub(began) / u32::try_from(each * AT_ONCE).unwrap_or(1)
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
         before. It includes what RFC 7252 makes the server remember of each exchange for 247 s."
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
