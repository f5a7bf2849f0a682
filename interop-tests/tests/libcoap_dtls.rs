//! libcoap 4.3.1 over OpenSSL and over GnuTLS, in both roles: CoAP inside of DTLS 1.2 with a pre-shared key, with and without
//! an ephemeral key exchange, with raw public keys over GnuTLS and with certificates.

use std::fs;
use std::net::UdpSocket;

use dtls_psk::{ClientCertificate, Suite};
use interop_tests::coap::{Client, Listener, Server};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::peers::{self, Program};
use interop_tests::process::{Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
use lwm2m_coap::Code;
use tempfile::NamedTempFile;

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "sixteen byte key";

/// The arguments of both roles for a pre-shared key.
const SHARED_KEY: [&str; 4] = ["-k", KEY, "-u", IDENTITY];

const X509: ClientCertificate<'static> = ClientCertificate::X509 { server_name: None };

/// A server of theirs, and the port of its DTLS.
fn serve(program: &Program, credentials: &[&str]) -> (Process, u16) {
    // The port with DTLS is the one after the port without.
    let port = free_port();
    let mut command = program.command();
    command.args(["-A", "127.0.0.1", "-p", &port.to_string(), "-v", "7"]).args(credentials);
    let mut server = Process::spawn(program.name, command);
    server.wait_for_text("created DTLS");
    (server, port.saturating_add(1))
}

fn connected(port: u16) -> UdpSocket {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    socket
}

/// A client of theirs that begins with our server, in front of which `set_up` is called.
fn request(
    program: &Program,
    credentials: &[&str],
    arguments: &[&str],
    path: &str,
    set_up: impl FnOnce(Secure<Listener>) -> Secure<Listener>,
) -> (Process, Secure<Listener>) {
    let socket = socket();
    let mut command = program.command();
    command.args(arguments).args(credentials);
    command.arg(format!("coaps://{}{path}", socket.local_addr().expect("a bound socket")));
    let client = Process::spawn(program.name, command);
    let keys = [(IDENTITY.as_bytes(), KEY.as_bytes())];
    let mut secure = set_up(Secure::server(Listener::new(&socket), &keys));
    assert_eq!(secure.establish(), Ok(()), "{}", client.log());
    (client, secure)
}

/// The name of the row that a program belongs to.
fn row(program: &Program) -> String {
    format!("libcoap over {}", program.name.rsplit('-').next().unwrap_or_default())
}

fn our_client_reads_writes_and_observes(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let (_server, port) = serve(&program, &SHARED_KEY);
    let mut secure = Secure::client(connected(port), IDENTITY.as_bytes(), KEY.as_bytes());
    secure.establish().expect("both have the key");
    let mut client = Client::new(secure);
    assert!(client.get("/").text().contains("libcoap"));
    let body = "0123456789".repeat(300);
    assert!(client.send(Code::PUT, "/example_data", body.as_bytes()).code.is_success());
    let read = client.get("/example_data");
    assert!(read.text() == body, "{read:?}");
    let first = client.observe("/time");
    let next = client.notification("/time");
    assert!(first.observe.is_some() && next.observe.is_some(), "{first:?} {next:?}");
    let features = [Feature::Psk, Feature::Coap, Feature::Blocks, Feature::Observe];
    program.seen(&row(&program), Role::Server, &features);
}

fn their_client_reads_and_writes(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let body = "0123456789".repeat(300);
    for (arguments, path, printed) in [
        (&["-m", "get"][..], "/store", body.as_str()),
        (&["-m", "post", "-e", "hello"], "/echo", "hello"),
        (&["-m", "get"], "/absent", "4.04"),
    ] {
        let (mut client, secure) = request(&program, &SHARED_KEY, arguments, path, |secure| secure);
        let mut server = Server::new(secure, body.as_bytes());
        server.run(|_| client.has_ended());
        let output = client.wait_for_end();
        assert!(output.contains(printed), "{path}: {output}");
    }
    program.seen(&row(&program), Role::Client, &[Feature::Psk, Feature::Coap, Feature::Blocks]);
}

fn their_client_is_notified_until_it_cancels(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let (mut client, secure) =
        request(&program, &SHARED_KEY, &["-m", "get", "-s", "2"], "/store", |secure| secure);
    let mut server = Server::new(secure, b"first\n");
    server.run(|_| client.try_line().is_some_and(|line| line == "first") || client.has_ended());
    assert!(server.is_observed(), "{}", client.log());
    server.set_store(b"second\n");
    server.run(|_| client.try_line().is_some_and(|line| line == "second") || client.has_ended());
    assert_eq!(client.log(), "first\nsecond");
    server.run(|server| !server.is_observed() || client.has_ended());
    server.run(|_| client.has_ended());
    assert!(!server.is_observed());
    program.seen(&row(&program), Role::Client, &[Feature::Observe]);
}

/// The one suite with an ephemeral key exchange that they have as well.
#[cfg(feature = "cbc")]
const EPHEMERAL: Suite = Suite::EcdhePskAes128CbcSha256;

#[cfg(feature = "cbc")]
fn our_client_agrees_on_an_ephemeral_key(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let (server, port) = serve(&program, &SHARED_KEY);
    let (identity, key) = (IDENTITY.as_bytes(), KEY.as_bytes());
    let mut secure = Secure::client_offering(connected(port), identity, key, &[EPHEMERAL]);
    assert_eq!((secure.establish(), secure.suite()), (Ok(()), Some(EPHEMERAL)), "{}", server.log());
    let mut client = Client::new(secure);
    assert!(client.send(Code::PUT, "/example_data", b"written").code.is_success());
    assert_eq!(client.get("/example_data").text(), "written");
    program.seen(&row(&program), Role::Server, &[Feature::EcdhePsk]);
}

#[cfg(feature = "cbc")]
fn their_client_agrees_on_an_ephemeral_key(program: &'static str) {
    let Some(program) = peers::libcoap(program) else { return };
    let set_up = |secure: Secure<Listener>| secure.with_suites(&[EPHEMERAL]);
    let (mut client, secure) =
        request(&program, &SHARED_KEY, &["-m", "post", "-e", "hello"], "/echo", set_up);
    assert_eq!(secure.suite(), Some(EPHEMERAL));
    let mut server = Server::new(secure, b"");
    server.run(|_| client.has_ended());
    assert_eq!(client.wait_for_end(), "hello");
    program.seen(&row(&program), Role::Client, &[Feature::EcdhePsk]);
    if program.name.ends_with("gnutls")
        && let Some(library) = peers::gnutls("gnutls-cli")
    {
        // What `gnutls-cli` cannot show, see there.
        library.seen("GnuTLS", Role::Client, &[Feature::EcdhePsk]);
    }
}

/// Calls `run` with the arguments for the key `own` of `peers/keys`.
fn with_credentials(own: &str, kind: ClientCertificate<'_>, run: impl FnOnce(&[&str])) {
    let file = |name: &str| key_file(name).display().to_string();
    let (public, secret) = (file(&format!("{own}.pub.pem")), file(&format!("{own}.key.pem")));
    if kind == ClientCertificate::RawPublicKey {
        // Both halves in one file.
        let pair = NamedTempFile::new().expect("a folder for temporary files");
        let halves =
            [public, secret].map(|half| fs::read_to_string(half).expect("a file of this repository"));
        fs::write(pair.path(), halves.concat()).expect("a file of this test");
        run(&["-M", &pair.path().display().to_string()]);
    } else {
        let certificate = file(&format!("{own}.crt.pem"));
        run(&["-c", &certificate, "-j", &secret, "-C", &file("issuer.crt.pem")]);
    }
}

fn feature(kind: ClientCertificate<'_>) -> Feature {
    if kind == ClientCertificate::RawPublicKey { Feature::RawPublicKey } else { Feature::X509 }
}

fn our_client_proves_itself(program: &'static str, kind: ClientCertificate<'_>) {
    let Some(program) = peers::libcoap(program) else { return };
    with_credentials("server", kind, |credentials| {
        let (server, port) = serve(&program, credentials);
        // OpenSSL finds a tag of 8 bytes too short unless it is told otherwise.
        for suite in [Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128Gcm] {
            let mut secure = Secure::certificate_client(connected(port), &[suite], kind, Owner::device());
            assert_eq!((secure.establish(), secure.suite()), (Ok(()), Some(suite)), "{}", server.log());
            let mut client = Client::new(secure);
            assert!(client.send(Code::PUT, "/example_data", b"written").code.is_success());
            assert_eq!(client.get("/example_data").text(), "written");
        }
    });
    program.seen(&row(&program), Role::Server, &[feature(kind)]);
}

fn their_client_proves_itself(program: &'static str, kind: ClientCertificate<'_>) {
    let Some(program) = peers::libcoap(program) else { return };
    with_credentials("device", kind, |credentials| {
        for suite in [Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128Gcm] {
            let mut owner = Owner::server();
            if kind == ClientCertificate::RawPublicKey {
                // libcoap prefers a certificate of its server even then, and knows no issuer of it.
                owner.chain.clear();
            }
            let set_up = |secure: Secure<Listener>| secure.with_suites(&[suite]).with_owner(owner);
            let arguments = ["-m", "post", "-e", "hello"];
            let (mut client, secure) = request(&program, credentials, &arguments, "/echo", set_up);
            let mut server = Server::new(secure, b"");
            server.run(|_| client.has_ended());
            assert_eq!(client.wait_for_end(), "hello");
        }
    });
    program.seen(&row(&program), Role::Client, &[feature(kind)]);
}

/// Connects twice, the second time with the session of the first; whether the server took it up.
fn our_client_comes_back(program: &Program) -> bool {
    let (_server, port) = serve(program, &SHARED_KEY);
    let (identity, key) = (IDENTITY.as_bytes(), KEY.as_bytes());
    let mut first = Secure::client(connected(port), identity, key);
    first.establish().expect("both have the key");
    let session = first.session().cloned().expect("the server gives a session id");
    let mut client = Client::new(first);
    assert!(client.send(Code::PUT, "/example_data", b"written").code.is_success());
    let mut second = Secure::client_resuming(connected(port), identity, key, &session);
    second.establish().expect("both have the key");
    let is_resumed = second.resumed() == 1;
    assert_eq!(Client::new(second).get("/example_data").text(), "written");
    is_resumed
}

#[test]
fn our_client_reads_writes_and_observes_a_libcoap_server_over_openssl() {
    our_client_reads_writes_and_observes("coap-server-openssl");
}

#[test]
fn our_client_reads_writes_and_observes_a_libcoap_server_over_gnutls() {
    our_client_reads_writes_and_observes("coap-server-gnutls");
}

#[test]
fn a_libcoap_client_over_openssl_reads_and_writes_our_server() {
    their_client_reads_and_writes("coap-client-openssl");
}

#[test]
fn a_libcoap_client_over_gnutls_reads_and_writes_our_server() {
    their_client_reads_and_writes("coap-client-gnutls");
}

#[test]
fn a_libcoap_client_over_openssl_is_notified_by_our_server_until_it_cancels() {
    their_client_is_notified_until_it_cancels("coap-client-openssl");
}

#[test]
fn a_libcoap_client_over_gnutls_is_notified_by_our_server_until_it_cancels() {
    their_client_is_notified_until_it_cancels("coap-client-gnutls");
}

#[cfg(feature = "cbc")]
#[test]
fn our_client_and_a_libcoap_server_over_gnutls_agree_on_an_ephemeral_key() {
    our_client_agrees_on_an_ephemeral_key("coap-server-gnutls");
}

#[cfg(feature = "cbc")]
#[test]
fn a_libcoap_client_over_openssl_and_our_server_agree_on_an_ephemeral_key() {
    their_client_agrees_on_an_ephemeral_key("coap-client-openssl");
}

#[cfg(feature = "cbc")]
#[test]
fn a_libcoap_client_over_gnutls_and_our_server_agree_on_an_ephemeral_key() {
    their_client_agrees_on_an_ephemeral_key("coap-client-gnutls");
}

#[test]
fn our_client_takes_up_its_session_with_a_libcoap_server_over_openssl() {
    let Some(program) = peers::libcoap("coap-server-openssl") else { return };
    assert!(our_client_comes_back(&program));
    program.seen(&row(&program), Role::Server, &[Feature::Resumption]);
}

#[test]
fn our_client_comes_back_to_a_libcoap_server_over_gnutls_that_keeps_no_sessions() {
    let Some(program) = peers::libcoap("coap-server-gnutls") else { return };
    assert!(!our_client_comes_back(&program));
}

#[test]
fn our_client_and_a_libcoap_server_over_openssl_have_certificates() {
    our_client_proves_itself("coap-server-openssl", X509);
}

#[test]
fn a_libcoap_client_over_openssl_and_our_server_have_certificates() {
    their_client_proves_itself("coap-client-openssl", X509);
}

#[test]
fn our_client_and_a_libcoap_server_over_gnutls_prove_themselves_by_signatures() {
    for kind in [ClientCertificate::RawPublicKey, X509] {
        our_client_proves_itself("coap-server-gnutls", kind);
    }
}

#[test]
fn a_libcoap_client_over_gnutls_and_our_server_prove_themselves_by_signatures() {
    for kind in [ClientCertificate::RawPublicKey, X509] {
        their_client_proves_itself("coap-client-gnutls", kind);
    }
}
