//! Gives what a planned stop saved to the parts of the next run.
//!
//! Synchronous and free of sockets, so that a simulation runs exactly what the driver runs.

use std::collections::HashMap;
use std::time::Duration;

use lwm2m_coap::{Instant, Rng};

use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Saved, Shared};

use super::settle::judge_admission;

/// Gives each remote that was saved `age` ago to its part, if its credential is still good. `endpoints` are all the parts of
/// the server, in their order, which have not handled anything yet. Answers how many go on, and how many have to come again.
pub fn restore(
    endpoints: &mut [Endpoint],
    shared: &Shared,
    credentials: &Credentials,
    now: Instant,
    saved: impl IntoIterator<Item = Saved>,
    age: Duration,
    rng: &mut Rng<'_>,
) -> (usize, usize) {
    let of = u8::try_from(endpoints.len()).unwrap_or(u8::MAX);
    let (mut restored, mut left) = (0_usize, 0_usize);
    let mut owners = HashMap::new();
    let mut last_observation = 0;
    for saved in saved {
        let part = saved.part(of);
        let found_by = saved.found_by();
        last_observation = last_observation.max(saved.last_observation());
        let is_good = judge_admission(credentials, saved.who()).is_ok();
        let endpoint = endpoints.get_mut(usize::from(part)).filter(|_| is_good);
        if endpoint.is_some_and(|endpoint| endpoint.restore(now, &saved, age, rng)) {
            restored = restored.saturating_add(1);
            owners.extend(found_by.filter(|_| of > 1).map(|found_by| (found_by, part)));
        } else {
            left = left.saturating_add(1);
        }
    }
    for endpoint in endpoints {
        endpoint.number_observations_after(last_observation);
    }
    shared.set_restored(owners);
    (restored, left)
}
