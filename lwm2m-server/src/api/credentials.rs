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
//! `"follow"` has the device follow a bootstrap profile, as `PUT /devices/{ep}/profile` does; `"profile"` is where it departs from that.
//! It may have besides `write_blind`, `security_instance`, `server_instance`, and `certificate_usage`, 0 to 3: with 0 and 2 the
//! device is told to expect the anchor of the server's key, with 1 and 3 the server's certificate. 0 and 1 are for devices that have
//! anchors of their own.
//!
//! Other modes:
//! ```json
//! { "mode": "rpk", "generate": true }
//! { "mode": "rpk", "public_key": "-----BEGIN PUBLIC KEY-----…", "private_key": "-----BEGIN PRIVATE KEY-----…" }
//! { "mode": "rpk", "public_key_sha256": "…" }
//! { "mode": "x509", "generate": true }
//! { "mode": "x509", "certificate": "-----BEGIN CERTIFICATE-----…", "binding": "key", "issuer": "-----BEGIN CERTIFICATE-----…" }
//! { "mode": "x509", "binding": "name" }
//! ```
//! ```json
//! { "mode": "oscore", "generate": true }
//! { "mode": "oscore", "master_secret": "…", "master_salt": "…", "sender_id": "00", "recipient_id": "0a0b", "id_context": "…",
//!   "aead": 10, "hmac": 5, "rederivation": "offered" }
//! ```
//! An OSCORE context is seen from the server, bytes in hex digits: `recipient_id` is the Sender ID of the device (`/21/x/1`), `sender_id`
//! its Recipient ID. Algorithms are COSE numbers, that of the HMAC in either notation. `rederivation` is `never`, `offered` or `required`:
//! whether a device may, or must, get new keys (RFC 8613 Appendix B.2).
//!
//! Inside DTLS a context is beside the keys of another mode, and goes with them through their whole life; without it nothing of the
//! device counts then:
//! ```json
//! { "identity": "dev-17", "key": "…", "oscore": { "master_secret": "…", "sender_id": "00", "recipient_id": "0a0b" } }
//! { "mode": "rpk", "generate": true, "oscore": { "generate": true } }
//! ```
//!
//! Keys and certificates are PEM, or DER in hex digits or base64; private keys PKCS#8 or ECPrivateKey. Without a private key the
//! device has its own. `binding` is `pinned` (the default), `key` or `name`; `issuer`, the certificate of an authority or the SHA-256
//! of its public key, is found by path validation where `key` needs it and it is left out.
//!
//! `POST …/rotate`: `{"mode": "rpk", "deadline": 86400, "grace": 600, "server_uri": null, "reason": "yearly"}`, times in seconds; with
//! `"credential"` instead of `"mode"` for one that is given; the mode stays what it is where both are left out.
//! `POST …/revoke`: `{"role": "management", "reason": "lost"}`; without a role the whole device.
//! `POST …/suspend`, `/resume`, `/decommission`: `{"reason": "…"}`; the last one leaves a tombstone under the name.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::guard::Holder;
use super::material::{CreatedCredential, Material, ShownCredential};
use super::problem::Problem;
use super::profiles::AssignBody;
use super::request::{self, Body, Params, Route};
use super::{Actor, Api, now_ms};
use crate::credentials::{
    Account, Command, Credentials, Device, Enrol, EnrolAccount, Fetch, Hold, HoldKind, KeyMaterial, Mode,
    OperatorError, Phase, Pin, Profile, Role, Rotate, Rotation, Subject,
};
use crate::store::{AuditRow, StoreError};

/// Audit rows in one answer unless `limit` says otherwise.
pub(super) const LIMIT: usize = 100;

/// Where the credentials of a device stand.
#[derive(Serialize, ToSchema)]
pub(super) struct CredentialSummary {
    /// State of the bootstrap account: as that of the management account.
    bootstrap: Option<&'static str>,
    /// State of the management account: `imported`, `armed`, `bootstrapping`, `provisioned`, `in use`, `rotating`, `unreachable` or
    /// `revoked`.
    management: Option<&'static str>,
    /// Why the device as a whole is refused.
    hold: Option<HoldKind>,
    /// Plain coap is accepted as long as there is no account.
    allow_nosec: bool,
}

