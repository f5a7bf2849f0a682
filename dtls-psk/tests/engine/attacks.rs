//! Classes of input and sequences that broke shipped DTLS stacks. The number at the end of a name is its row in this
//! project's list of such attacks; rows about certificates, ECDHE, resumption and connection ids come with those features.

use crate::support::*;
use dtls_psk::{Alert, Config, Psk, Reason};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// A server that waits for the ClientKeyExchange of the client, whose flight is returned.
fn before_client_key_exchange() -> (Client, Server, Vec<u8>) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut flight = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        let is_flight = from_client && datagram[13] == 16;
        if is_flight {
            flight = datagram.clone();
        }
        !is_flight
    });
    assert!(!flight.is_empty());
    (client, server, flight)
}

fn finish(server: &mut Server, client: &mut Client, datagram: &[u8]) {
    let (events, sent) = server.handle(at(1), datagram);
    assert_eq!(events, [Event::Established]);
    assert_eq!(receive(client, at(1), &sent[0]), [Event::Established]);
}

#[test]
fn messages_of_the_wrong_epoch_do_not_count_1() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    // The ClientKeyExchange in a protected epoch, a Finished in the clear.
    let mut protected = key_exchange.clone();
    protected[4] = 1;
    server.handle(at(1), &protected);
    assert!(server.asked.is_empty());
    server.handle(at(1), &key_exchange);
    server.handle(at(1), &change_cipher_spec);
    for message_seq in 2..5 {
        assert!(server.handle(at(1), &message(20, message_seq, &[0; 12])).0.is_empty());
    }
    // The protected one is not disturbed by any of it.
    finish(&mut server, &mut client, &finished);
}

#[test]
fn a_record_of_a_large_epoch_blocks_nothing_2() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    for epoch in [1, 2, 255, 65535] {
        let early = record(HANDSHAKE, epoch, (1 << 48) - 1, &[0x55; 40]);
        assert!(server.handle(at(1), &early).0.is_empty());
        assert!(receive(&mut client, at(1), &early).is_empty());
    }
    // Sequence numbers of epoch 0 can be forged: they block nothing either.
    server.handle(at(1), &record(HANDSHAKE, 0, (1 << 48) - 1, &[0; 12]));
    finish(&mut server, &mut client, &flight);
}

/// Gives a server the client's flight, and so many forged Finished before the ClientKeyExchange, between it and the genuine
/// Finished, and behind that; what came of it once the key is there.
fn with_forged(before: usize, between: usize, behind: usize) -> (Client, Server, Vec<Event>) {
    let (client, mut server, flight) = before_client_key_exchange();
    let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    let mut forged = finished.clone();
    *forged.last_mut().unwrap() ^= 1;
    server.answers_at_once = false;
    let mut records = vec![&forged; before];
    records.extend([&key_exchange, &change_cipher_spec]);
    records.extend(vec![&forged; between]);
    records.push(&finished);
    records.extend(vec![&forged; behind]);
    for record in records {
        assert!(server.handle(at(1), record).0.is_empty());
    }
    let (id, identity) = server.asked.pop().unwrap();
    let events = server.provide(at(1), 0, id, &identity).into_iter().collect();
    (client, server, events)
}

#[test]
fn forged_records_do_not_displace_a_finished_that_waits_for_its_keys_2() {
    for (before, between, behind) in [(0, 0, 0), (1000, 0, 1000), (1000, 1, 1000), (0, 2, 1)] {
        let (_, _, events) = with_forged(before, between, behind);
        assert_eq!(events, [Event::Established], "{before}, {between}, {behind}");
    }
}

#[test]
fn a_finished_that_overtook_its_key_exchange_is_not_displaced_by_what_follows_that_2() {
    let (_, mut server, flight) = before_client_key_exchange();
    let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    let mut forged = finished.clone();
    *forged.last_mut().unwrap() ^= 1;
    server.answers_at_once = false;
    for record in [&forged, &finished, &change_cipher_spec, &key_exchange, &forged, &forged, &forged] {
        assert!(server.handle(at(1), record).0.is_empty());
    }
    let (id, identity) = server.asked.pop().unwrap();
    assert_eq!(server.provide(at(1), 0, id, &identity), Some(Event::Established));
}

