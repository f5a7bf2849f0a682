//! OSCORE alone (RFC 8613, LwM2M Transport 1.2.1 §5.5): devices that protect each message, from whatever address.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;
#[path = "support/thing.rs"]
mod thing;

use std::time::Duration;

use lwm2m_coap::{Code, OptionNumber, udp};
use lwm2m_server::Operation;
use lwm2m_server::credentials::{KeyMaterial, Named, OscoreKey, OscoreParts, Rederivation, Role};
use lwm2m_server::endpoint::{Done, Listener, Work};
use lwm2m_server::store::Reservation;
use support::{World, address};
use thing::{LINKS, Thing, enrol, parts, read, resources};
use zeroize::Zeroizing;

// --- Management

#[test]
fn a_device_registers_under_oscore_and_is_read_written_and_observed() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let device = world.endpoint.device("a").unwrap();
    assert_eq!((device.location, device.generation), (format!("/{location}"), 1));
    assert_eq!(world.told(), ["registered a"]);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);

    let id = world.request("a", read("/3/0/0")).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!((got.code, got.path(OptionNumber::URI_PATH).as_str()), (Code::GET, "3/0/0"));
    thing.answer(&mut world, &mut exchange, Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, &[])], "maker");
    assert!(format!("{:?}", world.outcome(id).unwrap()).contains("maker"));

    let id =
        world.request("a", Operation::Observe { path: "/3/0/9".parse().unwrap(), format: None }).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!(got.option(OptionNumber::OBSERVE), Some(&[][..]));
    let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
    thing.answer(&mut world, &mut exchange, Code::CONTENT, &options, "90");
    assert!(world.outcome(id).is_ok());
    world.told();
    for value in ["80", "70"] {
        thing.notify(&mut world, &exchange, value);
    }
    let told = world.told();
    assert!(
        told.len() == 2 && told[0].contains("Integer(80)") && told[1].contains("Integer(70)"),
        "{told:?}"
    );
    assert_eq!(thing.request(&mut world, Code::DELETE, &location, "").code, Code::DELETED);
    assert!(thing.bare.is_empty());
}

#[test]
fn another_name_than_that_of_the_credential_is_refused() {
    let mut world = World::new(false);
    enrol(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::new(&world, 40_000, &parts(b"1"));
    let answer = thing.request(&mut world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", LINKS);
    assert_eq!(answer.code, Code::BAD_REQUEST);
    assert_eq!(world.told(), ["refused a: a proved its name and claimed b"]);
    // LwM2M Core 1.2.1 §6.2.1: without a name it is that of the credential.
    assert_eq!(thing.request(&mut world, Code::POST, "rd?lt=60&lwm2m=1.1", LINKS).code, Code::CREATED);
    assert!(world.endpoint.device("a").is_some());
}

#[test]
fn who_has_a_credential_is_not_taken_without_it() {
    let mut world = World::new(true);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    for port in [40_000, 40_001] {
        let mut bare = support::Device::plain(Listener::Coap, port);
        let register = bare.request(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS.as_bytes());
        let code = if port == 40_000 { Code::UNAUTHORIZED } else { Code::FORBIDDEN };
        assert_eq!(register.unwrap().code, code);
        bare.request(&mut world, Code::DELETE, &location, b"");
    }
    assert_eq!(world.endpoint.device("a").unwrap().lifetime, 86_400);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
}

// --- Keys that nobody has

/// A request of which only the ids are right.
fn forged(thing: &mut Thing, world: &World) -> Vec<u8> {
    let mut forger =
        Thing::new(world, 1, &OscoreParts { master_secret: Zeroizing::new(vec![1; 16]), ..parts(b"1") });
    forger.parameters = thing.parameters.clone();
    let bytes = forger.protect(world, Code::POST, "rd?ep=a&lt=1&lwm2m=1.1", LINKS, None);
    thing.last = bytes.clone();
    bytes
}

#[test]
fn an_unknown_kid_or_a_wrong_key_is_told_as_rfc_8613_says_and_leaves_nothing() {
    let mut world = World::new(false);
    enrol(&mut world, "a", Role::Management, parts(b"1"));
    for wrong in [parts(b"2"), OscoreParts { master_secret: Zeroizing::new(vec![1; 16]), ..parts(b"1") }] {
        let mut thing = Thing::new(&world, 40_000, &wrong);
        let answer = thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None);
        // RFC 8613 §8.2: 4.01 without protection.
        assert!(answer.is_none() && thing.bare == [Code::UNAUTHORIZED], "{:?}", thing.bare);
    }
    assert_eq!((world.endpoint.associations(), world.endpoint.counters().contexts_unknown), (0, 2));
    let reasons = ["0x32: unknown identity", "0x31: it does not verify under its keys"];
    assert_eq!(world.told(), reasons.map(|reason| format!("handshake refused oscore kid {reason}")));
}

#[test]
fn who_knows_ids_but_no_keys_changes_nothing() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let id =
        world.request("a", Operation::Observe { path: "/3/0/9".parse().unwrap(), format: None }).unwrap();
    let (mut observing, _) = thing.next(&mut world);
    let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
    thing.answer(&mut world, &mut observing, Code::CONTENT, &options, "90");
    world.outcome(id).unwrap();
    world.told();
    let before = world.endpoint.device("a").unwrap();
    world.now = world.now.saturating_add(Duration::from_secs(10));
    for round in 0..2_000_u32 {
        let port = if round % 2 == 0 { 40_000 } else { u16::try_from(round).unwrap() };
        let mut bytes = forged(&mut thing, &world);
        // Ids that the device will use next, and answers to what it was not asked.
        bytes[2..4].copy_from_slice(&u16::try_from(round).unwrap().to_be_bytes());
        world.receive(Listener::Coap, address(port), &bytes);
        let mut answer = bytes;
        answer[1] = Code::CONTENT.as_u8();
        world.receive(Listener::Coap, address(port), &answer);
    }
    world.sent.clear();
    let after = world.endpoint.device("a").unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "not even when it was heard last");
    assert!(world.told().is_empty());
    let counters = world.endpoint.counters();
    assert!(counters.unverified + counters.requests_replayed >= 2_000 && counters.unverified >= 1_000);
    assert_eq!(world.endpoint.associations(), 1);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    thing.notify(&mut world, &observing, "80");
    assert!(world.told().iter().any(|told| told.contains("Integer(80)")));
}

