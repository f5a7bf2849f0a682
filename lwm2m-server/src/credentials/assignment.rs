//! Profiles and the devices that follow them.
//!
//! Invariants: a version is in the store before a device can follow it, and none is removed that one follows; a device follows nothing
//! that its bootstrap could not carry out as things stood; an assignment, its secret variables and its audit row are one durable
//! transaction with the record of the device.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use super::device::{Assigned, Device};
use super::lifecycle::Outcome;
use super::merge::is_blind;
use super::operator::OperatorError;
use super::plan::{BootstrapPlan, BootstrapStep, ServerAccount};
use super::{Credentials, Role};
use crate::access::Scope;
use crate::api::values::Types;
use crate::endpoint;
use crate::models::Models;
use crate::profiles::{self, Body, Fault, Filled, Given, Profiles, Secrets, Variables, Version};

/// What a device is to follow.
#[derive(Clone, Debug, Default)]
pub struct Assign {
    /// The name of the profile.
    pub name: String,
    /// Its version; the newest without.
    pub version: Option<u32>,
    /// The variables of the device, all of them.
    pub variables: Variables,
    /// Secret variables that are new, or take the place of others; the others stay.
    pub secrets: Secrets,
}

/// What a bootstrap of a device would carry out.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The plan.
    pub plan: BootstrapPlan,
    /// Secret variables that the device does not have; 16 zero bytes stand for each.
    pub missing: Vec<String>,
}