#[test]
fn a_finished_that_waits_for_its_change_cipher_spec_is_not_displaced_2() {
    let (_, mut server, flight) = before_client_key_exchange();
    let [exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    for datagram in [exchange, finished] {
        assert_eq!(server.handle(at(1), &datagram).0, []);
    }
    // Under its number, and of a length that leaves no room.
    for (code, length) in [(14, 66), (16, 66), (12, 1024)] {
        server.handle(at(1), &record(22, 0, 9, &fragment(code, length, 3, 38, &[1; 9])));
    }
    assert_eq!(server.handle(at(1), &change_cipher_spec).0, [Event::Established]);
}

#[test]
fn a_flood_that_displaces_a_finished_costs_a_retransmission_and_no_memory_2() {
    let (mut client, mut server, events) = with_forged(0, 1000, 0);
    assert!(events.is_empty());
    let counters = server.peers[0].counters();
    assert_eq!(counters.unsupported, 998, "what there is no room for is dropped");
    assert_eq!(counters.unauthenticated, 3, "what there was room for is not authentic");
    client.handle_timeout(at(1000));
    let flight = transmit(&mut client, at(1000), 1200).remove(0);
    finish(&mut server, &mut client, &flight);
}

#[test]
fn odd_and_lying_lengths_in_a_client_hello_are_malformed_3() {
    for suites in [vec![], vec![0xc0], vec![0xc0, 0xa8, 0]] {
        let mut server = Server::new(1);
        assert!(server.handle(at(0), &Hello { suites, ..Hello::new() }.datagram(0)).1.is_empty());
        assert!(server.peers.is_empty());
    }
    // Each byte of the body in turn says something else.
    let body = Hello::new().body();
    for position in 34..body.len() {
        for value in [0, 1, 2, 3, 0x7f, 0x80, 0xfe, 0xff] {
            let mut server = Server::new(1);
            let mut bent = body.clone();
            bent[position] = value;
            let (events, _) = server.handle(at(0), &message(1, 0, &bent));
            assert!(events.is_empty() && server.peers.is_empty());
        }
    }
}

#[test]
fn a_protected_record_shorter_than_nonce_and_tag_is_dropped_4() {
    let (_, mut server) = established();
    for length in 0..16 {
        for content_type in [ALERT, HANDSHAKE, APPLICATION_DATA] {
            assert!(server.handle(at(1), &record(content_type, 1, 900, &vec![0; length])).0.is_empty());
        }
    }
    assert_eq!(server.peer().counters().malformed, 48);
    assert!(server.peer().is_established());
}

#[test]
fn a_new_handshake_on_the_address_never_reuses_keys_and_numbers_5() {
    let (mut old, mut server) = established();
    let last_of_old = seal(&mut old, b"old");
    let mut new = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 99);
    // The old association works until the new one is proven.
    let hello = transmit(&mut new, at(1), 1200).remove(0);
    let reply = server.handle(at(1), &hello).1.remove(0);
    assert_eq!(server.handle(at(1), &last_of_old).0, [Event::Application(b"old".to_vec())]);
    receive(&mut new, at(1), &reply);
    let another = seal(&mut old, b"old");
    let talk = talk_with(&mut new, &mut server, at(1), |_, _| true);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    assert_eq!(server.peers.len(), 1);
    // Now only the new one does, and the same plaintext under the same numbers is another record.
    assert!(server.handle(at(2), &another).0.is_empty());
    let (before, after) = (seal(&mut old, b"same"), seal(&mut new, b"same"));
    assert_ne!(before[21..], after[21..]);
    assert_eq!(server.handle(at(2), &after).0, [Event::Application(b"same".to_vec())]);
}

#[test]
fn an_unproven_handshake_never_replaces_the_live_association_5() {
    let (mut old, mut server) = established();
    let mut wrong = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: &[3; 16] }, 99);
    let talk = talk_with(&mut wrong, &mut server, at(1), |_, _| true);
    assert!(talk.client.is_empty() && talk.server.is_empty());
    assert_eq!(server.peers.len(), 2);
    // Both have keys for the epoch now: records go to the right one.
    for second in 1..120 {
        let live = seal(&mut old, b"alive");
        let (events, _) = server.handle(at(second * 1000), &live);
        assert_eq!(events, [Event::Application(b"alive".to_vec())]);
        server.handle_timeout(at(second * 1000));
    }
    assert_eq!(server.peers.len(), 1, "the other one was given up");
}

#[test]
fn change_cipher_spec_before_any_key_exchange_changes_nothing_6() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let ccs = record(CHANGE_CIPHER_SPEC, 0, 9, &[1]);
    assert!(server.handle(at(1), &ccs).0.is_empty());
    // No keys yet: nothing protected is understood, not under zero keys either.
    assert!(server.handle(at(1), &record(HANDSHAKE, 1, 0, &[0; 40])).0.is_empty());
    assert!(server.handle(at(1), &record(APPLICATION_DATA, 1, 1, &[0; 40])).0.is_empty());
    assert!(!server.peers[0].is_established());
    finish(&mut server, &mut client, &flight);

    let mut fresh = new_client();
    assert!(receive(&mut fresh, at(1), &ccs).is_empty());
    assert!(!fresh.is_established());
}

#[test]
fn no_version_and_no_other_field_gets_past_the_cookie_7() {
    for version in [0, 0x0300, 0x0303, 0xfeff, 0xfefd, 0xfefc, 0xffff] {
        let mut server = Server::new(1);
        let (_, replies) = server.handle(at(0), &Hello { version, ..Hello::new() }.datagram(0));
        assert_eq!(replies[0][13], 3, "a HelloVerifyRequest and nothing else");
        assert!(server.peers.is_empty());
    }
    for message_seq in [1, 2, 0xffff] {
        let mut server = Server::new(1);
        assert_eq!(server.handle(at(0), &Hello::new().datagram(message_seq)).1[0][13], 3);
        assert!(server.peers.is_empty());
    }
}

