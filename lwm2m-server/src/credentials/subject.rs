//! What a credential is known by: a PSK identity, the SHA-256 of a raw public key (RFC 7250), what binds a certificate to a device, or the
//! ids of an OSCORE context.
//!
//! Invariants: a subject is public, so that it may be logged and shown; within one role none belongs to two devices.

use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::oscore::ContextId;
use super::secret::Identity;

/// The SHA-256 of something public: of a SubjectPublicKeyInfo or a certificate in DER.
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

impl utoipa::PartialSchema for Fingerprint {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let digits = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
        digits.description(Some("64 hex digits of a SHA-256")).pattern(Some("^[0-9a-fA-F]{64}$")).into()
    }
}

impl utoipa::ToSchema for Fingerprint {}

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
    /// A certificate, by what binds it to the device.
    #[serde(rename = "certificate")]
    Certificate(Binding),
    /// An OSCORE context, by its ids.
    #[serde(rename = "oscore")]
    Oscore(ContextId),
}

/// What makes a certificate that of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// It is this one, by its SHA-256. Its dates count; who issued it does not.
    Pinned(Fingerprint),
    /// It has this key, and there is a path to an anchor through this authority. A renewed certificate stays bound.
    Key {
        /// The SHA-256 of the authority's SubjectPublicKeyInfo.
        issuer: Fingerprint,
        /// The SHA-256 of the device's own.
        key: Fingerprint,
    },
    /// Its common name, or a DNS name or URI among its alternative names, is the endpoint client name to the byte, and there is a
    /// path to an anchor.
    Name {
        /// The SHA-256 of the SubjectPublicKeyInfo of an authority that the path must go through; any one without.
        issuer: Option<Fingerprint>,
    },
}

/// The kind of security that a credential is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Mode {
    /// Pre-shared keys.
    #[default]
    #[serde(rename = "psk")]
    Psk,
    /// Raw public keys.
    #[serde(rename = "rpk")]
    RawPublicKey,
    /// X.509 certificates.
    #[serde(rename = "x509")]
    Certificate,
    /// OSCORE without DTLS.
    #[serde(rename = "oscore")]
    Oscore,
}

impl Mode {
    /// `psk`, `rpk`, `x509` or `oscore`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Psk => "psk",
            Self::RawPublicKey => "rpk",
            Self::Certificate => "x509",
            Self::Oscore => "oscore",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Subject {
    /// The PSK identity, if it is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Psk(identity) => Some(identity),
            Self::RawPublicKey(_) | Self::Certificate(_) | Self::Oscore(_) => None,
        }
    }

    /// The kind of security that it is for.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Self::Psk(_) => Mode::Psk,
            Self::RawPublicKey(_) => Mode::RawPublicKey,
            Self::Certificate(_) => Mode::Certificate,
            Self::Oscore(_) => Mode::Oscore,
        }
    }

    /// Whether the subject alone says whose it is; a name says so only together with the endpoint.
    pub(super) fn is_unique(&self) -> bool {
        !matches!(self, Self::Certificate(Binding::Name { .. }))
    }
}

/// The identity as text, or what was hashed and its hash.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psk(identity) => identity.fmt(f),
            Self::RawPublicKey(key) => write!(f, "raw public key sha256:{key}"),
            Self::Certificate(Binding::Pinned(certificate)) => write!(f, "certificate sha256:{certificate}"),
            Self::Certificate(Binding::Key { issuer, key }) => {
                write!(f, "certificate with the key sha256:{key} by the authority sha256:{issuer}")
            }
            Self::Certificate(Binding::Name { issuer: Some(issuer) }) => {
                write!(f, "certificate with its name by the authority sha256:{issuer}")
            }
            Self::Certificate(Binding::Name { issuer: None }) => f.write_str("certificate with its name"),
            Self::Oscore(id) => id.fmt(f),
        }
    }
}
