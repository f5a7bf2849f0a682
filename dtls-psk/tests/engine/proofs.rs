//! What proves a side by a signature, of either kind and in both directions: each step left out, bent, exchanged, or made too
//! long, and what the other side says to it.

use crate::owner::{Owner, bare_certificate};
use crate::pair::*;
use crate::support::*;
use dtls_psk::{CertificateType, Config, Crypto as _, Psk, Reason, Refusal, RustCrypto, SIGNATURE};
use sha2::Digest as _;

/// The secrets of the owners, by who speaks.
fn secret(direction: bool) -> [u8; 32] {
    [if direction == UP { 0xc1 } else { 0x51 }; 32]
}

/// Both directions with both kinds.
fn all() -> impl Iterator<Item = (bool, CertificateType)> {
    [UP, DOWN].into_iter().flat_map(|direction| TYPES.iter().map(move |kind| (direction, *kind)))
}

/// What was asked of the owner who hears what is said in this direction.
fn asked(pair: &Pair, direction: bool) -> &[&'static str] {
    if direction == UP { &pair.server.owner.asked } else { &pair.owner.asked }
}

/// What it is asked before it hears a Certificate.
fn before_certificate(direction: bool) -> &'static [&'static str] {
    if direction == UP { &["share", "present", "sign"] } else { &[] }
}

#[test]
fn whoever_is_not_trusted_hears_why() {
    for (refusal, alert) in [
        (Refusal::Malformed, 42),
        (Refusal::Unsupported, 43),
        (Refusal::Revoked, 44),
        (Refusal::Expired, 45),
        (Refusal::Unknown, 46),
        (Refusal::WrongName, 46),
        (Refusal::UnknownIssuer, 48),
        (Refusal::NotAllowed, 49),
        (Refusal::TooLong, 42),
        (Refusal::UnsupportedDigest, 46),
    ] {
        for (direction, kind) in all() {
            let mut pair = Pair::of(kind);
            let owner = if direction == UP { &mut pair.server.owner } else { &mut pair.owner };
            owner.refusal = Some(refusal);
            let talk = pair.talk_with(|_, _| true);
            is_refused(direction, &talk, Reason::UntrustedPeer(refusal), alert);
            assert_eq!(asked(&pair, direction), [before_certificate(direction), &["check"]].concat());
        }
    }
}

/// The message with the signature of who speaks in this direction, and where in its body the signature begins.
fn signed(direction: bool) -> (u8, usize) {
    if direction == UP { (CERTIFICATE_VERIFY, 0) } else { (SERVER_KEY_EXCHANGE, 69) }
}

#[test]
fn a_signature_of_another_key_or_of_something_else_ends_the_handshake() {
    let bends: [fn(&mut [u8; SIGNATURE]); 3] = [
        |signature| signature[63] ^= 1,
        |signature| signature[0] ^= 1,
        |signature| *signature = [0; SIGNATURE],
    ];
    for (direction, kind) in all() {
        for bend in bends {
            let mut pair = Pair::of(kind);
            let owner = if direction == UP { &mut pair.owner } else { &mut pair.server.owner };
            owner.bend = bend;
            let talk = pair.talk_with(|_, _| true);
            is_refused(direction, &talk, Reason::BadSignature, 51);
        }
        // What was signed is another share.
        let share = if direction == UP { CLIENT_KEY_EXCHANGE } else { SERVER_KEY_EXCHANGE };
        let talk = changed(&mut Pair::of(kind), direction, share, |body| body[10] ^= 1);
        is_refused(direction, &talk, Reason::BadSignature, 51);
        // Or what is presented is another's, or a key that lies beside the curve.
        let stranger = presented(kind, &Owner::new(0x66).raw_public_key());
        let talk = changed(&mut Pair::of(kind), direction, CERTIFICATE, |body| body.clone_from(&stranger));
        is_refused(direction, &talk, Reason::BadSignature, 51);
        let beside = |body: &mut Vec<u8>| *body.last_mut().unwrap() ^= 1;
        let talk = changed(&mut Pair::of(kind), direction, CERTIFICATE, beside);
        is_refused(direction, &talk, Reason::BadSignature, 51);
    }
}

