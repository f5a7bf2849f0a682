//! Addresses that a peer is heard from and has not proven to be reachable at: moving a session to another one (RFC 9146 §6,
//! RFC 9853), and the limit on what goes there until then.
//!
//! 1. Only an authentic record that is newer than all before it may move a session.
//! 2. A peer that knows the return routability check gets a challenge at the new address; the answer moves the session.
//!    Until then only answers to what came from there go there.
//! 3. Any other peer moves at once, and counts as proven when it answers a request that went there: who reads along the
//!    old path can send its records from anywhere, and cannot answer what it does not get. When a request is too long to go
//!    there yet, an empty message asks for a Reset first (RFC 7252 §4.3).
//!
//! Invariant: never more than three times the bytes that came from an unproven address go to it.

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

/// How many bytes may go to an unproven address for each that came from there (RFC 9853 §6).
const AMPLIFICATION: u32 = 3;

/// How long an answer to a challenge is waited for before there is another one, with the next record (RFC 9853 §5.5).
const CHALLENGE: Duration = Duration::from_secs(1);

/// An address that is not proven.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) address: Address,
    received: u32,
    sent: u32,
    challenge: Option<Challenge>,
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
        Self { address, received: 0, sent: 0, challenge: None, probe: Probe::No }
    }

    /// One of which so many bytes were received and sent before.
    pub(crate) fn with_counted(address: Address, (received, sent): (u32, u32)) -> Self {
        Self { received, sent, ..Self::new(address) }
    }

    /// How many bytes came from there, and went there.
    pub(crate) const fn counted(&self) -> (u32, u32) {
        (self.received, self.sent)
    }

    fn count_received(&mut self, bytes: usize) {
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
        let challenge = unproven.challenge.as_mut().filter(|challenge| !challenge.is_sent)?;
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
    pub(crate) fn heard(&mut self, now: Instant, key: Key, from: Address, bytes: usize, rng: &mut Rng<'_>) {
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
        let mut unproven =
            association.unproven.take().filter(|unproven| unproven.address == from).unwrap_or_else(|| {
                let mut unproven = Box::new(Unproven::new(from));
                unproven.count_received(bytes);
                unproven
            });
        if is_checkable {
            let is_due = |challenge: &Challenge| now.since(challenge.at) >= CHALLENGE;
            if unproven.challenge.as_ref().is_none_or(is_due) {
                // Repeated with the same cookie: the answer may take longer than the repetition.
                let cookie = unproven.challenge.as_ref().map_or_else(
                    || {
                        let mut cookie = [0; 8];
                        rng(&mut cookie);
                        cookie
                    },
                    |challenge| challenge.cookie,
                );
                unproven.challenge = Some(Challenge { cookie, at: now, is_sent: false });
                Counters::add(&mut self.counters.path_challenges);
            }
            association.unproven = Some(unproven);
        } else {
            association.unproven = Some(unproven);
            self.move_to(key, from);
        }
    }

    /// The peer answered a challenge: it is where that went.
    pub(crate) fn path_answered(&mut self, key: Key, from: Address, cookie: [u8; 8]) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let is_answer = association.unproven.as_ref().is_some_and(|unproven| {
            let challenge = unproven.challenge.as_ref().filter(|challenge| challenge.is_sent);
            unproven.address == from && challenge.is_some_and(|challenge| challenge.cookie == cookie)
        });
        if is_answer {
            association.unproven = None;
            self.move_to(key, from);
        }
    }

    fn move_to(&mut self, key: Key, to: Address) {
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
