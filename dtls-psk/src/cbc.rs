//! Record protection by AES-CBC and HMAC (RFC 5246 §6.2.3.2, RFC 7366, RFC 9146 §5.1, §5.2), for peers that know nothing newer.
//!
//! Where both sides know encrypt-then-mac, the code covers the ciphertext and nothing is decrypted before it was verified.
//! Elsewhere it covers the plaintext, in front of a padding that nothing covers. Invariant: then the time taken and the memory
//! touched depend on the length of the record alone, and not on its padding, its code or its content (which is how Vaudenay's
//! attack and Lucky Thirteen found the plaintext). What is wrong with a record nobody is told.

use core::ops::Range;

use subtle::{
    Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeGreater as _,
    ConstantTimeLess as _,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::crypto::{Crypto, RunningHash, RunningMac as _};
use crate::error::{Dropped, SealError};
use crate::keys::{Epoch, with_aad};
use crate::record::{ContentType, Header, PLAINTEXT_MAX};

/// The block of AES, and so the explicit initialisation vector and the longest padding but for its length byte.
pub(crate) const BLOCK: usize = 16;

/// The code of HMAC-SHA-256, and its keys.
pub(crate) const MAC: usize = 32;

/// The most padding that a peer may add, with its length byte.
const PADDING_MAX: u16 = 256;

/// The block of SHA-256.
const HASH_BLOCK: usize = 64;

impl Epoch {
    /// As [`Epoch::seal`].
    pub(crate) fn seal_cbc<C: Crypto>(
        &mut self,
        content_type: ContentType,
        peer: &[u8],
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Range<usize>, SealError> {
        let has_id = !peer.is_empty();
        let head = self.head(peer);
        let start = payload.start.checked_sub(head).ok_or(SealError::NoRoom)?;
        let content = payload.len().saturating_add(has_id.into());
        let covered = if self.encrypt_then_mac { content } else { content.saturating_add(MAC) };
        let padding = BLOCK.saturating_sub(covered % BLOCK);
        let end = payload.start.saturating_add(content).saturating_add(MAC).saturating_add(padding);
        let record = buffer.get_mut(start..end);
        let (front, body) =
            record.and_then(|record| record.split_at_mut_checked(head)).ok_or(SealError::NoRoom)?;
        let header = self.next_header(if has_id { ContentType::ConnectionId } else { content_type })?;

        if has_id && let Some(last) = body.get_mut(payload.len()) {
            *last = content_type as u8;
        }
        let filler = u8::try_from(padding.saturating_sub(1)).unwrap_or_default();
        // Unique for the key, and unpredictable to who has not the key of the code: a longer input is the code of a record.
        let mut iv = [0; BLOCK];
        let mut mac = C::Hmac::new(&self.write.mac);
        mac.update(&header.number());
        iv.iter_mut().zip(mac.finish()).for_each(|(to, from)| *to = from);

        let key = &self.write.key;
        if self.encrypt_then_mac {
            let (encrypted, mac) =
                body.split_at_mut_checked(content.saturating_add(padding)).ok_or(SealError::NoRoom)?;
            encrypted.iter_mut().skip(content).for_each(|byte| *byte = filler);
            C::cbc_encrypt(key, &iv, encrypted).ok_or(SealError::Crypto)?;
            mac.copy_from_slice(&self.mac_of_ciphertext::<C>(&self.write.mac, header, peer, &iv, encrypted));
        } else {
            let (content, rest) = body.split_at_mut_checked(content).ok_or(SealError::NoRoom)?;
            let length = u16::try_from(content.len()).map_err(|_| SealError::NoRoom)?;
            let mut mac = C::Hmac::new(&self.write.mac);
            with_aad(header, peer, length, |aad| mac.update(aad));
            mac.update(content);
            let tail = mac.finish().into_iter().chain(core::iter::repeat(filler));
            rest.iter_mut().zip(tail).for_each(|(to, from)| *to = from);
            C::cbc_encrypt(key, &iv, body).ok_or(SealError::Crypto)?;
        }
        let fragment = u16::try_from(body.len().saturating_add(BLOCK)).map_err(|_| SealError::NoRoom)?;
        header.emit_into(front, peer, fragment, &iv);
        Ok(start..end)
    }

    /// As [`Epoch::decrypt`].
    pub(crate) fn decrypt_cbc<'d, C: Crypto>(
        &self,
        header: Header,
        own: &[u8],
        body: &'d mut [u8],
    ) -> Result<&'d mut [u8], Dropped> {
        const LONGEST: usize = PLAINTEXT_MAX + 1 + MAC + PADDING_MAX as usize;
        let (iv, rest) = body.split_first_chunk_mut::<BLOCK>().ok_or(Dropped::Malformed)?;
        if rest.len() > LONGEST {
            return Err(Dropped::TooLarge);
        }
        let key = &self.read.key;
        let content = if self.encrypt_then_mac {
            // RFC 7366 §3: verified before anything is decrypted.
            let (encrypted, mac) = rest.split_last_chunk_mut::<MAC>().ok_or(Dropped::Malformed)?;
            let expected = self.mac_of_ciphertext::<C>(&self.read.mac, header, own, iv, encrypted);
            if !bool::from(expected.as_slice().ct_eq(mac)) {
                return Err(Dropped::Unauthenticated);
            }
            C::cbc_decrypt(key, iv, encrypted).ok_or(Dropped::Malformed)?;
            let (is_padded, length) = unpad(encrypted, 0);
            if !bool::from(is_padded) {
                return Err(Dropped::Malformed);
            }
            encrypted.get_mut(..length.into()).ok_or(Dropped::Malformed)?
        } else {
            // The code and the length byte of the padding.
            if rest.len() <= MAC {
                return Err(Dropped::Malformed);
            }
            C::cbc_decrypt(key, iv, rest).ok_or(Dropped::Malformed)?;
            let (is_authentic, length) = {
                let (is_padded, length) = unpad(rest, MAC as u16);
                let mut expected = with_aad(header, own, length, |aad| {
                    mac_of_plaintext::<C::Sha256>(&self.read.mac, aad, rest, length)
                });
                let is_authentic = is_padded & extract(rest, length).as_slice().ct_eq(&expected);
                expected.zeroize();
                (is_authentic, length)
            };
            if !bool::from(is_authentic) {
                return Err(Dropped::Unauthenticated);
            }
            rest.get_mut(..length.into()).ok_or(Dropped::Malformed)?
        };
        let longest = PLAINTEXT_MAX.saturating_add(usize::from(!own.is_empty()));
        if content.len() > longest { Err(Dropped::TooLarge) } else { Ok(content) }
    }

    /// The code that stands behind the ciphertext (RFC 7366 §3). The length that it covers leaves out its own.
    fn mac_of_ciphertext<C: Crypto>(
        &self,
        key: &[u8; MAC],
        header: Header,
        id: &[u8],
        iv: &[u8; BLOCK],
        encrypted: &[u8],
    ) -> [u8; MAC] {
        let length = u16::try_from(BLOCK.saturating_add(encrypted.len())).unwrap_or(u16::MAX);
        let mut mac = C::Hmac::new(key);
        with_aad(header, id, length, |aad| mac.update(aad));
        mac.update(iv);
        mac.update(encrypted);
        mac.finish()
    }
}

