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

/// The digests of a certificate that are known, each kind of them.
struct Digests {
    sha256: [u8; 32],
    #[cfg(feature = "sha512")]
    sha384: [u8; 48],
    #[cfg(feature = "sha512")]
    sha512: [u8; 64],
}

impl Digests {
    fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self {
            sha256: sha2::Sha256::digest(bytes).into(),
            #[cfg(feature = "sha512")]
            sha384: sha2::Sha384::digest(bytes).into(),
            #[cfg(feature = "sha512")]
            sha512: sha2::Sha512::digest(bytes).into(),
        }
    }

    fn associations(&self) -> Vec<Association<'_>> {
        vec![
            Association::Sha256(&self.sha256),
            #[cfg(feature = "sha512")]
            Association::Sha384(&self.sha384),
            #[cfg(feature = "sha512")]
            Association::Sha512(&self.sha512),
        ]
    }
}

#[test]
fn what_is_provisioned_may_be_a_digest() {
    let Made { root, intermediate, leaf } = plain();
    let chain: [&[u8]; 3] = [&leaf, &intermediate, &root];
    let anchors: [&[u8]; 1] = [&root];
    for (usage, known, verdict) in [
        (Usage::DomainIssuedCertificate, &leaf, Ok(())),
        (Usage::DomainIssuedCertificate, &root, Err(Refusal::Unknown)),
        (Usage::TrustAnchorAssertion, &root, Ok(())),
        (Usage::TrustAnchorAssertion, &intermediate, Ok(())),
        (Usage::TrustAnchorAssertion, &leaf, Err(Refusal::UnknownIssuer)),
        (Usage::ServiceCertificateConstraint, &leaf, Ok(())),
        (Usage::ServiceCertificateConstraint, &intermediate, Err(Refusal::Unknown)),
        (Usage::CaConstraint, &intermediate, Ok(())),
        (Usage::CaConstraint, &root, Ok(())),
        (Usage::CaConstraint, &leaf, Err(Refusal::UnknownIssuer)),
    ] {
        for association in Digests::of(known).associations() {
            let trust = ServerTrust { association, ..trust(usage, &[], &anchors) };
            assert_eq!(check(&trust, &chain), verdict, "{usage:?}");
        }
    }
    // One other bit makes another digest.
    let Digests { mut sha256, .. } = Digests::of(&leaf);
    sha256[31] ^= 1;
    let association = Association::Sha256(&sha256);
    let bent = ServerTrust { association, ..trust(Usage::DomainIssuedCertificate, &[], &[]) };
    assert_eq!(check(&bent, &chain), Err(Refusal::Unknown));
    // An authority whose digest is known must be among those that were presented.
    for association in Digests::of(&root).associations() {
        let trust = ServerTrust { association, ..trust(Usage::TrustAnchorAssertion, &[], &[]) };
        assert_eq!(check(&trust, &[&leaf, &intermediate]), Err(Refusal::UnknownIssuer));
    }
}

