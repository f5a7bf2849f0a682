//! A thousand devices behind a translator that forgets all of them at once, over the virtual link.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code with small numbers"
)]

use std::collections::HashSet;
use std::time::Duration;

use interop_tests::link::Conditions;
use interop_tests::simulation::{LEDGER, World};
use lwm2m_client::Notice;
use lwm2m_server::credentials::Settings;
use lwm2m_server::endpoint::Config;
use lwm2m_server::{Event, Operation, Path};

const DEVICES: usize = 1_000;
const LIFETIME: u32 = 3_600;

/// The devices are registered and observed.
fn observed(config: Config) -> World {
    let settings = Settings { lifetime: LIFETIME, ..Settings::default() };
    let mut world = World::with(7, DEVICES, Conditions::PERFECT, settings, config);
    world.run_until(Duration::from_secs(60));
    observe(&mut world);
    world
}

fn observe(world: &mut World) {
    let path = Path::resource(LEDGER.id, 0, 0);
    let operation = Operation::Observe { path, format: None };
    let asked: Vec<_> =
        (0..DEVICES).map(|device| world.request(device, operation.clone()).unwrap()).collect();
    world.run_until(world.link.now() + Duration::from_secs(10));
    for id in asked {
        world.take_outcome(id).unwrap().unwrap();
    }
    world.events.clear();
    for device in &mut world.devices {
        device.notices.clear();
    }
}

fn count(world: &World, wanted: fn(&Event) -> bool) -> usize {
    world.events.iter().filter(|event| wanted(event)).count()
}

fn secured(world: &World) -> usize {
    let notices = world.devices.iter().flat_map(|device| &device.notices);
    notices.filter(|notice| matches!(notice, Notice::Secured { .. })).count()
}

/// Every device tells of a change; how many of them the server heard.
fn heard(world: &mut World, value: i64) -> usize {
    (0..DEVICES).for_each(|device| world.change(device, value));
    let before = world.events.len();
    world.run_until(world.link.now() + Duration::from_secs(120));
    let mut heard = HashSet::new();
    for event in &world.events[before..] {
        if let Event::Notification { endpoint, .. } = event {
            heard.insert(endpoint.clone());
        }
    }
    heard.len()
}

#[test]
fn with_connection_ids_nobody_handshakes_again_and_no_observation_is_lost() {
    let mut world = observed(Config::default());
    (0..DEVICES).for_each(|device| world.translate(device));
    assert_eq!(heard(&mut world, 1), DEVICES);
    assert_eq!(count(&world, |event| matches!(event, Event::AddressChanged { .. })), DEVICES);
    // Each is reached where it is now.
    let written: Vec<_> = (0..DEVICES).map(|device| world.write(device, 5).unwrap()).collect();
    world.run_until(world.link.now() + Duration::from_secs(10));
    assert!(written.into_iter().all(|id| world.take_outcome(id).unwrap().is_ok()));
    // Over two lifetimes everything goes on as before.
    world.run_until(world.link.now() + Duration::from_secs(2 * u64::from(LIFETIME)));
    assert_eq!(heard(&mut world, 2), DEVICES);
    assert_eq!(secured(&world), 0);
    let registered =
        |event: &Event| matches!(event, Event::Registered { .. } | Event::SessionEstablished { .. });
    assert_eq!(count(&world, registered), 0);
    assert_eq!(count(&world, |event| matches!(event, Event::ObservationEnded { .. })), 0);
}

#[test]
fn without_connection_ids_each_device_recovers_by_itself() {
    let mut config = Config::default();
    config.connection_ids = false;
    let mut world = observed(config);
    (0..DEVICES).for_each(|device| world.translate(device));
    // The next Update is not answered; then there is a new session, and a registration in it.
    world.run_until(world.link.now() + Duration::from_secs(u64::from(LIFETIME) + 300));
    assert_eq!(secured(&world), DEVICES);
    assert_eq!(world.endpoint.devices().len(), DEVICES);
    observe(&mut world);
    assert_eq!(heard(&mut world, 1), DEVICES);
}
