//! Which device of which campaign is next, and when a campaign stops: a state machine without store, credentials or clock.
//!
//! 1. A campaign is made with a fixed list of devices; it waits for somebody else to approve of it, or runs at once.
//! 2. Devices are started, step by step, as fast and as many at once as its plan says: marked as started, then [`Effect::Start`].
//! 3. What became of each is told by [`Machine::ended`]. A step ends when all of its devices did; when too many fail the campaign is paused.
//! 4. Once the last step has ended, it is finished. A retry takes those that failed again, in a new round.
//!
//! Invariants: what [`Machine::take_changes`] gives is written before the effects that came with it are carried out; no step begins
//! before every device of the one before came to an end and the threshold was looked at; nothing is in memory of a device but its
//! number, and that while it is under way or is to be taken again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Limits;
use super::course::Effect;
use super::course::{Course, Out, Review};
use super::record::{Campaign, CampaignDevice, Counts, DeviceState, Outcome, Progress, State};
use crate::store::CampaignChanges;

/// The campaigns that have not ended, or whose last devices are under way.
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    courses: HashMap<u64, Course>,
    last_id: u64,
    out: Out,
}

/// A campaign that is to be made.
#[derive(Debug)]
pub struct New {
    /// Its record, with how many devices take part and how many do not.
    pub campaign: Campaign,
    /// Those that take part, then those that are left out with an outcome that says why.
    pub devices: Vec<CampaignDevice>,
    /// What is to be kept sealed.
    pub content: Option<Zeroizing<Vec<u8>>>,
}

/// What somebody does with a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lets it begin.
    Approve,
    /// Starts no further device.
    Pause,
    /// Goes on.
    Resume,
    /// Starts no further device ever.
    Cancel,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such campaign.
    Unknown(u64),
    /// It does not stand so.
    NotSo(State),
    /// Its last devices are still under way.
    UnderWay(u32),
    /// Who made it does not approve of it.
    Own,
    /// As many run as may.
    Running(usize),
    /// As many wait as may.
    Waiting(usize),
    /// No device is to be taken.
    Nobody,
    /// It was begun as often as it may.
    Rounds(u32),
    /// The store failed, or the server is stopping.
    Stopped,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no campaign {id}"),
            Self::NotSo(state) => write!(f, "the campaign is {}", state.name()),
            Self::UnderWay(devices) => {
                write!(f, "{devices} of its devices are still under way: wait until they came to an end")
            }
            Self::Own => f.write_str("somebody else approves of a campaign than who made it"),
            Self::Running(most) => {
                write!(f, "{most} campaigns run already: pause one, or wait until it is finished")
            }
            Self::Waiting(most) => {
                write!(f, "{most} campaigns are not finished: cancel some, or wait until they are")
            }
            Self::Nobody => f.write_str("no device is to be taken"),
            Self::Rounds(most) => write!(f, "it was begun {most} times, which is as often as it may be"),
            Self::Stopped => f.write_str("the server is stopping"),
        }
    }
}

impl core::error::Error for Refused {}

/// So often a campaign is begun, at most.
const MOST_ROUNDS: u32 = 100;

impl Machine {
    /// One without campaigns.
    #[must_use]
    pub fn new(limits: Limits, last_id: u64) -> Self {
        Self { limits, courses: HashMap::new(), last_id, out: Out::default() }
    }

    /// Goes on with a campaign that has not ended, or has devices under way: what is known of those of its round, by number.
    pub fn restore(
        &mut self,
        now: u64,
        id: u64,
        campaign: Campaign,
        devices: impl IntoIterator<Item = (u32, CampaignDevice)>,
    ) {
        let round = campaign.round;
        let (mut under_way, mut again) = (BTreeMap::new(), Vec::new());
        for (number, device) in devices {
            if round > 1 && device.is_in(round) {
                again.push(number);
            }
            if device.state(round) == DeviceState::Started
                && let Some(Outcome { started_ms, request, .. }) = device.outcomes.last()
            {
                under_way.insert(number, (*started_ms, *request));
                self.out.effects.push(Effect::Start { id, number, round, request: *request });
            }
        }
        let again = (round > 1).then_some(again);
        let mut course = Course::new(id, campaign, again);
        course.under_way = under_way;
        course.go(now, &mut self.out);
        self.courses.insert(id, course);
    }

