//! Leshan 2.0.0-M18 as server and as client beyond a plain session: an ephemeral key exchange, Connection IDs behind a
//! translator of addresses, sessions that are taken up again.

#![expect(clippy::unwrap_used, reason = "test")]

use std::sync::{Arc, Mutex};

use dtls_psk::Suite;
use interop_tests::account::Psk;
use interop_tests::leshan::{BootstrapServer, Client, Server};
use interop_tests::process::local;
use interop_tests::relay::Relay;
use interop_tests::seen::{Feature, Role};
use interop_tests::sniffer::Sniffer;
use interop_tests::{ours, peers};
use serde_json::{Value, json};

const BOOTSTRAP: Psk<'_> = Psk { identity: "bootstrap-account", key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };
const MANAGEMENT: Psk<'_> = Psk { identity: "management-account", key: "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf" };

/// The suites with an ephemeral key exchange that both sides have.
const EPHEMERAL: [Suite; 2] = [Suite::EcdhePskAes128Ccm8, Suite::EcdhePskAes128Ccm];

/// Connection IDs towards Leshan, of as many bytes as the sniffer reads.
const WITH_ID: &str = "DTLS.CONNECTION_ID_LENGTH=6";
/// None towards Leshan, and the other side's.
const WITHOUT_ID: &str = "DTLS.CONNECTION_ID_LENGTH=0";

fn note(role: Role, feature: Feature) {
    if let Some(program) = peers::leshan() {
        program.seen("Leshan", role, &[feature]);
    }
}

/// A relay to `uri` and what it reads of the sessions under the key of the management account.
fn relay(uri: &str) -> (Relay, String, Arc<Mutex<Sniffer>>) {
    let sniffer = Arc::new(Mutex::new(Sniffer::new(&hex::decode(MANAGEMENT.key).unwrap())));
    let reads = Arc::clone(&sniffer);
    let relay = Relay::start(uri, move |from, datagram| reads.lock().unwrap().datagram(from, datagram));
    let uri = format!("coaps://{}", local(relay.port()));
    (relay, uri, sniffer)
}

/// Checks the handshakes so far, full and abbreviated, and that each record could be read.
fn check(sniffer: &Mutex<Sniffer>, handshakes: [usize; 2]) {
    let sniffer = sniffer.lock().unwrap();
    assert_eq!((sniffer.faults.as_slice(), sniffer.handshakes), (&[][..], handshakes));
}

fn read_at_ours(server: &ours::Server) {
    let read = server.must("GET", "/devices/device/objects/3/0/0", &Value::Null).to_string();
    assert!(read.contains("Reference Manufacturer"), "{read}");
}

fn read_at_leshan(server: &mut Server) {
    let read = server.ask("read device /3303/0/5700 TEXT");
    assert!(read.starts_with("205") && read.contains("FLOAT"), "{read}");
}

/// Our server with the management account of a device.
fn server() -> ours::Server {
    let server = ours::Server::start(&[]);
    let key = json!({ "identity": MANAGEMENT.identity, "key": MANAGEMENT.key });
    server.must("PUT", "/devices/device/credentials", &json!({ "management": key }));
    server
}

fn setting(suite: Suite) -> String {
    format!("DTLS.CIPHER_SUITES={}", suite.name())
}

#[test]
fn our_client_and_leshans_server_agree_on_an_ephemeral_key_as_the_bootstrap_server_wants() {
    for suite in EPHEMERAL {
        let Some(mut bootstrap) = BootstrapServer::start() else { return };
        let Some(mut server) = Server::start_with(&[&setting(suite)]) else { return };
        bootstrap.add("device", BOOTSTRAP);
        server.add("device", MANAGEMENT);
        bootstrap.plan_under("device", "TLV", &server.secure_uri(), MANAGEMENT, suite);
        let mut client = ours::Client::bootstrap("device", &bootstrap.secure_uri(), Some(BOOTSTRAP));
        client.process.wait_for_text(suite.name());
        server.wait_for("registered device");
        read_at_leshan(&mut server);
    }
    note(Role::Server, Feature::EcdhePsk);
}

#[test]
fn leshans_client_and_our_server_agree_on_an_ephemeral_key() {
    for suite in EPHEMERAL {
        if peers::leshan().is_none() {
            return;
        }
        let mut server = server();
        let uri = server.secure_uri();
        let Some(_client) = Client::start_with("device", &uri, Some(MANAGEMENT), &[&setting(suite)]) else {
            return;
        };
        server.wait_for(&["session-established", "device", suite.name()]);
        server.wait_for(&["registered", "device"]);
        read_at_ours(&server);
    }
    note(Role::Client, Feature::EcdhePsk);
}

#[test]
fn our_client_keeps_its_session_with_leshans_server_over_a_move_and_takes_it_up_after_a_crash() {
    let Some(mut server) = Server::start_with(&[WITH_ID]) else { return };
    server.add("device", MANAGEMENT);
    let (relay, uri, sniffer) = relay(&server.secure_uri());
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_string_lossy().into_owned();
    // Updates come soon with it.
    let arguments = ["--lifetime", "20", "--state", &state];
    let mut client = ours::Client::run("device", &uri, Some(MANAGEMENT), &arguments);
    server.wait_for("registered device");
    read_at_leshan(&mut server);
    check(&sniffer, [1, 0]);

    // Leshan asks a device at the address of its last Update.
    let moved = format!("port={}", relay.translate());
    while !server.wait_for("updated device").ends_with(&moved) {}
    read_at_leshan(&mut server);
    check(&sniffer, [1, 0]);
    note(Role::Server, Feature::ConnectionId);

    client.process.kill();
    let _client = ours::Client::run("device", &uri, Some(MANAGEMENT), &arguments);
    server.wait_for("registered device");
    read_at_leshan(&mut server);
    check(&sniffer, [1, 1]);
    note(Role::Server, Feature::Resumption);
}

#[test]
fn leshans_client_keeps_its_session_with_our_server_over_a_move_and_takes_it_up_again() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = server();
    let (relay, uri, sniffer) = relay(&server.secure_uri());
    let settings = [WITHOUT_ID];
    let Some(mut client) = Client::start_with("device", &uri, Some(MANAGEMENT), &settings) else { return };
    server.wait_for(&["registered", "device"]);
    server.must("POST", "/devices/device/observations", &json!({ "path": "/3303/0/5700" }));
    check(&sniffer, [1, 0]);

    let moved = relay.translate();
    client.process.say("temperature 33.25");
    server.wait_for(&["address-changed", "device", &local(moved).to_string()]);
    server.wait_for(&["notification", "device", "33.25"]);
    read_at_ours(&server);
    check(&sniffer, [1, 0]);
    note(Role::Client, Feature::ConnectionId);

    client.process.say("resume");
    server.wait_for(&["session-established", "device", "\"full\":false"]);
    client.wait_for("updated");
    read_at_ours(&server);
    check(&sniffer, [1, 1]);
    note(Role::Client, Feature::Resumption);
}
