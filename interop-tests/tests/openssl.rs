//! OpenSSL 3.0 (`openssl s_server`, `openssl s_client`) in both roles: DTLS 1.2 with every PSK suite that both sides have.

#[cfg(feature = "cbc")]
use std::sync::Arc;

use dtls_psk::{Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::peers;
use interop_tests::process::{PATIENCE, Process, free_port, local, socket};
use interop_tests::seen::{Feature, Role};
#[cfg(feature = "cbc")]
use lwm2m_server::{
    config::Config,
    credentials::{self, Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Settings},
    driver,
    endpoint::Addresses,
    store::{RedbStore, Sealer},
};

const IDENTITY: &str = "urn:dev:ops:1-2";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";
// CCM_8 has a short tag, so OpenSSL offers it only at level 0.
const SUITE: &str = "PSK-AES128-CCM8:@SECLEVEL=0";

/// The suites that OpenSSL has, and its names for them.
const SUITES: &[(Suite, &str)] = &[
    (Suite::PskAes128Ccm8, "PSK-AES128-CCM8"),
    (Suite::PskAes128Ccm, "PSK-AES128-CCM"),
    (Suite::PskAes128Gcm, "PSK-AES128-GCM-SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::EcdhePskAes128CbcSha256, "ECDHE-PSK-AES128-CBC-SHA256"),
    #[cfg(feature = "cbc")]
    (Suite::PskAes128CbcSha256, "PSK-AES128-CBC-SHA256"),
];

fn key() -> Vec<u8> {
    hex::decode(KEY).expect("hexadecimal")
}

fn server(arguments: &[&str]) -> Option<(Process, u16)> {
    server_with(SUITE, arguments)
}

fn server_with(suite: &str, arguments: &[&str]) -> Option<(Process, u16)> {
    let program = peers::openssl()?;
    let port = free_port();
    let mut command = program.command();
    command.args(["s_server", "-dtls1_2", "-nocert", "-accept", &local(port).to_string(), "-cipher", suite]);
    command.args(["-psk_identity", IDENTITY, "-psk", KEY]).args(arguments);
    let mut server = Process::spawn("openssl s_server", command);
    server.wait_for_text("ACCEPT");
    Some((server, port))
}

/// Returns a connection to a server at `port`, its handshake not yet begun.
fn connect(port: u16, key: &[u8]) -> Secure<std::net::UdpSocket> {
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    Secure::client(socket, IDENTITY.as_bytes(), key)
}

fn exchange_lines_and_close(arguments: &[&str]) {
    let Some((server, port)) = server(arguments) else { return };
    exchange_with(server, &mut connect(port, &key()));
}

fn with_and_without_encrypt_then_mac(name: &str) -> &'static [&'static [&'static str]] {
    if name.contains("CBC") { &[&[], &["-no_etm"]] } else { &[&[]] }
}

fn exchange_with(mut server: Process, client: &mut Secure<std::net::UdpSocket>) -> Option<Suite> {
    client.establish().expect("both have the key");
    let suite = client.suite();
    client.send(b"from the client\n");
    server.wait_for_text("from the client");
    server.say("from the server");
    assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
    client.close();
    server.wait_for_text("DONE");
    suite
}

#[test]
fn our_client_talks_to_an_openssl_server() {
    exchange_lines_and_close(&[]);
}

#[test]
fn our_client_answers_the_cookie_of_an_openssl_server() {
    exchange_lines_and_close(&["-listen"]);
}

#[test]
fn our_client_takes_the_identity_hint_of_an_openssl_server() {
    exchange_lines_and_close(&["-psk_hint", "a hint"]);
}

#[test]
fn our_client_talks_to_an_openssl_server_under_every_suite_that_it_offers() {
    for (suite, name) in SUITES.iter().filter(|(suite, _)| suite.is_for_clients()) {
        for arguments in with_and_without_encrypt_then_mac(name) {
            let Some((server, port)) = server_with(&format!("{name}:@SECLEVEL=0"), arguments) else { return };
            let socket = socket();
            socket.connect(local(port)).expect("loopback is reachable");
            let mut client = Secure::client_offering(socket, IDENTITY.as_bytes(), &key(), &[*suite]);
            assert_eq!(exchange_with(server, &mut client), Some(*suite), "{name} {arguments:?}");
            note(Role::Server, key_exchange(name));
        }
    }
}

#[test]
fn our_client_is_refused_by_an_openssl_server_with_another_key() {
    let Some((_server, port)) = server(&[]) else { return };
    let mut client = connect(port, &[7; 16]);
    let reason = client.establish().expect_err("the keys differ").expect("an alert comes, or time passes");
    assert!(matches!(reason, Reason::PeerAlert(_) | Reason::FinishedUnanswered), "{reason}");
}

fn openssl_client(key: &str, suite: &str) -> Option<(Process, Secure<Listener>)> {
    openssl_client_with(key, suite, &[])
}

fn openssl_client_with(key: &str, suite: &str, arguments: &[&str]) -> Option<(Process, Secure<Listener>)> {
    let program = peers::openssl()?;
    let socket = socket();
    let address = socket.local_addr().expect("a bound socket").to_string();
    let mut command = program.command();
    command.args(["s_client", "-dtls1_2", "-connect", &address, "-cipher", suite]);
    command.args(["-psk_identity", IDENTITY, "-psk", key]).args(arguments);
    let client = Process::spawn("openssl s_client", command);
    let server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &self::key())]);
    Some((client, server))
}

