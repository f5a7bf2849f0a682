//! coap-lite 0.13.3 as differential oracle of the CoAP codec: both must read the same in what both accept.
//!
//! Where coap-lite is more lenient than RFC 7252 the reasons are listed in [`LENIENT`]; anything else is a finding.

#![expect(clippy::arithmetic_side_effects, reason = "test data")]

use coap_lite::{CoapOption, MessageType, Packet};
use lwm2m_coap::udp::{self, Fault, Header, Kind, MessageId};
use lwm2m_coap::{Code, OptionNumber, Room, Token, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

/// What coap-lite accepts although RFC 7252 §3 and §4.1 forbid it.
const LENIENT: [Fault; 4] = [
    // Versions 0, 2 and 3, which are to be ignored silently.
    Fault::Version,
    // An empty message with token, options or payload.
    Fault::Empty,
    // Code classes 1, 6 and 7.
    Fault::Class,
    // A payload marker without payload.
    Fault::Options,
];

/// Everything a message says, in the terms of neither codec.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    kind: u8,
    id: u16,
    code: u8,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

fn ours(datagram: &[u8]) -> Result<Content, Fault> {
    let (header, message) = udp::parse(datagram).map_err(|malformed| malformed.fault)?;
    Ok(Content {
        kind: header.kind as u8,
        id: header.id.0,
        code: message.code.as_u8(),
        token: message.token.bytes().to_vec(),
        options: message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect(),
        payload: message.payload.to_vec(),
    })
}

fn theirs(datagram: &[u8]) -> Option<Content> {
    let packet = Packet::from_bytes(datagram).ok()?;
    Some(Content {
        kind: match packet.header.get_type() {
            MessageType::Confirmable => 0,
            MessageType::NonConfirmable => 1,
            MessageType::Acknowledgement => 2,
            MessageType::Reset => 3,
        },
        id: packet.header.message_id,
        code: u8::from(packet.header.code),
        token: packet.get_token().to_vec(),
        options: packet
            .options()
            .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
            .collect(),
        payload: packet.payload,
    })
}

fn compare(datagram: &[u8]) -> Result<(), TestCaseError> {
    match (ours(datagram), theirs(datagram)) {
        (Ok(ours), theirs) => prop_assert_eq!(Some(ours), theirs),
        (Err(_), None) => {}
        (Err(fault), Some(theirs)) => {
            prop_assert!(LENIENT.contains(&fault), "{fault:?}: {theirs:?}");
            // The only lenient fault within the options is the marker that ends the datagram.
            prop_assert!(fault != Fault::Options || datagram.last() == Some(&0xff));
        }
    }
    Ok(())
}

fn content() -> impl Strategy<Value = Content> {
    // Class 0 without 0.00, then 2, 4 and 5: the codes of requests and responses.
    let code = prop_oneof![1_u8..32, 64_u8..96, 128_u8..192];
    let number = prop_oneof![0_u16..40, 200_u16..400, any::<u16>()];
    let value = prop_oneof![vec(any::<u8>(), 0..14), vec(any::<u8>(), 255..300)];
    (
        0_u8..4,
        any::<u16>(),
        code,
        vec(any::<u8>(), 0..=8),
        vec((number, value), 0..6),
        vec(any::<u8>(), 0..40),
    )
        .prop_map(|(kind, id, code, token, mut options, payload)| {
            options.sort_by_key(|(number, _)| *number);
            Content { kind, id, code, token, options, payload }
        })
}

fn emitted_by_us(content: &Content) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::from_u8(content.code));
    for (number, value) in &content.options {
        writer.option(OptionNumber(*number), value).expect("in order, and the buffer is large");
    }
    writer.payload(&content.payload).expect("the buffer is large");
    let kind = [Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset];
    let header = Header {
        kind: *kind.get(usize::from(content.kind)).expect("one of four"),
        id: MessageId(content.id),
    };
    let token = Token::new(&content.token).expect("at most 8 bytes");
    let range = writer.finish().expect("it fits").emit(header, token);
    buffer.get(range).expect("within the buffer").to_vec()
}

fn emitted_by_them(content: &Content) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_type(match content.kind {
        0 => MessageType::Confirmable,
        1 => MessageType::NonConfirmable,
        2 => MessageType::Acknowledgement,
        _ => MessageType::Reset,
    });
    packet.header.message_id = content.id;
    packet.header.code = content.code.into();
    packet.set_token(content.token.clone());
    for (number, value) in &content.options {
        packet.add_option(CoapOption::from(*number), value.clone());
    }
    packet.payload.clone_from(&content.payload);
    packet.to_bytes_unlimited().expect("a valid packet")
}

proptest! {
    #[test]
    fn what_we_emit_is_byte_for_byte_what_coap_lite_emits(content in content()) {
        let datagram = emitted_by_us(&content);
        prop_assert_eq!(&datagram, &emitted_by_them(&content));
        prop_assert_eq!(theirs(&datagram), Some(content));
    }

    #[test]
    fn what_coap_lite_emits_we_read(content in content()) {
        let read = ours(&emitted_by_them(&content)).expect("a valid message");
        prop_assert_eq!(read, content);
    }

    #[test]
    fn a_damaged_message_is_read_alike_or_refused(
        content in content(),
        at in any::<prop::sample::Index>(),
        bits in 1_u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut datagram = emitted_by_us(&content);
        compare(&datagram)?;
        if let Some(byte) = datagram.get_mut(at.index(content.token.len() + 6)) {
            *byte ^= bits;
        }
        compare(&datagram)?;
        datagram.truncate(cut.index(datagram.len() + 1));
        compare(&datagram)?;
    }

    #[test]
    fn noise_is_read_alike_or_refused(mut datagram in vec(any::<u8>(), 0..64), plausible: bool) {
        if let (true, Some(first)) = (plausible, datagram.first_mut()) {
            *first = 0x40 | *first & 0x37;
        }
        compare(&datagram)?;
    }
}
