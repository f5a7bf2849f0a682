//! The server's own keys: what it signs handshakes with and what it presents (RFC 7250, RFC 5246 §7.4.2; invariant: a
//! certificate goes with its own key alone, and a private key never leaves its signer).
//!
//! Several may be in use at once, told apart by the listener and by the name that a device asks for (RFC 6066 §3): so devices
//! are moved from one to the next.

mod file;

use core::fmt;
use std::sync::Arc;

use dtls_psk::{
    CertificateAssociation, CertificateType, CertificateTypes, CertificateUsage, POINT, RAW_PUBLIC_KEY,
    RustCrypto, SIGNATURE, ServerTrust, raw_public_key,
};
#[cfg(feature = "pkcs11")]
use dtls_psk::{TokenError, TokenKey};
use sha2::{Digest as _, Sha256};

use crate::credentials::{Certificate, Fingerprint, Pin, PinKind, Role, ServerPublic};
use crate::crypto::SigningKey;
use crate::endpoint::Listener;

pub use file::KeyError;

/// Where a private key is.
enum Signer {
    Memory(SigningKey),
    Elsewhere(Box<Sign>),
}

type Sign = dyn Fn(&[u8; 32]) -> Option<[u8; SIGNATURE]> + Send + Sync;

/// One key of the server, and what goes with it.
pub struct ServerKey {
    signer: Signer,
    raw_public_key: [u8; RAW_PUBLIC_KEY],
    /// In DER, that of the key first; empty where there is none.
    chain: Vec<Vec<u8>>,
    /// The certificate of the authority that devices are told to expect instead of its own.
    anchor: Option<Vec<u8>>,
    names: Vec<String>,
    /// The name that devices are told to ask for.
    server_name: Option<String>,
    role: Option<Role>,
    is_retiring: bool,
}

impl ServerKey {
    /// The key of P-256 with this number, big-endian, without a certificate; `None` if it is out of range.
    #[must_use]
    pub fn in_memory(secret: &[u8; 32]) -> Option<Self> {
        let (signer, point) = SigningKey::new(secret)?;
        Some(Self::new(Signer::Memory(signer), &point))
    }

    /// The key in a token that a `pkcs11:` URI names ([`TokenKey::open`]), without a certificate.
    ///
    /// # Errors
    /// It cannot be used.
    #[cfg(feature = "pkcs11")]
    pub fn in_token(uri: &str) -> Result<Self, TokenError> {
        let key = TokenKey::open(uri)?;
        let point = *key.point();
        let sign = move |digest: &_| key.sign(digest).inspect_err(|error| tracing::error!(%error)).ok();
        Ok(Self::elsewhere(&point, sign))
    }

