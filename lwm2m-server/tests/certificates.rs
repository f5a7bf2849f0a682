//! Certificates of devices, one property after the other: chain, dates, key, purpose, constraints, revocation, binding; each with its
//! verdict and its reason in words.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod issued;

use std::sync::Arc;

use dtls_psk::Refusal;
use lwm2m_server::credentials::{
    Authenticated, Binding, Certificate, Credentials, DeviceKey, DeviceTrust, Enrol, EnrolAccount, Fact,
    Fingerprint, Identity, Key, KeyMaterial, Mode, OperatorError, Presented, Refusal as Standing, Role,
    Rotate, ServerPublic, Settings, Subject, TrustError, Untrusted, pem,
};
use lwm2m_server::store::{RedbStore, Sealer, Store};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

use issued::key;

const NAME: &str = "sensor-1";

/// 2026-06-01.
const NOW: u64 = 1_780_272_000_000;
const DAY: u64 = 86_400_000;

/// Good on that day, and not long before and after.
fn params(common_name: &str) -> CertificateParams {
    let mut params = issued::params(common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority(common_name: &str, path: BasicConstraints) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Root, intermediate and device, each bent by a test.
struct Made {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    leaf: Vec<u8>,
    root_issuer: Issuer<'static, KeyPair>,
    intermediate_issuer: Issuer<'static, KeyPair>,
}

type Bend<'b> = &'b dyn Fn(&mut CertificateParams);

fn made(bend_root: Bend<'_>, bend_intermediate: Bend<'_>, bend_leaf: Bend<'_>) -> Made {
    made_with(bend_root, bend_intermediate, bend_leaf, &key())
}

fn made_with(
    bend_root: Bend<'_>,
    bend_intermediate: Bend<'_>,
    bend_leaf: Bend<'_>,
    leaf_key: &KeyPair,
) -> Made {
    let (root_key, intermediate_key) = (key(), key());
    let mut root = authority("Root", BasicConstraints::Unconstrained);
    bend_root(&mut root);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root, root_key);
    let mut intermediate = authority("Intermediate", BasicConstraints::Unconstrained);
    intermediate.serial_number = Some(SerialNumber::from(77));
    bend_intermediate(&mut intermediate);
    let intermediate_certificate = intermediate.signed_by(&intermediate_key, &root_issuer).unwrap();
    let intermediate_issuer = Issuer::new(intermediate, intermediate_key);
    let mut leaf = params(NAME);
    leaf.serial_number = Some(SerialNumber::from(4_242));
    leaf.extended_key_usages = vec![Purpose::ClientAuth];
    bend_leaf(&mut leaf);
    let leaf_certificate = leaf.signed_by(leaf_key, &intermediate_issuer).unwrap();
    Made {
        root: root_certificate.der().to_vec(),
        intermediate: intermediate_certificate.der().to_vec(),
        leaf: leaf_certificate.der().to_vec(),
        root_issuer,
        intermediate_issuer,
    }
}

fn same(_: &mut CertificateParams) {}

fn plain() -> Made {
    made(&same, &same, &same)
}

fn revocation(issuer: &Issuer<'static, KeyPair>, serial: u64, until: (i32, u8, u8)) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 5, 1),
        next_update: date_time_ymd(until.0, until.1, until.2),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 5, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

fn credentials(anchors: &[&[u8]], revocations: &[&[u8]]) -> Credentials {
    let store = RedbStore::in_memory(Sealer::new(&[9; 32], "test").unwrap()).unwrap();
    let credentials = Credentials::open(Arc::new(store), Settings::default()).unwrap();
    let mut trust = DeviceTrust::default();
    for anchor in anchors {
        assert_eq!(trust.add_anchors(anchor), Ok(1));
    }
    for list in revocations {
        assert_eq!(trust.add_revocations(list), Ok(1));
    }
    credentials.set_trust(trust);
    credentials
}

fn enrol(credentials: &Credentials, endpoint: &str, binding: Binding) -> Result<usize, OperatorError> {
    let key = KeyMaterial::Public { subject: Subject::Certificate(binding), key: None };
    let enrol = Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
    credentials.enrol(NOW, "test", endpoint, &enrol).map(|outcome| outcome.created.len())
}

fn identify(credentials: &Credentials, chain: &[&[u8]]) -> Result<Authenticated, Untrusted> {
    identify_at(credentials, NOW, chain)
}

/// Who it is; of its validity only that it has one.
fn identify_at(credentials: &Credentials, now: u64, chain: &[&[u8]]) -> Result<Authenticated, Untrusted> {
    let chain = chain.iter().map(|each| each.to_vec()).collect();
    let who = credentials.identify(now, Role::Management, &Presented::Certificates(chain))?;
    assert!(who.validity.is_some());
    Ok(Authenticated { validity: None, ..who })
}

fn who(endpoint: &str) -> Authenticated {
    Authenticated::new(endpoint.into(), Role::Management, 1)
}

fn key_of(certificate: &[u8]) -> Fingerprint {
    Certificate::parse(certificate).unwrap().key
}

fn by_key(issuer: &[u8], leaf: &[u8]) -> Binding {
    Binding::Key { issuer: key_of(issuer), key: key_of(leaf) }
}

const BY_NAME: Binding = Binding::Name { issuer: None };

/// Good, or what the alert says and what is among the words of the reason.
type Expected = Result<(), (Refusal, &'static str)>;

fn judge(what: &str, found: &Result<(), (Refusal, String)>, expected: &Expected) {
    let is_so = match (found, expected) {
        (Ok(()), Ok(())) => true,
        (Err((refusal, reason)), Err((expected, words))) => refusal == expected && reason.contains(words),
        _ => false,
    };
    assert!(is_so, "{what}: {found:?}, not {expected:?}");
}

/// A device that is bound by its name meets these certificates; its server trusts the root.
fn verdict(made: &Made, chain: &[&[u8]], revocations: &[&[u8]]) -> Result<(), (Refusal, String)> {
    let credentials = credentials(&[&made.root], revocations);
    enrol(&credentials, NAME, BY_NAME).unwrap();
    identify(&credentials, chain)
        .map(|found| assert_eq!(found, who(NAME)))
        .map_err(|untrusted| (untrusted.refusal, untrusted.reason))
}

#[test]
fn each_property_of_a_path_has_its_verdict_and_reason() {
    let ca = |path| move |params: &mut CertificateParams| params.is_ca = IsCa::Ca(path);
    let purposes = |purposes: &'static [Purpose]| {
        move |params: &mut CertificateParams| params.extended_key_usages = purposes.to_vec()
    };
    let dates = |from: i32, until: i32| {
        move |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        }
    };
    let uri = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI("urn:dev:x".try_into().unwrap())];
    };
    let permitted = |name: &'static str| {
        move |params: &mut CertificateParams| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        }
    };
    let dns = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
    };
    let critical = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    };
    let usage = |usages: &'static [KeyUsagePurpose]| {
        move |params: &mut CertificateParams| params.key_usages = usages.to_vec()
    };
    let rows: &[(&str, Bend<'_>, Bend<'_>, Bend<'_>, Expected)] = &[
        ("all is well", &same, &same, &same, Ok(())),
        ("no purpose is named", &same, &same, &purposes(&[]), Ok(())),
        ("any purpose", &same, &same, &purposes(&[Purpose::Any]), Ok(())),
        ("an authority for clients", &same, &purposes(&[Purpose::ClientAuth]), &same, Ok(())),
        (
            "an authority for anything, a device for clients",
            &same,
            &purposes(&[Purpose::Any, Purpose::ServerAuth]),
            &same,
            Ok(()),
        ),
        (
            "a certificate of a server",
            &same,
            &same,
            &purposes(&[Purpose::ServerAuth]),
            Err((
                Refusal::NotAllowed,
                "the certificate of 'CN=sensor-1' is for server authentication, not for client authentication (extKeyUsage)",
            )),
        ),
        (
            "an authority for servers",
            &same,
            &purposes(&[Purpose::ServerAuth]),
            &same,
            Err((Refusal::NotAllowed, "'CN=Intermediate' is for server authentication, not for client")),
        ),
        (
            "a device's certificate that has expired",
            &same,
            &same,
            &dates(2024, 2026),
            Err((
                Refusal::Expired,
                "the certificate of 'CN=sensor-1' expired at 2026-01-01T00:00:00Z, and it is 2026-06-01T00:00:00Z",
            )),
        ),
        (
            "a device's certificate of the future",
            &same,
            &same,
            &dates(2027, 2028),
            Err((Refusal::Expired, "'CN=sensor-1' is not valid before 2027-01-01T00:00:00Z")),
        ),
        (
            "an authority that has expired",
            &same,
            &dates(2024, 2026),
            &same,
            Err((Refusal::Expired, "the certificate of 'CN=Intermediate' expired at 2026-01-01T00:00:00Z")),
        ),
        ("an anchor is trusted whatever its dates", &dates(2024, 2026), &same, &same, Ok(())),
        (
            "dates that contradict each other",
            &same,
            &same,
            &dates(2027, 2026),
            Err((Refusal::Expired, "'CN=sensor-1'")),
        ),
        (
            "an issuer that is no authority",
            &same,
            &|params| params.is_ca = IsCa::ExplicitNoCa,
            &same,
            Err((
                Refusal::NotAllowed,
                "was issued by 'CN=Intermediate', which is no authority (basicConstraints)",
            )),
        ),
        (
            "an authority as a device",
            &same,
            &same,
            &ca(BasicConstraints::Unconstrained),
            Err((Refusal::NotAllowed, "is that of an authority, not of a device")),
        ),
        ("a path as long as allowed", &ca(BasicConstraints::Constrained(1)), &same, &same, Ok(())),
        ("a name within what is permitted", &same, &permitted("sensor-1"), &dns, Ok(())),
        (
            "a name beyond what is permitted",
            &same,
            &permitted("example.org"),
            &dns,
            Err((
                Refusal::NotAllowed,
                "an authority above it may not issue for its names, sensor-1 (nameConstraints)",
            )),
        ),
        (
            "a critical extension that nobody knows",
            &same,
            &same,
            &critical,
            Err((Refusal::Unsupported, "critical extension")),
        ),
        (
            "a key that may not sign in handshakes",
            &same,
            &same,
            &usage(&[KeyUsagePurpose::KeyAgreement]),
            Err((Refusal::NotAllowed, "is not for signatures (keyUsage without digitalSignature)")),
        ),
        ("a key that may", &same, &same, &usage(&[KeyUsagePurpose::DigitalSignature]), Ok(())),
        ("another alternative name beside", &same, &same, &uri, Ok(())),
        (
            "another common name",
            &same,
            &same,
            &|params| params.distinguished_name.push(DnType::CommonName, "sensor-2"),
            Err((
                Refusal::WrongName,
                "the certificate of 'CN=sensor-2', issued through 'CN=Root', is not bound to any management account: \
                 by none of its names (sensor-2)",
            )),
        ),
    ];
    for (what, root, intermediate, leaf, expected) in rows {
        let made = made(root, intermediate, leaf);
        let found = verdict(&made, &[&made.leaf, &made.intermediate], &[]);
        judge(what, &found, expected);
    }
}

