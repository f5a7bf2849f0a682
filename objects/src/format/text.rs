//! Formats of a single value: `text/plain`, with opaques as base64, and `application/octet-stream`
//! (LwM2M Core 1.2.1 §7.4.1, §7.4.2, Appendix C).
//!
//! Invariant: exactly one value at exactly the path, else the format is not acceptable.

use lwm2m_coap::Sink;

use super::{Chunks, Leaf, Source, emit_object_link, parse_object_link};
use crate::decimal::{emit_float, emit_integer, emit_unsigned, parse_float, parse_integer, parse_unsigned};
use crate::{Error, Kind, Path, Value};

/// Encodes the value at `path` as text.
pub(super) fn encode(path: Path, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    single(path, source, &mut |leaf| {
        match leaf {
            Leaf::Value(value) => match value {
                Value::String(text) | Value::CoreLink(text) => sink.write(text.as_bytes())?,
                Value::Integer(value) | Value::Time(value) => emit_integer(value, sink)?,
                Value::Unsigned(value) => emit_unsigned(value, sink)?,
                Value::Float(value) => emit_float(value, sink)?,
                Value::Boolean(value) => sink.write(if value { b"1" } else { b"0" })?,
                Value::Opaque(bytes) => emit_base64(PADDED, bytes, sink)?,
                Value::ObjectLink(link) => emit_object_link(link, sink)?,
            },
            Leaf::Chunks(chunks) => {
                chunks.try_for_each(&mut |chunk| Ok(emit_base64(PADDED, chunk, sink)?))?
            }
            Leaf::Dated(..) | Leaf::Empty => return Err(Error::NotAcceptable),
        }
        Ok(())
    })
}

/// Encodes the opaque at `path` as it is.
pub(super) fn encode_opaque(path: Path, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    single(path, source, &mut |leaf| match leaf {
        Leaf::Value(Value::Opaque(bytes)) => Ok(sink.write(bytes)?),
        Leaf::Chunks(chunks) => Chunks::emit(&chunks, sink),
        _ => Err(Error::NotAcceptable),
    })
}

/// Calls `emit` for the one value at `path`.
pub(super) fn single(
    path: Path,
    source: &dyn Source,
    emit: &mut dyn FnMut(Leaf<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut found = false;
    source.visit(path, &mut |at, leaf| {
        if at != path || found {
            return Err(Error::NotAcceptable);
        }
        found = true;
        emit(leaf)
    })?;
    if found { Ok(()) } else { Err(Error::NotAcceptable) }
}

/// Converts text to a type other than an opaque.
pub(super) fn value(text: &str, kind: Kind) -> Option<Value<'_>> {
    Some(match kind {
        Kind::String => Value::String(text),
        Kind::CoreLink => Value::CoreLink(text),
        Kind::Integer => Value::Integer(parse_integer(text.as_bytes())?),
        Kind::Time => Value::Time(parse_integer(text.as_bytes())?),
        Kind::Unsigned => Value::Unsigned(parse_unsigned(text.as_bytes())?),
        Kind::Float => Value::Float(parse_float(text.as_bytes())?),
        Kind::Boolean => Value::Boolean(match text {
            "0" => false,
            "1" => true,
            _ => return None,
        }),
        Kind::ObjectLink => Value::ObjectLink(parse_object_link(text)?),
        Kind::Opaque | Kind::Nothing => return None,
    })
}

/// How base64 is written (RFC 4648): the last two letters of the alphabet, and what fills up to four.
pub(super) type Base64 = (&'static [u8; 2], Option<u8>);
/// The usual alphabet with padding.
pub(super) const PADDED: Base64 = (b"+/", Some(b'='));
/// That for URLs without.
#[cfg(feature = "json")]
pub(super) const UNPADDED: Base64 = (b"-_", None);

/// Writes bytes as base64; further ones may follow a multiple of three.
pub(super) fn emit_base64(
    (last_two, padding): Base64,
    bytes: &[u8],
    sink: &mut dyn Sink,
) -> Result<(), lwm2m_coap::Full> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    for chunk in bytes.chunks(3) {
        let mut bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        bits <<= 8_usize.saturating_mul(3_usize.saturating_sub(chunk.len()));
        let mut text = [padding.unwrap_or_default(); 4];
        // n bytes make n + 1 letters.
        let letters = chunk.len().saturating_add(1);
        for (place, letter) in text.iter_mut().enumerate().take(letters) {
            let sextet = bits >> 18_usize.saturating_sub(place.saturating_mul(6)) & 0x3f;
            *letter = ALPHABET.iter().chain(last_two).nth(sextet as usize).copied().unwrap_or_default();
        }
        sink.write(if padding.is_some() { &text } else { text.get(..letters).unwrap_or_default() })?;
    }
    Ok(())
}

/// Decodes base64 of either alphabet, padded or not, into the front of `out`.
///
/// # Errors
/// [`Error::BadRequest`] for what is no base64, [`Error::TooLarge`] when `out` is too small.
pub(super) fn decode_base64<'s>(
    text: &mut dyn Iterator<Item = u8>,
    out: &'s mut [u8],
) -> Result<&'s [u8], Error> {
    let (mut bits, mut letters, mut padding) = (0_u32, 0_usize, 0_usize);
    let mut length = 0_usize;
    for letter in text {
        let sextet = match letter {
            b'A'..=b'Z' => letter.wrapping_sub(b'A'),
            b'a'..=b'z' => letter.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => letter.wrapping_sub(b'0').wrapping_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                padding = padding.saturating_add(1);
                continue;
            }
            _ => return Err(Error::BadRequest),
        };
        if padding > 0 {
            return Err(Error::BadRequest);
        }
        bits = bits << 6 | u32::from(sextet);
        letters = letters.saturating_add(1);
        // Four letters are three bytes: each but the first ends one.
        let behind = match letters % 4 {
            1 => continue,
            2 => 4,
            3 => 2,
            _ => 0,
        };
        *out.get_mut(length).ok_or(Error::TooLarge)? = (bits >> behind) as u8;
        length = length.saturating_add(1);
    }
    // One letter alone is none, and padding fills up to four.
    if letters % 4 == 1 || padding > 0 && (padding > 2 || !letters.saturating_add(padding).is_multiple_of(4))
    {
        return Err(Error::BadRequest);
    }
    Ok(out.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    extern crate std;

    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn base64(bytes: &[u8]) -> heapless::Vec<u8, 200> {
        let mut text = heapless::Vec::new();
        emit_base64(PADDED, bytes, &mut text).unwrap();
        text
    }

    #[test]
    fn base64_is_written_as_rfc_4648_section_10_shows() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["Z", "Zg=", "Zg===", "Z=g=", "Zm9v====", "Zm 9v", "====", "="] {
            assert_eq!(decode_base64(&mut text.bytes(), &mut [0; 16]), Err(Error::BadRequest), "{text}");
        }
        assert_eq!(decode_base64(&mut "Zm9v".bytes(), &mut [0; 2]), Err(Error::TooLarge));
    }

    proptest! {
        #[test]
        fn base64_reads_back_padded_and_not_in_both_alphabets(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let text = base64(&bytes);
            let text = core::str::from_utf8(&text).unwrap();
            let url: Vec<u8> = text.bytes().map(|letter| match letter { b'+' => b'-', b'/' => b'_', other => other }).collect();
            for text in [text, text.trim_end_matches('='), std::str::from_utf8(&url).unwrap()] {
                let mut out = [0; 100];
                prop_assert_eq!(decode_base64(&mut text.bytes(), &mut out).unwrap(), &bytes[..]);
            }
        }
    }
}
