//! Private keys of devices on P-256 (PKCS#8, RFC 5958; ECPrivateKey, RFC 5915), and certificates that are signed with themselves.
//!
//! Invariants: a private key has its public key, is wiped when dropped, is compared in constant time, and is never shown by `Debug`.

use core::fmt;

use dtls_psk::{Crypto as _, POINT, raw_public_key};
use rustls_pki_types::pem::SectionKind;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::date;
use super::der::{
    self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET, element,
};
use super::encoding;
use crate::crypto::Provider;

const EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP256R1: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A private key of P-256.
#[derive(Clone)]
pub struct PrivateKey {
    scalar: Zeroizing<[u8; 32]>,
    point: [u8; POINT],
}

impl PrivateKey {
    /// Draws a key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        loop {
            let mut scalar = Zeroizing::new([0; 32]);
            getrandom::fill(scalar.as_mut_slice())?;
            // One in 2^32 is beyond the order of the group.
            if let Some(point) = Provider::p256_public(&scalar) {
                return Ok(Self { scalar, point });
            }
        }
    }

    /// Reads PKCS#8 or ECPrivateKey, each in DER or PEM, without a password.
    ///
    /// # Errors
    /// Why it is none, in words that hold nothing of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let sections = encoding::sections(bytes, &[SectionKind::PrivateKey, SectionKind::EcPrivateKey]);
        let [der] = sections.as_slice() else {
            return Err("private key: neither PKCS#8 nor ECPrivateKey in DER or PEM, without a password");
        };
        let scalar = scalar_of(der).ok_or("private key: none of P-256 in PKCS#8 or ECPrivateKey")?;
        let point =
            Provider::p256_public(&scalar).ok_or("private key: not between 1 and the order of P-256")?;
        Ok(Self { scalar, point })
    }

    /// OneAsymmetricKey of version 1 with the public key in it: 138 bytes, as `/0/x/5` has it.
    #[must_use]
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        // Each with all the room it will need, so that nothing of it is left where it grew.
        let mut key = Zeroizing::new(Vec::with_capacity(138));
        key.extend_from_slice(&[0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07]);
        key.extend_from_slice(&EC_PUBLIC_KEY);
        key.extend_from_slice(&[0x06, 0x08]);
        key.extend_from_slice(&SECP256R1);
        key.extend_from_slice(&[0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20]);
        key.extend_from_slice(self.scalar.as_slice());
        key.extend_from_slice(&[0xa1, 0x44, 0x03, 0x42, 0x00]);
        key.extend_from_slice(&self.point);
        key
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        raw_public_key(&self.point).to_vec()
    }

    /// A certificate of this key for a device, signed with itself and without an end (RFC 5280 §4.1.2.5): what is pinned needs
    /// no authority.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn self_signed(&self, common_name: &str, now_ms: u64) -> Result<Vec<u8>, getrandom::Error> {
        let mut serial = [0; 16];
        getrandom::fill(&mut serial)?;
        // Positive, and in its shortest form.
        if let Some(first) = serial.first_mut() {
            *first = *first & 0x7f | 0x40;
        }
        let algorithm = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[&ECDSA_WITH_SHA256])]);
        // RFC 5280 §A.1: a common name has 64 characters at most. Nobody goes by this one.
        let common_name: String = common_name.chars().take(64).collect();
        let attribute = [
            element(OBJECT_IDENTIFIER, &[&[0x55, 0x04, 0x03]]),
            element(UTF8_STRING, &[common_name.as_bytes()]),
        ];
        let attribute = element(SEQUENCE, &[&attribute.concat()]);
        let name = element(SEQUENCE, &[&element(SET, &[&attribute])]);
        // Clocks differ: it began a day ago.
        let validity = [time((now_ms / 1000).saturating_sub(86_400)), time(NO_END)].concat();
        let extension = |identifier: &[u8], value: &[u8]| {
            let identifier = element(OBJECT_IDENTIFIER, &[identifier]);
            element(SEQUENCE, &[&identifier, &element(OCTET_STRING, &[value])])
        };
        let client = element(OBJECT_IDENTIFIER, &[&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]]);
        let extensions = [
            // keyUsage: digitalSignature; extKeyUsage: client authentication.
            extension(&[0x55, 0x1d, 0x0f], &element(BIT_STRING, &[&[7, 0x80]])),
            extension(&[0x55, 0x1d, 0x25], &element(SEQUENCE, &[&client])),
        ]
        .concat();
        let to_be_signed = element(
            SEQUENCE,
            &[
                &element(0xa0, &[&element(INTEGER, &[&[2]])]),
                &element(INTEGER, &[&serial]),
                &algorithm,
                &name,
                &element(SEQUENCE, &[&validity]),
                &name,
                &self.public_key(),
                &element(0xa3, &[&element(SEQUENCE, &[&extensions])]),
            ],
        );
        let digest: [u8; 32] = Sha256::digest(&to_be_signed).into();
        // Only a digest of zeros, or a broken source of randomness, has no signature.
        let signature = Provider::p256_sign(&self.scalar, &digest).ok_or(getrandom::Error::UNEXPECTED)?;
        let (r, s) = signature.split_at(32);
        let signature = element(SEQUENCE, &[&integer(r), &integer(s)]);
        Ok(element(SEQUENCE, &[&to_be_signed, &algorithm, &element(BIT_STRING, &[&[0], &signature])]))
    }
}

const UTF8_STRING: u8 = 0x0c;

/// 9999-12-31T23:59:59Z.
const NO_END: u64 = 253_402_300_799;

