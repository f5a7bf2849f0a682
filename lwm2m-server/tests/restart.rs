//! Planned restarts: what was saved goes on as if nothing had happened, in as many parts as there are then.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dtls_psk::ConnectionId;
use lwm2m_coap::{Code, Instant, Kind, OptionNumber};
use lwm2m_server::credentials::Role;
use lwm2m_server::driver::{LastRun, Resumed};
use lwm2m_server::endpoint::{Addresses, Listener, NotRestored, Saved};
use lwm2m_server::store::{RedbStore, Sealer, SessionFile, Store};
use lwm2m_server::{Operation, Path};
use support::{Device, Got, KEY, World, address, listened, request};

const PLAIN: (OptionNumber, &[u8]) = (OptionNumber::CONTENT_FORMAT, &[]);
const PAUSE: Duration = Duration::from_secs(2);

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

/// A device that is registered and observed.
fn registered(world: &mut World, mut device: Device, name: &str) -> (Device, String, Got) {
    if device.local.is_secure() {
        let identity = world.enrol(name, Role::Management);
        device.connect(world, &identity, &KEY);
    }
    let location = device.register(world, &format!("ep={name}&lt=300&lwm2m=1.1"), "</1/0>,</3/0>");
    world.request(name, Operation::Observe { path: path("/3/0/9"), format: None }).unwrap();
    let observed = device.asked(world);
    device.answer(world, &observed, Code::CONTENT, &[(OptionNumber::OBSERVE, &[1]), PLAIN], b"1");
    world.told();
    (device, location, observed)
}

/// A device at a port that offers a Connection ID or not.
fn device(port: u16, has_id: bool) -> Device {
    let mut device = Device::plain(Listener::Coaps, port);
    if has_id {
        device.dtls = device.dtls.with_connection_id(ConnectionId::EMPTY);
    }
    device
}

/// So many go on, and nobody has to come again.
fn all(restored: u64) -> Resumed {
    Resumed { restored, not_restored: Vec::new() }
}

/// Nobody goes on.
fn none(not_restored: &[(NotRestored, u64)]) -> Resumed {
    Resumed { restored: 0, not_restored: not_restored.to_vec() }
}

/// Everything works both ways, without a handshake.
fn goes_on(world: &mut World, (device, location, observed): &mut (Device, String, Got), name: &str, n: u8) {
    device.notify(world, Kind::Confirmable, observed.token, n, &[PLAIN], b"2");
    assert!(world.told().iter().any(|told| told.starts_with(&format!("notification {name}"))));
    device.take_all(world);
    let read = world.request(name, Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
    let asked = device.asked(world);
    assert_ne!(asked.token, observed.token);
    device.answer(world, &asked, Code::CONTENT, &[PLAIN], b"3");
    assert!(world.outcome(read).is_ok());
    assert_eq!(device.request(world, Code::POST, location, b"").unwrap().code, Code::CHANGED);
    let told = world.told();
    assert_eq!(told, [format!("updated {name}")]);
}

#[test]
fn registered_devices_go_on_whatever_the_number_of_parts() {
    for (before, after) in [(1, 1), (1, 3), (3, 1), (3, 2), (2, 5)] {
        let mut world = World::of_parts(before);
        // Ports and names differ so that the devices are in various parts before and afterwards.
        let mut devices: Vec<_> = (0..12_u16)
            .map(|n| {
                let name = format!("device-{n}");
                (registered(&mut world, device(40_000 + n, n % 2 == 0), &name), name)
            })
            .collect();
        assert_eq!(world.restart(after, PAUSE), all(12));
        for (device, name) in &mut devices {
            assert_eq!(world.told(), Vec::<String>::new());
            goes_on(&mut world, device, name, 2);
        }
        assert_eq!(world.restart(before, PAUSE), all(12));
        for (device, name) in &mut devices {
            goes_on(&mut world, device, name, 3);
        }
        let counters: Vec<_> = (0..before).map(|n| *world.part(n.into()).counters()).collect();
        assert!(counters.iter().all(|counters| counters.handshakes_begun == 0));
    }
}

#[test]
fn a_device_without_security_goes_on_too() {
    let mut world = World::of_parts(2);
    let settings = lwm2m_server::credentials::Settings { allow_nosec: true, ..Default::default() };
    world.credentials.set_settings(settings);
    let mut plain = registered(&mut world, Device::plain(Listener::Coap, 40_000), "a");
    assert_eq!(world.restart(3, PAUSE), all(1));
    goes_on(&mut world, &mut plain, "a", 2);
}

#[test]
fn a_device_without_security_that_was_never_asked_can_be_asked_afterwards() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lwm2m=1.1", "</1/0>,</3/0>");
    assert_eq!(world.restart(1, PAUSE), all(1));
    let read = world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
    assert!(world.outcome(read).is_ok());
}

