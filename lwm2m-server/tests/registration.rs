//! Registration over plain CoAP and over DTLS (LwM2M Core 1.2.1 §6.2; house rules on identity).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, Kind, OptionNumber};
use lwm2m_server::credentials::{
    Authenticated, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Rotate,
};
use lwm2m_server::endpoint::{Config, Listener, Question, Verdict, Who};
use lwm2m_server::{Operation, RequestError};
use support::{Device, KEY, World};

const LINKS: &str = "</1/0>,</3/0>";

fn proven(endpoint: &str) -> Authenticated {
    Authenticated::new(endpoint.into(), Role::Management, 1)
}

#[test]
fn a_device_registers_updates_and_says_goodbye() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1&b=U&Q", LINKS);
    assert_eq!(location.len(), "rd/AbCd".len());
    let seen = world.endpoint.device("a").unwrap();
    assert_eq!((seen.lifetime, seen.queue, seen.version.as_str(), &*seen.objects), (60, true, "1.1", LINKS));
    assert_eq!(seen.location, format!("/{location}"));

    let answer = device.request(&mut world, Code::POST, &format!("{location}?lt=30"), b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    assert_eq!(world.endpoint.device("a").unwrap().lifetime, 30);
    let answer = device.request(&mut world, Code::DELETE, &location, b"").unwrap();
    assert_eq!(answer.code, Code::DELETED);
    assert_eq!(world.told(), ["registered a", "updated a", "deregistered a"]);
    assert!(world.endpoint.device("a").is_none());
}

#[test]
fn a_duplicate_register_is_answered_again_and_registers_once() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let message = support::request(77, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS.as_bytes());
    device.send(&mut world, &message);
    device.send(&mut world, &message);
    assert_eq!(device.got.len(), 2);
    assert_eq!(device.got[0].options, device.got[1].options);
    assert_eq!(world.told(), ["registered a"]);
}

#[test]
fn a_registration_expires_and_a_later_update_is_not_found() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    world.pass(Duration::from_secs(59));
    assert!(world.endpoint.device("a").is_some());
    world.pass(Duration::from_secs(2));
    assert_eq!(world.told(), ["registered a", "expired a"]);
    let answer = device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(answer.code, Code::NOT_FOUND);
}

#[test]
fn registers_that_are_wrong_are_refused_with_the_code_of_the_specification() {
    let mut world = World::new(true);
    for (query, links, code) in [
        ("lt=60&lwm2m=1.1", LINKS, Code::BAD_REQUEST),
        ("ep=a&lt=60&lwm2m=2.0", LINKS, Code::PRECONDITION_FAILED),
        ("ep=a&lt=x&lwm2m=1.1", LINKS, Code::BAD_REQUEST),
        ("ep=a&lt=60&lwm2m=1.1&b=Z", LINKS, Code::BAD_REQUEST),
        ("ep=a&lt=60&lwm2m=1.1", "", Code::BAD_REQUEST),
        ("ep=a&lt=60&lwm2m=1.2", "", Code::CONFLICT),
    ] {
        let mut device = Device::plain(Listener::Coap, 40_000);
        let answer =
            device.request(&mut world, Code::POST, &format!("rd?{query}"), links.as_bytes()).unwrap();
        assert_eq!(answer.code, code, "{query}");
        world.pass(Duration::from_secs(600));
    }
    assert_eq!(world.endpoint.associations(), 0);
}

#[test]
fn updates_and_de_registers_that_are_wrong_are_refused_and_change_nothing() {
    // LwM2M Core 1.2.1 §6.2.2, §6.2.3
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1&b=U", LINKS);
    world.told();
    for (query, links) in [
        ("lt=x", ""),
        ("lt=", ""),
        ("lt=-1", ""),
        ("lt=4294967296", ""),
        ("lt=30&lt=40", ""),
        ("b=Z", ""),
        ("lt=30", "no links"),
        ("lt=30", "</1/0>,</3/0"),
    ] {
        let update = format!("{location}?{query}");
        let answer = device.request(&mut world, Code::POST, &update, links.as_bytes()).unwrap();
        assert_eq!(answer.code, Code::BAD_REQUEST, "{query} {links}");
    }
    let seen = world.endpoint.device("a").unwrap();
    assert_eq!((seen.lifetime, &*seen.objects), (60, LINKS));
    for elsewhere in ["rd/zzzz", "rd/..", &format!("{location}x")] {
        for code in [Code::POST, Code::DELETE] {
            let answer = device.request(&mut world, code, elsewhere, b"").unwrap();
            assert_eq!(answer.code, Code::NOT_FOUND, "{elsewhere}");
        }
    }
    assert_eq!(device.request(&mut world, Code::DELETE, "rd", b"").unwrap().code, Code::BAD_REQUEST);
    assert!(world.told().is_empty());
    assert_eq!(device.request(&mut world, Code::DELETE, &location, b"").unwrap().code, Code::DELETED);
    for code in [Code::POST, Code::DELETE] {
        assert_eq!(device.request(&mut world, code, &location, b"").unwrap().code, Code::NOT_FOUND);
    }
}

