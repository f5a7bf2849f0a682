//! What the storage is asked for, one request at a time.
//!
//! 1. Start: the index is loaded, then each record that it names.
//! 2. Bootstrap: credentials are staged as they are written; at Bootstrap-Finish the rest is staged, then committed.
//! 3. The new accounts have worked: confirm. They have not: revert, and load again.
//!
//! Invariant: the answer to a request is taken only for the request that is out.

#[cfg(feature = "oscore")]
use heapless::Vec;

use crate::access::AccessControl;
use crate::account::{Instance, Security};
use crate::client::Client;
use crate::error::StoreError;
use crate::event::{Event, Notice};
#[cfg(feature = "oscore")]
use crate::object_security::Wanted;
#[cfg(feature = "oscore")]
use crate::oscore_object::SecurityContext;
#[cfg(feature = "oscore")]
use crate::persist::STATE_CAPACITY;
use crate::persist::{Action, Key, RecordWriter, StoreId, Stored, emit_index, index_entry};
use crate::server::{Server, TLS_ALERT};

/// What the storage is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Job {
    #[default]
    Idle,
    /// Reads the table: the index, then the records from that number on.
    Load { number: Option<usize>, then: AfterLoad },
    /// Stages the credentials that were just written.
    Drain,
    /// Stages all records from that number on, then the index, then commits.
    Save { number: usize, then: AfterSave },
    /// The table has proven itself.
    Confirm,
    /// Stores the session of a slot.
    #[cfg(feature = "resumption")]
    Keep { slot: usize, step: crate::resumption::Keeping },
    /// Drops what is staged.
    Discard,
    /// Brings the previous set back.
    Revert,
}

/// What follows when the table was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLoad {
    /// All servers are approached anew.
    Restart,
    /// Everything goes on as it was.
    Resume,
}

/// What follows when the table was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterSave {
    /// Bootstrap-Finish is answered and the new accounts are tried.
    Bootstrap,
    /// Nothing: a server changed its own settings.
    Confirm,
}

/// The request that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Job,
    /// The job was given up while it was out.
    Stale,
    /// A part of a credential, for the handshake of this slot.
    #[cfg(feature = "psk")]
    Credential {
        slot: usize,
        key: Key,
    },
    /// What the keys for this slot are made of, or how far they are used.
    #[cfg(feature = "oscore")]
    Keys {
        slot: usize,
        wanted: Wanted,
    },
}

/// The client's side of the storage.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) job: Job,
    asked: Option<Asked>,
    next_id: u16,
    /// The state that is being put away.
    #[cfg(feature = "oscore")]
    state: Vec<u8, STATE_CAPACITY>,
}

impl Storage {
    /// Begins another job, whatever was going on.
    pub(crate) fn start(&mut self, job: Job) {
        self.job = job;
        if self.asked == Some(Asked::Job) {
            self.asked = Some(Asked::Stale);
        }
    }
}

/// What is asked next, before the bytes are borrowed.
enum Next {
    Load(Key, Asked),
    Staging,
    Record(Key, usize),
    Plain(Action<'static>),
    #[cfg(feature = "oscore")]
    Keys(usize, Wanted),
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// The next request to the storage, when none is out.
    pub(crate) fn poll_storage(&mut self) -> Option<Event<'_>> {
        if self.storage.asked.is_some() {
            return None;
        }
        let next = self.next_request()?;
        self.storage.next_id = self.storage.next_id.wrapping_add(1);
        let id = StoreId(self.storage.next_id);
        self.storage.asked = Some(Asked::Job);
        Some(match next {
            Next::Load(key, asked) => {
                self.storage.asked = Some(asked);
                Event::Load { id, key }
            }
            Next::Staging => Event::Persist { id, action: self.core.staging.first()? },
            Next::Record(key, length) => {
                Event::Persist { id, action: Action::Stage { key, bytes: self.body.get(..length)? } }
            }
            Next::Plain(action) => Event::Persist { id, action },
            #[cfg(feature = "oscore")]
            Next::Keys(slot, wanted) => {
                self.storage.asked = Some(Asked::Keys { slot, wanted });
                match wanted {
                    Wanted::Secret(instance) => Event::Load { id, key: Key::MasterSecret(instance) },
                    Wanted::State(name) => Event::Recall { id, name },
                    Wanted::Reservation(name) => {
                        let mut space = [0; STATE_CAPACITY];
                        let state = self.wanted_state(slot)?;
                        self.storage.state = Vec::from_slice(state.emit(&mut space)).unwrap_or_default();
                        let bytes = &self.storage.state;
                        Event::Persist { id, action: Action::Put { name, bytes } }
                    }
                }
            }
        })
    }

