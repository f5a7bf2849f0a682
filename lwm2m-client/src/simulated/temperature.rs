//! Temperature (`/3303`): a room that warms and cools, and the measurements that wait to be reported.

use std::collections::VecDeque;

use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value, defs};

use super::UnixTime;

/// A temperature that rises and falls by three degrees around 21 °C, in five minutes.
#[derive(Debug)]
pub struct Temperature {
    celsius: f64,
    least: f64,
    greatest: f64,
    application: String,
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
        Temperature {
            celsius: 21.0,
            least: 21.0,
            greatest: 21.0,
            application: "simulated".into(),
            kept: None,
        }
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
        self.least = self.least.min(celsius);
        self.greatest = self.greatest.max(celsius);
        let is_changed = celsius.to_bits() != self.celsius.to_bits();
        self.celsius = celsius;
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
        self.celsius
    }
}

impl Object for Temperature {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 5601..=5605 | 5700 | 5701 | 5750)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        Some(match at.resource {
            5601 => Value::Float(self.least),
            5602 => Value::Float(self.greatest),
            5603 => Value::Float(-40.0),
            5604 => Value::Float(85.0),
            5700 => Value::Float(self.celsius),
            5701 => Value::String("Cel"),
            5750 => Value::String(&self.application),
            _ => return None,
        })
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

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 5750, value: Value::String(text), .. } => self.application = text.into(),
            Change::Reset { resource: 5750 } => self.application.clear(),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        if resource != 5605 {
            return Err(Error::MethodNotAllowed);
        }
        self.least = self.celsius;
        self.greatest = self.celsius;
        Ok(Completion::Done)
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
        assert!(temperature.least >= 18.0 && temperature.greatest <= 24.0);
        assert!(temperature.execute(0, 5605, Arguments::NONE).is_ok());
        assert_eq!(temperature.least.to_bits(), temperature.greatest.to_bits());
    }
}