    /// The key with this public half that something else signs with (ECDSA, P-256, of a digest), without a certificate. `sign` may
    /// take its time, on several threads at once; `None` gives the handshake up.
    #[must_use]
    pub fn elsewhere(
        point: &[u8; POINT],
        sign: impl Fn(&[u8; 32]) -> Option<[u8; SIGNATURE]> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Signer::Elsewhere(Box::new(sign)), point)
    }

    fn new(signer: Signer, point: &[u8; POINT]) -> Self {
        let raw_public_key = raw_public_key(point);
        let (chain, names) = (Vec::new(), Vec::new());
        Self {
            signer,
            raw_public_key,
            chain,
            anchor: None,
            names,
            server_name: None,
            role: None,
            is_retiring: false,
        }
    }

    /// The same with certificates in DER, its own first, under the DNS names in that. `None` if it cannot be read or is that of
    /// another key.
    #[must_use]
    pub fn with_certificates(self, chain: Vec<Vec<u8>>) -> Option<Self> {
        let own = Certificate::parse(chain.first()?)?;
        if own.public_key != self.raw_public_key {
            return None;
        }
        Some(Self { names: own.dns_names, chain, ..self })
    }

    /// The same where devices are told to expect this authority (certificate usage 2), so that a renewed certificate needs no new
    /// account. In DER.
    ///
    /// # Errors
    /// Why a device that asks for `name` would not trust it. Dates do not count: that a certificate ends is told of as of any other.
    pub fn with_anchor(self, anchor: Vec<u8>, name: &str) -> Result<Self, dtls_psk::Refusal> {
        let trust = ServerTrust {
            usage: CertificateUsage::TrustAnchorAssertion,
            association: CertificateAssociation::Full(&anchor),
            anchors: &[],
            name,
            now: None,
        };
        trust.check::<RustCrypto>(self.chain.iter().map(Vec::as_slice))?;
        Ok(Self { anchor: Some(anchor), ..self })
    }

    /// The same for one of the two servers alone.
    #[must_use]
    pub fn for_role(self, role: Option<Role>) -> Self {
        Self { role, ..self }
    }

    /// The same under these names instead of those in its certificate, for devices that ask for one of them. One may begin with
    /// `*.`, which stands for one label. Devices that are bootstrapped are told to ask for the first that does not.
    #[must_use]
    pub fn with_names(self, names: Vec<String>) -> Self {
        let server_name = names.iter().find(|name| !name.starts_with("*.")).cloned();
        Self { names, server_name, ..self }
    }

    /// The same as one that devices are to be moved away from: another one is preferred.
    #[must_use]
    pub fn retiring(self, is_retiring: bool) -> Self {
        Self { is_retiring, ..self }
    }

    /// Whether devices are to be moved away from it.
    #[must_use]
    pub const fn is_retiring(&self) -> bool {
        self.is_retiring
    }

    /// The server that it is for; `None` for both.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        self.role
    }

    /// Its SubjectPublicKeyInfo in DER.
    #[must_use]
    pub const fn raw_public_key(&self) -> &[u8; RAW_PUBLIC_KEY] {
        &self.raw_public_key
    }

    /// Its certificates in DER, its own first; empty where it has none.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The SHA-256 of its raw public key, in hex digits: what it is called in reports.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.raw_public_key))
    }

    /// What is presented in a handshake, in DER.
    pub(crate) fn presented(&self, certificate_type: CertificateType) -> Vec<&[u8]> {
        match certificate_type {
            CertificateType::RawPublicKey => vec![&self.raw_public_key],
            CertificateType::X509 => self.chain.iter().map(Vec::as_slice).collect(),
        }
    }

    /// Signs (ECDSA, P-256); `None` when the signer fails.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Option<[u8; SIGNATURE]> {
        match &self.signer {
            Signer::Memory(key) => key.sign(digest),
            Signer::Elsewhere(sign) => sign(digest),
        }
    }

    /// Whether signing takes as long as something else likes.
    pub(crate) const fn is_elsewhere(&self) -> bool {
        matches!(self.signer, Signer::Elsewhere(_))
    }

    fn has(&self, certificate_type: CertificateType) -> bool {
        certificate_type == CertificateType::RawPublicKey || !self.chain.is_empty()
    }

    fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|known| {
            known.eq_ignore_ascii_case(name)
                || known.strip_prefix("*.").is_some_and(|domain| {
                    name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
                })
        })
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey")
            .field("fingerprint", &self.fingerprint())
            .field("certificates", &self.chain.len())
            .field("names", &self.names)
            .field("role", &self.role)
            .field("is_retiring", &self.is_retiring)
            .finish_non_exhaustive()
    }
}

/// All keys of the server.
#[derive(Clone, Debug, Default)]
pub struct ServerKeys(Arc<[Arc<ServerKey>]>);

impl ServerKeys {
    /// These, the preferred one first.
    #[must_use]
    pub fn new(keys: Vec<ServerKey>) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServerKey>> {
        self.0.iter()
    }

    /// What devices of one of the two servers are to know of them: the preferred key, and the preferred one with a certificate.
    #[must_use]
    pub fn public(&self, role: Role) -> ServerPublic {
        let listener = Listener::of(role);
        let raw_public_key = self.choose(listener, CertificateType::RawPublicKey, None);
        let certified = self.choose(listener, CertificateType::X509, None);
        ServerPublic {
            raw_public_key: raw_public_key.map(|key| key.raw_public_key.to_vec()).unwrap_or_default(),
            certificate: certified.and_then(|key| key.chain.first().cloned()),
            anchor: certified.and_then(|key| key.anchor.clone()),
            server_name: certified.and_then(|key| key.server_name.clone()),
        }
    }

    /// Whether devices that were told to expect this find it in one of them.
    #[must_use]
    pub fn has(&self, pin: &Pin) -> bool {
        self.iter().any(|key| {
            let expected = match pin.of {
                PinKind::RawPublicKey => Some(key.raw_public_key.as_slice()),
                PinKind::Certificate => key.chain.first().map(Vec::as_slice),
                PinKind::Anchor => key.anchor.as_deref(),
            };
            expected.is_some_and(|der| Fingerprint::of(der) == pin.sha256)
        })
    }

    /// The kinds of certificates that handshakes at one of the addresses may have.
    #[must_use]
    pub fn types(&self, listener: Listener) -> CertificateTypes {
        let mut types = CertificateTypes::NONE;
        types.raw_public_key = self.choose(listener, CertificateType::RawPublicKey, None).is_some();
        types.x509 = self.choose(listener, CertificateType::X509, None).is_some();
        types
    }

