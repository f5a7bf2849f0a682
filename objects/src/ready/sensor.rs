//! A sensor of one number, with the single instance 0 (OMA registry: 3300 to 3305, 3313 to 3330, 3346 and others).
//!
//! Invariant: minimum and maximum are those since the start or the last reset.

use heapless::String;

use crate::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value};

/// A sensor of a number: resources 5700, its extremes (5601, 5602, 5605), its range, its unit and its application type, as far as
/// the definition has them.
///
/// ```
/// use lwm2m_objects::{defs, ready::Sensor};
/// let mut humidity = Sensor::new(&defs::HUMIDITY, "%RH", 40.0).within(0.0, 100.0);
/// assert!(humidity.measured(41.5)); // then `client.changed(path!("/3304/0/5700"))`
/// ```
#[derive(Clone, Debug)]
pub struct Sensor {
    definition: &'static ObjectDef,
    value: f64,
    least: f64,
    greatest: f64,
    range: Option<(f64, f64)>,
    units: &'static str,
    /// 5750: what it is for; empty for nothing. Servers may set it, up to 40 bytes.
    pub application_type: String<40>,
}

impl Sensor {
    /// A sensor that has measured this, in a unit of SenML such as `Cel` (5701); empty for none.
    pub const fn new(definition: &'static ObjectDef, units: &'static str, value: f64) -> Self {
        let application_type = String::new();
        Self { definition, value, least: value, greatest: value, range: None, units, application_type }
    }

    /// Says what it can measure (5603, 5604).
    #[must_use]
    pub const fn within(mut self, least: f64, greatest: f64) -> Self {
        self.range = Some((least, greatest));
        self
    }

    /// Takes a measurement, and tells whether it differs from the last. Then tell the client that resource 5700 changed.
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

impl Object for Sensor {
    fn definition(&self) -> &'static ObjectDef {
        self.definition
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        self.definition.resource(at.resource)?;
        let text = |text| Some(text).filter(|text: &&str| !text.is_empty()).map(Value::String);
        match at.resource {
            5601 => Some(Value::Float(self.least)),
            5602 => Some(Value::Float(self.greatest)),
            5603 => self.range.map(|(least, _)| Value::Float(least)),
            5604 => self.range.map(|(_, greatest)| Value::Float(greatest)),
            5700 => Some(Value::Float(self.value)),
            5701 => text(self.units),
            5750 => text(&self.application_type),
            _ => None,
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        let is_executed = resource == 5605 && self.definition.resource(resource).is_some();
        is_executed || self.read(At { instance, resource, resource_instance: 0 }).is_some()
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 5750, value: Value::String(text), .. } => {
                if text.len() <= self.application_type.capacity() { Ok(()) } else { Err(Error::BadRequest) }
            }
            Change::Reset { .. } => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 5750, value: Value::String(text), .. } => {
                self.application_type = text.try_into().map_err(|_| Error::BadRequest)?;
            }
            Change::Reset { resource: 5750 } => self.application_type.clear(),
            // What is measured goes on.
            Change::Reset { .. } => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        if resource != 5605 {
            return Err(Error::MethodNotAllowed);
        }
        (self.least, self.greatest) = (self.value, self.value);
        Ok(Completion::Done)
    }
}
