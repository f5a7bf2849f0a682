//! A request of the remote and how it will be answered (RFC 7252 §5.2).
//!
//! Invariant: an exchange is answered once.

use super::Delivery;
#[cfg(doc)]
use super::Peer;
use crate::token::Token;
use crate::udp::{Kind, MessageId};

/// A request of the remote that is to be answered with [`Peer::respond`]. One that is dropped stays unanswered: until it
/// is forgotten, its duplicates are ignored.
#[derive(Debug)]
pub struct Exchange<K = ()> {
    pub(super) kind: Kind,
    pub(super) answer: Answer,
    pub(super) idempotent: bool,
    pub(super) id: MessageId,
    pub(super) token: Token,
    pub(super) binding: K,
}

impl<K: Clone> Exchange<K> {
    /// The token of the request.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// What object security knows of the request.
    #[must_use]
    pub const fn binding(&self) -> &K {
        &self.binding
    }

    /// Replaces what object security knows of the request.
    pub fn set_binding(&mut self, binding: K) {
        self.binding = binding;
    }

    /// Whether the request was Confirmable.
    #[must_use]
    pub fn is_confirmable(&self) -> bool {
        self.kind == Kind::Confirmable
    }

    /// Whether the exchange was deferred.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.is_confirmable() && matches!(self.answer, Answer::Separate(_))
    }

    /// The observer that this request registers, to be kept for [`Peer::notify`].
    #[must_use]
    pub fn observer(&self) -> Observer<K> {
        Observer { token: self.token, binding: self.binding.clone() }
    }
}

/// How an exchange will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Piggybacked,
    Separate(Delivery),
    Given,
}

/// Who observes something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observer<K = ()> {
    /// The token of the registration, which every notification carries.
    pub token: Token,
    /// What ties notifications to the registration under object security.
    pub binding: K,
}
