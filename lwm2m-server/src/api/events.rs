//! The audit log and the live stream of events.

use core::convert::Infallible;
use core::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};

use super::credentials::LIMIT;
use super::problem::Problem;
use super::request::Params;
use super::{Api, values};
use crate::credentials::CredentialEvent;
use crate::{Event, Report, Reported};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    after: Option<u64>,
    limit: Option<usize>,
    endpoint: Option<String>,
}

/// Audit rows, oldest first: those after `after`, else the newest.
pub(super) async fn audit(
    State(api): State<Api>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, 1000);
    let rows = api
        .read_store(move |credentials| credentials.audit(query.endpoint.as_deref(), query.after, limit))
        .await?;
    Ok(Json(json!({ "rows": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    endpoint: Option<String>,
}

/// Events from now on, as server-sent events; ends when the server stops.
pub(super) async fn stream(
    State(api): State<Api>,
    Params(query): Params<EventsQuery>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let lost = api.clone();
    let device = BroadcastStream::new(api.server.events()).map(move |event| match event {
        Ok(event) => emit(&event),
        Err(lagged) => lost.lagged(lagged),
    });
    let lost = api.clone();
    let lifecycle = BroadcastStream::new(api.credentials.subscribe()).map(move |event| match event {
        Ok(event) => emit_step(&event),
        Err(lagged) => lost.lagged(lagged),
    });
    let events = device.merge(lifecycle).filter(move |(_, body)| {
        let about = body.get("endpoint").and_then(Value::as_str);
        query.endpoint.as_deref().is_none_or(|only| about.is_none_or(|about| about == only))
    });
    until_stopped(&api, events)
}

/// Names and bodies as server-sent events until the server stops.
pub(super) fn until_stopped<S>(
    api: &Api,
    events: S,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<S>>
where
    S: Stream<Item = (&'static str, Value)> + Send + 'static,
{
    let stop = WatchStream::new(api.stopping.clone()).filter(|is_stopping| *is_stopping).map(|_| None);
    let events = events
        .map(Some)
        .merge(stop)
        .take_while(Option::is_some)
        .filter_map(|event| event)
        .map(|(name, body)| Ok(sse::Event::default().event(name).data(body.to_string())));
    Sse::new(events).keep_alive(KeepAlive::default())
}

impl Api {
    /// Counts and tells that a listener was too slow.
    pub(super) fn lagged(
        &self,
        BroadcastStreamRecvError::Lagged(lost): BroadcastStreamRecvError,
    ) -> (&'static str, Value) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        ("lost", json!({ "events": lost, "reason": "the listener was too slow" }))
    }
}

fn emit_report(endpoint: &str, report: &Report) -> Value {
    let values: Vec<Value> = report.values.iter().map(emit_reported).collect();
    json!({ "endpoint": endpoint, "format": report.format, "values": values })
}

fn emit_reported(reported: &Reported) -> Value {
    let (kind, value) = values::emit(&reported.value);
    let path = reported.path.to_string();
    json!({ "path": path, "type": kind, "value": value, "time_ms": reported.time })
}

fn emit_step(event: &CredentialEvent) -> (&'static str, Value) {
    ("credential", json!(event))
}

fn emit(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Registered { endpoint } => ("registered", json!({ "endpoint": endpoint })),
        Event::Updated { endpoint } => ("updated", json!({ "endpoint": endpoint })),
        Event::Deregistered { endpoint } => ("deregistered", json!({ "endpoint": endpoint })),
        Event::Expired { endpoint } => ("expired", json!({ "endpoint": endpoint })),
        Event::Awake { endpoint } => ("awake", json!({ "endpoint": endpoint })),
        Event::Request { endpoint, id, state } => {
            (state.event(), json!({ "endpoint": endpoint, "id": id, "state": state }))
        }
        Event::RegistrationRefused { endpoint, role, reason } => {
            ("registration-refused", json!({ "endpoint": endpoint, "role": role, "reason": reason }))
        }
        Event::Notification { endpoint, observation, path, report } => {
            let mut body = emit_report(endpoint, report);
            if let Some(body) = body.as_object_mut() {
                body.insert("observation".to_owned(), json!(observation.0));
                body.insert("path".to_owned(), json!(path.to_string()));
            }
            ("notification", body)
        }
        Event::Reported { endpoint, report } => ("reported", emit_report(endpoint, report)),
        Event::ObservationEnded { endpoint, observation, reason, .. } => (
            "observation-ended",
            json!({
                "endpoint": endpoint,
                "observation": observation.0,
                "lasting": observation.is_lasting(),
                "reason": reason,
            }),
        ),
        Event::ObservationStands { endpoint, observation } => {
            ("observation-stands", json!({ "endpoint": endpoint, "observation": observation.0 }))
        }
        Event::ObservationRefused { endpoint, observation, reason } => (
            "observation-refused",
            json!({ "endpoint": endpoint, "observation": observation.0, "reason": reason }),
        ),
        Event::SessionEstablished { endpoint, role, full, suite } => (
            "session-established",
            json!({ "endpoint": endpoint, "role": role, "full": full, "suite": suite.name() }),
        ),
        Event::AddressChanged { endpoint, role, from, to } => {
            ("address-changed", json!({ "endpoint": endpoint, "role": role, "from": from, "to": to }))
        }
        Event::HandshakeRefused { role, address, identity, reason } => (
            "handshake-refused",
            json!({ "role": role, "address": address, "identity": identity, "reason": reason }),
        ),
        Event::SessionClosed { endpoint, role, reason } => {
            ("session-closed", json!({ "endpoint": endpoint, "role": role, "reason": reason }))
        }
        Event::BootstrapStarted { endpoint } => ("bootstrap-started", json!({ "endpoint": endpoint })),
        Event::BootstrapFinished { endpoint } => ("bootstrap-finished", json!({ "endpoint": endpoint })),
        Event::BootstrapFailed { endpoint, step, code } => {
            ("bootstrap-failed", json!({ "endpoint": endpoint, "step": step, "code": code }))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::sync::Arc;

    use axum::response::IntoResponse as _;
    use tokio::sync::{broadcast, watch};

    use super::super::Services;
    use super::*;
    use crate::Server;
    use crate::credentials::{Credentials, Settings};
    use crate::endpoint::Shared;
    use crate::models::Catalog;
    use crate::observations::Observations;
    use crate::queue::{Limits, Queue};
    use crate::store::{RedbStore, Sealer};

    #[tokio::test]
    async fn what_a_listener_is_too_slow_for_is_told_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap());
        let tokens = super::super::tokens(&*store, folder.path()).unwrap();
        let events = broadcast::channel(4).0;
        let server = Server::new([].into(), Arc::new(Shared::new()), events.clone(), broadcast::channel(1).0);
        let queue = Queue::start(server.clone(), store.clone(), Limits::default()).unwrap();
        let services = Services {
            catalog: Catalog::new(Arc::default(), store.clone(), server.clone()),
            observations: Observations::start(server.clone(), store.clone(), Default::default()).unwrap(),
            server,
            queue,
            credentials: Arc::new(Credentials::open(store, Settings::default()).unwrap()),
            tokens,
        };
        let api = Api::new(services, watch::channel(false).1);
        let listener = stream(State(api.clone()), Params(EventsQuery { endpoint: None })).await;
        for _ in 0..10 {
            events.send(Event::Updated { endpoint: "a".into() }).unwrap();
        }
        let mut told = listener.into_response().into_body().into_data_stream();
        let first = told.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: lost\ndata: {\"events\":6,"), "{first:?}");
        let metrics = super::super::metrics(State(api)).await.into_response().into_body();
        let metrics = axum::body::to_bytes(metrics, usize::MAX).await.unwrap();
        assert!(metrics.ends_with(b"lwm2m_events_lost_total 6\n"), "{metrics:?}");
    }
}
