//! The classes of `attacks` from the other side: what a false server, or somebody in front of the true one, does to a client.
//! The number at the end of a name is the row of the class.

use crate::support::*;
use dtls_psk::{Config, Reason, SetUpError};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// A client that waits for the ServerHello, its server, and the ServerHello and ServerHelloDone as messages in records of
/// their own.
fn before_server_hello() -> (Client, Server, [Vec<u8>; 2]) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut flight = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        let is_flight = !from_client && datagram[13] == 2;
        if is_flight {
            flight = datagram.clone();
        }
        !is_flight
    });
    let (hello, done) = flight[13..].split_at(flight.len() - 13 - 12);
    (client, server, [record(HANDSHAKE, 0, 1, hello), record(HANDSHAKE, 0, 2, done)])
}

/// A client that waits for the server's ChangeCipherSpec and Finished, and these.
fn before_finished() -> (Client, Server, [Vec<u8>; 2]) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut flight = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        let is_flight = !from_client && datagram[0] == CHANGE_CIPHER_SPEC;
        if is_flight {
            flight = records_of(datagram);
        }
        !is_flight
    });
    (client, server, flight.try_into().unwrap())
}

/// The handshake goes on from the ServerHello.
fn go_on(client: &mut Client, server: &mut Server) {
    let talk = talk_with(client, server, at(1), |_, _| true);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
}

#[test]
fn a_servers_messages_of_the_wrong_epoch_do_not_count_1() {
    let (mut client, mut server, [hello, done]) = before_server_hello();
    for genuine in [&hello, &done] {
        let mut protected = genuine.clone();
        protected[4] = 1;
        receive(&mut client, at(1), &protected);
        assert!(transmit(&mut client, at(1), 1200).is_empty());
    }
    receive(&mut client, at(1), &hello);
    receive(&mut client, at(1), &done);
    go_on(&mut client, &mut server);

    let (mut client, _, [change_cipher_spec, finished]) = before_finished();
    receive(&mut client, at(1), &change_cipher_spec);
    for message_seq in 0..6 {
        assert!(receive(&mut client, at(1), &message(20, message_seq, &[0; 12])).is_empty());
    }
    assert_eq!(receive(&mut client, at(1), &finished), [Event::Established]);
}

#[test]
fn a_short_protected_record_to_a_client_is_dropped_4() {
    let (mut client, _) = established();
    for length in 0..16 {
        for content_type in [ALERT, HANDSHAKE, APPLICATION_DATA] {
            assert!(receive(&mut client, at(1), &record(content_type, 1, 900, &vec![0; length])).is_empty());
        }
    }
    assert_eq!(client.counters().malformed, 48);
    assert!(client.is_established());
}

#[test]
fn a_servers_change_cipher_spec_before_the_keys_changes_nothing_6() {
    let (mut client, mut server, [hello, done]) = before_server_hello();
    let steps = [
        record(CHANGE_CIPHER_SPEC, 0, 9, &[1]),
        // No keys yet: nothing protected is understood, not under zero keys either.
        record(HANDSHAKE, 1, 0, &[0; 40]),
        record(APPLICATION_DATA, 1, 1, &[0; 40]),
    ];
    for step in steps.iter().chain([&hello]).chain(&steps) {
        assert!(receive(&mut client, at(1), step).is_empty());
        assert!(transmit(&mut client, at(1), 1200).is_empty());
    }
    receive(&mut client, at(1), &done);
    go_on(&mut client, &mut server);
}

#[test]
fn empty_messages_to_a_client_end_nothing_9() {
    let (mut client, mut server, [hello, done]) = before_server_hello();
    for datagram in [vec![], record(HANDSHAKE, 0, 0, &[]), record(ALERT, 0, 0, &[])] {
        assert!(receive(&mut client, at(1), &datagram).is_empty());
    }
    // An empty ServerHello in its turn is a server's mistake; any other empty message says nothing.
    for code in (0..=255).filter(|code| *code != 2) {
        for message_seq in 0..4 {
            assert!(receive(&mut client, at(1), &message(code, message_seq, &[])).is_empty(), "{code}");
        }
    }
    receive(&mut client, at(1), &hello);
    receive(&mut client, at(1), &done);
    go_on(&mut client, &mut server);
}

#[test]
fn no_epoch_but_that_of_the_keys_is_understood_and_none_wraps_11() {
    let (mut client, mut server) = established();
    for epoch in [2, 255, 256, 0x7fff, 0xfffe, 0xffff] {
        for content_type in [CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA] {
            let forged = record(content_type, epoch, 0, &[1; 40]);
            assert!(receive(&mut client, at(1), &forged).is_empty());
            assert!(server.handle(at(1), &forged).0.is_empty());
        }
    }
    // What follows epoch 65535 would be epoch 0, which is that of the handshake: in the clear, and over.
    let hello = message(2, 0, &[0xfe; 40]);
    for datagram in [record(CHANGE_CIPHER_SPEC, 0, 0, &[1]), record(APPLICATION_DATA, 0, 0, b"x"), hello] {
        assert!(receive(&mut client, at(1), &datagram).is_empty());
        assert!(server.handle(at(1), &datagram).0.is_empty());
    }
    let (up, down) = (seal(&mut client, b"up"), seal(server.peer(), b"down"));
    assert_eq!((up[3..5].to_vec(), down[3..5].to_vec()), (vec![0, 1], vec![0, 1]));
    assert_eq!(server.handle(at(2), &up).0, [Event::Application(b"up".to_vec())]);
    assert_eq!(receive(&mut client, at(2), &down), [Event::Application(b"down".to_vec())]);
}

