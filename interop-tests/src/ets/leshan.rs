//! The REST interface of Leshan's demonstration server, as an operator's.
//!
//! Invariant: what it cannot ask is told as such, and is no fail of the server.

use lwm2m_objects::Path;
use lwm2m_server::api::values;
use lwm2m_server::{Operation, Value, WriteMode};
use serde_json::{Map, Value as Json, json};

use super::operator::{Failure, Rest, joined};

/// Seconds that a device has for its answer; without it the demonstration waits for five.
const TIMEOUT: u64 = 60;

pub(crate) fn ask(rest: &Rest, endpoint: &str, operation: &Operation) -> Result<Json, Failure> {
    let (method, path, body) = request(operation)?;
    let answer = rest.send(method, &format!("/api/clients/{endpoint}{path}"), body.as_ref());
    // It cancels what is under way when a device de-registers, or registers anew.
    let answer = answer.map_err(|failure| failure.overtaken_if("RequestCanceledException"))?;
    match answer.pointer("/success").and_then(Json::as_bool) {
        Some(false) => Err(Failure::Refused(answer.to_string())),
        // Of a request that waits for a device that sleeps it says no more than that.
        _ => Ok(answer),
    }
}

fn request(operation: &Operation) -> Result<(&'static str, String, Option<Json>), Failure> {
    let cannot = |what: &str| Err(Failure::Cannot(format!("Leshan's interface {what}")));
    let several = |paths: &[Path]| {
        let formats = ["pathformat", "nodeformat"].map(|name| format!("{name}=SENML_CBOR"));
        core::iter::once(format!("paths={}", joined(paths))).chain(formats).collect()
    };
    let (method, path, mut parameters, body): (_, _, Vec<String>, _) = match operation {
        Operation::Read { path, format } => ("GET", path.to_string(), named(*format)?, None),
        Operation::Write { path, mode, values, format } => {
            let mut parameters = named(*format)?;
            parameters.push(format!("replace={}", *mode == WriteMode::Replace));
            ("PUT", path.to_string(), parameters, Some(node(*path, values)))
        }
        Operation::Execute { path, .. } => ("POST", path.to_string(), Vec::new(), None),
        Operation::Create { object, instance, values } => {
            let at = Path::instance(*object, instance.unwrap_or_default());
            let values: Vec<(Path, Value)> = values
                .iter()
                .filter_map(|(id, several, value)| {
                    let path = at.child(*id)?;
                    Some((several.map_or(Some(path), |one| path.child(one))?, value.clone()))
                })
                .collect();
            ("POST", format!("/{object}"), Vec::new(), Some(node(at, &values)))
        }
        Operation::Delete { path } if path.ids().len() == 2 => ("DELETE", path.to_string(), Vec::new(), None),
        Operation::Delete { .. } => return cannot("deletes instances alone"),
        Operation::Discover { path, .. } => ("GET", format!("{path}/discover"), Vec::new(), None),
        Operation::WriteAttributes { path, attributes } => {
            // All of the query is attributes.
            return Ok(("PUT", format!("{path}/attributes?{attributes}"), None));
        }
        Operation::Observe { path, .. } => ("POST", format!("{path}/observe"), Vec::new(), None),
        Operation::ReadComposite { paths, .. } if paths.contains(&Path::ROOT) => {
            return cannot("reads no root path");
        }
        Operation::ReadComposite { paths, .. } => ("GET", "/composite".to_owned(), several(paths), None),
        Operation::ObserveComposite { paths, .. } => {
            ("POST", "/composite/observe".to_owned(), several(paths), None)
        }
        Operation::WriteComposite { values } => {
            let values = values.iter().map(|(path, value)| {
                (path.to_string(), node(*path, core::slice::from_ref(&(*path, value.clone()))))
            });
            let body = Json::Object(values.collect::<Map<_, _>>());
            ("PUT", "/composite".to_owned(), vec!["nodeformat=SENML_CBOR".to_owned()], Some(body))
        }
        _ => return cannot("has no such operation"),
    };
    parameters.push(format!("timeout={TIMEOUT}"));
    Ok((method, format!("{path}?{}", parameters.join("&")), body))
}

/// The parameter for a content format; without it the server, or the device, chooses.
fn named(format: Option<u16>) -> Result<Vec<String>, Failure> {
    let name = match format {
        None | Some(Operation::ANY_FORMAT) => return Ok(Vec::new()),
        Some(0) => "TEXT",
        Some(42) => "OPAQUE",
        Some(60) => "CBOR",
        Some(110) => "SENML_JSON",
        Some(112) => "SENML_CBOR",
        Some(11_542) => "TLV",
        Some(11_543) => "JSON",
        Some(other) => {
            return Err(Failure::Cannot(format!(
                "Leshan's interface has no name for content format {other}"
            )));
        }
    };
    Ok(vec![format!("format={name}")])
}

