//! Credentials over HTTP.
//!
//! `PUT /devices/{ep}/credentials` enrols; accounts that are not named stay as they are, and the same request again
//! changes nothing:
//! ```json
//! { "bootstrap": { "identity": "bs-17", "key": "00112233445566778899aabbccddeeff" },
//!   "management": { "generate": true },
//!   "allow_nosec": false,
//!   "profile": { "server_uri": "coaps://lwm2m.example:5684", "lifetime": 3600, "binding": "U", "notification_storing": true } }
//! ```
//! An identity is text, or `"identity_hex"`; a key is hex digits of 16 to 64 bytes. With a bootstrap account and no
//! management account, a management credential is drawn for the bootstrap to deliver; that one is never shown.
//!
//! `POST …/rotate`: `{"deadline": 86400, "grace": 600, "server_uri": null, "reason": "yearly"}`, times in seconds.
//! `POST …/revoke`: `{"role": "management", "reason": "lost"}`; without a role the whole device.
//! `POST …/suspend`, `/resume`, `/decommission`: `{"reason": "…"}`; the last one leaves a tombstone under the name.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::{self, Body, Params, Route};
use super::{Actor, Api, now_ms};
use crate::credentials::{
    Account, Credential, Device, Enrol, EnrolAccount, Identity, Kept, Key, KeyMaterial, Mode, Profile, Role,
    Rotate, Rotation, Subject,
};
use crate::store::AuditRow;

/// Audit rows in one answer unless `limit` says otherwise.
pub(super) const LIMIT: usize = 100;

/// Where a device's credentials stand, for lists.
pub(super) fn summary(device: &Device) -> Value {
    let state = |role| device.account(role).map(|account| account.state.as_str());
    json!({
        "bootstrap": state(Role::Bootstrap),
        "management": state(Role::Management),
        "hold": device.hold.as_ref().map(|hold| hold.kind),
        "allow_nosec": device.allow_nosec,
    })
}

/// Everything but the keys.
fn masked(device: &Device) -> Value {
    json!({
        "endpoint": device.endpoint,
        "version": device.version,
        "allow_nosec": device.allow_nosec,
        "hold": device.hold,
        "profile": device.profile,
        "bootstrap": device.bootstrap.as_ref().map(account),
        "management": device.management.as_ref().map(account),
    })
}

fn account(account: &Account) -> Value {
    let credentials: Vec<Value> = account.credentials.iter().map(credential).collect();
    json!({
        "state": account.state.as_str(),
        "current": account.current,
        "note": account.note,
        "last_success_ms": account.last_success_ms,
        "rotation": account.rotation().map(rotation),
        "credentials": credentials,
    })
}

fn credential(credential: &Credential) -> Value {
    let mut shown = serde_json::Map::new();
    let mut show = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    show("generation", json!(credential.generation));
    show("mode", json!(credential.subject.mode()));
    match &credential.subject {
        Subject::Psk(identity) => {
            show("identity", json!(identity.to_string()));
            show("identity_hex", json!(hex::encode(identity.bytes())));
            show("key", json!("masked"));
        }
        Subject::RawPublicKey(key) => {
            show("public_key_sha256", json!(key));
        }
        Subject::Certificate(binding) => {
            show("binding", json!(binding));
        }
    }
    show("standing", json!(credential.standing));
    show("created_ms", json!(credential.created_ms));
    Value::Object(shown)
}

fn rotation(rotation: &Rotation) -> Value {
    json!({
        "from": rotation.from,
        "to": rotation.to,
        "phase": rotation.phase,
        "started_ms": rotation.started_ms,
        "deadline_ms": rotation.deadline_ms,
        "retire_ms": rotation.retire_ms,
        "server_uri": rotation.server_uri,
        "reason": rotation.reason,
        "handed_out": rotation.handed_out,
        "old_seen": rotation.old_seen,
        "trigger_pending": rotation.trigger.is_some(),
    })
}

/// The accounts of a device, keys masked.
pub(super) async fn show(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<Value>, Problem> {
    match api.credentials.device(&endpoint) {
        Some(device) => Ok(Json(masked(&device))),
        None => Err(Problem::new(404, "No such device", format!("'{endpoint}' was never enrolled"))),
    }
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "{\"bootstrap\": …, \"management\": …, \"allow_nosec\": …, \"profile\": …}"
)]
struct EnrolBody {
    bootstrap: Option<AccountBody>,
    management: Option<AccountBody>,
    allow_nosec: Option<bool>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"identity\": …, \"key\": …} or {\"generate\": true}")]
struct AccountBody {
    identity: Option<String>,
    identity_hex: Option<String>,
    key: Option<zeroize::Zeroizing<String>>,
    #[serde(default)]
    generate: bool,
}

