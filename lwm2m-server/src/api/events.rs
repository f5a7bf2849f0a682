//! The audit log and the live stream of events.

use core::convert::Infallible;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
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
const LOST: &str = "lost";
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

/// Events from now on, as server-sent events; ends when the server stops or the token is good no more.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Params(query): Params<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    holder.is_for(query.endpoint.as_deref())?;
    let (lost, scope) = (api.clone(), holder.scope().clone());
    let device = BroadcastStream::new(api.server.events()).filter_map(move |event| match event {
        Ok(Event::Campaign { campaign, .. }) if !scope.covers(&campaign.scope) => None,
        Ok(event) => Some(emit(&event)),
        Err(lagged) => Some(lost.lagged(lagged)),
    });
    let lost = api.clone();
    let lifecycle = BroadcastStream::new(api.credentials.subscribe()).map(move |event| match event {
        Ok(event) => emit_step(&event),
        Err(lagged) => lost.lagged(lagged),
    });
    let scope = holder.scope().clone();
    let events = device.merge(lifecycle).filter(move |(name, body)| {
        match body.get("endpoint").and_then(Value::as_str) {
            Some(about) => scope.has(about) && query.endpoint.as_deref().is_none_or(|only| about == only),
            // Who is no device may be a device of others.
            None => scope.is_all() || matches!(*name, LOST | CAMPAIGN),
        }
    });
    Ok(until_over(&api, &holder, events))
}

/// Names and bodies as server-sent events, until the server stops or the token is good no more.
pub(super) fn until_over<S>(
    api: &Api,
    Holder(token): &Holder,
    events: S,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<S>>
where
    S: Stream<Item = (&'static str, Value)> + Send + 'static,
{
    let (mut stopping, ended) = (api.stopping.clone(), api.tokens.ended(Arc::clone(token)));
    let over = async move {
        tokio::select! {
            _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
            () = ended => {}
        }
    };
    let events = events.map(|(name, body)| Ok(sse::Event::default().event(name).data(body.to_string())));
    Sse::new(Until { items: Box::pin(events), over: Some(Box::pin(over)) }).keep_alive(KeepAlive::default())
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

impl Api {
    /// Counts and tells that a listener was too slow.
    pub(super) fn lagged(
        &self,
        BroadcastStreamRecvError::Lagged(lost): BroadcastStreamRecvError,
    ) -> (&'static str, Value) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        (LOST, json!({ "events": lost, "reason": "the listener was too slow" }))
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
    use std::sync::Arc;

    use axum::response::IntoResponse as _;
    use tokio::sync::{broadcast, watch};

    use super::super::Services;
    use super::*;
    use crate::Server;
    use crate::access::Tokens;
    use crate::campaigns::Campaigns;
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
        let tokens = Tokens::open(store.clone(), folder.path(), 1).unwrap();
        let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
        let holder = Holder(tokens.check(Some(&format!("Bearer {token}")), 1).unwrap());
        let events = broadcast::channel(4).0;
        let server = Server::new([].into(), Arc::new(Shared::new()), events.clone(), broadcast::channel(1).0);
        let queue = Queue::start(server.clone(), store.clone(), Limits::default()).unwrap();
        let credentials = Arc::new(Credentials::open(store.clone(), Settings::default()).unwrap());
        let campaigns = Campaigns::start(
            server.clone(),
            credentials.clone(),
            queue.clone(),
            store.clone(),
            Default::default(),
        );
        let services = Services {
            campaigns: campaigns.unwrap(),
            catalog: Catalog::new(Arc::default(), store.clone(), server.clone()),
            observations: Observations::start(server.clone(), store, Default::default()).unwrap(),
            server,
            queue,
            credentials,
            tokens,
        };
        let (_running, stopping) = watch::channel(false);
        let api = Api::new(services, stopping);
        let query = Params(EventsQuery { endpoint: None });
        let listener = stream(State(api.clone()), Extension(holder), query).await.unwrap();
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
