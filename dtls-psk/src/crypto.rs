//! The primitives of RFC 6655 and RFC 5246 §5: AES-128-CCM with an 8-byte tag, SHA-256 and HMAC-SHA-256 (invariant: this
//! is the only module that names a cryptographic library, so that another one touches nothing else).

use aes::Aes128;
use aes::cipher::consts::{U8, U12};
use ccm::Ccm;
use ccm::aead::{AeadInPlace as _, KeyInit as _};
use hmac::Mac as _;
use sha2::Digest as _;

/// AES-128-CCM with a 12-byte nonce and an 8-byte tag.
type Ccm8 = Ccm<Aes128, U8, U12>;

/// Encrypts `buffer` in place and returns the tag; `None` if `buffer` is longer than 2^24 - 1 bytes.
pub(crate) fn seal_ccm_8(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; 8]> {
    Some(Ccm8::new(key.into()).encrypt_in_place_detached(nonce.into(), aad, buffer).ok()?.into())
}

/// Decrypts `buffer` in place; `None` if the tag is wrong (compared in constant time), and then `buffer` is destroyed.
pub(crate) fn open_ccm_8(
    key: &[u8; 16],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; 8],
) -> Option<()> {
    Ccm8::new(key.into()).decrypt_in_place_detached(nonce.into(), aad, buffer, tag.into()).ok()
}

/// A running SHA-256.
#[derive(Clone)]
pub(crate) struct Sha256(sha2::Sha256);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(sha2::Sha256::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// HMAC-SHA-256 under one key; a clone saves the key set-up.
#[derive(Clone)]
pub(crate) struct Hmac(hmac::Hmac<sha2::Sha256>);

impl Hmac {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(<hmac::Hmac<_> as hmac::Mac>::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}
