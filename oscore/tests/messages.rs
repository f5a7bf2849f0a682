//! Messages between two ends: what is hidden and what is seen, replays, forgeries, order and restarts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::{Came, End, ends, get, observe, parameters, random, standing, store, stored};
use lwm2m_coap::{Code, Delivery, Ignored, OptionNumber, SendError, Writer, protect::Unprotectable, udp};
use oscore::{OscoreOption, SenderSequence, Session, Standing};
use proptest::prelude::*;

// RFC 8613 §4: any message comes out as it went in; outside are only the options for those on the way.
proptest! {
    #[test]
    fn every_message_arrives_as_it_was_and_shows_nothing(
        mut options in prop::collection::vec(
            (
                prop::sample::select(vec![1_u16, 3, 4, 6, 7, 8, 11, 12, 14, 15, 16, 17, 20, 23, 27, 28, 39, 60, 252, 258, 292]),
                prop::collection::vec(1..=255_u8, 1..4),
            ),
            0..10,
        ),
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        options.sort();
        options.dedup_by_key(|(number, _)| *number);
        if let Some((_, value)) = options.iter_mut().find(|(number, _)| *number == 6) {
            *value = Vec::new();
        }
        options.retain(|(number, value)| !matches!(number, 7 | 17) || value.len() <= 2);
        let (mut near, mut far) = ends();
        let write = |writer: &mut Writer<'_>| {
            for (number, value) in &options {
                writer.option(OptionNumber(*number), value).unwrap();
            }
            writer.payload(&payload).unwrap();
        };
        let (_, datagram) = near.request(Code::PUT, write).unwrap();
        let (_, outer) = udp::parse(&datagram).unwrap();
        let seen: Vec<u16> = outer.options.iter().map(|(number, _)| number.0).collect();
        let outside = |number: &u16| matches!(number, 3 | 6 | 7 | 16 | 39);
        let mut expected: Vec<u16> = options.iter().map(|(number, _)| *number).filter(outside).chain([9]).collect();
        expected.sort_unstable();
        prop_assert_eq!(seen, expected);
        let observes = options.iter().any(|(number, _)| *number == 6);
        prop_assert_eq!(outer.code, if observes { Code::FETCH } else { Code::POST });

        let inside: Vec<_> = options.iter().filter(|(number, _)| *number == 6 || !outside(number)).cloned().collect();
        let outside_proxy = options.iter().any(|(number, _)| *number == 39);
        match far.handle(&datagram) {
            Came::Request { code, options, payload: came, .. } => {
                prop_assert_eq!((code, options, came), (Code::PUT, inside, payload));
            }
            // This end is no proxy.
            Came::Ignored(Ignored::Refused) => prop_assert!(outside_proxy),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

// RFC 8613 §7.4
#[test]
fn a_replayed_request_is_refused_and_a_late_one_is_not() {
    let (mut near, mut far) = ends();
    let requests: Vec<_> = (0..3).map(|_| near.request(Code::POST, get).unwrap().1).collect();
    far.expect_request(&requests[2]);
    far.expect_request(&requests[0]);
    for request in [&requests[0], &requests[2]] {
        let mut replay = request.clone();
        replay[3] ^= 0x80;
        assert!(matches!(far.handle(&replay), Came::Ignored(Ignored::Refused)));
    }
    far.expect_request(&requests[1]);
}

// RFC 8613 §8.2: a Confirmable request hears why it was refused, without protection and out of caches.
#[test]
fn what_does_not_verify_is_answered_in_the_clear_and_changes_nothing() {
    let (mut near, mut far) = ends();
    let (_, mut genuine) = near.request(Code::POST, get).unwrap();
    genuine[0] &= 0xcf; // Confirmable
    let before = format!("{:?}", far.session);
    let mut no_kid = genuine.clone();
    // Token of one byte; then the OSCORE option of flags, Partial IV and kid.
    assert_eq!(no_kid[5..9], [0x93, 0x09, 0x00, 0x0a]);
    no_kid[6] = 0x01;
    let mut other_kid = genuine.clone();
    other_kid[8] = 0x0b;
    let mut reserved = genuine.clone();
    reserved[6] = 0x89;
    let mut flipped = genuine.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let bare = [&genuine[..5], b"\xb13"].concat();
    for (number, (datagram, code)) in [
        (no_kid, Code::BAD_OPTION),
        (reserved, Code::BAD_OPTION),
        (other_kid, Code::UNAUTHORIZED),
        (bare, Code::UNAUTHORIZED),
        (flipped, Code::BAD_REQUEST),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(matches!(far.handle(&datagram), Came::Ignored(Ignored::Refused)), "{number}");
        let answer = far.due().unwrap();
        let (_, message) = udp::parse(&answer).unwrap();
        assert_eq!(message.code, code, "{number}");
        assert_eq!(message.options.iter().collect::<Vec<_>>(), [(OptionNumber::MAX_AGE, &[][..])]);
    }
    let after = format!("{:?}", far.session);
    assert_eq!(before.replace("failures: 0", ""), after.replace("failures: 1", ""));
    far.expect_request(&genuine);
}

#[test]
fn no_flipped_bit_of_a_protected_message_is_accepted() {
    let (mut near, mut far) = ends();
    let (_, request) = near.request(Code::POST, observe).unwrap();
    // Behind header and token: outer Observe is for those on the way, and may change.
    let marker = request.iter().position(|byte| *byte == 0xff).unwrap();
    for at in marker + 1..request.len() {
        for bit in 0..8 {
            let mut forged = request.clone();
            forged[at] ^= 1 << bit;
            assert!(matches!(far.handle(&forged), Came::Ignored(Ignored::Refused)));
        }
    }
    let (mut exchange, _) = far.expect_request(&request);
    let response = far.respond(&mut exchange, Code::CHANGED, |_| {});
    let marker = response.iter().position(|byte| *byte == 0xff).unwrap();
    for at in marker + 1..response.len() {
        let mut forged = response.clone();
        forged[at] ^= 1;
        assert!(matches!(near.handle(&forged), Came::Ignored(Ignored::Refused)));
    }
    assert_eq!(near.expect_response(&response).0, Code::CHANGED);
}

// RFC 8613 §8.2: what is found out after decryption is answered with protection.
#[test]
fn an_unknown_critical_option_inside_is_refused_under_protection() {
    let (mut near, mut far) = ends();
    let odd = |writer: &mut Writer<'_>| {
        get(writer);
        writer.option(OptionNumber(65001), b"x").unwrap();
    };
    let (_, unheard) = near.request(Code::GET, odd).unwrap();
    let number = OptionNumber(65001);
    assert!(matches!(far.handle(&unheard), Came::Ignored(Ignored::BadOption(odd)) if odd == number));
    assert_eq!(far.due(), None);

    near.delivery = Delivery::Confirmable;
    let (_, request) = near.request(Code::GET, odd).unwrap();
    let Came::Unacceptable { mut exchange, number } = far.handle(&request) else { panic!() };
    let refusal = far.respond(&mut exchange, number.refused_with(), |writer| {
        writer.payload(&number.diagnostic()).unwrap();
    });
    assert_eq!(near.expect_response(&refusal), (Code::BAD_OPTION, b"option 65001".to_vec()));
    assert!(matches!(far.handle(&request), Came::Duplicate));
}

// RFC 7252 §4.5 lets an idempotent request be executed again whose answer is too long to be kept. Under object security it is a
// replay, so it has to be safe, and the new answer has a nonce of its own.
#[test]
fn a_read_is_answered_anew_when_its_long_answer_was_lost() {
    let (mut near, mut far) = ends();
    near.delivery = Delivery::Confirmable;
    let (_, request) = near.request(Code::GET, get).unwrap();
    let answer = |far: &mut End, payload: &[u8]| {
        let (mut exchange, code) = far.expect_request(&request);
        assert_eq!((code, standing(&exchange)), (Code::GET, Standing::Fresh));
        far.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(payload).unwrap())
    };
    let lost = answer(&mut far, &[1; 1250]);
    let again = answer(&mut far, &[2; 1250]);
    let number = |datagram: &[u8]| {
        let (_, message) = udp::parse(datagram).unwrap();
        let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
        option.partial_iv.map(|partial_iv| partial_iv.sequence())
    };
    assert_eq!((number(&lost), number(&again)), (None, Some(0)));
    // Under another message id it is a replay.
    let mut replay = request.clone();
    replay[3] ^= 1;
    assert!(matches!(far.handle(&replay), Came::Ignored(Ignored::Refused)));
    assert_eq!(near.expect_response(&again), (Code::CONTENT, vec![2; 1250]));

    // What changes something is not executed again, whatever it was answered.
    let (_, request) = near.request(Code::PUT, get).unwrap();
    let (mut exchange, _) = far.expect_request(&request);
    far.respond(&mut exchange, Code::CHANGED, |writer| writer.payload(&[3; 1250]).unwrap());
    assert!(matches!(far.handle(&request), Came::Ignored(Ignored::Refused)));
}

