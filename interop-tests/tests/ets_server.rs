//! OMA enabler test cases the other way round: the runner's device against our server, and against the reference
//! implementation's.
//!
//! Leshan's server is needed as `.ci/peers` installs it (2.0.0-M18); without it that test is left out loudly.

mod conformance;

use interop_tests::account::file;
use interop_tests::leshan::Classes;
use interop_tests::ours;
use interop_tests::process::local;

use conformance::{count, failed, run, run_whole};

/// Our server; a device in queue mode listens for five seconds, so that a case about it is short, and a bootstrap ends with the
/// Discover that a case looks for.
fn server(arguments: &[&str]) -> ours::Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let configuration =
        file(folder.path(), "server.toml", b"[queue]\nawake = 5\n[bootstrap]\nverify = true\n");
    let mut server = ours::Server::start(&[arguments, &["--config", &configuration]].concat());
    server.keep(folder);
    server
}

#[test]
fn our_server_passes_every_case_that_an_operator_can_ask_for() {
    let server = server(&[]);
    let (api, token) = server.api();
    let (uri, bootstrap_uri) = (server.secure_uri(), server.secure_bootstrap_uri());
    let server = ["--server", &uri, "--bootstrap-server", &bootstrap_uri];
    let operator = ["--operator", "ours", "--api", &api, "--token", token];
    let found = run_whole(
        "lwm2m-server against the cases, with the runner's device",
        &[&server[..], &operator, &["--jobs", "24", "--timeout", "60"]].concat(),
    );
    assert!(failed(&found).is_empty(), "{:?}", failed(&found));
    assert_eq!((count(&found, "pass"), count(&found, "not applicable")), (121, 133));
    assert_eq!(found.2, Some(0));
}

#[test]
fn our_server_passes_without_security() {
    let server = server(&["--allow-nosec"]);
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

#[test]
fn a_person_is_asked_on_the_terminal_and_may_say_that_the_server_cannot() {
    let server = server(&["--allow-nosec"]);
    let uri = server.uri();
    let arguments =
        ["--server", &uri, "--operator", "prompt", "--case", "201", "--lwm2m", "1.1", "--timeout", "5"];
    let (verdicts, text, _) = run(&arguments);
    assert!(text.contains("operator: let the device ets-201-"), "{text}");
    // At the end of the input there is nobody.
    assert_eq!(verdicts.get("1.1-int-201").map(String::as_str), Some("not applicable"), "{text}");
}

/// Leshan's server, with the part of the REST interface of its demonstration that `peers/leshan/Rest.java` has.
#[test]
fn leshans_server_passes_all_but_the_cases_that_are_told_of() {
    let Some(classes) = Classes::compile() else { return };
    let (_process, [http, _, coaps]) = classes.serve();
    let (uri, api) = (format!("coaps://{}", local(coaps)), format!("http://{}", local(http)));
    let arguments =
        ["--server", &uri, "--operator", "leshan", "--api", &api, "--jobs", "24", "--timeout", "60"];
    run_whole("Leshan's server against the cases, with the runner's device", &arguments);
}

#[test]
fn an_operator_needs_what_it_works_with() {
    for (arguments, reason) in [
        (&["--server", "coap://127.0.0.1"][..], "--operator"),
        (&["--server", "coap://127.0.0.1", "--operator", "ours"], "--api"),
        (&["--server", "coap://127.0.0.1", "--operator", "prompt", "--client", "a {uri}"], "--client"),
    ] {
        let (_, text, code) = run(arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
