//! DTLS sessions: from the cookie to the Finished, beside the session that lives on the same address (RFC 6347 §4.2.1,
//! §4.2.8; LwM2M Transport 1.2.1 §5).
//!
//! 1. A ClientHello without a good cookie gets one; nothing is kept.
//! 2. The cookie came back: if there is room for a handshake (`admission.rs`) an association is made, beside an established one of the same address. With a session that is
//!    known it is asked at the end whether its credential is still good; the identity is not asked for.
//! 3. The identity is asked for (`lookup.rs`); an unknown or refused one goes on with a random key, so that its peer cannot
//!    tell. Without a pre-shared key certificates are exchanged, judged and proven (`work.rs`).
//! 4. The Finished verified: only now the new association replaces the old one, and only the registration of the same
//!    identity moves along.
//!
//! Invariant: what is forged or unfinished changes nothing of an established association.

use dtls_psk::{Accepted, Choice, ConnectionId, CookieJar, Datagram, Handshake, Input, Reason, choose};
use lwm2m_coap::{Instant, Rng};

use crate::credentials::{Fact, Role};
use crate::crypto::Provider;
use crate::event::Event;

use super::admission::Rates;
use super::association::{Admission, Association, Proving, Who};
use super::connection_id::{self, ConnectionIds};
use super::counters::Counters;
use super::question::Question;
use super::resumption::Named;
use super::slab::Key;
use super::{Address, Candidates, Endpoint, Listener, Transmit};

/// The DTLS state of one association; the handshake's memory is boxed and freed after it.
pub(crate) type Connection = dtls_psk::Connection<MEMORY, Box<Memory>, Provider>;

/// What a handshake takes.
pub(crate) type Memory = Handshake<MEMORY, Provider>;

/// Memory of each direction of a handshake: for a chain of four certificates of the usual kind, 1 kB each.
const MEMORY: usize = 4096;

/// How many addresses are remembered for the alert they answered a flight with.
const COMPLAINTS: usize = 1024;

pub(crate) const fn dtls(now: Instant) -> dtls_psk::Instant {
    dtls_psk::Instant::from_millis(now.as_millis())
}

impl Endpoint {
    pub(crate) fn handle_secure(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        if let Some(id) = ConnectionId::of_datagram(datagram, connection_id::LENGTH) {
            if self.is_passed_on(local, from, id, datagram) {
                return None;
            }
            let Some(key) = self.find_by_id(local, id) else {
                Counters::add(&mut self.counters.records_without_session);
                return None;
            };
            return self.handle_records(now, key, from, datagram, rng, out);
        }
        let known = self.by_address.get(&(local, from)).map(Candidates::newest_first);
        if known.is_none() && self.is_restored_elsewhere(local, from, datagram) {
            return None;
        }
        let keys = known.unwrap_or_default();
        let sessions = keys.iter().flatten().filter_map(|key| self.associations.get(*key)?.session.as_ref());
        self.scratch.resize(datagram.len(), 0);
        match choose(sessions, datagram, &mut self.scratch) {
            Choice::New => self.greet(now, local, from, datagram, rng, out),
            Choice::Candidate(index) => {
                let key = keys.get(index).copied().flatten()?;
                self.handle_records(now, key, from, datagram, rng, out)
            }
            Choice::Dropped(dropped) => {
                self.counters.dropped(dropped);
                None
            }
        }
    }

