//! Foreign programs as children: started with a fresh working directory, read line by line, killed when dropped.
//!
//! A test waits for a condition in what the program prints, never for time to pass; the limit only ends a broken run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a test waits for a line before it counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Kept for its drop: some peers write files where they run.
    _folder: TempDir,
}

impl Process {
    /// Starts `command` in an empty working directory; standard output and standard error are read together.
    ///
    /// # Panics
    /// When the program cannot be started: the caller has found it before.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut child = command
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| unreachable!("{name} does not start: {error}"));
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            follow(output, sender.clone());
        }
        if let Some(errors) = child.stderr.take() {
            follow(errors, sender);
        }
        Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
            _folder: folder,
        }
    }

    /// Writes a line to the program's standard input.
    pub fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // In one piece: a peer that forwards what it reads would make two datagrams of two pieces.
            let written = input.write_all(format!("{line}\n").as_bytes()).and_then(|()| input.flush());
            assert!(written.is_ok(), "{} no longer reads its input:\n{}", self.name, self.log());
        }
    }

    /// Closes the program's standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits until a new line gives `found` a value and returns it. Lines before it are only kept for the log.
    ///
    /// # Panics
    /// When the program ends or [`PATIENCE`] is over before: with all it has printed.
    pub fn wait_for<T>(&mut self, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let ended = match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let value = found(&line);
                    self.seen.push(line);
                    if let Some(value) = value {
                        return value;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => "did not print it in time",
                Err(RecvTimeoutError::Disconnected) => "ended",
            };
            assert!(ended.is_empty(), "{} {ended}: {what}\n{}", self.name, self.log());
        }
    }

    /// Waits for a line that contains `text`.
    pub fn wait_for_text(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// Reads until the program has closed its output and returns everything it printed.
    pub fn wait_for_end(&mut self) -> String {
        self.input = None;
        let began = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            self.seen.push(line);
        }
        self.log()
    }

    /// Takes the next line that the program prints within `limit`.
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(limit).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Takes a line that the program has already printed, without waiting.
    pub fn try_line(&mut self) -> Option<String> {
        self.line_within(Duration::ZERO)
    }

    /// Asks the program to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends the program a signal, which is named without its SIG.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} has already ended", self.name);
    }

    /// Waits for the end and returns the exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        self.wait_for_end();
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// Ends the program at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "{} cannot be killed", self.name);
    }

    /// Returns whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Returns what was read from the program so far.
    pub fn log(&self) -> String {
        self.seen.join("\n")
    }

    /// Returns the id of the process, to send it a signal.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child may have ended by itself; there is nothing to do about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(50)) {
                self.seen.push(line);
            }
            eprintln!("--- {} printed:\n{}\n---", self.name, self.log());
        }
    }
}

/// Returns a port of loopback that is free for UDP and TCP, for programs that cannot be told to take any.
///
/// It lies below the ports that systems give out by themselves (32768 and up on Linux, 49152 on others), and no call of this
/// process returns it again: nothing else takes it before the program does.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    let is_free =
        |&port: &u16| UdpSocket::bind(local(port)).is_ok() && TcpListener::bind(local(port)).is_ok();
    (0..COUNT)
        .map(|_| begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|place| FIRST.checked_add(u16::try_from(place).ok()?))
        .find(is_free)
        .expect("loopback has a free port")
}

/// Returns a socket on loopback that gives up reading after [`PATIENCE`].
pub fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    socket
}

/// Returns an address of loopback.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn follow(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_read_written_and_ended() {
        let mut cat = Process::spawn("cat", Command::new("cat"));
        cat.say("one");
        cat.say("two");
        assert_eq!(cat.wait_for_text("two"), "two");
        assert_eq!(cat.log(), "one\ntwo");
        assert_eq!(cat.wait_for_end(), "one\ntwo");
    }

    #[test]
    fn each_child_runs_in_a_folder_of_its_own() {
        let mut one = Process::spawn("pwd", Command::new("pwd"));
        let mut other = Process::spawn("pwd", Command::new("pwd"));
        assert_ne!(one.wait_for_end(), other.wait_for_end());
    }
}
