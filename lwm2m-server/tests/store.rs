//! The embedded store: locks, wrong keys, damage, schema, fencing, and the audit chain.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lwm2m_server::access::{Scope, TokenRole};
use lwm2m_server::credentials::{Device, Happened, HoldKind, Kept, Key, Role};
use lwm2m_server::observations::{Intent, IntentChange, Places, Wanted};
use lwm2m_server::queue::{Head, State};
use lwm2m_server::store::{Change, RedbStore, RequestChange, Sealer, Store, StoreError, TokenRecord};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&[byte; 32], "key.txt").unwrap()
}

fn open(data: &Path, byte: u8) -> Result<RedbStore, StoreError> {
    RedbStore::open(data, RedbStore::lock(data)?, sealer(byte))
}

fn happened(what: &'static str) -> Happened {
    Happened { role: None, generation: None, what, detail: String::new() }
}

fn commit(store: &dyn Store, device: &mut Device, what: &'static str) -> Result<(), StoreError> {
    device.version += 1;
    let key = Kept::Psk(Key::new(vec![7; 16]).unwrap());
    store.commit(&Change {
        device,
        secrets: &[(Role::Management, 1, &key)],
        forget: &[],
        variables: None,
        actor: "test",
        now_ms: 1,
        happened: &[happened(what)],
    })
}

#[test]
fn two_servers_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1).unwrap();
    assert!(matches!(open(folder.path(), 1), Err(StoreError::Locked(_))));
    drop(store);
    open(folder.path(), 1).unwrap();
}

#[test]
fn a_store_that_others_could_read_is_for_its_owner_once_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(open(folder.path(), 1).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(folder.path(), 1).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_was_committed_is_there_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::new("a");
    commit(&open(folder.path(), 1).unwrap(), &mut device, "made").unwrap();
    let store = open(folder.path(), 1).unwrap();
    assert_eq!(store.devices().unwrap(), [device]);
    assert_eq!(store.secret("a", Role::Management, 1).unwrap().unwrap().psk().unwrap().bytes(), [7; 16]);
    assert_eq!(store.verify_audit().unwrap(), 1);
}

#[test]
fn the_root_of_the_tickets_is_made_once_and_is_sealed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = |folder: &Path| open(folder, 1).unwrap().ticket_root().unwrap();
    let made = root(folder.path());
    assert_eq!(root(folder.path()), made);
    assert_ne!(root(other.path()), made);
    let file = fs::read(folder.path().join("store.redb")).unwrap();
    assert!(file.windows(32).all(|window| window != made.as_slice()));
    // Put in place of another one it is noticed.
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        let check = meta.get("check").unwrap().unwrap().value().to_vec();
        meta.insert("tickets", check.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let refused = open(folder.path(), 1).unwrap().ticket_root();
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_wrong_key_is_noticed_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), 1).unwrap();
    let error = open(folder.path(), 2).unwrap_err();
    assert!(matches!(error, StoreError::WrongKey { .. }));
    assert!(error.to_string().contains("key.txt"), "{error}");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), 1).unwrap();
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        meta.insert("schema", 9_u32.to_be_bytes().as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(folder.path(), 1), Err(StoreError::NewerSchema { found: 9, known: 8 })));
}

