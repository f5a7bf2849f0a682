//! Bootstrap profiles, and the devices that follow them.
//!
//! What a profile says is told in [`Body`]. `PUT /devices/{ep}/profile` has a device follow one:
//! ```json
//! { "name": "meters", "version": 2, "variables": { "site": "kiel" }, "secrets": { "data_key": "00112233445566778899aabbccddeeff" } }
//! ```
//! Without a version it is the newest one of now. Secret variables are keys in hex digits; they are given once, and stay where they are
//! left out later.
//!
//! A preview tells the requests of a bootstrap in their order, made by what carries one out. `?discovered=` is what the device shows to a
//! Discover, in link-format; without, it has its bootstrap account alone. `?format=` is the content format that it asks for.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Any, json};
use utoipa::{IntoParams, ToSchema};

use super::guard::Holder;
use super::problem::Problem;
use super::request::{self, Body as Bytes, Params, Route};
use super::{Actor, Api, now_ms, values};
use crate::credentials::{self, Applied, Assign, Credentials, Device, Key, OperatorError, Preview};
use crate::endpoint::{self, Shown};
use crate::profiles::{Body, Fault, Secrets, Variables};

/// All profiles.
#[derive(Serialize, ToSchema)]
pub(super) struct ProfileList {
    profiles: Vec<Listed>,
}

/// A profile without what it says.
#[derive(Serialize, ToSchema)]
#[schema(as = ListedProfile)]
struct Listed {
    name: String,
    description: String,
    /// The newest version.
    version: u32,
    /// When it was made, in milliseconds since 1970.
    created_ms: u64,
    /// How many devices of the token follow one of its versions.
    devices: usize,
}

pub(super) async fn list(State(api): State<Api>, Extension(holder): Extension<Holder>) -> Json<ProfileList> {
    let followers = api.credentials.followers(holder.scope());
    let profiles = api.credentials.profiles();
    let listed = profiles.iter().filter_map(|(name, versions)| {
        let newest = versions.last()?;
        Some(Listed {
            name: name.to_string(),
            description: newest.body.description.clone(),
            version: newest.number,
            created_ms: newest.created_ms,
            devices: followers.get(&**name).copied().unwrap_or_default(),
        })
    });
    Json(ProfileList { profiles: listed.collect() })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// The newest without.
    version: Option<u32>,
}

/// A version of a profile.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedProfile)]
pub(super) struct Profile {
    name: String,
    version: u32,
    /// All that there are.
    versions: Vec<u32>,
    /// When it was made, in milliseconds since 1970.
    created_ms: u64,
    /// How many devices of the token follow the profile, whatever the version.
    devices: usize,
    /// The variables that a device must have.
    variables: Vec<String>,
    /// The secret variables that a device must have.
    secrets: Vec<String>,
    body: Body,
}

pub(super) async fn show(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(name): Route<String>,
    Params(query): Params<ShowQuery>,
) -> Result<Json<Profile>, Problem> {
    let profiles = api.credentials.profiles();
    let version = profiles
        .find(&name, query.version)
        .ok_or_else(|| OperatorError::UnknownProfile(name.clone(), query.version))?;
    Ok(Json(Profile {
        version: version.number,
        versions: profiles.versions(&name).iter().map(|version| version.number).collect(),
        created_ms: version.created_ms,
        devices: api.credentials.followers(holder.scope()).get(&name).copied().unwrap_or_default(),
        variables: version.variables().map(str::to_owned).collect(),
        secrets: version.secrets().map(str::to_owned).collect(),
        body: version.body.clone(),
        name,
    }))
}

/// A version that is there now.
#[derive(Serialize, ToSchema)]
#[schema(as = MadeProfile)]
pub(super) struct Made {
    name: String,
    version: u32,
}

