//! Security mode 2: certificates, by usage, matching type, name and date, and each check that a handshake fails at (LwM2M
//! Transport 1.1.1 §5.2.8.7).

use lwm2m_client::objects::{Content, Format, Operation, Value};
use lwm2m_client::{
    Action, Certificate, CertificateUsage as Usage, FactoryAccount, HandshakeReason, Key, MatchingType,
    Notice, Reason, Refusal,
};
use lwm2m_coap::Code;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::prover::Owner;
use crate::raw_public_keys::{DEVICE, SERVER, private_key};
use crate::world::{BOOT, Script, World, account_of, bootstrap_account, server_instance, target, tlv};

const BS: u16 = 5784;
const DM: u16 = 5684;

/// 2026-06-01, when all certificates are valid.
const NOW: i64 = 1_780_272_000;

/// A root, an authority below it, a server and a device, and nobody's root.
pub struct Made {
    pub root: Vec<u8>,
    pub intermediate: Vec<u8>,
    pub server: Vec<u8>,
    pub device: Vec<u8>,
    pub other: Vec<u8>,
    private: Vec<u8>,
}

fn key_of(secret: &[u8; 32]) -> KeyPair {
    // With the public key, as rcgen wants it.
    let public = crate::prover::public_key(secret);
    let ec = [&[2, 1, 1, 4, 0x20][..], secret, &[0xa1, 0x44, 3, 0x42, 0], &public[26..]].concat();
    let inner = [&[0x30, 0x6b][..], &ec].concat();
    let algorithm = &private_key(secret)[5..26];
    let fields = [&[2, 1, 0][..], algorithm, &[4, 0x6d], &inner].concat();
    let der = [&[0x30, 0x81, 0x87][..], &fields].concat();
    KeyPair::try_from(der).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "urn:dev:test");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Made {
    pub fn new() -> Self {
        Self::with_names(&["host"])
    }

    /// The server's certificate has these names.
    fn with_names(names: &[&str]) -> Self {
        let pair = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let (root_key, intermediate_key) = (pair(), pair());
        let root = authority("Root").self_signed(&root_key).unwrap();
        let other = authority("Root").self_signed(&pair()).unwrap();
        let issuer = Issuer::new(authority("Root"), root_key);
        let intermediate = authority("Intermediate").signed_by(&intermediate_key, &issuer).unwrap();
        let issuer = Issuer::new(authority("Intermediate"), intermediate_key);
        let mut leaf = params(names);
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = leaf.signed_by(&key_of(&SERVER), &issuer).unwrap();
        let device = params(&[]).signed_by(&key_of(&DEVICE), &issuer).unwrap();
        let [root, intermediate, server, device, other] =
            [root, intermediate, server, device, other].map(|certificate| certificate.der().to_vec());
        Made { root, intermediate, server, device, other, private: private_key(&DEVICE) }
    }

    /// For a server that is known by its certificate.
    pub fn credential(&self) -> Certificate<'_> {
        Certificate {
            chain: Some(&self.device),
            private_key: Some(&self.private),
            server_certificate: &self.server,
            matching: MatchingType::Exact,
            usage: Usage::DomainIssuedCertificate,
            server_name: None,
        }
    }

    fn script(&self) -> Script {
        let mut script = Script::signing(DM, Owner::new(SERVER, &[&self.device]));
        script.owner.chain = vec![self.server.clone(), self.intermediate.clone()];
        script
    }

    fn world(&self, credential: Certificate<'_>, anchors: &'static [&'static [u8]]) -> World {
        self.world_at("coaps://host:5684", credential, anchors)
    }

    fn world_at(&self, uri: &str, credential: Certificate<'_>, anchors: &'static [&'static [u8]]) -> World {
        let account = FactoryAccount::server(1, uri, server_instance(1, 86_400), Some(credential.into()));
        let mut world = World::durable(&[account], vec![self.script()]);
        world.config.trust_anchors = anchors;
        world.objects.device.clock = Some(NOW);
        world.power_loss();
        world
    }
}

fn leaked(certificates: &[&[u8]]) -> &'static [&'static [u8]] {
    certificates.iter().map(|certificate| &*certificate.to_vec().leak()).collect::<Vec<_>>().leak()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use dtls_psk::{Crypto, RunningHash as _, RustCrypto};
    let mut hash = <RustCrypto as Crypto>::Sha256::new();
    hash.update(bytes);
    hash.finish().to_vec()
}

