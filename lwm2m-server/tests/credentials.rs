//! The credential lifecycle through its façade: enrolment, rotation with proof and rollback, revocation, restarts.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lwm2m_objects::Version;
use lwm2m_server::ObservationId;
use lwm2m_server::access::Scope;
use lwm2m_server::credentials::{
    Authenticated, Command, Credentials, Device, Discovered, Enrol, EnrolAccount, Fact, Fetch, Happened,
    Identity, Kept, Key, KeyMaterial, Mode, Phase, Refusal, Role, Rotate, Setting, Settings, State,
    TriggerAnswer,
};
use lwm2m_server::observations::{Intent, IntentChange, Intents, Wanted};
use lwm2m_server::store::{
    AuditRow, Change, Heads, QueuedRequest, RedbStore, RequestChange, Reservation, Sealer, Store, StoreError,
    TokenRecord,
};

const EP: &str = "sensor-1";
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

struct Bench {
    store: Arc<dyn Store>,
    credentials: Credentials,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::in_memory(Sealer::new(&[9; 32], "test").unwrap()).unwrap());
        let credentials = Credentials::open(Arc::clone(&store), Settings::default()).unwrap();
        Self { store, credentials, now: 1_000_000 }
    }

    /// A device with a bootstrap account, and a management credential in use.
    fn in_use() -> Self {
        let mut bench = Self::new();
        bench.enrol_bootstrap();
        bench.bootstrap();
        bench.register(1);
        bench
    }

    fn enrol_bootstrap(&mut self) {
        let enrol = Enrol { accounts: vec![given(Role::Bootstrap, "bs-1", 1)], ..Enrol::default() };
        self.credentials.enrol(self.now, "test", EP, &enrol).unwrap();
    }

    fn restart(&mut self) {
        self.credentials = Credentials::open(Arc::clone(&self.store), Settings::default()).unwrap();
    }

    fn who(&self, role: Role, generation: u32) -> Authenticated {
        Authenticated::new(EP.into(), role, generation)
    }

    fn report(&mut self, fact: &Fact) -> Vec<Command> {
        self.now += 10;
        self.credentials.report(self.now, fact).unwrap()
    }

    fn hand_out(&mut self) -> u32 {
        let who = self.who(Role::Bootstrap, 1);
        self.report(&Fact::Handshake { who: who.clone(), full: true });
        self.report(&Fact::BootstrapRequested { who: who.clone() });
        self.credentials.bootstrap_plan(self.now, &who).unwrap().generation
    }

    fn bootstrap(&mut self) {
        let generation = self.hand_out();
        self.report(&Fact::BootstrapDelivered { endpoint: EP.into(), generation });
    }

    fn register(&mut self, generation: u32) -> Vec<Command> {
        let who = self.who(Role::Management, generation);
        self.report(&Fact::Handshake { who: who.clone(), full: true });
        self.report(&Fact::Registered { who })
    }

    fn rotate(&mut self) {
        self.rotate_with(Fetch::Trigger);
    }

    fn rotate_with(&mut self, fetch: Fetch) {
        let rotate = Rotate { deadline_ms: HOUR, grace_ms: 5 * MINUTE, fetch, ..Rotate::default() };
        self.credentials.rotate(self.now, "test", EP, &rotate).unwrap();
    }

    fn tick_after(&mut self, wait: u64) -> Vec<Command> {
        self.now += wait;
        self.report(&Fact::Tick)
    }

    fn state(&self) -> State {
        self.credentials.device(EP).unwrap().management.clone().unwrap().state
    }

    fn note(&self) -> String {
        self.credentials.device(EP).unwrap().management.clone().unwrap().note.unwrap_or_default()
    }

    fn may_register(&self, generation: u32) -> Result<(), Refusal> {
        self.credentials.may_register(self.now, &self.who(Role::Management, generation))
    }

    fn admit(&self, generation: u32) -> Result<(), Refusal> {
        self.credentials.admit(self.now, &self.who(Role::Management, generation))
    }
}

fn given(role: Role, identity: &str, byte: u8) -> EnrolAccount {
    let identity = Identity::new(identity.as_bytes()).unwrap();
    EnrolAccount { role, key: KeyMaterial::Given { identity, key: Key::new(vec![byte; 16]).unwrap() } }
}

fn close(generation: Option<u32>) -> Command {
    Command::CloseSessions { endpoint: EP.into(), role: Role::Management, generation }
}

#[test]
fn a_bootstrap_account_brings_a_management_credential_that_is_never_shown() {
    let bench = Bench::new();
    let enrol = Enrol { accounts: vec![given(Role::Bootstrap, "bs-1", 1)], ..Enrol::default() };
    let outcome = bench.credentials.enrol(1, "test", EP, &enrol).unwrap();
    assert_eq!(outcome.created.iter().map(|each| each.role).collect::<Vec<_>>(), Role::ALL);
    assert!(outcome.created.iter().all(|each| each.key.is_none()));
    assert_eq!(bench.state(), State::Armed);
    let again = bench.credentials.enrol(2, "test", EP, &enrol).unwrap();
    assert!(again.created.is_empty());
}

