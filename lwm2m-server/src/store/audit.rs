//! The audit log: append-only rows, each holding the hash of the one before.
//!
//! Invariant: a row carries no secret, and none can be changed, removed or inserted without breaking the chain.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::credentials::{Happened, Role};

/// One row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
