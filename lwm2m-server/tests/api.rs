//! The server and `lwm2mctl` as an operator uses them, with a device of this project over UDP on loopback.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/leak.rs"]
mod leak;
#[path = "common/simulated.rs"]
mod simulated;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use common::Served;
use leak::{Keys, forms};
use lwm2m_client::{AlternatePath, Config};
use lwm2m_server::credentials::Role;
use lwm2m_server::store::{RedbStore, Sealer, Store as _};
use serde_json::{Value, json};
use simulated::{KEY, Simulated};

fn enrol(served: &Served, name: &str) {
    let body = json!({ "bootstrap": { "identity": format!("bs-{name}"), "key": hex::encode(KEY) } });
    let (status, answer) = served.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");
    assert!(!answer.to_string().contains(&hex::encode(KEY)), "a given key is not shown again");
}

/// Asks after each event until the answer is as wanted.
fn wait(served: &Served, route: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    served.client.until(what, || match served.call("GET", route, None) {
        Some((200, answer)) if is_so(&answer) => Some(answer),
        _ => None,
    })
}

fn is_in_use(answer: &Value, generation: u64) -> bool {
    answer.pointer("/management/state") == Some(&json!("in use"))
        && answer.pointer("/management/current") == Some(&json!(generation))
}

#[test]
fn objects_are_managed_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "one");
    let _device = Simulated::start("one", &served.addresses);
    wait(&served, "/devices/one", "the registration", |answer| {
        answer.pointer("/registered") == Some(&json!(true))
            && answer.pointer("/registration/secure") == Some(&json!(true))
    });
    let (status, list) = served.call("GET", "/devices?q=on&limit=1", None).unwrap();
    assert_eq!((status, list.pointer("/devices/0/endpoint")), (200, Some(&json!("one"))));

    let (status, read) = served.call("GET", "/devices/one/objects/3/0/0", None).unwrap();
    assert_eq!((status, read.pointer("/values/0/type")), (200, Some(&json!("string"))), "{read}");
    let (status, read) = served.call("GET", "/devices/one/objects/3303", None).unwrap();
    let paths: Vec<&str> = read
        .pointer("/values")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v["path"].as_str())
        .collect();
    assert!(status == 200 && paths.contains(&"/3303/0/5700"), "{read}");

    let kitchen = json!("kitchen");
    let (status, answer) = served.call("PUT", "/devices/one/objects/3303/0/5750", Some(&kitchen)).unwrap();
    assert_eq!(status, 204, "{answer}");
    let (_, read) = served.call("GET", "/devices/one/objects/3303/0/5750?format=text", None).unwrap();
    assert_eq!(read.pointer("/values/0/value"), Some(&kitchen), "{read}");
    let update = json!({ "resources": { "5750": "cellar" } });
    assert_eq!(served.call("PUT", "/devices/one/objects/3303/0", Some(&update)).unwrap().0, 204);
    assert_eq!(served.call("POST", "/devices/one/objects/3303/0/5605", None).unwrap().0, 200);

    let (status, found) = served.call("GET", "/devices/one/discover/3303", None).unwrap();
    assert!(status == 200 && found.to_string().contains("/3303/0/5700"), "{found}");
    let attributes = json!({ "pmin": 1, "pmax": 60 });
    assert_eq!(served.call("PUT", "/devices/one/attributes/3303/0/5700", Some(&attributes)).unwrap().0, 204);
    let (_, found) = served.call("GET", "/devices/one/discover/3303/0/5700", None).unwrap();
    assert_eq!(found.pointer("/links/0/attributes/pmin"), Some(&json!("1")), "{found}");

    for (method, route, body, status, code) in [
        ("GET", "/devices/one/objects/9999", None, 404, "4.04"),
        ("PUT", "/devices/one/objects/3/0/0", Some(json!("x")), 405, "4.05"),
        ("GET", "/devices/one/objects/0/0", None, 403, "4.01"),
    ] {
        let (found, answer) = served.call(method, route, body.as_ref()).unwrap();
        assert_eq!(
            (found, answer.pointer("/device_code")),
            (status, Some(&json!(code))),
            "{route}: {answer}"
        );
    }
    for (method, route, body, status) in [
        ("GET", "/devices/one/objects/x", None, 400),
        ("GET", "/devices/one/objects/3?formt=text", None, 400),
        ("PUT", "/devices/one/objects/3303/0/5750", Some(json!({ "vale": 1 })), 400),
        ("GET", "/devices/nobody/objects/3", None, 404),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/audit", None, 405),
    ] {
        let (found, answer) = served.call(method, route, body.as_ref()).unwrap();
        assert_eq!(found, status, "{route}: {answer}");
        assert!(answer.pointer("/detail").is_some_and(Value::is_string), "{route}: {answer}");
    }
    // Too long a body is refused by its announced length, before any of it is read.
    let mut stream = TcpStream::connect(&served.client.http).unwrap();
    let head =
        "PUT /api/v1/devices/one/objects/3303/0/5750 HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n";
    write!(stream, "{head}authorization: Bearer {}\r\n\r\n", served.client.token).unwrap();
    let status = BufReader::new(stream).lines().next().unwrap().unwrap();
    assert!(status.contains(" 413 "), "{status}");
    let (_, audit) = served.call("GET", "/audit?endpoint=one", None).unwrap();
    let rows = audit.to_string();
    assert!(
        rows.contains("token:admin") && rows.contains("\"execute\"") && !rows.contains("kitchen"),
        "{rows}"
    );
}

