//! Whose raw public key a device presents (RFC 7250, LwM2M Transport 1.1.1 §5.2.8.6): the question of a handshake before the peer has
//! proven that it has the key.
//!
//! Invariants: what is refused here never opens a session; the standing of a credential is looked at as for a PSK identity. All of
//! it is public, so that a device may learn why it is refused.

use core::fmt;
use std::sync::Arc;

use super::device::Role;
use super::facade::Credentials;
use super::subject::{Fingerprint, Subject};
use super::{Authenticated, Refusal};

/// What a device presents in a handshake; that it has the key is proven later.
#[derive(Clone, PartialEq, Eq)]
pub enum Presented {
    /// A SubjectPublicKeyInfo in DER.
    RawPublicKey(Vec<u8>),
    /// Certificates in DER, the peer's own first.
    Certificates(Vec<Vec<u8>>),
}

/// Public, but of the peer's making and long: its kind and lengths only.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RawPublicKey(key) => write!(f, "RawPublicKey({} bytes)", key.len()),
            Self::Certificates(chain) => {
                f.write_str("Certificates")?;
                f.debug_list().entries(chain.iter().map(Vec::len)).finish()
            }
        }
    }
}

/// Why it is not let in: what the alert says, and the reason in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted {
    /// What the device is told.
    pub refusal: dtls_psk::Refusal,
    /// Why, for events and logs.
    pub reason: String,
}

impl Untrusted {
    pub(super) fn new(refusal: dtls_psk::Refusal, reason: impl Into<String>) -> Self {
        Self { refusal, reason: reason.into() }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl core::error::Error for Untrusted {}

impl Credentials {
    /// Says whose a presented key is.
    ///
    /// It does not wait for the store, and may be called on any thread.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn identify(
        &self,
        _now_ms: u64,
        role: Role,
        presented: &Presented,
    ) -> Result<Authenticated, Untrusted> {
        match presented {
            Presented::RawPublicKey(key) => self.identify_raw_public_key(role, key),
            Presented::Certificates(_) => Err(Untrusted::new(
                dtls_psk::Refusal::UnknownIssuer,
                "a certificate, and this server trusts no authority that issues those of devices",
            )),
        }
    }

    fn identify_raw_public_key(&self, role: Role, key: &[u8]) -> Result<Authenticated, Untrusted> {
        if dtls_psk::point_of(key).is_none() {
            return Err(Untrusted::new(
                dtls_psk::Refusal::Unsupported,
                "a raw public key that is none of P-256 in the uncompressed form",
            ));
        }
        let fingerprint = Fingerprint::of(key);
        self.standing(role, &Subject::RawPublicKey(fingerprint)).map_err(|refused| {
            let (owner, refusal) = refused;
            let what = match (owner, refusal) {
                (Some(endpoint), refusal) => {
                    format!("the raw public key sha256:{fingerprint} of {endpoint}: {refusal}")
                }
                (None, _) => format!("no {role} account has the raw public key sha256:{fingerprint}"),
            };
            Untrusted::new(alert_of(refusal), what)
        })
    }

    /// Whose a subject is, if it opens a session now; else whose it would be, and why not.
    pub(super) fn standing(
        &self,
        role: Role,
        subject: &Subject,
    ) -> Result<Authenticated, (Option<Arc<str>>, Refusal)> {
        let (endpoint, generation) = self.owner(role, subject).ok_or((None, Refusal::UnknownIdentity))?;
        let device = self.device(&endpoint).ok_or((None, Refusal::UnknownEndpoint))?;
        match device.accepts(role, generation) {
            Ok(()) => Ok(Authenticated { endpoint, role, generation }),
            Err(refusal) => Err((Some(endpoint), refusal)),
        }
    }
}

/// What the device is told of a standing.
fn alert_of(refusal: Refusal) -> dtls_psk::Refusal {
    match refusal {
        Refusal::Retired | Refusal::RolledBack | Refusal::Revoked | Refusal::Decommissioned => {
            dtls_psk::Refusal::Revoked
        }
        Refusal::Suspended => dtls_psk::Refusal::NotAllowed,
        _ => dtls_psk::Refusal::Unknown,
    }
}
