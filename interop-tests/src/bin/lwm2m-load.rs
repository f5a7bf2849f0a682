//! A load generator: any number of devices in one process, and what they see of the server.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "counts of what happened since, and arrays of two"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use interop_tests::load::{Objects, Plan, name};
use interop_tests::swarm::{Course, MOST, Phase, Swarm, Tally, quantile};
use serde_json::json;

/// Registers many simulated devices, lets them send Updates and notifications, and prints rates and latencies.
///
/// The devices are called PREFIX-00000 and up. With a key each name is its PSK identity too, and all devices share that
/// key; --enrol tells the server so before. Without a key the server must accept devices without security. A server on
/// loopback (127.0.0.1) sees each device at an address of its own in 127/8, all over one socket for each thread; towards
/// another server each device is a file descriptor: raise `ulimit -n`. Devices de-register at the end, unless --stay.
///
/// Exit code 1 when a device did not register, 2 on bad arguments. Progress goes to standard error, results to standard
/// output. Latencies are those that devices see: on the server's own machine they share its processors.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The server's address, for example 127.0.0.1:5683.
    server: SocketAddr,
    /// How many devices.
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// What the endpoint names start with.
    #[arg(long, default_value = "load")]
    prefix: String,
    /// The pre-shared key of all devices, in hexadecimal: DTLS instead of plain CoAP.
    #[arg(long)]
    psk_key: Option<String>,
    /// Ramp-up: devices that start in a second; without it as fast as --at-once lets them.
    #[arg(long)]
    arrivals: Option<f64>,
    /// How long Updates and measurements are sent, in seconds; 0 only registers.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Updates in a second, whether or not the server keeps up (0 sends none); without it one follows the other as fast as
    /// --at-once lets them.
    #[arg(long)]
    updates: Option<f64>,
    /// Measurements in a second over all devices: each is a notification of /3303/0/5700 where the server observes it.
    #[arg(long, default_value_t = 0.0)]
    notifications: f64,
    /// How many devices are on their way into registration, or wait for the answer to an Update, at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// The lifetime that is registered, in seconds.
    #[arg(long, default_value_t = 86_400)]
    lifetime: u32,
    /// Threads that the devices are spread over, each with a socket.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long to wait for all registrations, in seconds.
    #[arg(long, default_value_t = 300)]
    patience: u64,
    /// Base URL of this project's HTTP API, for example <http://127.0.0.1:8080>; for --enrol and --observe.
    #[arg(long)]
    url: Option<String>,
    /// Its bearer token; else the environment's LWM2M_TOKEN.
    #[arg(long)]
    token: Option<String>,
    /// Enrol every device with the key first, over the HTTP API.
    #[arg(long, requires_all = ["url", "psk_key"])]
    enrol: bool,
    /// Observe /3303/0/5700 of every device once it is registered, over the HTTP API.
    #[arg(long, requires = "url")]
    observe: bool,
    /// End without de-registering.
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let key = match arguments.psk_key.as_deref().map(hex::decode).transpose() {
        Ok(key) => key,
        Err(error) => {
            eprintln!("lwm2m-load: --psk-key is not hexadecimal: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.devices > MOST {
        eprintln!("lwm2m-load: at most {MOST} devices have an address");
        return ExitCode::from(2);
    }
    match run(&arguments, key) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lwm2m-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all devices registered.
fn run(arguments: &Arguments, key: Option<Vec<u8>>) -> std::io::Result<bool> {
    if arguments.enrol {
        let key = arguments.psk_key.as_deref().unwrap_or_default();
        let body = |name: &str| json!({ "management": { "identity": name, "key": key } });
        for_all(arguments, "enrolling", "PUT", "credentials", &body);
    }
    let plan = Plan { server: arguments.server, key, lifetime: arguments.lifetime, objects: Objects::Sensor };
    let course = Course {
        plan,
        prefix: arguments.prefix.clone(),
        devices: arguments.devices,
        threads: arguments.threads,
        arrivals: arguments.arrivals,
        at_once: arguments.at_once,
        updates: arguments.updates,
        measurements: arguments.notifications,
    };
    let before = resident();
    let began = Instant::now();
    let swarm = Swarm::start(&course)?;
    let bar = bar("registering", arguments.devices);
    let patience = Duration::from_secs(arguments.patience);
    wait(&bar, patience, || swarm.progress().0, arguments.devices);
    swarm.enter(Phase::Rest);
    let took = began.elapsed();
    let mut tally = swarm.tally();
    let registered = tally.registrations.len();
    print("registrations", &mut tally.registrations, took);
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before).checked_div(registered).unwrap_or(0);
        println!("memory         {} MiB here, {each} bytes for each device", after >> 20);
    }
    if registered < arguments.devices {
        eprintln!("{} of {} devices did not register", arguments.devices - registered, arguments.devices);
        print_errors(&tally);
        return Ok(false);
    }
    if arguments.observe {
        // What lasts would be on disk first, each by itself.
        let body = |_: &str| json!({ "path": "/3303/0/5700", "lasting": false });
        for_all(arguments, "observing", "POST", "observations", &body);
    }
    if arguments.seconds > 0 {
        work(arguments, &swarm);
    }
    if !arguments.stay {
        swarm.enter(Phase::Leave);
        let bar = self::bar("de-registering", arguments.devices);
        wait(&bar, patience, || swarm.progress().2, arguments.devices);
        println!("de-registered  {}", swarm.progress().2);
    }
    print_errors(&swarm.tally());
    Ok(true)
}

