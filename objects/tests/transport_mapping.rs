//! Operations as CoAP messages and back: the request lines of LwM2M Transport 1.2, and round trips.
#![expect(clippy::unwrap_used, reason = "test")]

use lwm2m_coap::{
    Code, ContentFormat, Header, Kind, Message, MessageId, OptionNumber, Room, Token, Writer, udp,
};
use lwm2m_objects::{
    Arguments, Attributes, AttributesChange, Content, Error, Format, Location, Operation, Outcome,
    Parameters, Path, Paths, Registered, Target, Version, WriteMode, mapping, path,
};
use proptest::prelude::*;

/// Writes a message and hands it out parsed.
fn message<R>(write: impl FnOnce(&mut Writer<'_>), read: impl FnOnce(&Message<'_>) -> R) -> R {
    let mut buffer = [0; 600];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
    write(&mut writer);
    let mut draft = writer.finish().unwrap();
    let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
    let place = draft.emit(header, Token::EMPTY);
    let bytes = buffer.get(place).unwrap().to_vec();
    let (_, message) = udp::parse(&bytes).unwrap();
    read(&message)
}

/// The request line of an operation: method, path, query, Content-Format, Accept, Observe.
fn line(operation: &Operation<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    message(
        |writer| {
            mapping::emit(operation, writer).unwrap();
            writer.payload(mapping::payload(operation)).unwrap();
        },
        |message| {
            let method = [
                (Code::GET, "GET"),
                (Code::POST, "POST"),
                (Code::PUT, "PUT"),
                (Code::DELETE, "DELETE"),
                (Code::FETCH, "FETCH"),
                (Code::IPATCH, "iPATCH"),
            ];
            let method = method.iter().find(|(code, _)| *code == message.code).unwrap().1;
            let path: String =
                message.options.uri_path().map(|segment| format!("/{}", text(segment))).collect();
            let query: Vec<_> = message.options.uri_query().map(text).collect();
            let mut line = format!("{method} {}", if path.is_empty() { "/".into() } else { path });
            if !query.is_empty() {
                line += &format!("?{}", query.join("&"));
            }
            for (name, value) in [
                ("ct", message.options.content_format().map(|format| u32::from(format.0))),
                ("accept", message.options.accept().map(|format| u32::from(format.0))),
                ("observe", message.options.observe()),
            ] {
                line += &value.map(|value| format!(" {name}={value}")).unwrap_or_default();
            }
            line
        },
    )
}

fn change(queries: &[&str]) -> AttributesChange {
    let mut change = AttributesChange::default();
    queries.iter().for_each(|query| change.query(query.as_bytes()).unwrap());
    change
}

const NAMES: Paths<'_> = Paths::Payload { prefix: None, content: SENML };
const SENML: Content<'_> = Content { format: Format::SENML_CBOR, payload: b"\x81\xa1\x00\x62/3" };
const TLV: Content<'_> = Content { format: Format::TLV, payload: b"\xc1\x00\x01" };

fn target(path: Path) -> Target<'static> {
    path.into()
}