/// Clients of old tinydtls read no record but those of 1.2.
#[test]
fn a_hello_verify_request_names_version_1_0_in_a_record_of_1_2() {
    let replies = Server::new(1).handle(at(0), &Hello::new().datagram(0)).1;
    assert_eq!(replies[0][1..3], [0xfe, 0xfd], "RFC 6347 §4.1: the version of the record");
    assert_eq!(replies[0][25..27], [0xfe, 0xff], "RFC 6347 §4.2.1: server_version");
}

#[test]
fn a_cookie_longer_than_its_message_is_malformed_8() {
    for body in [
        &[0xfe, 0xff, 16][..],
        &[0xfe, 0xff, 255, 1, 2, 3],
        &[0xfe, 0xff],
        &[0xfe],
        &[],
        &[0xfe, 0xff, 1, 2, 3],
        &[0x03, 0x03, 1, 2],
    ] {
        let mut client = new_client();
        let hello = transmit(&mut client, at(0), 1200);
        assert!(receive(&mut client, at(0), &message(3, 0, body)).is_empty());
        assert_eq!(client.counters().malformed, 1);
        assert!(transmit(&mut client, at(0), 1200).is_empty());
        // It goes on with a good one.
        receive(&mut client, at(0), &message(3, 0, &[0xfe, 0xff, 2, 1, 2]));
        assert_eq!(transmit(&mut client, at(0), 1200)[0].len(), hello[0].len() + 2);
    }
}

#[test]
fn empty_messages_and_datagrams_are_dropped_9() {
    let mut server = Server::new(1);
    for datagram in [vec![], message(1, 0, &[]), record(HANDSHAKE, 0, 0, &[]), record(ALERT, 0, 0, &[])] {
        let (events, sent) = server.handle(at(0), &datagram);
        assert!(events.is_empty() && sent.is_empty());
    }
    let (_, mut server, _) = before_client_key_exchange();
    for code in 0..=255 {
        assert!(server.handle(at(0), &message(code, 2, &[])).0.is_empty());
        assert!(server.handle(at(0), &message(code, 3, &[])).0.is_empty());
    }
}

#[test]
fn each_role_ignores_the_messages_of_its_own_10() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    for code in [0, 1, 16, 11, 13, 15] {
        assert!(receive(&mut client, at(0), &message(code, 0, &Hello::new().body())).is_empty());
        assert!(transmit(&mut client, at(0), 1200).is_empty());
    }
    let (mut client, mut server, flight) = before_client_key_exchange();
    for code in [0, 2, 3, 4, 12, 14, 11, 13, 15] {
        let (events, sent) = server.handle(at(0), &message(code, 2, &[0, 0]));
        assert!(events.is_empty() && sent.is_empty());
    }
    finish(&mut server, &mut client, &flight);
}

#[test]
fn a_finished_is_accepted_only_as_it_was_computed_13() {
    // In the clear, empty, of zeros, too short, too long: nothing of it is a Finished.
    let (mut client, mut server, flight) = before_client_key_exchange();
    let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    server.handle(at(1), &key_exchange);
    server.handle(at(1), &change_cipher_spec);
    for length in [0, 1, 11, 12, 13, 36] {
        assert!(server.handle(at(1), &message(20, 3, &vec![0; length])).0.is_empty());
    }
    for position in 13..finished.len() {
        let mut bent = finished.clone();
        bent[position] ^= 0x40;
        assert!(server.handle(at(1), &bent).0.is_empty());
        assert!(!server.peers[0].is_established());
    }
    finish(&mut server, &mut client, &finished);
}

#[test]
fn no_message_spans_a_key_change_16() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let [_, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    // The beginning of a Finished in the clear cannot be completed by a protected one, nor the other way round.
    let mut in_clear = vec![0x55; 12];
    in_clear[..6].fill(0);
    server.handle(at(1), &record(HANDSHAKE, 0, 3, &fragment(20, 12, 3, 0, &in_clear[..6])));
    server.handle(at(1), &record(HANDSHAKE, 0, 3, &fragment(20, 12, 3, 0, &in_clear)));
    server.handle(at(1), &change_cipher_spec);
    server.handle(at(1), &finished);
    assert!(!server.peers[0].is_established());
    finish(&mut server, &mut client, &flight);
}

#[test]
fn a_flood_of_change_cipher_spec_costs_nothing_18() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    for sequence in 0..10_000 {
        let (events, sent) = server.handle(at(1), &record(CHANGE_CIPHER_SPEC, 0, sequence, &[1]));
        assert!(events.is_empty() && sent.is_empty());
    }
    assert_eq!(server.peers[0].counters().duplicate, 9_999);
    finish(&mut server, &mut client, &flight);
    for sequence in 0..1000 {
        assert!(server.handle(at(1), &record(CHANGE_CIPHER_SPEC, 0, sequence, &[1])).0.is_empty());
    }
    assert_eq!(server.handle(at(2), &seal(&mut client, b"x")).0.len(), 1);
}

