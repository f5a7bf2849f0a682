//! Requests to devices in queue mode, as an operator asks them, with devices of this project over UDP on loopback
//! (LwM2M Core 1.2.1 §6.5).

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;
#[path = "common/sleeper.rs"]
mod sleeper;

use common::{Served, serve_arguments};
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
