//! Handshakes with raw public keys: what they need, and each check that one fails at.

use crate::owner::Owner;
use crate::support::*;
use dtls_psk::{
    CertificateTypes, ClientCertificate, Config, Handshake, Psk, Reason, Refusal, SIGNATURE, Suite, Suites,
};

const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

fn suites() -> impl Iterator<Item = Suite> {
    Suite::ALL.iter().copied().filter(|suite| suite.is_ecdsa())
}

fn config(suite: Suite) -> Config {
    let types = CertificateTypes::RAW_PUBLIC_KEY;
    Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap()).with_certificate_types(types)
}

/// A client, its owner, and a server that knows nobody.
struct Pair {
    client: Client,
    owner: Owner,
    server: Server,
}

impl Pair {
    fn new(config: Config) -> Self {
        let mut random = Random(1);
        let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
        let certificate = ClientCertificate::RawPublicKey;
        let client = Client::certificate_client(at(0), &config, certificate, rng, Handshake::new()).unwrap();
        Self { client, owner: Owner::new(0xc1), server: Server { config, ..Server::new(2) } }
    }

    fn of_default() -> Self {
        Self::new(config(Suite::EcdheEcdsaAes128Ccm8))
    }

    fn talk_with(&mut self, tamper: impl FnMut(bool, &mut Vec<u8>) -> bool) -> Talk {
        let Self { client, owner, server } = self;
        talk_answering(client, server, at(0), tamper, |client| owner.answer(client, at(0)))
    }
}

