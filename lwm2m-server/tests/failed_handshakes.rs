//! Handshakes that fail, of every kind and again and again: what they took of the handshakes under way, of the look-ups and of the
//! work for certificates is given back (row 28 of the list of attacks).

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_server::credentials::{
    Authenticated, Enrol, EnrolAccount, Fingerprint, KeyMaterial, Role, Subject,
};
use lwm2m_server::endpoint::{Config, Done, Listener, Question, Verdict};
use lwm2m_server::keys::{ServerKey, ServerKeys};
use support::*;

const SERVER: u8 = 0x51;

/// What a device does wrong, or what goes wrong at the server, from this port.
type Failure = (&'static str, fn(&mut World, u16));

const FAILURES: &[Failure] = &[
    ("it says nothing after the cookie", |world, port| drop(begun(world, port, "good-management"))),
    ("it begins anew", |world, port| {
        begun(world, port, "good-management");
        begun(world, port, "nobody");
    }),
    ("it answers the flight with an alert", |world, port| {
        let device = begun(world, port, "good-management");
        world.receive(device.local, device.address, &record(21, 0, &[2, 40]));
    }),
    ("a wrong key", |world, port| secure(port).connect(world, "good-management", &[8; 16])),
    ("an unknown identity", |world, port| secure(port).connect(world, "nobody", &KEY)),
    ("a revoked identity", |world, port| secure(port).connect(world, "revoked-management", &KEY)),
    ("an identity that is too long", |world, port| {
        let device = begun(world, port, "good-management");
        let body = [&[0, 129][..], &[b'i'; 129]].concat();
        let length = [0, 0, 131];
        let message = [&[16][..], &length, &[0, 2, 0, 0, 0], &length, &body].concat();
        world.receive(device.local, device.address, &record(22, 0, &message));
    }),
    ("a Finished with a bent bit", |world, port| {
        let mut device = begun(world, port, "good-management");
        let mut flight = device.due(world);
        *flight.last_mut().unwrap().last_mut().unwrap() ^= 1;
        flight.iter().for_each(|datagram| world.receive(device.local, device.address, datagram));
    }),
    ("its key comes too late", |world, port| {
        let mut device = begun(world, port, "good-management");
        send(world, &mut device);
        let (id, question) = world.endpoint.poll_question().unwrap();
        assert!(matches!(question, Question::LookUp { .. }));
        world.pass(Duration::from_secs(200));
        let rng = &mut |bytes: &mut [u8]| bytes.fill(1);
        world.endpoint.provide(world.now, id, key_of("good"), rng, &mut [0; 1500]);
    }),
    ("it is refused in spite of its Finished", |world, port| {
        let mut device = begun(world, port, "good-management");
        send(world, &mut device);
        world.judge(key_of("good"));
        assert!(matches!(world.judge(refused()), Question::Admit { .. }));
    }),
    ("a public key that nobody enrolled", |world, port| {
        secure(port).connect_with_key(world, holder(0xc2));
    }),
    ("a public key without its private half", |world, port| {
        secure(port).connect_with_key(world, Holder { signs_with: [0xc2; 32], ..holder(0xc1) });
    }),
    ("it does not trust the server", |world, port| {
        let server = server_key(0x52).raw_public_key().to_vec();
        secure(port).connect_with_key(world, Holder { server, ..holder(0xc1) });
    }),
    ("it is gone while the server signs", |world, port| {
        let mut device = secure(port);
        device.begin_with_key(world, holder(0xc1));
        hellos(world, &mut device);
        let (id, work) = world.endpoint.poll_work().unwrap();
        let done = work.run(world.now.as_millis(), &world.credentials);
        world.pass(Duration::from_secs(200));
        world.provide_work(id, done);
    }),
    ("the server's signature is lost", |world, port| {
        let mut device = secure(port);
        device.begin_with_key(world, holder(0xc1));
        hellos(world, &mut device);
        let (id, _) = world.endpoint.poll_work().unwrap();
        world.provide_work(id, Done::Lost);
    }),
    ("whose key it is gets lost", |world, port| {
        let mut device = secure(port);
        device.begin_with_key(world, holder(0xc1));
        hellos(world, &mut device);
        world.settle();
        device.take_all(world);
        send(world, &mut device);
        let (id, _) = world.endpoint.poll_work().unwrap();
        world.provide_work(id, Done::Lost);
    }),
];

/// A server that takes two handshakes at once, asks for one key, and has one piece of work done.
fn world() -> World {
    let mut config = Config::default();
    config.handshakes = 2;
    config.look_ups = 1;
    config.works = 1;
    config.keys = ServerKeys::new(vec![server_key(SERVER)]);
    let mut world = World::with(config, false);
    for name in ["good", "revoked"] {
        world.enrol(name, Role::Management);
    }
    let now = world.now.as_millis();
    world.credentials.revoke(now, "test", "revoked", Some(Role::Management), "lost").unwrap();
    let subject = Subject::RawPublicKey(Fingerprint::of(&holder(0xc1).public()));
    let key = KeyMaterial::Public { subject, key: None };
    let enrol = Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
    world.credentials.enrol(now, "test", "keyed", &enrol).unwrap();
    world
}

/// Once all is over, two honest devices find room beside each other, and each gets what it needs.
fn honest_ones_get_in(world: &mut World, after: &str) {
    world.pass(Duration::from_secs(300));
    assert_eq!(world.endpoint.associations(), 0, "{after}");
    let displaced = world.endpoint.counters().handshakes_displaced;
    let mut one = begun(world, 50_000, "good-management");
    let mut other = secure(50_001);
    other.begin_with_key(world, holder(0xc1));
    hellos(world, &mut other);
    world.settle();
    for device in [&mut one, &mut other] {
        device.run(world);
        assert!(device.established, "{after}");
    }
    assert_eq!(world.endpoint.counters().handshakes_displaced, displaced, "{after}");
}

#[test]
fn whatever_handshakes_fail_of_they_leave_room_for_an_honest_one_28() {
    let mut all = world();
    for (name, fail) in FAILURES {
        let mut world = world();
        let mut finished = 0;
        for port in 1..=10 {
            fail(&mut world, port);
            fail(&mut all, port);
            finished = world.endpoint.counters().handshakes_finished;
        }
        assert_eq!(finished, if name.contains("in spite of") { 10 } else { 0 }, "{name}");
        assert!(world.endpoint.counters().handshakes_begun >= 10, "{name}");
        honest_ones_get_in(&mut world, name);
        all.pass(Duration::from_secs(300));
    }
    honest_ones_get_in(&mut all, "all");
}

fn server_key(secret: u8) -> ServerKey {
    ServerKey::in_memory(&[secret; 32]).unwrap()
}

fn holder(secret: u8) -> Holder {
    Holder::of(secret, server_key(SERVER).raw_public_key())
}

fn secure(port: u16) -> Device {
    Device::plain(Listener::Coaps, port)
}

fn key_of(endpoint: &str) -> Verdict {
    let who = Authenticated::new(endpoint.into(), Role::Management, 1);
    Verdict::Key { key: KEY.to_vec().into(), who }
}

fn refused() -> Verdict {
    Verdict::Refused { reason: "the test wants it".to_owned() }
}

/// A handshake with a pre-shared key up to the server's flight.
fn begun(world: &mut World, port: u16, identity: &str) -> Device {
    let mut device = secure(port);
    device.begin(world, identity, &KEY);
    hellos(world, &mut device);
    world.settle();
    device.take_all(world);
    device
}

/// Both ClientHellos go out; what the second one makes the server ask or do is still open.
fn hellos(world: &mut World, device: &mut Device) {
    for _ in 0..2 {
        send(world, device);
        world.send_all();
        device.take_all(world);
    }
}

fn send(world: &mut World, device: &mut Device) {
    for datagram in device.due(world) {
        world.receive_unsettled(device.local, device.address, &datagram);
    }
}

fn record(content_type: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[content_type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9][..], &length, body].concat()
}
