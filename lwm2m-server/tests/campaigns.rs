//! Campaigns over many devices, as operators make them, with devices of this project over UDP on loopback.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/simulated.rs"]
mod simulated;
#[path = "common/thing.rs"]
mod thing;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Client, Served, serve_arguments};
use lwm2m_client::objects::{Arguments, At, Completion, Error, Object, ObjectDef, Value as Held, defs};
use lwm2m_server::credentials::{PrivateKey, pem};
use serde_json::{Value, json};
use simulated::{KEY, Simulated};
use thing::Thing;

fn get(client: &Client, route: &str) -> Value {
    let (status, answer) = client.call("GET", route, None).unwrap();
    assert_eq!(status, 200, "{route}: {answer}");
    answer
}

/// Makes a campaign and answers its id.
fn make(client: &Client, body: &Value) -> u64 {
    let (status, made) = client.call("POST", "/campaigns", Some(body)).unwrap();
    assert_eq!(status, 201, "{made}");
    made["id"].as_u64().unwrap()
}

fn act(client: &Client, id: u64, act: &str) -> (u16, Value) {
    client.call("POST", &format!("/campaigns/{id}/{act}"), None).unwrap()
}

/// Waits until a campaign stands so.
fn until(client: &Client, id: u64, state: &str) -> Value {
    client.until(state, || {
        let campaign = get(client, &format!("/campaigns/{id}"));
        (campaign["state"] == state).then_some(campaign)
    })
}

/// A client with a token made for it.
fn token(served: &Served, body: &Value) -> Client {
    let (status, made) = served.call("POST", "/tokens", Some(body)).unwrap();
    assert_eq!(status, 201, "{made}");
    served.client.with(made["token"].as_str().unwrap())
}

/// What a server is started with that has keys for every mode.
fn configured(data: &Path) -> Vec<String> {
    let key = PrivateKey::generate().unwrap();
    let files = ["server.key.pem", "server.pem", "server.toml"].map(|name| data.join(name));
    let [key_file, certificate_file, configuration] = &files;
    fs::write(key_file, pem("PRIVATE KEY", &key.pkcs8()).as_bytes()).unwrap();
    let certificate = key.self_signed("server", 0).unwrap();
    fs::write(certificate_file, pem("CERTIFICATE", &certificate).as_bytes()).unwrap();
    let text = format!("[[server_keys]]\nprivate_key = {key_file:?}\ncertificate = {certificate_file:?}\n");
    fs::write(configuration, text).unwrap();
    vec!["--config".to_owned(), configuration.display().to_string()]
}

fn enrol(client: &Client, name: &str) {
    let body = json!({ "bootstrap": { "identity": format!("bs-{name}"), "key": hex::encode(KEY) } });
    assert_eq!(client.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap().0, 201);
}

/// The credential that counts, once it is in use.
fn in_use(client: &Client, name: &str) -> Value {
    client.until("the credential is in use", || {
        let account = get(client, &format!("/devices/{name}/credentials"))["management"].clone();
        let current = account["current"].clone();
        let all = account["credentials"].as_array().unwrap().clone();
        let found = all.into_iter().find(|credential| credential["generation"] == current);
        found.filter(|_| account["state"] == "in use")
    })
}