#[test]
fn a_servers_finished_is_accepted_only_as_it_was_computed_13() {
    let (mut client, _, [change_cipher_spec, finished]) = before_finished();
    receive(&mut client, at(1), &change_cipher_spec);
    for length in [0, 1, 11, 12, 13, 36] {
        assert!(receive(&mut client, at(1), &message(20, 3, &vec![0; length])).is_empty());
    }
    for position in 13..finished.len() {
        let mut bent = finished.clone();
        bent[position] ^= 0x40;
        assert!(receive(&mut client, at(1), &bent).is_empty());
        assert!(!client.is_established());
    }
    assert_eq!(receive(&mut client, at(1), &finished), [Event::Established]);
}

#[test]
fn no_message_of_a_server_spans_a_key_change_16() {
    let (mut client, _, [change_cipher_spec, finished]) = before_finished();
    for length in [6, 12] {
        let piece = fragment(20, 12, 3, 0, &vec![0; length]);
        assert!(receive(&mut client, at(1), &record(HANDSHAKE, 0, 3, &piece)).is_empty());
    }
    assert!(receive(&mut client, at(1), &change_cipher_spec).is_empty());
    assert_eq!(receive(&mut client, at(1), &finished), [Event::Established]);
}

#[test]
fn a_flood_of_change_cipher_spec_costs_a_client_nothing_18() {
    let (mut client, _, [change_cipher_spec, finished]) = before_finished();
    for sequence in 0..10_000 {
        assert!(receive(&mut client, at(1), &record(CHANGE_CIPHER_SPEC, 0, sequence, &[1])).is_empty());
        assert!(transmit(&mut client, at(1), 1200).is_empty());
    }
    assert_eq!(client.counters().duplicate, 9_999);
    receive(&mut client, at(1), &change_cipher_spec);
    assert_eq!(receive(&mut client, at(1), &finished), [Event::Established]);
}

#[test]
fn a_server_hello_in_fragments_of_any_order_and_overlap_is_one_message_23() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut client, mut server, [hello, done]) = before_server_hello();
        let body = &hello[25..];
        let mut pieces: Vec<(usize, usize)> = (0..random.below(12))
            .map(|_| {
                let from = random.below(body.len() as u64) as usize;
                (from, from + 1 + random.below((body.len() - from) as u64) as usize)
            })
            .collect();
        let cut = random.below(body.len() as u64) as usize;
        pieces.extend([(0, cut), (cut, body.len()), (0, cut), (cut, body.len()), (0, cut)]);
        // The other message, forged ones far ahead, and pieces that contradict the genuine ones stand between them.
        receive(&mut client, at(1), &done);
        for (from, to) in pieces {
            let ahead = fragment(14, 100, 2 + random.below(900) as u16, 3, &[7; 9]);
            let other = fragment(14, body.len() + 1, 1, from, &body[from..to]);
            let piece = fragment(2, body.len(), 1, from, &body[from..to]);
            receive(&mut client, at(1), &record(HANDSHAKE, 0, 20, &ahead));
            if random.below(8) == 0 {
                receive(&mut client, at(1), &record(HANDSHAKE, 0, 20, &other));
            }
            receive(&mut client, at(1), &record(HANDSHAKE, 0, 20, &piece));
        }
        receive(&mut client, at(1), &hello);
        receive(&mut client, at(1), &done);
        go_on(&mut client, &mut server);
    }
}

/// A message in two pieces.
fn halves(message: &[u8]) -> [Vec<u8>; 2] {
    let (body, message_seq) = (&message[25..], u16::from_be_bytes([message[17], message[18]]));
    let middle = body.len() / 2;
    [(0, middle), (middle, body.len())].map(|(from, to)| {
        record(HANDSHAKE, 0, 5, &fragment(message[13], body.len(), message_seq, from, &body[from..to]))
    })
}

#[test]
fn messages_ahead_take_no_place_from_the_one_whose_turn_it_is_23() {
    let ahead = |next: u16| {
        (next + 1..next + 100).rev().map(|seq| record(HANDSHAKE, 0, 4, &fragment(14, 50, seq, 0, &[1; 9])))
    };
    let (mut client, mut server, [hello, done]) = before_server_hello();
    for datagram in ahead(1).chain(halves(&hello)).chain([done]) {
        assert!(receive(&mut client, at(1), &datagram).is_empty());
    }
    let flight = records_of(&transmit(&mut client, at(1), 1200)[0]);
    for datagram in ahead(2).chain(halves(&flight[0])) {
        assert!(server.handle(at(1), &datagram).0.is_empty());
    }
    assert_eq!(server.handle(at(1), &flight[1..].concat()).0, [Event::Established]);
}

