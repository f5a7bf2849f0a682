//! Options (RFC 7252 §3.1, §5.4): numbers, their properties, and a borrowed list that was checked once when parsed.
//!
//! Invariant: the bytes in [`Options`] are well-formed, so walking them cannot fail.

use crate::block::{BadBlock, Block};
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

    /// Whether an option of `length` bytes is as long as its definition allows; unknown options may have any length.
    const fn fits(self, length: usize) -> bool {
        match self {
            Self::IF_NONE_MATCH => length == 0,
            Self::URI_HOST => length >= 1 && length <= 255,
            Self::URI_PORT | Self::ACCEPT | Self::CONTENT_FORMAT => length <= 2,
            Self::IF_MATCH => length <= 8,
            Self::BLOCK1 | Self::BLOCK2 | Self::OBSERVE => length <= 3,
            Self::URI_PATH | Self::URI_QUERY | Self::LOCATION_PATH | Self::LOCATION_QUERY => length <= 255,
            _ => true,
        }
    }

    const fn is_repeatable(self) -> bool {
        matches!(
            self,
            Self::IF_MATCH
                | Self::ETAG
                | Self::LOCATION_PATH
                | Self::URI_PATH
                | Self::URI_QUERY
                | Self::LOCATION_QUERY
                | Self::REQUEST_TAG
        )
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
    pub fn all(&self, number: OptionNumber) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.iter()
            .skip_while(move |(other, _)| *other < number)
            .take_while(move |(other, _)| *other == number)
            .map(|(_, value)| value)
    }

    /// The first option with this number as an unsigned integer; `None` also when it is longer than 4 bytes.
    #[must_use]
    pub fn uint(&self, number: OptionNumber) -> Option<u32> {
        self.get(number).and_then(uint)
    }

    /// The segments of the path.
    pub fn uri_path(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(OptionNumber::URI_PATH)
    }

    /// The arguments of the query.
    pub fn uri_query(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(OptionNumber::URI_QUERY)
    }

    /// The segments of the location of what was created.
    pub fn location_path(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
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

    /// The first critical option that must be treated as unrecognised: not in `known`, of a forbidden length, or
    /// repeated where it must not be (RFC 7252 §5.4.1, §5.4.3, §5.4.5).
    #[must_use]
    pub fn first_unknown_critical(&self, known: &[OptionNumber]) -> Option<OptionNumber> {
        let mut previous = None;
        self.iter().find_map(|(number, value)| {
            let repeated = previous.replace(number) == Some(number);
            let usable =
                known.contains(&number) && number.fits(value.len()) && (!repeated || number.is_repeatable());
            (number.is_critical() && !usable).then_some(number)
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

impl<'a> Iterator for OptionIter<'a> {
    type Item = (OptionNumber, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let value;
        (self.number, value, self.rest) = take(self.rest, self.number)?;
        Some((OptionNumber(self.number), value))
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
fn take(bytes: &[u8], previous: u16) -> Option<(u16, &[u8], &[u8])> {
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
