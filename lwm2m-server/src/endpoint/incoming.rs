//! One CoAP message of a known remote: what stands in its way, and what it is (RFC 7252 §4, §5).
//!
//! Invariant: under OSCORE alone nothing counts that did not verify.

use std::ops::Range;

use lwm2m_coap::{self as coap, Failure, Input, Instant, Rng, Sent};
use oscore::Protection;

use crate::operation::RequestError;

use super::association::Bound;
use super::counters::Counters;
use super::oscore::Observed;
use super::slab::Key;
use super::trace::Direction;
use super::{Endpoint, REVIEW};

impl Endpoint {
    /// Handles one CoAP message of a known remote.
    pub(crate) fn message(
        &mut self,
        now: Instant,
        key: Key,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        if association.is_under_oscore_alone() {
            return self.take_message(now, key, datagram, rng, out);
        }
        if !association.rate.take(now, self.config.burst, self.config.rate) {
            Counters::add(&mut self.counters.over_rate);
            return None;
        }
        // What came in one datagram with the Finished waits for the admission; its device repeats it.
        if association.admission.is_awaited() {
            Counters::add(&mut self.counters.before_admission);
            return None;
        }
        // Under OSCORE it is read first.
        if association.oscore.is_none() && self.waits_for_registration(now, key, datagram) {
            return None;
        }
        self.take_message(now, key, datagram, rng, out)
    }

    /// Handles a message that nothing stands in the way of.
    pub(crate) fn take_message(
        &mut self,
        now: Instant,
        key: Key,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        if association.is_under_oscore_alone() {
            return self.take_protected(now, key, datagram, rng, out);
        }
        if association.last_heard.as_millis() / REVIEW != now.as_millis() / REVIEW {
            self.review(key);
        }
        self.mark_heard(now, key);
        let association = self.associations.get_mut(key)?;
        if association.session.is_some() && association.is_foreign(datagram) {
            return self.take_foreign(now, key, datagram, rng, out);
        }
        if association.oscore.is_some() {
            return self.take_protected(now, key, datagram, rng, out);
        }
        let device = association.registration.filter(|_| self.trace.is_on());
        let device = device.and_then(|device| self.registry.get(device));
        self.trace.record(now, association, device, Direction::FromDevice, Some(datagram));
        if association.takes_probe_answer(datagram) {
            return None;
        }
        let input = association.coap.handle(now, datagram, &mut None::<Protection<'_, Observed>>);
        if let Input::Request { exchange, message } = input {
            return self.handle_request(now, key, exchange, &message, rng, out);
        }
        self.take_input(now, key, input, rng, out)
    }

    /// Takes what came that is no request to be carried out.
    pub(crate) fn take_input(
        &mut self,
        now: Instant,
        key: Key,
        input: Input<'_, Bound>,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        match input {
            Input::Unacceptable { mut exchange, number } => {
                Counters::add(&mut self.counters.malformed);
                return self.respond(now, key, &mut exchange, &number.refused_with().into(), rng, out);
            }
            Input::Response { request, message } => {
                // Whoever has the token is where the request went.
                if let Some(association) = self.associations.get_mut(key) {
                    association.unproven.take_if(|_| association.session.is_none());
                }
                self.answered(now, key, request, &message);
            }
            Input::Unsolicited { header, message } => self.handle_notification(now, key, header, &message),
            Input::Reset(Sent::Request(request)) => {
                let error = RequestError::Malformed("the device rejected it with a Reset");
                self.unanswered(key, request, error);
            }
            Input::Duplicate => Counters::add(&mut self.counters.duplicates),
            Input::Ignored(_) => {
                Counters::add(&mut self.counters.malformed);
                self.failures(now, key);
            }
            Input::Request { .. } | Input::Acknowledged(_) | Input::Reset(_) => {}
        }
        None
    }

    /// Tells callers of requests that the reliability layer gave up.
    pub(crate) fn failures(&mut self, now: Instant, key: Key) {
        while let Some(event) = self.associations.get_mut(key).and_then(|a| a.coap.poll_event(now)) {
            let coap::Event::Failed { sent: Sent::Request(sent), failure } = event else { continue };
            let error = match failure {
                Failure::Replaced => RequestError::Interrupted,
                Failure::BadOption => RequestError::Malformed("the answer has an unknown critical option"),
                _ => RequestError::TimedOut,
            };
            if error == RequestError::TimedOut {
                self.fell_silent(key);
            }
            self.unanswered(key, sent, error);
        }
    }
}