    /// Makes a campaign; its id is good once the changes are written.
    ///
    /// # Errors
    /// Why it is not made.
    pub fn add(&mut self, now: u64, new: New) -> Result<u64, Refused> {
        let New { mut campaign, devices, content } = new;
        if campaign.progress.size == 0 {
            return Err(Refused::Nobody);
        }
        if self.courses.len() >= self.limits.open {
            return Err(Refused::Waiting(self.limits.open));
        }
        campaign.state = State::Unapproved;
        if !campaign.plan.approval {
            self.may_run()?;
            campaign.state = State::Running;
        }
        self.last_id = self.last_id.saturating_add(1);
        let id = self.last_id;
        self.out.changes.added.push((id, devices, content));
        let detail = format!("{}, {} devices", campaign.action, campaign.progress.size);
        let made_by = Arc::clone(&campaign.made_by);
        let mut course = Course::new(id, campaign, None);
        course.note(&mut self.out, &made_by, "campaign made", Some(&detail));
        course.go(now, &mut self.out);
        self.courses.insert(id, course);
        Ok(id)
    }

    /// Does what somebody wants.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn act(&mut self, now: u64, id: u64, act: Act, actor: &str) -> Result<(), Refused> {
        let state = self.courses.get(&id).map(|course| course.campaign.state).ok_or(Refused::Unknown(id))?;
        let is_so = match act {
            Act::Approve => state == State::Unapproved,
            Act::Pause => state == State::Running,
            Act::Resume => state == State::Paused,
            Act::Cancel => !state.is_end(),
        };
        if !is_so {
            return Err(Refused::NotSo(state));
        }
        if matches!(act, Act::Approve | Act::Resume) {
            self.may_run()?;
        }
        let course = self.courses.get_mut(&id).ok_or(Refused::Unknown(id))?;
        let campaign = &mut course.campaign;
        let what = match act {
            Act::Approve if *campaign.made_by == *actor => return Err(Refused::Own),
            Act::Approve => {
                campaign.approved_by = Some(actor.into());
                campaign.state = State::Running;
                "campaign approved"
            }
            Act::Pause => {
                campaign.state = State::Paused;
                campaign.reason = Some(format!("by {actor}"));
                "campaign paused"
            }
            Act::Resume => {
                campaign.state = State::Running;
                campaign.reason = None;
                // What failed so far was decided upon.
                let progress = &mut campaign.progress;
                (progress.step_ended, progress.step_failed) = (0, 0);
                (progress.round_ended, progress.round_failed) = (0, 0);
                progress.well_ms = None;
                course.review = Review::NotYet;
                "campaign resumed"
            }
            Act::Cancel => {
                (campaign.state, campaign.ended_ms) = (State::Cancelled, Some(now));
                "campaign cancelled"
            }
        };
        course.note(&mut self.out, actor, what, None);
        course.go(now, &mut self.out);
        self.close(id);
        Ok(())
    }

    /// Takes those again that failed: `numbers`, in a campaign that is finished.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn retry(
        &mut self,
        now: u64,
        id: u64,
        mut campaign: Campaign,
        numbers: Vec<u32>,
        actor: &str,
    ) -> Result<(), Refused> {
        if let Some(course) = self.courses.get(&id) {
            let state = course.campaign.state;
            let under_way = u32::try_from(course.under_way.len()).unwrap_or(u32::MAX);
            return Err(if state.is_end() { Refused::UnderWay(under_way) } else { Refused::NotSo(state) });
        }
        if campaign.state != State::Finished {
            return Err(Refused::NotSo(campaign.state));
        }
        if numbers.is_empty() {
            return Err(Refused::Nobody);
        }
        if campaign.round >= MOST_ROUNDS {
            return Err(Refused::Rounds(MOST_ROUNDS));
        }
        self.may_run()?;
        let size = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        campaign.round = campaign.round.saturating_add(1);
        campaign.progress = Progress { size, ..Progress::default() };
        let counts = campaign.counts;
        let waiting = counts.waiting.saturating_add(size);
        campaign.counts = Counts { waiting, failed: 0, rolled_back: 0, unreachable: 0, ..counts };
        (campaign.state, campaign.ended_ms) = (State::Running, None);
        let mut course = Course::new(id, campaign, Some(numbers));
        let detail = format!("{size} devices");
        course.note(&mut self.out, actor, "campaign retried", Some(&detail));
        course.go(now, &mut self.out);
        self.courses.insert(id, course);
        Ok(())
    }

    /// A device is asked by this request.
    pub fn asked(&mut self, id: u64, number: u32, request: u64) {
        let Some(course) = self.courses.get_mut(&id) else { return };
        let Some((started_ms, known)) = course.under_way.get_mut(&number) else { return };
        *known = Some(request);
        let outcome = Outcome {
            round: course.campaign.round,
            state: DeviceState::Started,
            reason: None,
            started_ms: *started_ms,
            ended_ms: None,
            request: Some(request),
        };
        self.out.changes.outcomes.push((id, number, outcome));
    }

    /// A device came to an end.
    pub fn ended(&mut self, now: u64, id: u64, number: u32, (state, reason): (DeviceState, Option<String>)) {
        let Some(course) = self.courses.get_mut(&id) else { return };
        let Some((started_ms, request)) = course.under_way.remove(&number) else { return };
        let round = course.campaign.round;
        let outcome = Outcome { round, state, reason, started_ms, ended_ms: Some(now), request };
        self.out.changes.outcomes.push((id, number, outcome));
        course.campaign.counts.moved(DeviceState::Started, state);
        course.count(state);
        course.keep(&mut self.out);
        course.judge(&mut self.out);
        course.go(now, &mut self.out);
        self.close(id);
    }

    /// The devices of a step that were done, and are not well any more: the answer to [`Effect::Review`].
    pub fn reviewed(&mut self, now: u64, id: u64, not_well: Vec<(u32, Outcome)>) {
        let Some(course) = self.courses.get_mut(&id) else { return };
        if course.review != Review::Asked {
            return;
        }
        course.review = Review::Done;
        for (number, outcome) in not_well {
            course.campaign.counts.moved(DeviceState::Succeeded, outcome.state);
            let progress = &mut course.campaign.progress;
            progress.step_failed = progress.step_failed.saturating_add(1);
            progress.round_failed = progress.round_failed.saturating_add(1);
            self.out.changes.outcomes.push((id, number, outcome));
            course.keep(&mut self.out);
        }
        course.judge(&mut self.out);
        course.go(now, &mut self.out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        for course in self.courses.values_mut() {
            course.go(now, &mut self.out);
        }
        let ids: Vec<u64> = self.courses.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// When to call [`tick`](Self::tick), in milliseconds since 1970.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.courses.values().filter_map(Course::next_deadline).min()
    }

    /// What is to be written now.
    pub fn take_changes(&mut self) -> CampaignChanges {
        core::mem::take(&mut self.out.changes)
    }

    /// What is to be done once it is written.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.out.effects)
    }

    /// What is done with the devices of a campaign, and for how many seconds each may take.
    #[must_use]
    pub fn campaign(&self, id: u64) -> Option<&Campaign> {
        self.courses.get(&id).map(|course| &course.campaign)
    }

    fn may_run(&self) -> Result<(), Refused> {
        let running = self.courses.values().filter(|course| course.campaign.state == State::Running).count();
        if running >= self.limits.running { Err(Refused::Running(self.limits.running)) } else { Ok(()) }
    }

    /// Forgets a campaign of which nothing more is to come.
    fn close(&mut self, id: u64) {
        let is_over = |course: &Course| course.campaign.state.is_end() && course.under_way.is_empty();
        if self.courses.get(&id).is_some_and(is_over) {
            self.courses.remove(&id);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use core::num::NonZeroU32;

    use proptest::prelude::*;

    use super::super::record::{Action, Plan, Rotation, Share, Step, plan};
    use super::*;
    use crate::access::Scope;
    use crate::store::AuditNote;

    const MAKER: &str = "token:maker";
    const OTHER: &str = "token:other";

    /// The machine with its disk: what is carried out was written before.
    struct Bench {
        machine: Machine,
        limits: Limits,
        now: u64,
        records: BTreeMap<u64, Campaign>,
        devices: BTreeMap<(u64, u32), CampaignDevice>,
        last_id: u64,
        /// Under way, in the order in which they were started.
        started: Vec<(u64, u32)>,
        reviews: Vec<(u64, Vec<u32>)>,
        told: Vec<State>,
        /// Actor, what happened, and detail of each row.
        audited: Vec<String>,
    }

    impl Bench {
        fn new() -> Self {
            let limits = Limits { running: 2, open: 3, ..Limits::default() };
            Self {
                machine: Machine::new(limits, 0),
                limits,
                now: 1_000_000,
                records: BTreeMap::new(),
                devices: BTreeMap::new(),
                last_id: 0,
                started: Vec::new(),
                reviews: Vec::new(),
                told: Vec::new(),
                audited: Vec::new(),
            }
        }

        /// A campaign of so many devices.
        fn of(devices: u32, plan: Plan) -> New {
            let campaign = Campaign {
                epoch: 1,
                name: "test".to_owned(),
                action: Action::Rotate(Rotation::default()),
                selection: "*".to_owned(),
                scope: Scope::default(),
                plan,
                state: State::Unapproved,
                reason: None,
                made_by: MAKER.into(),
                made_ms: 1,
                approved_by: None,
                ended_ms: None,
                round: 1,
                progress: Progress { size: devices, ..Progress::default() },
                counts: Counts { waiting: devices, ..Counts::default() },
            };
            let device =
                |number| CampaignDevice { endpoint: format!("d{number}").into(), outcomes: Vec::new() };
            New { campaign, devices: (0..devices).map(device).collect(), content: None }
        }

        fn make(&mut self, devices: u32, plan: Plan) -> Result<u64, Refused> {
            let made = self.machine.add(self.now, Self::of(devices, plan));
            self.carry_out();
            made
        }

        fn act(&mut self, act: Act, actor: &str) -> Result<(), Refused> {
            let done = self.machine.act(self.now, 1, act, actor);
            self.carry_out();
            done
        }

        fn retry(&mut self) -> Result<(), Refused> {
            let campaign = self.records.get(&1).unwrap().clone();
            let failed = |device: &CampaignDevice| device.state(campaign.round).is_failure();
            let failed = self.devices.iter().filter(|(_, device)| failed(device));
            let numbers = failed.map(|((_, number), _)| *number).collect();
            let done = self.machine.retry(self.now, 1, campaign, numbers, MAKER);
            self.carry_out();
            done
        }

        fn carry_out(&mut self) {
            let CampaignChanges { added, records, outcomes, notes } = self.machine.take_changes();
            for (id, devices, _) in added {
                self.last_id = self.last_id.max(id);
                self.devices.extend((0..).zip(devices).map(|(number, device)| ((id, number), device)));
            }
            self.records.extend(records);
            for (id, number, outcome) in outcomes {
                self.devices.get_mut(&(id, number)).unwrap().put(outcome);
            }
            self.audited.extend(notes.into_iter().map(|AuditNote { actor, happened }| {
                format!("{actor}, {}: {}", happened.what, happened.detail)
            }));
            for effect in self.machine.take_effects() {
                match effect {
                    Effect::Start { id, number, round, .. } => {
                        let device = self.devices.get(&(id, number)).unwrap();
                        assert_eq!(
                            device.state(round),
                            DeviceState::Started,
                            "it is on disk before it is begun"
                        );
                        assert!(!self.started.contains(&(id, number)), "nothing is begun twice");
                        self.started.push((id, number));
                    }
                    Effect::Review { id, numbers, .. } => self.reviews.push((id, numbers)),
                    Effect::Tell(id, campaign) => {
                        assert_eq!(self.records.get(&id).unwrap().state, campaign.state);
                        self.told.push(campaign.state);
                    }
                }
            }
            self.count();
        }

        /// The counts of each campaign are those of its devices.
        fn count(&self) {
            for (id, campaign) in &self.records {
                let mut counts = Counts::default();
                for ((of, _), device) in &self.devices {
                    if of == id {
                        counts.waiting = counts.waiting.saturating_add(1);
                        counts.moved(DeviceState::Waiting, device.state(campaign.round));
                    }
                }
                assert_eq!(campaign.counts, counts, "campaign {id}");
            }
        }

        fn tick(&mut self, after: u64) {
            self.now = self.now.saturating_add(after);
            self.machine.tick(self.now);
            self.carry_out();
        }

        /// So many that were started first come to an end.
        fn end(&mut self, number: usize, state: DeviceState) {
            for (id, number) in self.started.drain(..number).collect::<Vec<_>>() {
                self.machine.ended(self.now, id, number, (state, None));
                self.carry_out();
            }
        }

        fn succeed(&mut self) {
            self.end(self.started.len(), DeviceState::Succeeded);
        }

        fn campaign(&self) -> &Campaign {
            self.records.get(&1).unwrap()
        }

        fn state(&self) -> State {
            self.campaign().state
        }

        /// The server ends and begins again with what is on disk.
        fn crash(&mut self) {
            self.machine = Machine::new(self.limits, self.last_id);
            (self.started, self.reviews) = (Vec::new(), Vec::new());
            for (id, campaign) in self.records.clone() {
                if !campaign.state.is_end() || campaign.counts.started > 0 {
                    let devices = self.devices.iter().filter(|((of, _), _)| *of == id);
                    let devices: Vec<_> =
                        devices.map(|((_, number), device)| (*number, device.clone())).collect();
                    self.machine.restore(self.now, id, campaign, devices);
                }
            }
            self.carry_out();
        }
    }

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn each_step_begins_when_all_devices_of_the_one_before_came_to_an_end() {
        let mut bench = Bench::new();
        assert_eq!(bench.make(1000, plan()), Ok(1));
        for (started, step) in [(1, 0), (9, 1), (90, 2), (900, 3)] {
            assert_eq!((bench.started.len(), bench.campaign().progress.step), (started, step));
            bench.end(started.saturating_sub(1), DeviceState::Succeeded);
            assert_eq!(bench.started.len(), 1, "the last one is waited for");
            bench.succeed();
        }
        assert_eq!((bench.state(), bench.campaign().counts.succeeded), (State::Finished, 1000));
        assert_eq!(bench.told.len(), 5, "no event for each device");
        assert!(bench.machine.courses.is_empty());
        assert_eq!(
            bench.audited,
            [
                "token:maker, campaign made: campaign 1 'test', round 1: rotate, 1000 devices",
                "server, campaign step: campaign 1 'test', round 1: step 2 of 4",
                "server, campaign step: campaign 1 'test', round 1: step 3 of 4",
                "server, campaign step: campaign 1 'test', round 1: step 4 of 4",
                "server, campaign finished: campaign 1 'test', round 1: 1000 succeeded, 0 failed, 0 skipped",
            ]
        );
    }

    #[test]
    fn one_failure_in_the_first_step_stops_a_campaign_until_somebody_goes_on() {
        for failure in [DeviceState::Failed, DeviceState::RolledBack, DeviceState::Unreachable] {
            let mut bench = Bench::new();
            bench.make(1000, plan()).unwrap();
            bench.end(1, failure);
            assert_eq!((bench.state(), bench.started.len()), (State::Paused, 0));
            let why = bench.campaign().reason.clone().unwrap();
            assert_eq!(why, "1 of the 1 devices of the first step failed");
            assert!(bench.audited.last().unwrap().starts_with("server, campaign paused"));
            bench.tick(1_000_000);
            assert!(bench.started.is_empty());
            bench.act(Act::Resume, OTHER).unwrap();
            assert_eq!((bench.state(), bench.started.len()), (State::Running, 9));
            // Of nine none may fail, for that would be more than five percent; what was decided upon does not count again.
            bench.end(8, DeviceState::Succeeded);
            assert_eq!(bench.state(), State::Running);
            bench.end(1, failure);
            assert_eq!(bench.state(), State::Paused);
        }
    }

    #[test]
    fn a_step_that_goes_wrong_stops_long_before_its_end() {
        let steps = vec![Step::Devices(number(1)), Step::Share(Share::ALL)];
        let mut bench = Bench::new();
        bench.make(10_000, Plan { steps, ..plan() }).unwrap();
        bench.succeed();
        assert_eq!(bench.started.len(), 1000, "as many as may be under way");
        // One in eleven, and more than the least number.
        for _ in 0..9 {
            bench.end(10, DeviceState::Succeeded);
            bench.end(1, DeviceState::Failed);
            assert_eq!(bench.state(), State::Running);
        }
        bench.end(10, DeviceState::Succeeded);
        bench.end(1, DeviceState::Failed);
        assert_eq!(bench.state(), State::Paused);
        let why = bench.campaign().reason.clone().unwrap();
        assert_eq!(why, "10 of 110 devices of the step that came to an end failed, and 5% are too many");
        let under_way = bench.started.len();
        bench.succeed();
        assert_eq!(
            (under_way, bench.started.len()),
            (999, 0),
            "what was under way has ended, nothing follows"
        );
    }

    #[test]
    fn few_failures_among_many_do_not_stop_it() {
        let steps = vec![Step::Devices(number(1)), Step::Share(Share::ALL)];
        let mut bench = Bench::new();
        bench.make(1001, Plan { steps, ..plan() }).unwrap();
        bench.succeed();
        for _ in 0..40 {
            bench.end(24, DeviceState::Succeeded);
            bench.end(1, DeviceState::Unreachable);
        }
        assert_eq!((bench.state(), bench.campaign().counts.unreachable), (State::Finished, 40));
    }

    #[test]
    fn a_device_that_is_left_out_has_another_one_in_its_place() {
        let mut bench = Bench::new();
        bench.make(1000, plan()).unwrap();
        for device in 0..3 {
            assert_eq!(bench.started, [(1, device)], "the first step goes on with one");
            bench.end(1, DeviceState::Skipped);
        }
        bench.succeed();
        assert_eq!(
            (bench.state(), bench.started.len(), bench.campaign().progress.step),
            (State::Running, 9, 1)
        );
        while !bench.started.is_empty() {
            bench.end(1, DeviceState::Skipped);
        }
        assert_eq!((bench.state(), bench.campaign().counts.skipped), (State::Finished, 999));
    }

    #[test]
    fn no_more_are_started_than_the_rate_and_the_number_under_way_allow() {
        let steps = vec![Step::Share(Share::ALL)];
        let mut bench = Bench::new();
        let (rate, at_once) = (Some(number(30)), number(3));
        bench.make(10, Plan { steps: steps.clone(), rate, at_once, ..plan() }).unwrap();
        assert_eq!(bench.started.len(), 1);
        assert_eq!(bench.machine.next_deadline(), Some(bench.now.saturating_add(2000)));
        bench.tick(1999);
        assert_eq!(bench.started.len(), 1);
        bench.tick(1);
        assert_eq!(bench.started.len(), 2);
        bench.tick(100_000);
        assert_eq!(bench.started.len(), 3, "nothing is made up for");
        bench.tick(100_000);
        assert_eq!((bench.started.len(), bench.machine.next_deadline()), (3, None));
        bench.end(1, DeviceState::Succeeded);
        assert_eq!(bench.started.len(), 3);
        // A hundred in a second, up to a second's worth at once.
        let mut bench = Bench::new();
        let rate = Some(number(6000));
        bench.make(1000, Plan { steps, rate, ..plan() }).unwrap();
        let mut before = bench.started.len();
        assert!(before <= 101, "{before}");
        for _ in 0..5 {
            bench.tick(1000);
            assert_eq!(bench.started.len(), before.saturating_add(100));
            before = bench.started.len();
        }
    }

    #[test]
    fn a_step_has_to_have_been_well_before_the_next_one_begins() {
        let mut bench = Bench::new();
        bench.make(1000, Plan { pause: 60, ..plan() }).unwrap();
        bench.succeed();
        assert_eq!(bench.machine.next_deadline(), Some(bench.now.saturating_add(60_000)));
        bench.tick(59_999);
        assert!(bench.started.is_empty() && bench.reviews.is_empty());
        bench.tick(1);
        assert_eq!((bench.reviews.pop(), bench.started.len()), (Some((1, vec![0])), 0));
        bench.machine.reviewed(bench.now, 1, Vec::new());
        bench.carry_out();
        assert_eq!((bench.started.len(), bench.campaign().progress.step), (9, 1));
        bench.succeed();
        bench.tick(60_000);
        let (_, numbers) = bench.reviews.pop().unwrap();
        assert_eq!(numbers, (1..10).collect::<Vec<_>>());
        let mut outcome = bench.devices.get(&(1, 4)).unwrap().outcomes.last().unwrap().clone();
        outcome.state = DeviceState::RolledBack;
        bench.machine.reviewed(bench.now, 1, vec![(4, outcome)]);
        bench.carry_out();
        assert_eq!((bench.state(), bench.campaign().counts.rolled_back), (State::Paused, 1));
        // It is well again for as long, from now on.
        bench.act(Act::Resume, OTHER).unwrap();
        assert_eq!(
            (bench.started.len(), bench.machine.next_deadline()),
            (0, Some(bench.now.saturating_add(60_000)))
        );
    }

    #[test]
    fn somebody_else_than_who_made_it_approves_of_a_campaign() {
        let mut bench = Bench::new();
        bench.make(10, Plan { approval: true, ..plan() }).unwrap();
        bench.tick(1_000_000);
        assert_eq!((bench.state(), bench.started.len()), (State::Unapproved, 0));
        assert_eq!(bench.act(Act::Approve, MAKER), Err(Refused::Own));
        assert_eq!(bench.act(Act::Resume, OTHER), Err(Refused::NotSo(State::Unapproved)));
        bench.crash();
        assert_eq!(bench.act(Act::Approve, MAKER), Err(Refused::Own));
        assert!(bench.started.is_empty());
        bench.act(Act::Approve, OTHER).unwrap();
        assert_eq!((bench.campaign().approved_by.as_deref(), bench.started.len()), (Some(OTHER), 1));
        assert_eq!(bench.act(Act::Approve, OTHER), Err(Refused::NotSo(State::Running)));
    }

    #[test]
    fn a_campaign_that_was_cancelled_starts_nobody_and_what_is_under_way_comes_to_its_end() {
        let mut bench = Bench::new();
        bench.make(1000, plan()).unwrap();
        bench.succeed();
        bench.act(Act::Pause, OTHER).unwrap();
        assert_eq!(bench.campaign().reason.as_deref(), Some("by token:other"));
        bench.end(4, DeviceState::Succeeded);
        bench.act(Act::Cancel, OTHER).unwrap();
        bench.crash();
        assert_eq!(
            (bench.state(), bench.started.len()),
            (State::Cancelled, 5),
            "they are watched by the next run"
        );
        bench.end(5, DeviceState::Failed);
        let Counts { waiting, succeeded, failed, .. } = bench.campaign().counts;
        assert_eq!((waiting, succeeded, failed), (990, 5, 5));
        assert!(bench.machine.courses.is_empty());
        assert_eq!(bench.act(Act::Resume, OTHER), Err(Refused::Unknown(1)));
        assert_eq!(bench.retry(), Err(Refused::NotSo(State::Cancelled)));
    }

    #[test]
    fn a_retry_takes_those_that_failed_step_by_step_and_keeps_what_became_of_them_before() {
        let steps = vec![Step::Devices(number(1)), Step::Share(Share::ALL)];
        let mut bench = Bench::new();
        bench.make(1001, Plan { steps, ..plan() }).unwrap();
        bench.succeed();
        for state in [DeviceState::Failed, DeviceState::RolledBack, DeviceState::Unreachable] {
            bench.end(100, DeviceState::Succeeded);
            bench.end(2, state);
        }
        assert_eq!(bench.retry(), Err(Refused::NotSo(State::Running)));
        bench.succeed();
        assert_eq!(bench.state(), State::Finished);
        bench.retry().unwrap();
        assert_eq!((bench.campaign().round, bench.campaign().progress.size), (2, 6));
        assert_eq!(bench.started, [(1, 101)]);
        bench.succeed();
        assert_eq!(bench.started.len(), 5);
        bench.crash();
        assert_eq!(bench.started.len(), 5, "the round goes on");
        bench.end(4, DeviceState::Succeeded);
        bench.crash();
        bench.act(Act::Pause, OTHER).unwrap();
        bench.end(1, DeviceState::Failed);
        bench.act(Act::Resume, OTHER).unwrap();
        assert_eq!((bench.state(), bench.campaign().counts.succeeded), (State::Finished, 1000));
        let rounds = |number| bench.devices.get(&(1, number)).unwrap().outcomes.len();
        assert_eq!([0, 101, 305].map(rounds), [1, 2, 2]);
        bench.retry().unwrap();
        assert_eq!((bench.started.clone(), bench.campaign().round), (vec![(1, 306)], 3));
        bench.succeed();
        assert_eq!(bench.retry(), Err(Refused::Nobody));
    }

    #[test]
    fn no_more_campaigns_run_and_wait_than_may() {
        let mut bench = Bench::new();
        let approved = || Plan { approval: true, ..plan() };
        assert_eq!(bench.make(0, plan()), Err(Refused::Nobody));
        assert_eq!(
            (bench.make(5, approved()), bench.make(5, plan()), bench.make(5, plan())),
            (Ok(1), Ok(2), Ok(3))
        );
        assert_eq!(bench.make(5, approved()), Err(Refused::Waiting(3)));
        assert_eq!(bench.act(Act::Approve, OTHER), Err(Refused::Running(2)));
        assert_eq!(bench.machine.act(bench.now, 3, Act::Cancel, OTHER), Ok(()));
        bench.carry_out();
        assert_eq!(bench.act(Act::Approve, OTHER), Ok(()));
    }

    proptest! {
        #[test]
        fn no_device_is_started_beyond_the_step_before_the_threshold_was_looked_at(
            size in 1..400_u32,
            steps in prop::collection::vec((any::<bool>(), 1..100_u32), 0..4),
            at_once in 1..50_u32,
            turns in prop::collection::vec((0..100_usize, 0..10_u8), 1..1200),
        ) {
            let step = |(is_share, number): (bool, u32)| match is_share {
                true => Step::Share(Share::percent(u8::try_from(number).unwrap())),
                false => Step::Devices(NonZeroU32::new(number).unwrap()),
            };
            let mut steps: Vec<Step> = steps.into_iter().map(step).collect();
            steps.push(Step::Share(Share::ALL));
            let plan = Plan { steps, at_once: number(at_once), ..plan() };
            let mut bench = Bench::new();
            bench.make(size, plan.clone()).unwrap();
            for (at, what) in turns {
                let before = bench.campaign().progress.step;
                match what {
                    0 => bench.crash(),
                    1 if bench.state() == State::Paused => bench.act(Act::Resume, OTHER).unwrap(),
                    _ if bench.started.is_empty() => {}
                    _ => {
                        let (id, device) = bench.started.swap_remove(at.checked_rem(bench.started.len()).unwrap());
                        let states = [DeviceState::Failed, DeviceState::Skipped, DeviceState::Unreachable];
                        let state = states.get(usize::from(what).wrapping_sub(2)).copied();
                        let state = state.unwrap_or(DeviceState::Succeeded);
                        bench.machine.ended(bench.now, id, device, (state, None));
                        bench.carry_out();
                    }
                }
                let Campaign { progress, state, counts, .. } = bench.campaign();
                prop_assert!(bench.started.len() <= usize::try_from(at_once).unwrap());
                prop_assert!(progress.taken() <= plan.target(progress.step, size));
                if progress.step > before {
                    let of_before = progress.step_from.saturating_sub(progress.skipped);
                    prop_assert!(of_before <= plan.target(before, size), "nobody of the next one was among them");
                }
                // Who is paused by its threshold, and who goes on has not met it.
                prop_assert!(*state != State::Running || progress.too_many(&plan).is_none());
                prop_assert!(*state != State::Finished || counts.waiting == 0 && counts.started == 0);
            }
        }
    }
}
