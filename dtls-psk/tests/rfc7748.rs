//! The vectors of RFC 7748 §5.2 and §6.1 for X25519.
#![expect(clippy::unwrap_used, reason = "test")]

use dtls_psk::{Crypto as _, RustCrypto};

fn hex(text: &str) -> [u8; 32] {
    let digit =
        |place: usize| u8::from_str_radix(text.get(place..place.checked_add(2).unwrap()).unwrap(), 16);
    let bytes: Vec<u8> = (0..64).step_by(2).map(|place| digit(place).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn x25519(scalar: &[u8; 32], u: &[u8; 32]) -> [u8; 32] {
    let mut shared = [0; 32];
    RustCrypto::x25519_shared(scalar, u, &mut shared).unwrap();
    shared
}

#[test]
fn a_scalar_and_a_coordinate_give_the_coordinate_of_the_rfc() {
    for (scalar, u, result) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        assert_eq!(x25519(&hex(scalar), &hex(u)), hex(result));
    }
}

#[test]
fn a_thousand_times_in_a_row() {
    let mut k = hex("0900000000000000000000000000000000000000000000000000000000000000");
    let mut u = k;
    for round in 1..=1000 {
        (k, u) = (x25519(&k, &u), k);
        if round == 1 {
            assert_eq!(k, hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(k, hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn alice_and_bob_agree() {
    let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let of_alice = RustCrypto::x25519_public(&alice).unwrap();
    let of_bob = RustCrypto::x25519_public(&bob).unwrap();
    assert_eq!(of_alice, hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
    assert_eq!(of_bob, hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!((x25519(&alice, &of_bob), x25519(&bob, &of_alice)), (shared, shared));
}
