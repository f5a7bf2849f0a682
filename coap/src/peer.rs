//! All that is known of one remote (RFC 7252 §4, §5.2, §5.3): what it sent, what it was answered, what is awaited from it.
//!
//! 1. Request out: [`Peer::request`] keeps a copy; [`Peer::poll_transmit`] sends it again until an ACK, a RST or the
//!    response comes, or [`Peer::poll_event`] says that it failed.
//! 2. Response in: found by its token (and message id when piggybacked), unprotected, acknowledged.
//! 3. Request in: looked up among the remembered ids, unprotected, remembered, handed to the owner as an [`Exchange`].
//! 4. Response out: [`Peer::respond`], piggybacked, or separate after [`Peer::defer`]; the copy serves duplicates.
//! 5. Notification out: [`Peer::notify`]. Notification in: [`Input::Unsolicited`], then [`Peer::accept`] or
//!    [`Peer::reject`].
//!
//! Invariant: nothing that was not authenticated is remembered, and a remembered request that is not idempotent reaches
//! the owner once.

use core::num::NonZeroU64;
use core::ops::Range;

use crate::Rng;
use crate::code::Code;
use crate::option::{OptionNumber, PAYLOAD_MARKER};
use crate::parameters::Parameters;
use crate::protect::Protect;
use crate::time::Instant;
use crate::token::Token;
use crate::udp::{self, HEADER_LENGTH, Header, Kind, MessageId};
use crate::writer::Writer;

mod answers;
mod exchange;
mod incoming;
mod outcome;
mod outgoing;
mod saved;

use answers::{Answers, State};
use exchange::Answer;
pub use exchange::{Exchange, Observer};
pub use outcome::{Event, Failure, Ignored, Input, RequestId, SendError, Sent};
use outgoing::{Outgoing, Role};
pub use saved::{Reply, Settled};

/// One remote endpoint: an address without security, else an association.
///
/// `B` holds a message's copy. `REQUESTS` is how many messages of ours may be unsettled at once: requests, separate
/// Confirmable responses and Confirmable notifications. `ANSWERS` is how many messages of the remote are remembered.
/// `NOTIFIED` is for how many observers a Reset to their last Non-confirmable notification is recognised: zero for who
/// sends none. `K` is the [`Protect::Binding`]. `A` holds the copy of an answer, where that is to take another size than
/// that of a request.
#[derive(Debug)]
pub struct Peer<B, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize = 0, K = (), A = B> {
    parameters: &'static Parameters,
    tokens: TokenPolicy,
    next_id: u16,
    due: Due,
    outgoing: heapless::Vec<Outgoing<B, K>, REQUESTS, u8>,
    answers: Answers<A, ANSWERS>,
    notified: heapless::Vec<(MessageId, Token), NOTIFIED, u8>,
}

