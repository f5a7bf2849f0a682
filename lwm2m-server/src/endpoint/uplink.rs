//! Requests of a device: Register, Update, De-register and Bootstrap-Request (LwM2M Core 1.2.1 §6.1.7.1, §6.2).
//!
//! 1. The request is read and checked against what the handshake proved: another endpoint name is refused with 4.00.
//! 2. Update and De-register are answered inline.
//! 3. Register and Bootstrap-Request park until the owner answers whether this device may, then are answered.
//!
//! Invariant: a name that is neither proven nor admitted changes nothing.

use std::ops::Range;
use std::sync::Arc;

use lwm2m_coap::block::{Block, Receive, Received, Szx};
use lwm2m_coap::protect::Plain;
use lwm2m_coap::{Code, ContentFormat, Exchange, Instant, Message, OptionNumber, Rng, Writer};
use lwm2m_objects::{Format, Location, Operation, Parameters, Version, mapping};

use crate::credentials::{Fact, Role};
use crate::event::Event;

use super::association::Who;
use super::bootstrap::Bootstrap;
use super::counters::Counters;
use super::downlink::{Job, Purpose};
use super::question::{Question, Verdict};
use super::registry::{Binding, Change, Former, ObjectList, Registration};
use super::slab::Key;
use super::trace::Direction;
use super::{BOOTSTRAP_LIMIT, Endpoint};

/// A request that waits for the owner's answer.
pub(crate) struct Parked {
    exchange: Exchange,
    who: Who,
    what: What,
}

enum What {
    Register { version: Version, change: Change, block: Option<Block> },
    Bootstrap { preferred: Option<Format> },
}

/// What a request leads to.
enum Next {
    Reply(Reply),
    Park(Who, What),
}

/// What a request is answered with: a code, the id of a location, and the block it acknowledges.
struct Reply {
    code: Code,
    location: Option<String>,
    block: Option<Block>,
}

impl From<Code> for Reply {
    fn from(code: Code) -> Self {
        Self { code, location: None, block: None }
    }
}