#[test]
fn the_first_life_goes_from_armed_to_in_use() {
    let mut bench = Bench::new();
    bench.enrol_bootstrap();
    assert_eq!(bench.hand_out(), 1);
    assert_eq!(bench.state(), State::Bootstrapping);
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation: 1,
        step: "Bootstrap-Finish".into(),
        code: Some("4.06".into()),
    });
    assert_eq!(bench.state(), State::Armed);
    assert_eq!(
        bench.note(),
        "the device answered 4.06 to Bootstrap-Finish: it finds the configuration inconsistent"
    );
    bench.bootstrap();
    assert_eq!(bench.state(), State::Provisioned);
    bench.register(1);
    assert_eq!(bench.state(), State::InUse);
}

#[test]
fn the_plan_writes_one_server_account_with_the_stored_key() {
    let mut bench = Bench::new();
    bench.enrol_bootstrap();
    let plan = bench.credentials.bootstrap_plan(bench.now, &bench.who(Role::Bootstrap, 1)).unwrap();
    let subject =
        bench.credentials.device(EP).unwrap().management.clone().unwrap().credentials[0].subject.clone();
    let identity = subject.identity().unwrap();
    let key = bench.credentials.look_up(Role::Management, identity.bytes()).unwrap().key;
    let places = plan.place(&Discovered::default()).concat();
    assert_eq!(places.iter().map(|at| at.object).collect::<Vec<_>>(), [0, 1]);
    let (security, server) = (plan.resources(&places[0]), plan.resources(&places[1]));
    let ids: Vec<u16> = security.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 10]);
    assert_eq!(security[0].1, Setting::Text("coaps://127.0.0.1:5684".into()));
    assert_eq!(security[1].1, Setting::Boolean(false));
    assert!(matches!(&security[5].1, Setting::Opaque(bytes) if bytes.as_slice() == key.bytes()));
    let ids: Vec<u16> = server.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [0, 1, 6, 7]);
}

#[test]
fn a_rotation_needs_a_full_handshake_and_a_register_with_the_new_credential() {
    let mut bench = Bench::in_use();
    bench.rotate();
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())));
    bench.bootstrap();
    assert!(matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Delivered));
    // Over the old session, and over a resumed one: no proof.
    bench.report(&Fact::Registered { who: bench.who(Role::Management, 1) });
    bench.report(&Fact::Handshake { who: bench.who(Role::Management, 2), full: false });
    bench.report(&Fact::Registered { who: bench.who(Role::Management, 2) });
    assert!(matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Delivered));
    bench.register(2);
    assert!(matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Proven));
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())));
    assert_eq!(bench.tick_after(5 * MINUTE), [close(Some(1))]);
    assert_eq!(bench.state(), State::InUse);
    assert_eq!((bench.admit(1), bench.admit(2)), (Err(Refusal::Retired), Ok(())));
    assert!(bench.store.secret(EP, Role::Management, 1).unwrap().is_none());
}

#[test]
fn a_rotation_that_no_bootstrap_fetched_rolls_back() {
    let mut bench = Bench::in_use();
    bench.rotate();
    assert_eq!(bench.tick_after(HOUR), [close(Some(2))]);
    assert_eq!(bench.state(), State::InUse);
    assert!(bench.note().contains("no bootstrap fetched"), "{}", bench.note());
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Err(Refusal::RolledBack)));
}

#[test]
fn a_device_that_comes_back_with_the_old_credential_rolls_back_at_the_deadline() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.bootstrap();
    bench.register(1);
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())));
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
    assert!(bench.note().contains("came back with the old one"), "{}", bench.note());
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Err(Refusal::RolledBack)));
    // The next rotation starts from the old one again, under a new generation.
    bench.rotate();
    bench.bootstrap();
    bench.register(3);
    bench.tick_after(5 * MINUTE);
    assert_eq!((bench.admit(1), bench.admit(3)), (Err(Refusal::Retired), Ok(())));
}

#[test]
fn a_device_seen_with_neither_is_unreachable_and_both_stay_accepted() {
    for back_with in [1, 2] {
        let mut bench = Bench::in_use();
        bench.rotate();
        bench.bootstrap();
        bench.tick_after(HOUR);
        assert!(matches!(bench.state(), State::Unreachable(_)));
        assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())));
        bench.restart();
        bench.register(back_with);
        bench.tick_after(5 * MINUTE);
        assert_eq!(bench.state(), State::InUse);
        assert_eq!(bench.admit(back_with), Ok(()));
        assert!(bench.admit(3 - back_with).is_err());
    }
}

#[test]
fn what_comes_with_the_old_credential_while_a_finish_may_arrive_shows_nothing() {
    let unanswered = Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation: 2,
        step: "Bootstrap-Finish".into(),
        code: None,
    };
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.hand_out();
    bench.register(1);
    bench.report(&unanswered);
    bench.register(1);
    bench.restart();
    bench.tick_after(HOUR);
    assert!(matches!(bench.state(), State::Unreachable(_)), "it may have the new one: {:?}", bench.state());
    // The same while it is bootstrapped once more.
    bench.hand_out();
    bench.register(1);
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())));
    bench.report(&unanswered);
    bench.now += 6 * MINUTE;
    bench.register(1);
    assert_eq!((bench.state(), bench.admit(2)), (State::InUse, Err(Refusal::RolledBack)));
}

