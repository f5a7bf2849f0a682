//! Backups: made while the server writes, put back with what must not happen again changed, and read whole.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Seek as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Served, binary, serve_arguments, server};
use lwm2m_server::credentials::{
    Account, Assign, Credentials, Device, Enrol, EnrolAccount, Happened, Identity, Kept, Key, KeyMaterial,
    Mode, OscoreKey, Role, Settings, Subject,
};
use lwm2m_server::observations::{Intent, Places};
use lwm2m_server::profiles::Secrets;
use lwm2m_server::queue::{Head, State};
use lwm2m_server::store::{
    Change, RedbStore, RequestChange, Reservation, Sealer, Store, StoreError, put_backup, restore, verify,
};
use serde_json::{Value, json};

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&[byte; 32], "key.txt").unwrap()
}

fn open(data: &Path) -> Result<RedbStore, StoreError> {
    RedbStore::open(data, RedbStore::lock(data)?, sealer(1))
}

/// A device with a sealed key and an audit row.
fn commit(store: &dyn Store, name: &str) {
    let subject = Subject::Psk(Identity::new(name.as_bytes()).unwrap());
    let mut device = Device::new(name);
    device.version = 1;
    device.management = Some(Account::new(subject, 0));
    let key = Kept::Psk(Key::new(vec![7; 16]).unwrap());
    let detail = format!("the row of {name}");
    store
        .commit(&Change {
            device: &device,
            secrets: &[(Role::Management, 1, &key)],
            forget: &[],
            variables: None,
            actor: "test",
            now_ms: 1,
            happened: &[Happened { role: None, generation: None, what: "enrolled", detail }],
        })
        .unwrap();
}

/// A folder with a backup of a store in it, and the path of that.
fn backed_up(store: &RedbStore) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meters.backup");
    let (mut file, _) = store.backup(5, "test").unwrap();
    file.rewind().unwrap();
    put_backup(file, &path).unwrap().unwrap();
    (folder, path)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn names(served: &Served) -> BTreeSet<String> {
    let (status, list) = served.call("GET", "/devices?limit=1000", None).unwrap();
    assert_eq!(status, 200);
    let devices = list["devices"].as_array().unwrap();
    devices.iter().map(|device| device["endpoint"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_backup_of_a_server_that_writes_is_put_back_with_all_that_was_acknowledged_before() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, new) = (folder.path(), other.path().join("data"));
    let served = Served::start(data);
    let enrol = |name: &str| {
        let body = json!({ "management": { "identity": name, "key": hex::encode([0x42; 16]) } });
        assert_eq!(served.call("PUT", &format!("/devices/{name}/credentials"), Some(&body)).unwrap().0, 201);
    };
    for number in 0..20 {
        enrol(&format!("before-{number}"));
    }
    let file = other.path().join("meters.backup");
    let is_over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                enrol(&format!("meanwhile-{number}"));
            }
        });
        let url = format!("http://{}", served.client.http);
        let words = ["backup", file.to_str().unwrap(), "--url", &url, "--data", data.to_str().unwrap()];
        let made = server(&arguments(&words));
        is_over.store(true, Ordering::Relaxed);
        made
    });
    assert!(made.status.success(), "{}", text(&made));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let told = text(&made);
    let row = told.lines().find_map(|line| line.strip_prefix("audit log, number and hash of the last row: "));
    let row = row.unwrap().to_owned();
    enrol("after");
    let all = names(&served);
    served.kill();

    // The row that was written down is in the store that the server left, and in no other one.
    let whole = server(&arguments(&["verify", data.to_str().unwrap(), "--row", &row]));
    assert!(whole.status.success(), "{}", text(&whole));
    let (seq, hash) = row.split_once(':').unwrap();
    for (wrong, why) in [
        (format!("{seq}:{}", "0".repeat(64)), "is not the one that was written down"),
        (format!("100000:{hash}"), "the audit log ends with row"),
    ] {
        let told = server(&arguments(&["verify", data.to_str().unwrap(), "--row", &wrong]));
        assert!(!told.status.success() && text(&told).contains(why), "{}", text(&told));
    }

    let key = data.join("secrets.key");
    let words = ["restore", file.to_str().unwrap(), "--data", new.to_str().unwrap()];
    let keyless = server(&arguments(&words));
    assert!(!keyless.status.success() && text(&keyless).contains("--secrets-key"), "{}", text(&keyless));
    let put_back = server(&arguments(&[&words[..], &["--secrets-key", key.to_str().unwrap()]].concat()));
    assert!(put_back.status.success(), "{}", text(&put_back));
    fs::copy(data.join("admin.token"), new.join("admin.token")).unwrap();
    let mut again = serve_arguments(&new);
    again.extend(arguments(&["--secrets-key", key.to_str().unwrap()]));
    let served = Served::start_with(&new, &again);
    let restored = names(&served);
    assert!(restored.is_subset(&all) && !restored.contains("after"), "{restored:?}");
    assert!((0..20).all(|number| restored.contains(&format!("before-{number}"))), "{restored:?}");
    let (_, audit) = served.call("GET", "/audit?limit=1", None).unwrap();
    assert_eq!(audit["rows"][0]["what"], "restored", "{audit}");
    served.kill();
    let words = ["verify", new.to_str().unwrap(), "--secrets-key", key.to_str().unwrap(), "--row", &row];
    let whole = server(&arguments(&words));
    assert!(whole.status.success(), "{}", text(&whole));
}

