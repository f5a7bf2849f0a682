//! Bearer tokens of the HTTP interface, by their SHA-256; each change with its audit row.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::redb::RedbStore;
use crate::access::{Scope, TokenRole};
use crate::credentials::{Happened, utc};

/// SHA-256 of a token → its record.
pub(super) const TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tokens");

/// A bearer token, known by its hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenRecord {
    /// Its name in the audit log.
    pub name: String,
    /// What it may do.
    pub role: TokenRole,
    /// The devices it is good for.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub scope: Scope,
    /// When it opens nothing any more, in milliseconds since 1970.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// Who made it: `token:NAME` or `server`.
    #[serde(default = "server")]
    pub made_by: String,
}

/// Tokens of servers that made no other than the first.
fn server() -> String {
    "server".to_owned()
}

impl RedbStore {
    pub(super) fn open_tokens(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(TOKENS)).map(drop)
    }

    pub(super) fn read_tokens(&self) -> Result<Vec<([u8; 32], TokenRecord)>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(TOKENS))?;
        let mut tokens = Vec::new();
        for entry in self.fits(table.iter())? {
            let (hash, record) = self.fits(entry)?;
            let hash = <[u8; 32]>::try_from(hash.value())
                .map_err(|_| self.corrupt("a token hash is not 32 bytes"))?;
            tokens.push((hash, self.token(record.value())?));
        }
        Ok(tokens)
    }

    /// A role that is not known is no damage: another server knows it.
    fn token(&self, record: &[u8]) -> Result<TokenRecord, StoreError> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            role: String,
        }
        let Named { name, role } = self.parse("a token", record)?;
        if TokenRole::parse(&role).is_none() {
            return Err(StoreError::UnknownRole { token: name, role });
        }
        self.parse("a token", record)
    }

    pub(super) fn insert_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.fits(
            self.fits(transaction.open_table(TOKENS))?.insert(hash.as_slice(), self.emit(token)?.as_slice()),
        )?;
        let mut detail = format!("{} ({})", token.name, token.role);
        if !token.scope.is_all() {
            detail.push_str(&format!(", for {}", token.scope));
        }
        if let Some(expires_ms) = token.expires_ms {
            detail.push_str(&format!(", expires {}", utc(expires_ms / 1000)));
        }
        let made = Happened { role: None, generation: None, what: "token made", detail };
        self.append(&transaction, &token.made_by, token.created_ms, None, &[made])?;
        self.fits(transaction.commit())
    }

    pub(super) fn delete_token(&self, hash: &[u8; 32], actor: &str, now_ms: u64) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        let removed = {
            let mut table = self.fits(transaction.open_table(TOKENS))?;
            let removed = self.fits(table.remove(hash.as_slice()))?;
            removed.map(|record| self.token(record.value())).transpose()?
        };
        if let Some(TokenRecord { name, role, .. }) = removed {
            let detail = format!("{name} ({role})");
            let revoked = Happened { role: None, generation: None, what: "token revoked", detail };
            self.append(&transaction, actor, now_ms, None, &[revoked])?;
        }
        self.fits(transaction.commit())
    }
}
