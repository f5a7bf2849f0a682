//! Observe, attributes, cancellation (LwM2M Core 1.1.1 §5.1.2, §6.4).

use lwm2m_client::objects::{Format, Operation, Path};
use lwm2m_coap::{Code, OptionNumber};

use crate::world::{Script, World, account, target};

const DM: u16 = 5683;
const VALUE: &str = "/3303/0/5700";

fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    world
}

fn set(world: &mut World, celsius: f64) {
    world.objects.temperature.celsius = celsius;
    world.client.changed(Path::resource(3303, 0, 5700));
    world.run(1);
}

fn values(world: &mut World) -> Vec<String> {
    world.server(DM).notifications.iter().map(|notification| notification.text().to_owned()).collect()
}

#[test]
fn every_change_is_notified_with_the_token_and_a_growing_number() {
    let mut world = world();
    let answer = world.observe(DM, VALUE);
    assert_eq!((answer.code, answer.text()), (Code::CONTENT, "20"));
    let mut last = answer.observe.unwrap();
    set(&mut world, 21.5);
    set(&mut world, 22.0);
    world.run(100);
    assert_eq!(values(&mut world), ["21.5", "22"]);
    for notification in world.server(DM).notifications.clone() {
        assert_eq!(notification.token, answer.token);
        assert!(notification.observe.unwrap() > last);
        last = notification.observe.unwrap();
    }
}

#[test]
fn pmin_holds_changes_back_and_pmax_repeats_the_value() {
    // OMA ETS LightweightM2M-1.1-int-301
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["pmin=5", "pmax=15"]), Code::CHANGED);
    world.observe(DM, VALUE);
    let start = world.now.as_millis();
    set(&mut world, 21.0);
    set(&mut world, 22.0);
    world.run(40);
    let times: Vec<u64> = world
        .server(DM)
        .notifications
        .iter()
        .map(|notification| (notification.at.as_millis() - start) / 1000)
        .collect();
    assert_eq!(values(&mut world), ["22", "22", "22"]);
    assert_eq!(times, [5, 20, 35]);
}

#[test]
fn what_goes_out_more_often_than_every_3_seconds_waits_for_acknowledgements() {
    // RFC 7641 §4.5.1
    let mut world = world();
    world.observe(DM, VALUE);
    for second in 0..90 {
        set(&mut world, f64::from(second));
    }
    let confirmed: Vec<bool> =
        world.server(DM).notifications.iter().map(|notification| notification.is_confirmable).collect();
    assert_eq!(confirmed.len(), 90, "each value arrives all the same");
    assert!(!confirmed[..10].contains(&true), "a few may go out together");
    let unconfirmed = confirmed.iter().filter(|is_confirmable| !**is_confirmable).count();
    assert!((38..=41).contains(&unconfirmed), "{unconfirmed}: ten, and one each 3 s");
    world.run(60);
    world.server(DM).notifications.clear();
    set(&mut world, 100.0);
    assert!(!world.server(DM).notifications[0].is_confirmable);
}

#[test]
fn observations_take_turns_where_each_notification_waits_for_its_acknowledgement() {
    let mut world = world();
    let paths = ["/3/0/0", "/3/0/16", VALUE].map(|path| world.observe(DM, path).token);
    let mut counts = [0; 3];
    world.server(DM).is_held = true;
    for second in 0..60 {
        // The acknowledgement takes until everything has changed again.
        for resource in [0, 16] {
            world.client.changed(Path::resource(3, 0, resource));
        }
        set(&mut world, f64::from(second));
        world.server(DM).release();
        world.exchange();
    }
    for notification in &world.server(DM).notifications[15..] {
        counts[paths.iter().position(|token| *token == notification.token).unwrap()] += 1;
    }
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 2, "{counts:?}");
    // An Update that is due goes first.
    set(&mut world, 100.0);
    world.client.update();
    let server = world.server(DM);
    (server.is_held, server.notifications) = (false, Vec::new());
    let requests = server.requests.len();
    server.release();
    world.exchange();
    let server = world.server(DM);
    assert_eq!(server.requests.len(), requests + 1);
}

