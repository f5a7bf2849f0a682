//! A load generator: many devices in one process, each with a socket of its own, and what they see of the server.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use interop_tests::load::{Objects, Order, Plan, Report, fleet, name, percentile};
use tokio::sync::mpsc;

/// Registers many simulated devices, lets them send Updates, and prints rates and latencies.
///
/// The endpoint names are PREFIX-00000 and up; with a key each name is its PSK identity too, and all devices share that
/// key: enrol them first. Without a key the server must accept devices without security. Devices de-register at the end.
/// Each device is a file descriptor: raise `ulimit -n` for many.
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
    /// How long Updates are sent, in seconds; 0 only registers.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many devices have an Update or a registration under way at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// The lifetime that is registered, in seconds.
    #[arg(long, default_value_t = 86_400)]
    lifetime: u32,
    /// How long to wait for all registrations, in seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let key = match arguments.psk_key.as_deref().map(hex::decode).transpose() {
        Ok(key) => key,
        Err(error) => {
            eprintln!("--psk-key is not hexadecimal: {error}");
            return ExitCode::from(2);
        }
    };
    let plan = Arc::new(Plan {
        server: arguments.server,
        key,
        lifetime: arguments.lifetime,
        objects: Objects::Sensor,
    });
    let (reports, mut heard) = mpsc::unbounded_channel();
    let began = Instant::now();
    let patience = Duration::from_secs(arguments.patience);
    let (prefix, count, at_once) = (&arguments.prefix, arguments.devices, arguments.at_once.max(1));
    let (devices, mut latencies) = fleet(&plan, prefix, count, at_once, patience, &reports, &mut heard).await;
    print("registered", &mut latencies, began.elapsed());
    if latencies.len() < count {
        eprintln!(
            "{} of {count} devices did not register within {} s; the first is called {}",
            count.saturating_sub(latencies.len()),
            arguments.patience,
            name(prefix, 0)
        );
        return ExitCode::FAILURE;
    }

    let began = Instant::now();
    let duration = Duration::from_secs(arguments.seconds);
    let mut latencies = Vec::new();
    let mut under_way = 0_usize;
    let mut turn = devices.iter().cycle();
    while began.elapsed() < duration || under_way > 0 {
        while under_way < at_once.min(count) && began.elapsed() < duration {
            if let Some(device) = turn.next() {
                device.order(Order::Update).await;
                under_way = under_way.saturating_add(1);
            }
        }
        match heard.recv().await {
            Some((_, Report::Updated(latency))) => {
                latencies.push(latency);
                under_way = under_way.saturating_sub(1);
            }
            Some((_, Report::Failed(reason))) => eprintln!("a device lost its registration: {reason}"),
            Some(_) => {}
            None => break,
        }
    }
    if arguments.seconds > 0 {
        print("updates", &mut latencies, began.elapsed());
    }
    for device in &devices {
        device.order(Order::Stop).await;
    }
    let mut stopped = 0_usize;
    while stopped < count
        && let Ok(Some((_, report))) = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await
    {
        stopped = stopped.saturating_add(usize::from(report == Report::Stopped));
    }
    println!("de-registered {stopped}");
    ExitCode::SUCCESS
}

fn print(what: &str, latencies: &mut [Duration], took: Duration) {
    latencies.sort_unstable();
    let [p50, p90, p99, worst] = [50, 90, 99, 100].map(|percent| percentile(latencies, percent));
    let rate = latencies.len() as f64 / took.as_secs_f64();
    println!(
        "{what} {} in {:.1} s: {rate:.0}/s, latency p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, worst {worst:.1?}",
        latencies.len(),
        took.as_secs_f64()
    );
}
