//! What bootstraps write for each mode, and how an account goes from one mode to every other.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

use std::sync::Arc;

use lwm2m_server::credentials::{
    Authenticated, Binding, Certificate, Credentials, DeviceKey, Enrol, EnrolAccount, Fact, Fingerprint,
    Identity, Kept, Key, KeyMaterial, Mode, Named, OperatorError, Pin, PinKind, Presented, PrivateKey,
    Profile, Refusal, Role, Rotate, ServerPublic, Setting, Settings, Standing, State, Subject,
};
use lwm2m_server::store::{RedbStore, Sealer, Store};

const EP: &str = "sensor-1";
const NOW: u64 = 1_800_000_000_000;

struct Bench {
    store: Arc<dyn Store>,
    credentials: Credentials,
    now: u64,
}

fn server_key() -> PrivateKey {
    let scalar = [[0x30, 0x31, 2, 1, 1, 4, 0x20].as_slice(), &[5; 32]].concat();
    let curve = [0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    PrivateKey::parse(&[&scalar[..], &curve].concat()).unwrap()
}

impl Bench {
    /// A device with a bootstrap account; the server has a raw public key and a certificate.
    fn new() -> Self {
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::in_memory(Sealer::new(&[9; 32], "test").unwrap()).unwrap());
        let credentials = Credentials::open(Arc::clone(&store), Settings::default()).unwrap();
        let bench = Self { store, credentials, now: NOW };
        bench.set_server(&server_key(), None);
        let psk = KeyMaterial::Given {
            identity: Identity::new(b"bs-1").unwrap(),
            key: Key::new(vec![1; 16]).unwrap(),
        };
        bench.enrol(Role::Bootstrap, psk).unwrap();
        bench
    }

    fn set_server(&self, key: &PrivateKey, anchor: Option<Vec<u8>>) {
        let keys = ServerPublic {
            raw_public_key: key.public_key(),
            certificate: Some(key.self_signed("server", 0).unwrap()),
            anchor,
            server_name: None,
        };
        self.credentials.set_server_keys(Role::Management, keys);
    }

    fn restart(&mut self) {
        let keys = self.credentials.server_keys(Role::Management);
        self.credentials = Credentials::open(Arc::clone(&self.store), Settings::default()).unwrap();
        self.credentials.set_server_keys(Role::Management, (*keys).clone());
    }

    fn enrol(&self, role: Role, key: KeyMaterial) -> Result<usize, OperatorError> {
        let enrol = Enrol { accounts: vec![EnrolAccount { role, key }], ..Enrol::default() };
        self.credentials.enrol(self.now, "test", EP, &enrol).map(|outcome| outcome.created.len())
    }

    fn want_usage(&self, usage: u8) -> Result<(), OperatorError> {
        let profile = Profile { certificate_usage: Some(usage), ..Profile::default() };
        let enrol = Enrol { profile: Some(profile), ..Enrol::default() };
        self.credentials.enrol(self.now, "test", EP, &enrol).map(|_| ())
    }

    fn report(&mut self, fact: &Fact) {
        self.now += 10;
        self.credentials.report(self.now, fact).unwrap();
    }

    fn bootstrap_requested(&mut self) -> Result<Vec<(u16, Setting)>, Refusal> {
        let who = Authenticated::new(EP.into(), Role::Bootstrap, 1);
        self.report(&Fact::Handshake { who: who.clone(), full: true });
        self.report(&Fact::BootstrapRequested { who: who.clone() });
        self.credentials.bootstrap_plan(self.now, &who).map(|plan| plan.account.security)
    }

    fn delivered(&mut self, generation: u32) {
        self.report(&Fact::BootstrapDelivered { endpoint: EP.into(), generation });
    }

    fn register(&mut self, generation: u32) {
        let who = Authenticated::new(EP.into(), Role::Management, generation);
        self.report(&Fact::Handshake { who: who.clone(), full: true });
        self.report(&Fact::Registered { who });
    }

    fn rotate(&self, key: Option<KeyMaterial>) -> Result<Vec<String>, OperatorError> {
        let rotate = Rotate { key, ..Rotate::default() };
        self.credentials.rotate(self.now, "test", EP, &rotate).map(|rotated| rotated.warnings)
    }

    fn is_in_use(&self, generation: u32) -> bool {
        let device = self.credentials.device(EP).unwrap();
        let account = device.management.as_ref().unwrap();
        account.state == State::InUse && account.current == generation
    }

    fn subject(&self, generation: u32) -> Subject {
        let device = self.credentials.device(EP).unwrap();
        device.management.as_ref().unwrap().credential(generation).unwrap().subject.clone()
    }

    fn pins(&self, generation: u32) -> Vec<Pin> {
        let device = self.credentials.device(EP).unwrap();
        device.management.as_ref().unwrap().credential(generation).unwrap().pins.clone()
    }
}