#[test]
fn an_instance_of_a_resource_is_managed_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "one");
    let _device = Simulated::start("one", &served.addresses);
    wait(&served, "/devices/one", "the registration", |answer| {
        answer.pointer("/registered") == Some(&json!(true))
    });
    let place = "/devices/one/objects/16/0/0/1";
    let value = || {
        let (status, read) = served.call("GET", place, None).unwrap();
        (status, read.pointer("/values/0/value").cloned())
    };
    assert_eq!(value(), (200, Some(json!("model"))));
    assert_eq!(served.call("PUT", place, Some(&json!("other"))).unwrap().0, 204);
    assert_eq!(value(), (200, Some(json!("other"))));
    let attributes = json!({ "pmin": 1 });
    assert_eq!(served.call("PUT", "/devices/one/attributes/16/0/0/1", Some(&attributes)).unwrap().0, 204);
    let (_, found) = served.call("GET", "/devices/one/discover/16/0/0", None).unwrap();
    assert_eq!(found.pointer("/links/2/target"), Some(&json!("/16/0/0/1")), "{found}");
    assert_eq!(found.pointer("/links/2/attributes/pmin"), Some(&json!("1")), "{found}");

    for lasting in [true, false] {
        let wanted = json!({ "path": "/16/0/0/1", "lasting": lasting });
        let (status, made) = served.call("POST", "/devices/one/observations", Some(&wanted)).unwrap();
        assert!((200..300).contains(&status), "{made}");
        let route = format!("/devices/one/observations?id={}", made["id"]);
        let list = wait(&served, "/devices/one/observations", "the observation", |list| {
            list.pointer("/observations/0/state") == Some(&json!("standing"))
        });
        assert_eq!(list.pointer("/observations/0/path"), Some(&json!("/16/0/0/1")), "{list}");
        assert_eq!(served.call("DELETE", &route, None).unwrap().0, 204);
        let (_, list) = served.call("GET", "/devices/one/observations", None).unwrap();
        assert_eq!(list["observations"], json!([]));
    }

    assert_eq!(served.call("DELETE", place, None).unwrap().0, 204);
    assert_eq!(value().0, 404);
    let (_, rest) = served.call("GET", "/devices/one/objects/16/0/0", None).unwrap();
    assert_eq!(rest["values"].as_array().map(Vec::len), Some(1), "{rest}");
    let (status, answer) = served.call("DELETE", place, None).unwrap();
    assert_eq!((status, answer.pointer("/device_code")), (404, Some(&json!("4.04"))), "{answer}");
}

