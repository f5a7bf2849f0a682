//! A body that arrives in blocks: one at a time, from one server (RFC 7959 §2.5).
//!
//! Structured bodies are assembled up to the size of the client's body buffer; opaque ones that an object streams are
//! handed on block by block. Invariant: a transfer that stands still gives its place up.

use lwm2m_coap::Instant;
use lwm2m_coap::block::{Receive, Szx};

/// For how many seconds a transfer may stand still: EXCHANGE_LIFETIME (RFC 7959 §2.5 leaves it open).
const PATIENCE: u32 = 247;

/// The transfer that is under way.
#[derive(Default)]
pub(crate) struct Assembly {
    transfer: Option<Transfer>,
}

struct Transfer {
    slot: usize,
    receive: Receive,
    deadline: Instant,
    /// What comes is handed on, and needs no room here.
    is_streamed: bool,
}

impl Assembly {
    /// The bound of a body that is handed on as it comes.
    pub(crate) const STREAMED: u32 = u32::MAX;

    /// The machine for a block from this server, a fresh one for the first of a body; `None` while another server's
    /// transfer is under way.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        slot: usize,
        is_first: bool,
        largest: Szx,
        cap: u32,
    ) -> Option<&mut Receive> {
        let deadline = now.after_secs(PATIENCE);
        if self
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.slot != slot && transfer.receive.is_active())
        {
            return None;
        }
        let is_same = |transfer: &Transfer| transfer.slot == slot && !is_first;
        if !self.transfer.as_ref().is_some_and(is_same) {
            let receive = Receive::new(largest, cap);
            self.transfer = Some(Transfer { slot, receive, deadline, is_streamed: cap == Self::STREAMED });
        }
        self.transfer.as_mut().map(|transfer| {
            transfer.deadline = deadline;
            &mut transfer.receive
        })
    }

    /// Ends whatever is under way.
    pub(crate) fn clear(&mut self) {
        self.transfer = None;
    }

    /// Ends a transfer that needs the body buffer.
    pub(crate) fn give_way(&mut self) {
        self.transfer.take_if(|transfer| !transfer.is_streamed);
    }

    /// Ends the transfer of this server.
    pub(crate) fn forget(&mut self, slot: usize) {
        self.transfer.take_if(|transfer| transfer.slot == slot);
    }

    /// Ends a transfer that stood still for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.transfer.take_if(|transfer| transfer.deadline <= now);
    }

    /// When [`Assembly::expire`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transfer.as_ref().map(|transfer| transfer.deadline)
    }
}
