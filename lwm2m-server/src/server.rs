//! The handle an application holds: asynchronous, cheap to clone, and the same for REST, terminal and library users.
//!
//! A call crosses two tasks: the caller, and the driver that owns the socket; the answer completes a one-shot channel.

use crate::Path;
use crate::Value;
use crate::credentials::{Command, Role};
use crate::driver::RETIRED;
use crate::endpoint::{Packet, Saved, Shared};
use crate::event::Event;
use crate::models::Models;
use crate::operation::{Answer, Content, Discovered, ObservationId, Operation, RequestError, WriteMode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Barrier, broadcast, mpsc, oneshot};

/// A running server. Clones share it; the driver stops when the last one is dropped and its sockets are closed.
#[derive(Clone, Debug)]
pub struct Server {
    /// To the thread of each part.
    calls: Arc<[mpsc::Sender<Call>]>,
    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    packets: broadcast::Sender<Packet>,
}

/// What the handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Call {
    Request {
        endpoint: String,
        operation: Operation,
        timeout: Duration,
        /// The id that the observation is to have.
        observation: Option<ObservationId>,
        answer: oneshot::Sender<Result<Answer, RequestError>>,
    },
    Devices {
        answer: oneshot::Sender<Vec<Device>>,
    },
    Device {
        endpoint: String,
        answer: oneshot::Sender<Option<Device>>,
    },
    Observations {
        endpoint: String,
        answer: oneshot::Sender<Vec<(ObservationId, Vec<Path>)>>,
    },
    Forget {
        endpoint: String,
        answer: oneshot::Sender<bool>,
    },
    ForgetObservation {
        endpoint: String,
        observation: ObservationId,
        answer: oneshot::Sender<bool>,
    },
    CloseSessions {
        endpoint: Arc<str>,
        role: Role,
        generation: Option<u32>,
        reason: &'static str,
        answer: oneshot::Sender<usize>,
    },
    Trigger {
        endpoint: Arc<str>,
        answer: oneshot::Sender<()>,
    },
    Models {
        models: Arc<Models>,
        answer: oneshot::Sender<()>,
    },
    Counters {
        answer: oneshot::Sender<Vec<(&'static str, u64)>>,
    },
    Stop(Stop),
}

/// All parts are to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Who wants what goes on in the next run.
    pub(crate) saved: mpsc::Sender<Vec<Saved>>,
    /// Where all parts meet.
    pub(crate) all: Arc<Barrier>,
}

/// A registered device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Endpoint client name.
    pub endpoint: Arc<str>,
    /// Address and port it was last heard from, as text.
    pub address: String,
    /// Whether it came over DTLS or under OSCORE.
    pub secure: bool,
    /// Which generation of its credential it proved; 0 without security.
    pub generation: u32,
    /// LwM2M version it announced, for example `1.1`.
    pub version: String,
    /// Lifetime in seconds; 0 never ends.
    pub lifetime: u32,
    /// Binding as announced, for example `U`.
    pub binding: String,
    /// Whether it may sleep (queue mode).
    pub queue: bool,
    /// In queue mode, until when it listens as far as is known, in milliseconds since 1970-01-01 UTC: a time that has passed
    /// while it sleeps. `None` without queue mode: it always listens.
    pub awake_until: Option<u64>,
    /// The object links as registered.
    pub objects: Arc<str>,
    /// Location of the registration, for example `/rd/AbCd`.
    pub location: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub registered_at: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub last_heard: u64,
    /// How many observations stand.
    pub observations: usize,
}

impl Device {
    /// Whether it listens now, as far as is known.
    #[must_use]
    pub fn is_awake(&self, now_ms: u64) -> bool {
        self.awake_until.is_none_or(|until| now_ms < until)
    }
}

/// How long a request may take when the caller does not say, queueing included: CoAP's MAX_TRANSMIT_WAIT (RFC 7252 §4.8.2).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(93);

/// How often, and how long after each other, a request is tried whose device is on its way between two threads.
const MOVES: u8 = 20;
const MOVE: Duration = Duration::from_millis(5);

