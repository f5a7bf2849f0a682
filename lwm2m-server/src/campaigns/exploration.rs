//! Campaigns over a store and credentials as they are, with devices that come by themselves, and two kills of the server: the first one at
//! each point in turn, at which something is written or is about to be.

use core::num::NonZeroU32;
use std::sync::Arc;

use super::act::{self, Stands};
use super::course::Effect;
use super::groups::Selected;
use super::machine::{Machine, New};
use super::record::{
    Action, Campaign, Counts, DeviceState, Plan, Progress, Rotation, Share, State, Step, plan,
};
use super::{Group, Limits, open};
use crate::access::Scope;
use crate::credentials::{
    Authenticated, CampaignRound, Credentials, Enrol, EnrolAccount, Fact, KeyMaterial, Mode, PrivateKey,
    Role, ServerPublic, Settings, Standing,
};
use crate::store::{RedbStore, Sealer, Store as _, failed};

const NAMES: [&str; 4] = ["a", "b", "c", "deaf"];
/// The only campaign.
const ID: u64 = 1;

/// The server was killed.
#[derive(Debug)]
struct Killed;

struct World {
    store: Arc<RedbStore>,
    credentials: Credentials,
    machine: Machine,
    own: ServerPublic,
    mode: Mode,
    now: u64,
    /// Under way, as far as this run of the server knows.
    watched: Vec<(u32, Arc<str>, CampaignRound)>,
    /// Points that are left until it is killed.
    left: Option<usize>,
    kills: usize,
    /// The last of the devices hears nothing.
    is_deaf: bool,
}

impl World {
    fn new(mode: Mode, own: &ServerPublic, left: Option<usize>) -> Self {
        let store = Arc::new(RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap());
        let credentials = Credentials::open(store.clone(), Settings::default()).unwrap();
        for name in NAMES {
            let key = KeyMaterial::Generate(Mode::Psk);
            let accounts = vec![EnrolAccount { role: Role::Bootstrap, key }];
            credentials.enrol(1, "test", name, &Enrol { accounts, ..Enrol::default() }).unwrap();
            prove(&credentials, 2, name, 1);
        }
        let machine = Machine::new(Limits::default(), 0);
        let own = own.clone();
        let (now, watched) = (1_000_000, Vec::new());
        let (kills, is_deaf) = (0, true);
        let mut world = Self { store, credentials, machine, own, mode, now, watched, left, kills, is_deaf };
        world.start();
        world
    }

    /// The server begins with what is on disk.
    fn start(&mut self) {
        self.credentials = Credentials::open(self.store.clone(), Settings::default()).unwrap();
        self.credentials.set_server_keys(Role::Management, self.own.clone());
        self.watched.clear();
        self.machine = open(self.store.campaigns(), Limits::default(), self.now).unwrap();
    }

