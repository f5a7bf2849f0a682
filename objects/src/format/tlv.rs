//! LwM2M TLV (LwM2M Core 1.2.1 §7.4.3).
//!
//! Invariant: a TLV lies within the one around it, and nesting ends at instance, multiple resource, resource instance.

use lwm2m_coap::{Count, Full, Sink};

use super::{Item, Leaf, Raw, Source};
use crate::{Error, Kind, Level, ObjectLink, Path, UNASSIGNED, Value, float};

/// Bits 7 and 6 of the type byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Instance = 0x00,
    ResourceInstance = 0x40,
    Multiple = 0x80,
    Resource = 0xc0,
}

/// Encodes what is at and below `base`. At the level of an object, instances are wrapped.
pub(super) fn encode(base: Path, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    if base.level() == Level::Root {
        return Err(Error::NotAcceptable);
    }
    let mut wrapped = None;
    let mut array = None;
    source.visit(base, &mut |path, leaf| {
        let &[object, instance, resource, ..] = path.ids() else { return Err(Error::Internal) };
        if base.level() == Level::Object && wrapped != Some(instance) {
            wrapped = Some(instance);
            array = None;
            let mut length = Count(0);
            encode(Path::instance(object, instance), source, &mut length)?;
            emit_header(Type::Instance, instance, length.0, sink)?;
        }
        let Some(resource_instance) = path.resource_instance_id() else {
            return match leaf {
                Leaf::Empty => emit_header(Type::Multiple, resource, 0, sink),
                _ => emit_leaf(Type::Resource, resource, leaf, sink),
            };
        };
        if base.level() < Level::ResourceInstance && array != Some(resource) {
            array = Some(resource);
            let mut length = Count(0);
            source.visit(Path::resource(object, instance, resource), &mut |path, leaf| {
                emit_leaf(Type::ResourceInstance, path.resource_instance_id().unwrap_or(0), leaf, &mut length)
            })?;
            emit_header(Type::Multiple, resource, length.0, sink)?;
        }
        emit_leaf(Type::ResourceInstance, resource_instance, leaf, sink)
    })
}

fn emit_leaf(kind: Type, id: u16, leaf: Leaf<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    match leaf {
        Leaf::Value(value) => {
            let mut length = Count(0);
            emit_value(value, &mut length)?;
            emit_header(kind, id, length.0, sink)?;
            emit_value(value, sink)?;
        }
        Leaf::Chunks(chunks) => {
            emit_header(kind, id, usize::try_from(chunks.length).map_err(|_| Error::Internal)?, sink)?;
            chunks.emit(sink)?;
        }
        Leaf::Empty => emit_header(kind, id, 0, sink)?,
        Leaf::Dated(..) => return Err(Error::NotAcceptable),
    }
    Ok(())
}

fn emit_header(kind: Type, id: u16, length: usize, sink: &mut dyn Sink) -> Result<(), Error> {
    let [high, low] = id.to_be_bytes();
    let bytes = u32::try_from(length).map_err(|_| Error::Internal)?.to_be_bytes();
    let (bits, length) = match length {
        0..=7 => (length as u8, &[][..]),
        8..=0xff => (0x08, bytes.get(3..).unwrap_or_default()),
        0x100..=0xffff => (0x10, bytes.get(2..).unwrap_or_default()),
        0x1_0000..=0xff_ffff => (0x18, bytes.get(1..).unwrap_or_default()),
        _ => return Err(Error::Internal),
    };
    if high == 0 {
        sink.write(&[kind as u8 | bits, low])?;
    } else {
        sink.write(&[kind as u8 | bits | 0x20, high, low])?;
    }
    Ok(sink.write(length)?)
}

