//! Duplicates (RFC 7252 §4.5): the ids of what came in and what it was answered with.
//!
//! Invariant: a remembered request that is still in process is never forgotten before its time, so that it cannot be
//! executed twice.

use core::time::Duration;

use super::Stored;
use crate::time::Instant;
use crate::udp::MessageId;

/// The remembered messages of one peer, oldest first.
#[derive(Debug)]
pub(super) struct Answers<B, const N: usize> {
    entries: heapless::Vec<Entry<B>, N, u8>,
}

#[derive(Debug)]
struct Entry<B> {
    bytes: Option<B>,
    /// In whole seconds since the owner's epoch, rounded up: half the size of an instant.
    expiry: u32,
    id: MessageId,
    state: State,
}

impl<B> Entry<B> {
    const fn is_answered(&self) -> bool {
        !matches!(self.state, State::InProcess | State::Deferred)
    }
}

/// How far the answer to a remembered message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The owner has the request; a duplicate is ignored.
    InProcess,
    /// The owner has the request and it was acknowledged; a duplicate is acknowledged again.
    Deferred,
    /// Answered piggybacked; a duplicate gets the stored bytes, or silence when they could not be stored.
    Answered,
    /// Answered otherwise, or a response; a duplicate is acknowledged again.
    Acknowledged,
    /// Not to be answered; a duplicate is ignored.
    Silent,
    /// Answered with more than could be stored; a duplicate is executed again (RFC 7252 §4.5), under object security only
    /// if that is safe.
    Repeatable,
}

impl<B: Stored, const N: usize> Answers<B, N> {
    pub(super) const fn new() -> Self {
        Self { entries: heapless::Vec::new() }
    }

    /// Remembers `id` anew, once what is past its lifetime was forgotten. A full table forgets its oldest answered entry, unless that is not worth it (`evict`);
    /// without one, `id` is not remembered.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        lifetime: Duration,
        id: MessageId,
        state: State,
        evict: bool,
    ) {
        self.remove(id);
        if self.entries.is_full()
            && evict
            && let Some(oldest) = self.entries.iter().position(Entry::is_answered)
        {
            self.entries.remove(oldest);
        }
        let (seconds, has_more) = now.saturating_add(lifetime).as_secs();
        let expiry = seconds.saturating_add(u32::from(has_more));
        let _ = self.entries.push(Entry { bytes: None, expiry, id, state });
    }

    /// Whether one more request can be remembered.
    pub(super) fn has_room(&self) -> bool {
        !self.entries.is_full() || self.entries.iter().any(Entry::is_answered)
    }

    /// How far the answer to `id` is, and the bytes to repeat.
    pub(super) fn find(&self, id: MessageId) -> Option<(State, Option<&B>)> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some((entry.state, entry.bytes.as_ref()))
    }

    /// Everything that is remembered, oldest first: until when, how far the answer is, and the bytes to repeat.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MessageId, Instant, State, Option<&B>)> {
        self.entries.iter().map(|entry| {
            let expiry = Instant::default().after_secs(entry.expiry);
            (entry.id, expiry, entry.state, entry.bytes.as_ref())
        })
    }

    /// Sets how far the answer to `id` is, when it is remembered at all.
    pub(super) fn set(&mut self, id: MessageId, state: State, bytes: Option<B>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.state = state;
            entry.bytes = bytes;
        }
    }

    /// Forgets `id`.
    pub(super) fn remove(&mut self, id: MessageId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// Forgets what is past its lifetime.
    pub(super) fn forget(&mut self, now: Instant) {
        let (now, _) = now.as_secs();
        self.entries.retain(|entry| entry.expiry > now);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// When the next entry is past its lifetime.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let expiry = self.entries.iter().map(|entry| entry.expiry).min()?;
        Some(Instant::default().after_secs(expiry))
    }
}
