//! Many devices with two observations each that last, and `kill -9` of the server while they are asked for and again afterwards: all
//! devices register anew at once, and what was acknowledged stands under its id, asked for once.
//!
//! `LWM2M_DEVICES` asks for another number of devices.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;
#[path = "common/sleeper.rs"]
mod sleeper;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Client, Served, serve_arguments};
use serde_json::{Value, json};
use sleeper::Sleeper;

const WORKERS: usize = 8;

fn devices() -> usize {
    std::env::var("LWM2M_DEVICES").map_or(300, |number| number.parse().unwrap())
}

fn name(device: usize) -> String {
    format!("meter-{device}")
}

fn wanted() -> [Value; 2] {
    [json!({ "path": "/3303/0/5700", "attributes": { "pmin": 1 } }), json!({ "paths": ["/1/0/1"] })]
}

fn serve(data: &Path, addresses: &HashMap<String, String>) -> Served {
    let mut arguments = serve_arguments(data);
    for (name, address) in addresses {
        let at = arguments.iter().position(|argument| *argument == format!("--{name}")).unwrap();
        arguments[at + 1].clone_from(address);
    }
    // What was asked again and again would not be told apart from what is asked again because a device slept.
    arguments.extend(["--allow-nosec", "--awake", "3600"].map(str::to_owned));
    Served::start_quietly(data, &arguments)
}

/// The devices take part until all is over, and send an Update when they are told to.
fn live(server: &str, wakes: &AtomicUsize, is_over: &AtomicBool) {
    let mut all: Vec<Sleeper> =
        (0..devices()).map(|device| Sleeper::new(&name(device), server, 3600)).collect();
    let mut woken = 0;
    while !is_over.load(Ordering::Relaxed) {
        let is_woken = core::mem::replace(&mut woken, wakes.load(Ordering::Relaxed)) != woken;
        let mut is_quiet = true;
        for device in &mut all {
            if is_woken {
                device.wake();
            }
            is_quiet &= !device.turn();
        }
        if is_quiet {
            // The sockets do not block: without a pause they would take a whole processor.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Asks for what is wanted, as far as the server lives to acknowledge it; device and id of what it did.
fn ask(client: &Client, acknowledged: &AtomicUsize) -> HashSet<(String, u64)> {
    let taken = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let taken = &taken;
            scope.spawn(move || {
                for device in (worker..devices()).step_by(WORKERS) {
                    for body in wanted() {
                        let route = format!("/devices/{}/observations?queue=always", name(device));
                        let Some((status, answer)) = client.call("POST", &route, Some(&body)) else { return };
                        assert_eq!(status, 202, "{answer}");
                        taken.lock().unwrap().insert((name(device), answer["id"].as_u64().unwrap()));
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    taken.into_inner().unwrap()
}

/// All devices come at once. Answers what stands once nothing is waited for any more.
fn come(served: &Served, wakes: &AtomicUsize, taken: &HashSet<(String, u64)>) -> HashSet<(String, u64)> {
    let lines = served.client.stream("/events", Duration::from_secs(120)).map_while(Result::ok);
    wakes.fetch_add(1, Ordering::Relaxed);
    let (mut stands, mut registered, mut event) = (HashSet::new(), HashSet::new(), String::new());
    for line in lines {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            let endpoint = || data["endpoint"].as_str().unwrap().to_owned();
            match event.as_str() {
                "registered" => assert!(registered.insert(endpoint()), "it has registered once"),
                "observation-stands" => {
                    let is_new = stands.insert((endpoint(), data["observation"].as_u64().unwrap()));
                    assert!(is_new, "{data} was asked for twice");
                }
                "observation-refused" | "observation-ended" | "lost" => unreachable!("{event} {data}"),
                _ => {}
            }
        }
        if registered.len() == devices() && taken.is_subset(&stands) {
            return stands;
        }
    }
    let missing: Vec<_> = taken.difference(&stands).take(5).collect();
    unreachable!("{} registered, {} stand, missing {missing:?}", registered.len(), stands.len());
}

#[test]
fn whatever_was_acknowledged_stands_under_its_id_after_each_kill_when_all_devices_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path(), &HashMap::new());
    let (wakes, is_over, acknowledged) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let coap = served.addresses["coap"].clone();
    std::thread::scope(|scope| {
        scope.spawn(|| live(&coap, &wakes, &is_over));
        // However it ends, the devices do.
        let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            served.client.until("the registrations", || {
                let metrics = served.call("GET", "/metrics", None)?.1;
                let count = format!("lwm2m_registered_total {}\n", devices());
                metrics.as_str().unwrap().contains(&count).then_some(())
            });
            let addresses = served.addresses.clone();
            let (client, half) = (served.client.clone(), devices());
            let taken = std::thread::scope(|scope| {
                let asking = scope.spawn(|| ask(&client, &acknowledged));
                while acknowledged.load(Ordering::Relaxed) < half && !asking.is_finished() {
                    std::thread::yield_now();
                }
                served.kill();
                asking.join().unwrap()
            });
            assert!((half..2 * devices()).contains(&taken.len()), "{} were acknowledged", taken.len());

            let served = serve(folder.path(), &addresses);
            let stood = come(&served, &wakes, &taken);
            // What was on disk when the server was killed, and not acknowledged, may be there too: at most one of each worker.
            assert!(stood.len() <= taken.len() + WORKERS, "{} of {}", stood.len(), taken.len());
            served.kill();
            let served = serve(folder.path(), &addresses);
            come(&served, &wakes, &stood);
            for device in 0..devices() {
                let route = format!("/devices/{}/observations", name(device));
                let list = served.call("GET", &route, None).unwrap().1;
                let each = list["observations"].as_array().unwrap();
                assert!(each.iter().all(|one| one["state"] == "standing"), "{list}");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        over.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
