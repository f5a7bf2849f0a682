//! SenML CBOR (RFC 8428 §6, LwM2M Core 1.2.1 §7.4.5).
//!
//! Invariant: a record that is yielded has exactly one value and a full path; nothing is nested deeper than a field.

use lwm2m_coap::{Count, Full, Sink};

use super::cbor::{self, emit_head, emit_text};
use super::plain_cbor;
use super::senml::{Pack, VERSION, emit_base, emit_name, parse_name};
use super::{Item, Leaf, Raw, Source, parse_object_link};
use crate::decimal::{emit_integer as emit_decimal, parse_float};
use crate::float;
use crate::{Error, Level, Path, Target, Value};

/// Encodes what is at and below the target, as a pack whose base name is the target.
pub(super) fn encode(target: &Target<'_>, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut records = 0_u64;
    source.visit(target.path, &mut |path, leaf| {
        records = records.saturating_add(u64::from(leaf.has_record(path)));
        Ok(())
    })?;
    emit_head(ARRAY, records, sink)?;
    let mut first = true;
    source.visit(target.path, &mut |path, leaf| {
        if !leaf.has_record(path) {
            return Ok(());
        }
        let below = path.ids().get(target.path.ids().len()..).unwrap_or_default();
        let is_first = core::mem::take(&mut first);
        let time = if let Leaf::Dated(time, _) = leaf { Some(time) } else { None };
        let further = [is_first, !below.is_empty(), time.is_some()];
        let fields = further.into_iter().fold(1, |fields: u64, is| fields.saturating_add(u64::from(is)));
        emit_head(MAP, fields, sink)?;
        if is_first {
            // -2, the base name.
            sink.write(&[0x21])?;
            emit_counted(&|sink| emit_base(target, !below.is_empty(), sink), sink)?;
        }
        if !below.is_empty() {
            sink.write(&[NAME])?;
            emit_counted(&|sink| emit_name(below, sink), sink)?;
        }
        emit_leaf(leaf, sink)?;
        if let Some(time) = time {
            sink.write(&[TIME])?;
            cbor::emit_integer(time, sink)?;
        }
        Ok(())
    })
}

/// Copies a pack as [`encode`] writes it, with a base time of so many seconds ago.
pub(super) fn emit_aged(payload: &[u8], seconds: i64, sink: &mut dyn Sink) -> Result<(), Full> {
    let mut reader = cbor::Reader(payload);
    let (Some(cbor::Item::Array(_)), before) = (reader.next(), reader.0.len()) else {
        return sink.write(payload);
    };
    let array = payload.get(..payload.len().saturating_sub(before)).unwrap_or_default();
    // An empty pack says nothing of any time.
    let Some(cbor::Item::Map(Some(fields))) = reader.next() else { return sink.write(payload) };
    sink.write(array)?;
    emit_head(MAP, fields.saturating_add(1), sink)?;
    // -3, the base time.
    sink.write(&[0x22])?;
    cbor::emit_integer(seconds.saturating_neg(), sink)?;
    sink.write(reader.0)
}

/// Encodes names without values.
pub(super) fn encode_names(prefix: Option<&str>, paths: &[Path], sink: &mut dyn Sink) -> Result<(), Full> {
    emit_head(ARRAY, paths.len() as u64, sink)?;
    paths.iter().try_for_each(|path| {
        emit_head(MAP, 1, sink)?;
        sink.write(&[NAME])?;
        emit_counted(&|sink| Target { prefix, path: *path }.emit(sink), sink)
    })
}

const NAME: u8 = 0;
const VALUE: u8 = 2;
const STRING: u8 = 3;
const BOOLEAN: u8 = 4;
const TIME: u8 = 6;
const DATA: u8 = 8;
const OBJECT_LINK: &str = "vlo";

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