#[test]
fn an_openssl_client_talks_to_our_server() {
    // With all the PSK suites it knows, ours among them, and with ours alone.
    for suite in [SUITE, "PSK:@SECLEVEL=0"] {
        let Some((mut client, mut server)) = openssl_client(KEY, suite) else { return };
        server.establish().expect("both have the key");
        client.wait_for_text("PSK-AES128-CCM8");
        client.wait_for_text("Extended master secret: yes");
        talk_and_close(&mut client, &mut server);
    }
}

fn talk_and_close(client: &mut Process, server: &mut Secure<Listener>) {
    client.say("from the client");
    assert_eq!(server.receive(PATIENCE).as_deref(), Some(&b"from the client\n"[..]));
    server.send(b"from the server\n");
    client.wait_for_text("from the server");
    client.say("Q");
    assert_eq!(server.wait_for_close(), Reason::PeerClosed);
}

#[test]
fn an_openssl_client_talks_to_our_server_under_every_suite() {
    let accepted: Vec<_> = SUITES.iter().map(|(suite, _)| *suite).collect();
    for (suite, name) in SUITES {
        for arguments in with_and_without_encrypt_then_mac(name) {
            let peers = openssl_client_with(KEY, &format!("{name}:@SECLEVEL=0"), arguments);
            let Some((mut client, server)) = peers else { return };
            let mut server = server.with_suites(&accepted);
            assert_eq!(server.establish(), Ok(()), "{name} {arguments:?}");
            assert_eq!(server.suite(), Some(*suite), "{name} {arguments:?}");
            client.wait_for_text(name);
            talk_and_close(&mut client, &mut server);
            note(Role::Client, key_exchange(name));
        }
    }
}

#[test]
fn an_openssl_client_that_offers_everything_gets_what_our_server_prefers() {
    for (suite, name) in SUITES {
        let Some((mut client, server)) = openssl_client(KEY, "PSK:@SECLEVEL=0") else { return };
        let others = SUITES.iter().map(|(other, _)| *other).filter(|other| other != suite);
        let accepted: Vec<_> = [*suite].into_iter().chain(others).collect();
        let mut server = server.with_suites(&accepted);
        assert_eq!(server.establish(), Ok(()), "{name}");
        assert_eq!(server.suite(), Some(*suite));
        client.wait_for_text(name);
    }
}

#[test]
fn an_openssl_client_with_another_key_gets_no_connection() {
    let Some((_client, mut server)) = openssl_client("ffffffffffffffffffffffffffffffff", SUITE) else {
        return;
    };
    assert_eq!(server.establish(), Err(Some(Reason::WrongKey)));
    assert_eq!(server.established(), 0);
}

