//! Requests to devices in queue mode, as an operator asks them, with devices of this project over UDP on loopback
//! (LwM2M Core 1.2.1 §6.5).

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;
#[path = "common/sleeper.rs"]
mod sleeper;

use common::{Served, serve_arguments};
use redb::ReadableTable as _;
use serde_json::{Value, json};
use sleeper::Sleeper;

/// A server whose devices in queue mode listen for a second after they were heard.
fn serve(data: &std::path::Path) -> Served {
    let mut arguments = serve_arguments(data);
    arguments.extend(["--allow-nosec", "--awake", "1"].map(str::to_owned));
    Served::start_with(data, &arguments)
}

fn serve_again(data: &std::path::Path, served: Served) -> Served {
    let addresses = served.addresses.clone();
    served.kill();
    serve_at(data, addresses)
}

fn serve_at(data: &std::path::Path, addresses: std::collections::HashMap<String, String>) -> Served {
    let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), data.display().to_string()];
    for (name, address) in addresses {
        arguments.extend([format!("--{name}"), address]);
    }
    arguments.extend(["--allow-nosec", "--awake", "1"].map(str::to_owned));
    Served::start_with(data, &arguments)
}

/// A device that has registered and sleeps by now, as the server knows.
fn asleep(served: &Served, name: &str) -> Sleeper {
    let mut device = Sleeper::new(name, &served.addresses["coap"], 1);
    device.until("the registration", Sleeper::is_registered);
    device.until("sleep", |_| {
        get(served, &format!("/devices/{name}")).pointer("/registration/awake") == Some(&json!(false))
    });
    device
}

fn get(served: &Served, route: &str) -> Value {
    served.call("GET", route, None).unwrap().1
}

/// Queues a request and answers its id.
fn queued(served: &Served, method: &str, route: &str, body: Option<&Value>) -> u64 {
    let (status, answer) = served.call(method, route, body).unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_u64().unwrap()
}

/// Takes the device part until a request has ended, and answers it.
fn ended(served: &Served, device: &mut Sleeper, name: &str, id: u64) -> Value {
    let route = format!("/devices/{name}/requests/{id}");
    let mut found = Value::Null;
    device.until("the outcome", |_| {
        found = get(served, &route);
        !matches!(found["state"].as_str(), Some("queued" | "sent"))
    });
    found
}

#[test]
fn a_request_to_a_sleeping_device_outlives_the_server_and_leaves_when_the_device_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let read = queued(&served, "GET", "/devices/one/objects/3303/0/5700", None);
    let arguments = json!({ "arguments": "0='first'" });
    let executed = queued(&served, "POST", "/devices/one/objects/3303/0/5605", Some(&arguments));
    let refused = queued(&served, "PUT", "/devices/one/objects/3303/0/5700", Some(&json!(1.5)));
    let listed = get(&served, "/devices/one/requests");
    let states: Vec<&str> =
        listed["requests"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["queued"; 3], "{listed}");

    let served = serve_again(folder.path(), served);
    assert_eq!(get(&served, "/devices/one/requests"), listed);
    // The new run does not know the device, which registers anew.
    device.wake();
    let read = ended(&served, &mut device, "one", read);
    assert_eq!(read["state"], "done", "{read}");
    assert_eq!(read["outcome"]["code"], "2.05");
    assert_eq!(read.pointer("/outcome/answer/values/0/value"), Some(&json!(20.5)), "{read}");
    let executed = ended(&served, &mut device, "one", executed);
    assert_eq!((&executed["state"], &executed["outcome"]["code"]), (&json!("done"), &json!("2.04")));
    assert_eq!(device.counter.executed.get("first"), Some(&1));
    let refused = ended(&served, &mut device, "one", refused);
    assert_eq!((&refused["state"], &refused["outcome"]["code"]), (&json!("failed"), &json!("4.05")));

    let rows = get(&served, "/audit?endpoint=one");
    let rows: Vec<String> =
        rows["rows"].as_array().unwrap().iter().map(|row| row["detail"].to_string()).collect();
    for part in [
        "/3303/0/5605, request 2: queued",
        "/3303/0/5605, request 2: done",
        "request 3: the device answered 4.05",
    ] {
        assert!(rows.iter().any(|row| row.contains(part)), "{part} in {rows:?}");
    }
}

