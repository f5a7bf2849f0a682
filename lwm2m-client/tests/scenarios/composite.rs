//! Composite operations (LwM2M Core 1.1.1 §6.3.8, §6.3.9, §6.4.4).

use lwm2m_client::objects::format::Items;
use lwm2m_client::objects::{Content, Format, Kind, Operation, Path, Paths};
use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, OptionNumber};

use crate::world::{Script, World, account};

const DM: u16 = 5683;
const VALUE: &str = "/3303/0/5700";

fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    world
}

fn pack(names: &[&str]) -> Vec<u8> {
    let records: Vec<String> = names.iter().map(|name| format!("{{\"n\":\"{name}\"}}")).collect();
    format!("[{}]", records.join(",")).into_bytes()
}

fn paths(payload: &[u8]) -> Paths<'_> {
    Paths::Payload { prefix: None, content: Content { format: Format::SENML_JSON, payload } }
}

/// The paths and numbers of a pack.
fn numbers(payload: &[u8]) -> Vec<(String, Option<f64>)> {
    let content = Content { format: Format::SENML_CBOR, payload };
    let items = Items::new(&Path::ROOT.into(), content).unwrap();
    items
        .map(|item| {
            let item = item.unwrap();
            let number = item.raw.value(Kind::Float, &mut []).ok().and_then(|value| value.number());
            (item.path.to_string(), number)
        })
        .collect()
}

fn set(world: &mut World, celsius: f64) {
    world.objects.temperature.celsius = celsius;
    world.client.changed(Path::resource(3303, 0, 5700));
    world.run(1);
}

#[test]
fn several_places_are_read_at_once() {
    // OMA ETS LightweightM2M-1.1-int-280 and 236
    let mut world = world();
    let names = pack(&["/3/0/16", "/3/0/11/0", "/1/1/1", "/3339/0/5522", VALUE]);
    let read = world.ask(DM, &Operation::ReadComposite { paths: paths(&names), accept: None });
    assert_eq!((read.code, read.format, read.observe), (Code::CONTENT, Some(112), None));
    let [mode, error, lifetime, value] = numbers(&read.payload).try_into().unwrap();
    assert_eq!(mode, ("/3/0/16".into(), None));
    assert_eq!(error, ("/3/0/11/0".into(), Some(0.0)));
    assert_eq!(lifetime, ("/1/1/1".into(), Some(86_400.0)));
    assert_eq!(value, (VALUE.into(), Some(20.0)));
    let accept = Some(Format::SENML_JSON);
    let read = world.ask(DM, &Operation::ReadComposite { paths: paths(&names), accept });
    assert_eq!(read.format, Some(110));
    assert!(read.text().ends_with("{\"n\":\"3303/0/5700\",\"v\":20}]"), "{}", read.text());
    for (names, accept, code) in [
        (pack(&["/3/0"]), Some(Format::TLV), Code::NOT_ACCEPTABLE),
        (pack(&["/0/0"]), None, Code::UNAUTHORIZED),
        (pack(&[]), None, Code::BAD_REQUEST),
        (b"[{\"n\":\"/3/x\"}]".to_vec(), None, Code::BAD_REQUEST),
        (pack(&[VALUE; 17]), None, Code::REQUEST_ENTITY_TOO_LARGE),
    ] {
        let read = world.ask(DM, &Operation::ReadComposite { paths: paths(&names), accept });
        assert_eq!(read.code, code, "{}", String::from_utf8_lossy(&names));
    }
    let content = Content { format: Format::TLV, payload: b"" };
    let wrong = Paths::Payload { prefix: None, content };
    let read = world.ask(DM, &Operation::ReadComposite { paths: wrong, accept: None });
    assert_eq!(read.code, Code::UNSUPPORTED_CONTENT_FORMAT);
}

