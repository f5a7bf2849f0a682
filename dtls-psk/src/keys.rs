//! Record protection (RFC 6655 §3, RFC 5288 §3, RFC 5246 §6.2.3.3): the keys of an epoch, sealing and opening in place, and the replay
//! window (invariant: a sequence number is used once for sealing, and accepted once when opening).

use core::ops::Range;

use crate::connection_id::{ENABLED, PEER_MAX};
use crate::crypto::{Aead, Crypto};
use crate::error::{Dropped, SealError};
use crate::prf::DirectionKeys;
use crate::record::{ContentType, HEADER, Header, PLAINTEXT_MAX, SEQUENCE_MAX};
use crate::replay::ReplayWindow;
use crate::suite::Suite;

const EXPLICIT_NONCE: usize = 8;

/// The most that stands in front of the ciphertext in a record's body, and the most behind it.
const AROUND: (usize, usize) =
    if cfg!(feature = "cbc") { (16, 32 + 16) } else { (EXPLICIT_NONCE, Aead::TAG_MAX) };

/// Bytes that sealing needs in front of a payload at most: record header, explicit nonce or initialisation vector, and the longest Connection ID of
/// a peer where those are compiled in.
pub const HEADROOM: usize = HEADER + PEER_MAX + AROUND.0;

/// Bytes that sealing needs behind a payload at most: the type of content where Connection IDs are compiled in, and the
/// longest tag, or code and padding, of the suites that are.
pub const TAILROOM: usize = ENABLED as usize + AROUND.1;

/// How the suite protects records.
#[derive(Clone, Copy)]
pub(crate) enum Protection {
    Aead(Aead),
    #[cfg(feature = "cbc")]
    Cbc,
}

/// One row of the epoch → keys table.
pub(crate) struct Epoch {
    pub(crate) number: u16,
    pub(crate) suite: Suite,
    #[cfg(feature = "cbc")]
    pub(crate) encrypt_then_mac: bool,
    pub(crate) write: DirectionKeys,
    pub(crate) read: DirectionKeys,
    /// The next sequence number to write.
    pub(crate) next_sequence: u64,
    pub(crate) window: ReplayWindow,
}

impl Epoch {
    /// How many bytes stand in front of a payload in a record to the peer.
    pub(crate) fn head(&self, peer: &[u8]) -> usize {
        HEADER.saturating_add(peer.len()).saturating_add(match self.suite.protection() {
            Protection::Aead(_) => EXPLICIT_NONCE,
            #[cfg(feature = "cbc")]
            Protection::Cbc => AROUND.0,
        })
    }

    /// How many bytes stand behind it at most.
    pub(crate) fn tail(&self, peer: &[u8]) -> usize {
        usize::from(!peer.is_empty()).saturating_add(match self.suite.protection() {
            Protection::Aead(aead) => aead.tag_length(),
            #[cfg(feature = "cbc")]
            Protection::Cbc => AROUND.1,
        })
    }

    /// Seals `payload` of `buffer` in place as a record and returns where the record lies. `peer` is the Connection ID that
    /// the peer wants in records to it.
    pub(crate) fn seal<C: Crypto>(
        &mut self,
        content_type: ContentType,
        peer: &[u8],
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        if payload.len() > PLAINTEXT_MAX {
            return Err(SealError::TooLong);
        }
        match self.suite.protection() {
            Protection::Aead(aead) => self.seal_aead::<C>(aead, content_type, peer, buffer, payload),
            #[cfg(feature = "cbc")]
            Protection::Cbc => self.seal_cbc::<C>(content_type, peer, buffer, payload),
        }
    }

