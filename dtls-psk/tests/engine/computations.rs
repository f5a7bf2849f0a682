//! What a server has computed elsewhere: its share and the agreement of every suite that has one.

use std::cell::RefCell;

use crate::support::*;
use dtls_psk::{
    Accepted, Answer, Config, Connection, CookieJar, Crypto, Datagram, Group, Handshake, Operation, POINT,
    ProvideError, Psk, Purpose, Reason, RustCrypto, Suite, Suites,
};

const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };

fn config(suite: Suite) -> Config {
    Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap())
}

fn suites() -> impl Iterator<Item = Suite> {
    Suites::PSK.as_slice().iter().copied().filter(|suite| suite.name().starts_with("TLS_ECDHE_PSK"))
}

/// A pair whose server computes when it is told to.
fn pair(suite: Suite, identity: &[u8], key: &[u8]) -> (Client, Server) {
    let config = config(suite);
    let client = client_with(&config, Psk { identity, key }, 1);
    (client, Server { config, answers_at_once: false, ..Server::new(2) })
}

/// Has one thing computed: what that was, what came of it, and what goes out then.
fn compute(server: &mut Server, now: u64) -> (Purpose, Option<Event>, Vec<Vec<u8>>) {
    let (purpose, event) = server.compute(at(now), 0).unwrap();
    assert_eq!(server.answer(at(now), 0), []);
    (purpose, event, transmit(server.peer_any(), at(now), 1200))
}

/// A client that has the server's flight, and what it answers that with.
fn answered(client: &mut Client, server: &mut Server) -> Vec<Vec<u8>> {
    talk_with(client, server, at(0), |_, _| true);
    let (purpose, event, flight) = compute(server, 1);
    assert_eq!((purpose, event), (Purpose::Share, None));
    assert_eq!(flight.len(), 1);
    assert_eq!(receive(client, at(1), &flight[0]), []);
    transmit(client, at(1), 1200)
}

#[test]
fn a_handshake_waits_for_the_share_and_then_for_the_agreement() {
    for suite in suites() {
        let (mut client, mut server) = pair(suite, IDENTITY, KEY);
        for datagram in answered(&mut client, &mut server) {
            assert_eq!(server.handle(at(2), &datagram), (vec![], vec![]));
        }
        assert!(server.asked.is_empty(), "{suite:?}: nobody is looked up before both agreed");
        assert_eq!(compute(&mut server, 3), (Purpose::Agreement, None, vec![]));
        let (id, identity) = server.asked.pop().unwrap();
        assert_eq!(server.provide(at(4), 0, id, &identity), Some(Event::Established), "{suite:?}");
        let flight = transmit(server.peer_any(), at(4), 1200);
        assert_eq!(receive(&mut client, at(4), &flight[0]), [Event::Established]);
        let up = seal(&mut client, b"up");
        assert_eq!(server.handle(at(5), &up).0, [Event::Application(b"up".to_vec())]);
    }
}

#[test]
fn while_a_server_computes_repetitions_change_nothing() {
    let (mut client, mut server) = pair(Suite::EcdhePskAes128Ccm8, IDENTITY, KEY);
    let mut hello = Vec::new();
    talk_with(&mut client, &mut server, at(0), |_, datagram| {
        hello = datagram.clone();
        true
    });
    for second in 1..6 {
        assert_eq!(server.handle(at(second * 1000), &hello), (vec![], vec![]));
        assert_eq!(server.handle_timeout(at(second * 1000)), (vec![], vec![]));
    }
    let (_, _, flight) = compute(&mut server, 6000);
    receive(&mut client, at(6000), &flight[0]);
    let answer = transmit(&mut client, at(6000), 1200);
    for second in 6..12 {
        for datagram in &answer {
            assert_eq!(server.handle(at(second * 1000), datagram), (vec![], vec![]));
        }
    }
    assert_eq!(compute(&mut server, 12_000), (Purpose::Agreement, None, vec![]));
    let (id, identity) = server.asked.pop().unwrap();
    assert_eq!(server.provide(at(12_000), 0, id, &identity), Some(Event::Established));
}

#[test]
fn nobody_learns_from_what_is_computed_whether_an_identity_exists() {
    for suite in suites() {
        // What was computed and sent, step by step, until the handshake is given up.
        let steps = |identity: &[u8], key: &[u8]| {
            let (mut client, mut server) = pair(suite, identity, key);
            let answer = answered(&mut client, &mut server);
            let mut steps: Vec<_> =
                answer.iter().map(|datagram| (None, server.handle(at(2), datagram))).collect();
            let (purpose, event, sent) = compute(&mut server, 3);
            steps.push((Some(purpose), (event.into_iter().collect(), sent)));
            while let Some((id, identity)) = server.asked.pop() {
                assert_eq!(server.provide(at(4), 0, id, &identity), None);
                steps.push((None, (vec![], transmit(server.peer_any(), at(4), 1200))));
            }
            assert_eq!(server.peer_any().poll_pending(), None);
            for second in 1..100 {
                let (ended, sent) = server.handle_timeout(at(second * 1000));
                // Why is known on this side alone.
                steps.push((None, (ended.iter().map(|_| Event::Resumed).collect(), sent)));
            }
            assert!(server.peers.is_empty());
            steps
        };
        let wrong_key = steps(IDENTITY, &[1; 16]);
        assert_eq!(wrong_key, steps(b"urn:dev:os:0002", KEY), "{suite:?}");
        assert!(wrong_key.iter().skip(1).all(|(_, (_, sent))| sent.is_empty()));
    }
}

