//! The OSCORE option value: flag byte, Partial IV, kid context, kid (RFC 8613 §6.1).
//!
//! Invariant: a parsed option is canonical, so emitting it gives the same bytes.

use core::fmt;

use crate::parameters::KeyId;

const PARTIAL_IV_LENGTH_MASK: u8 = 0x07;
const KID_FLAG: u8 = 0x08;
const KID_CONTEXT_FLAG: u8 = 0x10;
const RESERVED_FLAGS: u8 = 0xe0;

/// The Partial IV: a sender sequence number of 0 to 2^40 − 1 (RFC 8613 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialIv(u64);

impl PartialIv {
    /// The largest sequence number a sender may use.
    pub const MAX: PartialIv = PartialIv((1 << 40) - 1);

    /// The Partial IV of `sequence`, or `None` past [`PartialIv::MAX`].
    #[must_use]
    pub const fn new(sequence: u64) -> Option<Self> {
        if sequence <= Self::MAX.0 { Some(Self(sequence)) } else { None }
    }

    /// The sequence number, 0 to 2^40 − 1.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0
    }

    /// The bytes on the wire: big-endian without leading zeros, 1 byte for zero; returns how many of the 5 are used,
    /// counted from the end.
    pub(crate) fn significant(self) -> ([u8; 5], usize) {
        let [_, _, _, a, b, c, d, e] = self.0.to_be_bytes();
        let bytes = [a, b, c, d, e];
        let zeros = bytes.iter().take(4).take_while(|byte| **byte == 0).count();
        (bytes, 5_usize.saturating_sub(zeros))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedOption> {
        if bytes.len() > 1 && bytes.first() == Some(&0) {
            return Err(MalformedOption::LeadingZero);
        }
        let sequence = bytes.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        Self::new(sequence).ok_or(MalformedOption::ReservedLength)
    }
}

/// The kid context of an option: the ID Context, 0 to 255 bytes, borrowed from the message (RFC 8613 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdContext<'a>(&'a [u8]);

impl<'a> IdContext<'a> {
    /// The longest ID Context the option can carry, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The ID Context of `bytes`, or `None` past [`IdContext::MAX_LENGTH`].
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= Self::MAX_LENGTH { Some(Self(bytes)) } else { None }
    }

    /// The bytes as they are on the wire.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The value of the OSCORE option (number 9).
///
/// Requests carry a Partial IV and a kid; responses carry neither unless they need a nonce of their own, and are then
/// an empty option on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OscoreOption<'a> {
    /// The sender's sequence number, present in requests and notifications.
    pub partial_iv: Option<PartialIv>,
    /// The ID Context, present when the receiver cannot know it otherwise.
    pub kid_context: Option<IdContext<'a>>,
    /// The sender's identifier, present in requests.
    pub kid: Option<KeyId>,
}

impl<'a> OscoreOption<'a> {
    /// The longest option value, in bytes: flags, Partial IV, length and kid context, kid.
    pub const MAX_LENGTH: usize = 1 + 5 + 1 + IdContext::MAX_LENGTH + KeyId::MAX_LENGTH;

    /// Parses an option value.
    ///
    /// # Errors
    /// The reserved bits, a reserved Partial IV length (6, 7), a Partial IV with leading zeros, lengths beyond the
    /// value, a kid of more than 7 bytes, bytes that no flag announces, and a flag byte of zero that is not omitted:
    /// the message is then answered with 4.02 (RFC 8613 §8.2).
    pub fn parse(value: &'a [u8]) -> Result<Self, MalformedOption> {
        let Some((&flags, mut rest)) = value.split_first() else {
            return Ok(Self::default());
        };
        if flags & RESERVED_FLAGS != 0 {
            return Err(MalformedOption::ReservedFlag);
        }
        if flags == 0 {
            return Err(MalformedOption::NotEmpty);
        }
        let mut take = |length: usize| {
            let (head, tail) = rest.split_at_checked(length).ok_or(MalformedOption::Truncated)?;
            rest = tail;
            Ok(head)
        };
        let partial_iv = match flags & PARTIAL_IV_LENGTH_MASK {
            0 => None,
            length @ 1..=5 => Some(PartialIv::from_bytes(take(usize::from(length))?)?),
            _ => return Err(MalformedOption::ReservedLength),
        };
        let kid_context = if flags & KID_CONTEXT_FLAG == 0 {
            None
        } else {
            let length = take(1)?.first().copied().ok_or(MalformedOption::Truncated)?;
            Some(IdContext(take(usize::from(length))?))
        };
        let kid = if flags & KID_FLAG != 0 {
            Some(KeyId::new(rest).ok_or(MalformedOption::KidTooLong)?)
        } else if rest.is_empty() {
            None
        } else {
            return Err(MalformedOption::TrailingBytes);
        };
        Ok(Self { partial_iv, kid_context, kid })
    }

