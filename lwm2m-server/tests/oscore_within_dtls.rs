//! OSCORE inside DTLS (RFC 8613, LwM2M Transport 1.2.1 §5.5): a session proves a credential, and the context beside its keys protects
//! each message in it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;
#[path = "support/thing.rs"]
mod thing;

use std::collections::BTreeSet;
use std::time::Duration;

use lwm2m_coap::{Code, OptionNumber, udp};
use lwm2m_server::Operation;
use lwm2m_server::credentials::{
    Identity, Key, KeyMaterial, OscoreKey, OscoreParts, Rederivation, Role, Rotate,
};
use lwm2m_server::endpoint::Listener;
use support::{Device, KEY, World, address};
use thing::{LINKS, Thing, enrol, enrol_as, parts, read, resources};
use zeroize::Zeroizing;

/// A pre-shared key, and a context beside it.
fn pair(identity: &str, parts: OscoreParts) -> KeyMaterial {
    let identity = Identity::new(identity.as_bytes()).unwrap();
    let dtls = Box::new(KeyMaterial::Given { identity, key: Key::new(KEY.to_vec()).unwrap() });
    KeyMaterial::Within { dtls, context: Some(OscoreKey::new(parts).unwrap()) }
}

fn enrol_pair(world: &mut World, endpoint: &str, role: Role, parts: OscoreParts) {
    enrol_as(world, endpoint, role, pair(&format!("{endpoint}-{}", role.as_str()), parts));
}

impl Thing {
    /// With a session of its own.
    fn connected(world: &mut World, port: u16, identity: &str, parts: &OscoreParts) -> Self {
        let mut thing = Self::new(world, port, parts);
        thing.local = Listener::Coaps;
        thing.connect(world, identity);
        thing
    }

    fn connect(&mut self, world: &mut World, identity: &str) {
        self.connect_with(world, identity, &KEY);
        assert!(self.dtls.as_ref().is_some_and(|dtls| dtls.established));
    }

    fn connect_with(&mut self, world: &mut World, identity: &str, key: &[u8]) {
        let mut dtls = Device::plain(self.local, 1);
        dtls.address = self.address;
        dtls.connect(world, identity, key);
        self.dtls = Some(dtls);
    }

    /// At the bootstrap server.
    fn at_bootstrap(world: &mut World, port: u16, parts: &OscoreParts) -> Self {
        let mut thing = Self::new(world, port, parts);
        thing.local = Listener::BootstrapCoaps;
        thing.connect(world, "a-bootstrap");
        thing
    }

    /// Sends a request without protection in the session; what it is answered with.
    fn request_bare(&mut self, world: &mut World, code: Code, uri: &str, payload: &str) -> Option<Code> {
        self.dtls.as_mut().unwrap().request(world, code, uri, payload.as_bytes()).map(|got| got.code)
    }

    fn observed(&mut self, world: &mut World, path: &str) -> lwm2m_coap::Exchange<oscore::Binding> {
        let id =
            world.request("a", Operation::Observe { path: path.parse().unwrap(), format: None }).unwrap();
        let (mut exchange, got) = self.next(world);
        assert_eq!(got.option(OptionNumber::OBSERVE), Some(&[][..]));
        let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
        self.answer(world, &mut exchange, Code::CONTENT, &options, "90");
        assert!(world.outcome(id).is_ok());
        exchange
    }
}

