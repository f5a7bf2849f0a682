//! OSCORE (RFC 8613), alone and inside DTLS, as LwM2M uses it (LwM2M Transport 1.1.1 §5.4).

use std::collections::{BTreeMap, BTreeSet};

use lwm2m_client::objects::{Format, ObjectLink, Operation, Path, Value, mapping};
use lwm2m_client::{
    Action, FactoryAccount, Key, Notice, Reason, Rederive, Role, SecurityContext, ShortServerId,
};
use lwm2m_coap::{Code, OptionNumber, Writer};
use oscore::{KeyId, MasterSecret, Parameters};

use crate::shield::{Shield, option};
use crate::world::{OLD, Script, World, account, bootstrap_account, target};

const DM: u16 = 5683;

/// What the device has of the context with its server.
pub const CONTEXT: SecurityContext<'static> = SecurityContext::new(&[0x42; 16], &[0x01], &[0x02]);

/// The parameters of the other end.
pub fn other_end(context: &SecurityContext<'_>) -> Parameters {
    let id = |bytes| KeyId::new(bytes).unwrap();
    let secret = MasterSecret::new(context.master_secret).unwrap();
    let parameters = Parameters::new(secret, id(context.recipient_id), id(context.sender_id)).unwrap();
    let parameters = parameters.with_salt(context.master_salt).unwrap();
    match context.id_context {
        [] => parameters,
        id_context => parameters.with_id_context(id_context).unwrap(),
    }
}

fn protected() -> FactoryAccount<'static> {
    account(1, DM, None).with_oscore(CONTEXT)
}

fn script() -> Script {
    Script::new(DM).shielded(other_end(&CONTEXT))
}

fn world_with(policy: Rederive, account: &FactoryAccount<'_>, script: Script) -> World {
    let mut world = World::durable(core::slice::from_ref(account), vec![script]);
    world.config.rederive = policy;
    world.power_loss();
    world
}

fn registered(policy: Rederive) -> World {
    let mut world = world_with(policy, &protected(), script());
    assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
    world
}

#[test]
fn a_device_registers_is_read_written_and_observed_under_keys_of_its_account() {
    let mut world = registered(Rederive::Never);
    let role = Role::Server(ShortServerId::FIRST);
    assert!(world.notices.contains(&Notice::Protected { role, is_rederived: false }));
    assert_eq!(option(&world.last).unwrap().kid, KeyId::new(&[0x01]));
    assert_eq!(world.last[1], Code::POST.as_u8());
    let read = world.read(DM, "/3/0/0", Format::TEXT);
    assert_eq!((read.code, read.text()), (Code::CONTENT, "Acme"));
    assert_eq!(world.write_text(DM, "/1/1/1", "300"), Code::CHANGED);
    assert_eq!(world.execute(DM, "/3/0/4"), Code::CHANGED);
    assert_eq!(world.observe(DM, "/3303/0/5700").code, Code::CONTENT);
    for celsius in [21.0, 22.0] {
        world.objects.temperature.celsius = celsius;
        world.client.changed(Path::resource(3303, 0, 5700));
        world.run(1);
        assert!(option(&world.last).unwrap().partial_iv.is_some());
    }
    let notifications = &world.server(DM).notifications;
    assert_eq!(notifications.iter().map(|it| it.text()).collect::<Vec<_>>(), ["21", "22"]);
    assert!(notifications[0].observe < notifications[1].observe);
    world.client.deregister();
    world.run(1);
    assert!(world.client.is_stopped());
}

fn last(world: &World) -> usize {
    world.sent.last().unwrap().1
}

