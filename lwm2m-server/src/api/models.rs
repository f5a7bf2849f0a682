//! Definitions of objects: what is in use, and adding one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use lwm2m_objects::{Operations, Version};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::{Params, Route, Xml};
use super::{Actor, Api, values};
use crate::models::{Entry, Model, NotAdded, Source};

/// All definitions, without their resources.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let models: Vec<Value> =
        api.catalog.current().iter().map(|entry| summary(&entry.model, &entry.source)).collect();
    Json(json!({ "models": models }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    version: Option<String>,
}

/// One definition with its resources.
pub(super) async fn show(
    State(api): State<Api>,
    Route(object): Route<u16>,
    Params(query): Params<ShowQuery>,
) -> Result<Json<Value>, Problem> {
    let models = api.catalog.current();
    let versions = models.versions(object);
    let Some(newest) = versions.last() else {
        return Err(Problem::new(
            404,
            "No such definition",
            format!("object {object} is not known here: POST its XML to /models"),
        ));
    };
    let found = match &query.version {
        None => newest,
        Some(text) => {
            let version = Version::parse(text)
                .ok_or_else(|| Problem::invalid(format!("version: '{text}' is not two numbers as in 1.0")))?;
            models.exactly(object, version).ok_or_else(|| {
                let known: Vec<String> = versions.iter().map(|entry| dotted(entry.model.version)).collect();
                let detail = format!("object {object} is known here in {}, not in {text}", known.join(", "));
                Problem::new(404, "No such definition", detail)
            })?
        }
    };
    Ok(Json(emit(found)))
}

/// Adds a definition; from then on values have its types.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Xml(bytes): Xml,
) -> Result<(StatusCode, Json<Value>), Problem> {
    // To its end, also when the caller goes away: it is stored before it is used.
    let whole = tokio::spawn(async move { api.catalog.add(actor, bytes.to_vec()).await });
    let (model, is_replaced) = whole.await.map_err(|_| Problem::internal())?.map_err(Problem::from)?;
    let status = if is_replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(summary(&model, &Source::Added))))
}

impl From<NotAdded> for Problem {
    fn from(error: NotAdded) -> Self {
        let detail = error.to_string();
        match error {
            NotAdded::Invalid(_) | NotAdded::Several(_) => Self::new(422, "Not a definition", detail),
            NotAdded::InFile(_) => Self::new(409, "Defined in a file", detail),
            NotAdded::Full => Self::new(507, "Too many definitions", detail),
            NotAdded::Store(error) => error.into(),
        }
    }
}

fn dotted(Version { major, minor }: Version) -> String {
    format!("{major}.{minor}")
}

fn summary(model: &Model, source: &Source) -> Value {
    let (source, file) = match source {
        Source::BuiltIn => ("built-in", None),
        Source::Added => ("added", None),
        Source::File(path) => ("file", Some(path.display().to_string())),
    };
    json!({
        "id": model.id,
        "version": dotted(model.version),
        "lwm2m": dotted(model.enabler),
        "name": &*model.name,
        "multiple": model.multiple,
        "mandatory": model.mandatory,
        "resources": model.resources.len(),
        "source": source,
        "file": file,
    })
}

fn emit(entry: &Entry) -> Value {
    let resources = entry.model.resources.iter().map(|resource| {
        json!({
            "id": resource.id,
            "name": &*resource.name,
            "operations": operations(resource.operations),
            "multiple": resource.multiple,
            "mandatory": resource.mandatory,
            "type": values::name(resource.kind),
            "range": &*resource.range,
            "units": &*resource.units,
        })
    });
    let resources: Vec<Value> = resources.collect();
    let mut emitted = summary(&entry.model, &entry.source);
    if let Some(emitted) = emitted.as_object_mut() {
        emitted.insert("resources".to_owned(), json!(resources));
    }
    emitted
}

fn operations(operations: Operations) -> String {
    let letters =
        [(operations.is_readable(), 'R'), (operations.is_writable(), 'W'), (operations.is_executable(), 'E')];
    letters.into_iter().filter(|(is_so, _)| *is_so).map(|(_, letter)| letter).collect()
}
