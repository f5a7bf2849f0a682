//! The certificates of servers, one property after the other: usage, chain, name, dates, key, purpose, constraints.
#![expect(clippy::unwrap_used, reason = "test")]

use dtls_psk::{
    CertificateAssociation as Association, CertificateUsage as Usage, Refusal, RustCrypto, ServerTrust,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};

const NAME: &str = "lwm2m.example";

/// 2026-06-01.
const NOW: u64 = 1_780_272_000;

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority(common_name: &str, path: BasicConstraints) -> CertificateParams {
    let mut params = params(&[], common_name);
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Root, intermediate and server, each bent by a test.
struct Made {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    leaf: Vec<u8>,
}

fn made(
    bend_root: impl FnOnce(&mut CertificateParams),
    bend_intermediate: impl FnOnce(&mut CertificateParams),
    bend_leaf: impl FnOnce(&mut CertificateParams),
) -> Made {
    let (root_key, intermediate_key, leaf_key) = (key(), key(), key());
    let mut root = authority("Root", BasicConstraints::Unconstrained);
    bend_root(&mut root);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root, root_key);
    let mut intermediate = authority("Intermediate", BasicConstraints::Unconstrained);
    bend_intermediate(&mut intermediate);
    let intermediate_certificate = intermediate.signed_by(&intermediate_key, &root_issuer).unwrap();
    let intermediate_issuer = Issuer::new(intermediate, intermediate_key);
    let mut leaf = params(&[NAME], "Server");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    bend_leaf(&mut leaf);
    let leaf_certificate = leaf.signed_by(&leaf_key, &intermediate_issuer).unwrap();
    Made {
        root: root_certificate.der().to_vec(),
        intermediate: intermediate_certificate.der().to_vec(),
        leaf: leaf_certificate.der().to_vec(),
    }
}

fn plain() -> Made {
    made(|_| (), |_| (), |_| ())
}

fn check(trust: &ServerTrust<'_>, chain: &[&[u8]]) -> Result<(), Refusal> {
    trust.check::<RustCrypto>(chain.iter().copied())
}

fn trust<'a>(usage: Usage, association: &'a [u8], anchors: &'a [&'a [u8]]) -> ServerTrust<'a> {
    ServerTrust { usage, association: Association::Full(association), anchors, name: NAME, now: Some(NOW) }
}

#[test]
fn each_usage_wants_its_own_certificate_and_path() {
    let Made { root, intermediate, leaf } = plain();
    let other = plain();
    let chain: [&[u8]; 2] = [&leaf, &intermediate];
    let anchors: [&[u8]; 1] = [&root];
    let others: [&[u8]; 1] = [&other.root];
    let unknown = Err(Refusal::Unknown);
    let nobody = Err(Refusal::UnknownIssuer);
    for (usage, association, anchors, verdict) in [
        (Usage::CaConstraint, &root, &anchors[..], Ok(())),
        (Usage::CaConstraint, &intermediate, &anchors, Ok(())),
        (Usage::CaConstraint, &other.root, &anchors, nobody),
        (Usage::CaConstraint, &leaf, &anchors, nobody),
        (Usage::CaConstraint, &root, &others, nobody),
        (Usage::CaConstraint, &root, &[], nobody),
        (Usage::ServiceCertificateConstraint, &leaf, &anchors, Ok(())),
        (Usage::ServiceCertificateConstraint, &other.leaf, &anchors, unknown),
        (Usage::ServiceCertificateConstraint, &leaf, &others, nobody),
        (Usage::TrustAnchorAssertion, &root, &[], Ok(())),
        (Usage::TrustAnchorAssertion, &intermediate, &[], Ok(())),
        (Usage::TrustAnchorAssertion, &other.root, &anchors, nobody),
        (Usage::DomainIssuedCertificate, &leaf, &[], Ok(())),
        (Usage::DomainIssuedCertificate, &intermediate, &anchors, unknown),
        (Usage::DomainIssuedCertificate, &other.leaf, &anchors, unknown),
    ] {
        assert_eq!(check(&trust(usage, association, anchors), &chain), verdict, "{usage:?}");
    }
    assert_eq!(check(&trust(Usage::DomainIssuedCertificate, &leaf, &[]), &[]), Err(Refusal::Malformed));
}

