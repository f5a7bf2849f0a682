//! Every interleaving of server, device, lost messages, crashes and time, up to a depth: a device that holds a credential
//! the server told it to use is never refused, and a revoked one is never accepted.
//!
//! The device is the client of this project: a bootstrap stages, Finish commits and keeps the previous account, a Register
//! with the new one confirms it, and giving up on the new one brings the previous one back.

#![expect(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "test")]

use std::collections::{HashSet, VecDeque};

use lwm2m_server::credentials::{
    Account, Authenticated, Device, Fact, HoldKind, Identity, Phase, Role, Rotation, State, Subject, Trigger,
};

const SECOND: u64 = 1_000;
const DEADLINE: u64 = 900 * SECOND;
const GRACE: u64 = 400 * SECOND;

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
}

#[derive(Clone, Debug)]
struct World {
    record: Device,
    now: u64,
    holds: Holds,
    /// The management session that lives was opened with this generation.
    session: Option<u32>,
    /// A bootstrap is writing this generation.
    bootstrap: Option<u32>,
    /// The server's half of that bootstrap ended with a crash.
    is_orphaned: bool,
    rotations: u8,
    crashes: u8,
    is_revoked: bool,
}

impl World {
    fn new() -> Self {
        let mut record = Device::new("device");
        let mut bootstrap = Account::new(Subject::Psk(Identity::new(b"bs").unwrap()), 0);
        bootstrap.state = State::InUse;
        record.set_account(Role::Bootstrap, bootstrap);
        let mut management = Account::new(Subject::Psk(Identity::new(b"1").unwrap()), 0);
        management.state = State::Armed;
        record.set_account(Role::Management, management);
        Self {
            record,
            now: 0,
            holds: Holds::Nothing,
            session: None,
            bootstrap: None,
            is_orphaned: false,
            rotations: 0,
            crashes: 0,
            is_revoked: false,
        }
    }

    fn who(generation: u32) -> Authenticated {
        Authenticated::new("device".into(), Role::Management, generation)
    }

    fn step(&mut self, fact: &Fact) {
        self.record.step(self.now, fact);
    }

    fn state(&self) -> &State {
        &self.record.management.as_ref().unwrap().state
    }

    /// A full handshake and a Register as the server sees them.
    fn register(&mut self, generation: u32) {
        self.session = Some(generation);
        self.step(&Fact::Handshake { who: Self::who(generation), full: true });
        self.step(&Fact::Registered { who: Self::who(generation) });
    }

