//! What a device would make of its server's certificates, or the server of a device's, or what a device meets with an OSCORE context: said
//! offline, in words.
//!
//! Invariant: the verdict is that of the code that judges at run time, `dtls_psk::ServerTrust` for a device and `DeviceTrust` for the
//! server; what is said around it never changes it.

use std::path::Path;

use dtls_psk::{CertificateAssociation, CertificateUsage, Refusal, RustCrypto, ServerTrust};
use lwm2m_server::api::now_ms;
use lwm2m_server::credentials::{
    Certificate, DeviceTrust, OscoreKey, OscoreParts, Rederivation, certificates, utc,
};
use serde_json::json;
use zeroize::Zeroizing;

use super::show::line;
use super::{Check, Failure};

/// A certificate that ends within this time is told of: 30 days, in seconds.
const SOON: u64 = 30 * 86_400;

/// Judges and tells; [`Failure::Refused`] if they would be refused.
pub(crate) fn check(files: &Check, json: bool) -> Result<(), Failure> {
    if let Some(file) = &files.oscore {
        return check_context(file, json);
    }
    let mut chain = Vec::new();
    for file in &files.files {
        chain.extend(read(file)?);
    }
    let mut anchors = Vec::new();
    for file in &files.anchor {
        anchors.extend(read(file)?);
    }
    let provisioned = files.server_certificate.as_deref().map(read).transpose()?;
    let provisioned = provisioned.and_then(|found| found.into_iter().next());
    let mut shown = Vec::new();
    for (number, der) in (1..).zip(&chain) {
        let certificate = Certificate::parse(der)
            .ok_or_else(|| Failure::Refused(format!("certificate {number} cannot be read")))?;
        shown.push(certificate);
    }
    let now = now_ms() / 1000;
    let is_of_server = files.name.is_some() || files.usage.is_some() || files.server_certificate.is_some();
    let mut told = warnings(&shown, now);
    let verdict = if is_of_server {
        if !files.crl.is_empty() {
            told.push("devices know no revocation lists: --crl is not looked at".to_owned());
        }
        of_server(files, &chain, &shown, &anchors, provisioned, now, &mut told)
    } else {
        of_device(files, &chain, &shown, &anchors, &mut told)?
    };
    if json {
        let certificates: Vec<_> = shown
            .iter()
            .map(|each| {
                json!({
                    "subject": each.subject, "issuer": each.issuer, "names": each.bindable_names(),
                    "addresses": each.addresses, "not_before": utc(each.not_before), "not_after": utc(each.not_after),
                    "sha256": each.fingerprint, "public_key_sha256": each.key,
                })
            })
            .collect();
        let reason = verdict.as_ref().err();
        line(&json!({ "good": reason.is_none(), "reason": reason, "warnings": told, "certificates": certificates }).to_string());
    } else {
        for (number, each) in (1..).zip(&shown) {
            line(&format!("{number}. {} by {}", each.subject, each.issuer));
            line(&format!("   names {}", names(each)));
            line(&format!("   {} to {}", utc(each.not_before), utc(each.not_after)));
            line(&format!("   sha256 {}, of its public key {}", each.fingerprint, each.key));
        }
        for each in &told {
            line(&format!("note: {each}"));
        }
        if let Ok(good) = &verdict {
            line(&format!("good: {good}"));
        }
    }
    verdict.map(|_| ()).map_err(Failure::Refused)
}

