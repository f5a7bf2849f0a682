//! What a side that proves itself by a signature makes of a bent CertificateRequest (row 4), and of the genuine flight of a
//! handshake that it has refused already (row 27).

use crate::pair::*;
use crate::support::*;
use dtls_psk::{Reason, Refusal};

/// What our server asks for: ecdsa_sign, ecdsa_secp256r1_sha256, of any authority.
const REQUEST: [u8; 8] = [1, 64, 0, 2, 4, 3, 0, 0];

#[test]
fn a_certificate_request_that_cannot_be_read_is_nobodys_4() {
    let mut bad: Vec<Vec<u8>> = (0..REQUEST.len()).map(|length| REQUEST[..length].to_vec()).collect();
    bad.extend([
        // Behind it, and behind an authority.
        [&REQUEST[..], &[0]].concat(),
        [&REQUEST[..], &[0; 40]].concat(),
        vec![1, 64, 0, 2, 4, 3, 0, 2, 0, 0, 0],
        // Half an algorithm more, and half of one alone.
        vec![1, 64, 0, 3, 4, 3, 4, 0, 0],
        vec![1, 64, 0, 1, 4, 0, 0],
        // Types, algorithms and authorities that reach beyond it.
        vec![255, 64, 0, 2, 4, 3, 0, 0],
        vec![1, 64, 255, 255, 4, 3, 0, 0],
        vec![1, 64, 0, 2, 4, 3, 255, 255],
        vec![1, 64, 0, 2, 4, 3, 0, 1],
    ]);
    for kind in TYPES {
        for request in &bad {
            let mut pair = Pair::of(*kind);
            let talk = changed(&mut pair, DOWN, CERTIFICATE_REQUEST, |body| body.clone_from(request));
            // In the clear it may be a forgery: the genuine one may still come, and nothing is answered to this one.
            is_nobody(&talk);
            assert!(pair.client.counters().malformed > 0, "{request:?}");
            assert_eq!(pair.owner.asked, ["check"], "{request:?}");
            assert!(transmit(&mut pair.client, at(1), 1200).is_empty());
        }
    }
}

#[test]
fn a_certificate_request_without_our_kind_of_key_and_signature_is_refused_4() {
    let without: [&[u8]; 6] = [
        // No type, no algorithm, and neither; other types; other algorithms, one of which has the two bytes across its border.
        &[0, 0, 2, 4, 3, 0, 0],
        &[1, 64, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0],
        &[3, 1, 2, 63, 0, 2, 4, 3, 0, 0],
        &[1, 64, 0, 4, 4, 1, 2, 3, 0, 0],
        &[1, 64, 0, 4, 5, 4, 3, 5, 0, 0],
    ];
    // One of several, and authorities that are not looked at.
    let with: [&[u8]; 3] = [
        &[3, 1, 2, 64, 0, 6, 4, 1, 4, 3, 8, 7, 0, 0],
        &[1, 64, 0, 2, 4, 3, 0, 4, 0, 2, 0x30, 0],
        &[1, 64, 0, 2, 4, 3, 0, 3, 9, 9, 9],
    ];
    for kind in TYPES {
        for request in without {
            let change = |body: &mut Vec<u8>| *body = request.to_vec();
            let talk = changed(&mut Pair::of(*kind), DOWN, CERTIFICATE_REQUEST, change);
            is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
        }
        for request in with {
            let mut pair = Pair::of(*kind);
            let talk = changed(&mut pair, DOWN, CERTIFICATE_REQUEST, |body| *body = request.to_vec());
            assert_eq!(talk.client, [], "the handshake is another one than the server's");
            assert_eq!(pair.owner.asked, ["check", "prove", "present", "sign"], "{request:?}");
        }
    }
}

/// Why a side refuses the other one.
#[derive(Clone, Copy, Debug)]
enum Why {
    BadSignature,
    Untrusted,
}

const REASONS: [(Why, Reason); 2] =
    [(Why::BadSignature, Reason::BadSignature), (Why::Untrusted, Reason::UntrustedPeer(Refusal::Unknown))];

