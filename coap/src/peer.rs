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

use core::fmt;
use core::num::NonZeroU64;
use core::ops::Range;

use crate::Rng;
use crate::code::Code;
use crate::message::Message;
use crate::option::OptionNumber;
use crate::parameters::Parameters;
use crate::protect::{Incoming, Protect};
use crate::time::Instant;
use crate::token::Token;
use crate::udp::{self, Fault, HEADER_LENGTH, Header, Kind, MessageId};
use crate::writer::{WriteError, Writer};

mod answers;
mod outgoing;

use answers::{Answers, State};
use outgoing::{Outgoing, Phase, Role};

/// One remote endpoint: an address without security, else an association.
///
/// `B` holds a message's copy. `REQUESTS` is how many messages of ours may be unsettled at once: requests, separate
/// Confirmable responses and Confirmable notifications. `ANSWERS` is how many messages of the remote are remembered.
/// `NOTIFIED` is for how many observers a Reset to their last Non-confirmable notification is recognised: zero for who
/// sends none. `K` is the [`Protect::Binding`].
#[derive(Debug)]
pub struct Peer<B, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize = 0, K = ()> {
    parameters: &'static Parameters,
    tokens: TokenPolicy,
    next_id: u16,
    due: Due,
    outgoing: heapless::Vec<Outgoing<B, K>, REQUESTS, u8>,
    answers: Answers<B, ANSWERS>,
    notified: heapless::Vec<(MessageId, Token), NOTIFIED, u8>,
}

