//! A campaign over a thousand devices, a quarter in each mode, over a link that loses every tenth datagram, with two kills of the server:
//! nobody is lost, whatever became of the rotation. The first one is told to stop, and stops.
//!
//! `LWM2M_DEVICES` asks for another number of devices.

#![expect(clippy::unwrap_used, reason = "test")]

use core::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use interop_tests::link::Conditions;
use interop_tests::owner::Owner;
use interop_tests::simulation::World;
use lwm2m_server::access::Scope;
use lwm2m_server::campaigns::{
    self, Act, Action, Campaign, Counts, DeviceState, Effect, Group, Limits, Machine, New, Plan, Progress,
    Rotation, Selected, Share, Stands, State, Step,
};
use lwm2m_server::credentials::{CampaignRound, Mode, Role, Settings, Standing};
use lwm2m_server::endpoint::Config;
use lwm2m_server::keys::{ServerKey, ServerKeys};

/// Every tenth is lost, some arrive twice, and datagrams overtake each other.
const LOSSY: Conditions = Conditions {
    loss: 100,
    duplication: 20,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(200),
};
const MODES: [Mode; 4] = [Mode::Psk, Mode::RawPublicKey, Mode::Certificate, Mode::Oscore];
/// The only campaign.
const ID: u64 = 1;
/// How often it is looked what became of the devices.
const TURN: Duration = Duration::from_secs(10);
/// By then everything has come to an end.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

fn devices(unless: usize) -> usize {
    std::env::var("LWM2M_DEVICES").map_or(unless, |number| number.parse().unwrap())
}

fn config() -> Config {
    let owner = Owner::server();
    let key = ServerKey::in_memory(&owner.secret).unwrap().with_certificates(owner.chain).unwrap();
    let mut config = Config::default();
    config.keys = ServerKeys::new(vec![key]);
    config
}

/// A fleet, and the campaign that its server runs.
struct Fleet {
    world: World,
    machine: Machine,
    /// Under way, as far as this run of the server knows.
    watched: Vec<(u32, Arc<str>, CampaignRound)>,
    now: Duration,
}