#[test]
fn a_request_that_cannot_be_remembered_can_come_again() {
    let (mut near, mut far) = ends();
    near.delivery = Delivery::Confirmable;
    let mut exchanges: Vec<_> = (0..8)
        .map(|_| {
            let (_, request) = near.request(Code::GET, get).unwrap();
            near.peer.fail_all();
            while near.peer.poll_event(near.now).is_some() {}
            far.expect_request(&request).0
        })
        .collect();
    let (_, late) = near.request(Code::GET, get).unwrap();
    assert!(matches!(far.handle(&late), Came::Ignored(Ignored::Busy)));
    let busy = far.due().unwrap();
    assert_eq!(udp::parse(&busy).unwrap().1.code, Code::SERVICE_UNAVAILABLE);
    far.respond(&mut exchanges.pop().unwrap(), Code::CONTENT, |_| {});
    far.expect_request(&late);
}

// RFC 8613 §8.3, §8.4: a response goes with one request only.
#[test]
fn a_response_does_not_go_with_another_request() {
    let (mut near, mut far) = ends();
    let (first, one) = near.request(Code::GET, get).unwrap();
    let (second, other) = near.request(Code::GET, get).unwrap();
    let (mut exchange, _) = far.expect_request(&one);
    let mut answer = far.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(b"one").unwrap());
    assert_eq!(answer[4..5], *first.bytes());
    answer[4..5].copy_from_slice(second.bytes());
    assert!(matches!(near.handle(&answer), Came::Ignored(Ignored::Refused)));
    let (mut exchange, _) = far.expect_request(&other);
    let answer = far.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(b"other").unwrap());
    assert_eq!(near.expect_response(&answer), (Code::CONTENT, b"other".to_vec()));
}

