//! The objects that come ready to use.

use super::common::perform;
use lwm2m_objects::ready::{
    ConnectivityStatistics, Device, DeviceRequest, FirmwareRequest, FirmwareState, FirmwareUpdate, Held,
    Location, Package, PackageFailure, PowerSource, Sensor, SoftwareManagement, SoftwareRequest,
};
use lwm2m_objects::{
    Arguments, At, Completion, Content, Context, Error, Format, Object, Operation, Outcome, Path, Value,
    WriteMode, defs, path,
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
fn a_write_that_has_no_room_changes_nothing() {
    let mut portfolio = Held::<2, 3, 8>::new(&defs::PORTFOLIO)
        .with_instance(0)
        .with_instance(1)
        .with(path!("/16/0/0/0"), Value::String("a"))
        .with(path!("/16/1/0/0"), Value::String("b"));
    let update = |object: &mut dyn Object, mode, payload: &[u8]| {
        let content = Content { format: Format::TLV, payload };
        let operation = Operation::Write { target: path!("/16/0").into(), mode, content };
        perform(&mut [object], &operation, &Context::default()).0
    };
    let three = [0x88, 0, 9, 0x41, 0, b'x', 0x41, 1, b'y', 0x41, 2, b'z'];
    assert_eq!(update(&mut portfolio, WriteMode::Partial, &three), Err(Error::Internal));
    assert_eq!(portfolio.value(path!("/16/0/0/0")), Some(Value::String("a")));
    assert_eq!(portfolio.value(path!("/16/0/0/1")), None);
    // What is replaced makes room, and no more than that.
    let three = [0x88, 0, 9, 0x41, 0, b'x', 0x41, 1, b'y', 0x41, 2, b'z'];
    assert_eq!(update(&mut portfolio, WriteMode::Replace, &three), Err(Error::Internal));
    assert_eq!(portfolio.value(path!("/16/0/0/0")), Some(Value::String("a")));
    let two = [0x86, 0, 0x41, 4, b'x', 0x41, 5, b'y'];
    assert_eq!(update(&mut portfolio, WriteMode::Replace, &two), Ok(Outcome::Changed));
    assert_eq!(portfolio.value(path!("/16/0/0/0")), None);
    assert_eq!(portfolio.value(path!("/16/0/0/5")), Some(Value::String("y")));
    // Several instances share the room.
    let write = |object: &mut dyn Object, payload: &[u8]| {
        let content = Content { format: Format::SENML_JSON, payload };
        let operation = Operation::WriteComposite { prefix: None, content };
        let context = Context { version: lwm2m_objects::Version::new(1, 1), ..Context::default() };
        perform(&mut [object], &operation, &context).0
    };
    assert!(portfolio.remove(path!("/16/0/0/5")));
    let both = br#"[{"n":"/16/0/0/4","vs":"1"},{"n":"/16/1/0/0","vs":"2"}]"#;
    assert_eq!(write(&mut portfolio, both), Ok(Outcome::Changed));
    assert_eq!(portfolio.value(path!("/16/1/0/0")), Some(Value::String("2")));
}

#[test]
fn what_is_executed_waits_for_the_owner() {
    let mut log = Held::<1, 4, 8>::new(&defs::EVENT_LOG).with_instance(0).offering(&[4011]);
    assert_eq!(execute(&mut log, path!("/20/0/4012")), Err(Error::NotFound));
    assert_eq!(execute(&mut log, path!("/20/0/4011")), Ok(Outcome::Changed));
    // One at a time: nothing is lost.
    assert_eq!(execute(&mut log, path!("/20/0/4011")), Err(Error::Unavailable));
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

#[test]
fn statistics_count_what_comes_between_start_and_stop() {
    let mut statistics = ConnectivityStatistics::new();
    let numbers = |statistics: &mut ConnectivityStatistics| {
        [0, 1, 2, 3, 4, 5].map(|id| read(statistics, Path::resource(7, 0, id)).unwrap())
    };
    statistics.sent(100);
    assert_eq!(execute(&mut statistics, path!("/7/0/6")), Ok(Outcome::Changed));
    for bytes in [1000, 200] {
        statistics.sent(bytes);
    }
    statistics.received(300);
    statistics.sms_sent();
    statistics.sms_received();
    assert_eq!(numbers(&mut statistics), ["1", "1", "2", "1", "1000", "500"]);
    assert_eq!(execute(&mut statistics, path!("/7/0/7")), Ok(Outcome::Changed));
    statistics.received(5000);
    assert_eq!(numbers(&mut statistics), ["1", "1", "2", "1", "1000", "500"]);
    // A period ends by itself; a new start begins at nothing.
    assert_eq!(write(&mut statistics, path!("/7/0/8"), b"-1"), Err(Error::BadRequest));
    assert_eq!(write(&mut statistics, path!("/7/0/8"), b"60"), Ok(Outcome::Changed));
    assert_eq!(execute(&mut statistics, path!("/7/0/6")), Ok(Outcome::Changed));
    assert_eq!(numbers(&mut statistics), ["0", "0", "0", "0", "0", "0"]);
    statistics.passed(59);
    statistics.sent(10);
    statistics.passed(1);
    statistics.sent(10_000);
    assert_eq!(numbers(&mut statistics), ["0", "0", "1", "0", "10", "10"]);
}

/// A place for packages of up to eight bytes, which begin with `fw`.
#[derive(Debug, Default)]
struct Bank(Vec<u8>);

impl Package for Bank {
    fn write(&mut self, offset: u32, chunk: &[u8]) -> Result<(), PackageFailure> {
        if offset == 0 {
            self.0.clear();
        }
        assert_eq!(offset as usize, self.0.len());
        self.0.extend(chunk);
        if self.0.len() > 8 { Err(PackageFailure::NotEnoughFlash) } else { Ok(()) }
    }

    fn verify(&mut self) -> Result<(), PackageFailure> {
        if self.0.starts_with(b"fw") { Ok(()) } else { Err(PackageFailure::Unsupported) }
    }

    fn discard(&mut self) {
        self.0.clear();
    }
}

fn push(firmware: &mut FirmwareUpdate<Bank>, chunks: &[&[u8]]) -> Result<Completion, Error> {
    let at = At { instance: 0, resource: 0, resource_instance: 0 };
    let mut offset = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        let done = firmware.write_opaque(at, offset, chunk, index + 1 == chunks.len())?;
        assert_eq!(done, Completion::Done);
        offset += chunk.len() as u32;
    }
    Ok(Completion::Done)
}

fn state_and_result(firmware: &mut FirmwareUpdate<Bank>) -> (FirmwareState, String) {
    (firmware.state(), read(firmware, path!("/5/0/5")).unwrap())
}

#[test]
fn firmware_is_pushed_and_installed() {
    let mut firmware = FirmwareUpdate::new(Bank::default(), &[]);
    assert_eq!(read(&mut firmware, path!("/5/0/9")).unwrap(), "1");
    assert_eq!(execute(&mut firmware, path!("/5/0/2")), Err(Error::MethodNotAllowed));
    assert_eq!(execute(&mut firmware, path!("/5/0/10")), Err(Error::MethodNotAllowed));
    assert_eq!(push(&mut firmware, &[b"fw", b" 2"]), Ok(Completion::Done));
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Downloaded, "0".into()));
    assert_eq!(execute(&mut firmware, path!("/5/0/2")), Ok(Outcome::Changed));
    assert_eq!(
        (firmware.state(), firmware.take_requested()),
        (FirmwareState::Updating, Some(FirmwareRequest::Install))
    );
    // Nothing disturbs an installation.
    assert_eq!(push(&mut firmware, &[&[0]]), Err(Error::MethodNotAllowed));
    assert_eq!(execute(&mut firmware, path!("/5/0/10")), Err(Error::MethodNotAllowed));
    assert_eq!(write(&mut firmware, path!("/5/0/1"), b""), Err(Error::MethodNotAllowed));
    firmware.failed(PackageFailure::Installation);
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Downloaded, "8".into()));
    assert_eq!(execute(&mut firmware, path!("/5/0/2")), Ok(Outcome::Changed));
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Updating, "0".into()));
    firmware.deferred();
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Downloaded, "11".into()));
    assert_eq!(execute(&mut firmware, path!("/5/0/2")), Ok(Outcome::Changed));
    firmware.installed();
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Idle, "1".into()));
    assert_eq!(firmware.package.0, b"");
}