/// Whether the end of `plaintext` is a padding that leaves `behind` bytes at least, and how long the content in front of it
/// and of those bytes is. Where it is none, that is as if it had no length (RFC 5246 §6.2.3.2).
///
/// Both are secret; the work depends on the length of `plaintext` alone.
pub(crate) fn unpad(plaintext: &[u8], behind: u16) -> (Choice, u16) {
    let length = u16::try_from(plaintext.len()).unwrap_or(u16::MAX);
    let last = u16::from(plaintext.last().copied().unwrap_or_default());
    let padding = last.wrapping_add(1);
    let room = length.saturating_sub(behind);
    let mut is_padded = !padding.ct_gt(&room);
    for (place, byte) in (0..PADDING_MAX).zip(plaintext.iter().rev()) {
        is_padded &= !place.ct_lt(&padding) | u16::from(*byte).ct_eq(&last);
    }
    let removed = u16::conditional_select(&0, &padding, is_padded);
    (is_padded, room.wrapping_sub(removed))
}

/// HMAC-SHA-256 of `front` and the first `length` bytes of `plaintext`, where `length` is secret: at most 256 bytes less than
/// all but the code itself. The work depends on the length of `plaintext` alone: the hash is finished for each length there
/// can be, and the one that counts is picked without a branch.
pub(crate) fn mac_of_plaintext<H: RunningHash>(
    key: &[u8; MAC],
    front: &[u8],
    plaintext: &[u8],
    length: u16,
) -> [u8; MAC] {
    let longest = plaintext.len().saturating_sub(MAC);
    let (known, guessed) =
        plaintext.split_at_checked(longest.saturating_sub(PADDING_MAX.into())).unwrap_or_default();
    let mut inner = H::new();
    inner.update(&*pad::<0x36>(key));
    inner.update(front);
    inner.update(known);
    let mut digest = [0; MAC];
    let mut candidate = u16::try_from(known.len()).unwrap_or(u16::MAX);
    let mut pick = |inner: &H, candidate: u16| {
        let is_it = candidate.ct_eq(&length);
        let finished = inner.clone().finish();
        digest.iter_mut().zip(&finished).for_each(|(to, from)| to.conditional_assign(from, is_it));
    };
    pick(&inner, candidate);
    for byte in guessed.chunks(1).take(longest.saturating_sub(known.len())) {
        inner.update(byte);
        candidate = candidate.wrapping_add(1);
        pick(&inner, candidate);
    }
    let mut outer = H::new();
    outer.update(&*pad::<0x5c>(key));
    outer.update(&digest);
    outer.finish()
}

