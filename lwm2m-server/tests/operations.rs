//! Every operation of the management and reporting interfaces against a device that answers what the test says
//! (LwM2M Core 1.2.1 §6.3, §6.4; RFC 7641; RFC 7959).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber};
use lwm2m_server::credentials::{Fact, Role, TriggerAnswer};
use lwm2m_server::endpoint::{Config, Listener};
use lwm2m_server::{Answer, Content, ObservationId, Operation, Path, RequestError, Value, WriteMode};
use support::{Device, KEY, World, build};

const TEXT: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);
const TLV: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[0x2d, 0x16]);
const LINK: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[40]);

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn read(text: &str) -> Operation {
    Operation::Read { path: path(text), format: None }
}

fn observe(text: &str) -> Operation {
    Operation::Observe { path: path(text), format: None }
}

/// A registered device over DTLS; it knows TLV only, as 1.0 has it.
fn device(world: &mut World) -> Device {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(world, Listener::Coaps, 40_000, &identity, &KEY);
    device.register(world, "ep=a&lt=86400&lwm2m=1.0", "</1/0>,</3/0>,</3303/0>");
    world.told();
    device
}

/// Asks an operation, lets the device answer, and returns what the device saw and what the application heard.
fn ask(
    operation: Operation,
    code: Code,
    options: &[(OptionNumber, &[u8])],
    payload: &[u8],
) -> (support::Got, Result<Answer, RequestError>) {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", operation).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!(asked.kind, Kind::Confirmable);
    device.answer(&mut world, &asked, code, options, payload);
    let outcome = world.outcome(id);
    (asked, outcome)
}

#[test]
fn a_read_tells_the_values_with_their_types() {
    let (asked, outcome) = ask(read("/3/0/9"), Code::CONTENT, &[TEXT], b"95");
    assert_eq!((asked.code, asked.uri().as_str()), (Code::GET, "/3/0/9"));
    assert_eq!(asked.option(OptionNumber::ACCEPT), Some(&[0x2d, 0x16][..]));
    let content = Content { format: 0, items: vec![(path("/3/0/9"), Value::Integer(95))] };
    assert_eq!(outcome, Ok(Answer::Content(content)));

    let tlv = [0xc1, 0x09, 0x5f, 0xc3, 0x00, b'a', b'b', b'c'];
    let (_, outcome) = ask(read("/3/0"), Code::CONTENT, &[TLV], &tlv);
    let items = vec![(path("/3/0/9"), Value::Integer(95)), (path("/3/0/0"), Value::String("abc".to_owned()))];
    assert_eq!(outcome, Ok(Answer::Content(Content { format: 11542, items })));
}

#[test]
fn a_format_is_asked_for_and_written_as_the_caller_says() {
    let (asked, _) = ask(
        Operation::Read { path: path("/3/0/9"), format: Some(Operation::ANY_FORMAT) },
        Code::CONTENT,
        &[TEXT],
        b"95",
    );
    assert_eq!(asked.option(OptionNumber::ACCEPT), None);
    let at = path("/3/0/14");
    let values = vec![(at, Value::String("+01:00".to_owned()))];
    for (format, option, payload) in
        [(0, &[][..], &b"+01:00"[..]), (60, &[60], b"\x66+01:00"), (11542, &[0x2d, 0x16], b"\xc6\x0e+01:00")]
    {
        let (mode, values) = (WriteMode::Replace, values.clone());
        let write = Operation::Write { path: at, mode, values, format: Some(format) };
        let (asked, outcome) = ask(write, Code::CHANGED, &[], b"");
        assert_eq!(asked.option(OptionNumber::CONTENT_FORMAT), Some(option));
        assert_eq!((asked.payload.as_slice(), outcome), (payload, Ok(Answer::Done)));
    }
}

#[test]
fn a_refusal_carries_its_code_and_text() {
    let (_, outcome) = ask(read("/3/0/5"), Code::METHOD_NOT_ALLOWED, &[], b"not readable");
    assert_eq!(outcome, Err(RequestError::Refused((4, 5), "not readable".to_owned())));
    let (_, outcome) = ask(read("/3/0/9"), Code::CONTENT, &[TLV], &[0xff, 0xff]);
    assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
    let (_, outcome) = ask(read("/3/0/9"), Code::CHANGED, &[], b"");
    assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
}

#[test]
fn writes_replace_by_put_and_update_by_post() {
    let values = vec![(path("/3/0/14"), Value::String("+01:00".to_owned()))];
    let write = |mode| Operation::Write { path: path("/3/0"), mode, values: values.clone(), format: None };
    for (mode, code) in [(WriteMode::Replace, Code::PUT), (WriteMode::Update, Code::POST)] {
        let (asked, outcome) = ask(write(mode), Code::CHANGED, &[], b"");
        assert_eq!((asked.code, asked.uri().as_str()), (code, "/3/0"));
        assert_eq!(asked.option(OptionNumber::CONTENT_FORMAT), Some(&[0x2d, 0x16][..]));
        assert_eq!(asked.payload, b"\xc6\x0e+01:00");
        assert_eq!(outcome, Ok(Answer::Done));
    }
}

