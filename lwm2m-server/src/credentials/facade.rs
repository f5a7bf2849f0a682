//! The façade the driver and the API share: thread-safe, synchronous, every step stored before anything follows from it.
//!
//! Look-ups read an index in memory and one sealed key from the store; they never wait for a write. Writers take turns,
//! store the new record, and only then make it visible. Keys are not held in memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::certificate::Certificate;
use super::date;
use super::delivery::ServerPublic;
use super::device::{Device, Role, Standing, WARN_BEFORE_MS};
use super::kept::Kept;
use super::lifecycle::Outcome;
use super::oscore::ContextId;
use super::plan::BootstrapStep;
use super::secret::Identity;
use super::subject::Subject;
use super::trust::DeviceTrust;
use super::{Authenticated, Command, CredentialEvent, Fact, Happened, Refusal, Secret};
use crate::access::Scope;
use crate::profiles::{Profiles, Secrets};
use crate::store::{AuditRow, Backup, Change, Store, StoreError};
use tokio::sync::broadcast;

/// Steps a slow listener may lag behind.
const EVENTS: usize = 1024;

/// What every bootstrap writes unless the device's profile departs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// LwM2M Server URI of the management server, `/0/x/0`.
    pub server_uri: String,
    /// The same for accounts without security.
    pub server_uri_nosec: String,
    /// Short Server ID, 1 to 65534.
    pub short_server_id: u16,
    /// Lifetime in seconds, `/1/x/1`.
    pub lifetime: u32,
    /// Binding, `/1/x/7`.
    pub binding: String,
    /// Notification Storing When Disabled or Offline, `/1/x/6`.
    pub notification_storing: bool,
    /// The time is written to `/3/0/13`, by which a device without a clock judges certificates.
    pub write_time: bool,
    /// A bootstrap ends with a second Discover that must show the account written; a round trip more.
    pub verify: bool,
    /// How often and how long a device tries to register.
    pub retry: Retry,
    /// Plain coap is accepted for every device that has no credential.
    pub allow_nosec: bool,
}

/// Registration retries, `/1/x/17` to `/1/x/20`; the device's defaults hold for what is `None`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Communication Retry Count, `/1/x/17`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Communication Retry Timer in seconds, `/1/x/18`; doubles with each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<u32>,
    /// Communication Sequence Delay Timer in seconds, `/1/x/19`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_delay: Option<u32>,
    /// Communication Sequence Retry Count, `/1/x/20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_count: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_uri: "coaps://127.0.0.1:5684".to_owned(),
            server_uri_nosec: "coap://127.0.0.1:5683".to_owned(),
            short_server_id: 1,
            lifetime: 86_400,
            binding: "U".to_owned(),
            notification_storing: true,
            write_time: false,
            verify: false,
            retry: Retry::default(),
            allow_nosec: false,
        }
    }
}

/// Every credential of every device.
pub struct Credentials {
    pub(super) store: Arc<dyn Store>,
    settings: RwLock<Arc<Settings>>,
    trust: RwLock<Arc<DeviceTrust>>,
    server_keys: RwLock<HashMap<Role, Arc<ServerPublic>>>,
    /// The day on which the log was last told of the server's own certificates and anchors.
    told_of_own: AtomicU64,
    index: RwLock<Index>,
    /// Held from reading a record to showing the changed one.
    turn: Mutex<()>,
    events: broadcast::Sender<CredentialEvent>,
    /// Of devices whose bootstraps do what an application says.
    pub(super) steps: RwLock<HashMap<String, Vec<BootstrapStep>>>,
    pub(super) profiles: RwLock<Arc<Profiles>>,
}

/// What is known without reading the store.
#[derive(Default)]
pub(super) struct Index {
    pub(super) devices: HashMap<Arc<str>, Arc<Device>>,
    subjects: HashMap<(Role, Subject), (Arc<str>, u32)>,
    /// The OSCORE contexts among them, in order: those of one kid stand together.
    contexts: BTreeSet<(Role, ContextId)>,
    /// Devices that a tick may change.
    timed: HashSet<Arc<str>>,
    /// When certificates of devices are to be told of.
    expiring: BTreeSet<(u64, Arc<str>)>,
}

