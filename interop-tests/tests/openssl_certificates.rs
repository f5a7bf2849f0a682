//! OpenSSL (`s_client`, `s_server`) in both roles with certificates: chains, and authentication of the client.

use std::net::UdpSocket;

use dtls_psk::{ClientCertificate, Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::peers::{self, Program};
use interop_tests::process::{PATIENCE, Process, free_udp_port, local, socket};
use interop_tests::seen::{Feature, Role};

/// The suites that OpenSSL has, as it names them.
const SUITES: &[(Suite, &str)] = &[
    (Suite::EcdheEcdsaAes128Ccm8, "ECDHE-ECDSA-AES128-CCM8"),
    (Suite::EcdheEcdsaAes128Ccm, "ECDHE-ECDSA-AES128-CCM"),
    (Suite::EcdheEcdsaAes128Gcm, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::EcdheEcdsaAes128CbcSha256, "ECDHE-ECDSA-AES128-SHA256"),
];

const X509: ClientCertificate<'static> = ClientCertificate::X509 { server_name: Some("server") };

fn credentials(name: &str) -> [String; 6] {
    let file = |ending: &str| key_file(&format!("{name}.{ending}")).display().to_string();
    let issuer = key_file("issuer.crt.pem").display().to_string();
    ["-key".into(), file("key.pem"), "-cert".into(), file("crt.pem"), "-CAfile".into(), issuer]
}

/// OpenSSL as a server that wants the client's certificate, and its port.
fn server(program: &Program, cipher: &str) -> (Process, u16) {
    server_with(program, cipher, &[])
}

fn server_with(program: &Program, cipher: &str, arguments: &[&str]) -> (Process, u16) {
    let port = free_udp_port();
    let mut command = program.command();
    command.args([
        "s_server",
        "-dtls1_2",
        "-Verify",
        "2",
        "-verify_return_error",
        "-port",
        &port.to_string(),
    ]);
    command.args(["-cipher", &format!("{cipher}:@SECLEVEL=0"), "-servername", "server"]);
    command.args(credentials("server"));
    command.args(["-cert2", &key_file("server.crt.pem").display().to_string()]);
    command.args(["-key2", &key_file("server.key.pem").display().to_string()]);
    command.args(arguments);
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("ACCEPT");
    (server, port)
}

fn connected(port: u16) -> UdpSocket {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    socket
}

/// OpenSSL as a client of the server at this socket.
fn client(program: &Program, server: &UdpSocket, cipher: &str, arguments: &[&str]) -> Process {
    let address = server.local_addr().expect("a bound socket").to_string();
    let mut command = program.command();
    command.args(["s_client", "-dtls1_2", "-verify_return_error", "-connect", &address]);
    command.args(["-cipher", &format!("{cipher}:@SECLEVEL=0"), "-servername", "server"]);
    command.args(credentials("device")).args(arguments);
    Process::spawn(program.name, command)
}

#[test]
fn our_client_and_an_openssl_server_have_certificates() {
    let Some(program) = peers::openssl() else { return };
    for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
        let (mut peer, port) = server(&program, name);
        let mut client = Secure::certificate_client(connected(port), &[*suite], X509, Owner::device());
        assert_eq!(client.establish(), Ok(()), "{name}");
        client.send(b"from the client\n");
        peer.wait_for_text("from the client");
        peer.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
    }
    program.seen("OpenSSL", Role::Server, &[Feature::X509]);
}

#[test]
fn an_openssl_client_and_our_server_have_certificates() {
    let Some(program) = peers::openssl() else { return };
    for (suite, name) in SUITES {
        let socket = socket();
        let mut client = client(&program, &socket, name, &[]);
        let server = Secure::server(Listener::new(&socket), &[]).with_suites(Suite::ALL);
        let mut server = server.with_owner(Owner::server());
        assert_eq!(server.establish(), Ok(()), "{name}");
        assert_eq!(server.suite(), Some(*suite), "{name}");
        client.wait_for_text("Verify return code: 0 (ok)");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server\n");
        client.wait_for_text("from the server");
    }
    program.seen("OpenSSL", Role::Client, &[Feature::X509]);
}

