//! Private keys on P-256 and chains of certificates, as they lie in storage.
//!
//! LwM2M Transport 1.1.1 §5.2.8.2 has a OneAsymmetricKey (RFC 5958); an ECPrivateKey (RFC 5915) and the bare number are taken
//! as well. Invariant: nothing is copied, and what is of another algorithm or curve, or has anything behind it, is no key.

/// The most certificates of a chain, and one key where there are none.
pub(crate) const CHAIN_MAX: usize = if cfg!(feature = "x509") { 5 } else { 1 };

/// The certificates in a record, one after another.
#[cfg(feature = "x509")]
pub(crate) fn chain(mut record: &[u8]) -> Option<heapless::Vec<&[u8], CHAIN_MAX>> {
    let mut chain = heapless::Vec::new();
    while !record.is_empty() {
        let whole = record;
        element(&mut record, SEQUENCE)?;
        chain.push(whole.get(..whole.len().checked_sub(record.len())?)?).ok()?;
    }
    (!chain.is_empty()).then_some(chain)
}

/// The public key of a private key, as [`RawPublicKey::public_key`](crate::RawPublicKey::public_key) has it: for factories, which
/// then need to know the latter alone. `None` if that is in none of the forms of
/// [`RawPublicKey::private_key`](crate::RawPublicKey::private_key).
pub fn raw_public_key(private_key: &[u8]) -> Option<[u8; dtls_psk::RAW_PUBLIC_KEY]> {
    use dtls_psk::{Crypto as _, RustCrypto};
    let point = RustCrypto::p256_public(self::private_key(private_key)?)?;
    Some(dtls_psk::raw_public_key(&point))
}

/// The private key in a record, big-endian.
pub(crate) fn private_key(record: &[u8]) -> Option<&[u8; 32]> {
    if let Ok(number) = record.try_into() {
        return Some(number);
    }
    let mut fields = whole(record, SEQUENCE)?;
    let mut ahead = fields;
    let version = element(&mut ahead, INTEGER)?;
    let Some(algorithm) = element(&mut ahead, SEQUENCE) else { return of_ec(fields) };
    fields = ahead;
    let key = element(&mut fields, OCTET_STRING)?;
    // Attributes, and the public key.
    element(&mut fields, 0xa0);
    element(&mut fields, 0x81);
    let is_of_p256 = algorithm.strip_prefix(&EC_PUBLIC_KEY) == Some(&SECP256R1);
    if !matches!(version, [0 | 1]) || !is_of_p256 || !fields.is_empty() {
        return None;
    }
    of_ec(whole(key, SEQUENCE)?)
}

