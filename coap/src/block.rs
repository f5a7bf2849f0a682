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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    number: u32,
    more: bool,
    szx: Szx,
}

impl Block {
    /// The largest block number: 20 bits.
    pub const MAX_NUMBER: u32 = 0xf_ffff;

    /// Block `number` of the size `szx`, or `None` past [`Block::MAX_NUMBER`].
    #[must_use]
    pub const fn new(number: u32, more: bool, szx: Szx) -> Option<Self> {
        if number <= Self::MAX_NUMBER { Some(Self { number, more, szx }) } else { None }
    }

    /// The block of the size `szx` at `offset` of the body, or `None` when no block starts there.
    #[must_use]
    pub const fn at(offset: u32, more: bool, szx: Szx) -> Option<Self> {
        let shift = szx.0.saturating_add(4);
        let number = offset >> shift;
        if number << shift == offset { Self::new(number, more, szx) } else { None }
    }

    /// Reads the value of the option.
    ///
    /// # Errors
    /// [`BadBlock`] when it is longer than 3 bytes or has the reserved size exponent 7.
    pub fn parse(value: &[u8]) -> Result<Self, BadBlock> {
        let value =
            Some(value).filter(|value| value.len() <= 3).and_then(crate::option::uint).ok_or(BadBlock)?;
        let szx = Szx::new(value.to_be_bytes()[3] & 0x07).ok_or(BadBlock)?;
        Ok(Self { number: value >> 4, more: value & 0x08 != 0, szx })
    }

    /// The option as an unsigned integer.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.szx.0 as u32
    }

    /// The number of the block, in blocks of its size.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether more blocks follow.
    #[must_use]
    pub const fn more(self) -> bool {
        self.more
    }

    /// The size of the block.
    #[must_use]
    pub const fn szx(self) -> Szx {
        self.szx
    }

    /// Where in the body the block starts: below 2³⁰, so it cannot overflow.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.number << (self.szx.0.saturating_add(4))
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