#[test]
fn without_security_nobody_comes_in_unless_it_is_opened() {
    let mut world = World::new(false);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let answer = device.request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS.as_bytes()).unwrap();
    assert_eq!(answer.code, Code::FORBIDDEN);
    assert_eq!(world.told(), ["refused a: plain coap is not allowed for it"]);
    assert_eq!(world.endpoint.associations(), 0);
    assert!(world.endpoint.devices().is_empty());
}

#[test]
fn a_device_with_a_credential_is_never_accepted_without_it() {
    let mut world = World::new(true);
    world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let answer = device.request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS.as_bytes()).unwrap();
    assert_eq!(answer.code, Code::FORBIDDEN);
    assert_eq!(world.endpoint.associations(), 0);
}

#[test]
fn strangers_are_answered_without_being_kept() {
    let mut world = World::new(true);
    for port in 1000..3000 {
        let mut device = Device::plain(Listener::Coap, port);
        let answer = device.request(&mut world, Code::POST, "rd/AAAA", b"").unwrap();
        assert_eq!(answer.code, Code::NOT_FOUND);
    }
    assert_eq!(world.endpoint.associations(), 0);
}

#[test]
fn the_location_of_another_device_is_not_found() {
    let mut world = World::new(true);
    let mut first = Device::plain(Listener::Coap, 40_000);
    let mut second = Device::plain(Listener::Coap, 40_001);
    let location = first.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    second.register(&mut world, "ep=b&lt=60&lwm2m=1.1", LINKS);
    for code in [Code::POST, Code::DELETE] {
        assert_eq!(second.request(&mut world, code, &location, b"").unwrap().code, Code::NOT_FOUND);
    }
    assert!(world.endpoint.device("a").is_some());
}

#[test]
fn over_dtls_the_name_must_be_the_proven_one_or_may_be_left_out() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    assert!(device.established);
    let answer = device.request(&mut world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", LINKS.as_bytes()).unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
    assert!(world.endpoint.devices().is_empty());
    device.register(&mut world, "lt=60&lwm2m=1.1", LINKS);
    let seen = world.endpoint.device("a").unwrap();
    assert!(seen.secure);
    assert_eq!(seen.generation, 1);
    assert_eq!(
        world.told(),
        ["established a management", "refused a: a proved its name and claimed b", "registered a"]
    );
}

#[test]
fn a_wrong_key_and_an_unknown_identity_look_the_same_to_the_device() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut lengths = Vec::new();
    for (port, identity, key) in [(1, identity.as_str(), [8; 16]), (2, "nobody-xxxxxxxxx", KEY)] {
        let mut device = Device::plain(Listener::Coaps, port);
        device.connect(&mut world, identity, &key);
        assert!(!device.established);
        lengths.push(world.sent.len());
    }
    world.pass(Duration::from_secs(200));
    assert_eq!(lengths, [0, 0]);
    assert_eq!(world.endpoint.associations(), 0);
    assert_eq!(
        world.told(),
        [
            "handshake refused nobody-xxxxxxxxx: unknown identity",
            "handshake refused a-management: the peer has another key for this identity",
        ]
    );
}

/// Everything the server sends, and when, to a device that tries for 200 seconds with this identity and key.
fn sent_to_a_stranger(identity: &str, key: &[u8]) -> (Vec<(u64, Vec<u8>)>, Vec<String>) {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    world.enrol("b", Role::Management);
    world.credentials.suspend(world.now.as_millis(), "test", "b", "stolen").unwrap();
    let mut device = Device::plain(Listener::Coaps, 1);
    device.begin(&mut world, identity, key);
    let (began, mut sent) = (world.now, Vec::new());
    for _ in 0..200 {
        let mut quiet = false;
        while !quiet {
            let due = device.due(&world);
            quiet = due.is_empty() && world.sent.is_empty();
            due.iter().for_each(|datagram| world.receive(device.local, device.address, datagram));
            for (_, _, datagram) in std::mem::take(&mut world.sent) {
                device.take(&world, &datagram);
                sent.push((world.now.as_millis().saturating_sub(began.as_millis()), datagram));
            }
        }
        world.pass(Duration::from_secs(1));
        device.wait(&world);
    }
    assert!(!device.established);
    assert_eq!(world.endpoint.associations(), 0);
    (sent, world.told())
}

