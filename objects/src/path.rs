//! Paths of the data model, `/object/instance/resource/resource instance` (LwM2M Core 1.2.1 §7.1).
//!
//! Invariant: a path has at most four levels, and what lies beyond its length is zero.

use core::fmt;

use lwm2m_coap::{Full, Sink};

/// The identifier that names nothing (65535, `MAX_ID`). In a Create it stands for an instance whose
/// identifier the client chooses.
pub const UNASSIGNED: u16 = 0xffff;

/// A path of up to four levels. `/` is the root.
///
/// ```
/// use lwm2m_objects::{Path, path};
/// let value = path!("/3303/0/5700");
/// assert_eq!(value.resource_id(), Some(5700));
/// assert!(value.starts_with(Path::object(3303)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path {
    ids: [u16; 4],
    length: u8,
}

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// `/`: the whole data model.
    Root,
    /// `/o`
    Object,
    /// `/o/i`
    Instance,
    /// `/o/i/r`
    Resource,
    /// `/o/i/r/ri`
    ResourceInstance,
}

impl Path {
    /// `/`
    pub const ROOT: Self = Self { ids: [0; 4], length: 0 };

    /// Constructs `/object`.
    pub const fn object(object: u16) -> Self {
        Self { ids: [object, 0, 0, 0], length: 1 }
    }

    /// Constructs `/object/instance`.
    pub const fn instance(object: u16, instance: u16) -> Self {
        Self { ids: [object, instance, 0, 0], length: 2 }
    }

    /// Constructs `/object/instance/resource`.
    pub const fn resource(object: u16, instance: u16, resource: u16) -> Self {
        Self { ids: [object, instance, resource, 0], length: 3 }
    }

    /// Constructs `/object/instance/resource/resource instance`.
    pub const fn resource_instance(
        object: u16,
        instance: u16,
        resource: u16,
        resource_instance: u16,
    ) -> Self {
        Self { ids: [object, instance, resource, resource_instance], length: 4 }
    }

    /// Parses `/3303/0/5700`. The leading slash may be absent, one trailing slash is ignored.
    ///
    /// # Errors
    /// More than four levels, an identifier that is not a decimal number of 0..=65534, an empty level.
    pub const fn parse(text: &str) -> Result<Self, InvalidPath> {
        let mut parser = PathParser::new();
        match parser.feed(text.as_bytes()) {
            Ok(()) => parser.finish(),
            Err(error) => Err(error),
        }
    }

    /// What [`path!`](crate::path!) calls: a wrong literal does not compile.
    #[doc(hidden)]
    #[expect(clippy::panic, reason = "evaluated by the compiler only")]
    pub const fn literal(text: &str) -> Self {
        match Self::parse(text) {
            Ok(path) => path,
            Err(InvalidPath) => panic!("not a path of the data model"),
        }
    }

    /// Returns what the path names.
    pub const fn level(self) -> Level {
        match self.length {
            0 => Level::Root,
            1 => Level::Object,
            2 => Level::Instance,
            3 => Level::Resource,
            _ => Level::ResourceInstance,
        }
    }

    /// Returns the identifiers, one for each level.
    pub fn ids(&self) -> &[u16] {
        self.ids.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Returns the first level.
    pub fn object_id(self) -> Option<u16> {
        self.ids().first().copied()
    }

    /// Returns the second level.
    pub fn instance_id(self) -> Option<u16> {
        self.ids().get(1).copied()
    }

    /// Returns the third level.
    pub fn resource_id(self) -> Option<u16> {
        self.ids().get(2).copied()
    }

    /// Returns the fourth level.
    pub fn resource_instance_id(self) -> Option<u16> {
        self.ids().get(3).copied()
    }

    /// Returns the path one level down, or nothing below a resource instance.
    #[inline(never)]
    pub fn child(mut self, id: u16) -> Option<Self> {
        *self.ids.get_mut(usize::from(self.length))? = id;
        self.length = self.length.saturating_add(1);
        Some(self)
    }

    /// Returns the path one level up; the parent of the root is nothing.
    pub fn parent(mut self) -> Option<Self> {
        self.length = self.length.checked_sub(1)?;
        *self.ids.get_mut(usize::from(self.length))? = 0;
        Some(self)
    }

    /// Tells whether `other` is this path or one above it.
    pub fn starts_with(&self, other: Self) -> bool {
        self.ids().starts_with(other.ids())
    }

    /// Writes `/3303/0/5700`, the root as `/`.
    ///
    /// # Errors
    /// The sink is full.
    pub fn emit(self, sink: &mut dyn Sink) -> Result<(), Full> {
        if self.length == 0 {
            return sink.write(b"/");
        }
        for id in self.ids() {
            sink.write(b"/")?;
            crate::decimal::emit_unsigned(u64::from(*id), sink)?;
        }
        Ok(())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == 0 {
            return f.write_str("/");
        }
        self.ids().iter().try_for_each(|id| write!(f, "/{id}"))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        Self::parse(text)
    }
}

/// The text is not a path of the data model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidPath;

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a path of at most four identifiers below 65535")
    }
}

