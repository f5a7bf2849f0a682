//! Requests to devices that sleep: asked at once or queued, listed, shown, cancelled.
//!
//! `?queue=asleep`, the default, queues a request to a device in queue mode that sleeps, or for which older ones wait; `never`
//! asks at once, `always` queues in any case. What is queued is answered with 202, its id and a `Location`; `?priority=` (0 to
//! 255, or `low`, `normal`, `high`; the higher one goes first) and `?expires=` (seconds, a week if it is not said) are for it.
//!
//! After an unclean stop of the server a device is known to sleep only once it has registered again. Until then `asleep` finds no
//! such device, and `always` queues for one that has credentials.

use core::time::Duration;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{self, Route};
use super::{Actor, Api, no_such_device, now_ms};
use crate::queue::{self, Body, Full, NotCancelled, NotQueued, Queued};
use crate::store::QueuedRequest;
use crate::{Answer, Operation, RequestError};

/// Longest time that a request may wait, in seconds: 30 days.
const LONGEST_WAIT: u64 = 30 * 86_400;
/// The time it may wait if it is not said: a week.
const WAIT: u64 = 7 * 86_400;

/// When a request is queued: to a device that sleeps, never, or in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum When {
    #[default]
    Asleep,
    Never,
    Always,
}

/// A priority: a number, or a name for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Priority(u8);

impl TryFrom<String> for Priority {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "low" => Ok(Self(64)),
            "normal" => Ok(Self::default()),
            "high" => Ok(Self(192)),
            number => number.parse().map(Self).map_err(|_| {
                format!(
                    "'{number}' is no priority: 0 to 255, the higher one goes first, or low, normal, high"
                )
            }),
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(128)
    }
}

/// How a request is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    timeout: Duration,
    when: When,
    priority: Priority,
    expires: Duration,
}

/// What a query says of it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Said {
    /// Seconds that the device may take, the wait for requests before it included.
    #[param(minimum = 1, maximum = 590, default = 93)]
    timeout: Option<u64>,
    /// When it is queued.
    #[param(inline)]
    queue: Option<When>,
    /// Priority in the queue, 0 to 255, the higher one goes first; or `low`, `normal`, `high`.
    #[param(value_type = Option<String>, pattern = "^(low|normal|high|[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])$")]
    priority: Option<Priority>,
    /// Seconds after which it is given up if it has not left the queue.
    #[param(minimum = 1, maximum = 2592000, default = 604800)]
    expires: Option<u64>,
}

impl Said {
    const NAMES: [&str; 4] = ["timeout", "queue", "priority", "expires"];
}

impl TryFrom<Said> for Manner {
    type Error = Problem;

    fn try_from(said: Said) -> Result<Self, Problem> {
        let expires = said.expires.unwrap_or(WAIT);
        if !(1..=LONGEST_WAIT).contains(&expires) {
            return Err(Problem::invalid(format!("expires: 1 to {LONGEST_WAIT} seconds")));
        }
        Ok(Self {
            timeout: request::timeout(said.timeout)?,
            when: said.queue.unwrap_or_default(),
            priority: said.priority.unwrap_or_default(),
            expires: Duration::from_secs(expires),
        })
    }
}

/// The query of a request to a device: how it is asked, and what else it takes.
pub(super) struct Asking<T>(pub(super) Manner, pub(super) T);

/// What takes nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asking<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let is_of_manner = |pair: &&str| Said::NAMES.contains(&pair.split('=').next().unwrap_or_default());
        // One after the other: `serde` cannot flatten one into the other and refuse unknown names.
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let (manner, rest): (Vec<_>, Vec<_>) = pairs.partition(is_of_manner);
        let parse = |pairs: Vec<&str>| {
            let uri = Uri::builder().path_and_query(format!("/?{}", pairs.join("&")));
            uri.build().map_err(|_| Problem::invalid("query: not part of a URI"))
        };
        let said: Said = request::query(&parse(manner)?)?;
        Ok(Self(said.try_into()?, request::query(&parse(rest)?)?))
    }
}

/// What became of a request at once.
pub(super) enum Asked {
    Answered(Answer),
    /// It waits, under this id.
    Queued(u64),
}

impl Api {
    /// Asks an operation of a device that listens, or queues it.
    pub(super) async fn ask(
        &self,
        actor: &Arc<str>,
        endpoint: &str,
        operation: Operation,
        manner: Manner,
    ) -> Result<Asked, Failed> {
        let device = self.server.device(endpoint).await;
        let is_queue_mode =
            manner.when == When::Asleep && device.as_ref().is_some_and(|device| device.awake_until.is_some());
        let is_live = match manner.when {
            When::Always if device.is_none() && self.credentials.device(endpoint).is_none() => {
                return Err(Failed::Asked(RequestError::UnknownDevice));
            }
            When::Always => false,
            // One without queue mode, or on its way between two threads.
            _ if !is_queue_mode => true,
            _ => {
                device.is_some_and(|device| device.is_awake(now_ms())) && !self.queue.is_busy(endpoint).await
            }
        };
        if is_live {
            let outcome = self.server.request(endpoint, operation.clone(), manner.timeout).await;
            // It fell asleep before the request left.
            let is_to_wait =
                is_queue_mode && matches!(outcome, Err(RequestError::NotSent | RequestError::Unreachable));
            if !is_to_wait {
                return outcome.map(Asked::Answered).map_err(Failed::Asked);
            }
        }
        let (priority, actor) = (manner.priority.0, Arc::clone(actor));
        let queued = Queued { operation, priority, expires: manner.expires, actor };
        self.queue.add(endpoint, queued).await.map(Asked::Queued).map_err(Failed::Queued)
    }

