//! Which device is looked at next: a state machine without store, sockets or clock.
//!
//! 1. A device registers, or one of which something is waited for is heard: it stands in the line.
//! 2. [`Machine::next`] takes it out while fewer than so many are looked at; [`Machine::done`] says that it was.
//! 3. What is too much for the line, or was not heard, is found by going through the store: [`Machine::sweep`], then
//!    [`Machine::swept`] with some of the devices that it has.
//!
//! Invariants: no device is looked at twice at a time; what is kept is bounded, and nothing is kept of a device whose observations
//! stand; a device that registered while it was looked at is looked at again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What is looked at, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effort {
    /// What waits for an answer of its device.
    Waiting,
    /// What its device has refused, too: it has registered since.
    All,
}

/// The devices that are to be looked at.
#[derive(Debug)]
pub(super) struct Machine {
    at_once: usize,
    /// Devices that may stand in the line, and of which something may be waited for.
    most: usize,
    line: VecDeque<Arc<str>>,
    /// How those in the line are looked at.
    due: HashMap<Arc<str>, Effort>,
    /// Those that are looked at now.
    busy: HashMap<Arc<str>, Busy>,
    /// Devices that are registered and have not answered yet.
    waiting: HashSet<Arc<str>>,
    /// There are more of them.
    has_more: bool,
    sweep: Option<Sweep>,
    /// The store is to be gone through, again if it is already.
    wanted: Option<Effort>,
}

/// What came of a device while it was looked at.
#[derive(Debug, Default)]
struct Busy {
    /// How it is to be looked at again.
    again: Option<Effort>,
    /// Something of it waits for its answer.
    is_waiting: bool,
}

#[derive(Debug)]
struct Sweep {
    effort: Effort,
    /// The device before the next one.
    after: Option<Arc<str>>,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Wanted,
    UnderWay,
    /// It did not work; it is tried again at the next tick.
    Failed,
}

impl Machine {
    pub(super) fn new(at_once: usize, most: usize) -> Self {
        Self {
            at_once,
            most,
            line: VecDeque::new(),
            due: HashMap::new(),
            busy: HashMap::new(),
            waiting: HashSet::new(),
            has_more: false,
            sweep: None,
            wanted: None,
        }
    }

    /// A device is to be looked at.
    pub(super) fn want(&mut self, endpoint: &Arc<str>, effort: Effort) {
        if let Some(busy) = self.busy.get_mut(endpoint) {
            busy.again = busy.again.max(Some(effort));
        } else if let Some(due) = self.due.get_mut(endpoint) {
            *due = (*due).max(effort);
        } else if self.line.len() < self.most {
            self.due.insert(Arc::clone(endpoint), effort);
            self.line.push_back(Arc::clone(endpoint));
        } else {
            self.want_all(effort);
        }
    }

    /// A device was heard that had registered before. Of one that is looked at it is not known yet whether it has answered.
    pub(super) fn heard(&mut self, endpoint: &Arc<str>) {
        if self.has_more || self.waiting.contains(endpoint) || self.busy.contains_key(endpoint) {
            self.want(endpoint, Effort::Waiting);
        }
    }

    /// Something of a device waits, and is not to be asked for before that is heard.
    pub(super) fn wait(&mut self, endpoint: &Arc<str>) {
        if let Some(busy) = self.busy.get_mut(endpoint) {
            busy.is_waiting = true;
        } else if self.waiting.contains(endpoint) || self.waiting.len() < self.most {
            self.waiting.insert(Arc::clone(endpoint));
        } else {
            self.has_more = true;
        }
    }

    /// A device is not registered any more: nothing is waited for until it comes again.
    pub(super) fn left(&mut self, endpoint: &Arc<str>) {
        self.waiting.remove(endpoint);
    }

    /// Any device may have been heard.
    pub(super) fn want_all(&mut self, effort: Effort) {
        self.wanted = self.wanted.max(Some(effort));
    }

