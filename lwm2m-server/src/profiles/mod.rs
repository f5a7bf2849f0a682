//! Bootstrap profiles: under a name and a version what bootstraps write and delete beside, and otherwise than, what the server is
//! configured to.
//!
//! A device follows one version of one profile ([`Credentials::assign`](crate::credentials::Credentials::assign)) with its own values of
//! the [variables](Variables). Its own departures win over the profile, and that over the configuration.
//!
//! Invariants: a version never changes, and none is kept that cannot be carried out; what is in use is never changed, only replaced as a
//! whole, so that a bootstrap looks at it without a lock; what all profiles take is bounded.

mod body;
mod check;
mod filled;
mod variables;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::values::Types;
use crate::{Path, Value};

pub use body::{
    AccessControl, Body, Discover, FurtherSecurity, FurtherServer, Quirks, Right, WriteBy, WriteFormat,
    WriteItem,
};
pub(crate) use check::{Given, is_binding, is_uri};
pub use filled::Filled;
pub use variables::{Secrets, Variables};

/// Names that there may be.
const MOST: usize = 256;
/// Bytes that all versions may take.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that one version may take.
const LONGEST: usize = 64 << 10;

/// What is wrong with a profile, or with what a device has for it, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Fault {
    /// Where in what was given: `servers[0].uri`.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl Fault {
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.what),
            at => write!(f, "{at}: {}", self.what),
        }
    }
}

/// A version of a profile, ready to be carried out.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counts the versions of a name from 1.
    pub number: u32,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What it says.
    pub body: Body,
    deletes: Vec<Path>,
    writes: Vec<Written>,
    /// Variables that are in its texts.
    variables: BTreeSet<String>,
    /// Variables that are its keys.
    secrets: BTreeSet<String>,
    /// How many bytes it takes.
    size: usize,
}

/// What is written at a path.
#[derive(Clone, Debug)]
struct Written {
    path: Path,
    values: Arc<[(Path, Value)]>,
    has_variables: bool,
}

/// How a version is kept.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    created_ms: u64,
    body: Body,
}

impl Version {
    /// A profile that was given, if it can be carried out. `types` are those of all objects that are known, the Short Server ID that of
    /// this server.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn check(body: Body, types: &Types, short_server_id: u16) -> Result<Self, Vec<Fault>> {
        check::check(body, types, short_server_id)
    }

    /// A version that was kept.
    ///
    /// # Errors
    /// Why it cannot be one, in words.
    pub(crate) fn parse(number: u32, record: &[u8]) -> Result<Self, String> {
        let Record { created_ms, body } =
            serde_json::from_slice(record).map_err(|error| error.to_string())?;
        let mut version = Self { number, created_ms, ..Self::check_again(body)? };
        version.size = record.len();
        Ok(version)
    }

    /// Each value says its type since it was checked.
    fn check_again(body: Body) -> Result<Self, String> {
        check::compile(body, &Types::default()).map_err(|faults| in_words(&faults))
    }

    /// The same under a number.
    pub(crate) fn numbered(self, number: u32, created_ms: u64) -> Self {
        Self { number, created_ms, ..self }
    }

    /// As it is kept.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn emit(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Record { created_ms: self.created_ms, body: self.body.clone() })
    }

    /// The variables that a device must have, `endpoint` left out, ascending.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str).filter(|name| *name != variables::ENDPOINT)
    }

    /// The secret variables that a device must have, ascending.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(String::as_str)
    }

    /// Whether a secret variable is needed.
    #[must_use]
    pub fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains(name)
    }
}

/// All faults in one sentence.
pub(crate) fn in_words(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// The profiles of a server: each name with its versions, ascending.
#[derive(Clone, Debug, Default)]
pub struct Profiles(BTreeMap<Arc<str>, Vec<Arc<Version>>>);

impl Profiles {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[Arc<Version>])> {
        self.0.iter().map(|(name, versions)| (name, versions.as_slice()))
    }

    /// The versions of a name, the newest last.
    #[must_use]
    pub fn versions(&self, name: &str) -> &[Arc<Version>] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A version of a name; the newest without a number.
    #[must_use]
    pub fn find(&self, name: &str, number: Option<u32>) -> Option<&Arc<Version>> {
        let versions = self.versions(name);
        match number {
            None => versions.last(),
            Some(number) => versions.iter().find(|version| version.number == number),
        }
    }

    /// Takes in a version that was kept.
    pub(crate) fn add(&mut self, name: &str, version: Version) {
        self.0.entry(name.into()).or_default().push(Arc::new(version));
    }

    /// The same with a version more; `None` when there are as many as there may be.
    pub(crate) fn with(&self, name: &str, version: Version, size: usize) -> Option<Self> {
        let bytes = self.0.values().flatten().map(|version| version.size).sum::<usize>();
        let is_new = !self.0.contains_key(name);
        if bytes.saturating_add(size) > MOST_BYTES || (is_new && self.0.len() >= MOST) {
            return None;
        }
        let mut with = self.clone();
        with.add(name, Version { size, ..version });
        Some(with)
    }

    /// The same without a name.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut without = self.clone();
        without.0.remove(name);
        without
    }
}

/// Whether it may be the name of a profile: 1 to 64 letters, digits, `.`, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
