//! Runs the queue: what came in meanwhile is written in one transaction, then carried out, while the next one gathers.
//!
//! Invariant: nothing is answered, sent or told before it is on disk. While the store fails, all of it waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use zeroize::Zeroizing;

use super::body::{self, Body};
use super::machine::{Effect, Machine, NotCancelled, Report};
use super::{EPOCH, Head, NotQueued, Queued, State, heard};
use crate::api::now_ms;
use crate::operation::RequestError;
use crate::server::{DEFAULT_TIMEOUT, Server};
use crate::store::{RequestChange, Store, StoreError};
use crate::{Event, Operation};

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Call {
    Add {
        endpoint: Arc<str>,
        queued: Queued,
        is_repeatable: bool,
        body: Zeroizing<Vec<u8>>,
        answer: oneshot::Sender<Result<u64, NotQueued>>,
    },
    Cancel {
        endpoint: Arc<str>,
        id: u64,
        actor: Arc<str>,
        answer: oneshot::Sender<Result<(), NotCancelled>>,
    },
    IsBusy {
        endpoint: Arc<str>,
        answer: oneshot::Sender<bool>,
    },
    Stop {
        answer: oneshot::Sender<()>,
    },
}

/// What comes back from what was begun.
#[derive(Debug)]
enum Came {
    Stands { endpoint: Arc<str>, is_awake: bool },
    Report { endpoint: Arc<str>, id: u64, report: Report },
}

/// What is told to a caller once it is on disk.
#[derive(Debug)]
enum Promise {
    Added(oneshot::Sender<Result<u64, NotQueued>>, u64),
    Cancelled(oneshot::Sender<Result<(), NotCancelled>>),
}

/// Changes that may wait for one transaction before callers have to wait.
const BATCH: usize = 4096;
/// How long after a failure the store is tried again, and after missed events all devices are asked for.
const AGAIN: Duration = Duration::from_secs(1);
/// When to look again at the latest: the clock of the wall may be set.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Run {
    machine: Machine,
    server: Server,
    store: Arc<dyn Store>,
    promises: Vec<Promise>,
    came: mpsc::UnboundedSender<Came>,
    coming: mpsc::UnboundedReceiver<Came>,
    asks: mpsc::UnboundedSender<Arc<str>>,
    stopped: Option<oneshot::Sender<()>>,
}

/// A transaction under way, and what follows from it.
type Writing = JoinHandle<(Vec<Promise>, Vec<Effect>)>;

impl Run {
    pub(super) fn new(machine: Machine, server: Server, store: Arc<dyn Store>) -> Self {
        let (came, coming) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(ask(server.clone(), asked, came.clone()));
        Self { machine, server, store, promises: Vec::new(), came, coming, asks, stopped: None }
    }