#[test]
fn messages_take_11_bytes_more_than_without_security() {
    // The recipe of module `bytes`: a list of four instances, a location of four characters.
    let mut world = world_with(Rederive::Never, &protected(), script());
    world.config.endpoint = "urn:imei:123456";
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    let list = world.server(DM).requests[0].payload.len();
    assert_eq!(last(&world) - list + "</1/0>,</3/0>,</4/0>,</5/0>".len(), 95);
    let answer = world.server(DM).posted.len() - "r1".len() + "5a3f".len();
    assert_eq!(answer, 24);
    world.client.update();
    world.run(1);
    assert_eq!(last(&world) - "r1".len() + "5a3f".len(), 27);
    assert_eq!(world.server(DM).posted.len(), 16);
    for (format, length) in [(Format::TEXT, 27), (Format::SENML_CBOR, 46)] {
        let observe = Operation::Observe { target: target("/3303/0/5700"), accept: Some(format) };
        let token = world.ask(DM, &observe).token;
        world.objects.temperature.celsius += 1.5;
        world.client.changed(Path::resource(3303, 0, 5700));
        world.run(1);
        assert_eq!(last(&world), length, "{format:?}");
        let cancel = Operation::CancelObservation { target: target("/3303/0/5700"), accept: Some(format) };
        world.ask_with_token(DM, &token, &cancel);
    }
}

#[test]
fn the_first_use_of_a_context_replaces_its_keys_by_fresh_ones_and_a_restart_goes_on_with_those() {
    // LwM2M Transport 1.1.1 §5.4, RFC 8613 Appendix B.2.
    for policy in [Rederive::Required, Rederive::Offered] {
        let mut server = script();
        server.shield.as_mut().unwrap().rederives = true;
        let mut world = world_with(policy, &protected(), server);
        assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
        let role = Role::Server(ShortServerId::FIRST);
        assert!(world.notices.contains(&Notice::Protected { role, is_rederived: true }));
        assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
        world.power_loss();
        assert!(world.run_until(5, |world| world.client.is_registered()), "{:?}", world.notices);
        assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 1);
    }
}

#[test]
fn a_server_that_does_not_do_so_is_registered_with_under_the_keys_of_the_account_if_that_may_be() {
    let mut world = registered(Rederive::Offered);
    let role = Role::Server(ShortServerId::FIRST);
    assert!(world.notices.contains(&Notice::Protected { role, is_rederived: false }));
    assert!(world.now.as_millis() < 2000, "{:?}", world.now);
    // The next start knows that it has used them.
    let sent = world.datagrams.len();
    world.power_loss();
    assert!(world.run_until(5, |world| world.client.is_registered()));
    let first = option(&world.datagrams[sent]).unwrap();
    assert!(first.kid_context.is_none() && first.partial_iv.unwrap().sequence() >= 256);
}

#[test]
fn a_server_that_resets_what_has_an_id_context_is_registered_with_at_once() {
    let mut world = world_with(Rederive::Offered, &protected(), script());
    world.server(DM).resets_id_contexts = true;
    assert!(world.run_until(1, |world| world.is_registered(DM)), "{:?}", world.notices);
}

#[test]
fn a_server_that_does_not_answer_at_all_is_tried_under_the_keys_of_the_account_too() {
    let mut world = world_with(Rederive::Offered, &protected(), script());
    world.server(DM).is_dead = true;
    world.run(100);
    world.server(DM).is_dead = false;
    assert!(world.run_until(60, |world| world.is_registered(DM)), "{:?}", world.notices);
}

#[test]
fn where_fresh_keys_are_required_no_message_leaves_under_those_of_the_account() {
    let mut world = world_with(Rederive::Required, &protected(), script());
    world.run(1000);
    let server = ShortServerId::FIRST;
    let reason = Reason::NoSecurityContext;
    assert!(world.notices.contains(&Notice::RegistrationRetry { server, reason }), "{:?}", world.notices);
    assert!(world.server(DM).requests.is_empty());
    assert!(world.datagrams.iter().all(|datagram| option(datagram).unwrap().kid_context.is_some()));
    assert!(world.flash.store.is_empty() || !world.flash.log.iter().any(|action| action == "Put"));
}

#[test]
fn a_server_that_offers_fresh_keys_is_not_asked_for_them_by_a_device_that_does_not_want_any() {
    let mut server = script();
    server.shield.as_mut().unwrap().rederives = true;
    let mut world = world_with(Rederive::Never, &protected(), server);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 0);
}

