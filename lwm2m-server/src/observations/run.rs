//! Runs the lasting observations: hears of devices, asks what is missing of them, and writes what they refused.
//!
//! Invariant: that a device refused is on disk before it is told, as far as the store can be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::intent::{Intent, IntentChange, Intents};
use super::machine::{Effort, Machine};
use super::{Limits, blocking};
use crate::Event;
use crate::api::now_ms;
use crate::operation::{Answer, Content, ObservationId, Operation, RequestError};
use crate::server::{DEFAULT_TIMEOUT, Server};
use crate::store::Store;

/// What a handle asks.
pub(super) enum Call {
    /// Look at what waits of this device.
    Look(Arc<str>),
    Stop(oneshot::Sender<()>),
}

/// What comes back from what was begun.
enum Came {
    Looked(Arc<str>, Looked),
    /// `None`: the store could not be read.
    Swept(Option<Vec<Arc<str>>>),
}

/// What was found out about a device.
#[derive(Default)]
struct Looked {
    /// It has not answered, or sleeps.
    is_waiting: bool,
    changes: Vec<(ObservationId, IntentChange)>,
    /// What it refused: told once it is written.
    told: Vec<Event>,
}

/// What is so once the changes are written.
#[derive(Default)]
struct Behind {
    /// Devices that were looked at, and whether they wait: looked at again before, they would be asked for the same again.
    looked: Vec<(Arc<str>, bool)>,
    told: Vec<Event>,
}

/// Devices that are read from the store at a time.
const SWEPT: usize = 256;
/// How often those that have not answered are asked again, whether they were heard or not.
const AGAIN: Duration = Duration::from_secs(300);
/// How long after missed events all devices are looked at.
const MISSED: Duration = Duration::from_secs(1);

pub(super) struct Run {
    machine: Machine,
    server: Server,
    store: Arc<dyn Store>,
    /// Whether there is any lasting observation.
    is_used: Arc<AtomicBool>,
    came: mpsc::UnboundedSender<Came>,
    coming: mpsc::UnboundedReceiver<Came>,
    changes: Vec<(Arc<str>, ObservationId, IntentChange)>,
    behind: Behind,
    stopped: Option<oneshot::Sender<()>>,
}

impl Run {
    pub(super) fn new(
        limits: Limits,
        server: Server,
        store: Arc<dyn Store>,
        is_used: Arc<AtomicBool>,
    ) -> Self {
        let (came, coming) = mpsc::unbounded_channel();
        let mut machine = Machine::new(limits.at_once, limits.remembered);
        if is_used.load(Ordering::Relaxed) {
            // Devices of the last run may be registered already, with their observations or without.
            machine.want_all(Effort::Waiting);
        }
        let (changes, behind) = (Vec::new(), Behind::default());
        Self { machine, server, store, is_used, came, coming, changes, behind, stopped: None }
    }