#[test]
fn execute_create_delete_discover_and_attributes_are_what_the_specification_says() {
    let execute = Operation::Execute { path: path("/3/0/4"), arguments: "0='x'".to_owned() };
    let (asked, outcome) = ask(execute, Code::CHANGED, &[], b"");
    assert_eq!(
        (asked.code, asked.uri().as_str(), asked.payload.as_slice()),
        (Code::POST, "/3/0/4", &b"0='x'"[..])
    );
    assert_eq!(outcome, Ok(Answer::Done));

    let values = vec![(5700, None, Value::Float(1.5))];
    let create = Operation::Create { object: 3303, instance: Some(7), values: values.clone() };
    let location = [(OptionNumber::LOCATION_PATH, &b"3303"[..]), (OptionNumber::LOCATION_PATH, b"7")];
    let (asked, outcome) = ask(create, Code::CREATED, &location, b"");
    assert_eq!((asked.code, asked.uri().as_str()), (Code::POST, "/3303"));
    assert_eq!(asked.payload, [0x07, 0x07, 0xe4, 0x16, 0x44, 0x3f, 0xc0, 0, 0]);
    assert_eq!(outcome, Ok(Answer::Created(Some(path("/3303/7")))));
    let create = Operation::Create { object: 3303, instance: None, values };
    let (asked, _) = ask(create, Code::CREATED, &location, b"");
    assert_eq!(asked.payload, [0xe4, 0x16, 0x44, 0x3f, 0xc0, 0, 0]);

    // Several instances of one resource (LwM2M Core 1.2.1 §7.4.3).
    let values = [b'a', b'b']
        .into_iter()
        .zip(0..)
        .map(|(letter, at)| (0, Some(at), Value::String(char::from(letter).to_string())));
    let create = Operation::Create { object: 16, instance: Some(1), values: values.collect() };
    let location = [(OptionNumber::LOCATION_PATH, &b"16"[..]), (OptionNumber::LOCATION_PATH, b"1")];
    let (asked, _) = ask(create, Code::CREATED, &location, b"");
    assert_eq!(asked.payload, [0x08, 1, 8, 0x86, 0, 0x41, 0, b'a', 0x41, 1, b'b']);

    // An instance without values is named all the same.
    let location = [(OptionNumber::LOCATION_PATH, &b"3303"[..]), (OptionNumber::LOCATION_PATH, b"7")];
    for (instance, payload) in [(7, &[0x00, 0x07][..]), (300, &[0x20, 0x01, 0x2c])] {
        let create = Operation::Create { object: 3303, instance: Some(instance), values: vec![] };
        assert_eq!(ask(create, Code::CREATED, &location, b"").0.payload, payload);
    }

    let (asked, outcome) = ask(Operation::Delete { path: path("/3303/7") }, Code::DELETED, &[], b"");
    assert_eq!((asked.code, asked.uri().as_str()), (Code::DELETE, "/3303/7"));
    assert_eq!(outcome, Ok(Answer::Done));

    let discover = Operation::Discover { path: path("/3303"), depth: Some(1) };
    let (asked, outcome) = ask(discover, Code::CONTENT, &[LINK], b"</3303>;pmin=5,</3303/0>");
    assert_eq!(asked.path(OptionNumber::URI_QUERY), "/depth=1");
    assert_eq!(asked.option(OptionNumber::ACCEPT), Some(&[40][..]));
    let Ok(Answer::Discovered(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.links.len(), 2);
    assert_eq!(found.links[0].attributes, [("pmin".to_owned(), Some("5".to_owned()))]);

    let attributes = Operation::WriteAttributes { path: path("/3303/0"), attributes: "pmin=5&gt".to_owned() };
    let (asked, outcome) = ask(attributes, Code::CHANGED, &[], b"");
    assert_eq!((asked.code, asked.path(OptionNumber::URI_QUERY).as_str()), (Code::PUT, "/pmin=5/gt"));
    assert_eq!(outcome, Ok(Answer::Done));
}

#[test]
fn every_operation_that_goes_below_a_resource_names_its_instance() {
    let place = "/16/0/0/1";
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let mut ask = |operation, code, options: &[(OptionNumber, &[u8])], payload: &[u8]| {
        let id = world.request("a", operation).unwrap();
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, code, options, payload);
        assert_eq!(asked.uri(), place);
        (asked, world.outcome(id))
    };
    let text = |text: &str| vec![(path(place), Value::String(text.to_owned()))];
    let (asked, outcome) = ask(read(place), Code::CONTENT, &[TEXT], b"x");
    assert_eq!(asked.code, Code::GET);
    assert_eq!(outcome, Ok(Answer::Content(Content { format: 0, items: text("x") })));
    // An instance of a resource in TLV, as a device of 1.0 has it.
    let (_, outcome) = ask(read(place), Code::CONTENT, &[TLV], b"\x41\x01x");
    assert_eq!(outcome, Ok(Answer::Content(Content { format: 11_542, items: text("x") })));

    let (mode, values) = (WriteMode::Replace, text("y"));
    let write = Operation::Write { path: path(place), mode, values, format: Some(0) };
    let (asked, outcome) = ask(write, Code::CHANGED, &[], b"");
    assert_eq!((asked.code, asked.payload.as_slice(), outcome), (Code::PUT, &b"y"[..], Ok(Answer::Done)));

    let attributes = Operation::WriteAttributes { path: path(place), attributes: "pmin=5".to_owned() };
    let (asked, outcome) = ask(attributes, Code::CHANGED, &[], b"");
    assert_eq!((asked.path(OptionNumber::URI_QUERY).as_str(), outcome), ("/pmin=5", Ok(Answer::Done)));

    let observed = [(OptionNumber::OBSERVE, &[5][..]), TEXT];
    let (asked, outcome) = ask(observe(place), Code::CONTENT, &observed, b"y");
    assert_eq!(asked.option(OptionNumber::OBSERVE), Some(&[][..]));
    let Ok(Answer::Observing(observation, content)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(content.items, text("y"));
    let token = asked.token;
    let (asked, outcome) = ask(Operation::Cancel { observation }, Code::CONTENT, &[TEXT], b"y");
    assert_eq!((asked.option(OptionNumber::OBSERVE), asked.token), (Some(&[1][..]), token));
    assert_eq!(outcome, Ok(Answer::Done));

    let (asked, outcome) = ask(Operation::Delete { path: path(place) }, Code::DELETED, &[], b"");
    assert_eq!((asked.code, outcome), (Code::DELETE, Ok(Answer::Done)));
}

#[test]
fn an_instance_of_a_resource_is_notified_by_its_path() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/7/1");
    device.notify(&mut world, Kind::NonConfirmable, token, 7, &[TEXT], b"3700");
    assert_eq!(world.told(), ["notification a /3/0/7/1: [(/3/0/7/1, Integer(3700))]"]);
}

