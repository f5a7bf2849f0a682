//! The SenML JSON examples of LwM2M Core 1.2, those of the JSON of LwM2M 1.0, and what a payload must not be.
#![cfg(feature = "json")]
#![expect(clippy::unwrap_used, reason = "test")]

mod examples;

use examples::DEVICE;
use lwm2m_objects::format::{Items, encode};
use lwm2m_objects::{Content, Error, Format, Kind, ObjectLink, Path, Target, Value, path};

fn written(format: Format, target: &Target<'_>, values: &[(Path, Value<'_>)]) -> String {
    let mut out = heapless::Vec::<u8, 1000>::new();
    encode(format, target, &values, &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

fn read_back(format: Format, target: Target<'_>, values: &[(Path, Value<'_>)], text: &str) {
    let content = Content { format, payload: text.as_bytes() };
    let items: Vec<_> = Items::new(&target, content).unwrap().map(Result::unwrap).collect();
    assert_eq!(items.len(), values.len(), "{text}");
    for (item, (path, value)) in items.iter().zip(values) {
        let mut scratch = vec![0; item.raw.scratch_len()];
        assert_eq!(item.path, *path);
        assert_eq!(item.raw.value(value.kind(), &mut scratch), Ok(*value), "{text}");
    }
}

fn both_ways(format: Format, target: Target<'_>, values: &[(Path, Value<'_>)], text: &str) {
    assert_eq!(written(format, &target, values), text);
    read_back(format, target, values, text);
}

fn decode(format: Format, path: Path, payload: &str) -> Result<usize, Error> {
    let content = Content { format, payload: payload.as_bytes() };
    Items::new(&path.into(), content)?.try_fold(0_usize, |count, item| item.map(|_| count.saturating_add(1)))
}

#[test]
fn device_instance() {
    both_ways(
        Format::SENML_JSON,
        path!("/3/0").into(),
        &DEVICE,
        r#"[{"bn":"/3/0/","n":"0","vs":"Open Mobile Alliance"},{"n":"1","vs":"Lightweight M2M Client"},{"n":"2","vs":"345000123"},{"n":"3","vs":"1.0"},{"n":"6/0","v":1},{"n":"6/1","v":5},{"n":"7/0","v":3800},{"n":"7/1","v":5000},{"n":"8/0","v":125},{"n":"8/1","v":900},{"n":"9","v":100},{"n":"10","v":15},{"n":"11/0","v":0},{"n":"13","v":1367491215},{"n":"14","vs":"+02:00"},{"n":"16","vs":"U"}]"#,
    );
    both_ways(
        Format::JSON,
        path!("/3/0").into(),
        &DEVICE,
        r#"{"bn":"/3/0/","e":[{"n":"0","sv":"Open Mobile Alliance"},{"n":"1","sv":"Lightweight M2M Client"},{"n":"2","sv":"345000123"},{"n":"3","sv":"1.0"},{"n":"6/0","v":1},{"n":"6/1","v":5},{"n":"7/0","v":3800},{"n":"7/1","v":5000},{"n":"8/0","v":125},{"n":"8/1","v":900},{"n":"9","v":100},{"n":"10","v":15},{"n":"11/0","v":0},{"n":"13","v":1367491215},{"n":"14","sv":"+02:00"},{"n":"16","sv":"U"}]}"#,
    );
}

