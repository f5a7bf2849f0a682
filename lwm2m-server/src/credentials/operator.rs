//! What operators do to credentials: enrol, rotate, revoke, suspend, resume, decommission.
//!
//! Invariants: each act is one durable transaction with its audit row; nothing takes a working credential away from a
//! device except a revocation; an identity is never given out twice.

use core::fmt;
use std::sync::Arc;

use super::device::{Account, Device, HoldKind, Phase, Profile, Role, Rotation, State, Trigger};
use super::issue::{Issued, KeyMaterial};
use super::kept::Kept;
use super::lifecycle::Outcome;
use super::subject::{Binding, Mode, Subject};
use super::{Command, Credentials, Happened, Refusal};
use crate::store::StoreError;

/// Longest endpoint name in bytes.
const MAX_ENDPOINT: usize = 255;
/// Longest reason in bytes.
const MAX_REASON: usize = 1024;
/// A grace time below EXCHANGE_LIFETIME may end before a device knows that its Register was answered.
const EXCHANGE_LIFETIME_MS: u64 = 247_000;

/// One account to enrol.
#[derive(Clone, Debug)]
pub struct EnrolAccount {
    /// Which one.
    pub role: Role,
    /// Its key.
    pub key: KeyMaterial,
}

/// What [`Credentials::enrol`] shall make true of a device.
#[derive(Clone, Debug, Default)]
pub struct Enrol {
    /// Accounts to set up; those not named stay as they are.
    pub accounts: Vec<EnrolAccount>,
    /// Plain coap, as long as there is no account.
    pub allow_nosec: Option<bool>,
    /// Departures from the server's bootstrap settings.
    pub profile: Option<Profile>,
}

/// A credential that was made; the only moment its key is shown.
#[derive(Clone, Debug)]
pub struct Created {
    /// Which account it opens.
    pub role: Role,
    /// Its generation.
    pub generation: u32,
    /// What it is known by.
    pub subject: Subject,
    /// What was drawn here.
    pub key: Option<Kept>,
}

/// What an enrolment led to.
#[derive(Clone, Debug, Default)]
pub struct EnrolOutcome {
    /// Credentials that are new; empty when everything was so already.
    pub created: Vec<Created>,
    /// What has to be done now.
    pub commands: Vec<Command>,
}

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
    /// Why.
    pub reason: String,
}

impl Default for Rotate {
    fn default() -> Self {
        Self {
            role: Role::Management,
            key: None,
            deadline_ms: 24 * 60 * 60 * 1000,
            grace_ms: 10 * 60 * 1000,
            server_uri: None,
            reason: String::new(),
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
    /// The store failed; nothing changed.
    Store(StoreError),
    /// The operating system gives no randomness.
    NoRandomness,
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
    /// Sets up accounts of a device; the same request again changes nothing.
    ///
    /// With a bootstrap account and no management account, a management credential is drawn for the bootstrap to
    /// deliver.
    ///
    /// # Errors
    /// An account that already has another credential (rotate or revoke it), an identity in use, a tombstone.
    pub fn enrol(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        enrol: &Enrol,
    ) -> Result<EnrolOutcome, OperatorError> {
        check_endpoint(endpoint)?;
        check_profile(enrol.profile.as_ref())?;
        let turn = self.take_turn();
        let known = self.device(endpoint);
        let mut device = known.as_ref().map_or_else(|| Device::new(endpoint), |device| (**device).clone());
        match device.hold.as_ref().map(|hold| hold.kind) {
            Some(HoldKind::Decommissioned) => {
                return Err(OperatorError::Refused(
                    "the device was decommissioned: it cannot come back under this name",
                ));
            }
            Some(HoldKind::Suspended) => {
                return Err(OperatorError::Refused("the device is suspended: resume or revoke it first"));
            }
            Some(HoldKind::Revoked) | None => {}
        }
        let had_credential = device.has_credential();
        let mut outcome = Outcome { durable: known.is_none(), ..Outcome::default() };
        let mut created = Vec::new();
        let mut keys = Vec::new();
        for account in &enrol.accounts {
            self.enrol_account(now_ms, &mut device, account, &mut outcome, &mut created, &mut keys)?;
        }
        let is_live = |account: &Account| account.state != State::Revoked;
        if device.bootstrap.as_ref().is_some_and(is_live) && !device.management.as_ref().is_some_and(is_live)
        {
            let drawn = EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::Psk) };
            self.enrol_account(now_ms, &mut device, &drawn, &mut outcome, &mut created, &mut keys)?;
            // The bootstrap delivers it; nobody else needs to see it.
            if let Some(drawn) = created.last_mut() {
                drawn.key = None;
            }
        }
        if device.bootstrap.as_ref().is_some_and(is_live) {
            for role in Role::ALL {
                if let Some(account) = device.account_mut(role)
                    && account.state == State::Imported
                {
                    account.state = State::Armed;
                    outcome.durable = true;
                }
            }
        }
        if !created.is_empty() {
            // New credentials bring a revoked device back; what was revoked stays so.
            device.hold = None;
            if !had_credential {
                // It has to use its credential from now on, so whatever runs without one ends.
                for role in Role::ALL {
                    outcome.commands.push(Command::CloseSessions {
                        endpoint: endpoint.into(),
                        role,
                        generation: None,
                    });
                }
            }
        }
        if let Some(allow) = enrol.allow_nosec
            && allow != device.allow_nosec
        {
            device.allow_nosec = allow;
            outcome.act("nosec", if allow { "plain coap allowed" } else { "plain coap closed" });
        }
        if let Some(profile) = &enrol.profile
            && *profile != device.profile
        {
            device.profile = profile.clone();
            outcome.act("profile", "bootstrap settings changed");
        }
        if known.is_none() && outcome.happened.is_empty() {
            outcome.act("enrolled", "without a credential");
        }
        let secrets: Vec<(Role, u32, &Kept)> =
            keys.iter().map(|(role, generation, key)| (*role, *generation, key)).collect();
        let commands = if outcome.durable {
            self.keep(&turn, now_ms, actor, device, outcome, &secrets)?
        } else {
            Vec::new()
        };
        Ok(EnrolOutcome { created, commands })
    }

