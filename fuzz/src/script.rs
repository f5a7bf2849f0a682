//! Reads a fuzz input as a script: a sequence of small decisions that ends with the input.

use lwm2m_coap::Instant;

/// The rest of a script.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte, or `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next bytes behind a length of one byte; as many as there are.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    /// A span of time: mostly short, up to some 18 minutes.
    pub fn millis(&mut self) -> Option<u64> {
        let byte = u64::from(self.byte()?);
        Some(byte * byte * byte / 16)
    }
}

/// Randomness that a fuzz input can repeat.
pub fn random(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed | 1;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[3];
        }
    }
}

/// A clock that only the script moves.
#[derive(Debug, Default)]
pub struct Clock(u64);

impl Clock {
    /// The present.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_millis(self.0)
    }

    /// Moves on.
    pub fn pass(&mut self, millis: u64) {
        self.0 += millis;
    }

    /// Moves on to `instant`, unless that is past.
    pub fn reach(&mut self, instant: Instant) {
        self.0 = self.0.max(instant.as_millis());
    }
}
