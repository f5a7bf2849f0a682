//! The client under test: a command line with placeholders, started for each case and ended with all its children.
//!
//! Invariant: nothing of a case outlives it, also when the command is a script that starts other programs.

use core::fmt;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::case::Enabler;

/// A command line with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    words: Vec<String>,
}

/// What the placeholders stand for in one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// `{uri}`: the management server.
    pub uri: String,
    /// `{bootstrap-uri}`: the bootstrap server.
    pub bootstrap_uri: String,
    /// `{endpoint}`: the endpoint client name.
    pub endpoint: String,
    /// `{identity}`: the PSK identity.
    pub identity: String,
    /// `{key}`: the pre-shared key in hexadecimal.
    pub key: String,
    /// `{lifetime}`: the lifetime in seconds.
    pub lifetime: u32,
    /// `{lwm2m}`: the enabler version.
    pub version: Enabler,
    /// `{binding}`: U, or UQ in queue mode.
    pub binding: &'static str,
    /// `{certificate}`, `{private-key}` and `{trust}`: files with the device's certificate and private key, and the certificate of
    /// the authority of the server's, in PEM; empty where the case is about none.
    pub files: [String; 3],
    /// `{oscore-secret}`, `{oscore-sender}` and `{oscore-recipient}`: Master Secret, Sender ID and Recipient ID of the client in
    /// hexadecimal; empty where the case is not about OSCORE.
    pub oscore: [String; 3],
}

/// Why a text is no command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// There is no word in it.
    Empty,
    /// A quote is not closed.
    Quote,
    /// A placeholder that does not exist.
    Placeholder(String),
    /// It names neither server, so that the client could not find one.
    NoServer,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the command is empty"),
            Self::Quote => f.write_str("a quote is not closed"),
            Self::Placeholder(name) => {
                write!(f, "there is no placeholder {name}; there are {}", PLACEHOLDERS.join(" "))
            }
            Self::NoServer => f.write_str("the command needs {uri} or {bootstrap-uri}"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// The placeholders there are.
pub const PLACEHOLDERS: [&str; 14] = [
    "{uri}",
    "{bootstrap-uri}",
    "{endpoint}",
    "{identity}",
    "{key}",
    "{lifetime}",
    "{lwm2m}",
    "{binding}",
    "{certificate}",
    "{private-key}",
    "{trust}",
    "{oscore-secret}",
    "{oscore-sender}",
    "{oscore-recipient}",
];

impl Template {
    /// Reads a command line. Words are separated by spaces; single or double quotes keep words together. No shell sees it.
    ///
    /// # Errors
    /// [`TemplateError`]
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let words = split(text)?;
        if words.is_empty() {
            return Err(TemplateError::Empty);
        }
        let template = Self { words };
        for name in template.placeholders() {
            if !PLACEHOLDERS.contains(&name.as_str()) {
                return Err(TemplateError::Placeholder(name));
            }
        }
        if !template.has("{uri}") && !template.has("{bootstrap-uri}") {
            return Err(TemplateError::NoServer);
        }
        Ok(template)
    }

    /// Whether a placeholder is used.
    #[must_use]
    pub fn has(&self, placeholder: &str) -> bool {
        self.words.iter().any(|word| word.contains(placeholder))
    }

    /// Whether the client has a server account, a bootstrap account, certificates, and an OSCORE context.
    pub(crate) fn kind(&self) -> [bool; 4] {
        ["{uri}", "{bootstrap-uri}", "{certificate}", "{oscore-secret}"]
            .map(|placeholder| self.has(placeholder))
    }

    /// What the client has, in words.
    #[must_use]
    pub fn told(&self) -> String {
        let [is_server, is_bootstrap, is_certified, is_protected] = self.kind();
        let accounts = match (is_server, is_bootstrap) {
            (true, true) => "both accounts",
            (true, false) => "a server account",
            (false, _) => "a bootstrap account",
        };
        let certificates = if is_certified { " and certificates" } else { "" };
        let context = if is_protected { " and an OSCORE context" } else { "" };
        format!("{accounts}{certificates}{context}")
    }

    /// Starts the client in a process group of its own.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(&self, values: &Values) -> io::Result<Subject> {
        let mut words = self.words.iter().map(|word| values.fill(word));
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .process_group(0)
            // Kept open: some programs end when their input does.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = Lines::default();
        if let Some(output) = child.stdout.take() {
            follow(output, lines.clone());
        }
        if let Some(errors) = child.stderr.take() {
            follow(errors, lines.clone());
        }
        Ok(Subject { child, lines })
    }

    fn placeholders(&self) -> Vec<String> {
        let mut found = Vec::new();
        for word in &self.words {
            let mut rest = word.as_str();
            while let Some((_, after)) = rest.split_once('{') {
                let Some((name, after)) = after.split_once('}') else { break };
                found.push(format!("{{{name}}}"));
                rest = after;
            }
        }
        found
    }
}