    fn next_request(&mut self) -> Option<Next> {
        #[cfg(feature = "oscore")]
        if let Some((slot, wanted)) = self.wanted_for_keys() {
            return Some(Next::Keys(slot, wanted));
        }
        match self.storage.job {
            Job::Load { number: None, .. } => return Some(Next::Load(Key::Index, Asked::Job)),
            Job::Load { number: Some(number), .. } => {
                let key = self.table_key(number)?;
                return Some(Next::Load(key, Asked::Job));
            }
            Job::Drain | Job::Save { .. } if !self.core.staging.is_empty() => return Some(Next::Staging),
            Job::Save { number, .. } => {
                let Some((key, length)) = self.emit_record(number) else {
                    return Some(Next::Plain(Action::Commit));
                };
                return Some(Next::Record(key, length));
            }
            #[cfg(feature = "resumption")]
            Job::Keep { slot, step } => {
                use crate::resumption::Keeping;
                return match step {
                    Keeping::Stage => {
                        let Some((key, length)) = self.emit_session(slot) else {
                            self.session_kept(slot, step, false);
                            return None;
                        };
                        Some(Next::Record(key, length))
                    }
                    Keeping::Commit => Some(Next::Plain(Action::Commit)),
                    Keeping::Confirm => Some(Next::Plain(Action::Confirm)),
                };
            }
            Job::Confirm => return Some(Next::Plain(Action::Confirm)),
            Job::Discard => return Some(Next::Plain(Action::Discard)),
            Job::Revert => return Some(Next::Plain(Action::Revert)),
            Job::Idle | Job::Drain => {}
        }
        #[cfg(feature = "psk")]
        if let Some((slot, key)) = self.wanted_credential() {
            return Some(Next::Load(key, Asked::Credential { slot, key }));
        }
        None
    }

    /// The key of the record with this number in the table; `None` behind the last one.
    fn table_key(&self, number: usize) -> Option<Key> {
        let securities =
            self.core.accounts.securities.iter().map(|security| Key::Security(security.instance));
        let servers = self.core.accounts.servers.iter().map(|server| Key::Server(server.instance));
        let access = self.core.access().iter().map(|access| Key::AccessControl(access.instance));
        let keys = securities.chain(servers).chain(access);
        #[cfg(feature = "oscore")]
        let keys =
            keys.chain(self.core.accounts.contexts.iter().map(|context| Key::Oscore(context.instance)));
        { keys }.nth(number)
    }

    /// Writes the record with this number, at last the index, into the body buffer.
    fn emit_record(&mut self, number: usize) -> Option<(Key, usize)> {
        let count = self.table_length();
        let key = if number == count { Key::Index } else { self.table_key(number)? };
        self.free_body();
        self.body.resize_default(B).ok()?;
        let mut out = RecordWriter::new(&mut self.body);
        match key {
            Key::Security(instance) => self.core.accounts.security(instance)?.emit(&mut out),
            Key::Server(instance) => {
                self.core.accounts.servers.iter().find(|server| server.instance == instance)?.emit(&mut out);
            }
            Key::AccessControl(instance) => {
                self.core.access().iter().find(|access| access.instance == instance)?.emit(&mut out);
            }
            #[cfg(feature = "oscore")]
            Key::Oscore(instance) => self.core.accounts.context(instance)?.emit(&mut out),
            _ => emit_index(
                &mut out,
                self.core.accounts.securities.iter().map(|security| &security.instance),
                self.core.accounts.servers.iter().map(|server| &server.instance),
                self.core.access().iter().map(|access| &access.instance),
                #[cfg(feature = "oscore")]
                self.core.accounts.contexts.iter().map(|context| &context.instance),
            ),
        }
        let length = out.finish()?.len();
        Some((key, length))
    }