#[test]
fn each_shape_of_a_chain_has_its_verdict_and_reason() {
    let (one, other) = (plain(), plain());
    let leaf_key = key();
    let self_signed = params(NAME).self_signed(&leaf_key).unwrap().der().to_vec();
    let direct = params(NAME).signed_by(&leaf_key, &one.root_issuer).unwrap().der().to_vec();
    let (mut forged, mut bent) = (one.leaf.clone(), one.leaf.clone());
    let last = forged.len().checked_sub(1).unwrap();
    forged[last] ^= 1;
    bent.truncate(last);
    let long: Vec<&[u8]> = core::iter::once(&one.leaf[..]).chain([&one.intermediate[..]; 5]).collect();
    let missing = "was issued by 'CN=Intermediate', which is neither presented nor trusted here";
    let rows: &[(&str, &[&[u8]], Expected)] = &[
        ("leaf and intermediate", &[&one.leaf, &one.intermediate], Ok(())),
        ("with the root", &[&one.leaf, &one.intermediate, &one.root], Ok(())),
        ("in another order behind the leaf", &[&one.leaf, &one.root, &one.intermediate], Ok(())),
        ("issued by the root", &[&direct], Ok(())),
        ("a stranger's certificate beside", &[&one.leaf, &other.intermediate, &one.intermediate], Ok(())),
        (
            "three of one name",
            &[&one.leaf, &other.intermediate, &one.intermediate, &one.intermediate],
            Err((Refusal::TooLong, "more than two certificates of one name")),
        ),
        ("no intermediate", &[&one.leaf], Err((Refusal::UnknownIssuer, missing))),
        (
            "the intermediate first",
            &[&one.intermediate, &one.leaf],
            Err((Refusal::NotAllowed, "is that of an authority")),
        ),
        (
            "of another root with the same names",
            &[&other.leaf, &other.intermediate],
            Err((
                Refusal::UnknownIssuer,
                "the certificate of 'CN=Intermediate' says that it was issued by 'CN=Root', whom this server trusts, but",
            )),
        ),
        ("the intermediate of another", &[&one.leaf, &other.intermediate], Err((Refusal::UnknownIssuer, ""))),
        (
            "self-signed",
            &[&self_signed],
            Err((
                Refusal::UnknownIssuer,
                "the certificate of 'CN=sensor-1' is self-signed, and no account is bound",
            )),
        ),
        ("a signature that is wrong", &[&forged, &one.intermediate], Err((Refusal::UnknownIssuer, ""))),
        ("cut short", &[&bent, &one.intermediate], Err((Refusal::Malformed, "cannot be read"))),
        ("empty", &[], Err((Refusal::Malformed, "cannot be read"))),
        ("too many", &long, Err((Refusal::TooLong, "comes with 5 others; 4 are the most"))),
    ];
    for (what, chain, expected) in rows {
        let found = verdict(&one, chain, &[]);
        judge(what, &found, expected);
    }
}

