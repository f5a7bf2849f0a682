//! Who makes a server do something: the interface of a server, or a person at a terminal.
//!
//! Invariant: an operator only asks; what comes of it is seen at the device.

use std::io::Write as _;
use std::time::Duration;

use lwm2m_objects::Path;
use lwm2m_server::api::values;
use lwm2m_server::{Operation, Value, WriteMode};
use serde_json::{Map, Value as Json, json};
use ureq::Agent;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Operator {
    /// The REST interface of `lwm2m-server`.
    Ours(Rest),
    /// The REST interface of Leshan's demonstration server.
    Leshan(Rest),
    /// A person, who is told on the terminal.
    Prompt,
}

/// A REST interface.
#[derive(Clone)]
pub struct Rest {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl core::fmt::Debug for Rest {
    // The token is a secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Rest({:?})", self.base)
    }
}

/// By what a server knows a device.
pub(crate) enum Credential {
    /// Nothing: it comes without security.
    Anyone,
    /// A pre-shared key, in hexadecimal.
    Psk { identity: String, key: String },
    /// A certificate in PEM.
    Certificate(String),
}

/// Why nothing was asked, or the answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no way to ask this.
    Cannot(String),
    /// The server said no.
    Refused(String),
    /// The server gave the request up, because what the device did at once changed or ended its registration.
    Overtaken(String),
}

impl Failure {
    /// The failure as one that the device brought about, if the server says so with this word.
    pub(super) fn overtaken_if(self, word: &str) -> Self {
        match self {
            Self::Refused(text) if text.contains(word) => Self::Overtaken(text),
            other => other,
        }
    }
}

/// What a server says of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) lifetime: Option<u32>,
    pub(crate) version: Option<String>,
    pub(crate) is_queued: Option<bool>,
    pub(crate) is_awake: Option<bool>,
}

/// How long an answer may take: a device that sleeps is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

impl Rest {
    /// The interface at this address, as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn new(base: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let base = base.trim_end_matches('/').to_owned();
        Self { agent: Agent::new_with_config(config.build()), base, token }
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        let refused = |error: String| Failure::Refused(format!("{method} {path}: {error}"));
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.header("Content-Type", "application/json").body(bytes);
        let request = request.map_err(|error| refused(error.to_string()))?;
        let mut response = self.agent.run(request).map_err(|error| refused(error.to_string()))?;
        let text = response.body_mut().read_to_string().unwrap_or_default();
        match response.status().as_u16() {
            200..=299 => Ok(serde_json::from_str(&text).unwrap_or(Json::Null)),
            status => Err(refused(format!("{status} {text}"))),
        }
    }
}

impl Operator {
    /// Makes a device known by what it proves itself with.
    pub(crate) fn enrol(
        &self,
        endpoint: &str,
        role: &str,
        credential: &Credential,
        lifetime: u32,
        uri: Option<&str>,
    ) -> Result<(), Failure> {
        match (self, credential) {
            (Self::Ours(rest), credential) => {
                let mut profile = json!({ "lifetime": lifetime });
                if let (Some(members), Some(uri)) = (profile.as_object_mut(), uri) {
                    members.insert("server_uri".to_owned(), json!(uri));
                }
                let mut members = vec![("profile", profile)];
                match credential {
                    Credential::Anyone => members.push(("allow_nosec", json!(true))),
                    Credential::Psk { identity, key } => {
                        members.push((role, json!({ "identity": identity, "key": key })));
                    }
                    // What a bootstrap writes is of the same mode; an account that is named twice is the later one.
                    Credential::Certificate(pem) => members.extend([
                        ("management", json!({ "mode": "x509", "generate": true })),
                        (role, json!({ "mode": "x509", "certificate": pem })),
                    ]),
                }
                let body: Map<_, _> =
                    members.into_iter().map(|(name, json)| (name.to_owned(), json)).collect();
                let path = format!("/api/v1/devices/{endpoint}/credentials");
                rest.send("PUT", &path, Some(&Json::Object(body))).map(drop)
            }
            (Self::Leshan(_), Credential::Anyone) => Ok(()),
            (Self::Leshan(rest), credential) => {
                let tls = match credential {
                    Credential::Psk { identity, key } => {
                        json!({ "mode": "psk", "details": { "identity": identity, "key": key } })
                    }
                    // Its authority is for the trust store of the server to know.
                    _ => json!({ "mode": "x509" }),
                };
                let body = json!({ "endpoint": endpoint, "tls": tls });
                rest.send("PUT", "/api/security/clients/", Some(&body)).map(drop)
            }
            (Self::Prompt, Credential::Psk { identity, key }) => self
                .tell(&format!("let the device {endpoint} come with the PSK identity {identity}, key {key}")),
            (Self::Prompt, Credential::Certificate(pem)) => {
                self.tell(&format!("let the device {endpoint} come with this certificate:\n{pem}"))
            }
            (Self::Prompt, Credential::Anyone) => self.tell(&format!("let the device {endpoint} come")),
        }
    }