pub(super) async fn put(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(name): Route<String>,
    Bytes(bytes): Bytes,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let body: Body = request::placed_body(&bytes)?;
    let models = api.catalog.current();
    let (version, is_new, name) = api
        .act(move |credentials| {
            let (version, is_new) = credentials.put_profile(now_ms(), &actor, &name, body, models)?;
            Ok(((version, is_new, name), Vec::new()))
        })
        .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Made { name, version })))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(name): Route<String>,
) -> Result<StatusCode, Problem> {
    api.act(move |credentials| Ok((credentials.remove_profile(now_ms(), &actor, &name)?, Vec::new())))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a device follows, and followed.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceProfile {
    endpoint: String,
    assigned: Option<AssignedProfile>,
    /// That of the last bootstrap that the device acknowledged while it followed one.
    applied: Option<Applied>,
}

/// The version of a profile that a device follows.
#[derive(Serialize, ToSchema)]
struct AssignedProfile {
    name: String,
    version: u32,
    /// The newest one that there is.
    newest: u32,
    variables: BTreeMap<String, String>,
    /// The names of its secret variables.
    secrets: BTreeSet<String>,
}

impl DeviceProfile {
    fn new(credentials: &Credentials, device: &Device) -> Self {
        let assigned = device.assigned.as_deref().map(|assigned| {
            let credentials::Assigned { name, version, variables, secrets } = assigned.clone();
            let newest = credentials.profiles().find(&name, None).map_or(version, |newest| newest.number);
            AssignedProfile { name, version, newest, variables, secrets }
        });
        Self { endpoint: device.endpoint.clone(), assigned, applied: device.applied.as_deref().cloned() }
    }

    fn of(credentials: &Credentials, endpoint: &str) -> Result<Self, OperatorError> {
        let device = credentials.device(endpoint).ok_or(OperatorError::UnknownDevice)?;
        Ok(Self::new(credentials, &device))
    }
}

pub(super) async fn of_device(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<DeviceProfile>, Problem> {
    Ok(Json(DeviceProfile::of(&api.credentials, &endpoint)?))
}

/// What a device is to follow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AssignProfile)]
pub(super) struct AssignBody {
    /// The name of the profile.
    name: String,
    /// The newest without.
    version: Option<u32>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Keys in hex digits, 16 to 64 bytes each; those that are left out stay what they are.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

impl AssignBody {
    pub(super) fn read(self) -> Result<Assign, Problem> {
        let Self { name, version, variables, secrets: digits } = self;
        let mut secrets = Secrets::default();
        let mut faults = Vec::new();
        for (name, digits) in digits {
            let digits = zeroize::Zeroizing::new(digits);
            match hex::decode(digits.as_bytes()).ok().and_then(|bytes| Key::new(bytes).ok()) {
                Some(key) => secrets.insert(name, key),
                None => faults.push(Fault::new(format!("secrets.{name}"), "hex digits of 16 to 64 bytes")),
            }
        }
        if !faults.is_empty() {
            return Err(Problem::faulty(faults));
        }
        Ok(Assign { name, version, variables, secrets })
    }
}

pub(super) async fn assign(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Bytes(bytes): Bytes,
) -> Result<Json<DeviceProfile>, Problem> {
    let assign = request::secret_body::<AssignBody>(&bytes)?.read()?;
    let follows = api
        .act(move |credentials| {
            credentials.assign(now_ms(), &actor, &endpoint, &assign)?;
            Ok((DeviceProfile::of(credentials, &endpoint)?, Vec::new()))
        })
        .await?;
    Ok(Json(follows))
}

pub(super) async fn unassign(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
) -> Result<StatusCode, Problem> {
    api.act(move |credentials| Ok((credentials.unassign(now_ms(), &actor, &endpoint)?, Vec::new()))).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewQuery {
    /// What the device shows to a Discover, in link-format; its bootstrap account alone without.
    discovered: Option<String>,
    /// The content format that it asks for: `tlv`, `senml-cbor` or `senml-json`; TLV without.
    format: Option<String>,
}

/// What a bootstrap would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Previewed {
    endpoint: String,
    /// What the device is taken to show, in link-format.
    discovered: String,
    /// Secret variables that the device has not been given; 16 bytes stand for each.
    missing: Vec<String>,
    requests: Vec<PreviewedRequest>,
}

/// A request of a bootstrap.
#[derive(Serialize, ToSchema)]
struct PreviewedRequest {
    /// `Bootstrap-Discover`, `Bootstrap-Delete`, `Bootstrap-Write`, `Bootstrap-Read` or `Bootstrap-Finish`.
    operation: &'static str,
    path: Option<String>,
    /// The content format of what is written, a number of CoAP.
    format: Option<u16>,
    /// How many bytes are written.
    length: usize,
    /// Whether it depends on what the device shows: it may go elsewhere, or not be there.
    depends_on_discover: bool,
    values: Vec<PreviewedValue>,
}

/// A value that is written.
#[derive(Serialize, ToSchema)]
struct PreviewedValue {
    path: String,
    /// As of a value that is read; nothing of a secret.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// `hidden, 16 bytes` of a secret.
    value: Any,
}

impl PreviewedValue {
    fn new(path: crate::Path, shown: &Shown) -> Self {
        let (kind, value) = match shown {
            Shown::Value(value) => {
                let (kind, value) = values::emit(value);
                (Some(kind), value)
            }
            Shown::Hidden(length) => (None, json!(format!("hidden, {length} bytes"))),
        };
        Self { path: path.to_string(), kind, value }
    }
}

impl Previewed {
    fn new(preview: Preview, query: &PreviewQuery) -> Result<Self, Problem> {
        let format = request::format(query.format.as_deref())?;
        if format.is_some_and(|format| ![11542, 112, 110].contains(&format)) {
            return Err(Problem::invalid("format: tlv, senml-cbor or senml-json"));
        }
        let Preview { plan, missing } = preview;
        let discovered = query
            .discovered
            .clone()
            .unwrap_or_else(|| if plan.is_under_oscore { "</0/0>,</21/0>" } else { "</0/0>" }.to_owned());
        let endpoint = plan.endpoint.to_string();
        let requests = endpoint::preview(plan, format, discovered.as_bytes(), now_ms()).map_err(|why| {
            Problem::new(409, "Refused", format!("the bootstrap of such a device fails: {why}"))
        })?;
        let requests = requests.iter().map(|request| PreviewedRequest {
            operation: request.operation,
            path: request.path.map(|path| path.to_string()),
            format: request.format,
            length: request.payload.len(),
            depends_on_discover: request.is_placed,
            values: request.values.iter().map(|(path, shown)| PreviewedValue::new(*path, shown)).collect(),
        });
        Ok(Self { endpoint, discovered, missing, requests: requests.collect() })
    }
}

pub(super) async fn preview(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
    Params(query): Params<PreviewQuery>,
) -> Result<Json<Previewed>, Problem> {
    previewed(&api, query, move |credentials| credentials.preview(now_ms(), &endpoint)).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewOfQuery {
    /// The device.
    endpoint: String,
    /// The newest without.
    version: Option<u32>,
    /// A JSON object of its variables, beside those that it has.
    variables: Option<String>,
    /// What the device shows to a Discover, in link-format; its bootstrap account alone without.
    discovered: Option<String>,
    /// The content format that it asks for: `tlv`, `senml-cbor` or `senml-json`; TLV without.
    format: Option<String>,
}

pub(super) async fn preview_of(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(name): Route<String>,
    Params(query): Params<PreviewOfQuery>,
) -> Result<Json<Previewed>, Problem> {
    let PreviewOfQuery { endpoint, version, variables, discovered, format } = query;
    holder.is_for(Some(&endpoint))?;
    let variables = match variables {
        None => Variables::new(),
        Some(text) => serde_json::from_str(&text)
            .map_err(|_| Problem::invalid("variables: a JSON object of texts, as {\"site\": \"kiel\"}"))?,
    };
    let assign = Assign { name, version, variables, secrets: Secrets::default() };
    let query = PreviewQuery { discovered, format };
    previewed(&api, query, move |credentials| credentials.preview_of(now_ms(), &endpoint, &assign)).await
}

async fn previewed(
    api: &Api,
    query: PreviewQuery,
    of: impl FnOnce(&Credentials) -> Result<Preview, OperatorError> + Send + 'static,
) -> Result<Json<Previewed>, Problem> {
    api.act(move |credentials| Ok((of(credentials)?, Vec::new())))
        .await
        .and_then(|preview| Previewed::new(preview, &query))
        .map(Json)
}