/// A registered device `a`.
fn registered(world: &mut World) -> (Thing, String) {
    enrol_pair(world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::connected(world, 40_000, "a-management", &parts(b"1"));
    let location = thing.register(world, "a");
    world.told();
    (thing, location)
}

fn execute(world: &mut World, commands: Vec<lwm2m_server::credentials::Command>) {
    for command in commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.settle();
}

// --- Management

#[test]
fn a_device_registers_under_oscore_inside_dtls_and_is_read_written_and_observed() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::connected(&mut world, 40_000, "a-management", &parts(b"1"));
    let location = thing.register(&mut world, "a");
    assert_eq!(world.told(), ["established a management", "registered a"]);
    let device = world.endpoint.device("a").unwrap();
    assert!(device.secure && device.generation == 1);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);

    let id = world.request("a", read("/3/0/0")).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!((got.code, got.path(OptionNumber::URI_PATH).as_str()), (Code::GET, "3/0/0"));
    thing.answer(&mut world, &mut exchange, Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, &[])], "maker");
    assert!(format!("{:?}", world.outcome(id).unwrap()).contains("maker"));

    let path = "/1/0/1".parse().unwrap();
    let (mode, values) = (lwm2m_server::WriteMode::Replace, vec![(path, lwm2m_server::Value::Integer(60))]);
    let id = world.request("a", Operation::Write { path, mode, values, format: None }).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!((got.code, got.path(OptionNumber::URI_PATH).as_str()), (Code::PUT, "1/0/1"));
    thing.answer(&mut world, &mut exchange, Code::CHANGED, &[], "");
    assert!(world.outcome(id).is_ok());

    let exchange = thing.observed(&mut world, "/3/0/9");
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
    assert!(thing.bare.is_empty(), "all that the server said was protected");
    assert_eq!(world.endpoint.counters().contexts_unknown, 0);
}

#[test]
fn nothing_of_a_session_counts_that_its_context_does_not_protect() {
    let mut world = World::new(false);
    let (mut thing, location) = registered(&mut world);
    let register = "rd?ep=a&lt=60&lwm2m=1.1";
    for (code, uri, payload) in [
        (Code::POST, register, LINKS),
        (Code::POST, &format!("{location}?lt=1"), ""),
        (Code::DELETE, &location, ""),
        (Code::POST, "dp", "[]"),
        (Code::GET, "rd", ""),
    ] {
        assert_eq!(thing.request_bare(&mut world, code, uri, payload), Some(Code::UNAUTHORIZED), "{uri}");
    }
    let block = thing.dtls.as_mut().unwrap().request_block(&mut world, register, &[0x08], &[b'<'; 16]);
    assert_eq!(block.code, Code::UNAUTHORIZED);
    assert!(world.told().is_empty());
    assert_eq!(world.endpoint.device("a").unwrap().lifetime, 86_400);

    enrol_pair(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let mut bootstrap = Thing::at_bootstrap(&mut world, 40_001, &parts(b"b"));
    world.told();
    assert_eq!(bootstrap.request_bare(&mut world, Code::POST, "bs?ep=a", ""), Some(Code::UNAUTHORIZED));
    assert!(world.told().is_empty());
}

#[test]
fn another_name_than_that_of_the_credential_is_refused() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::connected(&mut world, 40_000, "a-management", &parts(b"1"));
    world.told();
    let answer = thing.request(&mut world, Code::POST, "rd?ep=b&lt=60&lwm2m=1.1", LINKS);
    assert_eq!(answer.code, Code::BAD_REQUEST);
    assert_eq!(world.told(), ["refused a: a proved its name and claimed b"]);
}

// --- Keys that are not those of the session