#[test]
fn a_fleet_is_moved_from_mode_to_mode_and_a_kill_in_the_middle_loses_nobody() {
    const NAMES: [&str; 3] = ["dev-1", "dev-2", "dev-3"];
    let folder = tempfile::tempdir().unwrap();
    let more = configured(folder.path());
    let mut served =
        Served::start_with(folder.path(), &[serve_arguments(folder.path()), more.clone()].concat());
    NAMES.iter().for_each(|name| enrol(&served.client, name));
    let devices = NAMES.map(|name| Simulated::start(name, &served.addresses));
    NAMES.iter().for_each(|name| assert_eq!(in_use(&served.client, name)["generation"], 1));
    let group = json!({ "patterns": ["dev-*"] });
    assert_eq!(served.call("PUT", "/groups/all", Some(&group)).unwrap().0, 201);

    for (mode, generation) in [("psk", 2), ("rpk", 3), ("x509", 4), ("oscore", 5)] {
        let body = json!({
            "name": mode,
            "action": { "rotate": { "mode": mode, "grace": 1 } },
            "devices": { "group": "all" },
            "deadline": 120,
        });
        let (status, told) = served.call("POST", "/campaigns?dry_run=true", Some(&body)).unwrap();
        assert_eq!((status, &told["devices"], &told["approval"]), (200, &json!(3), &json!(false)), "{told}");
        let id = make(&served.client, &body);
        if mode == "rpk" {
            served.client.until("one is under way", || {
                let counts = get(&served.client, &format!("/campaigns/{id}"))["counts"].clone();
                (counts["started"].as_u64() > Some(0)).then_some(())
            });
            let addresses = served.addresses.clone();
            served.kill();
            let mut arguments =
                vec!["serve".to_owned(), "--data".to_owned(), folder.path().display().to_string()];
            for (name, address) in addresses {
                arguments.extend([format!("--{name}"), address]);
            }
            served = Served::start_with(folder.path(), &[arguments, more.clone()].concat());
            // After a kill the server knows no device, and a device does not know of the kill.
            devices.iter().for_each(Simulated::power_cycle);
        }
        let campaign = until(&served.client, id, "finished");
        assert_eq!(campaign["counts"]["succeeded"], 3, "{campaign}");
        for name in NAMES {
            let current = in_use(&served.client, name);
            assert_eq!(
                (&current["mode"], &current["generation"]),
                (&json!(mode), &json!(generation)),
                "{name}"
            );
        }
    }
    // Each step of the lifecycle names the campaign.
    let rows = get(&served.client, "/devices/dev-1/credentials/history")["rows"].to_string();
    assert!(rows.contains("campaign 2 'rpk', round 1") && rows.contains("campaign:2/1"), "{rows}");
    let listed = get(&served.client, "/campaigns?limit=2");
    let names: Vec<&Value> =
        listed["campaigns"].as_array().unwrap().iter().map(|each| &each["name"]).collect();
    assert_eq!((names, &listed["next"]), (vec![&json!("oscore"), &json!("x509")], &json!(3)));
}

/// What was executed, by device.
type Executed = Arc<Mutex<HashMap<String, u32>>>;

/// A temperature whose reset is counted.
struct Counter(String, Executed);

impl Object for Counter {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 5605 | 5700)
    }

    fn read(&self, at: At) -> Option<Held<'_>> {
        (at.resource == 5700).then_some(Held::Float(20.5))
    }

    fn execute(&mut self, _: u16, _: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        let mut executed = self.1.lock().unwrap();
        let count = executed.entry(self.0.clone()).or_default();
        *count = count.saturating_add(1);
        Ok(Completion::Done)
    }
}

fn things(served: &Served, names: &[String], executed: &Executed) -> Vec<Thing> {
    let start = |name: &String| {
        let counter = Counter(name.clone(), Arc::clone(executed));
        Thing::start(name, &served.addresses["coap"], counter, |_| None)
    };
    let things = names.iter().map(start).collect();
    served.client.until("the registrations", || {
        let devices = get(&served.client, "/devices")["devices"].as_array().unwrap().len();
        (devices == names.len()).then_some(())
    });
    things
}

fn open_server(data: &Path) -> Served {
    let arguments = [serve_arguments(data), vec!["--allow-nosec".to_owned()]].concat();
    Served::start_with(data, &arguments)
}

