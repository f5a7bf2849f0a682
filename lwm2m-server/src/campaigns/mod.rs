//! Campaigns: the same done with many devices, step by step, so that a mistake stops at a few of them.
//!
//! 1. `Campaigns::make` fixes the list of devices; what cannot be done with one is said before anything is done with another.
//! 2. Somebody else approves of it where its plan says so.
//! 3. Devices are started step by step, and the campaign stops by itself when too many fail.
//! 4. Each device has its own outcome; those that failed can be taken again.
//!
//! A rotation goes on by the lifecycle of the [credentials](crate::credentials), a write or an execution by the [queue](crate::queue),
//! whatever becomes of the campaign: cancelling starts no further device.
//!
//! [`Machine`], [`rotate`] and [`rotation`] are for simulations; a server has [`Campaigns`].
//!
//! Invariants: what is done with a device is on disk before it is done, and is found again by its mark after a kill, so that nothing is
//! done twice; of a device that is not under way nothing is in memory but, where it is taken again, its number.

mod act;
pub(crate) mod config;
mod course;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]
mod exploration;
mod groups;
mod machine;
mod record;
mod run;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::credentials::Credentials;
use crate::queue::Queue;
use crate::server::Server;
use crate::store::{CampaignStore, Store, StoreError};

pub use act::{Stands, rotate, rotation};
pub use course::Effect;
pub use groups::{Group, Selected};
pub use machine::{Act, Machine, New, Refused};
pub use record::{
    Action, Campaign, CampaignDevice, Counts, DeviceState, Outcome, Plan, Progress, Rotation, Selection,
    Share, State, Step,
};
use run::{Call, Run, blocking};

/// How much may go on at once.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Campaigns that run at once.
    pub running: usize,
    /// Campaigns that are not finished, those that run and those that wait.
    pub open: usize,
    /// The most devices of a campaign that nobody else has to approve of.
    pub approval_above: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running: 8, open: 100, approval_above: 1000 }
    }
}

/// The machine of the campaigns that a store has, those that go on.
///
/// # Errors
/// When one cannot be read.
pub fn open(store: &dyn CampaignStore, limits: Limits, now_ms: u64) -> Result<Machine, StoreError> {
    let (last, all) = store.all()?;
    let mut machine = Machine::new(limits, last);
    for (id, campaign) in all {
        if campaign.state.is_end() && campaign.counts.started == 0 {
            continue;
        }
        let round = campaign.round;
        let is_wanted = |device: &CampaignDevice| {
            device.state(round) == DeviceState::Started || (round > 1 && device.is_in(round))
        };
        // Of one that was never retried, and has nobody under way, nothing but its record is needed.
        let is_read = round > 1 || campaign.counts.started > 0;
        let devices = store.devices(id, 0, if is_read { usize::MAX } else { 0 }, &is_wanted)?;
        machine.restore(now_ms, id, campaign, devices);
    }
    Ok(machine)
}

/// The campaigns of a running server. Clones share them.
#[derive(Clone)]
pub struct Campaigns {
    calls: mpsc::Sender<Call>,
    store: Arc<dyn Store>,
    limits: Limits,
}

/// Calls that may wait.
const CALLS: usize = 64;

impl Campaigns {
    /// Goes on with what the store has. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(
        server: Server,
        credentials: Arc<Credentials>,
        queue: Queue,
        store: Arc<dyn Store>,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        // What happens from now on is heard.
        let (events, steps) = (server.events(), credentials.subscribe());
        let machine = open(store.campaigns(), limits, crate::api::now_ms())?;
        let (calls, called) = mpsc::channel(CALLS);
        let run = Run::new(machine, server, credentials, queue, Arc::clone(&store));
        tokio::spawn(run.run(called, events, steps));
        Ok(Self { calls, store, limits })
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Makes a campaign, and answers its id once it is on disk.
    pub(crate) async fn make(&self, new: New) -> Result<u64, Refused> {
        self.ask(|answer| Call::Make { new: Box::new(new), answer }).await
    }

    /// Approves, pauses, resumes or cancels a campaign; done once it is on disk.
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn act(&self, id: u64, act: Act, actor: Arc<str>) -> Result<(), Refused> {
        match self.ask(|answer| Call::Act { id, act, actor, answer }).await {
            // One that has ended is in nobody's memory.
            Err(Refused::Unknown(id)) => {
                let found = self.read(move |store| store.campaigns().one(id)).await;
                let found = found.map_err(|_| Refused::Stopped)?;
                Err(found.map_or(Refused::Unknown(id), |campaign| Refused::NotSo(campaign.state)))
            }
            outcome => outcome,
        }
    }

    /// Takes the devices of a finished campaign again that failed.
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn retry(&self, id: u64, actor: Arc<str>) -> Result<(), Refused> {
        self.ask(|answer| Call::Retry { id, actor, answer }).await
    }

    /// Reads from the store without holding up the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || read(&*store)).await
    }

    /// Writes what is still to be written, and begins nothing more.
    pub async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.calls.send(Call::Stop { answer }).await.is_ok() {
            // It may have ended by itself.
            let _ = stopped.await;
        }
    }

    async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Call,
    ) -> Result<T, Refused> {
        let (answer, outcome) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| Refused::Stopped)?;
        outcome.await.unwrap_or(Err(Refused::Stopped))
    }
}

impl core::fmt::Debug for Campaigns {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Campaigns").finish_non_exhaustive()
    }
}
