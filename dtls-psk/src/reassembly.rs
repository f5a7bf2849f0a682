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
    start: u16,
    length: u16,
    /// What was received: disjoint, in no order.
    ranges: Vec<(u16, u16), RANGES, u8>,
}

impl Partial {
    /// Whether it came in protected records, which a Finished does and nothing else: nobody else can have sent it.
    fn is_protected(&self) -> bool {
        self.message_type == MessageType::Finished
    }

    fn is_complete(&self) -> bool {
        self.ranges.first() == Some(&(0, self.length))
    }

    /// Marks `start..end` as received, merging what touches it.
    fn mark(&mut self, start: u16, end: u16) -> Result<(), Dropped> {
        let mut merged = (start, end);
        self.ranges.retain(|&(from, to)| {
            let apart = to < merged.0 || merged.1 < from;
            if !apart {
                merged = (merged.0.min(from), merged.1.max(to));
            }
            apart
        });
        // What was passed over is apart from the ranges that were merged, and so from what came of them.
        self.ranges.push(merged).map_err(|_| Dropped::TooLarge)
    }
}

/// The messages of the peer that cannot be processed yet.
pub(crate) struct Reassembly<const N: usize> {
    next: u16,
    partials: Vec<Partial, MESSAGES>,
    buffer: [u8; N],
    used: u16,
}

impl<const N: usize> Reassembly<N> {
    /// `N`, which is at most 2^14.
    const CAPACITY: u16 = N as u16;

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
        let length = u16::try_from(fragment.header.length).map_err(|_| Dropped::TooLarge)?;
        let offset = u16::try_from(fragment.header.offset).map_err(|_| Dropped::TooLarge)?;
        // A fragment without content says nothing, unless the message has none either.
        if fragment.bytes.is_empty() && length != 0 {
            return Err(Dropped::Malformed);
        }
        // Where two contradict each other, one is forged or broken, and which one cannot be told: start again with the newer.
        let contradicts = |partial: &Partial| {
            partial.message_seq == message_seq
                && (partial.length != length || partial.message_type != message_type)
        };
        if self.partials.iter().any(|partial| contradicts(partial) && partial.is_protected()) {
            return Err(Dropped::Unexpected);
        }
        self.discard(|partial, _| contradicts(partial));
        let index = match self.partials.iter().position(|partial| partial.message_seq == message_seq) {
            Some(index) => index,
            None => {
                if ahead == 0 && self.used.saturating_add(length) > Self::CAPACITY {
                    // What comes later, or is forged, makes way for what is needed now.
                    self.discard(|partial, _| !partial.is_protected());
                }
                let end = self.used.saturating_add(length);
                if end > Self::CAPACITY {
                    return Err(Dropped::TooLarge);
                }
                let partial =
                    Partial { message_type, message_seq, start: self.used, length, ranges: Vec::new() };
                self.partials.push(partial).map_err(|_| Dropped::TooLarge)?;
                self.used = end;
                self.partials.len().saturating_sub(1)
            }
        };
        let partial = self.partials.get_mut(index).ok_or(Dropped::TooLarge)?;
        let count = u16::try_from(fragment.bytes.len()).map_err(|_| Dropped::TooLarge)?;
        partial.mark(offset, offset.saturating_add(count))?;
        let start = partial.start.saturating_add(offset);
        self.buffer
            .get_mut(start.into()..start.saturating_add(count).into())
            .ok_or(Dropped::Malformed)?
            .copy_from_slice(fragment.bytes);
        Ok(())
    }

    /// The message whose turn it is, if it is complete.
    pub(crate) fn complete(&self) -> Option<Message<'_>> {
        let partial = self.partials.iter().find(|partial| partial.message_seq == self.next)?;
        let body =
            self.buffer.get(partial.start.into()..partial.start.checked_add(partial.length)?.into())?;
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
            if behind <= self.used {
                self.buffer.copy_within(usize::from(behind)..self.used.into(), gone.start.into());
            }
            self.used = self.used.saturating_sub(gone.length);
            for partial in self.partials.iter_mut().filter(|partial| partial.start >= behind) {
                partial.start = partial.start.saturating_sub(gone.length);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::message::FragmentHeader;

    fn fragment(message_seq: u16, length: u32, offset: u32, bytes: &[u8]) -> Fragment<'_> {
        Fragment { header: FragmentHeader { code: 2, length, message_seq, offset }, bytes }
    }

    #[test]
    fn a_message_whose_turn_is_over_is_not_kept() {
        let mut reassembly = Reassembly::<64>::new();
        reassembly.restart(5);
        let late = reassembly.insert(MessageType::ServerHello, &fragment(4, 1, 0, &[1]));
        assert_eq!(late, Err(Dropped::Duplicate));
        assert_eq!(reassembly.used, 0);
    }

    #[test]
    fn a_finished_makes_way_for_nothing() {
        let mut reassembly = Reassembly::<64>::new();
        assert_eq!(reassembly.insert(MessageType::Finished, &fragment(1, 12, 0, &[7; 12])), Ok(()));
        let forged = reassembly.insert(MessageType::ServerHello, &fragment(0, 60, 0, &[1]));
        assert_eq!((forged, reassembly.used), (Err(Dropped::TooLarge), 12));
    }

    #[test]
    fn pieces_in_every_order_make_one_range_and_the_whole() {
        // Of twelve bytes, some of them twice.
        let pieces: [(u32, &[u8]); 4] =
            [(0, &[0, 1, 2]), (2, &[2, 3, 4, 5, 6]), (7, &[7, 8]), (8, &[8, 9, 10, 11])];
        let mut orders = std::vec![std::vec::Vec::new()];
        for _ in 0..pieces.len() {
            orders = orders
                .into_iter()
                .flat_map(|order: std::vec::Vec<usize>| {
                    let free = (0..pieces.len()).filter(|piece| !order.contains(piece));
                    free.map(|piece| [&*order, &[piece]].concat()).collect::<std::vec::Vec<_>>()
                })
                .collect();
        }
        assert_eq!(orders.len(), 24);
        for order in orders {
            let mut reassembly = Reassembly::<64>::new();
            for index in order {
                assert!(reassembly.complete().is_none());
                let (offset, bytes) = *pieces.get(index).unwrap();
                let inserted = reassembly.insert(MessageType::ServerHello, &fragment(0, 12, offset, bytes));
                assert_eq!(inserted, Ok(()));
            }
            assert_eq!(reassembly.complete().unwrap().body, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        }
    }
}
