//! Leshan with raw public keys and X.509: server and client 2.0.0-M18, bootstrap server 2.0.0-M14. Each certificate usage and SNI, and
//! accounts in these modes that a bootstrap server writes, in both roles.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod issued;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use interop_tests::account::{Key, Psk, Security};
use interop_tests::leshan::{BootstrapServer, Client, Server};
use interop_tests::process::local;
use interop_tests::relay::Relay;
use interop_tests::seen::{Feature, Role};
use interop_tests::sniffer::From;
use interop_tests::{ours, peers};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use serde_json::{Value, json};

use issued::key;

const BOOTSTRAP: Psk<'_> = Psk { identity: "bootstrap-account", key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };

/// What the server's certificate has, and no resolver knows.
const NAME: &str = "server.example";

/// The device of tests with one.
const DEVICE: &str = "device";

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = issued::params(common_name);
    let names = names.iter().map(|&name| SanType::DnsName(name.try_into().unwrap()));
    params.subject_alt_names = names.collect();
    params
}

/// A root, and an authority below it, which has issued everybody's certificate.
struct Authorities {
    root: Vec<u8>,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Authorities {
    fn new() -> Self {
        let params = |common_name| {
            let mut params = params(common_name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let root = CertifiedIssuer::self_signed(params("Root"), key()).unwrap();
        let authority = CertifiedIssuer::signed_by(params("Authority"), key(), &root).unwrap();
        Self { root: root.der().to_vec(), authority }
    }

    /// The authority's own certificate, which servers trust.
    fn anchor(&self) -> &[u8] {
        self.authority.der()
    }

    /// A new key, with a certificate of that common name and those DNS names.
    fn key(&self, common_name: &str, names: &[&str]) -> Key {
        let pair = key();
        let certificate = params(common_name, names).signed_by(&pair, &self.authority).unwrap();
        Key {
            private: pair.serialize_der(),
            public: pair.subject_public_key_info(),
            certificates: vec![certificate.der().to_vec(), self.anchor().to_vec()],
        }
    }

    /// An account with certificates for each usage.
    fn accounts<'k>(&'k self, own: &'k Key, server: &'k Key) -> [Security<'k>; 4] {
        let (authority, root, none) = (self.anchor(), self.root.as_slice(), &[][..]);
        let (name, leaf) = (NAME, server.certificate());
        [(authority, root), (leaf, root), (root, none), (leaf, none)]
            .into_iter()
            .zip(0..)
            .map(|((server, anchor), usage)| Security::X509 { own, server, usage, name, anchor })
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    }
}

/// Our server with these keys, the preferred one first, which trusts the authorities.
fn server(authorities: &Authorities, keys: &[(&str, &Key)]) -> ours::Server {
    anchored(authorities, keys, None).0
}

/// The same where bootstraps write this authority instead of the server's certificate, and the folder of its keys.
fn anchored(
    authorities: &Authorities,
    keys: &[(&str, &Key)],
    written: Option<&[u8]>,
) -> (ours::Server, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, der: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, der).unwrap();
        file
    };
    let anchor = file("authority.crt.der", authorities.anchor());
    let written = written.map(|der| format!("anchor = {:?}\n", file("written.crt.der", der)));
    let mut text = String::new();
    for (name, key) in keys {
        let [private_key, certificate] = key.files(folder.path(), name);
        text += &format!(
            "[[server_keys]]\nprivate_key = {private_key:?}\ncertificate = {certificate:?}\nnames = [{name:?}]\n"
        );
        text += written.as_deref().unwrap_or_default();
    }
    text += &format!("[trust]\nanchors = [{anchor:?}]\n");
    let configuration = folder.path().join("server.toml");
    std::fs::write(&configuration, text).unwrap();
    let mut server = ours::Server::start(&["--config", configuration.to_str().unwrap()]);
    let path = folder.path().to_owned();
    server.keep(folder);
    (server, path)
}

fn note(role: Role, features: &[Feature]) {
    if let Some(program) = peers::leshan() {
        program.seen("Leshan", role, features);
    }
}

