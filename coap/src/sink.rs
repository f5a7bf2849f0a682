//! Where bodies are written to: a buffer, a counter or a window, so that no body need ever be held as a whole.

use core::fmt;

/// Takes a body piece by piece.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Full`] when they have no room; nothing written after that makes a whole body.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full>;
}

/// The buffer has no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is full")
    }
}

impl core::error::Error for Full {}

/// A sink over a borrowed buffer.
#[derive(Debug)]
pub struct Buffer<'b> {
    space: &'b mut [u8],
    length: usize,
}

impl<'b> Buffer<'b> {
    /// An empty buffer over `space`.
    #[must_use]
    pub fn new(space: &'b mut [u8]) -> Self {
        Self { space, length: 0 }
    }

    /// What was written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.space.get(..self.length).unwrap_or_default()
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Sink for Buffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.length.checked_add(bytes.len()).ok_or(Full)?;
        self.space.get_mut(self.length..end).ok_or(Full)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }
}

impl<const N: usize> Sink for heapless::Vec<u8, N> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes).map_err(|_| Full)
    }
}

/// A sink that only counts, for lengths that come before what they measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub usize);

impl Sink for Count {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0 = self.0.checked_add(bytes.len()).ok_or(Full)?;
        Ok(())
    }
}
