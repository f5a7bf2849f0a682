//! Bootstrap profiles, a row for each version, and the secret variables of devices, sealed.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError, WriteTransaction};

use super::StoreError;
use super::redb::RedbStore;
use crate::credentials::Happened;
use crate::profiles::{Profiles, Secrets, Version};

/// (name, version) → what it says.
pub(super) const PROFILES: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("profiles");
/// Endpoint → nonce, ciphertext, tag of all of its secret variables.
pub(super) const VARIABLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("variables");

impl RedbStore {
    pub(super) fn open_profiles(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(PROFILES))?;
        self.fits(transaction.open_table(VARIABLES)).map(drop)
    }

    pub(super) fn read_profiles(&self) -> Result<Profiles, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let mut profiles = Profiles::default();
        let table = match transaction.open_table(PROFILES) {
            // A store or backup of a server that had none.
            Err(TableError::TableDoesNotExist(_)) => return Ok(profiles),
            table => self.fits(table)?,
        };
        for entry in self.fits(table.iter())? {
            let (key, record) = self.fits(entry)?;
            let (name, number) = key.value();
            let version = Version::parse(number, record.value())
                .map_err(|what| self.corrupt(format!("version {number} of the profile {name}: {what}")))?;
            profiles.add(name, version);
        }
        Ok(profiles)
    }

    pub(super) fn write_profile(
        &self,
        actor: &str,
        now_ms: u64,
        (name, version): (&str, u32),
        record: &[u8],
    ) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.fits(self.fits(transaction.open_table(PROFILES))?.insert((name, version), record))?;
        let detail = format!("{name} version {version}");
        let made = Happened { role: None, generation: None, what: "profile made", detail };
        self.append(&transaction, actor, now_ms, None, &[made])?;
        self.fits(transaction.commit())
    }

    pub(super) fn delete_profile(&self, actor: &str, now_ms: u64, name: &str) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        {
            let mut table = self.fits(transaction.open_table(PROFILES))?;
            self.fits(table.retain_in((name, 0)..=(name, u32::MAX), |_, _| false))?;
        }
        let detail = name.to_owned();
        let removed = Happened { role: None, generation: None, what: "profile removed", detail };
        self.append(&transaction, actor, now_ms, None, &[removed])?;
        self.fits(transaction.commit())
    }

    pub(super) fn read_variables(&self, endpoint: &str) -> Result<Secrets, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(VARIABLES))?;
        let Some(sealed) = self.fits(table.get(endpoint))? else { return Ok(Secrets::default()) };
        let opened = self.sealer.open_variables(endpoint, sealed.value());
        opened.ok_or_else(|| self.corrupt(format!("the sealed variables of {endpoint} do not open")))
    }

    /// Writes them in the place of former ones; none leave nothing behind.
    pub(super) fn write_variables(
        &self,
        transaction: &WriteTransaction,
        endpoint: &str,
        secrets: &Secrets,
    ) -> Result<(), StoreError> {
        let mut table = self.fits(transaction.open_table(VARIABLES))?;
        if secrets.is_empty() {
            self.fits(table.remove(endpoint))?;
        } else {
            let sealed = self.sealer.seal_variables(endpoint, secrets)?;
            self.fits(table.insert(endpoint, sealed.as_slice()))?;
        }
        Ok(())
    }
}