fn ids(written: &[(u16, Setting)]) -> Vec<u16> {
    written.iter().map(|(id, _)| *id).collect()
}

fn integer(written: &[(u16, Setting)], id: u16) -> Option<i64> {
    written.iter().find(|(each, _)| *each == id).and_then(|(_, value)| match value {
        Setting::Integer(value) => Some(*value),
        _ => None,
    })
}

fn opaque(written: &[(u16, Setting)], id: u16) -> Vec<u8> {
    match &written.iter().find(|(each, _)| *each == id).unwrap().1 {
        Setting::Opaque(bytes) => bytes.to_vec(),
        other => unreachable!("{other:?}"),
    }
}

/// A device takes what was written, and its handshake shows whom it proves.
fn proves(bench: &Bench, written: &[(u16, Setting)]) -> u32 {
    let own = opaque(written, 3);
    let presented = match integer(written, 2) {
        Some(0) => {
            let secret = bench.credentials.look_up(Role::Management, &own).unwrap();
            assert_eq!(secret.key.bytes(), opaque(written, 5));
            return secret.who.generation;
        }
        Some(3) => {
            // What it is known by is in the instance of `/21`.
            let device = bench.credentials.device(EP).unwrap();
            let Subject::Oscore(id) = bench.subject(device.management.as_ref().unwrap().deliverable()) else {
                panic!("an account without security")
            };
            let named = Named { kid: id.kid, kid_context: id.id_context };
            let found = bench.credentials.look_up_context(Role::Management, &named).unwrap();
            return found[0].who.generation;
        }
        Some(1) => Presented::RawPublicKey(own.clone()),
        _ => Presented::Certificates(vec![own.clone()]),
    };
    let public = match &presented {
        Presented::RawPublicKey(key) => key.clone(),
        Presented::Certificates(_) => Certificate::parse(&own).unwrap().public_key,
    };
    assert_eq!(PrivateKey::parse(&opaque(written, 5)).unwrap().public_key(), public);
    bench.credentials.identify(bench.now, Role::Management, &presented).unwrap().generation
}

#[test]
fn an_account_goes_from_every_mode_to_every_other_with_a_proof_each() {
    let mut bench = Bench::new();
    let written = bench.bootstrap_requested().unwrap();
    assert_eq!(proves(&bench, &written), 1);
    bench.delivered(1);
    bench.register(1);
    let modes = [
        Mode::RawPublicKey,
        Mode::Certificate,
        Mode::Psk,
        Mode::Certificate,
        Mode::Oscore,
        Mode::RawPublicKey,
        Mode::Oscore,
        Mode::Oscore,
        Mode::Psk,
        Mode::Psk,
    ];
    for (generation, mode) in (2..).zip(modes) {
        bench.rotate(Some(KeyMaterial::Generate(mode))).unwrap();
        // Killed, and started again.
        bench.restart();
        let written = bench.bootstrap_requested().unwrap();
        match mode {
            Mode::Psk | Mode::Oscore => assert_eq!(ids(&written), [0, 1, 2, 3, 4, 5, 10]),
            Mode::RawPublicKey => {
                assert_eq!(ids(&written), [0, 1, 2, 3, 4, 5, 10]);
                assert_eq!((integer(&written, 2), opaque(&written, 4)), (Some(1), server_key().public_key()));
            }
            Mode::Certificate => {
                assert_eq!(ids(&written), [0, 1, 2, 3, 4, 5, 10, 13, 15]);
                assert_eq!((integer(&written, 2), integer(&written, 13)), (Some(2), Some(0)));
                assert_eq!(integer(&written, 15), Some(3));
                let server = bench.credentials.server_keys(Role::Management);
                assert_eq!(Some(opaque(&written, 4)), server.certificate);
            }
        }
        assert_eq!(proves(&bench, &written), generation);
        assert_eq!(bench.subject(generation).mode(), mode);
        bench.delivered(generation);
        bench.restart();
        bench.register(generation);
        bench.now += 3_600_000;
        bench.report(&Fact::Tick);
        assert!(bench.is_in_use(generation), "{mode}");
        assert!(bench.store.secret(EP, Role::Management, generation - 1).unwrap().is_none());
    }
}

