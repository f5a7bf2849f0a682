//! The record layer's outside (RFC 6347 §4.1): headers, and the records of one datagram (invariant: a header that was
//! parsed has its whole body behind it).

use crate::wire::{Reader, Writer};

/// Type, version, epoch, sequence number, length.
pub(crate) const HEADER: usize = 13;

/// The largest plaintext of a record.
pub(crate) const PLAINTEXT_MAX: usize = 1 << 14;

/// The largest record sequence number.
pub(crate) const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// A DTLS version as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version(pub(crate) u16);

impl Version {
    pub(crate) const DTLS_1_0: Self = Self(0xfeff);
    pub(crate) const DTLS_1_2: Self = Self(0xfefd);
}

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum ContentType {
    ChangeCipherSpec = 20,
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl ContentType {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// A record's header without the length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// The content type as received: unknown types are skipped, not an error.
    pub(crate) content_type: u8,
    pub(crate) version: Version,
    pub(crate) epoch: u16,
    /// 48 bits.
    pub(crate) sequence: u64,
}

impl Header {
    pub(crate) const fn new(content_type: ContentType, epoch: u16, sequence: u64) -> Self {
        Self { content_type: content_type as u8, version: Version::DTLS_1_2, epoch, sequence }
    }

    /// Parses a header and returns the length of the body behind it, which `bytes` is known to hold.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            content_type: reader.u8()?,
            version: Version(reader.u16()?),
            epoch: reader.u16()?,
            sequence: reader.u48()?,
        };
        Some((header, reader.vector16()?.len()))
    }

    /// The header in front of `length` bytes of body.
    pub(crate) fn emit(self, length: u16) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut writer = Writer::new(&mut bytes);
        let written = writer
            .u8(self.content_type)
            .and_then(|()| writer.u16(self.version.0))
            .and_then(|()| writer.bytes(&self.number()))
            .and_then(|()| writer.u16(length));
        debug_assert!(written.is_some(), "the header has 13 bytes");
        bytes
    }

    /// Epoch and sequence number as one 64-bit number, big-endian.
    pub(crate) fn number(self) -> [u8; 8] {
        ((u64::from(self.epoch) << 48) | (self.sequence & SEQUENCE_MAX)).to_be_bytes()
    }
}

/// A received datagram, handed to [`Connection::handle`](crate::Connection::handle) until nothing is left in it.
///
/// Records are decrypted where they lie.
#[derive(Debug)]
pub struct Datagram<'d>(&'d mut [u8]);

impl<'d> Datagram<'d> {
    /// The records in `bytes`, the payload of one UDP datagram.
    pub const fn new(bytes: &'d mut [u8]) -> Self {
        Self(bytes)
    }

    /// Takes the next record: its header and body. `Err` drops the rest of the datagram, which cannot be decoded.
    pub(crate) fn next(&mut self) -> Option<Result<(Header, &'d mut [u8]), ()>> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = core::mem::take(&mut self.0);
        let Some((header, length)) = Header::parse(bytes) else { return Some(Err(())) };
        let Some((_, behind)) = bytes.split_at_mut_checked(HEADER) else { return Some(Err(())) };
        let Some((body, rest)) = behind.split_at_mut_checked(length) else { return Some(Err(())) };
        self.0 = rest;
        Some(Ok((header, body)))
    }
}
