//! The threads that do the long steps of handshakes, so that no packet waits for a curve or a signature (invariants: what goes in
//! comes out once, also when doing it panics; what is done in memory waits for nothing that is done elsewhere).
//!
//! They give way to the threads that read packets: a flood of handshakes delays handshakes.

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use crate::api::now_ms;
use crate::credentials::Credentials;
use crate::endpoint::{Done, Lane, Work, WorkId};
use crate::keys::ServerKeys;

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
pub(super) struct Pool {
    memory: Sender<(Lane, Job)>,
    /// Those of keys elsewhere may all wait for an answer that never comes.
    elsewhere: Sender<(Lane, Job)>,
    /// One thread, which has the store write what came meanwhile at once.
    storage: Sender<Job>,
}

/// The way of one part of the server to the pool.
pub(super) struct Workers {
    memory: Sender<(Lane, Job)>,
    elsewhere: Sender<(Lane, Job)>,
    storage: Sender<Job>,
    finish: UnboundedSender<Finished>,
}

/// What waits for a thread, the most urgent first and then the oldest.
struct Waiting<T> {
    arriving: Receiver<(Lane, T)>,
    curves: VecDeque<T>,
    others: VecDeque<T>,
}

impl Pool {
    /// Starts that many threads, and as many again where a key is elsewhere.
    pub(super) fn start(
        threads: NonZeroU8,
        keys: &ServerKeys,
        credentials: &Arc<Credentials>,
    ) -> std::io::Result<Self> {
        let start = |threads: u8, name| {
            let (jobs, arriving) = channel();
            let waiting = Arc::new(Mutex::new(Waiting::new(arriving)));
            for index in 0..threads {
                let (waiting, credentials) = (Arc::clone(&waiting), Arc::clone(credentials));
                std::thread::Builder::new()
                    .name(format!("lwm2m-{name}-{index}"))
                    .spawn(move || work(&waiting, &credentials))?;
            }
            std::io::Result::Ok(jobs)
        };
        let has_keys_elsewhere = keys.iter().any(|key| key.is_elsewhere());
        let signers = if has_keys_elsewhere { threads.get() } else { 0 };
        let (storage, arriving) = channel();
        let keeper = Arc::clone(credentials);
        std::thread::Builder::new()
            .name("lwm2m-storage".to_owned())
            .spawn(move || store(&arriving, &keeper))?;
        Ok(Self { memory: start(threads.get(), "worker")?, elsewhere: start(signers, "signer")?, storage })
    }

    /// The way there for one part, which gets what is done by `finish`.
    pub(super) fn workers(&self, finish: UnboundedSender<Finished>) -> Workers {
        let Self { memory, elsewhere, storage } = self;
        Workers { memory: memory.clone(), elsewhere: elsewhere.clone(), storage: storage.clone(), finish }
    }
}

impl Workers {
    /// Has it done.
    pub(super) fn take(&self, id: WorkId, work: Work) {
        let job = Job { id, work, finish: self.finish.clone() };
        let is_taken = match id.lane() {
            Lane::Curves | Lane::Keys => self.memory.send((id.lane(), job)).is_ok(),
            Lane::Elsewhere => self.elsewhere.send((id.lane(), job)).is_ok(),
            Lane::Storage => self.storage.send(job).is_ok(),
        };
        if !is_taken {
            let _ = self.finish.send(Finished(id, Done::Lost));
        }
    }
}

impl<T> Waiting<T> {
    const fn new(arriving: Receiver<(Lane, T)>) -> Self {
        Self { arriving, curves: VecDeque::new(), others: VecDeque::new() }
    }

    /// What is next; waits while there is nothing. `None` when nothing can come any more.
    fn next(&mut self) -> Option<T> {
        while let Ok(arrived) = self.arriving.try_recv() {
            self.sort(arrived);
        }
        if self.curves.is_empty() && self.others.is_empty() {
            let arrived = self.arriving.recv().ok()?;
            self.sort(arrived);
        }
        self.curves.pop_front().or_else(|| self.others.pop_front())
    }

    fn sort(&mut self, (lane, job): (Lane, T)) {
        match lane {
            Lane::Curves => self.curves.push_back(job),
            Lane::Keys | Lane::Elsewhere | Lane::Storage => self.others.push_back(job),
        }
    }
}

/// Writes reservations: all that came while the ones before were written are one transaction.
fn store(arriving: &Receiver<Job>, credentials: &Credentials) {
    while let Ok(first) = arriving.recv() {
        let (mut finish, mut reservations) = (Vec::new(), Vec::new());
        for Job { id, work, finish: way } in core::iter::once(first).chain(arriving.try_iter().take(AT_ONCE))
        {
            if let Work::Reserve(reservation) = work {
                finish.push((id, way));
                reservations.push(reservation);
            }
        }
        let done = catch_unwind(AssertUnwindSafe(|| Work::reserve(reservations, credentials)));
        let mut done = done.unwrap_or_default().into_iter();
        for (id, way) in finish {
            // A part that is gone waits for nothing.
            let _ = way.send(Finished(id, done.next().unwrap_or(Done::Lost)));
        }
    }
}

/// The most reservations beside the first in one transaction: what came later waits for the next.
const AT_ONCE: usize = 4095;

fn work(waiting: &Mutex<Waiting<Job>>, credentials: &Credentials) {
    // Elsewhere it is the priority of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "workers are as urgent as the threads that read packets");
    }
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(Job { id, work, finish }) = job else { return };
        // Dates are those of the wall clock, which may have been set since the start.
        let done = catch_unwind(AssertUnwindSafe(|| work.run(now_ms(), credentials))).unwrap_or_else(|_| {
            tracing::error!("a step of a handshake panicked; the handshake is given up");
            Done::Lost
        });
        // The part that asked may have stopped.
        let _ = finish.send(Finished(id, done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_on_a_curve_goes_before_older_signatures_and_all_comes_out_before_the_end() {
        let (jobs, arriving) = channel();
        for job in [(Lane::Keys, 1), (Lane::Curves, 2), (Lane::Keys, 3), (Lane::Curves, 4)] {
            jobs.send(job).ok();
        }
        let mut waiting = Waiting::new(arriving);
        assert_eq!(waiting.next(), Some(2));
        jobs.send((Lane::Curves, 5)).ok();
        drop(jobs);
        let rest: Vec<i32> = std::iter::from_fn(|| waiting.next()).collect();
        assert_eq!(rest, [4, 5, 1, 3]);
    }
}
