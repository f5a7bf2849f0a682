//! `/0/x/16` limits and orders the cipher suites that the client offers (LwM2M Core 1.1.1 appendix E.1).

use dtls_psk::{Suite, Suites};
use lwm2m_client::objects::{Content, Format, Operation, Value};
use lwm2m_client::{Notice, Reason, Role, ShortServerId};
use lwm2m_coap::Code;

use crate::world::{BOOT, OLD, Script, World, bootstrap_account, target, tlv};

const BS: u16 = 5784;
const DM: u16 = 5684;

/// A device whose bootstrap writes these numbers, which then goes to a server that takes `accepted`.
fn bootstrapped(suites: &[(&str, u64)], accepted: &[Suite]) -> World {
    let mut server = Script::secured(DM, "old", OLD.key);
    server.suites = Suites::new(accepted).unwrap();
    let scripts = vec![Script::secured(BS, "boot", BOOT.key), server];
    let mut world = World::durable(&[bootstrap_account(BS, Some(BOOT))], scripts);
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, Some(OLD));
    let values: Vec<_> =
        suites.iter().map(|(instance, suite)| (*instance, Value::Unsigned(*suite))).collect();
    let payload = tlv("/0/1/16", &values);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::BootstrapWrite { path: target("/0/1/16").path, content };
    assert_eq!(world.ask(BS, &write).code, Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    world
}

fn server() -> Role {
    Role::Server(ShortServerId::FIRST)
}

fn secured_under(world: &World) -> Vec<Suite> {
    let secured = world.notices.iter().filter_map(|notice| match notice {
        Notice::Secured { role, suite } if *role == server() => Some(*suite),
        _ => None,
    });
    secured.collect()
}

#[test]
fn what_is_written_is_offered_in_the_order_of_its_instances_and_survives_a_power_loss() {
    // Numbers that nobody knows, one that no client offers, and one twice are passed over.
    let list = [("9", 0xc0a8), ("3", 0xd003), ("1", 0x1301), ("2", 0x00ae), ("12", 0xd003)];
    let mut world = bootstrapped(&list, &[Suite::EcdhePskAes128Ccm8]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(secured_under(&world), [Suite::EcdhePskAes128Ccm8]);
    world.server(DM).suites = Suites::DEFAULT;
    world.power_loss();
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 2));
    assert_eq!(world.server(DM).offered[..6], [0xd0, 0x03, 0xc0, 0xa8, 0x00, 0xff]);
    world.server(DM).suites = Suites::new(&[Suite::PskAes128Gcm]).unwrap();
    world.power_loss();
    world.run(60);
    assert_eq!(world.server(DM).handshakes, 2, "what is not written is not offered");
}

#[test]
fn without_a_list_the_smallest_handshake_is_offered_alone() {
    let mut world = bootstrapped(&[], &[Suite::PskAes128Ccm, Suite::PskAes128Ccm8]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(secured_under(&world), [Suite::PskAes128Ccm8]);
    assert_eq!(world.server(DM).offered, [0xc0, 0xa8, 0x00, 0xff]);
}

#[test]
fn a_list_of_unknown_suites_leaves_nothing_to_offer() {
    let mut world = bootstrapped(&[("0", 0x1301), ("1", 0x00ae)], &[Suite::PskAes128Ccm8]);
    world.run(30);
    assert!(world.server(DM).offered.is_empty());
    let refused =
        |notice: &Notice| matches!(notice, Notice::RegistrationRetry { reason: Reason::NoSuite, .. });
    assert!(world.notices.iter().any(refused), "{:?}", world.notices);
}

#[test]
fn a_number_that_is_no_suite_is_refused() {
    let mut world =
        World::durable(&[bootstrap_account(BS, Some(BOOT))], vec![Script::secured(BS, "boot", BOOT.key)]);
    assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, Some(OLD));
    let payload = tlv("/0/1/16", &[("0", Value::Unsigned(0x1_0000))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let write = Operation::BootstrapWrite { path: target("/0/1/16").path, content };
    assert_eq!(world.ask(BS, &write).code, Code::BAD_REQUEST);
}
