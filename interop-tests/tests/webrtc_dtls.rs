//! webrtc-rs `dtls` 0.17 in both roles: DTLS 1.2, PSK_WITH_AES_128_CCM_8 and certificates with every suite that both sides
//! have, over UDP on loopback within this process.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use dtls::cipher_suite::CipherSuiteId;
use dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate;
use dtls_psk::{ClientCertificate, Suite};
use interop_tests::coap::{Listener, Transport};
use interop_tests::dtls::Secure;
use interop_tests::owner::Owner;
use interop_tests::process::{PATIENCE, socket};
use interop_tests::seen::{Feature, Role, locked, seen};
use std::net::UdpSocket;

const IDENTITY: &[u8] = b"urn:dev:ops:1-2";
const KEY: &[u8] = b"sixteen byte key";

fn config(extended_master_secret: ExtendedMasterSecretType) -> Config {
    Config {
        cipher_suites: vec![CipherSuiteId::Tls_Psk_With_Aes_128_Ccm_8],
        psk: Some(Arc::new(|_identity| Box::pin(async { Ok(KEY.to_vec()) }))),
        psk_identity_hint: Some(IDENTITY.to_vec()),
        extended_master_secret,
        ..Config::default()
    }
}

/// The suites of certificates that both sides have.
const SIGNED_SUITES: [(Suite, CipherSuiteId); 3] = [
    (Suite::EcdheEcdsaAes128Ccm8, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm_8),
    (Suite::EcdheEcdsaAes128Ccm, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm),
    (Suite::EcdheEcdsaAes128Gcm, CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256),
];

/// webrtc-rs with a certificate of its own making, which `ours` trusts then; it takes ours alone.
fn with_certificates(suite: CipherSuiteId, ours: &mut Owner) -> Config {
    let certificate = Certificate::generate_self_signed(["webrtc".to_owned()]).expect("a key and a name");
    ours.trusted = certificate.certificate.iter().map(|certificate| certificate.to_vec()).collect();
    let known = ours.chain.clone();
    Config {
        cipher_suites: vec![suite],
        certificates: vec![certificate],
        client_auth: ClientAuthType::RequireAnyClientCert,
        // Its own check takes no certificate of version 1.
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |presented, _| {
            if presented == known { Ok(()) } else { Err(dtls::Error::ErrInvalidCertificate) }
        })),
        extended_master_secret: ExtendedMasterSecretType::Require,
        ..Config::default()
    }
}

/// Runs webrtc-rs on a thread: it says `hello` once connected and sends back the next two messages.
fn run(config: Config, client: bool, socket: UdpSocket) -> JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            socket.set_nonblocking(true).expect("a socket");
            let socket = tokio::net::UdpSocket::from_std(socket).expect("within the runtime");
            let connection =
                DTLSConn::new(Arc::new(socket), config, client, None).await.expect("both know each other");
            connection.write(b"hello", None).await.expect("connected");
            for _ in 0..2 {
                let mut message = [0; 2048];
                let length = connection.read(&mut message, None).await.expect("connected");
                let message = message.get(..length).unwrap_or_default();
                connection.write(message, None).await.expect("connected");
            }
            // The other side closes.
            let _ = connection.read(&mut [0; 2048], None).await;
        });
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

fn connected() -> (UdpSocket, UdpSocket) {
    let (mine, theirs) = (socket(), socket());
    mine.connect(theirs.local_addr().expect("a bound socket")).expect("loopback is reachable");
    theirs.connect(mine.local_addr().expect("a bound socket")).expect("loopback is reachable");
    (mine, theirs)
}

#[test]
fn our_client_talks_to_a_webrtc_server() {
    let (mine, theirs) = connected();
    let server = run(config(ExtendedMasterSecretType::Require), false, theirs);
    let mut client = Secure::client(mine, IDENTITY, KEY);
    talk(&mut client);
    assert_eq!(client.session(), None, "it gives no session id");
    server.join().expect("no panic");
    seen("webrtc-rs dtls", &locked("dtls"), Role::Server, &[Feature::Psk]);
}

#[test]
fn our_client_and_a_webrtc_server_have_certificates() {
    for (suite, theirs_suite) in SIGNED_SUITES {
        let (mine, theirs) = connected();
        let mut owner = Owner::device();
        let server = run(with_certificates(theirs_suite, &mut owner), false, theirs);
        let kind = ClientCertificate::X509 { server_name: None };
        let mut client = Secure::certificate_client(mine, &[suite], kind, owner);
        assert_eq!(talk(&mut client), Some(suite));
        server.join().expect("no panic");
    }
    seen("webrtc-rs dtls", &locked("dtls"), Role::Server, &[Feature::X509]);
}

#[test]
fn a_webrtc_client_and_our_server_have_certificates() {
    for (suite, theirs_suite) in SIGNED_SUITES {
        let (mine, theirs) = connected();
        let mut owner = Owner::server();
        let client = run(with_certificates(theirs_suite, &mut owner), true, theirs);
        let server = Secure::server(Listener::new(&mine), &[]).with_suites(Suite::ALL);
        let mut server = server.with_owner(owner);
        assert_eq!(talk(&mut server), Some(suite));
        client.join().expect("no panic");
    }
    seen("webrtc-rs dtls", &locked("dtls"), Role::Client, &[Feature::X509]);
}

#[test]
fn our_client_does_without_the_extended_master_secret_that_a_webrtc_server_lacks() {
    let (mine, theirs) = connected();
    let server = run(config(ExtendedMasterSecretType::Disable), false, theirs);
    talk(&mut Secure::client(mine, IDENTITY, KEY));
    server.join().expect("no panic");
}

#[test]
fn a_webrtc_client_talks_to_our_server_with_and_without_the_extended_master_secret() {
    for extended in [ExtendedMasterSecretType::Require, ExtendedMasterSecretType::Disable] {
        let (mine, theirs) = connected();
        let client = run(config(extended), true, theirs);
        talk(&mut Secure::server(Listener::new(&mine), &[(IDENTITY, KEY)]));
        client.join().expect("no panic");
    }
    seen("webrtc-rs dtls", &locked("dtls"), Role::Client, &[Feature::Psk]);
}
