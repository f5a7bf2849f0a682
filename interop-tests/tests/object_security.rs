//! Our client and our server as processes under OSCORE (RFC 8613), killed again and again while every message between them is read.
//!
//! `LWM2M_KILL_RUNS` asks for more rounds than 25.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use interop_tests::ours::{Client, Server};
use interop_tests::process::{PATIENCE, local};
use interop_tests::random::Random;
use interop_tests::relay::Relay;
use interop_tests::sniffer::From;
use lwm2m_coap::{OptionNumber, Token, udp};
use oscore::OscoreOption;
use serde_json::{Value, json};

const SECRET: &str = "0102030405060708090a0b0c0d0e0f10";
const SALT: &str = "9e7ca92223786340";

/// A server that knows the device by its keys.
fn server(rederivation: &str) -> Server {
    let server = Server::start(&[]);
    let keys = json!({
        "mode": "oscore", "master_secret": SECRET, "master_salt": SALT, "sender_id": "53", "recipient_id": "64",
        "rederivation": rederivation,
    });
    server.must("PUT", "/devices/device/credentials", &json!({ "management": keys }));
    server
}

fn device(port: u16, state: &Path, rederivation: &str) -> Client {
    let arguments = [
        "--lifetime",
        "300",
        "--oscore-secret",
        SECRET,
        "--oscore-salt",
        SALT,
        "--oscore-sender",
        "64",
        "--oscore-recipient",
        "53",
        "--oscore-rederivation",
        rederivation,
        "--state",
    ];
    let state = state.display().to_string();
    let arguments: Vec<&str> = arguments.into_iter().chain([state.as_str()]).collect();
    Client::run_with("device", &format!("coap://{}", local(port)), &arguments, &[])
}

/// Reads a value until the device answers.
fn read(server: &Server, path: &str) -> Value {
    let began = Instant::now();
    loop {
        let (status, answer) = server.ask("GET", &format!("/devices/device/objects/{path}"), &Value::Null);
        if status == 200 {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{status} {answer}\n{}", server.process.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every protected message between the two: whose it was, under which nonce, and what was sent.
#[derive(Default)]
struct Ledger {
    sent: HashMap<(bool, Nonce), Vec<u8>>,
    /// The numbers of requests by who sent them and their token.
    asked: HashMap<(bool, Token), u64>,
    requests: usize,
    faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Nonce {
    Own(u64),
    OfRequest(u64),
}

impl Ledger {
    fn read(&mut self, from: From, datagram: &[u8]) {
        let Ok((_, message)) = udp::parse(datagram) else { return };
        let Some(option) = message.options.get(OptionNumber::OSCORE) else { return };
        let option = OscoreOption::parse(option).unwrap();
        if option.kid_context.is_some() {
            self.faults.push("keys were replaced, which nobody was to do".to_owned());
        }
        let is_client = from == From::Client;
        let own = option.partial_iv.map(|partial_iv| partial_iv.sequence());
        if let (true, Some(own)) = (message.code.is_request(), own) {
            self.asked.insert((is_client, message.token), own);
        }
        let asked = self.asked.get(&(!is_client, message.token)).copied();
        let Some(nonce) = own.map(Nonce::Own).or(asked.map(Nonce::OfRequest)) else {
            return self.faults.push("an answer to nothing that was asked".to_owned());
        };
        let before = self.sent.insert((is_client, nonce), message.payload.to_vec());
        match before {
            Some(before) if before != message.payload => {
                self.faults.push(format!("another message under one nonce: {is_client} {nonce:?}"));
            }
            None if is_client && message.code.is_request() => self.requests += 1,
            _ => {}
        }
    }
}

/// Keeps requests and notifications on their way, whatever happens to either side meanwhile; how many reads were answered.
fn keep_asking(base: &str, token: &str, answered: &AtomicUsize, is_over: &AtomicBool) {
    let patience = Some(Duration::from_secs(5));
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(patience).build());
    while !is_over.load(Ordering::Relaxed) {
        let bearer = format!("Bearer {token}");
        let devices = format!("{base}/api/v1/devices/device");
        let read = agent.get(format!("{devices}/objects/3/0")).header("Authorization", &bearer).call();
        let observe = agent.post(format!("{devices}/observations")).header("Authorization", &bearer);
        let observe = observe.header("Content-Type", "application/json").send(r#"{"path":"/3303/0/5700"}"#);
        if read.is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        if observe.is_err() {
            // The server is not there, or the device: both need the processor to come back.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

// Corpus 38, 39. Without Appendix B.2 the same keys have to last over all of it.
#[test]
fn no_nonce_comes_twice_under_a_key_however_often_either_side_is_killed() {
    let rounds = std::env::var("LWM2M_KILL_RUNS").map_or(25, |rounds| rounds.parse().unwrap());
    let mut server = server("never");
    let ledger = Arc::<Mutex<Ledger>>::default();
    let relay = Relay::start(&server.uri(), {
        let ledger = Arc::clone(&ledger);
        move |from, datagram| ledger.lock().unwrap().read(from, datagram)
    });
    let folder = tempfile::tempdir().unwrap();
    let start = || device(relay.port(), folder.path(), "never");
    let mut client = start();
    server.wait_for(&["registered", "device"]);

    let (base, token) = server.api();
    let (token, answered, is_over) =
        (token.to_owned(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let traffic = thread::spawn({
        let (answered, is_over) = (Arc::clone(&answered), Arc::clone(&is_over));
        move || keep_asking(&base, &token, &answered, &is_over)
    });

    let mut random = Random::new(5);
    let mut most = 0;
    for _ in 0..rounds {
        thread::sleep(Duration::from_millis(random.below(300)));
        let kind = random.below(3);
        if kind != 0 {
            server.restart(false);
        }
        client.process.kill();
        let before = ledger.lock().unwrap().requests;
        client = start();
        server.wait_for(&["registered", "device"]);
        most = most.max(ledger.lock().unwrap().requests - before);
        read(&server, "3/0");
    }
    is_over.store(true, Ordering::Relaxed);
    traffic.join().unwrap();
    let answered = answered.load(Ordering::Relaxed);
    let mut ledger = ledger.lock().unwrap();
    let messages = ledger.sent.len();
    println!("{rounds} rounds: {messages} messages, {answered} reads, back within {most} requests");
    assert_eq!(ledger.faults, Vec::<String>::new());
    assert!(answered > 0 && messages > 4 * rounds, "there was something to see");
    assert!(most <= 3, "a registration, and two more round trips at most");

    let reused = ledger.sent.keys().find_map(|(is_client, nonce)| match nonce {
        Nonce::Own(number) if *is_client => Some(*number),
        _ => None,
    });
    let number = u8::try_from(reused.unwrap() & 0xff).unwrap();
    let wide = [reused.unwrap().to_be_bytes()[6], number];
    let partial_iv = if reused.unwrap() > 0xff { &wide[..] } else { &wide[1..] };
    let length = u8::try_from(partial_iv.len()).unwrap();
    let option = [&[0x90 | (length + 1), length][..], partial_iv].concat();
    ledger.read(From::Client, &[&[0x41, 2, 0, 1, 7][..], &option, b"\xffsomething else"].concat());
    let fault = ledger.faults.pop().unwrap_or_default();
    assert!(fault.contains("under one nonce"), "a repetition is noticed: {fault:?}");
}
