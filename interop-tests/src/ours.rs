//! Our own programs as an operator starts them: `lwm2m-client`, and `lwm2m-server serve` with its REST API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use crate::account::{Psk, Security};
use crate::process::{PATIENCE, Process, free_port, local};

/// Returns the path of one of our programs, built with the profile of the running test.
///
/// `cargo test --workspace` has built it already; for a single package it is built here when a source is newer.
pub fn binary(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "deps"))
        .and_then(Path::parent)
        .unwrap_or_else(|| test.parent().unwrap_or(Path::new(".")));
    let binary = profile.join(name);
    let built = modified(&binary);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["coap", "objects", "oscore", "dtls-psk", "lwm2m-client", "lwm2m-server"];
    let newest = folders.iter().filter_map(|folder| newest(&root.join(folder).join("src"))).max();
    if built.is_none() || built < newest {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", package, "--bin", name]);
        command.current_dir(&root).env("CARGO_TARGET_DIR", profile.parent().unwrap_or(profile));
        if profile.ends_with("release") {
            command.arg("--release");
        }
        let built = command.status();
        assert!(built.is_ok_and(|status| status.success()), "{name} does not build");
    }
    binary
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().ok()?.modified().ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            if path.is_dir() { newest(&path) } else { modified(&path) }
        })
        .max()
}

/// Our command-line client.
#[derive(Debug)]
pub struct Client {
    /// The process, for its log and to interrupt it.
    pub process: Process,
    /// Kept for its drop: the files with its keys.
    _keys: Option<TempDir>,
}

impl Client {
    /// Starts a device that registers at `uri`, with a lifetime of 300 seconds.
    pub fn start(endpoint: &str, uri: &str, psk: Option<Psk<'_>>) -> Self {
        Self::run(endpoint, uri, psk, &["--lifetime", "300"])
    }

    /// Starts a device that asks `uri` for its accounts first.
    pub fn bootstrap(endpoint: &str, uri: &str, psk: Option<Psk<'_>>) -> Self {
        Self::run(endpoint, uri, psk, &["--bootstrap"])
    }

    /// Starts a device with further arguments.
    pub fn run(endpoint: &str, uri: &str, psk: Option<Psk<'_>>, arguments: &[&str]) -> Self {
        Self::run_as(endpoint, uri, &psk.into(), arguments)
    }

    /// Starts a device in any mode of security.
    pub fn run_as(endpoint: &str, uri: &str, security: &Security<'_>, arguments: &[&str]) -> Self {
        let keys = tempfile::tempdir().expect("a temporary folder can be made");
        let credential = security.arguments(keys.path());
        let arguments: Vec<_> =
            arguments.iter().copied().chain(credential.iter().map(String::as_str)).collect();
        Self { _keys: Some(keys), ..Self::run_with(endpoint, uri, &arguments, &[]) }
    }

    /// Starts a device with all its arguments, and variables of its environment.
    pub fn run_with(endpoint: &str, uri: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary("lwm2m-client", "lwm2m-client"));
        command.args(["--endpoint", endpoint, "--server", uri]).args(arguments);
        command.env("NO_COLOR", "1").envs(environment.iter().copied());
        Self { process: Process::spawn("lwm2m-client", command), _keys: None }
    }
}

/// Our server, as `lwm2m-server serve` starts it, with an empty data folder.
#[derive(Debug)]
pub struct Server {
    /// The process, for its log.
    pub process: Process,
    ports: [u16; 4],
    http: String,
    agent: Agent,
    token: String,
    events: Receiver<String>,
    seen: Vec<String>,
    arguments: Arguments,
    data: TempDir,
    kept: Vec<TempDir>,
}

/// What a server is started with.
#[derive(Debug)]
struct Arguments {
    flags: Vec<String>,
    environment: Vec<[String; 2]>,
}

