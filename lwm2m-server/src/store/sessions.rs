//! The sessions of a planned stop: one sealed file in the data folder, written when the server stops and consumed by the next
//! start.
//!
//! Invariants: before anything of it is used the file is gone, and the store has forgotten it, both durably: a copy that is put
//! back is none that the store expects. Each frame opens only at its place in the file that it was written for; what is cut
//! off or from the future is not used.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::seal::{Sealer, beside, replace_private, sync_folder};
use super::{Store, StoreError};
use crate::endpoint::{Address, Addresses, Listener, Saved};

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
    /// Where the server listened.
    pub addresses: Addresses,
    file: BufReader<File>,
    sealer: Sealer,
    header: Vec<u8>,
    next: u32,
    /// Of the frame that was opened last.
    opened: std::vec::IntoIter<Saved>,
    is_over: bool,
    path: PathBuf,
}

const MAGIC: &[u8; 8] = b"LWM2MRS6";
/// Magic, a random number, when it was saved in milliseconds since 1970, and where the server listened.
const HEADER: usize = 8 + 16 + 8 + LISTENED;
/// The addresses in the order of [`Listener::ALL`]; one without a port is none.
const LISTENED: usize = Listener::COUNT * 18;
/// Remotes in one frame, and the longest frame that is read.
const FRAME: usize = 256;
const LONGEST_FRAME: usize = 64 << 20;

impl SessionFile {
    /// The file of a data folder whose lock is held, and the store in it.
    #[must_use]
    pub fn new(data: &Path, sealer: Sealer, store: Arc<dyn Store>) -> Self {
        Self { path: data.join("sessions.sealed"), sealer, store }
    }

    /// Writes what is saved of a server that listened there, durably before it returns. Answers how many remotes it has.
    ///
    /// # Errors
    /// When the file or its number in the store cannot be written.
    pub fn put(
        &self,
        now_ms: u64,
        addresses: &Addresses,
        remotes: impl IntoIterator<Item = Saved>,
    ) -> Result<u64, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| self.io(io::Error::other("no randomness")))?;
        self.store.expect_sessions(&random)?;
        let header = header(&random, now_ms, addresses);
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
        let mut header = Vec::with_capacity(HEADER);
        let limit = u64::try_from(HEADER).unwrap_or(u64::MAX);
        file.by_ref().take(limit).read_to_end(&mut header).map_err(|error| self.io(error))?;
        let parts = parts(&header);
        let is_expected = self.store.consume_sessions(parts.as_ref().map(|(random, ..)| *random))?;
        let Some((_, saved, addresses)) = parts else {
            let is_ours = MAGIC.starts_with(&header) || header.starts_with(MAGIC);
            return Err(self.corrupt(if is_ours {
                "it is too short"
            } else {
                "it is of another version of this server"
            }));
        };
        if !is_expected {
            return Err(
                self.corrupt("it is not what the last stop wrote, but perhaps a copy that was put back")
            );
        }
        let age = now_ms.checked_sub(saved).map(Duration::from_millis);
        let age = age.ok_or_else(|| self.corrupt("the clock is behind the time it was saved at"))?;
        Ok(Some(SavedSessions {
            age,
            addresses,
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

fn header(random: &[u8; 16], now_ms: u64, addresses: &Addresses) -> Vec<u8> {
    let nowhere = SocketAddr::from(([0; 4], 0));
    let listened = Listener::ALL.map(|listener| Address::from(addresses.of(listener).unwrap_or(nowhere)));
    let listened = listened.iter().flat_map(Address::bytes).copied();
    [&MAGIC[..], random, &now_ms.to_be_bytes()].concat().into_iter().chain(listened).collect()
}

/// What [`header`] put together, behind the magic number.
fn parts(header: &[u8]) -> Option<(&[u8; 16], u64, Addresses)> {
    let (random, rest) = header.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (saved, listened) = rest.split_first_chunk()?;
    let listened: [Address; Listener::COUNT] = postcard::from_bytes(listened).ok()?;
    let listened =
        listened.map(|address| Some(address.socket_address()).filter(|address| address.port() != 0));
    Some((random, u64::from_be_bytes(*saved), listened.into()))
}

/// Associated data: the file, and the place in it.
fn place(header: &[u8], index: u32) -> Vec<u8> {
    [b"lwm2m-server sessions ", header, &index.to_be_bytes()].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn another_header_needs_another_magic_number() {
        let at = |text: &str| Some(text.parse().unwrap());
        let addresses = Addresses {
            coaps: at("192.0.2.1:5684"),
            former_bootstrap_coaps: at("[2001:db8::1]:5784"),
            ..Addresses::default()
        };
        let written = header(&[0x11; 16], 0x22, &addresses);
        let none = "00000000000000000000ffff000000000000";
        let layout = [
            "4c574d324d525336 11111111111111111111111111111111 0000000000000022",
            none,
            "00000000000000000000ffffc00002011634",
            none,
            none,
            none,
            "20010db8000000000000000000000001 1698",
        ];
        assert_eq!(hex::encode(&written), layout.concat().replace(' ', ""), "raise MAGIC");
        assert_eq!(written.len(), HEADER);
        assert_eq!(parts(&written), Some((&[0x11; 16], 0x22, addresses)));
        for length in 0..HEADER {
            assert_eq!(parts(&written[..length]), None, "{length}");
        }
    }
}