#[test]
fn what_is_no_operation_is_refused_here() {
    let mut world = World::new(false);
    device(&mut world);
    assert_eq!(world.request("b", read("/3/0")), Err(RequestError::UnknownDevice));
    for operation in [
        read("/"),
        Operation::Execute { path: path("/3/0"), arguments: String::new() },
        Operation::Execute { path: path("/3/0/4"), arguments: "hello".to_owned() },
        Operation::Delete { path: path("/3") },
        Operation::Write { path: path("/3"), mode: WriteMode::Replace, values: vec![], format: None },
        Operation::Write {
            path: path("/3/0/14"),
            mode: WriteMode::Replace,
            values: vec![(path("/4/0/1"), Value::Integer(1))],
            format: None,
        },
    ] {
        let outcome = world.request("a", operation.clone());
        assert!(matches!(outcome, Err(RequestError::Invalid(_))), "{operation:?} {outcome:?}");
    }
}

#[test]
fn one_request_is_in_flight_and_the_others_wait_in_a_bounded_queue() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let most = Config::default().queue;
    let ids: Vec<_> = (0..=most).map(|_| world.request("a", read("/3/0/9")).unwrap()).collect();
    assert_eq!(world.request("a", read("/3/0/9")), Err(RequestError::QueueFull));
    for id in ids {
        let asked = device.asked(&mut world);
        assert!(device.got.is_empty());
        device.answer(&mut world, &asked, Code::CONTENT, &[TEXT], b"1");
        assert!(world.outcome(id).is_ok());
    }
    assert!(device.got.is_empty());
}

#[test]
fn an_unanswered_request_is_repeated_and_then_times_out() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", read("/3/0/9")).unwrap();
    world.pass(Duration::from_secs(94));
    assert_eq!(world.outcome(id), Err(RequestError::TimedOut));
    device.run(&mut world);
    assert_eq!(device.got.len(), 5, "MAX_RETRANSMIT is 4");
    assert!(device.got.iter().all(|got| got.id == device.got[0].id));
}

#[test]
fn a_long_answer_is_fetched_in_blocks_up_to_a_cap() {
    let mut world = World::with(config(100), false);
    let mut device = device(&mut world);
    let id = world.request("a", read("/3/0/0")).unwrap();
    let body: Vec<u8> = (0..90).map(|n| b'a' + n % 26).collect();
    for (number, block) in body.chunks(32).enumerate() {
        let asked = device.asked(&mut world);
        let wanted =
            asked.option(OptionNumber::BLOCK2).map(|value| value.first().map_or(0, |byte| byte >> 4));
        assert_eq!(wanted, (number > 0).then_some(u8::try_from(number).unwrap()));
        let more = if block.len() == 32 { 8 } else { 0 };
        let value = [u8::try_from(number).unwrap() << 4 | more | 1];
        device.answer(&mut world, &asked, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &value)], block);
    }
    let Ok(Answer::Content(content)) = world.outcome(id) else { panic!() };
    assert_eq!(content.items, [(path("/3/0/0"), Value::String(String::from_utf8(body).unwrap()))]);

    let id = world.request("a", read("/3/0/0")).unwrap();
    for number in 0_u8..4 {
        let asked = device.asked(&mut world);
        let value = [number << 4 | 8 | 1];
        device.answer(
            &mut world,
            &asked,
            Code::CONTENT,
            &[TEXT, (OptionNumber::BLOCK2, &value)],
            &[b'x'; 32],
        );
    }
    assert_eq!(world.outcome(id), Err(RequestError::TooLarge));
}

fn config(longest_answer: u32) -> Config {
    let mut config = Config::default();
    config.longest_answer = longest_answer;
    config
}

