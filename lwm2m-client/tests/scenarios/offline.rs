//! Without a network: notifications are kept and sent afterwards (`/1/x/6`; LwM2M Core 1.1.1 §6.4.2, appendix E.2).

use lwm2m_client::PresharedKey;
use lwm2m_client::objects::format::Items;
use lwm2m_client::objects::{Content, Format, Kind, Operation, Path, Paths, Value, path};
use lwm2m_coap::Code;

use crate::world::{Note, Script, World, account, bootstrap_account, target};

const DM: u16 = 5683;
const VALUE: &str = "/3303/0/5700";

fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    // Nothing of the registration is left to be told.
    world.run(1);
    world
}

/// The value changes, and a second passes.
fn set(world: &mut World, celsius: f64) {
    world.objects.temperature.celsius = celsius;
    world.client.changed(path!("/3303/0/5700"));
    world.run(1);
}

fn values(world: &mut World) -> Vec<String> {
    world.server(DM).notifications.iter().map(|notification| notification.text().to_owned()).collect()
}

#[test]
fn what_was_due_goes_out_in_order_when_the_network_is_back() {
    let mut world = world();
    let token = world.observe(DM, VALUE).token;
    world.client.go_offline();
    let sent = world.sent.len();
    for celsius in [21.0, 22.0, 23.0] {
        set(&mut world, celsius);
    }
    assert_eq!((world.kept.len(), world.sent.len()), (3, sent), "nothing is sent");
    world.client.go_online();
    // What is new waits for what was kept.
    set(&mut world, 24.0);
    world.run(1);
    assert_eq!(values(&mut world), ["21", "22", "23", "24"]);
    let notifications = world.server(DM).notifications.clone();
    assert!(notifications.iter().all(|notification| notification.token == token));
    assert!(notifications.is_sorted_by_key(|notification| notification.observe.unwrap()));
    // An Update comes first: whether the server still knows the device.
    assert_eq!(world.requests(DM).last().map(String::as_str), Some("0.02 /rd/r1"));
    set(&mut world, 25.0);
    assert_eq!(values(&mut world).len(), 5, "and goes on as before");
}

#[test]
fn senml_says_how_old_a_value_is() {
    let mut world = world();
    for (format, token) in [(Format::SENML_CBOR, 1), (Format::SENML_JSON, 2), (Format::TLV, 3)] {
        let operation = Operation::Observe { target: target(VALUE), accept: Some(format) };
        assert_eq!(world.ask(DM, &operation).code, Code::CONTENT, "{token}");
    }
    world.client.go_offline();
    set(&mut world, 21.0);
    world.run(99);
    set(&mut world, 22.0);
    world.client.go_online();
    world.run(1);
    let told: Vec<(u16, f64, f64)> = world
        .server(DM)
        .notifications
        .iter()
        .map(|notification| {
            let format = Format(notification.format.unwrap());
            let content = Content { format, payload: &notification.payload };
            let item = Items::new(&target(VALUE), content).unwrap().next().unwrap().unwrap();
            let Ok(Value::Float(celsius)) = item.raw.value(Kind::Float, &mut []) else { panic!("a number") };
            (format.0, celsius, item.time())
        })
        .collect();
    // What is not a second old has no age.
    let expected = [
        (112, 21.0, -101.0),
        (110, 21.0, -101.0),
        (11_542, 21.0, 0.0),
        (112, 22.0, -1.0),
        (110, 22.0, -1.0),
        (11_542, 22.0, 0.0),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_server_that_wants_nothing_kept_is_told_how_it_is_now() {
    let mut world = world();
    assert_eq!(world.write_text(DM, "/1/1/6", "0"), Code::CHANGED);
    world.observe(DM, VALUE);
    world.client.go_offline();
    for celsius in [21.0, 22.0, 23.0] {
        set(&mut world, celsius);
    }
    assert_eq!(world.kept.len(), 0);
    world.client.go_online();
    world.run(1);
    assert_eq!(values(&mut world), ["23"]);
}

#[test]
fn attributes_hold_without_a_network() {
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["pmin=5", "pmax=15"]), Code::CHANGED);
    world.observe(DM, VALUE);
    world.client.go_offline();
    set(&mut world, 21.0);
    set(&mut world, 22.0);
    // After 5, 20 and 35 seconds.
    world.run(40);
    assert_eq!(world.kept.len(), 3);
    world.client.go_online();
    world.run(1);
    assert_eq!(values(&mut world), ["22", "22", "22"]);
}

