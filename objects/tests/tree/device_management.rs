//! The device management interface (LwM2M Core 1.2.1 §6.3).

use super::common::{Body, Owned, Rights, Store, perform};
use lwm2m_objects::{
    Arguments, At, Attributes, AttributesChange, Change, Completion, Content, Context, Error, Format, Object,
    ObjectDef, Operation, Outcome, Path, Target, Tree, Value, WriteMode, defs, object, path,
};

object! {
    /// An object with something of everything.
    THING = 42769 version 1.0, multiple, optional {
        0 RW S M Integer in -10, 100;
        1 RW S O String in 0, 8;
        2 R  S O Integer;
        3 RW M O Integer;
        4 E  S O Nothing;
        5 W  S O Opaque;
        6 RW S O ObjectLink;
        7 RW S O Float in 0, 1;
        8 -  S O Opaque;
        9 RW S O Boolean;
    }
}

fn thing() -> Store {
    let things = Store::new(&THING)
        .with(
            0,
            &[
                (0, Value::Integer(1)),
                (1, Value::String("one")),
                (2, Value::Integer(7)),
                (4, Value::Integer(0)),
            ],
        )
        .array(0, 3, &[(0, Value::Integer(10)), (5, Value::Integer(50))]);
    things.with(4, &[(0, Value::Integer(2)), (5, Value::Opaque(b"secret"))])
}

fn read(objects: &mut [&mut dyn Object], path: Path, accept: Format) -> Result<Vec<u8>, Error> {
    let operation = Operation::Read { target: path.into(), accept: Some(accept) };
    let (result, body) = perform(objects, &operation, &Context::default());
    result.map(|outcome| {
        assert_eq!(outcome, Outcome::Content(accept));
        body
    })
}

fn write(
    thing: &mut Store,
    path: Path,
    mode: WriteMode,
    format: Format,
    payload: &[u8],
) -> Result<Outcome, Error> {
    let operation = Operation::Write { target: path.into(), mode, content: Content { format, payload } };
    perform(&mut [thing], &operation, &Context::default()).0
}

fn replace(thing: &mut Store, path: Path, payload: &[u8]) -> Result<Outcome, Error> {
    write(thing, path, WriteMode::Replace, Format::TLV, payload)
}

#[test]
fn values_are_read_in_the_format_asked_for() {
    let mut thing = thing();
    let mut objects: [&mut dyn Object; 1] = [&mut thing];
    assert_eq!(read(&mut objects, path!("/42769/0/1"), Format::TEXT).unwrap(), b"one");
    assert_eq!(read(&mut objects, path!("/42769/0/3/5"), Format::TEXT).unwrap(), b"50");
    assert_eq!(
        read(&mut objects, path!("/42769/0/3"), Format::TLV).unwrap(),
        b"\x86\x03\x41\x00\x0a\x41\x05\x32"
    );
    let instance = b"\xc1\x00\x01\xc3\x01one\xc1\x02\x07\x86\x03\x41\x00\x0a\x41\x05\x32";
    assert_eq!(read(&mut objects, path!("/42769/0"), Format::TLV).unwrap(), instance);
    let wrapped = [b"\x08\x00\x13".as_slice(), instance, b"\x03\x04\xc1\x00\x02"].concat();
    assert_eq!(read(&mut objects, path!("/42769"), Format::TLV).unwrap(), wrapped);
}

#[test]
fn a_read_that_cannot_be_is_refused_with_its_code() {
    let mut thing = thing();
    let mut security = Store::new(&defs::SECURITY).with(0, &[(5, Value::Opaque(b"key"))]);
    let mut objects: [&mut dyn Object; 2] = [&mut thing, &mut security];
    for (path, format, error) in [
        (Path::ROOT, Format::TLV, Error::MethodNotAllowed),
        (path!("/7"), Format::TLV, Error::NotFound),
        (path!("/42769/1"), Format::TLV, Error::NotFound),
        (path!("/42769/0/99"), Format::TLV, Error::NotFound),
        (path!("/42769/0/6"), Format::TLV, Error::NotFound),
        (path!("/42769/0/3/1"), Format::TLV, Error::NotFound),
        // Path rules, and resources that are not read.
        (path!("/42769/0/0/0"), Format::TLV, Error::MethodNotAllowed),
        (path!("/42769/0/4"), Format::TLV, Error::MethodNotAllowed),
        (path!("/42769/4/5"), Format::OPAQUE, Error::MethodNotAllowed),
        (path!("/42769/0/0"), Format::OPAQUE, Error::NotAcceptable),
        (path!("/42769/0/3"), Format::TEXT, Error::NotAcceptable),
        (path!("/42769/0"), Format::TEXT, Error::NotAcceptable),
        (path!("/42769/0"), Format(9999), Error::NotAcceptable),
        // Credentials, there or not.
        (path!("/0"), Format::TLV, Error::Unauthorized),
        (path!("/0/0/5"), Format::OPAQUE, Error::Unauthorized),
        (path!("/21/0"), Format::TLV, Error::Unauthorized),
    ] {
        assert_eq!(read(&mut objects, path, format), Err(error), "{path}");
    }
}

