//! Wakaama's client (LwM2M 1.0, TLV, tinydtls with one message in a record and without the extended master secret) at our
//! server: over UDP on loopback, without security and with a pre-shared key.

use std::sync::atomic::Ordering;

use interop_tests::account::Psk;
use interop_tests::process::{Process, local};
use interop_tests::relay::Relay;
use interop_tests::seen::{Feature, Role};
use interop_tests::{ours, peers};
use serde_json::{Value, json};

const BOOTSTRAP: Psk<'_> = Psk { identity: "bootstrap-account", key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };
const MANAGEMENT: Psk<'_> = Psk { identity: "management-account", key: "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf" };

/// Starts the client; it asks `uri` for its accounts first if that is a bootstrap server.
fn start(endpoint: &str, uri: &str, is_bootstrap: bool, psk: Option<Psk<'_>>) -> Option<Process> {
    let program = peers::wakaama(if psk.is_some() { "client-dtls" } else { "client" })?;
    let (_, authority) = uri.split_once("://")?;
    let (host, port) = authority.split_once(':')?;
    let mut command = program.command();
    command.args(["-4", "-n", endpoint, "-l", "0", "-h", host, "-p", port]);
    if is_bootstrap {
        command.arg("-b");
    }
    if let Some(psk) = psk {
        command.args(["-i", psk.identity, "-s", psk.key]);
    }
    Some(Process::spawn("wakaama", command))
}

/// Reads, writes, discovers and observes, then sees the client leave.
fn manage(server: &mut ours::Server, client: &mut Process, device: &str) {
    let path = |rest: &str| format!("/devices/{device}{rest}");
    let none = Value::Null;
    let read = server.must("GET", &path("/objects/3/0"), &none).to_string();
    assert!(read.contains("Open Mobile Alliance") && read.contains("3800"), "{read}");
    server.must("PUT", &path("/objects/3/0/14"), &json!("+05:00"));
    let read = server.must("GET", &path("/objects/3/0/14"), &none).to_string();
    assert!(read.contains("+05:00"), "{read}");
    let (refused, _) = server.ask("PUT", &path("/objects/3/0/0"), &json!("other"));
    assert!(!(200..300).contains(&refused), "{refused}");
    let (absent, _) = server.ask("GET", &path("/objects/3/0/999"), &none);
    assert!(!(200..300).contains(&absent), "{absent}");
    server.must("PUT", &path("/attributes/3/0/9"), &json!({ "pmin": 0, "pmax": 60 }));
    let discovered = server.must("GET", &path("/discover/3/0/9"), &none).to_string();
    assert!(discovered.contains("60"), "{discovered}");
    let observed = server.must("POST", &path("/observations"), &json!({ "path": "/3/0/9" })).to_string();
    assert!(observed.contains("100"), "{observed}");
    client.say("change /3/0/9 42");
    server.wait_for(&["notification", device, "42"]);
    client.say("quit");
    server.wait_for(&["deregistered", device]);
}

#[test]
fn wakaamas_client_registers_at_our_server_without_security_and_is_managed() {
    let Some(program) = peers::wakaama("client") else { return };
    let mut server = ours::Server::start(&["--allow-nosec"]);
    let Some(mut client) = start("plain", &server.uri(), false, None) else { return };
    server.wait_for(&["registered", "plain"]);
    manage(&mut server, &mut client, "plain");
    program.seen("Wakaama", Role::Client, &[Feature::Coap, Feature::Observe, Feature::Lwm2m]);
}

#[test]
fn wakaamas_client_takes_what_our_server_sends_in_blocks() {
    let Some(program) = peers::wakaama("client") else { return };
    let mut server = ours::Server::start(&["--allow-nosec"]);
    let (relay, blocks) = Relay::counting_blocks(&server.uri());
    let uri = format!("coap://{}", local(relay.port()));
    let Some(_client) = start("plain", &uri, false, None) else { return };
    server.wait_for(&["registered", "plain"]);
    // Without security a long message goes only to an address that has answered a short one.
    let read = server.must("GET", "/devices/plain/objects/3/0", &Value::Null).to_string();
    assert!(read.contains("Open Mobile Alliance"), "{read}");
    let package = json!({ "type": "opaque", "value": "0123456789".repeat(300) });
    server.must("PUT", "/devices/plain/objects/5/0/0", &package);
    let [sent, asked] = blocks.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(sent >= 4, "{sent} messages with Block1, {asked} with Block2");
    program.seen("Wakaama", Role::Client, &[Feature::Blocks]);
}

#[test]
fn wakaamas_client_takes_its_accounts_from_our_server_registers_over_dtls_and_is_managed() {
    let Some(program) = peers::wakaama("client-dtls") else { return };
    let mut server = ours::Server::start(&[]);
    let credentials = json!({
        "bootstrap": { "identity": BOOTSTRAP.identity, "key": BOOTSTRAP.key },
        "management": { "identity": MANAGEMENT.identity, "key": MANAGEMENT.key },
        "profile": { "server_uri": server.secure_uri(), "lifetime": 300, "binding": "U" },
    });
    server.must("PUT", "/devices/device/credentials", &credentials);
    let uri = server.secure_bootstrap_uri();
    let Some(mut client) = start("device", &uri, true, Some(BOOTSTRAP)) else { return };
    server.wait_for(&["bootstrap-finished", "device"]);
    server.wait_for(&["registered", "device"]);
    manage(&mut server, &mut client, "device");
    program.seen("Wakaama", Role::Client, &[Feature::Psk, Feature::Lwm2m, Feature::Bootstrap]);
}
