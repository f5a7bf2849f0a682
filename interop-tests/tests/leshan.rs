//! Leshan 2.0.0-M18 (server, client) and 2.0.0-M14 (bootstrap server), the reference implementation, over UDP on loopback.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use interop_tests::account::Psk;
use interop_tests::ets::verdicts;
use interop_tests::leshan::{BootstrapServer, Client, Server};
use interop_tests::process::{PATIENCE, local};
use interop_tests::relay::Relay;
use interop_tests::seen::{Feature, Role};
use interop_tests::{ours, peers};
use serde_json::{Value, json};

const BOOTSTRAP: Psk<'_> = Psk { identity: "bootstrap-account", key: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" };
const MANAGEMENT: Psk<'_> = Psk { identity: "management-account", key: "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf" };

/// Not about this project: when this fails, the peers or the machine are broken, and no other test here says anything.
#[test]
fn the_reference_implementation_bootstraps_registers_and_is_managed_by_itself() {
    let Some(mut bootstrap) = BootstrapServer::start() else {
        return;
    };
    let Some(mut server) = Server::start() else {
        return;
    };
    bootstrap.add("device", BOOTSTRAP);
    server.add("device", MANAGEMENT);
    bootstrap.plan("device", "TLV", &server.secure_uri(), Some(MANAGEMENT));
    let Some(mut client) = Client::bootstrap("device", &bootstrap.secure_uri(), Some(BOOTSTRAP)) else {
        return;
    };
    client.wait_for("bootstrapped");
    let registered = server.wait_for("registered device");
    assert!(registered.contains("management-account"), "{registered}");
    let read = server.ask("read device /3/0/0");
    assert!(read.starts_with("205") && read.contains("Reference Manufacturer"), "{read}");
    client.process.say("stop");
    server.wait_for("unregistered device expired=false");
}