#[test]
fn an_object_without_instances_is_read_as_nothing() {
    let mut empty = Store::new(&THING);
    assert_eq!(read(&mut [&mut empty], path!("/42769"), Format::TLV).unwrap(), b"");
    assert_eq!(read(&mut [&mut empty], path!("/42769"), Format::SENML_CBOR).unwrap(), [0x80]);
}

#[test]
fn only_instances_with_the_right_are_read() {
    let mut thing = thing();
    let access = Rights(vec![(42769, 4, 1)]);
    let context = Context { access: &access, ..Context::default() };
    let read = |path: Path| Operation::Read { target: path.into(), accept: Some(Format::TLV) };
    let (result, body) = perform(&mut [&mut thing], &read(path!("/42769")), &context);
    assert_eq!(
        (result, body.as_slice()),
        (Ok(Outcome::Content(Format::TLV)), b"\x03\x04\xc1\x00\x02".as_slice())
    );
    let (result, body) = perform(&mut [&mut thing], &read(path!("/42769/0/1")), &context);
    assert_eq!((result, body.len()), (Err(Error::Unauthorized), 0));
    // The right comes before what the resource allows.
    assert_eq!(perform(&mut [&mut thing], &read(path!("/42769/0/4")), &context).0, Err(Error::Unauthorized));
}

#[test]
fn each_operation_needs_its_right() {
    let content = Content { format: Format::TLV, payload: b"\xc1\x00\x05" };
    let instance: Target<'_> = path!("/42769/0").into();
    let resource: Target<'_> = path!("/42769/0/4").into();
    let object: Target<'_> = path!("/42769").into();
    let change = AttributesChange::setting(Attributes { pmin: Some(1), ..Attributes::default() });
    for (operation, key, right) in [
        (Operation::Read { target: instance, accept: None }, 0, 1),
        (Operation::Observe { target: instance, accept: None }, 0, 1),
        (Operation::WriteAttributes { target: instance, change }, 0, 1),
        (Operation::Write { target: instance, mode: WriteMode::Partial, content }, 0, 2),
        (Operation::Execute { target: resource, arguments: Arguments::NONE }, 0, 4),
        (Operation::Delete { target: instance }, 0, 8),
        (Operation::Create { target: object, content }, 65535, 16),
    ] {
        let (all, none) = (Rights(vec![(42769, key, right)]), Rights(vec![(42769, key, 31 & !right)]));
        let refused =
            perform(&mut [&mut thing()], &operation, &Context { access: &none, ..Context::default() });
        assert_eq!(refused.0, Err(Error::Unauthorized), "{operation:?}");
        let allowed =
            perform(&mut [&mut thing()], &operation, &Context { access: &all, ..Context::default() });
        assert!(allowed.0.is_ok(), "{operation:?}");
    }
    // LwM2M Core 1.2.1 §7.3: neither Discover nor Write-Attributes on an object needs one.
    let none = Rights(Vec::new());
    let context = Context { access: &none, ..Context::default() };
    for operation in [
        Operation::Discover { target: instance, depth: None },
        Operation::WriteAttributes { target: object, change },
    ] {
        assert!(perform(&mut [&mut thing()], &operation, &context).0.is_ok());
    }
}

#[test]
fn replace_resets_what_is_not_written_and_replaces_arrays() {
    let mut thing = thing();
    // 0 = 5, 3 = [1: 11], unknown 77 = 1
    assert_eq!(
        replace(&mut thing, path!("/42769/0"), b"\xc1\x00\x05\x83\x03\x41\x01\x0b\xc1\x4d\x01"),
        Ok(Outcome::Changed)
    );
    let left: Vec<_> =
        thing.instances.get(&0).unwrap().iter().map(|(key, value)| (*key, value.clone())).collect();
    let integer = Owned::Integer;
    assert_eq!(
        left,
        [((0, 0), integer(5)), ((2, 0), integer(7)), ((3, 1), integer(11)), ((4, 0), integer(0))]
    );
}

