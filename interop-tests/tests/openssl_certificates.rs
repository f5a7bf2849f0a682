//! OpenSSL (`s_client`, `s_server`) in both roles with certificates: chains, and authentication of the client.

use dtls_psk::{ClientCertificate, Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::peers;
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

#[test]
fn our_client_and_an_openssl_server_have_certificates() {
    let Some(program) = peers::openssl() else { return };
    for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
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
        command.args(["-cipher", &format!("{name}:@SECLEVEL=0"), "-servername", "server"]);
        let mut peer = Process::spawn(program.name, {
            command.args(credentials("server"));
            command.args(["-cert2", &key_file("server.crt.pem").display().to_string()]);
            command.args(["-key2", &key_file("server.key.pem").display().to_string()]);
            command
        });
        peer.wait_for_text("ACCEPT");
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        let mut client = Secure::certificate_client(socket, &[*suite], X509, Owner::device());
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
        let port = socket.local_addr().expect("a bound socket").port();
        let mut command = program.command();
        command.args([
            "s_client",
            "-dtls1_2",
            "-verify_return_error",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ]);
        command.args(["-cipher", &format!("{name}:@SECLEVEL=0"), "-servername", "server"]);
        command.args(credentials("device"));
        let mut client = Process::spawn(program.name, command);
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