#[test]
fn a_bootstrap_that_fails_before_its_finish_leaves_no_doubt() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.hand_out();
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation: 2,
        step: "Bootstrap-Write /0/1".into(),
        code: None,
    });
    bench.register(1);
    bench.tick_after(HOUR);
    assert_eq!((bench.state(), bench.admit(2)), (State::InUse, Err(Refusal::RolledBack)));
}

#[test]
fn a_device_that_goes_back_within_the_grace_time_withdraws_the_proof() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.bootstrap();
    bench.register(2);
    bench.register(1);
    assert!(bench.tick_after(6 * MINUTE).is_empty());
    assert_eq!(bench.admit(1), Ok(()));
    bench.tick_after(HOUR);
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Err(Refusal::RolledBack)));
}

#[test]
fn an_overridden_server_uri_is_written_only_while_it_is_rotated_in() {
    let mut bench = Bench::in_use();
    let rotate = Rotate { server_uri: Some("coaps://127.0.0.1:9".into()), ..Rotate::default() };
    bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
    let who = bench.who(Role::Bootstrap, 1);
    let uri = |bench: &Bench| {
        bench.credentials.bootstrap_plan(bench.now, &who).unwrap().account.security[0].1.clone()
    };
    assert_eq!(uri(&bench), Setting::Text("coaps://127.0.0.1:9".into()));
    bench.register(1);
    bench.tick_after(24 * HOUR);
    assert!(
        matches!(bench.state(), State::Unreachable(_)),
        "the attempt was open when the old one registered"
    );
    bench.register(1);
    assert_eq!(bench.state(), State::InUse);
    assert_eq!(uri(&bench), Setting::Text("coaps://127.0.0.1:5684".into()));
}

#[test]
fn a_pending_trigger_is_sent_again_after_a_restart() {
    let trigger = [Command::TriggerBootstrap { endpoint: EP.into() }];
    let mut bench = Bench::in_use();
    bench.rotate();
    assert_eq!(bench.tick_after(1), trigger);
    assert!(bench.tick_after(1).is_empty(), "it is under way");
    bench.restart();
    assert_eq!(bench.tick_after(1), trigger);
    bench.report(&Fact::TriggerAnswered { endpoint: EP.into(), answer: TriggerAnswer::Unanswered });
    assert!(bench.tick_after(1).is_empty());
    assert_eq!(bench.register(1), trigger, "the device is awake");
    bench.report(&Fact::TriggerAnswered { endpoint: EP.into(), answer: TriggerAnswer::Accepted });
    bench.bootstrap();
    bench.restart();
    assert!(bench.tick_after(20 * MINUTE).is_empty(), "the device fetched it");
}

#[test]
fn a_refused_trigger_rolls_back_at_once() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.tick_after(1);
    let answer = TriggerAnswer::Refused { code: "4.05".into(), after: None };
    bench.report(&Fact::TriggerAnswered { endpoint: EP.into(), answer });
    assert_eq!(bench.state(), State::InUse);
    assert!(bench.note().contains("/1/x/9, with 4.05"), "{}", bench.note());
}

#[test]
fn a_credential_that_was_proven_without_a_bootstrap_outlives_the_bootstrap_account() {
    let mut bench = Bench::in_use();
    bench.rotate();
    // As a device does that brings its own new key.
    bench.register(2);
    let is_proven =
        |bench: &Bench| matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Proven);
    assert!(is_proven(&bench));
    bench.credentials.revoke(bench.now, "test", EP, Some(Role::Bootstrap), "lost").unwrap();
    assert!(is_proven(&bench));
    assert_eq!(bench.admit(2), Ok(()));
    bench.tick_after(5 * MINUTE);
    assert_eq!((bench.state(), bench.admit(2)), (State::InUse, Ok(())));
}

#[test]
fn a_device_that_knows_no_trigger_is_withheld_until_it_bootstraps_where_its_operator_agreed() {
    let refused = || Fact::TriggerAnswered {
        endpoint: EP.into(),
        answer: TriggerAnswer::Refused { code: "4.05".into(), after: None },
    };
    let mut bench = Bench::in_use();
    bench.rotate_with(Fetch::Withhold);
    assert_eq!(bench.tick_after(1), [Command::TriggerBootstrap { endpoint: EP.into() }]);
    assert_eq!(bench.may_register(1), Ok(()), "it may know the trigger");
    assert_eq!(bench.report(&refused()), [Command::ForgetRegistration { endpoint: EP.into() }]);
    assert!(bench.note().contains("/1/x/9 with 4.05"), "{}", bench.note());
    bench.restart();
    assert_eq!(bench.may_register(1), Err(Refusal::Withheld));
    assert_eq!(bench.admit(1), Ok(()), "its session stands, so that it is told by 4.03");
    assert!(bench.tick_after(10 * MINUTE).is_empty());
    let generation = bench.hand_out();
    assert_eq!(bench.may_register(1), Ok(()), "it may have lost the bootstrap");
    bench.report(&Fact::BootstrapDelivered { endpoint: EP.into(), generation });
    bench.register(generation);
    assert!(matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Proven));

    // One that does not bootstrap either is let in again at the deadline.
    let mut bench = Bench::in_use();
    bench.rotate_with(Fetch::Withhold);
    bench.tick_after(1);
    bench.report(&refused());
    bench.tick_after(HOUR - MINUTE);
    assert_eq!(bench.may_register(1), Err(Refusal::Withheld));
    bench.tick_after(MINUTE);
    assert_eq!((bench.state(), bench.may_register(1)), (State::InUse, Ok(())));
    assert!(bench.note().contains("no bootstrap fetched"), "{}", bench.note());
}

