//! OSCORE (RFC 8613) with programs nobody here wrote, in both roles, over UDP on loopback: aiocoap, and Californium's cf-oscore.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use interop_tests::coap::{Client, Listener, Oscore, Server};
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::proxy::Proxy;
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::{Code, OptionNumber};
use oscore::{AeadAlgorithm, HmacAlgorithm, KeyId, MasterSecret, Parameters};

const SECRET: &str = "0102030405060708090a0b0c0d0e0f10";
const SALT: &str = "9e7ca92223786340";

/// What both ends are given. The first id is ours.
#[derive(Clone, Copy)]
struct Given {
    ids: [&'static str; 2],
    id_context: Option<&'static str>,
    aead: (i32, &'static str),
    hmac: (i32, &'static str),
}

const DEFAULT: Given =
    Given { ids: ["01", "02"], id_context: None, aead: (10, "AES-CCM-16-64-128"), hmac: (5, "sha256") };

impl Given {
    fn parameters(&self) -> Parameters {
        let bytes = |text| hex::decode(text).expect("hexadecimal");
        let [own, other] = self.ids.map(|id| KeyId::new(&bytes(id)).expect("a short id"));
        let secret = MasterSecret::new(&bytes(SECRET)).expect("a secret");
        let aead = AeadAlgorithm::from_cose(self.aead.0).expect("an algorithm of this build");
        let hmac = HmacAlgorithm::from_cose(self.hmac.0).expect("an algorithm of this build");
        let parameters = Parameters::new(secret, own, other).expect("different ids");
        let parameters = parameters.with_salt(&bytes(SALT)).expect("a short salt");
        let parameters = parameters.with_algorithms(aead, hmac).expect("ids that fit");
        match self.id_context {
            Some(id_context) => parameters.with_id_context(&bytes(id_context)).expect("a short ID Context"),
            None => parameters,
        }
    }

    /// A folder as aiocoap wants it.
    fn write(&self, folder: &Path) {
        let [own, other] = self.ids;
        let id_context =
            self.id_context.map_or_else(String::new, |hex| format!(r#""id-context_hex": "{hex}","#));
        let settings = format!(
            r#"{{{id_context} "sender-id_hex": "{other}", "recipient-id_hex": "{own}", "secret_hex": "{SECRET}",
            "salt_hex": "{SALT}", "algorithm": "{}", "kdf-hashfun": "{}"}}"#,
            self.aead.1, self.hmac.1
        );
        std::fs::write(folder.join("settings.json"), settings).expect("a folder to write to");
    }
}

fn large() -> Vec<u8> {
    (0..700).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

struct Aiocoap {
    process: Process,
    client: Client<std::net::UdpSocket>,
    folder: tempfile::TempDir,
}

/// aiocoap as a server, and our client of it.
fn aiocoap_server(given: Given, oscore: Oscore) -> Option<Aiocoap> {
    let program = peers::aiocoap()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    given.write(folder.path());
    let port = free_port();
    let mut command = program.command();
    command.arg(peers::source("aiocoap/server.py")).arg(port.to_string()).arg(folder.path());
    let mut process = Process::spawn("aiocoap server", command);
    process.wait_for_text("ready");
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    Some(Aiocoap { process, client: Client::protected(socket, Some(oscore)), folder })
}

#[test]
fn our_client_reads_writes_in_blocks_and_observes_an_aiocoap_server() {
    let oscore = Oscore::new(DEFAULT.parameters());
    let Some(Aiocoap { process, mut client, folder: _folder }) = aiocoap_server(DEFAULT, oscore) else {
        return;
    };
    assert_eq!(client.get("/store").text(), "empty", "{}", process.log());
    assert_eq!(client.get("/absent").code, Code::NOT_FOUND);
    assert_eq!(client.send(Code::POST, "/echo", b"hello").text(), "hello");
    let stored = client.send(Code::PUT, "/store", &large());
    assert!(stored.code == Code::CHANGED && stored.messages > 1, "{stored:?}");
    let read = client.get("/store");
    assert!(read.body == large() && read.messages > 1, "{read:?}");

    assert_eq!(client.send(Code::PUT, "/store", b"small").code, Code::CHANGED);
    let first = client.observe("/store");
    assert_eq!((first.code, first.text().as_str()), (Code::CONTENT, "small"));
    assert!(first.observe.is_some(), "{first:?}");
    assert_eq!(client.send(Code::IPATCH, "/store", b"+").code, Code::CHANGED);
    assert_eq!(client.get("/store").text(), "small+");
    let ended = client.cancel("/store");
    assert_eq!((ended.code, ended.observe), (Code::CONTENT, None));
    let fresh = client.send(Code::POST, "/fresh", b"x");
    assert_eq!((fresh.code, fresh.text().as_str(), fresh.messages), (Code::CHANGED, "fresh", 2));
    let program = peers::aiocoap().expect("it was there before");
    program.seen("aiocoap", Role::Server, &[Feature::Oscore]);
}

#[test]
fn every_algorithm_that_aiocoap_has_is_understood() {
    let hmacs = [(5, "sha256"), (-10, "sha256"), (6, "sha384"), (7, "sha512")];
    let aeads = [
        (1, "A128GCM"),
        (2, "A192GCM"),
        (3, "A256GCM"),
        (10, "AES-CCM-16-64-128"),
        (11, "AES-CCM-16-64-256"),
        (12, "AES-CCM-64-64-128"),
        (13, "AES-CCM-64-64-256"),
        (24, "ChaCha20/Poly1305"),
        (30, "AES-CCM-16-128-128"),
        (31, "AES-CCM-16-128-256"),
        (32, "AES-CCM-64-128-128"),
        (33, "AES-CCM-64-128-256"),
    ];
    for ((number, aead), hmac) in aeads.into_iter().enumerate().zip(hmacs.into_iter().cycle()) {
        let id_context = (number % 2 == 1).then_some("37cbf3210017a2d3");
        let given = Given { ids: ["01", ""], aead, hmac, id_context };
        let oscore = Oscore::new(given.parameters());
        let Some(Aiocoap { process, mut client, folder: _folder }) = aiocoap_server(given, oscore) else {
            return;
        };
        assert_eq!(client.send(Code::POST, "/echo", b"hello").text(), "hello", "{aead:?} {}", process.log());
    }
}

// RFC 8613 Appendix B.1.2: aiocoap has lost its window, and wants to see a value.
#[test]
fn our_client_proves_to_a_restarted_aiocoap_server_that_it_is_fresh() {
    let oscore = Oscore::new(DEFAULT.parameters());
    let Some(Aiocoap { process, mut client, folder }) = aiocoap_server(DEFAULT, oscore) else { return };
    assert_eq!(client.send(Code::POST, "/echo", b"one").messages, 1);
    drop(process);
    let _ = std::fs::remove_file(folder.path().join("lock"));
    let program = peers::aiocoap().expect("it was there before");
    let port = client.remote_port();
    let mut command = program.command();
    command.arg(peers::source("aiocoap/server.py")).arg(port.to_string()).arg(folder.path());
    let mut process = Process::spawn("aiocoap server", command);
    process.wait_for_text("ready");
    let answer = client.send(Code::POST, "/echo", b"two");
    assert_eq!((answer.text().as_str(), answer.messages), ("two", 2), "{}", process.log());
    assert_eq!(client.send(Code::POST, "/echo", b"three").messages, 1);
}

/// Serves until the client prints a line with the text.
fn serve_until(server: &mut Server<Listener>, client: &mut Process, text: &str) {
    let began = Instant::now();
    server.run(|_| {
        let is_printed = client.try_line().is_some_and(|line| line.contains(text));
        is_printed || client.has_ended() || began.elapsed() > PATIENCE
    });
    assert!(client.log().contains(text), "{text}:\n{}", client.log());
}

#[test]
fn an_aiocoap_client_reads_writes_in_blocks_and_observes_our_server() {
    serve_aiocoap(str::to_owned);
}

// RFC 8613 §10: what is protected goes through a proxy that has no keys.
#[test]
fn an_aiocoap_client_does_so_through_a_proxy_that_reads_nothing() {
    let read = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&read);
    let mut proxy = None;
    serve_aiocoap(|uri| {
        let between = Proxy::start(uri, move |message| {
            let is_protected = message.options.get(OptionNumber::OSCORE).is_some();
            let shown: Vec<_> = message.options.iter().map(|(number, _)| number.0).collect();
            told.lock().expect("nobody panicked").push((is_protected, message.code, shown));
        });
        let uri = format!("coap://{}", between.address());
        proxy = Some(between);
        uri
    });
    let Some(proxy) = proxy else { return };
    let [requests, responses, notifications] = proxy.passed();
    assert!(requests > 10 && responses == requests && notifications >= 2, "{:?}", proxy.passed());
    for (is_protected, code, shown) in &*read.lock().expect("nobody panicked") {
        let is_outer = [Code::POST, Code::FETCH, Code::CHANGED, Code::CONTENT].contains(code);
        assert!(*is_protected && is_outer, "{code} {shown:?}");
        // Uri-Host, Observe, Uri-Port, OSCORE, and no path, format, block, Echo or tag.
        assert!(shown.iter().all(|number| [3, 6, 7, 9].contains(number)), "{code} {shown:?}");
    }
}

/// Serves aiocoap's client, which is told what `through` makes of our URI.
fn serve_aiocoap(through: impl FnOnce(&str) -> String) {
    let Some(program) = peers::aiocoap() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    DEFAULT.write(folder.path());
    let socket = socket();
    let uri = through(&format!("coap://{}", socket.local_addr().expect("a bound socket")));
    let mut command = program.command();
    command.arg(peers::source("aiocoap/client.py")).arg(uri).arg(folder.path());
    let mut client = Process::spawn("aiocoap client", command);

    // As if it had been restarted: the first request has to prove that it is fresh.
    let oscore = Oscore::restarted(DEFAULT.parameters());
    let mut server = Server::protected(Listener::new(&socket), b"", Some(oscore));
    let mut run_until = |server: &mut Server<Listener>, text: &str| serve_until(server, &mut client, text);
    // It shows the value that /fresh wants of its own accord.
    for text in [
        "put 2.04 Changed",
        "get 2.05 Content True",
        "absent 4.04 Not Found",
        "echo 2.04 Changed hello",
        "fetch 2.05 Content True",
        "ipatch 2.04 Changed",
        "patch 4.05 Method Not Allowed",
        "fresh 2.04 Changed fresh",
    ] {
        run_until(&mut server, text);
    }
    server.set_block_size(32);
    run_until(&mut server, "smaller 2.05 Content True");
    server.set_block_size(1024);
    run_until(&mut server, "observing 2.05 Content");
    server.set_store(b"first");
    run_until(&mut server, "notified first");
    server.set_store(b"end");
    run_until(&mut server, "notified end");
    program.seen("aiocoap", Role::Client, &[Feature::Oscore]);
}

/// Californium, with the ids turned round.
fn californium(role: &str, port: u16, given: Given, keys: &str) -> Option<Process> {
    let [own, other] = given.ids.map(|id| if id.is_empty() { "-" } else { id });
    let mut command = peers::californium_oscore()?.command();
    command.args(["Oscore", role, &port.to_string(), other, own]);
    command.args([given.id_context.unwrap_or("-"), keys]);
    let mut process = Process::spawn("californium", command);
    process.wait_for("ready", |line| (line == "ready").then_some(()));
    Some(process)
}

fn our_client(port: u16, oscore: Oscore) -> Client<std::net::UdpSocket> {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    Client::protected(socket, Some(oscore))
}

/// What goes in more than one block, a text without line breaks.
fn long(digits: &str) -> String {
    digits.repeat(300)
}

const WITH_CONTEXT: Given = Given { id_context: Some("37cbf3210017a2d3"), ..DEFAULT };

#[test]
fn our_client_reads_writes_in_blocks_and_observes_a_californium_server() {
    for given in [DEFAULT, WITH_CONTEXT, Given { ids: ["01", ""], ..DEFAULT }] {
        let port = free_port();
        let Some(mut server) = californium("server", port, given, "fixed") else { return };
        let mut client = our_client(port, Oscore::new(given.parameters()));
        assert_eq!(client.get("/absent").code, Code::NOT_FOUND, "{}", server.log());
        let body = long("0123456789");
        let stored = client.send(Code::PUT, "/store", body.as_bytes());
        assert!(stored.code == Code::CHANGED && stored.messages > 1, "{stored:?} {}", server.log());
        let read = client.get("/store");
        assert!(read.text() == body && read.messages > 1, "{read:?}");
        let first = client.observe("/store");
        assert!(first.text() == body && first.observe.is_some(), "{first:?}");
        server.say("short");
        let next = client.notification("/store");
        assert_eq!((next.text().as_str(), next.observe > first.observe), ("short", true));
        server.say("shorter");
        assert_eq!(client.notification("/store").text(), "shorter");
        let ended = client.cancel("/store");
        assert_eq!((ended.code, ended.observe), (Code::CONTENT, None));
    }
    if let Some(program) = peers::californium_oscore() {
        program.seen(
            "Californium OSCORE",
            Role::Server,
            &[Feature::Coap, Feature::Blocks, Feature::Observe, Feature::Oscore],
        );
    }
}

// RFC 8613 Appendix B.2, begun by our client, and by Californium's server.
#[test]
fn our_client_makes_new_keys_with_a_californium_server() {
    for given in [DEFAULT, WITH_CONTEXT] {
        let port = free_port();
        let Some(server) = californium("server", port, given, "rederived") else { return };
        let mut client = our_client(port, Oscore::new(given.parameters()).rederiving());
        client.oscore().rederive();
        let stored = client.send(Code::PUT, "/store", b"under new keys");
        assert_eq!((stored.code, stored.messages), (Code::CHANGED, 2), "{}", server.log());
        let id_context = client.oscore().session().context().id_context().map(<[u8]>::len);
        assert_eq!(id_context, Some(24), "R2 of 16 bytes and R3 of 8");
        assert_eq!(client.get("/store").text(), "under new keys");
    }
    let port = free_port();
    let Some(mut server) = californium("server", port, WITH_CONTEXT, "rederived") else { return };
    let mut client = our_client(port, Oscore::new(WITH_CONTEXT.parameters()).rederiving());
    assert_eq!(client.send(Code::PUT, "/store", b"before").messages, 1, "{}", server.log());
    server.say("renew");
    server.wait_for_text("renewing");
    let stored = client.send(Code::PUT, "/store", b"after");
    assert_eq!((stored.code, stored.messages), (Code::CHANGED, 2), "{}", server.log());
    assert_eq!(client.get("/store").text(), "after");
}

#[test]
fn a_californium_client_reads_writes_in_blocks_and_observes_our_server() {
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port();
    let Some(mut client) = californium("client", port, WITH_CONTEXT, "fixed") else { return };
    let oscore = Oscore::new(WITH_CONTEXT.parameters());
    let mut server = Server::protected(Listener::new(&socket), b"at first", Some(oscore));
    client.say("get");
    serve_until(&mut server, &mut client, "2.05 at first");
    let body = long("0123456789");
    client.say(&format!("put {body}"));
    serve_until(&mut server, &mut client, "2.04");
    assert_eq!(server.store(), body.as_bytes());
    client.say("get");
    serve_until(&mut server, &mut client, &format!("2.05 {body}"));
    // Its client asks for the further blocks of an observed body without protection, so that is a short one.
    client.say("put at last");
    serve_until(&mut server, &mut client, "2.04");
    client.say("observe");
    serve_until(&mut server, &mut client, "2.05 at last");
    assert!(server.is_observed());
    server.set_store(b"short");
    serve_until(&mut server, &mut client, "2.05 short");
    server.set_store(b"shorter");
    serve_until(&mut server, &mut client, "2.05 shorter");
    client.say("cancel");
    server.run({
        let began = Instant::now();
        move |server| !server.is_observed() || began.elapsed() > PATIENCE
    });
    assert!(!server.is_observed(), "{}", client.log());
    if let Some(program) = peers::californium_oscore() {
        program.seen(
            "Californium OSCORE",
            Role::Client,
            &[Feature::Coap, Feature::Blocks, Feature::Observe, Feature::Oscore],
        );
    }
}

// RFC 8613 Appendix B.2, begun by Californium's client, and by our server.
#[test]
fn a_californium_client_makes_new_keys_with_our_server() {
    for given in [DEFAULT, WITH_CONTEXT] {
        let socket = socket();
        let port = socket.local_addr().expect("a bound socket").port();
        let Some(mut client) = californium("client", port, given, "rederived") else { return };
        let oscore = Oscore::new(given.parameters()).rederiving();
        let mut server = Server::protected(Listener::new(&socket), b"at first", Some(oscore));
        client.say("get");
        serve_until(&mut server, &mut client, "2.05 at first");
        let id_context = server.oscore().session().context().id_context().map(<[u8]>::len);
        assert_eq!(id_context, Some(24), "R2 of 16 bytes and R3 of 8");
        client.say("put changed");
        serve_until(&mut server, &mut client, "2.04");
        // It does not send again of its own accord what new keys were asked for with.
        server.oscore().renew();
        client.say("get");
        serve_until(&mut server, &mut client, "4.01");
        client.say("get");
        serve_until(&mut server, &mut client, "2.05 changed");
    }
}
