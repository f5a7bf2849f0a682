//! Composite operations (LwM2M Core 1.2.1 §6.3.8, §6.3.9, §6.4.4).

use super::common::{Body, Owned, Rights, Store, perform};
use lwm2m_objects::format::encode_names;
use lwm2m_objects::{
    Content, Context, Error, Format, Object, Operation, Outcome, Path, Paths, Value, Version, defs, object,
    path,
};

object! {
    /// Something of everything.
    THING = 42769 version 1.0, multiple, optional {
        0 RW S M Integer in -10, 100;
        1 RW S O String in 0, 8;
        2 R  S O Integer;
        3 RW M O Integer;
        5 W  S O Opaque;
    }
}

fn thing() -> Store {
    Store::new(&THING)
        .with(0, &[(0, Value::Integer(1)), (1, Value::String("one")), (2, Value::Integer(7))])
        .array(0, 3, &[(0, Value::Integer(10)), (5, Value::Integer(50))])
        .with(4, &[(0, Value::Integer(2)), (5, Value::Opaque(b"secret"))])
}

fn server() -> Store {
    Store::new(&defs::SERVER).with(0, &[(0, Value::Integer(1)), (1, Value::Integer(86400))])
}

fn security() -> Store {
    Store::new(&defs::SECURITY).with(0, &[(0, Value::String("coaps://a")), (5, Value::Opaque(b"key"))])
}

fn list(paths: &[Path]) -> Paths<'_> {
    Paths::List { prefix: None, paths }
}

fn read_with(
    objects: &mut [&mut dyn Object],
    paths: &Paths<'_>,
    accept: Option<Format>,
    context: &Context<'_>,
) -> Result<(Format, Vec<u8>), Error> {
    let (result, body) = perform(objects, &Operation::ReadComposite { paths: *paths, accept }, context);
    match result? {
        Outcome::Content(format) => Ok((format, body)),
        other => unreachable!("{other:?}"),
    }
}

/// SenML CBOR of records with these names.
fn pack(names: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0x80 | u8::try_from(names.len()).unwrap()];
    for name in names {
        bytes.extend([0xa1, 0x00, 0x60 | u8::try_from(name.len()).unwrap()]);
        bytes.extend(name.as_bytes());
    }
    bytes
}

fn listed(format: Format, payload: &[u8]) -> Result<Vec<Path>, Error> {
    let mut paths = Vec::new();
    Paths::Payload { prefix: None, content: Content { format, payload } }.try_for_each(&mut |path| {
        paths.push(path);
        Ok(())
    })?;
    Ok(paths)
}

#[test]
fn paths_are_the_names_of_records() {
    let three = [path!("/3/0/0"), path!("/3/0/9"), path!("/1/0/1")];
    for format in [Format::SENML_CBOR, Format::SENML_ETCH_CBOR] {
        assert_eq!(listed(format, &pack(&["/3/0/0", "/3/0/9", "/1/0/1"])).unwrap(), three);
        assert_eq!(listed(format, &pack(&["/"])).unwrap(), [Path::ROOT]);
        // A base name that goes on counts, alone too.
        assert_eq!(
            listed(format, b"\x82\xa2\x21\x64/4/0\x00\x61/\xa1\x00\x62/1").unwrap(),
            [path!("/4/0"), path!("/4/0/1")]
        );
        assert_eq!(listed(format, b"\x81\xa1\x21\x64/4/0").unwrap(), [path!("/4/0")]);
        assert_eq!(listed(format, b"\x81\xa1\x21\x65/4/0/").unwrap(), [path!("/4/0")]);
        assert_eq!(listed(format, b"\x81\xa1\x21\x61/").unwrap(), [Path::ROOT]);
        for wrong in [
            b"\x80".as_slice(),
            b"\x81\xa0",
            b"",
            b"\x81\xa1\x00\x62/x",
            b"\x82\xa1\x00\x62/3",
            b"\xa1\x00\x62/3",
        ] {
            assert_eq!(listed(format, wrong), Err(Error::BadRequest), "{wrong:x?}");
        }
    }
    // RFC 8790 §3.1: a value makes a Fetch Pack wrong; in SenML it means nothing.
    let with_value = b"\x81\xa2\x00\x64/3/0\x02\x01";
    assert_eq!(listed(Format::SENML_ETCH_CBOR, with_value), Err(Error::BadRequest));
    assert_eq!(listed(Format::SENML_CBOR, with_value).unwrap(), [path!("/3/0")]);
    for format in [Format::TLV, Format::TEXT, Format::LWM2M_CBOR, Format::JSON] {
        assert_eq!(listed(format, b""), Err(Error::UnsupportedFormat));
    }
}

