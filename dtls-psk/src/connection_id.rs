//! Connection IDs (RFC 9146): how a record finds its association whatever address it came from (invariant: without the
//! feature `connection-id` there is none, and no code for them).

use crate::record::{self, ContentType};

/// Whether Connection IDs are compiled in.
pub(crate) const ENABLED: bool = cfg!(feature = "connection-id");

/// The longest Connection ID that a peer may want in records to it, in bytes. A client that wants a longer one is served
/// without; a handshake with a server that does ends.
pub(crate) const PEER_MAX: usize = if ENABLED { 16 } else { 0 };

/// The Connection ID that the peer wants.
pub(crate) type PeerId = heapless::Vec<u8, PEER_MAX, u8>;

/// The Connection ID that this side wants in records to it, of 0 to [`ConnectionId::MAX`] bytes. One of zero length in a
/// hello says that the sender can put the peer's into its records and wants none in those that it receives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId {
    /// Zeros behind `length`.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl ConnectionId {
    /// The longest one, in bytes: 8, or none without the feature `connection-id`.
    pub const MAX: usize = if ENABLED { 8 } else { 0 };

    /// The one of zero length.
    pub const EMPTY: Self = Self { bytes: [0; Self::MAX], length: 0 };

    /// `None` if there are more than [`ConnectionId::MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self::EMPTY;
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        id.length = u8::try_from(bytes.len()).ok()?;
        Some(id)
    }

    /// The bytes, as they stand in records.
    pub fn bytes(&self) -> &[u8] {
        if ENABLED { self.bytes.get(..self.length.into()).unwrap_or_default() } else { &[] }
    }

    /// The Connection ID in the first record of `datagram`, if it has one, given that those of the receiver have `length`
    /// bytes. It finds the connection; that the record belongs to it is proven by [`Connection::handle`](crate::Connection::handle).
    pub fn of_datagram(datagram: &[u8], length: usize) -> Option<&[u8]> {
        let is_there = length > 0 && datagram.first() == Some(&(ContentType::ConnectionId as u8));
        datagram.get(record::CONNECTION_ID..)?.get(..length).filter(|_| is_there)
    }
}

impl core::fmt::Debug for ConnectionId {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_tuple("ConnectionId").field(&self.bytes()).finish()
    }
}
