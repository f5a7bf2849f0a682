//! Whether a certificate is to be trusted, as LwM2M means it: certificate usages, digests, the name of the server, and path
//! validation (LwM2M Transport 1.1.1 §5.2.8.7, RFC 6698 §2.1, RFC 5280 §6, RFC 6125 §6; invariant: a path ends at an anchor that the
//! owner named, whoever presents it).
//!
//! The path is validated by `rustls-webpki`, with the signatures of the engine's [`Crypto`]: ECDSA on P-256 with SHA-256 alone.
//! Without the feature `x509-path` there is the last usage only, which needs none.

#[cfg(feature = "x509-path")]
use core::marker::PhantomData;
#[cfg(feature = "x509-path")]
use core::time::Duration;

#[cfg(feature = "x509-path")]
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime, alg_id,
};
use subtle::ConstantTimeEq as _;
#[cfg(feature = "x509-path")]
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use crate::crypto::{Crypto, RunningHash as _};
use crate::error::Refusal;
use crate::public_key;
#[cfg(feature = "x509-path")]
use crate::signature;

/// How many certificates of a chain are looked at besides the peer's own, and how many anchors: 4.
pub const PATH_MAX: usize = 4;

/// What a server's certificate has to do with the one that was provisioned (`/0/x/15`, RFC 6698 §2.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CertificateUsage {
    /// 0: the path to a known anchor goes through this authority.
    CaConstraint,
    /// 1: it is this one, and there is a path to a known anchor.
    ServiceCertificateConstraint,
    /// 2: this is the anchor.
    TrustAnchorAssertion,
    /// 3: it is this one. Neither path, nor name, nor dates are looked at.
    #[default]
    DomainIssuedCertificate,
}

impl CertificateUsage {
    /// The usage with this number.
    pub const fn from_value(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::CaConstraint),
            1 => Some(Self::ServiceCertificateConstraint),
            2 => Some(Self::TrustAnchorAssertion),
            3 => Some(Self::DomainIssuedCertificate),
            _ => None,
        }
    }
}

/// What is provisioned of a certificate (`/0/x/4`, `/0/x/13`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Association<'a> {
    /// All of it in DER, or its SubjectPublicKeyInfo.
    Full(&'a [u8]),
    /// The SHA-256 of one of them.
    Sha256(&'a [u8; 32]),
    /// The SHA-384 of one of them, with the feature `sha512`.
    Sha384(&'a [u8; 48]),
    /// The SHA-512 of one of them, with the feature `sha512`.
    Sha512(&'a [u8; 64]),
}

impl Association<'_> {
    /// Whether this build has the digest.
    const fn is_supported(self) -> bool {
        cfg!(feature = "sha512") || matches!(self, Self::Full(_) | Self::Sha256(_))
    }

    fn is_of<C: Crypto>(self, certificate: &[u8]) -> bool {
        let key = public_key::public_key_of(certificate);
        [Some(certificate), key].into_iter().flatten().any(|form| match self {
            Self::Full(known) => known.ct_eq(form).into(),
            Self::Sha256(known) => {
                let mut hash = C::Sha256::new();
                hash.update(form);
                hash.finish().ct_eq(known).into()
            }
            #[cfg(feature = "sha512")]
            Self::Sha384(known) => C::sha384(form).ct_eq(known).into(),
            #[cfg(feature = "sha512")]
            Self::Sha512(known) => C::sha512(form).ct_eq(known).into(),
            #[cfg(not(feature = "sha512"))]
            Self::Sha384(_) | Self::Sha512(_) => false,
        })
    }
}

/// What a client holds against the certificate of its server.
#[derive(Clone, Copy, Debug)]
pub struct ServerTrust<'a> {
    /// What the provisioned certificate means.
    pub usage: CertificateUsage,
    /// The provisioned certificate.
    pub association: Association<'a>,
    /// The trust store of the device, in DER; for the usages 0 and 1. The first [`PATH_MAX`] of them count.
    pub anchors: &'a [&'a [u8]],
    /// The host in the server's URI, or the name for SNI (`/0/x/14`) where there is one; a DNS name or an address.
    pub name: &'a str,
    /// Seconds since 1970. A device without a clock has none: then every certificate of the path must be valid at the moment
    /// that the server's own one begins, so that those that never were valid together are refused, and one that expired is not.
    pub now: Option<u64>,
}