fn managed() -> Vec<(Operation<'static>, &'static str)> {
    let tlv = Some(Format::TLV);
    vec![
        (Operation::Read { target: target(path!("/3/0/6/1")), accept: None }, "GET /3/0/6/1"),
        (Operation::Read { target: target(path!("/3")), accept: tlv }, "GET /3 accept=11542"),
        (Operation::Discover { target: target(path!("/3/0")), depth: None }, "GET /3/0 accept=40"),
        (Operation::Discover { target: target(path!("/3")), depth: Some(1) }, "GET /3?depth=1 accept=40"),
        (
            Operation::Write { target: target(path!("/3/0")), mode: WriteMode::Replace, content: TLV },
            "PUT /3/0 ct=11542",
        ),
        (
            Operation::Write { target: target(path!("/3/0/6")), mode: WriteMode::Partial, content: TLV },
            "POST /3/0/6 ct=11542",
        ),
        (
            Operation::WriteAttributes {
                target: target(path!("/3/0/9")),
                change: change(&["gt=45", "st=10"]),
            },
            "PUT /3/0/9?gt=45&st=10",
        ),
        (
            Operation::WriteAttributes { target: target(path!("/3/0/9")), change: change(&["pmin"]) },
            "PUT /3/0/9?pmin",
        ),
        (Operation::Execute { target: target(path!("/3/0/4")), arguments: Arguments::NONE }, "POST /3/0/4"),
        (
            Operation::Execute {
                target: target(path!("/1/0/8")),
                arguments: Arguments::parse(b"0='U'").unwrap(),
            },
            "POST /1/0/8 ct=0",
        ),
        (
            Operation::Execute {
                target: target(path!("/1/0/8")),
                arguments: Arguments::parse_query(b"0=U").unwrap(),
            },
            "POST /1/0/8?0=U",
        ),
        (Operation::Create { target: target(path!("/16")), content: TLV }, "POST /16 ct=11542"),
        (Operation::Delete { target: target(path!("/16/1")) }, "DELETE /16/1"),
        (
            Operation::Observe { target: target(path!("/3/0/7")), accept: tlv },
            "GET /3/0/7 accept=11542 observe=0",
        ),
        (
            Operation::CancelObservation { target: target(path!("/3/0/7")), accept: None },
            "GET /3/0/7 observe=1",
        ),
        (Operation::ReadComposite { paths: NAMES, accept: None }, "FETCH / ct=112"),
        (
            Operation::ObserveComposite { paths: NAMES, accept: Some(Format::SENML_JSON) },
            "FETCH / ct=112 accept=110 observe=0",
        ),
        (Operation::CancelObservationComposite { paths: NAMES, accept: None }, "FETCH / ct=112 observe=1"),
        (Operation::WriteComposite { prefix: None, content: SENML }, "iPATCH / ct=112"),
    ]
}

fn bootstrap() -> Vec<(Operation<'static>, &'static str)> {
    vec![
        (Operation::BootstrapWrite { path: path!("/0"), content: TLV }, "PUT /0 ct=11542"),
        (Operation::BootstrapDiscover { path: Path::ROOT }, "GET / accept=40"),
        (Operation::BootstrapDiscover { path: path!("/0") }, "GET /0 accept=40"),
        (
            Operation::BootstrapRead { path: path!("/1/0"), accept: Some(Format::TLV) },
            "GET /1/0 accept=11542",
        ),
        (Operation::BootstrapDelete { path: Path::ROOT }, "DELETE /"),
        (Operation::BootstrapDelete { path: path!("/0/1") }, "DELETE /0/1"),
        (Operation::BootstrapFinish, "POST /bs"),
    ]
}

fn registration() -> Vec<(Operation<'static>, &'static str)> {
    let none = Parameters::default();
    let parameters = Parameters {
        endpoint: Some("example-client"),
        lifetime: Some(86400),
        version: Some(Version::new(1, 1)),
        binding: Some("U"),
        ..none
    };
    let queue = Parameters {
        endpoint: Some("node1"),
        lifetime: Some(3600),
        version: Some(Version::new(1, 2)),
        queue_mode: true,
        profile: Some("6:1234abcd"),
        ..parameters
    };
    vec![
        (
            Operation::Register { parameters, links: b"</1/0>,</3/0>" },
            "POST /rd?ep=example-client&lt=86400&lwm2m=1.1&b=U ct=40",
        ),
        (
            Operation::Register { parameters: queue, links: b"" },
            "POST /rd?ep=node1&lt=3600&lwm2m=1.2&b=U&Q&pid=6:1234abcd ct=40",
        ),
        (
            Operation::Update {
                location: Location("5a3f"),
                parameters: Parameters { lifetime: Some(6000), ..none },
                links: None,
            },
            "POST /rd/5a3f?lt=6000",
        ),
        (
            Operation::Update { location: Location("5a3f"), parameters: none, links: Some(b"</1/0>") },
            "POST /rd/5a3f ct=40",
        ),
        (Operation::Deregister { location: Location("5a3f") }, "DELETE /rd/5a3f"),
        (
            Operation::BootstrapRequest { endpoint: Some("node1"), preferred: Some(Format::SENML_CBOR) },
            "POST /bs?ep=node1&pct=112",
        ),
        (Operation::BootstrapRequest { endpoint: None, preferred: None }, "POST /bs"),
        (Operation::Send { content: SENML }, "POST /dp ct=112"),
    ]
}

