//! The sessions of a planned stop: one sealed file in the data folder, written when the server stops and consumed by the next
//! start.
//!
//! Invariants: before anything of it is used the file is gone, and the store has forgotten it, both durably: a copy that is put
//! back is none that the store expects. Each frame opens only at its place in the file that it was written for; what is cut
//! off or from the future is not used.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::seal::{Sealer, beside, replace_private, sync_folder};
use super::{Store, StoreError};
use crate::endpoint::Saved;

/// Where the sessions of a planned stop are kept.
pub struct SessionFile {
    path: PathBuf,
    sealer: Sealer,
    store: Arc<dyn Store>,
}

/// What was saved, read frame by frame. It ends at the first frame that does not open.
#[derive(Debug)]
pub struct SavedSessions {
    /// How long ago it was saved.
    pub age: Duration,
    file: BufReader<File>,
    sealer: Sealer,
    header: Vec<u8>,
    next: u32,
    /// Of the frame that was opened last.
    opened: std::vec::IntoIter<Saved>,
    is_over: bool,
    path: PathBuf,
}

const MAGIC: &[u8; 8] = b"LWM2MRS3";
/// Magic, a random number, and when it was saved in milliseconds since 1970.
const HEADER: usize = 8 + 16 + 8;
/// Remotes in one frame, and the longest frame that is read.
const FRAME: usize = 256;
const LONGEST_FRAME: usize = 64 << 20;

impl SessionFile {
    /// The file of a data folder whose lock is held, and the store in it.
    #[must_use]
    pub fn new(data: &Path, sealer: Sealer, store: Arc<dyn Store>) -> Self {
        Self { path: data.join("sessions.sealed"), sealer, store }
    }

    /// Writes what is saved, durably before it returns. Answers how many remotes it has.
    ///
    /// # Errors
    /// When the file or its number in the store cannot be written.
    pub fn put(&self, now_ms: u64, remotes: impl IntoIterator<Item = Saved>) -> Result<u64, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| self.io(io::Error::other("no randomness")))?;
        self.store.expect_sessions(&random)?;
        let header = [&MAGIC[..], &random, &now_ms.to_be_bytes()].concat();
        let mut remotes = remotes.into_iter();
        let mut count = 0_u64;
        replace_private(&self.path, |file| {
            let mut file = BufWriter::new(file);
            file.write_all(&header)?;
            for index in 0_u32.. {
                let frame: Vec<Saved> = remotes.by_ref().take(FRAME).collect();
                count = count.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
                // In one piece, so that no shorter one is left behind with keys in it.
                let length = postcard::experimental::serialized_size(&frame).map_err(io::Error::other)?;
                let mut plain = Zeroizing::new(vec![0; length]);
                postcard::to_slice(&frame, &mut plain).map_err(io::Error::other)?;
                let sealed =
                    self.sealer.seal_with(&place(&header, index), &plain).map_err(io::Error::other)?;
                let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
                file.write_all(&length.to_be_bytes())?;
                file.write_all(&sealed)?;
                // The last one is empty, so that a file that was cut off is known.
                if frame.is_empty() {
                    break;
                }
            }
            file.flush()
        })
        .map_err(|error| self.io(error))?;
        Ok(count)
    }

    /// Takes what the last planned stop saved; `None` when there was none. The file is gone afterwards, whatever becomes of
    /// what was in it.
    ///
    /// # Errors
    /// When the file cannot be read or removed, or is not to be used: damaged, saved in the future, or a copy of one that was
    /// consumed before.
    pub fn take(&self, now_ms: u64) -> Result<Option<SavedSessions>, StoreError> {
        // Of a stop that was cut short.
        let _ = fs::remove_file(beside(&self.path));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.store.consume_sessions(None)?;
                return Ok(None);
            }
            Err(error) => return Err(self.io(error)),
        };
        fs::remove_file(&self.path).and_then(|()| sync_folder(&self.path)).map_err(|error| self.io(error))?;
        let mut file = BufReader::new(file);
        let mut header = vec![0; HEADER];
        let is_whole = file.read_exact(&mut header).is_ok();
        let parts = header.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk());
        let parts =
            parts.and_then(|(random, saved)| Some((random, u64::from_be_bytes(saved.try_into().ok()?))));
        let is_expected =
            self.store.consume_sessions(parts.map(|(random, _)| random).filter(|_| is_whole))?;
        if !is_whole {
            return Err(self.corrupt("it is too short"));
        }
        let (_, saved) = parts.ok_or_else(|| self.corrupt("it is of another version of this server"))?;
        if !is_expected {
            return Err(
                self.corrupt("it is not what the last stop wrote, but perhaps a copy that was put back")
            );
        }
        let age = now_ms.checked_sub(saved).map(Duration::from_millis);
        let age = age.ok_or_else(|| self.corrupt("the clock is behind the time it was saved at"))?;
        Ok(Some(SavedSessions {
            age,
            file,
            sealer: self.sealer.clone(),
            header,
            next: 0,
            opened: Vec::new().into_iter(),
            is_over: false,
            path: self.path.clone(),
        }))
    }

    fn io(&self, error: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), error }
    }

    fn corrupt(&self, what: &str) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), what: what.to_owned() }
    }
}

impl core::fmt::Debug for SessionFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SavedSessions {
    /// The next frame; empty behind the last one.
    fn frame(&mut self) -> Option<Vec<Saved>> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length).ok()?;
        let length =
            usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= LONGEST_FRAME)?;
        let mut sealed = vec![0; length];
        self.file.read_exact(&mut sealed).ok()?;
        let plain = Zeroizing::new(self.sealer.open_with(&place(&self.header, self.next), &sealed)?);
        self.next = self.next.saturating_add(1);
        postcard::from_bytes(&plain).ok()
    }
}

impl Iterator for SavedSessions {
    type Item = Saved;

    fn next(&mut self) -> Option<Saved> {
        if self.opened.len() == 0 && !self.is_over {
            if let Some(frame) = self.frame() {
                self.opened = frame.into_iter();
            } else {
                tracing::warn!(
                    "{} is damaged behind its first {} frames: the devices in the rest have to come again",
                    self.path.display(),
                    self.next
                );
            }
            self.is_over = self.opened.len() == 0;
        }
        self.opened.next()
    }
}

/// Associated data: the file, and the place in it.
fn place(header: &[u8], index: u32) -> Vec<u8> {
    [b"lwm2m-server sessions ", header, &index.to_be_bytes()].concat()
}