#[test]
fn whoever_has_no_key_gets_the_same_bytes_at_the_same_times_whatever_the_reason() {
    let (unknown, told) = sent_to_a_stranger("c-management", &KEY);
    assert_eq!(told, ["handshake refused c-management: unknown identity"]);
    assert_eq!(unknown.len(), 2, "a cookie, and the ServerHello: {unknown:?}");
    let (wrong, told) = sent_to_a_stranger("a-management", &[8; 16]);
    assert_eq!(told, ["handshake refused a-management: the peer has another key for this identity"]);
    let (suspended, told) = sent_to_a_stranger("b-management", &KEY);
    assert!(told.iter().any(|told| told.contains("suspended")), "{told:?}");
    assert_eq!(unknown, wrong);
    assert_eq!(unknown, suspended);
}

#[test]
fn a_wrong_key_is_told_although_the_device_begins_anew_before_the_deadline() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    for _ in 0..3 {
        device.connect(&mut world, &identity, &[8; 16]);
        world.pass(Duration::from_secs(30));
    }
    let told = "handshake refused a-management: the peer has another key for this identity";
    assert_eq!(world.told(), [told; 2]);
    // The right key at last.
    device.connect(&mut world, &identity, &KEY);
    assert_eq!(world.told(), [told, "established a management"]);
    assert_eq!(world.endpoint.counters().handshakes_failed, 3);
}

#[test]
fn a_device_that_understands_one_message_in_a_record_gets_in_at_its_second_try() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    for records in [1, 2] {
        device.begin(&mut world, &identity, &KEY);
        device.step(&mut world);
        for hello in device.due(&world) {
            world.receive(device.local, device.address, &hello);
        }
        let (_, _, flight) = world.sent.back().unwrap();
        let first = 13 + usize::from(u16::from_be_bytes([flight[11], flight[12]]));
        assert_eq!(1 + usize::from(flight.len() > first), records, "ServerHello and ServerHelloDone");
        if records == 1 {
            world.sent.clear();
            // handshake_failure, as tinydtls says it.
            let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 2, 40];
            world.receive(device.local, device.address, &alert);
        }
    }
    device.run(&mut world);
    assert!(device.established);
}

#[test]
fn who_begins_many_handshakes_and_finishes_none_keeps_nobody_out() {
    let mut config = lwm2m_server::endpoint::Config::default();
    config.handshakes = 4;
    let mut world = World::with(config, false);
    let identity = world.enrol("a", Role::Management);
    for port in 1..40 {
        let mut stalled = Device::plain(Listener::Coaps, port);
        stalled.begin(&mut world, &identity, &KEY);
        stalled.step(&mut world);
        for hello in stalled.due(&world) {
            world.receive(stalled.local, stalled.address, &hello);
        }
        assert!(world.endpoint.associations() <= 4);
    }
    let device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    assert!(device.established);
    world.pass(Duration::from_secs(200));
    assert_eq!(world.endpoint.associations(), 1);
}

#[test]
fn a_flood_of_refused_handshakes_is_counted_and_told_at_a_rate() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let refuse = |world: &mut World, ports: core::ops::Range<u16>| {
        for port in ports {
            let mut device = Device::plain(Listener::Coaps, port);
            // Each but the last gives way to the next one.
            for _ in 0..4 {
                device.connect(world, &identity, &[8; 16]);
            }
        }
    };
    refuse(&mut world, 1..101);
    assert_eq!(world.told().len(), 100);
    assert_eq!(world.endpoint.counters().untold_refusals, 200);
    world.pass(Duration::from_secs(2));
    refuse(&mut world, 101..121);
    assert_eq!(world.told().len(), 20);
}

#[test]
fn who_is_refused_again_and_again_is_answered_ever_more_rarely_and_others_as_before() {
    let mut world = World::new(false);
    let revoked = world.enrol("revoked", Role::Management);
    world.enrol("good", Role::Management);
    world.credentials.revoke(world.now.as_millis(), "test", "revoked", None, "lost").unwrap();
    let mut begun = Vec::new();
    for (port, identity, key) in
        [(1, revoked.as_str(), KEY), (2, "nobody", KEY), (3, "good-management", [8; 16])]
    {
        let before = world.endpoint.counters().handshakes_begun;
        for _ in 0..100 {
            Device::plain(Listener::Coaps, port).connect(&mut world, identity, &key);
            world.pass(Duration::from_secs(1));
        }
        begun.push(world.endpoint.counters().handshakes_begun.saturating_sub(before));
    }
    assert_eq!(begun[0], begun[1], "nothing shows why one is refused");
    assert_eq!(begun[1], begun[2]);
    assert!((5..15).contains(&begun[0]), "{begun:?}");
    assert!(world.endpoint.counters().handshakes_silenced > 200);

    // From the same address, once it waited; and from another one at once.
    world.pass(Duration::from_secs(32));
    for port in [3, 4] {
        let device = Device::secure(&mut world, Listener::Coaps, port, "good-management", &KEY);
        assert!(device.established, "from port {port}");
    }
    let mut liar = Device::plain(Listener::Coaps, 3);
    liar.connect(&mut world, "good-management", &[8; 16]);
    let device = Device::secure(&mut world, Listener::Coaps, 3, "good-management", &KEY);
    assert!(device.established, "a success starts the count anew");
}

