//! Definitions of objects that were added to a running server, as the XML that was given.

use lwm2m_objects::Version;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use super::StoreError;
use super::redb::RedbStore;
use crate::credentials::Happened;

/// (object, major, minor version) → XML.
pub(super) const MODELS: TableDefinition<'_, (u16, u8, u8), &[u8]> = TableDefinition::new("models");

impl RedbStore {
    pub(super) fn open_models(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(MODELS)).map(drop)
    }

    pub(super) fn read_models(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(MODELS))?;
        let mut models = Vec::new();
        for entry in self.fits(table.iter())? {
            models.push(self.fits(entry)?.1.value().to_vec());
        }
        Ok(models)
    }

    pub(super) fn write_model(
        &self,
        actor: &str,
        now_ms: u64,
        (object, Version { major, minor }): (u16, Version),
        xml: &[u8],
    ) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        let former = {
            let mut table = self.fits(transaction.open_table(MODELS))?;
            self.fits(table.insert((object, major, minor), xml))?.is_some()
        };
        let what = if former { "object definition replaced" } else { "object definition added" };
        let detail = format!("object {object} version {major}.{minor}");
        let happened = Happened { role: None, generation: None, what, detail };
        self.append(&transaction, actor, now_ms, None, &[happened])?;
        self.fits(transaction.commit())
    }
}
