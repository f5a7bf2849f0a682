//! The small part of a connection, which lives as long as the connection: the epoch → keys table, sequence numbers, replay
//! window and what the handshake proved (invariant: at most 256 bytes together with a boxed handshake).

use core::ops::Range;

use crate::alert::{self, Alert, Level};
use crate::connection_id::{ConnectionId, ENABLED, PeerId};
use crate::crypto::Crypto;
use crate::error::{Counters, Dropped, OpenError, SealError};
use crate::keys::Epoch;
#[cfg(feature = "record-size-limit")]
use crate::limits::Limits;
use crate::path::Path;
#[cfg(not(feature = "record-size-limit"))]
use crate::record::PLAINTEXT_MAX;
use crate::record::{ContentType, HEADER, Header, SEQUENCE_MAX};

/// Which side of the handshake this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Sends the ClientHello.
    Client,
    /// Answers it.
    Server,
}

/// How far the connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Handshaking,
    Established,
    Closed,
}

/// How many protected epochs have keys at a time.
const EPOCHS: usize = 1;

pub(crate) struct Association {
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    /// The epoch in which alerts go out: 1 once our ChangeCipherSpec was queued.
    pub(crate) write_epoch: u16,
    /// The next sequence number of epoch 0.
    pub(crate) plain_sequence: u64,
    epochs: [Option<Epoch>; EPOCHS],
    alert: Option<(Level, Alert)>,
    /// The Connection ID in records to us, and in those to the peer; empty where none was agreed.
    own_id: ConnectionId,
    peer_id: PeerId,
    pub(crate) path: Path,
    #[cfg(feature = "record-size-limit")]
    pub(crate) limits: Limits,
    /// The beginning of the cookie in the ClientHello, to know a late copy of it after the handshake's memory is gone. Not
    /// of the random: a device with a poor source may start again with the same one. It is let in once the secret of the
    /// cookies has changed, after a minute at most.
    #[cfg(feature = "server")]
    pub(crate) cookie: [u8; 8],
    pub(crate) counters: Counters,
}

impl Association {
    pub(crate) const fn new(role: Role, plain_sequence: u64) -> Self {
        Self {
            role,
            phase: Phase::Handshaking,
            write_epoch: 0,
            plain_sequence,
            epochs: [const { None }; EPOCHS],
            alert: None,
            own_id: ConnectionId::EMPTY,
            peer_id: PeerId::new(),
            path: Path::NONE,
            #[cfg(feature = "record-size-limit")]
            limits: Limits::NONE,
            #[cfg(feature = "server")]
            cookie: [0; 8],
            counters: Counters {
                malformed: 0,
                unsupported: 0,
                replayed: 0,
                unauthenticated: 0,
                unexpected: 0,
                duplicate: 0,
                too_large: 0,
                no_cookie: 0,
            },
        }
    }

    /// Each side's records have the other's Connection ID from now on; whether the return routability check goes with it.
    pub(crate) fn agree_ids(&mut self, own: ConnectionId, peer: PeerId, is_checkable: bool) {
        self.own_id = own;
        self.peer_id = peer;
        self.path.is_checkable = is_checkable;
    }

    /// The Connection ID in records to us.
    pub(crate) fn own_id(&self) -> &[u8] {
        self.own_id.bytes()
    }

    /// The Connection ID in records to the peer.
    pub(crate) fn peer_id(&self) -> &[u8] {
        if ENABLED { &self.peer_id } else { &[] }
    }

    pub(crate) fn count(&mut self, dropped: Dropped) {
        self.counters.count(dropped);
    }

    /// Puts `epoch` in place of the oldest row.
    pub(crate) fn install(&mut self, epoch: Epoch) {
        self.epochs.rotate_right(1);
        if let Some(row) = self.epochs.first_mut() {
            *row = Some(epoch);
        }
    }

    pub(crate) fn epoch(&self, number: u16) -> Option<&Epoch> {
        self.epochs.iter().flatten().find(|epoch| epoch.number == number)
    }

    pub(crate) fn epoch_mut(&mut self, number: u16) -> Option<&mut Epoch> {
        self.epochs.iter_mut().flatten().find(|epoch| epoch.number == number)
    }