/// UTCTime until 2049, GeneralizedTime from then on.
fn time(seconds: u64) -> Vec<u8> {
    let text = date::utc(seconds);
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    match digits.strip_prefix(b"20") {
        Some(short) if short.first() < Some(&b'5') => element(0x17, &[short, b"Z"]),
        _ => element(0x18, &[&digits, b"Z"]),
    }
}

/// A positive number in its shortest form.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let short = bytes.get(zeros..).unwrap_or_default();
    let sign: &[u8] = if short.first().is_none_or(|first| first & 0x80 != 0) { &[0] } else { &[] };
    element(INTEGER, &[sign, short])
}

fn scalar_of(key: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut fields = Reader::new(der::only(key, SEQUENCE)?);
    let version = fields.expect(INTEGER)?.content;
    let next = fields.element()?;
    let (inner, parameters) = match (version, next.tag) {
        // PKCS#8; version 2 has a public key behind.
        ([0 | 1], SEQUENCE) => {
            let mut algorithm = Reader::new(next.content);
            let kind = algorithm.expect(OBJECT_IDENTIFIER)?.content;
            let curve = algorithm.expect(OBJECT_IDENTIFIER)?.content;
            (kind == EC_PUBLIC_KEY && curve == SECP256R1).then_some(())?;
            let mut inner = Reader::new(der::only(fields.expect(OCTET_STRING)?.content, SEQUENCE)?);
            (inner.expect(INTEGER)?.content == [1]).then_some(())?;
            (inner.expect(OCTET_STRING)?.content, None)
        }
        // ECPrivateKey, which names the curve itself.
        ([1], OCTET_STRING) => (next.content, Some(fields.expect(0xa0)?.content)),
        _ => return None,
    };
    if let Some(parameters) = parameters {
        (der::only(parameters, OBJECT_IDENTIFIER)? == SECP256R1).then_some(())?;
    }
    inner.try_into().ok().map(Zeroizing::new)
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.scalar.ct_eq(other.scalar.as_slice()).into()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(masked)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn a_key_survives_every_encoding_and_shows_in_none_of_its_forms_for_people() {
        let key = PrivateKey::generate().unwrap();
        let pkcs8 = key.pkcs8();
        assert_eq!(pkcs8.len(), 138);
        assert_eq!(PrivateKey::parse(&pkcs8).unwrap(), key);
        let curve = element(0xa0, &[&element(OBJECT_IDENTIFIER, &[&SECP256R1])]);
        let scalar = element(OCTET_STRING, &[key.scalar.as_slice()]);
        let sec1 = element(SEQUENCE, &[&element(INTEGER, &[&[1]]), &scalar, &curve]);
        assert_eq!(PrivateKey::parse(&sec1).unwrap(), key);
        assert_eq!(format!("{key:?}"), "PrivateKey(masked)");
        assert_ne!(PrivateKey::generate().unwrap(), key);
    }

    #[test]
    fn what_rcgen_writes_is_read_with_its_public_key() {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        for encoded in [made.serialize_der(), made.serialize_pem().into_bytes()] {
            let key = PrivateKey::parse(&encoded).unwrap();
            assert_eq!(key.public_key(), made.subject_public_key_info());
        }
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(PrivateKey::parse(&other.serialize_der()).is_err());
        assert!(PrivateKey::parse(b"nothing").is_err());
    }

    #[test]
    fn what_is_cut_short_or_out_of_range_is_no_key() {
        let pkcs8 = PrivateKey::generate().unwrap().pkcs8();
        for length in 0..pkcs8.len() {
            assert!(PrivateKey::parse(pkcs8.get(..length).unwrap()).is_err(), "{length}");
        }
        let mut zero = pkcs8.to_vec();
        zero.get_mut(36..68).unwrap().fill(0);
        assert!(PrivateKey::parse(&zero).is_err());
        zero.get_mut(36..68).unwrap().fill(0xff);
        assert!(PrivateKey::parse(&zero).is_err());
    }

    #[test]
    fn a_certificate_that_is_made_here_is_read_and_verified_by_others() {
        let key = PrivateKey::generate().unwrap();
        for name in ["sensor-1", &"ü".repeat(255)] {
            let made = key.self_signed(name, 1_780_272_000_000).unwrap();
            let read = super::super::Certificate::parse(&made).unwrap();
            assert_eq!(read.common_name.unwrap().chars().count(), name.chars().count().min(64));
            assert_eq!((read.not_before, read.not_after), (1_780_185_600, NO_END));
            assert!(read.may_sign && !read.is_authority);
            assert_eq!(read.purposes.unwrap(), ["client authentication"]);
            assert_eq!(read.public_key, key.public_key());
            // By its own key: a certificate that is its own anchor.
            let der = rustls_pki_types::CertificateDer::from(made.clone());
            let leaf = webpki::EndEntityCert::try_from(&der).unwrap();
            let mut outer = Reader::new(der::only(&made, SEQUENCE).unwrap());
            let signed = outer.expect(SEQUENCE).unwrap().whole;
            outer.expect(SEQUENCE).unwrap();
            let signature = outer.expect(BIT_STRING).unwrap().content.strip_prefix(&[0]).unwrap();
            let is_good = crate::crypto::SIGNATURES
                .iter()
                .any(|algorithm| leaf.verify_signature(*algorithm, signed, signature).is_ok());
            assert!(is_good);
        }
    }

    #[test]
    fn dates_change_their_form_in_2050() {
        assert_eq!(time(2_524_607_999), [&[0x17, 13][..], b"491231235959Z"].concat());
        assert_eq!(time(2_524_608_000), [&[0x18, 15][..], b"20500101000000Z"].concat());
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80, 0]), [2, 3, 0, 0x80, 0]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
    }
}