#[test]
fn look_ups_for_who_knows_ids_have_a_rate() {
    let mut world = World::new(false);
    enrol(&mut world, "a", Role::Management, parts(b"1"));
    let mut forger =
        Thing::new(&world, 1, &OscoreParts { master_secret: Zeroizing::new(vec![1; 16]), ..parts(b"1") });
    for _ in 0..5_000 {
        let bytes = forged(&mut forger, &world);
        world.receive(Listener::Coap, address(7), &bytes);
    }
    let counters = *world.endpoint.counters();
    assert!(counters.look_ups <= 2_000 && counters.look_ups_over_rate >= 3_000, "{counters:?}");
    assert_eq!(world.endpoint.associations(), 0);
    // Its rate is that of its network: somebody elsewhere comes in.
    let mut thing = Thing::new(&world, 40_000, &parts(b"1"));
    thing.address = std::net::SocketAddr::from(([198, 51, 100, 1], 5683)).into();
    thing.register(&mut world, "a");
}

#[test]
fn a_replayed_request_is_refused_and_carried_out_once() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    assert_eq!(thing.request(&mut world, Code::DELETE, &location, "").code, Code::DELETED);
    let deregister = thing.last.clone();
    thing.register(&mut world, "a");
    world.told();
    for (port, id) in [(40_000, 0x7777_u16), (40_001, 0x7778)] {
        let mut bytes = deregister.clone();
        bytes[2..4].copy_from_slice(&id.to_be_bytes());
        world.receive(Listener::Coap, address(port), &bytes);
        let (_, to, sent) = world.sent.pop_back().unwrap();
        let (_, message) = udp::parse(&sent).unwrap();
        assert_eq!((to, message.code), (address(port), Code::UNAUTHORIZED));
        assert!(message.options.get(OptionNumber::OSCORE).is_none());
    }
    assert!(world.told().is_empty() && world.endpoint.device("a").is_some());
    assert_eq!((world.endpoint.counters().requests_replayed, world.endpoint.counters().unverified), (2, 0));
}

// --- Ids

