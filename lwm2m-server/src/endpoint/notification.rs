//! Notifications of a device: whose they are, whether they are fresh, and the blocks they did not bring along
//! (RFC 7641 §3.4, §3.6; RFC 7959 §2.6).
//!
//! Invariant: a notification that is older than another one that came before it changes nothing; one of no observation
//! is rejected, so that the device stops.

use lwm2m_coap::{Code, Header, Instant, Message};

use crate::event::Event;

use super::Endpoint;
use super::counters::Counters;
use super::downlink::{Job, Purpose};
use super::exchange::{Exchange, Outgoing, Progress};
use super::request;
use super::slab::Key;

impl Endpoint {
    pub(crate) fn handle_notification(
        &mut self,
        now: Instant,
        key: Key,
        header: Header,
        message: &Message<'_>,
    ) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let registration = association.registration.and_then(|key| self.registry.get_mut(key));
        let found = registration.and_then(|registration| {
            let index = registration.observations.iter().position(|o| o.token == message.token)?;
            Some((registration, index))
        });
        let Some((registration, index)) = found else {
            // An observation whose first answer is still being fetched stands: a Reset would end it at the device.
            if let Some(downlink) = association.passing.downlink_mut()
                && let Some(job) = downlink.begun(message.token)
            {
                association.coap.accept(header);
                let progress = job.exchange.renew(now, message);
                if let Some(progress) = progress
                    && let Some(job) = downlink.take_begun(message.token)
                {
                    self.proceed(now, key, job, progress);
                }
                return;
            }
            Counters::add(&mut self.counters.unknown_notifications);
            association.coap.reject(header);
            return;
        };
        association.coap.accept(header);
        let downlink = association.passing.downlink_mut();
        let Some(observation) = registration.observations.get_mut(index) else { return };
        if !message.code.is_success() || message.options.observe().is_none() {
            // RFC 7641 §3.2: an error, or a response without Observe, ends the observation.
            let (id, path) = (observation.id, observation.what.path());
            registration.observations.remove(index);
            downlink.and_then(|downlink| downlink.take_rest(id));
            self.events.push_back(Event::ObservationEnded {
                endpoint: registration.endpoint.clone(),
                observation: id,
                reason: format!("the device answered {} for {path}", super::code_text(message.code)),
                code: Some((message.code.class(), message.code.detail())),
            });
            return;
        }
        let sequence = message.options.observe().unwrap_or_default();
        if !observation.newest.update(now, sequence) {
            Counters::add(&mut self.counters.stale_notifications);
            return;
        }
        // RFC 7641 §4.3.3: 2.03 names one of the entity tags that the client gave, and none was given.
        if message.code != Code::CONTENT {
            Counters::add(&mut self.counters.malformed);
            return;
        }
        let (id, path) = (observation.id, observation.what.path());
        // RFC 7641 §3.4: the rest of an older one is of no use, and must not be told after this one.
        if downlink.and_then(|downlink| downlink.take_rest(id)).is_some() {
            Counters::add(&mut self.counters.stale_notifications);
        }
        // What would fetch the rest is written only where there is one.
        let (mut outgoing, mut anew) = (Outgoing::new(Code::GET, ""), None);
        if message.options.block2() != Ok(None) {
            let (what, format) = (observation.what.clone(), observation.wanted.format());
            let Ok(fetch) = request::reading(registration, &what) else { return };
            outgoing = fetch.accept(format);
            anew = outgoing.is_fetched_anew().then(|| outgoing.clone());
            if anew.is_some() {
                // The notification answers no message that had the list.
                outgoing.body.clear();
            }
        }
        let mut exchange = Exchange::new(outgoing, self.config.longest_answer, &self.budget);
        match exchange.answer(message) {
            Progress::Again => {
                let purpose = Purpose::Rest { observation: id, path };
                let deadline = now.saturating_add(crate::server::DEFAULT_TIMEOUT);
                let is_full =
                    association.passing.downlink().is_some_and(|d| d.queue.len() >= self.config.queue);
                if is_full {
                    Counters::add(&mut self.counters.unfetched_blocks);
                } else {
                    let exchange = match anew {
                        Some(outgoing) => self.exchange(outgoing),
                        None => exchange,
                    };
                    self.enqueue(key, Job::new(purpose, exchange, deadline));
                }
            }
            Progress::Done(reply) => self.notified(now, key, id, path, &reply),
            Progress::Failed(_) => Counters::add(&mut self.counters.malformed),
        }
    }
}
