//! The reference implementation as server, bootstrap server and client: the programs in `peers/leshan*`, driven by lines.
//!
//! The demonstration applications cannot be had as artifacts, so small programs on the same libraries stand in for them.

use std::process::Command;

use dtls_psk::Suite;
use tempfile::TempDir;

use crate::account::{Key, Psk, Security};
use crate::peers;
use crate::process::{Process, free_port, local};

/// The programs of `peers/leshan`, which run in a folder of their own, where Californium writes its settings.
#[derive(Debug)]
pub struct Programs {
    folder: TempDir,
    words: Vec<String>,
}

impl Programs {
    /// Finds them; `None` when Leshan is not installed.
    pub fn find() -> Option<Self> {
        let command = peers::leshan()?.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Some(Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), words })
    }

    /// The words of a command that starts one of them, to be followed by its arguments.
    pub fn words(&self, program: &str) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let mut words = vec!["env".to_owned(), "-C".to_owned(), folder];
        words.extend(self.words.iter().cloned());
        // A device in queue mode is taken for awake for five seconds, so that a case about it is short.
        words.extend(["-Dawake=5000", program].map(str::to_owned));
        words
    }

    /// Starts the server with its REST interface, and waits until it listens; returns it with the ports of HTTP, CoAP and CoAP
    /// over DTLS. It trusts any certificate of a device.
    pub fn serve(&self, own: &Key) -> (Process, [u16; 3]) {
        let words = self.words("Rest");
        let ports = [(); 3].map(|()| free_port());
        let mut command = Command::new(words.first().map_or("", String::as_str));
        command.args(words.iter().skip(1)).args(ports.map(|port| port.to_string())).arg(key(own, &[]));
        let mut process = Process::spawn("leshan", command);
        process.wait_for("ready", |line| (line == "ready").then_some(()));
        (process, ports)
    }
}

/// Leshan's LwM2M server.
#[derive(Debug)]
pub struct Server {
    /// The process, for its log.
    pub process: Process,
    /// Events that came while an answer was awaited.
    events: Vec<String>,
    coap: u16,
    coaps: u16,
}

impl Server {
    /// Starts it and waits until it listens; `None` when it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`Server::start`], with settings of Californium: `NAME=VALUE`.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        Self::run("", settings, &[])
    }

    /// As [`Server::start`], and takes a device in queue mode for awake for so many milliseconds after each message.
    pub fn start_for_sleepers(awake: u32) -> Option<Self> {
        Self::run("", &[], &[format!("-Dawake={awake}")])
    }

    /// As [`Server::start`], with a key for raw public keys and certificates, and the authority of those of devices.
    pub fn start_as(own: &Key, anchor: &[u8]) -> Option<Self> {
        Self::run(&key(own, anchor), &[], &[])
    }

    fn run(key: &str, settings: &[&str], java: &[String]) -> Option<Self> {
        let mut command = peers::leshan()?.command();
        command.args(java).arg("Server");
        let (process, coap, coaps) = start("leshan", command, key, settings);
        Some(Self { process, events: Vec::new(), coap, coaps })
    }

    /// Returns the URI of the port without security.
    pub fn uri(&self) -> String {
        format!("coap://{}", local(self.coap))
    }

    /// Returns the URI of the port with DTLS.
    pub fn secure_uri(&self) -> String {
        format!("coaps://{}", local(self.coaps))
    }

    /// Stores the credential of a device.
    pub fn add(&mut self, endpoint: &str, psk: Psk<'_>) {
        self.add_as(endpoint, &Security::Psk(psk));
    }

    /// The same in any mode of security.
    pub fn add_as(&mut self, endpoint: &str, security: &Security<'_>) {
        let stored = self.ask(&known(endpoint, security));
        assert_eq!(stored, "stored");
    }

    /// Sends a command and returns its answer: a code like `205` and the content as Leshan understood it.
    pub fn ask(&mut self, command: &str) -> String {
        self.process.say(command);
        let events = &mut self.events;
        self.process.wait_for(command, |line| {
            let answer = line.strip_prefix("answer ").map(str::to_owned);
            if answer.is_none() {
                events.push(line.to_owned());
            }
            answer
        })
    }

    /// Waits for an event that was not waited for before: a line that starts with `event`.
    pub fn wait_for(&mut self, event: &str) -> String {
        match self.events.iter().position(|line| line.starts_with(event)) {
            Some(index) => self.events.remove(index),
            None => wait_for(&mut self.process, event),
        }
    }
}

/// Leshan's bootstrap server.
#[derive(Debug)]
pub struct BootstrapServer {
    /// The process, for its log.
    pub process: Process,
    coap: u16,
    coaps: u16,
}

impl BootstrapServer {
    /// Starts it and waits until it listens; `None` when it is not installed.
    pub fn start() -> Option<Self> {
        Self::run("")
    }

    /// As [`Server::start_as`].
    pub fn start_as(own: &Key, anchor: &[u8]) -> Option<Self> {
        Self::run(&key(own, anchor))
    }

    fn run(key: &str) -> Option<Self> {
        let mut command = peers::leshan_bootstrap()?.command();
        command.arg("BootstrapServer");
        let (process, coap, coaps) = start("leshan-bootstrap", command, key, &[]);
        Some(Self { process, coap, coaps })
    }

    /// Returns the URI of the port without security.
    pub fn uri(&self) -> String {
        format!("coap://{}", local(self.coap))
    }

