//! Payloads that a peer made up: nothing panics, and what is refused changes nothing.

use proptest::collection::vec;
use proptest::prelude::*;

use super::common::{Body, Store, perform};
use lwm2m_objects::format::{Items, encode};
use lwm2m_objects::{
    Content, Context, Discovered, Error, Format, Kind, Object, ObjectLink, Operation, Path, Registered,
    Value, WriteMode, defs, path,
};

fn server() -> Store {
    Store::new(&defs::SERVER)
        .with(
            0,
            &[
                (0, Value::Integer(1)),
                (1, Value::Integer(60)),
                (6, Value::Boolean(true)),
                (7, Value::String("U")),
            ],
        )
        .array(0, 25, &[(0, Value::String("1.1"))])
}

/// The formats for values of several resources.
const STRUCTURED: &[Format] = &[
    Format::TLV,
    Format::SENML_CBOR,
    #[cfg(feature = "json")]
    Format::SENML_JSON,
    #[cfg(feature = "json")]
    Format::JSON,
    Format::SENML_ETCH_CBOR,
    #[cfg(feature = "json")]
    Format::SENML_ETCH_JSON,
];

/// Whether a format is that of a patch, which names its places from the root (RFC 8790 §3).
fn is_patch(format: Format) -> bool {
    [Format::SENML_ETCH_CBOR, Format::SENML_ETCH_JSON].contains(&format)
}

