//! Register, Update, De-register, retry and back-off (LwM2M Core 1.1.1 §6.2).

use lwm2m_client::objects::{Format, Operation, Path, Version};
use lwm2m_client::{Notice, PresharedKey, Reason, Server, ShortServerId};
use lwm2m_coap::{Code, OptionNumber};

use crate::world::{
    BOOT, Note, OLD, Script, World, account, account_with, bootstrap_account, server_instance, target,
};

const PORT: u16 = 5683;

fn plain() -> World {
    World::new(&[account(1, PORT, None)], vec![Script::new(PORT)])
}

fn one() -> ShortServerId {
    ShortServerId::new(1).unwrap()
}

#[test]
fn register_says_who_for_how_long_and_what() {
    let mut world = plain();
    assert!(world.run_until(1, |world| world.is_registered(PORT)));
    let request = world.server(PORT).requests[0].clone();
    assert_eq!((request.code, request.path.as_str(), request.format), (Code::POST, "/rd", Some(40)));
    assert_eq!(request.query, ["ep=urn:dev:test", "lt=86400", "lwm2m=1.1", "b=U"]);
    assert_eq!(request.text(), "</1/1>,</3/0>,</3303>;ver=1.1,</3303/0>,</42800>");
    assert!(world.notices.contains(&Notice::Registered { server: one() }));
    assert!(world.flash.log.ends_with(&["Confirm".into()]), "{:?}", world.flash.log);
}

#[test]
fn a_name_that_the_credential_proves_may_be_left_out() {
    // LwM2M Core 1.1.1 §6.2.1
    let named = "ep=urn:dev:test";
    for (is_secured, version, names_itself, is_told) in [
        (true, Version::new(1, 1), true, true),
        (true, Version::new(1, 1), false, false),
        (true, Version::new(1, 0), false, true),
        (false, Version::new(1, 1), false, true),
    ] {
        let (key, boot) = if is_secured { (Some(OLD), Some(BOOT)) } else { (None, None) };
        let bs = if is_secured { 5784 } else { 5783 };
        let script = |port, name, key: PresharedKey<'_>| match is_secured {
            true => Script::secured(port, name, key.key),
            false => Script::new(port),
        };
        let told = |account, port| {
            let scripts = vec![script(PORT, "old", OLD), script(bs, "boot", BOOT)];
            let mut world = World::new(&[account], scripts);
            (world.config.names_itself, world.config.version) = (names_itself, version);
            world.power_loss();
            assert!(world.run_until(60, |world| world.servers.iter().any(|it| !it.requests.is_empty())));
            world.server(port).requests[0].query.clone()
        };
        let register = told(account(1, PORT, key), PORT);
        assert_eq!(register.contains(&named.to_owned()), is_told, "{register:?}");
        assert!(register.iter().any(|query| query.starts_with("lwm2m=")), "{register:?}");
        let bootstrap = told(bootstrap_account(bs, boot), bs);
        assert_eq!(bootstrap.contains(&named.to_owned()), is_told, "{bootstrap:?}");
    }
}

#[test]
fn an_update_without_parameters_goes_out_before_the_lifetime_ends() {
    let mut world = plain();
    world.run(86_400 - 93 - 5);
    assert_eq!(world.server(PORT).requests.len(), 1);
    world.run(10);
    let update = world.server(PORT).requests[1].clone();
    assert_eq!((update.path.as_str(), update.query.len(), update.payload.len()), ("/rd/r1", 0, 0));
    world.run(2 * 86_400);
    assert_eq!(world.count(PORT, "/rd/r1"), 3);
}

#[test]
fn a_written_lifetime_is_told_at_once() {
    // OMA ETS LightweightM2M-1.1-int-102 and 107
    let mut world = plain();
    world.run(1);
    assert_eq!(world.write_text(PORT, "/1/1/1", "20"), Code::CHANGED);
    world.run(1);
    let update = world.server(PORT).requests.last().unwrap().clone();
    assert_eq!(update.query, ["lt=20"]);
    world.run(11);
    assert!(world.server(PORT).requests.last().unwrap().query.is_empty());
    // The change survives a restart.
    world.power_loss();
    world.run(1);
    assert!(world.server(PORT).requests.last().unwrap().query.contains(&"lt=20".into()));
}

