//! Device (`/3`), with the single instance 0 (LwM2M Core 1.2.1 Appendix E.4).
//!
//! Invariant: a text that is empty, and a number that is none, is a resource that the device does not have.

use heapless::{String, Vec};

use crate::{Arguments, At, Change, Completion, Error, Object, ObjectDef, ObjectLink, Value, defs};

/// The Device object. Fields are named as their resources.
///
/// ```
/// use lwm2m_objects::ready::Device;
/// let device = Device { manufacturer: "ACME", model_number: "T-1", battery_level: Some(80), ..Device::new("U") };
/// ```
#[derive(Clone, Debug, Default)]
pub struct Device<'a> {
    /// 0
    pub manufacturer: &'a str,
    /// 1
    pub model_number: &'a str,
    /// 2
    pub serial_number: &'a str,
    /// 3
    pub firmware_version: &'a str,
    /// 6, 7 and 8
    pub power_sources: &'a [PowerSource],
    /// 9: percent.
    pub battery_level: Option<u8>,
    /// 10: kilobytes.
    pub memory_free: Option<u32>,
    /// 11: codes of what is wrong at present; none is reported as code 0.
    pub error_codes: Vec<u8, 8>,
    /// 13: seconds since 1970-01-01T00:00:00Z. Servers may set it.
    pub current_time: Option<i64>,
    /// 14: such as `+02:00`. Servers may set it.
    pub utc_offset: String<6>,
    /// 15: such as `Europe/Paris`. Servers may set it.
    pub timezone: String<40>,
    /// 16: the letters of the bindings.
    pub supported_bindings: &'a str,
    /// 17
    pub device_type: &'a str,
    /// 18
    pub hardware_version: &'a str,
    /// 19
    pub software_version: &'a str,
    /// 20
    pub battery_status: Option<u8>,
    /// 21: kilobytes.
    pub memory_total: Option<u32>,
    /// 22: what else is known of the device.
    pub external_information: &'a [ObjectLink],
    /// What a server asked for last (4, 5). Take it, send what is due, then act on it.
    pub requested: Option<DeviceRequest>,
}

/// A power source of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerSource {
    /// 0 direct current, 1 internal battery, 2 external battery, 3 fuel cell, 4 Power over Ethernet, 5 USB, 6 mains, 7
    /// solar.
    pub kind: u8,
    /// Its voltage.
    pub millivolts: i32,
    /// Its current.
    pub milliamperes: i32,
}

/// What a server asked the device to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceRequest {
    /// Reboot.
    Reboot,
    /// Return to what left the factory.
    FactoryReset,
}

impl<'a> Device<'a> {
    /// A device of which nothing is known but its bindings.
    pub fn new(supported_bindings: &'a str) -> Self {
        Self { supported_bindings, ..Self::default() }
    }
}

impl Object for Device<'_> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::DEVICE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let text = |text| Some(text).filter(|text: &&str| !text.is_empty()).map(Value::String);
        let number = |number: Option<u32>| number.map(|number| Value::Integer(i64::from(number)));
        let index = usize::from(at.resource_instance);
        let source = self.power_sources.get(index);
        match at.resource {
            0 => text(self.manufacturer),
            1 => text(self.model_number),
            2 => text(self.serial_number),
            3 => text(self.firmware_version),
            6 => source.map(|source| Value::Integer(i64::from(source.kind))),
            7 => source.map(|source| Value::Integer(i64::from(source.millivolts))),
            8 => source.map(|source| Value::Integer(i64::from(source.milliamperes))),
            9 => number(self.battery_level.map(u32::from)),
            10 => number(self.memory_free),
            11 => {
                let none = if index == 0 { Some(&0) } else { None };
                self.error_codes.get(index).or(none).map(|code| Value::Integer(i64::from(*code)))
            }
            13 => self.current_time.map(Value::Time),
            14 => text(&self.utc_offset),
            15 => text(&self.timezone),
            16 => Some(Value::String(self.supported_bindings)),
            17 => text(self.device_type),
            18 => text(self.hardware_version),
            19 => text(self.software_version),
            20 => number(self.battery_status.map(u32::from)),
            21 => number(self.memory_total),
            22 => self.external_information.get(index).copied().map(Value::ObjectLink),
            _ => None,
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        matches!(resource, 4 | 5 | 12..=15)
            || self.read(At { instance, resource, resource_instance: 0 }).is_some()
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 14, value: Value::String(text), .. }
                if text.len() > self.utc_offset.capacity() =>
            {
                Err(Error::BadRequest)
            }
            Change::Set { resource: 15, value: Value::String(text), .. }
                if text.len() > self.timezone.capacity() =>
            {
                Err(Error::BadRequest)
            }
            Change::Set { resource: 13..=15, .. } | Change::Reset { .. } => Ok(()),
            // What left the factory stays, whoever writes.
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 13, value: Value::Time(seconds), .. } => {
                self.current_time = Some(seconds)
            }
            Change::Set { resource: 14, value: Value::String(text), .. } => {
                self.utc_offset = text.try_into().map_err(|_| Error::BadRequest)?;
            }
            Change::Set { resource: 15, value: Value::String(text), .. } => {
                self.timezone = text.try_into().map_err(|_| Error::BadRequest)?;
            }
            Change::Reset { resource: 14 } => self.utc_offset.clear(),
            Change::Reset { resource: 15 } => self.timezone.clear(),
            // A clock that nobody sets goes on.
            Change::Reset { .. } => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match resource {
            4 => self.requested = Some(DeviceRequest::Reboot),
            5 => self.requested = Some(DeviceRequest::FactoryReset),
            12 => self.error_codes.clear(),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }
}
