//! libcoap 4.3.1 (`coap-client-notls`, `coap-server-notls`) in both roles, over UDP on loopback.

use std::io::Write;
use std::time::Duration;

use interop_tests::coap::{Client, Listener, Server};
use interop_tests::peers::{self, Program};
use interop_tests::process::{Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::Code;

fn large() -> Vec<u8> {
    (0..700).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

/// Runs one request of libcoap's client against our server; returns what it printed and what `/store` holds then.
fn request(program: &Program, store: &[u8], arguments: &[&str], path: &str) -> (String, Vec<u8>) {
    let (printed, server) = serve(program, store, arguments, path, |_| {});
    (printed, server.store().to_vec())
}

/// The same against a server that is set up before; returns the server.
fn serve(
    program: &Program,
    store: &[u8],
    arguments: &[&str],
    path: &str,
    set_up: impl FnOnce(&mut Server<Listener>),
) -> (String, Server<Listener>) {
    let socket = socket();
    let mut command = program.command();
    let uri = format!("coap://{}{path}", socket.local_addr().expect("a bound socket"));
    command.args(arguments).arg(uri);
    let mut client = Process::spawn(program.name, command);
    let mut server = Server::new(Listener::new(&socket), store);
    set_up(&mut server);
    server.run(|_| client.has_ended());
    (client.wait_for_end(), server)
}

#[test]
fn our_client_reads_writes_in_blocks_and_observes_a_libcoap_server() {
    let Some(program) = peers::libcoap("coap-server-notls") else { return };
    let port = free_port();
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

    // RFC 7641 §3.6: a Reset ends an observation too. It notifies each second: after the rejected one there is none.
    client.observe("/time");
    client.notification("/time");
    assert_eq!(client.forget(Duration::from_millis(3500)), 1);

    // RFC 7967: the server acknowledges, and says nothing more.
    client.tell(Code::PUT, "/example_data", b"told");
    assert_eq!(client.get("/example_data").text(), "told");
    program.seen("libcoap", Role::Server, &[Feature::Coap, Feature::Blocks, Feature::Observe]);
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
    program.seen("libcoap", Role::Client, &[Feature::Coap, Feature::Blocks]);
}

#[test]
fn a_libcoap_client_fetches_patches_and_takes_smaller_blocks_than_it_asked_for() {
    let Some(program) = peers::libcoap("coap-client-notls") else { return };
    assert_eq!(request(&program, b"content", &["-m", "fetch", "-e", "what"], "/store").0, "content");
    assert_eq!(request(&program, b"one", &["-m", "ipatch", "-e", "two"], "/store").1, b"onetwo");
    assert!(request(&program, b"", &["-m", "patch", "-e", "x"], "/store").0.contains("4.05"));

    // RFC 7959 §2.4, §2.5: we want blocks of 32, whatever it begins with.
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let body = large().get(..1500).unwrap_or_default().to_vec();
    file.write_all(&body).expect("it can be written");
    let name = file.path().to_string_lossy().into_owned();
    let small = |server: &mut Server<Listener>| server.set_block_size(32);
    let (printed, server) = serve(&program, b"", &["-m", "put", "-b", "256", "-f", &name], "/store", small);
    assert!(server.store() == body, "{printed}");
    let (printed, _) = serve(&program, &body, &["-m", "get", "-b", "256"], "/store", small);
    assert!(printed.trim_end().as_bytes() == body.trim_ascii_end(), "{printed}");
}

#[test]
fn a_libcoap_client_repeats_its_request_with_our_echo() {
    // RFC 9175 §2.3
    let Some(program) = peers::libcoap("coap-client-notls") else { return };
    let (printed, server) = serve(&program, b"", &["-m", "post", "-e", "x"], "/fresh", |_| {});
    assert_eq!((printed.as_str(), server.fresh()), ("fresh", [1, 1]));
}

#[test]
fn a_libcoap_client_that_wants_no_response_gets_none() {
    // RFC 7967 §2
    let Some(program) = peers::libcoap("coap-client-notls") else { return };
    for arguments in [&["-N"][..], &[]] {
        let arguments = [arguments, &["-m", "put", "-B", "2", "-O", "258,0x1a", "-e", "told"]].concat();
        let (printed, store) = request(&program, b"", &arguments, "/store");
        assert_eq!((printed.as_str(), store.as_slice()), ("", &b"told"[..]));
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
    program.seen("libcoap", Role::Client, &[Feature::Observe]);
}