#[test]
fn a_path_that_is_longer_than_its_authority_allows_is_refused() {
    let (root_key, keys) = (key(), [key(), key()]);
    let root = authority("Root", BasicConstraints::Constrained(1));
    let root_certificate = root.self_signed(&root_key).unwrap();
    // Anchors are trusted as they are: the length of the first intermediate is what counts.
    let [first, second] = ["First", "Second"].map(|name| authority(name, BasicConstraints::Constrained(0)));
    let [first_key, second_key] = keys;
    let first_certificate = first.signed_by(&first_key, &Issuer::new(root, root_key)).unwrap();
    let second_certificate = second.signed_by(&second_key, &Issuer::new(first, first_key)).unwrap();
    let leaf = params(NAME).signed_by(&key(), &Issuer::new(second, second_key)).unwrap();
    let credentials = credentials(&[root_certificate.der()], &[]);
    enrol(&credentials, NAME, BY_NAME).unwrap();
    let chain: [&[u8]; 3] = [leaf.der(), second_certificate.der(), first_certificate.der()];
    let refused = identify(&credentials, &chain).unwrap_err();
    assert_eq!(refused.refusal, Refusal::NotAllowed);
    assert!(refused.reason.contains("(pathLenConstraint)"), "{refused}");
}

#[test]
fn keys_that_are_not_of_p256_are_refused_before_any_path_is_looked_for() {
    let leaf_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let made = made_with(&same, &same, &same, &leaf_key);
    let (refusal, reason) = verdict(&made, &[&made.leaf, &made.intermediate], &[]).unwrap_err();
    assert_eq!(refusal, Refusal::Unsupported);
    assert!(reason.contains("'CN=sensor-1' has a key that is none of P-256"), "{reason}");
}

#[test]
fn revocation_lists_refuse_whom_they_name_and_all_of_their_issuer_when_they_are_old() {
    let (made, other) = (plain(), plain());
    let chain: [&[u8]; 2] = [&made.leaf, &made.intermediate];
    let later = (2026, 7, 1);
    let of_leaf = revocation(&made.intermediate_issuer, 4_242, later);
    let of_intermediate = revocation(&made.root_issuer, 77, later);
    let of_nobody = revocation(&made.intermediate_issuer, 1, later);
    let old = revocation(&made.intermediate_issuer, 1, (2026, 5, 31));
    let forged = revocation(&other.intermediate_issuer, 4_242, later);
    let rows: &[(&[u8], Expected)] = &[
        (&of_nobody, Ok(())),
        (
            &of_leaf,
            Err((
                Refusal::Revoked,
                "the certificate of 'CN=sensor-1', serial number 1092, was revoked by 'CN=Intermediate'",
            )),
        ),
        (
            &of_intermediate,
            Err((
                Refusal::Revoked,
                "the certificate of 'CN=Intermediate', serial number 4d, was revoked by 'CN=Root'",
            )),
        ),
        (
            &old,
            Err((
                Refusal::Unknown,
                "a revocation list of 'CN=Intermediate' should have been renewed by 2026-05-31T00:00:00Z",
            )),
        ),
        (&forged, Err((Refusal::Unknown, "is not signed by who may sign it"))),
    ];
    for (list, expected) in rows {
        let found = verdict(&made, &chain, &[list]);
        judge("a list", &found, expected);
    }
}

/// Whose certificate is on a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Revoked {
    Leaf,
    Intermediate,
    Nobody,
}

/// What a device presents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// Its own certificate, which the root issued.
    Direct,
    WithIntermediate,
    WithRoot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    ByKey,
    ByName,
    Pinned,
}