#[test]
fn objects_below_an_alternate_path_are_managed_by_their_own_paths() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "below");
    let config = Config { alternate_path: AlternatePath::parse("/lwm2m"), ..Config::new("below") };
    let _device = Simulated::start_with(config, &served.addresses);
    wait(&served, "/devices/below", "the registration", |answer| {
        answer.pointer("/registered") == Some(&json!(true))
    });
    let call = |method: &str, route: &str, body: Option<&Value>| {
        served.call(method, &format!("/devices/below{route}"), body).unwrap()
    };
    for format in ["tlv", "senml-cbor", "senml-json"] {
        let (status, read) = call("GET", &format!("/objects/16/0?format={format}"), None);
        assert_eq!((status, read.pointer("/values/1/path")), (200, Some(&json!("/16/0/0/1"))), "{read}");
        assert_eq!(read.pointer("/values/1/value"), Some(&json!("model")), "{read}");
    }
    for path in ["/objects/16/0/0/1", "/objects/3303/0/5750"] {
        assert_eq!(call("PUT", path, Some(&json!("other"))).0, 204, "{path}");
        assert_eq!(call("GET", path, None).1.pointer("/values/0/value"), Some(&json!("other")), "{path}");
    }
    assert_eq!(call("POST", "/objects/3303/0/5605", None).0, 200);
    let (status, found) = call("GET", "/discover/3303/0/5700", None);
    assert_eq!((status, found.pointer("/links/0/target")), (200, Some(&json!("/3303/0/5700"))));
    let several = json!({ "values": { "/3/0/14": "+07:00", "/16/0/0/1": "third" } });
    assert_eq!(call("PUT", "/composite", Some(&several)).0, 204);
    let (status, read) = call("GET", "/composite?paths=/3/0/14,/16/0/0/1", None);
    let values = [read.pointer("/values/0"), read.pointer("/values/1")].map(|value| value.unwrap().clone());
    assert_eq!(status, 200);
    assert_eq!(values[0]["path"], json!("/3/0/14"), "{read}");
    assert_eq!(values[1], json!({ "path": "/16/0/0/1", "type": "string", "value": "third" }), "{read}");
    let mut events = served.client.stream("/events", Duration::from_secs(20)).map_while(Result::ok);
    let observe = json!({ "path": "/3303/0/5700", "format": "senml-cbor" });
    let (status, observed) = call("POST", "/observations", Some(&observe));
    assert!((200..300).contains(&status), "{observed}");
    let notified = "\"values\":[{\"path\":\"/3303/0/5700\"";
    assert!(events.any(|line| line.contains(notified)));
}