impl CredentialSummary {
    pub(super) fn new(device: &Device) -> Self {
        let state = |role| device.account(role).map(|account| account.state.as_str());
        Self {
            bootstrap: state(Role::Bootstrap),
            management: state(Role::Management),
            hold: device.hold.as_ref().map(|hold| hold.kind),
            allow_nosec: device.allow_nosec,
        }
    }
}

/// The credentials of a device: everything but what is secret.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceCredentials {
    endpoint: String,
    /// Counts the changes.
    version: u64,
    /// Plain coap is accepted as long as there is no account.
    allow_nosec: bool,
    hold: Option<Hold>,
    profile: Profile,
    bootstrap: Option<ShownAccount>,
    management: Option<ShownAccount>,
}

impl DeviceCredentials {
    fn new(device: &Device, credentials: &Credentials) -> Result<Self, StoreError> {
        let account = |role| {
            let account = device.account(role);
            account.map(|account| ShownAccount::new(&device.endpoint, role, account, credentials)).transpose()
        };
        Ok(Self {
            endpoint: device.endpoint.clone(),
            version: device.version,
            allow_nosec: device.allow_nosec,
            hold: device.hold.clone(),
            profile: device.profile.clone(),
            bootstrap: account(Role::Bootstrap)?,
            management: account(Role::Management)?,
        })
    }
}

/// An account with its credentials.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
struct ShownAccount {
    /// `imported`, `armed`, `bootstrapping`, `provisioned`, `in use`, `rotating`, `unreachable` or `revoked`.
    state: &'static str,
    /// The generation that the server counts on.
    current: u32,
    /// The last thing worth telling, in words.
    note: Option<String>,
    /// Last bootstrap, or first Register with the current credential, in milliseconds since 1970.
    last_success_ms: Option<u64>,
    rotation: Option<ShownRotation>,
    credentials: Vec<ShownCredential>,
}

impl ShownAccount {
    fn new(
        endpoint: &str,
        role: Role,
        account: &Account,
        credentials: &Credentials,
    ) -> Result<Self, StoreError> {
        let mut shown = Vec::new();
        for credential in &account.credentials {
            // Of a pre-shared key there is nothing to show.
            let kept = match credential.subject {
                Subject::Psk(_) if credential.within.is_none() => None,
                _ => credentials.kept(endpoint, role, credential.generation)?,
            };
            shown.push(ShownCredential::new(credential, kept.as_ref()));
        }
        Ok(Self {
            state: account.state.as_str(),
            current: account.current,
            note: account.note.clone(),
            last_success_ms: account.last_success_ms,
            rotation: account.rotation().map(ShownRotation::new),
            credentials: shown,
        })
    }
}

/// A rotation under way; times in milliseconds since 1970.
#[derive(Serialize, ToSchema)]
#[schema(as = Rotation)]
struct ShownRotation {
    /// The generation that was in use.
    from: u32,
    /// The generation that shall be.
    to: u32,
    phase: Phase,
    started_ms: u64,
    /// When it must have been proven.
    deadline_ms: u64,
    /// When the old credential retires.
    retire_ms: Option<u64>,
    /// LwM2M Server URI to write instead of the configured one.
    server_uri: Option<String>,
    reason: String,
    /// A bootstrap got the new credential to write.
    handed_out: bool,
    /// The old credential was seen after that.
    old_seen: bool,
    /// What brings the device to fetch it.
    fetch: Fetch,
    /// The device is still to be told to come and fetch it.
    trigger_pending: bool,
    /// It is refused at Register until it bootstraps.
    is_withheld: bool,
}

impl ShownRotation {
    fn new(rotation: &Rotation) -> Self {
        Self {
            from: rotation.from,
            to: rotation.to,
            phase: rotation.phase,
            started_ms: rotation.started_ms,
            deadline_ms: rotation.deadline_ms,
            retire_ms: rotation.retire_ms,
            server_uri: rotation.server_uri.clone(),
            reason: rotation.reason.clone(),
            handed_out: rotation.handed_out,
            old_seen: rotation.old_seen,
            fetch: rotation.fetch,
            trigger_pending: rotation.trigger.is_some(),
            is_withheld: rotation.is_withheld && !rotation.handed_out,
        }
    }
}