#[test]
fn a_device_that_is_waited_for_is_not_triggered_and_proves_what_it_fetches_by_itself() {
    let mut bench = Bench::in_use();
    bench.rotate_with(Fetch::Wait);
    assert!(bench.tick_after(30 * MINUTE).is_empty());
    assert!(bench.register(1).is_empty());
    bench.bootstrap();
    bench.register(2);
    assert!(matches!(bench.state(), State::Rotating(rotation) if rotation.phase == Phase::Proven));
}

#[test]
fn a_busy_device_is_triggered_again_when_it_said() {
    let trigger = [Command::TriggerBootstrap { endpoint: EP.into() }];
    // At least as long as without being told, and not longer than an hour.
    for (after, waits) in [(Some(200), 200_000), (Some(1), 10_000), (None, 10_000), (Some(u32::MAX), HOUR)] {
        let mut bench = Bench::in_use();
        let rotate = Rotate { deadline_ms: 2 * HOUR, ..Rotate::default() };
        bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
        assert_eq!(bench.tick_after(1), trigger);
        let answer = TriggerAnswer::Refused { code: "5.03".into(), after };
        bench.report(&Fact::TriggerAnswered { endpoint: EP.into(), answer });
        // Each report takes a moment.
        assert_eq!(bench.tick_after(waits - 100), [], "{after:?}");
        assert_eq!(bench.tick_after(100), trigger, "{after:?}");
    }
}

#[test]
fn a_failed_bootstrap_is_tried_again_later() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.tick_after(1);
    bench.report(&Fact::TriggerAnswered { endpoint: EP.into(), answer: TriggerAnswer::Accepted });
    let generation = bench.hand_out();
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation,
        step: "write /0/1".into(),
        code: None,
    });
    assert!(bench.tick_after(1).is_empty());
    assert_eq!(bench.tick_after(MINUTE), [Command::TriggerBootstrap { endpoint: EP.into() }]);
}

#[test]
fn revocation_refuses_everywhere_and_survives_a_restart() {
    let mut bench = Bench::in_use();
    bench.rotate();
    let subject =
        bench.credentials.device(EP).unwrap().management.clone().unwrap().credentials[0].subject.clone();
    let identity = subject.identity().unwrap();
    let commands = bench.credentials.revoke(bench.now, "test", EP, None, "lost").unwrap();
    assert!(commands.contains(&close(None)));
    for _ in 0..2 {
        assert_eq!(
            bench.credentials.look_up(Role::Management, identity.bytes()).unwrap_err(),
            Refusal::Revoked
        );
        assert_eq!(bench.credentials.look_up(Role::Bootstrap, b"bs-1").unwrap_err(), Refusal::Revoked);
        assert_eq!((bench.admit(1), bench.admit(2)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
        assert!(bench.credentials.bootstrap_plan(bench.now, &bench.who(Role::Bootstrap, 1)).is_err());
        assert!(bench.credentials.admit_without_security(Role::Management, EP).is_err());
        assert!(bench.tick_after(2 * HOUR).is_empty());
        bench.restart();
    }
    for generation in [1, 2] {
        assert!(bench.store.secret(EP, Role::Management, generation).unwrap().is_none());
    }
    assert!(bench.credentials.revoke(bench.now, "test", EP, None, "again").unwrap().is_empty());
}

#[test]
fn a_revoked_management_account_ends_the_bootstrap_under_way_and_its_rotation() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.hand_out();
    let commands = bench.credentials.revoke(bench.now, "test", EP, Some(Role::Management), "lost").unwrap();
    let bootstrap = Command::CloseSessions { endpoint: EP.into(), role: Role::Bootstrap, generation: None };
    assert_eq!(commands, [close(None), bootstrap]);
    assert_eq!((bench.admit(1), bench.admit(2)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation: 2,
        step: "Bootstrap-Write /0/1".into(),
        code: None,
    });
    assert!(bench.tick_after(2 * HOUR).is_empty());
    assert_eq!((bench.state(), bench.note()), (State::Revoked, "lost".to_owned()));
    assert!(bench.credentials.look_up(Role::Bootstrap, b"bs-1").is_ok(), "the bootstrap account stays");
    // The way back: a new management credential by way of the same bootstrap account.
    let enrol = EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::Psk) };
    let enrol = Enrol { accounts: vec![enrol], ..Enrol::default() };
    bench.credentials.enrol(bench.now, "test", EP, &enrol).unwrap();
    bench.bootstrap();
    bench.register(3);
    assert_eq!((bench.state(), bench.admit(3)), (State::InUse, Ok(())));
}

