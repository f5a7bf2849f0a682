//! Sessions that signatures made, taken up again without any: by id and by ticket, with raw public keys and with certificates.

use crate::pair::*;
use crate::resumption::{client_with_session, with_session};
use crate::support::*;
use dtls_psk::{
    CertificateType, CertificateTypes, ClientCertificate, Config, Handshake, Instant, Psk, Reason, Session,
    Suite, Suites, TicketKey,
};

const SUITE: Suite = Suite::EcdheEcdsaAes128Ccm8;

fn client_as(config: &Config, kind: CertificateType, session: Option<&Session>, seed: u64) -> Client {
    let mut random = Random(seed);
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    let certificate = match of_client(kind) {
        #[cfg(feature = "x509")]
        ClientCertificate::X509 { .. } => ClientCertificate::X509 { server_name: Some("server.example") },
        certificate => certificate,
    };
    let memory = Handshake::new();
    Client::resuming_certificate_client(at(0), config, certificate, session, rng, memory).unwrap()
}

/// A client that offers `session`, if any, and keeps what comes of a full handshake.
fn client_of(kind: CertificateType, session: Option<&Session>, seed: u64) -> Client {
    client_as(&config_of(SUITE, kind), kind, session, seed)
}

/// Two sides that made a session; the owners were asked nothing since.
pub(crate) fn with_certified_session(kind: CertificateType) -> (Pair, Session) {
    let mut pair = Pair::of(kind);
    pair.client = client_of(kind, None, 1);
    pair.server.sessions = Some(Vec::new());
    let talk = pair.talk_with(|_, _| true);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    let session = pair.client.take_session().unwrap();
    assert_eq!(session.suite(), SUITE);
    assert_eq!(pair.server.sessions.as_deref(), Some([session.clone()].as_slice()), "both have the same");
    pair.owner.asked.clear();
    pair.server.owner.asked.clear();
    (pair, session)
}

fn carries_data(pair: &mut Pair, now: Instant) {
    let Pair { client, server, .. } = pair;
    let up = seal(client, b"up");
    assert_eq!(server.handle(now, &up).0, [Event::Application(b"up".to_vec())]);
    let down = seal(server.peer(), b"down");
    assert_eq!(receive(client, now, &down), [Event::Application(b"down".to_vec())]);
}

#[test]
fn a_session_of_signatures_is_taken_up_without_any() {
    for kind in TYPES {
        let (mut pair, session) = with_certified_session(*kind);
        for seed in 3..6 {
            pair.client = client_of(*kind, Some(&session), seed);
            let talk = pair.talk_with(|_, _| true);
            assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
            assert!(pair.owner.asked.is_empty() && pair.server.owner.asked.is_empty());
            assert!(pair.client.has_certificates() && pair.server.peer().has_certificates());
            assert_eq!((pair.client.identity(), pair.server.peer().identity()), (None, None));
            carries_data(&mut pair, at(1));
            assert_eq!((pair.client.take_session(), pair.server.peer().take_session()), (None, None));
        }
    }
}

#[test]
fn an_abbreviated_handshake_of_signatures_has_no_certificates_in_it() {
    for kind in TYPES {
        let (mut pair, session) = with_certified_session(*kind);
        pair.client = client_of(*kind, Some(&session), 3);
        let talk = pair.talk_with(|_, _| true);
        let records =
            |datagrams: &[Vec<u8>]| datagrams.iter().flat_map(|it| records_of(it)).collect::<Vec<_>>();
        let codes = |datagrams: &[Vec<u8>]| {
            let plain = records(datagrams).into_iter().filter(|record| record[0] == 22 && record[4] == 0);
            plain.map(|record| record[13]).collect::<Vec<_>>()
        };
        assert_eq!((codes(&talk.from_client), codes(&talk.from_server)), (vec![1, 1], vec![3, 2]));
        // RFC 7250 §4.2: nor are their kinds answered, which nobody presents; nor the name (RFC 6066 §3).
        let answers = server_hello_of(&talk.from_server);
        assert!(answers.iter().all(|(kind, _)| ![19, 20, SERVER_NAME].contains(kind)), "{answers:?}");
    }
}

#[test]
fn a_session_of_signatures_comes_out_of_a_ticket() {
    for kind in TYPES {
        let (mut pair, session) = with_certified_session(*kind);
        let key: TicketKey = TicketKey::derive(&[1; 32], 5);
        let ticket = key.seal(&session, b"", 100).unwrap();
        pair.server.sessions = None;
        pair.server.opened = key.open(ticket.bytes()).map(|opened| opened.0);
        pair.client = client_of(*kind, Some(&session), 3);
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
        assert!(pair.owner.asked.is_empty() && pair.server.owner.asked.is_empty());
        carries_data(&mut pair, at(1));
    }
}

