//! `kill -9` of the server at random points while credentials are written over HTTP: every acknowledged change is there
//! after the restart, nothing is there by half, and the store opens. 25 runs, or as many as `LWM2M_KILL_RUNS` says.
//!
//! Among what is cut short are rotations between the modes: staged, rolled back after their deadline, and, where a device proved
//! the new credential between two runs, completed after the grace time.
//!
//! A point is a number of write calls of the process, so that a kill falls between two writes of one transaction as often
//! as between two transactions.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use common::{Client, Served, serve_arguments};
use lwm2m_server::api::now_ms;
use lwm2m_server::credentials::{
    Account, Authenticated, Credential, Credentials, Device, Enrol, EnrolAccount, Fact, HoldKind, Identity,
    Key, KeyMaterial, Phase, PrivateKey, Role, ServerPublic, Settings, Standing, State, pem,
};
use lwm2m_server::store::{AuditRow, RedbStore, Sealer, Store};
use serde_json::{Value, json};

/// Devices of each worker whose credential is in use, so that it can be rotated.
const READY: usize = 6;
const WORKERS: usize = 3;
const MODES: [&str; 3] = ["psk", "rpk", "x509"];

/// What the server acknowledged of one device.
#[derive(Clone, Debug, Default)]
struct Acknowledged {
    /// Generation, identity and key in hex of management credentials; of those drawn by the server no key is known.
    credentials: Vec<(u32, String, Option<String>)>,
    /// The reasons given with suspensions, rotations and so on: each has its audit rows.
    reasons: Vec<String>,
    hold: Option<HoldKind>,
    lifetime: Option<u32>,
    /// A change was sent and not acknowledged: it may be there or not.
    is_uncertain: bool,
}

type Known = Mutex<BTreeMap<String, Acknowledged>>;

/// Writes by one worker until the server is gone.
struct Worker<'a> {
    client: &'a Client,
    known: &'a Known,
    run: usize,
    number: usize,
}

impl Worker<'_> {
    fn work(&self) {
        let _ = (0_usize..).try_for_each(|count| {
            self.rotate(&format!("ready-{}-{}", self.number, count % READY), count)?;
            self.live(&format!("device-{}-{}-{count}", self.run, self.number), count)
        });
    }

    /// A rotation to another mode or within one: the server rolls it back at the first tick after its deadline, unless that is far.
    fn rotate(&self, name: &str, count: usize) -> Option<()> {
        let reason = self.reason("rotate", count);
        // Each device is asked for each mode.
        let mode = MODES[(count + count / READY + self.run) % MODES.len()];
        let deadline = if (count / 2 + self.run).is_multiple_of(2) { 1 } else { 600 };
        let body = json!({ "mode": mode, "deadline": deadline, "grace": 1, "reason": reason });
        let (status, answer) = self.send(name, "POST", "/rotate", &body)?;
        if status == 409 {
            assert!(answer.to_string().contains("under way"), "{answer}");
            self.acknowledge(name, |_| ());
            return Some(());
        }
        assert_eq!((status, answer["mode"].as_str()), (202, Some(mode)), "{answer}");
        let generation = answer["generation"].as_u64().and_then(|number| number.try_into().ok()).unwrap();
        let identity = answer["identity"].as_str().unwrap().to_owned();
        self.acknowledge(name, |known| {
            known.credentials.push((generation, identity, None));
            known.reasons.push(reason);
        });
        Some(())
    }

    /// The life of a new device; every one ends in another state.
    fn live(&self, name: &str, count: usize) -> Option<()> {
        for step in 0..1 + count % 7 {
            let identity = format!("id-{name}-{step}");
            let key = hex::encode([self.number as u8 ^ count as u8 ^ step as u8 ^ 0x5a; 16]);
            let enrol = json!({ "management": { "identity": identity, "key": key } });
            let given = (1 + u32::from(step == 5), identity, Some(key));
            let reason = self.reason(name, step);
            let with_reason = json!({ "reason": reason });
            let (method, tail, body) = match step {
                0 | 5 => ("PUT", "", &enrol),
                1 => ("PUT", "", &json!({ "profile": { "lifetime": 77 } })),
                2 | 6 => ("POST", "/suspend", &with_reason),
                3 => ("POST", "/resume", &with_reason),
                _ => ("POST", "/revoke", &with_reason),
            };
            let (status, answer) = self.send(name, method, tail, body)?;
            assert!(status < 300, "{name} step {step}: {status} {answer}");
            self.acknowledge(name, |known| {
                match step {
                    0 | 5 => known.credentials.push(given),
                    1 => known.lifetime = Some(77),
                    _ => known.reasons.push(reason),
                }
                known.hold = match step {
                    2 | 6 => Some(HoldKind::Suspended),
                    4 => Some(HoldKind::Revoked),
                    _ => None,
                };
            });
        }
        Some(())
    }

    fn reason(&self, what: &str, count: usize) -> String {
        format!("{what} {count} of worker {} in run {}", self.number, self.run)
    }

    fn send(&self, name: &str, method: &str, tail: &str, body: &Value) -> Option<(u16, Value)> {
        self.known.lock().unwrap().entry(name.to_owned()).or_default().is_uncertain = true;
        self.client.call(method, &format!("/devices/{name}/credentials{tail}"), Some(body))
    }

    fn acknowledge(&self, name: &str, change: impl FnOnce(&mut Acknowledged)) {
        let mut known = self.known.lock().unwrap();
        let device = known.get_mut(name).unwrap();
        change(device);
        device.is_uncertain = false;
    }
}