    /// Ends when no handle is left, or when it was stopped and everything is written.
    pub(super) async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut events: broadcast::Receiver<Event>,
    ) {
        let mut writing: Option<Writing> = None;
        let mut missed: Option<tokio::time::Instant> = None;
        loop {
            if writing.is_none() {
                writing = self.write();
            }
            if writing.is_none() && self.machine.on_their_way() == 0 && self.stopped.is_some() {
                break;
            }
            let due =
                self.machine.next_deadline().map(|at| Duration::from_millis(at.saturating_sub(now_ms())));
            tokio::select! {
                Some(came) = self.coming.recv() => self.take(came),
                done = async { writing.as_mut().expect("asked only while one is under way").await }, if writing.is_some() => {
                    writing = None;
                    match done.map_err(JoinError::try_into_panic) {
                        Ok((promises, effects)) => {
                            promises.into_iter().for_each(Promise::keep);
                            self.carry_out(effects);
                        }
                        // What is not known to be written is not carried out.
                        Err(Ok(panic)) => std::panic::resume_unwind(panic),
                        Err(Err(_)) => return,
                    }
                }
                event = events.recv(), if self.stopped.is_none() => match event {
                    Ok(event) => {
                        if let Some(endpoint) = heard(&event) {
                            self.machine.heard(endpoint);
                        }
                    }
                    // Any device may have been heard. Under a load like that not all of them are asked for at each turn.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        missed = missed.or_else(|| tokio::time::Instant::now().checked_add(AGAIN));
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = async { tokio::time::sleep_until(missed.expect("asked only after some were missed")).await }, if missed.is_some() => {
                    missed = None;
                    self.machine.heard_all();
                }
                call = calls.recv(), if self.machine.changes() < BATCH => match call {
                    Some(call) => self.call(call),
                    None => return,
                },
                () = tokio::time::sleep(due.unwrap_or(IDLE).min(IDLE)) => self.machine.tick(now_ms()),
            }
        }
        if let Some(stopped) = self.stopped {
            // Whoever asked may be gone.
            let _ = stopped.send(());
        }
    }

    fn call(&mut self, call: Call) {
        let now = now_ms();
        match call {
            Call::Add { endpoint, queued, is_repeatable, body, answer } => {
                let waits = u64::try_from(queued.expires.as_millis()).unwrap_or(u64::MAX);
                let head = Head {
                    epoch: EPOCH,
                    state: State::Queued,
                    priority: queued.priority,
                    is_repeatable,
                    attempts: 0,
                    queued_ms: now,
                    expires_ms: now.saturating_add(waits),
                    ended_ms: None,
                };
                let audit = Body::new(&queued.operation, &queued.actor);
                let audit = |id| audit.and_then(|body| body.audit(id, "queued"));
                match self.machine.add(&endpoint, head, body, audit) {
                    Ok(id) => self.promises.push(Promise::Added(answer, id)),
                    Err(full) => drop(answer.send(Err(NotQueued::Full(full)))),
                }
            }
            Call::Cancel { endpoint, id, actor, answer } => {
                match self.machine.cancel(now, &endpoint, id, actor) {
                    Ok(()) => self.promises.push(Promise::Cancelled(answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Call::IsBusy { endpoint, answer } => drop(answer.send(self.machine.is_busy(&endpoint))),
            Call::Stop { answer } => self.stopped = Some(answer),
        }
    }

    fn take(&mut self, came: Came) {
        match came {
            Came::Stands { endpoint, is_awake } => {
                self.machine.stands(now_ms(), &endpoint, is_awake && self.stopped.is_none());
            }
            Came::Report { endpoint, id, report } => self.machine.report(now_ms(), &endpoint, id, report),
        }
    }

    /// Begins to write what has changed; what needs no writing is carried out at once.
    fn write(&mut self) -> Option<Writing> {
        let (changes, effects) = (self.machine.take_changes(), self.machine.take_effects());
        if changes.is_empty() {
            self.carry_out(effects);
            return None;
        }
        let (store, promises) = (Arc::clone(&self.store), core::mem::take(&mut self.promises));
        Some(tokio::spawn(async move {
            put(store, changes).await;
            (promises, effects)
        }))
    }

    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                // It ends with this task.
                Effect::Ask(endpoint) => drop(self.asks.send(endpoint)),
                Effect::Send(endpoint, id) => {
                    let (server, store) = (self.server.clone(), Arc::clone(&self.store));
                    let came = self.came.clone();
                    tokio::spawn(async move {
                        let report = deliver(&server, store, &endpoint, id).await;
                        // Nobody waits for it once the server has stopped.
                        let _ = came.send(Came::Report { endpoint, id, report });
                    });
                }
                Effect::Tell(endpoint, id, state) => self.server.tell(Event::Request { endpoint, id, state }),
            }
        }
    }
}

impl Promise {
    /// A caller that went away needs no answer.
    fn keep(self) {
        match self {
            Self::Added(answer, id) => drop(answer.send(Ok(id))),
            Self::Cancelled(answer) => drop(answer.send(Ok(()))),
        }
    }
}

/// Writes changes, however long the store fails.
async fn put(store: Arc<dyn Store>, changes: Vec<RequestChange>) {
    let changes = Arc::new(changes);
    loop {
        let (store, changes) = (Arc::clone(&store), Arc::clone(&changes));
        match blocking(move || store.put_requests(now_ms(), &changes)).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "queued requests cannot be written: they wait"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Answers for one device after the other whether it is awake.
async fn ask(
    server: Server,
    mut asked: mpsc::UnboundedReceiver<Arc<str>>,
    came: mpsc::UnboundedSender<Came>,
) {
    while let Some(endpoint) = asked.recv().await {
        let device = server.device(&endpoint).await;
        let is_awake = device.is_some_and(|device| device.is_awake(now_ms()));
        if came.send(Came::Stands { endpoint, is_awake }).is_err() {
            return;
        }
    }
}

/// Why a request fails of which not everything can be read.
const DAMAGED: &str = "what is stored of it does not open";

/// Sends one request, and waits for what comes of it.
async fn deliver(server: &Server, store: Arc<dyn Store>, endpoint: &Arc<str>, id: u64) -> Report {
    let (name, read) = (Arc::clone(endpoint), store);
    let request = match blocking(move || read.request(&name, id)).await {
        Ok(Some(request)) if request.is_damaged => {
            tracing::error!(%endpoint, id, "a queued request does not open: it fails");
            return Report::Unsendable { why: DAMAGED };
        }
        Ok(Some(request)) => request,
        Ok(None) => return Report::Unsendable { why: "it is not in the store any more" },
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, %endpoint, id, "a queued request cannot be read: it fails");
            return Report::Unsendable { why: DAMAGED };
        }
        Err(error) => {
            tracing::error!(%error, %endpoint, id, "a queued request cannot be read: it waits");
            return Report::NotSent;
        }
    };
    let asked: Option<(Body, Operation)> =
        Body::parse(&request.body).and_then(|body| body.operation().map(|operation| (body, operation)));
    let Some((body, operation)) = asked else {
        return Report::Unsendable { why: "this version of the server cannot read it" };
    };
    let outcome = server.request(endpoint, operation, DEFAULT_TIMEOUT).await;
    let report = match &outcome {
        Err(RequestError::Stopped) => return Report::Stopped,
        Err(
            RequestError::NotSent
            | RequestError::UnknownDevice
            | RequestError::Unreachable
            | RequestError::QueueFull,
        ) => return Report::NotSent,
        Err(RequestError::TimedOut | RequestError::Interrupted) => {
            return Report::Unanswered { audit: body.audit(id, "unknown: no answer came") };
        }
        outcome => body::outcome(&body, request.head.attempts, outcome),
    };
    let (is_done, told) = report;
    let state = if is_done { State::Done } else { State::Failed };
    let words = told.get("reason").and_then(serde_json::Value::as_str).unwrap_or("done");
    Report::Answered { state, audit: body.audit(id, words), outcome: body::emit_outcome(told) }
}

/// Uses the store without holding up the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
