//! JSON (RFC 8259): the values that content formats are made of.
//!
//! Invariant: reading borrows from the payload; a text stays as it stands there, its escapes checked, until its characters
//! are asked for. What is skipped may be nested [`DEPTH`] deep.

use core::str::Chars;

use lwm2m_coap::{Full, Sink};

use crate::Value;
use crate::decimal::{parse_float, parse_integer, parse_unsigned};

/// How deep arrays and objects without meaning may be nested.
const DEPTH: u32 = 32;

/// A value that holds no others.
enum Item<'a> {
    Text,
    /// As it stands: it may still be no number.
    Number(&'a str),
    Boolean(bool),
    Null,
}

/// What is left of a payload.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a str);

impl<'a> Reader<'a> {
    /// Takes a character of the structure, if it is next.
    pub(super) fn take(&mut self, character: char) -> bool {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        let rest = self.0.strip_prefix(character);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.trim_start_matches([' ', '\t', '\n', '\r']).is_empty()
    }

    /// Reads the name of a member, with the colon behind it.
    pub(super) fn name(&mut self) -> Option<Text<'a>> {
        let name = self.text()?;
        self.take(':').then_some(name)
    }

    /// Reads a text.
    pub(super) fn text(&mut self) -> Option<Text<'a>> {
        if self.take('"') { self.rest_of_text() } else { None }
    }

    /// Reads a number. JSON does not tell `20` from `20.0`: what has no fraction is an integer.
    pub(super) fn number(&mut self) -> Option<Value<'static>> {
        let Item::Number(text) = self.item()? else { return None };
        let text = text.as_bytes();
        let integer = parse_integer(text).map(Value::Integer);
        integer.or_else(|| parse_unsigned(text).map(Value::Unsigned)).or_else(|| {
            let value = parse_float(text)?;
            Some(crate::float::to_integer(value).map_or(Value::Float(value), Value::Integer))
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self) -> Option<bool> {
        match self.item()? {
            Item::Boolean(value) => Some(value),
            _ => None,
        }
    }

    /// Takes `null`, if it is next.
    pub(super) fn take_null(&mut self) -> bool {
        let mut ahead = *self;
        let is_null = matches!(ahead.item(), Some(Item::Null));
        if is_null {
            *self = ahead;
        }
        is_null
    }

    /// Reads a value that holds no others. Nothing for what is malformed or holds some.
    fn item(&mut self) -> Option<Item<'a>> {
        if self.take('"') {
            return self.rest_of_text().map(|_| Item::Text);
        }
        let end = self.0.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(match word {
            "true" => Item::Boolean(true),
            "false" => Item::Boolean(false),
            "null" => Item::Null,
            _ if is_number(word.as_bytes()) => Item::Number(word),
            _ => return None,
        })
    }

    /// Skips a value with all that it holds.
    pub(super) fn skip(&mut self) -> Option<()> {
        // A bit for each array or object that is open: set for an object.
        let (mut objects, mut depth) = (0_u32, 0_u32);
        loop {
            let opened = if self.take('{') {
                (!self.take('}')).then_some(1)
            } else if self.take('[') {
                (!self.take(']')).then_some(0)
            } else {
                self.item()?;
                None
            };
            if let Some(object) = opened {
                depth = depth.checked_add(1).filter(|depth| *depth <= DEPTH)?;
                objects = objects << 1 | object;
            } else {
                while depth > 0 && !self.take(',') {
                    if !self.take(if objects & 1 == 1 { '}' } else { ']' }) {
                        return None;
                    }
                    objects >>= 1;
                    depth = depth.saturating_sub(1);
                }
            }
            if depth == 0 {
                return Some(());
            }
            if objects & 1 == 1 {
                self.name()?;
            }
        }
    }

    /// Reads a text whose opening quote was taken.
    fn rest_of_text(&mut self) -> Option<Text<'a>> {
        let mut characters = Characters(self.0.chars());
        loop {
            let before = characters.0.as_str();
            if let Some(rest) = before.strip_prefix('"') {
                let (text, _) = self.0.split_at_checked(self.0.len().checked_sub(before.len())?)?;
                self.0 = rest;
                return Some(Text(text));
            }
            characters.next()?;
        }
    }
}

