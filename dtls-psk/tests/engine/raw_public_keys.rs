//! Handshakes with raw public keys: what they need, how long they are, and what their owners may do.

use crate::owner::Owner;
use crate::pair::*;
use crate::support::*;
use dtls_psk::{
    CertificateType, CertificateTypes, ClientCertificate, Config, Handshake, Psk, Reason, Suite, Suites,
};

const RAW: CertificateType = CertificateType::RawPublicKey;

fn suites() -> impl Iterator<Item = Suite> {
    Suite::ALL.iter().copied().filter(|suite| suite.is_ecdsa())
}

#[test]
fn both_sides_prove_their_keys_under_every_suite() {
    for suite in suites().filter(|suite| suite.is_for_clients()) {
        let mut pair = Pair::new(config_of(suite, RAW), RAW);
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert_eq!(pair.owner.asked, ["check", "prove", "present", "sign"]);
        assert_eq!(pair.server.owner.asked, ["share", "present", "sign", "check", "prove"]);
        assert_eq!(pair.owner.seen, [pair.server.owner.raw_public_key()]);
        assert_eq!(pair.server.owner.seen, [pair.owner.raw_public_key()]);
        let Pair { client, mut server, .. } = pair;
        let mut client = client;
        assert_eq!((client.suite(), client.identity()), (Some(suite), None));
        let record = seal(&mut client, b"up");
        assert_eq!(server.handle(at(1), &record).0, [Event::Application(b"up".to_vec())]);
        let record = seal(server.peer(), b"down");
        assert_eq!(receive(&mut client, at(1), &record), [Event::Application(b"down".to_vec())]);
    }
}

#[test]
fn every_byte_of_a_handshake_with_raw_public_keys_is_accounted_for() {
    let lengths = |datagrams: &[Vec<u8>]| datagrams.iter().map(Vec::len).collect::<Vec<_>>();
    let mut pair = Pair::of(RAW);
    let talk = pair.talk_with(|_, _| true);
    let signature = |datagram: &[u8]| datagram.windows(3).position(|bytes| bytes == [4, 3, 0]).unwrap();
    // Four extensions of 8, 6, 8 and twice 6 bytes. The signatures vary by some bytes, as their numbers do.
    let from_client = talk.from_client.last().unwrap();
    let from_server = talk.from_server.get(1).unwrap();
    let of = |datagram: &[u8]| usize::from(datagram[signature(datagram) + 3]);
    // Where there is a second group it is offered too.
    let extensions = 34 + if cfg!(feature = "x25519") { 2 } else { 0 };
    assert_eq!(lengths(&talk.from_client)[..2], [75 + extensions, 91 + extensions]);
    // Each message has a record of its own.
    let of_message = |body: usize| 13 + 12 + body;
    let verify = of_message(4 + of(from_client));
    assert_eq!(from_client.len(), of_message(94) + of_message(66) + verify + 14 + 53);
    let hello = of_message(38 + 2 + 5 + 4 + 2 * 5);
    let exchange = of_message(69 + 4 + of(from_server));
    assert_eq!(from_server.len(), hello + of_message(94) + exchange + of_message(8) + of_message(0));
}

#[test]
fn one_port_takes_raw_public_keys_and_pre_shared_keys() {
    let both = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8, Suite::PskAes128Ccm8]).unwrap();
    let config = config_of(Suite::EcdheEcdsaAes128Ccm8, RAW).with_suites(both);
    let mut pair = Pair::new(config, RAW);
    assert_eq!(pair.talk_with(|_, _| true).server, [Event::Established]);
    let mut client = client_with(&config, Psk { identity: IDENTITY, key: KEY }, 3);
    let mut server = Server { config, ..Server::new(2) };
    assert_eq!(talk(&mut client, &mut server).server, [Event::Established]);
    assert_eq!(client.suite(), Some(Suite::PskAes128Ccm8));
}

