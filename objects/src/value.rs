//! Typed values of resources (LwM2M Core 1.2.1 Appendix C).
//!
//! Invariant: a value never shows the bytes of an opaque in `Debug`: it may be a key.

use core::fmt;

use crate::float;

/// The data type of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// UTF-8 text.
    String,
    /// A signed integer of up to 64 bits.
    Integer,
    /// An unsigned integer of up to 64 bits (1.1).
    Unsigned,
    /// A 32- or 64-bit IEEE 754 number.
    Float,
    /// True or false.
    Boolean,
    /// Bytes.
    Opaque,
    /// Seconds since 1970-01-01T00:00:00Z.
    Time,
    /// A reference to an object instance.
    ObjectLink,
    /// A list of links in link-format (1.1).
    CoreLink,
    /// No value: the resource is executed.
    Nothing,
}

impl Kind {
    /// Tells whether `gt`, `lt` and `st` apply (LwM2M Core 1.2.1 §5.1.2).
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::Unsigned | Self::Float)
    }
}

/// A value of a resource or of one resource instance, borrowed from whoever holds it.
#[derive(Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// UTF-8 text.
    String(&'a str),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A floating-point number; written with 32 bits where that loses nothing.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Bytes.
    Opaque(&'a [u8]),
    /// Seconds since 1970-01-01T00:00:00Z.
    Time(i64),
    /// A reference to an object instance.
    ObjectLink(ObjectLink),
    /// Links in link-format.
    CoreLink(&'a str),
}

impl Value<'_> {
    /// Returns the data type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::String(_) => Kind::String,
            Self::Integer(_) => Kind::Integer,
            Self::Unsigned(_) => Kind::Unsigned,
            Self::Float(_) => Kind::Float,
            Self::Boolean(_) => Kind::Boolean,
            Self::Opaque(_) => Kind::Opaque,
            Self::Time(_) => Kind::Time,
            Self::ObjectLink(_) => Kind::ObjectLink,
            Self::CoreLink(_) => Kind::CoreLink,
        }
    }

    /// Returns the number that notification thresholds are compared with.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Integer(value) => Some(float::from_integer(value)),
            Self::Unsigned(value) => Some(float::from_unsigned(value)),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "String({text:?})"),
            Self::Integer(value) => write!(f, "Integer({value})"),
            Self::Unsigned(value) => write!(f, "Unsigned({value})"),
            Self::Float(value) => write!(f, "Float({value:?})"),
            Self::Boolean(value) => write!(f, "Boolean({value})"),
            Self::Opaque(bytes) => write!(f, "Opaque({} bytes)", bytes.len()),
            Self::Time(value) => write!(f, "Time({value})"),
            Self::ObjectLink(link) => write!(f, "ObjectLink({}:{})", link.object, link.instance),
            Self::CoreLink(text) => write!(f, "CoreLink({text:?})"),
        }
    }
}

/// A reference to an object instance; `65535:65535` refers to nothing, `object:65535` to the whole object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObjectLink {
    /// The object.
    pub object: u16,
    /// The instance.
    pub instance: u16,
}

impl ObjectLink {
    /// Refers to nothing.
    pub const NULL: Self = Self { object: 0xffff, instance: 0xffff };
}