/// Says what a context is for the device, and what it costs.
fn check_context(file: &Path, json: bool) -> Result<(), Failure> {
    let text = Zeroizing::new(bytes(file)?);
    let parts: OscoreParts = serde_json::from_slice(&text)
        .map_err(|error| Failure::Arguments(format!("{} is no OSCORE context: {error}", file.display())))?;
    let key = OscoreKey::new(parts).map_err(|what| Failure::Refused(what.to_owned()))?;
    let parameters = key.parameters();
    let (device, server) = (parameters.recipient_id(), parameters.sender_id());
    let resources = json!({
        "/0/x/2": "3, or the mode of the credential whose sessions it is inside",
        "/0/x/17": "the instance of /21",
        "/21/x/0": format!("({} bytes)", key.master_secret().len()),
        "/21/x/1": hex::encode(device.bytes()),
        "/21/x/2": hex::encode(server.bytes()),
        "/21/x/3": key.aead(),
        "/21/x/4": key.hmac(),
        "/21/x/5": format!("({} bytes)", key.master_salt().len()),
        "/21/x/6": parameters.id_context().map(hex::encode),
    });
    let mut told = vec![match key.rederivation() {
        Rederivation::Never => {
            "a device that lost its state stays out until it has another credential: it cannot get new keys (Appendix B.2)"
        }
        Rederivation::Offered => {
            "a device may get new keys by Appendix B.2, and is asked for an Echo value after a restart of the server"
        }
        Rederivation::Required => {
            "a device without Appendix B.2 never comes in: it gets 4.01 to each first request"
        }
    }
    .to_owned()];
    // RFC 8613 §6.1: flags, Partial IV, length and kid context, kid.
    let context = parameters.id_context().map_or(0, |id| id.len().saturating_add(1));
    let named = device.bytes().len().saturating_add(context);
    told.push(format!(
        "each request of the device has {named} bytes that name its keys, each of the server {}",
        server.bytes().len()
    ));
    if device.bytes().is_empty() && parameters.id_context().is_none() {
        told.push("nothing names the device: no other one may have the empty sender id".to_owned());
    }
    if parameters.hmac() != oscore::HmacAlgorithm::default() {
        told.push(
            "the number of the HMAC has two notations in the field: some devices know one of them".to_owned(),
        );
    }
    if json {
        line(&json!({ "good": true, "warnings": told, "resources": resources }).to_string());
        return Ok(());
    }
    for (path, value) in resources.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        line(&format!("{path} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    for each in &told {
        line(&format!("note: {each}"));
    }
    line(&format!("good: the server knows the device by {}", key.context_id()));
    Ok(())
}

fn read(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let found = certificates(&bytes(file)?);
    if found.is_empty() {
        return Err(Failure::Arguments(format!("{}: no certificate in PEM or DER", file.display())));
    }
    Ok(found)
}

fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::Arguments(format!("cannot read {}: {error}", file.display())))
}

fn names(certificate: &Certificate) -> String {
    let mut names = certificate.bindable_names();
    names.extend(certificate.addresses.iter().map(String::as_str));
    if names.is_empty() { "(none)".to_owned() } else { names.join(", ") }
}

/// What does not decide, and what an operator wants to know.
fn warnings(chain: &[Certificate], now: u64) -> Vec<String> {
    let mut told = Vec::new();
    for each in chain {
        if (now..now.saturating_add(SOON)).contains(&each.not_after) {
            told.push(format!("{each} ends within 30 days, at {}", utc(each.not_after)));
        }
    }
    for pair in chain.windows(2) {
        if let [below, above] = pair
            && below.issuer != above.subject
        {
            told.push(format!(
                "the order is wrong: {above} follows {below}, which '{}' issued; each certificate is to be followed by its issuer's",
                below.issuer
            ));
        }
    }
    if let Some(last) = chain.last().filter(|last| chain.len() > 1 && last.is_self_issued()) {
        told.push(format!("{last} is an anchor: it need not be presented, and costs a device memory"));
    }
    told
}

/// As the server does.
fn of_device(
    files: &Check,
    chain: &[Vec<u8>],
    shown: &[Certificate],
    anchors: &[Vec<u8>],
    told: &mut Vec<String>,
) -> Result<Result<String, String>, Failure> {
    let mut trust = DeviceTrust::default();
    for anchor in anchors {
        trust.add_anchors(anchor).map_err(|error| Failure::Arguments(format!("--anchor: {error}")))?;
    }
    for file in &files.crl {
        trust
            .add_revocations(&bytes(file)?)
            .map_err(|error| Failure::Arguments(format!("--crl {}: {error}", file.display())))?;
    }
    if anchors.is_empty() {
        told.push("without --anchor it can only be pinned: its issuer does not count".to_owned());
        let pinned = trust.check_pinned(now_ms(), chain);
        return Ok(pinned
            .map(|own| format!("the server takes it where sha256 {} is pinned", own.fingerprint))
            .map_err(|untrusted| untrusted.reason));
    }
    let known: Vec<Certificate> = anchors.iter().filter_map(|anchor| Certificate::parse(anchor)).collect();
    warn_of_anchor(shown, &known.iter().collect::<Vec<_>>(), told);
    let path = trust.check(now_ms(), chain);
    Ok(path
        .map(|path| {
            format!(
                "the server takes it through '{}', for an account that is bound to it, to its key, or to one of the names {}",
                path.anchor,
                path.bindable_names().join(", ")
            )
        })
        .map_err(|untrusted| untrusted.reason))
}

