//! Every check of a handshake and of the record layer, each in a test in which exactly that check fails.

use crate::support::*;
use dtls_psk::{
    Alert, Answer, Config, CookieJar, Dropped, Handshake, Psk, Reason, SealError, SetUpError, Suite, Suites,
};

/// Runs a handshake in which the ServerHello is changed.
fn with_server_hello(change: impl Fn(&mut Vec<u8>)) -> (Talk, Client, Server) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        if !from_client && datagram[13] == 2 {
            change(datagram);
        }
        true
    });
    (talk, client, server)
}

/// Lets both sides give up and returns their reasons.
fn give_up(client: &mut Client, server: &mut Server) -> (Option<Reason>, Option<Reason>) {
    let reason = |event: Event| match event {
        Event::Closed(reason) => Some(reason),
        _ => None,
    };
    let at_client =
        (0..200).find_map(|second| client.handle_timeout(at(second * 1000))).map(Event::of).and_then(reason);
    let at_server = (0..200).find_map(|second| server.handle_timeout(at(second * 1000)).0.pop());
    (at_client, at_server.and_then(reason))
}

// --- cookie ---

#[test]
fn a_cookie_with_one_wrong_bit_is_answered_with_another_cookie() {
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    hello.send(&mut server, at(0));
    server.peers.clear();
    for bit in 0..128 {
        let mut wrong = hello.clone();
        wrong.cookie[bit / 8] ^= 1 << (bit % 8);
        let (_, replies) = server.handle(at(0), &wrong.datagram(1));
        assert_eq!(replies[0][13], 3);
        assert!(server.peers.is_empty());
    }
    assert_eq!(server.handle(at(0), &hello.datagram(1)).1[0][13], 2);
}

#[test]
fn a_cookie_is_good_for_its_address_only() {
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    hello.send(&mut server, at(0));
    server.peers.clear();
    server.address[5] ^= 1;
    assert_eq!(server.handle(at(0), &hello.datagram(1)).1[0][13], 3);
    assert!(server.peers.is_empty());
}

#[test]
fn a_cookie_is_good_for_its_client_hello_only() {
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    hello.send(&mut server, at(0));
    server.peers.clear();
    let changes: [fn(&mut Hello); 5] = [
        |hello| hello.random[31] ^= 1,
        |hello| hello.session_id = vec![1],
        |hello| hello.suites.extend([0, 0xae]),
        |hello| hello.compressions = vec![0, 1],
        |hello| hello.version = 0xfeff,
    ];
    for change in changes {
        let mut changed = hello.clone();
        change(&mut changed);
        assert_eq!(server.handle(at(0), &changed.datagram(1)).1[0][13], 3);
        assert!(server.peers.is_empty());
    }
}

#[test]
fn a_cookie_is_good_for_other_extensions() {
    // RFC 6347 §4.2.1: extensions are not among what a client has to repeat. Some clients shuffle them, pad the ClientHello
    // to a certain length, or leave out what only a later version of DTLS has.
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    let (_, replies) = server.handle(at(0), &hello.datagram(0));
    hello.cookie = replies[0][28..].to_vec();
    hello.extensions = Some(vec![0, 21, 0, 2, 0, 0, 0, 0x17, 0, 0]);
    assert_eq!(server.handle(at(0), &hello.datagram(1)).1[0][13], 2);
}

#[test]
fn a_cookie_outlives_one_rotation_of_the_secret_but_not_two() {
    for (age, good) in
        [(59_999, true), (60_000, true), (119_999, true), (120_000, false), (10_000_000, false)]
    {
        let mut server = Server::new(1);
        let mut hello = Hello::new();
        hello.send(&mut server, at(0));
        server.peers.clear();
        let (_, replies) = server.handle(at(age), &hello.datagram(1));
        assert_eq!(replies[0][13] == 2, good, "after {age} ms");
        assert_eq!(!server.peers.is_empty(), good);
    }
    // With traffic in between, the secret rotates step by step.
    let mut server = Server::new(1);
    let mut hello = Hello::new();
    hello.send(&mut server, at(0));
    server.peers.clear();
    for age in [60_000, 120_000] {
        server.handle(at(age), &Hello::new().datagram(0));
    }
    assert_eq!(server.handle(at(120_001), &hello.datagram(1)).1[0][13], 3);
}

