//! libcoap 4.3.1 (`coap-client-notls`, `coap-server-notls`) in both roles, over UDP on loopback.

use std::io::Write;

use interop_tests::coap::{Client, Listener, Server};
use interop_tests::peers::{self, Program};
use interop_tests::process::{Process, free_udp_port, local, socket};
use lwm2m_coap::Code;

fn large() -> Vec<u8> {
    (0..700).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

/// Runs one request of libcoap's client against our server; returns what it printed and what `/store` holds then.
fn request(program: &Program, store: &[u8], arguments: &[&str], path: &str) -> (String, Vec<u8>) {
    let socket = socket();
    let mut command = program.command();
    let uri = format!("coap://{}{path}", socket.local_addr().expect("a bound socket"));
    command.args(arguments).arg(uri);
    let mut client = Process::spawn(program.name, command);
    let mut server = Server::new(Listener::new(&socket), store);
    server.run(|_| client.has_ended());
    (client.wait_for_end(), server.store().to_vec())
}

#[test]
fn our_client_reads_writes_in_blocks_and_observes_a_libcoap_server() {
    let Some(program) = peers::libcoap("coap-server-notls") else { return };
    let port = free_udp_port();
    let mut command = program.command();
    command.args(["-A", "127.0.0.1", "-p", &port.to_string(), "-v", "7"]);
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("created UDP");

    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Client::new(socket);
    assert!(client.get("/").text().contains("libcoap"), "{}", client.get("/").text());
    assert_eq!(client.get("/absent").code, Code::NOT_FOUND);
    assert!(client.get("/.well-known/core").text().contains("</time>"));

    let stored = client.send(Code::PUT, "/example_data", &large());
    assert!(stored.code.is_success(), "{stored:?}");
    assert!(stored.messages > 1, "the body went in {} messages", stored.messages);
    let read = client.get("/example_data");
    assert!(read.body == large(), "{read:?}");
    client.set_block_size(64);
    let read = client.get("/example_data");
    assert!(read.body == large() && read.messages == large().len().div_ceil(64), "{read:?}");

    let first = client.observe("/time");
    assert_eq!(first.code, Code::CONTENT);
    let (one, two) = (client.notification("/time"), client.notification("/time"));
    assert!(one.observe < two.observe, "{one:?} {two:?}");
    let ended = client.cancel("/time");
    assert_eq!((ended.code, ended.observe), (Code::CONTENT, None));
}

#[test]
fn a_libcoap_client_reads_writes_in_blocks_and_observes_our_server() {
    let Some(program) = peers::libcoap("coap-client-notls") else { return };
    assert_eq!(request(&program, b"content", &["-m", "get"], "/store").0, "content");
    assert!(request(&program, b"", &["-m", "get"], "/absent").0.contains("4.04"));
    assert_eq!(request(&program, b"", &["-m", "post", "-e", "hello"], "/echo").0, "hello");

    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(&large()).expect("it can be written");
    let name = file.path().to_string_lossy().into_owned();
    for size in ["64", "1024"] {
        let (printed, store) = request(&program, b"", &["-m", "put", "-b", size, "-f", &name], "/store");
        assert!(store == large(), "{printed}");
        let (printed, _) = request(&program, &large(), &["-m", "get", "-b", size], "/store");
        assert!(printed.trim_end().as_bytes() == large().trim_ascii_end(), "{printed}");
    }
}

#[test]
fn a_libcoap_client_is_notified_by_our_server_until_it_cancels() {
    let Some(program) = peers::libcoap("coap-client-notls") else { return };
    let socket = socket();
    let mut command = program.command();
    command.args(["-m", "get", "-s", "2"]);
    command.arg(format!("coap://{}/store", socket.local_addr().expect("a bound socket")));
    let mut client = Process::spawn(program.name, command);
    let mut server = Server::new(Listener::new(&socket), b"first\n");
    server.run(|_| client.try_line().is_some_and(|line| line == "first") || client.has_ended());
    assert!(server.is_observed(), "{}", client.log());
    server.set_store(b"second\n");
    server.run(|_| client.try_line().is_some_and(|line| line == "second") || client.has_ended());
    assert_eq!(client.log(), "first\nsecond");
    // After its two seconds the client deregisters.
    server.run(|server| !server.is_observed() || client.has_ended());
    server.run(|_| client.has_ended());
    assert!(!server.is_observed());
}
