//! Worked examples of LwM2M Core 1.2 and of the ETS that no file of one format or topic has: packs of composite operations, of
//! Bootstrap-Read, of Send and of a whole bootstrap, and all lists of links.
#![cfg(all(feature = "json", feature = "composite"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use lwm2m_coap::link::{self, LinkWriter};
use lwm2m_objects::format::{Items, Leaf, Raw, Source, Visitor, encode, encode_names};
use lwm2m_objects::{Content, Error, Format, ObjectLink, Path, Paths, Target, Value, path};

/// Decodes a payload at a path, and encodes what was in it: another text of the same meaning.
fn both_ways(format: Format, at: Path, values: &[(Path, Value<'_>)], text: &str) {
    read_back(format, at, values, text.as_bytes());
    let mut written = heapless::Vec::<u8, 2000>::new();
    let mut ascending = values.to_vec();
    ascending.sort_by_key(|(path, _)| *path);
    encode(format, &at.into(), &ascending.as_slice(), &mut written).unwrap();
    read_back(format, at, &ascending, &written);
}

fn read_back(format: Format, at: Path, values: &[(Path, Value<'_>)], payload: &[u8]) {
    let items = Items::new(&at.into(), Content { format, payload }).unwrap();
    let items: Vec<_> = items.map(Result::unwrap).collect();
    assert_eq!(items.iter().map(|item| item.path).collect::<Vec<_>>(), paths(values));
    for (item, (path, value)) in items.iter().zip(values) {
        let mut scratch = vec![0; item.raw.scratch_len()];
        assert_eq!(item.raw.value(value.kind(), &mut scratch), Ok(*value), "{path}");
    }
}

fn paths(values: &[(Path, Value<'_>)]) -> Vec<Path> {
    values.iter().map(|(path, _)| *path).collect()
}

#[test]
fn packs_of_values() {
    let null = Value::ObjectLink(ObjectLink::NULL);
    let link = |object, instance| Value::ObjectLink(ObjectLink { object, instance });
    // The null link is printed in hexadecimal.
    both_ways(
        Format::SENML_JSON,
        Path::ROOT,
        &[
            (path!("/65/0/0/0"), link(66, 0)),
            (path!("/65/0/0/1"), link(66, 1)),
            (path!("/65/0/1"), Value::String("8613800755500")),
            (path!("/65/0/2"), Value::Integer(1)),
            (path!("/66/0/0"), Value::String("myService1")),
            (path!("/66/0/1"), Value::String("Internet.15.234")),
            (path!("/66/0/2"), link(67, 0)),
            (path!("/66/1/0"), Value::String("myService2")),
            (path!("/66/1/1"), Value::String("Internet.15.235")),
            (path!("/66/1/2"), null),
            (path!("/67/0/0"), Value::String("85.76.76.84")),
            (path!("/67/0/1"), Value::String("85.76.255.255")),
        ],
        r#"[{"bn":"/","n":"65/0/0/0","vlo":"66:0"},{"n":"65/0/0/1","vlo":"66:1"},{"n":"65/0/1","vs":"8613800755500"},{"n":"65/0/2","v":1},{"n":"66/0/0","vs":"myService1"},{"n":"66/0/1","vs":"Internet.15.234"},{"n":"66/0/2","vlo":"67:0"},{"n":"66/1/0","vs":"myService2"},{"n":"66/1/1","vs":"Internet.15.235"},{"n":"66/1/2","vlo":"FFFF:FFFF"},{"n":"67/0/0","vs":"85.76.76.84"},{"n":"67/0/1","vs":"85.76.255.255"}]"#,
    );
    // The answer to a Read-Composite, a Write-Composite, and a Send.
    both_ways(
        Format::SENML_JSON,
        Path::ROOT,
        &[
            (path!("/3/0/0"), Value::String("Open Mobile Alliance")),
            (path!("/3/0/9"), Value::Integer(95)),
            (path!("/1/0/1"), Value::Integer(86_400)),
        ],
        r#"[{"n":"/3/0/0","vs":"Open Mobile Alliance"},{"n":"/3/0/9","v":95},{"n":"/1/0/1","v":86400}]"#,
    );
    both_ways(
        Format::SENML_JSON,
        Path::ROOT,
        &[
            (path!("/3311/0/5850"), Value::Boolean(false)),
            (path!("/3311/1/5850"), Value::Boolean(false)),
            (path!("/3311/2/5851"), Value::Integer(20)),
            (path!("/3308/0/5900"), Value::Float(18.0)),
        ],
        r#"[{"n":"/3311/0/5850","vb":false},{"n":"/3311/1/5850","vb":false},{"n":"/3311/2/5851","v":20},{"n":"/3308/0/5900","v":18}]"#,
    );
    both_ways(
        Format::SENML_JSON,
        Path::ROOT,
        &[
            (path!("/6/0/0"), Value::Float(43.610_92)),
            (path!("/6/0/1"), Value::Float(3.877_23)),
            (path!("/4/0/2"), Value::Integer(-49)),
        ],
        r#"[{"n":"/6/0/0","v":43.61092},{"n":"/6/0/1","v":3.87723},{"n":"/4/0/2","v":-49}]"#,
    );
    // Bootstrap-Read of Access Control, a Write to an array, and the set of values of ETS 220 with a number that JSON has.
    both_ways(
        Format::SENML_JSON,
        path!("/2"),
        &[
            (path!("/2/0/0"), Value::Integer(1)),
            (path!("/2/0/1"), Value::Integer(0)),
            (path!("/2/0/2/127"), Value::Integer(7)),
            (path!("/2/0/3"), Value::Integer(127)),
            (path!("/2/2/0"), Value::Integer(3)),
            (path!("/2/2/1"), Value::Integer(0)),
            (path!("/2/2/2/127"), Value::Integer(7)),
            (path!("/2/2/2/310"), Value::Integer(7)),
            (path!("/2/2/3"), Value::Integer(127)),
        ],
        r#"[{"bn":"/2/","n":"0/0","v":1},{"n":"0/1","v":0},{"n":"0/2/127","v":7},{"n":"0/3","v":127},{"n":"2/0","v":3},{"n":"2/1","v":0},{"n":"2/2/127","v":7},{"n":"2/2/310","v":7},{"n":"2/3","v":127}]"#,
    );
    both_ways(
        Format::SENML_JSON,
        path!("/34/0/1"),
        &[(path!("/34/0/1/1"), Value::String("Yellow")), (path!("/34/0/1/3"), Value::String("Blue"))],
        r#"[{"n":"/34/0/1/1","vs":"Yellow"},{"n":"/34/0/1/3","vs":"Blue"}]"#,
    );
    both_ways(
        Format::JSON,
        path!("/1/0"),
        &[
            (path!("/1/0/2"), Value::Integer(101)),
            (path!("/1/0/3"), Value::Integer(1010)),
            (path!("/1/0/5"), Value::Integer(2000)),
            (path!("/1/0/6"), Value::Boolean(true)),
            (path!("/1/0/7"), Value::String("U")),
        ],
        r#"{"bn":"/","e":[{"n":"1/0/2","v":101},{"n":"1/0/3","v":1010},{"n":"1/0/5","v":2000},{"n":"1/0/6","bv":true},{"n":"1/0/7","sv":"U"}]}"#,
    );
}

/// A whole bootstrap in one pack, whose base name changes on the way; opaques in base64 for URLs, without padding.
#[test]
fn a_pack_of_accounts() {
    const KEY: &[u8] =
        &[0x1c, 0xa2, 0x02, 0x8d, 0x71, 0x97, 0xc7, 0x78, 0xe9, 0xae, 0xf5, 0xef, 0x69, 0x08, 0x2b, 0xea];
    both_ways(
        Format::SENML_JSON,
        Path::ROOT,
        &[
            (path!("/0/1/0"), Value::String("coaps://server1.example.com")),
            (path!("/0/1/1"), Value::Boolean(false)),
            (path!("/0/1/2"), Value::Integer(0)),
            (path!("/0/1/3"), Value::Opaque(b"b313cc22-f969-42ec-ad42")),
            (path!("/0/1/4"), Value::Opaque(b"")),
            (path!("/0/1/5"), Value::Opaque(KEY)),
            (path!("/0/1/10"), Value::Integer(101)),
            (path!("/1/0/0"), Value::Integer(101)),
            (path!("/1/0/1"), Value::Integer(86_400)),
            (path!("/1/0/2"), Value::Integer(300)),
            (path!("/1/0/3"), Value::Integer(6000)),
            (path!("/1/0/5"), Value::Integer(86_400)),
            (path!("/1/0/6"), Value::Boolean(true)),
            (path!("/1/0/7"), Value::String("U")),
            (path!("/2/0/0"), Value::Integer(1)),
            (path!("/2/0/1"), Value::Integer(0)),
            (path!("/2/0/2/101"), Value::Integer(15)),
            (path!("/2/0/3"), Value::Integer(101)),
        ],
        r#"[{"bn":"/0/1/","n":"0","vs":"coaps://server1.example.com"},{"n":"1","vb":false},{"n":"2","v":0},{"n":"3","vd":"YjMxM2NjMjItZjk2OS00MmVjLWFkNDI"},{"n":"4","vd":""},{"n":"5","vd":"HKICjXGXx3jprvXvaQgr6g"},{"n":"10","v":101},{"bn":"/1/0/","n":"0","v":101},{"n":"1","v":86400},{"n":"2","v":300},{"n":"3","v":6000},{"n":"5","v":86400},{"n":"6","vb":true},{"n":"7","vs":"U"},{"bn":"/2/0/","n":"0","v":1},{"n":"1","v":0},{"n":"2/101","v":15},{"n":"3","v":101}]"#,
    );
}

/// The names of a Read-Composite, as SenML and as SenML-ETCH in JSON and CBOR.
#[test]
fn packs_of_names() {
    const JSON: &[u8] = br#"[{"n":"/3/0/0"},{"n":"/3/0/9"},{"n":"/1/0/1"}]"#;
    const CBOR: &[u8] = b"\x83\xa1\x00\x66/3/0/0\xa1\x00\x66/3/0/9\xa1\x00\x66/1/0/1";
    let names = [path!("/3/0/0"), path!("/3/0/9"), path!("/1/0/1")];
    for (format, payload) in [
        (Format::SENML_JSON, JSON),
        (Format::SENML_ETCH_JSON, JSON),
        (Format::SENML_CBOR, CBOR),
        (Format::SENML_ETCH_CBOR, CBOR),
    ] {
        let mut written = heapless::Vec::<u8, 100>::new();
        encode_names(format, None, &names, &mut written).unwrap();
        assert_eq!(written.as_slice(), payload, "{format:?}");
        let mut read = Vec::new();
        let paths = Paths::Payload { prefix: None, content: Content { format, payload } };
        paths
            .try_for_each(&mut |path| {
                read.push(path);
                Ok(())
            })
            .unwrap();
        assert_eq!(read, names, "{format:?}");
    }
    // A Patch Pack that deletes a resource instance.
    let content = Content { format: Format::SENML_ETCH_CBOR, payload: b"\x81\xa2\x00\x69/16/0/0/2\x02\xf6" };
    let items: Vec<_> = Items::new(&Target::from(Path::ROOT), content).unwrap().map(Result::unwrap).collect();
    assert_eq!(items.iter().map(|item| item.path).collect::<Vec<_>>(), [path!("/16/0/0/2")]);
    assert!(items.first().unwrap().raw == Raw::Empty);
    for (format, payload) in [
        (Format::SENML_ETCH_CBOR, content.payload),
        (Format::SENML_ETCH_JSON, br#"[{"n":"/16/0/0/2","v":null}]"#),
    ] {
        let mut written = heapless::Vec::<u8, 100>::new();
        encode(format, &Path::ROOT.into(), &Gone(path!("/16/0/0/2")), &mut written).unwrap();
        let content = |payload| Content { format, payload };
        for payload in [payload, &written] {
            let items = Items::new(&Path::ROOT.into(), content(payload)).unwrap().map(Result::unwrap);
            let read: Vec<_> = items.map(|item| (item.path, item.raw == Raw::Empty)).collect();
            assert_eq!(read, [(path!("/16/0/0/2"), true)], "{format:?}");
        }
    }
}

/// A resource instance that is to go.
struct Gone(Path);

impl Source for Gone {
    fn visit(&self, _: Path, each: Visitor<'_>) -> Result<(), Error> {
        each(self.0, Leaf::Empty)
    }
}

/// An object of one instance with the wrapper that a Read of the object needs, and a value with a length of 16 bits.
#[test]
fn tlv_with_a_wrapper_and_with_a_long_value() {
    const RESOURCES: &[u8] = b"\xc8\x00\x14Open Mobile Alliance\xc8\x01\x16Lightweight M2M Client\
        \xc8\x02\x09345000123\xc3\x031.0\x86\x06\x41\x00\x01\x41\x01\x05\x88\x07\x08\x42\x00\x0e\xd8\x42\x01\x13\x88\
        \x87\x08\x41\x00\x7d\x42\x01\x03\x84\xc1\x09\x64\xc1\x0a\x0f\x83\x0b\x41\x00\x00\xc4\x0d\x51\x82\x42\x8f\
        \xc6\x0e+02:00\xc1\x10U";
    let wrapped = [b"\x08\x00\x79", RESOURCES].concat();
    let count = |at: Path, payload: &[u8]| {
        let items = Items::new(&at.into(), Content { format: Format::TLV, payload }).unwrap();
        items.map(Result::unwrap).filter(|item| item.path.starts_with(path!("/3/0"))).count()
    };
    assert_eq!((wrapped.len(), count(path!("/3"), &wrapped), count(path!("/3/0"), RESOURCES)), (124, 16, 16));
    let long = [0xab; 256];
    let payload = [&b"\xd0\x00\x01\x00"[..], &long].concat();
    let values = [(path!("/5/0/0"), Value::Opaque(&long))];
    read_back(Format::TLV, path!("/5/0/0"), &values, &payload);
    let mut written = heapless::Vec::<u8, 300>::new();
    encode(Format::TLV, &path!("/5/0/0").into(), &values.as_slice(), &mut written).unwrap();
    assert_eq!(written.as_slice(), payload);
}

/// Lists of links as they are printed, read and written again.
#[test]
fn links_are_written_as_they_are_read() {
    for text in [
        "</1/0>,</1/1>,</2/0>,</2/1>,</2/2>,</2/3>,</2/4>,</3/0>,</4/0>,</5>",
        "</>;ct=110,</1/0>,</1/1>,</3/0>",
        "</>;ct=\"110 112 60\",</1/0>,</1/1>,</3/0>",
        "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/1/0>,</lwm2m/1/1>,</lwm2m/3/0>,</lwm2m/5>",
        "</1>;ver=1.0,</1/0>,</1/1>,</3/0>",
        "</1/0>,</1/1>,</3/0>,</44/0>;ver=2.2",
        "</10>;ver=\"1.1\",</10/0>",
        "</>;lwm2m=1.1,</0/0>;ssid=101;uri=\"coaps://server_1.example.com\",</0/1>,</0/2>;ssid=102;uri=\"coaps://server_2.example.com\"",
        "</>;lwm2m=1.1,</0/0>;ssid=101;uri=\"coaps://server_1.example.com\",</0/1>,</1/0>;ssid=101,</3/0>,</5>,</4>",
        "</>;lwm2m=1.1,</0/0>;ssid=101;uri=\"coaps://server_1.example.com\",</0/2>;ssid=102;uri=\"coap://server_1.example.com\",</21/0>;ssid=101,</21/2>;ssid=102,</0/1>,</21/1>",
        "</3>;pmin=10,</3/0>;pmax=60,</3/0/1>,</3/0/2>,</3/0/3>,</3/0/4>,</3/0/6>;dim=2,</3/0/7>;dim=2;gt=50;lt=42.2,</3/0/8>;dim=2,</3/0/11>,</3/0/16>",
        "</1>,</1/0>,</1/4>;pmax=300",
        "</3/0>;pmin=10;pmax=60",
        "</3/0/7>;dim=2;pmin=10;pmax=60;gt=50;lt=42.2,</3/0/7/0>,</3/0/7/1>;lt=45",
    ] {
        let mut written = heapless::Vec::<u8, 300>::new();
        let mut writer = LinkWriter::new(&mut written);
        for link in link::parse(text) {
            let link = link.unwrap();
            writer.link(link.target).unwrap();
            for attribute in link.attributes() {
                let value = attribute.value.unwrap();
                if is_quoted(attribute.name, value) {
                    writer.quoted(attribute.name, value)
                } else {
                    writer.attribute(attribute.name, value)
                }
                .unwrap();
            }
        }
        assert_eq!(core::str::from_utf8(&written), Ok(text.replace("ver=\"1.1\"", "ver=1.1").as_str()));
    }
}

/// What has quotes wherever it is printed; a version has them in one of three places, and reads the same.
fn is_quoted(name: &str, value: &str) -> bool {
    matches!(name, "uri" | "rt") || value.contains(' ')
}
