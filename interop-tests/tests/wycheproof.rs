//! The vectors of Project Wycheproof for what this engine uses, over its own primitives and over those of the server: ECDSA and ECDH
//! on P-256, X25519, AES-128 with CCM and GCM. Signatures go through a handshake, so that they are read by the engine as well as
//! verified.
//!
//! Left out are the vectors of the sets that no message of the engine could hold: nonces of other than 12 bytes, tags of other
//! than the suites' lengths, and keys of other sizes of AES. A point in the compressed form is expected to be refused.
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, reason = "test")]

use std::any::type_name;
use std::cell::RefCell;
use std::env;
use std::marker::PhantomData;

use dtls_psk::{
    Aead, Answer, ClientCertificate, Config, Connection, Crypto, Datagram, Handshake, Input, Instant,
    Operation, RustCrypto, SIGNATURE, Suite, Suites, point_of, raw_public_key,
};
use wycheproof::TestResult;
use wycheproof::{aead, ecdh, ecdsa, xdh};

const NOW: Instant = Instant::from_millis(0);

macro_rules! over {
    ($primitives:ident: $crypto:ty) => {
        mod $primitives {
            #[test]
            fn ecdsa_on_p256_with_sha256() {
                super::ecdsa_on_p256_with_sha256::<$crypto>();
            }

            #[test]
            fn ecdsa_on_p256_with_both_numbers_side_by_side() {
                super::ecdsa_on_p256_with_both_numbers_side_by_side::<$crypto>();
            }

            #[test]
            fn ecdh_on_p256() {
                super::ecdh_on_p256::<$crypto>();
            }

            #[test]
            fn x25519() {
                super::x25519::<$crypto>();
            }

            #[test]
            fn aes_128_with_ccm_and_gcm() {
                super::aes_128_with_ccm_and_gcm::<$crypto>();
            }
        }
    };
}

over!(of_the_engine: dtls_psk::RustCrypto);
over!(of_the_server: lwm2m_server::Provider);

/// A build of this package alone has them from the engine; one of the whole workspace as they are shipped.
#[test]
fn the_servers_primitives_are_those_that_are_shipped() {
    let name = type_name::<lwm2m_server::Provider>();
    if name.contains("aws_lc") {
        return;
    }
    assert_ne!(env::var("LWM2M_PEERS").as_deref(), Ok("required"), "the vectors ran over {name} twice");
    println!("left out: the vectors over AWS-LC, which need the workspace's features");
}

type Client<C> = Connection<512, Handshake<512, Vectors<C>>, Vectors<C>>;

/// The primitives of `C`, but for the digest that is verified: that of the vector at hand.
struct Vectors<C>(PhantomData<C>);

thread_local! {
    static DIGEST: RefCell<[u8; 32]> = const { RefCell::new([0; 32]) };
}

impl<C: Crypto> Crypto for Vectors<C> {
    type Sha256 = C::Sha256;
    type Hmac = C::Hmac;

    fn p256_verify(public: &[u8; 65], _: &[u8; 32], signature: &[u8; SIGNATURE]) -> bool {
        DIGEST.with_borrow(|digest| C::p256_verify(public, digest, signature))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use dtls_psk::RunningHash as _;
    let mut hash = <RustCrypto as Crypto>::Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// A handshake message in a record of its own.
fn hear<C: Crypto>(client: &mut Client<C>, seq: u8, code: u8, body: &[u8]) -> bool {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    let front = [&[code][..], &length, &[0, seq, 0, 0, 0], &length].concat();
    let whole = ((front.len() + body.len()) as u16).to_be_bytes();
    let mut record = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, seq][..], &whole, &front, body].concat();
    let mut datagram = Datagram::new(&mut record);
    !matches!(client.handle(NOW, &mut datagram), Some(Input::Closed(_)))
}

/// Whether a client takes `signature`, in DER, as one of this point over its handshake.
fn is_taken<C: Crypto>(point: &[u8; 65], signature: &[u8]) -> bool {
    let config = Config::DEFAULT.with_suites(Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).expect("a list"));
    let rng = &mut |bytes: &mut [u8]| bytes.fill(7);
    let certificate = ClientCertificate::RawPublicKey;
    let mut client = Client::<C>::certificate_client(NOW, &config, certificate, rng, Handshake::default())
        .expect("there is a suite");
    let hello = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0xae, 0, 0, 10, 0, 19, 0, 1, 2, 0, 20, 0, 1, 2]];
    let key = raw_public_key(point);
    assert!(hear(&mut client, 0, 2, &hello.concat()));
    assert!(hear(&mut client, 1, 11, &[&[0, 0, key.len() as u8][..], &key].concat()));
    let id = client.poll_pending().expect("it is judged").id;
    assert_eq!(client.provide(NOW, id, Answer::Trusted), Ok(None));
    let share = RustCrypto::p256_public(&[7; 32]).expect("a secret");
    let length = (signature.len() as u16).to_be_bytes();
    let signed = [&[3, 0, 23, 65][..], &share, &[4, 3], &length, signature].concat();
    if !hear(&mut client, 2, 12, &signed) || !hear(&mut client, 3, 14, &[]) {
        return false;
    }
    let Some(pending) = client.poll_pending() else { return false };
    let Operation::Compute(computation) = pending.operation else { panic!("it is proven") };
    let (id, computed) = (pending.id, computation.run::<Vectors<C>>());
    client.provide(NOW, id, Answer::Computed(computed)) == Ok(None)
}

