//! What support and conformance tests look at and reach for: the trace of messages, a forgotten registration, an
//! observation ended by a Reset (RFC 7641 §3.6), a verified bootstrap.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;

use std::sync::Arc;

use lwm2m_coap::{Code, Header, Kind, MessageId, OptionNumber, udp};
use lwm2m_server::credentials::{Role, Settings};
use lwm2m_server::endpoint::{Config, Listener, Watcher};
use lwm2m_server::models::Models;
use lwm2m_server::{Answer, Direction, Operation, Packet, Path, Payload, Value, WriteMode};
use support::{Device, KEY, World};

const LINKS: &str = "</1/0>,</3/0>";
const LINK_FORMAT: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[40]);
const TEXT: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);

fn packets(world: &mut World) -> Vec<Packet> {
    std::iter::from_fn(|| world.endpoint.poll_packet()).collect()
}

#[test]
fn a_trace_shows_both_directions_inside_dtls_only_while_it_is_on() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    world.endpoint.set_trace(true);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    let location = device.register(&mut world, "lt=60&lwm2m=1.1", LINKS);
    let seen = packets(&mut world);
    assert_eq!(
        seen.iter().map(|packet| packet.direction).collect::<Vec<_>>(),
        [Direction::FromDevice, Direction::ToDevice]
    );
    for packet in &seen {
        assert_eq!((packet.endpoint.as_deref(), packet.secure), (Some("a"), true));
    }
    assert_eq!(udp::parse(&seen[0].bytes).unwrap().1.code, Code::POST);
    assert_eq!(seen[0].operation, Some("Register"));
    assert_eq!(seen[0].payload, Payload::Bytes(LINKS.as_bytes().into()));
    assert_eq!(udp::parse(&seen[1].bytes).unwrap().1.code, Code::CREATED);

    world.endpoint.set_trace(false);
    device.request(&mut world, Code::POST, &location, b"").unwrap();
    assert_eq!(packets(&mut world), []);
}

#[test]
fn what_a_bootstrap_writes_is_shown_but_for_the_key_and_its_length() {
    for format in [11542, 112] {
        let mut world = World::new(false);
        let identity = world.enrol("a", Role::Bootstrap);
        world.endpoint.set_trace(true);
        let accounts = b"</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</3/0>";
        bootstrap(&mut world, &identity, accounts, format);
        let seen = packets(&mut world);
        let mut steps: Vec<&str> = seen.iter().filter_map(|packet| packet.operation).collect();
        steps.dedup();
        let expected = ["Bootstrap-Request", "Bootstrap-Discover", "Bootstrap-Write", "Bootstrap-Finish"];
        assert_eq!(steps, expected);
        let links = seen.iter().find(|packet| packet.payload == Payload::Bytes(accounts[..].into()));
        assert_eq!(links.unwrap().path, Some(Path::ROOT));

        let is_write = |packet: &&Packet| udp::parse(&packet.bytes).unwrap().1.code == Code::PUT;
        let writes: Vec<&Packet> = seen.iter().filter(is_write).collect();
        let security = values(writes[0]);
        assert_eq!(writes[0].path, Some(Path::instance(0, 1)));
        assert!(matches!(&security[0].1, Some(Value::String(uri)) if uri.starts_with("coaps://")));
        for (path, value) in security {
            let is_key = matches!(path.resource_id(), Some(3 | 5));
            assert_eq!(value.is_none(), is_key, "{path}");
        }
        assert!(security.iter().any(|(path, _)| path.resource_id() == Some(5)));
        assert!(values(writes[1]).iter().all(|(_, value)| value.is_some()));
        assert!(writes.iter().all(|packet| udp::parse(&packet.bytes).unwrap().1.payload.is_empty()));
    }
}

fn values(packet: &Packet) -> &[(Path, Option<Value>)] {
    let Payload::Values(values) = &packet.payload else { panic!("{packet:?}") };
    values
}

/// What the trace shows of an exchange that begins with `operation` and is answered so.
fn exchanged(
    operation: Operation,
    code: Code,
    options: &[(OptionNumber, &[u8])],
    answer: &[u8],
) -> (Packet, Packet) {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    world.endpoint.set_trace(true);
    world.request("a", operation).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, code, options, answer);
    let mut seen = packets(&mut world).into_iter();
    (seen.next().unwrap(), seen.next().unwrap())
}

fn read(path: &str, code: Code, options: &[(OptionNumber, &[u8])], answer: &[u8]) -> Payload {
    let operation = Operation::Read { path: path.parse().unwrap(), format: None };
    exchanged(operation, code, options, answer).1.payload
}