fn work(arguments: &Arguments, swarm: &Swarm) {
    let before = swarm.tally();
    swarm.enter(Phase::Work);
    let began = Instant::now();
    let bar = bar("working, seconds", usize::try_from(arguments.seconds).unwrap_or(usize::MAX));
    let limit = Duration::from_secs(arguments.seconds);
    let seconds = || usize::try_from(began.elapsed().as_secs()).unwrap_or(usize::MAX);
    wait(&bar, limit, seconds, usize::try_from(arguments.seconds).unwrap_or(usize::MAX));
    swarm.enter(Phase::Rest);
    let took = began.elapsed();
    // What is under way comes to its end, or does not.
    let patience = Instant::now();
    while swarm.tally().unanswered > 0 && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(GLANCE);
    }
    let mut tally = swarm.tally();
    if arguments.updates != Some(0.0) {
        print("updates", &mut tally.updates, took);
        if tally.unanswered > 0 {
            println!("               {} were not answered", tally.unanswered);
        }
    }
    if arguments.notifications > 0.0 {
        let count = tally.notifications - before.notifications;
        println!("notifications  {count}, {:.0}/s", count as f64 / took.as_secs_f64());
    }
    let [sent, received] = [0, 1].map(|way| tally.datagrams[way] - before.datagrams[way]);
    let [up, down] = [0, 1].map(|way| tally.bytes[way] - before.bytes[way]);
    println!("datagrams      {sent} sent with {up} bytes, {received} received with {down} bytes");
}

/// How often the bar moves.
const GLANCE: Duration = Duration::from_millis(100);

/// Waits until `count` reaches `goal`, at most `limit`.
fn wait(bar: &ProgressBar, limit: Duration, count: impl Fn() -> usize, goal: usize) {
    let began = Instant::now();
    loop {
        let reached = count();
        bar.set_position(reached as u64);
        if reached >= goal || began.elapsed() >= limit {
            break;
        }
        std::thread::sleep(GLANCE);
    }
    bar.finish_and_clear();
}

/// A bar that shows itself on a terminal only.
fn bar(what: &'static str, length: usize) -> ProgressBar {
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {rate} {eta}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    match style {
        Ok(style) => bar.with_style(style.with_key("rate", rate)),
        Err(_) => bar,
    }
}

/// Calls the HTTP API for every device, some at once, and says what was refused.
fn for_all(
    arguments: &Arguments,
    what: &'static str,
    method: &str,
    route: &str,
    body: &(dyn Fn(&str) -> serde_json::Value + Sync),
) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let (url, token) = (arguments.url.as_deref().unwrap_or_default(), arguments.token.clone());
    let token = token.or_else(|| std::env::var("LWM2M_TOKEN").ok()).unwrap_or_default();
    let (bar, next) = (bar(what, arguments.devices), AtomicUsize::new(0));
    let refused = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    let call = |endpoint: &str| -> Result<(), String> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/devices/{endpoint}/{route}", url.trim_end_matches('/')))
            .header("authorization", format!("Bearer {}", token))
            .header("content-type", "application/json")
            .body(body(endpoint).to_string())
            .map_err(|error| error.to_string())?;
        let mut response = agent.run(request).map_err(|error| error.to_string())?;
        if response.status().is_success() {
            return Ok(());
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Err(format!("{}: {text}", response.status()))
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.devices {
                        return;
                    }
                    if let Err(reason) = call(&name(&arguments.prefix, number)) {
                        let mut refused = refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        *refused.entry(reason).or_default() += 1;
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    for (reason, count) in refused.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        eprintln!("{what}: {count} × {reason}");
    }
}

fn print(what: &str, latencies: &mut [u32], took: Duration) {
    latencies.sort_unstable();
    let [p50, p90, p99, p999, worst] = [500, 900, 990, 999, 1000].map(|part| quantile(latencies, part));
    let (count, seconds) = (latencies.len(), took.as_secs_f64());
    println!("{what:<14} {count} in {seconds:.1} s: {:.0}/s", count as f64 / seconds);
    println!(
        "               latency p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, worst {worst:.1?}"
    );
}

fn print_errors(tally: &Tally) {
    match tally.errors.is_empty() {
        true => println!("errors         none"),
        false => tally.errors.iter().for_each(|(what, count)| println!("errors         {count} × {what}")),
    }
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}
