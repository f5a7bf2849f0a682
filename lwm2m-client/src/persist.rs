//! What must survive a power loss, and the contract of the storage that keeps it.
//!
//! The client asks by events and goes on when it is answered; it never calls the storage itself. The storage keeps a
//! *current* set of records, a *staged* change to it, and after a commit the *previous* set until the new one has
//! proven itself:
//!
//! 1. [`Action::Stage`] and [`Action::Remove`] add to the staged change; nothing else can see it.
//! 2. [`Action::Commit`] makes the staged change current in one step and keeps what was current as previous. A commit
//!    while a previous set is kept does not replace that previous set: it is the last one that worked.
//! 3. [`Action::Confirm`] drops the previous set: the current one has proven itself by a registration.
//! 4. [`Action::Discard`] drops the staged change. So does a restart.
//! 5. [`Action::Revert`] makes the previous set current again; [`StoreError::NothingToRevert`] without one.
//!
//! With the feature `oscore`, `Action::Put` keeps beside the sets how far numbers that must never come twice are used: at once,
//! and whatever becomes of a staged change or of a previous set. At least the 32 states that were put last are kept, also when all
//! accounts are removed: keys whose state is forgotten must not be used again.
//!
//! Invariant: whatever the moment of a power loss, the next start finds one of the two sets, whole.

use crate::error::StoreError;

/// The largest record in bytes: a Security instance with the longest URI, or a certificate.
#[cfg(feature = "x509")]
pub const RECORD_CAPACITY: usize = crate::identity::CERTIFICATE_CAPACITY;
/// The largest record in bytes: a Security instance with the longest URI.
#[cfg(not(feature = "x509"))]
pub const RECORD_CAPACITY: usize = TABLE_RECORD_CAPACITY;

/// The largest record of an instance, in bytes.
pub(crate) const TABLE_RECORD_CAPACITY: usize = 255 + RECORD_OVERHEAD;

/// What a record takes beside a server's URI, in bytes.
pub(crate) const RECORD_OVERHEAD: usize = 48 + if cfg!(feature = "suites") { 2 + 4 * SUITES } else { 0 };

/// How many cipher suites `/0/x/16` may name.
pub(crate) const SUITES: usize = 8;

/// The name of a record. Names are stable over versions of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Which instances exist; without it the storage is empty.
    Index,
    /// One instance of `/0`, without its credential.
    Security(u16),
    /// `/0/x/3`: the pre-shared key identity, our own raw public key as a SubjectPublicKeyInfo in DER, or our own certificates
    /// in DER, one after another. The latter two may also be what storage knows by itself, for accounts that leave it out.
    Identity(u16),
    /// `/0/x/5`: the pre-shared key, or our own private key. Never log it; a secure element may keep it.
    Secret(u16),
    /// One instance of `/1`.
    Server(u16),
    /// One instance of `/2`.
    AccessControl(u16),
    /// The DTLS session with the server of this instance of `/0`, as secret as its key.
    Session(u16),
    /// `/0/x/4`: the server's raw public key as a SubjectPublicKeyInfo in DER, or what is known of its certificate.
    ServerKey(u16),
    /// `/0/x/14`: the name that the server is asked for, a text.
    ServerName(u16),
    /// One instance of `/21`, without its Master Secret.
    #[cfg(feature = "oscore")]
    Oscore(u16),
    /// `/21/x/0`. Never log it.
    #[cfg(feature = "oscore")]
    MasterSecret(u16),
}

impl Key {
    /// The name as three bytes, for storages with flat names: a kind and the instance, big-endian.
    pub const fn to_bytes(self) -> [u8; 3] {
        let (kind, instance) = match self {
            Key::Index => (0x00, 0),
            Key::Security(instance) => (0x01, instance),
            Key::Identity(instance) => (0x02, instance),
            Key::Secret(instance) => (0x03, instance),
            Key::Server(instance) => (0x04, instance),
            Key::AccessControl(instance) => (0x05, instance),
            Key::Session(instance) => (0x06, instance),
            Key::ServerKey(instance) => (0x07, instance),
            Key::ServerName(instance) => (0x08, instance),
            #[cfg(feature = "oscore")]
            Key::Oscore(instance) => (0x09, instance),
            #[cfg(feature = "oscore")]
            Key::MasterSecret(instance) => (0x0a, instance),
        };
        let [high, low] = instance.to_be_bytes();
        [kind, high, low]
    }

