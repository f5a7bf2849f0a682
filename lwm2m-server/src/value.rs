//! An owned value of a resource (LwM2M Core 1.2.1 §C data types), for callers that outlive the datagram it came in.

/// The value of one resource or resource instance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// UTF-8 text.
    String(String),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer (LwM2M 1.1).
    Unsigned(u64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Bytes without a further meaning; also what a TLV value of an unknown resource becomes.
    Opaque(Vec<u8>),
    /// Seconds since 1970-01-01 UTC, negative before it.
    Time(i64),
    /// Object id and object instance id of another object instance.
    ObjectLink(u16, u16),
    /// CoRE link-format text (LwM2M 1.1).
    CoreLink(String),
}
