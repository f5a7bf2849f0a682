//! What was sent and is not settled (RFC 7252 §4.2, §4.7): retransmission, and requests that await their response.
//!
//! Invariant: a copy is kept exactly as long as the message may have to be sent again.

use super::{Failure, RequestId, Sent};
use crate::parameters::Parameters;
use crate::time::{Instant, millis};
use crate::token::Token;
use crate::udp::MessageId;
use crate::{Delivery, Rng};

/// One message of ours.
#[derive(Debug)]
pub(super) struct Outgoing<B, K> {
    pub(super) role: Role,
    pub(super) phase: Phase,
    /// How often it may still be sent again.
    left: u8,
    pub(super) id: MessageId,
    pub(super) token: Token,
    /// The current timeout in milliseconds.
    timeout: u32,
    /// When it is sent again or given up.
    pub(super) deadline: Instant,
    pub(super) copy: Option<B>,
    pub(super) binding: Option<K>,
}

/// What the message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Request,
    /// A separate Confirmable response.
    Response,
    /// A Confirmable notification.
    Notification,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Confirmable, neither acknowledged nor answered.
    Unacknowledged,
    /// A Non-confirmable request without a response.
    Unanswered,
    /// A Confirmable request that was acknowledged and is without a response.
    Acknowledged,
    /// Failed; the owner has yet to hear of it.
    Failed(Failure),
}

impl<B, K> Outgoing<B, K> {
    pub(super) fn new(
        now: Instant,
        parameters: &Parameters,
        (role, delivery): (Role, Delivery),
        (id, token): (MessageId, Token),
        binding: Option<K>,
        rng: &mut Rng<'_>,
    ) -> Self {
        let (phase, timeout) = match delivery {
            Delivery::Confirmable => (Phase::Unacknowledged, initial_timeout(parameters, rng)),
            Delivery::NonConfirmable => (Phase::Unanswered, short(parameters.response_timeout)),
        };
        let deadline = now.after_millis(timeout.into());
        let left = parameters.max_retransmit;
        Self { role, phase, left, id, token, timeout, deadline, copy: None, binding }
    }

    /// Whether it counts against NSTART (RFC 7252 §4.7). A separate response must not wait for a request. The response to
    /// a Non-confirmable request is expected no longer than an acknowledgement would be: it may well be lost.
    pub(super) fn is_in_flight(&self, now: Instant, parameters: &Parameters) -> bool {
        match self.phase {
            Phase::Unacknowledged => self.role != Role::Response,
            Phase::Unanswered => {
                let later =
                    millis(parameters.response_timeout).saturating_sub(millis(parameters.ack_timeout));
                self.deadline > now.after_millis(later)
            }
            _ => false,
        }
    }

    /// Whether it is to be sent again now; if so, counts it and sets the next deadline.
    pub(super) fn retransmit(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Unacknowledged || self.deadline > now {
            return false;
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.timeout = self.timeout.saturating_mul(2);
        self.deadline = now.after_millis(self.timeout.into());
        true
    }

    /// Notes the empty acknowledgement of a request.
    pub(super) fn acknowledge(&mut self, now: Instant, parameters: &Parameters) {
        self.phase = Phase::Acknowledged;
        self.copy = None;
        self.deadline = now.saturating_add(parameters.response_timeout);
    }

    /// Why it has failed by now.
    pub(super) fn failure(&self, now: Instant) -> Option<Failure> {
        match self.phase {
            Phase::Failed(failure) => Some(failure),
            Phase::Unacknowledged if self.left > 0 => None,
            _ => (self.deadline <= now).then_some(Failure::TimedOut),
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.phase = Phase::Failed(failure);
        self.copy = None;
        self.deadline = Instant::default();
    }

    pub(super) fn sent(&self) -> Sent {
        match self.role {
            Role::Request => Sent::Request(RequestId(self.id)),
            Role::Response => Sent::Response(self.token),
            Role::Notification => Sent::Notification(self.token),
        }
    }
}

/// RFC 7252 §4.2: between ACK_TIMEOUT and ACK_TIMEOUT × ACK_RANDOM_FACTOR.
fn initial_timeout(parameters: &Parameters, rng: &mut Rng<'_>) -> u32 {
    let mut random = [0; 2];
    rng(&mut random);
    let least = short(parameters.ack_timeout);
    let extra = u32::from(parameters.ack_random_percent.saturating_sub(100));
    let spread = least.saturating_mul(extra) / 100;
    // The product of 32 and 16 bits, without its lower 16: it fits in 32.
    let part = u64::from(spread).wrapping_mul(u64::from(u16::from_le_bytes(random))) >> 16;
    least.saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
}

/// Milliseconds in 32 bits, which are 49 days.
fn short(duration: core::time::Duration) -> u32 {
    u32::try_from(millis(duration)).unwrap_or(u32::MAX)
}
