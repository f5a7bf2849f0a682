//! What SenML has in every format: names of records (RFC 8428 §4.5.1, LwM2M Core 1.2.1 §7.4.4), and what a pack is for.
//!
//! Invariant: base name and name together are the full path of what a record is about.

use lwm2m_coap::{Full, Sink};

use crate::path::PathParser;
use crate::{Path, Target};

/// The version of SenML (RFC 8428 §4.4).
pub(super) const VERSION: i64 = 10;

/// What a pack is for, which decides what its records hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pack {
    /// A value in each.
    Values,
    /// Names of what is wanted. A value means nothing.
    Names,
    /// The same, where a value is an error (RFC 8790 §3.1).
    Fetch,
    /// A value in each, or null for what is to go (RFC 8790 §3.2).
    Patch,
}

impl Pack {
    pub(super) const fn is_of_names(self) -> bool {
        matches!(self, Self::Names | Self::Fetch)
    }
}

/// Writes the base name: the target, with a slash behind it when names follow.
pub(super) fn emit_base(target: &Target<'_>, slash: bool, sink: &mut dyn Sink) -> Result<(), Full> {
    target.emit(sink)?;
    let is_slash = target.prefix.is_none() && target.path == Path::ROOT;
    if slash && !is_slash { sink.write(b"/") } else { Ok(()) }
}

/// Writes a name relative to the base: `0/5700`.
pub(super) fn emit_name(ids: &[u16], sink: &mut dyn Sink) -> Result<(), Full> {
    ids.iter().enumerate().try_for_each(|(index, id)| {
        if index > 0 {
            sink.write(b"/")?;
        }
        crate::decimal::emit_unsigned(u64::from(*id), sink)
    })
}

/// Leaves out the prefix of a whole name and parses the rest.
pub(super) fn parse_name(prefix: Option<&str>, characters: impl Iterator<Item = u8> + Clone) -> Option<Path> {
    let mut skipped = 0;
    if let Some(prefix) = prefix {
        let before = || core::iter::once(b'/').chain(prefix.bytes());
        let length = prefix.len().saturating_add(1);
        let is_here = characters.clone().take(length).eq(before());
        if is_here && characters.clone().nth(length).is_none_or(|next| next == b'/') {
            skipped = length;
        }
    }
    let mut parser = PathParser::new();
    for character in characters.skip(skipped) {
        parser.feed(&[character]).ok()?;
    }
    parser.finish().ok()
}