    /// Writes the option value into `out` and returns its length, or `None` when `out` is too short
    /// ([`OscoreOption::MAX_LENGTH`] always suffices).
    #[must_use]
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        if *self == Self::default() {
            return Some(0);
        }
        let available = out.len();
        let (flags, mut rest) = out.split_first_mut()?;
        *flags = 0;
        let mut put = |bytes: &[u8]| {
            let (head, tail) = core::mem::take(&mut rest).split_at_mut_checked(bytes.len())?;
            head.copy_from_slice(bytes);
            rest = tail;
            Some(())
        };
        if let Some(partial_iv) = self.partial_iv {
            let (bytes, length) = partial_iv.significant();
            put(bytes.get(bytes.len().checked_sub(length)?..)?)?;
            *flags |= u8::try_from(length).ok()?;
        }
        if let Some(IdContext(context)) = self.kid_context {
            put(&[u8::try_from(context.len()).ok()?])?;
            put(context)?;
            *flags |= KID_CONTEXT_FLAG;
        }
        if let Some(kid) = &self.kid {
            put(kid.bytes())?;
            *flags |= KID_FLAG;
        }
        available.checked_sub(rest.len())
    }
}

/// Why an OSCORE option value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedOption {
    /// One of the three reserved bits of the flag byte is set.
    ReservedFlag,
    /// The Partial IV length is 6 or 7.
    ReservedLength,
    /// The Partial IV is longer than its number needs.
    LeadingZero,
    /// A length points past the end of the value.
    Truncated,
    /// The kid is longer than 7 bytes.
    KidTooLong,
    /// Bytes follow that no flag announces.
    TrailingBytes,
    /// All flags are zero, yet the value is not empty.
    NotEmpty,
}

impl fmt::Display for MalformedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedFlag => "OSCORE option has a reserved flag bit set",
            Self::ReservedLength => "OSCORE option has a reserved Partial IV length of 6 or 7",
            Self::LeadingZero => "OSCORE option has a Partial IV with a leading zero byte",
            Self::Truncated => "OSCORE option ends before a length it announces",
            Self::KidTooLong => "OSCORE option has a kid of more than 7 bytes",
            Self::TrailingBytes => "OSCORE option has bytes after its last field",
            Self::NotEmpty => "OSCORE option without flags is not empty",
        })
    }
}

impl core::error::Error for MalformedOption {}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use super::*;

    fn round_trip(value: &[u8], expected: OscoreOption<'_>) {
        assert_eq!(OscoreOption::parse(value), Ok(expected));
        let mut out = [0xee; OscoreOption::MAX_LENGTH];
        let length = expected.emit(&mut out).unwrap();
        assert_eq!(&out[..length], value);
        for short in 0..value.len() {
            assert_eq!(expected.emit(&mut out[..short]), None, "{short} bytes are too few");
        }
    }

    // RFC 8613 Appendix C.4 to C.8.
    #[test]
    fn published_options_parse_and_emit_to_the_same_bytes() {
        let piv = PartialIv::new(0x14);
        round_trip(
            &[0x09, 0x14],
            OscoreOption { partial_iv: piv, kid: Some(KeyId::EMPTY), kid_context: None },
        );
        round_trip(
            &[0x09, 0x14, 0x00],
            OscoreOption { partial_iv: piv, kid: KeyId::new(&[0]), kid_context: None },
        );
        let context = [0x37, 0xcb, 0xf3, 0x21, 0x00, 0x17, 0xa2, 0xd3];
        round_trip(
            &[0x19, 0x14, 0x08, 0x37, 0xcb, 0xf3, 0x21, 0x00, 0x17, 0xa2, 0xd3],
            OscoreOption { partial_iv: piv, kid: Some(KeyId::EMPTY), kid_context: IdContext::new(&context) },
        );
        round_trip(&[], OscoreOption::default());
        round_trip(&[0x01, 0x00], OscoreOption { partial_iv: PartialIv::new(0), ..OscoreOption::default() });
    }

    #[test]
    fn the_largest_partial_iv_takes_five_bytes() {
        round_trip(
            &[0x05, 0xff, 0xff, 0xff, 0xff, 0xff],
            OscoreOption { partial_iv: Some(PartialIv::MAX), ..OscoreOption::default() },
        );
        assert_eq!(PartialIv::new(1 << 40), None);
    }

    // RFC 8613 §6.1; lengths beyond the value.
    #[test]
    fn malformed_values_are_refused_with_the_reason() {
        for (value, reason) in [
            (&[0x20, 0x00][..], MalformedOption::ReservedFlag),
            (&[0x80], MalformedOption::ReservedFlag),
            (&[0x06, 1, 2, 3, 4, 5, 6], MalformedOption::ReservedLength),
            (&[0x07], MalformedOption::ReservedLength),
            (&[0x02, 0x00, 0x01], MalformedOption::LeadingZero),
            (&[0x02, 0x01], MalformedOption::Truncated),
            (&[0x10], MalformedOption::Truncated),
            (&[0x10, 0x02, 0x01], MalformedOption::Truncated),
            (&[0x19, 0x14, 0xff, 0x00], MalformedOption::Truncated),
            (&[0x08, 1, 2, 3, 4, 5, 6, 7, 8], MalformedOption::KidTooLong),
            (&[0x01, 0x14, 0x00], MalformedOption::TrailingBytes),
            (&[0x00], MalformedOption::NotEmpty),
        ] {
            assert_eq!(OscoreOption::parse(value), Err(reason), "{value:02x?}");
        }
    }

    #[test]
    fn every_value_of_three_bytes_either_round_trips_or_is_refused() {
        let mut out = [0; OscoreOption::MAX_LENGTH];
        for number in 0_u32..1 << 24 {
            let value = &number.to_be_bytes()[1..];
            if let Ok(option) = OscoreOption::parse(value) {
                let length = option.emit(&mut out).unwrap();
                assert_eq!(&out[..length], value);
            }
        }
    }
}
