//! The durable queue of each device that sleeps (LwM2M Core 1.2.1 §6.5): requests that wait on disk until their device is heard.
//!
//! 1. [`Queue::add`] writes a request to the store; then its id is given out.
//! 2. When the device is heard, or listens already, the next request is marked as sent, on disk, before it leaves: those of the
//!    highest priority first, the older one first among equals, one at a time (NSTART 1).
//! 3. Its outcome is written, told as an [`Event`], and kept for a while.
//!
//! What got no answer may have been executed, and so may what was marked as sent when the server ended. GET, PUT and DELETE are
//! idempotent (RFC 7252 §5.1), and so are FETCH and iPATCH (RFC 8132 §2, §3): Read, Discover, Observe, Write (Replace),
//! Write-Attributes, Delete, Read-Composite, Observe-Composite and Write-Composite are sent again when the device is heard
//! again. Write (Update), Execute and Create are POST: they are never sent twice, and end as [`State::Unknown`].
//!
//! Invariants: every request that was given an id ends exactly once, or is removed long after it ended; nothing but ids, states
//! and times of it is in memory; nothing is kept of a device without requests.

mod body;
pub(crate) mod config;
mod machine;
mod run;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::Event;
use crate::operation::Operation;
use crate::server::Server;
use crate::store::{QueuedRequest, Store, StoreError};

pub(crate) use body::{Body, CreatedAt, Links, Observing, emit_answer};
use machine::Machine;
pub use machine::{Full, NotCancelled};
use run::{Call, Run};

/// Where a queued request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RequestState)]
pub enum State {
    /// It waits for its device.
    Queued,
    /// It is on its way.
    Sent,
    /// The device did what was asked.
    Done,
    /// The device refused, or it could not be asked at all.
    Failed,
    /// Its time ended, and it never left.
    Expired,
    /// An operator took it out, and it never left.
    Cancelled,
    /// It left and no answer came: the device may have executed it.
    Unknown,
}

impl State {
    /// Whether it stays so.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent)
    }

    /// As it is written in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// The name of the event that tells of it.
    pub(crate) const fn event(self) -> &'static str {
        match self {
            Self::Queued => "request-queued",
            Self::Sent => "request-sent",
            Self::Done => "request-done",
            Self::Failed => "request-failed",
            Self::Expired => "request-expired",
            Self::Cancelled => "request-cancelled",
            Self::Unknown => "request-unknown",
        }
    }
}

/// What is known of a queued request without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Fencing epoch of the node that wrote it; always 1 on the embedded store.
    pub epoch: u64,
    /// Where it stands.
    pub state: State,
    /// The higher one goes first.
    pub priority: u8,
    /// Whether it may be sent again when it got no answer.
    pub is_repeatable: bool,
    /// How often it was sent.
    pub attempts: u8,
    /// When it was queued, in milliseconds since 1970.
    pub queued_ms: u64,
    /// When it ends if it is not on its way by then, in milliseconds since 1970.
    pub expires_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
}

/// What is to be queued.
#[derive(Clone, Debug)]
pub struct Queued {
    /// What is asked.
    pub operation: Operation,
    /// The higher one goes first.
    pub priority: u8,
    /// For how long it may wait.
    pub expires: Duration,
    /// Who asks, as in the audit log.
    pub actor: Arc<str>,
}

/// How much is queued and kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Requests that may wait for one device.
    pub queued_per_device: usize,
    /// Requests that may wait for all devices.
    pub queued: usize,
    /// Ended requests that are kept of one device.
    pub kept_per_device: usize,
    /// Ended requests that are kept of all devices.
    pub kept: usize,
    /// For how long an ended request is kept.
    pub kept_for: Duration,
    /// How often a request is sent, 1 or more.
    pub attempts: u8,
    /// Requests that may be on their way at once.
    pub at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued_per_device: 64,
            queued: 100_000,
            kept_per_device: 64,
            kept: 100_000,
            kept_for: Duration::from_secs(7 * 86_400),
            attempts: 5,
            at_once: 1024,
        }
    }
}

/// The fencing epoch of the only node.
pub(crate) const EPOCH: u64 = 1;

/// Bytes that what is asked may take in the store, and what is answered.
pub const LONGEST: usize = 65_536;

/// Why a request was not queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotQueued {
    /// As many wait as may.
    Full(Full),
    /// It takes so many bytes, more than [`LONGEST`].
    TooLong(usize),
    /// This operation is not queued.
    Unfit,
    /// The server is stopping.
    Stopped,
}