/// What `CONFORMANCE.md` says of each behaviour is there: the tests are in the sources, and the cases pass.
#[test]
fn each_behaviour_of_leshan_has_the_tests_and_the_cases_that_the_document_names() {
    const BEHAVIOURS: [&str; 14] = [
        "registration",
        "read",
        "write",
        "create",
        "delete",
        "discover",
        "execute",
        "observe",
        "attributes",
        "composite",
        "send",
        "queue",
        "bootstrap",
        "security",
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a file of this package");
    let document = read("CONFORMANCE.md");
    let passed = |section: &str| -> BTreeSet<String> {
        let verdicts = verdicts(&document, section).into_iter().filter(|(_, verdict)| verdict == "pass");
        verdicts.filter_map(|(id, _)| id.rsplit('-').next().map(str::to_owned)).collect()
    };
    let passed = [
        passed("Leshan's client against the cases, with lwm2m-server"),
        passed("Leshan's server against the cases, with the runner's device"),
    ];
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| !line.starts_with("| behaviour |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let names: Vec<&str> = rows.iter().filter_map(|row| row.first().copied()).collect();
    assert_eq!(names, BEHAVIOURS);
    for (behaviour, cell, passed) in rows.iter().flat_map(|row| match row[..] {
        [behaviour, ours, leshans] => [(behaviour, ours, &passed[0]), (behaviour, leshans, &passed[1])],
        _ => unreachable!("three columns: {row:?}"),
    }) {
        let (tests, cases) = cell.split_once("; cases ").unwrap_or((cell, ""));
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            let (file, function) =
                name.split_once("::").unwrap_or_else(|| unreachable!("{behaviour}: {name}"));
            let source = read(&format!("tests/{file}.rs"));
            assert!(source.contains(&format!("#[test]\nfn {function}()")), "{behaviour}: {name}");
        }
        for case in cases.split_whitespace() {
            assert!(passed.contains(case), "{behaviour}: case {case} does not pass");
        }
    }
}

/// Reads, writes and observes several places at once at our client through Leshan's server, and gets reports.
fn manage_several(server: &mut Server, device: &str) {
    for format in ["SENML_CBOR", "SENML_JSON"] {
        let read =
            server.ask(&format!("read-composite {device} {format} /3/0/16 /1/0 /3303/0/5700 /3/0/999 /7"));
        assert!(read.starts_with("205") && read.contains("/3303/0/5700"), "{format}: {read}");
        assert!(read.contains("id=16, value=U"), "{format}: {read}");
        let read = server.ask(&format!("read-composite {device} {format} /0/0"));
        assert!(read.starts_with("401"), "{format}: {read}");
        let values = "/1/0/1 integer 300 /3/0/14 text";
        let written = server.ask(&format!("write-composite {device} {format} {values} +07:00"));
        assert!(written.starts_with("204"), "{format}: {written}");
        assert!(server.ask(&format!("read {device} /3/0/14 TEXT")).contains("+07:00"));
        let refused = server.ask(&format!("write-composite {device} {format} {values} +08:00 /3/0/0 text x"));
        assert!(refused.starts_with("405"), "{format}: {refused}");
        assert!(server.ask(&format!("read {device} /3/0/14 TEXT")).contains("+07:00"));
        let observed = server.ask(&format!("observe-composite {device} {format} /3303/0/5700 /3/0/14"));
        assert!(observed.starts_with("205") && observed.contains("+07:00"), "{format}: {observed}");
        let notified = server.wait_for(&format!("notified-composite {device} 205"));
        assert!(notified.contains("/3303/0/5700") && notified.contains("+07:00"), "{format}: {notified}");
        let cancelled = server.ask(&format!("cancel-composite {device} {format}"));
        assert!(cancelled.starts_with("205"), "{format}: {cancelled}");
    }
    // Mute Send.
    assert!(server.ask(&format!("write {device} /1/0/23 TEXT boolean false")).starts_with("204"));
    let reported = server.wait_for(&format!("reported {device}"));
    assert!(reported.contains("/3303/0/5700") && reported.contains("+07:00"), "{reported}");
}

/// Reads, writes, observes and executes at our client through Leshan's server.
fn manage(server: &mut Server, device: &str) {
    let read = server.ask(&format!("read {device} /3/0 TLV"));
    assert!(read.starts_with("205 LwM2mObjectInstance"), "{read}");
    let read = server.ask(&format!("read {device} /3303/0/5700 TEXT"));
    assert!(read.starts_with("205") && read.contains("FLOAT"), "{read}");
    for format in ["TLV", "SENML_CBOR", "SENML_JSON"] {
        let read = server.ask(&format!("read {device} /3303 {format}"));
        assert!(read.starts_with("205 LwM2mObject "), "{format}: {read}");
    }
    for format in ["TLV", "SENML_CBOR", "SENML_JSON", "CBOR"] {
        let written = server.ask(&format!("write {device} /3/0/14 {format} text +02:00"));
        assert!(written.starts_with("204"), "{format}: {written}");
        let read = server.ask(&format!("read {device} /3/0/14 {format}"));
        assert!(read.contains("+02:00"), "{format}: {read}");
    }
    assert!(server.ask(&format!("write {device} /3/0/14 TEXT text +03:00")).starts_with("204"));
    assert!(server.ask(&format!("write {device} /3/0/0 TEXT text other")).starts_with("405"));
    assert!(server.ask(&format!("read {device} /3/0/999 -")).starts_with("404"));
    assert!(server.ask(&format!("read {device} /0 -")).starts_with("401"));
    assert!(server.ask(&format!("discover {device} /0")).starts_with("401"));

    let discovered = server.ask(&format!("discover {device} /3"));
    assert!(discovered.starts_with("205") && discovered.contains("</3/0/14>"), "{discovered}");
    assert!(server.ask(&format!("attributes {device} /3303/0/5700 pmin=1&pmax=2")).starts_with("204"));
    let discovered = server.ask(&format!("discover {device} /3303/0/5700"));
    assert!(discovered.contains("pmin=1") && discovered.contains("pmax=2"), "{discovered}");
    let observed = server.ask(&format!("observe {device} /3303/0/5700 SENML_CBOR"));
    assert!(observed.starts_with("205"), "{observed}");
    server.wait_for(&format!("notified {device} /3303/0/5700 205"));
    server.wait_for(&format!("notified {device} /3303/0/5700 205"));

    // A changed lifetime leads to an Update (LwM2M Core 1.1.1 §6.2.2).
    assert!(server.ask(&format!("update {device} /1/0 TLV 1 integer 120")).starts_with("204"));
    let updated = server.wait_for(&format!("updated {device}"));
    assert!(updated.contains("given=120"), "{updated}");
    // So does Registration Update Trigger, whose argument says over which binding (LwM2M Core 1.1.1 appendix E.2).
    for arguments in ["", " 0='U'"] {
        assert!(server.ask(&format!("execute {device} /1/0/8{arguments}")).starts_with("204"));
        server.wait_for(&format!("updated {device}"));
    }
    // Uninstall knows the arguments 0 and 1, and there is nothing to uninstall.
    for (argument, code) in [("1", "405"), ("7", "400")] {
        let executed = server.ask(&format!("execute {device} /9/0/6 {argument}"));
        assert!(executed.starts_with(code), "{argument}: {executed}");
    }
    manage_instances(server, device);
    // The next notification is reset.
    assert_eq!(server.ask(&format!("cancel {device} /3303/0/5700")), "cancelled 1");
}

/// Creates, reads, replaces and deletes an instance at our client through Leshan's server.
fn manage_instances(server: &mut Server, device: &str) {
    let name = |name: &str| format!("0 text {name} 1 text iot.example 4 integer 0");
    let created = server.ask(&format!("create {device} /11 1 {}", name("second")));
    assert!(created.starts_with("201"), "{created}");
    server.wait_for(&format!("updated {device}"));
    assert!(server.ask(&format!("discover {device} /11")).contains("</11/1>"));
    let read = server.ask(&format!("read {device} /11/1/0 TEXT"));
    assert!(read.starts_with("205") && read.contains("second"), "{read}");
    for format in ["TLV", "SENML_CBOR", "SENML_JSON"] {
        let replaced = server.ask(&format!("replace {device} /11/1 {format} {}", name(format)));
        assert!(replaced.starts_with("204"), "{format}: {replaced}");
        let read = server.ask(&format!("read {device} /11/1/0 TEXT"));
        assert!(read.contains(&format!("value={format}")), "{format}: {read}");
    }
    assert!(server.ask(&format!("delete {device} /11/1")).starts_with("202"));
    server.wait_for(&format!("updated {device}"));
    assert!(server.ask(&format!("read {device} /11/1/0 TEXT")).starts_with("404"));
    assert!(server.ask(&format!("delete {device} /3/0")).starts_with("405"));
}

#[test]
fn our_client_registers_at_leshan_without_security_and_is_managed() {
    let Some(mut server) = Server::start() else { return };
    let arguments =
        ["--lifetime", "300", "--report", "/3303/0/5700", "--report", "/3/0/14", "--report-every", "1"];
    let mut client = ours::Client::run("plain", &server.uri(), None, &arguments);
    let registered = server.wait_for("registered plain");
    assert!(registered.contains("lifetime=300 version=1.1 binding=[U]"), "{registered}");
    assert!(registered.contains("</3/0>") && !registered.contains("</0"), "{registered}");
    manage(&mut server, "plain");
    manage_several(&mut server, "plain");
    client.process.interrupt();
    server.wait_for("unregistered plain expired=false");
    assert_eq!(client.process.wait_for_exit(), Some(0));
}

#[test]
fn our_client_registers_at_leshan_over_dtls_and_is_managed() {
    let Some(mut server) = Server::start() else { return };
    server.add("secured", MANAGEMENT);
    let mut client = ours::Client::start("secured", &server.secure_uri(), Some(MANAGEMENT));
    let registered = server.wait_for("registered secured");
    assert!(registered.contains(MANAGEMENT.identity), "{registered}");
    manage(&mut server, "secured");
    client.process.interrupt();
    server.wait_for("unregistered secured expired=false");
    assert_eq!(client.process.wait_for_exit(), Some(0));
    let features = [Feature::Psk, Feature::Coap, Feature::Observe, Feature::Lwm2m];
    note(Role::Server, &features);
}

#[test]
fn our_client_in_queue_mode_is_left_alone_by_leshan_until_it_is_heard_again() {
    let Some(mut server) = Server::start_for_sleepers(3000) else { return };
    let arguments = ["--lifetime", "20", "--binding", "UQ"];
    let _client = ours::Client::run("sleepy", &server.uri(), None, &arguments);
    server.wait_for("registered sleepy");
    server.wait_for("asleep sleepy");
    let refused = server.ask("read sleepy /3/0/0 TEXT");
    assert!(refused.contains("ClientSleepingException"), "{refused}");
    // By an Update before its lifetime is over.
    server.wait_for("awake sleepy");
    let read = server.ask("read sleepy /3/0/0 TEXT");
    assert!(read.starts_with("205"), "{read}");
}

#[test]
fn our_client_is_managed_by_leshan_below_an_alternate_path() {
    let Some(mut server) = Server::start() else { return };
    let arguments = ["--alternate-path", "/a/lwm2m", "--report", "/3303/0/5700", "--report", "/3/0/14"];
    let arguments = [&arguments[..], &["--report-every", "1", "--lifetime", "300"]].concat();
    let mut client = ours::Client::run("below", &server.uri(), None, &arguments);
    let registered = server.wait_for("registered below");
    assert!(registered.contains("[</a/lwm2m>;rt=[oma.lwm2m], </a/lwm2m/1/0>, "), "{registered}");
    manage(&mut server, "below");
    manage_several(&mut server, "below");
    client.process.interrupt();
    server.wait_for("unregistered below expired=false");
    assert_eq!(client.process.wait_for_exit(), Some(0));
}

#[test]
fn our_client_takes_what_leshan_sends_in_blocks() {
    let settings = ["COAP.MAX_MESSAGE_SIZE=16", "COAP.PREFERRED_BLOCK_SIZE=16"];
    let Some(mut server) = Server::start_with(&settings) else { return };
    let (relay, blocks) = Relay::counting_blocks(&server.uri());
    let _client = ours::Client::start("plain", &format!("coap://{}", local(relay.port())), None);
    server.wait_for("registered plain");
    let several = "1 integer 300 2 integer 1 3 integer 60 6 boolean true";
    let updated = server.ask(&format!("update plain /1/0 SENML_CBOR {several}"));
    assert!(updated.starts_with("204"), "{updated}");
    let read = server.ask("read plain /1/0/3 TEXT");
    assert!(read.starts_with("205") && read.contains("60"), "{read}");
    manage(&mut server, "plain");
    let [sent, asked] = blocks.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(sent >= 10, "{sent} messages with Block1, {asked} with Block2");
    note(Role::Server, &[Feature::Blocks]);
}

#[test]
fn our_client_gives_up_with_a_reason_when_leshan_has_another_key() {
    let Some(mut server) = Server::start() else { return };
    server.add("stranger", MANAGEMENT);
    let wrong = Psk { key: BOOTSTRAP.key, ..MANAGEMENT };
    let arguments = ["--give-up", "5"];
    let mut client = ours::Client::run("stranger", &server.secure_uri(), Some(wrong), &arguments);
    assert_eq!(client.process.wait_for_exit(), Some(3));
    assert!(client.process.log().contains("giving up"), "{}", client.process.log());
}

#[test]
fn our_client_takes_its_accounts_from_leshans_bootstrap_server_and_registers() {
    // Each format in which Leshan writes the accounts, and both kinds of account.
    for (format, secured) in [("TLV", true), ("SENML_CBOR", true), ("SENML_JSON", true), ("TLV", false)] {
        let Some(mut bootstrap) = BootstrapServer::start() else { return };
        let Some(mut server) = Server::start() else { return };
        let mut client = if secured {
            bootstrap.add("device", BOOTSTRAP);
            server.add("device", MANAGEMENT);
            bootstrap.plan("device", format, &server.secure_uri(), Some(MANAGEMENT));
            // It asks for what it gets.
            let format = format.to_lowercase().replace('_', "-");
            let arguments = ["--bootstrap", "--bootstrap-format", &format];
            ours::Client::run("device", &bootstrap.secure_uri(), Some(BOOTSTRAP), &arguments)
        } else {
            bootstrap.plan("device", format, &server.uri(), None);
            ours::Client::bootstrap("device", &bootstrap.uri(), None)
        };
        bootstrap.wait_for("finished device");
        for done in ["DeleteRequest /0 202", "DeleteRequest /1 202", "FinishRequest null 204"] {
            assert!(bootstrap.process.log().contains(&format!("done Bootstrap{done}")), "{done}");
        }
        server.wait_for("registered device lifetime=300");
        let read = server.ask("read device /1/0/0 TEXT");
        assert!(read.contains("value=123"), "{read}");
        manage(&mut server, "device");
        // Bootstrap-Request Trigger.
        assert!(server.ask("execute device /1/0/9").starts_with("204"));
        bootstrap.wait_for("finished device");
        server.wait_for("registered device lifetime=300");
        client.process.interrupt();
        server.wait_for("unregistered device expired=false");
        assert_eq!(client.process.wait_for_exit(), Some(0));
    }
    if let Some(program) = peers::leshan_bootstrap() {
        program.seen("Leshan", Role::Server, &[Feature::Bootstrap]);
    }
}

fn note(role: Role, features: &[Feature]) {
    if let Some(program) = peers::leshan() {
        program.seen("Leshan", role, features);
    }
}

/// Bootstraps, reads, writes, observes and executes at Leshan's client through our server's REST API.
fn manage_through_rest(server: &mut ours::Server, client: &mut Client, device: &str) {
    let path = |rest: &str| format!("/devices/{device}{rest}");
    let none = Value::Null;
    let text = |answer: Value| answer.to_string();
    let read = text(server.must("GET", &path("/objects/3/0"), &none));
    assert!(read.contains("Reference Manufacturer") && read.contains("3800"), "{read}");
    for format in ["11542", "11543", "110", "112"] {
        let read = text(server.must("GET", &path(&format!("/objects/3303/0?format={format}")), &none));
        assert!(read.contains("20.5"), "{format}: {read}");
    }
    for format in ["0", "60"] {
        let read = text(server.must("GET", &path(&format!("/objects/3303/0/5700?format={format}")), &none));
        assert!(read.contains("20.5"), "{format}: {read}");
    }
    server.must("PUT", &path("/objects/3/0/14"), &json!("+05:00"));
    client.wait_for("written /3/0/14 +05:00");
    let read = text(server.must("GET", &path("/objects/3/0/14"), &none));
    assert!(read.contains("+05:00"), "{read}");
    let (refused, _) = server.ask("PUT", &path("/objects/3/0/0"), &json!("other"));
    assert!(!(200..300).contains(&refused), "{refused}");
    let (absent, _) = server.ask("GET", &path("/objects/3/0/999"), &none);
    assert!(!(200..300).contains(&absent), "{absent}");
    server.must("POST", &path("/objects/3/0/4"), &json!({ "arguments": "0='now',1" }));
    client.wait_for("executed /3/0/4 0='now',1");

    let discovered = text(server.must("GET", &path("/discover/3"), &none));
    assert!(discovered.contains("/3/0/14"), "{discovered}");
    server.must("PUT", &path("/attributes/3303/0/5700"), &json!({ "pmin": 0, "pmax": 60 }));
    let observed = text(server.must("POST", &path("/observations"), &json!({ "path": "/3303/0/5700" })));
    assert!(observed.contains("20.5"), "{observed}");
    client.process.say("temperature 33.25");
    server.wait_for(&["notification", device, "33.25"]);

    let several = path("/composite?paths=/3/0/14,/3303/0/5700,/3/0/999");
    let read = text(server.must("GET", &several, &none));
    assert!(read.contains("+05:00") && read.contains("33.25") && read.contains("\"format\":112"), "{read}");
    for format in ["110", "112"] {
        let read = text(server.must("GET", &format!("{several}&format={format}"), &none));
        assert!(read.contains("33.25") && read.contains(&format!("\"format\":{format}")), "{read}");
    }
    server.must("PUT", &path("/composite"), &json!({ "values": { "/3/0/14": "+06:00", "/1/0/1": 200 } }));
    client.wait_for("written /3/0/14 +06:00");
    let paths = json!({ "paths": ["/3303/0/5700", "/3/0/14"] });
    let observed = server.must("POST", &path("/composite"), &paths);
    assert!(observed.to_string().contains("+06:00"), "{observed}");
    client.process.say("temperature 34.5");
    server.wait_for(&["notification", device, "34.5", "+06:00"]);
    let id = observed.get("id").and_then(Value::as_u64).expect("an observation has an id");
    server.must("DELETE", &path(&format!("/observations?id={id}")), &none);
    client.process.say("report SENML_JSON /3303/0/5700 /3/0/14");
    client.wait_for("reported 204");
    server.wait_for(&["reported", device, "34.5", "+06:00", "\"time_ms\":null"]);
    client.process.say("collect /3303/0/5700");
    client.process.say("report SENML_CBOR");
    let dated = server.wait_for(&["reported", device, "34.5"]);
    assert!(!dated.contains("null"), "{dated}");

    let second = json!({ "instance": 1, "resources": { "0": { "values": { "0": "Host Device ID #2" } } } });
    server.must("POST", &path("/objects/16"), &second);
    server.wait_for(&["updated", device]);
    let read = text(server.must("GET", &path("/objects/16/1"), &none));
    assert!(read.contains("Host Device ID #2"), "{read}");
    server.must("PUT", &path("/objects/16/1/0/0"), &json!("Host Device ID #3"));
    let read = text(server.must("GET", &path("/objects/16/1/0/0"), &none));
    assert!(read.contains("Host Device ID #3"), "{read}");
    server.must("DELETE", &path("/objects/16/1"), &none);
    server.wait_for(&["updated", device]);
    let (gone, answer) = server.ask("GET", &path("/objects/16/1"), &none);
    assert!(!(200..300).contains(&gone) && text(answer.clone()).contains("4.04"), "{gone} {answer}");

    server.must("PUT", &path("/objects/1/0/1"), &json!(120));
    server.wait_for(&["updated", device]);
    client.process.say("stop");
    server.wait_for(&["deregistered", device]);
}

#[test]
fn leshans_client_registers_at_our_server_without_security_and_is_managed() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = ours::Server::start(&["--allow-nosec"]);
    let Some(mut client) = Client::start("plain", &server.uri(), None) else { return };
    client.wait_for("registered");
    server.wait_for(&["registered", "plain"]);
    manage_through_rest(&mut server, &mut client, "plain");
}

