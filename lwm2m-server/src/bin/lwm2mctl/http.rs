//! Requests to the server, and its refusals in words.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;
use ureq::{Agent, Body};

use super::Failure;

/// The longest a request may take; the server's own limit is below.
const TIMEOUT: Duration = Duration::from_secs(620);

/// A server and the token that opens it.
pub(crate) struct Api {
    agent: Agent,
    url: String,
    authorization: String,
}

/// What came of a request to a device.
pub(crate) enum Answered {
    /// It answered.
    Now(Value),
    /// It sleeps, and the request waits under this id.
    Queued(u64),
}

impl Api {
    pub(crate) fn new(url: &str, token: &str) -> Result<Self, Failure> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::Arguments(format!("--url: '{url}' is not http://HOST:PORT or https://…")));
        }
        let config = Agent::config_builder().http_status_as_error(false).build();
        Ok(Self {
            agent: config.into(),
            url: format!("{}/api/v1", url.trim_end_matches('/')),
            authorization: format!("Bearer {token}"),
        })
    }

    pub(crate) fn get(&self, route: &str) -> Result<Value, Failure> {
        self.call("GET", route, None)
    }

    pub(crate) fn delete(&self, route: &str) -> Result<Value, Failure> {
        self.call("DELETE", route, None)
    }

    pub(crate) fn post(&self, route: &str, body: &Value) -> Result<Value, Failure> {
        self.call("POST", route, Some(body))
    }

    pub(crate) fn post_xml(&self, route: &str, xml: Vec<u8>) -> Result<Value, Failure> {
        self.answered(self.send("POST", route, None, Some(("application/xml", xml)), Some(TIMEOUT))?)
            .map(|(_, answer)| answer)
    }

    pub(crate) fn put(&self, route: &str, body: &Value) -> Result<Value, Failure> {
        self.call("PUT", route, Some(body))
    }

    /// Opens a stream of server-sent events: what happens from now on, or behind an event.
    pub(crate) fn listen(&self, route: &str, behind: Option<&str>) -> Result<Events, Failure> {
        let header = behind.map(|event| ("last-event-id", event));
        Ok(Events(self.send("GET", route, header, None, None)?.into_body()))
    }

    /// Asks a device something: the answer, or the id of what is queued.
    pub(crate) fn ask(&self, method: &str, route: &str, body: Option<&Value>) -> Result<Answered, Failure> {
        let (status, answer) = self.call_for_status(method, route, body)?;
        match answer.get("id").and_then(Value::as_u64).filter(|_| status == 202) {
            Some(id) => Ok(Answered::Queued(id)),
            None => Ok(Answered::Now(answer)),
        }
    }

    fn call(&self, method: &str, route: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.call_for_status(method, route, body).map(|(_, answer)| answer)
    }

    fn call_for_status(
        &self,
        method: &str,
        route: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Failure> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.answered(self.send(method, route, None, body, Some(TIMEOUT))?)
    }

    fn answered(&self, mut response: ureq::http::Response<Body>) -> Result<(u16, Value), Failure> {
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| Failure::Refused(format!("the answer of {} broke off: {error}", self.url)))?;
        if text.is_empty() {
            return Ok((status, Value::Null));
        }
        serde_json::from_str(&text).map(|answer| (status, answer)).map_err(|_| {
            Failure::Refused(format!("{} does not answer JSON: is --url an lwm2m-server?", self.url))
        })
    }

    fn send(
        &self,
        method: &str,
        route: &str,
        header: Option<(&str, &str)>,
        body: Option<(&str, Vec<u8>)>,
        timeout: Option<Duration>,
    ) -> Result<ureq::http::Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{route}", self.url))
            .header("authorization", &self.authorization);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let unusable = |error: ureq::http::Error| Failure::Arguments(format!("--url or --token: {error}"));
        let sent = match body {
            Some((kind, body)) => {
                let request = request.header("content-type", kind).body(body).map_err(unusable)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(timeout).build())
            }
            None => {
                let request = request.body(()).map_err(unusable)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(timeout).build())
            }
        };
        let mut response = sent.map_err(|error| {
            Failure::Refused(format!(
                "{} cannot be reached ({error}): is the server running, and is --url right?",
                self.url
            ))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let detail = problem.get("detail").and_then(Value::as_str);
        let title = problem.get("title").and_then(Value::as_str).unwrap_or("refused");
        let what = match (status, detail) {
            (401, detail) => format!(
                "the token is not valid{}: pass --token or set LWM2M_TOKEN; the first one is in admin.token in the server's \
                 data folder",
                detail.map_or_else(String::new, |detail| format!(" ({detail})"))
            ),
            (_, Some(detail)) => format!("{title}: {detail}"),
            (_, None) => {
                format!("{} answered {status} without a reason: is --url an lwm2m-server?", self.url)
            }
        };
        Err(if matches!(status, 400 | 422) { Failure::Arguments(what) } else { Failure::Refused(what) })
    }
}

/// An open stream of server-sent events.
pub(crate) struct Events(Body);

impl Events {
    /// Calls `each` with name, number and body of every event until it says stop or the stream ends.
    pub(crate) fn each(self, mut each: impl FnMut(&str, &str, &Value) -> bool) -> Result<(), Failure> {
        let (mut name, mut last) = (String::new(), String::new());
        let behind = |last: &str| match last {
            "" => String::new(),
            last => format!("; lwm2mctl events --behind {last} goes on"),
        };
        for line in BufReader::new(self.0.into_reader()).lines() {
            let line = line.map_err(|error| {
                Failure::Refused(format!("the event stream broke off: {error}{}", behind(&last)))
            })?;
            if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut name);
            } else if let Some(number) = line.strip_prefix("id:") {
                number.trim().clone_into(&mut last);
            } else if let Some(data) = line.strip_prefix("data:") {
                let body = serde_json::from_str(data.trim()).unwrap_or(Value::Null);
                if !each(&name, &last, &body) {
                    return Ok(());
                }
            }
        }
        Err(Failure::Refused(format!(
            "the server ended the event stream: it is stopping, or the token is good no more{}",
            behind(&last)
        )))
    }
}

/// A path segment or query value with everything but unreserved characters escaped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}
