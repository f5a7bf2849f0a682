//! The SenML CBOR examples of LwM2M Core 1.2 and the ETS, and what a pack must not be. The eight examples of LwM2M CBOR (content format
//! 11544) are left out: that format is of LwM2M 1.2, and no encoder or decoder of it is here.
#![expect(clippy::unwrap_used, reason = "test")]

mod examples;

use examples::DEVICE;
use lwm2m_objects::format::{Items, encode};
use lwm2m_objects::{Content, Error, Format, ObjectLink, Path, Target, Value, path};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
}

fn both_ways(target: Target<'_>, values: &[(Path, Value<'_>)], hex: &str) {
    let mut written = heapless::Vec::<u8, 400>::new();
    encode(Format::SENML_CBOR, &target, &values, &mut written).unwrap();
    assert_eq!(written.as_slice(), bytes(hex));
    read_back(target, values, hex);
}

fn read_back(target: Target<'_>, values: &[(Path, Value<'_>)], hex: &str) {
    let payload = bytes(hex);
    let content = Content { format: Format::SENML_CBOR, payload: &payload };
    let items: Vec<_> = Items::new(&target, content).unwrap().map(Result::unwrap).collect();
    assert_eq!(items.len(), values.len());
    for (item, (path, value)) in items.iter().zip(values) {
        assert_eq!(item.path, *path);
        assert_eq!(item.raw.value(value.kind(), &mut []), Ok(*value));
    }
}

fn decode(path: Path, payload: &[u8]) -> Result<usize, Error> {
    let content = Content { format: Format::SENML_CBOR, payload };
    Items::new(&path.into(), content)?.try_fold(0_usize, |count, item| item.map(|_| count.saturating_add(1)))
}

#[test]
fn device_instance() {
    both_ways(
        path!("/3/0").into(),
        &DEVICE,
        "90a321652f332f302f00613003744f70656e204d6f62696c6520416c6c69616e6365a200613103764c69676874776569676874204d324d\
         20436c69656e74a20061320369333435303030313233a20061330363312e30a20063362f300201a20063362f310205a20063372f300219\
         0ed8a20063372f3102191388a20063382f3002187da20063382f3102190384a2006139021864a200623130020fa2006431312f300200a2\
         00623133021a5182428fa20062313403662b30323a3030a200623136036155",
    );
}

#[test]
fn ets_257_values_of_several_objects() {
    let values = [
        (path!("/1/0/2"), Value::Integer(101)),
        (path!("/1/0/6"), Value::Boolean(true)),
        (path!("/3/0/13"), Value::Time(0)),
    ];
    both_ways(
        Path::ROOT.into(),
        &values,
        "83a321612f0065312f302f32021865a20065312f302f3604f5a20066332f302f31330200",
    );
}

#[test]
fn object_link_under_its_text_label() {
    let values = [(path!("/65/0/0/0"), Value::ObjectLink(ObjectLink { object: 66, instance: 0 }))];
    read_back(path!("/65/0/0/0").into(), &values, "81a200692f36352f302f302f3063766c6f6436363a30");
    both_ways(path!("/65/0/0/0").into(), &values, "81a221692f36352f302f302f3063766c6f6436363a30");
}

#[test]
fn one_float_takes_22_bytes() {
    let values = [(path!("/3303/0/5700"), Value::Float(21.5))];
    both_ways(path!("/3303/0/5700").into(), &values, "81a2216c2f333330332f302f3537303002fa41ac0000");
}

#[test]
fn the_alternate_path_stands_in_front_of_names() {
    let values = [(path!("/3/0/9"), Value::Integer(1))];
    let target = Target { prefix: Some("lwm2m"), path: path!("/3/0") };
    both_ways(target, &values, "81a3216b2f6c776d326d2f332f302f0061390201");
    // Tolerated: a client that leaves it out.
    read_back(target, &values, "81a321652f332f302f0061390201");
}

#[test]
fn indefinite_packs_and_records_and_fields_without_meaning_here_are_read() {
    let values = [(path!("/3/0/9"), Value::Integer(1)), (path!("/3/0/14"), Value::String("+02:00"))];
    // [_ {_ bn: "/3/0/", bt: 1.5, n: "9", u: "%", v: 1}, {n: "14", vs: "+02:00", t: 0}]
    read_back(
        path!("/3/0").into(),
        &values,
        "9fbf21652f332f302f22f93e000061390161250201ffa30062313403662b30323a30300600ff",
    );
    // With the version.
    read_back(
        path!("/3/0/9").into(),
        &values[..1],
        "81a320 0a00662f332f302f390201".replace(' ', "").as_str(),
    );
    // Base fields in a record of their own.
    read_back(path!("/3/0").into(), &values, "83a121652f332f302fa20061390201a20062313403662b30323a3030");
}

