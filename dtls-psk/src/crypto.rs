//! The primitives of RFC 6655 and RFC 5246 §5: AES-128-CCM with an 8-byte tag, SHA-256 and HMAC-SHA-256 (invariant: this
//! is the only module that names a cryptographic library; everything else goes through [`Crypto`]).

use aes::Aes128Enc;
use aes::cipher::consts::{U8, U12};
use ccm::Ccm;
use ccm::aead::{AeadInPlace as _, KeyInit as _};
use hmac::Mac as _;
use sha2::Digest as _;

/// Where the primitives come from: [`RustCrypto`] unless the user of the engine names something else, such as the AES of a
/// microcontroller.
///
/// The engine takes it as a type and holds none: hardware of which there is one is behind a `static` of the implementation.
/// Implementations compare tags in constant time, and should wipe keys that they expanded and the states of [`RunningMac`]
/// and [`RunningHash`] when these are dropped. [`RustCrypto`] wipes the keys of AES; the states of its HMAC and SHA-256 are
/// not wiped by their libraries, and leave what was derived from the key in freed memory until it is overwritten.
///
/// ```
/// use dtls_psk::{Config, Connection, Crypto, Handshake, Instant, Psk, RustCrypto};
///
/// struct MyChip;
///
/// impl Crypto for MyChip {
///     type Sha256 = <RustCrypto as Crypto>::Sha256;
///     type Hmac = <RustCrypto as Crypto>::Hmac;
///
///     fn seal(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; 8]> {
///         // Here the peripheral of the chip would be driven.
///         RustCrypto::seal(key, nonce, aad, buffer)
///     }
///
///     fn open(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; 8]) -> Option<()> {
///         RustCrypto::open(key, nonce, aad, buffer, tag)
///     }
/// }
///
/// type Client = Connection<512, Handshake<512, MyChip>, MyChip>;
///
/// let psk = Psk { identity: b"urn:dev:1", key: &[1; 16] };
/// let now = Instant::from_millis(0);
/// let client = Client::client(now, &Config::DEFAULT, psk, &mut |bytes| bytes.fill(7), Handshake::default())?;
/// # Ok::<(), dtls_psk::SetUpError>(())
/// ```
pub trait Crypto {
    /// A running SHA-256.
    type Sha256: RunningHash;
    /// A running HMAC-SHA-256.
    type Hmac: RunningMac;

    /// Encrypts `buffer` in place with AES-128-CCM and returns the tag of 8 bytes; `None` if it cannot: the record is not
    /// sent.
    fn seal(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; 8]>;

    /// Decrypts `buffer` in place; `None` if the tag is wrong, and then `buffer` may hold anything.
    fn open(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; 8]) -> Option<()>;
}

/// A hash that is fed piece by piece; a clone goes on from the same point.
pub trait RunningHash: Clone {
    /// Of nothing yet.
    fn new() -> Self;
    /// Feeds `bytes`.
    fn update(&mut self, bytes: &[u8]);
    /// The hash of everything fed.
    fn finish(self) -> [u8; 32];
}

/// A message authentication code that is fed piece by piece; a clone saves the key set-up.
pub trait RunningMac: Clone {
    /// Of nothing yet, under a key of any length.
    fn new(key: &[u8]) -> Self;
    /// Feeds `bytes`.
    fn update(&mut self, bytes: &[u8]);
    /// The code of everything fed.
    fn finish(self) -> [u8; 32];
}

/// The primitives in portable Rust, by the crates of the RustCrypto project; on large processors they use its instructions.
#[derive(Clone, Copy, Debug)]
pub enum RustCrypto {}

/// AES-128-CCM with a 12-byte nonce and an 8-byte tag. CCM never decrypts a block: the key schedule of that direction is not
/// made.
type Ccm8 = Ccm<Aes128Enc, U8, U12>;

impl Crypto for RustCrypto {
    type Sha256 = sha2::Sha256;
    type Hmac = hmac::Hmac<sha2::Sha256>;

    fn seal(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; 8]> {
        Some(Ccm8::new(key.into()).encrypt_in_place_detached(nonce.into(), aad, buffer).ok()?.into())
    }

    fn open(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; 8]) -> Option<()> {
        // The tag is compared in constant time.
        Ccm8::new(key.into()).decrypt_in_place_detached(nonce.into(), aad, buffer, tag.into()).ok()
    }
}

impl RunningHash for sha2::Sha256 {
    fn new() -> Self {
        sha2::Digest::new()
    }

    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(self, bytes);
    }

    fn finish(self) -> [u8; 32] {
        self.finalize().into()
    }
}

impl RunningMac for hmac::Hmac<sha2::Sha256> {
    fn new(key: &[u8]) -> Self {
        <Self as hmac::Mac>::new_from_slice(key).expect("HMAC takes a key of any length")
    }

    fn update(&mut self, bytes: &[u8]) {
        hmac::Mac::update(self, bytes);
    }

    fn finish(self) -> [u8; 32] {
        self.finalize().into_bytes().into()
    }
}