/// What a server without object definitions and lasting observations wrote.
#[test]
fn a_store_of_the_former_schema_goes_on_with_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1).unwrap();
    put(&store, 1, Some(QUEUED), Some(b"a body")).unwrap();
    drop(store);
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(TableDefinition::<(&str, u64), &[u8]>::new("observations")).unwrap();
    transaction.delete_table(TableDefinition::<(u16, u8, u8), &[u8]>::new("models")).unwrap();
    {
        let mut meta = transaction.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        meta.insert("schema", 3_u32.to_be_bytes().as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = open(folder.path(), 1).unwrap();
    assert_eq!(&**store.request("a", 1).unwrap().unwrap().body, b"a body");
    assert!(store.models().unwrap().is_empty() && store.observations_of("a").unwrap().is_empty());
    store.add_observation("a", &intent("/3/0/9"), 1).unwrap().unwrap();
    drop(store);
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let meta = database.begin_read().unwrap();
    let meta = meta.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
    assert_eq!(meta.get("schema").unwrap().unwrap().value(), 8_u32.to_be_bytes());
}

/// Puts a token as another server wrote it.
fn put_token_as_written(folder: &Path, record: &str) {
    let database = Database::open(folder.join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut tokens = transaction.open_table(TableDefinition::<&[u8], &[u8]>::new("tokens")).unwrap();
        tokens.insert([7; 32].as_slice(), record.as_bytes()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_token_of_the_former_form_is_for_all_devices_and_does_not_expire() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), 1).unwrap());
    put_token_as_written(folder.path(), r#"{"name":"admin","role":"administrator","created_ms":5}"#);
    let tokens = open(folder.path(), 1).unwrap().tokens().unwrap();
    let expected = TokenRecord {
        name: "admin".to_owned(),
        role: TokenRole::Administrator,
        scope: Scope::default(),
        expires_ms: None,
        created_ms: 5,
        made_by: "server".to_owned(),
    };
    assert_eq!(tokens, [([7; 32], expected)]);
}

#[test]
fn a_role_that_is_not_known_is_told_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), 1).unwrap());
    put_token_as_written(folder.path(), r#"{"name":"ops","role":"landlord","created_ms":5}"#);
    let error = open(folder.path(), 1).unwrap().tokens().unwrap_err().to_string();
    assert!(error.contains("'ops'") && error.contains("'landlord'"), "{error}");
}

#[test]
fn audit_rows_of_a_scope_are_those_of_its_devices_page_by_page() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let happened = Happened { role: None, generation: None, what: "read", detail: String::new() };
    for (endpoint, now_ms) in [Some("a1"), None, Some("b1"), Some("a2"), Some("a1")].into_iter().zip(1..) {
        store.note("test", now_ms, endpoint, &happened).unwrap();
    }
    let scope = Scope::try_from(Some(vec!["a*".to_owned()])).unwrap();
    let within = |after, limit| {
        let (rows, last) = store.audit_within(&scope, after, limit).unwrap();
        (rows.iter().map(|row| row.seq).collect::<Vec<_>>(), last)
    };
    assert_eq!(within(None, 2), (vec![4, 5], 5));
    assert_eq!(within(None, 9), (vec![1, 4, 5], 5));
    assert_eq!(within(Some(0), 2), (vec![1, 4], 4));
    assert_eq!(within(Some(4), 2), (vec![5], 5));
    assert_eq!(within(Some(5), 2), (vec![], 5));
}

fn intent(path: &str) -> Intent {
    Intent::new(Places::One(path.parse().unwrap()), None, "test".into(), 1)
}

fn removed() -> IntentChange {
    IntentChange::Removed { actor: "token:b".into(), now_ms: 2 }
}

fn undone(asked: Intent, former: Option<Intent>) -> IntentChange {
    IntentChange::Undone { asked, former, why: "the device answered 4.04".to_owned(), now_ms: 3 }
}

#[test]
fn what_somebody_does_to_a_lasting_observation_is_in_the_audit_log() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let wanted = intent("/3/0/9").with_attribute("pmin", 10.into());
    let first = store.add_observation("a", &wanted, 2).unwrap().unwrap();
    let second = store.add_observation("a", &intent("/3/0/9"), 2).unwrap().unwrap();
    let change = |change| store.change_observations(&[("a".into(), first.id, change)]).unwrap();
    assert_eq!(change(undone(second.intent, second.former)), 1);
    assert_eq!(change(removed()), 1);
    assert_eq!(change(removed()), 0, "there is none");
    let rows = store.audit(Some("a"), None, 9).unwrap();
    let rows: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}, {}", row.time_ms, row.actor, row.what, row.detail))
        .collect();
    let refused = "3 device observation refused, observation 1: /3/0/9: the device answered 4.04";
    assert_eq!(
        rows,
        [
            "1 test observation added, observation 1: /3/0/9 pmin=10",
            "1 test observation replaced, observation 1: /3/0/9",
            refused,
            "2 token:b observation removed, observation 1: /3/0/9 pmin=10",
        ]
    );
    store.verify_audit().unwrap();
}

