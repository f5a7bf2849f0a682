//! Tokens of the HTTP interface: made, limited to devices, expired, revoked, and what they leave behind.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Client, Served};
use lwm2m_server::api::now_ms;
use serde_json::{Value, json};

/// A client with a token made for it.
fn made(served: &Served, body: &Value) -> Client {
    let (status, made) = served.call("POST", "/tokens", Some(body)).unwrap();
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    served.client.with(token)
}

fn enrol(client: &Client, name: &str) -> u16 {
    let body = json!({ "bootstrap": { "generate": true } });
    client.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap().0
}

/// The answer to a request that is not let in: status, `WWW-Authenticate` and problem.
fn refused(client: &Client, method: &str, route: &str) -> (u16, String, Value) {
    let mut response = client.send(method, &format!("/api/v1{route}"), None).unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let problem = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    (response.status().as_u16(), challenge, problem)
}

#[test]
fn a_token_is_good_for_its_role_until_it_is_revoked_also_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let officer = made(&served, &json!({ "name": "keys", "role": "security-officer" }));
    let operator = made(&served, &json!({ "name": "ops", "role": "operator" }));
    assert_eq!(enrol(&officer, "meter-1"), 201);
    assert_eq!(officer.call("DELETE", "/devices/meter-1", None).unwrap().0, 403);
    assert_eq!(operator.call("DELETE", "/devices/meter-1", None).unwrap().0, 404, "not registered");
    let (status, challenge, problem) = refused(&operator, "POST", "/devices/meter-1/credentials/suspend");
    assert_eq!((status, challenge.as_str()), (403, "Bearer error=\"insufficient_scope\""));
    assert_eq!(problem["permission"], "credentials");
    assert_eq!(problem["roles"], json!(["security-officer", "administrator"]));

    let (_, tokens) = served.call("GET", "/tokens", None).unwrap();
    let names: Vec<&str> =
        tokens["tokens"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "keys", "ops"]);
    assert!(!tokens.to_string().contains(&operator.token));
    assert_eq!(operator.call("GET", "/tokens", None).unwrap().0, 403);
    let (_, shown) = served.call("GET", "/tokens/ops", None).unwrap();
    assert_eq!(shown["made_by"], "token:admin", "{shown}");

    let addresses = served.addresses.clone();
    served.kill();
    // What lies on disk opens nothing.
    let store = std::fs::read(folder.path().join("store.redb")).unwrap();
    assert!(!store.windows(64).any(|window| window == operator.token.as_bytes()));
    let served = Served::start_again(folder.path(), &addresses);
    assert_eq!(operator.call("GET", "/devices/meter-1", None).unwrap().0, 200);
    assert_eq!(served.call("DELETE", "/tokens/ops", None).unwrap().0, 204);
    let (status, challenge, _) = refused(&operator, "GET", "/devices/meter-1");
    assert_eq!((status, challenge.as_str()), (401, "Bearer error=\"invalid_token\""));
    let nobody = served.client.with("");
    let (_, challenge, _) = refused(&nobody, "GET", "/devices/meter-1");
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    let (status, _, problem) = refused(&served.client, "DELETE", "/tokens/admin");
    assert_eq!(status, 409, "{problem}");

    let (_, audit) = served.call("GET", "/audit", None).unwrap();
    let rows: Vec<String> = audit["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["what"].as_str().unwrap().starts_with("token"))
        .map(|row| format!("{} {} {}", row["actor"], row["what"], row["detail"]))
        .collect();
    assert_eq!(
        rows,
        [
            "\"server\" \"token made\" \"admin (administrator)\"",
            "\"token:admin\" \"token made\" \"keys (security-officer)\"",
            "\"token:admin\" \"token made\" \"ops (operator)\"",
            "\"token:admin\" \"token revoked\" \"ops (operator)\"",
        ]
    );
}

