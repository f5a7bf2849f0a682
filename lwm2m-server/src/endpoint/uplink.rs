//! Requests of a device: Register, Update, De-register, Send and Bootstrap-Request (LwM2M Core 1.2.1 §6.1.7.1, §6.2, §6.4.7).
//!
//! 1. The request is read and checked against what the handshake proved: another endpoint name is refused with 4.00.
//! 2. Update, De-register and Send are answered inline.
//! 3. Register and Bootstrap-Request park until the owner answers whether this device may, then are answered.
//!
//! Invariant: a name that is neither proven nor admitted changes nothing.

use std::ops::Range;

use lwm2m_coap::block::Block;
use lwm2m_coap::{
    Code, ContentFormat, Exchange, Instant, Message, NoResponse, OptionNumber, Rng, WriteError, Writer,
};
use lwm2m_objects::{Format, Location, Operation, Parameters, Version, mapping};

use crate::credentials::{Fact, Named, Role};
use crate::event::Event;

use super::association::{Admission, Association, Bound, Who};
use super::bootstrap::Bootstrap;
use super::counters::Counters;
use super::downlink::{Job, Purpose};
use super::question::{Question, Verdict};
use super::registry::{Binding, Change, Former, ObjectList, Registration};
use super::slab::Key;
use super::trace::Direction;
use super::upload::Upload;
use super::{BOOTSTRAP_LIMIT, Endpoint};

/// A request that waits for the owner's answer.
pub(crate) struct Parked {
    pub(crate) exchange: Exchange<Bound>,
    pub(crate) no_response: NoResponse,
    pub(crate) who: Who,
    pub(crate) what: What,
}

pub(crate) enum What {
    Register {
        version: Version,
        change: Change,
        block: Option<Block>,
    },
    Bootstrap {
        preferred: Option<Format>,
    },
    /// A request under keys that are not those of its session, as it came.
    Foreign {
        named: Named,
        datagram: Box<[u8]>,
    },
}

/// What a request leads to.
enum Next {
    Reply(Reply),
    Park(Who, What),
}

/// What a request is answered with.
pub(crate) struct Reply {
    pub(crate) code: Code,
    /// The id of a location.
    pub(crate) location: Option<String>,
    /// The block it acknowledges.
    pub(crate) block: Option<Block>,
    /// The longest body that is taken.
    pub(crate) size: Option<u32>,
    /// Whether the device wants to hear of it at all.
    pub(crate) no_response: NoResponse,
}

impl From<Code> for Reply {
    fn from(code: Code) -> Self {
        Self { code, location: None, block: None, size: None, no_response: NoResponse::default() }
    }
}

