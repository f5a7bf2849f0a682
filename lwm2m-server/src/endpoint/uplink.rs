//! Requests of a device: Register, Update, De-register and Bootstrap-Request (LwM2M Core 1.2.1 §6.1.7.1, §6.2).
//!
//! 1. The request is read and checked against what the handshake proved: another endpoint name is refused with 4.00.
//! 2. Update and De-register are answered inline.
//! 3. Register and Bootstrap-Request park until the owner answers whether this device may, then are answered.
//!
//! Invariant: a name that is neither proven nor admitted changes nothing.

use std::ops::Range;
use std::sync::Arc;

use lwm2m_coap::protect::Plain;
use lwm2m_coap::{Code, Exchange, Instant, Message, OptionNumber, Rng, Writer};
use lwm2m_objects::Format;

use crate::credentials::{Fact, Role};
use crate::event::Event;

use super::association::Who;
use super::bootstrap::Bootstrap;
use super::counters::Counters;
use super::downlink::{Job, Purpose};
use super::question::{Question, Verdict};
use super::registry::{Binding, Change, ObjectList};
use super::slab::Key;
use super::{BOOTSTRAP_LIMIT, Endpoint};

/// A request that waits for the owner's answer.
pub(crate) struct Parked {
    exchange: Exchange,
    who: Who,
    what: What,
}

enum What {
    Register { version: (u8, u8), change: Change },
    Bootstrap { preferred: Option<Format> },
}

/// What a request is answered with: a code, and the segments of a location.
struct Reply {
    code: Code,
    location: Option<String>,
}

impl From<Code> for Reply {
    fn from(code: Code) -> Self {
        Self { code, location: None }
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
        let role = self.associations.get(key)?.local.role();
        let mut path = message.options.uri_path();
        let path = [path.next(), path.next(), path.next()];
        let reply = match (role, message.code, path) {
            (Role::Management, Code::POST, [Some(b"rd"), None, _]) => {
                match self.read_register(key, message) {
                    Ok((who, what)) => return self.park(now, key, exchange, who, what, rng, out),
                    Err(reply) => reply,
                }
            }
            (Role::Bootstrap, Code::POST, [Some(b"bs"), None, _]) => {
                match self.read_bootstrap_request(key, message) {
                    Ok((who, what)) => return self.park(now, key, exchange, who, what, rng, out),
                    Err(reply) => reply,
                }
            }
            (Role::Management, Code::POST, [Some(b"rd"), Some(id), None]) => {
                self.update(now, key, id, message).into()
            }
            (Role::Management, Code::DELETE, [Some(b"rd"), Some(id), None]) => {
                self.deregister(key, id).into()
            }
            (Role::Management, _, [Some(b"rd"), ..]) | (Role::Bootstrap, _, [Some(b"bs"), None, _]) => {
                Code::METHOD_NOT_ALLOWED.into()
            }
            _ => Code::NOT_FOUND.into(),
        };
        self.respond(now, key, &mut exchange, &reply, rng, out)
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
        let range = association.coap.respond(now, exchange, writer, &mut Plain, rng).ok()?;
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
            What::Bootstrap { .. } => Question::Plan { who: who.clone() },
        };
        association.parked = Some(Box::new(Parked { exchange, who, what }));
        self.ask(key, question);
        None
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
            (Verdict::Admitted, What::Register { version, change }) => {
                self.register(now, key, who, version, change)
            }
            (Verdict::Plan(plan), What::Bootstrap { preferred }) => self.begin_bootstrap(
                key,
                Bootstrap::new(who, plan, preferred, now.saturating_add(BOOTSTRAP_LIMIT)),
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
        Counters::add(&mut self.counters.refused);
        let refused = Event::RegistrationRefused {
            endpoint: who.endpoint().clone(),
            role: who.role(),
            reason: reason.clone(),
        };
        self.events.push_back(refused);
        if who.proven().is_some() {
            self.close(key, &reason);
            return None;
        }
        let range = self.respond(now, key, exchange, &Code::FORBIDDEN.into(), rng, out);
        // Whoever is registered from this address without security keeps that; a stranger leaves nothing behind.
        if self.associations.get(key).is_some_and(|association| association.registration.is_none()) {
            self.remove(key);
        }
        range
    }

