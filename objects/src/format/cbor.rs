//! CBOR (RFC 8949 §3): the data items that content formats are made of.
//!
//! Invariant: reading takes one item at a time and never nests; a length is compared with the bytes that are there.
//!
//! `minicbor` came to 5 kB more on a Cortex-M4, for the same formats; it is what the tests compare with.

use lwm2m_coap::{Full, Sink};

use crate::float;

/// A data item. Of an array, a map or a tag it is the head only.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Item<'a> {
    Unsigned(u64),
    /// -1 - n
    Negative(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// With the number of elements, if it is given.
    Array(Option<u64>),
    /// With the number of pairs, if it is given.
    Map(Option<u64>),
    Tag(u64),
    Boolean(bool),
    Float(f64),
    /// Null, undefined, and what has no meaning.
    Simple,
    Break,
}

/// Reads the items of a payload, in order.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads an item. Nothing for what is malformed or cut off, and for strings in pieces.
    pub(super) fn next(&mut self) -> Option<Item<'a>> {
        let [initial] = *self.take(1)? else { return None };
        let information = initial & 0x1f;
        let argument = match information {
            0..24 => Some(u64::from(information)),
            24..28 => {
                let bytes = self.take(1 << (information & 3))?;
                Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            31 => None,
            _ => return None,
        };
        Some(match (initial >> 5, argument) {
            (0, Some(value)) => Item::Unsigned(value),
            (1, Some(value)) => Item::Negative(value),
            (2, Some(length)) => Item::Bytes(self.take(usize::try_from(length).ok()?)?),
            (3, Some(length)) => {
                Item::Text(core::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()?)
            }
            (4, count) => Item::Array(count),
            (5, count) => Item::Map(count),
            (6, Some(tag)) => Item::Tag(tag),
            (7, None) => Item::Break,
            (7, Some(value)) => match information {
                20 => Item::Boolean(false),
                21 => Item::Boolean(true),
                25 => Item::Float(float::from_half(value as u16)),
                26 => Item::Float(float::from_single(value as u32)),
                27 => Item::Float(f64::from_bits(value)),
                _ => Item::Simple,
            },
            _ => return None,
        })
    }

    /// Takes a break, if it is next.
    pub(super) fn take_break(&mut self) -> bool {
        let [0xff, rest @ ..] = self.0 else { return false };
        self.0 = rest;
        true
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Writes the head of an item: its major type and its argument, as short as it goes.
pub(super) fn emit_head(major: u8, argument: u64, sink: &mut dyn Sink) -> Result<(), Full> {
    let mut head = [0; 9];
    let bytes = argument.to_be_bytes();
    let (information, length) = match argument {
        0..24 => (argument as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    let (initial, rest) = head.split_at_mut(1);
    initial.fill(major << 5 | information);
    let argument = bytes.get(8_usize.saturating_sub(length)..).unwrap_or_default();
    rest.iter_mut().zip(argument).for_each(|(place, byte)| *place = *byte);
    sink.write(head.get(..=length).unwrap_or_default())
}

/// Writes a signed integer.
pub(super) fn emit_integer(value: i64, sink: &mut dyn Sink) -> Result<(), Full> {
    // -1 - n has the bits of n inverted.
    if value < 0 { emit_head(1, !value as u64, sink) } else { emit_head(0, value as u64, sink) }
}

/// Writes a text.
pub(super) fn emit_text(text: &str, sink: &mut dyn Sink) -> Result<(), Full> {
    emit_head(3, text.len() as u64, sink)?;
    sink.write(text.as_bytes())
}

/// Writes a float, with 32 bits where that loses nothing.
pub(super) fn emit_float(value: f64, sink: &mut dyn Sink) -> Result<(), Full> {
    match float::narrow(value) {
        Some(narrow) => {
            sink.write(&[0xfa])?;
            sink.write(&narrow.to_be_bytes())
        }
        None => {
            sink.write(&[0xfb])?;
            sink.write(&value.to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    extern crate std;

    use minicbor::data::Type;
    use proptest::prelude::*;

    use super::*;

    /// Reads an item with the other decoder; nothing when it refuses.
    fn other<'a>(decoder: &mut minicbor::Decoder<'a>) -> Option<Item<'a>> {
        Some(match decoder.datatype().ok()? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => Item::Unsigned(decoder.u64().ok()?),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
                let value = i128::from(decoder.int().ok()?);
                Item::Negative(u64::try_from(!value).ok()?)
            }
            Type::Bytes => Item::Bytes(decoder.bytes().ok()?),
            Type::String => Item::Text(decoder.str().ok()?),
            Type::Array | Type::ArrayIndef => Item::Array(decoder.array().ok()?),
            Type::Map | Type::MapIndef => Item::Map(decoder.map().ok()?),
            Type::Tag => Item::Tag(decoder.tag().ok()?.as_u64()),
            Type::Bool => Item::Boolean(decoder.bool().ok()?),
            Type::F16 | Type::F32 | Type::F64 => Item::Float(decoder.f64().ok()?),
            Type::Break => {
                decoder.set_position(decoder.position().checked_add(1)?);
                Item::Break
            }
            Type::Null | Type::Undefined | Type::Simple => decoder.skip().ok().map(|()| Item::Simple)?,
            _ => return None,
        })
    }

    fn same(ours: Option<Item<'_>>, theirs: Option<Item<'_>>) -> bool {
        match (ours, theirs) {
            (Some(Item::Float(ours)), Some(Item::Float(theirs))) => {
                ours == theirs || ours.is_nan() && theirs.is_nan()
            }
            _ => ours == theirs,
        }
    }

    #[test]
    fn every_half_float_is_widened_as_minicbor_does() {
        for bits in 0..=u16::MAX {
            let [high, low] = bits.to_be_bytes();
            let bytes = [0xf9, high, low];
            assert!(same(Reader(&bytes).next(), other(&mut minicbor::Decoder::new(&bytes))), "{bits:04x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn items_are_read_as_minicbor_reads_them(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader(&bytes);
            let mut decoder = minicbor::Decoder::new(&bytes);
            while !reader.0.is_empty() {
                let (ours, theirs) = (reader.next(), other(&mut decoder));
                prop_assert!(same(ours, theirs), "{:?} {:?}", ours, theirs);
                if ours.is_none() {
                    break;
                }
            }
        }

        #[test]
        fn items_are_written_as_minicbor_writes_them(unsigned in any::<u64>(), integer in any::<i64>(), float in proptest::num::f32::NORMAL, text in "\\PC{0,300}", shift in 0..64_u32) {
            let (unsigned, integer) = (unsigned >> shift, integer >> shift);
            let mut theirs = minicbor::Encoder::new(minicbor::encode::write::Cursor::new([0_u8; 1300]));
            theirs.u64(unsigned).unwrap().i64(integer).unwrap().f32(float).unwrap().str(&text).unwrap().array(unsigned).unwrap();
            let mut ours = heapless::Vec::<u8, 1300>::new();
            emit_head(0, unsigned, &mut ours).unwrap();
            emit_integer(integer, &mut ours).unwrap();
            emit_float(f64::from(float), &mut ours).unwrap();
            emit_text(&text, &mut ours).unwrap();
            emit_head(4, unsigned, &mut ours).unwrap();
            let length = theirs.writer().position();
            prop_assert_eq!(Some(ours.as_slice()), theirs.writer().get_ref().get(..length));
        }
    }
}
