//! Sessions that change their address, and what goes to addresses that are not proven (RFC 9146 §6, RFC 9853).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;

use std::time::Duration;

use dtls_psk::ConnectionId;
use lwm2m_coap::{Code, Kind, MessageId, OptionNumber, udp};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Address, Config, Listener};
use lwm2m_server::{Operation, Path, RequestError, Value, WriteMode};
use support::{Device, KEY, World, address, request};

const PLAIN: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn offering() -> dtls_psk::Config {
    dtls_psk::Config::DEFAULT.with_connection_id(ConnectionId::EMPTY)
}

/// A device `name` registered from `port`.
fn registered(world: &mut World, name: &str, port: u16, dtls: dtls_psk::Config) -> (Device, String) {
    let identity = world.enrol(name, Role::Management);
    let mut device = Device::plain(Listener::Coaps, port);
    device.dtls = dtls;
    device.connect(world, &identity, &KEY);
    let location = device.register(world, &format!("ep={name}&lt=86400&lwm2m=1.1"), "</1/0>,</3/0>");
    world.told();
    (device, location)
}

fn counter(world: &World, name: &str) -> u64 {
    let counters = world.endpoint.counters().list();
    counters.into_iter().find(|(other, _)| *other == name).unwrap().1
}

/// Records that were dropped, for whatever reason.
fn dropped_records(world: &World) -> u64 {
    let counters = world.endpoint.counters().list().into_iter();
    counters.filter(|(name, _)| name.starts_with("records_")).map(|(_, count)| count).sum()
}

fn known_address(world: &World, name: &str) -> String {
    world.endpoint.device(name).unwrap().address
}

/// What went to an address, and takes it away.
fn sent_to(world: &mut World, to: Address) -> Vec<Vec<u8>> {
    let (taken, left): (Vec<_>, Vec<_>) = world.sent.drain(..).partition(|(_, other, _)| *other == to);
    world.sent = left.into();
    taken.into_iter().map(|(_, _, bytes)| bytes).collect()
}

fn large_write() -> Operation {
    let values = vec![(path("/1/0/7"), Value::String("x".repeat(480)))];
    Operation::Write { path: path("/1/0/7"), mode: WriteMode::Replace, values, format: None }
}

#[test]
fn a_session_follows_its_device_to_a_new_address_after_the_check() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    let observe = Operation::Observe { path: path("/3/0/9"), format: None };
    world.request("a", observe).unwrap();
    let observed = device.asked(&mut world);
    device.answer(&mut world, &observed, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), PLAIN], b"1");
    let handshakes = counter(&world, "handshakes_begun");

    device.address = address(41_000);
    let answer = device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED, "it is answered where it came from");
    // The device answered the challenge meanwhile.
    assert_eq!(counter(&world, "path_challenges"), 1);
    assert_eq!((counter(&world, "moved"), known_address(&world, "a")), (1, address(41_000).to_string()));
    let told = world.told();
    assert!(told.iter().any(|event| event.starts_with("AddressChanged")), "{told:?}");

    device.notify(&mut world, Kind::NonConfirmable, observed.token, 2, &[PLAIN], b"2");
    assert!(world.told().iter().any(|event| event.starts_with("notification a")), "the observation stands");
    let read = world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
    assert!(world.outcome(read).is_ok());
    assert_eq!(counter(&world, "handshakes_begun"), handshakes);
}

#[test]
fn a_session_without_the_check_moves_with_an_authentic_newer_record() {
    let mut world = World::new(false);
    let (mut device, location) =
        registered(&mut world, "a", 40_000, offering().with_return_routability(false));
    device.address = address(41_000);
    assert!(device.request(&mut world, Code::POST, &location, b"").is_some());
    assert_eq!((counter(&world, "moved"), counter(&world, "path_challenges")), (1, 0));
    assert_eq!(known_address(&world, "a"), address(41_000).to_string());
}

