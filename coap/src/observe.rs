//! Observing resources (RFC 7641): the order of notifications, on both sides.

use core::time::Duration;

use crate::time::Instant;

/// The Observe option of a request that registers.
pub const REGISTER: u32 = 0;
/// The Observe option of a request that ends the observation.
pub const DEREGISTER: u32 = 1;

/// The sequence numbers of the notifications of one observation, or of all that a device sends.
///
/// RFC 7641 §4.4 wants fewer than 2²³ of them in 256 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence(u32);

impl Sequence {
    /// Begins behind `last`.
    #[must_use]
    pub const fn after(last: u32) -> Self {
        Self(last & MASK)
    }

    /// The next sequence number: 24 bits, which wrap around.
    pub fn advance(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1) & MASK;
        self.0
    }
}

/// The newest notification of one observation, for who observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Milliseconds as bytes, so that all of it takes twelve: there may be millions.
    at: [u8; 8],
    sequence: u32,
}

impl Freshness {
    /// How long at most a notification is under way, so that any that comes later is newer.
    pub const REORDERING: Duration = Duration::from_secs(128);

    /// Begins with the response to the registration.
    #[must_use]
    pub const fn new(now: Instant, sequence: u32) -> Self {
        Self { at: now.as_millis().to_le_bytes(), sequence: sequence & MASK }
    }

    /// When the newest one came, and its sequence number: what [`Freshness::new`] takes.
    #[must_use]
    pub const fn newest(&self) -> (Instant, u32) {
        (Instant::from_millis(u64::from_le_bytes(self.at)), self.sequence)
    }

    /// Whether a notification is newer than the newest so far (RFC 7641 §3.4); if so, it is the newest from now on.
    pub fn update(&mut self, now: Instant, sequence: u32) -> bool {
        let sequence = sequence & MASK;
        let ahead = sequence.wrapping_sub(self.sequence) & MASK;
        // Half the circle is neither before nor behind: it is not newer.
        let newer = (ahead != 0 && ahead < HALF) || now.since(self.newest().0) > Self::REORDERING;
        if newer {
            *self = Self::new(now, sequence);
        }
        newer
    }
}

const MASK: u32 = 0xff_ffff;
const HALF: u32 = 1 << 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_follows_rfc_7641_section_3_4() {
        // v1, t1 and v2, t2 in seconds, v2 newer
        let cases = [
            (5, 0, 6, 1, true),
            (6, 0, 5, 1, false),
            (6, 0, 5, 129, true),
            (6, 0, 5, 128, false),
            (16_777_215, 0, 0, 1, true),
            (0, 0, 16_777_215, 1, false),
            (0, 0, 8_388_607, 1, true),
            (0, 0, 8_388_608, 1, false),
            (8_388_608, 0, 0, 1, false),
            (8_388_609, 0, 0, 1, true),
            (7, 0, 7, 1, false),
        ];
        for (v1, t1, v2, t2, newer) in cases {
            let mut freshness = Freshness::new(Instant::from_millis(t1 * 1000), v1);
            assert_eq!(freshness.update(Instant::from_millis(t2 * 1000), v2), newer, "{v1} {t1} {v2} {t2}");
        }
    }

    #[test]
    fn a_stale_notification_leaves_the_newest_in_place() {
        let mut freshness = Freshness::new(Instant::from_millis(0), 10);
        assert!(!freshness.update(Instant::from_millis(1), 9));
        assert!(!freshness.update(Instant::from_millis(2), 10));
        assert!(freshness.update(Instant::from_millis(3), 11));
    }

    #[test]
    fn the_sequence_wraps_at_24_bits() {
        let mut sequence = Sequence::after(0xff_fffe);
        assert_eq!([sequence.advance(), sequence.advance(), sequence.advance()], [0xff_ffff, 0, 1]);
    }
}