/// The list that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum List {
    Fresh,
    /// It should have been renewed a day ago.
    Stale,
    /// Somebody of the issuer's name signed it.
    Forged,
}

/// RFC 5280 §6.1.3 (a) (3) for all of a path, §6.3.3 (a) and (g): what may have been replaced or was not signed by the issuer says
/// nothing, and who holds back the list that follows must gain nothing by it. A pinned certificate has no path, and of what the
/// operator gave its own entry counts alone.
fn verdict_on_revoked(
    revoked: Revoked,
    shape: Shape,
    bound: Bound,
    list: List,
) -> Result<(), (Refusal, String)> {
    let issuer = if shape == Shape::Direct { "Root" } else { "Intermediate" };
    let of_leaf = || {
        let reason =
            format!("the certificate of 'CN=sensor-1', serial number 1092, was revoked by 'CN={issuer}'");
        Err((Refusal::Revoked, reason))
    };
    if bound == Bound::Pinned {
        return if revoked == Revoked::Leaf { of_leaf() } else { Ok(()) };
    }
    let author = if revoked == Revoked::Intermediate { "Root" } else { issuer };
    let unknown = |what: &str| {
        let reason = format!("the certificate of 'CN=sensor-1': a revocation list of 'CN={author}' {what}");
        Err((Refusal::Unknown, reason))
    };
    match (list, revoked) {
        (List::Stale, _) => unknown(
            "should have been renewed by 2026-05-31T00:00:00Z: until it is, nobody knows what was revoked",
        ),
        (List::Forged, _) => unknown("is not signed by who may sign it"),
        (List::Fresh, Revoked::Leaf) => of_leaf(),
        (List::Fresh, Revoked::Intermediate) if shape != Shape::Direct => Err((
            Refusal::Revoked,
            "the certificate of 'CN=Intermediate', serial number 4d, was revoked by 'CN=Root'".to_owned(),
        )),
        (List::Fresh, _) => Ok(()),
    }
}

#[test]
fn every_revoked_certificate_shape_binding_and_list_has_its_verdict_and_its_reason() {
    let (made, forger) = (plain(), plain());
    let mut direct = params(NAME);
    direct.serial_number = Some(SerialNumber::from(4_242));
    let direct = direct.signed_by(&key(), &made.root_issuer).unwrap().der().to_vec();
    let mut count = 0;
    for (shape, chain) in [
        (Shape::Direct, &[&direct[..]][..]),
        (Shape::WithIntermediate, &[&made.leaf, &made.intermediate]),
        (Shape::WithRoot, &[&made.leaf, &made.intermediate, &made.root]),
    ] {
        for (revoked, serial) in [(Revoked::Leaf, 4_242), (Revoked::Intermediate, 77), (Revoked::Nobody, 1)] {
            let is_roots = shape == Shape::Direct || revoked == Revoked::Intermediate;
            for (list, until, author) in [
                (List::Fresh, (2026, 7, 1), &made),
                (List::Stale, (2026, 5, 31), &made),
                (List::Forged, (2026, 7, 1), &forger),
            ] {
                let issuer = if is_roots { &author.root_issuer } else { &author.intermediate_issuer };
                let bytes = revocation(issuer, serial, until);
                for (bound, binding) in [
                    (Bound::ByKey, by_key(&made.root, chain[0])),
                    (Bound::ByName, BY_NAME),
                    (Bound::Pinned, Binding::Pinned(Fingerprint::of(chain[0]))),
                ] {
                    let credentials = credentials(&[&made.root], &[&bytes]);
                    enrol(&credentials, NAME, binding).unwrap();
                    let found = identify(&credentials, chain).map(|found| assert_eq!(found, who(NAME)));
                    let found = found.map_err(|untrusted| (untrusted.refusal, untrusted.reason));
                    let expected = verdict_on_revoked(revoked, shape, bound, list);
                    assert_eq!(found, expected, "{revoked:?}, {shape:?}, {bound:?}, {list:?}");
                    count += 1;
                }
            }
        }
    }
    assert_eq!(count, 81);
}

#[test]
fn a_pinned_certificate_needs_no_path_but_its_dates_count() {
    let leaf_key = key();
    let self_signed = params(NAME).self_signed(&leaf_key).unwrap().der().to_vec();
    let again = params(NAME).self_signed(&leaf_key).unwrap().der().to_vec();
    let credentials = credentials(&[], &[]);
    enrol(&credentials, "any-name", Binding::Pinned(Fingerprint::of(&self_signed))).unwrap();
    assert_eq!(identify(&credentials, &[&self_signed]), Ok(who("any-name")));
    let expired = identify_at(&credentials, NOW + 365 * DAY, &[&self_signed]).unwrap_err();
    assert_eq!(expired.refusal, Refusal::Expired);
    assert!(expired.reason.contains("expired at 2027-01-01T00:00:00Z, and it is 2027-06-01"), "{expired}");
    // Not even one of the same key.
    let other = identify(&credentials, &[&again]).unwrap_err();
    assert_eq!(other.refusal, Refusal::UnknownIssuer);
    assert!(other.reason.contains("this server trusts no authority"), "{other}");
    credentials.revoke(NOW, "test", "any-name", None, "lost").unwrap();
    let revoked = identify(&credentials, &[&self_signed]).unwrap_err();
    assert_eq!(revoked.refusal, Refusal::Revoked);
    assert_eq!(revoked.reason, "the certificate of 'CN=sensor-1' that any-name has: revoked");
}

