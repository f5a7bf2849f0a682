//! GnuTLS 3.7.9 (`gnutls-cli`, `gnutls-serv`) in both roles: DTLS 1.2, PSK_WITH_AES_128_CCM_8.

use std::io::Write;

use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_udp_port, local, socket};

const IDENTITY: &str = "urn-dev-ops-1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const PRIORITY: &str = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8";

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

#[test]
fn our_client_talks_to_a_gnutls_server() {
    let Some(program) = peers::gnutls("gnutls-serv") else { return };
    let mut keys = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    writeln!(keys, "{IDENTITY}:{KEY}").expect("it can be written");
    let port = free_udp_port();
    let mut command = program.command();
    command.args(["--udp", "--echo", "--priority", PRIORITY, "--port", &port.to_string(), "--pskpasswd"]);
    command.arg(keys.path());
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("listening on IPv4");

    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Secure::client(socket, IDENTITY.as_bytes(), &key());
    client.establish().expect("both have the key");
    client.send(b"from the client\n");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    client.close();
}

#[test]
fn a_gnutls_client_talks_to_our_server() {
    let Some(program) = peers::gnutls("gnutls-cli") else { return };
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port().to_string();
    let mut command = program.command();
    command.args(["--udp", "--priority", PRIORITY, "--pskusername", IDENTITY, "--pskkey", KEY]);
    command.args(["--port", &port, "127.0.0.1"]);
    let mut client = Process::spawn(program.name, command);
    let mut server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
    server.establish().expect("both have the key");
    client.wait_for_text("Handshake was completed");
    client.say("from the client");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    server.send(b"from the server\n");
    client.wait_for_text("from the server");
}
