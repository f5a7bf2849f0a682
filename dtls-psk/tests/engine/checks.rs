//! Checks for which nothing else would stand in: each of these is refused by exactly one of them.

use crate::support::*;
use dtls_psk::{Accepted, Config, CookieJar, Dropped, REPLY_MAX};

const HANDSHAKE: u8 = 22;

/// What a jar says of a datagram.
fn dropped(datagram: &[u8]) -> Option<Dropped> {
    let mut random = Random(7);
    let mut rng = |bytes: &mut [u8]| random.fill(bytes);
    let mut jar = CookieJar::new(at(0), &mut rng);
    match jar.accept(at(0), &Config::DEFAULT, &mut rng, ADDRESS, datagram, &mut [0; REPLY_MAX]) {
        Accepted::Dropped(dropped) => Some(dropped),
        _ => None,
    }
}

#[test]
fn a_jar_takes_whole_client_hellos_in_plain_handshake_records_of_dtls_only() {
    let hello = Hello::new();
    let good = hello.datagram(0);
    assert_eq!(dropped(&good), None);
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        dropped(&bytes)
    };
    assert_eq!(changed(0, 21), Some(Dropped::Unsupported), "another type of record");
    assert_eq!(changed(1, 3), Some(Dropped::Unsupported), "another version");
    assert_eq!(changed(4, 1), Some(Dropped::Unsupported), "another epoch");
    assert_eq!(changed(13, 2), Some(Dropped::Unexpected), "another message");
    let body = hello.body();
    let cut = record(HANDSHAKE, 0, 0, &fragment(1, body.len() + 1, 0, 0, &body));
    assert_eq!(dropped(&cut), Some(Dropped::NoCookie), "a piece of one");
}

#[test]
fn a_client_hello_is_malformed_by_one_thing_alone() {
    let malformed = |hello: Hello| dropped(&hello.datagram(0)) == Some(Dropped::Malformed);
    assert!(malformed(Hello { session_id: vec![1; 33], ..Hello::new() }));
    assert!(malformed(Hello { suites: vec![], ..Hello::new() }));
    assert!(malformed(Hello { suites: vec![0xc0, 0xa8, 0], ..Hello::new() }));
    assert!(malformed(Hello { compressions: vec![], ..Hello::new() }));
    // An extension that ends behind its list, and half a number.
    assert!(malformed(Hello { extensions: Some(vec![0, 0x17, 0, 1]), ..Hello::new() }));
    assert!(malformed(Hello { extensions: Some(vec![0, 0x17, 0, 0, 0]), ..Hello::new() }));
    let trailing = [&Hello::new().body()[..], &[0]].concat();
    assert_eq!(dropped(&message(1, 0, &trailing)), Some(Dropped::Malformed));
    assert!(!malformed(Hello { session_id: vec![1; 32], extensions: None, ..Hello::new() }));
}

#[test]
fn a_cookie_request_in_pieces_is_not_answered() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    // Its piece alone would be one with an empty cookie.
    let piece = record(HANDSHAKE, 0, 0, &fragment(3, 19, 0, 0, &[0xfe, 0xff, 0]));
    assert_eq!(receive(&mut client, at(0), &piece), []);
    assert_eq!(client.counters().too_large, 1);
    assert!(transmit(&mut client, at(0), 1200).is_empty());
}

#[test]
fn a_cookie_request_of_another_version_or_with_more_behind_it_is_malformed() {
    for body in [&[0xfe, 0xfc, 1, 7][..], &[0x03, 0x03, 1, 7], &[0xfe, 0xff, 1, 7, 0]] {
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        receive(&mut client, at(0), &message(3, 0, body));
        assert_eq!(client.counters().malformed, 1);
        assert!(transmit(&mut client, at(0), 1200).is_empty());
    }
}

