//! Certificate usages 0 to 3 of `lwm2m-client` with one file for whom it trusts, against `lwm2m-server` with a chain.

#![expect(clippy::unwrap_used, reason = "test")]

mod issued;

use interop_tests::account::{Key, file};
use interop_tests::ours::{Client, Server};
use lwm2m_server::credentials::pem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _, SanType};
use serde_json::json;

use issued::{key, params};

const NAME: &str = "usages";

fn authority(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn made(key: &KeyPair, certificates: Vec<Vec<u8>>) -> Key {
    Key { private: key.serialize_der(), public: key.subject_public_key_info(), certificates }
}

#[test]
fn every_certificate_usage_does_with_one_file_of_whom_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (root_key, between_key, server_key, device_key) = (key(), key(), key(), key());
    let root = authority("Root").self_signed(&root_key).unwrap().der().to_vec();
    let other = authority("Root").self_signed(&key()).unwrap().der().to_vec();
    let issuer = Issuer::new(authority("Root"), root_key);
    let between = authority("Between").signed_by(&between_key, &issuer).unwrap().der().to_vec();
    let issuer = Issuer::new(authority("Between"), between_key);
    let mut own = params("Server");
    own.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let own = own.signed_by(&server_key, &issuer).unwrap().der().to_vec();
    let device = params(NAME).self_signed(&device_key).unwrap().der().to_vec();

    let server = made(&server_key, vec![own.clone(), between.clone()]);
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
        let more = ["--certificate-usage", usage, "--give-up", "5"];
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
