//! `application/cbor`: a single value (LwM2M Core 1.2.1 §7.4.3, Appendix C).
//!
//! Invariant: exactly one value at exactly the path, else the format is not acceptable.

use lwm2m_coap::Sink;

use super::cbor::{Item, Reader, emit_float, emit_head, emit_integer, emit_text};
use super::date;
use super::senml_cbor::emit_counted;
use super::text::single;
use super::{Leaf, Raw, Source, emit_object_link};
use crate::{Error, Path, Value, float};

const BYTES: u8 = 2;

/// Encodes the value at `path`.
pub(super) fn encode(path: Path, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    single(path, source, &mut |leaf| {
        match leaf {
            Leaf::Value(value) => emit(value, sink)?,
            Leaf::Chunks(chunks) => {
                emit_head(BYTES, u64::from(chunks.length), sink)?;
                chunks.emit(sink)?;
            }
            Leaf::Dated(..) | Leaf::Empty => return Err(Error::NotAcceptable),
        }
        Ok(())
    })
}

/// Writes a value as a data item.
pub(super) fn emit(value: Value<'_>, sink: &mut dyn Sink) -> Result<(), lwm2m_coap::Full> {
    match value {
        Value::Integer(value) | Value::Time(value) => emit_integer(value, sink),
        Value::Unsigned(value) => emit_head(0, value, sink),
        Value::Float(value) => emit_float(value, sink),
        Value::String(text) | Value::CoreLink(text) => emit_text(text, sink),
        Value::Boolean(value) => sink.write(&[0xf4 | u8::from(value)]),
        Value::Opaque(bytes) => {
            emit_head(BYTES, bytes.len() as u64, sink)?;
            sink.write(bytes)
        }
        Value::ObjectLink(link) => emit_counted(&|sink| emit_object_link(link, sink), sink),
    }
}

/// Decodes the value that a payload is. Nothing for what is none.
pub(super) fn decode(payload: &[u8]) -> Option<Raw<'_>> {
    let mut reader = Reader(payload);
    let value = match reader.next()? {
        Item::Tag(tag) => Value::Time(time(tag, &mut reader)?),
        Item::Text(text) => Value::String(text),
        Item::Bytes(bytes) => Value::Opaque(bytes),
        Item::Boolean(value) => Value::Boolean(value),
        Item::Float(value) => Value::Float(value),
        item => integer(item)?,
    };
    reader.0.is_empty().then_some(Raw::Value(value))
}

/// Reads what is behind a tag as a time: a date (RFC 8949 §3.4.1) or seconds since 1970 (§3.4.2), without a fraction, which LwM2M has
/// no place for.
pub(super) fn time(tag: u64, reader: &mut Reader<'_>) -> Option<i64> {
    match (tag, reader.next()?) {
        (0, Item::Text(text)) => date::seconds(text),
        (1, Item::Float(value)) => float::truncate(value),
        (1, Item::Unsigned(value)) => i64::try_from(value).ok(),
        (1, Item::Negative(value)) => i64::try_from(value).ok().map(|value| !value),
        _ => None,
    }
}

fn integer(item: Item<'_>) -> Option<Value<'static>> {
    match item {
        Item::Unsigned(value) => Some(Value::Unsigned(value)),
        Item::Negative(value) => i64::try_from(value).ok().map(|value| Value::Integer(!value)),
        _ => None,
    }
}
