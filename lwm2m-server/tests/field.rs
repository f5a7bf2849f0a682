//! What fails in the field, and what becomes of it here: each device misbehaves in its own way, ends reachable, and its operator reads why.

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, OptionNumber};
use lwm2m_server::Operation;
use lwm2m_server::credentials::{
    Enrol, HoldKind, Phase, Profile, Refusal, Role, Rotate, Standing, State, Subject,
};
use lwm2m_server::endpoint::{Config, Listener};
use support::{Device, KEY, World, play};

const HOUR: u64 = 3_600_000;
const REGISTER: &str = "ep=a&lt=86400&lwm2m=1.1";
const LINKS: &str = "</1/0>,</3/0>";
/// What a device shows that has the bootstrap account in `/0/0`, and ours in `/0/1` and `/1/0`.
const FOUND: &[u8] =
    b"</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1;uri=\"coaps://127.0.0.1:5684\",</1/0>;ssid=1,</3/0>";

/// A server and a device that it has managed so far.
struct Field {
    world: World,
    device: Device,
    location: String,
    port: u16,
}

impl Field {
    fn new() -> Self {
        let mut world = World::new(false);
        let identity = world.enrol("a", Role::Management);
        world.enrol("a", Role::Bootstrap);
        let mut device = Device::plain(Listener::Coaps, 40_000);
        device.begin_resuming(&mut world, &identity, &KEY);
        device.run(&mut world);
        let location = device.register(&mut world, REGISTER, LINKS);
        let field = Self { world, device, location, port: 40_000 };
        assert_eq!(field.state(), State::InUse);
        field
    }

    fn state(&self) -> State {
        self.world.credentials.device("a").unwrap().management.clone().unwrap().state
    }

    fn phase(&self) -> Option<Phase> {
        match self.state() {
            State::Rotating(rotation) => Some(rotation.phase),
            _ => None,
        }
    }

    fn admits(&self, generation: u32) -> Result<(), Refusal> {
        self.world.credentials.device("a").unwrap().accepts(Role::Management, generation)
    }

    /// Starts a rotation, and lets the device agree to bootstrap.
    fn rotate(&mut self, rotate: &Rotate) -> u32 {
        let now_ms = self.world.now.as_millis();
        let rotated = self.world.credentials.rotate(now_ms, "token:ops", "a", rotate).unwrap();
        self.world.pass(Duration::from_secs(1));
        self.agree_to_the_trigger();
        rotated.generation
    }

    fn agree_to_the_trigger(&mut self) {
        let asked = self.device.asked(&mut self.world);
        assert_eq!((asked.code, asked.uri().as_str()), (Code::POST, "/1/0/9"));
        self.device.answer(&mut self.world, &asked, Code::CHANGED, &[], b"");
    }

