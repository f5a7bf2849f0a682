//! Block2 where the resource is (RFC 7959 §2.4): answers each request for a block on its own, without state.
//!
//! 1. The request names a block, or none: the first.
//! 2. The owner produces the whole body into the window.
//! 3. The response carries the block, the ETag of the body, and with the first block its size.

use core::fmt;

use super::{Block, Szx, Window};
use crate::content_format::ContentFormat;
use crate::option::OptionNumber;
use crate::sink::Sink;
use crate::writer::{WriteError, Writer};

/// The response to one request for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serve {
    offset: u32,
    szx: Szx,
    /// The request has a Block2 option, so the response has one too.
    is_requested: bool,
}

impl Serve {
    /// Serves the block that was `requested`, in blocks of at most `largest`, whichever is smaller.
    #[must_use]
    pub fn new(requested: Option<Block>, largest: Szx) -> Self {
        match requested {
            Some(block) => Self { offset: block.offset(), szx: block.szx().min(largest), is_requested: true },
            None => Self { offset: 0, szx: largest, is_requested: false },
        }
    }

    /// The window into which the owner writes the whole body. Less `space` than a block makes the block smaller.
    #[must_use]
    pub fn window<'b>(&mut self, space: &'b mut [u8]) -> Window<'b> {
        self.szx = self.szx.min(Szx::fitting(space.len()));
        let length = space.len().min(self.szx.size());
        Window::new(space.get_mut(..length).unwrap_or_default(), self.offset)
    }

    /// What the response is to carry, once the body was written to the window.
    ///
    /// # Errors
    /// [`ServeError::OutOfRange`] when the body ends before the block: to be answered with 4.00.
    /// [`ServeError::Write`] when the window had no room for the smallest block.
    pub fn finish<E>(&self, window: &Window<'_>) -> Result<Served, ServeError<E>> {
        let more = window.has_more();
        if self.offset > 0 && self.offset >= window.total() {
            return Err(ServeError::OutOfRange);
        }
        if more && window.length() != self.szx.size() {
            return Err(ServeError::Write(WriteError::Full));
        }
        let (mut block, mut etag, mut size) = (None, None, None);
        if more || self.is_requested {
            block = Some(Block::at(self.offset, more, self.szx).ok_or(ServeError::OutOfRange)?);
            etag = Some(window.etag());
            size = (self.offset == 0).then(|| window.total());
        }
        Ok(Served { length: window.length(), block, etag, size })
    }

    /// Writes a whole response with what `produce` writes as its body: `head`, the options of the block, the block.
    ///
    /// # Errors
    /// [`ServeError`]; `writer` is to be restarted.
    pub fn respond<E>(
        mut self,
        writer: &mut Writer<'_>,
        head: &Head,
        produce: impl FnOnce(&mut dyn Sink) -> Result<(), E>,
    ) -> Result<Served, ServeError<E>> {
        let mut window = self.window(writer.body(Head::LENGTH));
        produce(&mut window).map_err(ServeError::Produce)?;
        let served = self.finish(&window)?;
        writer.set_body(served.length)?;
        if let Some(etag) = served.etag {
            writer.option(OptionNumber::ETAG, &etag)?;
        }
        if let Some(sequence) = head.observe {
            writer.observe(sequence)?;
        }
        if let Some(format) = head.content_format {
            writer.content_format(format)?;
        }
        if let Some(seconds) = head.max_age {
            writer.uint(OptionNumber::MAX_AGE, seconds)?;
        }
        if let Some(block) = served.block {
            writer.block2(block)?;
        }
        if let Some(size) = served.size {
            writer.uint(OptionNumber::SIZE2, size)?;
        }
        Ok(served)
    }
}

/// The options of a response with a body, besides those of the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The sequence number of a notification.
    pub observe: Option<u32>,
    /// The format of the body.
    pub content_format: Option<ContentFormat>,
    /// For how many seconds the body is fresh.
    pub max_age: Option<u32>,
}

impl Head {
    /// The most bytes that these options and those of the block take.
    pub const LENGTH: usize = 5 + 4 + 3 + 5 + 4 + 6;
}

/// What a response carries of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// How many bytes of payload.
    pub length: usize,
    /// The Block2 option; none when the body fits in the response and no block was asked for.
    pub block: Option<Block>,
    /// The ETag option.
    pub etag: Option<[u8; 4]>,
    /// The Size2 option, with the first block.
    pub size: Option<u32>,
}

/// Why a block cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeError<E> {
    /// The body could not be produced.
    Produce(E),
    /// The body ends before the block that was requested.
    OutOfRange,
    /// The response could not be written.
    Write(WriteError),
}

impl<E> From<WriteError> for ServeError<E> {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl<E: fmt::Display> fmt::Display for ServeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce(error) => error.fmt(f),
            Self::OutOfRange => f.write_str("the body ends before the requested block"),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ServeError<E> {}