#[test]
fn without_the_check_an_address_is_proven_by_an_answer_to_what_went_there() {
    let mut world = World::new(false);
    let (mut device, _) = registered(&mut world, "a", 40_000, offering().with_return_routability(false));
    // An answer that the device gave where it was, and that comes from elsewhere.
    let read = world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
    let asked = device.asked(&mut world);
    device.address = address(41_000);
    device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
    assert!(world.outcome(read).is_ok());
    assert_eq!(counter(&world, "moved"), 1);
    let write = world.request("a", large_write()).unwrap();
    // There is room for an empty message only, and with the answer to that for everything.
    device.run(&mut world);
    let probe = device.got.pop_front().unwrap();
    assert_eq!((probe.kind, probe.code), (Kind::Confirmable, Code::EMPTY));
    // Another one is no answer: what is repeated still does not go there.
    device.send(&mut world, &udp::empty(Kind::Reset, MessageId(probe.id.wrapping_add(1))));
    world.pass(Duration::from_secs(3));
    assert!(world.sent.iter().all(|(_, _, bytes)| bytes.len() < 100));
    let probe = device.take_all(&mut world).pop().unwrap();
    assert_eq!((probe.kind, probe.code), (Kind::Confirmable, Code::EMPTY), "it is asked again");
    device.send(&mut world, &udp::empty(Kind::Reset, MessageId(probe.id)));
    world.pass(Duration::from_secs(10));
    let asked = device.asked(&mut world);
    assert!(asked.payload.len() > 480);
    device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
    assert!(world.outcome(write).is_ok());
}

#[test]
fn an_old_record_from_a_new_address_moves_nobody() {
    for return_routability in [true, false] {
        let mut world = World::new(false);
        let dtls = offering().with_return_routability(return_routability);
        let (mut device, location) = registered(&mut world, "a", 40_000, dtls);
        let old = device.sealed(&request(7, Code::POST, &location, b""));
        world.receive(device.local, device.address, &old);
        let late = device.sealed(&request(8, Code::POST, &location, b""));
        let newest = device.sealed(&request(9, Code::POST, &location, b""));
        world.receive(device.local, device.address, &newest);
        sent_to(&mut world, device.address);

        // Replayed, changed, and genuine but overtaken.
        let mut forged = newest.clone();
        forged[10] = forged[10].wrapping_add(9);
        for record in [&old, &newest, &forged, &late] {
            world.receive(device.local, address(41_000), record);
        }
        assert_eq!(sent_to(&mut world, address(41_000)), Vec::<Vec<u8>>::new());
        assert_eq!(sent_to(&mut world, device.address).len(), 1, "the one that came late is answered");
        assert_eq!((counter(&world, "moved"), counter(&world, "path_challenges")), (0, 0));
        assert_eq!(known_address(&world, "a"), device.address.to_string());
    }
}

#[test]
fn a_record_that_was_taken_elsewhere_moves_nobody_whose_check_fails() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    let taken = device.sealed(&request(7, Code::POST, &location, b""));
    world.receive(device.local, address(41_000), &taken);
    // The answer and a challenge; nobody there can answer it.
    assert_eq!(sent_to(&mut world, address(41_000)).len(), 2);
    assert_eq!(known_address(&world, "a"), device.address.to_string());
    let read = world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
    assert!(world.outcome(read).is_ok(), "what the server has to say goes to the proven address");
    // The device was heard from where it is: what is answered to the old challenge is too late.
    assert_eq!(counter(&world, "moved"), 0);
}

#[test]
fn a_challenge_is_repeated_with_a_later_record_when_it_was_lost() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    device.address = address(41_000);
    for (id, wait, challenges) in [(7, 0, 1), (8, 999, 1), (9, 1, 2)] {
        world.pass(Duration::from_millis(wait));
        let record = device.sealed(&request(id, Code::POST, &location, b""));
        world.receive(device.local, device.address, &record);
        sent_to(&mut world, device.address);
        assert_eq!(counter(&world, "path_challenges"), challenges);
    }
    assert_eq!(counter(&world, "moved"), 0);
    world.pass(Duration::from_secs(1));
    device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(counter(&world, "moved"), 1);
}

