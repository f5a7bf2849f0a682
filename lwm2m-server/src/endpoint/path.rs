//! Addresses that a peer is heard from and has not proven to be reachable at: moving a session to another one (RFC 9146 §6,
//! RFC 9853), and the limit on what goes there until then.
//!
//! 1. Only an authentic record that is newer than all before it may move a session.
//! 2. A peer that knows the return routability check gets a challenge at the new address; an answer in time moves the
//!    session. Until then only answers to what came from there go there. A path_drop ends the check.
//! 3. Any other peer moves at once, and counts as proven when it answers a request that went there: who reads along the
//!    old path can send its records from anywhere, and cannot answer what it does not get. When a request is too long to go
//!    there yet, an empty message asks for a Reset first (RFC 7252 §4.3).
//!
//! Invariant: never more than three times the bytes that came from an unproven address go to it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use lwm2m_coap::{Instant, Kind, MessageId, Rng, Room, udp};

use crate::event::Event;

use super::association::Association;
use super::counters::Counters;
use super::registry::Registration;
use super::slab::Key;
use super::trace::{Direction, Trace};
use super::{Address, Endpoint, Listener, Transmit};

/// How many bytes may go to an unproven address for each that came from there (RFC 9853 §2).
const AMPLIFICATION: u32 = 3;

/// How soon there may be another challenge, with the next record (RFC 9853 §5.3: paced).
const PACE: Duration = Duration::from_secs(1);

/// How many challenges may be out at once.
const CHALLENGES: usize = 4;

/// T: for how long a challenge may be answered.
// Departure: RFC 9853 §5.5 has 1 s where the round trip is not known, which a device on NB-IoT never keeps. This is three
// times the round trip that CoAP reckons with, ACK_TIMEOUT × ACK_RANDOM_FACTOR, and what RFC 7925 §11 waits for in
// constrained networks.
const TIME_TO_ANSWER: Duration = Duration::from_secs(9);

/// An address that is not proven.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) address: Address,
    received: u32,
    sent: u32,
    /// Those that may still be answered, oldest first.
    challenges: VecDeque<Challenge>,
    challenged: Option<Instant>,
    probe: Probe,
}

/// An empty message that its peer answers with a Reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Nothing was too long so far.
    No,
    Due,
    Sent(MessageId),
}

/// A challenge to the address.
#[derive(Debug)]
struct Challenge {
    cookie: [u8; 8],
    at: Instant,
    is_sent: bool,
}

impl Unproven {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            received: 0,
            sent: 0,
            challenges: VecDeque::new(),
            challenged: None,
            probe: Probe::No,
        }
    }

    /// One of which so many bytes were received and sent before.
    pub(crate) fn with_counted(address: Address, (received, sent): (u32, u32)) -> Self {
        Self { received, sent, ..Self::new(address) }
    }

    /// How many bytes came from there, and went there.
    pub(crate) const fn counted(&self) -> (u32, u32) {
        (self.received, self.sent)
    }

    pub(crate) fn count_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Whether that many bytes may go there; they are counted.
    fn take(&mut self, bytes: usize) -> bool {
        let may = self.has_room(bytes);
        if may {
            self.sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        may
    }

    fn has_room(&self, bytes: usize) -> bool {
        let sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        sent <= self.received.saturating_mul(AMPLIFICATION)
    }

    /// Makes another challenge, with a cookie of its own (RFC 9853 §5.3), unless the last one was just now or too many are out.
    fn challenge(&mut self, now: Instant, rng: &mut Rng<'_>) -> bool {
        self.challenges.retain(|challenge| challenge.is_valid(now));
        let is_due = self.challenged.is_none_or(|at| now.since(at) >= PACE);
        if !is_due || self.challenges.len() >= CHALLENGES {
            return false;
        }
        let mut cookie = [0; 8];
        rng(&mut cookie);
        self.challenges.push_back(Challenge { cookie, at: now, is_sent: false });
        self.challenged = Some(now);
        true
    }

    /// Whether a cookie that came from an address is that of a challenge which went there and may still be answered.
    fn is_answered(&self, now: Instant, from: Address, cookie: [u8; 8]) -> bool {
        let is_answer = |challenge: &Challenge| {
            challenge.is_sent && challenge.is_valid(now) && challenge.cookie == cookie
        };
        self.address == from && self.challenges.iter().any(is_answer)
    }

    /// Whether a path_drop answers such a challenge: then no answer from there counts any more.
    fn is_dropped(&mut self, now: Instant, from: Address, cookie: [u8; 8]) -> bool {
        let is_dropped = self.is_answered(now, from, cookie);
        if is_dropped {
            self.challenges.clear();
        }
        is_dropped
    }
}