impl AccountBody {
    fn material(&self, role: Role) -> Result<KeyMaterial, Problem> {
        let invalid = |what: String| Problem::invalid(format!("{role}: {what}"));
        let identity = match (&self.identity, &self.identity_hex) {
            (Some(text), None) => Some(text.as_bytes().to_vec()),
            (None, Some(digits)) => {
                Some(hex::decode(digits).map_err(|error| invalid(format!("identity_hex: {error}")))?)
            }
            (None, None) => None,
            (Some(_), Some(_)) => return Err(invalid("give identity or identity_hex, not both".to_owned())),
        };
        match (identity, &self.key, self.generate) {
            (None, None, true) => Ok(KeyMaterial::Generate(Mode::Psk)),
            (Some(identity), Some(key), false) => {
                let identity = Identity::new(&identity)
                    .map_err(|length| invalid(format!("identity: 1 to 128 bytes, not {length}")))?;
                let bytes = hex::decode(key.as_bytes())
                    .map_err(|error| invalid(format!("key, hex digits: {error}")))?;
                let key = Key::new(bytes).map_err(|length| {
                    invalid(format!("key: 16 to 64 bytes, the decoded length is {length}"))
                })?;
                Ok(KeyMaterial::Given { identity, key })
            }
            _ => Err(invalid("give identity and key, or {\"generate\": true}".to_owned())),
        }
    }
}

/// Enrols accounts; the answer shows generated keys, once.
pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let body: EnrolBody = request::secret_body(&bytes)?;
    let mut enrol = Enrol { allow_nosec: body.allow_nosec, profile: body.profile, ..Enrol::default() };
    for (role, account) in [(Role::Bootstrap, &body.bootstrap), (Role::Management, &body.management)] {
        if let Some(account) = account {
            enrol.accounts.push(EnrolAccount { role, key: account.material(role)? });
        }
    }
    let created = api
        .act(move |credentials| {
            let outcome = credentials.enrol(now_ms(), &actor, &endpoint, &enrol)?;
            let device = credentials.device(&endpoint);
            Ok(((outcome.created, device), outcome.commands))
        })
        .await?;
    let (created, device) = created;
    let status = if created.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
    let created: Vec<Value> = created
        .iter()
        .map(|created| {
            json!({
                "role": created.role,
                "generation": created.generation,
                "identity": created.subject.to_string(),
                "key": created.key.as_ref().and_then(Kept::psk).map(|key| hex::encode(key.bytes())),
            })
        })
        .collect();
    Ok((status, Json(json!({ "created": created, "credentials": device.as_deref().map(masked) }))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    role: Option<Role>,
    deadline: Option<u64>,
    grace: Option<u64>,
    server_uri: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Starts a rotation.
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let body: RotateBody = request::body(&bytes)?;
    let default = Rotate::default();
    let rotate = Rotate {
        role: body.role.unwrap_or(default.role),
        deadline_ms: body.deadline.map_or(default.deadline_ms, |seconds| seconds.saturating_mul(1000)),
        grace_ms: body.grace.map_or(default.grace_ms, |seconds| seconds.saturating_mul(1000)),
        server_uri: body.server_uri,
        reason: body.reason,
        key: None,
    };
    let rotated = api
        .act(move |credentials| {
            let mut rotated = credentials.rotate(now_ms(), &actor, &endpoint, &rotate)?;
            let commands = core::mem::take(&mut rotated.commands);
            Ok((rotated, commands))
        })
        .await?;
    let answer = json!({
        "generation": rotated.generation,
        "identity": rotated.subject.to_string(),
        "bootstrap_last_success_ms": rotated.bootstrap_last_success_ms,
        "warnings": rotated.warnings,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    role: Option<Role>,
    #[serde(default)]
    reason: String,
}

/// Revokes an account, or the whole device.
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Value>, Problem> {
    let body: RevokeBody = request::body(&bytes)?;
    api.act(move |credentials| {
        let commands = credentials.revoke(now_ms(), &actor, &endpoint, body.role, &body.reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(json!(device.as_deref().map(summary))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    #[serde(default)]
    reason: String,
}

/// Suspends a device.
pub(super) async fn suspend(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Value>, Problem> {
    let ReasonBody { reason } = request::body(&bytes)?;
    api.act(move |credentials| {
        let commands = credentials.suspend(now_ms(), &actor, &endpoint, &reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(json!(device.as_deref().map(summary))))
}

/// Lifts a suspension.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Value>, Problem> {
    let ReasonBody { reason } = request::body(&bytes)?;
    api.act(move |credentials| {
        let commands = credentials.resume(now_ms(), &actor, &endpoint, &reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(json!(device.as_deref().map(summary))))
}

/// Revokes a device and leaves a tombstone under its name.
pub(super) async fn decommission(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Value>, Problem> {
    let ReasonBody { reason } = request::body(&bytes)?;
    api.act(move |credentials| {
        let commands = credentials.decommission(now_ms(), &actor, &endpoint, &reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(json!(device.as_deref().map(summary))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

/// The audit rows of one device: those after `after`, else the newest.
pub(super) async fn history(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<Value>, Problem> {
    if api.credentials.device(&endpoint).is_none() {
        return Err(Problem::new(404, "No such device", format!("'{endpoint}' was never enrolled")));
    }
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, 1000);
    let rows: Vec<AuditRow> =
        api.read_store(move |credentials| credentials.audit(Some(&endpoint), query.after, limit)).await?;
    Ok(Json(json!({ "rows": rows })))
}