#[test]
fn cookies_of_every_length_come_back_whole_20() {
    for length in 1..=255_u8 {
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        let cookie: Vec<u8> = (0..length).collect();
        let body = [&[0xfe, 0xfd, length], cookie.as_slice()].concat();
        receive(&mut client, at(0), &message(3, 0, &body));
        let hello = transmit(&mut client, at(0), 1200).remove(0);
        assert_eq!(hello.len(), 75 + usize::from(length));
        assert_eq!(hello[17..19], [0, 1], "message_seq");
        assert_eq!(hello[60], length);
        assert_eq!(hello[61..61 + usize::from(length)], cookie);
    }
}

#[test]
fn the_explicit_nonce_is_the_record_number_21() {
    let (mut client, mut server) = established();
    for _ in 0..300 {
        let (up, down) = (seal(&mut client, b"x"), seal(server.peer(), b"x"));
        assert_eq!(up[3..11], up[13..21]);
        assert_eq!(down[3..11], down[13..21]);
    }
}

#[test]
fn a_suite_that_was_not_offered_is_refused_22() {
    for suite in [[0x00, 0x00], [0x00, 0x2c], [0x00, 0xae], [0xc0, 0xa9], [0x00, 0xff], [0xa8, 0xc0]] {
        let (mut client, mut server) = (new_client(), Server::new(2));
        let talk = talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
            if !from_client && datagram[13] == 2 {
                datagram[60..62].copy_from_slice(&suite);
            }
            true
        });
        assert_eq!(talk.client, [Event::Closed(Reason::NoCommonSuite)]);
    }
}

#[test]
fn fragments_in_any_order_and_overlap_make_one_message_23() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let (mut client, mut server, flight) = before_client_key_exchange();
        let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
        let body = &key_exchange[25..];
        let mut pieces: Vec<(usize, usize)> = (0..random.below(20))
            .map(|_| {
                let from = random.below(body.len() as u64) as usize;
                (from, from + 1 + random.below((body.len() - from) as u64) as usize)
            })
            .collect();
        let cut = random.below(body.len() as u64) as usize;
        pieces.extend([(0, cut), (cut, body.len())]);
        for _ in 0..pieces.len() {
            let (a, b) = (random.below(pieces.len() as u64), random.below(pieces.len() as u64));
            pieces.swap(a as usize, b as usize);
        }
        // A full list of gaps drops pieces; the two halves, sent again, complete the message in any case.
        pieces.extend([(0, cut), (cut, body.len()), (0, cut)]);
        for (from, to) in pieces {
            let piece = fragment(16, body.len(), 2, from, &body[from..to]);
            server.handle(at(1), &record(HANDSHAKE, 0, 20, &piece));
        }
        server.handle(at(1), &change_cipher_spec);
        finish(&mut server, &mut client, &finished);
    }
}

#[test]
fn fragments_that_contradict_each_other_are_bounded_and_harmless_23() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let mut random = Random(23);
    for _ in 0..20_000 {
        let length = [0, 1, 17, 200, 1024, 1025, 5000, 0xff_ffff][random.below(8) as usize];
        let offset = random.below(length as u64 + 2) as usize;
        let bytes = vec![0xaa; random.below(40) as usize];
        // Not the next message whole: that would be a ClientKeyExchange as good as any other.
        let code = [1, 2, 12, 14, 16, 20, 99][random.below(7) as usize];
        let message_seq = [0, 1, 3, 4, 5, 6, 0xffff][random.below(7) as usize];
        let piece = fragment(code, length, message_seq, offset, &bytes);
        let (events, sent) = server.handle(at(1), &record(HANDSHAKE, 0, 20, &piece));
        assert!(events.is_empty() && sent.is_empty());
    }
    // Half a message of another length in the place of the next one.
    server.handle(at(1), &record(HANDSHAKE, 0, 20, &fragment(16, 900, 2, 0, &[1; 30])));
    finish(&mut server, &mut client, &flight);
}

#[test]
fn application_data_is_never_accepted_in_the_clear_or_early_24() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let [key_exchange, change_cipher_spec, finished] = <[_; 3]>::try_from(records_of(&flight)).unwrap();
    let plain = record(APPLICATION_DATA, 0, 30, b"in the clear");
    let mut steps = vec![plain.clone(), key_exchange, plain.clone(), change_cipher_spec, plain.clone()];
    // Under the right number but before the Finished.
    steps.push(record(APPLICATION_DATA, 1, 5, &[0; 30]));
    for step in &steps {
        let (events, _) = server.handle(at(1), step);
        assert!(events.is_empty());
    }
    finish(&mut server, &mut client, &finished);
    assert!(server.handle(at(1), &plain).0.is_empty());
    assert!(receive(&mut client, at(1), &plain).is_empty());
}

#[test]
fn the_servers_application_data_waits_for_its_finished_24() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut last = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        let is_last = !from_client && datagram[0] == CHANGE_CIPHER_SPEC;
        if is_last {
            last = datagram.clone();
        }
        !is_last
    });
    let data = seal(server.peer(), b"too early");
    assert!(receive(&mut client, at(0), &data).is_empty());
    assert_eq!(receive(&mut client, at(0), &last), [Event::Established]);
    let data = seal(server.peer(), b"in time");
    assert_eq!(receive(&mut client, at(0), &data), [Event::Application(b"in time".to_vec())]);
}