#[test]
fn a_token_with_a_scope_sees_and_acts_on_its_devices_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for name in ["meter-1", "meter-2", "pump-1"] {
        assert_eq!(enrol(&served.client, name), 201);
    }
    let body = json!({ "name": "meters", "role": "administrator", "scope": ["meter-*"] });
    let meters = made(&served, &body);
    let get = |route: &str| meters.call("GET", route, None).unwrap();

    let (_, list) = get("/devices?limit=1");
    assert_eq!((&list["devices"][0]["endpoint"], &list["next"]), (&json!("meter-1"), &json!("meter-1")));
    let (_, list) = get("/devices?cursor=meter-1");
    assert_eq!(list["devices"].as_array().unwrap().len(), 1, "{list}");
    // One that is there and one that is not are told alike.
    let [there, not] = ["pump-1", "pump-9"].map(|name| {
        let (status, problem) = get(&format!("/devices/{name}/credentials"));
        (status, problem["detail"].as_str().unwrap().replace(name, "NAME"))
    });
    assert!(there.0 == 404 && there == not, "{there:?} {not:?}");
    assert_eq!((enrol(&meters, "meter-3"), enrol(&meters, "pump-2")), (201, 404));
    // Nor does a refusal tell whose an identity is.
    let key = "000102030405060708090a0b0c0d0e0f";
    let account = json!({ "management": { "identity": "taken", "key": key } });
    let enrol_account = |client: &Client, name: &str| {
        client.call("PUT", &format!("/devices/{name}/credentials"), Some(&account)).unwrap()
    };
    assert_eq!(enrol_account(&served.client, "pump-5").0, 201);
    let (status, problem) = enrol_account(&meters, "meter-5");
    assert!(status == 409 && !problem.to_string().contains("pump-5"), "{problem}");
    let (status, problem) = enrol_account(&served.client, "meter-5");
    assert!(status == 409 && problem.to_string().contains("pump-5"), "{problem}");
    let (_, audit) = get("/audit");
    let of: Vec<&str> =
        audit["rows"].as_array().unwrap().iter().map(|row| row["endpoint"].as_str().unwrap()).collect();
    assert!(of.iter().all(|name| name.starts_with("meter-")) && of.contains(&"meter-3"), "{audit}");
    for route in ["/audit?endpoint=pump-1", "/events?endpoint=pump-1", "/devices/pump-1/trace"] {
        assert_eq!(get(route).0, 404, "{route}");
    }
    for route in ["/metrics", "/server-keys"] {
        let (status, problem) = get(route);
        assert_eq!(status, 403, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("meter-*"), "{problem}");
    }

    let mut events = meters.stream("/events", Duration::from_secs(30));
    for name in ["pump-3", "meter-4"] {
        assert_eq!(enrol(&served.client, name), 201);
    }
    let told: Vec<String> =
        events.by_ref().map(Result::unwrap).take_while(|line| !line.contains("meter-4")).collect();
    assert!(!told.iter().any(|line| line.contains("pump")), "{told:?}");

    // Nor does it make, see or revoke a token of others.
    for scope in [json!(null), json!(["*"]), json!(["meter-1", "pump-1"])] {
        let body = json!({ "name": "wider", "role": "viewer", "scope": scope });
        assert_eq!(meters.call("POST", "/tokens", Some(&body)).unwrap().0, 403, "{body}");
    }
    let body = json!({ "name": "narrower", "role": "viewer", "scope": ["meter-1*"] });
    assert_eq!(meters.call("POST", "/tokens", Some(&body)).unwrap().0, 201);
    let (_, tokens) = get("/tokens");
    assert_eq!(tokens["tokens"].as_array().unwrap().len(), 2, "{tokens}");
    assert_eq!(meters.call("DELETE", "/tokens/admin", None).unwrap().0, 404);
}

#[test]
fn a_stream_ends_when_its_token_is_revoked_or_expires() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    assert_eq!(enrol(&served.client, "meter-1"), 201);
    let expires_ms = now_ms().saturating_add(6000);
    let passing = made(&served, &json!({ "name": "passing", "role": "viewer", "expires_ms": expires_ms }));
    let revoked = made(&served, &json!({ "name": "revoked", "role": "viewer" }));
    let lasting = made(&served, &json!({ "name": "lasting", "role": "viewer" }));
    let limit = Duration::from_secs(60);
    let mut events = revoked.stream("/events", limit);
    let mut trace = revoked.stream("/devices/meter-1/trace", limit);
    let mut short = passing.stream("/events", limit);
    let mut long = lasting.stream("/events", limit).map(Result::unwrap);

    assert_eq!(served.call("DELETE", "/tokens/revoked", None).unwrap().0, 204);
    let began = Instant::now();
    assert!(events.all(|line| line.is_ok()) && trace.all(|line| line.is_ok()));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(short.all(|line| line.is_ok()));
    let late = now_ms().checked_sub(expires_ms).unwrap();
    assert!(late < 2000, "{late}");
    assert_eq!(enrol(&served.client, "meter-2"), 201);
    assert!(long.any(|line| line.contains("meter-2")));

    let (status, challenge, problem) = refused(&passing, "GET", "/devices");
    assert_eq!((status, challenge.as_str()), (401, "Bearer error=\"invalid_token\""));
    assert!(problem["detail"].as_str().unwrap().contains("expired at"), "{problem}");
}

