//! JSON forms of LwM2M values.
//!
//! A value is `{"type": T, "value": V}`; in a request a bare `V` will do. Its type is that of the resource where the
//! server knows the object in the version that the device has, else it follows from the JSON as in the last column:
//!
//! | type | JSON value | bare |
//! |---|---|---|
//! | `string` | string | yes |
//! | `integer` | number without fraction | yes |
//! | `unsigned` | number without fraction, from 0 | above 2^63-1 |
//! | `float` | number, or `"NaN"`, `"Infinity"`, `"-Infinity"` | with a fraction or exponent |
//! | `boolean` | `true`, `false` | yes |
//! | `opaque` | string of hex digits | |
//! | `time` | seconds since 1970 | |
//! | `objlink` | string `"3303:0"` | |
//! | `corelnk` | string in link-format | |
//!
//! Bodies:
//! - Write to a resource or resource instance: one value, or `{"values": {"0": V, "1": V}}` for several instances.
//! - Write to an instance: `{"resources": {"5700": V, "5750": {"values": {"0": V}}}}`; `?replace=true` removes what is
//!   left out, the default updates.
//! - Create: the same with an optional `"instance": 3`.
//! - Execute: nothing, or `{"arguments": "0='on',1"}`.
//!
//! A Read answers `{"format": 110, "values": [{"path": "/3303/0/5700", "type": "float", "value": 21.5}]}`.

use std::collections::HashMap;
use std::sync::Arc;

use lwm2m_objects::{Kind, Registered, Version};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::models::{Model, Models, Versions};
use crate::{Content, Device, Path, Value};

/// A value as JSON with its type.
#[must_use]
pub fn emit(value: &Value) -> (&'static str, Json) {
    match value {
        Value::String(text) => ("string", json!(text)),
        Value::Integer(value) => ("integer", json!(value)),
        Value::Unsigned(value) => ("unsigned", json!(value)),
        Value::Float(value) if value.is_nan() => ("float", json!("NaN")),
        Value::Float(value) if value.is_infinite() => {
            ("float", json!(if *value > 0.0 { "Infinity" } else { "-Infinity" }))
        }
        Value::Float(value) => ("float", json!(value)),
        Value::Boolean(value) => ("boolean", json!(value)),
        Value::Opaque(bytes) => ("opaque", json!(hex::encode(bytes))),
        Value::Time(value) => ("time", json!(value)),
        Value::ObjectLink(object, instance) => ("objlink", json!(format!("{object}:{instance}"))),
        Value::CoreLink(text) => ("corelnk", json!(text)),
    }
}

/// What was read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Values {
    /// The content format that it came in, a number of CoAP.
    format: u16,
    values: Vec<ValueAt>,
}

/// A value with its path.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValueAt {
    /// As `/3303/0/5700`.
    path: String,
    /// `string`, `integer`, `unsigned`, `float`, `boolean`, `opaque`, `time`, `objlink` or `corelnk`.
    #[serde(rename = "type")]
    kind: &'static str,
    value: Json,
}

impl Values {
    pub(crate) fn new(content: &Content) -> Self {
        let values = content.items.iter().map(|(path, value)| ValueAt::new(path, value)).collect();
        Self { format: content.format, values }
    }
}

impl ValueAt {
    fn new(path: &Path, value: &Value) -> Self {
        let (kind, value) = emit(value);
        Self { path: path.to_string(), kind, value }
    }
}

/// The body of a Write.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the document: a value is read by the type of its resource")]
pub(super) enum Written {
    Text(String),
    Number(f64),
    Boolean(bool),
    Typed(TypedValue),
    Instances(Instances),
    Resources(Resources),
}

/// A value with its type.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct TypedValue {
    /// `string`, `integer`, `unsigned`, `float`, `boolean`, `opaque`, `time`, `objlink` or `corelnk`; that of the resource without.
    #[schema(rename = "type")]
    kind: Option<String>,
    value: Json,
}

/// Of a resource: values of its instances.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct Instances {
    /// By instance id.
    values: HashMap<String, Json>,
}

/// Of an instance: values of its resources.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct Resources {
    /// By resource id.
    resources: HashMap<String, Json>,
}

/// Notification attributes; `null` unsets one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct Attributes {
    /// Seconds, as the other periods.
    pmin: Option<u32>,
    pmax: Option<u32>,
    epmin: Option<u32>,
    epmax: Option<u32>,
    gt: Option<f64>,
    lt: Option<f64>,
    st: Option<f64>,
}

/// What was read, as JSON.
#[must_use]
pub fn emit_content(content: &Content) -> Json {
    json!(Values::new(content))
}

/// One value with its path, as JSON.
pub(crate) fn emit_at(path: &Path, value: &Value) -> Json {
    json!(ValueAt::new(path, value))
}

