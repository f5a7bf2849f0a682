//! One simulated device: a client of this project in a thread of its own, with its accounts in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwm2m_client::objects::Object;
use lwm2m_client::simulated::{Device, Temperature};
use lwm2m_client::{Config, FactoryAccount, Notice, PresharedKey, Runner, Store, provision};

/// The longest a device waits before it looks at its switches and its sensor.
const TURN: Duration = Duration::from_millis(50);

/// A device, switched off until [`Simulated::power_on`].
pub(super) struct Simulated {
    pub(super) endpoint: String,
    store: Option<Store>,
    switches: Arc<Switches>,
}

/// What the story tells a device, and what it sees of it.
#[derive(Default)]
struct Switches {
    is_off: AtomicBool,
    wants_update: AtomicBool,
    wants_reboot: AtomicBool,
    updates: AtomicUsize,
    has_rolled_back: AtomicBool,
}

impl Simulated {
    /// A device as it leaves the factory: with one bootstrap account.
    pub(super) fn new(
        endpoint: &str,
        bootstrap_uri: &str,
        identity: &[u8],
        key: &[u8],
    ) -> Result<Self, String> {
        let credential = Some(PresharedKey { identity, key }.into());
        let account = FactoryAccount::bootstrap(0, bootstrap_uri, credential);
        let mut store = Store::in_memory();
        provision(&[account], &mut |action| store.apply(action)).map_err(|error| error.to_string())?;
        Ok(Self { endpoint: endpoint.to_owned(), store: Some(store), switches: Arc::default() })
    }

    pub(super) fn power_on(&mut self) -> Result<(), String> {
        let Some(store) = self.store.take() else { return Ok(()) };
        let (endpoint, switches) = (self.endpoint.clone(), Arc::clone(&self.switches));
        let spawned = std::thread::Builder::new()
            .name(endpoint.clone())
            .stack_size(1 << 20)
            .spawn(move || live(&endpoint, store, &switches));
        spawned.map(drop).map_err(|error| format!("a thread for {}: {error}", self.endpoint))
    }

    /// Makes the device send an Update.
    pub(super) fn update(&self) {
        self.switches.wants_update.store(true, Ordering::Relaxed);
    }

    /// Takes the power away for a moment; only the accounts survive.
    pub(super) fn power_cycle(&self) {
        self.switches.wants_reboot.store(true, Ordering::Relaxed);
    }

    /// How many Updates were answered.
    pub(super) fn updates(&self) -> usize {
        self.switches.updates.load(Ordering::Relaxed)
    }

    /// Whether the device brought its last working account back since it was switched on.
    pub(super) fn has_rolled_back(&self) -> bool {
        self.switches.has_rolled_back.load(Ordering::Relaxed)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.switches.is_off.store(true, Ordering::Relaxed);
    }
}

fn live(endpoint: &str, store: Store, switches: &Switches) {
    let config = Config { mtu: 1280, block_size: 1024, ..Config::new(endpoint) };
    let mut runner = Runner::new(config, store);
    let mut device = Device::new(endpoint);
    let mut temperature = Temperature::new();
    // Simulated devices measure different temperatures.
    let phase =
        endpoint.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 300;
    while !switches.is_off.load(Ordering::Relaxed) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        // The weather of the demo changes four times as fast: at its peaks a value else stays for 17 seconds, which is
        // longer than a listener is patient.
        let quick = i64::try_from(since.as_millis() / 250).unwrap_or(i64::MAX);
        for path in [device.sample(now), temperature.sample(quick, phase)].into_iter().flatten() {
            runner.client().changed(path);
        }
        if switches.wants_update.swap(false, Ordering::Relaxed) {
            runner.client().update();
        }
        let mut objects: [&mut dyn Object; 2] = [&mut device, &mut temperature];
        for notice in runner.turn(&mut objects, TURN) {
            tracing::debug!(device = endpoint, ?notice);
            match notice {
                Notice::Updated { .. } => drop(switches.updates.fetch_add(1, Ordering::Relaxed)),
                Notice::RolledBack => switches.has_rolled_back.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        if device.take_requested().is_some() || switches.wants_reboot.swap(false, Ordering::Relaxed) {
            runner.reboot();
        }
    }
}
