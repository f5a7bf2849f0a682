//! Alerts of servers, and what a device says of itself for those who look for the reason: `/1/x/11` and `/1/x/12`
//! (LwM2M Transport 1.1.1 §5.2, Core 1.1.1 appendix E.2).

use lwm2m_client::objects::{Format, Operation, Value};
use lwm2m_client::{Notice, Reason, ShortServerId};
use lwm2m_coap::Code;

use crate::world::{BOOT, NEW, OLD, Script, World, account, bootstrap_account, target, tlv};

const BS: u16 = 5784;
const DM: u16 = 5684;

fn one() -> ShortServerId {
    ShortServerId::new(1).unwrap()
}

/// A device whose server answers every handshake with an alert, with a bootstrap server or without.
fn refused(alert: u8, has_bootstrap: bool) -> World {
    let mut server = Script::secured(DM, "old", OLD.key);
    server.keys.insert(b"new".to_vec(), NEW.key.to_vec());
    server.alert = Some(alert);
    let accounts = [account(1, DM, Some(OLD)), bootstrap_account(BS, Some(BOOT))];
    let accounts = if has_bootstrap { &accounts[..] } else { &accounts[..1] };
    World::new(accounts, vec![Script::secured(BS, "boot", BOOT.key), server])
}

fn asked(world: &mut World) {
    assert!(world.run_until(1000, |world| !world.servers[0].requests.is_empty()), "{:?}", world.notices);
}

/// What a bootstrap server reads of the account.
fn account_read(world: &mut World) -> Vec<u8> {
    let read =
        world.ask(BS, &Operation::BootstrapRead { path: target("/1/1").path, accept: Some(Format::TLV) });
    assert_eq!(read.code, Code::CONTENT);
    read.payload
}

fn has(payload: &[u8], resource: &str, value: Value<'_>) -> bool {
    let one = tlv("/1/1", &[(resource, value)]);
    payload.windows(one.len()).any(|window| window == one)
}

#[test]
fn an_alert_about_the_credential_leads_to_a_bootstrap_at_once() {
    for alert in [42, 43, 44, 45, 46, 48, 49, 112, 113, 114, 115] {
        let mut world = refused(alert, true);
        assert!(world.run_until(10, |world| !world.servers[0].requests.is_empty()), "{alert}");
        let reason = Reason::Alert(alert);
        assert!(world.notices.contains(&Notice::RegistrationFailed { server: one(), reason }), "{alert}");
        assert_eq!(world.server(DM).hellos, 1, "the credential was tried once");
        assert!(has(&account_read(&mut world), "11", Value::Unsigned(alert.into())), "{alert}");
    }
}

#[test]
fn an_alert_that_may_pass_is_followed_by_the_retry_rules() {
    for alert in [10, 20, 21, 22, 40, 47, 50, 51, 70, 71, 86, 90, 100, 111] {
        let mut world = refused(alert, true);
        world.run(10);
        assert!(world.servers[0].requests.is_empty(), "{alert}");
        let reason = Reason::Alert(alert);
        assert_eq!(world.notices, [Notice::RegistrationRetry { server: one(), reason }]);
        // LwM2M Core 1.1.1 §6.2.1.1: five attempts, then the bootstrap.
        asked(&mut world);
        assert_eq!(world.server(DM).hellos, 5, "{alert}");
        assert!(has(&account_read(&mut world), "11", Value::Unsigned(alert.into())), "{alert}");
    }
}

#[test]
fn an_alert_that_no_server_can_mean_ends_nothing() {
    for alert in [30, 41, 60, 110] {
        let mut world = refused(alert, false);
        world.run(10);
        assert_eq!(world.notices, []);
        // The handshake went on: the ClientHello was sent again after 1, 3 and 7 seconds.
        assert_eq!(world.server(DM).hellos, 4, "{alert}");
        world.server(DM).alert = None;
        assert!(world.run_until(10, |world| world.is_registered(DM)), "{alert}");
    }
}

#[test]
fn without_a_bootstrap_server_a_refused_credential_is_tried_again_some_day() {
    let mut world = refused(115, false);
    world.run(86_000);
    assert_eq!(world.server(DM).hellos, 1);
    world.server(DM).alert = None;
    assert!(world.run_until(1000, |world| world.is_registered(DM)));
}