    /// Answers a ClientHello with a cookie, or begins a handshake when the cookie came back.
    fn greet(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &[u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        if !self.refusals.is_answered(now, (local, from)) {
            Counters::add(&mut self.counters.handshakes_silenced);
            return None;
        }
        let cookies = self
            .cookies
            .get_or_insert_with(|| CookieJar::shared_with_crypto(dtls(now), *self.shared.cookie_root(rng)));
        let config = self.config.dtls.with_certificate_types(self.config.keys.types(local));
        let hello = match cookies.accept(dtls(now), &config, rng, from.bytes(), datagram, out) {
            Accepted::Verified(hello) => hello,
            Accepted::Reply(length) => {
                if !self.rates.may_begin(now, from) && Rates::puts_off(rng) {
                    Counters::add(&mut self.counters.hellos_put_off);
                    return None;
                }
                Counters::add(&mut self.counters.cookies_sent);
                return Some(Transmit { local, to: from, range: 0..length });
            }
            Accepted::Refused { length, reason } => {
                self.handshake_refused(now, (local, from), None, false, reason.to_string());
                return Some(Transmit { local, to: from, range: 0..length });
            }
            Accepted::Dropped(dropped) => {
                self.counters.dropped(dropped);
                return None;
            }
        };
        // A new handshake asks for a key, of which its group may have asked for enough.
        let may_look_up = !hello.session_id().is_empty() || self.rates.may_look_up(now, from);
        if !may_look_up || !self.rates.begin(now, from) {
            Counters::add(&mut self.counters.handshakes_over_rate);
            return None;
        }
        // The handshake under way on this address makes room for the new one; an established session stays.
        let known = self.by_address.get(&(local, from)).map(Candidates::newest_first).unwrap_or_default();
        let (pending, established): (Vec<Key>, Vec<Key>) = known
            .into_iter()
            .flatten()
            .partition(|key| self.associations.get(*key).is_none_or(|association| association.who.is_none()));
        for key in pending {
            self.give_way(now, key);
        }
        // One with a Connection ID is found by that, and needs the address no longer.
        let has_id = |key: &Key| {
            let session = self.associations.get(*key).and_then(|association| association.session.as_ref());
            session.is_some_and(|session| !session.own_connection_id().is_empty())
        };
        let (found_by_id, established): (Vec<Key>, Vec<Key>) = established.into_iter().partition(has_id);
        for key in found_by_id {
            self.forget_address(key);
        }
        self.make_room(now, from);
        let shares_records =
            self.config.dtls.shares_records && !self.complained.contains(&from.socket_address().ip());
        let config = config.with_shared_records(shares_records);
        let config = match self.associations.next_key().filter(|_| self.config.connection_ids) {
            Some(key) => {
                let part = self.part;
                let ids = self.connection_ids.get_or_insert_with(|| ConnectionIds::new(part, rng));
                ids.emit(key).map_or(config, |id| config.with_connection_id(id))
            }
            None => config,
        };
        let association = match self.begin_session(now, (local, from), &config, &hello, rng) {
            Ok(association) => association,
            Err(error) => {
                Counters::add(&mut self.counters.handshakes_failed);
                self.handshake_refused(now, (local, from), None, false, error.to_string());
                return None;
            }
        };
        let Some(key) = self.associations.insert(association) else {
            Counters::add(&mut self.counters.handshakes_failed);
            self.handshake_refused(now, (local, from), None, false, "too many devices are known".to_owned());
            return None;
        };
        self.by_address
            .insert((local, from), Candidates { newest: key, older: established.first().copied() });
        self.under_way.begin(key, from);
        Counters::add(&mut self.counters.handshakes_begun);
        self.advance_handshake(now, key);
        self.mark_ready(key);
        None
    }

    /// Sees to it that one more handshake may be under way. An honest one takes some round trips, so that whoever begins many
    /// and finishes none keeps nobody out.
    fn make_room(&mut self, now: Instant, from: Address) {
        while self.under_way.count() >= self.config.handshakes {
            let Some(key) = self.under_way.displaced_by(from) else { break };
            // Whatever becomes of its association, each turn leaves one less.
            self.under_way.end(key);
            Counters::add(&mut self.counters.handshakes_displaced);
            self.give_way(now, key);
        }
    }

    /// Handles the records of a datagram. One CoAP message in a datagram is answered in `out`; a device that packs several
    /// into one has to repeat the others.
    fn handle_records(
        &mut self,
        now: Instant,
        key: Key,
        from: Address,
        bytes: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let mut datagram = Datagram::new(bytes);
        let mut answer = None;
        let mut is_heard = false;
        let local = self.associations.get(key)?.local;
        loop {
            let session = self.associations.get_mut(key)?.session.as_mut()?;
            let (counted, length) = (*session.counters(), datagram.remaining());
            let input = session.handle(dtls(now), &mut datagram);
            self.counters.records(&counted, session.counters());
            // RFC 9853 §2: what is discarded gives no room to the address that it came from.
            let is_taken = counted == *session.counters();
            let taken = if is_taken { length.saturating_sub(datagram.remaining()) } else { 0 };
            let is_authentic = matches!(input, Some(Input::Application(_)));
            if is_authentic && !core::mem::replace(&mut is_heard, true) {
                self.heard(now, key, from, rng);
            }
            self.associations.get_mut(key)?.count_received(from, taken);
            let Some(input) = input else { break };
            match input {
                Input::Application(message) if answer.is_none() => {
                    answer = self.message(now, key, message, rng, out);
                }
                Input::Application(_) => Counters::add(&mut self.counters.crowded),
                Input::PathResponse(cookie) => self.path_answered(now, key, from, cookie),
                Input::PathDrop(cookie) => self.path_dropped(now, key, from, cookie),
                input => self.session_changed(now, key, &input),
            }
        }
        self.note_complaint(key);
        self.advance_handshake(now, key);
        self.mark_ready(key);
        let to = self.associations.get(key).map_or(from, Association::answer_address);
        self.transmit(key, local, to, answer?)
    }

    /// The association with a Connection ID that this server gave out.
    fn find_by_id(&self, local: Listener, id: &[u8]) -> Option<Key> {
        let ids = self.connection_ids.as_ref()?;
        let key = ids.kept(id).or_else(|| {
            let (slot, generation) = ids.parse(id)?;
            let (key, _) = self.associations.at(slot)?;
            ConnectionIds::is_of(key, generation).then_some(key)
        })?;
        let association = self.associations.get(key)?;
        let has_id = association.session.as_ref().is_some_and(|session| session.own_connection_id() == id);
        (association.local == local && has_id).then_some(key)
    }

    /// Whoever answers a flight with an alert gets the next one with one message in a record: devices with tinydtls and the
    /// extended master secret understand no more. Anyone may forge such an alert; it costs 13 bytes.
    fn note_complaint(&mut self, key: Key) {
        let Some(association) = self.associations.get(key) else { return };
        let suspicion = association.session.as_ref().and_then(Connection::suspicion);
        let ip = association.address.socket_address().ip();
        if matches!(suspicion, Some(Reason::PeerAlert(_))) && !self.complained.contains(&ip) {
            self.complained.truncate(COMPLAINTS.saturating_sub(1));
            self.complained.push_front(ip);
        }
    }

    pub(crate) fn session_changed(&mut self, now: Instant, key: Key, input: &Input<'_>) {
        match *input {
            Input::Established { full } => self.established(key, full),
            Input::Closed(reason) => self.session_ended(now, key, reason),
            _ => {}
        }
    }

    /// Lets time pass for the session of an association.
    pub(crate) fn session_timeout(&mut self, now: Instant, key: Key) {
        let session = self.associations.get_mut(key).and_then(|association| association.session.as_mut());
        if let Some(input) = session.and_then(|session| session.handle_timeout(dtls(now))) {
            self.session_changed(now, key, &input);
        }
    }

    /// The peer's Finished verified. Whether it may still come in is asked once more: its credential may have ended while
    /// the handshake was under way.
    fn established(&mut self, key: Key, full: bool) {
        let Some(association) = self.associations.get_mut(key) else { return };
        if association.who.is_some() {
            return;
        }
        let proving = association.passing.take_proving().map(|proving| *proving);
        let Some(Proving { who: Some(who), is_too_long_for_a_ticket, presenting, .. }) = proving else {
            return self.remove(key);
        };
        let who = Who::Proven(who);
        self.refusals.succeeded((association.local, association.address));
        association.admission = Admission::Asked { full, named: presenting.named };
        self.under_way.end(key);
        Counters::add(&mut self.counters.handshakes_finished);
        if is_too_long_for_a_ticket {
            Counters::add(&mut self.counters.tickets_too_long);
        }
        if !full {
            Counters::add(&mut self.counters.sessions_resumed);
        }
        self.name(key, who.clone());
        self.ask(key, Question::Admit { who });
    }

    /// A session may go on: it replaces what was on its address, and the registration of its identity, and of no other,
    /// goes on in it.
    pub(crate) fn adopt(&mut self, now: Instant, key: Key, full: bool, named: Named) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let made = association.session.as_mut().and_then(Connection::take_session);
        let suite = association.session.as_ref().and_then(Connection::suite).unwrap_or_default();
        let Some(who) = association.who.as_ref().and_then(Who::proven).cloned() else { return };
        let address = (association.local, association.address);
        self.forget_oldest_of(&who.endpoint, key);
        if who.role == Role::Management {
            match self.registry.find(&who.endpoint) {
                Some(registered) => {
                    self.rebind(registered, key);
                    self.end_observations(key, "the keys of its device are new");
                }
                None => drop(self.fetch(now, key, &who.endpoint)),
            }
        }
        // The former session of this address cannot be reached any more, whoever it belonged to. The registration of
        // another identity stays, without a session.
        if let Some(older) =
            self.by_address.get(&address).filter(|known| known.newest == key).and_then(|c| c.older)
        {
            self.session_closed(older, "another session was established from its address");
            self.remove(older);
        }
        self.events.push_back(Event::SessionEstablished {
            endpoint: who.endpoint.clone(),
            role: who.role,
            full,
            suite,
        });
        if let Some(session) = made {
            self.config.sessions.keep(now, &session, who.clone(), named);
        }
        self.facts.push_back(Fact::Handshake { who, full });
    }