#[test]
fn a_registration_whose_session_was_closed_goes_on_in_the_next_session() {
    let mut world = World::of_parts(2);
    let (mut device, location, observed) = registered(&mut world, device(40_000, true), "a");
    device.session.as_mut().unwrap().close();
    device.run(&mut world);
    assert!(world.told().iter().any(|told| told.starts_with("closed a")));
    assert_eq!(world.restart(3, PAUSE), all(1));
    device.connect(&mut world, "a-management", &KEY);
    assert_eq!(device.request(&mut world, Code::POST, &location, b"").unwrap().code, Code::CHANGED);
    device.notify(&mut world, Kind::NonConfirmable, observed.token, 2, &[PLAIN], b"2");
    assert!(world.told().iter().any(|told| told.starts_with("notification a")));
}

#[test]
fn observations_get_numbers_that_none_had() {
    let mut world = World::of_parts(3);
    let mut ids = HashSet::new();
    let number = |told: &lwm2m_server::Answer| match told {
        lwm2m_server::Answer::Observing(id, _) => *id,
        other => unreachable!("{other:?}"),
    };
    let mut devices = Vec::new();
    for round in 0..3_u16 {
        for n in 0..6 {
            let name = format!("device-{round}-{n}");
            let mut device = device(40_000 + 10 * round + n, true);
            let identity = world.enrol(&name, Role::Management);
            device.connect(&mut world, &identity, &KEY);
            device.register(&mut world, &format!("ep={name}&lwm2m=1.1"), "</3/0>");
            let observe = Operation::Observe { path: path("/3/0/9"), format: None };
            let asked = world.request(&name, observe).unwrap();
            let observed = device.asked(&mut world);
            device.answer(
                &mut world,
                &observed,
                Code::CONTENT,
                &[(OptionNumber::OBSERVE, &[1]), PLAIN],
                b"1",
            );
            assert!(ids.insert(number(&world.outcome(asked).unwrap())));
            devices.push(device);
        }
        world.restart(2 - (u8::try_from(round).unwrap() % 2), PAUSE);
    }
}

#[test]
fn a_repeated_message_gets_the_answer_of_before_and_a_replayed_record_none() {
    let mut world = World::of_parts(1);
    let (mut device, location, _) = registered(&mut world, device(40_000, true), "a");
    let update = request(0x7000, Code::POST, &location, b"");
    let record = device.sealed(&update);
    let (local, from) = (device.local, device.address);
    world.receive(local, from, &record);
    let answer = device.take_all(&mut world).remove(0);
    assert_eq!((answer.code, world.told().len()), (Code::CHANGED, 1));
    world.restart(1, PAUSE);
    world.receive(local, from, &record);
    assert!(world.sent.is_empty(), "the record was received before");
    device.send(&mut world, &update);
    let again = device.take_all(&mut world).remove(0);
    assert_eq!((again.id, again.code), (answer.id, Code::CHANGED));
    assert_eq!(world.told(), Vec::<String>::new(), "it is not executed again");
}

#[test]
fn a_device_that_moves_after_the_restart_is_found_and_a_lifetime_ends_as_ever() {
    let mut world = World::of_parts(2);
    let mut moving = registered(&mut world, device(40_000, true), "a");
    world.restart(2, PAUSE);
    moving.0.address = address(51_111);
    moving.0.notify(&mut world, Kind::NonConfirmable, moving.2.token, 2, &[PLAIN], b"2");
    assert!(world.told().iter().any(|told| told.starts_with("notification a")));
    world.pass(Duration::from_secs(299));
    assert!(world.told().iter().any(|told| told == "expired a"));
    assert!(world.shared.owner("a").is_none());
}

