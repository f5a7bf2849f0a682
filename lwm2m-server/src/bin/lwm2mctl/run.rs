//! What each command asks and how its answer is shown.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::{Map, Value, json};

use super::composite::composite;
use super::http::{Api, escape};
use super::requests::{self, Manner};
use super::show::{line, table, text, time};
use super::{
    Arguments, Command, Credentials, Failure, Page, bootstrap, campaigns, check, credentials::credentials,
    groups, models, observe, tokens,
};

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // What needs no server.
    match &arguments.command {
        Command::Credentials(Credentials::Check(files)) => return check::check(files, arguments.json),
        Command::Completion { shell } => return completion(*shell),
        _ => {}
    }
    let manner = Manner::new(&arguments);
    let url = arguments
        .url
        .or_else(|| std::env::var("LWM2M_URL").ok())
        .unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let token = arguments.token.or_else(|| std::env::var("LWM2M_TOKEN").ok()).ok_or_else(|| {
        Failure::Arguments(
            "no token: pass --token TOKEN or --token @FILE, or set LWM2M_TOKEN; the first one is in admin.token in the \
             server's data folder"
                .to_owned(),
        )
    })?;
    let api = Api::new(&url, &from_file("--token", token)?)?;
    let out = Out { json: arguments.json };
    let route = |endpoint: &str, what, path: &str| route(endpoint, what, path, &manner.query);
    let ask = |endpoint: &str, method: &str, route: &str, body: Option<&Value>, people: &dyn Fn(&Value)| {
        match manner.ask(&api, &out, endpoint, (method, route, body))? {
            Some(answer) => out.show(&answer, people),
            None => Ok(()),
        }
    };
    let done = |endpoint: &str, method: &str, route: &str, body: Option<&Value>, what: &str| match manner
        .ask(&api, &out, endpoint, (method, route, body))?
    {
        Some(_) => out.done(what),
        None => Ok(()),
    };
    match arguments.command {
        Command::Devices { endpoint: None, filter, .. } => devices(&api, &out, filter.as_deref()),
        Command::Devices { endpoint: Some(endpoint), forget: true, .. } => {
            api.delete(&format!("/devices/{}", escape(&endpoint)))?;
            out.done(&format!("{endpoint}: registration forgotten"))
        }
        Command::Devices { endpoint: Some(endpoint), .. } => {
            out.show(&api.get(&format!("/devices/{}", escape(&endpoint)))?, one_device)
        }
        Command::Read { endpoint, path, format } => {
            let format = format.map_or_else(String::new, |format| format!("&format={}", escape(&format)));
            ask(&endpoint, "GET", &format!("{}{format}", route(&endpoint, "objects", &path)?), None, &values)
        }
        Command::Write { endpoint, path, values, kind, replace } => {
            let body = write_body(&path, &values, kind.as_deref())?;
            let query = replace.map_or_else(String::new, |replace| format!("&replace={replace}"));
            let route = format!("{}{query}", route(&endpoint, "objects", &path)?);
            done(&endpoint, "PUT", &route, Some(&body), &format!("{endpoint} {path} written"))
        }
        Command::Execute { endpoint, path, arguments } => {
            let body = json!({ "arguments": arguments });
            let people = |_: &Value| line(&format!("{endpoint} {path} executed"));
            ask(&endpoint, "POST", &route(&endpoint, "objects", &path)?, Some(&body), &people)
        }
        Command::Create { endpoint, path, instance, values, kind } => {
            let body = json!({ "instance": instance, "resources": resources(&values, kind.as_deref())? });
            let people = |answer: &Value| line(&format!("{endpoint} {} created", text(answer, "/path")));
            ask(&endpoint, "POST", &route(&endpoint, "objects", &path)?, Some(&body), &people)
        }
        Command::Delete { endpoint, path } => {
            let route = route(&endpoint, "objects", &path)?;
            done(&endpoint, "DELETE", &route, None, &format!("{endpoint} {path} deleted"))
        }
        Command::Discover { endpoint, path, depth } => {
            let query = depth.map_or_else(String::new, |depth| format!("&depth={depth}"));
            ask(&endpoint, "GET", &format!("{}{query}", route(&endpoint, "discover", &path)?), None, &links)
        }
        Command::Observe { endpoint, cancel: Some(id), .. } => {
            let timeout = arguments.timeout.map_or_else(String::new, |timeout| format!("&timeout={timeout}"));
            api.delete(&format!("/devices/{}/observations?id={id}{timeout}", escape(&endpoint)))?;
            out.done(&format!("{endpoint} observation {id} ended"))
        }
        Command::Observe { endpoint, path: None, .. } => observe::list(&api, &out, &endpoint),
        Command::Observe { endpoint, path: Some(path), how, .. } => {
            observe::observe(&api, &out, &manner, &endpoint, json!({ "path": path }), &how)
        }
        Command::Attributes { endpoint, path, attributes } => {
            let mut body = Map::new();
            for each in &attributes {
                let (name, value) = match each.split_once('=').filter(|(_, value)| !value.is_empty()) {
                    Some(_) => attribute(each)?,
                    None => (each.trim_end_matches('=').to_owned(), Value::Null),
                };
                body.insert(name, value);
            }
            let route = route(&endpoint, "attributes", &path)?;
            let what = format!("{endpoint} {path} attributes set");
            done(&endpoint, "PUT", &route, Some(&Value::Object(body)), &what)
        }
        Command::Requests { endpoint, id: Some(id), cancel: true } => {
            api.delete(&requests::route(&endpoint, id))?;
            let request = api.get(&requests::route(&endpoint, id))?;
            out.show(&request, |request| requests::cancelled(&endpoint, request))
        }
        Command::Requests { endpoint, id, .. } => manner.show(&api, &out, &endpoint, id),
        Command::Composite(command) => composite(&api, &out, &manner, command),
        Command::Models(command) => models::models(&api, &out, command),
        Command::Bootstrap(command) => bootstrap::bootstrap(&api, &out, command),
        Command::Credentials(command) => credentials(&api, &out, command),
        Command::Campaigns(command) => campaigns::campaigns(&api, &out, command),
        Command::Groups(command) => groups::groups(&api, &out, command),
        Command::Tokens(command) => tokens::tokens(&api, &out, command),
        Command::Trace { endpoint } => {
            api.listen(&format!("/devices/{}/trace", escape(&endpoint)), None)?.each(|name, number, body| {
                if out.json || name != "packet" {
                    out.event(name, number, body);
                } else {
                    packet(body);
                }
                true
            })
        }
        Command::Completion { shell } => completion(shell),
        Command::Events { endpoint, behind } => {
            let query =
                endpoint.map_or_else(String::new, |endpoint| format!("?endpoint={}", escape(&endpoint)));
            api.listen(&format!("/events{query}"), behind.as_deref())?.each(|name, number, body| {
                out.event(name, number, body);
                true
            })
        }
        Command::Audit { endpoint, page } => {
            let only =
                endpoint.map_or_else(String::new, |endpoint| format!("&endpoint={}", escape(&endpoint)));
            out.show(&api.get(&format!("/audit?{}{only}", query(&page)))?, audit)
        }
    }
}