impl core::error::Error for InvalidPath {}

/// Constructs a [`Path`](crate::Path) from a literal; a wrong one does not compile.
#[macro_export]
macro_rules! path {
    ($text:literal) => {
        const { $crate::Path::literal($text) }
    };
}

/// A path with what may stand in front of it: the alternate path of a client, or the prefix of a device behind a
/// gateway. Operations of the bootstrap interface have none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Target<'a> {
    /// One or more segments without slashes at either end, for example `lwm2m`.
    pub prefix: Option<&'a str>,
    /// The path in the data model.
    pub path: Path,
}

impl Target<'_> {
    /// Writes `/prefix/3303/0/5700`.
    ///
    /// # Errors
    /// The sink is full.
    pub fn emit(&self, sink: &mut dyn Sink) -> Result<(), Full> {
        if let Some(prefix) = self.prefix {
            sink.write(b"/")?;
            sink.write(prefix.as_bytes())?;
            if self.path == Path::ROOT {
                return Ok(());
            }
        }
        self.path.emit(sink)
    }
}

impl From<Path> for Target<'_> {
    fn from(path: Path) -> Self {
        Self { prefix: None, path }
    }
}

/// Reads a path that comes in pieces, as base name and name of a SenML record do.
#[derive(Clone, Copy)]
pub(crate) struct PathParser {
    path: Path,
    /// The level being read; `None` right after a slash or at the start.
    id: Option<u16>,
    started: bool,
}

impl PathParser {
    pub(crate) const fn new() -> Self {
        Self { path: Path::ROOT, id: None, started: false }
    }

    #[expect(clippy::indexing_slicing, reason = "bounded by the loop; slice methods are not const")]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a digit is at most nine, the index is below the length"
    )]
    pub(crate) const fn feed(&mut self, bytes: &[u8]) -> Result<(), InvalidPath> {
        let mut index = 0;
        while index < bytes.len() {
            match bytes[index] {
                digit @ b'0'..=b'9' => {
                    let digit = (digit - b'0') as u16;
                    let id = match self.id {
                        None => Some(digit),
                        // No second way to write a number: `007` is refused.
                        Some(0) => None,
                        Some(id) => match id.checked_mul(10) {
                            Some(id) => id.checked_add(digit),
                            None => None,
                        },
                    };
                    if id.is_none() {
                        return Err(InvalidPath);
                    }
                    self.id = id;
                }
                b'/' => {
                    // `//` names nothing; a slash at the very start does.
                    if self.id.is_none() && self.started {
                        return Err(InvalidPath);
                    }
                    if let Err(error) = self.push() {
                        return Err(error);
                    }
                }
                _ => return Err(InvalidPath),
            }
            self.started = true;
            index += 1;
        }
        Ok(())
    }

    pub(crate) const fn finish(mut self) -> Result<Path, InvalidPath> {
        match self.push() {
            Ok(()) => Ok(self.path),
            Err(error) => Err(error),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the length is compared first; slice methods are not const")]
    #[expect(clippy::arithmetic_side_effects, reason = "the length is below four")]
    const fn push(&mut self) -> Result<(), InvalidPath> {
        let Some(id) = self.id else { return Ok(()) };
        if self.path.length >= 4 || id == UNASSIGNED {
            return Err(InvalidPath);
        }
        self.path.ids[self.path.length as usize] = id;
        self.path.length += 1;
        self.id = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_path_is_parsed_at_every_level() {
        assert_eq!(Path::parse("/"), Ok(Path::ROOT));
        assert_eq!(Path::parse(""), Ok(Path::ROOT));
        assert_eq!(Path::parse("/3"), Ok(Path::object(3)));
        assert_eq!(Path::parse("3/0"), Ok(Path::instance(3, 0)));
        assert_eq!(Path::parse("/3/0/"), Ok(Path::instance(3, 0)));
        assert_eq!(path!("/65534/0/6/65534"), Path::resource_instance(65534, 0, 6, 65534));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "//",
            "/3//0",
            "//3",
            "/3/0//",
            "/65535",
            "/65536",
            "/1/2/3/4/5",
            "/a",
            "/3/ 0",
            "/-1",
            "/03",
            "/00",
        ] {
            assert_eq!(Path::parse(text), Err(InvalidPath), "{text}");
        }
    }

    #[test]
    fn parent_and_child_undo_each_other() {
        let path = path!("/3/0/6/1");
        assert_eq!(path.child(1), None);
        assert_eq!(path.parent().unwrap().child(1), Some(path));
        assert_eq!(path.parent(), Some(path!("/3/0/6")));
        assert_eq!(Path::ROOT.parent(), None);
        assert!(path.starts_with(Path::ROOT) && path.starts_with(path) && !path.starts_with(path!("/3/1")));
        assert!(!path!("/30").starts_with(path!("/3")));
    }
}