#[test]
fn a_warning_in_the_clear_that_ends_nothing_is_not_suspected() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    receive(&mut client, at(1), &record(21, 0, 1, &[1, 90]));
    assert_eq!(client.suspicion(), None);
    // It waits for an answer as before.
    assert_eq!(client.handle_timeout(at(1000)).map(Event::of), None);
}

#[test]
fn early_records_of_other_epochs_take_no_place_from_a_finished_2() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    let mut flight = Vec::new();
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        let is_key_exchange = is_up && datagram[13] == 16;
        if is_key_exchange {
            flight = records_of(datagram);
        }
        !is_key_exchange
    });
    server.handle(at(1), &flight[0]);
    for sequence in 0..3 {
        server.handle(at(1), &record(HANDSHAKE, 2, sequence, &[0x55; 40]));
    }
    server.handle(at(1), &flight[1]);
    server.handle(at(1), &flight[2]);
    let (id, identity) = server.asked.remove(0);
    assert_eq!(server.provide(at(2), 0, id, &identity), Some(Event::Established));
}

#[test]
fn early_records_of_other_types_take_no_place_from_a_finished_2() {
    for content_type in [20, 21, 23] {
        let (mut server, flight, _) = waiting_server();
        server.handle(at(1), &flight[0]);
        for sequence in 1..4 {
            server.handle(at(1), &record(content_type, 1, sequence, &[0x55; 40]));
        }
        server.handle(at(1), &flight[1]);
        server.handle(at(1), &flight[2]);
        let (id, identity) = server.asked.remove(0);
        assert_eq!(server.provide(at(2), 0, id, &identity), Some(Event::Established), "{content_type}");
    }
}

#[test]
fn a_client_repeats_its_flight_for_a_repeated_one_at_a_rate() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let mut hello_done = Vec::new();
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        if !is_up && datagram[13] == 2 {
            hello_done.clone_from(datagram);
        }
        // The answer to the client's flight is lost.
        is_up || datagram[0] != 20
    });
    for (now, answers) in [(10, 0), (249, 0), (250, 1), (260, 0), (600, 1)] {
        receive(&mut client, at(now), &hello_done);
        assert_eq!(transmit(&mut client, at(now), 1200).len(), answers, "{now} ms");
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn a_return_routability_check_that_was_not_offered_is_refused() {
    use dtls_psk::{ConnectionId, Psk, Reason};
    let psk = Psk { identity: IDENTITY, key: KEY };
    let config = Config::DEFAULT.with_connection_id(ConnectionId::new(&[1]).unwrap());
    let answer = |id: &[u8], check: &[u8]| {
        let extensions = [id, check].concat();
        let front = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0, 0]].concat();
        message(2, 0, &[&front[..], &[extensions.len() as u8], &extensions].concat())
    };
    let (id, check) = (&[0, 0x36, 0, 2, 1, 9][..], &[0, 0x3d, 0, 0][..]);
    let refused = Event::Closed(Reason::UnofferedExtension);
    for (is_offered, hello, expected) in [
        (true, answer(id, check), vec![]),
        (false, answer(id, check), vec![refused.clone()]),
        (false, answer(id, &[]), vec![]),
        // The check goes with Connection IDs.
        (true, answer(&[], check), vec![refused]),
    ] {
        let mut client = client_with(&config.with_return_routability(is_offered), psk, 1);
        assert_eq!(receive(&mut client, at(0), &hello), expected, "{is_offered} {hello:?}");
    }
}

#[test]
fn a_hint_that_is_no_vector_is_malformed_and_a_good_one_may_follow() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    let hello = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0]].concat();
    receive(&mut client, at(0), &message(2, 0, &hello));
    for bad in [&[0, 2, 7][..], &[0, 1, 7, 7], &[0], &[]] {
        receive(&mut client, at(0), &message(12, 1, bad));
    }
    assert_eq!(client.counters().malformed, 4);
    receive(&mut client, at(0), &message(12, 1, &[0, 1, 7]));
    receive(&mut client, at(0), &message(14, 2, &[]));
    assert_eq!(transmit(&mut client, at(0), 1200)[0][13], 16, "a ClientKeyExchange");
}