impl<B: Stored, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize, K: Clone>
    Peer<B, REQUESTS, ANSWERS, NOTIFIED, K>
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

    /// Takes a datagram of the remote, which was decrypted if the transport is secure. Act on what is returned, then
    /// drain [`Peer::poll_transmit`].
    pub fn handle<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        datagram: &'m mut [u8],
        protect: &mut P,
    ) -> Input<'m, K> {
        let (header, incoming) = match Incoming::parse(datagram) {
            Ok(parsed) => parsed,
            Err(malformed) => {
                if let Some(id) = malformed.reject {
                    self.due = Due::Reset(id);
                }
                return Input::Ignored(Ignored::Malformed(malformed.fault));
            }
        };
        let code = incoming.code();
        match header.kind {
            _ if code == Code::EMPTY => self.handle_empty(now, header),
            Kind::Confirmable | Kind::NonConfirmable if code.is_request() => {
                self.handle_request(now, header, incoming, protect)
            }
            Kind::Confirmable | Kind::NonConfirmable | Kind::Acknowledgement if code.is_response() => {
                self.handle_response(now, header, incoming, protect)
            }
            // RFC 7252 §4.2: a Reset is empty, an Acknowledgement carries no request.
            _ => Input::Ignored(Ignored::Kind),
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
        let what = (Role::Request, delivery);
        let mut outgoing = Outgoing::new(now, self.parameters, what, (id, token), Some(binding), rng);
        if delivery == Delivery::Confirmable {
            outgoing.copy = Some(store(draft.buffer, &range)?);
        }
        self.outgoing.push(outgoing).map_err(|_| SendError::Full)?;
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
        match answer {
            Answer::Separate(delivery) => {
                if delivery == Delivery::Confirmable {
                    let what = (Role::Response, delivery);
                    let mut outgoing =
                        Outgoing::new(now, self.parameters, what, (header.id, exchange.token), None, rng);
                    outgoing.copy = Some(store(draft.buffer, &range)?);
                    self.outgoing.push(outgoing).map_err(|_| SendError::Full)?;
                }
                let state = match exchange.kind {
                    Kind::Confirmable => State::Acknowledged,
                    _ => State::Silent,
                };
                self.answers.set(exchange.id, state, None);
            }
            _ => match store(draft.buffer, &range) {
                Ok(copy) => self.answers.set(exchange.id, State::Answered, Some(copy)),
                // RFC 7252 §4.5: an idempotent request may be executed again instead.
                Err(_) if exchange.idempotent => self.answers.remove(exchange.id),
                Err(_) => self.answers.set(exchange.id, State::Silent, None),
            },
        }
        exchange.answer = Answer::Given;
        Ok(range)
    }

    /// Puts the answer off: an empty ACK goes out with the next [`Peer::poll_transmit`], and [`Peer::respond`] will send
    /// a separate response with `delivery`. The owner keeps the exchange until then. Does nothing to an exchange that was
    /// deferred or answered before.
    pub fn defer(&mut self, exchange: &mut Exchange<K>, delivery: Delivery) {
        if exchange.answer == Answer::Piggybacked {
            exchange.answer = Answer::Separate(delivery);
            self.due = Due::Acknowledge(exchange.id);
            self.answers.set(exchange.id, State::Deferred, None);
        }
    }

    /// Notifies an observer. Send the bytes at once.
    ///
    /// # Errors
    /// [`SendError::Busy`] also while another Confirmable notification to this observer is outstanding: notify again with
    /// the then newest state once it is acknowledged (RFC 7641 §4.5).
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
        if self.outgoing.iter().any(|other| other.role == Role::Notification && other.token == token) {
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
                let what = (Role::Notification, delivery);
                let mut outgoing = Outgoing::new(now, self.parameters, what, (id, token), None, rng);
                outgoing.copy = Some(store(draft.buffer, &range)?);
                self.outgoing.push(outgoing).map_err(|_| SendError::Full)?;
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
        self.outgoing.retain(|outgoing| outgoing.sent() != Sent::Request(request));
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
            Due::Refuse { id, token, code } => {
                let header = Header { kind: Kind::Acknowledgement, id };
                let mut bytes = [0; HEADER_LENGTH + Token::MAX_LENGTH];
                let (head, tail) = bytes.split_at_mut(HEADER_LENGTH);
                head.copy_from_slice(&udp::header(header, code, token.length()));
                let length = usize::from(token.length());
                tail.get_mut(..length)?.copy_from_slice(token.bytes());
                put(bytes.get(..HEADER_LENGTH.saturating_add(length))?)
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

    fn handle_empty(&mut self, now: Instant, header: Header) -> Input<'static, K> {
        let id = header.id;
        let index = || self.outgoing.iter().position(|outgoing| outgoing.id == id);
        match header.kind {
            Kind::Confirmable => {
                // RFC 7252 §4.3: a ping is answered with a Reset.
                self.due = Due::Reset(id);
                Input::Ignored(Ignored::Ping)
            }
            Kind::NonConfirmable => Input::Ignored(Ignored::Kind),
            Kind::Acknowledgement => {
                let Some(index) = index() else { return Input::Ignored(Ignored::Unknown) };
                let parameters = self.parameters;
                let Some(outgoing) = self.outgoing.get_mut(index) else {
                    return Input::Ignored(Ignored::Unknown);
                };
                if outgoing.phase != Phase::Unacknowledged {
                    return Input::Ignored(Ignored::Unknown);
                }
                let sent = outgoing.sent();
                if outgoing.role == Role::Request {
                    outgoing.acknowledge(now, parameters);
                } else {
                    self.outgoing.remove(index);
                }
                Input::Acknowledged(sent)
            }
            Kind::Reset => {
                if let Some(index) = index() {
                    return Input::Reset(self.outgoing.remove(index).sent());
                }
                match self.notified.iter().position(|(other, _)| *other == id) {
                    Some(index) => Input::Reset(Sent::Notification(self.notified.remove(index).1)),
                    None => Input::Ignored(Ignored::Unknown),
                }
            }
        }
    }

    fn handle_request<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        header: Header,
        incoming: Incoming<'m>,
        protect: &mut P,
    ) -> Input<'m, K> {
        let Header { kind, id } = header;
        self.answers.forget(now);
        if let Some((state, _)) = self.answers.find(id) {
            match state {
                State::Answered => self.due = Due::Repeat(id),
                State::Deferred | State::Acknowledged => self.due = Due::Acknowledge(id),
                State::InProcess | State::Silent => {}
            }
            return Input::Duplicate;
        }
        let Ok((message, binding)) = protect.unprotect_request(incoming) else {
            return Input::Ignored(Ignored::Refused);
        };
        let Message { code, token, .. } = message;
        let confirmable = kind == Kind::Confirmable;
        if let Some(number) = message.options.first_unknown_critical(self.parameters.known) {
            // RFC 7252 §5.4.1: 4.02 to a Confirmable request, a Non-confirmable one is rejected. §5.10.2: 5.05 to proxying.
            if confirmable {
                let code = match number {
                    OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME => Code::PROXYING_NOT_SUPPORTED,
                    _ => Code::BAD_OPTION,
                };
                self.due = Due::Refuse { id, token, code };
            }
            return Input::Ignored(Ignored::BadOption(number));
        }
        let lifetime = match confirmable {
            true => self.parameters.exchange_lifetime,
            false => self.parameters.non_lifetime,
        };
        let remembered = self.answers.remember(now, lifetime, id, State::InProcess, true);
        let idempotent = code.is_idempotent();
        if !remembered && !idempotent {
            if confirmable {
                self.due = Due::Refuse { id, token, code: Code::SERVICE_UNAVAILABLE };
            }
            return Input::Ignored(Ignored::Busy);
        }
        let answer = match confirmable {
            true => Answer::Piggybacked,
            false => Answer::Separate(Delivery::NonConfirmable),
        };
        Input::Request { exchange: Exchange { kind, answer, idempotent, id, token, binding }, message }
    }

    fn handle_response<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        header: Header,
        incoming: Incoming<'m>,
        protect: &mut P,
    ) -> Input<'m, K> {
        let Header { kind, id } = header;
        let confirmable = kind == Kind::Confirmable;
        if confirmable {
            self.answers.forget(now);
            if let Some((State::Acknowledged, _)) = self.answers.find(id) {
                self.due = Due::Acknowledge(id);
                return Input::Duplicate;
            }
        }
        let token = incoming.token();
        // RFC 7252 §5.3.2: a piggybacked response matches by message id and token, a separate one by token.
        let index = self.outgoing.iter().position(|outgoing| {
            outgoing.role == Role::Request
                && outgoing.token == token
                && !matches!(outgoing.phase, Phase::Failed(_))
                && (kind != Kind::Acknowledgement || outgoing.id == id)
        });
        let binding = index.and_then(|index| self.outgoing.get(index)?.binding.clone());
        let message = match &binding {
            Some(binding) => match protect.unprotect_response(binding, incoming) {
                Ok(message) => message,
                Err(_) => return Input::Ignored(Ignored::Refused),
            },
            None if kind == Kind::Acknowledgement => return Input::Ignored(Ignored::Unknown),
            None => incoming.message(),
        };
        if let Some(number) = message.options.first_unknown_critical(self.parameters.known) {
            // RFC 7252 §5.4.1: such a response is rejected, so its request will have no other.
            if confirmable {
                self.due = Due::Reset(id);
            }
            if let Some(outgoing) = index.and_then(|index| self.outgoing.get_mut(index)) {
                outgoing.fail(Failure::BadOption);
            }
            return Input::Ignored(Ignored::BadOption(number));
        }
        let Some(index) = index else { return Input::Unsolicited { header, message } };
        if confirmable {
            self.due = Due::Acknowledge(id);
            // Not worth forgetting an answer: a duplicate that is not recognised is rejected, which harms nobody.
            let lifetime = self.parameters.exchange_lifetime;
            self.answers.remember(now, lifetime, id, State::Acknowledged, false);
        }
        let request = RequestId(self.outgoing.remove(index).id);
        Input::Response { request, message }
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