#[test]
fn a_rotation_keeps_the_mode_unless_told_otherwise() {
    let mut bench = Bench::new();
    bench.register(1);
    bench.rotate(Some(KeyMaterial::Generate(Mode::RawPublicKey))).unwrap();
    bench.register(2);
    bench.now += 3_600_000;
    bench.report(&Fact::Tick);
    bench.rotate(None).unwrap();
    assert_eq!(bench.subject(3).mode(), Mode::RawPublicKey);
    assert_ne!(bench.subject(3), bench.subject(2));
}

#[test]
fn an_anchor_is_written_as_one_with_the_name_for_sni() {
    let mut bench = Bench::new();
    let keys = ServerPublic {
        anchor: Some(b"anchor".to_vec()),
        server_name: Some("lwm2m.example".to_owned()),
        ..(*bench.credentials.server_keys(Role::Management)).clone()
    };
    bench.credentials.set_server_keys(Role::Management, keys);
    bench.register(1);
    bench.rotate(Some(KeyMaterial::Generate(Mode::Certificate))).unwrap();
    let written = bench.bootstrap_requested().unwrap();
    assert_eq!(ids(&written), [0, 1, 2, 3, 4, 5, 10, 13, 14, 15]);
    assert_eq!((integer(&written, 15), opaque(&written, 4)), (Some(2), b"anchor".to_vec()));
    assert!(written.contains(&(14, Setting::Text("lwm2m.example".to_owned()))));
}

#[test]
fn a_device_is_written_the_certificate_usage_that_it_is_to_have() {
    let mut bench = Bench::new();
    let anchor = b"anchor".to_vec();
    bench.set_server(&server_key(), Some(anchor.clone()));
    let own = bench.credentials.server_keys(Role::Management).certificate.clone().unwrap();
    bench.register(1);
    bench.rotate(Some(KeyMaterial::Generate(Mode::Certificate))).unwrap();
    for (usage, expected, of) in [
        (0, &anchor, PinKind::Anchor),
        (1, &own, PinKind::Certificate),
        (2, &anchor, PinKind::Anchor),
        (3, &own, PinKind::Certificate),
    ] {
        bench.want_usage(usage).unwrap();
        let written = bench.bootstrap_requested().unwrap();
        assert_eq!(integer(&written, 15), Some(i64::from(usage)));
        assert_eq!(&opaque(&written, 4), expected, "usage {usage}");
        bench.delivered(2);
        assert_eq!(bench.pins(2), [Pin { of, sha256: Fingerprint::of(expected) }], "usage {usage}");
    }
}

#[test]
fn no_certificate_usage_is_wanted_or_written_that_the_server_has_no_anchor_for() {
    let mut bench = Bench::new();
    bench.register(1);
    for usage in [0, 2] {
        let refused = bench.want_usage(usage).unwrap_err().to_string();
        assert!(refused.contains("configure the anchor"), "{refused}");
    }
    let refused = bench.want_usage(4).unwrap_err();
    assert!(matches!(refused, OperatorError::Invalid("certificate_usage: 0 to 3")), "{refused}");
    bench.set_server(&server_key(), Some(b"anchor".to_vec()));
    bench.want_usage(0).unwrap();
    // It was taken out of the configuration since.
    bench.set_server(&server_key(), None);
    let refused = bench.rotate(Some(KeyMaterial::Generate(Mode::Certificate))).unwrap_err().to_string();
    assert!(refused.contains("configure the anchor"), "{refused}");
    bench.want_usage(1).unwrap();
    bench.rotate(Some(KeyMaterial::Generate(Mode::Certificate))).unwrap();
    bench.set_server(&server_key(), Some(b"anchor".to_vec()));
    bench.want_usage(2).unwrap();
    bench.set_server(&server_key(), None);
    assert_eq!(bench.bootstrap_requested().unwrap_err(), Refusal::NoServerKey);
    assert!(bench.pins(2).is_empty(), "nothing was handed out by it");
}

#[test]
fn nothing_is_rotated_or_written_that_the_server_has_no_key_for() {
    let mut bench = Bench::new();
    bench.credentials.set_server_keys(Role::Management, ServerPublic::default());
    bench.register(1);
    for mode in [Mode::RawPublicKey, Mode::Certificate] {
        let refused = bench.rotate(Some(KeyMaterial::Generate(mode))).unwrap_err();
        assert!(refused.to_string().contains("no key of its own"), "{refused}");
    }
    bench.set_server(&server_key(), None);
    bench.rotate(Some(KeyMaterial::Generate(Mode::RawPublicKey))).unwrap();
    bench.credentials.set_server_keys(Role::Management, ServerPublic::default());
    assert_eq!(bench.bootstrap_requested().unwrap_err(), Refusal::NoServerKey);
    // Nothing was handed out by it.
    assert!(bench.pins(2).is_empty());
}