#[test]
fn both_sides_prove_their_keys_under_every_suite() {
    for suite in suites().filter(|suite| suite.is_for_clients()) {
        let mut pair = Pair::new(config(suite));
        let talk = pair.talk_with(|_, _| true);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert_eq!(pair.owner.asked, ["check", "prove", "present", "sign"]);
        assert_eq!(pair.server.owner.asked, ["present", "sign", "check", "prove"]);
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
    let mut pair = Pair::of_default();
    let talk = pair.talk_with(|_, _| true);
    let signature = |datagram: &[u8]| datagram.windows(3).position(|bytes| bytes == [4, 3, 0]).unwrap();
    // Four extensions of 8, 6, 8 and twice 6 bytes. The signatures vary by some bytes, as their numbers do.
    let from_client = talk.from_client.last().unwrap();
    let from_server = talk.from_server.get(1).unwrap();
    let of = |datagram: &[u8]| usize::from(datagram[signature(datagram) + 3]);
    assert_eq!(lengths(&talk.from_client)[..2], [75 + 34, 91 + 34]);
    // Each message has a record of its own.
    let of_message = |body: usize| 13 + 12 + body;
    let verify = of_message(4 + of(from_client));
    assert_eq!(from_client.len(), of_message(94) + of_message(66) + verify + 14 + 53);
    let hello = of_message(38 + 2 + 5 + 4 + 2 * 5);
    let exchange = of_message(69 + 4 + of(from_server));
    assert_eq!(from_server.len(), hello + of_message(94) + exchange + of_message(8) + of_message(0));
}

/// Ends at the client for `reason`, with `alert` for the server.
fn is_refused_by_client(talk: &Talk, reason: Reason, alert: u8) {
    assert_eq!((&*talk.client, &*talk.server), (&[Event::Closed(reason)][..], &[][..]));
    assert_eq!(talk.from_client.last().unwrap()[13..], [2, alert], "{reason:?}");
}

fn is_refused_by_server(talk: &Talk, reason: Reason, alert: u8) {
    assert_eq!((&*talk.client, &*talk.server), (&[][..], &[Event::Closed(reason)][..]));
    assert_eq!(talk.from_server.last().unwrap()[13..], [2, alert], "{reason:?}");
}

fn is_nobody(talk: &Talk) {
    assert_eq!((&*talk.client, &*talk.server), (&[][..], &[][..]));
}

const UP: bool = true;
const DOWN: bool = false;

/// The same in one direction alone.
fn changed(pair: &mut Pair, direction: bool, code: u8, change: impl Fn(&mut Vec<u8>)) -> Talk {
    pair.talk_with(|is_up, datagram| {
        if is_up == direction {
            change_messages(datagram, code, &change);
        }
        true
    })
}

#[test]
fn whoever_is_not_trusted_hears_why() {
    for (refusal, alert) in [
        (Refusal::Malformed, 42),
        (Refusal::Unsupported, 43),
        (Refusal::Revoked, 44),
        (Refusal::Expired, 45),
        (Refusal::Unknown, 46),
        (Refusal::UnknownIssuer, 48),
        (Refusal::NotAllowed, 49),
    ] {
        let mut pair = Pair::of_default();
        pair.owner.refusal = Some(refusal);
        is_refused_by_client(&pair.talk_with(|_, _| true), Reason::UntrustedPeer(refusal), alert);
        assert_eq!(pair.owner.asked, ["check"]);
        let mut pair = Pair::of_default();
        pair.server.owner.refusal = Some(refusal);
        is_refused_by_server(&pair.talk_with(|_, _| true), Reason::UntrustedPeer(refusal), alert);
        assert_eq!(pair.server.owner.asked, ["present", "sign", "check"]);
    }
}

#[test]
fn a_signature_of_another_key_or_of_something_else_ends_the_handshake() {
    let bends: [fn(&mut [u8; SIGNATURE]); 3] = [
        |signature| signature[63] ^= 1,
        |signature| signature[0] ^= 1,
        |signature| *signature = [0; SIGNATURE],
    ];
    for bend in bends {
        let mut pair = Pair::of_default();
        pair.server.owner.bend = bend;
        is_refused_by_client(&pair.talk_with(|_, _| true), Reason::BadSignature, 51);
        let mut pair = Pair::of_default();
        pair.owner.bend = bend;
        is_refused_by_server(&pair.talk_with(|_, _| true), Reason::BadSignature, 51);
    }
    // What was signed is another share, or another's certificate.
    for (code, byte) in [(SERVER_KEY_EXCHANGE, 10), (CERTIFICATE, 40)] {
        let mut pair = Pair::of_default();
        let talk = changed(&mut pair, DOWN, code, |body| body[byte] ^= 1);
        is_refused_by_client(&talk, Reason::BadSignature, 51);
    }
    for (code, byte) in [(CLIENT_KEY_EXCHANGE, 10), (CERTIFICATE, 40)] {
        let mut pair = Pair::of_default();
        let talk = changed(&mut pair, UP, code, |body| body[byte] ^= 1);
        is_refused_by_server(&talk, Reason::BadSignature, 51);
    }
}

#[test]
fn a_signature_of_an_algorithm_that_was_not_offered_ends_the_handshake_15() {
    for algorithm in [[2, 3], [4, 1], [5, 3], [8, 7]] {
        let mut pair = Pair::of_default();
        let change = |body: &mut Vec<u8>| body[69..71].copy_from_slice(&algorithm);
        let talk = changed(&mut pair, DOWN, SERVER_KEY_EXCHANGE, change);
        is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
        let mut pair = Pair::of_default();
        let change = |body: &mut Vec<u8>| body[..2].copy_from_slice(&algorithm);
        let talk = changed(&mut pair, UP, CERTIFICATE_VERIFY, change);
        is_refused_by_server(&talk, Reason::UnofferedAlgorithm, 47);
        // A server that wants nothing else of its client.
        let mut pair = Pair::of_default();
        let change = |body: &mut Vec<u8>| body[4..6].copy_from_slice(&algorithm);
        let talk = changed(&mut pair, DOWN, CERTIFICATE_REQUEST, change);
        is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
    }
}

#[test]
fn what_is_no_signature_in_der_is_none_17() {
    let bad: [fn(&mut Vec<u8>); 4] = [
        // Not a sequence, an integer with a zero too many, something behind, and nothing.
        |signed| signed[4] ^= 1,
        |signed| {
            signed.splice(7..8, [33]).for_each(drop);
            signed.splice(8..8, [0]).for_each(drop);
            signed[5] += 1;
            signed[3] += 1;
        },
        |signed| {
            signed.push(0);
            signed[3] += 1;
        },
        |signed| {
            signed.truncate(4);
            signed[3] = 0;
        },
    ];
    for change in bad {
        let mut pair = Pair::of_default();
        let talk = changed(&mut pair, DOWN, SERVER_KEY_EXCHANGE, |body| {
            let mut signed = body.split_off(69);
            change(&mut signed);
            body.extend(signed);
        });
        is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
        let mut pair = Pair::of_default();
        let talk = changed(&mut pair, UP, CERTIFICATE_VERIFY, change);
        is_refused_by_server(&talk, Reason::UnofferedAlgorithm, 47);
    }
}

#[test]
fn a_key_of_another_kind_curve_or_form_is_refused() {
    let bad: [fn(&mut Vec<u8>); 4] = [
        // The algorithm, the curve, the form of the point, and a key that ends early.
        |body| body[3 + 12] ^= 1,
        |body| body[3 + 22] ^= 1,
        |body| body[3 + 26] = 2,
        |body| {
            body.pop();
            body[2] -= 1;
        },
    ];
    for change in bad {
        let mut pair = Pair::of_default();
        is_refused_by_client(&changed(&mut pair, DOWN, CERTIFICATE, change), Reason::UnsupportedKey, 43);
        assert_eq!(pair.owner.asked, [""; 0]);
        let mut pair = Pair::of_default();
        is_refused_by_server(&changed(&mut pair, UP, CERTIFICATE, change), Reason::UnsupportedKey, 43);
        assert_eq!(pair.server.owner.asked, ["present", "sign"]);
    }
}

#[test]
fn who_presents_nothing_is_refused_26() {
    let empty = |body: &mut Vec<u8>| *body = vec![0; 3];
    let mut pair = Pair::of_default();
    is_refused_by_client(&changed(&mut pair, DOWN, CERTIFICATE, empty), Reason::NoCertificate, 40);
    let mut pair = Pair::of_default();
    is_refused_by_server(&changed(&mut pair, UP, CERTIFICATE, empty), Reason::NoCertificate, 40);
}

/// Takes the messages of a type out of a datagram and closes the gap in their numbers.
fn without(datagram: &mut Vec<u8>, code: u8) {
    let mut gone = 0;
    *datagram = records_of(datagram)
        .into_iter()
        .flat_map(|record| {
            if record[0] != 22 || record[3..5] != [0, 0] {
                return record;
            }
            let mut messages = Vec::new();
            let mut rest = &record[13..];
            while let Some(length) = rest.get(10..12) {
                let (message, behind) =
                    rest.split_at(12 + usize::from(u16::from_be_bytes([length[0], length[1]])));
                let seq = u16::from_be_bytes([message[4], message[5]]);
                if message[0] == code {
                    gone += 1;
                } else {
                    messages.extend(fragment(message[0], message.len() - 12, seq - gone, 0, &message[12..]));
                }
                rest = behind;
            }
            [record[..11].to_vec(), (messages.len() as u16).to_be_bytes().to_vec(), messages].concat()
        })
        .collect();
}

#[test]
fn a_handshake_without_one_of_its_messages_proves_nobody_26() {
    for (direction, code) in [
        (UP, CERTIFICATE),
        (UP, CLIENT_KEY_EXCHANGE),
        (UP, CERTIFICATE_VERIFY),
        (DOWN, CERTIFICATE),
        (DOWN, SERVER_KEY_EXCHANGE),
    ] {
        let mut pair = Pair::of_default();
        let talk = pair.talk_with(|is_up, datagram| {
            if is_up == direction {
                without(datagram, code);
            }
            true
        });
        is_nobody(&talk);
        assert!(!pair.server.owner.asked.contains(&"prove"), "{code}");
    }
    // Without the request the client stays without a name, which the server does not let pass.
    let mut pair = Pair::of_default();
    let talk = pair.talk_with(|is_up, datagram| {
        if !is_up {
            without(datagram, CERTIFICATE_REQUEST);
        }
        true
    });
    is_nobody(&talk);
    assert_eq!(pair.owner.asked, ["check", "prove"]);
}

#[test]
fn messages_in_the_wrong_order_or_twice_prove_nobody() {
    // Under the number of one that has its turn.
    for (instead, code) in [
        (CERTIFICATE_VERIFY, CERTIFICATE),
        (CLIENT_KEY_EXCHANGE, CERTIFICATE),
        (CERTIFICATE, CLIENT_KEY_EXCHANGE),
        (CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY),
    ] {
        let mut pair = Pair::of_default();
        let talk = pair.talk_with(|is_up, datagram| {
            if is_up {
                *datagram = records_of(datagram)
                    .into_iter()
                    .map(|mut record| {
                        if record[0] == 22 && record[3..5] == [0, 0] {
                            let mut place = 13;
                            while place < record.len() {
                                let length = u16::from_be_bytes([record[place + 10], record[place + 11]]);
                                if record[place] == code {
                                    record[place] = instead;
                                }
                                place += 12 + usize::from(length);
                            }
                        }
                        record
                    })
                    .collect::<Vec<_>>()
                    .concat();
            }
            true
        });
        is_nobody(&talk);
        assert!(!pair.server.owner.asked.contains(&"prove"));
    }
}

#[test]
fn one_port_takes_raw_public_keys_and_pre_shared_keys() {
    let both = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8, Suite::PskAes128Ccm8]).unwrap();
    let config = config(Suite::EcdheEcdsaAes128Ccm8).with_suites(both);
    let mut pair = Pair::new(config);
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
    for server in [psk, config(Suite::EcdheEcdsaAes128Ccm8).with_certificate_types(types)] {
        let mut pair = Pair::of_default();
        pair.server.config = server;
        let talk = pair.talk_with(|_, _| true);
        assert_eq!(pair.server.refused, [Reason::NoCommonSuite]);
        is_nobody(&talk);
    }
    let mut server = Server { config: config(Suite::EcdheEcdsaAes128Ccm8), ..Server::new(2) };
    is_nobody(&talk(&mut new_client(), &mut server));
    assert_eq!(server.refused, [Reason::NoCommonSuite]);
}

