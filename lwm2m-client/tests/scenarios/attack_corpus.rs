//! The rows of the attack corpus on messages, blocks and security data, at a device that is asked and one that asks.

use lwm2m_client::objects::{Format, Value};
use lwm2m_client::{Notice, Reason, ShortServerId};
use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, Kind, OptionNumber, udp};

use crate::world::{Script, World, account, tlv};

const DM: u16 = 5683;

fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    world.objects.notes.list.insert(0, Default::default());
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    world
}

/// Hands a datagram to the device; type, code and message id of what it sends.
fn raw(world: &mut World, datagram: &[u8]) -> Option<(Kind, Code, u16)> {
    world.last.clear();
    world.deliver(0, &mut datagram.to_vec());
    world.exchange();
    let (header, message) = udp::parse(&world.last).ok()?;
    Some((header.kind, message.code, header.id.0))
}

/// One block of a write, and how it is answered.
fn write_block(world: &mut World, path: &str, format: u32, block: Block, payload: &[u8]) -> Code {
    let answer = world.ask_with(DM, |writer| {
        writer.set_code(Code::PUT);
        writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
        writer.uint(OptionNumber::CONTENT_FORMAT, format).unwrap();
        writer.block1(block).unwrap();
        writer.payload(payload).unwrap();
    });
    answer.code
}

fn block(number: u32, more: bool, size: usize) -> Block {
    Block::new(number, more, Szx::fitting(size)).unwrap()
}

#[test]
fn row_31_a_block_for_a_transfer_that_is_not_there_is_incomplete() {
    let mut world = world();
    for path in ["42800/0/3", "42800/0/1", "nothing/here"] {
        for number in [1, 5, 0xf_ffff] {
            let code = write_block(&mut world, path, 42, block(number, true, 64), &[0; 64]);
            assert_eq!(code, Code::REQUEST_ENTITY_INCOMPLETE, "{path} {number}");
        }
    }
    // As a client: 2.31 to what had no blocks.
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    world.server(DM).refusal = Some(Code::CONTINUE);
    world.run(1);
    let reason = Reason::Refused(Code::CONTINUE.as_u8());
    let server = ShortServerId::new(1).unwrap();
    assert!(world.notices.contains(&Notice::RegistrationRetry { server, reason }), "{:?}", world.notices);
}

#[test]
fn row_32_and_33_malformed_messages_are_rejected_and_leave_nothing() {
    let mut world = world();
    let long_token = [&[0x4f, 1, 0, 77][..], &[0; 15]].concat();
    for message in [
        &[0x40, 1, 0, 77, 0xe0, 0xff, 0xff][..],
        &[0x40, 3, 0, 77, 0xe0, 0xfe, 0xf2, 0x10],
        &[0x40, 2, 0, 77, 0xb1, b'3', 0x0e, 0xff, 0xff, 1],
        &[0x40, 1, 0, 77, 0xf1, 1],
        &[0x40, 1, 0, 77, 0x1f, 1],
        &[0x40, 1, 0, 77, 0xff],
        &[0x40, 1, 0, 77, 0xb1, b'3', 0xff],
        &[0x48, 1, 0, 77, 1, 2, 3],
        &long_token,
        &[0x40, 0, 0, 77, 0xff, 1],
        &[0x40, 0x45, 0, 77, 0xff],
    ] {
        let reset = Some((Kind::Reset, Code::EMPTY, 77));
        assert_eq!(raw(&mut world, message), reset, "{message:02x?}");
        for kind in [0x10, 0x20, 0x30] {
            let other = [&[message[0] | kind], &message[1..]].concat();
            assert_eq!(raw(&mut world, &other), None, "{other:02x?}");
        }
    }
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
}

