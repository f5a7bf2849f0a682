//! Our client under OSCORE with the servers of Leshan 2.0.0-M14, the last ones that speak it, over UDP on loopback.

use interop_tests::process::{Process, free_port, local};
use interop_tests::seen::{Feature, Role};
use interop_tests::{ours, peers};

#[test]
fn our_client_is_bootstrapped_and_managed_by_leshan_under_oscore() {
    for format in ["TLV", "SENML_CBOR"] {
        let Some(program) = peers::leshan_bootstrap() else { return };
        let (boot, secret) = ("17".repeat(16), "42".repeat(16));
        let ports = [free_port(), free_port()];
        let mut command = program.command();
        command
            .arg("Oscore")
            .args(ports.map(|port| port.to_string()))
            .args(["meter", format, &boot, &secret]);
        let mut servers = Process::spawn("leshan-oscore", command);
        servers.wait_for_text("ready");
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        let state = state.path().display().to_string();
        let context = ["--oscore-secret", &boot, "--oscore-sender", "03", "--oscore-recipient", "04"];
        let uri = format!("coap://{}", local(ports[0]));
        let more = ["--bootstrap", "--state", &state];
        let client = ours::Client::run("meter", &uri, None, &[&context[..], &more].concat());
        servers.wait_for_text("registered meter");
        let read = servers.wait_for("read", |line| line.starts_with("read").then(|| line.to_owned()));
        assert!(read.contains("CONTENT(205)"), "{read}");
        let observed =
            servers.wait_for("observe", |line| line.starts_with("observe").then(|| line.to_owned()));
        assert!(observed.contains("CONTENT(205)") && observed.contains("SingleObservation"), "{observed}");
        let written = servers.wait_for("write", |line| line.starts_with("write").then(|| line.to_owned()));
        assert!(written.contains("CHANGED(204)"), "{written}");
        // The written lifetime is told by an Update.
        servers.wait_for_text("updated meter");
        client.process.interrupt();
        servers.wait_for_text("unregistered meter expired=false");
        program.seen("Leshan", Role::Server, &[Feature::Oscore]);
    }
}