#[test]
fn a_binding_by_key_survives_a_renewal_by_its_authority_and_by_no_other() {
    let leaf_key = key();
    let one = made_with(&same, &same, &same, &leaf_key);
    let other = made_with(
        &|root| root.distinguished_name.push(DnType::CommonName, "Other Root"),
        &|intermediate| intermediate.distinguished_name.push(DnType::CommonName, "Other"),
        &same,
        &leaf_key,
    );
    let mut renewed = params("another name");
    renewed.not_after = date_time_ymd(2030, 1, 1);
    let renewed = renewed.signed_by(&leaf_key, &one.intermediate_issuer).unwrap().der().to_vec();
    let stolen_name = params(NAME).signed_by(&key(), &one.intermediate_issuer).unwrap().der().to_vec();
    for issuer in [&one.root, &one.intermediate] {
        let credentials = credentials(&[&one.root, &other.root], &[]);
        enrol(&credentials, NAME, by_key(issuer, &one.leaf)).unwrap();
        for leaf in [&one.leaf, &renewed] {
            assert_eq!(identify(&credentials, &[leaf, &one.intermediate]), Ok(who(NAME)));
        }
        for chain in [[&other.leaf, &other.intermediate], [&stolen_name, &one.intermediate]] {
            let refused = identify(&credentials, &[chain[0], chain[1]]).unwrap_err();
            assert_eq!(refused.refusal, Refusal::WrongName);
            assert!(refused.reason.contains("is not bound to any management account"), "{refused}");
        }
    }
}

#[test]
fn a_binding_by_name_takes_common_names_dns_names_and_uris_to_the_byte() {
    let urn = "urn:dev:ops:32473-IoT-1";
    let san = |name: SanType| {
        move |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, "batch 7");
            params.subject_alt_names = vec![name.clone()];
        }
    };
    for (endpoint, bend) in [
        ("sensor-9", san(SanType::DnsName("sensor-9".try_into().unwrap()))),
        (urn, san(SanType::URI(urn.try_into().unwrap()))),
    ] {
        let made = made(&same, &same, &bend);
        let credentials = credentials(&[&made.root], &[]);
        let chain: [&[u8]; 2] = [&made.leaf, &made.intermediate];
        let other_case = endpoint.to_uppercase();
        enrol(&credentials, &other_case, BY_NAME).unwrap();
        assert_eq!(identify(&credentials, &chain).unwrap_err().refusal, Refusal::WrongName);
        enrol(&credentials, endpoint, BY_NAME).unwrap();
        assert_eq!(identify(&credentials, &chain), Ok(who(endpoint)));
    }
    // An e-mail address, or an IP address, is no name.
    for name in [SanType::Rfc822Name("a@b".try_into().unwrap()), SanType::IpAddress([10, 0, 0, 1].into())] {
        let made = made(&same, &same, &san(name));
        let credentials = credentials(&[&made.root], &[]);
        enrol(&credentials, "a@b", BY_NAME).unwrap();
        enrol(&credentials, "10.0.0.1", BY_NAME).unwrap();
        assert_eq!(
            identify(&credentials, &[&made.leaf, &made.intermediate]).unwrap_err().refusal,
            Refusal::WrongName
        );
    }
}

#[test]
fn a_certificate_with_the_names_of_two_devices_is_that_of_neither() {
    let made = made(&same, &same, &|params| {
        params.subject_alt_names = vec![SanType::DnsName("sensor-2".try_into().unwrap())];
    });
    let credentials = credentials(&[&made.root], &[]);
    enrol(&credentials, NAME, BY_NAME).unwrap();
    enrol(&credentials, "sensor-2", BY_NAME).unwrap();
    let refused = identify(&credentials, &[&made.leaf, &made.intermediate]).unwrap_err();
    assert_eq!(refused.refusal, Refusal::WrongName);
    assert!(refused.reason.ends_with("has the names of two devices, sensor-1 and sensor-2"), "{refused}");
}

#[test]
fn the_name_of_another_tenants_device_is_not_to_be_had_with_an_own_certificate() {
    let (ours, theirs) = (
        plain(),
        made(
            &|root| root.distinguished_name.push(DnType::CommonName, "Their Root"),
            &|intermediate| intermediate.distinguished_name.push(DnType::CommonName, "Theirs"),
            &same,
        ),
    );
    // The server trusts the authorities of both, and both of their leaves have the name.
    for binding in [
        by_key(&ours.root, &ours.leaf),
        by_key(&ours.intermediate, &ours.leaf),
        Binding::Name { issuer: Some(key_of(&ours.root)) },
        Binding::Name { issuer: Some(key_of(&ours.intermediate)) },
        Binding::Pinned(Fingerprint::of(&ours.leaf)),
    ] {
        let credentials = credentials(&[&ours.root, &theirs.root], &[]);
        enrol(&credentials, NAME, binding.clone()).unwrap();
        assert_eq!(identify(&credentials, &[&ours.leaf, &ours.intermediate]), Ok(who(NAME)));
        let refused = identify(&credentials, &[&theirs.leaf, &theirs.intermediate]).unwrap_err();
        assert_eq!(refused.refusal, Refusal::WrongName, "{binding:?}: {refused}");
        // Nor by presenting what others have beside it.
        let chain: [&[u8]; 4] = [&theirs.leaf, &theirs.intermediate, &ours.intermediate, &ours.leaf];
        assert!(identify(&credentials, &chain).is_err(), "{binding:?}");
    }
}

#[test]
fn a_suspended_or_decommissioned_device_does_not_come_back_by_its_name_or_an_anchor() {
    let made = plain();
    let chain: [&[u8]; 2] = [&made.leaf, &made.intermediate];
    for binding in [BY_NAME, by_key(&made.root, &made.leaf)] {
        let credentials = credentials(&[&made.root], &[]);
        enrol(&credentials, NAME, binding).unwrap();
        credentials.suspend(NOW, "test", NAME, "").unwrap();
        let refused = identify(&credentials, &chain).unwrap_err();
        assert_eq!((refused.refusal, refused.reason.ends_with("suspended")), (Refusal::NotAllowed, true));
        credentials.resume(NOW, "test", NAME, "").unwrap();
        assert!(identify(&credentials, &chain).is_ok());
        credentials.decommission(NOW, "test", NAME, "").unwrap();
        let refused = identify(&credentials, &chain).unwrap_err();
        assert_eq!((refused.refusal, refused.reason.ends_with("decommissioned")), (Refusal::Revoked, true));
    }
}

