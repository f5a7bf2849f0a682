//! Power lost at every step between staging and confirming: the device always comes back with one whole set.

use lwm2m_client::Credential;
use lwm2m_coap::Code;

use crate::world::{BOOT, NEW, OLD, Script, World, account, bootstrap_account};

const BS: u16 = 5784;
const DM: u16 = 5684;

/// Re-keys a device whose power goes right before the storage action `cut`; how many actions there were.
fn rekey_with_power_loss(cut: usize, is_new_key_known: bool) -> usize {
    let mut server = Script::secured(DM, "old", OLD.key);
    if is_new_key_known {
        server.keys.insert(b"new".to_vec(), NEW.key.to_vec());
    }
    change_with_power_loss(cut, NEW.into(), server)
}

/// The same with any new credential.
fn change_with_power_loss(cut: usize, credential: Credential<'_>, server: Script) -> usize {
    let mut world = World::durable(
        &[bootstrap_account(BS, Some(BOOT)), account(1, DM, Some(OLD))],
        vec![Script::secured(BS, "boot", BOOT.key), server],
    );
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.run(1);
    let before = world.flash.actions;
    world.flash.cut_before = Some(before.saturating_add(cut));
    // The server asks for bootstraps until one went through, as a rotation does.
    for _ in 0..4 {
        if !world.run_until(5000, |world| world.client.is_registered()) {
            panic!("cut {cut}: never registered again: {:?} {:?}", world.notices, world.flash.log);
        }
        let asked = world.count(BS, "/bs");
        if world.execute(DM, "/1/1/9") != Code::CHANGED {
            continue;
        }
        let is_asked = |world: &World| {
            world.servers[0].requests.iter().filter(|request| request.path == "/bs").count() > asked
        };
        if !world.run_until(200, is_asked) {
            continue;
        }
        if bootstrap(&mut world, credential) {
            break;
        }
    }
    assert!(world.run_until(5000, |world| world.client.is_registered()), "cut {cut}");
    world.run(5000);
    assert!(world.client.is_registered(), "cut {cut}: {:?}", world.notices);
    // What is stored is whole: a restart registers without any bootstrap.
    let asked = world.count(BS, "/bs");
    world.power_loss();
    assert!(world.run_until(10, |world| world.client.is_registered()), "cut {cut}");
    assert_eq!(world.count(BS, "/bs"), asked, "cut {cut}");
    world.flash.actions - before
}

/// The bootstrap server's part, which ends early when the device loses power.
fn bootstrap(world: &mut World, credential: Credential<'_>) -> bool {
    let reboots = world.reboots;
    let account = |world: &mut World| {
        let written = world.try_write_account(BS, 1, 1, DM, Some(credential));
        written && world.try_finish(BS)
    };
    account(world) && world.reboots == reboots
}

#[test]
fn a_device_comes_back_from_a_power_loss_at_every_step_with_a_good_key() {
    let steps = rekey_with_power_loss(usize::MAX, true);
    assert!(steps >= 8, "{steps}");
    for cut in 0..=steps {
        rekey_with_power_loss(cut, true);
    }
}

#[test]
fn a_device_comes_back_from_a_power_loss_at_every_step_with_a_bad_key() {
    let steps = rekey_with_power_loss(usize::MAX, false);
    for cut in 0..=steps.min(12) {
        rekey_with_power_loss(cut, false);
    }
}

#[cfg(feature = "rpk")]
#[test]
fn a_device_comes_back_from_a_power_loss_at_every_step_into_raw_public_keys_that_work_or_not() {
    use crate::prover::{Owner, public_key};
    let (device, right, wrong) = ([0xd1; 32], [0x5e; 32], [0x07; 32]);
    let (public, server_key) = (public_key(&device), public_key(&right));
    for secret in [right, wrong] {
        let change = |cut| {
            let mut server = Script::signing(DM, Owner::new(secret, &[&public]));
            server.keys.insert(b"old".to_vec(), OLD.key.to_vec());
            let keys = lwm2m_client::RawPublicKey {
                public_key: Some(&public),
                private_key: Some(&device),
                server_key: &server_key,
            };
            change_with_power_loss(cut, keys.into(), server)
        };
        let steps = change(usize::MAX);
        assert!(steps >= 9, "{steps}");
        for cut in 0..=steps.min(14) {
            change(cut);
        }
    }
}
