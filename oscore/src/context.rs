//! What a security context is derived from (RFC 8613 §3.2): identifiers, algorithms, master secret and salt.
//!
//! Invariant: a [`Parameters`] value can be derived from: its ids differ and fit the nonce of its AEAD algorithm.

use core::fmt;

use heapless::Vec;
use zeroize::Zeroize;

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

/// The AEAD algorithm of a context, by its COSE number (RFC 9053 §4.2; `/21/x/3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AeadAlgorithm {
    /// 10: AES-CCM with a 128-bit key, 64-bit tag and 13-byte nonce; the default.
    #[default]
    AesCcm16_64_128,
}

impl AeadAlgorithm {
    /// The algorithm of a COSE number, or `None` when it is not supported.
    #[must_use]
    pub const fn from_cose(number: i32) -> Option<Self> {
        match number {
            10 => Some(Self::AesCcm16_64_128),
            _ => None,
        }
    }

    /// The COSE number.
    #[must_use]
    pub const fn cose(self) -> i32 {
        match self {
            Self::AesCcm16_64_128 => 10,
        }
    }
}

/// The HMAC algorithm of the key derivation, by its COSE number (RFC 9053 §3.1; `/21/x/4`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HmacAlgorithm {
    /// 5: HMAC with SHA-256; the default. The field also writes −10 (HKDF with SHA-256).
    #[default]
    Sha256,
}

impl HmacAlgorithm {
    /// The algorithm of a COSE number in either notation, or `None` when it is not supported.
    #[must_use]
    pub const fn from_cose(number: i32) -> Option<Self> {
        match number {
            5 | -10 => Some(Self::Sha256),
            _ => None,
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

/// The parameters both ends agree on, seen from one end (RFC 8613 §3.2; Object `/21`).
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The AEAD algorithm.
    pub aead: AeadAlgorithm,
    /// The HMAC algorithm of HKDF.
    pub hmac: HmacAlgorithm,
    /// The Master Secret.
    pub master_secret: MasterSecret,
    sender_id: KeyId,
    recipient_id: KeyId,
}

impl Parameters {
    /// Parameters with the default algorithms.
    ///
    /// # Errors
    /// Equal ids: both ends would then use one key with the same nonces (RFC 8613 §3.3).
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
            sender_id,
            recipient_id,
        })
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
}

/// Why parameters were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidParameters {
    /// Sender ID and Recipient ID are the same.
    EqualIds,
}

impl fmt::Display for InvalidParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sender id and recipient id are equal; each end needs an id of its own")
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
    fn equal_ids_are_refused() {
        let secret = MasterSecret::new(&[1; 16]).unwrap();
        assert_eq!(
            Parameters::new(secret, KeyId::EMPTY, KeyId::EMPTY).unwrap_err(),
            InvalidParameters::EqualIds
        );
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
        assert_eq!(HmacAlgorithm::from_cose(7), None);
        assert_eq!(AeadAlgorithm::from_cose(AeadAlgorithm::default().cose()), Some(AeadAlgorithm::default()));
        assert_eq!(AeadAlgorithm::from_cose(1), None);
    }
}
