//! The hook for object security (RFC 8613): where a message is unprotected on its way in and protected on its way out.
//!
//! On the way in it lies behind the search for duplicates and the match of the token, and in front of remembering the
//! message id; on the way out in front of keeping the copy. [`Plain`] is the hook of an association without it.

use core::fmt;
use core::ops::Range;

use crate::code::Code;
use crate::message::Message;
use crate::option::Options;
use crate::token::Token;
use crate::udp::{self, HEADER_LENGTH, Header, Malformed};
use crate::writer::{Draft, WriteError};

/// Protects and unprotects messages in place.
pub trait Protect {
    /// What ties a response to its request; kept with the outstanding request and with the exchange.
    type Binding: Clone;

    /// Unprotects a request.
    ///
    /// # Errors
    /// [`Refused`]: the request is dropped and not remembered.
    fn unprotect_request<'m>(
        &mut self,
        message: Incoming<'m>,
    ) -> Result<(Message<'m>, Self::Binding), Refused>;

    /// Unprotects the response to the request that `binding` belongs to.
    ///
    /// # Errors
    /// [`Refused`]: the response is dropped and the request goes on.
    fn unprotect_response<'m>(
        &mut self,
        binding: &Self::Binding,
        message: Incoming<'m>,
    ) -> Result<Message<'m>, Refused>;

    /// Protects a request.
    ///
    /// # Errors
    /// [`WriteError`] when the room left around the draft is too small.
    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<Self::Binding, WriteError>;

    /// Protects a response, or a notification, which needs a sequence number of its own.
    ///
    /// # Errors
    /// [`WriteError`] when the room left around the draft is too small.
    fn protect_response(
        &mut self,
        binding: &Self::Binding,
        notification: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(), WriteError>;
}

/// A parsed message over the buffer that it came in, which the hook may change.
#[derive(Debug)]
pub struct Incoming<'m> {
    datagram: &'m mut [u8],
    code: Code,
    token: Token,
    options: Range<usize>,
    payload: Range<usize>,
}

impl<'m> Incoming<'m> {
    /// The message that `parse` finds in `datagram`, as places instead of borrows.
    pub(crate) fn parse(datagram: &'m mut [u8]) -> Result<(Header, Self), Malformed> {
        let (header, message) = udp::parse(datagram)?;
        let Message { code, token, options, payload } = message;
        let start = HEADER_LENGTH.saturating_add(usize::from(token.length()));
        let options = start..start.saturating_add(options.length());
        let payload = datagram.len().saturating_sub(payload.len())..datagram.len();
        Ok((header, Self { datagram, code, token, options, payload }))
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The message as it came.
    #[must_use]
    pub fn message(self) -> Message<'m> {
        let Self { datagram, code, token, options, payload } = self;
        let datagram = &*datagram;
        Message {
            code,
            token,
            options: Options::checked(datagram.get(options).unwrap_or_default()),
            payload: datagram.get(payload).unwrap_or_default(),
        }
    }

    /// The buffer and the places of options and payload in it, for a hook that works in place.
    #[must_use]
    pub fn into_parts(self) -> (&'m mut [u8], Range<usize>, Range<usize>) {
        (self.datagram, self.options, self.payload)
    }
}

/// The hook refuses a message: not authentic, replayed, or without a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not verify in any security context")
    }
}

impl core::error::Error for Refused {}

/// No object security.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl Protect for Plain {
    type Binding = ();

    fn unprotect_request<'m>(&mut self, message: Incoming<'m>) -> Result<(Message<'m>, ()), Refused> {
        Ok((message.message(), ()))
    }

    fn unprotect_response<'m>(&mut self, (): &(), message: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Ok(message.message())
    }

    fn protect_request(&mut self, _: &mut Draft<'_>) -> Result<(), WriteError> {
        Ok(())
    }

    fn protect_response(&mut self, (): &(), _: bool, _: &mut Draft<'_>) -> Result<(), WriteError> {
        Ok(())
    }
}