#[test]
fn what_is_wrong_with_a_package_is_told_by_the_result() {
    let mut firmware = FirmwareUpdate::new(Bank::default(), &[]);
    for (chunks, result) in [
        // What follows after it was given up is taken, and goes nowhere.
        (&[&b"fw 12345"[..], b"6", b"fw"][..], "2"),
        (&[b"other"], "6"),
        (&[&[0]], "0"),
        (&[b""], "0"),
    ] {
        assert_eq!(push(&mut firmware, chunks), Ok(Completion::Done), "{chunks:?}");
        assert_eq!(state_and_result(&mut firmware), (FirmwareState::Idle, result.into()), "{chunks:?}");
        assert_eq!(firmware.package.0, b"", "{chunks:?}");
    }
    assert_eq!(push(&mut firmware, &[b"fw"]), Ok(Completion::Done));
    assert_eq!(execute(&mut firmware, path!("/5/0/10")), Ok(Outcome::Changed));
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Idle, "10".into()));
    // A device that downloads nothing says so.
    assert_eq!(write(&mut firmware, path!("/5/0/1"), b"coap://a/b"), Ok(Outcome::Changed));
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Idle, "9".into()));
}

#[test]
fn firmware_is_pulled_by_its_owner() {
    let mut firmware = FirmwareUpdate::new(Bank::default(), &[0]);
    assert_eq!(read(&mut firmware, path!("/5/0/9")).unwrap(), "2");
    assert!(!firmware.downloaded(0, b"fw", true), "nobody asked");
    assert_eq!(write(&mut firmware, path!("/5/0/1"), b"coap://a/b"), Ok(Outcome::Changed));
    assert_eq!((firmware.take_requested(), firmware.uri()), (Some(FirmwareRequest::Download), "coap://a/b"));
    assert!(firmware.downloaded(0, b"fw", false) && firmware.downloaded(2, b"2", true));
    assert_eq!(state_and_result(&mut firmware), (FirmwareState::Downloaded, "0".into()));
    // A package that is written meanwhile takes the place of the one that is fetched.
    assert_eq!(write(&mut firmware, path!("/5/0/1"), b"coap://a/c"), Ok(Outcome::Changed));
    assert_eq!(push(&mut firmware, &[b"fw3"]), Ok(Completion::Done));
    assert_eq!(firmware.take_requested(), Some(FirmwareRequest::Abandon));
    assert!(!firmware.downloaded(0, b"fw2", true));
    assert_eq!((firmware.state(), &firmware.package.0[..]), (FirmwareState::Downloaded, &b"fw3"[..]));
    // Blocks of a push that was overtaken go nowhere.
    assert_eq!(push(&mut firmware, &[&[0]]), Ok(Completion::Done));
    let at = At { instance: 0, resource: 0, resource_instance: 0 };
    assert_eq!(firmware.write_opaque(at, 0, b"fw", false), Ok(Completion::Done));
    assert_eq!(write(&mut firmware, path!("/5/0/1"), b"coap://a/d"), Ok(Outcome::Changed));
    assert_eq!(firmware.write_opaque(at, 2, b"4", true), Ok(Completion::Done));
    assert_eq!((firmware.state(), &firmware.package.0[..]), (FirmwareState::Downloading, &b""[..]));
    for (failure, result) in [(PackageFailure::ConnectionLost, "4"), (PackageFailure::InvalidUri, "7")] {
        assert_eq!(write(&mut firmware, path!("/5/0/1"), b"coap://a/b"), Ok(Outcome::Changed));
        firmware.failed(failure);
        assert_eq!(state_and_result(&mut firmware), (FirmwareState::Idle, result.into()));
    }
}

