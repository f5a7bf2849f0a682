//! The load generator against our server: every device registers, works and leaves, and the numbers add up.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Command, Output, Stdio};

use interop_tests::ours::Server;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

const DEVICES: usize = 300;

fn load(server: &Server, address: &str, arguments: &[&str]) -> Output {
    let (url, token) = server.api();
    Command::new(env!("CARGO_BIN_EXE_lwm2m-load"))
        .args([address, "--devices", &DEVICES.to_string(), "--threads", "2", "--seconds", "3", "--observe"])
        .args(["--notifications", "100", "--url", &url])
        .args(arguments)
        .env("LWM2M_TOKEN", token)
        .output()
        .expect("the load generator starts")
}

/// The number that follows `what` at the beginning of a line.
#[expect(clippy::panic, reason = "the text that was expected otherwise is worth seeing")]
fn number(text: &str, what: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    let digits = line.and_then(|line| line.trim().split(|c: char| !c.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {what} in\n{text}"))
}

fn check(server: &Server, output: &Output, updates: usize) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(errors, "", "{text}");
    assert_eq!(number(&text, "registrations"), DEVICES);
    assert_eq!(number(&text, "de-registered"), DEVICES);
    let done = number(&text, "updates");
    assert!(done >= updates, "{text}");
    assert!(number(&text, "notifications") > 0, "{text}");
    for part in ["p50", "p90", "p99", "p99.9", "worst", "errors         none"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let (_, metrics) = server.ask("GET", "/metrics", &Value::Null);
    let metrics = metrics.as_str().unwrap_or_default();
    let counted = |name: &str| number(metrics, &format!("lwm2m_{name}_total"));
    assert_eq!(counted("registered"), DEVICES);
    assert_eq!(counted("updated"), done, "what devices counted is what the server did");
}

#[test]
fn devices_without_security_register_work_and_leave() {
    let server = Server::start(&["--allow-nosec"]);
    let address = server.uri();
    let output = load(&server, address.trim_start_matches("coap://"), &["--at-once", "16"]);
    check(&server, &output, 100);
}

#[test]
fn enrolled_devices_work_over_dtls_at_the_rate_that_was_asked() {
    let server = Server::start(&[]);
    let address = server.secure_uri();
    let key = "000102030405060708090a0b0c0d0e0f";
    let arguments = ["--enrol", "--psk-key", key, "--arrivals", "200", "--updates", "50"];
    let output = load(&server, address.trim_start_matches("coaps://"), &arguments);
    check(&server, &output, 100);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(number(&text, "updates") <= 155, "50 in a second for 3 seconds:\n{text}");
}

#[test]
fn a_server_that_refuses_everybody_fails_the_run_with_the_reason() {
    let server = Server::start(&[]);
    let address = server.uri();
    let output = load(&server, address.trim_start_matches("coap://"), &["--patience", "2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("errors") && text.contains("4.03"), "{text}");
}

/// What is read from a terminal, and what a program has of it.
fn terminal() -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&screen).and_then(|()| unlockpt(&screen)).expect("it may be opened");
    let name = ptsname(&screen, Vec::new()).expect("it has a name").into_string().expect("in ASCII");
    let program = OpenOptions::new().read(true).write(true).open(name).expect("it opens");
    (screen.into(), program)
}

#[test]
fn a_terminal_shows_how_far_each_phase_is() {
    let server = Server::start(&["--allow-nosec"]);
    let address = server.uri();
    let (mut screen, program) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwm2m-load"));
    command.args([
        address.trim_start_matches("coap://"),
        "--devices",
        "300",
        "--arrivals",
        "300",
        "--seconds",
        "2",
    ]);
    let mut child = command
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(program)
        .spawn()
        .expect("the load generator starts");
    // Only the program has the terminal now: its end is that of the file.
    drop(command);
    let (mut shown, mut some) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = screen.read(&mut some) {
        shown.extend_from_slice(some.get(..count).expect("what was read"));
    }
    assert!(child.wait().expect("it ends").success());
    let shown = String::from_utf8_lossy(&shown);
    let positions = |phase: &str, length: usize| -> Vec<usize> {
        let (phase, length) = (format!("{phase} "), format!("/{length} "));
        let lines =
            shown.split('\r').filter_map(|line| line.trim_start_matches("\x1b[2K").strip_prefix(&phase));
        lines.filter_map(|line| line.split_once(&length)?.0.rsplit(' ').next()?.parse().ok()).collect()
    };
    for (phase, length) in [("registering", DEVICES), ("working, seconds", 2), ("de-registering", DEVICES)] {
        let positions = positions(phase, length);
        assert!(
            positions.is_sorted() && positions.iter().all(|position| *position <= length),
            "{phase}: {shown:?}"
        );
        assert!(!positions.is_empty(), "{phase}: {shown:?}");
    }
    let between = |position: &usize| (1..DEVICES).contains(position);
    assert!(positions("registering", DEVICES).iter().any(between), "the bar moves: {shown:?}");
}
