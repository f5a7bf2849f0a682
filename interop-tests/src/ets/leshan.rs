//! The REST interface of Leshan's demonstration server, as an operator's.
//!
//! Invariant: what it cannot ask is told as such, and is no fail of the server.

use lwm2m_objects::Path;
use lwm2m_server::api::values;
use lwm2m_server::{Operation, Value, WriteMode};
use serde_json::{Map, Value as Json, json};

use super::operator::{Failure, Rest, joined};

pub(crate) fn ask(rest: &Rest, endpoint: &str, operation: &Operation) -> Result<Json, Failure> {
    let (method, path, body) = request(operation)?;
    let answer = rest.send(method, &format!("/api/clients/{endpoint}{path}"), body.as_ref())?;
    match answer.pointer("/success").and_then(Json::as_bool) {
        Some(false) => Err(Failure::Refused(answer.to_string())),
        _ => Ok(answer),
    }
}

fn request(operation: &Operation) -> Result<(&'static str, String, Option<Json>), Failure> {
    let cannot = |what: &str| Err(Failure::Cannot(format!("Leshan's interface {what}")));
    let format = |format: &Option<u16>| match format {
        Some(format) => Ok(format!("?format={}", name(*format)?)),
        None => Ok(String::new()),
    };
    const PACK: &str = "pathformat=SENML_CBOR&nodeformat=SENML_CBOR";
    Ok(match operation {
        Operation::Read { path, format: wanted } => ("GET", format!("{path}{}", format(wanted)?), None),
        Operation::Write { path, mode, values, format: wanted } => {
            let wanted =
                wanted.map(name).transpose()?.map(|name| format!("&format={name}")).unwrap_or_default();
            let is_replace = *mode == WriteMode::Replace;
            ("PUT", format!("{path}?replace={is_replace}{wanted}"), Some(node(*path, values)))
        }
        Operation::Execute { path, .. } => ("POST", path.to_string(), None),
        Operation::Create { object, instance, values } => {
            let at = Path::instance(*object, instance.unwrap_or_default());
            let values: Vec<(Path, Value)> = values
                .iter()
                .filter_map(|(id, several, value)| {
                    let path = at.child(*id)?;
                    Some((several.map_or(Some(path), |one| path.child(one))?, value.clone()))
                })
                .collect();
            ("POST", format!("/{object}"), Some(node(at, &values)))
        }
        Operation::Delete { path } if path.ids().len() == 2 => ("DELETE", path.to_string(), None),
        Operation::Delete { .. } => return cannot("deletes instances alone"),
        Operation::Discover { path, .. } => ("GET", format!("{path}/discover"), None),
        Operation::WriteAttributes { path, attributes } => {
            ("PUT", format!("{path}/attributes?{attributes}"), None)
        }
        Operation::Observe { path, .. } => ("POST", format!("{path}/observe"), None),
        Operation::ReadComposite { paths, .. } if paths.contains(&Path::ROOT) => {
            return cannot("reads no root path");
        }
        Operation::ReadComposite { paths, .. } => {
            ("GET", format!("/composite?paths={}&{PACK}", joined(paths)), None)
        }
        Operation::ObserveComposite { paths, .. } => {
            ("POST", format!("/composite/observe?paths={}&{PACK}", joined(paths)), None)
        }
        Operation::WriteComposite { values } => {
            let values = values.iter().map(|(path, value)| {
                (path.to_string(), node(*path, core::slice::from_ref(&(*path, value.clone()))))
            });
            (
                "PUT",
                "/composite?format=SENML_CBOR".to_owned(),
                Some(Json::Object(values.collect::<Map<_, _>>())),
            )
        }
        _ => return cannot("has no such operation"),
    })
}

/// The name of a content format there.
fn name(format: u16) -> Result<&'static str, Failure> {
    Ok(match format {
        0 => "TEXT",
        42 => "OPAQUE",
        60 => "CBOR",
        110 => "SENML_JSON",
        112 => "SENML_CBOR",
        11_542 => "TLV",
        11_543 => "JSON",
        _ => {
            return Err(Failure::Cannot(
                "Leshan's interface always asks for a content format that it names".into(),
            ));
        }
    })
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

/// Type and value; Leshan has texts of them all.
fn leaf(value: &Value) -> (&'static str, Json) {
    let (kind, json) = values::emit(value);
    let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    (kind, json!(text))
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
        assert_eq!((method, path.as_str()), ("PUT", "/1/0?replace=false&format=TLV"));
        let lifetime = json!({ "kind": "singleResource", "id": 1, "type": "integer", "value": "61" });
        assert_eq!(body.and_then(|body| body.pointer("/resources/0").cloned()), Some(lifetime));
    }
}