/// As a device does.
fn of_server(
    files: &Check,
    chain: &[Vec<u8>],
    shown: &[Certificate],
    anchors: &[Vec<u8>],
    provisioned: Option<Vec<u8>>,
    now: u64,
    told: &mut Vec<String>,
) -> Result<String, String> {
    let Some(own) = shown.first() else { return Err("there is no certificate".to_owned()) };
    let usage = files.usage.and_then(CertificateUsage::from_value).unwrap_or_default();
    let fitting = match usage {
        CertificateUsage::CaConstraint | CertificateUsage::TrustAnchorAssertion => anchors.first(),
        CertificateUsage::ServiceCertificateConstraint | CertificateUsage::DomainIssuedCertificate => {
            chain.first()
        }
    };
    let provisioned = provisioned.or_else(|| fitting.cloned());
    let Some(provisioned) = provisioned else {
        return Err("this usage needs an authority: give --anchor or --server-certificate".to_owned());
    };
    let is_constraint =
        matches!(usage, CertificateUsage::CaConstraint | CertificateUsage::ServiceCertificateConstraint);
    if is_constraint && anchors.is_empty() {
        return Err("with usage 0 or 1 a device trusts nobody unless it has anchors of its own besides /0/x/4: give those by --anchor"
            .to_owned());
    }
    if usage != CertificateUsage::DomainIssuedCertificate && files.name.is_none() {
        return Err("this usage looks at the name: give the host of the server's URI by --name".to_owned());
    }
    if dtls_psk::point_of(&own.public_key).is_none() {
        return Err(format!("{own} has a key that is none of P-256, and a device has no other curve"));
    }
    let anchor_slices: Vec<&[u8]> = anchors.iter().map(Vec::as_slice).collect();
    let trust = ServerTrust {
        usage,
        association: CertificateAssociation::Full(&provisioned),
        anchors: &anchor_slices,
        name: files.name.as_deref().unwrap_or_default(),
        now: Some(now),
    };
    let judge = |trust: &ServerTrust<'_>| trust.check::<RustCrypto>(chain.iter().map(Vec::as_slice));
    let verdict = judge(&trust);
    let clockless = judge(&ServerTrust { now: None, ..trust });
    if let (Err(_), Ok(())) = (verdict, clockless) {
        told.push("a device without a clock would take it".to_owned());
    }
    if usage == CertificateUsage::DomainIssuedCertificate && verdict.is_ok() {
        told.push("with usage 3 neither names nor dates nor the issuer are looked at".to_owned());
        if let Err(why) = own.check_dates(now) {
            told.push(why);
        }
    }
    let provisioned = Certificate::parse(&provisioned);
    let known: Vec<Certificate> = anchors.iter().filter_map(|anchor| Certificate::parse(anchor)).collect();
    let known: Vec<&Certificate> = match usage {
        CertificateUsage::TrustAnchorAssertion => provisioned.iter().collect(),
        _ => known.iter().collect(),
    };
    if usage != CertificateUsage::DomainIssuedCertificate {
        warn_of_anchor(shown, &known, told);
    }
    match verdict {
        Ok(()) => Ok(format!("a device takes it, with usage {}", usage_in_words(usage))),
        Err(refusal) => Err(why(refusal, shown, &known, files.name.as_deref(), now)),
    }
}

fn usage_in_words(usage: CertificateUsage) -> &'static str {
    match usage {
        CertificateUsage::CaConstraint => "0 (an authority of the path is given)",
        CertificateUsage::ServiceCertificateConstraint => "1 (the certificate is given, and has a path)",
        CertificateUsage::TrustAnchorAssertion => "2 (the anchor is given)",
        CertificateUsage::DomainIssuedCertificate => "3 (the certificate is given)",
    }
}

/// The verdict of a device, with what of these certificates is meant.
fn why(
    refusal: Refusal,
    chain: &[Certificate],
    anchors: &[&Certificate],
    name: Option<&str>,
    now: u64,
) -> String {
    let Some(own) = chain.first() else { return refusal.to_string() };
    match refusal {
        Refusal::Expired => {
            chain.iter().find_map(|each| each.check_dates(now).err()).unwrap_or_else(|| refusal.to_string())
        }
        Refusal::WrongName => {
            format!("{own} is not for '{}': its names are {}", name.unwrap_or_default(), names(own))
        }
        Refusal::Unknown => format!("{own} is not the one that the device was given in /0/x/4"),
        Refusal::UnknownIssuer => unknown_issuer(chain, anchors),
        Refusal::NotAllowed => not_allowed(own, chain, anchors),
        Refusal::Unsupported => format!(
            "{own}: a certificate of the chain is signed otherwise than by ECDSA on P-256 with SHA-256, or has a critical extension \
             that a device does not know"
        ),
        Refusal::TooLong => format!("{own} comes with more than {} others", dtls_psk::PATH_MAX),
        _ => format!("{own}: {refusal}"),
    }
}

