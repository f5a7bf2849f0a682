//! Definitions of objects: the types of values where a payload does not tell them, and what an operator may look up.
//!
//! There are those built into this server, those that were added to a running one and are in its store, and those of the folder that
//! the configuration names; of the same object and version the latter win. Several versions of an object stand beside each other,
//! and the version that a device registered chooses ([`Models::find`]).
//!
//! Invariants: what is in use is never changed, only replaced as a whole ([`Catalog`]), so that those who decode share it without a
//! lock; what all definitions take is bounded.

mod catalog;
mod names;
mod versions;
mod xml;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lwm2m_objects::{Kind, Operations, Version, defs};

pub use catalog::{Catalog, NotAdded};
pub(crate) use versions::Versions;
pub use xml::{Invalid, LONGEST, parse};

/// Definitions that a server may have.
const MOST: usize = 4096;
/// Bytes that the XML of all definitions may take. What is kept of it in memory is no more.
const MOST_BYTES: usize = 64 << 20;

/// The definition of one version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The object's identifier.
    pub id: u16,
    /// Its version.
    pub version: Version,
    /// The least version of LwM2M that has it.
    pub enabler: Version,
    /// Its name.
    pub name: Box<str>,
    /// Whether it may have several instances.
    pub multiple: bool,
    /// Whether every client has it.
    pub mandatory: bool,
    /// Its resources, ascending by identifier.
    pub resources: Box<[Resource]>,
}

/// The definition of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The resource's identifier.
    pub id: u16,
    /// Its name; empty where it is not known here.
    pub name: Box<str>,
    /// What servers may do with it.
    pub operations: Operations,
    /// Whether it has resource instances.
    pub multiple: bool,
    /// Whether every instance has it.
    pub mandatory: bool,
    /// Its data type.
    pub kind: Kind,
    /// The values that it may have, in the words of whoever defined it.
    pub range: Box<str>,
    /// Its unit.
    pub units: Box<str>,
}

impl Model {
    /// Finds a resource.
    #[must_use]
    pub fn resource(&self, id: u16) -> Option<&Resource> {
        let at = self.resources.binary_search_by_key(&id, |resource| resource.id).ok()?;
        self.resources.get(at)
    }
}

/// Where a definition comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is part of this server.
    BuiltIn,
    /// It was added to the running server.
    Added,
    /// A file of the folder that the configuration names.
    File(PathBuf),
}

/// A definition in use.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says.
    pub model: Arc<Model>,
    /// Where it comes from.
    pub source: Source,
    /// How many bytes its XML takes.
    size: usize,
}

impl Entry {
    const fn key(model: &Model) -> (u16, Version) {
        (model.id, model.version)
    }
}

/// All definitions that are in use together, ascending by object and version.
#[derive(Clone, Debug)]
pub struct Models(Vec<Entry>);

/// Why a folder of definitions is not used.
#[derive(Debug)]
pub enum NotLoaded {
    /// The folder or a file of it cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// A file is no definition.
    Invalid(PathBuf, Invalid),
    /// Two files define the same version of an object.
    Twice([PathBuf; 2], u16, Version),
    /// There are too many, or they take too much.
    TooMany(PathBuf),
}

impl core::fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "object definitions: {} cannot be read: {error}", path.display())
            }
            Self::Invalid(path, Invalid { line, what }) => {
                write!(f, "object definitions: {}:{line}: {what}", path.display())
            }
            Self::Twice([one, other], id, Version { major, minor }) => write!(
                f,
                "object definitions: {} and {} both define object {id} version {major}.{minor}: remove one",
                one.display(),
                other.display()
            ),
            Self::TooMany(path) => write!(
                f,
                "object definitions: with {} there are more than {MOST} of them, or more than {} MiB",
                path.display(),
                MOST_BYTES >> 20
            ),
        }
    }
}

impl core::error::Error for NotLoaded {}

impl Default for Models {
    fn default() -> Self {
        Self::built_in()
    }
}

impl Models {
    /// Those that are part of this server.
    #[must_use]
    pub fn built_in() -> Self {
        let resource = |resource: &lwm2m_objects::ResourceDef| Resource {
            id: resource.id,
            name: "".into(),
            operations: resource.operations,
            multiple: resource.multiple,
            mandatory: resource.mandatory,
            kind: resource.kind,
            range: "".into(),
            units: "".into(),
        };
        let entry = |definition: &&lwm2m_objects::ObjectDef| Entry {
            model: Arc::new(Model {
                id: definition.id,
                version: definition.version,
                enabler: Version::new(1, 0),
                name: names::name(definition.id).into(),
                multiple: definition.multiple,
                mandatory: definition.mandatory,
                resources: definition.resources.iter().map(resource).collect(),
            }),
            source: Source::BuiltIn,
            size: 0,
        };
        Self(defs::ALL.iter().map(entry).collect())
    }