#[test]
fn who_has_no_suite_or_certificate_in_common_learns_that_at_once() {
    // A server of pre-shared keys, one whose clients have certificates, and a client of pre-shared keys.
    let psk = Config::DEFAULT;
    let types = CertificateTypes::NONE;
    for server in [psk, config_of(Suite::EcdheEcdsaAes128Ccm8, RAW).with_certificate_types(types)] {
        let mut pair = Pair::of(RAW);
        pair.server.config = server;
        let talk = pair.talk_with(|_, _| true);
        assert_eq!(pair.server.refused, [Reason::NoCommonSuite]);
        is_nobody(&talk);
    }
    let mut server = Server { config: config_of(Suite::EcdheEcdsaAes128Ccm8, RAW), ..Server::new(2) };
    is_nobody(&talk(&mut new_client(), &mut server));
    assert_eq!(server.refused, [Reason::NoCommonSuite]);
}

#[test]
fn a_client_needs_a_suite_for_what_it_has() {
    let rng = &mut |bytes: &mut [u8]| bytes.fill(7);
    let psk = Psk { identity: IDENTITY, key: KEY };
    let ecdsa = config_of(Suite::EcdheEcdsaAes128Ccm8, RAW);
    let refused = Client::client(at(0), &ecdsa, psk, rng, Handshake::new());
    assert_eq!(refused.err(), Some(dtls_psk::SetUpError::NoSuite));
    let certificate = ClientCertificate::RawPublicKey;
    let refused = Client::certificate_client(at(0), &Config::DEFAULT, certificate, rng, Handshake::new());
    assert_eq!(refused.err(), Some(dtls_psk::SetUpError::NoSuite));
}

/// A client that was asked something, and the answers of its owner.
fn asked() -> (Client, Owner, Server) {
    let Pair { mut client, owner, mut server } = Pair::of(RAW);
    talk_with(&mut client, &mut server, at(0), |_, _| true);
    (client, owner, server)
}

#[test]
fn an_owner_may_take_its_time() {
    let (mut client, mut owner, mut server) = asked();
    server.answers_at_once = false;
    // Nothing is repeated, and a forged alert ends nothing, while it is our side that is slow.
    receive(&mut client, at(1), &record(21, 0, 9, &[2, 40]));
    assert_eq!(client.poll_timeout(), Some(at(90_000)));
    assert_eq!(client.handle_timeout(at(60_000)), None);
    assert!(transmit(&mut client, at(60_000), 1200).is_empty());
    assert_eq!(owner.answer(&mut client, at(60_000)), []);
    let mut events = Vec::new();
    for datagram in transmit(&mut client, at(60_000), 1200) {
        events.extend(server.handle(at(60_000), &datagram).0);
    }
    // So may that of the server; meanwhile the Finished is kept.
    let answered = server.owner.answer(server.peers.first_mut().unwrap(), at(80_000));
    assert_eq!((events, answered), (vec![], vec![Event::Established]));
    for datagram in transmit(server.peer(), at(80_000), 1200) {
        assert_eq!(receive(&mut client, at(80_000), &datagram), [Event::Established]);
    }
}

#[test]
fn an_owner_that_never_answers_is_the_reason_and_the_peer_hears_of_it() {
    for question in ["check", "prove", "present", "sign"] {
        let mut pair = Pair::of(RAW);
        pair.owner.ignores = question;
        is_nobody(&pair.talk_with(|_, _| true));
        assert_eq!(pair.owner.asked.last(), Some(&question));
        let ended = pair.client.handle_timeout(at(90_000)).map(Event::of);
        assert_eq!(ended, Some(Event::Closed(Reason::OperationUnanswered)));
        // internal_error
        assert_eq!(transmit(&mut pair.client, at(90_000), 1200).pop().unwrap()[13..], [2, 80]);
        let mut pair = Pair::of(RAW);
        pair.server.owner.ignores = question;
        is_nobody(&pair.talk_with(|_, _| true));
        assert_eq!(pair.server.owner.asked.last(), Some(&question));
        let (ended, sent) = pair.server.handle_timeout(at(90_000));
        assert_eq!(ended, [Event::Closed(Reason::OperationUnanswered)]);
        assert_eq!(sent.last().unwrap()[13..], [2, 80]);
    }
}

#[test]
fn while_a_server_waits_for_its_owner_repeated_hellos_change_nothing() {
    let Pair { mut client, mut owner, mut server } = Pair::of(RAW);
    server.answers_at_once = false;
    let mut hello = Vec::new();
    talk_with(&mut client, &mut server, at(0), |_, datagram| {
        hello = datagram.clone();
        true
    });
    for second in 1..6 {
        assert_eq!(server.handle(at(second * 1000), &hello), (vec![], vec![]));
    }
    server.answers_at_once = true;
    server.owner.answer(server.peers.first_mut().unwrap(), at(6000));
    let flight = transmit(server.peer_any(), at(6000), 1200);
    assert_eq!(flight.len(), 1, "in one datagram, as if nobody had asked again");
    receive(&mut client, at(6000), &flight[0]);
    owner.answer(&mut client, at(6000));
    assert_eq!(talk_with(&mut client, &mut server, at(6000), |_, _| true).server, [Event::Established]);
}