fn read_at_ours(server: &ours::Server, device: &str) {
    let read = server.must("GET", &format!("/devices/{device}/objects/3/0/0"), &Value::Null).to_string();
    let is_read =
        ["Reference Manufacturer", "Open LwM2M"].iter().any(|manufacturer| read.contains(manufacturer));
    assert!(is_read, "{read}");
}

/// Waits for the registration of our client, and reads from it.
fn read_at_leshan(server: &mut Server, device: &str) {
    server.wait_for(&format!("registered {device}"));
    let read = server.ask(&format!("read {device} /3/0/0 TEXT"));
    assert!(read.starts_with("205 LwM2mSingleResource"), "{read}");
}

#[test]
fn our_client_and_leshans_server_know_each_other_by_raw_public_keys() {
    let authorities = Authorities::new();
    let [own, server_key] =
        [(DEVICE, &[][..]), ("server", &[NAME])].map(|(cn, names)| authorities.key(cn, names));
    let Some(mut server) = Server::start_as(&server_key, authorities.anchor()) else { return };
    let account = Security::RawPublicKey { own: &own, server: &server_key.public };
    server.add_as(DEVICE, &account);
    let _client = ours::Client::run_as(DEVICE, &server.secure_uri(), &account, &[]);
    read_at_leshan(&mut server, DEVICE);
    note(Role::Server, &[Feature::RawPublicKey]);
}

#[test]
fn our_client_trusts_leshans_server_by_each_certificate_usage() {
    let authorities = Authorities::new();
    let server_key = authorities.key("server", &[NAME]);
    let Some(mut server) = Server::start_as(&server_key, authorities.anchor()) else { return };
    for usage in 0..4 {
        let device = format!("usage-{usage}");
        let own = authorities.key(&device, &[]);
        let account = authorities.accounts(&own, &server_key)[usage];
        server.add_as(&device, &account);
        let _client = ours::Client::run_as(&device, &server.secure_uri(), &account, &[]);
        read_at_leshan(&mut server, &device);
    }
    note(Role::Server, &[Feature::X509]);
}

#[test]
fn leshans_client_and_our_server_know_each_other_by_raw_public_keys() {
    if peers::leshan().is_none() {
        return;
    }
    let authorities = Authorities::new();
    let [own, server_key] =
        [(DEVICE, &[][..]), ("server", &[NAME])].map(|(cn, names)| authorities.key(cn, names));
    let mut server = server(&authorities, &[(NAME, &server_key)]);
    let account = json!({ "management": { "mode": "rpk", "public_key": hex::encode(&own.public) } });
    server.must("PUT", "/devices/device/credentials", &account);
    let account = Security::RawPublicKey { own: &own, server: &server_key.public };
    let Some(_client) = Client::start_as(DEVICE, &server.secure_uri(), &account) else { return };
    server.wait_for(&["registered", DEVICE]);
    read_at_ours(&server, DEVICE);
    note(Role::Client, &[Feature::RawPublicKey]);
}

#[test]
fn leshans_client_asks_our_server_for_its_name_and_trusts_it_by_each_certificate_usage() {
    if peers::leshan().is_none() {
        return;
    }
    let authorities = Authorities::new();
    let [other_key, server_key] = ["other.example", NAME].map(|name| authorities.key("server", &[name]));
    // Who asks for no name gets the first.
    let mut server = server(&authorities, &[("other.example", &other_key), (NAME, &server_key)]);
    for usage in 0..4 {
        let device = format!("usage-{usage}");
        let own = authorities.key(&device, &[]);
        let account = json!({ "management": { "mode": "x509", "binding": "name" } });
        server.must("PUT", &format!("/devices/{device}/credentials"), &account);
        let account = authorities.accounts(&own, &server_key)[usage];
        let Some(_client) = Client::start_as(&device, &server.secure_uri(), &account) else { return };
        server.wait_for(&["registered", &device]);
        read_at_ours(&server, &device);
    }
    note(Role::Client, &[Feature::X509]);
}

