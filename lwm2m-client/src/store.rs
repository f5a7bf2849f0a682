//! A storage of files: the contract of module `persist` on a folder.
//!
//! `current` and `previous` each hold a whole set in one file; a set is written beside its place, synced and renamed,
//! so that a power loss leaves the old or the new one; so is `states`, what is in no set. What is staged is kept in memory: a restart drops it, as the
//! contract says. Files are readable by their owner alone, because they hold keys.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::error::StoreError;
#[cfg(feature = "oscore")]
use crate::persist::StateName;
use crate::persist::{Action, Key, Stored};

const MAGIC: &[u8; 8] = b"lwm2mcl1";
#[cfg(feature = "oscore")]
const MAGIC_STATES: &[u8; 8] = b"lwm2mcs1";

/// States of keys that are kept.
#[cfg(feature = "oscore")]
const STATES: usize = 64;

/// What was put away, the latest last.
#[cfg(feature = "oscore")]
type States = Vec<(StateName, Vec<u8>)>;

type Records = BTreeMap<Key, Zeroizing<Vec<u8>>>;

/// The storage behind the runner: a folder, or memory only.
pub struct Store {
    folder: Option<PathBuf>,
    current: Records,
    previous: Option<Records>,
    staged: BTreeMap<Key, Option<Zeroizing<Vec<u8>>>>,
    #[cfg(feature = "oscore")]
    states: States,
}

impl Store {
    /// A storage that forgets everything at the end of the process.
    pub fn in_memory() -> Self {
        Store {
            folder: None,
            current: Records::new(),
            previous: None,
            staged: BTreeMap::new(),
            #[cfg(feature = "oscore")]
            states: States::new(),
        }
    }

    /// Opens the storage in `folder`, which is made when it does not exist.
    ///
    /// # Errors
    /// The folder cannot be made or read, or a file in it is not one of ours.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let current = read(&folder.join("current"))?.unwrap_or_default();
        let previous = read(&folder.join("previous"))?;
        Ok(Store {
            folder: Some(folder.to_owned()),
            current,
            previous,
            staged: BTreeMap::new(),
            #[cfg(feature = "oscore")]
            states: read_states(&folder.join("states"))?,
        })
    }

    /// Answers [`Event::Load`](crate::Event::Load).
    pub fn load(&self, key: Key) -> Option<&[u8]> {
        self.current.get(&key).map(|bytes| bytes.as_slice())
    }

    /// Answers [`Event::Recall`](crate::Event::Recall).
    #[cfg(feature = "oscore")]
    pub fn recall(&self, name: StateName) -> Option<&[u8]> {
        self.states.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// Whether there is nothing in it yet.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Answers [`Event::Persist`](crate::Event::Persist).
    ///
    /// # Errors
    /// The file system failed, or there was nothing to revert to.
    pub fn apply(&mut self, action: &Action<'_>) -> Stored {
        match action {
            Action::Stage { key, bytes } => {
                self.staged.insert(*key, Some(Zeroizing::new(bytes.to_vec())));
                Ok(())
            }
            Action::Remove { key } => {
                self.staged.insert(*key, None);
                Ok(())
            }
            Action::Discard => {
                self.staged.clear();
                Ok(())
            }
            Action::Commit => self.commit(),
            Action::Confirm => self.confirm(),
            Action::Revert => self.revert(),
            #[cfg(feature = "oscore")]
            Action::Put { name, bytes } => self.put(*name, bytes),
        }
    }

    /// Removes everything: a device that returns to what left the factory. How far keys were used stays known, because they may
    /// come back with it.
    ///
    /// # Errors
    /// The file system failed.
    pub fn clear(&mut self) -> Stored {
        self.staged.clear();
        // Nothing that a restart could go back to, before there is nothing.
        self.confirm()?;
        self.write("current", &Records::new())?;
        self.current = Records::new();
        Ok(())
    }

    /// The latest comes last.
    #[cfg(feature = "oscore")]
    fn put(&mut self, name: StateName, bytes: &[u8]) -> Stored {
        let mut states = self.states.clone();
        states.retain(|(known, _)| *known != name);
        if states.len() >= STATES {
            states.remove(0);
        }
        states.push((name, bytes.to_vec()));
        if let Some(folder) = &self.folder {
            write_states(folder, &states).map_err(|_| StoreError::Failed)?;
        }
        self.states = states;
        Ok(())
    }

    fn commit(&mut self) -> Stored {
        let mut next = self.current.clone();
        for (key, value) in core::mem::take(&mut self.staged) {
            match value {
                Some(bytes) => next.insert(key, bytes),
                None => next.remove(&key),
            };
        }
        // Previous first: between the two writes the current set is still the old one, and reverting to itself is
        // harmless.
        if self.previous.is_none() {
            self.write("previous", &self.current)?;
            self.previous = Some(self.current.clone());
        }
        self.write("current", &next)?;
        self.current = next;
        Ok(())
    }

    fn confirm(&mut self) -> Stored {
        if self.previous.is_some() {
            self.remove("previous")?;
            self.previous = None;
        }
        Ok(())
    }

    fn revert(&mut self) -> Stored {
        self.staged.clear();
        let Some(previous) = self.previous.clone() else { return Err(StoreError::NothingToRevert) };
        self.write("current", &previous)?;
        self.current = previous;
        self.confirm()
    }

    fn write(&self, name: &str, records: &Records) -> Stored {
        let Some(folder) = &self.folder else { return Ok(()) };
        write(folder, name, records).map_err(|_| StoreError::Failed)
    }

    fn remove(&self, name: &str) -> Stored {
        let Some(folder) = &self.folder else { return Ok(()) };
        let removed = fs::remove_file(folder.join(name)).and_then(|()| sync(folder));
        removed.map_err(|_| StoreError::Failed)
    }
}

