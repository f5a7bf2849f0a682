//! The clock of instants: milliseconds since 1970, as the wall clock showed at the start, which never go back while the process runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwm2m_coap::Instant;

/// Wall-clock time at the start, monotonic from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: std::time::Instant,
    unix: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self::started_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// One that starts now, when the wall clock shows so much since 1970.
    pub(crate) fn started_at(unix: Duration) -> Self {
        Self { started: std::time::Instant::now(), unix }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(0).saturating_add(self.unix.saturating_add(self.started.elapsed()))
    }
}
