//! A registered device that answers as a test says, in the place of the driver, and the lasting observations of its server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Number;
use tokio::sync::{broadcast, mpsc};

use super::{Added, Intent, Limits, NotAdded, Observations, Places};
use crate::endpoint::Shared;
use crate::operation::{Answer, Content, ObservationId, Operation, RequestError};
use crate::server::{Call, Device, Server};
use crate::store::{RedbStore, Sealer, Store};
use crate::{Event, Path};

/// What it answers; `None` is no answer.
type Script = Box<dyn Fn(&Operation) -> Option<Result<Answer, RequestError>> + Send>;

pub(super) const NAME: &str = "meter";
pub(super) const PLACE: &str = "/3303/0/5700";

pub(super) struct Scripted {
    pub(super) observations: Observations,
    pub(super) store: Arc<RedbStore>,
    events: broadcast::Receiver<Event>,
    asked: mpsc::UnboundedReceiver<Operation>,
    server: Server,
    is_awake: Arc<AtomicBool>,
    script: Arc<Mutex<Script>>,
}

/// A device that does what it is asked.
pub(super) fn willing(operation: &Operation) -> Option<Result<Answer, RequestError>> {
    Some(Ok(match operation {
        Operation::Observe { .. } | Operation::ObserveComposite { .. } => {
            Answer::Observing(ObservationId(0), Content { format: 0, items: Vec::new() })
        }
        _ => Answer::Done,
    }))
}

pub(super) fn wanted(path: &str, attributes: &[(&str, u32)]) -> Intent {
    let path: Path = path.parse().expect("a path");
    let intent = Intent::new(Places::One(path), None, "test".into(), 1);
    attributes.iter().fold(intent, |intent, (name, value)| intent.with_attribute(name, Number::from(*value)))
}

pub(super) fn observe(path: &str) -> Operation {
    Operation::Observe { path: path.parse().expect("a path"), format: None }
}

pub(super) fn write(path: &str, attributes: &str) -> Operation {
    let path = path.parse().expect("a path");
    Operation::WriteAttributes { path, attributes: attributes.to_owned() }
}

impl Scripted {
    pub(super) fn start(
        script: impl Fn(&Operation) -> Option<Result<Answer, RequestError>> + Send + 'static,
    ) -> Self {
        let sealer = Sealer::new(&[1; 32], "test").expect("a key");
        let store = Arc::new(RedbStore::in_memory(sealer).expect("a store"));
        let (calls, mut called) = mpsc::channel(16);
        let (events, heard) = broadcast::channel(256);
        let server = Server::new([calls].into(), Arc::new(Shared::new()), events, broadcast::channel(1).0);
        let (tell, asked) = mpsc::unbounded_channel();
        let is_awake = Arc::new(AtomicBool::new(true));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let (awake, answers) = (Arc::clone(&is_awake), Arc::clone(&script));
        tokio::spawn(async move {
            let (mut standing, mut unanswered) = (BTreeSet::new(), Vec::new());
            while let Some(call) = called.recv().await {
                // Who asked may be gone.
                match call {
                    Call::Device { answer, .. } => {
                        let _ = answer.send(Some(device(awake.load(Ordering::Relaxed))));
                    }
                    Call::Observations { answer, .. } => {
                        let _ = answer.send(standing.iter().map(|id| (*id, Vec::new())).collect());
                    }
                    Call::ForgetObservation { observation, answer, .. } => {
                        let _ = answer.send(standing.remove(&observation));
                    }
                    Call::Request { operation, observation, answer, .. } => {
                        let said = (*answers.lock().unwrap_or_else(PoisonError::into_inner))(&operation);
                        let _ = tell.send(operation);
                        if let Some(Ok(Answer::Observing(..))) = said {
                            standing.extend(observation);
                        }
                        match said {
                            Some(said) => drop(answer.send(said)),
                            None => unanswered.push(answer),
                        }
                    }
                    call => unreachable!("{call:?}"),
                }
            }
        });
        let observations = Observations::start(server.clone(), store.clone(), Limits::default());
        let observations = observations.expect("an empty store");
        Self { observations, store, events: heard, asked, server, is_awake, script }
    }

    pub(super) fn answers(
        &self,
        script: impl Fn(&Operation) -> Option<Result<Answer, RequestError>> + Send + 'static,
    ) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    pub(super) fn sleeps(&self, is_asleep: bool) {
        self.is_awake.store(!is_asleep, Ordering::Relaxed);
    }

    pub(super) fn updates(&self) {
        self.server.tell(Event::Updated { endpoint: NAME.into() });
    }

    /// It ends the first observation.
    pub(super) async fn ends(&self, code: (u8, u8)) {
        let observation = ObservationId(1);
        self.server.forget_observation(NAME, observation).await;
        let endpoint = NAME.into();
        let reason = String::new();
        self.server.tell(Event::ObservationEnded { endpoint, observation, reason, code: Some(code) });
    }

    pub(super) async fn add(&self, intent: Intent) -> Result<Added, NotAdded> {
        self.observations.add(NAME, intent, Some(Duration::from_secs(9))).await
    }

    pub(super) fn intents(&self) -> Vec<Intent> {
        let intents = self.store.observations_of(NAME).expect("a store");
        intents.into_iter().map(|(_, intent)| intent).collect()
    }

    /// What it is asked next.
    pub(super) async fn asked(&mut self) -> Operation {
        soon(self.asked.recv()).await.expect("a server")
    }

    /// What is told next of observations.
    pub(super) async fn told(&mut self) -> String {
        loop {
            match soon(self.events.recv()).await.expect("a server") {
                Event::ObservationStands { observation, .. } => break format!("{} stands", observation.0),
                Event::Notification { observation, .. } => break format!("{} notified", observation.0),
                Event::ObservationRefused { observation, .. } => break format!("{} refused", observation.0),
                _ => {}
            }
        }
    }
}

async fn soon<T>(it: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), it).await.expect("it does not come")
}

fn device(is_awake: bool) -> Device {
    Device {
        endpoint: NAME.into(),
        address: String::new(),
        secure: false,
        generation: 0,
        version: "1.1".to_owned(),
        lifetime: 60,
        binding: "U".to_owned(),
        queue: true,
        awake_until: (!is_awake).then_some(0),
        objects: "".into(),
        location: String::new(),
        registered_at: 0,
        last_heard: 0,
        observations: 0,
    }
}
