//! Keys and certificates that tests issue themselves.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part")]

use p256::pkcs8::EncodePrivateKey as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

pub(crate) fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

/// The key of this secret.
pub(crate) fn key_of(secret: [u8; 32]) -> KeyPair {
    let secret = p256::SecretKey::from_slice(&secret).unwrap();
    KeyPair::try_from(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap()
}

/// A certificate of this name, valid for as long as anybody tests.
pub(crate) fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2999, 1, 1);
    params
}

/// The same of an authority.
pub(crate) fn authority(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}
