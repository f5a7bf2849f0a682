//! What is kept of one remote: one address without security, one DTLS session, or one OSCORE context, which may be in a session.
//!
//! Invariant: what is proven never changes during the life of an association; another identity is another association.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dtls_psk::{PendingId, Session, Ticket};
use lwm2m_coap::{Instant, Parameters, Peer, Rng, Room, Stored, TokenPolicy};

use crate::credentials::{Authenticated, Role};

use super::counters::Counters;
use super::downlink::Downlink;
use super::oscore::Oscore;
use super::path::Unproven;
use super::registry::Registration;
use super::resumption::{Named, Sessions};
use super::session::{Connection, dtls};
use super::slab::Key;
use super::timer::NEVER;
use super::trace::{Direction, Trace};
use super::uplink::Parked;
use super::upload::Upload;
use super::work::Presenting;
use super::{Address, Listener};

/// All that is known of one remote.
pub(crate) struct Association {
    pub(crate) local: Listener,
    pub(crate) address: Address,
    /// Whether it is found by its address.
    pub(crate) is_indexed: bool,
    /// Where it was heard from last, when that is not proven.
    pub(crate) unproven: Option<Box<Unproven>>,
    /// The DTLS session; `None` without security.
    pub(crate) session: Option<Connection>,
    /// Whether the owner was asked if the session may go on.
    pub(crate) admission: Admission,
    pub(crate) coap: CoapPeer,
    /// The OSCORE context of the device, if it has one.
    pub(crate) oscore: Option<Box<Oscore>>,
    /// Who it is, once that is proven or admitted.
    pub(crate) who: Option<Who>,
    /// Its registration, when that is bound to this association.
    pub(crate) registration: Option<Key>,
    /// What is under way with it.
    pub(crate) passing: Passing,
    /// Numbers the questions asked for it, so that a late answer finds nothing.
    pub(crate) questions: u32,
    pub(crate) last_heard: Instant,
    /// Whether it left a request unanswered since: a device in queue mode sleeps then.
    pub(crate) is_silent: bool,
    /// Until when it is kept without a registration.
    pub(crate) kept_until: Instant,
    /// What its timer is armed for.
    pub(crate) armed: Instant,
    /// Whether it stands in the queue of those with something to send.
    pub(crate) is_ready: bool,
    pub(crate) rate: Rate,
}

impl Association {
    pub(crate) fn new(
        now: Instant,
        local: Listener,
        address: Address,
        session: Option<Connection>,
        rng: &mut Rng<'_>,
    ) -> Self {
        // A handshake proves the address by its cookie.
        let unproven = session.is_none().then(|| Box::new(Unproven::new(address)));
        let tokens = if session.is_some() { TokenPolicy::SECURED } else { TokenPolicy::Random };
        Self {
            session,
            admission: Admission::Settled,
            local,
            address,
            is_indexed: true,
            unproven,
            coap: Peer::new(&Parameters::DEFAULT, tokens, rng),
            oscore: None,
            who: None,
            registration: None,
            passing: Passing::default(),
            questions: 0,
            last_heard: now,
            is_silent: false,
            kept_until: now.saturating_add(UNREGISTERED),
            armed: NEVER,
            is_ready: false,
            rate: Rate::full(),
        }
    }

    /// The bytes to leave free around a message for its protection and for the record it goes into.
    pub(crate) fn room(&self) -> Room {
        let (record, inner) = (self.record(), self.oscore.as_ref().map(|oscore| oscore.session.room()));
        let Room { head, tail } = inner.unwrap_or(Room::NONE);
        Room { head: record.head.saturating_add(head), tail: record.tail.saturating_add(tail) }
    }

    /// The bytes to leave free for the record alone.
    fn record(&self) -> Room {
        match &self.session {
            Some(session) => {
                let (head, tail) = session.room();
                Room { head, tail }
            }
            None => Room::NONE,
        }
    }

