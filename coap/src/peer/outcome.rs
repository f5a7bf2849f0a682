//! What a peer tells its owner.

use core::fmt;

use super::Exchange;
#[cfg(doc)]
use super::Peer;
use crate::message::Message;
use crate::option::OptionNumber;
use crate::protect::Unprotectable;
use crate::token::Token;
use crate::udp::{Fault, Header, MessageId};
use crate::writer::WriteError;

/// What a datagram was.
#[derive(Debug)]
pub enum Input<'m, K = ()> {
    /// A request to answer with [`Peer::respond`], at once or after [`Peer::defer`].
    Request {
        /// What to answer.
        exchange: Exchange<K>,
        /// The request.
        message: Message<'m>,
    },
    /// A protected Confirmable request with this critical option, which is not known: to be answered with
    /// [`OptionNumber::refused_with`] (RFC 8613 §8.2). One without protection is [`Ignored::BadOption`].
    Unacceptable {
        /// What to answer.
        exchange: Exchange<K>,
        /// The option.
        number: OptionNumber,
    },
    /// The response to a request of ours, which is settled with it.
    Response {
        /// The request.
        request: RequestId,
        /// The response.
        message: Message<'m>,
    },
    /// A response that no outstanding request awaits: a notification if its token is that of an observation. Call
    /// [`Peer::accept`] or [`Peer::reject`].
    Unsolicited {
        /// What to accept or reject.
        header: Header,
        /// The response.
        message: Message<'m>,
    },
    /// A message of ours was acknowledged. A request still awaits its response; anything else is settled.
    Acknowledged(Sent),
    /// A message of ours was rejected and is settled. A notification: the observation has ended.
    Reset(Sent),
    /// A message that was handled before; it is answered as before.
    Duplicate,
    /// Nothing to do but to count it.
    Ignored(Ignored),
}

/// Why a datagram leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// It is no message; rejected if it could be.
    Malformed(Fault),
    /// Its type does not go with its code.
    Kind,
    /// A ping, which is answered with a Reset.
    Ping,
    /// Nothing of ours is known that it acknowledges, rejects or answers.
    Unknown,
    /// Object security refuses it.
    Refused,
    /// It has this critical option, which is not known; refused if it could be.
    BadOption(OptionNumber),
    /// A request that is not idempotent and cannot be remembered; refused with 5.03 if it is Confirmable.
    Busy,
}

/// A message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A request.
    Request(RequestId),
    /// A separate response to the request with this token.
    Response(Token),
    /// A notification to the observer with this token.
    Notification(Token),
}

/// What happened without a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message of ours is given up.
    Failed {
        /// The message.
        sent: Sent,
        /// Why.
        failure: Failure,
    },
}

/// Why a message of ours is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No acknowledgement or response came in time.
    TimedOut,
    /// The response has a critical option that is not known.
    BadOption,
    /// The association was replaced.
    Replaced,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "no acknowledgement or response came in time",
            Self::BadOption => "the response has an unknown critical option",
            Self::Replaced => "the association was replaced",
        })
    }
}

impl core::error::Error for Failure {}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// NSTART interactions are in flight, or a Confirmable notification to this observer is.
    Busy,
    /// As many messages as there is room for are unsettled.
    Full,
    /// No copy of it can be kept: it is too long, or the memory for copies is used up.
    TooLong,
    /// The exchange was answered before.
    Answered,
    /// It could not be written.
    Write(WriteError),
    /// Object security cannot protect it.
    Protect(Unprotectable),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("as many requests as the remote may get at once are in flight"),
            Self::Full => f.write_str("there is no room for one more unsettled message"),
            Self::TooLong => f.write_str("no copy of the message can be kept"),
            Self::Answered => f.write_str("the request was answered before"),
            Self::Write(error) => error.fmt(f),
            Self::Protect(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}

impl From<Unprotectable> for SendError {
    fn from(error: Unprotectable) -> Self {
        Self::Protect(error)
    }
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Names an outstanding request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub(super) MessageId);