    fn point(&mut self) -> Result<(), Killed> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(Killed),
            Some(left) => {
                *left = left.saturating_sub(1);
                Ok(())
            }
        }
    }

    fn campaign(&self) -> Option<Campaign> {
        self.store.campaigns().one(ID).unwrap()
    }

    /// What an operator does, until it is done.
    fn make(&mut self) {
        let action = Action::Rotate(Rotation { mode: Some(self.mode), grace: Some(1), server_uri: None });
        let group = Group::Names(NAMES.map(str::to_owned).to_vec());
        let selected = Selected::choose(&group, &Scope::default(), &action, &self.credentials, &[]);
        let size = u32::try_from(selected.taken.len()).unwrap();
        let steps = vec![Step::Devices(NonZeroU32::MIN), Step::Share(Share::ALL)];
        let campaign = Campaign {
            epoch: 1,
            name: "test".to_owned(),
            action,
            selection: "*".to_owned(),
            scope: Scope::default(),
            plan: Plan { steps, threshold: Share::percent(50), deadline: 3600, ..plan() },
            state: State::Unapproved,
            reason: None,
            made_by: "test".into(),
            made_ms: self.now,
            approved_by: None,
            ended_ms: None,
            round: 1,
            progress: Progress { size, ..Progress::default() },
            counts: Counts { waiting: size, ..Counts::default() },
        };
        let new = New { campaign, devices: selected.devices(self.now), content: None };
        assert_eq!(self.machine.add(self.now, new), Ok(ID));
    }

    fn retry(&mut self) {
        let campaign = self.campaign().unwrap();
        let numbers = failed(self.store.campaigns(), ID, &campaign).unwrap();
        self.machine.retry(self.now, ID, campaign, numbers, "test").unwrap();
    }

    /// What the runner does.
    fn settle(&mut self) -> Result<(), Killed> {
        loop {
            let (changes, effects) = (self.machine.take_changes(), self.machine.take_effects());
            if changes.is_empty() && effects.is_empty() {
                return Ok(());
            }
            self.point()?;
            if !changes.is_empty() {
                self.store.campaigns().put(self.now, &changes).unwrap();
            }
            for effect in effects {
                let Effect::Start { id, number, round, .. } = effect else { continue };
                self.point()?;
                let campaign = self.machine.campaign(id).unwrap();
                let (_, device) =
                    self.store.campaigns().devices(id, number, 1, &|_| true).unwrap().pop().unwrap();
                let (endpoint, by) = (device.endpoint, CampaignRound { id, round });
                let (stands, _) = act::rotate(&self.credentials, self.now, &endpoint, by, campaign).unwrap();
                self.point()?;
                match stands {
                    Stands::UnderWay(_) => self.watched.push((number, endpoint, by)),
                    Stands::Ended(state, why) => self.machine.ended(self.now, id, number, (state, why)),
                }
            }
        }
    }

    /// What is watched is looked at.
    fn look(&mut self) {
        for (number, endpoint, by) in core::mem::take(&mut self.watched) {
            match act::rotation(&self.credentials.device(&endpoint).unwrap(), by) {
                Some(Stands::Ended(state, why)) => self.machine.ended(self.now, by.id, number, (state, why)),
                _ => self.watched.push((number, endpoint, by)),
            }
        }
    }

    /// A device fetches what is new, and proves it.
    fn come(&mut self, endpoint: &Arc<str>) -> Result<(), Killed> {
        let bootstrap = Authenticated::new(Arc::clone(endpoint), Role::Bootstrap, 1);
        let generation = self.credentials.bootstrap_plan(self.now, &bootstrap).unwrap().generation;
        self.point()?;
        let delivered = Fact::BootstrapDelivered { endpoint: Arc::clone(endpoint), generation };
        self.credentials.report(self.now, &delivered).unwrap();
        self.point()?;
        prove(&self.credentials, self.now, endpoint, generation);
        self.point()
    }

    /// Until the campaign is finished.
    fn run(&mut self) -> Result<(), Killed> {
        loop {
            self.settle()?;
            if self.campaign().is_none_or(|campaign| campaign.state == State::Finished) {
                return Ok(());
            }
            let under_way = self.watched.clone();
            let hears = |endpoint: &str| !self.is_deaf || endpoint != "deaf";
            let come: Vec<Arc<str>> =
                under_way.into_iter().map(|(_, endpoint, _)| endpoint).filter(|name| hears(name)).collect();
            if come.is_empty() {
                // Nobody comes before the deadline.
                self.now = self.now.saturating_add(3_601_000);
                self.credentials.report(self.now, &Fact::Tick).unwrap();
                self.point()?;
            }
            for endpoint in come {
                self.come(&endpoint)?;
            }
            self.look();
        }
    }

    /// The same over kills: the first one as was said, another one soon after.
    fn run_on(&mut self) {
        while let Err(Killed) = self.run() {
            self.kills += 1;
            self.left = (self.kills == 1).then_some(5);
            self.start();
        }
    }

    fn states(&self) -> Vec<DeviceState> {
        let round = self.campaign().unwrap().round;
        let devices = self.store.campaigns().devices(ID, 0, 10, &|_| true).unwrap();
        devices.into_iter().map(|(_, device)| device.state(round)).collect()
    }

    /// How often credentials were made for a device, and whether the newest one counts.
    fn generations(&self, name: &str) -> (usize, bool) {
        let device = self.credentials.device(name).unwrap();
        let account = device.account(Role::Management).unwrap();
        let newest = account.credentials.last().unwrap();
        (
            account.credentials.len(),
            newest.standing == Standing::Accepted && newest.subject.mode() == self.mode,
        )
    }
}

