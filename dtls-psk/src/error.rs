//! What can go wrong, split by fault: datagrams that are dropped and counted, handshakes that are refused with a reason,
//! and misuse by the caller (invariant: nothing a peer sends is an `Err`).

use core::fmt;

use crate::alert::Alert;

/// Why a connection ended or a handshake was refused, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The peer closed the association with close_notify.
    PeerClosed,
    /// The peer sent this fatal alert. At epoch 0, where anyone may forge it, it is believed only when the handshake made
    /// no progress until the next retransmission would be due.
    PeerAlert(Alert),
    /// The peer answered nothing at all.
    NoAnswer,
    /// The peer stopped answering in the middle of the handshake.
    Stalled,
    /// Client: the server ignores our Finished, as it does for an unknown identity and for a wrong key.
    FinishedUnanswered,
    /// Server: no key is known for the identity.
    UnknownIdentity,
    /// Server: the identity has more than 128 bytes.
    IdentityTooLong,
    /// Server: the key look-up was not answered in time.
    LookUpUnanswered,
    /// The peer presents no certificate or raw public key.
    #[cfg(feature = "rpk")]
    NoCertificate,
    /// The peer presents another kind of certificate than was agreed or can be taken.
    #[cfg(feature = "rpk")]
    WrongCertificateType,
    /// The public key of the peer is none of P-256 in the uncompressed form.
    #[cfg(feature = "rpk")]
    UnsupportedKey,
    /// The owner of this side does not trust what the peer presents.
    #[cfg(feature = "rpk")]
    UntrustedPeer(Refusal),
    /// The peer signed with an algorithm that was not offered, or wants one that this side does not have.
    #[cfg(feature = "rpk")]
    UnofferedAlgorithm,
    /// The peer's signature is not one of its key over this handshake.
    #[cfg(feature = "rpk")]
    BadSignature,
    /// This side has no certificate to present, or no key to sign with.
    #[cfg(feature = "rpk")]
    NothingToPresent,
    /// This side's owner did not answer an operation in time, or could not.
    #[cfg(any(feature = "server", feature = "rpk"))]
    OperationUnanswered,
    /// The peer's Finished could not be decrypted: it has another key.
    WrongKey,
    /// The peer's Finished was decrypted but does not match the handshake.
    BadFinished,
    /// No cipher suite in common; on a client: the server chose one that was not offered.
    NoCommonSuite,
    /// The peer speaks another version of DTLS.
    UnsupportedVersion,
    /// The peer left the protocol: a message or extension that has no place, or a field out of range.
    ProtocolViolation,
    /// The server answered with an extension that was not offered.
    UnofferedExtension,
    /// The peer's half of the key agreement is no point of the curve that was agreed.
    InvalidShare,
    /// The renegotiation_info of the peer is not that of an initial handshake.
    InsecureRenegotiation,
    /// The peer takes up a session under another cipher suite, or without the extended master secret.
    ResumedDifferently,
    /// Handshake messages too long for the memory given.
    TooLong,
    /// The peer sent more HelloVerifyRequests than a handshake can need.
    CookieLoop,
}

/// A side of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// This side.
    Local,
    /// The other side.
    Peer,
}

impl Reason {
    /// Which side ended it.
    pub const fn ended_by(self) -> Side {
        match self {
            Self::PeerClosed
            | Self::PeerAlert(_)
            | Self::NoAnswer
            | Self::Stalled
            | Self::FinishedUnanswered => Side::Peer,
            _ => Side::Local,
        }
    }

