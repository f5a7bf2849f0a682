//! OpenSSL 3.0 (`openssl s_server`, `openssl s_client`) in both roles: DTLS 1.2, PSK_WITH_AES_128_CCM_8.

use dtls_psk::Reason;
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_udp_port, local, socket};

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";
// CCM_8 has a short tag, so OpenSSL offers it only at level 0.
const SUITE: &str = "PSK-AES128-CCM8:@SECLEVEL=0";

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

fn server(arguments: &[&str]) -> Option<(Process, u16)> {
    let program = peers::openssl()?;
    let port = free_udp_port();
    let mut command = program.command();
    command.args(["s_server", "-dtls1_2", "-nocert", "-accept", &local(port).to_string(), "-cipher", SUITE]);
    command.args(["-psk_identity", IDENTITY, "-psk", KEY]).args(arguments);
    let mut server = Process::spawn("openssl s_server", command);
    server.wait_for_text("ACCEPT");
    Some((server, port))
}

/// Returns a connection to a server at `port`, its handshake not yet begun.
fn connect(port: u16, key: &[u8]) -> Secure<std::net::UdpSocket> {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    Secure::client(socket, IDENTITY.as_bytes(), key)
}

fn exchange_lines_and_close(arguments: &[&str]) {
    let Some((mut server, port)) = server(arguments) else { return };
    let mut client = connect(port, &key());
    client.establish().expect("both have the key");
    client.send(b"from the client\n");
    server.wait_for_text("from the client");
    server.say("from the server");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
    client.close();
    server.wait_for_text("DONE");
}

#[test]
fn our_client_talks_to_an_openssl_server() {
    exchange_lines_and_close(&[]);
}

#[test]
fn our_client_answers_the_cookie_of_an_openssl_server() {
    exchange_lines_and_close(&["-listen"]);
}

#[test]
fn our_client_takes_the_identity_hint_of_an_openssl_server() {
    exchange_lines_and_close(&["-psk_hint", "a hint"]);
}

#[test]
fn our_client_is_refused_by_an_openssl_server_with_another_key() {
    let Some((_server, port)) = server(&[]) else { return };
    let mut client = connect(port, &[7; 16]);
    let reason = client.establish().expect_err("the keys differ").expect("an alert comes, or time passes");
    assert!(matches!(reason, Reason::PeerAlert(_) | Reason::FinishedUnanswered), "{reason}");
}

fn openssl_client(key: &str, suite: &str) -> Option<(Process, Secure<Listener>)> {
    let program = peers::openssl()?;
    let socket = socket();
    let address = socket.local_addr().expect("a bound socket").to_string();
    let mut command = program.command();
    command.args(["s_client", "-dtls1_2", "-connect", &address, "-cipher", suite]);
    command.args(["-psk_identity", IDENTITY, "-psk", key]);
    let client = Process::spawn("openssl s_client", command);
    let server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &self::key())]);
    Some((client, server))
}

#[test]
fn an_openssl_client_talks_to_our_server() {
    // With all the PSK suites it knows, ours among them, and with ours alone.
    for suite in [SUITE, "PSK:@SECLEVEL=0"] {
        let Some((mut client, mut server)) = openssl_client(KEY, suite) else { return };
        server.establish().expect("both have the key");
        client.wait_for_text("PSK-AES128-CCM8");
        client.wait_for_text("Extended master secret: yes");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server\n");
        client.wait_for_text("from the server");
        client.say("Q");
        assert_eq!(server.wait_for_close(), Reason::PeerClosed);
    }
}

#[test]
fn an_openssl_client_with_another_key_gets_no_connection() {
    let Some((_client, mut server)) = openssl_client("ffffffffffffffffffffffffffffffff", SUITE) else {
        return;
    };
    assert_eq!(server.establish(), Err(Some(Reason::WrongKey)));
    assert_eq!(server.established(), 0);
}