    /// What the server says of a device; `None` when it is not registered, and the outer one when nobody can tell.
    pub(crate) fn shown(&self, endpoint: &str) -> Option<Option<Shown>> {
        let of = |json: &Json, pointer: &str| json.pointer(pointer).cloned();
        let number =
            |json: Option<Json>| json.and_then(|json| json.as_u64()).and_then(|n| u32::try_from(n).ok());
        let text = |json: Option<Json>| json.and_then(|json| json.as_str().map(str::to_owned));
        let flag = |json: Option<Json>| json.and_then(|json| json.as_bool());
        match self {
            Self::Ours(rest) => {
                let body = rest.send("GET", &format!("/api/v1/devices/{endpoint}"), None).unwrap_or_default();
                let registration =
                    body.pointer("/registration").filter(|registration| registration.is_object());
                Some(registration.map(|registration| Shown {
                    lifetime: number(of(registration, "/lifetime")),
                    version: text(of(registration, "/version")),
                    is_queued: flag(of(registration, "/queue")),
                    is_awake: flag(of(registration, "/awake")),
                }))
            }
            Self::Leshan(rest) => {
                let body = rest.send("GET", &format!("/api/clients/{endpoint}"), None).ok();
                Some(body.filter(Json::is_object).map(|body| Shown {
                    lifetime: number(of(&body, "/lifetime")),
                    version: text(of(&body, "/lwM2mVersion")),
                    is_queued: flag(of(&body, "/queuemode")),
                    is_awake: flag(of(&body, "/sleeping")).map(|is_asleep| !is_asleep),
                }))
            }
            Self::Prompt => None,
        }
    }

    /// Makes the server forget a registration without a word.
    pub(crate) fn forget(&self, endpoint: &str) -> Result<(), Failure> {
        match self {
            Self::Ours(rest) => rest.send("DELETE", &format!("/api/v1/devices/{endpoint}"), None).map(drop),
            Self::Leshan(_) => Err(Failure::Cannot("Leshan's interface forgets no registration".to_owned())),
            Self::Prompt => self.tell(&format!("make the server forget {endpoint}")),
        }
    }

    /// Makes the server forget an observation, so that it answers the next notification with a Reset.
    pub(crate) fn forget_observation(&self, endpoint: &str, paths: &[Path]) -> Result<(), Failure> {
        match (self, paths) {
            (Self::Ours(_), _) => {
                Err(Failure::Cannot("the interface of lwm2m-server asks a device that listens".to_owned()))
            }
            (Self::Leshan(rest), [path]) => {
                rest.send("DELETE", &format!("/api/clients/{endpoint}{path}/observe"), None).map(drop)
            }
            (Self::Leshan(_), _) => Err(Failure::Cannot("one place at a time".to_owned())),
            (Self::Prompt, _) => {
                self.tell(&format!("answer the next notification of {} with a Reset", joined(paths)))
            }
        }
    }

    /// Makes the server end an observation by asking with Observe 1.
    pub(crate) fn cancel(&self, endpoint: &str, paths: &[Path]) -> Result<(), Failure> {
        match self {
            Self::Ours(rest) => {
                let at = format!("/api/v1/devices/{endpoint}/observations");
                let listed = rest.send("GET", &at, None)?;
                let places: Vec<String> = paths.iter().map(Path::to_string).collect();
                let is_meant = |row: &&Json| match row.pointer("/paths").and_then(Json::as_array) {
                    Some(paths) => {
                        paths.iter().filter_map(Json::as_str).eq(places.iter().map(String::as_str))
                    }
                    None => row.pointer("/path").and_then(Json::as_str) == places.first().map(String::as_str),
                };
                let rows =
                    listed.as_array().or_else(|| listed.pointer("/observations").and_then(Json::as_array));
                let row = rows.into_iter().flatten().find(is_meant);
                let id = row.and_then(|row| row.pointer("/id")).and_then(Json::as_u64);
                let id =
                    id.ok_or_else(|| Failure::Refused(format!("no observation of {}", joined(paths))))?;
                rest.send("DELETE", &format!("{at}?id={id}"), None).map(drop)
            }
            Self::Leshan(rest) => {
                let at = match paths {
                    [path] => format!("{path}/observe?active"),
                    _ => format!("/composite/observe?paths={}&active", joined(paths)),
                };
                rest.send("DELETE", &format!("/api/clients/{endpoint}{at}"), None).map(drop)
            }
            Self::Prompt => {
                self.tell(&format!("cancel the observation of {} by asking with Observe 1", joined(paths)))
            }
        }
    }

