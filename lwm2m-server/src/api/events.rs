//! The audit log and the live stream of events.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use utoipa::{IntoParams, ToSchema};

use super::credentials::LIMIT;
use super::guard::Holder;
use super::problem::Problem;
use super::request::Params;
use super::{Api, campaigns, values};
use crate::credentials::CredentialEvent;
use crate::store::AuditRow;
use crate::{Event, Report, Reported};

/// What tells a listener that it was too slow.
pub(super) const LOST: &str = "lost";
/// What tells of a campaign; those of others are left out before.
const CAMPAIGN: &str = "campaign";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Rows behind this number; the newest without.
    after: Option<u64>,
    /// At most so many, 1 to 1000 [default: 100].
    limit: Option<usize>,
    /// Only of this device.
    endpoint: Option<String>,
}

/// A page of the audit log, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    rows: Vec<AuditRow>,
    /// What to go on with as `after`: a token with a scope may have to do so several times until the next of its rows comes.
    next: u64,
}

/// Audit rows, oldest first: those after `after`, else the newest.
pub(super) async fn audit(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    holder.is_for(query.endpoint.as_deref())?;
    let AuditQuery { after, endpoint, .. } = query;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, 1000);
    let (rows, next) = api
        .read_store(move |credentials| match (endpoint, holder.scope()) {
            (None, scope) if !scope.is_all() => credentials.audit_within(scope, after, limit),
            (endpoint, _) => {
                let rows = credentials.audit(endpoint.as_deref(), after, limit)?;
                let last = rows.last().map_or(after.unwrap_or_default(), |row| row.seq);
                Ok((rows, last))
            }
        })
        .await?;
    Ok(Json(AuditPage { rows, next }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only of this device.
    endpoint: Option<String>,
}

/// The header by which a listener names the last event that it got.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// Events from now on, or behind the one that `Last-Event-ID` names, as server-sent events; ends when the server stops or the token is
/// good no more.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    holder.is_for(query.endpoint.as_deref())?;
    // One that is no text is none that was given here.
    let behind = headers.get(LAST_EVENT_ID).map(|named| named.to_str().unwrap_or_default());
    let scope = holder.scope().clone();
    let told = ReceiverStream::new(api.journal.listen(behind, &scope)).filter(move |(_, name, body)| {
        match body.get("endpoint").and_then(Value::as_str) {
            Some(about) => scope.has(about) && query.endpoint.as_deref().is_none_or(|only| about == only),
            // Who is no device may be a device of others.
            None => scope.is_all() || matches!(*name, LOST | CAMPAIGN),
        }
    });
    let events = told.map(|(number, name, body)| {
        let event = number.map_or_else(sse::Event::default, |number| sse::Event::default().id(number));
        event.event(name).data(body.to_string())
    });
    Ok(until_over(&api, &holder, events))
}

/// Server-sent events, until the server stops or the token is good no more.
pub(super) fn until_over<S>(
    api: &Api,
    Holder(token): &Holder,
    events: S,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<S>>
where
    S: Stream<Item = sse::Event> + Send + 'static,
{
    let (mut stopping, ended) = (api.stopping.clone(), api.tokens.ended(Arc::clone(token)));
    let over = async move {
        tokio::select! {
            _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
            () = ended => {}
        }
    };
    let events = Box::pin(events.map(Ok));
    Sse::new(Until { items: events, over: Some(Box::pin(over)) }).keep_alive(KeepAlive::default())
}

/// A stream that ends when something is over.
struct Until<S> {
    items: Pin<Box<S>>,
    /// None when it was.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: Stream> Stream for Until<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let Some(over) = &mut self.over else { return Poll::Ready(None) };
        if over.as_mut().poll(context).is_ready() {
            self.over = None;
            return Poll::Ready(None);
        }
        self.items.as_mut().poll_next(context)
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

pub(super) fn emit_step(event: &CredentialEvent) -> (&'static str, Value) {
    ("credential", json!(event))
}

pub(super) fn emit(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Registered { endpoint } => ("registered", json!({ "endpoint": endpoint })),
        Event::Updated { endpoint } => ("updated", json!({ "endpoint": endpoint })),
        Event::Deregistered { endpoint } => ("deregistered", json!({ "endpoint": endpoint })),
        Event::Expired { endpoint } => ("expired", json!({ "endpoint": endpoint })),
        Event::Awake { endpoint } => ("awake", json!({ "endpoint": endpoint })),
        Event::Request { endpoint, id, state } => {
            (state.event(), json!({ "endpoint": endpoint, "id": id, "state": state }))
        }
        Event::Campaign { id, campaign } => (CAMPAIGN, json!(campaigns::ShownCampaign::new(*id, campaign))),
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
    use axum::response::IntoResponse as _;
    use tokio::sync::broadcast;

    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn what_a_listener_is_too_slow_for_is_told_and_counted() {
        let events = broadcast::channel(4).0;
        let (api, holder, _running) = testing::without_driver(&events);
        let query = Params(EventsQuery { endpoint: None });
        let listener = stream(State(api.clone()), Extension(holder), HeaderMap::new(), query).await.unwrap();
        for _ in 0..10 {
            events.send(Event::Updated { endpoint: "a".into() }).unwrap();
        }
        let mut told = listener.into_response().into_body().into_data_stream();
        let first = told.next().await.unwrap().unwrap();
        let told = b"\nevent: lost\ndata: {\"events\":6,";
        assert!(first.windows(told.len()).any(|text| text == told), "{first:?}");
        let metrics = super::super::metrics(State(api)).await.into_response().into_body();
        let metrics = axum::body::to_bytes(metrics, usize::MAX).await.unwrap();
        assert!(metrics.ends_with(b"lwm2m_events_lost_total 6\n"), "{metrics:?}");
    }
}