#[test]
fn a_client_needs_a_suite_for_what_it_has() {
    let rng = &mut |bytes: &mut [u8]| bytes.fill(7);
    let psk = Psk { identity: IDENTITY, key: KEY };
    let ecdsa = config(Suite::EcdheEcdsaAes128Ccm8);
    let refused = Client::client(at(0), &ecdsa, psk, rng, Handshake::new());
    assert_eq!(refused.err(), Some(dtls_psk::SetUpError::NoSuite));
    let certificate = ClientCertificate::RawPublicKey;
    let refused = Client::certificate_client(at(0), &Config::DEFAULT, certificate, rng, Handshake::new());
    assert_eq!(refused.err(), Some(dtls_psk::SetUpError::NoSuite));
}

/// Who has a key of its own and sits in between must not have another's certificate judged in place of its own.
#[test]
fn what_is_judged_is_what_is_verified_26() {
    let stranger = Owner::new(0x66).raw_public_key();
    let genuine = Owner::new(0x51).raw_public_key();
    let presented = |key: &[u8]| [&[0, 0, key.len() as u8][..], key].concat();
    // In one piece, in pieces, and of another length.
    let longer = [&genuine[..], &[0]].concat();
    for (place, second) in [(0, &genuine), (20, &genuine), (0, &longer)] {
        let Pair { mut client, mut owner, mut server } = Pair::of_default();
        let mut flight = Vec::new();
        talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            if !is_up && datagram[13] == 2 {
                change_messages(datagram, CERTIFICATE, |body| *body = presented(&stranger));
                flight.push(datagram.clone());
            }
            is_up || datagram[13] != 2
        });
        assert_eq!(receive(&mut client, at(0), &flight[0]), []);
        let body = presented(second);
        let piece = fragment(CERTIFICATE, body.len(), 2, place, &body[place..]);
        assert_eq!(receive(&mut client, at(0), &record(22, 0, 9, &piece)), []);
        let events = owner.answer(&mut client, at(0));
        assert_eq!(owner.seen.concat(), stranger, "the key whose signature counts");
        assert_eq!(events, [Event::Closed(Reason::BadSignature)]);
    }
}

