//! The suites with forward secrecy: the key agreement within the handshake.

use crate::support::*;
use dtls_psk::{Config, Psk, Reason, Suite, Suites};

const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };

const SERVER_KEY_EXCHANGE: u8 = 12;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const SHARE: usize = 65;

fn suites() -> impl Iterator<Item = Suite> {
    Suites::PSK.as_slice().iter().copied().filter(|suite| suite.name().starts_with("TLS_ECDHE_PSK"))
}

fn pair(suite: Suite) -> (Client, Server) {
    let config = Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap());
    (client_with(&config, PSK, 1), Server { config, ..Server::new(2) })
}

/// Lets both talk while `change` may change the bodies of the messages of a type.
fn with_changes(code: u8, change: impl Fn(&mut Vec<u8>)) -> (Talk, Client, Server) {
    let (mut client, mut server) = pair(suites().next().unwrap());
    let talk = talk_with(&mut client, &mut server, at(0), |_, datagram| {
        change_messages(datagram, code, &change);
        true
    });
    (talk, client, server)
}

#[test]
fn a_handshake_with_a_key_agreement_is_649_bytes() {
    let lengths = |datagrams: &[Vec<u8>]| datagrams.iter().map(Vec::len).collect::<Vec<_>>();
    let (mut client, mut server) = pair(Suite::EcdhePskAes128Ccm8);
    let talk = talk(&mut client, &mut server);
    // Two extensions of 8 and 6 bytes, a ServerKeyExchange of 12 + 2 + 4 + 65, and the client's share.
    // Where there is a second group it is offered too.
    let groups = if cfg!(feature = "x25519") { 2 } else { 0 };
    let hellos = [75 + 14 + groups, 91 + 14 + groups];
    assert_eq!(lengths(&talk.from_client), [hellos[0], hellos[1], 42 + 1 + 65 + 14 + 53]);
    assert_eq!(lengths(&talk.from_server), [44, 86 + 83, 14 + 53]);
    assert_eq!(
        talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum::<usize>(),
        649 + 2 * groups
    );
}

#[test]
fn unchanged_messages_establish() {
    let (talk, ..) = with_changes(0, |_| panic!("there is none of this type"));
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
}

#[test]
fn a_share_of_the_server_that_is_none_ends_the_handshake_14() {
    let bad: [fn(&mut Vec<u8>); 5] = [
        // Off the curve, the neutral element, too short, and on another curve.
        |body| *body.last_mut().unwrap() ^= 1,
        |body| body.splice(5.., [1, 0]).for_each(drop),
        |body| body.splice(5.., [64].into_iter().chain([4; 64])).for_each(drop),
        |body| body.splice(5.., [66].into_iter().chain([4; 66])).for_each(drop),
        |body| body[4] = 0x18,
    ];
    for change in bad {
        let (talk, ..) = with_changes(SERVER_KEY_EXCHANGE, change);
        assert_eq!(talk.client, [Event::Closed(Reason::InvalidShare)]);
        // A fatal illegal_parameter, in the clear.
        assert_eq!(talk.from_client.last().unwrap()[13..], [2, 47]);
        assert_eq!(talk.server, []);
    }
}

#[test]
fn a_share_of_the_client_that_is_none_ends_the_handshake_14() {
    let bad: [fn(&mut Vec<u8>); 4] = [
        |body| *body.last_mut().unwrap() ^= 1,
        |body| body.splice(17.., [1, 0]).for_each(drop),
        |body| body.splice(17.., [64].into_iter().chain([4; 64])).for_each(drop),
        |body| body.splice(17.., [66].into_iter().chain([4; 66])).for_each(drop),
    ];
    for change in bad {
        let (talk, _, server) = with_changes(CLIENT_KEY_EXCHANGE, change);
        assert_eq!(talk.server, [Event::Closed(Reason::InvalidShare)]);
        assert_eq!(talk.from_server.last().unwrap()[13..], [2, 47]);
        assert!(server.asked.is_empty() && server.peers.is_empty());
    }
}

#[test]
fn another_share_that_is_one_never_establishes() {
    // Who sits in between can agree with both sides, and still needs the key.
    for code in [SERVER_KEY_EXCHANGE, CLIENT_KEY_EXCHANGE] {
        let (_, mut others_server) = pair(Suite::EcdhePskAes128Ccm8);
        let mut other = client_with(&others_server.config, PSK, 9);
        let talk = talk(&mut other, &mut others_server);
        let flight = talk.from_client.last().unwrap();
        let share = flight[13 + 12 + 2 + IDENTITY.len() + 1..][..SHARE].to_vec();
        let (talk, ..) = with_changes(code, move |body| {
            let start = body.len() - SHARE;
            body.splice(start.., share.clone()).for_each(drop);
        });
        assert_eq!((talk.client, talk.server), (vec![], vec![]), "{code}");
    }
}

