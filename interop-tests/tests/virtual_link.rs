//! A thousand fleets on a bad network: bootstrap, registration, requests and a rotation over the virtual link.
//!
//! For each seed two devices come from the factory, are bootstrapped and registered, are asked for something about every hour
//! and get a new key, while a fifth of all datagrams is lost, a tenth arrives twice and datagrams overtake each other.
//! After 24 virtual hours every device must be registered, in the same state, under its new key. `LWM2M_SEEDS` sets how many
//! seeds are run.

#![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "test: counts of a simulation")]

use std::time::Duration;

use interop_tests::link::Conditions;
use interop_tests::random::Random;
use interop_tests::simulation::{LEDGER, World};
use lwm2m_client::Notice;
use lwm2m_server::credentials::{Rotate, Settings};
use lwm2m_server::endpoint::RequestId;
use lwm2m_server::{Event, Operation, Path};

const DEVICES: usize = 2;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The state that every device is brought to at the end.
const FINAL: i64 = -1;

/// What one request asked for, to compare with what its handler counted.
#[derive(Clone, Copy)]
enum Asked {
    Execute(i64),
    Create(u16),
    Write(i64),
}

#[derive(Default, Debug)]
struct Totals {
    sent: u64,
    lost: u64,
    requests: u64,
    answered: u64,
    handshakes: u64,
    registrations: u64,
    bootstraps: u64,
    most_handshakes: u64,
    most_registrations: u64,
    most_bootstraps: u64,
}

#[test]
fn every_device_ends_in_the_same_state_and_nothing_runs_twice() {
    let seeds: u64 = std::env::var("LWM2M_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let totals = std::thread::scope(|scope| {
        let run = |first: u64| {
            move || (first..seeds).step_by(threads as usize).map(run).fold(Totals::default(), add)
        };
        let handles: Vec<_> = (0..threads).map(|first| scope.spawn(run(first))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a seed failed")).fold(Totals::default(), add)
    });
    println!("{seeds} seeds, {DEVICES} devices each, 24 virtual hours: {totals:?}");
    assert!(totals.lost * 6 > totals.sent, "a fifth is lost: {totals:?}");
    assert!(totals.answered * 10 > totals.requests * 8, "most requests are answered: {totals:?}");
    // One bootstrap from the factory, one for the rotation; each may have to be repeated a few times.
    assert!(totals.most_bootstraps <= 6, "{totals:?}");
    assert!(totals.most_handshakes <= 12, "{totals:?}");
    assert!(totals.most_registrations <= 8, "{totals:?}");
}

fn add(one: Totals, other: Totals) -> Totals {
    Totals {
        sent: one.sent + other.sent,
        lost: one.lost + other.lost,
        requests: one.requests + other.requests,
        answered: one.answered + other.answered,
        handshakes: one.handshakes + other.handshakes,
        registrations: one.registrations + other.registrations,
        bootstraps: one.bootstraps + other.bootstraps,
        most_handshakes: one.most_handshakes.max(other.most_handshakes),
        most_registrations: one.most_registrations.max(other.most_registrations),
        most_bootstraps: one.most_bootstraps.max(other.most_bootstraps),
    }
}