    /// The session is over; what it has to say last is still sent, then the association goes.
    fn session_ended(&mut self, now: Instant, key: Key, reason: Reason) {
        let Some(association) = self.associations.get(key) else { return };
        if association.who.is_some() {
            self.session_closed(key, &reason.to_string());
        } else {
            Counters::add(&mut self.counters.handshakes_failed);
            let (local, from) = (association.local, association.address);
            if matches!(
                reason,
                Reason::UnknownIdentity
                    | Reason::WrongKey
                    | Reason::BadFinished
                    | Reason::UntrustedPeer(_)
                    | Reason::BadSignature
            ) {
                self.refusals.failed(now, (local, from));
            }
            let proving = association.passing.proving();
            if proving.is_none_or(|proving| !proving.is_told) {
                let identity = proving.filter(|proving| !proving.identity.is_empty());
                let identity =
                    identity.map(|proving| String::from_utf8_lossy(&proving.identity).into_owned());
                let is_known = proving.is_some_and(|proving| proving.who.is_some());
                self.handshake_refused(now, (local, from), identity, is_known, reason.to_string());
            }
        }
        self.mark_ready(key);
    }

    /// A handshake makes room for the next one of its address. A peer that named itself and failed begins anew before the
    /// deadline of the first, which is told of all the same.
    fn give_way(&mut self, now: Instant, key: Key) {
        let association =
            self.associations.get(key).filter(|association| association.passing.proving().is_some());
        let session = association.and_then(|association| association.session.as_ref());
        if let Some(reason) = session.and_then(Connection::suspicion) {
            self.session_ended(now, key, reason);
        }
        self.remove(key);
    }

    fn session_closed(&mut self, key: Key, reason: &str) {
        if let Some(who) = self.associations.get(key).and_then(|association| association.who.as_ref()) {
            self.events.push_back(Event::SessionClosed {
                endpoint: who.endpoint().clone(),
                role: who.role(),
                reason: reason.to_owned(),
            });
        }
    }

    /// Tells of a refused handshake. Whoever has an address can have as many refused as he likes: beyond a rate they are
    /// only counted, so that they do not crowd out the other events. An identity that is known has a rate of its own.
    pub(crate) fn handshake_refused(
        &mut self,
        now: Instant,
        (local, from): (Listener, Address),
        identity: Option<String>,
        is_known: bool,
        reason: String,
    ) {
        if !self.refusals.is_told(now, is_known) {
            Counters::add(&mut self.counters.untold_refusals);
            return;
        }
        self.events.push_back(Event::HandshakeRefused {
            role: local.role(),
            address: from.to_string(),
            identity,
            reason,
        });
    }
}