#[test]
fn a_backup_is_made_of_a_stopped_store_too_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Served::start(&data).kill();
    let file = folder.path().join("meters.backup");
    // By its name in the folder where one is, as the README does it.
    let words = arguments(&["backup", "meters.backup", "--data", "data"]);
    let server_there = |words: &[String]| {
        binary(env!("CARGO_BIN_EXE_lwm2m-server")).args(words).current_dir(folder.path()).output().unwrap()
    };
    let made = server_there(&words);
    assert!(made.status.success() && text(&made).contains("tokens: 1"), "{}", text(&made));
    let before = fs::read(&file).unwrap();
    let again = server_there(&words);
    assert!(!again.status.success() && text(&again).contains("name another file"), "{}", text(&again));
    assert!(fs::read(&file).unwrap() == before);
    let whole = server(&arguments(&["verify", file.to_str().unwrap(), "--data", data.to_str().unwrap()]));
    assert!(whole.status.success() && text(&whole).contains("is whole\nbackup of 20"), "{}", text(&whole));
    let without = server(&arguments(&["verify", file.to_str().unwrap(), "--without-key"]));
    assert!(without.status.success(), "{}", text(&without));
}

#[test]
fn no_server_runs_on_a_backup_that_was_not_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let (_other, path) = backed_up(&store);
    fs::copy(path, RedbStore::file(folder.path())).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("lwm2m-server restore"), "{error}");
}

const QUEUED: Head = Head {
    epoch: 1,
    state: State::Queued,
    priority: 128,
    is_repeatable: false,
    attempts: 0,
    queued_ms: 1,
    expires_ms: u64::MAX,
    ended_ms: None,
};