impl Endpoint {
    /// Handles a request; the answer, if it is given at once, lies in `out`.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        key: Key,
        mut exchange: Exchange,
        message: &Message<'_>,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        // RFC 7959 §2.3: the final answer acknowledges the last block.
        let mut block = None;
        let next = match message.options.block1() {
            Ok(None) => {
                association.upload = None;
                self.operate(key, now, message)
            }
            // An object list longer than one message comes in blocks (RFC 7959 §2.5).
            _ => match association.upload.get_or_insert_default().take(message) {
                Ok((body, answer)) => {
                    association.upload = None;
                    block = answer;
                    self.operate(key, now, &Message { payload: &body, ..*message })
                }
                Err(reply) => Next::Reply(reply),
            },
        };
        match next {
            Next::Reply(mut reply) => {
                reply.block = reply.block.or(block);
                self.respond(now, key, &mut exchange, &reply, rng, out)
            }
            Next::Park(who, mut what) => {
                if let What::Register { block: place, .. } = &mut what {
                    *place = block;
                }
                self.park(now, key, exchange, who, what, rng, out)
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
        let endpoint = claimed.map(Arc::from).or_else(|| who.map(Who::endpoint).cloned()).unwrap_or_default();
        if self.refusals.is_told(now, is_known) {
            self.events.push_back(Event::RegistrationRefused { endpoint, role, reason });
        } else {
            Counters::add(&mut self.counters.untold_refusals);
        }
    }

    fn respond(
        &mut self,
        now: Instant,
        key: Key,
        exchange: &mut Exchange,
        reply: &Reply,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        let mut writer = Writer::new(out, association.room(), reply.code);
        if let Some(id) = &reply.location {
            writer.option(OptionNumber::LOCATION_PATH, b"rd").ok()?;
            writer.option(OptionNumber::LOCATION_PATH, id.as_bytes()).ok()?;
        }
        if let Some(block) = reply.block {
            writer.block1(block).ok()?;
        }
        let range = association.coap.respond(now, exchange, writer, &mut Plain, rng).ok()?;
        self.trace.record(now, association, Direction::ToDevice, out.get(range.clone()));
        association.seal(out, range)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the direct path hands time, randomness and the buffer down"
    )]
    fn park(
        &mut self,
        now: Instant,
        key: Key,
        mut exchange: Exchange,
        who: Who,
        what: What,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        if association.parked.is_some() {
            return self.respond(now, key, &mut exchange, &Code::SERVICE_UNAVAILABLE.into(), rng, out);
        }
        let question = match what {
            What::Register { .. } => Question::Admit { who: who.clone() },
            What::Bootstrap { .. } => {
                self.end_bootstraps(&who);
                Question::Plan { who: who.clone() }
            }
        };
        if let Some(association) = self.associations.get_mut(key) {
            association.parked = Some(Box::new(Parked { exchange, who, what }));
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
        let Parked { mut exchange, who, what } = *self.associations.get_mut(key)?.parked.take()?;
        let reply = match (verdict, what) {
            (Verdict::Admitted, What::Register { version, change, block }) => {
                Reply { block, ..self.register(now, key, who, version, change) }
            }
            (Verdict::Plan(plan), What::Bootstrap { preferred }) => self.begin_bootstrap(
                key,
                Bootstrap::new(
                    who,
                    plan,
                    preferred,
                    self.config.verify_bootstrap,
                    now.saturating_add(BOOTSTRAP_LIMIT),
                ),
            ),
            (Verdict::Refused { reason }, _) => {
                return self.refuse(now, key, &mut exchange, &who, reason, rng, out);
            }
            _ => Code::INTERNAL_SERVER_ERROR.into(),
        };
        self.respond(now, key, &mut exchange, &reply, rng, out)
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
        exchange: &mut Exchange,
        who: &Who,
        reason: String,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        self.registration_refused(now, key, Some(who.endpoint()), reason.clone());
        if who.proven().is_some() {
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
        if preferred.is_some_and(|format| ![Format::TLV, Format::SENML_CBOR].contains(&format)) {
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
        let (registered, former) = self.registry.register(now, endpoint.clone(), key, version, change);
        let Some(registered) = registered else { return Code::SERVICE_UNAVAILABLE.into() };
        match former {
            Former::None => {}
            Former::Here(former) => {
                self.observations_ended(&former, "the device registered again");
                // §6.2.1: what was asked of the former registration is not answered in the new one.
                self.interrupt(former.association);
                if former.association != key {
                    self.supersede(former.association, key);
                }
            }
            Former::Elsewhere(former) => self.supersede_elsewhere(former, endpoint.clone()),
        }
        if let Some(proven) = who.proven() {
            self.facts.push_back(Fact::Registered { who: proven.clone() });
        }
        if let Some(association) = self.associations.get_mut(key) {
            association.registration = Some(registered);
        }
        self.name(key, who);
        Counters::add(&mut self.counters.registered);
        self.events.push_back(Event::Registered { endpoint });
        let location = self.registry.get(registered).map(Registration::location);
        Reply { location, ..Code::CREATED.into() }
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
        match change(parameters, message) {
            Ok(change) => self.registry.update(now, registered, change),
            Err(code) => return code,
        }
        self.rebind(registered, key);
        Counters::add(&mut self.counters.updated);
        if let Some(registration) = self.registry.get(registered) {
            self.events.push_back(Event::Updated { endpoint: registration.endpoint.clone() });
        }
        Code::CHANGED
    }

    fn deregister(&mut self, now: Instant, key: Key, location: Location<'_>) -> Code {
        let Some(registered) = self.owned(key, location) else { return Code::NOT_FOUND };
        if let Some(registration) = self.registry.remove(registered) {
            self.observations_ended(&registration, "the device said good-bye");
            self.events.push_back(Event::Deregistered { endpoint: registration.endpoint.clone() });
            self.forget_registration(now, &registration);
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

    fn begin_bootstrap(&mut self, key: Key, mut bootstrap: Bootstrap) -> Reply {
        self.interrupt(key);
        let Some(first) = bootstrap.start() else { return Code::INTERNAL_SERVER_ERROR.into() };
        if let Some(who) = bootstrap.who.proven() {
            self.facts.push_back(Fact::BootstrapRequested { who: who.clone() });
        }
        self.events.push_back(Event::BootstrapStarted { endpoint: bootstrap.who.endpoint().clone() });
        let who = bootstrap.who.clone();
        let job = Job::new(Purpose::Bootstrap, self.exchange(first), bootstrap.deadline);
        if let Some(association) = self.associations.get_mut(key) {
            association.downlink.get_or_insert_default().bootstrap = Some(Box::new(bootstrap));
        }
        self.name(key, who);
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

/// An object list on its way here in blocks.
#[derive(Debug)]
pub(crate) struct Upload {
    receive: Receive,
    body: Vec<u8>,
}

/// The longest object list, in bytes.
const LONGEST_LIST: u32 = 16_384;

impl Default for Upload {
    fn default() -> Self {
        Self { receive: Receive::new(Szx::LARGEST, LONGEST_LIST), body: Vec::new() }
    }
}

impl Upload {
    /// Takes a block; the whole body once it is complete, with the block to acknowledge, else what to answer.
    fn take(&mut self, message: &Message<'_>) -> Result<(Vec<u8>, Option<Block>), Reply> {
        match self.receive.handle(message) {
            Ok(Received::Part { offset, bytes, last, answer }) => {
                self.body.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
                self.body.extend_from_slice(bytes);
                match last {
                    true => Ok((core::mem::take(&mut self.body), answer)),
                    false => Err(Reply { block: answer, ..Code::CONTINUE.into() }),
                }
            }
            Ok(Received::Repeated { answer }) => Err(Reply { block: Some(answer), ..Code::CONTINUE.into() }),
            Err(refusal) => Err(refusal.code.into()),
        }
    }
}
