//! Writes a message once, into the caller's buffer, with room left in front and behind for what wraps it.
//!
//! Invariant: options are in ascending order, and nothing is written outside the room that was left.
//!
//! The token and the header come last, right before the options: whoever builds a message need not know them.

use core::fmt;
use core::ops::Range;

use crate::block::Block;
use crate::code::Code;
use crate::content_format::ContentFormat;
use crate::option::{OptionNumber, PAYLOAD_MARKER};
use crate::token::Token;
use crate::udp::{self, HEADER_LENGTH, Header};

/// How many bytes to leave free in front of and behind a message: for a DTLS record, and for OSCORE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes in front.
    pub head: usize,
    /// Bytes behind.
    pub tail: usize,
}

impl Room {
    /// No room: the message is sent as it is.
    pub const NONE: Room = Room { head: 0, tail: 0 };
}

/// Writes options and payload of one message.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    code: Code,
    /// Where the options start.
    start: usize,
    /// Where the next byte goes.
    end: usize,
    /// Where the room behind the message starts.
    limit: usize,
    /// The number of the last option; `None` once a payload is written behind the options.
    last: Option<u16>,
    /// A body that is written before its options; its payload marker is one byte in front.
    body: Option<Range<usize>>,
}

impl<'b> Writer<'b> {
    /// The most bytes that header and token take in front of the options.
    pub const HEAD: usize = HEADER_LENGTH + Token::MAX_LENGTH;

    /// Begins a message with `code` in `buffer`, leaving `room` free. A buffer that is too small shows in the first
    /// thing that does not fit, at the latest when the message is sent.
    #[must_use]
    pub fn new(buffer: &'b mut [u8], room: Room, code: Code) -> Self {
        let limit = buffer.len().saturating_sub(room.tail);
        let start = room.head.saturating_add(Self::HEAD);
        Self { buffer, code, start, end: start, limit, last: Some(0), body: None }
    }

    /// Drops all that was written and begins again with another code.
    pub fn restart(&mut self, code: Code) {
        self.code = code;
        self.end = self.start;
        self.last = Some(0);
        self.body = None;
    }

    /// Changes the code, which counts when the message is sent.
    pub fn set_code(&mut self, code: Code) {
        self.code = code;
    }

    /// The code as it is now.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Writes an option. The other option methods are shorthands of this one and fail in the same way.
    ///
    /// # Errors
    /// [`WriteError::Order`] when a higher number or the payload was written before, [`WriteError::Full`].
    pub fn option(&mut self, number: OptionNumber, value: &[u8]) -> Result<&mut Self, WriteError> {
        let delta = self.last.and_then(|last| number.0.checked_sub(last)).ok_or(WriteError::Order)?;
        let head = OptionHead::new(delta, u16::try_from(value.len()).map_err(|_| WriteError::Full)?);
        let end = self.end;
        let written = self.push(head.bytes()).and_then(|()| self.push(value));
        if let Err(error) = written {
            self.end = end;
            return Err(error);
        }
        self.last = Some(number.0);
        Ok(self)
    }

