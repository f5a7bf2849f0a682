//! Reading a store or a backup whole, without a server: whether each record can be read, each key opens, and the audit log is the one
//! that was written.
//!
//! Invariant: the file is not changed; a copy of it is read, which is gone afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableError,
};

use super::audit::AUDIT_BY_DEVICE;
use super::backup::{Backup, copy_private};
use super::profiles::VARIABLES;
use super::redb::{DEVICES, META, RedbStore, SECRETS, TICKETS, role_byte};
use super::reservations::RESERVATIONS;
use super::seal::Sealer;
use super::{Store as _, StoreError};
use super::{campaigns, observations, requests};
use crate::credentials::{Device, Mode, Role, Standing};

/// What was found to be whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The backup, if it is one.
    pub backup: Option<Backup>,
    /// Records of devices.
    pub devices: u64,
    /// Sealed keys, each of which opens where the secrets key was given.
    pub secrets: u64,
    /// Queued requests, ended ones too.
    pub requests: u64,
    /// Lasting observations.
    pub observations: u64,
    /// Object definitions.
    pub models: u64,
    /// Campaigns, ended ones too.
    pub campaigns: u64,
    /// Groups.
    pub groups: u64,
    /// Versions of bootstrap profiles.
    pub profiles: u64,
    /// Tokens.
    pub tokens: u64,
    /// Reservations of OSCORE contexts.
    pub contexts: u64,
    /// Rows of the audit log.
    pub audit: u64,
    /// The hash of the last one.
    pub hash: String,
}

/// Reads the file of a store or of a backup. Without the secrets key nothing sealed is opened. Who wrote down the number and hash of an
/// audit row, as a backup has them, is told whether the log still has it.
///
/// What was written last before a crash and is damaged cannot be told from what was not written to its end: like a start of the server
/// this reads what was there before. A row that was written down shows it.
///
/// # Errors
/// [`StoreError::Corrupt`] with the first thing that is not as it was written; a key that does not fit; a file that cannot be read, or
/// copied beside itself.
pub fn verify(
    path: &Path,
    sealer: Option<&Sealer>,
    written_down: Option<(u64, &str)>,
) -> Result<Verified, StoreError> {
    let copy = Copy::of(path)?;
    // What is damaged is named by reading it; its checksums tell that something is.
    let walked = std::panic::catch_unwind(|| {
        let database = Database::builder().set_cache_size(64 << 20).open(&copy.0).map_err(redb::Error::from);
        let opens = sealer.is_some();
        let sealer = sealer.cloned().map_or_else(|| Sealer::new(&[0; 32], "nowhere"), Ok)?;
        let store = RedbStore::of(database, path, sealer)?;
        // What a former schema does not have is no damage.
        store.complete()?;
        store.walk(opens, written_down)
    });
    let walked = walked.unwrap_or_else(|_| {
        Err(StoreError::Corrupt { path: path.to_owned(), what: "its pages do not fit together".to_owned() })
    });
    walked.and_then(|verified| RedbStore::whole(&copy.0, path).map(|_| verified))
}

/// A copy that is gone afterwards.
struct Copy(PathBuf);

