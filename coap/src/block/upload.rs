//! Block1 where the body is (RFC 7959 §2.5): sends block after block, each produced into a window.
//!
//! 1. The owner produces the whole body into [`Upload::window`] and sends the [`Portion`].
//! 2. [`Upload::handle`] takes the response: go on, or it is the final one.

use core::fmt;

use super::{BadBlock, Block, Szx, Window};
use crate::code::Code;
use crate::message::Message;

/// One body on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// How much of the body has arrived.
    offset: u32,
    szx: Szx,
    /// The hash of the body when its first block was sent.
    etag: Option<[u8; 4]>,
    /// The block that awaits its response.
    sent: Option<Block>,
}

impl Upload {
    /// A body in blocks of at most `largest`.
    #[must_use]
    pub const fn new(largest: Szx) -> Self {
        Self { offset: 0, szx: largest, etag: None, sent: None }
    }

    /// The window into which the owner writes the whole body. Less `space` than a block makes the block smaller.
    #[must_use]
    pub fn window<'b>(&mut self, space: &'b mut [u8]) -> Window<'b> {
        let fitting = Szx::fitting(space.len());
        self.szx = self.szx.min(fitting);
        let length = space.len().min(self.szx.size());
        Window::new(space.get_mut(..length).unwrap_or_default(), self.offset)
    }

    /// What the next request is to carry, once the body was written to the window.
    ///
    /// # Errors
    /// [`UploadError::Changed`] when the body is not what it was, [`UploadError::TooLarge`] when it has more blocks than
    /// can be numbered, [`UploadError::Space`] when the window had no room for the smallest block.
    pub fn portion(&mut self, window: &Window<'_>) -> Result<Portion, UploadError> {
        let more = window.has_more();
        if more && window.length() != self.szx.size() {
            return Err(UploadError::Space);
        }
        let is_whole = !more && self.offset == 0;
        if self.offset == 0 {
            self.etag = Some(window.etag());
        } else if self.etag != Some(window.etag()) {
            return Err(UploadError::Changed);
        }
        let block = Block::at(self.offset, more, self.szx).ok_or(UploadError::TooLarge)?;
        self.sent = Some(block);
        let size = (!is_whole && self.offset == 0).then(|| window.total());
        let (block, tag) = if is_whole { (None, None) } else { (Some(block), self.etag) };
        Ok(Portion { length: window.length(), block, size, tag })
    }

    /// Takes the response to the last portion.
    ///
    /// # Errors
    /// [`UploadError`]: the other side answers something else; the upload has failed.
    pub fn handle(&mut self, message: &Message<'_>) -> Result<Uploaded, UploadError> {
        let Some(sent) = self.sent.take() else { return Ok(Uploaded::Done) };
        let block = message.options.block1()?;
        match (message.code, block) {
            // RFC 7959 §2.5, §2.9.3: the very first block, or the whole body, was too large, a smaller one may do.
            (Code::REQUEST_ENTITY_TOO_LARGE, Some(block))
                if sent.offset() == 0 && block.szx() < sent.szx() =>
            {
                self.szx = block.szx();
                Ok(Uploaded::Continue)
            }
            // RFC 7959 §3.2: a side that keeps no state answers every block with the final code.
            (code, Some(block)) if code.is_success() && sent.more() => {
                if block.number() != sent.number() {
                    return Err(UploadError::Unexpected);
                }
                self.advance(sent, block.szx())
            }
            (Code::CONTINUE, None) if sent.more() => self.advance(sent, sent.szx()),
            (Code::CONTINUE, _) => Err(UploadError::Unexpected),
            _ => Ok(Uploaded::Done),
        }
    }

    /// Begins again with the first block.
    pub fn restart(&mut self) {
        *self = Self::new(self.szx);
    }

    fn advance(&mut self, sent: Block, szx: Szx) -> Result<Uploaded, UploadError> {
        let size = u32::try_from(sent.szx().size()).map_err(|_| UploadError::TooLarge)?;
        self.offset = sent.offset().checked_add(size).ok_or(UploadError::TooLarge)?;
        // RFC 7959 §2.5: the other side may ask for smaller blocks; what was sent counts in these from then on.
        self.szx = self.szx.min(szx);
        Ok(Uploaded::Continue)
    }
}

/// What a request carries of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// How many bytes of payload.
    pub length: usize,
    /// The Block1 option; none when the body fits in one request.
    pub block: Option<Block>,
    /// The Size1 option, with the first of several blocks.
    pub size: Option<u32>,
    /// The Request-Tag option, with each of several blocks (RFC 9175 §3.4): a late block of another body is not mixed with
    /// these. It follows from the body, as one of the same body does no harm.
    pub tag: Option<[u8; 4]>,
}

/// What a response to a portion means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// Produce the body again and send the next portion.
    Continue,
    /// The response is the final one, good or bad.
    Done,
}

/// Why an upload has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadError {
    /// The Block1 option of the response cannot be read.
    BadBlock,
    /// The response is for another block than was sent.
    Unexpected,
    /// The body changed on the way: begin again with [`Upload::restart`].
    Changed,
    /// The body has more blocks than can be numbered.
    TooLarge,
    /// There is no room for the smallest block.
    Space,
}

impl From<BadBlock> for UploadError {
    fn from(_: BadBlock) -> Self {
        Self::BadBlock
    }
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadBlock => "the Block1 option of the response cannot be read",
            Self::Unexpected => "the response is for another block than was sent",
            Self::Changed => "the body changed while it was sent",
            Self::TooLarge => "the body has more blocks than can be numbered",
            Self::Space => "there is no room for a block of 16 bytes",
        })
    }
}

impl core::error::Error for UploadError {}