#[test]
fn every_refused_register_is_told_of_with_its_reason() {
    let mut config = Config::default();
    config.devices = 1;
    let mut world = World::with(config, true);
    let mut device = Device::plain(Listener::Coap, 1);
    for (uri, links, code, told) in [
        ("rd?ep=a&lt=60&lwm2m=2.0", LINKS, Code::PRECONDITION_FAILED, "refused a: it speaks LwM2M 2.0"),
        ("rd?ep=a&lt=60&lwm2m=1.1", "", Code::BAD_REQUEST, "refused a: the Register has no object list"),
        ("rd?ep=a&lt=60&lwm2m=1.2", "", Code::CONFLICT, "refused a: the Register has no object list"),
        (
            "rd?ep=a&lt=60&lwm2m=1.1",
            "no list",
            Code::BAD_REQUEST,
            "refused a: the parameters or the object list of the Register cannot be read",
        ),
        ("rd?lt=60&lwm2m=1.1", LINKS, Code::BAD_REQUEST, "refused : it does not say its name"),
    ] {
        let answer = device.request(&mut world, Code::POST, uri, links.as_bytes()).unwrap();
        assert_eq!((answer.code, world.told().as_slice()), (code, [told.to_owned()].as_slice()), "{uri}");
    }
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    world.told();
    let mut other = Device::plain(Listener::Coap, 2);
    let answer = other.request(&mut world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", LINKS.as_bytes()).unwrap();
    assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(world.told(), ["refused b: as many devices are registered as this server takes"]);
    assert_eq!((world.endpoint.counters().registers_turned_away, world.endpoint.counters().refused), (1, 6));
}

#[test]
fn the_object_lists_of_all_devices_take_no_more_memory_than_they_may() {
    let mut config = Config::default();
    config.object_lists = 3 * LINKS.len();
    let mut world = World::with(config, true);
    let mut devices: Vec<_> = (0..10).map(|port| Device::plain(Listener::Coap, port)).collect();
    let mut say = |world: &mut World, number: usize, uri: &str, links: &str| {
        let answer = devices[number].request(world, Code::POST, uri, links.as_bytes()).unwrap();
        (answer.code, answer.path(OptionNumber::LOCATION_PATH).trim_start_matches('/').to_owned())
    };
    let register = |number: usize| format!("rd?ep={number}&lt=60&lwm2m=1.1");
    let list = |instance: u8| format!("</1/0>,</3/{instance}>");
    // Equal ones are kept once.
    let mut locations = vec![String::new()];
    for (number, instance) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 0)] {
        let (code, location) = say(&mut world, number, &register(number), &list(instance));
        assert_eq!(code, Code::CREATED);
        locations.push(location);
    }
    world.told();
    assert_eq!(say(&mut world, 7, &register(7), &list(3)).0, Code::SERVICE_UNAVAILABLE);
    assert_eq!(world.told(), ["refused 7: the object lists of all devices take as much memory as they may"]);

    // An Update with one more is refused, and leaves the registration as it is; without a list it is not.
    assert_eq!(say(&mut world, 1, &locations[1], &list(3)).0, Code::SERVICE_UNAVAILABLE);
    assert_eq!(&*world.endpoint.device("1").unwrap().objects, LINKS);
    assert_eq!(say(&mut world, 1, &locations[1], "").0, Code::CHANGED);
    assert_eq!(world.endpoint.counters().lists_turned_away, 2);
    // One that takes the place of another which nobody else has needs no more than there is, in an Update and in a Register.
    assert_eq!(say(&mut world, 3, &locations[3], &list(3)).0, Code::CHANGED);
    assert_eq!(say(&mut world, 3, &register(3), &list(4)).0, Code::CREATED);
    assert_eq!(say(&mut world, 7, &register(7), &list(1)).0, Code::SERVICE_UNAVAILABLE);
    // And who is gone makes room.
    world.pass(Duration::from_secs(61));
    assert!(world.endpoint.devices().is_empty());
    for (number, instance) in [(7, 5), (8, 6), (9, 7)] {
        assert_eq!(say(&mut world, number, &register(number), &list(instance)).0, Code::CREATED);
    }
}