/// Reads what [`emit_at`] wrote.
pub(crate) fn parse_at(json: &Json) -> Option<(Path, Value)> {
    let path = json.get("path")?.as_str()?.parse().ok()?;
    Some((path, parse_as(json.get("type")?.as_str()?, json.get("value")?).ok()?))
}

/// What types the resources of a device have, by the versions of its objects; without a device those of the newest versions.
#[derive(Default)]
pub(crate) struct Types {
    models: Arc<Models>,
    device: Option<(Version, Versions)>,
}

impl Types {
    /// Those of a registered device; of one that is not, as if it had the oldest versions.
    pub(super) fn new(models: Arc<Models>, device: Option<&Device>) -> Self {
        let list = device.and_then(|device| Registered::parse(device.objects.as_bytes()).ok());
        let enabler = device.and_then(|device| Version::parse(&device.version)).unwrap_or(Version::new(1, 0));
        Self { models, device: Some((enabler, list.map(|list| Versions::of(&list)).unwrap_or_default())) }
    }

    /// Those of no certain device.
    pub(crate) fn newest(models: Arc<Models>) -> Self {
        Self { models, device: None }
    }

    /// The definition of an object.
    pub(crate) fn model(&self, object: u16) -> Option<&Model> {
        let entry = match &self.device {
            Some((enabler, versions)) => self.models.find(object, versions.version(*enabler, object)),
            None => self.models.versions(object).last(),
        };
        Some(&entry?.model)
    }

    /// The type of a resource of an object this server knows.
    fn known(&self, object: u16, resource: u16) -> Option<&'static str> {
        name(self.model(object)?.resource(resource)?.kind)
    }

    fn at(&self, path: &Path) -> Option<&'static str> {
        self.known(path.object_id()?, path.resource_id()?)
    }
}

/// The name of a type; there is none for what has no value.
pub(crate) const fn name(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Unsigned => "unsigned",
        Kind::Float => "float",
        Kind::Boolean => "boolean",
        Kind::Opaque => "opaque",
        Kind::Time => "time",
        Kind::ObjectLink => "objlink",
        Kind::CoreLink => "corelnk",
        Kind::Nothing => return None,
    })
}

/// A value from JSON, bare or with its type; `known` is the type of a bare one.
fn parse(json: &Json, known: Option<&'static str>) -> Result<Value, Problem> {
    let bare = |json: &Json| match known {
        // A shell cannot tell a text of digits from a number.
        Some(kind @ "string") if json.is_number() || json.is_boolean() => {
            parse_as(kind, &json!(json.to_string()))
        }
        Some(kind) => parse_as(kind, json),
        None => parse_bare(json),
    };
    let Some(object) = json.as_object() else { return bare(json) };
    if let Some(other) = object.keys().find(|key| *key != "type" && *key != "value") {
        return Err(Problem::invalid(format!("a value has 'type' and 'value', not '{other}'")));
    }
    let value = object.get("value").ok_or_else(|| Problem::invalid("a value without 'value'"))?;
    match object.get("type") {
        None => bare(value),
        Some(kind) => parse_as(kind.as_str().unwrap_or_default(), value),
    }
}