    /// Makes the server ask an operation; what it says of the answer.
    pub(crate) fn ask(&self, endpoint: &str, operation: &Operation) -> Result<Json, Failure> {
        match self {
            Self::Ours(rest) => {
                let (method, path, body) = ours(operation)?;
                let answer = rest.send(method, &format!("/api/v1/devices/{endpoint}{path}"), body.as_ref());
                answer.map_err(|failure| failure.overtaken_if("Interrupted"))
            }
            Self::Leshan(rest) => super::leshan::ask(rest, endpoint, operation),
            Self::Prompt => self.tell(&format!("{endpoint}: {}", in_words(operation))).map(|()| Json::Null),
        }
    }

    fn tell(&self, what: &str) -> Result<(), Failure> {
        let mut line = String::new();
        let mut terminal = std::io::stderr().lock();
        let told =
            writeln!(terminal, "operator: {what}; then press Enter (or type 'no' if the server cannot)");
        let read = told.and_then(|()| std::io::stdin().read_line(&mut line));
        match read {
            Ok(1..) if !line.trim().eq_ignore_ascii_case("no") => Ok(()),
            _ => Err(Failure::Cannot("the operator says that the server cannot".to_owned())),
        }
    }
}

/// An operation in words, for a person.
fn in_words(operation: &Operation) -> String {
    let format = |format: &Option<u16>| match format {
        Some(Operation::ANY_FORMAT) => " without Accept".to_owned(),
        Some(format) => format!(" in content format {format}"),
        None => String::new(),
    };
    let told = |values: &[(Path, Value)]| {
        let values = values.iter().map(|(path, value)| format!("{path}={}", values::emit(value).1));
        values.collect::<Vec<_>>().join(" ")
    };
    match operation {
        Operation::Read { path, format: wanted } => format!("read {path}{}", format(wanted)),
        Operation::Write { path, mode, values, format: wanted } => {
            let verb = if *mode == WriteMode::Replace { "write (PUT)" } else { "update (POST)" };
            format!("{verb} {path}: {}{}", told(values), format(wanted))
        }
        Operation::Execute { path, .. } => format!("execute {path}"),
        Operation::Create { object, instance, values } => {
            let values = values.iter().map(|(id, _, value)| format!("{id}={}", values::emit(value).1));
            let values = values.collect::<Vec<_>>().join(" ");
            format!("create /{object}/{}: {values}", instance.map(|id| id.to_string()).unwrap_or_default())
        }
        Operation::Delete { path } => format!("delete {path}"),
        Operation::Discover { path, .. } => format!("discover {path}"),
        Operation::WriteAttributes { path, attributes } => {
            format!("write the attributes {attributes} of {path}")
        }
        Operation::Observe { path, .. } => format!("observe {path}"),
        Operation::ReadComposite { paths, .. } => format!("read {} at once", joined(paths)),
        Operation::ObserveComposite { paths, .. } => format!("observe {} at once", joined(paths)),
        Operation::WriteComposite { values } => format!("write at once {}", told(values)),
        _ => "nothing".to_owned(),
    }
}

