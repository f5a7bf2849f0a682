//! A chain, an anchor and a revocation list of anybody's making, judged as a device and as the server do (RFC 5280 §6, RFC 6698
//! §2.1, LwM2M Transport 1.1.1 §5.2.8.7).
//!
//! `fuzz/certificates` has authorities and what they issued for 2026; nobody has their keys any more. What is trusted by a path is
//! one of these byte for byte, in its time and by its name, whatever stands around it.

use dtls_psk::{
    CertificateAssociation as Association, CertificateUsage as Usage, Crypto, Refusal, RunningHash as _,
    RustCrypto, ServerTrust,
};
use lwm2m_server::credentials::{Certificate, DeviceTrust, Refusal as Standing};

use crate::script::Script;

const ROOT: &[u8] = include_bytes!("../certificates/root.der");
const BETWEEN: &[u8] = include_bytes!("../certificates/between.der");
const LEAF: &[u8] = include_bytes!("../certificates/leaf.der");
const LIST_OF_LEAF: &[u8] = include_bytes!("../certificates/list_of_leaf.der");
const LIST_OF_NOBODY: &[u8] = include_bytes!("../certificates/list_of_nobody.der");

/// Those of devices and servers to which there may be a path. `other_names`, `critical` and `future` are none of them; to `deep`
/// there is one from the authority below the one that may have none below it.
const TRUSTED: [&[u8]; 5] = [
    LEAF,
    include_bytes!("../certificates/direct.der"),
    include_bytes!("../certificates/deep.der"),
    include_bytes!("../certificates/self_signed.der"),
    include_bytes!("../certificates/common_name.der"),
];

const NAME: &str = "lwm2m.example";

/// Before 2026, its first second, within it, the last second of the certificates, and the one after it.
const MOMENTS: [u64; 5] = [1_767_225_599, 1_767_225_600, 1_780_272_000, 1_798_761_600, 1_798_761_601];

const USAGES: [Usage; 4] = [
    Usage::CaConstraint,
    Usage::ServiceCertificateConstraint,
    Usage::TrustAnchorAssertion,
    Usage::DomainIssuedCertificate,
];

/// Moment, name and what is provisioned by a byte, then anchor, list and chain.
pub fn certificate_paths(script: &[u8]) {
    let mut script = Script(script);
    let Some(choices) = script.byte() else { return };
    let now = MOMENTS[usize::from(choices & 7) % MOMENTS.len()];
    let name = if choices & 8 == 0 { NAME } else { "other.example" };
    let (anchor, list) = (part(&mut script), part(&mut script));
    let mut chain = Vec::new();
    while !script.0.is_empty() {
        chain.push(part(&mut script));
    }
    let own = chain.first().copied().unwrap_or_default();
    let read = Certificate::parse(own);
    let key = read.as_ref().map(|read| read.public_key.clone()).unwrap_or_default();
    let provisioned = match choices >> 4 & 3 {
        0 => anchor,
        1 => own,
        2 => chain.get(1).copied().unwrap_or_default(),
        _ => &key,
    };
    let case = Case { now, name, anchor, list, chain, own, provisioned };
    case.device();
    case.server(read.as_ref());
    if dtls_psk::point_of(&key).is_some() {
        let by_key = case.trust(Usage::DomainIssuedCertificate, Association::Full(&key), None);
        assert!(case.judge(&by_key), "whose key it is and who signs with it are one");
    }
}

/// The next bytes behind a length of two; as many as there are.
fn part<'a>(script: &mut Script<'a>) -> &'a [u8] {
    let length = [script.byte(), script.byte()].map(Option::unwrap_or_default);
    let length = usize::from(u16::from_be_bytes(length)).min(script.0.len());
    let (part, rest) = script.0.split_at(length);
    script.0 = rest;
    part
}

struct Case<'a> {
    now: u64,
    name: &'a str,
    anchor: &'a [u8],
    list: &'a [u8],
    chain: Vec<&'a [u8]>,
    own: &'a [u8],
    provisioned: &'a [u8],
}

impl<'a> Case<'a> {
    fn is_in_time(&self) -> bool {
        (MOMENTS[1]..=MOMENTS[3]).contains(&self.now)
    }