#[test]
fn thresholds_and_steps_filter_changes() {
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["gt=25", "st=10"]), Code::CHANGED);
    world.observe(DM, VALUE);
    for celsius in [21.0, 24.0, 26.0, 27.0, 24.0, 25.5, 37.0] {
        set(&mut world, celsius);
    }
    assert_eq!(values(&mut world), ["26", "25.5", "37"]);
}

#[test]
fn attributes_are_inherited_and_the_nearest_counts() {
    let mut world = world();
    assert_eq!(world.attributes(DM, "/3303", &["pmax=30"]), Code::CHANGED);
    assert_eq!(world.attributes(DM, "/3303/0", &["pmax=10"]), Code::CHANGED);
    world.observe(DM, VALUE);
    world.run(31);
    assert_eq!(values(&mut world).len(), 3);
    assert_eq!(world.attributes(DM, "/3303/0", &["pmax"]), Code::CHANGED);
    world.run(60);
    assert_eq!(values(&mut world).len(), 5);
    // The defaults of the server object come last.
    assert_eq!(world.attributes(DM, "/3303", &["pmax"]), Code::CHANGED);
    assert_eq!(world.write_text(DM, "/1/1/3", "20"), Code::CHANGED);
    world.server(DM).notifications.clear();
    world.run(61);
    assert_eq!(values(&mut world).len(), 3);
}

/// What was notified so far, and how many seconds after a time.
fn told(world: &mut World, since: u64) -> Vec<(u64, String)> {
    let notifications = world.server(DM).notifications.iter();
    notifications.map(|it| ((it.at.as_millis() - since) / 1000, it.text().to_owned())).collect()
}

#[test]
fn the_default_minimum_period_of_the_account_holds_changes_back() {
    let mut world = world();
    // Default Minimum Period.
    assert_eq!(world.write_text(DM, "/1/1/2", "10"), Code::CHANGED);
    world.observe(DM, VALUE);
    let start = world.now.as_millis();
    set(&mut world, 21.0);
    set(&mut world, 22.0);
    world.run(20);
    assert_eq!(told(&mut world, start), [(10, "22".to_owned())]);
    // What is said of the place counts before it, and what is said of a place above.
    for path in [VALUE, "/3303"] {
        assert_eq!(world.attributes(DM, path, &["pmin=0"]), Code::CHANGED);
        world.server(DM).notifications.clear();
        let start = world.now.as_millis();
        set(&mut world, 23.0);
        set(&mut world, 24.0);
        assert_eq!(told(&mut world, start), [(0, "23".to_owned()), (1, "24".to_owned())], "{path}");
        assert_eq!(world.attributes(DM, path, &["pmin"]), Code::CHANGED);
        world.run(20);
    }
    // Without it a change goes out at once.
    assert_eq!(world.write_text(DM, "/1/1/2", "0"), Code::CHANGED);
    world.server(DM).notifications.clear();
    let start = world.now.as_millis();
    set(&mut world, 25.0);
    set(&mut world, 26.0);
    assert_eq!(told(&mut world, start).len(), 2);
}

#[test]
fn between_two_evaluations_nothing_is_seen() {
    // LwM2M Core 1.1.1 §5.1.2: epmin is the least time between them.
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["gt=25", "epmin=5"]), Code::CHANGED);
    world.observe(DM, VALUE);
    let start = world.now.as_millis();
    set(&mut world, 30.0);
    set(&mut world, 20.0);
    world.run(10);
    assert_eq!(told(&mut world, start), [], "the peak was over when the value was looked at");
    let start = world.now.as_millis();
    set(&mut world, 21.0);
    set(&mut world, 31.0);
    world.run(10);
    assert_eq!(told(&mut world, start), [(5, "31".to_owned())]);
}

