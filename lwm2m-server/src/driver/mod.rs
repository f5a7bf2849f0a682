//! The only owner of sockets: runs an endpoint under tokio, asks the credentials what the endpoint asks, and serves the
//! handle.
//!
//! One task on a thread of its own reads, answers inline and writes; nothing is handed over between tasks on the way up,
//! and neither the HTTP interface nor a slow listener takes its time. Invariant: after each input everything the endpoint
//! has to say is drained before the task waits again.

mod clock;
mod settle;
mod sockets;

use core::future::poll_fn;
use core::pin::pin;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_coap::Instant;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::credentials::Credentials;
use crate::endpoint::{Config, Endpoint, Packet, RequestId};
use crate::event::Event;
use crate::server::{Answer, Call, RequestError, Server};

use clock::Clock;
pub use settle::{execute, settle, tick};
pub use sockets::{Addresses, StartError};
use sockets::{Arrival, Bound, Sockets};

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The addresses to listen on; `None` opens no such socket. Port 0 lets the system choose.
    pub addresses: Addresses,
    /// Limits and times of the endpoint.
    pub endpoint: Config,
}

/// A started server.
#[derive(Debug)]
pub struct Running {
    /// The handle; clone it as needed.
    pub server: Server,
    /// The addresses that were bound.
    pub addresses: Addresses,
    /// Ends with the thread of the sockets, when the last handle is dropped; aborting it stops nothing.
    pub task: JoinHandle<()>,
}

/// Opens the sockets and starts the thread that owns them. Must be called within a tokio runtime.
///
/// # Errors
/// [`StartError`] when an address cannot be bound or the thread cannot be started.
pub async fn start(settings: Settings, credentials: Arc<Credentials>) -> Result<Running, StartError> {
    let bound = Bound::open(&settings.addresses)?;
    let addresses = bound.addresses();
    let (calls, receiver) = mpsc::channel(CALLS);
    let (events, _) = broadcast::channel(EVENTS);
    let (packets, _) = broadcast::channel(EVENTS);
    let server = Server::new(calls, events.clone(), packets.clone());
    let (ready, is_ready) = oneshot::channel();
    let (done, ended) = oneshot::channel::<()>();
    let run = move || {
        let _done = done;
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
            endpoint: Endpoint::new(settings.endpoint),
            credentials,
            sockets,
            clock: Clock::start(),
            events,
            packets,
            waiting: HashMap::new(),
            next_tick: tokio::time::Instant::now(),
        };
        // Who started it may be gone already; then so are the handles.
        let _ = ready.send(Ok(()));
        runtime.block_on(driver.run(receiver));
    };
    let thread = std::thread::Builder::new()
        .name("lwm2m-packets".to_owned())
        .spawn(run)
        .map_err(StartError::Thread)?;
    if let Ok(Err(error)) = is_ready.await {
        return Err(StartError::Thread(error));
    }
    let task = tokio::spawn(async move {
        // Nothing is ever sent: the sender goes with the thread, whose panic is passed on.
        let _ = ended.await;
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
    Ok(Running { server, addresses, task })
}

/// Calls that may wait for the driver.
const CALLS: usize = 1024;
/// Events and messages a slow listener may lag behind.
const EVENTS: usize = 4096;
/// How often the credentials are told that time passes.
const TICK: Duration = Duration::from_secs(1);
/// Datagrams read before callers and timers get their turn.
const BURST: usize = 64;
/// The largest datagram read or written. No message is as long: blocks have 1024 bytes.
const DATAGRAM: usize = 2048;

struct Driver {
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
    sockets: Sockets,
    clock: Clock,
    events: broadcast::Sender<Event>,
    packets: broadcast::Sender<Packet>,
    waiting: HashMap<RequestId, oneshot::Sender<Result<Answer, RequestError>>>,
    next_tick: tokio::time::Instant,
}

impl Driver {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
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
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => return,
                },
                () = &mut sleep => self.timeout(),
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

    fn timeout(&mut self) {
        self.watch();
        let now = self.clock.now();
        self.endpoint.handle_timeout(now);
        if tokio::time::Instant::now() >= self.next_tick {
            self.next_tick = tokio::time::Instant::now().checked_add(TICK).unwrap_or(self.next_tick);
            tick(&mut self.endpoint, &self.credentials, now);
        }
    }

    /// Asks the credentials, sends what is to be sent and tells callers and listeners, until nothing is left.
    fn drain(&mut self, now: Instant, out: &mut [u8]) {
        let sockets = &self.sockets;
        settle(&mut self.endpoint, &self.credentials, now, &mut fill, out, &mut |transmit, out| {
            sockets.send(transmit, out);
        });
        while let Some(transmit) = self.endpoint.poll_transmit(now, &mut fill, out) {
            self.sockets.send(&transmit, out);
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

    /// Traces messages while somebody listens to them.
    fn watch(&mut self) {
        self.endpoint.set_trace(self.packets.receiver_count() > 0);
    }

    fn call(&mut self, call: Call) {
        self.watch();
        let now = self.clock.now();
        match call {
            Call::Request { endpoint, operation, timeout, answer } => {
                match self.endpoint.request(now, &endpoint, operation, timeout) {
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
            Call::DropSessions { endpoint, role, generation, answer } => {
                let reason = "closed by the operator";
                let _ = answer.send(self.endpoint.close_sessions(now, &endpoint, role, generation, reason));
            }
            Call::CarryOut { commands, answer } => {
                for command in commands {
                    execute(&mut self.endpoint, now, command);
                }
                let _ = answer.send(());
            }
            Call::Counters { answer } => {
                let mut counters = *self.endpoint.counters();
                counters.oversized = self.sockets.oversized;
                counters.unsent = self.sockets.unsent.get();
                let _ = answer.send(counters.list());
            }
        }
    }
}

/// The operating system's randomness. Without it no key may be made, so there is nothing left to do.
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}
