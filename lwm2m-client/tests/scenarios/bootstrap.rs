//! Client-initiated bootstrap and what the bootstrap server may do (LwM2M Core 1.1.1 §6.1).

use lwm2m_client::objects::{Content, Format, Operation, Path, Value, Version, mapping};
use lwm2m_client::{BootstrapFormat, Notice, PresharedKey, Reason};
use lwm2m_coap::Code;

use crate::world::{BOOT, Script, World, account, bootstrap_account, target, tlv};

const BS: u16 = 5783;
const DM: u16 = 5683;

fn world() -> World {
    World::new(&[bootstrap_account(BS, None)], vec![Script::new(BS), Script::new(DM)])
}

fn asked(world: &mut World) {
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
}

#[test]
fn a_device_without_servers_asks_writes_finishes_and_registers() {
    // OMA ETS LightweightM2M-1.1-int-0 and 1
    let mut world = world();
    asked(&mut world);
    let request = world.server(BS).requests[0].clone();
    assert_eq!((request.code, request.path.as_str()), (Code::POST, "/bs"));
    assert_eq!(request.query, ["ep=urn:dev:test"]);
    world.write_account(BS, 1, 1, DM, None);
    let discovered = world.ask(BS, &Operation::BootstrapDiscover { path: Path::ROOT });
    assert_eq!(discovered.code, Code::CONTENT);
    assert_eq!(
        discovered.text(),
        format!(
            "</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1;uri=\"coap://host:5683\",</1/1>;ssid=1,</2>{},</3/0>,\
             </3303>;ver=1.1,</3303/0>,</42800>",
            if cfg!(feature = "oscore") { ",</21>" } else { "" }
        )
    );
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert!(world.notices.contains(&Notice::Bootstrapped));
    world.run(1);
    assert!(world.notices.contains(&Notice::Confirmed));
    // The next start goes straight to the server.
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.count(BS, "/bs"), 1, "the one of the first time");
}

#[test]
fn a_device_is_bootstrapped_in_the_format_that_it_wants_if_the_server_knows_it() {
    let start = |knows_no_format, version| {
        let mut world = world();
        world.server(BS).knows_no_format = knows_no_format;
        world.config.bootstrap_format = Some(BootstrapFormat::SenmlCbor);
        world.config.version = version;
        world.client = lwm2m_client::Client::new(world.config);
        asked(&mut world);
        world.run(1);
        let queries = world.server(BS).requests.iter().map(|request| request.query.join("&"));
        (queries.collect::<Vec<_>>(), world)
    };
    let newest = Version::new(1, 1);
    let (queries, mut world) = start(false, newest);
    assert_eq!(queries, ["ep=urn:dev:test&pct=112"]);
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    // One that does not know it is asked without, at once, and told of as one attempt.
    let (queries, mut world) = start(true, newest);
    assert_eq!(queries, ["ep=urn:dev:test&pct=112", "ep=urn:dev:test"]);
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::BootstrapFailed { .. })));
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    // LwM2M 1.0 does not have it.
    assert_eq!(start(false, Version::new(1, 0)).0, ["ep=urn:dev:test"]);
}

#[test]
fn the_hold_off_is_waited_for() {
    let mut account = bootstrap_account(BS, None);
    account.hold_off = 30;
    let mut world = World::new(&[account], vec![Script::new(BS)]);
    world.run(29);
    assert!(world.server(BS).requests.is_empty());
    world.run(2);
    assert_eq!(world.count(BS, "/bs"), 1);
}

#[test]
fn an_incomplete_account_is_refused_and_can_be_corrected() {
    // OMA ETS LightweightM2M-1.1-int-9
    let mut world = world();
    asked(&mut world);
    assert_eq!(world.bootstrap_write(BS, "/1/1", &[("5", Value::Integer(86_400))]), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE);
    assert!(
        !world.flash.log.contains(&"Commit".into())
            || world.flash.log.iter().filter(|a| *a == "Commit").count() == 0
    );
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
}

#[test]
fn bootstrap_read_shows_objects_1_and_2_only() {
    // OMA ETS LightweightM2M-1.1-int-8
    let mut world = world();
    asked(&mut world);
    world.write_account(BS, 1, 1, DM, None);
    let values = [
        ("0", Value::Integer(3)),
        ("1", Value::Integer(0)),
        ("2/0", Value::Integer(31)),
        ("3", Value::Integer(65_535)),
    ];
    assert_eq!(world.bootstrap_write(BS, "/2/0", &values), Code::CHANGED);
    for (path, code) in [("/1", Code::CONTENT), ("/2", Code::CONTENT), ("/2/0", Code::CONTENT)] {
        let read =
            world.ask(BS, &Operation::BootstrapRead { path: target(path).path, accept: Some(Format::TLV) });
        assert_eq!(read.code, code, "{path}");
        assert!(!read.payload.is_empty());
    }
    for path in ["/0", "/0/1", "/3/0"] {
        let read =
            world.ask(BS, &Operation::BootstrapRead { path: target(path).path, accept: Some(Format::TLV) });
        assert!(!read.code.is_success(), "{path}");
    }
}

