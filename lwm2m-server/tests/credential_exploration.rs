//! Every interleaving of two operators, the device and its restarts, lost messages, crashes of the server and time, up to a depth: a
//! device that holds a credential the server told it to use is never refused, a revoked one is never accepted nor keeps its session,
//! and whatever happened, the device comes back by itself.
//!
//! That the exploration would see it if the machine were wrong is shown by faults: each is put into the machine, and found.
//!
//! The device is the client of this project: a bootstrap stages, Finish commits and keeps the previous account, a Register
//! with the new one confirms it, and giving up on the new one brings the previous one back.

#![expect(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "test")]

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use lwm2m_server::credentials::{
    Account, Authenticated, Command, Device, Fact, Fetch, HoldKind, Identity, Outcome, Phase, Role, Rotation,
    Standing, State, Subject, Trigger, TriggerAnswer,
};

const SECOND: u64 = 1_000;
const DEADLINE: u64 = 900 * SECOND;
const GRACE: u64 = 400 * SECOND;
/// What the two operators do in all, one of them or both.
const ACTS: u8 = 4;

/// What the device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holds {
    Nothing,
    Using(u32),
    /// Committed at Finish, not confirmed; the previous one is kept.
    Trying {
        new: u32,
        previous: Option<u32>,
    },
}

impl Holds {
    fn credential(self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Using(generation) | Self::Trying { new: generation, .. } => Some(generation),
        }
    }

    fn given_up(self) -> Self {
        match self {
            Self::Trying { previous: Some(previous), .. } => Self::Using(previous),
            Self::Trying { previous: None, .. } => Self::Nothing,
            other => other,
        }
    }

    fn committed(self, new: u32) -> Self {
        match self {
            Self::Nothing => Self::Trying { new, previous: None },
            Self::Using(old) | Self::Trying { new: old, .. } => Self::Trying { new, previous: Some(old) },
        }
    }
}

/// A way for the machine to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The old one is retired when the new one was delivered.
    RetiresAtDelivery,
    /// A session that was taken up again counts as a handshake.
    ResumptionIsProof,
    /// At the deadline a credential is rolled back that the device may hold.
    RollsBackWhatMayBeHeld,
    /// The old one is retired as soon as the new one is proven.
    HasNoGrace,
    /// The device went back to the old one within the grace time, and the proof stands.
    ProofStands,
    /// A bootstrap is handed the new one, and nobody notes it.
    HandOutIsNotNoted,
    /// It is noted, and not stored.
    HandOutIsNotStored,
    /// That the old one was used before the last hand-out still counts.
    EvidenceStays,
    /// That the old one is used while a bootstrap runs counts.
    EvidenceCountsAtOnce,
    /// A revocation is acknowledged before it is stored.
    RevocationIsNotStored,
    /// A revocation ends the current credential and leaves the others.
    RevokesTheCurrentAlone,
    /// Sessions of what ended go on.
    SessionsStay,
    /// The bootstrap account goes with the management account.
    BootstrapAccountGoesToo,
    /// A second rotation takes back the credential of the first.
    SecondRotationTakesTheFirstBack,
}

const FAULTS: [Fault; 14] = [
    Fault::RetiresAtDelivery,
    Fault::ResumptionIsProof,
    Fault::RollsBackWhatMayBeHeld,
    Fault::HasNoGrace,
    Fault::ProofStands,
    Fault::HandOutIsNotNoted,
    Fault::HandOutIsNotStored,
    Fault::EvidenceStays,
    Fault::EvidenceCountsAtOnce,
    Fault::RevocationIsNotStored,
    Fault::RevokesTheCurrentAlone,
    Fault::SessionsStay,
    Fault::BootstrapAccountGoesToo,
    Fault::SecondRotationTakesTheFirstBack,
];