#[test]
fn a_server_that_forgot_the_device_gets_nothing_of_observations_before() {
    let mut world = world();
    world.observe_as(DM, b"t", VALUE);
    world.client.go_offline();
    set(&mut world, 21.0);
    let kept = world.kept.clone();
    world.server(DM).update_code = Code::NOT_FOUND;
    world.client.go_online();
    world.run(1);
    assert_eq!(world.requests(DM).last().map(String::as_str), Some("0.02 /rd"));
    assert_eq!((world.kept.len(), values(&mut world).len()), (0, 0));
    // One that is the same to look at is another observation.
    world.server(DM).update_code = Code::CHANGED;
    world.observe_as(DM, b"t", VALUE);
    world.kept = kept;
    world.run(1);
    assert_eq!((world.kept.len(), values(&mut world).len()), (0, 0));
}

#[test]
fn what_is_too_long_to_be_kept_goes_out_as_it_is_then() {
    let mut world = world();
    world.objects.notes.list.insert(0, Note { text: "first ".repeat(100), ..Note::default() });
    world.client.changed(Path::object(42_800));
    world.run(2);
    world.observe(DM, "/42800/0/0");
    world.client.go_offline();
    for text in ["second ", "third "] {
        world.objects.notes.list.get_mut(&0).unwrap().text = text.repeat(100);
        world.client.changed(path!("/42800/0/0"));
        world.run(1);
    }
    assert_eq!(world.kept.len(), 2);
    world.client.go_online();
    world.run(2);
    let texts = values(&mut world);
    assert!(texts.iter().all(|text| text.starts_with("third")), "{texts:?}");
    assert!(!texts.is_empty());
}

#[cfg(all(feature = "composite", feature = "json"))]
#[test]
fn several_places_under_one_token_are_kept_together() {
    let mut world = world();
    let names = br#"[{"n":"/3303/0/5700"},{"n":"/3/0/16"}]"#;
    let paths =
        Paths::Payload { prefix: None, content: Content { format: Format::SENML_JSON, payload: names } };
    let observe = Operation::ObserveComposite { paths, accept: Some(Format::SENML_CBOR) };
    assert_eq!(world.ask(DM, &observe).code, Code::CONTENT);
    world.client.go_offline();
    set(&mut world, 21.0);
    set(&mut world, 22.0);
    world.client.go_online();
    world.run(1);
    let lengths: Vec<usize> = world
        .server(DM)
        .notifications
        .iter()
        .map(|notification| {
            let content = Content { format: Format::SENML_CBOR, payload: &notification.payload };
            Items::new(&Path::ROOT.into(), content).unwrap().count()
        })
        .collect();
    assert_eq!(lengths, [2, 2]);
}

