//! The record layer's outside (RFC 6347 §4.1): headers, and the records of one datagram (invariant: a header that was
//! parsed has its whole body behind it).

use crate::error::Dropped;
use crate::wire::Reader;

/// Type, version, epoch, sequence number, length.
pub(crate) const HEADER: usize = 13;

/// Where the Connection ID of a record lies that has one: in front of the length.
pub(crate) const CONNECTION_ID: usize = HEADER - 2;

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
    /// tls12_cid (RFC 9146 §5): the true type is inside, under protection.
    ConnectionId = 25,
    /// RFC 9853 §4
    ReturnRoutabilityCheck = 27,
}

impl ContentType {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            25 => Some(Self::ConnectionId),
            27 => Some(Self::ReturnRoutabilityCheck),
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

    /// Parses a header and returns the lengths of itself and of the body behind it, which `bytes` is known to hold. `own` is
    /// the Connection ID that a record to this receiver has, if it has one.
    pub(crate) fn parse(bytes: &[u8], own: &[u8]) -> Result<(Self, usize, usize), Dropped> {
        let mut reader = Reader::new(bytes);
        let mut fields = || {
            let content_type = reader.u8()?;
            let version = Version(reader.u16()?);
            Some(Self { content_type, version, epoch: reader.u16()?, sequence: reader.u48()? })
        };
        let header = fields().ok_or(Dropped::Malformed)?;
        let mut length = HEADER;
        if header.content_type == ContentType::ConnectionId as u8 {
            // RFC 9146 §3: such records exist only once a Connection ID was negotiated, and have no other.
            let is_own = !own.is_empty() && reader.take(own.len()) == Some(own);
            if !is_own {
                return Err(Dropped::Unsupported);
            }
            length = HEADER.saturating_add(own.len());
        }
        let body = reader.vector16().ok_or(Dropped::Malformed)?;
        Ok((header, length, body.len()))
    }

    /// The header in front of `length` bytes of body, without a Connection ID.
    pub(crate) fn emit(self, length: u16) -> [u8; HEADER] {
        let [major, minor] = self.version.0.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = self.number();
        let [high, low] = length.to_be_bytes();
        [self.content_type, major, minor, a, b, c, d, e, f, g, h, high, low]
    }

    /// Writes the header of a protected record with the peer's Connection ID, and what its body of `length` bytes begins with.
    pub(crate) fn emit_into(self, front: &mut [u8], peer: &[u8], length: u16, explicit: &[u8]) {
        let [fields @ .., high, low] = self.emit(length);
        let length = [high, low];
        let content = fields.iter().chain(peer).chain(&length).chain(explicit);
        front.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
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

    /// How many bytes of it were not taken yet.
    pub const fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Takes the next record: its header and body. `Err` drops the rest of the datagram, which cannot be decoded.
    pub(crate) fn next(&mut self, own: &[u8]) -> Option<Result<(Header, &'d mut [u8]), Dropped>> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = core::mem::take(&mut self.0);
        let (header, head, length) = match Header::parse(bytes, own) {
            Ok(parsed) => parsed,
            Err(dropped) => return Some(Err(dropped)),
        };
        let behind = bytes.split_at_mut_checked(head).map(|(_, behind)| behind);
        let Some((body, rest)) = behind.and_then(|behind| behind.split_at_mut_checked(length)) else {
            return Some(Err(Dropped::Malformed));
        };
        self.0 = rest;
        Some(Ok((header, body)))
    }
}
