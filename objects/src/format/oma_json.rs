//! The JSON of LwM2M 1.0 (LwM2M 1.0 §6.4.4): one base name, and an array of entries below it.
//!
//! Invariant: the object around the entries is read whole before the first of them.

use lwm2m_coap::Sink;

use super::json::{Escaping, Reader};
use super::senml::emit_base;
use super::senml_json::{Decoder, OMA, emit_fields};
use super::{Leaf, Source};
use crate::{Error, Target};

/// Encodes what is at and below the target, with the target as base name.
pub(super) fn encode(target: &Target<'_>, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut first = true;
    let mut begin = |slash: bool, sink: &mut dyn Sink| -> Result<(), Error> {
        if !core::mem::take(&mut first) {
            return Ok(sink.write(b",{")?);
        }
        sink.write(b"{\"bn\":\"")?;
        emit_base(target, slash, &mut Escaping(sink))?;
        Ok(sink.write(b"\",\"e\":[{")?)
    };
    source.visit(target.path, &mut |path, leaf| {
        if matches!(leaf, Leaf::Empty) {
            return Ok(());
        }
        let below = path.ids().get(target.path.ids().len()..).unwrap_or_default();
        begin(!below.is_empty(), sink)?;
        emit_fields(&OMA, below, leaf, sink)
    })?;
    if first {
        sink.write(b"{\"e\":[")?;
    }
    Ok(sink.write(b"]}")?)
}

/// Finds base name and entries, in whatever order they come.
pub(super) fn decoder<'a>(target: &Target<'a>, payload: &'a str) -> Option<Decoder<'a>> {
    let mut json = Reader(payload);
    let (mut base, mut base_time, mut entries) = (None, 0.0, None);
    if !json.take('{') {
        return None;
    }
    let mut is_more = !json.take('}');
    while is_more {
        let label = json.name()?;
        if label.is("bn") && base.is_none() {
            base = Some(json.text()?);
        } else if label.is("bt") {
            base_time = json.number()?.number()?;
        } else if label.is("e") && entries.is_none() {
            let mut array = json;
            json.skip()?;
            entries = Some(array.take('[').then_some(array)?);
        } else if label.is("bn") || label.is("e") {
            return None;
        } else {
            json.skip()?;
        }
        is_more = json.take(',');
        if !is_more && !json.take('}') {
            return None;
        }
    }
    json.is_at_end().then_some(Decoder::of_entries(target, (base, base_time), entries?))
}
