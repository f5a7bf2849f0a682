//! One block's view of a body that is produced as a whole.
//!
//! Invariant: every byte of the body is counted and hashed, only those of the window are copied.

use crate::sink::{Full, Sink};

/// A sink that keeps the bytes of one block and tells whether there are more.
#[derive(Debug)]
pub struct Window<'b> {
    space: &'b mut [u8],
    /// Where in the body the window starts.
    offset: usize,
    /// How much of the window is filled.
    length: usize,
    /// How much of the body was written.
    total: usize,
    hash: Hash,
}

impl<'b> Window<'b> {
    /// A window over the bytes of the body from `offset` on, as many as `space` holds.
    #[must_use]
    pub fn new(space: &'b mut [u8], offset: u32) -> Self {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Self { space, offset, length: 0, total: 0, hash: Hash::new() }
    }

    /// What of the body lies in the window.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.space.get(..self.length).unwrap_or_default()
    }

    /// How many bytes of the body lie in the window.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The length of the whole body.
    #[must_use]
    pub fn total(&self) -> u32 {
        u32::try_from(self.total).unwrap_or(u32::MAX)
    }

    /// Whether the body goes on behind the window.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.total > self.offset.saturating_add(self.length)
    }

    /// The ETag of the whole body: equal for equal bodies, and hardly ever equal for others.
    #[must_use]
    pub const fn etag(&self) -> [u8; 4] {
        self.hash.0.to_be_bytes()
    }
}

impl Sink for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.hash.write(bytes);
        let skipped = self.offset.saturating_sub(self.total);
        self.total = self.total.checked_add(bytes.len()).ok_or(Full)?;
        if let Some(wanted) = bytes.get(skipped..)
            && let Some(space) = self.space.get_mut(self.length..)
        {
            let length = wanted.len().min(space.len());
            let (Some(space), Some(wanted)) = (space.get_mut(..length), wanted.get(..length)) else {
                return Ok(());
            };
            space.copy_from_slice(wanted);
            self.length = self.length.saturating_add(length);
        }
        Ok(())
    }
}

/// FNV-1a: no defence against an attacker, who could change the body anyway, but small and good enough to tell versions
/// of a body apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(pub(super) u32);

impl Hash {
    pub(super) const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    }
}