#[test]
fn a_value_is_looked_at_without_being_told_of_a_change() {
    // LwM2M Core 1.1.1 §5.1.2: epmax is the greatest time between evaluations.
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["gt=25", "epmax=20"]), Code::CHANGED);
    world.observe(DM, VALUE);
    let start = world.now.as_millis();
    world.run(25);
    world.objects.temperature.celsius = 30.0;
    world.run(30);
    assert_eq!(told(&mut world, start), [(40, "30".to_owned())]);
}

const NUMBER: &str = "/42800/0/2/5";

/// A device with numbers in `/42800/0/2`.
fn numbered() -> World {
    let mut world = world();
    let numbers = [(0, 1), (5, 1)].into();
    world.objects.notes.list.insert(0, crate::world::Note { numbers, ..Default::default() });
    world
}

#[test]
fn an_instance_of_a_resource_is_observed_and_no_other() {
    let mut world = numbered();
    let change = |world: &mut World, id, number| {
        world.objects.notes.list.get_mut(&0).unwrap().numbers.insert(id, number);
        world.client.changed(Path::resource_instance(42_800, 0, 2, id));
        world.run(1);
    };
    assert_eq!(world.observe(DM, NUMBER).text(), "1");
    change(&mut world, 0, 7);
    change(&mut world, 5, 2);
    assert_eq!(values(&mut world), ["2"]);
    // Its thresholds are those of the resource, unless it has its own.
    assert_eq!(world.attributes(DM, "/42800/0/2", &["gt=10"]), Code::CHANGED);
    change(&mut world, 5, 3);
    change(&mut world, 5, 11);
    assert_eq!(values(&mut world), ["2", "11"]);
    assert_eq!(world.attributes(DM, NUMBER, &["gt=20"]), Code::CHANGED);
    change(&mut world, 5, 9);
    change(&mut world, 5, 12);
    change(&mut world, 5, 21);
    assert_eq!(values(&mut world), ["2", "11", "21"]);
    let cancel = Operation::CancelObservation { target: target(NUMBER), accept: Some(Format::TEXT) };
    assert_eq!(world.ask(DM, &cancel).text(), "21");
    change(&mut world, 5, 30);
    assert_eq!(values(&mut world).len(), 3);
}

#[test]
fn each_level_counts_before_those_above() {
    let mut world = numbered();
    let levels = ["/42800", "/42800/0", "/42800/0/2", NUMBER];
    for (path, period) in levels.iter().zip(["pmax=40", "pmax=30", "pmax=20", "pmax=10"]) {
        assert_eq!(world.attributes(DM, path, &[period]), Code::CHANGED, "{path}");
    }
    world.observe(DM, NUMBER);
    for (path, period) in levels.iter().rev().zip([10, 20, 30, 40]) {
        // From one repetition to the next.
        let before = values(&mut world).len();
        assert!(world.run_until(100, |world| world.notifications(DM) > before));
        let start = world.now.as_millis();
        assert!(world.run_until(100, |world| world.notifications(DM) > before + 1));
        assert_eq!((world.now.as_millis() - start) / 1000, period, "{path}");
        assert_eq!(world.attributes(DM, path, &["pmax"]), Code::CHANGED);
    }
    let before = values(&mut world).len();
    world.run(1000);
    assert_eq!(values(&mut world).len(), before);
}

/// What Discover tells of a place and of what is below it.
fn discovered(world: &mut World, path: &str) -> String {
    world.ask(DM, &Operation::Discover { target: target(path), depth: Some(3) }).text().to_owned()
}