    fn read_register(&mut self, key: Key, message: &Message<'_>) -> Result<(Who, What), Reply> {
        let parameters = Parameters::read(message)?;
        let who = self.claim(key, parameters.endpoint)?;
        let version = parameters.version.unwrap_or((1, 0));
        if version.0 != 1 {
            return Err(Code::PRECONDITION_FAILED.into());
        }
        let mut change = parameters.change;
        // §6.2.1: the list may be left out from 1.2 on, when it can be determined otherwise; here it cannot.
        let missing = if version >= (1, 2) { Code::CONFLICT } else { Code::BAD_REQUEST };
        change.objects = Some(object_list(message)?.ok_or(missing)?);
        Ok((who, What::Register { version, change }))
    }

    fn read_bootstrap_request(&mut self, key: Key, message: &Message<'_>) -> Result<(Who, What), Reply> {
        let parameters = Parameters::read(message)?;
        let who = self.claim(key, parameters.endpoint)?;
        let preferred = parameters.preferred.map(Format);
        // §6.1.7.1: 4.15 when the format the device wants to be written in is not supported.
        if preferred.is_some_and(|format| ![Format::TLV, Format::SENML_CBOR].contains(&format)) {
            return Err(Code::UNSUPPORTED_CONTENT_FORMAT.into());
        }
        Ok((who, What::Bootstrap { preferred }))
    }

    /// Who asks: what the handshake proved, and never another one (LwM2M Core 1.2.1 §6.2.1: ep must match).
    fn claim(&mut self, key: Key, endpoint: Option<&str>) -> Result<Who, Reply> {
        let association = self.associations.get(key).ok_or(Code::INTERNAL_SERVER_ERROR)?;
        match (&association.who, endpoint) {
            (Some(who @ Who::Proven(_)), None) => Ok(who.clone()),
            (Some(who @ Who::Proven(_)), Some(claimed)) if **who.endpoint() == *claimed => Ok(who.clone()),
            (Some(who @ Who::Proven(_)), Some(claimed)) => {
                let reason = format!("{} proved its name and claimed {claimed}", who.endpoint());
                let (endpoint, role) = (Arc::from(claimed), who.role());
                Counters::add(&mut self.counters.refused);
                self.events.push_back(Event::RegistrationRefused { endpoint, role, reason });
                Err(Code::BAD_REQUEST.into())
            }
            (_, Some(claimed)) if !association.local.is_secure() => {
                Ok(Who::Unsecured { role: association.local.role(), endpoint: claimed.into() })
            }
            _ => Err(Code::BAD_REQUEST.into()),
        }
    }

    fn register(&mut self, now: Instant, key: Key, who: Who, version: (u8, u8), change: Change) -> Reply {
        let endpoint = who.endpoint().clone();
        // An address without security may come back under another name: the former one is gone with it.
        if let Some(former) = self.associations.get(key).and_then(|association| association.registration)
            && self.registry.get(former).is_some_and(|former| former.endpoint != endpoint)
        {
            self.end_registration(former, "the address registered under another name");
        }
        let (registered, former) = self.registry.register(now, endpoint.clone(), key, version, change);
        let Some(registered) = registered else { return Code::SERVICE_UNAVAILABLE.into() };
        if let Some(former) = former {
            for observation in &former.observations {
                self.events.push_back(Event::ObservationEnded {
                    endpoint: endpoint.clone(),
                    observation: observation.id,
                    reason: "the device registered again".to_owned(),
                });
            }
            // §6.2.1: what was asked of the former registration is not answered in the new one.
            self.interrupt(former.association);
            if former.association != key {
                self.supersede(former.association, key);
            }
        }
        if let Some(proven) = who.proven() {
            self.facts.push_back(Fact::Registered { who: proven.clone() });
        }
        if let Some(association) = self.associations.get_mut(key) {
            association.registration = Some(registered);
            if association.who.is_none() {
                association.who = Some(who);
                self.index(key);
            }
        }
        Counters::add(&mut self.counters.registered);
        self.events.push_back(Event::Registered { endpoint });
        Reply { code: Code::CREATED, location: self.registry.location(registered) }
    }

    fn update(&mut self, now: Instant, key: Key, id: &[u8], message: &Message<'_>) -> Code {
        let Some(registered) = self.owned(key, id) else { return Code::NOT_FOUND };
        let (Ok(parameters), Ok(objects)) = (Parameters::read(message), object_list(message)) else {
            return Code::BAD_REQUEST;
        };
        self.registry.update(now, registered, Change { objects, ..parameters.change });
        self.rebind(registered, key);
        Counters::add(&mut self.counters.updated);
        if let Some(registration) = self.registry.get(registered) {
            self.events.push_back(Event::Updated { endpoint: registration.endpoint.clone() });
        }
        Code::CHANGED
    }

