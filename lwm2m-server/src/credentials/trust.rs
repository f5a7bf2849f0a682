//! Whether a device's certificate was issued by who may issue it (RFC 5280 §6, LwM2M Transport 1.1.1 §5.2.8.7).
//!
//! 1. The chain has the device's own certificate first and at most four others.
//! 2. Its key is one of P-256, and its usages, where it has any, allow to sign and to be a client.
//! 3. `rustls-webpki` finds a path to an anchor: signatures, dates, basic constraints, lengths, name constraints, purposes.
//! 4. No certificate of the path is on a revocation list of its issuer; a list that should have been renewed by now refuses them
//!    all, for who holds back a list must not bring a revoked certificate back. Where no list of an issuer is given, nothing is known
//!    to be revoked. Sessions that were opened before, and pinned certificates, go on without such a list; what is on one ends them.
//!    The lists are taken as the operator's word: an entry ends sessions also where nobody can check the signature.
//!
//! Invariant: a path ends at an anchor that the operator named, whoever presents it. Whose the certificate is, is another question.

use core::fmt;
use core::time::Duration;

use dtls_psk::Refusal;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    KeyUsage, RequiredEkuNotFoundContext, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, anchor_from_trusted_cert,
};

use super::certificate::Certificate;
use super::date;
use super::encoding;
use super::presented::Untrusted;
use super::revocation::RevocationLists;
use super::subject::Fingerprint;
use super::validity::{Mark, Validity};

/// How many certificates a device may present besides its own.
pub const CHAIN_MAX: usize = dtls_psk::PATH_MAX;

/// The authorities whose certificates devices may have, and what they revoked.
#[derive(Default)]
pub struct DeviceTrust {
    anchors: Vec<TrustAnchor<'static>>,
    /// The same in words.
    authorities: Vec<Certificate>,
    revocations: RevocationLists,
}

impl fmt::Debug for DeviceTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anchors = self.authorities.iter().map(|authority| &authority.subject);
        f.debug_list().entries(anchors).finish()
    }
}

/// Why anchors or revocation lists were not taken. None of them was then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// There is none in the text or DER.
    Empty,
    /// The one with this number, from 1, cannot be read.
    Malformed(usize),
    /// The certificate of this subject is not that of an authority.
    NoAuthority(String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("neither DER nor PEM of the kind that is wanted"),
            Self::Malformed(number) => write!(f, "number {number} in it cannot be read"),
            Self::NoAuthority(subject) => write!(
                f,
                "the certificate of '{subject}' is not that of an authority (basicConstraints), so that it cannot be an anchor"
            ),
        }
    }
}

impl core::error::Error for TrustError {}

/// A path that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPath {
    /// The device's own certificate.
    pub certificate: Certificate,
    /// The SHA-256 of the SubjectPublicKeyInfo of every authority on the path, the anchor last.
    pub authorities: Vec<Fingerprint>,
    /// The subject of the anchor.
    pub anchor: String,
    /// An authority on the path may not issue for every name. Of the names of a device, such constraints are about DNS names alone.
    pub has_name_constraints: bool,
    /// What to look at later.
    pub validity: Validity,
}

impl TrustedPath {
    /// The names that an account may be bound to: those that every authority of the path may give.
    #[must_use]
    pub fn bindable_names(&self) -> Vec<&str> {
        let names = self.certificate.bindable_names();
        let is_judged = |name: &&str| self.certificate.dns_names.iter().any(|dns_name| dns_name == name);
        names.into_iter().filter(|name| !self.has_name_constraints || is_judged(name)).collect()
    }
}

impl DeviceTrust {
    /// Trusts the authorities of these certificates: PEM with any number of them, or DER of one.
    ///
    /// # Errors
    /// When one of them cannot be read or is not that of an authority.
    pub fn add_anchors(&mut self, bytes: &[u8]) -> Result<usize, TrustError> {
        let mut found = Vec::new();
        for (number, der) in (1..).zip(encoding::certificates(bytes)) {
            let authority = Certificate::parse(&der).ok_or(TrustError::Malformed(number))?;
            if !authority.is_authority {
                return Err(TrustError::NoAuthority(authority.subject));
            }
            let der = CertificateDer::from(der);
            let anchor = anchor_from_trusted_cert(&der).map_err(|_| TrustError::Malformed(number))?;
            found.push((anchor.to_owned(), authority));
        }
        let added = found.len();
        if added == 0 {
            return Err(TrustError::Empty);
        }
        for (anchor, authority) in found {
            self.anchors.push(anchor);
            self.authorities.push(authority);
        }
        Ok(added)
    }

