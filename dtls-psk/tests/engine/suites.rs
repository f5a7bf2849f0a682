//! Every cipher suite of this build, and how one is chosen.

use crate::support::*;
use dtls_psk::{Config, Psk, Reason, Suite, Suites};

/// What a client may offer.
const ALL: &[Suite] = Suites::PSK.as_slice();

const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };

/// A client that offers `offered` and a server that takes `accepted`, before they talk.
fn pair(offered: &[Suite], accepted: &[Suite]) -> (Client, Server) {
    let config = |suites| Config::DEFAULT.with_suites(Suites::new(suites).unwrap());
    let client = client_with(&config(offered), PSK, 1);
    let mut server = Server::new(2);
    server.config = config(accepted);
    (client, server)
}

#[test]
fn every_suite_establishes_and_carries_data_both_ways() {
    for suite in ALL.iter().copied() {
        let (mut client, mut server) = pair(&[suite], &[suite]);
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        assert_eq!((client.suite(), server.peer().suite()), (Some(suite), Some(suite)));
        for length in [0, 1, 15, 16, 17, 64, 500] {
            let payload = vec![0xa5; length];
            let up = seal(&mut client, &payload);
            assert_eq!(server.handle(at(1), &up).0, [Event::Application(payload.clone())], "{suite:?}");
            assert_eq!(server.handle(at(1), &up).0, [], "{suite:?}: a record is taken once");
            let down = seal(server.peer(), &payload);
            assert_eq!(receive(&mut client, at(1), &down), [Event::Application(payload)], "{suite:?}");
        }
    }
}

#[test]
fn under_every_suite_a_changed_bit_makes_a_record_unauthentic() {
    for suite in ALL.iter().copied() {
        let (mut client, mut server) = pair(&[suite], &[suite]);
        talk(&mut client, &mut server);
        let record = seal(&mut client, b"payload");
        for bit in (13 * 8)..(record.len() * 8) {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(server.handle(at(1), &changed).0, [], "{suite:?}, bit {bit}");
        }
        assert_eq!(server.handle(at(1), &record).0, [Event::Application(b"payload".to_vec())]);
    }
}

#[test]
fn under_every_suite_a_wrong_key_is_never_established() {
    for suite in ALL.iter().copied() {
        let (mut client, mut server) = pair(&[suite], &[suite]);
        server.keys = vec![(IDENTITY.to_vec(), vec![0x11; 16])];
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![], vec![]));
        assert_eq!(server.peer_any().suspicion(), Some(Reason::WrongKey), "{suite:?}");
    }
}

#[test]
fn the_server_chooses_by_its_own_order() {
    let reversed: Vec<_> = ALL.iter().rev().copied().collect();
    for (offered, accepted) in [(ALL, &reversed[..]), (&reversed[..], ALL)] {
        let (mut client, mut server) = pair(offered, accepted);
        talk(&mut client, &mut server);
        assert_eq!(client.suite(), accepted.first().copied());
    }
}

#[test]
fn without_a_common_suite_the_client_is_told_so() {
    let mut server = Server::new(2);
    let answer = Hello { suites: vec![0x00, 0x8c, 0x00, 0xff], ..Hello::new() }.send(&mut server, at(0));
    // A fatal handshake_failure.
    assert_eq!(answer[0][13..], [2, 40]);
    assert_eq!(server.refused, [Reason::NoCommonSuite]);
}

#[test]
fn a_suite_that_is_not_accepted_is_not_chosen() {
    for (offered, accepted) in ALL.iter().zip(ALL.iter().skip(1)) {
        let (mut client, mut server) = pair(&[*offered], &[*accepted]);
        let talk = talk(&mut client, &mut server);
        assert_eq!(server.refused, [Reason::NoCommonSuite]);
        assert_eq!((talk.client, talk.server), (vec![], vec![]));
    }
}

#[test]
fn a_suite_that_was_not_offered_is_refused_by_the_client_22() {
    // One that this build has, and one that it has not.
    for forced in ALL.iter().skip(1).map(|suite| suite.code()).chain([0x00ae, 0xc0a9]) {
        let (mut client, mut server) = pair(&[Suite::PskAes128Ccm8], &[Suite::PskAes128Ccm8]);
        let talk = talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            let is_server_hello = !is_up && datagram.get(13) == Some(&2);
            if is_server_hello {
                // Behind the headers, the version, the random and the length of the empty session id.
                datagram[13 + 12 + 2 + 32 + 1..][..2].copy_from_slice(&forced.to_be_bytes());
            }
            true
        });
        assert_eq!(talk.client, [Event::Closed(Reason::NoCommonSuite)], "{forced:04x}");
        assert_eq!(talk.from_client.last().unwrap()[13..], [2, 40]);
    }
}

#[cfg(feature = "resumption")]
mod resumed {
    use super::*;
    use dtls_psk::{Handshake, Session};

    fn resuming(suites: &[Suite], session: Option<&Session>, seed: u64) -> Client {
        let mut random = Random(seed);
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        let config = Config::DEFAULT.with_suites(Suites::new(suites).unwrap());
        Client::resuming_client(at(0), &config, PSK, session, &mut rng, Handshake::new()).unwrap()
    }

    fn with_session(suite: Suite) -> (Server, Session) {
        let (_, mut server) = pair(&[suite], &[suite]);
        server.sessions = Some(Vec::new());
        let mut client = resuming(&[suite], None, 1);
        talk(&mut client, &mut server);
        (server, client.take_session().unwrap())
    }

    #[test]
    fn a_session_of_every_suite_is_taken_up_under_its_suite() {
        for suite in ALL.iter().copied() {
            let (mut server, session) = with_session(suite);
            server.config = Config::DEFAULT.with_suites(Suites::PSK);
            let mut client = resuming(ALL, Some(&session), 3);
            let talk = talk(&mut client, &mut server);
            assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
            assert_eq!((client.suite(), server.peer().suite()), (Some(suite), Some(suite)));
            let up = seal(&mut client, b"up");
            assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
        }
    }

    #[test]
    fn a_session_whose_suite_a_side_has_not_any_more_is_not_taken_up() {
        let Some(other) = ALL.get(1).copied() else { return };
        let (mut server, session) = with_session(Suite::PskAes128Ccm8);
        server.config = Config::DEFAULT.with_suites(Suites::new(&[other]).unwrap());
        let mut client = resuming(ALL, Some(&session), 3);
        let talked = talk(&mut client, &mut server);
        assert_eq!((talked.client, talked.server), (vec![Event::Established], vec![Event::Established]));

        let (mut server, session) = with_session(Suite::PskAes128Ccm8);
        server.config = Config::DEFAULT.with_suites(Suites::PSK);
        let mut client = resuming(&[other], Some(&session), 3);
        let talked = talk(&mut client, &mut server);
        assert_eq!((talked.client, talked.server), (vec![Event::Established], vec![Event::Established]));
        assert_eq!(client.suite(), Some(other));
    }
}