#[test]
fn an_access_control_instance_starts_afresh_when_it_is_written_at_bootstrap() {
    let mut world = world();
    asked(&mut world);
    let whole = [
        ("0", Value::Integer(3)),
        ("1", Value::Integer(0)),
        ("2/1", Value::Integer(15)),
        ("3", Value::Integer(101)),
    ];
    assert_eq!(world.bootstrap_write(BS, "/2/0", &whole), Code::CHANGED);
    let list = [("2/2", Value::Integer(1))];
    assert_eq!(world.bootstrap_write(BS, "/2/0", &list), Code::CHANGED);
    let path = target("/2/0").path;
    let read = world.ask(BS, &Operation::BootstrapRead { path, accept: Some(Format::TLV) });
    assert_eq!(read.payload, tlv("/2/0", &list));
}

#[test]
fn delete_spares_the_bootstrap_account_and_the_device() {
    // OMA ETS LightweightM2M-1.1-int-4
    let mut world = World::new(
        &[bootstrap_account(BS, None), account(1, DM, None)],
        vec![Script::new(BS), Script::new(DM)],
    );
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    asked(&mut world);
    assert_eq!(world.ask(BS, &Operation::BootstrapDelete { path: Path::ROOT }).code, Code::DELETED);
    let discovered = world.ask(BS, &Operation::BootstrapDiscover { path: Path::ROOT });
    assert!(discovered.text().starts_with("</>;lwm2m=1.1,</0/0>,</1>,"), "{}", discovered.text());
    assert!(discovered.text().contains("</3/0>"));
    assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE);
    world.write_account(BS, 5, 9, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    world.run(5);
    let register = world.server(DM).requests.last().unwrap().clone();
    assert!(register.text().starts_with("</1/9>,"));
}

#[test]
fn silence_ends_the_bootstrap_and_the_old_accounts_go_on() {
    let mut world = World::new(
        &[bootstrap_account(BS, None), account(1, DM, None)],
        vec![Script::new(BS), Script::new(DM)],
    );
    world.run(2);
    world.execute(DM, "/1/1/9");
    asked(&mut world);
    assert_eq!(world.ask(BS, &Operation::BootstrapDelete { path: target("/1").path }).code, Code::DELETED);
    world.run(240);
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::BootstrapFailed { .. })));
    world.run(10);
    assert!(world.notices.contains(&Notice::BootstrapFailed { reason: Reason::BootstrapTimeout }));
    // Nothing has changed: the registration lives, and the table is whole.
    assert!(world.client.is_registered());
    let read = world.read(DM, "/1/1/1", Format::TEXT);
    assert_eq!((read.code, read.text()), (Code::CONTENT, "86400"));
}

#[test]
fn a_refused_bootstrap_is_tried_again_with_growing_pauses() {
    let mut world = world();
    world.server(BS).refusal = Some(Code::BAD_REQUEST);
    world.run(1000);
    let times: Vec<u64> =
        world.server(BS).requests.iter().map(|request| request.at.as_millis() / 1000).collect();
    assert!((4..=5).contains(&times.len()), "{times:?}");
    assert!(
        times[1] - times[0] >= 60 && times[2] - times[1] >= 120 && times[3] - times[2] >= 240,
        "{times:?}"
    );
    assert!(world.notices.contains(&Notice::BootstrapFailed { reason: Reason::Refused(0x80) }));
}

#[test]
fn a_bootstrap_server_that_is_not_available_is_left_alone_for_as_long_as_it_says() {
    let mut world = world();
    let server = world.server(BS);
    (server.refusal, server.max_age) = (Some(Code::SERVICE_UNAVAILABLE), Some(900));
    world.run(2000);
    let times: Vec<u64> =
        world.server(BS).requests.iter().map(|request| request.at.as_millis() / 1000).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(times.windows(2).all(|pair| (900..=1125).contains(&(pair[1] - pair[0]))), "{times:?}");
    assert_ne!(times[1] - times[0], times[2] - times[1], "spread");
}

#[test]
fn servers_that_fail_for_good_lead_to_a_bootstrap() {
    // OMA ETS LightweightM2M-1.1-int-7
    let mut world = World::new(
        &[bootstrap_account(BS, None), account(1, DM, None)],
        vec![Script::new(BS), Script::new(DM)],
    );
    world.server(DM).refusal = Some(Code::FORBIDDEN);
    assert!(world.run_until(1000, |world| !world.servers[0].requests.is_empty()));
    assert_eq!(world.count(DM, "/rd"), 5);
    world.server(DM).refusal = None;
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.client.is_registered()));
}