#[test]
fn whose_credential_ended_meanwhile_has_to_come_again() {
    let mut world = World::of_parts(1);
    let (mut device, location, _) = registered(&mut world, device(40_000, true), "a");
    let now = world.now.as_millis();
    // The commands that close the session are lost with the process.
    world.credentials.revoke(now, "test", "a", None, "lost").unwrap();
    assert_eq!(world.restart(1, PAUSE), none(&[(NotRestored::NotAdmitted, 1)]));
    assert!(device.request(&mut world, Code::POST, &location, b"").is_none());
    assert!(world.shared.owner("a").is_none());
}

#[test]
fn handshakes_under_way_are_not_saved_and_new_ones_find_room_beside_the_old_sessions() {
    let mut world = World::of_parts(1);
    let mut old = registered(&mut world, device(40_000, true), "a");
    let identity = world.enrol("b", Role::Management);
    let mut half = Device::plain(Listener::Coaps, 40_001);
    half.begin(&mut world, &identity, &KEY);
    half.step(&mut world);
    assert_eq!(world.restart(1, PAUSE), all(1));
    let mut new: Vec<_> =
        (0..20).map(|n| registered(&mut world, device(41_000 + n, true), &format!("new-{n}"))).collect();
    goes_on(&mut world, &mut old, "a", 2);
    goes_on(&mut world, &mut new[0], "new-0", 2);
}

#[test]
fn after_a_restart_the_session_heard_longest_ago_makes_room_for_a_new_one() {
    let mut world = World::of_parts(1);
    let identity = world.enrol("a", Role::Management);
    let session = |world: &mut World, port| Device::secure(world, Listener::Coaps, port, &identity, &KEY);
    let mut devices: Vec<_> = (0..4).map(|n| session(&mut world, 40_000 + n)).collect();
    for n in [2, 0, 3, 1] {
        world.pass(Duration::from_secs(1));
        assert_eq!(devices[n].request(&mut world, Code::POST, "nothing", b"").unwrap().code, Code::NOT_FOUND);
    }
    assert_eq!(world.restart(1, PAUSE), all(4));
    for gone in [2, 0] {
        session(&mut world, 50_000 + u16::try_from(gone).unwrap());
        assert!(devices[gone].request(&mut world, Code::POST, "nothing", b"").is_none());
    }
    for there in [3, 1] {
        assert!(devices[there].request(&mut world, Code::POST, "nothing", b"").is_some());
    }
}

/// A folder with a store, which outlives its restarts.
struct Data {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Data {
    fn new() -> Self {
        let store = Arc::new(RedbStore::in_memory(sealer(1)).unwrap());
        Self { folder: tempfile::tempdir().unwrap(), store }
    }

    fn file(&self, key: u8) -> SessionFile {
        SessionFile::new(self.folder.path(), sealer(key), Arc::clone(&self.store))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions.sealed")
    }

    /// Puts a copy of a file back, and of the store as it was with it.
    fn put_back(&self, copy: &[u8]) {
        std::fs::write(self.path(), copy).unwrap();
        self.store.expect_sessions(copy[8..24].try_into().unwrap()).unwrap();
    }
}

/// How many bytes of a file lie before its first frame.
const HEADER: usize = 140;

/// A world of so many devices without security, and the file that they were saved in.
fn filed(devices: u16, data: &Data) -> (World, SessionFile) {
    let mut world = World::new(true);
    for n in 0..devices {
        let mut device = Device::plain(Listener::Coap, 10_000 + n);
        device.register(&mut world, &format!("ep=device-{n}&lwm2m=1.1"), "</3/0>");
    }
    let file = data.file(1);
    let saved = world.stop();
    assert_eq!(file.put(world.now.as_millis(), &listened(), saved).unwrap(), u64::from(devices));
    (world, file)
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&[byte; 32], "test").unwrap()
}

