//! Leshan 2.0.0-M18 (server, client) and 2.0.0-M14 (bootstrap server), the reference implementation, over UDP on loopback.

use interop_tests::leshan::{BootstrapServer, Client, Psk, Server};

const BOOTSTRAP: Psk<'_> = Psk { identity: "bootstrap-account", key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };
const MANAGEMENT: Psk<'_> = Psk { identity: "management-account", key: "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf" };

/// Not about this project: when this fails, the peers or the machine are broken, and no other test here says anything.
#[test]
fn the_reference_implementation_bootstraps_registers_and_is_managed_by_itself() {
    let Some(mut bootstrap) = BootstrapServer::start() else {
        return;
    };
    let Some(mut server) = Server::start() else {
        return;
    };
    bootstrap.add("device", BOOTSTRAP);
    server.add("device", MANAGEMENT);
    bootstrap.plan("device", "TLV", &server.secure_uri(), Some(MANAGEMENT));
    let Some(mut client) = Client::bootstrap("device", &bootstrap.secure_uri(), Some(BOOTSTRAP)) else {
        return;
    };
    client.wait_for("bootstrapped");
    let registered = server.wait_for("registered device");
    assert!(registered.contains("management-account"), "{registered}");
    let read = server.ask("read device /3/0/0");
    assert!(read.starts_with("205") && read.contains("Reference Manufacturer"), "{read}");
    client.process.say("stop");
    server.wait_for("unregistered device expired=false");
}
