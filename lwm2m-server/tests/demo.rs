//! `lwm2m-server demo` tells its story: bootstrap, register, read, observe, rotate, roll back, revoke.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "test")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

fn start(folder: &Path, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = common::binary(env!("CARGO_BIN_EXE_lwm2m-server"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Sends a signal; the exit code, and whether the temporary folder is gone.
fn stop(mut child: Child, signal: &str, folder: &Path) -> (Option<i32>, bool) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    let code = child.wait().unwrap().code();
    (code, fs::read_dir(folder).unwrap().next().is_none())
}

#[test]
fn the_demo_succeeds_and_shows_every_step() {
    let output = common::binary(env!("CARGO_BIN_EXE_lwm2m-server"))
        .args(["demo", "--once", "--devices", "5"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let names = ["ENROL", "BOOTSTRAP", "READ", "OBSERVE", "ROTATE", "ROLL BACK", "REVOKE"];
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert_eq!(text.matches("\n  ok ").count(), names.len(), "{text}");
    for step in ["staged", "delivered", "proven", "old retired", "rolled back"] {
        assert!(text.contains(&format!(" s  {step}: ")), "{step}: {text}");
    }
}

#[test]
fn without_once_it_stays_up_and_does_what_it_tells_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let (child, mut lines) = start(folder.path(), &["--devices", "2"]);
    let export =
        lines.find_map(|line| line.unwrap().trim().strip_prefix("export ").map(str::to_owned)).unwrap();
    let variables: Vec<(&str, &str)> =
        export.split_whitespace().filter_map(|variable| variable.split_once('=')).collect();
    for (arguments, shown) in [
        (&["devices"][..], "demo-2"),
        (&["read", "demo-2", "/3/0"], "/3/0/0"),
        (&["credentials", "history", "demo-1"], "revoked"),
    ] {
        let output = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
            .envs(variables.iter().copied())
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(shown), "{arguments:?}: {text}");
    }
    assert_eq!(stop(child, "-INT", folder.path()), (Some(0), true));
}

#[test]
fn stopped_in_the_story_it_leaves_no_keys_behind_and_exits_1() {
    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (child, mut lines) = start(folder.path(), &["--once"]);
        assert!(lines.any(|line| line.unwrap().starts_with("OBSERVE")));
        // The pipe stays open, or the story ends for want of a reader.
        std::thread::spawn(move || lines.count());
        assert_eq!(stop(child, signal, folder.path()), (Some(1), true), "{signal}");
    }
}