#[test]
fn an_error_without_protection_is_a_hint_and_no_answer() {
    let (mut near, _) = ends();
    let (token, _) = near.request(Code::GET, get).unwrap();
    let spoofed = [&[0x51, 0x81, 0, 7][..], token.bytes()].concat();
    assert!(matches!(near.handle(&spoofed), Came::Ignored(Ignored::Refused)));
    assert_eq!(near.session.hint(), Some(Code::UNAUTHORIZED));
    let content = [&[0x51, 0x45, 0, 8][..], token.bytes(), b"\xffforged"].concat();
    assert!(matches!(near.handle(&content), Came::Ignored(Ignored::Refused)));
}

// RFC 8613 §4.1.3.5, §7.4.1: each notification has a number of its own, by which they are ordered.
#[test]
fn notifications_are_numbered_ordered_and_never_repeated() {
    let (mut server, mut device) = ends();
    let (token, request) = server.request(Code::GET, observe).unwrap();
    assert_eq!(udp::parse(&request).unwrap().1.code, Code::FETCH);
    let (mut exchange, _) = device.expect_request(&request);
    let observer = exchange.observer();
    let first = device.respond(&mut exchange, Code::CONTENT, |writer| {
        writer.observe(1).unwrap();
        writer.payload(b"20").unwrap();
    });
    let Came::Response { options, payload, .. } = server.handle(&first) else { panic!() };
    assert_eq!((options, &payload[..]), (vec![(6, vec![0, 0, 0])], &b"20"[..]));

    let sent: Vec<_> = (0..4_u8)
        .map(|number| device.notify(&observer, Delivery::NonConfirmable, &[b'a' + number]))
        .collect();
    for (number, notification) in sent.iter().enumerate() {
        let (_, outer) = udp::parse(notification).unwrap();
        let option = OscoreOption::parse(outer.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
        assert_eq!((outer.code, outer.token), (Code::CONTENT, token));
        assert_eq!(option.partial_iv.unwrap().sequence(), u64::try_from(number).unwrap());
    }
    let Came::Notification { number, payload } = server.handle(&sent[1]) else { panic!() };
    assert_eq!((number, &payload[..]), (Some(1), &b"b"[..]));
    let Came::Notification { number, .. } = server.handle(&sent[3]) else { panic!() };
    assert_eq!(number, Some(3));
    // Late, early and repeated ones are authentic and old.
    for old in [&sent[0], &sent[2], &sent[3]] {
        assert!(matches!(server.handle(old), Came::Ignored(Ignored::Refused)));
        assert_eq!(server.due(), None);
        let mut confirmable = old.clone();
        confirmable[0] &= 0xcf;
        assert!(matches!(server.handle(&confirmable), Came::Ignored(Ignored::Refused)));
        assert_eq!(server.due().unwrap(), [0x60, 0, old[2], old[3]]);
    }
    // Of no observation: rejected.
    let mut stray = sent[3].clone();
    stray[0] &= 0xcf;
    stray[4] ^= 0x40;
    assert!(matches!(server.handle(&stray), Came::Ignored(Ignored::Refused)));
    assert_eq!(server.due().unwrap(), [0x70, 0, stray[2], stray[3]]);
}

// RFC 7641 §3.2: a notification without Observe is the last; it is authentic and numbered like the others.
#[test]
fn the_last_notification_says_that_the_observation_has_ended() {
    let (mut server, mut device) = ends();
    let (_, request) = server.request(Code::GET, observe).unwrap();
    let (mut exchange, _) = device.expect_request(&request);
    let observer = exchange.observer();
    let first = device.respond(&mut exchange, Code::CONTENT, |writer| {
        writer.observe(1).unwrap();
    });
    server.handle(&first);
    let earlier = device.notify(&observer, Delivery::NonConfirmable, b"20");
    let last = device.end(&observer, Code::NOT_FOUND);
    assert_eq!(udp::parse(&last).unwrap().1.options.observe(), None);
    let Came::Notification { number: None, payload } = server.handle(&last) else { panic!() };
    assert!(payload.is_empty());
    assert!(matches!(server.handle(&earlier), Came::Ignored(Ignored::Refused)));
    // Who takes the outer Observe off cannot end one.
    let notification = device.notify(&observer, Delivery::NonConfirmable, b"21");
    let mut stripped = notification;
    assert_eq!((stripped[5], stripped[6]), (0x61, 77));
    stripped.drain(5..7);
    stripped[5] = 0x92;
    let Came::Notification { number: Some(_), .. } = server.handle(&stripped) else { panic!() };
}

// RFC 8613 §4.1.3.5.1: who is on the way and takes the outer Observe off makes a plain request, or response, of it.
#[test]
fn an_observation_needs_both_observe_options() {
    let (mut server, mut device) = ends();
    let (_, request) = server.request(Code::GET, observe).unwrap();
    // Outer: Observe (delta 6, no value), OSCORE (delta 3).
    assert_eq!(request[5..7], [0x60, 0x33]);
    let mut stripped = request.clone();
    stripped.remove(5);
    stripped[5] = 0x93;
    let Came::Request { mut exchange, options, .. } = device.handle(&stripped) else { panic!() };
    assert!(options.iter().all(|(number, _)| *number != 6), "{options:?}");
    let answer = device.respond(&mut exchange, Code::CONTENT, |writer| {
        writer.observe(0).unwrap();
        writer.payload(b"20").unwrap();
    });
    let mut stripped = answer.clone();
    let at = 5;
    assert_eq!(stripped[at..at + 2], [0x60, 0x30]);
    stripped.remove(at);
    stripped[at] = 0x90;
    let Came::Response { options, payload, .. } = server.handle(&stripped) else { panic!() };
    assert_eq!((options, &payload[..]), (vec![], &b"20"[..]));
    assert!(server.observations.is_empty());
}

// RFC 8613 Appendix B.1: after a restart, numbers go on behind what storage knew of, and a request has to prove that it is
// fresh. What answers it before has a number of its own: it may have been answered before the restart.
#[test]
fn a_restarted_end_repeats_no_number_and_carries_out_no_old_request() {
    let (mut near, far) = ends();
    let (_, old) = near.request(Code::POST, get).unwrap();
    drop(far);
    let server = parameters(&[0x5b], &[0x0a]);
    let session = Session::restored(&server, &stored(SenderSequence::STEP), random(3));
    let mut far = End::with(server, session, 3);
    assert!(
        far.request(Code::GET, get)
            .is_err_and(|error| error == SendError::Protect(Unprotectable::NoSequence))
    );
    assert_eq!(store(&mut far.session), Some(stored(2 * SenderSequence::STEP)));

    let (mut exchange, _) = far.expect_request(&old);
    assert_eq!(standing(&exchange), Standing::Unproven);
    let challenge = far.challenge(&mut exchange);
    let (_, outer) = udp::parse(&challenge).unwrap();
    let option = OscoreOption::parse(outer.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
    assert_eq!(option.partial_iv.unwrap().sequence(), SenderSequence::STEP);
    let Came::Response { code: Code::UNAUTHORIZED, options, .. } = near.handle(&challenge) else { panic!() };
    let echo = options.into_iter().find(|(number, _)| *number == OptionNumber::ECHO.0).unwrap().1;

    let with_echo = |near: &mut End, echo: &[u8]| {
        let (_, datagram) = near
            .request(Code::POST, |writer| {
                get(writer);
                writer.option(OptionNumber::ECHO, echo).unwrap();
            })
            .unwrap();
        datagram
    };
    let wrong = with_echo(&mut near, b"something else");
    let (exchange, _) = far.expect_request(&wrong);
    assert_eq!(far.session.recover(*exchange.binding(), far.now, Some(b"something else")), None);
    let again = with_echo(&mut near, &echo);
    let (mut exchange, _) = far.expect_request(&again);
    assert_eq!(standing(&exchange), Standing::Unproven);
    let unproven = *exchange.binding();
    exchange.set_binding(far.session.recover(unproven, far.now, Some(&echo)).unwrap());
    assert_eq!(standing(&exchange), Standing::Fresh);
    // Each request once, however often it was proved.
    assert_eq!(far.session.recover(unproven, far.now, Some(&echo)), None);
    let answer = far.respond(&mut exchange, Code::CHANGED, |_| {});
    assert_eq!(near.expect_response(&answer).0, Code::CHANGED);
    // What one session made means nothing to the next one of the same keys.
    let server = parameters(&[0x5b], &[0x0a]);
    let mut next = Session::restored(&server, &stored(2 * SenderSequence::STEP), random(4));
    assert_eq!(next.recover(unproven, far.now, Some(&echo)), None);
    // From now on replays are known, older requests too.
    for replay in [&again, &old] {
        let mut replay = replay.clone();
        replay[3] ^= 0x40;
        assert!(matches!(far.handle(&replay), Came::Ignored(Ignored::Refused)));
    }
    let (_, fresh) = near.request(Code::POST, get).unwrap();
    assert_eq!(standing(&far.expect_request(&fresh).0), Standing::Fresh);
}

// Who only answers takes no number; so that a restart knows of it, it takes no request before a first bound is stored.
#[test]
fn no_request_is_taken_with_keys_that_storage_does_not_know_of() {
    let (mut near, _) = ends();
    let server = parameters(&[0x5b], &[0x0a]);
    let mut far = End::with(server.clone(), Session::new(&server, random(5)), 5);
    let (_, request) = near.request(Code::POST, get).unwrap();
    assert!(matches!(far.handle(&request), Came::Ignored(Ignored::Refused)));
    store(&mut far.session);
    far.expect_request(&request);
}

// RFC 8613 §8.2, §4.1.3.4: what stands outside is looked at before anything is decrypted.
#[test]
fn outer_options_that_this_end_cannot_serve_are_refused() {
    let (mut near, mut far) = ends();
    let (_, genuine) = near.request(Code::POST, get).unwrap();
    let marker = genuine.iter().position(|byte| *byte == 0xff).unwrap();
    for (option, code) in [
        // Proxy-Scheme (39), Block1 (27), another OSCORE option, 65001.
        (&[0xd0, 39 - 9 - 13][..], Code::PROXYING_NOT_SUPPORTED),
        (&[0xd0, 27 - 9 - 13], Code::BAD_OPTION),
        (&[0x00], Code::BAD_OPTION),
        (&[0xe0, 0xfc, 0xd3], Code::BAD_OPTION),
    ] {
        let mut datagram = [&genuine[..marker], option, &genuine[marker..]].concat();
        datagram[0] &= 0xcf;
        assert!(matches!(far.handle(&datagram), Came::Ignored(Ignored::Refused)));
        assert_eq!(udp::parse(&far.due().unwrap()).unwrap().1.code, code, "{option:02x?}");
    }
    far.expect_request(&genuine);
}

// RFC 8613 §4.1.3.5: an answer to what registers nothing is no observation.
#[test]
fn only_what_registers_is_observed() {
    let (mut server, mut device) = ends();
    let (_, request) = server
        .request(Code::GET, |writer| {
            writer.observe(1).unwrap();
            get(writer);
        })
        .unwrap();
    let (mut exchange, _) = device.expect_request(&request);
    let answer = device.respond(&mut exchange, Code::CONTENT, |writer| {
        writer.observe(7).unwrap();
    });
    let Came::Response { options, .. } = server.handle(&answer) else { panic!() };
    assert!(options.is_empty() && server.observations.is_empty());
    // Nor what there is no room to observe.
    for place in 0..3 {
        let (_, request) = server.request(Code::GET, observe).unwrap();
        let (mut exchange, _) = device.expect_request(&request);
        let answer = device.respond(&mut exchange, Code::CONTENT, |writer| {
            writer.observe(7).unwrap();
        });
        let Came::Response { options, .. } = server.handle(&answer) else { panic!() };
        assert_eq!(options.is_empty(), place == 2);
    }
}

#[test]
fn no_message_goes_out_under_a_number_that_is_not_reserved() {
    let (mut near, mut far) = ends();
    for _ in 0..SenderSequence::STEP {
        let (_, datagram) = near.request(Code::GET, get).unwrap();
        let (mut exchange, _) = far.expect_request(&datagram);
        let answer = far.respond(&mut exchange, Code::CONTENT, |_| {});
        near.expect_response(&answer);
    }
    let refused = near.request(Code::GET, get).unwrap_err();
    assert_eq!(refused, SendError::Protect(Unprotectable::NoSequence));
    // An answer needs no number of its own.
    assert_eq!(far.session.context().sequence().next(), 0);
    near.session.saved(&stored(SenderSequence::STEP + 1));
    near.request(Code::GET, get).unwrap();
}

// RFC 8613 §4.1.3.3
#[test]
fn a_proxy_uri_would_show_the_path_and_is_refused() {
    let (mut near, _) = ends();
    let refused = near.request(Code::GET, |writer| {
        writer.option(OptionNumber::PROXY_URI, b"coap://other/secret").unwrap();
    });
    assert_eq!(refused.unwrap_err(), SendError::Protect(Unprotectable::Exposed));
}

// Bytes on air (RFC 8613 §6): with 1-byte ids and a 1-byte Partial IV.
#[test]
fn protection_costs_what_it_must() {
    let (mut server, mut device) = ends();
    let plain = |options: usize, payload: usize| 4 + 1 + options + if payload > 0 { 1 + payload } else { 0 };
    let (_, request) = server.request(Code::GET, get).unwrap();
    assert_eq!(request.len(), plain(6, 0) + 14);
    let (mut exchange, _) = device.expect_request(&request);
    let response = device.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(b"21.5").unwrap());
    assert_eq!(response.len(), plain(0, 4) + 11);
    let (_, request) = server.request(Code::GET, observe).unwrap();
    let (exchange, _) = device.expect_request(&request);
    let notification = device.notify(&exchange.observer(), Delivery::NonConfirmable, b"21.5");
    assert_eq!(notification.len(), plain(2, 4) + 14);
}