impl Copy {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.verify", std::process::id()));
        let copy = Self(name.into());
        copy_private(path, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl RedbStore {
    fn walk(&self, opens: bool, written_down: Option<(u64, &str)>) -> Result<Verified, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let mut verified = Verified { backup: self.backup_of(&transaction)?, ..Verified::default() };
        self.walk_meta(&transaction, opens)?;
        let devices: BTreeMap<String, Device> =
            self.devices()?.into_iter().map(|device| (device.endpoint.clone(), device)).collect();
        for entry in self.fits(self.fits(transaction.open_table(DEVICES))?.iter())? {
            let name = self.fits(entry)?.0.value().to_owned();
            if !devices.contains_key(&name) {
                return Err(self.corrupt(format!("the record of {name} is that of another device")));
            }
        }
        verified.devices = count(devices.len());
        verified.secrets = self.walk_secrets(&transaction, &devices, opens)?;
        verified.requests = self.walk_requests(&transaction, opens)?;
        verified.observations = self.walk_intents()?;
        verified.models = count(self.read_models()?.len());
        (verified.campaigns, verified.groups) = self.walk_campaigns(opens)?;
        verified.profiles = self.walk_profiles(&transaction, &devices, opens)?;
        verified.tokens = count(self.tokens()?.len());
        verified.contexts = self.walk_reservations(&transaction)?;
        (verified.audit, verified.hash) = self.walk_audit(&transaction, written_down)?;
        Ok(verified)
    }

    fn walk_meta(&self, transaction: &ReadTransaction, opens: bool) -> Result<(), StoreError> {
        let meta = self.fits(transaction.open_table(META))?;
        if opens {
            self.check_key(&meta)?;
            if let Some(sealed) = self.fits(meta.get(TICKETS))? {
                self.opened_root(sealed.value())?;
            }
        }
        for last in [requests::LAST, observations::LAST, campaigns::LAST] {
            let known = self.fits(meta.get(last))?;
            if known.is_some_and(|known| known.value().len() != size_of::<u64>()) {
                return Err(self.corrupt(format!("the {last} is no number")));
            }
        }
        Ok(())
    }

    fn walk_secrets(
        &self,
        transaction: &ReadTransaction,
        devices: &BTreeMap<String, Device>,
        opens: bool,
    ) -> Result<u64, StoreError> {
        let table = self.fits(transaction.open_table(SECRETS))?;
        let mut secrets = 0_u64;
        for entry in self.fits(table.iter())? {
            let (key, _) = self.fits(entry)?;
            let (endpoint, byte, generation) = key.value();
            let role = Role::ALL.into_iter().find(|role| role_byte(*role) == byte);
            let credential = devices
                .get(endpoint)
                .zip(role)
                .and_then(|(device, role)| device.account(role)?.credential(generation));
            let Some(role) = role.filter(|_| credential.is_some()) else {
                return Err(self.corrupt(format!(
                    "there is a sealed key {generation} of {endpoint} that no credential has"
                )));
            };
            if opens {
                self.secret(endpoint, role, generation)?;
            }
            secrets = secrets.saturating_add(1);
        }
        for (endpoint, device) in devices {
            for role in Role::ALL {
                let accounts = device.account(role).into_iter().flat_map(|account| &account.credentials);
                for credential in accounts.filter(|each| each.standing == Standing::Accepted) {
                    let generation = credential.generation;
                    let needs_one = matches!(credential.subject.mode(), Mode::Psk | Mode::Oscore)
                        || credential.within.is_some();
                    let key = self.fits(table.get((endpoint.as_str(), role_byte(role), generation)))?;
                    if needs_one && key.is_none() {
                        return Err(self.corrupt(format!(
                            "the sealed {role} key {generation} of {endpoint} is missing"
                        )));
                    }
                }
            }
        }
        Ok(secrets)
    }

    fn walk_requests(&self, transaction: &ReadTransaction, opens: bool) -> Result<u64, StoreError> {
        let table = self.fits(transaction.open_table(requests::HEADS))?;
        let mut requests = 0_u64;
        for entry in self.fits(table.iter())? {
            let (key, head) = self.fits(entry)?;
            let (endpoint, id) = key.value();
            self.head(endpoint, id, head.value())?;
            if opens && self.read_requests(endpoint, id..=id)?.iter().any(|request| request.is_damaged) {
                return Err(self.corrupt(format!("request {id} of {endpoint} does not open")));
            }
            requests = requests.saturating_add(1);
        }
        Ok(requests)
    }

    /// Each version, and that each device has what the one that it follows needs.
    fn walk_profiles(
        &self,
        transaction: &ReadTransaction,
        devices: &BTreeMap<String, Device>,
        opens: bool,
    ) -> Result<u64, StoreError> {
        let profiles = self.read_profiles()?;
        let table = match transaction.open_table(VARIABLES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(0),
            table => self.fits(table)?,
        };
        for (endpoint, assigned) in
            devices.iter().filter_map(|(name, device)| Some((name, device.assigned.as_ref()?)))
        {
            if profiles.find(&assigned.name, Some(assigned.version)).is_none() {
                let (name, version) = (&assigned.name, assigned.version);
                return Err(
                    self.corrupt(format!("the profile {name} version {version} of {endpoint} is missing"))
                );
            }
            let is_sealed = self.fits(table.get(endpoint.as_str()))?.is_some();
            let is_same = !opens || self.variables(endpoint)?.names().eq(&assigned.secrets);
            if is_sealed == assigned.secrets.is_empty() || !is_same {
                return Err(
                    self.corrupt(format!("the secret variables of {endpoint} are not those of its record"))
                );
            }
        }
        for entry in self.fits(table.iter())? {
            let (endpoint, _) = self.fits(entry)?;
            let owner = devices.get(endpoint.value()).and_then(|device| device.assigned.as_ref());
            if owner.is_none() {
                let name = endpoint.value();
                return Err(self.corrupt(format!("there are secret variables of {name} that no profile has")));
            }
        }
        Ok(count(profiles.iter().map(|(_, versions)| versions.len()).sum()))
    }

    fn walk_reservations(&self, transaction: &ReadTransaction) -> Result<u64, StoreError> {
        let mut contexts = 0_u64;
        for entry in self.fits(self.fits(transaction.open_table(RESERVATIONS))?.iter())? {
            self.reservation(self.fits(entry)?.1.value())?;
            contexts = contexts.saturating_add(1);
        }
        Ok(contexts)
    }

    fn walk_intents(&self) -> Result<u64, StoreError> {
        let (mut observations, mut after) = (0_u64, None);
        loop {
            let devices = self.read_observed(after.as_deref(), 256)?;
            let Some(last) = devices.last().cloned() else { return Ok(observations) };
            for endpoint in &devices {
                observations = observations.saturating_add(count(self.read_intents(endpoint)?.len()));
            }
            after = Some(last);
        }
    }

    /// The chain from row to row, and that each row is found by its device.
    fn walk_audit(
        &self,
        transaction: &ReadTransaction,
        written_down: Option<(u64, &str)>,
    ) -> Result<(u64, String), StoreError> {
        let by_device = self.fits(transaction.open_table(AUDIT_BY_DEVICE))?;
        let mut of_devices = 0_u64;
        let last = self.chain(transaction, |row| {
            if written_down.is_some_and(|(seq, hash)| seq == row.seq && hash != row.hash) {
                return Err(
                    self.corrupt(format!("audit row {} is not the one that was written down", row.seq))
                );
            }
            let Some(endpoint) = row.endpoint.as_deref() else { return Ok(()) };
            of_devices = of_devices.saturating_add(1);
            match self.fits(by_device.get((endpoint, row.seq)))? {
                Some(_) => Ok(()),
                None => Err(self.corrupt(format!("audit row {} is not among those of {endpoint}", row.seq))),
            }
        })?;
        if let Some((seq, _)) = written_down.filter(|(seq, _)| *seq > last.0) {
            return Err(self.corrupt(format!("the audit log ends with row {}, and had row {seq}", last.0)));
        }
        if self.fits(by_device.len())? != of_devices {
            return Err(self.corrupt("rows of devices are missing in the audit log"));
        }
        Ok(last)
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