#[test]
fn what_is_provisioned_may_be_a_key_or_a_digest() {
    let Made { root, intermediate, leaf } = plain();
    let digest = |bytes: &[u8]| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let chain: [&[u8]; 3] = [&leaf, &intermediate, &root];
    for (usage, known, verdict) in [
        (Usage::DomainIssuedCertificate, &leaf, Ok(())),
        (Usage::DomainIssuedCertificate, &root, Err(Refusal::Unknown)),
        (Usage::TrustAnchorAssertion, &root, Ok(())),
        (Usage::TrustAnchorAssertion, &intermediate, Ok(())),
        (Usage::TrustAnchorAssertion, &leaf, Err(Refusal::UnknownIssuer)),
    ] {
        let digest = digest(known);
        let trust = ServerTrust { association: Association::Sha256(&digest), ..trust(usage, &[], &[]) };
        assert_eq!(check(&trust, &chain), verdict, "{usage:?}");
    }
    // An authority whose digest is known must be among those that were presented.
    let of_root = digest(&root);
    let trust = ServerTrust {
        association: Association::Sha256(&of_root),
        ..trust(Usage::TrustAnchorAssertion, &[], &[])
    };
    assert_eq!(check(&trust, &[&leaf, &intermediate]), Err(Refusal::UnknownIssuer));
}

#[test]
fn a_path_is_whole_and_in_its_time() {
    let Made { root, intermediate, leaf } = plain();
    let anchors: [&[u8]; 1] = [&root];
    let trust = trust(Usage::TrustAnchorAssertion, &root, &anchors);
    assert_eq!(check(&trust, &[&leaf, &intermediate, &root]), Ok(()), "an anchor too many is harmless");
    assert_eq!(check(&trust, &[&leaf]), Err(Refusal::UnknownIssuer), "the intermediate is missing");
    assert_eq!(check(&trust, &[&leaf, &leaf, &leaf, &leaf, &leaf, &leaf]), Err(Refusal::TooLong));
    assert_eq!(check(&trust, &[&intermediate]), Err(Refusal::NotAllowed), "an authority is no server");
    for (now, verdict) in [
        // 2025-12-31 23:59:59, 2026-01-01, the last moment of it, and after.
        (1_767_225_599, Err(Refusal::Expired)),
        (1_767_225_600, Ok(())),
        (1_798_761_600, Ok(())),
        (1_798_761_601, Err(Refusal::Expired)),
    ] {
        assert_eq!(
            check(&ServerTrust { now: Some(now), ..trust }, &[&leaf, &intermediate]),
            verdict,
            "{now}"
        );
    }
    // Who has no clock takes what was valid together at one time.
    let no_clock = ServerTrust { now: None, ..trust };
    assert_eq!(check(&no_clock, &[&leaf, &intermediate]), Ok(()));
    let late = made(
        |_| (),
        |_| (),
        |leaf| {
            leaf.not_before = date_time_ymd(2030, 1, 1);
            leaf.not_after = date_time_ymd(2031, 1, 1);
        },
    );
    let anchors: [&[u8]; 1] = [&late.root];
    let no_clock = ServerTrust { association: Association::Full(&late.root), anchors: &anchors, ..no_clock };
    assert_eq!(check(&no_clock, &[&late.leaf, &late.intermediate]), Err(Refusal::Expired));
}