#[test]
fn a_server_that_has_lost_fresh_keys_is_given_others() {
    let mut server = script();
    server.shield.as_mut().unwrap().rederives = true;
    let mut world = world_with(Rederive::Offered, &protected(), server);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    world.server(DM).shield = Some(Shield { rederives: true, ..Shield::new(other_end(&CONTEXT)) });
    world.client.update();
    let registrations = world.count_of(DM);
    assert!(world.run_until(300, |world| world.count_of(DM) > registrations), "{:?}", world.notices);
    assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 1);
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
}

#[test]
fn a_server_that_has_lost_its_replay_window_is_shown_that_a_request_is_fresh() {
    // RFC 8613 Appendix B.1.2
    let mut world = registered(Rederive::Never);
    world.server(DM).shield.as_mut().unwrap().restart();
    world.client.update();
    world.run(5);
    assert_eq!(world.server(DM).shield.as_ref().unwrap().challenged, 1);
    assert_eq!(world.requests(DM), ["0.02 /rd", "0.02 /rd/r1"]);
    assert!(world.notices.contains(&Notice::Updated { server: ShortServerId::FIRST }));
}

#[test]
fn after_a_restart_a_request_of_a_server_has_to_prove_that_it_is_fresh() {
    let mut world = registered(Rederive::Never);
    world.power_loss();
    let registrations = world.count_of(DM);
    assert!(world.run_until(5, |world| world.count_of(DM) > registrations));
    let execute = |writer: &mut Writer<'_>| {
        writer.set_code(Code::POST);
        writer.split(OptionNumber::URI_PATH, "3/0/4", '/').unwrap();
    };
    let refused = world.ask_with(DM, execute);
    assert_eq!((refused.code, world.objects.device.reboots), (Code::UNAUTHORIZED, 0));
    let wrong = world.ask_with(DM, |writer| {
        execute(writer);
        writer.option(OptionNumber::ECHO, &[0; 12]).unwrap();
    });
    assert_eq!((wrong.code, world.objects.device.reboots), (Code::UNAUTHORIZED, 0));
    let proven = world.ask_with(DM, |writer| {
        execute(writer);
        writer.option(OptionNumber::ECHO, &wrong.echo.unwrap()).unwrap();
    });
    assert_eq!((proven.code, world.objects.device.reboots), (Code::CHANGED, 1));
    // From then on requests are known.
    assert_eq!(world.execute(DM, "/3/0/4"), Code::CHANGED);
}

#[test]
fn what_comes_without_protection_from_a_server_with_keys_is_refused_and_does_nothing() {
    let mut world = registered(Rederive::Never);
    let shield = world.server(DM).shield.take();
    assert_eq!(world.execute(DM, "/3/0/4"), Code::UNAUTHORIZED);
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
    assert_eq!(world.observe(DM, "/3303/0/5700").code, Code::UNAUTHORIZED);
    assert_eq!(world.write_text(DM, "/1/1/1", "17"), Code::UNAUTHORIZED);
    assert_eq!(world.objects.device.reboots, 0);
    world.server(DM).shield = shield;
    assert_eq!(world.read(DM, "/1/1/1", Format::TEXT).text(), "86400");
}

#[test]
fn a_replay_of_a_request_under_another_message_id_does_nothing() {
    let mut world = registered(Rederive::Never);
    assert_eq!(world.execute(DM, "/3/0/4"), Code::CHANGED);
    let mut replay = world.server(DM).posted.clone();
    replay[2] ^= 0x55;
    world.deliver(0, &mut replay);
    assert_eq!(world.objects.device.reboots, 1);
}

#[test]
fn a_duplicate_is_answered_again_and_the_request_not_carried_out_again() {
    let mut world = registered(Rederive::Never);
    assert_eq!(world.execute(DM, "/3/0/4"), Code::CHANGED);
    let (mut duplicate, answer) = (world.server(DM).posted.clone(), world.last.clone());
    world.deliver(0, &mut duplicate);
    assert_eq!((world.objects.device.reboots, &world.last), (1, &answer));
    let read = world.read(DM, "/3", Format::SENML_JSON);
    assert!(read.payload.len() > 64);
    // A long one is not kept: what changes nothing is read again, under a number of its own.
    let (mut duplicate, answer) = (world.server(DM).posted.clone(), world.last.clone());
    world.deliver(0, &mut duplicate);
    assert!(
        option(&answer).unwrap().partial_iv.is_none() && option(&world.last).unwrap().partial_iv.is_some()
    );
    assert!(world.last.len() > answer.len());
}

