//! Limits for the size of records, in both roles (RFC 6066 §4, RFC 8449).

use crate::support::*;
use dtls_psk::{Config, HEADROOM, Psk, Reason, SealError, TAILROOM};

const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };

/// Bodies of the two extensions in a hello.
const MAX_FRAGMENT_LENGTH: u16 = 1;
const RECORD_SIZE_LIMIT: u16 = 28;

fn extension(number: u16, value: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0, value.len() as u8], value].concat()
}

fn limited(limit: u16) -> Client {
    client_with(&Config::DEFAULT.with_record_size_limit(limit), PSK, 1)
}

/// What becomes of a payload of this length.
fn sealing(server: &mut Server, length: usize) -> Result<usize, SealError> {
    let mut buffer = vec![0; HEADROOM + length + TAILROOM];
    server.peer().seal(&mut buffer, HEADROOM..HEADROOM + length).map(|record| record.len())
}

/// The numbers of the extensions in a hello whose random is followed by a session id of no bytes.
fn extensions_of(mut list: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [high, low, _, length, rest @ ..] = list {
        found.push((u16::from_be_bytes([*high, *low]), rest[..usize::from(*length)].to_vec()));
        list = &rest[usize::from(*length)..];
    }
    found
}

fn answered(flight: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
    let length = usize::from(flight[0][24]);
    extensions_of(&flight[0][25 + 2 + 32 + 1 + 2 + 1 + 2..25 + length])
}

#[test]
fn a_server_keeps_to_the_limit_of_its_client() {
    for limit in [64, 65, 300, 512, 16_384] {
        let (mut client, mut server) = (limited(limit), Server::new(2));
        assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
        let limit = usize::from(limit);
        assert_eq!((server.peer().longest_payload(), client.longest_payload()), (limit, 16_384));
        assert_eq!(sealing(&mut server, limit + 1), Err(SealError::TooLong));
        let record = seal(server.peer(), &vec![7; limit]);
        assert_eq!(receive(&mut client, at(1), &record), [Event::Application(vec![7; limit])]);
        let record = seal(&mut client, &[7; 2000]);
        assert_eq!(server.handle(at(1), &record).0, [Event::Application(vec![7; 2000])]);
    }
}

#[test]
fn a_server_tells_a_limit_of_its_own_to_who_told_one() {
    let config = Config::DEFAULT.with_record_size_limit(100);
    for (mut client, longest) in [(limited(200), 100), (new_client(), 16_384)] {
        let mut server = Server { config, ..Server::new(2) };
        assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
        assert_eq!(client.longest_payload(), longest);
    }
}

#[cfg(feature = "connection-id")]
#[test]
fn the_type_behind_the_content_counts_where_there_is_one() {
    let config = Config::DEFAULT.with_record_size_limit(100);
    let (mut client, mut server) = with_connection_ids(&config, &[3; 2], &[]);
    assert_eq!(talk(&mut client, &mut server).client, [Event::Established]);
    assert_eq!((server.peer().longest_payload(), client.longest_payload()), (99, 100));
    assert_eq!(sealing(&mut server, 100), Err(SealError::TooLong));
    let record = seal(server.peer(), &[7; 99]);
    assert_eq!(receive(&mut client, at(1), &record), [Event::Application(vec![7; 99])]);
}

#[test]
fn both_extensions_are_offered_and_the_newer_one_is_answered() {
    for (limit, length) in [(300, None), (600, Some(1)), (4096, Some(4)), (16_384, None)] {
        let (mut client, mut server) = (limited(limit), Server::new(2));
        let talk = talk(&mut client, &mut server);
        // Behind version, random, session id, cookie, two suites and the compression.
        let offered = extensions_of(&talk.from_client[0][25 + 2 + 32 + 1 + 1 + 6 + 2 + 2..]);
        let value =
            |number| offered.iter().find(|(known, _)| *known == number).map(|(_, value)| value.clone());
        assert_eq!(value(MAX_FRAGMENT_LENGTH), length.map(|code| vec![code]));
        assert_eq!(value(RECORD_SIZE_LIMIT), Some(limit.to_be_bytes().to_vec()));
        let answered = answered(&talk.from_server[1..]);
        assert!(answered.contains(&(RECORD_SIZE_LIMIT, vec![0x40, 0])), "{answered:?}");
        assert!(answered.iter().all(|(number, _)| *number != MAX_FRAGMENT_LENGTH));
    }
}