const TLV: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[0x2d, 0x16]);
const SENML: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[112]);

/// A definition of the operator's gives a value its type; it does not say that it is no secret.
#[test]
fn what_a_definition_types_is_told_to_who_asked_and_stays_hidden_here() {
    let folder = tempfile::tempdir().unwrap();
    let item = |id, kind| {
        format!(
            "<Item ID=\"{id}\"><Name/><Operations>R</Operations><MultipleInstances>Single</MultipleInstances>\
             <Mandatory>Mandatory</Mandatory><Type>{kind}</Type></Item>"
        )
    };
    let lock = format!(
        "<LWM2M><Object><Name>Lock</Name><ObjectID>33000</ObjectID><MultipleInstances>Single</MultipleInstances>\
         <Mandatory>Optional</Mandatory><Resources>{}{}</Resources></Object></LWM2M>",
        item(1, "Integer"),
        item(2, "String")
    );
    std::fs::write(folder.path().join("lock.xml"), lock).unwrap();
    let mut config = Config::default();
    config.models = Arc::new(Models::built_in().with_folder(folder.path()).unwrap());
    let mut world = World::with(config, true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let at = |resource| Path::resource(33000, 0, resource);
    let mut told = |links: &str| {
        device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", links);
        world.endpoint.set_trace(true);
        let read = Operation::Read { path: Path::instance(33000, 0), format: None };
        let id = world.request("a", read).unwrap();
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::CONTENT, &[TLV], b"\xc1\x01\x05\xc3\x02key");
        let seen = packets(&mut world);
        world.endpoint.set_trace(false);
        assert_eq!(values(&seen[1]), [(at(1), None), (at(2), None)]);
        match world.outcome(id).unwrap() {
            Answer::Content(content) => content.items,
            other => panic!("{other:?}"),
        }
    };
    let typed = [(at(1), Value::Integer(5)), (at(2), Value::String("key".to_owned()))];
    assert_eq!(told("</1/0>,</33000/0>"), typed);
    assert_eq!(told("</1/0>,</33000>;ver=1.7,</33000/0>"), typed, "the newest of the same major version");
    let plain = [(at(1), Value::Opaque(vec![5])), (at(2), Value::Opaque(b"key".to_vec()))];
    assert_eq!(told("</1/0>,</33000/0>;ver=2.0"), plain);
}

#[test]
fn values_are_shown_where_they_belong_both_ways() {
    let path = Path::resource(3, 0, 14);
    let zone = Value::String("+01:00".to_owned());
    let write =
        Operation::Write { path, mode: WriteMode::Replace, values: vec![(path, zone.clone())], format: None };
    let (asked, answer) = exchanged(write, Code::CHANGED, &[], b"");
    assert_eq!((asked.operation, asked.path), (Some("Write"), Some(path)));
    assert_eq!(values(&asked), [(path, Some(zone))]);
    assert_eq!((answer.operation, answer.path, answer.payload), (Some("Write"), Some(path), Payload::Empty));

    let battery = (Path::resource(3, 0, 9), Some(Value::Integer(55)));
    assert_eq!(read("/3/0", Code::CONTENT, &[TLV], b"\xc1\x09\x37"), Payload::Values([battery].into()));
    let execute = Operation::Execute { path: Path::resource(3, 0, 4), arguments: "0='now'".to_owned() };
    assert_eq!(exchanged(execute, Code::CHANGED, &[], b"").0.payload, Payload::Bytes(b"0='now'"[..].into()));
    let busy = Payload::Bytes(b"busy"[..].into());
    assert_eq!(read("/3/0", Code::SERVICE_UNAVAILABLE, &[], b"busy"), busy);
}

