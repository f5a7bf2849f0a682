//! The client's storage: in a product some pages of flash, here memory. Whole sets are kept, as the contract wants.

use lwm2m_client::{Action, Key, RECORD_CAPACITY, StoreError, Stored};

/// How many records a set can have: an index, two accounts with their credentials.
const RECORDS: usize = 8;

type Records = heapless::Vec<(Key, heapless::Vec<u8, RECORD_CAPACITY>), RECORDS>;

/// The current, the staged and the previous set.
#[derive(Default)]
pub struct Storage {
    current: Records,
    staged: Option<Records>,
    previous: Option<Records>,
}

impl Storage {
    /// The record of the current set.
    pub fn load(&self, key: Key) -> Option<&[u8]> {
        self.current.iter().find(|(other, _)| *other == key).map(|(_, bytes)| bytes.as_slice())
    }

    /// Does what the client asks.
    pub fn apply(&mut self, action: &Action<'_>) -> Stored {
        match action {
            Action::Stage { key, bytes } => {
                let staged = self.staged.get_or_insert_with(|| self.current.clone());
                staged.retain(|(other, _)| other != key);
                let bytes = heapless::Vec::from_slice(bytes).map_err(|_| StoreError::Failed)?;
                staged.push((*key, bytes)).map_err(|_| StoreError::Failed)
            }
            Action::Remove { key } => {
                let staged = self.staged.get_or_insert_with(|| self.current.clone());
                staged.retain(|(other, _)| other != key);
                Ok(())
            }
            Action::Commit => {
                if let Some(staged) = self.staged.take() {
                    let before = core::mem::replace(&mut self.current, staged);
                    self.previous.get_or_insert(before);
                }
                Ok(())
            }
            Action::Confirm => {
                self.previous = None;
                Ok(())
            }
            Action::Discard => {
                self.staged = None;
                Ok(())
            }
            Action::Revert => {
                self.current = self.previous.take().ok_or(StoreError::NothingToRevert)?;
                Ok(())
            }
        }
    }
}
