//! Record protection (RFC 6655 §3, RFC 5246 §6.2.3.3): the keys of an epoch, sealing and opening in place, and the replay
//! window (invariant: a sequence number is used once for sealing, and accepted once when opening).

use core::ops::Range;

use crate::crypto;
use crate::error::{Dropped, SealError};
use crate::prf::DirectionKeys;
use crate::record::{ContentType, HEADER, Header, PLAINTEXT_MAX, SEQUENCE_MAX};
use crate::replay::ReplayWindow;
use crate::suite::Suite;

const EXPLICIT_NONCE: usize = 8;
const TAG: usize = 8;

/// Bytes that sealing needs in front of a payload: record header and explicit nonce.
pub const HEADROOM: usize = HEADER + EXPLICIT_NONCE;

/// Bytes that sealing needs behind a payload: the tag.
pub const TAILROOM: usize = TAG;

/// One row of the epoch → keys table.
#[derive(Clone)]
pub(crate) struct Epoch {
    pub(crate) number: u16,
    pub(crate) suite: Suite,
    pub(crate) write: DirectionKeys,
    pub(crate) read: DirectionKeys,
    /// The next sequence number to write.
    pub(crate) next_sequence: u64,
    pub(crate) window: ReplayWindow,
}

impl Epoch {
    /// Seals `payload` of `buffer` in place as a record and returns where the record lies.
    pub(crate) fn seal(
        &mut self,
        content_type: ContentType,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        let Suite::PskAes128Ccm8 = self.suite;
        let length = payload.len();
        let start = payload.start.checked_sub(HEADROOM).ok_or(SealError::NoRoom)?;
        let end = payload.end.checked_add(TAG).ok_or(SealError::NoRoom)?;
        let record = buffer.get_mut(start..end).ok_or(SealError::NoRoom)?;
        let (front, rest) = record.split_first_chunk_mut::<HEADROOM>().ok_or(SealError::NoRoom)?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(SealError::NoRoom)?;
        let plaintext =
            u16::try_from(length).ok().filter(|_| length <= PLAINTEXT_MAX).ok_or(SealError::NoRoom)?;
        if self.next_sequence > SEQUENCE_MAX {
            return Err(SealError::SequenceExhausted);
        }
        let header = Header::new(content_type, self.number, self.next_sequence);
        self.next_sequence = self.next_sequence.saturating_add(1);

        *tag = crypto::seal_ccm_8(
            &self.write.key,
            &nonce(&self.write, header.number()),
            &aad(header, plaintext),
            body,
        )
        .ok_or(SealError::NoRoom)?;
        let fragment = plaintext.saturating_add((EXPLICIT_NONCE + TAG) as u16);
        let content = header.emit(fragment).into_iter().chain(header.number());
        front.iter_mut().zip(content).for_each(|(to, from)| *to = from);
        Ok(start..end)
    }

    /// Opens the body of a record in place and returns the plaintext. The body is destroyed if it is not authentic.
    pub(crate) fn open<'d>(&mut self, header: Header, body: &'d mut [u8]) -> Result<&'d mut [u8], Dropped> {
        let plaintext = self.decrypt(header, body)?;
        self.window.record(header.sequence);
        Ok(plaintext)
    }

    /// As [`Epoch::open`], but leaves the record fresh.
    pub(crate) fn decrypt<'d>(&self, header: Header, body: &'d mut [u8]) -> Result<&'d mut [u8], Dropped> {
        let Suite::PskAes128Ccm8 = self.suite;
        if !self.window.is_fresh(header.sequence) {
            return Err(Dropped::Replayed);
        }
        let (explicit, rest) = body.split_first_chunk_mut::<EXPLICIT_NONCE>().ok_or(Dropped::Malformed)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Dropped::Malformed)?;
        let length = u16::try_from(ciphertext.len())
            .ok()
            .filter(|_| ciphertext.len() <= PLAINTEXT_MAX)
            .ok_or(Dropped::TooLarge)?;
        let (nonce, aad) = (nonce(&self.read, *explicit), aad(header, length));
        crypto::open_ccm_8(&self.read.key, &nonce, &aad, ciphertext, tag).ok_or(Dropped::Unauthenticated)?;
        Ok(ciphertext)
    }
}

fn nonce(keys: &DirectionKeys, explicit: [u8; EXPLICIT_NONCE]) -> [u8; 12] {
    let [a, b, c, d] = keys.iv;
    let [e, f, g, h, i, j, k, l] = explicit;
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn aad(header: Header, length: u16) -> [u8; HEADER] {
    // The additional data holds the number before type and version: the header's fields in another order.
    let [a, b, c, d, e, f, g, h] = header.number();
    let [major, minor] = header.version.0.to_be_bytes();
    let [high, low] = length.to_be_bytes();
    [a, b, c, d, e, f, g, h, header.content_type, major, minor, high, low]
}
