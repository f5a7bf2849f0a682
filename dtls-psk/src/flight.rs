//! Our current flight, kept as messages so that it can be sent again under new record numbers and in fragments of any size
//! (RFC 6347 §4.2.4; invariant: a message goes out in the epoch it was made for, however often).

use heapless::Vec;
use zeroize::Zeroize as _;

use crate::DATAGRAM_MIN;
use crate::association::Association;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::message::{self, FragmentHeader, Message, MessageType};
use crate::record::{self, ContentType};
use crate::wire::Writer;

/// How many messages a flight has at most.
const ITEMS: usize = if cfg!(feature = "rpk") { 5 } else { 4 };

/// The shortest datagrams that a flight falls back to, in bytes; who has a link that carries less says so by [`Config::mtu`].
/// Most messages fit into one, for peers that cannot put fragments together.
const FALLBACK_MIN: u16 = 128;

/// After how many repetitions datagrams get shorter (RFC 6347 §4.1.1.1: 2 or 3).
const PATIENCE: u8 = 2;

#[derive(Clone, Copy)]
enum Item {
    Message { message_type: MessageType, message_seq: u16, epoch: u16, start: u16, end: u16 },
    ChangeCipherSpec,
}

/// The messages of a flight and how far they were sent.
pub(crate) struct Flight<const N: usize> {
    items: Vec<Item, ITEMS>,
    bytes: [u8; N],
    used: usize,
    /// The item to send next, and how much of it was sent.
    item: usize,
    offset: usize,
    shares_records: bool,
    /// The most bytes of a datagram, and those of the longest one that left with the messages of now.
    mtu: u16,
    longest: u16,
    /// How often the messages of now were sent again.
    repeats: u8,
    /// Whether messages are still to come before any goes out.
    #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
    is_held: bool,
}

impl<const N: usize> Flight<N> {
    pub(crate) const fn new() -> Self {
        Self {
            items: Vec::new(),
            bytes: [0; N],
            used: 0,
            item: 0,
            offset: 0,
            shares_records: true,
            mtu: u16::MAX,
            longest: 0,
            repeats: 0,
            #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
            is_held: false,
        }
    }

    /// Forgets everything of an earlier handshake.
    pub(crate) fn start(&mut self, config: &Config) {
        self.clear();
        self.shares_records = config.shares_records;
        self.mtu = config.mtu;
        #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
        self.release();
    }

    /// Puts each message into a record of its own from now on, for peers that understand no more.
    #[cfg(feature = "rpk")]
    pub(crate) const fn separate(&mut self) {
        self.shares_records = false;
    }

    /// Sends nothing until the flight is complete.
    #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
    pub(crate) const fn hold(&mut self) {
        self.is_held = true;
    }

    /// The flight is complete.
    #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
    pub(crate) const fn release(&mut self) {
        self.is_held = false;
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bytes.get_mut(..self.used).unwrap_or_default().zeroize();
        self.used = 0;
        self.longest = 0;
        self.repeats = 0;
        self.rewind();
    }

    /// Sends everything again, because the peer seems not to have it. If it never arrives its datagrams may be too long for
    /// the path: later ones are half as long, and so are those of the flights to come. A ClientHello is left whole, for
    /// servers that keep nothing before the cookie came back.
    pub(crate) fn repeat(&mut self) {
        if self.longest == 0 {
            // None of it has gone out yet.
            return;
        }
        self.repeats = self.repeats.saturating_add(1);
        let is_hello =
            matches!(self.items.first(), Some(Item::Message { message_type: MessageType::ClientHello, .. }));
        if self.repeats >= PATIENCE && !is_hello {
            self.mtu = self.mtu.min(FALLBACK_MIN.max(self.longest >> 1));
            self.longest = 0;
        }
        self.rewind();
    }

    fn rewind(&mut self) {
        self.item = 0;
        self.offset = 0;
    }

    pub(crate) fn is_sent(&self) -> bool {
        #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
        if self.is_held {
            return true;
        }
        self.item >= self.items.len()
    }

    /// Appends a message whose body `write` produces; `None` if there is no room.
    pub(crate) fn push(
        &mut self,
        message_type: MessageType,
        message_seq: u16,
        epoch: u16,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<Message<'_>> {
        let start = self.used;
        let end = start.checked_add(write(self.bytes.get_mut(start..)?)?)?;
        let range = (u16::try_from(start).ok()?, u16::try_from(end).ok()?);
        self.items
            .push(Item::Message { message_type, message_seq, epoch, start: range.0, end: range.1 })
            .ok()?;
        self.used = end;
        Some(Message { message_type, message_seq, body: self.bytes.get(start..end)? })
    }

    pub(crate) fn push_change_cipher_spec(&mut self) -> Option<()> {
        self.items.push(Item::ChangeCipherSpec).ok()
    }

    /// The body of the first message.
    pub(crate) fn first_body(&self) -> Option<&[u8]> {
        match *self.items.first()? {
            Item::Message { start, end, .. } => self.bytes.get(start.into()..end.into()),
            Item::ChangeCipherSpec => None,
        }
    }