#[test]
fn leshans_client_in_queue_mode_gets_what_waited_while_it_slept() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = ours::Server::start(&["--allow-nosec", "--awake", "1"]);
    let Some(mut client) = Client::start_in_queue_mode("sleepy", &server.uri()) else { return };
    server.wait_for(&["registered", "sleepy"]);
    let state = |pointer: &str| {
        server.must("GET", "/devices/sleepy", &Value::Null).pointer(pointer).cloned().unwrap_or_default()
    };
    assert_eq!(state("/registration/queue"), json!(true));
    let began = Instant::now();
    while state("/registration/awake") == json!(true) {
        assert!(began.elapsed() < PATIENCE);
        // Nothing tells that the second is over.
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, read) = server.ask("GET", "/devices/sleepy/objects/3/0/0", &Value::Null);
    assert_eq!(status, 202, "{read}");
    let (status, written) = server.ask("PUT", "/devices/sleepy/objects/3/0/14", &json!("+05:00"));
    assert_eq!(status, 202, "{written}");
    client.process.say("update");
    server.wait_for(&["awake", "sleepy"]);
    for asked in [&read, &written] {
        server.wait_for(&["request-done", "sleepy", &format!("\"id\":{}", asked["id"])]);
    }
    let answer = server.must("GET", "/devices/sleepy/requests/1", &Value::Null);
    assert_eq!(
        answer.pointer("/outcome/answer/values/0/value"),
        Some(&json!("Reference Manufacturer")),
        "{answer}"
    );
    client.wait_for("written /3/0/14 +05:00");
}

