//! The additional authenticated data and the info of the key derivation, in CBOR (RFC 8613 §3.2.1, §5.4).
//!
//! Invariant: both are built from bounded parts, so what is written always fits.

use core::ops::Deref;

use crate::option::PartialIv;
use crate::parameters::{AeadAlgorithm, Bytes, KeyId, Parameters};

/// The longest text of an info.
pub(crate) const FINGERPRINT: &str = "Fingerprint";

/// The longest structure, an info: array of five, id, ID Context, algorithm, text, and length of what is derived.
const LENGTH: usize =
    1 + (1 + KeyId::MAX_LENGTH) + (2 + Parameters::ID_CONTEXT_LENGTH) + 2 + (1 + FINGERPRINT.len()) + 2;

const UNSIGNED: u8 = 0x00;
const BYTE_STRING: u8 = 0x40;
const TEXT_STRING: u8 = 0x60;
const NULL: u8 = 0xf6;

/// The bytes of a structure.
pub(crate) struct Cbor(Bytes<LENGTH>);

impl Cbor {
    const fn new() -> Self {
        Self(Bytes::new())
    }

    /// `bytes` as they are.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        let mut raw = Self::new();
        raw.put(bytes);
        raw
    }

    /// A byte string.
    pub(crate) fn byte_string(content: &[u8]) -> Self {
        let mut string = Self::new();
        string.string(BYTE_STRING, content);
        string
    }

    fn put(&mut self, bytes: &[u8]) {
        let written = self.0.extend_from_slice(bytes);
        debug_assert!(written.is_ok(), "LENGTH counts every part");
    }

    /// The head of an item: its major type and a value of one byte.
    fn head(&mut self, major: u8, value: u8) {
        let bytes: &[u8] = if value < 24 { &[major | value] } else { &[major | 24, value] };
        self.put(bytes);
    }

    /// A string of at most 255 bytes.
    fn string(&mut self, major: u8, content: &[u8]) {
        self.head(major, u8::try_from(content.len()).unwrap_or(u8::MAX));
        self.put(content);
    }
}

impl Deref for Cbor {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The `Enc_structure` around the external AAD of a request, and of every response to it.
pub(crate) fn aad(algorithm: AeadAlgorithm, kid: &KeyId, partial_iv: PartialIv) -> Cbor {
    let mut external = Cbor::new();
    // An array of five, version 1, an array of one algorithm.
    external.put(&[0x85, 0x01, 0x81]);
    external.head(UNSIGNED, algorithm.cose());
    external.string(BYTE_STRING, kid.bytes());
    let (bytes, length) = partial_iv.significant();
    external.string(BYTE_STRING, bytes.get(bytes.len().saturating_sub(length)..).unwrap_or_default());
    // No class I options.
    external.head(BYTE_STRING, 0);
    let mut structure = Cbor::new();
    structure.put(b"\x83\x68Encrypt0\x40");
    structure.string(BYTE_STRING, &external);
    structure
}

/// The info of the key of the end with this `id`, or of something else that has another `name`, of `length` bytes.
pub(crate) fn info(
    algorithm: AeadAlgorithm,
    id: &[u8],
    id_context: Option<&[u8]>,
    name: &str,
    length: usize,
) -> Cbor {
    let mut info = Cbor::new();
    info.put(&[0x85]);
    info.string(BYTE_STRING, id);
    match id_context {
        Some(id_context) => info.string(BYTE_STRING, id_context),
        None => info.put(&[NULL]),
    }
    info.head(UNSIGNED, algorithm.cose());
    info.string(TEXT_STRING, name.as_bytes());
    info.head(UNSIGNED, u8::try_from(length).unwrap_or(u8::MAX));
    info
}

/// The contents of a CBOR byte string that takes all of `bytes`: Appendix B.2 wraps a kid context so.
pub(crate) fn unwrap(bytes: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = bytes.split_first()?;
    let (length, content) = match first {
        0x40..=0x57 => (first & 0x1f, rest),
        0x58 => rest.split_first().map(|(length, content)| (*length, content))?,
        _ => return None,
    };
    (usize::from(length) == content.len()).then_some(content)
}
