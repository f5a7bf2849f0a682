//! dimpl 0.9 in both roles: DTLS 1.2, PSK_WITH_AES_128_CCM_8 and certificates with ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, over
//! UDP on loopback within this process.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dimpl::{Config, ConfigBuilder, Dtls, DtlsCertificate, Output, PskResolver};
use dtls_psk::{ClientCertificate, Reason, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::process::{PATIENCE, socket};
use interop_tests::seen::{Feature, Role, locked, seen};

const IDENTITY: &[u8] = b"urn:dev:ops:1-2";
const KEY: &[u8] = b"sixteen byte key";

struct OneKey(&'static [u8]);

impl PskResolver for OneKey {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        (identity == IDENTITY).then(|| self.0.to_vec())
    }
}

/// Runs dimpl on a thread: it says `hello` once connected, sends back what it gets, and ends with close_notify.
/// Returns what it got. With `own`, `device` or `server`, it has that certificate of `peers/keys` and takes the other alone.
fn run(
    config: ConfigBuilder,
    own: Option<&'static str>,
    client: bool,
    socket: UdpSocket,
    mut remote: Option<SocketAddr>,
) -> JoinHandle<Vec<Vec<u8>>> {
    thread::spawn(move || {
        let read = |name: &str| std::fs::read(key_file(name)).expect("a file of this repository");
        let config: Arc<Config> = Arc::new(config.build().expect("a valid configuration"));
        let mut dtls = match own {
            Some(own) => {
                let (certificate, private_key) =
                    (read(&format!("{own}.der")), read(&format!("{own}.key.pem")));
                Dtls::new_12(config, DtlsCertificate { certificate, private_key }, Instant::now())
            }
            None => Dtls::new_12_psk(config, Instant::now()),
        };
        dtls.set_active(client);
        let mut got = Vec::new();
        let mut next = Instant::now();
        loop {
            if next <= Instant::now() && dtls.handle_timeout(Instant::now()).is_err() {
                return got;
            }
            let mut buffer = vec![0; 4096];
            let mut echo = Vec::new();
            loop {
                match dtls.poll_output(&mut buffer) {
                    Output::Packet(packet) => {
                        let remote = remote.expect("a client knows whom, a server was spoken to");
                        socket.send_to(packet, remote).expect("loopback takes it");
                    }
                    Output::Timeout(at) => {
                        next = at;
                        break;
                    }
                    Output::Connected => echo.push(b"hello".to_vec()),
                    Output::ApplicationData(data) => {
                        got.push(data.to_vec());
                        echo.push(data.to_vec());
                    }
                    Output::PeerCert(presented) => {
                        assert_eq!(presented, read(if client { "server.der" } else { "device.der" }));
                    }
                    Output::CloseNotify => return got,
                    _ => {}
                }
            }
            if !echo.is_empty() {
                for data in echo {
                    dtls.send_application_data(&data).expect("connected");
                }
                continue;
            }
            let wait = next.saturating_duration_since(Instant::now());
            socket
                .set_read_timeout(Some(wait.clamp(Duration::from_millis(1), Duration::from_millis(500))))
                .expect("not zero");
            let mut packet = [0; 2048];
            if let Ok((length, from)) = socket.recv_from(&mut packet) {
                remote = Some(from);
                if dtls.handle_packet(packet.get(..length).unwrap_or_default()).is_err() {
                    return got;
                }
            }
        }
    })
}

/// Data both ways; the suite that it had.
fn talk<T: Transport>(ours: &mut Secure<T>) -> Option<Suite> {
    ours.establish().expect("both know each other");
    assert_eq!(ours.receive(PATIENCE).as_deref(), Some(&b"hello"[..]));
    for message in [b"one".to_vec(), vec![7; 1024]] {
        ours.send(&message);
        assert_eq!(ours.receive(PATIENCE), Some(message));
    }
    let suite = ours.suite();
    ours.close();
    suite
}

#[test]
fn our_client_talks_to_a_dimpl_server_with_and_without_a_cookie() {
    for cookie in [true, false] {
        let (mine, theirs) = (socket(), socket());
        mine.connect(theirs.local_addr().expect("a bound socket")).expect("loopback is reachable");
        let config = Config::builder()
            .with_psk_server(Some(b"a hint".to_vec()), Arc::new(OneKey(KEY)))
            .use_server_cookie(cookie);
        let server = run(config, None, false, theirs, None);
        let mut client = Secure::client(mine, IDENTITY, KEY);
        talk(&mut client);
        assert_eq!(client.session(), None, "it gives no session id");
        assert_eq!(server.join().expect("no panic").len(), 2);
    }
    seen("dimpl", &locked("dimpl"), Role::Server, &[Feature::Psk]);
}

#[test]
fn our_client_and_a_dimpl_server_have_certificates() {
    let (mine, theirs) = (socket(), socket());
    mine.connect(theirs.local_addr().expect("a bound socket")).expect("loopback is reachable");
    let config = Config::builder().require_client_certificate(true);
    let server = run(config, Some("server"), false, theirs, None);
    let kind = ClientCertificate::X509 { server_name: None };
    let suite = Suite::EcdheEcdsaAes128Gcm;
    let mut client = Secure::certificate_client(mine, &[suite], kind, Owner::device());
    assert_eq!(talk(&mut client), Some(suite));
    assert_eq!(server.join().expect("no panic").len(), 2);
    seen("dimpl", &locked("dimpl"), Role::Server, &[Feature::X509]);
}

#[test]
fn a_dimpl_client_and_our_server_have_certificates() {
    let (mine, theirs) = (socket(), socket());
    let address = mine.local_addr().expect("a bound socket");
    let client = run(Config::builder(), Some("device"), true, theirs, Some(address));
    let server = Secure::server(Listener::new(&mine), &[]).with_suites(Suite::ALL);
    let mut server = server.with_owner(Owner::server());
    assert_eq!(talk(&mut server), Some(Suite::EcdheEcdsaAes128Gcm));
    assert_eq!(client.join().expect("no panic").len(), 2);
    seen("dimpl", &locked("dimpl"), Role::Client, &[Feature::X509]);
}

#[test]
fn a_dimpl_client_talks_to_our_server() {
    let (mine, theirs) = (socket(), socket());
    let address = mine.local_addr().expect("a bound socket");
    let config = Config::builder().with_psk_client(IDENTITY.to_vec(), Arc::new(OneKey(KEY)));
    let client = run(config, None, true, theirs, Some(address));
    talk(&mut Secure::server(Listener::new(&mine), &[(IDENTITY, KEY)]));
    assert_eq!(client.join().expect("no panic").len(), 2);
    seen("dimpl", &locked("dimpl"), Role::Client, &[Feature::Psk]);
}

#[test]
fn a_dimpl_client_with_another_key_gets_no_connection() {
    let (mine, theirs) = (socket(), socket());
    let address = mine.local_addr().expect("a bound socket");
    let config = Config::builder()
        .with_psk_client(IDENTITY.to_vec(), Arc::new(OneKey(b"another key")))
        .handshake_timeout(Duration::from_secs(6));
    let client = run(config, None, true, theirs, Some(address));
    let mut server = Secure::server(Listener::new(&mine), &[(IDENTITY, KEY)]);
    assert_eq!(server.establish(), Err(Some(Reason::WrongKey)));
    assert!(client.join().expect("no panic").is_empty());
}
