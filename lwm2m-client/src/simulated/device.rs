//! Device (`/3`): a battery that is used up and charged, and a clock that servers can set.

use lwm2m_objects::ready::{self, DeviceRequest, PowerSource};
use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, ObjectLink, Path, Value};

use super::UnixTime;

/// The Device object of a simulated device.
#[derive(Debug)]
pub struct Device<'a> {
    object: ready::Device<'a>,
    firmware: String,
    now: UnixTime,
    /// What a server's idea of the time differs from ours.
    time_offset: i64,
}

/// An internal battery and a USB supply.
const SOURCES: &[PowerSource] = &[
    PowerSource { kind: 1, millivolts: 3700, milliamperes: 120 },
    PowerSource { kind: 5, millivolts: 5000, milliamperes: 480 },
];

impl<'a> Device<'a> {
    /// A device with this serial number.
    pub fn new(serial: &'a str) -> Self {
        let object = ready::Device {
            manufacturer: "Open LwM2M",
            model_number: "Simulated device",
            serial_number: serial,
            power_sources: SOURCES,
            battery_level: Some(100),
            memory_free: Some(48),
            utc_offset: "+00:00".try_into().unwrap_or_default(),
            timezone: "Etc/UTC".try_into().unwrap_or_default(),
            device_type: "simulation",
            hardware_version: "1",
            software_version: env!("CARGO_PKG_VERSION"),
            battery_status: Some(0),
            memory_total: Some(64),
            external_information: &[ObjectLink::NULL],
            ..ready::Device::new("U")
        };
        Device { object, firmware: env!("CARGO_PKG_VERSION").into(), now: 0, time_offset: 0 }
    }

    /// Lets time pass; what changed for an observer, the battery level.
    pub fn sample(&mut self, now: UnixTime) -> Option<Path> {
        self.now = now;
        self.object.current_time = Some(now.saturating_add(self.time_offset));
        // A battery that goes from full to a quarter in a bit more than two hours, and is charged at once.
        let spent = now.rem_euclid(7500).checked_div(100).unwrap_or_default();
        let battery = u8::try_from(100_i64.saturating_sub(spent)).ok();
        let is_changed = core::mem::replace(&mut self.object.battery_level, battery) != battery;
        is_changed.then_some(Path::resource(3, 0, 9))
    }

    /// Runs another firmware from now on.
    pub fn run(&mut self, version: &str) {
        self.firmware = version.into();
    }

    /// What a server asked for since the last call.
    pub fn take_requested(&mut self) -> Option<DeviceRequest> {
        self.object.requested.take()
    }
}

impl Object for Device<'_> {
    fn definition(&self) -> &'static ObjectDef {
        self.object.definition()
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        resource == 3 || self.object.has(instance, resource)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match at.resource {
            3 => Some(Value::String(&self.firmware)),
            _ => self.object.read(at),
        }
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.object.validate(instance, change)
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 13, value: Value::Time(time), .. } => {
                self.time_offset = time.saturating_sub(self.now);
            }
            Change::Reset { resource: 13 } => self.time_offset = 0,
            _ => {}
        }
        self.object.apply(instance, change)
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        self.object.execute(instance, resource, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_device_can_be_set() {
        let mut device = Device::new("1");
        device.sample(1000);
        let set = Change::Set { resource: 13, resource_instance: 0, value: Value::Time(5000) };
        assert_eq!(device.apply(0, &set), Ok(()));
        device.sample(1001);
        let at = At { instance: 0, resource: 13, resource_instance: 0 };
        assert_eq!(device.read(at), Some(Value::Time(5001)));
    }

    #[test]
    fn a_reboot_is_asked_for_once() {
        let mut device = Device::new("1");
        assert!(device.execute(0, 4, Arguments::NONE).is_ok());
        assert_eq!(device.take_requested(), Some(DeviceRequest::Reboot));
        assert_eq!(device.take_requested(), None);
    }
}
