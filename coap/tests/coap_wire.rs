//! Published messages: RFC 7252 appendix A, and LwM2M messages computed from the specifications, byte for byte in both
//! directions. The eleven frames of CoAP over TCP (RFC 8323) are left out: that framing is not here.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, Header, Kind, MessageId, Options, Room, Token, Writer, udp};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap().to_be_bytes()[3]).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What a message says, as text: type, code, message id, token, options and payload.
fn text(datagram: &[u8]) -> String {
    let (Header { kind, id }, message) = udp::parse(datagram).unwrap();
    let kind = match kind {
        Kind::Confirmable => "CON",
        Kind::NonConfirmable => "NON",
        Kind::Acknowledgement => "ACK",
        Kind::Reset => "RST",
    };
    let mut text = format!("{kind} {} {:04x} {:?}", message.code, id.0, message.token);
    for (number, value) in message.options {
        text += &format!(" {}:", number.0);
        match std::str::from_utf8(value) {
            Ok(value) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                text += value
            }
            _ => value.iter().for_each(|byte| text += &format!("{byte:02x}")),
        }
    }
    match message.payload.len() {
        0 => {}
        1..=24 => text += &format!(" \"{}\"", message.payload.escape_ascii()),
        length => text += &format!(" {length} bytes"),
    }
    text
}

/// Writes the parsed message again.
fn rewritten(datagram: &[u8]) -> Vec<u8> {
    let (header, message) = udp::parse(datagram).unwrap();
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer, Room { head: 29, tail: 8 }, message.code);
    for (number, value) in message.options {
        writer.option(number, value).unwrap();
    }
    writer.payload(message.payload).unwrap();
    let range = writer.finish().unwrap().emit(header, message.token);
    buffer[range].to_vec()
}

const MESSAGES: &[(&str, &str)] = &[
    // RFC 7252 appendix A, figures 16 and 17.
    ("40017d34bb74656d7065726174757265", "CON 0.01 7d34 Token() 11:temperature"),
    ("60457d34ff32322e332043", "ACK 2.05 7d34 Token() \"22.3 C\""),
    ("41017d3520bb74656d7065726174757265", "CON 0.01 7d35 Token(20) 11:temperature"),
    ("61457d3520ff32322e332043", "ACK 2.05 7d35 Token(20) \"22.3 C\""),
    ("60001234", "ACK 0.00 1234 Token()"),
    ("70001234", "RST 0.00 1234 Token()"),
    (
        "42020001a1b2b2726411283865703d6e6f646531086c743d3836343030096c776d326d3d312e3103623d55ff3c2f312f303e2c3c2f332f303e",
        "CON 0.02 0001 Token(a1b2) 11:rd 12:( 15:ep=node1 15:lt=86400 15:lwm2m=1.1 15:b=U \"</1/0>,</3/0>\"",
    ),
    ("62410001a1b28272640435613366", "ACK 2.01 0001 Token(a1b2) 8:rd 8:5a3f"),
    ("4102000201b272640435613366", "CON 0.02 0002 Token(01) 11:rd 11:5a3f"),
    ("410100100a605133013001396170", "CON 0.01 0010 Token(0a) 6: 11:3 11:0 11:9 17:p"),
    ("614500100a610260ff3935", "ACK 2.05 0010 Token(0a) 6:02 12: \"95\""),
    ("414520010a610360ff3934", "CON 2.05 2001 Token(0a) 6:03 12: \"94\""),
    ("410100110a6101513301300139", "CON 0.01 0011 Token(0a) 6:01 11:3 11:0 11:9"),
    (
        "410500120bc201405170ff5b7b226e223a222f332f302f30227d2c7b226e223a222f312f302f31227d5d",
        "CON 0.05 0012 Token(0b) 12:0140 17:p 31 bytes",
    ),
    (
        "410700130cc16eff5b7b226e223a222f312f302f31222c2276223a36317d5d",
        "CON 0.07 0013 Token(0c) 12:n \"[{\\\"n\\\":\\\"/1/0/1\\\",\\\"v\\\":61}]\"",
    ),
    (
        "410200140db264701170ff81a200662f332f302f39021860",
        "CON 0.02 0014 Token(0d) 11:dp 12:p \"\\x81\\xa2\\x00f/3/0/9\\x02\\x18`\"",
    ),
    ("410200150eb26273", "CON 0.02 0015 Token(0e) 11:bs"),
    (
        "410300160fb13101300131122d18ffa1830100011a00015180",
        "CON 0.03 0016 Token(0f) 11:1 11:0 11:1 12:2d18 \"\\xa1\\x83\\x01\\x00\\x01\\x1a\\x00\\x01Q\\x80\"",
    ),
    ("615f002010d10e0a", "ACK 2.31 0020 Token(10) 27:0a"),
    ("6181002212d8ef0102030405060708", "ACK 4.01 0022 Token(12) 252:0102030405060708"),
];

