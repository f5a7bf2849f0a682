//! OMA enabler test cases: our runner against our client, and against the reference implementation's.
//!
//! Leshan's client is needed as `.ci/peers` installs it (2.0.0-M18); without it that test is left out loudly.

mod conformance;

use interop_tests::ets::verdicts;
use interop_tests::leshan::Programs;
use interop_tests::ours;

use conformance::{count, failed, firmware, run, run_whole};

fn our_client(arguments: &str) -> String {
    let client = ours::binary("lwm2m-client", "lwm2m-client");
    format!("'{}' --endpoint {{endpoint}} --lwm2m {{lwm2m}} {arguments}", client.display())
}

const SECURED: &str = "--psk-identity {identity} --psk-key {key}";
const CERTIFIED: &str =
    "--certificate {certificate} --private-key {private-key} --trust {trust} --certificate-usage 2";
const PROTECTED: &str =
    "--oscore-secret {oscore-secret} --oscore-sender {oscore-sender} --oscore-recipient {oscore-recipient}";
/// What 205 and 215 want.
const RESOURCES: &str = "--server-resource 2=1 --server-resource 3=10 --server-resource 5=86400";
/// What 306, 307 and 311 want, from when the server sets Mute Send to false.
const REPORTS: &str = "--report /1/0/1 --report /3/0/11/0 --report-every 2";

#[test]
fn our_client_passes_every_case_that_its_objects_allow() {
    let management = format!("--server {{uri}} --lifetime {{lifetime}} --binding {{binding}} {RESOURCES}");
    let bootstrap = "--server {bootstrap-uri} --bootstrap";
    let both = "--server {uri} --bootstrap-server {bootstrap-uri} --server-resource 17=1 --give-up 0";
    let commands = [
        our_client(&format!("{management} {SECURED} {REPORTS}")),
        our_client(&format!("{management} {CERTIFIED}")),
        our_client(&format!("{bootstrap} {SECURED}")),
        our_client(&format!("{bootstrap} {CERTIFIED}")),
        our_client(&format!("{both} {SECURED}")),
        our_client(&format!("{management} {PROTECTED}")),
    ];
    let mut arguments: Vec<&str> = commands.iter().flat_map(|command| ["--client", command]).collect();
    arguments.extend(["--jobs", "24", "--timeout", "60"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let firmware = firmware(folder.path());
    arguments.extend(firmware.iter().map(String::as_str));
    let found = run_whole("lwm2m-client against the cases, with lwm2m-server", &arguments);
    assert!(failed(&found).is_empty(), "{:?}", failed(&found));
    assert_eq!((count(&found, "pass"), count(&found, "not applicable")), (163, 91));
    assert_eq!(found.2, Some(0));
}

#[test]
fn our_client_passes_without_security_and_what_needs_it_is_left_out() {
    let management = our_client("--server {uri} --lifetime {lifetime}");
    let mut arguments = vec!["--client", &management, "--nosec", "--timeout", "60", "--lwm2m", "1.1"];
    for number in ["0", "101", "103", "105", "203", "226", "401", "402"] {
        arguments.extend(["--case", number]);
    }
    let (verdicts, text, code) = run(&arguments);
    println!("{text}");
    for (id, verdict) in &verdicts {
        let is_out = ["1.1-int-0", "1.1-int-401", "1.1-int-402"].contains(&id.as_str());
        assert_eq!(verdict, if is_out { "not applicable" } else { "pass" }, "{id}");
    }
    assert_eq!((verdicts.len(), code), (8, Some(0)));
}

#[test]
fn our_client_passes_with_its_objects_below_an_alternate_path() {
    let below = format!("--alternate-path /lwm2m {SECURED}");
    let management = format!("--server {{uri}} --lifetime {{lifetime}} {RESOURCES} {REPORTS}");
    let management = our_client(&format!("{management} {below}"));
    let bootstrap = our_client(&format!("--server {{bootstrap-uri}} --bootstrap {below}"));
    let mut arguments =
        vec!["--client", &management, "--client", &bootstrap, "--jobs", "24", "--timeout", "60"];
    // What takes a second or two, of all operations.
    let numbers = [
        "4", "8", "101", "201", "203", "205", "215", "221", "226", "228", "229", "230", "232", "233", "235",
        "236", "260", "261", "280", "281", "306", "308", "309", "311", "680", "1201", "1630",
    ];
    arguments
        .extend(["--lwm2m", "1.1"].into_iter().chain(numbers.iter().flat_map(|number| ["--case", number])));
    let (verdicts, text, code) = run(&arguments);
    println!("{text}");
    assert!(verdicts.values().all(|verdict| verdict == "pass"), "{verdicts:?}");
    assert_eq!((verdicts.len(), code), (numbers.len(), Some(0)));
}

#[test]
fn a_client_that_never_comes_fails_with_what_was_expected_in_every_report() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let [junit, html, markdown] = ["a.xml", "a.html", "a.md"].map(file);
    let reports = ["--junit", &junit, "--html", &html, "--markdown", &markdown, "--title", "Nobody"];
    let arguments = ["--client", "sleep 1000 {uri}", "--case", "101", "--case", "3", "--timeout", "1"];
    let (found, text, code) = run(&[&arguments[..], &reports].concat());
    assert_eq!(found.get("1.1-int-101").map(String::as_str), Some("FAIL"), "{text}");
    assert!(text.contains("step:     the client registers"), "{text}");
    assert!(text.contains("seen:     no message"), "{text}");
    assert_eq!(code, Some(1));
    let read = |file: &str| std::fs::read_to_string(file).expect("the report was written");
    assert!(read(&junit).contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\""));
    assert!(read(&junit).contains("<failure message=\"the client registers: expected POST /rd"));
    assert!(read(&html).contains("<h1>Nobody</h1>\n<p>0 passed, 1 failed, 1 not applicable</p>"));
    let kept = verdicts(&read(&markdown), "Nobody");
    let kept: Vec<(&str, &str)> = kept.iter().map(|(id, verdict)| (id.as_str(), verdict.as_str())).collect();
    assert_eq!(
        kept,
        [("1.1-int-101", "FAIL"), ("1.1-int-3", "not applicable: needs a smartcard in the device")]
    );
}

