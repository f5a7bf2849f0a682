//! What operators do to the credentials of enrolled devices: rotate, revoke, suspend, resume, decommission.
//!
//! Invariants: each act is one durable transaction with its audit row; nothing takes a working credential away from a
//! device except a revocation; an identity is never given out twice.

use core::fmt;
use std::sync::Arc;

use super::device::{CampaignRound, Device, Fetch, HoldKind, Phase, Role, Rotation, State, Trigger};
use super::issue::{Issued, KeyMaterial};
use super::kept::{DeviceKey, Kept};
use super::lifecycle::Outcome;
use super::presented::Presented;
use super::subject::{Binding, Mode, Subject};
use super::{Command, Credentials, Refusal};
use crate::access::Scope;
use crate::profiles::{Fault, in_words, is_uri};
use crate::store::StoreError;

/// Longest reason in bytes.
const MAX_REASON: usize = 1024;
/// A grace time below EXCHANGE_LIFETIME may end before a device knows that its Register was answered.
const EXCHANGE_LIFETIME_MS: u64 = 247_000;

/// How to rotate.
#[derive(Clone, Debug)]
pub struct Rotate {
    /// Which account; only the management account can be rotated so far.
    pub role: Role,
    /// What the new credential is; one drawn here in the mode of the present one where it is left out.
    pub key: Option<KeyMaterial>,
    /// Time until the new credential must be proven, in milliseconds.
    pub deadline_ms: u64,
    /// How long the old one is accepted after the proof, in milliseconds.
    pub grace_ms: u64,
    /// LwM2M Server URI to write instead of the configured one.
    pub server_uri: Option<String>,
    /// What brings the device to fetch the new one.
    pub fetch: Fetch,
    /// Why.
    pub reason: String,
    /// The campaign that wants it, by which the new credential is known.
    pub campaign: Option<CampaignRound>,
}

impl Default for Rotate {
    fn default() -> Self {
        Self {
            role: Role::Management,
            key: None,
            deadline_ms: 24 * 60 * 60 * 1000,
            grace_ms: 10 * 60 * 1000,
            server_uri: None,
            fetch: Fetch::default(),
            reason: String::new(),
            campaign: None,
        }
    }
}

/// A rotation that was started.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// Generation of the new credential.
    pub generation: u32,
    /// What it is known by; a key that was drawn goes to the device and to nobody else.
    pub subject: Subject,
    /// When the bootstrap account was last used, in milliseconds since 1970; `None`: never yet.
    pub bootstrap_last_success_ms: Option<u64>,
    /// What an operator may want to know, in words.
    pub warnings: Vec<String>,
    /// What has to be done now.
    pub commands: Vec<Command>,
}

/// Why an act was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperatorError {
    /// Nobody enrolled the device.
    UnknownDevice,
    /// A value cannot be right.
    Invalid(&'static str),
    /// A certificate is not good now, in words.
    Unusable(String),
    /// The device's state does not allow it.
    Refused(&'static str),
    /// The identity, public key or certificate belongs, or belonged, to a credential of this device.
    SubjectTaken(Arc<str>),
    /// There is no profile of this name, or not this version of it.
    UnknownProfile(String, Option<u32>),
    /// Everything that is wrong with a profile, or with what a device has for it.
    Faults(Vec<Fault>),
    /// So many devices follow the profile.
    ProfileInUse(usize),
    /// There is nothing that a bootstrap could do, and why.
    NoPlan(Refusal),
    /// There are as many profiles as there may be, or they take as much as they may.
    Full,
    /// The store failed; nothing changed.
    Store(StoreError),
    /// The operating system gives no randomness.
    NoRandomness,
}

impl OperatorError {
    /// The same for who is told of the devices of a scope alone.
    pub(crate) fn told_within(self, scope: &Scope) -> Self {
        match self {
            Self::SubjectTaken(owner) if !scope.has(&owner) => Self::Refused(
                "the identity, public key or certificate belongs, or belonged, to another device: none is ever used twice",
            ),
            other => other,
        }
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDevice => f.write_str("no such device: enrol it by PUT credentials first"),
            Self::Invalid(what) | Self::Refused(what) => f.write_str(what),
            Self::Unusable(what) => f.write_str(what),
            Self::SubjectTaken(endpoint) => write!(
                f,
                "the identity, public key or certificate belongs, or belonged, to {endpoint}: none is ever used twice"
            ),
            Self::UnknownProfile(name, None) => write!(f, "there is no profile '{name}'"),
            Self::UnknownProfile(name, Some(version)) => {
                write!(f, "there is no version {version} of a profile '{name}'")
            }
            Self::Faults(faults) => f.write_str(&in_words(faults)),
            Self::ProfileInUse(devices) => {
                write!(f, "{devices} devices follow it: give them another one, or none, first")
            }
            Self::NoPlan(refusal) => write!(f, "a bootstrap would be refused: {refusal}"),
            Self::Full => f.write_str(
                "there are as many profiles as there may be, or they take as much as they may: remove one that no device follows",
            ),
            Self::Store(error) => error.fmt(f),
            Self::NoRandomness => f.write_str("the operating system gives no randomness"),
        }
    }
}

