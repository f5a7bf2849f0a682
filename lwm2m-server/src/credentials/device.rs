//! What is kept of one device and its accounts: the record that the lifecycle machine steps and the store persists.
//!
//! Invariant: a record holds no key bytes; fields marked `skip` are what a restart may forget.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::oscore::ContextId;
use super::subject::{Fingerprint, Subject};
use crate::profiles::Variables;

/// How long before its end a certificate is told of, in milliseconds: 30 days.
pub(super) const WARN_BEFORE_MS: u64 = 30 * 86_400_000;

/// Which interface an account opens.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The bootstrap server.
    Bootstrap,
    /// The management server.
    Management,
}

impl Role {
    /// Both roles.
    pub const ALL: [Self; 2] = [Self::Bootstrap, Self::Management];

    /// `bootstrap` or `management`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Management => "management",
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One device: its two accounts and what holds for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Endpoint client name.
    pub endpoint: String,
    /// Counts the durable changes; a write names the one it was based on.
    pub version: u64,
    /// Fencing epoch of the node that wrote it; always 1 on the embedded store.
    pub epoch: u64,
    /// Plain coap is accepted as long as no account exists.
    pub allow_nosec: bool,
    /// Suspended, revoked or decommissioned as a whole.
    pub hold: Option<Hold>,
    /// The account at the bootstrap server.
    pub bootstrap: Option<Account>,
    /// The account at the management server.
    pub management: Option<Account>,
    /// What its bootstrap writes where it departs from the profile that it follows, and from the server's configuration.
    #[serde(default)]
    pub profile: Profile,
    /// The profile that its bootstraps follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Box<Assigned>>,
    /// The profile of the last bootstrap that followed one and was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Box<Applied>>,
    /// The profile of the bootstrap that runs; a bootstrap does not survive a restart.
    #[serde(skip)]
    pub handed: Option<Box<(String, u32)>>,
}

/// The version of a profile that a device follows, and what stands for its variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The name of the profile.
    pub name: String,
    /// The version.
    pub version: u32,
    /// The variables of the device.
    pub variables: Variables,
    /// The names of its secret variables, whose values are sealed beside the record.
    pub secrets: BTreeSet<String>,
}

/// The version of a profile that a bootstrap followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AppliedProfile)]
pub struct Applied {
    /// The name of the profile.
    pub name: String,
    /// The version.
    pub version: u32,
    /// When the device acknowledged it, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Why a device as a whole is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hold {
    /// What was done to it.
    pub kind: HoldKind,
    /// When, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why, in words.
    pub reason: String,
}

/// The side states of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoldKind {
    /// Refused until resumed.
    Suspended,
    /// Its credentials are refused for good; new ones may be enrolled.
    Revoked,
    /// Gone for good: a tombstone under which nothing is enrolled again.
    Decommissioned,
}

/// Departures of one device from what the server writes at bootstrap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// LwM2M Server URI, `/0/x/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uri: Option<String>,
    /// Lifetime in seconds, `/1/x/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
    /// Binding, `/1/x/7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Notification Storing When Disabled or Offline, `/1/x/6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_storing: Option<bool>,
    /// Written without a Bootstrap-Discover: for a device whose answer to it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_blind: Option<bool>,
    /// `/0` instance to write where a Discover does not say otherwise; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_instance: Option<u16>,
    /// `/1` instance to write where a Discover does not say otherwise; 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_instance: Option<u16>,
    /// Certificate Usage, `/0/x/15`, 0 to 3; with 0 and 2 `/0/x/4` holds the server's anchor, with 1 and 3 its certificate. With 0
    /// and 1 a device trusts nobody unless it has anchors of its own besides. Without, 2 where the server has an anchor, else 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_usage: Option<u8>,
}

/// One account: every credential it ever had, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Where the lifecycle stands.
    pub state: State,
    /// The generation the server counts on.
    pub current: u32,
    /// All generations in ascending order; subjects stay known so that a refusal can say why.
    pub credentials: Vec<Credential>,
    /// Last bootstrap (bootstrap account) or first Register with the current one (management account).
    pub last_success_ms: Option<u64>,
    /// The last thing worth telling an operator, in words.
    pub note: Option<String>,
    /// The generation of the last full handshake; a session does not survive a restart, so this need not.
    #[serde(skip)]
    pub handshake: Option<u32>,
}