#[test]
fn a_device_that_is_decommissioned_loses_its_lasting_observations_alone() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    for (name, path) in [("a", "/3"), ("a", "/1"), ("aa", "/3")] {
        store.add_observation(name, &intent(path), 9).unwrap().unwrap();
    }
    let mut device = Device::new("a");
    for (kind, left) in [(HoldKind::Suspended, 2), (HoldKind::Revoked, 2), (HoldKind::Decommissioned, 0)] {
        device.hold(1, kind, "");
        commit(&store, &mut device, "held").unwrap();
        assert_eq!(store.observations_of("a").unwrap().len(), left, "{kind:?}");
    }
    assert_eq!(store.observed(None, 9).unwrap(), ["aa".into()]);
    let rows = store.audit(Some("a"), None, 2).unwrap();
    assert!(rows.iter().all(|row| row.what == "observation removed"), "{rows:?}");
    store.verify_audit().unwrap();
}

#[test]
fn a_lasting_observation_is_there_after_a_reopen_and_its_id_is_given_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1).unwrap();
    let add =
        |store: &RedbStore, name: &str, path: &str| store.add_observation(name, &intent(path), 2).unwrap();
    let change =
        |store: &RedbStore, id, change| store.change_observations(&[("a".into(), id, change)]).unwrap();
    let Wanted { id: first, intent: asked, former } = add(&store, "a", "/3/0/9").unwrap();
    assert_eq!(former, None);
    let second = add(&store, "a", "/3").unwrap().id;
    assert!(first.is_lasting() && second > first);
    assert!(add(&store, "a", "/3/0").is_none(), "a device may have two");
    let refused = IntentChange::Refused(asked, "the device answered 4.04".to_owned());
    assert_eq!(change(&store, first, refused), 1);
    drop(store);

    let store = open(folder.path(), 1).unwrap();
    let told = |store: &RedbStore| format!("{:?}", store.observations_of("a").unwrap());
    assert!(told(&store).contains("4.04"), "{}", told(&store));
    // Of the same place it is the same one, as it is wanted last.
    let Wanted { id: again, intent: asked, former } = add(&store, "a", "/3/0/9").unwrap();
    assert!(again == first && former.is_some() && !told(&store).contains("4.04"));
    assert_eq!(change(&store, first, undone(asked, former)), 1);
    assert!(told(&store).contains("4.04"));
    assert_eq!(change(&store, second, removed()), 1);
    assert_eq!(change(&store, second, removed()), 0);
    let third = add(&store, "a", "/3").unwrap().id;
    assert!(third > second);
    assert!(store.observations_of("b").unwrap().is_empty());
}

#[test]
fn what_a_device_refuses_undoes_no_intent_that_took_the_place_of_the_refused_one() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let add = |gt: u32| {
        let wanted = intent("/3/0/9").with_attribute("gt", gt.into());
        store.add_observation("a", &wanted, 2).unwrap().unwrap()
    };
    let change = |id, change| store.change_observations(&[("a".into(), id, change)]).unwrap();
    let told = || format!("{:?}", store.observations_of("a").unwrap());
    let (one, other) = (add(11), add(22));
    let why = || "the device answered 4.04".to_owned();
    assert_eq!(change(one.id, undone(one.intent.clone(), one.former)), 0);
    assert_eq!(change(one.id, IntentChange::Refused(one.intent.clone(), why())), 0);
    assert_eq!(change(one.id, IntentChange::Ended(why())), 0);
    assert!(told().contains("22") && !told().contains("11") && !told().contains("4.04"), "{}", told());
    assert_eq!(change(other.id, IntentChange::Stands(other.intent.clone())), 1);
    // An answer to the former one that comes late: the device has its attributes now.
    let before = told();
    assert_eq!(change(one.id, IntentChange::Stands(one.intent)), 1);
    assert_ne!(told(), before, "it is to be asked for again");
    // It is the one that was wanted last, or the one before it.
    let third = add(33);
    assert_eq!(change(third.id, undone(third.intent, third.former)), 1);
    assert!(told().contains("22") && !told().contains("33"), "{}", told());
}

