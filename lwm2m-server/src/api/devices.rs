//! Devices and their objects: what a management server is for.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::credentials::CredentialSummary;
use super::guard::Holder;
use super::problem::Problem;
use super::request::{self, Body, Params, Route};
use super::requests::{Asked, Asking, Failed, Manner, Nothing, accepted};
use super::{Actor, Api, no_such_device, now_ms, values};
use crate::observations::ATTRIBUTES;
use crate::queue::emit_answer;
use crate::{Answer, Device, Operation, Path, RequestError, WriteMode};

/// Devices in one answer unless `limit` says otherwise.
const LIMIT: usize = 100;
/// Most devices in one answer.
const MAX_LIMIT: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only names that contain this.
    q: Option<String>,
    /// Only names behind this one: `next` of the page before.
    cursor: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of devices, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceList {
    devices: Vec<ShownDevice>,
    /// The `cursor` of the next page, if there is one.
    next: Option<String>,
}

/// A device: its registration, and where its credentials stand.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct ShownDevice {
    endpoint: String,
    registered: bool,
    registration: Option<Registration>,
    credentials: Option<CredentialSummary>,
}

/// What a device registered.
#[derive(Serialize, ToSchema)]
struct Registration {
    /// Address and port that it was last heard from.
    address: String,
    /// It came over DTLS or under OSCORE.
    secure: bool,
    /// Which of its credentials it proved; 0 without security.
    generation: u32,
    /// The version of LwM2M.
    version: String,
    /// In seconds; 0 never ends.
    lifetime: u32,
    binding: String,
    /// It may sleep.
    queue: bool,
    /// It listens now, as far as is known.
    awake: bool,
    /// Its objects, in link-format.
    objects: String,
    location: String,
    registered_at_ms: u64,
    last_heard_ms: u64,
    /// How many observations stand.
    observations: usize,
}

/// Devices by name: those that are registered and those that are enrolled.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Params(query): Params<ListQuery>,
) -> Result<Json<DeviceList>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(format!("limit: 1 to {MAX_LIMIT}")));
    }
    let registered = api.server.devices().await;
    let enrolled = api.credentials.devices();
    let mut names: Vec<&str> = registered
        .iter()
        .map(|device| &*device.endpoint)
        .chain(enrolled.iter().map(|device| device.endpoint.as_str()))
        .filter(|name| holder.scope().has(name))
        .filter(|name| query.q.as_ref().is_none_or(|part| name.contains(part.as_str())))
        .filter(|name| query.cursor.as_ref().is_none_or(|after| *name > after.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let next =
        names.get(limit).and_then(|_| names.get(limit.saturating_sub(1))).map(|name| (*name).to_owned());
    let devices = names
        .iter()
        .take(limit)
        .map(|name| {
            let device = registered.binary_search_by(|device| (*device.endpoint).cmp(name)).ok();
            one(&api, name, device.and_then(|at| registered.get(at)))
        })
        .collect();
    Ok(Json(DeviceList { devices, next }))
}

/// One device: its registration and where its credentials stand.
pub(super) async fn show(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<ShownDevice>, Problem> {
    let device = api.server.device(&endpoint).await;
    if device.is_none() && api.credentials.device(&endpoint).is_none() {
        return Err(no_such_device(&endpoint));
    }
    Ok(Json(one(&api, &endpoint, device.as_ref())))
}

/// Forgets the registration of a device, which then registers anew; its credentials stay.
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
) -> Result<StatusCode, Problem> {
    if api.server.device(&endpoint).await.is_none() {
        return Err(RequestError::UnknownDevice.into());
    }
    // Both happen also when the caller goes away: the row tells of what is done.
    let whole = tokio::spawn(async move {
        // The audit row first: what it tells of is not done without it.
        let (name, detail) = (endpoint.clone(), String::new());
        api.read_store(move |credentials| {
            credentials.note(now_ms(), &actor, &name, "registration forgotten", detail)
        })
        .await?;
        // It may have left meanwhile; then there is nothing to forget.
        api.server.forget(&endpoint).await;
        Ok(StatusCode::NO_CONTENT)
    });
    whole.await.unwrap_or_else(|_| Err(Problem::internal()))
}

fn one(api: &Api, endpoint: &str, device: Option<&Device>) -> ShownDevice {
    let record = api.credentials.device(endpoint);
    ShownDevice {
        endpoint: endpoint.to_owned(),
        registered: device.is_some(),
        registration: device.map(|device| Registration {
            address: device.address.clone(),
            secure: device.secure,
            generation: device.generation,
            version: device.version.clone(),
            lifetime: device.lifetime,
            binding: device.binding.clone(),
            queue: device.queue,
            awake: device.is_awake(now_ms()),
            objects: device.objects.to_string(),
            location: device.location.clone(),
            registered_at_ms: device.registered_at,
            last_heard_ms: device.last_heard,
            observations: device.observations,
        }),
        credentials: record.as_deref().map(CredentialSummary::new),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// Content format to ask for: `text`, `opaque`, `cbor`, `senml-json`, `senml-cbor`, `tlv`, `lwm2m-cbor` or a number of CoAP.
    #[param(pattern = "^(text|opaque|cbor|senml-json|senml-cbor|tlv|lwm2m-cbor|[0-9]{1,4})$")]
    format: Option<String>,
}

/// Read.
pub(super) async fn read(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, query): Asking<ReadQuery>,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    let operation = Operation::Read { path, format: request::format(query.format.as_deref())? };
    let asked = api.ask(&actor, &endpoint, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::OK, asked))
}

