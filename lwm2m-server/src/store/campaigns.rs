//! Campaigns with their devices, and groups: records in the clear, what is written or executed sealed, because values may be secrets.
//!
//! Invariants: a batch of changes is one durable transaction, with its audit rows and the last id that was given out; the list of the
//! devices of a campaign is never changed.

use std::collections::BTreeMap;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use zeroize::Zeroizing;

use super::redb::{META, RedbStore};
use super::{AuditNote, StoreError};
use crate::campaigns::{Action, Campaign, CampaignDevice, DeviceState, Group, Outcome, State};
use crate::credentials::Happened;

/// Id → record.
pub(super) const CAMPAIGNS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("campaigns");
/// Id → nonce, ciphertext, tag of what is asked of the devices.
pub(super) const CONTENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("campaign_contents");
/// (campaign, number) → device.
pub(super) const CAMPAIGN_DEVICES: TableDefinition<'_, (u64, u32), &[u8]> =
    TableDefinition::new("campaign_devices");
/// Name → group.
pub(super) const GROUPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("groups");
/// The entry of [`META`] with the last id that was given out.
pub(super) const LAST: &str = "last campaign";

/// A new campaign: its id, its devices, and what is asked of these.
pub type AddedCampaign = (u64, Vec<CampaignDevice>, Option<Zeroizing<Vec<u8>>>);

/// Changes of campaigns that are written together.
#[derive(Debug, Default)]
pub struct CampaignChanges {
    /// New ones, with their devices, and what is asked of these.
    pub added: Vec<AddedCampaign>,
    /// Records from now on.
    pub records: BTreeMap<u64, Campaign>,
    /// What became of devices: campaign, number, outcome.
    pub outcomes: Vec<(u64, u32, Outcome)>,
    /// Audit rows.
    pub notes: Vec<AuditNote>,
}

impl CampaignChanges {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.outcomes.is_empty() && self.notes.is_empty()
    }
}

/// What a store keeps of campaigns and groups.
pub trait CampaignStore: Send + Sync {
    /// The last id that was given out, and every campaign by its id.
    ///
    /// # Errors
    /// When one cannot be read.
    fn all(&self) -> Result<(u64, Vec<(u64, Campaign)>), StoreError>;

    /// One campaign.
    ///
    /// # Errors
    /// When it cannot be read.
    fn one(&self, id: u64) -> Result<Option<Campaign>, StoreError>;

    /// What is asked of the devices of a campaign.
    ///
    /// # Errors
    /// When it cannot be read or does not open.
    fn content(&self, id: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// At most `limit` devices of a campaign that are wanted, from a number on.
    ///
    /// # Errors
    /// When one cannot be read.
    fn devices(
        &self,
        id: u64,
        from: u32,
        limit: usize,
        is_wanted: &dyn Fn(&CampaignDevice) -> bool,
    ) -> Result<Vec<(u32, CampaignDevice)>, StoreError>;

    /// Writes changes, durably, before it returns: all of them or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when one was written by a newer epoch, or when they cannot be written.
    fn put(&self, now_ms: u64, changes: &CampaignChanges) -> Result<(), StoreError>;

    /// Every group by its name.
    ///
    /// # Errors
    /// When one cannot be read.
    fn groups(&self) -> Result<Vec<(String, Group)>, StoreError>;

    /// One group.
    ///
    /// # Errors
    /// When it cannot be read.
    fn group(&self, name: &str) -> Result<Option<Group>, StoreError>;

    /// Stores a group in the place of a former one, or removes it, with an audit row, durably, before it returns whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_group(
        &self,
        actor: &str,
        now_ms: u64,
        name: &str,
        group: Option<&Group>,
    ) -> Result<bool, StoreError>;
}