    /// The alert to send for it, if the peer is to be told at all.
    pub(crate) const fn alert(self) -> Option<Alert> {
        match self {
            Self::BadFinished => Some(Alert::DECRYPT_ERROR),
            #[cfg(feature = "rpk")]
            Self::BadSignature => Some(Alert::DECRYPT_ERROR),
            #[cfg(feature = "rpk")]
            Self::NoCertificate => Some(Alert::HANDSHAKE_FAILURE),
            #[cfg(feature = "rpk")]
            Self::WrongCertificateType | Self::UnsupportedKey => Some(Alert::UNSUPPORTED_CERTIFICATE),
            #[cfg(feature = "rpk")]
            Self::UntrustedPeer(refusal) => Some(refusal.alert()),
            #[cfg(feature = "rpk")]
            Self::UnofferedAlgorithm => Some(Alert::ILLEGAL_PARAMETER),
            #[cfg(feature = "rpk")]
            Self::NothingToPresent => Some(Alert::INTERNAL_ERROR),
            #[cfg(any(feature = "server", feature = "rpk"))]
            Self::OperationUnanswered => Some(Alert::INTERNAL_ERROR),
            // RFC 5746 §3.4 demands this one for a wrong renegotiation_info.
            Self::NoCommonSuite | Self::InsecureRenegotiation => Some(Alert::HANDSHAKE_FAILURE),
            // RFC 5246 §7.4.1.4
            Self::UnofferedExtension => Some(Alert::UNSUPPORTED_EXTENSION),
            Self::UnsupportedVersion => Some(Alert::PROTOCOL_VERSION),
            // RFC 8422 §5.11 for a share.
            Self::ProtocolViolation | Self::ResumedDifferently | Self::InvalidShare => {
                Some(Alert::ILLEGAL_PARAMETER)
            }
            Self::TooLong => Some(Alert::INTERNAL_ERROR),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::PeerAlert(alert) = self {
            formatter.write_str("the peer sent the alert ")?;
            return formatter.write_str(alert.name());
        }
        formatter.write_str(match self {
            Self::PeerClosed => "the peer closed the association",
            Self::PeerAlert(_) => "the peer sent an alert",
            Self::NoAnswer => "the peer did not answer",
            Self::Stalled => "the peer stopped answering in the middle of the handshake",
            Self::FinishedUnanswered => {
                "the server does not answer our Finished: it does not know the identity or has another key for it"
            }
            Self::UnknownIdentity => "the identity is not known",
            Self::IdentityTooLong => "the identity is longer than 128 bytes",
            Self::LookUpUnanswered => "the look-up of the key was not answered in time",
            #[cfg(feature = "rpk")]
            Self::NoCertificate => "the peer presents no certificate",
            #[cfg(feature = "rpk")]
            Self::WrongCertificateType => "the peer presents another kind of certificate",
            #[cfg(feature = "rpk")]
            Self::UnsupportedKey => "the peer's public key is not one of P-256 in the uncompressed form",
            #[cfg(feature = "rpk")]
            Self::UntrustedPeer(refusal) => return refusal.fmt(formatter),
            #[cfg(feature = "rpk")]
            Self::UnofferedAlgorithm => "the peer wants or uses a signature algorithm that was not offered",
            #[cfg(feature = "rpk")]
            Self::BadSignature => "the peer's signature is not one of its key over this handshake",
            #[cfg(feature = "rpk")]
            Self::NothingToPresent => "there is no certificate to present, or no key to sign with",
            #[cfg(any(feature = "server", feature = "rpk"))]
            Self::OperationUnanswered => "an operation of this side was not answered in time or could not be done",
            Self::WrongKey => "the peer has another key for this identity",
            Self::BadFinished => "the peer's Finished does not match the handshake",
            Self::NoCommonSuite => "there is no cipher suite in common",
            Self::UnsupportedVersion => "the peer does not speak DTLS 1.2",
            Self::ProtocolViolation => "the peer violated the protocol",
            Self::UnofferedExtension => "the server answered with an extension that was not offered",
            Self::InvalidShare => "the peer's half of the key agreement is no point of the curve",
            Self::InsecureRenegotiation => "the peer takes the handshake for a renegotiation",
            Self::ResumedDifferently => "the peer takes up a session with other parameters than it was made with",
            Self::TooLong => "the peer's handshake messages are too long",
            Self::CookieLoop => "the peer keeps asking for another cookie",
        })
    }
}

impl core::error::Error for Reason {}

/// Why the owner of a connection does not trust its peer.
#[cfg(feature = "rpk")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It could not be decoded, or a signature in it is wrong.
    Malformed,
    /// It is of a kind that is not supported.
    Unsupported,
    /// It was revoked.
    Revoked,
    /// It is not valid yet or any more.
    Expired,
    /// Nobody is known by it, or it is not the one that was expected.
    Unknown,
    /// Nobody who is trusted issued it.
    UnknownIssuer,
    /// It is good, and not for this: what it may be used for, or names and lengths of a path that an authority forbids.
    NotAllowed,
    /// It is that of another name.
    WrongName,
    /// There are too many certificates in the chain, or too many ways through it.
    TooLong,
    /// Nothing is known of it but a digest of a kind that this side does not have.
    UnsupportedDigest,
}

