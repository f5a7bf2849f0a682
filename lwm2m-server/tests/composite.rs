//! Composite operations and Send, against a device that answers what the test says (LwM2M Core 1.2.1 §6.3.8, §6.3.9, §6.4.4,
//! §6.4.7).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, Token};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::{Config, Listener};
use lwm2m_server::{Answer, Content, Event, Operation, Path, Reported, RequestError, Value};
use support::{Device, Got, KEY, World, build};

const JSON: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[110]);

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| path(text)).collect()
}

/// A registered device over DTLS that lists `root` besides its objects.
fn device(world: &mut World, version: &str, root: &str) -> Device {
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(world, Listener::Coaps, 40_000, &identity, &KEY);
    let prefix = if root.contains("oma.lwm2m") { "/lwm2m" } else { "" };
    let links = format!("{root}<{prefix}/1/0>,<{prefix}/3/0>,<{prefix}/3303>");
    device.register(world, &format!("ep=a&lt=86400&lwm2m={version}"), &links);
    world.told();
    device
}

/// Method, path, Content-Format, Accept, Observe and payload.
fn shown(got: &Got) -> String {
    let mut line = format!("{} {}", got.code, got.uri());
    for (name, option) in [
        ("ct", OptionNumber::CONTENT_FORMAT),
        ("accept", OptionNumber::ACCEPT),
        ("observe", OptionNumber::OBSERVE),
    ] {
        let number = |value: &[u8]| value.iter().fold(0, |number, byte| number << 8 | u16::from(*byte));
        line += &got.option(option).map(|value| format!(" {name}={}", number(value))).unwrap_or_default();
    }
    format!("{line} {}", String::from_utf8_lossy(&got.payload))
}

const VALUES: &str = r#"[{"bn":"/","n":"3/0/9","v":95},{"n":"1/0/1","v":300}]"#;

fn values() -> Content {
    let items = vec![(path("/3/0/9"), Value::Integer(95)), (path("/1/0/1"), Value::Integer(300))];
    Content { format: 110, items }
}

#[test]
fn several_places_are_read_in_the_format_of_the_device_and_of_its_version() {
    let json = "</>;ct=110,";
    let both = |prefix: &str| format!(r#"[{{"n":"{prefix}/3/0/9"}},{{"n":"{prefix}/1/0/1"}}]"#);
    for (version, root, format, accept, prefix) in [
        ("1.1", json, 110, 110, ""),
        ("1.2", json, 320, 110, ""),
        ("1.1", "</lwm2m>;rt=\"oma.lwm2m\";ct=110,", 110, 110, "/lwm2m"),
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world, version, root);
        let operation = Operation::ReadComposite { paths: paths(&["/3/0/9", "/1/0/1"]), format: None };
        let id = world.request("a", operation).unwrap();
        let asked = device.asked(&mut world);
        assert_eq!(shown(&asked), format!("0.05  ct={format} accept={accept} {}", both(prefix)));
        let answer = VALUES.replace("\"/\"", &format!("\"{prefix}/\""));
        device.answer(&mut world, &asked, Code::CONTENT, &[JSON], answer.as_bytes());
        assert_eq!(world.outcome(id), Ok(Answer::Content(values())));
    }
    // SenML CBOR when nothing is announced, SenML-ETCH CBOR from 1.2 on.
    for (version, format) in [("1.1", 112), ("1.2", 322)] {
        let mut world = World::new(false);
        let mut device = device(&mut world, version, "");
        let operation = Operation::ReadComposite { paths: paths(&["/3"]), format: Some(112) };
        let id = world.request("a", operation).unwrap();
        let asked = device.asked(&mut world);
        assert!(shown(&asked).starts_with(&format!("0.05  ct={format} accept=112 ")), "{}", shown(&asked));
        assert_eq!(asked.payload, b"\x81\xa1\x00\x62/3");
        device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, &[112])], b"\x80");
        assert_eq!(world.outcome(id), Ok(Answer::Content(Content { format: 112, items: vec![] })));
    }
}

