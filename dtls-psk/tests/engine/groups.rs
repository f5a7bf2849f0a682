//! The groups of the key agreement: which of them is chosen, and what is no share of x25519.

use crate::support::*;
use dtls_psk::{Config, Psk, Reason, Suite, Suites};

const SERVER_KEY_EXCHANGE: u8 = 12;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const SECP256R1: [u8; 2] = [0, 0x17];
const X25519: [u8; 2] = [0, 0x1d];

fn config(prefers_x25519: bool) -> Config {
    let suites = Suites::new(&[Suite::EcdhePskAes128Ccm8]).unwrap();
    Config::DEFAULT.with_suites(suites).with_x25519_preferred(prefers_x25519)
}

fn pair(of_client: bool, of_server: bool) -> (Client, Server) {
    let client = client_with(&config(of_client), Psk { identity: IDENTITY, key: KEY }, 1);
    (client, Server { config: config(of_server), ..Server::new(2) })
}

/// The body of the first message of a type.
fn body_of(datagrams: &[Vec<u8>], code: u8) -> Vec<u8> {
    let mut found = None;
    for datagram in datagrams {
        for record in records_of(datagram).into_iter().filter(|record| record[0] == 22 && record[4] == 0) {
            let mut rest = &record[13..];
            while let Some(length) = rest.get(10..12) {
                let length = 12 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                if rest[0] == code {
                    found = found.or(Some(rest[12..length].to_vec()));
                }
                rest = &rest[length..];
            }
        }
    }
    found.unwrap()
}

#[test]
fn a_server_chooses_by_its_own_order() {
    for (of_client, of_server) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut client, mut server) = pair(of_client, of_server);
        let talk = talk(&mut client, &mut server);
        assert_eq!((&*talk.client, &*talk.server), (&[Event::Established][..], &[Event::Established][..]));
        // Behind an empty hint and named_curve.
        let parameters = body_of(&talk.from_server, SERVER_KEY_EXCHANGE);
        let (group, length) = if of_server { (X25519, 32) } else { (SECP256R1, 65) };
        assert_eq!((&parameters[3..5], usize::from(parameters[5])), (&group[..], length));
        assert_eq!(parameters.len(), 6 + length);
        let key_exchange = body_of(&talk.from_client, CLIENT_KEY_EXCHANGE);
        assert_eq!(key_exchange.len(), 2 + IDENTITY.len() + 1 + length);
        let up = seal(&mut client, b"up");
        assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
        let down = seal(server.peer(), b"down");
        assert_eq!(receive(&mut client, at(1), &down), [Event::Application(b"down".to_vec())]);
    }
}

#[test]
fn a_handshake_with_x25519_is_66_bytes_shorter() {
    let total = |prefers_x25519| {
        let (mut client, mut server) = pair(false, prefers_x25519);
        let talk = talk(&mut client, &mut server);
        talk.from_client.iter().chain(&talk.from_server).map(Vec::len).sum::<usize>()
    };
    assert_eq!((total(false), total(true)), (653, 653 - 2 * 33));
}

#[test]
fn who_knows_one_group_alone_gets_that() {
    for (groups, prefers_x25519, chosen) in [
        (X25519, false, X25519),
        (SECP256R1, true, SECP256R1),
        (SECP256R1, false, SECP256R1),
        (X25519, true, X25519),
    ] {
        let mut server = Server { config: config(prefers_x25519), ..Server::new(2) };
        let extensions = Some([&[0, 10, 0, 4, 0, 2][..], &groups].concat());
        let suites = vec![0xd0, 0x03, 0x00, 0xff];
        let flight = Hello { suites, extensions, ..Hello::new() }.send(&mut server, at(0));
        assert_eq!(body_of(&flight, SERVER_KEY_EXCHANGE)[3..5], chosen);
    }
}