#[test]
fn inside_dtls_messages_are_protected_as_well() {
    let account = account(1, DM, Some(OLD)).with_oscore(CONTEXT);
    let server = Script::secured(DM, "old", OLD.key).shielded(other_end(&CONTEXT));
    let mut world = world_with(Rederive::Offered, &account, server);
    assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    assert_eq!(world.observe(DM, "/3303/0/5700").code, Code::CONTENT);
    world.objects.temperature.celsius = 21.0;
    world.client.changed(Path::resource(3303, 0, 5700));
    world.run(1);
    assert_eq!(world.notifications(DM), 1);
    // Each protects by itself: the server at the other end of the association has no other keys.
    world.server(DM).shield = None;
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).code, Code::UNAUTHORIZED);
}

/// Observes, and shows that it is no replay.
fn observe(world: &mut World) {
    let operation = Operation::Observe { target: target("/3303/0/5700"), accept: Some(Format::TEXT) };
    let mut echo: Option<Vec<u8>> = None;
    for _ in 0..2 {
        let answer = world.ask_with(DM, |writer| {
            mapping::emit(&operation, writer).unwrap();
            if let Some(echo) = &echo {
                writer.option(OptionNumber::ECHO, echo).unwrap();
            }
        });
        echo = answer.echo;
    }
}

/// The numbers under which the device has sent something, each with what it was: no number stands for two things.
fn numbers(world: &World) -> BTreeMap<(u16, Vec<u8>, u64), Vec<u8>> {
    let mut numbers = BTreeMap::new();
    for (datagram, (port, _)) in world.datagrams.iter().zip(&world.sent) {
        let Some(option) = option(datagram).filter(|option| option.partial_iv.is_some()) else { continue };
        let key = option.kid_context.map_or(Vec::new(), |id| id.bytes().to_vec());
        let number = option.partial_iv.unwrap().sequence();
        let former = numbers.insert((*port, key, number), datagram.clone());
        assert!(former.is_none_or(|former| former == *datagram), "{number} came twice");
    }
    numbers
}

#[test]
fn no_number_is_used_twice_whenever_the_power_goes() {
    let lives = |cut: usize| {
        let mut world = world_with(Rederive::Never, &protected(), script());
        world.flash.cut_before = Some(world.flash.actions + cut);
        for _ in 0..3 {
            assert!(world.run_until(200, |world| world.client.is_registered()), "{cut}: {:?}", world.notices);
            observe(&mut world);
            for _ in 0..300 {
                world.objects.temperature.celsius += 1.0;
                world.client.changed(Path::resource(3303, 0, 5700));
                world.run(5);
            }
            world.power_loss();
        }
        (numbers(&world).len(), world.flash.actions)
    };
    let (used, steps) = lives(usize::MAX / 2);
    assert!(used > 500, "{used}");
    assert!(steps > 6, "{steps}");
    for cut in 0..=steps {
        lives(cut);
    }
}

#[test]
fn no_number_of_fresh_keys_is_used_twice_whenever_the_power_goes() {
    let lives = |cut: usize| {
        let mut server = script();
        server.shield.as_mut().unwrap().rederives = true;
        let mut world = world_with(Rederive::Required, &protected(), server);
        world.flash.cut_before = Some(world.flash.actions + cut);
        for _ in 0..3 {
            assert!(world.run_until(200, |world| world.client.is_registered()), "{cut}: {:?}", world.notices);
            observe(&mut world);
            for _ in 0..300 {
                world.objects.temperature.celsius += 1.0;
                world.client.changed(Path::resource(3303, 0, 5700));
                world.run(5);
            }
            world.server(DM).shield.as_mut().unwrap().session.renew();
            world.client.update();
            world.run(20);
            world.power_loss();
        }
        // The server's end says when one comes twice.
        (world.server(DM).shield.as_ref().unwrap().numbers.clone(), world.flash.actions)
    };
    let (used, steps) = lives(usize::MAX / 2);
    let keys: BTreeSet<_> = used.iter().map(|(id_context, _)| id_context).collect();
    assert!(used.len() > 500 && keys.len() == 4, "{} {}", used.len(), keys.len());
    for cut in 0..=steps {
        lives(cut);
    }
}

