//! SenML CBOR (RFC 8428 §6, LwM2M Core 1.2.1 §7.4.5).
//!
//! Invariant: a record that is yielded has exactly one value and a full path; nothing is nested deeper than a field.

use lwm2m_coap::{Count, Full, Sink};
use minicbor::Encoder;
use minicbor::data::Type;

use super::{Item, Leaf, Raw, Source, emit_object_link, parse_object_link, tlv::narrow};
use crate::path::PathParser;
use crate::{Error, Level, Path, Target, Value};

/// Encodes what is at and below the target, as a pack whose base name is the target.
pub(super) fn encode(target: &Target<'_>, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut records = 0_u64;
    source.visit(target.path, &mut |_, leaf| {
        records = records.saturating_add(u64::from(!matches!(leaf, Leaf::Empty)));
        Ok(())
    })?;
    Encoder::new(Output(sink)).array(records).map_err(full)?;
    let mut first = true;
    source.visit(target.path, &mut |path, leaf| {
        if matches!(leaf, Leaf::Empty) {
            return Ok(());
        }
        emit_record(target, path, leaf, core::mem::take(&mut first), sink)
    })
}

fn emit_record(
    target: &Target<'_>,
    path: Path,
    leaf: Leaf<'_>,
    first: bool,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let below = path.ids().get(target.path.ids().len()..).unwrap_or_default();
    let fields = 1_u64.saturating_add(u64::from(first)).saturating_add(u64::from(!below.is_empty()));
    let mut encoder = Encoder::new(Output(sink));
    encoder.map(fields).map_err(full)?;
    if first {
        let mut length = Count(0);
        emit_base(target, !below.is_empty(), &mut length)?;
        encoder.i8(-2).and_then(|encoder| encoder.str_len(length.0 as u64)).map_err(full)?;
        emit_base(target, !below.is_empty(), encoder.writer_mut().0)?;
    }
    if !below.is_empty() {
        let mut length = Count(0);
        emit_name(below, &mut length)?;
        encoder.u8(0).and_then(|encoder| encoder.str_len(length.0 as u64)).map_err(full)?;
        emit_name(below, encoder.writer_mut().0)?;
    }
    match leaf {
        Leaf::Value(Value::ObjectLink(link)) => {
            let mut length = Count(0);
            emit_object_link(link, &mut length)?;
            encoder.str("vlo").and_then(|encoder| encoder.str_len(length.0 as u64)).map_err(full)?;
            emit_object_link(link, encoder.writer_mut().0)?;
        }
        Leaf::Value(value) => emit_value(value, &mut encoder).map_err(full)?,
        Leaf::Chunks(chunks) => {
            encoder.u8(8).and_then(|encoder| encoder.bytes_len(u64::from(chunks.length))).map_err(full)?;
            chunks.emit(encoder.writer_mut().0)?;
        }
        Leaf::Empty => {}
    }
    Ok(())
}

fn emit_value(
    value: Value<'_>,
    encoder: &mut Encoder<Output<'_>>,
) -> Result<(), minicbor::encode::Error<Full>> {
    match value {
        Value::Integer(value) | Value::Time(value) => encoder.u8(2)?.i64(value)?,
        Value::Unsigned(value) => encoder.u8(2)?.u64(value)?,
        Value::Float(value) => match narrow(value) {
            Some(narrow) => encoder.u8(2)?.f32(narrow)?,
            None => encoder.u8(2)?.f64(value)?,
        },
        Value::String(text) | Value::CoreLink(text) => encoder.u8(3)?.str(text)?,
        Value::Boolean(value) => encoder.u8(4)?.bool(value)?,
        Value::Opaque(bytes) => encoder.u8(8)?.bytes(bytes)?,
        Value::ObjectLink(_) => encoder,
    };
    Ok(())
}

/// The base name: the target, with a slash behind it when names follow.
fn emit_base(target: &Target<'_>, slash: bool, sink: &mut dyn Sink) -> Result<(), Full> {
    if target.prefix.is_none() && target.path == Path::ROOT {
        return sink.write(b"/");
    }
    target.emit(sink)?;
    if slash { sink.write(b"/") } else { Ok(()) }
}

/// A name relative to the base: `0/5700`.
fn emit_name(ids: &[u16], sink: &mut dyn Sink) -> Result<(), Full> {
    ids.iter().enumerate().try_for_each(|(index, id)| {
        if index > 0 {
            sink.write(b"/")?;
        }
        crate::decimal::emit_unsigned(u64::from(*id), sink)
    })
}

/// Lets `minicbor` write to a sink.
struct Output<'s>(&'s mut dyn Sink);

impl minicbor::encode::Write for Output<'_> {
    type Error = Full;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.write(bytes)
    }
}

fn full(_: minicbor::encode::Error<Full>) -> Error {
    Error::Internal
}