/// Writes the bytes of a value: integers in the fewest of 1, 2, 4 or 8, floats in 4 where that loses nothing.
pub(crate) fn emit_value(value: Value<'_>, sink: &mut dyn Sink) -> Result<(), Full> {
    match value {
        Value::String(text) | Value::CoreLink(text) => sink.write(text.as_bytes()),
        Value::Integer(value) | Value::Time(value) => {
            let bytes = value.to_be_bytes();
            let start = match value {
                -0x80..=0x7f => 7,
                -0x8000..=0x7fff => 6,
                -0x8000_0000..=0x7fff_ffff => 4,
                _ => 0,
            };
            sink.write(bytes.get(start..).unwrap_or_default())
        }
        Value::Unsigned(value) => {
            let bytes = value.to_be_bytes();
            let start = match value {
                0..=0xff => 7,
                0x100..=0xffff => 6,
                0x1_0000..=0xffff_ffff => 4,
                _ => 0,
            };
            sink.write(bytes.get(start..).unwrap_or_default())
        }
        Value::Float(value) => match float::narrow(value) {
            Some(narrow) => sink.write(&narrow.to_be_bytes()),
            None => sink.write(&value.to_be_bytes()),
        },
        Value::Boolean(value) => sink.write(&[u8::from(value)]),
        Value::Opaque(bytes) => sink.write(bytes),
        Value::ObjectLink(link) => {
            sink.write(&link.object.to_be_bytes())?;
            sink.write(&link.instance.to_be_bytes())
        }
    }
}

/// Converts the bytes of a value to a type.
pub(crate) fn bytes_value(bytes: &[u8], kind: Kind) -> Option<Value<'_>> {
    Some(match kind {
        Kind::String => Value::String(core::str::from_utf8(bytes).ok()?),
        Kind::CoreLink => Value::CoreLink(core::str::from_utf8(bytes).ok()?),
        Kind::Integer => Value::Integer(signed(bytes)?),
        Kind::Time => Value::Time(signed(bytes)?),
        Kind::Unsigned => Value::Unsigned(unsigned(bytes)?),
        Kind::Float => Value::Float(match bytes.len() {
            4 => float::from_single(u32::from_be_bytes(bytes.try_into().ok()?)),
            _ => f64::from_be_bytes(bytes.try_into().ok()?),
        }),
        Kind::Boolean => Value::Boolean(match bytes {
            [0] => false,
            [1] => true,
            _ => return None,
        }),
        Kind::Opaque => Value::Opaque(bytes),
        Kind::ObjectLink => {
            let [object, instance] = [bytes.get(..2)?, bytes.get(2..)?];
            Value::ObjectLink(ObjectLink {
                object: u16::from_be_bytes(object.try_into().ok()?),
                instance: u16::from_be_bytes(instance.try_into().ok()?),
            })
        }
        Kind::Nothing => return None,
    })
}

/// LwM2M Core 1.2.1 Appendix C: integers are of 1, 2, 4 or 8 bytes.
fn unsigned(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 1 | 2 | 4 | 8)
        .then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn signed(bytes: &[u8]) -> Option<i64> {
    let shift = 8_usize.checked_sub(bytes.len())?.saturating_mul(8);
    Some((unsigned(bytes)?.wrapping_shl(shift as u32) as i64).wrapping_shr(shift as u32))
}