/// Its SubjectPublicKeyInfo, which begins with the algorithm and the curve.
fn key_of(certificate: &[u8]) -> Vec<u8> {
    let head = [0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let place = certificate.windows(head.len()).position(|bytes| bytes == head).unwrap();
    certificate.iter().skip(place).take(91).copied().collect()
}

#[test]
fn what_is_provisioned_may_be_the_key_of_a_certificate() {
    let Made { root, intermediate, leaf } = plain();
    let (own, others) = (key_of(&leaf), key_of(&intermediate));
    let (digests, of_others) = (Digests::of(&own), Digests::of(&others));
    let known = [vec![Association::Full(&own)], digests.associations()].concat();
    let unknown = [vec![Association::Full(&others)], of_others.associations()].concat();
    let anchors: [&[u8]; 1] = [&root];
    for usage in [Usage::DomainIssuedCertificate, Usage::ServiceCertificateConstraint] {
        let verdict = |association| {
            check(&ServerTrust { association, ..trust(usage, &[], &anchors) }, &[&leaf, &intermediate])
        };
        assert!(known.iter().all(|association| verdict(*association) == Ok(())));
        assert!(unknown.iter().all(|association| verdict(*association) == Err(Refusal::Unknown)));
    }
}

#[test]
fn an_anchor_may_be_known_by_its_key_and_is_one_of_those_presented_then() {
    let Made { root, intermediate, leaf } = plain();
    let other = plain();
    for (known, verdict) in
        [(&intermediate, Ok(())), (&root, Ok(())), (&other.root, Err(Refusal::UnknownIssuer))]
    {
        let key = key_of(known);
        let trust = trust(Usage::TrustAnchorAssertion, &key, &[]);
        assert_eq!(check(&trust, &[&leaf, &intermediate, &root]), verdict);
    }
}

/// One authority between two roots and a server, certified by each; or by two others below one root.
struct Crossed {
    roots: [Vec<u8>; 2],
    crossed: [Vec<u8>; 2],
    leaf: Vec<u8>,
}

impl Crossed {
    fn new() -> Self {
        let roots = ["One", "Other"].map(|name| {
            let (params, key) = (authority(name, BasicConstraints::Unconstrained), key());
            (params.self_signed(&key).unwrap().der().to_vec(), Issuer::new(params, key))
        });
        let (params, key) = (authority("Between", BasicConstraints::Unconstrained), key());
        let crossed =
            roots.each_ref().map(|(_, root)| params.clone().signed_by(&key, root).unwrap().der().to_vec());
        let leaf = self::params(&[NAME], "Server");
        let leaf = leaf.signed_by(&self::key(), &Issuer::new(params, key)).unwrap().der().to_vec();
        Self { roots: roots.map(|(root, _)| root), crossed, leaf }
    }
}

#[test]
fn of_several_paths_one_has_to_go_through_the_authority_that_is_wanted() {
    let Crossed { roots, crossed, leaf } = Crossed::new();
    let anchors: [&[u8]; 2] = [&roots[0], &roots[1]];
    for wanted in roots.iter().chain(&crossed) {
        for chain in [[&leaf[..], &crossed[0], &crossed[1]], [&leaf, &crossed[1], &crossed[0]]] {
            assert_eq!(check(&trust(Usage::CaConstraint, wanted, &anchors), &chain), Ok(()));
            let one: [&[u8]; 1] = [&roots[0]];
            let is_possible = *wanted == roots[0] || *wanted == crossed[0];
            let verdict = if is_possible { Ok(()) } else { Err(Refusal::UnknownIssuer) };
            assert_eq!(check(&trust(Usage::CaConstraint, wanted, &one), &chain), verdict);
        }
    }
}

#[test]
fn a_chain_that_many_ways_lead_through_is_refused_before_any_is_gone() {
    let Crossed { roots, crossed, leaf } = Crossed::new();
    let anchors: [&[u8]; 1] = [&roots[0]];
    let trust = trust(Usage::CaConstraint, &roots[0], &anchors);
    let chain: [&[u8]; 4] = [&leaf, &crossed[0], &crossed[1], &crossed[0]];
    assert_eq!(check(&trust, &chain), Err(Refusal::TooLong));
    assert_eq!(check(&trust, &chain[..3]), Ok(()));
}

#[test]
fn four_certificates_besides_the_own_one_are_looked_at_and_four_anchors() {
    let Made { root, intermediate, leaf } = plain();
    let strangers = ["a", "b", "c", "d"].map(|name| {
        let stranger = authority(name, BasicConstraints::Unconstrained);
        stranger.self_signed(&key()).unwrap().der().to_vec()
    });
    let strangers = || strangers.iter().map(Vec::as_slice);
    let chain: Vec<&[u8]> = [&*leaf, &*intermediate].into_iter().chain(strangers()).collect();
    let (few, many) = (strangers().skip(1).chain([&*root]), strangers().chain([&*root]));
    let (few, many): (Vec<&[u8]>, Vec<&[u8]>) = (few.collect(), many.collect());
    for (anchors, length, verdict) in [
        (&few, 2, Ok(())),
        (&few, 5, Ok(())),
        (&few, 6, Err(Refusal::TooLong)),
        (&many, 2, Err(Refusal::UnknownIssuer)),
    ] {
        let chain: Vec<&[u8]> = chain.iter().copied().take(length).collect();
        let trust = trust(Usage::ServiceCertificateConstraint, &leaf, anchors);
        assert_eq!(check(&trust, &chain), verdict, "{length}");
    }
}

#[cfg(not(feature = "sha512"))]
#[test]
fn a_digest_that_this_build_does_not_have_is_refused_in_words() {
    let leaf = plain().leaf;
    for association in [Association::Sha384(&[0; 48]), Association::Sha512(&[0; 64])] {
        for usage in USAGES {
            let trust = ServerTrust { association, ..trust(usage, &[], &[]) };
            assert_eq!(check(&trust, &[&leaf]), Err(Refusal::UnsupportedDigest));
        }
    }
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
fn an_authority_has_no_more_below_it_than_it_may() {
    let root_key = key();
    let root = authority("Root", BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap().der().to_vec();
    let root = Issuer::new(root, root_key);
    for (below, verdict) in [(0, Err("the peer's certificate is not for this".to_owned())), (1, Ok(()))] {
        let (first, first_key) = (authority("First", BasicConstraints::Constrained(below)), key());
        let first_certificate = first.signed_by(&first_key, &root).unwrap().der().to_vec();
        let (second, second_key) = (authority("Second", BasicConstraints::Unconstrained), key());
        let first = Issuer::new(first, first_key);
        let second_certificate = second.signed_by(&second_key, &first).unwrap().der().to_vec();
        let leaf = params(&[NAME], "Server").signed_by(&key(), &Issuer::new(second, second_key)).unwrap();
        let chain: [&[u8]; 3] = [leaf.der(), &second_certificate, &first_certificate];
        let anchors: [&[u8]; 1] = [&root_certificate];
        for usage in [Usage::CaConstraint, Usage::TrustAnchorAssertion] {
            let said = check(&trust(usage, &root_certificate, &anchors), &chain);
            assert_eq!(said.map_err(|refusal| refusal.to_string()), verdict, "{usage:?}, {below} below");
        }
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

/// What certificates a server presents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// Its own, and its issuer's.
    Chain,
    /// Those of two authorities besides, and the root's, in another order.
    LongerInAnyOrder,
    /// Its own alone, of the root.
    Direct,
    /// Its own alone, where there is one between it and the root.
    IntermediateMissing,
    /// Its own alone, signed by itself.
    SelfSigned,
}

impl Shape {
    const ALL: [Self; 5] =
        [Self::Chain, Self::LongerInAnyOrder, Self::Direct, Self::IntermediateMissing, Self::SelfSigned];

    fn has_authority(self) -> bool {
        matches!(self, Self::Chain | Self::LongerInAnyOrder)
    }
}

/// What is wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    OtherName,
    Expired,
    NotYetValid,
    /// Only a client may be known by it.
    OtherPurpose,
    /// It was not signed with the key of who it names as its issuer.
    OtherKey,
    /// The issuer's own is not valid any more, is for clients alone, or for other names.
    ExpiredIssuer,
    IssuerOfOtherPurpose,
    IssuerOfOtherNames,
    /// The authority next to the root may have none below it, and has one.
    PathTooLong,
    /// What was provisioned has to do with somebody else.
    OtherProvisioned,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::OtherName,
        Self::Expired,
        Self::NotYetValid,
        Self::OtherPurpose,
        Self::OtherKey,
        Self::ExpiredIssuer,
        Self::IssuerOfOtherPurpose,
        Self::IssuerOfOtherNames,
        Self::PathTooLong,
        Self::OtherProvisioned,
    ];

    fn is_of_issuer(self) -> bool {
        matches!(self, Self::ExpiredIssuer | Self::IssuerOfOtherPurpose | Self::IssuerOfOtherNames)
    }

    fn is_possible_with(self, shape: Shape) -> bool {
        // Who signs for itself has its own key.
        (shape.has_authority() || !self.is_of_issuer())
            && (self, shape) != (Self::OtherKey, Shape::SelfSigned)
            && (self != Self::PathTooLong || shape == Shape::LongerInAnyOrder)
    }
}

const TRUSTED: &str = "trusted";
const NOT_KNOWN: &str = "the peer's certificate or public key is not one that is known";
const NO_ISSUER: &str = "nobody who is trusted issued the peer's certificate";
const NOT_IN_TIME: &str = "the peer's certificate is not valid yet or any more";
const NOT_FOR_THIS: &str = "the peer's certificate is not for this";
const OTHER_NAME: &str = "the peer's certificate is that of another name";

/// What LwM2M Transport 1.1.1 §5.2.8.7 and RFC 5280 §6.1 have a device with or without a clock say, in words. What a certificate
/// says of itself is looked at before who issued it, and its name at last.
fn verdict_of(usage: Usage, shape: Shape, fault: Option<Fault>, has_clock: bool) -> &'static str {
    use Fault as F;
    let is_known = fault != Some(F::OtherProvisioned);
    if usage == Usage::DomainIssuedCertificate || (usage == Usage::ServiceCertificateConstraint && !is_known)
    {
        return if is_known { TRUSTED } else { NOT_KNOWN };
    }
    match fault {
        // The moment at which the server's own one begins is not too late nor too early for it.
        Some(F::Expired | F::NotYetValid) if has_clock => return NOT_IN_TIME,
        Some(F::OtherPurpose) => return NOT_FOR_THIS,
        _ => {}
    }
    // Who signs for itself is its own anchor where that is provisioned.
    let is_anchor = usage == Usage::TrustAnchorAssertion && shape == Shape::SelfSigned && is_known;
    if matches!(shape, Shape::IntermediateMissing | Shape::SelfSigned) && !is_anchor {
        return NO_ISSUER;
    }
    match fault {
        Some(F::OtherKey | F::OtherProvisioned) => NO_ISSUER,
        Some(F::ExpiredIssuer) => NOT_IN_TIME,
        Some(F::IssuerOfOtherPurpose | F::IssuerOfOtherNames | F::PathTooLong) => NOT_FOR_THIS,
        Some(F::OtherName) => OTHER_NAME,
        _ => TRUSTED,
    }
}

/// A root, and what a server presents, its own first.
fn presented(shape: Shape, faults: &[Fault]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let has = |fault| faults.contains(&fault);
    let bend_issuer = |issuer: &mut CertificateParams| {
        if has(Fault::ExpiredIssuer) {
            issuer.not_before = date_time_ymd(2020, 1, 1);
            issuer.not_after = date_time_ymd(2021, 1, 1);
        }
        if has(Fault::IssuerOfOtherPurpose) {
            issuer.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        if has(Fault::IssuerOfOtherNames) {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("test".to_owned())];
            issuer.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        }
    };
    let mut leaf = params(&[if has(Fault::OtherName) { "other.example" } else { NAME }], "Server");
    let purpose = if has(Fault::OtherPurpose) {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    };
    leaf.extended_key_usages = vec![purpose];
    if has(Fault::Expired) {
        leaf.not_after = date_time_ymd(2026, 2, 1);
    }
    if has(Fault::NotYetValid) {
        leaf.not_before = date_time_ymd(2026, 12, 1);
    }
    let leaf_key = key();
    if shape == Shape::SelfSigned {
        let own = leaf.self_signed(&leaf_key).unwrap().der().to_vec();
        return (plain().root, vec![own]);
    }
    let root_key = key();
    let root = authority("Root", BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap().der().to_vec();
    let mut issuer = Issuer::new(root, root_key);
    let authorities: &[&str] = match shape {
        Shape::Direct => &[],
        Shape::LongerInAnyOrder => &["First", "Second"],
        _ => &["First"],
    };
    let mut others = Vec::new();
    for name in authorities {
        let is_limited = has(Fault::PathTooLong) && others.is_empty();
        let below =
            if is_limited { BasicConstraints::Constrained(0) } else { BasicConstraints::Unconstrained };
        let mut next = authority(name, below);
        bend_issuer(&mut next);
        let next_key = key();
        others.push(next.signed_by(&next_key, &issuer).unwrap().der().to_vec());
        issuer = Issuer::new(next, next_key);
    }
    if has(Fault::OtherKey) {
        let name = authorities.last().copied().unwrap_or("Root");
        issuer = Issuer::new(authority(name, BasicConstraints::Unconstrained), key());
    }
    let own = leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec();
    if shape == Shape::LongerInAnyOrder {
        others.insert(1, root_certificate.clone());
    }
    if shape == Shape::IntermediateMissing {
        others.clear();
    }
    (root_certificate, [vec![own], others].concat())
}

const USAGES: [Usage; 4] = [
    Usage::CaConstraint,
    Usage::ServiceCertificateConstraint,
    Usage::TrustAnchorAssertion,
    Usage::DomainIssuedCertificate,
];

/// What a device says to it, in words.
fn said(usage: Usage, shape: Shape, faults: &[Fault], has_clock: bool) -> String {
    let (root, chain) = presented(shape, faults);
    let other = plain();
    let own = chain.first().unwrap();
    let is_own_anchor = usage == Usage::TrustAnchorAssertion && shape == Shape::SelfSigned;
    let association = match (usage, faults.contains(&Fault::OtherProvisioned)) {
        (Usage::CaConstraint | Usage::TrustAnchorAssertion, true) => &other.root,
        (_, true) => &other.leaf,
        (Usage::CaConstraint | Usage::TrustAnchorAssertion, false) if !is_own_anchor => &root,
        (_, false) => own,
    };
    let anchors: [&[u8]; 2] = [&root, &other.root];
    let now = has_clock.then_some(NOW);
    let trust = ServerTrust { now, ..trust(usage, association, &anchors) };
    let verdict = trust.check::<RustCrypto>(chain.iter().map(Vec::as_slice));
    verdict.map_or_else(|refusal| refusal.to_string(), |()| TRUSTED.to_owned())
}

#[test]
fn every_usage_shape_and_fault_has_its_verdict_and_its_reason_in_words() {
    for (usage, shape) in USAGES.into_iter().flat_map(|usage| Shape::ALL.map(|shape| (usage, shape))) {
        let faults = Fault::ALL.into_iter().filter(|fault| fault.is_possible_with(shape)).map(Some);
        for (fault, has_clock) in faults.chain([None]).flat_map(|fault| [(fault, true), (fault, false)]) {
            let said = said(usage, shape, fault.as_slice(), has_clock);
            let expected = verdict_of(usage, shape, fault, has_clock);
            assert_eq!(said, expected, "{usage:?}, {shape:?}, {fault:?}, clock: {has_clock}");
        }
    }
}

#[test]
fn one_fault_never_makes_up_for_another() {
    for (usage, shape) in USAGES.into_iter().flat_map(|usage| Shape::ALL.map(|shape| (usage, shape))) {
        let possible = |fault: &Fault| fault.is_possible_with(shape);
        for (one, other) in Fault::ALL.into_iter().flat_map(|one| Fault::ALL.map(|other| (one, other))) {
            if one == other || !possible(&one) || !possible(&other) {
                continue;
            }
            let verdicts = [one, other].map(|fault| verdict_of(usage, shape, Some(fault), true));
            let said = said(usage, shape, &[one, other], true);
            let is_refused = verdicts.iter().any(|verdict| *verdict != TRUSTED);
            assert_eq!(said != TRUSTED, is_refused, "{usage:?}, {shape:?}, {one:?}, {other:?}: {said}");
        }
    }
}