#[test]
fn a_rotation_that_lost_its_bootstrap_account_rolls_back_unless_the_new_one_was_handed_out() {
    let mut bench = Bench::in_use();
    bench.rotate();
    let revoke = |bench: &Bench| {
        bench.credentials.revoke(bench.now, "test", EP, Some(Role::Bootstrap), "leaked").unwrap();
    };
    revoke(&bench);
    assert_eq!(bench.state(), State::InUse);
    assert!(bench.note().contains("the bootstrap account was revoked"), "{}", bench.note());
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Err(Refusal::RolledBack)));

    let mut bench = Bench::in_use();
    bench.rotate();
    bench.hand_out();
    revoke(&bench);
    assert_eq!((bench.admit(1), bench.admit(2)), (Ok(()), Ok(())), "the device may hold either");
    assert!(bench.tick_after(10 * MINUTE).is_empty(), "no trigger leads to a refused bootstrap");
    bench.register(2);
    bench.tick_after(5 * MINUTE);
    assert_eq!((bench.state(), bench.admit(2)), (State::InUse, Ok(())));
}

#[test]
fn a_lost_answer_to_finish_leaves_no_complaint_about_a_proven_credential() {
    let mut bench = Bench::in_use();
    bench.rotate();
    let generation = bench.hand_out();
    bench.register(2);
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation,
        step: "Bootstrap-Finish".into(),
        code: None,
    });
    assert_eq!(bench.note(), "");
    bench.tick_after(5 * MINUTE);
    assert_eq!((bench.state(), bench.note()), (State::InUse, String::new()));
}

#[test]
fn an_unreachable_device_is_told_of_with_the_last_failure() {
    let mut bench = Bench::in_use();
    bench.rotate();
    let generation = bench.hand_out();
    bench.report(&Fact::BootstrapFailed {
        endpoint: EP.into(),
        generation,
        step: "Bootstrap-Write /1/0".into(),
        code: None,
    });
    bench.tick_after(HOUR);
    assert!(matches!(bench.state(), State::Unreachable(_)));
    assert!(bench.note().ends_with("(no answer to Bootstrap-Write /1/0)"), "{}", bench.note());
}

#[test]
fn a_proven_server_uri_stays_for_the_bootstraps_that_follow() {
    let mut bench = Bench::in_use();
    let uri = "coaps://moved.example:5684";
    let rotate = Rotate { server_uri: Some(uri.into()), ..Rotate::default() };
    bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
    bench.bootstrap();
    bench.register(2);
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
    bench.restart();
    let plan = bench.credentials.bootstrap_plan(bench.now, &bench.who(Role::Bootstrap, 1)).unwrap();
    assert_eq!(plan.account.security[0].1, Setting::Text(uri.into()));
}

#[test]
fn a_server_uri_that_was_not_proven_in_time_is_not_written_again() {
    let mut bench = Bench::in_use();
    let rotate = Rotate { server_uri: Some("coaps://nowhere.example".into()), ..Rotate::default() };
    bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
    bench.bootstrap();
    bench.tick_after(25 * HOUR);
    assert!(matches!(bench.state(), State::Unreachable(_)));
    let plan = bench.credentials.bootstrap_plan(bench.now, &bench.who(Role::Bootstrap, 1)).unwrap();
    assert_eq!(
        (plan.generation, &plan.account.security[0].1),
        (2, &Setting::Text("coaps://127.0.0.1:5684".into()))
    );
    bench.register(2);
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
    assert_eq!(bench.credentials.device(EP).unwrap().profile.server_uri, None);
}

#[test]
fn a_server_uri_proven_after_the_deadline_stays_as_well() {
    let mut bench = Bench::in_use();
    let uri = "coaps://moved.example:5684";
    let rotate = Rotate { server_uri: Some(uri.into()), ..Rotate::default() };
    bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
    bench.bootstrap();
    bench.tick_after(25 * HOUR);
    assert!(matches!(bench.state(), State::Unreachable(_)));
    bench.register(2);
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
    assert_eq!(bench.credentials.device(EP).unwrap().profile.server_uri.as_deref(), Some(uri));
    let rows = bench.credentials.audit(Some(EP), None, 100).unwrap();
    assert!(rows.iter().any(|row| row.what == "profile"), "{rows:?}");
}

#[test]
fn a_server_uri_that_a_bootstrap_wrote_over_stays_so_after_a_restart() {
    let mut bench = Bench::in_use();
    let rotate = Rotate { server_uri: Some("coaps://nowhere.example".into()), ..Rotate::default() };
    bench.credentials.rotate(bench.now, "test", EP, &rotate).unwrap();
    bench.bootstrap();
    bench.tick_after(25 * HOUR);
    assert!(matches!(bench.state(), State::Unreachable(_)));
    // The server stops before the device acknowledges the Finish.
    bench.hand_out();
    bench.restart();
    bench.register(2);
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
    assert_eq!(bench.credentials.device(EP).unwrap().profile.server_uri, None);
}

/// A store that fails to write one device, or all when it is given none.
struct Failing {
    inner: Arc<dyn Store>,
    endpoint: Option<&'static str>,
    failures: Arc<AtomicUsize>,
}