#[test]
fn keys_of_another_device_are_a_bad_request_and_keys_of_nobody_unauthorized() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    enrol_pair(&mut world, "b", Role::Management, parts(b"2"));
    enrol(&mut world, "alone", Role::Management, parts(b"3"));
    world.enrol("plain", Role::Management);
    let forged = OscoreParts { master_secret: Zeroizing::new(vec![1; 16]), ..parts(b"2") };
    for (session, keys, code, why) in [
        ("a", parts(b"2"), Code::BAD_REQUEST, "the keys of b"),
        ("a", parts(b"3"), Code::BAD_REQUEST, "the keys of alone"),
        ("a", parts(b"4"), Code::UNAUTHORIZED, "keys that its session does not have"),
        ("a", forged.clone(), Code::UNAUTHORIZED, "keys that its session does not have"),
        ("plain", parts(b"1"), Code::BAD_REQUEST, "the keys of a"),
        ("plain", forged, Code::UNAUTHORIZED, "keys that its session does not have"),
    ] {
        let mut thing = Thing::connected(&mut world, 40_000, &format!("{session}-management"), &keys);
        world.told();
        let uri = format!("rd?ep={session}&lt=60&lwm2m=1.1");
        assert!(thing.send(&mut world, Code::POST, &uri, LINKS, None).is_none());
        assert_eq!(thing.bare, [code], "{session} {why}");
        let told = world.told();
        assert!(told.len() == 1 && told[0].contains(session) && told[0].contains(why), "{told:?}");
        assert!(world.endpoint.devices().is_empty());
        // It gets the same answer again, and is not asked about twice.
        let (last, look_ups) = (thing.last.clone(), world.endpoint.counters().look_ups);
        thing.deliver(&mut world, &last);
        thing.run(&mut world);
        assert_eq!((thing.bare.as_slice(), world.endpoint.counters().look_ups), (&[code; 2][..], look_ups));
    }
    // Nobody lost anything by it.
    for (name, kid) in [("a", b"1"), ("b", b"2")] {
        let mut thing = Thing::connected(&mut world, 40_010, &format!("{name}-management"), &parts(kid));
        thing.register(&mut world, name);
    }
}

#[test]
fn a_context_of_a_session_is_good_nowhere_else() {
    let mut world = World::new(false);
    let (mut thing, location) = registered(&mut world);
    let mut bare = Thing::new(&world, 40_001, &parts(b"1"));
    // From another address, and from that of the session.
    for port in [40_001, 40_000] {
        bare.address = address(port);
        assert!(bare.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).is_none());
        bare.forget(&world);
    }
    assert_eq!(bare.bare, [Code::UNAUTHORIZED; 2]);
    let reason = "handshake refused oscore kid 0x31: its keys are good inside DTLS alone";
    assert_eq!(world.told(), [reason; 2]);
    assert_eq!(world.endpoint.device("a").unwrap().lifetime, 86_400);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
}

#[test]
fn an_oscore_option_that_cannot_be_read_is_a_bad_one() {
    let mut world = World::new(false);
    world.enrol("plain", Role::Management);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, "plain-management", &KEY);
    device.send(&mut world, &[0x40, 2, 0, 1, 0x91, 0xff]);
    assert_eq!(device.got.pop_front().map(|got| got.code), Some(Code::BAD_OPTION));
}

#[test]
fn a_replayed_request_is_refused_and_carried_out_once() {
    let mut world = World::new(false);
    let (mut thing, location) = registered(&mut world);
    assert_eq!(thing.request(&mut world, Code::DELETE, &location, "").code, Code::DELETED);
    let mut deregister = thing.last.clone();
    thing.register(&mut world, "a");
    world.told();
    deregister[2..4].copy_from_slice(&0x7777_u16.to_be_bytes());
    thing.deliver(&mut world, &deregister);
    thing.run(&mut world);
    assert_eq!(thing.bare, [Code::UNAUTHORIZED]);
    // So it is in another session.
    thing.connect(&mut world, "a-management");
    world.told();
    thing.deliver(&mut world, &deregister);
    thing.run(&mut world);
    assert_eq!(thing.bare, [Code::UNAUTHORIZED; 2]);
    assert!(world.told().is_empty() && world.endpoint.device("a").is_some());
    assert_eq!((world.endpoint.counters().requests_replayed, world.endpoint.counters().unverified), (2, 0));
}

// --- Sessions come and go