#[test]
fn a_registration_does_not_lapse_while_its_updates_are_turned_away() {
    let mut config = Config::default();
    (config.object_lists, config.assembling) = (LINKS.len(), 1000);
    let mut world = World::with(config, true);
    let mut device = Device::plain(Listener::Coap, 1);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    world.told();
    // In one message, where the list has no room, and in blocks that have none.
    for round in 0..4 {
        world.pass(Duration::from_secs(45));
        let uri = format!("{location}?lt=86400");
        let answer = match round % 2 {
            0 => device.request(&mut world, Code::POST, &uri, b"</1/0>,</3/0>,</4/0>").unwrap(),
            _ => device.request_block(&mut world, &uri, &[0x0e], &[b'<'; 1024]),
        };
        assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE, "{round}");
        assert!(answer.option(OptionNumber::MAX_AGE).is_some());
    }
    let known = world.endpoint.device("a").unwrap();
    assert_eq!((&*known.objects, known.lifetime), (LINKS, 60), "nothing of it is done");
    assert_eq!(world.told(), Vec::<String>::new());
    // Who is not heard any more lapses as ever, and another one's location keeps nobody.
    let mut other = Device::plain(Listener::Coap, 2);
    for _ in 0..2 {
        world.pass(Duration::from_secs(31));
        other.request_block(&mut world, &format!("{location}?lt=86400"), &[0x0e], &[b'<'; 1024]);
    }
    assert!(world.endpoint.device("a").is_none());
}

/// A device that registers says that it knows of no registration: the one before is not kept for it, and its end makes room.
#[test]
fn a_registration_lapses_while_the_next_register_of_its_device_is_turned_away() {
    let mut config = Config::default();
    config.object_lists = LINKS.len();
    let mut world = World::with(config, true);
    let mut device = Device::plain(Listener::Coap, 1);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    let longer = [LINKS.as_bytes(), b",</4/0>"].concat();
    let mut other = Device::plain(Listener::Coap, 2);
    other.register(&mut world, "ep=b&lt=60&lwm2m=1.1", LINKS);
    world.told();
    let again = "rd?ep=a&lt=86400&lwm2m=1.1";
    let answer = device.request(&mut world, Code::POST, again, &longer).unwrap();
    assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
    let known = world.endpoint.device("a").unwrap();
    assert_eq!((&*known.objects, known.lifetime), (LINKS, 60), "nothing of it is done");
    world.pass(Duration::from_secs(61));
    assert!(world.endpoint.device("a").is_none());
    assert_eq!(device.request(&mut world, Code::POST, again, LINKS.as_bytes()).unwrap().code, Code::CREATED);
}

#[test]
fn an_update_that_is_turned_away_in_another_session_brings_the_registration_there() {
    let mut config = Config::default();
    config.object_lists = LINKS.len();
    let mut world = World::with(config, false);
    let given = |identity: &str| KeyMaterial::Given {
        identity: Identity::new(identity.as_bytes()).unwrap(),
        key: Key::new(KEY.to_vec()).unwrap(),
    };
    let accounts = vec![
        EnrolAccount { role: Role::Bootstrap, key: given("bootstrap") },
        EnrolAccount { role: Role::Management, key: given("old") },
    ];
    let now = world.now.as_millis();
    world.credentials.enrol(now, "test", "a", &Enrol { accounts, ..Enrol::default() }).unwrap();
    let mut old = Device::secure(&mut world, Listener::Coaps, 1, "old", &KEY);
    let location = old.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    let rotate = Rotate { key: Some(given("new")), ..Rotate::default() };
    world.credentials.rotate(now, "test", "a", &rotate).unwrap();
    // The registration goes on in the session of the new credential, and the device says more in that of the old one.
    let _new = Device::secure(&mut world, Listener::Coaps, 2, "new", &KEY);
    let answer = old.request(&mut world, Code::POST, &location, b"</1/0>,</3/0>,</4/0>").unwrap();
    assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
    world.request("a", Operation::Read { path: "/3/0/0".parse().unwrap(), format: None }).unwrap();
    assert_eq!(old.asked(&mut world).code, Code::GET);
}

#[test]
fn devices_that_are_turned_away_together_are_told_to_come_again_at_different_times() {
    let mut config = Config::default();
    config.devices = 1;
    let mut world = World::with(config, true);
    Device::plain(Listener::Coap, 1).register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    let mut seconds: Vec<u8> = (0..100)
        .map(|n| {
            let mut device = Device::plain(Listener::Coap, 1000 + n);
            let uri = format!("rd?ep=d{n}&lt=60&lwm2m=1.1");
            let answer = device.request(&mut world, Code::POST, &uri, LINKS.as_bytes()).unwrap();
            assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
            answer.option(OptionNumber::MAX_AGE).unwrap()[0]
        })
        .collect();
    assert!(seconds.iter().all(|seconds| (30..=90).contains(seconds)));
    seconds.sort_unstable();
    seconds.dedup();
    assert!(seconds.len() > 30, "{seconds:?}");
}

