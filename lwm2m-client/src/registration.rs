//! The life of one registration: when to connect, register, update, try again and give up.
//!
//! LwM2M Core 1.1.1 §6.2 and the Server object's resources 13 to 20.
//!
//! 1. `Delayed` until the initial delay, a retry or the turn in the order has come.
//! 2. `Connecting`: the name is resolved, the handshake runs.
//! 3. `Registering`: POST /rd is under way.
//! 4. `Registered`; from here `Updating` and back, before the lifetime ends or when something changed, with a rest in
//!    `PutOff` where the server says 5.03.
//! 5. `Deregistering`, then `Disabled` for a time, or `Idle`.
//!
//! Invariant: a location exists exactly from `Registered` to the end of `Deregistering`.

use heapless::String;
use lwm2m_coap::Instant;
use lwm2m_objects::Version;

use crate::server::{Binding, Server};

/// The version that every server knows.
const OLDEST: Version = Version::new(1, 0);

/// The longest name of a registration, in bytes.
pub(crate) const LOCATION_CAPACITY: usize = 48;

/// For how many seconds a request may stay without an answer until CoAP gives up (RFC 7252 §4.8.2), and a device in queue mode
/// listens after its last message (LwM2M Core 1.1.1 §6.5).
pub const MAX_TRANSMIT_WAIT: u32 = 93;

/// `/1/x/17` to `/1/x/20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Attempts in a sequence.
    pub(crate) count: u32,
    /// Seconds before the second attempt; doubled before each further one.
    pub(crate) timer: u32,
    /// Seconds between sequences; the largest value means that there is no second one.
    pub(crate) sequence_delay: u32,
    /// Sequences.
    pub(crate) sequence_count: u32,
}

impl RetryPolicy {
    /// The defaults of appendix E.2.
    pub(crate) const DEFAULT: RetryPolicy =
        RetryPolicy { count: 5, timer: 60, sequence_delay: 86_400, sequence_count: 1 };

    /// The policy of a Server instance, with the defaults for what is absent.
    pub(crate) fn of(server: &Server) -> Self {
        RetryPolicy {
            count: server.value(17).unwrap_or(Self::DEFAULT.count),
            timer: server.value(18).unwrap_or(Self::DEFAULT.timer),
            sequence_delay: server.value(19).unwrap_or(Self::DEFAULT.sequence_delay),
            sequence_count: server.value(20).unwrap_or(Self::DEFAULT.sequence_count),
        }
    }
}

/// How far the attempts have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Retry {
    attempt: u32,
    sequence: u32,
}

impl Retry {
    /// Counts a failed attempt; how many seconds to wait before the next one, or `None` when the registration failed for good.
    pub(crate) fn failed(&mut self, policy: RetryPolicy) -> Option<u32> {
        self.attempt = self.attempt.saturating_add(1);
        if self.attempt < policy.count {
            let doublings = self.attempt.saturating_sub(1).min(31);
            return Some(policy.timer.saturating_mul(1 << doublings));
        }
        self.attempt = 0;
        self.sequence = self.sequence.saturating_add(1);
        if self.sequence < policy.sequence_count && policy.sequence_delay != u32::MAX {
            return Some(policy.sequence_delay);
        }
        self.sequence = 0;
        None
    }

    /// Starts over.
    pub(crate) fn reset(&mut self) {
        *self = Retry::default();
    }
}

/// Where a registration stands, in the order of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nothing is wanted.
    #[default]
    Idle,
    /// The next attempt starts then, if the order of servers allows.
    Delayed { until: Instant },
    /// Name, credential and handshake.
    Connecting,
    /// Register is due or under way.
    Registering,
    /// The server knows the device.
    Registered,
    /// Update is under way.
    Updating,
    /// The server knows the device, and wants no Update before that.
    PutOff { until: Instant },
    /// De-register is due or under way.
    Deregistering { then: Then },
    /// Executed /1/x/4: silent until then.
    Disabled { until: Instant },
    /// All attempts failed, or one in a way that another cannot mend, at that time.
    Failed { at: Instant },
}

/// What follows a de-registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Silence for so many seconds, then Register.
    Disable(u32),
    /// The end.
    Stop,
}

