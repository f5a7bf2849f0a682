//! Campaigns over HTTP.
//!
//! `POST /campaigns`, with `?dry_run=true` to be told what would be done:
//! ```json
//! { "name": "yearly", "devices": { "group": "basement" }, "action": { "rotate": { "mode": "psk", "grace": 600 } } }
//! ```
//! `devices` is one of `{"group": NAME}`, `{"names": [NAME, …]}`, `{"patterns": [PATTERN, …]}`; `action` one of
//! ```json
//! { "rotate": { "mode": "rpk", "grace": 600, "server_uri": "coaps://lwm2m.example:5684" } }
//! { "write": { "path": "/3303/0/5750", "value": "cellar" } }
//! { "execute": { "path": "/3/0/4", "arguments": "" } }
//! ```
//! a value as that of a Write to one device. How it goes on, with the defaults:
//! ```json
//! { "steps": [1, "1%", "10%", "100%"], "rate": null, "at_once": 1000, "threshold": "5%", "least_failures": 10,
//!   "pause": 0, "deadline": 86400, "approval": true }
//! ```
//! A step is how many devices were taken once it has ended; the last one takes all. One failure in the first step stops the campaign, later
//! as many as `threshold` of the step, or `least_failures` that are as many of those that came to an end so far. `approval` is `false`
//! without for a rotation of few devices, and cannot be left out for many.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use core::num::NonZeroU32;
use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::guard::Holder;
use super::problem::Problem;
use super::request::{self, Body, Params, Route};
use super::values::{self, Types, Written};
use super::{Actor, Api, groups, now_ms};
use crate::campaigns::{
    Act, Action, Campaign, CampaignDevice, Counts, DeviceState, Group, New, Outcome, Plan, Progress, Refused,
    Rotation, Selected, Selection, Share, State as CampaignState, Step,
};
use crate::queue;
use crate::store::is_within;
use crate::{Operation, WriteMode};

/// Rows in one answer unless `limit` says otherwise.
const LIMIT: usize = 100;
/// Most rows in one answer.
const MAX_LIMIT: usize = 1000;
/// Longest name in bytes.
const LONGEST_NAME: usize = 128;
/// The longest time that a device may take, in seconds: 30 days, as long as a request may wait.
const LONGEST_DEADLINE: u32 = 30 * 86_400;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those before this one: `next` of the page before.
    cursor: Option<u64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of campaigns, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct CampaignList {
    campaigns: Vec<ShownCampaign>,
    /// The `cursor` of the next page, if there is one.
    next: Option<u64>,
}

/// A campaign, and where it stands; times in milliseconds since 1970.
#[derive(Serialize, ToSchema)]
#[schema(as = Campaign)]
pub(super) struct ShownCampaign {
    id: u64,
    name: String,
    action: Action,
    /// How its devices were selected, in words.
    devices: String,
    state: CampaignState,
    /// Why it is paused, in words.
    reason: Option<String>,
    /// How often it was begun: 1, and one more with each retry.
    round: u32,
    /// Which of its steps it is at, from 1.
    step: u32,
    /// Devices that were taken once each of its steps has ended.
    targets: Vec<u32>,
    counts: Counts,
    plan: Plan,
    made_by: String,
    made_at_ms: u64,
    approved_by: Option<String>,
    ended_at_ms: Option<u64>,
}

impl ShownCampaign {
    pub(super) fn new(id: u64, campaign: &Campaign) -> Self {
        Self {
            id,
            name: campaign.name.clone(),
            action: campaign.action.clone(),
            devices: campaign.selection.clone(),
            state: campaign.state,
            reason: campaign.reason.clone(),
            round: campaign.round,
            step: campaign.progress.step.saturating_add(1),
            targets: targets(&campaign.plan, campaign.progress.size),
            counts: campaign.counts,
            plan: campaign.plan.clone(),
            made_by: campaign.made_by.to_string(),
            made_at_ms: campaign.made_ms,
            approved_by: campaign.approved_by.as_deref().map(str::to_owned),
            ended_at_ms: campaign.ended_ms,
        }
    }
}

