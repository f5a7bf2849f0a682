//! GnuTLS 3.7.9 (`gnutls-cli`, `gnutls-serv`) in both roles with raw public keys and with certificates.

use dtls_psk::{ClientCertificate, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};

/// The suites that GnuTLS has, as priorities.
const SUITES: &[(Suite, &str)] = &[
    (Suite::EcdheEcdsaAes128Ccm8, "+AES-128-CCM-8:+AEAD"),
    (Suite::EcdheEcdsaAes128Ccm, "+AES-128-CCM:+AEAD"),
    (Suite::EcdheEcdsaAes128Gcm, "+AES-128-GCM:+AEAD"),
    #[cfg(feature = "cbc")]
    (Suite::EcdheEcdsaAes128CbcSha256, "+AES-128-CBC:+SHA256"),
];

const KINDS: [ClientCertificate<'static>; 2] =
    [ClientCertificate::RawPublicKey, ClientCertificate::X509 { server_name: None }];

fn priority(suite: &str, kind: ClientCertificate<'_>) -> String {
    let types = match kind {
        ClientCertificate::RawPublicKey => "-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK",
        _ => "+CTYPE-X509",
    };
    format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:-MAC-ALL:{suite}:{types}")
}

/// The arguments that name a key of GnuTLS's.
fn credentials(name: &str, kind: ClientCertificate<'_>) -> Vec<String> {
    let file = |ending: &str| key_file(&format!("{name}.{ending}")).display().to_string();
    match kind {
        ClientCertificate::RawPublicKey => {
            vec!["--rawpkkeyfile".into(), file("key.pem"), "--rawpkfile".into(), file("pub.pem")]
        }
        _ => vec!["--x509keyfile".into(), file("key.pem"), "--x509certfile".into(), file("crt.pem")],
    }
}

fn note(role: Role, kind: ClientCertificate<'_>) {
    let feature = match kind {
        ClientCertificate::RawPublicKey => Feature::RawPublicKey,
        _ => Feature::X509,
    };
    if let Some(program) = peers::gnutls("gnutls-cli") {
        program.seen("GnuTLS", role, &[feature]);
    }
}

#[test]
fn our_client_and_a_gnutls_server_prove_themselves_by_signatures() {
    let Some(program) = peers::gnutls("gnutls-serv") else { return };
    for kind in KINDS {
        for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
            let port = free_port();
            let mut command = program.command();
            command.args(["--udp", "--echo", "--require-client-cert", "--port", &port.to_string()]);
            command.args(["--priority", &priority(name, kind)]).args(credentials("server", kind));
            if let ClientCertificate::X509 { .. } = kind {
                let issuer = key_file("issuer.crt.pem").display().to_string();
                command.args(["--x509cafile", &issuer, "--verify-client-cert"]);
            }
            let mut peer = Process::spawn(program.name, command);
            peer.wait_for_text("listening on IPv4");
            let socket = socket();
            socket.connect(local(port)).expect("loopback is reachable");
            let mut client = Secure::certificate_client(socket, &[*suite], kind, Owner::device());
            assert_eq!(client.establish(), Ok(()), "{name} {kind:?}");
            client.send(b"from the client\n");
            assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
            client.close();
        }
        note(Role::Server, kind);
    }
}

#[test]
fn a_gnutls_client_and_our_server_prove_themselves_by_signatures() {
    let Some(program) = peers::gnutls("gnutls-cli") else { return };
    for kind in KINDS {
        for (suite, name) in SUITES {
            let socket = socket();
            let port = socket.local_addr().expect("a bound socket").port().to_string();
            let mut command = program.command();
            command.args(["--udp", "--no-ca-verification", "--priority", &priority(name, kind)]);
            command.args(credentials("device", kind)).args(["--port", &port, "127.0.0.1"]);
            let mut client = Process::spawn(program.name, command);
            let mut server = Secure::server(Listener::new(&socket), &[])
                .with_suites(Suite::ALL)
                .with_owner(Owner::server());
            assert_eq!(server.establish(), Ok(()), "{name} {kind:?}");
            assert_eq!(server.suite(), Some(*suite), "{name}");
            client.wait_for_text("Handshake was completed");
            client.say("from the client");
            assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
            server.send(b"from the server\n");
            client.wait_for_text("from the server");
        }
        note(Role::Client, kind);
    }
}

/// What leaves x25519 alone among the groups, and what puts it before P-256.
const X25519_ALONE: &str = ":-GROUP-ALL:+GROUP-X25519";
const X25519_FIRST: &str = ":-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1";

#[test]
fn our_client_and_a_gnutls_server_agree_on_x25519() {
    let Some(program) = peers::gnutls("gnutls-serv") else { return };
    let (kind, [(suite, name), ..]) = (ClientCertificate::RawPublicKey, SUITES) else {
        unreachable!("there is one")
    };
    let port = free_port();
    let mut command = program.command();
    command.args(["--udp", "--echo", "--require-client-cert", "--port", &port.to_string(), "--priority"]);
    command.arg(priority(name, kind) + X25519_ALONE).args(credentials("server", kind));
    let mut peer = Process::spawn(program.name, command);
    peer.wait_for_text("listening on IPv4");
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Secure::certificate_client(socket, &[*suite], kind, Owner::device());
    assert_eq!(client.establish(), Ok(()));
    client.send(b"from the client\n");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    client.close();
}

#[test]
fn a_gnutls_client_and_our_server_agree_on_x25519() {
    let Some(program) = peers::gnutls("gnutls-cli") else { return };
    let (kind, [(_, name), ..]) = (ClientCertificate::RawPublicKey, SUITES) else {
        unreachable!("there is one")
    };
    let socket = socket();
    let port = socket.local_addr().expect("a bound socket").port().to_string();
    let mut command = program.command();
    command.args(["--udp", "--no-ca-verification", "--priority"]).arg(priority(name, kind) + X25519_FIRST);
    command.args(credentials("device", kind)).args(["--port", &port, "127.0.0.1"]);
    let mut client = Process::spawn(program.name, command);
    let server = Secure::server(Listener::new(&socket), &[]).with_suites(Suite::ALL);
    let mut server = server.with_owner(Owner::server()).preferring_x25519();
    assert_eq!(server.establish(), Ok(()));
    client.wait_for_text("(ECDHE-X25519)");
    client.say("from the client");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    server.send(b"from the server\n");
    client.wait_for_text("from the server");
}