#[test]
fn operations_are_the_request_lines_of_the_specification_and_read_back() {
    for (list, role) in [(managed(), 0), (bootstrap(), 1), (registration(), 2)] {
        for (operation, expected) in list {
            assert_eq!(line(&operation), expected);
            let write = |writer: &mut Writer<'_>| {
                mapping::emit(&operation, writer).unwrap();
                writer.payload(mapping::payload(&operation)).unwrap();
            };
            let same = message(write, |message| {
                let read = match role {
                    0 => mapping::management(message, ""),
                    1 => mapping::bootstrap(message),
                    _ => mapping::registration(message),
                };
                read == Ok(operation)
            });
            assert!(same, "{expected}");
        }
    }
}

#[test]
fn the_alternate_path_stands_in_front() {
    let operation =
        Operation::Read { target: Target { prefix: Some("a/b"), path: path!("/3/0") }, accept: None };
    assert_eq!(line(&operation), "GET /a/b/3/0");
    let write = |writer: &mut Writer<'_>| mapping::emit(&operation, writer).unwrap();
    assert!(message(write, |message| mapping::management(message, "/a/b") == Ok(operation)));
    assert!(message(write, |message| mapping::management(message, "") == Err(Error::NotFound)));
    assert!(message(write, |message| mapping::management(message, "/a/c") == Err(Error::NotFound)));
    // A composite operation is asked of no path, with or without what stands before all of them.
    for (path, prefix) in [("", ""), ("", "/a/b"), ("a/b", "a/b")] {
        let read = request(Code::FETCH, path, &[(12, b"\x70")], b"x", |message| {
            mapping::management(message, prefix).is_ok()
        });
        assert!(read, "{path} {prefix}");
    }
    let elsewhere =
        Operation::Update { location: Location("/x/y"), parameters: Parameters::default(), links: None };
    assert_eq!(line(&elsewhere), "POST /x/y");
}

/// Writes a request by hand: method, path, options.
fn request<R>(
    code: Code,
    path: &str,
    options: &[(u16, &[u8])],
    payload: &[u8],
    read: impl FnOnce(&Message<'_>) -> R,
) -> R {
    let write = |writer: &mut Writer<'_>| {
        writer.set_code(code);
        for (number, value) in options.iter().filter(|(number, _)| *number < 11) {
            writer.option(OptionNumber(*number), value).unwrap();
        }
        writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
        for (number, value) in options.iter().filter(|(number, _)| *number > 11) {
            writer.option(OptionNumber(*number), value).unwrap();
        }
        writer.payload(payload).unwrap();
    };
    message(write, read)
}

