//! One request to a device with its bodies in blocks, both ways (RFC 7959 §2.4, §2.5, §3).
//!
//! 1. The request, or its first block: Block1 `more` until the last one, 2.31 to each before it.
//! 2. The answer, or its first block: further GETs with Block2 until the last one.
//!
//! Invariants: a body longer than the cap is never assembled; blocks come in order, of one representation (ETag), or the
//! transfer starts over once.

use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, ContentFormat, Message, OptionNumber, WriteError, Writer};
use lwm2m_objects::Format;

use crate::server::RequestError;

/// A request as it is to be sent, with its whole body.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) code: Code,
    /// Segments separated by slashes, none in front.
    pub(crate) path: String,
    /// Parameters separated by `&`.
    pub(crate) query: String,
    pub(crate) observe: Option<u32>,
    pub(crate) accept: Option<Format>,
    pub(crate) format: Option<Format>,
    pub(crate) body: Vec<u8>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: Code,
    pub(crate) format: Option<Format>,
    pub(crate) observe: Option<u32>,
    /// Segments of Location-Path, each with a slash in front.
    pub(crate) location: String,
    pub(crate) body: Vec<u8>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    outgoing: Outgoing,
    /// Size of the blocks sent.
    szx: Szx,
    /// Where in the body the block under way starts.
    offset: usize,
    /// The block of the answer to ask for.
    wanted: Option<Block>,
    first: Option<Reply>,
    etag: Vec<u8>,
    has_started_over: bool,
}

/// What follows from a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Write and send the next message.
    Again,
    /// The answer is complete.
    Done(Reply),
    /// There will be no answer that can be used.
    Failed(RequestError),
}

impl Outgoing {
    pub(crate) fn new(code: Code, path: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            query: String::new(),
            observe: None,
            accept: None,
            format: None,
            body: Vec::new(),
        }
    }

    pub(crate) fn accept(mut self, format: impl Into<Option<Format>>) -> Self {
        self.accept = format.into();
        self
    }

    pub(crate) fn body(mut self, format: Format, body: Vec<u8>) -> Self {
        (self.format, self.body) = (Some(format), body);
        self
    }
}

impl Exchange {
    pub(crate) fn new(outgoing: Outgoing) -> Self {
        Self {
            outgoing,
            szx: Szx::LARGEST,
            offset: 0,
            wanted: None,
            first: None,
            etag: Vec::new(),
            has_started_over: false,
        }
    }

    /// Continues an answer whose first block came by itself, in a notification (RFC 7959 §2.6): `None` when there is
    /// nothing more to fetch.
    pub(crate) fn rest_of(outgoing: Outgoing, notification: &Message<'_>) -> Option<Self> {
        let mut exchange = Self::new(outgoing);
        matches!(exchange.answer(notification, usize::MAX), Progress::Again).then_some(exchange)
    }

    pub(crate) const fn code(&self) -> Code {
        self.outgoing.code
    }

