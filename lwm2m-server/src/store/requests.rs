//! The queued requests of devices: heads in the clear, what is asked and answered sealed, because values may be secrets.
//!
//! Invariant: a batch of changes is one durable transaction, with its audit rows and the last id that was given out.

use std::sync::Arc;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use zeroize::Zeroizing;

use super::StoreError;
use super::redb::{META, RedbStore};
use crate::credentials::Happened;
use crate::queue::{EPOCH, Head};

/// (endpoint, id) → head.
pub(super) const HEADS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("requests");
/// (endpoint, id, [`BODY`] or [`OUTCOME`]) → nonce, ciphertext, tag.
pub(super) const SEALED: TableDefinition<'_, (&str, u64, u8), &[u8]> =
    TableDefinition::new("request_contents");
const BODY: u8 = 0;
const OUTCOME: u8 = 1;
/// The entry of [`META`] with the last id that was given out.
pub(super) const LAST: &str = "last request";

/// A queued request as it is stored.
#[derive(Clone, Debug)]
pub struct QueuedRequest {
    /// Its id, which no other request of this server has or had.
    pub id: u64,
    /// Where it stands.
    pub head: Head,
    /// What is asked; empty where it does not open.
    pub body: Zeroizing<Vec<u8>>,
    /// What came of it, if anything.
    pub outcome: Option<Zeroizing<Vec<u8>>>,
    /// Whether something of it is missing or does not open.
    pub is_damaged: bool,
}

/// Endpoint, id and head of stored requests.
pub type Heads = Vec<(Arc<str>, u64, Head)>;

/// One change of one queued request.
#[derive(Debug)]
pub struct RequestChange {
    /// Whose request.
    pub endpoint: Arc<str>,
    /// Which.
    pub id: u64,
    /// Its head from now on; `None` removes all of it.
    pub head: Option<Head>,
    /// What is asked, of a new one.
    pub body: Option<Zeroizing<Vec<u8>>>,
    /// What came of it.
    pub outcome: Option<Zeroizing<Vec<u8>>>,
    /// The audit row that goes with it.
    pub audit: Option<AuditNote>,
}

/// An audit row about a device.
#[derive(Clone, Debug)]
pub struct AuditNote {
    /// Who caused it.
    pub actor: Arc<str>,
    /// What happened.
    pub happened: Happened,
}

impl RedbStore {
    /// Makes the tables, so that reading one never has to.
    pub(super) fn open_requests(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(HEADS))?;
        self.fits(transaction.open_table(SEALED))?;
        Ok(())
    }

    pub(super) fn read_heads(&self) -> Result<(u64, Heads), StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let last = self.fits(self.fits(transaction.open_table(META))?.get(LAST))?;
        let last = match last.map(|last| <[u8; 8]>::try_from(last.value())) {
            None => 0,
            Some(Ok(last)) => u64::from_be_bytes(last),
            Some(Err(_)) => return Err(self.corrupt("the last id of a request is no number")),
        };
        let mut heads = Heads::new();
        for entry in self.fits(self.fits(transaction.open_table(HEADS))?.iter())? {
            let (key, head) = self.fits(entry)?;
            let (endpoint, id) = key.value();
            heads.push((endpoint.into(), id, self.head(endpoint, id, head.value())?));
        }
        Ok((last, heads))
    }

    pub(super) fn write_requests(&self, now_ms: u64, changes: &[RequestChange]) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        {
            let mut heads = self.fits(transaction.open_table(HEADS))?;
            let mut sealed = self.fits(transaction.open_table(SEALED))?;
            for RequestChange { endpoint, id, head, body, outcome, .. } in changes {
                let key = (&**endpoint, *id);
                let former = match head {
                    Some(head) => self.fits(heads.insert(key, self.emit(head)?.as_slice()))?,
                    None => self.fits(heads.remove(key))?,
                };
                let former = former.map(|former| self.head(endpoint, *id, former.value())).transpose()?;
                let epoch = head.map_or(EPOCH, |head| head.epoch);
                if former.is_some_and(|former| former.epoch > epoch) {
                    return Err(StoreError::Fenced);
                }
                if head.is_none() {
                    for kind in [BODY, OUTCOME] {
                        self.fits(sealed.remove((&**endpoint, *id, kind)))?;
                    }
                }
                for (kind, plain) in [(BODY, body), (OUTCOME, outcome)] {
                    if let Some(plain) = plain {
                        let bytes = self.sealer.seal_with(&binding(endpoint, *id, kind), plain)?;
                        self.fits(sealed.insert((&**endpoint, *id, kind), bytes.as_slice()))?;
                    }
                }
            }
            let added = changes.iter().filter(|change| change.body.is_some()).map(|change| change.id);
            if let Some(last) = added.max() {
                let mut meta = self.fits(transaction.open_table(META))?;
                self.fits(meta.insert(LAST, last.to_be_bytes().as_slice()))?;
            }
        }
        for RequestChange { endpoint, audit, .. } in changes {
            if let Some(AuditNote { actor, happened }) = audit {
                self.append(&transaction, actor, now_ms, Some(endpoint), core::slice::from_ref(happened))?;
            }
        }
        self.fits(transaction.commit())
    }

    pub(super) fn read_requests(
        &self,
        endpoint: &str,
        ids: core::ops::RangeInclusive<u64>,
    ) -> Result<Vec<QueuedRequest>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let heads = self.fits(transaction.open_table(HEADS))?;
        let sealed = self.fits(transaction.open_table(SEALED))?;
        let mut requests = Vec::new();
        for entry in self.fits(heads.range((endpoint, *ids.start())..=(endpoint, *ids.end())))? {
            let (key, head) = self.fits(entry)?;
            let id = key.value().1;
            let mut is_damaged = false;
            let mut opened = |kind| -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
                let stored = self.fits(sealed.get((endpoint, id, kind)))?;
                let plain = stored.as_ref().map(|bytes| {
                    self.sealer.open_with(&binding(endpoint, id, kind), bytes.value()).map(Zeroizing::new)
                });
                is_damaged |= plain.as_ref().map_or(kind == BODY, Option::is_none);
                Ok(plain.flatten())
            };
            let (body, outcome) = (opened(BODY)?.unwrap_or_default(), opened(OUTCOME)?);
            let head = self.head(endpoint, id, head.value())?;
            requests.push(QueuedRequest { id, head, body, outcome, is_damaged });
        }
        Ok(requests)
    }

    pub(super) fn head(&self, endpoint: &str, id: u64, bytes: &[u8]) -> Result<Head, StoreError> {
        self.parse(&format!("the head of request {id} of {endpoint}"), bytes)
    }
}

/// Associated data: the endpoint comes last, so that no two bindings share an encoding.
fn binding(endpoint: &str, id: u64, kind: u8) -> Vec<u8> {
    let mut out = b"lwm2m-server request 1 ".to_vec();
    out.push(kind);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(endpoint.as_bytes());
    out
}
