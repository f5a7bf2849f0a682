//! A thousand sleeping devices with ten requests each, and `kill -9` of the server while the requests are queued and again
//! while they are delivered: what was acknowledged ends, executed once or told as unknown, and nothing is executed twice.
//!
//! `LWM2M_DEVICES` asks for another number of devices.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;
#[path = "common/sleeper.rs"]
mod sleeper;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Served, serve_arguments};
use serde_json::{Value, json};
use sleeper::Sleeper;

const REQUESTS: usize = 10;
const WORKERS: usize = 8;
/// Seconds for which a device listens after its last message.
const AWAKE: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(300);

fn devices() -> usize {
    std::env::var("LWM2M_DEVICES").map_or(1_000, |number| number.parse().unwrap())
}

fn serve(data: &Path, addresses: Option<&HashMap<String, String>>) -> Served {
    let mut arguments = serve_arguments(data);
    for (name, address) in addresses.into_iter().flatten() {
        let at = arguments.iter().position(|argument| *argument == format!("--{name}")).unwrap();
        arguments[at + 1].clone_from(address);
    }
    arguments.extend(["--allow-nosec", "--awake", &AWAKE.to_string()].map(str::to_owned));
    Served::start_with(data, &arguments)
}

/// What was asked of one device: for each request its id, if it was acknowledged.
type Asked = Mutex<BTreeMap<(usize, usize), Option<u64>>>;

/// The server, which workers use while it is there.
struct Running<'a> {
    data: &'a Path,
    served: Mutex<Option<Served>>,
    client: Mutex<Client>,
}

impl<'a> Running<'a> {
    fn start(data: &'a Path) -> Self {
        let served = serve(data, None);
        Self { data, client: Mutex::new(served.client.clone()), served: Mutex::new(Some(served)) }
    }

    fn kill_and_start_again(&self) {
        let mut served = self.served.lock().unwrap();
        let former = served.take().unwrap();
        let addresses = former.addresses.clone();
        former.kill();
        let next = serve(self.data, Some(&addresses));
        *self.client.lock().unwrap() = next.client.clone();
        *served = Some(next);
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap().clone()
    }

