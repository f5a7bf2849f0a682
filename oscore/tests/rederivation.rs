//! RFC 8613 Appendix B.2: new keys from random numbers of both ends, in both roles; what is replayed or out of order leads
//! nowhere.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::{Came, End, ends, get, observe, parameters, random, standing, store, stored};
use lwm2m_coap::protect::Unprotectable;
use lwm2m_coap::{Code, Delivery, Ignored, Instant, OptionNumber, SendError, udp};
use oscore::{OscoreOption, Session, Standing};

fn kid_context(datagram: &[u8]) -> Option<Vec<u8>> {
    let (_, message) = udp::parse(datagram).unwrap();
    let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
    option.kid_context.map(|context| context.bytes().to_vec())
}

/// A device that lost its state, and a server that knows it; both may replace keys.
fn rederiving() -> (End, End) {
    let (mut device, mut server) = ends();
    (device.rederives, server.rederives) = (true, true);
    (device, server)
}

/// Request 1 and its answer.
fn first_half(device: &mut End, server: &mut End) -> (Vec<u8>, Vec<u8>) {
    device.rederive();
    let (_, one) = device.request(Code::POST, get).unwrap();
    let (mut exchange, _) = server.expect_request(&one);
    assert_eq!(standing(&exchange), Standing::Rederiving);
    let answer = server.respond(&mut exchange, Code::UNAUTHORIZED, |_| {});
    (one, answer)
}

fn second_half(device: &mut End, server: &mut End, answer: &[u8]) -> Vec<u8> {
    assert!(device.session.is_rederiving());
    assert_eq!(device.expect_response(answer).0, Code::UNAUTHORIZED);
    assert!(device.session.is_rederiving());
    let (_, two) = device.request(Code::POST, get).unwrap();
    let (mut exchange, _) = server.expect_request(&two);
    assert_eq!(standing(&exchange), Standing::Fresh);
    let answer = server.respond(&mut exchange, Code::CHANGED, |_| {});
    assert_eq!(device.expect_response(&answer).0, Code::CHANGED);
    assert!(!device.session.is_rederiving() && device.session.is_confirmed());
    two
}

/// Both ends have the same keys, for each direction.
fn talk(device: &mut End, server: &mut End) {
    ask(device, server);
    ask(server, device);
}

fn ask(near: &mut End, far: &mut End) {
    let (_, request) = near.request(Code::GET, get).unwrap();
    assert_eq!(kid_context(&request), None);
    let (mut exchange, _) = far.expect_request(&request);
    let answer = far.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(b"20").unwrap());
    assert_eq!(near.expect_response(&answer), (Code::CONTENT, b"20".to_vec()));
}

#[test]
fn a_client_that_lost_its_state_gets_new_keys_in_two_round_trips() {
    let (mut device, mut server) = rederiving();
    talk(&mut device, &mut server);
    let (one, answer) = first_half(&mut device, &mut server);
    let r1 = kid_context(&one).unwrap();
    let r2 = kid_context(&answer).unwrap();
    // Each is a CBOR byte string, of 8 and of 16 bytes.
    assert_eq!((r1.len(), r1.first(), r2.len(), r2.first()), (9, Some(&0x48), 17, Some(&0x50)));
    let two = second_half(&mut device, &mut server, &answer);
    let id = kid_context(&two).unwrap();
    assert_eq!((id.len(), &id[..2], &id[2..18]), (26, &[0x58, 24][..], &r2[1..]));
    assert_ne!(&id[18..], &r1[1..]);
    assert_eq!(device.session.context().id_context(), Some(&id[2..]));
    assert_eq!(server.session.context().id_context(), Some(&id[2..]));
    talk(&mut device, &mut server);
    // Again, from there.
    let (_, answer) = first_half(&mut device, &mut server);
    second_half(&mut device, &mut server, &answer);
    talk(&mut device, &mut server);
}

