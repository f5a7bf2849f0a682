//! The bootstrap interface (LwM2M Core 1.2.1 §6.1).

use super::common::{Body, Owned, Store, perform};
use lwm2m_objects::{
    Content, Context, Discovered, Error, Format, Object, ObjectLink, Operation, Outcome, Path, Root, Tree,
    Value, Version, defs, object, path,
};

object! {
    OSCORE = 21 version 2.0, multiple, optional {
        0 - S M Opaque;
    }
}

/// The Bootstrap-Server's account is `/0/1` with `/21/1`; two servers have `/0/0` and `/0/2`.
fn security() -> Store {
    let server = |number, uri| {
        [
            (0, Value::String(uri)),
            (1, Value::Boolean(false)),
            (5, Value::Opaque(b"key")),
            (10, Value::Integer(number)),
            (17, Value::ObjectLink(ObjectLink::NULL)),
        ]
    };
    let link = Value::ObjectLink(ObjectLink { object: 21, instance: 1 });
    Store::new(&defs::SECURITY)
        .with(0, &server(101, "coaps://server_1.example.com"))
        .with(1, &[(0, Value::String("coaps://bs.example.com")), (1, Value::Boolean(true)), (17, link)])
        .with(2, &server(102, "coap://server_1.example.com"))
        .with(0, &[(17, Value::ObjectLink(ObjectLink { object: 21, instance: 0 }))])
        .with(2, &[(17, Value::ObjectLink(ObjectLink { object: 21, instance: 2 }))])
}

fn server() -> Store {
    Store::new(&defs::SERVER)
        .with(0, &[(0, Value::Integer(101)), (1, Value::Integer(60)), (13, Value::Unsigned(2))])
}

fn write(store: &mut Store, path: Path, format: Format, payload: &[u8]) -> Result<Outcome, Error> {
    let operation = Operation::BootstrapWrite { path, content: Content { format, payload } };
    perform(&mut [store], &operation, &Context::default()).0
}

#[test]
fn several_accounts_are_written_at_once_whatever_was_there() {
    let mut store = server();
    // Instance 0: 0 = 102, 1 = 86400, unknown 99; instance 7: 0 = 103, 1 = 30.
    let payload =
        b"\x08\x00\x0c\xc1\x00\x66\xc4\x01\x00\x01\x51\x80\xc1\x63\x01\x07\x07\xc1\x00\x67\xc2\x01\x00\x1e";
    assert_eq!(write(&mut store, path!("/1"), Format::TLV, payload), Ok(Outcome::Changed));
    let numbers: Vec<_> =
        store.instances.iter().map(|(id, values)| (*id, values.get(&(0, 0)).cloned())).collect();
    assert_eq!(numbers, [(0, Some(Owned::Integer(102))), (7, Some(Owned::Integer(103)))]);
    // What the account had before and was not written is gone.
    assert_eq!(store.instances.get(&0).unwrap().len(), 2);
}

#[test]
fn an_instance_and_a_single_resource_are_written_into_being() {
    let mut store = Store::new(&defs::SECURITY);
    assert_eq!(write(&mut store, path!("/0/3/1"), Format::TEXT, b"0"), Ok(Outcome::Changed));
    assert_eq!(write(&mut store, path!("/0/3/5"), Format::OPAQUE, b"secret"), Ok(Outcome::Changed));
    assert_eq!(store.instances.get(&3).unwrap().len(), 2);
    // {bn: "/0/4/", n: "10", v: 1}
    assert_eq!(
        write(&mut store, path!("/0/4"), Format::SENML_CBOR, b"\x81\xa3\x21\x65/0/4/\x00\x6210\x02\x01"),
        Ok(Outcome::Changed)
    );
    assert_eq!(store.instances.get(&4).unwrap().get(&(10, 0)), Some(&Owned::Integer(1)));
    // An array, then another in its place.
    let array = |value| [0x86, 0x10, 0x42, 0x00, 0xc0, 0xa8, 0x41, value, 0x01];
    assert_eq!(write(&mut store, path!("/0/4/16"), Format::TLV, &array(1)), Err(Error::BadRequest));
    let array = |index| [0x88, 0x10, 0x04, 0x42, index, 0xc0, 0xa8];
    assert_eq!(write(&mut store, path!("/0/4/16"), Format::TLV, &array(1)), Ok(Outcome::Changed));
    assert_eq!(write(&mut store, path!("/0/4/16"), Format::TLV, &array(2)), Ok(Outcome::Changed));
    assert_eq!(store.next_resource_instance(4, 16, Some(0)), Some(2));
}