/// What the next Update has to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Due {
    /// An Update even without parameters.
    pub(crate) refresh: bool,
    /// The object list.
    pub(crate) objects: bool,
}

/// One registration.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    pub(crate) state: State,
    pub(crate) retry: Retry,
    pub(crate) due: Due,
    /// The server does not know the version of this client: it is told the oldest one.
    is_older: bool,
    /// What the server was told last.
    pub(crate) lifetime: u32,
    pub(crate) binding: Binding,
    refreshed_at: Instant,
    /// The hash of the object list that the server was told last.
    pub(crate) links: [u8; 4],
    /// The name of the registration, as its path has it.
    pub(crate) location: String<LOCATION_CAPACITY>,
}

impl Registration {
    /// Wants a registration, first tried after `delay` seconds.
    pub(crate) fn start(&mut self, now: Instant, delay: u32) {
        self.retry.reset();
        self.forget();
        // It may be another one by now.
        self.is_older = false;
        self.state = State::Delayed { until: now.after_secs(delay) };
    }

    /// The version that is spoken with the server, of a client that knows this one and those before.
    pub(crate) const fn version(&self, newest: Version) -> Version {
        if self.is_older { OLDEST } else { newest }
    }

    /// The server does not support the version that it was told (4.12); whether an older one can be tried.
    pub(crate) fn fall_back(&mut self, newest: Version) -> bool {
        let can = !self.is_older && newest > OLDEST;
        self.is_older |= can;
        can
    }

    /// The server answered Register.
    pub(crate) fn registered(&mut self, now: Instant, lifetime: u32, binding: Binding) {
        self.retry.reset();
        self.state = State::Registered;
        self.refreshed(now, lifetime, binding);
    }

    /// The server answered Update.
    pub(crate) fn refreshed(&mut self, now: Instant, lifetime: u32, binding: Binding) {
        self.lifetime = lifetime;
        self.binding = binding;
        self.refreshed_at = now;
    }

    /// The Update under way came to no end; whether it is still wanted. It is not when the registration ends meanwhile.
    pub(crate) fn reopen(&mut self) -> bool {
        let is_updating = self.state == State::Updating;
        if is_updating {
            self.state = State::Registered;
        }
        is_updating
    }

    /// The server took no Update and wants to be left alone until then: the next one goes out then, or when the lifetime asks
    /// for it if that is still to come. `had_objects` tells whether the object list has to be sent again.
    pub(crate) fn postpone_update(&mut self, now: Instant, earliest: Instant, had_objects: bool) {
        if !self.reopen() {
            return;
        }
        let latest = self.update_at().filter(|at| *at > now);
        self.state = State::PutOff { until: latest.map_or(earliest, |latest| latest.min(earliest)) };
        if had_objects {
            self.forget_links();
        }
    }

    /// The object list did not arrive: it is due again.
    pub(crate) fn forget_links(&mut self) {
        self.due.objects = true;
        // The server was told none that is like this one.
        self.links = self.links.map(|byte| !byte);
    }

    /// An Update is due, whatever was put off.
    pub(crate) fn want_update(&mut self) {
        self.due.refresh = true;
        if let State::PutOff { .. } = self.state {
            self.state = State::Registered;
        }
    }

    /// An attempt failed; whether there will be another.
    pub(crate) fn failed(&mut self, now: Instant, policy: RetryPolicy) -> Option<Instant> {
        self.forget();
        match self.retry.failed(policy) {
            Some(delay) => {
                let until = now.after_secs(delay);
                self.state = State::Delayed { until };
                Some(until)
            }
            None => {
                self.state = State::Failed { at: now };
                None
            }
        }
    }

    /// The server wants to be left alone until then: the attempt that waits is not made earlier.
    pub(crate) fn postpone(&mut self, earliest: Instant) {
        if let State::Delayed { until } = &mut self.state {
            *until = earliest.max(*until);
        }
    }

    /// It makes no sense to try again with what there is.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.forget();
        self.retry.reset();
        self.state = State::Failed { at: now };
    }

    /// The registration exists no more.
    pub(crate) fn forget(&mut self) {
        self.location.clear();
        self.due = Due::default();
    }

    /// Whether the server knows the device.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, State::Registered | State::Updating | State::PutOff { .. })
    }

    /// When the next Update is due by the lifetime alone; never for a lifetime of 0.
    pub(crate) fn update_at(&self) -> Option<Instant> {
        if self.lifetime == 0 {
            return None;
        }
        Some(self.refreshed_at.after_millis(update_after(self.lifetime)))
    }
}