/// A server that waits for the ClientKeyExchange, which is in the records of the client's flight, and the hello it answered.
fn waiting_server() -> (Server, Vec<Vec<u8>>, Vec<u8>) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    server.answers_at_once = false;
    let (mut flight, mut hello) = (Vec::new(), Vec::new());
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        let is_key_exchange = is_up && datagram[13] == 16;
        if is_key_exchange {
            flight = records_of(datagram);
        } else if is_up {
            hello.clone_from(datagram);
        }
        !is_key_exchange
    });
    (server, flight, hello)
}

#[test]
fn a_second_identity_in_one_handshake_is_not_looked_up() {
    let (mut server, flight, _) = waiting_server();
    server.handle(at(1), &flight[0]);
    server.handle(at(1), &message(16, 3, &[0, 1, b'x']));
    assert_eq!(server.asked.len(), 1);
    assert_eq!(server.asked[0].1, IDENTITY);
    assert_eq!(server.peer_any().counters().unexpected, 1);
}

#[test]
fn only_the_client_hello_that_was_answered_is_answered_again() {
    let (mut server, _, hello) = waiting_server();
    let again = |server: &mut Server, change: fn(&mut Vec<u8>), now: u64| {
        let mut hello = hello.clone();
        change(&mut hello);
        let peer = server.peer_any();
        receive(peer, at(now), &hello);
        transmit(peer, at(now), 1200).len()
    };
    // Another message_seq, and another random.
    assert_eq!(again(&mut server, |hello| hello[18] += 1, 300), 0);
    assert_eq!(again(&mut server, |hello| hello[13 + 12 + 2] ^= 1, 300), 0);
    assert_eq!(server.peer_any().counters().unexpected, 2);
    assert_eq!(again(&mut server, |_| {}, 300), 1);
}

#[test]
fn a_client_hello_with_another_number_is_not_the_one_that_is_answered() {
    let (server, _, mut hello) = waiting_server();
    let choice = |hello: &[u8]| dtls_psk::choose(server.peers.iter(), hello, &mut vec![0; hello.len()]);
    assert_eq!(choice(&hello), dtls_psk::Choice::Candidate(0));
    hello[18] += 1;
    assert_eq!(choice(&hello), dtls_psk::Choice::New);
}

#[test]
fn a_record_of_an_epoch_without_keys_is_nobodys() {
    let (_, mut server) = established();
    server.handle(at(1), &record(23, 2, 0, &[0x55; 40]));
    assert_eq!(server.dropped, [Dropped::Unsupported]);
    assert_eq!(server.peer().counters().unsupported, 0);
}

#[test]
fn an_alert_in_the_clear_ends_no_server_before_its_deadline() {
    let (mut server, ..) = waiting_server();
    server.handle(at(1), &record(21, 0, 9, &[2, 40]));
    assert!(server.peer_any().suspicion().is_some());
    let (events, sent) = server.handle_timeout(at(1000));
    assert_eq!((events.len(), sent.len()), (0, 1), "its flight goes out again");
}

#[test]
fn no_client_is_taken_for_the_server_of_a_client_hello() {
    let (client, _) = established();
    let hello = Hello { cookie: vec![0; 16], ..Hello::new() }.datagram(1);
    let choice = dtls_psk::choose(std::iter::once(&client), &hello, &mut vec![0; hello.len()]);
    assert_eq!(choice, dtls_psk::Choice::New);
}

#[test]
fn an_empty_handshake_record_and_a_piece_beyond_its_message_are_malformed() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    receive(&mut client, at(0), &record(HANDSHAKE, 0, 1, &[]));
    assert_eq!(client.counters().malformed, 1);
    receive(&mut client, at(0), &record(HANDSHAKE, 0, 2, &fragment(2, 10, 0, 5, &[0; 10])));
    assert_eq!(client.counters().malformed, 2);
}

