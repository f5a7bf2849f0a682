//! What the binaries say and how they exit: one clear line for each failure, 2 for bad arguments, 1 for the rest.

#![expect(clippy::unwrap_used, reason = "test")]

mod common;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use common::{Served, serve_arguments, server};

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

    let store = folder.path().join("store.redb");
    let mut bytes = fs::read(&store).unwrap();
    for byte in bytes.iter_mut().skip(4096).step_by(7) {
        *byte ^= 0xff;
    }
    fs::write(&store, bytes).unwrap();
    let (code, line) = failed(&server(&serve_arguments(folder.path())));
    assert_eq!(code, Some(1));
    assert!(line.contains("damaged") && line.contains("store.redb"), "{line}");
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
    }
}

#[test]
fn only_health_answers_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path());
    served.client.token = "wrong".to_owned();
    assert_eq!(served.call("GET", "/health", None).unwrap().0, 200);
    for route in ["/devices", "/audit", "/events", "/nothing", "/devices/a/credentials"] {
        assert_eq!(served.call("GET", route, None).unwrap().0, 401, "{route}");
    }
}