#[test]
fn a_server_that_wants_new_keys_answers_any_request_with_its_number() {
    let (mut device, mut server) = rederiving();
    server.session.renew();
    let (_, request) = device.request(Code::POST, get).unwrap();
    assert_eq!(kid_context(&request), None);
    let (mut exchange, _) = server.expect_request(&request);
    assert_eq!(standing(&exchange), Standing::Rederiving);
    let answer = server.respond(&mut exchange, Code::UNAUTHORIZED, |_| {});
    assert!(!device.session.is_rederiving());
    assert_eq!(device.expect_response(&answer).0, Code::UNAUTHORIZED);
    assert!(device.session.is_rederiving());
    let (_, two) = device.request(Code::POST, get).unwrap();
    let (mut exchange, _) = server.expect_request(&two);
    assert_eq!(standing(&exchange), Standing::Fresh);
    let answer = server.respond(&mut exchange, Code::CHANGED, |_| {});
    device.expect_response(&answer);
    talk(&mut device, &mut server);
}

// An attacker who recorded a whole run.
#[test]
fn what_is_replayed_changes_nothing() {
    let (mut device, mut server) = rederiving();
    let (one, answer) = first_half(&mut device, &mut server);
    let two = second_half(&mut device, &mut server, &answer);
    let id = server.session.context().id_context().unwrap().to_vec();

    // Request 1: answered with a number that only the client could use, under keys of its own.
    let mut replay = one.clone();
    replay[3] ^= 0x40;
    let (mut exchange, _) = server.expect_request(&replay);
    assert_eq!(standing(&exchange), Standing::Rederiving);
    let other = server.respond(&mut exchange, Code::UNAUTHORIZED, |_| {});
    assert_ne!(kid_context(&other), kid_context(&answer));
    assert!(matches!(device.handle(&other), Came::Ignored(Ignored::Refused)));
    // Request 2: of the current keys, so the window knows it.
    let mut replay = two.clone();
    replay[3] ^= 0x40;
    assert!(matches!(server.handle(&replay), Came::Ignored(Ignored::Refused)));
    assert_eq!(server.session.context().id_context(), Some(&id[..]));
    talk(&mut device, &mut server);

    // After another run, the old request 2 has an R2 that comes before the current one.
    server.now = Instant::from_millis(10);
    let (_, answer) = first_half(&mut device, &mut server);
    second_half(&mut device, &mut server, &answer);
    let mut replay = two;
    replay[3] ^= 0x20;
    match server.handle(&replay) {
        Came::Request { exchange, .. } => assert_eq!(standing(&exchange), Standing::Rederiving),
        other => panic!("{other:?}"),
    }
    talk(&mut device, &mut server);
}

// An end that is both client and server of this: what it does as a client does not make a used number good again.
#[test]
fn a_used_number_stays_used_when_the_server_has_keys_made_as_a_client() {
    let (mut device, mut server) = rederiving();
    let (_, answer) = first_half(&mut device, &mut server);
    let two = second_half(&mut device, &mut server, &answer);
    server.rederive();
    let mut replay = two;
    replay[3] ^= 0x40;
    let (exchange, _) = server.expect_request(&replay);
    assert_eq!(standing(&exchange), Standing::Rederiving);
}

#[test]
fn a_number_is_good_for_a_minute_and_for_one_client() {
    let (mut device, mut server) = rederiving();
    let (_, answer) = first_half(&mut device, &mut server);
    device.expect_response(&answer);
    let (_, two) = device.request(Code::POST, get).unwrap();
    server.now = Instant::from_millis(60_001);
    // As good as request 1: nothing is carried out.
    assert_eq!(standing(&server.expect_request(&two).0), Standing::Rederiving);
    // To another session it is as good as request 1 too.
    let mut foreign = End::new(parameters(&[0x5b], &[0x0a]), 77);
    foreign.rederives = true;
    assert_eq!(standing(&foreign.expect_request(&two).0), Standing::Rederiving);
}