#[test]
fn a_retransmission_keeps_its_epoch_and_takes_new_numbers_25() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut sent = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        if from_client && datagram[13] == 16 {
            sent.push(datagram.clone());
        }
        !(from_client && datagram[13] == 16)
    });
    for _ in 0..3 {
        let due = client.poll_timeout().unwrap();
        client.handle_timeout(due);
        sent.extend(transmit(&mut client, due, 1200));
    }
    assert_eq!(sent.len(), 4);
    let mut numbers = Vec::new();
    for datagram in &sent {
        let records = records_of(datagram);
        let shape: Vec<_> = records.iter().map(|record| (record[0], record[4])).collect();
        assert_eq!(shape, [(HANDSHAKE, 0), (CHANGE_CIPHER_SPEC, 0), (HANDSHAKE, 1)]);
        numbers.extend(records.iter().map(|record| record[3..11].to_vec()));
    }
    let count = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "no record number twice");
    // Any of them will do.
    finish(&mut server, &mut client, &sent[2]);
}

#[test]
fn a_failed_verification_leaves_nothing_that_later_succeeds_27() {
    let mut wrong = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: &[3; 16] }, 1);
    let mut server = Server::new(2);
    let failed = talk(&mut wrong, &mut server);
    let flight = failed.from_client.last().unwrap();
    for _ in 0..3 {
        assert!(server.handle(at(1), flight).0.is_empty());
    }
    // Once given up, the flight means nothing to anybody.
    server.handle_timeout(at(100_000));
    assert!(server.peers.is_empty());
    assert!(server.handle(at(100_001), flight).0.is_empty());
    assert!(server.peers.is_empty());
}

#[test]
fn failed_handshakes_leave_nothing_behind_28() {
    let mut server = Server::new(2);
    for seed in 0..200 {
        let now = at(seed * 200_000);
        let mut random = Random(seed);
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        let psk = Psk { identity: IDENTITY, key: &[3; 16] };
        let memory = dtls_psk::Handshake::new();
        let mut wrong = Client::client(now, &Config::DEFAULT, psk, &mut rng, memory).unwrap();
        talk_with(&mut wrong, &mut server, now, |_, _| true);
        assert_eq!(server.peers.len(), 1);
        server.handle_timeout(at(seed * 200_000 + 100_000));
        assert!(server.peers.is_empty() && server.poll_timeout().is_none());
    }
    let mut client = new_client();
    let talk = talk_with(&mut client, &mut server, at(50_000_000), |_, _| true);
    assert_eq!(talk.server, [Event::Established]);
}

#[test]
fn an_unknown_identity_is_handled_like_a_wrong_key_29() {
    let run = |identity: &[u8], key: &[u8]| {
        let mut client = client_with(&Config::DEFAULT, Psk { identity, key }, 1);
        let mut server = Server::new(2);
        let talk = talk(&mut client, &mut server);
        let peer = server.peer_any();
        (talk.from_server, peer.poll_timeout(), peer.counters().unauthenticated)
    };
    assert_eq!(run(b"urn:dev:os:9999", KEY), run(IDENTITY, &[3; 16]));
}

#[test]
fn randoms_and_cookies_come_from_the_random_source_30() {
    let hellos: Vec<Vec<u8>> = (1..4)
        .map(|seed| {
            let psk = Psk { identity: IDENTITY, key: KEY };
            transmit(&mut client_with(&Config::DEFAULT, psk, seed), at(0), 1200).remove(0)[27..59].to_vec()
        })
        .collect();
    assert!(hellos[0] != hellos[1] && hellos[1] != hellos[2]);
    let cookies: Vec<Vec<u8>> = (1..4)
        .map(|seed| Server::new(seed).handle(at(0), &Hello::new().datagram(0)).1.remove(0)[28..].to_vec())
        .collect();
    assert!(cookies[0] != cookies[1] && cookies[1] != cookies[2]);
}

// --- state machines ---

#[test]
fn a_client_hello_in_the_middle_of_a_handshake_starts_its_own() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    let other = Hello::new().datagram(0);
    let (events, sent) = server.handle(at(1), &other);
    assert!(events.is_empty());
    assert_eq!(sent[0][13], 3, "stateless, beside the other");
    finish(&mut server, &mut client, &flight);
}

#[test]
fn a_repeated_client_hello_gets_the_same_flight_again() {
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    let first = hello.send(&mut server, at(0)).remove(0);
    assert!(server.handle(at(100), &hello.datagram(1)).1.is_empty(), "not more often than every 250 ms");
    let again = server.handle(at(500), &hello.datagram(1)).1.remove(0);
    assert_eq!(server.peers.len(), 1);
    assert_eq!(first[11..], again[11..]);
    assert_ne!(first[5..11], again[5..11], "under a new record number");
}

