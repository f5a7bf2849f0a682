//! The objects that come ready to use.

use super::common::perform;
use lwm2m_objects::ready::{Device, DeviceRequest, Held, Location, PowerSource, Sensor};
use lwm2m_objects::{
    Arguments, Content, Context, Error, Format, Object, Operation, Outcome, Path, Value, WriteMode, defs,
    path,
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
    let mut temperature = Sensor::new(&defs::TEMPERATURE, "Cel", 21.5);
    assert!(!temperature.measured(21.5) && temperature.measured(19.0) && temperature.measured(20.0));
    let values = |temperature: &mut Sensor| {
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

#[test]
fn a_sensor_has_what_its_definition_has() {
    let mut pressure = Sensor::new(&defs::BAROMETER, "hPa", 1013.25).within(300.0, 1100.0);
    assert_eq!(read(&mut pressure, path!("/3315/0/5604")).unwrap(), "1100");
    assert_eq!(read(&mut pressure, path!("/3315/0/5750")), Err(Error::NotFound));
    assert_eq!(write(&mut pressure, path!("/3315/0/5750"), b"roof"), Ok(Outcome::Changed));
    assert_eq!(read(&mut pressure, path!("/3315/0/5750")).unwrap(), "roof");
    assert_eq!(write(&mut pressure, path!("/3315/0/5750"), &[b'x'; 41]), Err(Error::BadRequest));
    assert_eq!(write(&mut pressure, path!("/3315/0/5700"), b"1"), Err(Error::MethodNotAllowed));
    // Of a set point nothing is measured, so there is nothing to reset.
    let mut set_point = Sensor::new(&defs::SET_POINT, "Cel", 20.0);
    assert_eq!(execute(&mut set_point, path!("/3308/0/5605")), Err(Error::NotFound));
}

fn create(object: &mut dyn Object, payload: &[u8]) -> Result<Outcome, Error> {
    let path = Path::object(object.definition().id);
    let content = Content { format: Format::TLV, payload };
    perform(&mut [object], &Operation::Create { target: path.into(), content }, &Context::default()).0
}

fn delete(object: &mut dyn Object, path: Path) -> Result<Outcome, Error> {
    perform(&mut [object], &Operation::Delete { target: path.into() }, &Context::default()).0
}

#[test]
fn an_object_of_any_definition_holds_its_values() {
    let mut lamp = Held::<2, 4, 8>::new(&defs::LIGHT_CONTROL).with_instance(3);
    assert_eq!(lamp.set(path!("/3311/3/5850"), Value::Boolean(false)), Ok(true));
    assert_eq!(lamp.set(path!("/3311/3/5850"), Value::Boolean(false)), Ok(false));
    for (path, value, error) in [
        (path!("/3311/0/5850"), Value::Boolean(true), Error::NotFound),
        (path!("/3311/3/9999"), Value::Boolean(true), Error::NotFound),
        (path!("/3312/3/5850"), Value::Boolean(true), Error::NotFound),
        (path!("/3311/3/5850/0"), Value::Boolean(true), Error::NotFound),
        (path!("/3311/3/5850"), Value::Integer(1), Error::BadRequest),
        (path!("/3311/3/5851"), Value::Integer(101), Error::BadRequest),
        (path!("/3311/3/5706"), Value::String("#00000000"), Error::BadRequest),
    ] {
        assert_eq!(lamp.set(path, value), Err(error), "{path}");
    }
    assert!(!lamp.take_written());
    assert_eq!(write(&mut lamp, path!("/3311/3/5851"), b"40"), Ok(Outcome::Changed));
    assert!(lamp.take_written() && !lamp.take_written());
    assert_eq!(lamp.value(path!("/3311/3/5851")), Some(Value::Integer(40)));
    assert_eq!(write(&mut lamp, path!("/3311/3/5851"), b"101"), Err(Error::BadRequest));
    assert_eq!(lamp.set(path!("/3311/3/5820"), Value::Float(0.9)), Ok(true));
    assert_eq!(write(&mut lamp, path!("/3311/3/5820"), b"1"), Err(Error::MethodNotAllowed));
    assert_eq!(write(&mut lamp, path!("/3311/3/5706"), b"#ffffffff"), Err(Error::BadRequest));
    assert!(!lamp.take_written());
    assert!(lamp.remove(path!("/3311/3/5851")) && !lamp.remove(path!("/3311/3/5851")));
    assert_eq!(read(&mut lamp, path!("/3311/3/5851")), Err(Error::NotFound));
    // Servers create and delete only where that was opened.
    assert_eq!(delete(&mut lamp, path!("/3311/3")), Err(Error::MethodNotAllowed));
    assert_eq!(create(&mut lamp, &[0xe1, 0x16, 0xda, 1]), Err(Error::MethodNotAllowed));
}

#[test]
fn servers_create_and_delete_instances_within_its_room() {
    let mut portfolio = Held::<2, 4, 8>::new(&defs::PORTFOLIO).open();
    // Two identities.
    let payload = [0x88, 0, 8, 0x42, 0, b'h', b'i', 0x42, 1, b'y', b'o'];
    assert_eq!(create(&mut portfolio, &payload), Ok(Outcome::Created(Some(path!("/16/0")))));
    assert_eq!(portfolio.value(path!("/16/0/0/1")), Some(Value::String("yo")));
    // What is mandatory is not lost.
    assert_eq!(delete(&mut portfolio, path!("/16/0/0/0")), Ok(Outcome::Deleted));
    assert_eq!(delete(&mut portfolio, path!("/16/0/0/1")), Err(Error::BadRequest));
    // The fourth value has room, a fifth has not, and of an instance that is not created nothing stays.
    assert_eq!(create(&mut portfolio, &payload), Ok(Outcome::Created(Some(path!("/16/1")))));
    assert_eq!(create(&mut portfolio, &payload), Err(Error::Internal));
    assert_eq!(delete(&mut portfolio, path!("/16/1")), Ok(Outcome::Deleted));
    assert_eq!(delete(&mut portfolio, path!("/16/0")), Ok(Outcome::Deleted));
    assert_eq!((portfolio.next_instance(None), portfolio.value(path!("/16/0/0/1"))), (None, None));
    let long = [0x88, 0, 13, 0x48, 0, 9, b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', 0x40, 1];
    assert_eq!(create(&mut portfolio, &long), Err(Error::BadRequest));
    assert_eq!(portfolio.next_instance(None), None);
}

#[test]
fn what_is_executed_waits_for_the_owner() {
    let mut log = Held::<1, 4, 8>::new(&defs::EVENT_LOG).with_instance(0).offering(&[4011]);
    assert_eq!(execute(&mut log, path!("/20/0/4012")), Err(Error::NotFound));
    assert_eq!(execute(&mut log, path!("/20/0/4011")), Ok(Outcome::Changed));
    // One at a time: nothing is lost.
    assert_eq!(execute(&mut log, path!("/20/0/4011")), Err(Error::Internal));
    let executed = log.take_executed().unwrap();
    assert_eq!((executed.instance, executed.resource, executed.arguments.as_str()), (0, 4011, ""));
    assert_eq!(log.take_executed(), None);
}

#[test]
fn what_it_holds_is_not_shown() {
    let mut wlan = Held::<1, 4, 16>::new(&defs::WLAN_CONNECTIVITY).with_instance(0);
    assert_eq!(wlan.set(path!("/12/0/18"), Value::String("correct horse")), Ok(true));
    assert!(!format!("{wlan:?}").contains("horse"));
}
