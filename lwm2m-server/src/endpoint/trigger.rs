//! Telling a device to bootstrap again: Execute `/1/x/9` on the instance of this server (LwM2M Core 1.2.1 §6.1.5).

use std::sync::Arc;

use lwm2m_coap::Instant;
use lwm2m_objects::Path;

use crate::credentials::{Fact, TriggerAnswer};
use crate::operation::Operation;

use super::Endpoint;
use super::downlink::{Job, Purpose};
use super::exchange::Reply;
use super::request::Request;
use super::slab::Key;

impl Endpoint {
    /// Tells a device to bootstrap again: Execute `/1/x/9` on the instance of this server. A
    /// [`Fact::TriggerAnswered`] says how it went.
    pub fn trigger_bootstrap(&mut self, now: Instant, endpoint: &str) {
        let deadline = now.saturating_add(crate::server::DEFAULT_TIMEOUT);
        let device = self.registry.find(endpoint).and_then(|key| self.registry.get(key));
        let reached = device.and_then(|device| {
            let association = device.association.filter(|key| self.associations.get(*key).is_some())?;
            (!self.is_queue_full(association)).then_some((device, association))
        });
        let Some((device, association)) = reached else {
            if device.is_some() || !self.is_triggered_elsewhere(endpoint) {
                self.trigger_answered(endpoint.into(), TriggerAnswer::Unanswered);
            }
            return;
        };
        // One instance listed is this server's; among several only their Short Server IDs tell.
        let (name, instances) = (Arc::clone(&device.endpoint), device.objects.instances(1));
        let (purpose, operation) = match instances.as_slice() {
            [only] => (Purpose::Trigger(name), execute_trigger(*only)),
            _ => (Purpose::FindServer(name), Operation::Read { path: Path::object(1), format: None }),
        };
        if let Ok(request) = Request::new(device, operation) {
            self.enqueue(association, Job::new(purpose, self.exchange(request.outgoing), deadline));
        }
    }

    pub(crate) fn trigger_answered(&mut self, endpoint: Arc<str>, answer: TriggerAnswer) {
        self.facts.push_back(Fact::TriggerAnswered { endpoint, answer });
    }

    /// Executes the trigger on the `/1` instance whose Short Server ID is this server's, else on the first.
    pub(crate) fn server_found(&mut self, now: Instant, key: Key, endpoint: Arc<str>, reply: &Reply) {
        let items = self.context(key).decode(Path::object(1), reply).map(|content| content.items);
        let ours = i64::from(self.config.short_server_id);
        let is_ours = |value: &crate::Value| match value {
            crate::Value::Integer(id) => *id == ours,
            crate::Value::Unsigned(id) => i64::try_from(*id) == Ok(ours),
            _ => false,
        };
        let ids = items.unwrap_or_default().into_iter().filter(|(path, _)| path.resource_id() == Some(0));
        let found = ids.filter(|(_, value)| is_ours(value)).find_map(|(path, _)| path.instance_id());
        let device = self.associations.get(key).and_then(|association| association.registration);
        let request = device.and_then(|device| self.registry.get(device)).and_then(|device| {
            let instance = found.or(device.objects.instances(1).first().copied()).unwrap_or(0);
            Request::new(device, execute_trigger(instance)).ok()
        });
        match request {
            Some(request) => {
                let deadline = now.saturating_add(crate::server::DEFAULT_TIMEOUT);
                let exchange = self.exchange(request.outgoing);
                self.enqueue(key, Job::new(Purpose::Trigger(endpoint), exchange, deadline));
            }
            None => self.trigger_answered(endpoint, TriggerAnswer::Unanswered),
        }
    }
}

fn execute_trigger(instance: u16) -> Operation {
    Operation::Execute { path: Path::resource(1, instance, 9), arguments: String::new() }
}
