//! What is kept of a campaign and of each of its devices, and how it goes on by its plan.
//!
//! Invariant: a record holds no value that is written and no argument: those are sealed apart from it.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};

use crate::access::{Permission, Scope};
use crate::credentials::Mode;

/// What is done with each device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CampaignAction)]
pub enum Action {
    /// Its management credential is replaced.
    Rotate(Rotation),
    /// It is written to.
    Write {
        /// An instance, or what lies below one.
        path: String,
    },
    /// A resource is executed.
    Execute {
        /// The resource.
        path: String,
    },
}

/// How credentials are rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CampaignRotation)]
pub struct Rotation {
    /// The mode of the new credential, which is drawn by the server; that of the former one without.
    pub mode: Option<Mode>,
    /// Seconds for which the former one is accepted after the proof; 600 without.
    pub grace: Option<u64>,
    /// LwM2M Server URI to write instead of the configured one.
    pub server_uri: Option<String>,
}

impl Action {
    /// What who decides over such a campaign has to have.
    #[must_use]
    pub const fn permission(&self) -> Permission {
        match self {
            Self::Rotate(_) => Permission::Credentials,
            Self::Write { .. } | Self::Execute { .. } => Permission::Operate,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotate(_) => f.write_str("rotate"),
            Self::Write { path } => write!(f, "write {path}"),
            Self::Execute { path } => write!(f, "execute {path}"),
        }
    }
}

/// A share of devices, in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u16 = 10_000;

    /// So many percent, 0 to 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self((percent as u16).saturating_mul(100))
    }

    /// The least number that is at least this share of `devices`.
    #[must_use]
    pub fn of(self, devices: u32) -> u32 {
        let part = u64::from(devices).saturating_mul(self.0.into()).div_ceil(Self::WHOLE.into());
        u32::try_from(part).unwrap_or(devices)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let number = text.strip_suffix('%')?;
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(whole) || !is_number(part) || part.len() > 2 {
                return None;
            }
            let hundredths = part.parse::<u16>().ok()?.checked_mul(if part.len() == 1 { 10 } else { 1 })?;
            let share = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
            (share <= Self::WHOLE).then_some(Self(share))
        };
        parse()
            .ok_or_else(|| format!("'{text}' is no share: 0% to 100%, with at most two decimals as in 0.5%"))
    }
}

impl TryFrom<String> for Share {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl utoipa::PartialSchema for Share {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.description(Some("A share of devices, as `1%` or `0.5%`."))
            .pattern(Some("^(100|[0-9]{1,2}(\\.[0-9]{1,2})?)%$"))
            .into()
    }
}

impl ToSchema for Share {}

/// How many devices were taken once a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of devices, or a share of them as in \"1%\"")]
pub enum Step {
    /// So many.
    Devices(NonZeroU32),
    /// Such a share of them.
    Share(Share),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(number) => number.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl utoipa::PartialSchema for Step {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(1))
            .maximum(Some(u32::MAX));
        let one_of = OneOfBuilder::new().item(number).item(<Share as utoipa::PartialSchema>::schema());
        one_of.description(Some("How many devices were taken once the step has ended.")).into()
    }
}

impl ToSchema for Step {}

/// How a campaign goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CampaignPlan)]
pub struct Plan {
    /// The steps, of which the last one takes all.
    pub steps: Vec<Step>,
    /// Devices that are started in a minute, up to a second's worth of them at once; as many as may be under way without.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub rate: Option<NonZeroU32>,
    /// Devices that may be under way at once.
    #[schema(value_type = u32, minimum = 1)]
    pub at_once: NonZeroU32,
    /// The share of devices that stops the campaign when they fail: of the step, of all so far, and of those that came to an end.
    pub threshold: Share,
    /// The fewest failures that stop it by their share of those that came to an end so far.
    #[schema(value_type = u32, minimum = 1)]
    pub least_failures: NonZeroU32,
    /// Seconds that a step has to have been well before the next one begins.
    pub pause: u32,
    /// Seconds that a device may take.
    pub deadline: u32,
    /// Somebody else has to approve of it.
    pub approval: bool,
}

impl Plan {
    /// The most steps.
    pub const MOST_STEPS: usize = 32;
    /// The most devices that may be under way at once.
    pub const MOST_AT_ONCE: u32 = 100_000;