#[cfg(feature = "rpk")]
impl Refusal {
    /// RFC 5246 §7.2.2
    const fn alert(self) -> Alert {
        match self {
            Self::Malformed | Self::TooLong => Alert::BAD_CERTIFICATE,
            Self::Unsupported => Alert::UNSUPPORTED_CERTIFICATE,
            Self::Revoked => Alert::CERTIFICATE_REVOKED,
            Self::Expired => Alert::CERTIFICATE_EXPIRED,
            Self::Unknown | Self::WrongName | Self::UnsupportedDigest => Alert::CERTIFICATE_UNKNOWN,
            Self::UnknownIssuer => Alert::UNKNOWN_CA,
            Self::NotAllowed => Alert::ACCESS_DENIED,
        }
    }
}

#[cfg(feature = "rpk")]
impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "the peer's certificate cannot be read or is forged",
            Self::Unsupported => "the peer's certificate is of a kind that is not supported",
            Self::Revoked => "the peer's certificate was revoked",
            Self::Expired => "the peer's certificate is not valid yet or any more",
            Self::Unknown => "the peer's certificate or public key is not one that is known",
            Self::UnknownIssuer => "nobody who is trusted issued the peer's certificate",
            Self::NotAllowed => "the peer's certificate is not for this",
            Self::WrongName => "the peer's certificate is that of another name",
            Self::TooLong => "the peer's certificates are too many",
            Self::UnsupportedDigest => {
                "nothing is known of the peer's certificate but a digest of a kind that is not supported"
            }
        })
    }
}

#[cfg(feature = "rpk")]
impl core::error::Error for Refusal {}

/// Why a record, a message or a whole datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// It could not be decoded.
    Malformed,
    /// The record is of a version, type or epoch that is not in use here.
    Unsupported,
    /// The record's sequence number was seen before or is too old.
    Replayed,
    /// The record could not be authenticated.
    Unauthenticated,
    /// The message has no place in this state or role, or is in the clear and must not be.
    Unexpected,
    /// The message was received before (retransmissions of the peer count here).
    Duplicate,
    /// The message, or the set of its fragments, is larger than the memory for it.
    TooLarge,
    /// The ClientHello has no cookie that this server made, and cannot be answered with one.
    NoCookie,
}

/// How many records, messages or datagrams were dropped, by reason; each count ends at 65,535.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Counts [`Dropped::Malformed`].
    pub malformed: u16,
    /// Counts [`Dropped::Unsupported`].
    pub unsupported: u16,
    /// Counts [`Dropped::Replayed`].
    pub replayed: u16,
    /// Counts [`Dropped::Unauthenticated`].
    pub unauthenticated: u16,
    /// Counts [`Dropped::Unexpected`].
    pub unexpected: u16,
    /// Counts [`Dropped::Duplicate`].
    pub duplicate: u16,
    /// Counts [`Dropped::TooLarge`].
    pub too_large: u16,
    /// Counts [`Dropped::NoCookie`].
    pub no_cookie: u16,
}

