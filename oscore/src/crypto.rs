//! The AEAD and HKDF algorithms by RustCrypto (RFC 8613 §3.2.1, §5).
//!
//! Invariant: what does not verify is not decrypted to the caller: [`open`] leaves such a buffer unspecified and says so.

use aes::Aes128;
use ccm::Ccm;
use ccm::aead::generic_array::GenericArray;
use ccm::aead::generic_array::typenum::Unsigned;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U13};
use hmac::digest::Output;
use hmac::{Hmac, Mac};
use zeroize::Zeroize;

use crate::parameters::{AeadAlgorithm, HmacAlgorithm, Parameters};

/// The longest key of this build, in bytes.
pub(crate) const KEY_LENGTH: usize =
    if cfg!(any(feature = "ccm", feature = "gcm", feature = "chacha20")) { 32 } else { 16 };
/// The longest nonce, in bytes.
pub(crate) const NONCE_LENGTH: usize = 13;

type AesCcm16_64_128 = Ccm<Aes128, U8, U13>;

macro_rules! dispatch {
    ($algorithm:expr, $function:ident($($argument:expr),*)) => {
        match $algorithm {
            AeadAlgorithm::AesCcm16_64_128 => $function::<AesCcm16_64_128>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm16_64_256 => $function::<Ccm<aes::Aes256, U8, U13>>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm64_64_128 => $function::<Ccm<Aes128, U8, ccm::consts::U7>>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm64_64_256 => $function::<Ccm<aes::Aes256, U8, ccm::consts::U7>>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm16_128_128 => $function::<Ccm<Aes128, ccm::consts::U16, U13>>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm16_128_256 => $function::<Ccm<aes::Aes256, ccm::consts::U16, U13>>($($argument),*),
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm64_128_128 => {
                $function::<Ccm<Aes128, ccm::consts::U16, ccm::consts::U7>>($($argument),*)
            }
            #[cfg(feature = "ccm")]
            AeadAlgorithm::AesCcm64_128_256 => {
                $function::<Ccm<aes::Aes256, ccm::consts::U16, ccm::consts::U7>>($($argument),*)
            }
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A128Gcm => $function::<aes_gcm::Aes128Gcm>($($argument),*),
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A192Gcm => {
                $function::<aes_gcm::AesGcm<aes::Aes192, aes_gcm::aead::consts::U12>>($($argument),*)
            }
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A256Gcm => $function::<aes_gcm::Aes256Gcm>($($argument),*),
            #[cfg(feature = "chacha20")]
            AeadAlgorithm::ChaCha20Poly1305 => $function::<chacha20poly1305::ChaCha20Poly1305>($($argument),*),
        }
    };
}

/// Encrypts `buffer` but its last [`AeadAlgorithm::tag_length`] bytes, which take the tag. `None` when a length is wrong.
pub(crate) fn seal(
    algorithm: AeadAlgorithm,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
) -> Option<()> {
    dispatch!(algorithm, seal_with(key, nonce, aad, buffer))
}

/// Decrypts `buffer`, the tag of which is at its end, and returns how long the plaintext at its start is. `None` when it
/// does not verify.
pub(crate) fn open(
    algorithm: AeadAlgorithm,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
) -> Option<usize> {
    dispatch!(algorithm, open_with(key, nonce, aad, buffer))
}

fn seal_with<A: AeadInPlace + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
) -> Option<()> {
    let cipher = A::new_from_slice(key).ok()?;
    let (text, tag) = buffer.split_at_mut_checked(buffer.len().checked_sub(A::TagSize::USIZE)?)?;
    if nonce.len() != A::NonceSize::USIZE {
        return None;
    }
    let sealed = cipher.encrypt_in_place_detached(GenericArray::from_slice(nonce), aad, text).ok()?;
    tag.copy_from_slice(&sealed);
    Some(())
}

fn open_with<A: AeadInPlace + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
) -> Option<usize> {
    let cipher = A::new_from_slice(key).ok()?;
    let (text, tag) = buffer.split_at_mut_checked(buffer.len().checked_sub(A::TagSize::USIZE)?)?;
    if nonce.len() != A::NonceSize::USIZE {
        return None;
    }
    let tag = GenericArray::from_slice(tag);
    cipher.decrypt_in_place_detached(GenericArray::from_slice(nonce), aad, text, tag).ok()?;
    Some(text.len())
}

/// HKDF (RFC 5869) of Master Secret and Master Salt with `info` (RFC 8613 §3.2.1); fills `out`.
pub(crate) fn derive(parameters: &Parameters, info: &[u8], out: &mut [u8]) {
    match parameters.hmac() {
        HmacAlgorithm::Sha256 => derive_with::<Hmac<sha2::Sha256>>(parameters, info, out),
        #[cfg(feature = "sha512")]
        HmacAlgorithm::Sha384 => derive_with::<Hmac<sha2::Sha384>>(parameters, info, out),
        #[cfg(feature = "sha512")]
        HmacAlgorithm::Sha512 => derive_with::<Hmac<sha2::Sha512>>(parameters, info, out),
    }
}

/// The first block is enough: no key is longer than a hash.
fn derive_with<M: Mac + KeyInit>(parameters: &Parameters, info: &[u8], out: &mut [u8]) {
    let mut key = hmac::<M>(parameters.master_salt(), parameters.master_secret().bytes(), &[]);
    let mut block = hmac::<M>(&key, info, &[1]);
    debug_assert!(out.len() <= block.len(), "no key is longer than a hash");
    out.iter_mut().zip(&block).for_each(|(byte, derived)| *byte = *derived);
    key.zeroize();
    block.zeroize();
}

/// The beginning of a MAC over a purpose and what it is about.
pub(crate) fn mac(key: &[u8], purpose: &[u8], about: &[u8]) -> [u8; 8] {
    let mac = hmac::<Hmac<sha2::Sha256>>(key, purpose, about);
    mac.first_chunk().copied().unwrap_or_default()
}

/// HMAC of two pieces.
fn hmac<M: Mac + KeyInit>(key: &[u8], one: &[u8], other: &[u8]) -> Output<M> {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Output::<M>::default() };
    mac.update(one);
    mac.update(other);
    mac.finalize().into_bytes()
}