    fn enrol_account(
        &self,
        now_ms: u64,
        device: &mut Device,
        account: &EnrolAccount,
        outcome: &mut Outcome,
        created: &mut Vec<Created>,
        keys: &mut Vec<(Role, u32, Kept)>,
    ) -> Result<(), OperatorError> {
        let role = account.role;
        let live = device.account(role).filter(|account| account.state != State::Revoked);
        if live.is_some() && matches!(account.key, KeyMaterial::Generate(_)) {
            return Err(OperatorError::Refused(HAS_ONE));
        }
        let issued = self.issue(now_ms, &device.endpoint, role, &account.key)?;
        if let Some(live) = live {
            let same = live.credentials.iter().any(|each| {
                each.generation == live.current
                    && each.subject == issued.subject
                    && self
                        .store
                        .secret(&device.endpoint, role, each.generation)
                        .is_ok_and(|kept| kept == issued.kept)
            });
            return if same { Ok(()) } else { Err(OperatorError::Refused(HAS_ONE)) };
        }
        self.check_free(device, role, &issued.subject)?;
        let generation = match device.account_mut(role) {
            Some(account) => {
                account.current = account.add(issued.subject.clone(), now_ms);
                account.state = State::Imported;
                account.last_success_ms = None;
                account.note = None;
                account.current
            }
            None => {
                device.set_account(role, Account::new(issued.subject.clone(), now_ms));
                1
            }
        };
        if let Some(credential) =
            device.account_mut(role).and_then(|account| account.credential_mut(generation))
        {
            credential.expires_ms = issued.expires_ms;
        }
        outcome.durable = true;
        outcome.happened.push(Happened {
            role: Some(role),
            generation: Some(generation),
            what: "enrolled",
            detail: issued.detail.to_owned(),
        });
        let shown = issued.kept.clone().filter(|_| issued.is_drawn);
        created.push(Created { role, generation, subject: issued.subject, key: shown });
        keys.extend(issued.kept.map(|kept| (role, generation, kept)));
        Ok(())
    }

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
        if let Some(uri) = &rotate.server_uri {
            check_uri(uri)?;
        }
        let turn = self.take_turn();
        let mut device = (*self.device(endpoint).ok_or(OperatorError::UnknownDevice)?).clone();
        let bootstrap_last_success_ms = preflight(&device)?;
        let mut warnings = Vec::new();
        let material = self.material_to_rotate_to(&device, rotate, &mut warnings)?;
        let issued = self.issue(now_ms, endpoint, Role::Management, &material)?;
        self.check_free(&device, Role::Management, &issued.subject)?;
        self.check_server_key(issued.subject.mode())?;
        let account = device.account_mut(Role::Management).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let from = account.current;
        let Issued { subject, kept, expires_ms, .. } = issued;
        let to = account.add(subject.clone(), now_ms);
        if let Some(credential) = account.credential_mut(to) {
            credential.expires_ms = expires_ms;
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
            handed_out: false,
            old_seen: false,
            trigger: Some(Trigger::new()),
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
            if device.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Decommissioned) {
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

    /// Revokes a device and leaves a tombstone under its name.
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
            if device.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Decommissioned) {
                return Ok(Outcome::default());
            }
            let revoked = device.revoke(now_ms, None, reason);
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
        device: &Device,
        rotate: &Rotate,
        warnings: &mut Vec<String>,
    ) -> Result<KeyMaterial, OperatorError> {
        let account = device.account(Role::Management).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let present = account.credential(account.current).ok_or(OperatorError::Refused(NO_ACCOUNT))?;
        let kept = self.store.secret(&device.endpoint, Role::Management, present.generation)?;
        let has_own_key = match (&present.subject, &kept) {
            (Subject::Psk(_), _) => false,
            (_, Some(Kept::Device(key))) => key.private_key().is_none(),
            _ => true,
        };
        let material = rotate.key.clone().unwrap_or_else(|| KeyMaterial::Generate(present.subject.mode()));
        let brings_private_key = match &material {
            KeyMaterial::Generate(mode) => *mode != Mode::Psk,
            KeyMaterial::Given { .. } => false,
            KeyMaterial::Public { key, .. } => key.as_ref().is_some_and(|key| key.private_key().is_some()),
        };
        if has_own_key && brings_private_key {
            return Err(OperatorError::Refused(OWN_KEY));
        }
        match &material {
            KeyMaterial::Generate(Mode::Psk) | KeyMaterial::Given { .. } if has_own_key => warnings.push(
                "the device keeps its private key itself: it must be able to hold a pre-shared key as well"
                    .to_owned(),
            ),
            KeyMaterial::Public { subject: Subject::Certificate(Binding::Name { .. }), .. }
                if matches!(present.subject, Subject::Certificate(Binding::Name { .. })) =>
            {
                return Err(OperatorError::Refused(SAME_NAME));
            }
            _ => {}
        }
        Ok(material)
    }
}

