//! The primitives of RFC 6655, RFC 5288 and RFC 5246 §5: AES-128 with authentication, SHA-256 and HMAC-SHA-256 (invariant:
//! this is the only module that names a cryptographic library; everything else goes through [`Crypto`]).

use aes::Aes128Enc;
use aes::cipher::Unsigned as _;
use aes::cipher::consts::{U8, U12, U16};
#[cfg(feature = "cbc")]
use aes::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _, block_padding::NoPadding};
use ccm::Ccm;
use ccm::aead::{AeadInPlace, KeyInit, Tag};
use hmac::Mac as _;
#[cfg(feature = "rpk")]
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
#[cfg(feature = "ecdhe")]
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use sha2::Digest as _;
#[cfg(feature = "ecdhe")]
use zeroize::Zeroizing;

#[cfg(feature = "rpk")]
use crate::signature::SIGNATURE;

/// Where the primitives come from: [`RustCrypto`] unless the user of the engine names something else, such as the AES of a
/// microcontroller.
///
/// What an implementation leaves out is that of [`RustCrypto`]. The engine takes it as a type and holds none: hardware of which
/// there is one is behind a `static` of the implementation.
/// Implementations compare tags in constant time, and should wipe keys that they expanded and the states of [`RunningMac`]
/// and [`RunningHash`] when these are dropped. [`RustCrypto`] wipes the keys of AES; the states of its HMAC and SHA-256 are
/// not wiped by their libraries, and leave what was derived from the key in freed memory until it is overwritten.
///
/// ```
/// use dtls_psk::{Aead, Config, Connection, Crypto, Handshake, Instant, Psk, RustCrypto};
///
/// struct MyChip;
///
/// impl Crypto for MyChip {
///     type Sha256 = <RustCrypto as Crypto>::Sha256;
///     type Hmac = <RustCrypto as Crypto>::Hmac;
///
///     fn seal(
///         aead: Aead,
///         key: &[u8; 16],
///         nonce: &[u8; 12],
///         aad: &[u8],
///         buffer: &mut [u8],
///         tag: &mut [u8],
///     ) -> Option<()> {
///         // Here the peripheral of the chip would be driven.
///         RustCrypto::seal(aead, key, nonce, aad, buffer, tag)
///     }
///
///     fn open(
///         aead: Aead,
///         key: &[u8; 16],
///         nonce: &[u8; 12],
///         aad: &[u8],
///         buffer: &mut [u8],
///         tag: &[u8],
///     ) -> Option<()> {
///         RustCrypto::open(aead, key, nonce, aad, buffer, tag)
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

    /// Encrypts `buffer` in place with `aead` and fills `tag`, which has its [`Aead::tag_length`]; `None` if it cannot: the
    /// record is not sent.
    fn seal(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        match aead {
            Aead::Ccm8 => seal_with::<Ccm8>(key, nonce, aad, buffer, tag),
            #[cfg(feature = "ccm16")]
            Aead::Ccm => seal_with::<Ccm16>(key, nonce, aad, buffer, tag),
            #[cfg(feature = "gcm")]
            Aead::Gcm => seal_with::<Gcm>(key, nonce, aad, buffer, tag),
        }
    }

    /// Decrypts `buffer` in place; `None` if the tag is wrong or of another length, and then `buffer` may hold anything.
    fn open(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        match aead {
            Aead::Ccm8 => open_with::<Ccm8>(key, nonce, aad, buffer, tag),
            #[cfg(feature = "ccm16")]
            Aead::Ccm => open_with::<Ccm16>(key, nonce, aad, buffer, tag),
            #[cfg(feature = "gcm")]
            Aead::Gcm => open_with::<Gcm>(key, nonce, aad, buffer, tag),
        }
    }

    /// Encrypts `buffer` in place with AES-128-CBC; `None` if it cannot, or `buffer` is not made of whole blocks.
    #[cfg(feature = "cbc")]
    fn cbc_encrypt(key: &[u8; 16], iv: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        let length = buffer.len();
        let cipher = cbc::Encryptor::<Aes128Enc>::new(key.into(), iv.into());
        cipher.encrypt_padded_mut::<NoPadding>(buffer, length).ok().map(|_| ())
    }

    /// Decrypts `buffer` in place with AES-128-CBC; `None` if it is not made of whole blocks.
    #[cfg(feature = "cbc")]
    fn cbc_decrypt(key: &[u8; 16], iv: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        let cipher = cbc::Decryptor::<aes::Aes128Dec>::new(key.into(), iv.into());
        cipher.decrypt_padded_mut::<NoPadding>(buffer).ok().map(|_| ())
    }

    /// The public key of a secret of P-256, in the uncompressed form; `None` if the secret, big-endian, is not between zero
    /// and the order of the group. In constant time but for that.
    #[cfg(feature = "ecdhe")]
    fn p256_public(secret: &[u8; 32]) -> Option<[u8; 65]> {
        let scalar = Zeroizing::new(p256::NonZeroScalar::try_from(secret.as_slice()).ok()?);
        let public = p256::PublicKey::from_secret_scalar(&scalar);
        public.to_encoded_point(false).as_bytes().try_into().ok()
    }

    /// Writes the first coordinate of the product of `secret` and the point `public` to `shared`; `None` if that is no point
    /// of P-256 in the uncompressed form. In constant time but for that.
    #[cfg(feature = "ecdhe")]
    fn p256_shared(secret: &[u8; 32], public: &[u8; 65], shared: &mut [u8; 32]) -> Option<()> {
        let scalar = Zeroizing::new(p256::NonZeroScalar::try_from(secret.as_slice()).ok()?);
        let public = p256::PublicKey::from_sec1_bytes(public).ok()?;
        let product = p256::ecdh::diffie_hellman(&*scalar, public.as_affine());
        shared.copy_from_slice(product.raw_secret_bytes());
        Some(())
    }

    /// The public value of a secret of X25519 (RFC 7748 §5, §6.1), which may be any; `None` if it cannot be had. In constant
    /// time.
    #[cfg(feature = "x25519")]
    fn x25519_public(secret: &[u8; 32]) -> Option<[u8; 32]> {
        Some(x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES))
    }

    /// Writes what X25519 makes of `secret` and the peer's `public` value to `shared`; `None` if that is all zeros (RFC 7748
    /// §6.1), which it is for the points of small order alone. In constant time but for that.
    #[cfg(feature = "x25519")]
    fn x25519_shared(secret: &[u8; 32], public: &[u8; 32], shared: &mut [u8; 32]) -> Option<()> {
        use subtle::ConstantTimeEq as _;
        let agreed = Zeroizing::new(x25519_dalek::x25519(*secret, *public));
        *shared = *agreed;
        (!bool::from(agreed.ct_eq(&[0; 32]))).then_some(())
    }

    /// The SHA-384 of `bytes`.
    #[cfg(feature = "sha512")]
    fn sha384(bytes: &[u8]) -> [u8; 48] {
        sha2::Sha384::digest(bytes).into()
    }

    /// The SHA-512 of `bytes`.
    #[cfg(feature = "sha512")]
    fn sha512(bytes: &[u8]) -> [u8; 64] {
        sha2::Sha512::digest(bytes).into()
    }

    /// Signs `digest` with ECDSA on P-256: r and s, big-endian; `None` if `secret` is not between zero and the order of the
    /// group. In constant time but for that. The engine does not call it: it is for owners of a key in memory.
    #[cfg(feature = "rpk")]
    fn p256_sign(secret: &[u8; 32], digest: &[u8; 32]) -> Option<[u8; SIGNATURE]> {
        let key = p256::ecdsa::SigningKey::from_slice(secret).ok()?;
        let signature: p256::ecdsa::Signature = key.sign_prehash(digest).ok()?;
        Some(signature.to_bytes().into())
    }

    /// Whether `signature`, r and s, is one of `digest` by the key of the point `public`.
    #[cfg(feature = "rpk")]
    fn p256_verify(public: &[u8; 65], digest: &[u8; 32], signature: &[u8; SIGNATURE]) -> bool {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public);
        let signature = p256::ecdsa::Signature::from_slice(signature);
        key.and_then(|key| key.verify_prehash(digest, &signature?)).is_ok()
    }
}