#[test]
fn the_update_trigger_sends_an_update() {
    // OMA ETS LightweightM2M-1.1-int-104
    let mut world = plain();
    world.run(1);
    assert_eq!(world.execute(PORT, "/1/1/8"), Code::CHANGED);
    world.run(1);
    let update = world.server(PORT).requests.last().unwrap().clone();
    assert_eq!((update.path.as_str(), update.query.len()), ("/rd/r1", 0));
}

#[test]
fn the_update_trigger_takes_the_binding_as_an_argument_or_a_query() {
    // LwM2M Core 1.1.1 appendix E.2: the examples have both.
    for (payload, query, code) in [
        ("0='U'", None, Code::CHANGED),
        ("7,0='U'", None, Code::CHANGED),
        ("0", None, Code::CHANGED),
        ("", Some("0=U"), Code::CHANGED),
        ("", Some("0='U'"), Code::CHANGED),
        // This device has no other.
        ("0='T'", None, Code::BAD_REQUEST),
        ("", Some("0=T"), Code::BAD_REQUEST),
        ("0=U", None, Code::BAD_REQUEST),
        ("", Some("pmin=5"), Code::BAD_REQUEST),
        // Two lists of arguments.
        ("0='U'", Some("0=U"), Code::BAD_REQUEST),
    ] {
        let mut world = plain();
        world.run(1);
        let response = world.ask_with(PORT, |writer| {
            writer.set_code(Code::POST);
            writer.split(OptionNumber::URI_PATH, "1/1/8", '/').unwrap();
            if !payload.is_empty() || query.is_none() {
                // Text is format 0, an option without bytes; it stands before any query.
                writer.option(OptionNumber::CONTENT_FORMAT, b"").unwrap();
            }
            if let Some(query) = query {
                writer.option(OptionNumber::URI_QUERY, query.as_bytes()).unwrap();
            }
            writer.payload(payload.as_bytes()).unwrap();
        });
        world.run(1);
        assert_eq!(response.code, code, "{payload} {query:?}");
        let updates = usize::from(code == Code::CHANGED);
        assert_eq!(world.count(PORT, "/rd/r1"), updates, "{payload} {query:?}");
    }
}

#[test]
fn new_instances_are_told_with_the_whole_list() {
    let mut world = plain();
    world.run(1);
    world.objects.notes.list.insert(7, Default::default());
    world.client.changed(Path::object(42_800));
    world.run(1);
    let update = world.server(PORT).requests.last().unwrap().clone();
    assert_eq!(update.text(), "</1/1>,</3/0>,</3303>;ver=1.1,</3303/0>,</42800/7>");
    assert!(update.query.is_empty());
}

#[test]
fn what_changes_within_an_instance_sends_no_update() {
    let mut world = plain();
    world.run(1);
    world.client.changed(Path::instance(3303, 0));
    world.client.changed(Path::object(42_800));
    world.run(1);
    assert_eq!(world.server(PORT).requests.len(), 1);
}

#[test]
fn without_bootstrap_on_failure_a_failed_registration_begins_anew_some_day() {
    let mut server = server_instance(1, 300);
    assert!(server.set(16, Some(0)));
    assert!(server.set(17, Some(1)));
    assert!(server.set(19, Some(1000)));
    let accounts = [crate::world::bootstrap_account(5783, None), account_with(server, PORT)];
    let mut world = World::new(&accounts, vec![Script::new(PORT), Script::new(5783)]);
    world.server(PORT).refusal = Some(Code::FORBIDDEN);
    world.run(2500);
    assert_eq!(world.count(PORT, "/rd"), 3);
    assert!(world.server(5783).requests.is_empty());
}

#[test]
fn an_unknown_registration_is_made_anew() {
    // OMA ETS LightweightM2M-1.1-int-105
    let mut world = plain();
    world.run(1);
    world.server(PORT).update_code = Code::NOT_FOUND;
    world.client.update();
    world.run(1);
    assert_eq!(world.requests(PORT), ["0.02 /rd", "0.02 /rd/r1", "0.02 /rd"]);
    assert!(world.client.is_registered());
}