#[test]
fn secrets_of_other_objects_are_withheld_wherever_they_come() {
    // WLAN: the name of the network and the phrase.
    let wlan = b"\xc4\x05home\xc6\x12phrase";
    let name = (Path::resource(12, 0, 5), Some(Value::String("home".to_owned())));
    let phrase = (Path::resource(12, 0, 18), None);
    assert_eq!(read("/12/0", Code::CONTENT, &[TLV], wlan), Payload::Values([name, phrase].into()));
    // What cannot be read, one block of several, and a text that may quote what was written.
    assert_eq!(read("/12/0", Code::CONTENT, &[TLV], &wlan[..13]), Payload::Withheld);
    let first = [TLV, (OptionNumber::BLOCK2, &[0x08][..])];
    assert_eq!(read("/12/0", Code::CONTENT, &first, b"\xc6\x12phrase\xc4\x05home"), Payload::Withheld);
    assert_eq!(read("/12/0", Code::BAD_REQUEST, &[], b"phrase"), Payload::Withheld);
    assert_eq!(read("/12/0/18", Code::CONTENT, &[TEXT], b"phrase"), {
        Payload::Values([(Path::resource(12, 0, 18), None)].into())
    });
    // The same of a resource that is none.
    let first = [TEXT, (OptionNumber::BLOCK2, &[0x08][..])];
    let block = Payload::Bytes(b"0123456789abcdef"[..].into());
    assert_eq!(read("/12/0/5", Code::CONTENT, &first, b"0123456789abcdef"), block);

    // Of an object that nobody knows here numbers are shown.
    let record = b"\x82\xa2\x21\x69/42769/0/\x00\xa1\x00\x00";
    assert_eq!(read("/42769/0", Code::CONTENT, &[SENML], record), Payload::Withheld);
    let records = b"\x82\xa3\x21\x69/42769/0/\x00\x610\x02\x07\xa2\x00\x611\x03\x63pin";
    let number = (Path::resource(42769, 0, 0), Some(Value::Unsigned(7)));
    let text = (Path::resource(42769, 0, 1), None);
    assert_eq!(read("/42769/0", Code::CONTENT, &[SENML], records), Payload::Values([number, text].into()));
    assert_eq!(read("/42769/0", Code::BAD_REQUEST, &[], b"pin"), Payload::Withheld);
}

fn paths(places: &[&str]) -> Vec<Path> {
    places.iter().map(|path| path.parse().unwrap()).collect()
}

#[test]
fn the_places_of_a_composite_operation_are_shown_as_paths() {
    let places = paths(&["/3/0/9", "/1/0", "/12/0/18"]);
    for operation in [
        Operation::ReadComposite { paths: places.clone(), format: None },
        Operation::ObserveComposite { paths: places.clone(), format: None },
    ] {
        let (asked, _) = exchanged(operation, Code::CONTENT, &[SENML], b"\x80");
        assert_eq!(asked.payload, Payload::Paths(places.clone().into()));
    }
}

#[test]
fn the_text_of_an_error_is_shown_unless_it_may_quote_a_secret() {
    let shown = |text: &str| Payload::Bytes(text.as_bytes().into());
    let refused =
        |operation| exchanged(operation, Code::BAD_REQUEST, &[], b"bad \x1b[2J\xc3\xbcnd \"x\"\n").1.payload;
    let read = |places: &[&str]| Operation::ReadComposite { paths: paths(places), format: None };
    let text = "bad  [2J\u{fc}nd \"x\" ";
    assert_eq!(refused(read(&["/3", "/1/0/1"])), shown(text));
    // A WLAN phrase is below it, or may be, or nobody knows.
    for places in [["/3", "/12"], ["/3", "/12/0/18"], ["/3", "/42769/0"]] {
        assert_eq!(refused(read(&places)), Payload::Withheld, "{places:?}");
    }
    let write = |path: &str, value| {
        let values = vec![(path.parse().unwrap(), value)];
        Operation::WriteComposite { values }
    };
    assert_eq!(refused(write("/3/0/14", Value::String("+01:00".to_owned()))), shown(text));
    assert_eq!(refused(write("/12/0/18", Value::String("phrase".to_owned()))), Payload::Withheld);
    // It has an end, and what is no text is not shown.
    let read = || Operation::Read { path: Path::instance(3, 0), format: None };
    let long = exchanged(read(), Code::BAD_REQUEST, &[], &[b'a'; 300]).1.payload;
    assert_eq!(long, shown(&"a".repeat(256)));
    assert_eq!(exchanged(read(), Code::BAD_REQUEST, &[TLV], b"text").1.payload, Payload::Withheld);
    assert_eq!(exchanged(read(), Code::BAD_REQUEST, &[], b"\xff").1.payload, Payload::Withheld);
}

