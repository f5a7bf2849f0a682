//! OpenSSL (`s_client`, `s_server`) in both roles with certificates: chains, and authentication of the client.

mod issued;

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;

use dtls_psk::{ClientCertificate, Reason, Refusal, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Judge, Owner, key_file};
use interop_tests::peers::{self, Program};
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_server::credentials::DeviceTrust;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

/// The suites that OpenSSL has, as it names them.
const SUITES: &[(Suite, &str)] = &[
    (Suite::EcdheEcdsaAes128Ccm8, "ECDHE-ECDSA-AES128-CCM8"),
    (Suite::EcdheEcdsaAes128Ccm, "ECDHE-ECDSA-AES128-CCM"),
    (Suite::EcdheEcdsaAes128Gcm, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::EcdheEcdsaAes128CbcSha256, "ECDHE-ECDSA-AES128-SHA256"),
];

const X509: ClientCertificate<'static> = ClientCertificate::X509 { server_name: Some("server") };

const NAME: &str = "lwm2m.example";
const OTHER_NAME: &str = "other.example";

/// Root, intermediate, and what that issued, in files as OpenSSL reads them and in DER as we do.
struct Made {
    folder: TempDir,
    root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = |name: &str| {
            let mut params = params(&[], name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let (root_key, key) = (issued::key(), issued::key());
        let root = authority("Root").self_signed(&root_key).expect("a root");
        let issuer = Issuer::new(authority("Root"), root_key);
        let intermediate = authority("Intermediate").signed_by(&key, &issuer).expect("an intermediate");
        let made = Self {
            folder,
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            issuer: Issuer::new(authority("Intermediate"), key),
        };
        made.write("root.pem", &root.pem());
        made.write("intermediate.pem", &intermediate.pem());
        made.write("both.pem", &(intermediate.pem() + &root.pem()));
        made
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(Path::new(&self.path(name)), text).expect("a temporary file can be written");
    }

    /// A certificate with this name, and its key; both in files called so too.
    fn issue(&self, name: &str, purpose: Purpose) -> Owner {
        let key = issued::key();
        let mut params = params(&[name], name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let own = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{name}.pem"), &own.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
        let secret = key.serialize_der().get(36..68).and_then(|secret| secret.try_into().ok());
        Owner {
            secret: secret.expect("PKCS #8 of P-256"),
            chain: vec![own.der().to_vec(), self.intermediate.clone()],
            ..Owner::default()
        }
    }

    /// A device that expects a server of this name below the root.
    fn device(&self, name: &str) -> Owner {
        let judge = Judge::Device { anchor: self.root.clone(), name: name.to_owned() };
        Owner { judge, ..self.issue("device", Purpose::ClientAuth) }
    }

    /// A server of devices with certificates from below the root.
    fn server(&self) -> Owner {
        let mut trust = DeviceTrust::default();
        assert_eq!(trust.add_anchors(&self.root), Ok(1));
        Owner { judge: Judge::Server(Arc::new(trust)), ..self.issue(NAME, Purpose::ServerAuth) }
    }

    /// Arguments with which OpenSSL has the certificate of this name and, if it is to send it, the one above.
    fn credentials(&self, name: &str, sends_intermediate: bool) -> Vec<String> {
        let mut arguments = vec!["-key".into(), self.path(&format!("{name}.key"))];
        arguments.extend(["-cert".into(), self.path(&format!("{name}.pem"))]);
        // By itself it would send what it finds there.
        arguments.extend(["-CAfile".into(), self.path("root.pem")]);
        if sends_intermediate {
            arguments.extend(["-cert_chain".into(), self.path("intermediate.pem")]);
        }
        arguments
    }
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let mut params = issued::params(common_name);
    let names = names.iter().map(|&name| SanType::DnsName(name.try_into().expect("a name")));
    params.subject_alt_names = names.collect();
    params
}

fn openssl_server(program: &Program, cipher: &str, arguments: &[String]) -> (Process, u16) {
    let port = free_port();
    let mut command = program.command();
    command.args(["s_server", "-dtls1_2", "-Verify", "3", "-verify_return_error"]);
    command.args(["-port", &port.to_string(), "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
    command.args(arguments);
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("ACCEPT");
    (server, port)
}

#[test]
fn our_device_judges_the_chain_of_an_openssl_server_and_openssl_that_of_ours() {
    let Some(program) = peers::openssl() else { return };
    let made = Made::new();
    let device = made.device(NAME);
    made.issue(NAME, Purpose::ServerAuth);
    let certificate = ClientCertificate::X509 { server_name: Some(NAME) };
    for (suite, cipher) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
        let (mut peer, port) = openssl_server(&program, cipher, &made.credentials(NAME, true));
        let mut client = Secure::certificate_client(connected(port), &[*suite], certificate, device.clone());
        assert_eq!(client.establish(), Ok(()), "{cipher}");
        client.send(b"from the client\n");
        peer.wait_for_text("from the client");
        peer.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
        peer.wait_for_text("DONE");
        assert!(peer.log().contains("CN = device"), "it shows whom it verified: {}", peer.log());
    }
    let [(suite, cipher), ..] = SUITES else { unreachable!("there is one") };
    let refused = Err(Some(Reason::UntrustedPeer(Refusal::UnknownIssuer)));
    let (_peer, port) = openssl_server(&program, cipher, &made.credentials(NAME, false));
    let mut client = Secure::certificate_client(connected(port), &[*suite], certificate, device.clone());
    assert_eq!(client.establish(), refused, "the intermediate is left out");
    let (mut peer, port) = openssl_server(&program, cipher, &made.credentials(NAME, true));
    let alone = Owner { chain: device.chain.iter().take(1).cloned().collect(), ..device };
    let mut client = Secure::certificate_client(connected(port), &[*suite], certificate, alone);
    assert!(client.establish().is_err(), "nor does OpenSSL take such a device");
    peer.wait_for_text("unable to get local issuer certificate");
    program.seen("OpenSSL", Role::Server, &[Feature::X509]);
}

#[test]
fn an_openssl_server_presents_what_our_client_names() {
    let Some(program) = peers::openssl() else { return };
    let made = Made::new();
    for name in [NAME, OTHER_NAME] {
        made.issue(name, Purpose::ServerAuth);
    }
    let [(suite, cipher), ..] = SUITES else { unreachable!("there is one") };
    let mut arguments = made.credentials(OTHER_NAME, true);
    arguments.extend(["-servername".into(), NAME.into()]);
    // To the second certificate belongs no -cert_chain: OpenSSL finds the intermediate here.
    arguments.extend(["-cert2".into(), made.path(&format!("{NAME}.pem"))]);
    arguments.extend(["-key2".into(), made.path(&format!("{NAME}.key"))]);
    arguments.extend(["-CAfile".into(), made.path("both.pem")]);
    let wrong = Err(Some(Reason::UntrustedPeer(Refusal::WrongName)));
    for (asked, expected, verdict) in [
        (Some(NAME), NAME, Ok(())),
        (Some(NAME), OTHER_NAME, wrong),
        (None, OTHER_NAME, Ok(())),
        (None, NAME, wrong),
        (Some("strange.example"), OTHER_NAME, Ok(())),
    ] {
        let (_peer, port) = openssl_server(&program, cipher, &arguments);
        let certificate = ClientCertificate::X509 { server_name: asked };
        let device = made.device(expected);
        let mut client = Secure::certificate_client(connected(port), &[*suite], certificate, device);
        assert_eq!(client.establish(), verdict, "asked for {asked:?}, expected {expected}");
    }
}

#[test]
fn our_server_judges_the_chain_of_an_openssl_client_and_openssl_that_of_ours() {
    let Some(program) = peers::openssl() else { return };
    let made = Made::new();
    let owner = made.server();
    made.issue("device", Purpose::ClientAuth);
    let start = |socket: &UdpSocket, cipher: &str, arguments: &[String]| {
        let address = socket.local_addr().expect("a bound socket").to_string();
        let mut command = program.command();
        command.args(["s_client", "-dtls1_2", "-verify_return_error", "-verify_hostname", NAME]);
        command.args(["-connect", &address, "-servername", NAME]);
        command.args(["-cipher", &format!("{cipher}:@SECLEVEL=0")]).args(arguments);
        Process::spawn(program.name, command)
    };
    for (suite, cipher) in SUITES {
        let socket = socket();
        let mut client = start(&socket, cipher, &made.credentials("device", true));
        let server = Secure::server(Listener::new(&socket), &[]).with_suites(Suite::ALL);
        let mut server = server.with_owner(owner.clone());
        assert_eq!(server.establish(), Ok(()), "{cipher}");
        assert_eq!(server.suite(), Some(*suite), "{cipher}");
        client.wait_for_text("Verify return code: 0 (ok)");
        client.say("from the client");
        assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
        server.send(b"from the server\n");
        client.wait_for_text("from the server");
    }
    let [(_, cipher), ..] = SUITES else { unreachable!("there is one") };
    let listening = socket();
    let mut client = start(&listening, cipher, &made.credentials("device", false));
    let server = Secure::server(Listener::new(&listening), &[]).with_suites(Suite::ALL);
    let mut server = server.with_owner(owner.clone());
    assert_eq!(server.establish(), Err(Some(Reason::UntrustedPeer(Refusal::UnknownIssuer))));
    client.wait_for_text("alert unknown ca");
    let listening = socket();
    let mut client = start(&listening, cipher, &made.credentials("device", true));
    let server = Secure::server(Listener::new(&listening), &[]).with_suites(Suite::ALL);
    let alone = Owner { chain: owner.chain.iter().take(1).cloned().collect(), ..owner };
    assert!(server.with_owner(alone).establish().is_err(), "nor does OpenSSL take such a server");
    client.wait_for_text("unable to get local issuer certificate");
    program.seen("OpenSSL", Role::Client, &[Feature::X509]);
}

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
    let port = free_port();
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