#[test]
fn a_forgotten_registration_is_made_anew_and_a_trace_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    // A name with everything that a URL could trip over.
    let name = "urn:imei:35/2%20ü";
    let escaped = "urn%3Aimei%3A35%2F2%2520%C3%BC";
    let route = format!("/devices/{escaped}");
    let body = json!({ "bootstrap": { "identity": format!("bs-{name}"), "key": hex::encode(KEY) } });
    let (status, answer) = served.call("PUT", &format!("{route}/credentials"), Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");
    let device = Simulated::start(name, &served.addresses);
    let is_registered = |answer: &Value| answer.pointer("/registered") == Some(&json!(true));
    let first = wait(&served, &route, "the registration", is_registered);
    assert_eq!(first.pointer("/endpoint"), Some(&json!(name)));
    assert_eq!(served.call("GET", &format!("{route}/objects/3/0/0"), None).unwrap().0, 200);

    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &format!("http://{}", served.client.http), "--token", &served.client.token])
        .args(["trace", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(ctl.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    // The trace shows what came after it was opened: ask until it does.
    let read = (0..100).find_map(|_| {
        assert_eq!(served.call("GET", &format!("{route}/objects/3/0/0"), None).unwrap().0, 200);
        // It may begin in the midst of an exchange.
        lines.recv_timeout(Duration::from_millis(100)).ok().filter(|line| line.contains("->"))
    });
    let read = read.unwrap();
    assert!(read.contains("-> management CON  0.01 GET /3/0/0"), "{read}");
    let answer = lines.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(answer.contains("<- management ACK  2.05") && answer.contains("Content-Format="), "{answer}");

    let forgotten = served.ctl(&["devices", name, "--forget"]);
    assert!(forgotten.status.success());
    // Its next Update is answered with 4.04.
    assert_eq!(served.call("DELETE", &route, None).unwrap().0, 404);
    let (_, answer) = served.call("GET", &route, None).unwrap();
    assert_eq!(answer.pointer("/registered"), Some(&json!(false)), "{answer}");
    assert_eq!(answer.pointer("/credentials/management"), Some(&json!("in use")), "{answer}");
    device.power_cycle();
    wait(&served, &route, "the new registration", is_registered);
    ctl.kill().unwrap();
    ctl.wait().unwrap();
    let (_, audit) = served.call("GET", "/audit", None).unwrap();
    assert!(audit.to_string().contains("registration forgotten"), "{audit}");

    let (status, answer) =
        served.call("POST", &format!("{route}/credentials/decommission"), Some(&json!({}))).unwrap();
    assert_eq!((status, answer.pointer("/hold")), (200, Some(&json!("decommissioned"))), "{answer}");
    assert_eq!(served.call("GET", &format!("{route}/objects/3/0/0"), None).unwrap().0, 404);
    assert_eq!(served.call("GET", "/devices/nobody/trace", None).unwrap().0, 404);
}

#[test]
fn no_key_is_in_the_trace_nor_in_the_log_of_a_bootstrap_and_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let served = Served::start_logging(&data, std::fs::File::create(&log).unwrap());
    let given: Vec<u8> = (0..16_u8).map(|index| index.wrapping_mul(37).wrapping_add(11)).collect();
    let account = |identity: &str, key: &[u8]| json!({ "identity": identity, "key": hex::encode(key) });
    let body = json!({ "bootstrap": account("bs-four", &KEY), "management": account("four-1", &given) });
    let (status, answer) = served.call("PUT", "/devices/four/credentials", Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");

    let stream = served.client.stream("/devices/four/trace", Duration::from_secs(120));
    let (sender, streamed) = std::sync::mpsc::channel();
    std::thread::spawn(move || stream.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &format!("http://{}", served.client.http), "--token", &served.client.token])
        .args(["trace", "four"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(ctl.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let device = Simulated::start("four", &served.addresses);
    let route = "/devices/four/credentials";
    wait(&served, route, "the first life", |answer| is_in_use(answer, 1));
    let is_shown = (0..100).any(|_| {
        let kitchen = json!("kitchen");
        let written = served.call("PUT", "/devices/four/objects/3303/0/5750", Some(&kitchen)).unwrap();
        assert_eq!(written.0, 204, "{}", written.1);
        lines.recv_timeout(Duration::from_millis(100)).is_ok()
    });
    assert!(is_shown);
    let rotate = json!({ "deadline": 60, "grace": 1, "reason": "test" });
    assert_eq!(served.call("POST", &format!("{route}/rotate"), Some(&rotate)).unwrap().0, 202);
    wait(&served, route, "the rotation", |answer| is_in_use(answer, 2));
    let logged = || std::fs::read(&log).unwrap();
    served.client.until("a line at the level DEBUG", || {
        logged().windows(7).any(|window| window == b" DEBUG ").then_some(())
    });
    drop(device);
    served.kill();
    ctl.wait().unwrap();
    let printed = lines.iter().collect::<Vec<_>>().join("\n");
    let streamed = streamed.iter().collect::<Vec<_>>().join("\n");
    let logged = logged();

    let lock = RedbStore::lock(&data).unwrap();
    let (sealer, _) = Sealer::find(&data, None, None, true).unwrap();
    let store = RedbStore::open(&data, lock, sealer).unwrap();
    let generated = store.secret("four", Role::Management, 2).unwrap().unwrap();
    for shown in [&printed, &streamed] {
        let steps = ["Bootstrap-Write", "Bootstrap-Finish", "Register", "coaps://", "kitchen", "/5"];
        for harmless in steps {
            assert!(shown.contains(harmless), "{harmless}: {shown}");
        }
    }
    assert!(printed.contains("/5=(withheld)"), "{printed}");
    let mut keys = Keys::default();
    for (name, key) in
        [("bootstrap", &KEY[..]), ("given", &given), ("drawn", generated.psk().unwrap().bytes())]
    {
        keys.add(name, key);
        for form in forms(key) {
            assert!(keys.found(&[b"key=", &*form, b";"].concat()).is_some());
        }
    }
    for output in [printed.as_bytes(), streamed.as_bytes(), &logged] {
        assert_eq!(keys.found(output), None);
    }
}

#[test]
fn a_device_is_given_a_raw_public_key_and_a_pre_shared_key_again_and_the_pinned_key_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "modes");
    let _device = Simulated::start("modes", &served.addresses);
    let route = "/devices/modes/credentials";
    wait(&served, route, "the first life", |answer| is_in_use(answer, 1));
    for (generation, mode, count) in [(2, "rpk", 1), (3, "rpk", 1), (4, "psk", 0)] {
        let rotate = json!({ "mode": mode, "deadline": 60, "grace": 1 });
        let (status, answer) = served.call("POST", &format!("{route}/rotate"), Some(&rotate)).unwrap();
        assert_eq!(status, 202, "{answer}");
        wait(&served, route, mode, |answer| is_in_use(answer, generation));
        let (_, keys) = served.call("GET", "/server-keys", None).unwrap();
        let counts = keys["keys"].as_array().unwrap().iter().filter(|key| key["of"] == "raw_public_key");
        let counts: Vec<(&Value, &Value)> = counts.map(|key| (&key["current"], &key["count"])).collect();
        assert_eq!(counts, [(&json!(true), &json!(count))], "{keys}");
        let (status, read) = served.call("GET", "/devices/modes/objects/3/0/0", None).unwrap();
        assert_eq!(status, 200, "{read}");
    }
}

#[test]
fn lwm2mctl_follows_an_observation() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "two");
    let _device = Simulated::start("two", &served.addresses);
    wait(&served, "/devices/two", "the registration", |answer| {
        answer.pointer("/registered") == Some(&json!(true))
    });
    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &format!("http://{}", served.client.http), "--token", &served.client.token, "--json"])
        .args(["observe", "two", "/3303/0/5700"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(ctl.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line.pointer("/values/0/path"), Some(&json!("/3303/0/5700")), "{line}");
    }
    ctl.kill().unwrap();
    ctl.wait().unwrap();
    let list = served.ctl(&["observe", "two"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("/3303/0/5700"));
}

#[test]
fn several_places_are_read_written_and_observed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "two");
    let _device = Simulated::start("two", &served.addresses);
    wait(&served, "/devices/two", "the registration", |answer| {
        answer.pointer("/registered") == Some(&json!(true))
    });
    let said = |arguments: &[&str]| {
        let output = served.ctl(arguments);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = said(&["composite", "write", "two", "/3/0/14=+07:00", "/1/0/1=250"]);
    assert_eq!((code, text.as_str()), (Some(0), "two: 2 values written\n"));
    let (code, text) = said(&["composite", "read", "two", "/3/0/14", "/1/0/1", "/3/0/99"]);
    assert!(code == Some(0) && text.contains("+07:00") && text.contains("250"), "{text}");
    assert!(!text.contains("/3/0/99"), "{text}");
    // All or nothing.
    let (code, text) = said(&["composite", "write", "two", "/3/0/14=+08:00", "/3/0/0=x"]);
    assert!(code == Some(1) && text.contains("4.05"), "{text}");
    let (_, text) = said(&["read", "two", "/3/0/14"]);
    assert!(text.contains("+07:00"), "{text}");
    let (code, text) = said(&["composite", "observe", "two", "/3/0/14", "/1/0/1", "--no-follow"]);
    assert!(code == Some(0) && text.contains("observation ") && text.contains("250"), "{text}");
    let (_, text) = said(&["observe", "two"]);
    assert!(text.contains("/3/0/14 /1/0/1"), "{text}");
    for (arguments, code) in [
        (&["composite", "write", "two", "3/0/14=1"][..], 2),
        (&["composite", "read", "two"], 2),
        (&["composite", "read", "two", "/x"], 2),
        (&["composite", "read", "nobody", "/3"], 1),
    ] {
        assert_eq!(said(arguments).0, Some(code), "{arguments:?}");
    }
    let audit = served.call("GET", "/audit?endpoint=two", None).unwrap().1.to_string();
    assert!(
        audit.contains("write-composite") && audit.contains("/3/0/14") && !audit.contains("+07:00"),
        "{audit}"
    );
    for query in ["tiemout=2", "timeout=0", "priority=x", "expires=0", "queue=later", "timeout=2&timeout=3"] {
        let (status, answer) =
            served.call("GET", &format!("/devices/two/objects/3/0/14?{query}"), None).unwrap();
        assert_eq!(status, 400, "{query}: {answer}");
    }
    let (status, answer) =
        served.call("PUT", "/devices/two/composite", Some(&json!({ "values": {} }))).unwrap();
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn a_rotation_survives_kill_9_and_a_revocation_cuts_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served, "three");
    let device = Simulated::start("three", &served.addresses);
    let route = "/devices/three/credentials";
    wait(&served, route, "the first life", |answer| is_in_use(answer, 1));
    let rotate = json!({ "deadline": 60, "grace": 1, "reason": "test" });
    let (status, answer) = served.call("POST", &format!("{route}/rotate"), Some(&rotate)).unwrap();
    assert_eq!(status, 202, "{answer}");
    let addresses = served.addresses.clone();
    served.kill();

    let served = Served::start_again(folder.path(), &addresses);
    // The session died with the server; the device finds out when it starts over.
    device.power_cycle();
    let answer = wait(&served, route, "the rotation", |answer| is_in_use(answer, 2));
    assert_eq!(answer.pointer("/management/credentials/0/standing"), Some(&json!("retired")), "{answer}");
    wait(&served, "/devices/three", "the registration under the new credential", |answer| {
        answer.pointer("/registration/generation") == Some(&json!(2))
    });

    let revoke = served.ctl(&["credentials", "revoke", "three", "--reason", "lost"]);
    assert!(revoke.status.success());
    let (status, _) = served.call("GET", "/devices/three/objects/3/0/0?timeout=2", None).unwrap();
    assert_eq!(status, 404, "the registration ended with the session");
    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &format!("http://{}", served.client.http), "--token", &served.client.token, "events"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(ctl.stdout.take().unwrap());
    // Ends with the stream.
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let refused = (0..10).find_map(|_| {
        // Again when the listener was not there yet.
        device.power_cycle();
        std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(2)).ok()).find(|line| {
            assert!(!line.starts_with("registered"), "{line}");
            line.starts_with("handshake-refused")
        })
    });
    assert!(refused.is_some_and(|line| line.contains("reason=revoked")));
    let (status, metrics) = served.call("GET", "/metrics", None).unwrap();
    let metrics = metrics.as_str().unwrap();
    assert_eq!(status, 200);
    for line in ["# TYPE lwm2m_handshakes_failed_total counter", "lwm2m_bootstraps_finished_total 1"] {
        assert!(metrics.lines().any(|each| each == line), "{line} in {metrics}");
    }
    ctl.kill().unwrap();
    ctl.wait().unwrap();
    let (_, answer) = served.call("GET", "/devices/three", None).unwrap();
    assert_eq!(answer.pointer("/registered"), Some(&json!(false)), "{answer}");
    assert_eq!(answer.pointer("/credentials/hold"), Some(&json!("revoked")), "{answer}");
    let history = served.ctl(&["credentials", "history", "three"]);
    let text = String::from_utf8_lossy(&history.stdout).into_owned();
    for step in ["staged", "delivered", "proven", "old retired", "revoked"] {
        assert!(text.contains(step), "{step}: {text}");
    }
}

