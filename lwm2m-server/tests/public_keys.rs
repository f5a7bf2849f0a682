//! Whose a raw public key is: enrolment, standing and refusal of keys that only the device has.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

use std::sync::Arc;

use dtls_psk::{Crypto as _, RustCrypto, raw_public_key};
use lwm2m_server::credentials::{
    Authenticated, Credentials, Enrol, EnrolAccount, Fingerprint, KeyMaterial, OperatorError, Presented,
    Refusal, Role, Settings, Subject, Untrusted,
};
use lwm2m_server::store::{RedbStore, Sealer, Store};

const NOW: u64 = 1_800_000_000_000;

fn store() -> Arc<dyn Store> {
    Arc::new(RedbStore::in_memory(Sealer::new(&[9; 32], "test").unwrap()).unwrap())
}

fn open(store: &Arc<dyn Store>) -> Credentials {
    Credentials::open(Arc::clone(store), Settings::default()).unwrap()
}

/// The raw public key of a device.
fn key(secret: u8) -> Vec<u8> {
    raw_public_key(&RustCrypto::p256_public(&[secret; 32]).unwrap()).to_vec()
}

fn enrol(credentials: &Credentials, endpoint: &str, role: Role, key: &[u8]) -> Result<usize, OperatorError> {
    let account = EnrolAccount {
        role,
        key: KeyMaterial::Public { subject: Subject::RawPublicKey(Fingerprint::of(key)), key: None },
    };
    let enrol = Enrol { accounts: vec![account], ..Enrol::default() };
    credentials.enrol(NOW, "test", endpoint, &enrol).map(|outcome| outcome.created.len())
}

fn identify(credentials: &Credentials, role: Role, key: &[u8]) -> Result<Authenticated, Untrusted> {
    credentials.identify(NOW, role, &Presented::RawPublicKey(key.to_vec()))
}

fn refused(credentials: &Credentials, role: Role, key: &[u8]) -> (dtls_psk::Refusal, String) {
    let Untrusted { refusal, reason } = identify(credentials, role, key).unwrap_err();
    (refusal, reason)
}

#[test]
fn a_raw_public_key_opens_the_account_that_it_was_enrolled_for_and_no_other() {
    let store = store();
    let credentials = open(&store);
    enrol(&credentials, "a", Role::Management, &key(1)).unwrap();
    enrol(&credentials, "b", Role::Management, &key(2)).unwrap();
    let who = Authenticated::new("a".into(), Role::Management, 1);
    assert_eq!(identify(&credentials, Role::Management, &key(1)), Ok(who.clone()));
    assert_eq!(credentials.admit(NOW, &who), Ok(()));
    let (refusal, reason) = refused(&credentials, Role::Bootstrap, &key(1));
    assert_eq!(refusal, dtls_psk::Refusal::Unknown);
    let hash = Fingerprint::of(&key(1));
    assert_eq!(reason, format!("no bootstrap account has the raw public key sha256:{hash}"));
    assert_eq!(refused(&credentials, Role::Management, &key(3)).0, dtls_psk::Refusal::Unknown);
    // And after a restart.
    assert_eq!(identify(&open(&store), Role::Management, &key(1)), Ok(who));
}

#[test]
fn the_hash_of_a_key_is_no_psk_identity_and_the_key_itself_none() {
    let credentials = open(&store());
    enrol(&credentials, "a", Role::Management, &key(1)).unwrap();
    for identity in [Fingerprint::of(&key(1)).bytes().to_vec(), key(1)] {
        let found = credentials.look_up(Role::Management, &identity);
        assert_eq!(found.unwrap_err(), Refusal::UnknownIdentity);
    }
}

#[test]
fn other_encodings_and_curves_are_refused_before_anybody_is_looked_for() {
    let credentials = open(&store());
    let (whole, mut compressed, mut other_curve) = (key(1), key(1), key(1));
    compressed[26] = 2;
    other_curve[22] = 0x22;
    for bent in [compressed, other_curve, whole.split_last().unwrap().1.to_vec(), [&whole[..], &[0]].concat()]
    {
        // Even if it was enrolled by its hash.
        enrol(&credentials, &Fingerprint::of(&bent).to_string(), Role::Management, &bent).unwrap();
        let (refusal, reason) = refused(&credentials, Role::Management, &bent);
        assert_eq!(refusal, dtls_psk::Refusal::Unsupported);
        assert!(reason.contains("P-256"), "{reason}");
    }
}

#[test]
fn a_revoked_or_suspended_device_is_refused_with_the_reason() {
    let credentials = open(&store());
    enrol(&credentials, "a", Role::Management, &key(1)).unwrap();
    enrol(&credentials, "b", Role::Management, &key(2)).unwrap();
    enrol(&credentials, "c", Role::Management, &key(3)).unwrap();
    credentials.suspend(NOW, "test", "a", "").unwrap();
    credentials.revoke(NOW, "test", "b", Some(Role::Management), "lost").unwrap();
    credentials.decommission(NOW, "test", "c", "").unwrap();
    for (secret, expected, word) in [
        (1, dtls_psk::Refusal::NotAllowed, "of a: suspended"),
        (2, dtls_psk::Refusal::Revoked, "of b: revoked"),
        (3, dtls_psk::Refusal::Revoked, "of c: decommissioned"),
    ] {
        let (refusal, reason) = refused(&credentials, Role::Management, &key(secret));
        assert_eq!(refusal, expected);
        assert!(reason.ends_with(word), "{reason}");
    }
    credentials.resume(NOW, "test", "a", "").unwrap();
    assert!(identify(&credentials, Role::Management, &key(1)).is_ok());
}

#[test]
fn a_key_belongs_to_one_device() {
    let credentials = open(&store());
    assert_eq!(enrol(&credentials, "a", Role::Management, &key(1)).unwrap(), 1);
    assert_eq!(
        enrol(&credentials, "a", Role::Management, &key(1)).unwrap(),
        0,
        "the same again changes nothing"
    );
    assert!(matches!(enrol(&credentials, "a", Role::Management, &key(2)), Err(OperatorError::Refused(_))));
    let taken = enrol(&credentials, "b", Role::Management, &key(1)).unwrap_err();
    assert!(matches!(&taken, OperatorError::SubjectTaken(owner) if &**owner == "a"), "{taken}");
    // A device may have one key for both.
    assert!(enrol(&credentials, "a", Role::Bootstrap, &key(1)).is_ok());
}

#[test]
fn nothing_of_a_key_that_only_the_device_has_is_in_the_store_of_secrets() {
    let store = store();
    enrol(&open(&store), "a", Role::Management, &key(1)).unwrap();
    assert!(store.secret("a", Role::Management, 1).unwrap().is_none());
}