fn targets(plan: &Plan, size: u32) -> Vec<u32> {
    (0..).zip(&plan.steps).map(|(step, _)| plan.target(step, size)).collect()
}

/// Campaigns, the newest first.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Params(query): Params<ListQuery>,
) -> Result<Json<CampaignList>, Problem> {
    let limit = limit(query.limit)?;
    let read = api.campaigns.read(move |store| {
        let (_, mut all) = store.campaigns().all()?;
        all.retain(|(id, _)| query.cursor.is_none_or(|before| *id < before));
        let mut shown = Vec::new();
        for (id, campaign) in all.iter().rev() {
            if shown.len() > limit {
                break;
            }
            if is_within(store.campaigns(), *id, campaign, holder.scope())? {
                shown.push(ShownCampaign::new(*id, campaign));
            }
        }
        Ok(shown)
    });
    let mut campaigns = read.await?;
    let has_more = campaigns.len() > limit;
    campaigns.truncate(limit);
    let next = campaigns.last().map(|last| last.id).filter(|_| has_more);
    Ok(Json(CampaignList { campaigns, next }))
}

/// One campaign.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(id): Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    let campaign = find(&api, holder, id).await?;
    Ok(Json(ShownCampaign::new(id, &campaign)))
}

/// A campaign that has no devices but those of the token.
async fn find(api: &Api, holder: Holder, id: u64) -> Result<Campaign, Problem> {
    let read = api.campaigns.read(move |store| {
        let Some(campaign) = store.campaigns().one(id)? else { return Ok(None) };
        let is_within = is_within(store.campaigns(), id, &campaign, holder.scope())?;
        Ok(is_within.then_some(campaign))
    });
    read.await?.ok_or_else(|| no_such_campaign(id))
}

fn no_such_campaign(id: u64) -> Problem {
    Problem::new(
        404,
        "No such campaign",
        format!("there is no campaign {id} of the devices that the token is for"),
    )
}

fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(LIMIT);
    let is_good = (1..=MAX_LIMIT).contains(&limit);
    is_good.then_some(limit).ok_or_else(|| Problem::invalid(format!("limit: 1 to {MAX_LIMIT}")))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DevicesQuery {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<DeviceState>,
    /// Only those from this number on: `next` of the page before.
    #[param(minimum = 0, maximum = 4294967295_u32)]
    cursor: Option<u32>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of the devices of a campaign.
#[derive(Serialize, ToSchema)]
#[schema(as = CampaignDeviceList)]
pub(super) struct DeviceList {
    devices: Vec<ShownDevice>,
    /// The `cursor` of the next page, if there is one.
    next: Option<u32>,
}

/// A device of a campaign.
#[derive(Serialize, ToSchema)]
#[schema(as = CampaignDevice)]
struct ShownDevice {
    /// Its place in the campaign, from 0.
    number: u32,
    endpoint: String,
    /// Where it stands in the round that runs.
    state: DeviceState,
    /// One for each round that it was started in; of round 0 where it was left out at first.
    outcomes: Vec<Outcome>,
}

/// The devices of a campaign, in the order in which they are started.
pub(super) async fn devices(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(id): Route<u64>,
    Params(query): Params<DevicesQuery>,
) -> Result<Json<DeviceList>, Problem> {
    let limit = limit(query.limit)?;
    let round = find(&api, holder, id).await?.round;
    let read = api.campaigns.read(move |store| {
        let is_wanted =
            |device: &CampaignDevice| query.state.is_none_or(|state| device.state(round) == state);
        let from = query.cursor.unwrap_or_default();
        store.campaigns().devices(id, from, limit.saturating_add(1), &is_wanted)
    });
    let mut found = read.await?;
    let next = if found.len() > limit { found.pop().map(|(number, _)| number) } else { None };
    let devices = found.into_iter().map(|(number, device)| ShownDevice {
        number,
        state: device.state(round),
        endpoint: device.endpoint.to_string(),
        outcomes: device.outcomes,
    });
    Ok(Json(DeviceList { devices: devices.collect(), next }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MakeQuery {
    /// Whether to tell what would be done, and do nothing.
    dry_run: Option<bool>,
}

/// A campaign that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeCampaign {
    /// What it is for, in words.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    action: MakeAction,
    devices: Selection,
    /// How many devices were taken once each step has ended; the last one takes all [default: 1, 1%, 10%, 100%].
    #[schema(min_items = 1, max_items = 32)]
    steps: Option<Vec<Step>>,
    /// Devices that are started in a minute.
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate: Option<NonZeroU32>,
    /// Devices that may be under way at once [default: 1000].
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 100000)]
    at_once: Option<NonZeroU32>,
    /// The share of devices whose failure stops the campaign [default: 5%].
    threshold: Option<Share>,
    /// The fewest failures that stop it by their share of the devices that came to an end so far [default: 10].
    #[schema(value_type = Option<u32>, minimum = 1)]
    least_failures: Option<NonZeroU32>,
    /// Seconds that a step has to have been well before the next one begins [default: 0].
    #[schema(maximum = 2592000)]
    pause: Option<u32>,
    /// Seconds that a device may take [default: 86400].
    #[schema(minimum = 1, maximum = 2592000)]
    deadline: Option<u32>,
    /// Whether somebody else has to approve of it; it cannot be left out for many devices.
    approval: Option<bool>,
}

/// What is done with each device.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum MakeAction {
    /// Its management credential is replaced.
    Rotate(Rotation),
    /// It is written to.
    Write(MakeWrite),
    /// A resource is executed.
    Execute(MakeExecute),
}