/// The accounts of a device, keys masked.
pub(super) async fn show(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<DeviceCredentials>, Problem> {
    let Some(device) = api.credentials.device(&endpoint) else {
        return Err(Problem::new(404, "No such device", format!("'{endpoint}' was never enrolled")));
    };
    api.read_store(move |credentials| DeviceCredentials::new(&device, credentials)).await.map(Json)
}

/// What is to be enrolled; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "{\"bootstrap\": …, \"management\": …, \"allow_nosec\": …, \"profile\": …, \"follow\": …}"
)]
#[schema(as = Enrolment)]
pub(super) struct EnrolBody {
    bootstrap: Option<Material>,
    management: Option<Material>,
    /// Plain coap is accepted as long as there is no account.
    allow_nosec: Option<bool>,
    /// Where it departs from the profile that it follows, and from the server's configuration.
    profile: Option<Profile>,
    /// The profile that it is to follow.
    follow: Option<AssignBody>,
}

/// What came of an enrolment.
#[derive(Serialize, ToSchema)]
pub(super) struct Enrolled {
    /// Credentials that are new, with what was drawn for them.
    created: Vec<CreatedCredential>,
    credentials: Option<DeviceCredentials>,
}

/// Enrols accounts; the answer shows generated keys, once.
pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Enrolled>), Problem> {
    let body: EnrolBody = request::secret_body(&bytes)?;
    let follow = body.follow.map(AssignBody::read).transpose()?;
    let mut enrol =
        Enrol { allow_nosec: body.allow_nosec, profile: body.profile, follow, ..Enrol::default() };
    for (role, account) in [(Role::Bootstrap, &body.bootstrap), (Role::Management, &body.management)] {
        if let Some(account) = account {
            let key = account.read(role, &api.credentials.trust())?;
            enrol.accounts.push(EnrolAccount { role, key });
        }
    }
    let (created, device) = api
        .act(move |credentials| {
            let outcome = credentials
                .enrol(now_ms(), &actor, &endpoint, &enrol)
                .map_err(|error| error.told_within(holder.scope()))?;
            let device = credentials.device(&endpoint);
            let device = device.map(|device| DeviceCredentials::new(&device, credentials)).transpose()?;
            Ok(((outcome.created, device), outcome.commands))
        })
        .await?;
    let status = if created.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
    let created = created.iter().map(CreatedCredential::new).collect();
    Ok((status, Json(Enrolled { created, credentials: device })))
}

/// A rotation that is to be started.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rotate)]
pub(super) struct RotateBody {
    role: Option<Role>,
    /// The mode of a credential that is drawn here; that of the former one without.
    mode: Option<Mode>,
    /// One that is given instead.
    credential: Option<Material>,
    /// Seconds until it must be proven.
    deadline: Option<u64>,
    /// Seconds for which the old one is accepted after that.
    grace: Option<u64>,
    /// LwM2M Server URI to write instead of the configured one.
    server_uri: Option<String>,
    /// What brings the device to fetch the new one.
    #[serde(default)]
    fetch: Fetch,
    #[serde(default)]
    reason: String,
}

/// A rotation that was started.
#[derive(Serialize, ToSchema)]
pub(super) struct Rotated {
    /// The generation of the new credential.
    generation: u32,
    mode: Mode,
    /// What the new one is known by.
    identity: String,
    /// When the device was bootstrapped last, in milliseconds since 1970.
    bootstrap_last_success_ms: Option<u64>,
    /// What may be in the way, in words.
    warnings: Vec<String>,
}