impl Store for Failing {
    fn devices(&self) -> Result<Vec<Device>, StoreError> {
        self.inner.devices()
    }
    fn commit(&self, change: &Change<'_>) -> Result<(), StoreError> {
        if self.endpoint.is_none_or(|endpoint| change.device.endpoint == endpoint) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            Err(StoreError::Conflict)
        } else {
            self.inner.commit(change)
        }
    }
    fn is_writable(&self) -> Result<(), StoreError> {
        self.inner.is_writable()
    }
    fn secret(&self, endpoint: &str, role: Role, generation: u32) -> Result<Option<Kept>, StoreError> {
        self.inner.secret(endpoint, role, generation)
    }
    fn note(&self, actor: &str, now: u64, endpoint: Option<&str>, it: &Happened) -> Result<(), StoreError> {
        self.inner.note(actor, now, endpoint, it)
    }
    fn audit(&self, of: Option<&str>, after: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.inner.audit(of, after, limit)
    }
    fn verify_audit(&self) -> Result<u64, StoreError> {
        self.inner.verify_audit()
    }
    fn backup(
        &self,
        now_ms: u64,
        actor: &str,
    ) -> Result<(std::fs::File, lwm2m_server::store::Backup), StoreError> {
        self.inner.backup(now_ms, actor)
    }

    fn ticket_root(&self) -> Result<zeroize::Zeroizing<[u8; 32]>, StoreError> {
        self.inner.ticket_root()
    }
    fn expect_sessions(&self, file: &[u8; 16]) -> Result<(), StoreError> {
        self.inner.expect_sessions(file)
    }
    fn consume_sessions(&self, file: Option<&[u8; 16]>) -> Result<bool, StoreError> {
        self.inner.consume_sessions(file)
    }
    fn requests(&self) -> Result<(u64, Heads), StoreError> {
        self.inner.requests()
    }
    fn put_requests(&self, now: u64, changes: &[RequestChange]) -> Result<(), StoreError> {
        self.inner.put_requests(now, changes)
    }
    fn request(&self, endpoint: &str, id: u64) -> Result<Option<QueuedRequest>, StoreError> {
        self.inner.request(endpoint, id)
    }
    fn requests_of(&self, endpoint: &str) -> Result<Vec<QueuedRequest>, StoreError> {
        self.inner.requests_of(endpoint)
    }
    fn observations_of(&self, endpoint: &str) -> Result<Intents, StoreError> {
        self.inner.observations_of(endpoint)
    }
    fn add_observation(
        &self,
        endpoint: &str,
        intent: &Intent,
        most: usize,
    ) -> Result<Option<Wanted>, StoreError> {
        self.inner.add_observation(endpoint, intent, most)
    }
    fn change_observations(
        &self,
        changes: &[(Arc<str>, ObservationId, IntentChange)],
    ) -> Result<usize, StoreError> {
        self.inner.change_observations(changes)
    }
    fn observed(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>, StoreError> {
        self.inner.observed(after, limit)
    }
    fn profiles(&self) -> Result<lwm2m_server::profiles::Profiles, StoreError> {
        self.inner.profiles()
    }

    fn put_profile(&self, actor: &str, now: u64, name: &str, of: u32, body: &[u8]) -> Result<(), StoreError> {
        self.inner.put_profile(actor, now, name, of, body)
    }

    fn remove_profile(&self, actor: &str, now: u64, name: &str) -> Result<(), StoreError> {
        self.inner.remove_profile(actor, now, name)
    }

    fn variables(&self, endpoint: &str) -> Result<lwm2m_server::profiles::Secrets, StoreError> {
        self.inner.variables(endpoint)
    }

    fn models(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.models()
    }
    fn put_model(&self, actor: &str, now: u64, of: (u16, Version), xml: &[u8]) -> Result<(), StoreError> {
        self.inner.put_model(actor, now, of, xml)
    }
    fn reserve(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError> {
        self.inner.reserve(reservations)
    }
    fn reserved(&self, fingerprint: &[u8; 8]) -> Result<Option<oscore::Saved>, StoreError> {
        self.inner.reserved(fingerprint)
    }
    fn campaigns(&self) -> &dyn lwm2m_server::store::CampaignStore {
        self.inner.campaigns()
    }
    fn tokens(&self) -> Result<Vec<([u8; 32], TokenRecord)>, StoreError> {
        self.inner.tokens()
    }
    fn remove_token(&self, hash: &[u8; 32], actor: &str, now_ms: u64) -> Result<(), StoreError> {
        self.inner.remove_token(hash, actor, now_ms)
    }

    fn audit_within(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, u64), StoreError> {
        self.inner.audit_within(scope, after, limit)
    }

    fn put_token(&self, hash: &[u8; 32], token: &TokenRecord) -> Result<(), StoreError> {
        self.inner.put_token(hash, token)
    }
}

#[test]
fn a_device_that_cannot_be_stored_does_not_keep_the_sessions_of_others_open() {
    // The order of a tick is not fixed: with several devices the broken one is not always the last.
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "broken"];
    let bench = Bench::new();
    let mut now = bench.now;
    let mut credentials = bench.credentials;
    for name in NAMES {
        let enrol = Enrol { accounts: vec![given(Role::Bootstrap, name, 1)], ..Enrol::default() };
        credentials.enrol(now, "test", name, &enrol).unwrap();
        let who = |generation| Authenticated::new(name.into(), Role::Management, generation);
        for generation in [1, 2] {
            if generation == 2 {
                credentials.rotate(now, "test", name, &Rotate::default()).unwrap();
            }
            now += 1;
            credentials.report(now, &Fact::Handshake { who: who(generation), full: true }).unwrap();
            credentials.report(now, &Fact::Registered { who: who(generation) }).unwrap();
        }
    }
    let failing =
        Failing { inner: Arc::clone(&bench.store), endpoint: Some("broken"), failures: Arc::default() };
    credentials = Credentials::open(Arc::new(failing), Settings::default()).unwrap();
    let mut closed: Vec<String> = credentials
        .report(now + HOUR, &Fact::Tick)
        .unwrap()
        .into_iter()
        .map(|command| match command {
            Command::CloseSessions { endpoint, generation: Some(1), .. } => endpoint.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    closed.sort();
    assert_eq!(closed, NAMES[..7]);
    // Nothing of it is lost: the next tick with a store that works retires the last one too.
    credentials = Credentials::open(Arc::clone(&bench.store), Settings::default()).unwrap();
    assert_eq!(credentials.report(now + HOUR, &Fact::Tick).unwrap().len(), 1);
}

#[test]
fn a_store_that_cannot_be_written_is_not_asked_for_a_whole_fleet_in_one_tick() {
    let bench = Bench::new();
    let names: Vec<String> = (0..40).map(|number| format!("fleet-{number}")).collect();
    for name in &names {
        let enrol = Enrol { accounts: vec![given(Role::Bootstrap, name, 1)], ..Enrol::default() };
        bench.credentials.enrol(bench.now, "test", name, &enrol).unwrap();
        let who = Authenticated::new(name.as_str().into(), Role::Management, 1);
        bench.credentials.report(bench.now, &Fact::Handshake { who: who.clone(), full: true }).unwrap();
        bench.credentials.report(bench.now, &Fact::Registered { who }).unwrap();
        bench.credentials.rotate(bench.now, "test", name, &Rotate::default()).unwrap();
    }
    let failures = Arc::<AtomicUsize>::default();
    let failing =
        Failing { inner: Arc::clone(&bench.store), endpoint: None, failures: Arc::clone(&failures) };
    let broken = Credentials::open(Arc::new(failing), Settings::default()).unwrap();
    assert!(broken.report(bench.now + 25 * HOUR, &Fact::Tick).unwrap().is_empty());
    assert_eq!(failures.load(Ordering::Relaxed), 8);
    // Those that were left wait for a store that works.
    bench.credentials.report(bench.now + 25 * HOUR, &Fact::Tick).unwrap();
    assert!(names.iter().all(|name| {
        let device = bench.credentials.device(name).unwrap();
        device.management.as_ref().unwrap().state == State::InUse
    }));
}

#[test]
fn of_operators_who_act_at_once_one_rotates_and_a_revocation_always_wins() {
    for _ in 0..20 {
        let bench = Bench::in_use();
        let (credentials, now) = (&bench.credentials, bench.now);
        let rotated = std::thread::scope(|scope| {
            let rotate = || credentials.rotate(now, "test", EP, &Rotate::default()).is_ok();
            let rotations = [scope.spawn(rotate), scope.spawn(rotate), scope.spawn(rotate)];
            scope.spawn(|| credentials.suspend(now, "test", EP, "odd"));
            scope.spawn(|| credentials.revoke(now, "test", EP, None, "lost").unwrap());
            scope.spawn(|| credentials.resume(now, "test", EP, "fine"));
            rotations.into_iter().filter_map(|rotation| rotation.join().ok()).filter(|done| *done).count()
        });
        assert!(rotated <= 1, "{rotated} rotations at once");
        assert_eq!(bench.state(), State::Revoked);
        for generation in [1, 2] {
            assert!(bench.admit(generation).is_err());
            assert!(bench.store.secret(EP, Role::Management, generation).unwrap().is_none());
        }
        let rows = bench.store.audit(Some(EP), Some(0), 100).unwrap();
        assert_eq!(rows.iter().filter(|row| row.what == "staged").count(), rotated);
        assert_eq!(bench.store.verify_audit().unwrap(), rows.len() as u64);
    }
}

#[test]
fn new_credentials_bring_a_revoked_device_back_but_never_the_revoked_ones() {
    let mut bench = Bench::in_use();
    bench.credentials.revoke(bench.now, "test", EP, None, "lost").unwrap();
    let same = Enrol { accounts: vec![given(Role::Bootstrap, "bs-1", 2)], ..Enrol::default() };
    assert!(bench.credentials.enrol(bench.now, "test", EP, &same).is_err());
    let fresh = Enrol { accounts: vec![given(Role::Bootstrap, "bs-2", 2)], ..Enrol::default() };
    bench.credentials.enrol(bench.now, "test", EP, &fresh).unwrap();
    assert_eq!(bench.admit(1), Err(Refusal::Revoked));
    assert!(bench.credentials.look_up(Role::Bootstrap, b"bs-1").is_err());
    assert_eq!(bench.credentials.look_up(Role::Bootstrap, b"bs-2").unwrap().who.generation, 2);
    bench.restart();
    assert!(bench.credentials.look_up(Role::Bootstrap, b"bs-1").is_err());
    assert!(bench.credentials.look_up(Role::Bootstrap, b"bs-2").is_ok());
}

#[test]
fn a_suspension_stops_the_clock_of_a_rotation() {
    let mut bench = Bench::in_use();
    bench.rotate();
    let commands = bench.credentials.suspend(bench.now, "test", EP, "audit").unwrap();
    assert!(commands.contains(&close(None)));
    assert_eq!(bench.admit(1), Err(Refusal::Suspended));
    bench.tick_after(5 * HOUR);
    assert!(matches!(bench.state(), State::Rotating(_)));
    bench.credentials.resume(bench.now, "test", EP, "done").unwrap();
    assert_eq!(bench.admit(1), Ok(()));
    bench.tick_after(HOUR / 2);
    assert!(matches!(bench.state(), State::Rotating(_)));
    bench.tick_after(HOUR);
    assert_eq!(bench.state(), State::InUse);
}

#[test]
fn a_decommissioned_device_cannot_come_back() {
    let mut bench = Bench::in_use();
    bench.credentials.decommission(bench.now, "test", EP, "scrapped").unwrap();
    bench.restart();
    assert_eq!(bench.admit(1), Err(Refusal::Decommissioned));
    let fresh = Enrol { accounts: vec![given(Role::Bootstrap, "bs-9", 2)], ..Enrol::default() };
    assert!(bench.credentials.enrol(bench.now, "test", EP, &fresh).is_err());
    assert!(bench.credentials.resume(bench.now, "test", EP, "").is_err());
}

#[test]
fn plain_coap_is_closed_unless_opened_and_always_for_devices_with_a_credential() {
    let mut bench = Bench::new();
    assert_eq!(bench.credentials.admit_without_security(Role::Management, "x"), Err(Refusal::NoSecClosed));
    let open = Enrol { allow_nosec: Some(true), ..Enrol::default() };
    bench.credentials.enrol(1, "test", "x", &open).unwrap();
    assert_eq!(bench.credentials.admit_without_security(Role::Management, "x"), Ok(()));
    let plan = bench.credentials.bootstrap_plan_without_security("x").unwrap();
    assert_eq!(plan.account.security[2].1, Setting::Integer(3));
    let secure = Enrol { accounts: vec![given(Role::Management, "x", 1)], ..Enrol::default() };
    bench.credentials.enrol(2, "test", "x", &secure).unwrap();
    assert_eq!(bench.credentials.admit_without_security(Role::Management, "x"), Err(Refusal::HasCredential));
    bench.restart();
    assert_eq!(bench.credentials.admit_without_security(Role::Bootstrap, "x"), Err(Refusal::HasCredential));
}

#[test]
fn pre_flight_checks_refuse_in_words() {
    let refusal = |bench: &Bench, rotate: &Rotate| {
        bench.credentials.rotate(1, "test", EP, rotate).unwrap_err().to_string()
    };
    let default = Rotate::default();
    let mut bench = Bench::new();
    assert!(refusal(&bench, &default).contains("no such device"));
    let only = Enrol { accounts: vec![given(Role::Management, "dm", 1)], ..Enrol::default() };
    bench.credentials.enrol(1, "test", EP, &only).unwrap();
    assert!(refusal(&bench, &default).contains("no bootstrap account"));
    bench.enrol_bootstrap();
    assert!(refusal(&bench, &default).contains("never proven"));
    bench.register(1);
    let bootstrap = Rotate { role: Role::Bootstrap, ..Rotate::default() };
    assert!(refusal(&bench, &bootstrap).contains("bootstrap account cannot be rotated"));
    let uri = Rotate { server_uri: Some("http://x".into()), ..Rotate::default() };
    assert!(refusal(&bench, &uri).contains("coaps://"));
    let rotated = bench.credentials.rotate(bench.now, "test", EP, &default).unwrap();
    assert_eq!(rotated.warnings, ["the bootstrap account was never used yet"]);
    assert!(refusal(&bench, &default).contains("under way"));
}

#[test]
fn a_working_credential_cannot_be_replaced_by_enrolling_another() {
    let bench = Bench::in_use();
    let other = Enrol { accounts: vec![given(Role::Bootstrap, "bs-1", 7)], ..Enrol::default() };
    assert!(bench.credentials.enrol(1, "test", EP, &other).is_err());
    let stolen = Enrol { accounts: vec![given(Role::Bootstrap, "bs-1", 1)], ..Enrol::default() };
    assert!(bench.credentials.enrol(1, "test", "someone-else", &stolen).is_err());
    assert!(bench.credentials.device("someone-else").is_none(), "nothing of a refused act is kept");
}

#[test]
fn the_audit_log_is_chained_and_holds_no_secret() {
    let mut bench = Bench::in_use();
    bench.rotate();
    bench.bootstrap();
    bench.register(2);
    let key = bench.store.secret(EP, Role::Management, 2).unwrap().unwrap();
    bench.tick_after(HOUR);
    let rows = bench.credentials.audit(Some(EP), Some(0), 1000).unwrap();
    assert_eq!(bench.credentials.audit(None, None, 2).unwrap(), rows[rows.len() - 2..]);
    assert_eq!(bench.credentials.audit(Some(EP), Some(3), 2).unwrap(), rows[3..5]);
    let steps: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(
        steps,
        [
            "enrolled",
            "enrolled",
            "in use",
            "bootstrapping",
            "delivered",
            "in use",
            "staged",
            "handed out",
            "delivered",
            "proven",
            "old retired",
            "in use"
        ]
    );
    assert_eq!(bench.store.verify_audit().unwrap(), rows.len() as u64);
    let text = serde_json::to_string(&rows).unwrap();
    assert!(!text.contains(&hex::encode(key.psk().unwrap().bytes())));
}
