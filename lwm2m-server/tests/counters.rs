//! Each counter of something that is dropped, turned away or refused: what it counts is provoked, and no other one rises.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use dtls_psk::ConnectionId;
use lwm2m_coap::{Code, Kind, OptionNumber, Token};
use lwm2m_server::credentials::{Authenticated, Role};
use lwm2m_server::endpoint::{Config, Counters, Listener, Verdict};
use lwm2m_server::{Operation, Path, Value, WriteMode};
use support::{Device, Got, KEY, World, address, request};

const PLAIN: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);
const LINKS: &str = "</1/0>,</3/0>";
const REGISTER: &str = "rd?ep=a&lt=86400&lwm2m=1.1";

/// What was counted, by name.
type Counted = Vec<(&'static str, u64)>;

/// Which counters rise, the first of them for what the row is about; on which server, by what. Answers what was counted before it.
type Row = (&'static [(&'static str, u64)], fn() -> World, fn(&mut World) -> Counted);

/// What is counted and lost nothing.
const NOT_DROPPED: &[&str] = &[
    "datagrams",
    "duplicates",
    "moved",
    "passed_on",
    "path_challenges",
    "look_ups",
    "look_ups_shared",
    "works",
    "cookies_sent",
    "handshakes_begun",
    "handshakes_finished",
    "sessions_resumed",
    "registered",
    "updated",
    "expired",
    "requests_sent",
    "notifications",
    "reports",
    "bootstraps_finished",
    "bootstraps_failed",
    "sessions_closed",
    "restored",
];

const RESTART: &str = "it_is_told_and_counted_why_who_does_not_go_on";

/// What no endpoint in memory can be brought to: the driver counts it, a session whose numbers are used up takes too long to
/// make, and a restart has rules of its own, as have devices under OSCORE. Where it is tested.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "oversized",
        "tests/driver.rs",
        "a_device_registers_over_udp_is_read_and_the_driver_ends_with_its_handles",
    ),
    ("unsent", "src/driver/sockets.rs", "what_the_system_does_not_take_is_counted"),
    ("overrun", "src/driver/mod.rs", "a_datagram_that_its_way_has_no_room_for_is_counted"),
    ("seal_failed", "src/endpoint/association.rs", "what_no_record_can_be_made_of_is_counted"),
    (
        "tickets_too_long",
        "../interop-tests/tests/tickets.rs",
        "a_name_that_is_too_long_for_a_ticket_is_told_by_the_metrics_once_it_is_proven",
    ),
    (
        "contexts_unknown",
        "tests/oscore.rs",
        "an_unknown_kid_or_a_wrong_key_is_told_as_rfc_8613_says_and_leaves_nothing",
    ),
    ("unverified", "tests/oscore.rs", "who_knows_ids_but_no_keys_changes_nothing"),
    ("requests_replayed", "tests/oscore.rs", "a_replayed_request_is_refused_and_carried_out_once"),
    ("reservations_failed", "tests/oscore.rs", "where_nothing_can_be_reserved_nothing_is_sent"),
    (
        "reservations_overtaken",
        "tests/oscore.rs",
        "contexts_with_a_sender_key_in_common_have_no_number_in_common",
    ),
    ("not_restored_not_admitted", "tests/restart.rs", RESTART),
    ("not_restored_not_listening", "tests/restart.rs", RESTART),
    ("not_restored_too_old", "tests/restart.rs", RESTART),
    ("not_restored_unreadable", "tests/restart.rs", RESTART),
    ("not_restored_no_room", "tests/restart.rs", RESTART),
];