// One sender key with two servers: each would have numbers of its own, and so the same ones.
#[test]
fn of_two_accounts_with_one_secret_and_sender_id_only_one_is_used() {
    const OTHER: u16 = 1001;
    let context = SecurityContext { recipient_id: &[0x03], ..CONTEXT };
    let accounts = [protected(), account(2, OTHER, None).with_oscore(context)];
    let other = Script::new(OTHER).shielded(other_end(&context));
    let mut world = World::durable(&accounts, vec![script(), other]);
    world.config.rederive = Rederive::Never;
    world.power_loss();
    world.run(10);
    let registered = world.notices.iter().filter(|notice| matches!(notice, Notice::Registered { .. }));
    assert_eq!(registered.count(), 1, "{:?}", world.notices);
    let is_told = |notice: &Notice| {
        matches!(
            notice,
            Notice::RegistrationRetry { reason: Reason::SharedKeys, .. }
                | Notice::RegistrationFailed { reason: Reason::SharedKeys, .. }
        )
    };
    assert!(world.notices.iter().any(is_told), "{:?}", world.notices);
}

#[test]
fn a_storage_that_fails_lets_no_message_leave() {
    let mut world = world_with(Rederive::Never, &protected(), script());
    world.flash.fails = true;
    world.run(100);
    assert!(world.datagrams.is_empty());
    let reason = Reason::Storage;
    assert!(world.notices.contains(&Notice::RegistrationRetry { server: ShortServerId::FIRST, reason }));
    world.flash.fails = false;
    assert!(world.run_until(500, |world| world.is_registered(DM)));
}

#[test]
fn management_servers_do_not_see_what_messages_are_protected_with() {
    // LwM2M Core 1.1.1 §6.3
    let mut world = registered(Rederive::Never);
    assert!(!world.server(DM).requests[0].text().contains("/21"));
    for path in ["/21", "/21/1", "/21/1/1", "/0/1/17"] {
        let read = world.read(DM, path, Format::TLV);
        assert_eq!((read.code, read.payload.len()), (Code::UNAUTHORIZED, 0), "{path}");
    }
    assert_eq!(world.write_text(DM, "/21/1/3", "10"), Code::UNAUTHORIZED);
    let discovered = world.ask(DM, &Operation::Discover { target: target("/21"), depth: None });
    assert_eq!(discovered.code, Code::UNAUTHORIZED);
    let deleted = world.ask(DM, &Operation::Delete { target: target("/21/1") });
    assert_eq!(deleted.code, Code::UNAUTHORIZED);
}

#[test]
fn no_secret_is_shown() {
    let account = protected();
    assert!(!format!("{account:?} {CONTEXT:?}").contains("66"), "0x42 in decimal");
}

const BS: u16 = 5783;

/// What the device has of the context with its bootstrap server.
const BOOT_CONTEXT: SecurityContext<'static> = SecurityContext::new(&[0x17; 16], &[0x0b], &[0x0c]);

/// A device whose bootstrap server has asked it for nothing yet.
fn asked(servers: Vec<Script>) -> World {
    let account = bootstrap_account(BS, None).with_oscore(BOOT_CONTEXT);
    let mut world = World::durable(&[account], servers);
    assert!(world.run_until(5, |world| world.servers[0].requests.iter().any(|it| it.path == "/bs")));
    world.run(1);
    world
}