    /// Writes an option with an unsigned integer, in as few bytes as it needs.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn uint(&mut self, number: OptionNumber, value: u32) -> Result<&mut Self, WriteError> {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.option(number, bytes.get(zeros..).unwrap_or_default())
    }

    /// Writes one option for each piece of `text` between `separator`s: paths and queries. An empty text writes none.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn split(
        &mut self,
        number: OptionNumber,
        text: &str,
        separator: char,
    ) -> Result<&mut Self, WriteError> {
        if !text.is_empty() {
            for piece in text.split(separator) {
                self.option(number, piece.as_bytes())?;
            }
        }
        Ok(self)
    }

    /// Writes the format of the payload.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn content_format(&mut self, format: ContentFormat) -> Result<&mut Self, WriteError> {
        self.uint(OptionNumber::CONTENT_FORMAT, u32::from(format.0))
    }

    /// Writes the format that is wanted.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn accept(&mut self, format: ContentFormat) -> Result<&mut Self, WriteError> {
        self.uint(OptionNumber::ACCEPT, u32::from(format.0))
    }

    /// Writes Observe.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn observe(&mut self, value: u32) -> Result<&mut Self, WriteError> {
        self.uint(OptionNumber::OBSERVE, value)
    }

    /// Writes Block1.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn block1(&mut self, block: Block) -> Result<&mut Self, WriteError> {
        self.uint(OptionNumber::BLOCK1, block.value())
    }

    /// Writes Block2.
    ///
    /// # Errors
    /// As [`Writer::option`].
    pub fn block2(&mut self, block: Block) -> Result<&mut Self, WriteError> {
        self.uint(OptionNumber::BLOCK2, block.value())
    }

    /// Writes the payload behind the options; an empty one writes no marker. No option can follow.
    ///
    /// # Errors
    /// [`WriteError::Full`], and [`WriteError::Order`] when there is a payload already.
    pub fn payload(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.payload_with(|space| {
            space.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(bytes.len())
        })
    }

    /// Lets `write` fill the space behind the options and say how much it used; `None` stands for too little space.
    ///
    /// # Errors
    /// As [`Writer::payload`].
    pub fn payload_with(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Result<(), WriteError> {
        if self.last.is_none() || self.body.is_some() {
            return Err(WriteError::Order);
        }
        // A full buffer is full only for a payload that is not empty: it then has no space, not even for the marker.
        let start = self.end.saturating_add(1).min(self.limit);
        let space = self.buffer.get_mut(start..self.limit).ok_or(WriteError::Full)?;
        let room = space.len();
        let length = write(space).filter(|length| *length <= room).ok_or(WriteError::Full)?;
        if length > 0 {
            self.push(&[PAYLOAD_MARKER])?;
            self.end = self.end.saturating_add(length);
        }
        self.last = None;
        Ok(())
    }

    /// The space for a body that is written before its options, which will take at most `options` bytes from here on.
    /// Then say how long it became with [`Writer::set_body`]; the options can be written before or after that.
    ///
    /// The space is empty when the buffer is too small.
    pub fn body(&mut self, options: usize) -> &mut [u8] {
        let start = self.end.saturating_add(options).saturating_add(1).min(self.limit);
        self.body = Some(start..start);
        self.buffer.get_mut(start..self.limit).unwrap_or_default()
    }

    /// Says how long the body became that was written to the space of [`Writer::body`].
    ///
    /// # Errors
    /// [`WriteError::Full`] when that is more than the space, [`WriteError::Order`] when there is no such space.
    pub fn set_body(&mut self, length: usize) -> Result<(), WriteError> {
        let body = self.body.as_mut().ok_or(WriteError::Order)?;
        let end = body.start.checked_add(length).filter(|end| *end <= self.limit).ok_or(WriteError::Full)?;
        body.end = end;
        Ok(())
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// [`WriteError::Full`] when the buffer is too small for an empty message.
    pub fn finish(self) -> Result<Draft<'b>, WriteError> {
        let Self { buffer, code, mut start, mut end, limit, body, .. } = self;
        if end > limit || limit > buffer.len() {
            return Err(WriteError::Full);
        }
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            // The few bytes of options move to the body, not the body to the options.
            let marker = body.start.checked_sub(1).filter(|marker| *marker >= end).ok_or(WriteError::Full)?;
            let shift = marker.saturating_sub(end);
            *buffer.get_mut(marker).ok_or(WriteError::Full)? = PAYLOAD_MARKER;
            if shift > 0 {
                buffer.copy_within(start..end, start.saturating_add(shift));
            }
            start = start.saturating_add(shift);
            end = body.end;
        }
        Ok(Draft { buffer, code, start, end })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let limit = self.body.as_ref().map_or(self.limit, |body| body.start.saturating_sub(1));
        let end = self.end.checked_add(bytes.len()).filter(|end| *end <= limit).ok_or(WriteError::Full)?;
        self.buffer.get_mut(self.end..end).ok_or(WriteError::Full)?.copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }
}

