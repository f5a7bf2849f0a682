//! Options (RFC 7252 §3.1, §5.4): numbers, their properties, and a borrowed list that was checked once when parsed.
//!
//! Invariant: the bytes in [`Options`] are well-formed, so walking them cannot fail.

use crate::block::{BadBlock, Block};
use crate::code::Code;
use crate::content_format::ContentFormat;

/// The number of an option; its low bits say how a receiver treats an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionNumber(pub u16);

impl OptionNumber {
    /// If-Match.
    pub const IF_MATCH: OptionNumber = OptionNumber(1);
    /// Uri-Host.
    pub const URI_HOST: OptionNumber = OptionNumber(3);
    /// ETag.
    pub const ETAG: OptionNumber = OptionNumber(4);
    /// If-None-Match.
    pub const IF_NONE_MATCH: OptionNumber = OptionNumber(5);
    /// Observe (RFC 7641).
    pub const OBSERVE: OptionNumber = OptionNumber(6);
    /// Uri-Port.
    pub const URI_PORT: OptionNumber = OptionNumber(7);
    /// Location-Path.
    pub const LOCATION_PATH: OptionNumber = OptionNumber(8);
    /// OSCORE (RFC 8613).
    pub const OSCORE: OptionNumber = OptionNumber(9);
    /// Uri-Path.
    pub const URI_PATH: OptionNumber = OptionNumber(11);
    /// Content-Format.
    pub const CONTENT_FORMAT: OptionNumber = OptionNumber(12);
    /// Max-Age.
    pub const MAX_AGE: OptionNumber = OptionNumber(14);
    /// Uri-Query.
    pub const URI_QUERY: OptionNumber = OptionNumber(15);
    /// Hop-Limit (RFC 8768): for proxies; an endpoint ignores it.
    pub const HOP_LIMIT: OptionNumber = OptionNumber(16);
    /// Accept.
    pub const ACCEPT: OptionNumber = OptionNumber(17);
    /// Location-Query.
    pub const LOCATION_QUERY: OptionNumber = OptionNumber(20);
    /// Block2 (RFC 7959).
    pub const BLOCK2: OptionNumber = OptionNumber(23);
    /// Block1 (RFC 7959).
    pub const BLOCK1: OptionNumber = OptionNumber(27);
    /// Size2 (RFC 7959).
    pub const SIZE2: OptionNumber = OptionNumber(28);
    /// Proxy-Uri.
    pub const PROXY_URI: OptionNumber = OptionNumber(35);
    /// Proxy-Scheme.
    pub const PROXY_SCHEME: OptionNumber = OptionNumber(39);
    /// Size1.
    pub const SIZE1: OptionNumber = OptionNumber(60);
    /// Echo (RFC 9175).
    pub const ECHO: OptionNumber = OptionNumber(252);
    /// No-Response (RFC 7967).
    pub const NO_RESPONSE: OptionNumber = OptionNumber(258);
    /// Request-Tag (RFC 9175).
    pub const REQUEST_TAG: OptionNumber = OptionNumber(292);

