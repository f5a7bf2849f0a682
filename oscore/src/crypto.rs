//! The AEAD and HKDF algorithms by RustCrypto (RFC 8613 §3.2.1, §5).
//!
//! Invariant: what does not verify is not decrypted to the caller: [`open`] leaves such a buffer unspecified and says so.

#[cfg(feature = "gcm")]
use aes_gcm::aead;
#[cfg(all(feature = "chacha20", not(feature = "gcm")))]
use chacha20poly1305::aead;
use hmac::digest::{KeyInit, Output};
use hmac::{Hmac, Mac};
use zeroize::Zeroize;

use crate::ccm;
use crate::parameters::{AeadAlgorithm, HmacAlgorithm, Parameters};

/// The longest key of this build, in bytes.
pub(crate) const KEY_LENGTH: usize =
    if cfg!(any(feature = "ccm", feature = "gcm", feature = "chacha20")) { 32 } else { 16 };
/// The longest nonce, in bytes.
pub(crate) const NONCE_LENGTH: usize = 13;

macro_rules! dispatch {
    ($algorithm:expr, $ccm:path, $other:ident($($argument:expr),*)) => {
        match $algorithm {
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A128Gcm => $other::<aes_gcm::Aes128Gcm>($($argument),*),
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A192Gcm => {
                $other::<aes_gcm::AesGcm<aes::Aes192, aes_gcm::aead::consts::U12>>($($argument),*)
            }
            #[cfg(feature = "gcm")]
            AeadAlgorithm::A256Gcm => $other::<aes_gcm::Aes256Gcm>($($argument),*),
            #[cfg(feature = "chacha20")]
            AeadAlgorithm::ChaCha20Poly1305 => $other::<chacha20poly1305::ChaCha20Poly1305>($($argument),*),
            _ => $ccm($($argument),*),
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
    let (text, tag) = buffer.split_at_mut_checked(buffer.len().checked_sub(algorithm.tag_length())?)?;
    dispatch!(algorithm, ccm::seal, seal_with(key, nonce, aad, text, tag))
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
    let (text, tag) = buffer.split_at_mut_checked(buffer.len().checked_sub(algorithm.tag_length())?)?;
    dispatch!(algorithm, ccm::open, open_with(key, nonce, aad, text, tag))?;
    Some(text.len())
}

#[cfg(any(feature = "gcm", feature = "chacha20"))]
fn seal_with<A: aead::AeadInPlace + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    text: &mut [u8],
    tag: &mut [u8],
) -> Option<()> {
    let (cipher, nonce) = cipher::<A>(key, nonce)?;
    let sealed = cipher.encrypt_in_place_detached(nonce, aad, text).ok()?;
    tag.copy_from_slice(&sealed);
    Some(())
}

#[cfg(any(feature = "gcm", feature = "chacha20"))]
fn open_with<A: aead::AeadInPlace + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    let (cipher, nonce) = cipher::<A>(key, nonce)?;
    cipher.decrypt_in_place_detached(nonce, aad, text, aead::Tag::<A>::from_slice(tag)).ok()
}

#[cfg(any(feature = "gcm", feature = "chacha20"))]
fn cipher<'n, A: aead::AeadInPlace + KeyInit>(
    key: &[u8],
    nonce: &'n [u8],
) -> Option<(A, &'n aead::Nonce<A>)> {
    let is_fitting = nonce.len() == aead::Nonce::<A>::default().len();
    Some((A::new_from_slice(key).ok()?, is_fitting.then(|| aead::Nonce::<A>::from_slice(nonce))?))
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
