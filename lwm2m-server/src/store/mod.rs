//! What must outlive a crash: devices with their credentials, requests that wait for them, campaigns, the audit log, API tokens.
//!
//! Invariants: [`Store::commit`] is one durable transaction, so a credential change, its lifecycle step, its audit rows
//! and the command it leaves pending are all there after `kill -9`, or none is. Keys are sealed before they are written.
//! A write that belongs to a device carries the fencing epoch of its writer and the version it was based on.

mod audit;
mod backup;
mod campaigns;
mod error;
mod models;
mod observations;
mod redb;
mod requests;
mod reservations;
mod seal;
mod sessions;
mod tokens;
mod verify;

use lwm2m_objects::Version;
use zeroize::Zeroizing;

use std::fs::File;
use std::sync::Arc;

use crate::ObservationId;
use crate::access::Scope;
use crate::credentials::{Device, Happened, Kept, Role};
use crate::observations::{Intent, IntentChange, Intents, Wanted};

pub use audit::AuditRow;
pub use backup::{Backup, Restored, put as put_backup, restore};
pub use campaigns::failed;
pub(crate) use campaigns::is_within;
pub use campaigns::{AddedCampaign, CampaignChanges, CampaignStore};
pub use error::StoreError;
pub use redb::RedbStore;
pub use requests::{AuditNote, Heads, QueuedRequest, RequestChange};
pub use reservations::Reservation;
pub(crate) use seal::write_private;
pub use seal::{KeySource, Sealer};
pub use sessions::{SavedSessions, SessionFile};
pub use tokens::TokenRecord;
pub use verify::{Verified, verify};

/// One change of one device.
#[derive(Debug)]
pub struct Change<'a> {
    /// The record after the change; its version is one above the stored one.
    pub device: &'a Device,
    /// What is to be kept of new credentials.
    pub secrets: &'a [(Role, u32, &'a Kept)],
    /// Credentials whose keys are not needed any more.
    pub forget: &'a [(Role, u32)],
    /// Who caused it: `token:NAME`, `device` or `server`.
    pub actor: &'a str,
    /// When, in milliseconds since 1970.
    pub now_ms: u64,
    /// Audit rows to append.
    pub happened: &'a [Happened],
}

/// Durable storage of the server.
pub trait Store: Send + Sync {
    /// Reads every device.
    ///
    /// # Errors
    /// When a record cannot be read.
    fn devices(&self) -> Result<Vec<Device>, StoreError>;

