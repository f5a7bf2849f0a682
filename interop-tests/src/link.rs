//! A virtual datagram network between numbered hosts, with a virtual clock.
//!
//! Loss, duplication, delay and with it reordering come from a seed, so that a failing run repeats exactly. The link never
//! looks at real time: the simulation moves the clock to the next arrival or the next timer, whichever is earlier.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::random::Random;

/// The number of a host; what an address is on a real network.
pub type Host = u32;

/// What happens to datagrams of one direction.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// How many of 1,000 datagrams are lost.
    pub loss: u16,
    /// How many of 1,000 datagrams arrive twice.
    pub duplication: u16,
    /// The shortest time a datagram takes.
    pub delay: Duration,
    /// How much longer it may take, drawn for each datagram: later datagrams overtake earlier ones within it.
    pub jitter: Duration,
}

impl Conditions {
    /// Everything arrives once, in order, after 10 ms.
    pub const PERFECT: Self =
        Self { loss: 0, duplication: 0, delay: Duration::from_millis(10), jitter: Duration::ZERO };
    /// A fifth is lost, a tenth arrives twice, and datagrams overtake each other.
    pub const ROUGH: Self = Self {
        loss: 200,
        duplication: 100,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(400),
    };
    /// Nothing arrives.
    pub const CUT: Self = Self { loss: 1000, ..Self::PERFECT };
}

/// A datagram that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub from: Host,
    /// To whom it was sent.
    pub to: Host,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How many datagrams met which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent by a host.
    pub sent: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// Bytes of all sent datagrams.
    pub bytes: u64,
}

/// When it arrives, which one it was to be sent (so that equal arrivals are repeatable), from, to, bytes.
type UnderWay = (Duration, u64, Host, Host, Vec<u8>);

/// The network and its clock.
#[derive(Debug)]
pub struct Link {
    now: Duration,
    random: Random,
    conditions: Conditions,
    directions: HashMap<(Host, Host), Conditions>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    sequence: u64,
    counts: Counts,
}

impl Link {
    /// Creates a network at time zero whose accidents follow from `seed`.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            now: Duration::ZERO,
            random: Random::new(seed),
            conditions,
            directions: HashMap::new(),
            under_way: BinaryHeap::new(),
            sequence: 0,
            counts: Counts::default(),
        }
    }

    /// Gives one direction between two hosts conditions of its own.
    pub fn set(&mut self, from: Host, to: Host, conditions: Conditions) {
        self.directions.insert((from, to), conditions);
    }

    /// Sets the conditions of every direction, also of those that had their own.
    pub fn set_all(&mut self, conditions: Conditions) {
        self.directions.clear();
        self.conditions = conditions;
    }

    /// Sends a datagram: it is lost, or under way once or twice.
    pub fn send(&mut self, from: Host, to: Host, bytes: &[u8]) {
        let conditions = *self.directions.get(&(from, to)).unwrap_or(&self.conditions);
        self.counts.sent = self.counts.sent.saturating_add(1);
        self.counts.bytes = self.counts.bytes.saturating_add(bytes.len() as u64);
        if self.random.chance(conditions.loss) {
            self.counts.lost = self.counts.lost.saturating_add(1);
            return;
        }
        self.put(conditions, from, to, bytes);
        if self.random.chance(conditions.duplication) {
            self.counts.duplicated = self.counts.duplicated.saturating_add(1);
            self.put(conditions, from, to, bytes);
        }
    }

    /// Moves the clock to `time`; it never goes back.
    pub fn advance(&mut self, time: Duration) {
        self.now = self.now.max(time);
    }

    /// Takes the next datagram that has arrived by now; call until `None`.
    pub fn receive(&mut self) -> Option<Arrival> {
        if self.next_arrival()? > self.now {
            return None;
        }
        let Reverse((_, _, from, to, bytes)) = self.under_way.pop()?;
        Some(Arrival { from, to, bytes })
    }

    /// Returns the virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns when the next datagram arrives, if one is under way.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse((arrival, ..))| *arrival)
    }

    /// Returns what happened to the datagrams so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn put(&mut self, conditions: Conditions, from: Host, to: Host, bytes: &[u8]) {
        let jitter = self.random.below(conditions.jitter.as_millis() as u64);
        let arrival = self.now.saturating_add(conditions.delay).saturating_add(Duration::from_millis(jitter));
        self.sequence = self.sequence.saturating_add(1);
        self.under_way.push(Reverse((arrival, self.sequence, from, to, bytes.to_vec())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, conditions: Conditions) -> (Vec<Arrival>, Counts) {
        let mut link = Link::new(seed, conditions);
        for number in 0..1_000_u16 {
            link.send(1, 2, &number.to_be_bytes());
        }
        link.advance(Duration::from_secs(60));
        (std::iter::from_fn(|| link.receive()).collect(), link.counts())
    }

    #[test]
    fn a_perfect_link_keeps_everything_in_order() {
        let (arrived, counts) = run(1, Conditions::PERFECT);
        let numbers: Vec<_> = arrived.iter().map(|one| one.bytes.clone()).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers.len(), 1_000);
        assert_eq!((counts.lost, counts.duplicated), (0, 0));
    }

    #[test]
    fn a_rough_link_loses_repeats_and_reorders_as_its_seed_says() {
        let (arrived, counts) = run(1, Conditions::ROUGH);
        assert!((150..250).contains(&counts.lost), "{counts:?}");
        assert!((50..150).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(arrived.len() as u64, 1_000 - counts.lost + counts.duplicated);
        assert!(!arrived.iter().map(|one| &one.bytes).is_sorted());
        assert_eq!(run(1, Conditions::ROUGH).0, arrived);
        assert_ne!(run(2, Conditions::ROUGH).0, arrived);
    }

    #[test]
    fn nothing_arrives_before_its_time() {
        let mut link = Link::new(1, Conditions::PERFECT);
        link.send(1, 2, b"x");
        assert_eq!(link.receive(), None);
        link.advance(Duration::from_millis(9));
        assert_eq!(link.receive(), None);
        assert_eq!(link.next_arrival(), Some(Duration::from_millis(10)));
        link.advance(Duration::from_millis(10));
        assert!(link.receive().is_some());
    }

    #[test]
    fn one_direction_can_be_cut_while_the_other_works() {
        let mut link = Link::new(1, Conditions::PERFECT);
        link.set(1, 2, Conditions::CUT);
        link.send(1, 2, b"lost");
        link.send(2, 1, b"kept");
        link.advance(Duration::from_secs(1));
        assert_eq!(link.receive().map(|one| one.bytes), Some(b"kept".to_vec()));
        assert_eq!(link.receive(), None);
    }
}