#[test]
fn a_session_goes_on_after_a_time_without_a_network() {
    const KEY: &[u8] = b"0123456789abcdef";
    let key = PresharedKey { identity: b"device", key: KEY };
    let mut server = Script::new(DM);
    server.keys.insert(b"device".to_vec(), KEY.to_vec());
    let mut world = World::new(&[account(1, DM, Some(key))], vec![server]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.run(1);
    world.observe(DM, VALUE);
    world.client.go_offline();
    set(&mut world, 21.0);
    // Longer than any exchange may last.
    world.run(1000);
    set(&mut world, 22.0);
    world.client.go_online();
    world.run(1);
    assert_eq!(values(&mut world), ["21", "22"]);
    assert_eq!(world.server(DM).handshakes, 1);
}

#[test]
fn what_was_under_way_when_the_network_went_is_told_again() {
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["pmin=0"]), Code::CHANGED);
    world.observe(DM, VALUE);
    // Those that need no acknowledgement are used up.
    for celsius in 0..20 {
        set(&mut world, f64::from(celsius));
    }
    world.server(DM).notifications.clear();
    world.server(DM).is_dead = true;
    set(&mut world, 50.0);
    world.client.go_offline();
    world.server(DM).is_dead = false;
    world.run(300);
    world.client.go_online();
    world.run(1);
    assert_eq!(values(&mut world), ["50"]);
    assert_eq!(world.requests(DM).iter().filter(|request| *request == "0.02 /rd").count(), 1);
}

#[test]
fn what_the_owner_drops_is_not_waited_for() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.client.go_offline();
    for celsius in [21.0, 22.0, 23.0] {
        set(&mut world, celsius);
    }
    for kept in world.kept.drain(..) {
        world.client.drop_kept(&kept);
    }
    // What it never was is dropped too.
    world.kept.push_back(b"no notification".to_vec());
    world.client.go_online();
    world.run(1);
    assert_eq!(values(&mut world).len(), 0);
    set(&mut world, 24.0);
    assert_eq!(values(&mut world), ["24"]);
}

#[test]
fn what_is_lost_by_the_owner_is_not_waited_for_either() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.client.go_offline();
    set(&mut world, 21.0);
    world.kept.clear();
    world.client.go_online();
    set(&mut world, 22.0);
    assert_eq!(values(&mut world).len(), 0, "it may still come");
    world.client.forget_kept();
    world.run(1);
    assert_eq!(values(&mut world), ["22"]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_with_its_value() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.client.go_offline();
    for celsius in [21.0, 22.0, 23.0] {
        set(&mut world, celsius);
    }
    world.client.go_online();
    assert!(world.run_until(1, |world| world.servers[0].requests.len() > 1));
    world.server(DM).is_dead = true;
    world.run(1);
    world.client.go_offline();
    world.run(5);
    world.server(DM).is_dead = false;
    world.client.go_online();
    world.run(1);
    // The one that was under way twice, if it had arrived.
    let mut values = values(&mut world);
    values.dedup();
    assert_eq!(values, ["21", "22", "23"]);
}

#[test]
fn a_server_that_is_away_holds_up_no_other() {
    const OTHER: u16 = 1001;
    const BS: u16 = 5783;
    let servers = vec![Script::new(BS), Script::new(DM), Script::new(OTHER)];
    let mut world = World::new(&[bootstrap_account(BS, None)], servers);
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, None);
    world.write_account(BS, 2, 2, OTHER, None);
    // Both may read the thermometer.
    let rights = [
        ("0", Value::Integer(3303)),
        ("1", Value::Integer(0)),
        ("2/0", Value::Integer(1)),
        ("3", Value::Integer(65_535)),
    ];
    assert_eq!(world.bootstrap_write(BS, "/2/0", &rights), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM) && world.is_registered(OTHER)));
    world.run(1);
    assert!(world.observe(DM, VALUE).observe.is_some() && world.observe(OTHER, VALUE).observe.is_some());
    world.client.go_offline();
    set(&mut world, 21.0);
    world.server(DM).is_dead = true;
    world.client.go_online();
    set(&mut world, 22.0);
    world.run(1);
    let told = |world: &mut World, port| {
        world.server(port).notifications.iter().map(|it| it.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world, OTHER), ["21", "22"]);
    assert!(told(&mut world, DM).is_empty());
    world.server(DM).is_dead = false;
    world.run(30);
    assert_eq!(told(&mut world, DM), ["21", "22"]);
}

