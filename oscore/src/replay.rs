//! The window of Partial IVs of requests that were received (RFC 8613 §7.4, Appendix B.1.2).
//!
//! Invariant: a number is accepted at most once; a window that was lost accepts none until a request proved to be fresh.

use crate::option::PartialIv;

/// The numbers that may still come: above the highest one seen, or one of the 32 up to it that was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayWindow {
    /// Bit n: the number n below the highest was seen.
    seen: u32,
    /// One more than the highest number seen; 0 when none was.
    end: u64,
    lost: bool,
}

impl ReplayWindow {
    /// How many numbers it spans (RFC 8613 §3.2.2: the default of DTLS).
    pub const SIZE: u32 = u32::BITS;

    /// The window of keys under which nothing was received.
    pub const FRESH: Self = Self { seen: 0, end: 0, lost: false };

    /// The window of keys of which nobody knows what was received under them.
    pub const LOST: Self = Self { seen: 0, end: 0, lost: true };

    /// Whether it was lost: an Echo has to prove that a request is no replay (RFC 8613 Appendix B.1.2).
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether no higher number was seen.
    pub(crate) const fn is_last(&self, partial_iv: PartialIv) -> bool {
        self.end <= partial_iv.sequence().saturating_add(1)
    }

    /// Whether a request with this number may be new. True for every number while the window is lost.
    #[must_use]
    pub fn accepts(&self, partial_iv: PartialIv) -> bool {
        let number = partial_iv.sequence();
        match self.end.checked_sub(1).and_then(|highest| highest.checked_sub(number)) {
            Some(below) => {
                u32::try_from(below).is_ok_and(|below| below < Self::SIZE && self.seen >> below & 1 == 0)
            }
            None => true,
        }
    }

    /// Notes a number that was authenticated; does nothing while the window is lost.
    pub(crate) fn note(&mut self, partial_iv: PartialIv) {
        if self.lost {
            return;
        }
        let number = partial_iv.sequence();
        match number.checked_sub(self.end) {
            Some(ahead) => {
                let shift = u32::try_from(ahead.saturating_add(1)).unwrap_or(u32::MAX);
                self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
                self.end = number.saturating_add(1);
            }
            None => {
                let below = self.end.saturating_sub(1).saturating_sub(number);
                self.seen |=
                    u32::try_from(below).ok().and_then(|below| 1_u32.checked_shl(below)).unwrap_or(0);
            }
        }
    }

    /// Notes the number of a request that was proved to be fresh, as the highest one if the window was lost (RFC 8613 Appendix
    /// B.1.2). Whether it is new.
    pub(crate) fn recover(&mut self, partial_iv: PartialIv) -> bool {
        let is_new = self.lost || self.accepts(partial_iv);
        if self.lost {
            *self = Self { seen: u32::MAX, end: partial_iv.sequence().saturating_add(1), lost: false };
        } else if is_new {
            self.note(partial_iv);
        }
        is_new
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn iv(number: u64) -> PartialIv {
        PartialIv::new(number).unwrap()
    }

    #[test]
    fn both_edges_of_the_window_are_where_they_belong() {
        let mut window = ReplayWindow::FRESH;
        window.note(iv(100));
        assert!(window.accepts(iv(100 - 31)));
        assert!(!window.accepts(iv(100 - 32)));
        assert!(!window.accepts(iv(100)));
        assert!(window.accepts(iv(101)));
        window.note(iv(100 - 31));
        assert!(!window.accepts(iv(100 - 31)));
        window.note(iv(101));
        assert!(!window.accepts(iv(100 - 31)) && window.accepts(iv(100 - 30)));
        window.note(PartialIv::MAX);
        assert!(!window.accepts(PartialIv::MAX) && !window.accepts(iv(101)) && !window.accepts(iv(0)));
    }

    // RFC 8613 Appendix B.1.2
    #[test]
    fn a_lost_window_notes_nothing_until_a_request_proved_to_be_fresh() {
        let mut window = ReplayWindow::LOST;
        window.note(iv(7));
        assert!(window.accepts(iv(7)) && window.is_lost());
        window.recover(iv(7));
        assert!(
            !window.is_lost() && !window.accepts(iv(7)) && !window.accepts(iv(6)) && window.accepts(iv(8))
        );
        // What was challenged before and proved later: each once.
        assert!(!window.recover(iv(7)) && !window.recover(iv(3)));
        assert!(window.recover(iv(9)) && !window.recover(iv(9)) && !window.accepts(iv(9)));
    }

    proptest! {
        #[test]
        fn the_window_is_a_set_with_a_horizon(numbers in prop::collection::vec(0_u64..200, 0..200)) {
            let mut window = ReplayWindow::FRESH;
            let mut seen = BTreeSet::new();
            for number in numbers {
                let horizon = seen.last().map_or(0, |highest: &u64| highest.saturating_sub(31));
                let is_new = !seen.contains(&number) && number >= horizon;
                prop_assert_eq!(window.accepts(iv(number)), is_new);
                if is_new {
                    window.note(iv(number));
                    seen.insert(number);
                }
            }
        }
    }
}
