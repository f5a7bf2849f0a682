//! Definitions of objects: what is in use, and adding one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use lwm2m_objects::{Operations, Version};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Params, Route, Xml};
use super::{Actor, Api, values};
use crate::models::{Entry, Model, NotAdded, Source};

/// All definitions.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    models: Vec<Listed>,
}

/// All definitions, without their resources.
pub(super) async fn list(State(api): State<Api>) -> Json<ModelList> {
    let current = api.catalog.current();
    Json(ModelList { models: current.iter().map(|entry| Listed::new(&entry.model, &entry.source)).collect() })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// As in `1.1`; the newest without.
    #[param(pattern = "^[0-9]{1,2}\\.[0-9]{1,2}$")]
    version: Option<String>,
}

/// One definition with its resources.
pub(super) async fn show(
    State(api): State<Api>,
    Route(object): Route<u16>,
    Params(query): Params<ShowQuery>,
) -> Result<Json<Defined>, Problem> {
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
    Ok(Json(Defined::new(found)))
}

/// Adds a definition; from then on values have its types.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Xml(bytes): Xml,
) -> Result<(StatusCode, Json<Listed>), Problem> {
    // To its end, also when the caller goes away: it is stored before it is used.
    let whole = tokio::spawn(async move { api.catalog.add(actor, bytes.to_vec()).await });
    let (model, is_replaced) = whole.await.map_err(|_| Problem::internal())?.map_err(Problem::from)?;
    let status = if is_replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(Listed::new(&model, &Source::Added))))
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

/// The definition of an object.
#[derive(Serialize, ToSchema)]
struct Definition {
    id: u16,
    version: String,
    /// The version of LwM2M that it needs.
    lwm2m: String,
    name: String,
    multiple: bool,
    mandatory: bool,
    /// `built-in`, `added` or `file`.
    source: &'static str,
    file: Option<String>,
}

impl Definition {
    fn new(model: &Model, source: &Source) -> Self {
        let (source, file) = match source {
            Source::BuiltIn => ("built-in", None),
            Source::Added => ("added", None),
            Source::File(path) => ("file", Some(path.display().to_string())),
        };
        Self {
            id: model.id,
            version: dotted(model.version),
            lwm2m: dotted(model.enabler),
            name: model.name.to_string(),
            multiple: model.multiple,
            mandatory: model.mandatory,
            source,
            file,
        }
    }
}

/// A definition, and how many resources it has.
#[derive(Serialize, ToSchema)]
pub(super) struct Listed {
    #[serde(flatten)]
    definition: Definition,
    resources: usize,
}

impl Listed {
    fn new(model: &Model, source: &Source) -> Self {
        Self { definition: Definition::new(model, source), resources: model.resources.len() }
    }
}

/// A definition with its resources.
#[derive(Serialize, ToSchema)]
pub(super) struct Defined {
    #[serde(flatten)]
    definition: Definition,
    resources: Vec<DefinedResource>,
}

/// The definition of a resource.
#[derive(Serialize, ToSchema)]
struct DefinedResource {
    id: u16,
    name: String,
    /// Of `R`, `W` and `E`.
    operations: String,
    multiple: bool,
    mandatory: bool,
    /// The type of its values, if it has any.
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    range: String,
    units: String,
}

impl Defined {
    fn new(entry: &Entry) -> Self {
        let resources = entry.model.resources.iter().map(|resource| DefinedResource {
            id: resource.id,
            name: resource.name.to_string(),
            operations: operations(resource.operations),
            multiple: resource.multiple,
            mandatory: resource.mandatory,
            kind: values::name(resource.kind),
            range: resource.range.to_string(),
            units: resource.units.to_string(),
        });
        Self { definition: Definition::new(&entry.model, &entry.source), resources: resources.collect() }
    }
}

fn operations(operations: Operations) -> String {
    let letters =
        [(operations.is_readable(), 'R'), (operations.is_writable(), 'W'), (operations.is_executable(), 'E')];
    letters.into_iter().filter(|(is_so, _)| *is_so).map(|(_, letter)| letter).collect()
}
