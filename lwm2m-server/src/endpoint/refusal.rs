//! Who is refused again and again: answered ever more rarely, and told of at a bounded rate.
//!
//! Invariants: an unknown identity, one that is no longer good and a wrong key count alike, so that nothing shows which it
//! was; only a remote whose cookie came back is counted, so that nobody is refused for another's sake; what is kept is
//! bounded.

use std::collections::HashMap;
use std::time::Duration;

use lwm2m_coap::Instant;

use super::association::Rate;
use super::{Address, Listener};

/// Failed handshakes in a row that cost a remote nothing: an account that was replaced may still be tried.
const FREE: u32 = 3;
/// The longest time that a remote is not answered.
const LONGEST: Duration = Duration::from_secs(32);
/// How long a remote is remembered after its last failure.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Remotes that are remembered at once.
const MOST: usize = 65_536;
/// Refusals told of at once, and in a second in the long run; the others are only counted. For identities that are known,
/// and once more for everybody else: who scans the server does not hide why a device is refused.
const TOLD: (u16, u16) = (100, 10);

/// The remotes that failed lately.
#[derive(Debug)]
pub(crate) struct Refusals {
    failed: HashMap<(Listener, Address), Failed>,
    swept: Instant,
    told_known: Rate,
    told_others: Rate,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Failed {
    /// Until when it is not answered: doubles with each failure beyond the free ones.
    fn silent_until(&self) -> Instant {
        let doublings = self.times.saturating_sub(FREE);
        let wait = Duration::from_millis(500).saturating_mul(1 << doublings.min(16)).min(LONGEST);
        if doublings == 0 { self.last } else { self.last.saturating_add(wait) }
    }
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            failed: HashMap::new(),
            swept: Instant::from_millis(0),
            told_known: Rate::full(),
            told_others: Rate::full(),
        }
    }

    /// Whether a remote is to be answered.
    pub(crate) fn is_answered(&self, now: Instant, remote: (Listener, Address)) -> bool {
        self.failed.is_empty() || self.failed.get(&remote).is_none_or(|failed| failed.silent_until() <= now)
    }

    /// A handshake failed after its identity was named.
    pub(crate) fn failed(&mut self, now: Instant, remote: (Listener, Address)) {
        if self.failed.len() >= MOST && self.swept.saturating_add(REMEMBERED) <= now {
            self.swept = now;
            self.failed.retain(|_, failed| failed.last.saturating_add(REMEMBERED) > now);
        }
        if self.failed.len() >= MOST
            && !self.failed.contains_key(&remote)
            && let Some(any) = self.failed.keys().next().copied()
        {
            self.failed.remove(&any);
        }
        let failed = self.failed.entry(remote).or_insert(Failed { times: 0, last: now });
        let is_forgotten = failed.last.saturating_add(REMEMBERED) <= now;
        failed.times = if is_forgotten { 1 } else { failed.times.saturating_add(1) };
        failed.last = now;
    }

    /// A handshake of this remote finished.
    pub(crate) fn succeeded(&mut self, remote: (Listener, Address)) {
        if !self.failed.is_empty() {
            self.failed.remove(&remote);
        }
    }

    /// Whether one more refusal is told of, of an identity that is known or of anybody.
    pub(crate) fn is_told(&mut self, now: Instant, is_known: bool) -> bool {
        let rate = if is_known { &mut self.told_known } else { &mut self.told_others };
        rate.take(now, TOLD.0, TOLD.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> (Listener, Address) {
        (Listener::Coaps, std::net::SocketAddr::from(([192, 0, 2, 1], port)).into())
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_ends_with_a_success() {
        let mut refusals = Refusals::new();
        let now = Instant::from_millis(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..12 {
            refusals.failed(now, remote(1));
            let silent = (0..100_u64)
                .take_while(|second| {
                    !refusals.is_answered(now.saturating_add(Duration::from_secs(*second)), remote(1))
                })
                .count();
            waits.push(silent);
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 32, 32, 32]);
        assert!(refusals.is_answered(now, remote(2)));
        refusals.succeeded(remote(1));
        assert!(refusals.is_answered(now, remote(1)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_in_time() {
        let mut refusals = Refusals::new();
        let mut now = Instant::from_millis(1_000_000);
        for port in 0..=u16::MAX {
            refusals.failed(now, remote(port));
        }
        let other = (Listener::BootstrapCoaps, remote(1).1);
        refusals.failed(now, other);
        assert_eq!(refusals.failed.len(), MOST);
        assert!(refusals.failed.contains_key(&other), "another one made room");
        now = now.saturating_add(REMEMBERED);
        refusals.failed(now, other);
        assert_eq!(refusals.failed.len(), 1);
    }
}
