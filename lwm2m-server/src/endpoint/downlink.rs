//! Requests to one device: one in flight (NSTART 1), the others in a bounded queue, each with its deadline.
//!
//! 1. A job is queued: by a caller, by a bootstrap, by a trigger, or for the rest of a notification.
//! 2. `start_next` writes it when the former one is settled.
//! 3. `answered` takes the response: a further block, or the end.
//! 4. `complete` or `fail` tells whoever asked.
//!
//! Invariant: every job ends exactly once, with an answer or a reason.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_coap::observe::Freshness;
use lwm2m_coap::protect::Unprotectable;
use lwm2m_coap::{Code, Delivery, Instant, Message, RequestId as Sent, Rng, SendError, Token, Writer};
use lwm2m_objects::{Format, Path};

use crate::credentials::TriggerAnswer;
use crate::event::Event;
use crate::operation::{Answer, ObservationId, Operation, RequestError};

use super::association::Association;
use super::bootstrap::Bootstrap;
use super::counters::Counters;
use super::exchange::{Exchange, Outgoing, Progress, Reply};
use super::observation::{Observation, Observed, Wanted};
use super::registry::Registration;
use super::request::{Context, Meaning, Request};
use super::slab::Key;
use super::trace::{Asked, Direction};
use super::{Address, Endpoint, RequestId};

/// The requests to one device.
#[derive(Debug, Default)]
pub(crate) struct Downlink {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) active: Option<Active>,
    pub(crate) bootstrap: Option<Box<Bootstrap>>,
}

/// A request, waiting or under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) purpose: Purpose,
    pub(crate) exchange: Exchange,
    pub(crate) deadline: Instant,
    /// The token to use instead of a new one.
    pub(crate) token: Option<Token>,
    /// The token of its first message: that of the observation it begins.
    pub(crate) first_token: Option<Token>,
}

/// The job in flight.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) job: Job,
    pub(crate) sent: Sent,
    pub(crate) token: Token,
    /// What it asks, for the trace; `None` while nobody looks.
    pub(crate) asked: Option<Asked>,
    /// Where it went: who answers it is there.
    pub(crate) to: Address,
}

/// Whom the answer is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Caller {
        id: RequestId,
        meaning: Meaning,
    },
    /// The rest of a notification, for its observation.
    Rest {
        observation: ObservationId,
        path: Path,
    },
    Bootstrap,
    /// Execute `/1/x/9` on this device.
    Trigger(Arc<str>),
    /// Read `/1`, to find the instance of this server for the trigger.
    FindServer(Arc<str>),
}

impl Downlink {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.active.is_none() && self.bootstrap.is_none()
    }

    /// The job that began with this token, whose answer is still being fetched.
    pub(crate) fn begun(&mut self, token: Token) -> Option<&mut Job> {
        let active = self.active.as_mut().map(|active| &mut active.job);
        self.queue.iter_mut().chain(active).find(|job| job.first_token == Some(token))
    }

    /// Takes it out. What it has in flight stays in flight (NSTART), and its answer is nobody's any more.
    pub(crate) fn take_begun(&mut self, token: Token) -> Option<Job> {
        self.take(|job| job.first_token == Some(token))
    }

    /// Takes out the job that fetches the rest of a notification of this observation, in the same way.
    pub(crate) fn take_rest(&mut self, of: ObservationId) -> Option<Job> {
        self.take(|job| matches!(job.purpose, Purpose::Rest { observation, .. } if observation == of))
    }

    fn take(&mut self, is_meant: impl Fn(&Job) -> bool) -> Option<Job> {
        if let Some(active) = self.active.take_if(|active| is_meant(&active.job)) {
            return Some(active.job);
        }
        let index = self.queue.iter().position(is_meant)?;
        self.queue.remove(index)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let active = self.active.as_ref().map(|active| active.job.deadline);
        self.queue.iter().map(|job| job.deadline).chain(active).min()
    }

    /// Everything that has not ended, the one in flight first.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        self.active.take().map(|active| active.job).into_iter().chain(self.queue.drain(..)).collect()
    }

    /// What callers wait for and has not left.
    pub(crate) fn take_unsent(&mut self) -> VecDeque<Job> {
        let is_unsent =
            |job: &Job| job.first_token.is_none() && matches!(job.purpose, Purpose::Caller { .. });
        let (unsent, others) = core::mem::take(&mut self.queue).into_iter().partition(is_unsent);
        self.queue = others;
        unsent
    }

    fn take_overdue(&mut self, now: Instant) -> Option<(Job, Option<Sent>)> {
        if let Some(active) = self.active.take_if(|active| active.job.deadline <= now) {
            return Some((active.job, Some(active.sent)));
        }
        let index = self.queue.iter().position(|job| job.deadline <= now)?;
        Some((self.queue.remove(index)?, None))
    }
}