#[test]
fn a_file_is_consumed_once_and_has_everybody_in_it() {
    let data = Data::new();
    let (mut world, file) = filed(600, &data);
    let folder = data.folder.path();
    assert_eq!(data.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(folder.join("sessions.sealed.new"), b"a stop that was cut short").unwrap();
    let saved = file.take(world.now.as_millis() + 1500).unwrap().unwrap();
    assert_eq!(saved.age, Duration::from_millis(1500));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "it is gone before it is used");
    assert!(file.take(world.now.as_millis()).unwrap().is_none());
    assert_eq!(world.resume(1, saved, PAUSE), all(600));
    assert_eq!(world.endpoint.devices().len(), 600);
}

#[test]
fn a_damaged_file_gives_what_lies_before_the_damage() {
    let data = Data::new();
    let (world, file) = filed(600, &data);
    let whole = std::fs::read(data.path()).unwrap();
    let now = world.now.as_millis();
    let taken = |bytes: &[u8]| {
        data.put_back(&whole);
        std::fs::write(data.path(), bytes).unwrap();
        let taken = file.take(now);
        assert!(!data.path().exists());
        taken.map(|saved| saved.unwrap().count())
    };
    assert_eq!(taken(&whole).unwrap(), 600);
    assert_eq!(taken(&whole[..whole.len() - 1]).unwrap(), 600);
    // The length of a frame has 4 bytes, which are followed by as many.
    let length: [u8; 4] = whole[HEADER..HEADER + 4].try_into().unwrap();
    let first = HEADER + 4 + u32::from_be_bytes(length) as usize;
    assert_eq!(taken(&whole[..first]).unwrap(), 256, "cut off behind the first frame");
    assert_eq!(
        taken(&[&whole[..HEADER], &whole[first..]].concat()).unwrap(),
        0,
        "the first frame is left out"
    );
    let repeated = [&whole[..first], &whole[HEADER..first]].concat();
    assert_eq!(taken(&repeated).unwrap(), 256, "the first frame stands in the place of the second");
    for place in (8..first + 40).step_by(61) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        // Within the header also the number is changed, then it is another file, or the time, then it may be in the future.
        let count = taken(&changed).unwrap_or_default();
        assert_eq!(count, if place < first { 0 } else { 256 }, "{place}");
    }
    for (bytes, complaint) in [
        (&whole[..20], "it is too short"),
        (&whole[..HEADER - 1], "it is too short"),
        // As the version before wrote it, with a shorter header.
        (&[b"LWM2MRS3", &whole[8..40]].concat(), "it is of another version of this server"),
    ] {
        let told = taken(bytes).unwrap_err().to_string();
        assert!(told.contains("sessions.sealed") && told.contains(complaint), "{told}");
    }
    data.put_back(&whole);
    assert_eq!(data.file(2).take(now).unwrap().unwrap().count(), 0);
}

#[test]
fn a_copy_that_is_put_back_is_refused_and_removed() {
    let data = Data::new();
    let (mut world, file) = filed(3, &data);
    let first = std::fs::read(data.path()).unwrap();
    let now = world.now.as_millis();
    let saved = file.take(now).unwrap().unwrap();
    assert_eq!(world.resume(1, saved, Duration::ZERO), all(3));
    let is_refused = |copy: &[u8]| {
        std::fs::write(data.path(), copy).unwrap();
        // As the next run knows it, from the store.
        let told = data.file(1).take(now).unwrap_err().to_string();
        assert!(told.contains("sessions.sealed") && told.contains("a copy that was put back"), "{told}");
        assert!(!data.path().exists());
    };
    is_refused(&first);
    file.put(now, &listened(), world.stop()).unwrap();
    let second = std::fs::read(data.path()).unwrap();
    // While another one is expected too: that is not there, and must not come back later.
    is_refused(&first);
    is_refused(&second);
    is_refused(&first);
}

