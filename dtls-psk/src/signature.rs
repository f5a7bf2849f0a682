//! ECDSA on P-256 with SHA-256 as it stands in handshake messages (RFC 5246 §4.7, RFC 8422 §5.4, §5.8; invariant: nothing but
//! the one algorithm that was offered, and only in DER).
//!
//! It is the only algorithm: LwM2M demands it, and RFC 7925 §4.4 no other.

use crate::ecdhe::{self, Share};
use crate::wire::{Reader, Writer};

/// The length of r and s together, in bytes.
pub const SIGNATURE: usize = 64;

/// SignatureAndHashAlgorithm: SHA-256 and ECDSA.
pub(crate) const ALGORITHM: [u8; 2] = [4, 3];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// Writes a DigitallySigned.
pub(crate) fn emit(writer: &mut Writer<'_>, signature: &[u8; SIGNATURE]) -> Option<()> {
    let (r, s) = signature.split_at(SIGNATURE / 2);
    let numbers = [significant(r), significant(s)];
    let length_of = |number: &[u8]| number.len().saturating_add(is_negative(number).into());
    let length = numbers.into_iter().map(|number| length_of(number).saturating_add(2)).sum::<usize>();
    writer.bytes(&ALGORITHM)?;
    writer.vector16_of(|writer| {
        writer.u8(SEQUENCE)?;
        writer.u8(u8::try_from(length).ok()?)?;
        for number in numbers {
            writer.u8(INTEGER)?;
            writer.u8(u8::try_from(length_of(number)).ok()?)?;
            if is_negative(number) {
                writer.u8(0)?;
            }
            writer.bytes(number)?;
        }
        Some(())
    })
}

/// Reads a DigitallySigned. The inner `None` is one of another algorithm, or that is no signature.
pub(crate) fn parse(reader: &mut Reader<'_>) -> Option<Option<[u8; SIGNATURE]>> {
    let algorithm = reader.take(ALGORITHM.len())?;
    let signature = reader.vector16()?;
    Some(if algorithm == ALGORITHM { numbers(signature) } else { None })
}

/// r and s of an ECDSA-Sig-Value, in DER.
pub(crate) fn numbers(signature: &[u8]) -> Option<[u8; SIGNATURE]> {
    let mut reader = Reader::new(signature);
    let mut sequence = element(&mut reader, SEQUENCE).filter(|_| reader.is_empty())?;
    let mut numbers = [0; SIGNATURE];
    for place in numbers.chunks_exact_mut(SIGNATURE / 2) {
        let number = element(&mut sequence, INTEGER)?.rest();
        let (first, behind) = number.split_first()?;
        // A leading zero is there only where the number would be negative without it, and no number is.
        let magnitude = match (*first, is_negative(behind)) {
            (0x80.., _) => return None,
            (0, false) if !behind.is_empty() => return None,
            (0, true) => behind,
            _ => number,
        };
        let start = place.len().checked_sub(magnitude.len())?;
        place.get_mut(start..)?.copy_from_slice(magnitude);
    }
    sequence.is_empty().then_some(numbers)
}

/// The content of the next element, which has this tag and a length in the short form.
fn element<'a>(reader: &mut Reader<'a>, tag: u8) -> Option<Reader<'a>> {
    (reader.u8()? == tag).then_some(())?;
    let length = reader.u8().filter(|length| *length < 0x80)?;
    reader.take(length.into()).map(Reader::new)
}

/// Without leading zeros, but one byte at least.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count().min(number.len().saturating_sub(1));
    number.get(zeros..).unwrap_or_default()
}

/// Whether the first bit of a number in DER would make it negative.
fn is_negative(number: &[u8]) -> bool {
    number.first().is_some_and(|first| *first >= 0x80)
}

/// The body of a ServerKeyExchange: the server's share and its signature (RFC 8422 §5.4).
#[cfg(feature = "server")]
pub(crate) fn emit_server_key_exchange(
    out: &mut [u8],
    share: &Share,
    signature: &[u8; SIGNATURE],
) -> Option<usize> {
    let mut writer = Writer::new(out);
    ecdhe::emit_parameters(&mut writer, share)?;
    emit(&mut writer, signature)?;
    Some(writer.len())
}

