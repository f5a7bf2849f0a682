//! pion's DTLS (Go) in both roles: DTLS 1.2 with every suite that both sides have, of pre-shared keys and certificates,
//! extended master secret, with and without Connection IDs, and sessions that are taken up again.

use dtls_psk::{ClientCertificate, Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::Owner;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// The suites of pre-shared keys that both sides have. pion knows no encrypt-then-mac.
const SUITES: &[Suite] = &[
    Suite::PskAes128Ccm8,
    Suite::PskAes128Ccm,
    Suite::PskAes128Gcm,
    #[cfg(feature = "cbc")]
    Suite::EcdhePskAes128CbcSha256,
    #[cfg(feature = "cbc")]
    Suite::PskAes128CbcSha256,
];

/// The same of certificates.
const SIGNED_SUITES: [Suite; 3] =
    [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128Gcm];

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

fn server(suite: Suite, further: &[&str]) -> Option<(Process, u16)> {
    server_as(IDENTITY, KEY, suite, further)
}

fn server_as(identity: &str, key: &str, suite: Suite, further: &[&str]) -> Option<(Process, u16)> {
    let port = free_port();
    let mut command = peers::pion()?.command();
    command.args(["server", &local(port).to_string(), identity, key]);
    command.arg(format!("{:04x}", suite.code())).args(further);
    let mut server = Process::spawn("pion", command);
    server.wait_for_text("listening");
    Some((server, port))
}

/// The lengths of the Connection IDs towards us and towards pion.
const LENGTHS: [(usize, usize); 3] = [(0, 8), (6, 0), (6, 8)];

#[test]
fn our_client_and_a_pion_server_put_connection_ids_into_their_records() {
    for (ours, theirs) in LENGTHS {
        let Some((mut server, port)) = server(Suite::default(), &[&theirs.to_string()]) else { return };
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        let id = vec![7; ours];
        let mut client = Secure::client_with_connection_id(socket, IDENTITY.as_bytes(), &key(), &id);
        client.establish().expect("both have the key");
        let (own, peer) = client.connection_ids();
        assert_eq!((own, peer.len()), (id.as_slice(), theirs));
        client.send(b"from the client");
        server.wait_for_text("got from the client");
        server.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
    }
    note(Role::Server, Feature::ConnectionId);
}

#[test]
fn a_pion_client_and_our_server_put_connection_ids_into_their_records() {
    for (ours, theirs) in LENGTHS {
        let Some((mut client, server)) = client(KEY, Suite::default(), &[&theirs.to_string()]) else {
            return;
        };
        let id = vec![7; ours];
        let mut server = server.with_connection_id(&id);
        server.establish().expect("both have the key");
        client.wait_for_text("established");
        let (own, peer) = server.connection_ids();
        assert_eq!((own, peer.len()), (id.as_slice(), theirs));
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server");
        client.wait_for_text("got from the server");
    }
    note(Role::Client, Feature::ConnectionId);
}

fn connect(port: u16, key: &[u8]) -> Secure<std::net::UdpSocket> {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    Secure::client(socket, IDENTITY.as_bytes(), key)
}

#[test]
fn our_client_talks_to_a_pion_server_under_every_suite() {
    for suite in SUITES.iter().copied().filter(|suite| suite.is_for_clients()) {
        let Some((mut server, port)) = server(suite, &[]) else { return };
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        let mut client = Secure::client_offering(socket, IDENTITY.as_bytes(), &key(), &[suite]);
        assert_eq!((client.establish(), client.suite()), (Ok(()), Some(suite)), "{}", server.log());
        client.send(b"from the client");
        server.wait_for_text("got from the client");
        server.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
        server.wait_for_text("closed");
        note(Role::Server, key_exchange(suite));
    }
}

#[test]
fn our_client_and_a_pion_server_have_certificates() {
    for suite in SIGNED_SUITES {
        let keys = peers::source("keys").display().to_string();
        let Some((mut server, port)) = server_as("x509", &keys, suite, &[]) else { return };
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        let kind = ClientCertificate::X509 { server_name: None };
        let mut client = Secure::certificate_client(socket, &[suite], kind, Owner::device());
        assert_eq!((client.establish(), client.suite()), (Ok(()), Some(suite)), "{}", server.log());
        client.send(b"from the client");
        server.wait_for_text("got from the client");
        server.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
    }
    note(Role::Server, Feature::X509);
}

#[test]
fn a_pion_client_and_our_server_have_certificates() {
    for suite in SIGNED_SUITES {
        let keys = peers::source("keys").display().to_string();
        let Some((mut client, server)) = client_as("x509", &keys, suite, &[]) else { return };
        let mut server = server.with_suites(Suite::ALL).with_owner(Owner::server());
        assert_eq!((server.establish(), server.suite()), (Ok(()), Some(suite)), "{}", client.log());
        client.wait_for_text("established");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server");
        client.wait_for_text("got from the server");
    }
    note(Role::Client, Feature::X509);
}

#[test]
fn our_client_takes_up_its_session_with_a_pion_server() {
    let Some((mut server, port)) = server(Suite::default(), &["-", "sessions"]) else { return };
    let mut first = connect(port, &key());
    first.establish().expect("both have the key");
    first.send(b"first");
    server.wait_for_text("got first");
    first.close();
    server.wait_for_text("closed");
    let session = first.session().expect("pion gives a session id");
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut second = Secure::client_resuming(socket, IDENTITY.as_bytes(), &key(), session);
    second.establish().expect("both have the session");
    assert_eq!(second.resumed(), 1);
    second.send(b"second");
    server.wait_for_text("got second");
    server.say("from the server");
    assert_eq!(second.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
    note(Role::Server, Feature::Resumption);
}

#[test]
fn a_pion_client_takes_up_its_session_with_our_server() {
    let Some((mut client, mut server)) = client(KEY, Suite::default(), &["-", "sessions"]) else { return };
    for round in ["first", "second"] {
        server.establish().expect("both have the key or the session");
        client.wait_for_text("established");
        client.say(round);
        let got = server.receive(PATIENCE).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&got), format!("{round}\n"));
        server.send(b"from the server");
        client.wait_for_text("got from the server");
        server.close();
        client.wait_for_text("closed");
    }
    assert_eq!(server.resumed(), 1);
    note(Role::Client, Feature::Resumption);
}

