//! OMA enabler test cases: our runner against our client, and against the reference implementation's.
//!
//! Leshan's client is needed as `.ci/peers` installs it (2.0.0-M18); without it that test is left out loudly.

use std::collections::BTreeMap;
use std::process::Command;

use interop_tests::ets::CASES;
use interop_tests::{ours, peers};

/// Runs `lwm2m-interop` and returns the verdict of each case, its output, and its exit code.
fn run(arguments: &[&str]) -> (BTreeMap<String, String>, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_lwm2m-interop"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .expect("the runner starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut verdicts = BTreeMap::new();
    // The last line counts.
    for line in text.lines().filter(|line| !line.contains(" passed, ")) {
        let id = line.split_whitespace().next().unwrap_or_default();
        if CASES.iter().any(|case| case.id == id) {
            let verdict = line.rsplit("  ").next().unwrap_or_default().trim();
            verdicts.insert(id.to_owned(), verdict.to_owned());
        }
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    (verdicts, format!("{text}{errors}"), output.status.code())
}

fn our_client(arguments: &str) -> String {
    let client = ours::binary("lwm2m-client", "lwm2m-client");
    format!("'{}' --endpoint {{endpoint}} {arguments}", client.display())
}

const SECURED: &str = "--psk-identity {identity} --psk-key {key}";

#[test]
fn our_client_passes_every_case() {
    let management = our_client(&format!("--server {{uri}} --lifetime {{lifetime}} {SECURED}"));
    let bootstrap = our_client(&format!("--server {{bootstrap-uri}} --bootstrap {SECURED}"));
    let (verdicts, text, code) =
        run(&["--client", &management, "--client", &bootstrap, "--jobs", "6", "--timeout", "60"]);
    println!("{text}");
    for case in CASES {
        assert_eq!(verdicts.get(case.id).map(String::as_str), Some("pass"), "{}", case.id);
    }
    assert_eq!(code, Some(0));
}

#[test]
fn our_client_passes_without_security_and_what_needs_it_is_left_out() {
    let management = our_client("--server {uri} --lifetime {lifetime}");
    let mut arguments = vec!["--client", &management, "--nosec", "--timeout", "60"];
    for id in ["0", "101", "103", "105", "203", "226", "401"] {
        arguments.extend(["--case", id]);
    }
    let (verdicts, text, code) = run(&arguments);
    println!("{text}");
    for (id, verdict) in &verdicts {
        let expected = if ["0", "401"].contains(&id.as_str()) { "not applicable" } else { "pass" };
        assert_eq!(verdict, expected, "{id}");
    }
    assert_eq!((verdicts.len(), code), (7, Some(0)));
}

#[test]
fn a_client_that_never_comes_fails_with_what_was_expected() {
    let (verdicts, text, code) = run(&["--client", "sleep 1000 {uri}", "--case", "101", "--timeout", "1"]);
    assert_eq!(verdicts.get("101").map(String::as_str), Some("FAIL"), "{text}");
    assert!(text.contains("step:     the client registers"), "{text}");
    assert!(text.contains("seen:     no message"), "{text}");
    assert_eq!(code, Some(1));
}

#[test]
fn bad_arguments_exit_2_with_the_reason() {
    for (arguments, reason) in [
        (&["--client", "client {url}"][..], "there is no placeholder {url}"),
        (&["--client", "client"], "the command needs {uri} or {bootstrap-uri}"),
        (&["--client", "a {uri}", "--client", "b {uri}"], "more than one --client"),
        (&["--client", "a {uri}", "--case", "9999"], "no such case"),
        (&[], "--client"),
    ] {
        let (_, text, code) = run(arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

/// Leshan's client, as `peers/leshan/Client.java` sets it up. Its Server object has no Disable, which 103 needs.
#[test]
fn leshans_client_passes_all_but_the_case_that_it_has_no_resource_for() {
    let Some(leshan) = peers::leshan() else { return };
    let command = leshan.command();
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let source = peers::source("leshan/Client.java");
    // Californium writes its settings into the folder it runs in.
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let client = |uri: &str, kind: &str| {
        format!(
            "env -C '{}' {} '{}' {{endpoint}} {uri} {{lifetime}} {kind} psk,{{identity}},{{key}}",
            folder.path().display(),
            words.join(" "),
            source.display()
        )
    };
    let (management, bootstrap) = (client("{uri}", "server"), client("{bootstrap-uri}", "bootstrap"));
    let (verdicts, text, code) =
        run(&["--client", &management, "--client", &bootstrap, "--jobs", "3", "--timeout", "120"]);
    println!("{text}");
    for case in CASES {
        let expected = if case.id == "103" { "not applicable" } else { "pass" };
        assert_eq!(verdicts.get(case.id).map(String::as_str), Some(expected), "{}", case.id);
    }
    assert_eq!(code, Some(0));
}