#[test]
fn contexts_of_one_kid_are_told_apart_by_their_id_contexts() {
    let mut world = World::new(false);
    let of = |id_context: &[u8], secret: u8| OscoreParts {
        id_context: Some(id_context.to_vec()),
        master_secret: Zeroizing::new(vec![secret; 16]),
        ..parts(b"")
    };
    let mut things = Vec::new();
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let (thing, location) =
            Thing::registered(&mut world, 40_000 + u16::from(number), name, of(&[number; 8], number));
        things.push((thing, location));
    }
    assert_eq!(world.told(), ["registered a", "registered b", "registered c"]);
    for (thing, location) in &mut things {
        assert_eq!(thing.request(&mut world, Code::POST, location, "").code, Code::CHANGED);
    }
    assert_eq!(world.told(), ["updated a", "updated b", "updated c"]);
    assert_eq!(world.endpoint.associations(), 3);
}

#[test]
fn an_id_context_may_come_wrapped_in_cbor() {
    // Some implementations write every kid context as a CBOR byte string.
    let mut world = World::new(false);
    let bare = OscoreParts { id_context: Some(b"ctx".to_vec()), ..parts(b"1") };
    enrol(&mut world, "a", Role::Management, bare.clone());
    let mut thing = Thing::new(&world, 40_000, &bare);
    let bytes = thing.protect(&world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None);
    let place = bytes.windows(4).position(|four| four == [3, b'c', b't', b'x']).unwrap();
    let mut wrapped = bytes.clone();
    wrapped.splice(place..=place, [4, 0x43]);
    // The option grows by a byte.
    let head = bytes.windows(1).position(|one| one[0] == 0x97).unwrap_or(0);
    let option = (4..place).find(|index| bytes[*index] == 0x90 | 8).unwrap_or(head);
    wrapped[option] = wrapped[option].wrapping_add(1);
    world.receive(Listener::Coap, thing.address, &wrapped);
    thing.run(&mut world);
    assert_eq!(thing.answers.pop_front().map(|answer| answer.code), Some(Code::CREATED));
}

#[test]
fn a_device_that_moves_is_followed_and_its_requests_go_where_it_is() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let old = thing.protect(&world, Code::POST, &location, "", None);
    thing.forget(&world);
    thing.address = address(40_001);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40001");
    // RFC 9175 §2.4: no more than three times what came from there, until it answers.
    let id = world.request("a", read("/3/0/0")).unwrap();
    thing.answer_next(&mut world, "here");
    assert!(world.outcome(id).is_ok());
    // What was on its way before does not move it back.
    world.receive(Listener::Coap, address(40_000), &old);
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40001");
    assert_eq!(world.endpoint.counters().moved, 1);
}

#[test]
fn nobody_takes_the_address_of_another_device_without_being_there() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let (mut other, _) = Thing::registered(&mut world, 40_001, "b", parts(b"2"));
    let id =
        world.request("b", Operation::Observe { path: "/3/0/9".parse().unwrap(), format: None }).unwrap();
    let (mut observing, _) = other.next(&mut world);
    let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
    other.answer(&mut world, &mut observing, Code::CONTENT, &options, "90");
    world.outcome(id).unwrap();
    let before = world.endpoint.counters().challenged;
    // Somebody on the way sends what the one said from where the other is.
    let update = thing.protect(&world, Code::POST, &location, "", None);
    world.receive(Listener::Coap, other.address, &update);
    world.told();
    other.notify(&mut world, &observing, "80");
    assert!(world.told().iter().any(|told| told.contains("Integer(80)")));
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40000");
    assert_eq!(world.endpoint.counters().challenged, before + 1);
    // Who is there shows it by Echo: both may be behind one proxy.
    world.sent.clear();
    thing.forget(&world);
    thing.address = other.address;
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40001");
}

#[test]
fn the_first_request_from_a_new_address_is_answered_again_when_it_is_repeated() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    thing.address = address(40_001);
    world.told();
    let bytes = thing.protect(&world, Code::POST, &location, "", None);
    for _ in 0..2 {
        world.receive(Listener::Coap, thing.address, &bytes);
    }
    let answers: Vec<_> = std::iter::from_fn(|| thing.next_datagram(&mut world)).collect();
    assert!(answers.len() == 2 && answers[0] == answers[1]);
    assert_eq!(world.told().iter().filter(|told| *told == "updated a").count(), 1);
}