#[test]
fn a_device_with_its_own_key_is_given_none_and_is_rotated_only_to_what_it_can_hold() {
    let (own, next) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let raw = |key: &PrivateKey, private: Option<&PrivateKey>| KeyMaterial::Public {
        subject: Subject::RawPublicKey(Fingerprint::of(&key.public_key())),
        key: Some(DeviceKey::new(Presented::RawPublicKey(key.public_key()), private.cloned()).unwrap()),
    };
    let by_hash = |key: &PrivateKey| KeyMaterial::Public {
        subject: Subject::RawPublicKey(Fingerprint::of(&key.public_key())),
        key: None,
    };
    for given in [raw(&own, None), by_hash(&own)] {
        let mut bench = Bench::new();
        bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "").unwrap();
        bench.enrol(Role::Management, given).unwrap();
        let written = bench.bootstrap_requested().unwrap();
        assert_eq!(
            (integer(&written, 2), opaque(&written, 3), opaque(&written, 5)),
            (Some(1), vec![], vec![])
        );
        assert_eq!(opaque(&written, 4), server_key().public_key());
        bench.delivered(2);
        bench.register(2);
        for refused in [
            None,
            Some(KeyMaterial::Generate(Mode::RawPublicKey)),
            Some(KeyMaterial::Generate(Mode::Certificate)),
            Some(raw(&next, Some(&next))),
        ] {
            let error = bench.rotate(refused).unwrap_err();
            assert!(error.to_string().contains("(a secure element)"), "{error}");
        }
        assert!(matches!(bench.rotate(Some(by_hash(&own))), Err(OperatorError::SubjectTaken(_))));
        assert!(bench.rotate(Some(by_hash(&next))).unwrap().is_empty());
        bench.register(3);
        bench.now += 3_600_000;
        bench.report(&Fact::Tick);
        // Back to the key it had, which was only retired.
        bench.rotate(Some(by_hash(&own))).unwrap();
        let presented = Presented::RawPublicKey(own.public_key());
        let who = bench.credentials.identify(bench.now, Role::Management, &presented).unwrap();
        assert_eq!(who.generation, 4);
        bench.register(4);
        bench.now += 3_600_000;
        bench.report(&Fact::Tick);
        let warnings = bench.rotate(Some(KeyMaterial::Generate(Mode::Psk))).unwrap();
        assert!(warnings[0].contains("must be able to hold a pre-shared key"), "{warnings:?}");
    }
}

#[test]
fn a_renewed_certificate_reaches_a_device_that_keeps_its_key() {
    let own = PrivateKey::generate().unwrap();
    let [old, new] = [1, 2].map(|_| own.self_signed(EP, NOW).unwrap());
    let pinned = |certificate: &Vec<u8>| {
        let key = DeviceKey::new(Presented::Certificates(vec![certificate.clone()]), None).unwrap();
        KeyMaterial::Public { subject: key.subject(), key: Some(key) }
    };
    let mut bench = Bench::new();
    bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "").unwrap();
    bench.enrol(Role::Management, pinned(&old)).unwrap();
    bench.register(2);
    bench.rotate(Some(pinned(&new))).unwrap();
    let written = bench.bootstrap_requested().unwrap();
    assert_eq!((opaque(&written, 3), opaque(&written, 5)), (new.clone(), vec![]));
    let generation = |certificate: &Vec<u8>| {
        let presented = Presented::Certificates(vec![certificate.clone()]);
        bench.credentials.identify(bench.now, Role::Management, &presented).unwrap().generation
    };
    assert_eq!((generation(&old), generation(&new)), (2, 3));
}

#[test]
fn a_binding_by_name_is_not_rotated_to_another_that_no_handshake_could_tell_from_it() {
    let mut bench = Bench::new();
    bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "").unwrap();
    let by_name =
        || KeyMaterial::Public { subject: Subject::Certificate(Binding::Name { issuer: None }), key: None };
    bench.enrol(Role::Management, by_name()).unwrap();
    bench.register(2);
    let refused = bench.rotate(Some(by_name())).unwrap_err();
    assert!(refused.to_string().contains("a renewed certificate is taken without a rotation"), "{refused}");
}