#[test]
fn a_lost_last_flight_is_repeated_for_a_repeated_finished() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        from_client || datagram[0] != CHANGE_CIPHER_SPEC
    });
    assert!(server.peer().is_established() && !client.is_established());
    client.handle_timeout(at(1000));
    let talk = talk_with(&mut client, &mut server, at(1000), |_, _| true);
    assert!(talk.server.is_empty(), "established once");
    assert_eq!(talk.client, [Event::Established]);
}

#[test]
fn the_last_flight_is_kept_for_twice_the_segment_lifetime() {
    let (_, mut server) = established();
    assert_eq!(server.poll_timeout(), Some(at(240_000)));
    server.handle_timeout(at(240_000));
    assert_eq!(server.poll_timeout(), None);
    assert!(server.peer().is_established());
}

#[test]
fn alerts_in_the_clear_end_nothing_that_gets_on() {
    for (level, description) in [(2, 40), (2, 115), (1, 0), (2, 0), (1, 90)] {
        let spoofed = record(ALERT, 0, 1, &[level, description]);
        let (mut client, mut server) = (new_client(), Server::new(2));
        let talk = {
            // In front of each datagram there is an alert.
            let mut talk = Talk::default();
            loop {
                let sent = transmit(&mut client, at(0), 1200);
                if sent.is_empty() {
                    break talk;
                }
                for datagram in sent {
                    talk.server.extend(server.handle(at(0), &spoofed).0);
                    let (events, answers) = server.handle(at(0), &datagram);
                    talk.server.extend(events);
                    for answer in answers {
                        talk.client.extend(receive(&mut client, at(0), &spoofed));
                        talk.client.extend(receive(&mut client, at(0), &answer));
                    }
                }
            }
        };
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert!(receive(&mut client, at(1), &spoofed).is_empty());
        assert!(server.handle(at(1), &spoofed).0.is_empty());
        assert!(client.is_established() && server.peer().is_established());
    }
}

#[test]
fn an_alert_in_the_clear_is_the_reason_once_nothing_else_came() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    assert!(receive(&mut client, at(10), &record(ALERT, 0, 1, &[2, 40])).is_empty());
    assert_eq!(client.handle_timeout(at(999)).map(Event::of), None);
    assert_eq!(
        client.handle_timeout(at(1000)).map(Event::of),
        Some(Event::Closed(Reason::PeerAlert(Alert::HANDSHAKE_FAILURE)))
    );
}

#[test]
fn an_alert_before_the_cookie_request_is_not_the_reason_after_it() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    receive(&mut client, at(10), &record(ALERT, 0, 1, &[2, 40]));
    receive(&mut client, at(20), &message(3, 0, &[0xfe, 0xff, 1, 7]));
    // The second ClientHello is lost: it goes out again.
    assert_eq!(transmit(&mut client, at(20), 1200).len(), 1);
    assert_eq!(client.handle_timeout(at(1020)).map(Event::of), None);
    assert_eq!(transmit(&mut client, at(1020), 1200).len(), 1);
}

#[test]
fn nothing_is_processed_after_the_end() {
    let (mut client, mut server) = established();
    let data = seal(server.peer(), b"x");
    client.close();
    assert!(receive(&mut client, at(1), &data).is_empty());
    assert_eq!(transmit(&mut client, at(1), 1200).len(), 1);
    assert!(transmit(&mut client, at(1), 1200).is_empty());
    assert_eq!(client.handle_timeout(at(1_000_000)).map(Event::of), None);
}

#[test]
fn back_off_doubles_up_to_a_minute_and_ends_at_the_deadline() {
    let config = config(1000, 300);
    let mut client = client_with(&config, Psk { identity: IDENTITY, key: KEY }, 1);
    let mut sent = vec![];
    let mut now = at(0);
    let reason = loop {
        if !transmit(&mut client, now, 1200).is_empty() {
            sent.push(now.as_millis() / 1000);
        }
        now = client.poll_timeout().unwrap();
        if let Some(input) = client.handle_timeout(now) {
            break Event::of(input);
        }
    };
    assert_eq!(sent, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    assert_eq!((reason, now), (Event::Closed(Reason::NoAnswer), at(300_000)));
}

#[test]
fn the_time_out_of_a_slow_path_is_kept_for_the_next_flight() {
    let mut client = new_client();
    for due in [0, 1000, 3000] {
        client.handle_timeout(at(due));
        assert_eq!(transmit(&mut client, at(due), 1200).len(), 1);
    }
    assert_eq!(client.poll_timeout(), Some(at(7000)));
    receive(&mut client, at(5000), &message(3, 0, &[0xfe, 0xff, 1, 1]));
    assert_eq!(transmit(&mut client, at(5000), 1200).len(), 1);
    assert_eq!(client.poll_timeout(), Some(at(9000)), "four seconds, not one");
}

#[test]
fn a_server_that_always_wants_another_cookie_is_given_up() {
    let mut client = new_client();
    let mut ended = None;
    for count in 0..10 {
        transmit(&mut client, at(0), 1200);
        let body = [0xfe, 0xff, 1, count];
        ended = ended.or(receive(&mut client, at(0), &message(3, 0, &body)).pop());
    }
    assert_eq!(ended, Some(Event::Closed(Reason::CookieLoop)));
}

#[test]
fn a_repeated_cookie_request_sends_nothing_by_itself() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    let request = message(3, 0, &[0xfe, 0xff, 1, 7]);
    receive(&mut client, at(0), &request);
    assert_eq!(transmit(&mut client, at(0), 1200).len(), 1);
    for _ in 0..100 {
        receive(&mut client, at(0), &request);
        assert!(transmit(&mut client, at(0), 1200).is_empty());
    }
}

