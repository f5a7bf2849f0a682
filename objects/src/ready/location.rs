//! Location (`/6`), with the single instance 0 (LwM2M Core 1.2.1 Appendix E.7).
//!
//! Invariant: what is not known is not there, but for the mandatory resources.

use crate::{At, Object, ObjectDef, Value, defs};

/// Where the device is.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Location {
    /// 0: degrees, north is positive.
    pub latitude: f64,
    /// 1: degrees, east is positive.
    pub longitude: f64,
    /// 2: metres above the sea.
    pub altitude: Option<f64>,
    /// 3: how far off that may be, in metres.
    pub radius: Option<f64>,
    /// 5: when that was, in seconds since 1970-01-01T00:00:00Z.
    pub timestamp: i64,
    /// 6: metres a second.
    pub speed: Option<f64>,
}

impl Object for Location {
    fn definition(&self) -> &'static ObjectDef {
        &defs::LOCATION
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match at.resource {
            0 => Some(Value::Float(self.latitude)),
            1 => Some(Value::Float(self.longitude)),
            2 => self.altitude.map(Value::Float),
            3 => self.radius.map(Value::Float),
            5 => Some(Value::Time(self.timestamp)),
            6 => self.speed.map(Value::Float),
            _ => None,
        }
    }
}