    /// Writes one change, durably, before it returns. A device that is decommissioned loses its lasting observations with it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another version is stored, [`StoreError::Fenced`] when a newer epoch is; in both
    /// cases, and for every other error, nothing was written.
    fn commit(&self, change: &Change<'_>) -> Result<(), StoreError>;

    /// Opens what is kept of one credential.
    ///
    /// # Errors
    /// When it cannot be read or does not open.
    fn secret(&self, endpoint: &str, role: Role, generation: u32) -> Result<Option<Kept>, StoreError>;

    /// Appends an audit row that no change of a record causes.
    ///
    /// # Errors
    /// When it cannot be written.
    fn note(
        &self,
        actor: &str,
        now_ms: u64,
        endpoint: Option<&str>,
        happened: &Happened,
    ) -> Result<(), StoreError>;

    /// At most `limit` audit rows of one device or of all, oldest first: those after a sequence number, else the newest.
    ///
    /// # Errors
    /// When they cannot be read.
    fn audit(
        &self,
        endpoint: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// The same of the devices of a scope, and the number of the last row that was looked at; of many others in between only so many
    /// are looked at once.
    ///
    /// # Errors
    /// When they cannot be read.
    fn audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError>;

    /// Follows the hash chain of the audit log and returns the number of rows.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first row that does not fit.
    fn verify_audit(&self) -> Result<u64, StoreError>;

    /// A copy of all that is stored now, with an audit row about it: a file that is gone when it is closed, and where it stands. Nobody
    /// who writes waits for it.
    ///
    /// # Errors
    /// When something cannot be read, or the copy cannot be written.
    fn backup(&self, now_ms: u64, actor: &str) -> Result<(File, Backup), StoreError>;

    /// 32 random bytes that the keys of session tickets come from: made once, and sealed.
    ///
    /// # Errors
    /// When they cannot be read, made or written.
    fn ticket_root(&self) -> Result<Zeroizing<[u8; 32]>, StoreError>;

    /// Remembers which file the sessions of a stop will be in, by its random number; what was remembered before is forgotten.
    ///
    /// # Errors
    /// When it cannot be written.
    fn expect_sessions(&self, file: &[u8; 16]) -> Result<(), StoreError>;

    /// Forgets, durably before it returns, which file the sessions of the last stop are in, and answers whether it was the one
    /// with this number; `None` where no file has any.
    ///
    /// # Errors
    /// When it cannot be read or written; then the file is not to be used.
    fn consume_sessions(&self, file: Option<&[u8; 16]>) -> Result<bool, StoreError>;

    /// The last id given to a queued request, and endpoint, id and head of each that is stored.
    ///
    /// # Errors
    /// When one cannot be read.
    fn requests(&self) -> Result<(u64, Heads), StoreError>;

    /// Writes changes of queued requests with their audit rows, durably, before it returns: all of them or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when one was written by a newer epoch, or when they cannot be written.
    fn put_requests(&self, now_ms: u64, changes: &[RequestChange]) -> Result<(), StoreError>;

    /// One queued request of a device; one that does not open is told as such.
    ///
    /// # Errors
    /// When it cannot be read.
    fn request(&self, endpoint: &str, id: u64) -> Result<Option<QueuedRequest>, StoreError>;

    /// The queued requests of a device, ended ones too, oldest first; one that does not open is told as such.
    ///
    /// # Errors
    /// When one cannot be read.
    fn requests_of(&self, endpoint: &str) -> Result<Vec<QueuedRequest>, StoreError>;

    /// The lasting observations of a device.
    ///
    /// # Errors
    /// When one cannot be read.
    fn observations_of(&self, endpoint: &str) -> Result<Intents, StoreError>;

    /// Stores a lasting observation with its audit row, durably, before it returns; it takes the place of one of the same place.
    /// `None` when the device has `most` of them.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when one of the device was written by a newer epoch, or when it cannot be written.
    fn add_observation(
        &self,
        endpoint: &str,
        intent: &Intent,
        most: usize,
    ) -> Result<Option<Wanted>, StoreError>;

    /// Changes lasting observations, with an audit row for what somebody did, durably, before it returns how many of them it
    /// has changed: all or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when one was written by a newer epoch, or when they cannot be written.
    fn change_observations(
        &self,
        changes: &[(Arc<str>, ObservationId, IntentChange)],
    ) -> Result<usize, StoreError>;

    /// At most `limit` devices that have lasting observations, by name, behind one of them.
    ///
    /// # Errors
    /// When they cannot be read.
    fn observed(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>, StoreError>;

    /// The XML of each object definition that was added.
    ///
    /// # Errors
    /// When one cannot be read.
    fn models(&self) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Stores the definition of a version of an object, with its audit row, in the place of a former one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_model(
        &self,
        actor: &str,
        now_ms: u64,
        object: (u16, Version),
        xml: &[u8],
    ) -> Result<(), StoreError>;

    /// Writes how far numbers of OSCORE contexts are reserved, durably, before it returns, where they follow what was written last
    /// ([`oscore::Saved::follows`]). Says which do: what does not is another's, and left as it is.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when one was written by a newer epoch, or when they cannot be written: then none is.
    fn reserve(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError>;

    /// What was written last for the context with this fingerprint.
    ///
    /// # Errors
    /// When it cannot be read.
    fn reserved(
        &self,
        fingerprint: &[u8; oscore::Parameters::FINGERPRINT],
    ) -> Result<Option<oscore::Saved>, StoreError>;

    /// What it keeps of campaigns and groups.
    fn campaigns(&self) -> &dyn CampaignStore;

    /// Every token with its SHA-256.
    ///
    /// # Errors
    /// When they cannot be read; [`StoreError::UnknownRole`] when one has a role that this server does not know.
    fn tokens(&self) -> Result<Vec<([u8; 32], TokenRecord)>, StoreError>;

    /// Stores a token by its SHA-256, with an audit row, durably, before it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<(), StoreError>;

    /// Removes a token, with an audit row, durably, before it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    fn remove_token(&self, hash: &[u8; 32], actor: &str, now_ms: u64) -> Result<(), StoreError>;
}
