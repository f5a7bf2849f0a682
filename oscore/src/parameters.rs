//! What a Security Context is derived from (RFC 8613 §3.2; Object `/21`): identifiers, algorithms, Master Secret, Master
//! Salt and ID Context.
//!
//! Invariant: a [`Parameters`] value can be derived from: its ids differ and fit the nonce of its AEAD algorithm.

use core::fmt;

use heapless::Vec;
use zeroize::Zeroize;

use crate::aad::FINGERPRINT;
use crate::context::derive;

/// A Sender ID or Recipient ID: 0 to 7 bytes with the default AEAD algorithm (RFC 8613 §3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    bytes: [u8; KeyId::MAX_LENGTH],
    length: u8,
}

impl KeyId {
    /// The longest identifier: the nonce of 13 bytes less 6.
    pub const MAX_LENGTH: usize = 7;

    /// The identifier of no bytes, which is as good as any other.
    pub const EMPTY: KeyId = KeyId { bytes: [0; Self::MAX_LENGTH], length: 0 };

    /// The identifier of `bytes`, or `None` past [`KeyId::MAX_LENGTH`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self::EMPTY;
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        id.length = u8::try_from(bytes.len()).ok()?;
        Some(id)
    }

    /// The bytes as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(")?;
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// The AEAD algorithm of a context, by its COSE number (RFC 9053 §4; `/21/x/3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AeadAlgorithm {
    /// 1: AES-GCM with a 128-bit key.
    #[cfg(feature = "gcm")]
    A128Gcm,
    /// 2: AES-GCM with a 192-bit key.
    #[cfg(feature = "gcm")]
    A192Gcm,
    /// 3: AES-GCM with a 256-bit key.
    #[cfg(feature = "gcm")]
    A256Gcm,
    /// 10: AES-CCM with a 128-bit key, 64-bit tag and 13-byte nonce; the default.
    #[default]
    AesCcm16_64_128,
    /// 11: AES-CCM with a 256-bit key, 64-bit tag and 13-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm16_64_256,
    /// 12: AES-CCM with a 128-bit key, 64-bit tag and 7-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm64_64_128,
    /// 13: AES-CCM with a 256-bit key, 64-bit tag and 7-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm64_64_256,
    /// 24: ChaCha20/Poly1305.
    #[cfg(feature = "chacha20")]
    ChaCha20Poly1305,
    /// 30: AES-CCM with a 128-bit key, 128-bit tag and 13-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm16_128_128,
    /// 31: AES-CCM with a 256-bit key, 128-bit tag and 13-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm16_128_256,
    /// 32: AES-CCM with a 128-bit key, 128-bit tag and 7-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm64_128_128,
    /// 33: AES-CCM with a 256-bit key, 128-bit tag and 7-byte nonce.
    #[cfg(feature = "ccm")]
    AesCcm64_128_256,
}

impl AeadAlgorithm {
    /// Every algorithm of this build, the default first.
    pub const ALL: &[Self] = &[
        Self::AesCcm16_64_128,
        #[cfg(feature = "gcm")]
        Self::A128Gcm,
        #[cfg(feature = "gcm")]
        Self::A192Gcm,
        #[cfg(feature = "gcm")]
        Self::A256Gcm,
        #[cfg(feature = "ccm")]
        Self::AesCcm16_64_256,
        #[cfg(feature = "ccm")]
        Self::AesCcm64_64_128,
        #[cfg(feature = "ccm")]
        Self::AesCcm64_64_256,
        #[cfg(feature = "chacha20")]
        Self::ChaCha20Poly1305,
        #[cfg(feature = "ccm")]
        Self::AesCcm16_128_128,
        #[cfg(feature = "ccm")]
        Self::AesCcm16_128_256,
        #[cfg(feature = "ccm")]
        Self::AesCcm64_128_128,
        #[cfg(feature = "ccm")]
        Self::AesCcm64_128_256,
    ];

