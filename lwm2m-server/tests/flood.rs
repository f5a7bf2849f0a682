//! Floods: what an attacker sends that costs him little must cost the server little, and honest devices nothing.
//!
//! `LWM2M_FLOOD=100` makes it a hundred times as many, a million spoofed ClientHellos among them.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code with small numbers")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, Token};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Address, Config, Listener};
use support::{Device, KEY, World, address, build};

/// How many handshakes may be under way.
const HANDSHAKES: usize = 200;
/// How many peers without a registration may be kept.
const UNREGISTERED: usize = 100;

fn times(few: u32) -> u32 {
    let factor = std::env::var("LWM2M_FLOOD").ok().and_then(|text| text.parse::<u32>().ok());
    few * factor.unwrap_or(1)
}

/// A source that nobody answers at.
fn spoofed(number: u32) -> Address {
    std::net::SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 5000)).into()
}

fn world(allow_nosec: bool) -> (World, Device, String) {
    let mut config = Config::default();
    config.handshakes = HANDSHAKES;
    config.unregistered = UNREGISTERED;
    let mut world = World::with(config, allow_nosec);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    world.enrol("honest", Role::Management);
    world.told();
    (world, device, location)
}

/// Established sessions work, and an honest device gets in.
fn check(world: &mut World, device: &mut Device, location: &str, port: u16) {
    world.pass(Duration::from_secs(1));
    world.sent.clear();
    let answer = device.request(world, Code::POST, location, b"").expect("the session lives");
    assert_eq!(answer.code, Code::CHANGED);
    let honest = Device::secure(world, Listener::Coaps, port, "honest-management", &KEY);
    assert!(honest.established);
}

#[test]
fn spoofed_hellos_leave_nothing_behind() {
    let (mut world, mut device, location) = world(false);
    let mut hello = Device::plain(Listener::Coaps, 1);
    hello.begin(&mut world, "nobody", &KEY);
    let hello = hello.due(&world).remove(0);
    let before = world.endpoint.associations();
    for number in 0..times(10_000) {
        world.receive(Listener::Coaps, spoofed(number), &hello);
        world.sent.clear();
    }
    assert_eq!(world.endpoint.associations(), before);
    check(&mut world, &mut device, &location, 41_000);
}

#[test]
fn handshakes_that_nobody_finishes_make_room_and_keep_no_honest_device_out() {
    let (mut world, mut device, location) = world(false);
    for number in 0..times(1_000) {
        // The cookie comes back, and then nothing more.
        let mut attacker = Device::plain(Listener::Coaps, 1);
        attacker.address = spoofed(number);
        attacker.begin(&mut world, "nobody", &KEY);
        for _ in 0..2 {
            for datagram in attacker.due(&world) {
                world.receive(attacker.local, attacker.address, &datagram);
            }
            attacker.take_all(&mut world);
        }
        assert!(world.endpoint.associations() <= HANDSHAKES + 2, "one for each handshake, and two devices");
        if number % 100 == 99 {
            check(&mut world, &mut device, &location, 41_000);
        }
    }
    let displaced = world.endpoint.counters().handshakes_displaced;
    assert!(displaced > u64::from(times(1_000)) / 2, "{displaced}");
}

#[test]
fn block_transfers_that_nobody_finishes_are_bounded() {
    let (mut world, mut device, location) = world(true);
    let before = world.endpoint.associations();
    for number in 0..times(1_000) {
        // The first of 1,000 blocks of 1,024 bytes.
        let name = format!("ep=flood-{number}");
        let options = [
            (OptionNumber::URI_PATH, b"rd".as_slice()),
            (OptionNumber::CONTENT_FORMAT, &[40]),
            (OptionNumber::URI_QUERY, name.as_bytes()),
            (OptionNumber::BLOCK1, &[0x0e]),
        ];
        let header = Header { kind: Kind::Confirmable, id: MessageId(7) };
        let block = build(header, Code::POST, Token::new(&[9]).unwrap(), &options, &[b'<'; 1024]);
        world.receive(Listener::Coap, spoofed(number), &block);
        world.sent.clear();
        assert!(world.endpoint.associations() <= before + UNREGISTERED);
    }
    assert!(world.endpoint.counters().turned_away > 0);
    check(&mut world, &mut device, &location, 41_000);
    let identity = world.enrol("late", Role::Management);
    let late =
        Device::secure(&mut world, Listener::Coaps, address(42_000).socket_address().port(), &identity, &KEY);
    assert!(late.established, "who comes over DTLS is not kept out by who does not");
}
