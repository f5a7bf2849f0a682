//! OSCORE contexts as files, through `lwm2mctl` and the HTTP API, alone and inside DTLS: enrolled, shown without what is secret, rotated
//! and checked.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;

use std::fs;
use std::process::Output;

use common::Served;
use serde_json::{Value, json};

const SECRET: &str = "d00dfeedd00dfeedd00dfeedd00dfeed";
const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";

fn context(recipient_id: &str) -> Value {
    json!({ "master_secret": SECRET, "master_salt": "0a0b", "sender_id": "00", "recipient_id": recipient_id })
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains(SECRET) && !said.contains(KEY), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn credential(served: &Served, endpoint: &str) -> Value {
    let list = served.ctl(&["credentials", "list", endpoint, "--json"]);
    parsed(&list)["management"]["credentials"][0].clone()
}

#[test]
fn contexts_are_enrolled_from_files_alone_and_inside_dtls() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let served = Served::start(&data);
    let file = |name: &str, content: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    };
    let put = |arguments: &[&str]| served.ctl(&[&["credentials", "put"], arguments].concat());

    let alone = file("alone.json", &context("01"));
    let arguments = ["alone", "--oscore", &alone, "--json"];
    assert_eq!(parsed(&put(&arguments))["created"][0]["mode"], "oscore");
    assert!(
        parsed(&put(&arguments))["created"].as_array().unwrap().is_empty(),
        "the same again changes nothing"
    );
    let shown = credential(&served, "alone");
    assert_eq!((&shown["mode"], &shown["recipient_id"]), (&json!("oscore"), &json!("01")));
    assert_eq!((&shown["master_secret"], &shown["oscore"]), (&json!("masked"), &Value::Null));

    let (inside, key) = (file("inside.json", &context("02")), folder.path().join("key"));
    fs::write(&key, KEY).unwrap();
    let key = format!("@{}", key.display());
    let arguments =
        ["pair", "--management-identity", "pair", "--management-key", &key, "--oscore", &inside, "--json"];
    assert_eq!(parsed(&put(&arguments))["created"][0]["mode"], "psk");
    assert!(
        parsed(&put(&arguments))["created"].as_array().unwrap().is_empty(),
        "the same again changes nothing"
    );
    let shown = credential(&served, "pair");
    assert_eq!((&shown["mode"], &shown["identity"]), (&json!("psk"), &json!("pair")));
    assert_eq!(
        shown["oscore"],
        json!({ "recipient_id": "02", "id_context": null, "master_secret": "masked", "sender_id": "00", "aead": 10,
                "hmac": 5, "rederivation": "offered" })
    );
    let table = String::from_utf8(served.ctl(&["credentials", "list", "pair"]).stdout).unwrap();
    assert!(table.contains("psk, oscore"), "{table}");

    let drawn = file("drawn.json", &json!({ "generate": true }));
    for mode in ["psk", "rpk", "x509"] {
        let created =
            parsed(&put(&[mode, "--mode", mode, "--generate", "--oscore", &drawn, "--json"]))["created"][0]
                .clone();
        assert_eq!(created["mode"], mode);
        assert_eq!(created["oscore"]["master_secret"].as_str().map(str::len), Some(32), "{created}");
        assert!(created["key"].is_string() || created["private_key"].is_string(), "{created}");
        assert_eq!(credential(&served, mode)["oscore"]["master_secret"], "masked");
    }
    let said =
        String::from_utf8(put(&["again", "--mode", "psk", "--generate", "--oscore", &drawn]).stdout).unwrap();
    assert!(said.contains("master_secret ") && said.contains("recipient_id "), "{said}");

    for (arguments, code, words) in [
        (vec!["x", "--oscore", &inside], 1, "belongs, or belonged, to pair"),
        (vec!["x", "--mode", "psk", "--generate", "--oscore", &alone], 1, "belongs, or belonged, to alone"),
        (vec!["pair", "--mode", "psk", "--oscore", &inside], 2, "give identity and key"),
        (vec!["pair", "--mode", "psk", "--generate"], 1, "already has another credential"),
    ] {
        let output = put(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let store = fs::read(data.join("store.redb")).unwrap();
    let secret = hex::decode(SECRET).unwrap();
    assert!(!store.windows(secret.len()).any(|window| window == secret), "sealed in the store");
    let audit = String::from_utf8(served.ctl(&["audit"]).stdout).unwrap();
    assert!(audit.contains("key given, with an oscore context inside dtls"), "{audit}");

    let output = served.ctl(&["credentials", "rotate", "pair", "--mode", "psk", "--oscore", &drawn]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no bootstrap account"), "it is understood: {said}");
}

#[test]
fn what_is_no_context_inside_dtls_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&folder.path().join("data"));
    let psk = |oscore: Value| json!({ "identity": "x", "key": KEY, "oscore": oscore });
    for (management, words) in [
        (psk(json!({ "mode": "psk", "generate": true })), "oscore: no OSCORE context"),
        (psk(json!({})), "oscore: give master_secret"),
        (psk(json!({ "identity": "y", "key": KEY })), "oscore: no OSCORE context"),
        (psk(json!({ "generate": true, "sender_id": "00" })), "oscore: \"generate\": true"),
        (
            psk(json!({ "generate": true, "oscore": { "generate": true } })),
            "oscore: oscore: it goes inside DTLS",
        ),
        (
            json!({ "mode": "oscore", "generate": true, "oscore": { "generate": true } }),
            "oscore: it goes inside DTLS",
        ),
        (json!({ "oscore": { "generate": true } }), "give identity and key"),
    ] {
        let body = json!({ "management": management });
        let (status, answer) = served.call("PUT", "/devices/x/credentials", Some(&body)).unwrap();
        assert_eq!(status, 400, "{answer}");
        let said = answer["detail"].as_str().unwrap();
        assert!(said.contains(words) && !said.contains(KEY), "{said}");
    }
    let (status, _) = served.call("GET", "/devices/x/credentials", None).unwrap();
    assert_eq!(status, 404, "nothing was enrolled");
}

#[test]
fn what_a_device_meets_with_a_context_is_said_offline() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("context.json");
    fs::write(&file, context("0a0b").to_string()).unwrap();
    let check = |arguments: &[&str]| {
        let mut command = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"));
        command.args(["credentials", "check", "--oscore"]).arg(&file).args(arguments).output().unwrap()
    };
    let shown = parsed(&check(&["--json"]));
    assert_eq!((&shown["good"], &shown["resources"]["/21/x/1"]), (&json!(true), &json!("0a0b")));
    let said = String::from_utf8(check(&[]).stdout).unwrap();
    assert!(said.contains("good: the server knows the device by oscore kid 0x0a0b"), "{said}");
    assert!(said.contains("/0/x/2 3, or the mode of the credential"), "{said}");
    fs::write(&file, json!({ "master_secret": "00", "sender_id": "", "recipient_id": "01" }).to_string())
        .unwrap();
    let refused = check(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("master_secret: 16 to 64 bytes"));
}
