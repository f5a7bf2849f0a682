//! Pre-shared keys and their identities (LwM2M Core §5.2.8: identities up to 128 bytes, keys up to 64; invariant: a stored
//! key is never empty, never longer than [`PSK_MAX`], wiped when dropped, and never shown).

use heapless::Vec;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// The longest PSK identity, in bytes.
pub const IDENTITY_MAX: usize = 128;

/// The longest pre-shared key, in bytes.
pub const PSK_MAX: usize = 64;

/// An identity and its key, as a client presents them.
#[derive(Clone, Copy)]
pub struct Psk<'a> {
    /// 0 to [`IDENTITY_MAX`] bytes; often text, but compared as bytes.
    pub identity: &'a [u8],
    /// 1 to [`PSK_MAX`] bytes; at least 16 random bytes are recommended.
    pub key: &'a [u8],
}

impl core::fmt::Debug for Psk<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Psk").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A key in the engine's own memory.
#[derive(ZeroizeOnDrop)]
pub(crate) struct StoredKey {
    bytes: [u8; PSK_MAX],
    #[zeroize(skip)]
    length: usize,
}

impl StoredKey {
    pub(crate) const EMPTY: Self = Self { bytes: [0; PSK_MAX], length: 0 };

    /// `None` if the key is empty or too long.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let mut stored = Self::EMPTY;
        stored.bytes.get_mut(..key.len()).filter(|place| !place.is_empty())?.copy_from_slice(key);
        stored.length = key.len();
        Some(stored)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.zeroize();
        self.length = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// An identity in the engine's own memory.
pub(crate) type StoredIdentity = Vec<u8, IDENTITY_MAX>;
