//! What the wall clock shows. Instants never go back while the process runs; the wall clock may be set meanwhile, by an operator or
//! at the first answer of a time server.
//!
//! Invariant: timers and what devices are told of delays follow instants alone; dates follow the wall clock.

use lwm2m_coap::Instant;

use super::Endpoint;

/// How far the wall clock is ahead of instants that count from 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock {
    ahead_ms: i64,
}

impl Endpoint {
    /// Takes what the wall clock shows at `now`, in milliseconds since 1970. Once a second is enough; until the first time it shows
    /// what instants do.
    pub fn set_wall_clock(&mut self, now: Instant, unix_ms: u64) {
        let ahead_ms = i128::from(unix_ms).saturating_sub(now.as_millis().into());
        // What does not fit is no date.
        self.wall_clock = WallClock { ahead_ms: i64::try_from(ahead_ms).unwrap_or_default() };
    }

    /// What the wall clock shows at an instant, in milliseconds since 1970: that of now, as it would have shown it then.
    #[must_use]
    pub const fn wall_clock(&self, at: Instant) -> u64 {
        at.as_millis().saturating_add_signed(self.wall_clock.ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Config;

    #[test]
    fn the_wall_clock_goes_on_from_what_it_was_set_to_and_instants_from_where_they_were() {
        let mut endpoint = Endpoint::new(Config::default());
        let at = Instant::from_millis;
        assert_eq!(endpoint.wall_clock(at(7_000)), 7_000);
        endpoint.set_wall_clock(at(8_000), 1_800_000_000_000);
        assert_eq!(endpoint.wall_clock(at(8_001)), 1_800_000_000_001);
        assert_eq!(endpoint.wall_clock(at(7_000)), 1_799_999_999_000, "what was before it was set");
        endpoint.set_wall_clock(at(9_000), 500);
        assert_eq!(endpoint.wall_clock(at(9_100)), 600);
        assert_eq!(endpoint.wall_clock(at(0)), 0, "there is nothing before 1970");
        endpoint.set_wall_clock(at(9_000), u64::MAX);
        assert_eq!(endpoint.wall_clock(at(9_000)), 9_000);
    }
}
