//! The bytes a handshake and a record cost, pinned: one byte more fails.
//!
//! One suite, SCSV in the ClientHello and renegotiation_info in the ServerHello, extended master secret, empty session id,
//! 16-byte cookie, 15-byte identity, no ServerKeyExchange, ServerHello and ServerHelloDone in one record.

use crate::support::*;
#[cfg(feature = "connection-id")]
use dtls_psk::Config;

#[test]
fn a_handshake_with_cookie_is_472_bytes() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk(&mut client, &mut server);
    let lengths = |datagrams: &[Vec<u8>]| datagrams.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(IDENTITY.len(), 15);
    assert_eq!(lengths(&talk.from_client), [75, 91, 42 + 14 + 53]);
    assert_eq!(lengths(&talk.from_server), [44, 86, 14 + 53]);
    let total: usize = talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum();
    assert_eq!(total, 472);
}

#[test]
fn separate_records_cost_13_bytes_more() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.config = server.config.with_shared_records(false);
    let talk = talk(&mut client, &mut server);
    let lengths: Vec<_> = records_of(&talk.from_server[1]).iter().map(Vec::len).collect();
    assert_eq!(lengths, [13 + 12 + 49, 13 + 12]);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
}

#[test]
fn a_client_from_before_the_extended_master_secret_gets_separate_records() {
    let answer = Hello { extensions: None, ..Hello::new() }.send(&mut Server::new(2), at(0));
    let lengths: Vec<_> = records_of(&answer[0]).iter().map(Vec::len).collect();
    assert_eq!(lengths, [13 + 12 + 45, 13 + 12]);
}

#[test]
fn a_record_costs_29_bytes() {
    let (mut client, _) = established();
    assert_eq!(seal(&mut client, &[0; 64]).len(), 64 + 29);
}

#[cfg(feature = "connection-id")]
#[test]
fn a_connection_id_of_6_bytes_towards_the_server_costs_28_in_the_handshake_and_7_in_each_record() {
    for (return_routability, total) in [(false, 500), (true, 512)] {
        let config = Config::DEFAULT.with_return_routability(return_routability);
        let (mut client, mut server) = with_connection_ids(&config, &[], &[1; 6]);
        let talk = talk(&mut client, &mut server);
        let sent = talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum::<usize>();
        assert_eq!(sent, total);
        assert_eq!(seal(&mut client, &[0; 64]).len(), 64 + 30 + 6);
        assert_eq!(seal(server.peer(), &[0; 64]).len(), 64 + 29);
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn an_offer_that_is_not_answered_costs_5_bytes_a_client_hello() {
    let config = Config::DEFAULT.with_return_routability(false);
    let (mut client, mut server) = with_connection_ids(&config, &[], &[1; 6]);
    server.config = Config::DEFAULT;
    let talk = talk(&mut client, &mut server);
    assert_eq!(talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum::<usize>(), 482);
    assert_eq!(seal(&mut client, &[0; 64]).len(), 64 + 29);
}

#[test]
fn an_idle_server_connection_has_at_most_256_bytes() {
    assert!(size_of::<Peer>() <= 256, "{}", size_of::<Peer>());
}

#[test]
fn the_hello_verify_request_is_the_largest_stateless_reply() {
    let mut client = new_client();
    let hello = transmit(&mut client, at(0), 1200).remove(0);
    let (_, replies) = Server::new(2).handle(at(0), &hello);
    assert_eq!(replies[0].len(), dtls_psk::REPLY_MAX);
    assert!(replies[0].len() < hello.len(), "no amplification");
    // RFC 6347 §4.2.1: record number and message_seq are those of the ClientHello.
    assert_eq!(replies[0][3..11], hello[3..11]);
    assert_eq!(replies[0].get(17..19).unwrap(), &hello[17..19]);
}