/// The authorities above a certificate, by their names, and the anchor above those.
fn above<'c>(
    own: &'c Certificate,
    chain: &'c [Certificate],
    anchors: &[&'c Certificate],
) -> (Vec<&'c Certificate>, Option<&'c Certificate>) {
    let is_anchor = |each: &Certificate| anchors.iter().any(|anchor| anchor.fingerprint == each.fingerprint);
    let (mut at, mut between) = (own, Vec::new());
    while between.len() < chain.len()
        && let Some(above) = chain.iter().find(|each| each.subject == at.issuer && !is_anchor(each))
    {
        between.push(above);
        at = above;
    }
    (between, anchors.iter().find(|anchor| anchor.subject == at.issuer).copied())
}

/// What is wrong with an authority that has so many others below itself.
fn too_long(above: &Certificate, count: usize) -> Option<String> {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let most = above.path_length.filter(|most| *most < count)?;
    Some(format!(
        "{above} allows {most} authorities below itself, and the path has {count} (pathLenConstraint)"
    ))
}

/// RFC 5280 §6.1.1: an anchor is a name and a key, and what else its certificate says may be looked at or not.
fn warn_of_anchor(chain: &[Certificate], anchors: &[&Certificate], told: &mut Vec<String>) {
    let Some(own) = chain.first() else { return };
    let (between, anchor) = above(own, chain, anchors);
    if let Some(too_long) = anchor.and_then(|anchor| too_long(anchor, between.len())) {
        told.push(format!("{too_long}: of an anchor that does not count here, but others may look at it"));
    }
}

/// Of its path, purposes first, and then from the own certificate up.
fn not_allowed(own: &Certificate, chain: &[Certificate], anchors: &[&Certificate]) -> String {
    let server = "server authentication";
    let is_for_others = |each: &&Certificate| {
        each.purposes.as_ref().is_some_and(|purposes| !purposes.iter().any(|purpose| purpose == server))
    };
    if let Some(each) = chain.iter().find(is_for_others) {
        let purposes = each.purposes.as_deref().unwrap_or_default().join(", ");
        return format!("{each} is for {purposes}, not for {server} (extKeyUsage)");
    }
    if own.is_authority {
        return format!("{own} is that of an authority, not of a server");
    }
    let (between, anchor) = above(own, chain, anchors);
    let mut at = own;
    for (count, above) in between.iter().enumerate() {
        if !above.is_authority {
            return format!("{at} was issued by '{}', which is no authority (basicConstraints)", at.issuer);
        }
        if let Some(reason) = too_long(above, count) {
            return reason;
        }
        at = above;
    }
    match between.into_iter().chain(anchor).find(|each| each.has_name_constraints) {
        Some(above) => format!(
            "{own}: '{}' above it may not issue for its names, {} (nameConstraints)",
            above.subject,
            names(own)
        ),
        None => format!("{own}: {}", Refusal::NotAllowed),
    }
}

/// Follows the names up to where nobody goes on.
fn unknown_issuer(chain: &[Certificate], anchors: &[&Certificate]) -> String {
    let Some(mut at) = chain.first() else { return String::new() };
    if at.is_self_issued() {
        return format!(
            "{at} is self-signed, and the device was given another anchor: usage 3 is for such a server"
        );
    }
    for _ in chain {
        if anchors.iter().any(|anchor| anchor.subject == at.issuer) {
            return format!(
                "{at} says that it was issued by '{}', whom the device trusts, but is not signed with that key, or the authority is \
                 not the one in /0/x/4",
                at.issuer
            );
        }
        match chain.iter().find(|each| each.subject == at.issuer) {
            Some(above) if above.fingerprint != at.fingerprint => at = above,
            Some(_) => break,
            None => {
                return format!(
                    "{at} was issued by '{}', which is neither presented nor trusted: an intermediate certificate is missing, or the \
                     device has another anchor",
                    at.issuer
                );
            }
        }
    }
    format!("the chain ends at {at}, which the device does not trust")
}