/// The code behind the first `length` bytes of `plaintext`, where `length` is secret and at most 256 bytes less than all but
/// the code itself. The work and the memory touched depend on the length of `plaintext` alone.
pub(crate) fn extract(plaintext: &[u8], length: u16) -> [u8; MAC] {
    let earliest = plaintext.len().saturating_sub(MAC).saturating_sub(PADDING_MAX.into());
    let mut code = [0; MAC];
    for (place, window) in plaintext.windows(MAC).enumerate().skip(earliest) {
        let is_it = u16::try_from(place).unwrap_or(u16::MAX).ct_eq(&length);
        code.iter_mut().zip(window).for_each(|(to, from)| to.conditional_assign(from, is_it));
    }
    code
}

/// The key of HMAC as its two hashes begin with it.
fn pad<const BYTE: u8>(key: &[u8; MAC]) -> Zeroizing<[u8; HASH_BLOCK]> {
    let mut block = Zeroizing::new([BYTE; HASH_BLOCK]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to ^= from);
    block
}

#[cfg(test)]
#[cfg(feature = "server")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]
mod tests {
    use core::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::crypto::RustCrypto;
    use crate::keys::tests::epoch_of;
    use crate::prf::tests::hex;
    use crate::record::{Datagram, HEADER};
    use crate::suite::Suite;

    type Hash = <RustCrypto as Crypto>::Sha256;
    type Hmac = <RustCrypto as Crypto>::Hmac;

    const DATA: ContentType = ContentType::ApplicationData;
    const PLAINTEXT: &str = "40017d34bb74656d7065726174757265";

    fn epoch(encrypt_then_mac: bool) -> Epoch {
        Epoch { encrypt_then_mac, ..epoch_of(Suite::PskAes128CbcSha256) }
    }

    fn seal(epoch: &mut Epoch, id: &[u8], payload: &[u8]) -> Vec<u8> {
        let head = epoch.head(id);
        let mut buffer = [&vec![0; head], payload, &vec![0; epoch.tail(id)]].concat();
        let record = epoch.seal::<RustCrypto>(DATA, id, &mut buffer, head..head + payload.len()).unwrap();
        buffer[record].to_vec()
    }

    fn open(epoch: &mut Epoch, id: &[u8], record: &[u8]) -> Result<Vec<u8>, Dropped> {
        let mut record = record.to_vec();
        let (header, body) = Datagram::new(&mut record).next(id).unwrap()?;
        let (content_type, plaintext) = epoch.open::<RustCrypto>(header, id, body)?;
        assert_eq!(content_type, DATA);
        Ok(plaintext.to_vec())
    }

    #[test]
    fn records_match_an_independent_computation() {
        let mac_then_encrypt = "17fefd00010000000000010050fbe25d099ff50499bec8afbfe67916d957095f8a60d33e9966848b8a8d7cef8ad5a8fa34b8\
             8b0ed86a4b837bf3d14cf9bfecaac45486cee085828ced3df99904486811df6f77216a5d162e88d6d3fc73";
        let encrypt_then_mac = "17fefd00010000000000010050fbe25d099ff50499bec8afbfe67916d957095f8a60d33e9966848b8a8d7cef8ae3c201cd27\
             7923faa6f03c04fc9b97389f4d3898eca7aa43e56f4d4302cbcbdfef6ca944024b1f8974c6df68c77a1420";
        for (etm, record) in [(false, mac_then_encrypt), (true, encrypt_then_mac)] {
            assert_eq!(seal(&mut epoch(etm), &[], &hex(PLAINTEXT)), hex(record));
            assert_eq!(open(&mut epoch(etm), &[], &hex(record)), Ok(hex(PLAINTEXT)));
            assert!(open(&mut epoch(!etm), &[], &hex(record)).is_err());
        }
    }