#[test]
fn anchors_and_revocation_lists_are_taken_as_der_or_pem_and_refused_in_words() {
    let made = plain();
    let mut trust = DeviceTrust::default();
    assert_eq!(trust.add_anchors(b"nothing"), Err(TrustError::Empty));
    assert_eq!(trust.add_revocations(&made.root), Err(TrustError::Malformed(1)));
    assert_eq!(
        trust.add_anchors(&made.leaf),
        Err(TrustError::NoAuthority("CN=sensor-1".to_owned())),
        "a device's certificate is no anchor"
    );
    let certificate = |der: &[u8]| pem("CERTIFICATE", der).to_string();
    let both =
        [certificate(&made.root), "between the two\n".to_owned(), certificate(&made.intermediate)].concat();
    assert_eq!(trust.add_anchors(both.as_bytes()), Ok(2));
    let list = revocation(&made.root_issuer, 1, (2026, 7, 1));
    assert_eq!(trust.add_revocations(pem("X509 CRL", &list).as_bytes()), Ok(1));
    assert_eq!(trust.add_revocations(&list), Ok(1));
    assert_eq!(trust.authorities().len(), 2);
    let spoilt = [certificate(&made.root), certificate(&made.leaf)].concat();
    assert!(trust.add_anchors(spoilt.as_bytes()).is_err());
    assert_eq!(trust.authorities().len(), 2, "all or none");
}

#[test]
fn no_certificate_makes_the_reader_stumble() {
    let made = plain();
    for place in 0..made.leaf.len() {
        let _ = Certificate::parse(&made.leaf[..place]);
        for bit in [0x01, 0x80, 0xff] {
            let mut bent = made.leaf.clone();
            bent[place] ^= bit;
            let _ = Certificate::parse(&bent);
        }
    }
}

#[test]
fn of_an_end_that_is_near_it_is_told_once_for_the_whole_chain_and_across_a_restart() {
    // The intermediate ends first, on 2026-09-01; it is told of 30 days before.
    let made = made(&same, &|params| params.not_after = date_time_ymd(2026, 9, 1), &same);
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::in_memory(Sealer::new(&[9; 32], "test").unwrap()).unwrap());
    let open = || Credentials::open(Arc::clone(&store), Settings::default()).unwrap();
    let credentials = open();
    let key =
        DeviceKey::new(Presented::Certificates(vec![made.leaf.clone(), made.intermediate.clone()]), None)
            .unwrap();
    let key = KeyMaterial::Public { subject: key.subject(), key: Some(key) };
    let enrol = Enrol { accounts: vec![EnrolAccount { role: Role::Management, key }], ..Enrol::default() };
    credentials.enrol(NOW, "test", NAME, &enrol).unwrap();
    let told = |credentials: &Credentials| {
        let rows = credentials.audit(Some(NAME), Some(0), 100).unwrap();
        rows.into_iter().filter(|row| row.what == "expires soon").map(|row| row.detail).collect::<Vec<_>>()
    };
    let end = 1_788_220_800_000;
    credentials.report(end - 30 * DAY - 1, &Fact::Tick).unwrap();
    assert!(told(&credentials).is_empty());
    let credentials = open();
    credentials.report(end - 30 * DAY, &Fact::Tick).unwrap();
    credentials.report(end - 29 * DAY, &Fact::Tick).unwrap();
    let credentials = open();
    credentials.report(end - 28 * DAY, &Fact::Tick).unwrap();
    let expected = "a certificate of its chain ends at 2026-09-01T00:00:00Z: rotate the credential, or renew the certificate";
    assert_eq!(told(&credentials), [expected]);
}

#[test]
fn of_anchors_and_own_certificates_that_end_it_is_told_too() {
    let made = made(&|params| params.not_after = date_time_ymd(2026, 6, 20), &same, &same);
    let credentials = credentials(&[&made.root, &made.intermediate], &[]);
    let own = ServerPublic { certificate: Some(made.leaf.clone()), ..ServerPublic::default() };
    credentials.set_server_keys(Role::Management, own);
    let anchor =
        "the certificate of 'CN=Root' ends at 2026-06-20T00:00:00Z, and devices are trusted by it".to_owned();
    assert_eq!(credentials.expiring(NOW), [anchor]);
    assert_eq!(credentials.expiring(NOW - 20 * DAY), [""; 0]);
    assert_eq!(credentials.expiring(NOW + 200 * DAY).len(), 3);
}

fn identified(credentials: &Credentials, chain: &[&[u8]]) -> Authenticated {
    let chain = chain.iter().map(|each| each.to_vec()).collect();
    credentials.identify(NOW, Role::Management, &Presented::Certificates(chain)).unwrap()
}

fn trust(anchor: &[u8], list: Option<&[u8]>) -> DeviceTrust {
    let mut trust = DeviceTrust::default();
    trust.add_anchors(anchor).unwrap();
    if let Some(list) = list {
        trust.add_revocations(list).unwrap();
    }
    trust
}

#[test]
fn what_was_trusted_once_is_not_for_longer_than_its_certificates_lists_and_anchor_say() {
    let (made, other) = (plain(), plain());
    let chain: [&[u8]; 2] = [&made.leaf, &made.intermediate];
    let later = (2026, 7, 1);
    for binding in [BY_NAME, by_key(&made.root, &made.leaf)] {
        let credentials = credentials(&[&made.root], &[]);
        enrol(&credentials, NAME, binding).unwrap();
        let who = identified(&credentials, &chain);
        assert_eq!(credentials.admit(NOW, &who), Ok(()));
        // 2027-01-01, to the second.
        let end = 1_798_761_600_000;
        assert_eq!(credentials.admit(end, &who), Ok(()));
        assert_eq!(credentials.admit(end + 1000, &who), Err(Standing::CertificateExpired));
        for (issuer, serial, expected) in [
            (&made.intermediate_issuer, 1, Ok(())),
            (&made.intermediate_issuer, 4_242, Err(Standing::CertificateRevoked)),
            (&made.root_issuer, 77, Err(Standing::CertificateRevoked)),
            (&made.root_issuer, 4_242, Ok(())),
        ] {
            credentials.set_trust(trust(&made.root, Some(&revocation(issuer, serial, later))));
            assert_eq!(credentials.admit(NOW, &who), expected, "{serial}");
        }
        credentials.set_trust(trust(&other.root, None));
        assert_eq!(credentials.admit(NOW, &who), Err(Standing::AuthorityRemoved));
        credentials.set_trust(trust(&made.root, None));
        assert_eq!(credentials.admit(NOW, &who), Ok(()));
    }
}