    /// Writes the message that is due.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        let request = &self.outgoing;
        // RFC 7959 §3.4: the rest of a notification, or of any answer, is fetched without Observe.
        if let Some(observe) = request.observe.filter(|_| self.wanted.is_none()) {
            writer.observe(observe)?;
        }
        writer.split(OptionNumber::URI_PATH, &request.path, '/')?;
        let size = self.szx.size();
        let rest = request.body.get(self.offset..).unwrap_or_default();
        let is_fetching = self.wanted.is_some();
        if let Some(format) = request.format.filter(|_| !is_fetching) {
            writer.content_format(ContentFormat(format.0))?;
        }
        writer.split(OptionNumber::URI_QUERY, &request.query, '&')?;
        if let Some(accept) = request.accept {
            writer.accept(ContentFormat(accept.0))?;
        }
        if let Some(block) = self.wanted {
            writer.block2(block)?;
            return Ok(());
        }
        if request.body.len() > size {
            let offset = u32::try_from(self.offset).map_err(|_| WriteError::Full)?;
            writer.block1(Block::at(offset, rest.len() > size, self.szx).ok_or(WriteError::Full)?)?;
            if self.offset == 0 {
                let total = u32::try_from(request.body.len()).map_err(|_| WriteError::Full)?;
                writer.uint(OptionNumber::SIZE1, total)?;
            }
        }
        writer.payload(rest.get(..size.min(rest.len())).unwrap_or_default())
    }

    /// Takes a response; an answer of more than `cap` bytes is given up.
    pub(crate) fn answer(&mut self, message: &Message<'_>, cap: usize) -> Progress {
        let (Ok(block1), Ok(block2)) = (message.options.block1(), message.options.block2()) else {
            return Progress::Failed(RequestError::Malformed("a block option of a reserved form"));
        };
        let size = self.szx.size();
        if self.outgoing.body.len() > size && self.wanted.is_none() {
            match message.code {
                Code::CONTINUE => return self.acknowledged(block1),
                // RFC 7959 §2.9.3: the device may name a smaller size when it refuses the first block.
                Code::REQUEST_ENTITY_TOO_LARGE if self.offset == 0 => {
                    if let Some(szx) = block1.map(|block| block.szx()).filter(|szx| *szx < self.szx) {
                        self.szx = szx;
                        return Progress::Again;
                    }
                }
                Code::REQUEST_ENTITY_INCOMPLETE if !self.has_started_over => {
                    self.has_started_over = true;
                    self.offset = 0;
                    return Progress::Again;
                }
                _ => {}
            }
        }
        if message.code == Code::CONTINUE {
            return Progress::Failed(RequestError::Malformed("2.31 to what was no block"));
        }
        match block2.filter(|_| message.code.is_success()) {
            Some(block) => self.received(message, block, cap),
            None if message.payload.len() > cap => Progress::Failed(RequestError::TooLarge),
            None if message.code.is_success() && self.wanted.is_some() => {
                Progress::Failed(RequestError::Malformed("a later block without its number"))
            }
            None => Progress::Done(reply(message)),
        }
    }

    fn acknowledged(&mut self, block: Option<Block>) -> Progress {
        let sent = self.szx.size();
        let next = self.offset.saturating_add(sent);
        let is_last = next >= self.outgoing.body.len();
        let Some(block) = block.filter(|_| !is_last) else {
            return Progress::Failed(RequestError::Malformed("2.31 to the last block"));
        };
        self.szx = self.szx.min(block.szx());
        self.offset = next;
        Progress::Again
    }

    fn received(&mut self, message: &Message<'_>, block: Block, cap: usize) -> Progress {
        let etag = message.options.etag().unwrap_or_default();
        if self.first.is_some() && etag != self.etag {
            // RFC 7959 §2.4: blocks of another representation do not belong to this body.
            if core::mem::replace(&mut self.has_started_over, true) {
                return Progress::Failed(RequestError::Malformed(
                    "the value changes faster than it can be read",
                ));
            }
            self.first = None;
            self.wanted = Block::new(0, false, block.szx());
            return Progress::Again;
        }
        let reply = self.first.get_or_insert_with(|| Reply { body: Vec::new(), ..reply(message) });
        self.etag = etag.to_vec();
        if usize::try_from(block.offset()).ok() != Some(reply.body.len()) {
            return Progress::Failed(RequestError::Malformed("a block out of order"));
        }
        if reply.body.len().saturating_add(message.payload.len()) > cap {
            return Progress::Failed(RequestError::TooLarge);
        }
        reply.body.extend_from_slice(message.payload);
        if !block.more() {
            return self.first.take().map_or(Progress::Again, Progress::Done);
        }
        if message.payload.len() != block.szx().size() {
            return Progress::Failed(RequestError::Malformed("a block shorter than it says"));
        }
        self.wanted = Block::new(block.number().saturating_add(1), false, block.szx());
        match self.wanted {
            Some(_) => Progress::Again,
            None => Progress::Failed(RequestError::TooLarge),
        }
    }
}

fn reply(message: &Message<'_>) -> Reply {
    let mut location = String::new();
    for segment in message.options.location_path() {
        location.push('/');
        location.push_str(&String::from_utf8_lossy(segment));
    }
    Reply {
        code: message.code,
        format: message.options.content_format().map(|format| Format(format.0)),
        observe: message.options.observe(),
        location,
        body: message.payload.to_vec(),
    }
}
