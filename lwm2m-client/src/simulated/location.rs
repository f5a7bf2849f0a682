//! Location (`/6`): a walk around a block.

use lwm2m_objects::{At, Object, ObjectDef, Path, Value, defs};

use super::UnixTime;

/// A device that walks around a block: a circle of about a hundred metres in ten minutes.
#[derive(Debug)]
pub struct Location {
    latitude: f64,
    longitude: f64,
    time: UnixTime,
}

impl Default for Location {
    fn default() -> Self {
        Self::new()
    }
}

impl Location {
    const CENTRE: (f64, f64) = (52.520_01, 13.404_95);

    /// A device at its first position.
    pub fn new() -> Self {
        Location { latitude: Self::CENTRE.0, longitude: Self::CENTRE.1, time: 0 }
    }

    /// Walks on, with a new position every ten seconds; the path of the instance when it has moved.
    pub fn sample(&mut self, now: UnixTime) -> Option<Path> {
        let time = now.saturating_sub(now.rem_euclid(10));
        if time == self.time {
            return None;
        }
        self.time = time;
        let second = u16::try_from(time.rem_euclid(600)).unwrap_or(0);
        let angle = f64::from(second) / 600.0 * core::f64::consts::TAU;
        let micro = |degrees: f64| (degrees * 1e6).round() / 1e6;
        self.latitude = micro(Self::CENTRE.0 + 0.0009 * angle.sin());
        self.longitude = micro(Self::CENTRE.1 + 0.0015 * angle.cos());
        Some(Path::instance(6, 0))
    }
}

impl Object for Location {
    fn definition(&self) -> &'static ObjectDef {
        &defs::LOCATION
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        Some(match at.resource {
            0 => Value::Float(self.latitude),
            1 => Value::Float(self.longitude),
            2 => Value::Float(34.0),
            3 => Value::Float(5.0),
            5 => Value::Time(self.time),
            6 => Value::Float(1.0),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_changes_every_ten_seconds() {
        let mut location = Location::new();
        let changes = (1000..1100).filter(|second| location.sample(*second).is_some()).count();
        assert_eq!(changes, 10);
    }
}
