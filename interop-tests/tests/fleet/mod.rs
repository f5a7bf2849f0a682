//! A fleet of pre-shared keys, against a server in the same process.

#![expect(clippy::unwrap_used, reason = "test")]

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interop_tests::load::{Objects, Plan, name};
use interop_tests::swarm::{Course, Swarm};
use lwm2m_server::api::now_ms;
use lwm2m_server::credentials::{
    Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Settings,
};
use lwm2m_server::driver;
use lwm2m_server::endpoint::Addresses;
use lwm2m_server::store::Store;

/// The key of each device; its identity is its name.
const KEY: [u8; 16] = [7; 16];
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// As many devices as `LWM2M_DEVICES` says.
pub(crate) fn devices(unless: usize) -> usize {
    std::env::var("LWM2M_DEVICES").map_or(unless, |number| number.parse().unwrap())
}

/// The credentials of so many.
pub(crate) fn enrolled(store: Arc<dyn Store>, prefix: &str, devices: usize) -> Credentials {
    let credentials = Credentials::open(store, Settings::default()).unwrap();
    for number in 0..devices {
        let endpoint = name(prefix, number);
        let key = KeyMaterial::Given {
            identity: Identity::new(endpoint.as_bytes()).unwrap(),
            key: Key::new(KEY.to_vec()).unwrap(),
        };
        let accounts = vec![EnrolAccount { role: Role::Management, key }];
        credentials.enrol(now_ms(), "test", &endpoint, &Enrol { accounts, ..Enrol::default() }).unwrap();
    }
    credentials
}

/// Two threads.
pub(crate) fn settings(addresses: Addresses, connection_ids: bool) -> driver::Settings {
    let mut settings = driver::Settings { addresses, threads: NonZeroU8::new(2), ..Default::default() };
    settings.endpoint.connection_ids = connection_ids;
    settings
}

/// The devices, which begin to register: over two sockets, 64 of them at once, later with 500 Updates in a second.
pub(crate) fn swarm(addresses: &Addresses, prefix: &str, devices: usize, measurements: f64) -> Swarm {
    let plan = Plan {
        server: addresses.coaps.unwrap(),
        key: Some(KEY.to_vec()),
        lifetime: 3600,
        objects: Objects::Sensor,
    };
    let course = Course {
        plan,
        prefix: prefix.to_owned(),
        devices,
        threads: 2,
        arrivals: None,
        at_once: 64,
        updates: Some(500.0),
        measurements,
    };
    Swarm::start(&course).unwrap()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A counter of a server.
pub(crate) async fn count(server: &lwm2m_server::Server, what: &str) -> u64 {
    let counters = server.counters().await;
    counters.into_iter().find(|(name, _)| *name == what).unwrap().1
}