/// Whether this is a number (RFC 8259 §6), which the parsers of text need not tell.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let integer = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, mut rest) = integer.split_at(digits(integer));
    if whole.is_empty() || matches!(whole, [b'0', _, ..]) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = fraction.split_at(length).1;
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        _ => false,
    }
}

/// What stands between two quotes; its escapes are well-formed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl<'a> Text<'a> {
    pub(super) const EMPTY: Self = Self("");

    pub(super) fn characters(self) -> impl Iterator<Item = char> + Clone + use<'a> {
        Characters(self.0.chars())
    }

    /// The same in UTF-8.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        self.characters().flat_map(|character| {
            let mut bytes = [0; 4];
            let length = character.encode_utf8(&mut bytes).len();
            bytes.into_iter().take(length)
        })
    }

    /// The text, if nothing in it is escaped.
    pub(super) fn plain(self) -> Option<&'a str> {
        (!self.0.contains('\\')).then_some(self.0)
    }

    /// The text without escapes, in `out` if there are some. Nothing when that is too small.
    pub(super) fn resolve<'s>(self, out: &'s mut [u8]) -> Option<&'s str>
    where
        'a: 's,
    {
        if let Some(text) = self.plain() {
            return Some(text);
        }
        let mut length = 0_usize;
        for character in self.characters() {
            let place = out.get_mut(length..)?.get_mut(..character.len_utf8())?;
            length = length.saturating_add(character.encode_utf8(place).len());
        }
        core::str::from_utf8(out.get(..length)?).ok()
    }

    pub(super) fn is(self, text: &str) -> bool {
        self.characters().eq(text.chars())
    }
}

/// The characters that a text stands for. Nothing more behind an escape that is malformed.
#[derive(Clone)]
struct Characters<'a>(Chars<'a>);

impl Characters<'_> {
    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit << 4 | self.0.next()?.to_digit(16)?))
    }
}

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.0.next()? {
            '\\' => Some(match self.0.next()? {
                character @ ('"' | '\\' | '/') => character,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => match self.unit()? {
                    // RFC 8259 §7: two surrogates for what needs more than 16 bits.
                    high @ 0xd800..0xdc00 => {
                        let is_pair = self.0.next()? == '\\' && self.0.next()? == 'u';
                        let low = self.unit().filter(|low| is_pair && (0xdc00..0xe000).contains(low))?;
                        char::from_u32(0x1_0000_u32.saturating_add((high & 0x3ff) << 10 | low & 0x3ff))?
                    }
                    unit => char::from_u32(unit)?,
                },
                _ => return None,
            }),
            '\0'..' ' => None,
            character => Some(character),
        }
    }
}

/// Writes a text between quotes.
pub(super) fn emit_text(text: &str, sink: &mut dyn Sink) -> Result<(), Full> {
    sink.write(b"\"")?;
    Escaping(sink).write(text.as_bytes())?;
    sink.write(b"\"")
}

/// Escapes what may not stand between quotes as it is.
pub(super) struct Escaping<'s>(pub(super) &'s mut dyn Sink);

impl Sink for Escaping<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let mut rest = bytes;
        while let Some(index) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
            let (plain, escaped) = rest.split_at(index);
            self.0.write(plain)?;
            let [byte, behind @ ..] = escaped else { break };
            match *byte {
                control @ ..b' ' => {
                    let digit = b"0123456789abcdef".get(usize::from(control & 0xf)).copied().unwrap_or(b'0');
                    self.0.write(&[b'\\', b'u', b'0', b'0', b'0' | control >> 4, digit])?;
                }
                quoted => self.0.write(&[b'\\', quoted])?,
            }
            rest = behind;
        }
        self.0.write(rest)
    }
}