    /// Those that have not answered are asked again, and what could not be read is read.
    pub(super) fn tick(&mut self) {
        if let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.reading == Reading::Failed) {
            sweep.reading = Reading::Wanted;
        }
        if core::mem::take(&mut self.has_more) {
            self.want_all(Effort::Waiting);
        }
        let waiting: Vec<Arc<str>> = self.waiting.iter().cloned().collect();
        for endpoint in waiting {
            self.want(&endpoint, Effort::Waiting);
        }
    }

    /// The next device to look at; then call [`done`](Self::done).
    pub(super) fn next(&mut self) -> Option<(Arc<str>, Effort)> {
        if self.busy.len() >= self.at_once {
            return None;
        }
        let endpoint = self.line.pop_front()?;
        let effort = self.due.remove(&endpoint).unwrap_or(Effort::Waiting);
        self.busy.insert(Arc::clone(&endpoint), Busy::default());
        Some((endpoint, effort))
    }

    /// A device was looked at; whether something of it waits for its answer.
    pub(super) fn done(&mut self, endpoint: &Arc<str>, is_waiting: bool) {
        let busy = self.busy.remove(endpoint).unwrap_or_default();
        if is_waiting || busy.is_waiting {
            self.wait(endpoint);
        } else {
            self.waiting.remove(endpoint);
        }
        if let Some(effort) = busy.again {
            self.want(endpoint, effort);
        }
    }

    /// Whether the store is to be read from behind a device on, or from its beginning; then call [`swept`](Self::swept) or
    /// [`unread`](Self::unread).
    #[expect(clippy::option_option, reason = "used once")]
    pub(super) fn sweep(&mut self) -> Option<Option<Arc<str>>> {
        if self.sweep.is_none() {
            let effort = self.wanted.take()?;
            self.sweep = Some(Sweep { effort, after: None, reading: Reading::Wanted });
        }
        let sweep = self.sweep.as_mut()?;
        // What came by itself goes first.
        if sweep.reading != Reading::Wanted || !self.line.is_empty() {
            return None;
        }
        sweep.reading = Reading::UnderWay;
        Some(sweep.after.clone())
    }

    /// The devices that follow in the store; none at its end.
    pub(super) fn swept(&mut self, devices: &[Arc<str>]) {
        let Some(sweep) = self.sweep.as_mut() else { return };
        let effort = sweep.effort;
        match devices.last() {
            Some(last) => (sweep.after, sweep.reading) = (Some(Arc::clone(last)), Reading::Wanted),
            None => self.sweep = None,
        }
        for endpoint in devices {
            self.want(endpoint, effort);
        }
    }

    /// What follows in the store could not be read.
    pub(super) fn unread(&mut self) {
        if let Some(sweep) = self.sweep.as_mut() {
            sweep.reading = Reading::Failed;
        }
    }

    /// Whether devices are being looked at.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|n| format!("device-{n:04}").into()).collect()
    }

    #[test]
    fn a_device_is_looked_at_once_at_a_time_and_again_when_it_registered_meanwhile() {
        let mut machine = Machine::new(2, 10);
        let [a, b, c]: [Arc<str>; 3] = ["a", "b", "c"].map(Into::into);
        machine.want(&a, Effort::Waiting);
        machine.want(&a, Effort::All);
        machine.want(&b, Effort::All);
        machine.want(&c, Effort::All);
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::All)));
        assert_eq!(machine.next(), Some((b, Effort::All)));
        assert_eq!(machine.next(), None, "no more than two at once");
        machine.want(&a, Effort::All);
        machine.done(&a, true);
        assert_eq!(machine.next(), Some((c, Effort::All)));
        machine.done(&"b".into(), false);
        assert_eq!(machine.next(), Some((a, Effort::All)), "again");
    }

    #[test]
    fn only_who_has_not_answered_is_asked_when_it_is_heard_and_from_time_to_time() {
        let mut machine = Machine::new(2, 10);
        let a: Arc<str> = "a".into();
        machine.heard(&a);
        assert_eq!(machine.next(), None);
        machine.done(&a, true);
        machine.heard(&a);
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::Waiting)));
        machine.done(&a, true);
        machine.tick();
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::Waiting)));
        machine.done(&a, true);
        machine.left(&a);
        machine.heard(&a);
        machine.tick();
        assert_eq!(machine.next(), None);
        assert_eq!(machine.sweep(), None);
    }

    #[test]
    fn a_device_that_is_heard_while_it_is_looked_at_for_the_first_time_is_looked_at_again() {
        let mut machine = Machine::new(2, 10);
        let a: Arc<str> = "a".into();
        machine.want(&a, Effort::All);
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::All)));
        machine.heard(&a);
        machine.done(&a, true);
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::Waiting)));
        // What it ended meanwhile waits, and is not asked for at once.
        machine.wait(&a);
        machine.done(&a, false);
        assert_eq!(machine.next(), None);
        machine.heard(&a);
        assert_eq!(machine.next(), Some((a, Effort::Waiting)));
    }

    #[test]
    fn a_store_that_cannot_be_read_now_is_gone_through_later() {
        let mut machine = Machine::new(2, 10);
        let [a, b]: [Arc<str>; 2] = ["a", "b"].map(Into::into);
        machine.want_all(Effort::All);
        assert_eq!(machine.sweep(), Some(None));
        machine.swept(&[Arc::clone(&a)]);
        assert_eq!(machine.next(), Some((Arc::clone(&a), Effort::All)));
        assert_eq!(machine.sweep(), Some(Some(Arc::clone(&a))));
        machine.unread();
        assert_eq!(machine.sweep(), None, "not at once");
        machine.tick();
        assert_eq!(machine.sweep(), Some(Some(a)), "where it was");
        machine.swept(&[Arc::clone(&b)]);
        assert_eq!(machine.next(), Some((b, Effort::All)));
    }

    /// A thousand register where ten may stand in line: all of them are looked at, and little is kept meanwhile.
    #[test]
    fn a_storm_is_worked_off_by_the_store_in_bounded_memory() {
        let (mut machine, devices) = (Machine::new(3, 10), names(1000));
        devices.iter().for_each(|device| machine.want(device, Effort::All));
        let mut seen = HashSet::new();
        loop {
            while let Some((device, effort)) = machine.next() {
                assert_eq!(effort, Effort::All);
                seen.insert(Arc::clone(&device));
                machine.done(&device, false);
            }
            let Some(after) = machine.sweep() else { break };
            assert_eq!(machine.sweep(), None, "one reading at a time");
            let from = after.map_or(0, |after| devices.partition_point(|device| *device <= after));
            let some: Vec<_> = devices.iter().skip(from).take(7).cloned().collect();
            machine.swept(&some);
            assert!(machine.line.len() <= 10 && machine.due.len() == machine.line.len());
        }
        assert_eq!(seen.len(), 1000);
        assert!(machine.is_idle() && machine.waiting.is_empty() && machine.sweep.is_none());
    }

    #[test]
    fn of_more_that_have_not_answered_than_are_kept_all_are_asked() {
        let (mut machine, devices) = (Machine::new(3, 10), names(11));
        devices.iter().for_each(|device| machine.done(device, true));
        assert_eq!(machine.waiting.len(), 10);
        let last = devices.last().cloned().unwrap_or_default();
        machine.heard(&last);
        assert_eq!(machine.next(), Some((Arc::clone(&last), Effort::Waiting)), "it may be one of them");
        machine.done(&last, false);
        machine.tick();
        assert_eq!(machine.line.len(), 10);
        while let Some((device, _)) = machine.next() {
            machine.done(&device, false);
        }
        assert_eq!(machine.sweep(), Some(None), "and those that are not kept are found by the store");
    }
}
