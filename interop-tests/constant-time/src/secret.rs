//! What memcheck is told: which bytes are secret, and which ones are not any more.

#[cfg(feature = "cbc")]
use std::sync::atomic::{AtomicBool, Ordering};

use dtls_psk::{Aead, Crypto, RustCrypto};

#[cfg(feature = "valgrind")]
mod shim {
    #[expect(unsafe_code, reason = "functions around macros, none of which touches the memory it is given")]
    unsafe extern "C" {
        pub(super) safe fn shim_hide(bytes: *const u8, length: usize);
        pub(super) safe fn shim_show(bytes: *const u8, length: usize);
        pub(super) safe fn shim_errors() -> usize;
        pub(super) safe fn shim_is_watched() -> i32;
    }
}

/// Nobody watches.
#[cfg(not(feature = "valgrind"))]
mod shim {
    pub(super) fn shim_hide(_: *const u8, _: usize) {}
    pub(super) fn shim_show(_: *const u8, _: usize) {}
    pub(super) fn shim_errors() -> usize {
        0
    }
    pub(super) fn shim_is_watched() -> i32 {
        0
    }
}

/// `bytes` are secret from now on, and so is everything that is computed from them.
pub(crate) fn hide(bytes: &mut [u8]) {
    shim::shim_hide(bytes.as_mut_ptr(), bytes.len());
}

/// `bytes` may be known to anyone from now on.
pub(crate) fn show(bytes: &mut [u8]) {
    shim::shim_show(bytes.as_mut_ptr(), bytes.len());
}

/// How many branches and indexes have depended on a secret so far, each time they did.
pub(crate) fn errors() -> usize {
    shim::shim_errors()
}

/// Whether valgrind runs this program.
pub(crate) fn is_watched() -> bool {
    shim::shim_is_watched() != 0
}

/// The engine's own primitives; what they seal is public, and what they open is the receiver's, which may branch on it.
pub(crate) enum Watched {}

impl Crypto for Watched {
    type Sha256 = <RustCrypto as Crypto>::Sha256;
    type Hmac = <RustCrypto as Crypto>::Hmac;

    fn seal(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        RustCrypto::seal(aead, key, nonce, aad, buffer, tag)?;
        show(buffer);
        show(tag);
        Some(())
    }

    fn open(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        let mut is_authentic = [u8::from(RustCrypto::open(aead, key, nonce, aad, buffer, tag).is_some())];
        show(&mut is_authentic);
        (is_authentic == [1]).then(|| show(buffer))
    }

    #[cfg(feature = "cbc")]
    fn cbc_encrypt(key: &[u8; 16], iv: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        RustCrypto::cbc_encrypt(key, iv, buffer)?;
        show(buffer);
        Some(())
    }

    #[cfg(feature = "cbc")]
    fn cbc_decrypt(key: &[u8; 16], iv: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        RustCrypto::cbc_decrypt(key, iv, buffer)?;
        if IS_VERIFIED_FIRST.load(Ordering::Relaxed) {
            show(buffer);
        }
        Some(())
    }

    fn p256_public(secret: &[u8; 32]) -> Option<[u8; 65]> {
        let mut secret = *secret;
        hide(&mut secret);
        let mut public = RustCrypto::p256_public(&secret)?;
        show(&mut public);
        Some(public)
    }

    fn p256_shared(secret: &[u8; 32], public: &[u8; 65], shared: &mut [u8; 32]) -> Option<()> {
        let mut secret = *secret;
        hide(&mut secret);
        RustCrypto::p256_shared(&secret, public, shared)
    }
}

#[cfg(feature = "cbc")]
/// Whether AES-CBC decrypts only what was verified before (encrypt-then-mac).
pub(crate) static IS_VERIFIED_FIRST: AtomicBool = AtomicBool::new(true);
