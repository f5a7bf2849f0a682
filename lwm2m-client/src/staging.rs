//! Credentials on their way to storage: written by the bootstrap server, staged one record after another.
//!
//! Invariant: what has left, or is given up, is wiped.

use core::ops::{Deref, DerefMut};

use heapless::vec::{OwnedVecStorage, VecInner, VecStorage, ViewVecStorage};
use zeroize::Zeroize;

use crate::identity::{PRIVATE_CAPACITY, PUBLIC_CAPACITY};
use crate::persist::{Action, Key};

/// Bytes of records that wait for the storage: one credential of the longest kind, or several of the usual one. Around each
/// of its parts there are a name and a length, and the end of the session that was agreed under it. The longest certificates
/// have to come one by one on a device.
pub(crate) const STAGING_CAPACITY: usize = if cfg!(all(feature = "x509", feature = "std")) {
    8192
} else if cfg!(feature = "x509") {
    1024
} else if cfg!(feature = "rpk") {
    2 * PUBLIC_CAPACITY + PRIVATE_CAPACITY + 48
} else {
    224
};

/// What is left free for the removal of an instance whose records found no room.
const RESERVE: usize = if cfg!(feature = "x509") { 40 } else { 0 };

/// A removal, where a record has its length.
const REMOVAL: u16 = u16::MAX;

/// Bytes of Master Secrets that wait for the storage, and of the ends of former ones: two of the longest kind.
#[cfg(feature = "oscore")]
pub(crate) const MASTER_SECRETS: usize = 2 * (oscore::MasterSecret::MAX_LENGTH + 5) + RESERVE;

/// All that is on its way. Each object has a part of its own.
pub(crate) struct Staged {
    pub(crate) credentials: Space<STAGING_CAPACITY>,
    #[cfg(feature = "oscore")]
    pub(crate) master_secrets: Space<MASTER_SECRETS>,
}

impl Staged {
    pub(crate) const fn new() -> Self {
        Staged {
            credentials: Space::new(),
            #[cfg(feature = "oscore")]
            master_secrets: Space::new(),
        }
    }

    /// What leaves next.
    pub(crate) fn first(&self) -> Option<Action<'_>> {
        let first = self.credentials.first();
        #[cfg(feature = "oscore")]
        let first = first.or_else(|| self.master_secrets.first());
        first
    }

    /// Drops that.
    pub(crate) fn pop(&mut self) {
        #[cfg(feature = "oscore")]
        if self.credentials.is_empty() {
            return self.master_secrets.pop();
        }
        self.credentials.pop();
    }

    pub(crate) fn clear(&mut self) {
        self.credentials.clear();
        #[cfg(feature = "oscore")]
        self.master_secrets.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "oscore")]
        if !self.master_secrets.is_empty() {
            return false;
        }
        self.credentials.is_empty()
    }
}

/// Records on their way to storage, in order, whatever the space for them. Wiped as they leave.
pub(crate) struct Staging<S: VecStorage<u8> + ?Sized = ViewVecStorage<u8>> {
    bytes: VecInner<u8, usize, S>,
}

/// The same with space for `N` bytes.
pub(crate) type Space<const N: usize> = Staging<OwnedVecStorage<u8, N>>;

impl<const N: usize> Space<N> {
    pub(crate) const fn new() -> Self {
        Staging { bytes: VecInner::new() }
    }
}

impl<const N: usize> Deref for Space<N> {
    type Target = Staging;

    fn deref(&self) -> &Staging {
        self
    }
}

impl<const N: usize> DerefMut for Space<N> {
    fn deref_mut(&mut self) -> &mut Staging {
        self
    }
}

impl Staging {
    /// Appends a record; `false` when there is no room.
    pub(crate) fn stage(&mut self, key: Key, bytes: &[u8]) -> bool {
        if !self.has_room(bytes.len()) {
            return false;
        }
        let Some(size) = u16::try_from(bytes.len()).ok().filter(|size| *size != REMOVAL) else {
            return false;
        };
        self.push(key, size, bytes)
    }

    /// Appends the removal of a record; `false` when there is no room.
    pub(crate) fn remove(&mut self, key: Key) -> bool {
        self.push(key, REMOVAL, &[])
    }

    /// The oldest entry.
    pub(crate) fn first(&self) -> Option<Action<'_>> {
        let (key, size, rest) = self.head()?;
        match size {
            REMOVAL => Some(Action::Remove { key }),
            size => Some(Action::Stage { key, bytes: rest.get(..usize::from(size))? }),
        }
    }

    /// Drops the oldest entry.
    pub(crate) fn pop(&mut self) {
        let Some((_, size, _)) = self.head() else { return self.clear() };
        let length = 5_usize.saturating_add(if size == REMOVAL { 0 } else { usize::from(size) });
        let rest = self.bytes.len().saturating_sub(length);
        let length = length.min(self.bytes.len());
        self.bytes.rotate_left(length);
        if let Some(gone) = self.bytes.get_mut(rest..) {
            gone.zeroize();
        }
        self.bytes.truncate(rest);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a record of so many bytes can be appended.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        length.saturating_add(5 + RESERVE) <= self.room()
    }

    fn room(&self) -> usize {
        self.bytes.capacity().saturating_sub(self.bytes.len())
    }

    fn push(&mut self, key: Key, size: u16, bytes: &[u8]) -> bool {
        if self.room() < bytes.len().saturating_add(5) {
            return false;
        }
        let name = self.bytes.extend_from_slice(&key.to_bytes());
        let length = self.bytes.extend_from_slice(&size.to_be_bytes());
        let content = self.bytes.extend_from_slice(bytes);
        name.is_ok() && length.is_ok() && content.is_ok()
    }

    fn head(&self) -> Option<(Key, u16, &[u8])> {
        let (&[kind, high, low, size_high, size_low], rest) = self.bytes.split_first_chunk::<5>()?;
        Some((Key::from_bytes([kind, high, low])?, u16::from_be_bytes([size_high, size_low]), rest))
    }
}

impl<S: VecStorage<u8> + ?Sized> Drop for Staging<S> {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_is_first_in_first_out_and_wiped() {
        let mut staging = Space::<STAGING_CAPACITY>::new();
        assert!(staging.stage(Key::Secret(1), b"0123456789abcdef"));
        assert!(staging.remove(Key::Identity(2)));
        assert!(staging.stage(Key::Identity(3), b"name"));
        assert!(staging.first() == Some(Action::Stage { key: Key::Secret(1), bytes: b"0123456789abcdef" }));
        staging.pop();
        assert!(staging.first() == Some(Action::Remove { key: Key::Identity(2) }));
        staging.pop();
        assert!(staging.first() == Some(Action::Stage { key: Key::Identity(3), bytes: b"name" }));
        staging.pop();
        assert!(staging.first().is_none() && staging.is_empty());
        staging.pop();
    }

    #[test]
    fn staging_refuses_what_does_not_fit_and_keeps_what_it_has() {
        let mut staging = Space::<STAGING_CAPACITY>::new();
        assert!(staging.stage(Key::Secret(1), &[7; STAGING_CAPACITY - 10 - RESERVE]));
        assert!(!staging.stage(Key::Secret(2), &[7]));
        // Removals have the rest.
        for _ in 0..=RESERVE / 5 {
            assert!(staging.remove(Key::Secret(2)));
        }
        assert!(!staging.remove(Key::Secret(3)));
        staging.pop();
        assert!(staging.first() == Some(Action::Remove { key: Key::Secret(2) }));
    }
}
