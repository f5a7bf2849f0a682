//! Why the store refused, split by fault: the operator's set-up, damaged data, another writer, the machine.

use core::fmt;
use std::path::PathBuf;

/// What went wrong in the store. Each message says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Another server has the data folder open.
    Locked(PathBuf),
    /// The file is damaged or not a store.
    Corrupt {
        /// The store file.
        path: PathBuf,
        /// What did not fit.
        what: String,
    },
    /// There is a store where a backup was to be put back.
    Occupied(PathBuf),
    /// The store was written by a newer server.
    NewerSchema {
        /// Schema version found.
        found: u32,
        /// Newest one this server knows.
        known: u32,
    },
    /// A token has a role that this server does not know.
    UnknownRole {
        /// The token's name.
        token: String,
        /// Its role.
        role: String,
    },
    /// The secrets key does not open this store.
    WrongKey {
        /// Where the key came from.
        source: String,
    },
    /// The secrets key cannot be used.
    BadKey {
        /// Where it came from.
        source: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The write was based on another version than the stored one.
    Conflict,
    /// A newer epoch owns the device.
    Fenced,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => {
                write!(
                    f,
                    "{} is in use by another server: stop it, or choose another --data folder",
                    path.display()
                )
            }
            Self::Corrupt { path, what } => write!(
                f,
                "the store {} is damaged or not a store ({what}): restore a backup, or move the file away to start empty",
                path.display()
            ),
            Self::Occupied(path) => {
                write!(
                    f,
                    "there is a store, {}: move it away first, a restore overwrites none",
                    path.display()
                )
            }
            Self::NewerSchema { found, known } => write!(
                f,
                "the store has schema version {found} and this server knows {known}: use the newer server that wrote it"
            ),
            Self::UnknownRole { token, role } => write!(
                f,
                "the token '{token}' has the role '{role}', which this server does not know: use the server that made it"
            ),
            Self::WrongKey { source } => write!(
                f,
                "the secrets key from {source} does not open this store: give the key it was made with by --secrets-key"
            ),
            Self::BadKey { source, what } => write!(
                f,
                "the secrets key from {source} cannot be used: {what}; a key is 32 bytes or 64 hex digits"
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Conflict => {
                f.write_str("someone else changed the device at the same time: read it again and retry")
            }
            Self::Fenced => f.write_str("another node owns the device now"),
        }
    }
}

impl core::error::Error for StoreError {}
