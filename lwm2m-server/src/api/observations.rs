//! What is observed of devices.
//!
//! `POST …/observations` with `{"path": "/3303/0/5700"}`, or `{"paths": […]}` for several places whose values come together, observes;
//! values arrive at `/events` under the id that is answered. `"attributes": {"pmin": 10, "gt": 30}` are written to the device before,
//! each time it is asked; `"format"` is the one to ask for.
//!
//! It lasts: it stands until it is deleted, also when the device registers anew and when the server was killed. `201` has the first
//! values; `202` says that it waits for a device that sleeps, does not answer or is not registered now. What the device refuses at once
//! is not kept. `?queue=` and `?timeout=` say whether and for how long the device is asked now; nothing is queued, so that `?priority=` and
//! `?expires=` say nothing here. With `"lasting": false` it stands until the device registers again, and is queued as any request; of a
//! place of which one lasts the answer is `409`.
//!
//! An observation of the list is `standing`, or it is `waiting` for its device, or `refused` with the device's `reason`, and is asked
//! again when that registers the next time. Of the same place there is one: another format or other attributes take the place of what
//! was wanted before, under the same id, and attributes that are left out are unset at the device. While they wait the former ones go
//! on.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::devices::respond;
use super::problem::Problem;
use super::request::{self, Body, Params, Route};
use super::requests::{Asking, Manner, Nothing, escaped};
use super::{Actor, Api, no_such_device, now_ms, values};
use crate::observations::{ATTRIBUTES, Added, Intent, NotAdded, Places, What};
use crate::queue::Observing;
use crate::{ObservationId, Operation, Path, RequestError};

/// The most places of one observation.
const MOST_PLACES: usize = 256;

/// What is observed, and what is to be.
pub(super) async fn list(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<ObservationList>, Problem> {
    let observations = all(&api, &endpoint).await?;
    let is_known = !observations.is_empty()
        || api.server.device(&endpoint).await.is_some()
        || api.credentials.device(&endpoint).is_some();
    if !is_known {
        return Err(no_such_device(&endpoint));
    }
    Ok(Json(ObservationList { observations }))
}

/// One observation.
pub(super) async fn show(
    State(api): State<Api>,
    Route((endpoint, id)): Route<(String, u64)>,
) -> Result<Json<Observation>, Problem> {
    let mut observations = all(&api, &endpoint).await?;
    observations.retain(|observation| observation.id == id);
    observations.pop().map(Json).ok_or_else(|| RequestError::UnknownObservation.into())
}

/// What is observed of a device.
#[derive(Serialize, ToSchema)]
pub(super) struct ObservationList {
    observations: Vec<Observation>,
}

/// What is observed, or to be observed.
#[derive(Serialize, ToSchema)]
pub(super) struct Observation {
    id: u64,
    lasting: bool,
    /// `standing`, `waiting` for the device, or `refused`.
    state: &'static str,
    /// Why the device refused it.
    reason: Option<String>,
    /// The place, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The places, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    /// Of one that lasts: what is written to each place before it is observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<values::Attributes>)]
    attributes: Option<Map<String, Value>>,
    /// Of one that lasts: the content format that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<u16>,
    /// Of one that lasts: when it was asked for, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
}

impl Observation {
    fn lasting(ObservationId(id): ObservationId, intent: &Intent, state: &'static str) -> Self {
        let (path, paths) = match &intent.what {
            What::Path(path) => (Some(path.clone()), None),
            What::Paths(paths) => (None, Some(paths.clone())),
        };
        Self {
            id,
            lasting: true,
            state,
            reason: intent.refused.clone().filter(|_| state == REFUSED),
            path,
            paths,
            attributes: Some(intent.attributes.clone()),
            format: intent.format,
            since_ms: Some(intent.since_ms),
        }
    }

    fn passing(ObservationId(id): ObservationId, paths: &[Path]) -> Self {
        let (path, paths) = match paths {
            [path] => (Some(path.to_string()), None),
            paths => (None, Some(paths.iter().map(Path::to_string).collect())),
        };
        let (attributes, format, since_ms) = (None, None, None);
        Self { id, lasting: false, state: STANDING, reason: None, path, paths, attributes, format, since_ms }
    }
}

const STANDING: &str = "standing";
const WAITING: &str = "waiting";
const REFUSED: &str = "refused";

/// Those that last, then the others.
async fn all(api: &Api, endpoint: &str) -> Result<Vec<Observation>, Problem> {
    let intents = api.observations.intents(endpoint).await?;
    let mut standing = api.server.observations(endpoint).await;
    let mut observations = Vec::new();
    for (id, intent) in &intents {
        let stands = standing.iter().position(|(other, _)| other == id);
        if let Some(at) = stands {
            standing.remove(at);
        }
        let state = match (stands, &intent.refused) {
            // What stands may be the former one still.
            (Some(_), _) if intent.unset.is_none() => STANDING,
            (_, Some(_)) => REFUSED,
            (_, None) => WAITING,
        };
        observations.push(Observation::lasting(*id, intent, state));
    }
    observations.extend(standing.iter().map(|(id, paths)| Observation::passing(*id, paths)));
    Ok(observations)
}

/// What is to be observed: one `path`, or several `paths` whose values come together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Observe)]
pub(super) struct ObserveBody {
    #[schema(pattern = "^/[0-9]{1,4}(/[0-9]{1,4}){0,3}$")]
    path: Option<String>,
    #[schema(min_items = 1, max_items = 256)]
    paths: Option<Vec<String>>,
    /// Content format to ask for: a name as in the query of a Read, or a number of CoAP as text.
    #[schema(pattern = "^(text|opaque|cbor|senml-json|senml-cbor|tlv|lwm2m-cbor|[0-9]{1,4})$")]
    format: Option<String>,
    /// What is written to each place before it is observed.
    #[serde(default)]
    #[schema(value_type = values::Attributes)]
    attributes: Map<String, Value>,
    /// It stands until it is ended, whatever becomes of registrations.
    #[serde(default = "yes")]
    lasting: bool,
}

/// An observation that stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Stands {
    #[serde(flatten)]
    observing: Observing,
    /// It stands until it is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    lasting: Option<bool>,
}

