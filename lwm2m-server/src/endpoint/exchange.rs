//! One request to a device with its bodies in blocks, both ways (RFC 7959 §2.4, §2.5, §3).
//!
//! 1. The request, or its first block: Block1 `more` until the last one, 2.31 to each before it.
//! 2. The answer, or its first block: further GETs with Block2 until the last one.
//!
//! A device that wants to see the request again with an Echo value gets it (RFC 9175 §2.3), and one that lost blocks gets
//! the body from its beginning, once.
//!
//! Invariants: a body longer than the cap is never assembled; blocks come in order, of one representation (ETag), or the
//! transfer starts over.

use lwm2m_coap::block::{Block, Download, DownloadError, Downloaded, Szx, Window};
use lwm2m_coap::observe::Freshness;
use lwm2m_coap::{Code, ContentFormat, Instant, Message, OptionNumber, Sink as _, WriteError, Writer};
use lwm2m_objects::Format;

use crate::operation::RequestError;

use super::budget::{Body, Budget};

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
    /// Max-Age, in seconds.
    pub(crate) max_age: Option<u32>,
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
    /// The Request-Tag of the blocks (RFC 9175 §3.4). It follows from the body: late blocks of the same one do no harm.
    tag: [u8; 4],
    /// The value that the device wants to see.
    echo: Option<Vec<u8>>,
    /// The body was begun again.
    is_restarted: bool,
    download: Download,
    /// The head of the answer; `None` until its first block.
    reply: Option<Reply>,
    /// Its body as far as it came.
    body: Body,
}

/// The size of the first block, and the longest body that goes in one message: 512 bytes, which with options and a DTLS record
/// fit into the 576 bytes that the smallest devices take. Blocks can get smaller on the way, not larger (RFC 7959 §2.3).
const FIRST_BLOCK: Szx = Szx::fitting(512);

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

    const fn is_in_blocks(&self, szx: Szx) -> bool {
        self.body.len() > szx.size()
    }

    /// Whether the rest of a notification cannot be fetched by its blocks: the device has to be sent what names it in blocks first.
    pub(crate) fn is_fetched_anew(&self) -> bool {
        self.code == Code::FETCH && self.is_in_blocks(FIRST_BLOCK)
    }
}

impl Exchange {
    /// An answer of more than `cap` bytes, or beyond the budget of all, will be given up.
    pub(crate) fn new(outgoing: Outgoing, cap: u32, budget: &Budget) -> Self {
        let download = Download::new(Szx::LARGEST, cap);
        let tag = tag(&outgoing.body);
        Self {
            outgoing,
            szx: FIRST_BLOCK,
            offset: 0,
            tag,
            echo: None,
            is_restarted: false,
            download,
            reply: None,
            body: Body::new(budget),
        }
    }

    pub(crate) const fn code(&self) -> Code {
        self.outgoing.code
    }

    /// Whether the message that is due begins an observation, or ends one.
    pub(crate) const fn is_observing(&self) -> bool {
        self.outgoing.observe.is_some() && self.reply.is_none()
    }

    /// Writes the message that is due, in the largest block for which there is space.
    pub(crate) fn write_fitting(&mut self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        loop {
            let written = self.write(writer);
            let smaller = Szx::fitting(self.szx.size() / 2);
            if written != Err(WriteError::Full) || smaller == self.szx {
                return written;
            }
            // Where a block starts is a multiple of every smaller size too.
            self.szx = smaller;
            writer.restart(self.code());
        }
    }