    #[cfg(feature = "connection-id")]
    #[test]
    fn records_with_a_connection_id_match_an_independent_computation() {
        let mac_then_encrypt = "19fefd0001000000000002010203040050948819eb91e264ff999faff544c0dc2543fe21725b48529381ed4209e72a1ac0c4\
             82ca1d9b6938a20bc034d45a4a6eb6c9c25f6cd50d768b4a005e0ce71b22c231b619dac8adc7c6d341042da09e0599";
        let encrypt_then_mac = "19fefd0001000000000002010203040050948819eb91e264ff999faff544c0dc2543fe21725b48529381ed4209e72a1ac054\
             79c8c758e7985e2c07671695aa99c7e737762c7ff50e02ea107064d151b9d494d772346c7367887c78e90445cff245";
        for (etm, record) in [(false, mac_then_encrypt), (true, encrypt_then_mac)] {
            let mut epoch = Epoch { next_sequence: 2, ..epoch(etm) };
            assert_eq!(seal(&mut epoch, &[1, 2, 3, 4], &hex(PLAINTEXT)), hex(record));
            assert_eq!(open(&mut epoch, &[1, 2, 3, 4], &hex(record)), Ok(hex(PLAINTEXT)));
        }
    }

    #[test]
    fn more_padding_than_needed_is_taken() {
        let mac_then_encrypt = "17fefd00010000000000010130fbe25d099ff50499bec8afbfe67916d957095f8a60d33e9966848b8a8d7cef8ad5a8fa34b8\
             8b0ed86a4b837bf3d14cf9bfecaac45486cee085828ced3df999041bc546e689a44de0d159281608ee95b6266e64fdee8120\
             ec4738b644c7c4fd08ec3d2dc0569d6645d738685170ce4931a03d776cc111768204ed4e888eb25f3efb3e25a3cb4e2f777c\
             0c03559bb6a23111ff9f0359e461e1b9883da324206709ed51838cb0dfa7438543014f680cdc870bbee91195775d26219d24\
             63f876d962667850d30630495a3d47015bf296e9f21bd984ae7d1afcd1dae2a4c50de74d491225bb9333154ff87733e4411e\
             f9b1198ef98bdb2797071ebaeba0b497e41ffed5d8cb2f053846f1525820c0c8d29e9b0f9f11c5ea2996057ebb88d2257351\
             ee94815d8fd1628efd730918b64345203f";
        let encrypt_then_mac = "17fefd00010000000000010060fbe25d099ff50499bec8afbfe67916d957095f8a60d33e9966848b8a8d7cef8ac9e7a86837\
             52a15f4f5741e4de1f1ff4bd70277d0938ad89e1943baa69c44b056129d853141dcb7d8cb7f33717db0dde089c476eda4478\
             19d53bf194de46aa0d";
        assert_eq!(open(&mut epoch(false), &[], &hex(mac_then_encrypt)), Ok(hex(PLAINTEXT)));
        assert_eq!(open(&mut epoch(true), &[], &hex(encrypt_then_mac)), Ok(hex(PLAINTEXT)));
    }

