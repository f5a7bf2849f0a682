//! A remote over a planned stop: what goes on with it afterwards, and how it is taken up again.
//!
//! Invariant: no message id and no token comes again, and what was answered before is not executed again.

use crate::parameters::Parameters;
use crate::time::Instant;
use crate::udp::MessageId;

use super::answers::{Answers, State};
use super::{Due, Peer, Stored, TokenPolicy};

/// A message of the remote that was settled, and what its repetition gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<'b> {
    /// Its message id.
    pub id: MessageId,
    /// Until when it is remembered.
    pub expiry: Instant,
    /// What its repetition gets.
    pub reply: Reply<'b>,
}

/// What the repetition of a message gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// The same answer.
    Repeat(&'b [u8]),
    /// An empty acknowledgement.
    Acknowledge,
    /// Nothing.
    Silence,
}

impl<B, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize, K, A: Stored>
    Peer<B, REQUESTS, ANSWERS, NOTIFIED, K, A>
{
    /// The message id and the token that come next: to be handed to [`Peer::restored`].
    pub const fn numbers(&self) -> (MessageId, TokenPolicy) {
        (MessageId(self.next_id), self.tokens)
    }

    /// The messages that were settled and are remembered, oldest first. A request that still waits for its answer is none of
    /// them, nor is one whose answer could not be stored: its repetition is to be executed.
    pub fn settled(&self) -> impl Iterator<Item = Settled<'_>> {
        self.answers.iter().filter_map(|(id, expiry, state, bytes)| {
            let reply = match (state, bytes) {
                (State::InProcess | State::Deferred | State::Repeatable, _) => return None,
                (State::Answered, Some(bytes)) => Reply::Repeat(bytes.bytes()),
                (State::Answered, None) | (State::Silent, _) => Reply::Silence,
                (State::Acknowledged, _) => Reply::Acknowledge,
            };
            Some(Settled { id, expiry, reply })
        })
    }

    /// A remote that was known before a stop, with the [`numbers`](Self::numbers) of then. What was under way is forgotten.
    #[must_use]
    pub const fn restored(
        parameters: &'static Parameters,
        (MessageId(next_id), tokens): (MessageId, TokenPolicy),
    ) -> Self {
        Self {
            parameters,
            tokens,
            next_id,
            due: Due::Nothing,
            outgoing: heapless::Vec::new(),
            answers: Answers::new(),
            notified: heapless::Vec::new(),
        }
    }

    /// Remembers a message that was settled before the stop, beside as many others as there is room for.
    pub fn remember(&mut self, now: Instant, settled: &Settled<'_>) {
        let (state, bytes) = match settled.reply {
            Reply::Repeat(bytes) => (State::Answered, A::store(bytes)),
            Reply::Acknowledge => (State::Acknowledged, None),
            Reply::Silence => (State::Silent, None),
        };
        self.answers.remember(now, settled.expiry.since(now), settled.id, state, true);
        self.answers.set(settled.id, state, bytes);
    }
}
