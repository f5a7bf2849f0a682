//! Cipher suites: which the server takes, and what it tells of them.

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use dtls_psk::{Purpose, Suite, Suites};
use lwm2m_coap::Code;
use lwm2m_server::Event;
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Config, Done, Listener, Work};
use support::{Device, KEY, World};
use zeroize::ZeroizeOnDrop;

fn taking(suites: Suites) -> Config {
    let mut config = Config::default();
    config.dtls = config.dtls.with_suites(suites);
    config
}

/// Connects a device that offers these suites.
fn connected(world: &mut World, port: u16, offered: &[Suite]) -> Device {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, port);
    device.dtls = device.dtls.with_suites(Suites::new(offered).unwrap());
    device.connect(world, &identity, &KEY);
    device
}

fn established_under(world: &mut World) -> Vec<Suite> {
    let under = |event: &Event| match event {
        Event::SessionEstablished { suite, .. } => Some(*suite),
        _ => None,
    };
    world.events.drain(..).filter_map(|event| under(&event)).collect()
}

#[test]
fn every_suite_that_a_device_may_offer_is_taken_and_told() {
    for (suite, port) in Suites::PSK.as_slice().iter().zip(1..) {
        let mut world = World::new(false);
        let mut device = connected(&mut world, port, &[*suite]);
        assert!(device.established, "{suite:?}");
        assert_eq!(established_under(&mut world), [*suite]);
        // Messages go both ways.
        device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    }
}

#[test]
fn the_servers_order_decides() {
    for order in
        [[Suite::EcdhePskAes128Ccm8, Suite::PskAes128Ccm8], [Suite::PskAes128Ccm8, Suite::PskAes128Gcm]]
    {
        let mut world = World::with(taking(Suites::new(&order).unwrap()), false);
        let offered = Suites::PSK.as_slice().iter().rev().copied().collect::<Vec<_>>();
        connected(&mut world, 1, &offered);
        assert_eq!(established_under(&mut world), order.get(..1).unwrap());
    }
}

#[test]
fn a_device_without_a_suite_in_common_is_told_so_and_so_is_the_application() {
    let mut world = World::with(taking(Suites::DEFAULT), false);
    let device = connected(&mut world, 1, &[Suite::PskAes128Gcm]);
    assert!(!device.established);
    assert_eq!(world.told(), ["handshake refused ?: there is no cipher suite in common"]);
}

/// Queues and channels move only a pointer to what is secret, which is wiped where it lies. Types say so, or this does not compile.
const _: () = {
    const fn is_boxed<T: ZeroizeOnDrop, Piece>(_: fn(Box<T>) -> Piece) {}
    is_boxed(Work::Compute);
    is_boxed(Done::Computed);
};

#[test]
fn others_are_served_while_a_share_and_an_agreement_are_computed() {
    let mut world = World::with(taking(Suites::PSK), false);
    let other = world.enrol("b", Role::Management);
    let mut other = Device::secure(&mut world, Listener::Coaps, 2, &other, &KEY);
    let location = other.register(&mut world, "ep=b&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    let without_agreement = world.endpoint.counters().works;
    assert_eq!(without_agreement, 0);

    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 1);
    device.dtls = device.dtls.with_suites(Suites::new(&[Suite::EcdhePskAes128Ccm8]).unwrap());
    device.begin(&mut world, &identity, &KEY);
    // The ClientHello, and the one with the cookie.
    for _ in 0..2 {
        for datagram in device.due(&world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
        device.take_all(&mut world);
    }
    for purpose in [Purpose::Share, Purpose::Agreement] {
        let (id, work) = world.endpoint.poll_work().unwrap();
        assert!(matches!(&work, Work::Compute(computation) if computation.purpose() == purpose), "{work:?}");
        let answer = other.request(&mut world, Code::POST, &location, b"").unwrap();
        assert_eq!(answer.code, Code::CHANGED, "while it is computed");
        assert!(device.due(&world).is_empty() && !device.established, "nothing was sent to it");
        let done = work.run(world.now.as_millis(), &world.credentials);
        world.provide_work(id, done);
        world.settle();
        device.take_all(&mut world);
        for datagram in device.due(&world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
    }
    assert!(device.established);
    assert_eq!(world.endpoint.counters().works, 2);
    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
}
