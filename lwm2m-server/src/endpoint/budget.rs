//! What bodies that come in blocks may take of the memory, over all devices of an endpoint.
//!
//! Invariant: what is taken is given back when the body is dropped or handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are left.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// A body that is being put together.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    /// How much of the budget it has taken: what it has room for.
    held: usize,
    budget: Budget,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

impl Body {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self { bytes: Vec::new(), held: 0, budget: budget.clone() }
    }

    /// Puts a part where it belongs: right behind what is here, or over its end.
    pub(crate) fn put(&mut self, offset: u32, part: &[u8]) -> Result<(), OverBudget> {
        self.bytes.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        let length = self.bytes.len().saturating_add(part.len());
        if length > self.held {
            // Twice as much if there is that much, so that a long body is not copied for each part.
            self.held = [length.max(self.held.saturating_mul(2)), length]
                .into_iter()
                .find(|wanted| self.budget.take(wanted.saturating_sub(self.held)))
                .ok_or(OverBudget)?;
            self.bytes.reserve_exact(self.held.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Hands the body on.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.give_back();
        core::mem::take(&mut self.bytes)
    }

    fn give_back(&mut self) {
        self.budget.0.fetch_add(core::mem::take(&mut self.held), Ordering::Relaxed);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(budget: &Budget) -> usize {
        budget.0.load(Ordering::Relaxed)
    }

    #[test]
    fn bodies_share_the_budget_and_give_back_what_they_took() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (Body::new(&budget), Body::new(&budget));
        assert_eq!(one.put(0, &[1; 40]), Ok(()));
        assert_eq!(other.put(0, &[2; 60]), Ok(()));
        assert_eq!((one.put(40, &[1; 1]), left(&budget)), (Err(OverBudget), 0));
        // What is here already needs nothing more.
        assert_eq!(one.put(39, &[3; 1]), Ok(()));
        drop(other);
        assert_eq!(left(&budget), 60);
        assert_eq!(one.put(40, &[1; 1]), Ok(()));
        assert_eq!(left(&budget), 20);
        // Twice as much is not there any more, what is needed is.
        assert_eq!(one.put(41, &[1; 50]), Ok(()));
        assert_eq!((left(&budget), one.bytes.len()), (9, 91));
        assert_eq!(one.put(41, &[]), Ok(()));
        assert_eq!(one.take().len(), 41);
        assert_eq!(left(&budget), 100);
        drop(one);
        assert_eq!(left(&budget), 100);
    }
}
