//! Whose raw public key or certificate a device presents (RFC 7250, LwM2M Transport 1.1.1 §5.2.8.6, §5.2.8.7): the question of a handshake before the peer has
//! proven that it has the key.
//!
//! Invariants: what is refused here never opens a session; the standing of a credential is looked at as for a PSK identity. All of
//! it is public, so that a device may learn why it is refused.

use core::fmt;
use std::sync::Arc;

use super::certificate::Certificate;
use super::device::Role;
use super::facade::Credentials;
use super::subject::{Binding, Fingerprint, Subject};
use super::trust::TrustedPath;
use super::validity::Validity;
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
    /// Says whose a presented key or certificate is.
    ///
    /// It does not wait for the store, and may be called on any thread.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn identify(
        &self,
        now_ms: u64,
        role: Role,
        presented: &Presented,
    ) -> Result<Authenticated, Untrusted> {
        match presented {
            Presented::RawPublicKey(key) => self.identify_raw_public_key(role, key),
            Presented::Certificates(chain) => self.identify_certificate(now_ms, role, chain),
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
        self.standing(role, &Subject::RawPublicKey(fingerprint)).map_err(|(owner, refusal)| {
            let reason = match owner {
                Some(endpoint) => format!("the raw public key sha256:{fingerprint} of {endpoint}: {refusal}"),
                None => format!("no {role} account has the raw public key sha256:{fingerprint}"),
            };
            Untrusted::new(alert_of(refusal), reason)
        })
    }

    /// 1. By the certificate itself: its dates count, a path does not. 2. By its key and an authority. 3. By its names.
    fn identify_certificate(
        &self,
        now_ms: u64,
        role: Role,
        chain: &[Vec<u8>],
    ) -> Result<Authenticated, Untrusted> {
        let hash = chain.first().map(|own| Fingerprint::of(own));
        let pinned = hash.map(|hash| Subject::Certificate(Binding::Pinned(hash)));
        if let Some(pinned) = pinned.filter(|pinned| self.owner(role, pinned).is_some()) {
            let own = self.trust().check_pinned(now_ms, chain)?;
            let who = self.standing(role, &pinned).map_err(|refused| stands(&own, refused))?;
            return Ok(who.with_validity(Validity::of(&own, &[], None)));
        }
        let path = self.trust().check(now_ms, chain)?;
        for issuer in &path.authorities {
            let bound = Subject::Certificate(Binding::Key { issuer: *issuer, key: path.certificate.key });
            if self.owner(role, &bound).is_some() {
                let who = self.standing(role, &bound);
                let who = who.map_err(|refused| stands(&path.certificate, refused))?;
                return Ok(who.with_validity(path.validity));
            }
        }
        let who = self.identify_by_name(role, &path)?;
        Ok(who.with_validity(path.validity))
    }

    /// Whether a certificate that both of these credentials of a device fit is taken for `one`, in the order of
    /// [`identify`](Self::identify).
    pub(super) fn is_taken_for(
        &self,
        now_ms: u64,
        endpoint: &str,
        chain: &[Vec<u8>],
        one: &Subject,
        other: &Subject,
    ) -> bool {
        let Some(own) = chain.first().and_then(|own| Certificate::parse(own)) else { return false };
        // Without a path now there may be one later, when its authority is trusted: through those that are presented, in their order,
        // and through others above them. Of those nobody knows which, so that `one` is not taken to be one of them.
        let path = self.trust().check(now_ms, chain);
        let above = path.is_err().then_some(chain.len());
        let presented =
            || chain.iter().skip(1).filter_map(|each| Some(Certificate::parse(each)?.key)).collect();
        let authorities: Vec<Fingerprint> = path.map_or_else(|_| presented(), |path| path.authorities);
        let place = |subject: &Subject, above: Option<usize>| {
            let through = |issuer| authorities.iter().position(|each| each == issuer).or(above);
            match subject {
                Subject::Certificate(Binding::Pinned(hash)) => (own.fingerprint == *hash).then_some(0),
                Subject::Certificate(Binding::Key { issuer, key }) => {
                    through(issuer).filter(|_| own.key == *key).map(|place| place.saturating_add(1))
                }
                Subject::Certificate(Binding::Name { issuer }) => {
                    let is_through = issuer.as_ref().is_none_or(|issuer| through(issuer).is_some());
                    (is_through && own.bindable_names().contains(&endpoint)).then_some(usize::MAX)
                }
                Subject::RawPublicKey(_) | Subject::Psk(_) | Subject::Oscore(_) => None,
            }
        };
        place(one, None).zip(place(other, above)).is_some_and(|(one, other)| one <= other)
    }

    fn identify_by_name(&self, role: Role, path: &TrustedPath) -> Result<Authenticated, Untrusted> {
        let own = &path.certificate;
        let names = path.bindable_names();
        let mut found = names.iter().filter_map(|name| {
            let device = self.device(name)?;
            let is_bound = |subject: &Subject| match subject {
                Subject::Certificate(Binding::Name { issuer }) => {
                    issuer.is_none_or(|issuer| path.authorities.contains(&issuer))
                }
                _ => false,
            };
            // The newest one that opens a session, else the newest one, to say why it does not.
            let credentials = &device.account(role)?.credentials;
            let mut bound = credentials.iter().rev().filter(|credential| is_bound(&credential.subject));
            let newest = bound.clone().next()?;
            let accepted = bound.find(|credential| device.accepts(role, credential.generation).is_ok());
            let generation = accepted.unwrap_or(newest).generation;
            Some((device, generation))
        });
        let presented = || format!("{own}, issued through '{}',", path.anchor);
        let Some((device, generation)) = found.next() else {
            let reason = match names.is_empty() {
                true if path.has_name_constraints => format!(
                    "{} has no DNS name, and by no other one an account could be bound to it, for an authority above it may not \
                     issue for every name (nameConstraints)",
                    presented()
                ),
                true => format!("{} has no name that an account could be bound to", presented()),
                false => format!(
                    "{} is not bound to any {role} account: by none of its names ({}), not by its key sha256:{}, and not itself",
                    presented(),
                    names.join(", "),
                    own.key
                ),
            };
            return Err(Untrusted::new(dtls_psk::Refusal::WrongName, reason));
        };
        if let Some((other, _)) = found.next() {
            let reason = format!(
                "{} has the names of two devices, {} and {}",
                presented(),
                device.endpoint,
                other.endpoint
            );
            return Err(Untrusted::new(dtls_psk::Refusal::WrongName, reason));
        }
        let endpoint: Arc<str> = device.endpoint.as_str().into();
        match device.accepts(role, generation) {
            Ok(()) => Ok(Authenticated::new(endpoint, role, generation)),
            Err(refusal) => Err(stands(own, (Some(endpoint), refusal))),
        }
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
            Ok(()) => Ok(Authenticated::new(endpoint, role, generation)),
            Err(refusal) => Err((Some(endpoint), refusal)),
        }
    }
}

/// The certificate is known, and does not open a session.
fn stands(own: &Certificate, (owner, refusal): (Option<Arc<str>>, Refusal)) -> Untrusted {
    let owner = owner.map_or_else(String::new, |endpoint| format!(" that {endpoint} has"));
    Untrusted::new(alert_of(refusal), format!("{own}{owner}: {refusal}"))
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