#[test]
fn a_start_without_a_file_or_with_a_broken_one_forgets_what_was_expected() {
    for found in [None, Some(&b"LWM2M"[..]), Some(&[b'x'; 40])] {
        let data = Data::new();
        let (world, file) = filed(3, &data);
        let now = world.now.as_millis();
        let copy = std::fs::read(data.path()).unwrap();
        match found {
            Some(bytes) => std::fs::write(data.path(), bytes).unwrap(),
            None => std::fs::remove_file(data.path()).unwrap(),
        }
        assert!(file.take(now).is_ok_and(|saved| saved.is_none()) == found.is_none());
        std::fs::write(data.path(), &copy).unwrap();
        assert!(file.take(now).unwrap_err().to_string().contains("a copy that was put back"));
    }
}

#[test]
fn what_was_saved_long_ago_or_in_the_future_is_not_used() {
    let day = 86_400_000;
    for (passed, outcome) in [
        (0, Some(all(1))),
        (day, Some(all(1))),
        (day + 1, Some(none(&[(NotRestored::TooOld, 1)]))),
        (-1, None),
    ] {
        let data = Data::new();
        let (mut world, file) = filed(1, &data);
        let now = world.now.as_millis().checked_add_signed(passed).unwrap();
        world.now = Instant::from_millis(now);
        if passed > day {
            // Whoever is too old is not asked for.
            world.credentials.set_settings(lwm2m_server::credentials::Settings::default());
        }
        let taken = file.take(now).ok().map(Option::unwrap);
        let resumed = taken.map(|saved| {
            let age = saved.age;
            world.resume(1, saved, age)
        });
        assert_eq!(resumed, outcome, "{passed} ms");
        assert!(!data.path().exists());
    }
}

#[test]
fn it_is_told_and_counted_why_who_does_not_go_on() {
    let mut world = World::of_parts(2);
    let settings = lwm2m_server::credentials::Settings { allow_nosec: true, ..Default::default() };
    world.credentials.set_settings(settings);
    let names = ["a", "b", "c", "d"];
    for (port, name) in (40_000..).zip(names) {
        let (mut device, ..) = registered(&mut world, device(port, true), name);
        if name == "d" {
            device.session.as_mut().unwrap().close();
            device.run(&mut world);
        }
    }
    let mut plain = Device::plain(Listener::Coap, 40_010);
    plain.register(&mut world, "ep=e&lwm2m=1.1", "</3/0>");
    for name in ["a", "b"] {
        world.credentials.revoke(world.now.as_millis(), "test", name, None, "lost").unwrap();
    }
    let mut saved = world.stop();
    // The same one again finds its place taken.
    let bytes = |saved: &Saved| postcard::to_stdvec(saved).unwrap();
    let twice = saved.iter().find(|saved| **saved.who().endpoint() == *"d").map(bytes).unwrap();
    let registered: Saved = postcard::from_bytes(&twice).unwrap();
    saved.push(registered);
    let last = LastRun { remotes: saved, age: PAUSE, addresses: listened() };
    let resumed = world.resume_at(3, last, &Addresses { coap: None, ..listened() });
    let not_restored =
        vec![(NotRestored::NotAdmitted, 2), (NotRestored::NotListening, 1), (NotRestored::NoRoom, 1)];
    assert_eq!(resumed, Resumed { restored: 2, not_restored });
    assert_eq!(
        resumed.to_string(),
        "2 devices of the last run go on, and these have to come again: 2 because it is not admitted any more, 1 because \
         nobody listens any more at the port where it came in, 1 because there is no room for it"
    );
    let counted = |name| {
        let counters = (0..3).map(|part| world.part(part).counters().list());
        counters.flatten().filter(|(counter, _)| *counter == name).map(|(_, count)| count).sum::<u64>()
    };
    let names = [
        "restored",
        "not_restored_not_admitted",
        "not_restored_not_listening",
        "not_restored_too_old",
        "not_restored_unreadable",
        "not_restored_no_room",
    ];
    assert_eq!(names.map(counted), [2, 2, 1, 0, 0, 1]);
}

