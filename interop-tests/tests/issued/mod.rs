//! Keys and certificates that tests issue themselves.

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

pub(crate) fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("randomness")
}

/// A certificate of this name, valid for as long as anybody tests.
pub(crate) fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2999, 1, 1);
    params
}
