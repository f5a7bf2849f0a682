//! Runs the campaigns: what came in meanwhile is written in one transaction, then carried out.
//!
//! Invariant: nothing is answered, begun or told before it is on disk. While the store fails, all of it waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use super::act::{self, Stands};
use super::course::Effect;
use super::machine::{Act, Machine, New, Refused};
use super::record::{Action, Campaign, CampaignDevice, DeviceState, Outcome};
use crate::Event;
use crate::api::now_ms;
use crate::credentials::{CampaignRound, CredentialEvent, Credentials};
use crate::queue::Queue;
use crate::server::Server;
use crate::store::{Store, StoreError, failed};

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Call {
    Make { new: Box<New>, answer: oneshot::Sender<Result<u64, Refused>> },
    Act { id: u64, act: Act, actor: Arc<str>, answer: oneshot::Sender<Result<(), Refused>> },
    Retry { id: u64, actor: Arc<str>, answer: oneshot::Sender<Result<(), Refused>> },
    Stop { answer: oneshot::Sender<()> },
}

/// What comes back from what was begun.
#[derive(Debug)]
enum Came {
    Stands { endpoint: Arc<str>, watched: Watched, stands: Stands },
    Reviewed { id: u64, not_well: Vec<(u32, Outcome)> },
}

/// What is told to a caller once it is on disk.
#[derive(Debug)]
enum Promise {
    Made(oneshot::Sender<Result<u64, Refused>>, u64),
    Done(oneshot::Sender<Result<(), Refused>>),
}

/// A device that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    by: CampaignRound,
    number: u32,
    /// Its request in the queue; none of a rotation.
    request: Option<u64>,
}

/// Devices that are begun with at once: each waits for the store.
const AT_ONCE: usize = 32;
/// What may wait for one transaction.
const BATCH: usize = 4096;
/// How long after a failure the store is tried again, and after missed events all devices are looked at.
const AGAIN: Duration = Duration::from_secs(1);
/// When to look again at the latest: the clock of the wall may be set.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Run {
    machine: Machine,
    hands: Hands,
    /// By endpoint.
    watched: HashMap<Arc<str>, Vec<Watched>>,
    promises: Vec<Promise>,
    came: mpsc::UnboundedSender<Came>,
    coming: mpsc::UnboundedReceiver<Came>,
    permits: Arc<Semaphore>,
    stopped: Option<oneshot::Sender<()>>,
}

/// What devices are reached by.
#[derive(Clone)]
struct Hands {
    server: Server,
    credentials: Arc<Credentials>,
    queue: Queue,
    store: Arc<dyn Store>,
}

impl Run {
    pub(super) fn new(
        machine: Machine,
        server: Server,
        credentials: Arc<Credentials>,
        queue: Queue,
        store: Arc<dyn Store>,
    ) -> Self {
        let (came, coming) = mpsc::unbounded_channel();
        Self {
            machine,
            hands: Hands { server, credentials, queue, store },
            watched: HashMap::new(),
            promises: Vec::new(),
            came,
            coming,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            stopped: None,
        }
    }