    /// How many of `size` devices were taken once a step has ended.
    #[must_use]
    pub fn target(&self, step: u32, size: u32) -> u32 {
        if self.is_last(step) {
            return size;
        }
        let taken = usize::try_from(step).unwrap_or(usize::MAX).saturating_add(1);
        let of = |step: &Step| match step {
            Step::Devices(number) => number.get(),
            Step::Share(share) => share.of(size),
        };
        self.steps.iter().take(taken).map(of).max().unwrap_or(size).min(size)
    }

    /// Whether no step follows.
    #[must_use]
    pub fn is_last(&self, step: u32) -> bool {
        usize::try_from(step).map_or(true, |step| step.saturating_add(1) >= self.steps.len())
    }
}

/// Where a campaign stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CampaignState)]
pub enum State {
    /// It waits for somebody else to approve of it.
    Unapproved,
    /// Devices are started.
    Running,
    /// None are started until somebody resumes it.
    Paused,
    /// All devices came to an end.
    Finished,
    /// Somebody ended it.
    Cancelled,
}

impl State {
    /// Whether no device is started any more.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }

    /// As it is written in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unapproved => "unapproved",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How many devices stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CampaignCounts)]
pub struct Counts {
    /// Not started yet.
    pub waiting: u32,
    /// Under way.
    pub started: u32,
    /// Done.
    pub succeeded: u32,
    /// Not done.
    pub failed: u32,
    /// Undone.
    pub rolled_back: u32,
    /// Not heard in time.
    pub unreachable: u32,
    /// Left out.
    pub skipped: u32,
}

impl Counts {
    /// One device goes from one place to another.
    pub(crate) fn moved(&mut self, from: DeviceState, to: DeviceState) {
        let of = self.of(from);
        *of = of.saturating_sub(1);
        let of = self.of(to);
        *of = of.saturating_add(1);
    }

    fn of(&mut self, state: DeviceState) -> &mut u32 {
        match state {
            DeviceState::Waiting => &mut self.waiting,
            DeviceState::Started => &mut self.started,
            DeviceState::Succeeded => &mut self.succeeded,
            DeviceState::Failed => &mut self.failed,
            DeviceState::RolledBack => &mut self.rolled_back,
            DeviceState::Unreachable => &mut self.unreachable,
            DeviceState::Skipped => &mut self.skipped,
        }
    }

    /// Those that a retry takes again.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failed.saturating_add(self.rolled_back).saturating_add(self.unreachable)
    }
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Devices that the round has.
    pub size: u32,
    /// Those of them that were started, whatever became of them.
    pub next: u32,
    /// Those of them that were left out when they were started: others take their places in the step.
    pub skipped: u32,
    /// Which step, from 0.
    pub step: u32,
    /// `next` when it began.
    pub step_from: u32,
    /// Devices of the step that came to an end since it was last decided to go on.
    pub step_ended: u32,
    /// Those of them that failed.
    pub step_failed: u32,
    /// Devices of the round that came to an end since it was last decided to go on.
    pub round_ended: u32,
    /// Those of them that failed.
    pub round_failed: u32,
    /// When the step will have been well for long enough, in milliseconds since 1970.
    pub well_ms: Option<u64>,
}

/// A campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Fencing epoch of the node that wrote it; always 1 on the embedded store.
    pub epoch: u64,
    /// What it is for, in words.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// How its devices were selected, in words.
    pub selection: String,
    /// The devices that who made it is for: it has no others.
    pub scope: Scope,
    /// How it goes on.
    pub plan: Plan,
    /// Where it stands.
    pub state: State,
    /// Why it is paused, in words.
    pub reason: Option<String>,
    /// Who made it, as in the audit log.
    pub made_by: Arc<str>,
    /// When, in milliseconds since 1970.
    pub made_ms: u64,
    /// Who approved of it.
    pub approved_by: Option<Arc<str>>,
    /// When it came to its end, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// How often it was begun: 1, and one more with each retry.
    pub round: u32,
    /// Where the round stands.
    pub progress: Progress,
    /// How many devices stand where.
    pub counts: Counts,
}

/// Where a device of a campaign stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = CampaignDeviceState)]
pub enum DeviceState {
    /// It was not started yet.
    Waiting,
    /// It is under way.
    Started,
    /// What was to be done is done.
    Succeeded,
    /// It is not, or nobody knows.
    Failed,
    /// It was undone.
    RolledBack,
    /// The device was not heard in time.
    Unreachable,
    /// It was left out.
    Skipped,
}

impl DeviceState {
    /// Whether a retry takes it again.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::RolledBack | Self::Unreachable)
    }
}