#[test]
fn a_signature_of_another_handshake_proves_nobody() {
    for (direction, kind) in all() {
        let (code, _) = signed(direction);
        let mut earlier = Vec::new();
        let mut pair = Pair::of(kind);
        pair.server = Server { config: pair.server.config, owner: pair.server.owner, ..Server::new(5) };
        let talk = pair.talk_with(|is_up, datagram| {
            replaced(datagram, |it, body| {
                if (is_up, it) == (direction, code) {
                    earlier = body.to_vec();
                }
                Some((it, body.to_vec()))
            });
            true
        });
        assert_eq!(talk.server, [Event::Established]);
        let talk = changed(&mut Pair::of(kind), direction, code, |body| body.clone_from(&earlier));
        is_refused(direction, &talk, Reason::BadSignature, 51);
    }
}

/// Both talk while the share of one side is bent, and signed by its own key all the same.
pub(crate) fn with_signed_share(mut pair: Pair, direction: bool, bend: impl Fn(&mut Vec<u8>)) -> Talk {
    let sign = |signed: &[u8]| {
        let digest = sha2::Sha256::digest(signed).into();
        let signature = RustCrypto::p256_sign(&secret(direction), &digest).unwrap();
        let der = p256::ecdsa::Signature::from_slice(&signature).unwrap().to_der();
        [&[4, 3, 0, der.as_bytes().len() as u8], der.as_bytes()].concat()
    };
    // The handshake so far, and the randoms.
    let (mut transcript, mut randoms) = (Vec::new(), Vec::new());
    pair.talk_with(|is_up, datagram| {
        replaced(datagram, |code, body| {
            let mut body = body.to_vec();
            match code {
                1 => (transcript, randoms) = (Vec::new(), body[2..34].to_vec()),
                SERVER_HELLO => randoms.extend(&body[2..34]),
                SERVER_KEY_EXCHANGE if direction == DOWN => {
                    body.truncate(4 + usize::from(body[3]));
                    let mut share = body.split_off(4);
                    bend(&mut share);
                    body[3] = share.len() as u8;
                    body.extend(share);
                    body.extend(sign(&[&randoms[..], &body].concat()));
                }
                CLIENT_KEY_EXCHANGE if direction == UP => {
                    let mut share = body.split_off(1);
                    bend(&mut share);
                    body = [&[share.len() as u8][..], &share].concat();
                }
                CERTIFICATE_VERIFY if direction == UP => body = sign(&transcript),
                _ => {}
            }
            // Not the request for a cookie. The numbers are those that the messages have on a perfect link.
            let seq = match (is_up, code) {
                (UP, 1) => 1,
                (DOWN, SERVER_HELLO) => 1,
                (_, CERTIFICATE) => 2,
                (_, SERVER_KEY_EXCHANGE | CLIENT_KEY_EXCHANGE) => 3,
                (_, CERTIFICATE_REQUEST) => 4,
                (_, 14) => 5,
                _ => 0,
            };
            if seq > 0 {
                transcript.extend(fragment(code, body.len(), seq, 0, &body));
            }
            Some((code, body))
        });
        true
    })
}

#[test]
fn a_share_that_is_none_ends_the_handshake_even_if_it_is_signed_14() {
    for (direction, kind) in all() {
        let talk = with_signed_share(Pair::of(kind), direction, |_| ());
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        let bad: [fn(&mut Vec<u8>); 6] = [
            // Beside the curve, the origin, the neutral element, compressed, too short, and too long.
            |share| share[64] ^= 1,
            |share| share[1..].fill(0),
            |share| *share = vec![0],
            |share| {
                share[0] = 2;
                share.truncate(33);
            },
            |share| share.truncate(64),
            |share| share.push(0),
        ];
        for bend in bad {
            let talk = with_signed_share(Pair::of(kind), direction, bend);
            is_refused(direction, &talk, Reason::InvalidShare, 47);
        }
    }
}

#[test]
fn a_share_on_a_curve_that_was_not_offered_ends_the_handshake_14() {
    // secp384r1, x448, and explicit parameters.
    for (place, byte) in [(2, 0x18), (2, 0x1e), (0, 1)] {
        for kind in TYPES {
            let talk = changed(&mut Pair::of(*kind), DOWN, SERVER_KEY_EXCHANGE, |body| body[place] = byte);
            is_refused_by_client(&talk, Reason::InvalidShare, 47);
        }
    }
}