#[test]
fn what_must_not_happen_again_does_not_after_a_restore() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    commit(&store, "a");
    let states = [State::Queued, State::Queued, State::Sent, State::Done];
    for (id, (state, is_repeatable)) in (1..).zip(states.into_iter().zip([false, true, true, false])) {
        let change = RequestChange {
            endpoint: "a".into(),
            id,
            head: Some(Head { state, is_repeatable, ..QUEUED }),
            body: Some(b"{}".to_vec().into()),
            outcome: None,
            audit: None,
        };
        store.put_requests(1, &[change]).unwrap();
    }
    store.expect_sessions(&[9; 16]).unwrap();
    let context = OscoreKey::generate(&[1]).unwrap().unwrap();
    let fingerprint = context.parameters().fingerprint();
    let saved = oscore::Saved::parse(&256_u64.to_be_bytes()[2..]).unwrap();
    assert_eq!(store.reserve(&[Reservation { fingerprint, saved: saved.clone() }]).unwrap(), [true]);

    // One that was not used yet: whatever is done with it until the restore, the backup does not know.
    let unused = OscoreKey::generate(&[2]).unwrap().unwrap();
    let mut device = store.devices().unwrap().remove(0);
    device.version = 2;
    let generation = device.management.as_mut().unwrap().add(Subject::Oscore(unused.context_id()), 2);
    store
        .commit(&Change {
            device: &device,
            secrets: &[(Role::Management, generation, &Kept::Oscore(unused.clone()))],
            variables: None,
            forget: &[],
            actor: "test",
            now_ms: 2,
            happened: &[],
        })
        .unwrap();
    let place = |path: &str| Intent::new(Places::One(path.parse().unwrap()), None, "test".into(), 1);
    let first = store.add_observation("a", &place("/3/0/9"), 8).unwrap().unwrap();

    let (other, path) = backed_up(&store);
    let data = other.path().join("data");
    let lock = RedbStore::lock(&data).unwrap();
    let restored = restore(&path, &data, lock, sealer(1), 7).unwrap();
    assert_eq!((restored.contexts, restored.requests), (2, 3));
    assert_eq!(restored.backup.map(|backup| backup.made_ms), Some(5));
    let store = open(&data).unwrap();
    let (last, heads) = store.requests().unwrap();
    assert!(last > 1 << 32, "ids that were given out since the backup are not given out again");
    let states: Vec<_> =
        heads.iter().map(|(_, id, head)| (*id, head.state, head.is_repeatable, head.attempts)).collect();
    assert_eq!(
        states,
        [
            (1, State::Sent, false, 1),
            (2, State::Sent, false, 1),
            (3, State::Sent, false, 1),
            (4, State::Done, false, 0),
        ]
    );
    let next = store.add_observation("a", &place("/3/0/10"), 8).unwrap().unwrap();
    assert!(next.id.is_lasting() && next.id.0 > first.id.0.saturating_add(1000), "{next:?}");
    let of_unused = unused.parameters().fingerprint();
    assert_eq!(store.reserved(&of_unused).unwrap(), Some(oscore::Saved::unknown()));
    assert_eq!(store.reserved(&fingerprint).unwrap(), Some(saved.clone().leap()));
    assert_ne!(saved.clone().leap(), saved);
    assert!(!store.consume_sessions(Some(&[9; 16])).unwrap());
    assert!(store.secret("a", Role::Management, 1).unwrap().is_some());
    let rows = store.audit(None, Some(0), 10).unwrap();
    let what: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(what, ["enrolled", "observation added", "backup made", "restored", "observation added"]);
}

#[test]
fn profiles_and_secret_variables_are_in_a_backup_and_what_is_missing_of_them_is_found() {
    let store = std::sync::Arc::new(RedbStore::in_memory(sealer(1)).unwrap());
    let credentials = Credentials::open(store.clone(), Settings::default()).unwrap();
    let server = json!({ "short_server_id": 2, "uri": "coaps://b.example", "security": "psk", "identity": "b", "key": "${key}" });
    let body = serde_json::from_value(json!({ "servers": [server] })).unwrap();
    credentials.put_profile(1, "test", "two", body, Default::default()).unwrap();
    let bootstrap = EnrolAccount { role: Role::Bootstrap, key: KeyMaterial::Generate(Mode::Psk) };
    let enrol = Enrol { accounts: vec![bootstrap], ..Enrol::default() };
    credentials.enrol(1, "test", "a", &enrol).unwrap();
    let mut secrets = Secrets::default();
    secrets.insert("key".to_owned(), Key::new(vec![9; 16]).unwrap());
    let assign = Assign { name: "two".to_owned(), secrets: secrets.clone(), ..Assign::default() };
    credentials.assign(2, "test", "a", &assign).unwrap();

    let (other, path) = backed_up(&store);
    assert_eq!(verify(&path, Some(&sealer(1)), None).unwrap().profiles, 1);
    let data = other.path().join("data");
    restore(&path, &data, RedbStore::lock(&data).unwrap(), sealer(1), 7).unwrap();
    let restored = open(&data).unwrap();
    assert_eq!(restored.variables("a").unwrap(), secrets);
    assert!(restored.profiles().unwrap().find("two", Some(1)).is_some());
    drop(restored);

    let file = RedbStore::file(&data);
    let whole = fs::read(&file).unwrap();
    let damaged = |change: &dyn Fn(&redb::WriteTransaction)| {
        fs::write(&file, &whole).unwrap();
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        drop(database);
        verify(&file, Some(&sealer(1)), None).unwrap_err().to_string()
    };
    let variables = redb::TableDefinition::<&str, &[u8]>::new("variables");
    let profiles = redb::TableDefinition::<(&str, u32), &[u8]>::new("profiles");
    let missing = damaged(&|transaction| {
        transaction.open_table(variables).unwrap().remove("a").unwrap();
    });
    assert!(missing.contains("the secret variables of a are not those of its record"), "{missing}");
    let missing = damaged(&|transaction| {
        transaction.open_table(profiles).unwrap().remove(("two", 1)).unwrap();
    });
    assert!(missing.contains("the profile two version 1 of a is missing"), "{missing}");
    let strange = damaged(&|transaction| {
        transaction.open_table(variables).unwrap().insert("b", &b"x"[..]).unwrap();
    });
    assert!(strange.contains("there are secret variables of b that no profile has"), "{strange}");
    let garbled = damaged(&|transaction| {
        transaction.open_table(profiles).unwrap().insert(("two", 2), &b"{}"[..]).unwrap();
    });
    assert!(garbled.contains("version 2 of the profile two"), "{garbled}");
}