    /// Whether a receiver that does not know the option must refuse the message (RFC 7252 §5.4.6).
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a proxy that does not know the option must not forward it.
    #[must_use]
    pub const fn is_unsafe_to_forward(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the option is not part of the cache key (RFC 7252 §5.4.2).
    #[must_use]
    pub const fn is_no_cache_key(self) -> bool {
        self.0 & 0x1e == 0x1c
    }

    /// Whether a critical option of `length` bytes is as long as its definition allows.
    const fn fits(self, length: usize) -> bool {
        match self {
            Self::IF_NONE_MATCH => length == 0,
            Self::URI_HOST => length >= 1 && length <= 255,
            Self::URI_PORT | Self::ACCEPT => length <= 2,
            Self::BLOCK1 | Self::BLOCK2 => length <= 3,
            Self::IF_MATCH => length <= 8,
            Self::URI_PATH | Self::URI_QUERY => length <= 255,
            _ => true,
        }
    }

    /// Whether a critical option may come more than once.
    const fn is_repeatable(self) -> bool {
        matches!(self, Self::IF_MATCH | Self::URI_PATH | Self::URI_QUERY)
    }

    /// What a request is answered with that has this critical option, which is not known: 4.02, and 5.05 to proxying
    /// (RFC 7252 §5.4.1, §5.10.2).
    #[must_use]
    pub const fn refused_with(self) -> Code {
        match self {
            Self::PROXY_URI | Self::PROXY_SCHEME => Code::PROXYING_NOT_SUPPORTED,
            _ => Code::BAD_OPTION,
        }
    }

    /// What a 4.02 (Bad Option) says of the option: `option 65535` at most (RFC 7252 §5.4.1, §5.5.2).
    #[must_use]
    pub fn diagnostic(self) -> heapless::Vec<u8, 12> {
        let mut text = heapless::Vec::new();
        let _ = text.extend_from_slice(b"option ");
        for scale in [10_000, 1000, 100, 10, 1] {
            let leading = self.0.checked_div(scale).unwrap_or_default();
            if leading > 0 || scale == 1 {
                let _ = text.push(b'0' | u8::try_from(leading % 10).unwrap_or_default());
            }
        }
        text
    }
}

/// The options of a message, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    /// No options.
    pub const NONE: Options<'static> = Options { bytes: &[] };