#[derive(Clone, Debug)]
struct World {
    record: Device,
    /// What a crash leaves.
    stored: Device,
    now: u64,
    holds: Holds,
    /// The management session that lives was opened with this generation.
    session: Option<u32>,
    /// What the device would take up a session with, also after a restart.
    kept_session: Option<u32>,
    /// The last Register that reached the server came with it.
    last_seen: Option<u32>,
    /// A bootstrap is writing this generation to the device.
    writing: Option<u32>,
    /// The server's half of it.
    delivering: Option<u32>,
    /// The device was asked to begin a bootstrap, and has not answered.
    is_triggered: bool,
    rotations: u8,
    acts: u8,
    crashes: u8,
    restarts: u8,
    revoked: [bool; 2],
    fault: Option<Fault>,
}

fn management(device: &mut Device) -> &mut Account {
    device.management.as_mut().unwrap()
}

impl World {
    fn new(fault: Option<Fault>) -> Self {
        let mut record = Device::new("device");
        let mut bootstrap = Account::new(Subject::Psk(Identity::new(b"bs").unwrap()), 0);
        bootstrap.state = State::InUse;
        record.set_account(Role::Bootstrap, bootstrap);
        let mut management = Account::new(Subject::Psk(Identity::new(b"1").unwrap()), 0);
        management.state = State::Armed;
        record.set_account(Role::Management, management);
        Self {
            stored: record.clone(),
            record,
            now: 0,
            holds: Holds::Nothing,
            session: None,
            kept_session: None,
            last_seen: None,
            writing: None,
            delivering: None,
            is_triggered: false,
            rotations: 0,
            acts: 0,
            crashes: 0,
            restarts: 0,
            revoked: [false; 2],
            fault,
        }
    }

