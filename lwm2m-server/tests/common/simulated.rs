//! A device of this project over UDP on loopback, bootstrapped by the server.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lwm2m_client::objects::ready::Held;
use lwm2m_client::objects::{self, Object, defs, path};
use lwm2m_client::simulated::{Device, Temperature};
use lwm2m_client::{Config, FactoryAccount, PresharedKey, Runner, Store, provision};

/// The key of its bootstrap account, whose identity is `bs-NAME`.
pub(crate) const KEY: [u8; 16] = [0x42; 16];

/// A device in a thread of its own.
pub(crate) struct Simulated {
    is_off: Arc<AtomicBool>,
    wants_power_cycle: Arc<AtomicBool>,
}

impl Simulated {
    /// A device with a bootstrap account.
    pub(crate) fn start(name: &'static str, addresses: &HashMap<String, String>) -> Self {
        Self::start_with(Config { mtu: 1280, block_size: 1024, ..Config::new(name) }, addresses)
    }

    pub(crate) fn start_with(config: Config<'static>, addresses: &HashMap<String, String>) -> Self {
        let name = config.endpoint;
        let uri = format!("coaps://{}", addresses.get("bootstrap-coaps").unwrap());
        let identity = format!("bs-{name}");
        let is_off = Arc::new(AtomicBool::new(false));
        let wants_power_cycle = Arc::new(AtomicBool::new(false));
        let (off, cycle) = (Arc::clone(&is_off), Arc::clone(&wants_power_cycle));
        std::thread::spawn(move || {
            let credential = Some(PresharedKey { identity: identity.as_bytes(), key: &KEY }.into());
            let account = FactoryAccount::bootstrap(0, &uri, credential);
            let mut store = Store::in_memory();
            provision(&[account], &mut |action| store.apply(action)).unwrap();
            let mut runner = Runner::new(config, store);
            let (mut device, mut temperature) = (Device::new(name), Temperature::new());
            let mut portfolio = Held::<1, 2, 16>::new(&defs::PORTFOLIO)
                .with_instance(0)
                .with(path!("/16/0/0/0"), objects::Value::String("device"))
                .with(path!("/16/0/0/1"), objects::Value::String("model"));
            let mut second = 0;
            while !off.load(Ordering::Relaxed) {
                second += 1;
                if let Some(path) = temperature.sample(second, 0) {
                    runner.client().changed(path);
                }
                let mut objects: [&mut dyn Object; 3] = [&mut device, &mut temperature, &mut portfolio];
                runner.turn(&mut objects, Duration::from_millis(100));
                if cycle.swap(false, Ordering::Relaxed) {
                    runner.reboot();
                }
            }
        });
        Self { is_off, wants_power_cycle }
    }

    pub(crate) fn power_cycle(&self) {
        self.wants_power_cycle.store(true, Ordering::Relaxed);
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.is_off.store(true, Ordering::Relaxed);
    }
}
