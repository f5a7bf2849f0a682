//! Several servers: order of registration, access control, attributes of their own (LwM2M Core 1.1.1 §6.2.1.1, §7.3).

use lwm2m_client::objects::{Content, Format, Operation, Value};
use lwm2m_client::{FactoryAccount, Notice, ShortServerId};
use lwm2m_coap::Code;

use crate::world::{Script, World, account, account_with, bootstrap_account, server_instance, target, tlv};

const BS: u16 = 5783;
const ONE: u16 = 1001;
const TWO: u16 = 1002;

fn prioritized(id: u16, port: u16, priority: u32, is_blocking: bool) -> FactoryAccount<'static> {
    let mut server = server_instance(id, 86_400);
    assert!(server.set(13, Some(priority)));
    assert!(server.set(17, Some(1)));
    assert!(server.set(15, Some(u32::from(is_blocking))));
    account_with(server, port)
}

#[test]
fn servers_register_in_ascending_order_of_priority() {
    let accounts = [prioritized(1, ONE, 20, false), prioritized(2, TWO, 10, false)];
    let mut world = World::new(&accounts, vec![Script::new(ONE), Script::new(TWO)]);
    world.server(TWO).is_dead = true;
    world.run(60);
    assert!(world.server(ONE).requests.is_empty());
    world.run(60);
    assert_eq!(world.count(ONE, "/rd"), 1, "the one before failed, and does not block");
}

#[test]
fn a_failure_block_stops_the_order() {
    let accounts = [prioritized(1, ONE, 20, false), prioritized(2, TWO, 10, true)];
    let mut world = World::new(&accounts, vec![Script::new(ONE), Script::new(TWO)]);
    world.server(TWO).refusal = Some(Code::FORBIDDEN);
    world.run(1000);
    assert!(world.server(ONE).requests.is_empty());
    assert_eq!(world.client.poll_timeout().map(|at| at > world.now), Some(true));
}

/// A device with two servers, as OMA ETS configuration C.14 has it.
fn shared() -> World {
    let mut world =
        World::new(&[bootstrap_account(BS, None)], vec![Script::new(BS), Script::new(ONE), Script::new(TWO)]);
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, ONE, None);
    world.write_account(BS, 2, 2, TWO, None);
    for (instance, object, object_instance, server, bits) in
        [(0, 1, 1, 1, 15), (1, 1, 2, 2, 15), (2, 3, 0, 2, 15), (3, 42_800, 65_535, 1, 16)]
    {
        let entry = format!("2/{server}");
        let values = [
            ("0", Value::Integer(object)),
            ("1", Value::Integer(object_instance)),
            (entry.as_str(), Value::Integer(bits)),
            ("3", Value::Integer(65_535)),
        ];
        assert_eq!(world.bootstrap_write(BS, &format!("/2/{instance}"), &values), Code::CHANGED);
    }
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.count_of(ONE) + world.count_of(TWO) == 2));
    world.run(1);
    assert!(world.notices.contains(&Notice::Confirmed));
    world
}

#[test]
fn each_server_has_its_own_registration() {
    // OMA ETS LightweightM2M-1.1-int-950
    let mut world = shared();
    for port in [ONE, TWO] {
        let register = world.server(port).requests[0].clone();
        assert!(register.text().contains("</2/0>,</2/1>,</2/2>,</2/3>"), "{}", register.text());
    }
    let secured = |id| Notice::Registered { server: ShortServerId::new(id).unwrap() };
    assert!(world.notices.contains(&secured(1)) && world.notices.contains(&secured(2)));
}

