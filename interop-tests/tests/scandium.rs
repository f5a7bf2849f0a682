//! Scandium 4.0.0-M6, the DTLS of Californium, in both roles: DTLS 1.2 with every suite that both sides have, of pre-shared
//! keys, raw public keys and certificates, with and without Connection IDs, and sessions that are taken up again.

use std::net::UdpSocket;

use dtls_psk::{ClientCertificate, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::Owner;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

const SUITE: &str = "PSK_WITH_AES_128_CCM_8";

/// The suites of pre-shared keys that both sides have, and their names.
const SUITES: &[(Suite, &str)] = &[
    (Suite::PskAes128Ccm8, SUITE),
    (Suite::PskAes128Ccm, "PSK_WITH_AES_128_CCM"),
    (Suite::PskAes128Gcm, "PSK_WITH_AES_128_GCM_SHA256"),
    (Suite::EcdhePskAes128Ccm8, "ECDHE_PSK_WITH_AES_128_CCM_8_SHA256"),
    (Suite::EcdhePskAes128Ccm, "ECDHE_PSK_WITH_AES_128_CCM_SHA256"),
];

/// The same of raw public keys and certificates.
const SIGNED_SUITES: &[(Suite, &str)] = &[
    (Suite::EcdheEcdsaAes128Ccm8, "ECDHE_ECDSA_WITH_AES_128_CCM_8"),
    (Suite::EcdheEcdsaAes128Ccm, "ECDHE_ECDSA_WITH_AES_128_CCM"),
    (Suite::EcdheEcdsaAes128Gcm, "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::EcdheEcdsaAes128CbcSha256, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
];

/// The kinds of certificates, as Peer.java names them.
const KINDS: [(ClientCertificate<'static>, &str, Feature); 2] = [
    (ClientCertificate::RawPublicKey, "rpk", Feature::RawPublicKey),
    (ClientCertificate::X509 { server_name: None }, "x509", Feature::X509),
];

/// The lengths of the Connection IDs towards us and towards Scandium.
const LENGTHS: [(usize, usize); 3] = [(0, 8), (6, 0), (6, 8)];

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

fn start(role: &str, port: u16, suite: &str, id: &str) -> Option<Process> {
    start_as(role, port, IDENTITY, KEY, suite, id)
}

/// With raw public keys or certificates.
fn start_signing(role: &str, port: u16, kind: &str, suite: &str) -> Option<Process> {
    start_as(role, port, kind, &peers::source("keys").display().to_string(), suite, "-")
}

fn start_as(role: &str, port: u16, identity: &str, key: &str, suite: &str, id: &str) -> Option<Process> {
    let mut command = peers::scandium()?.command();
    command.args(["Peer", role, &port.to_string(), identity, key, suite, id]);
    let mut process = Process::spawn("scandium", command);
    process.wait_for("ready", |line| (line == "ready").then_some(()));
    Some(process)
}

fn connected(port: u16) -> UdpSocket {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    socket
}

/// Data to a server of theirs and back; what it said of the handshake.
fn talk_to(server: &mut Process, client: &mut Secure<UdpSocket>) -> String {
    assert_eq!(client.establish(), Ok(()), "{}", server.log());
    client.send(b"from the client");
    let established = server.wait_for_text(" write=");
    server.wait_for_text("got from the client");
    server.say("from the server");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server"[..]));
    established
}

/// A client of theirs begins, and data goes both ways; what it said of the handshake.
fn talk_with(client: &mut Process, server: &mut Secure<Listener>) -> String {
    client.say("from the client");
    assert_eq!(server.establish(), Ok(()), "{}", client.log());
    let established = client.wait_for_text(" write=");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client"[..]));
    server.send(b"from the server");
    client.wait_for_text("got from the server");
    established
}

fn server() -> (Secure<Listener>, u16) {
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port();
    (Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]), port)
}

fn note(role: Role, features: &[Feature]) {
    if let Some(program) = peers::scandium() {
        program.seen("Scandium", role, features);
    }
}

#[test]
fn our_client_talks_to_a_scandium_server_under_every_suite() {
    for (suite, name) in SUITES {
        let port = free_port();
        let Some(mut server) = start("server", port, name, "-") else { return };
        let mut client = Secure::client_offering(connected(port), IDENTITY.as_bytes(), &key(), &[*suite]);
        let established = talk_to(&mut server, &mut client);
        assert_eq!((client.suite(), established.contains(name)), (Some(*suite), true), "{established}");
        client.close();
    }
    note(Role::Server, &[Feature::Psk, Feature::EcdhePsk]);
}

#[test]
fn a_scandium_client_talks_to_our_server_under_every_suite() {
    for (suite, name) in SUITES {
        let (server, port) = server();
        let mut server = server.with_suites(Suite::ALL);
        let Some(mut client) = start("client", port, name, "-") else { return };
        let established = talk_with(&mut client, &mut server);
        assert_eq!((server.suite(), established.contains(name)), (Some(*suite), true), "{established}");
    }
    note(Role::Client, &[Feature::Psk, Feature::EcdhePsk]);
}

#[test]
fn our_client_and_a_scandium_server_prove_themselves_by_signatures() {
    for (kind, kind_name, feature) in KINDS {
        for (suite, name) in SIGNED_SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
            let port = free_port();
            let Some(mut server) = start_signing("server", port, kind_name, name) else { return };
            let mut client = Secure::certificate_client(connected(port), &[*suite], kind, Owner::device());
            let established = talk_to(&mut server, &mut client);
            assert_eq!((client.suite(), established.contains(name)), (Some(*suite), true), "{established}");
            client.close();
        }
        note(Role::Server, &[feature]);
    }
}

