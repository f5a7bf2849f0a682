//! Where a registration and an association meet and part: naming, binding, moving to a newer session, interrupting, closing.
//!
//! Invariant: another identity never inherits a registration and never destroys one.

use lwm2m_coap::Instant;

use crate::credentials::Fact;
use crate::event::Event;
use crate::operation::{ObservationId, RequestError};
use crate::server::Device;
use lwm2m_objects::Path;

use super::association::{Association, FORMERLY_REGISTERED, UNREGISTERED, Who};
use super::bootstrap::Next;
use super::counters::Counters;
use super::downlink::{Job, Purpose};
use super::exchange::{Exchange, Reply};
use super::registry::Registration;
use super::slab::Key;
use super::{Endpoint, code_text};

impl Endpoint {
    /// All registered devices, by endpoint name.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let mut devices: Vec<Device> = self.registry.iter().map(|device| self.describe(device)).collect();
        devices.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        devices
    }

    /// One registered device.
    #[must_use]
    pub fn device(&self, endpoint: &str) -> Option<Device> {
        self.registry.get(self.registry.find(endpoint)?).map(|device| self.describe(device))
    }

    /// The observations that stand at a device.
    #[must_use]
    pub fn observations(&self, endpoint: &str) -> Vec<(ObservationId, Vec<Path>)> {
        let device = self.registry.find(endpoint).and_then(|key| self.registry.get(key));
        let observations = device.map(|device| device.observations.as_slice()).unwrap_or_default();
        observations.iter().map(|observation| (observation.id, observation.what.paths().to_vec())).collect()
    }

    /// Forgets the registration of a device without a word to it: its next Update is answered with 4.04, and it registers
    /// anew. `false` when it is not registered.
    pub fn forget(&mut self, now: Instant, endpoint: &str) -> bool {
        let registered = self.registry.find(endpoint);
        if let Some(registered) = registered {
            self.end_registration(now, registered, "forgotten by the operator");
        }
        registered.is_some()
    }

    /// Forgets an observation without a word to the device: its next notification is answered with a Reset, which ends it
    /// there (RFC 7641 §3.6). `false` when there is no such observation.
    pub fn forget_observation(&mut self, endpoint: &str, observation: ObservationId) -> bool {
        let registered = self.registry.find(endpoint).and_then(|key| self.registry.get_mut(key));
        let Some(registered) = registered else { return false };
        let before = registered.observations.len();
        registered.observations.retain(|other| other.id != observation);
        registered.observations.len() != before
    }

    fn describe(&self, device: &Registration) -> Device {
        let association = device.association.and_then(|key| self.associations.get(key));
        Device {
            endpoint: device.endpoint.clone(),
            address: association.map(|association| association.address.to_string()).unwrap_or_default(),
            secure: association.is_some_and(|association| !association.is_without_security()),
            generation: device.generation.unwrap_or(0),
            version: format!("{}.{}", device.version.major, device.version.minor),
            lifetime: device.lifetime,
            binding: device.binding.as_str().to_owned(),
            queue: device.queue,
            awake_until: device.queue.then(|| {
                let heard = association.filter(|known| !known.is_silent).map(|known| known.last_heard);
                heard.map_or(0, |heard| self.wall_clock(heard.saturating_add(self.config.awake)))
            }),
            objects: device.objects.links.clone().into(),
            location: format!("/rd/{}", device.location()),
            registered_at: self.wall_clock(device.registered_at),
            last_heard: self.wall_clock(association.map_or(device.updated_at, |known| known.last_heard)),
            observations: device.observations.len(),
        }
    }

    /// Says who an association is, and makes it findable by that name.
    pub(crate) fn name(&mut self, key: Key, who: Who) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let name = who.endpoint().clone();
        if let Some(former) = association.who.replace(who) {
            if *former.endpoint() == name {
                return;
            }
            self.forget_name(former.endpoint(), key);
        }
        let keys = self.by_name.entry(name).or_default();
        *keys = keys.iter().copied().chain([key]).collect();
    }

    /// An association was admitted under a name. Beyond a few of one name the oldest one goes that has no registration: it
    /// belongs to whoever holds the same credential.
    pub(crate) fn forget_oldest_of(&mut self, name: &str, admitted: Key) {
        let Some(keys) = self.by_name.get(name) else { return };
        let is_idle =
            |key: &Key| self.associations.get(*key).is_none_or(|other| other.registration.is_none());
        let mut others = keys.iter().copied().filter(|key| *key != admitted);
        if keys.len() > ASSOCIATIONS_OF_ONE
            && let Some(oldest) = others.find(is_idle)
        {
            self.remove(oldest);
        }
    }

    /// Puts the associations of one name in order again: whoever was heard last is the youngest.
    pub(crate) fn sort_by_age(&mut self, name: &str) {
        let associations = &self.associations;
        if let Some(keys) = self.by_name.get_mut(name) {
            keys.sort_by_key(|key| associations.get(*key).map(|association| association.last_heard));
        }
    }

    pub(crate) fn forget_name(&mut self, name: &str, key: Key) {
        if let Some(keys) = self.by_name.get_mut(name) {
            *keys = keys.iter().copied().filter(|other| *other != key).collect();
            if keys.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// Lets a registration go on in the association it was heard from; what was outstanding in the former one fails, what
    /// only waited moves along.
    pub(crate) fn rebind(&mut self, registered: Key, key: Key) {
        let generation = self.generation(key);
        let Some(registration) = self.registry.get_mut(registered) else { return };
        registration.generation = generation;
        let former = registration.association.replace(key);
        self.set_registration(key, Some(registered));
        if former != Some(key) {
            self.awoke(key);
        }
        if let Some(former) = former.filter(|former| *former != key) {
            self.supersede(former, key);
        }
    }

    /// A device was heard. That one in queue mode slept as far as was known is told.
    pub(crate) fn mark_heard(&mut self, now: Instant, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let was_asleep =
            association.is_silent || association.last_heard.saturating_add(self.config.awake) <= now;
        (association.last_heard, association.is_silent) = (now, false);
        association.kept_until = association.kept_until.max(now.saturating_add(UNREGISTERED));
        if was_asleep {
            self.awoke(key);
        }
    }

    /// A device left a request unanswered. In queue mode it sleeps: what waits is not sent to it.
    pub(crate) fn fell_silent(&mut self, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        association.is_silent = true;
        let device = association.registration.and_then(|device| self.registry.get(device));
        let downlink =
            association.passing.downlink_mut().filter(|_| device.is_some_and(|device| device.queue));
        for job in downlink.map(|downlink| downlink.take_unsent()).unwrap_or_default() {
            self.fail(key, job, RequestError::NotSent);
        }
    }

    /// Tells that a device in queue mode was heard after it slept, or in a new association.
    pub(crate) fn awoke(&mut self, key: Key) {
        let device = self.associations.get(key).and_then(|association| association.registration);
        let device = device.and_then(|device| self.registry.get(device)).filter(|device| device.queue);
        if let Some(endpoint) = device.map(|device| device.endpoint.clone()) {
            self.events.push_back(Event::Awake { endpoint });
        }
    }

    /// The device has moved from one association to another of the same identity.
    pub(crate) fn supersede(&mut self, former: Key, key: Key) {
        self.set_registration(former, None);
        let Some(association) = self.associations.get_mut(former) else { return };
        if let Some(downlink) = association.passing.downlink_mut() {
            let waiting = core::mem::take(&mut downlink.queue);
            self.wait_in(key, waiting);
        }
        self.interrupt(former);
        // A session of another generation lives until the credentials say that it is retired.
        if self.generation(former) == self.generation(key) {
            self.remove(former);
        }
    }

    /// Which generation of its credential an association proved; `None` without security.
    pub(crate) fn generation(&self, key: Key) -> Option<u32> {
        self.associations.get(key)?.who.as_ref()?.generation()
    }

    /// Says which registration is bound to an association.
    pub(crate) fn set_registration(&mut self, key: Key, registration: Option<Key>) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let was_stranger = association.is_stranger();
        association.registration = registration;
        self.strangers = match (was_stranger, association.is_stranger()) {
            (false, true) => self.strangers.saturating_add(1),
            (true, false) => self.strangers.saturating_sub(1),
            _ => self.strangers,
        };
    }

    /// Fails what is outstanding or waits in an association.
    pub(crate) fn interrupt(&mut self, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(downlink) = association.passing.downlink_mut() else { return };
        if let Some(active) = &downlink.active {
            association.coap.cancel(active.sent);
        }
        for job in downlink.take_jobs() {
            self.fail(key, job, RequestError::Interrupted);
        }
    }

    /// Ends a registration that was not removed by its device or its lifetime.
    pub(crate) fn end_registration(&mut self, now: Instant, registered: Key, reason: &str) {
        let Some(registration) = self.registry.remove(registered) else { return };
        self.observations_ended(&registration, reason);
        self.events.push_back(Event::Deregistered { endpoint: registration.endpoint.clone() });
        self.forget_registration(now, registered, &registration);
    }

    /// Ends the registration of an endpoint, if it was made or went on in a session of this generation.
    pub(crate) fn end_registration_of(
        &mut self,
        now: Instant,
        endpoint: &str,
        generation: Option<u32>,
        reason: &str,
    ) {
        let Some(registered) = self.registry.find(endpoint) else { return };
        let known = self.registry.get(registered).and_then(|registration| registration.generation);
        if generation.is_none() || known == generation {
            self.end_registration(now, registered, reason);
        }
    }

    pub(crate) fn observations_ended(&mut self, registration: &Registration, reason: &str) {
        for observation in &registration.observations {
            self.events.push_back(Event::ObservationEnded {
                endpoint: registration.endpoint.clone(),
                observation: observation.id,
                reason: reason.to_owned(),
                code: None,
            });
        }
    }

    /// A registration was removed: its association has none, and requests fail. An association that has another one by now
    /// keeps that, and what is asked of it.
    pub(crate) fn forget_registration(&mut self, now: Instant, registered: Key, registration: &Registration) {
        let Some(key) = registration.association else { return };
        let is_bound = |association: &&Association| association.registration == Some(registered);
        if self.associations.get(key).filter(is_bound).is_none() {
            return;
        }
        self.interrupt(key);
        self.set_registration(key, None);
        if let Some(association) = self.associations.get_mut(key).filter(|known| !known.is_without_security())
        {
            association.kept_until = association.kept_until.max(now.saturating_add(FORMERLY_REGISTERED));
        }
        self.mark_ready(key);
    }

    /// Closes a session whose peer may not go on: at once, and without a word to it.
    pub(crate) fn close(&mut self, now: Instant, key: Key, reason: &str) {
        let Some(association) = self.associations.get(key) else { return };
        if let Some(who) = &association.who {
            Counters::add(&mut self.counters.sessions_closed);
            self.events.push_back(Event::SessionClosed {
                endpoint: who.endpoint().clone(),
                role: who.role(),
                reason: reason.to_owned(),
            });
        }
        if let Some(registered) = association.registration {
            self.end_registration(now, registered, reason);
        }
        self.remove(key);
    }

    /// Forgets an association. A registration bound to it stays, without a way to reach the device.
    pub(crate) fn remove(&mut self, key: Key) {
        self.interrupt(key);
        self.forget_address(key);
        let Some(association) = self.associations.remove(key) else { return };
        if association.is_stranger() {
            self.strangers = self.strangers.saturating_sub(1);
        }
        self.under_way.end(key);
        if let Some(oscore) = &association.oscore {
            self.forget_context(association.local.role(), oscore, key);
        }
        if let Some(proving) = association.passing.proving().filter(|proving| proving.look_up.is_some()) {
            self.look_ups.forget(association.local.role(), &proving.identity, key);
        }
        if let (Some(ids), Some(session)) = (&mut self.connection_ids, &association.session) {
            ids.forget(session.own_connection_id(), key);
        }
        if let Some(who) = &association.who {
            self.forget_name(who.endpoint(), key);
        }
    }

    /// Takes the answer to a request of the bootstrap under way.
    pub(crate) fn bootstrap_answered(&mut self, now: Instant, key: Key, reply: &Reply) {
        let wall_clock = self.wall_clock(now);
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(downlink) = association.passing.downlink_mut() else { return };
        let Some(mut bootstrap) = downlink.bootstrap.take() else { return };
        let endpoint = bootstrap.who.endpoint().clone();
        match bootstrap.answer(wall_clock, reply) {
            Next::Send(outgoing) => {
                let exchange = Exchange::new(outgoing, self.config.longest_answer, &self.budget);
                let job = Job::new(Purpose::Bootstrap, exchange, bootstrap.deadline);
                downlink.bootstrap = Some(bootstrap);
                self.enqueue(key, job);
            }
            Next::Finished => {
                Counters::add(&mut self.counters.bootstraps_finished);
                let generation = bootstrap.generation();
                if bootstrap.who.proven().is_some() {
                    self.facts.push_back(Fact::BootstrapDelivered { endpoint: endpoint.clone(), generation });
                }
                self.events.push_back(Event::BootstrapFinished { endpoint });
            }
            Next::Failed => self.bootstrap_failed(&bootstrap, Some(code_text(reply.code))),
            Next::Unusable(why) => {
                self.bootstrap_failed(&bootstrap, Some(format!("{}, {why}", code_text(reply.code))));
            }
        }
        self.mark_ready(key);
    }

    /// A request of the bootstrap under way came to nothing.
    pub(crate) fn bootstrap_unanswered(&mut self, key: Key) {
        let downlink =
            self.associations.get_mut(key).and_then(|association| association.passing.downlink_mut());
        if let Some(bootstrap) = downlink.and_then(|downlink| downlink.bootstrap.take()) {
            self.bootstrap_failed(&bootstrap, None);
        }
    }

    fn bootstrap_failed(&mut self, bootstrap: &super::bootstrap::Bootstrap, code: Option<String>) {
        Counters::add(&mut self.counters.bootstraps_failed);
        let (endpoint, step) = (bootstrap.who.endpoint().clone(), bootstrap.step());
        if bootstrap.who.proven().is_some() {
            self.facts.push_back(Fact::BootstrapFailed {
                endpoint: endpoint.clone(),
                generation: bootstrap.generation(),
                step: step.clone(),
                code: code.clone(),
            });
        }
        self.events.push_back(Event::BootstrapFailed { endpoint, step, code });
    }
}

/// Associations one endpoint name may have at once: an old and a new credential, with bootstrap and management.
const ASSOCIATIONS_OF_ONE: usize = 4;