    fn seal_aead<C: Crypto>(
        &mut self,
        aead: Aead,
        content_type: ContentType,
        peer: &[u8],
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        let has_id = !peer.is_empty();
        let head = self.head(peer);
        let start = payload.start.checked_sub(head).ok_or(SealError::NoRoom)?;
        let end = payload.end.checked_add(self.tail(peer)).ok_or(SealError::NoRoom)?;
        let record = buffer.get_mut(start..end).ok_or(SealError::NoRoom)?;
        let (front, rest) = record.split_at_mut_checked(head).ok_or(SealError::NoRoom)?;
        let (body, tag) = split_tag(aead, rest).ok_or(SealError::NoRoom)?;
        let length = u16::try_from(body.len()).map_err(|_| SealError::TooLong)?;
        let header = self.next_header(if has_id { ContentType::ConnectionId } else { content_type })?;

        if has_id && let Some(last) = body.last_mut() {
            *last = content_type as u8;
        }
        let nonce = nonce(&self.write, header.number());
        let key = &self.write.key;
        with_aad(header, peer, length, |aad| C::seal(aead, key, &nonce, aad, body, tag))
            .ok_or(SealError::Crypto)?;
        let around = EXPLICIT_NONCE.saturating_add(aead.tag_length());
        let fragment = length.saturating_add(around as u16);
        header.emit_into(front, peer, fragment, &header.number());
        Ok(start..end)
    }

    /// The header of the next record.
    pub(crate) fn next_header(&mut self, outer: ContentType) -> Result<Header, SealError> {
        if self.next_sequence > SEQUENCE_MAX {
            return Err(SealError::SequenceExhausted);
        }
        let header = Header::new(outer, self.number, self.next_sequence);
        self.next_sequence = self.next_sequence.saturating_add(1);
        Ok(header)
    }

    /// Opens the body of a record in place and returns what it holds. The body is destroyed if it is not authentic. `own` is
    /// the Connection ID that records to us have.
    pub(crate) fn open<'d, C: Crypto>(
        &mut self,
        header: Header,
        own: &[u8],
        body: &'d mut [u8],
    ) -> Result<(ContentType, &'d mut [u8]), Dropped> {
        if !self.window.is_fresh(header.sequence) {
            return Err(Dropped::Replayed);
        }
        let plaintext = self.decrypt::<C>(header, own, body)?;
        self.window.record(header.sequence);
        unpack(header, plaintext)
    }

    /// As [`Epoch::open`], but whether the record is fresh plays no role, and it stays so; and a record with a Connection ID
    /// is not unpacked.
    pub(crate) fn decrypt<'d, C: Crypto>(
        &self,
        header: Header,
        own: &[u8],
        body: &'d mut [u8],
    ) -> Result<&'d mut [u8], Dropped> {
        // RFC 9146 §3: once negotiated, there is one in every protected record.
        if own.is_empty() == (header.content_type == ContentType::ConnectionId as u8) {
            return Err(Dropped::Unsupported);
        }
        match self.suite.protection() {
            Protection::Aead(aead) => self.decrypt_aead::<C>(aead, header, own, body),
            #[cfg(feature = "cbc")]
            Protection::Cbc => self.decrypt_cbc::<C>(header, own, body),
        }
    }

    fn decrypt_aead<'d, C: Crypto>(
        &self,
        aead: Aead,
        header: Header,
        own: &[u8],
        body: &'d mut [u8],
    ) -> Result<&'d mut [u8], Dropped> {
        let (explicit, rest) = body.split_first_chunk_mut::<EXPLICIT_NONCE>().ok_or(Dropped::Malformed)?;
        let (ciphertext, tag) = split_tag(aead, rest).ok_or(Dropped::Malformed)?;
        let longest = PLAINTEXT_MAX.saturating_add(usize::from(!own.is_empty()));
        let length = u16::try_from(ciphertext.len())
            .ok()
            .filter(|_| ciphertext.len() <= longest)
            .ok_or(Dropped::TooLarge)?;
        let nonce = nonce(&self.read, *explicit);
        with_aad(header, own, length, |aad| C::open(aead, &self.read.key, &nonce, aad, ciphertext, tag))
            .ok_or(Dropped::Unauthenticated)?;
        Ok(ciphertext)
    }
}

/// A record's content and the tag behind it.
fn split_tag(aead: Aead, body: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    body.split_at_mut_checked(body.len().checked_sub(aead.tag_length())?)
}

