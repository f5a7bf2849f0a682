//! What a campaign does with one device, and where that stands.
//!
//! Invariant: what was begun by a run that was killed is found again, by the campaign and round that the credential or the request is
//! marked with: nothing is begun twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::groups::may_take;
use super::record::{Action, Campaign, DeviceState};
use crate::credentials::{
    CampaignRound, Command, Credentials, Device, KeyMaterial, OperatorError, Role, Rotate, Standing, State,
};
use crate::queue::{self, Body, Queue, Queued};
use crate::store::{QueuedRequest, StoreError};

/// Where a device stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It is under way; by which request.
    UnderWay(Option<u64>),
    /// It came to an end.
    Ended(DeviceState, Option<String>),
}

impl Stands {
    fn failed(why: impl Into<String>) -> Self {
        Self::Ended(DeviceState::Failed, Some(why.into()))
    }

    fn skipped(why: impl Into<String>) -> Self {
        Self::Ended(DeviceState::Skipped, Some(why.into()))
    }

    /// What was to be done is done.
    pub const SUCCEEDED: Self = Self::Ended(DeviceState::Succeeded, None);
}

/// Priority of what campaigns ask: what somebody waits for goes first.
const PRIORITY: u8 = 64;

/// Who acts for a campaign, as the audit log has it.
pub(super) fn actor(by: CampaignRound) -> Arc<str> {
    format!("campaign:{}/{}", by.id, by.round).into()
}

/// Where the rotation of a device stands that a campaign began; `None` where it has begun none, or one of a former round was rolled back.
#[must_use]
pub fn rotation(device: &Device, by: CampaignRound) -> Option<Stands> {
    let account = device.account(Role::Management)?;
    let is_of = |campaign: Option<CampaignRound>| campaign.is_some_and(|of| of.id == by.id);
    let credential = account.credentials.iter().rev().find(|each| is_of(each.campaign))?;
    let (generation, round) = (credential.generation, credential.campaign?.round);
    let why = || account.note.clone().unwrap_or_default();
    Some(match (credential.standing, &account.state) {
        (Standing::RolledBack, _) if round < by.round => return None,
        (Standing::RolledBack, _) => {
            let why = why();
            let why = why.strip_prefix("rolled back: ").unwrap_or(&why);
            Stands::Ended(DeviceState::RolledBack, Some(why.to_owned()))
        }
        (Standing::Revoked, _) | (_, State::Revoked) => Stands::failed("the new credential was revoked"),
        // A later one took its place.
        (Standing::Retired, _) => Stands::SUCCEEDED,
        (Standing::Accepted, State::Rotating(rotation)) if rotation.to == generation => {
            match (rotation.phase, device.is_held()) {
                (crate::credentials::Phase::Proven, _) => Stands::SUCCEEDED,
                (_, Err(refusal)) => Stands::failed(format!("it is {refusal}")),
                (_, Ok(())) => Stands::UnderWay(None),
            }
        }
        (Standing::Accepted, State::Unreachable(rotation)) if rotation.to == generation => {
            Stands::Ended(DeviceState::Unreachable, Some(why()))
        }
        (Standing::Accepted, _) => Stands::SUCCEEDED,
    })
}

/// Begins a rotation, unless this campaign has, and answers what has to be done then. Waits for the store.
///
/// # Errors
/// When the store fails: then nothing was begun.
pub fn rotate(
    credentials: &Credentials,
    now_ms: u64,
    endpoint: &str,
    by: CampaignRound,
    campaign: &Campaign,
) -> Result<(Stands, Vec<Command>), StoreError> {
    let Action::Rotate(how) = &campaign.action else {
        return Ok((Stands::failed("it is no rotation"), Vec::new()));
    };
    let device = credentials.device(endpoint);
    if let Some(stands) = device.as_deref().and_then(|device| rotation(device, by)) {
        return Ok((stands, Vec::new()));
    }
    if let Err(why) = may_take(&campaign.action, device.as_deref(), false) {
        return Ok((Stands::skipped(why), Vec::new()));
    }
    let default = Rotate::default();
    let rotate = Rotate {
        key: how.mode.map(KeyMaterial::Generate),
        deadline_ms: u64::from(campaign.plan.deadline).saturating_mul(1000),
        grace_ms: how.grace.map_or(default.grace_ms, |seconds| seconds.saturating_mul(1000)),
        server_uri: how.server_uri.clone(),
        reason: format!("campaign {} '{}', round {}", by.id, campaign.name, by.round),
        campaign: Some(by),
        ..default
    };
    match credentials.rotate(now_ms, &actor(by), endpoint, &rotate) {
        Ok(rotated) => Ok((Stands::UnderWay(None), rotated.commands)),
        Err(OperatorError::Store(error)) => Err(error),
        Err(error) => Ok((Stands::failed(error.to_string()), Vec::new())),
    }
}

/// Queues what is asked of a device, unless this campaign has; `known` is the request of which it is known that it has. A device that
/// was never enrolled was registered when the campaign was made: if it is not now, it is waited for as others are.
pub(super) async fn ask(
    queue: &Queue,
    credentials: &Credentials,
    endpoint: &str,
    by: CampaignRound,
    (campaign, content, known): (&Campaign, &Zeroizing<Vec<u8>>, Option<u64>),
) -> Result<Stands, StoreError> {
    if let Some(request) = known {
        return request_of(queue, endpoint, request).await;
    }
    let actor = actor(by);
    let is_own =
        |request: &&QueuedRequest| Body::parse(&request.body).is_some_and(|body| *body.actor() == actor);
    if let Some(request) = queue.requests(endpoint).await?.iter().find(is_own) {
        return Ok(request_stands(request));
    }
    if let Err(why) = may_take(&campaign.action, credentials.device(endpoint).as_deref(), true) {
        return Ok(Stands::skipped(why));
    }
    let Some(operation) = Body::parse(content).and_then(|body| body.operation()) else {
        return Ok(Stands::failed("this version of the server cannot read what is to be asked"));
    };
    let expires = Duration::from_secs(campaign.plan.deadline.into());
    let queued = Queued { operation, priority: PRIORITY, expires, actor };
    match queue.add(endpoint, queued).await {
        Ok(request) => Ok(Stands::UnderWay(Some(request))),
        Err(queue::NotQueued::Stopped) => Ok(Stands::UnderWay(None)),
        Err(error) => Ok(Stands::failed(error.to_string())),
    }
}

/// Where a queued request stands.
pub(super) async fn request_of(queue: &Queue, endpoint: &str, request: u64) -> Result<Stands, StoreError> {
    let found = queue.request(endpoint, request).await?;
    Ok(found
        .as_ref()
        .map_or_else(|| Stands::failed("unknown: its request is not kept any more"), request_stands))
}

fn request_stands(request: &QueuedRequest) -> Stands {
    let outcome = request.outcome.as_ref().and_then(|outcome| serde_json::from_slice::<Value>(outcome).ok());
    let reason = outcome.as_ref().and_then(|outcome| outcome.get("reason")?.as_str()).map(str::to_owned);
    match request.head.state {
        queue::State::Queued | queue::State::Sent => Stands::UnderWay(Some(request.id)),
        queue::State::Done => Stands::SUCCEEDED,
        queue::State::Failed => Stands::failed(reason.unwrap_or_else(|| "it refused".to_owned())),
        queue::State::Expired => {
            Stands::Ended(DeviceState::Unreachable, Some("it was not heard before the deadline".to_owned()))
        }
        queue::State::Cancelled => Stands::failed("its request was cancelled"),
        queue::State::Unknown => Stands::failed("unknown: the request left, and no answer came"),
    }
}