/// What was asked of a device, or the id of what is queued for it.
pub(super) fn respond(endpoint: &str, path: Path, success: StatusCode, asked: Asked) -> Response {
    match asked {
        Asked::Queued(id) => accepted(endpoint, id),
        Asked::Answered(Answer::Done) => success.into_response(),
        Asked::Answered(answer) => (success, Json(emit_answer(path, &answer))).into_response(),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// Whether what is left out is removed; that is so below an instance and not so of one, where nothing is said.
    replace: Option<bool>,
    /// Content format to write in: `text`, `opaque`, `cbor`, `senml-json`, `senml-cbor`, `tlv`, `lwm2m-cbor` or a number of CoAP.
    #[param(pattern = "^(text|opaque|cbor|senml-json|senml-cbor|tlv|lwm2m-cbor|[0-9]{1,4})$")]
    format: Option<String>,
}

/// Write: an instance is updated unless `replace=true`; what lies below is replaced unless `replace=false`.
pub(super) async fn write(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, query): Asking<WriteQuery>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    let values = values::parse_write(&api.types(&endpoint).await, &path, &request::body(&bytes)?)?;
    let is_replace = query.replace.unwrap_or(values::depth(&path) > 2);
    let mode = if is_replace { WriteMode::Replace } else { WriteMode::Update };
    let format = request::format(query.format.as_deref())?;
    let operation = Operation::Write { path, mode, values, format };
    let asked = change(&api, actor, &endpoint, "write", path, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::NO_CONTENT, asked))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecuteBody {
    #[serde(default)]
    arguments: String,
}

/// The body of a Create, or of an Execute.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the document: what is created is read by the types of its object")]
pub(super) struct CreateOrExecute {
    /// Of a Create, the id of the instance; the device chooses without.
    instance: Option<u16>,
    /// Of a Create, by resource id, what a Write to it has as its body.
    resources: Option<HashMap<String, values::Written>>,
    /// Of an Execute, as in `0='on',1`.
    #[schema(nullable = false)]
    arguments: Option<String>,
}

/// What was executed.
#[derive(Serialize, ToSchema)]
pub(super) struct Executed {
    path: String,
}