/// What became of a device in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CampaignOutcome)]
pub struct Outcome {
    /// Which round.
    pub round: u32,
    /// Where it stands, or stood at the end of the round.
    pub state: DeviceState,
    /// Why, in words.
    pub reason: Option<String>,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it came to its end, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// The request in the queue of the device.
    pub request: Option<u64>,
}

/// A device of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignDevice {
    /// Endpoint client name.
    pub endpoint: Arc<str>,
    /// One for each round that it was started in, and one if it was left out at first.
    pub outcomes: Vec<Outcome>,
}

impl CampaignDevice {
    /// Where it stands in a round.
    #[must_use]
    pub fn state(&self, round: u32) -> DeviceState {
        match self.outcomes.last() {
            None => DeviceState::Waiting,
            Some(outcome) if outcome.round < round && outcome.state.is_failure() => DeviceState::Waiting,
            Some(outcome) => outcome.state,
        }
    }

    /// Whether a round takes it: the first one all, a later one those that had failed.
    #[must_use]
    pub fn is_in(&self, round: u32) -> bool {
        let is_of = self.outcomes.last().is_some_and(|outcome| outcome.round == round);
        is_of || self.state(round) == DeviceState::Waiting
    }

    /// Takes in what became of it.
    pub fn put(&mut self, outcome: Outcome) {
        self.outcomes.pop_if(|last| last.round == outcome.round);
        self.outcomes.push(outcome);
    }
}

/// Which devices are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DeviceSelection)]
pub enum Selection {
    /// Those of a group, as it is now.
    Group(String),
    /// Those of these names, in this order.
    Names(Vec<String>),
    /// Those whose names fit one of these patterns, in which `*` stands for any run of characters; in an order that is drawn, so that
    /// the first ones stand for all.
    Patterns(Scope),
}

/// A plan as it is if nobody says otherwise, that nobody has to approve of.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
pub(super) fn plan() -> Plan {
    Plan {
        steps: vec![
            Step::Devices(NonZeroU32::MIN),
            Step::Share(Share::percent(1)),
            Step::Share(Share::percent(10)),
            Step::Share(Share::ALL),
        ],
        rate: None,
        at_once: NonZeroU32::new(1000).unwrap(),
        threshold: Share::percent(5),
        least_failures: NonZeroU32::new(10).unwrap(),
        pause: 0,
        deadline: 86_400,
        approval: false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_as_it_was_given_and_is_rounded_up() {
        for (text, of_1000) in
            [("0%", 0), ("0.5%", 5), ("0.05%", 1), ("1%", 10), ("12.34%", 124), ("100%", 1000)]
        {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.to_string().as_str(), share.of(1000)), (text, of_1000));
        }
        for bad in ["", "1", "%", "101%", "100.01%", "1.%", ".5%", "1.234%", "-1%", "1,5%", "+1%", "1%%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert_eq!(Share::ALL.of(u32::MAX), u32::MAX);
    }

    #[test]
    fn steps_are_numbers_or_shares_and_never_fewer_than_before() {
        let steps: Vec<Step> = serde_json::from_str(r#"[5, "1%", "10%", 3, "100%"]"#).unwrap();
        assert_eq!(serde_json::to_string(&steps).unwrap(), r#"[5,"1%","10%",3,"100%"]"#);
        let plan = Plan { steps, ..plan() };
        let targets = |size| [0, 1, 2, 3, 4].map(|step| plan.target(step, size));
        assert_eq!(targets(1000), [5, 10, 100, 100, 1000]);
        assert_eq!(targets(3), [3; 5]);
        assert_eq!(targets(0), [0; 5]);
        let error = serde_json::from_str::<Vec<Step>>("[0]").unwrap_err().to_string();
        assert!(error.contains("a number of devices, or a share"), "{error}");
    }

    #[test]
    fn a_device_that_failed_waits_in_the_next_round_and_its_outcomes_stay() {
        let outcome = |round, state| Outcome {
            round,
            state,
            reason: None,
            started_ms: 1,
            ended_ms: None,
            request: None,
        };
        let mut device = CampaignDevice { endpoint: "a".into(), outcomes: Vec::new() };
        assert_eq!(device.state(1), DeviceState::Waiting);
        device.put(outcome(1, DeviceState::Started));
        device.put(outcome(1, DeviceState::Failed));
        assert_eq!((device.outcomes.len(), device.state(1)), (1, DeviceState::Failed));
        assert_eq!((device.is_in(2), device.state(2)), (true, DeviceState::Waiting));
        device.put(outcome(2, DeviceState::Succeeded));
        assert_eq!((device.outcomes.len(), device.is_in(2), device.is_in(3)), (2, true, false));
    }
}