#[test]
fn servers_of_one_root_accept_each_others_cookies_and_rotate_together() {
    let shared = |now, root| {
        let mut server = Server::new(1);
        server.jar = CookieJar::shared(now, [root; 32]);
        server
    };
    for (made, age, good) in [
        (59_999, 1, true),
        (59_999, 60_001, false),
        (60_000, 59_999, true),
        (60_000, 119_999, true),
        (60_000, 120_000, false),
        (60_000, 10_000_000, false),
    ] {
        let mut hello = Hello::new();
        hello.send(&mut shared(at(0), 7), at(made));
        for mut other in [shared(at(0), 7), shared(at(made + age), 7)] {
            let (_, replies) = other.handle(at(made + age), &hello.datagram(1));
            assert_eq!(replies[0][13] == 2, good, "made at {made} ms, {age} ms old");
        }
        let (_, replies) = shared(at(made), 8).handle(at(made), &hello.datagram(1));
        assert_eq!(replies[0][13], 3, "of another root");
    }
}

#[test]
fn a_client_whose_cookie_went_stale_goes_on_with_the_next_one() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let hello = transmit(&mut client, at(0), 1200).remove(0);
    let reply = server.handle(at(0), &hello).1.remove(0);
    receive(&mut client, at(0), &reply);
    // Its second ClientHello arrives after both rotations.
    let hello = transmit(&mut client, at(0), 1200).remove(0);
    let reply = server.handle(at(200_000), &hello).1.remove(0);
    assert_eq!(reply[13], 3);
    receive(&mut client, at(1), &reply);
    let talk = talk_with(&mut client, &mut server, at(200_001), |_, _| true);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
}

// --- what the server checks in a ClientHello ---