impl Values {
    fn fill(&self, word: &str) -> String {
        let [certificate, private_key, trust] = &self.files;
        let [secret, sender, recipient] = &self.oscore;
        word.replace("{uri}", &self.uri)
            .replace("{bootstrap-uri}", &self.bootstrap_uri)
            .replace("{endpoint}", &self.endpoint)
            .replace("{identity}", &self.identity)
            .replace("{key}", &self.key)
            .replace("{lifetime}", &self.lifetime.to_string())
            .replace("{lwm2m}", &self.version.to_string())
            .replace("{binding}", self.binding)
            .replace("{certificate}", certificate)
            .replace("{private-key}", private_key)
            .replace("{trust}", trust)
            .replace("{oscore-secret}", secret)
            .replace("{oscore-sender}", sender)
            .replace("{oscore-recipient}", recipient)
    }

    /// What the client printed, without its keys.
    pub(crate) fn without_keys(&self, line: &str) -> String {
        let [secret, ..] = &self.oscore;
        let keys = [&self.key, secret].into_iter().filter(|key| !key.is_empty());
        keys.fold(line.to_owned(), |line, key| line.replace(key.as_str(), "(key)"))
    }
}

/// A running client; dropping it ends the whole process group.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    lines: Lines,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// Lines kept of what a client prints.
const KEPT: usize = 20;
/// How long a client may take to end by itself.
const FAREWELL: Duration = Duration::from_millis(500);

impl Subject {
    /// Returns the last lines it printed.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns how it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    fn signal(&self, name: &str) {
        // The group may be gone already. Signals need `kill`: there is no safe call in the standard library.
        let _ = Command::new("kill")
            .args([name, "--", &format!("-{}", self.child.id())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        while began.elapsed() < FAREWELL && self.ended().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        self.signal("-KILL");
        let _ = self.child.wait();
    }
}

fn follow(output: impl Read + Send + 'static, lines: Lines) {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() >= KEPT {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
}

/// Splits at spaces outside of quotes.
fn split(text: &str) -> Result<Vec<String>, TemplateError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(TemplateError::Quote) } else { Ok(words) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            uri: "coaps://127.0.0.1:1".to_owned(),
            bootstrap_uri: "coaps://127.0.0.1:2".to_owned(),
            endpoint: "a device".to_owned(),
            identity: "id".to_owned(),
            key: "00ff".to_owned(),
            lifetime: 60,
            version: Enabler::V1_1,
            binding: "U",
            files: ["c", "k", "t"].map(str::to_owned),
            oscore: ["aa", "01", "02"].map(str::to_owned),
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            split("a 'b c'  \"d'e\" f''g ''"),
            Ok(["a", "b c", "d'e", "fg", ""].map(str::to_owned).to_vec())
        );
        assert_eq!(split("a 'b"), Err(TemplateError::Quote));
    }

    #[test]
    fn a_command_that_cannot_work_is_refused() {
        assert_eq!(Template::parse("  "), Err(TemplateError::Empty));
        assert_eq!(Template::parse("client {url}"), Err(TemplateError::Placeholder("{url}".to_owned())));
        assert_eq!(Template::parse("client {endpoint}"), Err(TemplateError::NoServer));
        assert!(Template::parse("client {").is_err());
        assert!(Template::parse("client {bootstrap-uri}").is_ok());
    }

    #[test]
    fn placeholders_are_filled_within_words_and_spaces_in_values_do_not_split() {
        let template = Template::parse("echo -s {uri} --name={endpoint},{lifetime} {key} {lwm2m}{binding} {certificate}{private-key}{trust}").unwrap();
        let mut subject = template.start(&values()).unwrap();
        while subject.ended().is_none() || subject.log().is_empty() {
            thread::yield_now();
        }
        assert_eq!(subject.log(), ["-s coaps://127.0.0.1:1 --name=a device,60 00ff 1.1U ckt"]);
    }

    #[test]
    fn a_script_ends_with_what_it_started() {
        let template = Template::parse("sh -c 'sleep 1000 & echo $!; wait' {uri}").unwrap();
        let subject = template.start(&values()).unwrap();
        let child = loop {
            if let Some(line) = subject.log().first() {
                break line.clone();
            }
            thread::yield_now();
        };
        drop(subject);
        let is_alive =
            || Command::new("kill").args(["-0", &child]).stderr(Stdio::null()).status().unwrap().success();
        // An orphan is reaped by init a moment later.
        let began = Instant::now();
        while is_alive() && began.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        // Without an init that reaps, a dead process stays as a zombie.
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(!is_alive() || state.contains(" Z "), "{state}");
    }
}