    /// What a device is answered with that asks for `name`: the first key with that name, else the first of all, and of each those
    /// that are not retiring before those that are; at a former address it is the other way round.
    pub(crate) fn choose(
        &self,
        listener: Listener,
        certificate_type: CertificateType,
        name: Option<&[u8]>,
    ) -> Option<&Arc<ServerKey>> {
        let name = name.and_then(|name| core::str::from_utf8(name).ok());
        let rank = |key: &ServerKey| {
            let is_named = name.is_some_and(|name| key.is_named(name));
            (!is_named, key.is_retiring != listener.is_former())
        };
        let fitting = self.iter().filter(|key| key.role.is_none_or(|only| only == listener.role()));
        fitting.filter(|key| key.has(certificate_type)).min_by_key(|key| rank(key))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use CertificateType::{RawPublicKey, X509};

    fn key(secret: u8) -> ServerKey {
        ServerKey::in_memory(&[secret; 32]).unwrap()
    }

    fn certified(secret: u8, names: &[&str]) -> ServerKey {
        let key = key(secret).with_names(names.iter().map(|name| (*name).to_owned()).collect());
        ServerKey { chain: vec![vec![secret]], ..key }
    }

    fn chosen(
        keys: &ServerKeys,
        listener: Listener,
        kind: CertificateType,
        name: Option<&str>,
    ) -> Option<Vec<u8>> {
        let key = keys.choose(listener, kind, name.map(str::as_bytes))?;
        Some(key.raw_public_key().to_vec())
    }

    fn public(secret: u8) -> Option<Vec<u8>> {
        Some(key(secret).raw_public_key().to_vec())
    }

    #[test]
    fn a_device_gets_the_key_of_the_name_it_asks_for_and_else_the_first() {
        let keys = ServerKeys::new(vec![
            certified(1, &["one.example"]),
            certified(2, &["two.example", "*.wild.example"]),
        ]);
        for (name, secret) in [
            (None, 1),
            (Some("one.example"), 1),
            (Some("TWO.example"), 2),
            (Some("any.wild.example"), 2),
            (Some("wild.example"), 1),
            (Some("a.b.wild.example"), 1),
            (Some("three.example"), 1),
        ] {
            assert_eq!(chosen(&keys, Listener::Coaps, X509, name), public(secret), "{name:?}");
        }
        assert_eq!(keys.choose(Listener::Coaps, X509, Some(&[0xff])).map(|key| key.chain().len()), Some(1));
    }

    #[test]
    fn a_retiring_key_is_chosen_by_its_name_alone() {
        let keys = ServerKeys::new(vec![
            certified(1, &["old.example"]).retiring(true),
            certified(2, &["new.example"]),
        ]);
        assert_eq!(chosen(&keys, Listener::BootstrapCoaps, X509, None), public(2));
        assert_eq!(chosen(&keys, Listener::BootstrapCoaps, X509, Some("old.example")), public(1));
    }

    #[test]
    fn a_retiring_key_is_that_of_the_former_addresses() {
        let keys = ServerKeys::new(vec![key(2), key(1).retiring(true)]);
        for [now, former] in [
            [Listener::Coaps, Listener::FormerCoaps],
            [Listener::BootstrapCoaps, Listener::FormerBootstrapCoaps],
        ] {
            assert_eq!(chosen(&keys, now, RawPublicKey, None), public(2));
            assert_eq!(chosen(&keys, former, RawPublicKey, None), public(1));
        }
        // Before there is a next one.
        let keys = ServerKeys::new(vec![key(1)]);
        assert_eq!(chosen(&keys, Listener::FormerCoaps, RawPublicKey, None), public(1));
    }

    #[test]
    fn a_key_of_one_listener_is_not_presented_by_the_other() {
        let keys = ServerKeys::new(vec![
            key(1).for_role(Some(Role::Bootstrap)),
            certified(2, &[]).for_role(Some(Role::Management)),
        ]);
        assert_eq!(chosen(&keys, Listener::BootstrapCoaps, RawPublicKey, None), public(1));
        assert_eq!(chosen(&keys, Listener::BootstrapCoaps, X509, None), None);
        assert_eq!(chosen(&keys, Listener::Coaps, RawPublicKey, None), public(2));
        assert_eq!(keys.types(Listener::BootstrapCoaps), CertificateTypes::RAW_PUBLIC_KEY);
        let both = keys.types(Listener::Coaps);
        assert!(both.raw_public_key && both.x509);
        assert_eq!(ServerKeys::default().types(Listener::Coaps), CertificateTypes::NONE);
    }

    #[test]
    fn devices_are_told_to_expect_what_is_not_retiring_under_the_name_it_was_given() {
        let keys = ServerKeys::new(vec![
            certified(1, &["old.example"]).retiring(true),
            certified(2, &["*.example", "new.example"]),
            key(3).for_role(Some(Role::Bootstrap)),
        ]);
        let public = keys.public(Role::Management);
        assert_eq!(Some(public.raw_public_key), self::public(2));
        assert_eq!((public.certificate, public.server_name.as_deref()), (Some(vec![2]), Some("new.example")));
        assert_eq!(ServerKeys::default().public(Role::Bootstrap), ServerPublic::default());
    }

    #[test]
    fn a_key_shows_its_public_half_alone() {
        let shown = format!("{:?}", key(0x5a));
        assert!(shown.contains(&key(0x5a).fingerprint()) && !shown.contains("5a5a"), "{shown}");
    }
}