    /// The algorithm of a COSE number, or `None` when this build does not have it.
    #[must_use]
    pub fn from_cose(number: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| i32::from(algorithm.cose()) == number)
    }

    /// The COSE number.
    #[must_use]
    pub const fn cose(self) -> u8 {
        self.shape().0
    }

    /// The bytes of the key: 16, 24 or 32.
    #[must_use]
    pub const fn key_length(self) -> usize {
        self.shape().1
    }

    /// The bytes of the nonce: 7, 12 or 13.
    #[must_use]
    pub const fn nonce_length(self) -> usize {
        self.shape().2
    }

    /// The bytes by which a protected message grows: 8 or 16.
    #[must_use]
    pub const fn tag_length(self) -> usize {
        self.shape().3
    }

    /// The longest Sender ID or Recipient ID: the nonce less 6 (RFC 8613 §3.3).
    #[must_use]
    pub const fn id_length(self) -> usize {
        self.nonce_length().saturating_sub(6)
    }

    /// COSE number, key, nonce and tag length (RFC 9053 tables 4 to 6).
    const fn shape(self) -> (u8, usize, usize, usize) {
        match self {
            #[cfg(feature = "gcm")]
            Self::A128Gcm => (1, 16, 12, 16),
            #[cfg(feature = "gcm")]
            Self::A192Gcm => (2, 24, 12, 16),
            #[cfg(feature = "gcm")]
            Self::A256Gcm => (3, 32, 12, 16),
            Self::AesCcm16_64_128 => (10, 16, 13, 8),
            #[cfg(feature = "ccm")]
            Self::AesCcm16_64_256 => (11, 32, 13, 8),
            #[cfg(feature = "ccm")]
            Self::AesCcm64_64_128 => (12, 16, 7, 8),
            #[cfg(feature = "ccm")]
            Self::AesCcm64_64_256 => (13, 32, 7, 8),
            #[cfg(feature = "chacha20")]
            Self::ChaCha20Poly1305 => (24, 32, 12, 16),
            #[cfg(feature = "ccm")]
            Self::AesCcm16_128_128 => (30, 16, 13, 16),
            #[cfg(feature = "ccm")]
            Self::AesCcm16_128_256 => (31, 32, 13, 16),
            #[cfg(feature = "ccm")]
            Self::AesCcm64_128_128 => (32, 16, 7, 16),
            #[cfg(feature = "ccm")]
            Self::AesCcm64_128_256 => (33, 32, 7, 16),
        }
    }
}

/// The HMAC algorithm of the key derivation, by its COSE number (RFC 9053 §3.1, §5.1; `/21/x/4`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// 5: HMAC with SHA-256; the default. The field also writes −10 (HKDF with SHA-256).
    #[default]
    Sha256,
    /// 6: HMAC with SHA-384.
    #[cfg(feature = "sha512")]
    Sha384,
    /// 7: HMAC with SHA-512. The field also writes −11 (HKDF with SHA-512).
    #[cfg(feature = "sha512")]
    Sha512,
}

impl HmacAlgorithm {
    /// The algorithm of a COSE number in either notation, or `None` when this build does not have it.
    #[must_use]
    pub const fn from_cose(number: i32) -> Option<Self> {
        match number {
            5 | -10 => Some(Self::Sha256),
            #[cfg(feature = "sha512")]
            6 => Some(Self::Sha384),
            #[cfg(feature = "sha512")]
            7 | -11 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The COSE number of the HMAC.
    #[must_use]
    pub const fn cose(self) -> u8 {
        match self {
            Self::Sha256 => 5,
            #[cfg(feature = "sha512")]
            Self::Sha384 => 6,
            #[cfg(feature = "sha512")]
            Self::Sha512 => 7,
        }
    }
}

/// A Master Secret of 1 to 64 bytes; wiped when dropped and never shown.
#[derive(Clone)]
pub struct MasterSecret(Vec<u8, { MasterSecret::MAX_LENGTH }>);

impl MasterSecret {
    /// The longest secret held, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// The secret of `bytes`, or `None` when they are none or more than [`MasterSecret::MAX_LENGTH`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() { None } else { Vec::from_slice(bytes).ok().map(Self) }
    }

    /// The bytes of the secret, for key derivation only.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for MasterSecret {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret(..)")
    }
}

/// A Master Salt or an ID Context of 0 to `N` bytes.
pub(crate) type Bytes<const N: usize> = Vec<u8, N, u8>;

/// The parameters both ends agree on, seen from one end (RFC 8613 §3.2; Object `/21`).
#[derive(Clone, Debug)]
pub struct Parameters {
    aead: AeadAlgorithm,
    hmac: HmacAlgorithm,
    master_secret: MasterSecret,
    master_salt: Bytes<{ Parameters::SALT_LENGTH }>,
    sender_id: KeyId,
    recipient_id: KeyId,
    id_context: Option<Bytes<{ Parameters::ID_CONTEXT_LENGTH }>>,
}

