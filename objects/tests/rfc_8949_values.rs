//! The data items of RFC 8949 appendix A as values of resources (LwM2M Core 1.2.1 §7.4.3, Appendix C).

use lwm2m_objects::format::Items;
use lwm2m_objects::{Content, Error, Format, Kind, ObjectLink, Path, Value, path};

/// What a payload holds as a value of that type.
fn read(format: Format, path: Path, payload: &[u8], kind: Kind) -> Result<Value<'_>, Error> {
    let mut items = Items::new(&path.into(), Content { format, payload })?;
    let item = items.next().ok_or(Error::BadRequest)??;
    items.next().map_or(Ok(()), |_| Err(Error::BadRequest))?;
    item.raw.value(kind, &mut [])
}

fn single(payload: &[u8], kind: Kind) -> Result<Value<'_>, Error> {
    read(Format::CBOR, path!("/42769/0/1"), payload, kind)
}

#[test]
fn each_type_has_its_item() {
    for (payload, value) in [
        (&b"\x64IETF"[..], Value::String("IETF")),
        (b"\x3a\x00\x01\x86\x9f", Value::Integer(-100_000)),
        (b"\x1a\x00\x0f\x42\x40", Value::Integer(1_000_000)),
        (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", Value::Unsigned(u64::MAX)),
        (b"\xf9\x3e\x00", Value::Float(1.5)),
        (b"\xfa\x47\xc3\x50\x00", Value::Float(100_000.0)),
        (b"\xfb\xc0\x10\x66\x66\x66\x66\x66\x66", Value::Float(-4.1)),
        (b"\xf4", Value::Boolean(false)),
        (b"\xf5", Value::Boolean(true)),
        (b"\x44\x01\x02\x03\x04", Value::Opaque(&[1, 2, 3, 4])),
        (b"\x64\x36\x36\x3a\x30", Value::ObjectLink(ObjectLink { object: 66, instance: 0 })),
        (b"\x66</3/0>", Value::CoreLink("</3/0>")),
    ] {
        assert_eq!(single(payload, value.kind()), Ok(value), "{payload:x?}");
    }
}

#[test]
fn a_time_is_a_number_a_number_with_a_tag_or_a_date() {
    let whole = Value::Time(1_363_896_240);
    for (payload, time) in [
        (&b"\x1a\x51\x4b\x67\xb0"[..], whole),
        (b"\xc1\x1a\x51\x4b\x67\xb0", whole),
        (b"\xc1\xfb\x41\xd4\x52\xd9\xec\x20\x00\x00", whole),
        (b"\xc0\x742013-03-21T20:04:00Z", whole),
        (b"\xc0\x78\x192013-03-21T21:04:00+01:00", whole),
        (b"\x20", Value::Time(-1)),
        (b"\xc1\x20", Value::Time(-1)),
        (b"\xc0\x741969-12-31T23:59:59Z", Value::Time(-1)),
    ] {
        assert_eq!(single(payload, Kind::Time), Ok(time), "{payload:x?}");
        // In a record of SenML CBOR the same items stand for a value.
        let record = [b"\x81\xa2\x21\x6a/42769/0/1\x02", payload].concat();
        assert_eq!(read(Format::SENML_CBOR, path!("/42769/0/1"), &record, Kind::Time), Ok(time));
    }
    assert_eq!(single(b"\xc1\x0a", Kind::Integer), Ok(Value::Integer(10)));
}

#[test]
fn what_is_no_time_is_refused() {
    for payload in [
        &b"\xc0\x742013-13-21T20:04:00Z"[..],
        b"\xc0\x1a\x51\x4b\x67\xb0",
        b"\xc1\x742013-03-21T20:04:00Z",
        b"\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc1\xf9\x7e\x00",
        b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xc1\xc1\x0a",
        b"\xc2\x41\x0a",
        b"\xc1",
        b"\xc1\x0a\x0a",
        b"\xc0",
    ] {
        assert_eq!(single(payload, Kind::Time), Err(Error::BadRequest), "{payload:x?}");
        let record = [b"\x81\xa2\x21\x6a/42769/0/1\x02", payload].concat();
        assert_eq!(
            read(Format::SENML_CBOR, path!("/42769/0/1"), &record, Kind::Time),
            Err(Error::BadRequest),
            "{record:x?}"
        );
    }
    // A date is nothing but a time.
    assert_eq!(single(b"\xc0\x742013-03-21T20:04:00Z", Kind::String), Err(Error::BadRequest));
}

#[test]
fn a_payload_is_one_item() {
    for payload in [&b""[..], b"\x01\x02", b"\x81\x01", b"\xa0", b"\xf6", b"\x61", b"\xff", b"\x7f\x61a\xff"]
    {
        assert_eq!(single(payload, Kind::Integer), Err(Error::BadRequest), "{payload:x?}");
    }
    let content = Content { format: Format::CBOR, payload: b"\x01" };
    let several = Items::new(&path!("/42769/0").into(), content).map(|_| ());
    assert_eq!(several, Err(Error::UnsupportedFormat));
}