/// Starts a rotation.
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Rotated>), Problem> {
    let body: RotateBody = request::secret_body(&bytes)?;
    let default = Rotate::default();
    let role = body.role.unwrap_or(default.role);
    let key = match (body.mode, &body.credential) {
        (None, None) => None,
        (Some(mode), None) => Some(KeyMaterial::Generate(mode)),
        (None, Some(material)) => Some(material.read(role, &api.credentials.trust())?),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("give mode or credential, which has a mode of its own".to_owned()));
        }
    };
    let rotate = Rotate {
        role,
        key,
        deadline_ms: body.deadline.map_or(default.deadline_ms, |seconds| seconds.saturating_mul(1000)),
        grace_ms: body.grace.map_or(default.grace_ms, |seconds| seconds.saturating_mul(1000)),
        server_uri: body.server_uri,
        fetch: body.fetch,
        reason: body.reason,
        campaign: None,
    };
    let rotated = api
        .act(move |credentials| {
            let mut rotated = credentials
                .rotate(now_ms(), &actor, &endpoint, &rotate)
                .map_err(|error| error.told_within(holder.scope()))?;
            let commands = core::mem::take(&mut rotated.commands);
            Ok((rotated, commands))
        })
        .await?;
    let answer = Rotated {
        generation: rotated.generation,
        mode: rotated.subject.mode(),
        identity: rotated.subject.to_string(),
        bootstrap_last_success_ms: rotated.bootstrap_last_success_ms,
        warnings: rotated.warnings,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// What is to be revoked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revoke)]
pub(super) struct RevokeBody {
    /// The account; the whole device without.
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
) -> Result<Json<Option<CredentialSummary>>, Problem> {
    let body: RevokeBody = request::body(&bytes)?;
    api.act(move |credentials| {
        let commands = credentials.revoke(now_ms(), &actor, &endpoint, body.role, &body.reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(device.as_deref().map(CredentialSummary::new)))
}

/// Why something is done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reason)]
pub(super) struct ReasonBody {
    #[serde(default)]
    reason: String,
}

/// An act of an operator on a device: when, by whom, on which and why.
type Act = fn(&Credentials, u64, &str, &str, &str) -> Result<Vec<Command>, OperatorError>;

/// Refuses a device until it is resumed.
pub(super) async fn suspend(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Option<CredentialSummary>>, Problem> {
    act(&api, Credentials::suspend, actor, endpoint, &bytes).await
}

/// Lifts a suspension.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Option<CredentialSummary>>, Problem> {
    act(&api, Credentials::resume, actor, endpoint, &bytes).await
}

/// Revokes a device and leaves a tombstone under its name.
pub(super) async fn decommission(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route(endpoint): Route<String>,
    Body(bytes): Body,
) -> Result<Json<Option<CredentialSummary>>, Problem> {
    act(&api, Credentials::decommission, actor, endpoint, &bytes).await
}

async fn act(
    api: &Api,
    act: Act,
    Actor(actor): Actor,
    endpoint: String,
    bytes: &Bytes,
) -> Result<Json<Option<CredentialSummary>>, Problem> {
    let ReasonBody { reason } = request::body(bytes)?;
    api.act(move |credentials| {
        let commands = act(credentials, now_ms(), &actor, &endpoint, &reason)?;
        Ok((credentials.device(&endpoint), commands))
    })
    .await
    .map(|device| Json(device.as_deref().map(CredentialSummary::new)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Rows behind this number; the newest without.
    after: Option<u64>,
    /// At most so many, 1 to 1000 [default: 100].
    limit: Option<usize>,
}

/// Rows of the audit log, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    rows: Vec<AuditRow>,
}

/// The audit rows of one device: those after `after`, else the newest.
pub(super) async fn history(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    if api.credentials.device(&endpoint).is_none() {
        return Err(Problem::new(404, "No such device", format!("'{endpoint}' was never enrolled")));
    }
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, 1000);
    let rows =
        api.read_store(move |credentials| credentials.audit(Some(&endpoint), query.after, limit)).await?;
    Ok(Json(History { rows }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServerKeysQuery {
    /// At most so many devices for each key, 1 to 100000 [default: 100].
    limit: Option<usize>,
}

/// What devices were told to expect of the server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerKeyList {
    keys: Vec<ServerKey>,
}

/// What devices were told to expect of the server, and who was.
#[derive(Serialize, ToSchema)]
struct ServerKey {
    #[serde(flatten)]
    pin: Pin,
    /// The server has it still.
    current: bool,
    /// How many devices were told.
    count: usize,
    /// The first of them, by name.
    devices: Vec<String>,
}

/// What devices were told to expect of the server (`/0/x/4`), whether the server has it still, and who was told: the first `limit` of
/// them by name.
pub(super) async fn server_keys(
    State(api): State<Api>,
    Params(query): Params<ServerKeysQuery>,
) -> Result<Json<ServerKeyList>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, 100_000);
    api.read_store(move |credentials| {
        let now: Vec<Pin> = credentials.server_keys(Role::Management).pins();
        let mut pinned = credentials.pinned();
        for pin in &now {
            pinned.entry(*pin).or_default();
        }
        let keys = pinned.iter().map(|(pin, devices)| ServerKey {
            pin: *pin,
            current: now.contains(pin),
            count: devices.len(),
            devices: devices.iter().take(limit).cloned().collect(),
        });
        Ok(Json(ServerKeyList { keys: keys.collect() }))
    })
    .await
}