    /// These with every `*.xml` of a folder, whose definitions take the places of others.
    ///
    /// # Errors
    /// The first file, by name, that cannot be used; then nothing is.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, NotLoaded> {
        let unreadable = |error| NotLoaded::Unreadable(folder.to_owned(), error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")) {
                if files.len() >= MOST {
                    return Err(NotLoaded::TooMany(path));
                }
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let xml = read(&path).map_err(|error| NotLoaded::Unreadable(path.clone(), error))?;
            let models = parse(&xml).map_err(|invalid| NotLoaded::Invalid(path.clone(), invalid))?;
            // Each object of a file has its share.
            let size = xml.len().div_ceil(models.len().max(1));
            for model in models {
                if let Some(Source::File(other)) = self.exactly(model.id, model.version).map(|e| &e.source) {
                    let (id, version) = Entry::key(&model);
                    return Err(NotLoaded::Twice([other.clone(), path], id, version));
                }
                if !self.put(model, Source::File(path.clone()), size) {
                    return Err(NotLoaded::TooMany(path));
                }
            }
        }
        Ok(self)
    }

    /// Takes a definition in, in the place of one of the same object and version. `false` when there is no room for it.
    fn put(&mut self, model: Model, source: Source, size: usize) -> bool {
        let place = self.0.binary_search_by_key(&Entry::key(&model), |entry| Entry::key(&entry.model));
        let former = place.ok().and_then(|at| self.0.get(at)).map_or(0, |entry| entry.size);
        let bytes = self.0.iter().map(|entry| entry.size).sum::<usize>().saturating_sub(former);
        let has_room = bytes.saturating_add(size) <= MOST_BYTES && (place.is_ok() || self.0.len() < MOST);
        if has_room {
            let entry = Entry { model: Arc::new(model), source, size };
            match place {
                Ok(at) => self.0.splice(at..=at, [entry]).for_each(drop),
                Err(at) => self.0.insert(at, entry),
            }
        }
        has_room
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Those of one object, the oldest version first.
    #[must_use]
    pub fn versions(&self, object: u16) -> &[Entry] {
        let from = self.0.partition_point(|entry| entry.model.id < object);
        let to = self.0.partition_point(|entry| entry.model.id <= object);
        self.0.get(from..to).unwrap_or_default()
    }

    /// The definition of exactly this version.
    #[must_use]
    pub fn exactly(&self, object: u16, version: Version) -> Option<&Entry> {
        let key = (object, version);
        let at = self.0.binary_search_by_key(&key, |entry| Entry::key(&entry.model)).ok()?;
        self.0.get(at)
    }

    /// The definition that tells most of this version: its own, else the next newer one of the same major version, which has all that
    /// it has, else the newest of those before it.
    #[must_use]
    pub fn find(&self, object: u16, version: Version) -> Option<&Entry> {
        let versions = self.versions(object);
        let next = versions.partition_point(|entry| entry.model.version < version);
        let is_kin = |entry: &&Entry| entry.model.version.major == version.major;
        let before = || versions.get(next.checked_sub(1)?);
        versions.get(next).filter(is_kin).or_else(|| before().filter(is_kin))
    }

    /// The type of a resource.
    #[must_use]
    pub fn kind(&self, object: u16, version: Version, resource: u16) -> Option<Kind> {
        Some(self.find(object, version)?.model.resource(resource)?.kind)
    }
}

/// Reads a file, and no more of it than may be in one.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(1);
    let mut xml = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut xml)?;
    Ok(xml)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn object(id: usize) -> String {
        format!(
            "<Object><Name>Tank</Name><ObjectID>{id}</ObjectID><MultipleInstances>Single</MultipleInstances>\
             <Mandatory>Optional</Mandatory><Resources></Resources></Object>"
        )
    }

    #[test]
    fn a_file_of_many_objects_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let objects: String = (40_000..40_100).map(object).collect();
        let padding = " ".repeat(700 << 10);
        std::fs::write(folder.path().join("all.xml"), format!("<LWM2M>{objects}{padding}</LWM2M>")).unwrap();
        let models = Models::built_in().with_folder(folder.path()).unwrap();
        assert_eq!(models.iter().filter(|entry| entry.source != Source::BuiltIn).count(), 100);
    }

    #[test]
    fn a_replacement_counts_instead_of_what_it_replaces() {
        let mut models = Models::built_in();
        let model = |id| parse(format!("<LWM2M>{}</LWM2M>", object(id)).as_bytes()).unwrap().remove(0);
        assert!(models.put(model(40_000), Source::Added, MOST_BYTES));
        assert!(!models.put(model(40_001), Source::Added, 1));
        assert!(!models.put(model(40_000), Source::Added, MOST_BYTES + 1));
        assert!(models.put(model(40_000), Source::Added, MOST_BYTES - 1));
        assert!(models.put(model(40_001), Source::Added, 1));
    }
}