#[test]
fn a_lasting_observation_of_a_newer_epoch_is_fenced_off() {
    const INTENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("observations");
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1).unwrap();
    let id = store.add_observation("a", &intent("/3/0/9"), 9).unwrap().unwrap().id;
    drop(store);
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(INTENTS).unwrap();
        let row = String::from_utf8(table.get(("a", id.0)).unwrap().unwrap().value().to_vec()).unwrap();
        let newer = row.replace("\"epoch\":1", "\"epoch\":2");
        assert_ne!(newer, row);
        table.insert(("a", id.0), newer.as_bytes()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = open(folder.path(), 1).unwrap();
    assert!(matches!(store.add_observation("a", &intent("/3"), 9), Err(StoreError::Fenced)));
    let removed = [("a".into(), id, removed())];
    assert!(matches!(store.change_observations(&removed), Err(StoreError::Fenced)));
    assert_eq!(store.observations_of("a").unwrap().len(), 1);
}

#[test]
fn the_devices_that_are_observed_are_read_some_at_a_time() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    for (name, path) in [("b", "/3"), ("a", "/3"), ("ab", "/3"), ("a", "/1"), ("c", "/3"), ("a", "/4")] {
        store.add_observation(name, &intent(path), 9).unwrap().unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let some = store.observed(after.as_deref(), 2).unwrap();
        let Some(last) = some.last().cloned() else { break };
        assert!(some.len() <= 2);
        seen.extend(some.iter().map(ToString::to_string));
        after = Some(last);
    }
    assert_eq!(seen, ["a", "ab", "b", "c"]);
}

#[test]
fn a_file_that_is_no_store_is_reported_in_one_line() {
    for content in [&b"not a store"[..], &[0; 65536], b"{}"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("store.redb"), content).unwrap();
        let error = open(folder.path(), 1).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_damaged_store_never_panics_and_never_opens_a_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::new("a");
    {
        let store = open(folder.path(), 1).unwrap();
        for _ in 0..20 {
            commit(&store, &mut device, "made").unwrap();
        }
    }
    let whole = fs::read(folder.path().join("store.redb")).unwrap();
    let damaged = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("store.redb"), bytes).unwrap();
        let outcome = open(folder.path(), 1).and_then(|store| {
            store.devices()?;
            store.verify_audit()?;
            store.secret("a", Role::Management, 1)
        });
        if let Ok(Some(key)) = outcome {
            assert_eq!(key.psk().unwrap().bytes(), [7; 16]);
        }
    };
    for length in (0..whole.len()).step_by(whole.len() / 12) {
        damaged(whole.get(..length).unwrap());
    }
    for at in (0..whole.len()).step_by(whole.len() / 60 + 1) {
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x55;
        }
        damaged(&bytes);
    }
}

#[test]
fn a_write_on_an_old_version_changes_nothing() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let mut device = Device::new("a");
    commit(&store, &mut device, "made").unwrap();
    let mut stale = Device::new("a");
    assert!(matches!(commit(&store, &mut stale, "stale"), Err(StoreError::Conflict)));
    assert_eq!(store.verify_audit().unwrap(), 1);
}

