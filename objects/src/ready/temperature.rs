//! Temperature (`/3303`), with the single instance 0 (OMA registry, 3303 version 1.1).
//!
//! Invariant: minimum and maximum are those since the start or the last reset.

use crate::{Arguments, At, Completion, Error, Object, ObjectDef, Value, defs};

/// A temperature sensor.
#[derive(Clone, Debug)]
pub struct Temperature {
    value: f64,
    least: f64,
    greatest: f64,
    /// The unit, such as `Cel`; empty for none.
    pub units: &'static str,
}

impl Temperature {
    /// A sensor that measures degrees Celsius, and has measured this.
    pub const fn new(celsius: f64) -> Self {
        Self { value: celsius, least: celsius, greatest: celsius, units: "Cel" }
    }

    /// Takes a measurement, and tells whether it differs from the last. Then tell the client that `/3303/0/5700` changed.
    pub fn measured(&mut self, value: f64) -> bool {
        let changed = self.value != value;
        self.value = value;
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        changed
    }

    /// Returns the last measurement.
    pub const fn value(&self) -> f64 {
        self.value
    }
}

impl Object for Temperature {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match at.resource {
            5601 => Some(Value::Float(self.least)),
            5602 => Some(Value::Float(self.greatest)),
            5700 => Some(Value::Float(self.value)),
            5701 if !self.units.is_empty() => Some(Value::String(self.units)),
            _ => None,
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        resource == 5605 || self.read(At { instance, resource, resource_instance: 0 }).is_some()
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        if resource != 5605 {
            return Err(Error::MethodNotAllowed);
        }
        (self.least, self.greatest) = (self.value, self.value);
        Ok(Completion::Done)
    }
}