fn emit_leaf(leaf: Leaf<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    let value = match leaf {
        Leaf::Value(value) | Leaf::Dated(_, value) => value,
        Leaf::Chunks(chunks) => {
            sink.write(&[DATA])?;
            emit_head(BYTES, u64::from(chunks.length), sink)?;
            return chunks.emit(sink);
        }
        // LwM2M Core 1.2.1 §7.4.6: null is in the place of what goes.
        Leaf::Empty => return Ok(sink.write(&[VALUE, 0xf6])?),
    };
    match value {
        Value::Integer(_) | Value::Time(_) | Value::Unsigned(_) | Value::Float(_) => sink.write(&[VALUE])?,
        Value::String(_) | Value::CoreLink(_) => sink.write(&[STRING])?,
        Value::Boolean(_) => sink.write(&[BOOLEAN])?,
        Value::Opaque(_) => sink.write(&[DATA])?,
        Value::ObjectLink(_) => emit_text(OBJECT_LINK, sink)?,
    }
    Ok(plain_cbor::emit(value, sink)?)
}

/// Writes a text with its length before it.
pub(super) fn emit_counted(
    emit: &dyn Fn(&mut dyn Sink) -> Result<(), Full>,
    sink: &mut dyn Sink,
) -> Result<(), Full> {
    let mut length = Count(0);
    emit(&mut length)?;
    emit_head(TEXT, length.0 as u64, sink)?;
    emit(sink)
}

