//! Credentials: sizes, and how a factory puts the first accounts into storage.
//!
//! LwM2M Core 1.1.1 §5.2.8.1: identities of 128 bytes and keys of 64 bytes must be supported. Invariant: the client
//! holds a credential only while a handshake needs it, and wipes it afterwards.

use heapless::Vec;
#[cfg(feature = "psk")]
use zeroize::Zeroize;

use crate::account::{Security, Server};
use crate::persist::{Action, Key, RECORD_CAPACITY, RecordWriter, Stored};

/// The longest pre-shared key identity, in bytes.
pub const IDENTITY_CAPACITY: usize = 128;
/// The longest pre-shared key, in bytes.
pub const SECRET_CAPACITY: usize = 64;

/// A loaded identity; part of what a handshake needs.
#[cfg(feature = "psk")]
#[derive(Default)]
pub(crate) struct Identity {
    bytes: Vec<u8, IDENTITY_CAPACITY>,
}

#[cfg(feature = "psk")]
impl Identity {
    /// Copies an identity of 1 to 128 bytes.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        Vec::from_slice(bytes).ok().map(|bytes| Identity { bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(feature = "psk")]
impl Drop for Identity {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

/// A loaded key; the other part.
#[cfg(feature = "psk")]
#[derive(Default)]
pub(crate) struct Secret {
    bytes: Vec<u8, SECRET_CAPACITY>,
}

#[cfg(feature = "psk")]
impl Secret {
    /// Copies a key of 1 to 64 bytes.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        Vec::from_slice(bytes).ok().map(|bytes| Secret { bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(feature = "psk")]
impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

/// A pre-shared key with its identity, as a factory knows it.
#[derive(Clone, Copy)]
pub struct PresharedKey<'a> {
    /// 1 to 128 bytes, often text.
    pub identity: &'a [u8],
    /// 1 to 64 bytes, at least 16 random ones recommended.
    pub key: &'a [u8],
}

impl core::fmt::Debug for PresharedKey<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PresharedKey").finish_non_exhaustive()
    }
}

/// An account that a device comes with. [`provision`] writes it to storage before the client starts for the first time.
#[derive(Clone, Debug)]
pub struct FactoryAccount<'a> {
    /// The instance of `/0`.
    pub instance: u16,
    /// `/0/x/0`, at most 255 bytes and no more than the client takes.
    pub uri: &'a str,
    /// The instance of `/1`; `None` for the bootstrap account.
    pub server: Option<Server>,
    /// `/0/x/11` in seconds, for the bootstrap account.
    pub hold_off: u32,
    /// `None` for NoSec.
    pub credential: Option<PresharedKey<'a>>,
}

impl<'a> FactoryAccount<'a> {
    /// A bootstrap account in the Security instance `instance`, without a hold-off.
    pub const fn bootstrap(instance: u16, uri: &'a str, credential: Option<PresharedKey<'a>>) -> Self {
        FactoryAccount { instance, uri, server: None, hold_off: 0, credential }
    }

    /// A management server: Security instance `instance`, and `server` as it is.
    pub const fn server(
        instance: u16,
        uri: &'a str,
        server: Server,
        credential: Option<PresharedKey<'a>>,
    ) -> Self {
        FactoryAccount { instance, uri, server: Some(server), hold_off: 0, credential }
    }
}

/// Writes the accounts that a device comes with, through the same contract that the client uses later: stage, commit,
/// confirm. `apply` is the storage.
///
/// # Errors
/// The first error of the storage; [`StoreError::Failed`](crate::StoreError::Failed) also for a URI that is too long.
#[inline(never)]
pub fn provision(accounts: &[FactoryAccount<'_>], apply: &mut dyn FnMut(&Action<'_>) -> Stored) -> Stored {
    let mut buffer = [0; RECORD_CAPACITY];
    let mut securities = Vec::<u16, 16>::new();
    let mut servers = Vec::<u16, 16>::new();
    let failed = crate::error::StoreError::Failed;
    for account in accounts {
        let instance = account.instance;
        let mut security = Security::<255>::empty(instance);
        security.uri.push_str(account.uri).map_err(|_| failed)?;
        security.is_bootstrap = account.server.is_none();
        security.short_server_id = account.server.as_ref().and_then(|server| server.short_server_id());
        security.hold_off = account.hold_off;
        security.mode_value = Some(if account.credential.is_some() { 0 } else { 3 });
        security.has_identity = account.credential.is_some();
        security.has_secret = account.credential.is_some();
        let mut out = RecordWriter::new(&mut buffer);
        security.emit(&mut out);
        apply(&Action::Stage { key: Key::Security(instance), bytes: out.finish().ok_or(failed)? })?;
        #[cfg(feature = "resumption")]
        apply(&Action::Remove { key: Key::Session(instance) })?;
        if let Some(PresharedKey { identity, key }) = account.credential {
            apply(&Action::Stage { key: Key::Identity(instance), bytes: identity })?;
            apply(&Action::Stage { key: Key::Secret(instance), bytes: key })?;
        }
        securities.push(instance).map_err(|_| failed)?;
        if let Some(server) = &account.server {
            let mut out = RecordWriter::new(&mut buffer);
            server.emit(&mut out);
            apply(&Action::Stage { key: Key::Server(server.instance), bytes: out.finish().ok_or(failed)? })?;
            servers.push(server.instance).map_err(|_| failed)?;
        }
    }
    let mut out = RecordWriter::new(&mut buffer);
    crate::persist::emit_index(&mut out, securities.iter(), servers.iter(), [].iter());
    apply(&Action::Stage { key: Key::Index, bytes: out.finish().ok_or(failed)? })?;
    apply(&Action::Commit)?;
    apply(&Action::Confirm)
}