#[test]
fn an_older_epoch_is_fenced_off() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    let mut device = Device::new("a");
    device.epoch = 2;
    commit(&store, &mut device, "made").unwrap();
    device.epoch = 1;
    assert!(matches!(commit(&store, &mut device, "fenced"), Err(StoreError::Fenced)));
}

const QUEUED: Head = Head {
    epoch: 1,
    state: State::Queued,
    priority: 128,
    is_repeatable: false,
    attempts: 0,
    queued_ms: 1,
    expires_ms: 2,
    ended_ms: None,
};

fn put(store: &dyn Store, id: u64, head: Option<Head>, body: Option<&[u8]>) -> Result<(), StoreError> {
    let body = body.map(|body| body.to_vec().into());
    let audit = None;
    store.put_requests(1, &[RequestChange { endpoint: "a".into(), id, head, body, outcome: None, audit }])
}

#[test]
fn queued_requests_are_there_after_a_reopen_sealed_and_removed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 1).unwrap();
    for id in [1, 2] {
        put(&store, id, Some(QUEUED), Some(b"a value that nobody may see")).unwrap();
    }
    put(&store, 1, Some(Head { state: State::Sent, attempts: 1, ..QUEUED }), None).unwrap();
    drop(store);
    let file = fs::read(folder.path().join("store.redb")).unwrap();
    assert!(!file.windows(8).any(|bytes| bytes == b"a value "));

    let store = open(folder.path(), 1).unwrap();
    let (last, heads) = store.requests().unwrap();
    let states: Vec<_> = heads.iter().map(|(endpoint, id, head)| (&**endpoint, *id, head.state)).collect();
    assert_eq!((last, states), (2, vec![("a", 1, State::Sent), ("a", 2, State::Queued)]));
    assert_eq!(&**store.request("a", 1).unwrap().unwrap().body, b"a value that nobody may see");
    assert!(store.request("b", 1).unwrap().is_none() && store.requests_of("b").unwrap().is_empty());
    for id in [1, 2] {
        put(&store, id, None, None).unwrap();
    }
    assert!(store.requests_of("a").unwrap().is_empty());
    assert_eq!(store.requests().unwrap().0, 2, "no id is given out twice");
}

#[test]
fn a_request_of_a_newer_epoch_is_fenced_off_with_the_whole_batch() {
    let store = RedbStore::in_memory(sealer(1)).unwrap();
    put(&store, 1, Some(Head { epoch: 2, ..QUEUED }), Some(b"")).unwrap();
    for head in [Some(Head { state: State::Sent, ..QUEUED }), None] {
        assert!(matches!(put(&store, 1, head, None), Err(StoreError::Fenced)));
    }
    assert_eq!(store.request("a", 1).unwrap().unwrap().head, Head { epoch: 2, ..QUEUED });
}

#[test]
fn a_changed_or_missing_audit_row_breaks_the_chain() {
    type Rows<'t> = redb::Table<'t, u64, &'static [u8]>;
    const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path(), 1).unwrap();
        for what in ["one", "two", "three"] {
            store.note("test", 1, Some("a"), &happened(what)).unwrap();
        }
    }
    let tamper = |change: &dyn Fn(&mut Rows<'_>)| {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(folder.path().join("store.redb"), copy.path().join("store.redb")).unwrap();
        let database = Database::open(copy.path().join("store.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&mut transaction.open_table(AUDIT).unwrap());
        transaction.commit().unwrap();
        drop(database);
        open(copy.path(), 1).unwrap().verify_audit()
    };
    assert_eq!(tamper(&|_| ()).unwrap(), 3);
    let changed = tamper(&|audit| {
        let row = String::from_utf8(audit.get(2).unwrap().unwrap().value().to_vec()).unwrap();
        audit.insert(2, row.replace("two", "2").as_bytes()).unwrap();
    });
    assert!(matches!(changed, Err(StoreError::Corrupt { .. })));
    let missing = tamper(&|audit| drop(audit.remove(1).unwrap()));
    assert!(matches!(missing, Err(StoreError::Corrupt { .. })));
}