    /// The part of `out` that a datagram to the device may take: it may want short records.
    pub(crate) fn space<'o>(&self, out: &'o mut [u8]) -> &'o mut [u8] {
        let Room { head, tail } = self.record();
        let longest = self.session.as_ref().map_or(usize::MAX, Connection::longest_payload);
        let length = head.saturating_add(longest).saturating_add(tail).min(out.len());
        out.get_mut(..length).unwrap_or_default()
    }

    /// Puts a message into a record, if there is a session; counts it when that fails.
    pub(crate) fn seal(
        &mut self,
        counters: &mut Counters,
        out: &mut [u8],
        range: Range<usize>,
    ) -> Option<Range<usize>> {
        let Some(session) = &mut self.session else { return Some(range) };
        session.seal(out, range).inspect_err(|_| Counters::add(&mut counters.seal_failed)).ok()
    }

    /// What the reliability layer or the handshake has to send: repetitions, acknowledgements, flights, alerts. `device` is
    /// the registration, for the trace.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut [u8],
        (trace, counters): (&mut Trace, &mut Counters),
        device: Option<&Registration>,
    ) -> Option<Range<usize>> {
        let Some(session) = &mut self.session else {
            let range = 0..self.coap.poll_transmit(now, out)?;
            trace.record(now, self, device, Direction::ToDevice, out.get(range.clone()));
            return Some(range);
        };
        if let Some(length) = session.poll_transmit(dtls(now), out) {
            return Some(0..length);
        }
        if !session.is_established() {
            return None;
        }
        let (head, tail) = session.room();
        let end = out.len().checked_sub(tail)?;
        let length = self.coap.poll_transmit(now, out.get_mut(head..end)?)?;
        let range = head..head.saturating_add(length);
        trace.record(now, self, device, Direction::ToDevice, out.get(range.clone()));
        self.seal(counters, out, range)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let session = self.session.as_ref().and_then(|session| session.poll_timeout());
        let session = session.map(|at| Instant::from_millis(at.as_millis()));
        let idle = self.registration.is_none().then_some(self.kept_until);
        let jobs = self.passing.downlink().and_then(|downlink| downlink.next_deadline());
        let upload = self.passing.upload().map(|upload| upload.deadline());
        let coap = [self.coap.poll_timeout(), self.coap.next_expiry()];
        [session, idle, jobs, upload].into_iter().chain(coap).flatten().min()
    }

    /// Whether its messages are under OSCORE alone: then nothing counts that did not verify.
    pub(crate) const fn is_under_oscore_alone(&self) -> bool {
        self.session.is_none() && self.oscore.is_some()
    }

    /// Whether nothing proves who it is.
    pub(crate) const fn is_without_security(&self) -> bool {
        self.session.is_none() && self.oscore.is_none()
    }

    /// Whether it came without DTLS and has no registration.
    pub(crate) const fn is_stranger(&self) -> bool {
        self.session.is_none() && self.registration.is_none()
    }

    /// Whether every record of its peer has a Connection ID from now on: nothing of the handshake can come any more.
    pub(crate) fn is_found_by_id_alone(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            session.is_established()
                && session.poll_timeout().is_none()
                && !session.own_connection_id().is_empty()
        })
    }

    /// Whether it was silent for too long without a registration, or its session is closed.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let is_closed = self.session.as_ref().is_some_and(|session| session.is_closed());
        is_closed || (self.registration.is_none() && self.kept_until <= now)
    }
}

/// What is under way with a remote, behind one pointer: of most there is nothing most of the time.
#[derive(Default)]
pub(crate) struct Passing(Option<Box<Parts>>);

/// Each only while there is anything of it.
#[derive(Default)]
pub(crate) struct Parts {
    /// What is known of the peer while the handshake is under way.
    pub(crate) proving: Option<Box<Proving>>,
    /// Requests to it.
    pub(crate) downlink: Option<Box<Downlink>>,
    /// An object list that comes in blocks.
    pub(crate) upload: Option<Box<Upload>>,
    /// What waits for the owner's answer.
    pub(crate) parked: Option<Box<Parked>>,
}