/// A client that was asked something, and the answers of its owner.
fn asked() -> (Client, Owner, Server) {
    let Pair { mut client, owner, mut server } = Pair::of_default();
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
fn an_owner_that_never_answers_is_the_reason() {
    let (mut client, ..) = asked();
    let ended = client.handle_timeout(at(90_000)).map(Event::of);
    assert_eq!(ended, Some(Event::Closed(Reason::OperationUnanswered)));
}

#[test]
fn while_a_server_waits_for_its_owner_repeated_hellos_change_nothing() {
    let Pair { mut client, mut owner, mut server } = Pair::of_default();
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
    let config = config(Suite::EcdheEcdsaAes128Ccm8);
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
        let Operation::Prove(proof) = pending.operation else { panic!() };
        (pending.id, proof.run::<RustCrypto>())
    };
    let (_, of_first) = prove(&mut first, late);
    let (id, of_second) = prove(&mut second, next);
    assert_eq!(second.provide(at(1), id, Answer::Proven(of_first)), Err(ProvideError::OtherOperation));
    assert_eq!(second.provide(at(1), id, Answer::Trusted), Err(ProvideError::OtherOperation));
    assert_eq!(second.provide(at(1), id, Answer::Proven(of_second)), Ok(None));
}

#[test]
fn who_has_nothing_to_present_says_so_to_its_owner() {
    use dtls_psk::{Answer, Operation};
    for answer in [Answer::Unknown, Answer::Certificates(&[])] {
        let Pair { mut client, mut server, .. } = Pair::of_default();
        server.answers_at_once = false;
        talk_with(&mut client, &mut server, at(0), |_, _| true);
        let pending = server.peer_any().poll_pending().unwrap();
        assert!(matches!(pending.operation, Operation::Present { .. }));
        let id = pending.id;
        let ended = server.peer_any().provide(at(1), id, answer).unwrap().map(Event::of);
        assert_eq!(ended, Some(Event::Closed(Reason::NothingToPresent)));
    }
}