/// How many milliseconds after the last Register or Update the next Update goes out: early enough that it can be lost until CoAP
/// gives up, and never later than half of a short lifetime.
fn update_after(lifetime: u32) -> u64 {
    let half = u64::from(lifetime).wrapping_mul(500);
    u64::from(lifetime.saturating_sub(MAX_TRANSMIT_WAIT)).wrapping_mul(1000).max(half)
}

/// One server in the order of registration, `/1/x/13` to `/1/x/15`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) priority: Option<u32>,
    pub(crate) is_blocking: bool,
    pub(crate) state: State,
}

/// Whether a server of this priority may try now: all servers before it have come to an end, and none of them failed
/// with the failure block set. A server without a priority asks nobody.
pub(crate) fn is_turn(priority: Option<u32>, mut all: impl Iterator<Item = Turn>) -> bool {
    let Some(priority) = priority else { return true };
    all.all(|other| match other.priority {
        Some(before) if before < priority => match other.state {
            State::Registered
            | State::Updating
            | State::PutOff { .. }
            | State::Deregistering { .. }
            | State::Disabled { .. } => true,
            State::Failed { .. } => !other.is_blocking,
            State::Idle => true,
            State::Delayed { .. } | State::Connecting | State::Registering => false,
        },
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: RetryPolicy = RetryPolicy::DEFAULT;

    fn delays(policy: RetryPolicy) -> std::vec::Vec<u64> {
        let mut retry = Retry::default();
        core::iter::from_fn(|| retry.failed(policy)).map(u64::from).collect()
    }

    #[test]
    fn the_delay_doubles_with_each_attempt() {
        // LwM2M Core 1.1.1 §6.2.1.1: timer × 2^(attempt − 1)
        assert_eq!(delays(DEFAULT), [60, 120, 240, 480]);
    }

    #[test]
    fn sequences_are_separated_by_their_own_delay() {
        let policy = RetryPolicy { count: 2, timer: 10, sequence_delay: 1000, sequence_count: 3 };
        assert_eq!(delays(policy), [10, 1000, 10, 1000, 10]);
        let policy = RetryPolicy { sequence_delay: u32::MAX, ..policy };
        assert_eq!(delays(policy), [10]);
    }

    #[test]
    fn a_count_of_zero_is_one_attempt() {
        assert!(delays(RetryPolicy { count: 0, ..DEFAULT }).is_empty());
    }

    #[test]
    fn extreme_values_saturate() {
        let policy = RetryPolicy { count: 100, timer: u32::MAX, sequence_delay: 1, sequence_count: 1 };
        assert_eq!(delays(policy).len(), 99);
    }

    #[test]
    fn a_server_waits_for_those_before_it() {
        let turn = |priority, state| Turn { priority: Some(priority), is_blocking: false, state };
        let failed = State::Failed { at: Instant::default() };
        let may = |others: &[Turn]| is_turn(Some(5), others.iter().copied());
        assert!(!may(&[turn(1, State::Registering)]));
        assert!(may(&[turn(1, State::Registered), turn(9, State::Registering)]));
        assert!(may(&[turn(1, failed)]));
        assert!(!may(&[Turn { is_blocking: true, ..turn(1, failed) }]));
        assert!(is_turn(None, [turn(1, State::Registering)].into_iter()));
    }

    #[test]
    fn an_update_goes_out_before_the_lifetime_ends() {
        assert_eq!(update_after(86_400), 86_307_000);
        assert_eq!(update_after(20), 10_000);
        assert_eq!(update_after(1), 500);
        let mut registration = Registration::default();
        registration.registered(Instant::from_millis(1000), 0, Binding::UDP);
        assert_eq!(registration.update_at(), None);
    }

    #[test]
    fn the_defaults_are_those_of_the_server_object() {
        let mut server = Server::empty(0);
        assert_eq!(RetryPolicy::of(&server), DEFAULT);
        assert!(server.set(17, Some(2)));
        assert_eq!(RetryPolicy::of(&server).count, 2);
    }
}
