//! A message as its meaning needs it (RFC 7252 §3): code, token, options and payload, all borrowed. What frames it (the
//! UDP header, later the TCP length) is outside.

use crate::code::Code;
use crate::option::Options;
use crate::token::Token;

/// A request or a response, borrowed from the datagram it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Method or response code.
    pub code: Code,
    /// What matches a response to its request.
    pub token: Token,
    /// The options, checked.
    pub options: Options<'a>,
    /// The payload; empty when there is none.
    pub payload: &'a [u8],
}