#[test]
fn one_resource_has_its_whole_name_as_base_name() {
    let values = [(path!("/3/0/0"), Value::String("Open Mobile Alliance"))];
    let target = path!("/3/0/0").into();
    both_ways(Format::SENML_JSON, target, &values, r#"[{"bn":"/3/0/0","vs":"Open Mobile Alliance"}]"#);
    both_ways(Format::JSON, target, &values, r#"{"bn":"/3/0/0","e":[{"sv":"Open Mobile Alliance"}]}"#);
}

#[test]
fn nothing_is_an_empty_pack() {
    both_ways(Format::SENML_JSON, path!("/3/0").into(), &[], "[]");
    both_ways(Format::JSON, path!("/3/0").into(), &[], r#"{"e":[]}"#);
}

#[test]
fn base_fields_change_in_the_middle() {
    let values = [22.4, 22.9, 24.1].map(|value| (path!("/72/1/2"), Value::Float(value)));
    read_back(
        Format::SENML_JSON,
        path!("/72/1/2").into(),
        &values,
        r#"[{"bn":"/72/","bt":25462634,"n":"1/2","v":22.4,"t":-5},{"n":"1/2","v":22.9,"t":-30},{"n":"1/2","v":24.1,"t":-50}]"#,
    );
    let content = Content {
        format: Format::SENML_JSON,
        payload: br#"[{"bn":"/72/1/2","bt":25462634,"v":22.4,"t":-5},{"v":22.9},{"bt":1700000000.5,"v":1,"t":-0.5}]"#,
    };
    let items = Items::new(&Path::ROOT.into(), content).unwrap();
    let times: Vec<f64> = items.map(|item| item.unwrap().time()).collect();
    assert_eq!(times, [25_462_629.0, 25_462_634.0, 1_700_000_000.0]);
    let values = [(path!("/0/1/10"), Value::Integer(101)), (path!("/1/0/0"), Value::Integer(101))];
    read_back(
        Format::SENML_JSON,
        Path::ROOT.into(),
        &values,
        r#"[{"bn":"/0/1/","n":"10","v":101},{"bn":"/1/0/"},{"n":"0","v":101}]"#,
    );
}

#[test]
fn object_links_breadth_first_and_the_null_link() {
    let link = |object, instance| Value::ObjectLink(ObjectLink { object, instance });
    let values = [
        (path!("/65/0/0/0"), link(66, 0)),
        (path!("/65/0/1"), Value::String("8613800755500")),
        (path!("/66/1/2"), Value::ObjectLink(ObjectLink::NULL)),
    ];
    read_back(
        Format::SENML_JSON,
        Path::ROOT.into(),
        &values,
        r#"[{"bn":"/","n":"65/0/0/0","vlo":"66:0"},{"n":"65/0/1","vs":"8613800755500"},{"n":"66/1/2","vlo":"FFFF:FFFF"}]"#,
    );
    let values = [(path!("/66/1/2"), Value::ObjectLink(ObjectLink::NULL))];
    let target = path!("/66/1/2").into();
    both_ways(Format::SENML_JSON, target, &values, r#"[{"bn":"/66/1/2","vlo":"65535:65535"}]"#);
    both_ways(Format::JSON, target, &values, r#"{"bn":"/66/1/2","e":[{"ov":"65535:65535"}]}"#);
}

#[test]
fn opaques_are_base64_for_urls_in_one_and_the_usual_in_the_other() {
    let values = [(path!("/0/1/5"), Value::Opaque(b"\xfb\xff\xfe\x00"))];
    let target = path!("/0/1").into();
    both_ways(Format::SENML_JSON, target, &values, r#"[{"bn":"/0/1/","n":"5","vd":"-__-AA"}]"#);
    both_ways(Format::JSON, target, &values, r#"{"bn":"/0/1/","e":[{"n":"5","sv":"+//+AA=="}]}"#);
    // LwM2M Core 1.2.1 contradicts itself: either is read in both.
    read_back(Format::SENML_JSON, target, &values, r#"[{"n":"/0/1/5","vd":"+//+AA=="}]"#);
    read_back(Format::JSON, target, &values, r#"{"bn":"/0/1/","e":[{"n":"5","sv":"-__-AA"}]}"#);
    // Some writers escape slashes.
    read_back(Format::SENML_JSON, target, &values, r#"[{"n":"/0/1/5","vd":"+\/\/+AA\u003d="}]"#);
    read_back(Format::JSON, target, &values, r#"{"bn":"/0/1/","e":[{"n":"5","sv":"+\/\/+AA=="}]}"#);
    let content = Content { format: Format::SENML_JSON, payload: br#"[{"n":"/0/1/5","vd":"AAAA"}]"# };
    let item = Items::new(&target, content).unwrap().next().unwrap().unwrap();
    assert_eq!(item.raw.value(Kind::Opaque, &mut [0; 2]), Err(Error::TooLarge));
    assert_eq!(item.raw.value(Kind::String, &mut [0; 8]), Err(Error::BadRequest));
}

#[test]
fn a_text_is_no_number() {
    let content = Content { format: Format::JSON, payload: br#"{"e":[{"n":"9","sv":"1"}]}"# };
    let item = Items::new(&path!("/3/0").into(), content).unwrap().next().unwrap().unwrap();
    for kind in [Kind::Integer, Kind::Unsigned, Kind::Time, Kind::Float, Kind::Boolean] {
        assert_eq!(item.raw.value(kind, &mut []), Err(Error::BadRequest));
    }
    assert_eq!(item.raw.value(Kind::CoreLink, &mut []), Ok(Value::CoreLink("1")));
}

#[test]
fn texts_are_escaped_where_they_must_be() {
    let values = [(path!("/3/0/0"), Value::String("a\"b\\c/\u{1}\n\u{1f}ü😀\u{7f}"))];
    let target = path!("/3/0/0").into();
    both_ways(
        Format::SENML_JSON,
        target,
        &values,
        "[{\"bn\":\"/3/0/0\",\"vs\":\"a\\\"b\\\\c/\\u0001\\u000a\\u001fü😀\u{7f}\"}]",
    );
    let values = [(path!("/3/0/0"), Value::String("\"\\/\u{8}\u{c}\n\r\t\0ü😀\u{10ffff}\u{fffd}"))];
    let text = r#""\"\\\/\b\f\n\r\t\u0000\u00FC\ud83D\ude00\uDBFF\uDFFF\ufffd""#;
    // The names are escaped as well, which nobody needs and a parser must take.
    read_back(
        Format::SENML_JSON,
        target,
        &values,
        &format!(r#"[{{"\u0062n":"\/3\u002f0/0","v\u0073":{text}}}]"#),
    );
    read_back(Format::JSON, target, &values, &format!(r#"{{"e":[{{"sv":{text}}}],"bn":"/3/0/0"}}"#));
    let content = Content { format: Format::SENML_JSON, payload: br#"[{"n":"/3/0/0","vs":"\n\n\n"}]"# };
    let item = Items::new(&target, content).unwrap().next().unwrap().unwrap();
    assert_eq!(item.raw.value(Kind::String, &mut [0; 2]), Err(Error::TooLarge));
    assert_eq!(item.raw.value(Kind::Integer, &mut [0; 8]), Err(Error::BadRequest));
}

#[test]
fn numbers_without_a_fraction_are_integers_however_they_are_written() {
    for (text, number) in [
        ("20", 20),
        ("20.0", 20),
        ("2e1", 20),
        ("200E-1", 20),
        ("-0.0", 0),
        ("-1e+15", -1_000_000_000_000_000),
        ("9007199254740991.0", 9_007_199_254_740_991),
        ("-9223372036854775808", i64::MIN),
    ] {
        let payload = format!(r#"[{{"n":"/3/0/9","v":{text}}}]"#);
        read_back(
            Format::SENML_JSON,
            path!("/3/0/9").into(),
            &[(path!("/3/0/9"), Value::Integer(number))],
            &payload,
        );
    }
    let unsigned = [(path!("/3/0/9"), Value::Unsigned(u64::MAX))];
    both_ways(
        Format::SENML_JSON,
        path!("/3/0/9").into(),
        &unsigned,
        r#"[{"bn":"/3/0/9","v":18446744073709551615}]"#,
    );
    for (text, number) in
        [("0.5", 0.5), ("1e300", 1e300), ("9007199254740993.0", 9_007_199_254_740_992.0), ("7", 7.0)]
    {
        let payload = format!(r#"[{{"n":"/3/0/9","v":{text}}}]"#);
        read_back(
            Format::SENML_JSON,
            path!("/3/0/9").into(),
            &[(path!("/3/0/9"), Value::Float(number))],
            &payload,
        );
    }
    for (value, kind) in [("0.5", Kind::Integer), ("-1", Kind::Unsigned), ("1e300", Kind::Integer)] {
        let payload = format!(r#"[{{"n":"/3/0/9","v":{value}}}]"#);
        let content = Content { format: Format::SENML_JSON, payload: payload.as_bytes() };
        let item = Items::new(&path!("/3/0/9").into(), content).unwrap().next().unwrap().unwrap();
        assert_eq!(item.raw.value(kind, &mut []), Err(Error::BadRequest));
    }
    for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let values = [(path!("/3303/0/5700"), Value::Float(value))];
        let mut out = heapless::Vec::<u8, 100>::new();
        let result = encode(Format::SENML_JSON, &path!("/3303/0/5700").into(), &values.as_slice(), &mut out);
        assert_eq!(result, Err(Error::NotAcceptable));
    }
}

#[test]
fn the_alternate_path_stands_in_front_of_names() {
    let values = [(path!("/3/0/9"), Value::Integer(1))];
    let target = Target { prefix: Some("lwm2m"), path: path!("/3/0") };
    both_ways(Format::SENML_JSON, target, &values, r#"[{"bn":"/lwm2m/3/0/","n":"9","v":1}]"#);
    both_ways(Format::JSON, target, &values, r#"{"bn":"/lwm2m/3/0/","e":[{"n":"9","v":1}]}"#);
    // Tolerated: a client that leaves it out.
    read_back(Format::SENML_JSON, target, &values, r#"[{"bn":"/3/0/","n":"9","v":1}]"#);
    let target = Target { prefix: Some("a\"},{\\"), path: path!("/3/0") };
    both_ways(Format::SENML_JSON, target, &values, r#"[{"bn":"/a\"},{\\/3/0/","n":"9","v":1}]"#);
    both_ways(Format::JSON, target, &values, r#"{"bn":"/a\"},{\\/3/0/","e":[{"n":"9","v":1}]}"#);
}

#[test]
fn entries_without_a_base_name_are_relative_to_what_was_asked_for() {
    let values = [(path!("/3/0/9"), Value::Integer(1)), (path!("/3/0/6/1"), Value::Integer(5))];
    let text = r#" { "e" : [ {"n":"9","v":1} , {"n":"6/1","v":5} ] , "bt" : 1.5 } "#;
    read_back(Format::JSON, path!("/3/0").into(), &values, text);
    read_back(Format::JSON, path!("/3/0/9").into(), &values[..1], r#"{"e":[{"v":1}]}"#);
    read_back(Format::JSON, path!("/3/0/9").into(), &values[..1], r#"{"e":[{"n":"/3/0/9","v":1}]}"#);
}

#[test]
fn unknown_fields_are_skipped_with_what_they_hold() {
    let values = [(path!("/3/0/9"), Value::Integer(1)), (path!("/3/0/10"), Value::Integer(2))];
    read_back(
        Format::SENML_JSON,
        path!("/3/0").into(),
        &values,
        "\r\n[\t{ \"u\" : \"%\", \"x\":{\"a\":[],\"b\":[{},[1,-2.5e3,null],{\"]\":\"}\"}],\"c\":true}, \"n\":\"/3/0/9\",\"v\":1} , {\"bver\":10,\"bu\":\"Cel\",\"ut\":0,\"n\":\"/3/0/10\",\"v\":2}\n]\n",
    );
}

#[test]
fn what_is_no_pack_of_values_is_refused() {
    for text in [
        "",
        " ",
        "{}",
        "[",
        "[}",
        "[]]",
        "[],",
        "[{}",
        "[{},]",
        "[1]",
        "[[]]",
        r#"[{"n":"/3/0/9","v":1},]"#,
        r#"[{"n":"/3/0/9","v":1,}]"#,
        r#"[{"n":"/3/0/9","v":1}"#,
        r#"[{"n":"/3/0/9" "v":1}]"#,
        r#"[{"n":"/3/0/9","v" 1}]"#,
        r#"[{n:"/3/0/9","v":1}]"#,
        r#"[{"n":"/3/0/9"}]"#, // no value
        r#"[{"n":"/3/0/9","v":null}]"#,
        r#"[{"n":"/3/0/9","v":"1"}]"#,
        r#"[{"n":"/3/0/9","v":true}]"#,
        r#"[{"n":"/3/0/9","v":-}]"#,
        r#"[{"n":"/3/0/9","v":1e}]"#,
        r#"[{"n":"/3/0/9","v":NaN}]"#,
        r#"[{"n":"/3/0/9","vb":1}]"#,
        r#"[{"n":"/3/0/9","vs":1}]"#,
        r#"[{"n":"/3/0/9","vlo":"66"}]"#,
        r#"[{"n":"/3/0/9","vd":1}]"#,
        r#"[{"n":"/3/0/9","v":1,"vs":"1"}]"#, // two values
        r#"[{"n":"/3/0/9","v":1,"v":2}]"#,
        r#"[{"n":"/3/0/9","n":"/3/0/9","v":1}]"#, // two names
        r#"[{"n":"/3/0/9","v":1,"bv":1}]"#,       // a base value
        r#"[{"n":"/3/0/9","v":1,"s":1}]"#,        // a sum
        r#"[{"n":"/3/0/9","v":1,"x_":1}]"#,       // a label that must be understood
        r#"[{"n":"/3/0","v":1}]"#,                // path of an instance
        r#"[{"n":"3303/0/x","v":1}]"#,
        r#"[{"n":"/3/0/0","vs":"\x"}]"#,
        r#"[{"n":"/3/0/0","vs":"\u12"}]"#,
        r#"[{"n":"/3/0/0","vs":"\u12g4"}]"#,
        r#"[{"n":"/3/0/0","vs":"\ud800"}]"#, // half a pair
        r#"[{"n":"/3/0/0","vs":"\ud800\u0041"}]"#,
        r#"[{"n":"/3/0/0","vs":"\udc00"}]"#,
        "[{\"n\":\"/3/0/0\",\"vs\":\"\n\"}]",
        r#"[{"n":"/3/0/0","vs":"x}]"#,
        r#"[{"n":"/3/0/9","v":1,"x":[}]"#,
        r#"[{"n":"/3/0/9","v":1,"x":{1:2}}]"#,
        r#"[{"n":"/3/0/9","v":1,"x":{"a"}}]"#,
        r#"[{"n":"/3/0/9","v":1,"x":[1 2]}]"#,
        r#"[{"n":"/3/0/9","v":1,"x":truth}]"#,
    ] {
        assert_eq!(decode(Format::SENML_JSON, Path::ROOT, text), Err(Error::BadRequest), "{text}");
    }
    for text in [
        "[]",
        "{}",
        r#"{"bn":"/3/0/"}"#,
        r#"{"bn":"/3/0/","e":[{"n":"9","v":1}]"#,
        r#"{"bn":"/3/0/","e":[{"n":"9","v":1}],}"#,
        r#"{"bn":"/3/0/","e":[{"n":"9","v":1}]} x"#,
        r#"{"bn":"/3/0/","bn":"/3/0/","e":[]}"#,
        r#"{"e":[],"e":[]}"#,
        r#"{"bn":"/3/0/","e":{"n":"9","v":1}}"#,
        r#"{"bn":"/3/0/","e":[{"n":"9","vs":"1"}]}"#,
        r#"{"bn":"/3/0/","e":[{"n":"9"}]}"#,
        r#"{"e":[{"n":"9/0/1/2","v":1}]}"#,
        r#"{"e":[{"n":"9","v":1,"n":"9"}]}"#,
    ] {
        assert_eq!(decode(Format::JSON, path!("/3/0"), text), Err(Error::BadRequest), "{text}");
    }
    // Another object than that of the request.
    let other = r#"[{"n":"/3/0/9","v":1}]"#;
    assert_eq!(decode(Format::SENML_JSON, path!("/1"), other), Err(Error::BadRequest));
    let content = Content { format: Format::SENML_JSON, payload: b"[{\"n\":\"/3/0/0\",\"vs\":\"\xff\"}]" };
    assert!(Items::new(&Path::ROOT.into(), content).is_err());
}

#[test]
fn nested_arrays_and_objects_do_not_nest_the_decoder() {
    let nested =
        |depth: usize| format!(r#"[{{"n":"/3/0/9","v":1,"x":{}1{}}}]"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(decode(Format::SENML_JSON, Path::ROOT, &nested(32)), Ok(1));
    assert_eq!(decode(Format::SENML_JSON, Path::ROOT, &nested(33)), Err(Error::BadRequest));
    assert_eq!(decode(Format::SENML_JSON, Path::ROOT, &nested(100_000)), Err(Error::BadRequest));
    let open = format!(r#"[{{"x":{}"#, "{\"a\":".repeat(100_000));
    assert_eq!(decode(Format::SENML_JSON, Path::ROOT, &open), Err(Error::BadRequest));
}

#[test]
fn every_truncation_is_refused() {
    for (format, text) in [
        (
            Format::SENML_JSON,
            r#"[{"bn":"/","n":"1/0/2","v":101},{"n":"1/0/6","vb":true},{"n":"3/0/13","vs":"\u00fc"}]"#,
        ),
        (
            Format::JSON,
            r#"{"bn":"/","e":[{"n":"1/0/2","v":101},{"n":"1/0/6","bv":true},{"n":"1/0/7","sv":"U"}]}"#,
        ),
    ] {
        assert_eq!(decode(format, Path::ROOT, text), Ok(3));
        for length in 0..text.len() {
            assert!(decode(format, Path::ROOT, text.get(..length).unwrap()).is_err(), "{length}");
        }
    }
}

#[test]
fn values_with_their_times_are_written_as_they_are_read() {
    struct Dated;
    impl lwm2m_objects::format::Source for Dated {
        fn visit(&self, path: Path, each: lwm2m_objects::format::Visitor<'_>) -> Result<(), Error> {
            assert_eq!(path, Path::ROOT);
            for (time, value) in [(1_700_000_000, 20.5), (-60, 21.0)] {
                each(path!("/3303/0/5700"), lwm2m_objects::format::Leaf::Dated(time, Value::Float(value)))?;
            }
            each(path!("/3/0/9"), lwm2m_objects::format::Leaf::Value(Value::Integer(5)))
        }
    }
    for format in [Format::SENML_JSON, Format::SENML_CBOR] {
        let mut out = heapless::Vec::<u8, 200>::new();
        encode(format, &Path::ROOT.into(), &Dated, &mut out).unwrap();
        let items = Items::new(&Path::ROOT.into(), Content { format, payload: &out }).unwrap();
        let times: Vec<f64> = items.map(|item| item.unwrap().time()).collect();
        assert_eq!(times, [1_700_000_000.0, -60.0, 0.0]);
        if format == Format::SENML_JSON {
            let text = r#"[{"bn":"/","n":"3303/0/5700","v":20.5,"t":1700000000},{"n":"3303/0/5700","v":21,"t":-60},{"n":"3/0/9","v":5}]"#;
            assert_eq!(core::str::from_utf8(&out), Ok(text));
        }
    }
    // Other formats cannot tell.
    let mut out = heapless::Vec::<u8, 200>::new();
    assert_eq!(encode(Format::TLV, &Path::ROOT.into(), &Dated, &mut out), Err(Error::NotAcceptable));
}

#[test]
fn many_records_behind_a_long_base_name_are_read_in_one_pass() {
    // Quadratic work would take minutes here.
    let mut text = format!(r#"[{{"bn":"/{}"}}"#, "a".repeat(500_000));
    text.push_str(&",{}".repeat(150_000));
    text.push(']');
    assert_eq!(decode(Format::SENML_JSON, Path::ROOT, &text), Ok(0));
}
