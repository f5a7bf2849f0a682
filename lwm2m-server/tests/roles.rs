//! Each operation of the served OpenAPI document, asked without a token, with a wrong one, an expired one, and with each role.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;

use common::{Client, Served};
use lwm2m_server::access::TokenRole;
use lwm2m_server::api::now_ms;
use serde_json::{Value, json};

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    described: Value,
}

impl Operation {
    /// Its path, with a device that is enrolled.
    fn filled(&self) -> String {
        let filled = self.path.replace("{endpoint}", "one").replace("{path}", "3/0/0");
        filled.replace("{id}", "1").replace("{name}", "nobody")
    }

    fn says(&self, what: &str) -> &str {
        self.described[what].as_str().unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.described["security"] == json!([])
    }
}

/// What was answered.
struct Answer {
    status: u16,
    challenge: String,
    problem: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, described)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            described: described.clone(),
        })
    });
    operations.collect()
}

/// Asks for it; what is answered is among what is documented.
fn ask(client: &Client, operation: &Operation, who: &str) -> Answer {
    let (method, path) = (&operation.method, &operation.path);
    let mut response = client.send(method, &operation.filled(), None).unwrap();
    let status = response.status().as_u16();
    assert!(
        operation.described["responses"][status.to_string()].is_object(),
        "{method} {path} {who}: {status}"
    );
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    // Streams have no end.
    let problem = match status {
        400.. => serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap(),
        _ => Value::Null,
    };
    Answer { status, challenge, problem }
}

fn made(served: &Served, name: &str, role: TokenRole, rest: &Value) -> Client {
    let mut body = json!({ "name": name, "role": role });
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let (status, made) = served.call("POST", "/tokens", Some(&body)).unwrap();
    assert_eq!(status, 201, "{made}");
    served.client.with(made["token"].as_str().unwrap())
}

#[test]
fn each_operation_answers_each_caller_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let body = json!({ "bootstrap": { "generate": true } });
    assert_eq!(served.call("PUT", "/devices/one/credentials", Some(&body)).unwrap().0, 201);
    let mut document = served.client.send("GET", "/api/openapi.json", None).unwrap();
    let document = serde_json::from_str(&document.body_mut().read_to_string().unwrap()).unwrap();
    let operations = operations(&document);
    assert!(operations.len() > 40, "{}", operations.len());

    let admin = TokenRole::Administrator;
    let expired = made(&served, "expired", admin, &json!({ "expires_ms": now_ms().saturating_add(500) }));
    let scoped = made(&served, "scoped", admin, &json!({ "scope": ["other-*"] }));
    let roles = TokenRole::ALL.map(|role| (role, made(&served, role.as_str(), role, &json!({}))));
    while expired.call("GET", "/devices", None).unwrap().0 != 401 {}
    let wrong = served.client.with(&"0".repeat(64));
    let none = served.client.with("");

    for operation in &operations {
        let Operation { method, path, .. } = operation;
        if operation.is_open() {
            assert!(path.starts_with("/api/v1/health"), "{path}");
            assert_eq!(ask(&none, operation, "no token").status, 200);
            continue;
        }
        let invalid = "Bearer error=\"invalid_token\"";
        for (client, who, challenge, detail) in [
            (&none, "no token", "Bearer", "Authorization"),
            (&wrong, "wrong", invalid, "none of this server"),
            (&expired, "expired", invalid, "expired at"),
        ] {
            let answer = ask(client, operation, who);
            assert_eq!((answer.status, answer.challenge.as_str()), (401, challenge), "{method} {path} {who}");
            assert!(answer.problem["detail"].as_str().unwrap().contains(detail), "{method} {path} {who}");
        }
        let permission = operation.says("x-permission");
        for (role, client) in &roles {
            let may = match permission {
                "view" => true,
                "operate" => matches!(role, TokenRole::Operator | TokenRole::Administrator),
                "credentials" => matches!(role, TokenRole::SecurityOfficer | TokenRole::Administrator),
                "campaigns" => *role != TokenRole::Viewer,
                "administer" => *role == TokenRole::Administrator,
                other => unreachable!("{other}"),
            };
            let answer = ask(client, operation, role.as_str());
            if may {
                assert!(!matches!(answer.status, 401 | 403), "{method} {path} {role}: {}", answer.problem);
                continue;
            }
            let challenge = "Bearer error=\"insufficient_scope\"";
            assert_eq!(
                (answer.status, answer.challenge.as_str()),
                (403, challenge),
                "{method} {path} {role}"
            );
            assert_eq!(answer.problem["permission"], permission, "{method} {path} {role}");
            let roles = answer.problem["roles"].as_array().unwrap();
            assert!(roles.contains(&json!("administrator")) && !roles.contains(&json!(role)));
        }
        let answer = ask(&scoped, operation, "scoped to others");
        match operation.says("x-reach") {
            "device" => {
                assert_eq!(answer.status, 404, "{method} {path}");
                assert!(answer.problem["detail"].as_str().unwrap().contains("other-*"), "{method} {path}");
            }
            "fleet" => assert_eq!(answer.status, 403, "{method} {path}"),
            "own" => assert!(!matches!(answer.status, 401 | 403), "{method} {path}"),
            other => unreachable!("{other}"),
        }
    }
}

#[test]
fn what_changes_something_is_not_for_viewers_and_what_is_shown_is_for_everybody_but_tokens() {
    let document = serde_json::to_value(lwm2m_server::api::document()).unwrap();
    for Operation { method, path, described } in operations(&document) {
        let is_view = described["x-permission"] == "view";
        let is_look = method == "GET" && !path.contains("/tokens");
        assert_eq!(is_view || described["security"] == json!([]), is_look, "{method} {path}");
        let is_of_credentials = method != "GET"
            && (path.contains("/credentials") || path.contains("/bootstrap/") || path.ends_with("/profile"));
        assert_eq!(described["x-permission"] == "credentials", is_of_credentials, "{method} {path}");
        let is_of_many = path.contains("/campaigns") || path.contains("/groups");
        let is_of_campaigns = method != "GET" && is_of_many;
        assert_eq!(described["x-permission"] == "campaigns", is_of_campaigns, "{method} {path}");
        let is_of_all = path.contains("/tokens")
            || (method != "GET" && ["/models", "/backup"].iter().any(|end| path.ends_with(end)));
        assert_eq!(described["x-permission"] == "administer", is_of_all, "{method} {path}");
        let is_of_a_device = path.contains("/devices/{endpoint}");
        assert_eq!(described["x-reach"] == "device", is_of_a_device, "{method} {path}");
    }
}