#[test]
fn attributes_go_with_the_instance_that_has_them() {
    let mut world = numbered();
    for (path, attribute) in
        [("/42800", "pmin=1"), ("/42800/0", "pmin=2"), ("/42800/0/2", "pmin=3"), (NUMBER, "gt=4")]
    {
        assert_eq!(world.attributes(DM, path, &[attribute]), Code::CHANGED, "{path}");
    }
    world.observe(DM, NUMBER);
    assert_eq!(world.ask(DM, &Operation::Delete { target: target(NUMBER) }).code, Code::DELETED);
    world.objects.notes.list.get_mut(&0).unwrap().numbers.insert(5, 1);
    assert!(!discovered(&mut world, "/42800").contains("gt"));
    assert_eq!(world.ask(DM, &Operation::Delete { target: target("/42800/0") }).code, Code::DELETED);
    world.objects.notes.list.insert(0, crate::world::Note { numbers: [(5, 1)].into(), ..Default::default() });
    // The object has its own; it was not deleted.
    let links = discovered(&mut world, "/42800");
    assert!(links.starts_with("</42800>;pmin=1,</42800/0>,"), "{links}");
    assert_eq!(links.matches("pmin").count(), 1, "{links}");
}

#[test]
fn attributes_outlive_a_registration_but_no_restart() {
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["pmin=5", "gt=25"]), Code::CHANGED);
    world.server(DM).update_code = Code::NOT_FOUND;
    world.client.update();
    assert!(world.run_until(5, |world| world.count_of(DM) == 2));
    assert_eq!(discovered(&mut world, VALUE), "</3303/0/5700>;pmin=5;gt=25");
    // What was observed did not.
    set(&mut world, 30.0);
    assert!(values(&mut world).is_empty());
    world.power_loss();
    assert!(world.run_until(5, |world| world.count_of(DM) == 3));
    assert_eq!(discovered(&mut world, VALUE), "</3303/0/5700>");
}

#[test]
fn contradicting_attributes_are_refused() {
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["gt=1", "lt=5"]), Code::BAD_REQUEST);
    assert_eq!(world.attributes(DM, "/3303/0", &["gt=1"]), Code::BAD_REQUEST);
    assert_eq!(world.attributes(DM, VALUE, &["nonsense=1"]), Code::BAD_REQUEST);
    assert_eq!(world.attributes(DM, "/3303/0/5605", &["pmin=1"]), Code::METHOD_NOT_ALLOWED);
}

#[test]
fn an_observation_ends_by_observe_1_with_its_token() {
    // OMA ETS LightweightM2M-1.1-int-303
    let mut world = world();
    world.observe(DM, VALUE);
    let cancelled =
        world.ask(DM, &Operation::CancelObservation { target: target(VALUE), accept: Some(Format::TEXT) });
    assert_eq!((cancelled.code, cancelled.observe), (Code::CONTENT, None));
    set(&mut world, 30.0);
    assert!(values(&mut world).is_empty());
}

#[test]
fn an_observation_ends_by_a_reset() {
    // OMA ETS LightweightM2M-1.1-int-302
    let mut world = world();
    world.observe(DM, VALUE);
    world.server(DM).reject_notifications = true;
    set(&mut world, 30.0);
    set(&mut world, 31.0);
    set(&mut world, 32.0);
    assert_eq!(values(&mut world), ["30"]);
}

#[test]
fn a_new_registration_starts_without_observations() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.server(DM).update_code = Code::NOT_FOUND;
    world.client.update();
    world.run(1);
    set(&mut world, 30.0);
    assert!(values(&mut world).is_empty());
}

#[test]
fn an_instance_is_observed_as_a_whole_and_a_write_counts_as_a_change() {
    let mut world = world();
    let answer = world.ask(DM, &Operation::Observe { target: target("/1/1"), accept: Some(Format::TLV) });
    assert_eq!(answer.code, Code::CONTENT);
    assert_eq!(world.write_text(DM, "/1/1/2", "1"), Code::CHANGED);
    world.run(5);
    assert_eq!(world.server(DM).notifications.len(), 1);
    assert_eq!(world.server(DM).notifications[0].format, Some(11_542));
}