#[test]
fn a_signature_of_an_algorithm_that_was_not_offered_ends_the_handshake_15() {
    for algorithm in [[2, 3], [4, 1], [5, 3], [8, 7]] {
        for (direction, kind) in all() {
            let (code, place) = signed(direction);
            let change = |body: &mut Vec<u8>| body[place..place + 2].copy_from_slice(&algorithm);
            let talk = changed(&mut Pair::of(kind), direction, code, change);
            is_refused(direction, &talk, Reason::UnofferedAlgorithm, 47);
        }
        // A server that wants nothing else of its client.
        for kind in TYPES {
            let change = |body: &mut Vec<u8>| body[4..6].copy_from_slice(&algorithm);
            let talk = changed(&mut Pair::of(*kind), DOWN, CERTIFICATE_REQUEST, change);
            is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
            // Or another kind of key: rsa_sign.
            let talk = changed(&mut Pair::of(*kind), DOWN, CERTIFICATE_REQUEST, |body| body[1] = 1);
            is_refused_by_client(&talk, Reason::UnofferedAlgorithm, 47);
        }
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
    for (direction, kind) in all() {
        let (code, place) = signed(direction);
        for change in bad {
            let talk = changed(&mut Pair::of(kind), direction, code, |body| {
                let mut signed = body.split_off(place);
                change(&mut signed);
                body.extend(signed);
            });
            is_refused(direction, &talk, Reason::UnofferedAlgorithm, 47);
        }
    }
}

#[test]
fn a_key_of_another_kind_curve_or_form_is_refused() {
    let bad: [fn(&mut Vec<u8>); 4] = [
        // The algorithm, the curve, the form of the point, and a key that ends early.
        |key| key[12] ^= 1,
        |key| key[22] ^= 1,
        |key| key[26] = 2,
        |key| {
            key.pop();
            key[1] -= 1;
            key[24] -= 1;
        },
    ];
    for (direction, kind) in all() {
        for change in bad {
            let mut key = Owner { secret: secret(direction), ..Owner::new(0) }.raw_public_key();
            change(&mut key);
            let body = presented(kind, &key);
            let mut pair = Pair::of(kind);
            let talk = changed(&mut pair, direction, CERTIFICATE, |it| it.clone_from(&body));
            is_refused(direction, &talk, Reason::UnsupportedKey, 43);
            assert_eq!(asked(&pair, direction), before_certificate(direction));
        }
    }
}

#[test]
fn who_presents_nothing_is_refused_26() {
    for (direction, kind) in all() {
        let talk = changed(&mut Pair::of(kind), direction, CERTIFICATE, |body| *body = vec![0; 3]);
        is_refused(direction, &talk, Reason::NoCertificate, 40);
        // A chain whose first certificate is empty has no key.
        let empty_first = |body: &mut Vec<u8>| *body = vec![0, 0, 3, 0, 0, 0];
        let talk = changed(&mut Pair::of(kind), direction, CERTIFICATE, empty_first);
        is_refused(direction, &talk, Reason::UnsupportedKey, 43);
    }
}

/// The kind beside this one.
#[cfg(feature = "x509")]
fn other(kind: CertificateType) -> CertificateType {
    match kind {
        CertificateType::RawPublicKey => CertificateType::X509,
        CertificateType::X509 => CertificateType::RawPublicKey,
    }
}

#[cfg(feature = "x509")]
#[test]
fn a_certificate_where_a_raw_public_key_was_agreed_and_the_reverse_is_refused() {
    for (direction, kind) in all() {
        let key = Owner { secret: secret(direction), ..Owner::new(0) }.raw_public_key();
        let mut pair = Pair::of(kind);
        let body = presented(other(kind), &key);
        let talk = changed(&mut pair, direction, CERTIFICATE, |it| it.clone_from(&body));
        match kind {
            CertificateType::RawPublicKey => is_refused(direction, &talk, Reason::UnsupportedKey, 43),
            // The key cannot even be read as a list: it may be a forgery, and the genuine one may still come.
            CertificateType::X509 => is_nobody(&talk),
        }
        assert_eq!(asked(&pair, direction), before_certificate(direction));
    }
}

#[test]
fn a_certificate_with_lengths_that_do_not_fit_is_nobodys() {
    let bad: [fn(&mut Vec<u8>); 4] = [
        |body| body.push(0),
        |body| body[2] += 1,
        |body| {
            body.pop();
        },
        |body| body.truncate(2),
    ];
    for (direction, kind) in all() {
        for change in bad {
            let mut pair = Pair::of(kind);
            is_nobody(&changed(&mut pair, direction, CERTIFICATE, change));
            assert_eq!(asked(&pair, direction), before_certificate(direction));
        }
    }
    // The last certificate of a list reaches beyond it.
    #[cfg(feature = "x509")]
    for direction in [UP, DOWN] {
        let mut pair = Pair::of(CertificateType::X509);
        is_nobody(&changed(&mut pair, direction, CERTIFICATE, |body| body[5] += 1));
        assert_eq!(asked(&pair, direction), before_certificate(direction));
    }
}

#[test]
fn a_certificate_longer_than_the_memory_for_it_ends_with_that_reason() {
    for (direction, kind) in all() {
        let mut pair = Pair::of(kind);
        let key = Owner { secret: secret(direction), ..Owner::new(0) }.raw_public_key();
        let long = [&bare_certificate(&key)[..], &[0; 3000]].concat();
        let with_length = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
        let body = with_length(&with_length(&long));
        // It may be a forgery: only the deadline shows that nothing else comes.
        is_nobody(&changed(&mut pair, direction, CERTIFICATE, |it| it.clone_from(&body)));
        assert_eq!(asked(&pair, direction), before_certificate(direction));
        let ended = if direction == UP {
            assert!(pair.server.peer_any().counters().too_large > 0);
            pair.server.handle_timeout(at(90_000)).0
        } else {
            assert!(pair.client.counters().too_large > 0);
            pair.client.handle_timeout(at(90_000)).map(Event::of).into_iter().collect()
        };
        assert_eq!(ended, [Event::Closed(Reason::TooLong)]);
    }
}

#[test]
fn a_handshake_without_one_of_its_messages_proves_nobody_26() {
    for kind in TYPES {
        for (direction, gone) in [
            (UP, CERTIFICATE),
            (UP, CLIENT_KEY_EXCHANGE),
            (UP, CERTIFICATE_VERIFY),
            (DOWN, CERTIFICATE),
            (DOWN, SERVER_KEY_EXCHANGE),
        ] {
            let mut pair = Pair::of(*kind);
            let talk = pair.talk_with(|is_up, datagram| {
                replaced(datagram, |code, body| {
                    ((is_up, code) != (direction, gone)).then(|| (code, body.to_vec()))
                });
                true
            });
            is_nobody(&talk);
            assert!(!asked(&pair, direction).contains(&"prove"), "{gone}");
        }
        // Without the request the client stays without a name, which the server does not let pass.
        let mut pair = Pair::of(*kind);
        let talk = pair.talk_with(|is_up, datagram| {
            replaced(datagram, |code, body| {
                (is_up || code != CERTIFICATE_REQUEST).then(|| (code, body.to_vec()))
            });
            true
        });
        is_nobody(&talk);
        assert_eq!(pair.owner.asked, ["check", "prove"]);
    }
}

#[test]
fn messages_in_the_wrong_order_or_twice_prove_nobody() {
    // Under the number of one that has its turn.
    for (direction, instead, turn) in [
        (UP, CERTIFICATE_VERIFY, CERTIFICATE),
        (UP, CLIENT_KEY_EXCHANGE, CERTIFICATE),
        (UP, CERTIFICATE, CLIENT_KEY_EXCHANGE),
        (UP, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE),
        (UP, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY),
        (UP, CERTIFICATE, CERTIFICATE_VERIFY),
        (DOWN, SERVER_KEY_EXCHANGE, CERTIFICATE),
        (DOWN, CERTIFICATE_REQUEST, CERTIFICATE),
        (DOWN, CERTIFICATE, SERVER_KEY_EXCHANGE),
        (DOWN, CERTIFICATE_REQUEST, SERVER_KEY_EXCHANGE),
        (DOWN, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST),
        (DOWN, CERTIFICATE, CERTIFICATE_REQUEST),
    ] {
        for kind in TYPES {
            let mut pair = Pair::of(*kind);
            let talk = pair.talk_with(|is_up, datagram| {
                replaced(datagram, |code, body| {
                    let is_turn = (is_up, code) == (direction, turn);
                    Some((if is_turn { instead } else { code }, body.to_vec()))
                });
                true
            });
            is_nobody(&talk);
            assert!(!asked(&pair, direction).contains(&"prove"), "{instead} for {turn}");
        }
    }
}

#[test]
fn a_side_of_pre_shared_keys_is_not_talked_into_certificates_nor_the_reverse() {
    let psk = Psk { identity: IDENTITY, key: KEY };
    // A server that chooses a suite of the other kind.
    let suite_is = |code: u16| move |body: &mut Vec<u8>| body[35..37].copy_from_slice(&code.to_be_bytes());
    let (mut client, mut server) = (client_with(&Config::DEFAULT, psk, 1), Server::new(2));
    let talk = talk_with(&mut client, &mut server, at(0), |_, datagram| {
        change_messages(datagram, SERVER_HELLO, suite_is(0xc0ae));
        true
    });
    is_refused_by_client(&talk, Reason::NoCommonSuite, 40);
    for kind in TYPES {
        let talk = changed(&mut Pair::of(*kind), DOWN, SERVER_HELLO, suite_is(0xc0a8));
        is_refused_by_client(&talk, Reason::NoCommonSuite, 40);
    }
    // One that presents something, and asks for something, in a handshake of pre-shared keys.
    let body = presented(CertificateType::RawPublicKey, &Owner::new(0x51).raw_public_key());
    for (code, body) in [(CERTIFICATE, &body[..]), (CERTIFICATE_REQUEST, &[1, 64, 0, 2, 4, 3, 0, 0])] {
        let (mut client, mut server) = (client_with(&Config::DEFAULT, psk, 1), Server::new(2));
        let talk = talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            replaced(datagram, |it, own| {
                let is_turn = !is_up && it == 14;
                Some(if is_turn { (code, body.to_vec()) } else { (it, own.to_vec()) })
            });
            true
        });
        is_nobody(&talk);
        assert!(client.poll_pending().is_none() && client.counters().unexpected == 1);
    }
    // A client that presents something to a server of pre-shared keys.
    let (mut client, mut server) = (client_with(&Config::DEFAULT, psk, 1), Server::new(2));
    let talk = talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
        replaced(datagram, |it, own| {
            let is_turn = is_up && it == CLIENT_KEY_EXCHANGE;
            Some(if is_turn { (CERTIFICATE, body.clone()) } else { (it, own.to_vec()) })
        });
        true
    });
    is_nobody(&talk);
    assert!(server.asked.is_empty() && server.peer_any().counters().unexpected == 1);
    // One that names an identity to a server of certificates: in place of its share, and in place of everything.
    for kind in TYPES {
        let identity = [&[0, IDENTITY.len() as u8], IDENTITY].concat();
        let mut pair = Pair::of(*kind);
        is_nobody(&changed(&mut pair, UP, CLIENT_KEY_EXCHANGE, |body| body.clone_from(&identity)));
        let mut pair = Pair::of(*kind);
        let talk = pair.talk_with(|is_up, datagram| {
            replaced(datagram, |code, body| match (is_up, code) {
                (UP, CERTIFICATE) => Some((CLIENT_KEY_EXCHANGE, identity.clone())),
                (UP, CLIENT_KEY_EXCHANGE | CERTIFICATE_VERIFY) => None,
                _ => Some((code, body.to_vec())),
            });
            true
        });
        is_nobody(&talk);
        assert_eq!(pair.server.owner.asked, ["share", "present", "sign"]);
    }
}