#[test]
fn requests_that_are_no_operation_are_refused() {
    for (code, path, options, payload, error) in [
        (Code::GET, "3/x", [].as_slice(), b"".as_slice(), Error::NotFound),
        (Code::GET, "3/00", &[], b"", Error::NotFound),
        (Code::GET, "65535", &[], b"", Error::NotFound),
        (Code::GET, "65536", &[], b"", Error::NotFound),
        (Code::GET, "1/2/3/4/5", &[], b"", Error::NotFound),
        (Code::GET, "3//0", &[], b"", Error::NotFound),
        (Code::GET, "3", &[(6, b"\x02".as_slice())], b"", Error::BadRequest),
        (Code::GET, "3", &[(6, b""), (15, b"pmin=5")], b"", Error::BadRequest),
        (Code::GET, "3", &[(15, b"depth=4"), (17, b"\x28")], b"", Error::BadRequest),
        (Code::PUT, "3/0", &[], b"", Error::BadRequest),
        (Code::PUT, "3/0", &[], b"x", Error::UnsupportedFormat),
        (Code::PUT, "3/0", &[(15, b"edge=1")], b"", Error::BadRequest),
        (Code::PUT, "3/0", &[(12, b""), (15, b"pmin=1")], b"x", Error::BadRequest),
        // RFC 7252 §5.4.3: an elective option of a wrong length is as absent.
        (Code::PUT, "3/0", &[(12, b"\x00\x00\x2a")], b"x", Error::UnsupportedFormat),
        (Code::PUT, "3/0", &[(12, b"\x00\x00\x2a")], b"", Error::BadRequest),
        (Code::POST, "", &[], b"", Error::MethodNotAllowed),
        (Code::POST, "3/0", &[], b"", Error::BadRequest),
        (Code::POST, "3/0/6/0", &[], b"", Error::MethodNotAllowed),
        (Code::POST, "3/0/4", &[(12, b"")], b"10", Error::BadRequest),
        (Code::POST, "3/0/4", &[], b"1", Error::BadRequest),
        (Code::POST, "3/0/4", &[(12, b""), (15, b"1")], b"1", Error::BadRequest),
        (Code::POST, "3/0/4", &[(15, b"1"), (15, b"2")], b"", Error::BadRequest),
        (Code::POST, "3/0/4", &[(15, b"one")], b"", Error::BadRequest),
        (Code::FETCH, "", &[], b"", Error::UnsupportedFormat),
        (Code::IPATCH, "", &[], b"", Error::UnsupportedFormat),
        (Code::FETCH, "3", &[(12, b"\x70")], b"x", Error::MethodNotAllowed),
        (Code::IPATCH, "3", &[(12, b"\x70")], b"x", Error::MethodNotAllowed),
        (Code::FETCH, "", &[(12, b"\x70"), (15, b"pmin=1")], b"x", Error::BadRequest),
        (Code::FETCH, "", &[(6, b"\x02"), (12, b"\x70")], b"x", Error::BadRequest),
        (Code::new(0, 6), "", &[(12, b"\x70")], b"x", Error::MethodNotAllowed),
        (Code::new(0, 9), "3", &[], b"", Error::MethodNotAllowed),
        (Code::FETCH, "x", &[], b"x", Error::MethodNotAllowed),
        (Code::new(0, 31), "x", &[], b"", Error::MethodNotAllowed),
    ] {
        let result =
            request(code, path, options, payload, |message| mapping::management(message, "").map(|_| ()));
        assert_eq!(result, Err(error), "{code} {path} {options:?}");
    }
    for (code, path, error) in [
        (Code::POST, "", Error::MethodNotAllowed),
        (Code::POST, "bs/1", Error::MethodNotAllowed),
        (Code::GET, "bs", Error::NotFound),
        (Code::PUT, "1/0", Error::BadRequest),
        (Code::FETCH, "", Error::MethodNotAllowed),
    ] {
        let result = request(code, path, &[], b"", |message| mapping::bootstrap(message).map(|_| ()));
        assert_eq!(result, Err(error), "{code} {path}");
    }
    for (code, path, query, error) in [
        (Code::POST, "rd", "ep=", Error::BadRequest),
        (Code::POST, "rd", "ep=a&ep=b", Error::BadRequest),
        (Code::POST, "rd", "lt=x", Error::BadRequest),
        (Code::POST, "rd", "lt=-1", Error::BadRequest),
        (Code::POST, "rd", "lwm2m=1", Error::BadRequest),
        (Code::POST, "bs", "ep=a&pct=x", Error::BadRequest),
        (Code::GET, "rd", "", Error::MethodNotAllowed),
        (Code::DELETE, "bs", "", Error::MethodNotAllowed),
        (Code::GET, "bspack", "ep=node1", Error::NotImplemented),
        (Code::POST, "rd/a/b", "", Error::NotFound),
        (Code::POST, "rd/", "lt=60", Error::NotFound),
        (Code::DELETE, "rd/", "", Error::NotFound),
        (Code::POST, "dp", "", Error::UnsupportedFormat),
        (Code::GET, "dp", "", Error::MethodNotAllowed),
        (Code::FETCH, "dp", "", Error::MethodNotAllowed),
        (Code::GET, "", "", Error::NotFound),
    ] {
        let options: Vec<(u16, &[u8])> =
            query.split('&').filter(|query| !query.is_empty()).map(|query| (15, query.as_bytes())).collect();
        let result = request(code, path, &options, b"", |message| mapping::registration(message).map(|_| ()));
        assert_eq!(result, Err(error), "{code} {path} {query}");
    }
}