#[test]
fn an_answer_to_one_handshake_is_none_to_the_next() {
    use dtls_psk::{Answer, Operation, ProvideError, RustCrypto};
    let (mut first, ..) = asked();
    let mut random = Random(9);
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    let config = config_of(Suite::EcdheEcdsaAes128Ccm8, RAW);
    let certificate = ClientCertificate::RawPublicKey;
    let mut second = Client::certificate_client(at(0), &config, certificate, rng, Handshake::new()).unwrap();
    let mut server = Server { config, ..Server::new(5) };
    talk_with(&mut second, &mut server, at(0), |_, _| true);
    let (late, next) = (first.poll_pending().unwrap().id, second.poll_pending().unwrap().id);
    assert_ne!(late, next);
    assert_eq!(second.provide(at(1), late, Answer::Trusted), Err(ProvideError::NotPending));
    // Nor is the proof of one a proof of the other.
    let prove = |client: &mut Client, id| {
        client.provide(at(1), id, Answer::Trusted).unwrap();
        let pending = client.poll_pending().unwrap();
        let Operation::Compute(computation) = pending.operation else { panic!() };
        (pending.id, computation.run::<RustCrypto>())
    };
    let (_, of_first) = prove(&mut first, late);
    let (id, of_second) = prove(&mut second, next);
    assert_eq!(second.provide(at(1), id, Answer::Computed(of_first)), Err(ProvideError::OtherOperation));
    assert_eq!(second.provide(at(1), id, Answer::Trusted), Err(ProvideError::OtherOperation));
    assert_eq!(second.provide(at(1), id, Answer::Computed(of_second)), Ok(None));
}

#[test]
fn who_has_nothing_to_present_or_to_sign_with_says_so_to_both() {
    for question in ["present", "sign"] {
        let mut pair = Pair::of(RAW);
        pair.owner.lacks = question;
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Closed(Reason::NothingToPresent)], vec![]));
        // internal_error
        assert_eq!(talk.from_client.last().unwrap()[13..], [2, 80]);
        let mut pair = Pair::of(RAW);
        pair.server.owner.lacks = question;
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![], vec![Event::Closed(Reason::NothingToPresent)]));
        assert_eq!(talk.from_server.last().unwrap()[13..], [2, 80]);
    }
}

#[test]
fn an_empty_list_is_nothing_to_present() {
    let Pair { mut client, mut server, .. } = Pair::of(RAW);
    server.answers_at_once = false;
    talk_with(&mut client, &mut server, at(0), |_, _| true);
    let Server { owner, peers, .. } = &mut server;
    owner.answer_one(&mut peers[0], at(0)).unwrap();
    let id = server.peer_any().poll_pending().unwrap().id;
    let ended = server.peer_any().provide(at(1), id, dtls_psk::Answer::Certificates(&[])).unwrap();
    assert_eq!(ended.map(Event::of), Some(Event::Closed(Reason::NothingToPresent)));
}

#[test]
fn a_server_that_does_not_ask_who_we_are_need_not_say_what_it_takes() {
    // The ServerHello without client_certificate_type, which the client reads and the transcript shows.
    let Pair { mut client, mut server, mut owner } = Pair::of(RAW);
    let talk = talk_answering(
        &mut client,
        &mut server,
        at(0),
        |is_up, datagram| {
            if !is_up {
                change_messages(datagram, 2, |body| {
                    let at = body.windows(4).position(|bytes| bytes == [0, 19, 0, 1]).unwrap();
                    body.drain(at..at + 5);
                    let length = body.len() - 40;
                    body[38..40].copy_from_slice(&(length as u16).to_be_bytes());
                });
            }
            true
        },
        |client| owner.answer(client, at(0)),
    );
    // It asks all the same.
    is_refused_by_client(&talk, Reason::WrongCertificateType, 43);
    assert_eq!(owner.asked, ["check"]);
}
