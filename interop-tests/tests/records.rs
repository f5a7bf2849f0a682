//! Client and server are stopped and killed again and again, as processes with their data on disk and in the middle of their
//! traffic; every record between them is read, and none has a sequence number that another one under the same key had.
//!
//! `LWM2M_KILL_RUNS` asks for more rounds than 25.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use interop_tests::ours::{Server, binary};
use interop_tests::process::{Process, local};
use interop_tests::random::Random;
use interop_tests::relay::Relay;
use interop_tests::sniffer::{From, Sniffer};
use serde_json::json;

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// What was read between the two.
struct Tapped {
    sniffer: Sniffer,
    /// The last datagram of the server.
    last: Vec<u8>,
}

fn device(port: u16, data: &std::path::Path) -> Process {
    let mut command = Command::new(binary("lwm2m-client", "lwm2m-client"));
    command.args([
        "--endpoint",
        "device",
        "--server",
        &format!("coaps://{}", local(port)),
        "--lifetime",
        "300",
    ]);
    command.args(["--psk-identity", "device", "--psk-key", KEY, "--state"]).arg(data);
    Process::spawn("lwm2m-client", command)
}

/// Keeps records on their way, whatever happens to either side meanwhile; how many reads were answered.
fn keep_reading(uri: &str, token: &str, answered: &AtomicUsize, is_over: &AtomicBool) {
    let patience = Some(Duration::from_secs(5));
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(patience).build());
    while !is_over.load(Ordering::Relaxed) {
        let request = agent.get(uri).header("Authorization", format!("Bearer {token}"));
        if request.call().is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        } else {
            // The server is not there, or the device: both need the processor to come back.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn no_sequence_number_comes_twice_under_a_key_however_often_either_side_is_killed() {
    let rounds = std::env::var("LWM2M_KILL_RUNS").map_or(25, |rounds| rounds.parse().unwrap());
    let mut server = Server::start(&[]);
    let credentials = json!({ "management": { "identity": "device", "key": KEY } });
    server.must("PUT", "/devices/device/credentials", &credentials);
    let sniffer = Sniffer::new(&hex::decode(KEY).unwrap());
    let tapped = Arc::new(Mutex::new(Tapped { sniffer, last: Vec::new() }));
    let relay = Relay::start(&server.secure_uri(), {
        let tapped = Arc::clone(&tapped);
        move |from, datagram| {
            let mut tapped = tapped.lock().unwrap();
            tapped.sniffer.datagram(from, datagram);
            if from == From::Server {
                tapped.last = datagram.to_vec();
            }
        }
    });
    let port = relay.port();
    let folder = tempfile::tempdir().unwrap();
    let mut client = device(port, folder.path());
    server.until_read("device", "3/0");

    let (base, token) = server.api();
    let (uri, token) = (format!("{base}/api/v1/devices/device/objects/3/0"), token.to_owned());
    let (answered, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let traffic = thread::spawn({
        let (answered, is_over) = (Arc::clone(&answered), Arc::clone(&is_over));
        move || keep_reading(&uri, &token, &answered, &is_over)
    });

    let mut random = Random::new(5);
    let mut kinds = [0_usize; 4];
    for _ in 0..rounds {
        let kind = random.below(4);
        kinds[usize::try_from(kind).unwrap()] += 1;
        match kind {
            // The device goes on in the same session.
            0 => server.restart(true),
            // It takes its session up again.
            1 => {
                client.kill();
                client = device(port, folder.path());
            }
            2 => {
                client.kill();
                server.restart(true);
                client = device(port, folder.path());
            }
            // A device notices only late that the server knows it no more, unless it starts anew itself.
            _ => {
                server.restart(false);
                client.kill();
                client = device(port, folder.path());
            }
        }
        for _ in 0..=random.below(4) {
            server.until_read("device", "3/0");
        }
    }
    is_over.store(true, Ordering::Relaxed);
    traffic.join().unwrap();
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered > 0, "{answered} reads were answered meanwhile");
    let mut tapped = tapped.lock().unwrap();
    let Tapped { sniffer, last } = &mut *tapped;
    let [full, resumed] = sniffer.handshakes;
    println!(
        "{rounds} rounds {kinds:?}: {} records, {answered} reads, {full} full and {resumed} abbreviated handshakes",
        sniffer.records
    );
    assert_eq!(sniffer.faults, Vec::<String>::new());
    assert!(full >= 1 && sniffer.records >= 2 * rounds, "there was something to see");
    let killed = kinds.iter().skip(1).sum::<usize>();
    assert_eq!(full + resumed, 1 + killed, "only who was killed shook hands again");
    sniffer.datagram(From::Server, last);
    let fault = sniffer.faults.pop().unwrap_or_default();
    assert!(fault.contains("twice under one key"), "a repetition is noticed: {fault:?}");
}