#[test]
fn a_new_handshake_goes_on_with_the_context_of_before_and_the_former_session_ends() {
    let mut world = World::new(false);
    let (mut thing, location) = registered(&mut world);
    let observing = thing.observed(&mut world, "/3/0/9");
    let mut former = Thing::new(&world, 40_000, &parts(b"1"));
    (former.local, former.dtls) = (thing.local, thing.dtls.take());
    thing.address = address(40_001);
    thing.connect(&mut world, "a-management");
    assert_eq!(world.endpoint.associations(), 1);
    // Without an Echo: what came before is known.
    let answer = thing.send(&mut world, Code::POST, &location, "", None).unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    world.told();
    thing.notify(&mut world, &observing, "80");
    assert!(world.told().iter().any(|told| told.contains("Integer(80)")));
    let id = world.request("a", read("/3/0/0")).unwrap();
    thing.answer_next(&mut world, "here");
    assert!(world.outcome(id).is_ok());
    assert_eq!(former.request_bare(&mut world, Code::DELETE, &location, ""), None);
    assert!(world.endpoint.device("a").is_some() && thing.bare.is_empty());
}

#[test]
fn a_session_taken_up_again_has_the_context_too() {
    let mut world = World::new(false);
    let (mut thing, location) = registered(&mut world);
    let mut dtls = thing.dtls.take().unwrap();
    assert!(dtls.kept.is_some() || dtls.session.is_some());
    dtls.begin_resuming(&mut world, "a-management", &KEY);
    dtls.run(&mut world);
    assert!(dtls.established);
    thing.dtls = Some(dtls);
    assert_eq!(thing.request_bare(&mut world, Code::DELETE, &location, ""), Some(Code::UNAUTHORIZED));
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
}