    /// The options at the start of `bytes`, and what follows the payload marker (empty when there is none).
    ///
    /// # Errors
    /// [`OptionFault`] for a reserved nibble, a sum past 65535, a cut value, or a marker with nothing behind it.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), OptionFault> {
        let mut rest = bytes;
        let mut number = 0;
        loop {
            match rest {
                [] => return Ok((Self { bytes }, &[])),
                // RFC 7252 §3: a payload marker followed by a zero-length payload is a message format error.
                [PAYLOAD_MARKER] => return Err(OptionFault),
                [PAYLOAD_MARKER, payload @ ..] => {
                    let length = bytes.len().saturating_sub(rest.len());
                    return Ok((Self { bytes: bytes.get(..length).unwrap_or_default() }, payload));
                }
                _ => (number, _, rest) = take(rest, number).ok_or(OptionFault)?,
            }
        }
    }

    /// Options that were parsed before.
    pub(crate) const fn checked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes they take on the wire.
    pub(crate) const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes the options with lower numbers take on the wire.
    #[must_use]
    pub fn length_before(&self, number: OptionNumber) -> usize {
        let mut options = self.iter();
        loop {
            let behind = options.rest.len();
            if options.next().is_none_or(|(other, _)| other >= number) {
                return self.bytes.len().saturating_sub(behind);
            }
        }
    }

    /// Walks all options.
    #[must_use]
    pub const fn iter(&self) -> OptionIter<'a> {
        OptionIter { rest: self.bytes, number: 0 }
    }

    /// The value of the first option with this number.
    #[must_use]
    pub fn get(&self, number: OptionNumber) -> Option<&'a [u8]> {
        self.all(number).next()
    }

    /// The values of all options with this number.
    pub const fn all(&self, number: OptionNumber) -> OptionValues<'a> {
        OptionValues { options: self.iter(), number }
    }

    /// The first option with this number as an unsigned integer; `None` also when it is longer than 4 bytes.
    #[must_use]
    pub fn uint(&self, number: OptionNumber) -> Option<u32> {
        self.get(number).and_then(uint)
    }

    /// The segments of the path.
    pub const fn uri_path(&self) -> OptionValues<'a> {
        self.all(OptionNumber::URI_PATH)
    }

    /// The arguments of the query.
    pub const fn uri_query(&self) -> OptionValues<'a> {
        self.all(OptionNumber::URI_QUERY)
    }

    /// The segments of the location of what was created.
    pub const fn location_path(&self) -> OptionValues<'a> {
        self.all(OptionNumber::LOCATION_PATH)
    }

    /// Observe, 24 bits: 0 registers, 1 deregisters, in responses the sequence number (RFC 7641 §2). Over-long is as absent.
    #[must_use]
    pub fn observe(&self) -> Option<u32> {
        self.get(OptionNumber::OBSERVE).filter(|value| value.len() <= 3).and_then(uint)
    }

    /// The format of the payload. Over-long is as absent.
    #[must_use]
    pub fn content_format(&self) -> Option<ContentFormat> {
        self.uint(OptionNumber::CONTENT_FORMAT).and_then(|value| u16::try_from(value).ok()).map(ContentFormat)
    }

    /// The format that the client wants.
    #[must_use]
    pub fn accept(&self) -> Option<ContentFormat> {
        self.uint(OptionNumber::ACCEPT).and_then(|value| u16::try_from(value).ok()).map(ContentFormat)
    }

    /// The first ETag, 1 to 8 bytes. Any other length is as absent.
    #[must_use]
    pub fn etag(&self) -> Option<&'a [u8]> {
        self.get(OptionNumber::ETAG).filter(|value| (1..=8).contains(&value.len()))
    }

    /// Block1.
    ///
    /// # Errors
    /// [`BadBlock`] when it is longer than 3 bytes or has the reserved size exponent 7.
    pub fn block1(&self) -> Result<Option<Block>, BadBlock> {
        self.get(OptionNumber::BLOCK1).map(Block::parse).transpose()
    }

    /// Block2.
    ///
    /// # Errors
    /// [`BadBlock`] when it is longer than 3 bytes or has the reserved size exponent 7.
    pub fn block2(&self) -> Result<Option<Block>, BadBlock> {
        self.get(OptionNumber::BLOCK2).map(Block::parse).transpose()
    }

    /// The size of the request's whole body.
    #[must_use]
    pub fn size1(&self) -> Option<u32> {
        self.uint(OptionNumber::SIZE1)
    }

    /// The size of the response's whole body.
    #[must_use]
    pub fn size2(&self) -> Option<u32> {
        self.uint(OptionNumber::SIZE2)
    }

    /// Echo, 1 to 40 bytes (RFC 9175 §2.2.1). Any other length is as absent.
    #[must_use]
    pub fn echo(&self) -> Option<&'a [u8]> {
        self.get(OptionNumber::ECHO).filter(|value| (1..=crate::echo::MAX_LENGTH).contains(&value.len()))
    }

    /// Which responses the client does not want (RFC 7967 §2). Over-long is as absent.
    #[must_use]
    pub fn no_response(&self) -> NoResponse {
        let value = self.get(OptionNumber::NO_RESPONSE).filter(|value| value.len() <= 1);
        NoResponse(value.and_then(|value| value.first().copied()).unwrap_or(0))
    }

    /// The first critical option that must be treated as unrecognised: not in `known`, of a forbidden length, or
    /// repeated where it must not be (RFC 7252 §5.4.1, §5.4.3, §5.4.5).
    #[must_use]
    pub fn first_unknown_critical(&self, known: &[OptionNumber]) -> Option<OptionNumber> {
        let mut previous = None;
        self.iter().find_map(|(number, value)| {
            let is_repeated = previous.replace(number) == Some(number);
            let is_unknown = number.is_critical()
                && (!known.contains(&number)
                    || !number.fits(value.len())
                    || (is_repeated && !number.is_repeatable()));
            is_unknown.then_some(number)
        })
    }
}

impl<'a> IntoIterator for Options<'a> {
    type Item = (OptionNumber, &'a [u8]);
    type IntoIter = OptionIter<'a>;

    fn into_iter(self) -> OptionIter<'a> {
        self.iter()
    }
}

/// Yields each option's number and value.
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    rest: &'a [u8],
    number: u16,
}

/// Walks the values of the options with one number.
#[derive(Clone, Debug)]
pub struct OptionValues<'a> {
    options: OptionIter<'a>,
    number: OptionNumber,
}

impl<'a> Iterator for OptionValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (number, value) = self.options.next()?;
            if number == self.number {
                return Some(value);
            }
            if number > self.number {
                self.options.rest = &[];
            }
        }
    }
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = (OptionNumber, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let value;
        (self.number, value, self.rest) = take(self.rest, self.number)?;
        Some((OptionNumber(self.number), value))
    }
}

/// The classes of responses that a client does not want (RFC 7967 §2.1); none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoResponse(u8);