#[test]
fn any_number_of_sessions_shares_an_address_by_their_ids() {
    let mut world = World::new(false);
    let mut devices: Vec<_> =
        (0..5).map(|n| registered(&mut world, &format!("d{n}"), 40_000, offering())).collect();
    // The handshakes are long over, their memory is gone.
    world.pass(Duration::from_secs(300));
    for (device, location) in &mut devices {
        assert_eq!(device.request(&mut world, Code::POST, location, b"").unwrap().code, Code::CHANGED);
    }
    assert_eq!(world.endpoint.devices().len(), 5);
}

#[test]
fn without_an_id_a_new_address_needs_a_new_handshake() {
    for (offered, given) in [(false, true), (true, false)] {
        let mut config = Config::default();
        config.connection_ids = given;
        let mut world = World::with(config, false);
        let dtls = if offered { offering() } else { dtls_psk::Config::DEFAULT };
        let (mut device, location) = registered(&mut world, "a", 40_000, dtls);
        device.address = address(41_000);
        assert!(device.request(&mut world, Code::POST, &location, b"").is_none());
        assert!(dropped_records(&world) > 0);
        device.connect(&mut world, "a-management", &KEY);
        assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
    }
}

#[test]
fn an_id_of_the_other_server_or_of_nobody_is_dropped() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    let record = device.sealed(&request(7, Code::POST, &location, b""));
    world.receive(Listener::BootstrapCoaps, device.address, &record);
    for byte in 11..17 {
        let mut other = record.clone();
        other[byte] ^= 0x40;
        world.receive(device.local, device.address, &other);
    }
    world.receive(device.local, device.address, &record[..14]);
    assert_eq!(dropped_records(&world), 8);
    assert!(world.sent.is_empty());
    world.receive(device.local, device.address, &record);
    assert_eq!(world.sent.len(), 1);
}

/// Everything goes on for an hour; returns the bytes that went to an address.
fn bytes_to(world: &mut World, to: Address) -> usize {
    let minutes = (0..60).map(|_| {
        world.pass(Duration::from_secs(60));
        sent_to(world, to).iter().map(Vec::len).sum::<usize>()
    });
    minutes.sum()
}

#[test]
fn a_stolen_record_draws_three_times_its_bytes_to_an_address_at_most() {
    for return_routability in [true, false] {
        let mut world = World::new(false);
        let dtls = offering().with_return_routability(return_routability);
        let (mut device, location) = registered(&mut world, "a", 40_000, dtls);
        let (victim, mut received) = (address(41_000), 0);
        for id in 7..10 {
            let stolen = device.sealed(&request(id, Code::POST, &location, b""));
            received = stolen.len().saturating_add(received);
            world.receive(device.local, victim, &stolen);
        }
        let write = world.request("a", large_write()).unwrap();
        let sent = bytes_to(&mut world, victim);
        assert!(sent > 0 && sent <= 3 * received, "{sent} bytes for {received}");
        assert_eq!(world.outcome(write).unwrap_err(), RequestError::TimedOut);
    }
}

#[test]
fn without_security_an_address_draws_three_times_its_bytes_until_it_answers() {
    for local in [Listener::Coap, Listener::BootstrapCoap] {
        let mut world = World::new(true);
        let mut device = Device::plain(local, 40_000);
        let query = if local == Listener::Coap { "rd?ep=a&lt=86400&lwm2m=1.1&b=U" } else { "bs?ep=a" };
        let forged = request(7, Code::POST, query, b"</1/0>,</3/0>");
        // It is repeated, as an attacker would, and the server has a lot to say.
        for _ in 0..3 {
            world.receive(local, device.address, &forged);
        }
        let written = world.request("a", large_write());
        let sent = bytes_to(&mut world, device.address);
        assert!(sent <= 3 * 3 * forged.len(), "{sent} bytes for {}", 3 * forged.len());
        if local == Listener::BootstrapCoap {
            continue;
        }
        assert_eq!(world.outcome(written.unwrap()).unwrap_err(), RequestError::TimedOut);
        assert!(counter(&world, "over_amplification") > 0);

        // A device that answers is believed to be there.
        let read = world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
        assert!(world.outcome(read).is_ok());
        let write = world.request("a", large_write()).unwrap();
        let asked = device.asked(&mut world);
        assert!(asked.payload.len() > 480);
        device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
        assert!(world.outcome(write).is_ok());
    }
}