/// The one in the fields of an ECPrivateKey.
fn of_ec(mut fields: &[u8]) -> Option<&[u8; 32]> {
    let version = element(&mut fields, INTEGER)?;
    let number = element(&mut fields, OCTET_STRING)?.try_into().ok()?;
    let is_of_p256 = element(&mut fields, 0xa0).is_none_or(|curve| curve == SECP256R1);
    element(&mut fields, 0xa1);
    (version == [1] && is_of_p256 && fields.is_empty()).then_some(number)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// id-ecPublicKey (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// The curve P-256 (RFC 5480 §2.1.1.1).
const SECP256R1: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The content of the element that `bytes` are.
fn whole(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    element(&mut bytes, tag).filter(|_| bytes.is_empty())
}

/// Takes the next element in DER, if it has this tag, and returns its content, of at most 65,535 bytes.
fn element<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (length, rest) = match *bytes.strip_prefix(&[tag])? {
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        [0x81, length @ 0x80..=0xff, ref rest @ ..] => (length.into(), rest),
        [length @ 0..=0x7f, ref rest @ ..] => (length.into(), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length.into())?;
    *bytes = rest;
    Some(content)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
    use super::*;
    use std::vec::Vec;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text.replace([' ', '\n'], "")).unwrap()
    }

    const NUMBER: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
    /// The key of RFC 6979 appendix A.2.5, as OpenSSL 3.0 writes it.
    const PUBLIC: &str = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6
        7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

    fn pkcs8(inner: &str) -> Vec<u8> {
        let inner = hex(inner);
        let key = [&[4, u8::try_from(inner.len()).unwrap()][..], &inner].concat();
        let fields = [&hex("020100 301306072a8648ce3d020106082a8648ce3d030107")[..], &key].concat();
        let length = u8::try_from(fields.len()).unwrap();
        let head = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
        [&head[..], &fields].concat()
    }

    fn forms() -> [Vec<u8>; 5] {
        [
            hex(NUMBER),
            hex(&std::format!("3077 020101 0420{NUMBER} a00a06082a8648ce3d030107 a144034200{PUBLIC}")),
            pkcs8(&std::format!("306b 020101 0420{NUMBER} a144034200{PUBLIC}")),
            pkcs8(&std::format!("3025 020101 0420{NUMBER}")),
            // Version 2, with the public key outside (RFC 5958 §2).
            hex(&std::format!(
                "308185 020101 301306072a8648ce3d020106082a8648ce3d030107 0427 3025 020101 0420{NUMBER}
                 8142 00{PUBLIC}"
            )),
        ]
    }

    #[test]
    fn the_public_key_follows_from_the_private_one() {
        for form in forms() {
            assert_eq!(raw_public_key(&form).unwrap()[26..], hex(PUBLIC));
        }
        assert_eq!(raw_public_key(&[0; 32]), None);
        assert_eq!(raw_public_key(&[0xff; 31]), None);
    }

    #[test]
    fn the_number_is_found_in_every_form() {
        for form in forms() {
            assert_eq!(private_key(&form).map(<[u8; 32]>::as_slice), Some(&*hex(NUMBER)), "{form:02x?}");
        }
    }

    #[test]
    fn what_is_cut_or_has_something_behind_it_is_no_key() {
        for form in forms() {
            for length in (0..form.len()).filter(|length| *length != 32) {
                assert_eq!(private_key(&form[..length]), None, "{length}");
            }
            let longer = [&form[..], &[0]].concat();
            assert_eq!(private_key(&longer), None);
        }
    }

    #[test]
    fn a_changed_byte_never_makes_another_key() {
        for form in forms() {
            let at = form.windows(32).position(|bytes| bytes == hex(NUMBER)).unwrap();
            for (place, value) in (0..form.len()).flat_map(|place| (0..=255).map(move |value| (place, value)))
            {
                let mut changed = form.clone();
                changed[place] = value;
                let found = private_key(&changed).map(<[u8; 32]>::as_slice);
                assert!(found.is_none_or(|found| found == &changed[at..at + 32]), "{place} {value}");
            }
        }
    }

    #[test]
    fn another_algorithm_curve_version_or_length_is_no_key() {
        for [from, to] in [
            // RSA, P-384 outside, P-384 inside, a version too high, one of the inner key, a number too short.
            ["06072a8648ce3d0201", "06072a8648ce3d0202"],
            ["301306072a8648ce3d020106082a8648ce3d030107", "301306072a8648ce3d020106082a8648ce3d030108"],
            ["a00a06082a8648ce3d030107", "a00a06082a8648ce3d030108"],
            ["020100 3013", "020102 3013"],
            ["020101 0420", "020100 0420"],
            ["0420c9afa9d8", "041fc9afa9d8"],
        ] {
            let [from, to] = [hex(from), hex(to)];
            let bent = forms().into_iter().filter_map(|form| {
                let at = form.windows(from.len()).position(|bytes| bytes == from)?;
                Some([&form[..at], &to, &form[at + from.len()..]].concat())
            });
            let bent: Vec<_> = bent.collect();
            assert!(!bent.is_empty(), "{to:02x?}");
            for form in bent {
                assert_eq!(private_key(&form), None, "{form:02x?}");
            }
        }
        // Lengths in a form that is longer than it must be.
        for length in ["8125", "820025"] {
            assert_eq!(private_key(&hex(&std::format!("30{length} 020101 0420{NUMBER}"))), None);
        }
    }

    #[cfg(feature = "x509")]
    #[test]
    fn a_chain_falls_apart_into_its_certificates() {
        let of = |length: usize| {
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            let head = match length {
                0..=0x7f => vec![0x30, low],
                0x80..=0xff => vec![0x30, 0x81, low],
                _ => vec![0x30, 0x82, high, low],
            };
            [head, vec![7; length]].concat()
        };
        let certificates: Vec<_> = [300, 0, 127, 128, 255].map(of).into();
        for count in 1..=CHAIN_MAX {
            let record = certificates[..count].concat();
            assert_eq!(chain(&record).unwrap(), certificates[..count]);
            assert_eq!(chain(&record[..record.len() - 1]).map(|chain| chain.len()), None);
            assert_eq!(chain(&[&record[..], &[0]].concat()), None);
        }
        assert_eq!(chain(&[]), None);
        assert_eq!(chain(&[certificates.concat(), of(1)].concat()), None);
        // Another tag, and a length without its bytes.
        assert_eq!((chain(&[0x31, 0]), chain(&[0x30]), chain(&[0x30, 0x82, 1])), (None, None, None));
    }
}
