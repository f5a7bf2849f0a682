//! What a queued request asks, and what was answered, as they lie in the store: JSON, so that a later version reads them.
//!
//! Invariant: what is read back is what was asked; nothing but the store has values of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::LONGEST;
use crate::Path;
use crate::api::values;
use crate::credentials::Happened;
use crate::operation::{Answer, Content, ObservationId, Operation, RequestError, WriteMode};
use crate::store::AuditNote;

/// Who asks for what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    actor: Arc<str>,
    #[serde(flatten)]
    asked: Asked,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
enum Asked {
    Read {
        path: String,
        format: Option<u16>,
    },
    Discover {
        path: String,
        depth: Option<u8>,
    },
    Observe {
        path: String,
        format: Option<u16>,
    },
    Write {
        path: String,
        replace: bool,
        values: Vec<Json>,
        /// Not there in what former versions kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<u16>,
    },
    WriteAttributes {
        path: String,
        attributes: String,
    },
    Execute {
        path: String,
        arguments: String,
    },
    Create {
        path: String,
        object: u16,
        instance: Option<u16>,
        values: Vec<Json>,
    },
    Delete {
        path: String,
    },
    ReadComposite {
        paths: Vec<String>,
        format: Option<u16>,
    },
    ObserveComposite {
        paths: Vec<String>,
        format: Option<u16>,
    },
    WriteComposite {
        values: Vec<Json>,
    },
}

/// Whether an operation may be executed twice to the effect of once: whether its method is idempotent (RFC 7252 §5.1, RFC 8132
/// §2, §3).
pub(super) const fn is_repeatable(operation: &Operation) -> bool {
    match operation {
        Operation::Read { .. }
        | Operation::Discover { .. }
        | Operation::Observe { .. }
        | Operation::Cancel { .. }
        | Operation::Write { mode: WriteMode::Replace, .. }
        | Operation::WriteAttributes { .. }
        | Operation::Delete { .. }
        | Operation::ReadComposite { .. }
        | Operation::ObserveComposite { .. }
        | Operation::WriteComposite { .. } => true,
        Operation::Write { mode: WriteMode::Update, .. }
        | Operation::Execute { .. }
        | Operation::Create { .. } => false,
    }
}

impl Body {
    /// `None` for what the next run of the server could not ask: an observation has its id for one run.
    pub(crate) fn new(operation: &Operation, actor: &Arc<str>) -> Option<Self> {
        let asked = match operation.clone() {
            Operation::Read { path, format } => Asked::Read { path: path.to_string(), format },
            Operation::Discover { path, depth } => Asked::Discover { path: path.to_string(), depth },
            Operation::Observe { path, format } => Asked::Observe { path: path.to_string(), format },
            Operation::Write { path, mode, values, format } => Asked::Write {
                path: path.to_string(),
                replace: mode == WriteMode::Replace,
                values: values.iter().map(|(path, value)| values::emit_at(path, value)).collect(),
                format,
            },
            Operation::WriteAttributes { path, attributes } => {
                Asked::WriteAttributes { path: path.to_string(), attributes }
            }
            Operation::Execute { path, arguments } => Asked::Execute { path: path.to_string(), arguments },
            Operation::Create { object, instance, values } => Asked::Create {
                path: Path::object(object).to_string(),
                object,
                instance,
                values: values
                    .iter()
                    .map(|(id, several, value)| {
                        let path = match several {
                            Some(one) => Path::resource_instance(object, 0, *id, *one),
                            None => Path::resource(object, 0, *id),
                        };
                        values::emit_at(&path, value)
                    })
                    .collect(),
            },
            Operation::Delete { path } => Asked::Delete { path: path.to_string() },
            Operation::ReadComposite { paths, format } => {
                Asked::ReadComposite { paths: paths.iter().map(Path::to_string).collect(), format }
            }
            Operation::ObserveComposite { paths, format } => {
                Asked::ObserveComposite { paths: paths.iter().map(Path::to_string).collect(), format }
            }
            Operation::WriteComposite { values } => Asked::WriteComposite {
                values: values.iter().map(|(path, value)| values::emit_at(path, value)).collect(),
            },
            Operation::Cancel { .. } => return None,
        };
        Some(Self { actor: Arc::clone(actor), asked })
    }