#[test]
fn a_client_without_a_limit_offers_neither_and_is_answered_neither() {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk(&mut client, &mut server);
    let offered = extensions_of(&talk.from_client[0][25 + 2 + 32 + 1 + 1 + 6 + 2 + 2..]);
    let answered = answered(&talk.from_server[1..]);
    assert!(offered.iter().chain(&answered).all(|(number, _)| ![1, 28].contains(number)));
}

fn answer_to(extensions: &[u8]) -> (Vec<(u16, Vec<u8>)>, Server) {
    let mut server = Server::new(2);
    let extensions = Some([&[0, 0x17, 0, 0], extensions].concat());
    let answer = Hello { extensions, ..Hello::new() }.send(&mut server, at(0));
    (answered(&answer), server)
}

#[test]
fn a_fragment_length_is_answered_with_itself() {
    for (code, bytes) in [(1, 512), (2, 1024), (3, 2048), (4, 4096)] {
        let (answered, mut server) = answer_to(&extension(MAX_FRAGMENT_LENGTH, &[code]));
        assert!(answered.contains(&(MAX_FRAGMENT_LENGTH, vec![code])), "{answered:?}");
        assert_eq!(server.peer_any().longest_payload(), bytes);
    }
}

#[test]
fn impossible_lengths_and_limits_are_illegal_parameters() {
    let refused = |extensions: &[u8]| {
        let mut server = Server::new(2);
        let extensions = Some(extensions.to_vec());
        let answer = Hello { extensions, ..Hello::new() }.send(&mut server, at(0));
        (server.refused, answer[0][13..].to_vec())
    };
    let length = |value: &[u8]| extension(MAX_FRAGMENT_LENGTH, value);
    let limit = |value: &[u8]| extension(RECORD_SIZE_LIMIT, value);
    for extensions in [
        length(&[0]),
        length(&[5]),
        length(&[255]),
        length(&[]),
        length(&[1, 1]),
        [length(&[1]), length(&[1])].concat(),
        limit(&[0, 63]),
        limit(&[0, 0]),
        limit(&[64]),
        limit(&[0, 0, 64]),
        limit(&[]),
        [limit(&[1, 0]), limit(&[1, 0])].concat(),
    ] {
        assert_eq!(refused(&extensions), (vec![Reason::ProtocolViolation], vec![2, 47]), "{extensions:?}");
    }
}

#[test]
fn beside_a_limit_a_length_is_ignored_whatever_it_is() {
    for code in [1, 9] {
        let both = [extension(MAX_FRAGMENT_LENGTH, &[code]), extension(RECORD_SIZE_LIMIT, &[1, 0])].concat();
        let (answered, mut server) = answer_to(&both);
        assert!(answered.contains(&(RECORD_SIZE_LIMIT, vec![0x40, 0])));
        assert!(answered.iter().all(|(number, _)| *number != MAX_FRAGMENT_LENGTH));
        assert_eq!(server.peer_any().longest_payload(), 256);
    }
}

/// What a client does about a ServerHello with this answer, and how long its payloads may be then.
fn client_answered(limit: Option<u16>, answer: &[u8]) -> (Option<Reason>, usize) {
    let mut client = limit.map_or_else(new_client, limited);
    let body = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xa8, 0, 0, answer.len() as u8], answer].concat();
    let events = receive(&mut client, at(0), &message(2, 0, &body));
    let reason = events.first().map(|event| match event {
        Event::Closed(reason) => *reason,
        other => panic!("{other:?}"),
    });
    (reason, client.longest_payload())
}

#[test]
fn a_client_takes_the_answer_to_what_it_offered_and_no_other() {
    let length = |code| extension(MAX_FRAGMENT_LENGTH, &[code]);
    let limit = |value: u16| extension(RECORD_SIZE_LIMIT, &value.to_be_bytes());
    let free = 16_384;
    for (offered, answer, expected) in [
        (Some(600), vec![], (None, free)),
        (Some(600), length(1), (None, 512)),
        (Some(600), limit(64), (None, 64)),
        (Some(600), limit(u16::MAX), (None, free)),
        (Some(600), limit(63), (Some(Reason::ProtocolViolation), free)),
        (Some(600), length(2), (Some(Reason::ProtocolViolation), free)),
        (Some(600), length(0), (Some(Reason::ProtocolViolation), free)),
        (Some(600), [length(1), limit(64)].concat(), (Some(Reason::ProtocolViolation), free)),
        // It offered a limit that no length is within.
        (Some(300), length(1), (Some(Reason::UnofferedExtension), free)),
        (None, length(1), (Some(Reason::UnofferedExtension), free)),
        (None, limit(64), (Some(Reason::UnofferedExtension), free)),
    ] {
        assert_eq!(client_answered(offered, &answer), expected, "{offered:?} {answer:?}");
    }
}