fn run(seed: u64) -> Totals {
    let settings = Settings { lifetime: 3600, ..Settings::default() };
    let mut world = World::new(seed, DEVICES, Conditions::ROUGH, settings);
    let mut random = Random::new(seed ^ 0x5eed);
    let mut asked: Vec<(usize, Asked, RequestId)> = Vec::new();
    let mut number = 0;
    let mut is_rotated = false;
    let mut now = Duration::ZERO;
    while now < DAY - 2 * HOUR {
        now += Duration::from_secs(600 + random.below(3_600));
        world.run_until(now);
        if now > 8 * HOUR && !is_rotated {
            is_rotated = true;
            (0..DEVICES).for_each(|device| world.rotate(device, &Rotate::default()));
        }
        for device in 0..DEVICES {
            number += 1;
            let what = match random.below(3) {
                0 => Asked::Execute(number),
                1 => Asked::Create(number as u16),
                _ => Asked::Write(number),
            };
            let request = match what {
                Asked::Execute(number) => {
                    let path = Path::resource(LEDGER.id, 0, 1);
                    world.request(device, Operation::Execute { path, arguments: format!("0='{number}'") })
                }
                Asked::Create(instance) => {
                    let instance = Some(instance);
                    let values = vec![(0, None, lwm2m_server::Value::Integer(0))];
                    world.request(device, Operation::Create { object: LEDGER.id, instance, values })
                }
                Asked::Write(number) => world.write(device, number),
            };
            asked.extend(request.ok().map(|id| (device, what, id)));
        }
    }
    bring_to_final_state(&mut world);
    world.run_until(DAY);
    check(seed, &mut world, &asked)
}

/// Writes until it is answered: a lost answer leaves open whether a request was carried out.
fn bring_to_final_state(world: &mut World) {
    let mut open: Vec<usize> = (0..DEVICES).collect();
    let mut end = DAY - 2 * HOUR;
    while !open.is_empty() && end < DAY {
        let requests: Vec<_> = open.iter().map(|device| (*device, world.write(*device, FINAL))).collect();
        end += Duration::from_secs(100);
        world.run_until(end);
        for (device, request) in requests {
            if request.is_ok_and(|id| world.take_outcome(id).is_some_and(|outcome| outcome.is_ok())) {
                open.retain(|other| *other != device);
            }
        }
    }
}

fn check(seed: u64, world: &mut World, asked: &[(usize, Asked, RequestId)]) -> Totals {
    let counts = world.link.counts();
    let mut totals =
        Totals { sent: counts.sent, lost: counts.lost, requests: asked.len() as u64, ..Totals::default() };
    for (device, what, id) in asked {
        let is_answered = world.take_outcome(*id).is_some_and(|outcome| outcome.is_ok());
        totals.answered += u64::from(is_answered);
        let ledger = &world.devices[*device].ledger;
        let (runs, is_idempotent) = match what {
            Asked::Execute(number) => (ledger.executed.get(number), false),
            Asked::Create(instance) => (ledger.created.get(instance), false),
            Asked::Write(number) => (ledger.written.get(number), true),
        };
        let runs = runs.copied().unwrap_or(0);
        assert!(!is_answered || runs >= 1, "seed {seed}, device {device}: answered, but never run");
        assert!(is_idempotent || runs <= 1, "seed {seed}, device {device}: ran {runs} times");
    }
    for (number, device) in world.devices.iter().enumerate() {
        assert!(
            world.endpoint.device(&device.name).is_some(),
            "seed {seed}: {} is not registered",
            device.name
        );
        assert_eq!(device.ledger.state, FINAL, "seed {seed}: {}", device.name);
        assert!(world.is_in_use(number, 2), "seed {seed}: {} does not use its new key", device.name);
        let of = |wanted: fn(&Event) -> Option<&str>| {
            world.events.iter().filter(|event| wanted(event) == Some(&device.name)).count() as u64
        };
        let handshakes =
            device.notices.iter().filter(|notice| matches!(notice, Notice::Secured { .. })).count() as u64;
        let registrations = of(|event| match event {
            Event::Registered { endpoint } => Some(endpoint),
            _ => None,
        });
        let bootstraps = of(|event| match event {
            Event::BootstrapStarted { endpoint } => Some(endpoint),
            _ => None,
        });
        totals.handshakes += handshakes;
        totals.registrations += registrations;
        totals.bootstraps += bootstraps;
        totals.most_handshakes = totals.most_handshakes.max(handshakes);
        totals.most_registrations = totals.most_registrations.max(registrations);
        totals.most_bootstraps = totals.most_bootstraps.max(bootstraps);
    }
    totals
}
