//! Gives what a planned stop saved to the parts of the next run.
//!
//! Synchronous and free of sockets, so that a simulation runs exactly what the driver runs.

use std::collections::HashMap;
use std::time::Duration;

use lwm2m_coap::{Instant, Rng};

use crate::credentials::Credentials;
use crate::endpoint::{Addresses, Endpoint, NotRestored, Saved, Shared};

use super::settle::judge_admission;

/// What a planned stop left for the next run.
#[derive(Clone, Debug, Default)]
pub struct LastRun<I> {
    /// The remotes that were saved. Each may be taken up once.
    pub remotes: I,
    /// How long ago that was: not less than the time that passed, because each session leaves out 64 sequence numbers for each
    /// millisecond of it.
    pub age: Duration,
    /// Where it listened.
    pub addresses: Addresses,
}

/// What became of the remotes that a planned stop saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// How many go on.
    pub restored: u64,
    /// How many have to come again for each reason, where there are any.
    pub not_restored: Vec<(NotRestored, u64)>,
}

/// Gives each remote of the last run to its part, if it is still admitted and one of `addresses` has the port where it came in: it
/// goes on in the listener that is there now. `endpoints` are all the parts of the server, in their order, which have not handled
/// anything yet.
pub fn restore(
    endpoints: &mut [Endpoint],
    shared: &Shared,
    credentials: &Credentials,
    addresses: &Addresses,
    now: Instant,
    last: LastRun<impl IntoIterator<Item = Saved>>,
    rng: &mut Rng<'_>,
) -> Resumed {
    let of = u8::try_from(endpoints.len()).unwrap_or(u8::MAX);
    let mut owners = HashMap::new();
    let mut last_observation = 0;
    for mut saved in last.remotes {
        let part = saved.part(of);
        last_observation = last_observation.max(saved.last_observation());
        let is_heard = saved.local().is_none_or(|local| {
            let heir = addresses.heir(*local, &last.addresses);
            *local = heir.unwrap_or(*local);
            heir.is_some()
        });
        let Some(endpoint) = endpoints.get_mut(usize::from(part)) else { continue };
        let admitted = if is_heard {
            judge_admission(credentials, endpoint.wall_clock(now), saved.who())
                .map_err(|_| NotRestored::NotAdmitted)
        } else {
            Err(NotRestored::NotListening)
        };
        match endpoint.restore(now, &saved, last.age, admitted, rng) {
            Ok(()) => owners.extend(saved.found_by().filter(|_| of > 1).map(|found_by| (found_by, part))),
            Err(why) => tracing::debug!(endpoint = ?saved.who().endpoint(), "has to come again: {why}"),
        }
    }
    for endpoint in &mut *endpoints {
        endpoint.number_observations_after(last_observation);
    }
    shared.set_restored(owners);
    Resumed::of(endpoints)
}

impl Resumed {
    fn of(endpoints: &[Endpoint]) -> Self {
        let counters = || endpoints.iter().map(|endpoint| *endpoint.counters());
        let count = |why| {
            counters().fold(0, |sum: u64, mut counters| sum.saturating_add(*counters.not_restored(why)))
        };
        let not_restored = NotRestored::ALL.into_iter().map(|why| (why, count(why)));
        Self {
            restored: counters().fold(0, |sum, counters| sum.saturating_add(counters.restored)),
            not_restored: not_restored.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl core::fmt::Display for Resumed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} devices of the last run go on", self.restored)?;
        for (index, (why, count)) in self.not_restored.iter().enumerate() {
            let before = if index == 0 { ", and these have to come again: " } else { ", " };
            write!(f, "{before}{count} because {why}")?;
        }
        Ok(())
    }
}