#[test]
fn what_is_given_must_belong_together_and_be_good_today() {
    let (own, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let certificate = own.self_signed("another-name", NOW).unwrap();
    let key = || DeviceKey::new(Presented::Certificates(vec![certificate.clone()]), None).unwrap();
    let hash = Fingerprint::of(&other.public_key());
    let bench = Bench::new();
    bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "").unwrap();
    for subject in [
        Subject::RawPublicKey(hash),
        Subject::Certificate(Binding::Pinned(hash)),
        Subject::Certificate(Binding::Key { issuer: hash, key: hash }),
        Subject::Certificate(Binding::Name { issuer: None }),
        Subject::Psk(Identity::new(b"a").unwrap()),
    ] {
        let given = KeyMaterial::Public { subject: subject.clone(), key: Some(key()) };
        let refused = bench.enrol(Role::Management, given).unwrap_err();
        assert!(matches!(refused, OperatorError::Invalid(_)), "{subject}: {refused}");
    }
    let given = KeyMaterial::Public { subject: key().subject(), key: Some(key()) };
    let enrol =
        Enrol { accounts: vec![EnrolAccount { role: Role::Management, key: given }], ..Enrol::default() };
    let early = bench.credentials.enrol(0, "test", EP, &enrol).unwrap_err();
    assert!(matches!(&early, OperatorError::Unusable(why) if why.contains("not valid before")), "{early}");
    bench.credentials.enrol(NOW, "test", EP, &enrol).unwrap();
    assert!(bench.credentials.enrol(NOW, "test", EP, &enrol).unwrap().created.is_empty(), "the same again");
}

#[test]
fn what_a_device_was_told_of_the_servers_key_is_known_and_survives_a_restart() {
    let mut bench = Bench::new();
    bench.register(1);
    assert!(bench.pins(1).is_empty(), "a pre-shared key pins nothing");
    bench.rotate(Some(KeyMaterial::Generate(Mode::RawPublicKey))).unwrap();
    let (old, new) = (server_key(), PrivateKey::generate().unwrap());
    let pin =
        |key: &PrivateKey| Pin { of: PinKind::RawPublicKey, sha256: Fingerprint::of(&key.public_key()) };
    bench.bootstrap_requested().unwrap();
    bench.restart();
    assert_eq!(bench.pins(2), [pin(&old)]);
    // Another key of the server: until the device has acknowledged it, nobody knows which one it has.
    bench.set_server(&new, None);
    bench.bootstrap_requested().unwrap();
    bench.restart();
    assert_eq!(bench.pins(2), [pin(&old), pin(&new)]);
    bench.delivered(2);
    bench.restart();
    assert_eq!(bench.pins(2), [pin(&new)]);
    assert_eq!(bench.credentials.server_keys(Role::Management).pins()[0], pin(&new));
    let pinned = bench.credentials.pinned();
    assert_eq!(pinned.into_iter().collect::<Vec<_>>(), [(pin(&new), vec![EP.to_owned()])]);
    bench.credentials.revoke(bench.now, "test", EP, None, "").unwrap();
    assert!(bench.credentials.pinned().is_empty(), "who is refused counts no more");
}

#[test]
fn a_key_pair_drawn_by_the_server_is_shown_once_and_sealed() {
    let bench = Bench::new();
    bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "").unwrap();
    let account = EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::Certificate) };
    let enrol = Enrol { accounts: vec![account], ..Enrol::default() };
    let created = bench.credentials.enrol(bench.now, "test", EP, &enrol).unwrap().created;
    let Some(Kept::Device(shown)) = &created[0].key else { unreachable!() };
    let kept = bench.store.secret(EP, Role::Management, 2).unwrap().unwrap();
    assert_eq!(kept.device(), Some(shown));
    assert_eq!(shown.certificates()[0].common_name.as_deref(), Some(EP));
    let device = bench.credentials.device(EP).unwrap();
    let record = serde_json::to_string(&*device).unwrap();
    let private = hex::encode(shown.private_key().unwrap().pkcs8().as_slice());
    assert!(!record.contains(&private) && !format!("{created:?}").contains(&private[60..]));
    bench.credentials.revoke(bench.now, "test", EP, None, "").unwrap();
    assert!(bench.store.secret(EP, Role::Management, 2).unwrap().is_none());
    let device = bench.credentials.device(EP).unwrap();
    let standing = device.management.as_ref().unwrap().credential(2).unwrap().standing;
    assert_eq!(standing, Standing::Revoked);
}