impl CampaignStore for RedbStore {
    fn all(&self) -> Result<(u64, Vec<(u64, Campaign)>), StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let last = self.fits(self.fits(transaction.open_table(META))?.get(LAST))?;
        let last = match last.map(|last| <[u8; 8]>::try_from(last.value())) {
            None => 0,
            Some(Ok(last)) => u64::from_be_bytes(last),
            Some(Err(_)) => return Err(self.corrupt("the last id of a campaign is no number")),
        };
        let mut campaigns = Vec::new();
        for entry in self.fits(self.fits(transaction.open_table(CAMPAIGNS))?.iter())? {
            let (id, record) = self.fits(entry)?;
            campaigns.push((id.value(), self.campaign(id.value(), record.value())?));
        }
        Ok((last, campaigns))
    }

    fn one(&self, id: u64) -> Result<Option<Campaign>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(CAMPAIGNS))?;
        self.fits(table.get(id))?.map(|record| self.campaign(id, record.value())).transpose()
    }

    fn content(&self, id: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(CONTENTS))?;
        let Some(sealed) = self.fits(table.get(id))? else { return Ok(None) };
        let opened = self.sealer.open_with(&binding(id), sealed.value()).map(Zeroizing::new);
        opened.map(Some).ok_or_else(|| self.corrupt(format!("what campaign {id} asks does not open")))
    }

    fn devices(
        &self,
        id: u64,
        from: u32,
        limit: usize,
        is_wanted: &dyn Fn(&CampaignDevice) -> bool,
    ) -> Result<Vec<(u32, CampaignDevice)>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(CAMPAIGN_DEVICES))?;
        let mut devices = Vec::new();
        let mut range = self.fits(table.range((id, from)..=(id, u32::MAX)))?;
        while devices.len() < limit
            && let Some(entry) = range.next()
        {
            let (key, device) = self.fits(entry)?;
            let number = key.value().1;
            let device = self.campaign_device(id, number, device.value())?;
            if is_wanted(&device) {
                devices.push((number, device));
            }
        }
        Ok(devices)
    }

    fn put(&self, now_ms: u64, changes: &CampaignChanges) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        {
            let mut campaigns = self.fits(transaction.open_table(CAMPAIGNS))?;
            let mut contents = self.fits(transaction.open_table(CONTENTS))?;
            let mut all = self.fits(transaction.open_table(CAMPAIGN_DEVICES))?;
            for (id, devices, content) in &changes.added {
                for (number, device) in (0_u32..).zip(devices) {
                    self.fits(all.insert((*id, number), self.emit(device)?.as_slice()))?;
                }
                if let Some(content) = content {
                    let sealed = self.sealer.seal_with(&binding(*id), content)?;
                    self.fits(contents.insert(*id, sealed.as_slice()))?;
                }
            }
            for (id, campaign) in &changes.records {
                let former = self.fits(campaigns.insert(*id, self.emit(campaign)?.as_slice()))?;
                let former = former.map(|former| self.campaign(*id, former.value())).transpose()?;
                if former.is_some_and(|former| former.epoch > campaign.epoch) {
                    return Err(StoreError::Fenced);
                }
            }
            for (id, number, outcome) in &changes.outcomes {
                let known = self.fits(all.get((*id, *number)))?.map(|device| device.value().to_vec());
                let known =
                    known.ok_or_else(|| self.corrupt(format!("campaign {id} has no device {number}")))?;
                let mut device = self.campaign_device(*id, *number, &known)?;
                device.put(outcome.clone());
                self.fits(all.insert((*id, *number), self.emit(&device)?.as_slice()))?;
            }
            if let Some(last) = changes.added.iter().map(|(id, ..)| *id).max() {
                let mut meta = self.fits(transaction.open_table(META))?;
                self.fits(meta.insert(LAST, last.to_be_bytes().as_slice()))?;
            }
        }
        for AuditNote { actor, happened } in &changes.notes {
            self.append(&transaction, actor, now_ms, None, core::slice::from_ref(happened))?;
        }
        self.fits(transaction.commit())
    }

    fn groups(&self) -> Result<Vec<(String, Group)>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let mut groups = Vec::new();
        for entry in self.fits(self.fits(transaction.open_table(GROUPS))?.iter())? {
            let (name, group) = self.fits(entry)?;
            groups.push((name.value().to_owned(), self.named_group(name.value(), group.value())?));
        }
        Ok(groups)
    }

    fn group(&self, name: &str) -> Result<Option<Group>, StoreError> {
        let transaction = self.fits(self.database.begin_read())?;
        let table = self.fits(transaction.open_table(GROUPS))?;
        self.fits(table.get(name))?.map(|group| self.named_group(name, group.value())).transpose()
    }

    fn put_group(
        &self,
        actor: &str,
        now_ms: u64,
        name: &str,
        group: Option<&Group>,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin()?;
        let is_known = {
            let mut groups = self.fits(transaction.open_table(GROUPS))?;
            match group {
                Some(group) => self.fits(groups.insert(name, self.emit(group)?.as_slice()))?.is_some(),
                None => self.fits(groups.remove(name))?.is_some(),
            }
        };
        let what = match (group, is_known) {
            (None, false) => return Ok(false),
            (None, true) => "group removed",
            (Some(_), false) => "group added",
            (Some(_), true) => "group replaced",
        };
        let detail = group.map_or_else(|| name.to_owned(), |group| format!("{name}: {group}"));
        let happened = Happened { role: None, generation: None, what, detail };
        self.append(&transaction, actor, now_ms, None, &[happened])?;
        self.fits(transaction.commit())?;
        Ok(is_known)
    }
}

