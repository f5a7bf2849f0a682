//! Bootstrap profiles over HTTP and from a shell, and a device of this project that one of them brings to two servers.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/simulated.rs"]
mod simulated;

use std::process::Output;

use common::{Served, serve_arguments};
use serde_json::{Value, json};
use simulated::{KEY, Simulated};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn call(served: &Served, method: &str, route: &str, body: Option<&Value>, status: u16) -> Value {
    let (found, answer) = served.call(method, route, body).unwrap();
    assert_eq!(found, status, "{method} {route}: {answer}");
    answer
}

#[test]
fn a_profile_brings_a_device_to_two_servers_with_access_control_between_them() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(one.path());
    let config = two.path().join("second.toml");
    std::fs::write(&config, "[bootstrap]\nshort_server_id = 2\n").unwrap();
    let data = two.path().join("data");
    let mut arguments = serve_arguments(&data);
    arguments.extend(["--config".to_owned(), config.display().to_string()]);
    let second = Served::start_with(&data, &arguments);

    let key = hex::encode([0x17; 16]);
    let management = json!({ "management": { "identity": "meter-two", "key": key } });
    call(&second, "PUT", "/devices/meter/credentials", Some(&management), 201);
    let profile = json!({
        "lifetime": 300,
        "servers": [{ "short_server_id": 2, "uri": "coaps://${second}", "security": "psk",
                      "identity": "${endpoint}-two", "key": "${second_key}", "lifetime": 200 }],
        "access_control": [
            { "object": 3, "instance": 0, "owner": 1, "acl": { "1": ["read", "write", "execute"] } },
            { "object": 3303, "instance": 0, "owner": 1, "acl": { "1": ["read", "write"], "2": ["read"] } },
        ],
        "write": [{ "path": "/3303/0/5750", "value": "roof of ${endpoint}" }],
    });
    call(&first, "PUT", "/bootstrap/profiles/two-servers", Some(&profile), 201);
    let enrolment = json!({
        "bootstrap": { "identity": "bs-meter", "key": hex::encode(KEY) },
        "follow": { "name": "two-servers", "variables": { "second": second.addresses["coaps"] },
                    "secrets": { "second_key": key } },
    });
    call(&first, "PUT", "/devices/meter/credentials", Some(&enrolment), 201);

    let _device = Simulated::start("meter", &first.addresses);
    let is_registered = |served: &Served| {
        let (status, device) = served.call("GET", "/devices/meter", None).unwrap();
        (status == 200 && device["registered"] == true).then_some(device["registration"]["lifetime"].clone())
    };
    assert_eq!(first.client.until("the first registration", || is_registered(&first)), 300);
    assert_eq!(second.client.until("the second registration", || is_registered(&second)), 200);
    let objects = first.call("GET", "/devices/meter", None).unwrap().1["registration"]["objects"].to_string();
    assert!(objects.contains("</2/0>") && objects.contains("</2/1>"), "{objects}");

    let read = |served: &Served, path: &str| {
        served.call("GET", &format!("/devices/meter/objects{path}"), None).unwrap()
    };
    for served in [&first, &second] {
        let (status, answer) = read(served, "/3303/0/5750");
        assert_eq!((status, &answer["values"][0]["value"]), (200, &json!("roof of meter")), "{answer}");
    }
    assert_eq!(read(&first, "/3/0/0").0, 200);
    assert_eq!(read(&second, "/3/0/0").0, 403, "what is not granted is refused");
    let written = second.call("PUT", "/devices/meter/objects/3303/0/5750", Some(&json!("mine"))).unwrap();
    assert_eq!(written.0, 403, "{}", written.1);

    let follows = call(&first, "GET", "/devices/meter/profile", None, 200);
    assert_eq!(
        (&follows["applied"]["name"], &follows["applied"]["version"]),
        (&json!("two-servers"), &json!(1))
    );
    assert_eq!(follows["assigned"]["secrets"], json!(["second_key"]));
    let (_, account) = first.call("GET", "/devices/meter/credentials", None).unwrap();
    assert_eq!(account["management"]["state"], "in use", "{account}");
}

