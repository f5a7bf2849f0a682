//! `kill -9` of the server at random points while credentials are written over HTTP: every acknowledged change is there
//! after the restart, and the store opens. 25 runs, or as many as `LWM2M_KILL_RUNS` says.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Served;
use lwm2m_server::credentials::Role;
use lwm2m_server::store::{RedbStore, Sealer, Store as _};
use serde_json::{Value, json};

/// What the server acknowledged of one device.
#[derive(Clone, Debug, Default)]
struct Acknowledged {
    /// Identity and key in hex of the last management credential that was given.
    given: Option<(String, String)>,
    hold: Option<&'static str>,
    /// A change was sent and not acknowledged: it may be there or not.
    is_uncertain: bool,
}

/// Method, route, body, and what is true once it is acknowledged.
type Act<'a> = (&'a str, String, Value, &'a dyn Fn(&mut Acknowledged));

/// Enrols, suspends, resumes and revokes until the server is gone.
fn write_until_killed(
    server: &Served,
    worker: usize,
    run: usize,
    known: &Mutex<BTreeMap<String, Acknowledged>>,
) {
    for count in 0_usize.. {
        let name = format!("device-{run}-{worker}-{count}");
        let route = |tail: &str| format!("/devices/{name}/credentials{tail}");
        let (identity, key) = (format!("id-{name}"), hex::encode([worker as u8 ^ count as u8 ^ 0x5a; 16]));
        let enrol = json!({ "management": { "identity": identity, "key": key } });
        let acts: [Act<'_>; 4] = [
            ("PUT", route(""), enrol, &|known| known.given = Some((identity.clone(), key.clone()))),
            ("POST", route("/suspend"), json!({ "reason": "test" }), &|known| known.hold = Some("suspended")),
            ("POST", route("/resume"), json!({}), &|known| known.hold = None),
            ("POST", route("/revoke"), json!({ "reason": "test" }), &|known| known.hold = Some("revoked")),
        ];
        // Every device ends in another state.
        for (method, route, body, apply) in acts.into_iter().take(1 + count % 4) {
            let change = |with: &dyn Fn(&mut Acknowledged)| {
                with(known.lock().unwrap().entry(name.clone()).or_default());
            };
            change(&|known| known.is_uncertain = true);
            match server.call(method, &route, Some(&body)) {
                None => return,
                Some((status, answer)) => {
                    assert!(status < 300, "{method} {route}: {status} {answer}");
                    change(&|known| {
                        apply(known);
                        known.is_uncertain = false;
                    });
                }
            }
        }
    }
}

fn check(server: &Served, known: &BTreeMap<String, Acknowledged>) {
    for (name, acknowledged) in known {
        let (status, answer) = server.call("GET", &format!("/devices/{name}/credentials"), None).unwrap();
        let Some((identity, _)) = &acknowledged.given else {
            assert!(acknowledged.is_uncertain, "{name}");
            continue;
        };
        assert_eq!(status, 200, "{name} was acknowledged and is lost");
        assert_eq!(
            answer.pointer("/management/credentials/0/identity"),
            Some(&json!(identity)),
            "{name}: {answer}"
        );
        if !acknowledged.is_uncertain {
            let hold = answer.pointer("/hold/kind").and_then(Value::as_str);
            assert_eq!(hold, acknowledged.hold, "{name}: {answer}");
        }
    }
}

#[test]
fn no_acknowledged_change_is_lost_by_kill_9() {
    let runs: usize = std::env::var("LWM2M_KILL_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let folder = tempfile::tempdir().unwrap();
    let known = Arc::new(Mutex::new(BTreeMap::new()));
    let mut seed = [0_u8; 8];
    getrandom::fill(&mut seed).unwrap();
    let mut random = u64::from_le_bytes(seed) | 1;
    for run in 0..runs {
        let server = Served::start(folder.path());
        check(&server, &known.lock().unwrap());
        // Anywhere from the first write to some dozens later (xorshift).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let until = Instant::now() + Duration::from_micros(random % 120_000);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (server, known) = (&server, Arc::clone(&known));
                scope.spawn(move || write_until_killed(server, worker, run, &known));
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            let pid = server.child.id().to_string();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        });
        drop(server);
    }
    let server = Served::start(folder.path());
    let known = known.lock().unwrap();
    check(&server, &known);
    server.kill();
    // The keys too: opened with the sealing key beside the store.
    let lock = RedbStore::lock(folder.path()).unwrap();
    let (sealer, _) = Sealer::find(folder.path(), None, None, true).unwrap();
    let store = RedbStore::open(folder.path(), lock, sealer).unwrap();
    let rows = store.verify_audit().unwrap();
    let mut keys = 0;
    for (name, acknowledged) in known.iter() {
        if let (Some((_, key)), false, None | Some("suspended")) =
            (&acknowledged.given, acknowledged.is_uncertain, acknowledged.hold)
        {
            let stored = store.secret(name, Role::Management, 1).unwrap().unwrap();
            assert_eq!(hex::encode(stored.bytes()), *key, "{name}");
            keys += 1;
        }
    }
    println!("{runs} kills, {} devices, {keys} keys, {rows} audit rows", known.len());
    assert!(known.len() > runs, "the kills came after some writes");
}
