//! Devices and their objects: what a management server is for.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::request::{self, Body, Params, Route};
use super::{Actor, Api, credentials, no_such_device, now_ms, values};
use crate::{Answer, Device, ObservationId, Operation, Path, RequestError, WriteMode};

/// Devices in one answer unless `limit` says otherwise.
const LIMIT: usize = 100;
/// Most devices in one answer.
const MAX_LIMIT: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    q: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Devices by name: those that are registered and those that are enrolled.
pub(super) async fn list(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
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
        .filter(|name| query.q.as_ref().is_none_or(|part| name.contains(part.as_str())))
        .filter(|name| query.cursor.as_ref().is_none_or(|after| *name > after.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let next = names.get(limit).and_then(|_| names.get(limit.saturating_sub(1))).map(|name| json!(name));
    let devices: Vec<Value> = names
        .iter()
        .take(limit)
        .map(|name| {
            let device = registered.binary_search_by(|device| (*device.endpoint).cmp(name)).ok();
            one(&api, name, device.and_then(|at| registered.get(at)))
        })
        .collect();
    Ok(Json(json!({ "devices": devices, "next": next })))
}

/// One device: its registration and where its credentials stand.
pub(super) async fn show(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<Value>, Problem> {
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

fn one(api: &Api, endpoint: &str, device: Option<&Device>) -> Value {
    let record = api.credentials.device(endpoint);
    json!({
        "endpoint": endpoint,
        "registered": device.is_some(),
        "registration": device.map(|device| json!({
            "address": device.address,
            "secure": device.secure,
            "generation": device.generation,
            "version": device.version,
            "lifetime": device.lifetime,
            "binding": device.binding,
            "queue": device.queue,
            "objects": &*device.objects,
            "location": device.location,
            "registered_at_ms": device.registered_at,
            "last_heard_ms": device.last_heard,
            "observations": device.observations,
        })),
        "credentials": record.as_deref().map(credentials::summary),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    format: Option<String>,
    timeout: Option<u64>,
}

/// Read.
pub(super) async fn read(
    State(api): State<Api>,
    Route((endpoint, tail)): Route<(String, String)>,
    Params(query): Params<ReadQuery>,
) -> Result<Json<Value>, Problem> {
    let path = request::path(&tail)?;
    let operation = Operation::Read { path, format: request::format(query.format.as_deref())? };
    match api.server.request(&endpoint, operation, request::timeout(query.timeout)?).await? {
        Answer::Content(content) => Ok(Json(values::emit_content(&content))),
        _ => Err(RequestError::Malformed("not an answer to a Read").into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    replace: Option<bool>,
    timeout: Option<u64>,
}

/// Write: an instance is updated unless `replace=true`; what lies below is replaced unless `replace=false`.
pub(super) async fn write(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Params(query): Params<WriteQuery>,
    Body(bytes): Body,
) -> Result<StatusCode, Problem> {
    let path = request::path(&tail)?;
    let values = values::parse_write(&path, &request::body(&bytes)?)?;
    let is_replace = query.replace.unwrap_or(values::depth(&path) > 2);
    let mode = if is_replace { WriteMode::Replace } else { WriteMode::Update };
    let operation = Operation::Write { path, mode, values };
    change(&api, actor, endpoint, "write", path, operation, request::timeout(query.timeout)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeoutQuery {
    timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecuteBody {
    #[serde(default)]
    arguments: String,
}

/// Create on an object, Execute on a resource.
pub(super) async fn create_or_execute(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route((endpoint, tail)): Route<(String, String)>,
    Params(query): Params<TimeoutQuery>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let path = request::path(&tail)?;
    let timeout = request::timeout(query.timeout)?;
    match values::depth(&path) {
        1 => {
            let object = tail.trim_matches('/').parse().map_err(|_| Problem::invalid("no object id"))?;
            let (instance, values) = values::parse_create(object, &request::body(&bytes)?)?;
            let operation = Operation::Create { object, instance, values };
            match change(&api, actor, endpoint, "create", path, operation, timeout).await? {
                Answer::Created(created) => {
                    let created = created.map(|path| path.to_string());
                    Ok((StatusCode::CREATED, Json(json!({ "path": created }))))
                }
                _ => Err(RequestError::Malformed("not an answer to a Create").into()),
            }
        }
        3 => {
            let ExecuteBody { arguments } = request::body(&bytes)?;
            let operation = Operation::Execute { path, arguments };
            change(&api, actor, endpoint, "execute", path, operation, timeout).await?;
            Ok((StatusCode::OK, Json(json!({ "path": path.to_string() }))))
        }
        _ => Err(Problem::invalid(format!(
            "POST creates below an object (/3303) or executes a resource (/3/0/4), not {path}"
        ))),
    }
}

/// Asks a change of a device and writes path and outcome, but no values, to the audit log; both happen also when the
/// caller goes away.
async fn change(
    api: &Api,
    Actor(actor): Actor,
    endpoint: String,
    what: &'static str,
    path: Path,
    operation: Operation,
    timeout: Duration,
) -> Result<Answer, Problem> {
    let api = api.clone();
    let whole = tokio::spawn(async move {
        let outcome = api.server.request(&endpoint, operation, timeout).await;
        let detail = match &outcome {
            Ok(_) => path.to_string(),
            // Nothing reached the device.
            Err(error @ (RequestError::UnknownDevice | RequestError::Invalid(_))) => {
                return Err(Problem::from(error.clone()));
            }
            Err(error) => format!("{path}: {error}"),
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
    Params(query): Params<TimeoutQuery>,
) -> Result<StatusCode, Problem> {
    let path = request::path(&tail)?;
    let timeout = request::timeout(query.timeout)?;
    change(&api, actor, endpoint, "delete", path, Operation::Delete { path }, timeout).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscoverQuery {
    depth: Option<u8>,
    timeout: Option<u64>,
}

/// Discover.
pub(super) async fn discover(
    State(api): State<Api>,
    Route((endpoint, tail)): Route<(String, String)>,
    Params(query): Params<DiscoverQuery>,
) -> Result<Json<Value>, Problem> {
    let operation = Operation::Discover { path: request::path(&tail)?, depth: query.depth };
    match api.server.request(&endpoint, operation, request::timeout(query.timeout)?).await? {
        Answer::Discovered(found) => {
            let links: Vec<Value> = found
                .links
                .iter()
                .map(|link| {
                    let attributes: Map<String, Value> =
                        link.attributes.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                    json!({ "target": link.target, "attributes": attributes })
                })
                .collect();
            Ok(Json(json!({ "links": links })))
        }
        _ => Err(RequestError::Malformed("not an answer to a Discover").into()),
    }
}

/// Write-Attributes: names with numbers, `null` to unset.
pub(super) async fn attributes(
    State(api): State<Api>,
    Route((endpoint, tail)): Route<(String, String)>,
    Params(query): Params<TimeoutQuery>,
    Body(bytes): Body,
) -> Result<StatusCode, Problem> {
    const NAMES: [&str; 7] = ["pmin", "pmax", "gt", "lt", "st", "epmin", "epmax"];
    let path = request::path(&tail)?;
    let body: Map<String, Value> = request::body(&bytes)?;
    let mut attributes = Vec::new();
    for (name, value) in &body {
        if !NAMES.contains(&name.as_str()) {
            return Err(Problem::invalid(format!("unknown attribute '{name}': {}", NAMES.join(", "))));
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
    api.server.request(&endpoint, operation, request::timeout(query.timeout)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The observations that stand.
pub(super) async fn observations(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<Value>, Problem> {
    if api.server.device(&endpoint).await.is_none() {
        return Err(RequestError::UnknownDevice.into());
    }
    let standing: Vec<Value> = api
        .server
        .observations(&endpoint)
        .await
        .into_iter()
        .map(|(ObservationId(id), paths)| match paths.as_slice() {
            [path] => json!({ "id": id, "path": path.to_string() }),
            paths => json!({ "id": id, "paths": paths.iter().map(ToString::to_string).collect::<Vec<_>>() }),
        })
        .collect();
    Ok(Json(json!({ "observations": standing })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObserveBody {
    path: String,
    format: Option<String>,
}

/// Observe; values that change arrive at `/events`.
pub(super) async fn observe(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
    Params(query): Params<TimeoutQuery>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let body: ObserveBody = request::body(&bytes)?;
    let path = request::path(&body.path)?;
    let operation = Operation::Observe { path, format: request::format(body.format.as_deref())? };
    match api.server.request(&endpoint, operation, request::timeout(query.timeout)?).await? {
        Answer::Observing(ObservationId(id), content) => {
            let mut answer = values::emit_content(&content);
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("id".to_owned(), json!(id));
                answer.insert("path".to_owned(), json!(path.to_string()));
            }
            Ok((StatusCode::CREATED, Json(answer)))
        }
        _ => Err(RequestError::Malformed("not an answer to an Observe").into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelQuery {
    id: u64,
    timeout: Option<u64>,
}

/// Cancel Observation.
pub(super) async fn cancel(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
    Params(query): Params<CancelQuery>,
) -> Result<StatusCode, Problem> {
    let operation = Operation::Cancel { observation: ObservationId(query.id) };
    api.server.request(&endpoint, operation, request::timeout(query.timeout)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