fn completion(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lwm2mctl", &mut script);
    line(&String::from_utf8_lossy(&script));
    Ok(())
}

/// Where results go.
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    #[expect(clippy::unnecessary_wraps, reason = "ends a command")]
    pub(crate) fn show(&self, answer: &Value, people: impl FnOnce(&Value)) -> Result<(), Failure> {
        if self.json {
            line(&answer.to_string());
        } else {
            people(answer);
        }
        Ok(())
    }

    pub(crate) fn done(&self, what: &str) -> Result<(), Failure> {
        self.show(&json!({ "done": true }), |_| line(what))
    }

    fn event(&self, name: &str, number: &str, body: &Value) {
        if self.json {
            let number = Some(number).filter(|number| !number.is_empty());
            line(&format!("{}", json!({ "event": name, "id": number, "data": body })));
            return;
        }
        let mut rest = body.clone();
        let endpoint = text(body, "/endpoint");
        if let Some(rest) = rest.as_object_mut() {
            rest.remove("endpoint");
        }
        let words: Vec<String> = rest
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| format!("{key}={}", text(&rest, &format!("/{key}"))))
            .collect();
        line(&format!("{name}  {endpoint}  {}", words.join("  ")));
    }
}

/// NAME=NUMBER.
pub(crate) fn attribute(text: &str) -> Result<(String, Value), Failure> {
    let number = |value| serde_json::from_str(value).ok().filter(Value::is_number);
    let found = text.split_once('=').and_then(|(name, value)| Some((name.to_owned(), number(value)?)));
    found.ok_or_else(|| Failure::Arguments(format!("'{text}' is not NAME=NUMBER as in pmin=10")))
}

