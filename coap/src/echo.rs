//! Echo (RFC 9175 §2): whether a request is fresh, and whether its sender receives what is sent to its address.
//!
//! 1. A request comes without an Echo option, or with a value that is no longer good: [`Challenge::refuse`] answers 4.01
//!    with a value, no longer than three times the request.
//! 2. The client repeats the request with that value, and [`Challenge::accepts`] it.
//!
//! Invariant: nothing is kept for a challenge (RFC 9175 appendix A.2): a value holds the second it was made in and the
//! owner's MAC over that and whom it was made for.

use core::time::Duration;

use crate::code::Code;
use crate::option::OptionNumber;
use crate::time::Instant;
use crate::writer::{WriteError, Writer};

/// The longest value that a server may choose, in bytes.
pub const MAX_LENGTH: usize = 40;

/// The seconds and the MAC.
const LENGTH: usize = TIME + MAC;
const TIME: usize = 4;
const MAC: usize = 8;

/// Makes and checks the values of one server.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<M> {
    window: u32,
    mac: M,
}

impl<M: Fn(&[u8; TIME]) -> [u8; MAC]> Challenge<M> {
    /// Values that are good for `window`, to the second. `mac` is the beginning of a message authentication code, under a
    /// key that nobody else has, over what it is given and what names the client: its address, or its association.
    pub fn new(window: Duration, mac: M) -> Self {
        Self { window: u32::try_from(window.as_secs()).unwrap_or(u32::MAX), mac }
    }

    /// The value to send now.
    pub fn value(&self, now: Instant) -> [u8; LENGTH] {
        let time = now.as_secs().0.to_be_bytes();
        let mut value = [0; LENGTH];
        let (head, tail) = value.split_at_mut(TIME);
        head.copy_from_slice(&time);
        tail.copy_from_slice(&(self.mac)(&time));
        value
    }

    /// Whether a request carries a value that was made here, for this client, and within the window.
    pub fn accepts(&self, now: Instant, value: Option<&[u8]>) -> bool {
        let Some((time, mac)) = value.and_then(|value| value.split_first_chunk::<TIME>()) else {
            return false;
        };
        let expected = (self.mac)(time);
        // In constant time, so that nobody finds the bytes one by one.
        let differ = expected.iter().zip(mac).fold(0, |differ, (one, other)| differ | one ^ other);
        let age = now.as_secs().0.checked_sub(u32::from_be_bytes(*time));
        mac.len() == MAC && differ == 0 && age.is_some_and(|age| age <= self.window)
    }

    /// Writes the response that asks for the value.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn refuse(&self, now: Instant, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.restart(Code::UNAUTHORIZED);
        writer.option(OptionNumber::ECHO, &self.value(now)).map(|_| ())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::option::Options;
    use crate::writer::Room;

    /// No MAC, but different for different clients and times.
    fn challenge(client: u8) -> Challenge<impl Fn(&[u8; 4]) -> [u8; 8]> {
        Challenge::new(Duration::from_secs(30), move |time: &[u8; 4]| {
            let [a, b, c, d] = *time;
            [a, b, c, d, client, d, c, b]
        })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds.saturating_mul(1000))
    }

    #[test]
    fn a_value_is_good_for_its_window_and_its_client() {
        // RFC 9175 §2.3: a value proves freshness only within the time that its server grants, and for one client.
        let value = challenge(1).value(at(1000));
        for (now, is_good) in [(999, false), (1000, true), (1030, true), (1031, false)] {
            assert_eq!(challenge(1).accepts(at(now), Some(&value)), is_good, "{now}");
        }
        assert!(!challenge(2).accepts(at(1000), Some(&value)));
        assert!(!challenge(1).accepts(at(1000), None));
    }

    #[test]
    fn every_changed_or_cut_value_is_refused() {
        let value = challenge(1).value(at(1000));
        for place in 0..value.len() {
            let mut changed = value;
            *changed.get_mut(place).unwrap() ^= 1;
            assert!(!challenge(1).accepts(at(1000), Some(&changed)), "{place}");
            assert!(!challenge(1).accepts(at(1000), value.get(..place)));
        }
        let mut longer = value.to_vec();
        longer.push(0);
        assert!(!challenge(1).accepts(at(1000), Some(&longer)));
    }

    #[test]
    fn the_refusal_carries_the_value_and_is_short() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CREATED);
        challenge(1).refuse(at(1000), &mut writer).unwrap();
        let draft = writer.finish().unwrap();
        assert_eq!(draft.code(), Code::UNAUTHORIZED);
        let value = Options::parse(draft.bytes()).unwrap().0.echo().unwrap().to_vec();
        assert!(challenge(1).accepts(at(1001), Some(&value)));
        // RFC 9175 §2.4: with a header of 4 bytes less than three times the shortest request with a path.
        assert!(draft.bytes().len() + 4 <= 3 * 7);
    }

    #[test]
    fn a_value_of_a_forbidden_length_is_as_absent() {
        for (length, is_there) in [(0, false), (1, true), (40, true), (41, false)] {
            let mut buffer = [0; 80];
            let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
            writer.option(OptionNumber::ECHO, std::vec![7; length].as_slice()).unwrap();
            let draft = writer.finish().unwrap();
            assert_eq!(Options::parse(draft.bytes()).unwrap().0.echo().is_some(), is_there, "{length}");
        }
    }
}