#[test]
fn numbers_may_be_decimal_fractions() {
    // {bn: "/3303/0/5700", bt: 4([-1, 5]), v: 4([-1, 215])}, as RFC 8428 §6 allows.
    let values = [(path!("/3303/0/5700"), Value::Float(21.5))];
    read_back(
        path!("/3303/0/5700").into(),
        &values,
        "81a3216c2f333330332f302f3537303022c482200502c4822018d7",
    );
    let values = [(path!("/3303/0/5700"), Value::Float(-2e300))];
    read_back(path!("/3303/0/5700").into(), &values, "81a2216c2f333330332f302f3537303002c48219012c21");
    for hex in [
        "81a2216c2f333330332f302f3537303002c4821a7fffffff01", // beyond every float
        "81a2216c2f333330332f302f3537303002c48120",           // no mantissa
        "81a2216c2f333330332f302f3537303002c482f600",         // no exponent
        "81a2216c2f333330332f302f3537303002c582200f",         // a big float
    ] {
        assert_eq!(decode(Path::ROOT, &bytes(hex)), Err(Error::BadRequest), "{hex}");
    }
}

#[test]
fn unknown_labels_are_ignored_with_what_they_hold() {
    // {n: "/3/0/9", v: 1, 9: [1, {"a": 2, "b": [3]}], -7: null, "x": 1(0)}
    let hex = "81a500662f332f302f3902010982 01a2616102616281 0326f66178c100".replace(' ', "");
    read_back(path!("/3/0/9").into(), &[(path!("/3/0/9"), Value::Integer(1))], &hex);
}

#[test]
fn what_is_no_pack_of_values_is_refused() {
    for hex in [
        "",
        "80ff",                                     // bytes behind the pack
        "a0",                                       // no array
        "81a1006161",                               // no value
        "81a2006161020101",                         // no path
        "81a200642f332f300201",                     // path of an instance
        "81a300662f332f302f3902010301",             // two values
        "81a300662f332f302f3902010203",             // two values
        "81a300662f332f302f3900662f332f302f390201", // two names
        "81a200662f332f302f3902f6",                 // null
        "81a200662f332f302f3902f5",                 // a boolean as a number
        "81a300662f332f302f39020161610101",         // bytes behind
        "81a300662f332f302f39020162785f01",         // a label that must be understood
        "81a300662f332f302f3902010501",             // a sum
        "81a300662f332f302f390201200b",             // a later version
        "81a200672f333333302f3902",                 // cut off
        "9b00000000ffffffff",                       // a length to preallocate
        "81bbffffffffffffffff",
        "81a2007b7fffffffffffffff",
        "81a300662f332f302f39020106c1c1c1c1c1c1c1",
    ] {
        assert!(decode(Path::ROOT, &bytes(hex)).is_err(), "{hex}");
    }
    // Another object than that of the request.
    assert_eq!(decode(path!("/1"), &bytes("81a200662f332f302f390201")), Err(Error::BadRequest));
}

#[test]
fn times_are_read() {
    // A base time of 25462634 and a time of -5; a base time of 17000000005e-1.
    let payload =
        bytes("82a4221a0184876a00662f332f302f3902010624a322c482201b00000003f5476a0500662f332f302f390201");
    let content = Content { format: Format::SENML_CBOR, payload: &payload };
    let items = Items::new(&Path::ROOT.into(), content).unwrap();
    let times: Vec<f64> = items.map(|item| item.unwrap().time()).collect();
    assert_eq!(times, [25_462_629.0, 1_700_000_000.5]);
}

#[test]
fn nested_arrays_and_tags_do_not_nest_the_decoder() {
    let mut payload = bytes("81a300662f332f302f39020106");
    payload.extend([0x81; 100_000]);
    assert_eq!(decode(Path::ROOT, &payload), Err(Error::BadRequest));
    let mut payload = bytes("81a300662f332f302f39020106");
    payload.extend([0xc1; 100_000]);
    payload.push(0);
    assert_eq!(decode(Path::ROOT, &payload), Ok(1));
}

#[test]
fn every_truncation_is_refused() {
    let payload = bytes("83a321612f0065312f302f32021865a20065312f302f3604f5a20066332f302f31330200");
    for length in 0..payload.len() {
        assert!(decode(Path::ROOT, payload.get(..length).unwrap()).is_err(), "{length}");
    }
}