impl core::error::Error for OperatorError {}

impl From<StoreError> for OperatorError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Credentials {
    /// Starts a rotation: stores a new credential beside the old one and triggers the bootstrap that delivers it.
    ///
    /// # Errors
    /// The pre-flight check that failed, in words.
    pub fn rotate(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        rotate: &Rotate,
    ) -> Result<Rotated, OperatorError> {
        check_reason(&rotate.reason)?;
        if rotate.role == Role::Bootstrap {
            return Err(OperatorError::Refused(
                "the bootstrap account cannot be rotated yet: it is what a lost server account is repaired with",
            ));
        }
        if !(1_000..=366 * 24 * 3_600_000).contains(&rotate.deadline_ms) {
            return Err(OperatorError::Invalid("deadline: 1 second to 366 days"));
        }
        if rotate.grace_ms > 30 * 24 * 3_600_000 {
            return Err(OperatorError::Invalid("grace: at most 30 days"));
        }
        let turn = self.take_turn();
        let mut device = (*self.device(endpoint).ok_or(OperatorError::UnknownDevice)?).clone();
        let bootstrap_last_success_ms = device.may_rotate().map_err(OperatorError::Refused)?;
        let mut warnings = Vec::new();
        let material = self.material_to_rotate_to(now_ms, &device, rotate, &mut warnings)?;
        let issued = self.issue(now_ms, endpoint, Role::Management, &material)?;
        if let Some(uri) = &rotate.server_uri {
            check_uri(uri, issued.subject.mode())?;
        }
        self.check_free(&device, Role::Management, &issued)?;
        self.check_server_key(issued.subject.mode(), &device)?;
        let account = device.account_mut(Role::Management).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let from = account.current;
        let within = issued.within();
        let Issued { subject, kept, expires_ms, .. } = issued;
        let to = account.add(subject.clone(), now_ms);
        if let Some(credential) = account.credential_mut(to) {
            credential.expires_ms = expires_ms;
            credential.within = within;
            credential.campaign = rotate.campaign;
        }
        let outcome = device.start_rotation(Rotation {
            from,
            to,
            phase: Phase::Staged,
            started_ms: now_ms,
            deadline_ms: now_ms.saturating_add(rotate.deadline_ms),
            grace_ms: rotate.grace_ms,
            retire_ms: None,
            server_uri: rotate.server_uri.clone(),
            reason: rotate.reason.clone(),
            fetch: rotate.fetch,
            is_withheld: false,
            handed_out: false,
            old_seen: false,
            open_since_ms: None,
            trigger: (rotate.fetch != Fetch::Wait).then(Trigger::new),
            attempt_ms: None,
        });
        let secrets: Vec<(Role, u32, &Kept)> = kept.iter().map(|kept| (Role::Management, to, kept)).collect();
        let commands = self.keep(&turn, now_ms, actor, device, outcome, &secrets)?;
        if bootstrap_last_success_ms.is_none() {
            warnings.push("the bootstrap account was never used yet".to_owned());
        }
        if rotate.grace_ms < EXCHANGE_LIFETIME_MS {
            warnings.push(
                "a grace time below 247 s may end before the device knows that its Register was answered"
                    .to_owned(),
            );
        }
        match rotate.fetch {
            Fetch::Trigger => {}
            Fetch::Wait => warnings.push(
                "the device is not told: the rotation goes on when it bootstraps by itself, as long as the deadline lets it"
                    .to_owned(),
            ),
            Fetch::Withhold => warnings.push(
                "a device that does not know the bootstrap trigger is without service until it bootstraps, at most until the deadline"
                    .to_owned(),
            ),
        }
        Ok(Rotated { generation: to, subject, bootstrap_last_success_ms, warnings, commands })
    }