fn ecdsa_on_p256_with_sha256<C: Crypto>() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).expect("the set is there");
    let mut valid = 0;
    for group in set.test_groups {
        let point = <[u8; 65]>::try_from(group.key.key.as_slice()).expect("an uncompressed point");
        assert_eq!(point_of(&group.der), Some(&point));
        for test in group.tests {
            DIGEST.set(sha256(&test.msg));
            let is_taken = is_taken::<C>(&point, &test.sig);
            assert_eq!(is_taken, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            valid += usize::from(is_taken);
        }
    }
    assert_eq!((valid, set.number_of_tests), (174, 484));
}

fn ecdsa_on_p256_with_both_numbers_side_by_side<C: Crypto>() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).expect("the set is there");
    let mut others = 0;
    for group in set.test_groups {
        let point = <[u8; 65]>::try_from(group.key.key.as_slice()).expect("an uncompressed point");
        for test in group.tests {
            // Those of another length have no place to be in.
            let Ok(signature) = <[u8; SIGNATURE]>::try_from(test.sig.as_slice()) else {
                assert_eq!(test.result, TestResult::Invalid);
                others += 1;
                continue;
            };
            let is_verified = C::p256_verify(&point, &sha256(&test.msg), &signature);
            assert_eq!(is_verified, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
        }
    }
    assert_eq!((others, set.number_of_tests), (21, 262));
}

fn ecdh_on_p256<C: Crypto>() {
    for (name, is_bare, expected) in [
        (ecdh::TestName::EcdhSecp256r1, false, (330, 282)),
        (ecdh::TestName::EcdhSecp256r1Ecpoint, true, (330, 25)),
    ] {
        let set = ecdh::TestSet::load(name).expect("the set is there");
        let (mut agreed, mut refused) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let at = format!("{}: {} {:?}", test.tc_id, test.comment, test.flags);
            let point = if is_bare { test.public_key.first_chunk() } else { point_of(&test.public_key) };
            let point = point.filter(|_| !is_bare || test.public_key.len() == 65);
            let leading = test.private_key.len().saturating_sub(32);
            let (zeros, secret) = test.private_key.split_at(leading);
            assert!(zeros.iter().all(|zero| *zero == 0), "{at}");
            let mut padded = [0; 32];
            padded[32 - secret.len()..].copy_from_slice(secret);
            let mut shared = [0; 32];
            match point.and_then(|point| C::p256_shared(&padded, point, &mut shared)) {
                Some(()) => {
                    assert_ne!(test.result, TestResult::Invalid, "{at}");
                    assert_eq!(shared[..], test.shared_secret[..], "{at}");
                    agreed += 1;
                }
                None => {
                    let is_compressed = test.flags.contains(&ecdh::TestFlag::CompressedPoint)
                        || test.flags.contains(&ecdh::TestFlag::CompressedPublic);
                    assert!(test.result != TestResult::Valid || is_compressed, "{at}");
                    refused += 1;
                }
            }
        }
        assert_eq!((agreed, refused), expected);
    }
}

fn x25519<C: Crypto>() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).expect("the set is there");
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let at = format!("{}: {} {:?}", test.tc_id, test.comment, test.flags);
        let secret = <[u8; 32]>::try_from(test.private_key.as_slice()).expect("32 bytes");
        // Those of another length have no place to be in.
        let Ok(public) = <[u8; 32]>::try_from(test.public_key.as_slice()) else {
            assert_ne!(test.result, TestResult::Valid, "{at}");
            refused += 1;
            continue;
        };
        let mut shared = [0; 32];
        match C::x25519_shared(&secret, &public, &mut shared) {
            Some(()) => {
                assert_ne!(test.result, TestResult::Invalid, "{at}");
                assert_eq!(shared[..], test.shared_secret[..], "{at}");
                agreed += 1;
            }
            None => {
                // RFC 7748 §6.1: nothing but zeros is refused, which the set leaves open.
                assert!(test.shared_secret.iter().all(|byte| *byte == 0), "{at}");
                refused += 1;
            }
        }
    }
    assert_eq!((agreed, refused, set.number_of_tests), (487, 31, 518));
}

fn aes_128_with_ccm_and_gcm<C: Crypto>() {
    for (name, aeads) in [
        (aead::TestName::AesCcm, &[(Aead::Ccm8, (8, 0)), (Aead::Ccm, (51, 27))][..]),
        (aead::TestName::AesGcm, &[(Aead::Gcm, (40, 27))]),
    ] {
        let set = aead::TestSet::load(name).expect("the set is there");
        for (aead, expected) in aeads.iter().copied() {
            let (mut valid, mut invalid) = (0, 0);
            let groups = set.test_groups.iter().filter(|group| {
                (group.key_size, group.nonce_size, group.tag_size) == (128, 96, 8 * aead.tag_length())
            });
            for test in groups.flat_map(|group| &group.tests) {
                let at = format!("{aead:?} {}: {}", test.tc_id, test.comment);
                let key = <[u8; 16]>::try_from(test.key.as_slice()).expect("a key of 128 bits");
                let nonce = <[u8; 12]>::try_from(test.nonce.as_slice()).expect("a nonce of 96 bits");
                let mut opened = test.ct.to_vec();
                let is_open = C::open(aead, &key, &nonce, &test.aad, &mut opened, &test.tag);
                assert_eq!(is_open.is_some(), test.result == TestResult::Valid, "{at}");
                if test.result == TestResult::Invalid {
                    invalid += 1;
                    continue;
                }
                assert_eq!(opened, *test.pt, "{at}");
                let (mut sealed, mut tag) = (test.pt.to_vec(), vec![0; aead.tag_length()]);
                C::seal(aead, &key, &nonce, &test.aad, &mut sealed, &mut tag).expect("it is sealed");
                assert_eq!((sealed, tag), (test.ct.to_vec(), test.tag.to_vec()), "{at}");
                valid += 1;
            }
            assert_eq!((valid, invalid), expected, "{aead:?}");
        }
    }
}