fn push_software(software: &mut SoftwareManagement<Bank, 2>, chunks: &[&[u8]]) -> Result<Completion, Error> {
    let at = At { instance: 0, resource: 2, resource_instance: 0 };
    let mut offset = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        software.write_opaque(at, offset, chunk, index + 1 == chunks.len())?;
        offset += chunk.len() as u32;
    }
    Ok(Completion::Done)
}

fn is(software: &mut SoftwareManagement<Bank, 2>, state: &str, result: &str) {
    let read =
        |software: &mut SoftwareManagement<Bank, 2>, id| read(software, Path::resource(9, 0, id)).unwrap();
    assert_eq!([read(software, 7), read(software, 9)], [state, result]);
}

#[test]
fn software_is_delivered_installed_activated_and_removed() {
    let mut software = SoftwareManagement::<Bank, 2>::new(false);
    // An instance for each package.
    assert_eq!(create(&mut software, &[]), Ok(Outcome::Created(Some(path!("/9/0")))));
    is(&mut software, "0", "0");
    for resource in [4, 6, 10, 11] {
        assert_eq!(execute(&mut software, Path::resource(9, 0, resource)), Err(Error::MethodNotAllowed));
    }
    for (chunks, result) in [(&[&b"fw 12345"[..], b"6", b"fw"][..], "50"), (&[b"other"], "54")] {
        assert_eq!(push_software(&mut software, chunks), Ok(Completion::Done));
        is(&mut software, "0", result);
    }
    assert_eq!(push_software(&mut software, &[b"fw", b"1"]), Ok(Completion::Done));
    is(&mut software, "3", "3");
    // An installation that fails leaves it delivered.
    assert_eq!(execute(&mut software, path!("/9/0/4")), Ok(Outcome::Changed));
    assert_eq!(software.take_requested(), Some((0, SoftwareRequest::Install)));
    assert_eq!(push_software(&mut software, &[b"fw"]), Err(Error::MethodNotAllowed));
    assert_eq!(delete(&mut software, path!("/9/0")), Err(Error::MethodNotAllowed));
    software.failed(0, PackageFailure::Installation);
    is(&mut software, "3", "58");
    assert_eq!(execute(&mut software, path!("/9/0/4")), Ok(Outcome::Changed));
    software.installed(0);
    is(&mut software, "4", "2");
    assert_eq!(read(&mut software, path!("/9/0/12")).unwrap(), "0");
    assert_eq!(execute(&mut software, path!("/9/0/10")), Ok(Outcome::Changed));
    assert_eq!(read(&mut software, path!("/9/0/12")).unwrap(), "1");
    assert_eq!(software.take_requested(), Some((0, SoftwareRequest::Activate)));
    assert_eq!(push_software(&mut software, &[b"fw"]), Err(Error::MethodNotAllowed));
    // For an update it runs on until another package takes its place.
    let uninstall = |software: &mut SoftwareManagement<Bank, 2>, arguments: &'static [u8]| {
        let arguments = Arguments::parse(arguments).unwrap();
        let operation = Operation::Execute { target: path!("/9/0/6").into(), arguments };
        perform(&mut [software], &operation, &Context::default()).0
    };
    assert_eq!(uninstall(&mut software, b"2"), Err(Error::BadRequest));
    assert_eq!(uninstall(&mut software, b"1"), Ok(Outcome::Changed));
    assert_eq!(software.take_requested(), Some((0, SoftwareRequest::PrepareUpdate)));
    is(&mut software, "0", "0");
    assert!(software.is_active(0));
    assert_eq!(push_software(&mut software, &[b"fw2"]), Ok(Completion::Done));
    assert_eq!(execute(&mut software, path!("/9/0/4")), Ok(Outcome::Changed));
    software.installed(0);
    assert_eq!(uninstall(&mut software, b"0"), Ok(Outcome::Changed));
    assert!(!software.is_active(0));
    software.not_uninstalled(0);
    is(&mut software, "4", "59");
    assert_eq!(uninstall(&mut software, b""), Ok(Outcome::Changed));
    assert_eq!(software.take_requested(), Some((0, SoftwareRequest::Uninstall)));
    assert_eq!(delete(&mut software, path!("/9/0")), Ok(Outcome::Deleted));
}