/// One credential without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Counts the credentials of this account from 1.
    pub generation: u32,
    /// What it is known by.
    #[serde(flatten)]
    pub subject: Subject,
    /// What the OSCORE context is known by that its sessions have inside, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<ContextId>,
    /// Accepted or why not.
    pub standing: Standing,
    /// When it was made or imported, in milliseconds since 1970.
    pub created_ms: u64,
    /// The earliest end of its certificates, where one is known and has an end, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// It was told that this end comes near.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_warned: bool,
    /// The campaign that it was made by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignRound>,
    /// What bootstraps wrote of the server's own key with it; more than one while nobody knows which of them the device took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
}

/// A round of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignRound {
    /// Which campaign.
    pub id: u64,
    /// Which round, from 1.
    pub round: u32,
}

/// What a device was told to expect of its server: the SHA-256 of what was written into `/0/x/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pin {
    /// What it is.
    pub of: PinKind,
    /// Its hash.
    pub sha256: Fingerprint,
}

/// What `/0/x/4` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinKind {
    /// The server's raw public key.
    RawPublicKey,
    /// The server's certificate (usages 1 and 3).
    Certificate,
    /// An authority above it (usages 0 and 2).
    Anchor,
}

impl Credential {
    /// Its certificates have an end, and nobody was told yet.
    pub(super) fn is_to_be_warned_of(&self) -> bool {
        self.standing == Standing::Accepted && self.expires_ms.is_some() && !self.is_warned
    }

    /// One that is accepted from now on.
    #[must_use]
    pub fn new(generation: u32, subject: Subject, now_ms: u64) -> Self {
        Self {
            generation,
            subject,
            within: None,
            standing: Standing::Accepted,
            created_ms: now_ms,
            expires_ms: None,
            is_warned: false,
            campaign: None,
            pins: Vec::new(),
        }
    }
}

/// Whether a credential opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does.
    Accepted,
    /// A proven successor replaced it.
    Retired,
    /// It was rotated in and never proven.
    RolledBack,
    /// It was revoked.
    Revoked,
}

/// Where an account stands (in the order of its life).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum State {
    /// Known, never seen.
    Imported,
    /// The other account is there too: a bootstrap can deliver it.
    Armed,
    /// A bootstrap that delivers it runs.
    Bootstrapping,
    /// Delivered, not proven.
    Provisioned,
    /// Proven by a full handshake and a Register.
    InUse,
    /// A successor is on its way; both are accepted.
    Rotating(Rotation),
    /// A rotation missed its deadline and nothing shows which one the device holds; both are accepted.
    Unreachable(Rotation),
    /// Refused for good.
    Revoked,
}

impl State {
    /// One lower-case word, for lists and the audit log.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Armed => "armed",
            Self::Bootstrapping => "bootstrapping",
            Self::Provisioned => "provisioned",
            Self::InUse => "in use",
            Self::Rotating(rotation) => match rotation.phase {
                Phase::Staged => "rotating: staged",
                Phase::Delivered => "rotating: delivered",
                Phase::Proven => "rotating: proven",
            },
            Self::Unreachable(_) => "unreachable",
            Self::Revoked => "revoked",
        }
    }
}

/// A rotation from one generation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The generation that was in use.
    pub from: u32,
    /// The generation that shall be.
    pub to: u32,
    /// How far it came.
    pub phase: Phase,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it must have been proven.
    pub deadline_ms: u64,
    /// How long the old one is accepted after the proof, in milliseconds.
    pub grace_ms: u64,
    /// When the old one retires; set by the proof.
    pub retire_ms: Option<u64>,
    /// LwM2M Server URI to write instead of the configured one.
    pub server_uri: Option<String>,
    /// Why the operator asked for it.
    pub reason: String,
    /// What brings the device to fetch the new credential.
    #[serde(default)]
    pub fetch: Fetch,
    /// The device has no trigger, and the operator agreed that it is refused at Register until it comes to bootstrap.
    #[serde(default)]
    pub is_withheld: bool,
    /// A bootstrap got the new credential to write: the device may hold it.
    pub handed_out: bool,
    /// A full handshake and a Register with the old one came after the last hand-out.
    pub old_seen: bool,
    /// Since when a bootstrap that was handed the new one has it, whose Finish may be carried out yet: until that is known, or long over,
    /// the old one shows nothing. In milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since_ms: Option<u64>,
    /// The command that makes the device come and fetch it; durable until it did.
    pub trigger: Option<Trigger>,
    /// When the bootstrap that runs got the new credential; a bootstrap does not survive a restart.
    #[serde(skip)]
    pub attempt_ms: Option<u64>,
}

