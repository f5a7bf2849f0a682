//! Which request of which device is next, and what becomes of it: a state machine without store, sockets or clock.
//!
//! 1. A request is added and waits. Its device is asked for ([`Effect::Ask`]): it may be awake.
//! 2. A device that is awake gets the next one: marked as sent, then [`Effect::Send`].
//! 3. The [`Report`] ends it, or lets it wait again; a device that answered gets the next one.
//! 4. A device that sleeps is asked for again when it is heard.
//!
//! Invariant: what [`Machine::take_changes`] gives is written, in this order, before the effects that came with it are carried
//! out; so what left is known to have left, whenever the server ends.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Head, Limits, State};
use crate::store::{AuditNote, RequestChange};

/// The queues of all devices.
#[derive(Debug)]
pub(crate) struct Machine {
    limits: Limits,
    devices: HashMap<Arc<str>, Device>,
    /// When each request that waits expires.
    expiries: BTreeMap<(u64, u64), Arc<str>>,
    /// When each one that is kept ended.
    ended: BTreeMap<(u64, u64), Arc<str>>,
    /// Devices that are asked for again at a time.
    resting: BTreeSet<(u64, Arc<str>)>,
    /// Devices that are awake while as many requests are on their way as may.
    line: VecDeque<Arc<str>>,
    on_their_way: usize,
    last_id: u64,
    changes: Vec<RequestChange>,
    effects: Vec<Effect>,
}

/// The requests of one device.
#[derive(Debug, Default)]
struct Device {
    /// Those that wait, in the order in which they leave.
    waiting: BTreeMap<(Reverse<u8>, u64), Head>,
    sent: Option<(u64, Head)>,
    /// When those that are kept ended, oldest first.
    ended: BTreeSet<(u64, u64)>,
    phase: Phase,
    /// It was heard since it was asked for.
    is_heard: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It sleeps, or nothing waits.
    #[default]
    Idle,
    /// Whether it is awake is asked.
    Asked,
    /// It is awake, and stands in the line.
    InLine,
    Sending,
    /// It is asked for again at a time.
    Resting(u64),
}

/// What is to be done once the changes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask whether a device is awake; then call [`Machine::stands`].
    Ask(Arc<str>),
    /// Send a request; then call [`Machine::report`].
    Send(Arc<str>, u64),
    /// Tell where a request stands now.
    Tell(Arc<str>, u64, State),
}

/// What became of a request that was to be sent.
#[derive(Debug)]
pub(crate) enum Report {
    /// It ended, with an answer of the device.
    Answered { state: State, outcome: Zeroizing<Vec<u8>>, audit: Option<AuditNote> },
    /// It left, and no answer came.
    Unanswered { audit: Option<AuditNote> },
    /// It did not leave.
    NotSent,
    /// The server is stopping: the next run goes on with it.
    Stopped,
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many for this device.
    Device(usize),
    /// So many for all devices.
    Server(usize),
}

/// Why a request was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    /// There is no request with this id that has not ended.
    Unknown,
    /// It is on its way.
    Sent,
    /// The server is stopping.
    Stopped,
}

/// How long a device is left alone to which a request did not get out, in milliseconds.
const REST: u64 = 1_000;