#[test]
fn a_client_hello_of_dtls_1_0_is_refused_after_the_cookie() {
    let mut server = Server::new(1);
    let replies = Hello { version: 0xfeff, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(replies[0][13..], [2, Alert::PROTOCOL_VERSION.0]);
    assert_eq!(server.refused, [Reason::UnsupportedVersion]);
    assert!(server.peers.is_empty());
}

#[test]
fn a_client_hello_of_a_later_version_is_answered_with_1_2() {
    let mut server = Server::new(1);
    let replies = Hello { version: 0xfefc, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(replies[0][25..27], [0xfe, 0xfd]);
}

#[test]
fn a_client_hello_of_tls_is_refused() {
    let mut server = Server::new(1);
    Hello { version: 0x0303, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(server.refused, [Reason::UnsupportedVersion]);
}

#[test]
fn a_client_hello_without_our_suite_is_refused() {
    let mut server = Server::new(1);
    let suites = vec![0x00, 0xa8, 0xc0, 0xa9, 0xa8, 0xc0, 0x00, 0xff];
    let replies = Hello { suites, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(replies[0][13..], [2, Alert::HANDSHAKE_FAILURE.0]);
    assert_eq!(server.refused, [Reason::NoCommonSuite]);
}

#[test]
fn a_client_hello_without_null_compression_is_refused() {
    let mut server = Server::new(1);
    let replies = Hello { compressions: vec![1], ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(replies[0][13..], [2, Alert::ILLEGAL_PARAMETER.0]);
}

#[test]
fn bent_extensions_of_a_client_hello_are_refused() {
    for (extensions, reason) in [
        // extended_master_secret with content, and twice
        (vec![0, 0x17, 0, 1, 0], Reason::ProtocolViolation),
        (vec![0, 0x17, 0, 0, 0, 0x17, 0, 0], Reason::ProtocolViolation),
        // renegotiation_info of a renegotiation, and without its length byte
        (vec![0xff, 0x01, 0, 2, 1, 0], Reason::InsecureRenegotiation),
        (vec![0xff, 0x01, 0, 0], Reason::InsecureRenegotiation),
    ] {
        let mut server = Server::new(1);
        Hello { extensions: Some(extensions), ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(server.refused, [reason]);
    }
}

#[test]
fn unknown_extensions_suites_and_a_session_id_are_tolerated() {
    let mut server = Server::new(1);
    let mut suites: Vec<u8> = (0..200).collect();
    suites.extend([0xc0, 0xa8]);
    let mut hello = Hello {
        session_id: vec![9; 32],
        suites,
        compressions: vec![1, 0],
        // server_name, GREASE, renegotiation_info, connection_id, session_ticket
        extensions: Some(vec![
            0, 0, 0, 6, 0, 4, 0, 0, 1, b'a', 0x0a, 0x0a, 0, 0, 0xff, 1, 0, 1, 0, 0, 54, 0, 1, 0, 0, 35, 0, 0,
        ]),
        ..Hello::new()
    };
    let replies = hello.send(&mut server, at(0));
    let hello = &replies[0][25..];
    assert_eq!(hello[34], 0, "no resumption: the session id is empty");
    assert_eq!(hello[35..37], [0xc0, 0xa8]);
    assert_eq!(hello[38..45], [0, 5, 0xff, 1, 0, 1, 0], "only what was asked for is answered");
}

#[test]
fn a_client_without_extensions_gets_none() {
    let mut server = Server::new(1);
    let mut hello = Hello { suites: vec![0xc0, 0xa8], extensions: None, ..Hello::new() };
    let replies = hello.send(&mut server, at(0));
    assert_eq!(replies[0][22..25], [0, 0, 38]);
}

// --- what the client checks in a ServerHello ---

#[test]
fn each_field_of_a_server_hello_is_checked() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, Reason, Alert); 8] = [
        (|hello| hello[26] = 0xff, Reason::UnsupportedVersion, Alert::PROTOCOL_VERSION),
        (|hello| hello[61] = 0xa4, Reason::NoCommonSuite, Alert::HANDSHAKE_FAILURE),
        (|hello| hello[62] = 1, Reason::ProtocolViolation, Alert::ILLEGAL_PARAMETER),
        (|hello| hello[64] = 8, Reason::ProtocolViolation, Alert::ILLEGAL_PARAMETER),
        // RFC 5746 §3.4
        (|hello| hello[69] = 1, Reason::InsecureRenegotiation, Alert::HANDSHAKE_FAILURE),
        // RFC 5246 §7.4.1.4
        (|hello| hello[71] = 0x16, Reason::UnofferedExtension, Alert::UNSUPPORTED_EXTENSION),
        (|hello| hello[73] = 1, Reason::ProtocolViolation, Alert::ILLEGAL_PARAMETER),
        (|hello| hello[59] = 1, Reason::ProtocolViolation, Alert::ILLEGAL_PARAMETER),
    ];
    for (index, (change, reason, alert)) in cases.into_iter().enumerate() {
        let (talk, client, _) = with_server_hello(change);
        assert_eq!(talk.client, [Event::Closed(reason)], "case {index}");
        assert_eq!(talk.from_client.last().unwrap()[13..], [2, alert.0], "case {index}");
        assert!(client.is_closed() && !client.is_established());
        assert!(talk.server.is_empty());
    }
}

// --- Finished ---

#[test]
fn another_random_in_the_server_hello_fails_at_finished() {
    let (talk, mut client, mut server) = with_server_hello(|hello| hello[40] ^= 1);
    assert!(talk.client.is_empty() && talk.server.is_empty());
    assert_eq!(give_up(&mut client, &mut server), (Some(Reason::FinishedUnanswered), Some(Reason::WrongKey)));
}

#[test]
fn stripping_the_extended_master_secret_fails_at_finished() {
    // Somebody in the middle renames the extension, so that both fall back to the plain master secret: the keys agree and
    // the transcripts do not.
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk_with(&mut client, &mut server, at(0), |from_client, datagram| {
        if from_client && datagram[13] == 1 {
            let at = datagram.len() - 4;
            datagram[at..at + 2].copy_from_slice(&[0x77, 0x77]);
        }
        true
    });
    assert_eq!(talk.server, [Event::Closed(Reason::BadFinished)]);
    assert!(talk.client.is_empty(), "the server's alert is in the clear: not believed at once");
    assert!(!client.is_established());
    assert_eq!(
        client.handle_timeout(client.poll_timeout().unwrap()).map(Event::of),
        Some(Event::Closed(Reason::PeerAlert(Alert::DECRYPT_ERROR)))
    );
}

#[test]
fn a_wrong_key_gets_no_answer() {
    let mut client = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: &[1; 16] }, 1);
    let mut server = Server::new(2);
    let talk = talk(&mut client, &mut server);
    assert!(talk.client.is_empty() && talk.server.is_empty());
    assert!(!server.peers[0].is_established(), "nothing is proven");
    assert_eq!(server.peers[0].counters().unauthenticated, 1);
    assert_eq!(give_up(&mut client, &mut server), (Some(Reason::FinishedUnanswered), Some(Reason::WrongKey)));
}

#[test]
fn an_unknown_identity_and_a_wrong_key_get_the_same_bytes() {
    for suite in Suites::PSK.as_slice() {
        unknown_and_wrong_get_the_same_bytes(*suite);
    }
}

fn unknown_and_wrong_get_the_same_bytes(suite: Suite) {
    let config = Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap());
    let run = |identity: &[u8], key: &[u8]| {
        let mut client = client_with(&config, Psk { identity, key }, 1);
        let mut server = Server { config, ..Server::new(2) };
        let mut talk = talk(&mut client, &mut server);
        // Retransmissions, up to the end.
        for second in 0..100 {
            server
                .handle_timeout(at(second * 1000))
                .1
                .into_iter()
                .for_each(|sent| talk.from_server.push(sent));
            client.handle_timeout(at(second * 1000));
            for datagram in transmit(&mut client, at(second * 1000), 1200) {
                talk.from_server.extend(server.handle(at(second * 1000), &datagram).1);
            }
        }
        assert!(talk.client.is_empty() && talk.server.is_empty());
        // Nothing is missing of what a handshake has up to the client's Finished.
        assert_eq!(talk.from_server[1][13], 2, "{suite:?}");
        assert_eq!(server.peers.len(), 0, "{suite:?}");
        (talk.from_server, server.peers.len())
    };
    assert_eq!(run(b"urn:dev:os:0002", KEY), run(IDENTITY, &[1; 16]), "{suite:?}");
    // An identity that nobody can have is no different either.
    assert_eq!(run(b"", KEY), run(IDENTITY, &[1; 64]), "{suite:?}");
}

