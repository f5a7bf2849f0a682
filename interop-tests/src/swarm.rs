//! Any number of devices over few sockets: each is a whole client of this project.
//!
//! A server on loopback sees a device at an address of its own in 127/8; one socket sends for all of them and learns by
//! IP_PKTINFO whom a datagram is for. Towards another server each device has a socket, and with it a file descriptor.
//! Devices are spread over threads, each with a socket, and share nothing.
//!
//! What is measured is seen from the device: a latency runs from the moment at which the device is told to act until the
//! server's answer was processed.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices of devices are this module's own, and rates are floats"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Clock};

use lwm2m_client::objects::{Object, Path, defs};
use lwm2m_client::{
    AccountId, Client, Config, Event, FactoryAccount, Instant, Key, Notice, PresharedKey, Server,
    ShortServerId, Store,
};

use crate::load::{Plan, Stub, name};
use crate::random::Random;

mod sockets;

use sockets::Sockets;
pub use sockets::{MOST, address_of};

/// The client of one device: one account without a bootstrap server, two observations, short bodies.
type Core = Client<'static, 1, 2, 2, 0, 256, 64>;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Course {
    /// What all devices have in common.
    pub plan: Plan,
    /// What the endpoint names start with.
    pub prefix: String,
    /// How many devices.
    pub devices: usize,
    /// Threads, each with a socket.
    pub threads: usize,
    /// Devices that start in a second; as fast as `at_once` lets them without it.
    pub arrivals: Option<f64>,
    /// Devices that may be on their way into registration, or wait for an answer to an Update, at once.
    pub at_once: usize,
    /// Updates in a second, whether or not the server keeps up; without it as many as `at_once` lets through.
    pub updates: Option<f64>,
    /// Measurements in a second; each is a notification where the server observes `/3303/0/5700`.
    pub measurements: f64,
}

/// What the devices are to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Register.
    Register,
    /// Stay registered, answer what the server asks, and nothing more.
    Rest,
    /// Send Updates and measurements.
    Work,
    /// De-register.
    Leave,
    /// End.
    End,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Latencies of registrations, security included, in microseconds.
    pub registrations: Vec<u32>,
    /// Latencies of Updates in microseconds.
    pub updates: Vec<u32>,
    /// Updates that are not answered yet.
    pub unanswered: u64,
    /// Notifications sent.
    pub notifications: u64,
    /// Devices that de-registered.
    pub stopped: usize,
    /// Datagrams sent and received.
    pub datagrams: [u64; 2],
    /// Bytes of UDP payload sent and received.
    pub bytes: [u64; 2],
    /// What went wrong, in words, and how often.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    fn error(&mut self, what: impl ToString) {
        let count = self.errors.entry(what.to_string()).or_default();
        *count = count.saturating_add(1);
    }

    fn add(&mut self, mut other: Self) {
        self.registrations.append(&mut other.registrations);
        self.updates.append(&mut other.updates);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        self.notifications = self.notifications.saturating_add(other.notifications);
        self.stopped = self.stopped.saturating_add(other.stopped);
        for (all, more) in self
            .datagrams
            .iter_mut()
            .chain(&mut self.bytes)
            .zip(other.datagrams.into_iter().chain(other.bytes))
        {
            *all = all.saturating_add(more);
        }
        for (what, count) in other.errors {
            let all = self.errors.entry(what).or_default();
            *all = all.saturating_add(count);
        }
    }
}

/// The value below which the share `per_mille` of the sorted `latencies` lies.
#[must_use]
pub fn quantile(sorted: &[u32], per_mille: usize) -> Duration {
    let index = sorted.len().saturating_mul(per_mille).div_ceil(1000).saturating_sub(1);
    Duration::from_micros(sorted.get(index).copied().unwrap_or_default().into())
}