#[test]
fn a_server_that_does_not_ask_who_we_are_need_not_say_what_it_takes() {
    // The ServerHello without client_certificate_type, which the client reads and the transcript shows.
    let Pair { mut client, mut server, mut owner } = Pair::of_default();
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

#[test]
fn two_certificates_in_one_record_are_one_26() {
    let [stranger, genuine] = [0x66, 0x51].map(|secret| Owner::new(secret).raw_public_key());
    let body = |key: &[u8]| [&[0, 0, 91][..], key].concat();
    let both = |seq: u16| {
        let piece = |key: &[u8]| fragment(CERTIFICATE, 94, seq, 0, &body(key));
        record(22, 0, 9, &[piece(&stranger), piece(&genuine)].concat())
    };
    let instead = |direction: bool, seq: u16| {
        let mut pair = Pair::of_default();
        pair.talk_with(|is_up, datagram| {
            if is_up == direction {
                let records = records_of(datagram).into_iter();
                let changed = records.map(|it| if it[13] == CERTIFICATE { both(seq) } else { it });
                *datagram = changed.collect::<Vec<_>>().concat();
            }
            true
        });
        pair
    };
    assert_eq!(instead(DOWN, 2).owner.seen.concat(), stranger);
    assert_eq!(instead(UP, 2).server.owner.seen.concat(), stranger);
}