#[test]
fn an_identity_that_is_too_long_is_computed_for_all_the_same() {
    let (_, mut server) = pair(Suite::EcdhePskAes128Ccm8, IDENTITY, KEY);
    let suites = vec![0xd0, 0x03, 0x00, 0xff];
    Hello { suites, ..Hello::new() }.send(&mut server, at(0));
    assert_eq!(compute(&mut server, 0).0, Purpose::Share);
    let share = RustCrypto::p256_public(&[7; 32]).unwrap();
    let body = [&[0, 129][..], &[b'i'; 129], &[POINT as u8], &share].concat();
    assert_eq!(server.handle(at(0), &message(16, 2, &body)), (vec![], vec![]));
    assert_eq!(compute(&mut server, 0), (Purpose::Agreement, None, vec![]));
    assert!(server.asked.is_empty(), "nobody is asked");
    let reason = (0..200).find_map(|second| server.handle_timeout(at(second * 1000)).0.pop());
    assert_eq!(reason, Some(Event::Closed(Reason::IdentityTooLong)));
}

#[test]
fn what_was_computed_for_one_handshake_is_nothing_to_the_next() {
    let computed = |server: &mut Server| {
        let pending = server.peer_any().pending().unwrap();
        let Operation::Compute(computation) = pending.operation else { panic!() };
        (pending.id, computation.run::<RustCrypto>())
    };
    let (mut client, mut server) = pair(Suite::EcdhePskAes128Ccm8, IDENTITY, KEY);
    talk_with(&mut client, &mut server, at(0), |_, _| true);
    let (mut other_client, other) = pair(Suite::EcdhePskAes128Ccm8, IDENTITY, KEY);
    let mut other = Server { random: Random(99), ..other };
    talk_with(&mut other_client, &mut other, at(0), |_, _| true);
    let (first, of_first) = computed(&mut server);
    let (second, of_second) = computed(&mut other);
    let peer = server.peer_any();
    assert_eq!(peer.provide(at(1), second, Answer::Computed(of_second)), Err(ProvideError::NotPending));
    let (_, of_second) = computed(&mut other);
    assert_eq!(
        server.peer_any().provide(at(1), first, Answer::Computed(of_second)),
        Err(ProvideError::OtherOperation)
    );
    for answer in [Answer::Unknown, Answer::Psk { key: KEY }] {
        assert_eq!(server.peer_any().provide(at(1), first, answer), Err(ProvideError::OtherOperation));
    }
    // It is pending still, and once alone.
    let (_, again) = computed(&mut server);
    assert_eq!(server.peer_any().provide(at(1), first, Answer::Computed(of_first)), Ok(None));
    assert_eq!(
        server.peer_any().provide(at(1), first, Answer::Computed(again)),
        Err(ProvideError::NotPending)
    );
}

#[test]
fn what_nobody_computes_ends_the_handshake_and_says_so() {
    for is_shared in [false, true] {
        let (mut client, mut server) = pair(Suite::EcdhePskAes128Ccm8, IDENTITY, KEY);
        if is_shared {
            for datagram in answered(&mut client, &mut server) {
                server.handle(at(2), &datagram);
            }
        } else {
            talk_with(&mut client, &mut server, at(0), |_, _| true);
        }
        let ended = (0..200).find_map(|second| server.handle_timeout(at(second * 1000)).0.pop());
        assert_eq!(ended, Some(Event::Closed(Reason::OperationUnanswered)), "{is_shared}");
    }
}

/// Who cannot compute on a curve.
enum Never {}

impl Crypto for Never {
    type Sha256 = <RustCrypto as Crypto>::Sha256;
    type Hmac = <RustCrypto as Crypto>::Hmac;

    fn p256_public(_: &[u8; 32]) -> Option<[u8; POINT]> {
        panic!("a share is computed by who is asked for it")
    }

    fn p256_shared(_: &[u8; 32], _: &[u8; POINT], _: &mut [u8; 32]) -> Option<()> {
        panic!("an agreement is computed by who is asked for it")
    }

    #[cfg(feature = "x25519")]
    fn x25519_public(_: &[u8; 32]) -> Option<[u8; 32]> {
        panic!("a share is computed by who is asked for it")
    }

