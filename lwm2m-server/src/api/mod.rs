//! The HTTP interface under `/api/v1`: JSON bodies, bearer tokens, errors as RFC 9457 problem details.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /health` | answers without a token |
//! | `GET /devices?q=&cursor=&limit=` | devices, registered or enrolled |
//! | `GET`, `DELETE /devices/{ep}` | one device; forget its registration, which it then makes anew |
//! | `GET /devices/{ep}/objects/{path}?format=&timeout=` | Read |
//! | `PUT /devices/{ep}/objects/{path}?replace=&format=&timeout=` | Write |
//! | `POST /devices/{ep}/objects/{path}?timeout=` | Create on `/o`, Execute on `/o/i/r` |
//! | `DELETE /devices/{ep}/objects/{path}?timeout=` | Delete |
//! | `GET /devices/{ep}/discover/{path}?depth=&timeout=` | Discover |
//! | `PUT /devices/{ep}/attributes/{path}?timeout=` | Write-Attributes: `{"pmin": 10, "gt": null}`; `null` unsets |
//! | `GET`, `PUT`, `POST /devices/{ep}/composite` | several places read, written or observed at once, as [`composite`] tells |
//! | `GET`, `POST`, `DELETE /devices/{ep}/observations` | list; observe, as [`observations`] tells; end: `?id=&timeout=` |
//! | `GET /devices/{ep}/observations/{id}` | one with its state |
//! | `GET`, `PUT /devices/{ep}/credentials` | masked; enrol |
//! | `POST …/credentials/rotate`, `/revoke`, `/suspend`, `/resume`, `/decommission` | lifecycle acts, each with a `reason` |
//! | `GET …/credentials/history?after=&limit=` | audit rows of the device |
//! | `GET /devices/{ep}/requests` | queued requests: those that wait, and those that ended lately |
//! | `GET`, `DELETE /devices/{ep}/requests/{id}` | one with its state and outcome; cancel it |
//! | `GET /server-keys?limit=` | what devices were told to expect of the server's own key, and who was |
//! | `GET /devices/{ep}/trace` | its messages from now on, decoded, as server-sent events |
//! | `GET`, `POST /models` | object definitions; add the one that the body has, XML as the OMA registry publishes it |
//! | `GET /models/{id}?version=` | one object, the newest version if it is not said |
//! | `GET /audit?after=&limit=` | audit rows |
//! | `POST /backup` | a backup of the store, as a file for `lwm2m-server restore` |
//! | `GET /events?endpoint=` | server-sent events |
//! | `GET /metrics` | what was counted since the start, in the text format of Prometheus |
//!
//! A request to a device that sleeps is queued and answered with 202, as [`requests`] tells.
//!
//! The metrics are those of [`Counters`](crate::endpoint::Counters), and by `events_lost` the events and traced messages that a
//! listener was too slow for.
//!
//! Values are documented in [`values`], credential bodies in [`credentials`]. Secrets appear once, in the answer to the
//! `PUT` that generated them.
//!
//! Invariant: an act is acknowledged after it was stored and its sessions were closed, and it runs to its end when the
//! caller goes away.

mod backup;
pub mod composite;
pub mod credentials;
mod devices;
mod events;
mod listener;
mod material;
mod models;
pub mod observations;
mod problem;
mod request;
pub mod requests;
mod tokens;
mod trace;
pub mod values;

use core::future::Future;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Server;
use crate::credentials::{Command, Credentials, OperatorError};
use crate::models::Catalog;
use crate::observations::Observations;
use crate::queue::Queue;
use crate::store::{Store, StoreError};