    /// The same with the first credential in use.
    fn in_use(fault: Option<Fault>) -> Self {
        let mut world = Self::new(fault);
        world.begin_bootstrap();
        (world.writing, world.delivering) = (None, None);
        world.step(&Fact::BootstrapDelivered { endpoint: "device".into(), generation: 1 });
        world.register(1);
        world.holds = Holds::Using(1);
        assert_eq!(*world.state(), State::InUse);
        world
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn who(generation: u32) -> Authenticated {
        Authenticated::new("device".into(), Role::Management, generation)
    }

    fn state(&self) -> &State {
        &self.record.management.as_ref().unwrap().state
    }

    fn is_revoked(&self) -> bool {
        self.revoked[1]
    }

    /// Stores what is to be stored, and does what follows.
    fn take(&mut self, outcome: Outcome) {
        if outcome.durable {
            let stored = serde_json::to_string(&self.record).unwrap();
            self.stored = serde_json::from_str(&stored).unwrap();
        }
        for command in outcome.commands {
            match command {
                Command::TriggerBootstrap { .. } => self.is_triggered = self.session.is_some(),
                // It registers anew, or tries to, in any case.
                Command::ForgetRegistration { .. } => {}
                Command::CloseSessions { .. } if self.has(Fault::SessionsStay) => {}
                Command::CloseSessions { role: Role::Bootstrap, .. } => self.delivering = None,
                Command::CloseSessions { generation, .. } => {
                    if generation.is_none_or(|generation| self.session == Some(generation)) {
                        self.session = None;
                    }
                }
            }
        }
    }

    fn step(&mut self, fact: &Fact) {
        let before = self.record.clone();
        let mut fact = fact.clone();
        match (&mut fact, self.fault) {
            (Fact::Handshake { full, .. }, Some(Fault::ResumptionIsProof)) => *full = true,
            (Fact::Registered { .. }, Some(Fault::EvidenceCountsAtOnce)) => {
                if let State::Rotating(rotation) = &mut management(&mut self.record).state {
                    rotation.open_since_ms = None;
                }
            }
            _ => {}
        }
        let mut outcome = self.record.step(self.now, &fact);
        self.spoil(&before, &fact, &mut outcome);
        self.take(outcome);
    }

    /// Puts the fault into what the machine did.
    fn spoil(&mut self, before: &Device, fact: &Fact, outcome: &mut Outcome) {
        let Some(fault) = self.fault else { return };
        let former = before.management.as_ref().unwrap().state.clone();
        let account = management(&mut self.record);
        match (fault, fact, account.state.clone()) {
            (Fault::RetiresAtDelivery, Fact::BootstrapDelivered { .. }, State::Rotating(rotation)) => {
                account.set_standing(rotation.from, Standing::Retired);
            }
            (Fault::RollsBackWhatMayBeHeld, Fact::Tick, State::Unreachable(rotation)) => {
                account.set_standing(rotation.to, Standing::RolledBack);
            }
            (Fault::HasNoGrace, Fact::Registered { .. }, State::Rotating(rotation))
                if rotation.phase == Phase::Proven =>
            {
                account.set_standing(rotation.from, Standing::Retired);
            }
            (Fault::ProofStands, Fact::Registered { .. }, State::Rotating(_)) => {
                if matches!(&former, State::Rotating(rotation) if rotation.phase == Phase::Proven) {
                    account.state = former;
                    outcome.commands.clear();
                }
            }
            _ => {}
        }
    }

    /// A full handshake and a Register as the server sees them.
    fn register(&mut self, generation: u32) {
        self.session = Some(generation);
        self.kept_session = Some(generation);
        self.step(&Fact::Handshake { who: Self::who(generation), full: true });
        if self.record.is_withheld() {
            return;
        }
        self.last_seen = Some(generation);
        self.step(&Fact::Registered { who: Self::who(generation) });
    }

    fn rotate(&mut self) {
        let is_under_way = matches!(self.state(), State::Rotating(_));
        let may = self.record.may_rotate().is_ok()
            || (is_under_way && self.has(Fault::SecondRotationTakesTheFirstBack));
        if !may || self.rotations >= 2 {
            return;
        }
        self.rotations += 1;
        let name = format!("r{}", self.rotations);
        let account = management(&mut self.record);
        if let Some(first) = account.rotation().map(|rotation| rotation.to) {
            account.set_standing(first, Standing::RolledBack);
        }
        let from = account.current;
        let to = account.add(Subject::Psk(Identity::new(name.as_bytes()).unwrap()), 0);
        let outcome = self.record.start_rotation(Rotation {
            from,
            to,
            phase: Phase::Staged,
            started_ms: self.now,
            deadline_ms: self.now + DEADLINE,
            grace_ms: GRACE,
            retire_ms: None,
            server_uri: None,
            reason: String::new(),
            handed_out: false,
            old_seen: false,
            open_since_ms: None,
            // Of the second one the operator agrees that a device without a trigger has no service meanwhile.
            fetch: if self.rotations == 2 { Fetch::Withhold } else { Fetch::Trigger },
            is_withheld: false,
            trigger: Some(Trigger::new()),
            attempt_ms: None,
        });
        self.take(outcome);
    }

    fn revoke(&mut self, role: Option<Role>) {
        let before = self.record.clone();
        let mut outcome = self.record.revoke(self.now, role, "");
        if self.has(Fault::RevocationIsNotStored) {
            outcome.durable = false;
        }
        let account = management(&mut self.record);
        if self.fault == Some(Fault::RevokesTheCurrentAlone) {
            for credential in &mut account.credentials {
                if credential.generation != account.current {
                    let former = before.management.as_ref().unwrap().credential(credential.generation);
                    credential.standing = former.unwrap().standing;
                }
            }
        }
        if self.fault == Some(Fault::BootstrapAccountGoesToo) && role == Some(Role::Management) {
            self.record.bootstrap.as_mut().unwrap().set_standing(1, Standing::Revoked);
        }
        for (is_revoked, each) in self.revoked.iter_mut().zip(Role::ALL) {
            *is_revoked |= role.is_none_or(|role| role == each);
        }
        self.take(outcome);
    }

    fn begin_bootstrap(&mut self) {
        if let Some(generation) = self.delivering {
            self.fail_bootstrap(generation);
        }
        let generation = self.record.management.as_ref().unwrap().deliverable();
        let before = self.record.clone();
        let mut outcome = self.record.hand_out(self.now, None);
        let former = before.management.as_ref().unwrap().rotation();
        match (self.fault, &mut management(&mut self.record).state) {
            (Some(Fault::HandOutIsNotNoted), State::Rotating(rotation) | State::Unreachable(rotation)) => {
                rotation.handed_out = false;
            }
            (Some(Fault::EvidenceStays), State::Rotating(rotation)) => {
                rotation.old_seen |= former.is_some_and(|former| former.old_seen);
            }
            (Some(Fault::HandOutIsNotStored), _) => outcome.durable = false,
            _ => {}
        }
        self.take(outcome);
        (self.writing, self.delivering) = (Some(generation), Some(generation));
    }

    fn fail_bootstrap(&mut self, generation: u32) {
        self.delivering = None;
        let (endpoint, step) = ("device".into(), "Bootstrap-Finish".into());
        self.step(&Fact::BootstrapFailed { endpoint, generation, step, code: None });
    }

    fn answer_trigger(&mut self, answer: TriggerAnswer) {
        self.is_triggered = false;
        self.step(&Fact::TriggerAnswered { endpoint: "device".into(), answer });
    }

    /// Every world that can follow, with the name of what happened.
    fn next(&self) -> Vec<(&'static str, World)> {
        let mut all = Vec::new();
        let mut go = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            all.push((name, world));
        };
        let is_held = self.record.hold.is_some();
        // Whatever the operators saw last, what they do comes in any order.
        if self.acts < ACTS {
            go("an operator rotates", &|world| {
                world.acts += 1;
                world.rotate();
            });
            if !is_held {
                go("an operator suspends", &|world| {
                    world.acts += 1;
                    let outcome = world.record.hold(world.now, HoldKind::Suspended, "");
                    world.take(outcome);
                });
            }
            for (name, role) in [
                ("an operator revokes the device", None),
                ("an operator revokes the management account", Some(Role::Management)),
                ("an operator revokes the bootstrap account", Some(Role::Bootstrap)),
            ] {
                go(name, &|world| {
                    world.acts += 1;
                    world.revoke(role);
                });
            }
        }
        if is_held && !self.is_revoked() {
            go("an operator resumes", &|world| {
                let outcome = world.record.resume(world.now, "");
                world.take(outcome);
            });
        }
        if self.is_triggered && self.session.is_some() {
            go("the trigger is accepted", &|world| world.answer_trigger(TriggerAnswer::Accepted));
            go("the trigger is refused", &|world| {
                world.answer_trigger(TriggerAnswer::Refused { code: "4.05".into(), after: None });
            });
            go("the device is busy", &|world| {
                world.answer_trigger(TriggerAnswer::Refused { code: "5.03".into(), after: Some(30) });
            });
            go("the trigger, or its answer, is lost", &|world| {
                world.answer_trigger(TriggerAnswer::Unanswered);
            });
        }
        let can_bootstrap = self.record.accepts(Role::Bootstrap, 1).is_ok() && !self.is_revoked();
        if self.writing.is_none() && !matches!(self.holds, Holds::Trying { .. }) && can_bootstrap {
            go("bootstrap begins", &World::begin_bootstrap);
        }
        if let Some(generation) = self.writing {
            go("finish, its answer lost", &|world| {
                world.writing = None;
                world.holds = world.holds.committed(generation);
            });
            if self.delivering.is_some() {
                go("finish", &|world| {
                    (world.writing, world.delivering) = (None, None);
                    world.holds = world.holds.committed(generation);
                    let endpoint = "device".into();
                    world.step(&Fact::BootstrapDelivered { endpoint, generation });
                });
            }
            go("the device gives the bootstrap up", &|world| world.writing = None);
        }
        if let Some(generation) = self.delivering {
            go("the server gives the bootstrap up", &|world| world.fail_bootstrap(generation));
        }
        if let Some(generation) = self.holds.credential() {
            if self.record.accepts(Role::Management, generation).is_ok() {
                go("register", &|world| {
                    world.register(generation);
                    world.holds = Holds::Using(generation);
                });
                go("register, its answer lost", &|world| world.register(generation));
            }
            // Seen in the field: a new key was written and the device goes on with the session it has, or takes up its last one.
            if let Some(session) = self.session.filter(|_| !self.record.is_withheld()) {
                go("register over the session there is", &|world| {
                    world.step(&Fact::Registered { who: Self::who(session) });
                });
            }
            let kept = self.kept_session.filter(|_| !self.record.is_withheld());
            let kept = kept.filter(|kept| self.record.accepts(Role::Management, *kept).is_ok());
            if let Some(kept) = kept {
                go("register over a session taken up", &|world| {
                    world.session = Some(kept);
                    world.step(&Fact::Handshake { who: Self::who(kept), full: false });
                    world.step(&Fact::Registered { who: Self::who(kept) });
                });
            }
            if matches!(self.holds, Holds::Trying { .. }) && self.writing.is_none() {
                go("the device gives the new one up", &|world| world.holds = world.holds.given_up());
            }
        }
        if self.restarts < 1 {
            go("the device restarts", &|world| {
                world.restarts += 1;
                world.writing = None;
            });
        }
        if self.crashes < 2 {
            go("crash", &|world| {
                world.crashes += 1;
                (world.session, world.delivering, world.is_triggered) = (None, None, false);
                world.record = world.stored.clone();
            });
        }
        if self.is_settled() {
            go("time passes", &World::pass);
        }
        all
    }

