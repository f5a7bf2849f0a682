//! Our client and our server as processes under OSCORE (RFC 8613), end to end: through a proxy that has no keys, and killed again and
//! again while every message between them is read.
//!
//! `LWM2M_KILL_RUNS` asks for more rounds than 25.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use interop_tests::ours::{Client, Server};
use interop_tests::process::local;
use interop_tests::proxy::Proxy;
use interop_tests::random::Random;
use interop_tests::relay::Relay;
use interop_tests::sniffer::From;
use lwm2m_coap::{Code, OptionNumber, Token, udp};
use oscore::OscoreOption;
use serde_json::{Value, json};

const SECRET: &str = "0102030405060708090a0b0c0d0e0f10";
const SALT: &str = "9e7ca92223786340";

/// A server that knows the device by its keys.
fn server(rederivation: &str) -> Server {
    let server = Server::start(&[]);
    server.must("PUT", "/devices/device/credentials", &json!({ "management": context(rederivation) }));
    server
}

fn context(rederivation: &str) -> Value {
    json!({
        "mode": "oscore", "master_secret": SECRET, "master_salt": SALT, "sender_id": "53", "recipient_id": "64",
        "rederivation": rederivation,
    })
}

fn device(port: u16, state: &Path, rederivation: &str) -> Client {
    start(&format!("coap://{}", local(port)), state, rederivation, &[])
}

fn start(uri: &str, state: &Path, rederivation: &str, more: &[&str]) -> Client {
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
    let arguments: Vec<&str> =
        arguments.into_iter().chain([state.as_str()]).chain(more.iter().copied()).collect();
    Client::run_with("device", uri, &arguments, &[])
}

// LwM2M Transport 1.2.1 §5.5
#[test]
fn a_device_is_managed_under_oscore_inside_dtls_over_kills_of_either_side() {
    for rederivation in ["never", "offered", "required"] {
        let mut server = Server::start(&[]);
        let account = json!({ "identity": "pair", "key": SECRET, "oscore": context(rederivation) });
        server.must("PUT", "/devices/device/credentials", &json!({ "management": account }));
        let relay = Relay::start(&server.secure_uri(), |_, _| {});
        let uri = format!("coaps://{}", local(relay.port()));
        let state = tempfile::tempdir().unwrap();
        let psk = ["--psk-identity", "pair", "--psk-key", SECRET];
        let run = || start(&uri, state.path(), rederivation, &psk);
        let mut client = run();
        server.wait_for(&["registered", "device"]);
        let shown = server.until_read("device", "3/0").to_string();
        assert!(shown.contains("Simulated device"), "{shown}");
        let package = "0123456789abcdef".repeat(400);
        server.must("PUT", "/devices/device/objects/5/0/0", &json!({ "type": "opaque", "value": package }));
        server.must("POST", "/devices/device/observations", &json!({ "path": "/3303/0/5700" }));
        for _ in 0..2 {
            server.wait_for(&["notification", "/3303/0/5700"]);
        }
        client.process.kill();
        client = run();
        server.wait_for(&["registered", "device"]);
        server.until_read("device", "3/0");
        assert_eq!(server.counted("contexts_unknown"), 0);
        for is_planned in [true, false] {
            server.restart(is_planned);
            client.process.kill();
            client = run();
            server.wait_for(&["registered", "device"]);
            server.until_read("device", "3/0");
        }
        // Without its context the same key is good for nothing.
        client.process.kill();
        let mut bare = Client::run_with("device", &uri, &[&psk[..], &["--give-up", "5"]].concat(), &[]);
        assert_eq!(bare.process.wait_for_exit(), Some(3), "{}", bare.process.log());
        assert!(bare.process.log().contains("4.01"), "{}", bare.process.log());
    }
}

// RFC 8613 §10, observations and blocks included.
#[test]
fn a_device_is_managed_through_a_proxy_that_has_no_keys() {
    let mut server = server("offered");
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let told = Arc::clone(&seen);
    let proxy = Proxy::start(&server.uri(), move |message| {
        let shown: Vec<_> = message.options.iter().map(|(number, _)| number.0).collect();
        let is_text = message.payload.windows(6).any(|text| text == b"device");
        told.lock().unwrap().insert((message.code.as_u8(), shown, is_text));
    });
    let state = tempfile::tempdir().unwrap();
    let _device = device(proxy.address().port(), state.path(), "offered");
    server.wait_for(&["registered", "device"]);
    let device = server.until_read("device", "3/0").to_string();
    assert!(device.contains("Simulated device"), "{device}");

    // A package that takes many blocks, and a list of everything that comes in some.
    let package = "0123456789abcdef".repeat(400);
    let before = proxy.passed()[0];
    server.must("PUT", "/devices/device/objects/5/0/0", &json!({ "type": "opaque", "value": package }));
    assert!(proxy.passed()[0] > before + 3, "{:?}", proxy.passed());
    server.must("POST", "/devices/device/observations", &json!({ "path": "/3303/0/5700" }));
    for _ in 0..3 {
        server.wait_for(&["notification", "/3303/0/5700"]);
    }
    let [requests, responses, notifications] = proxy.passed();
    assert!(responses <= requests && notifications >= 3, "{:?}", proxy.passed());

    for (code, shown, is_text) in &*seen.lock().unwrap() {
        let code = Code::from_u8(*code);
        assert!([Code::POST, Code::FETCH, Code::CHANGED, Code::CONTENT].contains(&code), "{code} {shown:?}");
        // Uri-Host, Observe, Uri-Port and OSCORE: no path, no format, no block.
        assert!(shown.contains(&9) && shown.iter().all(|number| [3, 6, 7, 9].contains(number)), "{shown:?}");
        assert!(!is_text, "the name of the device is nothing for the proxy");
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

/// Keeps requests, blocks and notifications on their way, whatever happens to either side meanwhile; how many reads were answered.
fn keep_asking(base: &str, token: &str, answered: &AtomicUsize, is_over: &AtomicBool) {
    let patience = Some(Duration::from_secs(5));
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(patience).build());
    let package = json!({ "type": "opaque", "value": "0123456789abcdef".repeat(100) }).to_string();
    while !is_over.load(Ordering::Relaxed) {
        let bearer = format!("Bearer {token}");
        let devices = format!("{base}/api/v1/devices/device");
        let read = agent.get(format!("{devices}/objects/3/0")).header("Authorization", &bearer).call();
        let write = agent.put(format!("{devices}/objects/5/0/0")).header("Authorization", &bearer);
        let write = write.header("Content-Type", "application/json").send(&package);
        let observe = agent.post(format!("{devices}/observations")).header("Authorization", &bearer);
        let observe = observe.header("Content-Type", "application/json").send(r#"{"path":"/3303/0/5700"}"#);
        if read.is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
            // A device may send some messages a second, and what is over that is lost.
            thread::sleep(Duration::from_millis(100));
        }
        if write.is_err() || observe.is_err() {
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
        server.until_read("device", "3/0");
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