    /// Asks until a running server answers.
    fn get(&self, route: &str) -> Value {
        let began = Instant::now();
        loop {
            if let Some((200, answer)) = self.client().call("GET", route, None) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{route} has no answer");
            // A server that was killed takes a moment to be back.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn name(device: usize) -> String {
    format!("sleeper-{device}")
}

/// The argument by which an execution is known again.
fn mark(request: usize) -> String {
    format!("r{request}")
}

fn is_execute(request: usize) -> bool {
    request % 2 == 1
}

/// Queues what one worker has to; a request that the server did not live to acknowledge may be there or not.
fn queue(running: &Running<'_>, worker: usize, asked: &Asked, acknowledged: &AtomicUsize) {
    for device in (worker..devices()).step_by(WORKERS) {
        for request in 0..REQUESTS {
            let arguments = json!({ "arguments": format!("0='{}'", mark(request)) });
            let (method, resource, body) = match is_execute(request) {
                true => ("POST", "5605", Some(&arguments)),
                false => ("GET", "5700", None),
            };
            let route = format!("/devices/{}/objects/3303/0/{resource}?queue=always", name(device));
            let began = Instant::now();
            let id = loop {
                assert!(began.elapsed() < PATIENCE, "{route} is not taken");
                match running.client().call(method, &route, body) {
                    Some((202, answer)) => break answer["id"].as_u64(),
                    // The next run does not know the device before it has registered again.
                    Some((404, _)) => std::thread::sleep(Duration::from_millis(20)),
                    Some((status, answer)) => unreachable!("{status} {answer}"),
                    None => break None,
                }
            };
            match id {
                Some(_) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                // Killed.
                None => drop(running.get("/health")),
            }
            asked.lock().unwrap().insert((device, request), id);
        }
    }
}

/// Some of the devices: awake as long as they say, then asleep for a while, until all is over.
fn live(mut devices: Vec<Sleeper>, executed: &AtomicUsize, is_over: &AtomicBool) -> Vec<Sleeper> {
    let mut wakes = vec![None; devices.len()];
    while !is_over.load(Ordering::Relaxed) {
        let mut is_quiet = true;
        for (number, (device, wakes)) in devices.iter_mut().zip(&mut wakes).enumerate() {
            if let Some(at) = *wakes {
                if at <= Instant::now() {
                    *wakes = None;
                    device.wake();
                }
                continue;
            }
            let before = device.counter.total();
            is_quiet &= !device.turn();
            executed.fetch_add(device.counter.total() - before, Ordering::Relaxed);
            if device.is_asleep() {
                // Spread out, as devices are.
                let nap = Duration::from_millis(500 + u64::try_from(number % 16).unwrap() * 100);
                *wakes = Some(Instant::now() + nap);
            }
        }
        if is_quiet {
            // The sockets do not block: without a pause they would take a whole processor.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    devices
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn of_ten_requests_each_to_a_thousand_devices_none_is_lost_and_none_executed_twice_over_kills() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let server = running.served.lock().unwrap().as_ref().unwrap().addresses["coap"].clone();
    let (asked, acknowledged) = (Asked::default(), AtomicUsize::new(0));
    let (executed, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let total = devices() * REQUESTS;

    let sleepers: Vec<Vec<(usize, Sleeper)>> = std::thread::scope(|scope| {
        let groups: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let numbers: Vec<usize> = (worker..devices()).step_by(WORKERS).collect();
                let own = numbers.iter().map(|number| Sleeper::new(&name(*number), &server, AWAKE)).collect();
                let (executed, is_over) = (&executed, &is_over);
                scope.spawn(move || numbers.into_iter().zip(live(own, executed, is_over)).collect())
            })
            .collect();
        until("that all are registered", || {
            let answer = running.get("/devices?limit=1000");
            answer["devices"].as_array().unwrap().len() >= devices().min(1000)
        });
        for worker in 0..WORKERS {
            let (running, asked, acknowledged) = (&running, &asked, &acknowledged);
            scope.spawn(move || queue(running, worker, asked, acknowledged));
        }
        until("half of the acknowledgements", || acknowledged.load(Ordering::Relaxed) >= total / 2);
        running.kill_and_start_again();
        // A quarter of all is executed: half of the executions.
        until("half of the executions", || executed.load(Ordering::Relaxed) >= total / 4);
        running.kill_and_start_again();
        until("that all are queued", || asked.lock().unwrap().len() == total);
        for device in 0..devices() {
            let route = format!("/devices/{}/requests", name(device));
            until(&format!("the end of the requests of {device}"), || {
                let answer = running.get(&route);
                let mut requests = answer["requests"].as_array().unwrap().iter();
                requests.all(|request| !matches!(request["state"].as_str(), Some("queued" | "sent")))
            });
        }
        is_over.store(true, Ordering::Relaxed);
        groups.into_iter().map(|group| group.join().unwrap()).collect()
    });

    let asked = asked.into_inner().unwrap();
    let (mut done, mut unknown) = (0, 0);
    for (number, device) in sleepers.into_iter().flatten() {
        let answer = running.get(&format!("/devices/{}/requests", name(number)));
        let told: HashMap<u64, &Value> = answer["requests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|request| (request["id"].as_u64().unwrap(), request))
            .collect();
        for request in 0..REQUESTS {
            let executed = device.counter.executed.get(&mark(request)).copied().unwrap_or(0);
            assert!(executed <= 1, "request {request} of {number} was executed {executed} times");
            let Some(id) = asked[&(number, request)] else { continue };
            let told = told.get(&id).unwrap_or_else(|| unreachable!("request {request} of {number} is lost"));
            match (told["state"].as_str().unwrap(), is_execute(request)) {
                ("done", true) => assert_eq!(executed, 1, "request {request} of {number}: {told}"),
                ("done", false) => {
                    assert_eq!(told.pointer("/outcome/answer/values/0/value"), Some(&json!(20.5)), "{told}");
                }
                ("unknown", true) => unknown += 1,
                _ => unreachable!("request {request} of {number}: {told}"),
            }
            done += 1;
        }
    }
    let unacknowledged = asked.values().filter(|id| id.is_none()).count();
    assert!(unacknowledged <= 2 * WORKERS, "{unacknowledged}");
    assert_eq!(done + unacknowledged, total);
    // One of each device may have been on its way at the second kill.
    assert!(unknown <= 2 * devices(), "{unknown}");
    println!("{total} requests: {unknown} unknown, {unacknowledged} not acknowledged");
}
