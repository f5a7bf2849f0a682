//! Californium 4.0.0-M6 over its Scandium, in both roles: CoAP in blocks and with notifications inside of DTLS 1.2 with a
//! pre-shared key.

use std::time::Instant;

use interop_tests::coap::{Client, Listener, Server};
use interop_tests::dtls::Secure;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::Code;

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

fn start(role: &str, port: u16) -> Option<Process> {
    let mut command = peers::scandium()?.command();
    command.args(["Coap", role, &port.to_string(), IDENTITY, KEY]);
    let mut process = Process::spawn("californium", command);
    process.wait_for("ready", |line| (line == "ready").then_some(()));
    Some(process)
}

fn note(role: Role) {
    if let Some(program) = peers::scandium() {
        program.seen("Scandium", role, &[Feature::Coap, Feature::Blocks, Feature::Observe]);
    }
}

/// What goes in more than one block, a text without line breaks.
fn large(digits: &str) -> String {
    digits.repeat(300)
}

#[test]
fn our_client_reads_writes_in_blocks_and_observes_a_californium_server() {
    let port = free_port();
    let Some(mut server) = start("server", port) else { return };
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut secure = Secure::client(socket, IDENTITY.as_bytes(), &key());
    assert_eq!(secure.establish(), Ok(()), "{}", server.log());
    let mut client = Client::new(secure);
    assert_eq!(client.get("/absent").code, Code::NOT_FOUND);

    let body = large("0123456789");
    let stored = client.send(Code::PUT, "/store", body.as_bytes());
    assert!(stored.code == Code::CHANGED && stored.messages > 1, "{stored:?}");
    let read = client.get("/store");
    assert!(read.text() == body && read.messages > 1, "{read:?}");
    client.set_block_size(64);
    let read = client.get("/store");
    assert!(read.text() == body && read.messages == body.len().div_ceil(64), "{read:?}");

    let first = client.observe("/store");
    assert!(first.text() == body && first.observe.is_some(), "{first:?}");
    server.say("short");
    let next = client.notification("/store");
    assert_eq!((next.text().as_str(), next.observe > first.observe), ("short", true));
    let changed = large("abcdefghij");
    server.say(&changed);
    let next = client.notification("/store");
    assert!(next.text() == changed && next.messages > 1, "{next:?}");
    let ended = client.cancel("/store");
    assert_eq!((ended.code, ended.observe), (Code::CONTENT, None));
    note(Role::Server);
}

/// Serves until the client prints the line.
fn serve_until(server: &mut Server<Secure<Listener>>, client: &mut Process, line: &str) {
    let began = Instant::now();
    server.run(|_| client.try_line().is_some_and(|printed| printed == line) || began.elapsed() > PATIENCE);
    assert!(client.log().ends_with(line), "{line}\n{}", client.log());
}

#[test]
fn a_californium_client_reads_writes_in_blocks_and_observes_our_server() {
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port();
    let Some(mut client) = start("client", port) else { return };
    let body = large("0123456789");
    client.say(&format!("put {body}"));
    let mut secure = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
    assert_eq!(secure.establish(), Ok(()), "{}", client.log());
    let mut server = Server::new(secure, b"before");
    serve_until(&mut server, &mut client, "2.04");
    assert_eq!(String::from_utf8_lossy(server.store()), body);
    client.say("get");
    serve_until(&mut server, &mut client, &format!("2.05 {body}"));
    client.say("observe");
    serve_until(&mut server, &mut client, &format!("2.05 {body}"));
    assert!(server.is_observed());
    server.set_store(b"short");
    serve_until(&mut server, &mut client, "2.05 short");
    let changed = large("abcdefghij");
    server.set_store(changed.as_bytes());
    serve_until(&mut server, &mut client, &format!("2.05 {changed}"));
    client.say("cancel");
    let began = Instant::now();
    server.run(|server| !server.is_observed() || began.elapsed() > PATIENCE);
    assert!(!server.is_observed(), "{}", client.log());
    note(Role::Client);
}