fn write(folder: &Path, name: &str, records: &Records) -> io::Result<()> {
    let mut content = Zeroizing::new(MAGIC.to_vec());
    for (key, bytes) in records {
        let size = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        content.extend_from_slice(&key.to_bytes());
        content.extend_from_slice(&size.to_be_bytes());
        content.extend_from_slice(bytes);
    }
    replace(folder, name, &content)
}

/// Writes a file beside its place and puts it there.
fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let beside = folder.join(std::format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    // The rename itself is durable only when the folder is.
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<Option<Records>> {
    let mut content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let records = parse(&content);
    content.zeroize();
    records.map(Some).ok_or_else(|| damaged(path))
}

#[cfg(feature = "oscore")]
fn write_states(folder: &Path, states: &States) -> io::Result<()> {
    let mut content = MAGIC_STATES.to_vec();
    for (name, bytes) in states {
        content.extend_from_slice(name);
        content.push(u8::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
        content.extend_from_slice(bytes);
    }
    replace(folder, "states", &content)
}

#[cfg(feature = "oscore")]
fn read_states(path: &Path) -> io::Result<States> {
    match fs::read(path) {
        Ok(content) => parse_states(&content).ok_or_else(|| damaged(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(States::new()),
        Err(error) => Err(error),
    }
}

#[cfg(feature = "oscore")]
fn parse_states(content: &[u8]) -> Option<States> {
    let mut rest = content.strip_prefix(MAGIC_STATES.as_slice())?;
    let mut states = States::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_first_chunk()?;
        let (size, after) = after.split_first()?;
        let (bytes, after) = after.split_at_checked(usize::from(*size))?;
        states.push((*name, bytes.to_vec()));
        rest = after;
    }
    Some(states)
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, std::format!("{} is damaged", path.display()))
}

fn parse(content: &[u8]) -> Option<Records> {
    let mut rest = content.strip_prefix(MAGIC.as_slice())?;
    let mut records = Records::new();
    while !rest.is_empty() {
        let (&[kind, high, low, size_high, size_low], after) = rest.split_first_chunk::<5>()?;
        let size = usize::from(u16::from_be_bytes([size_high, size_low]));
        let (bytes, after) = after.split_at_checked(size)?;
        records.insert(Key::from_bytes([kind, high, low])?, Zeroizing::new(bytes.to_vec()));
        rest = after;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn stage(store: &mut Store, instance: u16, bytes: &[u8]) {
        store.apply(&Action::Stage { key: Key::Server(instance), bytes }).unwrap();
    }

    #[cfg(feature = "resumption")]
    #[test]
    fn accounts_from_the_factory_end_the_session_of_those_before() {
        use crate::identity::{FactoryAccount, PresharedKey, provision};
        let mut store = Store::in_memory();
        for action in
            [Action::Stage { key: Key::Session(0), bytes: b"session" }, Action::Commit, Action::Confirm]
        {
            store.apply(&action).unwrap();
        }
        let credential = Some(PresharedKey { identity: b"identity", key: &[7; 16] }.into());
        let account = FactoryAccount::bootstrap(0, "coaps://server", credential);
        provision(&[account], &mut |action| store.apply(action)).unwrap();
        assert_eq!(store.load(Key::Session(0)), None);
        assert!(store.load(Key::Secret(0)).is_some());
    }

    #[test]
    fn a_restart_drops_what_was_staged_and_keeps_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        stage(&mut store, 1, b"one");
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert!(store.is_empty());
        stage(&mut store, 1, b"one");
        store.apply(&Action::Commit).unwrap();
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().load(Key::Server(1)), Some(b"one".as_slice()));
    }

    #[test]
    fn revert_brings_back_the_last_confirmed_set_even_after_two_commits_and_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        for (content, confirm) in [(b"good", true), (b"bad1", false), (b"bad2", false)] {
            stage(&mut store, 1, content);
            store.apply(&Action::Commit).unwrap();
            if confirm {
                store.apply(&Action::Confirm).unwrap();
            }
        }
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(store.load(Key::Server(1)), Some(b"bad2".as_slice()));
        store.apply(&Action::Revert).unwrap();
        assert_eq!(store.load(Key::Server(1)), Some(b"good".as_slice()));
        assert_eq!(store.apply(&Action::Revert), Err(StoreError::NothingToRevert));
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().load(Key::Server(1)), Some(b"good".as_slice()));
    }

    #[test]
    fn a_damaged_file_is_refused_and_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        stage(&mut store, 1, b"content");
        store.apply(&Action::Commit).unwrap();
        let path = folder.path().join("current");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            if cut == MAGIC.len() {
                continue; // an empty set is a valid file
            }
            fs::write(&path, whole.get(..cut).unwrap()).unwrap();
            assert!(Store::open(folder.path()).is_err(), "{cut}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("state")).unwrap();
        stage(&mut store, 1, b"content");
        store.apply(&Action::Commit).unwrap();
        for name in ["current", "previous"] {
            let mode = fs::metadata(folder.path().join("state").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
