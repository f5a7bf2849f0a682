//! Sender sequence numbers that never repeat under one key (RFC 8613 §5.2, Appendix B.1.1).
//!
//! 1. [`SenderSequence::wanted`] says which bound to put into durable storage; the owner of the session does so and calls
//!    [`SenderSequence::reserve`] when it is there. Numbers below the bound may be used meanwhile.
//! 2. After a restart, [`SenderSequence::restored`] goes on from the bound: numbers that were reserved and not used are lost.
//!
//! Invariant: no number is handed out twice, and none at or beyond the bound that is in storage.

use crate::option::PartialIv;

/// The next number of a sender, and the bound up to which storage knows of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderSequence {
    next: u64,
    reserved: u64,
}

impl SenderSequence {
    /// How many numbers are reserved at a time.
    pub const STEP: u64 = 256;
    /// With fewer than this left, the next ones are wanted.
    pub const LOW_WATER: u64 = 64;
    /// Numbers there are: 2^40.
    pub(crate) const END: u64 = PartialIv::MAX.sequence().saturating_add(1);

    /// The sequence of keys that no message was protected with and no storage knows of: nothing can be sent, and no request
    /// be taken, before [`SenderSequence::reserve`]. So keys that storage has no bound of were never used.
    pub const FRESH: Self = Self { next: 0, reserved: 0 };

    /// The sequence of keys that end with this process (RFC 8613 Appendix B.2): all numbers may be used.
    pub const VOLATILE: Self = Self { next: 0, reserved: Self::END };

    /// The sequence as storage knows it: `bound` is what was last reserved, or 0 when nothing was.
    #[must_use]
    pub const fn restored(bound: u64) -> Self {
        let bound = if bound < Self::END { bound } else { Self::END };
        Self { next: bound, reserved: bound }
    }

    /// Notes that storage has `bound`. A lower one than before changes nothing.
    pub const fn reserve(&mut self, bound: u64) {
        let bound = if bound < Self::END { bound } else { Self::END };
        if bound > self.reserved {
            self.reserved = bound;
        }
    }

    /// The bound that storage should have next, when few numbers are left; `None` when enough are, or the last is reserved.
    #[must_use]
    pub const fn wanted(&self) -> Option<u64> {
        if self.reserved >= Self::END || self.reserved.saturating_sub(self.next) >= Self::LOW_WATER {
            return None;
        }
        let bound = self.reserved.saturating_add(Self::STEP);
        Some(if bound < Self::END { bound } else { Self::END })
    }

    /// Whether storage knows of these keys at all.
    pub(crate) const fn is_reserved(&self) -> bool {
        self.reserved > 0
    }

    /// The number that goes out next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next number; `None` when none is reserved, or all 2^40 are used.
    pub(crate) fn take(&mut self) -> Option<PartialIv> {
        if self.next >= self.reserved {
            return None;
        }
        let partial_iv = PartialIv::new(self.next)?;
        self.next = self.next.saturating_add(1);
        Some(partial_iv)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_that_storage_does_not_know_of() {
        let mut sequence = SenderSequence::FRESH;
        assert_eq!(sequence.take(), None);
        assert_eq!(sequence.wanted(), Some(SenderSequence::STEP));
        sequence.reserve(2);
        assert_eq!(sequence.take(), PartialIv::new(0));
        assert_eq!(sequence.take(), PartialIv::new(1));
        assert_eq!(sequence.take(), None);
        sequence.reserve(1);
        assert_eq!(sequence.take(), None);
    }

    #[test]
    fn a_restart_goes_on_behind_all_that_was_reserved() {
        let mut sequence = SenderSequence::FRESH;
        sequence.reserve(sequence.wanted().unwrap());
        let used = sequence.take().unwrap();
        let mut restarted = SenderSequence::restored(SenderSequence::STEP);
        assert_eq!(restarted.take(), None);
        restarted.reserve(restarted.wanted().unwrap());
        assert!(restarted.take().unwrap().sequence() >= SenderSequence::STEP && used.sequence() == 0);
    }

    #[test]
    fn more_are_wanted_while_some_are_left() {
        let mut sequence = SenderSequence::FRESH;
        sequence.reserve(SenderSequence::STEP);
        for _ in 0..SenderSequence::STEP - SenderSequence::LOW_WATER {
            assert_eq!(sequence.wanted(), None);
            sequence.take().unwrap();
        }
        assert_eq!(sequence.wanted(), None);
        sequence.take().unwrap();
        assert_eq!(sequence.wanted(), Some(2 * SenderSequence::STEP));
    }

    // RFC 8613 §7.2.1: no message after the last number.
    #[test]
    fn the_last_number_is_the_last() {
        let mut sequence = SenderSequence::restored(PartialIv::MAX.sequence());
        assert_eq!(sequence.wanted(), Some(PartialIv::MAX.sequence() + 1));
        sequence.reserve(u64::MAX);
        assert_eq!(sequence.take(), Some(PartialIv::MAX));
        assert_eq!((sequence.take(), sequence.wanted()), (None, None));
    }
}
