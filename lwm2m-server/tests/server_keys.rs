//! The server's own keys as files: what cannot be used is refused when the server starts, and a key that devices expect is never made
//! anew.

#![expect(clippy::unwrap_used, reason = "test")]

mod common;
mod issued;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lwm2m_server::config::KeyConfig;
use lwm2m_server::credentials::{
    Authenticated, Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Mode, PinKind, Role,
    ServerPublic, Settings,
};
use lwm2m_server::keys::{KeyError, ServerKeys};
use lwm2m_server::store::{RedbStore, Sealer};
use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair, SanType, date_time_ymd};

use issued::{key, params};

/// 2026-06-01.
const NOW: u64 = 1_780_272_000_000;
const HOST: &str = "lwm2m.example";

fn authority(common_name: &str) -> (String, Issuer<'static, KeyPair>) {
    let (key, params) = (key(), issued::authority(common_name));
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A key of the server in a folder, with a certificate that an authority issued and `bend` bent.
fn certified(folder: &Path, bend: impl FnOnce(&mut CertificateParams)) -> KeyConfig {
    let key = key();
    let (anchor, issuer) = authority("Root");
    let mut own = params("server");
    own.subject_alt_names = vec![SanType::DnsName(HOST.try_into().unwrap())];
    bend(&mut own);
    let file = |name: &str, content: String| -> PathBuf {
        fs::write(folder.join(name), content).unwrap();
        folder.join(name)
    };
    KeyConfig {
        private_key: file("own.key", key.serialize_pem()),
        certificate: Some(file("own.pem", own.signed_by(&key, &issuer).unwrap().pem())),
        anchor: Some(file("root.pem", anchor)),
        names: None,
        listener: None,
        retiring: false,
    }
}

fn load(named: &[KeyConfig]) -> Result<ServerKeys, KeyError> {
    ServerKeys::load(named, Path::new("/nonexistent"), false).map(|(keys, _)| keys)
}

#[test]
fn devices_are_told_to_expect_the_anchor_that_is_named_and_only_if_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let named = certified(folder.path(), |_| ());
    let keys = load(std::slice::from_ref(&named)).unwrap();
    let public = keys.public(Role::Management);
    let kinds: Vec<PinKind> = public.pins().iter().map(|pin| pin.of).collect();
    assert_eq!(kinds, [PinKind::RawPublicKey, PinKind::Certificate, PinKind::Anchor]);
    assert!(public.pins().iter().all(|pin| keys.has(pin)));
    let own = load(&[KeyConfig { anchor: None, ..named.clone() }]).unwrap();
    assert_eq!(own.public(Role::Management), ServerPublic { anchor: None, ..public.clone() });
    assert_eq!(public.pins().iter().filter(|pin| !own.has(pin)).count(), 1);

    fs::write(named.anchor.as_ref().unwrap(), authority("Root").0).unwrap();
    let refused = load(std::slice::from_ref(&named)).unwrap_err();
    assert!(refused.to_string().contains("no device would trust the server's certificate by this anchor"));
    // A certificate that ended is told of, and is no reason not to start.
    assert!(load(&[certified(folder.path(), |params| params.not_after = date_time_ymd(2026, 5, 1))]).is_ok());
    for names in [&["*.example.org"][..], &[]] {
        let named = certified(folder.path(), |params| {
            params.subject_alt_names =
                names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        });
        assert!(load(&[named]).is_ok(), "{names:?}");
    }
    let alone = KeyConfig { certificate: None, ..certified(folder.path(), |_| ()) };
    assert!(matches!(load(&[alone]), Err(KeyError::AnchorAlone(_))));
    let named = certified(folder.path(), |_| ());
    let other_name = KeyConfig { names: Some(vec!["other.example".to_owned()]), ..named };
    assert!(matches!(load(&[other_name]), Err(KeyError::NotBelow { .. })));
}

#[test]
fn certificates_that_no_handshake_has_room_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (length, is_taken) in [(3000, true), (3500, false)] {
        let named = certified(folder.path(), |params| {
            let extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![0; length]);
            params.custom_extensions.push(extension);
        });
        match (load(&[named]), is_taken) {
            (Ok(_), true) => {}
            (Err(refused @ KeyError::TooLong { .. }), false) => {
                assert!(refused.to_string().contains("and 3584 are the most"), "{refused}");
            }
            (found, _) => unreachable!("{length}: {found:?}"),
        }
    }
}

#[test]
fn the_key_of_the_first_start_is_not_made_again_when_devices_expect_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.key");
    let lost = ServerKeys::load(&[], &path, true).unwrap_err();
    assert!(matches!(&lost, KeyError::Lost(at) if *at == path));
    assert!(!path.exists());
    let (made, is_new) = ServerKeys::load(&[], &path, false).unwrap();
    let (read, is_newer) = ServerKeys::load(&[], &path, true).unwrap();
    assert_eq!((is_new, is_newer), (true, false));
    assert_eq!(made.public(Role::Bootstrap), read.public(Role::Bootstrap));
}

#[test]
fn a_server_whose_key_is_lost_does_not_start_with_another() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let lock = RedbStore::lock(data).unwrap();
    let (sealer, _) = Sealer::find(data, None, None, false).unwrap();
    let store = RedbStore::open(data, lock, sealer).unwrap();
    let credentials = Credentials::open(Arc::new(store), Settings::default()).unwrap();
    let public = ServerPublic { raw_public_key: vec![1; 91], ..ServerPublic::default() };
    credentials.set_server_keys(Role::Management, public);
    let bootstrap =
        KeyMaterial::Given { identity: Identity::new(b"boot").unwrap(), key: Key::new(vec![7; 16]).unwrap() };
    let accounts = vec![
        EnrolAccount { role: Role::Bootstrap, key: bootstrap },
        EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::RawPublicKey) },
    ];
    credentials.enrol(NOW, "test", "a", &Enrol { accounts, ..Enrol::default() }).unwrap();
    let who = Authenticated::new("a".into(), Role::Bootstrap, 1);
    credentials.bootstrap_plan(NOW, &who).unwrap();
    drop(credentials);

    let refused = common::server(&common::serve_arguments(data));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        told.contains("server.key: there is none, and devices were told to expect one of this server"),
        "{told}"
    );
    assert!(!data.join("server.key").exists());
}