/// Create on an object, Execute on a resource.
pub(super) async fn create_or_execute(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, Nothing {}): Asking<Nothing>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    match values::depth(&path) {
        1 => {
            let object = tail.trim_matches('/').parse().map_err(|_| Problem::invalid("no object id"))?;
            let types = api.types(&endpoint).await;
            let (instance, values) = values::parse_create(&types, object, &request::body(&bytes)?)?;
            let operation = Operation::Create { object, instance, values };
            let asked = change(&api, actor, &endpoint, "create", path, operation, manner).await?;
            Ok(respond(&endpoint, path, StatusCode::CREATED, asked))
        }
        3 => {
            let ExecuteBody { arguments } = request::body(&bytes)?;
            let operation = Operation::Execute { path, arguments };
            match change(&api, actor, &endpoint, "execute", path, operation, manner).await? {
                Asked::Queued(id) => Ok(accepted(&endpoint, id)),
                Asked::Answered(_) => Ok(Json(Executed { path: path.to_string() }).into_response()),
            }
        }
        _ => Err(Problem::invalid(format!(
            "POST creates below an object (/3303) or executes a resource (/3/0/4), not {path}"
        ))),
    }
}

/// Asks a change of a device and writes place and outcome, but no values, to the audit log; both happen also when the
/// caller goes away. What is queued has its rows with its states.
pub(super) async fn change(
    api: &Api,
    Actor(actor): Actor,
    endpoint: &str,
    what: &'static str,
    place: impl core::fmt::Display + Send + 'static,
    operation: Operation,
    manner: Manner,
) -> Result<Asked, Problem> {
    let (api, endpoint) = (api.clone(), endpoint.to_owned());
    let whole = tokio::spawn(async move {
        let outcome = api.ask(&actor, &endpoint, operation, manner).await;
        let detail = match &outcome {
            Ok(Asked::Answered(_)) => place.to_string(),
            // Nothing reached the device.
            Ok(Asked::Queued(_))
            | Err(
                Failed::Queued(_) | Failed::Asked(RequestError::UnknownDevice | RequestError::Invalid(_)),
            ) => {
                return outcome.map_err(Problem::from);
            }
            Err(Failed::Asked(error)) => format!("{place}: {error}"),
        };
        api.read_store(move |credentials| credentials.note(now_ms(), &actor, &endpoint, what, detail))
            .await?;
        outcome.map_err(Problem::from)
    });
    whole.await.unwrap_or_else(|_| Err(Problem::internal()))
}

/// Delete.
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, Nothing {}): Asking<Nothing>,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    let operation = Operation::Delete { path };
    let asked = change(&api, actor, &endpoint, "delete", path, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::NO_CONTENT, asked))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiscoverQuery {
    /// How many levels, of LwM2M 1.2.
    #[param(maximum = 3)]
    depth: Option<u8>,
}

/// Discover.
pub(super) async fn discover(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, query): Asking<DiscoverQuery>,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    let operation = Operation::Discover { path, depth: query.depth };
    let asked = api.ask(&actor, &endpoint, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::OK, asked))
}

/// Write-Attributes: names with numbers, `null` to unset.
pub(super) async fn attributes(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Asking(manner, Nothing {}): Asking<Nothing>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let path = request::path(&tail)?;
    let body: Map<String, Value> = request::body(&bytes)?;
    let mut attributes = Vec::new();
    for (name, value) in &body {
        if !ATTRIBUTES.contains(&name.as_str()) {
            return Err(Problem::invalid(format!("unknown attribute '{name}': {}", ATTRIBUTES.join(", "))));
        }
        match value {
            Value::Null => attributes.push(name.clone()),
            Value::Number(number) => attributes.push(format!("{name}={number}")),
            _ => {
                return Err(Problem::invalid(format!("attribute '{name}' is a number, or null to unset it")));
            }
        }
    }
    if attributes.is_empty() {
        return Err(Problem::invalid("no attribute: {\"pmin\": 10, \"pmax\": 60, \"gt\": null}"));
    }
    let operation = Operation::WriteAttributes { path, attributes: attributes.join("&") };
    let asked = api.ask(&actor, &endpoint, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::NO_CONTENT, asked))
}