/// Walks the TLVs of a payload.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    base: Path,
    top: &'a [u8],
    /// The instance being read, and the rest of it.
    instance: Option<(Path, &'a [u8])>,
    /// The multiple resource being read, and the rest of it.
    multiple: Option<(Path, &'a [u8])>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(base: Path, payload: &'a [u8]) -> Self {
        Self { base, top: payload, instance: None, multiple: None }
    }

    pub(super) fn next(&mut self) -> Option<Result<Item<'a>, Error>> {
        loop {
            let found = if let Some((path, rest)) = self.multiple.take_if(|(_, rest)| !rest.is_empty()) {
                Tlv::split(rest).and_then(|(tlv, rest)| {
                    self.multiple = Some((path, rest));
                    tlv.only(Type::ResourceInstance)?.at(path)
                })
            } else if let Some((path, rest)) = self.instance.take_if(|(_, rest)| !rest.is_empty()) {
                self.multiple = None;
                Tlv::split(rest).and_then(|(tlv, rest)| {
                    self.instance = Some((path, rest));
                    self.resource(tlv, path)
                })
            } else if !self.top.is_empty() {
                self.multiple = None;
                self.instance = None;
                Tlv::split(self.top).and_then(|(tlv, rest)| {
                    self.top = rest;
                    self.outermost(tlv)
                })
            } else {
                return None;
            };
            match found {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// A TLV directly in the payload: what it may be depends on the path of the request.
    fn outermost(&mut self, tlv: Tlv<'a>) -> Result<Option<Item<'a>>, Error> {
        let base = self.base;
        match (base.level(), tlv.kind) {
            (Level::Object, Type::Instance) => self.wrapped(tlv, base.child(tlv.id)),
            // With the instance in the path, its wrapper is optional.
            (Level::Instance, Type::Instance) if base.instance_id() == Some(tlv.id) => {
                self.wrapped(tlv, Some(base))
            }
            // A Create that leaves the identifier to the client.
            (Level::Object, _) => self.resource(tlv, base.child(UNASSIGNED).ok_or(Error::BadRequest)?),
            (Level::Instance, _) => self.resource(tlv, base),
            (Level::Resource, Type::ResourceInstance) => tlv.at(base),
            (Level::ResourceInstance, Type::ResourceInstance) => tlv.at(base.parent().unwrap_or(base)),
            (Level::Resource, _) if base.resource_id() == Some(tlv.id) => {
                self.resource(tlv, base.parent().unwrap_or(base))
            }
            (Level::ResourceInstance, Type::Multiple) if base.resource_id() == Some(tlv.id) => {
                self.resource(tlv, base.parent().and_then(Path::parent).unwrap_or(base))
            }
            _ => Err(Error::BadRequest),
        }
    }

    fn wrapped(&mut self, tlv: Tlv<'a>, path: Option<Path>) -> Result<Option<Item<'a>>, Error> {
        let path = path.ok_or(Error::BadRequest)?;
        if tlv.value.is_empty() {
            return Ok(Some(Item { path, raw: Raw::Empty, times: [0.0; 2] }));
        }
        self.instance = Some((path, tlv.value));
        Ok(None)
    }

    /// A TLV in an instance.
    fn resource(&mut self, tlv: Tlv<'a>, instance: Path) -> Result<Option<Item<'a>>, Error> {
        let path = instance.child(tlv.id).ok_or(Error::BadRequest)?;
        match tlv.kind {
            Type::Resource => tlv.at(instance),
            Type::Multiple if tlv.value.is_empty() => {
                Ok(Some(Item { path, raw: Raw::Empty, times: [0.0; 2] }))
            }
            Type::Multiple => {
                self.multiple = Some((path, tlv.value));
                Ok(None)
            }
            Type::Instance | Type::ResourceInstance => Err(Error::BadRequest),
        }
    }
}

#[derive(Clone, Copy)]
struct Tlv<'a> {
    kind: Type,
    id: u16,
    value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Splits the first TLV off.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        Self::parse(bytes).ok_or(Error::BadRequest)
    }

    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_first()?;
        let kind = match head & 0xc0 {
            0x00 => Type::Instance,
            0x40 => Type::ResourceInstance,
            0x80 => Type::Multiple,
            _ => Type::Resource,
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let (id, rest) = rest.split_at_checked(if head & 0x20 == 0 { 1 } else { 2 })?;
        let (length, rest) = rest.split_at_checked(usize::from(head >> 3 & 0x03))?;
        let length = if length.is_empty() { usize::from(head & 0x07) } else { number(length) };
        let (value, rest) = rest.split_at_checked(length)?;
        let id = u16::try_from(number(id)).ok().filter(|id| *id != UNASSIGNED)?;
        Some((Self { kind, id, value }, rest))
    }

    fn only(self, kind: Type) -> Result<Self, Error> {
        if self.kind == kind { Ok(self) } else { Err(Error::BadRequest) }
    }

    /// The value as an item below `parent`.
    fn at(self, parent: Path) -> Result<Option<Item<'a>>, Error> {
        let path = parent.child(self.id).ok_or(Error::BadRequest)?;
        Ok(Some(Item { path, raw: Raw::Bytes(self.value), times: [0.0; 2] }))
    }
}