impl Index {
    fn show(&mut self, device: Device) {
        let endpoint: Arc<str> = match self.devices.get_key_value(device.endpoint.as_str()) {
            Some((endpoint, _)) => Arc::clone(endpoint),
            None => device.endpoint.as_str().into(),
        };
        for role in Role::ALL {
            for credential in device.account(role).into_iter().flat_map(|account| &account.credentials) {
                let within = credential.within.clone().map(Subject::Oscore);
                for subject in
                    within.iter().chain([&credential.subject]).filter(|subject| subject.is_unique())
                {
                    if let Subject::Oscore(id) = subject {
                        self.contexts.insert((role, id.clone()));
                    }
                    // A key that a device kept, and uses again, is that of its newest credential.
                    let owner = (Arc::clone(&endpoint), credential.generation);
                    let known = self.subjects.entry((role, subject.clone())).or_insert(owner.clone());
                    if known.0 == owner.0 {
                        *known = owner;
                    }
                }
            }
        }
        if let Some(at) = self.devices.get(&endpoint).and_then(|former| former.warn_at_ms()) {
            self.expiring.remove(&(at, Arc::clone(&endpoint)));
        }
        if let Some(at) = device.warn_at_ms() {
            self.expiring.insert((at, Arc::clone(&endpoint)));
        }
        if device.has_timer() {
            self.timed.insert(Arc::clone(&endpoint));
        } else {
            self.timed.remove(&endpoint);
        }
        self.devices.insert(endpoint, Arc::new(device));
    }
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

/// OSCORE contexts of one kid that are looked at: some may be retired.
const LOOKED_AT: usize = 16;

/// Devices that one tick tells of: each is a write, and a whole fleet may end on the same day.
const MOST_WARNED: usize = 100;

/// Steps of one tick that may fail before the store is taken for broken until the next one.
const MOST_FAILED: usize = 8;

impl Credentials {
    /// Reads every device from the store.
    ///
    /// Pending triggers come out of the next [`Fact::Tick`] again.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn open(store: Arc<dyn Store>, settings: Settings) -> Result<Self, StoreError> {
        let mut index = Index::default();
        for device in store.devices()? {
            index.show(device);
        }
        let profiles = store.profiles()?;
        Ok(Self {
            store,
            settings: RwLock::new(Arc::new(settings)),
            trust: RwLock::default(),
            server_keys: RwLock::default(),
            told_of_own: AtomicU64::new(0),
            index: RwLock::new(index),
            turn: Mutex::new(()),
            events: broadcast::channel(EVENTS).0,
            steps: RwLock::default(),
            profiles: RwLock::new(Arc::new(profiles)),
        })
    }

    /// What bootstraps write and whether plain coap is open.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what bootstraps write from now on: a server may know its port only after it was bound.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// The authorities that issue certificates of devices; none unless [set](Self::set_trust).
    #[must_use]
    pub fn trust(&self) -> Arc<DeviceTrust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Trusts these authorities from now on, and no others. Sessions that are established go on until they are asked about:
    /// [`admit`](Self::admit).
    pub fn set_trust(&self, trust: DeviceTrust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }

    /// The public parts of the server's own key; none unless [set](Self::set_server_keys).
    #[must_use]
    pub fn server_keys(&self, role: Role) -> Arc<ServerPublic> {
        let keys = self.server_keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&role).map(Arc::clone).unwrap_or_default()
    }

    /// Tells what bootstraps write of the server's own key from now on: that of [`Role::Management`].
    pub fn set_server_keys(&self, role: Role, keys: ServerPublic) {
        self.server_keys.write().unwrap_or_else(PoisonError::into_inner).insert(role, Arc::new(keys));
    }

    /// Finds the key for a handshake.
    ///
    /// # Errors
    /// Why the identity is refused; the peer must not learn it.
    pub fn look_up(&self, role: Role, identity: &[u8]) -> Result<Secret, Refusal> {
        let identity = Identity::new(identity).map_err(|_| Refusal::UnknownIdentity)?;
        let (endpoint, generation) = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            let (endpoint, generation) =
                index.subjects.get(&(role, Subject::Psk(identity))).ok_or(Refusal::UnknownIdentity)?;
            index.devices.get(endpoint).ok_or(Refusal::UnknownEndpoint)?.accepts(role, *generation)?;
            (Arc::clone(endpoint), *generation)
        };
        match self.store.secret(&endpoint, role, generation) {
            Ok(Some(kept)) => {
                let key = kept.psk().ok_or(Refusal::Store)?.clone();
                Ok(Secret { key, who: Authenticated::new(endpoint, role, generation) })
            }
            // Retired between the two look-ups.
            Ok(None) => Err(Refusal::Retired),
            Err(_) => Err(Refusal::Store),
        }
    }

    /// The contexts with this kid, the first of them.
    pub(super) fn contexts_of(&self, role: Role, kid: &oscore::KeyId) -> Vec<ContextId> {
        let first = (role, ContextId { kid: *kid, id_context: None });
        self.read_index(|index| {
            let all = index.contexts.range(first..).map(|(of, id)| (*of, id));
            let same = all.take_while(|(of, id)| *of == role && id.kid == *kid);
            same.take(LOOKED_AT).map(|(_, id)| id.clone()).collect()
        })
    }

    /// Whether a session of this credential may go on: when it was taken up again, at Bootstrap-Request, and at the first message of a
    /// minute if a certificate opened it.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, now_ms: u64, who: &Authenticated) -> Result<(), Refusal> {
        self.device(&who.endpoint).ok_or(Refusal::UnknownEndpoint)?.accepts(who.role, who.generation)?;
        who.validity.as_ref().map_or(Ok(()), |validity| self.trust().still_holds(now_ms, validity))
    }

    /// Whether a device may register over a session of this credential.
    ///
    /// # Errors
    /// Why not; [`Refusal::Withheld`] leaves the session as it is.
    pub fn may_register(&self, now_ms: u64, who: &Authenticated) -> Result<(), Refusal> {
        self.admit(now_ms, who)?;
        match self.device(&who.endpoint) {
            Some(device) if device.is_withheld() => Err(Refusal::Withheld),
            _ => Ok(()),
        }
    }

    /// Whether an endpoint may come without security.
    ///
    /// # Errors
    /// Why not: closed by default, and always for a device that has a credential.
    pub fn admit_without_security(&self, role: Role, endpoint: &str) -> Result<(), Refusal> {
        let _ = role;
        let settings = self.settings();
        match self.device(endpoint) {
            None if settings.allow_nosec => Ok(()),
            None => Err(Refusal::NoSecClosed),
            Some(device) => {
                device.is_held()?;
                if device.has_credential() {
                    Err(Refusal::HasCredential)
                } else if device.allow_nosec || settings.allow_nosec {
                    Ok(())
                } else {
                    Err(Refusal::NoSecClosed)
                }
            }
        }
    }

    /// Takes in what happened and returns what has to be done now that it is stored.
    ///
    /// A tick goes on past a device whose step could not be stored; the next one tries that again.
    ///
    /// # Errors
    /// When the step of a device could not be stored; nothing changed then.
    pub fn report(&self, now_ms: u64, fact: &Fact) -> Result<Vec<Command>, StoreError> {
        let endpoints: Vec<Arc<str>> = match fact.endpoint() {
            Some(endpoint) => vec![Arc::clone(endpoint)],
            None => {
                self.warn_of_own(now_ms);
                self.read_index(|index| {
                    let expiring = index.expiring.iter().take_while(|(at, _)| *at <= now_ms);
                    let expiring = expiring.map(|(_, endpoint)| endpoint).take(MOST_WARNED);
                    let due: HashSet<&Arc<str>> = index.timed.iter().chain(expiring).collect();
                    due.into_iter().cloned().collect()
                })
            }
        };
        let mut commands = Vec::new();
        let mut failed = 0_usize;
        for (done, endpoint) in endpoints.iter().enumerate() {
            let turn = self.take_turn();
            // Facts about devices that nobody enrolled (plain coap) concern no credential.
            let Some(device) = self.device(endpoint) else { continue };
            let mut changed = (*device).clone();
            let outcome = changed.step(now_ms, fact);
            if *device == changed && outcome.commands.is_empty() && !outcome.durable {
                continue;
            }
            let is_tick = matches!(fact, Fact::Tick);
            let actor = if is_tick { "server" } else { "device" };
            match self.keep(&turn, now_ms, actor, changed, outcome, &[]) {
                Ok(more) => commands.extend(more),
                // What others have to do was stored: their old sessions must end.
                Err(error) if is_tick => {
                    tracing::error!(%error, %endpoint, "a step could not be stored");
                    failed = failed.saturating_add(1);
                    if failed >= MOST_FAILED {
                        let left = endpoints.len().saturating_sub(done).saturating_sub(1);
                        tracing::error!(left, "the store fails: the other steps wait for the next tick");
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(commands)
    }

    /// Anchors, and certificates of the server, that end within 30 days or have ended, and revocation lists that have to be
    /// renewed within a day, in words.
    #[must_use]
    pub fn expiring(&self, now_ms: u64) -> Vec<String> {
        let trust = self.trust();
        let own = Role::ALL.map(|role| self.server_keys(role));
        let own = own.iter().flat_map(|keys| [&keys.certificate, &keys.anchor]).flatten();
        let mut ending: Vec<String> = own
            .filter_map(|der| Certificate::parse(der))
            .map(|own| (own, "devices expect it of this server"))
            .chain(trust.authorities().iter().cloned().map(|anchor| (anchor, "devices are trusted by it")))
            .filter(|(each, _)| each.not_after.saturating_mul(1000).saturating_sub(WARN_BEFORE_MS) <= now_ms)
            .map(|(each, what)| format!("{each} ends at {}, and {what}", date::utc(each.not_after)))
            .chain(trust.lists_due(now_ms))
            .collect();
        ending.sort_unstable();
        ending.dedup();
        ending
    }

    /// Tells the log of them, once a day.
    fn warn_of_own(&self, now_ms: u64) {
        let day = now_ms / 86_400_000;
        if self.told_of_own.swap(day, Ordering::Relaxed) != day {
            for ending in self.expiring(now_ms) {
                tracing::warn!("{ending}");
            }
        }
    }

    /// Every lifecycle step from now on, each after it was stored.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<CredentialEvent> {
        self.events.subscribe()
    }

    /// The record of a device.
    #[must_use]
    pub fn device(&self, endpoint: &str) -> Option<Arc<Device>> {
        self.read_index(|index| index.devices.get(endpoint).cloned())
    }

    /// What is kept of a credential besides its record: not to be shown as it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kept(&self, endpoint: &str, role: Role, generation: u32) -> Result<Option<Kept>, StoreError> {
        self.store.secret(endpoint, role, generation)
    }

    /// Every record, by endpoint name.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.read_index(|index| index.devices.values().cloned().collect());
        devices.sort_unstable_by(|one, other| one.endpoint.cmp(&other.endpoint));
        devices
    }

    /// At most `limit` audit rows of one device or of all, oldest first: those after a sequence number, else the newest.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn audit(
        &self,
        endpoint: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.store.audit(endpoint, after, limit)
    }

    /// The same of the devices of a scope, and the number of the last row that was looked at.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError> {
        self.store.audit_within(scope, after, limit)
    }

    /// Appends an audit row about what an operator did with a device.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(
        &self,
        now_ms: u64,
        actor: &str,
        endpoint: &str,
        what: &'static str,
        detail: String,
    ) -> Result<(), StoreError> {
        let happened = Happened { role: None, generation: None, what, detail };
        self.store.note(actor, now_ms, Some(endpoint), &happened)
    }

    /// Whether the store takes changes.
    ///
    /// # Errors
    /// What is in the way.
    pub fn is_writable(&self) -> Result<(), StoreError> {
        self.store.is_writable()
    }

    /// A copy of all that is stored, as [`Store::backup`] makes it.
    ///
    /// # Errors
    /// When something cannot be read, or the copy cannot be written.
    pub fn backup(&self, now_ms: u64, actor: &str) -> Result<(File, Backup), StoreError> {
        self.store.backup(now_ms, actor)
    }

    /// Whom a subject belongs to, whatever its standing.
    pub(super) fn owner(&self, role: Role, subject: &Subject) -> Option<(Arc<str>, u32)> {
        self.read_index(|index| index.subjects.get(&(role, subject.clone())).cloned())
    }

    pub(super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a changed record if that is called for, shows it, and turns the outcome into commands.
    pub(super) fn keep(
        &self,
        turn: &MutexGuard<'_, ()>,
        now_ms: u64,
        actor: &str,
        changed: Device,
        outcome: Outcome,
        secrets: &[(Role, u32, &Kept)],
    ) -> Result<Vec<Command>, StoreError> {
        self.keep_with(turn, now_ms, actor, changed, outcome, (secrets, None))
    }

    /// The same with the secret variables of its profile, where they change.
    pub(super) fn keep_with(
        &self,
        _turn: &MutexGuard<'_, ()>,
        now_ms: u64,
        actor: &str,
        mut changed: Device,
        outcome: Outcome,
        (secrets, variables): (&[(Role, u32, &Kept)], Option<&Secrets>),
    ) -> Result<Vec<Command>, StoreError> {
        if outcome.durable {
            changed.version = changed.version.saturating_add(1);
            let forget: Vec<(Role, u32)> = Role::ALL
                .into_iter()
                .flat_map(|role| changed.account(role).into_iter().map(move |account| (role, account)))
                .flat_map(|(role, account)| {
                    let unused =
                        account.credentials.iter().filter(|each| each.standing != Standing::Accepted);
                    unused.map(move |each| (role, each.generation))
                })
                .collect();
            self.store.commit(&Change {
                device: &changed,
                secrets,
                forget: &forget,
                variables,
                actor,
                now_ms,
                happened: &outcome.happened,
            })?;
        }
        let endpoint: Arc<str> = changed.endpoint.as_str().into();
        self.index.write().unwrap_or_else(PoisonError::into_inner).show(changed);
        for happened in outcome.happened {
            // Nobody may be listening.
            let _ = self.events.send(CredentialEvent { endpoint: Arc::clone(&endpoint), happened });
        }
        Ok(outcome.commands)
    }

    pub(super) fn read_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}