#[test]
fn what_is_over_the_rate_is_carried_out_when_it_comes_again() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let refused = (0..1000).find_map(|_| {
        let answer = thing.send(&mut world, Code::POST, &location, "", None);
        answer.is_none().then(|| thing.last.clone())
    });
    assert_eq!(world.endpoint.counters().over_rate, 1);
    world.now = world.now.saturating_add(Duration::from_secs(1));
    world.receive(Listener::Coap, thing.address, &refused.unwrap());
    thing.run(&mut world);
    assert_eq!(thing.answers.pop_front().map(|answer| answer.code), Some(Code::CHANGED));
}

// --- After a restart

#[test]
fn after_a_restart_a_device_goes_on_once_it_has_shown_that_it_is_fresh() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    let update = thing.last.clone();
    world.restart(1, Duration::from_secs(1));
    world.told();
    // Replayed from elsewhere it gets a challenge, and nothing happens.
    world.receive(Listener::Coap, address(9), &update);
    assert_eq!(world.endpoint.counters().challenged, 1);
    assert!(world.told().is_empty());
    let first = thing.send(&mut world, Code::POST, &location, "", None).unwrap();
    let value = first.option(OptionNumber::ECHO).unwrap().to_vec();
    assert_eq!(first.code, Code::UNAUTHORIZED);
    // RFC 8613 Appendix B.1.2
    assert_eq!(thing.send(&mut world, Code::POST, &location, "", Some(&value)).unwrap().code, Code::CHANGED);
    assert_eq!(world.told(), ["updated a"]);
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40000");
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    assert_eq!(world.endpoint.counters().challenged, 2);
}

