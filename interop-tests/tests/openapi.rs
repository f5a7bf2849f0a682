//! The OpenAPI document of the HTTP interface, by programs that read such documents: openapi-spec-validator 0.9.0 and schemathesis
//! 4.32.5.

use std::path::{Path, PathBuf};
use std::process::Command;

use interop_tests::ours::{Client, Server, binary};
use interop_tests::peers::{self, Program};
use interop_tests::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What each answer is judged by: no failure of the server, and nothing that the document does not have.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

const DEVICES: [&str; 2] = ["device-1", "device-2"];
const PLACES: [&str; 7] = ["3/0", "3/0/0", "3/0/9", "1/0/1", "3303", "3303/0/5700", "3303/0/5605"];

fn document() -> Vec<u8> {
    let output = Command::new(binary("lwm2m-server", "lwm2m-server")).arg("openapi").output();
    let output = output.expect("the server prints its document");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, content).expect("a temporary file can be written");
    file
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

#[test]
fn the_document_is_one_of_openapi() {
    let Some(python) = peers::openapi() else { return };
    let folder = folder();
    let file = file(folder.path(), "openapi.json", &document());
    let output = python.command().args(["-m", "openapi_spec_validator"]).arg(&file).output();
    let output = output.expect("the validator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

/// The document for devices that are there. What is done to credentials, and the end of a registration, is for one that nobody
/// simulates. Streams, which have no end, are left out.
fn for_devices_that_are_there() -> Value {
    let mut document: Value = serde_json::from_slice(&document()).expect("a document is JSON");
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).expect("a document has paths");
    paths.retain(|path, _| !path.ends_with("/events") && !path.ends_with("/trace"));
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            let ends_it =
                path.contains("/credentials") || (method == "delete" && path.ends_with("{endpoint}"));
            let endpoints = if ends_it { json!(["spare"]) } else { json!(DEVICES) };
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten().filter_map(Value::as_object_mut) {
                let is_in_path = parameter.get("in").is_some_and(|place| place == "path");
                let known = match parameter.get("name").and_then(Value::as_str).filter(|_| is_in_path) {
                    Some("endpoint") => endpoints.clone(),
                    Some("path") => json!(PLACES),
                    _ => continue,
                };
                parameter.insert("schema".to_owned(), json!({ "enum": known }));
            }
        }
    }
    document
}

/// Asks a server whatever the document allows, and what it does not.
fn ask(python: &Program, server: &Server, mode: &str) {
    let folder = folder();
    let document = file(folder.path(), "document.json", for_devices_that_are_there().to_string().as_bytes());
    let (url, token) = server.api();
    let mut command = python.command();
    command.args(["-m", "schemathesis.cli", "run"]).arg(&document).args(["--url", &url, "--checks", CHECKS]);
    command.args(["--header", &format!("Authorization: Bearer {token}"), "--mode", mode]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"]);
    // Of what is text altogether there is next to nothing that the document does not allow.
    command.args(["--suppress-health-check", "filter_too_much", "--request-timeout", "20", "--no-color"]);
    command.args(["--generation-database", "none"]);
    let mut schemathesis = Process::spawn("schemathesis", command);
    assert_eq!(schemathesis.wait_for_exit(), Some(0), "{}", schemathesis.log());
}

#[test]
fn whatever_is_asked_is_answered_as_documented_and_nothing_is_a_failure_of_the_server() {
    let Some(python) = peers::openapi() else { return };
    let server = Server::start(&["--allow-nosec"]);
    let _devices = DEVICES.map(|name| Client::start(name, &server.uri(), None));
    for mode in ["positive", "negative"] {
        for name in DEVICES {
            server.until_read(name, "3/0/0");
        }
        ask(&python, &server, mode);
    }
}