/// What this crate's client does not offer: its flight from the RFCs, with a Finished that nobody can have made.
#[cfg(feature = "cbc")]
#[test]
fn an_unknown_identity_and_a_wrong_key_get_the_same_bytes_under_suites_that_only_a_server_has() {
    let only_server = |suite: &&Suite| !suite.is_ecdsa() && !suite.is_for_clients();
    let suites: Vec<_> = Suite::ALL.iter().filter(only_server).collect();
    assert_eq!(suites, [&Suite::PskAes128CbcSha256]);
    for suite in suites {
        let run = |identity: &[u8]| {
            let config = Config::DEFAULT.with_suites(Suites::new(&[*suite]).unwrap());
            let mut server = Server { config, ..Server::new(2) };
            let suites = [&suite.code().to_be_bytes()[..], &[0x00, 0xff]].concat();
            let mut sent = Hello { suites, ..Hello::new() }.send(&mut server, at(0));
            assert_eq!(sent[0][13], 2, "{suite:?}");
            let body = [&(identity.len() as u16).to_be_bytes(), identity].concat();
            for datagram in [message(16, 2, &body), record(20, 0, 8, &[1]), record(22, 1, 0, &[0x55; 80])] {
                sent.extend(server.handle(at(1), &datagram).1);
            }
            assert_eq!(server.peer_any().counters().unauthenticated, 1, "{suite:?}");
            for second in 0..100 {
                sent.extend(server.handle_timeout(at(second * 1000)).1);
            }
            (sent, server.peers.len())
        };
        assert_eq!(run(IDENTITY), run(b"urn:dev:os:0002"), "{suite:?}");
        assert_eq!(run(IDENTITY), run(b""), "{suite:?}");
    }
}

#[test]
fn the_reason_for_an_unknown_identity_is_known_on_this_side() {
    let mut client = client_with(&Config::DEFAULT, Psk { identity: b"nobody", key: KEY }, 1);
    let mut server = Server::new(2);
    talk(&mut client, &mut server);
    assert_eq!(
        give_up(&mut client, &mut server),
        (Some(Reason::FinishedUnanswered), Some(Reason::UnknownIdentity))
    );
}

