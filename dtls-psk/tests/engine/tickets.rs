//! Session tickets of a server (RFC 5077). That a client understands where they stand is shown with OpenSSL.

use crate::resumption::{client_with_session, keeping_server, with_session};
use crate::support::*;
use dtls_psk::{Answer, ProvideError, Session, Suite, Suites, TICKET_CONTEXT_MAX, TICKET_MAX, TicketKey};

const SESSION_TICKET: [u8; 4] = [0, 35, 0, 0];

fn key(root: u8, period: u64) -> TicketKey {
    TicketKey::derive(&[root; 32], period)
}

fn session() -> Session {
    with_session().1
}

fn secret_of(session: &Session) -> Vec<u8> {
    let mut bytes = [0; Session::LONGEST];
    session.emit(&mut bytes).unwrap();
    bytes[3..51].to_vec()
}

#[test]
fn a_ticket_opens_under_its_key_with_what_was_put_into_it() {
    let session = session();
    for context in [&b""[..], b"a", &[7; TICKET_CONTEXT_MAX]] {
        let ticket = key(1, 5).seal(&session, context, 100).unwrap();
        assert!(ticket.bytes().len() <= TICKET_MAX);
        let (opened, found) = key(1, 5).open(ticket.bytes()).unwrap();
        assert_eq!((secret_of(&opened), opened.suite()), (secret_of(&session), session.suite()));
        assert!(opened.id().is_empty() && found == context);
        for other in [key(1, 4), key(1, 6), key(2, 5)] {
            assert!(other.open(ticket.bytes()).is_none());
        }
    }
    assert_eq!(key(1, 5).seal(&session, &[7; TICKET_CONTEXT_MAX + 1], 100), None);
}

