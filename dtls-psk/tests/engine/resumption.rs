//! Sessions that are taken up again, in both roles.

use crate::support::*;
use dtls_psk::{Config, Handshake, Instant, Psk, Reason, Session};

const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };

/// A client that offers `session`, if any, and keeps what comes of a full handshake.
pub(crate) fn client_with_session(now: Instant, session: Option<&Session>, seed: u64) -> Client {
    let mut random = Random(seed);
    let mut rng = |bytes: &mut [u8]| random.fill(bytes);
    Client::resuming_client(now, &Config::DEFAULT, PSK, session, &mut rng, Handshake::new()).unwrap()
}

/// A server that keeps sessions.
pub(crate) fn keeping_server() -> Server {
    let mut server = Server::new(2);
    server.sessions = Some(Vec::new());
    server
}

/// A server and the session that a full handshake left.
pub(crate) fn with_session() -> (Server, Session) {
    let (mut client, mut server) = (client_with_session(at(0), None, 1), keeping_server());
    let talk = talk(&mut client, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    let session = client.take_session().unwrap();
    assert_eq!(server.sessions.as_deref(), Some([session.clone()].as_slice()), "both have the same");
    (server, session)
}

fn lengths(datagrams: &[Vec<u8>]) -> Vec<usize> {
    datagrams.iter().map(Vec::len).collect()
}

#[test]
fn a_session_is_taken_up_and_carries_data_both_ways() {
    let (mut server, session) = with_session();
    let mut client = client_with_session(at(0), Some(&session), 3);
    let talk = talk(&mut client, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
    let up = seal(&mut client, b"up");
    assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
    let down = seal(server.peer(), b"down");
    assert!(client.poll_timeout().is_some(), "the last flight is kept");
    assert_eq!(receive(&mut client, at(1), &down), [Event::Application(b"down".to_vec())]);
    assert_eq!((client.poll_timeout(), server.poll_timeout()), (None, None));
    assert_eq!((client.take_session(), server.peer().take_session()), (None, None));
}

#[test]
fn an_abbreviated_handshake_is_442_bytes_and_a_round_trip_shorter() {
    // As in the other byte tests, with session ids of 8 bytes, which the full handshake before it has in its ServerHello.
    let (mut client, mut server) = (client_with_session(at(0), None, 1), keeping_server());
    let full = talk(&mut client, &mut server);
    assert_eq!(full.from_client.iter().chain(&full.from_server).map(Vec::len).sum::<usize>(), 472 + 8);
    let session = client.take_session().unwrap();
    let talk = talk(&mut client_with_session(at(0), Some(&session), 3), &mut server);
    assert_eq!(lengths(&talk.from_client), [75 + 8, 91 + 8, 14 + 53]);
    assert_eq!(lengths(&talk.from_server), [44, 74 + 8 + 14 + 53]);
    let total = talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum::<usize>();
    assert_eq!(total, 442);
}

/// Takes a session up while datagrams are changed.
fn with_changes(tamper: impl FnMut(bool, &mut Vec<u8>) -> bool) -> (Talk, Client, Server) {
    let (mut server, session) = with_session();
    server.peers.clear();
    let mut client = client_with_session(at(0), Some(&session), 3);
    let talk = talk_with(&mut client, &mut server, at(0), tamper);
    (talk, client, server)
}

/// What the side says when its deadline passed.
fn given_up(event: Option<Event>) -> Reason {
    let Some(Event::Closed(reason)) = event else { panic!("{event:?}") };
    reason
}

fn client_gives_up(client: &mut Client) -> Reason {
    given_up((0..200).find_map(|second| client.handle_timeout(at(second * 1000))).map(Event::of))
}

fn server_gives_up(server: &mut Server) -> Reason {
    given_up((0..200).find_map(|second| server.handle_timeout(at(second * 1000)).0.pop()))
}

// --- what is checked, one after the other ---

#[test]
fn a_session_unknown_to_the_server_leads_to_a_full_handshake_and_a_new_session() {
    let (mut server, session) = with_session();
    for forgotten in [Vec::new(), vec![session.clone()]] {
        server.sessions = Some(forgotten);
        let mut altered = [0; Session::LONGEST];
        let length = session.emit(&mut altered).unwrap();
        altered[length - 1] ^= 1;
        let altered = Session::parse(&altered[..length]).unwrap();
        let mut client = client_with_session(at(0), Some(&altered), 3);
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        let made = client.take_session().unwrap();
        assert_ne!(made.id(), altered.id());
        let mut client = client_with_session(at(0), Some(&made), 4);
        assert_eq!(crate::support::talk(&mut client, &mut server).client, [Event::Resumed]);
    }
}

#[test]
fn a_server_without_sessions_makes_none_and_takes_none_up() {
    let (mut server, session) = with_session();
    server.sessions = None;
    let mut client = client_with_session(at(0), Some(&session), 3);
    assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
    assert_eq!(client.take_session(), None);
    assert_eq!(client.poll_timeout(), None, "and the memory is free");
}

#[test]
fn a_client_that_wants_no_session_keeps_none() {
    let (mut client, mut server) = (new_client(), keeping_server());
    assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
    assert_eq!((client.take_session(), client.poll_timeout()), (None, None));
}

#[test]
fn another_secret_under_the_same_id_is_never_established() {
    let (mut server, session) = with_session();
    server.peers.clear();
    for place in 3..3 + 48 {
        let mut altered = [0; Session::LONGEST];
        let length = session.emit(&mut altered).unwrap();
        altered[place] ^= 0x80;
        let mut client = client_with_session(at(0), Session::parse(&altered[..length]).as_ref(), 3);
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![], vec![]));
        // Neither can decrypt the other's Finished.
        assert_eq!(client.counters().unauthenticated, 1);
        assert_eq!(client_gives_up(&mut client), Reason::Stalled);
        assert_eq!(server_gives_up(&mut server), Reason::Stalled);
    }
}