#[test]
fn the_bootstrap_account_is_purged_when_its_time_is_over() {
    let mut world = world();
    asked(&mut world);
    let content = Content { format: Format::TEXT, payload: b"500" };
    let write = Operation::BootstrapWrite { path: target("/0/0/12").path, content };
    assert_eq!(world.ask(BS, &write).code, Code::CHANGED);
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    world.run(400);
    world.server(BS).requests.clear();
    world.run(200);
    // Nobody to go to any more, now and after a restart.
    assert_eq!(world.execute(DM, "/1/1/9"), Code::METHOD_NOT_ALLOWED);
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::METHOD_NOT_ALLOWED);
    assert!(world.server(BS).requests.is_empty());
}

#[test]
fn a_bootstrap_server_that_leaves_after_finish_has_finished() {
    const SECURED: u16 = 5784;
    let servers = vec![Script::secured(SECURED, "boot", BOOT.key), Script::new(DM)];
    let mut world = World::new(&[bootstrap_account(SECURED, Some(BOOT))], servers);
    asked(&mut world);
    world.write_account(SECURED, 1, 1, DM, None);
    world.send(SECURED, |writer| mapping::emit(&Operation::BootstrapFinish, writer).unwrap());
    // Its farewell comes before the storage is done.
    world.server(SECURED).close();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    world.run(1);
    assert!(world.notices.contains(&Notice::Bootstrapped) && world.notices.contains(&Notice::Confirmed));
}

#[test]
fn what_is_due_but_has_to_wait_wakes_nobody() {
    let mut world = world();
    asked(&mut world);
    let content = Content { format: Format::TEXT, payload: b"500" };
    let write = Operation::BootstrapWrite { path: target("/0/0/12").path, content };
    assert_eq!(world.ask(BS, &write).code, Code::CHANGED);
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    world.run(450);
    // The account is to be purged while the bootstrap server is at work, or would be.
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    world.run(100);
    assert!(world.client.poll_timeout().is_none_or(|at| at > world.now));
    world.run(400);
    assert_eq!(world.execute(DM, "/1/1/9"), Code::METHOD_NOT_ALLOWED);
}

#[test]
fn a_management_server_cannot_bootstrap() {
    let mut world = World::new(
        &[bootstrap_account(BS, None), account(1, DM, None)],
        vec![Script::new(BS), Script::new(DM)],
    );
    world.run(2);
    assert_eq!(world.finish(DM), Code::NOT_FOUND);
    assert!(!world.bootstrap_write(DM, "/0/1", &[("1", Value::Boolean(true))]).is_success());
    assert_eq!(
        world.ask(DM, &Operation::BootstrapDelete { path: Path::ROOT }).code,
        Code::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        world.ask(DM, &Operation::BootstrapDelete { path: target("/0/1").path }).code,
        Code::UNAUTHORIZED
    );
    assert!(world.client.is_registered());
}

#[test]
fn the_bootstrap_server_has_no_say_after_the_end() {
    let mut world = world();
    asked(&mut world);
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    let late = world.ask(BS, &Operation::BootstrapDelete { path: Path::ROOT });
    assert_eq!(late.code, Code::UNAUTHORIZED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
}

#[test]
fn a_storage_that_fails_is_answered_5_00_and_changes_nothing() {
    let mut world = world();
    asked(&mut world);
    world.write_account(BS, 1, 1, DM, None);
    world.flash.fails = true;
    assert_eq!(world.finish(BS), Code::INTERNAL_SERVER_ERROR);
    assert!(world.notices.contains(&Notice::StorageFailed));
    world.flash.fails = false;
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
}

#[test]
fn an_oversized_credential_is_refused() {
    let mut world = world();
    asked(&mut world);
    for length in [900, 161] {
        let key = vec![7; length];
        let values =
            [("0", Value::String("coaps://host:1")), ("2", Value::Integer(0)), ("5", Value::Opaque(&key))];
        assert!(!world.bootstrap_write(BS, "/0/1", &values).is_success());
    }
    let values = [("0", Value::String("http://host")), ("2", Value::Integer(0))];
    assert_eq!(world.bootstrap_write(BS, "/0/1", &values), Code::BAD_REQUEST);
}

#[test]
fn a_pre_shared_key_that_is_too_long_is_no_whole_account() {
    let mut world = world();
    asked(&mut world);
    for (identity, key, code) in [(64, 65, Code::NOT_ACCEPTABLE), (128, 64, Code::CHANGED)] {
        let (identity, key) = (vec![7; identity], vec![7; key]);
        let key = PresharedKey { identity: &identity, key: &key };
        // A build without private keys does not even take it.
        world.try_write_account(BS, 1, 1, 5684, Some(key.into()));
        assert_eq!(world.finish(BS), code);
    }
}

#[test]
fn without_any_account_the_client_says_so_and_rests() {
    let mut world = World::new(&[], vec![]);
    world.run(10);
    assert_eq!(world.notices, [Notice::NoAccounts]);
    assert_eq!(world.client.poll_timeout(), None);
}