/// The values of `/21/x`.
fn oscore_object<'v>(context: &SecurityContext<'v>) -> Vec<(&'static str, Value<'v>)> {
    let mut values = vec![
        ("0", Value::Opaque(context.master_secret)),
        ("1", Value::Opaque(context.sender_id)),
        ("2", Value::Opaque(context.recipient_id)),
    ];
    values.extend(context.aead.map(|aead| ("3", Value::Integer(aead.into()))));
    values.extend(context.hmac.map(|hmac| ("4", Value::Integer(hmac.into()))));
    values.extend([("5", Value::Opaque(context.master_salt)), ("6", Value::Opaque(context.id_context))]);
    values
}

/// Writes `/0/1`, `/1/1` and `/21/{instance}` for the server at [`DM`]; the codes of the last.
fn write_protected(world: &mut World, instance: u16, context: &SecurityContext<'_>) -> Code {
    world.write_account(BS, 1, 1, DM, None);
    let link = Value::ObjectLink(ObjectLink { object: 21, instance });
    assert_eq!(world.bootstrap_write(BS, "/0/1/17", &[("", link)]), Code::CHANGED);
    world.bootstrap_write(BS, &format!("/21/{instance}"), &oscore_object(context))
}

#[test]
fn a_bootstrap_under_oscore_writes_an_account_that_is_registered_with_under_oscore() {
    // OMA ETS LightweightM2M-1.2-int-11
    let servers = vec![Script::new(BS).shielded(other_end(&BOOT_CONTEXT)), script()];
    let mut world = asked(servers);
    assert_eq!(world.server(BS).requests[0].query, ["ep=urn:dev:test"]);
    assert_eq!(write_protected(&mut world, 1, &CONTEXT), Code::CHANGED);
    let discovered = world.ask(BS, &Operation::BootstrapDiscover { path: Path::ROOT });
    assert!(discovered.text().contains("</0/0>,</0/1>;ssid=1;uri=\"coap://host:5683\","), "{discovered:?}");
    assert!(discovered.text().contains(",</21/0>,</21/1>;ssid=1,"), "{discovered:?}");
    for path in ["/21", "/21/1"] {
        let read = Operation::BootstrapRead { path: target(path).path, accept: Some(Format::TLV) };
        assert_eq!(world.ask(BS, &read).code, Code::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
    world.run(1);
    assert!(world.notices.contains(&Notice::Confirmed));
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    // All of it is there after a restart, and the account of the bootstrap server as well.
    world.power_loss();
    assert!(world.run_until(5, |world| world.client.is_registered()));
    let bootstraps = world.count(BS, "/bs");
    world.client.bootstrap();
    world.run(5);
    assert_eq!(world.count(BS, "/bs"), bootstraps + 1);
    numbers(&world);
}

#[test]
fn a_bootstrap_server_does_not_delete_the_context_that_it_is_reached_with() {
    let servers = vec![Script::new(BS).shielded(other_end(&BOOT_CONTEXT)), script()];
    let mut world = asked(servers);
    assert_eq!(write_protected(&mut world, 7, &CONTEXT), Code::CHANGED);
    let delete = |path: &str| Operation::BootstrapDelete { path: target(path).path };
    assert_eq!(world.ask(BS, &delete("/21/0")).code, Code::BAD_REQUEST);
    assert_eq!(world.ask(BS, &delete("/21/7")).code, Code::DELETED);
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE, "the link leads nowhere");
    assert_eq!(write_protected(&mut world, 7, &CONTEXT), Code::CHANGED);
    assert_eq!(world.ask(BS, &delete("/21")).code, Code::DELETED);
    let discovered = world.ask(BS, &Operation::BootstrapDiscover { path: target("/21").path });
    assert_eq!(discovered.text(), "</>;lwm2m=1.1,</21/0>");
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE);
    assert_eq!(write_protected(&mut world, 7, &CONTEXT), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
}

#[test]
fn contexts_that_cannot_work_are_refused_and_can_be_corrected() {
    let servers = vec![Script::new(BS).shielded(other_end(&BOOT_CONTEXT)), script()];
    let mut world = asked(servers);
    for refused in [
        SecurityContext { sender_id: &[1; 8], ..CONTEXT },
        SecurityContext { recipient_id: &[1; 8], ..CONTEXT },
        SecurityContext { aead: Some(9), ..CONTEXT },
        SecurityContext { hmac: Some(4), ..CONTEXT },
        SecurityContext { master_salt: &[1; 33], ..CONTEXT },
        SecurityContext { id_context: &[1; 41], ..CONTEXT },
    ] {
        assert!(!refused.is_usable());
        assert_eq!(write_protected(&mut world, 1, &refused), Code::BAD_REQUEST);
    }
    let long = SecurityContext { master_secret: &[1; 65], ..CONTEXT };
    assert_eq!(write_protected(&mut world, 1, &long), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE, "no instance was written");
    for useless in [
        SecurityContext { master_secret: &[], ..CONTEXT },
        SecurityContext { recipient_id: CONTEXT.sender_id, ..CONTEXT },
    ] {
        assert!(!useless.is_usable());
        assert_eq!(write_protected(&mut world, 1, &useless), Code::CHANGED);
        assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE);
    }
    assert_eq!(write_protected(&mut world, 0, &BOOT_CONTEXT), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE, "two accounts share a context");
    let link = Value::ObjectLink(ObjectLink { object: 3, instance: 0 });
    assert_eq!(world.bootstrap_write(BS, "/0/1/17", &[("", link)]), Code::BAD_REQUEST);
    assert_eq!(write_protected(&mut world, 1, &CONTEXT), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)), "{:?}", world.notices);
}