#[test]
fn no_number_comes_twice_over_kills() {
    let mut world = World::new(false);
    let (mut thing, _) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let mut last = None;
    for _ in 0..3 {
        for _ in 0..5 {
            let id = world.request("a", read("/3/0/0")).unwrap();
            let asked = world.sent.iter().find(|(_, to, _)| *to == thing.address).unwrap().2.clone();
            let (_, message) = udp::parse(&asked).unwrap();
            let option =
                oscore::OscoreOption::parse(message.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
            assert!(option.partial_iv > last, "{last:?}");
            last = option.partial_iv;
            thing.answer_next(&mut world, "x");
            world.outcome(id).unwrap();
        }
        world.kill();
        thing.register(&mut world, "a");
    }
}

// A group of devices with one secret: the server has one sender key towards all of them.
#[test]
fn contexts_with_a_sender_key_in_common_have_no_number_in_common() {
    let mut world = World::new(false);
    let mut things = [("a", &b"1"[..], 40_000), ("b", b"2", 40_001)]
        .map(|(name, kid, port)| (name, Thing::registered(&mut world, port, name, parts(kid)).0));
    let (mut used, mut returns) = (std::collections::BTreeSet::new(), 0);
    for round in 0..1200 {
        world.now = world.now.saturating_add(Duration::from_secs(1));
        let (name, thing) = &mut things[round % 2];
        let asked = world.request(name, read("/3/0/0"));
        let sent = world.sent.iter().find(|(_, to, _)| *to == thing.address).map(|(.., bytes)| bytes.clone());
        let (Ok(id), Some(sent)) = (asked, sent) else {
            returns += 1;
            thing.register(&mut world, name);
            continue;
        };
        let (_, message) = udp::parse(&sent).unwrap();
        let option = oscore::OscoreOption::parse(message.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
        assert!(used.insert(option.partial_iv.unwrap()), "{:?} once more", option.partial_iv);
        thing.answer_next(&mut world, "x");
        world.outcome(id).unwrap();
    }
    assert!(returns > 1 && used.len() > 1000, "{returns} returns, {} numbers", used.len());
    assert!(world.endpoint.counters().reservations_overtaken > 1);
}

#[test]
fn nothing_is_answered_before_numbers_are_reserved_and_what_waits_goes_on_then() {
    let mut world = World::new(false);
    enrol(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::new(&world, 40_000, &parts(b"1"));
    let bytes = thing.protect(&world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None);
    world.receive_unsettled(Listener::Coap, thing.address, &bytes);
    let (id, question) = world.endpoint.poll_question().unwrap();
    let lwm2m_server::endpoint::Question::LookUpContext { role, named, .. } = question else { panic!() };
    let contexts = world.credentials.look_up_context(role, &named).unwrap();
    world.provide(id, lwm2m_server::endpoint::Verdict::Contexts(contexts));
    let (id, work) = world.endpoint.poll_work().unwrap();
    assert!(world.sent.is_empty() && world.endpoint.device("a").is_none());
    assert!(world.endpoint.poll_work().is_none());
    let done = work.run(world.now.as_millis(), &world.credentials);
    world.provide_work(id, done);
    world.settle();
    thing.run(&mut world);
    assert_eq!(thing.answers.pop_front().map(|answer| answer.code), Some(Code::CREATED));
}

#[test]
fn where_nothing_can_be_reserved_nothing_is_sent() {
    let mut world = World::new(false);
    let (mut thing, _) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    for round in 0..400 {
        world.now = world.now.saturating_add(Duration::from_secs(1));
        let id = world.endpoint.request(world.now, "a", read("/3/0/0"), Duration::from_secs(93)).unwrap();
        world.send_all();
        let works: Vec<_> = std::iter::from_fn(|| world.endpoint.poll_work()).collect();
        for (id, _) in works {
            world.provide_work(id, lwm2m_server::endpoint::Done::Lost);
        }
        thing.run(&mut world);
        let Some((mut exchange, _)) = thing.asked.pop_front() else {
            assert!(world.endpoint.counters().reservations_failed > 0);
            // What is reserved at first, less what answered the Register.
            assert!((255..=256).contains(&round), "{round}");
            // Once storage has more it goes on.
            world.receive(Listener::Coap, thing.address, &[0x40, 0, 0, 1]);
            world.settle();
            thing.answer_next(&mut world, "x");
            world.outcome(id).unwrap();
            return;
        };
        thing.answer_unsettled(&mut world, &mut exchange);
    }
    panic!("it was never out of numbers");
}

#[test]
fn after_a_restart_nobody_goes_on_at_the_address_of_a_device_without_its_keys() {
    let mut world = World::new(true);
    let (_, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    world.restart(1, Duration::from_secs(1));
    let mut bare = support::Device::plain(Listener::Coap, 40_000);
    for code in [Code::POST, Code::DELETE] {
        let answer = bare.request(&mut world, code, &format!("{location}?lt=1"), b"").unwrap();
        assert_eq!(answer.code, Code::NOT_FOUND);
    }
    assert_eq!(world.endpoint.device("a").unwrap().lifetime, 86_400);
}

#[test]
fn what_is_observed_is_asked_again_after_a_restart() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let id =
        world.request("a", Operation::Observe { path: "/3/0/9".parse().unwrap(), format: None }).unwrap();
    let (mut observing, _) = thing.next(&mut world);
    let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
    thing.answer(&mut world, &mut observing, Code::CONTENT, &options, "90");
    world.outcome(id).unwrap();
    world.restart(1, Duration::from_secs(1));
    world.told();
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    // Its notifications mean nothing without the request that they answer.
    assert_eq!(world.told(), ["observation ended a: the keys of its device are new", "updated a"]);
    thing.notify(&mut world, &observing, "80");
    assert!(world.told().is_empty() && world.endpoint.observations("a").is_empty());
}

#[test]
fn a_registration_is_found_again_in_the_part_of_its_context() {
    let mut world = World::of_parts(3);
    let mut things = Vec::new();
    for number in 0..6_u8 {
        let name = format!("device-{number}");
        things.push(Thing::registered(&mut world, 40_000 + u16::from(number), &name, parts(&[number, 1])));
    }
    world.restart(3, Duration::from_secs(1));
    for (thing, location) in &mut things {
        assert_eq!(thing.request(&mut world, Code::POST, location, "").code, Code::CHANGED);
    }
}

#[test]
fn a_request_that_comes_again_while_numbers_are_reserved_is_answered_once_they_are() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    world.restart(1, Duration::from_secs(1));
    let bytes = thing.protect(&world, Code::POST, &location, "", None);
    world.receive_unsettled(Listener::Coap, thing.address, &bytes);
    let (id, question) = world.endpoint.poll_question().unwrap();
    let lwm2m_server::endpoint::Question::LookUpContext { role, named, .. } = question else { panic!() };
    let contexts = world.credentials.look_up_context(role, &named).unwrap();
    world.provide(id, lwm2m_server::endpoint::Verdict::Contexts(contexts));
    for _ in 0..2 {
        world.receive_unsettled(Listener::Coap, thing.address, &bytes);
        assert!(world.sent.is_empty());
    }
    world.settle();
    thing.run(&mut world);
    let answer = thing.answers.pop_front().unwrap();
    assert!(
        answer.code == Code::UNAUTHORIZED
            && answer.option(OptionNumber::ECHO).is_some()
            && thing.bare.is_empty()
    );
}

// --- Appendix B.2

#[test]
fn a_device_that_lost_its_state_gets_new_keys_where_its_account_allows_that() {
    let mut world = World::new(false);
    let offered = OscoreParts { rederivation: Rederivation::Offered, ..parts(b"1") };
    let (mut thing, _) = Thing::registered(&mut world, 40_000, "a", offered);
    for _ in 0..2 {
        world.now = world.now.saturating_add(Duration::from_secs(10));
        thing.rederive(&world);
        let answer = thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).unwrap();
        assert_eq!((answer.code, answer.option(OptionNumber::ECHO)), (Code::UNAUTHORIZED, None));
        let location = thing.register(&mut world, "a");
        assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
        let id = world.request("a", read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
    }
    assert_eq!(world.endpoint.associations(), 1);
    // The new keys are those that storage has.
    world.kill();
    thing.register(&mut world, "a");
    assert_eq!(world.endpoint.counters().contexts_unknown, 0);
}

#[test]
fn a_device_may_begin_with_new_keys_at_its_first_contact() {
    let mut world = World::new(false);
    let offered = OscoreParts { rederivation: Rederivation::Offered, ..parts(b"1") };
    enrol(&mut world, "a", Role::Management, offered.clone());
    let mut thing = Thing::new(&world, 40_000, &offered);
    thing.rederive(&world);
    let answer = thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).unwrap();
    assert_eq!(answer.code, Code::UNAUTHORIZED);
    assert!(world.endpoint.device("a").is_none());
    thing.register(&mut world, "a");
    assert!(thing.bare.is_empty());
}

#[test]
fn where_new_keys_are_never_wanted_they_are_refused() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let mut other = Thing::new(&world, 40_001, &parts(b"1"));
    other.rederive(&world);
    assert!(other.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).is_none());
    assert_eq!(other.bare, [Code::UNAUTHORIZED]);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
}