/// What the server has for devices with raw public keys and certificates, and the arguments that it is started with.
fn configured(data: &Path) -> (ServerPublic, Vec<String>) {
    let key = PrivateKey::generate().unwrap();
    let certificate = key.self_signed("server", 0).unwrap();
    let [key_file, certificate_file, configuration] =
        ["server.key.pem", "server.pem", "server.toml"].map(|name| data.join(name));
    fs::write(&key_file, pem("PRIVATE KEY", &key.pkcs8()).as_bytes()).unwrap();
    fs::write(&certificate_file, pem("CERTIFICATE", &certificate).as_bytes()).unwrap();
    let text = format!("[[server_keys]]\nprivate_key = {key_file:?}\ncertificate = {certificate_file:?}\n");
    fs::write(&configuration, text).unwrap();
    let own = ServerPublic {
        raw_public_key: key.public_key(),
        certificate: Some(certificate),
        ..ServerPublic::default()
    };
    let more = ["--config".to_owned(), configuration.display().to_string()];
    (own, serve_arguments(data).into_iter().chain(more).collect())
}

/// The names of the devices whose credentials can be rotated.
fn ready() -> impl Iterator<Item = String> {
    (0..WORKERS).flat_map(|worker| (0..READY).map(move |index| format!("ready-{worker}-{index}")))
}

/// The credentials in a data folder that no server runs on.
fn open(data: &Path) -> Credentials {
    let lock = RedbStore::lock(data).unwrap();
    let is_there = RedbStore::exists(data);
    let (sealer, _) = Sealer::find(data, None, None, is_there).unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(data, lock, sealer).unwrap());
    Credentials::open(store, Settings::default()).unwrap()
}

/// Devices whose credentials are in use, as if they had registered.
fn prepare(data: &Path) {
    let credentials = open(data);
    for name in ready() {
        let identity = Identity::new(name.as_bytes()).unwrap();
        let key = KeyMaterial::Given { identity, key: Key::generate().unwrap() };
        let accounts = vec![EnrolAccount { role: Role::Bootstrap, key }];
        credentials.enrol(1, "test", &name, &Enrol { accounts, ..Enrol::default() }).unwrap();
        let who = Authenticated::new(name.as_str().into(), Role::Management, 1);
        credentials.report(2, &Fact::Handshake { who: who.clone(), full: true }).unwrap();
        credentials.report(3, &Fact::Registered { who }).unwrap();
    }
}

/// Every other device with a rotation under way fetches the new credential and proves it, those or the others. Answers how many did
/// for each mode.
fn prove(data: &Path, own: &ServerPublic, first: usize) -> [usize; MODES.len()] {
    let credentials = open(data);
    credentials.set_server_keys(Role::Management, own.clone());
    let mut proven = [0; MODES.len()];
    for name in ready().skip(first).step_by(2) {
        let device = credentials.device(&name).unwrap();
        let account = device.management.as_ref().unwrap();
        let State::Rotating(rotation) = &account.state else { continue };
        if rotation.phase == Phase::Proven {
            continue;
        }
        let (endpoint, now, to): (Arc<str>, _, _) = (name.as_str().into(), now_ms(), rotation.to);
        let bootstrap = Authenticated::new(Arc::clone(&endpoint), Role::Bootstrap, 1);
        let plan = credentials.bootstrap_plan(now, &bootstrap).unwrap();
        assert_eq!(plan.generation, to);
        let who = Authenticated::new(Arc::clone(&endpoint), Role::Management, to);
        for fact in [
            Fact::BootstrapDelivered { endpoint, generation: to },
            Fact::Handshake { who: who.clone(), full: true },
            Fact::Registered { who },
        ] {
            credentials.report(now, &fact).unwrap();
        }
        let mode = account.credential(to).unwrap().subject.mode();
        proven[MODES.iter().position(|name| *name == mode.as_str()).unwrap()] += 1;
    }
    proven
}

