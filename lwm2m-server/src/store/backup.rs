//! Copies of the store: made while it is in use, and put back.
//!
//! A backup is a store file of its own, with every key sealed and without the key that opens them. It is older than what happened since;
//! so [`restore`] changes what must not happen again:
//! - numbers of OSCORE contexts go on far behind those that were reserved ([`oscore::Saved::leap`]), also of those of which none was
//!   yet, and ids far behind those that were given out;
//! - a request that waited, or was on its way, counts as sent and not repeatable, so that it ends as unknown;
//! - campaigns that ran are paused, and what they had asked of a device and no answer was kept of counts as failed;
//! - the sessions of the last stop are not expected any more.
//!
//! Invariants: nobody who writes waits for a backup; no server runs on a backup before it was put back; a restore that is cut short
//! leaves no store.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableHandle as _, Value, WriteTransaction,
};

use super::audit::{AUDIT, AUDIT_BY_DEVICE};
use super::redb::{DEVICES, FILE, META, RedbStore, SECRETS, SESSIONS, role_byte};
use super::seal::{Sealer, beside, replace_private, sync_folder};
use super::tokens::TOKENS;
use super::{StoreError, campaigns, models, observations, profiles, requests, reservations};
use crate::credentials::{Happened, Role, utc};
use crate::queue::{Head, State};

/// The entry of [`META`] that makes a store a backup.
const BACKUP: &str = "backup";
/// So many ids are left out when a backup is put back, more than were given out since: of requests, and of lasting observations, which
/// have 2^32.
const LEAPS: [(&str, u64); 3] =
    [(requests::LAST, 1 << 32), (observations::LAST, 1 << 20), (campaigns::LAST, 1 << 32)];

/// When a backup was made, and where the audit log stood.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    /// In milliseconds since 1970.
    pub made_ms: u64,
    /// The number of the last audit row: that of the backup itself, or one that came right behind it.
    pub audit: u64,
    /// Its hash: who keeps it elsewhere can tell later that nothing before it was changed.
    pub hash: String,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup; `None` of the file of a store that was copied.
    pub backup: Option<Backup>,
    /// OSCORE contexts whose numbers go on elsewhere.
    pub contexts: u64,
    /// Requests that may have been carried out since, and are not sent again.
    pub requests: u64,
    /// Campaigns that ran, and are paused.
    pub campaigns: u64,
}

/// Copies the tables, and answers their names.
macro_rules! copied {
    ($from:expr, $to:expr, [$($table:expr),+ $(,)?]) => {{
        $(copy($from, $to, $table)?;)+
        [$($table.name()),+]
    }};
}

impl RedbStore {
    /// Whether it is a backup, and which.
    pub(super) fn backup_of(&self, transaction: &ReadTransaction) -> Result<Option<Backup>, StoreError> {
        let found = self.fits(self.fits(transaction.open_table(META))?.get(BACKUP))?;
        found.map(|found| self.parse("what makes it a backup", found.value())).transpose()
    }