impl Fleet {
    /// Devices that are registered with a pre-shared key.
    fn registered(seed: u64, devices: usize) -> Self {
        let config = config();
        let public = config.keys.public(Role::Management);
        let settings = Settings { lifetime: 3600, ..Settings::default() };
        let world = World::with(seed, devices, LOSSY, settings, config);
        world.credentials.set_server_keys(Role::Management, public);
        let machine = Machine::new(Limits::default(), 0);
        let mut fleet = Self { world, machine, watched: Vec::new(), now: Duration::ZERO };
        fleet.until("all devices register", |fleet| {
            (0..devices).all(|device| fleet.world.is_in_use(device, 1))
        });
        fleet
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            assert!(self.now < PATIENCE, "{what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.now = self.now.saturating_add(TURN);
        self.world.run_until(self.now);
        for (number, endpoint, by) in core::mem::take(&mut self.watched) {
            let device = self.world.credentials.device(&endpoint).unwrap();
            match campaigns::rotation(&device, by) {
                Some(Stands::Ended(state, why)) => {
                    self.machine.ended(self.world.now_ms(), by.id, number, (state, why));
                }
                _ => self.watched.push((number, endpoint, by)),
            }
        }
        self.machine.tick(self.world.now_ms());
        self.settle();
    }

    /// What the runner of the server does.
    fn settle(&mut self) {
        loop {
            let (changes, effects) = (self.machine.take_changes(), self.machine.take_effects());
            if changes.is_empty() && effects.is_empty() {
                return;
            }
            let now = self.world.now_ms();
            self.world.store.campaigns().put(now, &changes).unwrap();
            for effect in effects {
                let Effect::Start { id, number, round, .. } = effect else { continue };
                let campaign = self.machine.campaign(id).unwrap();
                let found = self.world.store.campaigns().devices(id, number, 1, &|_| true).unwrap().pop();
                let (endpoint, by) = (found.unwrap().1.endpoint, CampaignRound { id, round });
                let begun = campaigns::rotate(&self.world.credentials, now, &endpoint, by, campaign);
                let (stands, commands) = begun.unwrap();
                self.world.carry_out(commands);
                match stands {
                    Stands::UnderWay(_) => self.watched.push((number, endpoint, by)),
                    Stands::Ended(state, why) => self.machine.ended(now, id, number, (state, why)),
                }
            }
        }
    }

    fn kill(&mut self) {
        self.world.kill_server(config());
        self.watched.clear();
        self.machine =
            campaigns::open(self.world.store.campaigns(), Limits::default(), self.world.now_ms()).unwrap();
        self.settle();
    }

    fn make(&mut self, mode: Mode, deadline: u32, threshold: Share) {
        let action = Action::Rotate(Rotation { mode: Some(mode), grace: Some(600), server_uri: None });
        let names = self.world.devices.iter().map(|device| device.name.clone()).collect();
        let group = Group::Names(names);
        let selected = Selected::choose(&group, &Scope::default(), &action, &self.world.credentials, &[]);
        assert!(selected.skipped.is_empty(), "{:?}", selected.skipped);
        let (size, now) = (u32::try_from(selected.taken.len()).unwrap(), self.world.now_ms());
        let shares = [1, 10, 100].map(|percent| Step::Share(Share::percent(percent)));
        let plan = Plan {
            steps: core::iter::once(Step::Devices(NonZeroU32::MIN)).chain(shares).collect(),
            rate: None,
            at_once: NonZeroU32::new(100).unwrap(),
            threshold,
            least_failures: NonZeroU32::new(10).unwrap(),
            pause: 0,
            deadline,
            approval: false,
        };
        let campaign = Campaign {
            epoch: 1,
            name: "test".to_owned(),
            action,
            selection: group.to_string(),
            scope: Scope::default(),
            plan,
            state: State::Unapproved,
            reason: None,
            made_by: "test".into(),
            made_ms: now,
            approved_by: None,
            ended_ms: None,
            round: 1,
            progress: Progress { size, ..Progress::default() },
            counts: Counts { waiting: size, ..Counts::default() },
        };
        let new = New { campaign, devices: selected.devices(now), content: None };
        assert_eq!(self.machine.add(now, new), Ok(ID));
        self.settle();
    }

    fn campaign(&self) -> Campaign {
        self.world.store.campaigns().one(ID).unwrap().unwrap()
    }

    fn has_done(&self, devices: u32) -> bool {
        let Counts { succeeded, .. } = self.campaign().counts;
        succeeded >= devices
    }

    /// What was told of each device is so, and each has a credential that it comes in with.
    fn judge(&self, mode: Mode) -> (usize, usize) {
        let (mut proven, mut rolled_back) = (0_usize, 0_usize);
        for (_, device) in self.world.store.campaigns().devices(ID, 0, usize::MAX, &|_| true).unwrap() {
            let record = self.world.credentials.device(&device.endpoint).unwrap();
            let account = record.account(Role::Management).unwrap();
            let newest = account.credentials.last().unwrap();
            assert_eq!(account.credentials.len(), 2, "{}: rotated once", device.endpoint);
            match device.state(1) {
                DeviceState::Succeeded => {
                    assert_eq!(newest.standing, Standing::Accepted, "{}", device.endpoint);
                    assert_eq!(newest.subject.mode(), mode, "{}", device.endpoint);
                    proven = proven.saturating_add(1);
                }
                DeviceState::RolledBack => {
                    assert_eq!(newest.standing, Standing::RolledBack, "{}", device.endpoint);
                    rolled_back = rolled_back.saturating_add(1);
                }
                other => unreachable!("{} is {other:?}: {:?}", device.endpoint, device.outcomes),
            }
        }
        (proven, rolled_back)
    }
}

#[test]
fn of_a_thousand_devices_in_four_modes_all_are_proven_or_rolled_back_over_loss_and_kills() {
    let of_each = devices(1_000).div_ceil(MODES.len());
    let run = |seed: u64, mode: Mode| {
        let mut fleet = Fleet::registered(seed, of_each);
        fleet.make(mode, 7200, Share::percent(50));
        let size = u32::try_from(of_each).unwrap();
        for done in [size / 5, size / 2] {
            fleet.until("some are done", |fleet| fleet.has_done(done));
            fleet.kill();
        }
        fleet.until("the campaign is finished", |fleet| fleet.campaign().state == State::Finished);
        let (proven, rolled_back) = fleet.judge(mode);
        assert_eq!(proven.saturating_add(rolled_back), of_each, "none is lost");
        // They come in with what counts.
        fleet.now = fleet.now.saturating_add(Duration::from_secs(7200));
        fleet.world.run_until(fleet.now);
        let registered = |name: &str| fleet.world.endpoint.device(name).is_some();
        assert!(fleet.world.devices.iter().all(|device| registered(&device.name)));
        println!("{mode:?}: {proven} proven, {rolled_back} rolled back");
        proven
    };
    let proven: usize = std::thread::scope(|scope| {
        let run = &run;
        let halves = MODES.chunks(2).zip([1, 3]).map(|(modes, seed)| {
            scope.spawn(move || (seed..).zip(modes).map(|(seed, mode)| run(seed, *mode)).sum::<usize>())
        });
        let halves: Vec<_> = halves.collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(proven.saturating_mul(10) > devices(1_000).saturating_mul(9), "{proven} are proven");
}

#[test]
fn a_campaign_whose_devices_cannot_be_reached_stops_at_its_threshold() {
    let of_each = devices(1_000).div_ceil(20);
    let mut fleet = Fleet::registered(9, of_each);
    fleet.make(Mode::Psk, 900, Share::percent(5));
    fleet.until("the canary is done", |fleet| fleet.has_done(2));
    fleet.world.link.set_all(Conditions::CUT);
    fleet.until("it stops", |fleet| fleet.campaign().state == State::Paused);
    let Campaign { counts, reason, .. } = fleet.campaign();
    assert!(counts.failures() > 0 && counts.waiting > 0, "{counts:?}");
    assert!(reason.unwrap().contains("failed"));
    let waiting = counts.waiting;
    fleet.now = fleet.now.saturating_add(Duration::from_secs(3600));
    fleet.world.run_until(fleet.now);
    fleet.turn();
    assert_eq!((fleet.campaign().counts.waiting, fleet.campaign().counts.started), (waiting, 0));
    // With the network it goes on where somebody says so, and nobody is lost.
    fleet.world.link.set_all(LOSSY);
    let now = fleet.world.now_ms();
    fleet.machine.act(now, ID, Act::Resume, "test").unwrap();
    fleet.settle();
    fleet.until("it is finished", |fleet| fleet.campaign().state == State::Finished);
    let all = |fleet: &Fleet| {
        (0..of_each).all(|device| fleet.world.is_in_use(device, 1) || fleet.world.is_in_use(device, 2))
    };
    fleet.until("everybody comes in with what counts", all);
}
