//! A device that is moved from mode to mode while its server is killed: over a link that loses every tenth datagram, and just when
//! it has what it did not prove yet.

#![expect(clippy::unwrap_used, reason = "test")]

use std::sync::atomic::Ordering;

use interop_tests::account::Psk;
use interop_tests::ours::{Client, Server};
use interop_tests::owner::key_file;
use interop_tests::process::local;
use interop_tests::relay::Relay;
use serde_json::{Value, json};

const LOST_PER_MILLE: u16 = 100;

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("server.toml");
    let [key, certificate] =
        ["server.key.pem", "server.crt.pem"].map(|name| key_file(name).display().to_string());
    let text = format!("[[server_keys]]\nprivate_key = {key:?}\ncertificate = {certificate:?}\n");
    std::fs::write(&configuration, text).unwrap();
    let mut server = Server::start(&["--config", configuration.to_str().unwrap()]);
    // It reads its configuration again when it is started again.
    server.keep(folder);
    server
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const ROUTE: &str = "/devices/modes/credentials";

/// The credentials of the management account that are accepted, by generation and mode.
fn accepted(server: &Server) -> Vec<(u64, String)> {
    let shown = server.must("GET", ROUTE, &Value::Null);
    let credentials = shown.pointer("/management/credentials").and_then(Value::as_array).unwrap();
    let accepted = credentials.iter().filter(|one| one.get("standing") == Some(&json!("accepted")));
    let shown = |one: &Value| Some((one.get("generation")?.as_u64()?, one.get("mode")?.as_str()?.to_owned()));
    accepted.map(|one| shown(one).unwrap()).collect()
}

/// What the audit log has of a generation, oldest first, but for the trigger, whose answer comes when it likes.
fn history(server: &Server, generation: u64) -> Vec<String> {
    let shown = server.must("GET", &format!("{ROUTE}/history?after=0&limit=1000"), &Value::Null);
    let rows = shown.get("rows").and_then(Value::as_array).unwrap();
    let of = |row: &&Value| {
        row.get("role") == Some(&json!("management")) && row.get("generation") == Some(&json!(generation))
    };
    let what = |row: &Value| row.get("what").unwrap().as_str().unwrap().to_owned();
    rows.iter().filter(of).map(what).filter(|what| what != "triggered").collect()
}

#[test]
fn a_server_that_is_killed_between_delivery_and_proof_takes_the_proof_in_its_next_run() {
    let mut server = server();
    let accounts = json!({
        "bootstrap": { "identity": "modes-bs", "key": KEY },
        "management": { "generate": true },
        "profile": { "server_uri": server.secure_uri() },
    });
    server.must("PUT", ROUTE, &accounts);
    let psk = Psk { identity: "modes-bs", key: KEY };
    let _client =
        Client::run("modes", &server.secure_bootstrap_uri(), Some(psk), &["--bootstrap", "--give-up", "0"]);
    server.wait_for(&["\"in use\"", "\"management\"", "\"generation\":1"]);
    let mut present = (1, "psk".to_owned());
    for (generation, mode) in [(2, "rpk"), (3, "x509"), (4, "psk")] {
        // The device is told to come by a way that is closed, so that it cannot be faster than the kill.
        let (way, is_open) = Relay::closed(&server.secure_uri());
        let rotation = json!({
            "mode": mode, "deadline": 600, "grace": 1, "reason": "test", "server_uri": format!("coaps://{}", local(way.port())),
        });
        server.must("POST", &format!("{ROUTE}/rotate"), &rotation);
        server.wait_for(&["\"delivered\"", &format!("\"generation\":{generation}")]);
        server.restart(false);
        let next = (generation, mode.to_owned());
        assert_eq!(accepted(&server), [present, next.clone()], "the device may have either");
        assert_eq!(history(&server, generation), ["staged", "handed out", "delivered"]);
        is_open.store(true, Ordering::Relaxed);
        server.wait_for(&["\"proven\"", &format!("\"generation\":{generation}"), "full handshake"]);
        server.wait_for(&["\"old retired\"", &format!("\"generation\":{}", generation - 1)]);
        assert_eq!(accepted(&server), core::slice::from_ref(&next));
        let told = history(&server, generation);
        assert_eq!(told, ["staged", "handed out", "delivered", "proven", "profile", "in use"]);
        assert_eq!(history(&server, generation - 1).last().unwrap(), "old retired");
        let read = server.must("GET", "/devices/modes/objects/3/0/0", &Value::Null);
        assert!(read.to_string().contains("value"), "{read}");
        present = next;
    }
}

#[test]
fn a_device_goes_from_mode_to_mode_over_a_bad_link_while_its_server_is_killed() {
    let mut server = server();
    let bootstrap = Relay::losing(&server.secure_bootstrap_uri(), LOST_PER_MILLE, 1);
    let management = Relay::losing(&server.secure_uri(), LOST_PER_MILLE, 2);
    let uri = |relay: &Relay| format!("coaps://{}", local(relay.port()));
    let accounts = json!({
        "bootstrap": { "identity": "modes-bs", "key": KEY },
        "management": { "generate": true },
        "profile": { "server_uri": uri(&management) },
    });
    server.must("PUT", ROUTE, &accounts);
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap().to_owned();
    let start = || {
        let psk = Psk { identity: "modes-bs", key: KEY };
        Client::run(
            "modes",
            &uri(&bootstrap),
            Some(psk),
            &["--bootstrap", "--give-up", "0", "--state", &folder],
        )
    };
    let mut client = start();
    server.wait_for(&["\"in use\"", "\"management\"", "\"generation\":1"]);
    for (generation, mode) in [(2_u32, "rpk"), (3, "x509"), (4, "psk")] {
        let rotation = json!({ "mode": mode, "deadline": 600, "grace": 1, "reason": "test" });
        server.must("POST", &format!("{ROUTE}/rotate"), &rotation);
        server.restart(false);
        // The sessions died with the server; the device finds out when it starts over.
        drop(client);
        client = start();
        let proven = format!("\"generation\":{generation}");
        server.wait_for(&["\"proven\"", &proven, "full handshake"]);
        server.wait_for(&["\"old retired\"", &format!("\"generation\":{}", generation.saturating_sub(1))]);
        assert_eq!(accepted(&server), [(generation.into(), mode.to_owned())]);
        let read = server.must("GET", "/devices/modes/objects/3/0/0", &Value::Null);
        assert!(read.to_string().contains("value"), "{read}");
    }
}