#[test]
fn a_server_hello_with_a_long_id_or_more_behind_it_is_refused() {
    let hello = |id: &[u8], behind: &[u8]| {
        let mut client = new_client();
        let body =
            [&[0xfe, 0xfd][..], &[7; 32], &[id.len() as u8], id, &[0xc0, 0xa8, 0, 0, 0], behind].concat();
        receive(&mut client, at(0), &message(2, 0, &body))
    };
    let refused = [Event::Closed(dtls_psk::Reason::ProtocolViolation)];
    assert_eq!(hello(&[1; 32], &[]), []);
    assert_eq!(hello(&[1; 33], &[]), refused);
    assert_eq!(hello(&[1; 32], &[0]), refused);
}

#[test]
fn a_second_server_hello_moves_nothing() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    // A server that counts its requests for itself: the client has sent its fourth ClientHello.
    for (sequence, cookie) in [(0, 1), (1, 2), (2, 3)] {
        let request = fragment(3, 4, 0, 0, &[0xfe, 0xff, 1, cookie]);
        receive(&mut client, at(0), &record(HANDSHAKE, 0, sequence, &request));
        transmit(&mut client, at(0), 1200);
    }
    let hello = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0]].concat();
    receive(&mut client, at(0), &message(2, 1, &hello));
    receive(&mut client, at(0), &message(2, 3, &hello));
    receive(&mut client, at(0), &message(14, 2, &[]));
    assert_eq!(transmit(&mut client, at(0), 1200)[0][13], 16, "a ClientKeyExchange");
}

#[test]
fn an_alert_in_the_clear_is_not_suspected_after_the_handshake() {
    let (_, mut server) = established();
    server.handle(at(1), &record(21, 0, 9, &[2, 40]));
    assert_eq!(server.peer().suspicion(), None);
}

#[cfg(feature = "connection-id")]
#[test]
fn a_challenge_before_the_finished_is_not_answered() {
    let (mut client, mut server) = with_connection_ids(&Config::DEFAULT, &[], &[1; 6]);
    let mut finished = Vec::new();
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        if !is_up && datagram[0] == 20 {
            finished.clone_from(datagram);
        }
        is_up || datagram[0] != 20
    });
    let mut out = [0; 128];
    let length = server.peer().challenge_path([7; 8], &mut out).unwrap();
    assert_eq!(receive(&mut client, at(1), &out[..length]), []);
    assert_eq!(client.counters().unexpected, 1);
    assert_eq!(receive(&mut client, at(1), &finished), [Event::Established]);
    assert!(transmit(&mut client, at(1), 1200).is_empty());
}

#[test]
fn a_record_in_the_clear_of_another_version_is_dropped() {
    for version in [0xfefc_u16, 0xfefe, 0x0303] {
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        let mut request = message(3, 0, &[0xfe, 0xff, 1, 7]);
        request[1..3].copy_from_slice(&version.to_be_bytes());
        receive(&mut client, at(0), &request);
        assert_eq!(client.counters().unsupported, 1, "{version:04x}");
        assert!(transmit(&mut client, at(0), 1200).is_empty());
    }
}

#[test]
fn an_alert_that_no_server_sends_is_not_suspected() {
    for (alert, is_suspected) in [(30, false), (41, false), (60, false), (110, false), (40, true)] {
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        receive(&mut client, at(1), &record(21, 0, 1, &[2, alert]));
        assert_eq!(client.suspicion().is_some(), is_suspected, "{alert}");
    }
}

#[test]
fn a_change_cipher_spec_is_a_one_and_nothing_else() {
    for body in [&[][..], &[0], &[2], &[1, 1]] {
        let (mut server, flight, _) = waiting_server();
        server.answers_at_once = true;
        server.handle(at(1), &flight[0]);
        server.handle(at(1), &record(20, 0, 9, body));
        assert_eq!(server.handle(at(1), &flight[2]).0, [], "{body:?}");
        assert_eq!(server.handle(at(1), &flight[1]).0, [Event::Established]);
    }
}

