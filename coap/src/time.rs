//! Time as the owner tells it: a state machine has no clock (milliseconds, never going back).
//!
//! Invariant: no instant is the bit pattern zero, so that an optional one takes no more memory than one.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

/// A point in time, in milliseconds since an epoch that the owner chooses and keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The instant `millis` milliseconds after the owner's epoch; the last representable one is a millisecond before
    /// `u64::MAX`.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(millis))
    }

    /// Milliseconds since the owner's epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.get().saturating_sub(1)
    }

    /// Whole seconds since the owner's epoch, in 32 bits, which are 136 years; and whether there is a fraction beyond.
    #[must_use]
    pub const fn as_secs(self) -> (u32, bool) {
        // Long division in four steps that a machine of 32 bits has an instruction for.
        let millis = self.as_millis();
        let (mut quotient, mut rest, mut shift) = (0_u64, 0_u64, 48_u32);
        loop {
            let part = (rest << 16 | millis >> shift & 0xffff) as u32;
            quotient = quotient << 16 | (part / 1000) as u64;
            rest = (part % 1000) as u64;
            if shift == 0 {
                break;
            }
            shift = shift.saturating_sub(16);
        }
        (if quotient > u32::MAX as u64 { u32::MAX } else { quotient as u32 }, rest > 0)
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The instant `duration` later. Saturates at the end of time; fractions of a millisecond are cut off.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        self.after_millis(millis(duration))
    }

    /// The instant `seconds` later. Saturates at the end of time.
    #[must_use]
    pub const fn after_secs(self, seconds: u32) -> Self {
        self.after_millis((seconds as u64).wrapping_mul(1000))
    }

    /// The instant `millis` milliseconds later. Saturates at the end of time.
    #[must_use]
    #[inline(never)]
    pub const fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Default for Instant {
    /// The owner's epoch.
    fn default() -> Self {
        Self(NonZeroU64::MIN)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_millis()).finish()
    }
}

/// Whole milliseconds, by arithmetic that a machine of 32 bits has: `Duration::as_millis` counts with 128 bits.
#[inline(never)]
pub(crate) const fn millis(duration: Duration) -> u64 {
    match duration.as_secs().checked_mul(1000) {
        Some(millis) => millis.saturating_add(duration.subsec_millis() as u64),
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        let end = Instant::from_millis(u64::MAX);
        assert_eq!(end.saturating_add(Duration::MAX), end);
        assert_eq!(end.after_secs(u32::MAX), end);
        assert_eq!(Instant::default().since(end), Duration::ZERO);
        assert_eq!(Instant::default(), Instant::from_millis(0));
    }

    #[test]
    fn milliseconds_pass_through_unchanged() {
        let instant = Instant::from_millis(1234);
        assert_eq!(instant.as_millis(), 1234);
        assert_eq!(instant.saturating_add(Duration::from_micros(2_999)).as_millis(), 1236);
        assert_eq!(instant.after_secs(2).since(instant), Duration::from_secs(2));
        assert_eq!(std::format!("{instant:?}"), "Instant(1234)");
    }

    #[test]
    fn an_optional_instant_is_as_small_as_one() {
        assert_eq!(size_of::<Option<Instant>>(), size_of::<Instant>());
    }
}
