//! Properties that hold for any values and any times: formats and the decision when to notify.
#![cfg(feature = "json")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

use std::collections::BTreeMap;

use lwm2m_coap::Instant;
use lwm2m_objects::format::{Items, encode};
use lwm2m_objects::{
    Attributes, Content, Decision, Format, Kind, ObjectLink, Path, Progress, Samples, Value,
};
use proptest::prelude::*;

/// A value that is owned; floats by their bits, so that they compare as what they are.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    String(String),
    Integer(i64),
    Unsigned(u64),
    Float(u64),
    Boolean(bool),
    Opaque(Vec<u8>),
    Time(i64),
    ObjectLink(u16, u16),
    CoreLink(String),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::String(text) => Value::String(text),
            Self::Integer(number) => Value::Integer(*number),
            Self::Unsigned(number) => Value::Unsigned(*number),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Opaque(bytes) => Value::Opaque(bytes),
            Self::Time(seconds) => Value::Time(*seconds),
            Self::ObjectLink(object, instance) => {
                Value::ObjectLink(ObjectLink { object: *object, instance: *instance })
            }
            Self::CoreLink(text) => Value::CoreLink(text),
        }
    }

    fn new(value: Value<'_>) -> Self {
        match value {
            Value::String(text) => Self::String(text.into()),
            Value::Integer(number) => Self::Integer(number),
            Value::Unsigned(number) => Self::Unsigned(number),
            Value::Float(number) => Self::Float(number.to_bits()),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Opaque(bytes) => Self::Opaque(bytes.into()),
            Value::Time(seconds) => Self::Time(seconds),
            Value::ObjectLink(link) => Self::ObjectLink(link.object, link.instance),
            Value::CoreLink(text) => Self::CoreLink(text.into()),
        }
    }
}

fn float() -> impl Strategy<Value = f64> {
    // No zero below zero: formats of numbers without a sign for it lose it.
    let is_told_apart = |number: &f64| number.is_finite() && (*number != 0.0 || number.is_sign_positive());
    prop_oneof![
        any::<f32>().prop_map(f64::from),
        any::<f64>(),
        (-10_000..10_000_i32).prop_map(|tenths| f64::from(tenths) / 10.0)
    ]
    .prop_filter("JSON has no other numbers", is_told_apart)
}

fn owned() -> impl Strategy<Value = Owned> {
    prop_oneof![
        ".{0,20}".prop_map(Owned::String),
        any::<i64>().prop_map(Owned::Integer),
        (-300..300_i64).prop_map(Owned::Integer),
        any::<u64>().prop_map(Owned::Unsigned),
        float().prop_map(|number| Owned::Float(number.to_bits())),
        any::<bool>().prop_map(Owned::Boolean),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Opaque),
        any::<i32>().prop_map(|seconds| Owned::Time(i64::from(seconds))),
        any::<(u16, u16)>().prop_map(|(object, instance)| Owned::ObjectLink(object, instance)),
        Just(Owned::CoreLink("</3/0>;dim=2,</1/0>".into())),
    ]
}

/// What an instance has: resources with one value, or with several.
fn resources() -> impl Strategy<Value = BTreeMap<u16, BTreeMap<Option<u16>, Owned>>> {
    let single = owned().prop_map(|value| BTreeMap::from([(None, value)]));
    let several = (prop::collection::btree_set(0..u16::MAX, 1..4), owned())
        .prop_map(|(ids, value)| ids.into_iter().map(|id| (Some(id), value.clone())).collect());
    prop::collection::btree_map(0..u16::MAX, prop_oneof![3 => single, 1 => several], 1..6)
}

fn flat(
    object: u16,
    instances: &BTreeMap<u16, BTreeMap<u16, BTreeMap<Option<u16>, Owned>>>,
) -> Vec<(Path, Owned)> {
    let mut all = Vec::new();
    for (instance, resources) in instances {
        for (resource, values) in resources {
            let place = Path::resource(object, *instance, *resource);
            all.extend(
                values
                    .iter()
                    .map(|(id, value)| (id.map_or(place, |id| place.child(id).unwrap()), value.clone())),
            );
        }
    }
    all
}

