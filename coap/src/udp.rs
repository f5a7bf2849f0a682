//! The UDP framing (RFC 7252 §3, §4): version, type, message id, and which faults may be answered with a Reset.
//!
//! Invariant: a datagram of another version is never answered, and only a Confirmable message can be rejected.

use core::fmt;

use crate::code::Code;
use crate::message::Message;
use crate::option::Options;
use crate::token::Token;

/// The bytes of the header in front of the token.
pub const HEADER_LENGTH: usize = 4;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// CON: to be acknowledged.
    Confirmable = 0,
    /// NON: not to be acknowledged.
    NonConfirmable = 1,
    /// ACK.
    Acknowledgement = 2,
    /// RST.
    Reset = 3,
}

/// What matches an ACK or RST to its message, and finds duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(pub u16);

/// The header of a datagram, less the code and the token's length, which belong to the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub kind: Kind,
    /// The message id.
    pub id: MessageId,
}

/// Parses a datagram.
///
/// # Errors
/// [`Malformed`], which says whether the sender may be told by a Reset.
pub fn parse(datagram: &[u8]) -> Result<(Header, Message<'_>), Malformed> {
    let Some(([first, code, id_high, id_low], rest)) = datagram.split_first_chunk::<HEADER_LENGTH>() else {
        return Err(Malformed { fault: Fault::Truncated, reject: None });
    };
    // RFC 7252 §3: messages of an unknown version are silently ignored.
    if first >> 6 != VERSION {
        return Err(Malformed { fault: Fault::Version, reject: None });
    }
    let kind = match first >> 4 & 0x03 {
        0 => Kind::Confirmable,
        1 => Kind::NonConfirmable,
        2 => Kind::Acknowledgement,
        _ => Kind::Reset,
    };
    let header = Header { kind, id: MessageId(u16::from_be_bytes([*id_high, *id_low])) };
    match parse_body(Code::from_u8(*code), usize::from(first & 0x0f), rest) {
        Ok(message) => Ok((header, message)),
        Err(fault) => Err(Malformed { fault, reject: (kind == Kind::Confirmable).then_some(header.id) }),
    }
}

/// Parses what lies behind the header.
fn parse_body(code: Code, token_length: usize, rest: &[u8]) -> Result<Message<'_>, Fault> {
    if token_length > Token::MAX_LENGTH {
        return Err(Fault::TokenLength);
    }
    // RFC 7252 §4.1: an empty message ends after its message id.
    if code == Code::EMPTY {
        if token_length != 0 || !rest.is_empty() {
            return Err(Fault::Empty);
        }
    } else if !code.is_request() && !code.is_response() {
        return Err(Fault::Class);
    }
    let (token, rest) = rest.split_at_checked(token_length).ok_or(Fault::Truncated)?;
    let token = Token::new(token).ok_or(Fault::TokenLength)?;
    let (options, payload) = Options::parse(rest).map_err(|_| Fault::Options)?;
    Ok(Message { code, token, options, payload })
}

/// An empty message (ACK, RST, or a ping as CON).
#[must_use]
pub const fn empty(kind: Kind, id: MessageId) -> [u8; HEADER_LENGTH] {
    header(Header { kind, id }, Code::EMPTY, 0)
}

/// The four bytes in front of a token of `token_length` bytes.
pub(crate) const fn header(header: Header, code: Code, token_length: u8) -> [u8; HEADER_LENGTH] {
    let [high, low] = header.id.0.to_be_bytes();
    [VERSION << 6 | (header.kind as u8) << 4 | token_length, code.as_u8(), high, low]
}

/// A datagram that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with it.
    pub fault: Fault,
    /// The message id to reject with a Reset: only that of a Confirmable message whose header could be read.
    pub reject: Option<MessageId>,
}

/// What is wrong with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It ends within the header or the token.
    Truncated,
    /// It has another version than 1.
    Version,
    /// It has a token of 9 to 15 bytes.
    TokenLength,
    /// It has the code 0.00 and more than a header.
    Empty,
    /// Its code has a reserved class.
    Class,
    /// Its options cannot be read, or its payload marker has no payload behind it.
    Options,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            Fault::Truncated => "the datagram ends within its header or token",
            Fault::Version => "the version is not 1",
            Fault::TokenLength => "the token is longer than 8 bytes",
            Fault::Empty => "an empty message has more than a header",
            Fault::Class => "the code has a reserved class",
            Fault::Options => "the options or the payload marker are malformed",
        })
    }
}

impl core::error::Error for Malformed {}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(datagram: &[u8]) -> Option<(Fault, Option<u16>)> {
        let malformed = parse(datagram).err()?;
        Some((malformed.fault, malformed.reject.map(|id| id.0)))
    }

    #[test]
    fn only_a_confirmable_message_with_a_readable_header_is_rejected() {
        assert_eq!(fault(&[]), Some((Fault::Truncated, None)));
        assert_eq!(fault(&[0x40, 1, 2]), Some((Fault::Truncated, None)));
        // Another version is silently ignored (RFC 7252 §3).
        assert_eq!(fault(&[0x00, 1, 0, 9]), Some((Fault::Version, None)));
        assert_eq!(fault(&[0x80, 1, 0, 9]), Some((Fault::Version, None)));
        assert_eq!(fault(&[0xc0, 1, 0, 9]), Some((Fault::Version, None)));
        // CON, NON, ACK and RST with an option that is cut.
        assert_eq!(fault(&[0x40, 1, 0, 9, 0xb1]), Some((Fault::Options, Some(9))));
        assert_eq!(fault(&[0x50, 1, 0, 9, 0xb1]), Some((Fault::Options, None)));
        assert_eq!(fault(&[0x60, 0x45, 0, 9, 0xb1]), Some((Fault::Options, None)));
        assert_eq!(fault(&[0x70, 0x45, 0, 9, 0xb1]), Some((Fault::Options, None)));
    }

    #[test]
    fn tokens_of_9_to_15_bytes_are_a_format_error() {
        for length in 9..=15 {
            let mut datagram = [0; 32];
            datagram[..4].copy_from_slice(&[0x40 | length, 1, 0, 9]);
            assert_eq!(fault(&datagram), Some((Fault::TokenLength, Some(9))));
        }
    }

    #[test]
    fn a_message_shorter_than_its_token_is_a_format_error() {
        assert_eq!(fault(&[0x48, 1, 0, 9, 1, 2, 3]), Some((Fault::Truncated, Some(9))));
    }

    #[test]
    fn an_empty_message_has_nothing_behind_its_id() {
        assert!(parse(&[0x40, 0, 0, 9]).is_ok());
        assert_eq!(fault(&[0x41, 0, 0, 9, 1]), Some((Fault::Empty, Some(9))));
        assert_eq!(fault(&[0x40, 0, 0, 9, 0x00]), Some((Fault::Empty, Some(9))));
        assert_eq!(fault(&[0x60, 0, 0, 9, 0xff, 1]), Some((Fault::Empty, None)));
    }

    #[test]
    fn reserved_classes_are_a_format_error() {
        for class in [1, 3, 6, 7] {
            assert_eq!(fault(&[0x40, class << 5 | 1, 0, 9]), Some((Fault::Class, Some(9))));
        }
    }

    #[test]
    fn a_payload_marker_wants_a_payload() {
        assert_eq!(fault(&[0x40, 1, 0, 9, 0xff]), Some((Fault::Options, Some(9))));
        assert!(parse(&[0x40, 1, 0, 9, 0xff, 0xff]).is_ok_and(|(_, message)| message.payload == [0xff]));
    }
}
