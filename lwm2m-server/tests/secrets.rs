//! Keys of all kinds are looked for, in every form, wherever the server writes: its folder, a backup, the log at its most talkative,
//! answers, errors, events, metrics and the audit log.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/leak.rs"]
mod leak;
#[path = "common/simulated.rs"]
mod simulated;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Served, server};
use leak::Keys;
use lwm2m_server::credentials::{PrivateKey, Role, pem};
use lwm2m_server::store::{RedbStore, Sealer, Store as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use simulated::{KEY, Simulated};

/// Bytes that nothing else has.
fn known(number: u8) -> [u8; 16] {
    core::array::from_fn(|index| (index as u8).wrapping_mul(73).wrapping_add(number.wrapping_mul(29)) ^ 0xa5)
}

/// The secret number of a key (RFC 5915 §3, in PKCS#8).
fn scalar(key: &PrivateKey) -> Vec<u8> {
    let pkcs8 = key.pkcs8();
    let at = pkcs8.windows(2).position(|head| head == [4, 32]).unwrap();
    pkcs8[at..][2..34].to_vec()
}

/// Everything in a folder but what holds a key on purpose.
fn files(data: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path));
    let kept = ["secrets.key", "admin.token", "server.key"];
    named
        .filter(|(name, _)| !kept.contains(&name.as_str()))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