#[test]
fn a_listener_that_was_cut_off_goes_on_behind_the_event_that_it_got_last() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let listen = |behind: &[&str]| {
        let url = format!("http://{}", served.client.http);
        let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"));
        ctl.args(["--url", &url, "--token", &served.client.token, "--json", "events"]).args(behind);
        let mut ctl = ctl.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, events) = std::sync::mpsc::channel();
        let stdout = BufReader::new(ctl.stdout.take().unwrap());
        std::thread::spawn(move || {
            let events = stdout
                .lines()
                .map_while(Result::ok)
                .map(|line| serde_json::from_str::<Value>(&line).unwrap());
            events.into_iter().try_for_each(|event| sender.send(event))
        });
        (ctl, events)
    };
    let (mut ctl, events) = listen(&[]);
    let first = (0..10).find_map(|number| {
        // Again when the listener was not there yet.
        enrol(&served, &format!("before-{number}"));
        events.recv_timeout(Duration::from_secs(2)).ok()
    });
    let first = first.unwrap()["id"].as_str().unwrap().to_owned();
    ctl.kill().unwrap();
    ctl.wait().unwrap();
    enrol(&served, "meanwhile");
    let (mut ctl, events) = listen(&["--behind", &first]);
    let mut ids = Vec::new();
    loop {
        let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_ne!(event["event"], "lost", "{event}");
        ids.push(event["id"].as_str().unwrap().to_owned());
        if event["data"]["endpoint"] == "meanwhile" {
            break;
        }
    }
    ctl.kill().unwrap();
    ctl.wait().unwrap();
    let numbers = ids.iter().map(|id| id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap());
    let before = first.rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
    assert!(
        numbers.zip(before..).all(|(number, before)| number == before.saturating_add(1)),
        "{first} {ids:?}"
    );
}