#[test]
fn a_server_hello_beyond_what_was_sent_moves_nothing() {
    let mut client = new_client();
    transmit(&mut client, at(0), 1200);
    let hello = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0]].concat();
    for sequence in [1, 0] {
        receive(&mut client, at(0), &message(2, sequence, &hello));
    }
    receive(&mut client, at(0), &message(14, 1, &[]));
    assert_eq!(transmit(&mut client, at(0), 1200)[0][13], 16, "a ClientKeyExchange");
}

#[test]
fn an_extension_is_malformed_by_its_length_alone() {
    let cases: &[&[u8]] = &[
        &[0, 23, 0, 1, 0],
        #[cfg(feature = "cbc")]
        &[0, 22, 0, 1, 0],
        #[cfg(feature = "connection-id")]
        &[0, 61, 0, 1, 0],
        #[cfg(feature = "record-size-limit")]
        &[0, 28, 0, 3, 1, 0, 0],
        // Lists longer and shorter than what holds them, and half a number.
        #[cfg(feature = "ecdhe")]
        &[0, 10, 0, 4, 0, 3, 0, 23],
        #[cfg(feature = "ecdhe")]
        &[0, 10, 0, 4, 0, 0, 0, 23],
        #[cfg(feature = "ecdhe")]
        &[0, 10, 0, 5, 0, 3, 0, 23, 0],
        #[cfg(feature = "rpk")]
        &[0, 13, 0, 4, 0, 3, 4, 3],
        #[cfg(feature = "rpk")]
        &[0, 13, 0, 4, 0, 0, 4, 3],
        #[cfg(feature = "rpk")]
        &[0, 13, 0, 5, 0, 3, 4, 3, 4],
    ];
    for extension in cases {
        let mut server = Server::new(2);
        Hello { extensions: Some(extension.to_vec()), ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(server.refused, [dtls_psk::Reason::ProtocolViolation], "{extension:?}");
    }
}

/// What a client says to a ServerHello with these extensions.
#[cfg(any(feature = "ecdhe", feature = "connection-id"))]
fn answer_to_server_hello(client: &mut Client, extensions: &[u8]) -> Vec<Event> {
    let front = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0, 0]].concat();
    receive(client, at(0), &message(2, 0, &[&front[..], &[extensions.len() as u8], extensions].concat()))
}

