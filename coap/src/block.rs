//! Block-wise transfers (RFC 7959): bodies of any length in blocks of 16 to 1024 bytes, produced and consumed in windows.
//!
//! Pure machines that know messages and nothing below; each can be instantiated twice, inside and outside of OSCORE.
//!
//! | | producing | consuming |
//! |---|---|---|
//! | Block1, request bodies | [`Upload`] | [`Receive`] |
//! | Block2, response bodies | [`Serve`] | [`Download`] |
//!
//! Invariant: no machine holds a body. A producer writes the whole body again for each block through a [`Window`] that
//! keeps only the block; a hash tells whether it was the same body each time.

use core::fmt;
use core::num::NonZeroU32;

mod download;
mod receive;
mod serve;
mod upload;
mod window;

pub use download::{Download, DownloadError, Downloaded};
pub use receive::{Receive, Received, Refusal};
pub use serve::{Head, Serve, ServeError, Served};
pub use upload::{Portion, Upload, UploadError, Uploaded};
pub use window::Window;

/// The size of a block as an exponent: 0 to 6 stand for 16 to 1024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Szx(u8);

impl Szx {
    /// 16 bytes.
    pub const SMALLEST: Szx = Szx(0);
    /// 1024 bytes.
    pub const LARGEST: Szx = Szx(6);

    /// The exponent `szx`, or `None` past 6 (7 is reserved for TCP).
    #[must_use]
    pub const fn new(szx: u8) -> Option<Self> {
        if szx <= Self::LARGEST.0 { Some(Self(szx)) } else { None }
    }

    /// The largest block that fits in `bytes`, at least 16 bytes.
    #[must_use]
    pub const fn fitting(bytes: usize) -> Self {
        let mut szx = Self::LARGEST;
        while szx.0 > 0 && szx.size() > bytes {
            szx = Self(szx.0.saturating_sub(1));
        }
        szx
    }

    /// The exponent, 0 to 6.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.0
    }

    /// The size in bytes, 16 to 1024.
    #[must_use]
    pub const fn size(self) -> usize {
        16 << self.0
    }
}

/// The value of a Block1 or Block2 option (RFC 7959 §2.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block(
    /// The value of the option and 1: an optional block takes no more memory than one.
    NonZeroU32,
);

impl Block {
    /// The largest block number: 20 bits.
    pub const MAX_NUMBER: u32 = 0xf_ffff;

    /// The first block of 16 bytes.
    const FIRST: Block = Block(NonZeroU32::MIN);

    /// Block `number` of the size `szx`, or `None` past [`Block::MAX_NUMBER`].
    #[must_use]
    pub const fn new(number: u32, more: bool, szx: Szx) -> Option<Self> {
        if number > Self::MAX_NUMBER {
            return None;
        }
        Some(Self(NonZeroU32::MIN.saturating_add(number << 4 | (more as u32) << 3 | szx.0 as u32)))
    }

    /// The block of the size `szx` at `offset` of the body, or `None` when no block starts there.
    #[must_use]
    pub const fn at(offset: u32, more: bool, szx: Szx) -> Option<Self> {
        let shift = szx.0.saturating_add(4);
        let number = offset >> shift;
        if number << shift == offset { Self::new(number, more, szx) } else { None }
    }

    /// The same block with another size exponent, as an answer asks for smaller ones.
    #[must_use]
    pub(crate) const fn resized(self, szx: Szx) -> Self {
        Self(NonZeroU32::MIN.saturating_add(self.value() & !0x07 | szx.0 as u32))
    }

    /// Reads the value of the option.
    ///
    /// # Errors
    /// [`BadBlock`] when it is longer than 3 bytes or has the reserved size exponent 7.
    pub fn parse(value: &[u8]) -> Result<Self, BadBlock> {
        let value =
            Some(value).filter(|value| value.len() <= 3).and_then(crate::option::uint).ok_or(BadBlock)?;
        if value & 0x07 > u32::from(Szx::LARGEST.0) {
            return Err(BadBlock);
        }
        Ok(Self(NonZeroU32::MIN.saturating_add(value)))
    }

    /// The option as an unsigned integer.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0.get().saturating_sub(1)
    }

    /// The number of the block, in blocks of its size.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.value() >> 4
    }

    /// Whether more blocks follow.
    #[must_use]
    pub const fn more(self) -> bool {
        self.value() & 0x08 != 0
    }

    /// The size of the block.
    #[must_use]
    pub const fn szx(self) -> Szx {
        Szx(self.value().to_be_bytes()[3] & 0x07)
    }

    /// Where in the body the block starts: below 2³⁰, so it cannot overflow.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.number() << (self.szx().0.saturating_add(4))
    }
}

/// As the published sequences have it: number, more, size.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.number(), u8::from(self.more()), self.szx().size())
    }
}

/// A Block option that must be answered with 4.00 (RFC 7959 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock;

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the block option is too long or has a reserved size")
    }
}

impl core::error::Error for BadBlock {}