#[test]
fn a_second_observe_with_the_same_token_takes_the_place_of_the_first() {
    // RFC 7641 §4.1: one entry for each pair of endpoint and token.
    let mut world = world();
    let mut last = world.observe(DM, VALUE);
    for _ in 0..10 {
        let again = world.observe_as(DM, &last.token, VALUE);
        assert_eq!((again.code, again.text(), &again.token), (Code::CONTENT, "20", &last.token));
        assert!(again.observe.unwrap() > last.observe.unwrap());
        last = again;
    }
    set(&mut world, 21.5);
    assert_eq!(values(&mut world), ["21.5"], "once");
    // It took the room of one.
    for path in ["/3/0/0", "/3/0/16", "/1/1/1"] {
        assert!(world.observe(DM, path).observe.is_some(), "{path}");
    }
    // What the token is given to last it names alone.
    assert!(world.observe_as(DM, &last.token, "/1/1/7").observe.is_some());
    set(&mut world, 22.0);
    assert_eq!(values(&mut world), ["21.5"]);
}

#[test]
fn more_observations_than_there_is_room_for_are_answered_once() {
    let mut world = world();
    for path in [VALUE, "/3/0/0", "/3/0/16", "/1/1/1"] {
        assert!(world.observe(DM, path).observe.is_some(), "{path}");
    }
    let answer = world.observe(DM, "/1/1/7");
    assert_eq!((answer.code, answer.observe), (Code::CONTENT, None));
}

#[test]
fn once_a_day_a_notification_is_confirmable() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.run(24 * 3600 + 10);
    // It is not acknowledged by a dead server.
    world.server(DM).is_dead = true;
    let before = world.sent.len();
    set(&mut world, 30.0);
    world.run(100);
    assert!(world.sent.len() - before >= 5, "a confirmable notification is sent again");
}

#[test]
fn the_error_that_ends_an_observation_is_sent_until_it_is_acknowledged() {
    let mut world = world();
    world.objects.notes.list.insert(0, crate::world::Note::default());
    world.ask(DM, &Operation::Observe { target: target("/42800/0"), accept: Some(Format::TLV) });
    world.server(DM).is_dead = true;
    let before = world.sent.len();
    world.objects.notes.list.remove(&0);
    world.client.changed(Path::instance(42800, 0));
    world.run(100);
    assert!(world.sent.len() - before >= 5, "{}", world.sent.len() - before);
}

#[test]
fn a_confirmable_notification_comes_in_blocks_that_can_be_kept() {
    let mut world = world();
    (world.config.mtu, world.config.block_size) = (1200, 512);
    world.power_loss();
    assert!(world.run_until(5, |world| world.count_of(DM) == 2));
    world.objects.notes.list.insert(0, crate::world::Note { attachment: vec![1; 400], ..Default::default() });
    world.ask(DM, &Operation::Observe { target: target("/42800/0/1"), accept: Some(Format::OPAQUE) });
    world.run(24 * 3600 + 10);
    for value in [2, 3] {
        world.objects.notes.list.get_mut(&0).unwrap().attachment = vec![value; 400];
        world.client.changed(Path::resource(42800, 0, 1));
        world.run(1);
    }
    let sizes: Vec<usize> = world.server(DM).notifications.iter().map(|got| got.payload.len()).collect();
    assert_eq!(sizes, [256, 400]);
}

#[test]
fn a_device_that_lost_an_observation_registers_again_so_that_the_server_asks_anew() {
    let mut world = world();
    world.observe(DM, VALUE);
    world.run(24 * 3600 + 10);
    world.server(DM).is_dead = true;
    set(&mut world, 25.0);
    world.run(100);
    world.server(DM).is_dead = false;
    let before = world.count_of(DM);
    assert!(world.run_until(60, |world| world.count_of(DM) > before));
}

#[test]
fn an_observe_that_cannot_be_read_is_refused_and_not_kept() {
    let mut world = world();
    let answer = world.observe(DM, "/3303/0/5605");
    assert_eq!(answer.code, Code::METHOD_NOT_ALLOWED);
    let answer = world.ask_with(DM, |writer| {
        writer.observe(0).unwrap();
        writer.split(OptionNumber::URI_PATH, "3303/0/5700", '/').unwrap();
        writer.uint(OptionNumber::ACCEPT, 11_543).unwrap();
    });
    assert_eq!(answer.code, Code::NOT_ACCEPTABLE);
    set(&mut world, 33.0);
    assert!(values(&mut world).is_empty());
}

