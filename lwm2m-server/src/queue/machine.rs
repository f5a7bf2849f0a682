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

use serde_json::json;
use zeroize::Zeroizing;

use super::{Head, Limits, State};
use crate::credentials::Happened;
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
    /// Devices that were awake while as many requests were on their way as may.
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
    /// How long it was left alone the last time, in milliseconds; 0 since it was heard.
    rested: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It sleeps, or nothing waits.
    #[default]
    Idle,
    /// Whether it is awake is asked.
    Asked,
    /// It was awake, and stands in the line.
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
    /// It can never leave.
    Unsendable { why: &'static str },
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

/// How long a device is left alone to which a request did not get out, in milliseconds. It doubles each time, until the device
/// answers or is heard.
const REST: u64 = 1_000;
/// The longest time that it is left alone, in milliseconds.
const LONGEST_REST: u64 = 60_000;
/// Who ends what no one asked to end, in the audit log.
const SERVER: &str = "server";

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
                    let audit = audit(&endpoint, id);
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

    /// Takes a request out that is not on its way.
    pub(crate) fn cancel(
        &mut self,
        now: u64,
        endpoint: &Arc<str>,
        id: u64,
        actor: Arc<str>,
    ) -> Result<(), NotCancelled> {
        let device = self.devices.get_mut(endpoint).ok_or(NotCancelled::Unknown)?;
        if device.sent.is_some_and(|(sent, _)| sent == id) {
            return Err(NotCancelled::Sent);
        }
        let head = self.take(endpoint, |key| key.1 == id).ok_or(NotCancelled::Unknown)?;
        self.give_up(now, endpoint, head, State::Cancelled, actor, None);
        Ok(())
    }

    /// A device was heard.
    pub(crate) fn heard(&mut self, endpoint: &Arc<str>) {
        if let Some(device) = self.devices.get_mut(endpoint) {
            (device.is_heard, device.rested) = (true, 0);
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
        let before = self.on_their_way;
        if let Some(device) = self.devices.get_mut(endpoint).filter(|device| device.phase == Phase::Asked) {
            device.phase = Phase::Idle;
            if is_awake {
                self.go(now, endpoint);
            } else if device.is_heard {
                self.ask(endpoint);
            }
        }
        if self.on_their_way == before {
            self.call_next();
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
                device.rested = 0;
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
            Report::Unsendable { why } => {
                head.attempts = head.attempts.saturating_sub(1);
                self.give_up(now, endpoint, (id, head), State::Failed, SERVER.into(), Some(why));
                self.go(now, endpoint);
            }
            // On disk it stays sent.
            Report::Stopped => (device.sent, device.phase) = (Some((id, head)), Phase::Sending),
        }
        self.call_next();
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: u64) {
        while let Some((&(at, id), endpoint)) = self.expiries.first_key_value()
            && at <= now
        {
            let endpoint = Arc::clone(endpoint);
            match self.take(&endpoint, |key| key.1 == id) {
                Some(head) => self.give_up(now, &endpoint, head, State::Expired, SERVER.into(), None),
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
            if let Phase::Resting(at) = device.phase {
                self.resting.remove(&(at, Arc::clone(endpoint)));
            }
            (device.phase, device.is_heard) = (Phase::Asked, false);
            self.effects.push(Effect::Ask(Arc::clone(endpoint)));
        }
    }

    /// Asks for the next device in the line when there is room: it may have fallen asleep there. One is called for each that
    /// makes room or does not use it, so that no more are asked for than may go. An entry may be older than its device.
    fn call_next(&mut self) {
        while self.on_their_way < self.limits.at_once
            && let Some(endpoint) = self.line.pop_front()
        {
            if let Some(device) = self.devices.get_mut(&endpoint)
                && device.phase == Phase::InLine
            {
                device.phase = Phase::Idle;
                if !device.waiting.is_empty() {
                    return self.ask(&endpoint);
                }
            }
        }
    }

    fn rest(&mut self, now: u64, endpoint: &Arc<str>) {
        if let Some(device) = self.devices.get_mut(endpoint) {
            device.rested = device.rested.saturating_mul(2).clamp(REST, LONGEST_REST);
            let at = now.saturating_add(device.rested);
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
                self.give_up(now, endpoint, (id, head), State::Expired, SERVER.into(), None);
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
        if head.is_repeatable && head.attempts < self.limits.attempts && head.expires_ms > now {
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
        self.effects.push(Effect::Tell(Arc::clone(endpoint), id, State::Queued));
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

    /// Ends a request that is not on its way, with the audit row of it. One that was sent before may have been executed: it is
    /// unknown, whatever ends it.
    fn give_up(
        &mut self,
        now: u64,
        endpoint: &Arc<str>,
        (id, head): (u64, Head),
        state: State,
        actor: Arc<str>,
        why: Option<&'static str>,
    ) {
        let what = match state {
            State::Cancelled => "request cancelled",
            State::Failed => "request failed",
            _ => "request expired",
        };
        let mut detail = format!("request {id}");
        if let Some(why) = why {
            detail = format!("{detail}: {why}");
        }
        let state = if head.attempts == 0 {
            state
        } else {
            detail.push_str(": unknown: it was sent and got no answer");
            State::Unknown
        };
        let outcome = why.map(|why| Zeroizing::new(json!({ "reason": why }).to_string().into_bytes()));
        let happened = Happened { role: None, generation: None, what, detail };
        self.end(now, endpoint, (id, head), state, outcome, Some(AuditNote { actor, happened }));
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

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::BTreeSet;

    use super::*;

    /// The machine with its disk: what is carried out was written before.
    struct Bench {
        machine: Machine,
        limits: Limits,
        now: u64,
        disk: BTreeMap<u64, (Arc<str>, Head)>,
        last_id: u64,
        asked: Vec<Arc<str>>,
        /// On their way, in the order in which they left.
        sent: Vec<(Arc<str>, u64)>,
        told: Vec<(u64, State)>,
        /// Actor, what happened, and detail of each row.
        audited: Vec<String>,
    }

    const NORMAL: u8 = 128;

    impl Bench {
        fn new(limits: Limits) -> Self {
            Self {
                machine: Machine::new(limits, 0),
                limits,
                now: 1_000_000,
                disk: BTreeMap::new(),
                last_id: 0,
                asked: Vec::new(),
                sent: Vec::new(),
                told: Vec::new(),
                audited: Vec::new(),
            }
        }

        fn add(&mut self, endpoint: &str, priority: u8, is_repeatable: bool) -> Result<u64, Full> {
            let head = Head {
                epoch: super::super::EPOCH,
                state: State::Queued,
                priority,
                is_repeatable,
                attempts: 0,
                queued_ms: self.now,
                expires_ms: self.now.saturating_add(100_000),
                ended_ms: None,
            };
            let id = self.machine.add(&endpoint.into(), head, Zeroizing::default(), |_| None);
            self.carry_out();
            id
        }

        fn carry_out(&mut self) {
            for change in self.machine.take_changes() {
                if change.body.is_some() {
                    self.last_id = self.last_id.max(change.id);
                }
                self.audited.extend(change.audit.map(|AuditNote { actor, happened }| {
                    format!("{actor}, {}: {}", happened.what, happened.detail)
                }));
                match change.head {
                    Some(head) => drop(self.disk.insert(change.id, (change.endpoint, head))),
                    None => drop(self.disk.remove(&change.id)),
                }
            }
            for effect in self.machine.take_effects() {
                match effect {
                    Effect::Ask(endpoint) => self.asked.push(endpoint),
                    Effect::Send(endpoint, id) => {
                        assert_eq!(self.state(id), State::Sent, "it is on disk before it leaves");
                        assert!(self.sent.iter().all(|(other, _)| *other != endpoint), "NSTART is 1");
                        self.sent.push((endpoint, id));
                    }
                    Effect::Tell(_, id, state) => {
                        assert_eq!(self.state(id), state, "it is on disk before it is told");
                        self.told.push((id, state));
                    }
                }
            }
        }

        fn state(&self, id: u64) -> State {
            self.disk.get(&id).map_or(State::Expired, |(_, head)| head.state)
        }

        /// Answers all that is asked.
        fn stand(&mut self, is_awake: bool) {
            while let Some(endpoint) = self.asked.pop() {
                self.machine.stands(self.now, &endpoint, is_awake);
                self.carry_out();
            }
        }

        fn heard(&mut self, endpoint: &str) {
            self.machine.heard(&endpoint.into());
            self.carry_out();
        }

        fn report(&mut self, at: usize, report: Report) -> u64 {
            let (endpoint, id) = self.sent.remove(at);
            self.machine.report(self.now, &endpoint, id, report);
            self.carry_out();
            id
        }

        fn tick(&mut self, after: u64) {
            self.now = self.now.saturating_add(after);
            self.machine.tick(self.now);
            self.carry_out();
        }

        fn cancel(&mut self, endpoint: &str, id: u64) -> Result<(), NotCancelled> {
            let cancelled = self.machine.cancel(self.now, &endpoint.into(), id, "operator".into());
            self.carry_out();
            cancelled
        }

        /// The server ends and begins again with what is on disk.
        fn crash(&mut self) {
            self.machine = Machine::new(self.limits, self.last_id);
            (self.asked, self.sent) = (Vec::new(), Vec::new());
            let heads: Vec<_> =
                self.disk.iter().map(|(id, (endpoint, head))| (Arc::clone(endpoint), *id, *head)).collect();
            self.machine.restore(self.now, heads, |endpoint, id| {
                let detail = format!("{endpoint}, request {id}: unknown");
                let happened = Happened { role: None, generation: None, what: "write", detail };
                Some(AuditNote { actor: "operator".into(), happened })
            });
            self.carry_out();
        }
    }

    fn done() -> Report {
        Report::Answered { state: State::Done, outcome: Zeroizing::default(), audit: None }
    }

    #[test]
    fn requests_wait_until_their_device_is_heard_and_leave_one_at_a_time_in_their_order() {
        let mut bench = Bench::new(Limits::default());
        for (priority, id) in [(NORMAL, 1), (200, 2), (NORMAL, 3), (200, 4)] {
            assert_eq!(bench.add("a", priority, true), Ok(id));
        }
        bench.stand(false);
        assert!(bench.sent.is_empty());
        bench.heard("b");
        assert!(bench.asked.is_empty(), "nothing waits for it");
        bench.heard("a");
        bench.stand(true);
        let mut order = Vec::new();
        while !bench.sent.is_empty() {
            assert_eq!(bench.sent.len(), 1);
            order.push(bench.report(0, done()));
        }
        assert_eq!(order, [2, 4, 1, 3]);
        assert!(!bench.machine.is_busy("a"));
    }

    #[test]
    fn a_device_that_is_heard_while_it_is_asked_for_is_asked_for_again() {
        let mut bench = Bench::new(Limits::default());
        bench.add("a", NORMAL, true).unwrap_or_default();
        // The answer is on its way when the device wakes.
        bench.heard("a");
        let asked = bench.asked.pop();
        bench.machine.stands(bench.now, &"a".into(), false);
        bench.carry_out();
        assert_eq!((asked.as_deref(), bench.asked.len()), (Some("a"), 1));
        bench.stand(true);
        assert_eq!(bench.sent.len(), 1);
    }

    #[test]
    fn what_got_no_answer_is_sent_again_or_unknown_as_its_method_is() {
        let mut bench = Bench::new(Limits { attempts: 2, ..Limits::default() });
        let (read, execute) = (bench.add("a", 1, true), bench.add("a", 0, false));
        bench.stand(true);
        for _ in 0..2 {
            assert_eq!(Ok(bench.report(0, Report::Unanswered { audit: None })), read);
            assert!(bench.sent.is_empty(), "a moment of rest");
            bench.tick(2 * REST);
            bench.stand(true);
        }
        assert_eq!(read.map(|id| bench.state(id)), Ok(State::Unknown), "it was sent twice");
        let of_read = bench.told.iter().filter(|(id, _)| Ok(*id) == read).map(|(_, state)| *state);
        assert_eq!(
            of_read.collect::<Vec<_>>(),
            [State::Queued, State::Sent, State::Queued, State::Sent, State::Unknown]
        );
        assert_eq!(Ok(bench.report(0, Report::Unanswered { audit: None })), execute);
        assert_eq!(execute.map(|id| bench.state(id)), Ok(State::Unknown));
        // What did not leave is sent whatever it is.
        let execute = bench.add("a", NORMAL, false);
        bench.stand(true);
        for _ in 0..9 {
            assert_eq!(Ok(bench.report(0, Report::NotSent)), execute);
            bench.heard("a");
            bench.stand(true);
        }
        assert_eq!(Ok(bench.report(0, done())), execute);
    }

    #[test]
    fn after_a_crash_what_was_sent_is_unknown_or_sent_again_and_what_waited_waits() {
        let mut bench = Bench::new(Limits::default());
        for (endpoint, is_repeatable) in [("a", false), ("b", true), ("c", false)] {
            bench.add(endpoint, NORMAL, is_repeatable).unwrap_or_default();
        }
        for endpoint in ["a", "b"] {
            bench.machine.stands(bench.now, &endpoint.into(), true);
        }
        bench.carry_out();
        assert_eq!(bench.sent.len(), 2);
        bench.crash();
        assert_eq!([1, 2, 3].map(|id| bench.state(id)), [State::Unknown, State::Queued, State::Queued]);
        bench.stand(true);
        let left: BTreeSet<u64> = bench.sent.iter().map(|(_, id)| *id).collect();
        assert_eq!(left, BTreeSet::from([2, 3]));
        assert_eq!(bench.add("a", NORMAL, true), Ok(4), "no id is given out twice");
        assert_eq!(bench.audited, ["operator, write: a, request 1: unknown"]);
        // One that may be repeated has its row when it was sent for the last time.
        bench.limits.attempts = 2;
        bench.crash();
        assert_eq!(bench.state(2), State::Unknown);
        assert_eq!(bench.audited.last().map(String::as_str), Some("operator, write: c, request 3: unknown"));
        assert!(bench.audited.contains(&"operator, write: b, request 2: unknown".to_owned()));
    }

    #[test]
    fn what_waits_too_long_expires_and_what_is_on_its_way_does_not() {
        let mut bench = Bench::new(Limits::default());
        for _ in 0..2 {
            bench.add("a", NORMAL, true).unwrap_or_default();
        }
        bench.stand(true);
        assert_eq!(bench.machine.next_deadline(), Some(bench.now.saturating_add(100_000)));
        bench.tick(100_000);
        assert_eq!([1, 2].map(|id| bench.state(id)), [State::Sent, State::Expired]);
        bench.report(0, Report::Unanswered { audit: None });
        bench.tick(0);
        assert_eq!(bench.state(1), State::Unknown, "it may have been executed");
        assert!(bench.told.ends_with(&[(2, State::Expired), (1, State::Unknown)]), "{:?}", bench.told);
        assert_eq!(
            bench.audited,
            ["server, request expired: request 2"],
            "the report has the row of the other"
        );
    }

    #[test]
    fn what_left_before_is_unknown_however_it_ends_and_what_did_not_leave_is_not() {
        let mut bench = Bench::new(Limits::default());
        for endpoint in ["a", "b", "c", "d"] {
            bench.add(endpoint, NORMAL, true).unwrap_or_default();
        }
        bench.stand(true);
        while let Some((_, id)) = bench.sent.last().cloned() {
            let report = if id < 3 { Report::Unanswered { audit: None } } else { Report::NotSent };
            bench.report(bench.sent.len().saturating_sub(1), report);
        }
        for (endpoint, id) in [("a", 1), ("c", 3)] {
            assert_eq!(bench.cancel(endpoint, id), Ok(()));
        }
        // Not by the clock: what expired is met when the device wakes.
        bench.now = bench.now.saturating_add(100_000);
        for endpoint in ["b", "d"] {
            bench.heard(endpoint);
        }
        bench.stand(true);
        let states = [1, 2, 3, 4].map(|id| bench.state(id));
        assert_eq!(states, [State::Unknown, State::Unknown, State::Cancelled, State::Expired]);
        bench.audited.sort();
        assert_eq!(
            bench.audited,
            [
                "operator, request cancelled: request 1: unknown: it was sent and got no answer",
                "operator, request cancelled: request 3",
                "server, request expired: request 2: unknown: it was sent and got no answer",
                "server, request expired: request 4",
            ]
        );
    }

    #[test]
    fn a_request_is_cancelled_before_it_left_and_not_afterwards() {
        let mut bench = Bench::new(Limits::default());
        for _ in 0..2 {
            bench.add("a", NORMAL, true).unwrap_or_default();
        }
        bench.stand(true);
        assert_eq!(bench.cancel("a", 1), Err(NotCancelled::Sent));
        assert_eq!(bench.cancel("b", 2), Err(NotCancelled::Unknown), "it is another device's");
        assert_eq!(bench.cancel("a", 2), Ok(()));
        assert_eq!(bench.cancel("a", 2), Err(NotCancelled::Unknown));
        assert_eq!(bench.state(2), State::Cancelled);
        bench.report(0, done());
        assert!(bench.sent.is_empty());
    }

    #[test]
    fn a_device_is_left_alone_longer_each_time_until_it_is_heard() {
        let mut bench = Bench::new(Limits::default());
        bench.add("a", NORMAL, false).unwrap_or_default();
        bench.stand(true);
        let mut rests = Vec::new();
        for _ in 0..7 {
            bench.report(0, Report::NotSent);
            let rest = bench.machine.resting.first().map_or(0, |(at, _)| at.saturating_sub(bench.now));
            rests.push(rest);
            if rest < LONGEST_REST {
                bench.tick(rest);
                bench.stand(true);
            }
            if bench.sent.is_empty() {
                break;
            }
        }
        assert_eq!(rests, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, LONGEST_REST]);
        bench.heard("a");
        assert!(bench.machine.resting.is_empty(), "its rest has ended");
        bench.stand(true);
        bench.report(0, Report::NotSent);
        assert_eq!(bench.machine.resting.first().map(|(at, _)| *at), Some(bench.now.saturating_add(REST)));
    }

    #[test]
    fn what_can_never_leave_fails_and_the_next_one_leaves() {
        let mut bench = Bench::new(Limits::default());
        for _ in 0..2 {
            bench.add("a", NORMAL, true).unwrap_or_default();
        }
        bench.stand(true);
        bench.report(0, Report::Unsendable { why: "it does not open" });
        assert_eq!([1, 2].map(|id| bench.state(id)), [State::Failed, State::Sent]);
        assert_eq!(bench.audited, ["server, request failed: request 1: it does not open"]);
        // Sent before, it may have been executed.
        bench.report(0, Report::Unanswered { audit: None });
        bench.heard("a");
        bench.stand(true);
        bench.report(0, Report::Unsendable { why: "it does not open" });
        assert_eq!(bench.state(2), State::Unknown);
    }

    #[test]
    fn as_many_wait_and_are_kept_as_may_and_nothing_is_left_of_a_device_afterwards() {
        let limits = Limits {
            queued_per_device: 3,
            queued: 5,
            kept_per_device: 2,
            kept: 3,
            kept_for: Duration::from_secs(60),
            ..Limits::default()
        };
        let mut bench = Bench::new(limits);
        for endpoint in ["a", "a", "a", "b", "b"] {
            assert!(bench.add(endpoint, NORMAL, true).is_ok());
        }
        assert_eq!(bench.add("a", NORMAL, true), Err(Full::Device(3)));
        assert_eq!(bench.add("b", NORMAL, true), Err(Full::Server(5)));
        bench.stand(true);
        while !bench.sent.is_empty() {
            bench.report(0, done());
        }
        let kept = |bench: &Bench| bench.disk.values().map(|(name, _)| name.to_string()).collect::<String>();
        assert_eq!(kept(&bench).len(), 3);
        bench.crash();
        assert_eq!(kept(&bench).len(), 3);
        bench.tick(60_001);
        assert_eq!(kept(&bench), "");
        let machine = &bench.machine;
        assert!(machine.devices.is_empty() && machine.ended.is_empty() && machine.expiries.is_empty());
        assert_eq!(machine.next_deadline(), None);
    }

    #[test]
    fn no_more_are_on_their_way_at_once_than_may_and_the_others_follow() {
        let mut bench = Bench::new(Limits { at_once: 2, ..Limits::default() });
        for endpoint in ["a", "b", "c", "d"] {
            bench.add(endpoint, NORMAL, true).unwrap_or_default();
        }
        bench.stand(true);
        assert_eq!(bench.sent.len(), 2);
        // One that stands in the line, whose request is taken out meanwhile, is in nobody's way, and can come again.
        let waiting: Vec<(Arc<str>, u64)> =
            bench.disk.iter().map(|(id, (endpoint, _))| (Arc::clone(endpoint), *id)).collect();
        let (name, id) =
            waiting.into_iter().find(|(_, id)| bench.state(*id) == State::Queued).unwrap_or_default();
        assert_eq!(bench.cancel(&name, id), Ok(()));
        bench.report(0, done());
        bench.stand(true);
        assert_eq!(bench.sent.len(), 2);
        bench.add(&name, NORMAL, true).unwrap_or_default();
        bench.stand(true);
        while !bench.sent.is_empty() {
            assert!(bench.sent.len() <= 2);
            bench.report(0, done());
            bench.stand(true);
        }
        assert!(bench.disk.values().all(|(_, head)| head.state.is_end()));
    }

    #[test]
    fn a_device_that_fell_asleep_in_the_line_is_not_sent_to_and_the_next_one_has_its_turn() {
        let mut bench = Bench::new(Limits { at_once: 1, ..Limits::default() });
        for endpoint in ["a", "b", "c", "d"] {
            bench.add(endpoint, NORMAL, true).unwrap_or_default();
            bench.stand(true);
        }
        let asked = |bench: &Bench| bench.asked.iter().map(ToString::to_string).collect::<Vec<_>>();
        bench.report(0, done());
        assert!(bench.sent.is_empty(), "it is asked first");
        assert_eq!(asked(&bench), ["b"]);
        let sleeping = bench.asked.pop().unwrap_or_default();
        bench.machine.stands(bench.now, &sleeping, false);
        bench.carry_out();
        assert_eq!(asked(&bench), ["c"]);
        bench.stand(true);
        bench.report(0, done());
        bench.stand(true);
        bench.report(0, done());
        assert_eq!([1, 2, 3, 4].map(|id| bench.state(id) == State::Done), [true, false, true, true]);
        bench.heard("b");
        bench.stand(true);
        assert_eq!(bench.report(0, done()), 2);
    }

    /// Whatever happens in whatever order, over crashes too: each request ends once, and what may not be repeated leaves once.
    #[test]
    fn a_random_life_loses_nothing_and_repeats_nothing_that_may_not_be() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap_or(0).checked_rem(limit).unwrap_or(0)
        };
        for _ in 0..300 {
            let mut bench = Bench::new(Limits { at_once: 2, attempts: 3, ..Limits::default() });
            let mut left: BTreeMap<u64, u32> = BTreeMap::new();
            let (mut once, mut added, mut ended) = (BTreeSet::new(), 0_u64, BTreeSet::new());
            for _ in 0..200 {
                let name = ["a", "b", "c"].get(below(3)).copied().unwrap_or("a");
                let before: BTreeSet<u64> = bench.sent.iter().map(|(_, id)| *id).collect();
                match below(9) {
                    0 | 1 => {
                        let is_repeatable = below(2) == 0;
                        if let Ok(id) = bench.add(name, u8::try_from(below(3)).unwrap_or(0), is_repeatable) {
                            added = added.saturating_add(1);
                            if !is_repeatable {
                                once.insert(id);
                            }
                        }
                    }
                    2 => bench.heard(name),
                    3 => {
                        let is_awake = below(3) > 0;
                        bench.stand(is_awake);
                    }
                    4 | 5 if !bench.sent.is_empty() => {
                        let at = below(bench.sent.len());
                        bench.report(at, done());
                    }
                    6 if !bench.sent.is_empty() => {
                        let at = below(bench.sent.len());
                        bench.report(at, Report::Unanswered { audit: None });
                    }
                    7 => bench.tick(u64::try_from(below(3_000)).unwrap_or(0)),
                    8 if below(4) == 0 => bench.crash(),
                    _ => drop(bench.cancel(name, u64::try_from(below(40)).unwrap_or(0))),
                }
                for (_, id) in &bench.sent {
                    if !before.contains(id) {
                        let count = left.entry(*id).or_default();
                        *count = count.saturating_add(1);
                        assert!(*count == 1 || !once.contains(id), "request {id} left {count} times");
                        assert!(*count <= 3);
                    }
                }
                for (id, state) in bench.told.drain(..).filter(|(_, state)| state.is_end()) {
                    assert!(ended.insert(id), "request {id} ended twice, {state:?} in the end");
                }
            }
            // All devices come awake and answer.
            for _ in 0..200 {
                bench.tick(REST);
                bench.stand(true);
                while !bench.sent.is_empty() {
                    bench.report(0, done());
                }
                for name in ["a", "b", "c"] {
                    bench.heard(name);
                }
            }
            let open = bench.disk.values().filter(|(_, head)| !head.state.is_end()).count();
            assert_eq!(open, 0);
            let told = bench.told.iter().filter(|(_, state)| state.is_end()).map(|(id, _)| *id);
            ended.extend(told);
            assert_eq!(u64::try_from(ended.len()), Ok(added));
        }
    }
}