#[test]
fn partial_update_keeps_what_is_not_written_and_merges_arrays() {
    let mut thing = thing();
    let payload = b"\xc1\x00\x05\x83\x03\x41\x01\x0b";
    let outcome = write(&mut thing, path!("/42769/0"), WriteMode::Partial, Format::TLV, payload);
    assert_eq!(outcome, Ok(Outcome::Changed));
    let values = thing.instances.get(&0).unwrap();
    assert_eq!(values.len(), 7);
    assert_eq!(values.get(&(1, 0)), Some(&Owned::Text("one".into())));
    assert_eq!(values.get(&(3, 1)), Some(&Owned::Integer(11)));
    assert_eq!(values.get(&(3, 5)), Some(&Owned::Integer(50)));
}

#[test]
fn arrays_and_their_elements_are_written() {
    let mut store = thing();
    assert_eq!(replace(&mut store, path!("/42769/0/3"), b"\x83\x03\x41\x02\x14"), Ok(Outcome::Changed));
    let values = |store: &Store| store.instances.get(&0).unwrap().keys().filter(|(id, _)| *id == 3).count();
    assert_eq!(values(&store), 1);
    let outcome =
        write(&mut store, path!("/42769/0/3"), WriteMode::Partial, Format::TLV, b"\x83\x03\x41\x07\x14");
    assert_eq!((outcome, values(&store)), (Ok(Outcome::Changed), 2));
    let outcome = write(&mut store, path!("/42769/0/3/7"), WriteMode::Replace, Format::TEXT, b"-3");
    assert_eq!((outcome, values(&store)), (Ok(Outcome::Changed), 2));
    assert_eq!(store.instances.get(&0).unwrap().get(&(3, 7)), Some(&Owned::Integer(-3)));
    assert_eq!(replace(&mut store, path!("/42769/0/3"), b"\x80\x03"), Ok(Outcome::Changed));
    assert_eq!(values(&store), 0);
}

#[test]
fn a_write_that_cannot_be_is_refused_and_changes_nothing() {
    use WriteMode::{Partial, Replace};
    let tlv = Format::TLV;
    for (path, mode, format, payload, error) in [
        (path!("/42769"), Replace, tlv, b"".as_slice(), Error::MethodNotAllowed),
        (path!("/42769/1"), Replace, tlv, b"\xc1\x00\x05", Error::NotFound),
        (path!("/42769/4/2"), Replace, Format::TEXT, b"1", Error::NotFound),
        (path!("/42769/0/99"), Replace, Format::TEXT, b"1", Error::NotFound),
        (path!("/42769/0/3/9"), Replace, Format::TEXT, b"1", Error::NotFound),
        (path!("/42769/0/0/0"), Replace, Format::TEXT, b"1", Error::MethodNotAllowed),
        (path!("/42769/0/2"), Replace, Format::TEXT, b"1", Error::MethodNotAllowed),
        (path!("/42769/0/4"), Replace, Format::TEXT, b"1", Error::MethodNotAllowed),
        (path!("/42769/0/0"), Partial, Format::TEXT, b"1", Error::MethodNotAllowed),
        // The whole payload is refused for one resource of it.
        (path!("/42769/0"), Replace, tlv, b"\xc1\x00\x05\xc1\x02\x05", Error::MethodNotAllowed),
        (path!("/42769/0"), Replace, tlv, b"\xc1\x00\x05\xc3\x01bad", Error::BadRequest),
        (path!("/42769/0"), Replace, tlv, b"\xc1\x00\x05\xc1\x08\x00", Error::MethodNotAllowed),
        // Types and ranges.
        (path!("/42769/0/0"), Replace, Format::TEXT, b"x", Error::BadRequest),
        (path!("/42769/0/0"), Replace, Format::TEXT, b"101", Error::BadRequest),
        (path!("/42769/0/0"), Replace, Format::TEXT, b"-11", Error::BadRequest),
        (path!("/42769/0/0"), Replace, tlv, b"\xc3\x00\x00\x00\x01", Error::BadRequest),
        (path!("/42769/0/1"), Replace, Format::TEXT, b"123456789", Error::BadRequest),
        (path!("/42769/0/1"), Replace, Format::TEXT, b"\xff", Error::BadRequest),
        (path!("/42769/0"), Partial, tlv, b"\xc4\x07\x3f\xc0\x00\x00", Error::BadRequest),
        (path!("/42769/0"), Partial, tlv, b"\xc1\x09\x02", Error::BadRequest),
        // A link that dangles; an array as a single value, and the reverse.
        (path!("/42769/0"), Partial, tlv, b"\xc4\x06\xa7\x11\x00\x03", Error::BadRequest),
        (path!("/42769/0"), Partial, tlv, b"\xc1\x03\x01", Error::BadRequest),
        (path!("/42769/0"), Partial, tlv, b"\x83\x00\x41\x00\x01", Error::BadRequest),
        // Malformed, also behind what is well-formed.
        (path!("/42769/0"), Partial, tlv, b"\xc1\x00\x05\xc2\x01", Error::BadRequest),
        // Formats.
        (path!("/42769/0"), Replace, Format::TEXT, b"1", Error::UnsupportedFormat),
        (path!("/42769/0/3"), Replace, Format::TEXT, b"1", Error::UnsupportedFormat),
        (path!("/42769/0/0"), Replace, Format::OPAQUE, b"1", Error::UnsupportedFormat),
        (path!("/42769/0"), Replace, Format(9999), b"", Error::UnsupportedFormat),
        (path!("/0/0"), Replace, tlv, b"", Error::Unauthorized),
        (path!("/0"), Replace, tlv, b"", Error::Unauthorized),
    ] {
        let mut store = thing();
        assert_eq!(write(&mut store, path, mode, format, payload), Err(error), "{path} {payload:x?}");
        assert_eq!(store, thing(), "{path} {payload:x?}");
    }
}