#[test]
fn a_token_that_is_revoked_while_the_body_of_its_request_is_on_its_way_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let officer = made(&served, &json!({ "name": "keys", "role": "security-officer" }));
    let body = json!({ "bootstrap": { "generate": true } }).to_string();
    let mut connection = TcpStream::connect(&served.client.http).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (first, rest) = body.split_at(3);
    write!(
        connection,
        "PUT /api/v1/devices/late/credentials HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        officer.token,
        body.len()
    )
    .unwrap();
    // The server asks for the body: the token was good.
    let mut answers = BufReader::new(connection.try_clone().unwrap());
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    connection.write_all(first.as_bytes()).unwrap();
    assert_eq!(served.call("DELETE", "/tokens/keys", None).unwrap().0, 204);
    connection.write_all(rest.as_bytes()).unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 401"), "{line}");
    assert_eq!(served.call("GET", "/devices/late", None).unwrap().0, 404);
}

#[test]
fn many_wrong_tokens_are_limited_and_good_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let wrong = served.client.with("wrong");
    let status = |client: &Client| client.call("GET", "/devices", None).unwrap().0;
    let limited = (0..1000).position(|_| status(&wrong) == 429).unwrap();
    assert!(limited >= 100, "{limited}");
    assert_eq!(status(&served.client), 200);
    let (_, metrics) = served.call("GET", "/metrics", None).unwrap();
    let counted = metrics.as_str().unwrap().lines().find(|line| line.starts_with("lwm2m_wrong_tokens_total"));
    assert_eq!(counted.unwrap(), format!("lwm2m_wrong_tokens_total {}", limited.saturating_add(1)));
}

#[test]
fn every_wrong_request_for_a_token_is_answered_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    for (body, status, reason) in [
        (json!({ "role": "viewer" }), 400, "missing field `name`"),
        (json!({ "name": "a", "role": "boss" }), 400, "unknown variant `boss`"),
        (json!({ "name": "a", "role": "viewer", "scopes": ["a"] }), 400, "unknown field `scopes`"),
        (json!({ "name": "a", "role": "viewer", "scope": [] }), 400, "all devices without a scope"),
        (json!({ "name": "a\n", "role": "viewer" }), 400, "printable"),
        (json!({ "name": "a", "role": "viewer", "expires_ms": 1 }), 400, "after now"),
        (json!({ "name": "admin", "role": "viewer" }), 409, "there is a token 'admin'"),
    ] {
        let (found, problem) = served.call("POST", "/tokens", Some(&body)).unwrap();
        assert_eq!(found, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{body}: {problem}");
    }
    assert_eq!(served.call("GET", "/tokens/nobody", None).unwrap().0, 404);
    assert_eq!(served.call("DELETE", "/tokens/nobody", None).unwrap().0, 404);
}

#[test]
fn lwm2mctl_makes_lists_and_revokes_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let said = |arguments: &[&str]| {
        let output = served.ctl(arguments);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    };
    let make = ["tokens", "make", "ci", "--role", "operator", "--scope", "meter-*", "--scope", "pump-1"];
    let (code, token, err) = said(&[&make[..], &["--expires", "90d"]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let client = served.client.with(token.trim_end());
    assert_eq!((token.len(), client.call("GET", "/devices", None).unwrap().0), (65, 200));
    let (_, table, _) = said(&["tokens", "list"]);
    let row = table.lines().find(|line| line.starts_with("ci ")).unwrap();
    assert!(
        row.contains("operator") && row.contains("meter-* pump-1") && row.contains("token:admin"),
        "{table}"
    );
    assert!(table.contains("all devices") && !table.contains(client.token.as_str()), "{table}");
    let (_, json, _) = said(&["tokens", "list", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let days = json["tokens"][1]["expires_ms"].as_u64().unwrap().saturating_sub(now_ms()) / 86_400_000;
    assert!((89..=90).contains(&days), "{json}");
    assert_eq!(said(&["tokens", "revoke", "ci"]), (Some(0), "ci revoked\n".to_owned(), String::new()));
    assert_eq!(client.call("GET", "/devices", None).unwrap().0, 401);
    for (arguments, code, reason) in [
        (&["tokens", "revoke", "ci"][..], 1, "there is no token 'ci'"),
        (&["tokens", "make", "x", "--role", "boss"], 2, "security-officer"),
        (&["tokens", "make", "x", "--role", "viewer", "--expires", "soon"], 2, "is no duration"),
        (&["tokens", "make", "x", "--role", "viewer", "--scope", ""], 2, "is no pattern"),
    ] {
        let (found, _, err) = said(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(reason), "{arguments:?}: {err}");
    }
}
