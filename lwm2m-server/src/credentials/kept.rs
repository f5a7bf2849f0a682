//! What the store keeps of a credential besides its record, sealed: a pre-shared key, what a device presents with the private
//! key that the server delivers, or what an OSCORE context is derived from, which may be beside one of the others.
//!
//! Invariants: a device key is whole: its public key is one of P-256, and the private one, where there is one, is its own.

use core::fmt;

use rustls_pki_types::pem::SectionKind;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::encoding;
use super::oscore::OscoreKey;
use super::presented::Presented;
use super::private_key::PrivateKey;
use super::secret::Key;
use super::subject::{Binding, Fingerprint, Subject};
use super::trust::CHAIN_MAX;

/// Longest certificate that is kept, in bytes: `/0/x/3` is written in one piece.
const CERTIFICATE_MAX: usize = 4096;

/// What is sealed of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A pre-shared key.
    Psk(Key),
    /// A raw public key or certificates.
    Device(DeviceKey),
    /// The parameters of an OSCORE context.
    Oscore(OscoreKey),
    /// Those of one inside the sessions of a credential of DTLS, and what is kept of that besides.
    Within(Option<Box<Self>>, OscoreKey),
}

/// What a device presents, and the private key where the server is to deliver it.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey {
    presents: Presented,
    private_key: Option<PrivateKey>,
}

impl DeviceKey {
    /// Puts together what belongs together.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn new(presents: Presented, private_key: Option<PrivateKey>) -> Result<Self, &'static str> {
        let public_key = match &presents {
            Presented::RawPublicKey(key) => key.clone(),
            Presented::Certificates(chain) => {
                let own = chain.first().ok_or("certificate: none is given")?;
                if chain.len() > CHAIN_MAX.saturating_add(1) {
                    return Err("certificate: at most four others beside the device's own");
                }
                if chain.iter().any(|each| each.len() > CERTIFICATE_MAX) {
                    return Err("certificate: at most 4096 bytes each");
                }
                if chain.iter().any(|each| Certificate::parse(each).is_none()) {
                    return Err("certificate: it cannot be read");
                }
                Certificate::parse(own).ok_or("certificate: it cannot be read")?.public_key
            }
        };
        if dtls_psk::point_of(&public_key).is_none() {
            return Err("public key: none of P-256 in the uncompressed form");
        }
        if private_key.as_ref().is_some_and(|key| key.public_key() != public_key) {
            return Err("private key: it is not the one of the public key or certificate beside it");
        }
        Ok(Self { presents, private_key })
    }

    /// What the device presents.
    #[must_use]
    pub fn presents(&self) -> &Presented {
        &self.presents
    }

    /// The key to deliver; `None` where the device has its own.
    #[must_use]
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.private_key.as_ref()
    }

    /// What it is known by: the hash of the key, or of the certificate itself.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match &self.presents {
            Presented::RawPublicKey(key) => Subject::RawPublicKey(Fingerprint::of(key)),
            Presented::Certificates(chain) => {
                let own = chain.first().map(Vec::as_slice).unwrap_or_default();
                Subject::Certificate(Binding::Pinned(Fingerprint::of(own)))
            }
        }
    }

    /// The certificates in words, the device's own first; none of a raw public key.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        match &self.presents {
            Presented::RawPublicKey(_) => Vec::new(),
            Presented::Certificates(chain) => {
                chain.iter().filter_map(|each| Certificate::parse(each)).collect()
            }
        }
    }

    /// The earliest end of a certificate, in milliseconds since 1970.
    #[must_use]
    pub fn expires_ms(&self) -> Option<u64> {
        self.certificates().iter().map(|each| each.not_after).min().map(|end| end.saturating_mul(1000))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?}, {:?})", self.presents, self.private_key)
    }
}