    #[cfg(feature = "x25519")]
    fn x25519_shared(_: &[u8; 32], _: &[u8; 32], _: &mut [u8; 32]) -> Option<()> {
        panic!("an agreement is computed by who is asked for it")
    }

    #[cfg(feature = "rpk")]
    fn p256_verify(_: &[u8; POINT], _: &[u8; 32], _: &[u8; dtls_psk::SIGNATURE]) -> bool {
        panic!("a signature is verified by who is asked to")
    }
}

type Idle = Connection<1024, Box<Handshake<1024, Never>>, Never>;

/// A server of `client` that computes nothing by itself, whose cookie came back.
fn idle(client: &mut Client, config: &Config) -> Idle {
    let random = RefCell::new(Random(7));
    let rng = &mut |bytes: &mut [u8]| random.borrow_mut().fill(bytes);
    let mut jar = CookieJar::<Never>::with_crypto(at(0), rng);
    let mut reply = [0; dtls_psk::REPLY_MAX];
    loop {
        let hello = transmit(client, at(0), 1200).remove(0);
        match jar.accept(at(0), config, rng, ADDRESS, &hello, &mut reply) {
            Accepted::Reply(length) => assert_eq!(receive(client, at(0), &reply[..length]), []),
            Accepted::Verified(hello) => {
                return Idle::server(at(0), config, &hello, rng, Box::default()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Everything that the server says to the client, and the other way round, with `answer` to what either asks.
fn talk_to_idle(
    client: &mut Client,
    server: &mut Idle,
    mut answer: impl FnMut(&mut Client, &mut Idle),
) -> bool {
    let mut out = [0; 1200];
    for _ in 0..4 {
        answer(client, server);
        while let Some(length) = server.poll_transmit(at(0), &mut out) {
            receive(client, at(0), &out[..length]);
        }
        answer(client, server);
        for mut datagram in transmit(client, at(0), 1200) {
            let mut datagram = Datagram::new(&mut datagram);
            while server.handle(at(0), &mut datagram).is_some() {}
        }
    }
    client.is_established() && server.is_established()
}

#[test]
fn a_server_with_a_pre_shared_key_computes_nothing_by_itself() {
    let config = config(Suite::EcdhePskAes128Ccm8);
    for (config, wanted) in [
        (config, Group::Secp256r1),
        #[cfg(feature = "x25519")]
        (config.with_x25519_preferred(true), Group::X25519),
    ] {
        let mut client = client_with(&config, PSK, 1);
        let mut server = idle(&mut client, &config);
        let mut computed = Vec::new();
        let is_established = talk_to_idle(&mut client, &mut server, |_, server| {
            while let Some(pending) = server.poll_pending() {
                let id = pending.id;
                let answer = match pending.operation {
                    Operation::Compute(computation) => {
                        computed.push((computation.purpose(), computation.group()));
                        Answer::Computed(computation.run::<RustCrypto>())
                    }
                    _ => Answer::Psk { key: KEY },
                };
                server.provide(at(0), id, answer).unwrap();
            }
        });
        assert!(is_established);
        assert_eq!(computed, [(Purpose::Share, wanted), (Purpose::Agreement, wanted)]);
    }
}

#[cfg(feature = "rpk")]
#[test]
fn a_server_with_a_raw_public_key_computes_nothing_by_itself() {
    use crate::owner::Owner;
    use crate::pair::{config_of, of_client};
    let kind = dtls_psk::CertificateType::RawPublicKey;
    let config = config_of(Suite::EcdheEcdsaAes128Ccm8, kind);
    let mut random = Random(1);
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    let mut client =
        Client::certificate_client(at(0), &config, of_client(kind), rng, Handshake::new()).unwrap();
    let mut server = idle(&mut client, &config);
    let (mut device, owner) = (Owner::new(0xc1), Owner::new(0x51));
    let key = owner.raw_public_key();
    let mut computed = Vec::new();
    let is_established = talk_to_idle(&mut client, &mut server, |client, server| {
        device.answer(client, at(0));
        while let Some(pending) = server.poll_pending() {
            let (id, signature) = (pending.id, std::cell::OnceCell::new());
            let presented = [&key[..]];
            let answer = match pending.operation {
                Operation::Compute(computation) => {
                    computed.push(computation.purpose());
                    Answer::Computed(computation.run::<RustCrypto>())
                }
                Operation::CheckPeer { .. } => Answer::Trusted,
                Operation::Present { .. } => Answer::Certificates(&presented),
                Operation::Sign { digest } => {
                    let signed = RustCrypto::p256_sign(&owner.secret, digest).unwrap();
                    Answer::Signature(signature.get_or_init(|| signed))
                }
                other => panic!("{other:?}"),
            };
            server.provide(at(0), id, answer).unwrap();
        }
    });
    assert!(is_established);
    assert_eq!(computed, [Purpose::Share, Purpose::Proof]);
}