#[test]
fn a_forged_request_derives_keys_and_changes_nothing() {
    let (mut device, mut server) = rederiving();
    device.rederive();
    let (_, one) = device.request(Code::POST, get).unwrap();
    let mut forged = one.clone();
    *forged.last_mut().unwrap() ^= 1;
    let before = format!("{:?}", server.session);
    assert!(matches!(server.handle(&forged), Came::Ignored(Ignored::Refused)));
    assert_eq!(format!("{:?}", server.session), before);
    // Without leave to derive, the same for the genuine one.
    server.rederives = false;
    assert!(matches!(server.handle(&one), Came::Ignored(Ignored::Refused)));
    assert_eq!(format!("{:?}", server.session), before);
    server.rederives = true;
    assert_eq!(standing(&server.expect_request(&one).0), Standing::Rederiving);
}

// A spoofer who knows the ids cannot have keys derived without end; what is turned away hears 5.03 and comes again.
#[test]
fn keys_are_derived_for_so_many_requests_a_second() {
    let (mut device, mut server) = rederiving();
    device.rederive();
    let (_, one) = device.request(Code::POST, get).unwrap();
    let mut forged = one.clone();
    *forged.last_mut().unwrap() ^= 1;
    forged[0] &= 0xcf;
    let mut codes = Vec::new();
    for id in 0..20 {
        forged[3] = id;
        server.handle(&forged);
        codes.push(udp::parse(&server.due().unwrap()).unwrap().1.code);
    }
    assert!(codes[..8].iter().all(|code| *code == Code::BAD_REQUEST), "{codes:?}");
    assert!(codes[8..].iter().all(|code| *code == Code::SERVICE_UNAVAILABLE), "{codes:?}");
    assert!(matches!(server.handle(&one), Came::Ignored(Ignored::Refused)));
    server.now = Instant::from_millis(1000);
    let (exchange, _) = server.expect_request(&one);
    assert_eq!(standing(&exchange), Standing::Rederiving);
}

// Every challenge has an R2 of its own, and answers the request it was made for.
#[test]
fn an_answer_that_was_overtaken_is_not_sealed_with_the_keys_of_another() {
    let (mut device, mut server) = rederiving();
    device.rederive();
    let (_, one) = device.request(Code::POST, get).unwrap();
    let (_, other) = device.request(Code::POST, get).unwrap();
    let (mut first, _) = server.expect_request(&one);
    let (mut second, _) = server.expect_request(&other);
    assert_eq!((standing(&first), standing(&second)), (Standing::Rederiving, Standing::Rederiving));
    assert!(server.try_respond(&mut first, Code::UNAUTHORIZED).is_err());
    let answer = server.try_respond(&mut second, Code::UNAUTHORIZED).unwrap();
    second_half(&mut device, &mut server, &answer);
    // A server that renews goes on asking until the keys are replaced.
    server.session.renew();
    for _ in 0..2 {
        let (_, request) = device.request(Code::POST, get).unwrap();
        let (exchange, _) = server.expect_request(&request);
        assert_eq!(standing(&exchange), Standing::Rederiving);
    }
}

#[test]
fn a_forged_answer_leaves_request_1_waiting() {
    let (mut device, mut server) = rederiving();
    let (_, answer) = first_half(&mut device, &mut server);
    for at in 5..answer.len() {
        let mut forged = answer.clone();
        forged[at] ^= 1;
        assert!(!matches!(device.handle(&forged), Came::Response { .. }), "{at}");
    }
    second_half(&mut device, &mut server, &answer);
}

#[test]
fn observations_and_exchanges_of_former_keys_have_ended() {
    let (mut device, mut server) = rederiving();
    let (_, request) = server.request(Code::GET, observe).unwrap();
    let (mut exchange, _) = device.expect_request(&request);
    let observer = exchange.observer();
    let answer = device.respond(&mut exchange, Code::CONTENT, |writer| {
        writer.observe(0).unwrap();
    });
    server.expect_response(&answer);
    let late = device.notify(&observer, Delivery::NonConfirmable, b"late");
    assert!(device.session.is_current(&observer.binding));
    let (_, answer) = first_half(&mut device, &mut server);
    second_half(&mut device, &mut server, &answer);
    assert!(!device.session.is_current(&observer.binding));
    assert!(matches!(server.handle(&late), Came::Ignored(Ignored::Refused)));
}