    /// Takes revocation lists: PEM with any number of them, or DER of one.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn add_revocations(&mut self, bytes: &[u8]) -> Result<usize, TrustError> {
        self.revocations.add(bytes)
    }

    /// The authorities that are trusted.
    #[must_use]
    pub fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// Judges certificates in DER as a device presents them, its own first.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub fn check(&self, now_ms: u64, chain: &[Vec<u8>]) -> Result<TrustedPath, Untrusted> {
        let certificate = own(chain)?;
        let now = now_ms / 1000;
        let path = self.path(now, chain).map_err(|error| self.explain(error, now, chain));
        let (between, anchor, has_name_constraints) = path?;
        let authorities: Vec<Fingerprint> = between.iter().map(|each| each.key).chain([anchor.key]).collect();
        let validity = Validity::of(&certificate, &between, authorities.last());
        Ok(TrustedPath {
            certificate,
            authorities,
            anchor: anchor.subject.clone(),
            has_name_constraints,
            validity,
        })
    }

    /// Judges a certificate that is pinned: it must be one of a device, its dates count, and it must not be on a list.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub fn check_pinned(&self, now_ms: u64, chain: &[Vec<u8>]) -> Result<Certificate, Untrusted> {
        let own = own(chain)?;
        own.check_dates(now_ms / 1000).map_err(|reason| Untrusted::new(Refusal::Expired, reason))?;
        if self.revocations.contains(Mark::of_certificate(&own)) {
            return Err(Untrusted::new(Refusal::Revoked, revoked(&own)));
        }
        Ok(own)
    }

    /// Whether a certificate that was trusted once still would be.
    ///
    /// # Errors
    /// Why not.
    pub fn still_holds(&self, now_ms: u64, validity: &Validity) -> Result<(), super::Refusal> {
        let is_trusted = |mark| self.authorities.iter().any(|anchor| Mark::of_key(&anchor.key) == mark);
        if now_ms / 1000 > validity.not_after {
            Err(super::Refusal::CertificateExpired)
        } else if validity.certificates.iter().any(|mark| self.revocations.contains(*mark)) {
            Err(super::Refusal::CertificateRevoked)
        } else if validity.anchor.is_some_and(|anchor| !is_trusted(anchor)) {
            Err(super::Refusal::AuthorityRemoved)
        } else {
            Ok(())
        }
    }

    /// Revocation lists that are to be renewed within a day, in words.
    pub(super) fn lists_due(&self, now_ms: u64) -> impl Iterator<Item = String> {
        self.revocations.due(now_ms / 1000)
    }

    /// The authorities between a certificate and its anchor, the anchor, and whether one of them is bound to some names.
    fn path(&self, now: u64, chain: &[Vec<u8>]) -> Result<(Vec<Certificate>, &Certificate, bool), Error> {
        let (own, others) = chain.split_first().ok_or(Error::BadDer)?;
        let own = CertificateDer::from(own.as_slice());
        let own = EndEntityCert::try_from(&own)?;
        let others: Vec<CertificateDer<'_>> =
            others.iter().map(|other| CertificateDer::from(other.as_slice())).collect();
        let revocations: Vec<&CertRevocationList<'_>> = self.revocations.all().iter().collect();
        // Without any list there is nothing to look at.
        let revocation = RevocationOptionsBuilder::new(&revocations).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let path = own.verify_for_usage(
            crate::crypto::SIGNATURES,
            &self.anchors,
            &others,
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            Client,
            revocation,
            None,
        )?;
        let between = path.intermediate_certificates().map(|each| Certificate::parse(&each.der()));
        let between: Vec<Certificate> = between.collect::<Option<_>>().ok_or(Error::BadDer)?;
        let anchor = self.anchors.iter().position(|anchor| anchor == path.anchor());
        let anchor = anchor.and_then(|place| self.authorities.get(place)).ok_or(Error::UnknownIssuer)?;
        let has_name_constraints = between.iter().chain([anchor]).any(|each| each.has_name_constraints);
        Ok((between, anchor, has_name_constraints))
    }

    /// What webpki found, in the words of an operator.
    fn explain(&self, error: Error, now: u64, chain: &[Vec<u8>]) -> Untrusted {
        let chain: Vec<Certificate> = chain.iter().filter_map(|der| Certificate::parse(der)).collect();
        let Some(own) = chain.first() else {
            return Untrusted::new(Refusal::Malformed, "a certificate that cannot be read");
        };
        let (refusal, reason) = match error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => {
                let wrong = chain.iter().find_map(|each| each.check_dates(now).err());
                (Refusal::Expired, wrong.unwrap_or_else(|| format!("{own}: its dates contradict each other")))
            }
            Error::CertRevoked => (Refusal::Revoked, self.explain_revoked(own, &chain)),
            Error::CrlExpired { next_update, .. } => (
                Refusal::Unknown,
                format!(
                    "{own}: a revocation list of {} should have been renewed by {}: until it is, nobody knows what was revoked",
                    self.lists_of(&chain),
                    date::utc(next_update.as_secs()),
                ),
            ),
            Error::InvalidCrlSignatureForPublicKey | Error::IssuerNotCrlSigner => (
                Refusal::Unknown,
                format!(
                    "{own}: a revocation list of {} is not signed by who may sign it",
                    self.lists_of(&chain)
                ),
            ),
            Error::UnknownIssuer | Error::CertDistrusted | Error::InvalidSignatureForPublicKey => {
                (Refusal::UnknownIssuer, self.explain_unknown(&chain))
            }
            Error::CaUsedAsEndEntity => {
                (Refusal::NotAllowed, format!("{own} is that of an authority, not of a device"))
            }
            Error::EndEntityUsedAsCa => (
                Refusal::NotAllowed,
                format!("{own} was issued by '{}', which is no authority (basicConstraints)", own.issuer),
            ),
            Error::PathLenConstraintViolated => (
                Refusal::NotAllowed,
                format!(
                    "{own}: an authority above it does not allow so many others below itself (pathLenConstraint)"
                ),
            ),
            Error::NameConstraintViolation => (
                Refusal::NotAllowed,
                format!(
                    "{own}: an authority above it may not issue for its names, {} (nameConstraints)",
                    own.bindable_names().join(", ")
                ),
            ),
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                let wrong = chain.iter().find(|each| !each.may_be_client()).unwrap_or(own);
                let purposes =
                    wrong.purposes.as_ref().map_or_else(String::new, |purposes| purposes.join(", "));
                (
                    Refusal::NotAllowed,
                    format!("{wrong} is for {purposes}, not for client authentication (extKeyUsage)"),
                )
            }
            Error::MaximumPathDepthExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::MaximumNameConstraintComparisonsExceeded => {
                (Refusal::TooLong, format!("{own}: too many ways lead through the certificates presented"))
            }
            Error::UnsupportedCriticalExtension => (
                Refusal::Unsupported,
                format!("{own}: a certificate of its chain has a critical extension that is not known here"),
            ),
            Error::UnsupportedCertVersion => {
                (Refusal::Unsupported, format!("{own}: a certificate of its chain is not of version 3"))
            }
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => (
                Refusal::Unsupported,
                format!("{own}: a certificate of its chain is signed by an algorithm that is not supported"),
            ),
            _ => (Refusal::Malformed, format!("{own}: a certificate of its chain cannot be read")),
        };
        Untrusted::new(refusal, reason)
    }

    fn explain_revoked(&self, own: &Certificate, chain: &[Certificate]) -> String {
        let is_listed = |each: &&Certificate| self.revocations.contains(Mark::of_certificate(each));
        revoked(chain.iter().find(is_listed).unwrap_or(own))
    }

    /// The issuers in a chain of which there are revocation lists.
    fn lists_of(&self, chain: &[Certificate]) -> String {
        let mut issuers: Vec<String> = chain
            .iter()
            .filter(|each| self.revocations.all().iter().any(|list| list.issuer() == each.names.1))
            .map(|each| format!("'{}'", each.issuer))
            .collect();
        issuers.dedup();
        if issuers.is_empty() { "its issuer".to_owned() } else { issuers.join(" or ") }
    }

    /// Follows the names up to where nobody goes on.
    fn explain_unknown(&self, chain: &[Certificate]) -> String {
        let Some(own) = chain.first() else { return String::new() };
        if self.anchors.is_empty() {
            return format!("{own}: this server trusts no authority that issues certificates of devices");
        }
        let mut at = own;
        for _ in chain {
            if self.authorities.iter().any(|anchor| anchor.names.0 == at.names.1) {
                return format!(
                    "{at} says that it was issued by '{}', whom this server trusts, but is not signed with that key",
                    at.issuer
                );
            }
            if at.is_self_issued() {
                break;
            }
            match chain.iter().find(|each| each.names.0 == at.names.1) {
                Some(above) => at = above,
                None => {
                    return format!(
                        "{at} was issued by '{}', which is neither presented nor trusted here: the device has to present the \
                         certificates between its own and an anchor, or the authority is to be added to the anchors",
                        at.issuer
                    );
                }
            }
        }
        if core::ptr::eq(at, own) {
            return format!("{own} is self-signed, and no account is bound to it");
        }
        format!("{own}: its chain ends at '{}', whom this server does not trust", at.subject)
    }
}