#[test]
fn a_change_of_any_instance_of_a_number_with_several_is_notified() {
    // OMA ETS LightweightM2M-1.1-int-301 observes /3/0/7.
    let mut world = world();
    let numbers = [(0, 1), (5, 1)].into();
    world.objects.notes.list.insert(0, crate::world::Note { numbers, ..Default::default() });
    world.ask(DM, &Operation::Observe { target: target("/42800/0/2"), accept: Some(Format::TLV) });
    world.objects.notes.list.get_mut(&0).unwrap().numbers.insert(5, 2);
    world.client.changed(Path::resource_instance(42800, 0, 2, 5));
    world.run(1);
    assert_eq!(world.server(DM).notifications.len(), 1);
}

const NUMBERS: &str = "/42800/0/2";

/// Gives an instance of `/42800/0/2` a number.
fn number(world: &mut World, id: u16, number: i64) {
    world.objects.notes.list.get_mut(&0).unwrap().numbers.insert(id, number);
    world.client.changed(Path::resource_instance(42_800, 0, 2, id));
    world.run(1);
}

/// How many notifications came since the last call.
fn told_now(world: &mut World) -> usize {
    std::mem::take(&mut world.server(DM).notifications).len()
}

fn observe_whole(world: &mut World, path: &str) {
    let observe = Operation::Observe { target: target(path), accept: Some(Format::SENML_CBOR) };
    assert!(world.ask(DM, &observe).observe.is_some(), "{path}");
}

#[test]
fn each_number_of_an_array_is_compared_with_the_thresholds_of_the_resource() {
    // OMA ETS LightweightM2M-1.1-int-260 attaches them to /3/0/7.
    for is_observed_first in [true, false] {
        let mut world = numbered();
        if is_observed_first {
            observe_whole(&mut world, NUMBERS);
        }
        assert_eq!(world.attributes(DM, NUMBERS, &["lt=-10", "gt=10", "st=8"]), Code::CHANGED);
        if !is_observed_first {
            observe_whole(&mut world, NUMBERS);
        }
        for (id, value, is_told) in [
            (0, 2, false),
            (5, 8, false),
            (5, 11, true),
            (0, 9, false),
            // By eight from the 2 of the last notification.
            (0, 10, true),
            (0, 11, true),
            (0, 12, false),
            (5, -10, true),
            (5, -9, false),
            (5, -11, true),
        ] {
            number(&mut world, id, value);
            assert_eq!(told_now(&mut world), usize::from(is_told), "{id}: {value}");
        }
        // Without them every change counts.
        assert_eq!(world.attributes(DM, NUMBERS, &["lt", "gt", "st"]), Code::CHANGED);
        number(&mut world, 0, 13);
        assert_eq!(told_now(&mut world), 1);
    }
}

#[test]
fn a_number_that_comes_to_an_array_or_leaves_it_is_notified() {
    let mut world = numbered();
    assert_eq!(world.attributes(DM, NUMBERS, &["gt=10"]), Code::CHANGED);
    observe_whole(&mut world, NUMBERS);
    number(&mut world, 7, 1);
    assert_eq!(told_now(&mut world), 1);
    number(&mut world, 7, 2);
    assert_eq!(told_now(&mut world), 0);
    world.objects.notes.list.get_mut(&0).unwrap().numbers.remove(&7);
    world.client.changed(Path::resource(42_800, 0, 2));
    world.run(1);
    assert_eq!(told_now(&mut world), 1);
    world.client.changed(Path::resource(42_800, 0, 2));
    world.run(1);
    assert_eq!(told_now(&mut world), 0, "what is left is as it was told");
}

