//! Leshan 2.0.0-M18 (server, client) and 2.0.0-M14 (bootstrap server), the reference implementation, over UDP on loopback.

use interop_tests::leshan::{BootstrapServer, Client, Psk, Server};
use interop_tests::ours;

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

/// Reads, writes, observes and executes at our client through Leshan's server.
fn manage(server: &mut Server, device: &str) {
    let read = server.ask(&format!("read {device} /3/0 TLV"));
    assert!(read.starts_with("205 LwM2mObjectInstance"), "{read}");
    let read = server.ask(&format!("read {device} /3303/0/5700 TEXT"));
    assert!(read.starts_with("205") && read.contains("FLOAT"), "{read}");
    for format in ["TLV", "SENML_CBOR"] {
        let read = server.ask(&format!("read {device} /3303 {format}"));
        assert!(read.starts_with("205 LwM2mObject "), "{format}: {read}");
        let written = server.ask(&format!("write {device} /3/0/14 {format} text +02:00"));
        assert!(written.starts_with("204"), "{format}: {written}");
        let read = server.ask(&format!("read {device} /3/0/14 {format}"));
        assert!(read.contains("+02:00"), "{format}: {read}");
    }
    assert!(server.ask(&format!("write {device} /3/0/14 TEXT text +03:00")).starts_with("204"));
    assert!(server.ask(&format!("write {device} /3/0/0 TEXT text other")).starts_with("405"));
    assert!(server.ask(&format!("read {device} /3/0/999 -")).starts_with("404"));
    assert!(server.ask(&format!("read {device} /0 -")).starts_with("401"));

    let discovered = server.ask(&format!("discover {device} /3"));
    assert!(discovered.starts_with("205") && discovered.contains("</3/0/14>"), "{discovered}");
    assert!(server.ask(&format!("attributes {device} /3303/0/5700 pmin=1&pmax=2")).starts_with("204"));
    let discovered = server.ask(&format!("discover {device} /3303/0/5700"));
    assert!(discovered.contains("pmin=1") && discovered.contains("pmax=2"), "{discovered}");
    let observed = server.ask(&format!("observe {device} /3303/0/5700 SENML_CBOR"));
    assert!(observed.starts_with("205"), "{observed}");
    server.wait_for(&format!("notified {device} /3303/0/5700 205"));
    server.wait_for(&format!("notified {device} /3303/0/5700 205"));

    // A changed lifetime leads to an Update (LwM2M Core 1.1.1 §6.2.2).
    assert!(server.ask(&format!("update {device} /1/0 TLV 1 integer 120")).starts_with("204"));
    let updated = server.wait_for(&format!("updated {device}"));
    assert!(updated.contains("given=120"), "{updated}");
    // So does Registration Update Trigger.
    assert!(server.ask(&format!("execute {device} /1/0/8")).starts_with("204"));
    server.wait_for(&format!("updated {device}"));
}

#[test]
fn our_client_registers_at_leshan_without_security_and_is_managed() {
    let Some(mut server) = Server::start() else { return };
    let mut client = ours::Client::start("plain", &server.uri(), None);
    let registered = server.wait_for("registered plain");
    assert!(registered.contains("lifetime=300 version=1.1 binding=[U]"), "{registered}");
    assert!(registered.contains("</3/0>") && !registered.contains("</0"), "{registered}");
    manage(&mut server, "plain");
    client.process.interrupt();
    server.wait_for("unregistered plain expired=false");
    assert_eq!(client.process.wait_for_exit(), Some(0));
}

#[test]
fn our_client_registers_at_leshan_over_dtls_and_is_managed() {
    let Some(mut server) = Server::start() else { return };
    server.add("secured", MANAGEMENT);
    let mut client = ours::Client::start("secured", &server.secure_uri(), Some(MANAGEMENT));
    let registered = server.wait_for("registered secured");
    assert!(registered.contains(MANAGEMENT.identity), "{registered}");
    manage(&mut server, "secured");
    client.process.interrupt();
    server.wait_for("unregistered secured expired=false");
    assert_eq!(client.process.wait_for_exit(), Some(0));
}

#[test]
fn our_client_gives_up_with_a_reason_when_leshan_has_another_key() {
    let Some(mut server) = Server::start() else { return };
    server.add("stranger", MANAGEMENT);
    let wrong = Psk { key: BOOTSTRAP.key, ..MANAGEMENT };
    let arguments = ["--give-up", "5"];
    let mut client = ours::Client::run("stranger", &server.secure_uri(), Some(wrong), &arguments);
    assert_eq!(client.process.wait_for_exit(), Some(3));
    assert!(client.process.log().contains("giving up"), "{}", client.process.log());
}

#[test]
fn our_client_takes_its_accounts_from_leshans_bootstrap_server_and_registers() {
    // Each format in which Leshan writes the accounts, and both kinds of account.
    for (format, secured) in [("TLV", true), ("SENML_CBOR", true), ("TLV", false)] {
        let Some(mut bootstrap) = BootstrapServer::start() else { return };
        let Some(mut server) = Server::start() else { return };
        let mut client = if secured {
            bootstrap.add("device", BOOTSTRAP);
            server.add("device", MANAGEMENT);
            bootstrap.plan("device", format, &server.secure_uri(), Some(MANAGEMENT));
            ours::Client::bootstrap("device", &bootstrap.secure_uri(), Some(BOOTSTRAP))
        } else {
            bootstrap.plan("device", format, &server.uri(), None);
            ours::Client::bootstrap("device", &bootstrap.uri(), None)
        };
        bootstrap.wait_for("finished device");
        assert!(bootstrap.process.log().contains("done BootstrapFinishRequest null 204"));
        server.wait_for("registered device lifetime=300");
        let read = server.ask("read device /1/0/0 TEXT");
        assert!(read.contains("value=123"), "{read}");
        manage(&mut server, "device");
        client.process.interrupt();
        server.wait_for("unregistered device expired=false");
        assert_eq!(client.process.wait_for_exit(), Some(0));
    }
}
