//! OSCORE (RFC 8613): requests that name their keys, whatever address they come from.
//!
//! 1. A request has a kid, and perhaps a kid context. The association with these keys takes it, wherever it comes from: from another
//!    address it moves there, if it is newer than all before.
//! 2. Keys that are not known here are looked up (`lookup.rs`). Whoever sent what verifies under them gets an association; of anybody else
//!    nothing is kept.
//! 3. Sequence numbers are reserved in durable storage, ahead of need: nothing is carried out or sent before the first ones are.
//! 4. A request that may be a replay, because what came before is not known, is answered with an Echo value; one that begins Appendix B.2
//!    with a random number. Neither is carried out.
//!
//! Invariants: only what verified changes anything; each context is in one part of the server, that of its kid, so that there is one
//! replay window and one sequence of each; who is not proven by a request that counts has no name and no address here.

use std::ops::Range;
use std::sync::Arc;

use lwm2m_coap::{
    Code, Exchange, Header, Ignored, Input, Instant, Kind, Message, OptionNumber, Parameters as Timing, Peer,
    Reply, Rng, Room, Settled, TokenPolicy, Writer, udp,
};
use oscore::{Observations, Standing};

use crate::credentials::{Context, ContextId, Fact, Named, Role};
use crate::event::Event;
use crate::store::Reservation;

use super::association::{Association, Bound, CoapPeer, Who};
use super::counters::Counters;
use super::location::VirtualShard;
use super::oscore::{Held, Oscore, header, named, plain};
use super::path::Unproven;
use super::question::Verdict;
use super::shard::Content;
use super::slab::Key;
use super::stranger::challenge as echo_of;
use super::trace::Direction;
use super::work::{Done, Work};
use super::{Address, Candidates, Endpoint, Listener, Transmit};

impl Endpoint {
    /// Takes a request that names its keys.
    pub(crate) fn handle_named(
        &mut self,
        now: Instant,
        (local, from): (Listener, Address),
        named: Named,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let owner = self.part.owner(VirtualShard::of_bytes(named.kid.bytes()));
        if owner != self.part.index {
            Counters::add(&mut self.counters.passed_on);
            self.send_parcel(owner, Content::Datagram { local, from, bytes: (&*datagram).into() });
            return None;
        }
        let Some(key) = self.find_context((local, from), &named) else {
            self.look_up_context(now, (local, from), named, datagram);
            return None;
        };
        if self.associations.get(key).is_some_and(|known| known.local == local && known.address == from) {
            return self.handle_of(now, key, (local, from), datagram, rng, out);
        }
        // Nothing is counted against the device that its keys belong to before they verify.
        if !self.rates.look_up(now, from) {
            Counters::add(&mut self.counters.look_ups_over_rate);
            return None;
        }
        self.visit(now, key, (local, from), datagram, rng, out)
    }

    /// The association whose keys a request names. Where it names the kid alone, the one that is at its address, or the only one; a
    /// kid context that none of them has may be that of another credential, or a random number (Appendix B.2).
    fn find_context(&self, (local, from): (Listener, Address), named: &Named) -> Option<Key> {
        let role = local.role();
        if let Some(key) =
            named.context_ids().into_iter().flatten().find_map(|id| self.contexts.get(&(role, id)))
        {
            return Some(*key);
        }
        let of = |key: Key| self.associations.get(key)?.oscore.as_deref();
        let first = (role, ContextId { kid: named.kid, id_context: None });
        let all = self.contexts.range(first..).take_while(|((of, id), _)| *of == role && id.kid == named.kid);
        let mut all = all.map(|(_, key)| *key);
        if named.kid_context.is_some() {
            let is_meant = |key: &Key| {
                let current = of(*key).and_then(|oscore| oscore.session.context().id_context());
                named.context_ids().into_iter().flatten().any(|id| id.id_context.as_deref() == current)
            };
            return all.take(MOST_OF_ONE_KID).find(is_meant);
        }
        let here = self.by_address.get(&(local, from)).map(Candidates::newest_first).unwrap_or_default();
        let is_same = |key: &Key| of(*key).is_some_and(|oscore| oscore.id.kid == named.kid);
        here.into_iter().flatten().find(is_same).or_else(|| all.next().filter(|_| all.next().is_none()))
    }