#[test]
fn a_long_value_goes_in_blocks_that_fit_into_the_records_the_device_takes() {
    for (limit, largest) in [(64, 16), (100, 64), (300, 256), (16_384, 512)] {
        let mut world = World::new(false);
        let identity = world.enrol("a", Role::Management);
        let mut device = Device::plain(Listener::Coaps, 40_000);
        device.dtls = device.dtls.with_record_size_limit(limit);
        device.connect(&mut world, &identity, &KEY);
        device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>,</5/0>");
        let content: Vec<u8> = (0..1500_u32).map(|n| n as u8).collect();
        let write = Operation::Write {
            path: path("/5/0/0"),
            mode: WriteMode::Replace,
            values: vec![(path("/5/0/0"), Value::Opaque(content.clone()))],
            format: None,
        };
        let id = world.request("a", write).unwrap();
        let mut received = Vec::new();
        loop {
            // It would not come if it were too long: the device drops such a record.
            let asked = device.asked(&mut world);
            let echo = asked.option(OptionNumber::BLOCK1).unwrap().to_vec();
            let block = echo.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            assert_eq!(16 << (block & 7), largest, "with a limit of {limit}");
            received.extend_from_slice(&asked.payload);
            let code = if block & 8 == 0 { Code::CHANGED } else { Code::CONTINUE };
            device.answer(&mut world, &asked, code, &[(OptionNumber::BLOCK1, &echo)], b"");
            if block & 8 == 0 {
                break;
            }
        }
        assert!(world.outcome(id).is_ok());
        assert!(received == content);
    }
}

#[test]
fn a_long_value_is_written_in_blocks_of_the_size_the_device_wants() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let value = Value::Opaque((0..1500_u32).map(|n| n as u8).collect());
    let write = Operation::Write {
        path: path("/5/0/0"),
        mode: WriteMode::Replace,
        values: vec![(path("/5/0/0"), value)],
        format: None,
    };
    let id = world.request("a", write).unwrap();
    let mut received = Vec::new();
    loop {
        let asked = device.asked(&mut world);
        let block = asked.option(OptionNumber::BLOCK1).unwrap();
        let block = block.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let size = 16_usize << (block & 7);
        assert_eq!(received.len(), usize::try_from(block >> 4).unwrap() * size);
        if received.is_empty() && size > 256 {
            // 4.13 with a smaller size: RFC 7959 §2.9.3.
            device.answer(
                &mut world,
                &asked,
                Code::REQUEST_ENTITY_TOO_LARGE,
                &[(OptionNumber::BLOCK1, &[4])],
                b"",
            );
            continue;
        }
        received.extend_from_slice(&asked.payload);
        let echo = asked.option(OptionNumber::BLOCK1).unwrap().to_vec();
        let code = if block & 8 == 0 { Code::CHANGED } else { Code::CONTINUE };
        device.answer(&mut world, &asked, code, &[(OptionNumber::BLOCK1, &echo)], b"");
        if block & 8 == 0 {
            break;
        }
    }
    assert_eq!(received, (0..1500_u32).map(|n| n as u8).collect::<Vec<_>>());
    assert_eq!(world.outcome(id), Ok(Answer::Done));
}

#[test]
fn a_device_may_ask_for_smaller_blocks_in_the_middle_of_a_value() {
    // RFC 7959 §2.5: all further blocks are that small, and their numbers are those of the smaller size.
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let content: Vec<u8> = (0..2000_u32).map(|n| n as u8).collect();
    let write = Operation::Write {
        path: path("/5/0/0"),
        mode: WriteMode::Replace,
        values: vec![(path("/5/0/0"), Value::Opaque(content.clone()))],
        format: None,
    };
    let id = world.request("a", write).unwrap();
    let (mut received, mut blocks) = (Vec::new(), Vec::new());
    // 512, then 256 from the answer to the second block on, then 64; 128 is too late.
    let mut wanted = [5, 4, 4, 2, 3].into_iter();
    loop {
        let asked = device.asked(&mut world);
        let option = asked.option(OptionNumber::BLOCK1).unwrap();
        let block = option.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let (number, more, size) = (block >> 4, block & 8 != 0, 16_usize << (block & 7));
        assert_eq!(received.len(), usize::try_from(number).unwrap() * size);
        assert_eq!(asked.payload.len(), size.min(content.len() - received.len()));
        received.extend_from_slice(&asked.payload);
        blocks.push((number, size));
        let szx = wanted.next().unwrap_or(2);
        let answer = (block & !7 | szx).to_be_bytes();
        let answer = &answer[answer.iter().take_while(|byte| **byte == 0).count()..];
        let code = if more { Code::CONTINUE } else { Code::CHANGED };
        device.answer(&mut world, &asked, code, &[(OptionNumber::BLOCK1, answer)], b"");
        if !more {
            break;
        }
    }
    assert_eq!(blocks[..6], [(0, 512), (1, 512), (4, 256), (5, 256), (24, 64), (25, 64)]);
    assert_eq!(received, content);
    assert_eq!(world.outcome(id), Ok(Answer::Done));
}

#[test]
fn a_device_that_takes_the_first_block_for_the_whole_has_not_taken_the_value() {
    let write = || Operation::Write {
        path: path("/5/0/0"),
        mode: WriteMode::Replace,
        values: vec![(path("/5/0/0"), Value::Opaque(vec![7; 1500]))],
        format: None,
    };
    for options in [&[][..], &[(OptionNumber::BLOCK1, &[0x1d][..])]] {
        let (asked, outcome) = ask(write(), Code::CHANGED, options, b"");
        assert_eq!(asked.option(OptionNumber::BLOCK1), Some(&[0x0d][..]));
        assert!(matches!(outcome, Err(RequestError::Malformed(_))), "{outcome:?}");
    }
}

/// Observes and returns the token.
fn observed(world: &mut World, device: &mut Device, what: &str) -> lwm2m_coap::Token {
    let id = world.request("a", observe(what)).unwrap();
    let asked = device.asked(world);
    assert_eq!(asked.option(OptionNumber::OBSERVE), Some(&[][..]));
    device.answer(world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[5]), TEXT], b"20.5");
    assert!(matches!(world.outcome(id), Ok(Answer::Observing(..))));
    asked.token
}