/// What a ServerKeyExchange holds.
pub(crate) struct SignedShare<'a> {
    /// What is signed besides the randoms.
    pub(crate) parameters: &'a [u8],
    /// `None` if it is one in another group, or of another length.
    pub(crate) share: Option<Share>,
    /// `None` if it is none, or of another algorithm.
    pub(crate) signature: Option<[u8; SIGNATURE]>,
}

impl<'a> SignedShare<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let Some((group, share)) = ecdhe::parse_parameters(&mut reader)? else {
            // Where the parameters of another group end is not known.
            return Some(Self { parameters: &[], share: None, signature: None });
        };
        let share = Share::new(group, share);
        let parameters = body.get(..body.len().checked_sub(reader.rest().len())?)?;
        let signature = parse(&mut reader)?;
        reader.is_empty().then_some(Self { parameters, share, signature })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::prf::tests::hex;

    fn emitted(signature: &[u8; SIGNATURE]) -> Vec<u8> {
        let mut out = [0; 128];
        let mut writer = Writer::new(&mut out);
        emit(&mut writer, signature).unwrap();
        let length = writer.len();
        out[..length].to_vec()
    }

    fn parsed(bytes: &[u8]) -> Option<[u8; SIGNATURE]> {
        let mut reader = Reader::new(bytes);
        parse(&mut reader).filter(|_| reader.is_empty())?
    }

    fn signature(r: &str, s: &str) -> [u8; SIGNATURE] {
        let number = |number: &str| [&[0; 32][number.len() / 2..], &*hex(number)].concat();
        [number(r), number(s)].concat().try_into().unwrap()
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        for (r, s, der) in [
            ("01", "7f", "0403 0008 3006 0201 01 0201 7f"),
            ("80", "ff00", "0403 000b 3009 0202 0080 0203 00ff00"),
            ("", "0100", "0403 0009 3007 0201 00 0202 0100"),
        ] {
            let signature = signature(r, s);
            assert_eq!(emitted(&signature), hex(&der.replace(' ', "")));
            assert_eq!(parsed(&emitted(&signature)), Some(signature));
        }
        let longest = [0xff; SIGNATURE];
        assert_eq!(emitted(&longest).len(), 2 + 2 + 72);
        assert_eq!(parsed(&emitted(&longest)), Some(longest));
    }

    #[test]
    fn what_is_no_signature_in_der_is_none() {
        for der in [
            // Another algorithm: SHA-1, RSA.
            "0203 0008 3006 0201 01 0201 7f",
            "0401 0008 3006 0201 01 0201 7f",
            // Negative, a zero too many, empty.
            "0403 0008 3006 0201 80 0201 7f",
            "0403 0009 3007 0202 0001 0201 7f",
            "0403 0007 3005 0200 0201 7f",
            // Another number, or none; behind the sequence; another tag; the long form.
            "0403 000b 3009 0201 01 0201 7f 0201 01",
            "0403 0005 3003 0201 01",
            "0403 0009 3006 0201 01 0201 7f 00",
            "0403 0008 3106 0201 01 0201 7f",
            "0403 0009 308106 0201 01 0201 7f",
            // Longer than the order of the group.
            "0403 0028 3026 0221 010000000000000000000000000000000000000000000000000000000000000000 0201 7f",
        ] {
            assert_eq!(parsed(&hex(&der.replace(' ', ""))), None, "{der}");
        }
        let whole = emitted(&[0x55; SIGNATURE]);
        for length in 0..whole.len() {
            assert_eq!(parsed(&whole[..length]), None);
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_signed_share_comes_back_and_every_other_length_is_malformed() {
        let mut out = [0; 200];
        let share = Share::new(ecdhe::Group::Secp256r1, &[4; 65]).unwrap();
        let length = emit_server_key_exchange(&mut out, &share, &[0x55; SIGNATURE]).unwrap();
        let signed = SignedShare::parse(&out[..length]).unwrap();
        assert_eq!(signed.parameters, [&[3, 0, 0x17, 65][..], share.bytes()].concat());
        assert!(signed.share == Some(share));
        assert_eq!(signed.signature, Some([0x55; SIGNATURE]));
        assert!((0..length).chain([length + 1]).all(|length| SignedShare::parse(&out[..length]).is_none()));
        // Another curve.
        out[2] = 0x18;
        assert!(SignedShare::parse(&out[..length]).unwrap().share.is_none());
    }
}