    #[test]
    fn one_changed_bit_anywhere_makes_a_record_unauthentic() {
        for etm in [false, true] {
            let record = seal(&mut epoch(etm), &[], &hex(PLAINTEXT));
            for bit in 0..record.len() * 8 {
                // The length is not authenticated by itself.
                if (11 * 8..13 * 8).contains(&bit) {
                    continue;
                }
                let mut changed = record.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&mut epoch(etm), &[], &changed), Err(Dropped::Unauthenticated), "bit {bit}");
            }
        }
    }

    #[test]
    fn every_length_comes_back_and_every_shorter_record_does_not() {
        for etm in [false, true] {
            for length in 0..70 {
                let payload = vec![7; length];
                let record = seal(&mut epoch(etm), &[], &payload);
                assert_eq!(open(&mut epoch(etm), &[], &record), Ok(payload));
            }
            let record = seal(&mut epoch(etm), &[], &[7; 100]);
            for length in 0..record.len() - HEADER {
                let mut short = record[..HEADER + length].to_vec();
                short[11..13].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
                assert!(open(&mut epoch(etm), &[], &short).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn sealing_needs_its_room_exactly_and_uses_up_no_number_without() {
        for (etm, length) in
            [false, true].into_iter().flat_map(|etm| (0..20).map(move |length| (etm, length)))
        {
            let mut epoch = epoch(etm);
            let head = epoch.head(&[]);
            let whole = seal(&mut epoch, &[], &vec![0; length]).len();
            let mut buffer = vec![0; whole];
            let (payload, no_room) = (head..head + length, Err(SealError::NoRoom));
            let sealed = epoch.seal::<RustCrypto>(DATA, &[], &mut buffer[..whole - 1], payload.clone());
            assert_eq!(sealed, no_room);
            let early = payload.start - 1..payload.end;
            assert_eq!(epoch.seal::<RustCrypto>(DATA, &[], &mut buffer, early), no_room);
            assert_eq!(epoch.next_sequence, 2);
            assert_eq!(epoch.seal::<RustCrypto>(DATA, &[], &mut buffer, payload), Ok(0..whole));
        }
        let mut buffer = vec![0; 20000];
        let too_long = 100..100 + PLAINTEXT_MAX + 1;
        let sealed = epoch(true).seal::<RustCrypto>(DATA, &[], &mut buffer, too_long);
        assert_eq!(sealed, Err(SealError::TooLong));
    }

    #[test]
    fn a_record_longer_than_any_may_be_is_not_even_decrypted() {
        for etm in [false, true] {
            // Of the longest content there is, its type, a code and the longest padding, in whole blocks.
            for (blocks, expected) in [(1042, Dropped::Unauthenticated), (1043, Dropped::TooLarge)] {
                let mut body = vec![9; BLOCK + blocks * BLOCK];
                let opened = epoch(etm).open::<RustCrypto>(Header::new(DATA, 1, 1), &[], &mut body);
                assert_eq!(opened.map(|(_, content)| content.len()), Err(expected));
            }
        }
    }

    #[test]
    fn the_vector_is_another_one_for_each_record() {
        let mut epoch = epoch(true);
        let vectors: Vec<_> = (0..3).map(|_| seal(&mut epoch, &[], &[])[13..29].to_vec()).collect();
        assert!(vectors[0] != vectors[1] && vectors[1] != vectors[2]);
    }

    /// A record whose plaintext is given to the last byte.
    fn record_of(etm: bool, mut plaintext: Vec<u8>) -> Vec<u8> {
        let epoch = epoch(etm);
        let header = Header::new(DATA, 1, 1);
        let iv = [9; BLOCK];
        RustCrypto::cbc_encrypt(&epoch.write.key, &iv, &mut plaintext).unwrap();
        if etm {
            let mac = epoch.mac_of_ciphertext::<RustCrypto>(&epoch.write.mac, header, &[], &iv, &plaintext);
            plaintext.extend(mac);
        }
        let length = u16::try_from(BLOCK + plaintext.len()).unwrap();
        [&header.emit(length)[..], &iv, &plaintext].concat()
    }

    /// Content, its code where that is inside, and a padding.
    fn plaintext_of(etm: bool, content: &[u8], padding: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::new(&epoch(etm).write.mac);
        let length = u16::try_from(content.len()).unwrap();
        with_aad(Header::new(DATA, 1, 1), &[], length, |aad| mac.update(aad));
        mac.update(content);
        let code = if etm { vec![] } else { mac.finish().to_vec() };
        [content, &code, padding].concat()
    }

    #[test]
    fn every_byte_of_the_padding_is_checked_under_an_authentic_code() {
        // 5 bytes of content and 27, or 5, 32 and 27: both with a padding of 27 bytes.
        for (etm, wrong) in [(false, Dropped::Unauthenticated), (true, Dropped::Malformed)] {
            let padding = [26; 27];
            let record = record_of(etm, plaintext_of(etm, b"hello", &padding));
            assert_eq!(open(&mut epoch(etm), &[], &record), Ok(b"hello".to_vec()));
            for place in 0..26 {
                let mut changed = padding;
                changed[place] ^= 0x80;
                let record = record_of(etm, plaintext_of(etm, b"hello", &changed));
                assert_eq!(open(&mut epoch(etm), &[], &record), Err(wrong), "{place}");
            }
        }
    }

    #[test]
    fn a_padding_longer_than_the_record_is_none() {
        for (etm, wrong) in [(false, Dropped::Unauthenticated), (true, Dropped::Malformed)] {
            for last in [32, 64, 200, 255] {
                let padding = [[last; 26], [last; 26]].concat()[..27].to_vec();
                let record = record_of(etm, plaintext_of(etm, b"hello", &padding));
                assert_eq!(open(&mut epoch(etm), &[], &record), Err(wrong), "{last}");
            }
        }
    }

    #[test]
    fn a_right_padding_does_not_help_a_wrong_code() {
        let mut plaintext = plaintext_of(false, b"hello", &[26; 27]);
        plaintext[5 + 31] ^= 1;
        let opened = open(&mut epoch(false), &[], &record_of(false, plaintext));
        assert_eq!(opened, Err(Dropped::Unauthenticated));
    }

    #[test]
    fn a_right_code_does_not_help_a_missing_padding() {
        // Its last byte stands where the length of the padding does, and would be a longer one than there is room for.
        let plaintext = plaintext_of(false, &[7; BLOCK], &[]);
        assert!(plaintext.last().is_some_and(|last| *last >= 16));
        let opened = open(&mut epoch(false), &[], &record_of(false, plaintext));
        assert_eq!(opened, Err(Dropped::Unauthenticated));
    }

    #[test]
    fn an_authentic_record_longer_than_it_may_be_is_dropped() {
        for etm in [false, true] {
            for (length, expected) in [(PLAINTEXT_MAX, None), (PLAINTEXT_MAX + 1, Some(Dropped::TooLarge))] {
                let mut epoch = epoch(etm);
                let head = epoch.head(&[]);
                let mut buffer = vec![0; head + length + epoch.tail(&[])];
                let sealed = epoch.seal_cbc::<RustCrypto>(DATA, &[], &mut buffer, head..head + length);
                assert_eq!(open(&mut epoch, &[], &buffer[sealed.unwrap()]).err(), expected, "{length}");
            }
        }
    }

    #[test]
    fn unpad_is_what_the_specification_says() {
        for length in [1, 16, 48, 64, 256, 257, 304, 600_u16] {
            for last in 0..=255_u8 {
                for (behind, wrong) in [(0, None), (32, None), (0, Some(1)), (32, Some(u16::from(last)))] {
                    let mut plaintext = vec![last; length.into()];
                    if let Some(place) = wrong.and_then(|wrong| length.checked_sub(1 + wrong)) {
                        plaintext[usize::from(place)] ^= 1;
                    }
                    let last = plaintext[usize::from(length) - 1];
                    let padding = u16::from(last) + 1;
                    let padded = &plaintext[usize::from(length.saturating_sub(padding))..];
                    let is_padded = padding + behind <= length && padded.iter().all(|byte| *byte == last);
                    let room = length.saturating_sub(behind);
                    let expected = if is_padded { room - padding } else { room };
                    let (came, content) = unpad(&plaintext, behind);
                    assert_eq!(
                        (bool::from(came), content),
                        (is_padded, expected),
                        "{length} {last} {behind}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_code_of_every_length_there_can_be_is_that_of_hmac() {
        let key = [3; MAC];
        for whole in [32, 33, 48, 80, 287, 288, 289, 400_usize] {
            let plaintext: Vec<u8> = (0..whole).map(|index| (index % 251) as u8).collect();
            for length in (whole - 32).saturating_sub(256)..=whole - 32 {
                let mut mac = Hmac::new(&key);
                mac.update(b"front");
                mac.update(&plaintext[..length]);
                let secret = u16::try_from(length).unwrap();
                assert_eq!(mac_of_plaintext::<Hash>(&key, b"front", &plaintext, secret), mac.finish());
                assert_eq!(extract(&plaintext, secret), plaintext[length..length + 32]);
            }
        }
    }

    std::thread_local! {
        static WORK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    /// Counts what is fed and how often it is asked.
    #[derive(Clone)]
    struct Counting(Hash);

    impl RunningHash for Counting {
        fn new() -> Self {
            Self(RunningHash::new())
        }

        fn update(&mut self, bytes: &[u8]) {
            WORK.with(|work| work.set((work.get().0 + bytes.len(), work.get().1)));
            RunningHash::update(&mut self.0, bytes);
        }

        fn finish(self) -> [u8; 32] {
            WORK.with(|work| work.set((work.get().0, work.get().1 + 1)));
            RunningHash::finish(self.0)
        }
    }

    #[test]
    fn the_work_does_not_depend_on_the_padding() {
        let plaintext = [5; 320];
        let work = |length| {
            WORK.with(|work| work.set((0, 0)));
            mac_of_plaintext::<Counting>(&[3; MAC], b"front", &plaintext, length);
            WORK.with(Cell::get)
        };
        assert!((32..=288).all(|length| work(length) == work(288)));
    }
}
