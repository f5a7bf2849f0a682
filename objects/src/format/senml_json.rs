//! SenML JSON (RFC 8428 §5, LwM2M Core 1.2.1 §7.4.4).
//!
//! Invariant: a record that is yielded has exactly one value and a full path.

use lwm2m_coap::{Full, Sink};

use super::json::{Escaping, Reader, Text, emit_text};
use super::senml::{Pack, VERSION, emit_base, emit_name, parse_name};
use super::text::{PADDED, UNPADDED, emit_base64};
use super::{Item, Leaf, Raw, Source, emit_object_link, parse_object_link};
use crate::decimal::{emit_float, emit_integer, emit_unsigned};
use crate::{Error, Level, Path, Target, Value};

/// The labels of values, in which the two formats differ.
pub(super) struct Labels {
    text: &'static str,
    boolean: &'static str,
    link: &'static str,
    /// Of opaques; base64 under the label of texts where there is none.
    data: Option<&'static str>,
    /// What would change the meaning of other fields: a base value, a base sum, a sum.
    refused: &'static [&'static str],
}

/// Those of SenML.
const SENML: Labels =
    Labels { text: "vs", boolean: "vb", link: "vlo", data: Some("vd"), refused: &["bv", "bs", "s"] };

/// Those of the JSON of LwM2M 1.0.
pub(super) const OMA: Labels = Labels { text: "sv", boolean: "bv", link: "ov", data: None, refused: &[] };

/// Encodes what is at and below the target, as a pack whose base name is the target.
pub(super) fn encode(target: &Target<'_>, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    sink.write(b"[")?;
    let mut first = true;
    source.visit(target.path, &mut |path, leaf| {
        if !leaf.has_record(path) {
            return Ok(());
        }
        let below = path.ids().get(target.path.ids().len()..).unwrap_or_default();
        if core::mem::take(&mut first) {
            sink.write(b"{\"bn\":\"")?;
            emit_base(target, !below.is_empty(), &mut Escaping(sink))?;
            sink.write(b"\",")?;
        } else {
            sink.write(b",{")?;
        }
        emit_fields(&SENML, below, leaf, sink)
    })?;
    Ok(sink.write(b"]")?)
}

/// Copies a pack as [`encode`] writes it, with a base time of so many seconds ago.
pub(super) fn emit_aged(payload: &[u8], seconds: i64, sink: &mut dyn Sink) -> Result<(), Full> {
    // An empty pack says nothing of any time.
    let Some(fields) = payload.strip_prefix(b"[{") else { return sink.write(payload) };
    sink.write(b"[{\"bt\":")?;
    emit_integer(seconds.saturating_neg(), sink)?;
    sink.write(b",")?;
    sink.write(fields)
}

/// Encodes names without values.
pub(super) fn encode_names(prefix: Option<&str>, paths: &[Path], sink: &mut dyn Sink) -> Result<(), Full> {
    sink.write(b"[")?;
    for (index, path) in paths.iter().enumerate() {
        sink.write(if index == 0 { b"{\"n\":\"" } else { b",{\"n\":\"" })?;
        Target { prefix, path: *path }.emit(&mut Escaping(sink))?;
        sink.write(b"\"}")?;
    }
    sink.write(b"]")
}

/// Writes name and value, and the end of a record.
pub(super) fn emit_fields(
    labels: &Labels,
    name: &[u16],
    leaf: Leaf<'_>,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    if !name.is_empty() {
        sink.write(b"\"n\":\"")?;
        emit_name(name, sink)?;
        sink.write(b"\",")?;
    }
    let value = match leaf {
        Leaf::Value(value) | Leaf::Dated(_, value) => Some(value),
        Leaf::Chunks(_) => None,
        // LwM2M Core 1.2.1 §7.4.6: null is in the place of what goes.
        Leaf::Empty => return Ok(sink.write(b"\"v\":null}")?),
    };
    let label = match value {
        Some(Value::Integer(_) | Value::Time(_) | Value::Unsigned(_) | Value::Float(_)) => "v",
        Some(Value::String(_) | Value::CoreLink(_)) => labels.text,
        Some(Value::Boolean(_)) => labels.boolean,
        Some(Value::ObjectLink(_)) => labels.link,
        Some(Value::Opaque(_)) | None => labels.data.unwrap_or(labels.text),
    };
    emit_text(label, sink)?;
    sink.write(b":")?;
    let alphabet = if labels.data.is_some() { UNPADDED } else { PADDED };
    match leaf {
        Leaf::Value(value) | Leaf::Dated(_, value) => match value {
            Value::Integer(value) | Value::Time(value) => emit_integer(value, sink)?,
            Value::Unsigned(value) => emit_unsigned(value, sink)?,
            Value::Float(value) if value.is_finite() => emit_float(value, sink)?,
            // RFC 8259 §6: JSON has no such number.
            Value::Float(_) => return Err(Error::NotAcceptable),
            Value::String(text) | Value::CoreLink(text) => emit_text(text, sink)?,
            Value::Boolean(value) => sink.write(if value { b"true" } else { b"false" })?,
            Value::Opaque(bytes) => {
                sink.write(b"\"")?;
                emit_base64(alphabet, bytes, sink)?;
                sink.write(b"\"")?;
            }
            Value::ObjectLink(link) => {
                sink.write(b"\"")?;
                emit_object_link(link, sink)?;
                sink.write(b"\"")?;
            }
        },
        Leaf::Chunks(chunks) => {
            sink.write(b"\"")?;
            chunks.try_for_each(&mut |chunk| Ok(emit_base64(alphabet, chunk, sink)?))?;
            sink.write(b"\"")?;
        }
        Leaf::Empty => {}
    }
    if let Leaf::Dated(time, _) = leaf {
        sink.write(b",\"t\":")?;
        emit_integer(time, sink)?;
    }
    Ok(sink.write(b"}")?)
}

