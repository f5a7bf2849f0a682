//! What the binaries say and how they exit: one clear line for each failure, 2 for bad arguments, 1 for the rest.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::{Served, binary, serve_arguments, server};

/// Exit code and the last line on standard error.
fn failed(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("lwm2m")).collect();
    assert_eq!(lines.len(), 1, "one line says what is wrong: {text}");
    (output.status.code(), lines.concat())
}

fn replaced(mut arguments: Vec<String>, flag: &str, value: &str) -> Vec<String> {
    let at = arguments.iter().position(|each| each == flag).unwrap();
    *arguments.iter_mut().skip(at).nth(1).unwrap() = value.to_owned();
    arguments
}

#[test]
fn bad_arguments_exit_2_with_the_reason() {
    for (arguments, reason) in [
        (&["serve", "--coap", "5683"][..], "'5683' is no address"),
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&["frobnicate"], "frobnicate"),
        (&["serve", "--server-uri", "http://x"], "server_uri"),
    ] {
        let output = server(&arguments.iter().map(|each| (*each).to_owned()).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
}

#[test]
fn an_unreadable_or_invalid_configuration_exits_1_and_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    let run = || {
        let mut arguments = serve_arguments(&folder.path().join("data"));
        arguments.extend(["--config".to_owned(), file.display().to_string()]);
        failed(&server(&arguments))
    };
    let (code, line) = run();
    assert_eq!(code, Some(1));
    assert!(line.contains("cannot read the configuration") && line.contains("server.toml"), "{line}");
    for (text, reason) in [
        ("allow_nosec = false\nport = 5683\n", "server.toml:2: "),
        ("[listen]\ncoap = 5683\n", "server.toml:2: "),
        ("allow_nosec = false\nallow_nosec = true\n", "server.toml:2: "),
        ("[bootstrap]\nshort_server_id = 65535\n", "short_server_id: 65535 is reserved"),
        ("\u{0}", "server.toml:1: "),
    ] {
        fs::write(&file, text).unwrap();
        let (code, line) = run();
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(reason), "{line}");
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    let (code, line) = run();
    assert_eq!(code, Some(1));
    assert!(line.contains("cannot read the configuration"), "{line}");
}

#[test]
fn a_data_folder_that_cannot_be_made_exits_1_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for data in [file.join("data"), file] {
        let (code, line) = failed(&server(&serve_arguments(&data)));
        assert_eq!(code, Some(1));
        assert!(line.contains(&data.display().to_string()), "{line}");
    }
}

#[test]
fn nobody_else_reads_what_the_server_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/data");
    Served::start(&data).kill();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_taken_port_exits_1_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let (code, line) = failed(&server(&replaced(serve_arguments(folder.path()), "--coaps", &address)));
    assert_eq!(code, Some(1));
    assert!(line.contains(&address), "{line}");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let (code, line) = failed(&server(&replaced(serve_arguments(folder.path()), "--http", &address)));
    assert_eq!(code, Some(1));
    assert!(line.contains(&address) && line.contains("--http"), "{line}");
}

#[test]
fn http_refuses_a_public_address_without_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let (code, line) = failed(&server(&replaced(serve_arguments(folder.path()), "--http", "0.0.0.0:0")));
    assert_eq!(code, Some(2));
    assert!(line.contains("--http-public"), "{line}");
}

#[test]
fn a_wrong_key_a_damaged_store_and_a_folder_in_use_exit_1_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let (code, line) = failed(&server(&serve_arguments(folder.path())));
    assert_eq!(code, Some(1));
    assert!(line.contains("in use by another server"), "{line}");
    served.kill();

    let key = folder.path().join("other.key");
    let with_key = || {
        let mut arguments = serve_arguments(folder.path());
        arguments.extend(["--secrets-key".to_owned(), key.display().to_string()]);
        failed(&server(&arguments))
    };
    let (code, line) = with_key();
    assert_eq!(code, Some(1));
    assert!(line.contains("other.key"), "{line}");
    fs::write(&key, "too short").unwrap();
    let (code, line) = with_key();
    assert_eq!(code, Some(1));
    assert!(line.contains("64 hex digits"), "{line}");
    fs::write(&key, "0f".repeat(32)).unwrap();
    let (code, line) = with_key();
    assert_eq!(code, Some(1));
    assert!(line.contains("does not open this store"), "{line}");

    for key in [&b"0f0f"[..], &[0xff; 64], b""] {
        let mut command = common::binary(env!("CARGO_BIN_EXE_lwm2m-server"));
        let key = std::ffi::OsStr::from_bytes(key);
        command.args(serve_arguments(folder.path())).env("LWM2M_SECRETS_KEY", key);
        let (code, line) = failed(&command.output().unwrap());
        assert_eq!(code, Some(1));
        assert!(line.contains("LWM2M_SECRETS_KEY") && line.contains("64 hex digits"), "{line}");
    }

    let store = folder.path().join("store.redb");
    let whole = fs::read(&store).unwrap();
    let mut muddled = whole.clone();
    for byte in muddled.iter_mut().skip(4096).step_by(7) {
        *byte ^= 0xff;
    }
    // A store that lost everything is damaged too: a new one in its place would hide the loss of every credential.
    for damaged in [&muddled[..], &whole[..whole.len() / 3], &whole[..100], b"no store", b""] {
        fs::write(&store, damaged).unwrap();
        let (code, line) = failed(&server(&serve_arguments(folder.path())));
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains("damaged") && line.contains("store.redb"), "{line}");
        assert_eq!(fs::read(&store).unwrap().len(), damaged.len(), "it is left for whoever may repair it");
    }
    fs::write(&store, &whole).unwrap();
    Served::start(folder.path()).kill();
}

