//! How far the sequence numbers of OSCORE contexts are reserved, and under which keys (RFC 8613 Appendix B.1.1).
//!
//! Invariants: a batch is one durable transaction; numbers are reserved once, whichever contexts have their sender key in common; what is
//! written stays, also of a credential that is gone: should the same keys come back, no number of theirs comes twice.

use oscore::{Parameters, Saved};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use super::StoreError;
use super::redb::RedbStore;

/// Fingerprint → epoch of the writer, state.
pub(super) const RESERVATIONS: TableDefinition<'_, [u8; Parameters::FINGERPRINT], &[u8]> =
    TableDefinition::new("oscore");

/// The fencing epoch of this server.
const EPOCH: u64 = 1;

/// What storage has to have of a context before more can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Which context.
    pub fingerprint: [u8; Parameters::FINGERPRINT],
    /// How far, and under which keys.
    pub saved: Saved,
}

impl RedbStore {
    /// Makes the table, so that reading one never has to.
    pub(super) fn open_reservations(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(RESERVATIONS)).map(drop)
    }

    pub(super) fn write_reservations(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError> {
        let transaction = self.begin()?;
        let mut are_written = Vec::with_capacity(reservations.len());
        {
            let mut table = self.fits(transaction.open_table(RESERVATIONS))?;
            for Reservation { fingerprint, saved } in reservations {
                let former = self.fits(table.get(fingerprint))?;
                let former = former.map(|former| self.reservation(former.value())).transpose()?;
                if former.as_ref().is_some_and(|(epoch, _)| *epoch > EPOCH) {
                    return Err(StoreError::Fenced);
                }
                let follows = saved.follows(former.as_ref().map(|(_, former)| former));
                if follows {
                    self.fits(table.insert(fingerprint, row(saved).as_slice()))?;
                }
                are_written.push(follows);
            }
        }
        self.fits(transaction.commit())?;
        Ok(are_written)
    }

    pub(super) fn read_reservation(
        &self,
        fingerprint: &[u8; Parameters::FINGERPRINT],
    ) -> Result<Option<Saved>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(RESERVATIONS))?;
        let row = self.fits(table.get(fingerprint))?;
        row.map(|row| self.reservation(row.value()).map(|(_, saved)| saved)).transpose()
    }

    pub(super) fn reservation(&self, row: &[u8]) -> Result<(u64, Saved), StoreError> {
        let read = row
            .split_first_chunk()
            .and_then(|(epoch, saved)| Some((u64::from_be_bytes(*epoch), Saved::parse(saved)?)));
        read.ok_or_else(|| self.corrupt("the state of an OSCORE context cannot be read"))
    }
}

/// A state as a row.
pub(super) fn row(saved: &Saved) -> Vec<u8> {
    let mut out = [0; Saved::MAX_LENGTH];
    [EPOCH.to_be_bytes().as_slice(), saved.emit(&mut out)].concat()
}