/// What is written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MakeWrite {
    /// An instance, or what lies below one, as `/3303/0/5750`.
    path: String,
    /// As the body of a Write to one device.
    #[schema(value_type = Written)]
    value: JsonValue,
    /// Whether what is left out is removed; that is so below an instance and not so of one, where nothing is said.
    replace: Option<bool>,
}

/// What is executed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MakeExecute {
    /// A resource, as `/3/0/4`.
    path: String,
    /// As in `0='on',1`.
    #[serde(default)]
    #[schema(required = false)]
    arguments: String,
}

impl MakeAction {
    /// What is kept of it, and what is asked of each device.
    fn read(self, api: &Api) -> Result<(Action, Option<Operation>), Problem> {
        match self {
            Self::Rotate(rotation) => Ok((Action::Rotate(rotation), None)),
            Self::Write(MakeWrite { path, value, replace }) => {
                let path = request::path(&path)?;
                // The versions of the objects differ from device to device.
                let types = Types::new(api.catalog.current(), None);
                let values = values::parse_write(&types, &path, &value)?;
                let is_replace = replace.unwrap_or(values::depth(&path) > 2);
                let mode = if is_replace { WriteMode::Replace } else { WriteMode::Update };
                let action = Action::Write { path: path.to_string() };
                Ok((action, Some(Operation::Write { path, mode, values, format: None })))
            }
            Self::Execute(MakeExecute { path, arguments }) => {
                let path = request::path(&path)?;
                if values::depth(&path) != 3 {
                    return Err(Problem::invalid(format!("{path} cannot be executed: a resource can")));
                }
                let action = Action::Execute { path: path.to_string() };
                Ok((action, Some(Operation::Execute { path, arguments })))
            }
        }
    }
}

/// What a campaign would do.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRun {
    /// Devices that would take part.
    devices: usize,
    /// How many of them would have been taken once each step has ended.
    targets: Vec<u32>,
    /// Somebody else would have to approve of it.
    approval: bool,
    /// Devices that would be left out.
    skipped: usize,
    /// The first 100 of them, and why.
    skipped_devices: Vec<SkippedDevice>,
}

/// A device that would be left out.
#[derive(Serialize, ToSchema)]
struct SkippedDevice {
    endpoint: String,
    reason: String,
}