/// A written message that waits for protection, token and header.
///
/// There are always [`Writer::HEAD`] bytes in front of it.
#[derive(Debug)]
pub struct Draft<'b> {
    pub(crate) buffer: &'b mut [u8],
    pub(crate) code: Code,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Draft<'_> {
    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Options, payload marker and payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The whole buffer and where in it options, payload marker and payload lie, for a protection that works in place;
    /// then say with [`Draft::replace`] where it put them. The room left by the writer's owner lies around them.
    pub fn parts_mut(&mut self) -> (&mut [u8], Range<usize>) {
        (self.buffer, self.start..self.end)
    }

    /// Replaces code and place of the message.
    ///
    /// # Errors
    /// [`WriteError::Full`] when `place` leaves no room for header and token, or ends beyond the buffer.
    pub fn replace(&mut self, code: Code, place: Range<usize>) -> Result<(), WriteError> {
        if place.start < Writer::HEAD || place.start > place.end || place.end > self.buffer.len() {
            return Err(WriteError::Full);
        }
        (self.code, self.start, self.end) = (code, place.start, place.end);
        Ok(())
    }

    /// Puts token and UDP header in front and says where in the buffer the datagram lies.
    #[must_use]
    pub fn emit(&mut self, header: Header, token: Token) -> Range<usize> {
        let token_start = self.start.saturating_sub(usize::from(token.length()));
        let start = token_start.saturating_sub(HEADER_LENGTH);
        if let Some(space) = self.buffer.get_mut(token_start..self.start) {
            space.copy_from_slice(token.bytes());
        }
        if let Some(space) = self.buffer.get_mut(start..token_start) {
            space.copy_from_slice(&udp::header(header, self.code, token.length()));
        }
        start..self.end
    }
}

/// Why something could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The buffer has no room for it.
    Full,
    /// The caller writes options out of order, or after the payload.
    Order,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the buffer has no room for the message",
            Self::Order => "options are not written in ascending order before the payload",
        })
    }
}

impl core::error::Error for WriteError {}

impl From<crate::sink::Full> for WriteError {
    fn from(_: crate::sink::Full) -> Self {
        Self::Full
    }
}

/// The head of an option (RFC 7252 §3.1): nibbles for delta and length, and what extends them.
pub(crate) struct OptionHead {
    bytes: [u8; 5],
    length: usize,
}

impl OptionHead {
    pub(crate) fn new(delta: u16, length: u16) -> Self {
        let mut head = Self { bytes: [0; 5], length: 1 };
        let nibbles = head.extend(delta) << 4 | head.extend(length);
        let [first, ..] = &mut head.bytes;
        *first = nibbles;
        head
    }

    /// Writes what extends the nibble of `value`, and returns that.
    fn extend(&mut self, value: u16) -> u8 {
        let (nibble, extension, skip) = match value {
            0..13 => (value.to_be_bytes()[1], 0, 2),
            13..269 => (13, value.saturating_sub(13), 1),
            _ => (14, value.saturating_sub(269), 0),
        };
        let places = self.bytes.iter_mut().skip(self.length);
        for (place, byte) in places.zip(extension.to_be_bytes().iter().skip(skip)) {
            *place = *byte;
        }
        self.length = self.length.saturating_add(2).saturating_sub(skip);
        nibble
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use super::*;
    use crate::udp::{Kind, MessageId};

    const HEADER: Header = Header { kind: Kind::Confirmable, id: MessageId(0x0102) };

    fn token() -> Token {
        Token::new(&[0xaa, 0xbb]).unwrap()
    }

    #[test]
    fn the_room_in_front_and_behind_stays_untouched() {
        let mut buffer = [0xee; 64];
        let mut writer = Writer::new(&mut buffer, Room { head: 13, tail: 8 }, Code::POST);
        writer.split(OptionNumber::URI_PATH, "rd/5a3f", '/').unwrap();
        writer
            .payload_with(|space| {
                assert_eq!(space.len(), 64 - 8 - 13 - 12 - 8 - 1);
                space.fill(0x55);
                Some(space.len())
            })
            .unwrap();
        let range = writer.finish().unwrap().emit(HEADER, token());
        assert_eq!(range, 13 + 6..64 - 8);
        assert_eq!(buffer[..13], [0xee; 13]);
        assert_eq!(buffer[56..], [0xee; 8]);
        assert_eq!(buffer[19..34], *b"\x42\x02\x01\x02\xaa\xbb\xb2rd\x045a3f\xff");
    }

    #[test]
    fn a_body_written_first_gives_the_same_bytes() {
        let mut straight = [0; 64];
        let mut writer = Writer::new(&mut straight, Room::NONE, Code::CONTENT);
        writer.observe(7).unwrap().content_format(ContentFormat::TEXT).unwrap().payload(b"22.5").unwrap();
        let straight_range = writer.finish().unwrap().emit(HEADER, token());

        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::INTERNAL_SERVER_ERROR);
        writer.observe(7).unwrap();
        writer.body(30)[..4].copy_from_slice(b"22.5");
        writer.content_format(ContentFormat::TEXT).unwrap();
        writer.set_body(4).unwrap();
        writer.set_code(Code::CONTENT);
        let range = writer.finish().unwrap().emit(HEADER, token());
        assert_eq!(buffer[range], straight[straight_range]);
    }