/// A block of the answer to a FETCH.
fn block(world: &mut World, number: u32, payload: &[u8]) -> crate::world::Response {
    let block = Block::new(number, false, Szx::fitting(32)).unwrap();
    world.ask_with(DM, |writer| {
        writer.set_code(Code::FETCH);
        writer.option(OptionNumber::CONTENT_FORMAT, &[110]).unwrap();
        writer.block2(block).unwrap();
        writer.payload(payload).unwrap();
    })
}

#[test]
fn later_blocks_are_of_the_same_places_with_or_without_their_names() {
    let mut world = world();
    let names = pack(&["/3", VALUE]);
    let whole = world.ask(DM, &Operation::ReadComposite { paths: paths(&names), accept: None }).payload;
    for is_repeated in [true, false] {
        let mut body = Vec::new();
        for number in 0.. {
            let payload = if is_repeated || number == 0 { names.as_slice() } else { b"" };
            let part = block(&mut world, number, payload);
            assert_eq!(part.code, Code::CONTENT);
            body.extend(part.payload);
            if !part.block.unwrap().1 {
                break;
            }
        }
        assert_eq!(body, whole);
    }
    // Nothing was selected before.
    let mut world = self::world();
    assert_eq!(block(&mut world, 1, b"").code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn several_places_are_written_at_once_or_none() {
    // OMA ETS LightweightM2M-1.1-int-230
    let mut world = world();
    world.observe(DM, "/1/1/6");
    let mut write = |payload: &str| {
        let content = Content { format: Format::SENML_JSON, payload: payload.as_bytes() };
        let code = world.ask(DM, &Operation::WriteComposite { prefix: None, content }).code;
        world.run(2);
        let (lifetime, storing) =
            (world.read(DM, "/1/1/1", Format::TEXT), world.read(DM, "/1/1/6", Format::TEXT));
        let notified = world.server(DM).notifications.len();
        (code, lifetime.text().to_owned(), storing.text().to_owned(), notified)
    };
    let wrong = r#"[{"n":"/1/1/1","v":61},{"n":"/1/1/6","vb":false},{"n":"/3/0/0","vs":"x"}]"#;
    assert_eq!(write(wrong), (Code::METHOD_NOT_ALLOWED, "86400".into(), "1".into(), 0));
    let right = r#"[{"bn":"/1/1/","n":"1","v":61},{"n":"6","vb":false}]"#;
    assert_eq!(write(right), (Code::CHANGED, "61".into(), "0".into(), 1));
    // The server hears of the new lifetime.
    let last = world.server(DM).requests.last().unwrap();
    assert_eq!(last.query, ["lt=61"]);
}

#[test]
fn several_places_are_notified_together() {
    // OMA ETS LightweightM2M-1.1-int-304 and 305
    let mut world = world();
    assert_eq!(world.attributes(DM, "/1/1/1", &["pmin=30", "pmax=45"]), Code::CHANGED);
    let names = pack(&["/1/1/1", "/3/0/16", VALUE]);
    let observe = Operation::ObserveComposite { paths: paths(&names), accept: None };
    let first = world.ask(DM, &observe);
    assert_eq!((first.code, numbers(&first.payload).len()), (Code::CONTENT, 3));
    let mut last = first.observe.unwrap();
    world.run(50);
    let [notified] = world.server(DM).notifications.clone().try_into().unwrap();
    assert_eq!(numbers(&notified.payload).len(), 3);
    assert_eq!(notified.token, first.token);
    assert!(notified.observe.unwrap() > last);
    last = notified.observe.unwrap();

    // Any of them counts, each with its own attributes.
    world.server(DM).notifications.clear();
    set(&mut world, 21.0);
    let [notified] = world.server(DM).notifications.clone().try_into().unwrap();
    assert_eq!(numbers(&notified.payload).pop(), Some((VALUE.into(), Some(21.0))));
    assert!(notified.observe.unwrap() > last);
    assert_eq!(world.attributes(DM, VALUE, &["st=5"]), Code::CHANGED);
    set(&mut world, 23.0);
    assert_eq!(world.server(DM).notifications.len(), 1);
    set(&mut world, 26.0);
    assert_eq!(world.server(DM).notifications.len(), 2);

    // An observation of one of the places is another one; its end does not touch this.
    world.observe(DM, VALUE);
    let target = crate::world::target(VALUE);
    world.ask(DM, &Operation::CancelObservation { target, accept: None });
    world.server(DM).notifications.clear();
    set(&mut world, 40.0);
    assert_eq!(world.server(DM).notifications.len(), 1);

    // The end by another list is none; by the same list, and any token, it is.
    let other = pack(&["/1/1/1", VALUE]);
    let cancel = Operation::CancelObservationComposite { paths: paths(&other), accept: None };
    assert_eq!(world.ask(DM, &cancel).code, Code::CONTENT);
    set(&mut world, 50.0);
    assert_eq!(world.server(DM).notifications.len(), 2);
    let cancel = Operation::CancelObservationComposite { paths: paths(&names), accept: None };
    let answer = world.ask(DM, &cancel);
    assert_eq!((answer.code, answer.observe, numbers(&answer.payload).len()), (Code::CONTENT, None, 3));
    set(&mut world, 60.0);
    world.run(100);
    assert_eq!(world.server(DM).notifications.len(), 2);
}

#[test]
fn a_renewed_observation_replaces_the_one_with_its_token_and_one_too_long_is_none() {
    let mut world = world();
    // There is room for four places.
    for _ in 0..3 {
        let names = pack(&["/3/0/16", VALUE, "/1/1/1", "/3/0/0"]);
        let observe = Operation::ObserveComposite { paths: paths(&names), accept: None };
        let first = world.ask(DM, &observe);
        assert!(first.observe.is_some());
        let cancel = Operation::CancelObservationComposite { paths: paths(&names), accept: None };
        assert_eq!(world.ask(DM, &cancel).code, Code::CONTENT);
    }
    let names = pack(&["/3/0/16", VALUE, "/1/1/1", "/3/0/0", "/1/1/6"]);
    let observe = Operation::ObserveComposite { paths: paths(&names), accept: None };
    let first = world.ask(DM, &observe);
    assert_eq!((first.code, first.observe), (Code::CONTENT, None));
    set(&mut world, 30.0);
    world.run(30);
    assert!(world.server(DM).notifications.is_empty());
}

#[test]
fn what_comes_and_goes_is_in_later_notifications_or_not() {
    // OMA ETS LightweightM2M-1.1-int-308 and 309
    let mut world = world();
    let create = |world: &mut World, instance: u16| {
        let payload = format!(r#"[{{"n":"/42800/{instance}/0","vs":"note"}}]"#);
        let content = Content { format: Format::SENML_JSON, payload: payload.as_bytes() };
        let target = crate::world::target("/42800");
        assert_eq!(world.ask(DM, &Operation::Create { target, content }).code, Code::CREATED);
        world.run(2);
    };
    create(&mut world, 0);
    let names = pack(&["/42800/0/0", "/42800/1/0"]);
    let observe = Operation::ObserveComposite { paths: paths(&names), accept: None };
    let first = world.ask(DM, &observe);
    let told = |payload: &[u8]| numbers(payload).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(told(&first.payload), ["/42800/0/0"]);
    create(&mut world, 1);
    assert_eq!(
        world.ask(DM, &Operation::Delete { target: crate::world::target("/42800/1") }).code,
        Code::DELETED
    );
    world.run(2);
    let notified: Vec<_> =
        world.server(DM).notifications.iter().map(|notification| told(&notification.payload)).collect();
    assert_eq!(notified, [vec!["/42800/0/0", "/42800/1/0"], vec!["/42800/0/0"]]);
    // What goes to its object in chunks cannot be written with the rest.
    let content = Content { format: Format::SENML_JSON, payload: br#"[{"n":"/42800/0/3","vd":"AAAA"}]"# };
    let code = world.ask(DM, &Operation::WriteComposite { prefix: None, content }).code;
    assert_eq!(code, Code::METHOD_NOT_ALLOWED);
}