impl core::fmt::Display for NotQueued {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full(Full::Device(most)) => write!(
                f,
                "{most} requests wait for this device already: cancel some, or wait until it was heard"
            ),
            Self::Full(Full::Server(most)) => {
                write!(f, "{most} requests wait for sleeping devices already: try again later")
            }
            Self::TooLong(length) => {
                write!(f, "the request takes {length} bytes, and a queued one takes at most {LONGEST}")
            }
            Self::Unfit => f.write_str("this operation names what the next run of the server does not know"),
            Self::Stopped => f.write_str("the server is stopping"),
        }
    }
}

impl core::error::Error for NotQueued {}

/// The durable queue of a running server. Clones share it.
#[derive(Clone)]
pub struct Queue {
    calls: mpsc::Sender<Call>,
    store: Arc<dyn Store>,
}

/// Calls that may wait for the queue.
const CALLS: usize = 1024;

impl Queue {
    /// Goes on with what the store has: what waited waits, what was on its way is sent again or [`State::Unknown`]. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn start(server: Server, store: Arc<dyn Store>, limits: Limits) -> Result<Self, StoreError> {
        let (last, heads) = store.requests()?;
        let mut machine = Machine::new(limits, last);
        machine.restore(crate::api::now_ms(), heads, |endpoint, id| {
            let body = store.request(endpoint, id).ok().flatten().and_then(|kept| Body::parse(&kept.body))?;
            body.audit(id, "unknown: the server ended before an answer came")
        });
        // Nobody reads of a request of the last run that it is on its way.
        let changes = machine.take_changes();
        if !changes.is_empty() {
            store.put_requests(crate::api::now_ms(), &changes)?;
        }
        let (calls, called) = mpsc::channel(CALLS);
        // What the devices say from now on is heard.
        let events = server.events();
        tokio::spawn(Run::new(machine, server, Arc::clone(&store)).run(called, events));
        Ok(Self { calls, store })
    }

    /// Queues a request, and answers its id once it is on disk.
    ///
    /// # Errors
    /// When as many wait as may, or it is too long.
    pub async fn add(&self, endpoint: &str, queued: Queued) -> Result<u64, NotQueued> {
        let is_repeatable = body::is_repeatable(&queued.operation);
        let body = Body::new(&queued.operation, &queued.actor).ok_or(NotQueued::Unfit)?;
        let bytes = body.emit();
        if bytes.len() > LONGEST {
            return Err(NotQueued::TooLong(bytes.len()));
        }
        let endpoint = endpoint.into();
        let added = |answer| Call::Add { endpoint, queued, is_repeatable, body: bytes, answer };
        self.ask(added).await.unwrap_or(Err(NotQueued::Stopped))
    }

    /// Whether requests wait for a device, or are on their way to it.
    pub async fn is_busy(&self, endpoint: &str) -> bool {
        let endpoint = endpoint.into();
        self.ask(|answer| Call::IsBusy { endpoint, answer }).await.unwrap_or(false)
    }

    /// Takes a request out that is not on its way. One that left before and got no answer ends as [`State::Unknown`].
    ///
    /// # Errors
    /// When there is none, or it is on its way.
    pub async fn cancel(&self, endpoint: &str, id: u64, actor: Arc<str>) -> Result<(), NotCancelled> {
        let endpoint = endpoint.into();
        let cancelled = self.ask(|answer| Call::Cancel { endpoint, id, actor, answer }).await;
        cancelled.unwrap_or(Err(NotCancelled::Stopped))
    }

    /// The requests of a device, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn requests(&self, endpoint: &str) -> Result<Vec<QueuedRequest>, StoreError> {
        let (store, endpoint) = (Arc::clone(&self.store), endpoint.to_owned());
        run::blocking(move || store.requests_of(&endpoint)).await
    }

    /// One request of a device.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn request(&self, endpoint: &str, id: u64) -> Result<Option<QueuedRequest>, StoreError> {
        let (store, endpoint) = (Arc::clone(&self.store), endpoint.to_owned());
        run::blocking(move || store.request(&endpoint, id)).await
    }

    /// Writes what is still to be written, after [`Server::stop`], which ended what was on its way.
    pub async fn stop(&self) {
        self.ask(|answer| Call::Stop { answer }).await;
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (answer, outcome) = oneshot::channel();
        self.calls.send(call(answer)).await.ok()?;
        outcome.await.ok()
    }
}

impl core::fmt::Debug for Queue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// What the queue hears of a device by its events.
fn heard(event: &Event) -> Option<&Arc<str>> {
    match event {
        Event::Awake { endpoint } | Event::Registered { endpoint } | Event::Updated { endpoint } => {
            Some(endpoint)
        }
        _ => None,
    }
}