    #[test]
    fn an_empty_body_writes_no_marker() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
        writer.body(30);
        writer.observe(1).unwrap();
        writer.set_body(0).unwrap();
        assert_eq!(writer.finish().unwrap().bytes(), [0x61, 1]);
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
        writer.payload(b"").unwrap();
        assert_eq!(writer.finish().unwrap().bytes(), [0; 0]);
    }

    #[test]
    fn order_is_enforced() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        writer.accept(ContentFormat::TEXT).unwrap();
        assert_eq!(writer.observe(0).err(), Some(WriteError::Order));
        writer.payload(b"x").unwrap();
        assert_eq!(writer.uint(OptionNumber::SIZE1, 1).err(), Some(WriteError::Order));
        assert_eq!(writer.payload(b"y"), Err(WriteError::Order));
        assert_eq!(writer.set_body(1), Err(WriteError::Order));
        writer.restart(Code::NOT_FOUND);
        writer.observe(0).unwrap();
        assert_eq!(writer.finish().unwrap().bytes(), [0x60]);
    }

    #[test]
    fn whatever_does_not_fit_is_refused_and_leaves_what_was_written() {
        for length in 0..40 {
            let mut buffer = std::vec![0; length];
            let mut writer = Writer::new(&mut buffer, Room { head: 3, tail: 2 }, Code::GET);
            let option = writer.option(OptionNumber::URI_PATH, b"12345678").map(|_| ());
            let payload = writer.payload(b"abc");
            let finished = writer.finish().map(|draft| draft.bytes().len());
            let room = length as isize - (3 + 12 + 2);
            assert_eq!(option.is_ok(), room >= 9, "{length}");
            assert_eq!(payload.is_ok(), room >= if option.is_ok() { 13 } else { 4 }, "{length}");
            assert_eq!(finished.is_ok(), room >= 0, "{length}");
        }
        let mut buffer = [0; 30];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        assert!(writer.body(40).is_empty());
        assert_eq!(writer.set_body(1), Err(WriteError::Full));
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        assert_eq!(writer.body(4).len(), 13);
        assert_eq!(writer.option(OptionNumber::URI_PATH, b"abcd").err(), Some(WriteError::Full));
        assert!(writer.option(OptionNumber::URI_PATH, b"abc").is_ok());
    }

    #[test]
    fn a_protection_may_use_the_room_but_not_more() {
        let mut buffer = [0; 40];
        let writer = Writer::new(&mut buffer, Room { head: 4, tail: 8 }, Code::GET);
        let mut draft = writer.finish().unwrap();
        assert_eq!(draft.replace(Code::POST, 11..20), Err(WriteError::Full));
        assert_eq!(draft.replace(Code::POST, 12..41), Err(WriteError::Full));
        assert_eq!(draft.replace(Code::POST, 12..40), Ok(()));
        assert_eq!(draft.emit(HEADER, Token::EMPTY), 8..40);
    }
}