#[test]
fn lwm2mctl_says_what_is_wrong_and_exits_with_the_right_code() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for (arguments, code, reason) in [
        (&["read", "nobody", "/3/0"][..], 1, "no such device is registered"),
        (&["read", "nobody", "3/0"], 2, "'3/0' is no path"),
        (&["--token", "wrong", "devices"], 1, "the token is not valid"),
        (&["--url", "localhost", "devices"], 2, "--url"),
        (&["--url", "http://127.0.0.1:1", "devices"], 1, "cannot be reached"),
        (&["credentials", "rotate", "nobody"], 1, "no such device"),
        (
            &["credentials", "put", "x", "--management-identity", "x", "--management-key", "00"],
            2,
            "decoded length is 1",
        ),
        (&["attributes", "x", "/3303/0", "pmin=ten"], 2, "NAME=NUMBER"),
        (&["frobnicate"], 2, "frobnicate"),
    ] {
        // The first --url and --token come from the bench; clap refuses a second one, so those cases use the last.
        let output = if arguments.first().is_some_and(|first| first.starts_with("--")) {
            let mut command = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"));
            if arguments.first() != Some(&"--url") {
                command.args(["--url", &format!("http://{}", served.client.http)]);
            }
            if arguments.first() != Some(&"--token") {
                command.args(["--token", &served.client.token]);
            }
            command.args(arguments).output().unwrap()
        } else {
            served.ctl(arguments)
        };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
    let put = served.ctl(&["credentials", "put", "a", "--bootstrap-generate", "--json"]);
    assert!(put.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    let key = answer.pointer("/created/0/key").and_then(serde_json::Value::as_str).unwrap();
    assert_eq!(key.len(), 32);
    let list = served.ctl(&["credentials", "list", "a", "--json"]);
    assert!(!String::from_utf8_lossy(&list.stdout).contains(key), "shown once, masked after");
    let table = String::from_utf8(served.ctl(&["devices"]).stdout).unwrap();
    assert!(table.starts_with("ENDPOINT") && table.contains("armed"), "{table}");
    for arguments in [&["audit"][..], &["credentials", "history", "a"], &["credentials", "revoke", "a"]] {
        let output = served.ctl(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stdout).contains(key));
    }
}

#[test]
fn sigterm_stops_the_server_with_exit_code_0() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut served = Served::start(folder.path());
        let pid = served.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(served.child.wait().unwrap().code(), Some(0), "{signal}");
        // What goes on in the next run; a start that fails leaves it there.
        let sessions = folder.path().join("sessions.sealed");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let (code, line) = failed(&server(&replaced(serve_arguments(folder.path()), "--coap", &address)));
        assert!(code == Some(1) && line.contains(&address), "{line}");
        assert!(sessions.exists());
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_its_time_at_once() {
    for (first, second) in [("-TERM", "-INT"), ("-INT", "-INT"), ("-TERM", "-TERM")] {
        let folder = tempfile::tempdir().unwrap();
        let mut served = Served::start(folder.path());
        let pid = served.child.id().to_string();
        let signal = |signal: &str| std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        // A planned stop leaves a request under way some seconds to end.
        let mut slow = TcpStream::connect(&served.client.http).unwrap();
        let token = &served.client.token;
        let head = "PUT /api/v1/devices/a/credentials HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100";
        write!(slow, "{head}\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\n\r\n")
            .unwrap();
        // It asks for the body: the request is under way.
        slow.read_exact(&mut [0; 12]).unwrap();
        assert!(signal(first).success());
        let began = Instant::now();
        while TcpStream::connect(&served.client.http).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(30), "{first}: it still takes connections");
            // Nothing tells when it stops to.
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(signal(second).success());
        assert_eq!(served.child.wait().unwrap().code(), Some(1), "{first} {second}");
        assert!(!folder.path().join("sessions.sealed").exists());
    }
}

#[test]
fn a_shell_reads_what_completes_the_commands_of_lwm2mctl() {
    let completion = |shell: &str| {
        let output = binary(env!("CARGO_BIN_EXE_lwm2mctl")).args(["completion", shell]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (is_done, script) = completion(shell);
        assert!(is_done && script.contains("credentials") && script.contains("behind"), "{shell}: {script}");
    }
    let mut bash = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(completion("bash").1.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert!(!completion("csh").0);
}

#[test]
fn only_health_answers_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path());
    served.client.token = "wrong".to_owned();
    for (route, status) in [("/health", "ok"), ("/health/ready", "ready")] {
        let answer = served.call("GET", route, None).unwrap();
        assert_eq!((answer.0, &answer.1["status"]), (200, &serde_json::json!(status)));
    }
    for route in ["/devices", "/audit", "/events", "/nothing", "/devices/a/credentials"] {
        assert_eq!(served.call("GET", route, None).unwrap().0, 401, "{route}");
    }
}