impl Counters {
    /// Counts one drop.
    pub fn count(&mut self, dropped: Dropped) {
        let counter = match dropped {
            Dropped::Malformed => &mut self.malformed,
            Dropped::Unsupported => &mut self.unsupported,
            Dropped::Replayed => &mut self.replayed,
            Dropped::Unauthenticated => &mut self.unauthenticated,
            Dropped::Unexpected => &mut self.unexpected,
            Dropped::Duplicate => &mut self.duplicate,
            Dropped::TooLarge => &mut self.too_large,
            Dropped::NoCookie => &mut self.no_cookie,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Why a connection cannot be set up: misuse by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SetUpError {
    /// The identity has more than 128 bytes.
    IdentityTooLong,
    /// The key is empty or has more than 64 bytes.
    KeyLength,
    /// The random source returned only zeros.
    NotRandom,
    /// A client is to offer a suite that is for servers only.
    ServerSuite,
    /// The memory of the handshake is too short for a ClientHello with this server name.
    Memory,
    /// No suite is configured for what the client proves itself with.
    NoSuite,
    /// The server name is empty or has more than 253 bytes.
    #[cfg(feature = "x509")]
    ServerName,
}

impl fmt::Display for SetUpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::IdentityTooLong => "the PSK identity is longer than 128 bytes",
            Self::KeyLength => "the PSK is empty or longer than 64 bytes",
            Self::NotRandom => "the random source returned only zeros",
            Self::ServerSuite => "a client does not offer a cipher suite that is for servers only",
            Self::Memory => {
                "the memory of the handshake is too short for a ClientHello with this server name"
            }
            Self::NoSuite => "no cipher suite is configured for this kind of credential",
            #[cfg(feature = "x509")]
            Self::ServerName => "the server name is empty or longer than 253 bytes",
        })
    }
}

impl core::error::Error for SetUpError {}

/// Why an answer to a pending operation was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProvideError {
    /// No such operation is pending: it was answered before, or the handshake is over. Harmless.
    NotPending,
    /// The key is empty or has more than 64 bytes; the operation is still pending.
    KeyLength,
    /// It answers another operation; this one is still pending.
    #[cfg(feature = "rpk")]
    OtherOperation,
}

impl fmt::Display for ProvideError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotPending => "the operation is not pending",
            Self::KeyLength => "the PSK is empty or longer than 64 bytes",
            #[cfg(feature = "rpk")]
            Self::OtherOperation => "the answer is one to another operation",
        })
    }
}

impl core::error::Error for ProvideError {}

/// Why application data was not sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SealError {
    /// The handshake is not finished, or the connection is closed.
    NotEstablished,
    /// Less room around the payload than the record needs ([`HEADROOM`](crate::HEADROOM) and
    /// [`TAILROOM`](crate::TAILROOM) are always enough).
    NoRoom,
    /// The payload has more than [`Connection::longest_payload`](crate::Connection::longest_payload) bytes.
    TooLong,
    /// All 2^48 record sequence numbers are used up: a new handshake is needed.
    SequenceExhausted,
    /// The primitives refused. The payload is lost: its place in the buffer may hold anything. The next one may succeed.
    Crypto,
}

impl fmt::Display for SealError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotEstablished => "the association is not established",
            Self::NoRoom => "no room for the record around the payload",
            Self::TooLong => "the payload is longer than the peer takes",
            Self::SequenceExhausted => "all record sequence numbers are used up",
            Self::Crypto => "the cryptographic primitives refused",
        })
    }
}

impl core::error::Error for SealError {}

/// Why an authentic record could not be opened for a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not of this association, or was seen before.
    Refused(Dropped),
    /// The scratch buffer is shorter than the record.
    NoRoom,
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Refused(_) => "the record does not belong to this association",
            Self::NoRoom => "the scratch buffer is shorter than the record",
        })
    }
}

impl core::error::Error for OpenError {}