/// Walks the records of a pack.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    pack: Pack,
    prefix: Option<&'a str>,
    base: &'a str,
    base_time: f64,
    /// Records to come, if the pack says how many.
    left: Option<u64>,
    cbor: cbor::Reader<'a>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(pack: Pack, prefix: Option<&'a str>, payload: &'a [u8]) -> Result<Self, Error> {
        let mut cbor = cbor::Reader(payload);
        let Some(cbor::Item::Array(left)) = cbor.next() else { return Err(Error::BadRequest) };
        Ok(Self { pack, prefix, base: "", base_time: 0.0, left, cbor })
    }

    pub(super) fn next(&mut self) -> Option<Result<Item<'a>, Error>> {
        while another(&mut self.left, &mut self.cbor) {
            match self.record() {
                Some(None) => {}
                Some(Some(item)) => return Some(Ok(item)),
                None => return Some(Err(Error::BadRequest)),
            }
        }
        // LwM2M Core 1.2.1 §7.4.5: the payload is one pack.
        (!self.cbor.0.is_empty()).then_some(Err(Error::BadRequest))
    }

    /// Reads one record; one with base fields only yields no item. Nothing for what is malformed.
    fn record(&mut self) -> Option<Option<Item<'a>>> {
        let cbor::Item::Map(mut left) = self.cbor.next()? else { return None };
        let (mut name, mut time, mut found) = (None, 0.0, None);
        while another(&mut left, &mut self.cbor) {
            let label = self.cbor.next()?;
            let field = self.cbor.next()?;
            let value = match (label, field) {
                // -2, the base name.
                (cbor::Item::Negative(1), cbor::Item::Text(text)) => {
                    self.base = text;
                    continue;
                }
                // RFC 8428 §4.4: of a later version nothing is known.
                (cbor::Item::Negative(0), cbor::Item::Unsigned(version)) => {
                    if version > VERSION.cast_unsigned() {
                        return None;
                    }
                    continue;
                }
                (cbor::Item::Unsigned(0), cbor::Item::Text(text)) if name.is_none() => {
                    name = Some(text);
                    continue;
                }
                // -3, the base time.
                (cbor::Item::Negative(2), number) => {
                    self.base_time = self.time(number)?;
                    continue;
                }
                (cbor::Item::Unsigned(6), number) => {
                    time = self.time(number)?;
                    continue;
                }
                (cbor::Item::Unsigned(2), cbor::Item::Simple) if self.pack == Pack::Patch => {
                    if found.replace(Raw::Empty).is_some() {
                        return None;
                    }
                    continue;
                }
                (cbor::Item::Unsigned(2), cbor::Item::Unsigned(value)) => Value::Unsigned(value),
                (cbor::Item::Unsigned(2), cbor::Item::Negative(value)) => {
                    Value::Integer(i64::try_from(value).ok().map(|value| !value)?)
                }
                (cbor::Item::Unsigned(2), cbor::Item::Float(value)) => Value::Float(value),
                (cbor::Item::Unsigned(2), cbor::Item::Tag(4)) => Value::Float(self.decimal_fraction()?),
                (cbor::Item::Unsigned(2), cbor::Item::Tag(tag)) => {
                    Value::Time(plain_cbor::time(tag, &mut self.cbor)?)
                }
                (cbor::Item::Unsigned(3), cbor::Item::Text(text)) => Value::String(text),
                (cbor::Item::Unsigned(4), cbor::Item::Boolean(value)) => Value::Boolean(value),
                (cbor::Item::Unsigned(8), cbor::Item::Bytes(bytes)) => Value::Opaque(bytes),
                (cbor::Item::Text(OBJECT_LINK), cbor::Item::Text(text)) => {
                    Value::ObjectLink(parse_object_link(text)?)
                }
                // RFC 8428 §4.4: what is unknown is ignored, but for a label that ends in an underscore. A base value (-5), a
                // base sum (-6) or a sum (5) would change what the other fields mean.
                (cbor::Item::Negative(3 | 6..) | cbor::Item::Unsigned(1 | 7 | 9..), _) => {
                    self.skip(field)?;
                    continue;
                }
                (cbor::Item::Text(text), _) if text != OBJECT_LINK && !text.ends_with('_') => {
                    self.skip(field)?;
                    continue;
                }
                _ => return None,
            };
            if found.replace(Raw::Value(value)).is_some() {
                return None;
            }
        }
        let is_base = name.is_none() && (self.base.is_empty() || self.base.ends_with('/'));
        let raw = match found {
            Some(_) if self.pack == Pack::Fetch => return None,
            None if self.pack.is_of_names() && !is_base => Raw::Empty,
            None if name.is_none() => return Some(None),
            None => return None,
            Some(raw) => raw,
        };
        let path = parse_name(self.prefix, self.base.bytes().chain(name.unwrap_or_default().bytes()))?;
        let is_whole = path.level() >= Level::Resource || self.pack.is_of_names();
        is_whole.then_some(Some(Item { path, raw, times: [self.base_time, time] }))
    }

    /// What the base name alone names.
    pub(super) fn base(&self) -> Option<Path> {
        if self.base.is_empty() { None } else { parse_name(self.prefix, self.base.bytes()) }
    }

    /// Reads a time; what is no number says nothing.
    fn time(&mut self, field: cbor::Item<'a>) -> Option<f64> {
        Some(match field {
            cbor::Item::Unsigned(value) => float::from_unsigned(value),
            cbor::Item::Negative(value) => {
                float::from_integer(i64::try_from(value).ok().map(|value| !value)?)
            }
            cbor::Item::Float(value) => value,
            cbor::Item::Tag(4) => self.decimal_fraction()?,
            _ => {
                self.skip(field)?;
                0.0
            }
        })
    }

    /// Skips a field that means nothing here, with all that is in it. Nothing for one of indefinite length.
    fn skip(&mut self, mut field: cbor::Item<'a>) -> Option<()> {
        let mut left = 0_u64;
        loop {
            left = left.checked_add(match field {
                cbor::Item::Tag(_) => 1,
                cbor::Item::Array(count) => count?,
                cbor::Item::Map(count) => count?.checked_mul(2)?,
                cbor::Item::Break => return None,
                _ => 0,
            })?;
            let Some(less) = left.checked_sub(1) else { return Some(()) };
            left = less;
            field = self.cbor.next()?;
        }
    }

    /// Reads exponent and mantissa (RFC 8428 §6, RFC 8949 §3.4.4).
    fn decimal_fraction(&mut self) -> Option<f64> {
        let cbor::Item::Array(Some(2)) = self.cbor.next()? else { return None };
        let mut integer = || match self.cbor.next()? {
            cbor::Item::Unsigned(value) => i64::try_from(value).ok(),
            cbor::Item::Negative(value) => i64::try_from(value).ok().map(|value| !value),
            _ => None,
        };
        let (exponent, mantissa) = (integer()?, integer()?);
        let mut text = heapless::Vec::<u8, 41>::new();
        emit_decimal(mantissa, &mut text).ok()?;
        text.push(b'e').ok()?;
        emit_decimal(exponent, &mut text).ok()?;
        parse_float(&text)
    }
}

/// Counts an element of an array or map; of one without a count, looks for its end.
fn another(left: &mut Option<u64>, cbor: &mut cbor::Reader<'_>) -> bool {
    if left.is_none() && cbor.take_break() {
        *left = Some(0);
    }
    match left {
        None => true,
        Some(left) => {
            let more = *left > 0;
            *left = left.saturating_sub(1);
            more
        }
    }
}