#[test]
fn what_a_device_may_have_executed_when_the_server_was_killed_is_unknown_and_what_may_be_repeated_is_repeated()
 {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let arguments = json!({ "arguments": "0='first'" });
    let executed = queued(&served, "POST", "/devices/one/objects/3303/0/5605", Some(&arguments));
    let read = queued(&served, "GET", "/devices/one/objects/3303/0/5700", None);
    // Its battery comes out once it has executed, so that the answer never leaves.
    device.counter.is_mute = true;
    device.wake();
    device.until("the execution", |device| device.counter.total() == 1);
    let states = |served: &Served| {
        let listed = get(served, "/devices/one/requests");
        listed["requests"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(states(&served), ["sent", "queued"]);

    let served = serve_again(folder.path(), served);
    assert_eq!(states(&served), ["unknown", "queued"]);
    device.counter.is_mute = false;
    device.wake();
    assert_eq!(ended(&served, &mut device, "one", read)["state"], "done");
    assert_eq!(device.counter.total(), 1, "it is not executed again");
    let unknown = get(&served, &format!("/devices/one/requests/{executed}"));
    assert_eq!((&unknown["state"], &unknown["attempts"]), (&json!("unknown"), &json!(1)));
    let rows = get(&served, "/audit?endpoint=one").to_string();
    assert!(rows.contains("request 1: unknown: the server ended before an answer came"), "{rows}");
}

#[test]
fn bounds_are_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let route = "/devices/one/objects/3303/0/5700";
    for _ in 0..64 {
        queued(&served, "GET", route, None);
    }
    let (status, answer) = served.call("GET", route, None).unwrap();
    assert!(status == 429 && answer["detail"].as_str().unwrap().starts_with("64 requests wait"), "{answer}");
    let long = json!("a".repeat(70_000));
    let (status, answer) =
        served.call("PUT", "/devices/one/objects/3303/0/5701?queue=always", Some(&long)).unwrap();
    assert!(status == 413 && answer["detail"].as_str().unwrap().contains("at most 65536"), "{answer}");
    for (query, told) in [
        ("priority=256", "'256' is no priority"),
        ("expires=0", "expires: 1 to 2592000 seconds"),
        ("queue=soon", "queue"),
    ] {
        let (status, answer) = served.call("GET", &format!("{route}?{query}"), None).unwrap();
        assert!(status == 400 && answer["detail"].as_str().unwrap().contains(told), "{answer}");
    }
    let (status, answer) = served.call("GET", "/devices/nobody/objects/3?queue=always", None).unwrap();
    assert_eq!(status, 404, "{answer}");
    assert_eq!(served.call("GET", "/devices/nobody/requests", None).unwrap().0, 404);
    assert_eq!(served.call("GET", "/devices/one/requests/65", None).unwrap().0, 404);

    // Once some have gone there is room again.
    device.wake();
    let last = get(&served, "/devices/one/requests")["requests"][63]["id"].as_u64().unwrap();
    ended(&served, &mut device, "one", last);
    device.until("sleep", |_| {
        get(&served, "/devices/one").pointer("/registration/awake") == Some(&json!(false))
    });
    queued(&served, "GET", route, None);
}

#[test]
fn requests_are_listed_ordered_cancelled_and_waited_for_from_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let ctl = |arguments: &[&str]| {
        let output = served.ctl(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, told, _) = ctl(&["execute", "one", "/3303/0/5605", "0='low'", "--priority", "low"]);
    assert_eq!((code, told.trim()), (Some(0), "one sleeps: queued as 1; see lwm2mctl requests one 1"));
    let (code, told, _) = ctl(&["--json", "execute", "one", "/3303/0/5605", "0='gone'", "--expires", "1"]);
    assert_eq!((code, told.trim()), (Some(0), "{\"id\":2}"));
    assert_eq!(ctl(&["execute", "one", "/3303/0/5605", "0='cancelled'", "--priority", "255"]).0, Some(0));
    let (code, told, _) = ctl(&["requests", "one"]);
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, lines[0][..3].join(" ")), (Some(0), "ID STATE OPERATION".to_owned()));
    assert_eq!(lines[1][..6], ["1", "queued", "execute", "/3303/0/5605", "64", "0"], "{told}");
    let (code, told, _) = ctl(&["requests", "one", "3", "--cancel"]);
    assert_eq!((code, told.trim()), (Some(0), "one request 3 cancelled"));
    let (code, _, told) = ctl(&["requests", "one", "3", "--cancel"]);
    assert!(code == Some(1) && told.contains("request 3 has ended: cancelled"), "{told}");
    let (code, told, _) = ctl(&["requests", "one", "2", "--wait"]);
    assert!(code == Some(0) && told.contains("expired"), "{told}");

    // What is waited for leaves first, by its priority.
    let mut events = served.client.stream("/events?endpoint=one", std::time::Duration::from_secs(60));
    std::thread::scope(|scope| {
        let waited = scope.spawn(|| ctl(&["read", "one", "/3303/0/5700", "--wait", "--priority", "high"]));
        device.until("that it is queued", |_| {
            get(&served, "/devices/one/requests")["requests"].as_array().unwrap().len() == 4
        });
        device.wake();
        device.until("the answer", |_| waited.is_finished());
        let (code, told, _) = waited.join().unwrap();
        assert!(code == Some(0) && told.contains("20.5"), "{told}");
    });
    assert_eq!(ended(&served, &mut device, "one", 1)["state"], "done");
    assert_eq!(device.counter.executed.keys().collect::<Vec<_>>(), ["low"]);
    let mut told = Vec::new();
    while told.last().is_none_or(|(name, id)| (name, id) != (&"request-done".to_owned(), &json!(1))) {
        let name = events.next().unwrap().unwrap();
        let Some(name) = name.strip_prefix("event: request-") else { continue };
        let data = events.next().unwrap().unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["state"], name);
        told.push((format!("request-{name}"), data["id"].clone()));
    }
    let expected = [("queued", 4), ("sent", 4), ("done", 4), ("sent", 1), ("done", 1)];
    assert_eq!(told, expected.map(|(name, id)| (format!("request-{name}"), json!(id))));
}

