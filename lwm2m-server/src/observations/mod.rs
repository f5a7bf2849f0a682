//! Observations that last: what is to be observed of a device, whenever it is registered (LwM2M Core 1.2.1 §6.4).
//!
//! 1. [`Observations::add`] writes an intent to the store and asks the device, if it listens; the id that is answered stays the same.
//! 2. A Register ends all that was observed: then the device is asked again for what is missing, after the answer to the Register and
//!    one observation after the other, with its attributes written before. What stands is not asked again: not after an Update, nor
//!    in the next run after a planned stop.
//! 3. What a device refuses is told ([`ObservationRefused`](crate::Event::ObservationRefused)), and asked again when it registers the
//!    next time. Who does not answer, or sleeps, is asked again when it is heard.
//! 4. [`Observations::remove`] takes the intent out of the store, and then ends the observation.
//!
//! Invariants: an intent is in the store before its id is given out, and gone from it before its end is acknowledged; nothing is in
//! memory of a device whose observations stand; not more than so many devices are asked at a time, however many register.

mod intent;
mod machine;
mod run;
#[cfg(test)]
mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::api::now_ms;
use crate::operation::{Content, ObservationId, RequestError};
use crate::server::Server;
use crate::store::{Store, StoreError};

pub(crate) use intent::{ATTRIBUTES, What};
pub use intent::{Intent, IntentChange, Intents, Places, Wanted};
use run::{Call, Run};

/// How much is observed and asked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Lasting observations of one device.
    pub per_device: usize,
    /// Devices that are asked at once.
    pub at_once: usize,
    /// Devices of which is remembered that they are to be asked; those beyond are found by the store.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_device: 64, at_once: 1024, remembered: 65_536 }
    }
}

/// What came of an intent at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Added {
    /// The observation stands; its first values.
    Stands(ObservationId, Content),
    /// It waits for its device.
    Waits(ObservationId),
}

/// Why nothing is observed.
#[derive(Debug)]
pub enum NotAdded {
    /// The device has as many lasting observations as it may have.
    Full(usize),
    /// The device refused, or could not be asked such a thing.
    Refused(RequestError),
    /// The store failed.
    Store(StoreError),
}

impl core::fmt::Display for NotAdded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full(most) => {
                write!(f, "{most} lasting observations of this device are wanted already: remove some")
            }
            Self::Refused(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NotAdded {}

/// The lasting observations of a running server. Clones share them.
#[derive(Clone)]
pub struct Observations {
    calls: mpsc::Sender<Call>,
    server: Server,
    store: Arc<dyn Store>,
    limits: Limits,
    is_used: Arc<AtomicBool>,
}

/// Calls that may wait.
const CALLS: usize = 1024;

impl Observations {
    /// Goes on with what the store has. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(server: Server, store: Arc<dyn Store>, limits: Limits) -> Result<Self, StoreError> {
        let is_used = Arc::new(AtomicBool::new(!store.observed(None, 1)?.is_empty()));
        let (calls, called) = mpsc::channel(CALLS);
        let run = Run::new(limits, server.clone(), Arc::clone(&store), Arc::clone(&is_used));
        // What the devices say from now on is heard.
        let events = server.events();
        tokio::spawn(run.run(called, events));
        Ok(Self { calls, server, store, limits, is_used })
    }

    /// Keeps an intent, and asks the device if `ask` says for how long; else it is asked when it is heard. An intent of the same place
    /// takes the place of the former one, and has its id.
    ///
    /// # Errors
    /// When the device refuses: then all is as it was before, unless somebody has wanted the place otherwise
    /// meanwhile. When it does not answer, the observation waits.
    pub async fn add(
        &self,
        endpoint: &str,
        intent: Intent,
        ask: Option<Duration>,
    ) -> Result<Added, NotAdded> {
        let name: Arc<str> = endpoint.into();
        let (store, wanted, most) = (Arc::clone(&self.store), intent.clone(), self.limits.per_device);
        let owner = Arc::clone(&name);
        // From now on it is looked for who registers.
        self.is_used.store(true, Ordering::Relaxed);
        let added = blocking(move || store.add_observation(&owner, &wanted, most)).await;
        let Wanted { id, intent, former } = added.map_err(NotAdded::Store)?.ok_or(NotAdded::Full(most))?;
        if let Some(timeout) = ask {
            match run::establish(&self.server, endpoint, id, &intent, timeout).await {
                Ok(content) => {
                    if intent.unset.is_some() {
                        let change = IntentChange::Stands(intent);
                        self.change(&name, id, change).await.map_err(NotAdded::Store)?;
                    }
                    return Ok(Added::Stands(id, content));
                }
                Err(error) if run::is_refusal(&error) => {
                    let is_restored = former.is_some();
                    let (asked, why, now_ms) = (intent, error.to_string(), now_ms());
                    let change = IntentChange::Undone { asked, former, why, now_ms };
                    self.change(&name, id, change).await.map_err(NotAdded::Store)?;
                    if is_restored {
                        // The device may have taken the attributes of the one that it refused.
                        self.look(name).await;
                    }
                    return Err(NotAdded::Refused(error));
                }
                Err(_) => {}
            }
        }
        self.look(name).await;
        Ok(Added::Waits(id))
    }

    /// Has what waits of a device looked at.
    async fn look(&self, endpoint: Arc<str>) {
        // If it is gone the server is stopping, and the next run finds it in the store.
        let _ = self.calls.send(Call::Look(endpoint)).await;
    }

    /// Takes an intent out, then ends its observation; of a device that sleeps or does not answer within `timeout` it is forgotten, and
    /// its next notification is answered with a Reset (RFC 7641 §3.6). `actor` is who wants it, as in the audit log. `false` when there
    /// is none.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove(
        &self,
        actor: Arc<str>,
        endpoint: &str,
        id: ObservationId,
        timeout: Duration,
    ) -> Result<bool, StoreError> {
        let is_removed =
            self.change(&endpoint.into(), id, IntentChange::Removed { actor, now_ms: now_ms() }).await?;
        if is_removed && self.stands(endpoint, id).await {
            let device = self.server.device(endpoint).await;
            if device.is_some_and(|device| device.is_awake(now_ms())) {
                run::withdraw(&self.server, endpoint, id, timeout).await;
            } else {
                self.server.forget_observation(endpoint, id).await;
            }
        }
        Ok(is_removed)
    }

    /// The intents of a device.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn intents(&self, endpoint: &str) -> Result<Intents, StoreError> {
        let (store, endpoint) = (Arc::clone(&self.store), endpoint.to_owned());
        blocking(move || store.observations_of(&endpoint)).await
    }

    /// Lets what is under way end, after [`Server::stop`].
    pub async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.calls.send(Call::Stop(answer)).await.is_ok() {
            // It may have ended by itself.
            let _ = stopped.await;
        }
    }

    async fn stands(&self, endpoint: &str, id: ObservationId) -> bool {
        self.server.observations(endpoint).await.iter().any(|(other, _)| *other == id)
    }

    async fn change(
        &self,
        endpoint: &Arc<str>,
        id: ObservationId,
        change: IntentChange,
    ) -> Result<bool, StoreError> {
        let (store, changes) = (Arc::clone(&self.store), [(Arc::clone(endpoint), id, change)]);
        Ok(blocking(move || store.change_observations(&changes)).await? > 0)
    }
}

impl core::fmt::Debug for Observations {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Observations").finish_non_exhaustive()
    }
}

/// Uses the store without holding up the runtime.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
