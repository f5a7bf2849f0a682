//! Deadlines in a heap with lazy deletion: one look at the head tells when to wake.
//!
//! Invariant: an owner keeps the [`Instant`] it is armed for; an entry that does not match it any more is dropped when it
//! comes up, and an owner is armed again only for an earlier time, so an owner has few entries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lwm2m_coap::Instant;

/// What an owner is armed for that is not armed: smaller than an option, of which every device has two.
pub(crate) const NEVER: Instant = Instant::from_millis(u64::MAX);

/// Deadlines of owners named by `K`.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new() }
    }

    /// Sees to it that the owner comes up at `at`, unless it does so before. `armed` belongs to the owner.
    pub(crate) fn arm(&mut self, armed: &mut Instant, at: Instant, owner: K) {
        if at < *armed {
            *armed = at;
            self.heap.push(Reverse((at, owner)));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next owner whose time has come, with the time it was armed for: to be compared with what it keeps.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_later_deadline_costs_no_entry() {
        let mut timers = Timers::new();
        let mut armed = NEVER;
        timers.arm(&mut armed, Instant::from_millis(50), 1);
        timers.arm(&mut armed, Instant::from_millis(70), 1);
        timers.arm(&mut armed, Instant::from_millis(20), 1);
        assert_eq!(armed, Instant::from_millis(20));
        assert_eq!(timers.pop(Instant::from_millis(10)), None);
        assert_eq!(timers.pop(Instant::from_millis(60)), Some((Instant::from_millis(20), 1)));
        assert_eq!(timers.pop(Instant::from_millis(60)), Some((Instant::from_millis(50), 1)));
        assert_eq!(timers.pop(Instant::from_millis(900)), None);
    }
}
