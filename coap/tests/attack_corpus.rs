//! Classes of input that broke CoAP and LwM2M stacks in the field, each with the reply that is due: the rows of the attack
//! corpus that concern messages, blocks and links. Rows on OSCORE and payload formats are tested where these live.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{Side, parsed};
use lwm2m_coap::block::{Block, Receive, Received, Szx};
use lwm2m_coap::{Code, Delivery, Kind, Message, MessageId, Options, Token, link, udp};

type Remote = Side<1, 4>;

/// A Confirmable message with these bytes behind its message id 0x0109.
fn confirmable(first: u8, code: Code, tail: &[u8]) -> Vec<u8> {
    [&[first, code.as_u8(), 1, 9], tail].concat()
}

fn is_rejected(datagram: &[u8]) -> bool {
    let mut side = Remote::new(1);
    side.hears(datagram).starts_with("Ignored(Malformed")
        && side.transmit() == Some(udp::empty(Kind::Reset, MessageId(0x0109)).to_vec())
}

#[test]
fn row_31_a_block_for_an_exchange_that_is_not_there_is_incomplete() {
    let (options, _) = Options::parse(&[0xd1, 14, 0x1e]).unwrap();
    let message = Message { code: Code::PUT, token: Token::EMPTY, options, payload: &[0; 1024] };
    let refusal = Receive::new(Szx::LARGEST, 1 << 20).handle(&message).unwrap_err();
    assert_eq!(refusal.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn row_32_options_that_overflow_16_bits_or_use_the_reserved_nibble_are_rejected() {
    for tail in [
        &[0xe0, 0xff, 0xff][..],
        &[0xe0, 0xfe, 0xf2, 0x10],
        &[0xe0, 0xfe, 0xf2, 0xd0, 0],
        &[0x0e, 0xff, 0xff, 1],
        &[0xee, 0xff, 0xff, 0xff, 0xff],
        &[0xf1, 1],
        &[0x1f, 1],
        &[0xfe],
    ] {
        assert!(is_rejected(&confirmable(0x40, Code::GET, tail)), "{tail:02x?}");
    }
    // More options than any table would hold: as many as a datagram can carry.
    let mut tail = vec![0xb0];
    tail.resize(60_000, 0x00);
    let (_, message) = Remote::new(1).hears_request(&confirmable(0x40, Code::GET, &tail));
    assert_eq!(message.code, Code::GET);
}

#[test]
fn row_33_a_marker_without_payload_and_a_message_shorter_than_its_token_are_rejected() {
    assert!(is_rejected(&confirmable(0x40, Code::GET, &[0xff])));
    assert!(is_rejected(&confirmable(0x40, Code::GET, &[0xb1, b'a', 0xff])));
    for length in 0..8 {
        assert!(is_rejected(&confirmable(0x48, Code::GET, &[0; 8][..length])));
    }
    for length in 9..16 {
        assert!(is_rejected(&confirmable(0x40 | length, Code::GET, &[0; 16])));
    }
}

#[test]
fn row_34_number_times_size_does_not_overflow_and_the_size_may_not_shift_a_transfer() {
    let largest = Block::parse(&[0xff, 0xff, 0xf6]).unwrap();
    assert_eq!(u64::from(largest.offset()), 0xf_ffff * 1024);
    assert_eq!(Block::parse(&[0xff, 0xff, 0xff]).ok(), None);
    assert_eq!(Block::parse(&[0, 0, 0, 0]).ok(), None);
    assert_eq!(Block::at(u32::MAX, false, Szx::SMALLEST), None);
    // 0/1/64, then 1/1/128: that is offset 128, not 64.
    let mut receive = Receive::new(Szx::LARGEST, 1 << 20);
    let block = |value: &'static [u8], length: usize| {
        let options = Options::parse(value).unwrap().0;
        Message { code: Code::PUT, token: Token::EMPTY, options, payload: &[0; 1024][..length] }
    };
    assert!(receive.handle(&block(&[0xd1, 14, 0x0a], 64)).is_ok());
    let refusal = receive.handle(&block(&[0xd1, 14, 0x1b], 128)).unwrap_err();
    assert_eq!(refusal.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn row_35_blocks_reach_the_owner_in_order_and_each_once() {
    let mut receive = Receive::new(Szx::LARGEST, 1 << 20);
    let payload: Vec<u8> = (0..64).collect();
    let mut offsets = Vec::new();
    // Block 1 comes late once more, block 6 too early: after the gap nothing more is taken.
    for value in [0x08_u8, 0x08, 0x18, 0x18, 0x28, 0x18, 0x38, 0x48, 0x68, 0x58, 0x18] {
        let bytes = [0xd1, 14, value];
        let options = Options::parse(&bytes).unwrap().0;
        let message = Message { code: Code::PUT, token: Token::EMPTY, options, payload: &payload[..16] };
        offsets.push(match receive.handle(&message) {
            Ok(Received::Part { offset, .. }) => offset.to_string(),
            Ok(Received::Repeated { .. }) => "again".into(),
            Err(refusal) => refusal.code.to_string(),
        });
    }
    let expected = ["0", "0", "16", "again", "32", "again", "48", "64", "4.08", "4.08", "4.08"];
    assert_eq!(offsets, expected);
}

#[test]
fn row_40_options_of_a_message_are_its_own_and_malformed_ones_leave_nothing() {
    let mut side = Remote::new(1);
    for _ in 0..100 {
        side.hears(&confirmable(0x40, Code::POST, &[0xb5, b'a']));
        side.hears(&confirmable(0x40, Code::POST, &[0xd2, 0xff, 0]));
    }
    assert_eq!((side.peer.next_expiry(), side.peer.is_idle()), (None, true));
    let mut long = vec![0xbe, 0, 0];
    long.extend([b'x'; 269]);
    long.extend([0x41, b'q']);
    // An over-long Uri-Path is a bad option, not a part of another one.
    assert_eq!(side.hears(&confirmable(0x40, Code::GET, &long)), "Ignored(BadOption(OptionNumber(11)))");
    assert_eq!(parsed(&side.transmit().unwrap()).1, Code::BAD_OPTION);
}

#[test]
fn row_43_an_attribute_without_value_has_an_empty_one() {
    let links: Vec<_> = link::parse("</3/0>;pmin;pmax=;gt=\"\";;lt").collect();
    let [Ok(link)] = links.as_slice() else { unreachable!() };
    assert_eq!(["pmin", "pmax", "gt", "lt"].map(|name| link.attribute(name)), [Some(""); 4]);
    assert_eq!(link.attributes().count(), 4);
}

#[test]
fn a_flood_of_requests_fills_the_memory_and_no_more() {
    let mut side = Remote::new(1);
    let mut refused = 0;
    for id in 0..1000_u16 {
        let [high, low] = id.to_be_bytes();
        if let common::Got::Other(said) = side.handle(&[0x40, 2, high, low]) {
            assert_eq!(said, "Ignored(Busy)");
            assert_eq!(parsed(&side.transmit().unwrap()).1, Code::SERVICE_UNAVAILABLE);
            refused += 1;
        }
    }
    assert_eq!(refused, 996);
}

#[test]
fn no_datagram_is_answered_with_more_than_it_brought_unless_its_id_was_answered_before() {
    let mut side = Remote::new(1);
    let mut random = common::Random(3);
    for _ in 0..20_000 {
        let mut datagram = vec![0; usize::try_from(random.below(24)).unwrap()];
        random.fill(&mut datagram);
        if let Some(first) = datagram.first_mut() {
            *first = 0x40 | *first & 0x3f;
        }
        match side.handle(&datagram) {
            common::Got::Unsolicited(header, _) => side.peer.reject(header),
            common::Got::Request(..) | common::Got::Response(..) | common::Got::Other(_) => {}
        }
        let answer = side.transmit().map_or(0, |answer| answer.len());
        assert!(answer <= datagram.len(), "{datagram:02x?}");
        side.now = side.now.saturating_add(1);
    }
    assert!(side.try_request(Delivery::Confirmable, Code::GET, b"").is_ok());
}
