//! OMA enabler test cases the other way round: the runner's device against our server, and against the reference
//! implementation's.
//!
//! Leshan's server is needed as `.ci/peers` installs it (2.0.0-M18); without it that test is left out loudly.

mod conformance;
mod issued;

use std::process::Command;

use interop_tests::account::{Key, file};
use interop_tests::leshan::Programs;
use interop_tests::ours;
use interop_tests::process::{Process, local};
use rcgen::PublicKeyData as _;
use serde_json::Value;

use conformance::{count, failed, firmware, run, run_whole};

/// A key of a server, with a certificate of its own.
fn key() -> Key {
    let pair = issued::key();
    let own = issued::params("server").self_signed(&pair).expect("a certificate of its own");
    let certificates = vec![own.der().to_vec()];
    Key { private: pair.serialize_der(), public: pair.subject_public_key_info(), certificates }
}

/// Our server, and the file with its certificate; a device in queue mode listens for five seconds, so that a case about it is short,
/// and a bootstrap ends with the Discover that a case looks for.
fn server(arguments: &[&str]) -> (ours::Server, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [private_key, certificate] = key().files(folder.path(), "server");
    let configuration = format!(
        "[queue]\nawake = 5\n[bootstrap]\nverify = true\n\
         [[server_keys]]\nprivate_key = {private_key:?}\ncertificate = {certificate:?}\n"
    );
    let configuration = file(folder.path(), "server.toml", configuration.as_bytes());
    let mut server = ours::Server::start(&[arguments, &["--config", &configuration]].concat());
    server.keep(folder);
    (server, certificate)
}

#[test]
fn our_server_passes_every_case_that_an_operator_can_ask_for() {
    let (server, certificate) = server(&[]);
    let (api, token) = server.api();
    let (uri, bootstrap_uri) = (server.secure_uri(), server.secure_bootstrap_uri());
    let server =
        ["--server", &uri, "--bootstrap-server", &bootstrap_uri, "--server-certificate", &certificate];
    let operator = ["--operator", "ours", "--api", &api, "--token", token];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let firmware = firmware(folder.path());
    let firmware: Vec<&str> = firmware.iter().map(String::as_str).collect();
    let found = run_whole(
        "lwm2m-server against the cases, with the runner's device",
        &[&server[..], &operator, &firmware, &["--jobs", "24", "--timeout", "60"]].concat(),
    );
    assert!(failed(&found).is_empty(), "{:?}", failed(&found));
    assert_eq!((count(&found, "pass"), count(&found, "not applicable")), (141, 113));
    assert_eq!(found.2, Some(0));
}

#[test]
fn our_server_passes_without_security() {
    let (server, _) = server(&["--allow-nosec"]);
    let (api, token) = server.api();
    let uri = server.uri();
    let mut arguments = vec!["--server", &uri, "--operator", "ours", "--api", &api, "--token", token];
    for number in ["0", "101", "105", "203", "226", "305", "401"] {
        arguments.extend(["--case", number]);
    }
    let (verdicts, text, code) = run(&[&arguments[..], &["--lwm2m", "1.1"]].concat());
    println!("{text}");
    for (id, verdict) in &verdicts {
        let is_out = ["1.1-int-0", "1.1-int-401"].contains(&id.as_str());
        assert_eq!(verdict, if is_out { "not applicable" } else { "pass" }, "{id}");
    }
    assert_eq!((verdicts.len(), code), (7, Some(0)));
}

/// The runner with a person in front of it.
fn prompted(uri: &str, case: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwm2m-interop"));
    command.args([
        "--server",
        uri,
        "--operator",
        "prompt",
        "--case",
        case,
        "--lwm2m",
        "1.1",
        "--timeout",
        "20",
    ]);
    Process::spawn("lwm2m-interop", command)
}

#[test]
fn a_person_does_what_the_terminal_says_and_presses_enter() {
    let (server, _) = server(&["--allow-nosec"]);
    let mut runner = prompted(&server.uri(), "201");
    let told = runner.wait_for_text("operator: let the device ets-201-");
    assert!(told.ends_with("; then press Enter (or type 'no' if the server cannot)"), "{told}");
    runner.say("");
    for resource in 0..3 {
        let told = runner.wait_for_text(&format!("read /3/0/{resource} in content format 0"));
        let device = told.strip_prefix("operator: ").and_then(|told| told.split(':').next());
        let device = device.expect("the device is named");
        server.must("GET", &format!("/devices/{device}/objects/3/0/{resource}?format=0"), &Value::Null);
        runner.say("");
    }
    assert_eq!(runner.wait_for_exit(), Some(0), "{}", runner.log());
    assert!(runner.log().contains("1 passed, 0 failed, 0 not applicable"), "{}", runner.log());
}

#[test]
fn what_a_person_presses_enter_for_and_does_not_do_fails() {
    let (server, _) = server(&["--allow-nosec"]);
    let mut runner = prompted(&server.uri(), "652");
    runner.wait_for_text("operator: let the device ets-652-");
    runner.say("");
    runner.wait_for_text("read /3/0/3");
    runner.say("");
    assert_eq!(runner.wait_for_exit(), Some(1), "{}", runner.log());
    assert!(runner.log().contains("0 passed, 1 failed, 0 not applicable"), "{}", runner.log());
}

#[test]
fn a_person_may_say_no_or_be_gone_where_the_server_cannot() {
    let (server, _) = server(&["--allow-nosec"]);
    for answer in [Some("no"), None] {
        let mut runner = prompted(&server.uri(), "652");
        runner.wait_for_text("operator: let the device ets-652-");
        runner.say("");
        runner.wait_for_text("read /3/0/3");
        match answer {
            Some(answer) => runner.say(answer),
            // At the end of the input there is nobody.
            None => runner.close_input(),
        }
        assert_eq!(runner.wait_for_exit(), Some(0), "{}", runner.log());
        let log = runner.log();
        assert!(log.contains("the operator says that the server cannot"), "{log}");
        assert!(log.contains("0 passed, 0 failed, 1 not applicable"), "{log}");
    }
}

/// Leshan's server, with the part of the REST interface of its demonstration that `peers/leshan/Rest.java` has.
#[test]
fn leshans_server_passes_all_but_the_cases_that_are_told_of() {
    let Some(programs) = Programs::find() else { return };
    let key = key();
    let (_process, [http, _, coaps]) = programs.serve(&key);
    let (uri, api) = (format!("coaps://{}", local(coaps)), format!("http://{}", local(http)));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let certificate = file(folder.path(), "server.crt.der", key.certificate());
    let firmware = firmware(folder.path());
    let mut arguments: Vec<&str> = firmware.iter().map(String::as_str).collect();
    arguments.extend(["--server", &uri, "--server-certificate", &certificate]);
    arguments.extend(["--operator", "leshan", "--api", &api, "--jobs", "24", "--timeout", "60"]);
    run_whole("Leshan's server against the cases, with the runner's device", &arguments);
}

#[test]
fn an_operator_needs_what_it_works_with() {
    for (arguments, reason) in [
        (&["--server", "coap://127.0.0.1"][..], "--operator"),
        (&["--server", "coap://127.0.0.1", "--operator", "ours"], "--api"),
        (&["--server", "coap://127.0.0.1", "--operator", "prompt", "--client", "a {uri}"], "--client"),
        (
            &["--server", "coap://127.0.0.1", "--operator", "prompt", "--server-certificate", "/none"],
            "--server-certificate /none: ",
        ),
    ] {
        let (_, text, code) = run(arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