#[test]
fn another_random_in_either_hello_fails_at_finished() {
    for is_from_client in [true, false] {
        let (talk, mut client, mut server) = with_changes(|from_client, datagram| {
            let is_hello = datagram[13] == if is_from_client { 1 } else { 2 };
            if from_client == is_from_client && is_hello {
                datagram[13 + 12 + 2] ^= 1;
            }
            true
        });
        assert_eq!((talk.client, talk.server), (vec![], vec![]));
        assert_eq!(client_gives_up(&mut client), Reason::Stalled);
        assert_eq!(server_gives_up(&mut server), Reason::Stalled);
    }
}

#[test]
fn a_server_that_takes_a_session_up_without_the_extended_master_secret_is_refused() {
    // RFC 7627 §5.3. The extension is the last one, of 4 bytes.
    let (talk, client, _) = with_changes(|from_client, datagram| {
        if !from_client && datagram[13] == 2 {
            let mut records = records_of(datagram);
            let hello = &mut records[0];
            hello.truncate(hello.len() - 4);
            for place in [12, 16, 24] {
                hello[place] -= 4;
            }
            let extensions = hello.len() - 6;
            hello[extensions] -= 4;
            *datagram = records.concat();
        }
        true
    });
    assert_eq!(talk.client, [Event::Closed(Reason::ResumedDifferently)]);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_takes_a_session_up_without_the_extended_master_secret_is_refused() {
    // RFC 7627 §5.3
    let (mut server, session) = with_session();
    server.peers.clear();
    let mut hello = Hello { session_id: session.id().to_vec(), extensions: None, ..Hello::new() };
    assert!(hello.send(&mut server, at(0)).is_empty());
    assert_eq!(server.poll_timeout(), Some(at(0)));
    let (events, sent) = server.handle_timeout(at(0));
    assert_eq!(events, [Event::Closed(Reason::ResumedDifferently)]);
    assert_eq!(sent[0][13..], [2, dtls_psk::Alert::ILLEGAL_PARAMETER.0]);
    assert!(server.peers.is_empty());
}

#[test]
fn no_session_comes_of_a_handshake_without_the_extended_master_secret() {
    // RFC 7627 §5.4
    let mut server = keeping_server();
    let answer = Hello { extensions: None, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(answer[0][25 + 34], 0, "the session id is empty");
}

#[test]
fn a_session_is_not_taken_up_where_its_suite_is_not_offered_any_more() {
    let (mut server, session) = with_session();
    let hello = Hello { session_id: session.id().to_vec(), ..Hello::new() };
    let answer = hello.clone().send(&mut server, at(0));
    assert_eq!(answer[0][25 + 35..][..8], *session.id());
    let answer = Hello { suites: vec![0, 0xa8, 0, 0xff], ..hello }.send(&mut server, at(0));
    assert_ne!(answer[0].get(25 + 35..25 + 43), Some(session.id()));
}

#[test]
fn the_servers_data_waits_for_the_clients_finished_and_the_clients_for_the_servers() {
    let (mut server, session) = with_session();
    server.peers.clear();
    let mut client = client_with_session(at(0), Some(&session), 3);
    let mut held = Vec::new();
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        let is_last = from_client && datagram[0] == 20;
        if is_last {
            held.push(datagram.clone());
        }
        !is_last
    });
    assert!(client.is_established());
    let early = seal(&mut client, b"early");
    assert_eq!(server.handle(at(1), &early).0, [], "nothing is taken before the client has proven itself");
    assert!(!server.peer_any().is_established());
    assert_eq!(server.handle(at(1), &held[0]).0, [Event::Resumed]);
    assert_eq!(server.handle(at(1), &early).0, [], "and its number is used up");
}

