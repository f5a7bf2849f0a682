//! Read, Write, Execute, Create, Delete, Discover, block-wise transfers, and malformed input (LwM2M Core 1.1.1 §6.3).

use lwm2m_client::objects::{Content, Format, Operation, Path, Value, WriteMode};
use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, OptionNumber};

use crate::world::{BODY, Script, World, account, target, tlv};

const DM: u16 = 5683;

fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    world
}

#[test]
fn values_are_read_in_every_format() {
    let mut world = world();
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    let read = world.read(DM, "/3/0", Format::TLV);
    assert_eq!((read.code, read.format), (Code::CONTENT, Some(11_542)));
    assert_eq!(read.payload, b"\xc4\x00Acme\x83\x0b\x41\x00\x00\xc1\x10U");
    let read = world.read(DM, "/3303/0/5700", Format::SENML_CBOR);
    assert_eq!(read.format, Some(112));
    assert_eq!(read.payload, b"\x81\xa2\x21\x6c/3303/0/5700\x02\xfa\x41\xa0\x00\x00");
    let read = world.ask(DM, &Operation::Read { target: target("/3303/0"), accept: None });
    assert_eq!(read.format, Some(112));
    assert_eq!(world.read(DM, "/3/0", Format(11_543)).code, Code::NOT_ACCEPTABLE);
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused_with_its_code() {
    let mut world = world();
    for (path, code) in [
        ("/9", Code::NOT_FOUND),
        ("/3/1", Code::NOT_FOUND),
        ("/3/0/1", Code::NOT_FOUND),
        ("/3/0/4", Code::METHOD_NOT_ALLOWED),
        ("/3/0/0/0", Code::METHOD_NOT_ALLOWED),
        ("/0", Code::UNAUTHORIZED),
        ("/0/1/5", Code::UNAUTHORIZED),
    ] {
        assert_eq!(world.read(DM, path, Format::TLV).code, code, "{path}");
    }
    // OMA ETS LightweightM2M-1.1-int-221 and 256
    assert_eq!(world.write_text(DM, "/0/1/0", "coap://x"), Code::UNAUTHORIZED);
    assert_eq!(world.attributes(DM, "/0", &["pmin=30"]), Code::UNAUTHORIZED);
    assert_eq!(world.write_text(DM, "/1/1/0", "123"), Code::METHOD_NOT_ALLOWED);
    assert_eq!(world.read(DM, "/1/1/0", Format::TEXT).text(), "1");
    assert_eq!(world.ask(DM, &Operation::Delete { target: target("/3/0") }).code, Code::METHOD_NOT_ALLOWED);
}

#[test]
fn a_server_instance_is_written_partially_and_as_a_whole() {
    // OMA ETS LightweightM2M-1.1-int-215 and 226
    let mut world = world();
    let values = [("2", Value::Integer(101)), ("3", Value::Integer(1010)), ("6", Value::Boolean(true))];
    let payload = tlv("/1/1", &values);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::Write { target: target("/1/1"), mode: WriteMode::Partial, content };
    assert_eq!(world.ask(DM, &write).code, Code::CHANGED);
    assert_eq!(world.read(DM, "/1/1/2", Format::TEXT).text(), "101");
    assert_eq!(world.read(DM, "/1/1/1", Format::TEXT).text(), "86400");
    let values = [("1", Value::Integer(86_400)), ("6", Value::Boolean(false)), ("7", Value::String("U"))];
    let payload = tlv("/1/1", &values);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::Write { target: target("/1/1"), mode: WriteMode::Replace, content };
    assert_eq!(world.ask(DM, &write).code, Code::CHANGED);
    assert_eq!(world.read(DM, "/1/1/2", Format::TEXT).code, Code::NOT_FOUND);
    assert_eq!(world.read(DM, "/1/1/6", Format::TEXT).text(), "0");
}

#[test]
fn a_replaced_server_instance_keeps_what_it_cannot_be_without() {
    let mut world = world();
    let payload = tlv("/1/1", &[("2", Value::Integer(5))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::Write { target: target("/1/1"), mode: WriteMode::Replace, content };
    world.ask(DM, &write);
    assert_eq!(world.read(DM, "/1/1/1", Format::TEXT).text(), "86400");
    assert_eq!(world.read(DM, "/1/1/7", Format::TEXT).text(), "U");
}

#[test]
fn the_resources_of_1_1_are_kept_and_those_of_1_2_are_not_there() {
    let mut world = world();
    // APN Link, Preferred Transport.
    for (path, values) in [("/1/1/10", ["3:0", "65535:65535"]), ("/1/1/22", ["U", "N"])] {
        assert_eq!(world.read(DM, path, Format::TEXT).code, Code::NOT_FOUND, "{path}");
        for value in values {
            assert_eq!(world.write_text(DM, path, value), Code::CHANGED, "{path}");
            assert_eq!(world.read(DM, path, Format::TEXT).text(), value);
        }
    }
    world.run(1);
    world.power_loss();
    assert!(world.run_until(5, |world| world.count_of(DM) == 2));
    for (path, value) in [("/1/1/10", "65535:65535"), ("/1/1/22", "N")] {
        assert_eq!(world.read(DM, path, Format::TEXT).text(), value, "{path}");
    }
    for (path, value) in [("/1/1/10", "99:0"), ("/1/1/22", "Q"), ("/1/1/22", "UT"), ("/1/1/22", "")] {
        assert_eq!(world.write_text(DM, path, value), Code::BAD_REQUEST, "{path}: {value}");
    }
    for path in ["/1/1/24", "/1/1/25", "/1/1/26", "/1/1/27"] {
        assert_eq!(world.write_text(DM, path, "1"), Code::NOT_FOUND, "{path}");
        assert_eq!(world.read(DM, path, Format::TEXT).code, Code::NOT_FOUND, "{path}");
    }
    // In an instance that is written they are ignored.
    let values = [("2", Value::Integer(7)), ("26", Value::Integer(1)), ("27", Value::Unsigned(3))];
    let payload = tlv("/1/1", &values);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::Write { target: target("/1/1"), mode: WriteMode::Partial, content };
    assert_eq!(world.ask(DM, &write).code, Code::CHANGED);
    assert_eq!(world.read(DM, "/1/1/2", Format::TEXT).text(), "7");
}

#[test]
fn a_management_server_makes_and_deletes_no_account() {
    let mut world = world();
    let payload =
        tlv("/1/2", &[("1", Value::Integer(60)), ("6", Value::Boolean(true)), ("7", Value::String("U"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let create = Operation::Create { target: target("/1"), content };
    assert_eq!(world.ask(DM, &create).code, Code::METHOD_NOT_ALLOWED);
    assert_eq!(world.ask(DM, &Operation::Delete { target: target("/1/1") }).code, Code::METHOD_NOT_ALLOWED);
    assert_eq!(world.read(DM, "/1/1/0", Format::TEXT).text(), "1");
}

#[test]
fn execute_runs_once_for_a_request_and_its_duplicates() {
    let mut world = world();
    assert_eq!(world.execute(DM, "/3/0/4"), Code::CHANGED);
    assert_eq!(world.objects.device.reboots, 1);
    let mut duplicate = b"\x41\x02\x77\x77\x09\xb1\x33\x01\x30\x01\x34".to_vec();
    for _ in 0..3 {
        world.deliver(0, &mut duplicate.clone());
    }
    duplicate[3] = 0x78;
    assert_eq!(world.objects.device.reboots, 2);
    world.deliver(0, &mut duplicate);
    assert_eq!(world.objects.device.reboots, 3);
}

#[test]
fn a_slow_execution_is_answered_separately() {
    let mut world = world();
    world.objects.temperature.is_slow = true;
    let id = world.send(DM, |writer| {
        writer.set_code(Code::POST);
        writer.split(OptionNumber::URI_PATH, "3303/0/5605", '/').unwrap();
    });
    world.run(5);
    assert!(world.response(DM, id).is_none());
    // Another one has to wait.
    world.client.complete(Path::resource(3, 0, 4), Ok(()));
    world.run(1);
    assert!(world.response(DM, id).is_none());
    world.client.complete(Path::resource(3303, 0, 5605), Ok(()));
    world.run(1);
    assert_eq!(world.response(DM, id).unwrap().code, Code::CHANGED);
}

#[test]
fn an_execution_completed_at_once_is_answered_in_the_acknowledgement() {
    let mut world = world();
    world.objects.temperature.is_slow = true;
    world.completes_at_once = Some(Path::resource(3303, 0, 5605));
    assert_eq!(world.execute(DM, "/3303/0/5605"), Code::CHANGED);
    assert_eq!(world.execute(DM, "/3303/0/5605"), Code::CHANGED);
}

#[test]
fn one_operation_may_be_deferred_at_a_time() {
    let mut world = world();
    world.objects.temperature.is_slow = true;
    let id = world.send(DM, |writer| {
        writer.set_code(Code::POST);
        writer.split(OptionNumber::URI_PATH, "3303/0/5605", '/').unwrap();
    });
    world.run(5);
    assert_eq!(world.execute(DM, "/3/0/4"), Code::SERVICE_UNAVAILABLE);
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).code, Code::CONTENT);
    world.client.complete(Path::resource(3303, 0, 5605), Err(lwm2m_client::objects::Error::Internal));
    world.run(1);
    assert_eq!(world.response(DM, id).unwrap().code, Code::INTERNAL_SERVER_ERROR);
}

#[test]
fn instances_are_created_read_and_deleted() {
    // OMA ETS LightweightM2M-1.1-int-1630 and 1635
    let mut world = world();
    let payload = tlv("/42800/4", &[("0", Value::String("one"))]);
    let create = |payload: &[u8], world: &mut World| {
        let content = Content { format: Format::TLV, payload };
        world.ask(DM, &Operation::Create { target: target("/42800"), content })
    };
    let created = create(&payload, &mut world);
    assert_eq!((created.code, created.location), (Code::CREATED, vec!["42800".to_owned(), "0".to_owned()]));
    world.run(1);
    let update = world.server(DM).requests.last().unwrap().clone();
    assert!(update.text().ends_with("</42800/0>"), "{}", update.text());
    assert_eq!(world.read(DM, "/42800/0/0", Format::TEXT).text(), "one");
    // The text is mandatory.
    assert_eq!(create(&tlv("/42800/4", &[("1", Value::Opaque(b"x"))]), &mut world).code, Code::BAD_REQUEST);
    assert_eq!(create(b"\xff", &mut world).code, Code::BAD_REQUEST);
    assert_eq!(world.objects.notes.list.len(), 1);
    assert_eq!(world.ask(DM, &Operation::Delete { target: target("/42800/0") }).code, Code::DELETED);
    world.run(1);
    assert!(world.server(DM).requests.last().unwrap().text().ends_with("</42800>"));
}

#[test]
fn discover_lists_resources_and_attributes() {
    let mut world = world();
    assert_eq!(world.attributes(DM, "/3303/0/5700", &["pmin=10", "gt=25.5"]), Code::CHANGED);
    assert_eq!(world.attributes(DM, "/3303", &["pmax=60"]), Code::CHANGED);
    let discover = |path: &str, world: &mut World| {
        let answer = world.ask(DM, &Operation::Discover { target: target(path), depth: None });
        assert_eq!((answer.code, answer.format), (Code::CONTENT, Some(40)));
        answer.text().to_owned()
    };
    assert_eq!(discover("/3/0", &mut world), "</3/0>,</3/0/0>,</3/0/4>,</3/0/11>;dim=1,</3/0/16>");
    assert_eq!(
        discover("/3303", &mut world),
        "</3303>;ver=1.1;pmax=60,</3303/0>,</3303/0/5605>,</3303/0/5700>;pmin=10;gt=25.5"
    );
    assert_eq!(discover("/3303/0/5700", &mut world), "</3303/0/5700>;pmin=10;pmax=60;gt=25.5");
}

#[test]
fn a_large_value_is_read_block_by_block() {
    let mut world = world();
    let attachment: Vec<u8> = (0..1000_u32).map(|n| (n * 7 % 251) as u8).collect();
    world.objects.notes.list.insert(0, Default::default());
    world.objects.notes.list.get_mut(&0).unwrap().attachment = attachment.clone();
    let mut body = Vec::new();
    for number in 0.. {
        let answer = world.ask_with(DM, |writer| {
            writer.split(OptionNumber::URI_PATH, "42800/0/1", '/').unwrap();
            writer.uint(OptionNumber::ACCEPT, 42).unwrap();
            writer.block2(Block::new(number, false, Szx::fitting(256)).unwrap()).unwrap();
        });
        assert_eq!(answer.code, Code::CONTENT);
        body.extend_from_slice(&answer.payload);
        if !answer.block.unwrap().1 {
            break;
        }
    }
    assert_eq!(body, attachment);
}

fn write_blocks(world: &mut World, path: &str, format: u32, body: &[u8]) -> Code {
    let szx = Szx::fitting(64);
    let blocks: Vec<&[u8]> = body.chunks(64).collect();
    for (number, block) in blocks.iter().enumerate() {
        let is_more = number + 1 < blocks.len();
        let answer = world.ask_with(DM, |writer| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, path.trim_start_matches('/'), '/').unwrap();
            writer.uint(OptionNumber::CONTENT_FORMAT, format).unwrap();
            writer.block1(Block::new(number as u32, is_more, szx).unwrap()).unwrap();
            writer.payload(block).unwrap();
        });
        if answer.code != Code::CONTINUE {
            return answer.code;
        }
        assert!(is_more);
    }
    panic!("the last block was answered 2.31")
}

#[test]
fn a_structured_write_in_blocks_is_assembled_up_to_a_cap() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    let text = "x".repeat(300);
    let payload = tlv("/42800/0", &[("0", Value::String(&text)), ("2/5", Value::Integer(1))]);
    assert_eq!(write_blocks(&mut world, "/42800/0", 11_542, &payload), Code::CHANGED);
    assert_eq!(world.objects.notes.list[&0].text, text);
    assert_eq!(world.objects.notes.list[&0].numbers[&5], 1);
    let text = "x".repeat(BODY + 1);
    let payload = tlv("/42800/0", &[("0", Value::String(&text))]);
    assert_eq!(write_blocks(&mut world, "/42800/0", 11_542, &payload), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(world.objects.notes.list[&0].text.len(), 300);
}

#[test]
fn an_opaque_of_any_length_is_streamed() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    let image: Vec<u8> = (0..5000_u32).map(|n| (n % 256) as u8).collect();
    assert_eq!(write_blocks(&mut world, "/42800/0/3", 42, &image), Code::CHANGED);
    assert_eq!(world.objects.notes.streamed, image);
}

#[test]
fn a_structured_write_that_was_given_up_does_not_limit_a_streamed_one() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    let answer = world.ask_with(DM, |writer| {
        writer.set_code(Code::PUT);
        writer.split(OptionNumber::URI_PATH, "42800/0", '/').unwrap();
        writer.uint(OptionNumber::CONTENT_FORMAT, 11_542).unwrap();
        writer.block1(Block::new(0, true, Szx::fitting(64)).unwrap()).unwrap();
        writer.payload(&[0; 64]).unwrap();
    });
    assert_eq!(answer.code, Code::CONTINUE);
    assert_eq!(write_blocks(&mut world, "/42800/0/3", 42, &[7; 1000]), Code::CHANGED);
    assert_eq!(world.objects.notes.streamed, [7; 1000]);
}

#[test]
fn a_stream_survives_what_is_stored_meanwhile() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    for (number, is_more) in [(0, true), (1, true), (2, false)] {
        let answer = world.ask_with(DM, |writer| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, "42800/0/3", '/').unwrap();
            writer.uint(OptionNumber::CONTENT_FORMAT, 42).unwrap();
            writer.block1(Block::new(number, is_more, Szx::fitting(64)).unwrap()).unwrap();
            writer.payload(&[7; 64]).unwrap();
        });
        assert_eq!(answer.code, if is_more { Code::CONTINUE } else { Code::CHANGED });
        assert_eq!(world.write_text(DM, "/1/1/2", "5"), Code::CHANGED);
    }
    assert_eq!(world.objects.notes.streamed, [7; 192]);
}