const ROWS: &[Row] = &[
    // --- Messages
    (&[("malformed", 1)], open, |world| {
        let before = counted(world);
        world.receive(Listener::Coap, address(1), &[0x40, 1, 0, 1, 0xff]);
        before
    }),
    (&[("strangers", 1)], open, |world| {
        let before = counted(world);
        world.receive(Listener::Coap, address(1), &request(7, Code::GET, "3/0", b""));
        before
    }),
    (
        &[("challenged", 1)],
        || limited(|config| config.challenge = true),
        |world| {
            let before = counted(world);
            world.receive(Listener::Coap, address(1), &request(7, Code::POST, REGISTER, LINKS.as_bytes()));
            before
        },
    ),
    (&[("unknown_notifications", 1)], open, |world| {
        let (mut device, _) = registered(world, 1);
        let before = counted(world);
        device.notify(world, Kind::NonConfirmable, Token::new(&[1, 2]).unwrap(), 5, &[PLAIN], b"1");
        before
    }),
    (&[("stale_notifications", 1)], open, |world| {
        let (mut device, _) = registered(world, 1);
        let observed = observed(world, &mut device);
        device.notify(world, Kind::NonConfirmable, observed.token, 5, &[PLAIN], b"1");
        let before = counted(world);
        device.notify(world, Kind::NonConfirmable, observed.token, 4, &[PLAIN], b"1");
        before
    }),
    (
        &[("unfetched_blocks", 1)],
        || limited(|config| config.queue = 1),
        |world| {
            let (mut device, _) = registered(world, 1);
            let observed = observed(world, &mut device);
            world.request("a", read()).unwrap();
            world.request("a", read()).unwrap();
            let before = counted(world);
            let first = (OptionNumber::BLOCK2, &[0x0e][..]);
            device.notify(world, Kind::NonConfirmable, observed.token, 5, &[PLAIN, first], &[b'x'; 1024]);
            before
        },
    ),
    (
        &[("over_rate", 1)],
        || limited(|config| config.burst = 2),
        |world| {
            let (mut device, location) = registered(world, 1);
            assert!(device.request(world, Code::POST, &location, b"").is_some());
            let before = counted(world);
            assert!(device.request(world, Code::POST, &location, b"").is_none());
            before
        },
    ),
    (&[("crowded", 1)], open, |world| {
        let (mut device, location) = secure(world, 1, dtls_psk::Config::DEFAULT);
        let one = device.sealed(&request(7, Code::POST, &location, b""));
        let other = device.sealed(&request(8, Code::POST, &location, b""));
        let before = counted(world);
        world.receive(device.local, device.address, &[one, other].concat());
        before
    }),
    (&[("before_admission", 1)], open, |world| {
        let identity = world.enrol("a", Role::Management);
        let mut device = begun(world, &identity, 1);
        name(world, &mut device);
        let who = Authenticated::new("a".into(), Role::Management, 1);
        world.judge(Verdict::Key { key: KEY.to_vec().into(), who });
        world.send_all();
        device.take_all(world);
        let register = device.sealed(&request(7, Code::POST, REGISTER, LINKS.as_bytes()));
        let before = counted(world);
        world.receive_unsettled(device.local, device.address, &register);
        before
    }),
    (
        &[("while_moving", 1)],
        || World::of_parts(2),
        |world| {
            let (mut device, location) = elsewhere(world);
            let say = |world: &mut World, device: &mut Device| {
                let update = device.sealed(&request(7, Code::POST, &location, b""));
                world.receive_unsettled(device.local, device.address, &update);
            };
            say(world, &mut device);
            let before = counted(world);
            say(world, &mut device);
            before
        },
    ),
    (
        &[("registrations_not_fetched", 1)],
        || World::of_parts(2),
        |world| {
            elsewhere(world);
            let before = counted(world);
            world.lose_parcels();
            world.pass(Duration::from_secs(5));
            before
        },
    ),
    (&[("requests_failed", 1)], open, |world| {
        registered(world, 1);
        let before = counted(world);
        world.request("a", read()).unwrap();
        world.pass(Duration::from_secs(100));
        before
    }),
    // --- Addresses
    (&[("over_amplification", 1)], open, |world| {
        registered(world, 1);
        let before = counted(world);
        let values = vec![(path("/1/0/7"), Value::String("x".repeat(480)))];
        let write = Operation::Write { path: path("/1/0/7"), mode: WriteMode::Replace, values, format: None };
        world.request("a", write).unwrap();
        before
    }),
    (&[("stale_path_answers", 1)], open, |world| {
        let offering = dtls_psk::Config::DEFAULT.with_connection_id(ConnectionId::EMPTY);
        let (mut device, location) = secure(world, 1, offering);
        device.address = address(2);
        let record = device.sealed(&request(7, Code::POST, &location, b""));
        world.receive(device.local, device.address, &record);
        device.take_all(world);
        let before = counted(world);
        for answer in device.due(world) {
            world.receive(device.local, address(3), &answer);
        }
        before
    }),
    // --- Who is turned away
    (
        &[("turned_away", 1)],
        || limited(|config| config.unregistered = 1),
        |world| {
            plain(1).request_block(world, REGISTER, &[0x0e], &[b'<'; 1024]);
            let before = counted(world);
            world.receive(Listener::Coap, address(2), &request(7, Code::POST, REGISTER, LINKS.as_bytes()));
            before
        },
    ),
    (
        &[("registers_turned_away", 1), ("refused", 1)],
        || limited(|config| config.devices = 1),
        |world| {
            registered(world, 1);
            let before = counted(world);
            let answer = plain(2).request(world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", LINKS.as_bytes());
            assert_eq!(answer.unwrap().code, Code::SERVICE_UNAVAILABLE);
            before
        },
    ),
    (
        &[("lists_turned_away", 1), ("refused", 1)],
        || limited(|config| config.object_lists = 20),
        |world| {
            registered(world, 1);
            let before = counted(world);
            let answer = plain(2).request(world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", b"</1/0>,</3/1>");
            assert_eq!(answer.unwrap().code, Code::SERVICE_UNAVAILABLE);
            before
        },
    ),
    (
        &[("blocks_turned_away", 1)],
        || limited(|config| config.assembling = 1000),
        |world| {
            let before = counted(world);
            let answer = plain(1).request_block(world, REGISTER, &[0x0e], &[b'<'; 1024]);
            assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
            before
        },
    ),
    (&[("refused", 1)], open, |world| {
        let before = counted(world);
        plain(1).request(world, Code::POST, "rd?lt=60&lwm2m=1.1", LINKS.as_bytes()).unwrap();
        before
    }),
    (&[("untold_refusals", 1), ("refused", 1)], open, |world| {
        let refuse =
            |world: &mut World, port| plain(port).request(world, Code::POST, "rd?lt=60", LINKS.as_bytes());
        (1..=100).for_each(|port| drop(refuse(world, port).unwrap()));
        let before = counted(world);
        refuse(world, 101).unwrap();
        before
    }),
    // --- Records
    (&[("records_without_session", 1)], open, |world| {
        let before = counted(world);
        let header = [&[25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1][..], &[0; 6], &[0, 20]].concat();
        world.receive(Listener::Coaps, address(1), &[&header[..], &[0; 20]].concat());
        before
    }),
    (&[("records_malformed", 1)], open, |world| {
        let before = counted(world);
        world.receive(Listener::Coaps, address(1), &[22]);
        before
    }),
    (&[("records_unsupported", 1)], open, |world| {
        let before = counted(world);
        world.receive(Listener::Coaps, address(1), &record(23, 1, &[0; 20]));
        before
    }),
    (&[("records_replayed", 1)], open, |world| {
        let (mut device, location) = secure(world, 1, dtls_psk::Config::DEFAULT);
        let update = device.sealed(&request(7, Code::POST, &location, b""));
        world.receive(device.local, device.address, &update);
        let before = counted(world);
        world.receive(device.local, device.address, &update);
        before
    }),
    (&[("records_unauthenticated", 1)], open, |world| {
        let (mut device, location) = secure(world, 1, dtls_psk::Config::DEFAULT);
        let mut update = device.sealed(&request(7, Code::POST, &location, b""));
        *update.last_mut().unwrap() ^= 1;
        let before = counted(world);
        world.receive(device.local, device.address, &update);
        before
    }),
    (&[("records_unexpected", 1)], open, |world| {
        let device = begun(world, "a", 1);
        let before = counted(world);
        world.receive(device.local, device.address, &record(23, 0, b"in the clear"));
        before
    }),
    (&[("records_duplicate", 1)], open, |world| {
        let mut device = plain(1);
        device.local = Listener::Coaps;
        device.begin(world, "a", &KEY);
        device.due(world).iter().for_each(|hello| world.receive(device.local, device.address, hello));
        device.take_all(world);
        let hello = device.due(world).remove(0);
        world.receive(device.local, device.address, &hello);
        let before = counted(world);
        world.receive(device.local, device.address, &hello);
        before
    }),
    (&[("records_too_large", 1)], open, |world| {
        let device = begun(world, "a", 1);
        let before = counted(world);
        world.receive(device.local, device.address, &record(22, 0, &fragment(16, 9000, 2, &[0; 4])));
        before
    }),
    (&[("hellos_without_cookie", 1)], open, |world| {
        let before = counted(world);
        world.receive(Listener::Coaps, address(1), &record(22, 0, &fragment(1, 100, 0, &[0; 20])));
        before
    }),
    // --- Handshakes
    (&[("handshakes_failed", 1)], open, |world| {
        begun(world, "a", 1);
        let before = counted(world);
        world.pass(Duration::from_secs(200));
        before
    }),
    (&[("handshakes_silenced", 1)], open, |world| {
        let mut device = plain(1);
        device.local = Listener::Coaps;
        (0..5).for_each(|_| device.connect(world, "nobody", &KEY));
        device.begin(world, "nobody", &KEY);
        let before = counted(world);
        device.due(world).iter().for_each(|hello| world.receive(device.local, device.address, hello));
        before
    }),
    (
        &[("handshakes_displaced", 1)],
        || limited(|config| config.handshakes = 1),
        |world| {
            begun(world, "a", 1);
            let before = counted(world);
            let mut other = plain(1);
            other.local = Listener::Coaps;
            other.address = std::net::SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 1)).into();
            begin(world, &mut other, "b");
            before
        },
    ),
    (
        &[("handshakes_over_rate", 1)],
        || limited(|config| config.handshake_rate = 1),
        |world| {
            let mut late = plain(2);
            late.local = Listener::Coaps;
            late.begin(world, "b", &KEY);
            late.due(world).iter().for_each(|hello| world.receive(late.local, late.address, hello));
            late.take_all(world);
            begun(world, "a", 1);
            let before = counted(world);
            late.due(world).iter().for_each(|hello| world.receive(late.local, late.address, hello));
            before
        },
    ),
    (
        &[("hellos_put_off", 1)],
        || limited(|config| config.handshake_rate = 1),
        |world| {
            begun(world, "a", 1);
            let mut late = plain(2);
            late.local = Listener::Coaps;
            late.begin(world, "b", &KEY);
            let hello = late.due(world).remove(0);
            let before = counted(world);
            // Three of four are put off.
            for _ in 0..100 {
                if world.endpoint.counters().hellos_put_off == 0 {
                    world.receive(late.local, late.address, &hello);
                }
            }
            before
        },
    ),
    (
        &[("look_ups_over_rate", 1)],
        || limited(|config| config.look_up_rate = 1),
        |world| {
            let mut devices: Vec<_> =
                ["x", "y", "z"].into_iter().zip(1..).map(|(name, port)| begun(world, name, port)).collect();
            for device in &mut devices[..2] {
                name(world, device);
                world.settle();
            }
            let before = counted(world);
            name(world, &mut devices[2]);
            world.settle();
            before
        },
    ),
];