fn written(format: Format, path: Path, values: &[(Path, Owned)]) -> Vec<u8> {
    let values: Vec<(Path, Value<'_>)> = values.iter().map(|(path, value)| (*path, value.value())).collect();
    let mut out = heapless::Vec::<u8, 20_000>::new();
    encode(format, &path.into(), &values.as_slice(), &mut out).unwrap();
    out.to_vec()
}

fn read(format: Format, path: Path, payload: &[u8], kinds: &[(Path, Kind)]) -> Vec<(Path, Owned)> {
    let items = Items::new(&path.into(), Content { format, payload }).unwrap();
    let items = items.map(Result::unwrap).map(|item| {
        let kind = kinds.iter().find(|(path, _)| *path == item.path).map(|(_, kind)| *kind);
        let mut scratch = vec![0; item.raw.scratch_len()];
        (item.path, Owned::new(item.raw.value(kind.unwrap(), &mut scratch).unwrap()))
    });
    items.collect()
}

/// The formats of a Write-Composite.
const PACKS: [Format; 4] =
    [Format::SENML_CBOR, Format::SENML_JSON, Format::SENML_ETCH_CBOR, Format::SENML_ETCH_JSON];

proptest! {
    #[test]
    fn values_mean_the_same_in_every_format(
        object in 1..u16::MAX,
        instances in prop::collection::btree_map(0..u16::MAX, resources(), 1..3),
    ) {
        let values = flat(object, &instances);
        let kinds: Vec<(Path, Kind)> = values.iter().map(|(path, value)| (*path, value.value().kind())).collect();
        let first = *instances.keys().next().unwrap();
        let own: Vec<_> = values.iter().filter(|(path, _)| path.instance_id() == Some(first)).cloned().collect();
        for format in [Format::TLV, Format::SENML_CBOR, Format::SENML_JSON, Format::JSON] {
            for (path, values) in [(Path::object(object), &values), (Path::instance(object, first), &own)] {
                let payload = written(format, path, values);
                prop_assert_eq!(&read(format, path, &payload, &kinds), values, "{:?} at {}", format, path);
            }
        }
        // Records that name their places from the root.
        for format in PACKS {
            let payload = written(format, Path::ROOT, &values);
            prop_assert_eq!(&read(format, Path::ROOT, &payload, &kinds), &values, "{:?}", format);
        }
    }

    #[test]
    fn one_value_means_the_same_in_every_format(value in owned()) {
        let path = Path::resource(42_769, 0, 1);
        let kind = value.value().kind();
        let mut formats = vec![Format::TEXT, Format::TLV, Format::CBOR, Format::SENML_CBOR, Format::SENML_JSON, Format::JSON];
        if kind == Kind::Opaque {
            formats.push(Format::OPAQUE);
        }
        for format in formats {
            let values = [(path, value.clone())];
            let payload = written(format, path, &values);
            prop_assert_eq!(&read(format, path, &payload, &[(path, kind)])[..], &values[..], "{:?}", format);
        }
        for format in PACKS {
            let values = [(path, value.clone())];
            let payload = written(format, Path::ROOT, &values);
            prop_assert_eq!(&read(format, Path::ROOT, &payload, &[(path, kind)])[..], &values[..], "{:?}", format);
        }
    }
}

/// When a notification is due, said once more, without anything that is carried from one second to the next: for each second
/// all that came since the last notification is gone through.
fn is_due(attributes: &Attributes, values: &[f64], notified: usize, now: usize) -> bool {
    let period = |seconds: Option<u32>| seconds.map_or(0, |seconds| seconds as usize);
    let (pmin, pmax) = (period(attributes.pmin), period(attributes.pmax));
    if pmax > 0 && pmax >= pmin && now - notified >= pmax {
        return true;
    }
    let (epmin, epmax) = (period(attributes.epmin), period(attributes.epmax));
    let mut looked = notified;
    let mut is_met = false;
    for second in notified + 1..=now {
        let is_changed = (looked..second).any(|earlier| values[earlier] != values[earlier + 1]);
        let since = second - looked;
        if (is_changed && since >= epmin) || (epmax > 0 && since >= epmax) {
            let (before, current) = (values[looked], values[second]);
            let rises = attributes.gt.is_some_and(|gt| before <= gt && current > gt);
            let falls = attributes.lt.is_some_and(|lt| before >= lt && current < lt);
            let steps = attributes.st.is_some_and(|st| (current - values[notified]).abs() >= st);
            let has_thresholds = attributes.gt.or(attributes.lt).or(attributes.st).is_some();
            let differs = current != values[notified] || current != before;
            is_met |= if has_thresholds { rises || falls || steps } else { differs };
            looked = second;
        }
    }
    is_met && now - notified >= pmin
}

/// When notifications go out, deciding only when a value changes and when the decision before said so.
fn notifications(attributes: &Attributes, values: &[f64]) -> Vec<usize> {
    let at = |second: usize| Instant::from_millis(second as u64 * 1000);
    let mut progress = Progress { notified: at(0), evaluated: at(0), changed: false, due: false };
    let (mut notified, mut sides) = (values[0], attributes.sides(values[0]));
    let mut wake = match attributes.decide(at(0), &progress) {
        Decision::Wait(until) => Some(until),
        _ => None,
    };
    let mut sent = Vec::new();
    for second in 1..values.len() {
        let is_changed = values[second] != values[second - 1];
        progress.changed |= is_changed;
        if !is_changed && wake.is_none_or(|wake| wake > at(second)) {
            continue;
        }
        loop {
            match attributes.decide(at(second), &progress) {
                Decision::Notify => {
                    sent.push(second);
                    (notified, sides) = (values[second], attributes.sides(values[second]));
                    progress =
                        Progress { notified: at(second), evaluated: at(second), changed: false, due: false };
                }
                Decision::Evaluate => {
                    let current = values[second];
                    progress.due |= attributes.is_met(Samples { notified, sides, current });
                    sides = attributes.sides(current);
                    (progress.evaluated, progress.changed) = (at(second), false);
                }
                Decision::Wait(until) => {
                    wake = Some(until);
                    break;
                }
                Decision::Idle => {
                    wake = None;
                    break;
                }
            }
        }
    }
    sent
}

prop_compose! {
    fn attributes()(
        pmin in prop::option::of(0..12_u32),
        pmax in prop::option::of(0..25_u32),
        epmin in prop::option::of(0..8_u32),
        epmax in prop::option::of(0..15_u32),
        gt in prop::option::of(-5..15_i8),
        lt in prop::option::of(-15..5_i8),
        st in prop::option::of(1..8_u8),
    ) -> Attributes {
        let number = |number: Option<i8>| number.map(f64::from);
        Attributes { pmin, pmax, gt: number(gt), lt: number(lt), st: st.map(f64::from), epmin, epmax }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn notifications_go_out_when_going_through_every_second_says_so(
        attributes in attributes().prop_filter("as a device takes them", |attributes| attributes.check().is_ok()),
        steps in prop::collection::vec(prop_oneof![3 => Just(0_i8), 1 => -9..10_i8], 1..120),
    ) {
        let mut values = vec![0.0];
        for step in steps {
            let value: f64 = values[values.len() - 1] + f64::from(step);
            values.push(value.clamp(-20.0, 20.0));
        }
        let mut expected = Vec::new();
        let mut notified = 0;
        for second in 1..values.len() {
            if is_due(&attributes, &values, notified, second) {
                expected.push(second);
                notified = second;
            }
        }
        prop_assert_eq!(notifications(&attributes, &values), expected);
    }
}