    /// Writes the message that is due.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        let request = &self.outgoing;
        let is_fetching = self.reply.is_some();
        // RFC 7959 §3.4: the rest of a notification, or of any answer, is fetched without Observe.
        if let Some(observe) = request.observe.filter(|_| !is_fetching) {
            writer.observe(observe)?;
        }
        writer.split(OptionNumber::URI_PATH, &request.path, '/')?;
        // RFC 8132 §2.3: what is fetched is what the body names, in every block of the answer. A body that itself went in blocks is
        // not sent again: the device has it.
        let is_named = request.code == Code::FETCH && !request.is_in_blocks(self.szx);
        if let Some(format) = request.format.filter(|_| !is_fetching || request.code == Code::FETCH) {
            writer.content_format(ContentFormat(format.0))?;
        }
        writer.split(OptionNumber::URI_QUERY, &request.query, '&')?;
        if let Some(accept) = request.accept {
            writer.accept(ContentFormat(accept.0))?;
        }
        let block1 = if is_fetching { None } else { self.block1()? };
        if is_fetching {
            writer.block2(self.download.next_block())?;
        }
        if let Some(block) = block1 {
            writer.block1(block)?;
            if self.offset == 0 {
                writer.uint(
                    OptionNumber::SIZE1,
                    u32::try_from(request.body.len()).map_err(|_| WriteError::Full)?,
                )?;
            }
        }
        if let Some(echo) = &self.echo {
            writer.option(OptionNumber::ECHO, echo)?;
        }
        if block1.is_some() {
            writer.option(OptionNumber::REQUEST_TAG, &self.tag)?;
        }
        if is_fetching {
            return if is_named { writer.payload(&request.body) } else { Ok(()) };
        }
        let rest = request.body.get(self.offset..).unwrap_or_default();
        writer.payload(rest.get(..self.szx.size().min(rest.len())).unwrap_or_default())
    }

    /// Takes a response, or a notification that is the first block of its body.
    pub(crate) fn answer(&mut self, message: &Message<'_>) -> Progress {
        let Ok(acknowledged) = message.options.block1() else {
            return Progress::Failed(RequestError::Malformed("a Block1 option of a reserved form"));
        };
        // RFC 9175 §2.3: the same message once more, with the value. Who refuses that too refuses the request.
        let is_echoed = self.echo.take().is_some();
        if message.code == Code::UNAUTHORIZED
            && !is_echoed
            && let Some(value) = message.options.echo()
        {
            self.echo = Some(value.to_vec());
            return Progress::Again;
        }
        // RFC 7959 §2.9.3: the first block, or the whole body, was too large, a smaller one may do.
        if let (Code::REQUEST_ENTITY_TOO_LARGE, Some(block)) = (message.code, acknowledged)
            && self.reply.is_none()
            && self.offset == 0
            && block.szx() < self.szx
            && block.szx().size() < self.outgoing.body.len()
        {
            self.szx = block.szx();
            return Progress::Again;
        }
        if self.reply.is_none()
            && let Ok(Some(sent)) = self.block1()
        {
            match (message.code, acknowledged) {
                // RFC 7959 §2.9.2: the device has lost the blocks in front of this one.
                (Code::REQUEST_ENTITY_INCOMPLETE, _) if self.offset > 0 && !self.is_restarted => {
                    self.offset = 0;
                    self.is_restarted = true;
                    return Progress::Again;
                }
                // RFC 7959 §3.2: a device that keeps no state answers every block with the final code.
                (code, Some(block))
                    if code.is_success() && sent.more() && block.number() == sent.number() =>
                {
                    self.offset = self.offset.saturating_add(self.szx.size());
                    self.szx = self.szx.min(block.szx());
                    return Progress::Again;
                }
                // The device took one block for the whole: what it has now is not what was sent.
                (code, _) if code.is_success() && sent.more() => {
                    return Progress::Failed(RequestError::Malformed("a success before the last block"));
                }
                _ => {}
            }
        }
        if message.code == Code::CONTINUE {
            return Progress::Failed(RequestError::Malformed("2.31 to what was no block before the last"));
        }
        if !message.code.is_success() {
            return Progress::Done(reply(message));
        }
        match self.download.handle(message) {
            Ok(Downloaded::Part { offset: 0, last: true, .. }) if self.reply.is_none() => {
                Progress::Done(reply(message))
            }
            Ok(Downloaded::Part { offset, bytes, last }) => {
                if self.body.put(offset, bytes).is_err() {
                    return Progress::Failed(RequestError::TooLarge);
                }
                let head = || Reply { body: Vec::new(), ..reply(message) };
                self.reply.get_or_insert_with(head);
                match self.reply.take_if(|_| last) {
                    Some(head) => Progress::Done(Reply { body: self.body.take(), ..head }),
                    None => Progress::Again,
                }
            }
            Ok(Downloaded::Restart) => Progress::Again,
            Err(DownloadError::TooLarge) => Progress::Failed(RequestError::TooLarge),
            Err(_) => Progress::Failed(RequestError::Malformed("the blocks make no whole answer")),
        }
    }

    /// Takes a notification that came while the rest of what it replaces was fetched (RFC 7959 §3.4): the former body is
    /// not completed. `None` when it is older than that.
    pub(crate) fn renew(&mut self, now: Instant, message: &Message<'_>) -> Option<Progress> {
        let former = self.reply.as_ref().and_then(|reply| reply.observe);
        if let (Some(former), Some(sequence)) = (former, message.options.observe())
            && !Freshness::new(now, former).update(now, sequence)
        {
            return None;
        }
        self.reply = None;
        self.download.restart();
        Some(self.answer(message))
    }

    /// The Block1 option of the message under way; `None` when the body fits in one. The blocks are cut here and not by
    /// [`lwm2m_coap::block::Upload`], which hashes the whole body for each block because a device holds none.
    fn block1(&self) -> Result<Option<Block>, WriteError> {
        let (total, size) = (self.outgoing.body.len(), self.szx.size());
        if total <= size && self.offset == 0 {
            return Ok(None);
        }
        let offset = u32::try_from(self.offset).map_err(|_| WriteError::Full)?;
        let more = total.saturating_sub(self.offset) > size;
        Block::at(offset, more, self.szx).ok_or(WriteError::Full).map(Some)
    }
}

fn tag(body: &[u8]) -> [u8; 4] {
    let mut window = Window::new(&mut [], 0);
    // A window without space takes everything.
    let _ = window.write(body);
    window.etag()
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
        max_age: message.options.uint(OptionNumber::MAX_AGE),
        location,
        body: message.payload.to_vec(),
    }
}
