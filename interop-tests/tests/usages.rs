//! Certificate usages 0 to 3 of `lwm2m-client` with one file for whom it trusts, against `lwm2m-server` with a chain.

#![expect(clippy::unwrap_used, reason = "test")]

mod issued;

use interop_tests::account::{Key, Psk, Security, file};
use interop_tests::ours::{Client, Server};
use lwm2m_server::credentials::pem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _, SanType};
use serde_json::json;

use issued::{key, params};

const NAME: &str = "usages";

/// What the server's certificate has besides its address.
const SERVER: &str = "server.example";

fn authority(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn made(key: &KeyPair, certificates: Vec<Vec<u8>>) -> Key {
    Key { private: key.serialize_der(), public: key.subject_public_key_info(), certificates }
}

/// A server's key, two authorities above it, and another that only has the name of the upper one.
struct Chain {
    root: Vec<u8>,
    between: Vec<u8>,
    other: Vec<u8>,
    server: Key,
}

impl Chain {
    fn new() -> Self {
        let (root_key, between_key, server_key) = (key(), key(), key());
        let root = authority("Root").self_signed(&root_key).unwrap().der().to_vec();
        let other = authority("Root").self_signed(&key()).unwrap().der().to_vec();
        let issuer = Issuer::new(authority("Root"), root_key);
        let between = authority("Between").signed_by(&between_key, &issuer).unwrap().der().to_vec();
        let issuer = Issuer::new(authority("Between"), between_key);
        let mut own = params("Server");
        own.subject_alt_names =
            vec![SanType::IpAddress([127, 0, 0, 1].into()), SanType::DnsName(SERVER.try_into().unwrap())];
        let own = own.signed_by(&server_key, &issuer).unwrap().der().to_vec();
        let server = made(&server_key, vec![own, between.clone()]);
        Self { root, between, other, server }
    }
}

#[test]
fn a_client_that_does_not_trust_its_server_tries_again_until_it_is_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let certified = |common_name| {
        let key = key();
        let certificate = params(common_name).self_signed(&key).unwrap().der().to_vec();
        made(&key, vec![certificate])
    };
    let [right, wrong, device] = ["right", "wrong", NAME].map(certified);
    let [private_key, certificate] = wrong.files(folder.path(), "server");
    let text = format!("[[server_keys]]\nprivate_key = {private_key:?}\ncertificate = {certificate:?}\n");
    let configuration = file(folder.path(), "server.toml", text.as_bytes());
    let mut server = Server::start(&["--config", &configuration]);
    let pinned = json!({ "mode": "x509", "certificate": pem("CERTIFICATE", device.certificate()).as_str() });
    server.must("PUT", &format!("/devices/{NAME}/credentials"), &json!({ "management": pinned }));

    let account = Security::X509 {
        own: &device,
        server: right.certificate(),
        usage: 3,
        name: "server.example",
        anchor: &[],
    };
    let mut client = Client::run_as(NAME, &server.secure_uri(), &account, &["--give-up", "600"]);
    client.process.wait_for_text("trying again");
    // Not once only: the handshake after a pause fails too.
    client.process.wait_for_text("trying again");
    let _files = right.files(folder.path(), "server");
    server.restart(true);
    server.wait_for(&["registered", NAME]);
}

#[test]
fn every_certificate_usage_does_with_one_file_of_whom_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let Chain { root, between, other, server } = Chain::new();
    let own = server.certificate().to_vec();
    let device_key = key();
    let device = params(NAME).self_signed(&device_key).unwrap().der().to_vec();
    let [private_key, certificate] = server.files(folder.path(), "server");
    let text = format!("[[server_keys]]\nprivate_key = {private_key:?}\ncertificate = {certificate:?}\n");
    let configuration = file(folder.path(), "server.toml", text.as_bytes());
    let mut server = Server::start(&["--config", &configuration]);
    let pinned = json!({ "mode": "x509", "certificate": pem("CERTIFICATE", &device).as_str() });
    server.must("PUT", &format!("/devices/{NAME}/credentials"), &json!({ "management": pinned }));

    let [key, certificate] = made(&device_key, vec![device]).files(folder.path(), "device");
    for (usage, trusted, is_in) in [
        ("0", &[&root][..], true),
        ("0", &[&between, &root], true),
        ("0", &[&other], false),
        ("1", &[&own, &root], true),
        ("1", &[&own, &other], false),
        ("1", &[&own], false),
        ("1", &[&root], false),
        ("2", &[&root], true),
        ("2", &[&other], false),
        ("3", &[&own], true),
        ("3", &[&root], false),
    ] {
        let all: String = trusted.iter().map(|der| pem("CERTIFICATE", der).as_str().to_owned()).collect();
        let trust = file(folder.path(), "trust.pem", all.as_bytes());
        let arguments = ["--certificate", &certificate, "--private-key", &key, "--trust", &trust];
        let more = ["--certificate-usage", usage, "--give-up", "2"];
        let mut client = Client::run_with(NAME, &server.secure_uri(), &[&arguments[..], &more].concat(), &[]);
        let case = format!("usage {usage}, {} certificates", trusted.len());
        if is_in {
            server.wait_for(&["registered", NAME]);
            client.process.interrupt();
            server.wait_for(&["deregistered", NAME]);
        }
        let code = client.process.wait_for_exit();
        assert_eq!(code, Some(if is_in { 0 } else { 3 }), "{case}: {}", client.process.log());
        let is_told = client.process.log().contains("certificate");
        assert!(is_in || is_told, "{case}: {}", client.process.log());
    }
}

#[test]
fn an_account_with_usage_0_or_1_is_worth_nothing_to_a_device_without_anchors_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let Chain { root, between, other, server } = Chain::new();
    let [private_key, certificate] = server.files(folder.path(), "server");
    let anchor = file(folder.path(), "between.crt.der", &between);
    let text = format!(
        "[[server_keys]]\nprivate_key = {private_key:?}\ncertificate = {certificate:?}\nanchor = {anchor:?}\n"
    );
    let configuration = file(folder.path(), "server.toml", text.as_bytes());
    let mut server = Server::start(&["--config", &configuration]);
    for (usage, anchor, is_in) in [(0, &root, true), (1, &root, true), (0, &other, false), (1, &other, false)]
    {
        let device = format!("usage-{usage}-{is_in}");
        let psk = Psk { identity: &device, key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };
        let accounts = json!({
            "bootstrap": { "identity": psk.identity, "key": psk.key },
            "management": { "mode": "x509", "generate": true },
            "profile": { "server_uri": server.secure_uri(), "certificate_usage": usage },
        });
        server.must("PUT", &format!("/devices/{device}/credentials"), &accounts);
        let anchor = file(folder.path(), "anchor.crt.der", anchor);
        let arguments = ["--bootstrap", "--give-up", "2", "--trust-anchor", &anchor];
        let mut client = Client::run(&device, &server.secure_bootstrap_uri(), Some(psk), &arguments);
        server.wait_for(&["bootstrap-finished", &device]);
        if is_in {
            server.wait_for(&["registered", &device]);
        } else {
            assert_eq!(client.process.wait_for_exit(), Some(3), "{}", client.process.log());
            assert!(client.process.log().contains("certificate"), "{}", client.process.log());
        }
    }
}