/// Changes the extensions of a ServerHello.
fn with_extensions(body: &mut Vec<u8>, change: impl Fn(&mut Vec<u8>)) {
    // Behind version, random, an empty session id, suite and compression.
    let mut extensions = body.split_off(38).split_off(2);
    change(&mut extensions);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
}

#[test]
fn what_a_server_answers_of_certificates_is_what_was_offered() {
    let drop_answers = |extensions: &mut Vec<u8>| {
        let place = extensions.windows(3).position(|bytes| bytes == [0, 19, 0]);
        place.into_iter().for_each(|place| extensions.truncate(place));
    };
    let wrong = (Reason::WrongCertificateType, 43);
    let unoffered = (Reason::UnofferedExtension, 110);
    let twice = (Reason::ProtocolViolation, 47);
    for (of_keys, extensions, (reason, alert)) in [
        // No word of the server's own kind; another one, none, and two.
        (true, &[][..], wrong),
        (true, &[0, 19, 0, 1, 2], wrong),
        (true, &[0, 20, 0, 1, 0], wrong),
        (true, &[0, 20, 0, 0], wrong),
        (true, &[0, 20, 0, 2, 2, 2], wrong),
        // Of the client's kind another one.
        (true, &[0, 20, 0, 1, 2, 0, 19, 0, 1, 0], wrong),
        (true, &[0, 20, 0, 1, 2, 0, 20, 0, 1, 2], twice),
        (false, &[0, 20, 0, 1, 2], unoffered),
        (false, &[0, 20, 0, 1, 0], unoffered),
        (false, &[0, 19, 0, 1, 0], unoffered),
        // signature_algorithms is the client's to send.
        (true, &[0, 20, 0, 1, 2, 0, 13, 0, 4, 0, 2, 4, 3], unoffered),
        (false, &[0, 13, 0, 4, 0, 2, 4, 3], unoffered),
        // No name was sent.
        (false, &[0, 0, 0, 0], unoffered),
        (true, &[0, 20, 0, 1, 2, 0, 0, 0, 0], unoffered),
    ] {
        let is_of_keys = |kind: &&CertificateType| (**kind == CertificateType::RawPublicKey) == of_keys;
        for kind in TYPES.iter().filter(is_of_keys) {
            if !cfg!(feature = "x509") && extensions.ends_with(&[0, 0, 0, 0]) {
                continue;
            }
            let talk = changed(&mut Pair::of(*kind), DOWN, SERVER_HELLO, |body| {
                with_extensions(body, |own| {
                    drop_answers(own);
                    own.extend(extensions);
                });
            });
            is_refused_by_client(&talk, reason, alert);
        }
    }
    // Nor is a client of pre-shared keys told of any.
    for extensions in [&[0, 19, 0, 1, 2], &[0, 20, 0, 1, 2]] {
        let (mut client, mut server) = (new_client(), Server::new(2));
        let talk = talk_with(&mut client, &mut server, at(0), |_, datagram| {
            change_messages(datagram, SERVER_HELLO, |body| {
                with_extensions(body, |own| own.extend(extensions))
            });
            true
        });
        is_refused_by_client(&talk, Reason::UnofferedExtension, 110);
    }
}

