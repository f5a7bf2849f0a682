//! The objects that come ready to use.

use super::common::perform;
use lwm2m_objects::ready::{Device, DeviceRequest, Location, PowerSource, Temperature};
use lwm2m_objects::{
    Arguments, Content, Context, Error, Format, Object, Operation, Outcome, Path, WriteMode, path,
};

fn read(object: &mut dyn Object, path: Path) -> Result<String, Error> {
    let operation = Operation::Read { target: path.into(), accept: Some(Format::TEXT) };
    let (result, body) = perform(&mut [object], &operation, &Context::default());
    result.map(|_| String::from_utf8(body).unwrap())
}

fn execute(object: &mut dyn Object, path: Path) -> Result<Outcome, Error> {
    let operation = Operation::Execute { target: path.into(), arguments: Arguments::NONE };
    perform(&mut [object], &operation, &Context::default()).0
}

fn write(object: &mut dyn Object, path: Path, payload: &[u8]) -> Result<Outcome, Error> {
    let content = Content { format: Format::TEXT, payload };
    let operation = Operation::Write { target: path.into(), mode: WriteMode::Replace, content };
    perform(&mut [object], &operation, &Context::default()).0
}

#[test]
fn a_device_answers_with_its_fields() {
    let sources = [
        PowerSource { kind: 1, millivolts: 3800, milliamperes: 125 },
        PowerSource { kind: 5, millivolts: 5000, milliamperes: 900 },
    ];
    let mut device = Device {
        manufacturer: "Open Mobile Alliance",
        power_sources: &sources,
        battery_level: Some(100),
        memory_free: Some(15),
        current_time: Some(1_367_491_215),
        ..Device::new("U")
    };
    assert_eq!(read(&mut device, path!("/3/0/0")).unwrap(), "Open Mobile Alliance");
    assert_eq!(read(&mut device, path!("/3/0/1")), Err(Error::NotFound));
    assert_eq!(read(&mut device, path!("/3/0/7/1")).unwrap(), "5000");
    assert_eq!(read(&mut device, path!("/3/0/7/2")), Err(Error::NotFound));
    assert_eq!(read(&mut device, path!("/3/0/11/0")).unwrap(), "0");
    assert_eq!(read(&mut device, path!("/3/0/16")).unwrap(), "U");

    device.error_codes.extend([1, 4]);
    assert_eq!(read(&mut device, path!("/3/0/11/1")).unwrap(), "4");
    assert_eq!(execute(&mut device, path!("/3/0/12")), Ok(Outcome::Changed));
    assert_eq!(read(&mut device, path!("/3/0/11/1")), Err(Error::NotFound));

    assert_eq!(execute(&mut device, path!("/3/0/4")), Ok(Outcome::Changed));
    assert_eq!(device.requested.take(), Some(DeviceRequest::Reboot));

    assert_eq!(write(&mut device, path!("/3/0/14"), b"+02:00"), Ok(Outcome::Changed));
    assert_eq!(write(&mut device, path!("/3/0/14"), b"+02:00 "), Err(Error::BadRequest));
    assert_eq!(write(&mut device, path!("/3/0/13"), b"1"), Ok(Outcome::Changed));
    assert_eq!(write(&mut device, path!("/3/0/0"), b"ACME"), Err(Error::MethodNotAllowed));
    assert_eq!((device.utc_offset.as_str(), device.current_time), ("+02:00", Some(1)));
}

#[test]
fn a_thermometer_keeps_its_extremes_until_they_are_reset() {
    let mut temperature = Temperature::new(21.5);
    assert!(!temperature.measured(21.5) && temperature.measured(19.0) && temperature.measured(20.0));
    let values = |temperature: &mut Temperature| {
        [path!("/3303/0/5601"), path!("/3303/0/5602"), path!("/3303/0/5700")]
            .map(|path| read(temperature, path).unwrap())
    };
    assert_eq!(values(&mut temperature), ["19", "21.5", "20"]);
    assert_eq!(execute(&mut temperature, path!("/3303/0/5605")), Ok(Outcome::Changed));
    assert_eq!(values(&mut temperature), ["20", "20", "20"]);
}

#[test]
fn a_location_has_what_is_known() {
    let mut location = Location { latitude: 48.137_154, longitude: 11.576_124, ..Location::default() };
    assert_eq!(read(&mut location, path!("/6/0/0")).unwrap(), "48.137154");
    assert_eq!(read(&mut location, path!("/6/0/2")), Err(Error::NotFound));
}
