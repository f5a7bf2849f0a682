//! The HTTP interface under `/api/v1`: JSON bodies, bearer tokens, errors as RFC 9457 problem details.
//!
//! What there is, what each operation takes and answers, and which permission it asks for, is in `routes.rs`, of which the router and
//! the OpenAPI document at `/api/openapi.json` are made. Who has the permission is in [`access`](crate::access).
//!
//! A request to a device that sleeps is queued and answered with 202, as [`requests`] tells.
//!
//! The metrics are those of [`Counters`](crate::endpoint::Counters), and by `events_lost` the events and traced messages that a
//! listener was too slow for, by `wrong_tokens` the requests with a token that is none of this server.
//!
//! Values are documented in [`values`], credential bodies in [`credentials`]. Secrets appear once, in the answer to the
//! `PUT` that generated them.
//!
//! Invariant: an act is acknowledged after it was stored and its sessions were closed, and it runs to its end when the
//! caller goes away.

mod backup;
pub mod campaigns;
pub mod composite;
pub mod credentials;
mod devices;
mod events;
mod failures;
mod groups;
mod guard;
mod health;
mod journal;
mod listener;
mod material;
mod models;
pub mod observations;
mod operation;
mod problem;
mod profiles;
mod request;
pub mod requests;
mod routes;
#[cfg(test)]
mod testing;
mod tokens;
mod trace;
pub mod values;

use core::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;

use crate::Server;
use crate::access::Tokens;
use crate::campaigns::Campaigns;
use crate::credentials::{Command, Credentials, OperatorError};
use crate::models::Catalog;
use crate::observations::Observations;
use crate::queue::Queue;
use crate::store::StoreError;

use failures::Failures;
use health::Readiness;
use journal::Journal;
pub use listener::{ListenError, listen};
use problem::Problem;
pub use routes::document;

/// A traced message, decoded, as `GET /devices/{ep}/trace` tells it.
#[must_use]
pub fn decoded(packet: &crate::Packet) -> serde_json::Value {
    trace::emit(packet)
}

/// Longest request body in bytes.
const MAX_BODY: usize = 1 << 20;
/// Longest time until one request is answered, whatever its `timeout` asks.
const MAX_REQUEST: Duration = Duration::from_secs(600);
/// How long requests may still run after the stop signal.
const STOP: Duration = Duration::from_secs(5);

/// What a server consists of besides its HTTP interface.
#[derive(Debug)]
pub struct Services {
    /// The devices.
    pub server: Server,
    /// Who they are.
    pub credentials: Arc<Credentials>,
    /// What waits for them.
    pub queue: Queue,
    /// What is observed of them.
    pub observations: Observations,
    /// What is done with many of them.
    pub campaigns: Campaigns,
    /// What their objects are.
    pub catalog: Catalog,
    /// Who may ask.
    pub tokens: Tokens,
}

/// What every route works with.
#[derive(Clone, Debug)]
pub struct Api {
    server: Server,
    credentials: Arc<Credentials>,
    queue: Queue,
    observations: Observations,
    campaigns: Campaigns,
    catalog: Arc<Catalog>,
    tokens: Arc<Tokens>,
    failures: Arc<Failures>,
    stopping: watch::Receiver<bool>,
    journal: Arc<Journal>,
    readiness: Arc<Readiness>,
    /// Whose turn it is to make a backup.
    backups: Arc<Semaphore>,
}

/// Serves the interface until `stop` completes; then open event streams end and requests have a few seconds left.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (stopped, stopping) = watch::channel(false);
    let api = Api::new(services, stopping);
    let mut ended = stopped.subscribe();
    tokio::spawn(async move {
        stop.await;
        // Receivers may be gone already.
        let _ = stopped.send(true);
    });
    let mut draining = ended.clone();
    let served = listener::serve(listener, routes::router(api), async move {
        let _ = draining.wait_for(|is_stopping| *is_stopping).await;
    });
    tokio::select! {
        () = served => {}
        () = async {
            let _ = ended.wait_for(|is_stopping| *is_stopping).await;
            tokio::time::sleep(STOP).await;
        } => {}
    }
}

/// Whose request it is, for the audit log.
#[derive(Clone, Debug)]
struct Actor(Arc<str>);

/// An OpenAPI document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what describes itself")]
struct OpenApiDocument {
    openapi: String,
}

async fn metrics(State(api): State<Api>) -> impl axum::response::IntoResponse {
    let mut text = String::new();
    let wrong = ("wrong_tokens", api.failures.count());
    let lost = ("events_lost", api.journal.lost());
    for (name, value) in api.server.counters().await.into_iter().chain([wrong, lost]) {
        text.push_str(&format!("# TYPE lwm2m_{name}_total counter\nlwm2m_{name}_total {value}\n"));
    }
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn no_such_device(endpoint: &str) -> Problem {
    Problem::new(404, "No such device", format!("'{endpoint}' is neither registered nor enrolled"))
}

impl Api {
    fn new(services: Services, stopping: watch::Receiver<bool>) -> Self {
        let Services { server, credentials, queue, observations, campaigns, catalog, tokens } = services;
        let (catalog, tokens) = (Arc::new(catalog), Arc::new(tokens));
        let (failures, readiness, backups) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(1)));
        let journal = Journal::start(now_ms(), &server, &credentials);
        Self {
            server,
            credentials,
            queue,
            observations,
            campaigns,
            catalog,
            tokens,
            failures,
            stopping,
            journal,
            readiness,
            backups,
        }
    }

    /// Runs an operator's act to its end, even when the caller goes away, and closes the sessions it ends.
    async fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Credentials) -> Result<(T, Vec<Command>), OperatorError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (server, credentials) = (self.server.clone(), Arc::clone(&self.credentials));
        let whole = tokio::spawn(async move {
            let outcome = tokio::task::spawn_blocking(move || act(&credentials)).await;
            let (answer, commands) = match outcome {
                Ok(Ok(done)) => done,
                Ok(Err(error)) => return Err(Problem::from(error)),
                Err(_) => return Err(Problem::internal()),
            };
            // Before the answer is given: a revoked device is refused from its next record on.
            server.carry_out(commands).await;
            Ok(answer)
        });
        whole.await.unwrap_or_else(|_| Err(Problem::internal()))
    }

    /// What types the resources of a device have.
    async fn types(&self, endpoint: &str) -> values::Types {
        values::Types::new(self.catalog.current(), self.server.device(endpoint).await.as_ref())
    }

    /// Reads from the store without holding up the runtime.
    async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Credentials) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let credentials = Arc::clone(&self.credentials);
        match tokio::task::spawn_blocking(move || read(&credentials)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Problem::from(error)),
            Err(_) => Err(Problem::internal()),
        }
    }
}

/// Milliseconds since 1970 by the system's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