#[test]
fn bad_data_is_refused_and_changes_nothing() {
    for (path, format, payload, error) in [
        (path!("/9"), Format::TLV, b"".as_slice(), Error::BadRequest),
        (Path::ROOT, Format::TLV, b"", Error::BadRequest),
        (path!("/1/0/99"), Format::TEXT, b"1", Error::BadRequest),
        (path!("/1/0/0"), Format::TEXT, b"0", Error::BadRequest),
        (path!("/1/0/4"), Format::TEXT, b"", Error::BadRequest),
        (path!("/1"), Format::TEXT, b"", Error::UnsupportedFormat),
        (path!("/1"), Format(9999), b"", Error::UnsupportedFormat),
        // No instance is named; a good instance before a bad one.
        (path!("/1"), Format::TLV, b"\xc1\x00\x66", Error::BadRequest),
        (path!("/1"), Format::TLV, b"\x03\x05\xc1\x00\x66\x03\x06\xc1\x06\x02", Error::BadRequest),
    ] {
        let mut store = server();
        assert_eq!(write(&mut store, path, format, payload), Err(error), "{path} {payload:x?}");
        assert_eq!(store, server(), "{path}");
    }
    // No room for another account.
    let mut store = Store { capacity: 1, ..server() };
    assert_eq!(write(&mut store, path!("/1/5"), Format::TLV, b"\xc1\x00\x66"), Err(Error::Internal));
    assert_eq!(store.instances, server().instances);
}

#[test]
fn delete_keeps_the_bootstrap_account_and_the_device() {
    let mut device = Store::new(&defs::DEVICE).with(0, &[(16, Value::String("U"))]);
    let (mut security, mut server) = (security(), server());
    let key = [(0, Value::Opaque(b"master"))];
    let mut oscore = Store::new(&OSCORE).with(0, &key).with(1, &key).with(2, &key);
    let mut thing = Store::new(&defs::TEMPERATURE).with(0, &[(5700, Value::Float(1.0))]);
    let mut objects: [&mut dyn Object; 5] =
        [&mut security, &mut server, &mut oscore, &mut device, &mut thing];
    let mut delete =
        |path| perform(&mut objects, &Operation::BootstrapDelete { path }, &Context::default()).0;
    assert_eq!(delete(path!("/0/1")), Err(Error::BadRequest));
    assert_eq!(delete(path!("/21/1")), Err(Error::BadRequest));
    assert_eq!(delete(path!("/3/0")), Err(Error::BadRequest));
    assert_eq!(delete(path!("/1/9")), Err(Error::BadRequest));
    assert_eq!(delete(path!("/1/0/0")), Err(Error::BadRequest));
    assert_eq!(delete(path!("/0/2")), Ok(Outcome::Deleted));
    assert_eq!(delete(path!("/1")), Ok(Outcome::Deleted));
    assert_eq!(delete(Path::ROOT), Ok(Outcome::Deleted));
    let left = [security, server, oscore, device, thing]
        .map(|store| store.instances.into_keys().collect::<Vec<_>>());
    assert_eq!(left, [vec![1], vec![], vec![1], vec![0], vec![]]);
}

#[test]
fn discover_tells_which_account_is_whose() {
    let key = [(0, Value::Opaque(b"master"))];
    let mut oscore = Store::new(&OSCORE).with(0, &key).with(1, &key).with(2, &key);
    let mut device = Store::new(&defs::DEVICE).with(0, &[]);
    let mut firmware = Store::new(&defs::FIRMWARE_UPDATE);
    let (mut security, mut server) = (security(), server());
    let mut objects: [&mut dyn Object; 5] =
        [&mut security, &mut oscore, &mut server, &mut device, &mut firmware];
    let context = Context { version: Version::new(1, 2), ..Context::default() };
    let mut discover = |path| {
        let (result, body) = perform(&mut objects, &Operation::BootstrapDiscover { path }, &context);
        result.map(|_| String::from_utf8(body).unwrap())
    };
    let security = "</0/0>;ssid=101;uri=\"coaps://server_1.example.com\",</0/1>,\
                    </0/2>;ssid=102;uri=\"coap://server_1.example.com\"";
    assert_eq!(discover(path!("/0")).unwrap(), format!("</>;lwm2m=1.2,{security}"));
    let all = discover(Path::ROOT).unwrap();
    let rest = "</21/0>;ssid=101,</21/1>,</21/2>;ssid=102,</1/0>;ssid=101,</3/0>,</5>";
    assert_eq!(all, format!("</>;lwm2m=1.2,{security},{rest}"));
    assert_eq!(discover(path!("/7")), Err(Error::NotFound));
    assert_eq!(discover(path!("/0/0")), Err(Error::BadRequest));

    let discovered = Discovered::parse(all.as_bytes()).unwrap();
    assert_eq!(discovered.version(), Some(Version::new(1, 2)));
    let entries: Vec<_> = discovered.iter().collect();
    assert_eq!(entries.len(), 9);
    let first = entries.first().unwrap();
    assert_eq!(
        (first.path, first.server, first.uri),
        (path!("/0/0"), Some(101), Some("coaps://server_1.example.com"))
    );
    assert!(entries.iter().any(|entry| entry.path == path!("/5") && entry.server.is_none()));
}