    /// Returns the URI of the port with DTLS.
    pub fn secure_uri(&self) -> String {
        format!("coaps://{}", local(self.coaps))
    }

    /// Stores the bootstrap credential of a device.
    pub fn add(&mut self, endpoint: &str, psk: Psk<'_>) {
        self.add_as(endpoint, &Security::Psk(psk));
    }

    /// The same in any mode of security.
    pub fn add_as(&mut self, endpoint: &str, security: &Security<'_>) {
        self.store(&known(endpoint, security));
    }

    /// Stores which management account a device is to get, written in `format` (`TLV`, `SENML_CBOR`, …).
    pub fn plan(&mut self, endpoint: &str, format: &str, uri: &str, psk: Option<Psk<'_>>) {
        self.plan_as(endpoint, format, uri, &psk.into());
    }

    /// The same in any mode of security.
    pub fn plan_as(&mut self, endpoint: &str, format: &str, uri: &str, security: &Security<'_>) {
        self.store(&format!("plan {endpoint} {format} {uri} 300 {}", security.word()));
    }

    /// As [`BootstrapServer::plan`], and the device is to offer this cipher suite alone.
    pub fn plan_under(&mut self, endpoint: &str, format: &str, uri: &str, psk: Psk<'_>, suite: Suite) {
        let (security, suite) = (Security::Psk(psk).word(), suite.code());
        self.store(&format!("plan {endpoint} {format} {uri} 300 {security} {suite:04x}"));
    }

    fn store(&mut self, command: &str) {
        self.process.say(command);
        self.process.wait_for_text("stored");
    }

    /// Waits for an event: a line that starts with `event`.
    pub fn wait_for(&mut self, event: &str) -> String {
        wait_for(&mut self.process, event)
    }
}

/// Leshan's client, a device with the objects 0, 1, 3, 4, 6, 16 and 3303.
#[derive(Debug)]
pub struct Client {
    /// The process: `temperature VALUE`, `update`, `resume` and `stop` are its commands.
    pub process: Process,
}

impl Client {
    /// Starts a device that registers at `uri` with a lifetime of 300 seconds; `None` when it is not installed.
    pub fn start(endpoint: &str, uri: &str, psk: Option<Psk<'_>>) -> Option<Self> {
        Self::start_with(endpoint, uri, psk, &[])
    }

    /// As [`Client::start`], with settings of Californium: `NAME=VALUE`.
    pub fn start_with(endpoint: &str, uri: &str, psk: Option<Psk<'_>>, settings: &[&str]) -> Option<Self> {
        Self::run(endpoint, uri, "server", &psk.into(), settings)
    }

    /// As [`Client::start`], in any mode of security.
    pub fn start_as(endpoint: &str, uri: &str, security: &Security<'_>) -> Option<Self> {
        Self::run(endpoint, uri, "server", security, &[])
    }

    /// As [`Client::start`], in queue mode and without security.
    pub fn start_in_queue_mode(endpoint: &str, uri: &str) -> Option<Self> {
        Self::run(endpoint, uri, "queue", &Security::None, &[])
    }

    /// Starts a device that asks `uri` for its accounts first; `None` when it is not installed.
    pub fn bootstrap(endpoint: &str, uri: &str, psk: Option<Psk<'_>>) -> Option<Self> {
        Self::bootstrap_as(endpoint, uri, &psk.into())
    }

    /// As [`Client::bootstrap`], in any mode of security.
    pub fn bootstrap_as(endpoint: &str, uri: &str, security: &Security<'_>) -> Option<Self> {
        Self::run(endpoint, uri, "bootstrap", security, &[])
    }

    /// Waits for an event: a line that starts with `event`.
    pub fn wait_for(&mut self, event: &str) -> String {
        wait_for(&mut self.process, event)
    }

    fn run(
        endpoint: &str,
        uri: &str,
        kind: &str,
        security: &Security<'_>,
        settings: &[&str],
    ) -> Option<Self> {
        let mut command = peers::leshan()?.command();
        command.arg("Client").args([endpoint, uri, "300", kind]);
        command.arg(security.word()).args(settings);
        Some(Self { process: Process::spawn("leshan client", command) })
    }
}

fn start(name: &str, mut command: Command, key: &str, settings: &[&str]) -> (Process, u16, u16) {
    let (coap, coaps) = (free_port(), free_port());
    command.args([coap, coaps].map(|port| port.to_string())).arg(key).args(settings);
    let mut process = Process::spawn(name, command);
    process.wait_for("ready", |line| (line == "ready").then_some(()));
    (process, coap, coaps)
}

/// What a server is started with.
fn key(own: &Key, anchor: &[u8]) -> String {
    [&own.private, &own.certificates.concat(), anchor].map(hex::encode).join(",")
}

/// The command that tells a server of a device.
fn known(endpoint: &str, security: &Security<'_>) -> String {
    match security {
        Security::None => unreachable!("without security there is nothing to tell"),
        Security::Psk(Psk { identity, key }) => format!("psk {endpoint} {identity} {key}"),
        Security::RawPublicKey { own, .. } => format!("rpk {endpoint} {}", hex::encode(&own.public)),
        Security::X509 { .. } => format!("x509 {endpoint}"),
    }
}

fn wait_for(process: &mut Process, event: &str) -> String {
    process.wait_for(event, |line| line.starts_with(event).then(|| line.to_owned()))
}