pub use listener::{ListenError, listen};
use problem::Problem;
pub use tokens::Tokens;

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
    catalog: Arc<Catalog>,
    tokens: Arc<Tokens>,
    stopping: watch::Receiver<bool>,
    /// Events and traced messages that a listener was too slow for.
    lost: Arc<AtomicU64>,
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
    let served = listener::serve(listener, router(api), async move {
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

/// The routes, without a listener.
pub fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/health", get(health))
        .route("/devices", get(devices::list))
        .route("/devices/{endpoint}", get(devices::show).delete(devices::forget))
        .route(
            "/devices/{endpoint}/objects/{*path}",
            get(devices::read).put(devices::write).post(devices::create_or_execute).delete(devices::delete),
        )
        .route(
            "/devices/{endpoint}/composite",
            get(composite::read).put(composite::write).post(observations::observe),
        )
        .route("/devices/{endpoint}/discover/{*path}", get(devices::discover))
        .route("/devices/{endpoint}/attributes/{*path}", put(devices::attributes))
        .route(
            "/devices/{endpoint}/observations",
            get(observations::list).post(observations::observe).delete(observations::cancel),
        )
        .route("/devices/{endpoint}/observations/{id}", get(observations::show))
        .route("/devices/{endpoint}/credentials", get(credentials::show).put(credentials::enrol))
        .route("/devices/{endpoint}/credentials/rotate", post(credentials::rotate))
        .route("/devices/{endpoint}/credentials/revoke", post(credentials::revoke))
        .route("/devices/{endpoint}/credentials/suspend", credentials::act(Credentials::suspend))
        .route("/devices/{endpoint}/credentials/resume", credentials::act(Credentials::resume))
        .route("/devices/{endpoint}/credentials/decommission", credentials::act(Credentials::decommission))
        .route("/devices/{endpoint}/credentials/history", get(credentials::history))
        .route("/devices/{endpoint}/requests", get(requests::list))
        .route("/devices/{endpoint}/requests/{id}", get(requests::show).delete(requests::cancel))
        .route("/devices/{endpoint}/trace", get(trace::stream))
        .route("/server-keys", get(credentials::server_keys))
        .route("/models", get(models::list).post(models::add))
        .route("/models/{id}", get(models::show))
        .route("/audit", get(events::audit))
        .route("/backup", post(backup::make))
        .route("/events", get(events::stream))
        .route("/metrics", get(metrics));
    Router::new()
        .nest("/api/v1", v1)
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

/// Whose request it is, for the audit log.
#[derive(Clone, Debug)]
struct Actor(Arc<str>);

/// Nothing but `/health` answers without a token, not even whether a route exists.
async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path != "/api/v1/health" {
        let header = request.headers().get(axum::http::header::AUTHORIZATION);
        let Some(name) =
            header.and_then(|value| value.to_str().ok()).and_then(|value| api.tokens.check(value))
        else {
            return Problem::unauthorized().into_response();
        };
        request.extensions_mut().insert(Actor(format!("token:{name}").into()));
    }
    // Of a stream only its head is waited for here.
    match tokio::time::timeout(MAX_REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(504, "Timeout", "the request took longer than 600 seconds").into_response(),
    }
}

async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn metrics(State(api): State<Api>) -> impl axum::response::IntoResponse {
    let mut text = String::new();
    let lost = ("events_lost", api.lost.load(Ordering::Relaxed));
    for (name, value) in api.server.counters().await.into_iter().chain([lost]) {
        text.push_str(&format!("# TYPE lwm2m_{name}_total counter\nlwm2m_{name}_total {value}\n"));
    }
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn no_such_device(endpoint: &str) -> Problem {
    Problem::new(404, "No such device", format!("'{endpoint}' is neither registered nor enrolled"))
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(404, "No such route", format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(405, "Method not allowed", format!("{method} does not work on {}", uri.path()))
}

impl Api {
    fn new(services: Services, stopping: watch::Receiver<bool>) -> Self {
        let Services { server, credentials, queue, observations, catalog, tokens } = services;
        let (catalog, tokens) = (Arc::new(catalog), Arc::new(tokens));
        Self { server, credentials, queue, observations, catalog, tokens, stopping, lost: Arc::default() }
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

/// Makes the first administrator token when the store has none, and reads the others.
///
/// # Errors
/// When the store or the file `DIR/admin.token` cannot be written.
pub fn tokens(store: &dyn Store, data: &std::path::Path) -> Result<Tokens, StoreError> {
    Tokens::open(store, data, now_ms())
}
