//! The return routability check's messages (RFC 9853 §4; invariant: an answer repeats exactly the cookie of its challenge).

use heapless::Vec;

use crate::connection_id::ENABLED;
use crate::wire::Reader;

/// Room for a cookie where there can be a check.
const COOKIE: usize = if ENABLED { 8 } else { 0 };

/// What goes over the path to a peer that may have moved.
pub(crate) struct Path {
    /// Whether both sides know the check.
    pub(crate) is_checkable: bool,
    /// Whether the last authentic record is newer than all before it.
    pub(crate) is_newest: bool,
    /// The cookie of a challenge that is to be answered.
    pub(crate) answer: Vec<u8, COOKIE, u8>,
}

impl Path {
    pub(crate) const NONE: Self = Self { is_checkable: false, is_newest: false, answer: Vec::new() };
}

/// The content of a return_routability_check record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathMessage {
    Challenge([u8; 8]),
    Response([u8; 8]),
    Drop([u8; 8]),
    /// A type that is not known, to be ignored.
    Other,
}

impl PathMessage {
    pub(crate) const LENGTH: usize = 9;

    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let message = match reader.u8()? {
            0 => Self::Challenge(*reader.array()?),
            1 => Self::Response(*reader.array()?),
            2 => Self::Drop(*reader.array()?),
            _ => return Some(Self::Other),
        };
        reader.is_empty().then_some(message)
    }

    pub(crate) const fn challenge(cookie: [u8; 8]) -> [u8; Self::LENGTH] {
        Self::emit(0, cookie)
    }

    pub(crate) const fn response(cookie: [u8; 8]) -> [u8; Self::LENGTH] {
        Self::emit(1, cookie)
    }

    const fn emit(code: u8, [a, b, c, d, e, f, g, h]: [u8; 8]) -> [u8; Self::LENGTH] {
        [code, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_other_lengths_are_malformed() {
        let cookie = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(PathMessage::parse(&PathMessage::challenge(cookie)), Some(PathMessage::Challenge(cookie)));
        assert_eq!(PathMessage::parse(&PathMessage::response(cookie)), Some(PathMessage::Response(cookie)));
        assert_eq!(PathMessage::parse(&[2, 1, 2, 3, 4, 5, 6, 7, 8]), Some(PathMessage::Drop(cookie)));
        assert_eq!(PathMessage::parse(&[3]), Some(PathMessage::Other));
        for bad in [&[][..], &[0, 1, 2, 3, 4, 5, 6, 7], &[1, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            assert_eq!(PathMessage::parse(bad), None);
        }
    }
}