/// Looks into a copy of the data folder, so that the server finds it as the kill left it. Answers how many keys and audit
/// rows there are.
fn check(data: &Path, known: &BTreeMap<String, Acknowledged>) -> (usize, u64) {
    let copy = tempfile::tempdir().unwrap();
    for file in ["store.redb", "secrets.key"] {
        fs::copy(data.join(file), copy.path().join(file)).unwrap();
    }
    let lock = RedbStore::lock(copy.path()).unwrap();
    let (sealer, _) = Sealer::find(copy.path(), None, None, true).unwrap();
    let store = RedbStore::open(copy.path(), lock, sealer).unwrap();
    let rows = store.verify_audit().unwrap();
    let devices: BTreeMap<String, Device> =
        store.devices().unwrap().into_iter().map(|device| (device.endpoint.clone(), device)).collect();
    for (name, acknowledged) in known {
        match devices.get(name) {
            Some(device) => has_everything(&store, device, acknowledged),
            None => assert!(acknowledged.credentials.is_empty(), "{name} was acknowledged and is lost"),
        }
    }
    let keys = devices.values().map(|device| is_whole(&store, device)).sum();
    (keys, rows)
}

/// Nothing that was acknowledged is missing.
fn has_everything(store: &RedbStore, device: &Device, acknowledged: &Acknowledged) {
    let name = &device.endpoint;
    let account = device.management.as_ref().unwrap();
    for (generation, identity, key) in &acknowledged.credentials {
        let credential = account.credential(*generation).unwrap();
        assert_eq!(credential.subject.to_string(), *identity, "{name}");
        if let Some(key) = key.as_ref().filter(|_| credential.standing == Standing::Accepted) {
            let stored = store.secret(name, Role::Management, *generation).unwrap().unwrap();
            assert_eq!(hex::encode(stored.psk().unwrap().bytes()), *key, "{name}");
        }
    }
    let rows = store.audit(Some(name), Some(0), 1000).unwrap();
    for reason in &acknowledged.reasons {
        assert!(rows.iter().any(|row| row.detail == *reason), "{name}: no row tells of '{reason}'");
    }
    if !acknowledged.is_uncertain {
        assert_eq!(device.hold.as_ref().map(|hold| hold.kind), acknowledged.hold, "{name}");
        assert_eq!(device.profile.lifetime, acknowledged.lifetime, "{name}");
    }
}

/// Record, keys and audit rows of a device tell the same: a change is there with all its parts, or not at all.
fn is_whole(store: &RedbStore, device: &Device) -> usize {
    let name = &device.endpoint;
    let rows = store.audit(Some(name), Some(0), 1000).unwrap();
    let mut keys = 0;
    for role in Role::ALL {
        let credentials = device.account(role).map_or(&[][..], |Account { credentials, .. }| credentials);
        let told =
            |row: &&AuditRow| row.role == Some(role) && ["enrolled", "staged"].contains(&row.what.as_str());
        assert_eq!(rows.iter().filter(told).count(), credentials.len(), "{name}: {role} {rows:?}");
        for credential in credentials {
            let is_accepted = credential.standing == Standing::Accepted;
            let key = store.secret(name, role, credential.generation).unwrap();
            assert_eq!(key.is_some(), is_accepted, "{name}: {role} {}", credential.generation);
            keys += usize::from(is_accepted);
        }
    }
    if let Some(account) = &device.management {
        is_usable(name, account, &rows);
    }
    let hold = rows.iter().fold(None, |hold, row| match row.what.as_str() {
        "suspended" => Some(HoldKind::Suspended),
        "revoked" => Some(HoldKind::Revoked),
        "resumed" | "enrolled" => None,
        _ => hold,
    });
    assert_eq!(device.hold.as_ref().map(|hold| hold.kind), hold, "{name}: {rows:?}");
    let told = rows.iter().any(|row| row.what == "profile");
    assert_eq!(device.profile.lifetime.is_some(), told, "{name}: {rows:?}");
    keys
}