impl Parameters {
    /// The longest Master Salt, in bytes.
    pub const SALT_LENGTH: usize = 32;

    /// The longest ID Context, in bytes: what Appendix B.2 makes of a server's 16 and a former ID Context of 24.
    pub const ID_CONTEXT_LENGTH: usize = 40;

    /// The bytes of [`Parameters::fingerprint`].
    pub const FINGERPRINT: usize = 8;

    /// Parameters with the default algorithms, without salt and ID Context.
    ///
    /// # Errors
    /// [`InvalidParameters::EqualIds`]: both ends would then use one key with the same nonces (RFC 8613 §3.3).
    pub fn new(
        master_secret: MasterSecret,
        sender_id: KeyId,
        recipient_id: KeyId,
    ) -> Result<Self, InvalidParameters> {
        if sender_id == recipient_id {
            return Err(InvalidParameters::EqualIds);
        }
        Ok(Self {
            aead: AeadAlgorithm::default(),
            hmac: HmacAlgorithm::default(),
            master_secret,
            master_salt: Bytes::new(),
            sender_id,
            recipient_id,
            id_context: None,
        })
    }

    /// The same with other algorithms.
    ///
    /// # Errors
    /// [`InvalidParameters::IdTooLong`]: an id is longer than [`AeadAlgorithm::id_length`].
    pub fn with_algorithms(
        mut self,
        aead: AeadAlgorithm,
        hmac: HmacAlgorithm,
    ) -> Result<Self, InvalidParameters> {
        let longest = self.sender_id.bytes().len().max(self.recipient_id.bytes().len());
        if longest > aead.id_length() {
            return Err(InvalidParameters::IdTooLong);
        }
        (self.aead, self.hmac) = (aead, hmac);
        Ok(self)
    }

    /// The same with a Master Salt of at most [`Parameters::SALT_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`InvalidParameters::SaltTooLong`].
    pub fn with_salt(mut self, salt: &[u8]) -> Result<Self, InvalidParameters> {
        self.master_salt = Bytes::from_slice(salt).map_err(|_| InvalidParameters::SaltTooLong)?;
        Ok(self)
    }

    /// The same with an ID Context of at most [`Parameters::ID_CONTEXT_LENGTH`] bytes. One of no bytes is another than none.
    ///
    /// # Errors
    /// [`InvalidParameters::IdContextTooLong`].
    pub fn with_id_context(mut self, id_context: &[u8]) -> Result<Self, InvalidParameters> {
        let id_context = Bytes::from_slice(id_context).map_err(|_| InvalidParameters::IdContextTooLong)?;
        self.id_context = Some(id_context);
        Ok(self)
    }

    /// The AEAD algorithm.
    #[must_use]
    pub const fn aead(&self) -> AeadAlgorithm {
        self.aead
    }

    /// The HMAC algorithm of HKDF.
    #[must_use]
    pub const fn hmac(&self) -> HmacAlgorithm {
        self.hmac
    }

    /// The identifier this end puts into its requests.
    #[must_use]
    pub const fn sender_id(&self) -> KeyId {
        self.sender_id
    }

    /// The identifier the other end puts into its requests.
    #[must_use]
    pub const fn recipient_id(&self) -> KeyId {
        self.recipient_id
    }

    /// The ID Context.
    #[must_use]
    pub fn id_context(&self) -> Option<&[u8]> {
        self.id_context.as_deref()
    }

    /// Names the sender key among others, to find what storage has of it: the same for the same secret, salt, algorithms,
    /// sender id and ID Context, whatever the recipient id. It tells nothing of the secret but to who can guess it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; Self::FINGERPRINT] {
        let mut fingerprint = [0; Self::FINGERPRINT];
        derive(self, self.sender_id.bytes(), self.id_context(), FINGERPRINT, &mut fingerprint);
        fingerprint
    }

    /// The Master Salt; empty when there is none.
    pub(crate) fn master_salt(&self) -> &[u8] {
        &self.master_salt
    }

    /// The Master Secret.
    pub(crate) const fn master_secret(&self) -> &MasterSecret {
        &self.master_secret
    }
}