#[test]
fn row_34_number_times_size_does_not_overflow_and_the_size_may_not_shift_a_transfer() {
    let mut world = world();
    for (number, size) in [(0xf_ffff, 1024), (0xf_ffff, 16), (1 << 19, 64)] {
        let answer = world.ask_with(DM, |writer| {
            writer.set_code(Code::GET);
            writer.split(OptionNumber::URI_PATH, "3/0/0", '/').unwrap();
            writer.block2(block(number, false, size)).unwrap();
        });
        assert_eq!(answer.code, Code::BAD_REQUEST);
    }
    // 0/1/64, then 1/1/128: that is offset 128, not 64.
    assert_eq!(write_block(&mut world, "42800/0/3", 42, block(0, true, 64), &[1; 64]), Code::CONTINUE);
    let shifted = write_block(&mut world, "42800/0/3", 42, block(1, true, 128), &[2; 128]);
    assert_eq!(shifted, Code::REQUEST_ENTITY_INCOMPLETE);
    // The same place in smaller blocks goes on.
    assert_eq!(write_block(&mut world, "42800/0/3", 42, block(0, true, 64), &[1; 64]), Code::CONTINUE);
    assert_eq!(write_block(&mut world, "42800/0/3", 42, block(2, true, 32), &[2; 32]), Code::CONTINUE);
    assert_eq!(write_block(&mut world, "42800/0/3", 42, block(6, false, 16), &[3; 7]), Code::CHANGED);
    let whole = [&[1; 64][..], &[2; 32], &[3; 7]].concat();
    assert_eq!(world.objects.notes.streamed, whole);
}

#[test]
fn row_35_a_later_block_is_no_message_of_its_own() {
    let mut world = world();
    let text = "x".repeat(100);
    let body = tlv("/42800/0", &[("0", Value::String(&text)), ("2/0", Value::Integer(7))]);
    let parts: Vec<&[u8]> = body.chunks(64).collect();
    let format = u32::from(Format::TLV.0);
    // The second block alone would be a value of another resource, or none.
    let alone = write_block(&mut world, "42800/0", format, block(1, false, 64), parts[1]);
    assert_eq!(alone, Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(write_block(&mut world, "42800/0", format, block(0, true, 64), parts[0]), Code::CONTINUE);
    let wrong = write_block(&mut world, "42800/0", format, block(2, false, 64), parts[1]);
    assert_eq!(wrong, Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(world.objects.notes.list[&0].text, "");
    assert_eq!(write_block(&mut world, "42800/0", format, block(0, true, 64), parts[0]), Code::CONTINUE);
    assert_eq!(write_block(&mut world, "42800/0", format, block(1, false, 64), parts[1]), Code::CHANGED);
    assert_eq!(world.objects.notes.list[&0].text, text);
}

#[test]
fn row_40_a_long_path_leaves_nothing_to_the_next_request() {
    let mut world = world();
    let ask = |world: &mut World, segments: &[&[u8]]| {
        let answer = world.ask_with(DM, |writer| {
            writer.set_code(Code::GET);
            for segment in segments {
                writer.option(OptionNumber::URI_PATH, segment).unwrap();
            }
        });
        (answer.code, answer.payload)
    };
    let long = [b'3'; 255];
    assert_eq!(ask(&mut world, &[b"3", &long]).0, Code::NOT_FOUND);
    assert_eq!(ask(&mut world, &[&b"3"[..]; 40]).0, Code::NOT_FOUND);
    assert!(ask(&mut world, &[b"3", b"0", b"0"]).1.ends_with(b"Acme"));
    assert_eq!(ask(&mut world, &[&[b'0'; 256]]).0, Code::BAD_OPTION);
    assert!(ask(&mut world, &[b"3", b"0", b"0"]).1.ends_with(b"Acme"));
}

#[test]
fn row_43_no_server_learns_security_data_and_an_attribute_without_value_is_unset() {
    let mut world = world();
    for path in ["0", "0/1", "0/1/0", "0/1/5"] {
        for accept in [None, Some(40), Some(0), Some(11542), Some(112)] {
            let answer = world.ask_with(DM, |writer| {
                writer.set_code(Code::GET);
                writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
                if let Some(accept) = accept {
                    writer.uint(OptionNumber::ACCEPT, accept).unwrap();
                }
            });
            assert!(!answer.code.is_success() && answer.payload.is_empty(), "{path} {accept:?} {answer:?}");
        }
    }
    for (query, code) in [
        ("pmin", Code::CHANGED),
        ("pmin=", Code::BAD_REQUEST),
        ("=5", Code::BAD_REQUEST),
        ("=", Code::BAD_REQUEST),
        ("pmin=5&pmax", Code::BAD_REQUEST),
    ] {
        let answer = world.ask_with(DM, |writer| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, "3303/0", '/').unwrap();
            writer.option(OptionNumber::URI_QUERY, query.as_bytes()).unwrap();
        });
        assert_eq!(answer.code, code, "{query}");
    }
}