    fn table_length(&self) -> usize {
        let accounts = self.core.accounts.securities.len().saturating_add(self.core.accounts.servers.len());
        #[cfg(feature = "oscore")]
        let accounts = accounts.saturating_add(self.core.accounts.contexts.len());
        accounts.saturating_add(self.core.access().len())
    }

    /// Answers [`Event::Persist`]. Then go on draining; an answer to anything else is ignored.
    pub fn persisted(&mut self, id: StoreId, result: Stored) {
        if id.0 != self.storage.next_id {
            return;
        }
        self.is_due = true;
        let asked = self.storage.asked.take();
        #[cfg(feature = "oscore")]
        if let Some(Asked::Keys { slot, wanted: Wanted::Reservation(name) }) = asked {
            let state = core::mem::take(&mut self.storage.state);
            return self.numbers_reserved(slot, name, result.map(|()| state));
        }
        if asked != Some(Asked::Job) {
            return;
        }
        match (self.storage.job, result) {
            (Job::Drain | Job::Save { .. }, Ok(())) if !self.core.staging.is_empty() => {
                self.core.staging.pop();
                if self.storage.job == Job::Drain && self.core.staging.is_empty() {
                    self.storage.job = Job::Idle;
                    self.release_replies();
                }
            }
            (Job::Save { number, then }, Ok(())) => {
                if number <= self.table_length() {
                    self.storage.job = Job::Save { number: number.saturating_add(1), then };
                    return;
                }
                self.free_body();
                self.storage.job = match then {
                    AfterSave::Confirm => Job::Confirm,
                    AfterSave::Bootstrap => Job::Idle,
                };
                if then == AfterSave::Bootstrap {
                    self.bootstrap_saved(Ok(()));
                }
            }
            (Job::Confirm, result) => {
                self.storage.job = Job::Idle;
                if result.is_ok() && core::mem::take(&mut self.is_trial) {
                    self.notice(Notice::Confirmed);
                }
            }
            #[cfg(feature = "resumption")]
            (Job::Keep { slot, step }, result) => self.session_kept(slot, step, result.is_ok()),
            (Job::Discard, _) => self.load(AfterLoad::Resume),
            (Job::Revert, Ok(())) => {
                self.is_trial = false;
                self.is_unproven = false;
                // What was kept for the accounts before proves nothing to a server that waits for a full handshake.
                #[cfg(feature = "resumption")]
                {
                    self.is_session_doubted = true;
                }
                self.notice(Notice::RolledBack);
                self.load(AfterLoad::Restart);
            }
            (Job::Revert, Err(_)) => {
                self.storage.job = Job::Idle;
                self.is_unproven = false;
                self.is_trial = false;
            }
            (Job::Drain, Err(_)) => {
                self.core.staging.clear();
                self.storage.job = Job::Idle;
                self.notice(Notice::StorageFailed);
                self.write_failed();
            }
            (Job::Save { then, .. }, Err(_)) => {
                self.free_body();
                self.core.staging.clear();
                self.storage.job = Job::Idle;
                self.notice(Notice::StorageFailed);
                if then == AfterSave::Bootstrap {
                    self.bootstrap_saved(Err(StoreError::Failed));
                }
            }
            (Job::Idle | Job::Load { .. } | Job::Drain, _) => {}
        }
    }

    /// Answers [`Event::Load`] with the record, or `None` when there is no such record. Then go on draining; an answer to
    /// anything else is ignored. The record is copied where it is needed.
    pub fn loaded(&mut self, id: StoreId, record: Option<&[u8]>) {
        if id.0 != self.storage.next_id {
            return;
        }
        let Some(asked) = self.storage.asked.take() else { return };
        self.is_due = true;
        match asked {
            Asked::Job => self.record_loaded(record),
            Asked::Stale => {}
            #[cfg(feature = "psk")]
            Asked::Credential { slot, key } => self.credential_loaded(slot, key, record),
            #[cfg(feature = "oscore")]
            Asked::Keys { slot, wanted } => self.key_record_loaded(slot, wanted, record),
        }
    }