/// Who has a key of its own and sits in between must not have another's certificate judged in place of its own.
#[test]
fn what_is_judged_is_what_is_verified_26() {
    let kind = CertificateType::RawPublicKey;
    let stranger = Owner::new(0x66).raw_public_key();
    let genuine = Owner::new(0x51).raw_public_key();
    // In one piece, in pieces, and of another length.
    let longer = [&genuine[..], &[0]].concat();
    for (place, second) in [(0, &genuine), (20, &genuine), (0, &longer)] {
        let Pair { mut client, mut owner, mut server } = Pair::of(kind);
        let mut flight = Vec::new();
        talk_with(&mut client, &mut server, at(0), |is_up, datagram| {
            if !is_up && datagram[13] == 2 {
                change_messages(datagram, CERTIFICATE, |body| *body = presented(kind, &stranger));
                flight.push(datagram.clone());
            }
            is_up || datagram[13] != 2
        });
        assert_eq!(receive(&mut client, at(0), &flight[0]), []);
        let body = presented(kind, second);
        let piece = fragment(CERTIFICATE, body.len(), 2, place, &body[place..]);
        assert_eq!(receive(&mut client, at(0), &record(22, 0, 9, &piece)), []);
        let events = owner.answer(&mut client, at(0));
        assert_eq!(owner.seen.concat(), stranger, "the key whose signature counts");
        assert_eq!(events, [Event::Closed(Reason::BadSignature)]);
    }
}

#[test]
fn two_certificates_in_one_record_are_one_26() {
    let kind = CertificateType::RawPublicKey;
    let [stranger, genuine] = [0x66, 0x51].map(|secret| Owner::new(secret).raw_public_key());
    let both = |seq: u16| {
        let piece = |key: &[u8]| fragment(CERTIFICATE, 94, seq, 0, &presented(kind, key));
        record(22, 0, 9, &[piece(&stranger), piece(&genuine)].concat())
    };
    let instead = |direction: bool, seq: u16| {
        let mut pair = Pair::of(kind);
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
