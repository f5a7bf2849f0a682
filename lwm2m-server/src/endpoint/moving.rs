//! A registration moves from one part of the server to another, to the part where its device has a session now (LwM2M Core
//! 1.2.1 §6.2: it belongs to the endpoint name that the session proves, and to no session).
//!
//! 1. A session is established here, or says Update or De-register, and the directory names another owner: that is asked by
//!    a Fetch. What the session says meanwhile waits.
//! 2. The owner takes the registration out with what waits for its device, gives its claim to the part that asked, and hands
//!    it over. A part that has it no more passes the Fetch on to the one that the directory names by now; one that is still
//!    waiting for it passes it on as soon as it has come.
//! 3. It goes on in the newest session of its device here. If there is none it stays without a session, as anywhere.
//!
//! Invariants: a registration that its device has replaced meanwhile ends on its way; what was closed meanwhile stays closed;
//! what waits for it waits for a bounded time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lwm2m_coap::{Code, Instant, Rng, udp};

use crate::credentials::Role;
use crate::operation::RequestError;

use super::association::Who;
use super::counters::Counters;
use super::directory::{Claim, Place};
use super::downlink::Job;
use super::registry::Registration;
use super::shard::Content;
use super::slab::Key;
use super::{Endpoint, Transmit};

/// A registration on its way from one part to another.
#[derive(Debug)]
pub(crate) struct Moved {
    registration: Registration,
    waiting: VecDeque<Job>,
}

/// The registrations that are on their way here, by endpoint name.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    expected: HashMap<Arc<str>, Expected>,
    /// When each is given up, earliest first; some of them have come since.
    deadlines: VecDeque<(Instant, Arc<str>)>,
}

/// A registration that is on its way here, if its device has one.
#[derive(Debug)]
struct Expected {
    deadline: Instant,
    /// The sessions that wait for it, each with the first message its device sent meanwhile.
    sessions: Vec<(Key, Option<Box<[u8]>>)>,
    /// The parts it goes on to.
    next: Vec<u8>,
    /// The generations, or all, whose sessions were closed meanwhile, and why.
    closed: Vec<(Option<u32>, Box<str>)>,
    is_triggered: bool,
}

/// For how long a registration is waited for: far longer than any thread takes, and as long as a device waits before it
/// repeats its message twice.
const PATIENCE: Duration = Duration::from_secs(5);