#[cfg(feature = "ecdhe")]
#[test]
fn a_client_without_a_key_agreement_is_told_of_neither_groups_nor_forms_of_points() {
    for extension in [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 11, 0, 2, 1, 0]] {
        let refused = [Event::Closed(dtls_psk::Reason::UnofferedExtension)];
        assert_eq!(answer_to_server_hello(&mut new_client(), extension), refused);
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn an_id_of_more_than_16_bytes_ends_the_handshake_of_a_client() {
    use dtls_psk::{ConnectionId, Psk, Reason};
    let config = Config::DEFAULT.with_connection_id(ConnectionId::EMPTY);
    for (length, expected) in [(16, vec![]), (17, vec![Event::Closed(Reason::TooLong)])] {
        let mut client = client_with(&config, Psk { identity: IDENTITY, key: KEY }, 1);
        let extension = [&[0, 0x36, 0, length + 1, length][..], &vec![5; length.into()]].concat();
        assert_eq!(answer_to_server_hello(&mut client, &extension), expected, "{length}");
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn a_server_answers_a_return_routability_check_to_who_offers_it_where_it_is_configured() {
    let id = dtls_psk::ConnectionId::new(&[1]).unwrap();
    let (offers_id, offers_check) = (&[0, 0x36, 0, 1, 0][..], &[0, 0x3d, 0, 0][..]);
    for (is_configured, extensions, expected) in [
        (true, [offers_id, offers_check].concat(), true),
        (false, [offers_id, offers_check].concat(), false),
        (true, offers_id.to_vec(), false),
        (true, offers_check.to_vec(), false),
    ] {
        let config = Config::DEFAULT.with_connection_id(id).with_return_routability(is_configured);
        let mut server = Server { config, ..Server::new(2) };
        let answer = Hello { extensions: Some(extensions), ..Hello::new() }.send(&mut server, at(0));
        let is_answered = answer[0].windows(4).any(|window| window == offers_check);
        assert_eq!((is_answered, server.peer_any().is_path_checkable()), (expected, expected));
    }
}

#[cfg(feature = "rpk")]
mod of_signatures {
    use super::*;
    use crate::pair::*;
    use dtls_psk::{CertificateType, Reason, Suite};

    #[test]
    fn a_client_hello_fits_our_signature_and_both_kinds_of_certificates() {
        let none = vec![Reason::NoCommonSuite];
        for (algorithms, server_types, client_types, refused) in [
            (&[4, 3][..], &[1, 2][..], &[1, 2][..], vec![]),
            (&[4, 1, 4, 3], &[2, 7, 2], &[2, 7, 2], vec![]),
            // Other algorithms, and no whole one of ours.
            (&[4, 1, 5, 3], &[1, 2], &[1, 2], none.clone()),
            (&[1, 4, 3, 1], &[1, 2], &[1, 2], none.clone()),
            // Another kind for the server, for the client, and lists that are none.
            (&[4, 3], &[1, 0], &[1, 2], none.clone()),
            (&[4, 3], &[1, 2], &[1, 0], none.clone()),
            (&[4, 3], &[2, 2], &[1, 2], none.clone()),
            (&[4, 3], &[1, 2], &[1, 2, 2], none),
        ] {
            let extension = |number: u8, value: &[u8]| [&[0, number, 0, value.len() as u8], value].concat();
            let algorithms = [&[0, algorithms.len() as u8], algorithms].concat();
            let extensions = [(13, &algorithms[..]), (20, server_types), (19, client_types)];
            let extensions = extensions.map(|(number, value)| extension(number, value)).concat();
            let config = config_of(Suite::EcdheEcdsaAes128Ccm8, CertificateType::RawPublicKey);
            let mut server = Server { config, ..Server::new(2) };
            let (suites, extensions) = (vec![0xc0, 0xae, 0x00, 0xff], Some(extensions));
            let what = format!("{extensions:?}");
            Hello { suites, extensions, ..Hello::new() }.send(&mut server, at(0));
            assert_eq!(server.refused, refused, "{what}");
        }
    }

    #[test]
    fn a_certificate_verify_with_more_behind_it_is_nobodys() {
        for kind in TYPES {
            let mut pair = Pair::of(*kind);
            is_nobody(&changed(&mut pair, UP, CERTIFICATE_VERIFY, |body| body.push(0)));
            assert_eq!(pair.server.owner.asked, ["share", "present", "sign", "check"]);
            assert_eq!(pair.server.peer_any().counters().malformed, 1);
        }
    }

    #[test]
    fn a_certificate_request_with_lengths_that_do_not_fit_is_nobodys() {
        for request in [
            &[1, 64, 0, 2, 4, 3, 0, 0, 0][..],
            &[1, 64, 0, 3, 4, 3, 4, 0, 0],
            &[1, 64, 0, 2, 4, 3, 0, 1],
            &[2, 64, 0, 2, 4, 3, 0, 0],
            &[],
        ] {
            for kind in TYPES {
                let mut pair = Pair::of(*kind);
                let change = |body: &mut Vec<u8>| *body = request.to_vec();
                is_nobody(&changed(&mut pair, DOWN, CERTIFICATE_REQUEST, change));
                assert_eq!((&*pair.owner.asked, pair.client.counters().malformed), (&["check"][..], 1));
            }
        }
    }

    #[test]
    fn a_raw_public_key_with_more_behind_it_is_none() {
        let kind = CertificateType::RawPublicKey;
        for direction in [UP, DOWN] {
            let longer = |body: &mut Vec<u8>| {
                body.push(0);
                body[2] += 1;
            };
            let talk = changed(&mut Pair::of(kind), direction, CERTIFICATE, longer);
            is_refused(direction, &talk, Reason::UnsupportedKey, 43);
        }
    }

    #[test]
    fn a_certificate_request_has_one_place() {
        let request = &[1, 64, 0, 2, 4, 3, 0, 0];
        // Not in a handshake of pre-shared keys, behind the hint.
        let mut client = new_client();
        assert_eq!(answer_to_server_hello(&mut client, &[]), []);
        receive(&mut client, at(0), &message(12, 1, &[0, 0]));
        assert_eq!(receive(&mut client, at(0), &message(CERTIFICATE_REQUEST, 2, request)), []);
        assert_eq!(client.counters().unexpected, 1);
        for kind in TYPES {
            // Not in front of the server's signature, and not twice.
            for (places, asked) in [
                ([CERTIFICATE_REQUEST, SERVER_KEY_EXCHANGE, 14], &["check"][..]),
                ([SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, CERTIFICATE_REQUEST], &["check"]),
                ([SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, 14], &["check", "prove", "present", "sign"]),
            ] {
                let mut pair = Pair::of(*kind);
                let mut signed = Vec::new();
                pair.talk_with(|is_up, datagram| {
                    replaced(datagram, |code, body| {
                        if !is_up && code == SERVER_KEY_EXCHANGE {
                            signed = body.to_vec();
                        }
                        let place = [SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, 14].iter();
                        let place = place.zip(places).find(|(it, _)| !is_up && **it == code);
                        let Some((_, instead)) = place else { return Some((code, body.to_vec())) };
                        let body = match instead {
                            CERTIFICATE_REQUEST => request.to_vec(),
                            SERVER_KEY_EXCHANGE => signed.clone(),
                            _ => vec![],
                        };
                        Some((instead, body))
                    });
                    true
                });
                assert_eq!(pair.owner.asked, asked, "{places:?}");
                assert_eq!(pair.client.counters().unexpected > 0, asked.len() == 1, "{places:?}");
            }
        }
    }
}

#[cfg(feature = "rpk")]
#[test]
fn no_message_is_taken_while_the_owner_is_asked() {
    use crate::pair::{Pair, TYPES};
    for kind in TYPES {
        let Pair { mut client, mut owner, mut server } = Pair::of(*kind);
        talk_with(&mut client, &mut server, at(0), |_, _| true);
        owner.answer_one(&mut client, at(0));
        assert_eq!(owner.asked, ["check"]);
        // It waits for the proof; this has the number that is next.
        let unexpected = client.counters().unexpected;
        receive(&mut client, at(0), &message(14, 6, &[]));
        assert_eq!(client.counters().unexpected, unexpected + 1);
        owner.answer(&mut client, at(0));
        let talk = talk_with(&mut client, &mut server, at(0), |_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn nobody_is_challenged_before_the_finished() {
    let (mut client, mut server) = with_connection_ids(&Config::DEFAULT, &[], &[1; 6]);
    talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        if is_up && datagram[13] == 16 {
            // The ClientKeyExchange alone.
            datagram.truncate(13 + usize::from(datagram[12]));
        }
        true
    });
    // The keys are there.
    assert!(server.peer_any().suite().is_some() && server.peer_any().is_path_checkable());
    assert_eq!(server.peer_any().challenge_path([7; 8], &mut [0; 128]), None);
}

#[cfg(feature = "resumption")]
mod of_sessions {
    use super::*;
    use crate::resumption::{client_with_session, keeping_server, with_session};
    use dtls_psk::{Handshake, Resumption, Session};

    fn changed(session: &Session, change: impl Fn(&mut Vec<u8>)) -> Session {
        let mut bytes = [0; Session::LONGEST];
        let length = session.emit(&mut bytes).unwrap();
        let mut bytes = bytes[..length].to_vec();
        change(&mut bytes);
        Session::parse(&bytes).unwrap()
    }

    /// Whether a server that is told to goes on with `session` for a client that names `id`.
    fn is_taken_up(session: &Session, id: &[u8]) -> bool {
        is_taken_up_with(&Config::DEFAULT, Hello::new().suites, session, id)
    }

    /// The same with other suites on either side.
    fn is_taken_up_with(config: &Config, suites: Vec<u8>, session: &Session, id: &[u8]) -> bool {
        let mut random = Random(7);
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        let mut jar = CookieJar::new(at(0), &mut rng);
        let mut out = [0; REPLY_MAX];
        let mut hello = Hello { session_id: id.to_vec(), suites, ..Hello::new() };
        let length = match jar.accept(at(0), config, &mut rng, ADDRESS, &hello.datagram(0), &mut out) {
            Accepted::Reply(length) => length,
            other => panic!("{other:?}"),
        };
        hello.cookie = out[28..length].to_vec();
        let datagram = hello.datagram(1);
        let Accepted::Verified(hello) =
            jar.accept(at(0), config, &mut rng, ADDRESS, &datagram, &mut [0; REPLY_MAX])
        else {
            panic!("the cookie is good")
        };
        let memory = Box::new(Handshake::new());
        let resumption = Resumption::Accept(session);
        let mut peer = Peer::resuming_server(at(0), config, &hello, resumption, &mut rng, memory).unwrap();
        records_of(&transmit(&mut peer, at(0), 1200)[0]).len() == 3
    }

    #[test]
    fn a_server_goes_on_with_no_session_but_the_one_that_is_named() {
        let (_, session) = with_session();
        assert!(is_taken_up(&session, session.id()));
        assert!(!is_taken_up(&session, &[7; 8]));
        assert!(!is_taken_up(&session, &[]));
        let without_id = changed(&session, |bytes| {
            bytes.truncate(53);
            bytes[52] = 0;
        });
        assert!(!is_taken_up(&without_id, &[]));
        let all = Config::DEFAULT.with_suites(dtls_psk::Suites::PSK);
        let offered =
            |suite: &dtls_psk::Suite| [Hello::new().suites, suite.code().to_be_bytes().to_vec()].concat();
        for suite in dtls_psk::Suites::PSK.as_slice().iter().filter(|suite| **suite != session.suite()) {
            let other = changed(&session, |bytes| bytes[1..3].copy_from_slice(&suite.code().to_be_bytes()));
            let with = |config, suites| is_taken_up_with(config, suites, &other, session.id());
            assert!(with(&all, offered(suite)), "{suite:?}");
            assert!(!with(&all, Hello::new().suites), "{suite:?} is not offered any more");
            assert!(!with(&Config::DEFAULT, offered(suite)), "{suite:?} is not taken any more");
        }
    }

    #[test]
    fn a_session_without_an_id_is_not_offered() {
        let (mut server, session) = with_session();
        server.peers.clear();
        server.sessions = None;
        let session = changed(&session, |bytes| {
            bytes.truncate(53);
            bytes[52] = 0;
        });
        let mut client = client_with_session(at(0), Some(&session), 3);
        assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
    }

    #[test]
    fn a_session_is_not_to_be_had_before_the_peer_has_proven_itself() {
        let mut server = keeping_server();
        server.answers_at_once = false;
        let mut client = client_with_session(at(0), None, 1);
        let mut flight = Vec::new();
        talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            let is_key_exchange = is_up && datagram[13] == 16;
            if is_key_exchange {
                flight = records_of(datagram);
            }
            !is_key_exchange
        });
        server.handle(at(1), &flight[0]);
        let (id, identity) = server.asked.remove(0);
        assert_eq!(server.provide(at(1), 0, id, &identity), None);
        assert_eq!(server.peer_any().take_session(), None);
        server.handle(at(1), &flight[1]);
        server.handle(at(1), &flight[2]);
        assert_eq!(server.sessions.map(|made| made.len()), Some(1));
    }
}