impl Job {
    pub(crate) fn new(purpose: Purpose, exchange: Exchange, deadline: Instant) -> Self {
        Self { purpose, exchange, deadline, token: None, first_token: None }
    }
}

impl Endpoint {
    /// Asks an operation of a device. The outcome comes by [`poll_outcome`](Self::poll_outcome); drain
    /// [`poll_transmit`](Self::poll_transmit) next.
    ///
    /// # Errors
    /// When it cannot be asked at all; then no outcome follows.
    pub fn request(
        &mut self,
        now: Instant,
        endpoint: &str,
        operation: Operation,
        timeout: Duration,
    ) -> Result<RequestId, RequestError> {
        self.begin(now, endpoint, operation, timeout, None)
    }

    /// Asks an Observe or Observe-Composite, and gives the observation this id: one that it may have had in a former registration.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn observe(
        &mut self,
        now: Instant,
        endpoint: &str,
        operation: Operation,
        timeout: Duration,
        id: ObservationId,
    ) -> Result<RequestId, RequestError> {
        self.begin(now, endpoint, operation, timeout, Some(id))
    }

    fn begin(
        &mut self,
        now: Instant,
        endpoint: &str,
        operation: Operation,
        timeout: Duration,
        observation: Option<ObservationId>,
    ) -> Result<RequestId, RequestError> {
        let registration = self.registry.find(endpoint).and_then(|key| self.registry.get(key));
        let registration = registration.ok_or(RequestError::UnknownDevice)?;
        let association = registration.association.filter(|key| self.associations.get(*key).is_some());
        let Request { outgoing, mut meaning, token } = Request::new(registration, operation)?;
        if let Meaning::Observing { id, .. } = &mut meaning {
            *id = observation;
        }
        let association = association.ok_or(RequestError::Unreachable)?;
        if self.is_queue_full(association) {
            return Err(RequestError::QueueFull);
        }
        let id = RequestId(self.part.number(self.next_request));
        self.next_request = self.next_request.wrapping_add(1);
        let mut job =
            Job::new(Purpose::Caller { id, meaning }, self.exchange(outgoing), now.saturating_add(timeout));
        job.token = token;
        self.enqueue(association, job);
        Ok(id)
    }

    /// Whether as many requests wait for a device as may.
    pub(crate) fn is_queue_full(&self, key: Key) -> bool {
        let downlink = self.associations.get(key).and_then(|association| association.passing.downlink());
        downlink.is_some_and(|downlink| downlink.queue.len() >= self.config.queue)
    }

    /// A request to a device, with the longest answer that is taken.
    pub(crate) fn exchange(&self, outgoing: Outgoing) -> Exchange {
        Exchange::new(outgoing, self.config.longest_answer, &self.budget)
    }

    /// Lets a job wait for its turn. If its association is gone it ends here.
    pub(crate) fn enqueue(&mut self, key: Key, job: Job) {
        match self.associations.get_mut(key) {
            Some(association) => {
                association.passing.make_downlink().queue.push_back(job);
                self.mark_ready(key);
            }
            None => self.fail(key, job, RequestError::Interrupted),
        }
    }

    /// Lets what waited in a former association of a device wait in this one, if there is room.
    pub(crate) fn wait_in(&mut self, key: Key, waiting: VecDeque<Job>) {
        for job in waiting {
            if self.is_queue_full(key) {
                self.fail(key, job, RequestError::QueueFull);
            } else {
                self.enqueue(key, job);
            }
        }
    }

    /// Writes the next request, when none is in flight.
    pub(crate) fn start_next(
        &mut self,
        now: Instant,
        key: Key,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        loop {
            let association = self.associations.get_mut(key)?;
            let (room, space) = (association.room(), association.space(out));
            let is_open = association.session.as_ref().is_none_or(|session| session.is_established());
            let downlink = association.passing.downlink_mut()?;
            if !is_open || downlink.active.is_some() || !association.coap.can_request(now) {
                return None;
            }
            let mut job = downlink.queue.pop_front()?;
            let device = association.registration.and_then(|registration| self.registry.get(registration));
            let observations = device.map(|device| device.observations.as_slice()).unwrap_or_default();
            // One observation has one token, in however many messages it is asked for.
            let begun = job.first_token.filter(|_| job.exchange.is_observing());
            let token = job.token.take().or(begun).unwrap_or_else(|| {
                association
                    .coap
                    .next_token(rng, |token| observations.iter().any(|other| other.token == token))
            });
            let mut writer = Writer::new(space, room, job.exchange.code());
            let written = job.exchange.write_fitting(&mut writer);
            let Association { coap, oscore, .. } = association;
            if let Some(oscore) = oscore.as_deref_mut().filter(|_| job.exchange.is_observing()) {
                let jobs = association.passing.downlink().into_iter().flat_map(|downlink| &downlink.queue);
                let begun: Vec<Token> = jobs.filter_map(|job| job.first_token).collect();
                let stand = observations.iter().map(|observation| observation.token);
                let stand: Vec<Token> = stand.chain(begun).chain([token]).collect();
                oscore.observations.retain(|token| stand.contains(&token));
            }
            let mut protection = oscore.as_deref_mut().map(|oscore| oscore.protection(now, rng));
            let sent = written
                .map_err(SendError::from)
                .and_then(|()| coap.request(now, Delivery::Confirmable, token, writer, &mut protection, rng));
            let (sent, range) = match sent {
                Ok(sent) => sent,
                // It waits until storage has more numbers.
                Err(SendError::Protect(Unprotectable::NoSequence)) => {
                    association.passing.make_downlink().queue.push_front(job);
                    self.reserve_ahead(key);
                    return None;
                }
                Err(_) => {
                    self.fail(
                        key,
                        job,
                        RequestError::Invalid("the request is longer than one message may be"),
                    );
                    continue;
                }
            };
            job.first_token.get_or_insert(token);
            Counters::add(&mut self.counters.requests_sent);
            let bytes = out.get(range.clone());
            let seen = association.as_seen(bytes, self.trace.is_on(), |writer| {
                writer.restart(job.exchange.code());
                job.exchange.write(writer)
            });
            let asked =
                self.trace.record(now, association, device, Direction::ToDevice, seen.as_deref().or(bytes));
            let active = Active { job, sent, token, asked, to: association.address };
            association.passing.make_downlink().active = Some(active);
            return association.seal(&mut self.counters, out, range);
        }
    }

    /// Takes the response to the request in flight.
    pub(crate) fn answered(&mut self, now: Instant, key: Key, sent: Sent, message: &Message<'_>) {
        let Some(Active { mut job, to, .. }) = self.take_active(key, sent) else { return };
        if let Some(association) = self.associations.get_mut(key) {
            association.proves(to);
        }
        let progress = job.exchange.answer(message);
        self.proceed(now, key, job, progress);
    }

    /// Goes on with a job as its answer wants.
    pub(crate) fn proceed(&mut self, now: Instant, key: Key, job: Job, progress: Progress) {
        match progress {
            Progress::Again => {
                if let Some(association) = self.associations.get_mut(key) {
                    association.passing.make_downlink().queue.push_front(job);
                }
            }
            Progress::Done(reply) => self.complete(now, key, job, &reply),
            Progress::Failed(error) => self.fail(key, job, error),
        }
        self.mark_ready(key);
    }

    /// The request in flight came to nothing.
    pub(crate) fn unanswered(&mut self, key: Key, sent: Sent, error: RequestError) {
        if let Some(Active { job, .. }) = self.take_active(key, sent) {
            self.fail(key, job, error);
        }
        self.mark_ready(key);
    }

    /// Fails what is past its deadline.
    pub(crate) fn expire_jobs(&mut self, now: Instant, key: Key) {
        loop {
            let Some(association) = self.associations.get_mut(key) else { return };
            let Some(downlink) = association.passing.downlink_mut() else { return };
            let Some((job, sent)) = downlink.take_overdue(now) else { return };
            if let Some(sent) = sent {
                association.coap.cancel(sent);
            }
            self.fail(key, job, RequestError::TimedOut);
            self.mark_ready(key);
        }
    }

    fn take_active(&mut self, key: Key, sent: Sent) -> Option<Active> {
        let downlink = self.associations.get_mut(key)?.passing.downlink_mut()?;
        downlink.active.take_if(|active| active.sent == sent)
    }

    fn complete(&mut self, now: Instant, key: Key, job: Job, reply: &Reply) {
        match job.purpose {
            Purpose::Caller { id, ref meaning } => {
                let outcome = self.meaning(now, key, &job, meaning, reply);
                if outcome.is_err() {
                    Counters::add(&mut self.counters.requests_failed);
                }
                self.settle_request(id, outcome);
            }
            Purpose::Rest { observation, path } if reply.code.is_success() => {
                let device = self.registration_of(key);
                // It may have been cancelled meanwhile.
                if device
                    .is_some_and(|device| device.observations.iter().any(|other| other.id == observation))
                {
                    self.notified(now, key, observation, path, reply);
                }
            }
            // What is gone meanwhile is told by a notification of its own.
            Purpose::Rest { .. } => Counters::add(&mut self.counters.requests_failed),
            Purpose::Bootstrap => self.bootstrap_answered(now, key, reply),
            Purpose::Trigger(endpoint) => {
                let answer = match reply.code.is_success() {
                    true => TriggerAnswer::Accepted,
                    false => TriggerAnswer::Refused {
                        code: super::code_text(reply.code),
                        // RFC 7252 §5.9.3.4, §5.10.5: when it makes sense to try again; 60 s if it is not said.
                        after: (reply.code == Code::SERVICE_UNAVAILABLE).then(|| reply.max_age.unwrap_or(60)),
                    },
                };
                self.trigger_answered(endpoint, answer);
            }
            Purpose::FindServer(endpoint) => self.server_found(now, key, endpoint, reply),
        }
    }

    /// Ends a job without an answer.
    pub(crate) fn fail(&mut self, key: Key, job: Job, error: RequestError) {
        let is_bootstrap = matches!(job.purpose, Purpose::Bootstrap);
        self.fail_moved(job, error);
        if is_bootstrap {
            self.bootstrap_unanswered(key);
        }
    }

    /// Ends a job that no association has.
    pub(crate) fn fail_moved(&mut self, job: Job, error: RequestError) {
        Counters::add(&mut self.counters.requests_failed);
        let error = match error {
            RequestError::TimedOut | RequestError::Interrupted if job.first_token.is_none() => {
                RequestError::NotSent
            }
            error => error,
        };
        match job.purpose {
            Purpose::Caller { id, .. } => self.settle_request(id, Err(error)),
            // A bootstrap is its association's, and never moves.
            Purpose::Rest { .. } | Purpose::Bootstrap => {}
            Purpose::Trigger(endpoint) | Purpose::FindServer(endpoint) => {
                self.trigger_answered(endpoint, TriggerAnswer::Unanswered);
            }
        }
    }

    fn meaning(
        &mut self,
        now: Instant,
        key: Key,
        job: &Job,
        meaning: &Meaning,
        reply: &Reply,
    ) -> Result<Answer, RequestError> {
        let observation = match meaning {
            Meaning::Observing { what, format, id } => {
                // What cannot be understood now will not be understood later: such an observation does not stand.
                let is_usable = meaning.answer(reply, self.context(key), ObservationId(0)).is_ok();
                let sequence = reply.observe.filter(|_| is_usable);
                self.observing(now, key, job, (what.clone(), *format, *id), sequence)?
            }
            Meaning::Cancelled { observation } => {
                if let Some(device) = self.registration_of(key) {
                    device.observations.retain(|other| other.id != *observation);
                }
                *observation
            }
            _ => ObservationId(0),
        };
        meaning.answer(reply, self.context(key), observation)
    }

    /// Keeps the observation that an answer begins or renews. Without a sequence number it is none, and ends what stood
    /// there; what the answer says instead is for the caller to see.
    fn observing(
        &mut self,
        now: Instant,
        key: Key,
        job: &Job,
        (what, format, id): (Observed, Option<Format>, Option<ObservationId>),
        sequence: Option<u32>,
    ) -> Result<ObservationId, RequestError> {
        let most = self.config.observations;
        let passing = self.part.number(self.next_observation).saturating_add(ObservationId::PASSING);
        let next = id.unwrap_or(ObservationId(passing));
        let device = self.registration_of(key).ok_or(RequestError::Interrupted)?;
        let (endpoint, observations) = (Arc::clone(&device.endpoint), &mut device.observations);
        let known = observations.iter().position(|other| other.what == what);
        let (Some(token), Some(sequence)) = (job.first_token, sequence) else {
            if let Some(index) = known {
                observations.remove(index);
            }
            return Ok(next);
        };
        let newest = Freshness::new(now, sequence);
        if let Some(observation) = known.and_then(|index| observations.get_mut(index)) {
            // RFC 7641 §3.3: with the same token it is the same observation, of what was asked last.
            (observation.newest, observation.wanted) = (newest, Wanted::new(format));
            let renewed = id.unwrap_or(observation.id);
            let former = core::mem::replace(&mut observation.id, renewed);
            if former != renewed {
                let reason = format!("it goes on as observation {}", renewed.0);
                self.events.push_back(Event::ObservationEnded {
                    endpoint,
                    observation: former,
                    reason,
                    code: None,
                });
            }
            return Ok(renewed);
        }
        if observations.len() >= most {
            return Err(RequestError::Invalid("as many observations as one device may have stand"));
        }
        observations.reserve_exact(1);
        observations.push(Observation { id: next, token, what, wanted: Wanted::new(format), newest });
        if id.is_none() {
            self.next_observation = self.next_observation.wrapping_add(1);
        }
        Ok(next)
    }

    fn registration_of(&mut self, key: Key) -> Option<&mut Registration> {
        self.registry.get_mut(self.associations.get(key)?.registration?)
    }

    /// What is needed to understand the answers of this device.
    pub(crate) fn context(&self, key: Key) -> Context<'_> {
        let device = self.associations.get(key).and_then(|association| association.registration);
        let device = device.and_then(|device| self.registry.get(device));
        Context { models: &self.config.models, device }
    }

    /// The values of a notification are complete.
    pub(crate) fn notified(
        &mut self,
        now: Instant,
        key: Key,
        observation: ObservationId,
        path: Path,
        reply: &Reply,
    ) {
        let who = self.associations.get(key).and_then(|association| association.who.as_ref());
        let Some(endpoint) = who.map(|who| who.endpoint().clone()) else { return };
        match self.context(key).report(path, reply, self.wall_clock(now)) {
            Ok(report) => {
                Counters::add(&mut self.counters.notifications);
                self.events.push_back(Event::Notification {
                    endpoint,
                    observation,
                    path,
                    report: report.into(),
                });
            }
            Err(error) => {
                Counters::add(&mut self.counters.malformed);
                tracing::debug!(%endpoint, %path, %error, "a notification cannot be understood");
            }
        }
    }
}