#[test]
fn every_flight_survives_any_order_of_its_records() {
    // ClientKeyExchange, ChangeCipherSpec, Finished, each in its own datagram, in all six orders.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut client, mut server, flight) = before_client_key_exchange();
        let records = records_of(&flight);
        let mut events = vec![];
        let mut answers = vec![];
        for index in order {
            let (event, answer) = server.handle(at(1), &records[index]);
            events.extend(event);
            answers.extend(answer);
        }
        assert_eq!(events, [Event::Established], "{order:?}");
        // The server's answer, in the wrong order too.
        let mut parts = records_of(&answers[0]);
        parts.reverse();
        let events: Vec<_> = parts.iter().flat_map(|part| receive(&mut client, at(1), part)).collect();
        assert_eq!(events, [Event::Established]);
    }
}

#[test]
fn a_server_hello_done_may_overtake_the_server_hello() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.mtu = 75; // ServerHello and ServerHelloDone do not fit together.
    let talk = {
        let hello = transmit(&mut client, at(0), 1200).remove(0);
        let reply = server.handle(at(0), &hello).1.remove(0);
        receive(&mut client, at(0), &reply);
        let hello = transmit(&mut client, at(0), 1200).remove(0);
        let mut answers = server.handle(at(0), &hello).1;
        assert_eq!(answers.len(), 2);
        answers.reverse();
        answers.iter().for_each(|answer| assert!(receive(&mut client, at(0), answer).is_empty()));
        talk_with(&mut client, &mut server, at(0), |_, _| true)
    };
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
}

#[test]
fn a_server_key_exchange_with_a_hint_is_accepted_once() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    let mut hello = vec![0xfe, 0xfd];
    hello.extend([5; 32]);
    // With a session id, as servers with a cache send it, and without extensions.
    hello.push(32);
    hello.extend([6; 32]);
    hello.extend([0xc0, 0xa8, 0]);
    receive(&mut client, at(0), &message(2, 0, &hello));
    receive(&mut client, at(0), &message(12, 1, &[0, 4, b'h', b'i', b'n', b't']));
    receive(&mut client, at(0), &message(12, 2, &[0, 4, b'h', b'i', b'n', b't']));
    assert_eq!(client.counters().unexpected, 1);
    receive(&mut client, at(0), &message(14, 2, &[]));
    let flight = transmit(&mut client, at(0), 1200);
    assert_eq!(flight[0].len(), 42 + 14 + 53);
    assert_eq!(flight[0][17..19], [0, 1], "without cookie the ClientHello had message_seq 0");
}

#[test]
fn a_hint_longer_than_the_memory_is_accepted_in_a_record_with_its_neighbours() {
    // Whole and in its turn, a message needs no memory: neither a hint for the client nor an identity for the server.
    let mut hello = vec![0xfe, 0xfd];
    hello.extend([5; 32]);
    hello.extend([0, 0xc0, 0xa8, 0]);
    let hint = [&1000_u16.to_be_bytes()[..], &[b'h'; 1000]].concat();
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    let messages = [(2, hello.as_slice()), (12, hint.as_slice()), (14, &[])];
    let flight = (0..).zip(messages).flat_map(|(seq, (code, body))| fragment(code, body.len(), seq, 0, body));
    receive(&mut client, at(0), &record(HANDSHAKE, 0, 0, &flight.collect::<Vec<u8>>()));
    assert_eq!(transmit(&mut client, at(0), 1200)[0].len(), 42 + 14 + 53);

    let mut server = Server::new(1);
    Hello::new().send(&mut server, at(0));
    let identity = [&5000_u16.to_be_bytes()[..], &[b'i'; 5000]].concat();
    server.handle(at(0), &message(16, 2, &identity));
    assert_eq!(server.peer_any().suspicion(), Some(Reason::IdentityTooLong));
}