/// Makes a campaign, or tells what it would do.
pub(super) async fn make(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Params(query): Params<MakeQuery>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let mut body: MakeCampaign = request::secret_body(&bytes)?;
    let name = core::mem::take(&mut body.name);
    if !(1..=LONGEST_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("name: 1 to {LONGEST_NAME} bytes without control characters")));
    }
    let asks = body.approval.take();
    let mut plan = body.plan()?;
    let MakeCampaign { action, devices: selection, .. } = body;
    let (action, operation) = action.read(&api)?;
    may(&holder, &action)?;
    let content = operation.map(|operation| sealed(&operation, &actor)).transpose()?;
    let selected = select(&api, &holder, &selection, &action).await?;

    let size = u32::try_from(selected.taken.len()).map_err(|_| Problem::invalid("too many devices"))?;
    let is_large = size > api.campaigns.limits().approval_above;
    plan.approval = is_large || asks.unwrap_or(!matches!(action, Action::Rotate(_)));
    if asks == Some(false) && is_large {
        let most = api.campaigns.limits().approval_above;
        let why = format!("approval: somebody else approves of what is done with more than {most} devices");
        return Err(Problem::invalid(why));
    }
    if query.dry_run == Some(true) {
        let first = selected.skipped.iter().take(LIMIT);
        let told = DryRun {
            devices: selected.taken.len(),
            targets: targets(&plan, size),
            approval: plan.approval,
            skipped: selected.skipped.len(),
            skipped_devices: first
                .map(|(endpoint, reason)| SkippedDevice {
                    endpoint: endpoint.to_string(),
                    reason: reason.clone(),
                })
                .collect(),
        };
        return Ok(Json(told).into_response());
    }
    let (now, skipped) = (now_ms(), u32::try_from(selected.skipped.len()).unwrap_or(u32::MAX));
    let campaign = Campaign {
        epoch: queue::EPOCH,
        name,
        action,
        selection: selection.to_string(),
        scope: holder.scope().clone(),
        plan,
        state: CampaignState::Unapproved,
        reason: None,
        made_by: actor,
        made_ms: now,
        approved_by: None,
        ended_ms: None,
        round: 1,
        progress: Progress { size, ..Progress::default() },
        counts: Counts { waiting: size, skipped, ..Counts::default() },
    };
    let new = New { campaign, devices: selected.devices(now), content };
    let id = api.campaigns.make(new).await.map_err(Problem::from)?;
    let campaign = find(&api, holder, id).await?;
    Ok((StatusCode::CREATED, Json(ShownCampaign::new(id, &campaign))).into_response())
}

impl MakeCampaign {
    /// How it goes on, without whether somebody else has to approve of it.
    fn plan(&mut self) -> Result<Plan, Problem> {
        let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let mut steps = self.steps.take().unwrap_or_else(|| {
            let shares = [1, 10, 100].map(|percent| Step::Share(Share::percent(percent)));
            core::iter::once(Step::Devices(NonZeroU32::MIN)).chain(shares).collect()
        });
        if steps.last().is_some_and(|last| *last != Step::Share(Share::ALL)) {
            steps.push(Step::Share(Share::ALL));
        }
        if !(1..=Plan::MOST_STEPS).contains(&steps.len()) {
            return Err(Problem::invalid(format!("steps: 1 to {}", Plan::MOST_STEPS)));
        }
        let at_once = self.at_once.unwrap_or(number(1000));
        if at_once.get() > Plan::MOST_AT_ONCE {
            return Err(Problem::invalid(format!("at_once: 1 to {}", Plan::MOST_AT_ONCE)));
        }
        let deadline = self.deadline.unwrap_or(86_400);
        let pause = self.pause.unwrap_or_default();
        if !(1..=LONGEST_DEADLINE).contains(&deadline) || pause > LONGEST_DEADLINE {
            return Err(Problem::invalid(format!("deadline, pause: at most {LONGEST_DEADLINE} seconds")));
        }
        Ok(Plan {
            steps,
            rate: self.rate,
            at_once,
            threshold: self.threshold.unwrap_or(Share::percent(5)),
            least_failures: self.least_failures.unwrap_or(number(10)),
            pause,
            deadline,
            approval: false,
        })
    }
}