impl Kept {
    /// The pre-shared key, if it is one.
    #[must_use]
    pub fn psk(&self) -> Option<&Key> {
        match self.dtls()? {
            Self::Psk(key) => Some(key),
            _ => None,
        }
    }

    /// What the device presents, if it is that.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceKey> {
        match self.dtls()? {
            Self::Device(key) => Some(key),
            _ => None,
        }
    }

    /// The parameters of an OSCORE context, if there is one.
    #[must_use]
    pub fn oscore(&self) -> Option<&OscoreKey> {
        match self {
            Self::Oscore(key) | Self::Within(_, key) => Some(key),
            Self::Psk(_) | Self::Device(_) => None,
        }
    }

    /// Without an OSCORE context.
    #[must_use]
    pub fn dtls(&self) -> Option<&Self> {
        match self {
            Self::Psk(_) | Self::Device(_) => Some(self),
            Self::Within(dtls, _) => dtls.as_deref(),
            Self::Oscore(_) => None,
        }
    }

    /// As it is sealed: of a context inside DTLS its parameters with their length, the kind of what is beside it, and that.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Psk(key) => Zeroizing::new(key.bytes().to_vec()),
            Self::Device(key) => key.to_bytes(),
            Self::Oscore(key) => key.to_bytes(),
            Self::Within(dtls, key) => {
                let context = key.to_bytes();
                let (kind, beside) = match dtls.as_deref() {
                    Some(Self::Device(key)) => (BESIDE_DEVICE, key.to_bytes()),
                    Some(Self::Psk(key)) => (BESIDE_PSK, Zeroizing::new(key.bytes().to_vec())),
                    _ => (BESIDE_NOTHING, Zeroizing::default()),
                };
                let length = context.len().saturating_add(beside.len()).saturating_add(2);
                // All the room at once: what grows leaves a copy behind.
                let mut bytes = Zeroizing::new(Vec::with_capacity(length));
                // At most 165.
                bytes.push(u8::try_from(context.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(&context);
                bytes.push(kind);
                bytes.extend_from_slice(&beside);
                bytes
            }
        }
    }

    /// A context inside DTLS that was sealed; `None` if it is nothing that [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn within_from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first()?;
        let (context, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, beside) = rest.split_first()?;
        let dtls = match (*kind, beside) {
            (BESIDE_NOTHING, []) => None,
            (BESIDE_PSK, key) => Some(Self::Psk(Key::new(key.to_vec()).ok()?)),
            (BESIDE_DEVICE, key) => Some(Self::Device(DeviceKey::from_bytes(key)?)),
            _ => return None,
        };
        Some(Self::Within(dtls.map(Box::new), OscoreKey::from_bytes(context)?))
    }
}

const BESIDE_NOTHING: u8 = 0;
const BESIDE_PSK: u8 = 1;
const BESIDE_DEVICE: u8 = 2;

impl DeviceKey {
    /// As it is sealed: the private key, the kind, the public parts; each with its length in two bytes.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let private = self.private_key.as_ref().map(PrivateKey::pkcs8).unwrap_or_default();
        let (kind, public): (u8, Vec<&[u8]>) = match &self.presents {
            Presented::RawPublicKey(key) => (RAW_PUBLIC_KEY, vec![key]),
            Presented::Certificates(chain) => (CERTIFICATES, chain.iter().map(Vec::as_slice).collect()),
        };
        let parts = || core::iter::once(private.as_slice()).chain(public.iter().copied());
        let length = parts().map(|part| part.len().saturating_add(2)).fold(1_usize, usize::saturating_add);
        // All the room at once: what grows leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(kind);
        for part in parts() {
            // At most 4096.
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// What was sealed; `None` if it is nothing that [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (part, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
            parts.push(part);
            rest = behind;
        }
        let (private, public) = parts.split_first()?;
        let private = match private.is_empty() {
            true => None,
            false => Some(PrivateKey::parse(private).ok()?),
        };
        let presents = match (*kind, public) {
            (RAW_PUBLIC_KEY, [key]) => Presented::RawPublicKey(key.to_vec()),
            (CERTIFICATES, chain) => {
                Presented::Certificates(chain.iter().map(|each| each.to_vec()).collect())
            }
            _ => return None,
        };
        Self::new(presents, private).ok()
    }
}

