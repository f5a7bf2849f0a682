//! The TLV examples of LwM2M Core 1.2 and the value sets of the ETS, as corrected where printed lengths are wrong.
#![expect(clippy::unwrap_used, reason = "test")]

use lwm2m_objects::format::{Items, Leaf, Raw, Source, Visitor, encode};
use lwm2m_objects::{Content, Error, Format, Kind, ObjectLink, Path, Target, Value, path};

const DEVICE: &str = "c800144f70656e204d6f62696c6520416c6c69616e6365c801164c69676874776569676874204d324d20436c69656e74\
    c80209333435303030313233c303312e30860641000141010588070842000ed842011388870841007d42010384c10964c10a0f830b410000\
    c40d5182428fc60e2b30323a3030c11055";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
}

fn device(instance: Path) -> Vec<(Path, Value<'static>)> {
    let resource = |id| instance.child(id).unwrap();
    let several = |id, index| resource(id).child(index).unwrap();
    vec![
        (resource(0), Value::String("Open Mobile Alliance")),
        (resource(1), Value::String("Lightweight M2M Client")),
        (resource(2), Value::String("345000123")),
        (resource(3), Value::String("1.0")),
        (several(6, 0), Value::Integer(1)),
        (several(6, 1), Value::Integer(5)),
        (several(7, 0), Value::Integer(3800)),
        (several(7, 1), Value::Integer(5000)),
        (several(8, 0), Value::Integer(125)),
        (several(8, 1), Value::Integer(900)),
        (resource(9), Value::Integer(100)),
        (resource(10), Value::Integer(15)),
        (several(11, 0), Value::Integer(0)),
        (resource(13), Value::Time(1_367_491_215)),
        (resource(14), Value::String("+02:00")),
        (resource(16), Value::String("U")),
    ]
}

