//! What an object consists of: the table of its resources (LwM2M Core 1.2.1 §7.1, Appendix D).
//!
//! Invariant: a table is constant data; its resources ascend by identifier.

use core::cmp::Ordering;

use crate::{Kind, Value, float};

/// The definition of an object. Made by [`object!`](crate::object!).
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectDef {
    /// The object's identifier.
    pub id: u16,
    /// Its version.
    pub version: Version,
    /// Whether it may have several instances.
    pub multiple: bool,
    /// Whether every client has it.
    pub mandatory: bool,
    /// Its resources, ascending by identifier.
    pub resources: &'static [ResourceDef],
}

impl ObjectDef {
    /// Finds a resource.
    pub fn resource(&self, id: u16) -> Option<&'static ResourceDef> {
        self.resources.iter().find(|resource| resource.id == id)
    }
}

/// Version of an object definition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Version {
    /// Raised by a change that breaks.
    pub major: u8,
    /// Raised by an addition.
    pub minor: u8,
}

impl Version {
    /// Constructs a version.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Parses `1.1`; returns nothing for what is not two decimal numbers below 256.
    pub const fn parse(text: &str) -> Option<Self> {
        let Some((major, rest)) = number(text.as_bytes()) else { return None };
        let [b'.', rest @ ..] = rest else { return None };
        let Some((minor, [])) = number(rest) else { return None };
        Some(Self { major, minor })
    }

    /// What [`object!`](crate::object!) calls: a wrong literal does not compile.
    #[doc(hidden)]
    #[expect(clippy::panic, reason = "evaluated by the compiler only")]
    pub const fn literal(text: &str) -> Self {
        match Self::parse(text) {
            Some(version) => version,
            None => panic!("not a version as in 1.0"),
        }
    }
}

const fn number(mut text: &[u8]) -> Option<(u8, &[u8])> {
    let mut number: Option<u8> = None;
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        let tens = match number {
            None => Some(0),
            Some(number) => number.checked_mul(10),
        };
        let Some(tens) = tens else { return None };
        number = tens.checked_add(digit.wrapping_sub(b'0'));
        if number.is_none() {
            return None;
        }
        text = rest;
    }
    match number {
        Some(number) => Some((number, text)),
        None => None,
    }
}

/// The definition of a resource.
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceDef {
    /// The resource's identifier.
    pub id: u16,
    /// Its data type.
    pub kind: Kind,
    /// What servers may do with it; nothing for resources of the bootstrap interface only.
    pub operations: Operations,
    /// Whether it has resource instances.
    pub multiple: bool,
    /// Whether every instance has it.
    pub mandatory: bool,
    /// The least and the greatest value, or length in bytes; `i32::MIN` and `i32::MAX` for no limit.
    pub range: (i32, i32),
}

impl ResourceDef {
    /// Tells whether a value is of the resource's type and in its range. Text and bytes are measured by their length.
    pub fn holds(&self, value: &Value<'_>) -> bool {
        let (least, greatest) = self.range;
        if value.kind() != self.kind || (least, greatest) == (i32::MIN, i32::MAX) {
            return value.kind() == self.kind;
        }
        let within = |value: i64| {
            let above = greatest != i32::MAX && value > i64::from(greatest);
            !above && (least == i32::MIN || value >= i64::from(least))
        };
        match *value {
            Value::Integer(value) | Value::Time(value) => within(value),
            Value::Unsigned(value) => within(i64::try_from(value).unwrap_or(i64::MAX)),
            Value::Float(value) => {
                let compared = |bound: i32| float::compare(value, float::from_integer(bound.into()));
                compared(least).is_some_and(Ordering::is_ge)
                    && compared(greatest).is_some_and(Ordering::is_le)
            }
            Value::String(text) | Value::CoreLink(text) => i64::try_from(text.len()).is_ok_and(within),
            Value::Opaque(bytes) => i64::try_from(bytes.len()).is_ok_and(within),
            Value::Boolean(_) | Value::ObjectLink(_) => true,
        }
    }
}

/// What a server may do with a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations(u8);

impl Operations {
    /// Nothing: only the bootstrap interface reaches it.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const R: Self = Self(1);
    /// Write.
    pub const W: Self = Self(2);
    /// Read and write.
    pub const RW: Self = Self(3);
    /// Execute.
    pub const E: Self = Self(4);

    /// Tells whether it can be read.
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Tells whether it can be written.
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Tells whether it can be executed.
    pub const fn is_executable(self) -> bool {
        self.0 & 4 != 0
    }
}

/// Makes an [`ObjectDef`](crate::ObjectDef) from lines in the registry's notation: identifier; operations (`R`, `W`,
/// `RW`, `E`, or `-` for the bootstrap interface only); `S`ingle or `M`ultiple; `M`andatory or `O`ptional;
/// [`Kind`](crate::Kind); and where it is limited, least and greatest value (or length).
///
/// ```
/// lwm2m_objects::object! {
///     /// A lamp.
///     pub LAMP = 3311 version 1.0, multiple, optional {
///         5850 RW S M Boolean;
///         5851 RW S O Integer in 0, 100;
///     }
/// }
/// assert_eq!(LAMP.resource(5851).unwrap().range, (0, 100));
/// ```
#[macro_export]
macro_rules! object {
    ($(#[$doc:meta])* $visibility:vis $name:ident = $id:literal version $version:literal, $instances:ident, $presence:ident {
        $($resource:literal $operations:tt $several:tt $needed:tt $kind:ident $(in $least:expr, $greatest:expr)?;)*
    }) => {
        $(#[$doc])*
        $visibility static $name: $crate::ObjectDef = $crate::ObjectDef {
            id: $id,
            version: $crate::Version::literal(stringify!($version)),
            multiple: $crate::object!(@several $instances),
            mandatory: $crate::object!(@needed $presence),
            resources: &[$($crate::ResourceDef {
                id: $resource,
                kind: $crate::Kind::$kind,
                operations: $crate::object!(@operations $operations),
                multiple: $crate::object!(@several $several),
                mandatory: $crate::object!(@needed $needed),
                range: $crate::object!(@range $($least, $greatest)?),
            }),*],
        };
    };
    (@several S) => { false };
    (@several M) => { true };
    (@several single) => { false };
    (@several multiple) => { true };
    (@needed M) => { true };
    (@needed O) => { false };
    (@needed mandatory) => { true };
    (@needed optional) => { false };
    (@operations -) => { $crate::Operations::NONE };
    (@operations R) => { $crate::Operations::R };
    (@operations W) => { $crate::Operations::W };
    (@operations RW) => { $crate::Operations::RW };
    (@operations E) => { $crate::Operations::E };
    (@range) => { (i32::MIN, i32::MAX) };
    (@range $least:expr, $greatest:expr) => { ($least, $greatest) };
}
