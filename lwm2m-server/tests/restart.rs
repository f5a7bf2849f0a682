//! Planned restarts: what was saved goes on as if nothing had happened, in as many parts as there are then.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use dtls_psk::ConnectionId;
use lwm2m_coap::{Code, Kind, OptionNumber};
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::Listener;
use lwm2m_server::store::{Sealer, SessionFile};
use lwm2m_server::{Operation, Path};
use support::{Device, Got, KEY, World, address, request};

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
        assert_eq!(world.restart(after, PAUSE), (12, 0));
        for (device, name) in &mut devices {
            assert_eq!(world.told(), Vec::<String>::new());
            goes_on(&mut world, device, name, 2);
        }
        assert_eq!(world.restart(before, PAUSE), (12, 0));
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
    assert_eq!(world.restart(3, PAUSE), (1, 0));
    goes_on(&mut world, &mut plain, "a", 2);
}

#[test]
fn a_device_without_security_that_was_never_asked_can_be_asked_afterwards() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::Coap, 40_000);
    device.register(&mut world, "ep=a&lwm2m=1.1", "</1/0>,</3/0>");
    assert_eq!(world.restart(1, PAUSE), (1, 0));
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
    assert_eq!(world.restart(3, PAUSE), (1, 0));
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
    assert_eq!(world.restart(1, PAUSE), (0, 1));
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
    assert_eq!(world.restart(1, PAUSE), (1, 0));
    let mut new: Vec<_> =
        (0..20).map(|n| registered(&mut world, device(41_000 + n, true), &format!("new-{n}"))).collect();
    goes_on(&mut world, &mut old, "a", 2);
    goes_on(&mut world, &mut new[0], "new-0", 2);
}

/// A world of so many devices without security, and the file that they were saved in.
fn filed(devices: u16, folder: &std::path::Path) -> (World, SessionFile) {
    let mut world = World::new(true);
    for n in 0..devices {
        let mut device = Device::plain(Listener::Coap, 10_000 + n);
        device.register(&mut world, &format!("ep=device-{n}&lwm2m=1.1"), "</3/0>");
    }
    let file = SessionFile::new(folder, sealer(1));
    let saved = world.stop();
    assert_eq!(file.put(world.now.as_millis(), saved).unwrap(), u64::from(devices));
    (world, file)
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&[byte; 32], "test").unwrap()
}

#[test]
fn a_file_is_consumed_once_and_has_everybody_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut world, file) = filed(600, folder.path());
    let mode = folder.path().join("sessions.sealed").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let saved = file.take(world.now.as_millis() + 1500).unwrap().unwrap();
    assert_eq!(saved.age, Duration::from_millis(1500));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it is gone before it is used");
    assert!(file.take(world.now.as_millis()).unwrap().is_none());
    assert_eq!(world.resume(1, saved, PAUSE), (600, 0));
    assert_eq!(world.endpoint.devices().len(), 600);
}

#[test]
fn a_damaged_file_gives_what_lies_before_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (world, file) = filed(600, folder.path());
    let path = folder.path().join("sessions.sealed");
    let whole = std::fs::read(&path).unwrap();
    let now = world.now.as_millis();
    let taken = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let taken = file.take(now);
        assert!(!path.exists());
        taken.map(|saved| saved.unwrap().count())
    };
    assert_eq!(taken(&whole).unwrap(), 600);
    assert_eq!(taken(&whole[..whole.len() - 1]).unwrap(), 600);
    // The header is 32 bytes, the length of a frame 4, which are followed by as many.
    let first = 36 + u32::from_be_bytes(whole[32..36].try_into().unwrap()) as usize;
    assert_eq!(taken(&whole[..first]).unwrap(), 256, "cut off behind the first frame");
    assert_eq!(taken(&[&whole[..32], &whole[first..]].concat()).unwrap(), 0, "the first frame is left out");
    let repeated = [&whole[..first], &whole[32..first]].concat();
    assert_eq!(taken(&repeated).unwrap(), 256, "the first frame stands in the place of the second");
    for place in (8..first + 40).step_by(61) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        // Within the header also the time is changed: then it may be too old, or in the future.
        let count = taken(&changed).unwrap_or_default();
        assert_eq!(count, if place < first { 0 } else { 256 }, "{place}");
    }
    assert!(taken(&whole[..20]).is_err());
    assert!(taken(&[b"LWM2MRS0", &whole[8..]].concat()).is_err());
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(SessionFile::new(folder.path(), sealer(2)).take(now).unwrap().unwrap().count(), 0);
}

#[test]
fn what_was_saved_long_ago_or_in_the_future_is_not_used() {
    let day = 86_400_000;
    for (passed, is_used) in [(0, true), (day, true), (day + 1, false), (-1, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (world, file) = filed(1, folder.path());
        let taken = file.take(world.now.as_millis().checked_add_signed(passed).unwrap());
        assert_eq!(taken.is_ok(), is_used, "{passed} ms");
        assert!(!folder.path().join("sessions.sealed").exists());
    }
}

#[test]
fn not_even_a_copy_of_what_was_saved_makes_a_number_come_twice() {
    let mut world = World::of_parts(1);
    let folder = tempfile::tempdir().unwrap();
    let (mut device, _, _) = registered(&mut world, device(40_000, false), "a");
    let file = SessionFile::new(folder.path(), sealer(1));
    file.put(world.now.as_millis(), world.stop()).unwrap();
    let place = folder.path().join("sessions.sealed");
    let copy = std::fs::read(&place).unwrap();
    let mut seen = HashSet::new();
    // The backup comes back as often as one likes; time passes as it does for the server.
    for _ in 0..20 {
        std::fs::write(&place, &copy).unwrap();
        world.now = world.now.saturating_add(Duration::from_millis(3));
        let saved = file.take(world.now.as_millis()).unwrap().unwrap();
        let age = saved.age;
        assert_eq!(world.resume(1, saved, age), (1, 0));
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