impl Machine {
    pub(crate) fn new(limits: Limits, last_id: u64) -> Self {
        Self {
            limits,
            devices: HashMap::new(),
            expiries: BTreeMap::new(),
            ended: BTreeMap::new(),
            resting: BTreeSet::new(),
            line: VecDeque::new(),
            on_their_way: 0,
            last_id,
            changes: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Goes on with what a former run left.
    /// `audit` makes the row of one whose outcome nobody knows.
    pub(crate) fn restore(
        &mut self,
        now: u64,
        heads: impl IntoIterator<Item = (Arc<str>, u64, Head)>,
        audit: impl Fn(&str, u64) -> Option<AuditNote>,
    ) {
        for (endpoint, id, head) in heads {
            self.last_id = self.last_id.max(id);
            match (head.state, head.ended_ms) {
                (State::Queued, _) => self.wait(&endpoint, id, head),
                // It may have left before the end.
                (State::Sent, _) => {
                    let audit = audit(&endpoint, id).filter(|_| !head.is_repeatable);
                    self.unanswered(now, &endpoint, (id, head), audit);
                }
                (_, ended) => self.keep(&endpoint, id, ended.unwrap_or(head.queued_ms)),
            }
        }
        self.tick(now);
        self.heard_all();
    }

    /// Adds a request; its id is good once the changes are written.
    pub(crate) fn add(
        &mut self,
        endpoint: &Arc<str>,
        head: Head,
        body: Zeroizing<Vec<u8>>,
        audit: impl FnOnce(u64) -> Option<AuditNote>,
    ) -> Result<u64, Full> {
        let waits = self.devices.get(endpoint).map_or(0, Device::open);
        if waits >= self.limits.queued_per_device {
            return Err(Full::Device(self.limits.queued_per_device));
        }
        if self.expiries.len() >= self.limits.queued {
            return Err(Full::Server(self.limits.queued));
        }
        self.last_id = self.last_id.saturating_add(1);
        let id = self.last_id;
        self.wait(endpoint, id, head);
        let change = RequestChange { body: Some(body), audit: audit(id), ..self.put(endpoint, id, head) };
        self.changes.push(change);
        self.effects.push(Effect::Tell(Arc::clone(endpoint), id, head.state));
        self.ask(endpoint);
        Ok(id)
    }

    /// Whether requests of a device wait or are on their way.
    pub(crate) fn is_busy(&self, endpoint: &str) -> bool {
        self.devices.get(endpoint).is_some_and(|device| device.open() > 0)
    }

    /// Takes a request out that has not left.
    pub(crate) fn cancel(
        &mut self,
        now: u64,
        endpoint: &Arc<str>,
        id: u64,
        audit: AuditNote,
    ) -> Result<(), NotCancelled> {
        let device = self.devices.get_mut(endpoint).ok_or(NotCancelled::Unknown)?;
        if device.sent.is_some_and(|(sent, _)| sent == id) {
            return Err(NotCancelled::Sent);
        }
        let head = self.take(endpoint, |key| key.1 == id).ok_or(NotCancelled::Unknown)?;
        self.end(now, endpoint, head, State::Cancelled, None, Some(audit));
        Ok(())
    }

    /// A device was heard.
    pub(crate) fn heard(&mut self, endpoint: &Arc<str>) {
        if let Some(device) = self.devices.get_mut(endpoint) {
            device.is_heard = true;
            self.ask(endpoint);
        }
    }

    /// Any device may have been heard.
    pub(crate) fn heard_all(&mut self) {
        let open = self.devices.iter().filter(|(_, device)| device.open() > 0);
        let open: Vec<Arc<str>> = open.map(|(endpoint, _)| Arc::clone(endpoint)).collect();
        for endpoint in open {
            self.heard(&endpoint);
        }
    }

    /// Whether a device is awake: the answer to [`Effect::Ask`].
    pub(crate) fn stands(&mut self, now: u64, endpoint: &Arc<str>, is_awake: bool) {
        let Some(device) = self.devices.get_mut(endpoint).filter(|device| device.phase == Phase::Asked)
        else {
            return;
        };
        device.phase = Phase::Idle;
        if is_awake {
            self.go(now, endpoint);
        } else if device.is_heard {
            self.ask(endpoint);
        }
    }

    /// What became of a request: the answer to [`Effect::Send`].
    pub(crate) fn report(&mut self, now: u64, endpoint: &Arc<str>, id: u64, report: Report) {
        let Some(device) = self.devices.get_mut(endpoint) else { return };
        let Some((_, mut head)) = device.sent.take_if(|(sent, _)| *sent == id) else { return };
        device.phase = Phase::Idle;
        self.on_their_way = self.on_their_way.saturating_sub(1);
        match report {
            Report::Answered { state, outcome, audit } => {
                self.end(now, endpoint, (id, head), state, Some(outcome), audit);
                self.go(now, endpoint);
            }
            Report::Unanswered { audit } => {
                self.unanswered(now, endpoint, (id, head), audit);
                self.rest(now, endpoint);
            }
            Report::NotSent => {
                head.attempts = head.attempts.saturating_sub(1);
                self.wait_again(endpoint, id, head);
                self.rest(now, endpoint);
            }
            // On disk it stays sent.
            Report::Stopped => (device.sent, device.phase) = (Some((id, head)), Phase::Sending),
        }
        while self.on_their_way < self.limits.at_once
            && let Some(next) = self.line.pop_front()
        {
            self.go(now, &next);
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: u64) {
        while let Some((&(at, id), endpoint)) = self.expiries.first_key_value()
            && at <= now
        {
            let endpoint = Arc::clone(endpoint);
            match self.take(&endpoint, |key| key.1 == id) {
                Some(head) => self.end(now, &endpoint, head, State::Expired, None, None),
                None => drop(self.expiries.remove(&(at, id))),
            }
        }
        let oldest = now.saturating_sub(milliseconds(self.limits.kept_for));
        while let Some((&(at, id), endpoint)) = self.ended.first_key_value()
            && at < oldest
        {
            let endpoint = Arc::clone(endpoint);
            self.forget(&endpoint, (at, id));
        }
        while let Some((at, endpoint)) = self.resting.pop_first() {
            if at > now {
                self.resting.insert((at, endpoint));
                break;
            }
            if let Some(device) = self.devices.get_mut(&endpoint)
                && device.phase == Phase::Resting(at)
            {
                device.phase = Phase::Idle;
                self.ask(&endpoint);
            }
        }
    }

    /// When to call [`tick`](Self::tick), in milliseconds since 1970.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let expires = self.expiries.first_key_value().map(|(key, _)| key.0);
        let kept_for = milliseconds(self.limits.kept_for).saturating_add(1);
        let forgotten = self.ended.first_key_value().map(|(key, _)| key.0.saturating_add(kept_for));
        let rested = self.resting.first().map(|(at, _)| *at);
        [expires, forgotten, rested].into_iter().flatten().min()
    }

    /// What is to be written now.
    pub(crate) fn take_changes(&mut self) -> Vec<RequestChange> {
        core::mem::take(&mut self.changes)
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// What is to be done once it is written.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    /// How many requests are on their way.
    pub(crate) const fn on_their_way(&self) -> usize {
        self.on_their_way
    }

    /// Asks for a device when something waits for it and nothing is under way.
    fn ask(&mut self, endpoint: &Arc<str>) {
        let Some(device) = self.devices.get_mut(endpoint) else { return };
        if !device.waiting.is_empty() && matches!(device.phase, Phase::Idle | Phase::Resting(_)) {
            (device.phase, device.is_heard) = (Phase::Asked, false);
            self.effects.push(Effect::Ask(Arc::clone(endpoint)));
        }
    }

    fn rest(&mut self, now: u64, endpoint: &Arc<str>) {
        if let Some(device) = self.devices.get_mut(endpoint) {
            let at = now.saturating_add(REST);
            device.phase = Phase::Resting(at);
            self.resting.insert((at, Arc::clone(endpoint)));
        }
    }

    /// Sends the next request of a device that is awake, or lets it stand in the line.
    fn go(&mut self, now: u64, endpoint: &Arc<str>) {
        let is_full = self.on_their_way >= self.limits.at_once;
        let Some(device) = self.devices.get_mut(endpoint) else { return };
        if is_full && !device.waiting.is_empty() {
            device.phase = Phase::InLine;
            return self.line.push_back(Arc::clone(endpoint));
        }
        device.phase = Phase::Idle;
        while let Some((id, mut head)) = self.take(endpoint, |_| true) {
            if head.expires_ms <= now {
                self.end(now, endpoint, (id, head), State::Expired, None, None);
                continue;
            }
            head.state = State::Sent;
            head.attempts = head.attempts.saturating_add(1);
            let change = self.put(endpoint, id, head);
            self.changes.push(change);
            if let Some(device) = self.devices.get_mut(endpoint) {
                (device.sent, device.phase) = (Some((id, head)), Phase::Sending);
            }
            self.on_their_way = self.on_their_way.saturating_add(1);
            self.effects.push(Effect::Tell(Arc::clone(endpoint), id, State::Sent));
            return self.effects.push(Effect::Send(Arc::clone(endpoint), id));
        }
    }

    /// A request left, or may have left, and got no answer.
    fn unanswered(
        &mut self,
        now: u64,
        endpoint: &Arc<str>,
        (id, head): (u64, Head),
        audit: Option<AuditNote>,
    ) {
        if head.is_repeatable && head.attempts < self.limits.attempts {
            self.wait_again(endpoint, id, head);
        } else {
            self.end(now, endpoint, (id, head), State::Unknown, None, audit);
        }
    }

    fn wait(&mut self, endpoint: &Arc<str>, id: u64, head: Head) {
        self.expiries.insert((head.expires_ms, id), Arc::clone(endpoint));
        let device = self.devices.entry(Arc::clone(endpoint)).or_default();
        device.waiting.insert((Reverse(head.priority), id), head);
    }

    fn wait_again(&mut self, endpoint: &Arc<str>, id: u64, mut head: Head) {
        head.state = State::Queued;
        self.wait(endpoint, id, head);
        let change = self.put(endpoint, id, head);
        self.changes.push(change);
    }

    /// Takes the first request out that is meant.
    fn take(
        &mut self,
        endpoint: &str,
        is_meant: impl Fn(&(Reverse<u8>, u64)) -> bool,
    ) -> Option<(u64, Head)> {
        let device = self.devices.get_mut(endpoint)?;
        let key = device.waiting.keys().copied().find(is_meant)?;
        let head = device.waiting.remove(&key)?;
        self.expiries.remove(&(head.expires_ms, key.1));
        Some((key.1, head))
    }

    fn end(
        &mut self,
        now: u64,
        endpoint: &Arc<str>,
        (id, mut head): (u64, Head),
        state: State,
        outcome: Option<Zeroizing<Vec<u8>>>,
        audit: Option<AuditNote>,
    ) {
        (head.state, head.ended_ms) = (state, Some(now));
        let change = RequestChange { outcome, audit, ..self.put(endpoint, id, head) };
        self.changes.push(change);
        self.effects.push(Effect::Tell(Arc::clone(endpoint), id, state));
        self.keep(endpoint, id, now);
    }

    /// Keeps an ended request, and the oldest ones no longer.
    fn keep(&mut self, endpoint: &Arc<str>, id: u64, ended: u64) {
        self.ended.insert((ended, id), Arc::clone(endpoint));
        let device = self.devices.entry(Arc::clone(endpoint)).or_default();
        device.ended.insert((ended, id));
        if device.ended.len() > self.limits.kept_per_device
            && let Some(oldest) = device.ended.first().copied()
        {
            self.forget(endpoint, oldest);
        }
        if self.ended.len() > self.limits.kept
            && let Some((&oldest, endpoint)) = self.ended.first_key_value()
        {
            let endpoint = Arc::clone(endpoint);
            self.forget(&endpoint, oldest);
        }
    }

    fn forget(&mut self, endpoint: &Arc<str>, ended: (u64, u64)) {
        self.ended.remove(&ended);
        self.changes.push(RequestChange {
            endpoint: Arc::clone(endpoint),
            id: ended.1,
            head: None,
            body: None,
            outcome: None,
            audit: None,
        });
        if let Some(device) = self.devices.get_mut(endpoint) {
            device.ended.remove(&ended);
            if device.open() == 0 && device.ended.is_empty() {
                self.devices.remove(endpoint);
            }
        }
    }

    fn put(&self, endpoint: &Arc<str>, id: u64, head: Head) -> RequestChange {
        RequestChange {
            endpoint: Arc::clone(endpoint),
            id,
            head: Some(head),
            body: None,
            outcome: None,
            audit: None,
        }
    }
}

impl Device {
    /// Requests that have not ended.
    fn open(&self) -> usize {
        self.waiting.len().saturating_add(usize::from(self.sent.is_some()))
    }
}

fn milliseconds(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
