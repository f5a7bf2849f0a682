//! Connection IDs (RFC 9146): how a record finds its association whatever address it came from (invariant: never longer
//! than [`ConnectionId::MAX`] bytes).

use crate::record::{self, ContentType};

/// A Connection ID of 0 to [`ConnectionId::MAX`] bytes. One of zero length in a hello says that the sender can put the
/// peer's into its records and wants none in those that it receives.
#[derive(Clone, Copy)]
pub struct ConnectionId {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl ConnectionId {
    /// The longest Connection ID that this engine takes, in bytes: 16, or none without the feature `connection-id`. A client
    /// that wants a longer one is served without.
    pub const MAX: usize = if cfg!(feature = "connection-id") { 16 } else { 0 };

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
        let length = if Self::MAX == 0 { 0 } else { usize::from(self.length) };
        self.bytes.get(..length).unwrap_or_default()
    }

    /// Whether its length is zero.
    pub const fn is_empty(&self) -> bool {
        // The constant lets the compiler leave out what is not there.
        Self::MAX == 0 || self.length == 0
    }

    /// The Connection ID in the first record of `datagram`, if it has one, given that those of the receiver have `length`
    /// bytes. It finds the connection; that the record belongs to it is proven by [`Connection::handle`](crate::Connection::handle).
    pub fn of_datagram(datagram: &[u8], length: usize) -> Option<&[u8]> {
        let is_there = length > 0 && datagram.first() == Some(&(ContentType::ConnectionId as u8));
        datagram.get(record::CONNECTION_ID..)?.get(..length).filter(|_| is_there)
    }
}

impl PartialEq for ConnectionId {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for ConnectionId {}

impl core::fmt::Debug for ConnectionId {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_tuple("ConnectionId").field(&self.bytes()).finish()
    }
}
