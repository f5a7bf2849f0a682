//! The server gets another key: devices go on under the one they know, at the address they know, until they are told of the next.
//! A planned restart turns that address into a former one, and nobody shakes hands for it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

use std::path::Path;

use interop_tests::account::Psk;
use interop_tests::ours::{Client, Server};
use serde_json::{Value, json};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// A key and its certificate, as `[[server_keys]]` names them.
fn key(folder: &Path, name: &str, is_retiring: bool) -> String {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    if !file("key").exists() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        std::fs::write(file("pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
    }
    format!(
        "[[server_keys]]\nprivate_key = {:?}\ncertificate = {:?}\nnames = []\nretiring = {is_retiring}\n",
        file("key"),
        file("pem")
    )
}

/// How many devices know each raw public key or certificate, those of today first.
fn pinned(server: &Server, kind: &str) -> Vec<(bool, u64)> {
    let answer = server.must("GET", "/server-keys", &Value::Null);
    let keys = answer["keys"].as_array().unwrap().iter().filter(|key| key["of"] == kind);
    let mut counts: Vec<_> =
        keys.map(|key| (key["current"] == json!(true), key["count"].as_u64().unwrap())).collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    counts
}

/// Whether the device answers over a session that it has.
fn read(server: &Server) {
    let read = server.must("GET", "/devices/meter/objects/3/0/0", &Value::Null);
    assert!(read.to_string().contains("value"), "{read}");
}

fn roll_over(mode: &str, kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("server.toml");
    std::fs::write(&configuration, key(folder.path(), "old", false)).unwrap();
    let mut server = Server::start(&["--config", configuration.to_str().unwrap()]);
    let route = "/devices/meter/credentials";
    let enrol = |server: &Server, uri: &str| {
        let accounts = json!({
            "bootstrap": { "identity": "meter-bs", "key": KEY },
            "management": { "generate": true },
            "profile": { "server_uri": uri },
        });
        server.must("PUT", route, &accounts);
    };
    let rotate = |server: &mut Server, generation: u32| {
        let rotation = json!({ "mode": mode, "deadline": 60, "grace": 1, "reason": "roll-over" });
        server.must("POST", &format!("{route}/rotate"), &rotation);
        server.wait_for(&["\"proven\"", &format!("\"generation\":{generation}"), "full handshake"]);
        server.wait_for(&["\"old retired\""]);
    };
    enrol(&server, &server.secure_uri());
    let state = tempfile::tempdir().unwrap();
    let start = |server: &Server| {
        let psk = Psk { identity: "meter-bs", key: KEY };
        let arguments = ["--bootstrap", "--give-up", "0", "--state", state.path().to_str().unwrap()];
        Client::run("meter", &server.secure_bootstrap_uri(), Some(psk), &arguments)
    };
    let client = start(&server);
    server.wait_for(&["\"in use\"", "\"management\"", "\"generation\":1"]);
    rotate(&mut server, 2);
    assert_eq!(pinned(&server, kind), [(true, 1)]);
    server.must("POST", "/devices/meter/observations", &json!({ "path": "/3303/0/5700" }));
    server.wait_for(&["notification", "meter", "/3303/0/5700"]);

    // Another key is there, and another address for who knows it. The session goes on at the one that it has.
    let former = server.move_secure();
    let listen = format!("[listen]\nformer_coaps = \"{former}\"\n");
    let keys = [key(folder.path(), "new", false), key(folder.path(), "old", true)].concat();
    std::fs::write(&configuration, format!("{listen}{keys}")).unwrap();
    server.restart(true);
    read(&server);
    server.wait_for(&["notification", "meter", "/3303/0/5700"]);
    assert_eq!(server.counted("handshakes_begun"), 0);
    assert_eq!(pinned(&server, kind), [(true, 0), (false, 1)], "the device still knows the old one");

    // Whoever comes anew still finds the one that is known, too.
    server.restart(false);
    drop(client);
    let _client = start(&server);
    server.wait_for(&["session-established", "meter", "\"full\":true"]);
    server.wait_for(&["registered", "meter"]);
    assert_eq!(pinned(&server, kind), [(true, 0), (false, 1)]);
    read(&server);

    // The next account has the new key and the address where that is.
    let profile = json!({ "profile": { "server_uri": server.secure_uri() } });
    server.must("PUT", route, &profile);
    rotate(&mut server, 3);
    assert_eq!(pinned(&server, kind), [(true, 1)], "nobody knows the old one any more");
    read(&server);

    // So that the old one can go, and its address with it.
    std::fs::write(&configuration, key(folder.path(), "new", false)).unwrap();
    server.restart(true);
    read(&server);
}

#[test]
fn devices_with_raw_public_keys_are_moved_to_another_key_of_the_server() {
    roll_over("rpk", "raw_public_key");
}

#[test]
fn devices_with_certificates_are_moved_to_another_certificate_of_the_server() {
    roll_over("x509", "certificate");
}