fn store<B: Stored>(buffer: &[u8], range: &Range<usize>) -> Result<B, SendError> {
    buffer.get(range.clone()).and_then(B::store).ok_or(SendError::TooLong)
}

/// Holds a copy of a message: an answer for duplicates, or a Confirmable message for retransmissions.
pub trait Stored: Sized {
    /// A copy of `bytes`, or `None` when they are too long or the memory for copies is used up.
    fn store(bytes: &[u8]) -> Option<Self>;

    /// The copied bytes.
    fn bytes(&self) -> &[u8];
}

impl<const N: usize> Stored for heapless::Vec<u8, N> {
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

/// Names an outstanding request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(MessageId);

/// A request of the remote that is to be answered with [`Peer::respond`].
#[derive(Debug)]
pub struct Exchange<K = ()> {
    kind: Kind,
    answer: Answer,
    idempotent: bool,
    id: MessageId,
    token: Token,
    binding: K,
}

impl<K: Clone> Exchange<K> {
    /// The token of the request.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Whether the request was Confirmable.
    #[must_use]
    pub fn is_confirmable(&self) -> bool {
        self.kind == Kind::Confirmable
    }

    /// Whether the exchange was deferred.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.is_confirmable() && matches!(self.answer, Answer::Separate(_))
    }