#[test]
fn what_is_dropped_is_counted_by_its_reason() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 1, &identity, &KEY);
    let (local, from) = (device.local, device.address);
    let record = device.sealed(&support::request(1, Code::GET, "x", b""));
    let mut forged = record.clone();
    *forged.last_mut().unwrap() ^= 1;
    let before = *world.endpoint.counters();
    world.receive(local, from, b"\x17\xfe\xfd no record");
    world.receive(local, from, &forged);
    world.receive(local, from, &record);
    world.receive(local, from, &record);
    let counters = *world.endpoint.counters();
    let since = |count: fn(&lwm2m_server::endpoint::Counters) -> u64| count(&counters) - count(&before);
    assert_eq!(since(|counters| counters.datagrams), 4);
    assert_eq!(since(|counters| counters.records_unauthenticated), 1);
    assert_eq!(since(|counters| counters.records_replayed), 1);
    let all = since(|counters| {
        let listed = counters.list().into_iter().filter(|(name, _)| name.starts_with("records_"));
        listed.map(|(_, count)| count).sum()
    });
    assert_eq!(all, 3, "{counters:?}");
}

#[test]
fn a_flood_of_refusals_is_counted_and_told_in_part() {
    let mut world = World::new(false);
    for port in 1..1000 {
        let mut stranger = Device::plain(Listener::Coap, port);
        let answer = stranger.request(&mut world, Code::POST, "rd?ep=x&lt=60&lwm2m=1.1", LINKS.as_bytes());
        assert_eq!(answer.unwrap().code, Code::FORBIDDEN);
    }
    assert_eq!(world.endpoint.counters().refused, 999);
    assert_eq!(world.told().len(), 100);
    world.pass(Duration::from_secs(1));
    for port in 1..100 {
        let mut stranger = Device::plain(Listener::Coap, port);
        stranger.request(&mut world, Code::POST, "rd?ep=x&lt=60&lwm2m=1.1", LINKS.as_bytes());
    }
    assert_eq!(world.told().len(), 10);
}

#[test]
fn a_flood_of_hellos_without_cookies_allocates_nothing() {
    let mut world = World::new(false);
    for port in 1..2000 {
        // Only the first flight: the answer, a HelloVerifyRequest, is left unread.
        let mut device = Device::plain(Listener::Coaps, port);
        let psk = dtls_psk::Psk { identity: b"x", key: &KEY };
        let now = dtls_psk::Instant::from_millis(0);
        let mut rng = |bytes: &mut [u8]| bytes.fill(5);
        let mut session = dtls_psk::Connection::<512, Box<dtls_psk::Handshake<512>>>::client(
            now,
            &dtls_psk::Config::DEFAULT,
            psk,
            &mut rng,
            Box::default(),
        )
        .unwrap();
        let mut out = [0; 500];
        let length = session.poll_transmit(now, &mut out).unwrap();
        world.receive(Listener::Coaps, device.address, &out[..length]);
        device.local = Listener::Coaps;
    }
    assert_eq!(world.endpoint.associations(), 0);
    assert_eq!(world.sent.len(), 1999);
    assert!(world.sent.iter().all(|(_, _, bytes)| bytes.len() <= 75));
}

#[test]
fn a_new_handshake_runs_beside_the_live_session_and_takes_the_registration_along() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "ep=a&lt=600&lwm2m=1.1", LINKS);

    // A handshake from the same address with a wrong key: the live session goes on.
    let mut liar = Device::plain(Listener::Coaps, 40_000);
    liar.connect(&mut world, &identity, &[9; 16]);
    assert!(!liar.established);
    let answer = device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);

    // The device itself, after a restart.
    let mut again = Device::plain(Listener::Coaps, 40_000);
    again.connect(&mut world, &identity, &KEY);
    assert!(again.established);
    let answer = again.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    assert_eq!(world.endpoint.associations(), 1);
    assert!(device.request(&mut world, Code::POST, &location, b"").is_none());
}

#[test]
fn another_identity_on_the_same_address_neither_inherits_nor_destroys_the_registration() {
    let mut world = World::new(false);
    let first = world.enrol("a", Role::Management);
    let second = world.enrol("b", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &first, &KEY);
    let location = device.register(&mut world, "ep=a&lt=600&lwm2m=1.1", LINKS);
    let mut other = Device::secure(&mut world, Listener::Coaps, 40_000, &second, &KEY);
    assert!(other.established);
    assert_eq!(other.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::NOT_FOUND);
    assert!(world.endpoint.device("a").is_some());
    // The first one comes back from elsewhere and finds its registration.
    let mut back = Device::secure(&mut world, Listener::Coaps, 40_001, &first, &KEY);
    assert_eq!(back.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
}

#[test]
fn revocation_cuts_the_live_session_at_its_next_record() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "ep=a&lt=600&lwm2m=1.1", LINKS);
    world.told();
    let commands = world.credentials.revoke(world.now.as_millis(), "test", "a", None, "lost").unwrap();
    for command in commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.settle();
    assert!(device.request(&mut world, Code::POST, &location, b"").is_none());
    assert_eq!(world.endpoint.associations(), 0);
    assert!(world.endpoint.devices().is_empty());
    assert_eq!(
        world.told(),
        ["deregistered a", "closed a: the credential is no longer good"]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    device.connect(&mut world, &identity, &KEY);
    assert!(!device.established);
    assert_eq!(world.told(), ["handshake refused a-management: revoked"]);
}