    /// Nothing is wrong with chain and anchor.
    fn is_genuine(&self) -> bool {
        self.anchor == ROOT && self.chain == [LEAF, BETWEEN] && self.is_in_time()
    }

    fn trust(&'a self, usage: Usage, association: Association<'a>, now: Option<u64>) -> ServerTrust<'a> {
        let anchors = core::slice::from_ref(&self.anchor);
        ServerTrust { usage, association, anchors, name: self.name, now }
    }

    fn judge(&self, trust: &ServerTrust<'_>) -> bool {
        trust.check::<RustCrypto>(self.chain.iter().copied()).is_ok()
    }

    fn device(&self) {
        let mut hash = <RustCrypto as Crypto>::Sha256::new();
        hash.update(self.provisioned);
        let hash = hash.finish();
        let full = Association::Full(self.provisioned);
        for usage in USAGES {
            let timed = self.judge(&self.trust(usage, full, Some(self.now)));
            let timeless = self.judge(&self.trust(usage, full, None));
            let hashed = self.judge(&self.trust(usage, Association::Sha256(&hash), Some(self.now)));
            if usage == Usage::DomainIssuedCertificate {
                let length = self.provisioned.len().max(1);
                let is_within = || self.own.windows(length).any(|part| part == self.provisioned);
                assert_eq!(timed, timeless, "dates do not count");
                assert!(!timed || self.own == self.provisioned || is_within());
            } else {
                let is_trusted = timed || timeless || hashed;
                assert!(!is_trusted || TRUSTED.contains(&self.own), "{usage:?}");
                assert!(!is_trusted || self.name == NAME, "{usage:?}");
                assert!(!(timed || hashed) || self.is_in_time(), "{usage:?}");
                assert!(!timed || timeless, "all of them begin and end together");
            }
            // With a digest the anchor has to be presented.
            assert!(usage == Usage::TrustAnchorAssertion || timed == hashed, "{usage:?}");
            let is_wanted = match usage {
                Usage::CaConstraint => [ROOT, BETWEEN].contains(&self.provisioned),
                Usage::TrustAnchorAssertion => self.provisioned == ROOT,
                _ => self.provisioned == LEAF,
            };
            let is_good = self.is_genuine() && self.name == NAME && is_wanted;
            assert!(timed || !is_good, "{usage:?}: nothing was wrong with it");
        }
    }

    fn server(&self, read: Option<&Certificate>) {
        let mut trust = DeviceTrust::default();
        let has_anchor = trust.add_anchors(self.anchor).map_err(|error| error.to_string()).is_ok();
        let has_list = trust.add_revocations(self.list).map_err(|error| error.to_string()).is_ok();
        let chain: Vec<Vec<u8>> = self.chain.iter().map(|each| each.to_vec()).collect();
        let now_ms = self.now * 1000;
        let pinned = trust.check_pinned(now_ms, &chain);
        let is_good = self.is_genuine() && self.now == MOMENTS[2];
        match trust.check(now_ms, &chain) {
            Ok(path) => {
                assert!(TRUSTED.contains(&self.own) && self.is_in_time() && has_anchor);
                assert_eq!(Some(&path.certificate), read);
                assert!(self.own != LEAF || self.list != LIST_OF_LEAF, "it is revoked");
                let goes_on = trust.still_holds(now_ms, &path.validity);
                // A list may be of other certificates than this one's kind: then it is the operator's word for sessions alone.
                assert!(goes_on.is_ok() || (has_list && goes_on == Err(Standing::CertificateRevoked)));
                assert!(pinned.is_ok_and(|own| Some(&own) == read) || has_list);
            }
            Err(untrusted) => {
                assert!(!untrusted.reason.is_empty());
                let is_revoked = untrusted.refusal == Refusal::Revoked;
                assert!(!is_revoked || has_list);
                assert!(!is_good || !(self.list.is_empty() || self.list == LIST_OF_NOBODY), "{untrusted}");
                assert!(!is_good || self.list != LIST_OF_LEAF || is_revoked, "{untrusted}");
            }
        }
    }
}