#[test]
fn our_server_and_leshans_client_exchange_bodies_in_blocks() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = ours::Server::start(&["--allow-nosec"]);
    let (relay, blocks) = Relay::counting_blocks(&server.uri());
    let uri = format!("coap://{}", local(relay.port()));
    let settings = ["COAP.MAX_MESSAGE_SIZE=64", "COAP.PREFERRED_BLOCK_SIZE=64"];
    let Some(mut client) = Client::start_with("plain", &uri, None, &settings) else { return };
    server.wait_for(&["registered", "plain"]);
    // Without security a long message goes only to an address that has answered a short one.
    server.must("GET", "/devices/plain/objects/3/0", &Value::Null);
    let long = "0123456789".repeat(150);
    server.must("PUT", "/devices/plain/objects/3/0/14", &json!(long));
    client.wait_for(&format!("written /3/0/14 {long}"));
    let read = server.must("GET", "/devices/plain/objects/3/0/14", &Value::Null).to_string();
    assert!(read.contains(&long), "{read}");
    manage_through_rest(&mut server, &mut client, "plain");
    let [sent, asked] = blocks.each_ref().map(|count| count.load(Ordering::Relaxed));
    let least = long.len() / 64;
    assert!(sent >= least && asked >= least, "{sent} messages with Block1, {asked} with Block2");
    note(Role::Client, &[Feature::Blocks]);
}

