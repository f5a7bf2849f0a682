//! Block1 where the body is wanted (RFC 7959 §2.5): takes block after block in order and hands each on as it comes.
//!
//! 1. The first block begins a transfer, whatever was before.
//! 2. Each further one must be the next of the same transfer, or one that is here already, else 4.08; past the cap 4.13.
//! 3. The owner answers 2.31 with [`Received::answer`](Received) to all but the last.

use super::window::Hash;
use super::{Block, Szx};
use crate::code::Code;
use crate::message::Message;
use crate::option::OptionNumber;
use crate::writer::{WriteError, Writer};

/// One transfer from one remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receive {
    /// What the transfer belongs to; `None` when there is none.
    key: Option<u32>,
    /// How much of the body is here.
    offset: u32,
    largest: Szx,
    /// The longest body that is accepted.
    cap: u32,
}

impl Receive {
    /// Accepts a body of at most `cap` bytes and asks for blocks of at most `largest`.
    #[must_use]
    pub const fn new(largest: Szx, cap: u32) -> Self {
        Self { key: None, offset: 0, largest, cap }
    }

    /// Takes a request with or without a Block1 option. At offset 0 the owner begins its body anew.
    ///
    /// # Errors
    /// [`Refusal`], to be written as the response. A transfer that was under way has ended, unless the block belongs to
    /// another one: [`Receive::is_active`] tells.
    pub fn handle<'m>(&mut self, message: &Message<'m>) -> Result<Received<'m>, Refusal> {
        let bytes = message.payload;
        let Ok(block) = message.options.block1() else {
            return Err(Refusal::new(Code::BAD_REQUEST));
        };
        let Some(block) = block else {
            return Ok(Received::Part { offset: 0, bytes, last: true, answer: None });
        };
        let key = transfer_key(message);
        let offset = block.offset();
        // RFC 7959 §2.9.2, RFC 9175 §3.3: of a transfer that is not this one the blocks in front are missing.
        if offset > 0 && self.key != Some(key) {
            return Err(Refusal::new(Code::REQUEST_ENTITY_INCOMPLETE));
        }
        let current = self.key.take();
        if offset == 0 {
            self.offset = 0;
        }
        let size = block.szx().size();
        // RFC 7959 §2.2: only the last block may be shorter than its size.
        if bytes.len() > size || (block.more() && bytes.len() < size) {
            return Err(Refusal::new(Code::BAD_REQUEST));
        }
        // The size is negotiated with the first block only (RFC 7959 §2.5).
        let szx = if offset == 0 { block.szx().min(self.largest) } else { block.szx() };
        let answer = block.resized(szx);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let end = offset.saturating_add(length);
        if end <= self.offset && block.more() && offset > 0 {
            self.key = current;
            return Ok(Received::Repeated { answer });
        }
        if offset != self.offset {
            return Err(Refusal::new(Code::REQUEST_ENTITY_INCOMPLETE));
        }
        if end > self.cap || message.options.size1().is_some_and(|size| size > self.cap) {
            return Err(Refusal { size: Some(self.cap), ..Refusal::new(Code::REQUEST_ENTITY_TOO_LARGE) });
        }
        self.offset = end;
        self.key = block.more().then_some(key);
        Ok(Received::Part { offset, bytes, last: !block.more(), answer: Some(answer) })
    }

    /// Ends the transfer: a block that follows is refused with 4.08.
    pub fn abort(&mut self) {
        self.key = None;
    }

    /// Whether a transfer is under way.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.key.is_some()
    }
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'m> {
    /// The next part of the body, or all of it.
    Part {
        /// Where in the body it lies: right behind the part before, or at 0.
        offset: u32,
        /// The part.
        bytes: &'m [u8],
        /// Whether the body is complete with it: answer as without blocks. Else answer 2.31.
        last: bool,
        /// The Block1 option of the response.
        answer: Option<Block>,
    },
    /// A part that came before, again: answer 2.31 and nothing else.
    Repeated {
        /// The Block1 option of the response.
        answer: Block,
    },
}

/// The response that refuses a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 4.00, 4.08 or 4.13.
    pub code: Code,
    /// The Size1 option: the longest body that is accepted.
    pub size: Option<u32>,
}

impl Refusal {
    const fn new(code: Code) -> Self {
        Self { code, size: None }
    }

    /// Writes the response.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.restart(self.code);
        if let Some(size) = self.size {
            writer.uint(OptionNumber::SIZE1, size)?;
        }
        Ok(())
    }
}

/// What blocks of one transfer have in common: method and all options of the cache key, less those of the blocks
/// (RFC 7959 §2.5, RFC 9175 §3.3 for the Request-Tag).
fn transfer_key(message: &Message<'_>) -> u32 {
    let mut hash = Hash::new();
    hash.write(&[message.code.as_u8()]);
    for (number, value) in message.options {
        if !number.is_no_cache_key() && !matches!(number, OptionNumber::BLOCK1 | OptionNumber::BLOCK2) {
            hash.write(&number.0.to_be_bytes());
            hash.write(&value.len().to_be_bytes());
            hash.write(value);
        }
    }
    hash.0
}