    /// Bootstraps the device, which answers each step as `answers` says; tells what was asked.
    fn bootstrap(&mut self, answers: impl FnMut(&str) -> (Code, &'static [u8])) -> Vec<String> {
        self.port = self.port.saturating_add(1);
        let world = &mut self.world;
        let mut device = Device::secure(world, Listener::BootstrapCoaps, self.port, "a-bootstrap", &KEY);
        let answer = device.request(world, Code::POST, "bs?ep=a", b"").unwrap();
        assert_eq!(answer.code, Code::CHANGED);
        play(world, &mut device, answers)
    }

    /// Identity and key of a credential.
    fn credential(&self, generation: u32) -> (String, Vec<u8>) {
        let device = self.world.credentials.device("a").unwrap();
        let credential = device.account(Role::Management).unwrap().credential(generation).unwrap().clone();
        let Subject::Psk(identity) = credential.subject else { unreachable!("it has a pre-shared key") };
        let kept = self.world.credentials.kept("a", Role::Management, generation).unwrap().unwrap();
        let identity = String::from_utf8(identity.bytes().to_vec()).unwrap();
        (identity, kept.psk().unwrap().bytes().to_vec())
    }

    /// The device shakes hands with a credential, from another address, and registers.
    fn register_with(&mut self, generation: u32) {
        let (identity, key) = self.credential(generation);
        self.port = self.port.saturating_add(1);
        self.device = Device::plain(Listener::Coaps, self.port);
        self.device.begin_resuming(&mut self.world, &identity, &key);
        self.device.run(&mut self.world);
        assert!(self.device.established, "with generation {generation}");
        self.location = self.device.register(&mut self.world, REGISTER, LINKS);
    }

    /// Somebody reads of the device, which answers.
    fn is_reachable(&mut self) -> bool {
        let path = "/3/0/0".parse().unwrap();
        let id = self.world.request("a", Operation::Read { path, format: None }).unwrap();
        let asked = self.device.asked(&mut self.world);
        let text = (OptionNumber::CONTENT_FORMAT, &[][..]);
        self.device.answer(&mut self.world, &asked, Code::CONTENT, &[text], b"ACME");
        self.world.outcome(id).is_ok()
    }

    /// What the operator reads of it: the audit log.
    fn log(&self) -> Vec<String> {
        let rows = self.world.credentials.audit(Some("a"), None, 100).unwrap();
        rows.iter().map(|row| format!("{}: {}", row.what, row.detail)).collect()
    }

    fn reads(&self, what: &str) -> bool {
        self.log().iter().any(|row| row.contains(what))
    }
}

fn within_an_hour() -> Rotate {
    Rotate { deadline_ms: HOUR, grace_ms: 600_000, reason: "yearly".to_owned(), ..Rotate::default() }
}

/// A device that does what it is asked.
fn agree(step: &str) -> (Code, &'static [u8]) {
    match step.get(..4) {
        Some("0.01") => (Code::CONTENT, FOUND),
        Some("0.04") => (Code::DELETED, b""),
        _ => (Code::CHANGED, b""),
    }
}

#[test]
fn a_device_that_goes_on_with_its_old_session_has_not_proven_its_new_key() {
    let mut field = Field::new();
    let new = field.rotate(&within_an_hour());
    field.bootstrap(agree);
    assert_eq!(field.phase(), Some(Phase::Delivered));

    // An Update over the session that it has; then a Register over one that it takes up instead of a full handshake.
    let location = field.location.clone();
    let updated = field.device.request(&mut field.world, Code::POST, &location, b"").unwrap();
    assert_eq!(updated.code, Code::CHANGED);
    let (identity, key) = field.credential(1);
    field.device.begin_resuming(&mut field.world, &identity, &key);
    field.world.told();
    field.device.run(&mut field.world);
    assert!(field.world.told().contains(&"resumed a management".to_owned()));
    field.device.register(&mut field.world, REGISTER, LINKS);
    assert_eq!(field.phase(), Some(Phase::Delivered), "{:?}", field.log());
    assert!(field.is_reachable());

    field.register_with(new);
    assert_eq!(field.phase(), Some(Phase::Proven));
    field.world.pass(Duration::from_secs(601));
    assert_eq!(field.state(), State::InUse);
    assert!(field.is_reachable());
    assert!(field.reads("proven: by a full handshake and a Register"), "{:?}", field.log());
}

#[test]
fn the_old_session_of_a_device_is_cut_only_after_its_new_key_was_proven() {
    let mut field = Field::new();
    let new = field.rotate(&within_an_hour());
    assert!(field.is_reachable(), "staged");
    field.bootstrap(agree);
    assert!(field.is_reachable(), "delivered");
    let mut old = core::mem::replace(&mut field.device, Device::plain(Listener::Coaps, 1));
    field.register_with(new);
    assert_eq!((field.admits(1), field.admits(new)), (Ok(()), Ok(())));
    field.world.told();
    field.world.pass(Duration::from_secs(601));
    assert_eq!((field.admits(1), field.admits(new)), (Err(Refusal::Retired), Ok(())));
    assert!(old.request(&mut field.world, Code::POST, "rd?ep=a&lt=60", b"</1/0>").is_none());
    assert!(field.is_reachable());
    assert!(field.reads("old retired: the grace time is over"), "{:?}", field.log());
}

#[test]
fn the_bootstrap_account_is_written_over_nowhere_a_device_may_have_it() {
    for (found, ours) in [
        // Beside ours, in its place, shown with an id of no server, and alone.
        (&b"</0/0>,</0/1>;ssid=1,</1/0>;ssid=1"[..], ["/0/1", "/1/0"]),
        (b"</0/1>,</0/0>;ssid=1,</1/0>;ssid=1", ["/0/0", "/1/0"]),
        (b"</0/0>;ssid=65535,</0/3>;ssid=1,</1/2>;ssid=1", ["/0/3", "/1/2"]),
        (b"</0/1>,</1/0>;ssid=7,</0/2>;ssid=7", ["/0/0", "/1/1"]),
    ] {
        let mut field = Field::new();
        let new = field.rotate(&within_an_hour());
        let steps = field.bootstrap(|step| match step {
            "0.01 " => (Code::CONTENT, found),
            step => agree(step),
        });
        let written: Vec<&str> = steps.iter().filter_map(|step| step.strip_prefix("0.03 ")).collect();
        assert_eq!(written, ours, "{steps:?}");
        assert!(!steps.iter().any(|step| step.starts_with("0.04")), "{steps:?}");
        field.register_with(new);
        assert!(field.is_reachable());
        // It can be repaired again.
        let device = field.world.credentials.device("a").unwrap();
        assert_eq!(device.accepts(Role::Bootstrap, 1), Ok(()));
    }
}

#[test]
fn a_device_that_took_a_configuration_it_cannot_use_comes_back_with_what_worked() {
    let mut field = Field::new();
    let nowhere = "coaps://198.51.100.9:5684".to_owned();
    let new = field.rotate(&Rotate { server_uri: Some(nowhere), ..within_an_hour() });
    // It finds the configuration inconsistent once, is corrected, and takes it.
    let mut finished = 0;
    let steps = field.bootstrap(|step| match step {
        "0.02 /bs" if core::mem::replace(&mut finished, 1) == 0 => (Code::NOT_ACCEPTABLE, b""),
        step => agree(step),
    });
    assert_eq!(steps.iter().filter(|step| *step == "0.02 /bs").count(), 2, "{steps:?}");
    // Nobody answers there. After its retries it goes back to the accounts that worked.
    field.world.pass(Duration::from_secs(1200));
    field.register_with(1);
    field.world.pass(Duration::from_secs(2500));
    assert_eq!(field.state(), State::InUse);
    assert_eq!((field.admits(1), field.admits(new)), (Ok(()), Err(Refusal::RolledBack)));
    assert!(field.is_reachable());
    assert!(
        field.reads("rolled back: the new credential was not proven before the deadline"),
        "{:?}",
        field.log()
    );
}

#[test]
fn a_device_gets_its_account_in_the_instances_that_it_showed_or_that_its_profile_names() {
    let shown = b"</0/2>,</0/10>;ssid=1,</1/5>;ssid=1";
    let mut field = Field::new();
    field.rotate(&within_an_hour());
    let steps = field.bootstrap(|step| match step {
        "0.01 " => (Code::CONTENT, shown),
        step => agree(step),
    });
    assert!(steps.contains(&"0.03 /0/10".to_owned()) && steps.contains(&"0.03 /1/5".to_owned()), "{steps:?}");

    // One that shows nothing, and takes no other ones.
    let mut field = Field::new();
    let profile = Profile { security_instance: Some(10), server_instance: Some(5), ..Profile::default() };
    let enrol = Enrol { profile: Some(profile), ..Enrol::default() };
    field.world.credentials.enrol(1, "test", "a", &enrol).unwrap();
    let new = field.rotate(&within_an_hour());
    field.bootstrap(|step| match step {
        "0.01 " => (Code::METHOD_NOT_ALLOWED, b""),
        "0.03 /0/10" | "0.03 /1/5" | "0.02 /bs" => (Code::CHANGED, b""),
        _ => (Code::BAD_REQUEST, b""),
    });
    assert_eq!(field.phase(), Some(Phase::Delivered), "{:?}", field.log());
    field.register_with(new);
    assert!(field.is_reachable());
}

#[test]
fn a_device_whose_discover_cannot_be_used_is_told_of_and_written_blind_where_its_profile_says_so() {
    let mut field = Field::new();
    field.rotate(&within_an_hour());
    let steps = field.bootstrap(|step| match step {
        "0.01 " => (Code::CONTENT, b"/0/0,/1/0"),
        step => agree(step),
    });
    assert_eq!(steps, ["0.01 "], "nothing is written where the bootstrap account may be");
    assert!(
        field.reads("bootstrap failed: the device answered 2.05, malformed to Bootstrap-Discover"),
        "{:?}",
        field.log()
    );
    assert!(field.is_reachable(), "with what it had");

    let profile = Profile { write_blind: Some(true), ..Profile::default() };
    let enrol = Enrol { profile: Some(profile), ..Enrol::default() };
    field.world.credentials.enrol(1, "test", "a", &enrol).unwrap();
    field.world.pass(Duration::from_secs(400));
    field.agree_to_the_trigger();
    let steps = field.bootstrap(agree);
    assert!(!steps.iter().any(|step| step.starts_with("0.01")), "{steps:?}");
    field.register_with(2);
    assert_eq!(field.phase(), Some(Phase::Proven));
    assert!(field.is_reachable());
}

#[test]
fn a_fleet_that_comes_to_bootstrap_at_once_gets_in_device_by_device() {
    let mut config = Config::default();
    config.handshake_rate = 8;
    let mut world = World::with(config, false);
    let mut devices: Vec<(Device, String)> = (0..48_u16)
        .map(|number| {
            let name = format!("meter-{number}");
            let identity = world.enrol(&name, Role::Bootstrap);
            let mut device = Device::plain(Listener::BootstrapCoaps, 41_000_u16.saturating_add(number));
            device.begin(&mut world, &identity, &KEY);
            (device, name)
        })
        .collect();
    for second in 0..240 {
        for (device, name) in &mut devices {
            // Who had no answer for long begins anew.
            if second % 60 == 59 && !device.established {
                device.begin(&mut world, &format!("{name}-bootstrap"), &KEY);
            }
            device.run(&mut world);
        }
        world.pass(Duration::from_secs(1));
        for (device, _) in &mut devices {
            device.wait(&world);
        }
    }
    let counters = *world.endpoint.counters();
    assert!(counters.handshakes_over_rate.saturating_add(counters.hellos_put_off) > 0, "{counters:?}");
    for (device, name) in &mut devices {
        assert!(device.established, "{name}");
        let answer = device.request(&mut world, Code::POST, &format!("bs?ep={name}"), b"").unwrap();
        assert_eq!(answer.code, Code::CHANGED, "{name}");
    }
}

#[test]
fn whatever_a_device_is_refused_for_its_operator_reads_it() {
    let mut field = Field::new();
    let told = |field: &mut Field, identity: &str, key: &[u8]| {
        field.world.told();
        field.port = field.port.saturating_add(1);
        let mut device = Device::plain(Listener::Coaps, field.port);
        device.connect(&mut field.world, identity, key);
        assert!(!device.established, "{identity}");
        field.world.pass(Duration::from_secs(100));
        field.world.told().into_iter().find(|told| told.starts_with("handshake refused")).unwrap()
    };
    let own = told(&mut field, "nobody", &KEY);
    assert!(own.contains("unknown identity"), "{own}");
    let wrong = told(&mut field, "a-management", &[9; 16]);
    assert!(wrong.contains("key"), "{wrong}");

    let new = field.rotate(&within_an_hour());
    field.bootstrap(agree);
    field.register_with(new);
    field.world.pass(Duration::from_secs(601));
    assert_eq!(field.admits(1), Err(Refusal::Retired));
    let retired = told(&mut field, "a-management", &KEY);
    assert!(retired.contains("a newer one was proven"), "{retired}");

    let (identity, key) = field.credential(new);
    let now_ms = field.world.now.as_millis();
    field.world.credentials.suspend(now_ms, "token:ops", "a", "stolen?").unwrap();
    let suspended = told(&mut field, &identity, &key);
    assert!(suspended.contains("suspended"), "{suspended}");
    field.world.credentials.resume(now_ms, "token:ops", "a", "found").unwrap();
    field.register_with(new);
    assert!(field.is_reachable());
    field.world.credentials.decommission(now_ms, "token:ops", "a", "scrapped").unwrap();
    let gone = told(&mut field, &identity, &key);
    assert!(gone.contains("decommissioned"), "{gone}");

    let device = field.world.credentials.device("a").unwrap();
    assert_eq!(device.hold.as_ref().map(|hold| hold.kind), Some(HoldKind::Decommissioned));
    let credential = device.management.as_ref().unwrap().credential(new).unwrap();
    assert_eq!(credential.standing, Standing::Revoked);
    let mut all = [own, wrong, retired, suspended, gone];
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair.first() != pair.last()), "{all:?}");
}