#[test]
fn a_ticket_is_promised_in_a_handshake_of_signatures_too() {
    let mut server = Pair::of(CertificateType::RawPublicKey).server;
    server.tickets = Some(TicketKey::derive(&[1; 32], 5));
    // The extended master secret, both kinds, and session_ticket.
    let extensions = [&[0, 0x17, 0, 0, 0, 19, 0, 2, 1, 2, 0, 20, 0, 2, 1, 2][..], &[0, 35, 0, 0]].concat();
    let suites = vec![0xc0, 0xae, 0x00, 0xff];
    let flight = Hello { suites, extensions: Some(extensions), ..Hello::new() }.send(&mut server, at(0));
    let hello = &records_of(&flight[0])[0];
    assert!(hello.windows(4).any(|bytes| bytes == [0, 35, 0, 0]));
}

#[test]
fn a_server_that_forgot_the_session_asks_for_everything_anew() {
    for kind in TYPES {
        let (mut pair, session) = with_certified_session(*kind);
        pair.server.sessions = Some(Vec::new());
        pair.client = client_of(*kind, Some(&session), 3);
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert_eq!(pair.owner.asked, ["check", "prove", "present", "sign"]);
        assert_eq!(pair.server.owner.asked, ["share", "present", "sign", "check", "prove"]);
        let made = pair.client.take_session().unwrap();
        assert_ne!(made.id(), session.id());
    }
}

/// The id in a client's first ClientHello.
fn offered_id(client: &mut Client) -> Vec<u8> {
    let hello = transmit(client, at(0), 1200).remove(0);
    // Behind the headers, version and random.
    hello[25 + 34 + 1..][..usize::from(hello[25 + 34])].to_vec()
}

#[test]
fn a_session_is_offered_by_who_offers_its_suite_alone() {
    let (_, by_key) = with_session();
    for kind in TYPES {
        let (_, by_signature) = with_certified_session(*kind);
        // Both kinds of suites are configured, and only those of the client's own kind are offered.
        let both = Suites::new(&[Suite::PskAes128Ccm8, SUITE]).unwrap();
        let config = config_of(SUITE, *kind).with_suites(both);
        assert_eq!(offered_id(&mut client_as(&config, *kind, Some(&by_signature), 3)), by_signature.id());
        assert_eq!(offered_id(&mut client_as(&config, *kind, Some(&by_key), 3)), [0; 0]);
        let of_key = |session| {
            let rng = &mut |bytes: &mut [u8]| bytes.fill(7);
            let psk = Psk { identity: IDENTITY, key: KEY };
            Client::resuming_client(at(0), &config, psk, Some(session), rng, Handshake::new()).unwrap()
        };
        assert_eq!(offered_id(&mut of_key(&by_key)), by_key.id());
        assert_eq!(offered_id(&mut of_key(&by_signature)), [0; 0]);
    }
}

#[test]
fn a_session_of_signatures_never_stands_in_for_a_key_nor_the_reverse() {
    // A server that takes both, and believes that the session is of the other kind: it has another suite than what is offered.
    let (_, by_key) = with_session();
    for kind in TYPES {
        let (mut pair, by_signature) = with_certified_session(*kind);
        let both = Suites::new(&[SUITE, Suite::PskAes128Ccm8]).unwrap();
        pair.server.config = pair.server.config.with_suites(both);
        pair.server.opened = Some(by_key.clone());
        pair.client = client_of(*kind, Some(&by_signature), 3);
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert!(pair.server.owner.asked.contains(&"prove"));
        pair.server.peers.clear();
        pair.server.opened = Some(by_signature);
        let mut client = client_with_session(at(0), Some(&by_key), 4);
        let talk = crate::support::talk(&mut client, &mut pair.server);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    }
}

#[test]
fn a_server_without_certificates_any_more_takes_up_no_session_of_theirs() {
    let (mut pair, session) = with_certified_session(CertificateType::RawPublicKey);
    let both = Suites::new(&[SUITE, Suite::PskAes128Ccm8]).unwrap();
    let extensions = vec![0, 0x17, 0, 0, 0, 19, 0, 2, 1, 2, 0, 20, 0, 2, 1, 2];
    for (types, suite) in
        [(CertificateTypes::RAW_PUBLIC_KEY, [0xc0, 0xae]), (CertificateTypes::NONE, [0xc0, 0xa8])]
    {
        pair.server.peers.clear();
        pair.server.config = pair.server.config.with_suites(both).with_certificate_types(types);
        let (suites, session_id) = (vec![0xc0, 0xa8, 0xc0, 0xae, 0x00, 0xff], session.id().to_vec());
        let mut hello = Hello { suites, session_id, extensions: Some(extensions.clone()), ..Hello::new() };
        let answer = hello.send(&mut pair.server, at(0));
        let body = &answer[0][25..];
        let id = &body[35..][..usize::from(body[34])];
        assert_eq!(id == session.id(), types != CertificateTypes::NONE);
        assert_eq!(body[35 + id.len()..][..2], suite);
    }
}

