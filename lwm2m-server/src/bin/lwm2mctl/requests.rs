//! Requests to devices, which may sleep: at once, queued, or waited for.

use serde_json::{Value, json};

use super::http::{Answered, Api, escape};
use super::run::{Out, rows};
use super::show::{line, table, text, time};
use super::{Arguments, Failure};

/// How requests are asked.
pub(crate) struct Manner {
    /// What the server is told of it.
    pub(crate) query: String,
    /// Whether the outcome of what is queued is waited for.
    pub(crate) wait: bool,
}

impl Manner {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let mut query = Vec::new();
        if let Some(timeout) = arguments.timeout {
            query.push(format!("timeout={timeout}"));
        }
        if let Some(queue) = &arguments.queue {
            query.push(format!("queue={queue}"));
        }
        if let Some(priority) = &arguments.priority {
            query.push(format!("priority={}", escape(priority)));
        }
        if let Some(expires) = arguments.expires {
            query.push(format!("expires={expires}"));
        }
        Self { query: query.join("&"), wait: arguments.wait }
    }

    /// Asks a device. `None` for what was queued, and told as such.
    pub(crate) fn ask(
        &self,
        api: &Api,
        out: &Out,
        endpoint: &str,
        (method, route, body): (&str, &str, Option<&Value>),
    ) -> Result<Option<Value>, Failure> {
        match api.ask(method, route, body)? {
            Answered::Now(answer) => Ok(Some(answer)),
            Answered::Queued(id) if self.wait => outcome(&wait(api, endpoint, id)?).map(Some),
            Answered::Queued(id) => {
                out.show(&json!({ "id": id }), |_| {
                    line(&format!(
                        "{endpoint} sleeps: queued as {id}; see lwm2mctl requests {endpoint} {id}"
                    ));
                })?;
                Ok(None)
            }
        }
    }

    /// Lists the requests of a device, shows one, or waits for it.
    pub(crate) fn show(&self, api: &Api, out: &Out, endpoint: &str, id: Option<u64>) -> Result<(), Failure> {
        match id {
            None => out.show(&api.get(&format!("/devices/{}/requests", escape(endpoint)))?, list),
            Some(id) if self.wait => out.show(&wait(api, endpoint, id)?, one),
            Some(id) => out.show(&api.get(&route(endpoint, id))?, one),
        }
    }
}

pub(crate) fn route(endpoint: &str, id: u64) -> String {
    format!("/devices/{}/requests/{id}", escape(endpoint))
}

/// A request once it has ended.
fn wait(api: &Api, endpoint: &str, id: u64) -> Result<Value, Failure> {
    // Listening first: it may end at once.
    let events = api.listen(&format!("/events?endpoint={}", escape(endpoint)), None)?;
    let ended = || {
        let request = api.get(&route(endpoint, id))?;
        let is_open = matches!(request.get("state").and_then(Value::as_str), Some("queued" | "sent"));
        Ok((!is_open).then_some(request))
    };
    let mut found = ended();
    if let Ok(None) = found {
        events.each(|name, _, body| {
            let is_meant = name.starts_with("request-") && body.get("id") == Some(&json!(id));
            if is_meant || name == "lost" {
                found = ended();
            }
            matches!(found, Ok(None))
        })?;
    }
    found?.ok_or_else(|| Failure::Refused(format!("request {id} has not ended")))
}

/// What a device answered, or why there is no answer.
fn outcome(request: &Value) -> Result<Value, Failure> {
    if request.get("state") == Some(&json!("done")) {
        return Ok(request.pointer("/outcome/answer").cloned().unwrap_or_default());
    }
    let reason = match request.get("state").and_then(Value::as_str) {
        Some("unknown") => "no answer came: the device may have executed it".to_owned(),
        _ => text(request, "/outcome/reason"),
    };
    Err(Failure::Refused(format!("request {} {}: {reason}", text(request, "/id"), text(request, "/state"))))
}

/// What became of a request that was taken out.
pub(crate) fn cancelled(endpoint: &str, request: &Value) {
    let (id, state) = (text(request, "/id"), text(request, "/state"));
    let why = if state == "unknown" { ": it left before, and the device may have executed it" } else { "" };
    line(&format!("{endpoint} request {id} {state}{why}"));
}

fn list(answer: &Value) {
    let rows = rows(answer, "/requests", |request| {
        vec![
            text(request, "/id"),
            text(request, "/state"),
            operation(request),
            text(request, "/path"),
            text(request, "/priority"),
            text(request, "/attempts"),
            time(request, "/queued_at_ms"),
            time(request, "/expires_at_ms"),
            time(request, "/ended_at_ms"),
        ]
    });
    table(&["ID", "STATE", "OPERATION", "PATH", "PRIORITY", "SENT", "QUEUED", "EXPIRES", "ENDED"], &rows);
}

fn operation(request: &Value) -> String {
    match text(request, "/operation").as_str() {
        "-" if request.get("damaged") == Some(&Value::Bool(true)) => "(does not open)".to_owned(),
        operation => operation.to_owned(),
    }
}

fn one(request: &Value) {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("id", text(request, "/id")),
        row("state", text(request, "/state")),
        row("operation", operation(request)),
        row("path", text(request, "/path")),
        row("priority", text(request, "/priority")),
        row("times sent", text(request, "/attempts")),
        row("queued", time(request, "/queued_at_ms")),
        row("expires", time(request, "/expires_at_ms")),
        row("ended", time(request, "/ended_at_ms")),
        row("code", text(request, "/outcome/code")),
        row("reason", text(request, "/outcome/reason")),
        row("answer", text(request, "/outcome/answer")),
    ];
    table(&["", ""], &rows);
}
