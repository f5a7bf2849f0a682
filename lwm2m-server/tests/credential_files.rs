//! Raw public keys and certificates as files, through `lwm2mctl`: enrolled, shown without what is secret, rotated, and checked offline.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
mod issued;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::Served;
use issued::{authority, key, params};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose as Purpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, NameConstraints, PublicKeyData as _,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const HOST: &str = "lwm2m.example";

/// A folder with a root, an intermediate, and what they issue.
struct Files {
    folder: tempfile::TempDir,
    root: Issuer<'static, KeyPair>,
    intermediate: Issuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root_key, intermediate_key) = (key(), key());
        let (root, intermediate) = (authority("Root"), authority("Intermediate"));
        fs::write(folder.path().join("root.pem"), root.self_signed(&root_key).unwrap().pem()).unwrap();
        let root = Issuer::new(root, root_key);
        let issued = intermediate.signed_by(&intermediate_key, &root).unwrap();
        fs::write(folder.path().join("intermediate.pem"), issued.pem()).unwrap();
        fs::write(folder.path().join("intermediate.der"), issued.der()).unwrap();
        Self { folder, root, intermediate: Issuer::new(intermediate, intermediate_key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A certificate by the intermediate, with its key beside it.
    fn issue(&self, name: &str, params: CertificateParams) {
        self.issue_for(name, params, &key());
    }

    fn issue_for(&self, name: &str, params: CertificateParams, key: &KeyPair) {
        let issued = params.signed_by(key, &self.intermediate).unwrap();
        fs::write(self.path(&format!("{name}.pem")), issued.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Authorities below the root, one below the other, and what the last of them issues: all in `NAME.pem`, that first.
    fn issue_below(&self, name: &str, authorities: Vec<CertificateParams>, own: CertificateParams) {
        self.issue_chain(&self.root, name, authorities, own);
    }

    /// The same below a root of its own, in `NAME_root.pem`.
    fn issue_apart(
        &self,
        root: CertificateParams,
        name: &str,
        authorities: Vec<CertificateParams>,
        own: CertificateParams,
    ) {
        let key = key();
        fs::write(self.path(&format!("{name}_root.pem")), root.self_signed(&key).unwrap().pem()).unwrap();
        self.issue_chain(&Issuer::new(root, key), name, authorities, own);
    }

    fn issue_chain(
        &self,
        root: &Issuer<'static, KeyPair>,
        name: &str,
        authorities: Vec<CertificateParams>,
        own: CertificateParams,
    ) {
        let mut below: Vec<Issuer<'static, KeyPair>> = Vec::new();
        let mut chain = String::new();
        for params in authorities {
            let key = key();
            let issued = params.signed_by(&key, below.last().unwrap_or(root)).unwrap();
            chain.insert_str(0, &issued.pem());
            below.push(Issuer::new(params, key));
        }
        let own = own.signed_by(&key(), below.last().unwrap_or(root)).unwrap();
        fs::write(self.path(&format!("{name}.pem")), own.pem() + &chain).unwrap();
    }

    /// A chain for each constraint of an authority that it breaks.
    fn issue_what_is_not_allowed(&self, own: &CertificateParams) {
        let authority_with = |name: &str, bend: &dyn Fn(&mut CertificateParams)| {
            let mut params = authority(name);
            bend(&mut params);
            params
        };
        let no_authority = authority_with("Nobody", &|params| params.is_ca = IsCa::ExplicitNoCa);
        self.issue_below("no_authority", vec![no_authority], own.clone());
        let none_below =
            authority_with("Narrow", &|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let one_below =
            authority_with("Narrow", &|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
        self.issue_below("too_long", vec![none_below, authority("Below")], own.clone());
        self.issue_below("long", vec![one_below, authority("Below")], own.clone());
        let only = |name: &str| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
        };
        let others = authority_with("Of Others", &|params| params.name_constraints = only("example.org"));
        self.issue_below("other_names", vec![others], own.clone());
        let ours = authority_with("Ours", &|params| params.name_constraints = only("example"));
        self.issue_below("own_names", vec![ours.clone()], own.clone());
        self.issue_apart(ours, "own_root", Vec::new(), own.clone());
        let others =
            authority_with("Root of Others", &|params| params.name_constraints = only("example.org"));
        self.issue_apart(others.clone(), "other_root", Vec::new(), own.clone());
        self.issue_apart(others, "other_far_root", vec![authority("Below")], own.clone());
        let narrow = authority_with("Narrow Root", &|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        self.issue_apart(narrow.clone(), "narrow_root", Vec::new(), own.clone());
        self.issue_apart(narrow, "narrow_far_root", vec![authority("Below")], own.clone());
        fs::write(self.path("self_signed.pem"), own.self_signed(&key()).unwrap().pem()).unwrap();
    }

    fn check(&self, arguments: &[&str]) -> Output {
        let mut command = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"));
        command.args(["credentials", "check"]).args(arguments).current_dir(self.folder.path());
        command.output().unwrap()
    }

    /// Exit code, and all that is said.
    fn checked(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.check(arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn server_params(host: &str) -> CertificateParams {
    let mut params = params("Server");
    params.subject_alt_names = vec![SanType::DnsName(host.try_into().unwrap())];
    params.extended_key_usages = vec![Purpose::ServerAuth];
    params
}

#[test]
fn a_servers_chain_is_judged_as_a_device_would_and_the_reason_is_said() {
    let files = Files::new();
    files.issue("server", server_params(HOST));
    files.issue("other", server_params("other.example"));
    files.issue("client", {
        let mut params = server_params(HOST);
        params.extended_key_usages = vec![Purpose::ClientAuth];
        params
    });
    files.issue("old", {
        let mut params = server_params(HOST);
        params.not_after = date_time_ymd(2021, 1, 1);
        params
    });
    files.issue_what_is_not_allowed(&server_params(HOST));
    let weak = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    files.issue_for("weak", server_params(HOST), &weak);
    let chain = "intermediate.pem";
    let rows: &[(&[&str], i32, &str)] = &[
        (
            &["server.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            0,
            "good: a device takes it",
        ),
        (&["server.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "0"], 0, "usage 0"),
        (&["server.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "1"], 0, "usage 1"),
        (
            &["server.pem", "--name", HOST],
            0,
            "with usage 3 neither names nor dates nor the issuer are looked at",
        ),
        (&["server.pem", "--server-certificate", "server.pem"], 0, "usage 3"),
        (
            &["server.pem", "--server-certificate", "other.pem"],
            1,
            "the certificate of 'CN=Server' is not the one that the device was given in /0/x/4",
        ),
        (
            &["server.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "was issued by 'CN=Intermediate', which is neither presented nor trusted: an intermediate certificate is missing",
        ),
        (
            &["other.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Server' is not for 'lwm2m.example': its names are Server, other.example",
        ),
        (
            &["client.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "is for client authentication, not for server authentication (extKeyUsage)",
        ),
        (
            &["old.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "expired at 2021-01-01T00:00:00Z",
        ),
        (
            &["old.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "note: a device without a clock would take it",
        ),
        (&["old.pem", "--usage", "3"], 0, "expired at 2021-01-01T00:00:00Z"),
        (
            &["weak.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "has a key that is none of P-256",
        ),
        (
            &["server.pem", "root.pem", chain, "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            0,
            "note: the order is wrong: the certificate of 'CN=Root' follows the certificate of 'CN=Server'",
        ),
        (
            &["no_authority.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Server' was issued by 'CN=Nobody', which is no authority (basicConstraints)",
        ),
        (
            &["too_long.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Narrow' allows 0 authorities below itself, and the path has 1 (pathLenConstraint)",
        ),
        (&["long.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"], 0, "good: a device takes it"),
        (
            &["other_names.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Server': 'CN=Of Others' above it may not issue for its names, Server, lwm2m.example \
             (nameConstraints)",
        ),
        (
            &["own_names.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            0,
            "good: a device takes it",
        ),
        // It is that of the path, and of no other anchor.
        (
            &[
                "other_root.pem",
                "--anchor",
                "own_root_root.pem",
                "--anchor",
                "other_root_root.pem",
                "--name",
                HOST,
                "--usage",
                "1",
            ],
            1,
            "the certificate of 'CN=Server': 'CN=Root of Others' above it may not issue for its names",
        ),
        (
            &["other_far_root.pem", "--anchor", "other_far_root_root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Server': 'CN=Root of Others' above it may not issue for its names",
        ),
        (
            &[
                "no_authority.pem",
                "--anchor",
                "other_root_root.pem",
                "--anchor",
                "root.pem",
                "--name",
                HOST,
                "--usage",
                "1",
            ],
            1,
            "which is no authority (basicConstraints)",
        ),
        (
            &["narrow_far_root.pem", "--anchor", "narrow_far_root_root.pem", "--name", HOST, "--usage", "2"],
            0,
            "note: the certificate of 'CN=Narrow Root' allows 0 authorities below itself, and the path has 1 (pathLenConstraint): \
             of an anchor that does not count here, but others may look at it",
        ),
        (
            &["self_signed.pem", "--anchor", "root.pem", "--name", HOST, "--usage", "2"],
            1,
            "the certificate of 'CN=Server' is self-signed, and the device was given another anchor: usage 3 is for such a server",
        ),
        (&["self_signed.pem", "--usage", "3"], 0, "good: a device takes it, with usage 3"),
        (&["server.pem", "--usage", "2", "--name", HOST], 1, "this usage needs an authority"),
        (
            &["server.pem", chain, "--usage", "1", "--name", HOST],
            1,
            "unless it has anchors of its own besides",
        ),
        (
            &["server.pem", chain, "--server-certificate", chain, "--usage", "0", "--name", HOST],
            1,
            "unless it has anchors of its own besides",
        ),
        (
            &[
                "server.pem",
                chain,
                "--server-certificate",
                chain,
                "--anchor",
                "root.pem",
                "--usage",
                "0",
                "--name",
                HOST,
            ],
            0,
            "usage 0",
        ),
        (
            &["server.pem", "--usage", "2", "--anchor", "root.pem"],
            1,
            "give the host of the server's URI by --name",
        ),
        (&["server.pem", "--usage", "4"], 2, "4"),
        (&["missing.pem"], 2, "cannot read missing.pem"),
        (&["server.key"], 2, "no certificate in PEM or DER"),
    ];
    for (arguments, code, words) in rows {
        let (found, said) = files.checked(arguments);
        assert_eq!(found, Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_devices_chain_is_judged_as_the_server_would_and_the_reason_is_said() {
    let files = Files::new();
    files.issue("device", {
        let mut params = params("sensor-1");
        params.serial_number = Some(SerialNumber::from(4_242));
        params.extended_key_usages = vec![Purpose::ClientAuth];
        params
    });
    files.issue("server", server_params(HOST));
    files.issue_what_is_not_allowed(&{
        let mut params = params("sensor-1");
        params.subject_alt_names = vec![SanType::DnsName("sensor-1.example".try_into().unwrap())];
        params
    });
    let revocation = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2999, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(4_242),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    // The intermediate may sign lists where it names no usages.
    fs::write(files.path("crl.pem"), revocation.signed_by(&files.intermediate).unwrap().pem().unwrap())
        .unwrap();
    let rows: &[(&[&str], i32, &str)] = &[
        (
            &["device.pem", "intermediate.der", "--anchor", "root.pem"],
            0,
            "good: the server takes it through 'CN=Root', for an account that is bound to it, to its key, or to one of the names \
             sensor-1",
        ),
        (&["device.pem"], 0, "note: without --anchor it can only be pinned"),
        (
            &["device.pem", "--anchor", "root.pem"],
            1,
            "was issued by 'CN=Intermediate', which is neither presented nor trusted here",
        ),
        (
            &["server.pem", "intermediate.pem", "--anchor", "root.pem"],
            1,
            "is for server authentication, not for client authentication",
        ),
        (
            &["device.pem", "intermediate.pem", "--anchor", "root.pem", "--crl", "crl.pem"],
            1,
            "serial number 1092, was revoked by 'CN=Intermediate'",
        ),
        (
            &["no_authority.pem", "--anchor", "root.pem"],
            1,
            "the certificate of 'CN=sensor-1' was issued by 'CN=Nobody', which is no authority (basicConstraints)",
        ),
        (
            &["too_long.pem", "--anchor", "root.pem"],
            1,
            "an authority above it does not allow so many others below itself (pathLenConstraint)",
        ),
        (&["long.pem", "--anchor", "root.pem"], 0, "good: the server takes it"),
        (
            &["other_names.pem", "--anchor", "root.pem"],
            1,
            "an authority above it may not issue for its names, sensor-1, sensor-1.example (nameConstraints)",
        ),
        (&["own_names.pem", "--anchor", "root.pem"], 0, "good: the server takes it"),
        (
            &["narrow_far_root.pem", "--anchor", "narrow_far_root_root.pem"],
            0,
            "note: the certificate of 'CN=Narrow Root' allows 0 authorities below itself, and the path has 1 (pathLenConstraint)",
        ),
        (
            &["self_signed.pem", "--anchor", "root.pem"],
            1,
            "the certificate of 'CN=sensor-1' is self-signed, and no account is bound to it",
        ),
        (&["self_signed.pem"], 0, "good: the server takes it where sha256"),
        (&["device.pem", "--anchor", "server.pem"], 2, "is not that of an authority (basicConstraints)"),
        (&["device.pem", "--anchor", "root.pem", "--crl", "root.pem"], 2, "--crl"),
    ];
    for (arguments, code, words) in rows {
        let (found, said) = files.checked(arguments);
        assert_eq!(found, Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    for arguments in [["narrow_root.pem", "narrow_root_root.pem"], ["too_long.pem", "root.pem"]] {
        let (_, said) = files.checked(&[arguments[0], "--anchor", arguments[1]]);
        assert!(!said.contains("note:"), "{arguments:?}: {said}");
    }
    let output = files.check(&["device.pem", "--anchor", "root.pem", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["good"], json!(false));
    assert_eq!(answer["certificates"][0]["names"], json!(["sensor-1"]));
}

/// The SHA-256 of a certificate, and of the key in it.
fn fingerprints(certificate: &rcgen::Certificate, key: &KeyPair) -> [String; 2] {
    [certificate.der().to_vec(), key.subject_public_key_info()]
        .map(|bytes| hex::encode(Sha256::digest(bytes)))
}

#[test]
fn fingerprints_and_dates_are_those_that_anybody_else_computes() {
    let files = Files::new();
    let data = files.path("data");
    let served = Served::start(&data);
    let own = key();
    let mut params = params("sensor-1");
    params.not_before = date_time_ymd(2024, 2, 29);
    // The last second that is written with two digits for the year, and the first one after it.
    for (name, end, utc, ms) in [
        ("near", (2049, 12, 31), "2049-12-31T00:00:00Z", 2_524_521_600_000_u64),
        ("far", (2050, 1, 1), "2050-01-01T00:00:00Z", 2_524_608_000_000),
    ] {
        params.not_after = date_time_ymd(end.0, end.1, end.2);
        let issued = params.signed_by(&own, &files.intermediate).unwrap();
        let [certificate, key] = fingerprints(&issued, &own);
        let file = files.text(&format!("{name}.pem"));
        fs::write(&file, issued.pem()).unwrap();
        let put = served.ctl(&["credentials", "put", name, "--certificate", &file, "--json"]);
        assert_eq!(parsed(&put)["created"][0]["mode"], "x509");
        let list = served.ctl(&["credentials", "list", name, "--json"]);
        let shown = parsed(&list)["management"]["credentials"][0].clone();
        let checked = files.check(&[&file, "--json"]);
        assert_eq!(shown["binding"]["pinned"], certificate);
        assert_eq!(shown["expires_ms"], ms);
        for each in [&shown["certificates"][0], &parsed(&checked)["certificates"][0]] {
            assert_eq!(each["sha256"], certificate);
            assert_eq!(each["public_key_sha256"], key);
            assert_eq!(each["not_before"], "2024-02-29T00:00:00Z");
            assert_eq!(each["not_after"], utc);
        }
        let (_, said) = files.checked(&[&file]);
        let line = format!("   sha256 {certificate}, of its public key {key}\n");
        assert!(said.contains(&line), "{said}");
        let table = String::from_utf8(served.ctl(&["credentials", "show", name]).stdout).unwrap();
        let line =
            format!("CN=sensor-1 by CN=Intermediate, 2024-02-29T00:00:00Z to {utc}, sha256 {certificate}");
        assert!(table.contains(&line), "{table}");
    }
    let file = files.text("own.pub");
    fs::write(&file, own.subject_public_key_info()).unwrap();
    let put = served.ctl(&["credentials", "put", "raw", "--mode", "rpk", "--public-key", &file, "--json"]);
    assert!(put.status.success());
    let list = served.ctl(&["credentials", "list", "raw", "--json"]);
    let expected = hex::encode(Sha256::digest(own.subject_public_key_info()));
    assert_eq!(parsed(&list)["management"]["credentials"][0]["public_key_sha256"], expected);
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn hidden(served: &Served, data: &Path, private: &KeyPair, outputs: &[&Output]) {
    let der = private.serialize_der();
    let scalar = &der[36..68];
    let base64 = private.serialize_pem().lines().nth(1).unwrap().to_owned();
    let audit = served.ctl(&["audit", "--json"]);
    for output in outputs.iter().copied().chain([&audit]) {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains(&hex::encode(scalar)) && !said.contains(&base64), "{said}");
    }
    let store = fs::read(data.join("store.redb")).unwrap();
    assert!(!store.windows(scalar.len()).any(|window| window == scalar), "sealed in the store");
}

#[test]
fn keys_and_certificates_are_enrolled_from_files_and_shown_without_what_is_secret() {
    let files = Files::new();
    let data = files.path("data");
    let served = Served::start(&data);
    let own = key();
    fs::write(files.path("own.key"), own.serialize_pem()).unwrap();
    fs::write(files.path("own.pub"), own.subject_public_key_info()).unwrap();
    files.issue("device", params("sensor-2"));
    let (own_key, own_public) = (files.text("own.key"), files.text("own.pub"));
    let put = |arguments: &[&str]| served.ctl(&[&["credentials", "put"], arguments].concat());

    let raw = ["sensor-1", "--mode", "rpk", "--public-key", &own_public, "--private-key", &own_key, "--json"];
    let enrolled = put(&raw);
    assert_eq!(parsed(&enrolled)["created"][0]["mode"], "rpk");
    assert!(parsed(&put(&raw))["created"].as_array().unwrap().is_empty(), "the same again changes nothing");
    let list = served.ctl(&["credentials", "list", "sensor-1", "--json"]);
    let credential = parsed(&list)["management"]["credentials"][0].clone();
    assert_eq!(credential["public_key"], hex::encode(own.subject_public_key_info()));
    assert_eq!(credential["private_key"], "masked");
    hidden(&served, &data, &own, &[&enrolled, &list]);

    let certificate = files.text("device.pem");
    let root = files.text("root.pem");
    for (endpoint, arguments, binding) in [
        ("sensor-2", vec!["--certificate", &certificate], "pinned"),
        ("sensor-2b", vec!["--certificate", &certificate, "--binding", "key", "--issuer", &root], "key"),
        ("sensor-2c", vec!["--mode", "x509", "--binding", "name"], "name"),
    ] {
        let answer = parsed(&put(&[&[endpoint, "--json"][..], &arguments].concat()));
        let shown = &answer["credentials"]["management"]["credentials"][0];
        assert_eq!(
            (shown["mode"].as_str(), shown["private_key"].as_str()),
            (Some("x509"), Some("in the device"))
        );
        assert!(shown["binding"].get(binding).is_some(), "{shown}");
        if binding != "name" {
            assert_eq!(shown["certificates"][0]["subject"], "CN=sensor-2");
            assert_eq!(shown["certificates"][0]["not_after"], "2999-01-01T00:00:00Z");
            assert_eq!(shown["expires_ms"], json!(32_472_144_000_000_u64));
        }
    }
    let table = String::from_utf8(served.ctl(&["credentials", "show", "sensor-2"]).stdout).unwrap();
    assert!(table.contains("CN=sensor-2 by CN=Intermediate") && table.contains("x509"), "{table}");

    let drawn = put(&["sensor-3", "--mode", "x509", "--generate", "--json"]);
    let created = parsed(&drawn)["created"][0].clone();
    let private = KeyPair::from_pem(created["private_key"].as_str().unwrap()).unwrap();
    assert!(created["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    hidden(&served, &data, &private, &[&served.ctl(&["credentials", "list", "sensor-3", "--json"])]);

    for (arguments, code, words) in [
        (
            vec!["x", "--mode", "rpk", "--certificate", &certificate],
            2,
            "something is given that the mode rpk does not",
        ),
        (
            vec!["x", "--certificate", &certificate, "--private-key", &own_key],
            2,
            "it is not the one of the public key",
        ),
        (vec!["x", "--certificate", &certificate, "--binding", "key"], 2, "binding by key without issuer"),
        (
            vec!["x", "--certificate", &certificate, "--binding", "name"],
            2,
            "none of its names is the endpoint name",
        ),
        (vec!["x", "--certificate", &own_key], 2, "certificate: neither PEM nor DER"),
        (vec!["x", "--generate"], 2, "name the --mode"),
        (vec!["x", "--public-key", &own_public], 1, "belongs, or belonged, to sensor-1"),
        (vec!["sensor-1", "--mode", "x509", "--generate"], 1, "already has another credential"),
    ] {
        let output = put(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn base64_and_hex_digits_are_taken_where_json_has_no_room_for_files() {
    let files = Files::new();
    let served = Served::start(&files.path("data"));
    let own = key();
    let base64: String = own.serialize_pem().lines().filter(|line| !line.starts_with('-')).collect();
    for (endpoint, private) in [("a", base64), ("b", hex::encode(key().serialize_der()))] {
        let body = json!({ "management": { "mode": "rpk", "private_key": private } });
        let (status, answer) =
            served.call("PUT", &format!("/devices/{endpoint}/credentials"), Some(&body)).unwrap();
        assert_eq!(status, 201, "{answer}");
    }
    for body in [
        json!({ "management": { "mode": "rpk", "private_key": "00112233445566778899" } }),
        json!({ "management": { "mode": "rpk", "public_key": "Mistaken" } }),
        json!({ "management": { "mode": "x509", "identity": "x" } }),
        json!({ "management": { "mode": "est" } }),
    ] {
        let (status, answer) = served.call("PUT", "/devices/c/credentials", Some(&body)).unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(!answer.to_string().contains("00112233"), "{answer}");
    }
}

#[test]
fn a_rotation_and_the_list_of_pinned_keys_are_asked_for_by_mode() {
    let files = Files::new();
    let served = Served::start(&files.path("data"));
    assert!(served.ctl(&["credentials", "put", "a", "--bootstrap-generate"]).status.success());
    let output = served.ctl(&["credentials", "rotate", "a", "--mode", "rpk"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was never proven"), "{said}");
    let both = json!({ "mode": "rpk", "credential": { "mode": "psk", "generate": true } });
    let (status, answer) = served.call("POST", "/devices/a/credentials/rotate", Some(&both)).unwrap();
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = served.call("GET", "/server-keys", None).unwrap();
    assert_eq!(status, 200);
    assert!(answer["keys"].is_array());
    let pins = String::from_utf8(served.ctl(&["credentials", "pins"]).stdout).unwrap();
    assert!(pins.starts_with("KEY OF THE SERVER"), "{pins}");
}
