//! Starts the threads of a server: each has sockets on the same addresses, an endpoint that is one part of the server, and
//! the ways to the others.

use std::collections::HashMap;
use std::num::NonZeroU8;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::credentials::Credentials;
use crate::endpoint::{Addresses, Config, Endpoint, Part, Saved, Shared};
use crate::server::Server;

use super::clock::Clock;
use super::restore::{LastRun, Resumed, restore};
use super::sockets::{Bound, StartError};
use super::workers::Pool;
use super::{Arrivals, Driver, Way, fill};

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The addresses to listen on; `None` opens no such socket. Port 0 lets the system choose.
    pub addresses: Addresses,
    /// Limits and times of the endpoint.
    pub endpoint: Config,
    /// Threads that read packets, 1 to 255; `None` has one for each processor.
    pub threads: Option<NonZeroU8>,
    /// Threads for key agreements, signatures and certificates of handshakes, 1 to 255; `None` has one for each processor.
    pub workers: Option<NonZeroU8>,
}

impl Settings {
    fn threads(&self) -> NonZeroU8 {
        self.threads.unwrap_or_else(processors)
    }

    fn workers(&self) -> NonZeroU8 {
        self.workers.unwrap_or_else(processors)
    }
}

fn processors() -> NonZeroU8 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    NonZeroU8::new(u8::try_from(processors).unwrap_or(u8::MAX)).unwrap_or(NonZeroU8::MIN)
}

/// A started server.
#[derive(Debug)]
pub struct Running {
    /// The handle; clone it as needed.
    pub server: Server,
    /// The addresses that were bound.
    pub addresses: Addresses,
    /// Ends with the threads of the sockets, when the last handle is dropped; aborting it stops nothing. When one of them
    /// panics, all stop, every request ends with [`RequestError::Stopped`](crate::RequestError::Stopped), and this ends after
    /// them with the panic.
    pub task: JoinHandle<()>,
}

/// Stops all threads when the one that holds it panics: a part of a server is none.
struct Alarm(watch::Sender<bool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

/// Calls that may wait for one thread.
const CALLS: usize = 1024;
/// Datagrams that may wait for one thread, from all others.
const DATAGRAMS: usize = 4096;
/// Events and messages a slow listener may lag behind.
const EVENTS: usize = 4096;

/// Opens the sockets and starts the threads that own them. Must be called within a tokio runtime.
///
/// # Errors
/// [`StartError`] when an address cannot be bound or a thread cannot be started.
pub async fn start(settings: Settings, credentials: Arc<Credentials>) -> Result<Running, StartError> {
    resume(settings, credentials, LastRun::<[Saved; 0]>::default).await
}

/// As [`start`], and goes on with what [`Server::stop`] saved: no device that was saved notices more than a pause. Whose
/// credential is not good any more, or who came to a port where nobody listens any more, has to come again.
///
/// `take` is called once the addresses are bound.
///
/// # Errors
/// As those of [`start`].
pub async fn resume<I: IntoIterator<Item = Saved>>(
    settings: Settings,
    credentials: Arc<Credentials>,
    take: impl FnOnce() -> LastRun<I>,
) -> Result<Running, StartError> {
    let of = settings.threads();
    let bound = Bound::open(&settings.addresses, of)?;
    let addresses = bound.first().map(Bound::addresses).unwrap_or_default();
    let shared = Arc::new(Shared::new());
    let endpoint =
        |index| Endpoint::part(settings.endpoint.clone(), Part { index, of: of.get() }, Arc::clone(&shared));
    let mut endpoints: Vec<Endpoint> = (0..of.get()).map(endpoint).collect();
    // One for all parts: an instant of one is an instant of all, whenever the wall clock is set.
    let clock = Clock::start();
    let last = take();
    let resumed = restore(&mut endpoints, &shared, &credentials, &addresses, clock.now(), last, &mut fill);
    if resumed != Resumed::default() {
        tracing::info!("{resumed}");
    }
    let (events, _) = broadcast::channel(EVENTS);
    let (packets, _) = broadcast::channel(EVENTS);
    let (alarm, stop) = watch::channel(false);
    let pool =
        Pool::start(settings.workers(), &settings.endpoint.keys, &credentials).map_err(StartError::Thread)?;
    let (mut calls, mut parts, mut arrivals) = (Vec::new(), Vec::new(), Vec::new());
    let mut workers = Vec::new();
    for _ in 0..of.get() {
        let (call, called) = mpsc::channel(CALLS);
        let (datagram, datagrams) = mpsc::channel(DATAGRAMS);
        let (other, others) = mpsc::unbounded_channel();
        let (finish, finished) = mpsc::unbounded_channel();
        workers.push(pool.workers(finish));
        calls.push(call);
        parts.push(Way { datagrams: datagram, others: other });
        arrivals.push(Arrivals { calls: called, datagrams, others, finished, stop: stop.clone() });
    }
    let server = Server::new(calls.into(), Arc::clone(&shared), events.clone(), packets.clone());
    let parts: Arc<[Way]> = parts.into();
    let mut threads = JoinSet::new();
    let rooms = bound.into_iter().zip(arrivals).zip(workers);
    for ((index, endpoint), ((bound, arrivals), workers)) in (0..).zip(endpoints).zip(rooms) {
        let (credentials, events, packets) = (Arc::clone(&credentials), events.clone(), packets.clone());
        let parts = Arc::clone(&parts);
        let (ready, is_ready) = oneshot::channel();
        let (done, ended) = oneshot::channel::<()>();
        let alarm = Alarm(alarm.clone());
        let run = move || {
            let (_done, _alarm) = (done, alarm);
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let attached = built.and_then(|runtime| {
                let _guard = runtime.enter();
                Ok((bound.attach()?, runtime))
            });
            let (sockets, runtime) = match attached {
                Ok(attached) => attached,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let driver = Driver {
                endpoint,
                credentials,
                sockets,
                clock,
                events,
                packets,
                waiting: HashMap::new(),
                next_tick: tokio::time::Instant::now(),
                is_first: index == 0,
                parts,
                overrun: 0,
                workers,
            };
            // Who started it may be gone already; then so are the handles.
            let _ = ready.send(Ok(()));
            runtime.block_on(driver.run(arrivals));
        };
        let thread = std::thread::Builder::new()
            .name(format!("lwm2m-packets-{index}"))
            .spawn(run)
            .map_err(StartError::Thread)?;
        if let Ok(Err(error)) = is_ready.await {
            return Err(StartError::Thread(error));
        }
        threads.spawn(async move {
            // Nothing is ever sent: the sender goes with the thread, whose panic is passed on.
            let _ = ended.await;
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
    let task = tokio::spawn(async move {
        let mut panic = None;
        while let Some(ended) = threads.join_next().await {
            panic = panic.or(ended.err());
        }
        // All have closed their sockets by now.
        if let Some(error) = panic {
            std::panic::resume_unwind(error.into_panic());
        }
    });
    Ok(Running { server, addresses, task })
}
