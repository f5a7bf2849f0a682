//! Revocation lists of `[trust]` through `lwm2m-server serve`: read at the start, replaced on the disk, read again, and broken.

#![expect(clippy::unwrap_used, reason = "test")]

mod issued;

use std::path::Path;

use interop_tests::account::{Key, Security};
use interop_tests::ours::{Client, Server};
use interop_tests::owner::{Owner, key_file};
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::json;

use issued::{key, params};

const GOOD: (&str, u64) = ("revocation-good", 0x1001);
const LOST: (&str, u64) = ("revocation-lost", 0x1002);

fn authority() -> (Issuer<'static, KeyPair>, Vec<u8>) {
    let mut params = params("Makers");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = key();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    (Issuer::new(params, key), certificate)
}

fn device(authority: &Issuer<'static, KeyPair>, (name, serial): (&str, u64)) -> Key {
    let key = key();
    let mut params = params(name);
    params.serial_number = Some(SerialNumber::from(serial));
    let certificate = params.signed_by(&key, authority).unwrap().der().to_vec();
    Key {
        private: key.serialize_der(),
        public: key.subject_public_key_info(),
        certificates: vec![certificate],
    }
}

fn list(authority: &Issuer<'static, KeyPair>, serials: &[u64]) -> String {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2999, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(authority).unwrap().pem().unwrap()
}

fn server(anchor: &Path, revocations: &Path) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("server.toml");
    let [key, certificate] = ["server.key.pem", "server.crt.pem"].map(key_file);
    let text = format!(
        "[[server_keys]]\nprivate_key = {key:?}\ncertificate = {certificate:?}\n\
         [trust]\nanchors = [{anchor:?}]\nrevocation_lists = [{revocations:?}]\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let mut server = Server::start(&["--config", configuration.to_str().unwrap()]);
    server.keep(folder);
    server
}

#[test]
fn a_revocation_list_is_read_at_the_start_and_again_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [anchor, revocations] = ["ca.der", "ca.crl"].map(|name| folder.path().join(name));
    let (authority, certificate) = authority();
    std::fs::write(&anchor, certificate).unwrap();
    std::fs::write(&revocations, list(&authority, &[LOST.1])).unwrap();
    let mut server = server(&anchor, &revocations);
    let [good, lost] = [GOOD, LOST].map(|device| self::device(&authority, device));
    for (name, _) in [GOOD, LOST] {
        let account = json!({ "management": { "mode": "x509", "binding": "name" } });
        server.must("PUT", &format!("/devices/{name}/credentials"), &account);
    }
    let (uri, known) = (server.secure_uri(), Owner::server().chain.swap_remove(0));
    let start = |key: &Key, name: &str| {
        let security = Security::X509 { own: key, server: &known, usage: 3, name: "server", anchor: &[] };
        Client::run_as(name, &uri, &security, &[])
    };
    let is_in = |server: &mut Server| {
        let mut client = start(&good, GOOD.0);
        server.wait_for(&["registered", GOOD.0]);
        client.process.interrupt();
        server.wait_for(&["deregistered", GOOD.0]);
        assert_eq!(client.process.wait_for_exit(), Some(0));
    };
    let is_out = |server: &mut Server, key: &Key, (name, serial): (&str, u64)| {
        let _client = start(key, name);
        let reason =
            format!("the certificate of 'CN={name}', serial number {serial:x}, was revoked by 'CN=Makers'");
        server.wait_for(&["refused", &reason]);
    };
    let read_again = |server: &mut Server, content: &[u8], told: &str| {
        // As tools replace it: it is never there by half.
        let next = folder.path().join("next");
        std::fs::write(&next, content).unwrap();
        std::fs::rename(&next, &revocations).unwrap();
        server.process.signal("HUP");
        server.process.wait_for_text(told)
    };
    is_out(&mut server, &lost, LOST);
    is_in(&mut server);
    let told = read_again(&mut server, b"broken", "whom to trust is what was read before");
    assert!(told.contains("ERROR") && told.contains("ca.crl: neither DER nor PEM"), "{told}");
    is_out(&mut server, &lost, LOST);
    is_in(&mut server);
    let both = list(&authority, &[LOST.1, GOOD.1]);
    read_again(&mut server, both.as_bytes(), "SIGHUP: whom to trust was read again");
    is_out(&mut server, &good, GOOD);
    is_out(&mut server, &lost, LOST);
    let first = list(&authority, &[LOST.1]);
    read_again(&mut server, first.as_bytes(), "SIGHUP: whom to trust was read again");
    is_in(&mut server);
    is_out(&mut server, &lost, LOST);
}