#[test]
fn leshans_client_takes_accounts_with_keys_and_certificates_from_our_server_in_every_mode() {
    if peers::leshan().is_none() {
        return;
    }
    let authorities = Authorities::new();
    let server_key = authorities.key("server", &[NAME]);
    let mut server = server(&authorities, &[(NAME, &server_key)]);
    for (bootstrap, management) in [("psk", "rpk"), ("psk", "x509"), ("rpk", "x509"), ("x509", "rpk")] {
        let device = format!("{bootstrap}-{management}");
        let own = authorities.key(&device, &[]);
        let (account, security) = match bootstrap {
            "psk" => {
                let psk = Psk { identity: &device, ..BOOTSTRAP };
                (json!({ "identity": device, "key": BOOTSTRAP.key }), Security::Psk(psk))
            }
            "rpk" => {
                let public_key = hex::encode(&own.public);
                let security = Security::RawPublicKey { own: &own, server: &server_key.public };
                (json!({ "mode": "rpk", "public_key": public_key }), security)
            }
            _ => {
                let [.., known] = authorities.accounts(&own, &server_key);
                (json!({ "mode": "x509", "binding": "name" }), known)
            }
        };
        let accounts = json!({
            "bootstrap": account,
            "management": { "mode": management, "generate": true },
            "profile": { "server_uri": server.secure_uri(), "lifetime": 300 },
        });
        server.must("PUT", &format!("/devices/{device}/credentials"), &accounts);
        let uri = server.secure_bootstrap_uri();
        let Some(mut client) = Client::bootstrap_as(&device, &uri, &security) else { return };
        client.wait_for("bootstrapped");
        client.wait_for("registered");
        server.wait_for(&["bootstrap-finished", &device]);
        server.wait_for(&["registered", &device]);
        read_at_ours(&server, &device);
    }
    note(Role::Client, &[Feature::Bootstrap]);
}

