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
fn what_is_observed_is_told_only_to_who_may_read_it_by_then() {
    // LwM2M Core 1.1.1 §7.3: the right counts when the notification goes out.
    let mut world = shared();
    let payload = tlv("/42800/0", &[("0", Value::String("mine"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    assert_eq!(world.ask(ONE, &Operation::Create { target: target("/42800"), content }).code, Code::CREATED);
    let rights = |world: &mut World, bits| {
        let payload = tlv("/2/4", &[("2/1", Value::Integer(31)), ("2/2", Value::Integer(bits))]);
        let content = Content { format: Format::TLV, payload: &payload };
        let mode = lwm2m_client::objects::WriteMode::Partial;
        let write = Operation::Write { target: target("/2/4"), mode, content };
        assert_eq!(world.ask(ONE, &write).code, Code::CHANGED);
    };
    let change = |world: &mut World, text: &str| {
        world.objects.notes.list.get_mut(&0).unwrap().text = text.to_owned();
        world.client.changed(target("/42800/0/0").path);
        world.run(1);
    };
    let told = |world: &mut World, port| -> Vec<(Code, String)> {
        let told = std::mem::take(&mut world.server(port).notifications);
        told.iter().map(|it| (it.code, it.text().to_owned())).collect()
    };
    rights(&mut world, 1);
    for port in [ONE, TWO] {
        assert_eq!(world.observe(port, "/42800/0/0").text(), "mine");
    }
    let text = |text: &str| vec![(Code::CONTENT, text.to_owned())];
    change(&mut world, "ours");
    assert_eq!([told(&mut world, ONE), told(&mut world, TWO)], [text("ours"), text("ours")]);
    // Write without read.
    rights(&mut world, 2);
    change(&mut world, "hidden");
    let refused = vec![(Code::UNAUTHORIZED, String::new())];
    assert_eq!([told(&mut world, ONE), told(&mut world, TWO)], [text("hidden"), refused]);
    // The error ended the observation (RFC 7641 §4.2).
    rights(&mut world, 1);
    change(&mut world, "ours again");
    assert_eq!([told(&mut world, ONE), told(&mut world, TWO)], [text("ours again"), vec![]]);
}

const THREE: u16 = 1003;

/// An instance of `/2`: what it is about, its owner, and who may do what.
fn access(world: &mut World, instance: u16, about: (i64, i64), owner: i64, list: &[(u16, i64)]) {
    let names: Vec<String> = list.iter().map(|(server, _)| format!("2/{server}")).collect();
    let mut values = vec![("0", Value::Integer(about.0)), ("1", Value::Integer(about.1))];
    values.extend(names.iter().zip(list).map(|(name, (_, bits))| (name.as_str(), Value::Integer(*bits))));
    values.push(("3", Value::Integer(owner)));
    assert_eq!(world.bootstrap_write(BS, &format!("/2/{instance}"), &values), Code::CHANGED);
}

/// The bootstrap server begins anew.
fn bootstrap_again(world: &mut World) {
    let before = world.count(BS, "/bs");
    world.client.bootstrap();
    assert!(world.run_until(5, |world| world.servers[0].requests.len() > before));
}

fn delete(world: &mut World, path: &str) {
    let path = target(path).path;
    assert_eq!(world.ask(BS, &Operation::BootstrapDelete { path }).code, Code::DELETED);
}

/// A device with three servers and notes 0 to 6 of the first one, which is about to lose its account.
fn leaving() -> World {
    let scripts = [BS, ONE, TWO, THREE].map(Script::new);
    let mut world = World::durable(&[bootstrap_account(BS, None)], scripts.into());
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
    for (id, port) in [(1, ONE), (2, TWO), (3, THREE)] {
        world.write_account(BS, id, id, port, None);
    }
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| [ONE, TWO, THREE].iter().all(|port| world.count_of(*port) == 1)));
    world.run(1);
    bootstrap_again(&mut world);
    for id in 0..6 {
        world.objects.notes.list.insert(id, crate::world::Note::default());
    }
    world
}

/// Lets the first server go; the device registers with the others, perhaps in blocks.
fn leave(world: &mut World) {
    register_anew(world, |world| assert_eq!(world.finish(BS), Code::CHANGED));
}

fn register_anew(world: &mut World, after: impl FnOnce(&mut World)) {
    for port in [TWO, THREE] {
        world.server(port).requests.clear();
    }
    after(world);
    assert!(world.run_until(5, |world| [TWO, THREE].iter().all(|port| world.count_of(*port) > 0)));
    world.run(1);
}

/// The list of objects that a server got last.
fn links(world: &mut World, port: u16) -> String {
    world.server(port).requests.iter().map(|request| request.text()).collect()
}

#[test]
fn what_a_server_owned_goes_to_who_may_write_and_delete_most_of_it() {
    // LwM2M Core 1.1.1 appendix E.1, Unbootstrapping
    let mut world = leaving();
    access(&mut world, 0, (42_800, 0), 1, &[(1, 15), (2, 1), (3, 2)]);
    access(&mut world, 1, (42_800, 1), 1, &[(2, 8), (3, 5)]);
    access(&mut world, 2, (42_800, 2), 1, &[(2, 2), (3, 10)]);
    access(&mut world, 3, (42_800, 3), 1, &[(2, 5), (3, 1)]);
    access(&mut world, 4, (42_800, 4), 2, &[(0, 1), (1, 15)]);
    access(&mut world, 5, (42_800, 5), 1, &[(0, 3)]);
    delete(&mut world, "/0/1");
    delete(&mut world, "/1/1");
    leave(&mut world);
    // An owner has all rights unless a list has others for it.
    let owners: Vec<_> =
        (0..6).map(|id| world.read(TWO, &format!("/2/{id}/3"), Format::TEXT).payload).collect();
    assert_eq!(owners, [b"3", b"2", b"3", b"2", b"2", b"2"]);
    for id in 0..6 {
        let list = world.read(TWO, &format!("/2/{id}/2/1"), Format::TEXT);
        assert_eq!(list.code, Code::NOT_FOUND, "{id}");
    }
    assert_eq!(world.objects.notes.list.len(), 6, "nothing was out of reach");
    assert_eq!(world.count_of(ONE), 1, "it is not registered with any more");
    assert_eq!(world.read(THREE, "/42800/4/0", Format::TEXT).code, Code::CONTENT);
    assert_eq!(world.read(THREE, "/42800/5/0", Format::TEXT).code, Code::CONTENT);
    // It is so after a power loss.
    register_anew(&mut world, World::power_loss);
    assert_eq!(world.read(TWO, "/2/0/3", Format::TEXT).text(), "3");
    assert_eq!(world.read(TWO, "/2/0/2/1", Format::TEXT).code, Code::NOT_FOUND);
}

#[test]
fn what_only_a_server_that_went_could_reach_is_deleted() {
    // LwM2M Core 1.1.1 appendix E.1, Unbootstrapping
    let mut world = leaving();
    access(&mut world, 0, (42_800, 0), 1, &[]);
    access(&mut world, 1, (42_800, 1), 65_535, &[(1, 15)]);
    access(&mut world, 2, (42_800, 2), 1, &[(1, 15), (2, 0)]);
    access(&mut world, 3, (42_800, 3), 2, &[(1, 15)]);
    access(&mut world, 4, (42_800, 65_535), 65_535, &[(1, 16)]);
    access(&mut world, 5, (3, 0), 1, &[]);
    // One that no list tells of was nobody's, and stays so.
    delete(&mut world, "/0/1");
    delete(&mut world, "/1/1");
    leave(&mut world);
    assert!(world.objects.notes.list.keys().copied().eq([3, 4, 5]));
    let links = links(&mut world, TWO);
    assert!(links.ends_with(",</42800/3>,</42800/4>,</42800/5>"), "{links}");
    assert!(links.contains("</2/3>,</2/4>,</2/5>,</3/0>"), "{links}");
    // The device itself is never deleted, and belongs to the bootstrap server.
    assert_eq!(world.read(TWO, "/2/5/3", Format::TEXT).text(), "65535");
    assert_eq!(world.read(TWO, "/3/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
    assert_eq!(world.read(TWO, "/2/4/2/1", Format::TEXT).code, Code::NOT_FOUND);
}

#[test]
fn with_the_security_instance_of_a_server_its_server_instance_goes() {
    // LwM2M Core 1.1.1 appendix E.1, Unbootstrapping
    let mut world = leaving();
    access(&mut world, 0, (1, 1), 65_535, &[(1, 15)]);
    access(&mut world, 1, (1, 2), 65_535, &[(1, 15)]);
    delete(&mut world, "/0/1");
    leave(&mut world);
    let links = links(&mut world, TWO);
    assert!(links.starts_with("</1/2>,</1/3>,</2/1>,</3/0>"), "{links}");
    // What is written without a Security instance is no account.
    bootstrap_again(&mut world);
    let settings = [("0", Value::Integer(9)), ("1", Value::Integer(60)), ("7", Value::String("U"))];
    assert_eq!(world.bootstrap_write(BS, "/1/9", &settings), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE);
}

#[test]
fn a_server_with_a_new_account_keeps_what_is_its_own() {
    let mut world = leaving();
    access(&mut world, 0, (42_800, 0), 1, &[]);
    delete(&mut world, "/0");
    delete(&mut world, "/1");
    for (id, port) in [(1, ONE), (2, TWO), (3, THREE)] {
        world.write_account(BS, id, id, port, None);
    }
    leave(&mut world);
    assert_eq!(world.read(ONE, "/2/0/3", Format::TEXT).text(), "1");
    assert_eq!(world.read(ONE, "/42800/0/0", Format::TEXT).code, Code::CONTENT);
}

#[test]
fn attributes_go_with_the_account_of_their_server_and_with_what_a_bootstrap_deletes() {
    let mut world = shared();
    let payload = tlv("/42800/0", &[("0", Value::String("mine"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    assert_eq!(world.ask(ONE, &Operation::Create { target: target("/42800"), content }).code, Code::CREATED);
    assert_eq!(world.attributes(ONE, "/42800/0/0", &["pmin=1"]), Code::CHANGED);
    assert_eq!(world.attributes(ONE, "/1/1", &["pmin=2"]), Code::CHANGED);
    assert_eq!(world.attributes(TWO, "/1/2", &["pmin=3"]), Code::CHANGED);
    let of = |world: &mut World, port, path| {
        world.ask(port, &Operation::Discover { target: target(path), depth: None }).text().to_owned()
    };
    // An instance that is there again after a bootstrap is another one.
    bootstrap_again(&mut world);
    delete(&mut world, "/42800");
    world.objects.notes.list.insert(0, crate::world::Note::default());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.count_of(ONE) + world.count_of(TWO) == 4));
    assert_eq!(of(&mut world, ONE, "/42800/0"), "</42800/0>,</42800/0/0>,</42800/0/3>");
    assert!(of(&mut world, ONE, "/1/1").starts_with("</1/1>;pmin=2,"));
    // An account that is there again is another one too.
    bootstrap_again(&mut world);
    delete(&mut world, "/0/1");
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.count_of(TWO) == 3));
    bootstrap_again(&mut world);
    world.write_account(BS, 1, 1, ONE, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.count_of(ONE) == 3 && world.count_of(TWO) == 4));
    assert!(of(&mut world, ONE, "/1").contains("</1/1>,"));
    assert!(of(&mut world, TWO, "/1").contains("</1/2>;pmin=3,"));
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