fn parse_bare(json: &Json) -> Result<Value, Problem> {
    match json {
        Json::String(text) => Ok(Value::String(text.clone())),
        Json::Bool(value) => Ok(Value::Boolean(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Ok(Value::Integer(value)),
            (None, Some(value), _) => Ok(Value::Unsigned(value)),
            (None, None, Some(value)) => Ok(Value::Float(value)),
            (None, None, None) => Err(Problem::invalid(format!("{number} is no number a device could hold"))),
        },
        _ => Err(Problem::invalid(
            "a value is a string, a number, true, false, or {\"type\": …, \"value\": …}",
        )),
    }
}

fn parse_as(kind: &str, json: &Json) -> Result<Value, Problem> {
    let value = match kind {
        "string" => json.as_str().map(|text| Value::String(text.to_owned())),
        "corelnk" => json.as_str().map(|text| Value::CoreLink(text.to_owned())),
        "integer" => json.as_i64().map(Value::Integer),
        "unsigned" => json.as_u64().map(Value::Unsigned),
        "time" => json.as_i64().map(Value::Time),
        "boolean" => json.as_bool().map(Value::Boolean),
        "float" => match json.as_str() {
            Some("NaN") => Some(Value::Float(f64::NAN)),
            Some("Infinity") => Some(Value::Float(f64::INFINITY)),
            Some("-Infinity") => Some(Value::Float(f64::NEG_INFINITY)),
            Some(_) => None,
            None => json.as_f64().map(Value::Float),
        },
        "opaque" => json.as_str().and_then(|text| hex::decode(text).ok()).map(Value::Opaque),
        "objlink" => json.as_str().and_then(|text| {
            let (object, instance) = text.split_once(':')?;
            Some(Value::ObjectLink(object.parse().ok()?, instance.parse().ok()?))
        }),
        _ => {
            return Err(Problem::invalid(format!(
                "unknown type '{kind}': string, integer, unsigned, float, boolean, opaque, time, objlink or corelnk"
            )));
        }
    };
    value.ok_or_else(|| Problem::invalid(format!("{json} is not a value of type {kind}")))
}

/// The values of a Write to `path`, which is an instance or lies below one.
pub(crate) fn parse_write(types: &Types, path: &Path, json: &Json) -> Result<Vec<(Path, Value)>, Problem> {
    match depth(path) {
        2 => {
            let resources = json
                .as_object()
                .filter(|object| object.len() == 1)
                .and_then(|object| object.get("resources"))
                .and_then(Json::as_object)
                .ok_or_else(|| {
                    Problem::invalid("the body of a write to an instance is {\"resources\": {\"ID\": VALUE}}")
                })?;
            parse_resources(types, path, resources)
        }
        3 => parse_resource(types, path, json),
        4 => Ok(vec![(*path, parse(json, types.at(path))?)]),
        _ => Err(Problem::invalid(format!(
            "{path} cannot be written: an instance, resource or resource instance can"
        ))),
    }
}

/// The body of a Write to `path` of these values, each with its type: what [`parse_write`] reads.
pub(crate) fn emit_write(path: &Path, values: &[(Path, Value)]) -> Json {
    let typed = |value: &Value| {
        let (kind, value) = emit(value);
        json!({ "type": kind, "value": value })
    };
    // At a resource, one value or those of its instances.
    let at_resource = |of: &[(Path, Value)]| match of {
        [(at, value)] if at.resource_instance_id().is_none() || at == path => typed(value),
        of => {
            let several = of
                .iter()
                .filter_map(|(at, value)| Some((at.resource_instance_id()?.to_string(), typed(value))));
            json!({ "values": several.collect::<Map<_, _>>() })
        }
    };
    if depth(path) != 2 {
        return at_resource(values);
    }
    let resources = values.chunk_by(|(one, _), (other, _)| one.resource_id() == other.resource_id());
    let resources =
        resources.filter_map(|of| Some((of.first()?.0.resource_id()?.to_string(), at_resource(of))));
    json!({ "resources": resources.collect::<Map<_, _>>() })
}

/// Instance id, if one is asked for, and resources of a Create.
pub(super) type Create = (Option<u16>, Vec<(u16, Option<u16>, Value)>);

/// The values of a Create, with the instance id if one is asked for.
pub(super) fn parse_create(types: &Types, object_id: u16, json: &Json) -> Result<Create, Problem> {
    let form =
        || Problem::invalid("the body of a create is {\"instance\": ID, \"resources\": {\"ID\": VALUE}}");
    let object = json.as_object().ok_or_else(form)?;
    if object.keys().any(|key| key != "instance" && key != "resources") {
        return Err(form());
    }
    let instance = match object.get("instance") {
        None | Some(Json::Null) => None,
        Some(id) => Some(id.as_u64().and_then(|id| u16::try_from(id).ok()).ok_or_else(form)?),
    };
    let mut values = Vec::new();
    if let Some(resources) = object.get("resources") {
        for (id, value) in resources.as_object().ok_or_else(form)? {
            let id = id.parse().map_err(|_| Problem::invalid(format!("'{id}' is no resource id")))?;
            let parsed = parse_resource(types, &Path::resource(object_id, 0, id), value)?;
            values.extend(parsed.into_iter().map(|(path, value)| (id, path.resource_instance_id(), value)));
        }
    }
    values.sort_by_key(|(id, several, _)| (*id, *several));
    Ok((instance, values))
}

fn parse_resources(
    types: &Types,
    path: &Path,
    resources: &Map<String, Json>,
) -> Result<Vec<(Path, Value)>, Problem> {
    let mut values = Vec::new();
    for (id, value) in resources {
        values.extend(parse_resource(types, &below(path, id)?, value)?);
    }
    values.sort_by_key(|(path, _)| *path);
    Ok(values)
}

fn parse_resource(types: &Types, path: &Path, json: &Json) -> Result<Vec<(Path, Value)>, Problem> {
    match json.get("values") {
        None => Ok(vec![(*path, parse(json, types.at(path))?)]),
        Some(several) => {
            let several = several
                .as_object()
                .ok_or_else(|| Problem::invalid("'values' holds {\"INSTANCE\": VALUE} of one resource"))?;
            let mut values = Vec::new();
            for (id, value) in several {
                values.push((below(path, id)?, parse(value, types.at(path))?));
            }
            values.sort_by_key(|(path, _)| *path);
            Ok(values)
        }
    }
}

fn below(path: &Path, id: &str) -> Result<Path, Problem> {
    let id: u16 = id.parse().map_err(|_| Problem::invalid(format!("'{id}' is no id")))?;
    format!("{path}/{id}").parse().map_err(|_| Problem::invalid(format!("{path}/{id} is no path")))
}

/// How many ids a path has.
pub(crate) fn depth(path: &Path) -> usize {
    path.to_string().split('/').filter(|id| !id.is_empty()).count()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn types() -> Types {
        Types::new(Arc::default(), None)
    }

    #[test]
    fn every_type_survives_the_round_trip() {
        let values = [
            Value::String("a\"ü".to_owned()),
            Value::Integer(i64::MIN),
            Value::Unsigned(u64::MAX),
            Value::Float(0.1),
            Value::Float(f64::INFINITY),
            Value::Boolean(true),
            Value::Opaque(vec![0, 255]),
            Value::Time(-1),
            Value::ObjectLink(65535, 0),
            Value::CoreLink("</3>".to_owned()),
        ];
        for value in values {
            let (kind, json) = emit(&value);
            let text = json!({ "type": kind, "value": json }).to_string();
            assert_eq!(parse(&serde_json::from_str(&text).unwrap(), None).unwrap(), value);
        }
    }

    #[test]
    fn bare_values_take_the_type_of_their_json() {
        assert_eq!(parse(&json!("x"), None).unwrap(), Value::String("x".to_owned()));
        assert_eq!(parse(&json!(-3), None).unwrap(), Value::Integer(-3));
        assert_eq!(parse(&json!(2.5), None).unwrap(), Value::Float(2.5));
        assert_eq!(parse(&json!(false), None).unwrap(), Value::Boolean(false));
        assert!(parse(&json!(null), None).is_err());
        assert!(parse(&json!([1]), None).is_err());
    }

    #[test]
    fn a_write_to_an_instance_names_resources_in_order() {
        let body = json!({ "resources": { "11": { "values": { "1": 2, "0": 1 } }, "2": "a" } });
        assert_eq!(
            parse_write(&types(), &path("/3/0"), &body).unwrap(),
            [
                (path("/3/0/2"), Value::String("a".to_owned())),
                (path("/3/0/11/0"), Value::Integer(1)),
                (path("/3/0/11/1"), Value::Integer(2)),
            ]
        );
    }

    #[test]
    fn a_write_with_all_its_types_is_read_as_it_was() {
        for (at, body) in [
            ("/3303/0/5700", json!(21)),
            ("/16/0/0/3", json!("a")),
            ("/16/0/0", json!({ "values": { "3": "a" } })),
            ("/3/0", json!({ "resources": { "15": "x", "13": 5, "11": { "values": { "0": 1, "1": 2 } } } })),
            (
                "/99/0",
                json!({ "resources": { "1": { "values": { "0": { "type": "opaque", "value": "0a" } } } } }),
            ),
        ] {
            let values = parse_write(&types(), &path(at), &body).unwrap();
            let typed = emit_write(&path(at), &values);
            assert_eq!(parse_write(&Types::default(), &path(at), &typed).unwrap(), values, "{typed}");
        }
    }

    #[test]
    fn bare_values_take_the_type_of_a_known_resource() {
        assert_eq!(
            parse_write(&types(), &path("/3303/0/5700"), &json!(21)).unwrap(),
            [(path("/3303/0/5700"), Value::Float(21.0))]
        );
        assert_eq!(
            parse_write(&types(), &path("/3/0/13"), &json!(5)).unwrap(),
            [(path("/3/0/13"), Value::Time(5))]
        );
        assert!(parse_write(&types(), &path("/1/0/1"), &json!("soon")).is_err());
        assert_eq!(
            parse_create(&types(), 3303, &json!({ "resources": { "5700": 1 } })).unwrap().1,
            [(5700, None, Value::Float(1.0))]
        );
        let several = json!({ "instance": 1, "resources": { "0": { "values": { "1": "b", "0": "a" } } } });
        let texts =
            ["a", "b"].into_iter().zip(0..).map(|(text, at)| (0, Some(at), Value::String(text.into())));
        assert_eq!(parse_create(&types(), 16, &several).unwrap(), (Some(1), texts.collect::<Vec<_>>()));
    }

    #[test]
    fn a_write_to_an_object_is_refused_in_words() {
        assert!(parse_write(&types(), &path("/3"), &json!(1)).is_err());
        assert!(parse_write(&types(), &path("/3/0"), &json!(1)).is_err());
        assert!(parse_write(&types(), &path("/3/0/1"), &json!({ "typ": "string", "value": "a" })).is_err());
    }
}