/// Every page of a list.
pub(crate) fn pages(api: &Api, route: &str, of: &str) -> Result<Vec<Value>, Failure> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{route}limit=1000{cursor}"))?;
        all.extend(page.get(of).and_then(Value::as_array).into_iter().flatten().cloned());
        cursor = match page.get("next") {
            Some(Value::String(next)) => format!("&cursor={}", escape(next)),
            Some(Value::Number(next)) => format!("&cursor={next}"),
            _ => return Ok(all),
        };
    }
}

fn devices(api: &Api, out: &Out, filter: Option<&str>) -> Result<(), Failure> {
    let filter = filter.map_or_else(String::new, |filter| format!("q={}&", escape(filter)));
    let all = pages(api, &format!("/devices?{filter}"), "devices")?;
    out.show(&json!({ "devices": all }), |answer| {
        let rows = rows(answer, "/devices", |device| {
            let state = match text(device, "/credentials/hold").as_str() {
                "-" => text(device, "/credentials/management"),
                hold => hold.to_owned(),
            };
            vec![
                text(device, "/endpoint"),
                if device.get("registered") == Some(&Value::Bool(true)) { "yes" } else { "no" }.to_owned(),
                text(device, "/registration/address"),
                text(device, "/registration/version"),
                time(device, "/registration/last_heard_ms"),
                state,
            ]
        });
        table(&["ENDPOINT", "REGISTERED", "ADDRESS", "LWM2M", "LAST HEARD", "CREDENTIAL"], &rows);
    })
}

fn one_device(device: &Value) {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("endpoint", text(device, "/endpoint")),
        row("registered", text(device, "/registered")),
        row("address", text(device, "/registration/address")),
        row("secure", text(device, "/registration/secure")),
        row("credential generation", text(device, "/registration/generation")),
        row("version", text(device, "/registration/version")),
        row("lifetime", text(device, "/registration/lifetime")),
        row("binding", text(device, "/registration/binding")),
        row("queue mode", text(device, "/registration/queue")),
        row("awake", text(device, "/registration/awake")),
        row("objects", text(device, "/registration/objects")),
        row("registered at", time(device, "/registration/registered_at_ms")),
        row("last heard", time(device, "/registration/last_heard_ms")),
        row("bootstrap account", text(device, "/credentials/bootstrap")),
        row("management account", text(device, "/credentials/management")),
        row("hold", text(device, "/credentials/hold")),
    ];
    table(&["", ""], &rows);
}

pub(crate) fn values(answer: &Value) {
    let rows =
        rows(answer, "/values", |each| vec![text(each, "/path"), text(each, "/type"), text(each, "/value")]);
    table(&["PATH", "TYPE", "VALUE"], &rows);
}

fn links(answer: &Value) {
    let rows = rows(answer, "/links", |link| {
        let attributes: Vec<String> = link
            .get("attributes")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                value.as_str().map_or_else(|| name.clone(), |value| format!("{name}={value}"))
            })
            .collect();
        vec![text(link, "/target"), attributes.join(" ")]
    });
    table(&["TARGET", "ATTRIBUTES"], &rows);
}

pub(crate) fn audit(answer: &Value) {
    let rows = rows(answer, "/rows", |row| {
        vec![
            text(row, "/seq"),
            time(row, "/time_ms"),
            text(row, "/actor"),
            text(row, "/endpoint"),
            text(row, "/role"),
            text(row, "/generation"),
            text(row, "/what"),
            text(row, "/detail"),
        ]
    });
    table(&["SEQ", "TIME", "ACTOR", "ENDPOINT", "ROLE", "GENERATION", "WHAT", "DETAIL"], &rows);
}