impl Moves {
    fn expect(&mut self, now: Instant, endpoint: &Arc<str>) -> &mut Expected {
        let deadline = now.saturating_add(PATIENCE);
        self.deadlines.push_back((deadline, Arc::clone(endpoint)));
        self.expected.entry(Arc::clone(endpoint)).or_insert(Expected {
            deadline,
            sessions: Vec::new(),
            next: Vec::new(),
            closed: Vec::new(),
            is_triggered: false,
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// The next one that did not come in time.
    fn overdue(&mut self, now: Instant) -> Option<Arc<str>> {
        while let Some((deadline, endpoint)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.expected.get(&endpoint).is_some_and(|expected| expected.deadline == deadline) {
                return Some(endpoint);
            }
        }
        None
    }

    /// Notes that sessions of an endpoint were closed: its registration ends as soon as it is here.
    pub(crate) fn close(&mut self, endpoint: &str, generation: Option<u32>, reason: &str) {
        if let Some(expected) = self.expected.get_mut(endpoint) {
            expected.closed.push((generation, reason.into()));
        }
    }

    /// Whether a device is to be told to bootstrap as soon as its registration is here.
    pub(crate) fn trigger(&mut self, endpoint: &str) -> bool {
        let expected = self.expected.get_mut(endpoint);
        expected.map(|expected| expected.is_triggered = true).is_some()
    }
}

impl Endpoint {
    /// Fetches the registration of a device that has a session here, if another part has it. Answers whether it is on its
    /// way.
    pub(crate) fn fetch(&mut self, now: Instant, key: Key, endpoint: &Arc<str>) -> bool {
        let index = self.part.index;
        if !self.moves.expected.contains_key(endpoint) {
            let Some(claim) = self.shared.directory.find(endpoint) else { return false };
            if claim.owner == index {
                return false;
            }
            self.moves.expect(now, endpoint);
            self.send_parcel(claim.owner, Content::Fetch { endpoint: Arc::clone(endpoint), to: index });
        }
        if let Some(expected) = self.moves.expected.get_mut(endpoint)
            && expected.sessions.iter().all(|(session, _)| *session != key)
        {
            expected.sessions.push((key, None));
        }
        true
    }

    /// Whether a message has to wait because the registration of its device is on its way here, or has to be fetched for it.
    /// The first one of a session is kept; others the device repeats.
    pub(crate) fn waits_for_registration(&mut self, now: Instant, key: Key, message: &[u8]) -> bool {
        let Some(association) = self.associations.get(key) else { return false };
        if self.part.of == 1 || association.registration.is_some() {
            return false;
        }
        let Some(Who::Proven(who)) = association.who.as_ref().filter(|who| who.role() == Role::Management)
        else {
            return false;
        };
        let endpoint = Arc::clone(&who.endpoint);
        let is_here = || self.registry.find(&endpoint).is_some();
        if is_of_registration(message) && !is_here() {
            self.fetch(now, key, &endpoint);
        }
        let expected = self.moves.expected.get_mut(&endpoint);
        let sessions = expected.map(|expected| expected.sessions.as_mut_slice()).unwrap_or_default();
        let Some((_, kept)) = sessions.iter_mut().find(|(session, _)| *session == key) else { return false };
        match kept {
            Some(_) => Counters::add(&mut self.counters.while_moving),
            None => *kept = Some(message.into()),
        }
        true
    }

    /// Hands the registration of a device over to the part that asked for it, or the question on to who has it.
    pub(crate) fn hand_over(&mut self, endpoint: Arc<str>, to: u8) {
        if let Some((registered, registration)) = self.registry.give_away(&endpoint, to) {
            let waiting = self.take_out(registered, registration.association);
            let moved = Some(Box::new(Moved { registration, waiting }));
            return self.send_parcel(to, Content::HandOver { endpoint, moved });
        }
        match self.shared.directory.find(&endpoint) {
            Some(Claim { owner, place: Place::Moving(_) }) if owner == self.part.index => {
                if let Some(expected) = self.moves.expected.get_mut(&endpoint) {
                    expected.next.push(to);
                    return;
                }
            }
            Some(Claim { owner, .. }) if owner != self.part.index && owner != to => {
                return self.send_parcel(owner, Content::Fetch { endpoint, to });
            }
            _ => {}
        }
        self.send_parcel(to, Content::HandOver { endpoint, moved: None });
    }

    /// Takes from the former association of a registration what waits for its device; what is under way there fails.
    fn take_out(&mut self, registered: Key, former: Option<Key>) -> VecDeque<Job> {
        let Some(key) = former else { return VecDeque::new() };
        let association = self.associations.get_mut(key);
        let Some(association) = association.filter(|known| known.registration == Some(registered)) else {
            return VecDeque::new();
        };
        let downlink = association.passing.downlink_mut();
        let waiting = downlink.map(|downlink| core::mem::take(&mut downlink.queue)).unwrap_or_default();
        self.set_registration(key, None);
        self.interrupt(key);
        self.mark_ready(key);
        waiting
    }

    /// Goes on with a registration from another part, and with what its device said meanwhile.
    pub(crate) fn take_over(&mut self, now: Instant, endpoint: &Arc<str>, moved: Option<Box<Moved>>) {
        let expected = self.moves.expected.remove(endpoint);
        let session = self.newest_session(endpoint);
        match moved.map(|moved| *moved) {
            Some(Moved { registration, waiting }) => self.go_on(registration, waiting, session),
            None => {
                if let (Some(registered), Some(key)) = (self.registry.find(endpoint), session) {
                    self.rebind(registered, key);
                }
            }
        }
        let Some(Expected { sessions, next, closed, is_triggered, .. }) = expected else { return };
        for (generation, reason) in closed {
            self.end_registration_of(now, endpoint, generation, &reason);
        }
        if is_triggered {
            self.trigger_bootstrap(now, endpoint);
        }
        // What waits for what goes on at once is repeated, and fetches it back.
        let is_staying = next.is_empty();
        for to in next {
            self.hand_over(Arc::clone(endpoint), to);
        }
        let index = self.part.index;
        for (association, message) in sessions.into_iter().filter(|_| is_staying) {
            if let Some(message) = message {
                self.send_parcel(index, Content::Kept { association, message });
            }
        }
    }

    fn go_on(&mut self, mut registration: Registration, waiting: VecDeque<Job>, session: Option<Key>) {
        registration.association = session;
        if let Some(key) = session {
            registration.generation = self.generation(key);
        }
        match self.registry.take_over(registration) {
            Ok(registered) => {
                if let Some(key) = session {
                    self.set_registration(key, Some(registered));
                    self.end_observations(key, "the keys of its device are new");
                    self.awoke(key);
                    return self.wait_in(key, waiting);
                }
            }
            Err(registration) => self.observations_ended(&registration, "the device registered again"),
        }
        for job in waiting {
            self.fail_moved(job, RequestError::Interrupted);
        }
    }

    /// The newest session that an endpoint was admitted in.
    fn newest_session(&self, endpoint: &str) -> Option<Key> {
        let is_admitted = |key: &&Key| {
            self.associations.get(**key).is_some_and(|association| {
                let proven = association.who.as_ref().and_then(Who::proven);
                !association.admission.is_awaited() && proven.is_some_and(|who| who.role == Role::Management)
            })
        };
        self.by_name.get(endpoint)?.iter().rev().find(is_admitted).copied()
    }

    /// Handles a message that waited.
    pub(crate) fn take_kept(
        &mut self,
        now: Instant,
        key: Key,
        mut message: Box<[u8]>,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let association = self.associations.get(key)?;
        let (local, to) = (association.local, association.answer_address());
        if association.oscore.is_some() {
            // As it was unprotected it is with its context.
            return self.release(now, key, rng, out);
        }
        let range = self.take_message(now, key, &mut message, rng, out);
        self.mark_ready(key);
        self.transmit(key, local, to, range?)
    }

    /// Waits no longer for what did not come in time.
    pub(crate) fn give_up_moves(&mut self, now: Instant) {
        while let Some(endpoint) = self.moves.overdue(now) {
            Counters::add(&mut self.counters.registrations_not_fetched);
            self.take_over(now, &endpoint, None);
        }
    }
}

/// Whether a message is an Update or a De-register.
fn is_of_registration(message: &[u8]) -> bool {
    udp::parse(message).is_ok_and(|(_, message)| {
        let mut path = message.options.uri_path();
        matches!(message.code, Code::POST | Code::DELETE)
            && path.next() == Some(b"rd")
            && path.next().is_some()
            && path.next().is_none()
    })
}