#[test]
fn disable_deregisters_and_stays_silent_for_its_time() {
    // OMA ETS LightweightM2M-1.1-int-103
    let mut world = plain();
    world.run(1);
    assert_eq!(world.write_text(PORT, "/1/1/5", "100"), Code::CHANGED);
    assert_eq!(world.execute(PORT, "/1/1/4"), Code::CHANGED);
    world.run(1);
    assert_eq!(world.requests(PORT), ["0.02 /rd", "0.04 /rd/r1"]);
    world.run(97);
    assert_eq!(world.server(PORT).requests.len(), 2);
    world.run(5);
    assert_eq!(world.requests(PORT).last().unwrap(), "0.02 /rd");
}

#[test]
fn the_orderly_end_deregisters() {
    let mut world = plain();
    world.run(1);
    world.client.deregister();
    assert!(world.run_until(5, |world| world.client.is_stopped()));
    assert_eq!(world.requests(PORT).last().unwrap(), "0.04 /rd/r1");
    world.run(100_000);
    assert_eq!(world.server(PORT).requests.len(), 2);
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn the_orderly_end_waits_for_a_registration_under_way() {
    let mut world = plain();
    world.server(PORT).is_dead = true;
    world.run(1);
    world.client.deregister();
    assert!(!world.client.is_stopped());
    world.server(PORT).is_dead = false;
    assert!(world.run_until(10, |world| world.client.is_stopped()));
    assert_eq!(world.requests(PORT), ["0.02 /rd", "0.04 /rd/r1"]);
    // And for one that is not answered no longer than CoAP does.
    let mut world = plain();
    world.server(PORT).is_dead = true;
    world.run(1);
    world.client.deregister();
    assert!(world.run_until(100, |world| world.client.is_stopped()));
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn the_orderly_end_gives_up_a_handshake() {
    // Found by the fuzz target `server_datagram`: the handshake went on asking to be woken.
    let script = Script::secured(PORT, "old", OLD.key);
    let mut world = World::new(&[account(1, PORT, Some(OLD))], vec![script]);
    world.server(PORT).is_dead = true;
    world.run(1);
    world.client.deregister();
    assert!(world.run_until(1, |world| world.client.is_stopped()));
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn refused_registrations_are_repeated_with_growing_pauses() {
    let mut world = plain();
    world.server(PORT).refusal = Some(Code::FORBIDDEN);
    world.run(100_000);
    let mut times: Vec<u64> =
        world.server(PORT).requests.iter().map(|request| request.at.as_millis() / 1000).collect();
    let first = times[0];
    times.iter_mut().for_each(|time| *time -= first);
    // Without a bootstrap server it begins anew after the sequence delay of a day.
    assert_eq!(times, [0, 60, 180, 420, 900, 87_300, 87_360, 87_480, 87_720, 88_200]);
    let refused = Notice::RegistrationFailed { server: one(), reason: Reason::Refused(0x83) };
    assert!(world.notices.contains(&refused), "{:?}", world.notices);
}

/// When the requests to a path came, in seconds since the first one.
fn times(world: &mut World, path: &str) -> Vec<u64> {
    let of = |request: &&crate::world::Received| request.path == path;
    let times = world.server(PORT).requests.iter().filter(of).map(|request| request.at.as_millis() / 1000);
    let times: Vec<_> = times.collect();
    times.iter().map(|time| time - times[0]).collect()
}

#[test]
fn a_server_that_is_not_available_is_left_alone_for_as_long_as_it_says() {
    // RFC 7252 §5.9.3.4, §5.10.5: the pauses are 60 and 120 s else. An hour is the longest that is waited for, and a quarter more
    // spreads the devices.
    for (code, max_age, first, second) in [
        (Code::SERVICE_UNAVAILABLE, None, 60..=75, 120..=120),
        (Code::SERVICE_UNAVAILABLE, Some(20), 60..=60, 120..=120),
        (Code::SERVICE_UNAVAILABLE, Some(100), 101..=125, 120..=125),
        (Code::SERVICE_UNAVAILABLE, Some(u32::MAX), 3601..=4500, 3601..=4500),
        (Code::FORBIDDEN, Some(100), 60..=60, 120..=120),
    ] {
        let mut world = plain();
        let server = world.server(PORT);
        (server.refusal, server.max_age) = (Some(code), max_age);
        world.run(10_000);
        let times = times(&mut world, "/rd");
        assert!(
            first.contains(&times[1]) && second.contains(&(times[2] - times[1])),
            "{max_age:?} {times:?}"
        );
    }
}

/// A registered device whose server answers 5.03 to Updates, and where it says so, when to come again.
fn unavailable(server: Server, max_age: Option<u32>) -> World {
    let mut world = World::new(&[account_with(server, PORT)], vec![Script::new(PORT)]);
    world.run(1);
    let server = world.server(PORT);
    (server.update_code, server.max_age) = (Code::SERVICE_UNAVAILABLE, max_age);
    world
}

#[test]
fn an_update_that_meets_a_server_out_of_service_is_sent_again_when_it_says() {
    // RFC 7252 §5.9.3.4, §5.10.5. Ten seconds at least, an hour at most, and no later than the lifetime allows.
    for (lifetime, max_age, expected) in [
        (86_400, None, 60),
        (86_400, Some(100), 100),
        (86_400, Some(0), 10),
        (86_400, Some(u32::MAX), 3600),
        (300, Some(1000), 206),
        (0, Some(1000), 1000),
    ] {
        // A single attempt would be followed by a bootstrap, if it counted.
        let mut server = server_instance(1, lifetime);
        assert!(server.set(17, Some(1)));
        let mut world = unavailable(server, max_age);
        world.observe(PORT, "/3303/0/5700");
        world.client.update();
        world.run(expected - 1);
        assert_eq!(world.requests(PORT), ["0.02 /rd", "0.02 /rd/r1"], "{max_age:?}");
        world.client.update();
        world.server(PORT).update_code = Code::CHANGED;
        world.run(1);
        assert_eq!(world.requests(PORT), ["0.02 /rd", "0.02 /rd/r1", "0.02 /rd/r1"], "{max_age:?}");
        assert!(world.client.is_registered());
        world.objects.temperature.celsius = 1.0;
        world.client.changed(Path::resource(3303, 0, 5700));
        world.client.update();
        world.run(1);
        assert_eq!(world.server(PORT).notifications.len(), 1, "the observation goes on");
        assert_eq!(world.requests(PORT).len(), 4, "nothing is put off any more");
    }
}

#[test]
fn an_update_that_is_put_off_carries_its_objects_later_or_when_the_server_asks() {
    let mut world = unavailable(server_instance(1, 86_400), Some(1000));
    world.objects.notes.list.insert(7, Note::default());
    world.client.changed(Path::object(42_800));
    world.run(100);
    let sent = world.server(PORT).requests.last().unwrap().payload.clone();
    assert!(!sent.is_empty());
    assert_eq!(world.requests(PORT).len(), 2);
    world.server(PORT).update_code = Code::CHANGED;
    assert_eq!(world.execute(PORT, "/1/1/8"), Code::CHANGED);
    world.run(1);
    assert_eq!(world.requests(PORT).len(), 3);
    assert_eq!(world.server(PORT).requests.last().unwrap().payload, sent);
    world.run(2000);
    assert_eq!(world.requests(PORT).len(), 3);
}

#[test]
fn what_ends_the_registration_during_an_update_outlives_its_answer() {
    let challenge = |world: &mut World| world.server(PORT).challenge = Some(vec![1; 8]);
    let refuse = |world: &mut World| world.server(PORT).update_code = Code::SERVICE_UNAVAILABLE;
    for answer in [&challenge as &dyn Fn(&mut World), &refuse] {
        for is_disable in [true, false] {
            let mut world = plain();
            world.run(1);
            answer(&mut world);
            world.server(PORT).is_held = true;
            world.client.update();
            world.run(1);
            assert_eq!(world.requests(PORT).len(), 2, "its answer is on the way");
            let server = world.server(PORT);
            (server.challenge, server.is_held) = (None, false);
            if is_disable {
                world.execute(PORT, "/1/1/4");
            } else {
                world.client.deregister();
            }
            world.server(PORT).release();
            world.run(1);
            assert_eq!(world.requests(PORT), ["0.02 /rd", "0.02 /rd/r1", "0.04 /rd/r1"]);
        }
    }
}

#[test]
fn the_retry_resources_rule_the_pauses() {
    let mut server = server_instance(1, 300);
    assert!(server.set(17, Some(2)));
    assert!(server.set(18, Some(7)));
    assert!(server.set(19, Some(1000)));
    assert!(server.set(20, Some(2)));
    let mut world = World::new(&[account_with(server, PORT)], vec![Script::new(PORT)]);
    world.server(PORT).refusal = Some(Code::BAD_REQUEST);
    world.run(1500);
    let times: Vec<u64> =
        world.server(PORT).requests.iter().map(|request| request.at.as_millis() / 1000).collect();
    assert_eq!(times, [1, 8, 1008, 1015]);
}

#[test]
fn the_initial_delay_is_waited_for() {
    let mut server = server_instance(1, 300);
    assert!(server.set(14, Some(30)));
    let mut world = World::new(&[account_with(server, PORT)], vec![Script::new(PORT)]);
    world.run(29);
    assert!(world.server(PORT).requests.is_empty());
    assert!(world.run_until(2, |world| world.is_registered(PORT)));
}

#[test]
fn a_silent_server_is_asked_again_by_coap_and_then_by_the_retry_rules() {
    let mut world = plain();
    world.server(PORT).is_dead = true;
    world.run(100);
    // RFC 7252 §4.8: five transmissions, then the first pause of 60 s.
    assert_eq!(world.sent.len(), 5);
    let retry = Notice::RegistrationRetry { server: one(), reason: Reason::Timeout };
    assert!(world.notices.contains(&retry));
    world.server(PORT).is_dead = false;
    assert!(world.run_until(120, |world| world.is_registered(PORT)));
}

#[test]
fn an_unanswered_update_leads_to_a_new_registration() {
    let mut world = plain();
    world.run(1);
    world.server(PORT).is_dead = true;
    world.client.update();
    world.run(100);
    assert!(!world.client.is_registered());
    world.server(PORT).is_dead = false;
    assert!(world.run_until(200, |world| world.is_registered(PORT)));
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again() {
    let mut world = plain();
    world.unresolved.push("host".into());
    world.run(30);
    let retry = Notice::RegistrationRetry { server: one(), reason: Reason::Unresolved };
    assert!(world.notices.contains(&retry));
    world.unresolved.clear();
    assert!(world.run_until(60, |world| world.is_registered(PORT)));
}

#[test]
fn a_lost_association_means_a_new_handshake_and_a_new_registration() {
    let mut world = World::new(&[account(1, PORT, Some(OLD))], vec![Script::secured(PORT, "old", OLD.key)]);
    assert!(world.run_until(5, |world| world.is_registered(PORT)));
    world.server(PORT).close();
    world.run(5);
    assert_eq!(world.server(PORT).handshakes, 2);
    assert_eq!(world.requests(PORT), ["0.02 /rd", "0.02 /rd"]);
    // The server restarts and says nothing: the next Update finds out.
    world.server(PORT).forget();
    world.client.update();
    world.run(200);
    assert_eq!(world.server(PORT).handshakes, 3);
    assert!(world.client.is_registered());
}

#[test]
fn a_wrong_key_never_registers() {
    let mut world =
        World::new(&[account(1, PORT, Some(OLD))], vec![Script::secured(PORT, "old", b"another key 0000")]);
    world.run(200);
    assert!(!world.client.is_registered());
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::RegistrationRetry { .. })));
}

#[test]
fn a_long_list_goes_in_blocks() {
    let mut world = plain();
    for instance in 0..60 {
        world.objects.notes.list.insert(instance, Default::default());
    }
    assert!(world.run_until(5, |world| world.client.is_registered()));
    let requests = world.server(PORT).requests.clone();
    assert!(requests.len() > 3);
    let list: Vec<u8> = requests.iter().flat_map(|request| request.payload.clone()).collect();
    let list = String::from_utf8(list).unwrap();
    assert!(list.starts_with("</1/1>,</3/0>") && list.ends_with("</42800/59>"), "{list}");
    assert!(requests.iter().all(|request| request.query == requests[0].query));
    // RFC 9175 §3.4: blocks of another list that come late are not taken for these.
    assert!(requests.iter().all(|request| request.tag == requests[0].tag && request.tag.is_some()));
}

#[test]
fn a_list_that_is_too_large_as_a_whole_goes_in_blocks() {
    let mut world = plain();
    world.server(PORT).smaller = Some(32);
    assert!(world.run_until(5, |world| world.client.is_registered()));
    let requests = world.server(PORT).requests.clone();
    // RFC 7959 §2.9.3: the size in 4.13 is a hint for the same request.
    let list: Vec<u8> = requests.iter().skip(1).flat_map(|request| request.payload.clone()).collect();
    assert!(requests.len() > 2 && requests.iter().skip(1).all(|request| request.payload.len() <= 32));
    assert_eq!(list, requests[0].payload);
}

#[test]
fn a_request_is_repeated_with_the_echo_that_the_server_wants() {
    // RFC 9175 §2.3, with the longest value; every request is challenged, whatever it is.
    let mut world = plain();
    world.server(PORT).challenge = Some((1..=40).collect());
    let requests = |world: &mut World| std::mem::take(&mut world.server(PORT).requests);
    assert!(world.run_until(5, |world| world.client.is_registered()));
    let register = requests(&mut world);
    assert_eq!(register.len(), 2);
    assert_eq!((&register[0].path, &register[0].query), (&register[1].path, &register[1].query));
    assert_eq!((register[0].echo.is_none(), &register[1].payload), (true, &register[0].payload));

    world.write_text(PORT, "/1/1/1", "300");
    world.run(1);
    let update = requests(&mut world);
    assert_eq!(update.iter().map(|request| request.query.join("&")).collect::<Vec<_>>(), ["lt=300"; 2]);
    assert!(world.client.is_registered());

    // A list in blocks: each of them.
    for instance in 0..60 {
        world.objects.notes.list.insert(instance, Default::default());
    }
    world.client.changed(Path::object(42_800));
    world.run(1);
    let list: Vec<_> = requests(&mut world);
    assert!(list.len() > 4 && list.iter().all(|request| request.tag == list[0].tag));
    let whole = |is_echoed| -> Vec<u8> {
        let with = list.iter().filter(|request| request.echo.is_some() == is_echoed);
        with.flat_map(|request| request.payload.clone()).collect()
    };
    assert!(whole(true) == whole(false) && whole(true).ends_with(b"</42800/59>"));

    world.client.deregister();
    assert!(world.run_until(5, |world| world.client.is_stopped()));
    assert_eq!(
        requests(&mut world).iter().map(|request| request.code).collect::<Vec<_>>(),
        [Code::DELETE; 2]
    );
}

#[test]
fn a_bootstrap_request_is_repeated_with_the_echo_and_told_once() {
    let mut world = World::new(&[bootstrap_account(5783, None)], vec![Script::new(5783)]);
    world.server(5783).challenge = Some(vec![7; 12]);
    world.run(1);
    let asked: Vec<_> = world.server(5783).requests.iter().map(|request| request.path.clone()).collect();
    assert_eq!(asked, ["/bs"; 2]);
    assert_eq!(world.notices, [Notice::BootstrapStarted]);
}

#[test]
fn a_server_that_takes_no_echo_at_all_refuses() {
    let mut world = plain();
    world.server(PORT).challenge = Some(vec![7]);
    world.server(PORT).is_never_convinced = true;
    world.run(1);
    assert_eq!(world.server(PORT).requests.len(), 2);
    let reason = Reason::Refused(Code::UNAUTHORIZED.as_u8());
    assert!(world.notices.contains(&Notice::RegistrationRetry { server: one(), reason }));
    // The next attempt begins without what was of no use.
    world.run(600);
    assert_eq!(world.server(PORT).requests[2].echo, None);
}

#[test]
fn version_1_0_is_announced_with_the_queue_mode_in_the_binding() {
    let mut world = plain();
    world.config.version = lwm2m_client::objects::Version { major: 1, minor: 0 };
    world.config.is_queue_mode = true;
    world.power_loss();
    world.run(1);
    let request = world.server(PORT).requests[0].clone();
    assert_eq!(request.query, ["ep=urn:dev:test", "lt=86400", "lwm2m=1.0", "b=UQ"]);
    world.config.version = lwm2m_client::objects::Version { major: 1, minor: 1 };
    world.power_loss();
    world.run(1);
    let request = world.server(PORT).requests[1].clone();
    assert_eq!(request.query, ["ep=urn:dev:test", "lt=86400", "lwm2m=1.1", "b=U", "Q"]);
}

/// LwM2M Core 1.1.1 §6.5.
#[test]
fn the_receiver_may_not_be_off_while_an_answer_is_awaited() {
    let mut world = plain();
    world.config.is_queue_mode = true;
    world.power_loss();
    assert!(!world.client.is_quiet(), "it has to register first");
    assert!(world.run_until(10, |world| world.client.is_registered()));
    world.run(1);
    assert!(world.client.is_quiet());
    // An Update that nobody answers yet.
    world.server(PORT).is_dead = true;
    world.client.update();
    assert!(!world.client.is_quiet());
    world.run(1);
    assert!(!world.client.is_quiet());
    world.server(PORT).is_dead = false;
    assert!(world.run_until(20, |world| world.client.is_quiet()));
    // What a server asks is answered at once.
    assert!(world.read(PORT, "/3/0/0", Format::TEXT).code.is_success());
    assert!(world.client.is_quiet());
}

#[test]
fn a_long_list_that_changes_on_the_way_is_sent_from_its_beginning() {
    let mut world = plain();
    for instance in 0..60 {
        world.objects.notes.list.insert(instance, Default::default());
    }
    world.server(PORT).is_dead = true;
    world.run(1);
    // The first block went out; its repetition is answered.
    world.objects.notes.list.remove(&7);
    world.client.changed(Path::object(42800));
    world.server(PORT).is_dead = false;
    assert!(world.run_until(20, |world| world.client.is_registered()));
    let requests = world.server(PORT).requests.clone();
    let start = requests.iter().rposition(|request| request.payload.starts_with(b"</1/1>")).unwrap();
    let list: Vec<u8> = requests[start..].iter().flat_map(|request| request.payload.clone()).collect();
    let list = String::from_utf8(list).unwrap();
    assert!(list.ends_with("</42800/59>") && !list.contains("</42800/7>"), "{list}");
    world.run(5);
    assert_eq!(world.server(PORT).requests.len(), requests.len(), "the server knows the list");
}

#[test]
fn a_server_that_knows_only_the_version_before_is_spoken_to_in_that() {
    let mut world = World::new(&[account(1, PORT, None)], vec![Script::new(PORT)]);
    world.server(PORT).only = Some("lwm2m=1.0");
    assert!(world.run_until(2, |world| world.is_registered(PORT)));
    let versions: Vec<_> =
        world.server(PORT).requests.iter().map(|request| request.query[2].clone()).collect();
    assert_eq!(versions, ["lwm2m=1.1", "lwm2m=1.0"], "at once");
    // It gets what a device of 1.0 says.
    let read = world.ask(PORT, &Operation::Read { target: target("/3303/0"), accept: None });
    assert_eq!(read.format, Some(11_542));
    // The next registration begins with the newest version again.
    world.server(PORT).update_code = Code::NOT_FOUND;
    world.client.update();
    world.run(2);
    let last = world.server(PORT).requests.last().unwrap().query[2].clone();
    assert_eq!(last, "lwm2m=1.0", "it is the same server");
    world.power_loss();
    world.server(PORT).requests.clear();
    assert!(world.run_until(5, |world| world.is_registered(PORT)));
    assert_eq!(world.server(PORT).requests[0].query[2], "lwm2m=1.1");
}

#[test]
fn a_server_that_knows_none_of_the_versions_is_asked_again_later() {
    let mut world = World::new(&[account(1, PORT, None)], vec![Script::new(PORT)]);
    world.server(PORT).only = Some("lwm2m=2.0");
    world.run(30);
    assert_eq!(world.server(PORT).requests.len(), 2);
    world.run(60);
    assert!(world.server(PORT).requests.len() > 2);
}
