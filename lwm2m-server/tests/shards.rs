//! Several parts of one server: what they hand to each other, and that nobody outside can tell.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

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

/// Another session of the same device, as soon as it is admitted: its registration is asked for, and not on its way yet.
fn connected_alone(world: &mut World, port: u16) -> Device {
    let mut device = Device::plain(Listener::Coaps, port);
    device.begin(world, "a-management", &KEY);
    let part = usize::from(port) % 3;
    for _ in 0..3 {
        for datagram in device.due(world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
        world.settle_part(part);
        device.take_all(world);
    }
    assert!(device.established);
    device
}

/// What a device says meanwhile.
fn say(world: &mut World, device: &mut Device, code: Code, location: &str) {
    let id = u16::from(code.as_u8());
    let update = device.sealed(&support::request(id, code, location, b""));
    world.receive_unsettled(device.local, device.address, &update);
}

fn heard(world: &mut World, device: &mut Device) -> Vec<Code> {
    device.take_all(world).iter().map(|got| got.code).collect()
}

fn close(device: &mut Device, world: &mut World) {
    device.session.as_mut().unwrap().close();
    for datagram in device.due(world) {
        world.receive_unsettled(device.local, device.address, &datagram);
    }
}

#[test]
fn what_waits_for_a_device_is_told_when_it_moves_to_a_session_that_is_gone() {
    let mut world = World::of_parts(3);
    let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let asked = [0; 3].map(|_| world.request("a", read()).unwrap());
    let mut device = connected_alone(&mut world, PORTS[1]);
    close(&mut device, &mut world);
    world.settle();
    let outcomes = asked.map(|id| world.outcome(id).unwrap_err());
    assert_eq!(outcomes, [RequestError::Interrupted, RequestError::NotSent, RequestError::NotSent]);
    assert_eq!(world.request("a", read()).unwrap_err(), RequestError::Unreachable);
    // It is registered as before, and the next session of the device finds it, wherever that is.
    let mut device = connected(&mut world, PORTS[2]);
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
}

#[test]
fn a_registration_goes_on_in_the_newest_session_when_the_one_it_moved_for_is_gone() {
    let mut world = World::of_parts(3);
    let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut first = connected_alone(&mut world, PORTS[1]);
    let mut second = connected_alone(&mut world, PORTS[1].saturating_add(3));
    close(&mut second, &mut world);
    world.settle();
    assert_eq!(world.shared.owner("a"), Some(1));
    let id = world.request("a", read()).unwrap();
    answered(&mut world, &mut first);
    assert!(world.outcome(id).is_ok());
    assert_eq!(first.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
}

#[test]
fn a_device_that_is_revoked_while_its_registration_moves_has_none() {
    for generation in [None, Some(1)] {
        let mut world = World::of_parts(3);
        registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
        connected_alone(&mut world, PORTS[1]);
        // The registration is on its way when each part hears of it.
        let command = Command::CloseSessions { endpoint: "a".into(), role: Role::Management, generation };
        let now = world.now;
        lwm2m_server::driver::execute(world.part(2), now, command);
        world.settle_part(2);
        world.settle();
        assert_eq!(world.shared.owner("a"), None);
        assert!((0..3).all(|part| world.part(part).devices().is_empty()));
    }
}

#[test]
fn a_registration_that_moves_survives_the_end_of_another_generation() {
    let mut world = World::of_parts(3);
    let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut device = connected_alone(&mut world, PORTS[1]);
    let now = world.now;
    for part in 0..3 {
        world.part(part).close_sessions(now, "a", Role::Management, Some(2), "retired");
    }
    world.settle();
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
}

#[test]
fn each_of_two_parts_ends_what_the_other_replaced_and_nothing_newer() {
    let mut world = World::of_parts(3);
    let (mut device, _) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut other = connected(&mut world, PORTS[1]);
    // The device registers in one session, and in the other one before that part has heard of it.
    let query = support::request(7, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", b"</1/0>");
    let mut locations = Vec::new();
    for (device, part) in [(&mut device, 0), (&mut other, 1)] {
        let register = device.sealed(&query);
        world.receive_unsettled(device.local, device.address, &register);
        world.settle_part(part);
        locations.push(device.take_all(&mut world).remove(0).path(OptionNumber::LOCATION_PATH));
    }
    world.settle();
    assert_eq!(world.shared.owner("a"), Some(1));
    let known: Vec<_> = (0..3).flat_map(|part| world.part(part).devices()).collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].location, locations[1]);
    let id = world.request("a", read()).unwrap();
    answered(&mut world, &mut other);
    assert!(world.outcome(id).is_ok());
}

#[test]
fn two_new_sessions_of_a_device_in_two_parts_lose_no_registration() {
    // The second part asks the former owner, or the first one when the registration is already on its way there.
    for is_on_its_way in [false, true] {
        let mut world = World::of_parts(3);
        let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
        let mut first = connected_alone(&mut world, PORTS[1]);
        if is_on_its_way {
            world.deliver();
        }
        let mut second = connected_alone(&mut world, PORTS[2]);
        if is_on_its_way {
            world.deliver();
        }
        say(&mut world, &mut second, Code::POST, &location);
        world.settle();
        assert_eq!(heard(&mut world, &mut second), [Code::CHANGED]);
        assert_eq!(world.shared.owner("a"), Some(2));
        // The location belongs to the name that both sessions prove.
        say(&mut world, &mut first, Code::POST, &location);
        world.settle();
        assert_eq!(heard(&mut world, &mut first), [Code::CHANGED]);
        assert_eq!(world.shared.owner("a"), Some(1));
        let id = world.request("a", read()).unwrap();
        answered(&mut world, &mut first);
        assert!(world.outcome(id).is_ok());
        say(&mut world, &mut second, Code::DELETE, &location);
        world.settle();
        assert_eq!(heard(&mut world, &mut second), [Code::DELETED]);
        assert_eq!(world.shared.owner("a"), None);
    }
}

#[test]
fn a_registration_that_does_not_come_is_not_waited_for_for_ever() {
    let mut world = World::of_parts(3);
    let (_, location) = registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut device = connected_alone(&mut world, PORTS[1]);
    say(&mut world, &mut device, Code::POST, &location);
    world.lose_parcels();
    world.pass(Duration::from_secs(4));
    assert!(heard(&mut world, &mut device).is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(heard(&mut world, &mut device), [Code::NOT_FOUND]);
    assert_eq!(world.part(1).counters().registrations_not_fetched, 1);
    // The device registers again.
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", "</1/0>");
    assert_eq!(world.shared.owner("a"), Some(1));
}

#[test]
fn a_trigger_waits_for_a_registration_on_its_way() {
    let mut world = World::of_parts(3);
    registered(&mut world, PORTS[0], dtls_psk::Config::DEFAULT);
    let mut device = connected_alone(&mut world, PORTS[1]);
    world.deliver();
    let now = world.now;
    world.part(2).trigger_bootstrap(now, "a");
    world.settle_part(2);
    world.deliver();
    world.settle();
    assert_eq!(device.asked(&mut world).uri(), "/1/0/9");
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