#[test]
fn the_last_alert_outlives_a_bootstrap_that_failed() {
    let mut world = refused(115, true);
    asked(&mut world);
    world.server(BS).forget();
    world.server(BS).requests.clear();
    // The bootstrap server falls silent, and the table is read again.
    assert!(world.run_until(400, |world| {
        world.notices.contains(&Notice::BootstrapFailed { reason: Reason::BootstrapTimeout })
    }));
    asked(&mut world);
    assert!(has(&account_read(&mut world), "11", Value::Unsigned(115)));
}

#[test]
fn the_alert_that_a_new_key_met_is_known_after_its_rollback() {
    let mut world = refused(115, true);
    world.server(DM).alert = None;
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    asked(&mut world);
    assert!(!has(&account_read(&mut world), "11", Value::Unsigned(115)));
    world.write_account(BS, 1, 1, DM, Some(NEW));
    world.server(DM).alert = Some(115);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.notices.contains(&Notice::RolledBack)), "{:?}", world.notices);
    world.server(DM).alert = None;
    world.server(BS).requests.clear();
    world.client.bootstrap();
    asked(&mut world);
    assert!(has(&account_read(&mut world), "11", Value::Unsigned(115)));
    // Nobody sets it but the device; an account that is written anew has seen none.
    assert_eq!(world.bootstrap_write(BS, "/1/1/11", &[("", Value::Unsigned(7))]), Code::CHANGED);
    assert!(has(&account_read(&mut world), "11", Value::Unsigned(115)));
    world.write_account(BS, 1, 1, DM, Some(NEW));
    assert!(!has(&account_read(&mut world), "11", Value::Unsigned(115)));
}

#[test]
fn the_time_of_the_last_bootstrap_is_told_and_survives_a_power_loss() {
    let mut world = World::durable(
        &[bootstrap_account(BS, Some(BOOT))],
        vec![Script::secured(BS, "boot", BOOT.key), Script::secured(DM, "new", NEW.key)],
    );
    world.objects.device.clock = Some(1_700_000_000);
    asked(&mut world);
    world.write_account(BS, 1, 1, DM, Some(NEW));
    assert!(!has(&account_read(&mut world), "12", Value::Time(0)), "nothing is said of what is not over");
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.client.is_registered()));
    for _ in 0..2 {
        assert_eq!(world.read(DM, "/1/1/12", Format::TEXT).text(), "1700000000");
        world.run(1);
        world.power_loss();
        assert!(world.run_until(10, |world| world.client.is_registered()));
    }
}

#[test]
fn only_accounts_that_a_bootstrap_changed_are_dated_by_it() {
    let mut world = World::new(
        &[bootstrap_account(BS, Some(BOOT))],
        vec![Script::secured(BS, "boot", BOOT.key), Script::secured(DM, "new", NEW.key)],
    );
    world.server(DM).keys.insert(b"old".to_vec(), OLD.key.to_vec());
    asked(&mut world);
    let bootstrap = |world: &mut World, write: &dyn Fn(&mut World)| {
        world.server(BS).requests.clear();
        world.client.bootstrap();
        asked(world);
        write(world);
        assert_eq!(world.finish(BS), Code::CHANGED);
        assert!(world.run_until(10, |world| world.client.is_registered()));
        world.run(1);
        let read = world.read(DM, "/1/1/12", Format::TEXT);
        if read.code == Code::CONTENT { read.text().to_owned() } else { format!("{:?}", read.code) }
    };
    let whole = |world: &mut World| world.write_account(BS, 1, 1, DM, Some(NEW));
    let nothing = |_: &mut World| {};
    let key = |world: &mut World| {
        let credential = [("3", Value::Opaque(OLD.identity)), ("5", Value::Opaque(OLD.key))];
        let mut security = vec![
            ("0", Value::String("coaps://host:5684")),
            ("2", Value::Integer(0)),
            ("10", Value::Integer(1)),
        ];
        security.extend(credential);
        assert_eq!(world.bootstrap_write(BS, "/0/1", &security), Code::CHANGED);
    };
    assert_eq!(bootstrap(&mut world, &whole), "4.04", "there is no clock");
    world.objects.device.clock = Some(1_700_000_000);
    assert_eq!(bootstrap(&mut world, &nothing), "4.04");
    assert_eq!(bootstrap(&mut world, &key), "1700000000", "half of the account was changed");
    world.objects.device.clock = Some(1_800_000_000);
    assert_eq!(bootstrap(&mut world, &nothing), "1700000000");
    assert_eq!(bootstrap(&mut world, &whole), "1800000000");
}