#[test]
fn a_restore_overwrites_nothing_and_leaves_nothing_of_a_backup_that_is_no_good() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    commit(&store, "a");
    let (other, path) = backed_up(&store);
    let data = other.path().join("data");
    let into = |path: &Path, key: u8| {
        let lock = RedbStore::lock(&data).unwrap();
        restore(path, &data, lock, sealer(key), 7).unwrap_err()
    };
    assert!(matches!(into(&path, 2), StoreError::WrongKey { .. }));
    let damaged = other.path().join("damaged.backup");
    let whole = fs::read(&path).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(into(&damaged, 1), StoreError::Corrupt { .. }));
    assert!(matches!(into(&other.path().join("none"), 1), StoreError::Io { .. }));
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    drop(open(&data).unwrap());
    assert!(matches!(into(&path, 1), StoreError::Occupied(_)));
    let beside: BTreeSet<_> =
        fs::read_dir(other.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 3, "{beside:?}");
}

#[test]
fn a_flipped_byte_is_found_and_what_it_is_in_is_named() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    for number in 0..60 {
        commit(&store, &format!("device-{number}"));
    }
    let (folder, path) = backed_up(&store);
    let whole = fs::read(&path).unwrap();
    let expected = verify(&path, Some(&sealer(1)), None).unwrap();
    assert_eq!((expected.devices, expected.secrets, expected.audit), (60, 60, 61));
    let flipped = folder.path().join("flipped");
    let verify_flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&flipped, bytes).unwrap();
        verify(&flipped, Some(&sealer(1)), None)
    };
    let place = |text: &str| {
        let found: Vec<usize> =
            (0..whole.len()).filter(|at| whole[*at..].starts_with(text.as_bytes())).collect();
        assert_eq!(found.len(), 1, "'{text}' is there once");
        found[0]
    };
    for (text, name) in [
        ("the row of device-17\"", "audit row 18 "),
        ("\"endpoint\":\"device-21\",\"version\"", "device-21"),
        ("\"made_ms\"", "what makes it a backup"),
    ] {
        let error = verify_flipped(place(text) + text.len() - 2).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains(name), "{error}");
    }
    let mut named = BTreeSet::new();
    for at in (0..whole.len()).step_by(whole.len() / 400) {
        match verify_flipped(at) {
            // A page that nothing uses.
            Ok(verified) => assert_eq!(verified, expected, "byte {at}"),
            Err(error) => {
                let error = error.to_string();
                let kinds = ["audit row", "sealed management key", "device-", "checksum"];
                named.extend(kinds.into_iter().filter(|kind| error.contains(kind)));
            }
        }
    }
    assert!(named.is_superset(&BTreeSet::from(["audit row", "sealed management key"])), "{named:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no copy is left");
}

#[test]
fn other_processes_of_its_user_do_not_read_the_memory_of_the_server() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(env!("CARGO_BIN_EXE_lwm2m-server"));
    command.args(serve_arguments(folder.path()));
    // What is not to be dumped belongs to root, whoever runs it.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let served = Served::spawn(folder.path(), &mut command);
    let owner = fs::metadata(format!("/proc/{}/environ", served.child.id())).unwrap().uid();
    assert_eq!(owner, 0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", served.child.id())).unwrap();
    let core: Value = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .and_then(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok())
        .into();
    assert_eq!(core, json!(0), "{limits}");
}