    fn deregister(&mut self, key: Key, id: &[u8]) -> Code {
        let Some(registered) = self.owned(key, id) else { return Code::NOT_FOUND };
        if let Some(registration) = self.registry.remove(registered) {
            self.events.push_back(Event::Deregistered { endpoint: registration.endpoint.clone() });
            self.forget_registration(&registration);
        }
        Code::DELETED
    }

    /// The registration a location names, when it belongs to who asks: the association that registered, or another one
    /// of the same proven identity.
    fn owned(&self, key: Key, id: &[u8]) -> Option<Key> {
        let (registered, registration) = self.registry.locate(id)?;
        let who = self.associations.get(key)?.who.as_ref()?;
        let is_owner = registration.association == key
            || (who.proven().is_some() && *who.endpoint() == registration.endpoint);
        is_owner.then_some(registered)
    }

    fn begin_bootstrap(&mut self, key: Key, bootstrap: Bootstrap) -> Reply {
        self.interrupt(key);
        if let Some(who) = bootstrap.who.proven() {
            self.facts.push_back(Fact::BootstrapRequested { who: who.clone() });
        }
        self.events.push_back(Event::BootstrapStarted { endpoint: bootstrap.who.endpoint().clone() });
        let job = Job::new(Purpose::Bootstrap, bootstrap.start(), bootstrap.deadline);
        if let Some(association) = self.associations.get_mut(key) {
            let is_new = association.who.is_none();
            association.who.get_or_insert_with(|| bootstrap.who.clone());
            association.downlink.get_or_insert_default().bootstrap = Some(Box::new(bootstrap));
            if is_new {
                self.index(key);
            }
        }
        self.enqueue(key, job);
        Code::CHANGED.into()
    }
}

/// The query of Register, Update and Bootstrap-Request; unknown parameters are refused with 4.00 (§6.2.1, table 6.2.1-2).
#[derive(Default)]
struct Parameters<'m> {
    endpoint: Option<&'m str>,
    version: Option<(u8, u8)>,
    preferred: Option<u16>,
    change: Change,
}

/// The longest endpoint client name taken, in bytes.
const LONGEST_NAME: usize = 255;

impl<'m> Parameters<'m> {
    fn read(message: &Message<'m>) -> Result<Self, Code> {
        let mut parameters = Self::default();
        for parameter in message.options.uri_query() {
            let parameter = core::str::from_utf8(parameter).map_err(|_| Code::BAD_REQUEST)?;
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "ep" if (1..=LONGEST_NAME).contains(&value.len()) => parameters.endpoint = Some(value),
                "lt" => {
                    parameters.change.lifetime = Some(value.parse().map_err(|_| Code::BAD_REQUEST)?);
                }
                "lwm2m" => {
                    let (major, minor) =
                        value.trim_matches('"').split_once('.').ok_or(Code::PRECONDITION_FAILED)?;
                    let number = |text: &str| text.parse().map_err(|_| Code::PRECONDITION_FAILED);
                    parameters.version = Some((number(major)?, number(minor)?));
                }
                "b" => {
                    let (binding, queue) = Binding::parse(value).ok_or(Code::BAD_REQUEST)?;
                    parameters.change.binding = Some(binding);
                    parameters.change.queue = Some(queue || parameters.change.queue == Some(true));
                }
                "Q" => parameters.change.queue = Some(true),
                "pct" => parameters.preferred = Some(value.parse().map_err(|_| Code::BAD_REQUEST)?),
                "sms" | "pid" => {}
                _ => return Err(Code::BAD_REQUEST),
            }
        }
        Ok(parameters)
    }
}

/// The object list, when there is one.
fn object_list(message: &Message<'_>) -> Result<Option<ObjectList>, Code> {
    if message.payload.is_empty() {
        return Ok(None);
    }
    // A missing Content-Format is tolerated, another one is not.
    if message.options.content_format().is_some_and(|format| format != lwm2m_coap::ContentFormat::LINK_FORMAT)
    {
        return Err(Code::UNSUPPORTED_CONTENT_FORMAT);
    }
    let links = core::str::from_utf8(message.payload).map_err(|_| Code::BAD_REQUEST)?;
    Ok(Some(ObjectList::parse(links)))
}