impl<B: Stored, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize, K: Clone, A: Stored>
    Peer<B, REQUESTS, ANSWERS, NOTIFIED, K, A>
{
    /// A remote of which nothing is known yet. Message ids start at a random one.
    #[must_use]
    pub fn new(parameters: &'static Parameters, tokens: TokenPolicy, rng: &mut Rng<'_>) -> Self {
        let mut id = [0; 2];
        rng(&mut id);
        Self {
            parameters,
            tokens,
            next_id: u16::from_le_bytes(id),
            due: Due::Nothing,
            outgoing: heapless::Vec::new(),
            answers: Answers::new(),
            notified: heapless::Vec::new(),
        }
    }

    /// A token that no outstanding request has and of which `in_use` says that no living observation has it.
    pub fn next_token(&mut self, rng: &mut Rng<'_>, in_use: impl Fn(Token) -> bool) -> Token {
        let mut random = [0; TokenPolicy::RANDOM_LENGTH];
        if self.tokens == TokenPolicy::Random {
            rng(&mut random);
        }
        let mut random = u32::from_le_bytes(random);
        loop {
            let token = match &mut self.tokens {
                TokenPolicy::Counter { next } => {
                    let token = Token::from_counter(next.get());
                    *next = next.checked_add(1).unwrap_or(NonZeroU64::MIN);
                    token
                }
                TokenPolicy::Random => {
                    let token = Token::new(&random.to_le_bytes()).unwrap_or_default();
                    // A collision hardly ever happens; counting on ends the loop even with a broken generator.
                    random = random.wrapping_add(1);
                    token
                }
            };
            if !self.outgoing.iter().any(|outgoing| outgoing.token == token) && !in_use(token) {
                return token;
            }
        }
    }

    /// Makes a request of what `writer` holds. `token` comes from [`Peer::next_token`], or is that of the observation
    /// that the request cancels. Send the bytes at once; [`Peer::poll_timeout`] has changed.
    ///
    /// # Errors
    /// [`SendError`]: nothing is to be sent and nothing has changed, but the buffer of the writer.
    pub fn request<P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        delivery: Delivery,
        token: Token,
        writer: Writer<'_>,
        protect: &mut P,
        rng: &mut Rng<'_>,
    ) -> Result<(RequestId, Range<usize>), SendError> {
        self.has_room(now, Role::Request)?;
        let mut draft = writer.finish()?;
        let binding = protect.protect_request(&mut draft)?;
        let id = self.next_message_id();
        let range = draft.emit(Header { kind: delivery.into(), id }, token);
        let sent = draft.buffer.get(range.clone()).unwrap_or_default();
        self.keep(now, (Role::Request, delivery), (id, token), Some(binding), sent, rng)?;
        Ok((RequestId(id), range))
    }

    /// Answers a request: piggybacked, or after [`Peer::defer`] separately, or Non-confirmable to a Non-confirmable one.
    /// Send the bytes at once.
    ///
    /// # Errors
    /// [`SendError`]: nothing is to be sent, and the exchange can still be answered in another way.
    pub fn respond<P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        exchange: &mut Exchange<K>,
        writer: Writer<'_>,
        protect: &mut P,
        rng: &mut Rng<'_>,
    ) -> Result<Range<usize>, SendError> {
        let answer = match exchange.answer {
            Answer::Given => return Err(SendError::Answered),
            answer => answer,
        };
        if answer == Answer::Separate(Delivery::Confirmable) {
            self.has_room(now, Role::Response)?;
        }
        let mut draft = writer.finish()?;
        protect.protect_response(&exchange.binding, false, &mut draft)?;
        let header = match answer {
            Answer::Separate(delivery) => Header { kind: delivery.into(), id: self.next_message_id() },
            _ => Header { kind: Kind::Acknowledgement, id: exchange.id },
        };
        let range = draft.emit(header, exchange.token);
        let sent = draft.buffer.get(range.clone()).unwrap_or_default();
        match answer {
            Answer::Separate(delivery) => {
                if delivery == Delivery::Confirmable {
                    self.keep(now, (Role::Response, delivery), (header.id, exchange.token), None, sent, rng)?;
                }
                let state = match exchange.kind {
                    Kind::Confirmable => State::Acknowledged,
                    _ => State::Silent,
                };
                self.answers.set(exchange.id, state, None);
            }
            _ => match A::store(sent) {
                Some(copy) => self.answers.set(exchange.id, State::Answered, Some(copy)),
                // RFC 7252 §4.5: an idempotent request may be executed again instead.
                None if exchange.idempotent => self.answers.set(exchange.id, State::Repeatable, None),
                None => self.answers.set(exchange.id, State::Silent, None),
            },
        }
        exchange.answer = Answer::Given;
        Ok(range)
    }

    /// Puts the answer off: an empty ACK goes out with the next [`Peer::poll_transmit`], and [`Peer::respond`] will send
    /// a separate response with `delivery`. The owner keeps the exchange until then. Does nothing to an exchange that was
    /// deferred or answered before, nor to a Non-confirmable request, which may be answered at any time.
    pub fn defer(&mut self, exchange: &mut Exchange<K>, delivery: Delivery) {
        if exchange.answer == Answer::Piggybacked {
            exchange.answer = Answer::Separate(delivery);
            self.due = Due::Acknowledge(exchange.id);
            self.answers.set(exchange.id, State::Deferred, None);
        }
    }

    /// Ends an exchange without a response because its client does not want one (RFC 7967 §2): a Confirmable request is
    /// acknowledged with the next [`Peer::poll_transmit`], a Non-confirmable one is left in silence.
    pub fn suppress(&mut self, exchange: &mut Exchange<K>) {
        let state = match exchange.kind {
            Kind::Confirmable => State::Acknowledged,
            _ => State::Silent,
        };
        if core::mem::replace(&mut exchange.answer, Answer::Given) == Answer::Piggybacked {
            self.due = Due::Acknowledge(exchange.id);
        }
        self.answers.set(exchange.id, state, None);
    }

    /// Notifies an observer. Send the bytes at once.
    ///
    /// # Errors
    /// [`SendError::Busy`] also while another Confirmable notification to this observer is outstanding: notify again with
    /// the then newest state once it is acknowledged (RFC 7641 §4.5).
    #[inline(never)]
    pub fn notify<P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        delivery: Delivery,
        observer: &Observer<K>,
        writer: Writer<'_>,
        protect: &mut P,
        rng: &mut Rng<'_>,
    ) -> Result<Range<usize>, SendError> {
        let token = observer.token;
        if self.is_notifying(token) {
            return Err(SendError::Busy);
        }
        if delivery == Delivery::Confirmable {
            self.has_room(now, Role::Notification)?;
        }
        let mut draft = writer.finish()?;
        protect.protect_response(&observer.binding, true, &mut draft)?;
        let id = self.next_message_id();
        let range = draft.emit(Header { kind: delivery.into(), id }, token);
        match delivery {
            Delivery::Confirmable => {
                let sent = draft.buffer.get(range.clone()).unwrap_or_default();
                self.keep(now, (Role::Notification, delivery), (id, token), None, sent, rng)?;
            }
            Delivery::NonConfirmable => {
                self.notified.retain(|(_, other)| *other != token);
                if self.notified.is_full() && NOTIFIED > 0 {
                    self.notified.remove(0);
                }
                // Without room a Reset is not recognised, but the next Confirmable notification finds out.
                let _ = self.notified.push((id, token));
            }
        }
        Ok(range)
    }

    /// Accepts an unsolicited response as a notification: a Confirmable one is acknowledged with the next
    /// [`Peer::poll_transmit`]. A notification that is not fresh is accepted too.
    pub fn accept(&mut self, header: Header) {
        if header.kind == Kind::Confirmable {
            self.due = Due::Acknowledge(header.id);
        }
    }

    /// Rejects an unsolicited response with a Reset, which ends the observation on the other side.
    pub fn reject(&mut self, header: Header) {
        self.due = Due::Reset(header.id);
    }

    /// Forgets an outstanding request; a response that still comes is unsolicited.
    pub fn cancel(&mut self, request: RequestId) {
        if let Some(at) = self.outgoing.iter().position(|outgoing| outgoing.sent() == Sent::Request(request))
        {
            self.outgoing.remove(at);
        }
    }

    /// Fails all that is outstanding and forgets all that was answered: the association was replaced, and message ids of
    /// the remote begin anew. Drain [`Peer::poll_event`].
    pub fn fail_all(&mut self) {
        for outgoing in &mut self.outgoing {
            outgoing.fail(Failure::Replaced);
        }
        self.due = Due::Nothing;
        self.answers.clear();
        self.notified.clear();
    }

    /// Fails what this side began, requests and notifications, in an association that goes on: what was answered stays known, so that a
    /// repeated request is not carried out again. Drain [`Peer::poll_event`].
    pub fn fail_begun(&mut self) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.role != Role::Response) {
            outgoing.fail(Failure::Replaced);
        }
    }

    /// Tells whether a Confirmable notification to this observer waits for its acknowledgement.
    #[must_use]
    pub fn is_notifying(&self, token: Token) -> bool {
        self.outgoing.iter().any(|other| other.role == Role::Notification && other.token == token)
    }

    /// Writes the next datagram that is due to the start of `out` and returns its length: an ACK, a RST, a repeated answer
    /// or a retransmission. Call it until `None` after every other call, and when [`Peer::poll_timeout`] is reached; a
    /// spurious call is harmless. A datagram that does not fit in `out` is as lost.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let mut put = |bytes: &[u8]| {
            out.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(bytes.len())
        };
        let written = match core::mem::replace(&mut self.due, Due::Nothing) {
            Due::Nothing => None,
            Due::Acknowledge(id) => put(&udp::empty(Kind::Acknowledgement, id)),
            Due::Reset(id) => put(&udp::empty(Kind::Reset, id)),
            Due::Repeat(id) => {
                self.answers.find(id).and_then(|(_, bytes)| bytes).and_then(|bytes| put(bytes.bytes()))
            }
            Due::Refuse { id, token, code } => put(&refusal(id, token, code, &[])),
            // RFC 8613 §8.2: Max-Age 0 keeps it out of caches.
            Due::Unprotected { id, token, code } => put(&response(id, token, code, &MAX_AGE_ZERO)),
            Due::BadOption { id, token, number } => {
                put(&refusal(id, token, Code::BAD_OPTION, &number.diagnostic()))
            }
        };
        if written.is_some() {
            return written;
        }
        self.outgoing.iter_mut().find_map(|outgoing| {
            if !outgoing.retransmit(now) {
                return None;
            }
            outgoing.copy.as_ref().and_then(|copy| put(copy.bytes()))
        })
    }

    /// What failed. Call it until `None` after every other call, and when [`Peer::poll_timeout`] is reached; a spurious
    /// call is harmless.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        let (index, failure) = self
            .outgoing
            .iter()
            .enumerate()
            .find_map(|(index, outgoing)| Some((index, outgoing.failure(now)?)))?;
        let sent = self.outgoing.remove(index).sent();
        Some(Event::Failed { sent, failure })
    }

    /// When to call [`Peer::poll_transmit`] and [`Peer::poll_event`] next if nothing happens before; may be in the past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.due != Due::Nothing {
            return Some(Instant::default());
        }
        self.outgoing.iter().map(|outgoing| outgoing.deadline).min()
    }

    /// When [`Peer::forget`] would release memory. Nothing goes wrong without it: who has fixed memory need not wake up.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.answers.next_expiry()
    }

    /// Releases the stored answers that are past their lifetime.
    pub fn forget(&mut self, now: Instant) {
        self.answers.forget(now);
    }

    /// Whether [`Peer::request`] or a Confirmable [`Peer::notify`] has room for one more now (NSTART and `REQUESTS`).
    #[must_use]
    pub fn can_request(&self, now: Instant) -> bool {
        self.has_room(now, Role::Request).is_ok()
    }

    /// Whether anything of ours is outstanding.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
    }

    fn has_room(&self, now: Instant, role: Role) -> Result<(), SendError> {
        if self.outgoing.is_full() {
            return Err(SendError::Full);
        }
        let in_flight =
            self.outgoing.iter().filter(|outgoing| outgoing.is_in_flight(now, self.parameters)).count();
        // RFC 7252 §4.7: at most NSTART outstanding interactions.
        if role != Role::Response && in_flight >= usize::from(self.parameters.nstart) {
            return Err(SendError::Busy);
        }
        Ok(())
    }

    /// Keeps a message of ours until it is settled, with a copy if it is Confirmable.
    fn keep(
        &mut self,
        now: Instant,
        what: (Role, Delivery),
        name: (MessageId, Token),
        binding: Option<K>,
        sent: &[u8],
        rng: &mut Rng<'_>,
    ) -> Result<(), SendError> {
        let mut outgoing = Outgoing::new(now, self.parameters, what, name, binding, rng);
        if what.1 == Delivery::Confirmable {
            outgoing.copy = Some(B::store(sent).ok_or(SendError::TooLong)?);
        }
        self.outgoing.push(outgoing).map_err(|_| SendError::Full)
    }

    fn next_message_id(&mut self) -> MessageId {
        loop {
            let id = MessageId(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            if !self.outgoing.iter().any(|outgoing| outgoing.id == id) {
                return id;
            }
        }
    }
}

