//! What a credential is known by: a PSK identity, or the SHA-256 of a raw public key (RFC 7250).
//!
//! Invariants: a subject is public, so that it may be logged and shown; within one role none belongs to two devices.

use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::secret::Identity;

/// The SHA-256 of something public: of a SubjectPublicKeyInfo in DER.
///
/// It is compared as it is: nobody guesses a hash byte by byte, and what is hashed is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes over a hash.
    #[must_use]
    pub fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Hashes DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 hex digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash).map_err(|_| "a SHA-256 that is not 64 hex digits")?;
        Ok(Self(hash))
    }
}

/// What a device proves itself with, as the server knows it.
///
/// In a record it is one member whose name says which: `"identity": "<hex>"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A pre-shared key, by its identity.
    #[serde(rename = "identity")]
    Psk(Identity),
    /// A raw public key, by the SHA-256 of its SubjectPublicKeyInfo.
    #[serde(rename = "raw_public_key")]
    RawPublicKey(Fingerprint),
}

impl Subject {
    /// The PSK identity, if it is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Psk(identity) => Some(identity),
            Self::RawPublicKey(_) => None,
        }
    }

    /// Security Mode, `/0/x/2`, in one word: `psk` or `rpk`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Psk(_) => "psk",
            Self::RawPublicKey(_) => "rpk",
        }
    }
}

/// The identity as text, or what was hashed and its hash.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psk(identity) => identity.fmt(f),
            Self::RawPublicKey(key) => write!(f, "raw public key sha256:{key}"),
        }
    }
}