/// SHA-384 and SHA-512.
#[cfg(feature = "sha512")]
fn longer_digests(bytes: &[u8]) -> [Vec<u8>; 2] {
    use dtls_psk::{Crypto as _, RustCrypto};
    [RustCrypto::sha384(bytes).to_vec(), RustCrypto::sha512(bytes).to_vec()]
}

#[cfg(feature = "sha512")]
#[test]
fn a_server_is_known_by_longer_digests_too() {
    let made = Made::new();
    let types = [MatchingType::Sha384, MatchingType::Sha512];
    for (matching, known) in types.into_iter().zip(longer_digests(&made.server)) {
        let credential = Certificate { matching, server_certificate: &known, ..made.credential() };
        is_accepted(made.world(credential, &[]), "known");
        let cut = Certificate { matching, server_certificate: &known[1..], ..made.credential() };
        let mut world = made.world(cut, &[]);
        world.run(5);
        assert_eq!(reasons(&world), [Reason::MalformedCredential]);
    }
    for (matching, known) in types.into_iter().zip(longer_digests(&made.device)) {
        let credential = Certificate { matching, server_certificate: &known, ..made.credential() };
        is_refused(made.world(credential, &[]), Refusal::Unknown, 46, "unknown");
    }
}

fn reasons(world: &World) -> Vec<Reason> {
    let reasons = world.notices.iter().filter_map(|notice| match notice {
        Notice::RegistrationRetry { reason, .. } | Notice::RegistrationFailed { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

fn is_accepted(mut world: World, case: &str) -> World {
    assert!(world.run_until(10, |world| world.is_registered(DM)), "{case}: {:?}", world.notices);
    world
}

/// The server hears why, and the device does not show itself.
fn is_refused(mut world: World, refusal: Refusal, alert: u8, case: &str) {
    world.run(5);
    let reason = HandshakeReason::UntrustedPeer(refusal);
    assert_eq!(reasons(&world), [Reason::Handshake(reason)], "{case}");
    let told = HandshakeReason::PeerAlert(dtls_psk::Alert(alert));
    assert_eq!(world.server(DM).owner.suspicions.last(), Some(&told), "{case}");
    assert!(world.server(DM).owner.presented.is_empty(), "{case}");
}

#[test]
fn a_server_is_trusted_by_each_usage_and_matching_type() {
    let made = Made::new();
    let public_key = crate::prover::public_key(&SERVER);
    let digests = [&made.server, &public_key, &made.intermediate].map(|bytes| sha256(bytes));
    let anchors = leaked(&[&made.other, &made.root]);
    use MatchingType::{Exact, Sha256};
    for (usage, matching, known, anchors) in [
        (3, Exact, &made.server, &[][..]),
        (3, Exact, &public_key, &[]),
        (3, Sha256, &digests[0], &[]),
        (3, Sha256, &digests[1], &[]),
        (2, Exact, &made.root, &[]),
        (2, Exact, &made.intermediate, &[]),
        (2, Sha256, &digests[2], &[]),
        (1, Exact, &made.server, anchors),
        (1, Sha256, &digests[0], anchors),
        (0, Exact, &made.root, anchors),
        (0, Exact, &made.intermediate, anchors),
        (0, Sha256, &digests[2], anchors),
    ] {
        let usage = Usage::from_value(usage).unwrap();
        let credential = Certificate { usage, matching, server_certificate: known, ..made.credential() };
        let case = format!("{usage:?} {matching:?}");
        let mut world = is_accepted(made.world(credential, anchors), &case);
        assert_eq!(world.server(DM).owner.presented, std::slice::from_ref(&made.device), "{case}");
        assert_eq!(world.server(DM).names, [Some("host".to_owned())], "{case}");
        assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    }
}

#[test]
fn a_server_is_refused_by_each_usage_for_its_reason() {
    let made = Made::new();
    let strange = Made::new();
    let wrong = sha256(b"something else");
    let anchors = leaked(&[&made.root]);
    let others = leaked(&[&made.other]);
    use MatchingType::{Exact, Sha256};
    for (usage, matching, known, anchors, refusal, alert) in [
        (3, Exact, &strange.server, &[][..], Refusal::Unknown, 46),
        (3, Sha256, &wrong, &[], Refusal::Unknown, 46),
        (2, Exact, &made.other, &[], Refusal::UnknownIssuer, 48),
        (2, Sha256, &wrong, &[], Refusal::UnknownIssuer, 48),
        // The anchor is in the trust store, and not in the account.
        (2, Exact, &made.other, anchors, Refusal::UnknownIssuer, 48),
        (1, Exact, &strange.server, anchors, Refusal::Unknown, 46),
        (1, Exact, &made.server, others, Refusal::UnknownIssuer, 48),
        (0, Exact, &made.other, anchors, Refusal::UnknownIssuer, 48),
        (0, Exact, &made.root, others, Refusal::UnknownIssuer, 48),
        (0, Sha256, &wrong, anchors, Refusal::UnknownIssuer, 48),
    ] {
        let usage = Usage::from_value(usage).unwrap();
        let credential = Certificate { usage, matching, server_certificate: known, ..made.credential() };
        is_refused(made.world(credential, anchors), refusal, alert, &format!("{usage:?} {matching:?}"));
    }
}

#[test]
fn the_name_is_that_of_sni_else_the_host_of_the_uri() {
    let anchored = |made: &Made, uri, server_name| {
        let usage = Usage::TrustAnchorAssertion;
        let known = made.root.clone();
        let credential = Certificate { usage, server_certificate: &known, server_name, ..made.credential() };
        made.world_at(uri, credential, &[])
    };
    for (names, uri, server_name, asked) in [
        (&["host"][..], "coaps://host:5684", None, Some("host")),
        (&["lwm2m.example"], "coaps://host:5684", Some("lwm2m.example"), Some("lwm2m.example")),
        (&["*.lwm2m.example"], "coaps://a.lwm2m.example", None, Some("a.lwm2m.example")),
        (&["192.0.2.1"], "coaps://192.0.2.1", None, None),
        (&["2001:db8::1"], "coaps://[2001:db8::1]", None, None),
        (&["lwm2m.example"], "coaps://192.0.2.1", Some("lwm2m.example"), Some("lwm2m.example")),
    ] {
        let made = Made::with_names(names);
        let mut world = is_accepted(anchored(&made, uri, server_name), uri);
        assert_eq!(world.server(DM).names, [asked.map(str::to_owned)], "{uri}");
    }
    for (names, uri, server_name) in [
        (&["lwm2m.example"][..], "coaps://host:5684", None),
        (&["host"], "coaps://host:5684", Some("lwm2m.example")),
        (&["192.0.2.2"], "coaps://192.0.2.1", None),
        (&["192.0.2.1"], "coaps://192.0.2.1", Some("lwm2m.example")),
    ] {
        let made = Made::with_names(names);
        is_refused(anchored(&made, uri, server_name), Refusal::WrongName, 46, uri);
    }
    // Who is known by the certificate itself may have any name.
    let made = Made::with_names(&["lwm2m.example"]);
    is_accepted(made.world(made.credential(), &[]), "usage 3");
}

#[test]
fn dates_count_for_a_device_that_knows_the_time() {
    let made = Made::new();
    let usage = Usage::TrustAnchorAssertion;
    let credential = Certificate { usage, server_certificate: &made.root, ..made.credential() };
    // 2025-12-31, and 2027-01-02.
    for time in [1_767_139_200, 1_798_848_000] {
        let mut world = made.world(credential, &[]);
        world.objects.device.clock = Some(time);
        is_refused(world, Refusal::Expired, 45, &time.to_string());
        let mut world = made.world(made.credential(), &[]);
        world.objects.device.clock = Some(time);
        is_accepted(world, "usage 3");
    }
    for clock in [None, Some(0)] {
        let mut world = made.world(credential, &[]);
        world.objects.device.clock = clock;
        is_accepted(world, "without a clock");
    }
}

#[test]
fn a_server_that_presents_a_certificate_and_does_not_have_its_key_is_refused() {
    let made = Made::new();
    let mut world = made.world(made.credential(), &[]);
    world.server(DM).owner.secret = Some([7; 32]);
    world.run(5);
    assert_eq!(reasons(&world), [Reason::Handshake(HandshakeReason::BadSignature)]);
    assert!(world.server(DM).owner.presented.is_empty());
}

#[test]
fn a_server_without_certificates_has_nothing_in_common() {
    let made = Made::new();
    let mut world = made.world(made.credential(), &[]);
    world.server(DM).owner.chain.clear();
    world.run(5);
    assert_eq!(reasons(&world).len(), 1);
    assert!(matches!(reasons(&world)[0], Reason::Alert(40 | 43)), "{:?}", world.notices);
}

#[test]
fn a_credential_that_cannot_be_read_is_named() {
    let made = Made::new();
    let cut = &made.device[..made.device.len() - 1];
    let digest = sha256(&made.server);
    for (matching, key, bytes, reason) in [
        (MatchingType::Exact, Key::Identity(1), None, Reason::NoCredential),
        (MatchingType::Exact, Key::Identity(1), Some(cut), Reason::MalformedCredential),
        (MatchingType::Exact, Key::ServerKey(1), None, Reason::NoCredential),
        (MatchingType::Sha256, Key::ServerKey(1), Some(&digest[1..]), Reason::MalformedCredential),
        (MatchingType::Exact, Key::Secret(1), Some(cut), Reason::MalformedCredential),
        (MatchingType::Exact, Key::ServerName(1), None, Reason::NoCredential),
        (MatchingType::Exact, Key::ServerName(1), Some(b"192.0.2.1"), Reason::MalformedCredential),
        (MatchingType::Exact, Key::ServerName(1), Some(b"\xff"), Reason::MalformedCredential),
    ] {
        let server_name = Some("host");
        let known = if matching == MatchingType::Exact { &made.server } else { &digest };
        let credential =
            Certificate { matching, server_name, server_certificate: known, ..made.credential() };
        let mut world = made.world(credential, &[]);
        let change = bytes.map_or(Action::Remove { key }, |bytes| Action::Stage { key, bytes });
        for action in [change, Action::Commit, Action::Confirm] {
            world.flash.store.apply(&action).unwrap();
        }
        world.run(5);
        assert_eq!(reasons(&world), [reason], "{key:?}");
    }
}

#[test]
fn a_chain_is_presented_as_a_whole() {
    let made = Made::new();
    let chain = [&made.device[..], &made.intermediate, &made.root].concat();
    let mut world = made.world(Certificate { chain: Some(&chain), ..made.credential() }, &[]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(world.server(DM).owner.presented, [made.device, made.intermediate, made.root]);
}

#[test]
fn a_device_signs_by_itself_and_presents_what_it_has_by_itself() {
    let made = Made::new();
    let credential = Certificate { chain: None, private_key: None, ..made.credential() };
    let mut world = World::durable(&[account_of(DM, credential.into())], vec![made.script()]);
    world.element.secret = Some(DEVICE);
    world.flash.own = Some(made.device.clone());
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!((world.element.asked.len(), world.flash.store.load(Key::Secret(1))), (1, None));
    assert_eq!(world.server(DM).owner.presented, [made.device]);
}

#[cfg(feature = "resumption")]
#[test]
fn a_session_that_certificates_made_is_taken_up_again_under_the_name_of_the_account() {
    let made = Made::with_names(&["lwm2m.example"]);
    let usage = Usage::TrustAnchorAssertion;
    let server_name = Some("lwm2m.example");
    let credential = Certificate { usage, server_certificate: &made.root, server_name, ..made.credential() };
    let mut world = made.world(credential, &[]);
    world.server(DM).sessions = Some(Vec::new());
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.run(1);
    world.power_loss();
    assert!(world.run_until(10, |world| world.servers[0].resumed == 1 && world.client.is_registered()));
    let name = server_name.map(str::to_owned);
    assert_eq!(world.server(DM).names, [name.clone(), name]);
}

fn bootstrapping(made: &Made) -> World {
    let scripts = vec![Script::secured(BS, "boot", BOOT.key), made.script()];
    let mut world = World::durable(&[bootstrap_account(BS, Some(BOOT))], scripts);
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world
}

#[test]
fn an_account_with_certificates_comes_in_blocks_and_is_stored() {
    let made = Made::new();
    let mut world = bootstrapping(&made);
    let credential = Certificate {
        server_certificate: &made.root,
        usage: Usage::TrustAnchorAssertion,
        server_name: Some("host"),
        ..made.credential()
    };
    assert!(made.device.len() + made.root.len() > 512, "more than one block");
    world.write_credential(BS, DM, credential.into());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.is_registered(DM)), "{:?}", world.notices);
    let stored = |key| world.flash.store.load(key).map(<[u8]>::to_vec);
    assert_eq!(stored(Key::Identity(1)), Some(made.device));
    assert_eq!(stored(Key::ServerKey(1)), Some(made.root));
    assert_eq!(stored(Key::ServerName(1)), Some(b"host".to_vec()));
    world.power_loss();
    assert!(world.run_until(10, |world| world.client.is_registered()));
}

#[test]
fn the_time_that_a_bootstrap_server_writes_counts_for_the_certificate_of_the_next_server() {
    let made = Made::new();
    let usage = Usage::TrustAnchorAssertion;
    let credential = Certificate { usage, server_certificate: &made.root, ..made.credential() };
    // Within 2026, on 2027-01-02, and none.
    for (time, is_in_time) in [(Some(NOW), true), (Some(1_798_848_000), false), (None, true)] {
        let mut world = bootstrapping(&made);
        assert_eq!(world.objects.device.clock, None);
        world.write_credential(BS, DM, credential.into());
        if let Some(time) = time {
            let payload = tlv("/3/0", &[("13", Value::Time(time))]);
            let content = Content { format: Format::TLV, payload: &payload };
            let path = target("/3/0/13").path;
            assert_eq!(world.ask(BS, &Operation::BootstrapWrite { path, content }).code, Code::CHANGED);
        }
        assert_eq!(world.objects.device.clock, time);
        assert_eq!(world.finish(BS), Code::CHANGED);
        if is_in_time {
            is_accepted(world, &format!("{time:?}"));
        } else {
            is_refused(world, Refusal::Expired, 45, "expired by the time that was written");
        }
    }
}

/// What becomes of a longer digest.
const DIGESTS: Code = if cfg!(feature = "sha512") { Code::CHANGED } else { Code::NOT_ACCEPTABLE };

#[test]
fn what_a_device_cannot_hold_against_a_certificate_is_not_taken() {
    let made = Made::new();
    let anchors = leaked(&[&made.root]);
    for (resource, value, anchors, write, finish) in [
        ("15", Value::Unsigned(0), &[][..], Code::CHANGED, Code::NOT_ACCEPTABLE),
        ("15", Value::Unsigned(1), &[], Code::CHANGED, Code::NOT_ACCEPTABLE),
        ("15", Value::Unsigned(0), anchors, Code::CHANGED, Code::CHANGED),
        ("15", Value::Unsigned(2), &[], Code::CHANGED, Code::CHANGED),
        ("15", Value::Unsigned(4), &[], Code::BAD_REQUEST, Code::CHANGED),
        ("13", Value::Unsigned(1), &[], Code::CHANGED, Code::CHANGED),
        ("13", Value::Unsigned(3), &[], Code::CHANGED, DIGESTS),
        ("13", Value::Unsigned(4), &[], Code::BAD_REQUEST, Code::CHANGED),
        ("14", Value::String("192.0.2.1"), &[], Code::BAD_REQUEST, Code::CHANGED),
        ("14", Value::String("lwm2m.example"), &[], Code::CHANGED, Code::CHANGED),
        ("4", Value::Opaque(&[]), &[], Code::CHANGED, Code::NOT_ACCEPTABLE),
    ] {
        let mut world = bootstrapping(&made);
        world.config.trust_anchors = anchors;
        world.power_loss();
        assert!(world.run_until(10, |world| world.servers[0].handshakes == 2));
        world.run(1);
        world.write_credential(BS, DM, made.credential().into());
        let payload = tlv("/0/1", &[(resource, value)]);
        let content = Content { format: Format::TLV, payload: &payload };
        let path = target(&format!("/0/1/{resource}")).path;
        let case = format!("{resource} {value:?}");
        assert_eq!(world.ask(BS, &Operation::BootstrapWrite { path, content }).code, write, "{case}");
        assert_eq!(world.finish(BS), finish, "{case}");
    }
}