/// Holds a copy of a message: an answer for duplicates, or a Confirmable message for retransmissions.
pub trait Stored: Sized {
    /// A copy of `bytes`, or `None` when they are too long or the memory for copies is used up.
    fn store(bytes: &[u8]) -> Option<Self>;

    /// The copied bytes.
    fn bytes(&self) -> &[u8];
}

impl<const N: usize, L: heapless::LenType> Stored for heapless::Vec<u8, N, L> {
    fn store(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// How tokens are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPolicy {
    /// A counter in as few bytes as it needs: for a secure association, where nobody can guess his way in. It must not
    /// begin again under the same keys.
    Counter {
        /// The next token.
        next: NonZeroU64,
    },
    /// Four random bytes: for an address without security.
    Random,
}

impl TokenPolicy {
    /// The counter of fresh keys. The empty token is left to others.
    pub const SECURED: TokenPolicy = TokenPolicy::Counter { next: NonZeroU64::MIN };

    const RANDOM_LENGTH: usize = 4;
}

/// Whether a message is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// CON: sent again until it is acknowledged.
    Confirmable,
    /// NON: sent once.
    NonConfirmable,
}

impl From<Delivery> for Kind {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Confirmable => Kind::Confirmable,
            Delivery::NonConfirmable => Kind::NonConfirmable,
        }
    }
}

