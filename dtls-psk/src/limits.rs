//! How long records may be (RFC 6066 §4, RFC 8449; invariant: no record holds more than its receiver said that it takes).
//!
//! Both extensions count what is in front of encryption: the content, and for record_size_limit also the type behind it in a
//! record with a Connection ID. What is kept here is the content alone.

use core::num::NonZeroU8;

use crate::error::Reason;
use crate::message::HelloExtensions;
use crate::record::PLAINTEXT_MAX;

/// The least record_size_limit (RFC 8449 §4), in bytes.
pub(crate) const LIMIT_MIN: u16 = 64;

/// The record_size_limit of who takes any record.
pub(crate) const LIMIT_MAX: u16 = PLAINTEXT_MAX as u16;

/// A max_fragment_length: 2^9 to 2^12 bytes, by its code of 1 to 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FragmentLength(NonZeroU8);

impl FragmentLength {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        NonZeroU8::new(code).filter(|code| code.get() <= 4).map(Self)
    }

    pub(crate) const fn code(self) -> u8 {
        self.0.get()
    }

    /// The longest of at most `limit` bytes.
    pub(crate) fn within(limit: u16) -> Option<Self> {
        let code = limit.checked_ilog2()?.saturating_sub(8).min(4);
        Self::from_code(u8::try_from(code).ok()?)
    }

    const fn bytes(self) -> u16 {
        0x100_u16.wrapping_shl(self.0.get() as u32)
    }
}

/// What a client offers in the two extensions for a limit of its own: max_fragment_length is for servers that know nothing
/// newer, and would not help who takes any record, nor who takes less than the least of them.
pub(crate) fn offer(limit: Option<u16>) -> (Option<u16>, Option<FragmentLength>) {
    let limit = limit.map(|limit| limit.clamp(LIMIT_MIN, LIMIT_MAX));
    (limit, limit.filter(|limit| *limit < LIMIT_MAX).and_then(FragmentLength::within))
}

/// The most content of a record in each direction, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    send: u16,
    /// With [`OF_FRAGMENTS`], for which there is room: every association has this.
    receive: u16,
}

/// Says that both are a max_fragment_length.
const OF_FRAGMENTS: u16 = 1 << 15;

impl Limits {
    pub(crate) const NONE: Self = Self { send: LIMIT_MAX, receive: LIMIT_MAX };

    /// By what was offered and answered; `has_id` says whether records to the peer and those to us have a Connection ID.
    pub(crate) fn of_sizes(peer: u16, own: u16, has_id: (bool, bool)) -> Self {
        let content = |limit: u16, has_id: bool| limit.min(LIMIT_MAX).saturating_sub(has_id.into());
        Self { send: content(peer, has_id.0), receive: content(own, has_id.1) }
    }

    pub(crate) const fn of_fragments(length: FragmentLength) -> Self {
        Self { send: length.bytes(), receive: length.bytes() | OF_FRAGMENTS }
    }

    /// As they are saved.
    pub(crate) const fn parts(self) -> [u16; 2] {
        [self.send, self.receive]
    }

    /// What [`Limits::parts`] returned.
    pub(crate) fn from_parts([send, receive]: [u16; 2]) -> Option<Self> {
        let is_possible = |limit| (LIMIT_MIN - 1..=LIMIT_MAX).contains(&limit);
        let limits = Self { send, receive };
        (is_possible(send) && is_possible(receive & !OF_FRAGMENTS)).then_some(limits)
    }

    /// The max_fragment_length, which lasts as long as the session (RFC 6066 §4); a record_size_limit is agreed anew each time
    /// (RFC 8449 §4).
    #[cfg(feature = "resumption")]
    pub(crate) fn fragment_length(&self) -> Option<FragmentLength> {
        if self.is_of_fragments() { FragmentLength::within(self.send) } else { None }
    }

    /// In a record to the peer.
    pub(crate) const fn send(&self) -> usize {
        self.send as usize
    }

    /// In a record to us.
    pub(crate) const fn receive(&self) -> usize {
        (self.receive & !OF_FRAGMENTS) as usize
    }

    /// In a record in the clear to the peer: as in others by RFC 6066, and without a bound by RFC 8449.
    pub(crate) const fn plain(&self) -> usize {
        if self.is_of_fragments() { self.send as usize } else { PLAINTEXT_MAX }
    }

    const fn is_of_fragments(&self) -> bool {
        self.receive & OF_FRAGMENTS != 0
    }
}

impl HelloExtensions<'_> {
    /// The max_fragment_length that counts: none beside a record_size_limit (RFC 8449 §5).
    pub(crate) fn fragment_length(&self) -> Result<Option<FragmentLength>, Reason> {
        let code = self.max_fragment_length.filter(|_| self.record_size_limit.is_none());
        // RFC 6066 §4: every other value is an illegal_parameter.
        code.map(|code| FragmentLength::from_code(code).ok_or(Reason::ProtocolViolation)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_fragment_within_a_limit_is_offered() {
        for (limit, code) in [
            (64, None),
            (511, None),
            (512, Some(1)),
            (1023, Some(1)),
            (1024, Some(2)),
            (2048, Some(3)),
            (4096, Some(4)),
            (16_383, Some(4)),
            (16_384, None),
        ] {
            let (offered, length) = offer(Some(limit));
            assert_eq!((offered, length.map(FragmentLength::code)), (Some(limit), code));
        }
        assert_eq!(offer(None), (None, None));
        // Impossible limits become the nearest possible one.
        assert_eq!(offer(Some(0)).0, Some(LIMIT_MIN));
        assert_eq!(offer(Some(u16::MAX)).0, Some(LIMIT_MAX));
    }

    #[test]
    fn limits_come_back_only_if_they_can_be_agreed() {
        for (limit, is_possible) in [(62, false), (63, true), (LIMIT_MAX, true), (LIMIT_MAX + 1, false)] {
            for parts in [[limit, 100], [100, limit], [100, limit | OF_FRAGMENTS]] {
                assert_eq!(Limits::from_parts(parts).is_some(), is_possible, "{parts:?}");
            }
        }
    }

    #[test]
    fn codes_mean_powers_of_two() {
        let bytes = |code| FragmentLength::from_code(code).map(FragmentLength::bytes);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(bytes),
            [None, Some(512), Some(1024), Some(2048), Some(4096), None]
        );
    }

    #[test]
    fn a_limit_counts_the_type_behind_the_content_and_a_fragment_does_not() {
        let limits = Limits::of_sizes(100, 200, (true, false));
        assert_eq!((limits.send(), limits.receive(), limits.plain()), (99, 200, PLAINTEXT_MAX));
        let limits = Limits::of_sizes(u16::MAX, 200, (false, true));
        assert_eq!((limits.send(), limits.receive()), (PLAINTEXT_MAX, 199));
        let limits = FragmentLength::from_code(1).map(Limits::of_fragments);
        let all = limits.map(|limits| (limits.send(), limits.receive(), limits.plain()));
        assert_eq!(all, Some((512, 512, 512)));
    }
}