#[test]
fn what_devices_in_the_field_send_is_understood() {
    // A slash at the end, a format number from before its registration, a parameter that nobody knows, Q within b.
    assert!(request(Code::GET, "3/0/", &[(17, b"\x06\x06")], b"", |message| {
        mapping::management(message, "")
            == Ok(Operation::Read { target: target(path!("/3/0")), accept: Some(Format::TLV) })
    }));
    let options: [(u16, &[u8]); 4] = [(15, b"ep=a"), (15, b"b=UQ"), (15, b"et=thing"), (15, b"lwm2m=1.0")];
    request(Code::POST, "rd", &options, b"</1/0>", |message| {
        let Ok(Operation::Register { parameters, links }) = mapping::registration(message) else {
            return assert_eq!(mapping::registration(message).map(|_| ()), Ok(()));
        };
        assert_eq!(
            (parameters.endpoint, parameters.binding, parameters.queue_mode),
            (Some("a"), Some("UQ"), true)
        );
        assert_eq!((parameters.version, links), (Some(Version::new(1, 0)), b"</1/0>".as_slice()));
    });
    // RFC 7252 §5.4.5: of an elective option that may come once only the first counts.
    let options: [(u16, &[u8]); 4] = [(6, b""), (6, b"\x01"), (12, b"\x28"), (12, b"\x2a")];
    assert!(request(Code::GET, "3/0/0", &options, b"", |message| {
        mapping::management(message, "")
            == Ok(Operation::Observe { target: target(path!("/3/0/0")), accept: None })
    }));
    assert!(request(Code::PUT, "3/0/0", &options[2..], b"x", |message| {
        let content = Content { format: Format::LINK, payload: b"x" };
        let target = target(path!("/3/0/0"));
        mapping::management(message, "") == Ok(Operation::Write { target, mode: WriteMode::Replace, content })
    }));
    // Bootstrap-Discover on the root without Accept.
    assert!(request(Code::GET, "", &[], b"", |message| {
        mapping::bootstrap(message) == Ok(Operation::BootstrapDiscover { path: Path::ROOT })
    }));
}

#[test]
fn a_register_takes_as_few_bytes_as_it_can() {
    let parameters = Parameters {
        endpoint: Some("urn:dev:ops:123"),
        lifetime: Some(86400),
        version: Some(Version::new(1, 1)),
        binding: Some("U"),
        ..Parameters::default()
    };
    let operation = Operation::Register { parameters, links: b"</1/0>,</3/0>,</4/0>,</5/0>" };
    let mut buffer = [0; 200];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::POST);
    mapping::emit(&operation, &mut writer).unwrap();
    writer.payload(mapping::payload(&operation)).unwrap();
    let draft = writer.finish().unwrap();
    // Without security, 4 bytes of header and 4 of token come in front: 84 bytes.
    assert_eq!(draft.bytes().len(), 84 - 8);
}

#[test]
fn responses_read_back() {
    let ok = [
        Outcome::Created(Some(path!("/16/1"))),
        Outcome::Created(None),
        Outcome::Deleted,
        Outcome::Changed,
        Outcome::Content(Format::TLV),
        Outcome::Content(Format::TEXT),
        Outcome::Continue,
    ];
    let errors = [
        Error::BadRequest,
        Error::Unauthorized,
        Error::Forbidden,
        Error::NotFound,
        Error::MethodNotAllowed,
        Error::NotAcceptable,
        Error::Incomplete,
        Error::Conflict,
        Error::PreconditionFailed,
        Error::TooLarge,
        Error::UnsupportedFormat,
        Error::Unprocessable,
        Error::Internal,
        Error::NotImplemented,
        Error::Unavailable,
    ];
    for result in ok.map(Ok).into_iter().chain(errors.map(Err)) {
        let read = message(|writer| mapping::respond(&result, writer).unwrap(), mapping::outcome);
        assert_eq!(read, result);
    }
    for (code, error) in [
        (Code::new(4, 2), Error::BadRequest),
        (Code::new(5, 4), Error::Internal),
        (Code::VALID, Error::Internal),
    ] {
        assert_eq!(message(|writer| writer.set_code(code), mapping::outcome), Err(error));
    }
}

#[test]
fn the_location_of_a_registration_is_kept_as_text() {
    let location = |path: &str| {
        let write = |writer: &mut Writer<'_>| {
            writer.set_code(Code::CREATED);
            writer.split(OptionNumber::LOCATION_PATH, path, '/').unwrap();
            writer.content_format(ContentFormat::TEXT).unwrap();
        };
        message(write, mapping::location::<8>).map(|text| text.as_str().to_owned())
    };
    assert_eq!(location("rd/5a3f").as_deref(), Some("5a3f"));
    assert_eq!(location("rd/5a/3f").as_deref(), Some("5a/3f"));
    assert_eq!(location("x/y").as_deref(), Some("/x/y"));
    assert_eq!(location("rd/123456789"), None);
    assert_eq!(location("rd"), None);
    assert_eq!(location(""), None);
}