impl Server {
    /// Starts it and waits until it answers.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same with variables of its environment.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let ports = [(); 4].map(|()| free_port());
        let http = local(free_port()).to_string();
        let arguments = Arguments {
            flags: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| [name, value].map(|s| (*s).to_owned()))
                .collect(),
        };
        let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(PATIENCE));
        let agent = Agent::new_with_config(config.build());
        let process = serve(&agent, ports, &http, data.path(), &arguments);
        let token =
            std::fs::read_to_string(data.path().join("admin.token")).expect("made at the first start");
        let token = format!("Bearer {}", token.trim());
        let events = follow(&agent, &http, &token);
        Self {
            process,
            ports,
            http,
            agent,
            token,
            events,
            seen: Vec::new(),
            arguments,
            data,
            kept: Vec::new(),
        }
    }

    /// Keeps a folder that it reads, for as long as it is there.
    pub fn keep(&mut self, folder: TempDir) {
        self.kept.push(folder);
    }

    /// Starts it again with the same data and ports: after a planned stop, or after `kill -9`.
    pub fn restart(&mut self, is_planned: bool) {
        if is_planned {
            self.process.interrupt();
            assert_eq!(self.process.wait_for_exit(), Some(0), "{}", self.process.log());
        } else {
            self.process.kill();
        }
        self.process = serve(&self.agent, self.ports, &self.http, self.data.path(), &self.arguments);
        self.events = follow(&self.agent, &self.http, &self.token);
    }

    /// Lets it listen for management over DTLS at another port from its next start on, and returns the address it had.
    pub fn move_secure(&mut self) -> SocketAddr {
        local(core::mem::replace(&mut self.ports[1], free_port()))
    }

    /// Returns how often something happened in this run, by the metrics.
    pub fn counted(&self, counter: &str) -> u64 {
        let metrics = self.must("GET", "/metrics", &Value::Null);
        let mut lines = metrics.as_str().expect("metrics are text").lines();
        let name = format!("lwm2m_{counter}_total ");
        let count = lines.find_map(|line| line.strip_prefix(&name)?.parse().ok());
        count.unwrap_or_else(|| unreachable!("no counter {counter}"))
    }

    /// Returns the URI of the management port without security.
    pub fn uri(&self) -> String {
        format!("coap://{}", local(self.ports[0]))
    }

    /// Returns the URI of the management port with DTLS.
    pub fn secure_uri(&self) -> String {
        format!("coaps://{}", local(self.ports[1]))
    }

    /// Returns the URI of the bootstrap port without security.
    pub fn bootstrap_uri(&self) -> String {
        format!("coap://{}", local(self.ports[2]))
    }

    /// Returns the URI of the bootstrap port with DTLS.
    pub fn secure_bootstrap_uri(&self) -> String {
        format!("coaps://{}", local(self.ports[3]))
    }

    /// Returns the base URL of the REST API, and the administrator's token.
    pub fn api(&self) -> (String, &str) {
        (format!("http://{}", self.http), self.token.trim_start_matches("Bearer "))
    }

    /// Sends a request to the REST API: `path` is below `/api/v1`, `body` is `Null` for none. Returns status and body.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let uri = format!("http://{}/api/v1{path}", self.http);
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(uri)
            .header("Authorization", &self.token)
            .header("Content-Type", "application/json")
            .body(bytes)
            .expect("a well-formed request");
        let mut response = self.agent.run(request).expect("the server answers");
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (response.status().as_u16(), body)
    }

    /// Sends a request that must succeed and returns the body of the answer.
    pub fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Reads a path of a device until the device answers.
    pub fn until_read(&self, endpoint: &str, path: &str) -> Value {
        let began = Instant::now();
        loop {
            let (status, answer) =
                self.ask("GET", &format!("/devices/{endpoint}/objects/{path}"), &Value::Null);
            if status == 200 {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{status} {answer}\n{}", self.process.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for an event in whose data all of `texts` occur, and returns that data.
    pub fn wait_for(&mut self, texts: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let line = self.events.recv_timeout(left).ok();
            let seen = self.seen.join("\n");
            let line = line
                .unwrap_or_else(|| unreachable!("no event {texts:?} among\n{seen}\n{}", self.process.log()));
            self.seen.push(line.clone());
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
    }
}

/// Starts the process and waits until it answers.
fn serve(agent: &Agent, ports: [u16; 4], http: &str, data: &Path, arguments: &Arguments) -> Process {
    let [coap, coaps, bootstrap_coap, bootstrap_coaps] = ports.map(|port| local(port).to_string());
    let mut command = Command::new(binary("lwm2m-server", "lwm2m-server"));
    command.args(["serve", "--coap", &coap, "--coaps", &coaps, "--bootstrap-coap", &bootstrap_coap]);
    command.args(["--bootstrap-coaps", &bootstrap_coaps, "--http", http, "--data"]);
    command.arg(data).args(&arguments.flags).env("NO_COLOR", "1");
    command.envs(arguments.environment.iter().map(|[name, value]| (name, value)));
    let mut process = Process::spawn("lwm2m-server", command);
    let began = Instant::now();
    while agent.get(format!("http://{http}/api/v1/health")).call().is_err() {
        assert!(began.elapsed() < PATIENCE && !process.has_ended(), "no answer:\n{}", process.log());
        process.line_within(Duration::from_millis(50));
    }
    process
}

/// Follows the event stream: one line for each event, `name data`.
fn follow(agent: &Agent, http: &str, token: &str) -> Receiver<String> {
    let (sender, lines) = channel();
    let response = agent
        .get(format!("http://{http}/api/v1/events"))
        .header("Authorization", token)
        .call()
        .expect("the event stream opens");
    thread::spawn(move || {
        let mut name = String::new();
        for line in BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok) {
            if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data:")
                && sender.send(format!("{name} {}", data.trim())).is_err()
            {
                return;
            }
        }
    });
    lines
}