#[test]
fn a_stream_that_is_completed_later_acknowledges_its_last_block() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    world.objects.notes.is_slow = true;
    let block = |number, is_more| {
        move |writer: &mut lwm2m_coap::Writer<'_>| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, "42800/0/3", '/').unwrap();
            writer.uint(OptionNumber::CONTENT_FORMAT, 42).unwrap();
            writer.block1(Block::new(number, is_more, Szx::fitting(64)).unwrap()).unwrap();
            writer.payload(&[7; 64]).unwrap();
        }
    };
    assert_eq!(world.ask_with(DM, block(0, true)).block, Some((0, true)));
    let id = world.send(DM, block(1, false));
    world.run(1);
    world.client.complete(target("/42800/0/3").path, Ok(()));
    world.run(1);
    let answer = world.response(DM, id).unwrap();
    assert_eq!((answer.code, answer.block), (Code::CHANGED, Some((1, false))));
}

#[test]
fn a_block_out_of_order_is_refused() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    let answer = world.ask_with(DM, |writer| {
        writer.set_code(Code::PUT);
        writer.split(OptionNumber::URI_PATH, "42800/0/3", '/').unwrap();
        writer.uint(OptionNumber::CONTENT_FORMAT, 42).unwrap();
        writer.block1(Block::new(3, true, Szx::fitting(64)).unwrap()).unwrap();
        writer.payload(&[0; 64]).unwrap();
    });
    assert_eq!(answer.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

/// One block of 64 bytes of a Write, and how it is answered.
fn write_block(world: &mut World, path: &str, number: u32, byte: u8) -> Code {
    let answer = world.ask_with(DM, |writer| {
        writer.set_code(Code::PUT);
        writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
        writer.uint(OptionNumber::CONTENT_FORMAT, 42).unwrap();
        writer.block1(Block::new(number, number < 3, Szx::fitting(64)).unwrap()).unwrap();
        writer.payload(&[byte; 64]).unwrap();
    });
    answer.code
}

#[test]
fn neither_late_blocks_nor_those_of_other_transfers_end_the_one_under_way() {
    let mut world = world();
    world.objects.notes.list.insert(0, Default::default());
    let mut codes = Vec::new();
    for (path, number, byte) in [
        ("42800/0/3", 0, 0),
        ("42800/0/3", 1, 1),
        ("42800/0/1", 1, 9),
        ("42800/0/3", 2, 2),
        ("42800/0/3", 1, 1),
        ("42800/0/3", 3, 3),
    ] {
        codes.push(write_block(&mut world, path, number, byte).to_string());
    }
    // RFC 7959 §2.9.2
    assert_eq!(codes, ["2.31", "2.31", "4.08", "2.31", "2.31", "2.04"]);
    let whole: Vec<u8> = (0..4).flat_map(|byte| [byte; 64]).collect();
    assert_eq!(world.objects.notes.streamed, whole);
}

#[test]
fn a_method_that_is_not_supported_is_refused_whatever_it_is_asked_of() {
    // RFC 7252 §5.8; RFC 8132 for 0.05 to 0.07.
    let mut world = world();
    for detail in 5..32 {
        for path in ["3/0", "nothing/there"] {
            let answer = world.ask_with(DM, |writer| {
                writer.set_code(Code::new(0, detail));
                writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
                writer.payload(b"x").unwrap();
            });
            assert_eq!(answer.code, Code::METHOD_NOT_ALLOWED, "0.{detail:02} {path}");
        }
    }
}

#[test]
fn an_invalid_write_changes_nothing() {
    let mut world = world();
    let values = [("2", Value::Integer(5)), ("7", Value::String("XYZ"))];
    let payload = tlv("/1/1", &values);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::Write { target: target("/1/1"), mode: WriteMode::Partial, content };
    assert_eq!(world.ask(DM, &write).code, Code::BAD_REQUEST);
    assert_eq!(world.read(DM, "/1/1/2", Format::TEXT).code, Code::NOT_FOUND);
    assert_eq!(world.write_text(DM, "/1/1/1", "-5"), Code::BAD_REQUEST);
    assert_eq!(world.write_text(DM, "/1/1/1", "many"), Code::BAD_REQUEST);
}

#[test]
fn malformed_input_is_dropped_and_counted() {
    let mut world = world();
    let before = world.client.counters().dropped;
    let mut rng = crate::world::counter_rng(9);
    for length in 0..200 {
        let mut datagram = vec![0; length];
        rng(&mut datagram);
        world.deliver(0, &mut datagram.clone());
        // A valid header in front of noise.
        if let [first, second, ..] = datagram.as_mut_slice() {
            *first = 0x40 | (*first & 0x31);
            *second = 1 + *second % 7;
            world.deliver(0, &mut datagram);
        }
    }
    assert!(world.client.counters().dropped > before);
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
}

#[test]
fn every_truncation_of_a_write_leaves_the_device_as_it_was() {
    let mut world = world();
    let payload = tlv(
        "/1/1",
        &[("1", Value::Integer(86_400)), ("2", Value::Integer(70_000)), ("7", Value::String("U"))],
    );
    for cut in 0..payload.len() {
        let content = Content { format: Format::TLV, payload: &payload[..cut] };
        world.ask(DM, &Operation::Write { target: target("/1/1"), mode: WriteMode::Partial, content });
        assert_eq!(world.read(DM, "/1/1/1", Format::TEXT).text(), "86400");
        assert!(world.client.is_registered());
    }
}

#[test]
fn the_answer_to_a_read_is_produced_again_for_a_duplicate() {
    let mut world = world();
    let mut read = b"\x41\x01\x55\x55\x09\xb1\x33\x01\x30\x01\x30".to_vec();
    let before = world.sent.len();
    world.deliver(0, &mut read.clone());
    world.deliver(0, &mut read);
    assert_eq!(world.sent.len(), before + 2);
}