#[test]
fn fresh_notifications_are_told_and_stale_ones_are_not() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3303/0/5700");
    device.notify(&mut world, Kind::NonConfirmable, token, 7, &[TEXT], b"21.5");
    device.notify(&mut world, Kind::NonConfirmable, token, 6, &[TEXT], b"99");
    device.notify(&mut world, Kind::Confirmable, token, 8, &[TEXT], b"22.5");
    assert_eq!(device.got.pop_front().unwrap().kind, Kind::Acknowledgement);
    assert_eq!(
        world.told(),
        [
            "notification a /3303/0/5700: [(/3303/0/5700, Float(21.5))]",
            "notification a /3303/0/5700: [(/3303/0/5700, Float(22.5))]",
        ]
    );
}

#[test]
fn a_notification_that_the_state_is_a_known_one_tells_no_value() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3303/0/5700");
    let header = Header { kind: Kind::NonConfirmable, id: MessageId(900) };
    let options = [(OptionNumber::ETAG, &[1][..]), (OptionNumber::OBSERVE, &[7])];
    device.send(&mut world, &build(header, Code::VALID, token, &options, b""));
    assert_eq!(world.told(), [""; 0]);
    device.notify(&mut world, Kind::NonConfirmable, token, 8, &[TEXT], b"21.5");
    assert_eq!(world.told(), ["notification a /3303/0/5700: [(/3303/0/5700, Float(21.5))]"]);
}

#[test]
fn the_first_message_of_a_write_fits_into_a_datagram_of_576_bytes() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    for length in [512, 600] {
        world.request("a", write(length)).unwrap();
        let (_, _, datagram) = world.sent.front().unwrap();
        assert!((512..=576).contains(&datagram.len()), "{length}: {}", datagram.len());
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::NOT_FOUND, &[], b"");
    }
}

#[test]
fn a_notification_of_no_observation_is_rejected() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = lwm2m_coap::Token::new(&[0x55]).unwrap();
    device.notify(&mut world, Kind::NonConfirmable, token, 1, &[TEXT], b"1");
    assert_eq!(device.got.pop_front().unwrap().kind, Kind::Reset);
    assert!(world.told().is_empty());
}

#[test]
fn the_rest_of_a_long_notification_is_fetched_without_observe() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/0");
    let first = (OptionNumber::BLOCK2, &[8_u8][..]);
    device.notify(&mut world, Kind::NonConfirmable, token, 9, &[TEXT, first], b"0123456789abcdef");
    let asked = device.asked(&mut world);
    assert_eq!(asked.option(OptionNumber::OBSERVE), None);
    assert_eq!(asked.option(OptionNumber::BLOCK2), Some(&[0x10][..]));
    assert_ne!(asked.token, token);
    device.answer(&mut world, &asked, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &[0x10])], b"gh");
    assert_eq!(world.told(), [r#"notification a /3/0/0: [(/3/0/0, String("0123456789abcdefgh"))]"#]);
}

#[test]
fn a_notification_whose_rest_is_refused_is_not_told() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/0");
    let first = (OptionNumber::BLOCK2, &[8_u8][..]);
    device.notify(&mut world, Kind::NonConfirmable, token, 9, &[TEXT, first], b"0123456789abcdef");
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::NOT_FOUND, &[], b"");
    assert!(world.told().is_empty());
}

#[test]
fn a_notification_that_comes_while_the_first_answer_is_fetched_does_not_end_the_observation() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", observe("/3/0/0")).unwrap();
    let first = device.asked(&mut world);
    let options = [(OptionNumber::OBSERVE, &[5][..]), TEXT, (OptionNumber::BLOCK2, &[8])];
    device.answer(&mut world, &first, Code::CONTENT, &options, b"0123456789abcdef");
    let rest = device.asked(&mut world);
    device.notify(&mut world, Kind::Confirmable, first.token, 6, &[TEXT], b"new");
    assert_eq!(device.got.pop_front().unwrap().kind, Kind::Acknowledgement);
    device.answer(&mut world, &rest, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &[0x10])], b"gh");
    // RFC 7641 §1.3, RFC 7959 §3.4: what it says is newer than what was being fetched, and no part of that.
    let outcome = world.outcome(id);
    let Ok(Answer::Observing(_, content)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(content.items, [(path("/3/0/0"), Value::String("new".to_owned()))]);
    device.notify(&mut world, Kind::NonConfirmable, first.token, 7, &[TEXT], b"newer");
    assert_eq!(world.told(), [r#"notification a /3/0/0: [(/3/0/0, String("newer"))]"#]);
}

#[test]
fn a_long_notification_that_comes_while_the_first_answer_is_fetched_takes_its_place() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", observe("/3/0/0")).unwrap();
    let first = device.asked(&mut world);
    let block =
        |sequence: &'static [u8]| [(OptionNumber::OBSERVE, sequence), TEXT, (OptionNumber::BLOCK2, &[8][..])];
    device.answer(&mut world, &first, Code::CONTENT, &block(&[5]), b"old old old old ");
    let of_old = device.asked(&mut world);
    // One that is older changes nothing, a newer one begins anew; without an ETag nothing else would tell them apart.
    device.notify(&mut world, Kind::NonConfirmable, first.token, 4, &block(&[])[1..], b"older older old ");
    device.notify(&mut world, Kind::NonConfirmable, first.token, 6, &block(&[])[1..], b"new new new new ");
    // NSTART is 1: what is asked already is answered first, and its answer is nobody's.
    device.run(&mut world);
    assert!(device.got.is_empty());
    device.answer(&mut world, &of_old, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &[0x10])], b"old");
    let of_new = device.asked(&mut world);
    assert_eq!(of_new.option(OptionNumber::BLOCK2), of_old.option(OptionNumber::BLOCK2));
    device.answer(&mut world, &of_new, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &[0x10])], b"new");
    let outcome = world.outcome(id);
    let Ok(Answer::Observing(_, content)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(content.items, [(path("/3/0/0"), Value::String("new new new new new".to_owned()))]);
}