    /// Ends when no handle is left, or when it was stopped and everything is written.
    pub(super) async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut events: broadcast::Receiver<Event>,
        mut steps: broadcast::Receiver<CredentialEvent>,
    ) {
        use broadcast::error::RecvError::{Closed, Lagged};
        let mut missed: Option<tokio::time::Instant> = None;
        loop {
            self.settle().await;
            if let Some(stopped) = self.stopped {
                // Whoever asked may be gone.
                let _ = stopped.send(());
                return;
            }
            let due =
                self.machine.next_deadline().map(|at| Duration::from_millis(at.saturating_sub(now_ms())));
            let lagged = || tokio::time::Instant::now().checked_add(AGAIN);
            tokio::select! {
                Some(came) = self.coming.recv() => self.take(came),
                call = calls.recv() => match call {
                    Some(call) => self.call(call).await,
                    None => return,
                },
                step = steps.recv() => match step {
                    Ok(step) => self.heard(&step.endpoint),
                    Err(Lagged(_)) => missed = missed.or_else(lagged),
                    Err(Closed) => return,
                },
                event = events.recv() => match event {
                    Ok(Event::Request { endpoint, state, .. }) if state.is_end() => self.heard(&endpoint),
                    Ok(_) => {}
                    Err(Lagged(_)) => missed = missed.or_else(lagged),
                    Err(Closed) => return,
                },
                () = async { tokio::time::sleep_until(missed.expect("asked only after some were missed")).await }, if missed.is_some() => {
                    missed = None;
                    let all: Vec<Arc<str>> = self.watched.keys().cloned().collect();
                    all.iter().for_each(|endpoint| self.heard(endpoint));
                }
                () = tokio::time::sleep(due.unwrap_or(IDLE).min(IDLE)) => self.machine.tick(now_ms()),
            }
            for _ in 0..BATCH {
                let Ok(came) = self.coming.try_recv() else { break };
                self.take(came);
            }
        }
    }

    /// Writes what has changed, then does what follows from it.
    async fn settle(&mut self) {
        let (changes, effects) = (self.machine.take_changes(), self.machine.take_effects());
        if !changes.is_empty() {
            let changes = Arc::new(changes);
            retried(&self.hands.store, "campaigns cannot be written: they wait", move |store| {
                store.campaigns().put(now_ms(), &changes)
            })
            .await;
        }
        self.promises.drain(..).for_each(Promise::keep);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    /// Everything before it is on disk.
    async fn call(&mut self, call: Call) {
        let now = now_ms();
        match call {
            Call::Make { new, answer } => match self.machine.add(now, *new) {
                Ok(id) => self.promises.push(Promise::Made(answer, id)),
                Err(refused) => drop(answer.send(Err(refused))),
            },
            Call::Act { id, act, actor, answer } => {
                self.promise(answer, |machine| machine.act(now, id, act, &actor));
            }
            Call::Retry { id, actor, answer } => {
                let read = move |store: &dyn Store| {
                    let Some(campaign) = store.campaigns().one(id)? else { return Ok(None) };
                    let numbers = failed(store.campaigns(), id, &campaign)?;
                    Ok(Some((campaign, numbers)))
                };
                let store = Arc::clone(&self.hands.store);
                match blocking(move || read(&*store)).await {
                    Ok(Some((campaign, numbers))) => {
                        self.promise(answer, |machine| machine.retry(now, id, campaign, numbers, &actor));
                    }
                    Ok(None) => drop(answer.send(Err(Refused::Unknown(id)))),
                    Err(error) => {
                        tracing::error!(%error, id, "a campaign cannot be read");
                        drop(answer.send(Err(Refused::Stopped)));
                    }
                }
            }
            Call::Stop { answer } => self.stopped = Some(answer),
        }
    }

    fn promise(
        &mut self,
        answer: oneshot::Sender<Result<(), Refused>>,
        act: impl FnOnce(&mut Machine) -> Result<(), Refused>,
    ) {
        match act(&mut self.machine) {
            Ok(()) => self.promises.push(Promise::Done(answer)),
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }

    fn take(&mut self, came: Came) {
        match came {
            Came::Stands { endpoint, watched, stands: Stands::UnderWay(request) } => {
                let watched = Watched { request, ..watched };
                let of = self.watched.entry(Arc::clone(&endpoint)).or_default();
                if of.contains(&watched) {
                    return;
                }
                of.push(watched);
                if let Some(request) = request {
                    self.machine.asked(watched.by.id, watched.number, request);
                }
                // It may have come to its end before it was watched.
                self.heard(&endpoint);
            }
            Came::Stands { endpoint, watched, stands: Stands::Ended(state, why) } => {
                if let Some(of) = self.watched.get_mut(&endpoint) {
                    of.retain(|other| other.by != watched.by);
                    if of.is_empty() {
                        self.watched.remove(&endpoint);
                    }
                }
                self.machine.ended(now_ms(), watched.by.id, watched.number, (state, why));
            }
            Came::Reviewed { id, not_well } => self.machine.reviewed(now_ms(), id, not_well),
        }
    }

    /// Something happened to a device.
    fn heard(&mut self, endpoint: &Arc<str>) {
        let Some(all) = self.watched.get(endpoint) else { return };
        for watched in all.clone() {
            let endpoint = Arc::clone(endpoint);
            let Some(request) = watched.request else {
                let device = self.hands.credentials.device(&endpoint);
                let stands = device.and_then(|device| act::rotation(&device, watched.by));
                if let Some(stands @ Stands::Ended(..)) = stands {
                    self.take(Came::Stands { endpoint, watched, stands });
                }
                continue;
            };
            let (queue, came) = (self.hands.queue.clone(), self.came.clone());
            tokio::spawn(async move {
                match act::request_of(&queue, &endpoint, request).await {
                    // Nobody waits for it once the server has stopped.
                    Ok(stands) => drop(came.send(Came::Stands { endpoint, watched, stands })),
                    Err(error) => tracing::error!(%error, %endpoint, request, "a request cannot be read"),
                }
            });
        }
    }

    fn carry_out(&self, effect: Effect) {
        let (hands, came) = (self.hands.clone(), self.came.clone());
        match effect {
            Effect::Start { id, number, round, request } => {
                let Some(campaign) = self.machine.campaign(id).cloned() else { return };
                let watched = Watched { by: CampaignRound { id, round }, number, request };
                let permits = Arc::clone(&self.permits);
                tokio::spawn(async move {
                    // It is never closed.
                    let _permit = permits.acquire().await;
                    let (endpoint, stands) = hands.begin(watched, &campaign).await;
                    let _ = came.send(Came::Stands { endpoint, watched, stands });
                });
            }
            Effect::Review { id, round, numbers } => {
                let is_rotation = self
                    .machine
                    .campaign(id)
                    .is_some_and(|campaign| matches!(campaign.action, Action::Rotate(_)));
                let by = CampaignRound { id, round };
                tokio::spawn(async move {
                    // What was asked and answered stays so.
                    let not_well = if is_rotation { hands.review(by, numbers).await } else { Vec::new() };
                    let _ = came.send(Came::Reviewed { id, not_well });
                });
            }
            Effect::Tell(id, campaign) => {
                self.hands.server.tell(Event::Campaign { id, campaign: Arc::new(*campaign) });
            }
        }
    }
}

impl Hands {
    /// Begins with a device, or finds what was begun.
    async fn begin(
        &self,
        Watched { by, number, request }: Watched,
        campaign: &Campaign,
    ) -> (Arc<str>, Stands) {
        let found = retried(&self.store, CANNOT, move |store| device(store, by.id, number)).await;
        let Some(CampaignDevice { endpoint, .. }) = found else {
            let why = "it is not found in the list of the campaign".to_owned();
            return ("".into(), Stands::Ended(DeviceState::Failed, Some(why)));
        };
        loop {
            let begun = match campaign.action {
                Action::Rotate(_) => self.rotate(&endpoint, by, campaign).await,
                Action::Write { .. } | Action::Execute { .. } => {
                    self.ask(&endpoint, by, campaign, request).await
                }
            };
            match begun {
                Ok(stands) => return (endpoint, stands),
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, %endpoint, "a device of a campaign fails");
                    let why = "what is stored of it cannot be read".to_owned();
                    return (endpoint, Stands::Ended(DeviceState::Failed, Some(why)));
                }
                Err(error) => tracing::error!(%error, %endpoint, "{CANNOT}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn rotate(
        &self,
        endpoint: &Arc<str>,
        by: CampaignRound,
        campaign: &Campaign,
    ) -> Result<Stands, StoreError> {
        let (credentials, endpoint) = (Arc::clone(&self.credentials), Arc::clone(endpoint));
        let campaign = campaign.clone();
        let begin = move || act::rotate(&credentials, now_ms(), &endpoint, by, &campaign);
        let (stands, commands) = blocking(begin).await?;
        self.server.carry_out(commands).await;
        Ok(stands)
    }

    async fn ask(
        &self,
        endpoint: &Arc<str>,
        by: CampaignRound,
        campaign: &Campaign,
        request: Option<u64>,
    ) -> Result<Stands, StoreError> {
        let store = Arc::clone(&self.store);
        let content = blocking(move || store.campaigns().content(by.id)).await?.unwrap_or_default();
        act::ask(&self.queue, &self.credentials, endpoint, by, (campaign, &content, request)).await
    }

    /// The devices that were done, and are not well any more, with what is to be told of them.
    async fn review(&self, by: CampaignRound, numbers: Vec<u32>) -> Vec<(u32, Outcome)> {
        let credentials = Arc::clone(&self.credentials);
        retried(&self.store, CANNOT, move |store| {
            let mut not_well = Vec::new();
            for &number in &numbers {
                let Some(CampaignDevice { endpoint, outcomes }) = device(store, by.id, number)? else {
                    continue;
                };
                let is_done = |outcome: &&Outcome| outcome.state == DeviceState::Succeeded;
                let Some(outcome) = outcomes.last().filter(is_done) else { continue };
                let stands = credentials.device(&endpoint).and_then(|device| act::rotation(&device, by));
                let (state, reason) = match stands {
                    Some(Stands::Ended(DeviceState::Succeeded, _)) | None => continue,
                    Some(Stands::Ended(state, reason)) => (state, reason),
                    Some(Stands::UnderWay(_)) => {
                        let why = "it came back with the former credential after the proof";
                        (DeviceState::Failed, Some(why.to_owned()))
                    }
                };
                not_well.push((number, Outcome { state, reason, ..outcome.clone() }));
            }
            Ok(not_well)
        })
        .await
    }
}

impl Promise {
    /// A caller that went away needs no answer.
    fn keep(self) {
        match self {
            Self::Made(answer, id) => drop(answer.send(Ok(id))),
            Self::Done(answer) => drop(answer.send(Ok(()))),
        }
    }
}

/// What the log says while a device waits for the store.
const CANNOT: &str = "a device of a campaign waits: the store fails";

fn device(store: &dyn Store, id: u64, number: u32) -> Result<Option<CampaignDevice>, StoreError> {
    let found = match store.campaigns().devices(id, number, 1, &|_| true) {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, "a device of a campaign is not found");
            return Ok(None);
        }
        found => found?.pop(),
    };
    Ok(found.filter(|(found, _)| *found == number).map(|(_, device)| device))
}

/// Uses the store, however long it fails.
async fn retried<T: Send + 'static>(
    store: &Arc<dyn Store>,
    what: &'static str,
    act: impl Fn(&dyn Store) -> Result<T, StoreError> + Send + Sync + 'static,
) -> T {
    let act = Arc::new(act);
    loop {
        let (store, act) = (Arc::clone(store), Arc::clone(&act));
        match blocking(move || act(&*store)).await {
            Ok(done) => return done,
            Err(error) => tracing::error!(%error, "{what}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
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