#[test]
fn leshans_client_takes_its_accounts_from_our_server_registers_over_dtls_and_is_managed() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = ours::Server::start(&[]);
    let credentials = json!({
        "bootstrap": { "identity": BOOTSTRAP.identity, "key": BOOTSTRAP.key },
        "management": { "identity": MANAGEMENT.identity, "key": MANAGEMENT.key },
        "profile": { "server_uri": server.secure_uri(), "lifetime": 300, "binding": "U", "notification_storing": true },
    });
    server.must("PUT", "/devices/device/credentials", &credentials);
    let uri = server.secure_bootstrap_uri();
    let Some(mut client) = Client::bootstrap("device", &uri, Some(BOOTSTRAP)) else { return };
    client.wait_for("bootstrapped");
    client.wait_for("registered");
    server.wait_for(&["bootstrap-finished", "device"]);
    server.wait_for(&["registered", "device"]);
    manage_through_rest(&mut server, &mut client, "device");
    note(Role::Client, &[Feature::Psk, Feature::Coap, Feature::Observe, Feature::Lwm2m, Feature::Bootstrap]);
}

#[test]
fn leshans_client_with_an_unknown_identity_is_refused_by_our_server_with_a_reason_for_the_operator() {
    if peers::leshan().is_none() {
        return;
    }
    let mut server = ours::Server::start(&[]);
    let stranger = Psk { identity: "stranger", ..MANAGEMENT };
    let Some(_client) = Client::start("device", &server.secure_uri(), Some(stranger)) else { return };
    server.wait_for(&["handshake-refused", "stranger", "identity"]);
    assert_eq!(server.ask("GET", "/devices/device", &Value::Null).0, 404);
}
