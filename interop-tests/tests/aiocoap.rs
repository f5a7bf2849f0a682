//! aiocoap 0.4.17 in both roles, over UDP on loopback.

use interop_tests::coap::{Client, Listener, Server};
use interop_tests::peers;
use interop_tests::process::{Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::Code;

fn large() -> Vec<u8> {
    (0..700).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

#[test]
fn our_client_reads_writes_in_blocks_and_observes_an_aiocoap_server() {
    let Some(program) = peers::aiocoap() else { return };
    let port = free_port();
    let mut command = program.command();
    command.arg(peers::source("aiocoap/server.py")).arg(port.to_string());
    let mut server = Process::spawn("aiocoap server", command);
    server.wait_for_text("ready");

    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Client::new(socket);
    assert_eq!(client.get("/store").text(), "empty");
    assert_eq!(client.get("/absent").code, Code::NOT_FOUND);
    assert_eq!(client.send(Code::POST, "/echo", b"hello").text(), "hello");

    let stored = client.send(Code::PUT, "/store", &large());
    assert_eq!(stored.code, Code::CHANGED);
    assert!(stored.messages > 1, "the body went in {} messages", stored.messages);
    let read = client.get("/store");
    assert!(read.body == large() && read.messages > 1, "{read:?}");
    client.set_block_size(64);
    let read = client.get("/store");
    assert!(read.body == large() && read.messages == large().len().div_ceil(64), "{read:?}");
    client.set_block_size(1024);

    // aiocoap answers a registration in one datagram, however large.
    assert_eq!(client.send(Code::PUT, "/store", b"small").code, Code::CHANGED);
    let first = client.observe("/store");
    assert_eq!((first.code, first.text().as_str()), (Code::CONTENT, "small"));
    assert!(first.observe.is_some());
    assert_eq!(client.send(Code::PUT, "/store", b"changed").code, Code::CHANGED);
    // aiocoap may notify before it answers the PUT; the client then acknowledged a state that is still the newest.
    assert_eq!(client.get("/store").text(), "changed");
    let ended = client.cancel("/store");
    assert_eq!((ended.code, ended.observe), (Code::CONTENT, None));

    // RFC 8132
    assert_eq!(client.send(Code::IPATCH, "/store", b"+").code, Code::CHANGED);
    assert_eq!(client.send(Code::FETCH, "/store", b"what").text(), "changed+");
    assert_eq!(client.send(Code::PATCH, "/store", b"x").code, Code::METHOD_NOT_ALLOWED);
    // RFC 9175 §2.3
    let fresh = client.send(Code::POST, "/fresh", b"x");
    assert_eq!((fresh.code, fresh.text().as_str(), fresh.messages), (Code::CHANGED, "fresh", 2));
    program.seen("aiocoap", Role::Server, &[Feature::Coap, Feature::Blocks, Feature::Observe]);
}

#[test]
fn an_aiocoap_client_reads_writes_in_blocks_and_observes_our_server() {
    let Some(program) = peers::aiocoap() else { return };
    let socket = socket();
    let uri = format!("coap://{}", socket.local_addr().expect("a bound socket"));
    let mut command = program.command();
    command.arg(peers::source("aiocoap/client.py")).arg(uri);
    let mut client = Process::spawn("aiocoap client", command);

    let mut server = Server::new(Listener::new(&socket), b"");
    let mut run_until = |server: &mut Server<Listener>, text: &str| {
        server.run(|_| client.try_line().is_some_and(|line| line.contains(text)) || client.has_ended());
        assert!(client.log().contains(text), "{text}:\n{}", client.log());
    };
    run_until(&mut server, "put 2.04 Changed");
    run_until(&mut server, "get 2.05 Content True");
    run_until(&mut server, "absent 4.04 Not Found");
    run_until(&mut server, "echo 2.04 Changed hello");
    run_until(&mut server, "fetch 2.05 Content True");
    run_until(&mut server, "ipatch 2.04 Changed");
    run_until(&mut server, "patch 4.05 Method Not Allowed");
    run_until(&mut server, "fresh 4.01 Unauthorized");
    run_until(&mut server, "fresh 2.04 Changed fresh");
    server.set_block_size(32);
    run_until(&mut server, "smaller 2.05 Content True");
    server.set_block_size(1024);
    run_until(&mut server, "observing 2.05 Content");
    server.set_store(b"first");
    run_until(&mut server, "notified first");
    server.set_store(b"end");
    run_until(&mut server, "notified end");
    program.seen("aiocoap", Role::Client, &[Feature::Coap, Feature::Blocks, Feature::Observe]);
}