impl Challenge {
    fn is_valid(&self, now: Instant) -> bool {
        now.since(self.at) < TIME_TO_ANSWER
    }
}

impl Association {
    /// Notes that a datagram came from an address.
    pub(crate) fn count_received(&mut self, from: Address, bytes: usize) {
        if let Some(unproven) = self.unproven.as_mut().filter(|unproven| unproven.address == from) {
            unproven.count_received(bytes);
        }
    }

    /// An answer came to what went to an address.
    pub(crate) fn proves(&mut self, address: Address) {
        let is_here = self.address == address;
        self.unproven.take_if(|unproven| is_here && unproven.address == address);
    }

    /// The probe that is to go to an address that is not proven.
    pub(crate) fn poll_probe(
        &mut self,
        now: Instant,
        rng: &mut Rng<'_>,
        out: &mut [u8],
        (trace, counters): (&mut Trace, &mut Counters),
        device: Option<&Registration>,
    ) -> Option<Range<usize>> {
        let unproven = self.unproven.as_ref().filter(|unproven| unproven.probe == Probe::Due)?;
        let mut id = [0; 2];
        rng(&mut id);
        let id = MessageId(u16::from_be_bytes(id));
        let (Room { head, tail }, message) = (self.room(), udp::empty(Kind::Confirmable, id));
        let range = head..head.saturating_add(message.len());
        if !unproven.has_room(range.end.saturating_add(tail)) {
            return None;
        }
        self.unproven.as_mut()?.probe = Probe::Sent(id);
        out.get_mut(range.clone())?.copy_from_slice(&message);
        trace.record(now, self, device, Direction::ToDevice, out.get(range.clone()));
        self.seal(counters, out, range)
    }

    /// Whether a message is the answer to the probe; then its peer is where that went.
    pub(crate) fn takes_probe_answer(&mut self, message: &[u8]) -> bool {
        let is_answer = |unproven: &mut Box<Unproven>| match unproven.probe {
            Probe::Sent(id) => udp::empty(Kind::Reset, id) == message,
            Probe::No | Probe::Due => false,
        };
        self.unproven.take_if(is_answer).is_some()
    }

    /// Where an answer to what came last goes.
    pub(crate) fn answer_address(&self) -> Address {
        self.unproven.as_ref().map_or(self.address, |unproven| unproven.address)
    }

    /// The challenge that is to go to the new address.
    pub(crate) fn poll_challenge(&mut self, out: &mut [u8]) -> Option<(Address, Range<usize>)> {
        let unproven = self.unproven.as_mut()?;
        let challenge = unproven.challenges.iter_mut().find(|challenge| !challenge.is_sent)?;
        challenge.is_sent = true;
        let length = self.session.as_mut()?.challenge_path(challenge.cookie, out)?;
        Some((unproven.address, 0..length))
    }
}

impl Endpoint {
    /// A datagram to `to`, unless that is unproven and had its share. It is lost then as on the way.
    pub(crate) fn transmit(
        &mut self,
        key: Key,
        local: Listener,
        to: Address,
        range: Range<usize>,
    ) -> Option<Transmit> {
        if let Some(association) = self.associations.get_mut(key)
            && let Some(unproven) = association.unproven.as_mut().filter(|unproven| unproven.address == to)
            && !unproven.take(range.len())
        {
            if association.session.is_some() && association.address == to {
                unproven.probe = Probe::Due;
            }
            Counters::add(&mut self.counters.over_amplification);
            return None;
        }
        Some(Transmit { local, to, range })
    }