#[test]
fn another_secret_under_the_id_of_a_session_of_signatures_is_never_established() {
    let (mut pair, session) = with_certified_session(CertificateType::RawPublicKey);
    for place in [3, 20, 50] {
        pair.server.peers.clear();
        let mut altered = [0; Session::LONGEST];
        let length = session.emit(&mut altered).unwrap();
        altered[place] ^= 1;
        pair.client =
            client_of(CertificateType::RawPublicKey, Session::parse(&altered[..length]).as_ref(), 3);
        is_nobody(&pair.talk_with(|_, _| true));
        assert_eq!(pair.client.counters().unauthenticated, 1);
        assert!(pair.owner.asked.is_empty() && pair.server.owner.asked.is_empty());
    }
}

/// A client that offers its session, while the ServerHello is changed.
fn with_server_hello(kind: CertificateType, change: impl Fn(&mut Vec<u8>)) -> (Talk, Pair) {
    let (mut pair, session) = with_certified_session(kind);
    pair.server.peers.clear();
    pair.client = client_of(kind, Some(&session), 3);
    let talk = changed(&mut pair, DOWN, SERVER_HELLO, change);
    (talk, pair)
}

#[test]
fn each_field_of_a_server_hello_that_takes_up_a_session_of_signatures_is_checked() {
    const ID: usize = 2 + 32 + 1;
    for kind in TYPES {
        // RFC 7627 §5.3: without the extended master secret, which is the last extension.
        let (talk, _) = with_server_hello(*kind, |body| {
            let end = body.len() - 4;
            body.truncate(end);
            body[ID + 8 + 3..][..2].copy_from_slice(&((end - ID - 8 - 5) as u16).to_be_bytes());
        });
        is_refused_by_client(&talk, Reason::ResumedDifferently, 47);
        // Under a suite that proves nobody by a signature.
        let (talk, _) = with_server_hello(*kind, |body| body[ID + 8..][..2].copy_from_slice(&[0xc0, 0xa8]));
        is_refused_by_client(&talk, Reason::NoCommonSuite, 40);
        // Another random, and another id, after which everything is to be presented, and is not.
        for place in [2, ID] {
            let (talk, pair) = with_server_hello(*kind, |body| body[place] ^= 1);
            let is_refused = place == ID && *kind == CertificateType::RawPublicKey;
            if is_refused {
                is_refused_by_client(&talk, Reason::WrongCertificateType, 43);
            } else {
                is_nobody(&talk);
            }
            assert!(pair.owner.asked.is_empty() && !pair.client.is_established());
        }
    }
    // A client of a raw public key does not mind which kinds are answered that nobody presents, and the Finished shows the change.
    let (talk, _) = with_server_hello(CertificateType::RawPublicKey, |body| {
        body.extend([0, 20, 0, 1, 0]);
        body[ID + 8 + 4] += 5;
    });
    assert_eq!((talk.client, talk.server), (vec![Event::Closed(Reason::BadFinished)], vec![]));
    let (talk, _) = with_server_hello(CertificateType::RawPublicKey, |body| {
        body.extend([0, 13, 0, 4, 0, 2, 4, 3]);
        body[ID + 8 + 4] += 8;
    });
    is_refused_by_client(&talk, Reason::UnofferedExtension, 110);
}

#[test]
fn a_session_of_signatures_still_needs_the_cookie_19() {
    let (mut pair, session) = with_certified_session(CertificateType::RawPublicKey);
    pair.server.peers.clear();
    let extensions = vec![0, 0x17, 0, 0, 0, 19, 0, 2, 1, 2, 0, 20, 0, 2, 1, 2];
    let (suites, session_id) = (vec![0xc0, 0xae, 0x00, 0xff], session.id().to_vec());
    let hello = Hello { suites, session_id, extensions: Some(extensions), ..Hello::new() }.datagram(0);
    let (_, replies) = pair.server.handle(at(0), &hello);
    assert!(replies[0][13] == 3 && replies[0].len() < hello.len() && pair.server.peers.is_empty());
}