    /// Longer than a bootstrap may take, and than anything is on its way.
    fn pass(&mut self) {
        self.writing = None;
        if let Some(generation) = self.delivering {
            self.fail_bootstrap(generation);
        }
        self.now += 310 * SECOND;
        self.step(&Fact::Tick);
    }

    /// A device that was not answered registers again within the grace time, with what it has by then (assumed: 247 s and more).
    fn is_settled(&self) -> bool {
        match self.state() {
            State::Rotating(rotation) if rotation.phase == Phase::Proven => {
                matches!(self.holds, Holds::Using(generation) if self.last_seen == Some(generation))
                    && self.writing.is_none()
            }
            _ => true,
        }
    }

    fn check(&self) -> Result<(), String> {
        let account = self.record.management.as_ref().unwrap();
        if let Some(session) = self.session.filter(|_| self.record.hold.is_some() || self.is_revoked()) {
            return Err(format!("a session of generation {session} lives on"));
        }
        for (is_revoked, role) in
            self.revoked.into_iter().zip(Role::ALL).filter(|(is_revoked, _)| *is_revoked)
        {
            for credential in &self.record.account(role).unwrap().credentials {
                if self.record.accepts(role, credential.generation).is_ok() {
                    return Err(format!(
                        "{role} {} is revoked and accepted: {is_revoked}",
                        credential.generation
                    ));
                }
            }
        }
        if self.record.hold.is_some() {
            return Ok(());
        }
        if !self.revoked[0] && self.record.accepts(Role::Bootstrap, 1).is_err() {
            return Err("the bootstrap account is refused".to_owned());
        }
        if self.is_revoked() {
            return Ok(());
        }
        let may_hold = [self.holds.credential(), self.holds.given_up().credential(), self.writing];
        for generation in may_hold.into_iter().flatten() {
            if let Err(refusal) = self.record.accepts(Role::Management, generation) {
                return Err(format!("generation {generation} may be held and is refused: {refusal}"));
            }
        }
        if account.state == State::Revoked {
            return Err("the account is revoked, which nobody did".to_owned());
        }
        Ok(())
    }