/// The type and content of an authentic record: in one with a Connection ID the type follows the content, and zeros follow
/// the type (RFC 9146 §4).
fn unpack(header: Header, plaintext: &mut [u8]) -> Result<(ContentType, &mut [u8]), Dropped> {
    let outer = ContentType::from_code(header.content_type).ok_or(Dropped::Unsupported)?;
    if outer != ContentType::ConnectionId {
        return Ok((outer, plaintext));
    }
    let end = plaintext.iter().rposition(|byte| *byte != 0).ok_or(Dropped::Malformed)?;
    let (content, rest) = plaintext.split_at_mut_checked(end).ok_or(Dropped::Malformed)?;
    let inner = rest.first().and_then(|code| ContentType::from_code(*code)).ok_or(Dropped::Unsupported)?;
    if inner == ContentType::ConnectionId { Err(Dropped::Unsupported) } else { Ok((inner, content)) }
}

fn nonce(keys: &DirectionKeys, explicit: [u8; EXPLICIT_NONCE]) -> [u8; 12] {
    let [a, b, c, d] = keys.iv;
    let [e, f, g, h, i, j, k, l] = explicit;
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// The additional data of RFC 6655 §3, or with a Connection ID that of RFC 9146 §5.3; a code over content begins with the same
/// (RFC 5246 §6.2.3.1, RFC 9146 §5.1, §5.2).
pub(crate) fn with_aad<T>(header: Header, id: &[u8], length: u16, then: impl FnOnce(&[u8]) -> T) -> T {
    // The header's fields in another order: the number before type and version.
    let [a, b, c, d, e, f, g, h] = header.number();
    let [major, minor] = header.version.0.to_be_bytes();
    let length @ [high, low] = length.to_be_bytes();
    if !ENABLED || id.is_empty() {
        return then(&[a, b, c, d, e, f, g, h, header.content_type, major, minor, high, low]);
    }
    const FIXED: usize = 8 + 3 + 2 + 8;
    let code = ContentType::ConnectionId as u8;
    let mut aad = [0xff; FIXED + PEER_MAX + 2];
    let front = [code, id.len() as u8, code, major, minor, a, b, c, d, e, f, g, h];
    let content = front.iter().chain(id).chain(&length);
    aad.iter_mut().skip(8).zip(content).for_each(|(to, from)| *to = *from);
    then(aad.get(..FIXED.saturating_add(id.len()).saturating_add(2)).unwrap_or_default())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]
pub(crate) mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::crypto::RustCrypto;
    use crate::prf::tests::hex;
    use crate::record::Datagram;

    const NONE: [u8; 0] = [];
    const DATA: ContentType = ContentType::ApplicationData;

    fn epoch() -> Epoch {
        epoch_of(Suite::PskAes128Ccm8)
    }

    /// The client's side of the independently computed key schedule.
    pub(crate) fn epoch_of(suite: Suite) -> Epoch {
        let keys = DirectionKeys {
            key: hex("242e1497c946f066767b03b8ad79adf6").try_into().unwrap(),
            iv: hex("175b2737").try_into().unwrap(),
            #[cfg(feature = "cbc")]
            mac: core::array::from_fn(|index| 0x80 + index as u8),
        };
        Epoch {
            number: 1,
            suite,
            #[cfg(feature = "cbc")]
            encrypt_then_mac: false,
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
        let (header, body) = Datagram::new(&mut record).next(&NONE).unwrap().unwrap();
        let (content_type, plaintext) = epoch.open::<RustCrypto>(header, &NONE, body)?;
        assert_eq!(content_type, ContentType::ApplicationData);
        Ok(plaintext.to_vec())
    }

    fn seal(epoch: &mut Epoch, payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; HEADROOM + payload.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + payload.len()].copy_from_slice(payload);
        let record =
            epoch.seal::<RustCrypto>(DATA, &NONE, &mut buffer, HEADROOM..HEADROOM + payload.len()).unwrap();
        buffer[record].to_vec()
    }

    #[test]
    fn aes_128_ccm_8_matches_example_3_of_sp_800_38c() {
        let key = hex("404142434445464748494a4b4c4d4e4f").try_into().unwrap();
        let nonce = hex("101112131415161718191a1b").try_into().unwrap();
        let aad = hex("000102030405060708090a0b0c0d0e0f10111213");
        let mut buffer = hex("202122232425262728292a2b2c2d2e2f3031323334353637");
        let mut tag = [0; 8];
        RustCrypto::seal(Aead::Ccm8, &key, &nonce, &aad, &mut buffer, &mut tag).unwrap();
        assert_eq!(buffer, hex("e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5"));
        assert_eq!(tag.as_slice(), hex("484392fbc1b09951"));
        RustCrypto::open(Aead::Ccm8, &key, &nonce, &aad, &mut buffer, &tag).unwrap();
        assert_eq!(buffer, hex("202122232425262728292a2b2c2d2e2f3031323334353637"));
    }

    #[test]
    fn a_sealed_record_matches_an_independent_computation() {
        assert_eq!(seal(&mut epoch(), &hex(PLAINTEXT)), hex(RECORD));
        assert_eq!(open(&mut epoch(), &hex(RECORD)), Ok(hex(PLAINTEXT)));
    }

    #[cfg(feature = "ccm16")]
    #[test]
    fn a_record_with_a_tag_of_16_bytes_matches_an_independent_computation() {
        let record = "17fefd0001000000000001002800010000000000019d5dbb15e619e8ec72a90f429c143ed4\
                      e5cf487daa62fbb5cc62fdeb54ae1b0e";
        assert_eq!(seal(&mut epoch_of(Suite::PskAes128Ccm), &hex(PLAINTEXT)), hex(record));
        assert_eq!(open(&mut epoch_of(Suite::PskAes128Ccm), &hex(record)), Ok(hex(PLAINTEXT)));
    }

    #[cfg(feature = "gcm")]
    #[test]
    fn a_record_under_gcm_matches_an_independent_computation() {
        let record = "17fefd0001000000000001002800010000000000019f48173a34335d517a39fcab86c30225\
                      7519c52db5bd6b8efcfc861cd919c675";
        assert_eq!(seal(&mut epoch_of(Suite::PskAes128Gcm), &hex(PLAINTEXT)), hex(record));
        assert_eq!(open(&mut epoch_of(Suite::PskAes128Gcm), &hex(record)), Ok(hex(PLAINTEXT)));
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
        let (header, ..) = Header::parse(&hex(RECORD), &NONE).unwrap();
        let body = hex(RECORD)[HEADER..].to_vec();
        assert!(
            epoch.decrypt::<RustCrypto>(header, &NONE, &mut body.clone()).is_ok(),
            "a look leaves it fresh"
        );
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
            let sealed = epoch.seal::<RustCrypto>(DATA, &NONE, &mut buffer, HEADROOM..HEADROOM);
            assert_eq!(sealed, Err(SealError::SequenceExhausted));
        }
    }

    #[test]
    fn an_authentic_record_longer_than_it_may_be_is_dropped() {
        for (length, expected) in [(PLAINTEXT_MAX, None), (PLAINTEXT_MAX + 1, Some(Dropped::TooLarge))] {
            let (mut epoch, header) = (epoch(), Header::new(DATA, 1, 1));
            let (mut content, mut tag) = (vec![7; length], [0; 8]);
            let (nonce, key) = (nonce(&epoch.write, header.number()), epoch.write.key);
            let sealed = with_aad(header, &NONE, length as u16, |aad| {
                RustCrypto::seal(Aead::Ccm8, &key, &nonce, aad, &mut content, &mut tag)
            });
            sealed.unwrap();
            let mut body = [&header.number()[..], &content, &tag].concat();
            let opened = epoch.open::<RustCrypto>(header, &NONE, &mut body);
            assert_eq!(opened.map(|(_, content)| content.len()).err(), expected, "{length}");
        }
    }

    #[test]
    fn sealing_needs_its_room_exactly() {
        let suites = Suite::ALL.iter().filter(|suite| matches!(suite.protection(), Protection::Aead(_)));
        for (suite, length) in suites.flat_map(|suite| [(*suite, 0), (*suite, PEER_MAX)]) {
            let epoch = || epoch_of(suite);
            let id = [7; 16][..length].to_vec();
            let (head, tail) = (epoch().head(&id), epoch().tail(&id));
            for length in [0, 1, 64, PLAINTEXT_MAX] {
                let mut epoch = epoch();
                let mut buffer = vec![0; head + length + tail];
                let payload = head..head + length;
                let (early, short) = (payload.start - 1..payload.end - 1, buffer.len() - 1);
                let no_room = Err(SealError::NoRoom);
                assert_eq!(
                    epoch.seal::<RustCrypto>(DATA, &id, &mut buffer[..short], payload.clone()),
                    no_room
                );
                assert_eq!(epoch.seal::<RustCrypto>(DATA, &id, &mut buffer, early), no_room);
                assert_eq!(epoch.next_sequence, 1, "a failure uses up no number");
                assert_eq!(epoch.seal::<RustCrypto>(DATA, &id, &mut buffer, payload), Ok(0..buffer.len()));
            }
            let mut buffer = vec![0; head + PLAINTEXT_MAX + 1 + tail];
            let payload = head..head + PLAINTEXT_MAX + 1;
            let sealed = epoch().seal::<RustCrypto>(DATA, &id, &mut buffer, payload);
            assert_eq!(sealed, Err(SealError::TooLong));
        }
        assert_eq!((epoch().head(&NONE), epoch().tail(&NONE)), (21, 8));
        let most = |room: fn(&Epoch) -> usize| Suite::ALL.iter().map(|suite| room(&epoch_of(*suite))).max();
        assert_eq!(most(|epoch| epoch.head(&[1; PEER_MAX])), Some(HEADROOM));
        assert_eq!(most(|epoch| epoch.tail(&[1; PEER_MAX])), Some(TAILROOM));
    }

    #[cfg(feature = "connection-id")]
    #[test]
    fn records_with_a_connection_id_match_an_independent_computation() {
        let records = [
            (
                "01020304",
                2,
                DATA,
                PLAINTEXT,
                "19fefd00010000000000020102030400210001000000000002561b2f65e177bc2082cdff51738a69f68683c54bb0b90d6e55",
            ),
            (
                "01020304",
                4,
                ContentType::Alert,
                "0100",
                "19fefd00010000000000040102030400130001000000000004eecfbbe005e3071958abac",
            ),
        ];
        for (id, sequence, content_type, plaintext, record) in records {
            let id = hex(id);
            let mut epoch = epoch();
            epoch.next_sequence = sequence;
            let plaintext = hex(plaintext);
            let head = epoch.head(&id);
            let mut buffer = vec![0; head + plaintext.len() + epoch.tail(&id)];
            let payload = head..head + plaintext.len();
            buffer[payload.clone()].copy_from_slice(&plaintext);
            let sealed = epoch.seal::<RustCrypto>(content_type, &id, &mut buffer, payload).unwrap();
            assert_eq!(buffer[sealed], hex(record));
            assert_eq!(open_with(&id, &hex(record)), Ok((content_type, plaintext)));
        }
        // Three zeros behind the type.
        let padded = "19fefd0001000000000003010203040506070800240001000000000003\
                      981ee1d9eb4474d3628a3d88f71699e39098f95bebe65db5a817d312";
        let id = hex("0102030405060708");
        assert_eq!(open_with(&id, &hex(padded)), Ok((DATA, hex(PLAINTEXT))));
    }

    #[cfg(feature = "connection-id")]
    fn open_with(id: &[u8], record: &[u8]) -> Result<(ContentType, Vec<u8>), Dropped> {
        let mut record = record.to_vec();
        let (header, body) = Datagram::new(&mut record).next(id).unwrap()?;
        let (content_type, plaintext) = epoch().open::<RustCrypto>(header, id, body)?;
        Ok((content_type, plaintext.to_vec()))
    }

    #[cfg(feature = "connection-id")]
    /// A record of type tls12_cid with this inner plaintext.
    fn record_of(inner: &[u8], id: &[u8]) -> Vec<u8> {
        let Some((code, content)) = inner.split_last() else {
            // Without even a type: nothing seals such a one, so the tag is made by hand.
            let header = Header::new(ContentType::ConnectionId, 1, 1);
            let nonce = nonce(&epoch().write, header.number());
            let mut tag = [0; 8];
            let key = epoch().write.key;
            with_aad(header, id, 0, |aad| {
                RustCrypto::seal(Aead::Ccm8, &key, &nonce, aad, &mut [], &mut tag).unwrap()
            });
            let mut record = header.emit(16)[..11].to_vec();
            record.extend(id.iter().chain(&[0, 16]).chain(&header.number()).chain(&tag));
            return record;
        };
        let mut epoch = epoch();
        let head = epoch.head(id);
        let mut record = vec![0; head + content.len() + epoch.tail(id)];
        record[head..head + content.len()].copy_from_slice(content);
        // The type is whatever byte is last.
        let content_type = ContentType::from_code(*code).unwrap_or(ContentType::ConnectionId);
        let range =
            epoch.seal::<RustCrypto>(content_type, id, &mut record, head..head + content.len()).unwrap();
        record[range].to_vec()
    }

    #[cfg(feature = "connection-id")]
    #[test]
    fn a_record_without_a_type_inside_or_with_that_of_the_outside_is_dropped() {
        let id = [9; 6];
        assert_eq!(open_with(&id, &record_of(&[], &id)), Err(Dropped::Malformed));
        assert_eq!(open_with(&id, &record_of(&[1, 2, 25], &id)), Err(Dropped::Unsupported));
        assert_eq!(open_with(&id, &record_of(&[1, 2, 0, 23], &id)), Ok((DATA, vec![1, 2, 0])));
    }

    #[cfg(feature = "connection-id")]
    #[test]
    fn a_record_needs_exactly_the_connection_id_that_was_agreed_12() {
        let id = [9; 6];
        let record = record_of(&[1, 2, 23], &id);
        assert!(open_with(&id, &record).is_ok());
        // Of another length, another one, none at all, and one where none was agreed.
        for other in [&[9; 7][..], &[9, 9, 9, 9, 9, 8], &[]] {
            assert_eq!(open_with(other, &record), Err(Dropped::Unsupported), "{other:?}");
        }
        for length in 1..6 {
            assert!(open_with(&id[..length], &record).is_err());
        }
        assert_eq!(open_with(&id, &hex(RECORD)), Err(Dropped::Unsupported));
        for length in 1..record.len() {
            assert!(open_with(&id, &record[..length]).is_err());
        }
    }

    /// Primitives that fail, as hardware does.
    struct Broken;

    impl Crypto for Broken {
        type Sha256 = <RustCrypto as Crypto>::Sha256;
        type Hmac = <RustCrypto as Crypto>::Hmac;

        fn seal(
            _: Aead,
            _: &[u8; 16],
            _: &[u8; 12],
            _: &[u8],
            buffer: &mut [u8],
            _: &mut [u8],
        ) -> Option<()> {
            buffer.fill(0);
            None
        }

        fn open(_: Aead, _: &[u8; 16], _: &[u8; 12], _: &[u8], _: &mut [u8], _: &[u8]) -> Option<()> {
            None
        }
    }

    #[test]
    fn primitives_that_fail_are_not_told_as_a_lack_of_room() {
        let mut epoch = epoch();
        let mut buffer = [7; HEADROOM + 4 + TAILROOM];
        let sealed = epoch.seal::<Broken>(DATA, &NONE, &mut buffer, HEADROOM..HEADROOM + 4);
        assert_eq!(sealed, Err(SealError::Crypto));
        assert_eq!(epoch.next_sequence, 2, "the nonce may have been used");
    }
}