#[test]
fn truncated_handshake_messages_never_count() {
    // Each message of a handshake, cut to each length, with lengths that say so, in the place of the whole one.
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk(&mut client, &mut server);
    let server_hello = records_of(&talk.from_server[1]).remove(0);
    let body = &server_hello[25..25 + 49];
    for length in 0..body.len() {
        // Without its extensions a ServerHello is whole as well.
        if length == 38 {
            continue;
        }
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        let events = receive(&mut client, at(0), &message(2, 0, &body[..length]));
        assert_eq!(events, [Event::Closed(Reason::ProtocolViolation)], "{length}");
    }
    let identity = &records_of(&talk.from_client[2])[0][25..];
    for length in 0..identity.len() {
        let mut server = Server::new(1);
        Hello::new().send(&mut server, at(0));
        server.answers_at_once = false;
        server.handle(at(0), &message(16, 2, &identity[..length]));
        assert!(server.asked.is_empty(), "{length}");
        server.handle(at(0), &message(16, 2, identity));
        assert_eq!(server.asked.len(), 1, "and the whole one still does");
    }
    let hello = Hello::new().body();
    for length in 0..hello.len() {
        // Up to the compression methods it is whole, without extensions.
        if length == hello.len() - 6 {
            continue;
        }
        let mut server = Server::new(1);
        assert!(server.handle(at(0), &message(1, 0, &hello[..length])).1.is_empty(), "{length}");
    }
    // And each datagram of a handshake cut anywhere.
    for (index, datagram) in talk.from_client.iter().enumerate() {
        for length in 0..datagram.len() {
            let (_, mut server, _) = before_client_key_exchange();
            let (events, _) = server.handle(at(0), &datagram[..length]);
            assert!(events.is_empty(), "{index} {length}");
        }
    }
    for datagram in &talk.from_server {
        for length in 0..datagram.len() {
            let mut client = new_client();
            transmit(&mut client, at(0), 1200);
            assert!(!receive(&mut client, at(0), &datagram[..length]).contains(&Event::Established));
        }
    }
}

#[test]
fn random_bytes_neither_panic_nor_establish() {
    let mut random = Random(4711);
    let (mut client, mut server, flight) = before_client_key_exchange();
    let mut fresh = new_client();
    for _ in 0..30_000 {
        let mut datagram = match random.below(3) {
            0 => flight.clone(),
            1 => Hello::new().datagram(0),
            _ => vec![22; 60],
        };
        for _ in 0..1 + random.below(6) {
            let position = random.below(datagram.len() as u64) as usize;
            datagram[position] = random.next() as u8;
        }
        datagram.truncate(1 + random.below(datagram.len() as u64) as usize);
        if datagram[13.min(datagram.len() - 1)] != 16 {
            server.handle(at(1), &datagram);
        }
        receive(&mut client, at(1), &datagram);
        receive(&mut fresh, at(1), &datagram);
    }
    assert!(!client.is_established() && !fresh.is_established());
    assert!(!server.peers.iter().any(dtls_psk::Connection::is_established));
}

#[test]
fn records_of_other_handshakes_in_any_order_neither_help_nor_hurt() {
    // Everything another pair said with the same key, and some spoofed records.
    let mut other_client = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 77);
    let mut other_server = Server::new(78);
    let talk = talk(&mut other_client, &mut other_server);
    let mut strange: Vec<Vec<u8>> =
        talk.from_client.iter().chain(&talk.from_server).flat_map(|datagram| records_of(datagram)).collect();
    strange.push(seal(&mut other_client, b"data"));
    strange.push(seal(other_server.peer(), b"data"));
    for alert in [[1, 0], [2, 40], [1, 100]] {
        strange.push(record(ALERT, 0, 40, &alert));
    }
    strange.push(message(0, 0, &[]));
    // A ClientKeyExchange or a ServerHello in the clear is as good as the genuine one until Finished.
    strange.retain(|record| !matches!((record[0], record[13]), (HANDSHAKE, 16 | 2 | 3)) || record[4] == 1);
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut client, mut server, flight) = before_client_key_exchange();
        for _ in 0..40 {
            let record = &strange[random.below(strange.len() as u64) as usize];
            let (events, _) = server.handle(at(1), record);
            assert!(events.is_empty());
            assert!(receive(&mut client, at(1), record).is_empty());
        }
        finish(&mut server, &mut client, &flight);
    }
}

#[test]
fn debug_shows_no_secret() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    talk(&mut client, &mut server);
    let psk = Psk { identity: IDENTITY, key: KEY };
    let shown = format!(
        "{client:?} {:?} {:?} {psk:?} {:?}",
        server.peers[0],
        server.jar,
        dtls_psk::Answer::Psk { key: KEY }
    );
    assert!(!shown.contains("90, 90") && !shown.contains("5a5a"), "{shown}");
}

#[test]
fn a_hello_verify_request_after_the_server_hello_changes_nothing() {
    let (mut client, mut server, flight) = before_client_key_exchange();
    assert!(receive(&mut client, at(1), &message(3, 0, &[0xfe, 0xff, 2, 1, 2])).is_empty());
    assert!(transmit(&mut client, at(1), 1200).is_empty(), "no other ClientHello");
    finish(&mut server, &mut client, &flight);
}

#[test]
fn a_server_hello_done_with_a_body_is_not_answered() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        if !from_client && datagram[13] == 2 {
            // RFC 5246 §7.4.5: it is empty. Here it says that it has one byte, and has it.
            let end = datagram.len();
            datagram[12] += 1;
            datagram[end - 9] = 1;
            datagram[end - 1] = 1;
            datagram.push(0);
        }
        true
    });
    assert!(talk.client.is_empty() && talk.server.is_empty());
    assert_eq!(talk.from_client.len(), 2, "no ClientKeyExchange");
}
