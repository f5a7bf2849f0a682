//! The hook for object security (RFC 8613): where a message is unprotected on its way in and protected on its way out.
//!
//! On the way in it lies behind the search for duplicates and the match of the token, and in front of remembering the
//! message id; on the way out in front of keeping the copy. [`Plain`] is the hook of an association without it.

mod rewrite;

use core::fmt;
use core::ops::Range;

use crate::code::Code;
use crate::message::Message;
use crate::option::Options;
use crate::token::Token;
use crate::udp::{self, HEADER_LENGTH, Header, Malformed};
use crate::writer::Draft;

pub use rewrite::{Keep, rewrite};

/// Protects and unprotects messages in place.
pub trait Protect {
    /// What ties a response to its request; kept with the outstanding request and with the exchange.
    type Binding: Clone;

    /// Whether messages are protected at all.
    fn protects(&self) -> bool;

    /// Unprotects a request. One that is `repeated` came before and was answered, with more than is kept for a repetition.
    ///
    /// # Errors
    /// [`Refused`]: the request is not remembered.
    fn unprotect_request<'m>(
        &mut self,
        message: Incoming<'m>,
        repeated: bool,
    ) -> Result<(Message<'m>, Self::Binding), Refused>;

    /// Unprotects the response to the request that `binding` belongs to.
    ///
    /// # Errors
    /// [`Refused`]: the request goes on.
    fn unprotect_response<'m>(
        &mut self,
        binding: &Self::Binding,
        message: Incoming<'m>,
    ) -> Result<Message<'m>, Refused>;

    /// Unprotects a response that no outstanding request awaits: a notification, if its token is that of an observation.
    ///
    /// # Errors
    /// [`Refused`]: the observation goes on.
    fn unprotect_notification<'m>(&mut self, message: Incoming<'m>) -> Result<Message<'m>, Refused>;

    /// Protects a request.
    ///
    /// # Errors
    /// [`Unprotectable`]: nothing is to be sent.
    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<Self::Binding, Unprotectable>;

    /// Protects a response, or a notification, which needs a sequence number of its own.
    ///
    /// # Errors
    /// [`Unprotectable`]: nothing is to be sent.
    fn protect_response(
        &mut self,
        binding: &Self::Binding,
        notification: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(), Unprotectable>;
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

    /// The options as they came.
    #[must_use]
    pub fn options(&self) -> Options<'_> {
        Options::checked(self.datagram.get(self.options.clone()).unwrap_or_default())
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

/// The hook refuses a message: not authentic, replayed, or without a context. What the remote hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing.
    Silent,
    /// To a Confirmable request this response, which is not protected and not to be cached (RFC 8613 §8.2).
    Answer(Code),
    /// To a Confirmable notification an acknowledgement: it is authentic, and older than one that came.
    Acknowledge,
    /// To a notification a Reset: its token is that of no observation.
    Reset,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent | Self::Answer(_) => "the message does not verify in any security context",
            Self::Acknowledge => "the notification is older than one that came",
            Self::Reset => "the notification belongs to no observation",
        })
    }
}

impl core::error::Error for Refused {}

/// The hook cannot protect a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unprotectable {
    /// The room left around the draft is too small.
    Full,
    /// No sequence number is reserved in durable storage; send again when one is.
    NoSequence,
    /// The keys of the request or of the observation were replaced.
    Superseded,
    /// An option would show what is to be protected: Proxy-Uri is written as Proxy-Scheme, Uri-Host and Uri-Path instead.
    Exposed,
}

impl fmt::Display for Unprotectable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the buffer has no room for the protected message",
            Self::NoSequence => "no sequence number is reserved in durable storage",
            Self::Superseded => "the keys of the request or of the observation were replaced",
            Self::Exposed => {
                "Proxy-Uri cannot be protected; write Proxy-Scheme, Uri-Host and Uri-Path instead"
            }
        })
    }
}

impl core::error::Error for Unprotectable {}

/// No object security.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl Protect for Plain {
    type Binding = ();

    fn protects(&self) -> bool {
        false
    }

    fn unprotect_request<'m>(
        &mut self,
        message: Incoming<'m>,
        _: bool,
    ) -> Result<(Message<'m>, ()), Refused> {
        Ok((message.message(), ()))
    }

    fn unprotect_response<'m>(&mut self, (): &(), message: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Ok(message.message())
    }

    fn unprotect_notification<'m>(&mut self, message: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Ok(message.message())
    }

    fn protect_request(&mut self, _: &mut Draft<'_>) -> Result<(), Unprotectable> {
        Ok(())
    }

    fn protect_response(&mut self, (): &(), _: bool, _: &mut Draft<'_>) -> Result<(), Unprotectable> {
        Ok(())
    }
}

/// Protects where there is a hook, and leaves messages alone where there is none.
impl<P: Protect> Protect for Option<P> {
    type Binding = Option<P::Binding>;

    fn protects(&self) -> bool {
        self.as_ref().is_some_and(P::protects)
    }

    fn unprotect_request<'m>(
        &mut self,
        message: Incoming<'m>,
        repeated: bool,
    ) -> Result<(Message<'m>, Option<P::Binding>), Refused> {
        match self {
            Some(protection) => protection
                .unprotect_request(message, repeated)
                .map(|(message, binding)| (message, Some(binding))),
            None => Ok((message.message(), None)),
        }
    }

    fn unprotect_response<'m>(
        &mut self,
        binding: &Option<P::Binding>,
        message: Incoming<'m>,
    ) -> Result<Message<'m>, Refused> {
        match (self, binding) {
            (Some(protection), Some(binding)) => protection.unprotect_response(binding, message),
            (None, None) => Ok(message.message()),
            _ => Err(Refused::Silent),
        }
    }

    fn unprotect_notification<'m>(&mut self, message: Incoming<'m>) -> Result<Message<'m>, Refused> {
        match self {
            Some(protection) => protection.unprotect_notification(message),
            None => Ok(message.message()),
        }
    }

    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<Option<P::Binding>, Unprotectable> {
        self.as_mut().map(|protection| protection.protect_request(draft)).transpose()
    }

    fn protect_response(
        &mut self,
        binding: &Option<P::Binding>,
        notification: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(), Unprotectable> {
        match (self, binding) {
            (Some(protection), Some(binding)) => protection.protect_response(binding, notification, draft),
            (None, None) => Ok(()),
            _ => Err(Unprotectable::Superseded),
        }
    }
}