/// Method, path and body of the interface of `lwm2m-server`.
fn ours(operation: &Operation) -> Result<(&'static str, String, Option<Json>), Failure> {
    let query = |format: &Option<u16>| format.map(|format| format!("?format={format}")).unwrap_or_default();
    Ok(match operation {
        Operation::Read { path, format } => ("GET", format!("/objects{path}{}", query(format)), None),
        Operation::Write { path, mode, values, format } => {
            let format = format.map(|format| format!("&format={format}")).unwrap_or_default();
            let is_replace = *mode == WriteMode::Replace;
            ("PUT", format!("/objects{path}?replace={is_replace}{format}"), Some(body(*path, values)))
        }
        Operation::Execute { path, .. } => ("POST", format!("/objects{path}"), None),
        Operation::Create { object, instance, values } => {
            let at = Path::instance(*object, 0);
            let values: Vec<(Path, Value)> = values
                .iter()
                .filter_map(|(id, several, value)| {
                    let path = at.child(*id)?;
                    Some((several.map_or(Some(path), |one| path.child(one))?, value.clone()))
                })
                .collect();
            let mut created = body(at, &values);
            if let (Some(members), Some(instance)) = (created.as_object_mut(), instance) {
                members.insert("instance".to_owned(), json!(instance));
            }
            ("POST", format!("/objects/{object}"), Some(created))
        }
        Operation::Delete { path } => ("DELETE", format!("/objects{path}"), None),
        Operation::Discover { path, .. } => ("GET", format!("/discover{path}"), None),
        Operation::WriteAttributes { path, attributes } => {
            let each = attributes.split('&').filter_map(|pair| pair.split_once('='));
            let number = |text: &str| serde_json::from_str::<Json>(text).unwrap_or_else(|_| json!(text));
            let body: Map<String, Json> = each.map(|(name, text)| (name.to_owned(), number(text))).collect();
            ("PUT", format!("/attributes{path}"), Some(Json::Object(body)))
        }
        Operation::Observe { path, .. } => {
            ("POST", "/observations".to_owned(), Some(json!({ "path": path.to_string() })))
        }
        Operation::ReadComposite { paths, .. } => {
            ("GET", format!("/composite?paths={}", joined(paths)), None)
        }
        Operation::ObserveComposite { paths, .. } => {
            let paths: Vec<String> = paths.iter().map(Path::to_string).collect();
            ("POST", "/composite".to_owned(), Some(json!({ "paths": paths })))
        }
        Operation::WriteComposite { values } => {
            let values = values.iter().map(|(path, value)| (path.to_string(), typed(value)));
            ("PUT", "/composite".to_owned(), Some(json!({ "values": values.collect::<Map<_, _>>() })))
        }
        _ => return Err(Failure::Cannot("the interface has no such operation".to_owned())),
    })
}

/// The body of a Write to a path.
fn body(path: Path, values: &[(Path, Value)]) -> Json {
    match path.ids().len() {
        2 => {
            let mut resources = Map::new();
            for (at, value) in values {
                let Some(id) = at.resource_id() else { continue };
                let resource = resources.entry(id.to_string()).or_insert_with(|| json!({}));
                match at.resource_instance_id() {
                    None => *resource = typed(value),
                    Some(one) => {
                        let several = resource.as_object_mut().map(|resource| {
                            resource.entry("values").or_insert_with(|| json!({})).as_object_mut()
                        });
                        if let Some(Some(several)) = several {
                            several.insert(one.to_string(), typed(value));
                        }
                    }
                }
            }
            json!({ "resources": resources })
        }
        3 if values.iter().any(|(at, _)| at.resource_instance_id().is_some()) => {
            let several = values
                .iter()
                .filter_map(|(at, value)| Some((at.resource_instance_id()?.to_string(), typed(value))));
            json!({ "values": several.collect::<Map<_, _>>() })
        }
        _ => values.first().map(|(_, value)| typed(value)).unwrap_or_default(),
    }
}

fn typed(value: &Value) -> Json {
    let (kind, value) = values::emit(value);
    json!({ "type": kind, "value": value })
}

/// The values that our server tells of.
pub(crate) fn told(answer: &Json) -> Vec<(Path, Value)> {
    let rows = answer.pointer("/values").and_then(Json::as_array);
    let value = |row: &Json| {
        let path = row.get("path")?.as_str()?.parse().ok()?;
        let value = row.get("value")?;
        let value = match row.get("type")?.as_str()? {
            "string" => Value::String(value.as_str()?.to_owned()),
            "integer" => Value::Integer(value.as_i64()?),
            "unsigned" => Value::Unsigned(value.as_u64()?),
            "float" => Value::Float(value.as_f64()?),
            "boolean" => Value::Boolean(value.as_bool()?),
            "time" => Value::Time(value.as_i64()?),
            "opaque" => Value::Opaque(hex::decode(value.as_str()?).ok()?),
            _ => return None,
        };
        Some((path, value))
    };
    rows.into_iter().flatten().filter_map(value).collect()
}

pub(crate) fn joined(paths: &[Path]) -> String {
    paths.iter().map(Path::to_string).collect::<Vec<_>>().join(",")
}