    /// Apart, as all that is loaded: what follows it on the stack is deep.
    #[inline(never)]
    fn record_loaded(&mut self, record: Option<&[u8]>) {
        let Job::Load { number, then } = self.storage.job else { return };
        let Some(number) = number else {
            let index = record.unwrap_or_default();
            let keys = || (0..).map_while(|number| index_entry(index, number));
            self.core.accounts.clear(|instance| keys().any(|key| key == Key::Server(instance)));
            self.core.access.clear();
            // What does not fit was not written by this client: it is left out.
            for key in keys() {
                match key {
                    Key::Security(instance) => {
                        let _ = self.core.accounts.security_mut(instance);
                    }
                    Key::Server(instance) => {
                        let _ = self.core.accounts.server_mut(instance);
                    }
                    Key::AccessControl(instance) => {
                        let access = self.core.access_mut();
                        let _ = access.map(|access| access.push(AccessControl::empty(instance)));
                    }
                    #[cfg(feature = "oscore")]
                    Key::Oscore(instance) => {
                        let _ = self.core.accounts.context_mut(instance);
                    }
                    _ => {}
                }
            }
            self.storage.job = Job::Load { number: Some(0), then };
            return self.finish_load(0, then);
        };
        if let (Some(key), Some(record)) = (self.table_key(number), record) {
            match key {
                Key::Security(instance) => {
                    if let (Some(place), Some(security)) =
                        (self.core.accounts.security_mut(instance), Security::parse(instance, record))
                    {
                        *place = security;
                    }
                }
                Key::Server(instance) => {
                    if let (Some(place), Some(server)) =
                        (self.core.accounts.server_mut(instance), Server::parse(instance, record))
                    {
                        let alert = place.value(TLS_ALERT);
                        *place = server;
                        place.set(TLS_ALERT, alert);
                    }
                }
                Key::AccessControl(instance) => {
                    let place = self
                        .core
                        .access_mut()
                        .and_then(|access| access.iter_mut().find(|access| access.instance == instance));
                    if let Some(place) = place
                        && let Some(access) = AccessControl::parse(instance, record)
                    {
                        *place = access;
                    }
                }
                #[cfg(feature = "oscore")]
                Key::Oscore(instance) => {
                    if let (Some(place), Some(context)) =
                        (self.core.accounts.context_mut(instance), SecurityContext::parse(instance, record))
                    {
                        *place = context;
                    }
                }
                _ => {}
            }
        }
        self.finish_load(number.saturating_add(1), then);
    }

    fn finish_load(&mut self, number: usize, then: AfterLoad) {
        self.storage.job = Job::Load { number: Some(number), then };
        if number >= self.table_length() {
            self.storage.job = Job::Idle;
            match then {
                AfterLoad::Restart => self.is_restart_due = true,
                AfterLoad::Resume => self.is_resume_due = true,
            }
        }
    }

    /// Starts reading the table.
    pub(crate) fn load(&mut self, then: AfterLoad) {
        self.core.staging.clear();
        self.storage.start(Job::Load { number: None, then });
        self.is_due = true;
    }

    /// Starts staging the credentials that were just written, if there are any; whether the answer has to wait.
    pub(crate) fn drain_staging(&mut self) -> bool {
        if self.core.staging.is_empty() {
            return false;
        }
        self.storage.job = Job::Drain;
        true
    }

    /// Whether the table in memory is the one in storage, or a change to it that is whole.
    pub(crate) fn is_table_ready(&self) -> bool {
        !matches!(self.storage.job, Job::Load { .. } | Job::Discard | Job::Revert)
    }

    /// Saves what a server changed on `/1` or `/2`, once nothing else is going on.
    pub(crate) fn save_changes(&mut self) {
        if self.is_changed
            && self.storage.job == Job::Idle
            && !self.is_unproven
            && !self.bootstrap.is_under_way()
        {
            self.is_changed = false;
            self.storage.job = Job::Save { number: 0, then: AfterSave::Confirm };
        }
    }
}
