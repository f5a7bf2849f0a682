//! AES-CCM (RFC 3610) with two bytes for the length of the text, over the block cipher of RustCrypto.
//!
//! One function for every length of key, nonce and tag, which encrypts the MAC and the keystream side by side: portable AES does two
//! blocks in the time of one.
//!
//! Invariant: the whole tag is compared, in constant time; [`open`] leaves a text that does not verify unspecified.

use aes::cipher::consts::U16;
use aes::cipher::{BlockEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Block};
use subtle::ConstantTimeEq;

/// Encrypts `text` with `key`, 16 bytes or 32 if this build has them, and fills `tag`. `None` when a length is wrong.
pub(crate) fn seal(key: &[u8], nonce: &[u8], aad: &[u8], text: &mut [u8], tag: &mut [u8]) -> Option<()> {
    let mac = with_key(key, nonce, aad, text, tag.len(), Direction::Seal)?;
    tag.copy_from_slice(mac.get(..tag.len())?);
    Some(())
}

/// Decrypts `text`. `None` when it does not verify, or a length is wrong.
pub(crate) fn open(key: &[u8], nonce: &[u8], aad: &[u8], text: &mut [u8], tag: &[u8]) -> Option<()> {
    let mac = with_key(key, nonce, aad, text, tag.len(), Direction::Open)?;
    bool::from(mac.get(..tag.len())?.ct_eq(tag)).then_some(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Seal,
    Open,
}

fn with_key(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    text: &mut [u8],
    tag_length: usize,
    direction: Direction,
) -> Option<Block> {
    #[cfg(feature = "ccm")]
    if let Ok(cipher) = aes::Aes256::new_from_slice(key) {
        return crypt(&cipher, nonce, aad, text, tag_length, direction);
    }
    crypt(&Aes128::new_from_slice(key).ok()?, nonce, aad, text, tag_length, direction)
}

/// Encrypts or decrypts `text` and returns the MAC, the beginning of which is the tag.
fn crypt<C: BlockEncrypt + BlockSizeUser<BlockSize = U16>>(
    cipher: &C,
    nonce: &[u8],
    aad: &[u8],
    text: &mut [u8],
    tag_length: usize,
    direction: Direction,
) -> Option<Block> {
    // RFC 3610 §2.2: B_0, and the length of the additional data, of which there are always some.
    let flags = 0x40 | u8::try_from(tag_length.checked_sub(2)?).ok()? << 2;
    let mut mac = block(flags, nonce, u16::try_from(text.len()).ok()?)?;
    cipher.encrypt_block(&mut mac);
    add(&mut mac, &u16::try_from(aad.len()).ok()?.to_be_bytes());
    let (head, rest) = aad.split_at_checked(14).unwrap_or((aad, &[]));
    add(mac.get_mut(2..)?, head);
    for part in rest.chunks(16) {
        cipher.encrypt_block(&mut mac);
        add(&mut mac, part);
    }
    // From here on each block of the MAC is encrypted together with one of the keystream. A text that is sealed enters the MAC
    // before that, one that is opened after it.
    let mut pair = [mac, block(0, nonce, 0)?];
    if direction == Direction::Seal {
        cipher.encrypt_blocks(&mut pair);
    }
    let [mut mac, mut last] = pair;
    for (number, part) in (1..).zip(text.chunks_mut(16)) {
        if direction == Direction::Seal {
            add(&mut mac, part);
        }
        let mut pair = [mac, block(0, nonce, number)?];
        cipher.encrypt_blocks(&mut pair);
        let [next, keystream] = pair;
        mac = next;
        add(part, &keystream);
        if direction == Direction::Open {
            add(&mut mac, part);
        }
    }
    if direction == Direction::Open {
        let mut pair = [mac, last];
        cipher.encrypt_blocks(&mut pair);
        [mac, last] = pair;
    }
    add(&mut mac, &last);
    Some(mac)
}

/// RFC 3610 §2.2, §2.3: flags with how many bytes the number takes, nonce, number.
fn block(flags: u8, nonce: &[u8], number: u16) -> Option<Block> {
    let mut block = [0; 16];
    let [first, middle @ .., high, low] = &mut block;
    *first = flags | u8::try_from(middle.len().saturating_add(1).checked_sub(nonce.len())?).ok()?;
    middle.get_mut(..nonce.len())?.copy_from_slice(nonce);
    [*high, *low] = number.to_be_bytes();
    Some(block.into())
}

/// Adds bit by bit, as far as both go.
fn add(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use ccm::aead::generic_array::GenericArray;
    use ccm::consts::{U7, U8, U13};
    use ccm::{AeadInPlace, KeyInit};
    use proptest::prelude::*;

    use super::*;

    /// Text and tag as the package `ccm` makes them.
    fn sealed<A: AeadInPlace + KeyInit>(
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        text: &[u8],
    ) -> (Vec<u8>, Vec<u8>) {
        let mut text = text.to_vec();
        let cipher = A::new_from_slice(key).unwrap();
        let tag = cipher.encrypt_in_place_detached(GenericArray::from_slice(nonce), aad, &mut text).unwrap();
        (text, tag.to_vec())
    }

    proptest! {
        #[test]
        fn texts_and_tags_are_those_of_another_program(
            key in any::<[u8; 32]>(),
            nonce in any::<[u8; 13]>(),
            aad in prop::collection::vec(any::<u8>(), 1..70),
            text in prop::collection::vec(any::<u8>(), 0..70),
            wrong in any::<prop::sample::Index>(),
        ) {
            let (short, short_nonce) = (&key[..16], &nonce[..7]);
            let mut cases = std::vec![
                (short, &nonce[..], sealed::<::ccm::Ccm<Aes128, U8, U13>>(short, &nonce, &aad, &text)),
                (short, short_nonce, sealed::<::ccm::Ccm<Aes128, U8, U7>>(short, short_nonce, &aad, &text)),
                (short, &nonce[..], sealed::<::ccm::Ccm<Aes128, U16, U13>>(short, &nonce, &aad, &text)),
                (short, short_nonce, sealed::<::ccm::Ccm<Aes128, U16, U7>>(short, short_nonce, &aad, &text)),
            ];
            if cfg!(feature = "ccm") {
                cases.extend([
                    (&key[..], &nonce[..], sealed::<::ccm::Ccm<aes::Aes256, U8, U13>>(&key, &nonce, &aad, &text)),
                    (&key[..], short_nonce, sealed::<::ccm::Ccm<aes::Aes256, U8, U7>>(&key, short_nonce, &aad, &text)),
                    (&key[..], &nonce[..], sealed::<::ccm::Ccm<aes::Aes256, U16, U13>>(&key, &nonce, &aad, &text)),
                    (&key[..], short_nonce, sealed::<::ccm::Ccm<aes::Aes256, U16, U7>>(&key, short_nonce, &aad, &text)),
                ]);
            }
            for (key, nonce, (ciphertext, expected)) in cases {
                let (mut buffer, mut tag) = (text.clone(), std::vec![0; expected.len()]);
                prop_assert_eq!(seal(key, nonce, &aad, &mut buffer, &mut tag), Some(()));
                prop_assert_eq!((&buffer, &tag), (&ciphertext, &expected));
                prop_assert_eq!(open(key, nonce, &aad, &mut buffer, &tag), Some(()));
                prop_assert_eq!(&buffer, &text);
                // One bit of tag, text or additional data is wrong.
                let mut all = [&tag[..], &ciphertext, &aad].concat();
                *wrong.get_mut(&mut all) ^= 0x10;
                let (tag, rest) = all.split_at_mut(tag.len());
                let (buffer, aad) = rest.split_at_mut(ciphertext.len());
                prop_assert_eq!(open(key, nonce, aad, buffer, tag), None);
            }
        }
    }
}
