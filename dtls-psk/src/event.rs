//! What a connection tells its owner and asks of it (invariant: the engine never calls out; what it cannot do by itself is an
//! operation that waits for an answer).

use crate::error::Reason;

/// What came of a datagram, a time-out or an answer.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input<'d> {
    /// Authentic application data, decrypted where it lay in the datagram.
    Application(&'d mut [u8]),
    /// The peer's Finished was verified: application data may go both ways. Drain
    /// [`Connection::poll_transmit`](crate::Connection::poll_transmit) before the first of it is sent.
    Established {
        /// Whether the peer proved its key just now, in a full handshake.
        full: bool,
    },
    /// The peer answered a [`Connection::challenge_path`](crate::Connection::challenge_path) with this cookie, from the
    /// address that the datagram came from.
    PathResponse([u8; 8]),
    /// The peer answered such a challenge, with this cookie: it does not use that address any more (RFC 9853 §5).
    PathDrop([u8; 8]),
    /// The connection is over. Drain [`Connection::poll_transmit`](crate::Connection::poll_transmit) once more, for a last alert, and drop it.
    Closed(Reason),
}

/// Names one pending operation of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PendingId(u32);

impl PendingId {
    pub(crate) const FIRST: Self = Self(0);
}

/// An operation that the engine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending<'a> {
    /// To be handed back to [`Connection::provide`](crate::Connection::provide).
    pub id: PendingId,
    /// What is to be done.
    pub operation: Operation<'a>,
}

/// What the engine cannot do by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Find the key of this identity (0 to 128 bytes).
    LookUpPsk {
        /// As the client sent it, not yet proven.
        identity: &'a [u8],
    },
}

/// The result of an [`Operation`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The key was found.
    Psk {
        /// 1 to 64 bytes.
        key: &'a [u8],
    },
    /// There is none. The handshake goes on with a random key, so that the client cannot tell.
    Unknown,
}

impl core::fmt::Debug for Answer<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Psk { .. } => formatter.debug_struct("Psk").finish_non_exhaustive(),
            Self::Unknown => formatter.write_str("Unknown"),
        }
    }
}
