//! New credentials by bootstrap: proven by a full handshake and a registration, else rolled back.

use lwm2m_client::{Action, Key, Notice, Reason, Role, ShortServerId};
use lwm2m_coap::Code;

use crate::world::{BOOT, NEW, OLD, Script, World, account, bootstrap_account};

const BS: u16 = 5784;
const DM: u16 = 5684;

fn world() -> World {
    let mut server = Script::secured(DM, "old", OLD.key);
    server.keys.insert(b"new".to_vec(), NEW.key.to_vec());
    World::durable(
        &[bootstrap_account(BS, Some(BOOT)), account(1, DM, Some(OLD))],
        vec![Script::secured(BS, "boot", BOOT.key), server],
    )
}

fn rekey(world: &mut World) {
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, Some(NEW));
    assert_eq!(world.finish(BS), Code::CHANGED);
}

#[test]
fn a_new_key_is_proven_by_a_full_handshake_and_a_registration() {
    let mut world = world();
    rekey(&mut world);
    world.run(5);
    assert_eq!(world.server(DM).handshakes, 2);
    assert_eq!(world.count(DM, "/rd"), 2);
    assert!(world.notices.contains(&Notice::Confirmed));
    let secured = world.notices.iter().filter(|notice| matches!(notice, Notice::Secured { .. })).count();
    assert_eq!(secured, 3);
    let with_bootstrap = |notice: &Notice| matches!(notice, Notice::Secured { role: Role::Bootstrap, .. });
    assert!(world.notices.iter().any(with_bootstrap));
    // The old key is not needed any more.
    world.server(DM).keys.remove(b"old".as_slice());
    world.power_loss();
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 3 && world.client.is_registered()));
}

#[test]
fn a_key_that_the_server_does_not_know_is_rolled_back() {
    let mut world = world();
    world.server(DM).keys.remove(b"new".as_slice());
    rekey(&mut world);
    // Five handshakes of 90 s and the pauses between them.
    assert!(
        world.run_until(3000, |world| world.notices.contains(&Notice::RolledBack)),
        "{:?}",
        world.notices
    );
    assert!(world.run_until(10, |world| world.client.is_registered()));
    assert_eq!(world.server(DM).handshakes, 2);
    assert!(!world.notices.contains(&Notice::Confirmed));
    // And so it stays.
    world.power_loss();
    assert!(world.run_until(10, |world| world.client.is_registered()));
}

#[test]
fn the_registration_lives_while_the_bootstrap_runs() {
    let mut world = world();
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.execute(DM, "/1/1/9");
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    assert!(world.client.is_registered());
    assert_eq!(world.count(DM, "/rd"), 1);
    world.client.update();
    world.run(2);
    assert_eq!(world.count(DM, "/rd/r1"), 1);
}

#[test]
fn a_server_is_not_approached_while_its_account_is_being_written() {
    let mut world = world();
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.execute(DM, "/1/1/9");
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, Some(NEW));
    // It ends the session, and the device has something to tell.
    world.server(DM).close();
    world.run(1);
    world.client.update();
    world.run(30);
    assert_eq!(world.server(DM).handshakes, 1, "nothing is tried with a key that does not count yet");
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.notices.contains(&Notice::Confirmed)));
    assert_eq!(world.server(DM).handshakes, 2);
}

#[test]
fn a_server_is_approached_again_after_a_bootstrap_that_came_to_nothing() {
    let mut world = world();
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.execute(DM, "/1/1/9");
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, Some(NEW));
    world.server(DM).close();
    world.run(1);
    world.client.update();
    // The bootstrap server says nothing more.
    assert!(world.run_until(1000, |world| world.servers[1].handshakes == 2));
    assert!(world.run_until(10, |world| world.is_registered(DM)));
}

#[test]
fn keys_reach_storage_before_the_write_is_answered() {
    let mut world = world();
    rekey(&mut world);
    let stages = world.flash.log.iter().filter(|action| *action == "Stage").count();
    // Identity and key; then five records (two of /0, one of /1) and the index.
    assert_eq!(stages, 2 + 3 + 1, "{:?}", world.flash.log);
}

#[test]
fn a_key_that_is_not_in_storage_is_named_and_tried_again() {
    for key in [Key::Identity(1), Key::Secret(1)] {
        let mut world = world();
        for action in [Action::Remove { key }, Action::Commit, Action::Confirm] {
            world.flash.store.apply(&action).unwrap();
        }
        world.run(5);
        let server = ShortServerId::FIRST;
        let reason = Reason::NoCredential;
        assert_eq!(world.notices, [Notice::RegistrationRetry { server, reason }], "{key:?}");
        assert!(world.flash.loaded.len() < 12, "asked once for each attempt");
    }
}
