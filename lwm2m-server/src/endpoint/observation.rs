//! Observations: they belong to an identity and a token, not to an address (RFC 7641; LwM2M Core 1.2.1 §6.4).
//!
//! Invariant: an observation lives as long as the registration it was made in, whatever association the device uses; a
//! Register ends it, an Update does not.

use lwm2m_coap::Token;
use lwm2m_coap::observe::Freshness;
use lwm2m_objects::{Format, Path};
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::operation::ObservationId;

/// An observation that stands.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) id: ObservationId,
    pub(crate) token: Token,
    pub(crate) what: Observed,
    pub(crate) wanted: Wanted,
    /// What is known of the newest notification.
    pub(crate) newest: Freshness,
}

/// What is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    One(Path),
    /// Behind one pointer: there are many observations of one place, and few of several.
    Several(Arc<Vec<Path>>),
}

impl Observed {
    /// What lies at or above all of it: where its values are.
    pub(crate) fn path(&self) -> Path {
        match self {
            Self::One(path) => *path,
            Self::Several(_) => Path::ROOT,
        }
    }

    pub(crate) fn paths(&self) -> &[Path] {
        match self {
            Self::One(path) => core::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }
}

/// The format that was asked for, if one was, in two bytes: there are millions of observations. 65535 is no format (RFC 7252 §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted(Option<NonZeroU16>);

impl Wanted {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self(format.and_then(|Format(number)| NonZeroU16::new(number.checked_add(1)?)))
    }

    pub(crate) fn format(self) -> Option<Format> {
        self.0.map(|number| Format(number.get().saturating_sub(1)))
    }
}