#[test]
fn the_name_is_one_of_the_certificate() {
    let of = |names: &[&str], common_name: &str, name: &str| {
        let names = names.to_vec();
        let Made { root, intermediate, leaf } = made(
            |_| (),
            |_| (),
            |leaf| {
                let usages = core::mem::take(&mut leaf.extended_key_usages);
                *leaf = params(&names, common_name);
                leaf.extended_key_usages = usages;
            },
        );
        let anchors: [&[u8]; 1] = [&root];
        check(
            &ServerTrust { name, ..trust(Usage::TrustAnchorAssertion, &root, &anchors) },
            &[&leaf, &intermediate],
        )
    };
    let wrong = Err(Refusal::WrongName);
    for (names, common_name, name, verdict) in [
        (&[NAME][..], "x", NAME, Ok(())),
        (&[NAME], "x", "LWM2M.Example", Ok(())),
        (&["other.example", NAME], "x", NAME, Ok(())),
        (&["*.lwm2m.example"], "x", "a.lwm2m.example", Ok(())),
        (&["*.lwm2m.example"], "x", "a.b.lwm2m.example", wrong),
        (&["other.example"], NAME, NAME, wrong),
        (&[], NAME, NAME, Ok(())),
        (&[], "other.example", NAME, wrong),
        (&["192.0.2.1"], "x", "192.0.2.1", Ok(())),
        (&["192.0.2.1"], "x", "192.0.2.2", wrong),
        (&["2001:db8::1"], "x", "2001:db8::1", Ok(())),
        (&[NAME], "x", "", wrong),
        (&[NAME], "x", "not a name", wrong),
    ] {
        assert_eq!(of(names, common_name, name), verdict, "{names:?} {common_name} {name}");
    }
}

#[test]
fn purposes_and_constraints_are_kept() {
    let verdict = |made: &Made| {
        let anchors: [&[u8]; 1] = [&made.root];
        check(&trust(Usage::TrustAnchorAssertion, &made.root, &anchors), &[&made.leaf, &made.intermediate])
    };
    let only = |name: &str| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
        Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] })
    };
    let not_allowed = Err(Refusal::NotAllowed);
    let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for (what, made, expected) in [
        ("a client's", made(|_| (), |_| (), |leaf| leaf.extended_key_usages = client.clone()), not_allowed),
        ("no purpose", made(|_| (), |_| (), |leaf| leaf.extended_key_usages.clear()), Ok(())),
        (
            "an authority for clients",
            made(|_| (), |it| it.extended_key_usages = client.clone(), |_| ()),
            not_allowed,
        ),
        ("names permitted", made(|_| (), |it| it.name_constraints = only("example"), |_| ()), Ok(())),
        ("other names permitted", made(|_| (), |it| it.name_constraints = only("test"), |_| ()), not_allowed),
        ("of a root too", made(|it| it.name_constraints = only("test"), |_| (), |_| ()), not_allowed),
        ("no authority", made(|_| (), |it| it.is_ca = IsCa::ExplicitNoCa, |_| ()), not_allowed),
        (
            "a path of none",
            made(|it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), |_| (), |_| ()),
            Ok(()),
        ),
        (
            "an authority as server",
            made(
                |_| (),
                |_| (),
                |leaf| {
                    leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                },
            ),
            not_allowed,
        ),
    ] {
        assert_eq!(verdict(&made), expected, "{what}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let Made { root, intermediate, leaf } = plain();
    let anchors: [&[u8]; 1] = [&root];
    let trust = trust(Usage::TrustAnchorAssertion, &root, &anchors);
    for place in 0..leaf.len() {
        let mut bent = leaf.clone();
        *bent.get_mut(place).unwrap() ^= 1;
        assert!(check(&trust, &[&bent, &intermediate]).is_err(), "{place}");
        assert!(check(&trust, &[leaf.get(..place).unwrap(), &intermediate]).is_err(), "{place}");
    }
}

#[test]
fn other_keys_are_not_supported_and_a_self_signed_server_is_known_by_itself_alone() {
    let key = key();
    let mut own = params(&[NAME], "Server");
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = own.self_signed(&key).unwrap().der().to_vec();
    let chain: [&[u8]; 1] = [&own];
    assert_eq!(check(&trust(Usage::DomainIssuedCertificate, &own, &[]), &chain), Ok(()));
    let root = plain().root;
    assert_eq!(check(&trust(Usage::TrustAnchorAssertion, &root, &[]), &chain), Err(Refusal::UnknownIssuer));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let root = authority("Root", BasicConstraints::Unconstrained);
    let anchor = root.self_signed(&key).unwrap().der().to_vec();
    let issuer = Issuer::new(root, key);
    let leaf = params(&[NAME], "Server").signed_by(&self::key(), &issuer).unwrap().der().to_vec();
    let verdict = check(&trust(Usage::TrustAnchorAssertion, &anchor, &[]), &[&leaf]);
    assert_eq!(verdict, Err(Refusal::Unsupported));
}