#[test]
fn a_session_that_its_device_closes_leaves_the_registration_without_a_way() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    device.register(&mut world, "ep=a&lt=600&lwm2m=1.1", LINKS);
    device.session.as_mut().unwrap().close();
    device.run(&mut world);
    assert_eq!(world.endpoint.associations(), 0);
    assert!(world.endpoint.device("a").is_some());
    let read = lwm2m_server::Operation::Read { path: "/3/0".parse().unwrap(), format: None };
    assert_eq!(world.request("a", read), Err(lwm2m_server::RequestError::Unreachable));
    assert!(!device.got.iter().any(|got| got.kind == Kind::Reset));
}

#[test]
fn a_registration_without_a_session_ends_with_the_generation_it_was_made_in() {
    for (role, generation, ends) in [
        (Role::Management, None, true),
        (Role::Management, Some(1), true),
        (Role::Management, Some(2), false),
        (Role::Bootstrap, None, false),
    ] {
        let mut world = World::new(false);
        let identity = world.enrol("a", Role::Management);
        let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
        device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", LINKS);
        device.session.as_mut().unwrap().close();
        device.run(&mut world);
        assert_eq!(world.endpoint.associations(), 0);
        world.told();
        assert_eq!(world.endpoint.close_sessions(world.now, "a", role, generation, "revoked"), 0);
        world.settle();
        assert_eq!(world.endpoint.device("a").is_none(), ends, "{role:?} {generation:?}");
        assert_eq!(world.told().contains(&"deregistered a".to_owned()), ends);
    }
}

#[test]
fn sessions_that_are_not_admitted_displace_none_that_is() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut devices: Vec<_> =
        (0..4).map(|n| Device::secure(&mut world, Listener::Coaps, 40_000 + n, &identity, &KEY)).collect();
    let mut late = Device::plain(Listener::Coaps, 41_000);
    late.begin(&mut world, &identity, &KEY);
    for _ in 0..2 {
        for datagram in late.due(&world) {
            world.receive(late.local, late.address, &datagram);
        }
        late.take_all(&mut world);
    }
    for datagram in late.due(&world) {
        world.receive_unsettled(late.local, late.address, &datagram);
    }
    let looked_up = world.judge(Verdict::Key { key: KEY.to_vec().into(), who: proven("a") });
    assert!(matches!(looked_up, Question::LookUp { .. }));
    let asked = world.judge(Verdict::Refused { reason: "it was revoked".to_owned() });
    assert!(matches!(asked, Question::Admit { who: Who::Proven(_) }));
    world.settle();
    let answer = devices[0].request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS.as_bytes());
    assert_eq!(answer.unwrap().code, Code::CREATED, "the oldest one is there");

    // One that is admitted takes the place of the oldest without a registration.
    Device::secure(&mut world, Listener::Coaps, 42_000, &identity, &KEY);
    assert!(devices[1].request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", b"</1/0>").is_none());
    assert!(devices[2].request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", b"</1/0>").is_some());
}

#[test]
fn devices_with_sessions_keep_nobody_out_who_comes_without() {
    let mut config = Config::default();
    config.unregistered = 3;
    let mut world = World::with(config, true);
    for n in 0..5 {
        let identity = world.enrol(&format!("secure-{n}"), Role::Management);
        assert!(Device::secure(&mut world, Listener::Coaps, 40_000 + n, &identity, &KEY).established);
    }
    let mut registered = Vec::new();
    for n in 0..5 {
        let mut device = Device::plain(Listener::Coap, 41_000 + n);
        registered
            .push((device.register(&mut world, &format!("ep=open-{n}&lt=86400&lwm2m=1.1"), LINKS), device));
    }
    let bootstrap = |world: &mut World, port| {
        Device::plain(Listener::BootstrapCoap, port).request(world, Code::POST, "bs?ep=new", b"").is_some()
    };
    // Who is bootstrapped has no registration, and so many are kept at once.
    let answered: Vec<_> = (0..5).map(|n| bootstrap(&mut world, 42_000 + n)).collect();
    assert_eq!(answered, [true, true, true, false, false]);
    assert_eq!(world.endpoint.counters().turned_away, 2);
    world.pass(Duration::from_secs(301));
    assert!(bootstrap(&mut world, 43_000), "they are gone");

    // Whoever was registered without security and is not any more is not kept for a day.
    let before = world.endpoint.associations();
    for (location, device) in &mut registered {
        assert_eq!(device.request(&mut world, Code::DELETE, location, b"").unwrap().code, Code::DELETED);
    }
    world.pass(Duration::from_secs(301));
    assert!(world.endpoint.associations() <= before - 5);
}

#[test]
fn a_long_object_list_comes_in_blocks() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let links: String = (0..40).map(|n| format!("</3303/{n}>,")).collect::<String>() + "</1/0>";
    let blocks: Vec<&[u8]> = links.as_bytes().chunks(256).collect();
    for (number, block) in blocks.iter().enumerate() {
        let more = number < blocks.len().saturating_sub(1);
        let value = [u8::try_from(number).unwrap() << 4 | u8::from(more) << 3 | 4];
        let answer = device.request_block(&mut world, "rd?ep=a&lt=60&lwm2m=1.1", &value, block);
        assert_eq!(answer.code, if more { Code::CONTINUE } else { Code::CREATED });
        assert_eq!(answer.option(OptionNumber::BLOCK1), Some(&value[..]));
    }
    assert_eq!(*world.endpoint.device("a").unwrap().objects, links);
}

