//! Operations on several places of a device at once.
//!
//! - `GET …/composite?paths=/3/0/9,/1/0/1` reads them; what is not there is left out.
//! - `PUT …/composite` with `{"values": {"/3/0/14": V, "/1/0/1": V}}` writes all or none; under each path stands what a Write to it
//!   has as its body.
//! - `POST …/composite` with `{"paths": ["/3/0/9", "/1/0/1"]}` observes them: when one changes all come as one event at `/events`. It is
//!   `POST …/observations` under the name of the operation, with the same body and answers; [`observations`](super::observations) tells
//!   both.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::devices::{change, respond};
use super::problem::Problem;
use super::request::{self, Body, Route};
use super::requests::{Asking, Nothing};
use super::{Actor, Api, values};
use crate::{Operation, Path};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// Where, separated by commas: `/3/0/9,/1/0/1`.
    #[param(pattern = "^/[0-9]{1,4}(/[0-9]{1,4}){0,3}(,/[0-9]{1,4}(/[0-9]{1,4}){0,3})*$")]
    paths: String,
    /// Content format to ask for: `text`, `opaque`, `cbor`, `senml-json`, `senml-cbor`, `tlv`, `lwm2m-cbor` or a number of CoAP.
    #[param(pattern = "^(text|opaque|cbor|senml-json|senml-cbor|tlv|lwm2m-cbor|[0-9]{1,4})$")]
    format: Option<String>,
}

/// Read-Composite.
pub(super) async fn read(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Asking(manner, query): Asking<ReadQuery>,
) -> Result<Response, Problem> {
    let paths = query.paths.split(',').map(request::path).collect::<Result<Vec<_>, _>>()?;
    let operation = Operation::ReadComposite { paths, format: request::format(query.format.as_deref())? };
    let asked = api.ask(&actor, &endpoint, operation, manner).await?;
    Ok(respond(&endpoint, Path::ROOT, StatusCode::OK, asked))
}

/// Several writes at once.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WriteComposite)]
pub(super) struct WriteBody {
    /// By path, what a Write to it has as its body.
    #[schema(value_type = std::collections::HashMap<String, values::Written>)]
    values: Map<String, Value>,
}

/// Write-Composite.
pub(super) async fn write(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route(endpoint): Route<String>,
    Asking(manner, Nothing {}): Asking<Nothing>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let body: WriteBody = request::body(&bytes)?;
    let types = api.types(&endpoint).await;
    let mut values = Vec::new();
    for (path, value) in &body.values {
        values.extend(values::parse_write(&types, &request::path(path)?, value)?);
    }
    let places = body.values.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let operation = Operation::WriteComposite { values };
    let asked = change(&api, actor, &endpoint, "write-composite", places, operation, manner).await?;
    Ok(respond(&endpoint, Path::ROOT, StatusCode::NO_CONTENT, asked))
}
