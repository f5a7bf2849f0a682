//! The additional authenticated data and the info of the key derivation, in CBOR (RFC 8613 §3.2.1, §5.4).
//!
//! Invariant: both are built from bounded parts, so what is written always fits.

use heapless::Vec;

use crate::option::PartialIv;
use crate::parameters::{AeadAlgorithm, KeyId};

/// Array of five, version 1, array of one algorithm, kid, Partial IV, no class I options: at most 20 bytes.
const EXTERNAL: usize = 1 + 1 + (1 + 2) + (1 + KeyId::MAX_LENGTH) + (1 + 5) + 1;
/// What stands in front of it: `["Encrypt0", h'', ` and the head of a byte string.
const PREFIX: [u8; 11] = *b"\x83\x68Encrypt0\x40";

/// The `Enc_structure` around an external AAD.
pub(crate) type Aad = Vec<u8, { PREFIX.len() + 1 + EXTERNAL }>;

/// The `Enc_structure` around the external AAD of a request, and of every response to it.
pub(crate) fn aad(algorithm: AeadAlgorithm, kid: &KeyId, partial_iv: PartialIv) -> Aad {
    let mut external: Vec<u8, EXTERNAL> = Vec::new();
    let mut put = |bytes: &[u8]| {
        let written = external.extend_from_slice(bytes);
        debug_assert!(written.is_ok(), "EXTERNAL counts every part");
    };
    put(&[0x85, 0x01, 0x81]);
    put(unsigned(algorithm.cose()).as_slice());
    put(&[head(kid.bytes().len())]);
    put(kid.bytes());
    let (bytes, length) = partial_iv.significant();
    put(&[head(length)]);
    put(bytes.get(bytes.len().saturating_sub(length)..).unwrap_or_default());
    put(&[0x40]);
    let mut structure = Vec::new();
    for part in [&PREFIX[..], &[head(external.len())], &external] {
        let written = structure.extend_from_slice(part);
        debug_assert!(written.is_ok(), "it has room for prefix, head and the longest external AAD");
    }
    structure
}

/// The head of a byte string of fewer than 24 bytes.
fn head(length: usize) -> u8 {
    0x40 | u8::try_from(length).unwrap_or_default()
}

/// A byte string's head, of one or two bytes: the string has at most 255.
pub(crate) fn byte_string(length: usize) -> Vec<u8, 2> {
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    let mut head = unsigned(length);
    if let Some(first) = head.first_mut() {
        *first |= 0x40;
    }
    head
}

/// An unsigned integer of one byte.
pub(crate) fn unsigned(value: u8) -> Vec<u8, 2> {
    let bytes: &[u8] = if value < 24 { &[value] } else { &[0x18, value] };
    Vec::from_slice(bytes).unwrap_or_default()
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