#[test]
fn a_server_hello_done_without_a_share_before_it_is_not_its_turn() {
    let (talk, client, _) = with_changes(SERVER_KEY_EXCHANGE, |body| body.truncate(2));
    assert_eq!((talk.client, talk.server), (vec![], vec![]));
    // The hint alone is malformed here, and the ServerHelloDone waits.
    assert_eq!(client.counters().malformed, 1);
    let (mut client, mut server) = pair(Suite::EcdhePskAes128Ccm8);
    let talk = talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        if !is_up && datagram[13] == 2 {
            let [record] = <[_; 1]>::try_from(records_of(datagram)).unwrap();
            // Without the ServerKeyExchange, and the ServerHelloDone in its place.
            let done = record.len() - 12;
            let key_exchange = done - 12 - 6 - SHARE;
            let mut content = [&record[13..key_exchange], &record[done..]].concat();
            let place = content.len() - 7;
            content[place] -= 1;
            *datagram = crate::support::record(22, 0, 1, &content);
        }
        true
    });
    assert_eq!((talk.client, talk.server), (vec![], vec![]));
    assert_eq!(client.counters().unexpected, 1);
}

#[test]
fn a_client_without_the_group_gets_a_suite_without_agreement() {
    let mut server = Server { config: Config::DEFAULT.with_suites(Suites::PSK), ..Server::new(2) };
    let reversed: Vec<_> = Suites::PSK.as_slice().iter().rev().copied().collect();
    server.config = server.config.with_suites(Suites::new(&reversed).unwrap());
    for (extensions, suite) in [
        // secp256r1 and uncompressed; x448 alone; compressed alone; neither named.
        (&[0, 10, 0, 4, 0, 2, 0, 0x17, 0, 11, 0, 2, 1, 0][..], 0xd003_u16),
        (&[0, 10, 0, 4, 0, 2, 0, 0x1e], 0xc0a8),
        (&[0, 11, 0, 2, 1, 1], 0xc0a8),
        (&[], 0xd003),
    ] {
        let suites = vec![0xd0, 0x03, 0xc0, 0xa8, 0x00, 0xff];
        let extensions = Some(extensions.to_vec());
        let answer = Hello { suites, extensions, ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(answer[0][13 + 12 + 2 + 32 + 1..][..2], suite.to_be_bytes());
        server.peers.clear();
    }
}

#[test]
fn malformed_lists_of_groups_and_forms_are_refused() {
    for extensions in [
        &[0, 10, 0, 3, 0, 1, 0x17][..],
        &[0, 10, 0, 4, 0, 4, 0, 0x17],
        &[0, 10, 0, 5, 0, 2, 0, 0x17, 0],
        &[0, 11, 0, 0],
        &[0, 11, 0, 2, 2, 0],
        &[0, 11, 0, 2, 1, 0, 0, 11, 0, 2, 1, 0],
    ] {
        let mut server = Server::new(2);
        let extensions = Some(extensions.to_vec());
        Hello { extensions, ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(server.refused, [Reason::ProtocolViolation]);
    }
}

#[test]
fn a_server_may_say_that_it_reads_the_uncompressed_form_where_curves_were_offered() {
    let outcome = |config: &Config, formats: &'static [u8]| {
        let mut client = client_with(config, PSK, 1);
        let mut server = Server { config: *config, ..Server::new(2) };
        let mut seen = None;
        talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            if !is_up && datagram[13] == 2 {
                let length = usize::from(u16::from_be_bytes([datagram[23], datagram[24]]));
                let mut body = datagram[25..25 + length].to_vec();
                // Behind version, random, session id, suite and compression.
                let place = 2 + 32 + 1 + 2 + 1;
                let there = u16::from_be_bytes([body[place], body[place + 1]]);
                let list = [&[0, 11, 0, formats.len() as u8 + 1, formats.len() as u8], formats].concat();
                body.extend(&list);
                body[place..place + 2].copy_from_slice(&(there + list.len() as u16).to_be_bytes());
                seen = Some(message(2, 1, &body));
            }
            seen.is_none()
        });
        let events = receive(&mut client, at(0), &seen.unwrap());
        events.first().cloned()
    };
    let with = Config::DEFAULT.with_suites(Suites::new(&[Suite::EcdhePskAes128Ccm8]).unwrap());
    assert_eq!(outcome(&with, &[0]), None);
    assert_eq!(outcome(&with, &[1]), Some(Event::Closed(Reason::ProtocolViolation)));
    assert_eq!(outcome(&Config::DEFAULT, &[0]), Some(Event::Closed(Reason::UnofferedExtension)));
}