#[cfg(feature = "json")]
#[test]
fn paths_are_the_names_of_records_of_json() {
    for format in [Format::SENML_JSON, Format::SENML_ETCH_JSON] {
        let text = br#"[{"bn":"/4/0/","n":"0"},{"n":"1"},{"n":"2"},{"bn":"/6/","n":"0"}]"#;
        let four = [path!("/4/0/0"), path!("/4/0/1"), path!("/4/0/2"), path!("/6/0")];
        assert_eq!(listed(format, text).unwrap(), four);
        assert_eq!(listed(format, br#"[{"n":"/"}]"#).unwrap(), [Path::ROOT]);
        assert_eq!(listed(format, br#"[{"bn":"/"}]"#).unwrap(), [Path::ROOT]);
        for wrong in ["[]", "[{}]", "", r#"[{"n":"/3"}"#, r#"[{"n":"x"}]"#, r#"{"n":"/3"}"#] {
            assert_eq!(listed(format, wrong.as_bytes()), Err(Error::BadRequest), "{wrong}");
        }
    }
    let with_value = br#"[{"n":"/3/0","v":1}]"#;
    assert_eq!(listed(Format::SENML_ETCH_JSON, with_value), Err(Error::BadRequest));
    assert_eq!(listed(Format::SENML_JSON, with_value).unwrap(), [path!("/3/0")]);
}

#[test]
fn names_are_written_as_they_are_read() {
    let paths = [Path::ROOT, path!("/3"), path!("/3/0/6/1")];
    for format in [Format::SENML_CBOR, Format::SENML_ETCH_CBOR, Format::SENML_JSON, Format::SENML_ETCH_JSON] {
        for prefix in [None, Some("a\"b/c")] {
            let mut payload = Body(Vec::new());
            let written = encode_names(format, prefix, &paths, &mut payload);
            if written == Err(Error::UnsupportedFormat) {
                assert!(!cfg!(feature = "json") && format != Format::SENML_CBOR);
                continue;
            }
            let mut read = Vec::new();
            let content = Content { format, payload: &payload.0 };
            let each = &mut |path| {
                read.push(path);
                Ok(())
            };
            Paths::Payload { prefix, content }.try_for_each(each).unwrap();
            assert_eq!(read, paths);
        }
    }
    assert_eq!(encode_names(Format::TLV, None, &paths, &mut Body(Vec::new())), Err(Error::UnsupportedFormat));
}

#[test]
fn what_is_there_is_read_and_what_is_not_is_left_out() {
    let (mut thing, mut server, mut security) = (thing(), server(), security());
    let mut objects: [&mut dyn Object; 3] = [&mut security, &mut server, &mut thing];
    let context = Context::default();
    let paths = [
        path!("/42769/0/3"),
        path!("/42769/0/99"),
        path!("/42769/4/5"),
        path!("/7"),
        path!("/1/0"),
        // Each value once.
        path!("/1/0/1"),
        path!("/1/0"),
    ];
    let expected = b"\x84\xa3\x21\x61/\x00\x6b42769/0/3/0\x02\x0a\xa2\x00\x6b42769/0/3/5\x02\x18\x32\
        \xa2\x00\x651/0/0\x02\x01\xa2\x00\x651/0/1\x02\x1a\x00\x01\x51\x80";
    let answer = read_with(&mut objects, &list(&paths), None, &context).unwrap();
    assert_eq!(answer, (Format::SENML_CBOR, expected.to_vec()));
    // The root is everything but what holds credentials.
    let (_, all) = read_with(&mut objects, &list(&[Path::ROOT]), None, &context).unwrap();
    let (_, both) = read_with(&mut objects, &list(&[path!("/1"), path!("/42769")]), None, &context).unwrap();
    assert_eq!(all, both);
    assert!(!all.windows(3).any(|window| window == b"key"));
    // Nothing is there: an empty pack.
    let nothing = read_with(&mut objects, &list(&[path!("/42769/1")]), None, &context).unwrap();
    assert_eq!(nothing.1, b"\x80");
}

#[test]
fn only_packs_hold_what_lies_apart() {
    let mut thing = thing();
    let paths = [path!("/42769/0/0")];
    let paths = list(&paths);
    for accept in
        [Format::TLV, Format::TEXT, Format::CBOR, Format::LINK, Format::JSON, Format::SENML_ETCH_CBOR]
    {
        let refused = read_with(&mut [&mut thing], &paths, Some(accept), &Context::default());
        assert_eq!(refused, Err(Error::NotAcceptable), "{accept:?}");
    }
    let context = Context { format: Format::TLV, ..Context::default() };
    assert_eq!(read_with(&mut [&mut thing], &paths, None, &context).unwrap().0, Format::SENML_CBOR);
    let context = Context { version: Version::new(1, 0), ..Context::default() };
    assert_eq!(read_with(&mut [&mut thing], &paths, None, &context), Err(Error::MethodNotAllowed));
    let payload = pack(&["/42769/0/0"]);
    let content = Content { format: Format::TLV, payload: &payload };
    let wrong = Paths::Payload { prefix: None, content };
    assert_eq!(
        read_with(&mut [&mut thing], &wrong, None, &Context::default()),
        Err(Error::UnsupportedFormat)
    );
}

#[test]
fn names_stand_behind_the_alternate_path() {
    let mut thing = thing();
    let payload = pack(&["/lwm2m/42769/0/2"]);
    let content = Content { format: Format::SENML_ETCH_CBOR, payload: &payload };
    let paths = Paths::Payload { prefix: Some("lwm2m"), content };
    let (_, body) = read_with(&mut [&mut thing], &paths, None, &Context::default()).unwrap();
    let named = b"\x81\xa3\x21\x67/lwm2m/\x00\x6942769/0/2\x02\x07";
    assert_eq!(body, named);
    // So do those of a list.
    let paths = Paths::List { prefix: Some("lwm2m"), paths: &[path!("/42769/0/2")] };
    assert_eq!(read_with(&mut [&mut thing], &paths, None, &Context::default()).unwrap().1, named);
}

#[test]
fn what_a_server_may_not_read_is_left_out_and_nothing_else_is_unauthorized() {
    let (mut thing, mut security) = (thing(), security());
    let rights = Rights(vec![(42769, 0, 1)]);
    let context = Context { access: &rights, ..Context::default() };
    let mut read = |paths: &[Path]| read_with(&mut [&mut security, &mut thing], &list(paths), None, &context);
    let (_, body) = read(&[path!("/42769/4/0"), path!("/42769/0/0"), path!("/0")]).unwrap();
    assert_eq!(body, b"\x81\xa3\x21\x61/\x00\x6942769/0/0\x02\x01");
    assert_eq!(read(&[path!("/42769/4")]), Err(Error::Unauthorized));
    assert_eq!(read(&[path!("/0/0/5")]), Err(Error::Unauthorized));
    assert_eq!(read(&[path!("/42769/9")]).unwrap().1, b"\x80");
}

fn write(objects: &mut [&mut dyn Object], format: Format, payload: &[u8]) -> Result<Outcome, Error> {
    let content = Content { format, payload };
    perform(objects, &Operation::WriteComposite { prefix: None, content }, &Context::default()).0
}

fn value(store: &Store, instance: u16, resource: u16, resource_instance: u16) -> Option<Owned> {
    store.instances.get(&instance)?.get(&(resource, resource_instance)).cloned()
}

#[test]
fn all_is_written_or_nothing() {
    let (mut first, mut account) = (thing(), server());
    // /42769/0/0 = 5, /1/0/1 = 60, /42769/0/3/5 = 51, /42769/4/0 = 9
    let good = b"\x84\xa2\x00\x6a/42769/0/0\x02\x05\xa2\x00\x66/1/0/1\x02\x18\x3c\
        \xa2\x00\x6c/42769/0/3/5\x02\x18\x33\xa2\x00\x6a/42769/4/0\x02\x09";
    let mut objects: [&mut dyn Object; 2] = [&mut account, &mut first];
    assert_eq!(write(&mut objects, Format::SENML_CBOR, good), Ok(Outcome::Changed));
    assert_eq!(value(&account, 0, 1, 0), Some(Owned::Integer(60)));
    assert_eq!(value(&first, 0, 0, 0), Some(Owned::Integer(5)));
    assert_eq!(value(&first, 0, 3, 5), Some(Owned::Integer(51)));
    assert_eq!(value(&first, 0, 3, 0), Some(Owned::Integer(10)));
    assert_eq!(value(&first, 0, 1, 0), Some(Owned::Text("one".into())));
    assert_eq!(value(&first, 4, 0, 0), Some(Owned::Integer(9)));

    // Each of these is wrong in its last record; the first one would be right.
    for (record, error) in [
        (b"\xa2\x00\x6a/42769/0/0\x02\x18\x65".as_slice(), Error::BadRequest),
        (b"\xa2\x00\x6a/42769/0/0\x03\x61x", Error::BadRequest),
        (b"\xa2\x00\x6a/42769/0/1\x03\x63bad", Error::BadRequest),
        (b"\xa2\x00\x6a/42769/0/2\x02\x01", Error::MethodNotAllowed),
        (b"\xa2\x00\x6b/42769/0/99\x02\x01", Error::NotFound),
        (b"\xa2\x00\x6a/42769/4/1\x03\x61x", Error::NotFound),
        (b"\xa2\x00\x6c/42769/0/3/1\x02\x01", Error::NotFound),
        (b"\xa2\x00\x6a/42769/0/3\x02\x01", Error::BadRequest),
        (b"\xa2\x00\x6c/42769/0/0/0\x02\x01", Error::MethodNotAllowed),
        (b"\xa2\x00\x6a/42769/1/0\x02\x01", Error::NotFound),
        (b"\xa2\x00\x66/7/0/0\x02\x01", Error::NotFound),
        (b"\xa2\x00\x66/0/0/1\x04\xf5", Error::Unauthorized),
        // Only a Patch Pack deletes, and only instances of resources.
        (b"\xa2\x00\x6c/42769/0/3/5\x02\xf6", Error::BadRequest),
    ] {
        let payload = [b"\x82\xa2\x00\x6a/42769/4/0\x02\x0a", record].concat();
        let before = (first.clone(), account.clone());
        let mut security = security();
        let mut objects: [&mut dyn Object; 3] = [&mut security, &mut account, &mut first];
        assert_eq!(write(&mut objects, Format::SENML_CBOR, &payload), Err(error), "{record:x?}");
        assert_eq!((first.clone(), account.clone()), before);
    }
    for format in [Format::TLV, Format::TEXT, Format::JSON, Format::CBOR] {
        assert_eq!(write(&mut [&mut first], format, good), Err(Error::UnsupportedFormat));
    }
    assert_eq!(write(&mut [&mut first], Format::SENML_CBOR, b"\x80"), Err(Error::BadRequest));
}

#[test]
fn a_patch_pack_deletes_instances_of_resources() {
    let mut thing = thing();
    let gone = b"\x82\xa2\x00\x6c/42769/0/3/5\x02\xf6\xa2\x00\x6c/42769/0/3/0\x02\x0b";
    assert_eq!(write(&mut [&mut thing], Format::SENML_ETCH_CBOR, gone), Ok(Outcome::Changed));
    assert_eq!(value(&thing, 0, 3, 5), None);
    assert_eq!(value(&thing, 0, 3, 0), Some(Owned::Integer(11)));
    // Of all instances of a resource at once nothing is said.
    let array = b"\x81\xa2\x00\x6a/42769/0/3\x02\xf6";
    assert_eq!(write(&mut [&mut thing], Format::SENML_ETCH_CBOR, array), Err(Error::BadRequest));
    let single = b"\x81\xa2\x00\x6a/42769/0/1\x02\xf6";
    assert_eq!(write(&mut [&mut thing], Format::SENML_ETCH_CBOR, single), Err(Error::BadRequest));
    // It is no format of a Write.
    let content = Content { format: Format::SENML_ETCH_CBOR, payload: gone };
    let mode = lwm2m_objects::WriteMode::Partial;
    let operation = Operation::Write { target: path!("/42769/0").into(), mode, content };
    let (refused, _) = perform(&mut [&mut thing], &operation, &Context::default());
    assert_eq!(refused, Err(Error::UnsupportedFormat));
    #[cfg(feature = "json")]
    {
        let gone = br#"[{"bn":"/42769/0/","n":"3/0","v":null},{"n":"0","v":8}]"#;
        assert_eq!(write(&mut [&mut thing], Format::SENML_ETCH_JSON, gone), Ok(Outcome::Changed));
        assert_eq!(value(&thing, 0, 0, 0), Some(Owned::Integer(8)));
        assert_eq!(value(&thing, 0, 3, 0), None);
        assert_eq!(write(&mut [&mut thing], Format::SENML_JSON, gone), Err(Error::BadRequest));
    }
}

#[test]
fn a_server_needs_the_right_to_all_that_it_writes() {
    let mut thing = thing();
    let rights = Rights(vec![(42769, 0, 2), (42769, 4, 1)]);
    let context = Context { access: &rights, ..Context::default() };
    let payload = b"\x82\xa2\x00\x6a/42769/0/0\x02\x05\xa2\x00\x6a/42769/4/0\x02\x09";
    let content = Content { format: Format::SENML_CBOR, payload };
    let before = thing.clone();
    let operation = Operation::WriteComposite { prefix: None, content };
    assert_eq!(perform(&mut [&mut thing], &operation, &context).0, Err(Error::Unauthorized));
    assert_eq!(thing, before);
    let context = Context { version: Version::new(1, 0), ..Context::default() };
    assert_eq!(perform(&mut [&mut thing], &operation, &context).0, Err(Error::MethodNotAllowed));
}