#[test]
fn what_a_bootstrap_wrote_is_not_quoted() {
    let mut watcher = Watcher::new("a", true);
    let header = Header { kind: Kind::Confirmable, id: MessageId(7) };
    let token = lwm2m_coap::Token::new(b"t").unwrap();
    let write = |path: &str, payload: &[u8]| {
        let path = path.split('/').map(|part| (OptionNumber::URI_PATH, part.as_bytes()));
        let options: Vec<(OptionNumber, &[u8])> = path.chain([TLV]).collect();
        support::build(header, Code::PUT, token, &options, payload)
    };
    for (path, payload) in [("0/1", &b"\xc3\x05key"[..]), ("1/1", b"\xc1\x01\x3c")] {
        watcher.see(1, Role::Bootstrap, Direction::ToDevice, &write(path, payload));
        let answer = support::build(header, Code::BAD_REQUEST, token, &[], b"key");
        let seen = watcher.see(2, Role::Bootstrap, Direction::FromDevice, &answer);
        assert_eq!((seen.operation, seen.payload), (Some("Bootstrap-Write"), Payload::Withheld), "{path}");
    }
}

#[test]
fn a_notification_is_shown_and_what_answers_nothing_known_is_not() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    let path = Path::resource(3, 0, 0);
    world.request("a", Operation::Observe { path, format: Some(0) }).unwrap();
    let asked = device.asked(&mut world);
    world.endpoint.set_trace(true);
    // What it answers was asked before anybody looked.
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), TEXT], b"one");
    let header = Header { kind: Kind::NonConfirmable, id: MessageId(7) };
    let notification =
        support::build(header, Code::CONTENT, asked.token, &[(OptionNumber::OBSERVE, &[2]), TEXT], b"two");
    device.send(&mut world, &notification);
    device.send(&mut world, b"\x50\x45\x00");
    let seen = packets(&mut world);
    let shown: Vec<_> = seen.iter().map(|packet| (packet.operation, packet.payload.clone())).collect();
    let two = Payload::Values([(path, Some(Value::String("two".to_owned())))].into());
    assert_eq!(shown, [(None, Payload::Withheld), (Some("Notify"), two), (None, Payload::Withheld)]);
    assert_eq!(&*seen[2].bytes, b"\x50\x45\x00");
}

#[test]
fn a_verified_bootstrap_fails_when_the_account_does_not_show() {
    for (shown, told) in [
        ("</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</3/0>", "bootstrap finished a"),
        ("</>;lwm2m=1.1,</0/0>,</3/0>", "bootstrap failed a: Bootstrap-Discover / after the writes 2.05"),
    ] {
        let mut world = World::new(false);
        let settings = Settings { verify: true, ..world.credentials.settings().as_ref().clone() };
        world.credentials.set_settings(settings);
        let identity = world.enrol("a", Role::Bootstrap);
        bootstrap(&mut world, &identity, shown.as_bytes(), 11542);
        assert_eq!(world.told().last().unwrap(), told);
    }
}

/// A device that takes every step of a bootstrap and shows the same accounts each time.
fn bootstrap(world: &mut World, identity: &str, accounts: &[u8], format: u16) {
    let mut device = Device::secure(world, Listener::BootstrapCoaps, 40_000, identity, &KEY);
    let answer = device.request(world, Code::POST, &format!("bs?ep=a&pct={format}"), b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    while let Some(asked) = device.got.pop_front() {
        match asked.code {
            Code::GET => device.answer(world, &asked, Code::CONTENT, &[LINK_FORMAT], accounts),
            Code::DELETE => device.answer(world, &asked, Code::DELETED, &[], b""),
            _ => device.answer(world, &asked, Code::CHANGED, &[], b""),
        }
    }
}

#[test]
fn a_forgotten_device_is_not_found_and_comes_back() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    let location = device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    assert!(world.endpoint.forget(world.now, "a"));
    assert!(!world.endpoint.forget(world.now, "a"));
    assert!(world.endpoint.device("a").is_none());
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::NOT_FOUND);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.1", LINKS);
    assert!(world.endpoint.device("a").is_some());
}

#[test]
fn the_next_notification_of_a_forgotten_observation_is_reset() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lt=60&lwm2m=1.0", LINKS);
    let path = Path::resource(3, 0, 0);
    world.request("a", Operation::Observe { path, format: Some(0) }).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), TEXT], b"one");
    let (observation, _) = world.endpoint.observations("a")[0];
    world.told();

    assert!(world.endpoint.forget_observation("a", observation));
    assert!(!world.endpoint.forget_observation("a", observation));
    let header = Header { kind: Kind::NonConfirmable, id: MessageId(7) };
    let notification =
        support::build(header, Code::CONTENT, asked.token, &[(OptionNumber::OBSERVE, &[2]), TEXT], b"two");
    device.send(&mut world, &notification);
    let got = device.got.pop_front().unwrap();
    assert_eq!((got.kind, got.id), (Kind::Reset, 7));
    assert_eq!(world.told(), [""; 0]);
}
