//! The only owner of sockets: runs an endpoint under tokio, asks the credentials what the endpoint asks, and serves the
//! handle.
//!
//! One task on each of its threads reads, answers inline and writes; nothing is handed over between tasks on the way up,
//! and neither the HTTP interface nor a slow listener takes its time. Only what handshakes compute on a curve
//! goes to workers and comes back. Invariant: after each input everything the endpoint has to say is drained before the task waits
//! again.

mod clock;
mod restore;
mod settle;
mod sockets;
mod start;
mod steering;
mod workers;

use core::future::poll_fn;
use core::ops::ControlFlow;
use core::pin::pin;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_coap::Instant;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::api::now_ms;
use crate::credentials::Credentials;
use crate::endpoint::{Done, Endpoint, Packet, Parcel, RequestId, Saved, Transmit, WorkId};
use crate::event::Event;
use crate::operation::{Answer, RequestError};
use crate::server::{Call, Stop};

use clock::Clock;
pub use restore::{LastRun, Resumed, restore};
pub(crate) use settle::RETIRED;
pub use settle::{execute, settle, tick};
pub use sockets::StartError;
use sockets::{Arrival, Sockets};
pub use start::{Running, Settings, resume, start};
use workers::{Finished, Workers};

/// How often the credentials are told that time passes, and the endpoint what the wall clock shows.
const TICK: Duration = Duration::from_secs(1);
/// Datagrams read before callers and timers get their turn.
const BURST: usize = 64;
/// The largest datagram read or written. No message is as long: blocks have 1024 bytes.
const DATAGRAM: usize = 2048;

/// How often the parts give each other what they have before they stop: a parcel leads to three others at most.
const ROUNDS: usize = 5;
/// How long a part waits for the others.
const ROUND: Duration = Duration::from_secs(1);
/// Remotes handed over at once when the server stops.
const SAVED_AT_ONCE: usize = 256;

struct Driver {
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
    sockets: Sockets,
    clock: Clock,
    events: broadcast::Sender<Event>,
    packets: broadcast::Sender<Packet>,
    waiting: HashMap<RequestId, oneshot::Sender<Result<Answer, RequestError>>>,
    next_tick: tokio::time::Instant,
    /// Whether this one tells the credentials that time passes.
    is_first: bool,
    /// The ways to all parts of the server, this one included.
    parts: Arc<[Way]>,
    /// Datagrams for another part that its way had no room for.
    overrun: u64,
    workers: Workers,
}

/// The way to one part of the server.
#[derive(Clone)]
struct Way {
    /// Datagrams, which may be lost.
    datagrams: mpsc::Sender<Parcel>,
    /// What may not: a few for each handshake and Register.
    others: mpsc::UnboundedSender<Parcel>,
}

impl Way {
    /// Sends a parcel on its way; whether there was room for it.
    fn has_taken(&self, parcel: Parcel) -> bool {
        // A part that is gone takes nothing any more: the server is stopping.
        if parcel.is_datagram() {
            !matches!(self.datagrams.try_send(parcel), Err(mpsc::error::TrySendError::Full(_)))
        } else {
            let _ = self.others.send(parcel);
            true
        }
    }
}

/// The end of such a way.
struct Arrivals {
    calls: mpsc::Receiver<Call>,
    datagrams: mpsc::Receiver<Parcel>,
    others: mpsc::UnboundedReceiver<Parcel>,
    /// What the workers have done.
    finished: mpsc::UnboundedReceiver<Finished>,
    /// Changes when another thread panicked.
    stop: watch::Receiver<bool>,
}

