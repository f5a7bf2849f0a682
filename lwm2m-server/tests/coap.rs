//! What of CoAP shows at the server besides its operations: bodies in blocks and what they may take, No-Response (RFC 7967),
//! Echo (RFC 9175), strangers, and the rows of the attack corpus that concern messages and blocks, in both roles.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, Token};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Config, Listener};
use lwm2m_server::{Operation, RequestError};
use support::{Device, Got, KEY, World, address, build, request};

const REGISTER: &str = "rd?ep=a&lt=86400&lwm2m=1.1";

fn configured(change: impl FnOnce(&mut Config)) -> World {
    let mut config = Config::default();
    change(&mut config);
    World::with(config, true)
}

fn plain(port: u16) -> Device {
    Device::plain(Listener::Coap, port)
}

/// A request with these options, Confirmable or not, and what comes back.
fn send(
    world: &mut World,
    device: &mut Device,
    (kind, id): (Kind, u16),
    code: Code,
    options: &[(OptionNumber, &[u8])],
) -> Option<Got> {
    let header = Header { kind, id: MessageId(id) };
    device.send(world, &build(header, code, Token::new(&[9]).unwrap(), options, b""));
    device.got.pop_front()
}

fn path(text: &str) -> Vec<(OptionNumber, &[u8])> {
    text.split('/').map(|segment| (OptionNumber::URI_PATH, segment.as_bytes())).collect()
}

// --- Bodies in blocks