/// Whether the holder of a token decides over what is done.
fn may(holder: &Holder, action: &Action) -> Result<(), Problem> {
    let (role, permission) = (holder.0.record.role, action.permission());
    if role.may(permission) { Ok(()) } else { Err(Problem::not_permitted(role, permission)) }
}

/// What is asked, as it is kept sealed.
fn sealed(operation: &Operation, actor: &Arc<str>) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let bytes = queue::Body::new(operation, actor).map(|body| body.emit());
    let bytes = bytes.ok_or_else(|| Problem::invalid("it cannot be queued"))?;
    if bytes.len() > queue::LONGEST {
        return Err(Problem::invalid(format!("what is asked takes more than {} bytes", queue::LONGEST)));
    }
    Ok(bytes)
}

async fn select(
    api: &Api,
    holder: &Holder,
    selection: &Selection,
    action: &Action,
) -> Result<Selected, Problem> {
    let group = match selection {
        Selection::Group(name) => groups::find(api, holder, name).await?,
        Selection::Names(names) => Group::Names(names.clone()),
        Selection::Patterns(patterns) => Group::Patterns(patterns.clone()),
    };
    group.check().map_err(Problem::invalid)?;
    let registered = api.server.devices().await;
    let registered: Vec<Arc<str>> = registered.into_iter().map(|device| device.endpoint).collect();
    let (credentials, scope, action) = (Arc::clone(&api.credentials), holder.scope().clone(), action.clone());
    let chosen = tokio::task::spawn_blocking(move || {
        Selected::choose(&group, &scope, &action, &credentials, &registered)
    });
    chosen.await.map_err(|_| Problem::internal())
}

/// Lets a campaign begin.
pub(super) async fn approve(
    state: State<Api>,
    actor: Extension<Actor>,
    holder: Extension<Holder>,
    id: Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    act(state, actor, holder, id, Some(Act::Approve)).await
}

/// Starts no further device until it is resumed.
pub(super) async fn pause(
    state: State<Api>,
    actor: Extension<Actor>,
    holder: Extension<Holder>,
    id: Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    act(state, actor, holder, id, Some(Act::Pause)).await
}

/// Goes on.
pub(super) async fn resume(
    state: State<Api>,
    actor: Extension<Actor>,
    holder: Extension<Holder>,
    id: Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    act(state, actor, holder, id, Some(Act::Resume)).await
}

/// Starts no further device.
pub(super) async fn cancel(
    state: State<Api>,
    actor: Extension<Actor>,
    holder: Extension<Holder>,
    id: Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    act(state, actor, holder, id, Some(Act::Cancel)).await
}

/// Takes those again that failed.
pub(super) async fn retry(
    state: State<Api>,
    actor: Extension<Actor>,
    holder: Extension<Holder>,
    id: Route<u64>,
) -> Result<Json<ShownCampaign>, Problem> {
    act(state, actor, holder, id, None).await
}

/// Does what somebody wants; nothing else is to take the failed ones again.
async fn act(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Route(id): Route<u64>,
    act: Option<Act>,
) -> Result<Json<ShownCampaign>, Problem> {
    let campaign = find(&api, holder.clone(), id).await?;
    may(&holder, &campaign.action)?;
    match act {
        Some(act) => api.campaigns.act(id, act, actor).await?,
        None => api.campaigns.retry(id, actor).await?,
    }
    let campaign = find(&api, holder, id).await?;
    Ok(Json(ShownCampaign::new(id, &campaign)))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Unknown(_) => Self::new(404, "No such campaign", detail),
            Refused::Stopped => Self::new(503, "Stopping", detail),
            _ => Self::new(409, "Refused", detail),
        }
    }
}