/// Walks the records of a pack.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    labels: &'static Labels,
    pack: Pack,
    prefix: Option<&'a str>,
    /// What names are relative to, where no base name says it.
    outer: Option<Path>,
    base: Text<'a>,
    base_time: f64,
    json: Reader<'a>,
    is_over: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(pack: Pack, prefix: Option<&'a str>, payload: &'a str) -> Result<Self, Error> {
        let mut json = Reader(payload);
        if !json.take('[') {
            return Err(Error::BadRequest);
        }
        let is_over = json.take(']');
        let (base, base_time) = (Text::EMPTY, 0.0);
        Ok(Self { labels: &SENML, pack, prefix, outer: None, base, base_time, json, is_over })
    }

    /// Reads the entries of an array whose bracket was taken.
    pub(super) fn of_entries(
        target: &Target<'a>,
        (base, base_time): (Option<Text<'a>>, f64),
        mut entries: Reader<'a>,
    ) -> Self {
        let outer = if base.is_none() { Some(target.path) } else { None };
        let base = base.unwrap_or(Text::EMPTY);
        let is_over = entries.take(']');
        Self {
            labels: &OMA,
            pack: Pack::Values,
            prefix: target.prefix,
            outer,
            base,
            base_time,
            json: entries,
            is_over,
        }
    }

    pub(super) fn next(&mut self) -> Option<Result<Item<'a>, Error>> {
        while !self.is_over {
            let record = self.record();
            self.is_over = !self.json.take(',');
            if self.is_over && !self.json.take(']') {
                return Some(Err(Error::BadRequest));
            }
            match record {
                Some(None) => {}
                Some(Some(item)) => return Some(Ok(item)),
                None => return Some(Err(Error::BadRequest)),
            }
        }
        // A SenML payload is one pack; behind the entries of the other format there is more, which was read before.
        let is_whole = self.labels.data.is_none() || self.json.is_at_end();
        (!is_whole).then_some(Err(Error::BadRequest))
    }

    /// Reads one record; one with base fields only yields no item. Nothing for what is malformed.
    fn record(&mut self) -> Option<Option<Item<'a>>> {
        let (json, labels) = (&mut self.json, self.labels);
        let (mut name, mut time, mut found) = (None, 0.0, None);
        if !json.take('{') {
            return None;
        }
        let mut is_more = !json.take('}');
        while is_more {
            let label = json.name()?;
            let value = if label.is("v") {
                let is_gone = self.pack == Pack::Patch && json.take_null();
                Some(if is_gone { Raw::Empty } else { Raw::Value(json.number()?) })
            } else if label.is(labels.text) {
                let text = json.text()?;
                Some(match (labels.data, text.plain()) {
                    (Some(_), Some(text)) => Raw::Value(Value::String(text)),
                    (Some(_), None) => Raw::Escaped(text.0),
                    (None, _) => Raw::Quoted(text.0),
                })
            } else if label.is(labels.boolean) {
                Some(Raw::Value(Value::Boolean(json.boolean()?)))
            } else if label.is(labels.link) {
                Some(Raw::Value(Value::ObjectLink(parse_object_link(json.text()?.plain()?)?)))
            } else if labels.data.is_some_and(|data| label.is(data)) {
                Some(Raw::Base64(json.text()?.0))
            } else {
                if label.is("n") && name.is_none() {
                    name = Some(json.text()?);
                } else if label.is("bn") && labels.data.is_some() {
                    self.base = json.text()?;
                } else if label.is("t") {
                    time = json.number()?.number()?;
                } else if label.is("bt") && labels.data.is_some() {
                    self.base_time = json.number()?.number()?;
                } else if label.is("n") || labels.refused.iter().any(|refused| label.is(refused)) {
                    return None;
                } else if label.is("bver") && labels.data.is_some() {
                    // RFC 8428 §4.4: of a later version nothing is known.
                    let Value::Integer(..=VERSION) = json.number()? else { return None };
                } else if labels.data.is_some() && label.characters().last() == Some('_') {
                    // RFC 8428 §4.4: what is unknown is ignored, but for such a label.
                    return None;
                } else {
                    json.skip()?;
                }
                None
            };
            if value.is_some() && core::mem::replace(&mut found, value).is_some() {
                return None;
            }
            is_more = json.take(',');
            if !is_more && !json.take('}') {
                return None;
            }
        }
        let is_base = || name.is_none() && (self.base.0.is_empty() || self.base.0.ends_with('/'));
        let raw = match found {
            Some(_) if self.pack == Pack::Fetch => return None,
            None if self.pack.is_of_names() && !is_base() => Raw::Empty,
            None if name.is_none() => return Some(None),
            None => return None,
            Some(raw) => raw,
        };
        let path = self.path(name.unwrap_or(Text::EMPTY))?;
        let is_whole = path.level() >= Level::Resource || self.pack.is_of_names();
        is_whole.then_some(Some(Item { path, raw, times: [self.base_time, time] }))
    }

    /// What the base name alone names.
    pub(super) fn base(&self) -> Option<Path> {
        if self.base == Text::EMPTY { None } else { self.path(Text::EMPTY) }
    }

    fn path(&self, name: Text<'a>) -> Option<Path> {
        match self.outer.filter(|_| name.characters().next() != Some('/')) {
            None => parse_name(self.prefix, self.base.bytes().chain(name.bytes())),
            Some(outer) => {
                let below = parse_name(None, core::iter::once(b'/').chain(name.bytes()))?;
                below.ids().iter().try_fold(outer, |path, id| path.child(*id))
            }
        }
    }
}
