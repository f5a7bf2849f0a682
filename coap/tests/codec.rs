//! The message codec against random messages, random bytes, cuts, and a codec that nobody here wrote (`coap-lite`).
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use coap_lite::Packet;
use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, Room, Token, Writer, udp};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Plan {
    header: Header,
    code: Code,
    token: Token,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![Just(Kind::Confirmable), Just(Kind::NonConfirmable), Just(Kind::Acknowledgement)];
    let code = prop_oneof![1_u8..32, 64_u8..96, 128_u8..192];
    let delta = prop_oneof![0_u16..20, 250_u16..300, 0_u16..20_000];
    let length = prop_oneof![0_usize..20, 250_usize..300, 500_usize..700];
    let options = proptest::collection::vec((delta, length, any::<u8>()), 0..6);
    let token = proptest::collection::vec(any::<u8>(), 0..=8);
    (kind, any::<u16>(), code, token, options, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(kind, id, code, token, options, payload)| {
            let mut number = 0_u16;
            let options = options.into_iter().filter_map(|(delta, length, byte)| {
                number = number.checked_add(delta)?;
                Some((number, vec![byte; length]))
            });
            Plan {
                header: Header { kind, id: MessageId(id) },
                code: Code::from_u8(code),
                token: Token::new(&token).unwrap(),
                options: options.collect(),
                payload,
            }
        },
    )
}

fn emit(plan: &Plan, body_first: bool) -> Vec<u8> {
    let mut buffer = vec![0; 6000];
    let mut writer = Writer::new(&mut buffer, Room { head: 40, tail: 16 }, plan.code);
    if body_first {
        writer.body(5000)[..plan.payload.len()].copy_from_slice(&plan.payload);
        writer.set_body(plan.payload.len()).unwrap();
    }
    for (number, value) in &plan.options {
        writer.option(OptionNumber(*number), value).unwrap();
    }
    if !body_first {
        writer.payload(&plan.payload).unwrap();
    }
    let range = writer.finish().unwrap().emit(plan.header, plan.token);
    buffer[range].to_vec()
}

proptest! {
    #[test]
    fn what_is_written_is_read(plan in plan(), body_first: bool) {
        let bytes = emit(&plan, body_first);
        let (header, message) = udp::parse(&bytes).unwrap();
        prop_assert_eq!((header, message.code, message.token), (plan.header, plan.code, plan.token));
        let options: Vec<_> = message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect();
        prop_assert_eq!(options, plan.options);
        prop_assert_eq!(message.payload, plan.payload);
    }

    #[test]
    fn another_codec_reads_what_is_written(plan in plan()) {
        let packet = Packet::from_bytes(&emit(&plan, true)).unwrap();
        prop_assert_eq!(packet.header.message_id, plan.header.id.0);
        prop_assert_eq!(u8::from(packet.header.code), plan.code.as_u8());
        prop_assert_eq!(packet.get_token(), plan.token.bytes());
        let options: Vec<_> = packet
            .options()
            .flat_map(|(number, values)| values.iter().map(move |value| (*number, value.clone())))
            .collect();
        prop_assert_eq!(options, plan.options);
        prop_assert_eq!(packet.payload, plan.payload);
    }

    #[test]
    fn every_cut_is_a_message_or_refused(plan in plan()) {
        let bytes = emit(&plan, false);
        for end in 0..bytes.len() {
            if let Ok((_, message)) = udp::parse(&bytes[..end]) {
                prop_assert!(message.options.iter().count() <= plan.options.len());
                prop_assert!(plan.payload.starts_with(message.payload));
            }
        }
    }

    #[test]
    fn random_bytes_are_a_message_that_is_written_as_it_was_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        version in 0_u8..8,
    ) {
        // Mostly version 1 and a short token, so that the options are reached.
        if let Some(first) = bytes.first_mut().filter(|_| version > 0) {
            *first = 0x40 | *first & 0x37;
        }
        let Ok((header, message)) = udp::parse(&bytes) else { return Ok(()) };
        let plan = Plan {
            header,
            code: message.code,
            token: message.token,
            options: message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect(),
            payload: message.payload.to_vec(),
        };
        let again = emit(&plan, false);
        prop_assert!(again.len() <= bytes.len());
        let (_, second) = udp::parse(&again).unwrap();
        prop_assert!(second.options.iter().eq(message.options.iter()));
        prop_assert_eq!(second.payload, message.payload);
    }

    #[test]
    fn another_codec_accepts_what_is_accepted(bytes in proptest::collection::vec(any::<u8>(), 4..60)) {
        let mut bytes = bytes;
        bytes[0] = 0x40 | bytes[0] & 0x37;
        bytes[1] &= 0x1f;
        if udp::parse(&bytes).is_ok() {
            prop_assert!(Packet::from_bytes(&bytes).is_ok());
        }
    }
}