impl NoResponse {
    /// Whether a response of this code is one of them. 2.31 never is: without it a block-wise transfer ends.
    #[must_use]
    pub const fn covers(self, code: Code) -> bool {
        let bit = match code.class() {
            2 if code.as_u8() != Code::CONTINUE.as_u8() => 0x02,
            4 => 0x08,
            5 => 0x10,
            _ => 0,
        };
        self.0 & bit != 0
    }
}

/// Options that break the message format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionFault;

pub(crate) const PAYLOAD_MARKER: u8 = 0xff;

/// Reads an unsigned integer of at most 4 bytes, network order (RFC 7252 §3.2).
pub(crate) fn uint(value: &[u8]) -> Option<u32> {
    let mut bytes = [0; 4];
    bytes.get_mut(4_usize.checked_sub(value.len())?..)?.copy_from_slice(value);
    Some(u32::from_be_bytes(bytes))
}

/// Takes one option off `bytes`: its number, its value and the rest.
pub(crate) fn take(bytes: &[u8], previous: u16) -> Option<(u16, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 0x0f, rest)?;
    // RFC 7252 §3.1: numbers are 16 bits; a sum beyond is a message format error.
    let number = previous.checked_add(u16::try_from(delta).ok()?)?;
    let (value, rest) = rest.split_at_checked(length as usize)?;
    Some((number, value, rest))
}

