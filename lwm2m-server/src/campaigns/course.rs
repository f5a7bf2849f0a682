//! How one campaign goes on: which device is next, when a step has ended, and when too many have failed.
//!
//! Invariants: no step begins before every device of the one before came to an end and the threshold was looked at; a device that is
//! left out has another one in its place.

use std::collections::BTreeMap;

use super::record::{Campaign, Counts, DeviceState, Outcome, Plan, Progress, State};
use crate::credentials::Happened;
use crate::store::{AuditNote, CampaignChanges};

/// What is to be written, and done once it is.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) changes: CampaignChanges,
    pub(super) effects: Vec<Effect>,
}

/// What is known of a campaign besides its record.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) id: u64,
    pub(super) campaign: Campaign,
    /// Those that were started: when, and by which request.
    pub(super) under_way: BTreeMap<u32, (u64, Option<u64>)>,
    /// The devices that the round takes again; all in their order without.
    again: Option<Vec<u32>>,
    /// When the next one may be started, in microseconds since 1970.
    next_start: u64,
    pub(super) review: Review,
}

/// Whether the devices of a step were looked at again after its pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Review {
    NotYet,
    Asked,
    Done,
}

/// What is to be done once the changes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Do it, or go on with what was begun; then call [`ended`](super::machine::Machine::ended).
    Start {
        /// Which campaign.
        id: u64,
        /// Which of its devices.
        number: u32,
        /// In which round.
        round: u32,
        /// By which request it was asked before.
        request: Option<u64>,
    },
    /// See whether devices that were done are well; then call [`reviewed`](super::machine::Machine::reviewed).
    Review {
        /// Which campaign.
        id: u64,
        /// In which round.
        round: u32,
        /// Which of its devices.
        numbers: Vec<u32>,
    },
    /// Tell where a campaign stands now.
    Tell(u64, Box<Campaign>),
}

/// Who does what nobody asked for.
const SERVER: &str = "server";
/// Where more than one device is started in a second, so much of the time that was not used counts still, in microseconds.
const MADE_UP: u64 = 1_000_000;

impl Course {
    pub(super) fn new(id: u64, campaign: Campaign, again: Option<Vec<u32>>) -> Self {
        Self { id, campaign, under_way: BTreeMap::new(), again, next_start: 0, review: Review::NotYet }
    }

    /// Starts what may be started, and ends what has ended.
    pub(super) fn go(&mut self, now: u64, out: &mut Out) {
        while self.campaign.state == State::Running {
            if self.has_room() {
                if self.under_way.len() >= number(self.campaign.plan.at_once.get()) || !self.is_time(now) {
                    return;
                }
                self.start(now, out);
            } else if !self.under_way.is_empty() {
                return;
            } else if self.campaign.plan.is_last(self.campaign.progress.step) {
                self.finish(now, out);
            } else if self.is_well(now, out) {
                self.next_step(out);
            } else {
                return;
            }
        }
    }

    /// Whether the step has devices that were not started.
    fn has_room(&self) -> bool {
        let Campaign { plan, progress, .. } = &self.campaign;
        progress.next < progress.size && progress.taken() < plan.target(progress.step, progress.size)
    }

    /// Whether the rate allows another one now, which then counts.
    fn is_time(&mut self, now: u64) -> bool {
        let Some(rate) = self.campaign.plan.rate else { return true };
        let now = now.saturating_mul(1000);
        if self.next_start > now {
            return false;
        }
        let interval = 60_000_000_u64.checked_div(rate.get().into()).unwrap_or_default();
        let made_up = if interval < MADE_UP { MADE_UP } else { 0 };
        self.next_start = self.next_start.max(now.saturating_sub(made_up)).saturating_add(interval);
        true
    }

    fn start(&mut self, now: u64, out: &mut Out) {
        let at = self.campaign.progress.next;
        self.campaign.progress.next = at.saturating_add(1);
        let number = match &self.again {
            None => at,
            // `has_room` looked at its length.
            Some(again) => again.get(number(at)).copied().unwrap_or(at),
        };
        let round = self.campaign.round;
        self.under_way.insert(number, (now, None));
        self.campaign.counts.moved(DeviceState::Waiting, DeviceState::Started);
        let state = DeviceState::Started;
        let outcome = Outcome { round, state, reason: None, started_ms: now, ended_ms: None, request: None };
        out.changes.outcomes.push((self.id, number, outcome));
        out.effects.push(Effect::Start { id: self.id, number, round, request: None });
        self.keep(out);
    }

    pub(super) fn count(&mut self, state: DeviceState) {
        let progress = &mut self.campaign.progress;
        if state == DeviceState::Skipped {
            progress.skipped = progress.skipped.saturating_add(1);
            return;
        }
        for ended in [&mut progress.step_ended, &mut progress.round_ended] {
            *ended = ended.saturating_add(1);
        }
        if state.is_failure() {
            for failed in [&mut progress.step_failed, &mut progress.round_failed] {
                *failed = failed.saturating_add(1);
            }
        }
    }

    /// Stops when too many failed.
    pub(super) fn judge(&mut self, out: &mut Out) {
        if self.campaign.state != State::Running {
            return;
        }
        let Some(why) = self.campaign.progress.too_many(&self.campaign.plan) else { return };
        self.campaign.state = State::Paused;
        self.campaign.reason = Some(why.clone());
        self.note(out, SERVER, "campaign paused", Some(&why));
    }