#[test]
fn answers_to_discover_are_read_as_they_come() {
    let text = "</>;lwm2m=1.1,</0/0>;ssid=101;uri=\"coaps://server_1.example.com\",</0/1>,</1/0>;ssid=101,</3/0>,</5>,</4>";
    let discovered = Discovered::parse(text.as_bytes()).unwrap();
    assert_eq!((discovered.version(), discovered.iter().count()), (Some(Version::new(1, 1)), 6));
    // The legacy form, without a link for the version and with slashes behind.
    let discovered = Discovered::parse(b"lwm2m=1.0,</0/0>;ssid=101,</0/1/>,</0/2>;ssid=102").unwrap();
    assert_eq!(discovered.version(), Some(Version::new(1, 0)));
    let accounts: Vec<_> = discovered.iter().map(|entry| (entry.path, entry.server)).collect();
    assert_eq!(accounts, [(path!("/0/0"), Some(101)), (path!("/0/1"), None), (path!("/0/2"), Some(102))]);
    assert_eq!(Discovered::parse(b"</0/0>;ssid=101,</0"), Err(Error::BadRequest));
    assert_eq!(Discovered::parse(b"\xff"), Err(Error::BadRequest));
}

#[test]
fn objects_1_and_2_are_read_and_no_other() {
    let (mut security, mut server) = (security(), server());
    let mut objects: [&mut dyn Object; 2] = [&mut security, &mut server];
    let mut read = |path| {
        let operation = Operation::BootstrapRead { path, accept: Some(Format::TLV) };
        let (result, body) = perform(&mut objects, &operation, &Context::default());
        result.map(|_| body)
    };
    assert_eq!(read(path!("/1")).unwrap(), b"\x08\x00\x09\xc1\x00\x65\xc1\x01\x3c\xc1\x0d\x02");
    assert_eq!(read(path!("/1/0")).unwrap(), b"\xc1\x00\x65\xc1\x01\x3c\xc1\x0d\x02");
    assert_eq!(read(path!("/2")), Err(Error::NotFound));
    assert_eq!(read(path!("/1/1")), Err(Error::NotFound));
    for path in [path!("/0"), path!("/0/0"), path!("/1/0/1"), Path::ROOT, path!("/3")] {
        assert_eq!(read(path), Err(Error::MethodNotAllowed));
    }
}

#[test]
fn a_registration_lists_what_servers_may_know() {
    let key = [(0, Value::Opaque(b"master"))];
    let mut oscore = Store::new(&OSCORE).with(0, &key);
    let mut device = Store::new(&defs::DEVICE).with(0, &[]);
    let mut firmware = Store::new(&defs::FIRMWARE_UPDATE);
    let mut temperature = Store::new(&defs::TEMPERATURE).with(0, &[]).with(1, &[]);
    let (mut security, mut server) = (security(), server());
    let mut objects: [&mut dyn Object; 5] =
        [&mut oscore, &mut server, &mut device, &mut firmware, &mut temperature];
    let mut core: [&mut dyn Object; 1] = [&mut security];
    let tree = Tree::new(&mut core, &mut objects);
    let list = |version, root: &Root<'_>| {
        let mut body = Body(Vec::new());
        tree.emit_links(version, root, &mut body).unwrap();
        String::from_utf8(body.0).unwrap()
    };
    let plain = "</1/0>,</3/0>,</5>,</3303>;ver=1.1,</3303/0>,</3303/1>";
    assert_eq!(list(Version::new(1, 1), &Root::default()), plain);
    let root = Root { alternate: "/lwm2m", formats: &[Format::SENML_CBOR, Format::TLV] };
    assert_eq!(
        list(Version::new(1, 2), &root),
        "</lwm2m>;rt=\"oma.lwm2m\";ct=\"112 11542\",</lwm2m/1/0>,</lwm2m/3/0>,</lwm2m/5>,</lwm2m/3303>;ver=1.1,\
         </lwm2m/3303/0>,</lwm2m/3303/1>"
    );
    let root = Root { alternate: "", formats: &[Format::SENML_CBOR] };
    assert!(list(Version::new(1, 1), &root).starts_with("</>;ct=112,</1/0>"));
}