#[test]
fn leshans_client_takes_the_authority_of_our_server_and_its_name_and_needs_no_account_for_the_next_certificate()
 {
    if peers::leshan().is_none() {
        return;
    }
    let authorities = Authorities::new();
    let server_key = authorities.key("server", &[NAME]);
    // Its own issuer, and the one above that.
    for (device, anchor) in [("issuer", authorities.anchor()), ("root", authorities.root.as_slice())] {
        let (mut server, folder) = anchored(&authorities, &[(NAME, &server_key)], Some(anchor));
        let named = Arc::new(AtomicUsize::new(0));
        let relay = Relay::start(&server.secure_uri(), {
            let named = Arc::clone(&named);
            move |from, datagram| {
                // In the clear: the server_name of a ClientHello.
                let is_named = datagram.windows(NAME.len()).any(|part| part == NAME.as_bytes());
                if from == From::Client && is_named {
                    named.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let accounts = json!({
            "bootstrap": { "identity": device, "key": BOOTSTRAP.key },
            "management": { "mode": "x509", "generate": true },
            "profile": { "server_uri": format!("coaps://{}", local(relay.port())), "lifetime": 300 },
        });
        server.must("PUT", &format!("/devices/{device}/credentials"), &accounts);
        let psk = Psk { identity: device, ..BOOTSTRAP };
        let Some(mut client) = Client::bootstrap(device, &server.secure_bootstrap_uri(), Some(psk)) else {
            return;
        };
        client.wait_for("bootstrapped");
        // The URI has an address, which is in no certificate: the device knows the name from /0/x/14.
        server.wait_for(&["registered", device]);
        read_at_ours(&server, device);
        assert!(named.load(Ordering::Relaxed) > 0, "it asks for the name");
        let known = server.must("GET", "/server-keys", &Value::Null);
        let pin = known["keys"].as_array().unwrap().iter().find(|key| key["count"] == json!(1)).unwrap();
        assert_eq!(pin["of"], "anchor", "{known}");

        let _renewed = authorities.key("server", &[NAME]).files(&folder, NAME);
        server.restart(false);
        client.process.say("resume");
        server.wait_for(&["session-established", device, "\"full\":true"]);
        server.wait_for(&["registered", device]);
        read_at_ours(&server, device);
        assert_eq!(server.counted("bootstraps_finished"), 0);
    }
    note(Role::Client, &[Feature::Anchor]);
}

#[test]
fn a_device_takes_each_certificate_usage_that_our_bootstrap_server_is_told_to_write() {
    let authorities = Authorities::new();
    let server_key = authorities.key("server", &[NAME]);
    let (mut server, _folder) = anchored(&authorities, &[(NAME, &server_key)], Some(authorities.anchor()));
    for (usage, is_leshan) in (0..4).flat_map(|usage| [(usage, false), (usage, true)]) {
        if is_leshan && peers::leshan().is_none() {
            continue;
        }
        let device = format!("usage-{usage}-{is_leshan}");
        let own = authorities.key(&device, &[]);
        let accounts = json!({
            "bootstrap": { "mode": "x509", "binding": "name" },
            "management": { "mode": "x509", "generate": true },
            "profile": { "server_uri": server.secure_uri(), "lifetime": 300, "certificate_usage": usage },
        });
        server.must("PUT", &format!("/devices/{device}/credentials"), &accounts);
        let uri = server.secure_bootstrap_uri();
        let [.., known] = authorities.accounts(&own, &server_key);
        let Security::X509 { own, server: leaf, usage: known, name, .. } = known else { unreachable!() };
        let anchor = authorities.root.as_slice();
        let account = Security::X509 { own, server: leaf, usage: known, name, anchor };
        let _client: Box<dyn core::any::Any> = if is_leshan {
            Box::new(Client::bootstrap_as(&device, &uri, &account).unwrap())
        } else {
            Box::new(ours::Client::run_as(&device, &uri, &account, &["--bootstrap"]))
        };
        server.wait_for(&["bootstrap-finished", &device]);
        server.wait_for(&["registered", &device]);
        read_at_ours(&server, &device);
        let known = server.must("GET", &format!("/devices/{device}/credentials"), &Value::Null);
        let expected = if usage % 2 == 0 { "anchor" } else { "certificate" };
        assert_eq!(known["management"]["credentials"][0]["server_keys"][0]["of"], expected, "{known}");
    }
}

#[test]
fn our_client_takes_accounts_with_keys_and_certificates_from_leshans_bootstrap_server_in_every_mode() {
    let authorities = Authorities::new();
    let [own, server_key, bootstrap_key] = [(DEVICE, &[][..]), ("server", &[NAME]), ("bootstrap", &[NAME])]
        .map(|(cn, names)| authorities.key(cn, names));
    let Some(mut bootstrap) = BootstrapServer::start_as(&bootstrap_key, authorities.anchor()) else { return };
    let Some(mut server) = Server::start_as(&server_key, authorities.anchor()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let anchor = folder.path().join("root.crt.der");
    std::fs::write(&anchor, &authorities.root).unwrap();
    let arguments = ["--bootstrap", "--trust-anchor", anchor.to_str().unwrap()];
    let raw = Security::RawPublicKey { own: &own, server: &server_key.public };
    let by_psk = Security::Psk(BOOTSTRAP);
    let by_raw_keys = Security::RawPublicKey { own: &own, server: &bootstrap_key.public };
    let [.., by_certificates] = authorities.accounts(&own, &bootstrap_key);
    let [constrained, service, anchored, known] = authorities.accounts(&own, &server_key);
    for (bootstrapped, account, format) in [
        (by_psk, constrained, "TLV"),
        (by_psk, service, "SENML_CBOR"),
        (by_psk, anchored, "SENML_JSON"),
        (by_psk, known, "TLV"),
        (by_psk, raw, "SENML_JSON"),
        (by_raw_keys, known, "SENML_CBOR"),
        (by_certificates, raw, "TLV"),
    ] {
        server.add_as(DEVICE, &account);
        bootstrap.add_as(DEVICE, &bootstrapped);
        bootstrap.plan_as(DEVICE, format, &server.secure_uri(), &account);
        let client = ours::Client::run_as(DEVICE, &bootstrap.secure_uri(), &bootstrapped, &arguments);
        bootstrap.wait_for("finished device");
        read_at_leshan(&mut server, DEVICE);
        client.process.interrupt();
        server.wait_for("unregistered device expired=false");
    }
    note(Role::Server, &[Feature::Bootstrap, Feature::Anchor]);
}
