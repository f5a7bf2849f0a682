//! The other way round: a device of this project under the runner's control, in front of a server that an operator drives.
//!
//! 1. The device comes in by itself; every message is seen at it, inside of DTLS.
//! 2. What a step asks for the operator is asked to ask; the request has to come at the device, and its answer has to be taken.
//!
//! Invariant: what a server does is judged by what comes at the device.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use lwm2m_client::objects::Version;
use lwm2m_client::simulated::{Downloads, Due, Objects};
use lwm2m_client::{
    Binding, Certificate, CertificateUsage, Config, Credential, FactoryAccount, MatchingType, NotSent,
    PresharedKey, Role, Runner, Server, ShortServerId, Store, provision,
};
use lwm2m_objects::Path;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::case::Enabler;
use super::certificates::Device;

/// A message as the device sent or got it.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) is_bootstrap: bool,
    pub(crate) is_from_device: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What a device proves itself with.
pub(crate) enum Proof {
    /// Nothing.
    None,
    /// A pre-shared key.
    Psk { identity: String, key: Vec<u8> },
    /// A certificate; it knows that of the server, in DER.
    Certificate { own: Device, server: Vec<u8> },
}

/// What a device is started with.
pub(crate) struct Start {
    pub(crate) endpoint: String,
    pub(crate) uri: String,
    pub(crate) is_bootstrap: bool,
    pub(crate) proof: Proof,
    pub(crate) lifetime: u32,
    pub(crate) version: Enabler,
    pub(crate) is_queue_mode: bool,
}

/// A device on a thread of its own; dropping it ends it without a word to the server.
#[derive(Debug)]
pub(crate) struct Running {
    is_stopped: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

thread_local! {
    static TAP: RefCell<Option<UnboundedSender<Wire>>> = const { RefCell::new(None) };
}

/// How long the device waits for the network at a time.
const TURN: Duration = Duration::from_millis(100);
/// How often it reports by itself while it is not muted.
const REPORT: Duration = Duration::from_secs(2);
const REPORTED: [Path; 2] = [Path::resource(1, 0, 1), Path::resource_instance(3, 0, 11, 0)];

impl Running {
    /// Starts a device, and gives what is seen at it.
    pub(crate) fn start(start: Start) -> Result<(Self, UnboundedReceiver<Wire>), String> {
        let (sender, wires) = unbounded_channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let store = store(&start)?;
        let thread = thread::Builder::new().name("lwm2m-interop-device".to_owned()).spawn(move || {
            TAP.set(Some(sender));
            run(&start, store, &stop);
        });
        let thread = thread.map_err(|error| format!("the device does not start: {error}"))?;
        Ok((Self { is_stopped, thread: Some(thread) }, wires))
    }

    /// Ends it: from here on it says nothing.
    pub(crate) fn stop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panics of was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn store(start: &Start) -> Result<Store, String> {
    let mut store = Store::in_memory();
    let credential: Option<Credential<'_>> = match &start.proof {
        Proof::None => None,
        Proof::Psk { identity, key } => Some(PresharedKey { identity: identity.as_bytes(), key }.into()),
        Proof::Certificate { own, server } => {
            let known = Certificate {
                chain: Some(&own.certificate),
                private_key: Some(&own.key),
                server_certificate: server,
                matching: MatchingType::Exact,
                usage: CertificateUsage::DomainIssuedCertificate,
                server_name: None,
            };
            Some(known.into())
        }
    };
    let account = match start.is_bootstrap {
        true => FactoryAccount::bootstrap(0, &start.uri, credential),
        false => {
            let mut server = Server::new(0, ShortServerId::FIRST, start.lifetime);
            if start.is_queue_mode {
                server.binding = Some(Binding::UDP_QUEUE);
            }
            // Some cases set them.
            for (resource, value) in [(2, 0), (3, 0), (5, 86_400)] {
                server.set(resource, Some(value));
            }
            FactoryAccount::server(0, &start.uri, server, credential)
        }
    };
    provision(&[account], &mut |action| store.apply(action)).map_err(|error| error.to_string())?;
    Ok(store)
}

fn run(start: &Start, store: Store, is_stopped: &AtomicBool) {
    let config = Config {
        version: match start.version {
            Enabler::V1_0 => Version { major: 1, minor: 0 },
            _ => Version { major: 1, minor: 1 },
        },
        is_queue_mode: start.is_queue_mode,
        mtu: 1280,
        block_size: 1024,
        tap: Some(tap),
        ..Config::new(&start.endpoint)
    };
    let mut runner = Runner::new(config, store);
    let mut objects = Objects::new(&start.endpoint, Downloads::PROTOCOLS);
    let mut downloads = Downloads::default();
    let mut reported = Clock::now();
    while !is_stopped.load(Ordering::Relaxed) {
        let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        for path in objects.sample(now).into_iter().chain(objects.firmware.changes()) {
            runner.client().changed(path);
        }
        runner.turn(&mut objects.all(), TURN);
        downloads.run(&mut objects.firmware);
        runner.sent().iter().for_each(|bytes| objects.statistics.sent(*bytes));
        runner.received().into_iter().for_each(|bytes| objects.statistics.received(bytes));
        if reported.elapsed() >= REPORT && runner.client().is_registered() {
            // Muted, or the answer to the last one is awaited: the next one is soon.
            let _: Result<(), NotSent> = runner.client().send(ShortServerId::FIRST, &REPORTED);
            reported = Clock::now();
        }
        match objects.take_due() {
            Some(Due::Reboot | Due::FactoryReset) => runner.reboot(),
            Some(Due::Move) => runner.network_changed(),
            None => {}
        }
    }
}

fn tap(role: Role, is_ours: bool, message: &[u8]) {
    TAP.with_borrow(|sender| {
        let wire = Wire {
            at: now_ms(),
            is_bootstrap: role == Role::Bootstrap,
            is_from_device: is_ours,
            bytes: message.to_vec(),
        };
        // The case may have ended.
        let _ = sender.as_ref().map(|sender| sender.send(wire));
    });
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
