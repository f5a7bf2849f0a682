//! Content formats: from a payload to values at paths, and back (LwM2M Core 1.2.1 §7.4).
//!
//! Invariant: an encoder reads its [`Source`] as often as it needs and holds nothing; a decoder borrows from the payload
//! and allocates nothing, whatever lengths the payload claims.

mod cbor;
mod date;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json")]
mod oma_json;
mod plain_cbor;
mod senml;
mod senml_cbor;
#[cfg(feature = "json")]
mod senml_json;
mod text;
mod tlv;

use lwm2m_coap::{Full, Sink};

use crate::{At, Content, Error, Format, Kind, Object, ObjectLink, Path, Target, Value, float};

use senml::Pack;
use text::decode_base64;

/// What can be read into a payload: objects of a device, or a list of values.
pub trait Source {
    /// Calls `each` for everything there is at or below `path`, in ascending order; the same every time.
    ///
    /// # Errors
    /// Those of `each`, and those of reading.
    fn visit(&self, path: Path, each: Visitor<'_>) -> Result<(), Error>;
}

/// What [`Source::visit`] calls.
pub type Visitor<'v> = &'v mut dyn FnMut(Path, Leaf<'_>) -> Result<(), Error>;

/// Something at the end of a path.
#[derive(Clone, Copy)]
pub enum Leaf<'a> {
    /// A value of a resource or of a resource instance.
    Value(Value<'a>),
    /// An opaque that is read in chunks.
    Chunks(Chunks<'a>),
    /// A value as it was at a time in seconds since 1970, of which there may be several at one path. Only SenML can tell.
    Dated(i64, Value<'a>),
    /// A resource that has no resource instance; in a patch, a resource instance that is to go.
    Empty,
}

impl Leaf<'_> {
    /// Whether it has a record in a pack.
    fn has_record(&self, path: Path) -> bool {
        !matches!(self, Self::Empty) || path.level() == crate::Level::ResourceInstance
    }
}

/// An opaque that an object hands out in chunks.
#[derive(Clone, Copy)]
pub struct Chunks<'a> {
    pub(crate) object: &'a dyn Object,
    pub(crate) at: At,
    pub(crate) length: u32,
}

impl Chunks<'_> {
    /// Calls `each` with all bytes, in chunks of 48 (a multiple of three, as base64 needs) but for the last.
    fn try_for_each(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut chunk = [0; 48];
        let mut offset = 0;
        while offset < self.length {
            let wanted =
                usize::try_from(self.length.saturating_sub(offset)).unwrap_or(chunk.len()).min(chunk.len());
            let mut filled = 0;
            while filled < wanted {
                let space = chunk.get_mut(filled..wanted).unwrap_or_default();
                let room = space.len();
                let position = offset.saturating_add(filled as u32);
                let length = self.object.read_opaque(self.at, position, space)?;
                // An object that promised more than it has must not make this loop for ever.
                if length == 0 || length > room {
                    return Err(Error::Internal);
                }
                filled = filled.saturating_add(length);
            }
            each(chunk.get(..wanted).unwrap_or_default())?;
            offset = offset.saturating_add(wanted as u32);
        }
        Ok(())
    }

    fn emit(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        self.try_for_each(&mut |chunk| Ok(sink.write(chunk)?))
    }
}

/// Values at paths, ascending: what a server writes.
impl Source for &[(Path, Value<'_>)] {
    fn visit(&self, path: Path, each: Visitor<'_>) -> Result<(), Error> {
        let below = self.iter().filter(|(at, _)| at.starts_with(path));
        below.into_iter().try_for_each(|(at, value)| each(*at, Leaf::Value(*value)))
    }
}

/// Encodes what `source` has at and below `target`.
///
/// # Errors
/// [`Error::NotAcceptable`] when the format is unknown or cannot hold it, [`Error::Internal`] when the sink is full, and
/// the errors of the source.
pub fn encode(
    format: Format,
    target: &Target<'_>,
    source: &dyn Source,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    match format {
        Format::TEXT => text::encode(target.path, source, sink),
        Format::OPAQUE => text::encode_opaque(target.path, source, sink),
        Format::CBOR => plain_cbor::encode(target.path, source, sink),
        Format::TLV => tlv::encode(target.path, source, sink),
        Format::SENML_CBOR | Format::SENML_ETCH_CBOR => senml_cbor::encode(target, source, sink),
        #[cfg(feature = "json")]
        Format::SENML_JSON | Format::SENML_ETCH_JSON => senml_json::encode(target, source, sink),
        #[cfg(feature = "json")]
        Format::JSON => oma_json::encode(target, source, sink),
        _ => Err(Error::NotAcceptable),
    }
}

/// The most bytes by which [`emit_aged`] makes a payload longer.
pub const AGE_MAX: usize = 28;

/// Copies a payload and says in it how long ago its values were so, in seconds, as far as its format has a place for that: as a base
/// time relative to now (RFC 8428 §4.5.3): SenML. No time stands in it yet.
///
/// # Errors
/// The sink is full.
pub fn emit_aged(format: Format, payload: &[u8], seconds: u64, sink: &mut dyn Sink) -> Result<(), Full> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    match format {
        _ if seconds == 0 => sink.write(payload),
        Format::SENML_CBOR => senml_cbor::emit_aged(payload, seconds, sink),
        #[cfg(feature = "json")]
        Format::SENML_JSON => senml_json::emit_aged(payload, seconds, sink),
        _ => sink.write(payload),
    }
}

/// Encodes the paths of a composite operation, as a pack of names.
///
/// # Errors
/// [`Error::UnsupportedFormat`] for another format than SenML and SenML-ETCH, [`Error::Internal`] when the sink is full.
pub fn encode_names(
    format: Format,
    prefix: Option<&str>,
    paths: &[Path],
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    match format {
        Format::SENML_CBOR | Format::SENML_ETCH_CBOR => senml_cbor::encode_names(prefix, paths, sink),
        #[cfg(feature = "json")]
        Format::SENML_JSON | Format::SENML_ETCH_JSON => senml_json::encode_names(prefix, paths, sink),
        _ => return Err(Error::UnsupportedFormat),
    }
    .map_err(Error::from)
}

/// A value as a payload holds it, before the definition says what type it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Raw<'a> {
    /// Text that stands for any type.
    Text(&'a str),
    /// The bytes of a TLV, which stand for any type.
    Bytes(&'a [u8]),
    /// A value that says itself what it is; a number may still turn out to be of another numeric type.
    Value(Value<'a>),
    /// An opaque in base64, perhaps with escapes of JSON, which are well-formed here and below.
    #[cfg(feature = "json")]
    Base64(&'a str),
    /// Text with escapes of JSON.
    #[cfg(feature = "json")]
    Escaped(&'a str),
    /// Text or an opaque in base64, perhaps with escapes of JSON.
    #[cfg(feature = "json")]
    Quoted(&'a str),
    /// An instance without resources, or a resource without resource instances.
    Empty,
}

impl<'a> Raw<'a> {
    /// Converts to a type. What does not stand in the payload as it is, an opaque in base64 or a text with escapes, is decoded
    /// into `scratch`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is not of that type, [`Error::TooLarge`] when `scratch` is too small.
    pub fn value<'s>(&self, kind: Kind, scratch: &'s mut [u8]) -> Result<Value<'s>, Error>
    where
        'a: 's,
    {
        let value = match *self {
            Self::Text(text) if kind == Kind::Opaque => {
                return decode_base64(&mut text.bytes(), scratch).map(Value::Opaque);
            }
            Self::Text(text) => text::value(text, kind),
            Self::Bytes(bytes) => tlv::bytes_value(bytes, kind),
            Self::Value(value) => convert(value, kind),
            #[cfg(feature = "json")]
            Self::Base64(text) | Self::Quoted(text) if kind == Kind::Opaque => {
                return decode_base64(&mut json::Text(text).bytes(), scratch).map(Value::Opaque);
            }
            #[cfg(feature = "json")]
            Self::Base64(_) => None,
            #[cfg(feature = "json")]
            Self::Escaped(text) | Self::Quoted(text) => {
                let text = json::Text(text).resolve(scratch).ok_or(Error::TooLarge)?;
                convert(Value::String(text), kind)
            }
            Self::Empty => None,
        };
        value.ok_or(Error::BadRequest)
    }

    /// The most bytes that its value takes when it is decoded: what a scratch has to have for certain.
    pub const fn scratch_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            #[cfg(feature = "json")]
            Self::Base64(text) | Self::Escaped(text) | Self::Quoted(text) => text.len(),
            Self::Bytes(_) | Self::Value(_) | Self::Empty => 0,
        }
    }

    /// The type that it has where no definition tells: text is a string, and the bytes of a TLV are an opaque. Nothing where
    /// there is no value.
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Text(_) => Some(Kind::String),
            Self::Bytes(_) => Some(Kind::Opaque),
            Self::Value(value) => Some(value.kind()),
            #[cfg(feature = "json")]
            Self::Base64(_) => Some(Kind::Opaque),
            #[cfg(feature = "json")]
            Self::Escaped(_) | Self::Quoted(_) => Some(Kind::String),
            Self::Empty => None,
        }
    }
}

/// Self-describing formats know numbers, not LwM2M's numeric types.
pub(crate) fn convert(value: Value<'_>, kind: Kind) -> Option<Value<'_>> {
    Some(match (value, kind) {
        (value, kind) if value.kind() == kind => value,
        (Value::Integer(value), Kind::Unsigned) => Value::Unsigned(u64::try_from(value).ok()?),
        (Value::Integer(value), Kind::Time) => Value::Time(value),
        (Value::Integer(value), Kind::Float) => Value::Float(float::from_integer(value)),
        (Value::Unsigned(value), Kind::Integer) => Value::Integer(i64::try_from(value).ok()?),
        (Value::Unsigned(value), Kind::Time) => Value::Time(i64::try_from(value).ok()?),
        (Value::Unsigned(value), Kind::Float) => Value::Float(float::from_unsigned(value)),
        (Value::Time(value), Kind::Integer) => Value::Integer(value),
        (Value::String(text), Kind::CoreLink) => Value::CoreLink(text),
        (Value::CoreLink(text), Kind::String) => Value::String(text),
        (Value::String(text), Kind::ObjectLink) => Value::ObjectLink(parse_object_link(text)?),
        _ => return None,
    })
}

/// One entry of a payload.
#[derive(Clone, Copy, PartialEq)]
pub struct Item<'a> {
    /// Where it belongs. In the payload of a Create, an instance without identifier is
    /// [`UNASSIGNED`](crate::UNASSIGNED).
    pub path: Path,
    /// Its value. [`Raw::Empty`] for a resource instance that is to go (RFC 8790 §3.2).
    pub raw: Raw<'a>,
    /// Base time and time (RFC 8428 §4.5.3). Their sum is in [`time`](Self::time): a device that has no use for it links no
    /// addition of floats.
    times: [f64; 2],
}

impl Item<'_> {
    /// When it was so, in seconds: since 1970 from 2^28 on, what is less is relative to now. 0 when nothing is said.
    pub fn time(&self) -> f64 {
        let [base, time] = self.times;
        base + time
    }
}

