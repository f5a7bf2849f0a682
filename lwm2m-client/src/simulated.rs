//! Objects of a simulated device, with values that move: Device (`/3`), Location (`/6`) and Temperature (`/3303`).
//!
//! LwM2M Core 1.1.1 appendices E.4 and E.7. Values are functions of the time that the owner passes in; there is no clock
//! here. Invariant: `sample` says which path changed, so that the owner can tell the client.

use std::collections::VecDeque;

use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value, defs};

/// Seconds since 1970-01-01T00:00:00Z.
pub type UnixTime = i64;

/// The Device object of a simulated device.
#[derive(Debug)]
pub struct Device {
    serial: String,
    time: UnixTime,
    /// What a server's idea of the time differs from ours.
    time_offset: i64,
    utc_offset: String,
    timezone: String,
    battery: u8,
    is_reboot_asked: bool,
}

impl Device {
    /// A device with this serial number.
    pub fn new(serial: &str) -> Self {
        Device {
            serial: serial.into(),
            time: 0,
            time_offset: 0,
            utc_offset: "+00:00".into(),
            timezone: "Etc/UTC".into(),
            battery: 100,
            is_reboot_asked: false,
        }
    }

    /// Lets time pass; what changed for an observer, the battery level.
    pub fn sample(&mut self, now: UnixTime) -> Option<Path> {
        self.time = now;
        // A battery that goes from full to a quarter in a bit more than two hours, and is charged at once.
        let spent = now.rem_euclid(7500).checked_div(100).unwrap_or_default();
        let battery = u8::try_from(100_i64.saturating_sub(spent)).unwrap_or(100);
        let is_changed = core::mem::replace(&mut self.battery, battery) != battery;
        is_changed.then_some(Path::resource(3, 0, 9))
    }

    /// Whether a server executed Reboot since the last call.
    pub fn take_reboot(&mut self) -> bool {
        core::mem::take(&mut self.is_reboot_asked)
    }
}

impl Object for Device {
    fn definition(&self) -> &'static ObjectDef {
        &defs::DEVICE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 0..=4 | 6..=9 | 11..=18)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        Some(match (at.resource, at.resource_instance) {
            (0, _) => Value::String("Open LwM2M"),
            (1, _) => Value::String("Simulated device"),
            (2, _) => Value::String(&self.serial),
            (3, _) => Value::String(env!("CARGO_PKG_VERSION")),
            // An internal battery and a USB supply: kind, millivolts, milliamperes.
            (6, 0) => Value::Integer(1),
            (6, 1) => Value::Integer(5),
            (7, 0) => Value::Integer(3700),
            (7, 1) => Value::Integer(5000),
            (8, 0) => Value::Integer(120),
            (8, 1) => Value::Integer(480),
            (9, _) => Value::Integer(i64::from(self.battery)),
            (11, 0) => Value::Integer(0),
            (13, _) => Value::Time(self.time.saturating_add(self.time_offset)),
            (14, _) => Value::String(&self.utc_offset),
            (15, _) => Value::String(&self.timezone),
            (16, _) => Value::String("U"),
            (17, _) => Value::String("simulation"),
            (18, _) => Value::String("1"),
            _ => return None,
        })
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 13, value: Value::Time(time), .. } => {
                self.time_offset = time.saturating_sub(self.time);
            }
            Change::Set { resource: 14, value: Value::String(text), .. } => self.utc_offset = text.into(),
            Change::Set { resource: 15, value: Value::String(text), .. } => self.timezone = text.into(),
            Change::Reset { resource: 13 } => self.time_offset = 0,
            Change::Reset { resource: 14 } => self.utc_offset = "+00:00".into(),
            Change::Reset { resource: 15 } => self.timezone = "Etc/UTC".into(),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match resource {
            4 => self.is_reboot_asked = true,
            // There is never an error to reset.
            12 => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }
}

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
    #[must_use]
    pub fn keeping(self) -> Self {
        Temperature { kept: Some(VecDeque::new()), ..self }
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
    fn a_temperature_moves_within_its_range_and_says_so() {
        let mut temperature = Temperature::new();
        let changes = (0..300).filter(|second| temperature.sample(*second, 0).is_some()).count();
        assert!(changes > 50);
        assert!(temperature.least >= 18.0 && temperature.greatest <= 24.0);
        assert!(temperature.execute(0, 5605, Arguments::NONE).is_ok());
        assert_eq!(temperature.least.to_bits(), temperature.greatest.to_bits());
    }

    #[test]
    fn a_position_changes_every_ten_seconds() {
        let mut location = Location::new();
        let changes = (1000..1100).filter(|second| location.sample(*second).is_some()).count();
        assert_eq!(changes, 10);
    }

    #[test]
    fn the_clock_of_a_device_can_be_set() {
        let mut device = Device::new("1");
        device.sample(1000);
        let set = Change::Set { resource: 13, resource_instance: 0, value: Value::Time(5000) };
        assert_eq!(device.apply(0, &set), Ok(()));
        device.sample(1001);
        assert_eq!(
            device.read(At { instance: 0, resource: 13, resource_instance: 0 }),
            Some(Value::Time(5001))
        );
    }

    #[test]
    fn a_reboot_is_asked_for_once() {
        let mut device = Device::new("1");
        assert!(device.execute(0, 4, Arguments::NONE).is_ok());
        assert!(device.take_reboot());
        assert!(!device.take_reboot());
    }
}
