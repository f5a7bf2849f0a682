//! `[queue]` of the configuration file.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::Limits;

/// How devices in queue mode are treated; what is `None` takes the default of [`endpoint::Config`](crate::endpoint::Config) and of
/// [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// For how many seconds one listens after it was heard, 1 to 86400.
    pub awake: Option<NonZeroU32>,
    /// Requests that may wait for one.
    pub per_device: Option<NonZeroU32>,
    /// Requests that may wait for all.
    pub total: Option<NonZeroU32>,
}

impl QueueConfig {
    /// Sets the awake window of an endpoint, and answers the limits of its queue.
    #[must_use]
    pub fn apply(self, endpoint: &mut crate::endpoint::Config) -> Limits {
        let number = |number: NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        endpoint.awake = self.awake.map_or(endpoint.awake, |awake| Duration::from_secs(awake.get().into()));
        limits.queued_per_device = self.per_device.map_or(limits.queued_per_device, number);
        limits.queued = self.total.map_or(limits.queued, number);
        limits
    }
}
