//! `[campaigns]` of the configuration file.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::Limits;

/// How campaigns are bounded; what is `None` takes the default of [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignsConfig {
    /// Those that run at once, 1 or more.
    pub running: Option<NonZeroU32>,
    /// The most devices of one that nobody else has to approve of; 0 has each approved of.
    pub approval_above: Option<u32>,
}

impl CampaignsConfig {
    /// With the defaults.
    #[must_use]
    pub fn limits(self) -> Limits {
        let default = Limits::default();
        let running = self.running.and_then(|running| usize::try_from(running.get()).ok());
        Limits {
            running: running.unwrap_or(default.running),
            approval_above: self.approval_above.unwrap_or(default.approval_above),
            ..default
        }
    }
}