impl RedbStore {
    pub(super) fn open_campaigns(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        self.fits(transaction.open_table(CAMPAIGNS))?;
        self.fits(transaction.open_table(CONTENTS))?;
        self.fits(transaction.open_table(CAMPAIGN_DEVICES))?;
        self.fits(transaction.open_table(GROUPS)).map(drop)
    }

    /// Pauses what a backup has running, and answers how many campaigns: devices may have been done since. What was asked of one that
    /// was under way may have been answered since, and is not asked again.
    pub(super) fn put_back_campaigns(
        &self,
        transaction: &WriteTransaction,
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let mut campaigns = self.fits(transaction.open_table(CAMPAIGNS))?;
        let mut devices = self.fits(transaction.open_table(CAMPAIGN_DEVICES))?;
        let mut found = Vec::new();
        for entry in self.fits(campaigns.iter())? {
            let (id, record) = self.fits(entry)?;
            found.push((id.value(), self.campaign(id.value(), record.value())?));
        }
        let mut paused = 0_u64;
        for (id, mut campaign) in found {
            if campaign.state == State::Running {
                campaign.state = State::Paused;
                campaign.reason = Some("restored from a backup: devices may have been done since".to_owned());
                paused = paused.saturating_add(1);
            }
            if campaign.counts.started > 0 && !matches!(campaign.action, Action::Rotate(_)) {
                let mut ended = Vec::new();
                for entry in self.fits(devices.range((id, 0)..=(id, u32::MAX)))? {
                    let (key, device) = self.fits(entry)?;
                    let device = self.campaign_device(id, key.value().1, device.value())?;
                    if device.state(campaign.round) == DeviceState::Started {
                        ended.push((key.value().1, device));
                    }
                }
                for (number, mut device) in ended {
                    if let Some(outcome) = device.outcomes.last_mut() {
                        (outcome.state, outcome.ended_ms) = (DeviceState::Failed, Some(now_ms));
                        outcome.reason = Some("unknown: restored from a backup".to_owned());
                    }
                    campaign.counts.moved(DeviceState::Started, DeviceState::Failed);
                    self.fits(devices.insert((id, number), self.emit(&device)?.as_slice()))?;
                }
            }
            self.fits(campaigns.insert(id, self.emit(&campaign)?.as_slice()))?;
        }
        Ok(paused)
    }

    fn campaign(&self, id: u64, bytes: &[u8]) -> Result<Campaign, StoreError> {
        self.parse(&format!("campaign {id}"), bytes)
    }

    fn campaign_device(&self, id: u64, number: u32, bytes: &[u8]) -> Result<CampaignDevice, StoreError> {
        self.parse(&format!("device {number} of campaign {id}"), bytes)
    }

    fn named_group(&self, name: &str, bytes: &[u8]) -> Result<Group, StoreError> {
        self.parse(&format!("group {name}"), bytes)
    }

    /// Reads all of it, and answers how many campaigns and groups there are.
    pub(super) fn walk_campaigns(&self, opens: bool) -> Result<(u64, u64), StoreError> {
        let (_, campaigns) = self.all()?;
        for (id, campaign) in &campaigns {
            // Each is read, and none kept.
            self.devices(*id, 0, 1, &|_| false)?;
            if opens && !matches!(campaign.action, Action::Rotate(_)) && self.content(*id)?.is_none() {
                return Err(self.corrupt(format!("what campaign {id} asks is missing")));
            }
        }
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        Ok((count(campaigns.len()), count(CampaignStore::groups(self)?.len())))
    }
}

/// Associated data of what is asked.
fn binding(id: u64) -> Vec<u8> {
    [b"lwm2m-server campaign 1 ".as_slice(), &id.to_be_bytes()].concat()
}

/// Whether all devices of a campaign are among those that somebody is for.
pub(crate) fn is_within(
    store: &dyn CampaignStore,
    id: u64,
    campaign: &Campaign,
    scope: &crate::access::Scope,
) -> Result<bool, StoreError> {
    let is_other = |device: &CampaignDevice| !scope.has(&device.endpoint);
    Ok(scope.covers(&campaign.scope) || store.devices(id, 0, 1, &is_other)?.is_empty())
}

/// The numbers of the devices that a retry takes.
///
/// # Errors
/// When one cannot be read.
pub fn failed(store: &dyn CampaignStore, id: u64, campaign: &Campaign) -> Result<Vec<u32>, StoreError> {
    let is_failure = |device: &CampaignDevice| device.state(campaign.round).is_failure();
    let failed = store.devices(id, 0, usize::MAX, &is_failure)?;
    Ok(failed.into_iter().map(|(number, _)| number).collect())
}
