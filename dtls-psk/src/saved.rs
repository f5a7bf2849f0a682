//! An established connection at rest: what a server writes away when it stops as planned, and goes on with afterwards.
//!
//! Invariants: whoever saves a connection has it no longer; whoever restores it leaves out sequence numbers, as many as
//! another copy of the same bytes may have used.

use core::borrow::BorrowMut;
use core::marker::PhantomData;

use crate::association::{Association, Phase, Role};
use crate::connection::Connection;
use crate::connection_id::{ConnectionId, PEER_MAX, PeerId};
use crate::crypto::Crypto;
use crate::handshake::{Handshake, PROTECTED};
use crate::keys::Epoch;
use crate::prf::DirectionKeys;
use crate::record::SEQUENCE_MAX;
use crate::replay::ReplayWindow;
use crate::suite::Suite;
use crate::wire::{Reader, Writer};

/// The first byte of a saved connection.
const FORMAT: u8 = 2;

/// Flags of a saved connection.
const IS_SERVER: u8 = 1;
const IS_CHECKABLE: u8 = 2;
#[cfg(feature = "cbc")]
const ENCRYPT_THEN_MAC: u8 = 4;
/// Keys of codes are there, which not every build has.
const HAS_MAC: u8 = 8;

const KEYS: usize = if cfg!(feature = "cbc") { 16 + 4 + 32 } else { 16 + 4 };

/// The most bytes that [`Connection::save`] writes.
pub const SAVED_MAX: usize = 1 + 1 + 2 + 3 * 8 + 2 * KEYS + 2 * 2 + 1 + ConnectionId::MAX + 1 + PEER_MAX;

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    /// Ends an established connection here, without a word to the peer, and writes to the front of `out` what it takes to go
    /// on with it: the keys in the clear, the sequence numbers and the Connection IDs. Returns the length, of
    /// [`SAVED_MAX`] at most; `None` if it is not established or `out` is too short, and then the connection is lost.
    ///
    /// Keep the bytes as the keys themselves are kept, restore them once, and never from a backup.
    pub fn save(self, out: &mut [u8]) -> Option<usize> {
        let Association { role, phase, path, .. } = &self.association;
        let epoch = self.association.epoch(PROTECTED).filter(|_| *phase == Phase::Established)?;
        let mut flags = 0;
        let mut set = |flag, is_set| flags |= if is_set { flag } else { 0 };
        set(IS_SERVER, *role == Role::Server);
        set(IS_CHECKABLE, path.is_checkable);
        set(HAS_MAC, cfg!(feature = "cbc"));
        #[cfg(feature = "cbc")]
        set(ENCRYPT_THEN_MAC, epoch.encrypt_then_mac);
        let (highest, seen) = epoch.window.parts();
        let mut writer = Writer::new(out);
        writer.u8(FORMAT)?;
        writer.u8(flags)?;
        writer.u16(epoch.suite.code())?;
        writer.u64(epoch.next_sequence)?;
        writer.u64(highest)?;
        writer.u64(seen)?;
        for keys in [&epoch.write, &epoch.read] {
            writer.bytes(&keys.key)?;
            writer.bytes(&keys.iv)?;
            #[cfg(feature = "cbc")]
            writer.bytes(&keys.mac)?;
        }
        for limit in self.association.limits() {
            writer.u16(limit)?;
        }
        writer.vector8(self.association.own_id())?;
        writer.vector8(self.association.peer_id())?;
        Some(writer.len())
    }

    /// Goes on with a connection that [`Connection::save`] wrote, and leaves `skip` sequence numbers out: more than a
    /// connection that was restored from the same bytes before can have used, else a number is used twice under the same
    /// key. A rate above that of any sender, times the time since the connection was saved, is such a figure.
    ///
    /// `None` if the bytes are not those of a saved connection, its suite or its limits for records are not in this build, or no sequence number is
    /// left.
    pub fn restore(bytes: &[u8], skip: u64) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8()?;
        let flags = reader.u8()?;
        let suite = Suite::from_code(reader.u16()?)?;
        let next_sequence = reader.u64()?.checked_add(skip).filter(|next| *next <= SEQUENCE_MAX)?;
        let window = ReplayWindow::from_parts(reader.u64()?, reader.u64()?);
        let has_mac = flags & HAS_MAC != 0;
        if format != FORMAT || has_mac != cfg!(feature = "cbc") {
            return None;
        }
        let (write, read) = (keys(&mut reader)?, keys(&mut reader)?);
        let limits = [reader.u16()?, reader.u16()?];
        let own_id = ConnectionId::new(reader.vector8()?)?;
        let peer_id = PeerId::from_slice(reader.vector8()?).ok()?;
        if !reader.is_empty() {
            return None;
        }
        let role = if flags & IS_SERVER == 0 { Role::Client } else { Role::Server };
        // Nothing goes out unprotected any more.
        let mut association = Association::new(role, SEQUENCE_MAX.saturating_add(1));
        association.phase = Phase::Established;
        association.write_epoch = PROTECTED;
        association.set_limits(limits)?;
        association.agree_ids(own_id, peer_id, flags & IS_CHECKABLE != 0);
        association.install(Epoch {
            number: PROTECTED,
            suite,
            #[cfg(feature = "cbc")]
            encrypt_then_mac: flags & ENCRYPT_THEN_MAC != 0,
            write,
            read,
            next_sequence,
            window,
        });
        Some(Self { association, handshake: None, crypto: PhantomData })
    }
}

fn keys(reader: &mut Reader<'_>) -> Option<DirectionKeys> {
    Some(DirectionKeys {
        key: *reader.array()?,
        iv: *reader.array()?,
        #[cfg(feature = "cbc")]
        mac: *reader.array()?,
    })
}
