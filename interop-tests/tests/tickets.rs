//! Session tickets of `lwm2m-server` in the hands of OpenSSL 3.0 (`openssl s_client`): whoever has one has no more than its
//! credential has. Our client keeps no tickets.

use std::time::Instant;

use interop_tests::ours::Server;
use interop_tests::peers::{self, Program};
use interop_tests::process::{PATIENCE, Process};
use serde_json::json;

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_KEY: &str = "f0e0d0c0b0a090807060504030201000";

/// A device that keeps its session in a file.
struct Device {
    program: Program,
    name: &'static str,
    key: &'static str,
    folder: tempfile::TempDir,
}

impl Device {
    /// One that has a ticket, which it took up again once.
    fn new(program: &Program, server: &mut Server, name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut device = Self { program: program.clone(), name, key: KEY, folder };
        device.enrol(server, KEY);
        let mut first = device.connect(server, "-sess_out");
        server.wait_for(&["session-established", name, "\"full\":true"]);
        first.wait_for_text("TLS session ticket:");
        device.is_taken_up(server);
        device
    }

    /// Its identity is its name and the first digit of its key.
    fn identity(&self) -> String {
        format!("{}-{}", self.name, self.key.chars().next().unwrap_or_default())
    }

    fn enrol(&mut self, server: &Server, key: &'static str) {
        self.key = key;
        let account = json!({ "management": { "identity": self.identity(), "key": key } });
        server.must("PUT", &format!("/devices/{}/credentials", self.name), &account);
    }

    fn revoke(&self, server: &Server) {
        server.must(
            "POST",
            &format!("/devices/{}/credentials/revoke", self.name),
            &json!({ "reason": "lost" }),
        );
    }

    fn connect(&self, server: &Server, session: &str) -> Process {
        self.connect_as(server, &self.identity(), session)
    }

    fn connect_as(&self, server: &Server, identity: &str, session: &str) -> Process {
        let mut command = self.program.command();
        // CCM_8 has a short tag, so OpenSSL offers it only at level 0.
        command.args(["s_client", "-dtls1_2", "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0", "-connect"]);
        command.arg(server.secure_uri().trim_start_matches("coaps://"));
        command.args(["-psk_identity", identity, "-psk", self.key, session]);
        command.arg(self.folder.path().join("session"));
        Process::spawn("openssl s_client", command)
    }

    fn is_taken_up(&self, server: &mut Server) {
        let mut client = self.connect(server, "-sess_in");
        server.wait_for(&["session-established", self.name, "\"full\":false"]);
        client.wait_for_text("Reused, TLSv1.2");
    }

    /// The ticket leads to a handshake in which the identity is asked for; it gets nowhere.
    fn is_refused_as_an_identity(&self, server: &mut Server, reason: &str) {
        let _client = self.connect(server, "-sess_in");
        server.wait_for(&["handshake-refused", &self.identity(), reason]);
    }

    /// The ticket opens, and what it names is refused before anything else is taken from it.
    fn is_closed_at_once(&self, server: &mut Server, reason: &str) {
        let _client = self.connect(server, "-sess_in");
        server.wait_for(&["session-closed", self.name, reason]);
    }

    /// The ticket of a former credential is worth nothing, the present one everything.
    fn begins_anew(&self, server: &mut Server) {
        let mut client = self.connect(server, "-sess_in");
        server.wait_for(&["session-established", self.name, "\"full\":true"]);
        client.wait_for_text("New, TLSv1.2");
    }
}

/// How many handshakes the server has counted so far, and how many of them took a session up again.
fn handshakes(server: &Server) -> (u64, u64) {
    (server.counted("handshakes_finished"), server.counted("sessions_resumed"))
}

#[test]
fn a_ticket_ends_with_its_credential() {
    let Some(program) = peers::openssl() else { return };
    let mut server = Server::start(&[]);
    let mut device = Device::new(&program, &mut server, "lost");
    device.revoke(&server);
    let before = handshakes(&server);
    device.is_refused_as_an_identity(&mut server, "revoked");
    assert_eq!(handshakes(&server), before);
    device.enrol(&server, OTHER_KEY);
    device.begins_anew(&mut server);
    assert_eq!(handshakes(&server), (before.0.saturating_add(1), before.1));
}

#[test]
fn a_name_that_is_too_long_for_a_ticket_is_told_by_the_metrics_once_it_is_proven() {
    let Some(program) = peers::openssl() else { return };
    let mut server = Server::start(&[]);
    let name: &'static str = Box::leak("urn:dev:ops:".repeat(13).into_boxed_str());
    let folder = tempfile::tempdir().expect("a folder");
    let mut device = Device { program, name, key: OTHER_KEY, folder };
    let account = json!({ "management": { "identity": "long", "key": KEY } });
    server.must("PUT", &format!("/devices/{name}/credentials"), &account);
    let _stranger = device.connect_as(&server, "long", "-sess_out");
    let began = Instant::now();
    while server.counted("records_unauthenticated") == 0 {
        assert!(began.elapsed() < PATIENCE, "its Finished came, and does not verify");
    }
    assert_eq!(server.counted("tickets_too_long"), 0, "whoever knows the identity raises nothing");
    device.key = KEY;
    let _client = device.connect_as(&server, "long", "-sess_out");
    server.wait_for(&["session-established", name, "\"full\":true"]);
    assert_eq!(server.counted("tickets_too_long"), 1);
}

#[test]
fn a_ticket_of_a_credential_that_ended_before_a_restart_opens_no_session() {
    let Some(program) = peers::openssl() else { return };
    let mut server = Server::start(&[]);
    let good = Device::new(&program, &mut server, "good");
    let lost = Device::new(&program, &mut server, "lost");
    let mut replaced = Device::new(&program, &mut server, "replaced");
    lost.revoke(&server);
    replaced.revoke(&server);
    replaced.enrol(&server, OTHER_KEY);
    for is_planned in [false, true] {
        // What ended before is known from the store alone.
        server.restart(is_planned);
        good.is_taken_up(&mut server);
        for device in [&lost, &replaced] {
            device.is_closed_at_once(&mut server, "revoked");
        }
        // Once told it is known: a full handshake or none.
        lost.is_refused_as_an_identity(&mut server, "revoked");
        replaced.begins_anew(&mut server);
        assert_eq!(handshakes(&server), (4, 3));
    }
}
