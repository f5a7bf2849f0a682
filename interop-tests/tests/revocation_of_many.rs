//! Devices of a busy fleet are revoked one after another over HTTP: each is refused from its next record on, and nobody else notices.
//!
//! `LWM2M_DEVICES` asks for another number of devices.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod fleet;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet::{count, devices, enrolled, settings, until};
use interop_tests::load::name;
use interop_tests::swarm::Phase;
use lwm2m_server::Event;
use lwm2m_server::access::Tokens;
use lwm2m_server::api::{self, Services, now_ms};
use lwm2m_server::campaigns::Campaigns;
use lwm2m_server::driver;
use lwm2m_server::endpoint::Addresses;
use lwm2m_server::models::{Catalog, Models};
use lwm2m_server::observations::Observations;
use lwm2m_server::queue::{Limits, Queue};
use lwm2m_server::store::{RedbStore, Sealer, Store};

const PREFIX: &str = "fleet";
const REVOKED: usize = 200;

/// What the server tells of its devices.
#[derive(Default)]
struct Told {
    heard: HashMap<Arc<str>, Instant>,
    closed: HashSet<Arc<str>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_revoked_is_refused_within_a_second_and_nobody_else_notices() {
    let devices = devices(2_000);
    let folder = tempfile::tempdir().unwrap();
    let lock = RedbStore::lock(folder.path()).unwrap();
    let sealer = Sealer::new(&[1; 32], "test").unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path(), lock, sealer).unwrap());
    let credentials = Arc::new(enrolled(Arc::clone(&store), PREFIX, devices));
    let addresses = Addresses { coaps: Some("127.0.0.1:0".parse().unwrap()), ..Addresses::default() };
    let running = driver::start(settings(addresses, true), Arc::clone(&credentials)).await.unwrap();
    let server = running.server.clone();
    let tokens = Tokens::open(Arc::clone(&store), folder.path(), now_ms()).unwrap();
    let queue = Queue::start(server.clone(), Arc::clone(&store), Limits::default()).unwrap();
    let campaigns = Campaigns::start(
        server.clone(),
        Arc::clone(&credentials),
        queue.clone(),
        Arc::clone(&store),
        Default::default(),
    );
    let services = Services {
        server: server.clone(),
        credentials,
        campaigns: campaigns.unwrap(),
        queue,
        observations: Observations::start(server.clone(), Arc::clone(&store), Default::default()).unwrap(),
        catalog: Catalog::new(Arc::new(Models::built_in()), store, server.clone()),
        tokens,
    };
    let listener = api::listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let http = listener.local_addr().unwrap();
    tokio::spawn(api::serve(listener, services, core::future::pending()));

    let told = Arc::new(Mutex::new(Told::default()));
    let (mut events, listening) = (server.events(), Arc::clone(&told));
    tokio::spawn(async move {
        loop {
            let event = events.recv().await.unwrap();
            let mut told = listening.lock().unwrap();
            match event {
                Event::Registered { endpoint } | Event::Updated { endpoint } => {
                    told.heard.insert(endpoint, Instant::now());
                }
                Event::SessionClosed { endpoint, .. } | Event::Expired { endpoint } => {
                    told.closed.insert(endpoint);
                }
                _ => {}
            }
        }
    });
    let swarm = fleet::swarm(&running.addresses, PREFIX, devices, 0.0);
    until("all devices register", || swarm.progress().0 == devices).await;
    let handshakes = count(&server, "handshakes_finished").await;
    swarm.enter(Phase::Work);
    // All of them are heard again before and after: nobody is quiet by chance.
    let all_were_heard = |since: usize| swarm.progress().1 >= since.saturating_add(devices.div_ceil(10) * 12);
    until("devices update", || all_were_heard(0)).await;

    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap().trim().to_owned();
    let victims: Vec<String> =
        (0..devices).step_by(devices.div_ceil(REVOKED).max(1)).map(|number| name(PREFIX, number)).collect();
    let asked = victims.clone();
    let revoked = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::new_with_defaults();
        let revoke = |endpoint: &String| {
            let began = Instant::now();
            let route = format!("http://{http}/api/v1/devices/{endpoint}/credentials/revoke");
            let request = agent.post(route).header("authorization", format!("Bearer {token}"));
            let answer =
                request.header("content-type", "application/json").send(r#"{"reason":"lost"}"#).unwrap();
            assert_eq!(answer.status(), 200);
            (began, began.elapsed())
        };
        asked.iter().map(revoke).collect::<Vec<_>>()
    });
    let revoked = revoked.await.unwrap();
    let done = swarm.progress().1;
    // Those that were revoked wait for an answer that does not come; the others go on.
    until("the others update", || swarm.progress().1 >= done.saturating_add(devices.div_ceil(10) * 11)).await;

    judge(devices, &victims, &revoked, &told.lock().unwrap());
    assert_eq!(server.devices().await.len(), devices - victims.len());
    assert_eq!(count(&server, "handshakes_finished").await, handshakes, "nobody had to come again");
}

/// When something was taken from who was revoked for the last time, and that nobody else was closed.
fn judge(devices: usize, victims: &[String], revoked: &[(Instant, Duration)], told: &Told) {
    let mut refused_after: Vec<Duration> = victims
        .iter()
        .zip(revoked)
        .map(|(endpoint, (began, _))| {
            told.heard.get(endpoint.as_str()).unwrap().saturating_duration_since(*began)
        })
        .collect();
    refused_after.sort_unstable();
    let mut answered: Vec<Duration> = revoked.iter().map(|(_, took)| *took).collect();
    answered.sort_unstable();
    let p99 = |sorted: &[Duration]| sorted[sorted.len().saturating_mul(99).div_ceil(100).saturating_sub(1)];
    println!(
        "{devices} sessions, {} revoked: answered within {:?} (p99), nothing taken from the device {:?} after the call (p99)",
        victims.len(),
        p99(&answered),
        p99(&refused_after)
    );
    assert!(p99(&refused_after) <= Duration::from_secs(1) && p99(&answered) <= Duration::from_secs(1));
    let victims: HashSet<&str> = victims.iter().map(String::as_str).collect();
    let closed: HashSet<&str> = told.closed.iter().map(|endpoint| &**endpoint).collect();
    assert_eq!(closed, victims);
}