/// Walks the records of a pack.
#[derive(Clone)]
pub(super) struct Decoder<'a> {
    prefix: Option<&'a str>,
    base: &'a str,
    /// Records to come, if the pack says how many.
    left: Option<u64>,
    cbor: minicbor::Decoder<'a>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(prefix: Option<&'a str>, payload: &'a [u8]) -> Result<Self, Error> {
        let mut cbor = minicbor::Decoder::new(payload);
        let left = cbor.array().map_err(malformed)?;
        Ok(Self { prefix, base: "", left, cbor })
    }

    pub(super) fn next(&mut self) -> Option<Result<Item<'a>, Error>> {
        loop {
            match self.another() {
                Ok(true) => {}
                // LwM2M Core 1.2.1 §7.4.5: the payload is one pack.
                Ok(false) if self.cbor.position() == self.cbor.input().len() => return None,
                Ok(false) | Err(_) => return Some(Err(Error::BadRequest)),
            }
            match self.record() {
                Ok(None) => {}
                Ok(Some(item)) => return Some(Ok(item)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn another(&mut self) -> Result<bool, Error> {
        if self.left.is_none() && self.cbor.datatype().map_err(malformed)? == Type::Break {
            self.cbor.set_position(self.cbor.position().saturating_add(1));
            self.left = Some(0);
        }
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left = left.saturating_sub(1);
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Reads one record; one with base fields only yields nothing.
    fn record(&mut self) -> Result<Option<Item<'a>>, Error> {
        let mut left = self.cbor.map().map_err(malformed)?;
        let mut name = None;
        let mut raw = None;
        loop {
            match &mut left {
                Some(0) => break,
                Some(left) => *left = left.saturating_sub(1),
                None if self.cbor.datatype().map_err(malformed)? == Type::Break => {
                    self.cbor.set_position(self.cbor.position().saturating_add(1));
                    break;
                }
                None => {}
            }
            let value = match self.label()? {
                Label::BaseName => {
                    self.base = self.cbor.str().map_err(malformed)?;
                    continue;
                }
                Label::Name => {
                    if name.replace(self.cbor.str().map_err(malformed)?).is_some() {
                        return Err(Error::BadRequest);
                    }
                    continue;
                }
                Label::Ignored => {
                    self.skip()?;
                    continue;
                }
                Label::Value => self.number()?,
                Label::String => Value::String(self.cbor.str().map_err(malformed)?),
                Label::Boolean => Value::Boolean(self.cbor.bool().map_err(malformed)?),
                Label::Data => Value::Opaque(self.cbor.bytes().map_err(malformed)?),
                Label::ObjectLink => {
                    let text = self.cbor.str().map_err(malformed)?;
                    Value::ObjectLink(parse_object_link(text).ok_or(Error::BadRequest)?)
                }
            };
            if raw.replace(Raw::Value(value)).is_some() {
                return Err(Error::BadRequest);
            }
        }
        let Some(raw) = raw else {
            return if name.is_none() { Ok(None) } else { Err(Error::BadRequest) };
        };
        let path = self.path(name.unwrap_or_default())?;
        if path.level() < Level::Resource {
            return Err(Error::BadRequest);
        }
        Ok(Some(Item { path, raw }))
    }

    fn label(&mut self) -> Result<Label, Error> {
        if self.cbor.datatype().map_err(malformed)? == Type::String {
            let label = self.cbor.str().map_err(malformed)?;
            return match label {
                "vlo" => Ok(Label::ObjectLink),
                // RFC 8428 §4.4: a label that ends in an underscore must be understood.
                _ if label.ends_with('_') => Err(Error::BadRequest),
                _ => Ok(Label::Ignored),
            };
        }
        Ok(match self.cbor.i32().map_err(malformed)? {
            -2 => Label::BaseName,
            0 => Label::Name,
            2 => Label::Value,
            3 => Label::String,
            4 => Label::Boolean,
            8 => Label::Data,
            // A base value or a sum would change what the other fields mean.
            -6 | -5 | 5 => return Err(Error::BadRequest),
            _ => Label::Ignored,
        })
    }

    fn number(&mut self) -> Result<Value<'a>, Error> {
        Ok(match self.cbor.datatype().map_err(malformed)? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                Value::Unsigned(self.cbor.u64().map_err(malformed)?)
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
                Value::Integer(self.cbor.i64().map_err(malformed)?)
            }
            Type::F16 | Type::F32 | Type::F64 => Value::Float(self.cbor.f64().map_err(malformed)?),
            _ => return Err(Error::BadRequest),
        })
    }

    /// Skips the value of a field that means nothing here. It may be tagged, but it is no array or map: no such field
    /// exists.
    fn skip(&mut self) -> Result<(), Error> {
        while self.cbor.datatype().map_err(malformed)? == Type::Tag {
            self.cbor.tag().map_err(malformed)?;
        }
        match self.cbor.datatype().map_err(malformed)? {
            Type::Map | Type::Array | Type::MapIndef | Type::ArrayIndef | Type::Break => {
                Err(Error::BadRequest)
            }
            _ => self.cbor.skip().map_err(malformed),
        }
    }

    /// Joins base name and name, leaves out the prefix, and parses the rest.
    fn path(&self, name: &str) -> Result<Path, Error> {
        let characters = || self.base.bytes().chain(name.bytes());
        let mut skipped = 0;
        if let Some(prefix) = self.prefix {
            let before = || core::iter::once(b'/').chain(prefix.bytes());
            let length = prefix.len().saturating_add(1);
            if characters().take(length).eq(before()) && characters().nth(length) == Some(b'/') {
                skipped = length;
            }
        }
        let mut parser = PathParser::new();
        for character in characters().skip(skipped) {
            parser.feed(&[character]).map_err(|_| Error::BadRequest)?;
        }
        parser.finish().map_err(|_| Error::BadRequest)
    }
}

enum Label {
    BaseName,
    Name,
    Value,
    String,
    Boolean,
    Data,
    ObjectLink,
    Ignored,
}

fn malformed(_: minicbor::decode::Error) -> Error {
    Error::BadRequest
}