impl Endpoint {
    /// Handles a request; the answer, if it is given at once, lies in `out`.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        key: Key,
        mut exchange: Exchange<Bound>,
        message: &Message<'_>,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        // RFC 7959 §2.3: the final answer acknowledges the last block.
        let mut block = None;
        let next = match message.options.block1() {
            Ok(None) => self.operate(key, now, message),
            // An object list longer than one message comes in blocks (RFC 7959 §2.5).
            _ => {
                let budget = &self.budget;
                let place = &mut association.passing.make().upload;
                let taken = place.get_or_insert_with(|| Box::new(Upload::new(budget))).take(now, message);
                place.take_if(|upload| !upload.is_active());
                match taken {
                    Ok((body, answer)) => {
                        block = answer;
                        self.operate(key, now, &Message { payload: &body, ..*message })
                    }
                    Err(reply) => {
                        if reply.code == Code::SERVICE_UNAVAILABLE {
                            Counters::add(&mut self.counters.blocks_turned_away);
                            if let Ok(Operation::Update { location, .. }) = mapping::registration(message)
                                && let Some(registered) = self.owned(key, location)
                            {
                                self.keep_registered(now, key, registered);
                            }
                        }
                        Next::Reply(reply)
                    }
                }
            }
        };
        let no_response = message.options.no_response();
        match next {
            Next::Reply(mut reply) => {
                reply.block = reply.block.or(block);
                reply.no_response = no_response;
                self.respond(now, key, &mut exchange, &reply, rng, out)
            }
            Next::Park(who, mut what) => {
                if let What::Register { block: place, .. } = &mut what {
                    *place = block;
                }
                let parked = Parked { exchange, no_response, who, what };
                self.park(now, key, parked, rng, out)
            }
        }
    }

    /// What a whole request leads to.
    fn operate(&mut self, key: Key, now: Instant, message: &Message<'_>) -> Next {
        let role = self.associations.get(key).map(|association| association.local.role());
        let operation = match mapping::registration(message) {
            Ok(operation) => operation,
            Err(error) => return Next::Reply(mapping::code(&Err(error)).into()),
        };
        let (claimed, asked) = match (role, operation) {
            (Some(Role::Management), Operation::Register { parameters, .. }) => {
                (parameters.endpoint, self.read_register(key, &parameters, message))
            }
            (Some(Role::Bootstrap), Operation::BootstrapRequest { endpoint, preferred }) => {
                (endpoint, self.read_bootstrap_request(key, endpoint, preferred))
            }
            (Some(Role::Management), Operation::Update { location, parameters, .. }) => {
                return Next::Reply(self.update(now, key, location, &parameters, message).into());
            }
            (Some(Role::Management), Operation::Deregister { location }) => {
                return Next::Reply(self.deregister(now, key, location).into());
            }
            (Some(Role::Management), Operation::Send { content }) => {
                return Next::Reply(self.sent(now, key, content).into());
            }
            _ => return Next::Reply(Code::NOT_FOUND.into()),
        };
        match asked {
            Ok((who, what)) => Next::Park(who, what),
            Err((code, reason)) => {
                self.registration_refused(now, key, claimed, reason);
                Next::Reply(code.into())
            }
        }
    }

    /// Counts and tells of a Register or Bootstrap-Request that is refused, to the peer by a code at most.
    fn registration_refused(&mut self, now: Instant, key: Key, claimed: Option<&str>, reason: String) {
        Counters::add(&mut self.counters.refused);
        let Some(association) = self.associations.get(key) else { return };
        let (role, who) = (association.local.role(), association.who.as_ref());
        let is_known = who.is_some_and(|who| who.proven().is_some());
        // Who proved to be one device is not told of as another, whatever it claims.
        let proven = who.filter(|who| who.proven().is_some()).map(Who::endpoint).cloned();
        let endpoint = proven.or_else(|| Some(claimed?.into())).or_else(|| who.map(Who::endpoint).cloned());
        let endpoint = endpoint.unwrap_or_default();
        if self.refusals.is_told(now, is_known) {
            self.events.push_back(Event::RegistrationRefused { endpoint, role, reason });
        } else {
            Counters::add(&mut self.counters.untold_refusals);
        }
    }

    pub(super) fn respond(
        &mut self,
        now: Instant,
        key: Key,
        exchange: &mut Exchange<Bound>,
        reply: &Reply,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        // RFC 7967 §2: the server may leave out a response that its client does not want.
        if reply.no_response.covers(reply.code) {
            association.coap.suppress(exchange);
            return None;
        }
        let mut random = [0];
        rng(&mut random);
        let [random] = random;
        self.answer(now, key, exchange, rng, out, |_, writer| {
            writer.restart(reply.code);
            if let Some(id) = &reply.location {
                writer.option(OptionNumber::LOCATION_PATH, b"rd")?;
                writer.option(OptionNumber::LOCATION_PATH, id.as_bytes())?;
            }
            if reply.code == Code::SERVICE_UNAVAILABLE {
                // RFC 7252 §5.9.3.4: when to try again. Those who were refused together do not come back together.
                let seconds = RETRY.saturating_add(u32::from(random % RETRY_SPREAD));
                writer.uint(OptionNumber::MAX_AGE, seconds)?;
            }
            if let Some(block) = reply.block {
                writer.block1(block)?;
            }
            if let Some(size) = reply.size {
                writer.uint(OptionNumber::SIZE1, size)?;
            }
            Ok(())
        })
    }

    /// Answers a request with what is written, which lies in `out` then.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        key: Key,
        exchange: &mut Exchange<Bound>,
        rng: &mut Rng<'_>,
        out: &mut [u8],
        write: impl Fn(&Association, &mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        let mut writer = Writer::new(association.space(out), association.room(), Code::EMPTY);
        write(association, &mut writer).ok()?;
        let Association { coap, oscore, .. } = association;
        // What came without protection is refused without.
        let oscore = oscore.as_deref_mut().filter(|_| exchange.binding().is_some());
        let mut protection = oscore.map(|oscore| oscore.protection(now, rng));
        let range = coap.respond(now, exchange, writer, &mut protection, rng).ok()?;
        let sent = out.get(range.clone());
        let seen = association.as_seen(sent, self.trace.is_on(), |writer| write(association, writer));
        self.trace.record(now, association, None, Direction::ToDevice, seen.as_deref().or(sent));
        association.seal(&mut self.counters, out, range)
    }

    pub(crate) fn park(
        &mut self,
        now: Instant,
        key: Key,
        mut parked: Parked,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        if association.passing.is_parked() {
            let reply = Reply { no_response: parked.no_response, ..Code::SERVICE_UNAVAILABLE.into() };
            return self.respond(now, key, &mut parked.exchange, &reply, rng, out);
        }
        // Its own question takes the place of a review.
        if association.admission == Admission::Reviewed {
            association.admission = Admission::Settled;
        }
        let who = parked.who.clone();
        let (role, from) = (association.local.role(), association.address);
        let question = match &parked.what {
            What::Register { .. } => Question::Register { who },
            What::Foreign { named, .. } => Question::LookUpContext { role, named: named.clone(), from },
            What::Bootstrap { .. } => {
                self.end_bootstraps(&who);
                Question::Plan { who }
            }
        };
        if let Some(association) = self.associations.get_mut(key) {
            association.passing.make().parked = Some(Box::new(parked));
        }
        self.ask(key, question);
        None
    }

    /// A proven device that asks to be bootstrapped has given up every bootstrap before, in whatever session: that is told
    /// before the next one begins, so that it cannot be taken for a failure of the next one.
    fn end_bootstraps(&mut self, who: &Who) {
        if who.proven().is_none() {
            return;
        }
        self.end_bootstraps_elsewhere(who.endpoint());
        for key in self.by_name.get(who.endpoint()).cloned().unwrap_or_default() {
            if self.associations.get(key).is_some_and(|other| other.local.role() == Role::Bootstrap) {
                self.interrupt(key);
            }
        }
    }

    /// Goes on with a parked request; the answer lies in `out`.
    pub(crate) fn resume(
        &mut self,
        now: Instant,
        key: Key,
        verdict: Verdict,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let parked = *self.associations.get_mut(key)?.passing.take_parked()?;
        let Parked { mut exchange, no_response, who, what } = parked;
        let reply = match (verdict, what) {
            (verdict, What::Foreign { datagram, .. }) => {
                self.judge_foreign(now, key, &who, &verdict, &datagram, rng).into()
            }
            (Verdict::Admitted, What::Register { version, change, block }) => {
                Reply { block, ..self.register(now, key, who, version, change) }
            }
            (Verdict::Plan(plan), What::Bootstrap { preferred }) => self.begin_bootstrap(
                now,
                key,
                Bootstrap::new(who, plan, preferred, now.saturating_add(BOOTSTRAP_LIMIT)),
            ),
            (Verdict::Withheld { reason }, _) => {
                self.registration_refused(now, key, Some(who.endpoint()), reason);
                Code::FORBIDDEN.into()
            }
            (Verdict::Refused { reason }, _) => {
                return self.refuse(now, key, &mut exchange, &who, reason, rng, out);
            }
            _ => Code::INTERNAL_SERVER_ERROR.into(),
        };
        self.respond(now, key, &mut exchange, &Reply { no_response, ..reply }, rng, out)
    }

    /// Refuses a Register or Bootstrap-Request. A proven peer that may not come in has a credential that is no longer
    /// good: its session ends without a word. Without security 4.03 tells the device's owner to give it one.
    #[expect(
        clippy::too_many_arguments,
        reason = "the direct path hands time, randomness and the buffer down"
    )]
    fn refuse(
        &mut self,
        now: Instant,
        key: Key,
        exchange: &mut Exchange<Bound>,
        who: &Who,
        reason: String,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        self.registration_refused(now, key, Some(who.endpoint()), reason.clone());
        if who.proven().is_some() {
            self.forget_session_of(key);
            self.close(now, key, &reason);
            return None;
        }
        let range = self.respond(now, key, exchange, &Code::FORBIDDEN.into(), rng, out);
        // Whoever is registered from this address without security keeps that; a stranger leaves nothing behind.
        if self.associations.get(key).is_some_and(|association| association.registration.is_none()) {
            self.remove(key);
        }
        range
    }

    fn read_register(
        &mut self,
        key: Key,
        parameters: &Parameters<'_>,
        message: &Message<'_>,
    ) -> Result<(Who, What), (Code, String)> {
        let who = self.claim(key, parameters.endpoint)?;
        let version = parameters.version.unwrap_or(Version::new(1, 0));
        if version.major != 1 {
            let reason = format!("it speaks LwM2M {}.{}", version.major, version.minor);
            return Err((Code::PRECONDITION_FAILED, reason));
        }
        let change = change(parameters, message).map_err(|code| {
            (code, "the parameters or the object list of the Register cannot be read".to_owned())
        })?;
        // §6.2.1: the list may be left out from 1.2 on, when it can be determined otherwise; here it cannot.
        if change.objects.is_none() {
            let is_optional = version >= Version::new(1, 2);
            let code = if is_optional { Code::CONFLICT } else { Code::BAD_REQUEST };
            return Err((code, "the Register has no object list".to_owned()));
        }
        Ok((who, What::Register { version, change, block: None }))
    }

    fn read_bootstrap_request(
        &mut self,
        key: Key,
        endpoint: Option<&str>,
        preferred: Option<Format>,
    ) -> Result<(Who, What), (Code, String)> {
        let who = self.claim(key, endpoint)?;
        // §6.1.7.1: 4.15 when the format the device wants to be written in is not supported.
        if preferred
            .is_some_and(|format| ![Format::TLV, Format::SENML_CBOR, Format::SENML_JSON].contains(&format))
        {
            let reason = "it wants to be written in a format that this server does not write";
            return Err((Code::UNSUPPORTED_CONTENT_FORMAT, reason.to_owned()));
        }
        Ok((who, What::Bootstrap { preferred }))
    }

    /// Who asks: what the handshake proved, and never another one (LwM2M Core 1.2.1 §6.2.1: ep must match).
    fn claim(&self, key: Key, endpoint: Option<&str>) -> Result<Who, (Code, String)> {
        let association = self.associations.get(key);
        let association =
            association.ok_or_else(|| (Code::INTERNAL_SERVER_ERROR, "its session is gone".to_owned()))?;
        match (&association.who, endpoint) {
            (Some(who @ Who::Proven(_)), None) => Ok(who.clone()),
            (Some(who @ Who::Proven(_)), Some(claimed)) if **who.endpoint() == *claimed => Ok(who.clone()),
            (Some(who @ Who::Proven(_)), Some(claimed)) => {
                let reason = format!("{} proved its name and claimed {claimed}", who.endpoint());
                Err((Code::BAD_REQUEST, reason))
            }
            (_, Some(claimed)) if !association.local.is_secure() => {
                Ok(Who::Unsecured { role: association.local.role(), endpoint: claimed.into() })
            }
            _ => Err((Code::BAD_REQUEST, "it does not say its name".to_owned())),
        }
    }

    fn register(&mut self, now: Instant, key: Key, who: Who, version: Version, change: Change) -> Reply {
        let endpoint = who.endpoint().clone();
        // An address without security may come back under another name: the former one is gone with it.
        if let Some(former) = self.associations.get(key).and_then(|association| association.registration)
            && self.registry.get(former).is_some_and(|former| former.endpoint != endpoint)
        {
            self.end_registration(now, former, "the address registered under another name");
        }
        if self.registry.len() >= self.config.devices && self.registry.find(&endpoint).is_none() {
            Counters::add(&mut self.counters.registers_turned_away);
            let reason = "as many devices are registered as this server takes".to_owned();
            self.registration_refused(now, key, Some(&endpoint), reason);
            return Code::SERVICE_UNAVAILABLE.into();
        }
        if !self.has_room_for(&change, self.registry.find(&endpoint)) {
            let reason = "the object lists of all devices take as much memory as they may".to_owned();
            self.registration_refused(now, key, Some(&endpoint), reason);
            return Code::SERVICE_UNAVAILABLE.into();
        }
        let bound_to = (key, who.generation());
        let (registered, former) = self.registry.register(now, endpoint.clone(), bound_to, version, change);
        let Some(registered) = registered else { return Code::SERVICE_UNAVAILABLE.into() };
        // One of this association that another part took the place of, and has not told of yet.
        let bound = self.associations.get(key).and_then(|association| association.registration);
        if let Some(stale) = bound.and_then(|bound| self.registry.remove(bound)) {
            self.observations_ended(&stale, "the device registered again");
            self.interrupt(key);
        }
        match former {
            Former::None => {}
            Former::Here(former) => {
                self.observations_ended(&former, "the device registered again");
                if let Some(former) = former.association {
                    // §6.2.1: what was asked of the former registration is not answered in the new one.
                    self.interrupt(former);
                    if former != key {
                        self.supersede(former, key);
                    }
                }
            }
            Former::Elsewhere(owner, former) => self.supersede_elsewhere(owner, former),
        }
        if let Some(proven) = who.proven() {
            self.facts.push_back(Fact::Registered { who: proven.clone() });
        }
        self.set_registration(key, Some(registered));
        self.name(key, who);
        self.forget_oldest_of(&endpoint, key);
        Counters::add(&mut self.counters.registered);
        self.events.push_back(Event::Registered { endpoint });
        let location = self.registry.get(registered).map(Registration::location);
        Reply { location, ..Code::CREATED.into() }
    }

    /// Whether the object list of a Register or Update may be kept in place of the one before.
    fn has_room_for(&mut self, change: &Change, former: Option<Key>) -> bool {
        let most = self.config.object_lists;
        let has_room =
            change.objects.as_ref().is_none_or(|list| self.registry.has_room_for(list, former, most));
        if !has_room {
            Counters::add(&mut self.counters.lists_turned_away);
        }
        has_room
    }

    fn update(
        &mut self,
        now: Instant,
        key: Key,
        location: Location<'_>,
        parameters: &Parameters<'_>,
        message: &Message<'_>,
    ) -> Code {
        let Some(registered) = self.owned(key, location) else { return Code::NOT_FOUND };
        let change = match change(parameters, message) {
            Ok(change) if !self.has_room_for(&change, Some(registered)) => {
                self.keep_registered(now, key, registered);
                return Code::SERVICE_UNAVAILABLE;
            }
            Ok(change) => change,
            Err(code) => return code,
        };
        self.registry.update(now, registered, change);
        self.rebind(registered, key);
        Counters::add(&mut self.counters.updated);
        if let Some(registration) = self.registry.get(registered) {
            self.events.push_back(Event::Updated { endpoint: registration.endpoint.clone() });
        }
        Code::CHANGED
    }

    /// A device whose Update is turned away for lack of room is there all the same, where it was heard: its registration goes on
    /// as after an Update that changes nothing, so that it does not lapse before there is room. Not so where a Register is turned
    /// away: its device knows of no registration any more (Core 1.1.1 §6.2.1: a new one takes its place), and the end of the one
    /// before makes room.
    fn keep_registered(&mut self, now: Instant, key: Key, registered: Key) {
        self.registry.update(now, registered, Change::default());
        self.rebind(registered, key);
    }

    fn deregister(&mut self, now: Instant, key: Key, location: Location<'_>) -> Code {
        let Some(registered) = self.owned(key, location) else { return Code::NOT_FOUND };
        if let Some(registration) = self.registry.remove(registered) {
            self.observations_ended(&registration, "the device said good-bye");
            self.events.push_back(Event::Deregistered { endpoint: registration.endpoint.clone() });
            self.forget_registration(now, registered, &registration);
        }
        Code::DELETED
    }

    /// The registration a location names, when it belongs to who asks: the association that registered, or another one
    /// of the same proven identity.
    fn owned(&self, key: Key, location: Location<'_>) -> Option<Key> {
        let association = self.associations.get(key)?;
        let proven = || association.who.as_ref()?.proven();
        let registered = association.registration.or_else(|| self.registry.find(&proven()?.endpoint))?;
        self.registry.get(registered)?.is_at(location.0.as_bytes()).then_some(registered)
    }

    fn begin_bootstrap(&mut self, now: Instant, key: Key, mut bootstrap: Bootstrap) -> Reply {
        self.interrupt(key);
        let Some(first) = bootstrap.start(self.wall_clock(now)) else {
            return Code::INTERNAL_SERVER_ERROR.into();
        };
        if let Some(who) = bootstrap.who.proven() {
            self.facts.push_back(Fact::BootstrapRequested { who: who.clone() });
        }
        self.events.push_back(Event::BootstrapStarted { endpoint: bootstrap.who.endpoint().clone() });
        let (who, name) = (bootstrap.who.clone(), bootstrap.who.endpoint().clone());
        let job = Job::new(Purpose::Bootstrap, self.exchange(first), bootstrap.deadline);
        if let Some(association) = self.associations.get_mut(key) {
            association.passing.make_downlink().bootstrap = Some(Box::new(bootstrap));
        }
        self.name(key, who);
        self.forget_oldest_of(&name, key);
        self.enqueue(key, job);
        Code::CHANGED.into()
    }
}

/// What Register and Update change.
fn change(parameters: &Parameters<'_>, message: &Message<'_>) -> Result<Change, Code> {
    let binding = parameters.binding.map(|text| Binding::parse(text).ok_or(Code::BAD_REQUEST)).transpose()?;
    // A missing Content-Format is tolerated, another one is not.
    let format = message.options.content_format();
    if !message.payload.is_empty() && format.is_some_and(|format| format != ContentFormat::LINK_FORMAT) {
        return Err(Code::UNSUPPORTED_CONTENT_FORMAT);
    }
    let objects = match message.payload {
        [] => None,
        payload => Some(ObjectList::parse(payload).ok_or(Code::BAD_REQUEST)?),
    };
    // A binding without Q ends the queue mode; an Update that names neither leaves it.
    let queue = (binding.is_some() || parameters.queue_mode).then_some(parameters.queue_mode);
    Ok(Change { lifetime: parameters.lifetime, binding, queue, objects })
}

/// The fewest seconds after which a device that there is no room for is to try again, and how many further ones there are
/// to choose from, one after the other.
const RETRY: u32 = 30;
const RETRY_SPREAD: u8 = 61;