impl Driver {
    async fn run(mut self, mut arrivals: Arrivals) {
        let mut datagram = vec![0; DATAGRAM];
        let mut out = vec![0; DATAGRAM];
        let mut sleep = pin!(tokio::time::sleep_until(self.next_tick));
        loop {
            self.drain(self.clock.now(), &mut out);
            // Waking too early is harmless, so only an earlier time is worth the way to the runtime's timer.
            let wake = self.wake();
            if wake < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(wake);
            }
            tokio::select! {
                arrival = poll_fn(|context| self.sockets.poll_readable(context)) => {
                    self.receive(arrival, &mut datagram, &mut out);
                }
                Some(parcel) = arrivals.others.recv() => self.accept(parcel, &mut out),
                Some(parcel) = arrivals.datagrams.recv() => self.accept(parcel, &mut out),
                Some(Finished(id, done)) = arrivals.finished.recv() => {
                    self.finished(id, done, &mut out);
                }
                call = arrivals.calls.recv() => match call.map(|call| self.call(call)) {
                    Some(ControlFlow::Continue(())) => {}
                    Some(ControlFlow::Break(stop)) => return self.stop(stop, &mut arrivals, &mut out).await,
                    None => return,
                },
                () = &mut sleep => self.timeout(),
                _ = arrivals.stop.changed() => return,
            }
        }
    }

    /// When to wake without input: at the endpoint's next deadline, at the latest for the next tick.
    fn wake(&self) -> tokio::time::Instant {
        let Some(deadline) = self.endpoint.poll_timeout() else { return self.next_tick };
        let soon = tokio::time::Instant::now().checked_add(deadline.since(self.clock.now()));
        soon.map_or(self.next_tick, |soon| soon.min(self.next_tick))
    }

    fn receive(&mut self, arrival: Arrival, datagram: &mut [u8], out: &mut [u8]) {
        self.watch();
        for _ in 0..BURST {
            let Some((length, from)) = self.sockets.receive(arrival, datagram) else { return };
            // One that fills the buffer was cut, and what is left of it means something else.
            let Some(bytes) = datagram.get_mut(..length).filter(|bytes| bytes.len() < DATAGRAM) else {
                self.sockets.oversized = self.sockets.oversized.saturating_add(1);
                continue;
            };
            let now = self.clock.now();
            if let Some(transmit) = self.endpoint.handle(now, arrival.listener(), from, bytes, &mut fill, out)
            {
                self.sockets.send(&transmit, out);
            }
            self.drain(now, out);
        }
    }

    fn finished(&mut self, id: WorkId, done: Done, out: &mut [u8]) {
        if let Some(transmit) = self.endpoint.provide_work(self.clock.now(), id, done, &mut fill, out) {
            self.sockets.send(&transmit, out);
        }
    }

    fn accept(&mut self, parcel: Parcel, out: &mut [u8]) {
        self.watch();
        if let Some(transmit) = self.endpoint.accept(self.clock.now(), parcel, &mut fill, out) {
            self.sockets.send(&transmit, out);
        }
    }

    fn timeout(&mut self) {
        self.watch();
        let now = self.clock.now();
        self.endpoint.handle_timeout(now);
        if tokio::time::Instant::now() >= self.next_tick {
            self.next_tick = tokio::time::Instant::now().checked_add(TICK).unwrap_or(self.next_tick);
            self.endpoint.set_wall_clock(now, now_ms());
            if self.is_first {
                tick(&mut self.endpoint, &self.credentials, now);
            }
        }
    }

    /// Asks the credentials, sends what is to be sent and tells callers and listeners, until nothing is left.
    fn drain(&mut self, now: Instant, out: &mut [u8]) {
        let Self { endpoint, credentials, sockets, workers, .. } = self;
        let mut send = |transmit: &Transmit, out: &[u8]| sockets.send(transmit, out);
        let mut work = |id, work| {
            workers.take(id, work);
            None
        };
        settle(endpoint, credentials, now, &mut fill, out, &mut send, &mut work);
        while let Some(transmit) = self.endpoint.poll_transmit(now, &mut fill, out) {
            self.sockets.send(&transmit, out);
        }
        while let Some((part, parcel)) = self.endpoint.poll_parcel() {
            let Some(way) = self.parts.get(usize::from(part)) else { continue };
            self.overrun = self.overrun.saturating_add(u64::from(!way.has_taken(parcel)));
        }
        while let Some((id, outcome)) = self.endpoint.poll_outcome() {
            if let Some(caller) = self.waiting.remove(&id) {
                // A caller that went away needs no answer.
                let _ = caller.send(outcome);
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            event.log();
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
        while let Some(packet) = self.endpoint.poll_packet() {
            let _ = self.packets.send(packet);
        }
    }

    /// Gives away what is to go on in the next run. Nothing is read any more, nor sent once all parts have what the others
    /// had for them; until all are done the sockets stay open, so that the kernel brings nothing to a part that is left.
    async fn stop(mut self, Stop { saved, all }: Stop, arrivals: &mut Arrivals, out: &mut [u8]) {
        for _ in 0..ROUNDS {
            // One that panicked comes no more.
            let _ = tokio::time::timeout(ROUND, all.wait()).await;
            while let Ok(parcel) = arrivals.others.try_recv() {
                self.accept(parcel, out);
                self.drain(self.clock.now(), out);
            }
        }
        let mut remotes = self.endpoint.save(self.clock.now());
        loop {
            let some: Vec<Saved> = remotes.by_ref().take(SAVED_AT_ONCE).collect();
            // Whoever asked may be gone: then nobody wants the rest.
            if some.is_empty() || saved.send(some).await.is_err() {
                return;
            }
        }
    }

    /// Traces messages while somebody listens to them.
    fn watch(&mut self) {
        self.endpoint.set_trace(self.packets.receiver_count() > 0);
    }

    /// Breaks when the server is to stop.
    fn call(&mut self, call: Call) -> ControlFlow<Stop> {
        self.watch();
        let now = self.clock.now();
        match call {
            Call::Request { endpoint, operation, timeout, observation, answer } => {
                let asked = match observation {
                    Some(id) => self.endpoint.observe(now, &endpoint, operation, timeout, id),
                    None => self.endpoint.request(now, &endpoint, operation, timeout),
                };
                match asked {
                    Ok(id) => drop(self.waiting.insert(id, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Call::Devices { answer } => drop(answer.send(self.endpoint.devices())),
            Call::Device { endpoint, answer } => drop(answer.send(self.endpoint.device(&endpoint))),
            Call::Observations { endpoint, answer } => {
                drop(answer.send(self.endpoint.observations(&endpoint)));
            }
            Call::Forget { endpoint, answer } => drop(answer.send(self.endpoint.forget(now, &endpoint))),
            Call::ForgetObservation { endpoint, observation, answer } => {
                let _ = answer.send(self.endpoint.forget_observation(&endpoint, observation));
            }
            Call::CloseSessions { endpoint, role, generation, reason, answer } => {
                let _ = answer.send(self.endpoint.close_sessions(now, &endpoint, role, generation, reason));
            }
            Call::Trigger { endpoint, answer } => {
                self.endpoint.trigger_bootstrap(now, &endpoint);
                let _ = answer.send(());
            }
            Call::Models { models, answer } => {
                self.endpoint.set_models(models);
                let _ = answer.send(());
            }
            Call::Counters { answer } => {
                let mut counters = *self.endpoint.counters();
                counters.oversized = self.sockets.oversized;
                counters.unsent = self.sockets.unsent.get();
                counters.overrun = self.overrun;
                let _ = answer.send(counters.list());
            }
            Call::Stop(stop) => return ControlFlow::Break(stop),
        }
        ControlFlow::Continue(())
    }
}

/// The operating system's randomness. Without it no key may be made, so there is nothing left to do.
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::credentials::Settings;
    use crate::endpoint::{Address, Addresses, Config, Listener, Part, Shared};
    use crate::store::{RedbStore, Sealer};

    /// What the first of two parts has for the second one when a record comes whose Connection ID names that.
    fn parcel() -> Parcel {
        let part = Part { index: 0, of: 2 };
        let mut endpoint = Endpoint::part(Config::default(), part, Arc::new(Shared::new()));
        let mut record = [[25, 0xfe, 0xfd, 0, 1].as_slice(), &[0; 6], &[1; 6], &[0, 9], &[0; 9]].concat();
        let from = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
        let now = lwm2m_coap::Instant::from_millis(1_000_000);
        endpoint.handle(now, Listener::Coaps, from, &mut record, &mut fill, &mut [0; 100]);
        endpoint.poll_parcel().unwrap().1
    }

    #[test]
    fn a_datagram_that_its_way_has_no_room_for_is_counted() {
        let ((datagrams, mut arriving), (others, _)) = (mpsc::channel(2), mpsc::unbounded_channel());
        let way = Way { datagrams, others };
        let taken = [0; 4].map(|_| way.has_taken(parcel()));
        assert_eq!(taken, [true, true, false, false], "what is false is added to overrun");
        arriving.try_recv().unwrap();
        assert!(way.has_taken(parcel()));
        drop(arriving);
        assert!(way.has_taken(parcel()), "nobody is there to miss it");
    }

    /// A part of a server whose wall clock was set since it started: it showed a second after 1970 then.
    fn started_in_1970() -> Driver {
        let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
        let credentials = Arc::new(Credentials::open(Arc::new(store), Settings::default()).unwrap());
        let bound = sockets::Bound::open(&Addresses::default(), std::num::NonZeroU8::MIN).unwrap();
        let pool = workers::Pool::start(std::num::NonZeroU8::MIN, &Default::default(), &credentials).unwrap();
        Driver {
            endpoint: Endpoint::new(Config::default()),
            credentials,
            sockets: bound.into_iter().next().unwrap().attach().unwrap(),
            clock: Clock::started_at(Duration::from_secs(1)),
            events: broadcast::channel(1).0,
            packets: broadcast::channel(1).0,
            waiting: HashMap::new(),
            next_tick: tokio::time::Instant::now(),
            is_first: false,
            parts: [].into(),
            overrun: 0,
            workers: pool.workers(mpsc::unbounded_channel().0),
        }
    }

    #[tokio::test]
    async fn the_endpoint_of_each_part_learns_at_the_next_tick_that_the_wall_clock_was_set() {
        let mut driver = started_in_1970();
        let now = driver.clock.now();
        assert!(driver.endpoint.wall_clock(now) < 60_000);
        let before = now_ms();
        driver.timeout();
        let shown = driver.endpoint.wall_clock(driver.clock.now());
        // Each of the two clocks cuts off what is less than a millisecond.
        assert!((before.saturating_sub(2)..=now_ms().saturating_add(2)).contains(&shown), "{shown}");
        assert!(driver.clock.now().as_millis() < 60_000, "instants go on from where they were");
    }
}