/// One request as it is written; status line and head, and the body.
fn raw(served: &Served, head: &str, body: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(&served.client.http).unwrap();
    write!(stream, "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").unwrap();
    write!(stream, "authorization: bearer {}\r\ncontent-length: {}\r\n\r\n", served.client.token, body.len())
        .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn every_bad_request_is_answered_with_a_problem_in_words() {
    const KEY: &str = "00112233445566778899aabbccddeeff";
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let credentials = "PUT /api/v1/devices/a/credentials";
    for (head, body, status, reason) in [
        (credentials, "{", 400, "eof while parsing"),
        (credentials, r#"{"bootstrp": {"generate": true}}"#, 400, "unknown field `bootstrp`"),
        (credentials, r#"{"bootstrap": {"generate": true}} x"#, 400, "trailing characters"),
        (credentials, "\u{0}\u{fffd}", 400, "expected value"),
        (credentials, &format!(r#"{{"bootstrap": "{KEY}"}}"#), 400, r#"expected {\"identity\""#),
        (credentials, r#"{"bootstrap": {"identity": "x", "key": 123456}}"#, 400, "expected a string"),
        (credentials, &format!(r#"{{"bootstrap": {{"key": "{KEY}"}}}}"#), 400, "give identity and key"),
        (credentials, r#"{"profile": {"binding": "X"}}"#, 400, "binding: letters"),
        (credentials, r#"{"profile": {"security_instance": 65535}}"#, 400, "0 to 65534"),
        (credentials, r#"{"profile": {"certificate_usage": 4}}"#, 400, "certificate_usage: 0 to 3"),
        (credentials, r#"{"profile": {"certificate_usage": 0}}"#, 409, "the server has none to name"),
        ("PUT /api/v1/devices/%0a/credentials", "{}", 400, "without control characters"),
        ("GET /api/v1/devices/%ff", "", 400, "path: "),
        ("GET /api/v1/devices?limit=x", "", 400, "limit"),
        ("GET /api/v1/devices?limit=0", "", 400, "limit: 1 to 1000"),
        ("GET /api/v1/devices?size=1", "", 400, "unknown field `size`"),
        ("GET /api/v1/devices/a", "", 404, "neither registered nor enrolled"),
        ("PATCH /api/v1/devices/a", "", 405, "patch does not work on"),
        ("GET /api/v2/devices", "", 404, "there is nothing at"),
        ("GET /api/v1/devices/a/objects/3/0/0/0/0", "", 400, "is no path"),
        ("GET /api/v1/devices/a/objects/3?timeout=0", "", 400, "timeout: 1 to 590"),
        ("POST /api/v1/devices/a/objects/3/0", "", 400, "post creates below an object"),
        (
            "POST /api/v1/devices/a/credentials/rotate",
            r#"{"deadline": -1}"#,
            400,
            "expected u64 at line 1 column 15",
        ),
        ("POST /api/v1/devices/a/credentials/revoke", r#"{"role": "boss"}"#, 400, "unknown variant `boss`"),
        ("POST /api/v1/devices/a/credentials/suspend", "{}", 404, "no such device"),
    ] {
        let (answer, problem) = raw(&served, head, body.as_bytes());
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{head} {body}: {answer} {problem}");
        assert!(answer.contains("content-type: application/problem+json"), "{head}: {answer}");
        assert!(problem.to_lowercase().contains(reason), "{head} {body}: {problem}");
        assert!(!problem.contains(KEY) && !problem.contains("123456"), "no secret in {problem}");
        let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
        assert_eq!(problem.pointer("/status"), Some(&serde_json::json!(status)));
    }
}

#[test]
fn a_body_that_is_not_json_by_its_type_is_refused_with_415() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for (name, status) in [
        ("text/xml", "415"),
        ("application/x-www-form-urlencoded", "415"),
        ("Application/JSON; charset=utf-8", "200"),
        ("application/merge-patch+json", "200"),
    ] {
        let mut stream = TcpStream::connect(&served.client.http).unwrap();
        write!(stream, "PUT /api/v1/devices/a/credentials HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
            .unwrap();
        write!(stream, "authorization: Bearer {}\r\n", served.client.token).unwrap();
        write!(stream, "content-type: {name}\r\ncontent-length: 2\r\n\r\n{{}}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    }
}

#[test]
fn lwm2mctl_stops_quietly_when_nobody_reads_on() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let (url, token) = (format!("http://{}", served.client.http), served.client.token.as_str());
    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &url, "--token", token, "audit"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(ctl.stdout.take());
    let output = ctl.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