/// A pair up to the flight in this direction that has a Certificate, which is caught.
fn before_certificate(pair: &mut Pair, direction: bool) -> Vec<Vec<u8>> {
    let mut flight = Vec::new();
    pair.talk_with(|is_up, datagram| {
        let is_flight = is_up == direction
            && records_of(datagram)
                .iter()
                .any(|record| record[0] == 22 && [2, CERTIFICATE].contains(&record[13]))
            && !(is_up && datagram[13] == 1);
        if is_flight {
            flight.push(datagram.clone());
        }
        !is_flight
    });
    assert!(!flight.is_empty());
    flight
}

#[test]
fn a_client_that_refused_a_signature_or_a_certificate_takes_not_even_the_genuine_flight_27() {
    for kind in TYPES {
        for (why, reason) in REASONS {
            let genuine = before_certificate(&mut Pair::of(*kind), DOWN);
            let mut pair = Pair::of(*kind);
            match why {
                Why::BadSignature => pair.server.owner.bend = |signature| signature[63] ^= 1,
                Why::Untrusted => pair.owner.refusal = Some(Refusal::Unknown),
            }
            let talk = pair.talk_with(|_, _| true);
            assert_eq!(talk.client, [Event::Closed(reason)]);
            pair.owner.refusal = None;
            for datagram in genuine.iter().chain(&genuine) {
                assert_eq!(receive(&mut pair.client, at(1), datagram), [], "{why:?}");
                assert_eq!(pair.owner.answer(&mut pair.client, at(1)), [], "nothing is asked");
            }
            assert!(pair.client.is_closed() && !pair.client.is_established());
            assert!(transmit(&mut pair.client, at(1), 1200).is_empty(), "the alert went out before");
            assert_eq!(pair.client.handle_timeout(at(100_000)).map(Event::of), None);
            // It is the flight that a client takes which refused nothing.
            let mut pair = Pair::of(*kind);
            before_certificate(&mut pair, DOWN);
            genuine.iter().for_each(|datagram| drop(receive(&mut pair.client, at(1), datagram)));
            pair.owner.answer(&mut pair.client, at(1));
            assert_eq!(pair.talk_with(|_, _| true).client, [Event::Established]);
        }
    }
}

#[test]
fn a_server_that_refused_a_signature_or_a_certificate_takes_not_even_the_genuine_flight_27() {
    for kind in TYPES {
        for (why, reason) in REASONS {
            let genuine = before_certificate(&mut Pair::of(*kind), UP);
            let mut pair = Pair::of(*kind);
            if matches!(why, Why::BadSignature) {
                pair.owner.bend = |signature| signature[63] ^= 1;
            }
            let refused = before_certificate(&mut pair, UP);
            let (mut peer, mut owner) = (pair.server.peers.remove(0), pair.server.owner);
            if matches!(why, Why::Untrusted) {
                owner.refusal = Some(Refusal::Unknown);
            }
            let mut take = |owner: &mut crate::owner::Owner, flight: &[Vec<u8>]| {
                let mut events = Vec::new();
                for datagram in flight {
                    events.extend(receive(&mut peer, at(1), datagram));
                    events.extend(owner.answer(&mut peer, at(1)));
                }
                (events, transmit(&mut peer, at(1), 1200), peer.is_closed())
            };
            let (events, sent, is_closed) = take(&mut owner, &refused);
            assert_eq!((events, sent.len(), is_closed), (vec![Event::Closed(reason)], 1, true), "{why:?}");
            owner.refusal = None;
            let asked = owner.asked.clone();
            for _ in 0..2 {
                assert_eq!(take(&mut owner, &genuine), (vec![], vec![], true), "{why:?}");
            }
            assert_eq!(owner.asked, asked, "nothing is asked");
            // It is the flight that a server takes which refused nothing.
            let mut pair = Pair::of(*kind);
            before_certificate(&mut pair, UP);
            let taken: Vec<_> =
                genuine.iter().flat_map(|datagram| pair.server.handle(at(1), datagram).0).collect();
            assert_eq!(taken, [Event::Established]);
        }
    }
}