/// What is no share of x25519: of small order, which gives nothing but zeros, and of another length.
fn bad_shares() -> Vec<Vec<u8>> {
    let one = [&[1][..], &[0; 31]].concat();
    // p - 1, p and p + 1, also with the bit that does not count.
    let near = |first: u8, last: u8| [&[first][..], &[0xff; 30], &[last]].concat();
    let of_small_order = [0xec, 0xed, 0xee].map(|first| [near(first, 0x7f), near(first, 0xff)]).concat();
    let of_other_length = [vec![], vec![9; 31], vec![9; 33], vec![4; 65]];
    [vec![vec![0; 32], one], of_small_order, of_other_length.to_vec()].concat()
}

#[test]
fn a_share_of_x25519_that_is_none_ends_the_handshake_14() {
    for share in bad_shares() {
        // Behind the hint and the group, and behind the identity.
        for (code, place) in [(SERVER_KEY_EXCHANGE, 5), (CLIENT_KEY_EXCHANGE, 2 + IDENTITY.len())] {
            let (mut client, mut server) = pair(false, true);
            let talk = talk_with(&mut client, &mut server, at(0), |_, datagram| {
                change_messages(datagram, code, |body| {
                    body.truncate(place);
                    body.push(share.len() as u8);
                    body.extend(&share);
                });
                true
            });
            let refused = vec![Event::Closed(Reason::InvalidShare)];
            let is_servers = code == SERVER_KEY_EXCHANGE;
            let expected = if is_servers { (refused, vec![]) } else { (vec![], refused) };
            assert_eq!((talk.client, talk.server), expected, "{share:02x?}");
            let said = if is_servers { talk.from_client } else { talk.from_server };
            assert_eq!(said.last().unwrap()[13..], [2, 47]);
            assert!(server.asked.is_empty());
        }
    }
}

#[cfg(feature = "rpk")]
mod signed {
    use super::*;
    use crate::pair::{DOWN, Pair, TYPES, UP, config_of, is_refused};
    use crate::proofs::with_signed_share;

    fn pair_of(kind: dtls_psk::CertificateType) -> Pair {
        let config = config_of(Suite::EcdheEcdsaAes128Ccm8, kind).with_x25519_preferred(true);
        Pair::new(config, kind)
    }

    #[test]
    fn signatures_of_p256_prove_an_agreement_on_x25519() {
        for kind in TYPES {
            let mut pair = pair_of(*kind);
            let talk = pair.talk_with(|_, _| true);
            assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
            let parameters = body_of(&talk.from_server, SERVER_KEY_EXCHANGE);
            assert_eq!(parameters[..4], [3, 0, 0x1d, 32]);
            assert_eq!(body_of(&talk.from_client, CLIENT_KEY_EXCHANGE).len(), 33);
            let groups = [pair.owner.groups, pair.server.owner.groups].concat();
            assert_eq!(groups, [dtls_psk::Group::X25519; 2]);
        }
    }

    #[test]
    fn a_signed_share_of_x25519_that_is_none_ends_the_handshake_14() {
        for share in bad_shares() {
            for (direction, kind) in
                [UP, DOWN].into_iter().flat_map(|direction| TYPES.iter().map(move |kind| (direction, *kind)))
            {
                let bent = share.clone();
                let talk = with_signed_share(pair_of(kind), direction, move |share| share.clone_from(&bent));
                is_refused(direction, &talk, Reason::InvalidShare, 47);
            }
        }
    }

    #[test]
    fn who_does_not_know_p256_cannot_read_our_certificate() {
        // RFC 8422 §5.1: the groups are those of keys in certificates too.
        for (groups, refused) in
            [(&[0, 2, 0, 0x1d][..], vec![Reason::NoCommonSuite]), (&[0, 4, 0, 0x1d, 0, 0x17], vec![])]
        {
            let mut server = pair_of(dtls_psk::CertificateType::RawPublicKey).server;
            let length = groups.len() as u8;
            let extensions =
                [&[0, 10, 0, length][..], groups, &[0, 19, 0, 2, 1, 2, 0, 20, 0, 2, 1, 2]].concat();
            let suites = vec![0xc0, 0xae, 0x00, 0xff];
            Hello { suites, extensions: Some(extensions), ..Hello::new() }.send(&mut server, at(0));
            assert_eq!(server.refused, refused);
        }
    }
}
