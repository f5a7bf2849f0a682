//! Lasting observations: what is to be observed of each device.
//!
//! Invariants: an id that was given out is given to no other observation, whatever becomes of it; what somebody does to one is in the
//! audit log in the same transaction.

use std::sync::Arc;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use super::StoreError;
use super::redb::{META, RedbStore};
use crate::ObservationId;
use crate::credentials::Happened;
use crate::observations::{Intent, IntentChange, Intents, Wanted};
use crate::queue::EPOCH;

/// (endpoint, id) → intent.
pub(super) const INTENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("observations");
/// The entry of [`META`] with the last id that was given out.
pub(super) const LAST: &str = "last observation";

impl RedbStore {
    pub(super) fn open_observations(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(INTENTS)).map(drop)
    }

    pub(super) fn read_intents(&self, endpoint: &str) -> Result<Intents, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(INTENTS))?;
        let mut intents = Intents::new();
        for entry in self.fits(table.range((endpoint, 0)..=(endpoint, u64::MAX)))? {
            let (key, intent) = self.fits(entry)?;
            let id = ObservationId(key.value().1);
            intents.push((id, self.intent(endpoint, id, intent.value())?));
        }
        Ok(intents)
    }

    pub(super) fn insert_intent(
        &self,
        endpoint: &str,
        intent: &Intent,
        most: usize,
    ) -> Result<Option<Wanted>, StoreError> {
        let transaction = self.begin()?;
        let inserted = {
            let mut table = self.fits(transaction.open_table(INTENTS))?;
            let (mut count, mut same) = (0_usize, None);
            for entry in self.fits(table.range((endpoint, 0)..=(endpoint, u64::MAX)))? {
                let (key, known) = self.fits(entry)?;
                let id = ObservationId(key.value().1);
                let known = self.intent(endpoint, id, known.value())?;
                count = count.saturating_add(1);
                if known.epoch > EPOCH {
                    return Err(StoreError::Fenced);
                }
                if known.what == intent.what {
                    same = Some((id, known));
                }
            }
            let wanted = match same {
                Some((id, former)) => {
                    Wanted { id, intent: intent.clone().instead_of(&former), former: Some(former) }
                }
                None if count >= most => return Ok(None),
                None => Wanted { id: self.next_id(&transaction)?, intent: intent.clone(), former: None },
            };
            self.fits(table.insert((endpoint, wanted.id.0), self.emit(&wanted.intent)?.as_slice()))?;
            wanted
        };
        let what = if inserted.former.is_some() { "observation replaced" } else { "observation added" };
        let happened = happened(what, inserted.id, intent);
        self.append(&transaction, &intent.actor, intent.since_ms, Some(endpoint), &[happened])?;
        self.fits(transaction.commit())?;
        Ok(Some(inserted))
    }

    fn next_id(&self, transaction: &WriteTransaction) -> Result<ObservationId, StoreError> {
        let mut meta = self.fits(transaction.open_table(META))?;
        let last = self.fits(meta.get(LAST))?.map(|last| <[u8; 8]>::try_from(last.value()));
        let last = match last {
            None => 0,
            Some(Ok(last)) => u64::from_be_bytes(last),
            Some(Err(_)) => return Err(self.corrupt("the last id of an observation is no number")),
        };
        let id = ObservationId(last.saturating_add(1));
        if !id.is_lasting() {
            return Err(self.corrupt("as many observations were wanted as have a number"));
        }
        self.fits(meta.insert(LAST, id.0.to_be_bytes().as_slice()))?;
        Ok(id)
    }

    pub(super) fn change_intents(
        &self,
        changes: &[(Arc<str>, ObservationId, IntentChange)],
    ) -> Result<usize, StoreError> {
        let transaction = self.begin()?;
        let mut changed = 0_usize;
        {
            let mut table = self.fits(transaction.open_table(INTENTS))?;
            for (endpoint, id, change) in changes {
                let key = (&**endpoint, id.0);
                let known = self.fits(table.get(key))?.map(|known| known.value().to_vec());
                // It was removed meanwhile.
                let Some(known) = known else { continue };
                let mut known = self.intent(endpoint, *id, &known)?;
                if known.epoch > EPOCH {
                    return Err(StoreError::Fenced);
                }
                let is_known = |asked: &Intent| asked.version == known.version;
                let next = match change {
                    IntentChange::Removed { actor, now_ms } => {
                        let removed = happened("observation removed", *id, &known);
                        self.append(&transaction, actor, *now_ms, Some(endpoint), &[removed])?;
                        None
                    }
                    IntentChange::Undone { asked, former, why, now_ms } if is_known(asked) => {
                        let mut refused = happened("observation refused", *id, &known);
                        refused.detail = format!("{}: {why}", refused.detail);
                        self.append(&transaction, "device", *now_ms, Some(endpoint), &[refused])?;
                        former.clone().map(|former| former.instead_of(&known))
                    }
                    IntentChange::Stands(asked) if is_known(asked) => {
                        (known.refused, known.unset) = (None, None);
                        Some(known)
                    }
                    IntentChange::Stands(asked) => Some(known.instead_of(asked)),
                    IntentChange::Refused(asked, why) if is_known(asked) => {
                        known.refused = Some(why.clone());
                        Some(known)
                    }
                    IntentChange::Ended(why) if known.unset.is_none() => {
                        known.refused = Some(why.clone());
                        Some(known)
                    }
                    IntentChange::Undone { .. } | IntentChange::Refused(..) | IntentChange::Ended(_) => {
                        continue;
                    }
                };
                match next {
                    Some(next) => drop(self.fits(table.insert(key, self.emit(&next)?.as_slice()))?),
                    None => drop(self.fits(table.remove(key))?),
                }
                changed = changed.saturating_add(1);
            }
        }
        self.fits(transaction.commit())?;
        Ok(changed)
    }

    /// Nothing is wanted of a device any more.
    pub(super) fn remove_intents(
        &self,
        transaction: &WriteTransaction,
        actor: &str,
        now_ms: u64,
        endpoint: &str,
    ) -> Result<(), StoreError> {
        let mut removed = Vec::new();
        {
            let mut table = self.fits(transaction.open_table(INTENTS))?;
            let all = (endpoint, 0)..=(endpoint, u64::MAX);
            for entry in self.fits(table.extract_from_if(all, |_, _| true))? {
                let (key, intent) = self.fits(entry)?;
                let id = ObservationId(key.value().1);
                let intent = self.intent(endpoint, id, intent.value())?;
                removed.push(happened("observation removed", id, &intent));
            }
        }
        self.append(transaction, actor, now_ms, Some(endpoint), &removed)
    }

    pub(super) fn read_observed(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(INTENTS))?;
        let mut devices: Vec<Arc<str>> = Vec::new();
        while devices.len() < limit {
            let last = devices.last().map(|last| &**last).or(after);
            // Ids end before it.
            let mut next = match last {
                Some(last) => self.fits(table.range((last, u64::MAX)..))?,
                None => self.fits(table.iter())?,
            };
            let Some(entry) = next.next() else { break };
            let device = self.fits(entry)?.0.value().0.into();
            devices.push(device);
        }
        Ok(devices)
    }

    fn intent(
        &self,
        endpoint: &str,
        ObservationId(id): ObservationId,
        bytes: &[u8],
    ) -> Result<Intent, StoreError> {
        self.parse(&format!("observation {id} of {endpoint}"), bytes)
    }
}

fn happened(what: &'static str, ObservationId(id): ObservationId, intent: &Intent) -> Happened {
    let detail = format!("observation {id}: {}", intent.described());
    Happened { role: None, generation: None, what, detail }
}
