//! Several parts of one server: what they hand to each other, and that nobody outside can tell.

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::time::Duration;

use dtls_psk::ConnectionId;
use lwm2m_coap::{Code, Kind, OptionNumber};
use lwm2m_server::credentials::{Command, Role};
use lwm2m_server::endpoint::Listener;
use lwm2m_server::{Operation, Path, RequestError};
use support::{Device, Got, KEY, World, address};

const PLAIN: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);

/// Ports whose datagrams come to the first, the second and the third of three parts.
const PORTS: [u16; 3] = [39_999, 40_000, 40_001];

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn read() -> Operation {
    Operation::Read { path: path("/3/0/9"), format: None }
}

fn registered(world: &mut World, port: u16, dtls: dtls_psk::Config) -> (Device, String) {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, port);
    device.dtls = dtls;
    device.connect(world, &identity, &KEY);
    let location = device.register(world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    world.told();
    (device, location)
}

/// Another session of the same device from another address.
fn connected(world: &mut World, port: u16) -> Device {
    let mut device = Device::plain(Listener::Coaps, port);
    device.connect(world, "a-management", &KEY);
    assert!(device.established);
    device
}

fn observed(world: &mut World, device: &mut Device) -> Got {
    world.request("a", Operation::Observe { path: path("/3/0/9"), format: None }).unwrap();
    let observed = device.asked(world);
    device.answer(world, &observed, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), PLAIN], b"1");
    observed
}

fn answered(world: &mut World, device: &mut Device) {
    let asked = device.asked(world);
    device.answer(world, &asked, Code::CONTENT, &[PLAIN], b"3");
}

#[test]
fn a_registration_goes_on_in_a_session_of_another_part() {
    let mut world = World::of_parts(3);
    let (mut device, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let observed = observed(&mut world, &mut device);
    let [active, waiting @ ..] = [0; 3].map(|_| world.request("a", read()).unwrap());
    assert_eq!(world.shared.owner("a"), Some(0));

    let mut device = connected(&mut world, PORTS[2]);
    assert_eq!(world.shared.owner("a"), Some(2));
    assert_eq!(world.outcome(active).unwrap_err(), RequestError::Interrupted, "it may have been executed");
    for id in waiting {
        answered(&mut world, &mut device);
        assert!(world.outcome(id).is_ok(), "what only waited moves along");
    }
    device.notify(&mut world, Kind::NonConfirmable, observed.token, 2, &[PLAIN], b"2");
    assert!(world.told().iter().any(|event| event.starts_with("notification a")));
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
    let known = world.part(2).device("a").unwrap();
    assert_eq!((known.location, known.observations), (format!("/{location}"), 1));
    assert!(world.part(0).device("a").is_none());
}

#[test]
fn registering_in_another_part_ends_the_former_registration() {
    let mut world = World::of_parts(3);
    let (mut device, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    observed(&mut world, &mut device);
    let mut other = connected(&mut world, PORTS[1]);
    let new = other.register(&mut world, "ep=a&lt=60&lwm2m=1.1", "</1/0>,</3/0>");
    assert_ne!(new, location);
    let told = world.told();
    assert!(told.contains(&"observation ended a: the device registered again".to_owned()), "{told:?}");
    assert_eq!(world.shared.owner("a"), Some(1));
    // The former session is of the same identity: it may speak for the device, under its location of now.
    let answer = other.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(answer.code, Code::NOT_FOUND);
    assert_eq!(other.request(&mut world, Code::POST, &new, b"").unwrap().code, Code::CHANGED);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.shared.owner("a"), None, "it expired where it is");
}

#[test]
fn a_session_with_an_id_stays_where_it_is_when_its_datagrams_come_elsewhere() {
    let mut world = World::of_parts(3);
    let dtls = dtls_psk::Config::DEFAULT.with_connection_id(ConnectionId::EMPTY);
    let (mut device, location) = registered(&mut world, PORTS[0], dtls);
    for port in PORTS {
        device.address = address(port);
        assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
        let id = world.request("a", read()).unwrap();
        answered(&mut world, &mut device);
        assert!(world.outcome(id).is_ok());
    }
    assert_eq!(world.shared.owner("a"), Some(0));
    assert_eq!(world.endpoint.counters().handshakes_begun, 1);
    assert!(world.part(1).counters().passed_on > 0);
}

#[test]
fn a_cookie_of_one_part_is_good_at_another_and_no_other_part_hears_of_it() {
    let mut world = World::of_parts(3);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, PORTS[0]);
    device.begin(&mut world, &identity, &KEY);
    let first = device.due(&world).remove(0);
    world.receive(device.local, device.address, &first);
    device.run(&mut world);
    assert!(device.established);
    assert_eq!(world.part(1).counters().datagrams, 0);
}

#[test]
fn a_revoked_device_is_closed_in_every_part() {
    let mut world = World::of_parts(3);
    let (mut device, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut other = connected(&mut world, PORTS[1]);
    // Whichever part the credentials happen to be heard by.
    let (now, endpoint) = (world.now, "a".into());
    let command = Command::CloseSessions { endpoint, role: Role::Management, generation: None };
    lwm2m_server::driver::execute(world.part(2), now, command);
    world.settle();
    for device in [&mut device, &mut other] {
        assert!(device.request(&mut world, Code::POST, &location, b"").is_none());
    }
    assert_eq!(world.shared.owner("a"), None);
    let told = world.told();
    assert_eq!(told.iter().filter(|event| event.starts_with("closed a")).count(), 2, "{told:?}");
}

#[test]
fn what_a_device_says_while_its_registration_is_on_its_way_is_answered_after_it() {
    let mut world = World::of_parts(3);
    let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut device = Device::plain(Listener::Coaps, PORTS[1]);
    device.begin(&mut world, "a-management", &KEY);
    // Everything up to the last flight, and with that the Update in the same breath.
    for _ in 0..2 {
        for datagram in device.due(&world) {
            world.receive(device.local, device.address, &datagram);
        }
        device.take_all(&mut world);
    }
    for datagram in device.due(&world) {
        world.receive_unsettled(device.local, device.address, &datagram);
    }
    world.settle_part(1);
    device.take_all(&mut world);
    assert!(device.established);
    let update = device.sealed(&support::request(7, Code::POST, &location, b""));
    world.receive_unsettled(device.local, device.address, &update);
    assert!(device.take_all(&mut world).is_empty(), "the registration is not here yet");
    world.settle();
    assert_eq!(device.take_all(&mut world).remove(0).code, Code::CHANGED);
}