#[test]
fn limits_last_over_a_planned_restart() {
    let (mut client, mut server) = (limited(100), Server::new(2));
    talk(&mut client, &mut server);
    let mut bytes = [0; dtls_psk::SAVED_MAX];
    let length = server.peers.remove(0).save(&mut bytes).unwrap();
    server.peers.push(Peer::restore(&bytes[..length], 0).unwrap());
    assert_eq!(server.peer().longest_payload(), 100);
    assert_eq!(sealing(&mut server, 101), Err(SealError::TooLong));
    // Behind the keys and in front of the two Connection IDs.
    let place = length - 2 - 4;
    assert_eq!(bytes[place..place + 4], [0, 100, 0x40, 0]);
    for impossible in [[0, 62], [0x40, 1], [0x80, 0]] {
        bytes[place..place + 2].copy_from_slice(&impossible);
        assert!(Peer::restore(&bytes[..length], 0).is_none(), "{impossible:?}");
    }
}

#[cfg(feature = "resumption")]
mod over_resumption {
    use super::*;
    use crate::resumption::{keeping_server, with_session};
    use dtls_psk::{Handshake, Session};

    /// The session with another max_fragment_length, by its code.
    fn with_length(session: &Session, code: u8) -> Session {
        let mut bytes = [0; Session::LONGEST];
        let length = session.emit(&mut bytes).unwrap();
        bytes[51] = code;
        Session::parse(&bytes[..length]).unwrap()
    }

    #[test]
    fn a_length_is_a_part_of_the_session() {
        let (_, session) = with_session();
        for code in 0..=4 {
            assert_eq!(with_length(&session, code) == session, code == 0);
        }
    }

    #[test]
    fn a_client_goes_on_with_a_session_under_its_length_only() {
        let (mut server, session) = with_session();
        for (limit, code, id) in
            [(None, 0, 8), (Some(600), 0, 8), (Some(600), 1, 8), (None, 1, 0), (Some(600), 2, 0)]
        {
            let session = with_length(&session, code);
            server.sessions = Some(vec![with_length(&session, 0)]);
            server.peers.clear();
            let config = limit.map_or(Config::DEFAULT, |limit| Config::DEFAULT.with_record_size_limit(limit));
            let (mut random, memory) = (Random(3), Handshake::new());
            let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
            let mut client =
                Client::resuming_client(at(0), &config, PSK, Some(&session), rng, memory).unwrap();
            let talk = talk(&mut client, &mut server);
            assert_eq!(talk.from_client[0][25 + 2 + 32], id, "{limit:?} {code}");
            assert_eq!(
                talk.client,
                [if id == 0 { Event::Established } else { Event::Resumed }],
                "{limit:?} {code}"
            );
        }
    }

    #[test]
    fn a_server_goes_on_with_a_session_under_its_length_only() {
        let (_, session) = with_session();
        let length = |code| extension(MAX_FRAGMENT_LENGTH, &[code]);
        let limit = extension(RECORD_SIZE_LIMIT, &[1, 0]);
        for (code, offered, is_resumed) in [
            (0, vec![], true),
            (0, limit.clone(), true),
            (0, length(1), false),
            (1, length(1), true),
            (1, vec![], false),
            (1, length(2), false),
            (1, [length(1), limit].concat(), false),
        ] {
            let mut server = keeping_server();
            server.sessions = Some(vec![with_length(&session, code)]);
            let extensions = Some([&[0, 0x17, 0, 0], &*offered].concat());
            let session_id = session.id().to_vec();
            let flight = Hello { extensions, session_id, ..Hello::new() }.send(&mut server, at(0));
            let has_finished = records_of(&flight[0]).len() == 3;
            assert_eq!(has_finished, is_resumed, "{code} {offered:?}");
            if code == 1 && is_resumed {
                assert_eq!(server.peer_any().longest_payload(), 512);
            }
        }
    }
}