#[test]
fn after_a_restart_a_device_goes_on_once_it_has_shown_that_it_is_fresh() {
    for is_planned in [true, false] {
        let mut world = World::new(false);
        let (mut thing, location) = registered(&mut world);
        thing.observed(&mut world, "/3/0/9");
        assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
        let mut update = thing.last.clone();
        if is_planned {
            world.restart(1, Duration::from_secs(1));
            let ended = "observation ended a: the keys of its device are new";
            assert!(world.told().iter().any(|told| told == ended));
            assert_eq!(world.endpoint.device("a").unwrap().observations, 0);
        } else {
            world.kill();
            thing.connect(&mut world, "a-management");
        }
        world.told();
        assert_eq!(thing.request_bare(&mut world, Code::DELETE, &location, ""), Some(Code::UNAUTHORIZED));
        update[2..4].copy_from_slice(&0x7777_u16.to_be_bytes());
        thing.deliver(&mut world, &update);
        assert!(world.told().is_empty());
        assert_eq!(world.endpoint.counters().challenged, 1);
        thing.run(&mut world);

        let uri = "rd?ep=a&lt=86400&lwm2m=1.1";
        let first = thing.send(&mut world, Code::POST, uri, LINKS, None).unwrap();
        let value = first.option(OptionNumber::ECHO).unwrap().to_vec();
        assert_eq!(first.code, Code::UNAUTHORIZED);
        // RFC 8613 Appendix B.1.2
        let answer = thing.send(&mut world, Code::POST, uri, LINKS, Some(&value)).unwrap();
        assert_eq!(answer.code, Code::CREATED);
        let id = world.request("a", read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
    }
}

#[test]
fn no_number_comes_twice_over_handshakes_restarts_and_kills() {
    let mut world = World::new(false);
    let (mut thing, _) = registered(&mut world);
    let mut used = BTreeSet::new();
    for round in 0..12 {
        for _ in 0..5 {
            let id = world.request("a", read("/3/0/0")).unwrap();
            let asked = thing.next_datagram(&mut world).unwrap();
            let (_, message) = udp::parse(&asked).unwrap();
            let option = message.options.get(OptionNumber::OSCORE).unwrap();
            let number = oscore::OscoreOption::parse(option).unwrap().partial_iv.unwrap();
            assert!(used.insert(number), "{number:?} once more");
            thing.take_in(&mut world, asked);
            thing.answer_next(&mut world, "x");
            world.outcome(id).unwrap();
        }
        match round % 3 {
            0 => thing.connect(&mut world, "a-management"),
            1 => drop(world.restart(1, Duration::from_secs(1))),
            _ => {
                world.kill();
                thing.connect(&mut world, "a-management");
            }
        }
        thing.register(&mut world, "a");
    }
    assert_eq!(used.len(), 60);
}

// A fleet with one secret: the server has one sender key towards all of them.
#[test]
fn contexts_with_a_sender_key_in_common_have_no_number_in_common() {
    let mut world = World::new(false);
    let mut things = [("a", &b"1"[..], 40_000), ("b", b"2", 40_001)].map(|(name, kid, port)| {
        enrol_pair(&mut world, name, Role::Management, parts(kid));
        let mut thing = Thing::connected(&mut world, port, &format!("{name}-management"), &parts(kid));
        thing.register(&mut world, name);
        (name, thing)
    });
    let mut used = BTreeSet::new();
    for round in 0..1200 {
        world.now = world.now.saturating_add(Duration::from_secs(1));
        let (name, thing) = &mut things[round % 2];
        let id = world.request(name, read("/3/0/0")).unwrap();
        let asked = thing.next_datagram(&mut world).unwrap();
        let (_, message) = udp::parse(&asked).unwrap();
        let option = message.options.get(OptionNumber::OSCORE).unwrap();
        let number = oscore::OscoreOption::parse(option).unwrap().partial_iv.unwrap();
        assert!(used.insert(number), "{number:?} once more");
        thing.take_in(&mut world, asked);
        thing.answer_next(&mut world, "x");
        world.outcome(id).unwrap();
    }
    assert!(world.endpoint.counters().reservations_overtaken > 1);
    assert_eq!(world.endpoint.associations(), 2, "no session ended by it");
}

#[test]
fn a_device_that_comes_to_another_part_of_the_server_goes_on_there() {
    let mut world = World::of_parts(3);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::connected(&mut world, 40_000, "a-management", &parts(b"1"));
    let location = thing.register(&mut world, "a");
    thing.observed(&mut world, "/3/0/9");
    for port in 40_001..40_004 {
        thing.address = address(port);
        thing.connect(&mut world, "a-management");
        let answer = thing.request(&mut world, Code::POST, &location, "");
        assert_eq!(answer.code, Code::CHANGED, "{port}");
        let id = world.request("a", read("/3/0/0")).unwrap();
        thing.answer_next(&mut world, "x");
        assert!(world.outcome(id).is_ok());
    }
    assert!(thing.bare.is_empty());
    let associations: usize = (0..3).map(|index| world.part(index).associations()).sum();
    assert_eq!(associations, 1, "no session that it had before takes what was said in the next one");
    let told = world.told();
    assert!(told.contains(&"observation ended a: the keys of its device are new".to_owned()), "{told:?}");
}

#[test]
fn a_device_that_lost_its_state_gets_new_keys_where_its_account_allows_that() {
    let mut world = World::new(false);
    let offered = OscoreParts { rederivation: Rederivation::Offered, ..parts(b"1") };
    enrol_pair(&mut world, "a", Role::Management, offered.clone());
    let mut thing = Thing::connected(&mut world, 40_000, "a-management", &offered);
    thing.register(&mut world, "a");
    thing.rederive(&world);
    let answer = thing.send(&mut world, Code::POST, "rd?ep=a&lt=60&lwm2m=1.1", LINKS, None).unwrap();
    assert_eq!((answer.code, answer.option(OptionNumber::ECHO)), (Code::UNAUTHORIZED, None));
    let location = thing.register(&mut world, "a");
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    let id = world.request("a", read("/3/0/0")).unwrap();
    thing.answer_next(&mut world, "x");
    assert!(world.outcome(id).is_ok() && thing.bare.is_empty());
}

#[test]
fn a_session_with_a_connection_id_moves_with_its_context() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    let mut thing = Thing::new(&world, 40_000, &parts(b"1"));
    thing.local = Listener::Coaps;
    let mut dtls = Device::plain(Listener::Coaps, 40_000);
    dtls.dtls = dtls.dtls.with_connection_id(dtls_psk::ConnectionId::EMPTY);
    dtls.connect(&mut world, "a-management", &KEY);
    thing.dtls = Some(dtls);
    let location = thing.register(&mut world, "a");
    thing.address = address(40_009);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    assert_eq!(world.endpoint.device("a").unwrap().address, "192.0.2.1:40009");
    let id = world.request("a", read("/3/0/0")).unwrap();
    thing.answer_next(&mut world, "x");
    assert!(world.outcome(id).is_ok());
}