    pub(crate) fn emit(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`emit`](Self::emit) wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The operation to ask; `None` when no version of the server wrote this.
    pub(crate) fn operation(&self) -> Option<Operation> {
        Some(match self.asked.clone() {
            Asked::Read { path, format } => Operation::Read { path: path.parse().ok()?, format },
            Asked::Discover { path, depth } => Operation::Discover { path: path.parse().ok()?, depth },
            Asked::Observe { path, format } => Operation::Observe { path: path.parse().ok()?, format },
            Asked::Write { path, replace, values, format } => Operation::Write {
                path: path.parse().ok()?,
                mode: if replace { WriteMode::Replace } else { WriteMode::Update },
                values: values.iter().map(values::parse_at).collect::<Option<_>>()?,
                format,
            },
            Asked::WriteAttributes { path, attributes } => {
                Operation::WriteAttributes { path: path.parse().ok()?, attributes }
            }
            Asked::Execute { path, arguments } => Operation::Execute { path: path.parse().ok()?, arguments },
            Asked::Create { object, instance, values, .. } => {
                let values = values.iter().map(|value| {
                    let (path, value) = values::parse_at(value)?;
                    Some((path.resource_id()?, path.resource_instance_id(), value))
                });
                Operation::Create { object, instance, values: values.collect::<Option<_>>()? }
            }
            Asked::Delete { path } => Operation::Delete { path: path.parse().ok()? },
            Asked::ReadComposite { paths, format } => {
                Operation::ReadComposite { paths: parse_paths(&paths)?, format }
            }
            Asked::ObserveComposite { paths, format } => {
                Operation::ObserveComposite { paths: parse_paths(&paths)?, format }
            }
            Asked::WriteComposite { values } => Operation::WriteComposite {
                values: values.iter().map(values::parse_at).collect::<Option<_>>()?,
            },
        })
    }

    /// Who asks.
    pub(crate) fn actor(&self) -> &Arc<str> {
        &self.actor
    }

    /// Name and path of the operation; of one on several places all their paths.
    pub(crate) fn what(&self) -> (&'static str, String) {
        let (what, path) = match &self.asked {
            Asked::Read { path, .. } => ("read", path),
            Asked::Discover { path, .. } => ("discover", path),
            Asked::Observe { path, .. } => ("observe", path),
            Asked::Write { path, .. } => ("write", path),
            Asked::WriteAttributes { path, .. } => ("write-attributes", path),
            Asked::Execute { path, .. } => ("execute", path),
            Asked::Create { path, .. } => ("create", path),
            Asked::Delete { path } => ("delete", path),
            Asked::ReadComposite { paths, .. } => return ("read-composite", paths.join(", ")),
            Asked::ObserveComposite { paths, .. } => return ("observe-composite", paths.join(", ")),
            Asked::WriteComposite { values } => {
                let paths = values.iter().filter_map(|value| value.get("path")?.as_str());
                return ("write-composite", paths.collect::<Vec<_>>().join(", "));
            }
        };
        (what, path.clone())
    }

    /// The audit row of a change, as it is written for one that does not wait; `None` for what changes no object.
    pub(super) fn audit(&self, id: u64, outcome: &str) -> Option<AuditNote> {
        let (what, path) = self.what();
        let is_change = matches!(what, "write" | "write-composite" | "execute" | "create" | "delete");
        let detail = format!("{path}, request {id}: {outcome}");
        let happened = Happened { role: None, generation: None, what, detail };
        is_change.then(|| AuditNote { actor: Arc::clone(&self.actor), happened })
    }
}

fn parse_paths(paths: &[String]) -> Option<Vec<Path>> {
    paths.iter().map(|path| path.parse().ok()).collect()
}

/// The outcome of a request, and whether the device did what was asked.
pub(super) fn outcome(body: &Body, attempts: u8, outcome: &Result<Answer, RequestError>) -> (bool, Json) {
    let gone = RequestError::Refused((4, 4), String::new());
    match (outcome, &body.asked) {
        // What was deleted by a request that got no answer is not there any more.
        (Err(RequestError::Refused((4, 4), _)), Asked::Delete { .. }) if attempts > 1 => {
            (true, json!({ "code": "2.02", "note": format!("sent {attempts} times: {gone} in the end") }))
        }
        (Ok(answer), asked) => {
            let code = match (answer, asked) {
                (Answer::Done, Asked::Delete { .. }) => "2.02",
                (Answer::Done, _) => "2.04",
                (Answer::Created(_), _) => "2.01",
                _ => "2.05",
            };
            // Several places are below the root.
            let path = match asked {
                Asked::ObserveComposite { .. } => Path::ROOT,
                _ => body.what().1.parse().unwrap_or(Path::ROOT),
            };
            (true, json!({ "code": code, "answer": emit_answer(path, answer) }))
        }
        (Err(error), _) => {
            let mut told = json!({ "reason": error.to_string() });
            if let (RequestError::Refused((class, detail), _), Some(told)) = (error, told.as_object_mut()) {
                told.insert("code".to_owned(), json!(format!("{class}.{detail:02}")));
            }
            (false, told)
        }
    }
}