fn prove(credentials: &Credentials, now: u64, endpoint: &str, generation: u32) {
    let who = Authenticated::new(endpoint.into(), Role::Management, generation);
    credentials.report(now, &Fact::Handshake { who: who.clone(), full: true }).unwrap();
    credentials.report(now, &Fact::Registered { who }).unwrap();
}

#[test]
fn over_kills_at_each_point_every_device_is_rotated_once_and_proven_or_rolled_back() {
    let key = PrivateKey::generate().unwrap();
    let own = ServerPublic {
        raw_public_key: key.public_key(),
        certificate: Some(key.self_signed("server", 0).unwrap()),
        ..ServerPublic::default()
    };
    for mode in [Mode::Psk, Mode::RawPublicKey, Mode::Certificate, Mode::Oscore] {
        let mut explored = 0;
        for point in 0.. {
            let mut world = World::new(mode, &own, Some(point));
            while world.campaign().is_none() {
                // Who was not answered asks again.
                world.make();
                world.run_on();
            }
            let done = [DeviceState::Succeeded; 3];
            assert_eq!(world.states(), [&done[..], &[DeviceState::RolledBack]].concat(), "{mode:?} {point}");
            for name in ["a", "b", "c"] {
                assert_eq!(world.generations(name), (2, true), "{mode:?} {point}: {name}");
            }
            assert_eq!(world.generations("deaf"), (2, false), "{mode:?} {point}");

            // It hears again, and is taken again.
            world.is_deaf = false;
            world.retry();
            world.run_on();
            if world.campaign().unwrap().round == 1 {
                world.retry();
                world.run_on();
            }
            assert_eq!(world.states(), [DeviceState::Succeeded; 4], "{mode:?} {point}");
            assert_eq!(world.generations("deaf"), (3, true), "{mode:?} {point}");
            assert_eq!(world.generations("a"), (2, true), "{mode:?} {point}");
            let staged = world.store.audit(None, Some(0), 1000).unwrap();
            assert_eq!(staged.iter().filter(|row| row.what == "staged").count(), 5, "{mode:?} {point}");
            explored = point;
            if world.kills == 0 {
                break;
            }
        }
        assert!(explored > 20, "{mode:?}: {explored} points");
    }
}

#[test]
fn where_a_rotation_stands_is_told_of_the_campaign_that_began_it() {
    let mut world = World::new(Mode::Psk, &ServerPublic::default(), None);
    let by = |round| CampaignRound { id: ID, round };
    let stands =
        |world: &World, name: &str, round| act::rotation(&world.credentials.device(name).unwrap(), by(round));
    assert_eq!(stands(&world, "a", 1), None);
    world.make();
    world.settle().unwrap();
    assert_eq!(stands(&world, "a", 1), Some(Stands::UnderWay(None)));
    assert_eq!(
        act::rotation(&world.credentials.device("a").unwrap(), CampaignRound { id: 2, round: 1 }),
        None
    );
    world.credentials.suspend(world.now, "test", "a", "").unwrap();
    let held = Stands::Ended(DeviceState::Failed, Some("it is suspended".to_owned()));
    assert_eq!(stands(&world, "a", 1), Some(held));
    world.credentials.resume(world.now, "test", "a", "").unwrap();
    // The device has taken it, and is not heard any more.
    let bootstrap = Authenticated::new("a".into(), Role::Bootstrap, 1);
    world.credentials.bootstrap_plan(world.now, &bootstrap).unwrap();
    world.now = world.now.saturating_add(4_000_000);
    world.credentials.report(world.now, &Fact::Tick).unwrap();
    let Some(Stands::Ended(DeviceState::Unreachable, Some(why))) = stands(&world, "a", 1) else {
        unreachable!("{:?}", stands(&world, "a", 1));
    };
    assert!(why.contains("neither credential"), "{why}");
    // It comes back by itself: there is nothing to do for the next round.
    prove(&world.credentials, world.now, "a", 2);
    assert_eq!(stands(&world, "a", 2), Some(Stands::SUCCEEDED));
    world.credentials.report(world.now.saturating_add(2_000), &Fact::Tick).unwrap();
    assert_eq!(stands(&world, "a", 2), Some(Stands::SUCCEEDED));
    world.credentials.revoke(world.now, "test", "a", Some(Role::Management), "").unwrap();
    assert!(matches!(stands(&world, "a", 2), Some(Stands::Ended(DeviceState::Failed, _))));
}
