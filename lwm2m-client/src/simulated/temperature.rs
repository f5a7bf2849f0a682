//! Temperature (`/3303`): a room that warms and cools, and the measurements that wait to be reported.

use std::collections::VecDeque;

use lwm2m_objects::ready::Sensor;
use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value, defs};

use super::UnixTime;

/// A temperature that rises and falls by three degrees around 21 °C, in five minutes.
#[derive(Debug)]
pub struct Temperature {
    sensor: Sensor,
    /// Measurements that wait to be reported, the oldest first, while they are kept.
    kept: Option<VecDeque<(UnixTime, f64)>>,
}

/// The most measurements that are kept; older ones go.
const KEPT: usize = 1000;

impl Default for Temperature {
    fn default() -> Self {
        Self::new()
    }
}

impl Temperature {
    /// A sensor that was not sampled yet.
    pub fn new() -> Self {
        let mut sensor = Sensor::new(&defs::TEMPERATURE, "Cel", 21.0).within(-40.0, 85.0);
        sensor.application_type = "simulated".try_into().unwrap_or_default();
        Temperature { sensor, kept: None }
    }

    /// Keeps measurements from now on, the last 1,000, for reports with their times.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// Measures with a resolution of a tenth of a degree; the path of the value when it changed. `phase` in seconds
    /// tells simulated devices apart.
    pub fn sample(&mut self, now: UnixTime, phase: u32) -> Option<Path> {
        let second = u16::try_from(now.saturating_add(i64::from(phase)).rem_euclid(300)).unwrap_or(0);
        let angle = f64::from(second) / 300.0 * core::f64::consts::TAU;
        let celsius = (210.0 + 30.0 * angle.sin()).round() / 10.0;
        let is_changed = self.sensor.measured(celsius);
        if let Some(kept) = self.kept.as_mut().filter(|_| is_changed) {
            if kept.len() >= KEPT {
                kept.pop_front();
            }
            kept.push_back((now, celsius));
        }
        is_changed.then_some(Path::resource(3303, 0, 5700))
    }

    /// The value in °C.
    pub fn celsius(&self) -> f64 {
        self.sensor.value()
    }
}

impl Object for Temperature {
    fn definition(&self) -> &'static ObjectDef {
        self.sensor.definition()
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        self.sensor.has(instance, resource)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        self.sensor.read(at)
    }

    fn dated(&self, at: At, index: usize) -> Option<(i64, Value<'_>)> {
        let kept = self.kept.as_ref().filter(|_| at.resource == 5700)?;
        kept.get(index).map(|(time, celsius)| (*time, Value::Float(*celsius)))
    }

    fn reported(&mut self, at: At, until: i64) {
        if let Some(kept) = self.kept.as_mut().filter(|_| at.resource == 5700) {
            kept.retain(|(time, _)| *time > until);
        }
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.sensor.validate(instance, change)
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.sensor.apply(instance, change)
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        self.sensor.execute(instance, resource, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_moves_within_its_range_and_says_so() {
        let mut temperature = Temperature::new();
        let changes = (0..300).filter(|second| temperature.sample(*second, 0).is_some()).count();
        assert!(changes > 50);
        let extremes = |temperature: &Temperature| {
            [5601, 5602].map(|resource| {
                match temperature.read(At { instance: 0, resource, resource_instance: 0 }) {
                    Some(Value::Float(celsius)) => celsius,
                    other => unreachable!("{other:?}"),
                }
            })
        };
        let [least, greatest] = extremes(&temperature);
        assert!(least >= 18.0 && least < greatest && greatest <= 24.0);
        assert!(temperature.execute(0, 5605, Arguments::NONE).is_ok());
        let [least, greatest] = extremes(&temperature);
        assert_eq!(least.to_bits(), greatest.to_bits());
    }
}