#[test]
fn links_to_what_is_there_are_written() {
    for payload in [b"\xc4\x06\xa7\x11\x00\x04", b"\xc4\x06\xa7\x11\xff\xff", b"\xc4\x06\xff\xff\xff\xff"] {
        let outcome = write(&mut thing(), path!("/42769/0"), WriteMode::Partial, Format::TLV, payload);
        assert_eq!(outcome, Ok(Outcome::Changed));
    }
    // A write brings an optional resource into being.
    let outcome = write(&mut thing(), path!("/42769/0/6"), WriteMode::Replace, Format::TEXT, b"42769:4");
    assert_eq!(outcome, Ok(Outcome::Changed));
}

#[cfg(feature = "json")]
#[test]
fn the_json_of_lwm2m_1_0_is_not_for_later_versions() {
    let mut store = thing();
    let target = Target::from(path!("/42769/4/0"));
    let content = Content { format: Format::JSON, payload: br#"{"e":[{"v":9}]}"# };
    let accept = Some(Format::JSON);
    let path = target.path;
    for (operation, refusal) in [
        (Operation::Read { target, accept }, Error::NotAcceptable),
        (Operation::BootstrapRead { path: path!("/1"), accept }, Error::NotAcceptable),
        (Operation::Write { target, mode: WriteMode::Replace, content }, Error::UnsupportedFormat),
        (Operation::Create { target: path!("/42769").into(), content }, Error::UnsupportedFormat),
        (Operation::BootstrapWrite { path, content }, Error::UnsupportedFormat),
    ] {
        let (result, body) = perform(&mut [&mut store], &operation, &Context::default());
        assert_eq!((result, body), (Err(refusal), Vec::new()));
    }
    let context = Context { version: lwm2m_objects::Version::new(1, 0), ..Context::default() };
    let written =
        perform(&mut [&mut store], &Operation::Write { target, mode: WriteMode::Replace, content }, &context);
    assert_eq!(written.0, Ok(Outcome::Changed));
    let (_, body) = perform(&mut [&mut store], &Operation::Read { target, accept }, &context);
    assert_eq!(body, br#"{"bn":"/42769/4/0","e":[{"v":9}]}"#);
}

#[test]
fn an_opaque_in_text_is_base64() {
    let mut store = thing();
    let outcome = write(&mut store, path!("/42769/4/5"), WriteMode::Replace, Format::TEXT, b"AAEC_w");
    assert_eq!(outcome, Ok(Outcome::Changed));
    assert_eq!(store.instances.get(&4).unwrap().get(&(5, 0)), Some(&Owned::Opaque(vec![0, 1, 2, 255])));
    let long = [b'A'; 1400];
    let outcome = write(&mut store, path!("/42769/4/5"), WriteMode::Replace, Format::TEXT, &long);
    assert_eq!(outcome, Err(Error::TooLarge));
}

#[test]
fn an_instance_is_created_with_the_identifier_given_or_the_least_free() {
    let create = |store: &mut Store, payload: &[u8]| {
        let content = Content { format: Format::TLV, payload };
        let operation = Operation::Create { target: path!("/42769").into(), content };
        perform(&mut [store], &operation, &Context::default()).0
    };
    let mut store = thing();
    assert_eq!(create(&mut store, b"\xc1\x00\x05"), Ok(Outcome::Created(Some(path!("/42769/1")))));
    // A read-only value is ignored.
    let payload = b"\x06\x02\xc1\x00\x05\xc1\x02\x09";
    assert_eq!(create(&mut store, payload), Ok(Outcome::Created(Some(path!("/42769/2")))));
    assert_eq!(store.instances.get(&2).unwrap().get(&(2, 0)), None);
    assert_eq!(create(&mut store, b"\xc1\x00\x05"), Ok(Outcome::Created(Some(path!("/42769/3")))));
    assert_eq!(create(&mut store, b"\xc1\x00\x05"), Ok(Outcome::Created(Some(path!("/42769/5")))));

    let before = store.clone();
    for (payload, error) in [
        (b"\x03\x00\xc1\x00\x05".as_slice(), Error::BadRequest), // there already
        (b"\x05\x09\xc3\x01two", Error::BadRequest),             // without what is mandatory
        (b"", Error::BadRequest),
        (b"\x03\x09\xc1\x00\x7f", Error::BadRequest), // out of range
        (b"\x03\x09\xc1\x00\x05\x03\x0a\xc1\x00\x05", Error::BadRequest), // two at once
        (b"\x03\x09\xc1\x00\x05\xc1\x00\x05", Error::BadRequest),
    ] {
        assert_eq!(create(&mut store, payload), Err(error), "{payload:x?}");
        assert_eq!(store, before);
    }
    // An object that breaks its word in the middle is left without the instance.
    store.broken = Some(1);
    assert_eq!(create(&mut store, b"\xc1\x00\x05\xc3\x01two"), Err(Error::Internal));
    assert_eq!(store.instances, before.instances);
}

#[test]
fn a_create_that_cannot_be_is_refused_and_creates_nothing() {
    let mut device = Store::new(&defs::DEVICE).with(0, &[(16, Value::String("U"))]);
    let tlv = Format::TLV;
    for (path, format, error) in [
        (path!("/9999"), tlv, Error::NotFound),
        (path!("/42770"), Format::SENML_CBOR, Error::NotFound),
        (path!("/0"), tlv, Error::Unauthorized),
        (path!("/3"), tlv, Error::MethodNotAllowed),
        (path!("/42769/9"), tlv, Error::MethodNotAllowed),
        // Formats that have no place for several values, or are of other operations.
        (path!("/42769"), Format::TEXT, Error::UnsupportedFormat),
        (path!("/42769"), Format::OPAQUE, Error::UnsupportedFormat),
        (path!("/42769"), Format::CBOR, Error::UnsupportedFormat),
        (path!("/42769"), Format::LINK, Error::UnsupportedFormat),
        (path!("/42769"), Format::SENML_ETCH_CBOR, Error::UnsupportedFormat),
        (path!("/42769"), Format(9999), Error::UnsupportedFormat),
    ] {
        let mut thing = thing();
        let content = Content { format, payload: b"\xc1\x00\x05" };
        let operation = Operation::Create { target: path.into(), content };
        let mut objects: [&mut dyn Object; 2] = [&mut thing, &mut device];
        let created = perform(&mut objects, &operation, &Context::default()).0;
        assert_eq!(created, Err(error), "{path} {format:?}");
        assert_eq!(thing, self::thing(), "{path} {format:?}");
    }
}

#[test]
fn an_object_with_a_single_instance_has_no_second_one() {
    // OMA ETS LightweightM2M-1.1-int-680
    let mut device = Store::new(&defs::DEVICE).with(0, &[(16, Value::String("U"))]);
    for payload in [b"".as_slice(), b"\x00\x00", b"\x00\x01"] {
        let content = Content { format: Format::TLV, payload };
        let operation = Operation::Create { target: path!("/3").into(), content };
        let created = perform(&mut [&mut device], &operation, &Context::default()).0;
        assert_eq!(created, Err(Error::MethodNotAllowed), "{payload:x?}");
    }
}

#[test]
fn senml_names_the_instance_to_create() {
    // [{bn: "/42769/9/", n: "0", v: 5}]
    let payload = b"\x81\xa3\x21\x69/42769/9/\x00\x610\x02\x05";
    let content = Content { format: Format::SENML_CBOR, payload };
    let operation = Operation::Create { target: path!("/42769").into(), content };
    let created = perform(&mut [&mut thing()], &operation, &Context::default()).0;
    assert_eq!(created, Ok(Outcome::Created(Some(path!("/42769/9")))));
}

#[test]
fn instances_and_elements_of_arrays_are_deleted_and_nothing_else() {
    let mut device = Store::new(&defs::DEVICE).with(0, &[(16, Value::String("U"))]);
    let mut thing = thing();
    let mut objects: [&mut dyn Object; 2] = [&mut thing, &mut device];
    for (path, result) in [
        (path!("/3/0"), Err(Error::MethodNotAllowed)),
        (path!("/42769"), Err(Error::MethodNotAllowed)),
        (Path::ROOT, Err(Error::MethodNotAllowed)),
        (path!("/42769/0/1"), Err(Error::MethodNotAllowed)),
        (path!("/42769/7"), Err(Error::NotFound)),
        (path!("/0/0"), Err(Error::Unauthorized)),
        (path!("/42769/0/3/5"), Ok(Outcome::Deleted)),
        (path!("/42769/0/3/5"), Err(Error::NotFound)),
        (path!("/42769/0"), Ok(Outcome::Deleted)),
        (path!("/42769/0"), Err(Error::NotFound)),
    ] {
        let operation = Operation::Delete { target: path.into() };
        assert_eq!(perform(&mut objects, &operation, &Context::default()).0, result, "{path}");
    }
}

#[test]
fn resources_are_executed_now_or_later() {
    let mut store = thing();
    let mut execute = |path: Path, text: &str| {
        let arguments = Arguments::parse(text.as_bytes()).unwrap();
        let operation = Operation::Execute { target: path.into(), arguments };
        perform(&mut [&mut store], &operation, &Context::default()).0
    };
    assert_eq!(execute(path!("/42769/0/4"), "0='a'"), Ok(Outcome::Changed));
    assert_eq!(execute(path!("/42769/0/4"), "9='later'"), Ok(Outcome::Deferred));
    assert_eq!(execute(path!("/42769/4/4"), ""), Err(Error::NotFound));
    assert_eq!(execute(path!("/42769/0/0"), ""), Err(Error::MethodNotAllowed));
    assert_eq!(execute(path!("/42769/0"), ""), Err(Error::MethodNotAllowed));
    assert_eq!(execute(path!("/42769/0/99"), ""), Err(Error::NotFound));
    assert_eq!(store.executed, [(0, 4, "0='a'".into()), (0, 4, "9='later'".into())]);
}

#[test]
fn attributes_are_checked_where_they_are_to_be_attached() {
    let check = |path: Path, queries: &[&str], attached: Attributes| {
        let mut change = AttributesChange::default();
        queries.iter().try_for_each(|query| change.query(query.as_bytes())).unwrap();
        let attributes = |_| attached;
        let context = Context { attributes: &attributes, ..Context::default() };
        perform(&mut [&mut thing()], &Operation::WriteAttributes { target: path.into(), change }, &context).0
    };
    let none = Attributes::default();
    assert_eq!(check(path!("/42769/0/0"), &["gt=45", "st=10"], none), Ok(Outcome::Changed));
    assert_eq!(check(path!("/42769/0/3/5"), &["lt=4"], none), Ok(Outcome::Changed));
    assert_eq!(check(path!("/42769"), &["pmin=4"], none), Ok(Outcome::Changed));
    assert_eq!(check(path!("/42769/0"), &["gt=4"], none), Err(Error::BadRequest));
    assert_eq!(check(path!("/42769/0/1"), &["gt=4"], none), Err(Error::BadRequest));
    assert_eq!(check(path!("/42769/0/0"), &["gt=20", "lt=85"], none), Err(Error::BadRequest));
    assert_eq!(check(path!("/42769/0/4"), &["pmin=1"], none), Err(Error::MethodNotAllowed));
    assert_eq!(check(path!("/42769/9"), &["pmin=1"], none), Err(Error::NotFound));
    assert_eq!(check(path!("/0"), &["pmin=1"], none), Err(Error::Unauthorized));
    // Together with what is attached already.
    let attached = Attributes { gt: Some(50.0), ..none };
    assert_eq!(check(path!("/42769/0/0"), &["lt=60"], attached), Err(Error::BadRequest));
    assert_eq!(check(path!("/42769/0/0"), &["lt=60", "gt"], attached), Ok(Outcome::Changed));
}

#[test]
fn discover_lists_as_in_the_examples_of_core() {
    let integer = Value::Integer(1);
    let mut device = Store::new(&defs::DEVICE)
        .with(
            0,
            &[
                (1, Value::String("a")),
                (2, Value::String("b")),
                (3, Value::String("c")),
                (16, Value::String("U")),
            ],
        )
        .array(0, 6, &[(0, integer), (1, integer)])
        .array(0, 7, &[(0, integer), (1, integer)])
        .array(0, 8, &[(0, integer), (1, integer)]);
    let server = Store::new(&defs::SERVER).with(0, &[]);
    let attributes = |path: Path| {
        let none = Attributes::default();
        match path.ids() {
            [3] => Attributes { pmin: Some(10), ..none },
            [3, 0] => Attributes { pmax: Some(60), ..none },
            [3, 0, 7] => Attributes { gt: Some(50.0), lt: Some(42.2), ..none },
            [3, 0, 7, 1] => Attributes { lt: Some(45.0), ..none },
            [1, 0, 4] => Attributes { pmax: Some(300), ..none },
            _ => none,
        }
    };
    let context = Context { attributes: &attributes, ..Context::default() };
    let mut discover = |path: Path, depth| {
        let operation = Operation::Discover { target: path.into(), depth };
        let (result, body) = perform(&mut [&mut device, &mut server.clone()], &operation, &context);
        result.map(|_| String::from_utf8(body).unwrap())
    };
    assert_eq!(
        discover(path!("/3"), None).unwrap(),
        "</3>;pmin=10,</3/0>;pmax=60,</3/0/1>,</3/0/2>,</3/0/3>,</3/0/4>,</3/0/6>;dim=2,</3/0/7>;dim=2;gt=50;lt=42.2,\
         </3/0/8>;dim=2,</3/0/11>;dim=0,</3/0/16>"
    );
    assert_eq!(discover(path!("/3"), Some(0)).unwrap(), "</3>;pmin=10");
    assert_eq!(discover(path!("/3"), Some(1)).unwrap(), "</3>;pmin=10,</3/0>;pmax=60");
    assert_eq!(discover(path!("/3/0"), Some(0)).unwrap(), "</3/0>;pmin=10;pmax=60");
    assert_eq!(
        discover(path!("/3/0/7"), None).unwrap(),
        "</3/0/7>;dim=2;pmin=10;pmax=60;gt=50;lt=42.2,</3/0/7/0>,</3/0/7/1>;lt=45"
    );
    assert_eq!(discover(path!("/1"), Some(1)).unwrap(), "</1>,</1/0>");
    assert_eq!(discover(path!("/3/0/7/0"), None), Err(Error::MethodNotAllowed));
    assert_eq!(discover(path!("/0"), None), Err(Error::Unauthorized));
    assert_eq!(discover(path!("/3/1"), None), Err(Error::NotFound));
}

/// A firmware-like object: its package is written and read in chunks, and never held.
#[derive(Default)]
struct Firmware {
    hash: u64,
    length: u32,
    complete: bool,
}

impl Object for Firmware {
    fn definition(&self) -> &'static ObjectDef {
        &IMAGE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        (at.resource == 3).then_some(Value::Integer(i64::from(self.complete)))
    }

    fn opaque_length(&self, at: At) -> Option<u32> {
        (at.resource == 7).then_some(100_000)
    }

    fn read_opaque(&self, _: At, offset: u32, out: &mut [u8]) -> Result<usize, Error> {
        // Less than asked for, as a flash page may end.
        let length = out.len().min(7);
        for (place, byte) in out.iter_mut().take(length).zip(offset..) {
            *place = byte as u8;
        }
        Ok(length)
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 0
    }

    fn write_opaque(&mut self, _: At, offset: u32, chunk: &[u8], last: bool) -> Result<Completion, Error> {
        if offset == 0 {
            *self = Self::default();
        }
        assert_eq!(offset, self.length);
        self.hash =
            chunk.iter().fold(self.hash, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        self.length = self.length.saturating_add(u32::try_from(chunk.len()).unwrap());
        self.complete = last;
        Ok(if last { Completion::Deferred } else { Completion::Done })
    }

    fn apply(&mut self, _: u16, _: &Change<'_>) -> Result<(), Error> {
        Err(Error::Internal)
    }
}

object! {
    IMAGE = 42770 version 1.0, single, optional {
        0 W S M Opaque;
        3 R S M Integer;
        7 R S O Opaque;
    }
}

#[test]
fn a_long_opaque_is_written_in_chunks_that_nobody_holds() {
    let mut firmware = Firmware::default();
    let package: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
    let path = path!("/42770/0/0");
    let mut objects: [&mut dyn Object; 1] = [&mut firmware];
    let mut tree = Tree::new(&mut [], &mut objects);
    assert!(tree.is_streamed(path) && !tree.is_streamed(path!("/42770/0/3")));
    let mut offset = 0;
    for chunk in package.chunks(1024) {
        let last = offset + chunk.len() == package.len();
        let outcome = tree.write_chunk(path, &Context::default(), offset as u32, chunk, last);
        assert_eq!(outcome, Ok(if last { Outcome::Deferred } else { Outcome::Continue }));
        offset += chunk.len();
    }
    let streamed = (firmware.hash, firmware.length, firmware.complete);

    // As a whole, in any format.
    let opaque = Content { format: Format::OPAQUE, payload: &package };
    let tlv = [b"\xd0\x00\x27\x10".as_slice(), &package].concat();
    let tlv = Content { format: Format::TLV, payload: &tlv };
    for content in [opaque, tlv] {
        let mut firmware = Firmware::default();
        let write = Operation::Write { target: path.into(), mode: WriteMode::Replace, content };
        assert_eq!(perform(&mut [&mut firmware], &write, &Context::default()).0, Ok(Outcome::Deferred));
        assert_eq!((firmware.hash, firmware.length, firmware.complete), streamed);
    }
}

#[test]
fn a_long_opaque_is_read_through_windows() {
    use lwm2m_coap::block::Window;
    let mut firmware = Firmware::default();
    let expected: Vec<u8> = (0..100_000_u32).map(|byte| byte as u8).collect();
    let mut objects: [&mut dyn Object; 1] = [&mut firmware];
    let mut tree = Tree::new(&mut [], &mut objects);
    let read = Operation::Read { target: path!("/42770/0/7").into(), accept: Some(Format::OPAQUE) };
    let mut whole = Body(Vec::new());
    tree.perform(&read, &Context::default(), &mut whole).unwrap();
    assert_eq!(whole.0, expected);
    for offset in [0, 1024, 99_328] {
        let mut space = [0; 1024];
        let mut window = Window::new(&mut space, offset);
        tree.perform(&read, &Context::default(), &mut window).unwrap();
        let start = offset as usize;
        assert_eq!(window.bytes(), expected.get(start..expected.len().min(start + 1024)).unwrap());
        assert_eq!(window.total(), 100_000);
    }
    for (format, head) in [
        (Format::TLV, b"\xd8\x07\x01\x86\xa0".as_slice()),
        (Format::SENML_CBOR, b"\x81\xa2\x21\x6a/42770/0/7\x08\x5a\x00\x01\x86\xa0"),
    ] {
        let read = Operation::Read { target: path!("/42770/0/7").into(), accept: Some(format) };
        let mut body = Body(Vec::new());
        tree.perform(&read, &Context::default(), &mut body).unwrap();
        assert!(body.0.starts_with(head));
        assert_eq!(body.0.get(head.len()..).unwrap(), expected);
    }
    let read = Operation::Read { target: path!("/42770/0/7").into(), accept: Some(Format::TEXT) };
    let mut text = Body(Vec::new());
    tree.perform(&read, &Context::default(), &mut text).unwrap();
    assert_eq!(text.0.len(), 133_336);
    assert!(text.0.starts_with(b"AAECAwQFBgcICQoL") && text.0.ends_with(b"=="));
}

#[test]
fn an_object_that_gives_another_type_than_it_defines_is_an_internal_error() {
    let mut store = Store::new(&THING).with(0, &[(0, Value::String("one"))]);
    assert_eq!(read(&mut [&mut store], path!("/42769/0/0"), Format::TEXT), Err(Error::Internal));
}

#[test]
fn the_first_of_two_objects_with_one_identifier_counts() {
    let (mut first, mut second) = (Store::new(&THING).with(0, &[(0, Value::Integer(1))]), thing());
    assert_eq!(
        read(&mut [&mut first, &mut second], path!("/42769"), Format::TLV).unwrap(),
        b"\x03\x00\xc1\x00\x01"
    );
}
