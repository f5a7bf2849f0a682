//! The bootstrap sequence: when it starts, what is under way, and how it ends.
//!
//! LwM2M Core 1.1.1 §6.1.
//!
//! 1. `Wanted`: no account works, a server executed `/1/x/9`, or the owner asked; `/0/x/11` is waited for.
//! 2. `Connecting` to the bootstrap server; a full handshake.
//! 3. `Requesting`: POST /bs is under way.
//! 4. `Writing`: the server writes, deletes, discovers and reads; each exchange restarts the 247 s.
//! 5. `Saving`: Bootstrap-Finish was consistent; its 2.04 waits for the commit.
//! 6. `Idle`; the new accounts are tried, and the previous ones wait in storage until they have worked.
//!
//! Invariant: outside `Requesting` and `Writing` nothing of the bootstrap interface is accepted, and never from another
//! server than the one of the bootstrap account.

use lwm2m_coap::Instant;
use lwm2m_objects::Format;

/// For how many seconds the bootstrap server may stay silent: EXCHANGE_LIFETIME (Core 1.1.1 §6.1.7.6).
pub(crate) const SILENCE: u32 = 247;

/// Seconds of the first pause after a failed bootstrap; doubled for each further one.
const PAUSE: u32 = 60;

/// Seconds of the longest pause: a fleet that lost its bootstrap server asks again within the hour.
pub(crate) const LONGEST_PAUSE: u32 = 3600;

/// So many seconds from now and up to a quarter more: `random` keeps the devices of a fleet from coming at once.
pub(crate) fn spread(now: Instant, pause: u32, random: u8) -> Instant {
    let more = (pause.saturating_mul(1000) / 1024).saturating_mul(u32::from(random));
    now.after_secs(pause).after_millis(more.into())
}

/// The content format that a device wants to be bootstrapped in (`pct`, since LwM2M 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootstrapFormat {
    /// 11542
    Tlv,
    /// 112
    SenmlCbor,
    /// 110
    #[cfg(feature = "json")]
    SenmlJson,
}

impl From<BootstrapFormat> for Format {
    fn from(format: BootstrapFormat) -> Self {
        match format {
            BootstrapFormat::Tlv => Format::TLV,
            BootstrapFormat::SenmlCbor => Format::SENML_CBOR,
            #[cfg(feature = "json")]
            BootstrapFormat::SenmlJson => Format::SENML_JSON,
        }
    }
}

/// Where the sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    /// Starts then.
    Wanted { at: Instant },
    /// Name, credential and handshake.
    Connecting,
    /// Bootstrap-Request is due or under way.
    Requesting,
    /// The server is at work; it has failed when it stays silent until then.
    Writing { deadline: Instant },
    /// The new accounts go to storage.
    Saving,
}

/// The bootstrap of this device.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    pub(crate) phase: Phase,
    failures: u32,
    /// The server does not write in the format that the device wants.
    pub(crate) is_format_refused: bool,
    /// After a failure no bootstrap starts before that.
    not_before: Instant,
}

impl Bootstrap {
    /// Wants a bootstrap after `hold_off` seconds, or after the pause of the last failure; nothing changes when one is wanted or
    /// under way.
    pub(crate) fn want(&mut self, now: Instant, hold_off: u32) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Wanted { at: now.after_secs(hold_off).max(self.not_before) };
        }
    }

    /// Wants a bootstrap at once: a server or the owner asked for it.
    pub(crate) fn trigger(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Idle | Phase::Wanted { .. }) {
            self.phase = Phase::Wanted { at: now };
        }
    }

    /// Whether the bootstrap server may work on the device now.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Requesting | Phase::Writing { .. })
    }

    /// Whether the sequence has begun and not come to its end.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Wanted { .. })
    }

    /// An exchange with the bootstrap server took place.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.is_open() {
            self.phase = Phase::Writing { deadline: now.after_secs(SILENCE) };
        }
    }

    /// It is over and worked.
    pub(crate) fn succeeded(&mut self) {
        *self = Bootstrap::default();
    }

    /// It failed; the next one starts after a pause. `random` spreads the devices of a fleet.
    pub(crate) fn failed(&mut self, now: Instant, random: u8) {
        self.phase = Phase::Idle;
        let doublings = self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE.saturating_mul(1_u32 << doublings).min(LONGEST_PAUSE);
        self.not_before = spread(now, pause, random);
    }

    /// The server wants to be left alone until then.
    pub(crate) fn postpone(&mut self, earliest: Instant) {
        self.not_before = earliest.max(self.not_before);
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Wanted { at } => Some(at),
            Phase::Writing { deadline } => Some(deadline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(bootstrap: &mut Bootstrap, random: u8) -> u64 {
        bootstrap.failed(Instant::from_millis(0), random);
        bootstrap.want(Instant::from_millis(0), 0);
        bootstrap.poll_timeout().map_or(0, |at| at.as_millis() / 1000)
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_spread() {
        let mut bootstrap = Bootstrap::default();
        let pauses: std::vec::Vec<_> = (0..8).map(|_| pause(&mut bootstrap, 0)).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(pause(&mut bootstrap, 255) > 4400);
        bootstrap.succeeded();
        assert_eq!(pause(&mut bootstrap, 0), 60);
    }

    #[test]
    fn each_exchange_restarts_the_silence_and_only_while_it_is_open() {
        let now = Instant::from_millis(5);
        let mut bootstrap = Bootstrap::default();
        bootstrap.heard(now);
        assert_eq!(bootstrap.phase, Phase::Idle);
        bootstrap.phase = Phase::Requesting;
        bootstrap.heard(now);
        assert_eq!(bootstrap.poll_timeout(), Some(now.after_secs(SILENCE)));
    }

    #[test]
    fn wanting_twice_does_not_restart_the_hold_off() {
        let mut bootstrap = Bootstrap::default();
        bootstrap.want(Instant::from_millis(0), 9);
        bootstrap.want(Instant::from_millis(5000), 9);
        assert_eq!(bootstrap.poll_timeout(), Some(Instant::from_millis(9000)));
    }
}