impl Outcome {
    fn act(&mut self, what: &'static str, detail: &str) {
        self.durable = true;
        self.happened.push(Happened { role: None, generation: None, what, detail: detail.to_owned() });
    }
}

const HAS_ONE: &str = "the account already has another credential: rotate it, or revoke it first";
const OWN_KEY: &str = "the device keeps its private key itself (a secure element), so that none can be written to it: give the public key \
                       or certificate of another key that it has, or rotate to the mode psk";
const SAME_NAME: &str = "the account goes by the name in the certificate already, so that nothing would show which one the device \
                         has: a renewed certificate is taken without a rotation";
const NO_ACCOUNT: &str = "the device has no management account: enrol one by PUT credentials";

/// Everything that must hold before a new credential is made; returns when the bootstrap account was last used.
fn preflight(device: &Device) -> Result<Option<u64>, OperatorError> {
    let refused = |why| Err(OperatorError::Refused(why));
    match device.is_held() {
        Ok(()) => {}
        Err(Refusal::Suspended) => return refused("the device is suspended: resume it first"),
        Err(_) => return refused("the device is revoked or decommissioned"),
    }
    let Some(bootstrap) = &device.bootstrap else {
        return refused("the device has no bootstrap account, so nothing could deliver a new credential");
    };
    if bootstrap.state == State::Revoked {
        return refused("the bootstrap account is revoked, so nothing could deliver a new credential");
    }
    match device.management.as_ref().map(|account| &account.state) {
        None => refused(NO_ACCOUNT),
        Some(State::InUse) => Ok(bootstrap.last_success_ms),
        Some(State::Rotating(_)) => refused("a rotation is under way: wait until it ends"),
        Some(State::Unreachable(_)) => refused(
            "the device is unreachable after a rotation: it must register with either credential first",
        ),
        Some(State::Revoked) => refused("the management account is revoked: enrol a new credential"),
        Some(State::Imported | State::Armed | State::Bootstrapping | State::Provisioned) => {
            refused("the present credential was never proven: the device must register with it first")
        }
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), OperatorError> {
    if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT || endpoint.chars().any(char::is_control) {
        return Err(OperatorError::Invalid("endpoint: 1 to 255 bytes without control characters"));
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), OperatorError> {
    if reason.len() > MAX_REASON {
        return Err(OperatorError::Invalid("reason: at most 1024 bytes"));
    }
    Ok(())
}

fn check_uri(uri: &str) -> Result<(), OperatorError> {
    let host = uri.strip_prefix("coaps://").unwrap_or_default();
    if host.is_empty() || uri.len() > 255 || uri.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(OperatorError::Invalid("server_uri: coaps://HOST[:PORT], at most 255 bytes"));
    }
    Ok(())
}

fn check_profile(profile: Option<&Profile>) -> Result<(), OperatorError> {
    let Some(profile) = profile else { return Ok(()) };
    if let Some(uri) = &profile.server_uri {
        check_uri(uri)?;
    }
    if let Some(binding) = &profile.binding
        && (binding.is_empty()
            || binding.len() > 8
            || !binding.bytes().all(|letter| b"UQTSNMH".contains(&letter)))
    {
        return Err(OperatorError::Invalid("binding: letters of U, Q, T, S, N, M, H"));
    }
    if [profile.security_instance, profile.server_instance].contains(&Some(u16::MAX)) {
        return Err(OperatorError::Invalid("security_instance, server_instance: 0 to 65534"));
    }
    Ok(())
}