fn key_exchange(suite: Suite) -> Feature {
    if suite.name().contains("ECDHE") { Feature::EcdhePsk } else { Feature::Psk }
}

fn note(role: Role, feature: Feature) {
    if let Some(program) = peers::pion() {
        program.seen("pion", role, &[feature]);
    }
}

#[test]
fn our_client_is_refused_by_a_pion_server_with_another_key() {
    let Some((_server, port)) = server(Suite::default(), &[]) else { return };
    let mut client = connect(port, &[7; 16]);
    let reason = client.establish().expect_err("the keys differ").expect("an alert comes, or time passes");
    assert!(matches!(reason, Reason::PeerAlert(_) | Reason::FinishedUnanswered), "{reason}");
}

fn client(key: &str, suite: Suite, further: &[&str]) -> Option<(Process, Secure<Listener>)> {
    client_as(IDENTITY, key, suite, further)
}

fn client_as(
    identity: &str,
    key: &str,
    suite: Suite,
    further: &[&str],
) -> Option<(Process, Secure<Listener>)> {
    let program = peers::pion()?;
    let socket = socket();
    let address = socket.local_addr().expect("a bound socket").to_string();
    let mut command = program.command();
    command.args(["client", &address, identity, key, &format!("{:04x}", suite.code())]).args(further);
    let client = Process::spawn("pion", command);
    Some((client, Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &self::key())])))
}

#[test]
fn a_pion_client_talks_to_our_server_under_every_suite() {
    for suite in SUITES.iter().copied() {
        let Some((mut client, server)) = client(KEY, suite, &[]) else { return };
        let mut server = server.with_suites(Suite::ALL);
        assert_eq!((server.establish(), server.suite()), (Ok(()), Some(suite)), "{}", client.log());
        client.wait_for_text("established");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server");
        client.wait_for_text("got from the server");
        server.close();
        client.wait_for_text("closed");
        note(Role::Client, key_exchange(suite));
    }
}

#[test]
fn a_pion_client_with_another_key_is_refused_by_our_server() {
    let Some((_client, mut server)) = client("ffffffffffffffffffffffffffffffff", Suite::default(), &[])
    else {
        return;
    };
    assert_eq!(server.establish().expect_err("the keys differ"), Some(Reason::WrongKey));
}