    /// Every world that can follow, with the name of what happened.
    fn next(&self) -> Vec<(&'static str, World)> {
        let mut all = Vec::new();
        let mut go = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            all.push((name, world));
        };
        if self.rotations < 2 && *self.state() == State::InUse && self.record.hold.is_none() {
            go("rotate", &|world| {
                world.rotations += 1;
                let name = format!("r{}", world.rotations);
                let account = world.record.management.as_mut().unwrap();
                let from = account.current;
                let to = account.add(Subject::Psk(Identity::new(name.as_bytes()).unwrap()), 0);
                let rotation = Rotation {
                    from,
                    to,
                    phase: Phase::Staged,
                    started_ms: world.now,
                    deadline_ms: world.now + DEADLINE,
                    grace_ms: GRACE,
                    retire_ms: None,
                    server_uri: None,
                    reason: String::new(),
                    handed_out: false,
                    old_seen: false,
                    trigger: Some(Trigger::new()),
                    attempt_ms: None,
                };
                world.record.start_rotation(rotation);
            });
        }
        let is_held = self.record.hold.is_some();
        if self.bootstrap.is_none() && !matches!(self.holds, Holds::Trying { .. }) && !is_held {
            go("bootstrap begins", &|world| {
                world.bootstrap = Some(world.record.management.as_ref().unwrap().deliverable());
                world.is_orphaned = false;
                world.record.hand_out(world.now, None);
            });
        }
        if let Some(generation) = self.bootstrap {
            let commit = move |world: &mut World| {
                world.bootstrap = None;
                world.holds = match world.holds {
                    Holds::Nothing => Holds::Trying { new: generation, previous: None },
                    Holds::Using(old) | Holds::Trying { new: old, .. } => {
                        Holds::Trying { new: generation, previous: Some(old) }
                    }
                };
            };
            let endpoint: std::sync::Arc<str> = "device".into();
            let failed = Fact::BootstrapFailed {
                endpoint: std::sync::Arc::clone(&endpoint),
                generation,
                step: "finish".into(),
                code: None,
            };
            let delivered = Fact::BootstrapDelivered { endpoint, generation };
            if self.is_orphaned {
                go("the orphaned bootstrap was committed", &|world| commit(world));
                go("the orphaned bootstrap is given up", &|world| world.bootstrap = None);
            } else {
                go("finish", &|world| {
                    commit(world);
                    world.step(&delivered);
                });
                go("finish, its answer lost", &|world| {
                    commit(world);
                    world.step(&failed);
                });
                go("bootstrap fails", &|world| {
                    world.bootstrap = None;
                    world.step(&failed);
                });
            }
        } else if let Some(generation) = self.holds.credential()
            && !is_held
        {
            go("register", &|world| {
                world.register(generation);
                world.holds = Holds::Using(generation);
            });
            go("register, its answer lost", &|world| world.register(generation));
            if let Some(session) = self.session {
                // Seen in the field: a new key was written and the device goes on with the session it has.
                go("register over the session there is", &|world| {
                    world.step(&Fact::Registered { who: Self::who(session) });
                });
            }
            if matches!(self.holds, Holds::Trying { .. }) {
                go("the device gives the new one up", &|world| world.holds = world.holds.given_up());
            }
        }
        if self.crashes < 2 {
            go("crash", &|world| {
                world.crashes += 1;
                world.session = None;
                world.is_orphaned = world.bootstrap.is_some();
                let stored = serde_json::to_string(&world.record).unwrap();
                world.record = serde_json::from_str(&stored).unwrap();
            });
        }
        // A device that was not answered registers again within the grace time (assumed: 247 s and more).
        let is_settled = match self.state() {
            State::Rotating(rotation) if rotation.phase == Phase::Proven => {
                self.holds == Holds::Using(rotation.to) && self.bootstrap.is_none()
            }
            _ => true,
        };
        if is_settled {
            go("time passes", &|world| {
                world.now += 310 * SECOND;
                world.step(&Fact::Tick);
            });
        }
        if !is_held {
            go("suspend", &|world| drop(world.record.hold(world.now, HoldKind::Suspended, "")));
        } else if !self.is_revoked {
            go("resume", &|world| drop(world.record.resume(world.now, "")));
        }
        if !self.is_revoked {
            go("revoke", &|world| {
                world.is_revoked = true;
                world.record.revoke(world.now, None, "");
            });
        }
        all
    }

    fn check(&self) -> Result<(), String> {
        let is_held = self.record.hold.is_some();
        let account = self.record.management.as_ref().unwrap();
        if self.is_revoked {
            for credential in &account.credentials {
                if self.record.accepts(Role::Management, credential.generation).is_ok() {
                    return Err(format!("generation {} is revoked and accepted", credential.generation));
                }
            }
            return Ok(());
        }
        if is_held {
            return Ok(());
        }
        let mut may_hold = vec![self.holds.credential(), self.holds.given_up().credential(), self.bootstrap];
        may_hold.dedup();
        for generation in may_hold.into_iter().flatten() {
            if let Err(refusal) = self.record.accepts(Role::Management, generation) {
                return Err(format!("generation {generation} may be held and is refused: {refusal}"));
            }
        }
        if self.record.accepts(Role::Bootstrap, 1).is_err() {
            return Err("the bootstrap account is refused".to_owned());
        }
        Ok(())
    }

    fn key(&self) -> String {
        let mut account = self.record.management.clone().unwrap();
        account.last_success_ms = None;
        account.note = None;
        format!(
            "{:?} {:?} {} {:?} {:?} {:?} {} {} {} {}",
            account,
            self.record.hold.as_ref().map(|hold| (hold.kind, hold.since_ms)),
            self.now,
            self.holds,
            self.session,
            self.bootstrap,
            self.is_orphaned,
            self.rotations,
            self.crashes,
            self.is_revoked
        )
    }
}

#[test]
fn no_interleaving_refuses_a_device_or_accepts_a_revoked_one() {
    let depth: usize =
        std::env::var("LWM2M_EXPLORATION_DEPTH").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let mut seen = HashSet::new();
    let mut queue = VecDeque::new();
    // Paths are kept as indices into what was expanded, to tell the story of a violation.
    let mut expanded: Vec<(usize, &'static str)> = vec![(0, "start")];
    queue.push_back((World::new(), 0_usize, 0_usize));
    let mut rolled_back = 0_usize;
    let mut retired = 0_usize;
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
            if let Err(why) = next.check() {
                let mut story = Vec::new();
                let mut step = index;
                while step != 0 {
                    let (before, name) = expanded.get(step).copied().unwrap();
                    story.push(name);
                    step = before;
                }
                story.reverse();
                panic!("{why}\nafter: {}\n{next:#?}", story.join(" · "));
            }
            if world.rotations > 0 && *next.state() == State::InUse && *world.state() != State::InUse {
                let current = next.record.management.as_ref().unwrap().current;
                if current == 1 { rolled_back += 1 } else { retired += 1 }
            }
            queue.push_back((next, index, level + 1));
        }
    }
    println!("{} worlds, {rolled_back} rolled back, {retired} completed", seen.len());
    assert!(rolled_back > 0 && retired > 0, "the exploration reached both ends of a rotation");
}