#[test]
fn rights_come_from_access_control() {
    let mut world = shared();
    assert_eq!(world.read(ONE, "/1/1/1", Format::TEXT).code, Code::CONTENT);
    assert_eq!(world.read(ONE, "/1/2/1", Format::TEXT).code, Code::UNAUTHORIZED);
    assert_eq!(world.read(ONE, "/3/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
    assert_eq!(world.read(TWO, "/3/0/0", Format::TEXT).code, Code::CONTENT);
    assert_eq!(world.execute(ONE, "/3/0/4"), Code::UNAUTHORIZED);
    assert_eq!(world.execute(TWO, "/3/0/4"), Code::CHANGED);
    assert_eq!(world.write_text(TWO, "/1/1/1", "60"), Code::UNAUTHORIZED);
    // A read of the object shows only what may be read.
    let read = world.read(ONE, "/1", Format::TLV);
    assert_eq!(read.payload[..2], [0x08, 0x01]);
}

#[test]
fn who_creates_an_instance_owns_it() {
    let mut world = shared();
    let payload = tlv("/42800/0", &[("0", Value::String("mine"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let create = Operation::Create { target: target("/42800"), content };
    assert_eq!(world.ask(TWO, &create).code, Code::UNAUTHORIZED);
    assert_eq!(world.ask(ONE, &create).code, Code::CREATED);
    assert_eq!(world.read(ONE, "/42800/0/0", Format::TEXT).text(), "mine");
    assert_eq!(world.read(TWO, "/42800/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
    assert_eq!(world.read(ONE, "/2/4/3", Format::TEXT).text(), "1");
    // The owner lets the other one in.
    let payload = tlv("/2/4", &[("2/1", Value::Integer(31)), ("2/2", Value::Integer(1))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let mode = lwm2m_client::objects::WriteMode::Partial;
    let write = Operation::Write { target: target("/2/4"), mode, content };
    assert_eq!(world.ask(TWO, &write).code, Code::UNAUTHORIZED);
    assert_eq!(world.ask(ONE, &write).code, Code::CHANGED);
    assert_eq!(world.read(TWO, "/42800/0/0", Format::TEXT).text(), "mine");
    assert_eq!(world.ask(TWO, &Operation::Delete { target: target("/42800/0") }).code, Code::UNAUTHORIZED);
    assert_eq!(world.ask(ONE, &Operation::Delete { target: target("/42800/0") }).code, Code::DELETED);
    assert_eq!(world.read(ONE, "/2/4", Format::TLV).code, Code::NOT_FOUND);
}

#[test]
fn an_instance_keeps_its_owner_when_its_list_is_replaced() {
    let mut world = shared();
    let payload = tlv("/42800/0", &[("0", Value::String("mine"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    world.ask(ONE, &Operation::Create { target: target("/42800"), content });
    let payload = tlv("/2/4", &[("2/2", Value::Integer(1))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let mode = lwm2m_client::objects::WriteMode::Replace;
    assert_eq!(
        world.ask(ONE, &Operation::Write { target: target("/2/4"), mode, content }).code,
        Code::CHANGED
    );
    assert_eq!(world.read(TWO, "/2/4/3", Format::TEXT).text(), "1");
    assert_eq!(world.execute(TWO, "/42800/0/0"), Code::UNAUTHORIZED);
}

#[test]
fn a_right_that_was_taken_away_stays_away_over_a_power_loss() {
    let mut world = shared();
    let payload = tlv("/42800/0", &[("0", Value::String("mine"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    world.ask(ONE, &Operation::Create { target: target("/42800"), content });
    let payload = tlv("/2/4", &[("2/2", Value::Integer(1))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let mode = lwm2m_client::objects::WriteMode::Partial;
    assert_eq!(
        world.ask(ONE, &Operation::Write { target: target("/2/4"), mode, content }).code,
        Code::CHANGED
    );
    assert_eq!(world.read(TWO, "/42800/0/0", Format::TEXT).text(), "mine");
    assert_eq!(world.ask(ONE, &Operation::Delete { target: target("/2/4/2/2") }).code, Code::DELETED);
    assert_eq!(world.read(TWO, "/42800/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
    world.run(1);
    world.power_loss();
    assert!(world.run_until(5, |world| world.count_of(ONE) + world.count_of(TWO) == 4));
    assert_eq!(world.read(TWO, "/42800/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
}

#[test]
fn attributes_belong_to_the_server_that_wrote_them() {
    // OMA ETS LightweightM2M-1.1-int-951, on the server instances
    let mut world = shared();
    assert_eq!(world.attributes(ONE, "/1/1", &["pmin=2", "pmax=10"]), Code::CHANGED);
    let discover = Operation::Discover { target: target("/1"), depth: None };
    assert!(world.ask(ONE, &discover).text().contains("</1/1>;pmin=2;pmax=10"));
    assert!(!world.ask(TWO, &discover).text().contains("pmin"));
}

#[test]
fn a_single_server_may_do_everything() {
    let mut world = World::new(&[account(1, ONE, None)], vec![Script::new(ONE)]);
    assert!(world.run_until(2, |world| world.is_registered(ONE)));
    assert_eq!(world.execute(ONE, "/3/0/4"), Code::CHANGED);
    assert_eq!(world.read(ONE, "/2", Format::TLV).code, Code::NOT_FOUND);
}