#[test]
fn what_is_dropped_is_counted_once_and_under_its_own_name() {
    for (rising, world, provoke) in ROWS {
        let mut world = world();
        let before = provoke(&mut world);
        let after = counted(&world);
        let risen: BTreeSet<_> = before
            .into_iter()
            .zip(after)
            .filter(|(before, after)| before != after)
            .map(|((name, before), (_, after))| (name, after - before))
            .collect();
        assert_eq!(risen, rising.iter().copied().collect(), "{}", rising[0].0);
    }
}

#[test]
fn every_counter_of_something_dropped_has_a_test() {
    let rows = ROWS.iter().map(|(rising, ..)| rising[0].0);
    let elsewhere = ELSEWHERE.iter().map(|(name, ..)| *name);
    let mut tested: Vec<_> = rows.chain(elsewhere).chain(NOT_DROPPED.iter().copied()).collect();
    let mut all: Vec<_> = Counters::default().list().into_iter().map(|(name, _)| name).collect();
    tested.sort_unstable();
    all.sort_unstable();
    assert_eq!(tested, all);
    for (name, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.contains(name) && text.contains(&format!("fn {test}")), "{name} in {file}");
    }
}

/// What was dropped by all parts so far.
fn counted(world: &World) -> Counted {
    let mut sum = world.endpoint.counters().list();
    for other in &world.others {
        for ((_, sum), (_, count)) in sum.iter_mut().zip(other.counters().list()) {
            *sum += count;
        }
    }
    sum.retain(|(name, _)| !NOT_DROPPED.contains(name));
    sum
}