    /// The observer that this request registers, to be kept for [`Peer::notify`].
    #[must_use]
    pub fn observer(&self) -> Observer<K> {
        Observer { token: self.token, binding: self.binding.clone() }
    }
}

/// How an exchange will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Piggybacked,
    Separate(Delivery),
    Given,
}

/// Who observes something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observer<K = ()> {
    /// The token of the registration, which every notification carries.
    pub token: Token,
    /// What ties notifications to the registration under object security.
    pub binding: K,
}

/// What a datagram was.
#[derive(Debug)]
pub enum Input<'m, K = ()> {
    /// A request to answer with [`Peer::respond`], at once or after [`Peer::defer`].
    Request {
        /// What to answer.
        exchange: Exchange<K>,
        /// The request.
        message: Message<'m>,
    },
    /// The response to a request of ours, which is settled with it.
    Response {
        /// The request.
        request: RequestId,
        /// The response.
        message: Message<'m>,
    },
    /// A response that no outstanding request awaits: a notification if its token is that of an observation. Call
    /// [`Peer::accept`] or [`Peer::reject`].
    Unsolicited {
        /// What to accept or reject.
        header: Header,
        /// The response.
        message: Message<'m>,
    },
    /// A message of ours was acknowledged. A request still awaits its response; anything else is settled.
    Acknowledged(Sent),
    /// A message of ours was rejected and is settled. A notification: the observation has ended.
    Reset(Sent),
    /// A message that was handled before; it is answered as before.
    Duplicate,
    /// Nothing to do but to count it.
    Ignored(Ignored),
}

/// Why a datagram leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// It is no message; rejected if it could be.
    Malformed(Fault),
    /// Its type does not go with its code.
    Kind,
    /// A ping, which is answered with a Reset.
    Ping,
    /// Nothing of ours is known that it acknowledges, rejects or answers.
    Unknown,
    /// Object security refuses it.
    Refused,
    /// It has this critical option, which is not known; refused if it could be.
    BadOption(OptionNumber),
    /// A request that is not idempotent and cannot be remembered; refused with 5.03 if it is Confirmable.
    Busy,
}

/// A message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A request.
    Request(RequestId),
    /// A separate response to the request with this token.
    Response(Token),
    /// A notification to the observer with this token.
    Notification(Token),
}

/// What happened without a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message of ours is given up.
    Failed {
        /// The message.
        sent: Sent,
        /// Why.
        failure: Failure,
    },
}

/// Why a message of ours is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No acknowledgement or response came in time.
    TimedOut,
    /// The response has a critical option that is not known.
    BadOption,
    /// The association was replaced.
    Replaced,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "no acknowledgement or response came in time",
            Self::BadOption => "the response has an unknown critical option",
            Self::Replaced => "the association was replaced",
        })
    }
}

impl core::error::Error for Failure {}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// NSTART interactions are in flight, or a Confirmable notification to this observer is.
    Busy,
    /// As many messages as there is room for are unsettled.
    Full,
    /// No copy of it can be kept: it is too long, or the memory for copies is used up.
    TooLong,
    /// The exchange was answered before.
    Answered,
    /// It could not be written.
    Write(WriteError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("as many requests as the remote may get at once are in flight"),
            Self::Full => f.write_str("there is no room for one more unsettled message"),
            Self::TooLong => f.write_str("no copy of the message can be kept"),
            Self::Answered => f.write_str("the request was answered before"),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
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
}