const fn yes() -> bool {
    true
}

/// Observe and Observe-Composite.
pub(super) async fn observe(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Route(endpoint): Route<String>,
    Asking(manner, Nothing {}): Asking<Nothing>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let body: ObserveBody = request::body(&bytes)?;
    let format = request::format(body.format.as_deref())?;
    let places = places(body.path, body.paths)?;
    if body.lasting {
        let mut intent = Intent::new(places, format, actor.0, now_ms());
        for (name, value) in &body.attributes {
            intent = intent.with_attribute(name, attribute(name, value)?);
        }
        return last(&api, &endpoint, intent, manner).await;
    }
    if !body.attributes.is_empty() {
        return Err(Problem::invalid(
            "attributes are for an observation that lasts: PUT them to …/attributes",
        ));
    }
    // Ended by the one who wants it for a while, it would be gone for the one who wants it to last.
    let lasting = api.observations.intents(&endpoint).await?;
    let what = What::from(&places);
    if let Some((ObservationId(id), _)) = lasting.iter().find(|(_, intent)| intent.what == what) {
        let detail = format!("observation {id} of the same place lasts: use its values, or DELETE it first");
        return Err(Problem::new(409, "Observed already", detail));
    }
    let (path, operation) = match places {
        Places::One(path) => (path, Operation::Observe { path, format }),
        Places::Several(paths) => (Path::ROOT, Operation::ObserveComposite { paths, format }),
    };
    let asked = api.ask(&actor.0, &endpoint, operation, manner).await?;
    Ok(respond(&endpoint, path, StatusCode::CREATED, asked))
}