fn open() -> World {
    World::new(true)
}

fn limited(limit: impl FnOnce(&mut Config)) -> World {
    let mut config = Config::default();
    limit(&mut config);
    World::with(config, true)
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn read() -> Operation {
    Operation::Read { path: path("/3/0/9"), format: None }
}

fn plain(port: u16) -> Device {
    Device::plain(Listener::Coap, port)
}

/// The device `a`, registered without security.
fn registered(world: &mut World, port: u16) -> (Device, String) {
    let mut device = plain(port);
    let location = device.register(world, "ep=a&lt=86400&lwm2m=1.1", LINKS);
    (device, location)
}

/// The device `a`, registered in a session.
fn secure(world: &mut World, port: u16, dtls: dtls_psk::Config) -> (Device, String) {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::plain(Listener::Coaps, port);
    device.dtls = dtls;
    device.connect(world, &identity, &KEY);
    let location = device.register(world, "ep=a&lt=86400&lwm2m=1.1", LINKS);
    (device, location)
}

fn observed(world: &mut World, device: &mut Device) -> Got {
    world.request("a", Operation::Observe { path: path("/3/0/9"), format: None }).unwrap();
    let observed = device.asked(world);
    device.answer(world, &observed, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), PLAIN], b"1");
    observed
}

/// A device with a handshake under way: the server's flight is there.
fn begun(world: &mut World, identity: &str, port: u16) -> Device {
    let mut device = Device::plain(Listener::Coaps, port);
    begin(world, &mut device, identity);
    device
}