    /// Refuses the credentials of one role, or of the whole device, for good. The same again changes nothing.
    ///
    /// # Errors
    /// An unknown device, or an account that does not exist.
    pub fn revoke(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        role: Option<Role>,
        reason: &str,
    ) -> Result<Vec<Command>, OperatorError> {
        self.act(now_ms, actor, endpoint, reason, |device| {
            if device.is_decommissioned() {
                return Err(OperatorError::Refused("the device was decommissioned, which revoked it"));
            }
            let is_done = match role {
                None => device.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Revoked),
                Some(role) => {
                    device.account(role).ok_or(OperatorError::Refused("it has no such account"))?.state
                        == State::Revoked
                }
            };
            Ok(if is_done { Outcome::default() } else { device.revoke(now_ms, role, reason) })
        })
    }

    /// Refuses a device until it is resumed.
    ///
    /// # Errors
    /// An unknown device, or one that is revoked or decommissioned.
    pub fn suspend(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        reason: &str,
    ) -> Result<Vec<Command>, OperatorError> {
        self.act(now_ms, actor, endpoint, reason, |device| match device.hold.as_ref().map(|hold| hold.kind) {
            None => Ok(device.hold(now_ms, HoldKind::Suspended, reason)),
            Some(HoldKind::Suspended) => Ok(Outcome::default()),
            Some(_) => Err(OperatorError::Refused("the device is revoked or decommissioned, which is more")),
        })
    }

    /// Lifts a suspension; deadlines move by the time it lasted.
    ///
    /// # Errors
    /// An unknown device, or one that is revoked or decommissioned.
    pub fn resume(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        reason: &str,
    ) -> Result<Vec<Command>, OperatorError> {
        self.act(now_ms, actor, endpoint, reason, |device| match device.hold.as_ref().map(|hold| hold.kind) {
            Some(HoldKind::Suspended) => Ok(device.resume(now_ms, reason)),
            None => Ok(Outcome::default()),
            Some(_) => Err(OperatorError::Refused("a revocation is final: enrol new credentials instead")),
        })
    }

    /// Revokes a device and leaves a tombstone under its name. Nothing is observed of it any more.
    ///
    /// # Errors
    /// An unknown device.
    pub fn decommission(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        reason: &str,
    ) -> Result<Vec<Command>, OperatorError> {
        self.act(now_ms, actor, endpoint, reason, |device| {
            if device.is_decommissioned() {
                return Ok(Outcome::default());
            }
            let revoked = device.revoke(now_ms, None, reason);
            device.assigned = None;
            let mut outcome = device.hold(now_ms, HoldKind::Decommissioned, reason);
            outcome.happened.splice(0..0, revoked.happened);
            Ok(outcome)
        })
    }

    fn act(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        reason: &str,
        act: impl FnOnce(&mut Device) -> Result<Outcome, OperatorError>,
    ) -> Result<Vec<Command>, OperatorError> {
        check_reason(reason)?;
        let turn = self.take_turn();
        let mut device = (*self.device(endpoint).ok_or(OperatorError::UnknownDevice)?).clone();
        let outcome = act(&mut device)?;
        Ok(self.keep(&turn, now_ms, actor, device, outcome, &[])?)
    }

    /// What the new credential comes from, if the device can hold it and a handshake tells it from the present one.
    fn material_to_rotate_to(
        &self,
        now_ms: u64,
        device: &Device,
        rotate: &Rotate,
        warnings: &mut Vec<String>,
    ) -> Result<KeyMaterial, OperatorError> {
        let account = device.account(Role::Management).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let present = account.credential(account.current).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let kept = self.store.secret(&device.endpoint, Role::Management, present.generation)?;
        let has_own_key = match (&present.subject, &kept) {
            (Subject::Psk(_) | Subject::Oscore(_), _) => false,
            (_, kept) => kept.as_ref().and_then(Kept::device).is_none_or(|key| key.private_key().is_none()),
        };
        let material = rotate
            .key
            .clone()
            .unwrap_or_else(|| KeyMaterial::drawn(present.subject.mode(), present.within.is_some()));
        let (dtls, is_within) = match &material {
            KeyMaterial::Within { dtls, .. } => (&**dtls, true),
            material => (material, false),
        };
        let brings_private_key = match dtls {
            KeyMaterial::Generate(mode) => matches!(mode, Mode::RawPublicKey | Mode::Certificate),
            KeyMaterial::Public { key, .. } => key.as_ref().is_some_and(|key| key.private_key().is_some()),
            KeyMaterial::Given { .. } | KeyMaterial::Oscore(_) | KeyMaterial::Within { .. } => false,
        };
        if has_own_key && brings_private_key {
            return Err(OperatorError::Refused(OWN_KEY));
        }
        match (present.within.is_some(), is_within) {
            (true, false) => {
                warnings.push("the new credential has no OSCORE context, as the present one does".to_owned());
            }
            (false, true) => warnings.push("the device must know OSCORE as well".to_owned()),
            _ => {}
        }
        match dtls {
            KeyMaterial::Generate(Mode::Psk) | KeyMaterial::Given { .. } if has_own_key => warnings.push(
                "the device keeps its private key itself: it must be able to hold a pre-shared key as well"
                    .to_owned(),
            ),
            KeyMaterial::Generate(Mode::Oscore) | KeyMaterial::Oscore(_)
                if present.subject.mode() != Mode::Oscore =>
            {
                warnings.push(
                    "the device must know OSCORE, and comes without DTLS once it has the new credential"
                        .to_owned(),
                );
            }
            KeyMaterial::Public { subject: Subject::Certificate(Binding::Name { .. }), .. }
                if matches!(present.subject, Subject::Certificate(Binding::Name { .. })) =>
            {
                return Err(OperatorError::Refused(SAME_NAME));
            }
            KeyMaterial::Public { subject, key } => {
                // What the device keeps may not be told: then it presents what it has, or what is to come. Where the new one is
                // looked at first, that proves it without a bootstrap.
                let presents = key.as_ref().or_else(|| kept.as_ref().and_then(Kept::device));
                if let Some(Presented::Certificates(chain)) = presents.map(DeviceKey::presents)
                    && self.is_taken_for(now_ms, &device.endpoint, chain, &present.subject, subject)
                {
                    if key.is_some() {
                        return Err(OperatorError::Refused(SAME_CERTIFICATE));
                    }
                    warnings.push(
                        "the certificate that the device has goes on under the present binding: only another one proves the new one"
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
        Ok(material)
    }
}

const OWN_KEY: &str = "the device keeps its private key itself (a secure element), so that none can be written to it: give the public key \
                       or certificate of another key that it has, or rotate to the mode psk";
const SAME_NAME: &str = "the account goes by the name in the certificate already, so that nothing would show which one the device \
                         has: a renewed certificate is taken without a rotation";
const SAME_CERTIFICATE: &str = "the present credential fits that certificate as well and is looked at first, so that nothing would ever \
                                prove the new one: give a certificate that it does not fit, or enrol the account anew after a \
                                revocation";
const NO_ACCOUNT: &str = "the device has no management account: enrol one by PUT credentials";

impl Device {
    /// Everything that must hold before a new credential is made; answers when the bootstrap account was last used, in milliseconds
    /// since 1970.
    ///
    /// # Errors
    /// What is in the way, in words.
    pub fn may_rotate(&self) -> Result<Option<u64>, &'static str> {
        match self.is_held() {
            Ok(()) => {}
            Err(Refusal::Suspended) => return Err("the device is suspended: resume it first"),
            Err(_) => return Err("the device is revoked or decommissioned"),
        }
        let Some(bootstrap) = &self.bootstrap else {
            return Err("the device has no bootstrap account, so nothing could deliver a new credential");
        };
        if bootstrap.state == State::Revoked {
            return Err("the bootstrap account is revoked, so nothing could deliver a new credential");
        }
        match self.management.as_ref().map(|account| &account.state) {
            None => Err(NO_ACCOUNT),
            Some(State::InUse) => Ok(bootstrap.last_success_ms),
            Some(State::Rotating(_)) => Err("a rotation is under way: wait until it ends"),
            Some(State::Unreachable(_)) => Err(
                "the device is unreachable after a rotation: it must register with either credential first",
            ),
            Some(State::Revoked) => Err("the management account is revoked: enrol a new credential"),
            Some(State::Imported | State::Armed | State::Bootstrapping | State::Provisioned) => {
                Err("the present credential was never proven: the device must register with it first")
            }
        }
    }
}

fn check_reason(reason: &str) -> Result<(), OperatorError> {
    if reason.len() > MAX_REASON {
        return Err(OperatorError::Invalid("reason: at most 1024 bytes"));
    }
    Ok(())
}

pub(super) fn check_uri(uri: &str, mode: Mode) -> Result<(), OperatorError> {
    if !is_uri(uri, if mode == Mode::Oscore { "coap" } else { "coaps" }) {
        return Err(OperatorError::Invalid(
            "server_uri: coaps://HOST[:PORT], with OSCORE coap://HOST[:PORT], at most 255 bytes",
        ));
    }
    Ok(())
}