impl Server {
    pub(crate) fn new(
        calls: Arc<[mpsc::Sender<Call>]>,
        shared: Arc<Shared>,
        events: broadcast::Sender<Event>,
        packets: broadcast::Sender<Packet>,
    ) -> Self {
        Self { calls, shared, events, packets }
    }

    /// Reads an object, instance, resource or resource instance.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn read(&self, endpoint: &str, path: Path) -> Result<Content, RequestError> {
        match self.request(endpoint, Operation::Read { path, format: None }, DEFAULT_TIMEOUT).await? {
            Answer::Content(content) => Ok(content),
            _ => Err(RequestError::Malformed("not an answer to a Read")),
        }
    }

    /// Writes values at or below `path`, replacing what is there or updating a part of it.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn write(
        &self,
        endpoint: &str,
        path: Path,
        mode: WriteMode,
        values: Vec<(Path, Value)>,
    ) -> Result<(), RequestError> {
        let operation = Operation::Write { path, mode, values, format: None };
        self.request(endpoint, operation, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Executes a resource with arguments in the grammar of LwM2M Core 1.2.1 §6.3.5, or none.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn execute(&self, endpoint: &str, path: Path, arguments: &str) -> Result<(), RequestError> {
        let operation = Operation::Execute { path, arguments: arguments.to_owned() };
        self.request(endpoint, operation, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Creates an instance of an object; answers where, when the device says so.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn create(
        &self,
        endpoint: &str,
        object: u16,
        instance: Option<u16>,
        values: Vec<(u16, Option<u16>, Value)>,
    ) -> Result<Option<Path>, RequestError> {
        match self.request(endpoint, Operation::Create { object, instance, values }, DEFAULT_TIMEOUT).await? {
            Answer::Created(path) => Ok(path),
            _ => Err(RequestError::Malformed("not an answer to a Create")),
        }
    }

    /// Deletes an object instance or a resource instance.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn delete(&self, endpoint: &str, path: Path) -> Result<(), RequestError> {
        self.request(endpoint, Operation::Delete { path }, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Lists what is instantiated at and below `path`, with its attributes.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn discover(
        &self,
        endpoint: &str,
        path: Path,
        depth: Option<u8>,
    ) -> Result<Discovered, RequestError> {
        match self.request(endpoint, Operation::Discover { path, depth }, DEFAULT_TIMEOUT).await? {
            Answer::Discovered(found) => Ok(found),
            _ => Err(RequestError::Malformed("not an answer to a Discover")),
        }
    }

    /// Sets notification attributes, for example `pmin=10&pmax=60`; a name without a value unsets it.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn write_attributes(
        &self,
        endpoint: &str,
        path: Path,
        attributes: &str,
    ) -> Result<(), RequestError> {
        let operation = Operation::WriteAttributes { path, attributes: attributes.to_owned() };
        self.request(endpoint, operation, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Observes `path` until the device registers anew; values that change arrive as [`Event::Notification`]. Observing what is
    /// observed already renews that observation and keeps its id. [`crate::observations`] has those that last.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn observe(
        &self,
        endpoint: &str,
        path: Path,
    ) -> Result<(ObservationId, Content), RequestError> {
        match self.request(endpoint, Operation::Observe { path, format: None }, DEFAULT_TIMEOUT).await? {
            Answer::Observing(id, content) => Ok((id, content)),
            _ => Err(RequestError::Malformed("not an answer to an Observe")),
        }
    }

    /// Reads several places at once.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn read_composite(&self, endpoint: &str, paths: Vec<Path>) -> Result<Content, RequestError> {
        let operation = Operation::ReadComposite { paths, format: None };
        match self.request(endpoint, operation, DEFAULT_TIMEOUT).await? {
            Answer::Content(content) => Ok(content),
            _ => Err(RequestError::Malformed("not an answer to a Read-Composite")),
        }
    }

    /// Writes several resources or resource instances at once, all or none.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn write_composite(
        &self,
        endpoint: &str,
        values: Vec<(Path, Value)>,
    ) -> Result<(), RequestError> {
        self.request(endpoint, Operation::WriteComposite { values }, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Observes several places at once: when one of them changes all of them arrive as one [`Event::Notification`], whose path
    /// is the root.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn observe_composite(
        &self,
        endpoint: &str,
        paths: Vec<Path>,
    ) -> Result<(ObservationId, Content), RequestError> {
        let operation = Operation::ObserveComposite { paths, format: None };
        match self.request(endpoint, operation, DEFAULT_TIMEOUT).await? {
            Answer::Observing(id, content) => Ok((id, content)),
            _ => Err(RequestError::Malformed("not an answer to an Observe-Composite")),
        }
    }

    /// Ends an observation.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn cancel(&self, endpoint: &str, observation: ObservationId) -> Result<(), RequestError> {
        self.request(endpoint, Operation::Cancel { observation }, DEFAULT_TIMEOUT).await.map(drop)
    }

    /// Asks any operation of a device; `timeout` includes the time in the device's queue.
    ///
    /// # Errors
    /// The device is unknown, refuses, stays silent or answers what cannot be understood.
    pub async fn request(
        &self,
        endpoint: &str,
        operation: Operation,
        timeout: Duration,
    ) -> Result<Answer, RequestError> {
        self.request_as(endpoint, operation, timeout, None).await
    }

    /// The same; an observation gets this id.
    pub(crate) async fn request_as(
        &self,
        endpoint: &str,
        operation: Operation,
        timeout: Duration,
        observation: Option<ObservationId>,
    ) -> Result<Answer, RequestError> {
        let mut tries = 0_u8;
        loop {
            let operation = operation.clone();
            let name = endpoint.to_owned();
            let call = |answer| Call::Request { endpoint: name, operation, timeout, observation, answer };
            let outcome = self.ask(endpoint, call).await.unwrap_or(Err(RequestError::Stopped));
            // It may just be moving from one thread to another.
            let is_moving =
                outcome == Err(RequestError::UnknownDevice) && self.shared.owner(endpoint).is_some();
            if !is_moving || tries >= MOVES {
                return outcome;
            }
            tries = tries.saturating_add(1);
            tokio::time::sleep(MOVE).await;
        }
    }

    /// All registered devices, sorted by endpoint name. Empty when the server stopped.
    pub async fn devices(&self) -> Vec<Device> {
        let parts = self.ask_all(|answer| Call::Devices { answer }).await;
        let mut devices: Vec<Device> = parts.into_iter().flatten().collect();
        devices.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        devices
    }

    /// One registered device.
    pub async fn device(&self, endpoint: &str) -> Option<Device> {
        let name = endpoint.to_owned();
        self.ask(endpoint, |answer| Call::Device { endpoint: name, answer }).await.flatten()
    }

    /// The observations that stand at a device.
    pub async fn observations(&self, endpoint: &str) -> Vec<(ObservationId, Vec<Path>)> {
        let name = endpoint.to_owned();
        self.ask(endpoint, |answer| Call::Observations { endpoint: name, answer }).await.unwrap_or_default()
    }

    /// Forgets the registration of a device without a word to it: its next Update is answered with 4.04, and it registers
    /// anew, with its objects as they are then. `false` when it is not registered.
    pub async fn forget(&self, endpoint: &str) -> bool {
        let name = endpoint.to_owned();
        self.ask(endpoint, |answer| Call::Forget { endpoint: name, answer }).await.unwrap_or_default()
    }

    /// Ends an observation without asking the device: its next notification is answered with a Reset (RFC 7641 §3.6).
    /// Serves where a device sleeps or does not understand [`cancel`](Self::cancel). `false` when there is none.
    pub async fn forget_observation(&self, endpoint: &str, observation: ObservationId) -> bool {
        let name = endpoint.to_owned();
        let call = |answer| Call::ForgetObservation { endpoint: name, observation, answer };
        self.ask(endpoint, call).await.unwrap_or_default()
    }

    /// Closes the live sessions of a device and ends what hangs on them; with `generation`, only those of that
    /// credential. Answers how many were closed.
    pub async fn drop_sessions(&self, endpoint: &str, role: Role, generation: Option<u32>) -> usize {
        self.close_sessions(endpoint.into(), role, generation, "closed by the operator").await
    }

    /// Carries out what an operator's change of credentials asks for, before its answer is given: a revoked device is
    /// refused from its next record on.
    pub async fn carry_out(&self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::CloseSessions { endpoint, role, generation } => {
                    self.close_sessions(endpoint, role, generation, RETIRED).await;
                }
                Command::ForgetRegistration { endpoint } => {
                    self.forget(&endpoint).await;
                }
                Command::TriggerBootstrap { endpoint } => {
                    let name = Arc::clone(&endpoint);
                    self.ask(&name, |answer| Call::Trigger { endpoint, answer }).await;
                }
            }
        }
    }

    /// Lets every part of the server decode with these definitions from now on.
    pub(crate) async fn set_models(&self, models: &Arc<Models>) {
        self.ask_all(|answer| Call::Models { models: Arc::clone(models), answer }).await;
    }

    /// Names and values of the counters: datagrams, drops by reason, handshakes, requests.
    pub async fn counters(&self) -> Vec<(&'static str, u64)> {
        let parts = self.ask_all(|answer| Call::Counters { answer }).await;
        let mut parts = parts.into_iter();
        let mut total = parts.next().unwrap_or_default();
        for part in parts {
            for ((_, total), (_, count)) in total.iter_mut().zip(part) {
                *total = total.saturating_add(count);
            }
        }
        total
    }

    /// Stops the server, and sends what is to go on in the next run to `keep`, some remotes at a time: sessions with their
    /// keys, registrations and observations. Read them meanwhile; seal them before they are written anywhere;
    /// [`crate::driver::resume`] takes them. Requests under way end with [`RequestError::Stopped`].
    pub async fn stop(&self, keep: mpsc::Sender<Vec<Saved>>) {
        let all = Arc::new(Barrier::new(self.calls.len()));
        let stop = Stop { saved: keep, all };
        for part in &*self.calls {
            // One that stopped before has nothing to give.
            let _ = part.send(Call::Stop(stop.clone())).await;
        }
        drop(stop);
        for part in &*self.calls {
            part.closed().await;
        }
    }

    /// Tells the listeners of an event that no device caused.
    pub(crate) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Everything that happens from now on. A listener that falls too far behind loses the oldest events and is told.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Every CoAP message to and from devices from now on, as it is inside DTLS and without secrets. Copied only while
    /// somebody listens; a listener that falls too far behind loses the oldest ones and is told.
    #[must_use]
    pub fn packets(&self) -> broadcast::Receiver<Packet> {
        self.packets.subscribe()
    }

    async fn close_sessions(
        &self,
        endpoint: Arc<str>,
        role: Role,
        generation: Option<u32>,
        reason: &'static str,
    ) -> usize {
        let call = |answer| {
            let endpoint = Arc::clone(&endpoint);
            Call::CloseSessions { endpoint, role, generation, reason, answer }
        };
        self.ask_all(call).await.into_iter().fold(0, usize::saturating_add)
    }

    /// Whether a device is registered, or was just now.
    pub(crate) fn is_known(&self, endpoint: &str) -> bool {
        self.shared.owner(endpoint).is_some()
    }

    /// Asks the part that a device belongs to, or any if it belongs to none.
    async fn ask<T>(&self, endpoint: &str, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let owner = self.shared.owner(endpoint).unwrap_or(0);
        Self::ask_one(self.calls.get(usize::from(owner))?, call).await
    }

    /// Asks all parts. None answers when the server stopped.
    async fn ask_all<T>(&self, call: impl Fn(oneshot::Sender<T>) -> Call) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.calls.len());
        for part in &*self.calls {
            answers.extend(Self::ask_one(part, &call).await);
        }
        answers
    }

    async fn ask_one<T>(
        part: &mpsc::Sender<Call>,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> Option<T> {
        let (answer, outcome) = oneshot::channel();
        part.send(call(answer)).await.ok()?;
        outcome.await.ok()
    }
}