#[test]
fn where_new_keys_are_required_nothing_is_carried_out_before() {
    let mut world = World::new(false);
    let required =
        OscoreParts { rederivation: Rederivation::Required, id_context: Some(vec![3; 8]), ..parts(b"1") };
    enrol(&mut world, "a", Role::Management, required.clone());
    let mut thing = Thing::new(&world, 40_000, &required);
    let answer = thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).unwrap();
    assert_eq!((answer.code, answer.option(OptionNumber::ECHO)), (Code::UNAUTHORIZED, None));
    assert!(world.endpoint.device("a").is_none());
    let location = thing.register(&mut world, "a");
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    assert_ne!(thing.session.context().id_context(), Some(&[3; 8][..]));
}

#[test]
fn worn_keys_are_replaced_where_the_device_knows_how_and_else_their_operator_is_told() {
    for (knows_how, told) in [(true, "the next request of the device replaces them"), (false, "rotate")] {
        let mut world = World::new(false);
        let offered = OscoreParts { rederivation: Rederivation::Offered, ..parts(b"1") };
        let (mut thing, _) = Thing::registered(&mut world, 40_000, "a", offered);
        if knows_how {
            thing.rederive(&world);
            thing.register(&mut world, "a");
        }
        world.kill();
        reserve_many(&world);
        let worn = thing.session.context().id_context().map(<[u8]>::to_vec);
        let location = thing.register(&mut world, "a");
        for _ in 0..3 {
            assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
        }
        let id = world.request("a", read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
        assert_eq!(thing.session.context().id_context() != worn.as_deref(), knows_how);
        let rows = world.credentials.audit(Some("a"), Some(0), 100).unwrap();
        let rows: Vec<_> = rows.iter().filter(|row| row.what == "keys worn").collect();
        assert!(rows.len() == 1 && rows[0].detail.contains(told), "{rows:?}");
    }
}

/// Numbers of the device as if it had been sent a million messages.
fn reserve_many(world: &World) {
    let name = Named::new(oscore::KeyId::new(b"1").unwrap(), None);
    let context = world.credentials.look_up_context(Role::Management, &name).unwrap().remove(0);
    let mut out = [0; oscore::Saved::MAX_LENGTH];
    let saved = context.saved.unwrap();
    let (bound, id_context) = saved.emit(&mut out).split_first_chunk::<6>().unwrap();
    let bound = u64::from_str_radix(&hex::encode(bound), 16).unwrap();
    for bound in (bound..=1 << 20).step_by(256).skip(1) {
        let saved = oscore::Saved::parse(&[&bound.to_be_bytes()[2..], id_context].concat()).unwrap();
        let work = Work::Reserve(Reservation { fingerprint: context.key.parameters().fingerprint(), saved });
        assert!(matches!(work.run(0, &world.credentials), Done::Reserved(_)));
    }
}

// --- Credentials

#[test]
fn a_revoked_context_ends_at_once_with_its_registration() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let commands = world.credentials.revoke(world.now.as_millis(), "test", "a", None, "lost").unwrap();
    for command in commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    assert!(world.endpoint.device("a").is_none() && world.endpoint.associations() == 0);
    assert!(thing.send(&mut world, Code::POST, &location, "", None).is_none());
    assert_eq!(thing.bare, [Code::UNAUTHORIZED]);
    assert_eq!(world.endpoint.associations(), 0);
}

