//! What support and conformance tests look at and reach for: the trace of messages, a forgotten registration, an
//! observation ended by a Reset (RFC 7641 §3.6), a verified bootstrap.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, udp};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Config, Listener};
use lwm2m_server::{Direction, Operation, Packet, Path};
use support::{Device, KEY, World};

const LINKS: &str = "</1/0>,</3/0>";
const LINK_FORMAT: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[40]);
const TEXT: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);

fn packets(world: &mut World) -> Vec<Packet> {
    std::iter::from_fn(|| world.endpoint.poll_packet()).collect()
}

#[test]
fn a_trace_shows_both_directions_inside_dtls_only_while_it_is_on() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    world.endpoint.set_trace(true);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "lt=60&lwm2m=1.1", LINKS);
    let seen = packets(&mut world);
    assert_eq!(
        seen.iter().map(|packet| packet.direction).collect::<Vec<_>>(),
        [Direction::FromDevice, Direction::ToDevice]
    );
    for packet in &seen {
        assert_eq!((packet.endpoint.as_deref(), packet.secure, packet.withheld), (Some("a"), true, 0));
    }
    let (_, register) = udp::parse(&seen[0].bytes).unwrap();
    assert_eq!((register.code, register.payload), (Code::POST, LINKS.as_bytes()));
    assert_eq!(udp::parse(&seen[1].bytes).unwrap().1.code, Code::CREATED);

    world.endpoint.set_trace(false);
    device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(packets(&mut world), []);
}

#[test]
fn a_trace_withholds_what_a_bootstrap_writes() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Bootstrap);
    world.endpoint.set_trace(true);
    bootstrap(&mut world, &identity, b"</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</3/0>");
    let writes: Vec<Packet> = packets(&mut world)
        .into_iter()
        .filter(|packet| udp::parse(&packet.bytes).unwrap().1.code == Code::PUT)
        .collect();
    assert_eq!(writes.len(), 2);
    assert!(writes.iter().all(|packet| packet.withheld > 0));
    assert!(writes.iter().all(|packet| udp::parse(&packet.bytes).unwrap().1.payload.is_empty()));
}

#[test]
fn a_verified_bootstrap_fails_when_the_account_does_not_show() {
    let mut config = Config::default();
    config.verify_bootstrap = true;
    for (shown, told) in [
        ("</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</3/0>", "bootstrap finished a"),
        ("</>;lwm2m=1.1,</0/0>,</3/0>", "bootstrap failed a: Bootstrap-Discover / after the writes 2.05"),
    ] {
        let mut world = World::with(config.clone(), false);
        let identity = world.enrol("a", Role::Bootstrap);
        bootstrap(&mut world, &identity, shown.as_bytes());
        assert_eq!(world.told().last().unwrap(), told);
    }
}

/// A device that takes every step of a bootstrap and shows the same accounts each time.
fn bootstrap(world: &mut World, identity: &str, accounts: &[u8]) {
    let mut device = Device::secure(world, Listener::BootstrapCoaps, 40_000, identity, &KEY);
    let answer = device.request(world, Code::POST, "bs?ep=a&pct=11542", b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    while let Some(asked) = device.got.pop_front() {
        match asked.code {
            Code::GET => device.answer(world, &asked, Code::CONTENT, &[LINK_FORMAT], accounts),
            Code::DELETE => device.answer(world, &asked, Code::DELETED, &[], b""),
            _ => device.answer(world, &asked, Code::CHANGED, &[], b""),
        }
    }
}

#[test]
fn a_forgotten_device_is_not_found_and_comes_back() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    assert!(world.endpoint.forget(world.now, "a"));
    assert!(!world.endpoint.forget(world.now, "a"));
    assert!(world.endpoint.device("a").is_none());
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::NOT_FOUND);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    assert!(world.endpoint.device("a").is_some());
}

#[test]
fn the_next_notification_of_a_forgotten_observation_is_reset() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.0", LINKS);
    let path = Path::resource(3, 0, 0);
    world.request("a", Operation::Observe { path, format: Some(0) }).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), TEXT], b"one");
    let (observation, _) = world.endpoint.observations("a")[0];
    world.told();

    assert!(world.endpoint.forget_observation("a", observation));
    assert!(!world.endpoint.forget_observation("a", observation));
    let header = Header { kind: Kind::NonConfirmable, id: MessageId(7) };
    let notification =
        support::build(header, Code::CONTENT, asked.token, &[(OptionNumber::OBSERVE, &[2]), TEXT], b"two");
    device.send(&mut world, &notification);
    let got = device.got.pop_front().unwrap();
    assert_eq!((got.kind, got.id), (Kind::Reset, 7));
    assert_eq!(world.told(), [""; 0]);
}