#[test]
fn no_key_is_found_where_the_server_writes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let served = Served::start_logging(&data, fs::File::create(&log).unwrap());
    let mut keys = Keys::default();
    let mut outputs: Vec<(String, Vec<u8>)> = Vec::new();
    for file in ["secrets.key", "admin.token"] {
        let text = fs::read_to_string(data.join(file)).unwrap();
        keys.add(file, &hex::decode(text.trim()).unwrap());
    }
    keys.add("bootstrap", &KEY);
    let events = served.client.stream("/events", Duration::from_secs(300));
    let (sender, streamed) = std::sync::mpsc::channel();
    std::thread::spawn(move || events.map_while(Result::ok).try_for_each(|line| sender.send(line)));

    // Given in every mode.
    let (public, certified) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let in_pem = |key: &PrivateKey| pem("PRIVATE KEY", &key.pkcs8()).to_string();
    keys.add("raw public key", &scalar(&public));
    keys.add("certificate", &scalar(&certified));
    for (name, number) in [("psk", 1), ("secret", 2), ("salt", 3), ("inside", 4), ("refused", 5)] {
        keys.add(name, &known(number));
    }
    let hex_of = |number| hex::encode(known(number));
    let certificate = certified.self_signed("x509", 0).unwrap();
    let context = |secret| json!({ "master_secret": hex_of(secret), "sender_id": "00", "recipient_id": hex_of(secret)[..6] });
    let mut alone = context(2);
    alone["mode"] = json!("oscore");
    alone["master_salt"] = json!(hex_of(3));
    for (name, management) in [
        ("psk", json!({ "identity": "psk", "key": hex_of(1) })),
        (
            "rpk",
            json!({ "mode": "rpk", "public_key": hex::encode(public.public_key()), "private_key": in_pem(&public) }),
        ),
        (
            "x509",
            json!({ "mode": "x509", "certificate": hex::encode(&certificate), "private_key": in_pem(&certified) }),
        ),
        ("oscore", alone),
        ("within", json!({ "identity": "within", "key": hex_of(1), "oscore": context(4) })),
    ] {
        let body = json!({ "management": management, "bootstrap": { "identity": format!("bs-{name}"), "key": hex::encode(KEY) } });
        let (status, answer) =
            served.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap();
        assert_eq!(status, 201, "{answer}");
        outputs.push((format!("the answer about {name}"), answer.to_string().into_bytes()));
    }
    // The key of another server, as a secret variable.
    keys.add("variable", &known(6));
    let second = json!({ "short_server_id": 2, "uri": "coaps://second.example", "security": "psk", "identity": "${endpoint}",
                         "key": "${second}" });
    for (route, body, status) in [
        ("/bootstrap/profiles/two", json!({ "servers": [second] }), 201),
        ("/devices/rpk/profile", json!({ "name": "two", "secrets": { "second": hex_of(6) } }), 200),
        (
            "/devices/rpk/profile",
            json!({ "name": "two", "secrets": { "second": hex_of(6), "third": hex_of(6) } }),
            422,
        ),
        ("/devices/rpk/profile", json!({ "name": "two", "secrets": hex_of(6) }), 400),
        ("/devices/rpk/profile", json!({ "name": "two", "secrets": { "second": hex_of(6)[1..] } }), 422),
        (
            "/bootstrap/profiles/three",
            json!({ "servers": [{ "key": hex_of(6), "short_server_id": hex_of(6) }] }),
            422,
        ),
    ] {
        let answer = served.call("PUT", route, Some(&body)).unwrap();
        assert_eq!(answer.0, status, "{route}: {}", answer.1);
        outputs.push((format!("the answer about {route}"), answer.1.to_string().into_bytes()));
    }
    // Refused in many ways.
    for wrong in [
        json!({ "management": { "identity": "psk", "key": format!("{}0", hex_of(5)) } }),
        json!({ "management": { "identity": "psk", "key": hex_of(5), "unknown": hex_of(5) } }),
        json!({ "management": hex_of(5) }),
        json!({ "management": { "mode": hex_of(5) } }),
        json!({ "management": { "mode": "oscore", "master_secret": hex_of(5) } }),
        json!({ "management": { "mode": "rpk", "private_key": hex_of(5) } }),
    ] {
        let (status, answer) = served.call("PUT", "/devices/psk/credentials", Some(&wrong)).unwrap();
        assert!(status >= 400, "{answer}");
        outputs.push(("an error".to_owned(), answer.to_string().into_bytes()));
    }
    // Drawn, delivered, used and rotated.
    let device = Simulated::start("psk", &served.addresses);
    let is_in_use = |name: &str, generation: u64| {
        let (_, answer) = served.call("GET", &format!("/devices/{name}/credentials"), None)?;
        let account = &answer["management"];
        (account["state"] == "in use" && account["current"] == generation).then_some(())
    };
    served.client.until("the first life", || is_in_use("psk", 1));
    let rotate = json!({ "mode": "rpk", "deadline": 60, "grace": 1 });
    assert_eq!(served.call("POST", "/devices/psk/credentials/rotate", Some(&rotate)).unwrap().0, 202);
    served.client.until("the rotation", || is_in_use("psk", 2));
    let written = served.call("PUT", "/devices/psk/objects/3303/0/5750", Some(&json!(hex_of(5)))).unwrap();
    assert_eq!(written.0, 204, "{}", written.1);

    let all = ["psk", "rpk", "x509", "oscore", "within"];
    let of_devices = ["", "/credentials", "/credentials/history", "/requests", "/observations", "/profile"];
    let routes = all.iter().flat_map(|name| of_devices.map(|tail| format!("/devices/{name}{tail}")));
    let fleet =
        ["/devices", "/server-keys", "/models", "/audit?limit=1000", "/metrics", "/health"].map(String::from);
    let profiles =
        ["/bootstrap/profiles", "/bootstrap/profiles/two", "/bootstrap/profiles/two/preview?endpoint=rpk"];
    // The server has no certificate that the other one could be told of.
    let delivered = ["psk", "rpk", "oscore", "within"];
    let previews = delivered.map(|name| format!("/devices/{name}/bootstrap"));
    for route in routes.chain(fleet).chain(profiles.map(String::from)).chain(previews) {
        let (status, answer) = served.call("GET", &route, None).unwrap();
        assert_eq!(status, 200, "{route}: {answer}");
        outputs.push((route, answer.to_string().into_bytes()));
    }
    for name in all {
        let shown = served.ctl(&["credentials", "list", name]);
        assert!(shown.status.success());
        outputs.push((format!("lwm2mctl about {name}"), [shown.stdout, shown.stderr].concat()));
    }
    for name in delivered {
        let shown = served.ctl(&["bootstrap", "preview", name]);
        assert!(shown.status.success());
        outputs.push((format!("a preview of {name}"), [shown.stdout, shown.stderr].concat()));
    }
    let backup = folder.path().join("meters.backup");
    let words = ["backup", backup.to_str().unwrap(), "--data", data.to_str().unwrap(), "--url"];
    let url = format!("http://{}", served.client.http);
    let made = server(&words.iter().map(|word| (*word).to_owned()).chain([url]).collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    outputs.push(("what was told of the backup".to_owned(), [made.stdout, made.stderr].concat()));
    outputs.push(("the backup".to_owned(), fs::read(&backup).unwrap()));
    drop(device);
    stop(served);
    let streamed = streamed.iter().collect::<Vec<_>>().join("\n");
    assert!(streamed.contains("event: credential"), "{streamed}");
    outputs.push(("the events".to_owned(), streamed.into_bytes()));
    outputs.push(("the log".to_owned(), fs::read(&log).unwrap()));
    outputs.extend(files(&data));
    assert!(outputs.iter().any(|(name, _)| name == "sessions.sealed"), "it stopped as planned");

    let lock = RedbStore::lock(&data).unwrap();
    let (sealer, _) = Sealer::find(&data, None, None, true).unwrap();
    let store = RedbStore::open(&data, lock, sealer).unwrap();
    let drawn = store.secret("psk", Role::Management, 2).unwrap().unwrap();
    keys.add("drawn", &scalar(drawn.device().unwrap().private_key().unwrap()));
    keys.add("tickets", &*store.ticket_root().unwrap());
    let leaks: Vec<(&String, String)> =
        outputs.iter().filter_map(|(name, output)| Some((name, keys.found(output)?))).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    let value = Value::String(hex::encode(known(1)));
    assert!(keys.found(value.to_string().as_bytes()).is_some(), "it finds what is there");
}

/// Stops the server as planned.
fn stop(mut served: Served) {
    kill_process(Pid::from_child(&served.child), Signal::TERM).unwrap();
    assert!(served.child.wait().unwrap().success());
}