#[test]
fn a_cookie_and_a_refusal_are_shorter_than_three_times_what_drew_them() {
    let mut world = World::new(false);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    device.dtls = offering();
    device.begin(&mut world, "nobody", &KEY);
    let hello = device.due(&world).remove(0);
    for length in 1..=hello.len() {
        world.receive(device.local, device.address, &hello[..length]);
        let sent: usize = sent_to(&mut world, device.address).iter().map(Vec::len).sum();
        assert!(sent <= 3 * length, "{sent} bytes for {length}");
    }
    for local in [Listener::Coap, Listener::BootstrapCoap] {
        for message in [&[0x40, 1, 0, 1][..], &[0x40, 0, 0, 1], &[0x40, 0xff, 0, 1], &[0x50, 0x45, 0, 1]] {
            world.receive(local, device.address, message);
            let sent: usize = sent_to(&mut world, device.address).iter().map(Vec::len).sum();
            assert!(sent <= 3 * message.len(), "{sent} bytes for {message:?}");
        }
    }
}

/// A device moves to another address; the challenge that is sent there when its record with this id comes.
fn challenge_at(world: &mut World, device: &mut Device, location: &str, id: u16) -> Vec<u8> {
    let record = device.sealed(&request(id, Code::POST, location, b""));
    world.receive(device.local, device.address, &record);
    let to = device.address;
    let sent = sent_to(world, to);
    // The check has a content type of its own; the answer is application data.
    sent.into_iter().find(|datagram| datagram[0] == 27).expect("a challenge")
}

/// The device's answer to a challenge.
fn answer_to(world: &World, device: &mut Device, challenge: &[u8]) -> Vec<u8> {
    device.take(world, challenge);
    let mut due = device.due(world);
    assert_eq!(due.len(), 1);
    due.remove(0)
}

#[test]
fn a_check_succeeds_within_nine_seconds_and_not_after() {
    for (wait, moved) in [(8_999, 1), (9_000, 0)] {
        let mut world = World::new(false);
        let (mut device, location) = registered(&mut world, "a", 40_000, offering());
        device.address = address(41_000);
        let challenge = challenge_at(&mut world, &mut device, &location, 7);
        let answer = answer_to(&world, &mut device, &challenge);
        world.pass(Duration::from_millis(wait));
        world.receive(device.local, device.address, &answer);
        assert_eq!((counter(&world, "moved"), counter(&world, "path_challenges")), (moved, 1));
        assert_eq!(counter(&world, "stale_path_answers"), 1 - moved);
        // Nothing is lost: with its next record the device gets another challenge.
        world.pass(Duration::from_secs(1));
        assert!(device.request(&mut world, Code::POST, &location, b"").is_some());
        assert_eq!((counter(&world, "moved"), known_address(&world, "a")), (1, device.address.to_string()));
    }
}

#[test]
fn an_answer_to_a_challenge_from_a_third_address_moves_nobody() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    let (former, new, third) = (device.address, address(41_000), address(42_000));
    device.address = new;
    let challenge = challenge_at(&mut world, &mut device, &location, 7);
    let answer = answer_to(&world, &mut device, &challenge);
    world.receive(device.local, third, &answer);
    assert_eq!((counter(&world, "moved"), counter(&world, "stale_path_answers")), (0, 1));
    // A replay of it says nothing, wherever it comes from.
    for from in [new, third, former] {
        world.receive(device.local, from, &answer);
    }
    assert_eq!((counter(&world, "moved"), counter(&world, "records_replayed")), (0, 3));
    assert_eq!(known_address(&world, "a"), former.to_string());
    assert_eq!(sent_to(&mut world, third), Vec::<Vec<u8>>::new());
}