    /// Takes a request from another address than that of the association with its keys: unprotects it first.
    fn visit(
        &mut self,
        now: Instant,
        key: Key,
        (local, from): (Listener, Address),
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let (length, (header, _)) = (datagram.len(), udp::parse(datagram).ok()?);
        let association = self.associations.get_mut(key).filter(|known| known.local == local)?;
        let oscore = association.oscore.as_deref_mut()?;
        if oscore.is_waiting() {
            oscore.held.get_or_insert_with(|| Held::Datagram(from, (&*datagram).into()));
            self.reserve_ahead(key);
            return None;
        }
        if !association.rate.has_left(now, self.config.burst, self.config.rate) {
            Counters::add(&mut self.counters.over_rate);
            return None;
        }
        let generation = oscore.session.generation();
        let mut visitor = CoapPeer::new(&Timing::DEFAULT, TokenPolicy::Random, rng);
        let input = visitor.handle(now, datagram, &mut Some(oscore.protection(now, rng)));
        if !matches!(input, Input::Request { .. } | Input::Unacceptable { .. }) {
            oscore.count_refused(&mut self.counters, datagram);
            let length = visitor.poll_transmit(now, out)?;
            return Some(Transmit { local, to: from, range: 0..length });
        }
        association.rate.take(now, self.config.burst, self.config.rate);
        let expiry = now.saturating_add(Timing::DEFAULT.exchange_lifetime);
        // Repeated from there it gets the same answer.
        association.coap.remember(now, &Settled { id: header.id, expiry, reply: Reply::Silence });
        self.mind_keys(now, key, generation);
        let range = match input {
            Input::Request { exchange, message } => {
                self.take_request(now, key, (from, length), exchange, (header, &message), rng, out)
            }
            input => self.take_input(now, key, input, rng, out),
        };
        self.mark_ready(key);
        self.answer_from(key, (local, from), length, range?)
    }

    /// An answer to where a request of so many bytes came from, which may not be where its device is.
    fn answer_from(
        &mut self,
        key: Key,
        (local, from): (Listener, Address),
        length: usize,
        range: Range<usize>,
    ) -> Option<Transmit> {
        let is_there = self
            .associations
            .get(key)
            .is_some_and(|known| known.session.is_some() || (known.is_indexed && known.address == from));
        if is_there {
            return self.transmit(key, local, from, range);
        }
        if range.len() > length.saturating_mul(3) {
            Counters::add(&mut self.counters.over_amplification);
            return None;
        }
        Some(Transmit { local, to: from, range })
    }