#[test]
fn the_random_key_of_an_unknown_identity_is_never_the_same_nor_empty() {
    // A client that guesses an empty or zero key does not get in as anybody.
    for key in [&[0; 16][..], &[0; 1], &[0; 64]] {
        let mut client = client_with(&Config::DEFAULT, Psk { identity: b"nobody", key }, 1);
        let mut server = Server::new(2);
        assert!(talk(&mut client, &mut server).server.is_empty());
    }
}

#[test]
fn a_late_answer_to_a_look_up_finishes_the_handshake() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    let silent = talk(&mut client, &mut server);
    assert!(silent.server.is_empty());
    let (id, identity) = server.asked.pop().unwrap();
    assert_eq!(server.provide(at(500), 0, id, &identity), Some(Event::Established));
    let (_, sent) = server.handle_timeout(at(500));
    assert_eq!(receive(&mut client, at(500), &sent[0]), [Event::Established]);
    assert!(server.peer().is_established());
    assert_eq!(server.peer().identity(), Some(IDENTITY));
    let again = server.peer().provide(at(501), id, Answer::Unknown);
    assert_eq!(again, Err(dtls_psk::ProvideError::NotPending));
}

#[test]
fn a_wrong_key_is_the_reason_beside_a_live_association_too() {
    let (mut old, mut server) = established();
    server.handle(at(0), &seal(&mut old, b"x"));
    let mut wrong = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: &[1; 16] }, 9);
    let mut flight = vec![];
    talk_with(&mut wrong, &mut server, at(0), |from_client, datagram| {
        let is_flight = from_client && datagram[13] == 16;
        if is_flight {
            flight = records_of(datagram);
        }
        !is_flight
    });
    // Each record in a datagram of its own: the Finished names nobody.
    for part in &flight {
        assert!(server.handle(at(0), part).0.is_empty());
    }
    assert_eq!(give_up(&mut wrong, &mut server), (Some(Reason::FinishedUnanswered), Some(Reason::WrongKey)));
    assert_eq!(server.handle(at(1), &seal(&mut old, b"y")).0, [Event::Application(b"y".to_vec())]);
}

#[test]
fn a_replay_of_the_live_association_is_not_held_against_a_new_handshake() {
    let (mut old, mut server) = established();
    let live = seal(&mut old, b"x");
    server.handle(at(0), &live);
    let mut new = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 9);
    // The handshake has keys, and the Finished is lost.
    talk_with(&mut new, &mut server, at(0), |from_client, datagram| {
        if from_client && datagram[13] == 16 {
            let records = records_of(datagram);
            *datagram = records[..records.len() - 1].concat();
        }
        true
    });
    assert_eq!(server.peers.len(), 2);
    assert!(server.handle(at(1), &live).0.is_empty());
    assert_eq!(server.dropped, [Dropped::Replayed]);
    assert_eq!(server.peer_any().suspicion(), None);
}

#[test]
fn a_look_up_that_is_never_answered_says_so() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    talk(&mut client, &mut server);
    assert_eq!(
        give_up(&mut client, &mut server),
        (Some(Reason::FinishedUnanswered), Some(Reason::LookUpUnanswered))
    );
}

#[test]
fn a_key_of_impossible_length_is_the_callers_mistake() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    talk(&mut client, &mut server);
    let (id, _) = server.asked.pop().unwrap();
    for key in [&[][..], &[1; 65]] {
        let answer = Answer::Psk { key };
        assert_eq!(server.peers[0].provide(at(1), id, answer), Err(dtls_psk::ProvideError::KeyLength));
    }
    assert_eq!(server.provide(at(1), 0, id, IDENTITY), Some(Event::Established), "it is still pending");
}

#[test]
fn keys_and_identities_up_to_the_limits_work_and_beyond_are_errors() {
    let set_up = |identity: &[u8], key: &[u8]| {
        Client::client(at(0), &Config::DEFAULT, Psk { identity, key }, &mut |b| b.fill(1), Handshake::new())
            .map(|_| ())
    };
    assert_eq!(set_up(&[b'i'; 129], KEY), Err(SetUpError::IdentityTooLong));
    assert_eq!(set_up(IDENTITY, &[1; 65]), Err(SetUpError::KeyLength));
    assert_eq!(set_up(IDENTITY, &[]), Err(SetUpError::KeyLength));
    for (identity, key) in
        [(&[b'i'; 128][..], &[1; 64][..]), (&[], &[1]), (&[0; 1], &[9; 30]), (&[255; 127], &[9; 31])]
    {
        let mut client = client_with(&Config::DEFAULT, Psk { identity, key }, 1);
        let mut server = Server::new(2);
        server.keys = vec![(identity.to_vec(), key.to_vec())];
        assert_eq!(talk(&mut client, &mut server).server, [Event::Established]);
        assert_eq!(server.peer().identity(), Some(identity));
    }
}