#[test]
fn a_list_that_is_too_long_is_refused_with_the_size_that_is_taken() {
    // RFC 7959 §2.9.3, §4
    let mut world = World::new(true);
    let mut device = plain(40_000);
    let mut last = None;
    for number in 0..17_u8 {
        let value = [number >> 4, number << 4 | 0x0e];
        let answer =
            device.request_block(&mut world, REGISTER, &value[usize::from(number < 16)..], &[b'<'; 1024]);
        last = Some((answer.code, answer.option(OptionNumber::SIZE1).map(<[u8]>::to_vec)));
    }
    assert_eq!(last, Some((Code::REQUEST_ENTITY_TOO_LARGE, Some(vec![0x40, 0]))));
    let after = device.request_block(&mut world, REGISTER, &[1, 0x1e], &[b'<'; 1024]);
    assert_eq!(after.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn a_list_that_stands_still_is_forgotten() {
    let mut world = World::new(true);
    let mut device = plain(40_000);
    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    device.request_block(&mut world, REGISTER, &[0x0e], &[b'<'; 1024]);
    world.pass(Duration::from_secs(246));
    // Another request does not end it, and neither does a block of another transfer.
    assert_eq!(device.request(&mut world, Code::POST, "rd/none", b"").unwrap().code, Code::NOT_FOUND);
    let foreign = device.request_block(&mut world, "rd?ep=b", &[0x1e], &[b'<'; 1024]);
    assert_eq!(foreign.code, Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(device.request_block(&mut world, REGISTER, &[0x1e], &[b'<'; 1024]).code, Code::CONTINUE);
    world.pass(Duration::from_secs(248));
    let late = device.request_block(&mut world, REGISTER, &[0x26], &[b'<'; 1024]);
    assert_eq!(late.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn a_flood_of_half_sent_lists_stays_within_its_budget() {
    let mut world = configured(|config| config.assembling = 100_000);
    let mut codes: Vec<Code> = Vec::new();
    for port in 1000..2000 {
        codes.push(plain(port).request_block(&mut world, REGISTER, &[0x0e], &[b'<'; 1024]).code);
    }
    let count = |code| codes.iter().filter(|other| **other == code).count();
    assert_eq!((count(Code::CONTINUE), count(Code::SERVICE_UNAVAILABLE)), (97, 903));
    assert_eq!(world.endpoint.counters().blocks_turned_away, 903);
    // A list in one message needs none of it, and time makes room.
    let mut honest = plain(5000);
    honest.register(&mut world, "ep=honest&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    world.pass(Duration::from_secs(248));
    assert_eq!(plain(6000).request_block(&mut world, REGISTER, &[0x0e], &[b'<'; 1024]).code, Code::CONTINUE);
}

#[test]
fn answers_in_blocks_share_the_budget_and_give_it_back() {
    let mut world = configured(|config| config.assembling = 3000);
    let mut devices: Vec<Device> = (1..=4).map(plain).collect();
    let mut reads = Vec::new();
    for (number, device) in devices.iter_mut().enumerate() {
        device.register(&mut world, &format!("ep={number}&lt=86400&lwm2m=1.1"), "</1/0>,</3/0>");
        let read = Operation::Read { path: "/3/0/0".parse().unwrap(), format: None };
        reads.push(world.request(&number.to_string(), read).unwrap());
        let asked = device.asked(&mut world);
        let block = (OptionNumber::BLOCK2, &[0x0e][..]);
        let text = (OptionNumber::CONTENT_FORMAT, &[][..]);
        device.answer(&mut world, &asked, Code::CONTENT, &[text, block], &[b'x'; 1024]);
    }
    assert_eq!(world.outcome(reads[2]), Err(RequestError::TooLarge));
    assert_eq!(world.outcome(reads[3]), Err(RequestError::TooLarge));
    for device in devices.iter_mut().take(2) {
        let asked = device.asked(&mut world);
        let last = (OptionNumber::BLOCK2, &[0x16][..]);
        device.answer(&mut world, &asked, Code::CONTENT, &[last], b"x");
    }
    assert!(world.outcome(reads[0]).is_ok() && world.outcome(reads[1]).is_ok());
    let read = Operation::Read { path: "/3/0/0".parse().unwrap(), format: None };
    world.request("3", read).unwrap();
    let asked = devices[3].asked(&mut world);
    let block = (OptionNumber::BLOCK2, &[0x0e][..]);
    devices[3].answer(&mut world, &asked, Code::CONTENT, &[block], &[b'x'; 1024]);
    assert!(devices[3].asked(&mut world).option(OptionNumber::BLOCK2).is_some());
}

// --- Options

#[test]
fn a_response_that_the_device_does_not_want_is_not_sent() {
    // RFC 7967 §2: a Confirmable request is acknowledged all the same.
    let mut world = World::new(true);
    let mut device = plain(40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", "</1/0>,</3/0>");
    world.told();
    let with = |value: u8, location: &str| {
        let location: Vec<Vec<u8>> = location.split('/').map(|segment| segment.as_bytes().to_vec()).collect();
        (location, [value])
    };
    let mut id = 100;
    let mut update = |world: &mut World, device: &mut Device, kind, value, location: &str| {
        id += 1;
        let (segments, value) = with(value, location);
        let mut options: Vec<_> =
            segments.iter().map(|segment| (OptionNumber::URI_PATH, segment.as_slice())).collect();
        options.push((OptionNumber::NO_RESPONSE, &value));
        send(world, device, (kind, id), Code::POST, &options).map(|got| (got.kind, got.code))
    };
    let (con, non) = (Kind::Confirmable, Kind::NonConfirmable);
    assert_eq!(update(&mut world, &mut device, non, 26, &location), None);
    assert_eq!(
        update(&mut world, &mut device, con, 2, &location),
        Some((Kind::Acknowledgement, Code::EMPTY))
    );
    assert_eq!(world.told(), ["updated a", "updated a"]);
    // Only what was named: an error is told to who is not interested in success.
    assert_eq!(update(&mut world, &mut device, non, 2, "rd/none"), Some((non, Code::NOT_FOUND)));
    assert_eq!(update(&mut world, &mut device, non, 8, "rd/none"), None);
    assert_eq!(
        update(&mut world, &mut device, con, 24, &location),
        Some((Kind::Acknowledgement, Code::CHANGED))
    );
    // A Register, which is answered only when the credentials were asked.
    let register = |id| {
        let mut options = path("rd");
        options.extend([
            (OptionNumber::CONTENT_FORMAT, &[40][..]),
            (OptionNumber::URI_QUERY, b"ep=a"),
            (OptionNumber::URI_QUERY, b"lt=60"),
            (OptionNumber::URI_QUERY, b"lwm2m=1.1"),
            (OptionNumber::NO_RESPONSE, &[2]),
        ]);
        let header = Header { kind: con, id: MessageId(id) };
        build(header, Code::POST, Token::new(&[9]).unwrap(), &options, b"</1/0>")
    };
    for _ in 0..2 {
        device.send(&mut world, &register(7));
        let got = device.got.pop_front().unwrap();
        assert_eq!((got.kind, got.code, got.id), (Kind::Acknowledgement, Code::EMPTY, 7));
    }
}

#[test]
fn no_refusal_of_an_unknown_option_is_longer_than_the_request() {
    let mut world = World::new(true);
    let mut device = plain(40_000);
    let numbers = [OptionNumber(2049), OptionNumber::IF_NONE_MATCH];
    for (id, (number, payload)) in (1..).zip(numbers.into_iter().flat_map(|n| (0..20).map(move |p| (n, p)))) {
        let (header, token) =
            (Header { kind: Kind::Confirmable, id: MessageId(id) }, Token::new(&[9]).unwrap());
        let request = build(header, Code::GET, token, &[(number, b"")], &[b'a'; 20][..payload]);
        device.send(&mut world, &request);
        let got = device.got.pop_front().unwrap();
        let text = format!("option {}", number.0);
        // Header, token, marker and text.
        let has_room = 4 + 1 + 1 + text.len() <= request.len();
        let text = if has_room { text.as_bytes() } else { &[] };
        assert_eq!((got.code, &got.payload[..]), (Code::BAD_OPTION, text), "{number:?} {payload}");
    }
}

#[test]
fn strangers_are_told_what_is_wrong_with_their_request() {
    // RFC 7252 §5.4.1, §5.8, §5.10.2
    let mut world = World::new(true);
    let mut device = plain(40_000);
    for (code, options, expected) in [
        (Code::GET, path("rd"), Code::NOT_FOUND),
        (Code::FETCH, path("rd"), Code::METHOD_NOT_ALLOWED),
        (Code::new(0, 31), path("x"), Code::METHOD_NOT_ALLOWED),
        (Code::GET, vec![(OptionNumber::PROXY_URI, &b"coap://x"[..])], Code::PROXYING_NOT_SUPPORTED),
        (Code::GET, vec![(OptionNumber::PROXY_SCHEME, &b"coap"[..])], Code::PROXYING_NOT_SUPPORTED),
        (Code::GET, vec![(OptionNumber(2049), &b""[..])], Code::BAD_OPTION),
        (Code::GET, vec![(OptionNumber::IF_NONE_MATCH, &b""[..])], Code::BAD_OPTION),
    ] {
        let got = send(&mut world, &mut device, (Kind::Confirmable, 1), code, &options).unwrap();
        assert_eq!((got.kind, got.code), (Kind::Acknowledgement, expected), "{code}");
        assert!(got.payload.is_empty(), "these requests are shorter than any text");
        assert_eq!(
            send(&mut world, &mut device, (Kind::NonConfirmable, 1), code, &options).map(|got| got.code),
            None
        );
    }
    // RFC 7252 §4.2, §5.3.2: a response of nobody's is rejected.
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        assert_eq!(send(&mut world, &mut device, (kind, 5), Code::CONTENT, &[]).unwrap().kind, Kind::Reset);
    }
    assert_eq!(world.endpoint.associations(), 0);
}

#[test]
fn a_stranger_gets_no_more_than_three_times_what_it_sent_whatever_its_option() {
    let mut world = World::new(true);
    for number in (1..=u16::MAX).step_by(2).map(OptionNumber) {
        let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
        let request = build(header, Code::GET, Token::EMPTY, &[(number, &[])], &[]);
        world.receive(Listener::Coap, address(40_000), &request);
        let (_, _, answer) = world.sent.pop_front().unwrap();
        assert!(answer.len() <= 3 * request.len(), "{number:?} {answer:?}");
    }
}

#[test]
fn with_the_challenge_nothing_is_kept_of_an_address_before_its_echo_came_back() {
    // RFC 9175 §2.3, §2.4
    let mut world = configured(|config| config.challenge = true);
    let links = b"</1/0>,</3/0>";
    let register = |id: u16, echo: Option<&[u8]>| {
        let mut options = path("rd");
        options.push((OptionNumber::CONTENT_FORMAT, &[40][..]));
        options.extend([&b"ep=a"[..], b"lt=60", b"lwm2m=1.1"].map(|query| (OptionNumber::URI_QUERY, query)));
        options.extend(echo.map(|echo| (OptionNumber::ECHO, echo)));
        let header = Header { kind: Kind::Confirmable, id: MessageId(id) };
        build(header, Code::POST, Token::new(&[9]).unwrap(), &options, links)
    };
    let (mut device, mut other) = (plain(40_000), plain(40_001));
    device.send(&mut world, &register(1, None));
    let refused = device.got.pop_front().unwrap();
    assert_eq!((refused.kind, refused.code), (Kind::Acknowledgement, Code::UNAUTHORIZED));
    let echo = refused.option(OptionNumber::ECHO).unwrap().to_vec();
    assert_eq!((world.endpoint.associations(), world.endpoint.counters().challenged), (0, 1));
    // It is good for its address and its time only.
    other.send(&mut world, &register(1, Some(&echo)));
    assert_eq!(other.got.pop_front().unwrap().code, Code::UNAUTHORIZED);
    world.pass(Duration::from_secs(46));
    device.send(&mut world, &register(2, Some(&echo)));
    let refused = device.got.pop_front().unwrap();
    assert_eq!((refused.code, world.endpoint.associations()), (Code::UNAUTHORIZED, 0));
    let echo = refused.option(OptionNumber::ECHO).unwrap().to_vec();
    device.send(&mut world, &register(3, Some(&echo)));
    assert_eq!(device.got.pop_front().unwrap().code, Code::CREATED);
    // Who is known is not asked again.
    device.send(&mut world, &register(4, None));
    assert_eq!(device.got.pop_front().unwrap().code, Code::CREATED);
    // The answer to a spoofer is less than three times what he sent, and a Non-confirmable request gets none.
    let short = request(9, Code::POST, "rd", b"");
    world.receive(Listener::Coap, address(7), &short);
    let (_, _, answer) = world.sent.pop_back().unwrap();
    assert!(answer.len() <= 3 * short.len(), "{} to {}", answer.len(), short.len());
    let silent = send(&mut world, &mut other, (Kind::NonConfirmable, 9), Code::POST, &path("rd"));
    assert!(silent.is_none());
}

// --- The attack corpus: rows on messages and blocks, at a server that is asked and one that asks

/// A registered device over DTLS and one without security, and an address that is not known.
fn everybody() -> (World, [Device; 3]) {
    let mut world = World::new(true);
    let identity = world.enrol("secure", Role::Management);
    let mut secure = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    secure.register(&mut world, "lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    let mut registered = plain(40_001);
    registered.register(&mut world, "ep=plain&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    (world, [secure, registered, plain(40_002)])
}

fn is_reset(got: Option<Got>, id: u16) -> bool {
    got.is_some_and(|got| got.kind == Kind::Reset && got.id == id)
}

#[test]
fn row_31_a_block_for_a_transfer_that_is_not_there_is_incomplete() {
    let (mut world, mut devices) = everybody();
    for device in &mut devices {
        for number in [1_u8, 5, 15] {
            let got = device.request_block(&mut world, "rd?ep=x&lt=60", &[number << 4 | 0x0e], &[0; 1024]);
            assert_eq!(got.code, Code::REQUEST_ENTITY_INCOMPLETE);
        }
    }
    // As a client: 2.31, or a block acknowledged, to what had no blocks.
    let read = || Operation::Read { path: "/3/0/0".parse().unwrap(), format: None };
    for (code, value) in [(Code::CONTINUE, &[][..]), (Code::CONTINUE, &[0x5e]), (Code::CONTENT, &[0x5f])] {
        let id = world.request("secure", read()).unwrap();
        let asked = devices[0].asked(&mut world);
        devices[0].answer(&mut world, &asked, code, &[(OptionNumber::BLOCK1, value)], b"");
        let outcome = world.outcome(id);
        assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
    }
}

#[test]
fn row_32_and_33_malformed_messages_are_rejected_and_leave_nothing() {
    let (mut world, mut devices) = everybody();
    let associations = world.endpoint.associations();
    let long_token = [&[0x4f, 2, 0, 77][..], &[0; 15]].concat();
    for message in [
        &[0x40, 2, 0, 77, 0xe0, 0xff, 0xff][..],
        &[0x40, 2, 0, 77, 0xe0, 0xfe, 0xf2, 0x10],
        &[0x40, 2, 0, 77, 0xb2, b'r', b'd', 0x0e, 0xff, 0xff, 1],
        &[0x40, 2, 0, 77, 0xf1, 1],
        &[0x40, 2, 0, 77, 0x1f, 1],
        &[0x40, 2, 0, 77, 0xff],
        &[0x40, 2, 0, 77, 0xb2, b'r', b'd', 0xff],
        &[0x48, 2, 0, 77, 1, 2, 3],
        &long_token,
        &[0x40, 0, 0, 77, 0xff, 1],
    ] {
        for device in &mut devices {
            device.send(&mut world, message);
            assert!(is_reset(device.got.pop_front(), 77), "{message:02x?}");
            // Whoever needs no acknowledgement is told nothing.
            for kind in [0x10, 0x20, 0x30] {
                device.send(&mut world, &[&[message[0] | kind], &message[1..]].concat());
                assert!(device.got.is_empty(), "{message:02x?}");
            }
        }
    }
    assert_eq!(world.endpoint.associations(), associations);
    for device in devices.iter_mut().take(2) {
        assert_eq!(device.request(&mut world, Code::POST, "rd/none", b"").unwrap().code, Code::NOT_FOUND);
    }
}

#[test]
fn row_34_number_times_size_does_not_overflow_and_the_size_may_not_shift_a_transfer() {
    let (mut world, mut devices) = everybody();
    for device in &mut devices {
        let uri = "rd?ep=x&lt=60";
        let got = device.request_block(&mut world, uri, &[0xff, 0xff, 0xfe], &[0; 1024]);
        assert_eq!(got.code, Code::REQUEST_ENTITY_INCOMPLETE);
        assert_eq!(device.request_block(&mut world, uri, &[0x0f], &[0; 1024]).code, Code::BAD_REQUEST);
        // 0/1/64, then 1/1/128: that is offset 128, not 64.
        assert_eq!(device.request_block(&mut world, uri, &[0x0a], &[0; 64]).code, Code::CONTINUE);
        let shifted = device.request_block(&mut world, uri, &[0x1b], &[0; 128]);
        assert_eq!(shifted.code, Code::REQUEST_ENTITY_INCOMPLETE);
    }
    let id =
        world.request("secure", Operation::Read { path: "/3/0/0".parse().unwrap(), format: None }).unwrap();
    let asked = devices[0].asked(&mut world);
    let last = (OptionNumber::BLOCK2, &[0xff, 0xff, 0xfe][..]);
    devices[0].answer(&mut world, &asked, Code::CONTENT, &[last], &[b'x'; 1024]);
    assert!(matches!(world.outcome(id), Err(RequestError::Malformed(_))));
}

#[test]
fn row_35_a_block_that_was_not_asked_for_makes_no_answer() {
    let (mut world, mut devices) = everybody();
    // 0/1/16, then 2, the same again, one without number, one that is too long, one that is too short.
    for (second, length) in [(&[0x20][..], 1), (&[0x08], 16), (&[], 1), (&[0x10], 17), (&[0x18], 15)] {
        let id = world
            .request("secure", Operation::Read { path: "/3/0/0".parse().unwrap(), format: None })
            .unwrap();
        for (block, length) in [(&[0x08][..], 16), (second, length)] {
            let asked = devices[0].asked(&mut world);
            let block = (OptionNumber::BLOCK2, block);
            let options = if block.1.is_empty() { &[][..] } else { &[block] };
            devices[0].answer(&mut world, &asked, Code::CONTENT, options, &vec![b'x'; length]);
        }
        let outcome = world.outcome(id);
        assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{second:02x?} {length} {outcome:?}");
    }
}

#[test]
fn row_40_a_long_path_leaves_nothing_to_the_next_request() {
    let (mut world, mut devices) = everybody();
    for device in &mut devices {
        let long = [b'x'; 256];
        let options = [(OptionNumber::URI_PATH, &b"rd"[..]), (OptionNumber::URI_PATH, &long)];
        let got = send(&mut world, device, (Kind::Confirmable, 500), Code::POST, &options).unwrap();
        assert_eq!(got.code, Code::BAD_OPTION);
        let many = vec![(OptionNumber::URI_PATH, &b"rd"[..]); 300];
        let got = send(&mut world, device, (Kind::Confirmable, 501), Code::POST, &many).unwrap();
        assert_eq!(got.code, Code::NOT_FOUND);
        let got = send(&mut world, device, (Kind::Confirmable, 502), Code::DELETE, &path("rd")).unwrap();
        let is_known = device.address != address(40_002);
        assert_eq!(got.code, if is_known { Code::BAD_REQUEST } else { Code::NOT_FOUND });
    }
}

#[test]
fn row_43_attributes_without_a_value_in_a_list_are_none() {
    let mut world = World::new(true);
    let mut device = plain(40_000);
    let links = "</>;rt;ct=;hb,</1/0>;ver,</3/0>;pmin;pmax=;;,</3303/0>;x=\"\"";
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", links);
    let id = world.request("a", Operation::Discover { path: "/3".parse().unwrap(), depth: None }).unwrap();
    let asked = device.asked(&mut world);
    let link_format = (OptionNumber::CONTENT_FORMAT, &[40][..]);
    device.answer(&mut world, &asked, Code::CONTENT, &[link_format], b"</3/0>;pmin;pmax=;;");
    let outcome = world.outcome(id);
    let Ok(lwm2m_server::Answer::Discovered(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.links.len(), 1);
}
