//! Flights and the datagrams that the path carries (RFC 6347 §4.1.1.1, §4.2.3).

use crate::support::*;
use dtls_psk::{Config, ConnectionId, DATAGRAM_MIN, Psk, Suite, Suites};

/// What a handshake took over a link that drops what is longer than `link` bytes.
#[derive(Debug)]
struct Outcome {
    is_established: bool,
    seconds: u64,
    longest: usize,
}

/// Both sides are told of an MTU of `mtu` bytes. The client has the longest identity.
fn handshake(suite: Suite, mtu: u16, link: usize) -> Outcome {
    let config = Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap()).with_mtu(mtu);
    let identity = [b'i'; 128];
    let mut client = client_with(&config, Psk { identity: &identity, key: KEY }, 1);
    let mut server = Server::new(2);
    server.config = config;
    server.keys = vec![(identity.to_vec(), KEY.to_vec())];
    let (mut now, mut longest) = (at(0), 0);
    loop {
        let mut seen = |_, datagram: &mut Vec<u8>| {
            longest = longest.max(datagram.len());
            datagram.len() <= link
        };
        let talk = talk_with(&mut client, &mut server, now, &mut seen);
        // What the server says by itself is on its way too.
        let next = client.poll_timeout().into_iter().chain(server.poll_timeout()).min();
        let is_established = client.is_established() && server.peers.iter().any(|peer| peer.is_established());
        if is_established || talk.client.iter().any(|event| matches!(event, Event::Closed(_))) {
            return Outcome { is_established, seconds: now.as_millis() / 1000, longest };
        }
        now = next.unwrap();
        if let Some(event) = client.handle_timeout(now) {
            assert!(!matches!(Event::of(event), Event::Established));
            return Outcome { is_established, seconds: now.as_millis() / 1000, longest };
        }
        for mut datagram in server.handle_timeout(now).1 {
            if seen(false, &mut datagram) {
                receive(&mut client, now, &datagram);
            }
        }
    }
}

#[test]
fn no_datagram_of_a_handshake_is_longer_than_it_may_be() {
    for suite in Suites::PSK.as_slice() {
        for mtu in [128, 150, 200, 1232] {
            let outcome = handshake(*suite, mtu, usize::MAX);
            assert!(outcome.is_established && outcome.seconds == 0, "{suite:?} {mtu} {outcome:?}");
            assert!(outcome.longest <= mtu.into(), "{suite:?} {mtu} {outcome:?}");
        }
    }
}

#[test]
fn every_handshake_fits_into_the_least_datagrams() {
    for suite in Suites::PSK.as_slice() {
        let config = Config::DEFAULT.with_suites(Suites::new(&[*suite]).unwrap());
        let id = [7; ConnectionId::MAX];
        let config = config.with_connection_id(ConnectionId::new(&id).unwrap());
        let mut client = client_with(&config, Psk { identity: IDENTITY, key: KEY }, 1);
        let mut server = Server::new(2);
        server.config = config.with_mtu(0);
        // A server without memory wants ClientHellos whole.
        for room in [1200, 1200, DATAGRAM_MIN] {
            for datagram in transmit(&mut client, at(0), room) {
                for answer in server.handle(at(0), &datagram).1 {
                    assert!(answer.len() <= DATAGRAM_MIN);
                    receive(&mut client, at(0), &answer);
                }
            }
        }
        assert!(client.is_established() && server.peer_any().is_established(), "{suite:?}");
    }
}

#[test]
fn the_records_of_a_flight_share_datagrams_as_far_as_they_fit() {
    let lengths = |mtu| {
        let identity = [b'i'; 60];
        let mut client = client_with(&Config::DEFAULT, Psk { identity: &identity, key: KEY }, 1);
        let mut server = Server::new(2);
        for _ in 0..2 {
            let hello = transmit(&mut client, at(0), 1200);
            for datagram in server.handle(at(0), &hello[0]).1 {
                receive(&mut client, at(0), &datagram);
            }
        }
        transmit(&mut client, at(0), mtu).iter().map(Vec::len).collect::<Vec<_>>()
    };
    // ClientKeyExchange, ChangeCipherSpec and Finished.
    let [key_exchange, change, finished] = [13 + 12 + 2 + 60, 14, 53];
    assert_eq!(lengths(1232), [key_exchange + change + finished]);
    assert_eq!(lengths(key_exchange + change), [key_exchange + change, finished]);
    assert_eq!(lengths(key_exchange + change - 1), [key_exchange, change + finished]);
    // Cut where it fits into no datagram of its own: 64 bytes, and what is left of the message.
    let left = key_exchange - (64 - 13 - 12);
    assert_eq!(lengths(64), [64, left + change, finished]);
}

#[test]
fn flights_that_never_arrive_get_shorter_until_they_do() {
    for suite in Suites::PSK.as_slice() {
        for link in [128, 150, 200] {
            let outcome = handshake(*suite, 1232, link);
            assert!(outcome.is_established, "{suite:?} {link} {outcome:?}");
            // Two repetitions of a flight, or three where half of it is still too long.
            assert!(
                outcome.seconds <= if outcome.longest / 2 > link { 15 } else { 9 },
                "{suite:?} {link} {outcome:?}"
            );
        }
        let outcome = handshake(*suite, 1232, 100);
        assert!(!outcome.is_established, "{suite:?}: no way around a link of 100 bytes");
        assert!(handshake(*suite, 1232, 1232).seconds == 0);
    }
}

#[test]
fn a_client_hello_is_repeated_whole() {
    let mut client = new_client();
    let lengths: Vec<_> = (0..80)
        .flat_map(|second| {
            client.handle_timeout(at(second * 1000));
            transmit(&mut client, at(second * 1000), 1200)
        })
        .map(|datagram| datagram.len())
        .collect();
    assert_eq!(lengths, [75; 7]);
}

#[test]
fn a_flight_that_has_not_gone_out_yet_is_not_one_that_was_lost() {
    // More than the shortest datagrams that a flight falls back to.
    let mut client = client_with(&Config::DEFAULT, Psk { identity: &[b'i'; 128], key: KEY }, 1);
    let mut server = Server::new(2);
    let mut flight = Vec::new();
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        let is_flight = !is_up && datagram[13] == 2;
        if is_flight {
            flight = datagram.clone();
        }
        !is_flight
    });
    // The server repeats its flight while ours waits for the link.
    for second in 1..6 {
        assert_eq!(receive(&mut client, at(1000 * second), &flight), []);
    }
    let sent = transmit(&mut client, at(6000), 1200);
    assert_eq!(
        sent.iter().map(Vec::len).collect::<Vec<_>>(),
        [13 + 12 + 2 + 128 + 14 + 53],
        "in one datagram"
    );
}