/// The length of a point of P-256 in the uncompressed form, in bytes.
#[cfg(feature = "ecdhe")]
pub const POINT: usize = 1 + 2 * 32;

/// A way to encrypt and authenticate with AES-128 and a nonce of 12 bytes. An implementation of [`Crypto`] that does not
/// know one answers `None`, or asks [`RustCrypto`]; which there are is decided by the suites that are configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Aead {
    /// CCM with a tag of 8 bytes.
    Ccm8,
    /// CCM with a tag of 16 bytes.
    #[cfg(feature = "ccm16")]
    Ccm,
    /// GCM with a tag of 16 bytes.
    #[cfg(feature = "gcm")]
    Gcm,
}

impl Aead {
    /// The longest tag that this build has.
    pub(crate) const TAG_MAX: usize = if cfg!(any(feature = "ccm16", feature = "gcm")) { 16 } else { 8 };

    /// The length of the tag, in bytes.
    pub const fn tag_length(self) -> usize {
        match self {
            Self::Ccm8 => 8,
            #[cfg(feature = "ccm16")]
            Self::Ccm => 16,
            #[cfg(feature = "gcm")]
            Self::Gcm => 16,
        }
    }
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

/// Neither CCM nor GCM ever decrypts a block: the key schedule of that direction is not made.
type Ccm8 = Ccm<Aes128Enc, U8, U12>;
#[cfg(feature = "ccm16")]
type Ccm16 = Ccm<Aes128Enc, U16, U12>;
#[cfg(feature = "gcm")]
type Gcm = aes_gcm::AesGcm<Aes128Enc, U12>;

impl Crypto for RustCrypto {
    type Sha256 = sha2::Sha256;
    type Hmac = hmac::Hmac<sha2::Sha256>;
}

fn seal_with<A: AeadInPlace<NonceSize = U12> + KeyInit<KeySize = U16>>(
    key: &[u8; 16],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &mut [u8],
) -> Option<()> {
    let made = A::new(key.into()).encrypt_in_place_detached(nonce.into(), aad, buffer).ok()?;
    (tag.len() == made.len()).then(|| tag.copy_from_slice(&made))
}

/// The tag is compared in constant time.
fn open_with<A: AeadInPlace<NonceSize = U12> + KeyInit<KeySize = U16>>(
    key: &[u8; 16],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    let tag = (tag.len() == A::TagSize::USIZE).then(|| Tag::<A>::from_slice(tag))?;
    A::new(key.into()).decrypt_in_place_detached(nonce.into(), aad, buffer, tag).ok()
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
