//! A device that is moved from mode to mode, over a link that loses every tenth datagram, while its server is killed.

#![expect(clippy::unwrap_used, reason = "test")]

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

#[test]
fn a_device_goes_from_mode_to_mode_over_a_bad_link_while_its_server_is_killed() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f";
    let mut server = server();
    let bootstrap = Relay::losing(&server.secure_bootstrap_uri(), LOST_PER_MILLE, 1);
    let management = Relay::losing(&server.secure_uri(), LOST_PER_MILLE, 2);
    let uri = |relay: &Relay| format!("coaps://{}", local(relay.port()));
    let accounts = json!({
        "bootstrap": { "identity": "modes-bs", "key": KEY },
        "management": { "generate": true },
        "profile": { "server_uri": uri(&management) },
    });
    let route = "/devices/modes/credentials";
    server.must("PUT", route, &accounts);
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
        server.must("POST", &format!("{route}/rotate"), &rotation);
        server.restart(false);
        // The sessions died with the server; the device finds out when it starts over.
        drop(client);
        client = start();
        let proven = format!("\"generation\":{generation}");
        server.wait_for(&["\"proven\"", &proven, "full handshake"]);
        server.wait_for(&["\"old retired\"", &format!("\"generation\":{}", generation.saturating_sub(1))]);
        let shown = server.must("GET", route, &Value::Null);
        let credentials = shown.pointer("/management/credentials").and_then(Value::as_array).unwrap();
        let current =
            credentials.iter().find(|one| one.get("generation") == Some(&json!(generation))).unwrap();
        assert_eq!(
            (current.get("mode"), current.get("standing")),
            (Some(&json!(mode)), Some(&json!("accepted")))
        );
        let read = server.must("GET", "/devices/modes/objects/3/0/0", &Value::Null);
        assert!(read.to_string().contains("value"), "{read}");
    }
}
