//! What a connection tells its owner and asks of it (invariant: the engine never calls out; what it cannot do by itself is an
//! operation that waits for an answer).

#[cfg(feature = "rpk")]
use crate::certificate::{CertificateType, PeerCertificate};
#[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
use crate::computation::{Computation, Computed};
use crate::error::Reason;
#[cfg(feature = "rpk")]
use crate::error::Refusal;
#[cfg(feature = "rpk")]
use crate::signature::SIGNATURE;

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

/// Names one pending operation of one connection: an answer that comes late, when another connection has taken the place of
/// that one, is none to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PendingId {
    /// The front of the random of this side, which no other handshake has.
    pub(crate) handshake: [u8; 8],
    /// How many operations there were before.
    pub(crate) count: u8,
}

/// An operation that the engine waits for.
#[derive(PartialEq, Eq, Debug)]
pub struct Pending<'a> {
    /// To be handed back to [`Connection::provide`](crate::Connection::provide).
    pub id: PendingId,
    /// What is to be done.
    pub operation: Operation<'a>,
}

/// What the engine cannot do by itself.
#[derive(PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Find the key of this identity (0 to 128 bytes): answered by [`Answer::Psk`] or [`Answer::Unknown`].
    LookUpPsk {
        /// As the client sent it, not yet proven.
        identity: &'a [u8],
    },
    /// Judge what the peer presents: answered by [`Answer::Trusted`] or [`Answer::Refused`]. That the peer has its key is
    /// proven later; nobody is known before [`Input::Established`].
    #[cfg(feature = "rpk")]
    CheckPeer {
        /// As the peer sent it.
        certificate: PeerCertificate<'a>,
    },
    /// Compute on an elliptic curve, which is [`Computation::run`] wherever it is called: answered by [`Answer::Computed`].
    #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
    Compute(Computation),
    /// Present this side's own certificate: answered by [`Answer::Certificates`], or [`Answer::Unknown`] where there is none.
    #[cfg(feature = "rpk")]
    Present {
        /// Of which kind.
        certificate_type: CertificateType,
    },
    /// Sign with the key of what was presented (ECDSA, P-256): answered by [`Answer::Signature`], or by [`Answer::Unknown`]
    /// where that is not possible.
    #[cfg(feature = "rpk")]
    Sign {
        /// The SHA-256 of what is to be signed.
        digest: &'a [u8; 32],
    },
}

/// The result of an [`Operation`].
#[non_exhaustive]
pub enum Answer<'a> {
    /// The key was found.
    Psk {
        /// 1 to 64 bytes.
        key: &'a [u8],
    },
    /// There is none. Where a pre-shared key was asked for the handshake goes on with a random one, so that the client cannot
    /// tell; else it ends.
    Unknown,
    /// The peer may be who it says.
    #[cfg(feature = "rpk")]
    Trusted,
    /// It may not: the handshake ends, with an alert.
    #[cfg(feature = "rpk")]
    Refused(Refusal),
    /// What came of the computation.
    #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
    Computed(Computed),
    /// Certificates in DER, our own first, without a trust anchor; or one SubjectPublicKeyInfo.
    #[cfg(feature = "rpk")]
    Certificates(&'a [&'a [u8]]),
    /// r and s, 32 bytes each, big-endian.
    #[cfg(feature = "rpk")]
    Signature(&'a [u8; SIGNATURE]),
}

impl core::fmt::Debug for Answer<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Psk { .. } => formatter.debug_struct("Psk").finish_non_exhaustive(),
            Self::Unknown => formatter.write_str("Unknown"),
            #[cfg(feature = "rpk")]
            Self::Trusted => formatter.write_str("Trusted"),
            #[cfg(feature = "rpk")]
            Self::Refused(refusal) => formatter.debug_tuple("Refused").field(refusal).finish(),
            #[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
            Self::Computed(computed) => computed.fmt(formatter),
            #[cfg(feature = "rpk")]
            Self::Certificates(certificates) => {
                formatter.debug_tuple("Certificates").field(&certificates.len()).finish()
            }
            #[cfg(feature = "rpk")]
            Self::Signature(_) => formatter.write_str("Signature"),
        }
    }
}
