//! Payloads of devices as values, and values as payloads (LwM2M Core 1.2.1 §7.4).
//!
//! Invariant: a value whose type the payload does not tell and no definition knows stays what it came as: bytes or text.

use std::sync::Arc;

use lwm2m_coap::{Full, Sink};
use lwm2m_objects::format::{self, Item, Items};
use lwm2m_objects::{Content, Format, Kind, Path, Target, UNASSIGNED};

use super::Endpoint;
use crate::Value;
use crate::models::Models;
use crate::operation::Reported;

impl Endpoint {
    /// Decodes with other definitions from now on.
    pub fn set_models(&mut self, models: Arc<Models>) {
        self.config.models = models;
    }
}

/// From here on a time is one since 1970, before it is relative to now (RFC 8428 §4.5.3).
const ABSOLUTE: f64 = 268_435_456.0;

/// Decodes a payload that answers a request for `target` at `now`, in milliseconds since 1970; `kinds` knows the types of
/// resources.
pub(crate) fn decode(
    kinds: impl Fn(u16, u16) -> Option<Kind>,
    format: Format,
    target: &Target<'_>,
    payload: &[u8],
    now: u64,
) -> Result<Vec<Reported>, &'static str> {
    if payload.is_empty() && target.path.resource_id().is_none() {
        // §6.3.1: an object without instances is read as an empty payload, whatever the format.
        return Ok(Vec::new());
    }
    let items = Items::new(target, Content { format, payload }).map_err(|error| match error {
        lwm2m_objects::Error::UnsupportedFormat => "a content format that this server does not read here",
        _ => "the payload is not of its content format",
    })?;
    let mut values = Vec::new();
    for item in items {
        let item = item.map_err(|_| "the payload is not of its content format")?;
        if let Some(value) = value(&kinds, &item) {
            // A value counts, whatever is said of its time.
            let time = time(now, &item).unwrap_or_default();
            values.push(Reported { path: item.path, value, time });
        }
    }
    Ok(values)
}

/// When an entry was so, in milliseconds since 1970; nothing in it when the device does not say. Nothing for what is no time.
#[expect(clippy::option_option, reason = "no time is not a wrong time")]
pub(crate) fn time(now: u64, item: &Item<'_>) -> Option<Option<i64>> {
    let seconds = item.time();
    if seconds == 0.0 {
        return Some(None);
    }
    let base = if seconds.abs() < ABSOLUTE { now as f64 } else { 0.0 };
    let millis = base + seconds * 1000.0;
    // Beyond it floats are no whole numbers any more: 285,000 years.
    let is_time = millis.abs() < 9e15;
    is_time.then_some(Some(millis.round() as i64))
}

/// The value of an entry, if it has one.
pub(crate) fn value(kinds: impl Fn(u16, u16) -> Option<Kind>, item: &Item<'_>) -> Option<Value> {
    let known = item.path.object_id().zip(item.path.resource_id());
    let known = known.and_then(|(object, resource)| kinds(object, resource));
    let mut scratch = vec![0; item.raw.scratch_len()];
    // A type that does not fit is the device's: what it sent is shown, not hidden.
    let mut kinds = known.into_iter().chain(item.raw.kind());
    kinds.find_map(|kind| item.raw.value(kind, &mut scratch).ok().map(owned))
}

/// Encodes values at or below `target`.
pub(crate) fn encode(
    format: Format,
    target: &Target<'_>,
    values: &[(Path, Value)],
) -> Result<Vec<u8>, &'static str> {
    if values.iter().any(|(path, _)| !path.starts_with(target.path)) {
        return Err("a value lies outside of what is written");
    }
    let mut values: Vec<_> = values.iter().map(|(path, value)| (*path, value.borrowed())).collect();
    values.sort_by_key(|(path, _)| *path);
    emit(format, target, &values)
}

/// The same of a bootstrap, which may be an object, an instance or a resource.
pub(crate) fn encode_borrowed(
    format: Format,
    path: Path,
    values: &[(Path, lwm2m_objects::Value<'_>)],
) -> Result<Vec<u8>, &'static str> {
    let mut values = values.to_vec();
    values.sort_by_key(|(path, _)| *path);
    emit(format, &path.into(), &values)
}

/// Encodes the places of a composite operation.
pub(crate) fn encode_names(
    format: Format,
    prefix: Option<&str>,
    paths: &[Path],
) -> Result<Vec<u8>, &'static str> {
    let mut body = Body(Vec::new());
    format::encode_names(format, prefix, paths, &mut body)
        .map_err(|_| "the places cannot be written in this format")?;
    Ok(body.0)
}

/// Encodes the values of a new instance; without an instance id the device chooses.
pub(crate) fn encode_created(
    format: Format,
    prefix: Option<&str>,
    object: u16,
    instance: Option<u16>,
    values: &[(u16, Option<u16>, Value)],
) -> Result<(Format, Vec<u8>), &'static str> {
    // An instance without values has no path in SenML; in TLV it is an empty one.
    if let (Some(instance), []) = (instance, values) {
        let [high, low] = instance.to_be_bytes();
        let body = if high == 0 { vec![0x00, low] } else { vec![0x20, high, low] };
        return Ok((Format::TLV, body));
    }
    // Only TLV can leave the instance out for certain: its resources then stand for themselves (§7.4.3).
    let (format, at) = match instance {
        Some(instance) => (format, Path::instance(object, instance)),
        None => (Format::TLV, Path::instance(object, UNASSIGNED)),
    };
    let target = if instance.is_some() { Path::object(object) } else { at };
    let mut pairs = Vec::with_capacity(values.len());
    for (resource, several, value) in values {
        let path = at.child(*resource).and_then(|path| several.map_or(Some(path), |one| path.child(one)));
        pairs.push((path.ok_or("no such resource")?, value.borrowed()));
    }
    pairs.sort_by_key(|(path, _)| *path);
    Ok((format, emit(format, &Target { prefix, path: target }, &pairs)?))
}

fn emit(
    format: Format,
    target: &Target<'_>,
    values: &[(Path, lwm2m_objects::Value<'_>)],
) -> Result<Vec<u8>, &'static str> {
    let mut body = Body(Vec::new());
    format::encode(format, target, &values, &mut body)
        .map_err(|_| "the values cannot be written in this format")?;
    Ok(body.0)
}

struct Body(Vec<u8>);

impl Sink for Body {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn owned(value: lwm2m_objects::Value<'_>) -> Value {
    match value {
        lwm2m_objects::Value::String(text) => Value::String(text.to_owned()),
        lwm2m_objects::Value::Integer(value) => Value::Integer(value),
        lwm2m_objects::Value::Unsigned(value) => Value::Unsigned(value),
        lwm2m_objects::Value::Float(value) => Value::Float(value),
        lwm2m_objects::Value::Boolean(value) => Value::Boolean(value),
        lwm2m_objects::Value::Opaque(bytes) => Value::Opaque(bytes.to_vec()),
        lwm2m_objects::Value::Time(value) => Value::Time(value),
        lwm2m_objects::Value::ObjectLink(link) => Value::ObjectLink(link.object, link.instance),
        lwm2m_objects::Value::CoreLink(text) => Value::CoreLink(text.to_owned()),
    }
}