    /// Writes as many records as fit into `out`, one datagram.
    pub(crate) fn emit<C: Crypto>(&mut self, association: &mut Association, out: &mut [u8]) -> Option<usize> {
        let length = out.len().min(usize::from(self.mtu).max(DATAGRAM_MIN));
        let out = out.get_mut(..length)?;
        let mut written = 0_usize;
        while let Some(rest) = out.get_mut(written..)
            && let Some(length) = self.emit_record::<C>(association, rest, written == 0)
        {
            written = written.saturating_add(length);
        }
        self.longest = self.longest.max(u16::try_from(written).unwrap_or(u16::MAX));
        (written > 0).then_some(written)
    }

    fn emit_record<C: Crypto>(
        &mut self,
        association: &mut Association,
        out: &mut [u8],
        is_first: bool,
    ) -> Option<usize> {
        let epoch = match *self.items.get(self.item)? {
            Item::ChangeCipherSpec => {
                let length = association.emit_plain(ContentType::ChangeCipherSpec, &[1], out)?;
                self.item = self.item.saturating_add(1);
                return Some(length);
            }
            Item::Message { epoch, .. } => epoch,
        };
        let (head, tail, longest) = match epoch {
            0 => (record::HEADER, 0, association.longest_plain()),
            _ => {
                let (head, tail) = association.room(epoch)?;
                (head, tail, association.longest_payload())
            }
        };
        let end = out.len().checked_sub(tail)?.min(head.saturating_add(longest));
        let length = self.emit_fragments(epoch, out.get_mut(head..end)?, is_first)?;
        let payload = head..head.checked_add(length)?;
        if epoch == 0 {
            association.frame_plain(ContentType::Handshake, out, length)
        } else {
            association
                .seal_in::<C>(epoch, ContentType::Handshake, out, payload)
                .ok()
                .map(|record| record.len())
        }
    }

    /// Consecutive messages of an epoch share a record if they may. A message is cut only where it does not fit into a
    /// datagram of its own.
    fn emit_fragments(&mut self, wanted: u16, out: &mut [u8], is_first: bool) -> Option<usize> {
        let room = out.len();
        let mut writer = Writer::new(out);
        while let Some(&Item::Message { message_type, message_seq, epoch, start, end }) =
            self.items.get(self.item)
            && epoch == wanted
        {
            let from = usize::from(start).saturating_add(self.offset);
            let left = usize::from(end).saturating_sub(from);
            let Some(space) = room.checked_sub(writer.len().saturating_add(message::HEADER)) else {
                break;
            };
            let is_whole = left <= space;
            let is_only = writer.len() == 0;
            if !is_only && !self.shares_records {
                break;
            }
            if !is_whole && (space == 0 || !is_first || !is_only) {
                break;
            }
            let count = left.min(space);
            let header = FragmentHeader {
                code: message_type as u8,
                length: end.saturating_sub(start).into(),
                message_seq,
                offset: u32::try_from(self.offset).ok()?,
            };
            writer.bytes(&header.emit(u32::try_from(count).ok()?))?;
            writer.bytes(self.bytes.get(from..from.saturating_add(count))?)?;
            if !is_whole {
                self.offset = self.offset.saturating_add(count);
                break;
            }
            self.item = self.item.saturating_add(1);
            self.offset = 0;
        }
        Some(writer.len()).filter(|length| *length > 0)
    }
}

#[cfg(all(test, feature = "record-size-limit"))]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::association::Role;
    use crate::crypto::RustCrypto;
    use crate::limits::{FragmentLength, Limits};
    use crate::record::Datagram;

    /// The lengths of the records in which a flight of two long messages leaves.
    fn lengths(limits: Limits) -> Vec<usize> {
        let mut association = Association::new(Role::Server, 0);
        association.limits = limits;
        let mut flight = Flight::<2048>::new();
        for (message_type, length) in [(MessageType::ServerHello, 300), (MessageType::ServerKeyExchange, 900)]
        {
            flight.push(message_type, 0, 0, |_| Some(length)).unwrap();
        }
        let (mut out, mut lengths) = ([0; 2048], Vec::new());
        while let Some(length) = flight.emit::<RustCrypto>(&mut association, &mut out) {
            let mut datagram = Datagram::new(out.get_mut(..length).unwrap());
            while let Some(record) = datagram.next(&[]) {
                lengths.push(record.unwrap().1.len());
            }
        }
        lengths
    }

    #[test]
    fn a_max_fragment_length_bounds_the_records_of_a_handshake_and_a_limit_does_not() {
        // RFC 6066 §4 and RFC 8449 §4. 1,200 bytes and two headers of 12.
        assert_eq!(lengths(Limits::NONE), [1224]);
        assert_eq!(lengths(Limits::of_sizes(64, 64, (false, false))), [1224]);
        let length = FragmentLength::from_code(1).unwrap();
        assert_eq!(lengths(Limits::of_fragments(length)), [312, 512, 412]);
    }
}