#[test]
fn a_newer_notification_replaces_the_rest_of_an_older_one() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/0");
    let block = [TEXT, (OptionNumber::BLOCK2, &[8][..])];
    let last = [TEXT, (OptionNumber::BLOCK2, &[0x10][..])];
    // One after the other, each in two blocks: only the newest is told, and as a whole.
    device.notify(&mut world, Kind::NonConfirmable, token, 6, &block, b"1111111111111111");
    let of_first = device.asked(&mut world);
    device.notify(&mut world, Kind::NonConfirmable, token, 7, &block, b"2222222222222222");
    device.notify(&mut world, Kind::NonConfirmable, token, 8, &block, b"3333333333333333");
    device.answer(&mut world, &of_first, Code::CONTENT, &last, b"1");
    let of_last = device.asked(&mut world);
    device.answer(&mut world, &of_last, Code::CONTENT, &last, b"3");
    device.run(&mut world);
    assert!(device.got.is_empty());
    assert_eq!(world.told(), [r#"notification a /3/0/0: [(/3/0/0, String("33333333333333333"))]"#]);
    // One in a single message, and one that ends the observation.
    for (sequence, told) in
        [(10, r#"notification a /3/0/0: [(/3/0/0, String("short"))]"#), (12, "observation ended a: ")]
    {
        device.notify(&mut world, Kind::NonConfirmable, token, sequence - 1, &block, b"4444444444444444");
        let rest = device.asked(&mut world);
        if sequence == 10 {
            device.notify(&mut world, Kind::NonConfirmable, token, sequence, &[TEXT], b"short");
        } else {
            let header = Header { kind: Kind::NonConfirmable, id: MessageId(7) };
            device.send(&mut world, &build(header, Code::NOT_FOUND, token, &[], b""));
        }
        device.answer(&mut world, &rest, Code::CONTENT, &last, b"4");
        let events = world.told();
        assert!(events.len() == 1 && events[0].starts_with(told), "{events:?}");
    }
}

#[test]
fn the_rest_of_a_notification_is_not_told_once_the_observation_is_cancelled() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/0");
    let block = [TEXT, (OptionNumber::BLOCK2, &[8][..])];
    device.notify(&mut world, Kind::NonConfirmable, token, 6, &block, b"0123456789abcdef");
    let rest = device.asked(&mut world);
    let (observation, _) = world.endpoint.observations("a")[0];
    assert!(world.endpoint.forget_observation("a", observation));
    device.answer(&mut world, &rest, Code::CONTENT, &[TEXT, (OptionNumber::BLOCK2, &[0x10])], b"gh");
    assert!(world.told().is_empty());
}

#[test]
fn an_observation_asked_again_keeps_its_token_and_takes_the_new_format() {
    // RFC 7641 §3.3, §4.1: the same token replaces the observation instead of adding one.
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3/0/0");
    let again = Operation::Observe { path: path("/3/0/0"), format: Some(0) };
    let id = world.request("a", again).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!((asked.token, asked.option(OptionNumber::ACCEPT)), (token, Some(&[][..])));
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[9]), TEXT], b"x");
    assert!(matches!(world.outcome(id), Ok(Answer::Observing(..))));
    assert_eq!(world.endpoint.observations("a").len(), 1);
    let block = [TEXT, (OptionNumber::BLOCK2, &[8][..])];
    device.notify(&mut world, Kind::NonConfirmable, token, 10, &block, b"0123456789abcdef");
    assert_eq!(device.asked(&mut world).option(OptionNumber::ACCEPT), Some(&[][..]));
}

#[test]
fn an_observation_gets_the_id_that_it_had_in_a_former_registration() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    observed(&mut world, &mut device, "/3/0/9");
    let (passing, _) = world.endpoint.observations("a")[0];
    assert!(!passing.is_lasting());
    world.told();
    let lasting = ObservationId(7);
    let as_lasting = |world: &mut World, device: &mut Device, what: &str| {
        let now = world.now;
        let id = world.endpoint.observe(now, "a", observe(what), Duration::from_secs(93), lasting).unwrap();
        world.settle();
        let asked = device.asked(world);
        device.answer(world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[9]), TEXT], b"95");
        assert!(matches!(world.outcome(id), Ok(Answer::Observing(ObservationId(7), _))));
        asked.token
    };
    // What stands takes it over, and is told to whoever knew it by another one.
    let token = as_lasting(&mut world, &mut device, "/3/0/9");
    assert_eq!(world.told(), ["observation ended a: it goes on as observation 7"]);
    assert_eq!(world.endpoint.observations("a"), [(lasting, vec![path("/3/0/9")])]);
    // Whoever observes it too has the same one.
    let id = world.request("a", observe("/3/0/9")).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!(asked.token, token);
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[10]), TEXT], b"95");
    assert!(matches!(world.outcome(id), Ok(Answer::Observing(ObservationId(7), _))));

    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.0", "</3/0>");
    assert_eq!(world.told(), ["observation ended a: the device registered again", "registered a"]);
    let token = as_lasting(&mut world, &mut device, "/3/0/9");
    device.notify(&mut world, Kind::NonConfirmable, token, 11, &[TEXT], b"94");
    assert_eq!(world.told(), ["notification a /3/0/9: [(/3/0/9, Integer(94))]"]);
    assert_eq!(world.endpoint.observations("a"), [(lasting, vec![path("/3/0/9")])]);
}

