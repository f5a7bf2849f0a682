//! Session tickets on the server (RFC 5077): a session that its client keeps, sealed for the server that made it.
//!
//! 1. ClientHello with an empty session_ticket →, after the cookie as ever
//! 2. ← ServerHello with an empty session_ticket, and the rest of the flight
//! 3. ClientKeyExchange, ChangeCipherSpec, Finished →
//! 4. ← NewSessionTicket, ChangeCipherSpec, Finished
//!
//! In an abbreviated handshake a NewSessionTicket, if there is one, follows the ServerHello.
//!
//! Invariant: a ticket tells nothing to who has not its key, and one that was changed does not open. As every session, it is
//! only made with the extended master secret.

use core::borrow::BorrowMut;
use core::marker::PhantomData;

use heapless::Vec;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::client_hello::ClientHello;
use crate::connection::Connection;
use crate::crypto::{Aead, Crypto, RunningHash as _, RunningMac as _, RustCrypto};
use crate::error::{ProvideError, Reason};
use crate::event::{Answer, Input, PendingId};
use crate::handshake::{Failure, Handshake, Step};
use crate::message::{Message, MessageType};
use crate::resume::Session;
use crate::time::Instant;
use crate::wire::{Reader, Writer};

/// The longest ticket, in bytes.
pub const TICKET_MAX: usize = 256;

/// The most bytes of the owner's that fit into a ticket beside the session.
pub const TICKET_CONTEXT_MAX: usize = TICKET_MAX - NAME - NONCE - AEAD.tag_length() - SESSION;

/// How tickets are sealed: with the longest tag that this build has.
const AEAD: Aead = {
    #[cfg(feature = "gcm")]
    let aead = Aead::Gcm;
    #[cfg(all(feature = "ccm16", not(feature = "gcm")))]
    let aead = Aead::Ccm;
    #[cfg(not(any(feature = "ccm16", feature = "gcm")))]
    let aead = Aead::Ccm8;
    aead
};

const NAME: usize = 8;
const NONCE: usize = 12;

/// A session without an id, in bytes.
const SESSION: usize = Session::LONGEST - crate::resume::SESSION_ID_MAX;

/// The lifetime and the length in front of a ticket in its message.
const FRONT: usize = 4 + 2;

/// What tickets are sealed under, with a name by which it is found again. Servers with the same root have the same keys.
#[derive(ZeroizeOnDrop)]
pub struct TicketKey<C: Crypto = RustCrypto> {
    /// Which is no secret.
    #[zeroize(skip)]
    name: [u8; NAME],
    key: [u8; 16],
    nonces: [u8; 32],
    #[zeroize(skip)]
    crypto: PhantomData<fn() -> C>,
}

impl<C: Crypto> core::fmt::Debug for TicketKey<C> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("TicketKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<C: Crypto> TicketKey<C> {
    /// The key number `period` of those that come of `root`, 32 random bytes that nobody else knows. Who counts the periods
    /// by a clock rotates keys, and still knows the one before, without keeping anything but the root.
    #[must_use]
    pub fn derive(root: &[u8; 32], period: u64) -> Self {
        let part = |number: u8| {
            let mut mac = C::Hmac::new(root);
            mac.update(b"session ticket");
            mac.update(&period.to_be_bytes());
            mac.update(&[number]);
            Zeroizing::new(mac.finish())
        };
        let (first, nonces) = (part(0), part(1));
        let mut made = Self { name: [0; NAME], key: [0; 16], nonces: *nonces, crypto: PhantomData };
        let places = made.name.iter_mut().chain(&mut made.key);
        places.zip(&*first).for_each(|(to, from)| *to = *from);
        made
    }

    /// Seals `session` and `context` (at most [`TICKET_CONTEXT_MAX`] bytes, which come back with it) as a ticket that the
    /// client is told to keep for `lifetime` seconds. `None` if the context is too long.
    pub fn seal(&self, session: &Session, context: &[u8], lifetime: u32) -> Option<Ticket> {
        let mut content = Zeroizing::new([0; SESSION + TICKET_CONTEXT_MAX]);
        let length = {
            let mut writer = Writer::new(content.as_mut_slice());
            session.without_id().emit_to(&mut writer)?;
            writer.bytes(context)?;
            writer.len()
        };
        let content = content.get_mut(..length)?;
        // Of the content itself, so that only the same ticket has the same nonce.
        let mut mac = C::Hmac::new(&self.nonces);
        mac.update(content);
        let mut nonce = [0; NONCE];
        nonce.iter_mut().zip(mac.finish()).for_each(|(to, from)| *to = from);
        let mut tag = [0; AEAD.tag_length()];
        C::seal(AEAD, &self.key, &nonce, &self.name, content, &mut tag)?;
        let mut bytes = Vec::new();
        for part in [self.name.as_slice(), &nonce, content, &tag] {
            bytes.extend_from_slice(part).ok()?;
        }
        Some(Ticket { bytes, lifetime })
    }

    /// The session and the context that were sealed under this key; `None` if `ticket` is no ticket of this key.
    pub fn open(&self, ticket: &[u8]) -> Option<(Session, Vec<u8, TICKET_CONTEXT_MAX>)> {
        let mut reader = Reader::new(ticket);
        if *reader.array()? != self.name {
            return None;
        }
        let nonce = reader.array()?;
        let mut content = Zeroizing::new([0; SESSION + TICKET_CONTEXT_MAX]);
        let (sealed, tag) =
            reader.rest().split_at_checked(reader.rest().len().checked_sub(AEAD.tag_length())?)?;
        let content = content.get_mut(..sealed.len())?;
        content.copy_from_slice(sealed);
        C::open(AEAD, &self.key, nonce, &self.name, content, tag)?;
        let (session, context) = content.split_at_checked(SESSION)?;
        Some((Session::parse(session)?, Vec::from_slice(context).ok()?))
    }
}