    /// What the device does by itself, and nothing else happens: it ends managed.
    fn comes_back(mut self) -> Result<(), String> {
        if self.is_revoked() || (self.holds == Holds::Nothing && self.revoked[0]) {
            return Ok(());
        }
        if self.record.hold.is_some() {
            let outcome = self.record.resume(self.now, "");
            self.take(outcome);
        }
        (self.writing, self.crashes) = (None, u8::MAX);
        for _ in 0..8 {
            if let Some(generation) = self.delivering {
                self.fail_bootstrap(generation);
            }
            if self.holds == Holds::Nothing {
                self.begin_bootstrap();
                let generation = self.delivering.take().unwrap();
                (self.writing, self.holds) = (None, self.holds.committed(generation));
                self.step(&Fact::BootstrapDelivered { endpoint: "device".into(), generation });
            }
            let generation = self.holds.credential().unwrap();
            if self.record.accepts(Role::Management, generation).is_err() {
                return Err(format!("it comes with generation {generation} and is refused"));
            }
            self.register(generation);
            self.holds = Holds::Using(generation);
            if self.is_triggered {
                self.answer_trigger(TriggerAnswer::Unanswered);
            }
            self.pass();
        }
        match self.state() {
            State::InUse => Ok(()),
            other => Err(format!("it registers again and again, and is '{}'", other.as_str())),
        }
    }