#[test]
fn a_request_that_left_before_it_was_cancelled_is_told_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let id = queued(&served, "GET", "/devices/one/objects/3303/0/5700", None);
    device.wake();
    let route = format!("/devices/one/requests/{id}");
    // It takes part no more, so that no answer comes.
    served.client.until("the request", || (get(&served, &route)["state"] == "sent").then_some(()));
    let served = serve_again(folder.path(), served);
    assert_eq!(get(&served, &route)["state"], "queued", "it may be repeated");
    let cancelled = served.ctl(&["requests", "one", &id.to_string(), "--cancel"]);
    let told = String::from_utf8_lossy(&cancelled.stdout).into_owned();
    assert!(cancelled.status.success() && told.contains("unknown: it left before"), "{told}");
}

#[test]
fn an_observation_begins_when_the_device_wakes_and_ends_while_it_sleeps() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let (status, lasting) = served
        .call(
            "POST",
            "/devices/one/observations",
            Some(&json!({ "path": "/3303/0/5700", "attributes": { "pmin": 1 } })),
        )
        .unwrap();
    assert_eq!((status, &lasting["state"]), (202, &json!("waiting")), "{lasting}");
    // One that does not last is queued as any request.
    let passing = json!({ "path": "/3303/0/5701", "lasting": false });
    let observe = queued(&served, "POST", "/devices/one/observations", Some(&passing));
    device.wake();
    let observing = ended(&served, &mut device, "one", observe);
    assert_eq!(observing["state"], "failed", "it has no such resource: {observing}");
    let route = format!("/devices/one/observations/{}", lasting["id"]);
    device.until("the observation", |_| get(&served, &route)["state"] == "standing");
    device.until("sleep", |_| {
        get(&served, "/devices/one").pointer("/registration/awake") == Some(&json!(false))
    });
    let route = format!("/devices/one/observations?id={}", lasting["id"]);
    assert_eq!(served.call("DELETE", &route, None).unwrap().0, 204);
    assert_eq!(served.call("DELETE", &route, None).unwrap().0, 404);
    assert_eq!(get(&served, "/devices/one/observations")["observations"], json!([]));
}