/// Decodes a payload, entry by entry. Every path is at or below that of the target.
///
/// ```
/// use lwm2m_objects::format::Items;
/// use lwm2m_objects::{Content, Format, Kind, Value, path};
/// let content = Content { format: Format::TEXT, payload: b"21.5" };
/// let item = Items::new(&path!("/3303/0/5700").into(), content).unwrap().next().unwrap().unwrap();
/// assert_eq!(item.raw.value(Kind::Float, &mut []), Ok(Value::Float(21.5)));
/// ```
#[derive(Clone, Copy)]
pub struct Items<'a> {
    base: Path,
    decoder: Decoder<'a>,
}

#[derive(Clone, Copy)]
enum Decoder<'a> {
    /// A format for a single value.
    Single(Option<Raw<'a>>),
    Tlv(tlv::Decoder<'a>),
    SenmlCbor(senml_cbor::Decoder<'a>),
    #[cfg(feature = "json")]
    Json(senml_json::Decoder<'a>),
}

impl<'a> Items<'a> {
    /// Begins to decode.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] for an unknown format, or one that cannot hold what the target names;
    /// [`Error::BadRequest`] for a payload that is wrong from the start.
    pub fn new(target: &Target<'a>, content: Content<'a>) -> Result<Self, Error> {
        let base = target.path;
        let single = base.level() >= crate::Level::Resource;
        let text = || core::str::from_utf8(content.payload).map_err(|_| Error::BadRequest);
        let decoder = match content.format {
            Format::TEXT if single => Decoder::Single(Some(Raw::Text(text()?))),
            Format::CBOR if single => {
                Decoder::Single(Some(plain_cbor::decode(content.payload).ok_or(Error::BadRequest)?))
            }
            Format::OPAQUE if single => Decoder::Single(Some(Raw::Value(Value::Opaque(content.payload)))),
            Format::TLV => Decoder::Tlv(tlv::Decoder::new(base, content.payload)),
            Format::SENML_CBOR | Format::SENML_ETCH_CBOR | Format::SENML_JSON | Format::SENML_ETCH_JSON => {
                let pack = match content.format {
                    Format::SENML_CBOR | Format::SENML_JSON => Pack::Values,
                    // RFC 8790 §3: for FETCH, PATCH and iPATCH alone.
                    _ if base != Path::ROOT => return Err(Error::UnsupportedFormat),
                    _ => Pack::Patch,
                };
                Decoder::senml(pack, target.prefix, content)?
            }
            #[cfg(feature = "json")]
            Format::JSON => Decoder::Json(oma_json::decoder(target, text()?).ok_or(Error::BadRequest)?),
            _ => return Err(Error::UnsupportedFormat),
        };
        Ok(Self { base, decoder })
    }

    /// Begins to decode the paths of a composite operation; the items have no values.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] for another format than SenML and SenML-ETCH; [`Error::BadRequest`] for a payload that is
    /// wrong from the start.
    pub(crate) fn names(prefix: Option<&'a str>, content: Content<'a>) -> Result<Self, Error> {
        let pack = match content.format {
            Format::SENML_CBOR | Format::SENML_JSON => Pack::Names,
            _ => Pack::Fetch,
        };
        Ok(Self { base: Path::ROOT, decoder: Decoder::senml(pack, prefix, content)? })
    }

    /// What the last base name alone names: what is meant by a pack of names that has nothing else.
    pub(crate) fn base_name(&self) -> Option<Path> {
        match &self.decoder {
            Decoder::SenmlCbor(decoder) => decoder.base(),
            #[cfg(feature = "json")]
            Decoder::Json(decoder) => decoder.base(),
            _ => None,
        }
    }
}

impl<'a> Decoder<'a> {
    fn senml(pack: Pack, prefix: Option<&'a str>, content: Content<'a>) -> Result<Self, Error> {
        match content.format {
            Format::SENML_CBOR | Format::SENML_ETCH_CBOR => {
                Ok(Self::SenmlCbor(senml_cbor::Decoder::new(pack, prefix, content.payload)?))
            }
            #[cfg(feature = "json")]
            Format::SENML_JSON | Format::SENML_ETCH_JSON => {
                let text = core::str::from_utf8(content.payload).map_err(|_| Error::BadRequest)?;
                Ok(Self::Json(senml_json::Decoder::new(pack, prefix, text)?))
            }
            _ => Err(Error::UnsupportedFormat),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Error>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        let item = match &mut self.decoder {
            Decoder::Single(raw) => Ok(Item { path: self.base, raw: raw.take()?, times: [0.0; 2] }),
            Decoder::Tlv(decoder) => decoder.next()?,
            Decoder::SenmlCbor(decoder) => decoder.next()?,
            #[cfg(feature = "json")]
            Decoder::Json(decoder) => decoder.next()?,
        };
        let item =
            item.and_then(
                |item| if item.path.starts_with(self.base) { Ok(item) } else { Err(Error::BadRequest) },
            );
        if item.is_err() {
            self.decoder = Decoder::Single(None);
        }
        Some(item)
    }
}

/// Parses `66:0`; also the null link in hexadecimal, as some write it, and with a NUL behind it.
fn parse_object_link(text: &str) -> Option<ObjectLink> {
    let text = text.as_bytes();
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.eq_ignore_ascii_case(b"ffff:ffff") {
        return Some(ObjectLink::NULL);
    }
    let (object, instance) = text.split_at_checked(text.iter().position(|byte| *byte == b':')?)?;
    let id = |text| crate::decimal::parse_unsigned(text).and_then(|id| u16::try_from(id).ok());
    Some(ObjectLink { object: id(object)?, instance: id(instance.get(1..)?)? })
}

/// Writes `66:0`.
fn emit_object_link(link: ObjectLink, sink: &mut dyn Sink) -> Result<(), lwm2m_coap::Full> {
    crate::decimal::emit_unsigned(u64::from(link.object), sink)?;
    sink.write(b":")?;
    crate::decimal::emit_unsigned(u64::from(link.instance), sink)
}