// The field sends a provisioned ID Context as it is, or as a CBOR byte string.
#[test]
fn an_id_context_is_taken_bare_and_wrapped() {
    let with = |sender, recipient| parameters(sender, recipient).with_id_context(b"\x43abc").unwrap();
    let mut near = End::new(with(&[1], &[2]), 1);
    let (_, request) = near.request(Code::GET, get).unwrap();
    assert_eq!(kid_context(&request), Some(b"\x43abc".to_vec()));
    let mut far = End::new(with(&[2], &[1]), 2);
    far.expect_request(&request);
    // Outer: the option of 9 bytes: flags, Partial IV, length, ID Context, kid.
    assert_eq!(request[5..9], [0x98, 0x19, 0x00, 0x04]);
    let mut wrapped = request[..5].to_vec();
    wrapped.extend([0x99, 0x19, 0x00, 0x05, 0x44]);
    wrapped.extend(&request[9..]);
    let mut far = End::new(with(&[2], &[1]), 2);
    far.expect_request(&wrapped);
    // Another one is of another context.
    let mut other = request.clone();
    other[10] ^= 1;
    other[3] ^= 0x40;
    assert!(matches!(far.handle(&other), Came::Ignored(Ignored::Refused)));
    let mut none = Session::new(&parameters(&[2], &[1]), random(9));
    assert_eq!(none.context().id_context(), None);
    none.renew();
}

// Appendix B.1 for keys of Appendix B.2: nothing goes out under them before storage knows of them, and a restart goes on
// with them; the one who was asked says nothing of their ID Context once the other end has shown that it has them.
#[test]
fn new_keys_survive_a_restart_of_both_ends() {
    let (mut device, mut server) = rederiving();
    (device.is_durable, server.is_durable) = (true, true);
    let (_, answer) = first_half(&mut device, &mut server);
    assert_eq!(device.expect_response(&answer).0, Code::UNAUTHORIZED);
    let unstored = device.request(Code::POST, get).unwrap_err();
    assert_eq!(unstored, SendError::Protect(Unprotectable::NoSequence));
    let at_device = store(&mut device.session).unwrap();
    let (_, two) = device.request(Code::POST, get).unwrap();
    let (mut exchange, _) = server.expect_request(&two);
    let at_server = store(&mut server.session).unwrap();
    let answer = server.respond(&mut exchange, Code::CHANGED, |_| {});
    device.expect_response(&answer);

    let id_context = device.session.context().id_context().map(<[u8]>::to_vec);
    let [mut device, mut server] =
        [(device, at_device, 7), (server, at_server, 8)].map(|(end, saved, seed)| {
            let session = Session::restored(&end.parameters, &saved, random(seed));
            assert_eq!(session.context().id_context(), id_context.as_deref());
            let mut end = End::with(end.parameters, session, seed);
            store(&mut end.session).unwrap();
            end
        });
    let (_, request) = device.request(Code::GET, get).unwrap();
    assert!(kid_context(&request).is_some());
    let (mut exchange, _) = server.expect_request(&request);
    assert_eq!(standing(&exchange), Standing::Unproven);
    let echo = server.challenge(&mut exchange);
    let Came::Response { code: Code::UNAUTHORIZED, .. } = device.handle(&echo) else { panic!() };
    let (_, request) = device.request(Code::GET, get).unwrap();
    assert_eq!(kid_context(&request), None);
}

#[test]
fn what_storage_has_of_former_keys_reserves_nothing_for_new_ones() {
    let (mut device, mut server) = rederiving();
    (device.is_durable, server.is_durable) = (true, true);
    let former = stored(1 << 30);
    let (_, answer) = first_half(&mut device, &mut server);
    device.expect_response(&answer);
    device.session.saved(&former);
    assert!(device.request(Code::POST, get).is_err());
}