// --- what attackers try ---

#[test]
fn resumption_never_skips_the_cookie_19() {
    let (mut server, session) = with_session();
    server.peers.clear();
    let hello = Hello { session_id: session.id().to_vec(), ..Hello::new() }.datagram(0);
    let (events, replies) = server.handle(at(0), &hello);
    assert_eq!((events.len(), replies.len(), replies[0][13]), (0, 1, 3));
    assert!(replies[0].len() < hello.len(), "no amplification");
    assert!(server.peers.is_empty());
    // A cookie for another session id is none for this.
    let mut other = Hello::new();
    other.send(&mut server, at(0));
    server.peers.clear();
    other.session_id = session.id().to_vec();
    assert_eq!(server.handle(at(0), &other.datagram(1)).1[0][13], 3);
    assert!(server.peers.is_empty());
}

#[test]
fn a_session_taken_up_again_never_meets_its_former_keys_5() {
    let (mut server, session) = with_session();
    let mut records: Vec<Vec<u8>> = Vec::new();
    for seed in 3..20 {
        let mut client = client_with_session(at(0), Some(&session), seed);
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
        for old in &records {
            assert_eq!(server.handle(at(1), old).0, [], "a record of a former connection");
        }
        let record = seal(&mut client, b"the same every time");
        assert!(records.iter().all(|old| old[21..] != record[21..]), "another key stream");
        records.push(record);
    }
}

#[test]
fn a_replayed_handshake_never_displaces_the_live_association_5() {
    let (mut server, session) = with_session();
    let mut client = client_with_session(at(0), Some(&session), 3);
    let recorded = talk(&mut client, &mut server).from_client;
    // Later on the same address, as long as the cookie is good.
    let mut client = client_with_session(at(0), Some(&session), 4);
    assert_eq!(talk(&mut client, &mut server).client, [Event::Resumed]);
    for datagram in &recorded {
        assert_eq!(server.handle(at(1), datagram).0, []);
    }
    let record = seal(&mut client, b"still here");
    assert_eq!(server.handle(at(2), &record).0, [Event::Application(b"still here".to_vec())]);
}

#[test]
fn an_abandoned_offer_leaves_the_session_as_good_as_it_was() {
    let (mut server, session) = with_session();
    let mut hello = Hello { session_id: session.id().to_vec(), ..Hello::new() };
    assert_eq!(hello.send(&mut server, at(0)).len(), 1);
    // Whoever only knows the id cannot finish.
    assert_eq!(server_gives_up(&mut server), Reason::Stalled);
    let mut client = client_with_session(at(0), Some(&session), 3);
    assert_eq!(talk_with(&mut client, &mut server, at(200_000), |_, _| true).client, [Event::Resumed]);
}