/// Encodes the values at a path, and decodes them again.
fn both_ways(path: Path, values: &[(Path, Value<'_>)], hex: &str) {
    let target = Target::from(path);
    let mut written = heapless::Vec::<u8, 400>::new();
    encode(Format::TLV, &target, &values, &mut written).unwrap();
    assert_eq!(written.as_slice(), bytes(hex), "{path}");
    read_back(path, values, hex);
}

fn read_back(path: Path, values: &[(Path, Value<'_>)], hex: &str) {
    let payload = bytes(hex);
    let content = Content { format: Format::TLV, payload: &payload };
    let items: Vec<_> = Items::new(&path.into(), content).unwrap().map(Result::unwrap).collect();
    assert_eq!(items.len(), values.len());
    for (item, (path, value)) in items.iter().zip(values) {
        assert_eq!(item.path, *path);
        assert_eq!(item.raw.value(value.kind(), &mut []), Ok(*value));
    }
}

#[test]
fn single_object_instance() {
    both_ways(path!("/3/0"), &device(path!("/3/0")), DEVICE);
}

#[test]
fn object_with_its_instance_wrapped() {
    both_ways(path!("/3"), &device(path!("/3/0")), &format!("080079{DEVICE}"));
    // With the instance in the path, the wrapper may be there all the same.
    read_back(path!("/3/0"), &device(path!("/3/0")), &format!("080079{DEVICE}"));
}

#[test]
fn two_instances_with_arrays_keyed_by_server() {
    let integer = |path, value| (path, Value::Integer(value));
    let values = [
        integer(path!("/2/0/0"), 1),
        integer(path!("/2/0/1"), 0),
        integer(path!("/2/0/2/127"), 7),
        integer(path!("/2/0/3"), 127),
        integer(path!("/2/2/0"), 3),
        integer(path!("/2/2/1"), 0),
        integer(path!("/2/2/2/127"), 7),
        integer(path!("/2/2/2/310"), 1),
        integer(path!("/2/2/3"), 127),
    ];
    both_ways(
        path!("/2"),
        &values,
        "08000ec10001c101008302417f07c1037f080212c10003c101008702417f0761013601c1037f",
    );
}

#[test]
fn server_object_with_one_instance() {
    let values = [
        (path!("/1/0/0"), Value::Integer(1)),
        (path!("/1/0/1"), Value::Integer(86400)),
        (path!("/1/0/6"), Value::Boolean(true)),
        (path!("/1/0/7"), Value::String("U")),
    ];
    both_ways(path!("/1"), &values, "08000fc10001c40100015180c10601c10755");
}

#[test]
fn object_links() {
    let link = |object, instance| Value::ObjectLink(ObjectLink { object, instance });
    let values = [
        (path!("/65/0/0/0"), link(66, 0)),
        (path!("/65/0/0/1"), link(66, 1)),
        (path!("/65/0/1"), Value::String("8613800755500")),
        (path!("/65/0/2"), Value::Integer(0x1234_5678)),
    ];
    both_ways(
        path!("/65/0"),
        &values,
        "88000c440000420000440100420001c8010d38363133383030373535353030c40212345678",
    );
    let values = [
        (path!("/66/0/0"), Value::String("myService 1")),
        (path!("/66/0/1"), Value::String("Internet.15.234")),
        (path!("/66/0/2"), link(67, 0)),
        (path!("/66/1/0"), Value::String("myService 2")),
        (path!("/66/1/1"), Value::String("Internet.15.235")),
        (path!("/66/1/2"), Value::ObjectLink(ObjectLink::NULL)),
    ];
    both_ways(
        path!("/66"),
        &values,
        "080026c8000b6d79536572766963652031c8010f496e7465726e65742e31352e323334c40200430000\
         080126c8000b6d79536572766963652032c8010f496e7465726e65742e31352e323335c402ffffffff",
    );
}

#[test]
fn ets_215_651_1202_and_1630_sets_of_values() {
    let values = [
        (path!("/1/0/2"), Value::Integer(101)),
        (path!("/1/0/3"), Value::Integer(1010)),
        (path!("/1/0/5"), Value::Integer(2000)),
        (path!("/1/0/6"), Value::Boolean(true)),
        (path!("/1/0/7"), Value::String("U")),
    ];
    both_ways(path!("/1/0"), &values, "c10265c20303f2c20507d0c10601c10755");
    let values = [
        (path!("/3/0/13"), Value::Time(1_367_491_215)),
        (path!("/3/0/14"), Value::String("+02:00")),
        (path!("/3/0/15"), Value::String("Europe/Paris")),
    ];
    both_ways(path!("/3/0"), &values, "c40d5182428fc60e2b30323a3030c80f0c4575726f70652f5061726973");
    both_ways(path!("/10/0/14"), &[(path!("/10/0/14"), Value::Unsigned(2))], "c10e02");
    let values = [
        (path!("/16/1/0/0"), Value::String("Host Device ID #2")),
        (path!("/16/1/0/1"), Value::String("Host Device Model #2")),
    ];
    both_ways(
        path!("/16"),
        &values,
        "08012e88002b480011486f737420446576696365204944202332480114486f737420446576696365204d6f64656c202332",
    );
}

#[test]
fn identifiers_of_16_bits_and_longer_length_fields() {
    both_ways(
        path!("/65/0/1000"),
        &[(path!("/65/0/1000"), Value::Opaque(&[0; 9]))],
        "e803e809000000000000000000",
    );
    both_ways(
        path!("/5/0/0"),
        &[(path!("/5/0/0"), Value::Opaque(&[0xab; 256]))],
        &format!("d0000100{}", "ab".repeat(256)),
    );
}

#[test]
fn a_multiple_resource_without_instances() {
    let payload = bytes("8006");
    let mut items =
        Items::new(&path!("/3/0/6").into(), Content { format: Format::TLV, payload: &payload }).unwrap();
    let item = items.next().unwrap().unwrap();
    assert!(item.path == path!("/3/0/6") && item.raw == Raw::Empty);
    assert!(items.next().is_none());
    let mut written = heapless::Vec::<u8, 4>::new();
    encode(Format::TLV, &path!("/3/0/6").into(), &Nothing(path!("/3/0/6")), &mut written).unwrap();
    assert_eq!(written.as_slice(), payload);
}

/// What has no value.
struct Nothing(Path);

impl Source for Nothing {
    fn visit(&self, _: Path, each: Visitor<'_>) -> Result<(), Error> {
        each(self.0, Leaf::Empty)
    }
}

#[test]
fn what_is_printed_with_wrong_lengths_is_refused() {
    // "Lightweigt" with the length of what is meant, in an instance and in its wrapper; instances of 13 for 15 and of 35 for 38
    // bytes; an array without a length.
    let misspelt = DEVICE.replace("4c69676874776569676874", "4c696768747765696774");
    assert_eq!(misspelt.len(), DEVICE.len() - 2);
    for (path, hex) in [
        (path!("/3/0"), misspelt.clone()),
        (path!("/3"), format!("080079{misspelt}")),
        (path!("/1"), "08000dc10001c40100015180c10601c10755".to_owned()),
        (
            path!("/66"),
            "080023c8000b6d79536572766963652031c8010f496e7465726e65742e31352e323334c40200430000\
             080123c8000b6d79536572766963652032c8010f496e7465726e65742e31352e323335c402ffffffff"
                .to_owned(),
        ),
        (
            path!("/16"),
            "08012e80002b480011486f737420446576696365204944202332480114486f737420446576696365204d6f64656c202332"
                .to_owned(),
        ),
    ] {
        let payload = bytes(&hex);
        let content = Content { format: Format::TLV, payload: &payload };
        let read: Result<Vec<_>, _> = Items::new(&path.into(), content).and_then(Iterator::collect);
        assert_eq!(read.err(), Some(Error::BadRequest), "{path}");
    }
}

#[test]
fn a_resource_instance_is_read_with_and_without_the_array_around_it() {
    let value = [(path!("/3/0/6/1"), Value::Integer(5))];
    both_ways(path!("/3/0/6/1"), &value, "410105");
    read_back(path!("/3/0/6/1"), &value, "8306410105");
    both_ways(path!("/3/0/6"), &value, "8306410105");
    read_back(path!("/3/0/6"), &value, "410105");
}

#[test]
fn integers_have_1_2_4_or_8_bytes() {
    for (hex, value) in [("c1007f", 127), ("c20080ff", -32513), ("c100ff", -1), ("c40000ffffff", 0x00ff_ffff)]
    {
        read_back(path!("/9/0"), &[(path!("/9/0/0"), Value::Integer(value))], hex);
    }
    for hex in ["c000", "c300010203", "c5000001020304", "c80009000000000000000000"] {
        let payload = bytes(hex);
        let mut items =
            Items::new(&path!("/9/0").into(), Content { format: Format::TLV, payload: &payload }).unwrap();
        let item = items.next().unwrap().unwrap();
        assert_eq!(item.raw.value(Kind::Integer, &mut []), Err(Error::BadRequest));
        assert_eq!(item.raw.value(Kind::Unsigned, &mut []), Err(Error::BadRequest));
    }
}

#[test]
fn what_breaks_the_rules_is_refused() {
    for (path, hex) in [
        // A resource that ends beyond the instance around it, and beyond the payload.
        (path!("/3"), "080004c80009330000"),
        (path!("/3/0"), "c8020933"),
        (path!("/3/0"), "d8ff"),
        (path!("/3/0"), "d8ffffffff"),
        (path!("/3/0"), "f8"),
        // Nesting: an instance in an instance, an array in an array, a resource in an array, a lone resource instance.
        (path!("/3"), "080003080100"),
        (path!("/3/0"), "8306830600"),
        (path!("/3/0"), "8306c10105"),
        (path!("/3/0"), "410105"),
        (path!("/3"), "410105"),
        // Another instance, another resource, another resource instance, the reserved identifier.
        (path!("/3/0"), "080103c10901"),
        (path!("/3/0/9"), "c10a01"),
        (path!("/3/0/6/1"), "410005"),
        (path!("/3/0/6/1"), "8306410005"),
        (path!("/3/0"), "e1ffff01"),
        (path!("/"), "c10a01"),
    ] {
        let payload = bytes(hex);
        let content = Content { format: Format::TLV, payload: &payload };
        let result: Result<Vec<_>, Error> = Items::new(&path.into(), content).and_then(Iterator::collect);
        assert!(result.is_err_and(|error| error == Error::BadRequest), "{path} {hex}");
    }
}

#[test]
fn every_truncation_is_refused_or_ends_at_a_whole_resource() {
    let payload = bytes(&format!("080079{DEVICE}"));
    for length in 1..payload.len() {
        let content = Content { format: Format::TLV, payload: payload.get(..length).unwrap() };
        let result: Result<Vec<_>, Error> =
            Items::new(&path!("/3").into(), content).and_then(Iterator::collect);
        assert!(result.is_err(), "{length}");
    }
}