/// A session in the hands of its client.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    bytes: Vec<u8, TICKET_MAX>,
    lifetime: u32,
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Ticket").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Says that there is none after all (RFC 5077 §3.3).
    const NONE: Self = Self { bytes: Vec::new(), lifetime: 0 };

    /// Whether it fits into `memory` bytes of a flight, with a Finished and `before` bytes in front.
    pub(crate) fn fits(&self, memory: usize, before: usize) -> bool {
        self.bytes.len().saturating_add(FRONT + 12).saturating_add(before) <= memory
    }

    /// What the client sends back.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body of its message.
    fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.bytes(&self.lifetime.to_be_bytes())?;
        writer.vector16(&self.bytes)?;
        Some(writer.len())
    }
}

/// Whether a server sends a NewSessionTicket.
#[expect(clippy::large_enum_variant, reason = "there is no allocator, and it is in the handshake's memory")]
pub(crate) enum NewTicket {
    No,
    /// The ServerHello said so, and the session is not there yet.
    Promised,
    Ready(Ticket),
}

impl NewTicket {
    pub(crate) const fn is_promised(&self) -> bool {
        !matches!(self, Self::No)
    }
}

impl ClientHello<'_> {
    /// The ticket of a session that the client wants to go on with; an empty one if it only wants to get one, and `None` if it
    /// knows of none. Beside a ticket the [`session_id`](ClientHello::session_id) names no session (RFC 5077 §3.4).
    pub fn session_ticket(&self) -> Option<&[u8]> {
        self.extensions.session_ticket
    }
}

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    /// Answers a pending operation as [`Connection::provide`]; and if the keys of the connection come of it, and the client was
    /// promised a ticket ([`Resumption::OfferTicket`](crate::Resumption::OfferTicket)), it gets the one that `seal` makes of
    /// the session, or learns that there is none.
    ///
    /// # Errors
    /// As those of [`Connection::provide`].
    pub fn provide_with_ticket(
        &mut self,
        now: Instant,
        id: PendingId,
        answer: Answer<'_>,
        seal: impl FnOnce(&Session) -> Option<Ticket>,
    ) -> Result<Option<Input<'static>>, ProvideError> {
        self.provide_and(now, id, answer, |step, key| step.use_key_with_ticket(key, seal))
    }
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// The key was found: the handshake goes on with it, and with a ticket if one was promised.
    pub(crate) fn use_key_with_ticket(&mut self, psk: &[u8], seal: impl FnOnce(&Session) -> Option<Ticket>) {
        if !self.core.ticket.is_promised() {
            return self.use_key(psk, |_, _| ());
        }
        let (suite, message_seq) = (self.core.suite, self.core.last_flight_seq());
        #[cfg(feature = "record-size-limit")]
        let limits = self.association.limits;
        let mut ticket = Ticket::NONE;
        self.use_key(psk, |transcript, master_secret| {
            let session = Session::made(
                master_secret,
                suite,
                #[cfg(feature = "record-size-limit")]
                limits.fragment_length(),
            );
            ticket = seal(&session).filter(|ticket| ticket.fits(N, 0)).unwrap_or(Ticket::NONE);
            let mut body = [0; FRONT + TICKET_MAX];
            let length = ticket.emit(&mut body).unwrap_or_default();
            let body = body.get(..length).unwrap_or_default();
            let message = Message { message_type: MessageType::NewSessionTicket, message_seq, body };
            transcript.update(&message.header());
            transcript.update(body);
        });
        self.core.ticket = NewTicket::Ready(ticket);
    }

    /// Queues the NewSessionTicket with this number, if there is one to be sent, and returns the number that follows.
    pub(crate) fn push_ticket(&mut self, message_seq: u16) -> Result<u16, Failure> {
        let NewTicket::Ready(ticket) = &self.core.ticket else { return Ok(message_seq) };
        self.flight
            .push(MessageType::NewSessionTicket, message_seq, 0, |out| ticket.emit(out))
            .ok_or(Reason::TooLong)?;
        Ok(message_seq.wrapping_add(1))
    }

    /// The same in an abbreviated handshake, where it is a part of what both Finished cover.
    pub(crate) fn push_renewed_ticket(&mut self, message_seq: u16) -> Result<u16, Failure> {
        let Self { core, flight, .. } = self;
        let NewTicket::Ready(ticket) = &core.ticket else { return Ok(message_seq) };
        let message = flight
            .push(MessageType::NewSessionTicket, message_seq, 0, |out| ticket.emit(out))
            .ok_or(Reason::TooLong)?;
        core.transcript.update(&message.header());
        core.transcript.update(message.body);
        Ok(message_seq.wrapping_add(1))
    }
}