fn revoked(certificate: &Certificate) -> String {
    let Certificate { serial, issuer, .. } = certificate;
    format!("{certificate}, serial number {serial}, was revoked by '{issuer}'")
}

/// The device's own certificate, if it can be one of a device.
fn own(chain: &[Vec<u8>]) -> Result<Certificate, Untrusted> {
    let unreadable = || Untrusted::new(Refusal::Malformed, "a certificate that cannot be read");
    let (own, others) = chain.split_first().ok_or_else(unreadable)?;
    let own = Certificate::parse(own).ok_or_else(unreadable)?;
    if others.len() > CHAIN_MAX {
        let reason = format!("{own} comes with {} others; {CHAIN_MAX} are the most", others.len());
        return Err(Untrusted::new(Refusal::TooLong, reason));
    }
    // Each order of those of one name is a path of its own to try. Two there are where an authority is crossed with another.
    let mut names: Vec<_> =
        others.iter().filter_map(|other| Some(Certificate::parse(other)?.names.0)).collect();
    names.sort_unstable();
    if names.windows(3).any(|three| matches!(three, [first, .., last] if first == last)) {
        let reason = format!("{own} comes with more than two certificates of one name");
        return Err(Untrusted::new(Refusal::TooLong, reason));
    }
    if dtls_psk::point_of(&own.public_key).is_none() {
        let reason = format!("{own} has a key that is none of P-256 in the uncompressed form");
        return Err(Untrusted::new(Refusal::Unsupported, reason));
    }
    if own.is_authority && !own.may_sign {
        let reason =
            format!("{own} is that of an authority, not of a device: a device presents its own first");
        return Err(Untrusted::new(Refusal::NotAllowed, reason));
    }
    if !own.may_sign {
        let reason = format!("{own} is not for signatures (keyUsage without digitalSignature)");
        return Err(Untrusted::new(Refusal::NotAllowed, reason));
    }
    Ok(own)
}

/// id-kp-clientAuth, or anyExtendedKeyUsage, or no extension at all (RFC 5280 §4.2.1.12).
struct Client;

impl ExtendedKeyUsageValidator for Client {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        const ANY: &[usize] = &[2, 5, 29, 37, 0];
        let mut present = Vec::new();
        for purpose in purposes {
            present.push(purpose?.to_decoded_oid());
        }
        let is_for = |purpose: &Vec<usize>| purpose == KeyUsage::CLIENT_AUTH_REPR || purpose == ANY;
        if present.is_empty() || present.iter().any(is_for) {
            return Ok(());
        }
        let required = KeyUsage::client_auth();
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}