#[test]
fn an_identity_of_129_bytes_goes_the_way_of_an_unknown_one() {
    let mut server = Server::new(1);
    Hello::new().send(&mut server, at(0));
    let mut body = vec![0, 129];
    body.extend([b'i'; 129]);
    assert_eq!(server.handle(at(0), &message(16, 2, &body)).1, Vec::<Vec<u8>>::new());
    assert!(server.asked.is_empty(), "nobody is asked");
    let reason = (0..200).find_map(|second| server.handle_timeout(at(second * 1000)).0.pop());
    assert_eq!(reason, Some(Event::Closed(Reason::IdentityTooLong)));
}

// --- record layer ---

#[test]
fn a_replayed_record_is_delivered_once() {
    let (mut client, mut server) = established();
    let first = seal(&mut client, b"1");
    let second = seal(&mut client, b"2");
    assert_eq!(server.handle(at(1), &second).0, [Event::Application(b"2".to_vec())]);
    assert_eq!(server.handle(at(1), &first).0, [Event::Application(b"1".to_vec())]);
    for record in [&first, &second] {
        assert!(server.handle(at(1), record).0.is_empty());
    }
    assert_eq!(server.peer().counters().replayed, 2);
}

#[test]
fn a_forged_record_moves_neither_window_nor_association() {
    let (mut client, mut server) = established();
    for _ in 0..100 {
        let mut forged = seal(&mut client, b"x");
        forged[5..11].fill(0xff);
        assert!(server.handle(at(1), &forged).0.is_empty());
    }
    assert_eq!(server.peer().counters().unauthenticated, 100);
    let genuine = seal(&mut client, b"still here");
    assert_eq!(server.handle(at(1), &genuine).0, [Event::Application(b"still here".to_vec())]);
}

#[test]
fn records_of_other_epochs_versions_and_types_are_dropped() {
    let (mut client, mut server) = established();
    let genuine = seal(&mut client, b"x");
    let change = |position: usize, value: u8| {
        let mut changed = genuine.clone();
        changed[position] = value;
        changed
    };
    let cases = [
        change(4, 2),    // epoch 2
        change(3, 0xff), // epoch 0xff01
        change(2, 0xff), // DTLS 1.0 in a protected epoch
        change(1, 0x03), // TLS
        change(0, 24),   // heartbeat
        change(0, 25),   // CID
        change(0, 0),
    ];
    for case in &cases {
        assert!(receive(server.peer(), at(1), case).is_empty());
    }
    assert_eq!(server.peer().counters().unsupported, cases.len() as u16);
    assert_eq!(server.handle(at(1), &genuine).0.len(), 1);
}

#[test]
fn nothing_is_sealed_before_and_after() {
    let mut client = new_client();
    let mut buffer = [0; 64];
    assert_eq!(client.seal(&mut buffer, 21..22), Err(SealError::NotEstablished));
    let (mut client, _) = established();
    client.close();
    assert_eq!(client.seal(&mut buffer, 21..22), Err(SealError::NotEstablished));
}

// --- closing ---

#[test]
fn close_notify_goes_both_ways() {
    let (mut client, mut server) = established();
    client.close();
    let sent = transmit(&mut client, at(1), 1200);
    let (events, answers) = server.handle(at(1), &sent[0]);
    assert_eq!(events, [Event::Closed(Reason::PeerClosed)]);
    assert!(server.peers.is_empty());
    assert_eq!(answers.len(), 1, "answered with a close_notify");
    assert!(receive(&mut client, at(1), &answers[0]).is_empty(), "already closed");
    assert!(transmit(&mut client, at(1), 1200).is_empty());

    let (mut client, mut server) = established();
    server.peer().close();
    let sent = transmit(server.peer_any(), at(1), 1200);
    assert_eq!(receive(&mut client, at(1), &sent[0]), [Event::Closed(Reason::PeerClosed)]);
    assert!(client.is_closed());
}