/// An outcome as it is kept. Of one longer than [`LONGEST`] the answer is left out, but for the id and path of an observation:
/// without them nobody could end it.
pub(super) fn emit_outcome(mut told: Json) -> Zeroizing<Vec<u8>> {
    let whole = Zeroizing::new(told.to_string().into_bytes());
    if whole.len() <= LONGEST {
        return whole;
    }
    let [id, path] = ["/answer/id", "/answer/path"].map(|at| told.pointer(at).cloned());
    if let Some(told) = told.as_object_mut() {
        told.insert("answer".to_owned(), id.map_or(Json::Null, |id| json!({ "id": id, "path": path })));
        let note = format!("the answer takes {} bytes, and at most {LONGEST} are kept", whole.len());
        told.insert("note".to_owned(), json!(note));
    }
    Zeroizing::new(told.to_string().into_bytes())
}

/// Where something was created.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedAt {
    /// Where the device says so.
    path: Option<String>,
}

/// What a device has.
#[derive(Serialize, ToSchema)]
pub(crate) struct Links {
    links: Vec<LinkTo>,
}

/// One thing that a device has, as its link-format says.
#[derive(Serialize, ToSchema)]
struct LinkTo {
    target: String,
    /// Names and values of its attributes.
    attributes: BTreeMap<String, Option<String>>,
}

/// An observation that stands, with its first values.
#[derive(Serialize, ToSchema)]
pub(crate) struct Observing {
    id: u64,
    /// The place; `/` for several.
    path: String,
    #[serde(flatten)]
    values: values::Values,
}

impl Observing {
    pub(crate) fn new(path: Path, ObservationId(id): ObservationId, content: &Content) -> Self {
        Self { id, path: path.to_string(), values: values::Values::new(content) }
    }
}