/// A node of the data model at a path.
fn node(path: Path, values: &[(Path, Value)]) -> Json {
    match *path.ids() {
        [_, instance] => {
            let mut resources: Vec<(u16, Vec<(Path, Value)>)> = Vec::new();
            for (at, value) in values {
                let Some(id) = at.resource_id() else { continue };
                match resources.iter_mut().find(|(other, _)| *other == id) {
                    Some((_, several)) => several.push((*at, value.clone())),
                    None => resources.push((id, vec![(*at, value.clone())])),
                }
            }
            let resources: Vec<Json> = resources.iter().map(|(id, values)| resource(*id, values)).collect();
            json!({ "kind": "instance", "id": instance, "resources": resources })
        }
        [_, _, id] => resource(id, values),
        [_, _, _, id] => {
            let (kind, value) = values.first().map_or(("string", json!("")), |(_, value)| leaf(value));
            json!({ "kind": "resourceInstance", "id": id, "type": kind, "value": value })
        }
        _ => Json::Null,
    }
}

fn resource(id: u16, values: &[(Path, Value)]) -> Json {
    let first = values.first();
    let kind = first.map_or("string", |(_, value)| leaf(value).0);
    match first {
        Some((path, value)) if path.resource_instance_id().is_none() => {
            json!({ "kind": "singleResource", "id": id, "type": kind, "value": leaf(value).1 })
        }
        _ => {
            let several = values
                .iter()
                .filter_map(|(path, value)| Some((path.resource_instance_id()?.to_string(), leaf(value).1)));
            json!({ "kind": "multiResource", "id": id, "type": kind, "values": several.collect::<Map<_, _>>() })
        }
    }
}

/// Type and value in the JSON that the demonstration takes for it: numbers are texts, and times are milliseconds.
fn leaf(value: &Value) -> (&'static str, Json) {
    match value {
        Value::String(text) => ("string", json!(text)),
        Value::Integer(number) => ("integer", json!(number.to_string())),
        Value::Unsigned(number) => ("unsigned_integer", json!(number.to_string())),
        Value::Float(number) => ("float", json!(number.to_string())),
        Value::Boolean(is) => ("boolean", json!(is)),
        Value::Opaque(bytes) => ("opaque", json!(hex::encode(bytes))),
        Value::Time(seconds) => ("time", json!(seconds.saturating_mul(1000))),
        Value::ObjectLink(object, instance) => {
            ("objlnk", json!({ "objectId": object, "objectInstanceId": instance }))
        }
        Value::CoreLink(links) => ("corelink", json!(links)),
        other => ("string", values::emit(other).1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_a_node_with_kinds_and_types() {
        let path = Path::instance(1, 0);
        let values = vec![
            (Path::resource(1, 0, 1), Value::Integer(61)),
            (Path::resource(1, 0, 6), Value::Boolean(true)),
        ];
        let write = Operation::Write { path, mode: WriteMode::Update, values, format: Some(11_542) };
        let (method, path, body) = request(&write).unwrap_or_default();
        assert_eq!((method, path.as_str()), ("PUT", "/1/0?format=TLV&replace=false&timeout=60"));
        let lifetime = json!({ "kind": "singleResource", "id": 1, "type": "integer", "value": "61" });
        assert_eq!(body.and_then(|body| body.pointer("/resources/0").cloned()), Some(lifetime));
    }

    #[test]
    fn each_value_has_the_type_and_the_json_of_the_demonstration() {
        for (value, kind, json) in [
            (Value::String("a".to_owned()), "string", json!("a")),
            (Value::Integer(-1), "integer", json!("-1")),
            (Value::Unsigned(u64::MAX), "unsigned_integer", json!("18446744073709551615")),
            (Value::Float(1.5), "float", json!("1.5")),
            (Value::Boolean(false), "boolean", json!(false)),
            (Value::Opaque(vec![1, 0xff]), "opaque", json!("01ff")),
            (Value::Time(1_367_491_215), "time", json!(1_367_491_215_000_i64)),
            (Value::ObjectLink(11, 1), "objlnk", json!({ "objectId": 11, "objectInstanceId": 1 })),
            (Value::CoreLink("</3>".to_owned()), "corelink", json!("</3>")),
        ] {
            assert_eq!(leaf(&value), (kind, json), "{value:?}");
        }
    }

    #[test]
    fn a_format_is_a_parameter_where_one_is_asked_for() {
        let read =
            |format| request(&Operation::Read { path: Path::object(1), format }).map(|(_, path, _)| path);
        assert_eq!(read(Some(60)).as_deref(), Ok("/1?format=CBOR&timeout=60"));
        for format in [None, Some(Operation::ANY_FORMAT)] {
            assert_eq!(read(format).as_deref(), Ok("/1?timeout=60"));
        }
        assert!(matches!(read(Some(11_544)), Err(Failure::Cannot(_))));
        let values = vec![(Path::resource(1, 0, 6), Value::Boolean(true))];
        let (_, path, _) = request(&Operation::WriteComposite { values }).unwrap_or_default();
        assert_eq!(path, "/composite?nodeformat=SENML_CBOR&timeout=60");
    }
}