impl ServerTrust<'_> {
    /// Judges certificates in DER as they were presented, the server's own first.
    ///
    /// # Errors
    /// Why it is not to be trusted; [`Refusal::Unsupported`] for another usage than the last without the feature `x509-path`, and
    /// [`Refusal::UnsupportedDigest`] for SHA-384 and SHA-512 without the feature `sha512`.
    pub fn check<'c, C: Crypto>(&self, chain: impl Iterator<Item = &'c [u8]> + Clone) -> Result<(), Refusal> {
        if !self.association.is_supported() {
            return Err(Refusal::UnsupportedDigest);
        }
        let own = chain.clone().next().ok_or(Refusal::Malformed)?;
        let is_own = self.association.is_of::<C>(own);
        match self.usage {
            CertificateUsage::DomainIssuedCertificate => is_own.then_some(()).ok_or(Refusal::Unknown),
            CertificateUsage::ServiceCertificateConstraint if !is_own => Err(Refusal::Unknown),
            #[cfg(feature = "x509-path")]
            _ => self.check_path::<C>(own, chain),
            #[cfg(not(feature = "x509-path"))]
            _ => Err(Refusal::Unsupported),
        }
    }

    /// Whether there is a path to an anchor that the usage wants.
    #[cfg(feature = "x509-path")]
    fn check_path<'c, C: Crypto>(
        &self,
        own: &[u8],
        chain: impl Iterator<Item = &'c [u8]> + Clone,
    ) -> Result<(), Refusal> {
        let leaf = CertificateDer::from(own);
        let leaf = EndEntityCert::try_from(&leaf).map_err(refusal)?;
        let mut others = heapless::Vec::<CertificateDer<'_>, PATH_MAX>::new();
        for certificate in chain.clone().skip(1) {
            others.push(CertificateDer::from(certificate)).map_err(|_| Refusal::TooLong)?;
        }
        // Each order of those of one name is a path of its own to try. Two there are where an authority is crossed with another.
        let is_third = |other: &CertificateDer<'_>| {
            let name = public_key::subject(other);
            others.iter().filter(|other| public_key::subject(other) == name).count() > 2
        };
        if others.iter().any(is_third) {
            return Err(Refusal::TooLong);
        }
        let mut anchors = heapless::Vec::<CertificateDer<'_>, PATH_MAX>::new();
        match (self.usage, self.association) {
            (CertificateUsage::TrustAnchorAssertion, Association::Full(anchor))
                if public_key::public_key_of(anchor).is_some() =>
            {
                let _ = anchors.push(CertificateDer::from(anchor));
            }
            (CertificateUsage::TrustAnchorAssertion, _) => {
                // Only the presented chain has the certificate of which a digest or the key is known.
                let known = others.iter().filter(|other| self.association.is_of::<C>(other));
                anchors.extend(known.take(PATH_MAX).cloned());
            }
            _ => {
                anchors.extend(self.anchors.iter().take(PATH_MAX).map(|anchor| CertificateDer::from(*anchor)))
            }
        }
        let anchors = parsed(&anchors);
        let now = self.now.or_else(|| public_key::not_before(own)).ok_or(Refusal::Malformed)?;
        let verifier = EcdsaP256Sha256::<C>::NEW;
        // Of several paths one may go through the authority that is wanted.
        let through = |path: &VerifiedPath<'_>| {
            if self.usage != CertificateUsage::CaConstraint || self.is_through::<C>(path) {
                return Ok(());
            }
            Err(webpki::Error::UnknownIssuer)
        };
        // One after the other: of two anchors of one name the one whose key it is knows what else is wrong.
        let mut refused = Refusal::UnknownIssuer;
        let is_trusted = anchors.iter().any(|anchor| {
            let path = leaf.verify_for_usage(
                &[&verifier],
                core::slice::from_ref(anchor),
                &others,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                KeyUsage::server_auth(),
                None,
                Some(&through),
            );
            if let (Err(error), Refusal::UnknownIssuer) = (&path, refused) {
                refused = refusal(error.clone());
            }
            path.is_ok()
        });
        if !is_trusted {
            return Err(refused);
        }
        self.check_name(&leaf, own)
    }

    /// Whether a path goes through the provisioned authority, which may be its anchor.
    #[cfg(feature = "x509-path")]
    fn is_through<C: Crypto>(&self, path: &VerifiedPath<'_>) -> bool {
        let is_anchor = |anchor: &&[u8]| {
            let parsed = CertificateDer::from(*anchor);
            self.association.is_of::<C>(anchor)
                && anchor_from_trusted_cert(&parsed).is_ok_and(|anchor| anchor == *path.anchor())
        };
        path.intermediate_certificates().any(|between| self.association.is_of::<C>(&between.der()))
            || self.anchors.iter().take(PATH_MAX).any(is_anchor)
    }

    /// RFC 6125 §6: one of the alternative names, or the common name where there are none.
    #[cfg(feature = "x509-path")]
    fn check_name(&self, leaf: &EndEntityCert<'_>, certificate: &[u8]) -> Result<(), Refusal> {
        let name = ServerName::try_from(self.name).map_err(|_| Refusal::WrongName)?;
        if leaf.verify_is_valid_for_subject_name(&name).is_ok() {
            return Ok(());
        }
        let common_name =
            public_key::common_name(certificate).filter(|_| !public_key::has_other_names(certificate));
        let is_named = common_name.is_some_and(|common| common.eq_ignore_ascii_case(self.name.as_bytes()));
        is_named.then_some(()).ok_or(Refusal::WrongName)
    }
}