#[test]
fn a_trace_is_decoded_and_has_no_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let page = folder.path().join("page.html").display().to_string();
    let bootstrap = our_client(&format!("--server {{bootstrap-uri}} --bootstrap {SECURED}"));
    let (_, text, code) =
        run(&["--client", &bootstrap, "--case", "1", "--lwm2m", "1.1", "--timeout", "60", "--html", &page]);
    assert_eq!(code, Some(0), "{text}");
    let page = std::fs::read_to_string(page).expect("the report was written");
    for shown in
        ["CON POST /bs?ep=ets-1-", "(Bootstrap-Write)", "/0/1/5 (withheld)", "/1/0/1 = 86400 (integer)"]
    {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn bad_arguments_exit_2_with_the_reason() {
    for (arguments, reason) in [
        (&["--client", "client {url}"][..], "there is no placeholder {url}"),
        (&["--client", "client"], "the command needs {uri} or {bootstrap-uri}"),
        (&["--client", "a {uri}", "--client", "b {uri}"], "more than one --client"),
        (&["--client", "a {uri}", "--case", "9999"], "no such case"),
        (&["--client", "a {uri}", "--firmware", "good=/none"], "--firmware good=/none: "),
        (&["--client", "a {uri}", "--firmware", "bad=/none"], "there is no kind 'bad'"),
        (&[], "--client"),
    ] {
        let (_, text, code) = run(arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

/// Leshan's client, as `peers/leshan/Client.java` sets it up.
#[test]
fn leshans_client_passes_all_but_the_cases_that_are_told_of() {
    let Some(programs) = Programs::find() else { return };
    let words: Vec<String> = programs.words("Client").iter().map(|word| format!("'{word}'")).collect();
    let client = |uri: &str, kind: &str, security: &str| {
        format!("{} {{endpoint}} {uri} {{lifetime}} {kind} {security}", words.join(" "))
    };
    let (key, certificate) = ("psk,{identity},{key}", "pem,{certificate},{private-key},{trust}");
    let commands = [
        client("{uri}", "{binding},report", key),
        client("{uri}", "server", certificate),
        client("{bootstrap-uri}", "bootstrap", key),
        client("{bootstrap-uri}", "bootstrap", certificate),
        client("{uri},{bootstrap-uri}", "server", key),
    ];
    let mut arguments: Vec<&str> = commands.iter().flat_map(|command| ["--client", command]).collect();
    arguments.extend(["--jobs", "8", "--timeout", "60"]);
    run_whole("Leshan's client against the cases, with lwm2m-server", &arguments);
}
