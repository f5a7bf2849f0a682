//! Which handshakes begin, which make room, and what is asked for them.

#![expect(clippy::indexing_slicing, reason = "test")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lwm2m_server::credentials::{Authenticated, Role};
use lwm2m_server::endpoint::{Config, Listener, Question, Verdict};
use support::{Device, KEY, World};

/// A device that has shown its cookie, and sends nothing more.
fn begun(world: &mut World, identity: &str, from: impl Into<SocketAddr>) -> Device {
    let mut device = Device::plain(Listener::Coaps, 1);
    device.address = from.into().into();
    device.begin(world, identity, &KEY);
    repeat(world, &mut device);
    device
}

/// What is due goes out and comes back until the server has sent its flight.
fn repeat(world: &mut World, device: &mut Device) {
    for _ in 0..2 {
        for datagram in device.due(world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
        world.settle();
        device.take_all(world);
    }
}

/// The last flight goes out; what it makes the server ask is still to be answered.
fn name(world: &mut World, device: &mut Device) -> usize {
    let due = device.due(world);
    for datagram in &due {
        world.receive_unsettled(device.local, device.address, datagram);
    }
    due.len()
}

fn verdict(endpoint: &str) -> Verdict {
    let who = Authenticated::new(endpoint.into(), Role::Management, 1);
    Verdict::Key { key: KEY.to_vec().into(), who }
}

fn ip(last: u8) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(192, 0, 2, last), 40_000)
}

fn limited(limit: impl FnOnce(&mut Config)) -> World {
    let mut config = Config::default();
    limit(&mut config);
    World::with(config, false)
}

#[test]
fn an_honest_handshake_is_displaced_by_none_of_a_group_that_has_more() {
    let mut world = limited(|config| config.handshakes = 100);
    let identity = world.enrol("a", Role::Management);
    let mut honest: Vec<_> = (1..4).map(|last| begun(&mut world, &identity, ip(last))).collect();
    for n in 0..2_000_u16 {
        // From ten networks, from all addresses of one of them.
        let [_, low] = n.to_be_bytes();
        begun(&mut world, "nobody", (Ipv4Addr::new(10, 0, low % 10, low), 1024 + n));
        // And one that comes in between.
        if n % 500 == 499 {
            let mut late = begun(&mut world, &identity, ip(low));
            late.run(&mut world);
            assert!(late.established, "at {n}");
        }
        assert!(world.endpoint.associations() <= 100 + 4);
    }
    assert!(world.endpoint.counters().handshakes_displaced > 1_800);
    for device in &mut honest {
        device.run(&mut world);
        assert!(device.established);
    }
}

#[test]
fn a_handshake_beyond_the_rate_leaves_nothing_and_succeeds_when_its_device_repeats_it() {
    let mut world = limited(|config| config.handshake_rate = 3);
    let identity = world.enrol("a", Role::Management);
    let mut devices: Vec<_> = (1..=6).map(|last| begun(&mut world, &identity, ip(last))).collect();
    let counters = *world.endpoint.counters();
    assert_eq!(counters.handshakes_begun, 3);
    assert_eq!(counters.handshakes_over_rate + counters.hellos_put_off, 3);
    assert_eq!(world.endpoint.associations(), 3);
    for device in &mut devices {
        device.run(&mut world);
    }
    assert_eq!(devices.iter().filter(|device| device.established).count(), 3);
    // The others repeat what was lost, for as long as it takes.
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        for device in &mut devices {
            device.wait(&world);
            device.run(&mut world);
        }
    }
    assert!(devices.iter().all(|device| device.established));
}

#[test]
fn equal_identities_are_asked_for_once_and_the_answer_goes_to_all_who_still_wait() {
    let mut world = limited(|_| ());
    let identity = world.enrol("a", Role::Management);
    let mut devices: Vec<_> = (1..=4).map(|last| begun(&mut world, &identity, ip(last))).collect();
    for device in &mut devices {
        assert!(name(&mut world, device) > 0);
    }
    // The one that asked begins anew, and waits for another answer.
    devices[0].begin(&mut world, "a-management", &KEY);
    for _ in 0..2 {
        for datagram in devices[0].due(&world) {
            world.receive_unsettled(devices[0].local, devices[0].address, &datagram);
        }
        world.send_all();
        devices[0].take_all(&mut world);
    }
    let question = world.judge(verdict("a"));
    assert!(matches!(question, Question::LookUp { identity: asked, .. } if asked == identity.as_bytes()));
    world.settle();
    for device in &mut devices {
        device.run(&mut world);
        assert!(device.established);
    }
    let counters = world.endpoint.counters();
    assert_eq!((counters.look_ups, counters.look_ups_shared), (2, 3));
}

#[test]
fn no_more_keys_are_asked_for_at_once_than_may_be() {
    let mut world = limited(|config| config.look_ups = 2);
    let names = ["a", "b", "c", "d"];
    let mut devices = Vec::new();
    for (endpoint, last) in names.into_iter().zip(1..) {
        let identity = world.enrol(endpoint, Role::Management);
        devices.push(begun(&mut world, &identity, ip(last)));
    }
    for device in &mut devices {
        name(&mut world, device);
    }
    assert_eq!(world.endpoint.counters().look_ups, 2);
    // Whoever waits for the third one goes away: the fourth one is next.
    let mut gone = devices.remove(2);
    gone.begin(&mut world, "a-management", &KEY);
    for _ in 0..2 {
        for datagram in gone.due(&world) {
            world.receive_unsettled(gone.local, gone.address, &datagram);
        }
        world.send_all();
        gone.take_all(&mut world);
    }
    let mut asked = Vec::new();
    for verdict in [verdict("a"), verdict("b"), Verdict::Admitted, verdict("d")] {
        if let Question::LookUp { identity, .. } = world.judge(verdict) {
            asked.push(String::from_utf8_lossy(&identity).into_owned());
        }
    }
    assert_eq!(asked, ["a-management", "b-management", "d-management"]);
    world.settle();
    for device in &mut devices {
        device.run(&mut world);
        assert!(device.established);
    }
    assert_eq!(world.endpoint.counters().look_ups, 3);
}

#[test]
fn beyond_the_rate_of_its_group_a_known_identity_gets_the_same_silence_as_an_unknown_one() {
    let mut world = limited(|config| config.look_up_rate = 2);
    let known = world.enrol("a", Role::Management);
    // All have begun before any of them names itself.
    let identities = ["x", "y", "z", "w", &known, "nobody"];
    let mut devices: Vec<_> = identities
        .into_iter()
        .zip(1..)
        .map(|(identity, last)| begun(&mut world, identity, ip(last)))
        .collect();
    for device in &mut devices[..4] {
        name(&mut world, device);
        world.settle();
    }
    let associations = world.endpoint.associations();
    world.sent.clear();
    for device in &mut devices[4..] {
        name(&mut world, device);
        world.settle();
        world.pass(Duration::from_millis(200));
        assert!(world.sent.is_empty());
    }
    assert_eq!(world.endpoint.associations(), associations - 2);
    let counters = *world.endpoint.counters();
    assert_eq!((counters.look_ups, counters.look_ups_over_rate), (4, 2));
    // The group begins nothing more in this second, and another one does.
    begun(&mut world, &known, ip(7));
    assert_eq!(world.endpoint.counters().handshakes_over_rate, 1);
    let mut other = begun(&mut world, &known, (Ipv4Addr::new(198, 51, 100, 1), 40_000));
    other.run(&mut world);
    assert!(other.established);
}
