//! The threads that do the long steps of handshakes, so that no packet waits for a curve or a signature (invariant: what goes in
//! comes out once, also when doing it panics).
//!
//! They give way to the threads that read packets: a flood of handshakes delays handshakes.

use std::num::NonZeroU8;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use crate::api::now_ms;
use crate::credentials::Credentials;
use crate::endpoint::{Done, Work, WorkId};

/// How much later than other threads they get a processor, on the scale of nice(2).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// What was done for one part of the server.
pub(super) struct Finished(pub(super) WorkId, pub(super) Done);

struct Job {
    id: WorkId,
    work: Work,
    finish: UnboundedSender<Finished>,
}

/// The threads; they end when all [`Workers`] are gone.
pub(super) struct Pool(Sender<Job>);

/// The way of one part of the server to the pool.
pub(super) struct Workers {
    jobs: Sender<Job>,
    finish: UnboundedSender<Finished>,
}

impl Pool {
    /// Starts that many threads.
    pub(super) fn start(threads: NonZeroU8, credentials: &Arc<Credentials>) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for index in 0..threads.get() {
            let (waiting, credentials) = (Arc::clone(&waiting), Arc::clone(credentials));
            std::thread::Builder::new()
                .name(format!("lwm2m-worker-{index}"))
                .spawn(move || work(&waiting, &credentials))?;
        }
        Ok(Self(jobs))
    }

    /// The way there for one part, which gets what is done by `finish`.
    pub(super) fn workers(&self, finish: UnboundedSender<Finished>) -> Workers {
        Workers { jobs: self.0.clone(), finish }
    }
}

impl Workers {
    /// Has it done.
    pub(super) fn take(&self, id: WorkId, work: Work) {
        let job = Job { id, work, finish: self.finish.clone() };
        if let Err(unsent) = self.jobs.send(job) {
            let _ = self.finish.send(Finished(unsent.0.id, Done::Lost));
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, credentials: &Credentials) {
    // Elsewhere it is the priority of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "workers are as urgent as the threads that read packets");
    }
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { id, work, finish }) = job else { return };
        // Dates are those of the wall clock, which may have been set since the start.
        let done = catch_unwind(AssertUnwindSafe(|| work.run(now_ms(), credentials))).unwrap_or_else(|_| {
            tracing::error!("a step of a handshake panicked; the handshake is given up");
            Done::Lost
        });
        // The part that asked may have stopped.
        let _ = finish.send(Finished(id, done));
    }
}