impl Passing {
    /// The parts, to put something into them.
    pub(crate) fn make(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    pub(crate) fn make_downlink(&mut self) -> &mut Downlink {
        self.make().downlink.get_or_insert_default()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Parts> {
        self.0.as_deref_mut()
    }

    pub(crate) fn downlink_mut(&mut self) -> Option<&mut Downlink> {
        self.get_mut()?.downlink.as_deref_mut()
    }

    pub(crate) fn proving_mut(&mut self) -> Option<&mut Proving> {
        self.get_mut()?.proving.as_deref_mut()
    }

    pub(crate) fn take_proving(&mut self) -> Option<Box<Proving>> {
        self.get_mut()?.proving.take()
    }

    pub(crate) fn take_parked(&mut self) -> Option<Box<Parked>> {
        self.get_mut()?.parked.take()
    }

    /// Frees what is not needed.
    pub(crate) fn tidy(&mut self, is_over: impl FnOnce(&mut Upload) -> bool) {
        let Some(parts) = self.get_mut() else { return };
        parts.downlink.take_if(|downlink| downlink.is_empty());
        parts.upload.take_if(|upload| is_over(upload));
        let Parts { proving, downlink, upload, parked } = parts;
        if proving.is_none() && downlink.is_none() && upload.is_none() && parked.is_none() {
            self.0 = None;
        }
    }

    pub(crate) fn downlink(&self) -> Option<&Downlink> {
        self.0.as_ref()?.downlink.as_deref()
    }

    pub(crate) fn proving(&self) -> Option<&Proving> {
        self.0.as_ref()?.proving.as_deref()
    }

    pub(crate) fn upload(&self) -> Option<&Upload> {
        self.0.as_ref()?.upload.as_deref()
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.parked.is_some())
    }
}

/// The CoAP state of one remote: one unsettled message of ours (NSTART 1), four remembered ones of the remote.
pub(crate) type CoapPeer = Peer<Copy, 1, 4, 0, Bound>;

/// What ties an answer to its request under OSCORE.
pub(crate) type Bound = Option<oscore::Binding>;

/// Whether a session may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is no session, or it may.
    Settled,
    /// The owner was asked.
    Asked {
        /// Whether the handshake was a full one.
        full: bool,
        /// The name that its session is good for.
        named: Named,
    },
    /// It goes on, and the owner was asked whether the certificate that opened it is still good.
    Reviewed,
    /// Numbers of its OSCORE context were reserved elsewhere, and the owner was asked for how it goes on.
    Overtaken,
}

impl Admission {
    /// Whether nothing of the session counts before the owner's answer.
    pub(crate) const fn is_awaited(self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Overtaken)
    }
}

/// A peer that has to prove who it is.
#[derive(Debug, Default)]
pub(crate) struct Proving {
    /// The identity of a pre-shared key as it was sent; what it presents, in words; empty until then.
    pub(crate) identity: Vec<u8>,
    /// The session's question for the key, until it is answered.
    pub(crate) look_up: Option<PendingId>,
    /// Whom the Finished will prove; `None` when the identity was refused, which the peer of a pre-shared key must not learn.
    pub(crate) who: Option<Authenticated>,
    /// Whether it was told that it is refused.
    pub(crate) is_told: bool,
    /// What the server presents.
    pub(crate) presenting: Presenting,
    /// Whether it was promised a ticket, and whom the Finished will prove has too long a name and path for one.
    pub(crate) is_too_long_for_a_ticket: bool,
}

impl Proving {
    /// The ticket that a peer was promised, for whom its Finished will prove.
    pub(crate) fn seal(&mut self, now: Instant, sessions: &Sessions, made: &Session) -> Option<Ticket> {
        let ticket = sessions.seal(now, made, self.who.as_ref()?, self.presenting.named);
        self.is_too_long_for_a_ticket = ticket.is_none();
        ticket
    }
}

/// Who a remote is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Who {
    /// A handshake proved it.
    Proven(Authenticated),
    /// It came without security and only says so.
    Unsecured {
        /// Which server it talks to.
        role: Role,
        /// The name it claims.
        endpoint: Arc<str>,
    },
}