#[test]
fn profiles_are_made_shown_followed_previewed_and_removed_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    call(&served, "PUT", "/devices/a/credentials", Some(&json!({ "bootstrap": { "generate": true } })), 201);
    let body = json!({ "description": "meters", "server_uri": "coaps://${site}.example",
                       "write": [{ "path": "/3303/0/5700", "value": 21 }] });
    let made = call(&served, "PUT", "/bootstrap/profiles/meters", Some(&body), 201);
    assert_eq!(made, json!({ "name": "meters", "version": 1 }));
    assert_eq!(call(&served, "PUT", "/bootstrap/profiles/meters", Some(&body), 200)["version"], 1);
    let shown = call(&served, "GET", "/bootstrap/profiles/meters", None, 200);
    assert_eq!(shown["body"]["write"][0]["value"], json!({ "type": "float", "value": 21.0 }));
    assert_eq!(shown["variables"], json!(["site"]));
    assert_eq!(call(&served, "PUT", "/bootstrap/profiles/meters", Some(&shown["body"]), 200)["version"], 1);
    let newer = json!({ "description": "newer" });
    assert_eq!(call(&served, "PUT", "/bootstrap/profiles/meters", Some(&newer), 201)["version"], 2);
    let older = call(&served, "GET", "/bootstrap/profiles/meters?version=1", None, 200);
    assert_eq!((&older["body"]["description"], &older["versions"]), (&json!("meters"), &json!([1, 2])));
    call(&served, "GET", "/bootstrap/profiles/meters?version=3", None, 404);
    call(&served, "GET", "/bootstrap/profiles/none", None, 404);
    call(&served, "PUT", "/bootstrap/profiles/no%20name", Some(&newer), 400);

    for (wrong, at, what) in [
        (json!({ "lifetim": 1 }), "lifetim", "unknown field `lifetim`"),
        (json!({ "servers": [{ "short_server_id": "one" }] }), "servers[0].short_server_id", "expected u16"),
        (json!({ "write_by": "bit" }), "write_by", "expected one of"),
        (json!({ "delete": ["/"] }), "delete[0]", "the path of an object or instance"),
    ] {
        let problem = call(&served, "PUT", "/bootstrap/profiles/wrong", Some(&wrong), 422);
        assert_eq!(problem["faults"][0]["at"], at, "{problem}");
        assert!(problem["faults"][0]["what"].as_str().unwrap().contains(what), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(what), "{problem}");
    }

    let follow = json!({ "name": "meters", "version": 1, "variables": { "site": "kiel" } });
    let follows = call(&served, "PUT", "/devices/a/profile", Some(&follow), 200);
    let expected = json!({ "name": "meters", "version": 1, "newest": 2, "variables": { "site": "kiel" }, "secrets": [] });
    assert_eq!((&follows["assigned"], &follows["applied"]), (&expected, &Value::Null));
    let list = call(&served, "GET", "/bootstrap/profiles", None, 200);
    assert_eq!((&list["profiles"][0]["devices"], &list["profiles"][0]["version"]), (&json!(1), &json!(2)));
    let problem = call(&served, "DELETE", "/bootstrap/profiles/meters", None, 409);
    assert!(problem["detail"].as_str().unwrap().starts_with("1 devices follow it"), "{problem}");

    let preview = call(&served, "GET", "/devices/a/bootstrap", None, 200);
    let paths: Vec<&Value> =
        preview["requests"].as_array().unwrap().iter().map(|each| &each["path"]).collect();
    assert_eq!(
        paths,
        ["/", "/0/1", "/1/0", "/3303/0/5700"]
            .iter()
            .map(|path| json!(path))
            .chain([Value::Null])
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>()
    );
    let account = &preview["requests"][1]["values"];
    assert_eq!(account[0], json!({ "path": "/0/1/0", "type": "string", "value": "coaps://kiel.example" }));
    let hidden: Vec<&str> = account
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|each| each["value"].as_str())
        .filter(|text| text.starts_with("hidden"))
        .collect();
    assert_eq!(hidden, ["hidden, 16 bytes", "hidden, 16 bytes"], "identity and key");
    let elsewhere =
        "/devices/a/bootstrap?format=senml-cbor&discovered=%3C%2F0%2F1%3E,%3C%2F0%2F0%3E%3Bssid%3D1";
    let elsewhere = call(&served, "GET", elsewhere, None, 200);
    assert_eq!(
        (&elsewhere["requests"][1]["path"], &elsewhere["requests"][1]["format"]),
        (&json!("/0/0"), &json!(112))
    );
    call(&served, "GET", "/devices/a/bootstrap?format=text", None, 400);
    let refused = call(&served, "GET", "/devices/a/bootstrap?discovered=busy", None, 409);
    assert!(refused["detail"].as_str().unwrap().contains("malformed"), "{refused}");
    let other =
        "/bootstrap/profiles/meters/preview?endpoint=a&version=1&variables=%7B%22site%22%3A%22x%22%7D";
    let other = call(&served, "GET", other, None, 200);
    assert_eq!(other["requests"][1]["values"][0]["value"], "coaps://x.example");

    call(&served, "DELETE", "/devices/a/profile", None, 204);
    call(&served, "DELETE", "/devices/a/profile", None, 204);
    call(&served, "DELETE", "/bootstrap/profiles/meters", None, 204);
    call(&served, "DELETE", "/bootstrap/profiles/meters", None, 404);
}

