//! Devices that take their DTLS session up again.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, OptionNumber};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Config, Listener, Question, Sessions, Verdict, Who};
use support::*;

const LINKS: &str = "</1/0>,</3/0>";

/// A registered device that has its session from a full handshake.
fn registered(world: &mut World) -> (Device, String, String) {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    device.begin_resuming(world, &identity, &KEY);
    device.run(world);
    assert!(device.kept.is_some());
    let location = device.register(world, "ep=a&lt=86400&lwm2m=1.1", LINKS);
    assert_eq!(world.told(), ["established a management", "registered a"]);
    (device, identity, location)
}

/// The device after a restart: another port, and what it kept.
fn restarted(world: &mut World, device: &Device, identity: &str, port: u16) -> Device {
    let mut again = Device::plain(device.local, port);
    again.kept.clone_from(&device.kept);
    again.begin_resuming(world, identity, &KEY);
    again
}

#[test]
fn a_device_takes_its_session_up_elsewhere_and_goes_on_with_its_registration() {
    let mut world = World::new(false);
    let (device, identity, location) = registered(&mut world);
    for port in [40_001, 40_002, 40_001] {
        let mut again = restarted(&mut world, &device, &identity, port);
        again.run(&mut world);
        assert!(again.established);
        assert_eq!(world.told(), ["resumed a management"]);
        assert_eq!(again.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
        assert_eq!(world.told(), ["updated a"]);
        let read = lwm2m_server::Operation::Read { path: "/3/0/1".parse().unwrap(), format: None };
        let id = world.request("a", read).unwrap();
        let asked = again.asked(&mut world);
        let text: [(OptionNumber, &[u8]); 1] = [(OptionNumber::CONTENT_FORMAT, &[])];
        again.answer(&mut world, &asked, Code::CONTENT, &text, b"model");
        assert!(world.outcome(id).is_ok());
    }
    assert_eq!(world.endpoint.counters().sessions_resumed, 3);
}

#[test]
fn a_known_session_without_a_cookie_leaves_nothing_and_is_answered_with_less() {
    // Attack corpus 19.
    let mut world = World::new(false);
    let (device, identity, _) = registered(&mut world);
    for port in 1..100 {
        let mut again = restarted(&mut world, &device, &identity, port);
        let hello = again.due(&world).remove(0);
        world.receive(Listener::Coaps, again.address, &hello);
        let (_, to, reply) = world.sent.pop_front().unwrap();
        assert!(to == again.address && reply.len() < hello.len() && reply[13] == 3);
        assert!(world.sent.is_empty());
    }
    assert_eq!(world.endpoint.associations(), 1);
}

#[test]
fn a_session_ends_with_its_credential() {
    let mut world = World::new(false);
    let (device, identity, _) = registered(&mut world);
    let commands = world.credentials.revoke(world.now.as_millis(), "test", "a", None, "lost").unwrap();
    for command in commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.settle();
    world.told();
    let mut again = restarted(&mut world, &device, &identity, 40_001);
    again.run(&mut world);
    assert!(!again.established);
    assert_eq!(world.told(), ["handshake refused a-management: revoked"], "the identity was asked for");
}

#[test]
fn closing_the_sessions_of_a_generation_leaves_those_of_others() {
    let mut world = World::new(false);
    let (device, identity, _) = registered(&mut world);
    for (generation, resumed) in [(Some(99), true), (None, false)] {
        world.endpoint.close_sessions(world.now, "a", Role::Management, generation, "test");
        world.settle();
        world.told();
        let mut again = restarted(&mut world, &device, &identity, 40_001);
        again.run(&mut world);
        assert!(again.established);
        assert_eq!(world.told()[0] == "resumed a management", resumed);
    }
}

#[test]
fn a_credential_that_ends_during_an_abbreviated_handshake_opens_no_session() {
    let mut world = World::new(false);
    let (device, identity, _) = registered(&mut world);
    let mut again = restarted(&mut world, &device, &identity, 40_001);
    for _ in 0..2 {
        again.step(&mut world);
    }
    for datagram in again.due(&world) {
        world.receive_unsettled(Listener::Coaps, again.address, &datagram);
    }
    let who = world.credentials.look_up(Role::Management, identity.as_bytes()).unwrap().who;
    let asked = world.judge(Verdict::Refused { reason: "revoked".to_owned() });
    assert_eq!(asked, Question::Admit { who: Who::Proven(who) });
    world.settle();
    assert_eq!(world.told(), ["closed a: revoked"]);
    let mut again = restarted(&mut world, &device, &identity, 40_002);
    again.run(&mut world);
    assert_eq!(
        world.told(),
        ["established a management"],
        "the session is gone, the credential is asked for"
    );
}

#[test]
fn a_session_is_good_for_the_role_it_was_made_for() {
    let mut world = World::new(false);
    let (mut device, ..) = registered(&mut world);
    let identity = world.enrol("b", Role::Bootstrap);
    device.local = Listener::BootstrapCoaps;
    let mut again = restarted(&mut world, &device, &identity, 40_001);
    again.run(&mut world);
    assert_eq!(world.told(), ["established b bootstrap"]);
}

#[test]
fn a_session_is_good_for_a_day_and_where_sessions_are_kept() {
    let mut world = World::new(false);
    let (device, identity, _) = registered(&mut world);
    world.pass(Duration::from_secs(86_399));
    world.told();
    let mut again = restarted(&mut world, &device, &identity, 40_001);
    again.run(&mut world);
    assert_eq!(world.told(), ["resumed a management"]);
    world.pass(Duration::from_secs(1));
    let mut again = restarted(&mut world, &device, &identity, 40_002);
    again.run(&mut world);
    assert!(world.told().contains(&"established a management".to_owned()));

    let mut config = Config::default();
    config.sessions = Sessions::new(0, Duration::MAX);
    let mut world = World::with(config, false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    device.begin_resuming(&mut world, &identity, &KEY);
    device.run(&mut world);
    assert!(device.established && device.kept.is_none());
}

#[test]
fn whoever_has_only_the_id_disturbs_nobody() {
    let mut world = World::new(false);
    let (mut device, identity, location) = registered(&mut world);
    let mut bytes = [0; dtls_psk::Session::LONGEST];
    let length = device.kept.as_ref().unwrap().emit(&mut bytes).unwrap();
    bytes[10] ^= 1;
    let mut thief = Device::plain(Listener::Coaps, 40_001);
    thief.kept = dtls_psk::Session::parse(&bytes[..length]);
    thief.begin_resuming(&mut world, "unknown", &[8; 16]);
    thief.run(&mut world);
    world.pass(Duration::from_secs(100));
    assert!(!thief.established);
    world.told();
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
    let mut again = restarted(&mut world, &device, &identity, 40_002);
    again.run(&mut world);
    assert!(world.told().contains(&"resumed a management".to_owned()));
}

#[test]
fn shards_take_up_each_others_sessions() {
    let config = Config::default();
    let (mut first, mut second) = (World::with(config.clone(), false), World::with(config, false));
    second.enrol("a", Role::Management);
    let (device, identity, _) = registered(&mut first);
    let mut again = restarted(&mut second, &device, &identity, 40_001);
    again.run(&mut second);
    assert_eq!(second.told(), ["resumed a management"]);
}
