//! The embedded store: one redb file in the data folder.
//!
//! Invariants: each method is one transaction; a commit is durable when it returns; two servers never share a folder (a
//! lock file is held as long as the store is open); the schema version is checked before anything else is read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lwm2m_objects::Version;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, WriteTransaction,
};

use zeroize::Zeroizing;

use super::audit::AuditRow;
use super::backup::Backup;
use super::seal::{Sealer, beside, sync_folder};
use super::{
    CampaignStore, Change, Heads, QueuedRequest, RequestChange, Reservation, Store, StoreError, TokenRecord,
};
use crate::ObservationId;
use crate::access::Scope;
use crate::credentials::{Device, Happened, Kept, Role, utc};
use crate::observations::{Intent, IntentChange, Intents, Wanted};
use crate::profiles::{Profiles, Secrets};

/// Version of the tables. Since 2 there are credentials that are no pre-shared keys, since 3 queued requests, since 4 object
/// definitions and lasting observations, since 5 OSCORE contexts, since 6 such inside DTLS, since 7 tokens of several roles, with scope and expiry, since 8
/// campaigns, groups and bootstrap profiles; what a former one wrote is read as it is.
const SCHEMA: u32 = 8;
/// Name of the store file in the data folder.
pub(super) const FILE: &str = "store.redb";

/// The entry of [`META`] with the root of the tickets.
pub(super) const TICKETS: &str = "tickets";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const DEVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("devices");
/// (endpoint, role, generation) → nonce, ciphertext, tag.
pub(super) const SECRETS: TableDefinition<'_, (&str, u8, u32), &[u8]> = TableDefinition::new("secrets");

/// The default [`Store`].
#[derive(Debug)]
pub struct RedbStore {
    pub(super) database: Database,
    pub(super) sealer: Sealer,
    path: PathBuf,
    /// Released when the store is dropped or the process ends.
    _lock: Option<File>,
}