#[test]
fn accounts_that_come_back_go_on_behind_the_numbers_that_they_have_used() {
    let new = SecurityContext { master_secret: &[0x99; 16], sender_id: &[0x03], ..CONTEXT };
    let accounts = [bootstrap_account(BS, None), protected()];
    let mut world = World::durable(&accounts, vec![Script::new(BS), script()]);
    world.config.rederive = Rederive::Never;
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    world.client.bootstrap();
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
    // The server at the other end does not know what the bootstrap server writes.
    assert_eq!(write_protected(&mut world, 1, &new), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    let is_back = |world: &World| world.notices.contains(&Notice::RolledBack);
    assert!(world.run_until(5000, is_back), "{:?}", world.notices);
    world.run(100);
    assert!(world.client.is_registered(), "{:?}", world.notices);
    let of_old = |datagram: &&Vec<u8>| option(datagram).is_some_and(|it| it.kid == KeyId::new(&[0x01]));
    let first = world.datagrams.iter().filter(of_old).count();
    assert!(first >= 2);
    let numbers: Vec<u64> = world
        .datagrams
        .iter()
        .filter(of_old)
        .map(|datagram| option(datagram).unwrap().partial_iv.unwrap().sequence())
        .collect();
    assert!(numbers.is_sorted_by(|one, other| one < other) && numbers.last() >= Some(&256), "{numbers:?}");
}

/// A device and a server that have used fresh keys, which the server does not want to go on with.
fn fresh() -> World {
    let mut server = script();
    server.shield.as_mut().unwrap().rederives = true;
    let mut world = world_with(Rederive::Offered, &protected(), server);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    world.notices.clear();
    world
}

/// The device has sent almost as many messages under its keys as they bear.
fn wear(world: &mut World) {
    let own = SecurityContext { sender_id: CONTEXT.recipient_id, recipient_id: CONTEXT.sender_id, ..CONTEXT };
    let name = other_end(&own).fingerprint();
    let mut state = world.flash.store.recall(name).unwrap().to_vec();
    state[..6].copy_from_slice(&(1_u64 << 20).to_be_bytes()[2..]);
    world.flash.store.apply(&Action::Put { name, bytes: &state }).unwrap();
}

#[test]
fn worn_keys_are_replaced_at_the_next_start() {
    let mut world = fresh();
    wear(&mut world);
    world.power_loss();
    assert!(world.run_until(5, |world| world.client.is_registered()), "{:?}", world.notices);
    assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 2);
    world.power_loss();
    assert!(world.run_until(5, |world| world.client.is_registered()), "{:?}", world.notices);
    assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 2);
}