// --- Credentials

#[test]
fn revoking_and_suspending_end_session_and_context() {
    for is_revoked in [true, false] {
        let mut world = World::new(false);
        let (mut thing, location) = registered(&mut world);
        let now = world.now.as_millis();
        let commands = match is_revoked {
            true => world.credentials.revoke(now, "test", "a", None, "lost"),
            false => world.credentials.suspend(now, "test", "a", "lost"),
        };
        execute(&mut world, commands.unwrap());
        assert!(world.endpoint.device("a").is_none() && world.endpoint.associations() == 0);
        assert!(thing.send(&mut world, Code::POST, &location, "", None).is_none());
        let device = Device::secure(&mut world, Listener::Coaps, 40_002, "a-management", &KEY);
        assert!(!device.established);
        let mut bare = Thing::new(&world, 40_003, &parts(b"1"));
        assert!(bare.send(&mut world, Code::POST, &location, "", None).is_none());
        assert_eq!(bare.bare, [Code::UNAUTHORIZED]);
    }
}

#[test]
fn ids_of_a_context_are_given_out_once_whether_it_is_alone_or_inside_dtls() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    enrol(&mut world, "b", Role::Management, parts(b"2"));
    let alone = |kid: &[u8]| KeyMaterial::Oscore(OscoreKey::new(parts(kid)).unwrap());
    for (endpoint, key) in [("c", alone(b"1")), ("c", pair("c", parts(b"2"))), ("c", pair("c", parts(b"1")))]
    {
        let account = lwm2m_server::credentials::EnrolAccount { role: Role::Management, key };
        let enrol = lwm2m_server::credentials::Enrol { accounts: vec![account], ..Default::default() };
        let refused = world.credentials.enrol(world.now.as_millis(), "test", endpoint, &enrol).unwrap_err();
        assert!(refused.to_string().contains("belongs"), "{refused}");
    }
    // The same again changes nothing; another context beside the same key is another credential.
    enrol_pair(&mut world, "a", Role::Management, parts(b"1"));
    assert_eq!(world.credentials.device("a").unwrap().version, 1);
    let account = |parts| lwm2m_server::credentials::EnrolAccount {
        role: Role::Management,
        key: pair("a-management", parts),
    };
    let enrol =
        lwm2m_server::credentials::Enrol { accounts: vec![account(parts(b"3"))], ..Default::default() };
    assert!(world.credentials.enrol(world.now.as_millis(), "test", "a", &enrol).is_err());
}

// --- Bootstrap

/// A credential as it was written into `/0` and `/21`.
struct Written {
    identity: String,
    key: Vec<u8>,
    parts: OscoreParts,
    salt: Vec<u8>,
}