impl RedbStore {
    /// The file of the store of a data folder.
    #[must_use]
    pub fn file(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// Whether a store exists in a data folder, whole or damaged.
    #[must_use]
    pub fn exists(data: &Path) -> bool {
        fs::symlink_metadata(data.join(FILE)).is_ok()
    }

    /// Takes the lock of a data folder, which [`open`](Self::open) needs; the folder is made when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another server holds it; [`StoreError::Io`] when the folder cannot be used.
    pub fn lock(data: &Path) -> Result<File, StoreError> {
        let io = |error| StoreError::Io { path: data.to_owned(), error };
        if !data.exists() {
            data.parent().map_or(Ok(()), fs::create_dir_all).map_err(io)?;
            DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(io)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(data.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(data.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Opens or makes the store of a data folder whose lock is held.
    ///
    /// # Errors
    /// A damaged file, a newer schema, a key that does not fit, or what the operating system said.
    pub fn open(data: &Path, lock: File, sealer: Sealer) -> Result<Self, StoreError> {
        let path = data.join(FILE);
        if !Self::exists(data) {
            make(&path)?;
        }
        let store = Self::open_file(&path, Some(lock), sealer)?;
        let backup = store.backup_of(&store.fits(store.database.begin_read())?)?;
        if let Some(backup) = backup {
            let made = utc(backup.made_ms / 1000);
            return Err(
                store.corrupt(format!("it is the backup of {made}: put it back by lwm2m-server restore"))
            );
        }
        Ok(store)
    }

    /// The same of any file of a store that is there.
    pub(super) fn open_file(path: &Path, lock: Option<File>, sealer: Sealer) -> Result<Self, StoreError> {
        // A copy that was put back may have been readable by others; one that is not ours cannot be changed, only used.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        let database = Self::whole(path, path)?;
        Self { database, sealer, path: path.to_owned(), _lock: lock }.checked()
    }

    /// Opens a file after all of its checksums were compared. What is wrong is told of the file called `name`.
    pub(super) fn whole(path: &Path, name: &Path) -> Result<Database, StoreError> {
        let corrupt = |what: String| StoreError::Corrupt { path: name.to_owned(), what };
        // redb repairs after an unclean end, but trusts pages after a clean one and panics when they do not fit together:
        // so every checksum is verified before anything is read.
        let opened = std::panic::catch_unwind(|| -> Result<(Database, bool), DatabaseError> {
            let mut database = Database::builder().set_cache_size(64 << 20).open(path)?;
            let is_whole = database.check_integrity()?;
            Ok((database, is_whole))
        });
        match opened {
            Ok(Ok((database, true))) => Ok(database),
            Ok(Ok((_, false))) => Err(corrupt("a checksum does not fit".to_owned())),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(StoreError::Locked(name.parent().unwrap_or(name).to_owned()))
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Err(StoreError::Io { path: name.to_owned(), error })
            }
            Ok(Err(error)) => Err(corrupt(error.to_string())),
            Err(_) => Err(corrupt("its pages do not fit together".to_owned())),
        }
    }

    /// What is in a file, whatever its schema and key.
    pub(super) fn of(
        database: Result<Database, redb::Error>,
        path: &Path,
        sealer: Sealer,
    ) -> Result<Self, StoreError> {
        let damaged =
            |error: redb::Error| StoreError::Corrupt { path: path.to_owned(), what: error.to_string() };
        Ok(Self { database: database.map_err(damaged)?, sealer, path: path.to_owned(), _lock: None })
    }

    /// The folder of the store; of one in memory that for temporary files.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.map_or_else(std::env::temp_dir, Path::to_owned)
    }

    /// A store without a file, for tests and simulations.
    ///
    /// # Errors
    /// None in practice.
    pub fn in_memory(sealer: Sealer) -> Result<Self, StoreError> {
        let path = PathBuf::from("(memory)");
        let database = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .map_err(|error| StoreError::Corrupt { path: path.clone(), what: error.to_string() })?;
        Self { database, sealer, path, _lock: None }.checked()
    }

    /// Checks schema and key, or sets both in a new store.
    fn checked(self) -> Result<Self, StoreError> {
        let transaction = self.begin()?;
        {
            let mut meta = self.fits(transaction.open_table(META))?;
            match self.schema(&meta)? {
                None => {
                    self.fits(meta.insert("schema", SCHEMA.to_be_bytes().as_slice()))?;
                    self.fits(meta.insert("check", self.sealer.check_value()?.as_slice()))?;
                }
                Some(found) => {
                    self.check_key(&meta)?;
                    if found < SCHEMA {
                        self.fits(meta.insert("schema", SCHEMA.to_be_bytes().as_slice()))?;
                    }
                }
            }
            self.make_tables(&transaction)?;
        }
        self.fits(transaction.commit())?;
        Ok(self)
    }

    /// Makes the tables, so that reading one never has to.
    fn make_tables(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(DEVICES))?;
        self.fits(transaction.open_table(SECRETS))?;
        self.open_audit(transaction)?;
        self.open_tokens(transaction)?;
        self.open_requests(transaction)?;
        self.open_models(transaction)?;
        self.open_profiles(transaction)?;
        self.open_observations(transaction)?;
        self.open_reservations(transaction)?;
        self.open_campaigns(transaction)
    }

    /// Adds the tables that a former schema does not have, to a copy that is only read otherwise.
    pub(super) fn complete(&self) -> Result<(), StoreError> {
        let found = {
            let transaction = self.fits(self.database.begin_read())?;
            let meta = self.fits(transaction.open_table(META))?;
            self.schema(&meta)?
        };
        match found {
            None => Err(self.corrupt("it has no schema version")),
            Some(SCHEMA) => Ok(()),
            Some(_) => {
                let transaction = self.begin()?;
                self.make_tables(&transaction)?;
                self.fits(transaction.commit())
            }
        }
    }

    /// The version of its tables; `None` of a new store.
    fn schema(
        &self,
        meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<u32>, StoreError> {
        let Some(bytes) = self.fits(meta.get("schema"))? else { return Ok(None) };
        let found = <[u8; 4]>::try_from(bytes.value())
            .map(u32::from_be_bytes)
            .map_err(|_| self.corrupt("its schema version is no number"))?;
        if found > SCHEMA {
            return Err(StoreError::NewerSchema { found, known: SCHEMA });
        }
        Ok(Some(found))
    }

    /// Whether the secrets key is the one that this store was made with.
    pub(super) fn check_key(
        &self,
        meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<(), StoreError> {
        let check = self.fits(meta.get("check"))?;
        let check = check.ok_or_else(|| self.corrupt("it has no check value for the secrets key"))?;
        self.sealer.check(check.value())
    }

    /// The root of the tickets.
    pub(super) fn opened_root(&self, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let opened = self.sealer.open_named(TICKETS, sealed);
        opened.ok_or_else(|| self.corrupt("the sealed root of the tickets does not open"))
    }

    /// What is kept of a credential.
    pub(super) fn opened(
        &self,
        (endpoint, role, generation): (&str, Role, u32),
        sealed: &[u8],
    ) -> Result<Kept, StoreError> {
        let kept = self.sealer.open(endpoint, role, generation, sealed);
        kept.ok_or_else(|| {
            self.corrupt(format!("the sealed {role} key {generation} of {endpoint} does not open"))
        })
    }

    pub(super) fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.fits(self.database.begin_write())?;
        self.fits(transaction.set_durability(Durability::Immediate))?;
        Ok(transaction)
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), what: what.into() }
    }

    pub(super) fn fits<T, E: Into<redb::Error>>(&self, result: Result<T, E>) -> Result<T, StoreError> {
        result.map_err(|error| match error.into() {
            redb::Error::Io(error) => StoreError::Io { path: self.path.clone(), error },
            // What is stored may be whole.
            redb::Error::PreviousIo => {
                let error = std::io::Error::other("the store failed before: restart the server");
                StoreError::Io { path: self.path.clone(), error }
            }
            other => self.corrupt(other.to_string()),
        })
    }

    pub(super) fn parse<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        bytes: &[u8],
    ) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| self.corrupt(format!("{what}: {error}")))
    }

    pub(super) fn emit<T: serde::Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|error| self.corrupt(error.to_string()))
    }
}