#[test]
fn a_planned_stop_leaves_what_was_on_its_way_to_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let arguments = json!({ "arguments": "0='first'" });
    let executed = queued(&served, "POST", "/devices/one/objects/3303/0/5605", Some(&arguments));
    let waits = queued(
        &served,
        "POST",
        "/devices/one/objects/3303/0/5605",
        Some(&json!({ "arguments": "0='next'" })),
    );
    device.counter.is_mute = true;
    device.wake();
    device.until("the execution", |device| device.counter.total() == 1);
    let pid = served.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(served.child.wait().unwrap().code(), Some(0));

    let served = serve_at(folder.path(), served.addresses.clone());
    assert_eq!(get(&served, &format!("/devices/one/requests/{executed}"))["state"], "unknown");
    device.counter.is_mute = false;
    // The next run knows the device; whether it listens is asked at once.
    assert_eq!(ended(&served, &mut device, "one", waits)["state"], "done");
    assert_eq!(device.counter.executed.get("next"), Some(&1));
    assert_eq!(device.counter.executed.get("first"), Some(&1));
}

#[test]
fn a_stored_request_that_does_not_open_fails_and_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let mut device = asleep(&served, "one");
    let route = "/devices/one/objects/3303/0/5700";
    let (damaged, next) = (queued(&served, "GET", route, None), queued(&served, "GET", route, None));
    let addresses = served.addresses.clone();
    served.kill();
    {
        let database = redb::Database::open(folder.path().join("store.redb")).unwrap();
        let contents = redb::TableDefinition::<(&str, u64, u8), &[u8]>::new("request_contents");
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(contents).unwrap();
            let mut sealed = table.get(("one", damaged, 0)).unwrap().unwrap().value().to_vec();
            *sealed.last_mut().unwrap() ^= 1;
            table.insert(("one", damaged, 0), sealed.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }

    let served = serve_at(folder.path(), addresses);
    let list = get(&served, "/devices/one/requests");
    let shown = list["requests"].as_array().unwrap().iter().map(|one| (&one["damaged"], &one["operation"]));
    let (yes, no, read) = (json!(true), json!(false), json!("read"));
    assert!(shown.eq([(&yes, &Value::Null), (&no, &read)]), "{list}");
    let list = served.ctl(&["requests", "one"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("(does not open)"));
    let mut events = served.client.stream("/events?endpoint=one", std::time::Duration::from_secs(60));
    device.wake();
    assert_eq!(ended(&served, &mut device, "one", next)["state"], "done");
    let told = loop {
        let line = events.next().unwrap().unwrap();
        if line == "event: request-failed" {
            let data = events.next().unwrap().unwrap();
            break serde_json::from_str::<Value>(data.strip_prefix("data: ").unwrap()).unwrap();
        }
    };
    assert_eq!(told["id"], damaged, "{told}");
    let rows = get(&served, "/audit?endpoint=one").to_string();
    assert!(rows.contains(&format!("request {damaged}: what is stored of it does not open")), "{rows}");
}