/// Running devices; they end when this is dropped.
#[derive(Debug)]
pub struct Swarm {
    phase: Arc<AtomicU8>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Swarm {
    /// Starts the threads; the devices begin to register.
    ///
    /// # Errors
    /// A socket cannot be opened or a thread cannot be started.
    pub fn start(course: &Course) -> io::Result<Self> {
        let phase = Arc::new(AtomicU8::new(Phase::Register as u8));
        let (mut tallies, mut threads) = (Vec::new(), Vec::new());
        for number in 0..course.threads.max(1) {
            let tally = Arc::new(Mutex::new(Tally::default()));
            tallies.push(Arc::clone(&tally));
            let (course, phase) = (course.clone(), Arc::clone(&phase));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut part = {
                let _guard = runtime.enter();
                Part::new(course, number, phase, tally)?
            };
            let run = move || runtime.block_on(part.run());
            threads.push(std::thread::Builder::new().name(format!("devices-{number}")).spawn(run)?);
        }
        Ok(Self { phase, tallies, threads })
    }

    /// Lets the devices go on to something else.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What was seen so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for tally in &self.tallies {
            all.add(tally.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        all
    }

    /// How many registered, sent an Update that was answered, and left; cheaper than [`Swarm::tally`].
    #[must_use]
    pub fn progress(&self) -> (usize, usize, usize) {
        self.tallies.iter().fold((0, 0, 0), |(registered, updated, stopped), tally| {
            let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            (
                tally.registrations.len().saturating_add(registered),
                tally.updates.len().saturating_add(updated),
                tally.stopped.saturating_add(stopped),
            )
        })
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.enter(Phase::End);
        for thread in self.threads.drain(..) {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

/// The devices of one thread.
struct Part {
    course: Course,
    /// This part has the devices `number`, `number + threads` and so on.
    number: usize,
    phase: Arc<AtomicU8>,
    tally: Arc<Mutex<Tally>>,
    seen: Tally,
    sockets: Sockets,
    store: Store,
    devices: Vec<Device>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    began: Clock,
    random: Random,
    /// Devices that are on their way into registration or wait for an answer to an Update.
    under_way: usize,
    /// Whose turn it is to update, and to measure.
    turns: [usize; 2],
    /// Updates and measurements begun in this phase.
    begun: [u64; 2],
    working_since: Option<Clock>,
    /// Devices that were told to leave.
    leaving: usize,
}

struct Device {
    client: Box<Core>,
    account: Option<AccountId>,
    began: Clock,
    ordered: Option<Clock>,
    measured: f64,
    notifications: u32,
    /// When the timer goes off that counts; others are void.
    armed: u64,
    is_registered: bool,
}

/// How often a part looks for what it is to do when nothing comes in.
const GLANCE: Duration = Duration::from_millis(5);
/// Datagrams handled before timers and orders get their turn, in batches.
const BURST: usize = 8;

impl Part {
    fn new(
        course: Course,
        number: usize,
        phase: Arc<AtomicU8>,
        tally: Arc<Mutex<Tally>>,
    ) -> io::Result<Self> {
        let mut seed = [0; 8];
        random_of_the_system(&mut seed);
        let mut store = Store::in_memory();
        let plan = &course.plan;
        let server = Server::new(0, ShortServerId::FIRST, plan.lifetime);
        let scheme = if plan.key.is_some() { "coaps" } else { "coap" };
        let uri = format!("{scheme}://{}", plan.server);
        // The identity is each device's own, and not read from here.
        let key = plan.key.as_deref().map(|key| PresharedKey { identity: b"-", key }.into());
        let account = FactoryAccount::server(1, &uri, server, key);
        lwm2m_client::provision(&[account], &mut |action| store.apply(action))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let sockets = Sockets::open(plan.server)?;
        Ok(Self {
            course,
            number,
            phase,
            tally,
            seen: Tally::default(),
            sockets,
            store,
            devices: Vec::new(),
            timers: BinaryHeap::new(),
            began: Clock::now(),
            random: Random::new(u64::from_le_bytes(seed)),
            under_way: 0,
            turns: [0; 2],
            begun: [0; 2],
            working_since: None,
            leaving: 0,
        })
    }

    async fn run(&mut self) {
        loop {
            let phase = self.phase.load(Ordering::Relaxed);
            if phase == Phase::End as u8 {
                return;
            }
            self.begin_what_is_due(phase);
            self.time_out();
            self.publish();
            let next = self.timers.peek().map_or(GLANCE, |Reverse((at, _))| {
                Duration::from_millis(at.saturating_sub(self.now().as_millis()))
            });
            for _ in 0..BURST {
                let arrived = self.sockets.receive(next.min(GLANCE)).await;
                if arrived.is_empty() {
                    break;
                }
                for (number, mut datagram) in arrived {
                    self.receive(number, &mut datagram);
                }
            }
        }
    }

    /// How much of something this part of all devices does.
    fn share(&self, rate: f64) -> f64 {
        rate / self.course.threads.max(1) as f64
    }

    /// Whether one more of something that has a rate is due, `done` having been done in `passed`.
    fn is_due(&self, rate: f64, passed: Duration, done: u64) -> bool {
        (done as f64) < self.share(rate) * passed.as_secs_f64()
    }

    fn begin_what_is_due(&mut self, phase: u8) {
        let at_once = self.course.at_once.div_ceil(self.course.threads.max(1)).max(1);
        let own = (self.number..self.course.devices).step_by(self.course.threads.max(1)).len();
        if phase == Phase::Register as u8 {
            while self.devices.len() < own {
                let is_due = match self.course.arrivals {
                    Some(rate) => self.is_due(rate, self.began.elapsed(), self.devices.len() as u64),
                    None => self.under_way < at_once,
                };
                if !is_due {
                    break;
                }
                self.start_device();
            }
        } else if phase == Phase::Work as u8 {
            let passed = self.working_since.get_or_insert_with(Clock::now).elapsed();
            for _ in 0..own {
                let is_due = match self.course.updates {
                    Some(rate) => self.is_due(rate, passed, self.begun[0]),
                    None => self.under_way < at_once,
                };
                if !is_due || !self.begin_update() {
                    break;
                }
            }
            while self.is_due(self.course.measurements, passed, self.begun[1]) && !self.devices.is_empty() {
                self.measure();
            }
        } else if phase == Phase::Leave as u8 {
            let room = at_once.saturating_add(self.seen.stopped).saturating_sub(self.leaving);
            for index in self.leaving..self.devices.len().min(self.leaving + room) {
                self.devices[index].client.deregister();
                self.drain(index);
                self.leaving = index + 1;
            }
        }
    }

    fn start_device(&mut self) {
        let number =
            self.devices.len().saturating_mul(self.course.threads.max(1)).saturating_add(self.number);
        // The name lives as long as the process, as that of a real device does.
        let endpoint: &'static str = name(&self.course.prefix, number).leak();
        self.devices.push(Device {
            client: Box::new(Client::new(Config::new(endpoint))),
            account: None,
            began: Clock::now(),
            ordered: None,
            measured: 20.5,
            notifications: 0,
            armed: u64::MAX,
            is_registered: false,
        });
        self.under_way = self.under_way.saturating_add(1);
        self.drain(self.devices.len().saturating_sub(1));
    }

    /// Lets the next device that is free send an Update; false when there is none.
    fn begin_update(&mut self) -> bool {
        for _ in 0..self.devices.len() {
            let index = self.turn(0);
            let device = &mut self.devices[index];
            if device.is_registered && device.ordered.is_none() {
                device.ordered = Some(Clock::now());
                device.client.update();
                self.under_way = self.under_way.saturating_add(1);
                self.seen.unanswered = self.seen.unanswered.saturating_add(1);
                self.begun[0] = self.begun[0].saturating_add(1);
                self.drain(index);
                return true;
            }
        }
        false
    }

    fn measure(&mut self) {
        let index = self.turn(1);
        let device = &mut self.devices[index];
        device.measured = if device.measured < 30.0 { device.measured + 0.5 } else { 20.0 };
        device.client.changed(Path::resource(3303, 0, 5700));
        self.begun[1] = self.begun[1].saturating_add(1);
        self.drain(index);
    }

    fn turn(&mut self, what: usize) -> usize {
        let index = self.turns[what];
        self.turns[what] = index.saturating_add(1).checked_rem(self.devices.len()).unwrap_or(0);
        index.min(self.devices.len().saturating_sub(1))
    }

    fn time_out(&mut self) {
        let now = self.now().as_millis();
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if self.devices[index].armed == at {
                self.devices[index].armed = u64::MAX;
                self.drain(index);
            }
        }
    }

    fn receive(&mut self, number: usize, datagram: &mut [u8]) {
        self.seen.datagrams[1] = self.seen.datagrams[1].saturating_add(1);
        self.seen.bytes[1] = self.seen.bytes[1].saturating_add(datagram.len() as u64);
        let threads = self.course.threads.max(1);
        let index = number.checked_div(threads).unwrap_or(0);
        let is_ours = number.checked_rem(threads) == Some(self.number);
        let now = self.now();
        let Some(device) = self.devices.get_mut(index).filter(|_| is_ours) else {
            return self.seen.error("a datagram came for no device");
        };
        let Some(account) = device.account else { return };
        let random = &mut self.random;
        with_objects(device.measured, |objects| {
            device.client.handle(now, account, datagram, objects, &mut |bytes| random.fill(bytes));
        });
        self.drain(index);
    }

    /// Sends and tells what a device has to, until it rests.
    fn drain(&mut self, index: usize) {
        let mut buffer = [0; 1280];
        loop {
            while self.transmit(index, &mut buffer) || self.act(index) {}
            let now = self.now();
            let device = &mut self.devices[index];
            let Some(at) = device.client.poll_timeout() else { break };
            if at > now {
                let at = at.as_millis();
                if at < device.armed {
                    device.armed = at;
                    self.timers.push(Reverse((at, index)));
                }
                break;
            }
            let random = &mut self.random;
            with_objects(device.measured, |objects| {
                device.client.handle_timeout(now, objects, &mut |bytes| random.fill(bytes));
            });
        }
        let device = &mut self.devices[index];
        let sent = device.client.counters().notifications;
        let new = sent.saturating_sub(core::mem::replace(&mut device.notifications, sent));
        self.seen.notifications = self.seen.notifications.saturating_add(new.into());
    }

    fn transmit(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let now = self.now();
        let number = index.saturating_mul(self.course.threads.max(1)).saturating_add(self.number);
        let device = &mut self.devices[index];
        let random = &mut self.random;
        let length = with_objects(device.measured, |objects| {
            let (_, sent) =
                device.client.poll_transmit(now, buffer, objects, &mut |bytes| random.fill(bytes))?;
            // It lies anywhere in the buffer.
            Some(sent.to_vec())
        });
        let Some(datagram) = length else { return false };
        match self.sockets.send(number, self.course.plan.server, &datagram) {
            Ok(()) => {
                self.seen.datagrams[0] = self.seen.datagrams[0].saturating_add(1);
                self.seen.bytes[0] = self.seen.bytes[0].saturating_add(datagram.len() as u64);
            }
            // As lost on the way.
            Err(error) => self.seen.error(format!("a datagram was not sent: {}", error.kind())),
        }
        true
    }

    /// Does the next thing a device asks for; false when there is none.
    fn act(&mut self, index: usize) -> bool {
        let number = index.saturating_mul(self.course.threads.max(1)).saturating_add(self.number);
        let device = &mut self.devices[index];
        let Some(event) = device.client.poll_event() else { return false };
        match event {
            // What all have in common is in one store, and nothing changes it.
            Event::Persist { id, .. } => device.client.persisted(id, Ok(())),
            Event::Load { id, key: Key::Identity(_) } => {
                device.client.loaded(id, Some(name(&self.course.prefix, number).as_bytes()));
            }
            Event::Load { id, key } => device.client.loaded(id, self.store.load(key)),
            Event::Resolve { account, .. } => {
                let opened = self.sockets.connect(number, self.course.plan.server);
                device.account = Some(account);
                device.client.resolved(account, opened.is_ok());
                if let Err(error) = opened {
                    self.seen.error(format!("no socket towards the server: {error}"));
                }
            }
            Event::Closed { .. } => device.account = None,
            // Only the first registration is measured: a later one follows a loss, which is counted as an error.
            Event::Notice(Notice::Registered { .. }) if !device.is_registered => {
                device.is_registered = true;
                self.seen.registrations.push(micros(device.began.elapsed()));
                self.under_way = self.under_way.saturating_sub(1);
            }
            Event::Notice(Notice::Updated { .. }) => {
                if let Some(ordered) = device.ordered.take() {
                    self.seen.updates.push(micros(ordered.elapsed()));
                    self.seen.unanswered = self.seen.unanswered.saturating_sub(1);
                    self.under_way = self.under_way.saturating_sub(1);
                }
            }
            Event::Notice(Notice::Deregistered { .. }) => {
                self.seen.stopped = self.seen.stopped.saturating_add(1);
            }
            Event::Notice(
                Notice::RegistrationRetry { reason, .. } | Notice::RegistrationFailed { reason, .. },
            ) => self.seen.error(reason),
            _ => {}
        }
        true
    }

    fn publish(&mut self) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = self.seen.stopped;
        let unanswered = self.seen.unanswered;
        let seen = core::mem::take(&mut self.seen);
        tally.unanswered = 0;
        tally.stopped = 0;
        tally.add(seen);
        self.seen.stopped = stopped;
        self.seen.unanswered = unanswered;
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn with_objects<R>(measured: f64, with: impl FnOnce(&mut [&mut dyn Object]) -> R) -> R {
    let mut device = Stub::with_value(&defs::DEVICE, measured);
    let mut temperature = Stub::with_value(&defs::TEMPERATURE, measured);
    with(&mut [&mut device, &mut temperature])
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn random_of_the_system(bytes: &mut [u8]) {
    assert!(getrandom::fill(bytes).is_ok(), "the operating system has randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<_> = (1..=1000).collect();
        assert_eq!(quantile(&sorted, 500), Duration::from_micros(500));
        assert_eq!(quantile(&sorted, 999), Duration::from_micros(999));
        assert_eq!(quantile(&sorted, 1000), Duration::from_micros(1000));
        assert_eq!(quantile(&[], 500), Duration::ZERO);
    }
}