    /// Opens a protected record in place and returns what it holds.
    pub(crate) fn open<'d, C: Crypto>(
        &mut self,
        header: Header,
        body: &'d mut [u8],
    ) -> Result<(ContentType, &'d mut [u8]), Dropped> {
        let own = self.own_id;
        let epoch = self.epoch_mut(header.epoch).ok_or(Dropped::Unsupported)?;
        let is_newest = epoch.window.is_newest(header.sequence);
        let opened = epoch.open::<C>(header, own.bytes(), body)?;
        #[cfg(feature = "record-size-limit")]
        if opened.1.len() > self.limits.receive() {
            return Err(Dropped::TooLarge);
        }
        self.path.is_newest = is_newest;
        Ok(opened)
    }

    /// Tries whether the record, the first of a datagram, is authentic and fresh, without destroying it: what it holds goes
    /// to `scratch`.
    pub(crate) fn open_into<'s, C: Crypto>(
        &self,
        record: &[u8],
        scratch: &'s mut [u8],
    ) -> Result<&'s mut [u8], OpenError> {
        let (header, head, length) = Header::parse(record, self.own_id()).map_err(OpenError::Refused)?;
        let body = record.get(head..).and_then(|behind| behind.get(..length));
        let body = body.ok_or(OpenError::Refused(Dropped::Malformed))?;
        let epoch = self.epoch(header.epoch).ok_or(OpenError::Refused(Dropped::Unsupported))?;
        let scratch = scratch.get_mut(..length).ok_or(OpenError::NoRoom)?;
        scratch.copy_from_slice(body);
        let plaintext = epoch.decrypt::<C>(header, self.own_id(), scratch).map_err(OpenError::Refused)?;
        // Told last: the Finished of another handshake, which is not authentic here, has a number that was seen long ago.
        if epoch.window.is_fresh(header.sequence) {
            Ok(plaintext)
        } else {
            Err(OpenError::Refused(Dropped::Replayed))
        }
    }

    /// The limits of records as they are saved: without any both are 2^14.
    pub(crate) const fn limits(&self) -> [u16; 2] {
        #[cfg(feature = "record-size-limit")]
        return self.limits.parts();
        #[cfg(not(feature = "record-size-limit"))]
        [PLAINTEXT_MAX as u16; 2]
    }

    /// Puts saved ones in their place; `None` if they cannot be kept.
    pub(crate) fn set_limits(&mut self, limits: [u16; 2]) -> Option<()> {
        #[cfg(feature = "record-size-limit")]
        {
            self.limits = Limits::from_parts(limits)?;
            Some(())
        }
        #[cfg(not(feature = "record-size-limit"))]
        (limits == self.limits()).then_some(())
    }

    /// The most bytes that a protected record to the peer may hold.
    pub(crate) const fn longest_payload(&self) -> usize {
        #[cfg(feature = "record-size-limit")]
        return self.limits.send();
        #[cfg(not(feature = "record-size-limit"))]
        PLAINTEXT_MAX
    }

    /// The same for a record in the clear.
    pub(crate) const fn longest_plain(&self) -> usize {
        #[cfg(feature = "record-size-limit")]
        return self.limits.plain();
        #[cfg(not(feature = "record-size-limit"))]
        PLAINTEXT_MAX
    }

    pub(crate) fn seal_in<C: Crypto>(
        &mut self,
        epoch: u16,
        content_type: ContentType,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        if payload.len() > self.longest_payload() {
            return Err(SealError::TooLong);
        }
        let Self { epochs, peer_id, .. } = self;
        let peer = if ENABLED { peer_id.as_slice() } else { &[] };
        let epoch = epochs.iter_mut().flatten().find(|row| row.number == epoch);
        epoch.ok_or(SealError::NotEstablished)?.seal::<C>(content_type, peer, buffer, payload)
    }

    /// Writes a record of epoch 0 to the front of `out`.
    pub(crate) fn emit_plain(
        &mut self,
        content_type: ContentType,
        body: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        out.get_mut(HEADER..)?.get_mut(..body.len())?.copy_from_slice(body);
        self.frame_plain(content_type, out, body.len())
    }

    /// Writes the header of epoch 0 in front of a body of `length` bytes that is in place already.
    pub(crate) fn frame_plain(
        &mut self,
        content_type: ContentType,
        out: &mut [u8],
        length: usize,
    ) -> Option<usize> {
        if self.plain_sequence > SEQUENCE_MAX {
            return None;
        }
        let header = Header::new(content_type, 0, self.plain_sequence).emit(u16::try_from(length).ok()?);
        *out.first_chunk_mut()? = header;
        self.plain_sequence = self.plain_sequence.saturating_add(1);
        HEADER.checked_add(length)
    }

    pub(crate) fn queue_alert(&mut self, level: Level, alert: Alert) {
        self.alert = Some((level, alert));
    }

    /// Writes the queued alert; a closed association forgets its keys with it.
    pub(crate) fn emit_alert<C: Crypto>(&mut self, out: &mut [u8]) -> Option<usize> {
        let (level, alert) = self.alert?;
        let body = alert::emit(level, alert);
        let length = match self.write_epoch {
            0 => self.emit_plain(ContentType::Alert, &body, out)?,
            epoch => self.emit_sealed::<C>(epoch, ContentType::Alert, &body, out)?,
        };
        self.alert = None;
        self.forget_keys_if_done();
        Some(length)
    }

    /// The bytes in front of and behind a payload in a protected record to the peer.
    pub(crate) fn room(&self, epoch: u16) -> Option<(usize, usize)> {
        let epoch = self.epoch(epoch)?;
        Some((epoch.head(self.peer_id()), epoch.tail(self.peer_id())))
    }

    /// Writes a protected record to the front of `out`.
    pub(crate) fn emit_sealed<C: Crypto>(
        &mut self,
        epoch: u16,
        content_type: ContentType,
        body: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let (head, _) = self.room(epoch)?;
        out.get_mut(head..)?.get_mut(..body.len())?.copy_from_slice(body);
        let payload = head..head.checked_add(body.len())?;
        self.seal_in::<C>(epoch, content_type, out, payload).ok().map(|record| record.len())
    }

    pub(crate) fn forget_keys_if_done(&mut self) {
        if self.phase == Phase::Closed && self.alert.is_none() {
            self.epochs = [const { None }; EPOCHS];
        }
    }
}