    /// An authentic record came from an address: it may move the session there, or prove that it is there.
    pub(crate) fn heard(&mut self, now: Instant, key: Key, from: Address, rng: &mut Rng<'_>) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(session) = association.session.as_ref().filter(|session| session.is_newest()) else {
            return;
        };
        if from == association.address {
            // With the check the peer is where it was. Without it the session is here already.
            association.unproven.take_if(|unproven| unproven.address != from);
            return;
        }
        let is_checkable = session.is_path_checkable();
        let unproven = association.unproven.take().filter(|unproven| unproven.address == from);
        let unproven = association.unproven.insert(unproven.unwrap_or_else(|| Box::new(Unproven::new(from))));
        if !is_checkable {
            self.move_to(key, from);
        } else if unproven.challenge(now, rng) {
            Counters::add(&mut self.counters.path_challenges);
        }
    }

    /// The peer answered a challenge: it is where that went, unless it took longer than T.
    pub(crate) fn path_answered(&mut self, now: Instant, key: Key, from: Address, cookie: [u8; 8]) {
        let Some(association) = self.associations.get_mut(key) else { return };
        if association.unproven.take_if(|unproven| unproven.is_answered(now, from, cookie)).is_some() {
            self.move_to(key, from);
        } else {
            // RFC 9853 §5.4: an invalid answer is discarded.
            Counters::add(&mut self.counters.stale_path_answers);
        }
    }

    /// The peer answered a challenge by leaving the address that it went to.
    pub(crate) fn path_dropped(&mut self, now: Instant, key: Key, from: Address, cookie: [u8; 8]) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let unproven = association.unproven.as_mut();
        if !unproven.is_some_and(|unproven| unproven.is_dropped(now, from, cookie)) {
            Counters::add(&mut self.counters.stale_path_answers);
        }
    }

    pub(crate) fn move_to(&mut self, key: Key, to: Address) {
        self.forget_address(key);
        let Some(association) = self.associations.get_mut(key) else { return };
        let from = core::mem::replace(&mut association.address, to);
        Counters::add(&mut self.counters.moved);
        if let Some(who) = &association.who {
            self.events.push_back(Event::AddressChanged {
                endpoint: who.endpoint().clone(),
                role: who.role(),
                from: from.to_string(),
                to: to.to_string(),
            });
        }
    }

    /// Forgets that an association is found by its address.
    pub(crate) fn forget_address(&mut self, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        if !core::mem::replace(&mut association.is_indexed, false) {
            return;
        }
        let address = (association.local, association.address);
        if self.part.of > 1 && association.is_under_oscore_alone() {
            self.shared.leave(address, self.part.index);
        }
        let Some(candidates) = self.by_address.get_mut(&address) else { return };
        candidates.older.take_if(|older| *older == key);
        if candidates.newest == key {
            match candidates.older.take() {
                Some(older) => candidates.newest = older,
                None => drop(self.by_address.remove(&address)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn each_challenge_has_a_cookie_of_its_own_and_few_are_out_at_once() {
        let mut next = 0;
        let rng = &mut |bytes: &mut [u8]| {
            next += 1;
            bytes.fill(next);
        };
        let (start, mut unproven) = (Instant::from_millis(1_000_000), Unproven::new(address(1)));
        let mut challenged = Vec::new();
        for millis in (0..12_000).step_by(250) {
            if unproven.challenge(start.saturating_add(Duration::from_millis(millis)), rng) {
                challenged.push(millis);
            }
        }
        assert_eq!(challenged, [0, 1000, 2000, 3000, 9000, 10_000, 11_000]);
        let cookies: Vec<_> = unproven.challenges.iter().map(|challenge| challenge.cookie[0]).collect();
        assert_eq!(cookies, [4, 5, 6, 7]);
    }

    #[test]
    fn only_the_cookie_of_a_challenge_that_went_to_the_address_and_is_not_too_old_answers_it() {
        let rng = &mut |bytes: &mut [u8]| bytes.fill(7);
        let (start, mut unproven) = (Instant::from_millis(1_000_000), Unproven::new(address(1)));
        let at = |millis| start.saturating_add(Duration::from_millis(millis));
        assert!(unproven.challenge(start, rng));
        assert!(!unproven.is_answered(start, address(1), [7; 8]), "it did not go out yet");
        unproven.challenges.iter_mut().for_each(|challenge| challenge.is_sent = true);
        assert!(unproven.is_answered(at(8999), address(1), [7; 8]));
        assert!(!unproven.is_answered(at(9000), address(1), [7; 8]));
        assert!(!unproven.is_answered(start, address(2), [7; 8]));
        assert!(!unproven.is_answered(start, address(1), [7, 7, 7, 7, 7, 7, 7, 8]));
    }

    #[test]
    fn after_a_path_drop_no_answer_to_a_challenge_before_it_counts() {
        let mut next = 0;
        let rng = &mut |bytes: &mut [u8]| {
            next += 1;
            bytes.fill(next);
        };
        let (start, mut unproven) = (Instant::from_millis(1_000_000), Unproven::new(address(1)));
        assert!(unproven.challenge(start, rng));
        let later = start.saturating_add(PACE);
        assert!(unproven.challenge(later, rng));
        unproven.challenges.iter_mut().for_each(|challenge| challenge.is_sent = true);
        assert!(!unproven.is_dropped(later, address(2), [2; 8]));
        assert!(!unproven.is_dropped(later, address(1), [3; 8]));
        assert!(unproven.is_answered(later, address(1), [1; 8]), "neither was a path_drop of this check");
        assert!(unproven.is_dropped(later, address(1), [2; 8]));
        assert!(!unproven.is_answered(later, address(1), [1; 8]));
        assert!(!unproven.challenge(later, rng), "the pace stays");
    }
}