    /// The inverse of [`Key::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 3]) -> Option<Self> {
        let [kind, high, low] = bytes;
        let instance = u16::from_be_bytes([high, low]);
        match kind {
            0x00 if instance == 0 => Some(Key::Index),
            0x01 => Some(Key::Security(instance)),
            0x02 => Some(Key::Identity(instance)),
            0x03 => Some(Key::Secret(instance)),
            0x04 => Some(Key::Server(instance)),
            0x05 => Some(Key::AccessControl(instance)),
            0x06 => Some(Key::Session(instance)),
            0x07 => Some(Key::ServerKey(instance)),
            0x08 => Some(Key::ServerName(instance)),
            #[cfg(feature = "oscore")]
            0x09 => Some(Key::Oscore(instance)),
            #[cfg(feature = "oscore")]
            0x0a => Some(Key::MasterSecret(instance)),
            _ => None,
        }
    }

    /// Whether the record is a secret.
    pub const fn is_secret(self) -> bool {
        #[cfg(feature = "oscore")]
        if matches!(self, Key::MasterSecret(_)) {
            return true;
        }
        matches!(self, Key::Secret(_) | Key::Session(_))
    }
}

/// What the storage is asked to do; the module's documentation has the contract.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Adds a record to the staged change.
    Stage {
        /// The record's name.
        key: Key,
        /// Its content.
        bytes: &'a [u8],
    },
    /// Adds the removal of a record to the staged change; it may not exist.
    Remove {
        /// The record's name.
        key: Key,
    },
    /// Makes the staged change current, keeps what was current as previous.
    Commit,
    /// Drops the previous set.
    Confirm,
    /// Drops the staged change.
    Discard,
    /// Makes the previous set current again.
    Revert,
    /// Puts away what is in no set: it replaces what had this name, and is there to stay once the answer is given.
    #[cfg(feature = "oscore")]
    Put {
        /// What it is of; nothing secret.
        name: StateName,
        /// At most [`STATE_CAPACITY`] bytes, nothing secret.
        bytes: &'a [u8],
    },
}

/// What the state of keys is put away under: other keys have another name.
#[cfg(feature = "oscore")]
pub type StateName = [u8; oscore::Parameters::FINGERPRINT];

/// The longest state that is put away, in bytes.
#[cfg(feature = "oscore")]
pub const STATE_CAPACITY: usize = oscore::Saved::MAX_LENGTH;

impl core::fmt::Debug for Action<'_> {
    // Contents are left out: they may be keys.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Action::Stage { key, .. } => f.debug_struct("Stage").field("key", key).finish_non_exhaustive(),
            Action::Remove { key } => f.debug_struct("Remove").field("key", key).finish(),
            Action::Commit => f.write_str("Commit"),
            Action::Confirm => f.write_str("Confirm"),
            Action::Discard => f.write_str("Discard"),
            Action::Revert => f.write_str("Revert"),
            #[cfg(feature = "oscore")]
            Action::Put { .. } => f.debug_struct("Put").finish_non_exhaustive(),
        }
    }
}

/// Names one request to the storage; its answer carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub(crate) u16);

/// What the storage answered to [`Action`].
pub type Stored = Result<(), StoreError>;

/// Writes the index record: the instances of `/0`, `/1` and `/2`.
pub(crate) fn emit_index<'i>(
    out: &mut RecordWriter<'_>,
    securities: impl Iterator<Item = &'i u16>,
    servers: impl Iterator<Item = &'i u16>,
    access: impl Iterator<Item = &'i u16>,
    #[cfg(feature = "oscore")] contexts: impl Iterator<Item = &'i u16>,
) {
    for instance in securities {
        out.bytes(0, &instance.to_be_bytes());
    }
    for instance in servers {
        out.bytes(1, &instance.to_be_bytes());
    }
    for instance in access {
        out.bytes(2, &instance.to_be_bytes());
    }
    #[cfg(feature = "oscore")]
    for instance in contexts {
        out.bytes(3, &instance.to_be_bytes());
    }
}