#[test]
fn what_no_device_could_do_is_not_asked() {
    let mut world = World::new(false);
    let _device = device(&mut world, "1.1", "");
    let mut refused = |operation| match world.request("a", operation) {
        Err(RequestError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    let value = |at| (path(at), Value::Integer(1));
    refused(Operation::ReadComposite { paths: vec![], format: None });
    refused(Operation::ReadComposite { paths: vec![path("/3"); 257], format: None });
    refused(Operation::ObserveComposite { paths: vec![], format: None });
    refused(Operation::WriteComposite { values: vec![] });
    refused(Operation::WriteComposite { values: vec![value("/1/0/1"), value("/3/0")] });
    let mut world = World::new(false);
    let _device = device(&mut world, "1.0", "");
    let operation = Operation::ReadComposite { paths: paths(&["/3"]), format: None };
    assert!(matches!(world.request("a", operation), Err(RequestError::Invalid(why)) if why.contains("1.0")));
}

#[test]
fn several_values_are_written_at_once() {
    let mut world = World::new(false);
    let mut device = device(&mut world, "1.1", "</>;ct=110,");
    let values =
        vec![(path("/3/0/14"), Value::String("+01:00".into())), (path("/1/0/1"), Value::Integer(60))];
    let id = world.request("a", Operation::WriteComposite { values }).unwrap();
    let asked = device.asked(&mut world);
    let payload = r#"[{"bn":"/","n":"1/0/1","v":60},{"n":"3/0/14","vs":"+01:00"}]"#;
    assert_eq!(shown(&asked), format!("0.07  ct=110 {payload}"));
    device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
    assert_eq!(world.outcome(id), Ok(Answer::Done));
}

#[test]
fn several_places_are_observed_under_one_token_and_cancelled_by_the_same_list() {
    let mut world = World::new(false);
    let mut device = device(&mut world, "1.1", "</>;ct=110,");
    let operation = || Operation::ObserveComposite { paths: paths(&["/3/0/9", "/1/0/1"]), format: None };
    let sequence = |sequence: &'static [u8]| [(OptionNumber::OBSERVE, sequence), JSON];
    let id = world.request("a", operation()).unwrap();
    let first = device.asked(&mut world);
    assert_eq!(first.option(OptionNumber::OBSERVE), Some(&[][..]));
    device.answer(&mut world, &first, Code::CONTENT, &sequence(&[1]), VALUES.as_bytes());
    let Ok(Answer::Observing(observation, content)) = world.outcome(id) else { panic!() };
    assert_eq!(content, self::values());
    assert_eq!(world.endpoint.observations("a"), [(observation, paths(&["/3/0/9", "/1/0/1"]))]);

    device.notify(&mut world, Kind::NonConfirmable, first.token, 2, &[JSON], VALUES.as_bytes());
    let told = world.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("notification a /: "), "{told:?}");

    // The rest of a long one is fetched by the same list.
    let block = (OptionNumber::BLOCK2, &[0x08_u8][..]);
    device.notify(&mut world, Kind::NonConfirmable, first.token, 3, &[JSON, block], &VALUES.as_bytes()[..16]);
    let mut answer = Vec::new();
    for number in 1_u8..4 {
        let asked = device.asked(&mut world);
        assert_eq!(
            (asked.code, &asked.payload, asked.option(OptionNumber::OBSERVE)),
            (Code::FETCH, &first.payload, None)
        );
        let body = VALUES.as_bytes().chunks(16).nth(number.into()).unwrap();
        let more = if number < 3 { 8 } else { 0 };
        answer = vec![number << 4 | more];
        let options = [JSON, (OptionNumber::BLOCK2, answer.as_slice())];
        device.answer(&mut world, &asked, Code::CONTENT, &options, body);
    }
    assert_eq!((world.told().len(), answer), (1, vec![0x30]));

    // Renewed with the token it has.
    let id = world.request("a", operation()).unwrap();
    let again = device.asked(&mut world);
    assert_eq!(again.token, first.token);
    device.answer(&mut world, &again, Code::CONTENT, &sequence(&[4]), VALUES.as_bytes());
    assert!(matches!(world.outcome(id), Ok(Answer::Observing(same, _)) if same == observation));

    let id = world.request("a", Operation::Cancel { observation }).unwrap();
    let cancel = device.asked(&mut world);
    assert_eq!((cancel.code, cancel.token, &cancel.payload), (Code::FETCH, first.token, &first.payload));
    assert_eq!(cancel.option(OptionNumber::OBSERVE), Some(&[1][..]));
    device.answer(&mut world, &cancel, Code::CONTENT, &[JSON], VALUES.as_bytes());
    assert_eq!(world.outcome(id), Ok(Answer::Done));
    assert!(world.endpoint.observations("a").is_empty());
}

#[test]
fn a_list_that_goes_in_blocks_is_sent_again_for_the_rest_of_a_notification() {
    let mut world = World::new(false);
    let mut device = device(&mut world, "1.1", "</>;ct=110,");
    let many: Vec<Path> = (0..60).map(|instance| Path::resource(3303, instance, 5700)).collect();
    let id = world.request("a", Operation::ObserveComposite { paths: many, format: None }).unwrap();
    // Takes the list, and hands out the last block of it.
    let take = |world: &mut World, device: &mut Device| {
        let (mut list, mut token) = (Vec::new(), Token::EMPTY);
        loop {
            let asked = device.asked(world);
            let block = asked.option(OptionNumber::BLOCK1).unwrap().to_vec();
            assert_eq!(asked.option(OptionNumber::CONTENT_FORMAT), Some(&[110][..]));
            // What the device has in the end is one observation, under one token.
            assert!(list.is_empty() || asked.option(OptionNumber::OBSERVE).is_none() || asked.token == token);
            token = asked.token;
            list.extend_from_slice(&asked.payload);
            if block.last().is_none_or(|last| last & 8 == 0) {
                return (asked, block, list);
            }
            device.answer(world, &asked, Code::CONTINUE, &[(OptionNumber::BLOCK1, &block)], b"");
        }
    };
    let (asked, block, list) = take(&mut world, &mut device);
    let token = asked.token;
    let options = [(OptionNumber::OBSERVE, &[1_u8][..]), JSON, (OptionNumber::BLOCK1, &block)];
    device.answer(&mut world, &asked, Code::CONTENT, &options, VALUES.as_bytes());
    assert!(matches!(world.outcome(id), Ok(Answer::Observing(..))));
    // Days later the device has no list any more: it is told again what the blocks are of.
    let first = (OptionNumber::BLOCK2, &[0x08_u8][..]);
    device.notify(&mut world, Kind::NonConfirmable, token, 3, &[JSON, first], &VALUES.as_bytes()[..16]);
    let (asked, block, again) = take(&mut world, &mut device);
    assert_eq!((again, asked.option(OptionNumber::OBSERVE)), (list, None));
    let options = [JSON, (OptionNumber::BLOCK2, &[0x08_u8][..]), (OptionNumber::BLOCK1, &block)];
    device.answer(&mut world, &asked, Code::CONTENT, &options, &VALUES.as_bytes()[..16]);
    for number in 1_u8..4 {
        let asked = device.asked(&mut world);
        assert_eq!((asked.code, asked.payload.len()), (Code::FETCH, 0));
        assert_eq!(asked.option(OptionNumber::CONTENT_FORMAT), Some(&[110][..]));
        let body = VALUES.as_bytes().chunks(16).nth(number.into()).unwrap();
        let block = [number << 4 | if number < 3 { 8 } else { 0 }];
        device.answer(&mut world, &asked, Code::CONTENT, &[JSON, (OptionNumber::BLOCK2, &block)], body);
    }
    let told = world.told();
    assert!(told.len() == 1 && told[0].starts_with("notification a /: "), "{told:?}");
}

/// Sends a report and returns the code of the answer and what was told.
fn report(world: &mut World, device: &mut Device, format: &[u8], payload: &[u8]) -> (Code, Vec<Reported>) {
    let options = [(OptionNumber::URI_PATH, &b"dp"[..]), (OptionNumber::CONTENT_FORMAT, format)];
    let header = Header { kind: Kind::Confirmable, id: MessageId(world.now.as_millis() as u16) };
    world.pass(std::time::Duration::from_secs(1));
    let message = build(header, Code::POST, Token::new(&[7]).unwrap(), &options, payload);
    device.send(world, &message);
    let answer = device.take_all(world).pop().expect("an answer");
    let told = world.events.drain(..).filter_map(|event| match event {
        Event::Reported { endpoint, report } => {
            assert_eq!((&*endpoint, report.format), ("a", u16::from(format[0])));
            Some(report.values.clone())
        }
        _ => None,
    });
    (answer.code, told.flatten().collect())
}

#[test]
fn a_device_reports_by_itself() {
    let mut world = World::new(false);
    let mut device = device(&mut world, "1.1", "");
    let text = br#"[{"bn":"/3303/0/5700","bt":1700000000,"v":20,"t":-60},{"v":21.5},{"bt":-30,"n":"","v":22},{"bt":0,"n":"x","v":23}]"#;
    let (code, _) = report(&mut world, &mut device, &[110], text);
    assert_eq!(code, Code::BAD_REQUEST, "a name that is no path of a value");
    let text = br#"[{"bn":"/3303/0/5700","bt":1700000000,"v":20,"t":-60},{"v":21.5},{"bt":-30,"v":22},{"bt":0,"bn":"/3/0/9","v":23}]"#;
    let now = world.endpoint.device("a").unwrap().registered_at as i64;
    let (code, told) = report(&mut world, &mut device, &[110], text);
    assert_eq!(code, Code::CHANGED);
    let got: Vec<_> =
        told.iter().map(|value| (value.path.to_string(), value.value.clone(), value.time)).collect();
    let temperature = "/3303/0/5700".to_owned();
    assert_eq!(got[0], (temperature.clone(), Value::Float(20.0), Some(1_699_999_940_000)));
    assert_eq!(got[1], (temperature.clone(), Value::Float(21.5), Some(1_700_000_000_000)));
    assert_eq!((&got[2].0, &got[2].1), (&temperature, &Value::Float(22.0)));
    let ago = now - got[2].2.unwrap();
    assert!((28_000..=30_000).contains(&ago), "{ago}");
    assert_eq!(got[3], ("/3/0/9".to_owned(), Value::Integer(23), None));

    let (code, told) = report(&mut world, &mut device, &[112], b"\x81\xa2\x00\x66/3/0/9\x02\x05");
    assert_eq!((code, told.len()), (Code::CHANGED, 1));
    for (format, payload, code) in [
        (&[112][..], &b"\x81\xa2\x00\x66/4/0/9\x02\x05"[..], Code::NOT_FOUND),
        (&[112], b"\x82\xa2\x00\x66/3/0/9\x02\x05\xa2\x00\x66/4/0/9\x02\x05", Code::NOT_FOUND),
        (&[112], b"\x81\xa2\x00\x66/3/0/9\x02", Code::BAD_REQUEST),
        (&[112], b"", Code::BAD_REQUEST),
        (&[112], b"\x81\xa3\x00\x66/3/0/9\x02\x05\x06\xfb\x7f\xf0\0\0\0\0\0\0", Code::BAD_REQUEST),
        (&[], b"5", Code::BAD_REQUEST),
        (&[0x2d, 0x16], b"\xc1\x09\x05", Code::BAD_REQUEST),
    ] {
        assert_eq!(
            report(&mut world, &mut device, if format.is_empty() { &[0] } else { format }, payload).0,
            code
        );
        assert!(world.events.is_empty());
    }
    assert_eq!(world.endpoint.counters().reports, 2);
}

#[test]
fn who_is_not_registered_reports_nothing() {
    let mut world = World::with(Config::default(), false);
    let identity = world.enrol("a", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let (code, told) = report(&mut world, &mut device, &[112], b"\x81\xa2\x00\x66/3/0/9\x02\x05");
    assert_eq!((code, told.len()), (Code::NOT_FOUND, 0));
}
