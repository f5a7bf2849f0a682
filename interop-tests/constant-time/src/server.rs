//! The server's look-up of a key, from the sealed store to the proof of the handshake: the key that seals is secret, and so is
//! everything it opens.

use std::path::Path;
use std::sync::Arc;

use dtls_psk::{Answer, Suite};
use lwm2m_server::credentials::{
    Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Settings,
};
use lwm2m_server::store::{RedbStore, Sealer};

use crate::Findings;
use crate::parties::{self, Came, prove, server_of};
use crate::secret::hide;

fn open(folder: &Path, secrets_key: &[u8; 32]) -> Credentials {
    let sealer = Sealer::new(secrets_key, "memory").expect("32 bytes are a key");
    let lock = RedbStore::lock(folder).expect("nobody else is in the folder");
    let store = RedbStore::open(folder, lock, sealer).expect("the store opens");
    Credentials::open(Arc::new(store), Settings::default()).expect("the credentials load")
}

pub(crate) fn run(findings: &mut Findings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut secrets_key = [9; 32];
    {
        let credentials = open(folder.path(), &secrets_key);
        let identity = Identity::new(parties::IDENTITY).expect("an identity");
        // What the client's key is, but known: whatever is written must be.
        let mut bytes = vec![0x5a; 16];
        bytes.splice(..1, [1]);
        let key = KeyMaterial::Given { identity, key: Key::new(bytes).expect("a key") };
        let enrol =
            Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
        credentials.enrol(1, "operator", "meter-1", &enrol).expect("the device is enrolled");
    }
    hide(&mut secrets_key);
    // The value that shows that the key fits; its tag's result is handed on as a value and looked at again.
    let credentials = findings.case("store: it opens", 2, || open(folder.path(), &secrets_key));
    let unknown = findings.case("store: look-up of an unknown identity", 0, || {
        credentials.look_up(Role::Management, b"nobody").map(|_| ())
    });
    assert!(unknown.is_err());
    // The tag of the sealed key; no peer sees whether this step was taken, as both are answered by silence.
    let found = findings.case("store: look-up of a known identity", 2, || {
        credentials.look_up(Role::Management, parties::IDENTITY)
    });
    let Ok(found) = found else { panic!("the key is found") };
    let mut client = parties::client(Suite::default(), parties::IDENTITY, &parties::key(1));
    let mut server = server_of(&mut client, None, |_| {});
    let answer = Answer::Psk { key: found.key.bytes() };
    let came =
        findings.case("store: a handshake with the key found", 2, || prove(&mut client, &mut server, answer));
    assert_eq!(came, Some(Came::Established));
}