/// Checks that the payload of an encoder is `values`.
fn reads_back(format: Format, path: Path, payload: &[u8], values: &[(Path, Value<'_>)]) {
    let items: Vec<_> =
        Items::new(&path.into(), Content { format, payload }).unwrap().map(Result::unwrap).collect();
    assert_eq!(items.len(), values.len());
    for (item, (at, value)) in items.iter().zip(values) {
        let mut scratch = vec![0; item.raw.scratch_len()];
        assert_eq!((item.path, item.raw.value(value.kind(), &mut scratch)), (*at, Ok(*value)));
    }
}

/// Characters that look like JSON, so that some pass.
fn json() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just("},{"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\u00"),
        Just("\"e\":["),
        Just("\"bn\":\"/3/0/\""),
        Just("\"n\":\"9\""),
        Just("\"v\":1"),
        Just("\"vs\":\"a\\n\""),
        Just("\"vd\":\"AA\""),
        Just("\"sv\":\"1\""),
        Just("\"x\":[{}]"),
        Just(" "),
        Just("ü"),
    ];
    vec(part, 0..16).prop_map(|parts| parts.concat())
}

/// Bytes that look like TLVs, so that some pass.
fn tlvs() -> impl Strategy<Value = Vec<u8>> {
    let resource = prop_oneof![
        Just(b"\xc1\x01\x3c".to_vec()),
        Just(b"\xc1\x06\x00".to_vec()),
        Just(b"\xc1\x07U".to_vec()),
        Just(b"\x85\x19\x43\x001.0".to_vec()),
        Just(b"\xc1\x02\x05".to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    vec(resource, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn a_refused_write_changes_nothing(payload in tlvs(), instance: bool, replace: bool, operation in 0..3) {
        let mut store = server();
        let path = if instance { path!("/1/0") } else { path!("/1") };
        let content = Content { format: Format::TLV, payload: &payload };
        let mode = if replace { WriteMode::Replace } else { WriteMode::Partial };
        let operation = match operation {
            0 => Operation::Write { target: path.into(), mode, content },
            1 => Operation::Create { target: path.into(), content },
            _ => Operation::BootstrapWrite { path, content },
        };
        let (result, _) = perform(&mut [&mut store], &operation, &Context::default());
        if result.is_err() {
            prop_assert_eq!(store, server());
        }
    }

    #[test]
    fn no_payload_makes_a_decoder_panic_or_run_on(payload in vec(any::<u8>(), 0..60), level in 0..5_usize, format in 0..STRUCTURED.len()) {
        let path = [Path::ROOT, path!("/1"), path!("/1/0"), path!("/1/0/25"), path!("/1/0/25/0")].into_iter().nth(level).unwrap();
        let format = *STRUCTURED.get(format).unwrap();
        if let Ok(items) = Items::new(&path.into(), Content { format, payload: &payload }) {
            prop_assert!(items.count() <= payload.len() + 1);
        }
    }

    #[test]
    fn no_json_makes_a_decoder_panic_or_run_on(payload in json(), array: bool) {
        let payload = if array { format!("[{{{payload}") } else { payload };
        for format in STRUCTURED {
            let path = if is_patch(*format) { Path::ROOT } else { path!("/3/0") };
            if let Ok(items) = Items::new(&path.into(), Content { format: *format, payload: payload.as_bytes() }) {
                prop_assert!(items.count() <= payload.len() + 1);
            }
        }
    }

    #[test]
    fn no_list_makes_a_parser_panic(payload in "[</>;,a-z0-9=\" .]{0,60}") {
        if let Ok(list) = Registered::parse(payload.as_bytes()) {
            prop_assert!(list.iter().count() <= payload.len());
        }
        if let Ok(discovered) = Discovered::parse(payload.as_bytes()) {
            prop_assert!(discovered.iter().count() <= payload.len());
            let _ = discovered.version();
        }
    }

    #[test]
    fn values_read_back_from_every_format(
        text in "\\PC{0,40}", integer: i64, unsigned: u64, bits: u64, boolean: bool, opaque in vec(any::<u8>(), 0..300),
        object: u16, instance: u16, array in proptest::collection::btree_map(0..65535_u16, any::<i64>(), 1..5), id in 0..65535_u16,
    ) {
        let float = f64::from_bits(bits);
        prop_assume!(!float.is_nan());
        let resource = |resource| Path::resource(id, 0, resource);
        let mut values = vec![
            (resource(0), Value::String(&text)),
            (resource(1), Value::Integer(integer)),
            (resource(2), Value::Unsigned(unsigned)),
            (resource(3), Value::Float(float)),
            (resource(4), Value::Boolean(boolean)),
            (resource(5), Value::Opaque(&opaque)),
            (resource(6), Value::ObjectLink(ObjectLink { object, instance })),
            (resource(7), Value::Time(integer)),
            (resource(8), Value::CoreLink(&text)),
        ];
        values.extend(array.iter().map(|(index, value)| (Path::resource_instance(id, 0, 1000, *index), Value::Integer(*value))));
        for path in [Path::ROOT, Path::object(id), Path::instance(id, 0)] {
            for format in STRUCTURED.iter().filter(|format| is_patch(**format) == (path == Path::ROOT)) {
                let mut body = Body(Vec::new());
                let written = encode(*format, &path.into(), &values.as_slice(), &mut body);
                if float.is_infinite() && written == Err(Error::NotAcceptable) {
                    continue;
                }
                written.unwrap();
                reads_back(*format, path, &body.0, &values);
            }
        }
        for (at, value) in &values {
            for format in [Format::TEXT, Format::CBOR] {
                let mut body = Body(Vec::new());
                let written = encode(format, &(*at).into(), &values.as_slice(), &mut body);
                if format == Format::TEXT && float.is_infinite() && value.kind() == Kind::Float {
                    continue;
                }
                written.unwrap();
                reads_back(format, *at, &body.0, &[(*at, *value)]);
            }
        }
    }
}

#[test]
fn a_deep_nest_of_lengths_preallocates_nothing() {
    for head in [b"\xd8\x00\xff\xff\xff".as_slice(), b"\x18\x00\xff\xff\xff", b"\x98\x00\xff\xff\xff"] {
        let mut store = server();
        let content = Content { format: Format::TLV, payload: head };
        let operation = Operation::BootstrapWrite { path: path!("/1/0"), content };
        assert!(perform(&mut [&mut store as &mut dyn Object], &operation, &Context::default()).0.is_err());
    }
}