#[test]
fn a_broken_random_source_is_noticed() {
    let psk = Psk { identity: IDENTITY, key: KEY };
    let client = Client::client(at(0), &Config::DEFAULT, psk, &mut |_| {}, Handshake::new());
    assert_eq!(client.map(|_| ()), Err(SetUpError::NotRandom));
}

#[test]
fn drops_before_a_handshake_have_reasons() {
    let mut server = Server::new(1);
    let hello = Hello::new();
    let mut in_pieces = record(22, 0, 0, &fragment(1, 100, 0, 0, &hello.body()[..20]));
    server.handle(at(0), &in_pieces);
    in_pieces[13] = 16;
    server.handle(at(0), &in_pieces);
    server.handle(at(0), &[22]);
    assert_eq!(server.dropped, [Dropped::NoCookie, Dropped::Unsupported, Dropped::Malformed]);
}

// --- late copies ---

#[test]
fn a_late_copy_of_a_client_hello_starts_nothing() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk(&mut client, &mut server);
    // Before and after the last flight is freed.
    for _ in 0..2 {
        let (events, sent) = server.handle(at(500), &talk.from_client[1]);
        assert!(events.is_empty() && sent.is_empty());
        assert_eq!(server.peers.len(), 1);
        server.handle(at(500), &seal(&mut client, b"x"));
    }
    assert_eq!(server.peer().poll_timeout(), None);
}

#[test]
fn a_device_that_starts_again_with_the_same_random_gets_in() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    talk(&mut client, &mut server);
    server.handle(at(1), &seal(&mut client, b"x"));
    // The secret of the cookies has changed since, so that this is no late copy.
    let mut again = new_client();
    let talk = talk_with(&mut again, &mut server, at(60_000), |_, _| true);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    assert_eq!(server.peers.len(), 1);
}

#[test]
fn a_late_hello_verify_request_does_not_disturb_the_handshake() {
    // A server that makes another cookie for each ClientHello: the first one is repeated, and both are answered.
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    client.handle_timeout(at(1000));
    transmit(&mut client, at(1000), 1200);
    let request =
        |sequence: u64, cookie: u8| record(22, 0, sequence, &fragment(3, 4, 0, 0, &[0xfe, 0xff, 1, cookie]));
    receive(&mut client, at(1001), &request(0, 7));
    let second = transmit(&mut client, at(1001), 1200).remove(0);
    assert_eq!(second[5..11], [0, 0, 0, 0, 0, 2]);
    receive(&mut client, at(1002), &request(1, 8));
    assert!(transmit(&mut client, at(1002), 1200).is_empty(), "it answers the repetition of the first");
    receive(&mut client, at(1003), &request(2, 9));
    assert_eq!(transmit(&mut client, at(1003), 1200)[0][61], 9, "the cookie had gone stale");
}

#[test]
fn a_finished_of_a_new_handshake_may_wait_beside_a_live_association() {
    let (mut old, mut server) = established();
    server.handle(at(0), &seal(&mut old, b"x"));
    server.answers_at_once = false;
    let mut new = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 9);
    let mut flight = Vec::new();
    talk_with(&mut new, &mut server, at(1), |from_client, datagram| {
        let is_flight = from_client && datagram[13] == 16;
        if is_flight {
            flight = records_of(datagram);
        }
        !is_flight
    });
    for part in &flight {
        assert!(server.handle(at(1), part).0.is_empty());
    }
    let (id, identity) = server.asked.pop().unwrap();
    // The old one still works while the look-up is under way.
    assert_eq!(server.handle(at(2), &seal(&mut old, b"y")).0, [Event::Application(b"y".to_vec())]);
    assert_eq!(server.provide(at(3), 0, id, &identity), Some(Event::Established));
}

#[test]
fn what_is_suspected_can_be_seen_before_the_deadline() {
    for (identity, key, suspicion) in
        [(&b"nobody"[..], KEY, Reason::UnknownIdentity), (IDENTITY, &[1; 16], Reason::WrongKey)]
    {
        let mut client = client_with(&Config::DEFAULT, Psk { identity, key }, 1);
        let mut server = Server::new(2);
        talk(&mut client, &mut server);
        assert_eq!(server.peers[0].suspicion(), Some(suspicion));
        assert!(!server.peers[0].is_closed());
    }
}