#[test]
fn a_ticket_shows_nothing_and_every_change_makes_it_worthless() {
    let session = session();
    let ticket = key(1, 5).seal(&session, b"urn:dev:1", 100).unwrap();
    let bytes = ticket.bytes();
    for secret in [&*secret_of(&session), b"urn:dev:1"] {
        assert!(bytes.windows(8).all(|window| window != &secret[..8]));
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(key(1, 5).open(&changed).is_none(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(key(1, 5).open(&bytes[..length]).is_none());
    }
    assert!(key(1, 5).open(&[bytes, &[0]].concat()).is_none());
    assert!(key(1, 5).open(&[0; 2000]).is_none());
    let shown = format!("{:?} {ticket:?}", key(1, 5));
    assert!(!shown.contains("key") && !shown.contains("bytes"), "{shown}");
}

#[test]
fn two_tickets_have_the_same_nonce_only_if_they_are_the_same() {
    let (session, nonce) = (session(), 8..20);
    let seal = |context: &[u8]| key(1, 5).seal(&session, context, 100).unwrap();
    assert_eq!(seal(b"a"), seal(b"a"));
    assert_ne!(seal(b"a").bytes()[nonce.clone()], seal(b"b").bytes()[nonce.clone()]);
    // Where there is none: the client learns it by an empty one.
    assert_ne!(seal(b"").bytes()[nonce.clone()], [0; 12]);
}

/// The ServerHello to a client with these extensions: its session id, and whether a ticket is promised.
fn promised(extensions: &[u8], tickets: bool) -> (Vec<u8>, bool) {
    let mut server = keeping_server();
    server.tickets = tickets.then(|| key(1, 5));
    let extensions = Some(extensions.to_vec());
    let flight = Hello { extensions, ..Hello::new() }.send(&mut server, at(0));
    let body = &flight[0][25..25 + usize::from(flight[0][24])];
    let id = body[35..][..usize::from(body[34])].to_vec();
    let is_promised = body.windows(4).any(|window| window == SESSION_TICKET);
    (id, is_promised)
}

#[test]
fn a_ticket_is_promised_to_who_asks_for_one_with_the_extended_master_secret() {
    let master_secret = [0, 0x17, 0, 0];
    assert_eq!(promised(&[master_secret, SESSION_TICKET].concat(), true), (vec![], true));
    assert_eq!(promised(&SESSION_TICKET, true), (vec![], false));
    assert_eq!(promised(&master_secret, true), (vec![], false));
    let (id, is_promised) = promised(&[master_secret, SESSION_TICKET].concat(), false);
    assert!(id.len() == 8 && !is_promised, "a server without tickets gives an id");
}

#[test]
fn a_ticket_still_needs_the_cookie_19() {
    let mut server = keeping_server();
    server.tickets = Some(key(1, 5));
    let ticket = key(1, 5).seal(&session(), b"", 100).unwrap();
    let length = (ticket.bytes().len() as u16).to_be_bytes();
    let extensions = [&[0, 0x17, 0, 0, 0, 35][..], &length, ticket.bytes()].concat();
    let mut hello = Hello { extensions: Some(extensions), ..Hello::new() };
    let (_, replies) = server.handle(at(0), &hello.datagram(0));
    assert!(replies[0][13] == 3 && replies[0].len() < hello.datagram(0).len() && server.peers.is_empty());
    // With it the abbreviated flight comes, in three records.
    let flight = hello.send(&mut server, at(0));
    assert_eq!(records_of(&flight[0]).len(), 3);
    assert!(!server.peer_any().is_established());
}

#[test]
fn a_session_out_of_a_ticket_is_taken_up_whatever_its_id() {
    let (mut server, session) = with_session();
    server.peers.clear();
    server.sessions = None;
    let ticket = key(1, 5).seal(&session, b"", 100).unwrap();
    server.opened = key(1, 5).open(ticket.bytes()).map(|opened| opened.0);
    // The id is the client's, which it knows the session by.
    let mut client = client_with_session(at(0), Some(&session), 3);
    let talk = talk(&mut client, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
    let up = seal(&mut client, b"up");
    assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
}

#[test]
fn a_ticket_with_a_suite_that_is_not_offered_any_more_leads_to_a_full_handshake() {
    let Some(other) = Suites::PSK.as_slice().iter().find(|suite| **suite != Suite::default()) else { return };
    let (mut server, session) = with_session();
    let mut bytes = [0; Session::LONGEST];
    let length = session.emit(&mut bytes).unwrap();
    bytes[1..3].copy_from_slice(&other.code().to_be_bytes());
    server.opened = Session::parse(&bytes[..length]);
    server.peers.clear();
    let mut client = client_with_session(at(0), Some(&session), 3);
    assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
}

#[test]
fn only_a_look_up_that_waits_is_answered_with_a_ticket_and_a_key_has_its_length() {
    let mut server = keeping_server();
    server.answers_at_once = false;
    let mut client = client_with_session(at(0), None, 1);
    talk(&mut client, &mut server);
    let (id, _) = server.asked[0].clone();
    for bad in [&[][..], &[1; 65]] {
        let provided = server.peer_any().provide_with_ticket(at(0), id, Answer::Psk { key: bad }, |_| None);
        assert_eq!(provided, Err(ProvideError::KeyLength));
    }
    // Nothing was promised: nothing is sealed.
    let provided =
        server.peer_any().provide_with_ticket(at(0), id, Answer::Psk { key: KEY }, |_| panic!("no ticket"));
    assert_eq!(provided.unwrap().map(Event::of), Some(Event::Established));
    let again = server.peer_any().provide_with_ticket(at(0), id, Answer::Psk { key: KEY }, |_| None);
    assert_eq!(again, Err(ProvideError::NotPending));
}

#[test]
fn a_server_that_promises_a_ticket_nobody_asked_for_is_refused() {
    let mut client = client_with_session(at(0), None, 1);
    let body = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0, 0, 4], &SESSION_TICKET].concat();
    let events = receive(&mut client, at(0), &message(2, 0, &body));
    assert_eq!(events, [Event::Closed(dtls_psk::Reason::UnofferedExtension)]);
}
