//! Block2 where the body is wanted (RFC 7959 §2.4): asks for block after block and hands each on as it comes.
//!
//! 1. A request without or with the first [`Download::next_block`].
//! 2. [`Download::handle`] takes each response or the notification; the owner asks for [`Download::next_block`].
//! 3. A body that changed on the way begins again at its start, a bounded number of times.

use core::fmt;

use super::{BadBlock, Block, Szx};
use crate::message::Message;

/// One body on its way here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// How much of the body is here.
    offset: u32,
    szx: Szx,
    /// The longest body that is accepted.
    cap: u32,
    restarts: u8,
    etag: Option<heapless::Vec<u8, 8, u8>>,
}

impl Download {
    /// How often a body may change while it is fetched.
    const MAX_RESTARTS: u8 = 3;

    /// A body of at most `cap` bytes in blocks of at most `largest`.
    #[must_use]
    pub const fn new(largest: Szx, cap: u32) -> Self {
        Self { offset: 0, szx: largest, cap, restarts: 0, etag: None }
    }

    /// The Block2 option of the next request. In the very first one it may be left out: then the other side chooses the
    /// size (late negotiation).
    #[must_use]
    pub fn next_block(&self) -> Block {
        // An offset that has no block is refused in `handle`.
        Block::at(self.offset, false, self.szx).unwrap_or(Block::FIRST)
    }

    /// Begins again with a newer body: a notification that came while the rest of the former one was fetched. Unlike a body
    /// that is found to have changed this is not counted.
    pub fn restart(&mut self) {
        self.offset = 0;
        self.etag = None;
    }

    /// Takes a successful response, or a notification that is the first block of its body.
    ///
    /// # Errors
    /// [`DownloadError`]: the download has failed.
    pub fn handle<'m>(&mut self, message: &Message<'m>) -> Result<Downloaded<'m>, DownloadError> {
        let bytes = message.payload;
        let length = u32::try_from(bytes.len()).map_err(|_| DownloadError::TooLarge)?;
        let Some(block) = message.options.block2()? else {
            // Only a body that fits in one response has no block; in the middle of a transfer there is no such body.
            if self.offset != 0 {
                return Err(DownloadError::Unexpected);
            }
            return match length <= self.cap {
                true => Ok(Downloaded::Part { offset: 0, bytes, last: true }),
                false => Err(DownloadError::TooLarge),
            };
        };
        let etag = message.options.etag();
        if self.offset == 0 {
            self.etag = etag.and_then(|etag| heapless::Vec::from_slice(etag).ok());
        } else if let (Some(then), Some(now)) = (self.etag.as_deref(), etag)
            && then != now
        {
            // RFC 7959 §2.4: blocks of different versions must not be put together.
            self.restarts = self.restarts.saturating_add(1);
            self.restart();
            return match self.restarts > Self::MAX_RESTARTS {
                true => Err(DownloadError::Changing),
                false => Ok(Downloaded::Restart),
            };
        }
        if block.offset() != self.offset {
            return Err(DownloadError::Unexpected);
        }
        let size = block.szx().size();
        // RFC 7959 §2.2: only the last block may be shorter than its size.
        if bytes.len() > size || (block.more() && bytes.len() < size) {
            return Err(DownloadError::Length);
        }
        if message.options.size2().is_some_and(|size| size > self.cap) {
            return Err(DownloadError::TooLarge);
        }
        let offset = self.offset;
        let next = offset.checked_add(length).filter(|next| *next <= self.cap);
        let next = next.ok_or(DownloadError::TooLarge)?;
        // RFC 7959 §2.4: the other side may choose smaller blocks than were asked for.
        let szx = self.szx.min(block.szx());
        if block.more() && Block::at(next, false, szx).is_none() {
            return Err(DownloadError::TooLarge);
        }
        (self.offset, self.szx) = (next, szx);
        Ok(Downloaded::Part { offset, bytes, last: !block.more() })
    }
}

/// What a response brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downloaded<'m> {
    /// The next part of the body. Unless it is the last, ask for [`Download::next_block`].
    Part {
        /// Where in the body it lies: right behind the part before.
        offset: u32,
        /// The part.
        bytes: &'m [u8],
        /// Whether the body is complete with it.
        last: bool,
    },
    /// The body has changed: drop what is here and ask for [`Download::next_block`], which is the first again.
    Restart,
}

/// Why a download has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownloadError {
    /// The Block2 option cannot be read.
    BadBlock,
    /// The response carries another block than was asked for.
    Unexpected,
    /// The payload does not have the length of its block.
    Length,
    /// The body is longer than is accepted.
    TooLarge,
    /// The body changes faster than it can be fetched.
    Changing,
}

impl From<BadBlock> for DownloadError {
    fn from(_: BadBlock) -> Self {
        Self::BadBlock
    }
}

impl fmt::Display for DownloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadBlock => "the Block2 option cannot be read",
            Self::Unexpected => "the response carries another block than was asked for",
            Self::Length => "the payload does not have the length of its block",
            Self::TooLarge => "the body is longer than is accepted",
            Self::Changing => "the body changes faster than it can be fetched",
        })
    }
}

impl core::error::Error for DownloadError {}