    fn key(&self) -> u128 {
        let bare = |device: &Device| {
            let mut account = device.management.clone().unwrap();
            (account.last_success_ms, account.note) = (None, None);
            let hold = device.hold.as_ref().map(|hold| (hold.kind, hold.since_ms));
            let bootstrap = device.bootstrap.as_ref().map(|account| (&account.state, &account.credentials));
            format!("{account:?} {hold:?} {bootstrap:?}")
        };
        let Self { now, holds, session, kept_session, last_seen, writing, delivering, .. } = self;
        let counts =
            (self.rotations, self.acts, self.crashes, self.restarts, self.is_triggered, self.revoked);
        let device = (now, holds, session, kept_session, last_seen, writing, delivering, counts);
        let text = format!("{} {} {device:?}", bare(&self.record), bare(&self.stored));
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &text).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

/// What an exploration found.
#[derive(Debug, Default)]
struct Explored {
    worlds: usize,
    rolled_back: usize,
    completed: usize,
    unreachable: usize,
    /// How the first world came about that must not be, and why.
    violation: Option<(String, Vec<&'static str>)>,
}

fn explore(depth: usize, start: World) -> Explored {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::new();
    // Paths are kept as indices into what was expanded, to tell the story of a violation.
    let mut expanded: Vec<(usize, &'static str)> = vec![(0, "start")];
    queue.push_back((start, 0_usize, 0_usize));
    let mut explored = Explored::default();
    while let Some((world, at, level)) = queue.pop_front() {
        if level == depth {
            continue;
        }
        for (name, next) in world.next() {
            if !seen.insert(next.key()) {
                continue;
            }
            expanded.push((at, name));
            let index = expanded.len() - 1;
            let comes_back = || if next.fault.is_none() { next.clone().comes_back() } else { Ok(()) };
            if let Err(why) = next.check().and_then(|()| comes_back()) {
                let mut story = Vec::new();
                let mut step = index;
                while step != 0 {
                    let (before, name) = expanded.get(step).copied().unwrap();
                    story.push(name);
                    step = before;
                }
                story.reverse();
                explored.violation = Some((why, story));
                explored.worlds = seen.len();
                return explored;
            }
            if world.rotations > 0 && *next.state() == State::InUse && *world.state() != State::InUse {
                let current = next.record.management.as_ref().unwrap().current;
                if current == 1 { explored.rolled_back += 1 } else { explored.completed += 1 }
            }
            if matches!(next.state(), State::Unreachable(_))
                && !matches!(world.state(), State::Unreachable(_))
            {
                explored.unreachable += 1;
            }
            queue.push_back((next, index, level + 1));
        }
    }
    explored.worlds = seen.len();
    explored
}

#[test]
fn no_interleaving_refuses_a_device_or_accepts_a_revoked_one() {
    let depth: usize =
        std::env::var("LWM2M_EXPLORATION_DEPTH").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    for (name, start) in [("imported", World::new(None)), ("in use", World::in_use(None))] {
        let Explored { worlds, rolled_back, completed, unreachable, violation } = explore(depth, start);
        println!(
            "from '{name}': {worlds} worlds in {depth} steps, {rolled_back} rolled back, {completed} completed, {unreachable} unreachable"
        );
        if let Some((why, story)) = violation {
            panic!("{why}\nafter: {}", story.join(" · "));
        }
        assert!(
            name == "imported" || (rolled_back > 0 && completed > 0 && unreachable > 0),
            "all ends were reached"
        );
    }
}

#[test]
fn each_fault_in_the_machine_is_found() {
    for fault in FAULTS {
        let Explored { worlds, violation, .. } = explore(9, World::in_use(Some(fault)));
        let (why, story) = violation.unwrap_or_else(|| panic!("{fault:?} was not found in {worlds} worlds"));
        println!(
            "{fault:?} found in {worlds} worlds: {why}, after {} steps: {}",
            story.len(),
            story.join(" · ")
        );
    }
}