/// Resolves a nibble with its extension: 13 adds one byte, 14 two, 15 is reserved.
fn extended(nibble: u8, bytes: &[u8]) -> Option<(u32, &[u8])> {
    match nibble {
        13 => bytes.split_first().map(|(low, rest)| (u32::from(*low).saturating_add(13), rest)),
        14 => bytes
            .split_first_chunk()
            .map(|(wide, rest)| (u32::from(u16::from_be_bytes(*wide)).saturating_add(269), rest)),
        15 => None,
        _ => Some((u32::from(nibble), bytes)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::{Code, Room, Writer};

    fn list(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
        let (options, _) = Options::parse(bytes).ok()?;
        Some(options.iter().map(|(number, value)| (number.0, value)).collect())
    }

    #[test]
    fn extended_deltas_and_lengths_are_read() {
        // Echo (252) of 8 bytes, Request-Tag (292 = 252 + 40) of 1.
        let bytes = [0xd8, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 0xd1, 0x1b, 9];
        assert_eq!(list(&bytes).unwrap(), [(252, &[1, 2, 3, 4, 5, 6, 7, 8][..]), (292, &[9])]);
        let mut long = std::vec![0xbe, 0x00, 0x01];
        long.extend([7; 270]);
        assert_eq!(list(&long).unwrap(), [(11, &[7; 270][..])]);
    }

    #[test]
    fn a_sum_past_65535_is_refused() {
        // 269 + 65266 is the last number, 269 + 65267 is one too many.
        assert_eq!(list(&[0xe0, 0xfe, 0xf2]).unwrap(), [(65535, &[][..])]);
        assert_eq!(list(&[0xe0, 0xfe, 0xf3]), None);
        assert_eq!(list(&[0xe0, 0xfe, 0xf2, 0x10]), None);
        assert_eq!(list(&[0xe0, 0xfe, 0xf2, 0x00]).unwrap().len(), 2);
    }

    #[test]
    fn reserved_nibbles_and_cut_values_are_refused() {
        for bytes in [
            &[0xf0][..],
            &[0xf1, 0],
            &[0x0f],
            &[0x01],
            &[0xd0],
            &[0xe0, 0],
            &[0x0d],
            &[0x0e, 0],
            &[0x0e, 0xff, 0xff],
            &[0xff],
        ] {
            assert_eq!(Options::parse(bytes), Err(OptionFault), "{bytes:02x?}");
        }
    }

    #[test]
    fn any_number_of_options_is_walked() {
        let bytes = [0; 10_000];
        assert_eq!(list(&bytes).unwrap().len(), 10_000);
    }

    #[test]
    fn over_long_integers_are_as_absent() {
        // Observe of 4 bytes, Content-Format of 3 and Size1 of 5 are elective: they are ignored.
        let bytes = [0x64, 1, 2, 3, 4, 0x63, 1, 2, 3, 0xd5, 35, 1, 2, 3, 4, 5];
        let (options, _) = Options::parse(&bytes).unwrap();
        assert_eq!((options.observe(), options.content_format(), options.size1()), (None, None, None));
    }

    #[test]
    fn critical_options_that_are_unknown_over_long_or_repeated_are_found() {
        let known = crate::Parameters::DEFAULT.known;
        let find = |options: &[(OptionNumber, &[u8])]| {
            let mut buffer = [0; 600];
            let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
            for (number, value) in options {
                writer.option(*number, value).unwrap();
            }
            let draft = writer.finish().unwrap();
            Options::parse(draft.bytes()).unwrap().0.first_unknown_critical(known)
        };
        use OptionNumber as N;
        assert_eq!(find(&[(N::URI_PATH, b"a"), (N::URI_PATH, b"b"), (N(2048), b"elective")]), None);
        assert_eq!(find(&[(N::ETAG, &[0; 9]), (N(2049), b"")]), Some(N(2049)));
        assert_eq!(find(&[(N::IF_MATCH, b"")]), Some(N::IF_MATCH));
        assert_eq!(find(&[(N::URI_HOST, b"")]), Some(N::URI_HOST));
        assert_eq!(find(&[(N::URI_PATH, &[b'a'; 256])]), Some(N::URI_PATH));
        assert_eq!(find(&[(N::ACCEPT, &[0, 0, 1])]), Some(N::ACCEPT));
        assert_eq!(find(&[(N::ACCEPT, &[40]), (N::ACCEPT, &[40])]), Some(N::ACCEPT));
        assert_eq!(find(&[(N::BLOCK1, &[0, 0, 0, 8])]), Some(N::BLOCK1));
    }

    #[test]
    fn no_response_covers_the_classes_of_its_bits() {
        // RFC 7967 §2.1: 2, 8 and 16 stand for the classes 2, 4 and 5; empty and 0 for an interest in all.
        let no_response = |bytes: &[u8]| Options::parse(bytes).unwrap().0.no_response();
        let covered = |no_response: NoResponse| {
            [Code::CHANGED, Code::CONTINUE, Code::NOT_FOUND, Code::INTERNAL_SERVER_ERROR, Code::EMPTY]
                .map(|code| no_response.covers(code))
        };
        assert_eq!(covered(no_response(&[])), [false; 5]);
        assert_eq!(covered(no_response(&[0xd0, 245])), [false; 5]);
        assert_eq!(covered(no_response(&[0xd1, 245, 0x02])), [true, false, false, false, false]);
        assert_eq!(covered(no_response(&[0xd1, 245, 0x08])), [false, false, true, false, false]);
        assert_eq!(covered(no_response(&[0xd1, 245, 0x1a])), [true, false, true, true, false]);
        assert_eq!(covered(no_response(&[0xd1, 245, 0xe5])), [false; 5]);
        // Over-long is as absent.
        assert_eq!(covered(no_response(&[0xd2, 245, 0, 0x1a])), [false; 5]);
    }

    #[test]
    fn the_number_tells_the_class() {
        assert!(OptionNumber::URI_PATH.is_critical() && OptionNumber::URI_PATH.is_unsafe_to_forward());
        assert!(!OptionNumber::OBSERVE.is_critical());
        assert!(OptionNumber::SIZE1.is_no_cache_key() && OptionNumber::SIZE2.is_no_cache_key());
        assert!(!OptionNumber::REQUEST_TAG.is_no_cache_key() && !OptionNumber::URI_QUERY.is_no_cache_key());
        // RFC 9175 §2.2, §3.2; RFC 7967 §2; RFC 8768 §3.
        for number in [OptionNumber::ECHO, OptionNumber::REQUEST_TAG, OptionNumber::NO_RESPONSE] {
            assert!(!number.is_critical());
        }
        assert!(OptionNumber::ECHO.is_no_cache_key() && OptionNumber::NO_RESPONSE.is_unsafe_to_forward());
        assert!(!OptionNumber::HOP_LIMIT.is_critical() && !OptionNumber::HOP_LIMIT.is_unsafe_to_forward());
    }
}