#[test]
fn an_observation_that_is_renewed_keeps_what_was_kept_for_it() {
    let mut world = world();
    world.observe_as(DM, b"t", VALUE);
    world.client.go_offline();
    set(&mut world, 21.0);
    let kept = core::mem::take(&mut world.kept);
    world.client.go_online();
    world.run(1);
    world.observe_as(DM, b"t", VALUE);
    world.kept = kept;
    world.run(1);
    assert_eq!(values(&mut world), ["21"]);
}

#[test]
fn what_was_kept_before_a_restart_is_worth_nothing() {
    let mut world = world();
    world.observe_as(DM, b"t", VALUE);
    world.client.go_offline();
    world.run(1000);
    set(&mut world, 21.0);
    let kept = core::mem::take(&mut world.kept);
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    world.run(1);
    world.observe_as(DM, b"t", VALUE);
    world.kept = kept;
    world.run(1);
    assert_eq!((world.kept.len(), values(&mut world).len()), (0, 0));
}

#[test]
fn a_request_that_was_answered_is_not_carried_out_again() {
    let mut world = world();
    world.objects.notes.list.clear();
    let content = Content { format: Format::TLV, payload: &[0xc1, 0, b'x'] };
    let create = Operation::Create { target: target("/42800"), content };
    let id = world.send(DM, |writer| {
        lwm2m_client::objects::mapping::emit(&create, writer).unwrap();
        writer.payload(content.payload).unwrap();
    });
    let mut request = world.server(DM).posted.clone();
    world.exchange();
    assert_eq!(world.response(DM, id).map(|response| response.code), Some(Code::CREATED));
    world.client.go_offline();
    world.run(2);
    world.client.go_online();
    world.run(1);
    world.deliver(0, &mut request);
    assert_eq!(world.objects.notes.list.len(), 1);
}

#[test]
fn an_object_list_that_was_under_way_is_sent_again() {
    let mut world = world();
    world.server(DM).is_dead = true;
    world.objects.notes.list.insert(7, Note::default());
    world.client.changed(Path::object(42_800));
    world.run(1);
    world.client.go_offline();
    world.server(DM).is_dead = false;
    world.run(3);
    world.client.go_online();
    world.run(1);
    let update = world.server(DM).requests.last().unwrap().clone();
    assert!(String::from_utf8_lossy(&update.payload).contains("</42800/7>"), "{update:?}");
}

#[test]
fn a_bootstrap_that_was_under_way_begins_anew() {
    const BS: u16 = 5783;
    let servers = vec![Script::new(BS), Script::new(DM)];
    let mut world = World::new(&[bootstrap_account(BS, None)], servers);
    world.run(1);
    assert_eq!(world.count(BS, "/bs"), 1);
    world.client.go_offline();
    // Longer than a bootstrap server may be silent.
    world.run(1000);
    world.client.go_online();
    world.run(1);
    assert_eq!(world.count(BS, "/bs"), 2);
    world.write_account(BS, 1, 1, DM, None);
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.is_registered(DM)));
}

#[test]
fn without_a_connection_id_another_address_means_another_session() {
    const KEY: &[u8] = b"0123456789abcdef";
    let key = PresharedKey { identity: b"device", key: KEY };
    let mut server = Script::new(DM);
    server.keys.insert(b"device".to_vec(), KEY.to_vec());
    let mut world = World::new(&[account(1, DM, Some(key))], vec![server]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.run(1);
    world.client.address_changed();
    world.run(1);
    assert_eq!(world.server(DM).handshakes, 2);
    assert!(world.is_registered(DM));
}

#[test]
fn a_registration_that_was_under_way_begins_anew() {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    world.server(DM).is_dead = true;
    world.run(1);
    world.client.go_offline();
    assert!(world.client.is_offline());
    world.server(DM).is_dead = false;
    world.run(600);
    assert!(world.requests(DM).is_empty());
    world.client.go_online();
    assert!(world.run_until(1, |world| world.is_registered(DM)));
}