#[cfg(feature = "x509-path")]
fn parsed<'a>(anchors: &'a [CertificateDer<'a>]) -> heapless::Vec<TrustAnchor<'a>, PATH_MAX> {
    anchors.iter().filter_map(|anchor| anchor_from_trusted_cert(anchor).ok()).collect()
}

/// What webpki found, in the words of this crate.
#[cfg(feature = "x509-path")]
fn refusal(error: webpki::Error) -> Refusal {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Refusal::Expired,
        E::CertRevoked => Refusal::Revoked,
        // An authority of the same name has another key.
        E::UnknownIssuer | E::CertDistrusted | E::InvalidSignatureForPublicKey => Refusal::UnknownIssuer,
        E::CaUsedAsEndEntity
        | E::EndEntityUsedAsCa
        | E::NameConstraintViolation
        | E::PathLenConstraintViolated
        | E::RequiredEkuNotFoundContext(_)
        | E::EmptyEkuExtension => Refusal::NotAllowed,
        E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => Refusal::TooLong,
        E::UnsupportedCertVersion
        | E::UnsupportedCriticalExtension
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::Unsupported,
        _ => Refusal::Malformed,
    }
}

/// ECDSA on P-256 with SHA-256 by the engine's primitives: for `rustls-webpki`.
#[cfg(feature = "x509-path")]
pub struct EcdsaP256Sha256<C: Crypto>(PhantomData<fn() -> C>);

#[cfg(feature = "x509-path")]
impl<C: Crypto> EcdsaP256Sha256<C> {
    /// There is but one.
    pub const NEW: Self = Self(PhantomData);
}

#[cfg(feature = "x509-path")]
impl<C: Crypto> core::fmt::Debug for EcdsaP256Sha256<C> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("EcdsaP256Sha256")
    }
}

#[cfg(feature = "x509-path")]
impl<C: Crypto> SignatureVerificationAlgorithm for EcdsaP256Sha256<C> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = key.try_into().map_err(|_| InvalidSignature)?;
        let signature = signature::numbers(signature).ok_or(InvalidSignature)?;
        let mut hash = C::Sha256::new();
        hash.update(message);
        C::p256_verify(key, &hash.finish(), &signature).then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[cfg(test)]
#[cfg(not(feature = "x509-path"))]
mod tests {
    use super::*;
    use crate::crypto::RustCrypto;

    #[test]
    fn without_path_validation_only_what_is_known_beforehand_is_trusted() {
        let check = |usage, known| {
            let association = Association::Full(known);
            let trust = ServerTrust { usage, association, anchors: &[], name: "lwm2m.example", now: None };
            trust.check::<RustCrypto>([b"own".as_slice()].into_iter())
        };
        assert_eq!(check(CertificateUsage::DomainIssuedCertificate, b"own"), Ok(()));
        assert_eq!(check(CertificateUsage::DomainIssuedCertificate, b"other"), Err(Refusal::Unknown));
        assert_eq!(check(CertificateUsage::ServiceCertificateConstraint, b"other"), Err(Refusal::Unknown));
        for usage in [
            CertificateUsage::CaConstraint,
            CertificateUsage::ServiceCertificateConstraint,
            CertificateUsage::TrustAnchorAssertion,
        ] {
            assert_eq!(check(usage, b"own"), Err(Refusal::Unsupported));
        }
    }
}
