//! Connection IDs (RFC 9146) and the return routability check (RFC 9853).

use crate::support::*;
use dtls_psk::{Config, ConnectionId, Dropped, Reason};

fn established_with(client_id: &[u8], server_id: &[u8]) -> (Client, Server) {
    let (mut client, mut server) = with_connection_ids(&Config::DEFAULT, client_id, server_id);
    let talk = talk(&mut client, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    (client, server)
}

#[test]
fn each_direction_uses_the_id_its_receiver_wants() {
    for (client_id, server_id) in
        [(&[][..], &[1, 2, 3, 4, 5, 6][..]), (&[7, 7], &[]), (&[], &[]), (&[8; 8], &[9; 8])]
    {
        let (mut client, mut server) = established_with(client_id, server_id);
        let up = seal(&mut client, b"up");
        assert_eq!(ConnectionId::of_datagram(&up, server_id.len()).unwrap_or_default(), server_id);
        assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
        let down = seal(server.peer(), b"down");
        assert_eq!(ConnectionId::of_datagram(&down, client_id.len()).unwrap_or_default(), client_id);
        assert_eq!(receive(&mut client, at(1), &down), [Event::Application(b"down".to_vec())]);
        // What type of content it is can be seen from the outside only without a Connection ID.
        assert_eq!(up[0] == 25, !server_id.is_empty());
        assert_eq!(server.peer().own_connection_id(), server_id);
        assert_eq!(client.own_connection_id(), client_id);
    }
}

#[test]
fn an_id_longer_than_16_bytes_is_not_taken_over() {
    assert_eq!(ConnectionId::new(&[0; 9]), None, "nor one of our own");
    let mut server = Server::new(2);
    server.config = Config::DEFAULT.with_connection_id(ConnectionId::new(&[1]).unwrap());
    let mut extension = vec![0, 0x36, 0, 18, 17];
    extension.extend([5; 17]);
    let answer = Hello { extensions: Some(extension), ..Hello::new() }.send(&mut server, at(0));
    // A ServerHello with renegotiation_info and no more.
    let record = records_of(&answer[0]).remove(0);
    assert_eq!(record.len(), 13 + 12 + 45);
}

#[test]
fn a_bent_extension_is_refused() {
    for extension in [vec![0, 0x36, 0, 0], vec![0, 0x36, 0, 2, 2, 1], vec![0, 0x36, 0, 3, 1, 1, 1]] {
        let mut server = Server::new(2);
        Hello { extensions: Some(extension), ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(server.refused, [Reason::ProtocolViolation]);
    }
}

#[test]
fn records_without_the_agreed_id_or_with_another_one_are_dropped_12() {
    let (mut client, mut server) = established_with(&[], &[1, 2, 3, 4, 5, 6]);
    let good = seal(&mut client, b"x");
    let mut other = good.clone();
    other[11] ^= 1;
    let without = record(23, 1, 1, &good[19..]);
    for bad in [other, without].into_iter().chain(ids_of_other_lengths(&good, 6)) {
        assert_eq!(server.handle(at(1), &bad).0, []);
    }
    assert_eq!(server.dropped, [Dropped::Unsupported; 3], "it knows nobody by such an id");
    for length in 0..good.len() {
        assert_eq!(server.handle(at(1), &good[..length]).0, []);
    }
    assert_eq!(server.handle(at(1), &good).0, [Event::Application(b"x".to_vec())]);
}

/// The same record with an id that is one byte shorter, and one longer.
fn ids_of_other_lengths(good: &[u8], length: usize) -> [Vec<u8>; 2] {
    let (head, rest) = good.split_at(11);
    let (id, rest) = rest.split_at(length);
    [&id[..length - 1], &[id, &[9]].concat()].map(|id| [head, id, rest].concat())
}

#[test]
fn records_to_a_client_without_the_agreed_id_or_with_another_one_are_dropped_12() {
    let (mut client, mut server) = established_with(&[1, 2, 3], &[]);
    let good = seal(server.peer(), b"x");
    let mut other = good.clone();
    other[11] ^= 1;
    let without = record(23, 1, 1, &good[16..]);
    for bad in [other, without].into_iter().chain(ids_of_other_lengths(&good, 3)) {
        assert_eq!(receive(&mut client, at(1), &bad), []);
    }
    for length in 0..good.len() {
        assert_eq!(receive(&mut client, at(1), &good[..length]), []);
    }
    assert_eq!(receive(&mut client, at(1), &good), [Event::Application(b"x".to_vec())]);
}

#[test]
fn records_with_an_id_before_one_was_agreed_are_dropped_12() {
    let (mut client, mut server) = established();
    let mut bytes = seal(&mut client, b"x");
    bytes[0] = 25;
    assert_eq!(server.handle(at(1), &bytes).0, []);
    assert_eq!(receive(&mut client, at(1), &bytes), []);
    assert_eq!(client.counters().unsupported, 1);
}

#[test]
fn a_server_that_was_offered_none_and_answers_one_is_refused() {
    let (mut client, mut server) = with_connection_ids(&Config::DEFAULT, &[], &[1; 6]);
    let mut without = client_with(&Config::DEFAULT, dtls_psk::Psk { identity: IDENTITY, key: KEY }, 1);
    let mut answer = Vec::new();
    // The same random in both: the one client's ServerHello fits the other but for the extension.
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        if !from_client && datagram[13] == 2 {
            answer.clone_from(datagram);
        }
        true
    });
    let _ = transmit(&mut without, at(0), 1200);
    // The message_seq of a server that asked for no cookie.
    answer[18] = 0;
    assert_eq!(receive(&mut without, at(0), &answer), [Event::Closed(Reason::UnofferedExtension)]);
}

#[test]
fn only_a_record_newer_than_all_before_may_move_the_peer() {
    let (mut client, mut server) = established_with(&[], &[1; 6]);
    let [first, second, third] = [b"1", b"2", b"3"].map(|text| seal(&mut client, text));
    for (record, is_newest) in [(&second, true), (&first, false), (&third, true)] {
        assert_eq!(server.handle(at(1), record).0.len(), 1);
        assert_eq!(server.peer().is_newest(), is_newest);
    }
    // A replay is not delivered at all.
    assert_eq!(server.handle(at(1), &third).0, []);
}

#[test]
fn a_challenge_is_answered_with_its_cookie_once() {
    let (mut client, mut server) = established_with(&[], &[1; 6]);
    let mut out = [0; 128];
    let length = server.peer().challenge_path([7; 8], &mut out).unwrap();
    assert_eq!(receive(&mut client, at(1), &out[..length]), []);
    let answers = transmit(&mut client, at(1), 1200);
    assert_eq!(answers.len(), 1);
    assert_eq!(server.handle(at(1), &answers[0]).0, [Event::PathResponse([7; 8])]);
    assert_eq!(transmit(&mut client, at(1), 1200), Vec::<Vec<u8>>::new());
}

#[test]
fn without_the_check_there_is_no_challenge() {
    let config = Config::DEFAULT.with_return_routability(false);
    let (mut client, mut server) = with_connection_ids(&config, &[], &[1; 6]);
    talk(&mut client, &mut server);
    assert!(!server.peer().is_path_checkable());
    assert_eq!(server.peer().challenge_path([7; 8], &mut [0; 128]), None);
    let (_, mut plain) = established();
    assert_eq!(plain.peer().challenge_path([7; 8], &mut [0; 128]), None);
}