fn places(path: Option<String>, paths: Option<Vec<String>>) -> Result<Places, Problem> {
    let places = match (path, paths) {
        (Some(path), None) => Places::One(request::path(&path)?),
        (None, Some(paths)) => {
            Places::Several(paths.iter().map(|path| request::path(path)).collect::<Result<_, _>>()?)
        }
        _ => {
            return Err(Problem::invalid(
                "what to observe: {\"path\": \"/3303/0/5700\"} or {\"paths\": [\"/3/0/9\", …]}",
            ));
        }
    };
    match &places {
        Places::One(Path::ROOT) => Err(Problem::invalid("an Observe needs at least an object")),
        Places::Several(paths) if !(1..=MOST_PLACES).contains(&paths.len()) => {
            Err(Problem::invalid(format!("paths: 1 to {MOST_PLACES} places")))
        }
        _ => Ok(places),
    }
}

fn attribute(name: &str, value: &Value) -> Result<serde_json::Number, Problem> {
    if !ATTRIBUTES.contains(&name) {
        return Err(Problem::invalid(format!("unknown attribute '{name}': {}", ATTRIBUTES.join(", "))));
    }
    let number =
        value.as_number().ok_or_else(|| Problem::invalid(format!("attribute '{name}' is a number")))?;
    if name.starts_with('p') || name.starts_with('e') {
        let is_time = number.as_u64().is_some_and(|seconds| u32::try_from(seconds).is_ok());
        if !is_time {
            return Err(Problem::invalid(format!("attribute '{name}' is {number}: seconds, 0 or more")));
        }
    }
    Ok(number.clone())
}

/// Keeps an intent, and asks the device if it listens.
async fn last(api: &Api, endpoint: &str, intent: Intent, manner: Manner) -> Result<Response, Problem> {
    let ask = api.asks_now(endpoint, manner).await?;
    // To its end also when the caller goes away: what was refused is not kept.
    let (path, name, own) = (intent.path(), endpoint.to_owned(), api.clone());
    let whole = tokio::spawn(async move {
        let added = own.observations.add(&name, intent.clone(), ask).await;
        (added, intent)
    });
    let (added, intent) = whole.await.map_err(|_| Problem::internal())?;
    match added? {
        Added::Stands(id, content) => {
            let stands = Stands { observing: Observing::new(path, id, &content), lasting: Some(true) };
            Ok((StatusCode::CREATED, Json(stands)).into_response())
        }
        Added::Waits(id) => {
            let location = format!("/api/v1/devices/{}/observations/{}", escaped(endpoint), id.0);
            let answer = Json(Observation::lasting(id, &intent, WAITING));
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], answer).into_response())
        }
    }
}

impl From<NotAdded> for Problem {
    fn from(error: NotAdded) -> Self {
        match error {
            NotAdded::Full(_) => Self::new(429, "Too many observations", error.to_string()),
            NotAdded::Refused(error) => error.into(),
            NotAdded::Store(error) => error.into(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelQuery {
    /// Which one.
    id: u64,
    /// Seconds that the device may take.
    #[param(minimum = 1, maximum = 590, default = 93)]
    timeout: Option<u64>,
}

/// Ends an observation: of a device that sleeps it is forgotten, and its next notification is answered with a Reset.
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route(endpoint): Route<String>,
    Params(query): Params<CancelQuery>,
) -> Result<StatusCode, Problem> {
    let observation = ObservationId(query.id);
    let timeout = request::timeout(query.timeout)?;
    // To its end also when the caller goes away: it ends where it is kept, and at the device.
    let (name, own) = (endpoint.clone(), api.clone());
    let whole =
        tokio::spawn(async move { own.observations.remove(actor, &name, observation, timeout).await });
    if whole.await.map_err(|_| Problem::internal())?? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let is_registered = api.server.device(&endpoint).await.is_some();
    if is_registered && !api.is_awake(&endpoint).await {
        return match api.server.forget_observation(&endpoint, observation).await {
            true => Ok(StatusCode::NO_CONTENT),
            false => Err(RequestError::UnknownObservation.into()),
        };
    }
    api.server.request(&endpoint, Operation::Cancel { observation }, timeout).await?;
    Ok(StatusCode::NO_CONTENT)
}
