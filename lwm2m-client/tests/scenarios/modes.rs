//! Bootstrap from every security mode into every security mode.

use lwm2m_client::{Credential, Notice};
use lwm2m_coap::Code;

use crate::certificates::Made;
use crate::prover::{Owner, public_key};
use crate::raw_public_keys::{DEVICE, Keys, SERVER};
use crate::world::{BOOT, OLD, Script, World, bootstrap_account_of};

/// NoSec, a pre-shared key, raw public keys, certificates.
fn credentials<'a>(keys: &'a Keys, made: &'a Made, psk: Credential<'a>) -> [Option<Credential<'a>>; 4] {
    [None, Some(psk), Some(keys.credential()), Some(made.credential().into())]
}

/// A server for devices with any of them.
fn script(port: u16, made: &Made) -> Script {
    let mut script = Script::new(port);
    if matches!(port, 5684 | 5784) {
        script = Script::signing(port, Owner::new(SERVER, &[&public_key(&DEVICE), &made.device]));
        script.owner.chain = vec![made.server.clone(), made.intermediate.clone()];
        script.keys.insert(b"old".to_vec(), OLD.key.to_vec());
        script.keys.insert(b"boot".to_vec(), BOOT.key.to_vec());
    }
    script
}

#[test]
fn a_bootstrap_leads_from_every_mode_into_every_mode_and_on() {
    let (keys, made) = (Keys::new(), Made::new());
    for from in credentials(&keys, &made, BOOT.into()) {
        let bootstrap = if from.is_some() { 5784 } else { 5783 };
        let scripts = [bootstrap, 5683, 5684].map(|port| script(port, &made));
        let mut world = World::durable(&[bootstrap_account_of(bootstrap, from)], scripts.into());
        // One after another on one device: each mode follows each other, and leaves nothing of it behind.
        let modes = credentials(&keys, &made, OLD.into());
        for number in [0, 1, 2, 3, 1, 0, 2, 1, 3, 0, 3, 2, 0] {
            let to = modes[number];
            let case = format!("from {from:?} to {to:?}");
            let at = if to.is_some() { 5684 } else { 5683 };
            let (asked, known) = (world.count(bootstrap, "/bs"), world.count_of(at));
            if asked > 0 {
                world.client.bootstrap();
            }
            let is_asked = |world: &World| {
                let requests = &world.servers[0].requests;
                requests.iter().filter(|request| request.path == "/bs").count() > asked
            };
            assert!(world.run_until(10, is_asked), "{case}: {:?}", world.notices);
            world.notices.clear();
            assert!(world.try_write_account(bootstrap, 1, 1, at, to), "{case}");
            assert_eq!(world.finish(bootstrap), Code::CHANGED, "{case}");
            assert!(world.run_until(10, |world| world.count_of(at) > known), "{case}: {:?}", world.notices);
            world.run(1);
            assert!(world.notices.contains(&Notice::Confirmed), "{case}: {:?}", world.notices);
        }
        world.power_loss();
        assert!(world.run_until(10, |world| world.client.is_registered()));
    }
}