#[test]
fn software_is_pulled_by_its_owner_who_is_told_the_password() {
    let mut software = SoftwareManagement::<Bank, 2>::new(true);
    software.add(0, Bank::default()).unwrap();
    software.add(5, Bank::default()).unwrap();
    software.not_uninstalled(5);
    assert_eq!(read(&mut software, path!("/9/5/7")).unwrap(), "0", "nothing was ever there");
    assert_eq!(software.add(6, Bank::default()), Err(Error::Internal));
    assert_eq!(write(&mut software, path!("/9/0/14"), b"me"), Ok(Outcome::Changed));
    assert_eq!(write(&mut software, path!("/9/0/15"), b"secret"), Ok(Outcome::Changed));
    assert_eq!(read(&mut software, path!("/9/0/15")), Err(Error::MethodNotAllowed));
    assert_eq!(write(&mut software, path!("/9/0/3"), b"coap://a/b"), Ok(Outcome::Changed));
    is(&mut software, "1", "1");
    assert_eq!(software.take_requested(), Some((0, SoftwareRequest::Download)));
    assert!(!format!("{software:?}").contains("secret"));
    assert_eq!((software.uri(0), software.login(0)), ("coap://a/b", ("me", "secret")));
    assert!(!software.downloaded(5, 0, b"fw", true), "nobody asked for that");
    software.failed(0, PackageFailure::ConnectionLost);
    is(&mut software, "0", "52");
    assert_eq!(write(&mut software, path!("/9/0/3"), b"coap://a/b"), Ok(Outcome::Changed));
    assert!(software.downloaded(0, 0, b"fw", false) && software.downloaded(0, 2, b"3", true));
    is(&mut software, "3", "3");
    assert_eq!(write(&mut software, path!("/9/0/3"), b""), Ok(Outcome::Changed));
    is(&mut software, "0", "0");
}
