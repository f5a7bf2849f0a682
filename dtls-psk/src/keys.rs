//! Record protection (RFC 6655 §3, RFC 5246 §6.2.3.3): the keys of an epoch, sealing and opening in place, and the replay
//! window (invariant: a sequence number is used once for sealing, and accepted once when opening).

use core::ops::Range;

use crate::crypto::Crypto;
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
    pub(crate) fn seal<C: Crypto>(
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

        *tag = C::seal(&self.write.key, &nonce(&self.write, header.number()), &aad(header, plaintext), body)
            .ok_or(SealError::Crypto)?;
        let fragment = plaintext.saturating_add((EXPLICIT_NONCE + TAG) as u16);
        let content = header.emit(fragment).into_iter().chain(header.number());
        front.iter_mut().zip(content).for_each(|(to, from)| *to = from);
        Ok(start..end)
    }

    /// Opens the body of a record in place and returns the plaintext. The body is destroyed if it is not authentic.
    pub(crate) fn open<'d, C: Crypto>(
        &mut self,
        header: Header,
        body: &'d mut [u8],
    ) -> Result<&'d mut [u8], Dropped> {
        if !self.window.is_fresh(header.sequence) {
            return Err(Dropped::Replayed);
        }
        let plaintext = self.decrypt::<C>(header, body)?;
        self.window.record(header.sequence);
        Ok(plaintext)
    }

    /// As [`Epoch::open`], but whether the record is fresh plays no role, and it stays so.
    pub(crate) fn decrypt<'d, C: Crypto>(
        &self,
        header: Header,
        body: &'d mut [u8],
    ) -> Result<&'d mut [u8], Dropped> {
        let Suite::PskAes128Ccm8 = self.suite;
        let (explicit, rest) = body.split_first_chunk_mut::<EXPLICIT_NONCE>().ok_or(Dropped::Malformed)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Dropped::Malformed)?;
        let length = u16::try_from(ciphertext.len())
            .ok()
            .filter(|_| ciphertext.len() <= PLAINTEXT_MAX)
            .ok_or(Dropped::TooLarge)?;
        let (nonce, aad) = (nonce(&self.read, *explicit), aad(header, length));
        C::open(&self.read.key, &nonce, &aad, ciphertext, tag).ok_or(Dropped::Unauthenticated)?;
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::crypto::RustCrypto;
    use crate::prf::tests::hex;
    use crate::record::Datagram;

    /// The client's side of the independently computed key schedule.
    fn epoch() -> Epoch {
        let keys = DirectionKeys {
            key: hex("242e1497c946f066767b03b8ad79adf6").try_into().unwrap(),
            iv: hex("175b2737").try_into().unwrap(),
        };
        Epoch {
            number: 1,
            suite: Suite::PskAes128Ccm8,
            write: keys.clone(),
            read: keys,
            next_sequence: 1,
            window: ReplayWindow::default(),
        }
    }

    const PLAINTEXT: &str = "40017d34bb74656d7065726174757265";
    const RECORD: &str =
        "17fefd0001000000000001002000010000000000019d5dbb15e619e8ec72a90f429c143ed487d054be6ffb0365";

    fn open(epoch: &mut Epoch, record: &[u8]) -> Result<Vec<u8>, Dropped> {
        let mut record = record.to_vec();
        let (header, body) = Datagram::new(&mut record).next().unwrap().unwrap();
        epoch.open::<RustCrypto>(header, body).map(|plaintext| plaintext.to_vec())
    }

    fn seal(epoch: &mut Epoch, payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; HEADROOM + payload.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + payload.len()].copy_from_slice(payload);
        let record = epoch
            .seal::<RustCrypto>(ContentType::ApplicationData, &mut buffer, HEADROOM..HEADROOM + payload.len())
            .unwrap();
        buffer[record].to_vec()
    }

    #[test]
    fn aes_128_ccm_8_matches_example_3_of_sp_800_38c() {
        let key = hex("404142434445464748494a4b4c4d4e4f").try_into().unwrap();
        let nonce = hex("101112131415161718191a1b").try_into().unwrap();
        let aad = hex("000102030405060708090a0b0c0d0e0f10111213");
        let mut buffer = hex("202122232425262728292a2b2c2d2e2f3031323334353637");
        let tag = RustCrypto::seal(&key, &nonce, &aad, &mut buffer).unwrap();
        assert_eq!(buffer, hex("e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5"));
        assert_eq!(tag.as_slice(), hex("484392fbc1b09951"));
        RustCrypto::open(&key, &nonce, &aad, &mut buffer, &tag).unwrap();
        assert_eq!(buffer, hex("202122232425262728292a2b2c2d2e2f3031323334353637"));
    }

    #[test]
    fn a_sealed_record_matches_an_independent_computation() {
        assert_eq!(seal(&mut epoch(), &hex(PLAINTEXT)), hex(RECORD));
        assert_eq!(open(&mut epoch(), &hex(RECORD)), Ok(hex(PLAINTEXT)));
    }

    #[test]
    fn one_changed_bit_anywhere_makes_a_record_unauthentic() {
        let record = hex(RECORD);
        for bit in 0..record.len() * 8 {
            // The length is not authenticated by itself: it says where the tag lies.
            if (11 * 8..13 * 8).contains(&bit) {
                continue;
            }
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut epoch = epoch();
            assert_eq!(open(&mut epoch, &changed), Err(Dropped::Unauthenticated), "bit {bit}");
            assert!(open(&mut epoch, &record).is_ok(), "a failure leaves the window alone");
        }
    }

    #[test]
    fn a_record_shorter_than_nonce_and_tag_is_malformed() {
        // Corpus 4.
        let record = hex(RECORD);
        for length in 0..16_u8 {
            let mut short = record[..13 + usize::from(length)].to_vec();
            short[12] = length;
            assert_eq!(open(&mut epoch(), &short), Err(Dropped::Malformed));
        }
        let mut empty = record[..13 + 16].to_vec();
        empty[12] = 16;
        assert_eq!(open(&mut epoch(), &empty), Err(Dropped::Unauthenticated));
    }

    #[test]
    fn a_record_opens_once() {
        let mut epoch = epoch();
        let (header, _) = Header::parse(&hex(RECORD)).unwrap();
        let body = hex(RECORD)[HEADER..].to_vec();
        assert!(epoch.decrypt::<RustCrypto>(header, &mut body.clone()).is_ok(), "a look leaves it fresh");
        assert!(open(&mut epoch, &hex(RECORD)).is_ok());
        assert_eq!(open(&mut epoch, &hex(RECORD)), Err(Dropped::Replayed));
    }

    #[test]
    fn sequence_numbers_count_up_and_never_wrap() {
        // Corpus 11 and 21: the explicit nonce is the record number.
        let mut epoch = epoch();
        epoch.next_sequence = SEQUENCE_MAX - 1;
        let records = [seal(&mut epoch, b"a"), seal(&mut epoch, b"a")];
        assert_eq!(records[0][3..11], hex("0001fffffffffffe"));
        assert_eq!(records[1][3..11], hex("0001ffffffffffff"));
        assert_eq!(records[1][13..21], records[1][3..11]);
        let mut buffer = [0; HEADROOM + TAILROOM];
        for _ in 0..2 {
            let sealed =
                epoch.seal::<RustCrypto>(ContentType::ApplicationData, &mut buffer, HEADROOM..HEADROOM);
            assert_eq!(sealed, Err(SealError::SequenceExhausted));
        }
    }

    #[test]
    fn sealing_needs_its_room_exactly() {
        for length in [0, 1, 64, PLAINTEXT_MAX] {
            let mut epoch = epoch();
            let mut buffer = vec![0; HEADROOM + length + TAILROOM];
            let payload = HEADROOM..HEADROOM + length;
            let short = buffer.len() - 1;
            let no_room = Err(SealError::NoRoom);
            assert_eq!(
                epoch.seal::<RustCrypto>(ContentType::ApplicationData, &mut buffer[..short], payload.clone()),
                no_room
            );
            assert_eq!(
                epoch.seal::<RustCrypto>(
                    ContentType::ApplicationData,
                    &mut buffer,
                    payload.start - 1..payload.end
                ),
                no_room
            );
            assert_eq!(epoch.next_sequence, 1, "a failure uses up no number");
            assert_eq!(
                epoch.seal::<RustCrypto>(ContentType::ApplicationData, &mut buffer, payload),
                Ok(0..buffer.len())
            );
        }
        let mut buffer = vec![0; HEADROOM + PLAINTEXT_MAX + 1 + TAILROOM];
        let payload = HEADROOM..HEADROOM + PLAINTEXT_MAX + 1;
        assert_eq!(
            epoch().seal::<RustCrypto>(ContentType::ApplicationData, &mut buffer, payload),
            Err(SealError::NoRoom)
        );
    }

    /// Primitives that fail, as hardware does.
    struct Broken;

    impl Crypto for Broken {
        type Sha256 = <RustCrypto as Crypto>::Sha256;
        type Hmac = <RustCrypto as Crypto>::Hmac;

        fn seal(_: &[u8; 16], _: &[u8; 12], _: &[u8], buffer: &mut [u8]) -> Option<[u8; 8]> {
            buffer.fill(0);
            None
        }

        fn open(_: &[u8; 16], _: &[u8; 12], _: &[u8], _: &mut [u8], _: &[u8; 8]) -> Option<()> {
            None
        }
    }

    #[test]
    fn primitives_that_fail_are_not_told_as_a_lack_of_room() {
        let mut epoch = epoch();
        let mut buffer = [7; HEADROOM + 4 + TAILROOM];
        let sealed = epoch.seal::<Broken>(ContentType::ApplicationData, &mut buffer, HEADROOM..HEADROOM + 4);
        assert_eq!(sealed, Err(SealError::Crypto));
        assert_eq!(epoch.next_sequence, 2, "the nonce may have been used");
    }
}