impl Who {
    /// The endpoint client name.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<str> {
        match self {
            Self::Proven(who) => &who.endpoint,
            Self::Unsecured { endpoint, .. } => endpoint,
        }
    }

    /// Which server it talks to.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Proven(who) => who.role,
            Self::Unsecured { role, .. } => *role,
        }
    }

    /// Which generation of its credential it proved; `None` without security.
    #[must_use]
    pub const fn generation(&self) -> Option<u32> {
        match self {
            Self::Proven(who) => Some(who.generation),
            Self::Unsecured { .. } => None,
        }
    }

    pub(crate) const fn proven(&self) -> Option<&Authenticated> {
        match self {
            Self::Proven(who) => Some(who),
            Self::Unsecured { .. } => None,
        }
    }
}

/// A copy of a message, exactly as long as it is.
#[derive(Debug)]
pub(crate) struct Copy(Box<[u8]>);

impl Stored for Copy {
    fn store(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= LONGEST_COPY).then(|| Self(bytes.into()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A block of 1024 bytes with its options.
const LONGEST_COPY: usize = 1400;

/// A bucket of messages a peer may send: refilled by time, emptied by messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    left: u16,
    refilled: u32,
}

impl Rate {
    pub(crate) const fn full() -> Self {
        Self { left: u16::MAX, refilled: 0 }
    }

    /// Whether one more message is within the rate.
    pub(crate) fn take(&mut self, now: Instant, burst: u16, per_second: u16) -> bool {
        let is_within = self.has_left(now, burst, per_second);
        self.left = self.left.saturating_sub(1);
        is_within
    }

    /// The same of a message that may turn out to be nobody's.
    pub(crate) fn has_left(&mut self, now: Instant, burst: u16, per_second: u16) -> bool {
        let second = (now.as_millis() / 1000) & u64::from(u32::MAX);
        let passed = second.saturating_sub(u64::from(self.refilled));
        if passed > 0 {
            let refill = passed.saturating_mul(u64::from(per_second));
            self.left = u16::try_from(refill).unwrap_or(u16::MAX).saturating_add(self.left).min(burst);
            self.refilled = u32::try_from(second).unwrap_or(u32::MAX);
        }
        self.left > 0
    }
}

/// How long an association without a registration is kept after it was last heard: a bootstrap must end within
/// EXCHANGE_LIFETIME (247 s), and a device registers right after its handshake.
pub(crate) const UNREGISTERED: Duration = Duration::from_secs(300);

/// How long a session is kept after its registration ended: a device that slept too long hears at once that it has to
/// register again, and needs no handshake for it.
pub(crate) const FORMERLY_REGISTERED: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_record_can_be_made_of_is_counted() {
        let rng = &mut |bytes: &mut [u8]| bytes.fill(1);
        let now = Instant::from_millis(1_000_000);
        let psk = dtls_psk::Psk { identity: b"a", key: &[7; 16] };
        let memory = Box::new(crate::endpoint::session::Memory::default());
        // Its handshake is not over.
        let session = Connection::client(dtls(now), &dtls_psk::Config::DEFAULT, psk, rng, memory).ok();
        let from = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
        let mut association = Association::new(now, Listener::Coaps, from, session, rng);
        let mut counters = Counters::default();
        assert_eq!(association.seal(&mut counters, &mut [0; 100], 40..50), None);
        assert_eq!(counters.seal_failed, 1);
    }

    #[test]
    fn a_peer_beyond_its_rate_waits_for_the_next_second() {
        let mut rate = Rate::full();
        let now = Instant::from_millis(1_000_000);
        assert_eq!((0..1000).filter(|_| rate.take(now, 200, 50)).count(), 200);
        assert!(!rate.take(now, 200, 50));
        let later = now.saturating_add(Duration::from_secs(1));
        assert_eq!((0..1000).filter(|_| rate.take(later, 200, 50)).count(), 50);
    }
}