    /// For how long a device is asked now for what is kept in any case; `None` when it is asked another time: it sleeps, is not
    /// registered, or `queue` says so.
    pub(super) async fn asks_now(&self, endpoint: &str, manner: Manner) -> Result<Option<Duration>, Failed> {
        let device = self.server.device(endpoint).await;
        // Of a decommissioned one nothing is waited for.
        let is_enrolled =
            || self.credentials.device(endpoint).is_some_and(|device| !device.is_decommissioned());
        let is_awake = match &device {
            Some(device) => device.is_awake(now_ms()),
            None if manner.when == When::Never || !is_enrolled() => {
                return Err(Failed::Asked(RequestError::UnknownDevice));
            }
            None => false,
        };
        let is_now = match manner.when {
            When::Asleep => is_awake,
            When::Never => true,
            When::Always => false,
        };
        Ok(is_now.then_some(manner.timeout))
    }

    /// Whether a device listens, as far as is known.
    pub(super) async fn is_awake(&self, endpoint: &str) -> bool {
        self.server.device(endpoint).await.is_some_and(|device| device.is_awake(now_ms()))
    }
}

/// Why there is neither an answer nor an id.
pub(super) enum Failed {
    Asked(RequestError),
    Queued(NotQueued),
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Asked(error) => error.into(),
            Failed::Queued(error) => {
                let (status, title) = match error {
                    NotQueued::Full(Full::Device(_)) => (429, "Queue full"),
                    NotQueued::Full(Full::Server(_)) => (503, "Queue full"),
                    NotQueued::TooLong(_) => (413, "Too long to queue"),
                    NotQueued::Unfit => (400, "Invalid request"),
                    NotQueued::Stopped => (503, "Stopping"),
                };
                Self::new(status, title, error.to_string())
            }
        }
    }
}

/// A request that waits.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Its id, as in its `Location`.
    id: u64,
}

/// The answer to a request that waits.
pub(super) fn accepted(endpoint: &str, id: u64) -> Response {
    let location = format!("/api/v1/devices/{}/requests/{id}", escaped(endpoint));
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Accepted { id })).into_response()
}

/// An endpoint name as a segment of a path.
pub(super) fn escaped(endpoint: &str) -> String {
    let mut name = String::new();
    for byte in endpoint.bytes() {
        match byte {
            // RFC 3986 §2.3: unreserved.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                name.push(char::from(byte))
            }
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
}

/// The queued requests of a device, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct RequestList {
    requests: Vec<ShownRequest>,
}

/// A queued request with its state and outcome; times in milliseconds since 1970. Of one that is damaged what does not open is
/// missing.
#[derive(Serialize, ToSchema)]
#[schema(as = QueuedRequest)]
pub(super) struct ShownRequest {
    id: u64,
    state: queue::State,
    /// As `read`, `write`.
    operation: Option<&'static str>,
    path: Option<String>,
    priority: u8,
    /// How often it was sent.
    attempts: u8,
    queued_at_ms: u64,
    expires_at_ms: u64,
    ended_at_ms: Option<u64>,
    damaged: bool,
    /// `code` and `answer` of the device as of a request that did not wait, or the `reason` why there are none.
    outcome: Option<Value>,
}

impl ShownRequest {
    fn new(request: &QueuedRequest) -> Self {
        let QueuedRequest { id, head, .. } = request;
        let body = Body::parse(&request.body);
        let (operation, path) = body.as_ref().map(Body::what).unzip();
        let outcome = request.outcome.as_ref();
        Self {
            id: *id,
            state: head.state,
            operation,
            path,
            priority: head.priority,
            attempts: head.attempts,
            queued_at_ms: head.queued_ms,
            expires_at_ms: head.expires_ms,
            ended_at_ms: head.ended_ms,
            damaged: request.is_damaged,
            outcome: outcome.and_then(|outcome| serde_json::from_slice(outcome).ok()),
        }
    }
}

/// The queued requests of a device, oldest first: those that wait, and those that ended lately.
pub(super) async fn list(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Json<RequestList>, Problem> {
    let requests = api.queue.requests(&endpoint).await?;
    if requests.is_empty()
        && api.server.device(&endpoint).await.is_none()
        && api.credentials.device(&endpoint).is_none()
    {
        return Err(no_such_device(&endpoint));
    }
    Ok(Json(RequestList { requests: requests.iter().map(ShownRequest::new).collect() }))
}

/// One queued request.
pub(super) async fn show(
    State(api): State<Api>,
    Route((endpoint, id)): Route<(String, u64)>,
) -> Result<Json<ShownRequest>, Problem> {
    let request = api.queue.request(&endpoint, id).await?;
    request.as_ref().map(ShownRequest::new).map(Json).ok_or_else(|| no_such_request(&endpoint, id))
}

/// Cancels a request that is not on its way; one that left before ends as `unknown`.
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Route((endpoint, id)): Route<(String, u64)>,
) -> Result<StatusCode, Problem> {
    let conflict = |detail: String| Problem::new(409, "Not cancelled", detail);
    match api.queue.cancel(&endpoint, id, actor).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(NotCancelled::Sent) => Err(conflict(format!("request {id} is on its way"))),
        Err(NotCancelled::Stopped) => Err(RequestError::Stopped.into()),
        Err(NotCancelled::Unknown) => match api.queue.request(&endpoint, id).await? {
            Some(request) => Err(conflict(format!("request {id} has ended: {}", request.head.state.name()))),
            None => Err(no_such_request(&endpoint, id)),
        },
    }
}

fn no_such_request(endpoint: &str, id: u64) -> Problem {
    Problem::new(
        404,
        "No such request",
        format!("'{endpoint}' has no request {id}, or it ended too long ago"),
    )
}
