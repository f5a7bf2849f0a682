//! Messages of which one part came in the clear and the other one in an authentic record of the epoch behind the key change, in
//! both roles: they are never put together (row 16). The keys are computed from the RFCs and not with the engine.

use crate::other_client::{Keys, keys_of};
#[cfg(feature = "rpk")]
use crate::pair::*;
#[cfg(feature = "rpk")]
use crate::recordings::messages_of;
use crate::support::*;
use dtls_psk::{Psk, Suite};

const HANDSHAKE: u8 = 22;

/// Both sides before the last flight of one of them, which is caught.
struct Halted {
    client: Client,
    server: Server,
    /// The records of the flight.
    flight: Vec<Vec<u8>>,
    /// Of the client and the server.
    keys: [Keys; 2],
}

/// Before the flight of `from_client` that ends in its Finished.
fn halted(from_client: bool) -> Halted {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let (mut messages, mut flight) = (Vec::new(), Vec::new());
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        let records = records_of(datagram);
        // The handshake begins with the last ClientHello, and a HelloVerifyRequest is none of it.
        if is_up && records[0][13] == 1 {
            messages.clear();
        }
        let is_plain = |record: &&Vec<u8>| record[0] == HANDSHAKE && record[4] == 0 && record[13] != 3;
        messages.extend(records.iter().filter(is_plain).map(|record| record[13..].to_vec()));
        let is_last = is_up == from_client && records.iter().any(|record| record[4] == 1);
        if is_last {
            flight = records;
        }
        !is_last
    });
    let psk = Psk { identity: IDENTITY, key: KEY };
    Halted { client, server, flight, keys: keys_of(Suite::PskAes128Ccm8, psk, &messages) }
}

/// A message in two pieces.
fn halves(message: &[u8]) -> [Vec<u8>; 2] {
    let (head, body) = message.split_at(12);
    let message_seq = u16::from_be_bytes([head[4], head[5]]);
    let middle = body.len() / 2;
    [(0, middle), (middle, body.len())]
        .map(|(from, to)| fragment(head[0], body.len(), message_seq, from, &body[from..to]))
}

/// The pieces in records, one in the clear and the other one protected, both ways and in both orders.
fn spanning<'k>(keys: &'k Keys, pieces: &'k [Vec<u8>; 2]) -> impl Iterator<Item = [Vec<u8>; 2]> + 'k {
    [(0, false), (0, true), (1, false), (1, true)].into_iter().map(|(in_clear, is_reversed)| {
        let clear = record(HANDSHAKE, 0, 9, &pieces[in_clear]);
        let protected = keys.seal(7, HANDSHAKE, &pieces[1 - in_clear], &[]);
        if is_reversed { [protected, clear] } else { [clear, protected] }
    })
}

#[test]
fn a_clients_finished_is_not_put_together_across_the_key_change_16() {
    let Halted { flight, keys, .. } = halted(true);
    let pieces = halves(&keys[0].open(&flight[2]));
    for records in spanning(&keys[0], &pieces) {
        let Halted { mut client, mut server, flight, .. } = halted(true);
        for step in [&flight[0], &flight[1], &records[0], &records[1], &records[0]] {
            assert_eq!(server.handle(at(1), step).0, []);
        }
        assert!(!server.peer_any().is_established());
        let (events, answer) = server.handle(at(1), &flight[2]);
        assert_eq!(events, [Event::Established]);
        assert_eq!(receive(&mut client, at(1), &answer[0]), [Event::Established]);
    }
    // Both protected, they are what they seem.
    let Halted { mut server, .. } = halted(true);
    let [first, second] =
        [0, 1].map(|number| keys[0].seal(7 + number, HANDSHAKE, &pieces[number as usize], &[]));
    for step in [&flight[0], &flight[1], &second] {
        assert_eq!(server.handle(at(1), step).0, []);
    }
    assert_eq!(server.handle(at(1), &first).0, [Event::Established]);
}

#[test]
fn a_servers_finished_is_not_put_together_across_the_key_change_16() {
    let Halted { flight, keys, .. } = halted(false);
    let pieces = halves(&keys[1].open(&flight[1]));
    for records in spanning(&keys[1], &pieces) {
        let Halted { mut client, flight, .. } = halted(false);
        for step in [&flight[0], &records[0], &records[1], &records[0]] {
            assert_eq!(receive(&mut client, at(1), step), []);
        }
        assert!(!client.is_established());
        assert_eq!(receive(&mut client, at(1), &flight[1]), [Event::Established]);
    }
    let Halted { mut client, .. } = halted(false);
    let [first, second] =
        [0, 1].map(|number| keys[1].seal(7 + number, HANDSHAKE, &pieces[number as usize], &[]));
    for step in [&flight[0], &second] {
        assert_eq!(receive(&mut client, at(1), step), []);
    }
    assert_eq!(receive(&mut client, at(1), &first), [Event::Established]);
}

#[test]
fn a_client_key_exchange_is_not_put_together_across_the_key_change_16() {
    let Halted { flight, keys, .. } = halted(true);
    for records in spanning(&keys[0], &halves(&flight[0][13..])) {
        let Halted { mut client, mut server, flight, .. } = halted(true);
        for step in [&records[0], &records[1], &flight[1], &records[1], &records[0], &flight[2]] {
            assert_eq!(server.handle(at(1), step).0, []);
        }
        assert!(server.peer_any().suspicion().is_none(), "no identity was named");
        let (mut events, mut answer) = server.handle(at(1), &flight[0]);
        if events.is_empty() {
            (events, answer) = server.handle(at(1), &flight[2]);
        }
        assert_eq!(events, [Event::Established]);
        assert_eq!(receive(&mut client, at(1), &answer[0]), [Event::Established]);
    }
}

#[cfg(feature = "rpk")]
#[test]
fn a_certificate_verify_is_not_put_together_across_the_key_change_16() {
    for kind in TYPES {
        // The same handshake as below: what the client made of it when it was over.
        let mut pair = Pair::of(*kind);
        assert_eq!(pair.talk_with(|_, _| true).client, [Event::Established]);
        let mut saved = [0; dtls_psk::SAVED_MAX];
        pair.client.save(&mut saved).unwrap();
        let keys = Keys::of_saved(&saved);
        for place in 0..4 {
            let mut pair = Pair::of(*kind);
            let mut flight = Vec::new();
            pair.talk_with(|is_up, datagram| {
                let records = records_of(datagram);
                let is_last = is_up && records[0][13] == CERTIFICATE;
                if is_last {
                    flight = records;
                }
                !is_last
            });
            let is_plain = |record: &&Vec<u8>| record[0] == HANDSHAKE && record[4] == 0;
            let messages: Vec<_> =
                flight.iter().filter(is_plain).flat_map(|record| messages_of(record)).collect();
            let [certificate, exchange, verify] = &messages[..] else { panic!("{messages:?}") };
            let [change_cipher_spec, finished] = &flight[flight.len() - 2..] else { panic!() };
            let spanning = spanning(&keys, &halves(&verify[13..])).nth(place).unwrap();
            let server = &mut pair.server;
            for step in [certificate, exchange, &spanning[0], &spanning[1], change_cipher_spec, finished] {
                assert_eq!(server.handle(at(1), step).0, []);
            }
            assert_eq!(
                server.owner.asked,
                ["share", "present", "sign", "check"],
                "nothing is there to be proven"
            );
            let mut events = server.handle(at(1), verify).0;
            events.extend(server.handle(at(1), finished).0);
            assert_eq!(events, [Event::Established]);
        }
    }
}