/// What brings a device to the bootstrap that a rotation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fetch {
    /// Execute `/1/x/9`; a device that refuses it keeps what it has.
    #[default]
    Trigger,
    /// The device alone: it bootstraps when it starts, or whenever its maker had it do so.
    Wait,
    /// Execute `/1/x/9`; where the device does not know it, as those of LwM2M 1.0, registrations are refused until it bootstraps, as
    /// devices do that cannot register. One that does not is without service until the deadline.
    Withhold,
}

/// How far a rotation came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Stored, both accepted.
    Staged,
    /// The device acknowledged Bootstrap-Finish.
    Delivered,
    /// A full handshake and a Register came with the new one; the old one lives for the grace time.
    Proven,
}

/// A pending Bootstrap-Request Trigger, `/1/x/9`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Not sent again before, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// How often it failed so far.
    pub failures: u32,
    /// The device was not reached: the next contact sends it at once.
    pub on_contact: bool,
    /// When it was handed to the driver, until that reports the answer; a restart forgets it and sends it again.
    #[serde(skip)]
    pub sent_ms: Option<u64>,
}

impl Device {
    /// A device without accounts.
    #[must_use]
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            version: 0,
            epoch: 1,
            allow_nosec: false,
            hold: None,
            bootstrap: None,
            management: None,
            profile: Profile::default(),
            assigned: None,
            applied: None,
            handed: None,
        }
    }

    /// The account of a role.
    #[must_use]
    pub fn account(&self, role: Role) -> Option<&Account> {
        match role {
            Role::Bootstrap => self.bootstrap.as_ref(),
            Role::Management => self.management.as_ref(),
        }
    }

    /// The account of a role, to change it.
    pub fn account_mut(&mut self, role: Role) -> Option<&mut Account> {
        match role {
            Role::Bootstrap => self.bootstrap.as_mut(),
            Role::Management => self.management.as_mut(),
        }
    }

    /// Sets the account of a role.
    pub fn set_account(&mut self, role: Role, account: Account) {
        match role {
            Role::Bootstrap => self.bootstrap = Some(account),
            Role::Management => self.management = Some(account),
        }
    }

    /// Whether a credential opens a session now: the one rule for handshakes, Register and every later record.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub fn accepts(&self, role: Role, generation: u32) -> Result<(), Refusal> {
        self.is_held()?;
        let credential = self
            .account(role)
            .and_then(|account| account.credential(generation))
            .ok_or(Refusal::UnknownIdentity)?;
        match credential.standing {
            Standing::Accepted => Ok(()),
            Standing::Retired => Err(Refusal::Retired),
            Standing::RolledBack => Err(Refusal::RolledBack),
            Standing::Revoked => Err(Refusal::Revoked),
        }
    }

    /// Whether it is refused at Register so that it bootstraps.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        let rotation = self.management.as_ref().and_then(Account::rotation);
        rotation.is_some_and(|rotation| rotation.is_withheld && !rotation.handed_out)
    }

    /// Whether it is gone for good.
    #[must_use]
    pub fn is_decommissioned(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Decommissioned)
    }

    /// Whether the device as a whole is refused.
    ///
    /// # Errors
    /// Suspended, revoked or decommissioned.
    pub fn is_held(&self) -> Result<(), Refusal> {
        match self.hold.as_ref().map(|hold| hold.kind) {
            None => Ok(()),
            Some(HoldKind::Suspended) => Err(Refusal::Suspended),
            Some(HoldKind::Revoked) => Err(Refusal::Revoked),
            Some(HoldKind::Decommissioned) => Err(Refusal::Decommissioned),
        }
    }

    /// When it is to be told that certificates of an accepted credential end, in milliseconds since 1970; `None` if there is nothing to
    /// be told of, or it was.
    #[must_use]
    pub fn warn_at_ms(&self) -> Option<u64> {
        let ends = Role::ALL.into_iter().filter_map(|role| self.account(role)).flat_map(|account| {
            account
                .credentials
                .iter()
                .filter(|each| each.is_to_be_warned_of())
                .filter_map(|each| each.expires_ms)
        });
        ends.min().map(|end| end.saturating_sub(WARN_BEFORE_MS))
    }

    /// Whether any account has a credential that is or was secure.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.bootstrap.is_some() || self.management.is_some()
    }
}

