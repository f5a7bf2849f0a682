//! The anti-replay window of RFC 6347 §4.1.2.6 (invariant: it moves only when told that a record was authentic).

/// Which of the last 64 record sequence numbers of an epoch were seen.
#[derive(Clone, Copy, Default)]
pub(crate) struct ReplayWindow {
    /// One more than the highest number seen; 0 before the first.
    next: u64,
    /// Bit n: `next - 1 - n` was seen.
    seen: u64,
}

impl ReplayWindow {
    /// One more than the highest number seen, and the numbers seen.
    #[cfg(feature = "server")]
    pub(crate) const fn parts(&self) -> (u64, u64) {
        (self.next, self.seen)
    }

    /// A window from its [`parts`](Self::parts).
    #[cfg(feature = "server")]
    pub(crate) const fn from_parts(next: u64, seen: u64) -> Self {
        Self { next, seen }
    }

    /// Whether `sequence` is neither a repetition nor left of the window.
    pub(crate) fn is_fresh(&self, sequence: u64) -> bool {
        match self.next.checked_sub(sequence).and_then(|distance| distance.checked_sub(1)) {
            None => true,
            Some(age) => age < 64 && (self.seen >> age) & 1 == 0,
        }
    }

    /// Whether `sequence` is greater than any that was recorded.
    pub(crate) const fn is_newest(&self, sequence: u64) -> bool {
        sequence >= self.next
    }

    /// Records an authentic `sequence`.
    pub(crate) fn record(&mut self, sequence: u64) {
        match self.next.checked_sub(sequence).and_then(|distance| distance.checked_sub(1)) {
            None => {
                let next = sequence.saturating_add(1);
                let shift = u32::try_from(next.saturating_sub(self.next)).unwrap_or(u32::MAX);
                self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
                self.next = next;
            }
            Some(age) => {
                self.seen |= u32::try_from(age).ok().and_then(|age| 1_u64.checked_shl(age)).unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_fresh_once_up_to_the_edge_of_64() {
        let mut window = ReplayWindow::default();
        assert!(window.is_fresh(0));
        window.record(0);
        assert!(!window.is_fresh(0));
        window.record(63);
        assert!(!window.is_fresh(0));
        assert!(!window.is_fresh(63));
        assert!((1..63).all(|sequence| window.is_fresh(sequence)));
        window.record(1);
        assert!(!window.is_fresh(1));
        window.record(64);
        assert!(!window.is_fresh(0), "left of the window");
        assert!(window.is_fresh(2));
        window.record(66);
        assert!(!window.is_fresh(2), "left of the window");
        assert!(window.is_fresh(3));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_everything_before() {
        let mut window = ReplayWindow::default();
        (0..10).for_each(|sequence| window.record(sequence));
        window.record((1 << 48) - 1);
        assert!(!window.is_fresh(9));
        assert!(!window.is_fresh((1 << 48) - 1));
        assert!(window.is_fresh((1 << 48) - 64));
        assert!(!window.is_fresh((1 << 48) - 65));
    }
}
