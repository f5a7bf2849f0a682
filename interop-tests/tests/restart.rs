//! A planned restart under ten thousand devices, over real sockets: nobody shakes hands again, and what was observed still
//! notifies.
//!
//! `LWM2M_DEVICES` asks for another number of devices.

#![expect(clippy::unwrap_used, reason = "test")]

mod fleet;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use fleet::{PATIENCE, count, devices, enrolled, settings, until};
use interop_tests::load::name;
use interop_tests::swarm::Phase;
use lwm2m_server::api::now_ms;
use lwm2m_server::driver::{self, LastRun, Running};
use lwm2m_server::endpoint::{Addresses, Saved};
use lwm2m_server::store::{RedbStore, Sealer, SessionFile};
use lwm2m_server::{Event, Server};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

const PREFIX: &str = "restart";

/// Observes the measurement of every device.
async fn observe(server: &Server, devices: usize) {
    let mut asked = JoinSet::new();
    for number in 0..devices {
        let server = server.clone();
        asked.spawn(async move {
            server.observe(&name(PREFIX, number), "/3303/0/5700".parse().unwrap()).await.unwrap();
        });
        if asked.len() >= 100 {
            asked.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
}

/// Waits until every device was heard to notify.
async fn all_notify(events: &mut broadcast::Receiver<Event>, devices: usize) {
    let mut heard = HashSet::new();
    let listening = async {
        while heard.len() < devices {
            if let Event::Notification { endpoint, .. } = events.recv().await.unwrap() {
                heard.insert(endpoint);
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, listening).await;
    assert_eq!(heard.len(), devices, "so many devices still notify");
}

/// Stops the server as `lwm2m-server` does.
async fn stop(running: Running, file: SessionFile) -> u64 {
    let addresses = running.addresses;
    let (keep, mut remotes) = mpsc::channel::<Vec<Saved>>(4);
    let writing = tokio::task::spawn_blocking(move || {
        file.put(now_ms(), &addresses, std::iter::from_fn(|| remotes.blocking_recv()).flatten()).unwrap()
    });
    running.server.stop(keep).await;
    drop(running.server);
    running.task.await.unwrap();
    writing.await.unwrap()
}

async fn restart(devices: usize, connection_ids: bool) {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let credentials = Arc::new(enrolled(Arc::new(store), PREFIX, devices));
    let any = Some("127.0.0.1:0".parse().unwrap());
    let addresses = Addresses { coaps: any, ..Addresses::default() };
    let running = driver::start(settings(addresses, connection_ids), Arc::clone(&credentials)).await.unwrap();
    let addresses = running.addresses;

    let swarm = fleet::swarm(&addresses, PREFIX, devices, 1000.0);
    until("all devices register", || swarm.progress().0 == devices).await;
    swarm.enter(Phase::Rest);
    observe(&running.server, devices).await;

    let folder = tempfile::tempdir().unwrap();
    let sealer = || Sealer::new(&[2; 32], "test").unwrap();
    let began = Instant::now();
    let store = Arc::new(RedbStore::in_memory(sealer()).unwrap());
    let file = || SessionFile::new(folder.path(), sealer(), store.clone());
    let saved = stop(running, file()).await;
    let stopped = began.elapsed();
    let length = folder.path().join("sessions.sealed").metadata().unwrap().len();
    let remotes = file().take(now_ms()).unwrap().unwrap();
    let last = LastRun { age: remotes.age, addresses: remotes.addresses, remotes };
    let settings = settings(addresses, connection_ids);
    let running = driver::resume(settings, credentials, || last).await.unwrap();
    println!(
        "{saved} sessions: stopped and saved in {} ms, {} bytes each, up again after {} ms",
        stopped.as_millis(),
        length.checked_div(saved).unwrap(),
        began.elapsed().as_millis()
    );
    assert_eq!(usize::try_from(saved).unwrap(), devices);

    let mut events = running.server.events();
    swarm.enter(Phase::Work);
    all_notify(&mut events, devices).await;
    until("devices update", || swarm.progress().1 > devices / 20).await;
    swarm.enter(Phase::Rest);
    for what in ["handshakes_begun", "registered", "expired"] {
        assert_eq!(count(&running.server, what).await, 0, "{what}");
    }
    assert_eq!(running.server.devices().await.len(), devices);
    let errors = swarm.tally().errors;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sessions_go_on_over_a_planned_restart() {
    restart(devices(10_000), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_without_connection_ids_go_on_too() {
    restart(devices(10_000).div_ceil(10), false).await;
}