    /// A copy of everything as it is now, in a file that nothing names: it is gone when it is closed.
    pub(super) fn write_backup(&self, now_ms: u64, actor: &str) -> Result<(File, Backup), StoreError> {
        let transaction = self.begin()?;
        let happened = Happened { role: None, generation: None, what: "backup made", detail: String::new() };
        self.append(&transaction, actor, now_ms, None, &[happened])?;
        self.fits(transaction.commit())?;

        let from = self.fits(self.database.begin_read())?;
        let (audit, hash) = self.last_row(&self.fits(from.open_table(AUDIT))?)?;
        let backup = Backup { made_ms: now_ms, audit, hash };
        let folder = self.folder();
        let io = |error| StoreError::Io { path: folder.clone(), error };
        let path = folder.join(format!("backup-{audit}-{}.new", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(io)?;
        fs::remove_file(&path).map_err(io)?;
        let made = file.try_clone().map_err(io)?;
        let to = self.fits(Database::builder().set_cache_size(16 << 20).create_file(made))?;
        let transaction = self.fits(to.begin_write())?;
        let names = self.fits(copy_all(&from, &transaction))?;
        if let Some(other) = self.fits(from.list_tables())?.find(|table| !names.contains(&table.name())) {
            return Err(self.corrupt(format!("it has a table '{}' that no backup takes", other.name())));
        }
        {
            let mut meta = self.fits(transaction.open_table(META))?;
            self.fits(meta.insert(BACKUP, self.emit(&backup)?.as_slice()))?;
            self.fits(meta.remove(SESSIONS))?;
        }
        self.fits(transaction.commit())?;
        Ok((file, backup))
    }

    /// Changes what must not happen again.
    fn put_back(&self, now_ms: u64) -> Result<Restored, StoreError> {
        let transaction = self.begin()?;
        let mut restored = Restored { backup: None, contexts: 0, requests: 0, campaigns: 0 };
        {
            let mut meta = self.fits(transaction.open_table(META))?;
            if let Some(found) = self.fits(meta.remove(BACKUP))? {
                restored.backup = Some(self.parse("what makes it a backup", found.value())?);
            }
            self.fits(meta.remove(SESSIONS))?;
            for (last, leap) in LEAPS {
                let known = self.fits(meta.get(last))?.map(|known| known.value().try_into());
                if let Some(known) = known {
                    let known = known.map_err(|_| self.corrupt(format!("the {last} is no number")))?;
                    let next = u64::from_be_bytes(known).saturating_add(leap);
                    self.fits(meta.insert(last, next.to_be_bytes().as_slice()))?;
                }
            }
            let mut contexts = self.fits(transaction.open_table(reservations::RESERVATIONS))?;
            for (fingerprint, row) in self.fits(rows(&contexts, |key| key, <[u8]>::to_vec))? {
                let (_, saved) = self.reservation(&row)?;
                self.fits(contexts.insert(fingerprint, reservations::row(&saved.leap()).as_slice()))?;
                restored.contexts = restored.contexts.saturating_add(1);
            }
            // Those that had not been used by then may have been since.
            let secrets = self.fits(transaction.open_table(SECRETS))?;
            for entry in self.fits(secrets.iter())? {
                let (key, sealed) = self.fits(entry)?;
                let (endpoint, byte, generation) = key.value();
                let Some(role) = Role::ALL.into_iter().find(|role| role_byte(*role) == byte) else {
                    continue;
                };
                let kept = self.opened((endpoint, role, generation), sealed.value())?;
                let Some(key) = kept.oscore() else { continue };
                let fingerprint = key.parameters().fingerprint();
                if self.fits(contexts.get(&fingerprint))?.is_none() {
                    let row = reservations::row(&oscore::Saved::unknown());
                    self.fits(contexts.insert(&fingerprint, row.as_slice()))?;
                    restored.contexts = restored.contexts.saturating_add(1);
                }
            }
            let mut heads = self.fits(transaction.open_table(requests::HEADS))?;
            let read = rows(&heads, |(endpoint, id)| (endpoint.to_owned(), id), <[u8]>::to_vec);
            for ((endpoint, id), head) in self.fits(read)? {
                let head = self.head(&endpoint, id, &head)?;
                if !matches!(head.state, State::Queued | State::Sent) {
                    continue;
                }
                // The next start ends it as it ends what was on its way. What is harmless twice in a row is not so after all that came
                // since: a Delete would take what was created again.
                let (state, is_repeatable) = (State::Sent, false);
                let head = Head { state, is_repeatable, attempts: head.attempts.max(1), ..head };
                self.fits(heads.insert((endpoint.as_str(), id), self.emit(&head)?.as_slice()))?;
                restored.requests = restored.requests.saturating_add(1);
            }
        }
        restored.campaigns = self.put_back_campaigns(&transaction, now_ms)?;
        let age = restored.backup.as_ref().map_or_else(
            || "a copy of a store file".to_owned(),
            |backup| format!("the backup of {}", utc(backup.made_ms / 1000)),
        );
        let detail = format!(
            "{age}: what was revoked or rotated since stands as it stood then; {} OSCORE contexts leave numbers out, {} \
             requests are not sent again, {} campaigns are paused",
            restored.contexts, restored.requests, restored.campaigns
        );
        let happened = Happened { role: None, generation: None, what: "restored", detail };
        self.append(&transaction, "server", now_ms, None, &[happened])?;
        self.fits(transaction.commit())?;
        Ok(restored)
    }
}

/// Puts a backup into a data folder without a store, whose lock is held. It is read whole before.
///
/// # Errors
/// A backup that is damaged or sealed under another key, a folder that has a store, or what the operating system said; then
/// there is no store as before.
pub fn restore(
    backup: &Path,
    data: &Path,
    lock: File,
    sealer: Sealer,
    now_ms: u64,
) -> Result<Restored, StoreError> {
    let path = data.join(FILE);
    if RedbStore::exists(data) {
        return Err(StoreError::Occupied(path));
    }
    super::verify(backup, Some(&sealer), None)?;
    let new = beside(&path);
    let io = |error| StoreError::Io { path: new.clone(), error };
    // What a restore left that was cut short.
    let _ = fs::remove_file(&new);
    copy_private(backup, &new)?;
    let put_back = RedbStore::open_file(&new, None, sealer).and_then(|store| store.put_back(now_ms));
    let restored = put_back.and_then(|restored| {
        let named = File::open(&new).and_then(|file| file.sync_all());
        named
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| sync_folder(&path))
            .map(|()| restored)
            .map_err(io)
    });
    if restored.is_err() {
        // It is of no use to anybody.
        let _ = fs::remove_file(&new);
    }
    // Until the store has its name no server may make another one.
    drop(lock);
    restored
}

/// Writes a backup to a file that is complete or absent, for its owner alone; `Ok(None)` where there is a file.
///
/// # Errors
/// When it cannot be read or written.
pub fn put(mut backup: impl std::io::Read, to: &Path) -> std::io::Result<Option<u64>> {
    if to.try_exists()? {
        return Ok(None);
    }
    let mut length = 0;
    replace_private(to, |file| {
        length = std::io::copy(&mut backup, file)?;
        Ok(())
    })?;
    Ok(Some(length))
}

/// Copies a file for its owner alone, to where there is none.
pub(super) fn copy_private(from: &Path, to: &Path) -> Result<(), StoreError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| StoreError::Io { path, error }
    };
    let mut source = File::open(from).map_err(io(from))?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(io(to))?;
    std::io::copy(&mut source, &mut target).map(|_| ()).map_err(io(to))
}

fn copy_all(from: &ReadTransaction, to: &WriteTransaction) -> Result<[&'static str; 17], redb::Error> {
    Ok(copied!(
        from,
        to,
        [
            META,
            DEVICES,
            SECRETS,
            AUDIT,
            AUDIT_BY_DEVICE,
            TOKENS,
            requests::HEADS,
            requests::SEALED,
            observations::INTENTS,
            models::MODELS,
            profiles::PROFILES,
            profiles::VARIABLES,
            reservations::RESERVATIONS,
            campaigns::CAMPAIGNS,
            campaigns::CONTENTS,
            campaigns::CAMPAIGN_DEVICES,
            campaigns::GROUPS,
        ]
    ))
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let from = from.open_table(table)?;
    let mut to = to.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// The rows of a table that is about to be changed.
fn rows<K: Key + 'static, V: Value + 'static, A, B>(
    table: &impl redb::ReadableTable<K, V>,
    key: impl Fn(K::SelfType<'_>) -> A,
    value: impl Fn(V::SelfType<'_>) -> B,
) -> Result<Vec<(A, B)>, redb::Error> {
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (found, row) = entry?;
        rows.push((key(found.value()), value(row.value())));
    }
    Ok(rows)
}
