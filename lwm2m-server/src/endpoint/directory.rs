//! Which thread a registered device belongs to, and the numbers of the locations: the one thing that the threads share.
//!
//! It is looked at when a device registers, leaves or is asked for something, never for a packet of a registered device.
//! Invariants: one claim for each endpoint name; one location for each living registration.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::location::{Location, VirtualShard};
use super::slab::Key;

/// The names of all registered devices, divided by virtual shard.
pub(crate) struct Directory(Vec<Mutex<Names>>);

#[derive(Default)]
struct Names {
    claims: HashMap<Arc<str>, Claim>,
    /// Numbers of locations that were given back, and how many were ever given out.
    free: Vec<u32>,
    used: u32,
}

/// Who has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The number of the thread.
    pub(crate) owner: u8,
    pub(crate) place: Place,
}

/// Where a registration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At its owner.
    Here(Key),
    /// On its way to its owner: the one with this number of a location.
    Moving(u32),
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self((0..=u8::MAX).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn find(&self, endpoint: &str) -> Option<Claim> {
        self.names(VirtualShard::of(endpoint))?.claims.get(endpoint).copied()
    }

    /// Claims a device; answers who had it.
    pub(crate) fn claim(&self, endpoint: &Arc<str>, claim: Claim) -> Option<Claim> {
        self.names(VirtualShard::of(endpoint))?.claims.insert(Arc::clone(endpoint), claim)
    }

    /// Passes a claim on, unless somebody else has it by now.
    pub(crate) fn pass_on(&self, endpoint: &str, from: Claim, to: Claim) -> bool {
        let Some(mut names) = self.names(VirtualShard::of(endpoint)) else { return false };
        let claim = names.claims.get_mut(endpoint).filter(|claim| **claim == from);
        claim.map(|claim| *claim = to).is_some()
    }

    /// Gives a claim back, unless somebody else has it by now.
    pub(crate) fn release(&self, endpoint: &str, claim: Claim) {
        if let Some(mut names) = self.names(VirtualShard::of(endpoint))
            && names.claims.get(endpoint) == Some(&claim)
        {
            names.claims.remove(endpoint);
        }
    }

    /// A location that no other registration has; `None` when 2³² of this virtual shard are in use.
    pub(crate) fn locate(&self, endpoint: &str) -> Option<Location> {
        let shard = VirtualShard::of(endpoint);
        let mut names = self.names(shard)?;
        let slot = match names.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = names.used;
                names.used = slot.checked_add(1)?;
                slot
            }
        };
        Some(Location { shard, slot })
    }

    /// The location of a registration of a former run; `None` when another one has it. Best in the order of their slots.
    pub(crate) fn locate_again(&self, endpoint: &str, slot: u32) -> Option<Location> {
        let shard = VirtualShard::of(endpoint);
        let mut names = self.names(shard)?;
        if slot >= names.used {
            let skipped = names.used..slot;
            names.free.extend(skipped);
            names.used = slot.checked_add(1)?;
        } else {
            let place = names.free.iter().rposition(|free| *free == slot)?;
            names.free.swap_remove(place);
        }
        Some(Location { shard, slot })
    }

    /// Gives a location back.
    pub(crate) fn vacate(&self, location: Location) {
        if let Some(mut names) = self.names(location.shard) {
            names.free.push(location.slot);
        }
    }

    fn names(&self, shard: VirtualShard) -> Option<MutexGuard<'_, Names>> {
        let names = self.0.get(usize::from(shard.0))?;
        // Each change is one step, so that a panic elsewhere leaves nothing half done.
        Some(names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl core::fmt::Debug for Directory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::endpoint::slab::Generation;

    const fn claim(owner: u8, slot: u32) -> Claim {
        Claim { owner, place: Place::Here(Key { slot, generation: Generation::MIN }) }
    }

    #[test]
    fn a_claim_takes_no_more_room_for_what_moves() {
        assert_eq!(size_of::<Claim>(), 12);
    }

    #[test]
    fn a_claim_goes_to_who_registered_last_and_back_only_from_who_has_it() {
        let directory = Directory::new();
        let name = Arc::from("a");
        assert_eq!(directory.claim(&name, claim(0, 1)), None);
        assert_eq!(directory.claim(&name, claim(1, 2)), Some(claim(0, 1)));
        directory.release("a", claim(0, 1));
        assert_eq!(directory.find("a"), Some(claim(1, 2)));
        assert!(!directory.pass_on("a", claim(0, 1), claim(2, 3)));
        assert!(directory.pass_on("a", claim(1, 2), claim(2, 3)));
        directory.release("a", claim(2, 3));
        assert_eq!(directory.find("a"), None);
    }

    #[test]
    fn a_location_is_used_again_once_it_was_given_back() {
        let directory = Directory::new();
        let locations: Vec<_> = (0..3).map(|_| directory.locate("a").unwrap()).collect();
        assert_eq!(locations.iter().map(|location| location.slot).collect::<Vec<_>>(), [0, 1, 2]);
        directory.vacate(locations.get(1).copied().unwrap());
        assert_eq!(directory.locate("a").unwrap().slot, 1);
        assert_eq!(directory.locate("a").unwrap().slot, 3);
    }

    #[test]
    fn a_location_of_a_former_run_is_taken_again_once() {
        let directory = Directory::new();
        for slot in [2, 0, 5] {
            assert_eq!(directory.locate_again("a", slot).unwrap().slot, slot);
            assert!(directory.locate_again("a", slot).is_none());
        }
        let mut others: Vec<_> = (0..4).map(|_| directory.locate("a").unwrap().slot).collect();
        others.sort_unstable();
        assert_eq!(others, [1, 3, 4, 6]);
    }
}
