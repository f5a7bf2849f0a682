//! The client's storage: in a product some pages of flash, here memory. Whole sets are kept, as the contract wants.

use heapless::Vec;
use lwm2m_client::{Action, Key, RECORD_CAPACITY, StoreError, Stored};
#[cfg(feature = "oscore")]
use lwm2m_client::{STATE_CAPACITY, StateName};

/// How many records a set can have: an index, two accounts with their credentials.
const RECORDS: usize = if cfg!(feature = "oscore") { 12 } else { 8 };

#[derive(Default)]
struct Record {
    key: Option<Key>,
    bytes: Vec<u8, RECORD_CAPACITY>,
}

impl Record {
    fn write(&mut self, key: Option<Key>, bytes: &[u8]) -> Stored {
        self.key = None;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes).map_err(|_| StoreError::Failed)?;
        self.key = key;
        Ok(())
    }
}

type Set = [Record; RECORDS];

/// Which of the sets is what.
#[derive(Clone, Copy, Default)]
struct Roles {
    current: usize,
    staged: Option<usize>,
    previous: Option<usize>,
}

/// The current, the staged and the previous set.
#[derive(Default)]
pub struct Storage {
    sets: [Set; 3],
    roles: Roles,
    /// What is in no set, the latest last.
    #[cfg(feature = "oscore")]
    states: Vec<State, 32>,
}

/// How far keys were used.
#[cfg(feature = "oscore")]
struct State {
    name: StateName,
    bytes: Vec<u8, STATE_CAPACITY>,
}

impl Storage {
    /// The record of the current set.
    pub fn load(&self, key: Key) -> Option<&[u8]> {
        let record = self.sets.get(self.roles.current)?.iter().find(|record| record.key == Some(key))?;
        Some(record.bytes.as_slice())
    }

    /// What was put away under this name.
    #[cfg(feature = "oscore")]
    pub fn recall(&self, name: StateName) -> Option<&[u8]> {
        let state = self.states.iter().find(|state| state.name == name)?;
        Some(state.bytes.as_slice())
    }

    /// Does what the client asks.
    pub fn apply(&mut self, action: &Action<'_>) -> Stored {
        match action {
            Action::Stage { key, bytes } => {
                let staged = self.staged().ok_or(StoreError::Failed)?;
                let place = staged.iter().position(|record| record.key == Some(*key));
                let place = place.or_else(|| staged.iter().position(|record| record.key.is_none()));
                let record = place.and_then(|place| staged.get_mut(place)).ok_or(StoreError::Failed)?;
                record.write(Some(*key), bytes)
            }
            Action::Remove { key } => {
                let staged = self.staged().ok_or(StoreError::Failed)?;
                let record = staged.iter_mut().find(|record| record.key == Some(*key));
                record.map_or(Ok(()), |record| record.write(None, &[]))
            }
            Action::Commit => {
                let Roles { current, staged, previous } = &mut self.roles;
                if let Some(staged) = staged.take() {
                    previous.get_or_insert(*current);
                    *current = staged;
                }
                Ok(())
            }
            Action::Confirm => {
                self.roles.previous = None;
                Ok(())
            }
            Action::Discard => {
                self.roles.staged = None;
                Ok(())
            }
            Action::Revert => {
                self.roles.current = self.roles.previous.take().ok_or(StoreError::NothingToRevert)?;
                Ok(())
            }
            #[cfg(feature = "oscore")]
            Action::Put { name, bytes } => {
                let bytes = Vec::from_slice(bytes).map_err(|_| StoreError::Failed)?;
                self.states.retain(|state| state.name != *name);
                if self.states.is_full() {
                    self.states.remove(0);
                }
                self.states.push(State { name: *name, bytes }).map_err(|_| StoreError::Failed)
            }
        }
    }

    /// The staged set; it begins as a copy of the current one.
    fn staged(&mut self) -> Option<&mut Set> {
        let Roles { current, staged, previous } = self.roles;
        if let Some(staged) = staged {
            return self.sets.get_mut(staged);
        }
        let free = (0..self.sets.len()).find(|set| *set != current && Some(*set) != previous)?;
        let [from, to] = self.sets.get_disjoint_mut([current, free]).ok()?;
        for (to, from) in to.iter_mut().zip(from) {
            to.write(from.key, &from.bytes).ok()?;
        }
        self.roles.staged = Some(free);
        Some(to)
    }
}