/// One message in a line: when, whence, what, what it means, the options that are no part of the URI, and what it carries.
fn packet(body: &Value) {
    let mut uri = String::new();
    let mut rest = String::new();
    for option in body.get("options").and_then(Value::as_array).into_iter().flatten() {
        let value = text(option, "/value");
        match option.get("name").and_then(Value::as_str) {
            Some("Uri-Path") => uri.push_str(&format!("/{value}")),
            Some("Uri-Query") => {
                uri.push(if uri.contains('?') { '&' } else { '?' });
                uri.push_str(&value);
            }
            Some(name) => rest.push_str(&format!("  {name}={value}")),
            None => rest.push_str(&format!("  {}={value}", text(option, "/number"))),
        }
    }
    let arrow = if body.get("direction") == Some(&json!("to device")) { "->" } else { "<-" };
    let mut payload = match (body.get("payload"), body.get("withheld")) {
        (Some(Value::String(payload)), _) => format!("  {payload}"),
        (_, Some(_)) => "  (withheld)".to_owned(),
        _ => String::new(),
    };
    for item in body.get("values").and_then(Value::as_array).into_iter().flatten() {
        let value = item.get("value").map_or_else(|| "(withheld)".to_owned(), Value::to_string);
        payload.push_str(&format!("  {}={value}", text(item, "/path")));
    }
    for path in body.get("paths").and_then(Value::as_array).into_iter().flatten() {
        payload.push_str(&format!("  {}", text(path, "")));
    }
    // The path of a request is its URI.
    let path = if uri.is_empty() { body.get("path").and_then(Value::as_str) } else { None };
    let meaning = match (body.get("operation").and_then(Value::as_str), path) {
        (Some(operation), Some(path)) => format!("  {operation} {path}"),
        (Some(operation), None) => format!("  {operation}"),
        _ => String::new(),
    };
    line(&format!(
        "{}  {arrow} {} {}  {}{}{meaning}  id={} token={}{rest}{payload}",
        time(body, "/at_ms"),
        text(body, "/role"),
        text(body, "/type"),
        text(body, "/code"),
        if uri.is_empty() { uri } else { format!(" {uri}") },
        text(body, "/id"),
        text(body, "/token"),
    ));
}

/// One row for each element of an array.
pub(crate) fn rows(answer: &Value, pointer: &str, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    answer.pointer(pointer).and_then(Value::as_array).into_iter().flatten().map(row).collect()
}

fn route(endpoint: &str, what: &str, path: &str, query: &str) -> Result<String, Failure> {
    let is_path = path.starts_with('/')
        && path.len() > 1
        && path.split('/').skip(1).all(|id| id.parse::<u16>().is_ok());
    if !is_path {
        return Err(Failure::Arguments(format!("'{path}' is no path: ids after slashes as in /3303/0/5700")));
    }
    Ok(format!("/devices/{}/{what}{path}?{query}", escape(endpoint)))
}

pub(crate) fn query(page: &Page) -> String {
    let after = page.after.map_or_else(String::new, |after| format!("after={after}&"));
    format!("{after}limit={}", page.limit)
}

pub(crate) fn write_body(path: &str, values: &[String], kind: Option<&str>) -> Result<Value, Failure> {
    if path.split('/').filter(|id| !id.is_empty()).count() == 2 {
        return Ok(json!({ "resources": resources(values, kind)? }));
    }
    match values {
        [one] => value(one, kind),
        _ => Err(Failure::Arguments(format!("{path} takes one value; ID=VALUE pairs belong to an instance"))),
    }
}

fn resources(values: &[String], kind: Option<&str>) -> Result<Value, Failure> {
    let mut body = Map::new();
    for each in values {
        let (id, text) = each
            .split_once('=')
            .filter(|(id, _)| id.parse::<u16>().is_ok())
            .ok_or_else(|| Failure::Arguments(format!("'{each}' is not ID=VALUE")))?;
        body.insert(id.to_owned(), value(text, kind)?);
    }
    Ok(Value::Object(body))
}

/// A value as JSON: by its type if one is named, else a number, true or false when it looks like one, else a string.
pub(crate) fn value(text: &str, kind: Option<&str>) -> Result<Value, Failure> {
    let scalar =
        || serde_json::from_str::<Value>(text).ok().filter(|value| value.is_number() || value.is_boolean());
    match kind {
        None => Ok(scalar().unwrap_or_else(|| json!(text))),
        Some(kind @ ("integer" | "unsigned" | "time" | "boolean")) => scalar()
            .map(|value| json!({ "type": kind, "value": value }))
            .ok_or_else(|| Failure::Arguments(format!("'{text}' is not of type {kind}"))),
        Some("float") => Ok(json!({ "type": "float", "value": scalar().unwrap_or_else(|| json!(text)) })),
        Some(kind) => Ok(json!({ "type": kind, "value": text })),
    }
}

/// The text itself, or what a file holds when it is `@FILE`.
pub(crate) fn from_file(what: &str, text: String) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        None => Ok(text),
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| Failure::Arguments(format!("{what}: cannot read {path}: {error}"))),
    }
}