/// A device is never left without a credential, nor with more of them than its rotation has, and none is retired before the next
/// one was proven.
fn is_usable(name: &str, account: &Account, rows: &[AuditRow]) {
    let accepted: Vec<u32> = account
        .credentials
        .iter()
        .filter(|credential| credential.standing == Standing::Accepted)
        .map(|credential| credential.generation)
        .collect();
    let expected = match &account.state {
        State::Rotating(rotation) | State::Unreachable(rotation) => vec![rotation.from, rotation.to],
        State::Revoked => Vec::new(),
        _ => vec![account.current],
    };
    assert_eq!(accepted, expected, "{name}: {:?}", account.state);
    let place = |generation: u32, what: &str| {
        rows.iter().position(|row| {
            row.role == Some(Role::Management) && row.generation == Some(generation) && row.what == what
        })
    };
    for credential in account.credentials.iter().filter(|one| one.standing == Standing::Retired) {
        let retired = place(credential.generation, "old retired").unwrap();
        let is_proven = |next: &&Credential| {
            next.generation > credential.generation
                && place(next.generation, "proven").is_some_and(|proven| proven < retired)
                && place(next.generation, "in use").is_some_and(|in_use| in_use > retired)
        };
        assert!(account.credentials.iter().any(|next| is_proven(&next)), "{name}: {rows:?}");
    }
}

/// How many write calls a process has made; `None` when it is gone.
fn writes(child: &Child) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{}/io", child.id())).ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscw: "))?.parse().ok()
}

/// Kills a process once it has made so many write calls, or has ended.
fn kill_at(child: &mut Child, point: u64) {
    while writes(child).is_some_and(|writes| writes < point) && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Random numbers (xorshift).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        Self(u64::from_le_bytes(seed) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn runs() -> usize {
    std::env::var("LWM2M_KILL_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

#[test]
fn no_acknowledged_change_is_lost_by_kill_9_and_none_is_there_by_half() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (own, arguments) = configured(folder.path());
    let known = Known::default();
    let mut random = Random::new();
    let mut proven = [0; MODES.len()];
    for run in 0..runs() {
        let mut server = Served::start_with(folder.path(), &arguments);
        // Anywhere from before the first change to some dozens later.
        let point = writes(&server.child).unwrap() + random.below(600);
        let client = server.client.clone();
        std::thread::scope(|scope| {
            for number in 0..WORKERS {
                let (client, known) = (&client, &known);
                scope.spawn(move || Worker { client, known, run, number }.work());
            }
            kill_at(&mut server.child, point);
        });
        check(folder.path(), &known.lock().unwrap());
        // The others find the store as the kill left it.
        if run % 2 == 1 {
            let some = prove(folder.path(), &own, run / 2 % 2);
            proven.iter_mut().zip(some).for_each(|(all, some)| *all += some);
        }
    }
    Served::start_with(folder.path(), &arguments).kill();
    let known = known.into_inner().unwrap();
    let (keys, rows) = check(folder.path(), &known);
    let uncertain = known.values().filter(|device| device.is_uncertain).count();
    println!(
        "{} kills, {uncertain} in the midst of a change, {} devices, {keys} keys, {rows} audit rows, proven {MODES:?} {proven:?}",
        runs(),
        known.len()
    );
    assert!(uncertain > 0, "kills came in the midst of a change");
    assert!(proven.iter().all(|count| *count > 0), "devices went to each mode: {proven:?}");
    let has_rotated =
        |device: &&Acknowledged| device.reasons.iter().any(|reason| reason.starts_with("rotate"));
    assert!(
        known.values().filter(has_rotated).count() > 0 && known.len() > runs(),
        "kills came after some changes"
    );
}

#[test]
fn a_first_start_that_is_cut_short_by_kill_9_is_made_good_by_the_next() {
    let mut random = Random::new();
    let whole = writes(&Served::start(tempfile::tempdir().unwrap().path()).child).unwrap();
    for _ in 0..runs() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = common::binary(env!("CARGO_BIN_EXE_lwm2m-server"))
            .args(serve_arguments(folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kill_at(&mut child, 1 + random.below(whole));
        let served = Served::start(folder.path());
        assert_eq!(
            served.call("GET", "/devices", None).unwrap().0,
            200,
            "the token in the file opens the interface"
        );
    }
}
