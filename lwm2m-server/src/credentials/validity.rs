//! What of a certificate outlives its handshake: enough to say later, without it, whether it would still be trusted (RFC 5280
//! §6.1.3).
//!
//! Invariant: whoever comes back in a session that a certificate opened, or registers in it, is asked for this first, and whoever
//! stays, at its first message of each minute: an expired or revoked certificate carries nobody further than that message.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::subject::Fingerprint;

/// Until when a certificate is good, and what it was trusted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validity {
    /// The last second, since 1970, at which everything on the path is valid.
    pub(super) not_after: u64,
    /// The anchor of the path; none for a certificate that is pinned.
    pub(super) anchor: Option<Mark>,
    /// The device's certificate and those between it and the anchor.
    pub(super) certificates: Vec<Mark>,
}

/// 64 bits of a hash. An authority that has another one with the same bits revoked costs its device a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Mark(u64);

impl Mark {
    /// What a certificate is called in a revocation list: the name of its issuer, and its number.
    pub(super) fn of_number(issuer: &[u8], serial: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(Sha256::digest(issuer)).chain_update(serial).finalize();
        Self::of_hash(hash.as_slice())
    }

    pub(super) fn of_certificate(certificate: &Certificate) -> Self {
        Self::of_number(&certificate.names.1, &hex::decode(&certificate.serial).unwrap_or_default())
    }

    pub(super) fn of_key(key: &Fingerprint) -> Self {
        Self::of_hash(key.bytes())
    }

    fn of_hash(hash: &[u8]) -> Self {
        Self(hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }
}

impl Validity {
    /// Of a certificate and those above it, up to the key of an anchor, if there is one.
    pub(super) fn of(own: &Certificate, above: &[Certificate], anchor: Option<&Fingerprint>) -> Self {
        let path = || core::iter::once(own).chain(above);
        Self {
            not_after: path().map(|each| each.not_after).min().unwrap_or(0),
            anchor: anchor.map(Mark::of_key),
            certificates: path().map(Mark::of_certificate).collect(),
        }
    }
}