#[test]
fn a_lost_last_flight_of_the_client_is_repeated_for_a_repeated_finished() {
    let (mut server, session) = with_session();
    server.peers.clear();
    let mut client = client_with_session(at(0), Some(&session), 3);
    talk_with(&mut client, &mut server, at(0), |from_client, datagram| !from_client || datagram[0] != 20);
    assert!(client.is_established() && !server.peer_any().is_established());
    let (_, repeated) = server.handle_timeout(at(1000));
    assert_eq!(receive(&mut client, at(1001), &repeated[0]), []);
    let flight = transmit(&mut client, at(1001), 1200);
    assert_eq!(server.handle(at(1002), &flight[0]).0, [Event::Resumed]);
    assert_eq!(server.poll_timeout(), None, "the server keeps nothing");
}

#[test]
fn a_repeated_client_hello_gets_the_abbreviated_flight_again() {
    let (mut server, session) = with_session();
    server.peers.clear();
    let mut hello = Hello { session_id: session.id().to_vec(), ..Hello::new() };
    let first = hello.send(&mut server, at(0));
    assert!(server.handle(at(10), &hello.datagram(1)).1.is_empty(), "not at once");
    let again = server.handle(at(500), &hello.datagram(1)).1;
    assert_eq!(records_of(&first[0])[0][13..], records_of(&again[0])[0][13..]);
    assert_eq!(records_of(&again[0])[2][3..11], [0, 1, 0, 0, 0, 0, 0, 1], "under a new record number");
}

#[test]
fn the_clients_last_flight_is_kept_for_twice_the_segment_lifetime() {
    let (_, mut client, _) = with_changes(|_, _| true);
    assert!(client.is_established());
    assert_eq!(client.poll_timeout(), Some(at(240_000)));
    assert_eq!(client.handle_timeout(at(240_000)), None);
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn emitted_sessions_come_back_and_nothing_else_does() {
    let (_, session) = with_session();
    let mut out = [0; Session::LONGEST];
    let length = session.emit(&mut out).unwrap();
    assert_eq!(Session::parse(&out[..length]), Some(session.clone()));
    for cut in 0..length {
        assert_eq!(Session::parse(&out[..cut]), None);
        assert_eq!(session.emit(&mut vec![0; cut]), None);
    }
    assert_eq!(Session::parse(&out), None, "trailing bytes");
    for (place, value) in [(0, 1), (1, 0x12), (51, 5), (52, 33)] {
        let mut other = out;
        other[place] = value;
        assert_eq!(Session::parse(&other[..length]), None);
    }
    let shown = format!("{session:?}");
    let secret = format!("{:?}", &out[3..51]);
    assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
}

#[cfg(feature = "connection-id")]
#[test]
fn connection_ids_are_agreed_anew() {
    // RFC 9146 §3
    let (mut server, session) = with_session();
    let config = |id: &[u8]| Config::DEFAULT.with_connection_id(dtls_psk::ConnectionId::new(id).unwrap());
    server.config = config(&[9; 6]);
    let mut random = Random(5);
    let mut rng = |bytes: &mut [u8]| random.fill(bytes);
    let config = config(&[4; 3]);
    let memory = Handshake::new();
    let mut client = Client::resuming_client(at(0), &config, PSK, Some(&session), &mut rng, memory).unwrap();
    let talk = talk(&mut client, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
    let up = seal(&mut client, b"up");
    assert_eq!((up[0], &up[11..17]), (25, &[9; 6][..]));
    assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
    let down = seal(server.peer(), b"down");
    assert_eq!((down[0], &down[11..14]), (25, &[4; 3][..]));
    assert_eq!(receive(&mut client, at(1), &down), [Event::Application(b"down".to_vec())]);
}