impl Store for RedbStore {
    fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(DEVICES))?;
        let mut devices = Vec::new();
        for entry in self.fits(table.iter())? {
            let (endpoint, record) = self.fits(entry)?;
            devices.push(self.parse(&format!("the record of {}", endpoint.value()), record.value())?);
        }
        Ok(devices)
    }

    fn commit(&self, change: &Change<'_>) -> Result<(), StoreError> {
        let device = change.device;
        let endpoint = device.endpoint.as_str();
        let transaction = self.begin()?;
        {
            let mut devices = self.fits(transaction.open_table(DEVICES))?;
            let stored = self.fits(devices.get(endpoint))?.map(|record| record.value().to_vec());
            let stored: Option<Device> = match stored {
                None => None,
                Some(bytes) => Some(self.parse(&format!("the record of {endpoint}"), &bytes)?),
            };
            let (version, epoch) = stored.map_or((0, 0), |stored| (stored.version, stored.epoch));
            if epoch > device.epoch {
                return Err(StoreError::Fenced);
            }
            if device.version != version.saturating_add(1) {
                return Err(StoreError::Conflict);
            }
            self.fits(devices.insert(endpoint, self.emit(device)?.as_slice()))?;
            let mut secrets = self.fits(transaction.open_table(SECRETS))?;
            for (role, generation, kept) in change.secrets {
                let sealed = self.sealer.seal(endpoint, *role, *generation, kept)?;
                self.fits(secrets.insert((endpoint, role_byte(*role), *generation), sealed.as_slice()))?;
            }
            for (role, generation) in change.forget {
                self.fits(secrets.remove((endpoint, role_byte(*role), *generation)))?;
            }
        }
        self.append(&transaction, change.actor, change.now_ms, Some(endpoint), change.happened)?;
        let none = Secrets::default();
        let variables = change.variables.or(device.is_decommissioned().then_some(&none));
        if let Some(variables) = variables {
            self.write_variables(&transaction, endpoint, variables)?;
        }
        if device.is_decommissioned() {
            self.remove_intents(&transaction, change.actor, change.now_ms, endpoint)?;
        }
        self.fits(transaction.commit())
    }

    fn secret(&self, endpoint: &str, role: Role, generation: u32) -> Result<Option<Kept>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(SECRETS))?;
        let Some(sealed) = self.fits(table.get((endpoint, role_byte(role), generation)))? else {
            return Ok(None);
        };
        self.opened((endpoint, role, generation), sealed.value()).map(Some)
    }

    fn is_writable(&self) -> Result<(), StoreError> {
        self.fits(self.begin()?.abort())
    }

    fn ticket_root(&self) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let transaction = self.begin()?;
        let root = {
            let mut meta = self.fits(transaction.open_table(META))?;
            let sealed = self.fits(meta.get(TICKETS))?.map(|found| found.value().to_vec());
            match sealed {
                Some(sealed) => self.opened_root(&sealed)?,
                None => {
                    let root = self.sealer.random()?;
                    let sealed = self.sealer.seal_named(TICKETS, &root)?;
                    self.fits(meta.insert(TICKETS, sealed.as_slice()))?;
                    root
                }
            }
        };
        self.fits(transaction.commit())?;
        Ok(root)
    }

    fn expect_sessions(&self, file: &[u8; 16]) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.fits(self.fits(transaction.open_table(META))?.insert(SESSIONS, file.as_slice()))?;
        self.fits(transaction.commit())
    }

    fn consume_sessions(&self, file: Option<&[u8; 16]>) -> Result<bool, StoreError> {
        let transaction = self.begin()?;
        let is_expected = {
            let mut meta = self.fits(transaction.open_table(META))?;
            let expected = self.fits(meta.remove(SESSIONS))?;
            expected.is_some_and(|expected| file.is_some_and(|file| expected.value() == file.as_slice()))
        };
        self.fits(transaction.commit())?;
        Ok(is_expected)
    }

    fn note(
        &self,
        actor: &str,
        now_ms: u64,
        endpoint: Option<&str>,
        happened: &Happened,
    ) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.append(&transaction, actor, now_ms, endpoint, core::slice::from_ref(happened))?;
        self.fits(transaction.commit())
    }

    fn audit(
        &self,
        endpoint: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.read_audit(endpoint, after, limit)
    }

    fn audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError> {
        self.read_audit_within(scope, after, limit)
    }

    fn verify_audit(&self) -> Result<u64, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        self.chain(&transaction, |_| Ok(())).map(|(rows, _)| rows)
    }

    fn backup(&self, now_ms: u64, actor: &str) -> Result<(File, Backup), StoreError> {
        self.write_backup(now_ms, actor)
    }

    fn requests(&self) -> Result<(u64, Heads), StoreError> {
        self.read_heads()
    }

    fn put_requests(&self, now_ms: u64, changes: &[RequestChange]) -> Result<(), StoreError> {
        self.write_requests(now_ms, changes)
    }

    fn request(&self, endpoint: &str, id: u64) -> Result<Option<QueuedRequest>, StoreError> {
        Ok(self.read_requests(endpoint, id..=id)?.pop())
    }

    fn requests_of(&self, endpoint: &str) -> Result<Vec<QueuedRequest>, StoreError> {
        self.read_requests(endpoint, 0..=u64::MAX)
    }

    fn observations_of(&self, endpoint: &str) -> Result<Intents, StoreError> {
        self.read_intents(endpoint)
    }

    fn add_observation(
        &self,
        endpoint: &str,
        intent: &Intent,
        most: usize,
    ) -> Result<Option<Wanted>, StoreError> {
        self.insert_intent(endpoint, intent, most)
    }

    fn change_observations(
        &self,
        changes: &[(Arc<str>, ObservationId, IntentChange)],
    ) -> Result<usize, StoreError> {
        self.change_intents(changes)
    }

    fn observed(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>, StoreError> {
        self.read_observed(after, limit)
    }

    fn models(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read_models()
    }

    fn put_model(
        &self,
        actor: &str,
        now_ms: u64,
        object: (u16, Version),
        xml: &[u8],
    ) -> Result<(), StoreError> {
        self.write_model(actor, now_ms, object, xml)
    }

    fn profiles(&self) -> Result<Profiles, StoreError> {
        self.read_profiles()
    }

    fn put_profile(
        &self,
        actor: &str,
        now_ms: u64,
        name: &str,
        version: u32,
        record: &[u8],
    ) -> Result<(), StoreError> {
        self.write_profile(actor, now_ms, (name, version), record)
    }

    fn remove_profile(&self, actor: &str, now_ms: u64, name: &str) -> Result<(), StoreError> {
        self.delete_profile(actor, now_ms, name)
    }

    fn variables(&self, endpoint: &str) -> Result<Secrets, StoreError> {
        self.read_variables(endpoint)
    }

    fn reserve(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError> {
        self.write_reservations(reservations)
    }

    fn reserved(
        &self,
        fingerprint: &[u8; oscore::Parameters::FINGERPRINT],
    ) -> Result<Option<oscore::Saved>, StoreError> {
        self.read_reservation(fingerprint)
    }

    fn campaigns(&self) -> &dyn CampaignStore {
        self
    }

    fn tokens(&self) -> Result<Vec<([u8; 32], TokenRecord)>, StoreError> {
        self.read_tokens()
    }

    fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<(), StoreError> {
        self.insert_token(hash, token)
    }

    fn remove_token(&self, hash: &[u8; 32], actor: &str, now_ms: u64) -> Result<(), StoreError> {
        self.delete_token(hash, actor, now_ms)
    }
}

/// Makes an empty store that is complete or absent: what is cut short while it is written cannot be opened again, so it is
/// written beside, synced, then renamed.
fn make(path: &Path) -> Result<(), StoreError> {
    let io = |error| StoreError::Io { path: path.to_owned(), error };
    let beside = beside(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io)?;
    let made = Database::builder().create_file(file);
    drop(made.map_err(|error| io(std::io::Error::other(error.to_string())))?);
    let rename = || {
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path)
    };
    rename().map_err(io)
}

pub(super) fn role_byte(role: Role) -> u8 {
    match role {
        Role::Bootstrap => 0,
        Role::Management => 1,
    }
}