impl Written {
    fn of(requests: &[(Code, String, Vec<u8>)]) -> Self {
        let written = |object: &str| {
            let is_it =
                |(code, path, _): &&(Code, String, Vec<u8>)| *code == Code::PUT && path.starts_with(object);
            resources(&requests.iter().find(is_it).unwrap().2)
        };
        let (security, context) = (written("0/"), written("21/"));
        let of = |resources: &[(u8, Vec<u8>)], id: u8| {
            resources.iter().find(|(other, _)| *other == id).map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!((of(&security, 2), of(&security, 17)[..2].to_vec()), (vec![0], vec![0, 21]));
        assert!(of(&security, 0).starts_with(b"coaps://"));
        let parts = OscoreParts {
            master_secret: Zeroizing::new(of(&context, 0)),
            sender_id: of(&context, 2),
            recipient_id: of(&context, 1),
            ..parts(b"")
        };
        let identity = String::from_utf8(of(&security, 3)).unwrap();
        Self { identity, key: of(&security, 5), parts, salt: of(&context, 5) }
    }

    fn connect(&self, world: &mut World, port: u16) -> Thing {
        let mut thing =
            Thing::with(world, port, &self.parts, |parameters| parameters.with_salt(&self.salt).unwrap());
        thing.local = Listener::Coaps;
        thing.connect_with(world, &self.identity, &self.key);
        thing
    }
}

fn rotate(world: &mut World, key: Option<KeyMaterial>) -> Vec<String> {
    let rotate = Rotate { key, ..Rotate::default() };
    let rotated = world.credentials.rotate(world.now.as_millis(), "test", "a", &rotate).unwrap();
    execute(world, rotated.commands);
    rotated.warnings
}

fn state(world: &World) -> String {
    world.credentials.device("a").unwrap().management.as_ref().unwrap().state.as_str().to_owned()
}

#[test]
fn a_bootstrap_inside_dtls_under_oscore_writes_such_an_account_and_it_works() {
    let mut world = World::new(false);
    // Who is bootstrapped with a context beside its keys gets such an account.
    enrol_pair(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let mut thing = Thing::at_bootstrap(&mut world, 40_000, &parts(b"b"));
    let requests = thing.bootstrap(&mut world, "a", "</0/0>,</21/0>");
    let paths: Vec<_> = requests.iter().map(|(code, path, _)| (*code, path.as_str())).collect();
    let (get, put, post) = (Code::GET, Code::PUT, Code::POST);
    assert_eq!(paths, [(get, ""), (put, "0/1"), (put, "21/1"), (put, "1/0"), (post, "bs")]);
    assert!(thing.bare.is_empty());
    let mut managed = Written::of(&requests).connect(&mut world, 40_001);
    managed.register(&mut world, "a");
    assert_eq!(state(&world), "in use");
}

#[test]
fn an_account_that_a_device_finds_inconsistent_is_written_again_with_its_context() {
    let mut world = World::new(false);
    enrol_pair(&mut world, "a", Role::Bootstrap, parts(b"b"));
    let mut thing = Thing::at_bootstrap(&mut world, 40_000, &parts(b"b"));
    assert_eq!(thing.request(&mut world, Code::POST, "bs?ep=a", "").code, Code::CHANGED);
    let found = "</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/0>,</21/1>;ssid=1,</21/3>;ssid=1";
    let requests = thing.bootstrapped(&mut world, found, &[Code::NOT_ACCEPTABLE]);
    let paths: Vec<_> = requests.iter().map(|(_, path, _)| path.as_str()).collect();
    let whole = ["", "21/3", "0/1", "21/1", "1/0", "bs"];
    assert_eq!(paths, [whole, whole].concat());
    assert!(world.told().iter().any(|told| told == "bootstrap finished a"));
}

#[test]
fn a_rotation_changes_keys_and_context_at_once_and_is_proven_by_both() {
    let mut world = World::new(false);
    let (mut former, location) = registered(&mut world);
    enrol_pair(&mut world, "a", Role::Bootstrap, parts(b"b"));
    assert_eq!(rotate(&mut world, None), ["the bootstrap account was never used yet"]);
    let mut fetching = Thing::at_bootstrap(&mut world, 40_010, &parts(b"b"));
    let found = "</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/0>,</21/1>;ssid=1";
    let requests = fetching.bootstrap(&mut world, "a", found);
    let paths: Vec<_> = requests.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!(paths, ["", "0/1", "21/1", "1/0", "bs"]);
    let written = Written::of(&requests);

    // The former pair is as good as before, and no half of it goes with one of the new.
    assert_eq!(former.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);
    let mut mixed = Thing::new(&world, 40_002, &parts(b"1"));
    mixed.local = Listener::Coaps;
    mixed.connect_with(&mut world, &written.identity, &written.key);
    world.told();
    assert!(mixed.send(&mut world, Code::POST, &location, "", None).is_none());
    assert_eq!(mixed.bare, [Code::UNAUTHORIZED]);
    assert!(world.told()[0].contains("other keys of its own"));
    assert_eq!(mixed.request_bare(&mut world, Code::POST, "rd?ep=a&lt=60", LINKS), Some(Code::UNAUTHORIZED));
    assert_eq!(state(&world), "rotating: delivered");

    let mut renewed = written.connect(&mut world, 40_003);
    renewed.register(&mut world, "a");
    assert_eq!(state(&world), "rotating: proven");
    world.pass(Duration::from_secs(601));
    assert_eq!(state(&world), "in use");
    assert!(former.send(&mut world, Code::POST, &location, "", None).is_none());
    let refused = Device::secure(&mut world, Listener::Coaps, 40_004, "a-management", &KEY);
    assert!(!refused.established);
    let id = world.request("a", read("/3/0/0")).unwrap();
    renewed.answer_next(&mut world, "x");
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_rotation_that_is_not_proven_is_rolled_back_with_its_context() {
    let mut world = World::new(false);
    let (mut thing, _) = registered(&mut world);
    enrol_pair(&mut world, "a", Role::Bootstrap, parts(b"b"));
    rotate(&mut world, Some(pair("a-next", parts(b"2"))));
    let mut fetching = Thing::at_bootstrap(&mut world, 40_010, &parts(b"b"));
    fetching.bootstrap(&mut world, "a", "</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/0>,</21/1>;ssid=1");
    // The new account did not work, and the device went back.
    thing.connect(&mut world, "a-management");
    thing.register(&mut world, "a");
    world.pass(Duration::from_secs(86_401));
    assert_eq!(state(&world), "in use");
    let refused = Device::secure(&mut world, Listener::Coaps, 40_004, "a-next", &KEY);
    assert!(!refused.established);
    thing.connect(&mut world, "a-management");
    thing.register(&mut world, "a");
}

#[test]
fn an_account_loses_its_context_with_a_rotation_to_a_credential_without_one() {
    let mut world = World::new(false);
    registered(&mut world);
    world.enrol("a", Role::Bootstrap);
    let psk = KeyMaterial::Generate(lwm2m_server::credentials::Mode::Psk);
    let warnings = rotate(&mut world, Some(psk));
    assert_eq!(warnings[0], "the new credential has no OSCORE context, as the present one does");
    let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_001, "a-bootstrap", &KEY);
    assert_eq!(device.request(&mut world, Code::POST, "bs?ep=a", b"").unwrap().code, Code::CHANGED);
    let mut paths = Vec::new();
    while paths.last().is_none_or(|path| path != "/bs") {
        let got = device.asked(&mut world);
        paths.push(got.uri());
        let found = b"</0/0>,</0/1>;ssid=1,</1/0>;ssid=1,</21/1>;ssid=1";
        match got.code {
            Code::GET => device.answer(
                &mut world,
                &got,
                Code::CONTENT,
                &[(OptionNumber::CONTENT_FORMAT, &[40])],
                found,
            ),
            Code::DELETE => device.answer(&mut world, &got, Code::DELETED, &[], b""),
            _ => device.answer(&mut world, &got, Code::CHANGED, &[], b""),
        };
    }
    assert_eq!(paths, ["", "/21/1", "/0/1", "/1/0", "/bs"]);
}