/// The record that entry `number` of an index record names; `None` behind the last one.
pub(crate) fn index_entry(index: &[u8], number: usize) -> Option<Key> {
    let (tag, value) = RecordReader::new(index).nth(number)??;
    let instance = u16::from_be_bytes(*value.first_chunk::<2>()?);
    match tag {
        0 => Some(Key::Security(instance)),
        1 => Some(Key::Server(instance)),
        #[cfg(feature = "oscore")]
        3 => Some(Key::Oscore(instance)),
        _ => Some(Key::AccessControl(instance)),
    }
}

/// Writes the fields of a record: tag, length, value.
pub(crate) struct RecordWriter<'a> {
    buffer: &'a mut [u8],
    length: usize,
    is_full: bool,
}

impl<'a> RecordWriter<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        RecordWriter { buffer, length: 0, is_full: false }
    }

    pub(crate) fn bytes(&mut self, tag: u8, value: &[u8]) {
        let Ok(size) = u8::try_from(value.len()) else {
            self.is_full = true;
            return;
        };
        self.put(&[tag, size]);
        self.put(value);
    }

    pub(crate) fn number(&mut self, tag: u8, value: Option<u32>) {
        if let Some(value) = value {
            let bytes = value.to_be_bytes();
            let skip = usize::try_from(value.leading_zeros() / 8).unwrap_or(0);
            self.bytes(tag, bytes.get(skip..).unwrap_or(&[]));
        }
    }

    /// The record; `None` when the buffer was too small.
    pub(crate) fn finish(self) -> Option<&'a [u8]> {
        if self.is_full { None } else { self.buffer.get(..self.length) }
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        match self.buffer.get_mut(self.length..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            None => self.is_full = true,
        }
    }
}

/// Reads the fields of a record; `None` as an item is a truncated record.
pub(crate) struct RecordReader<'a> {
    rest: &'a [u8],
}

impl<'a> RecordReader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        RecordReader { rest }
    }

    pub(crate) fn number(value: &[u8]) -> Option<u32> {
        if value.len() > 4 {
            return None;
        }
        Some(value.iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte)))
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = core::mem::take(&mut self.rest);
        let Some((&[tag, size], rest)) = rest.split_first_chunk::<2>() else { return Some(None) };
        let Some((value, rest)) = rest.split_at_checked(usize::from(size)) else { return Some(None) };
        self.rest = rest;
        Some(Some((tag, value)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn numbers_take_no_leading_zero_bytes() {
        let mut buffer = [0; 32];
        let mut out = RecordWriter::new(&mut buffer);
        out.number(1, Some(0));
        out.number(2, Some(255));
        out.number(3, Some(256));
        out.number(4, None);
        out.number(5, Some(u32::MAX));
        let bytes = out.finish().unwrap();
        assert_eq!(bytes, [1, 0, 2, 1, 255, 3, 2, 1, 0, 5, 4, 255, 255, 255, 255]);
        let numbers: std::vec::Vec<_> = RecordReader::new(bytes)
            .map(|field| field.map(|(tag, value)| (tag, RecordReader::number(value))))
            .collect();
        assert_eq!(
            numbers,
            [Some((1, Some(0))), Some((2, Some(255))), Some((3, Some(256))), Some((5, Some(u32::MAX)))]
        );
    }

    #[test]
    fn a_truncated_record_says_so() {
        assert_eq!(RecordReader::new(&[1]).last(), Some(None));
        assert_eq!(RecordReader::new(&[1, 2, 3]).last(), Some(None));
    }

    #[test]
    fn keys_round_trip_as_bytes() {
        for key in [
            Key::Index,
            Key::Security(1),
            Key::Identity(2),
            Key::Secret(65_534),
            Key::Server(0),
            Key::AccessControl(3),
            Key::Session(4),
            Key::ServerKey(5),
            Key::ServerName(6),
            #[cfg(feature = "oscore")]
            Key::Oscore(7),
            #[cfg(feature = "oscore")]
            Key::MasterSecret(8),
        ] {
            assert_eq!(Key::from_bytes(key.to_bytes()), Some(key));
        }
        assert_eq!(Key::from_bytes([0x0b, 0, 0]), None);
    }

    #[test]
    fn debug_output_never_shows_a_record() {
        let action = Action::Stage { key: Key::Secret(1), bytes: b"hunter2" };
        assert!(!std::format!("{action:?}").contains("104"));
    }
}