#[test]
fn a_request_is_repeated_with_the_echo_that_the_device_wants() {
    // RFC 9175 §2.3, for a read and for each block of a write, which carries its Request-Tag besides (§3.4).
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", read("/3/0/9")).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::UNAUTHORIZED, &[(OptionNumber::ECHO, &[7; 40])], b"");
    let again = device.asked(&mut world);
    assert_eq!(again.option(OptionNumber::ECHO), Some(&[7; 40][..]));
    assert_eq!((again.uri(), again.token != asked.token), (asked.uri(), true));
    device.answer(&mut world, &again, Code::CONTENT, &[TEXT], b"1");
    assert!(world.outcome(id).is_ok());

    let id = world.request("a", write(600)).unwrap();
    let mut tags = Vec::new();
    for (block, code) in [(&[0x0d][..], Code::CONTINUE), (&[0x15], Code::CHANGED)] {
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::UNAUTHORIZED, &[(OptionNumber::ECHO, &[8])], b"");
        let again = device.asked(&mut world);
        assert_eq!(again.option(OptionNumber::ECHO), Some(&[8][..]));
        assert_eq!((again.option(OptionNumber::BLOCK1), &again.payload), (Some(block), &asked.payload));
        tags.extend([&asked, &again].map(|got| got.option(OptionNumber::REQUEST_TAG).map(<[u8]>::to_vec)));
        device.answer(&mut world, &again, code, &[(OptionNumber::BLOCK1, block)], b"");
    }
    assert_eq!(world.outcome(id), Ok(Answer::Done));
    assert!(tags[0].is_some() && tags.iter().all(|tag| *tag == tags[0]));

    // Whoever does not take his own value refuses, and so does 4.01 without one.
    let id = world.request("a", read("/3/0/9")).unwrap();
    for _ in 0..2 {
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::UNAUTHORIZED, &[(OptionNumber::ECHO, &[9])], b"");
    }
    assert_eq!(world.outcome(id), Err(RequestError::Refused((4, 1), String::new())));
}

fn write(length: usize) -> Operation {
    let values = vec![(path("/5/0/0"), Value::Opaque(vec![7; length]))];
    Operation::Write { path: path("/5/0/0"), mode: WriteMode::Replace, values, format: None }
}

#[test]
fn a_device_that_lost_blocks_gets_them_from_the_beginning_once() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", write(2500)).unwrap();
    let mut numbers = Vec::new();
    // RFC 7959 §2.9.2
    for code in
        [Code::CONTINUE, Code::REQUEST_ENTITY_INCOMPLETE, Code::CONTINUE, Code::REQUEST_ENTITY_INCOMPLETE]
    {
        let asked = device.asked(&mut world);
        let block = asked.option(OptionNumber::BLOCK1).unwrap().to_vec();
        numbers.push(block[0] >> 4);
        let options = [(OptionNumber::BLOCK1, block.as_slice())];
        device.answer(&mut world, &asked, code, if code == Code::CONTINUE { &options } else { &[] }, b"");
    }
    assert_eq!(numbers, [0, 1, 0, 1]);
    assert_eq!(world.outcome(id), Err(RequestError::Refused((4, 8), String::new())));
}

#[test]
fn a_whole_body_that_is_too_large_goes_in_the_blocks_that_the_device_wants() {
    // RFC 7959 §2.9.3: 4.13 with a size is a hint, without one, or with one that does not help, it is final.
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", write(40)).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!(asked.option(OptionNumber::BLOCK1), None);
    let too_large = Code::REQUEST_ENTITY_TOO_LARGE;
    device.answer(&mut world, &asked, too_large, &[(OptionNumber::BLOCK1, &[1])], b"");
    let asked = device.asked(&mut world);
    assert_eq!((asked.option(OptionNumber::BLOCK1), asked.payload.len()), (Some(&[0x09][..]), 32));
    assert_eq!(asked.option(OptionNumber::SIZE1), Some(&[40][..]));
    device.answer(&mut world, &asked, too_large, &[(OptionNumber::SIZE1, &[16])], b"");
    assert_eq!(world.outcome(id), Err(RequestError::Refused((4, 13), String::new())));
    let (_, outcome) = ask(write(40), too_large, &[(OptionNumber::BLOCK1, &[2])], b"");
    assert_eq!(outcome, Err(RequestError::Refused((4, 13), String::new())));
}