#[test]
fn worn_keys_are_replaced_in_place_of_the_next_update_and_go_on_where_they_must_not_be() {
    for (policy, asked) in [(Rederive::Offered, 1), (Rederive::Never, 0)] {
        let mut world = registered(policy);
        wear(&mut world);
        // The server does not replace any now.
        world.power_loss();
        assert!(world.run_until(200, |world| world.client.is_registered()), "{:?}", world.notices);
        world.server(DM).shield.as_mut().unwrap().rederives = true;
        world.notices.clear();
        let is_kept = |notice: &Notice| matches!(notice, Notice::Updated { .. } | Notice::Registered { .. });
        assert!(world.run_until(100_000, |world| world.notices.iter().any(is_kept)), "{:?}", world.notices);
        assert!(world.client.is_registered());
        assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, asked);
        let is_worn =
            |notice: &Notice| matches!(notice, Notice::RegistrationRetry { reason: Reason::WornKeys, .. });
        assert_eq!(world.notices.iter().any(is_worn), policy == Rederive::Offered, "{:?}", world.notices);
        numbers(&world);
    }
}

#[test]
fn a_server_that_wants_new_keys_gets_them_with_the_next_request_of_the_device() {
    let mut world = fresh();
    let role = Role::Server(ShortServerId::FIRST);
    world.server(DM).shield.as_mut().unwrap().session.renew();
    world.client.update();
    world.run(20);
    assert!(world.notices.contains(&Notice::Protected { role, is_rederived: true }), "{:?}", world.notices);
    assert!(world.notices.contains(&Notice::Updated { server: ShortServerId::FIRST }));
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    assert_eq!(world.count_of(DM), 1);
}

#[test]
fn a_server_that_lost_its_keys_replaces_them_itself_and_a_restart_of_the_device_goes_on_with_them() {
    let mut world = fresh();
    observe(&mut world);
    world.server(DM).shield.as_mut().unwrap().rederive();
    let read = |writer: &mut Writer<'_>| {
        writer.split(OptionNumber::URI_PATH, "3/0/0", '/').unwrap();
    };
    let loads = world.flash.loaded.iter().filter(|key| matches!(key, Key::MasterSecret(_))).count();
    assert_eq!(world.ask_with(DM, read).code, Code::UNAUTHORIZED);
    assert_eq!(world.ask_with(DM, read).code, Code::CONTENT);
    let now = world.flash.loaded.iter().filter(|key| matches!(key, Key::MasterSecret(_))).count();
    assert_eq!(now, loads + 1, "loaded when it was needed");
    // What was observed under the former keys has ended, the registration goes on.
    world.objects.temperature.celsius = 30.0;
    world.client.changed(Path::resource(3303, 0, 5700));
    world.run(1);
    assert_eq!((world.notifications(DM), world.count_of(DM)), (0, 1));
    assert!(world.client.is_registered());
    world.power_loss();
    assert!(world.run_until(5, |world| world.client.is_registered()), "{:?}", world.notices);
    assert_eq!(world.server(DM).shield.as_ref().unwrap().asked, 1, "only at the first use");
}

#[test]
fn who_knows_ids_and_no_keys_brings_the_secret_into_memory_and_nothing_else_about() {
    let mut world = fresh();
    let mut forged = vec![0x44, Code::POST.as_u8(), 1, 2, 3, 4, 5, 6];
    // Flags for kid, kid context and a Partial IV of one byte; R1 as a CBOR byte string; the server's id; a payload.
    forged.extend([0x9d, 0, 0x19, 7, 9, 0x48, 1, 2, 3, 4, 5, 6, 7, 8, 0x02, 0xff]);
    forged.extend([0xaa; 20]);
    for id in 0..20 {
        forged[3] = id;
        world.deliver(0, &mut forged.clone());
        world.exchange();
    }
    let loads = world.flash.loaded.iter().filter(|key| matches!(key, Key::MasterSecret(_))).count();
    assert_eq!(loads, 2, "one at the start, one for all of these");
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    world.client.update();
    world.run(100);
    assert!(world.notices.contains(&Notice::Updated { server: ShortServerId::FIRST }));
}
