//! Reading and writing the presentation language of RFC 5246 §4: big-endian integers and vectors with a length in
//! front (invariant: neither ever passes the end of its slice).

/// Reads from the front of a slice; every read that would pass the end is `None`.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|&[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array().map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u48(&mut self) -> Option<u64> {
        self.array().map(|&[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    #[cfg(feature = "server")]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A vector with a length of one byte.
    pub(crate) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes.
    pub(crate) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A vector with a length of three bytes.
    #[cfg(feature = "rpk")]
    pub(crate) fn vector24(&mut self) -> Option<&'a [u8]> {
        let length = self.u24()?;
        self.take(usize::try_from(length).ok()?)
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes to the front of a slice; every write that would pass the end is `None` and writes nothing.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length.checked_add(bytes.len())?;
        self.buffer.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Option<()> {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> Option<()> {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u24(&mut self, value: u32) -> Option<()> {
        let [_, rest @ ..] = value.to_be_bytes();
        self.bytes(&rest)
    }

    #[cfg(feature = "server")]
    pub(crate) fn u64(&mut self, value: u64) -> Option<()> {
        self.bytes(&value.to_be_bytes())
    }

    /// A vector with a length of one byte.
    pub(crate) fn vector8(&mut self, bytes: &[u8]) -> Option<()> {
        self.u8(u8::try_from(bytes.len()).ok()?)?;
        self.bytes(bytes)
    }

    /// A vector with a length of two bytes.
    pub(crate) fn vector16(&mut self, bytes: &[u8]) -> Option<()> {
        self.u16(u16::try_from(bytes.len()).ok()?)?;
        self.bytes(bytes)
    }

    /// A vector with a length of three bytes.
    #[cfg(feature = "rpk")]
    pub(crate) fn vector24(&mut self, bytes: &[u8]) -> Option<()> {
        self.u24(u32::try_from(bytes.len()).ok().filter(|length| *length < 1 << 24)?)?;
        self.bytes(bytes)
    }

    /// A vector with a length of three bytes and the content that `write` writes.
    #[cfg(feature = "rpk")]
    pub(crate) fn vector24_of(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.length;
        self.u24(0)?;
        write(self)?;
        let length = u32::try_from(self.length.checked_sub(start)?.checked_sub(3)?).ok()?;
        let [0, length @ ..] = length.to_be_bytes() else { return None };
        *self.buffer.get_mut(start..)?.first_chunk_mut()? = length;
        Some(())
    }

    /// A vector with a length of two bytes and the content that `write` writes.
    pub(crate) fn vector16_of(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.length;
        self.u16(0)?;
        write(self)?;
        let length = u16::try_from(self.length.checked_sub(start)?.checked_sub(2)?).ok()?;
        *self.buffer.get_mut(start..)?.first_chunk_mut()? = length.to_be_bytes();
        Some(())
    }

    /// The same, but nothing at all if the content is empty.
    pub(crate) fn optional16_of(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.length;
        self.vector16_of(write)?;
        if self.length.checked_sub(start) == Some(2) {
            self.length = start;
        }
        Some(())
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }
}