/// Why parameters were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidParameters {
    /// Sender ID and Recipient ID are the same.
    EqualIds,
    /// Sender ID or Recipient ID is too long for the nonce of the AEAD algorithm.
    IdTooLong,
    /// The Master Salt is longer than [`Parameters::SALT_LENGTH`].
    SaltTooLong,
    /// The ID Context is longer than [`Parameters::ID_CONTEXT_LENGTH`].
    IdContextTooLong,
}

impl fmt::Display for InvalidParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EqualIds => "sender id and recipient id are equal; each end needs an id of its own",
            Self::IdTooLong => {
                "sender id or recipient id is longer than the nonce of the AEAD algorithm less 6 bytes"
            }
            Self::SaltTooLong => "the master salt is longer than 32 bytes",
            Self::IdContextTooLong => "the id context is longer than 40 bytes",
        })
    }
}

impl core::error::Error for InvalidParameters {}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn ids_hold_up_to_seven_bytes() {
        assert_eq!(KeyId::new(&[]), Some(KeyId::EMPTY));
        assert_eq!(KeyId::new(&[1; 7]).unwrap().bytes(), [1; 7]);
        assert_eq!(KeyId::new(&[1; 8]), None);
        assert_ne!(KeyId::new(&[0]), Some(KeyId::EMPTY));
    }

    // RFC 8613 §3.3
    #[test]
    fn what_cannot_be_derived_from_is_refused_with_the_reason() {
        let secret = MasterSecret::new(&[1; 16]).unwrap();
        assert_eq!(
            Parameters::new(secret.clone(), KeyId::EMPTY, KeyId::EMPTY).unwrap_err(),
            InvalidParameters::EqualIds
        );
        let parameters = Parameters::new(secret, KeyId::EMPTY, KeyId::new(&[1, 2]).unwrap()).unwrap();
        assert_eq!(parameters.clone().with_salt(&[0; 33]).unwrap_err(), InvalidParameters::SaltTooLong);
        assert_eq!(
            parameters.clone().with_id_context(&[0; 41]).unwrap_err(),
            InvalidParameters::IdContextTooLong
        );
        #[cfg(feature = "ccm")]
        assert_eq!(
            parameters
                .clone()
                .with_algorithms(AeadAlgorithm::AesCcm64_64_128, HmacAlgorithm::Sha256)
                .unwrap_err(),
            InvalidParameters::IdTooLong
        );
        assert_eq!(parameters.with_id_context(&[]).unwrap().id_context(), Some(&[][..]));
    }

    #[test]
    fn a_fingerprint_names_all_that_the_sender_key_is_made_of() {
        let id = |byte| KeyId::new(&[byte]).unwrap();
        let secret = |byte| MasterSecret::new(&[byte; 16]).unwrap();
        let parameters = Parameters::new(secret(1), id(1), id(2)).unwrap();
        let fingerprint = parameters.fingerprint();
        assert_eq!(Parameters::new(secret(1), id(1), id(3)).unwrap().fingerprint(), fingerprint);
        for other in [
            Parameters::new(secret(2), id(1), id(2)).unwrap(),
            Parameters::new(secret(1), id(3), id(2)).unwrap(),
            parameters.clone().with_salt(&[1]).unwrap(),
            parameters.with_id_context(&[]).unwrap(),
        ] {
            assert_ne!(other.fingerprint(), fingerprint);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = MasterSecret::new(b"not for the log").unwrap();
        let parameters = Parameters::new(secret, KeyId::EMPTY, KeyId::new(&[1]).unwrap()).unwrap();
        let shown = format!("{parameters:?}");
        assert!(shown.contains("MasterSecret(..)") && !shown.contains("110"), "{shown}");
        assert!(MasterSecret::new(&[]).is_none() && MasterSecret::new(&[0; 65]).is_none());
    }

    #[test]
    fn both_notations_of_the_hmac_algorithm_are_read() {
        assert_eq!(HmacAlgorithm::from_cose(5), HmacAlgorithm::from_cose(-10));
        assert_eq!(HmacAlgorithm::from_cose(4), None);
        #[cfg(feature = "sha512")]
        assert_eq!(HmacAlgorithm::from_cose(7), HmacAlgorithm::from_cose(-11));
        for algorithm in AeadAlgorithm::ALL {
            assert_eq!(AeadAlgorithm::from_cose(algorithm.cose().into()), Some(*algorithm));
        }
        assert_eq!(AeadAlgorithm::from_cose(14), None);
    }
}