#[test]
fn the_first_certificate_of_a_path_to_end_ends_it() {
    let made = made(&same, &|params| params.not_after = date_time_ymd(2026, 9, 1), &same);
    let credentials = credentials(&[&made.root], &[]);
    enrol(&credentials, NAME, BY_NAME).unwrap();
    let who = identified(&credentials, &[&made.leaf, &made.intermediate]);
    let end = 1_788_220_800_000;
    assert_eq!(credentials.admit(end, &who), Ok(()));
    assert_eq!(credentials.admit(end + 1000, &who), Err(Standing::CertificateExpired));
}

#[test]
fn a_pinned_certificate_ends_with_its_dates_and_with_a_list_of_its_issuer() {
    let made = plain();
    let credentials = credentials(&[], &[]);
    enrol(&credentials, NAME, Binding::Pinned(Fingerprint::of(&made.leaf))).unwrap();
    let who = identified(&credentials, &[&made.leaf]);
    assert_eq!(credentials.admit(NOW, &who), Ok(()));
    assert_eq!(credentials.admit(NOW + 365 * DAY, &who), Err(Standing::CertificateExpired));
    let list = revocation(&made.intermediate_issuer, 4_242, (2026, 7, 1));
    credentials.set_trust(trust(&made.root, Some(&list)));
    assert_eq!(credentials.admit(NOW, &who), Err(Standing::CertificateRevoked));
    let refused = identify(&credentials, &[&made.leaf]).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Revoked);
    assert!(refused.reason.ends_with("serial number 1092, was revoked by 'CN=Intermediate'"), "{refused}");
}