#[test]
fn an_openssl_server_keeps_to_the_fragment_length_of_our_client() {
    let Some((mut server, port)) = server(&[]) else { return };
    let socket = socket();
    socket.connect(local(port)).expect("loopback is reachable");
    let mut client = Secure::client_limited(socket, IDENTITY.as_bytes(), &key(), 700);
    client.establish().expect("both have the key");
    assert_eq!(client.longest_payload(), Some(512), "the longest length within the limit");
    // OpenSSL 3.0 knows no record_size_limit, and sends nothing longer than what was agreed.
    let line = "x".repeat(511);
    server.say(&line);
    assert_eq!(client.receive(PATIENCE).map(|record| record.len()), Some(512));
    client.send(format!("{}\n", "y".repeat(511)).as_bytes());
    server.wait_for_text(&"y".repeat(511));
    client.close();
}

#[test]
fn our_server_keeps_to_the_fragment_length_of_an_openssl_client() {
    for (length, bytes) in [("512", 512), ("4096", 4096)] {
        let arguments = &["-maxfraglen", length, "-tlsextdebug"];
        let Some((mut client, mut server)) = openssl_client_with(KEY, SUITE, arguments) else { return };
        server.establish().expect("both have the key");
        client.wait_for_text("max fragment length");
        assert_eq!(server.longest_payload(), Some(bytes));
        // Longer ones are not sent, and this one arrives.
        server.send(&vec![b'y'; bytes.saturating_add(1)]);
        server.send(format!("{}\n", "x".repeat(bytes.saturating_sub(1))).as_bytes());
        client.wait_for_text(&"x".repeat(bytes.saturating_sub(1)));
        talk_and_close(&mut client, &mut server);
    }
}

#[test]
fn our_client_takes_up_its_session_with_an_openssl_server() {
    for arguments in [&["-no_ticket"][..], &[]] {
        let Some((mut server, port)) = server(arguments) else { return };
        let mut client = connect(port, &key());
        client.establish().expect("both have the key");
        client.send(b"first\n");
        server.wait_for_text("first");
        client.close();
        server.wait_for_text("DONE");
        let socket = socket();
        socket.connect(local(port)).expect("loopback is reachable");
        let session = client.session().expect("OpenSSL gives a session id");
        let mut client = Secure::client_resuming(socket, IDENTITY.as_bytes(), &key(), session);
        client.establish().expect("both have the session");
        assert_eq!(client.resumed(), 1);
        server.wait_for_text("Reused session-id");
        client.send(b"second\n");
        server.wait_for_text("second");
        server.say("from the server");
        assert_eq!(client.receive(PATIENCE).as_deref(), Some(&b"from the server\n"[..]));
        client.close();
    }
    note(Role::Server, Feature::Resumption);
}

#[test]
fn an_openssl_client_keeps_its_session_in_a_ticket_of_our_server() {
    let Some(program) = peers::openssl() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("session");
    let file = file.to_str().expect("a path of text");
    let socket = socket();
    let address = socket.local_addr().expect("a bound socket").to_string();
    let mut server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
    server.rotate_tickets();
    let connect = |server: &mut Secure<Listener>, arguments: &[&str], printed: &[&str]| {
        let before = server.resumed();
        let mut command = program.command();
        command.args(["s_client", "-dtls1_2", "-connect", &address, "-cipher", SUITE]);
        command.args(["-psk_identity", IDENTITY, "-psk", KEY, "-msg"]).args(arguments);
        let mut client = Process::spawn("openssl s_client", command);
        server.establish().expect("both have the key or the session");
        for text in printed {
            client.wait_for_text(text);
        }
        talk_and_close(&mut client, server);
        server.resumed() > before
    };
    assert!(!connect(&mut server, &["-sess_out", file], &["New, TLSv1.2", "lifetime hint: 3600"]));
    assert_eq!(server.session(), None, "the server keeps nothing");
    for _ in 0..2 {
        assert!(connect(&mut server, &["-sess_in", file], &["Reused, TLSv1.2"]));
    }
    // Under a former key it is still taken, and a new one comes with it: a NewSessionTicket that both Finished cover.
    server.rotate_tickets();
    assert!(connect(&mut server, &["-sess_in", file], &["04 00 00 66 00 02", "Reused, TLSv1.2"]));
    // Under no key that is known: a full handshake. s_client writes no session of an abbreviated handshake.
    server.forget_former_tickets();
    assert!(!connect(&mut server, &["-sess_in", file], &["New, TLSv1.2"]));
}