const RAW_PUBLIC_KEY: u8 = 1;
const CERTIFICATES: u8 = 2;

/// The raw public key in PEM or DER: a SubjectPublicKeyInfo.
///
/// # Errors
/// When it is none of P-256.
pub fn public_key(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let sections = encoding::sections(bytes, &[SectionKind::PublicKey]);
    match sections.as_slice() {
        [key] if dtls_psk::point_of(key).is_some() => Ok(key.to_vec()),
        _ => Err("public key: no SubjectPublicKeyInfo of P-256 with an uncompressed point, in DER or PEM"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn chain(key: &PrivateKey) -> Presented {
        Presented::Certificates(vec![key.self_signed("a", 0).unwrap(), key.self_signed("b", 0).unwrap()])
    }

    #[test]
    fn what_is_sealed_comes_back_and_nothing_that_is_cut_short_does() {
        let key = PrivateKey::generate().unwrap();
        for (presents, private) in [
            (Presented::RawPublicKey(key.public_key()), None),
            (Presented::RawPublicKey(key.public_key()), Some(key.clone())),
            (chain(&key), None),
            (chain(&key), Some(key.clone())),
        ] {
            let whole = DeviceKey::new(presents, private).unwrap();
            let bytes = whole.to_bytes();
            assert_eq!(DeviceKey::from_bytes(&bytes), Some(whole.clone()));
            for length in 0..bytes.len() {
                // A chain without its last certificate is one, too.
                let cut = DeviceKey::from_bytes(bytes.get(..length).unwrap());
                assert!(cut.is_none_or(|cut| cut != whole), "{length}");
            }
        }
    }

    #[test]
    fn a_context_inside_dtls_comes_back_with_what_is_beside_it_and_not_when_it_is_cut_short() {
        let private = PrivateKey::generate().unwrap();
        let device = DeviceKey::new(Presented::RawPublicKey(private.public_key()), Some(private)).unwrap();
        let psk = Kept::Psk(Key::new(vec![7; 16]).unwrap());
        for dtls in [None, Some(psk), Some(Kept::Device(device))] {
            let context = OscoreKey::generate(&[1]).unwrap().unwrap();
            let whole = Kept::Within(dtls.clone().map(Box::new), context.clone());
            assert_eq!((whole.dtls(), whole.oscore()), (dtls.as_ref(), Some(&context)));
            let bytes = whole.to_bytes();
            assert_eq!(Kept::within_from_bytes(&bytes), Some(whole));
            for length in 0..bytes.len() {
                assert_eq!(Kept::within_from_bytes(bytes.get(..length).unwrap()), None, "{length}");
            }
            assert_eq!(Kept::within_from_bytes(&[&bytes[..], &[0; 65]].concat()), None);
        }
    }

    #[test]
    fn a_private_key_belongs_to_its_public_key() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        for presents in [Presented::RawPublicKey(key.public_key()), chain(&key)] {
            assert!(DeviceKey::new(presents.clone(), Some(key.clone())).is_ok());
            assert!(DeviceKey::new(presents, Some(other.clone())).is_err());
        }
        assert!(DeviceKey::new(Presented::RawPublicKey(vec![4; 65]), None).is_err());
        assert!(DeviceKey::new(Presented::Certificates(Vec::new()), None).is_err());
        assert!(DeviceKey::new(Presented::Certificates(vec![vec![0x30, 0]]), None).is_err());
        let shown = format!("{:?}", DeviceKey::new(chain(&key), Some(key.clone())).unwrap());
        assert!(shown.contains("masked"), "{shown}");
    }
}