impl Account {
    /// An account with its first credential.
    #[must_use]
    pub fn new(subject: Subject, now_ms: u64) -> Self {
        Self {
            state: State::Imported,
            current: 1,
            credentials: vec![Credential::new(1, subject, now_ms)],
            last_success_ms: None,
            note: None,
            handshake: None,
        }
    }

    /// Adds the next credential, accepted from now on, and returns its generation.
    pub fn add(&mut self, subject: Subject, now_ms: u64) -> u32 {
        let generation = self
            .credentials
            .iter()
            .map(|credential| credential.generation)
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        self.credentials.push(Credential::new(generation, subject, now_ms));
        generation
    }

    /// The credential of a generation.
    #[must_use]
    pub fn credential(&self, generation: u32) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.generation == generation)
    }

    /// The same, to change it.
    pub fn credential_mut(&mut self, generation: u32) -> Option<&mut Credential> {
        self.credentials.iter_mut().find(|credential| credential.generation == generation)
    }

    /// Gives a credential another standing.
    pub fn set_standing(&mut self, generation: u32, standing: Standing) {
        if let Some(credential) = self.credential_mut(generation) {
            credential.standing = standing;
        }
    }

    /// The rotation that runs or is stuck.
    #[must_use]
    pub fn rotation(&self) -> Option<&Rotation> {
        match &self.state {
            State::Rotating(rotation) | State::Unreachable(rotation) => Some(rotation),
            _ => None,
        }
    }

    /// The generation a bootstrap delivers now: the new one while it is rotated in.
    #[must_use]
    pub fn deliverable(&self) -> u32 {
        self.rotation().map_or(self.current, |rotation| rotation.to)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::super::{Binding, Identity};
    use super::*;

    /// As `lwm2m-server` 0.1.0 wrote it while all credentials were pre-shared keys.
    const BEFORE: &str =
        r#"{"generation":3,"identity":"62732d3137","standing":"retired","created_ms":1800000000000}"#;

    #[test]
    fn a_record_of_the_time_before_there_were_other_subjects_is_read_and_written_as_it_was() {
        let read: Credential = serde_json::from_str(BEFORE).unwrap();
        assert_eq!(read.subject, Subject::Psk(Identity::new(b"bs-17").unwrap()));
        assert_eq!((read.generation, read.standing), (3, Standing::Retired));
        assert_eq!(serde_json::to_string(&read).unwrap(), BEFORE);
    }

    #[test]
    fn each_subject_survives_its_record() {
        let fingerprint = Fingerprint::of(b"key");
        for subject in [
            Subject::Psk(Identity::new(&[0, 255]).unwrap()),
            Subject::RawPublicKey(fingerprint),
            Subject::Certificate(Binding::Pinned(fingerprint)),
            Subject::Certificate(Binding::Key { issuer: fingerprint, key: fingerprint }),
            Subject::Certificate(Binding::Name { issuer: None }),
            Subject::Certificate(Binding::Name { issuer: Some(fingerprint) }),
        ] {
            let mut credential = Credential::new(1, subject, 5);
            credential.expires_ms = Some(7);
            credential.within = Some(ContextId { kid: oscore::KeyId::new(&[1]).unwrap(), id_context: None });
            credential.pins.push(Pin { of: PinKind::Anchor, sha256: fingerprint });
            let record = serde_json::to_string(&credential).unwrap();
            assert_eq!(serde_json::from_str::<Credential>(&record).unwrap(), credential, "{record}");
        }
        let nothing = r#"{"generation":1,"standing":"accepted","created_ms":1}"#;
        assert!(serde_json::from_str::<Credential>(nothing).is_err());
    }
}
