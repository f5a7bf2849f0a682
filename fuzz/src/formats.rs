//! Content formats of LwM2M (LwM2M Core 1.2.1 §7.4).

use lwm2m_coap::Count;
use lwm2m_objects::format::{Items, Raw, encode};
use lwm2m_objects::{Content, Format, Kind, Path, Target, UNASSIGNED, Value, defs};

const KINDS: [Kind; 9] = [
    Kind::String,
    Kind::Integer,
    Kind::Unsigned,
    Kind::Float,
    Kind::Boolean,
    Kind::Opaque,
    Kind::Time,
    Kind::ObjectLink,
    Kind::CoreLink,
];

/// The first byte chooses a target, the rest is the payload. Any payload decodes to an end, below the target; what was
/// decoded is encoded and decoded again to the same values.
pub fn format(format: Format, input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    let path = match choice & 0x07 {
        0 => Path::ROOT,
        1 => Path::object(3),
        2 | 3 => Path::instance(3, 0),
        4 => Path::resource(3, 0, 7),
        5 => Path::resource(3303, 0, 5700),
        6 => Path::resource_instance(3, 0, 7, 1),
        _ => Path::instance(5, 0),
    };
    assert!(defs::secrets(u16::from(*choice)).is_none_or(|secrets| secrets.is_sorted()));
    let prefix = (choice & 0x08 != 0).then_some("lwm2m");
    let target = Target { prefix, path };
    let Ok(items) = Items::new(&target, Content { format, payload }) else { return };
    let (mut decoded, mut scratch) = (vec![0; payload.len()], vec![0; payload.len()]);
    let mut room = decoded.as_mut_slice();
    let mut values: Vec<(Path, Value<'_>)> = Vec::new();
    let mut is_whole = true;
    for (count, item) in items.enumerate() {
        assert!(count < payload.len().max(1), "each entry takes at least a byte, but for an empty text");
        let Ok(item) = item else {
            is_whole = false;
            break;
        };
        assert!(item.path.starts_with(path));
        for kind in KINDS {
            if let Ok(value) = item.raw.value(kind, &mut scratch) {
                assert_eq!(value.kind(), kind);
                assert_eq!(value.number().is_some(), kind.is_numeric());
                assert!(!format!("{value:?}").is_empty());
                if let Some(definition) = defs::definition(3).and_then(|device| device.resource(9)) {
                    assert!(!definition.holds(&value) || kind == definition.kind);
                }
                single(format, value);
            }
        }
        // What a TLV holds has no type of its own: its bytes are compared.
        let (own, rest) = core::mem::take(&mut room).split_at_mut(item.raw.scratch_len());
        room = rest;
        match item.raw.kind().map(|kind| item.raw.value(kind, own)) {
            Some(Ok(value)) => values.push((item.path, value)),
            _ => is_whole = false,
        }
    }
    values.sort_by_key(|(path, _)| *path);
    let is_unique = values.windows(2).all(|pair| pair[0].0 != pair[1].0 && !pair[1].0.starts_with(pair[0].0));
    if is_whole && is_unique && !values.is_empty() {
        round_trip(format, &target, &values);
    }
}

/// A value of any type comes through as it was.
fn single(format: Format, value: Value<'_>) {
    let path = Path::resource(3303, 0, 5700);
    let encoded = emit(format, &path.into(), &[(path, value)]);
    let mut items =
        Items::new(&path.into(), Content { format, payload: &encoded }).expect("what is emitted is decoded");
    let item = items.next().expect("there is one entry").expect("it is well-formed");
    let mut scratch = vec![0; encoded.len()];
    let back = item.raw.value(value.kind(), &mut scratch).expect("it is of its type");
    assert!(same(value, back), "{value:?} became {back:?}");
    assert!(items.next().is_none());
}

fn round_trip(format: Format, target: &Target<'_>, values: &[(Path, Value<'_>)]) {
    // A TLV payload has no place for several objects.
    if format == Format::TLV && target.path == Path::ROOT {
        return;
    }
    // A Create that leaves the identifier to the device has no instance around its resources.
    let is_unassigned = |(path, _): &&(Path, Value<'_>)| path.instance_id() == Some(UNASSIGNED);
    let from = match (values.iter().filter(is_unassigned).count(), target.path.object_id()) {
        (0, _) => *target,
        (count, Some(object)) if count == values.len() => {
            Target { path: Path::instance(object, UNASSIGNED), ..*target }
        }
        _ => return,
    };
    let encoded = emit(format, &from, values);
    let items =
        Items::new(target, Content { format, payload: &encoded }).expect("what is emitted is decoded");
    let (mut back, mut scratch) = (0, vec![0; encoded.len()]);
    for (item, (path, value)) in items.zip(values) {
        let item = item.expect("what is emitted is well-formed");
        assert_eq!(item.path, *path);
        let raw = match item.raw {
            Raw::Bytes(bytes) => Value::Opaque(bytes),
            raw => raw.value(value.kind(), &mut scratch).expect("the type came through"),
        };
        assert!(same(*value, raw), "{value:?} became {raw:?}");
        back += 1;
    }
    assert_eq!(back, values.len());
}

fn emit(format: Format, target: &Target<'_>, values: &[(Path, Value<'_>)]) -> Vec<u8> {
    let mut length = Count(0);
    encode(format, target, &values, &mut length).expect("values are encoded");
    let mut sink = Collected(Vec::new());
    encode(format, target, &values, &mut sink).expect("values are encoded");
    assert_eq!(sink.0.len(), length.0, "both passes agree");
    sink.0
}

struct Collected(Vec<u8>);

impl lwm2m_coap::Sink for Collected {
    fn write(&mut self, bytes: &[u8]) -> Result<(), lwm2m_coap::Full> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Equality that knows that a NaN is the same as itself.
fn same(one: Value<'_>, other: Value<'_>) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => {
            one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
        }
        _ => one == other,
    }
}