#[test]
fn no_forged_piece_keeps_a_message_in_pieces_from_being_whole_23() {
    let piece = |code, length, seq, offset, bytes: &[u8]| {
        record(HANDSHAKE, 0, 4, &fragment(code, length, seq, offset, bytes))
    };
    let length = before_server_hello().2[0].len() - 25;
    let forged = [
        // Pieces without content, each a place of its own.
        [8, 12, 16, 20].map(|offset| piece(2, length, 1, offset, &[])).to_vec(),
        // Of another type, of another length, and what takes all of the memory.
        vec![piece(14, length, 1, 0, &[1; 9])],
        vec![piece(2, length + 9, 1, 0, &[1; 9])],
        vec![piece(12, 480, 2, 0, &[1; 9])],
    ];
    for forged in forged {
        let (mut client, mut server, [hello, done]) = before_server_hello();
        let pieces = [piece(2, length, 1, 0, &hello[25..30]), piece(2, length, 1, 5, &hello[30..])];
        for datagram in forged.iter().chain(&pieces).chain([&done]) {
            assert!(receive(&mut client, at(1), datagram).is_empty());
        }
        go_on(&mut client, &mut server);
    }
}

#[test]
fn a_servers_retransmission_keeps_its_epoch_and_takes_new_numbers_25() {
    let (mut client, mut server, first) = before_finished();
    let mut sent = vec![first.to_vec()];
    for _ in 0..3 {
        let due = client.poll_timeout().unwrap();
        client.handle_timeout(due);
        for datagram in transmit(&mut client, due, 1200) {
            sent.extend(server.handle(due, &datagram).1.iter().map(|datagram| records_of(datagram)));
        }
    }
    assert_eq!(sent.len(), 4);
    let mut numbers = Vec::new();
    for records in &sent {
        let shape: Vec<_> = records.iter().map(|record| (record[0], record[4])).collect();
        assert_eq!(shape, [(CHANGE_CIPHER_SPEC, 0), (HANDSHAKE, 1)]);
        numbers.extend(records.iter().map(|record| record[3..11].to_vec()));
    }
    let count = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "no record number twice");
    assert_eq!(receive(&mut client, at(9000), &sent[2].concat()), [Event::Established]);
}

#[test]
fn a_client_that_refused_a_server_takes_nothing_more_from_it_27() {
    let (mut client, mut server, [mut hello, done]) = before_server_hello();
    // Version 1.0, and then the genuine one.
    hello[26] = 0xff;
    assert_eq!(receive(&mut client, at(1), &hello), [Event::Closed(Reason::UnsupportedVersion)]);
    hello[26] = 0xfd;
    for datagram in [&hello, &done] {
        assert!(receive(&mut client, at(1), datagram).is_empty());
    }
    assert_eq!(transmit(&mut client, at(1), 1200).len(), 1, "an alert and nothing else");
    assert!(client.is_closed() && client.poll_timeout().is_none());
    assert!(!server.peer_any().is_established());
}

#[test]
fn a_server_without_randomness_makes_no_connection_30() {
    let mut server = Server::new(2);
    let mut client = new_client();
    let hello = transmit(&mut client, at(0), 1200).remove(0);
    let request = server.handle(at(0), &hello).1.remove(0);
    receive(&mut client, at(0), &request);
    let hello = transmit(&mut client, at(0), 1200).remove(0);
    let mut out = [0; dtls_psk::REPLY_MAX];
    let mut zeros = |_: &mut [u8]| {};
    let accepted = server.jar.accept(at(0), &Config::DEFAULT, &mut zeros, ADDRESS, &hello, &mut out);
    let dtls_psk::Accepted::Verified(hello) = accepted else { panic!("{accepted:?}") };
    let made = Peer::server(at(0), &Config::DEFAULT, &hello, &mut zeros, Box::default());
    assert_eq!(made.map(|_| ()), Err(SetUpError::NotRandom));
}

/// Between its own end and the last alert a connection still has its keys.
#[test]
fn nothing_is_reported_after_the_end_even_before_the_last_alert_went_out() {
    let (mut client, mut server) = established();
    let data = seal(server.peer(), b"late");
    server.peer().close();
    let close = transmit(server.peer_any(), at(1), 1200).remove(0);
    client.close();
    for datagram in [&data, &close, &record(ALERT, 0, 3, &[2, 40]), &record(CHANGE_CIPHER_SPEC, 0, 3, &[1])] {
        assert!(receive(&mut client, at(1), datagram).is_empty());
    }
    assert_eq!(client.counters().unexpected, 4);
    assert_eq!(transmit(&mut client, at(1), 1200).len(), 1);
}