#[test]
fn what_is_executed_needs_somebody_else_and_is_executed_once_at_each_device_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = open_server(folder.path());
    let names: Vec<String> = (0..12).map(|number| format!("meter-{number}")).collect();
    let executed = Executed::default();
    let things = things(&served, &names, &executed);
    let other = token(&served, &json!({ "name": "other", "role": "operator" }));
    let officer = token(&served, &json!({ "name": "keys", "role": "security-officer" }));
    let body = json!({
        "name": "reset",
        "action": { "execute": { "path": "/3303/0/5605" } },
        "devices": { "patterns": ["meter-*"] },
        "steps": [1, 4],
        "rate": 240,
    });
    let (status, problem) = officer.call("POST", "/campaigns", Some(&body)).unwrap();
    assert_eq!((status, &problem["permission"]), (403, &json!("operate")));
    let id = make(&served.client, &body);
    assert_eq!(get(&other, &format!("/campaigns/{id}"))["state"], "unapproved");
    assert_eq!(act(&served.client, id, "approve").0, 409, "who made it does not approve of it");
    assert_eq!(act(&officer, id, "approve").0, 403);
    assert!(executed.lock().unwrap().is_empty());
    let (status, approved) = act(&other, id, "approve");
    assert_eq!((status, &approved["approved_by"]), (200, &json!("token:other")), "{approved}");

    served.client.until("some are done", || {
        let counts = get(&served.client, &format!("/campaigns/{id}"))["counts"].clone();
        (counts["succeeded"].as_u64() > Some(3)).then_some(())
    });
    let addresses = served.addresses.clone();
    served.kill();
    let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), folder.path().display().to_string()];
    for (name, address) in addresses {
        arguments.extend([format!("--{name}"), address]);
    }
    arguments.push("--allow-nosec".to_owned());
    served = Served::start_with(folder.path(), &arguments);
    things.iter().for_each(Thing::update);
    let mut campaign = served.client.until("the end", || {
        let campaign = get(&served.client, &format!("/campaigns/{id}"));
        matches!(campaign["state"].as_str(), Some("finished" | "paused")).then_some(campaign)
    });
    // Who may have executed it when the server was killed, and was not heard of, counts as failed.
    if campaign["state"] == "paused" {
        assert_eq!(act(&served.client, id, "resume").0, 200);
        campaign = until(&served.client, id, "finished");
    }
    let devices = get(&served.client, &format!("/campaigns/{id}/devices"));
    let executed = executed.lock().unwrap();
    for device in devices["devices"].as_array().unwrap() {
        let count = executed.get(device["endpoint"].as_str().unwrap()).copied().unwrap_or_default();
        let last = device["outcomes"][0].clone();
        match device["state"].as_str().unwrap() {
            "succeeded" => assert_eq!(count, 1, "{device}"),
            "failed" => {
                assert!(count <= 1 && last["reason"].as_str().unwrap().starts_with("unknown"), "{device}");
            }
            _ => unreachable!("{device}"),
        }
    }
    let counts = &campaign["counts"];
    assert_eq!(counts["succeeded"].as_u64().unwrap() + counts["failed"].as_u64().unwrap(), 12, "{campaign}");
    let rows = get(&served.client, "/audit?limit=1000")["rows"].to_string();
    for part in ["campaign made", "campaign approved", "campaign step", "campaign finished", "campaign:1/1"] {
        assert!(rows.contains(part), "{part}");
    }
}