#[test]
fn published_messages_are_read_and_written_byte_for_byte() {
    for (hex, expected) in MESSAGES {
        let datagram = bytes(hex);
        assert_eq!(text(&datagram), *expected);
        assert_eq!(rewritten(&datagram), datagram, "{expected}");
    }
}

#[test]
fn published_blocks_are_read_and_written_byte_for_byte() {
    let cases: [(&str, &str, usize, &str); 3] = [
        (
            "4103002010b13501300130112ad1020ad114c8ff",
            "aa",
            64,
            "CON 0.03 0020 Token(10) 11:5 11:0 11:0 12:* 27:0a 60:c8 64 bytes",
        ),
        ("6145002111c16eb10bff", "78", 128, "ACK 2.05 0021 Token(11) 12:n 23:0b 128 bytes"),
        (
            "4103002313b13501300130d1030ad1fc01ff",
            "bb",
            64,
            "CON 0.03 0023 Token(13) 11:5 11:0 11:0 27:0a 292:01 64 bytes",
        ),
    ];
    for (head, byte, count, expected) in cases {
        let datagram = bytes(&(head.to_owned() + &byte.repeat(count)));
        assert_eq!(text(&datagram), expected);
        assert_eq!(rewritten(&datagram), datagram, "{expected}");
    }
}

#[test]
fn every_cut_of_a_published_message_is_a_message_or_refused() {
    for (hex, _) in MESSAGES {
        let datagram = bytes(hex);
        for end in 0..datagram.len() {
            if let Ok((_, message)) = udp::parse(&datagram[..end]) {
                // A shorter message can only have lost options at its end and bytes of its payload.
                let whole = udp::parse(&datagram).unwrap().1;
                assert!(message.options.iter().zip(whole.options).all(|(part, whole)| part == whole));
                assert!(whole.payload.starts_with(message.payload));
            }
        }
    }
}

#[test]
fn block_values_follow_rfc_7959_section_2_2() {
    let cases: [(u32, bool, usize, u8, u32, &str); 10] = [
        (0, false, 16, 0, 0, ""),
        (0, true, 16, 0, 8, "08"),
        (0, true, 64, 2, 10, "0a"),
        (1, false, 64, 2, 18, "12"),
        (1, true, 1024, 6, 30, "1e"),
        (15, true, 1024, 6, 254, "fe"),
        (16, false, 1024, 6, 262, "0106"),
        (4095, true, 256, 4, 65532, "fffc"),
        (65536, true, 1024, 6, 1_048_590, "10000e"),
        (1_048_575, false, 1024, 6, 16_777_206, "fffff6"),
    ];
    for (number, more, size, szx, value, hex) in cases {
        let block = Block::new(number, more, Szx::new(szx).unwrap()).unwrap();
        assert_eq!((block.value(), block.szx().size()), (value, size));
        assert_eq!(Block::parse(&bytes(hex)), Ok(block));
        assert_eq!(u64::from(block.offset()), u64::from(number) * size as u64);
        let mut buffer = [0; 32];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        writer.block2(block).unwrap();
        let draft = writer.finish().unwrap();
        let options = Options::parse(draft.bytes()).unwrap().0;
        assert_eq!(options.block2(), Ok(Some(block)));
        assert_eq!(options.iter().next().unwrap().1, bytes(hex));
    }
}

#[test]
fn the_messages_of_the_byte_budget_have_their_size() {
    // Register 84 and 16 bytes, Update 16 and 8, notification 16, with 4-byte tokens.
    let token = Token::new(&[1, 2, 3, 4]).unwrap();
    let size = |code: Code, write: &dyn Fn(&mut Writer<'_>)| {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Room::NONE, code);
        write(&mut writer);
        let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
        writer.finish().unwrap().emit(header, token).len()
    };
    use lwm2m_coap::{ContentFormat, OptionNumber as N};
    let register = size(Code::POST, &|writer| {
        writer.split(N::URI_PATH, "rd", '/').unwrap().content_format(ContentFormat::LINK_FORMAT).unwrap();
        writer.split(N::URI_QUERY, "ep=123456789012345&lt=86400&lwm2m=1.1&b=U", '&').unwrap();
        writer.payload(b"</1/0>,</3/0>,</4/0>,</5/0>").unwrap();
    });
    let created = size(Code::CREATED, &|writer| {
        writer.split(N::LOCATION_PATH, "rd/5a3f", '/').unwrap();
    });
    let update = size(Code::POST, &|writer| {
        writer.split(N::URI_PATH, "rd/5a3f", '/').unwrap();
    });
    let changed = size(Code::CHANGED, &|_| {});
    let notification = size(Code::CONTENT, &|writer| {
        writer.observe(2).unwrap().content_format(ContentFormat::TEXT).unwrap().payload(b"22.5").unwrap();
    });
    assert_eq!([register, created, update, changed, notification], [84, 16, 16, 8, 16]);
}

#[test]
fn what_is_no_message_panics_nowhere() {
    let Err(error) = udp::parse(&[0x40, 1, 0, 0, 0xff]) else {
        panic!("a marker without payload is a message")
    };
    assert_eq!(error.to_string(), "the options or the payload marker are malformed");
}