#[test]
fn a_challenge_that_is_too_old_is_not_answered_while_a_newer_one_is_out() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    device.address = address(41_000);
    let first = challenge_at(&mut world, &mut device, &location, 7);
    world.pass(Duration::from_secs(8));
    let second = challenge_at(&mut world, &mut device, &location, 8);
    let late = answer_to(&world, &mut device, &first);
    let answer = answer_to(&world, &mut device, &second);
    world.pass(Duration::from_secs(1));
    world.receive(device.local, device.address, &late);
    assert_eq!((counter(&world, "moved"), counter(&world, "stale_path_answers")), (0, 1));
    world.receive(device.local, device.address, &answer);
    assert_eq!((counter(&world, "moved"), counter(&world, "path_challenges")), (1, 2));
}

#[test]
fn a_challenge_may_be_answered_while_a_newer_one_is_out() {
    let mut world = World::new(false);
    let (mut device, location) = registered(&mut world, "a", 40_000, offering());
    device.address = address(41_000);
    let first = challenge_at(&mut world, &mut device, &location, 7);
    world.pass(Duration::from_secs(3));
    challenge_at(&mut world, &mut device, &location, 8);
    let answer = answer_to(&world, &mut device, &first);
    world.receive(device.local, device.address, &answer);
    assert_eq!((counter(&world, "moved"), counter(&world, "path_challenges")), (1, 2));
}

#[test]
fn what_is_discarded_gives_an_address_no_room() {
    let mut world = World::new(false);
    let (mut device, location) =
        registered(&mut world, "a", 40_000, offering().with_return_routability(false));
    let victim = address(41_000);
    let stolen = device.sealed(&request(7, Code::POST, &location, b""));
    world.receive(device.local, victim, &stolen);
    // RFC 9853 §2: forged, replayed, and forged behind what was stolen.
    let mut forged = stolen.clone();
    *forged.last_mut().unwrap() ^= 1;
    let second = device.sealed(&request(8, Code::POST, &location, b""));
    for datagram in [&forged, &stolen, &[second.clone(), forged.repeat(20)].concat()] {
        world.receive(device.local, victim, datagram);
    }
    world.request("a", large_write()).unwrap();
    let (sent, received) = (bytes_to(&mut world, victim), stolen.len() + second.len());
    assert!(sent > 0 && sent <= 3 * received, "{sent} bytes for {received}");
}

#[test]
fn what_an_unproven_address_had_counts_after_a_planned_restart() {
    for is_secured in [false, true] {
        let mut world = World::new(true);
        let there = address(41_000);
        let received;
        if is_secured {
            let (mut device, location) =
                registered(&mut world, "a", 40_000, offering().with_return_routability(false));
            let stolen = device.sealed(&request(7, Code::POST, &location, b""));
            received = stolen.len();
            world.receive(device.local, there, &stolen);
        } else {
            let register = request(7, Code::POST, "rd?ep=a&lt=86400&lwm2m=1.1", b"</1/0>,</3/0>");
            received = register.len();
            world.receive(Listener::Coap, there, &register);
        }
        let mut sent = sent_to(&mut world, there).iter().map(Vec::len).sum::<usize>();
        let mut after_a_restart = 0;
        for _ in 0..10 {
            world.restart(1, Duration::from_secs(1));
            let read = Operation::Read { path: path("/3/0/9"), format: None };
            world.request("a", read).unwrap();
            let bytes = sent_to(&mut world, there).iter().map(Vec::len).sum::<usize>();
            after_a_restart += bytes;
            sent += bytes;
        }
        assert!(after_a_restart > 0, "there was some left");
        assert!(sent <= 3 * received && sent > 2 * received, "{sent} bytes for {received}");
        assert!(counter(&world, "over_amplification") > 0);
    }
}