    /// Ends when no handle is left, or when it was stopped and nothing is under way.
    pub(super) async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut events: broadcast::Receiver<Event>,
    ) {
        let mut writing: Option<JoinHandle<Behind>> = None;
        let mut missed: Option<tokio::time::Instant> = None;
        let mut again = tokio::time::interval(AGAIN);
        loop {
            if writing.is_none() {
                writing = self.write();
            }
            self.begin();
            if self.stopped.is_some() && self.machine.is_idle() && writing.is_none() {
                break;
            }
            tokio::select! {
                Some(came) = self.coming.recv() => match came {
                    Came::Looked(endpoint, looked) => self.looked(&endpoint, looked),
                    Came::Swept(Some(devices)) => self.machine.swept(&devices),
                    Came::Swept(None) => self.machine.unread(),
                },
                done = async { writing.as_mut().expect("asked only while one is under way").await }, if writing.is_some() => {
                    writing = None;
                    match done {
                        Ok(behind) => self.written(behind),
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        Err(_) => return,
                    }
                }
                event = events.recv() => match event {
                    Ok(event) => self.hear(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        missed = missed.or_else(|| tokio::time::Instant::now().checked_add(MISSED));
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = async { tokio::time::sleep_until(missed.expect("asked only after some were missed")).await }, if missed.is_some() => {
                    missed = None;
                    if self.is_used.load(Ordering::Relaxed) {
                        self.machine.want_all(Effort::All);
                    }
                }
                call = calls.recv() => match call {
                    Some(Call::Look(endpoint)) => self.machine.want(&endpoint, Effort::Waiting),
                    Some(Call::Stop(answer)) => self.stopped = Some(answer),
                    None => return,
                },
                _ = again.tick() => self.machine.tick(),
            }
        }
        if let Some(stopped) = self.stopped {
            // Whoever asked may be gone.
            let _ = stopped.send(());
        }
    }

    /// Looks at as many devices as may be looked at.
    fn begin(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        while let Some((endpoint, effort)) = self.machine.next() {
            let (server, store, came) = (self.server.clone(), Arc::clone(&self.store), self.came.clone());
            tokio::spawn(async move {
                let looked = look(&server, store, &endpoint, effort).await;
                // Nobody waits for it once the server has stopped.
                let _ = came.send(Came::Looked(endpoint, looked));
            });
        }
        if let Some(after) = self.machine.sweep() {
            let (server, store, came) = (self.server.clone(), Arc::clone(&self.store), self.came.clone());
            tokio::spawn(async move {
                let _ = came.send(Came::Swept(sweep(&server, store, after).await));
            });
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            // LwM2M Core 1.2.1 §6.2.1: whatever stood before does not any more.
            Event::Registered { endpoint } if self.is_used.load(Ordering::Relaxed) => {
                self.machine.want(&endpoint, Effort::All);
            }
            Event::Updated { endpoint } | Event::Awake { endpoint } => self.machine.heard(&endpoint),
            Event::Deregistered { endpoint } | Event::Expired { endpoint } => self.machine.left(&endpoint),
            // Not its device has ended it.
            Event::ObservationEnded { endpoint, observation, code: None, .. }
                if observation.is_lasting() && self.is_used.load(Ordering::Relaxed) =>
            {
                self.machine.want(&endpoint, Effort::All);
            }
            // Asked again at once it might be ended again at once, and so on.
            Event::ObservationEnded { endpoint, observation, reason, code: Some(code) }
                if observation.is_lasting() =>
            {
                if is_passing(code) {
                    self.machine.wait(&endpoint);
                } else {
                    self.changes.push((endpoint, observation, IntentChange::Ended(reason)));
                }
            }
            _ => {}
        }
    }

    fn looked(&mut self, endpoint: &Arc<str>, Looked { is_waiting, changes, told }: Looked) {
        self.changes.extend(changes.into_iter().map(|(id, change)| (Arc::clone(endpoint), id, change)));
        self.behind.told.extend(told);
        self.behind.looked.push((Arc::clone(endpoint), is_waiting));
    }

    /// Begins to write what has changed. Where nothing has, all is as if it were written.
    fn write(&mut self) -> Option<JoinHandle<Behind>> {
        let (changes, behind) = (core::mem::take(&mut self.changes), core::mem::take(&mut self.behind));
        if changes.is_empty() {
            self.written(behind);
            return None;
        }
        let store = Arc::clone(&self.store);
        Some(tokio::spawn(async move {
            // Lost, it is found out again when the device registers.
            if let Err(error) = blocking(move || store.change_observations(&changes)).await {
                tracing::error!(%error, "what devices said to observations cannot be written");
            }
            behind
        }))
    }

    fn written(&mut self, Behind { looked, told }: Behind) {
        looked.into_iter().for_each(|(endpoint, is_waiting)| self.machine.done(&endpoint, is_waiting));
        told.into_iter().for_each(|event| self.server.tell(event));
    }
}

/// The devices behind one in the store that are registered, with the last one that was read at the end.
async fn sweep(server: &Server, store: Arc<dyn Store>, after: Option<Arc<str>>) -> Option<Vec<Arc<str>>> {
    let read = blocking(move || store.observed(after.as_deref(), SWEPT)).await;
    let log = |error: &_| {
        tracing::error!(%error, "what is to be observed cannot be read, and is read again in {} s", AGAIN.as_secs());
    };
    let mut devices = read.inspect_err(log).ok()?;
    let last = devices.pop();
    devices.retain(|endpoint| server.is_known(endpoint));
    Some(devices.into_iter().chain(last).collect())
}

/// Asks what is missing of a device, one after the other (NSTART 1).
async fn look(server: &Server, store: Arc<dyn Store>, endpoint: &Arc<str>, effort: Effort) -> Looked {
    let mut looked = Looked::default();
    let Some(intents) = read(&store, endpoint).await else {
        looked.is_waiting = true;
        return looked;
    };
    if intents.is_empty() {
        return looked;
    }
    let Some(device) = server.device(endpoint).await else {
        // It may be on its way between two threads.
        looked.is_waiting = server.is_known(endpoint);
        return looked;
    };
    let standing = server.observations(endpoint).await;
    let is_missing = |id: &ObservationId, intent: &Intent| {
        let is_meant = effort == Effort::All || intent.refused.is_none();
        is_meant && (intent.unset.is_some() || standing.iter().all(|(other, _)| other != id))
    };
    let missing = intents.into_iter().filter(|(id, intent)| is_missing(id, intent));
    for (index, (id, intent)) in missing.enumerate() {
        // Who has answered the first one listens.
        if index == 0 && !device.is_awake(now_ms()) {
            looked.is_waiting = true;
            break;
        }
        match establish(server, endpoint, id, &intent, DEFAULT_TIMEOUT).await {
            Ok(content) => {
                // At once: what the device notifies from now on is told without a detour, and is newer.
                server.tell(Event::ObservationStands { endpoint: Arc::clone(endpoint), observation: id });
                let (endpoint, path, report) =
                    (Arc::clone(endpoint), intent.path(), Arc::new(content.into()));
                server.tell(Event::Notification {
                    endpoint: Arc::clone(&endpoint),
                    observation: id,
                    path,
                    report,
                });
                match wanted(&store, &endpoint, id).await {
                    Some(None) => {
                        withdraw(server, &endpoint, id, DEFAULT_TIMEOUT).await;
                        // The same place may be wanted under another id by now, which this has just taken away from it.
                        looked.is_waiting = true;
                    }
                    Some(Some(version)) if version != intent.version => {
                        looked.is_waiting = true;
                        looked.changes.push((id, IntentChange::Stands(intent)));
                    }
                    _ if intent.refused.is_some() || intent.unset.is_some() => {
                        looked.changes.push((id, IntentChange::Stands(intent)));
                    }
                    _ => {}
                }
            }
            Err(RequestError::Stopped) => break,
            // It answers, and may have another answer to the next one.
            Err(RequestError::Refused(code, _)) if is_passing(code) => looked.is_waiting = true,
            Err(error) if is_refusal(&error) => {
                let reason = error.to_string();
                if intent.refused.as_ref() != Some(&reason) {
                    looked.changes.push((id, IntentChange::Refused(intent, reason.clone())));
                }
                let endpoint = Arc::clone(endpoint);
                looked.told.push(Event::ObservationRefused { endpoint, observation: id, reason });
            }
            // Who does not answer this does not answer the next one either.
            Err(error) => {
                tracing::debug!(%endpoint, id = id.0, %error, "an observation waits for its device");
                looked.is_waiting = true;
                break;
            }
        }
    }
    looked
}

async fn read(store: &Arc<dyn Store>, endpoint: &Arc<str>) -> Option<Intents> {
    let (store, name) = (Arc::clone(store), Arc::clone(endpoint));
    let read = blocking(move || store.observations_of(&name)).await;
    read.map_err(|error| tracing::error!(%error, %endpoint, "what is to be observed cannot be read")).ok()
}

/// What is wanted under an id, if anything still is. That it is not known now, whatever the reason, is found out again.
async fn wanted(store: &Arc<dyn Store>, endpoint: &Arc<str>, id: ObservationId) -> Option<Option<u64>> {
    let intents = read(store, endpoint).await?;
    Some(intents.into_iter().find(|(other, _)| *other == id).map(|(_, intent)| intent.version))
}

/// Writes the attributes of an observation and observes; answers the first values.
pub(super) async fn establish(
    server: &Server,
    endpoint: &str,
    id: ObservationId,
    intent: &Intent,
    timeout: Duration,
) -> Result<Content, RequestError> {
    let operations = intent.operations();
    let operations = operations.ok_or(RequestError::Invalid("this version of the server cannot read it"))?;
    for operation in operations {
        if let Answer::Observing(_, content) =
            server.request_as(endpoint, operation, timeout, Some(id)).await?
        {
            return Ok(content);
        }
    }
    Err(RequestError::Malformed("not an answer to an Observe"))
}

/// Ends an observation: where the device does not answer, its next notification is answered with a Reset.
pub(super) async fn withdraw(server: &Server, endpoint: &str, id: ObservationId, timeout: Duration) {
    if server.request(endpoint, Operation::Cancel { observation: id }, timeout).await.is_err() {
        server.forget_observation(endpoint, id).await;
    }
}

/// Whether the device, or this server in its place, has said no; else it may answer another time.
pub(super) const fn is_refusal(error: &RequestError) -> bool {
    match error {
        RequestError::Refused(code, _) => !is_passing(*code),
        RequestError::Invalid(_)
        | RequestError::TooLarge
        | RequestError::Malformed(_)
        | RequestError::UnknownObservation => true,
        _ => false,
    }
}

/// Whether a code speaks of the moment and not of what was asked: 4.29, 5.00, 5.03 (RFC 8516 §3, RFC 7252 §5.9.3).
const fn is_passing(code: (u8, u8)) -> bool {
    matches!(code, (4, 29) | (5, 0 | 3))
}

#[cfg(test)]
mod tests {
    use super::super::Added;
    use super::super::scripted::{NAME, PLACE, Scripted, observe, wanted, willing, write};
    use crate::operation::{Operation, RequestError};

    #[tokio::test]
    async fn what_takes_the_place_of_one_that_stands_is_asked_when_its_device_is_heard() {
        let mut device = Scripted::start(willing);
        let added = device.add(wanted(PLACE, &[("pmin", 10)])).await;
        let Ok(Added::Stands(id, _)) = added else { unreachable!("{added:?}") };
        for operation in [write(PLACE, "pmin=10"), observe(PLACE)] {
            assert_eq!(device.asked().await, operation);
        }
        device.sleeps(true);
        let added = device.observations.add(NAME, wanted(PLACE, &[("gt", 60)]), None);
        assert!(matches!(added.await, Ok(Added::Waits(same)) if same == id));
        device.sleeps(false);
        device.updates();
        for operation in [write(PLACE, "gt=60&pmin"), observe(PLACE)] {
            assert_eq!(device.asked().await, operation);
        }
        assert_eq!([device.told().await, device.told().await], ["1 stands", "1 notified"]);
        // It is written that it stands: the next one that is asked is another one.
        while device.intents().iter().any(|intent| intent.unset.is_some()) {
            tokio::task::yield_now().await;
        }
        device.updates();
        assert!(matches!(device.add(wanted("/3/0/9", &[])).await, Ok(Added::Stands(..))));
        assert_eq!(device.asked().await, observe("/3/0/9"));
    }
    #[tokio::test]
    async fn first_values_are_told_before_the_next_one_has_answered() {
        let mut device = Scripted::start(|operation| match operation {
            Operation::Observe { path, .. } if path.object_id() == Some(3) => None,
            other => willing(other),
        });
        for path in [PLACE, "/3/0/9"] {
            let added = device.observations.add(NAME, wanted(path, &[]), None).await;
            assert!(matches!(added, Ok(Added::Waits(_))), "{added:?}");
        }
        assert_eq!([device.told().await, device.told().await], ["1 stands", "1 notified"]);
        assert_eq!([device.asked().await, device.asked().await], [observe(PLACE), observe("/3/0/9")]);
    }

    #[tokio::test]
    async fn a_device_that_cannot_answer_now_keeps_what_is_wanted_of_it() {
        for code in [(4, 29), (5, 0), (5, 3)] {
            let mut device = Scripted::start(willing);
            device.answers(move |_| Some(Err(RequestError::Refused(code, String::new()))));
            let added = device.add(wanted(PLACE, &[])).await;
            assert!(matches!(added, Ok(Added::Waits(_))), "{code:?}: {added:?}");
            device.answers(willing);
            device.updates();
            assert_eq!([device.told().await, device.told().await], ["1 stands", "1 notified"]);

            device.ends(code).await;
            device.updates();
            assert_eq!([device.told().await, device.told().await], ["1 stands", "1 notified"]);
            assert!(device.intents().iter().all(|intent| intent.refused.is_none()));
        }
        // Another one is one of what was asked.
        let device = Scripted::start(|_| Some(Err(RequestError::Refused((4, 4), String::new()))));
        let added = device.add(wanted(PLACE, &[])).await;
        assert!(added.is_err() && device.intents().is_empty(), "{added:?}");
    }
}
