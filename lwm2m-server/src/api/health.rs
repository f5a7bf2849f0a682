//! Whether the server is there, and whether it can do its work: what supervisors ask, without a token.
//!
//! Invariant: whoever asks, and however often, the store and the driver are looked at once a second at most.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::Api;
use super::problem::Problem;

/// How long what was found holds.
const HOLDS: Duration = Duration::from_secs(1);
/// How long store and driver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found last, and when.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, Result<(), &'static str>)>>);

/// The server is there.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
}

impl Health {
    const fn new(status: &'static str) -> Json<Self> {
        Json(Self { status, version: env!("CARGO_PKG_VERSION") })
    }
}

/// Says that the process runs and serves HTTP.
pub(super) async fn health() -> Json<Health> {
    Health::new("ok")
}

/// Says whether it can take devices: its threads answer, its store takes changes, and it does not stop.
pub(super) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let found = if *api.stopping.borrow() { Err("the server stops") } else { api.readiness.ask(&api).await };
    found.map(|()| Health::new("ready")).map_err(|why| Problem::new(503, "Not ready", why))
}

impl Readiness {
    async fn ask(&self, api: &Api) -> Result<(), &'static str> {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < HOLDS
        {
            return found;
        }
        let found =
            tokio::time::timeout(PATIENCE, look(api)).await.unwrap_or(Err("the server is too busy to say"));
        *last = Some((Instant::now(), found));
        found
    }
}

/// The log of the server says more than an answer to anybody may.
async fn look(api: &Api) -> Result<(), &'static str> {
    if api.server.counters().await.is_empty() {
        return Err("the threads that read packets have ended");
    }
    match api.read_store(|credentials| credentials.is_writable()).await {
        Ok(()) => Ok(()),
        Err(_) => Err("the store takes no changes"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use tokio::sync::broadcast;

    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn a_server_whose_threads_have_ended_is_there_and_not_ready() {
        let (api, _, running) = testing::without_driver(&broadcast::channel(1).0);
        assert_eq!(health().await.0.status, "ok");
        let why = || async { serde_json::to_value(ready(State(api.clone())).await.err().unwrap()).unwrap() };
        assert_eq!(why().await["detail"], "the threads that read packets have ended");
        running.send_replace(true);
        assert_eq!(why().await["detail"], "the server stops");
    }
}