#[test]
fn an_observation_survives_a_new_session_of_the_same_identity_and_ends_with_a_register() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3303/0/5700");
    let waiting = world.request("a", read("/3/0/9")).unwrap();
    device.asked(&mut world);
    device.connect(&mut world, "a-management", &KEY);
    assert_eq!(world.outcome(waiting), Err(RequestError::Interrupted));
    world.told();
    device.notify(&mut world, Kind::NonConfirmable, token, 7, &[TEXT], b"21.5");
    assert_eq!(world.told(), ["notification a /3303/0/5700: [(/3303/0/5700, Float(21.5))]"]);
    // Tokens begin anew under the new keys, and skip that of the living observation.
    let id = world.request("a", read("/3/0/9")).unwrap();
    let asked = device.asked(&mut world);
    assert_ne!(asked.token, token);
    device.answer(&mut world, &asked, Code::CONTENT, &[TEXT], b"1");
    assert!(world.outcome(id).is_ok());

    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.0", "</1/0>");
    assert_eq!(world.told(), ["observation ended a: the device registered again", "registered a"]);
    device.notify(&mut world, Kind::NonConfirmable, token, 8, &[TEXT], b"22.5");
    assert_eq!(device.got.pop_front().unwrap().kind, Kind::Reset);
}

#[test]
fn a_cancelled_observation_is_no_more_and_an_error_ends_one() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let token = observed(&mut world, &mut device, "/3303/0/5700");
    let (observation, _) = world.endpoint.observations("a")[0];
    let id = world.request("a", Operation::Cancel { observation }).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!((asked.option(OptionNumber::OBSERVE), asked.token), (Some(&[1][..]), token));
    device.answer(&mut world, &asked, Code::CONTENT, &[TEXT], b"1");
    assert_eq!(world.outcome(id), Ok(Answer::Done));
    assert!(world.endpoint.observations("a").is_empty());
    assert_eq!(world.request("a", Operation::Cancel { observation }), Err(RequestError::UnknownObservation));
}

#[test]
fn a_sleeping_device_that_registers_again_interrupts_what_waits() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let waiting = world.request("a", read("/3/0/9")).unwrap();
    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.0", "</1/0>");
    assert_eq!(world.outcome(waiting), Err(RequestError::Interrupted));
}

#[test]
fn the_alternate_path_stands_in_front_of_every_path() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", "</lwm2m>;rt=\"oma.lwm2m\";ct=11542,</lwm2m/3/0>");
    world.request("a", read("/3/0/9")).unwrap();
    let asked = device.asked(&mut world);
    assert_eq!(asked.uri(), "/lwm2m/3/0/9");
    assert_eq!(asked.token.length(), 4, "without security a token cannot be guessed");
}

#[test]
fn what_is_written_is_in_a_format_that_the_device_announced() {
    for (version, announced, several, one) in [
        ("1.1", "", &[112_u8][..], &[112_u8][..]),
        ("1.1", ";ct=112", &[112], &[112]),
        ("1.1", ";ct=\"110 11542\"", &[0x2d, 0x16], &[0x2d, 0x16]),
        // Text is what every device takes.
        ("1.1", ";ct=110", &[110], &[]),
        ("1.0", "", &[0x2d, 0x16], &[0x2d, 0x16]),
        ("1.0", ";ct=11543", &[0x2d, 0x17], &[]),
        // The JSON of 1.0 is of 1.0 alone.
        ("1.1", ";ct=11543", &[0x2d, 0x16], &[0x2d, 0x16]),
        ("1.1", ";ct=\"110 11543\"", &[110], &[]),
    ] {
        let mut world = World::new(true);
        let mut device = Device::plain(Listener::Coap, 40_000);
        device.register(
            &mut world,
            &format!("ep=a&lt=60&lwm2m={version}"),
            &format!("</>;rt=\"oma.lwm2m\"{announced},</3/0>"),
        );
        for (at, format) in [("/3/0", several), ("/3/0/14", one)] {
            let values = vec![(path("/3/0/14"), Value::String("+01:00".to_owned()))];
            let write = Operation::Write { path: path(at), mode: WriteMode::Replace, values, format: None };
            let id = world.request("a", write).unwrap();
            let asked = device.asked(&mut world);
            assert_eq!(
                asked.option(OptionNumber::CONTENT_FORMAT),
                Some(format),
                "{version} {announced} {at}"
            );
            device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
            assert_eq!(world.outcome(id), Ok(Answer::Done));
        }
    }
}

#[test]
fn an_observation_whose_first_values_cannot_be_understood_does_not_stand() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let id = world.request("a", observe("/3303/0")).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[5]), TLV], &[0xff, 0xff]);
    assert!(matches!(world.outcome(id), Err(RequestError::Malformed(_))));
    assert!(world.endpoint.observations("a").is_empty());
}

#[test]
fn observations_end_with_the_registration_and_that_is_told() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    observed(&mut world, &mut device, "/3303/0/5700");
    world.pass(Duration::from_secs(86_401));
    assert_eq!(world.told(), ["observation ended a: the registration expired", "expired a"]);
}

#[test]
fn a_trigger_beyond_the_queue_of_a_device_is_unanswered() {
    let mut config = Config::default();
    config.queue = 2;
    let mut world = World::with(config, false);
    device(&mut world);
    for _ in 0..3 {
        world.request("a", read("/3/0/9")).unwrap();
    }
    assert_eq!(world.request("a", read("/3/0/9")).unwrap_err(), RequestError::QueueFull);
    world.endpoint.trigger_bootstrap(world.now, "a");
    let unanswered = Fact::TriggerAnswered { endpoint: "a".into(), answer: TriggerAnswer::Unanswered };
    assert_eq!(world.endpoint.poll_fact(), Some(unanswered));
}