#[test]
fn a_credential_that_ends_during_the_handshake_opens_no_session() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 40_000);
    device.begin(&mut world, &identity, &KEY);
    // ClientHello, HelloVerifyRequest, ClientHello, ServerHello; then the flight up to the Finished.
    for _ in 0..2 {
        device.step(&mut world);
    }
    for datagram in device.due(&world) {
        world.receive_unsettled(Listener::Coaps, device.address, &datagram);
    }
    let key = world.credentials.look_up(Role::Management, identity.as_bytes()).unwrap();
    let verdict = Verdict::Key { key: KEY.to_vec().into(), who: key.who.clone() };
    assert!(matches!(world.judge(verdict), Question::LookUp { .. }));
    let asked = world.judge(Verdict::Refused { reason: "revoked".to_owned() });
    assert_eq!(asked, Question::Admit { who: Who::Proven(key.who) });
    world.settle();
    assert_eq!(world.endpoint.associations(), 0);
    assert_eq!(world.told(), ["closed a: revoked"]);
}

#[test]
fn a_session_outlives_its_registration_so_that_a_late_update_is_answered() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "ep=a&lt=1000&lwm2m=1.1", LINKS);
    world.pass(Duration::from_secs(5000));
    assert!(world.endpoint.devices().is_empty());
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::NOT_FOUND);
    device.register(&mut world, "ep=a&lt=1000&lwm2m=1.1", LINKS);
}

#[test]
fn an_address_that_comes_back_under_another_name_leaves_the_former_one() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    device.register(&mut world, "ep=b&lt=60&lwm2m=1.1", LINKS);
    assert_eq!(world.told(), ["registered a", "deregistered a", "registered b"]);
    assert_eq!(world.endpoint.close_sessions(world.now, "a", Role::Management, None, "test"), 0);
    assert_eq!(world.endpoint.close_sessions(world.now, "b", Role::Management, None, "test"), 1);
}

/// LwM2M Core 1.2.1 §6.5.
#[test]
fn a_device_in_queue_mode_listens_for_a_while_after_each_of_its_messages_and_its_awakening_is_told() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=6000&lwm2m=1.1&Q", LINKS);
    let mut other = Device::plain(Listener::Coap, 40_001);
    let always = other.register(&mut world, "ep=b&lt=6000&lwm2m=1.1", LINKS);
    world.told();
    let awake = |world: &World, name: &str| {
        let device = world.endpoint.device(name).unwrap();
        device.is_awake(world.now.as_millis())
    };
    assert!(awake(&world, "a"));
    world.pass(Duration::from_millis(92_900));
    assert!(awake(&world, "a"));
    // Any message will do, also one that changes nothing, and nothing is told of a device that was awake.
    device.request(&mut world, Code::GET, "rd", b"");
    assert_eq!(world.told(), [""; 0]);
    world.pass(Duration::from_millis(92_900));
    assert!(awake(&world, "a"));
    world.pass(Duration::from_secs(1));
    assert!(!awake(&world, "a") && awake(&world, "b"));
    device.request(&mut world, Code::GET, "rd", b"");
    other.request(&mut world, Code::POST, &always, b"");
    assert_eq!(world.told(), ["awake a", "updated b"]);

    // It fell asleep earlier: nobody answers, and it is known as soon as that is clear.
    let read = Operation::Read { path: "/3/0/9".parse().unwrap(), format: None };
    let [asked, waits] = [0; 2].map(|_| world.request("a", read.clone()).unwrap());
    let answered = world.request("b", read.clone()).unwrap();
    other.asked(&mut world);
    world.pass(Duration::from_secs(94));
    assert_eq!(world.outcome(asked), Err(RequestError::TimedOut), "it may have been executed");
    assert_eq!(world.outcome(waits), Err(RequestError::NotSent));
    assert_eq!(world.outcome(answered), Err(RequestError::TimedOut));
    assert_eq!(world.endpoint.device("a").unwrap().awake_until, Some(0));
    device.request(&mut world, Code::POST, &location, b"");
    assert_eq!(world.told(), ["awake a", "updated a"]);
    assert!(awake(&world, "a"));
}