/// What a device answered, as the HTTP interface tells it; `null` where there is nothing to tell.
pub(crate) fn emit_answer(path: Path, answer: &Answer) -> Json {
    match answer {
        Answer::Done => Json::Null,
        Answer::Content(content) => values::emit_content(content),
        Answer::Created(created) => json!(CreatedAt { path: created.map(|path| path.to_string()) }),
        Answer::Discovered(found) => {
            let links = found.links.iter().map(|link| LinkTo {
                target: link.target.clone(),
                attributes: link.attributes.iter().cloned().collect(),
            });
            json!(Links { links: links.collect() })
        }
        Answer::Observing(id, content) => json!(Observing::new(path, *id, content)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::Value;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn body(operation: &Operation) -> Body {
        Body::new(operation, &"token:test".into()).unwrap()
    }

    #[test]
    fn every_operation_is_read_back_as_it_was_asked() {
        let values = || {
            vec![
                (path("/3303/0/5700"), Value::Float(0.1 + 0.2)),
                (path("/3303/0/5701"), Value::String("a\"ü".to_owned())),
                (path("/3303/0/5518"), Value::Time(-1)),
                (path("/3303/0/5750/3"), Value::Opaque(vec![0, 255])),
                (path("/3303/0/5601"), Value::Unsigned(u64::MAX)),
                (path("/3303/0/5602"), Value::ObjectLink(3, 65535)),
            ]
        };
        let write =
            |mode| Operation::Write { path: path("/3303/0"), mode, values: values(), format: Some(112) };
        let create = |instance| Operation::Create {
            object: 3303,
            instance,
            values: vec![(5700, None, Value::Float(f64::INFINITY)), (5701, Some(1), Value::Boolean(true))],
        };
        for (operation, is_idempotent) in [
            (Operation::Read { path: path("/3/0"), format: Some(110) }, true),
            (Operation::Discover { path: path("/3"), depth: Some(1) }, true),
            (Operation::Observe { path: path("/3303/0/5700"), format: None }, true),
            (write(WriteMode::Replace), true),
            (write(WriteMode::Update), false),
            (Operation::WriteAttributes { path: path("/3"), attributes: "pmin=1&gt".to_owned() }, true),
            (Operation::Execute { path: path("/3/0/4"), arguments: "0='a'".to_owned() }, false),
            (create(None), false),
            (create(Some(7)), false),
            (Operation::Delete { path: path("/3303/7") }, true),
            (Operation::ReadComposite { paths: vec![path("/3/0/9"), path("/1")], format: Some(112) }, true),
            (Operation::ObserveComposite { paths: vec![path("/3/0/9"), path("/1")], format: None }, true),
            (Operation::WriteComposite { values: values() }, true),
        ] {
            let read = Body::parse(&body(&operation).emit()).unwrap();
            assert_eq!(read.operation().unwrap(), operation);
            assert_eq!(is_repeatable(&operation), is_idempotent, "{operation:?}");
        }
        let cancel = Operation::Cancel { observation: ObservationId(1) };
        assert!(Body::new(&cancel, &"token:test".into()).is_none());
        assert!(Body::parse(b"{}").is_none());
    }

    #[test]
    fn an_outcome_has_the_code_and_what_was_answered_or_the_reason() {
        let delete = body(&Operation::Delete { path: path("/3303/7") });
        let execute = body(&Operation::Execute { path: path("/3/0/4"), arguments: String::new() });
        let missing = || Err(RequestError::Refused((4, 4), "no such".to_owned()));
        for (body, attempts, answered, is_done, told) in [
            (&execute, 1, Ok(Answer::Done), true, json!({ "code": "2.04", "answer": null })),
            (&delete, 1, Ok(Answer::Done), true, json!({ "code": "2.02", "answer": null })),
            (
                &execute,
                2,
                missing(),
                false,
                json!({ "code": "4.04", "reason": "the device answered 4.04: no such" }),
            ),
            (
                &execute,
                1,
                Err(RequestError::Invalid("no")),
                false,
                json!({ "reason": "the request is not valid: no" }),
            ),
        ] {
            assert_eq!(outcome(body, attempts, &answered), (is_done, told));
        }
        // RFC 7252 §5.8.4: a repeated DELETE meets what the first one did.
        assert!(!outcome(&delete, 1, &missing()).0);
        assert!(outcome(&delete, 2, &missing()).0);
    }

    #[test]
    fn of_an_outcome_that_is_too_long_all_but_the_values_is_kept() {
        let content = |length: usize| crate::Content {
            format: 42,
            items: vec![(path("/3303/0/5750"), Value::Opaque(vec![0; length]))],
        };
        let kept = |operation: &Operation, answer| {
            let (is_done, told) = outcome(&body(operation), 1, &Ok(answer));
            assert!(is_done);
            let bytes = emit_outcome(told);
            assert!(bytes.len() <= LONGEST, "{}", bytes.len());
            serde_json::from_slice::<Json>(&bytes).unwrap()
        };
        let read = Operation::Read { path: path("/3303/0/5750"), format: None };
        let short = kept(&read, Answer::Content(content(9)));
        assert!(short.get("note").is_none() && short.pointer("/answer/values/0/value").is_some(), "{short}");
        let long = kept(&read, Answer::Content(content(70_000)));
        assert_eq!((long.get("code"), long.get("answer")), (Some(&json!("2.05")), Some(&Json::Null)));
        let note = long.get("note").and_then(Json::as_str).unwrap();
        assert!(note.ends_with("bytes, and at most 65536 are kept"), "{note}");
        let observe = Operation::Observe { path: path("/3303/0/5750"), format: None };
        let observing = kept(&observe, Answer::Observing(ObservationId(7), content(70_000)));
        assert_eq!(observing.get("answer"), Some(&json!({ "id": 7, "path": "/3303/0/5750" })));
    }

    #[test]
    fn the_audit_log_has_the_changes_of_objects_without_their_values() {
        let write = Operation::Write {
            path: path("/3303/0/5750"),
            mode: WriteMode::Replace,
            values: vec![(path("/3303/0/5750"), Value::String("secret".to_owned()))],
            format: None,
        };
        let row = body(&write).audit(7, "queued").unwrap();
        assert_eq!((&*row.actor, row.happened.what), ("token:test", "write"));
        assert_eq!(row.happened.detail, "/3303/0/5750, request 7: queued");
        let read = Operation::Read { path: path("/3"), format: None };
        assert!(body(&read).audit(7, "queued").is_none());
        let values = ["/3/0/14", "/1/0/1"].map(|at| (path(at), Value::Integer(1))).to_vec();
        let row = body(&Operation::WriteComposite { values }).audit(7, "queued").unwrap();
        assert_eq!(row.happened.detail, "/3/0/14, /1/0/1, request 7: queued");
        let paths = vec![path("/3/0/9"), path("/1/0/1")];
        for (operation, name) in [
            (Operation::ReadComposite { paths: paths.clone(), format: None }, "read-composite"),
            (Operation::ObserveComposite { paths, format: None }, "observe-composite"),
        ] {
            assert_eq!(body(&operation).what(), (name, "/3/0/9, /1/0/1".to_owned()));
        }
    }
}