    /// Whether a step that has ended has been well for as long as the plan says.
    fn is_well(&mut self, now: u64, out: &mut Out) -> bool {
        let Progress { next, step_from, well_ms, .. } = self.campaign.progress;
        let pause = u64::from(self.campaign.plan.pause).saturating_mul(1000);
        if pause == 0 || next == step_from {
            return true;
        }
        match (well_ms, self.review) {
            (None, _) => {
                self.campaign.progress.well_ms = Some(now.saturating_add(pause));
                self.keep(out);
                false
            }
            (Some(at), _) if at > now => false,
            (Some(_), Review::NotYet) => {
                self.review = Review::Asked;
                let numbers = (step_from..next).map(|at| match &self.again {
                    None => at,
                    Some(again) => again.get(number(at)).copied().unwrap_or(at),
                });
                let (id, round, numbers) = (self.id, self.campaign.round, numbers.collect());
                out.effects.push(Effect::Review { id, round, numbers });
                false
            }
            (Some(_), review) => review == Review::Done,
        }
    }

    fn next_step(&mut self, out: &mut Out) {
        let progress = &mut self.campaign.progress;
        let is_begun = progress.next > progress.step_from;
        progress.step = progress.step.saturating_add(1);
        progress.step_from = progress.next;
        (progress.step_ended, progress.step_failed, progress.well_ms) = (0, 0, None);
        self.review = Review::NotYet;
        if is_begun {
            self.note(out, SERVER, "campaign step", None);
        } else {
            self.keep(out);
        }
    }

    fn finish(&mut self, now: u64, out: &mut Out) {
        (self.campaign.state, self.campaign.ended_ms) = (State::Finished, Some(now));
        let Counts { succeeded, skipped, .. } = self.campaign.counts;
        let failed = self.campaign.counts.failures();
        let detail = format!("{succeeded} succeeded, {failed} failed, {skipped} skipped");
        self.note(out, SERVER, "campaign finished", Some(&detail));
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        if self.campaign.state != State::Running {
            return None;
        }
        let is_waiting = self.has_room() && self.under_way.len() < number(self.campaign.plan.at_once.get());
        let start = is_waiting.then_some(self.next_start.div_ceil(1000));
        let is_over = self.under_way.is_empty() && self.review == Review::NotYet;
        start.or(self.campaign.progress.well_ms.filter(|_| is_over))
    }

    /// Its record is to be written.
    pub(super) fn keep(&self, out: &mut Out) {
        out.changes.records.insert(self.id, self.campaign.clone());
    }

    /// The same, with an audit row, and told.
    pub(super) fn note(&self, out: &mut Out, actor: &str, what: &'static str, detail: Option<&str>) {
        self.keep(out);
        let Campaign { name, plan, progress, round, .. } = &self.campaign;
        let mut words = format!("campaign {} '{name}', round {round}", self.id);
        if what == "campaign step" {
            let (step, steps) = (progress.step.saturating_add(1), plan.steps.len());
            words.push_str(&format!(": step {step} of {steps}"));
        }
        if let Some(detail) = detail {
            words.push_str(&format!(": {detail}"));
        }
        let happened = Happened { role: None, generation: None, what, detail: words };
        out.changes.notes.push(AuditNote { actor: actor.into(), happened });
        // Of what is written together the last is told.
        out.effects.retain(|effect| !matches!(effect, Effect::Tell(id, _) if *id == self.id));
        out.effects.push(Effect::Tell(self.id, Box::new(self.campaign.clone())));
    }
}

impl Progress {
    /// Devices that were started and not left out.
    pub(super) fn taken(&self) -> u32 {
        self.next.saturating_sub(self.skipped)
    }

    /// Why the campaign is to stop, if it is.
    pub(super) fn too_many(&self, plan: &Plan) -> Option<String> {
        let Self { size, step, step_ended, step_failed, round_ended, round_failed, .. } = *self;
        let target = plan.target(step, size);
        let before = step.checked_sub(1).map_or(0, |before| plan.target(before, size));
        let of_step = target.saturating_sub(before);
        let (percent, least) = (plan.threshold, plan.least_failures.get());
        let limit = |of: u32| percent.of(of).max(1);
        let words = |failed: u32, of: u32, what: &str| {
            Some(format!("{failed} of {of} devices {what} failed, and {percent} are too many"))
        };
        match () {
            () if step == 0 && step_failed > 0 => {
                Some(format!("{step_failed} of the {of_step} devices of the first step failed"))
            }
            () if step_failed > 0 && step_failed >= limit(of_step) => {
                words(step_failed, of_step, "of the step")
            }
            () if step_failed >= least && step_failed >= limit(step_ended) => {
                words(step_failed, step_ended, "of the step that came to an end")
            }
            () if round_failed > 0 && round_failed >= limit(target) => {
                words(round_failed, target, "of the steps so far")
            }
            () if round_failed >= least && round_failed >= limit(round_ended) => {
                words(round_failed, round_ended, "that came to an end")
            }
            () => None,
        }
    }
}

fn number(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
