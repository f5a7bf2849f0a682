//! GnuTLS 3.7.9 (`gnutls-cli`, `gnutls-serv`) in both roles: DTLS 1.2 with every PSK suite that both sides have.

use std::io::Write;

use dtls_psk::{Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::peers::{self, Program};
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use tempfile::NamedTempFile;

const IDENTITY: &str = "urn-dev-ops-1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

const CCM_8: &str = "+PSK:+AES-128-CCM-8:+AEAD";

/// The suites that GnuTLS has, as priorities; those of CBC with encrypt-then-mac and without.
const SUITES: &[(Suite, &str)] = &[
    (Suite::PskAes128Ccm8, CCM_8),
    (Suite::PskAes128Ccm, "+PSK:+AES-128-CCM:+AEAD"),
    (Suite::PskAes128Gcm, "+PSK:+AES-128-GCM:+AEAD"),
    #[cfg(feature = "cbc")]
    (Suite::EcdhePskAes128CbcSha256, "+ECDHE-PSK:+AES-128-CBC:+SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::EcdhePskAes128CbcSha256, "+ECDHE-PSK:+AES-128-CBC:+SHA256:%NO_ETM"),
    // The same without P-256.
    #[cfg(feature = "cbc")]
    (Suite::EcdhePskAes128CbcSha256, "+ECDHE-PSK:+AES-128-CBC:+SHA256:-GROUP-ALL:+GROUP-X25519"),
    #[cfg(feature = "cbc")]
    (Suite::PskAes128CbcSha256, "+PSK:+AES-128-CBC:+SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::PskAes128CbcSha256, "+PSK:+AES-128-CBC:+SHA256:%NO_ETM"),
];

fn priority(suite: &str) -> String {
    format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:-CIPHER-ALL:-MAC-ALL:{suite}")
}

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

#[test]
fn our_client_talks_to_a_gnutls_server() {
    for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
        our_client_talks_under(*suite, name);
    }
}

/// A server that sends back what it gets, its port, and the file of its keys.
fn serve(name: &str) -> Option<(Program, Process, u16, NamedTempFile)> {
    let program = peers::gnutls("gnutls-serv")?;
    let mut keys = NamedTempFile::new().expect("a temporary file can be made");
    writeln!(keys, "{IDENTITY}:{KEY}").expect("it can be written");
    let port = free_port();
    let mut command = program.command();
    command.args([
        "--udp",
        "--echo",
        "--priority",
        &priority(name),
        "--port",
        &port.to_string(),
        "--pskpasswd",
    ]);
    command.arg(keys.path());
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("listening on IPv4");
    Some((program, server, port, keys))
}

fn our_client_talks_under(suite: Suite, name: &str) {
    let Some((program, _server, port, _keys)) = serve(name) else { return };
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Secure::client_offering(socket, IDENTITY.as_bytes(), &key(), &[suite]);
    assert_eq!(client.establish(), Ok(()), "{name}");
    client.send(b"from the client\n");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    client.close();
    let feature = if name.contains("ECDHE") { Feature::EcdhePsk } else { Feature::Psk };
    program.seen("GnuTLS", Role::Server, &[feature]);
}

#[test]
fn a_gnutls_client_talks_to_our_server() {
    // After a handshake of ECDHE_PSK, with `gnutls-serv` as well, `gnutls-cli` crashes when it looks for a name to print. For
    // the library in this role libcoap stands in, in `libcoap_dtls`.
    for (suite, name) in SUITES.iter().filter(|(_, name)| !name.contains("ECDHE")) {
        a_client_talks_under(*suite, name);
    }
}

fn a_client_talks_under(suite: Suite, name: &str) {
    let Some(program) = peers::gnutls("gnutls-cli") else { return };
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port().to_string();
    let mut command = program.command();
    command.args(["--udp", "--priority", &priority(name), "--pskusername", IDENTITY, "--pskkey", KEY]);
    command.args(["--port", &port, "127.0.0.1"]);
    let mut client = Process::spawn(program.name, command);
    let server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
    let mut server = server.with_suites(Suite::ALL);
    assert_eq!(server.establish(), Ok(()), "{name}");
    assert_eq!(server.suite(), Some(suite), "{name}");
    client.wait_for_text("Handshake was completed");
    client.say("from the client");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    server.send(b"from the server\n");
    client.wait_for_text("from the server");
    program.seen("GnuTLS", Role::Client, &[Feature::Psk]);
}

#[test]
fn a_gnutls_client_takes_up_its_session_with_our_server() {
    let Some(program) = peers::gnutls("gnutls-cli") else { return };
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port().to_string();
    let mut command = program.command();
    command.args(["--udp", "--resume", "--priority", &priority(CCM_8)]);
    command.args(["--pskusername", IDENTITY, "--pskkey", KEY, "--port", &port, "127.0.0.1"]);
    let mut client = Process::spawn(program.name, command);
    let mut server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
    assert_eq!(server.establish(), Ok(()));
    assert_eq!((server.wait_for_close(), server.resumed()), (Reason::PeerClosed, 0));
    assert_eq!((server.establish(), server.resumed()), (Ok(()), 1));
    client.wait_for_text("This is a resumed session");
    client.say("from the client");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    server.send(b"from the server\n");
    client.wait_for_text("from the server");
    program.seen("GnuTLS", Role::Client, &[Feature::Resumption]);
}

#[test]
fn our_client_takes_up_its_session_with_a_gnutls_server() {
    let Some((program, _server, port, _keys)) = serve(CCM_8) else { return };
    let connected = || {
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        socket
    };
    let mut first = Secure::client(connected(), IDENTITY.as_bytes(), &key());
    assert_eq!(first.establish(), Ok(()));
    first.send(b"first\n");
    assert_eq!(first.receive(PATIENCE).as_deref(), Some(&b"first\n"[..]));
    first.close();
    let session = first.session().expect("GnuTLS gives a session id");
    let mut second = Secure::client_resuming(connected(), IDENTITY.as_bytes(), &key(), session);
    assert_eq!((second.establish(), second.resumed()), (Ok(()), 1));
    second.send(b"second\n");
    assert_eq!(second.receive(PATIENCE).as_deref(), Some(&b"second\n"[..]));
    program.seen("GnuTLS", Role::Server, &[Feature::Resumption]);
}