/// What goes out next. One is enough: every call makes at most one and is followed by [`Peer::poll_transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Acknowledge(MessageId),
    Reset(MessageId),
    /// The stored answer to this message.
    Repeat(MessageId),
    Refuse {
        id: MessageId,
        token: Token,
        code: Code,
    },
    /// What object security has to say, without protection.
    Unprotected {
        id: MessageId,
        token: Token,
        code: Code,
    },
    /// 4.02 with the option that it is about.
    BadOption {
        id: MessageId,
        token: Token,
        number: OptionNumber,
    },
}

/// A piggybacked response with a short text, or without.
fn refusal(id: MessageId, token: Token, code: Code, text: &[u8]) -> heapless::Vec<u8, REFUSAL> {
    let mut bytes = response(id, token, code, if text.is_empty() { &[] } else { &[PAYLOAD_MARKER] });
    let _ = bytes.extend_from_slice(text);
    bytes
}

/// A piggybacked response, with `rest` behind its token.
fn response(id: MessageId, token: Token, code: Code, rest: &[u8]) -> heapless::Vec<u8, REFUSAL> {
    let header = Header { kind: Kind::Acknowledgement, id };
    let mut bytes = heapless::Vec::new();
    for part in [&udp::header(header, code, token.length()), token.bytes(), rest] {
        let _ = bytes.extend_from_slice(part);
    }
    bytes
}

/// Max-Age (14) without a value, which is zero.
const MAX_AGE_ZERO: [u8; 2] = [0xd0, 14 - 13];

/// The longest one: header, token, marker and the text about an option.
const REFUSAL: usize = HEADER_LENGTH + Token::MAX_LENGTH + 1 + 12;