#[test]
fn an_openssl_client_takes_up_its_session_with_our_server() {
    for more in [&["-no_ticket"][..], &[]] {
        let Some(program) = peers::openssl() else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("session");
        let file = file.to_str().expect("a path of text");
        let socket = socket();
        let address = socket.local_addr().expect("a bound socket").to_string();
        let mut server = Secure::server(Listener::new(&socket), &[(IDENTITY.as_bytes(), &key())]);
        for (round, session) in ["-sess_out", "-sess_in", "-sess_in"].into_iter().enumerate() {
            let mut command = program.command();
            command.args(["s_client", "-dtls1_2", "-connect", &address, "-cipher", SUITE]);
            command.args(["-psk_identity", IDENTITY, "-psk", KEY, session, file]).args(more);
            let mut client = Process::spawn("openssl s_client", command);
            server.establish().expect("both have the key or the session");
            client.wait_for_text(if round == 0 { "New, TLSv1.2" } else { "Reused, TLSv1.2" });
            assert_eq!(server.resumed(), round);
            talk_and_close(&mut client, &mut server);
        }
    }
    note(Role::Client, Feature::Resumption);
}

fn key_exchange(name: &str) -> Feature {
    if name.starts_with("ECDHE") { Feature::EcdhePsk } else { Feature::Psk }
}

fn note(role: Role, feature: Feature) {
    if let Some(program) = peers::openssl() {
        program.seen("OpenSSL", role, &[feature]);
    }
}

/// A device of LwM2M 1.0 that has no other suite.
#[cfg(feature = "cbc")]
#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_lwm2m_1_0_is_taken_once_the_configuration_of_our_server_names_it() {
    let Some(program) = peers::openssl() else { return };
    let named = "[dtls]\nsuites = [\"TLS_PSK_WITH_AES_128_CCM_8\", \"TLS_PSK_WITH_AES_128_CBC_SHA256\"]\n";
    for (text, is_taken) in [("", false), (named, true)] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it is written");
        let configured = Config::read(file.path()).and_then(Config::settle).expect("a configuration");
        let sealer = Sealer::new(&[1; 32], "test").expect("a key of the right length");
        let store = RedbStore::in_memory(sealer).expect("a store in memory");
        let credentials =
            Credentials::open(Arc::new(store), Settings::default()).expect("an empty store opens");
        let key = KeyMaterial::Given {
            identity: Identity::new(IDENTITY.as_bytes()).expect("a short name"),
            key: Key::new(key()).expect("a key of a possible length"),
        };
        let accounts = vec![EnrolAccount { role: credentials::Role::Management, key }];
        let enrolled = credentials.enrol(1, "test", "meter", &Enrol { accounts, ..Enrol::default() });
        enrolled.expect("a new device is enrolled");
        let addresses = Addresses { coaps: Some(local(0)), ..Addresses::default() };
        let mut settings = driver::Settings { addresses, ..driver::Settings::default() };
        settings.endpoint.dtls = settings.endpoint.dtls.with_suites(configured.suites);
        let running =
            driver::start(settings, Arc::new(credentials)).await.expect("loopback can be listened on");
        let address = running.addresses.coaps.expect("it listens").to_string();
        tokio::task::block_in_place(|| {
            let mut command = program.command();
            command.args(["s_client", "-dtls1_2", "-connect", &address, "-cipher", "PSK-AES128-CBC-SHA256"]);
            command.args(["-psk_identity", IDENTITY, "-psk", KEY]);
            let mut client = Process::spawn("openssl s_client", command);
            client.wait_for_text(if is_taken {
                "Cipher is PSK-AES128-CBC-SHA256"
            } else {
                "alert handshake failure"
            });
        });
    }
}
