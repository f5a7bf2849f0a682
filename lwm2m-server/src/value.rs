//! An owned value of a resource (LwM2M Core 1.2.1 §C data types), for callers that outlive the datagram it came in.

use lwm2m_objects::ObjectLink;

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

impl Value {
    /// The same as a format encodes it.
    pub(crate) fn borrowed(&self) -> lwm2m_objects::Value<'_> {
        match self {
            Self::String(text) => lwm2m_objects::Value::String(text),
            Self::Integer(value) => lwm2m_objects::Value::Integer(*value),
            Self::Unsigned(value) => lwm2m_objects::Value::Unsigned(*value),
            Self::Float(value) => lwm2m_objects::Value::Float(*value),
            Self::Boolean(value) => lwm2m_objects::Value::Boolean(*value),
            Self::Opaque(bytes) => lwm2m_objects::Value::Opaque(bytes),
            Self::Time(value) => lwm2m_objects::Value::Time(*value),
            Self::ObjectLink(object, instance) => {
                lwm2m_objects::Value::ObjectLink(ObjectLink { object: *object, instance: *instance })
            }
            Self::CoreLink(text) => lwm2m_objects::Value::CoreLink(text),
        }
    }
}