fn begin(world: &mut World, device: &mut Device, identity: &str) {
    device.begin(world, identity, &KEY);
    for _ in 0..2 {
        device.due(world).iter().for_each(|hello| world.receive(device.local, device.address, hello));
        device.take_all(world);
    }
}

/// The last flight of the device goes out; what it makes the server ask is still to be answered.
fn name(world: &mut World, device: &mut Device) {
    let due = device.due(world);
    due.iter().for_each(|datagram| world.receive_unsettled(device.local, device.address, datagram));
}

/// The device `a` has a session in the second part, and its registration, which is in the first one, was asked for just now.
fn elsewhere(world: &mut World) -> (Device, String) {
    let (_, location) = secure(world, 2, dtls_psk::Config::DEFAULT);
    let mut device = Device::plain(Listener::Coaps, 1);
    device.begin(world, "a-management", &KEY);
    for _ in 0..3 {
        name(world, &mut device);
        world.settle_part(1);
        device.take_all(world);
    }
    assert!(device.established);
    (device, location)
}

fn record(content_type: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[content_type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9][..], &length, body].concat()
}

/// The beginning of a handshake message.
fn fragment(code: u8, length: u16, message_seq: u8, bytes: &[u8]) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    [&[code, 0, high, low, 0, message_seq, 0, 0, 0, 0, 0, bytes.len() as u8][..], bytes].concat()
}