#[test]
fn lists_of_objects_are_read_as_printed() {
    let paths = |text: &'static str| {
        let list = Registered::parse(text.as_bytes()).unwrap();
        list.iter().map(|entry| entry.path.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        paths("</1/0>,</1/1>,</2/0>,</2/1>,</2/2>,</2/3>,</2/4>,</3/0>,</4/0>,</5>"),
        "/1/0 /1/1 /2/0 /2/1 /2/2 /2/3 /2/4 /3/0 /4/0 /5"
    );
    assert_eq!(
        paths("</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/1/0>,</lwm2m/1/1>,</lwm2m/3/0>,</lwm2m/5>,</sensor>"),
        "/1/0 /1/1 /3/0 /5"
    );
    assert_eq!(paths("</>;rt=\"oma.lwm2m\";ct=11542, </1/0>, </3/0/>,</3/0/9>,</x>"), "/1/0 /3/0");
    let list = |text: &'static str| Registered::parse(text.as_bytes()).unwrap();
    assert_eq!(list("</>;ct=110,</1/0>").formats().collect::<Vec<_>>(), [Format::SENML_JSON]);
    let several = list("</>;ct=\"110 112 60\",</1/0>").formats().collect::<Vec<_>>();
    assert_eq!(several, [Format::SENML_JSON, Format::SENML_CBOR, Format::CBOR]);
    assert_eq!(list("</lwm2m>;rt=\"oma.lwm2m\"").alternate(), Some("lwm2m"));
    assert_eq!(list("</1/0>").alternate(), None);
    let (old, new) = (Version::new(1, 1), Version::new(1, 2));
    assert_eq!(list("</1>;ver=1.0,</1/0>,</3/0>").version(old, 1), Version::new(1, 0));
    assert_eq!(list("</1/0>,</44/0>;ver=2.2").version(old, 44), Version::new(2, 2));
    assert_eq!(list("</10>;ver=\"1.1\",</10/0>").version(old, 10), Version::new(1, 1));
    assert_eq!(list("</4/0>").version(new, 4), Version::new(1, 3));
    assert_eq!(Registered::parse(b"</1/0>,rubbish"), Err(Error::BadRequest));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn no_request_makes_the_mapping_panic(
        code in 1..8_u8, path in "[a-z0-9]{0,5}(/[0-9]{0,5}){0,5}", format: Option<u16>, query in "[a-z=0-9.]{0,12}", accept: Option<u16>,
        payload in proptest::collection::vec(any::<u8>(), 0..20), observe: Option<u8>,
    ) {
        let write = |writer: &mut Writer<'_>| {
            writer.set_code(Code::new(0, code));
            if let Some(observe) = observe {
                writer.observe(u32::from(observe)).unwrap();
            }
            writer.split(OptionNumber::URI_PATH, &path, '/').unwrap();
            if let Some(format) = format {
                writer.content_format(ContentFormat(format)).unwrap();
            }
            writer.split(OptionNumber::URI_QUERY, &query, '&').unwrap();
            if let Some(accept) = accept {
                writer.accept(ContentFormat(accept)).unwrap();
            }
            writer.payload(&payload).unwrap();
        };
        message(write, |message| {
            let _ = mapping::management(message, "");
            let _ = mapping::bootstrap(message);
            let _ = mapping::registration(message);
            let _ = mapping::outcome(message);
        });
    }

    #[test]
    fn attributes_read_back_from_a_request(pmin: Option<u32>, pmax: Option<u32>, gt: Option<f32>, unset: bool) {
        let gt = gt.filter(|gt| gt.is_finite()).map(f64::from);
        let mut change = AttributesChange::setting(Attributes { pmin, pmax, gt, ..Attributes::default() });
        if unset || change.is_empty() {
            change.query(b"st").unwrap();
        }
        let operation = Operation::WriteAttributes { target: path!("/3/0/9").into(), change };
        let write = |writer: &mut Writer<'_>| mapping::emit(&operation, writer).unwrap();
        prop_assert!(message(write, |message| mapping::management(message, "") == Ok(operation)));
    }
}
