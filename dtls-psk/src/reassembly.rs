//! Putting fragments and reordered handshake messages together (RFC 6347 §4.2.3; invariant: memory is bounded by `N` bytes,
//! [`MESSAGES`] messages and [`RANGES`] gaps each, whatever comes).

use heapless::Vec;

use crate::error::Dropped;
use crate::message::{Fragment, Message, MessageType};

/// How many messages may be under construction at a time.
const MESSAGES: usize = 4;

/// How many separate pieces of one message may be held at a time.
const RANGES: usize = 4;

/// A message of which something was received.
struct Partial {
    message_type: MessageType,
    message_seq: u16,
    /// Where it lies in the buffer.
    start: usize,
    length: usize,
    /// What was received: disjoint, in no order.
    ranges: Vec<(usize, usize), RANGES>,
}

impl Partial {
    fn is_complete(&self) -> bool {
        self.ranges.first() == Some(&(0, self.length))
    }

    /// Marks `start..end` as received, merging what touches it.
    fn mark(&mut self, start: usize, end: usize) -> Result<(), Dropped> {
        let mut merged = (start, end);
        self.ranges.retain(|&(from, to)| {
            let apart = to < merged.0 || merged.1 < from;
            if !apart {
                merged = (merged.0.min(from), merged.1.max(to));
            }
            apart
        });
        // A merge can make the range touch one that was passed over before.
        if self.ranges.iter().any(|&(from, to)| !(to < merged.0 || merged.1 < from)) {
            return self.mark(merged.0, merged.1);
        }
        self.ranges.push(merged).map_err(|_| Dropped::TooLarge)
    }
}

/// The messages of the peer that cannot be processed yet.
pub(crate) struct Reassembly<const N: usize> {
    next: u16,
    partials: Vec<Partial, MESSAGES>,
    buffer: [u8; N],
    used: usize,
}

impl<const N: usize> Reassembly<N> {
    pub(crate) const fn new() -> Self {
        Self { next: 0, partials: Vec::new(), buffer: [0; N], used: 0 }
    }

    /// Forgets everything and waits for `message_seq`.
    pub(crate) fn restart(&mut self, message_seq: u16) {
        self.next = message_seq;
        self.partials.clear();
        self.used = 0;
    }

    /// The message_seq to be processed next.
    pub(crate) const fn next(&self) -> u16 {
        self.next
    }

    /// Waits for the message after the one that was just processed.
    pub(crate) fn advance(&mut self) {
        self.next = self.next.wrapping_add(1);
        self.discard(|partial, next| partial.message_seq < next);
    }

    /// Drops the message that stands next, to be received again.
    pub(crate) fn discard_next(&mut self) {
        self.discard(|partial, next| partial.message_seq == next);
    }

    /// Keeps a fragment until its message is complete and its turn has come.
    pub(crate) fn insert(
        &mut self,
        message_type: MessageType,
        fragment: &Fragment<'_>,
    ) -> Result<(), Dropped> {
        let message_seq = fragment.header.message_seq;
        let ahead = message_seq.checked_sub(self.next).ok_or(Dropped::Duplicate)?;
        if usize::from(ahead) >= MESSAGES {
            return Err(Dropped::Unexpected);
        }
        let length = usize::try_from(fragment.header.length).map_err(|_| Dropped::TooLarge)?;
        let offset = usize::try_from(fragment.header.offset).map_err(|_| Dropped::TooLarge)?;
        let known = self.partials.iter().position(|partial| partial.message_seq == message_seq);
        if let Some(partial) = known.and_then(|index| self.partials.get(index))
            && (partial.length != length || partial.message_type != message_type)
        {
            // One of the two is forged or broken, and which one cannot be told: start again with the newer.
            self.discard(|partial, _| partial.message_seq == message_seq);
        }
        let known = self.partials.iter().position(|partial| partial.message_seq == message_seq);
        // A fragment without content says nothing, unless the message has none either.
        if fragment.bytes.is_empty() && length != 0 {
            return Err(Dropped::Malformed);
        }
        let index = match known {
            Some(index) => index,
            None => {
                if ahead == 0 && self.used.saturating_add(length) > N {
                    // What comes later, or is forged, makes way for what is needed now.
                    self.discard(|partial, next| partial.message_seq != next);
                }
                let end = self.used.checked_add(length).filter(|end| *end <= N).ok_or(Dropped::TooLarge)?;
                let partial =
                    Partial { message_type, message_seq, start: self.used, length, ranges: Vec::new() };
                self.partials.push(partial).map_err(|_| Dropped::TooLarge)?;
                self.used = end;
                self.partials.len().saturating_sub(1)
            }
        };
        let partial = self.partials.get_mut(index).ok_or(Dropped::TooLarge)?;
        let end = offset.saturating_add(fragment.bytes.len());
        partial.mark(offset, end)?;
        let start = partial.start.saturating_add(offset);
        self.buffer
            .get_mut(start..start.saturating_add(fragment.bytes.len()))
            .ok_or(Dropped::Malformed)?
            .copy_from_slice(fragment.bytes);
        Ok(())
    }

    /// The message whose turn it is, if it is complete.
    pub(crate) fn complete(&self) -> Option<Message<'_>> {
        let partial = self.partials.iter().find(|partial| partial.message_seq == self.next)?;
        let body = self.buffer.get(partial.start..partial.start.checked_add(partial.length)?)?;
        let Partial { message_type, message_seq, .. } = *partial;
        partial.is_complete().then_some(Message { message_type, message_seq, body })
    }

    /// Drops messages and closes the gaps they leave in the buffer.
    fn discard(&mut self, unwanted: impl Fn(&Partial, u16) -> bool) {
        let next = self.next;
        while let Some(index) = self.partials.iter().position(|partial| unwanted(partial, next)) {
            // Order is kept: messages lie in the buffer in the order of the list.
            let gone = self.partials.remove(index);
            let behind = gone.start.saturating_add(gone.length);
            if behind <= self.used && gone.start <= behind {
                self.buffer.copy_within(behind..self.used, gone.start);
            }
            self.used = self.used.saturating_sub(gone.length);
            for partial in self.partials.iter_mut().filter(|partial| partial.start >= behind) {
                partial.start = partial.start.saturating_sub(gone.length);
            }
        }
    }
}
