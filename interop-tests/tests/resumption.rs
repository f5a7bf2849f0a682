//! Our client and our server over the virtual link: sessions that outlive restarts of either.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code with small numbers"
)]

use std::time::Duration;

use interop_tests::link::Conditions;
use interop_tests::simulation::World;
use lwm2m_client::Key;
use lwm2m_server::Event;
use lwm2m_server::credentials::{Role, Rotate, Settings};
use lwm2m_server::endpoint::{Config, Sessions};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// A world in which its devices are registered.
fn registered(devices: usize, conditions: Conditions, config: Config) -> World {
    let mut world = World::with(3, devices, conditions, Settings::default(), config);
    pass(&mut world, 120);
    assert_eq!(world.endpoint.devices().len(), devices);
    world.events.clear();
    world
}

fn pass(world: &mut World, seconds: u64) {
    world.run_until(world.link.now() + SECONDS(seconds));
}

/// The handshakes with the management server since the last call: whether they were full.
fn handshakes(world: &mut World) -> Vec<bool> {
    world
        .events
        .drain(..)
        .filter_map(|event| match event {
            Event::SessionEstablished { role: Role::Management, full, .. } => Some(full),
            _ => None,
        })
        .collect()
}

fn is_working(world: &mut World, device: usize, value: i64) -> bool {
    let id = world.write(device, value).unwrap();
    pass(world, 10);
    world.take_outcome(id).unwrap().is_ok() && world.devices[device].ledger.state == value
}

#[test]
fn a_device_that_restarts_takes_its_session_up_again_and_again() {
    let mut world = registered(3, Conditions::PERFECT, Config::default());
    for round in 1..5 {
        world.restart_device(1);
        pass(&mut world, 30);
        assert_eq!(handshakes(&mut world), [false], "round {round}");
        assert!(is_working(&mut world, 1, round));
    }
    assert!(is_working(&mut world, 0, 7) && is_working(&mut world, 2, 8));
}

#[test]
fn a_server_that_forgot_the_session_gets_a_full_handshake_and_the_next_is_taken_up() {
    let mut world = registered(1, Conditions::PERFECT, Config::default());
    world.restart_server(Config::default());
    for full in [true, false, false] {
        world.restart_device(0);
        pass(&mut world, 30);
        assert_eq!(handshakes(&mut world), [full]);
        assert!(is_working(&mut world, 0, 1));
    }
}

#[test]
fn a_server_that_keeps_no_sessions_always_gets_a_full_handshake() {
    let mut config = Config::default();
    config.sessions = Sessions::new(0, Duration::MAX);
    let mut world = registered(1, Conditions::PERFECT, config);
    assert_eq!(world.devices[0].stored(Key::Session(1)), None);
    for _ in 0..2 {
        world.restart_device(0);
        pass(&mut world, 30);
        assert_eq!(handshakes(&mut world), [true]);
    }
}

#[test]
fn a_session_whose_secret_is_another_one_is_given_up_for_a_full_handshake() {
    let mut world = registered(1, Conditions::PERFECT, Config::default());
    let key = (0..4).map(Key::Session).find(|key| world.devices[0].stored(*key).is_some()).unwrap();
    let mut record = world.devices[0].stored(key).unwrap();
    record[10] ^= 1;
    world.devices[0].store(key, &record);
    world.restart_device(0);
    // The handshake ends at its deadline; the retry is a full one and leaves a good session.
    pass(&mut world, 400);
    assert_eq!(handshakes(&mut world), [true]);
    world.restart_device(0);
    pass(&mut world, 30);
    assert_eq!(handshakes(&mut world), [false]);
}

#[test]
fn a_rotation_is_proven_by_a_full_handshake_and_ends_the_session_before_it() {
    let mut world = registered(1, Conditions::PERFECT, Config::default());
    world.rotate(0, &Rotate::default());
    pass(&mut world, 300);
    assert_eq!(handshakes(&mut world), [true]);
    assert!(!world.is_in_use(0, 1));
    world.restart_device(0);
    pass(&mut world, 30);
    assert_eq!(handshakes(&mut world), [false], "and has a session of its own");
}

#[test]
fn devices_that_restart_on_a_bad_link_all_come_back() {
    for seed in 0..20 {
        let conditions = Conditions { loss: 20, ..Conditions::PERFECT };
        let mut world = World::with(seed, 3, conditions, Settings::default(), Config::default());
        pass(&mut world, 2000);
        for round in 1..4 {
            (0..3).for_each(|device| world.restart_device(device));
            pass(&mut world, 2000);
            assert_eq!(world.endpoint.devices().len(), 3, "seed {seed}");
            for device in 0..3 {
                let id = world.write(device, round).unwrap();
                pass(&mut world, 200);
                let _ = world.take_outcome(id);
            }
        }
        assert!(handshakes(&mut world).iter().filter(|full| !**full).count() >= 6, "seed {seed}");
    }
}
