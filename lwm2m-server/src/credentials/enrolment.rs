//! Enrolment: what a device is known by from the first day on, or again after a revocation.
//!
//! Invariants: an enrolment is one durable transaction with its audit rows; the same again changes nothing, and a credential in use is
//! never replaced by it.

use super::assignment::Assign;
use super::device::{Account, Device, HoldKind, Profile, Role, State};
use super::issue::{Issued, KeyMaterial};
use super::kept::Kept;
use super::lifecycle::Outcome;
use super::operator::{OperatorError, check_uri};
use super::subject::{Mode, Subject};
use super::{Command, Credentials, Happened};
use crate::profiles::is_binding;

/// Longest endpoint name in bytes.
const MAX_ENDPOINT: usize = 255;

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
    /// Departures from the server's bootstrap settings, and from the profile that it follows.
    pub profile: Option<Profile>,
    /// The profile that it is to follow.
    pub follow: Option<Assign>,
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
        if let Some(profile) = &enrol.profile {
            check_profile(profile)?;
            self.check_usage(profile.certificate_usage)?;
        }
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
            // Who is bootstrapped under OSCORE may know no DTLS.
            let bootstrap = device.bootstrap.as_ref().and_then(|account| account.credential(account.current));
            let mode = bootstrap.map(|credential| credential.subject.mode());
            let mode = mode.filter(|mode| *mode == Mode::Oscore).unwrap_or(Mode::Psk);
            let is_within = bootstrap.is_some_and(|credential| credential.within.is_some());
            let drawn = EnrolAccount { role: Role::Management, key: KeyMaterial::drawn(mode, is_within) };
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
        let follow = enrol.follow.as_ref();
        let variables = follow.map(|assign| self.follow(&mut device, assign, &mut outcome)).transpose()?;
        let variables = variables.flatten();
        if known.is_none() && outcome.happened.is_empty() {
            outcome.act("enrolled", "without a credential");
        }
        let secrets: Vec<(Role, u32, &Kept)> =
            keys.iter().map(|(role, generation, key)| (*role, *generation, key)).collect();
        let commands = if outcome.durable {
            self.keep_with(&turn, now_ms, actor, device, outcome, (&secrets, variables.as_ref()))?
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
        let is_live = device.account(role).is_some_and(|account| account.state != State::Revoked);
        if is_live && account.key.is_drawn() {
            return Err(OperatorError::Refused(HAS_ONE));
        }
        let issued = self.issue(now_ms, &device.endpoint, role, &account.key)?;
        if is_live {
            return self.enrol_again(device, role, issued, outcome, keys);
        }
        self.check_free(device, role, &issued)?;
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
            credential.within = issued.within();
        }
        outcome.durable = true;
        outcome.happened.push(Happened {
            role: Some(role),
            generation: Some(generation),
            what: "enrolled",
            detail: issued.detail(),
        });
        created.push(Created { role, generation, subject: issued.subject, key: issued.drawn });
        keys.extend(issued.kept.map(|kept| (role, generation, kept)));
        Ok(())
    }

    /// The account has a credential already: nothing changes if it is this one. What a device presents may be renewed, as long as
    /// it is known by the same.
    fn enrol_again(
        &self,
        device: &mut Device,
        role: Role,
        issued: Issued,
        outcome: &mut Outcome,
        keys: &mut Vec<(Role, u32, Kept)>,
    ) -> Result<(), OperatorError> {
        let endpoint = device.endpoint.clone();
        let Some(account) = device.account_mut(role) else { return Ok(()) };
        let generation = account.current;
        let Some(credential) =
            account.credential_mut(generation).filter(|credential| credential.subject == issued.subject)
        else {
            return Err(OperatorError::Refused(HAS_ONE));
        };
        let kept = self.store.secret(&endpoint, role, generation)?;
        if kept == issued.kept {
            return Ok(());
        }
        let context = |kept: Option<&Kept>| kept.and_then(Kept::oscore).cloned();
        let Some(renewed) = issued
            .kept
            .filter(|renewed| renewed.device().is_some() && context(Some(renewed)) == context(kept.as_ref()))
        else {
            return Err(OperatorError::Refused(HAS_ONE));
        };
        let has_private_key = |kept: &Kept| kept.device().is_some_and(|key| key.private_key().is_some());
        if kept.as_ref().is_some_and(has_private_key) != has_private_key(&renewed) {
            return Err(OperatorError::Refused(OTHER_KEEPER));
        }
        credential.expires_ms = issued.expires_ms;
        credential.is_warned = false;
        outcome.durable = true;
        let detail = "what the device presents, known by the same".to_owned();
        outcome.happened.push(Happened {
            role: Some(role),
            generation: Some(generation),
            what: "renewed",
            detail,
        });
        keys.push((role, generation, renewed));
        Ok(())
    }
}

impl Outcome {
    pub(super) fn act(&mut self, what: &'static str, detail: &str) {
        self.durable = true;
        self.happened.push(Happened { role: None, generation: None, what, detail: detail.to_owned() });
    }
}

const HAS_ONE: &str = "the account already has another credential: rotate it, or revoke it first";
const OTHER_KEEPER: &str = "a renewed certificate comes as the one before it did: with its private key where the server delivers it, and without where the device has its own";

fn check_endpoint(endpoint: &str) -> Result<(), OperatorError> {
    if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT || endpoint.chars().any(char::is_control) {
        return Err(OperatorError::Invalid("endpoint: 1 to 255 bytes without control characters"));
    }
    Ok(())
}

fn check_profile(profile: &Profile) -> Result<(), OperatorError> {
    if let Some(uri) = &profile.server_uri {
        check_uri(uri, Mode::Psk)?;
    }
    if profile.binding.as_deref().is_some_and(|binding| !is_binding(binding)) {
        return Err(OperatorError::Invalid("binding: letters of U, Q, T, S, N, M, H"));
    }
    if [profile.security_instance, profile.server_instance].contains(&Some(u16::MAX)) {
        return Err(OperatorError::Invalid("security_instance, server_instance: 0 to 65534"));
    }
    Ok(())
}