#[test]
fn an_instance_of_an_array_has_its_own_thresholds_and_those_of_the_resource() {
    let mut world = numbered();
    observe_whole(&mut world, NUMBERS);
    assert_eq!(world.attributes(DM, NUMBER, &["gt=20"]), Code::CHANGED);
    number(&mut world, 5, 12);
    assert_eq!(told_now(&mut world), 0);
    number(&mut world, 0, 2);
    assert_eq!(told_now(&mut world), 1, "the others have none");
    assert_eq!(world.attributes(DM, NUMBERS, &["gt=10", "lt=0"]), Code::CHANGED);
    number(&mut world, 5, 11);
    number(&mut world, 5, 13);
    assert_eq!(told_now(&mut world), 0, "its own is 20");
    number(&mut world, 5, 21);
    number(&mut world, 5, -1);
    assert_eq!(told_now(&mut world), 2);
    number(&mut world, 0, 11);
    assert_eq!(told_now(&mut world), 1);
}

#[test]
fn thresholds_count_below_an_observed_instance_and_object() {
    for path in ["/42800/0", "/42800"] {
        let mut world = numbered();
        assert_eq!(world.attributes(DM, NUMBERS, &["gt=10"]), Code::CHANGED);
        observe_whole(&mut world, path);
        number(&mut world, 5, 9);
        assert_eq!(told_now(&mut world), 0, "{path}");
        number(&mut world, 5, 11);
        assert_eq!(told_now(&mut world), 1, "{path}");
        // What has no thresholds is told as before, also when it is not said what changed.
        for changed in [Path::resource(42_800, 0, 0), Path::instance(42_800, 0)] {
            world.client.changed(changed);
            world.run(1);
            assert_eq!(told_now(&mut world), 1, "{changed} below {path}");
        }
        // Another observation of the same number goes by what it was told itself.
        assert_eq!(world.observe(DM, NUMBER).text(), "11");
        number(&mut world, 5, 12);
        assert_eq!(told_now(&mut world), 0);
        number(&mut world, 5, 10);
        number(&mut world, 5, 11);
        assert_eq!(told_now(&mut world), 2, "both");
    }
    let mut world = world();
    assert_eq!(world.attributes(DM, VALUE, &["gt=25", "epmax=20"]), Code::CHANGED);
    assert_eq!(world.attributes(DM, "/3303/0", &["epmax=20"]), Code::CHANGED);
    observe_whole(&mut world, "/3303/0");
    set(&mut world, 24.0);
    assert_eq!(told_now(&mut world), 0);
    world.objects.temperature.celsius = 26.0;
    world.run(20);
    assert_eq!(told_now(&mut world), 1, "it is looked at without being told of a change");
}

#[test]
fn other_attributes_hide_no_change_that_was_not_looked_at_yet() {
    for (path, place) in [(VALUE, VALUE), ("/3303/0", VALUE)] {
        for attribute in ["pmax=600", "gt=26"] {
            let mut world = world();
            assert_eq!(world.attributes(DM, place, &["gt=25"]), Code::CHANGED);
            assert_eq!(world.attributes(DM, path, &["epmin=5"]), Code::CHANGED);
            observe_whole(&mut world, path);
            world.run(1);
            set(&mut world, 30.0);
            assert_eq!(world.attributes(DM, place, &[attribute]), Code::CHANGED);
            world.run(5);
            assert_eq!(told_now(&mut world), 1, "{path} {attribute}");
        }
    }
}

#[test]
fn numbers_that_there_is_no_room_for_are_notified_of_every_change() {
    let mut world = numbered();
    let ids = 0..6;
    for id in ids.clone() {
        world.objects.notes.list.get_mut(&0).unwrap().numbers.insert(id, 1);
    }
    assert_eq!(world.attributes(DM, NUMBERS, &["gt=10"]), Code::CHANGED);
    observe_whole(&mut world, NUMBERS);
    for id in ids {
        number(&mut world, id, 2);
        assert_eq!(told_now(&mut world), 1, "{id}");
    }
}
