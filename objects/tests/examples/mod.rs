//! The values of the examples of LwM2M Core 1.2 that stand there in several formats.

use lwm2m_objects::{Path, Value, path};

/// The Device instance.
pub(crate) const DEVICE: [(Path, Value<'_>); 16] = [
    (path!("/3/0/0"), Value::String("Open Mobile Alliance")),
    (path!("/3/0/1"), Value::String("Lightweight M2M Client")),
    (path!("/3/0/2"), Value::String("345000123")),
    (path!("/3/0/3"), Value::String("1.0")),
    (path!("/3/0/6/0"), Value::Integer(1)),
    (path!("/3/0/6/1"), Value::Integer(5)),
    (path!("/3/0/7/0"), Value::Integer(3800)),
    (path!("/3/0/7/1"), Value::Integer(5000)),
    (path!("/3/0/8/0"), Value::Integer(125)),
    (path!("/3/0/8/1"), Value::Integer(900)),
    (path!("/3/0/9"), Value::Integer(100)),
    (path!("/3/0/10"), Value::Integer(15)),
    (path!("/3/0/11/0"), Value::Integer(0)),
    (path!("/3/0/13"), Value::Time(1_367_491_215)),
    (path!("/3/0/14"), Value::String("+02:00")),
    (path!("/3/0/16"), Value::String("U")),
];
