//! The one place that looks at a clock: milliseconds since 1970, which never go back while the process runs.

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
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: std::time::Instant::now(), unix }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(0).saturating_add(self.unix.saturating_add(self.started.elapsed()))
    }
}