    /// Takes a request that verified: carries it out, or has it prove that it is none that came before.
    #[expect(
        clippy::too_many_arguments,
        reason = "the direct path hands time, randomness and the buffer down"
    )]
    pub(crate) fn take_request(
        &mut self,
        now: Instant,
        key: Key,
        (from, length): (Address, usize),
        mut exchange: Exchange<Bound>,
        (header, message): (Header, &Message<'_>),
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        let Some((oscore, binding)) = association.oscore.as_deref_mut().zip(*exchange.binding()) else {
            return self.handle_request(now, key, exchange, message, rng, out);
        };
        let mut is_shown = false;
        match binding.standing() {
            Standing::Fresh => {}
            Standing::Rederiving => {
                return self.answer(now, key, &mut exchange, rng, out, |_, writer| {
                    writer.restart(Code::UNAUTHORIZED);
                    Ok(())
                });
            }
            Standing::Unproven => match oscore.session.recover(binding, now, message.options.echo()) {
                Some(proven) => {
                    is_shown = true;
                    exchange.set_binding(Some(proven));
                }
                None => {
                    Counters::add(&mut self.counters.challenged);
                    return self.answer(now, key, &mut exchange, rng, out, |association, writer| {
                        let oscore = association.oscore.as_ref();
                        oscore.map_or(Ok(()), |oscore| oscore.session.challenge(now, writer))
                    });
                }
            },
        }
        if !oscore.is_stored() {
            // Of new keys that storage does not know nothing counts before it does.
            oscore.held = plain(header, message).map(|bytes| Held::Request(from, exchange, bytes));
            self.reserve_ahead(key);
            return None;
        }
        if oscore.session.is_newest(&binding) {
            if !is_shown && self.is_taken(key, from) {
                // Anybody on the way can send it from the address of another device, which would lose that by it.
                let shared = Arc::clone(&self.shared);
                let challenge = echo_of(shared.cookie_root(rng), from);
                if !challenge.accepts(now, message.options.echo()) {
                    Counters::add(&mut self.counters.challenged);
                    let refuse = |_: &Association, writer: &mut Writer<'_>| challenge.refuse(now, writer);
                    return self.answer(now, key, &mut exchange, rng, out, refuse);
                }
            }
            self.locate(key, from, length);
        }
        self.mark_heard(now, key);
        self.admit_context(now, key);
        self.see(now, key, header, message);
        if self.part.of > 1
            && let Some(bytes) = plain(header, message)
            && self.waits_for_registration(now, key, &bytes)
        {
            let oscore = self.associations.get_mut(key)?.oscore.as_deref_mut()?;
            oscore.held = Some(Held::Request(from, exchange, bytes));
            return None;
        }
        self.handle_request(now, key, exchange, message, rng, out)
    }
    /// Handles a message of an association with a context: of that nothing counts which does not verify.
    pub(crate) fn take_protected(
        &mut self,
        now: Instant,
        key: Key,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let (length, header) = (datagram.len(), header(datagram));
        let association = self.associations.get_mut(key)?;
        if association.takes_probe_answer(datagram) {
            return None;
        }
        let from = association.answer_address();
        let oscore = association.oscore.as_deref_mut()?;
        if oscore.is_waiting() && named(datagram).is_some() {
            // Another one beside it is repeated by its device.
            oscore.held.get_or_insert_with(|| Held::Datagram(from, (&*datagram).into()));
            self.reserve_ahead(key);
            return None;
        }
        let is_alone = association.session.is_none();
        // Before it is unprotected, so that it can come again; it counts when it verified.
        if is_alone && !association.rate.has_left(now, self.config.burst, self.config.rate) {
            Counters::add(&mut self.counters.over_rate);
            return None;
        }
        let generation = oscore.session.generation();
        let input = association.coap.handle(now, datagram, &mut Some(oscore.protection(now, rng)));
        let is_answer = matches!(input, Input::Response { .. } | Input::Unsolicited { .. });
        let is_verified = is_answer || matches!(input, Input::Request { .. } | Input::Unacceptable { .. });
        if is_alone && is_verified {
            association.rate.take(now, self.config.burst, self.config.rate);
        }
        if is_alone && is_answer {
            self.mark_heard(now, key);
        }
        self.mind_keys(now, key, generation);
        match input {
            Input::Request { exchange, message } => {
                self.take_request(now, key, (from, length), exchange, (header?, &message), rng, out)
            }
            Input::Ignored(Ignored::Refused) => {
                let oscore = self.associations.get(key)?.oscore.as_deref()?;
                oscore.count_refused(&mut self.counters, datagram);
                None
            }
            input => {
                if let (Input::Response { message, .. } | Input::Unsolicited { message, .. }, Some(header)) =
                    (&input, header)
                {
                    self.see(now, key, header, message);
                }
                self.take_input(now, key, input, rng, out)
            }
        }
    }

    /// Shows an unprotected message to those who watch.
    fn see(&mut self, now: Instant, key: Key, header: Header, message: &Message<'_>) {
        if !self.trace.is_on() {
            return;
        }
        let Some(association) = self.associations.get(key) else { return };
        let device = association.registration.and_then(|device| self.registry.get(device));
        let bytes = plain(header, message);
        self.trace.record(now, association, device, Direction::FromDevice, bytes.as_deref());
    }

    /// Takes a request whose keys were looked up.
    pub(crate) fn take_contexts(
        &mut self,
        now: Instant,
        (local, from): (Listener, Address),
        mut datagram: Box<[u8]>,
        verdict: &Verdict,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let (contexts, reason) = match verdict {
            Verdict::Contexts(contexts) if contexts.iter().all(|context| context.is_within) => {
                (contexts.as_slice(), "its keys are good inside DTLS alone")
            }
            Verdict::Contexts(contexts) => (contexts.as_slice(), "it does not verify under its keys"),
            Verdict::Refused { reason } => (&[][..], reason.as_str()),
            _ => (&[][..], ""),
        };
        for context in contexts.iter().filter(|context| !context.is_within) {
            if !Oscore::verifies(context, now, &datagram, rng) {
                continue;
            }
            // Another request may have brought it meanwhile.
            let known = self.contexts.get(&(local.role(), context.key.context_id())).copied();
            return match known {
                Some(key) => self.visit(now, key, (local, from), &mut datagram, rng, out),
                None => {
                    self.meet_context(now, (local, from), context, datagram, rng);
                    None
                }
            };
        }
        Counters::add(&mut self.counters.contexts_unknown);
        let identity = named(&datagram).map(|named| named.to_string());
        self.handshake_refused(now, (local, from), identity, !contexts.is_empty(), reason.to_owned());
        unknown_context(&datagram, out).map(|range| Transmit { local, to: from, range })
    }

    /// Keeps a context whose keys somebody has shown to have, and reserves numbers for it. It has neither name nor address yet.
    fn meet_context(
        &mut self,
        now: Instant,
        (local, from): (Listener, Address),
        context: &Context,
        datagram: Box<[u8]>,
        rng: &mut Rng<'_>,
    ) {
        if self.strangers >= self.config.unregistered {
            return Counters::add(&mut self.counters.turned_away);
        }
        let mut oscore = Box::new(Oscore::new(context, self.config.observations, rng));
        let place = (local.role(), oscore.id.clone());
        oscore.held = Some(Held::Datagram(from, datagram));
        let mut association = Association::new(now, local, from, None, rng);
        association.coap = Peer::new(&Timing::DEFAULT, TokenPolicy::SECURED, rng);
        association.is_indexed = false;
        association.oscore = Some(oscore);
        let Some(key) = self.associations.insert(association) else {
            return Counters::add(&mut self.counters.turned_away);
        };
        self.strangers = self.strangers.saturating_add(1);
        self.contexts.insert(place, key);
        self.reserve_ahead(key);
        self.mark_ready(key);
    }

    /// Has numbers reserved before they run out.
    pub(crate) fn reserve_ahead(&mut self, key: Key) {
        let association = self.associations.get_mut(key).filter(|known| !known.admission.is_awaited());
        let oscore = association.and_then(|association| association.oscore.as_deref_mut());
        let Some(oscore) = oscore.filter(|oscore| !oscore.is_reserving) else { return };
        let Some(saved) = oscore.session.wanted() else { return };
        oscore.is_reserving = true;
        let work = Work::Reserve(Reservation { fingerprint: oscore.fingerprint, saved });
        self.queue_work(key, None, work);
    }

    /// Goes on with what waited for a reservation. One that failed is tried again when something is heard or to be sent.
    pub(crate) fn reserved(
        &mut self,
        now: Instant,
        key: Key,
        done: Done,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let oscore = self.associations.get_mut(key)?.oscore.as_deref_mut()?;
        oscore.is_reserving = false;
        let saved = match done {
            Done::Reserved(Reservation { saved, .. }) => saved,
            Done::Overtaken => {
                // It goes on behind what is reserved now.
                Counters::add(&mut self.counters.reservations_overtaken);
                self.overtaken(key);
                return None;
            }
            _ => {
                Counters::add(&mut self.counters.reservations_failed);
                return None;
            }
        };
        oscore.session.saved(&saved);
        oscore.reserved = Some(saved);
        self.reserve_ahead(key);
        self.mark_ready(key);
        self.release(now, key, rng, out)
    }

    /// Goes on with the request that waits, if it waits for nothing more.
    pub(crate) fn release(
        &mut self,
        now: Instant,
        key: Key,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let association = self.associations.get_mut(key)?;
        let (local, address) = (association.local, association.address);
        let is_alone = association.session.is_none();
        let oscore = association.oscore.as_deref_mut().filter(|oscore| !oscore.is_waiting())?;
        match oscore.held.take()? {
            Held::Datagram(from, mut datagram) if !is_alone => {
                let range = self.take_message(now, key, &mut datagram, rng, out);
                self.mark_ready(key);
                self.transmit(key, local, from, range?)
            }
            Held::Datagram(from, mut datagram) if from == address => {
                self.handle_of(now, key, (local, from), &mut datagram, rng, out)
            }
            Held::Datagram(from, mut datagram) => {
                self.visit(now, key, (local, from), &mut datagram, rng, out)
            }
            Held::Request(from, exchange, bytes) => {
                let (header, message) = udp::parse(&bytes).ok()?;
                let range =
                    self.take_request(now, key, (from, bytes.len()), exchange, (header, &message), rng, out)?;
                self.answer_from(key, (local, from), bytes.len(), range)
            }
        }
    }

    /// Looks after the keys when they were used. Where they were replaced (Appendix B.2), what was begun under the former ones has
    /// ended.
    fn mind_keys(&mut self, now: Instant, key: Key, former: u32) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(oscore) = association.oscore.as_deref_mut() else { return };
        self.facts.extend(oscore.mind_wear());
        if oscore.session.generation() == former {
            return;
        }
        oscore.is_worn_told = false;
        oscore.observations.all.clear();
        association.coap.fail_begun();
        self.failures(now, key);
        self.end_observations(key, "the keys of its device were replaced");
        self.reserve_ahead(key);
    }

    /// Ends the observations of the device of an association that its context does not know of: their notifications mean nothing.
    pub(crate) fn end_observations(&mut self, key: Key, reason: &str) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(oscore) = association.oscore.as_deref_mut() else { return };
        let registered = association.registration.and_then(|registered| self.registry.get_mut(registered));
        let Some(registered) = registered else { return };
        let is_known = |observation: &mut super::observation::Observation| {
            oscore.observations.find(observation.token).is_none()
        };
        let ended: Vec<_> = registered.observations.extract_if(.., is_known).collect();
        for observation in &ended {
            self.events.push_back(Event::ObservationEnded {
                endpoint: registered.endpoint.clone(),
                observation: observation.id,
                reason: reason.to_owned(),
                code: None,
            });
        }
    }

    /// The first request of a context that counts: from now on its association has a name, and the registration of that.
    fn admit_context(&mut self, now: Instant, key: Key) {
        let Some(association) = self.associations.get(key).filter(|known| known.who.is_none()) else {
            return;
        };
        let Some(who) = association.oscore.as_ref().map(|oscore| oscore.who.clone()) else { return };
        let endpoint = who.endpoint.clone();
        let role = who.role;
        self.name(key, Who::Proven(who.clone()));
        // What a handshake proves, its keys have proved.
        self.facts.push_back(Fact::Handshake { who, full: true });
        self.forget_oldest_of(&endpoint, key);
        if role == Role::Management {
            match self.registry.find(&endpoint) {
                Some(registered) => {
                    self.rebind(registered, key);
                    self.end_observations(key, "the keys of its device are new");
                }
                None => drop(self.fetch(now, key, &endpoint)),
            }
        }
    }

    /// Whether somebody else was heard last at an address where an association under OSCORE alone was not proven to be.
    fn is_taken(&self, key: Key, at: Address) -> bool {
        let association = self.associations.get(key).filter(|known| known.is_under_oscore_alone());
        association.is_some_and(|known| {
            let is_proven = known.address == at && known.unproven.is_none();
            let newest = self.by_address.get(&(known.local, at)).map(|known| known.newest);
            !is_proven && newest.is_some_and(|newest| newest != key)
        })
    }

    /// The newest request of an association under OSCORE alone came from an address: it is there now.
    fn locate(&mut self, key: Key, to: Address, length: usize) {
        let Some(association) = self.associations.get_mut(key).filter(|known| known.is_under_oscore_alone())
        else {
            return;
        };
        let (local, from) = (association.local, association.address);
        let known = self.by_address.get(&(local, to)).copied();
        if from == to && association.is_indexed && known.is_some_and(|known| known.newest == key) {
            return;
        }
        if from != to {
            self.move_to(key, to);
            let mut unproven = Box::new(Unproven::new(to));
            unproven.count_received(length);
            if let Some(association) = self.associations.get_mut(key) {
                association.unproven = Some(unproven);
            }
        } else {
            self.forget_address(key);
        }
        if let Some(association) = self.associations.get_mut(key) {
            association.is_indexed = true;
        }
        if self.part.of > 1 {
            self.shared.locate((local, to), self.part.index);
        }
        // Whoever else was heard from there may be there still, or again.
        let known = self.by_address.get(&(local, to)).copied();
        let older = known.map(|known| known.newest);
        if let Some(last) = known.and_then(|known| known.older)
            && let Some(association) = self.associations.get_mut(last)
        {
            association.is_indexed = false;
        }
        self.by_address.insert((local, to), Candidates { newest: key, older });
    }

    /// An association with a context is gone.
    pub(crate) fn forget_context(&mut self, role: Role, oscore: &Oscore, key: Key) {
        let place = (role, oscore.id.clone());
        if self.contexts.get(&place) == Some(&key) {
            self.contexts.remove(&place);
        }
    }
}

/// Contexts of one kid that are looked at where none has the ID Context that a request names: a fleet of one kid has one for each device.
const MOST_OF_ONE_KID: usize = 64;

/// RFC 8613 §8.2: what a Confirmable request with unknown keys, or other ones than it says, is answered with; no longer than it is.
fn unknown_context(datagram: &[u8], out: &mut [u8]) -> Option<Range<usize>> {
    let (header, message) =
        udp::parse(datagram).ok().filter(|(header, _)| header.kind == Kind::Confirmable)?;
    let mut writer = Writer::new(out, Room::NONE, Code::UNAUTHORIZED);
    writer.uint(OptionNumber::MAX_AGE, 0).ok()?;
    let header = Header { kind: Kind::Acknowledgement, id: header.id };
    Some(writer.finish().ok()?.emit(header, message.token))
}