#[test]
fn an_openssl_client_without_a_certificate_is_told_so() {
    let Some(program) = peers::openssl() else { return };
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port();
    let mut command = program.command();
    command.args(["s_client", "-dtls1_2", "-connect", &format!("127.0.0.1:{port}")]);
    command.args(["-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]);
    let mut client = Process::spawn(program.name, command);
    let server = Secure::server(Listener::new(&socket), &[]).with_suites(Suite::ALL);
    let mut server = server.with_owner(Owner::server());
    assert_eq!(server.establish(), Err(Some(Reason::NoCertificate)));
    client.wait_for_text("handshake failure");
}

#[test]
fn our_client_takes_up_its_session_of_certificates_with_an_openssl_server() {
    let Some(program) = peers::openssl() else { return };
    for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
        let (mut peer, port) = server(&program, name);
        let mut client = Secure::certificate_client(connected(port), &[*suite], X509, Owner::device());
        assert_eq!(client.establish(), Ok(()), "{name}");
        client.send(b"first\n");
        peer.wait_for_text("first");
        client.close();
        peer.wait_for_text("DONE");
        let session = client.session().expect("OpenSSL gives a session id");
        // Nobody is asked anything: this owner trusts nobody and has nothing.
        let nobody = Owner::default();
        let mut client = Secure::certificate_client_resuming(connected(port), X509, nobody, session);
        assert_eq!((client.establish(), client.resumed()), (Ok(()), 1), "{name}");
        peer.wait_for_text("Reused session-id");
        client.send(b"second\n");
        peer.wait_for_text("second");
        peer.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
    }
    program.seen("OpenSSL", Role::Server, &[Feature::Resumption]);
}

#[test]
fn an_openssl_client_takes_up_its_session_of_certificates_by_id_and_by_ticket() {
    let Some(program) = peers::openssl() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for (suite, name) in SUITES {
        for has_tickets in [false, true] {
            let file = folder.path().join("session");
            let file = file.to_str().expect("a path of text");
            let socket = socket();
            let server = Secure::server(Listener::new(&socket), &[]).with_suites(&[*suite]);
            let mut server = server.with_owner(Owner::server());
            let how = if has_tickets {
                server.rotate_tickets();
                "-state"
            } else {
                "-no_ticket"
            };
            for (round, session) in ["-sess_out", "-sess_in", "-sess_in"].into_iter().enumerate() {
                let mut client = client(&program, &socket, name, &[session, file, how]);
                assert_eq!(server.establish(), Ok(()), "{name}");
                client.wait_for_text(if round == 0 { "New, TLSv1.2" } else { "Reused, TLSv1.2" });
                assert_eq!((server.resumed(), server.suite()), (round, Some(*suite)));
                assert_eq!(server.session().is_none(), has_tickets, "the server keeps nothing then");
                client.say("from the client");
                assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
                server.send(b"from the server\n");
                client.wait_for_text("from the server");
                client.say("Q");
                server.wait_for_close();
            }
        }
    }
    program.seen("OpenSSL", Role::Client, &[Feature::Resumption]);
}

#[test]
fn an_agreement_on_x25519_is_the_same_for_openssl_in_both_roles() {
    let Some(program) = peers::openssl() else { return };
    let [(suite, name), ..] = SUITES else { unreachable!("there is one") };
    let (mut peer, port) = server_with(&program, name, &["-groups", "X25519:P-256"]);
    let mut ours = Secure::certificate_client(connected(port), &[*suite], X509, Owner::device());
    assert_eq!(ours.establish(), Ok(()));
    ours.send(b"from the client\n");
    peer.wait_for_text("from the client");
    peer.say("from the server");
    assert_eq!(ours.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
    ours.close();
    // As the first of the client's, and as the first of our server's.
    for groups in ["X25519:P-256", "P-256:X25519"] {
        let socket = socket();
        let mut client = client(&program, &socket, name, &["-groups", groups]);
        let server = Secure::server(Listener::new(&socket), &[]).with_suites(Suite::ALL);
        let mut server = server.with_owner(Owner::server()).preferring_x25519();
        assert_eq!(server.establish(), Ok(()));
        client.wait_for_text("Server Temp Key: X25519, 253 bits");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server\n");
        client.wait_for_text("from the server");
    }
}
