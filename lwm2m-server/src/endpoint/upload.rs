//! An object list that comes in blocks (RFC 7959 §2.5).
//!
//! Invariants: its length and how long it may stand still are bounded; all lists share one budget.

use std::time::Duration;

use lwm2m_coap::block::{Block, Receive, Received, Szx};
use lwm2m_coap::{Code, Instant, Message};

use super::budget::{Body, Budget};
use super::uplink::Reply;

/// An object list on its way here in blocks.
#[derive(Debug)]
pub(crate) struct Upload {
    receive: Receive,
    body: Body,
    /// When it has stood still for too long.
    deadline: Instant,
}

/// The longest object list, in bytes.
const LONGEST_LIST: u32 = 16_384;

/// For how long it may stand still: EXCHANGE_LIFETIME (RFC 7959 §2.5 leaves it open).
const PATIENCE: Duration = Duration::from_secs(247);

impl Upload {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            receive: Receive::new(Szx::LARGEST, LONGEST_LIST),
            body: Body::new(budget),
            deadline: Instant::default(),
        }
    }

    /// Takes a block; the whole body once it is complete, with the block to acknowledge, else what to answer.
    pub(super) fn take(
        &mut self,
        now: Instant,
        message: &Message<'_>,
    ) -> Result<(Vec<u8>, Option<Block>), Reply> {
        match self.receive.handle(message) {
            Ok(Received::Part { offset, bytes, last, answer }) => {
                self.deadline = now.saturating_add(PATIENCE);
                // RFC 7252 §5.9.3.4: not now.
                if self.body.put(offset, bytes).is_err() {
                    self.receive.abort();
                    return Err(Code::SERVICE_UNAVAILABLE.into());
                }
                match last {
                    true => Ok((self.body.take(), answer)),
                    false => Err(Reply { block: answer, ..Code::CONTINUE.into() }),
                }
            }
            Ok(Received::Repeated { answer }) => Err(Reply { block: Some(answer), ..Code::CONTINUE.into() }),
            // RFC 7959 §2.9.3: 4.13 says how much is taken.
            Err(refusal) => Err(Reply { size: refusal.size, ..refusal.code.into() }),
        }
    }

    /// Whether further blocks are expected.
    pub(super) const fn is_active(&self) -> bool {
        self.receive.is_active()
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it has stood still for too long.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deadline <= now
    }
}
