//! How often an address may come with a wrong token.
//!
//! Invariants: the memory is the same whoever comes; who has a good token is not concerned, whatever others do from the same
//! address, as behind a proxy.

use core::hash::BuildHasher as _;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::hash_map::RandomState;
use std::time::Instant;

/// Addresses share so many accounts, a power of two; who shares one cannot be chosen without the key of the hash.
const ACCOUNTS: usize = 1024;
/// Wrong tokens that are answered at once.
const BURST: u64 = 100;
/// Time after which one more is answered, in milliseconds.
const INTERVAL: u64 = 1000;

/// Accounts of wrong tokens by address.
#[derive(Debug)]
pub(super) struct Failures {
    /// When each account would be clear again, in milliseconds since the start.
    clear_at: Box<[AtomicU64]>,
    key: RandomState,
    start: Instant,
    /// Wrong tokens so far.
    count: AtomicU64,
}

impl Default for Failures {
    fn default() -> Self {
        let clear_at = core::iter::repeat_with(AtomicU64::default).take(ACCOUNTS).collect();
        Self { clear_at, key: RandomState::new(), start: Instant::now(), count: AtomicU64::default() }
    }
}

impl Failures {
    /// Counts a wrong token, and says whether it is still one of those that are answered.
    pub(super) fn allow(&self, address: IpAddr) -> bool {
        self.allow_at(address, u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Wrong tokens so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn allow_at(&self, address: IpAddr, now: u64) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Who has an IPv6 address has the network of it.
        let address = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => u64::from(address.to_bits()),
                None => (address.to_bits() >> 64) as u64,
            },
        };
        let hash = self.key.hash_one(address) as usize;
        let account = hash & ACCOUNTS.saturating_sub(1);
        let Some(clear_at) = self.clear_at.get(account) else { return false };
        let spend = |clear_at: u64| {
            let from = clear_at.max(now);
            let owed = from.saturating_sub(now);
            (owed <= BURST.saturating_sub(1).saturating_mul(INTERVAL))
                .then_some(from.saturating_add(INTERVAL))
        };
        clear_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn many_wrong_tokens_of_one_address_are_limited_and_others_are_not_concerned() {
        let failures = Failures::default();
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2:1", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..BURST {
            assert!(failures.allow_at(one, 5));
        }
        assert!(!failures.allow_at(one, 5) && !failures.allow_at(same, 5 + INTERVAL - 1));
        assert!(failures.allow_at(same, 5 + INTERVAL) && !failures.allow_at(one, 5 + INTERVAL));
        // Unless it shares the account, with one chance in a thousand: then another one does not.
        let mapped = "::ffff:192.0.2.200".parse().unwrap();
        assert!(failures.allow_at(other, 5) || failures.allow_at(mapped, 5));
        assert!(failures.count() > BURST);
    }
}