#[test]
fn devices_go_on_at_the_port_that_they_know_whatever_the_server_calls_it() {
    let data = Data::new();
    let mut world = World::of_parts(2);
    // Found by their Connection IDs, and by their addresses.
    let mut devices: Vec<_> = (0..6_u16)
        .map(|n| {
            let name = format!("device-{n}");
            (registered(&mut world, device(40_000 + n, n % 2 == 0), &name), name)
        })
        .collect();
    let rolled_over = Addresses {
        coaps: Some(([192, 0, 2, 1], 5685).into()),
        former_coaps: listened().coaps,
        ..listened()
    };
    let mut before = listened();
    for (now, local, number) in [
        (rolled_over, Listener::FormerCoaps, 2),
        (Addresses { bootstrap_coaps: None, ..rolled_over }, Listener::FormerCoaps, 3),
        (listened(), Listener::Coaps, 4),
    ] {
        let file = data.file(1);
        file.put(world.now.as_millis(), &before, world.stop()).unwrap();
        world.now = world.now.saturating_add(PAUSE);
        let remotes = file.take(world.now.as_millis()).unwrap().unwrap();
        let last = LastRun { age: remotes.age, addresses: remotes.addresses, remotes };
        assert_eq!(world.resume_at(3, last, &now), all(6));
        for (device, name) in &mut devices {
            device.0.local = local;
            goes_on(&mut world, device, name, number);
        }
        before = now;
    }
    // Where nobody has that port any more, they come by handshakes to where they are told to.
    let last = LastRun { remotes: world.stop(), age: PAUSE, addresses: listened() };
    let elsewhere = Addresses { coaps: rolled_over.coaps, ..listened() };
    assert_eq!(world.resume_at(2, last, &elsewhere), none(&[(NotRestored::NotListening, 6)]));
}

#[test]
fn of_two_sessions_that_only_their_addresses_tell_apart_one_goes_on_where_these_became_one() {
    let mut world = World::of_parts(1);
    let mut devices = [Listener::Coaps, Listener::FormerCoaps]
        .map(|local| registered(&mut world, Device::plain(local, 40_000), &format!("{local:?}")));
    let two = Addresses { former_coaps: Some(([192, 0, 2, 2], 5684).into()), ..listened() };
    let one = Addresses { coaps: Some(([0; 4], 5684).into()), former_coaps: None, ..listened() };
    let last = LastRun { remotes: world.stop(), age: PAUSE, addresses: two };
    let resumed = world.resume_at(1, last, &one);
    assert_eq!(resumed, Resumed { restored: 1, not_restored: vec![(NotRestored::NoRoom, 1)] });
    let answers = devices.each_mut().map(|(device, location, _)| {
        let record = device.sealed(&request(0x7000, Code::POST, location, b""));
        device.local = Listener::Coaps;
        world.receive(device.local, device.address, &record);
        device.take_all(&mut world).len()
    });
    assert_eq!(answers.iter().sum::<usize>(), 1, "{answers:?}");
}

#[test]
fn not_even_a_copy_of_what_was_saved_makes_a_number_come_twice() {
    let mut world = World::of_parts(1);
    let data = Data::new();
    let (mut device, _, _) = registered(&mut world, device(40_000, false), "a");
    let file = data.file(1);
    file.put(world.now.as_millis(), &listened(), world.stop()).unwrap();
    let copy = std::fs::read(data.path()).unwrap();
    let mut seen = HashSet::new();
    // A backup of the whole folder comes back as often as one likes; time passes as it does for the server.
    for _ in 0..20 {
        data.put_back(&copy);
        world.now = world.now.saturating_add(Duration::from_millis(3));
        let saved = file.take(world.now.as_millis()).unwrap().unwrap();
        let age = saved.age;
        assert_eq!(world.resume(1, saved, age), all(1));
        for _ in 0..17 {
            world.request("a", Operation::Read { path: path("/3/0/9"), format: None }).unwrap();
            let (_, _, record) = world.sent.pop_front().unwrap();
            let number: [u8; 8] = record[3..11].try_into().unwrap();
            assert!(seen.insert(number), "{number:?} came twice");
            device.take(&world, &record);
            let asked = device.got.pop_front().unwrap();
            device.answer(&mut world, &asked, Code::CONTENT, &[PLAIN], b"3");
        }
    }
}