#[test]
fn a_campaign_that_meets_its_threshold_stops_and_nobody_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let served = open_server(folder.path());
    let names: Vec<String> = (0..5).map(|number| format!("meter-{number}")).collect();
    let executed = Executed::default();
    let _things = things(&served, &names, &executed);
    // Nobody lets it be written.
    let body = json!({
        "name": "mistake",
        "action": { "write": { "path": "/3303/0/5700", "value": 1.5 } },
        "devices": { "names": ["meter-3", "meter-1", "meter-0", "nobody"] },
        "approval": false,
    });
    let (_, told) = served.call("POST", "/campaigns?dry_run=true", Some(&body)).unwrap();
    let skipped = json!([{ "endpoint": "nobody", "reason": "it is neither registered nor enrolled" }]);
    assert_eq!((&told["devices"], &told["skipped_devices"]), (&json!(3), &skipped), "{told}");
    assert_eq!(get(&served.client, "/campaigns")["campaigns"], json!([]), "nothing was made");
    let id = make(&served.client, &body);
    let campaign = until(&served.client, id, "paused");
    assert_eq!(campaign["reason"], "1 of the 1 devices of the first step failed");
    let devices = get(&served.client, &format!("/campaigns/{id}/devices"));
    let states: Vec<(&str, &str)> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| (device["endpoint"].as_str().unwrap(), device["state"].as_str().unwrap()))
        .collect();
    let expected =
        [("meter-3", "failed"), ("meter-1", "waiting"), ("meter-0", "waiting"), ("nobody", "skipped")];
    assert_eq!(states, expected);
    let failed = get(&served.client, &format!("/campaigns/{id}/devices?state=failed"));
    let reason = failed["devices"][0]["outcomes"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("4.05"), "{reason}");
    let (status, cancelled) = act(&served.client, id, "cancel");
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    for what in ["pause", "resume", "approve", "cancel", "retry"] {
        assert_eq!(act(&served.client, id, what).0, 409, "{what}");
    }
    assert_eq!(act(&served.client, 9, "pause").0, 404);

    // From a shell.
    let make = ["campaigns", "make", "reset", "--execute", "/3303/0/5605", "--pattern", "meter-*"];
    let output = served.ctl(&[&make[..], &["--approval", "false", "--steps", "1,50%"]].concat());
    assert!(output.status.success(), "{output:?}");
    let output = served.ctl(&["campaigns", "watch", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("5 succeeded, 0 under way, 0 waiting"), "{text}");
    let output = served.ctl(&["campaigns", "devices", "2", "--state", "succeeded"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 6);
    let output = served.ctl(&["campaigns", "list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mistake") && text.contains("execute /3303/0/5605"), "{text}");
    assert!(executed.lock().unwrap().values().all(|count| *count == 1));
}

#[test]
fn a_token_with_a_scope_makes_and_sees_campaigns_of_its_own_devices_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for name in ["meter-1", "meter-2", "pump-1"] {
        enrol(&served.client, name);
    }
    let meters = token(&served, &json!({ "name": "meters", "role": "operator", "scope": ["meter-*"] }));
    let body = |devices: Value| json!({ "name": "test", "action": { "execute": { "path": "/3/0/4" } }, "devices": devices });
    let all = make(&served.client, &body(json!({ "patterns": ["*"] })));
    let of_meters = make(&served.client, &body(json!({ "names": ["meter-2", "meter-1"] })));
    let own = make(&meters, &body(json!({ "patterns": ["*"] })));
    assert_eq!(get(&meters, &format!("/campaigns/{own}"))["counts"]["waiting"], 2);
    let ids = |client: &Client| {
        let listed = get(client, "/campaigns");
        listed["campaigns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(&served.client), ids(&meters)), (vec![own, of_meters, all], vec![own, of_meters]));
    for (method, tail) in [("GET", ""), ("GET", "/devices"), ("POST", "/cancel"), ("POST", "/approve")] {
        let (status, _) = meters.call(method, &format!("/campaigns/{all}{tail}"), None).unwrap();
        assert_eq!(status, 404, "{method} {tail}");
    }
    let (_, told) = meters
        .call("POST", "/campaigns?dry_run=true", Some(&body(json!({ "names": ["pump-1", "pump-9"] }))))
        .unwrap();
    let reasons: Vec<&Value> =
        told["skipped_devices"].as_array().unwrap().iter().map(|device| &device["reason"]).collect();
    assert_eq!((&told["devices"], reasons[0] == reasons[1]), (&json!(0), true), "{told}");

    let put = |client: &Client, name: &str, devices: Value| {
        client.call("PUT", &format!("/groups/{name}"), Some(&devices)).unwrap().0
    };
    assert_eq!(put(&served.client, "pumps", json!({ "names": ["pump-1"] })), 201);
    assert_eq!(put(&meters, "mine", json!({ "patterns": ["meter-1*"] })), 201);
    assert_eq!(put(&meters, "mine", json!({ "patterns": ["pump-*"] })), 400);
    assert_eq!(put(&meters, "pumps", json!({ "names": ["meter-1"] })), 409);
    assert_eq!(put(&meters, "mine", json!({ "names": ["meter-1"] })), 200);
    let listed = get(&meters, "/groups");
    assert_eq!(listed["groups"], json!([{ "name": "mine", "devices": { "names": ["meter-1"] } }]));
    assert_eq!(meters.call("GET", "/groups/pumps", None).unwrap().0, 404);
    assert_eq!(meters.call("POST", "/campaigns", Some(&body(json!({ "group": "pumps" })))).unwrap().0, 404);
    assert_eq!(meters.call("DELETE", "/groups/mine", None).unwrap().0, 204);
    let viewer = token(&served, &json!({ "name": "viewer", "role": "viewer" }));
    assert_eq!(ids(&viewer).len(), 3);
    assert_eq!(act(&viewer, all, "cancel").0, 403);
}

#[test]
fn a_campaign_that_ran_when_a_backup_was_made_is_paused_by_its_restore_and_what_it_asked_is_not_asked_again()
{
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    enrol(&served.client, "meter-1");
    enrol(&served.client, "meter-2");
    let body = json!({
        "name": "reset",
        "action": { "execute": { "path": "/3303/0/5605", "arguments": "0='a-secret'" } },
        "devices": { "names": ["meter-1", "meter-2"] },
        "approval": false,
    });
    let id = make(&served.client, &body);
    served.client.until("it is asked", || {
        let asked = get(&served.client, "/devices/meter-1/requests");
        asked["requests"][0]["id"].as_u64()
    });
    let answer = served.client.send("POST", "/api/v1/backup", None).unwrap();
    let backup = folder.path().join("copy.backup");
    fs::write(&backup, answer.into_body().into_with_config().limit(u64::MAX).read_to_vec().unwrap()).unwrap();
    let key = folder.path().join("secrets.key");
    let store = fs::read(folder.path().join("store.redb")).unwrap();
    assert!(!store.windows(8).any(|bytes| bytes == b"a-secret"), "arguments are sealed");
    drop(served);

    let data = folder.path().join("restored");
    let [backup, at, key_file] = [&backup, &data, &key].map(|path| path.display().to_string());
    let arguments = ["restore", &backup, "--data", &at, "--secrets-key", &key_file].map(str::to_owned);
    let restored = common::server(&arguments);
    let text = String::from_utf8(restored.stdout).unwrap();
    assert!(text.contains("campaigns that ran, and are paused: 1"), "{text}");
    fs::copy(folder.path().join("admin.token"), data.join("admin.token")).unwrap();
    let more = vec!["--secrets-key".to_owned(), key_file];
    let served = Served::start_with(&data, &[serve_arguments(&data), more].concat());
    let campaign = get(&served.client, &format!("/campaigns/{id}"));
    assert_eq!(
        (&campaign["state"], &campaign["counts"]["failed"]),
        (&json!("paused"), &json!(1)),
        "{campaign}"
    );
    assert!(campaign["reason"].as_str().unwrap().starts_with("restored from a backup"), "{campaign}");
    let (_, devices) = served.call("GET", &format!("/campaigns/{id}/devices?state=failed"), None).unwrap();
    assert_eq!(devices["devices"][0]["outcomes"][0]["reason"], "unknown: restored from a backup");
    assert_eq!(act(&served.client, id, "resume").1["state"], "running");
}
