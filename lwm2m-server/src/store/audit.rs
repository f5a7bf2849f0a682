//! The audit log: append-only rows, each holding the hash of the one before.
//!
//! Invariant: a row carries no secret, and none can be changed, removed or inserted without breaking the chain.

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::redb::RedbStore;
use crate::access::Scope;
use crate::credentials::{Happened, Role};

/// Sequence number → row.
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
/// (endpoint, sequence number) of rows about a device.
pub(super) const AUDIT_BY_DEVICE: TableDefinition<'_, (&str, u64), ()> =
    TableDefinition::new("audit_by_device");
/// The most rows that are looked at for those of some devices.
const MOST_LOOKED_AT: usize = 10_000;

/// One row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditRow {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// `token:NAME`, `device` or `server`.
    pub actor: String,
    /// The device, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The account, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The credential, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// What happened, in one or a few fixed words.
    pub what: String,
    /// Reason or detail in words; may be empty.
    pub detail: String,
    /// SHA-256 over the hash before and this row without its own, in hex digits.
    #[serde(default)]
    pub hash: String,
}

impl AuditRow {
    /// The row that follows `previous` in the chain.
    pub(super) fn chained(
        seq: u64,
        time_ms: u64,
        actor: &str,
        endpoint: Option<&str>,
        happened: &Happened,
        previous: &str,
    ) -> Self {
        let mut row = Self {
            seq,
            time_ms,
            actor: actor.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            role: happened.role,
            generation: happened.generation,
            what: happened.what.to_owned(),
            detail: happened.detail.clone(),
            hash: String::new(),
        };
        row.hash = row.digest(previous);
        row
    }

    /// Whether the row follows `previous`.
    #[must_use]
    pub fn follows(&self, previous: &str) -> bool {
        self.hash == self.digest(previous)
    }

    fn digest(&self, previous: &str) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(previous.as_bytes());
        field(&self.seq.to_be_bytes());
        field(&self.time_ms.to_be_bytes());
        field(self.actor.as_bytes());
        field(self.endpoint.as_deref().unwrap_or_default().as_bytes());
        field(self.role.map_or("", Role::as_str).as_bytes());
        field(&self.generation.unwrap_or_default().to_be_bytes());
        field(self.what.as_bytes());
        field(self.detail.as_bytes());
        hex::encode(hash.finalize())
    }
}

impl RedbStore {
    pub(super) fn open_audit(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(AUDIT))?;
        self.fits(transaction.open_table(AUDIT_BY_DEVICE)).map(drop)
    }

    pub(super) fn read_audit(
        &self,
        endpoint: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let audit = self.fits(transaction.open_table(AUDIT))?;
        let from = after.map_or(0, |after| after.saturating_add(1));
        let mut rows = Vec::new();
        match endpoint {
            None => {
                let mut range = self.fits(audit.range(from..))?;
                let mut next = || if after.is_some() { range.next() } else { range.next_back() };
                while rows.len() < limit
                    && let Some(entry) = next()
                {
                    rows.push(self.parse("an audit row", self.fits(entry)?.1.value())?);
                }
            }
            Some(endpoint) => {
                let by_device = self.fits(transaction.open_table(AUDIT_BY_DEVICE))?;
                let mut range = self.fits(by_device.range((endpoint, from)..=(endpoint, u64::MAX)))?;
                let mut next = || if after.is_some() { range.next() } else { range.next_back() };
                while rows.len() < limit
                    && let Some(entry) = next()
                {
                    let seq = self.fits(entry)?.0.value().1;
                    let row =
                        self.fits(audit.get(seq))?.ok_or_else(|| self.corrupt("an audit row is missing"))?;
                    rows.push(self.parse("an audit row", row.value())?);
                }
            }
        }
        if after.is_none() {
            rows.reverse();
        }
        Ok(rows)
    }

    pub(super) fn read_audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let audit = self.fits(transaction.open_table(AUDIT))?;
        let mut range = self.fits(audit.range(after.map_or(0, |after| after.saturating_add(1))..))?;
        let mut next = || if after.is_some() { range.next() } else { range.next_back() };
        let (mut rows, mut last) = (Vec::new(), after.unwrap_or_default());
        for _ in 0..MOST_LOOKED_AT {
            if rows.len() >= limit {
                break;
            }
            let Some(entry) = next() else { break };
            let (seq, row) = self.fits(entry)?;
            last = last.max(seq.value());
            let row: AuditRow = self.parse("an audit row", row.value())?;
            if row.endpoint.as_deref().is_some_and(|endpoint| scope.has(endpoint)) {
                rows.push(row);
            }
        }
        if after.is_none() {
            rows.reverse();
        }
        Ok((rows, last))
    }

    /// Follows the audit log row by row, and answers the number and hash of the last one.
    pub(super) fn chain(
        &self,
        transaction: &ReadTransaction,
        mut each: impl FnMut(&AuditRow) -> Result<(), StoreError>,
    ) -> Result<(u64, String), StoreError> {
        let audit = self.fits(transaction.open_table(AUDIT))?;
        let mut last = (0_u64, String::new());
        for entry in self.fits(audit.iter())? {
            let (seq, row) = self.fits(entry)?;
            let number = last.0.saturating_add(1);
            let row: AuditRow = self.parse(&format!("audit row {number}"), row.value())?;
            if seq.value() != number || row.seq != number || !row.follows(&last.1) {
                return Err(self.corrupt(format!("audit row {number} does not follow the one before it")));
            }
            each(&row)?;
            last = (number, row.hash);
        }
        Ok(last)
    }

    /// The number and hash of the newest audit row.
    pub(super) fn last_row(
        &self,
        audit: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<(u64, String), StoreError> {
        match self.fits(audit.last())? {
            None => Ok((0, String::new())),
            Some((seq, row)) => {
                let row: AuditRow = self.parse("the newest audit row", row.value())?;
                Ok((seq.value(), row.hash))
            }
        }
    }

    pub(super) fn append(
        &self,
        transaction: &WriteTransaction,
        actor: &str,
        now_ms: u64,
        endpoint: Option<&str>,
        happened: &[Happened],
    ) -> Result<(), StoreError> {
        let mut audit = self.fits(transaction.open_table(AUDIT))?;
        let mut by_device = self.fits(transaction.open_table(AUDIT_BY_DEVICE))?;
        let (mut seq, mut previous) = self.last_row(&audit)?;
        for each in happened {
            seq = seq.saturating_add(1);
            let row = AuditRow::chained(seq, now_ms, actor, endpoint, each, &previous);
            self.fits(audit.insert(seq, self.emit(&row)?.as_slice()))?;
            if let Some(endpoint) = endpoint {
                self.fits(by_device.insert((endpoint, seq), ()))?;
            }
            previous = row.hash;
        }
        Ok(())
    }
}