#[test]
fn a_token_for_some_devices_previews_and_counts_those_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for name in ["a", "b"] {
        let enrolment = json!({ "bootstrap": { "generate": true } });
        call(&served, "PUT", &format!("/devices/{name}/credentials"), Some(&enrolment), 201);
    }
    call(&served, "PUT", "/bootstrap/profiles/p", Some(&json!({})), 201);
    for name in ["a", "b"] {
        call(&served, "PUT", &format!("/devices/{name}/profile"), Some(&json!({ "name": "p" })), 200);
    }
    let token = json!({ "name": "some", "role": "security-officer", "scope": ["a"] });
    let token = call(&served, "POST", "/tokens", Some(&token), 201);
    let some = served.client.with(token["token"].as_str().unwrap());
    assert_eq!(some.call("GET", "/bootstrap/profiles/p/preview?endpoint=a", None).unwrap().0, 200);
    assert_eq!(some.call("GET", "/bootstrap/profiles/p/preview?endpoint=b", None).unwrap().0, 404);
    assert_eq!(some.call("GET", "/bootstrap/profiles", None).unwrap().1["profiles"][0]["devices"], 1);
    assert_eq!(some.call("PUT", "/bootstrap/profiles/p", Some(&json!({ "lifetime": 1 }))).unwrap().0, 403);
    assert_eq!(some.call("PUT", "/devices/a/profile", Some(&json!({ "name": "p" }))).unwrap().0, 200);
    assert_eq!(some.call("PUT", "/devices/b/profile", Some(&json!({ "name": "p" }))).unwrap().0, 404);
}

#[test]
fn a_shell_makes_profiles_and_has_devices_follow_them() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    call(&served, "PUT", "/devices/a/credentials", Some(&json!({ "bootstrap": { "generate": true } })), 201);
    let file = folder.path().join("meters.json");
    let server = json!({ "short_server_id": 2, "uri": "coaps://${site}", "security": "psk", "identity": "x", "key": "${key}" });
    std::fs::write(&file, json!({ "description": "meters", "servers": [server] }).to_string()).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "5a".repeat(16)).unwrap();
    let (from, secret) = (format!("@{}", file.display()), format!("key=@{}", key.display()));
    for (words, said) in [
        (&["bootstrap", "profiles", "put", "meters", &from][..], "meters version 1"),
        (&["bootstrap", "profiles", "list"], "meters  1"),
        (&["bootstrap", "profiles", "show", "meters"], "secret variables: key"),
        (&["bootstrap", "profiles", "preview", "meters", "a", "--set", "site=kiel"], "not given yet: key"),
        (&["bootstrap", "assign", "a", "meters", "--set", "site=kiel", "--secret", &secret], "site=kiel"),
        (&["bootstrap", "show", "a"], "meters version 1"),
        (&["bootstrap", "preview", "a"], "coaps://kiel"),
        (
            &["bootstrap", "preview", "a", "--discovered", "</0/1>,</0/0>;ssid=1", "--format", "senml-cbor"],
            "/0/0",
        ),
        (&["--json", "bootstrap", "preview", "a"], "\"hidden, 16 bytes\""),
    ] {
        let output = served.ctl(words);
        let told = text(&output);
        assert!(output.status.success() && told.contains(said), "{words:?}: {told}");
        assert!(!told.contains(&"5a".repeat(16)), "{words:?}: {told}");
    }
    let refused = served.ctl(&["bootstrap", "profiles", "delete", "meters"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("1 devices follow it"), "{}", text(&refused));
    let missing = served.ctl(&["bootstrap", "assign", "a", "meters"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("variables.site: the profile needs it"), "{}", text(&missing));
    for words in [&["bootstrap", "unassign", "a"][..], &["bootstrap", "profiles", "delete", "meters"]] {
        let output = served.ctl(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
    }
}