impl Credentials {
    /// All profiles.
    #[must_use]
    pub fn profiles(&self) -> Arc<Profiles> {
        Arc::clone(&self.profiles.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a version of a profile, and answers its number and whether it is new: what the newest one says already is no new one.
    /// Its values are judged by these definitions.
    ///
    /// # Errors
    /// Everything that is wrong with it; when there are too many, or it cannot be stored.
    pub fn put_profile(
        &self,
        now_ms: u64,
        actor: &str,
        name: &str,
        body: Body,
        models: Arc<Models>,
    ) -> Result<(u32, bool), OperatorError> {
        if !profiles::is_name(name) {
            return Err(OperatorError::Invalid("name: 1 to 64 letters, digits, '.', '_' and '-'"));
        }
        let ours = self.settings().short_server_id;
        let version = Version::check(body, &Types::newest(models), ours).map_err(OperatorError::Faults)?;
        self.check_encodable(&Arc::new(version.clone()))?;
        let _turn = self.take_turn();
        let profiles = self.profiles();
        let newest = profiles.find(name, None);
        if let Some(newest) = newest.filter(|newest| newest.body == version.body) {
            return Ok((newest.number, false));
        }
        let number = newest.map_or(0, |newest| newest.number).saturating_add(1);
        let version = version.numbered(number, now_ms);
        let record = version.emit().map_err(|_| OperatorError::Invalid("it cannot be kept"))?;
        let with = profiles.with(name, version, record.len()).ok_or(OperatorError::Full)?;
        self.store.put_profile(actor, now_ms, name, number, &record)?;
        self.show_profiles(with);
        Ok((number, true))
    }

    /// Removes all versions of a profile.
    ///
    /// # Errors
    /// An unknown one, one that devices follow, or when the store fails.
    pub fn remove_profile(&self, now_ms: u64, actor: &str, name: &str) -> Result<(), OperatorError> {
        let _turn = self.take_turn();
        let profiles = self.profiles();
        if profiles.find(name, None).is_none() {
            return Err(OperatorError::UnknownProfile(name.to_owned(), None));
        }
        match self.followers(&Scope::default()).get(name) {
            None => {}
            Some(devices) => return Err(OperatorError::ProfileInUse(*devices)),
        }
        self.store.remove_profile(actor, now_ms, name)?;
        self.show_profiles(profiles.without(name));
        Ok(())
    }

    /// How many devices of a scope follow each profile, whatever the version.
    #[must_use]
    pub fn followers(&self, scope: &Scope) -> HashMap<String, usize> {
        self.read_index(|index| {
            let mut followers = HashMap::new();
            for device in index.devices.values().filter(|device| scope.has(&device.endpoint)) {
                if let Some(assigned) = &device.assigned {
                    let count: &mut usize = followers.entry(assigned.name.clone()).or_default();
                    *count = count.saturating_add(1);
                }
            }
            followers
        })
    }

    /// Has the bootstraps of a device follow a profile; the same again changes nothing.
    ///
    /// # Errors
    /// An unknown device or profile, everything that the device lacks for it, or when it cannot be stored.
    pub fn assign(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        assign: &Assign,
    ) -> Result<(), OperatorError> {
        let turn = self.take_turn();
        let mut device = (*self.device(endpoint).ok_or(OperatorError::UnknownDevice)?).clone();
        if device.is_decommissioned() {
            return Err(OperatorError::Refused("the device was decommissioned"));
        }
        let mut outcome = Outcome::default();
        if let Some(secrets) = self.follow(&mut device, assign, &mut outcome)? {
            self.keep_with(&turn, now_ms, actor, device, outcome, (&[], Some(&secrets)))?;
        }
        Ok(())
    }

    /// Makes a record follow a profile; answers all secret variables that go with it, `None` where it does so already.
    pub(super) fn follow(
        &self,
        device: &mut Device,
        assign: &Assign,
        outcome: &mut Outcome,
    ) -> Result<Option<Secrets>, OperatorError> {
        let version = self.version(&assign.name, assign.version)?;
        let endpoint = device.endpoint.as_str();
        let kept = self.store.variables(endpoint)?;
        let mut secrets = kept.clone();
        secrets.retain(|name| version.has_secret(name));
        secrets.extend(assign.secrets.clone());
        let given = Given { endpoint, variables: &assign.variables, secrets: &secrets };
        let filled = self.fill(&version, &given)?;
        check_device(device, &filled)?;
        self.check_usage(device.profile.certificate_usage.or(version.body.certificate_usage))?;
        let assigned = Assigned {
            name: assign.name.clone(),
            version: version.number,
            variables: assign.variables.clone(),
            secrets: secrets.names().map(str::to_owned).collect(),
        };
        if device.assigned.as_deref() == Some(&assigned) && kept == secrets {
            return Ok(None);
        }
        outcome.act("profile assigned", &format!("{} version {}", assigned.name, assigned.version));
        device.assigned = Some(Box::new(assigned));
        Ok(Some(secrets))
    }

    /// Has the bootstraps of a device follow no profile; its secret variables are forgotten.
    ///
    /// # Errors
    /// An unknown device, or when it cannot be stored.
    pub fn unassign(&self, now_ms: u64, actor: &str, endpoint: &str) -> Result<(), OperatorError> {
        let turn = self.take_turn();
        let mut device = (*self.device(endpoint).ok_or(OperatorError::UnknownDevice)?).clone();
        let Some(former) = device.assigned.take() else { return Ok(()) };
        let mut outcome = Outcome::default();
        outcome.act("profile taken away", &format!("{} version {}", former.name, former.version));
        self.keep_with(&turn, now_ms, actor, device, outcome, (&[], Some(&Secrets::default())))?;
        Ok(())
    }

    /// What the next bootstrap of a device would carry out, as things stand; nothing is changed by it.
    ///
    /// # Errors
    /// Why it would be refused.
    pub fn preview(&self, now_ms: u64, endpoint: &str) -> Result<Preview, OperatorError> {
        let device = self.device(endpoint).ok_or(OperatorError::UnknownDevice)?;
        let filled = self.filled(&device)?;
        let plan = self.planned(now_ms, &device, filled.as_ref())?;
        Ok(Preview { plan, missing: Vec::new() })
    }

    /// The same if it followed this profile, with the variables that it has and these.
    ///
    /// # Errors
    /// Why it would be refused; secret variables may be missing.
    pub fn preview_of(&self, now_ms: u64, endpoint: &str, assign: &Assign) -> Result<Preview, OperatorError> {
        let device = self.device(endpoint).ok_or(OperatorError::UnknownDevice)?;
        let version = self.version(&assign.name, assign.version)?;
        let mut secrets = self.store.variables(endpoint)?;
        secrets.retain(|name| version.has_secret(name));
        secrets.extend(assign.secrets.clone());
        let has = |name: &&str| secrets.get(name).is_none();
        let missing: Vec<String> = version.secrets().filter(has).map(str::to_owned).collect();
        secrets.stand_in(version.secrets());
        let mut variables =
            device.assigned.as_ref().map(|former| former.variables.clone()).unwrap_or_default();
        let needed: BTreeSet<&str> = version.variables().collect();
        variables.retain(|name, _| needed.contains(name.as_str()));
        variables.extend(assign.variables.clone());
        let given = Given { endpoint, variables: &variables, secrets: &secrets };
        let filled = self.fill(&version, &given)?;
        check_device(&device, &filled)?;
        let plan = self.planned(now_ms, &device, Some(&filled))?;
        Ok(Preview { plan, missing })
    }

    fn planned(
        &self,
        now_ms: u64,
        device: &Device,
        filled: Option<&Filled>,
    ) -> Result<BootstrapPlan, OperatorError> {
        let endpoint: Arc<str> = device.endpoint.as_str().into();
        let plan = match device.has_credential() {
            true => device
                .account(Role::Bootstrap)
                .ok_or(super::Refusal::UnknownIdentity)
                .and_then(|account| device.accepts(Role::Bootstrap, account.current))
                .and_then(|()| self.draft(now_ms, &endpoint, device, filled))
                .map(|(plan, _)| plan),
            false => self
                .admit_without_security(Role::Bootstrap, &endpoint)
                .and_then(|()| self.plan_without_security(&endpoint, device, filled)),
        };
        plan.map_err(OperatorError::NoPlan)
    }

    /// What a device gets of the profile that it follows; `None` where it follows none.
    ///
    /// # Errors
    /// Everything that is in the way, as things stand.
    pub(super) fn filled(&self, device: &Device) -> Result<Option<Filled>, OperatorError> {
        let Some(assigned) = &device.assigned else { return Ok(None) };
        let version = self.version(&assigned.name, Some(assigned.version))?;
        let secrets = match assigned.secrets.is_empty() {
            true => Secrets::default(),
            false => self.store.variables(&device.endpoint)?,
        };
        let given = Given { endpoint: &device.endpoint, variables: &assigned.variables, secrets: &secrets };
        let filled = self.fill(&version, &given)?;
        check_device(device, &filled)?;
        Ok(Some(filled))
    }

    /// Puts what a device has into its profile; that of this server may have become another Short Server ID since it was made.
    fn fill(&self, version: &Arc<Version>, given: &Given<'_>) -> Result<Filled, OperatorError> {
        let settings = self.settings();
        let filled = Filled::new(version, given, &settings).map_err(OperatorError::Faults)?;
        let ours = settings.short_server_id;
        let is_ours = |account: &ServerAccount| account.short_server_id == ours;
        match filled.further.iter().position(is_ours) {
            None => Ok(filled),
            Some(at) => Err(OperatorError::Faults(vec![Fault::new(
                format!("servers[{at}].short_server_id"),
                format!("{ours} is that of this server by now"),
            )])),
        }
    }

    fn version(&self, name: &str, number: Option<u32>) -> Result<Arc<Version>, OperatorError> {
        let unknown = || OperatorError::UnknownProfile(name.to_owned(), number);
        self.profiles().find(name, number).map(Arc::clone).ok_or_else(unknown)
    }

    /// Whether what a profile writes can be written in each format that a device may want.
    fn check_encodable(&self, version: &Arc<Version>) -> Result<(), OperatorError> {
        let settings = self.settings();
        let filled = Filled::stand_in(version, &settings);
        let plan = BootstrapPlan {
            endpoint: "endpoint".into(),
            generation: 0,
            is_blind: true,
            account: ServerAccount { short_server_id: settings.short_server_id, ..ServerAccount::default() },
            further: filled.further,
            is_under_oscore: false,
            writes_time: false,
            is_verified: false,
            write_by: version.body.write_by,
            format: None,
            // Whether something can be deleted is a matter of the device.
            steps: filled
                .steps
                .into_iter()
                .filter(|step| matches!(step, BootstrapStep::Further | BootstrapStep::Write(..)))
                .collect(),
        };
        for format in
            [lwm2m_objects::Format::TLV, lwm2m_objects::Format::SENML_CBOR, lwm2m_objects::Format::SENML_JSON]
        {
            if let Err(why) = endpoint::preview(plan.clone(), Some(format.0), b"", 0) {
                return Err(OperatorError::Faults(vec![Fault::new(
                    "",
                    format!("it cannot be written: {why}"),
                )]));
            }
        }
        Ok(())
    }

    fn show_profiles(&self, profiles: Profiles) {
        *self.profiles.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(profiles);
    }
}

/// What a profile may be, and not with this device.
fn check_device(device: &Device, filled: &Filled) -> Result<(), OperatorError> {
    let clears_accounts = |step: &BootstrapStep| matches!(step, BootstrapStep::Clear(path) if matches!(path.object_id(), Some(0 | 21)));
    if is_blind(&device.profile, &filled.version.body) && filled.steps.iter().any(clears_accounts) {
        return Err(OperatorError::Refused(
            "the device is written blind, and the profile deletes of /0 or /21, where nobody knows what is the bootstrap account",
        ));
    }
    if !device.has_credential() && filled.version.secrets().next().is_some() {
        return Err(OperatorError::Refused(
            "the device has no credential, and would be sent the keys of the profile in the clear: enrol a bootstrap account first",
        ));
    }
    Ok(())
}
