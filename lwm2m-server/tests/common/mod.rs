//! Starts the server binary for tests: free ports, a folder of its own, killed when dropped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A running `lwm2m-server serve`.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) client: Client,
    pub(crate) addresses: HashMap<String, String>,
}

/// Calls the HTTP API of a server.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: String,
    pub(crate) token: String,
    agent: ureq::Agent,
}

/// The arguments that open every socket on a free port of loopback.
pub(crate) fn serve_arguments(data: &Path) -> Vec<String> {
    let any = "127.0.0.1:0";
    let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), data.display().to_string()];
    for listener in ["--coap", "--coaps", "--bootstrap-coap", "--bootstrap-coaps", "--http"] {
        arguments.extend([listener.to_owned(), any.to_owned()]);
    }
    arguments
}

/// A command for one of the binaries, without what the environment says about keys and tokens.
pub(crate) fn binary(path: &str) -> Command {
    let mut command = Command::new(path);
    command
        .env_remove("LWM2M_SECRETS_KEY")
        .env_remove("LWM2M_TOKEN")
        .env_remove("LWM2M_URL")
        .env("RUST_LOG", "warn");
    command
}

pub(crate) fn server(arguments: &[String]) -> Output {
    binary(env!("CARGO_BIN_EXE_lwm2m-server")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

impl Served {
    /// Starts the server on a data folder and waits until it listens.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &serve_arguments(data))
    }

    /// Starts it with everything in the log that can be logged, in a file.
    pub(crate) fn start_logging(data: &Path, log: std::fs::File) -> Self {
        let mut command = binary(env!("CARGO_BIN_EXE_lwm2m-server"));
        command.args(serve_arguments(data)).env("RUST_LOG", "trace").stderr(log);
        Self::spawn(data, &mut command)
    }

    /// Starts it on the addresses that it had before.
    pub(crate) fn start_again(data: &Path, addresses: &HashMap<String, String>) -> Self {
        let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), data.display().to_string()];
        for (name, address) in addresses {
            arguments.extend([format!("--{name}"), address.clone()]);
        }
        Self::start_with(data, &arguments)
    }

    /// Starts it with these arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[String]) -> Self {
        let mut command = binary(env!("CARGO_BIN_EXE_lwm2m-server"));
        Self::spawn(data, command.args(arguments).stderr(Stdio::inherit()))
    }

    /// The same where much goes wrong, as it should, which nobody wants to read.
    pub(crate) fn start_quietly(data: &Path, arguments: &[String]) -> Self {
        let mut command = binary(env!("CARGO_BIN_EXE_lwm2m-server"));
        Self::spawn(data, command.args(arguments).env("RUST_LOG", "error").stderr(Stdio::inherit()))
    }

    pub(crate) fn spawn(data: &Path, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut addresses = HashMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let mut words = line.split_whitespace().skip(1);
            if let (Some(name), Some(address)) = (words.next(), words.next()) {
                addresses.insert(name.to_owned(), address.to_owned());
                if name == "http" {
                    break;
                }
            }
        }
        let http = addresses.get("http").expect("the server starts and says where it listens").clone();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { child, client: Client { http, token, agent }, addresses }
    }

    pub(crate) fn call(&self, method: &str, route: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        self.client.call(method, route, body)
    }

    /// `lwm2mctl` against this server.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let Client { http, token, .. } = &self.client;
        binary(env!("CARGO_BIN_EXE_lwm2mctl"))
            .args(["--url", &format!("http://{http}"), "--token", token])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Client {
    /// The same with another token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// One request; `None` when the server went away before it answered.
    pub(crate) fn call(&self, method: &str, route: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let mut response = self.send(method, &format!("/api/v1{route}"), body)?;
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// The same by the whole path, with the whole answer.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<ureq::http::Response<ureq::Body>> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        // Empty, but of known length: what is refused before its end has come costs the connection.
        let body = body.map(Value::to_string).unwrap_or_default();
        self.agent.run(request.body(body).unwrap()).ok()
    }

    /// Reads the event stream until `is_so` holds, which is asked once at first and then after every event.
    pub(crate) fn until<T>(&self, what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
        let mut lines = self.stream("/events", std::time::Duration::from_secs(30));
        loop {
            if let Some(found) = is_so() {
                return found;
            }
            // An event is several lines; its data is the last one.
            let next = lines.find(|line| line.as_ref().map_or(true, |line| line.starts_with("data:")));
            next.and_then(Result::ok).unwrap_or_else(|| panic!("{what} did not come"));
        }
    }

    /// The lines of an event stream, for so long at most; what happens after this returned is in it.
    pub(crate) fn stream(
        &self,
        route: &str,
        limit: std::time::Duration,
    ) -> std::io::Lines<BufReader<impl std::io::Read + Send + 'static>> {
        let request = ureq::http::Request::builder()
            .uri(format!("http://{}/api/v1{route}", self.http))
            .header("authorization", format!("Bearer {}", self.token));
        let request =
            self.agent.configure_request(request.body(()).unwrap()).timeout_global(Some(limit)).build();
        BufReader::new(self.agent.run(request).unwrap().into_body().into_reader()).lines()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