// --- Several threads

#[test]
fn a_context_is_in_one_part_whatever_part_its_datagrams_come_to() {
    let mut world = World::of_parts(3);
    let mut things = Vec::new();
    for number in 0..9_u8 {
        let name = format!("device-{number}");
        things.push((
            Thing::registered(&mut world, 40_000 + u16::from(number), &name, parts(&[number, 1])),
            name,
        ));
    }
    for ((thing, location), name) in &mut things {
        let id = world.request(name, read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
        let address = std::net::SocketAddr::from(([192, 0, 2, 9], thing.address.socket_address().port() + 1));
        thing.address = address.into();
        assert_eq!(thing.request(&mut world, Code::POST, location, "").code, Code::CHANGED);
        let id = world.request(name, read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
    }
    let parts = (0..3).map(|index| world.part(index).associations()).collect::<Vec<_>>();
    assert!(parts.iter().sum::<usize>() == 9 && parts.iter().all(|count| *count > 0), "{parts:?}");
}

// --- Many

#[test]
fn each_of_many_contexts_is_found() {
    const MANY: u32 = 100_000;
    let mut world = World::new(false);
    let kid = |number: u32| number.to_be_bytes();
    let begun = std::time::Instant::now();
    for number in 0..MANY {
        enrol(&mut world, &format!("device-{number}"), Role::Management, parts(&kid(number)));
    }
    eprintln!("{MANY} contexts enrolled in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    for number in (0..MANY).step_by(1000) {
        let mut thing = Thing::new(&world, 40_000, &parts(&kid(number)));
        let [_, _, high, low] = number.to_be_bytes();
        thing.address = std::net::SocketAddr::from(([10, 0, high, low], 5683)).into();
        thing.register(&mut world, &format!("device-{number}"));
    }
    eprintln!("{} of them registered in {:?}", MANY / 1000, begun.elapsed());
    assert_eq!(world.endpoint.associations(), 100);
}

// --- Bootstrap

#[test]
fn a_bootstrap_under_oscore_writes_an_account_under_oscore_and_it_works() {
    // ETS 1.2-int-11: bootstrap account C.23, written account C.24.
    let mut world = World::new(false);
    let given = OscoreParts {
        master_secret: Zeroizing::new(vec![5; 16]),
        master_salt: Zeroizing::new(vec![6; 8]),
        id_context: Some(b"ctx".to_vec()),
        hmac: Some(-11),
        ..parts(b"m")
    };
    enrol(&mut world, "a", Role::Management, given.clone());
    enrol(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let mut thing = Thing::new(&world, 40_000, &parts(b"b"));
    let requests = thing.bootstrap(&mut world, "a", "</0/0>,</21/0>");
    let paths: Vec<_> = requests.iter().map(|(code, path, _)| (*code, path.as_str())).collect();
    let (get, put, post) = (Code::GET, Code::PUT, Code::POST);
    assert_eq!(paths, [(get, ""), (put, "0/1"), (put, "21/1"), (put, "1/0"), (post, "bs")]);
    let security = resources(&requests[1].2);
    let of = |resources: &[(u8, Vec<u8>)], id: u8| {
        resources.iter().find(|(other, _)| *other == id).map(|(_, value)| value.clone())
    };
    assert_eq!(of(&security, 0), Some(b"coap://127.0.0.1:5683".to_vec()));
    assert_eq!((of(&security, 2), of(&security, 17)), (Some(vec![3]), Some(vec![0, 21, 0, 1])));
    let context = resources(&requests[2].2);
    let ids = [(0, vec![5; 16]), (1, b"m".to_vec()), (2, b"s".to_vec()), (4, vec![0xf5]), (5, vec![6; 8])];
    assert_eq!(context, ids.into_iter().chain([(6, b"ctx".to_vec())]).collect::<Vec<_>>());
    assert!(world.told().iter().any(|told| told == "bootstrap finished a"));

    let mut managed = Thing::with(&world, 40_001, &given, |parameters| {
        let (aead, hmac) = (parameters.aead(), oscore::HmacAlgorithm::from_cose(7).unwrap());
        parameters.with_salt(&[6; 8]).unwrap().with_algorithms(aead, hmac).unwrap()
    });
    managed.register(&mut world, "a");
    let device = world.credentials.device("a").unwrap();
    assert_eq!(device.management.as_ref().unwrap().state.as_str(), "in use");
}

#[test]
fn a_rotation_from_one_context_to_the_next_is_delivered_and_proven() {
    let mut world = World::new(false);
    let (mut thing, _) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    enrol(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let next = OscoreParts { master_secret: Zeroizing::new(vec![9; 16]), ..parts(b"2") };
    let key = Some(KeyMaterial::Oscore(OscoreKey::new(next.clone()).unwrap()));
    let rotate = lwm2m_server::credentials::Rotate { key, ..Default::default() };
    let rotated = world.credentials.rotate(world.now.as_millis(), "test", "a", &rotate).unwrap();
    for command in rotated.commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    let mut fetching = Thing::new(&world, 40_010, &parts(b"b"));
    let found = "</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/0>,</21/1>;ssid=1";
    let requests = fetching.bootstrap(&mut world, "a", found);
    let paths: Vec<_> = requests.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!(paths, ["", "0/1", "21/1", "1/0", "bs"]);
    let mut renewed = Thing::new(&world, 40_001, &next);
    renewed.register(&mut world, "a");
    let state = world.credentials.device("a").unwrap().management.as_ref().unwrap().state.as_str();
    assert_eq!(state, "rotating: proven");
    world.pass(Duration::from_secs(601));
    // The former context is retired: nothing of it is taken any more.
    assert!(thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).is_none());
    assert_eq!(thing.bare.last(), Some(&Code::UNAUTHORIZED));
}

#[test]
fn a_context_that_an_account_has_no_more_is_deleted() {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    enrol(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let mut thing = Thing::new(&world, 40_000, &parts(b"b"));
    let found = "</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/0>,</21/1>;ssid=1";
    let requests = thing.bootstrap(&mut world, "a", found);
    let paths: Vec<_> = requests.iter().map(|(code, path, _)| (*code, path.as_str())).collect();
    assert_eq!(paths[1..4], [(Code::DELETE, "21/1"), (Code::PUT, "0/1"), (Code::PUT, "1/0")]);
}

// --- What is shown

#[test]
fn the_trace_shows_messages_as_they_are_inside() {
    let mut world = World::new(false);
    enrol(&mut world, "a", Role::Management, parts(b"1"));
    world.endpoint.set_trace(true);
    let mut thing = Thing::new(&world, 40_000, &parts(b"1"));
    thing.register(&mut world, "a");
    let id = world.request("a", read("/3/0/0")).unwrap();
    thing.answer_next(&mut world, "maker");
    world.outcome(id).unwrap();
    let packets: Vec<_> = std::iter::from_fn(|| world.endpoint.poll_packet()).collect();
    let shown: Vec<_> = packets.iter().map(|packet| (packet.operation, packet.path)).collect();
    let path = Some("/3/0/0".parse().unwrap());
    assert_eq!(shown, [(Some("Register"), None), (None, None), (Some("Read"), path), (Some("Read"), path)]);
    assert!(packets.iter().all(|packet| packet.secure));
    assert!(format!("{:?}", packets[3].payload).contains("maker"));
    for packet in &packets {
        let (_, message) = udp::parse(&packet.bytes).unwrap();
        assert!(message.options.get(OptionNumber::OSCORE).is_none());
    }
}