#[test]
fn below_an_authority_that_may_not_issue_for_every_name_only_dns_names_bind() {
    // Name constraints do not reach common names and URIs: whoever has such an authority could name any device.
    let permitted = |params: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("sensor-1".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    };
    let urn = "urn:dev:ops:32473-7";
    let dns = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
    };
    let uri = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI(urn.try_into().unwrap())];
    };
    for (constrained_root, constrained_intermediate) in [(true, false), (false, true)] {
        let bend = |is_constrained: bool| {
            move |params: &mut CertificateParams| {
                if is_constrained {
                    permitted(params);
                }
            }
        };
        let (root, intermediate) = (bend(constrained_root), bend(constrained_intermediate));
        for (leaf, endpoint, is_bound) in
            [(&dns as Bend<'_>, NAME, true), (&same, NAME, false), (&uri, urn, false)]
        {
            let made = made(&root, &intermediate, leaf);
            let credentials = credentials(&[&made.root], &[]);
            enrol(&credentials, endpoint, BY_NAME).unwrap();
            let found = identify(&credentials, &[&made.leaf, &made.intermediate]);
            match (found, is_bound) {
                (Ok(found), true) => assert_eq!(found, who(endpoint)),
                (Err(refused), false) => {
                    assert_eq!(refused.refusal, Refusal::WrongName);
                    assert!(refused.reason.contains("(nameConstraints)"), "{refused}");
                }
                (found, _) => unreachable!("{endpoint}: {found:?}"),
            }
        }
    }
}

#[test]
fn of_a_revocation_list_that_is_to_be_renewed_it_is_told_a_day_before() {
    let made = plain();
    let list = revocation(&made.root_issuer, 1, (2026, 6, 5));
    let credentials = credentials(&[&made.root], &[&list]);
    assert_eq!(credentials.expiring(NOW + 3 * DAY - 1000), [""; 0]);
    let due = "the revocation list of CN=Root is to be renewed by 2026-06-05T00:00:00Z: then no certificate of it is trusted \
               until it is";
    for days in [3, 4, 40] {
        assert_eq!(credentials.expiring(NOW + days * DAY), [due]);
    }
}

#[test]
fn a_renewed_certificate_takes_the_place_of_the_one_before_it_and_an_expired_one_is_not_delivered() {
    let leaf_key = key();
    let made = made_with(&same, &same, &|params| params.not_after = date_time_ymd(2026, 9, 1), &leaf_key);
    let binding = by_key(&made.root, &made.leaf);
    let credentials = credentials(&[&made.root], &[]);
    let own = ServerPublic { certificate: Some(made.leaf.clone()), ..ServerPublic::default() };
    credentials.set_server_keys(Role::Management, own);
    let bootstrap =
        KeyMaterial::Given { identity: Identity::new(b"boot").unwrap(), key: Key::new(vec![7; 16]).unwrap() };
    let enrol = |leaf: &[u8], binding: &Binding| {
        let chain = vec![leaf.to_vec(), made.intermediate.clone()];
        let key = DeviceKey::new(Presented::Certificates(chain), None).unwrap();
        let key = KeyMaterial::Public { subject: Subject::Certificate(binding.clone()), key: Some(key) };
        let accounts = vec![
            EnrolAccount { role: Role::Bootstrap, key: bootstrap.clone() },
            EnrolAccount { role: Role::Management, key },
        ];
        credentials.enrol(NOW, "test", NAME, &Enrol { accounts, ..Enrol::default() })
    };
    assert_eq!(enrol(&made.leaf, &binding).unwrap().created.len(), 2);
    let who = Authenticated::new(NAME.into(), Role::Bootstrap, 1);
    let end = 1_788_220_800_000;
    assert!(credentials.bootstrap_plan(end, &who).is_ok());
    assert_eq!(credentials.bootstrap_plan(end + 1000, &who).err(), Some(Standing::DeliversExpired));

    let mut renewed = params("another name");
    renewed.not_after = date_time_ymd(2030, 1, 1);
    let renewed = renewed.signed_by(&leaf_key, &made.intermediate_issuer).unwrap().der().to_vec();
    assert!(enrol(&renewed, &binding).unwrap().created.is_empty());
    assert!(enrol(&renewed, &binding).unwrap().created.is_empty(), "the same again changes nothing");
    let rows = credentials.audit(Some(NAME), Some(0), 100).unwrap();
    assert_eq!(rows.iter().filter(|row| row.what == "renewed").count(), 1);
    let kept = credentials.kept(NAME, Role::Management, 1).unwrap().unwrap();
    assert_eq!(kept.device().unwrap().certificates()[0].not_after, 1_893_456_000);
    assert!(credentials.bootstrap_plan(end + 1000, &who).is_ok());
    // The intermediate ends with 2026.
    assert_eq!(credentials.bootstrap_plan(end + 365 * DAY, &who).err(), Some(Standing::DeliversExpired));

    let stranger = params(NAME).signed_by(&key(), &made.intermediate_issuer).unwrap().der().to_vec();
    assert!(matches!(enrol(&stranger, &binding), Err(OperatorError::Invalid(_))), "it has another key");
    let other = by_key(&made.root, &stranger);
    assert!(matches!(enrol(&stranger, &other), Err(OperatorError::Refused(_))), "nor is that a renewal");
}

/// Rotates an account of the certificate `of` to another binding; `given` is what is said to be presented under that. Answers the
/// warnings.
fn rotated(
    credentials: &Credentials,
    present: &Binding,
    of: &Made,
    new: &Binding,
    given: Option<&Made>,
) -> Result<Vec<String>, OperatorError> {
    let key = |made: &Made| {
        let chain = vec![made.leaf.clone(), made.intermediate.clone()];
        DeviceKey::new(Presented::Certificates(chain), None).unwrap()
    };
    let material = |binding: &Binding, made: Option<&Made>| KeyMaterial::Public {
        subject: Subject::Certificate(binding.clone()),
        key: made.map(key),
    };
    let bootstrap = KeyMaterial::Generate(Mode::Psk);
    let accounts = vec![
        EnrolAccount { role: Role::Bootstrap, key: bootstrap },
        EnrolAccount { role: Role::Management, key: material(present, Some(of)) },
    ];
    credentials.enrol(NOW, "test", NAME, &Enrol { accounts, ..Enrol::default() }).unwrap();
    credentials.report(NOW, &Fact::Handshake { who: who(NAME), full: true }).unwrap();
    credentials.report(NOW, &Fact::Registered { who: who(NAME) }).unwrap();
    let rotate = Rotate { key: Some(material(new, given)), ..Rotate::default() };
    credentials.rotate(NOW, "test", NAME, &rotate).map(|rotated| rotated.warnings)
}

#[test]
fn a_binding_is_rotated_to_another_only_where_a_certificate_can_prove_that() {
    let (made, other) = (plain(), plain());
    let pinned = Binding::Pinned(Fingerprint::of(&made.leaf));
    let [below, above] = [&made.intermediate, &made.root].map(|issuer| by_key(issuer, &made.leaf));
    let other_key = by_key(&other.root, &other.leaf);
    let open = || {
        let credentials = credentials(&[&made.root, &other.root], &[]);
        let own = ServerPublic { certificate: Some(made.leaf.clone()), ..ServerPublic::default() };
        credentials.set_server_keys(Role::Management, own);
        credentials
    };
    for (present, new, given, is_accepted) in [
        (&pinned, &above, &made, false),
        (&pinned, &BY_NAME, &made, false),
        (&below, &above, &made, false),
        (&below, &BY_NAME, &made, false),
        // These are looked at first: the device proves them by what it has.
        (&above, &below, &made, true),
        (&above, &pinned, &made, true),
        (&BY_NAME, &above, &made, true),
        (&BY_NAME, &pinned, &made, true),
        // Of another certificate.
        (&pinned, &other_key, &other, true),
        (&pinned, &BY_NAME, &other, true),
        (&above, &other_key, &other, true),
        (&above, &BY_NAME, &other, true),
    ] {
        let credentials = open();
        let rotated = rotated(&credentials, present, &made, new, Some(given));
        match rotated {
            Ok(_) => {
                let proven = identify(&credentials, &[&given.leaf, &given.intermediate]).unwrap();
                assert!(is_accepted && proven.generation == 2, "{present:?} to {new:?}");
            }
            Err(refused) => {
                assert!(!is_accepted, "{present:?} to {new:?}: {refused}");
                assert!(refused.to_string().contains("is looked at first"), "{refused}");
            }
        }
    }
    // Without a path only what is certain is refused: the order of what is presented, and what needs no path.
    let later = by_key(&other.root, &made.leaf);
    for (present, new, is_accepted) in [
        (&pinned, &above, false),
        (&below, &above, false),
        (&below, &BY_NAME, false),
        (&above, &below, true),
        (&above, &later, true),
        (&later, &above, true),
        (&above, &BY_NAME, true),
        (&above, &pinned, true),
    ] {
        let credentials = open();
        credentials.set_trust(trust(&other.root, None));
        let rotated = rotated(&credentials, present, &made, new, Some(&made));
        assert_eq!(rotated.is_ok(), is_accepted, "{present:?} to {new:?}: {rotated:?}");
    }
    // A certificate that is not told may be one to come.
    for (new, is_warned) in [(&above, true), (&other_key, false)] {
        let warnings = rotated(&open(), &pinned, &made, new, None).unwrap();
        let is_said = warnings.iter().any(|told| told.contains("only another one proves the new one"));
        assert_eq!(is_said, is_warned, "{warnings:?}");
    }
}