#[test]
fn a_scandium_client_and_our_server_prove_themselves_by_signatures() {
    for (_, kind_name, feature) in KINDS {
        for (suite, name) in SIGNED_SUITES {
            let (server, port) = server();
            let mut server = server.with_suites(Suite::ALL).with_owner(Owner::server());
            let Some(mut client) = start_signing("client", port, kind_name, name) else { return };
            let established = talk_with(&mut client, &mut server);
            assert_eq!((server.suite(), established.contains(name)), (Some(*suite), true), "{established}");
        }
        note(Role::Client, &[feature]);
    }
}

#[test]
fn our_client_and_a_scandium_server_put_connection_ids_into_their_records() {
    for (ours, theirs) in LENGTHS {
        let port = free_port();
        let Some(mut server) = start("server", port, SUITE, &theirs.to_string()) else { return };
        let id = vec![7; ours];
        let mut client = Secure::client_with_connection_id(connected(port), IDENTITY.as_bytes(), &key(), &id);
        talk_to(&mut server, &mut client);
        let (own, peer) = client.connection_ids();
        assert_eq!((own, peer.len()), (id.as_slice(), theirs));
    }
    note(Role::Server, &[Feature::ConnectionId]);
}

#[test]
fn a_scandium_client_and_our_server_put_connection_ids_into_their_records() {
    for (ours, theirs) in LENGTHS {
        let (server, port) = server();
        let id = vec![7; ours];
        let mut server = server.with_connection_id(&id);
        let Some(mut client) = start("client", port, SUITE, &theirs.to_string()) else { return };
        talk_with(&mut client, &mut server);
        let (own, peer) = server.connection_ids();
        assert_eq!((own, peer.len()), (id.as_slice(), theirs));
    }
    note(Role::Client, &[Feature::ConnectionId]);
}

#[test]
fn our_client_takes_up_its_session_with_a_scandium_server() {
    let port = free_port();
    let Some(mut server) = start("server", port, SUITE, "-") else { return };
    let mut first = Secure::client(connected(port), IDENTITY.as_bytes(), &key());
    assert!(talk_to(&mut server, &mut first).starts_with("established"));
    first.close();
    let session = first.session().expect("Scandium gives a session id");
    let mut second = Secure::client_resuming(connected(port), IDENTITY.as_bytes(), &key(), session);
    assert!(talk_to(&mut server, &mut second).starts_with("resumed"));
    assert_eq!(second.resumed(), 1);
    note(Role::Server, &[Feature::Resumption]);
}

#[test]
fn a_scandium_client_takes_up_its_session_with_our_server() {
    let (mut server, port) = server();
    let Some(mut client) = start("client", port, SUITE, "-") else { return };
    assert!(talk_with(&mut client, &mut server).starts_with("established"));
    client.say("resume");
    client.wait_for_text("resuming");
    assert!(talk_with(&mut client, &mut server).starts_with("resumed"));
    assert_eq!(server.resumed(), 1);
    note(Role::Client, &[Feature::Resumption]);
}
