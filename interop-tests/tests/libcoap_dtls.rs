//! libcoap 4.3.1 over OpenSSL and over GnuTLS, in both roles: CoAP inside of DTLS 1.2 with a pre-shared key.

use std::net::UdpSocket;

use interop_tests::coap::{Client, Listener, Server};
use interop_tests::dtls::Secure;
use interop_tests::peers;
use interop_tests::process::{Process, free_udp_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::Code;

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "sixteen byte key";

fn our_client_reads_writes_and_observes(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    // The port with DTLS is the one after the port without.
    let port = free_udp_port();
    let mut command = program.command();
    command.args(["-A", "127.0.0.1", "-p", &port.to_string(), "-k", KEY, "-v", "7"]);
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("created DTLS");

    let socket = socket();
    socket.connect(local(port.saturating_add(1))).expect("loopback is reachable");
    let mut secure: Secure<UdpSocket> = Secure::client(socket, IDENTITY.as_bytes(), KEY.as_bytes());
    secure.establish().expect("both have the key");
    let mut client = Client::new(secure);
    assert!(client.get("/").text().contains("libcoap"));
    let body = "0123456789".repeat(300);
    assert!(client.send(Code::PUT, "/example_data", body.as_bytes()).code.is_success());
    let read = client.get("/example_data");
    assert!(read.text() == body, "{read:?}");
    let first = client.observe("/time");
    let next = client.notification("/time");
    assert!(first.observe.is_some() && next.observe.is_some(), "{first:?} {next:?}");
    let over = program.name.replace("coap-server-", "libcoap over ");
    let features = [Feature::Psk, Feature::Coap, Feature::Blocks, Feature::Observe];
    program.seen(&over, Role::Server, &features);
}

fn their_client_reads_and_writes(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let body = "0123456789".repeat(300);
    for (arguments, path, printed) in [
        (&["-m", "get"][..], "/store", body.as_str()),
        (&["-m", "post", "-e", "hello"], "/echo", "hello"),
        (&["-m", "get"], "/absent", "4.04"),
    ] {
        let socket = socket();
        let mut command = program.command();
        command.args(arguments).args(["-k", KEY, "-u", IDENTITY]);
        command.arg(format!("coaps://{}{path}", socket.local_addr().expect("a bound socket")));
        let mut client = Process::spawn(program.name, command);
        let keys = [(IDENTITY.as_bytes(), KEY.as_bytes())];
        let mut secure = Secure::server(Listener::new(&socket), &keys);
        secure.establish().expect("both have the key");
        let mut server = Server::new(secure, body.as_bytes());
        server.run(|_| client.has_ended());
        let output = client.wait_for_end();
        assert!(output.contains(printed), "{path}: {output}");
    }
    let over = program.name.replace("coap-client-", "libcoap over ");
    program.seen(&over, Role::Client, &[Feature::Psk, Feature::Coap, Feature::Blocks]);
}

#[test]
fn our_client_reads_writes_and_observes_a_libcoap_server_over_openssl() {
    our_client_reads_writes_and_observes("coap-server-openssl");
}

#[test]
fn our_client_reads_writes_and_observes_a_libcoap_server_over_gnutls() {
    our_client_reads_writes_and_observes("coap-server-gnutls");
}

#[test]
fn a_libcoap_client_over_openssl_reads_and_writes_our_server() {
    their_client_reads_and_writes("coap-client-openssl");
}

#[test]
fn a_libcoap_client_over_gnutls_reads_and_writes_our_server() {
    their_client_reads_and_writes("coap-client-gnutls");
}
