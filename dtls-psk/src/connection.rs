//! A connection: the association, and the handshake while there is one (RFC 6347 §4; invariant: application data goes in and
//! out only after the peer's Finished was verified, and only protected).

use core::borrow::BorrowMut;
use core::ops::Range;
use core::time::Duration;

use crate::Rng;
use crate::alert::{self, Alert, Level};
use crate::association::{Association, Phase, Role};
use crate::error::{Counters, Dropped, OpenError, ProvideError, Reason, SealError, SetUpError};
use crate::handshake::{Core, EarlyRecord, Failure, Handshake, LookUp, PROTECTED, State, Step};
use crate::message::{ClientHello, Fragment, Message, MessageType};
use crate::psk::{PSK_MAX, Psk, StoredIdentity};
use crate::record::{ContentType, Datagram, HEADER, Header, Version};
use crate::time::Instant;
use crate::wire::Reader;

/// How handshakes are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The first retransmission time-out, which doubles up to 60 s: 1 ms to 60 s. RFC 6347 has 1 s; RFC 7925 advises 9 s
    /// on slow networks.
    pub retransmit_after: Duration,
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// Whether handshake messages that follow each other share a record, which saves a server 13 bytes for each handshake.
    /// Some small stacks (tinydtls) understand only one message in a record.
    pub shares_records: bool,
}

impl Config {
    /// 1 s until the first retransmission, 90 s for the whole handshake, shared records.
    pub const DEFAULT: Self = Self {
        retransmit_after: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(90),
        shares_records: true,
    };

    /// The same with another first retransmission time-out.
    pub const fn with_retransmit_after(self, retransmit_after: Duration) -> Self {
        Self { retransmit_after, ..self }
    }

    /// The same with another time for the whole handshake.
    pub const fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// The same with or without shared records.
    pub const fn with_shared_records(self, shares_records: bool) -> Self {
        Self { shares_records, ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What came of a datagram, a time-out or an answer.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input<'d> {
    /// Authentic application data, decrypted where it lay in the datagram.
    Application(&'d mut [u8]),
    /// The peer's Finished was verified: application data may go both ways. Drain
    /// [`Connection::poll_transmit`] before the first of it is sent.
    Established {
        /// Whether the peer proved its key just now, in a full handshake.
        full: bool,
    },
    /// The connection is over. Drain [`Connection::poll_transmit`] once more, for a last alert, and drop it.
    Closed(Reason),
}

/// Names one pending operation of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PendingId(u32);

impl PendingId {
    pub(crate) const FIRST: Self = Self(0);
}

/// An operation that the engine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending<'a> {
    /// To be handed back to [`Connection::provide`].
    pub id: PendingId,
    /// What is to be done.
    pub operation: Operation<'a>,
}

/// What the engine cannot do by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Find the key of this identity (0 to 128 bytes).
    LookUpPsk {
        /// As the client sent it, not yet proven.
        identity: &'a [u8],
    },
}

/// The result of an [`Operation`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The key was found.
    Psk {
        /// 1 to 64 bytes.
        key: &'a [u8],
        /// Whatever the caller wants to find again in [`Connection::tag`] once the key is proven.
        tag: u64,
    },
    /// There is none. The handshake goes on with a random key, so that the client cannot tell.
    Unknown,
}

impl core::fmt::Debug for Answer<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Psk { tag, .. } => formatter.debug_struct("Psk").field("tag", tag).finish_non_exhaustive(),
            Self::Unknown => formatter.write_str("Unknown"),
        }
    }
}

/// A DTLS 1.2 connection in either role.
///
/// `H` is where the handshake's memory lives: inline (`Handshake<N>`, the default), or behind a pointer of the caller
/// (`Box<Handshake<N>>`, `&mut Handshake<N>`). It is dropped as soon as it is not needed any more; what remains is small.
///
/// See the [crate documentation](crate) for how to drive it.
pub struct Connection<const N: usize, H: BorrowMut<Handshake<N>> = Handshake<N>> {
    association: Association,
    handshake: Option<H>,
}

impl<const N: usize, H: BorrowMut<Handshake<N>>> core::fmt::Debug for Connection<N, H> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("role", &self.association.role)
            .field("phase", &self.association.phase)
            .finish_non_exhaustive()
    }
}

impl<const N: usize, H: BorrowMut<Handshake<N>>> Connection<N, H> {
    /// Starts a handshake as a client: [`Connection::poll_transmit`] has the ClientHello.
    ///
    /// # Errors
    /// The identity or key is too long, the key is empty, or `rng` returns only zeros.
    pub fn client(
        now: Instant,
        config: &Config,
        psk: Psk<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        let identity = StoredIdentity::from_slice(psk.identity).map_err(|_| SetUpError::IdentityTooLong)?;
        let random = random(rng)?;
        let mut connection = Self::start(Role::Client, 0, now, config, handshake);
        connection.set_key(psk.key).ok_or(SetUpError::KeyLength)?;
        if let Some((mut step, _)) = connection.step(now) {
            step.core.identity = identity;
            step.core.client_random = random;
            let pushed = step.push_client_hello(&[]);
            debug_assert!(pushed.is_ok(), "a ClientHello without cookie fits into any handshake memory");
        }
        Ok(connection)
    }

    /// Starts a handshake as a server, for a ClientHello that [`CookieJar::accept`](crate::CookieJar::accept) verified:
    /// [`Connection::poll_transmit`] has the ServerHello.
    ///
    /// # Errors
    /// `rng` returns only zeros.
    pub fn server(
        now: Instant,
        config: &Config,
        hello: &ClientHello<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        let server_random = random(rng)?;
        let decoy: [u8; 16] = random(rng)?;
        // RFC 6347 §4.2.1: the answer takes over the ClientHello's record number.
        let mut connection = Self::start(Role::Server, hello.record_sequence, now, config, handshake);
        connection.set_key(&decoy).ok_or(SetUpError::KeyLength)?;
        if let Some((mut step, reassembly_restart)) = connection.step(now) {
            step.core.server_random = server_random;
            let answered = step.answer_client_hello(hello);
            debug_assert!(answered.is_ok(), "ServerHello and ServerHelloDone fit into any handshake memory");
            reassembly_restart.restart(hello.message_seq.wrapping_add(1));
        }
        Ok(connection)
    }

    fn start(role: Role, plain_sequence: u64, now: Instant, config: &Config, mut handshake: H) -> Self {
        let memory = handshake.borrow_mut();
        // The memory may come from an earlier handshake.
        memory.core = Core::new();
        memory.flight.start(config.shares_records);
        memory.reassembly.restart(0);
        memory.core.timers.start(now, config);
        Self { association: Association::new(role, plain_sequence), handshake: Some(handshake) }
    }

    fn set_key(&mut self, key: &[u8]) -> Option<()> {
        if key.is_empty() {
            return None;
        }
        self.handshake.as_mut()?.borrow_mut().core.key.set(key)
    }

    /// Processes the next record of a datagram that belongs to this connection.
    ///
    /// Call it until it returns `None` (the datagram is used up), then [`Connection::poll_pending`] on a server and
    /// [`Connection::poll_transmit`]. Whatever cannot be processed is dropped and counted.
    pub fn handle<'d>(&mut self, now: Instant, datagram: &mut Datagram<'d>) -> Option<Input<'d>> {
        while let Some(record) = datagram.next() {
            let input = match record {
                Ok((header, body)) => self.handle_record(now, header, body),
                Err(()) => Err(Dropped::Malformed),
            };
            match input {
                Ok(None) => {}
                Ok(Some(input)) => return Some(input),
                Err(dropped) => self.association.count(dropped),
            }
        }
        None
    }

    /// Writes the next datagram to the front of `out` and returns its length.
    ///
    /// `out` limits the size of the datagram: hand in as many bytes as the path carries, at least
    /// [`DATAGRAM_MIN`](crate::DATAGRAM_MIN). Call it until it returns `None`; a call too many is harmless.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if let Some(handshake) = &mut self.handshake {
            let Handshake { core, flight, .. } = handshake.borrow_mut();
            if !flight.is_sent() {
                core.timers.sent(now);
                return flight.emit(&mut self.association, out);
            }
        }
        self.association.emit_alert(out)
    }

    /// When [`Connection::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.handshake.as_ref()?.borrow().core.timers.next())
    }

    /// Lets time pass: retransmits, gives up, or frees the kept flight. Call [`Connection::poll_transmit`] afterwards. A call
    /// too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Input<'static>> {
        let role = self.association.role;
        let Handshake { core, flight, .. } = self.handshake.as_mut()?.borrow_mut();
        if now >= core.timers.deadline {
            if core.state == State::Kept {
                self.handshake = None;
                return None;
            }
            let reason = core.reason(role);
            return Some(self.close_for(reason));
        }
        if core.timers.retransmit.is_some_and(|at| now >= at) {
            if let (Role::Client, Some(reason @ Reason::PeerAlert(_))) = (role, core.suspicion) {
                return Some(self.close_for(reason));
            }
            core.timers.back_off(now);
            flight.rewind();
        }
        None
    }

    /// An operation that the engine waits for, once for each. Answer it with [`Connection::provide`], at once or later.
    pub fn poll_pending(&mut self) -> Option<Pending<'_>> {
        let core = &mut self.handshake.as_mut()?.borrow_mut().core;
        let LookUp::Wanted(id) = core.look_up else { return None };
        core.look_up = LookUp::Asked(id);
        Some(Pending { id, operation: Operation::LookUpPsk { identity: &core.identity } })
    }

    /// Answers a pending operation. Call [`Connection::poll_transmit`] afterwards.
    ///
    /// # Errors
    /// The operation is not pending (any more), or the key has an impossible length.
    pub fn provide(
        &mut self,
        now: Instant,
        id: PendingId,
        answer: Answer<'_>,
    ) -> Result<Option<Input<'static>>, ProvideError> {
        let (mut step, _) = self.step(now).ok_or(ProvideError::NotPending)?;
        if step.core.look_up != LookUp::Asked(id) {
            return Err(ProvideError::NotPending);
        }
        match answer {
            Answer::Psk { key, tag } => {
                if key.is_empty() || key.len() > PSK_MAX {
                    return Err(ProvideError::KeyLength);
                }
                step.use_key(key);
                step.association.tag = Some(tag);
            }
            Answer::Unknown => step.use_decoy(Reason::UnknownIdentity),
        }
        let input = self.handle_early(now);
        Ok(input)
    }

    /// Seals `buffer[payload]` in place as a record of application data and returns where the record lies in `buffer`:
    /// [`HEADROOM`](crate::HEADROOM) bytes in front of the payload and [`TAILROOM`](crate::TAILROOM) behind it are written.
    ///
    /// # Errors
    /// The connection is not established, there is no room, or the sequence numbers are used up.
    pub fn seal(&mut self, buffer: &mut [u8], payload: Range<usize>) -> Result<Range<usize>, SealError> {
        if self.association.phase != Phase::Established {
            return Err(SealError::NotEstablished);
        }
        self.association.seal_in(PROTECTED, ContentType::ApplicationData, buffer, payload)
    }

    /// Closes the connection: [`Connection::poll_transmit`] has a close_notify if keys were agreed. A call too many is
    /// harmless.
    pub fn close(&mut self) {
        if self.association.phase == Phase::Established {
            self.association.queue_alert(Level::Warning, Alert::CLOSE_NOTIFY);
        }
        self.end();
    }

    /// Tries whether `record`, the first of a datagram, is authentic here, without destroying it: the plaintext goes to
    /// `scratch`, which must be as long as the record's body. The record stays fresh for [`Connection::handle`].
    ///
    /// # Errors
    /// The record is not of this connection, or `scratch` is too short.
    pub fn open_into<'s>(&self, record: &[u8], scratch: &'s mut [u8]) -> Result<&'s mut [u8], OpenError> {
        let (header, length) = Header::parse(record).ok_or(OpenError::Refused(Dropped::Malformed))?;
        let body = record.get(HEADER..).and_then(|behind| behind.get(..length));
        let body = body.ok_or(OpenError::Refused(Dropped::Malformed))?;
        let epoch = self.association.epoch(header.epoch).ok_or(OpenError::Refused(Dropped::Unsupported))?;
        let scratch = scratch.get_mut(..length).ok_or(OpenError::NoRoom)?;
        scratch.copy_from_slice(body);
        epoch.decrypt(header, scratch).map_err(OpenError::Refused)
    }

    /// The role in the handshake.
    pub const fn role(&self) -> Role {
        self.association.role
    }

    /// Whether application data may be sent.
    pub fn is_established(&self) -> bool {
        self.association.phase == Phase::Established
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.association.phase == Phase::Closed
    }

    /// What the caller gave with the key, once the peer has proven that it has the key.
    pub fn tag(&self) -> Option<u64> {
        self.association.tag.filter(|_| self.is_established())
    }

    /// The peer's identity (on a client: its own) while the handshake's memory lives, which on a server includes the moment
    /// of [`Input::Established`]. It is proven only once the connection is established.
    pub fn identity(&self) -> Option<&[u8]> {
        let core = &self.handshake.as_ref()?.borrow().core;
        Some(&core.identity)
    }

    /// What will be the reason if the handshake does not get on: what was noticed so far and cannot be told from a forgery.
    /// For logs; the handshake is not over.
    pub fn suspicion(&self) -> Option<Reason> {
        self.handshake.as_ref()?.borrow().core.suspicion
    }

    /// What was dropped so far.
    pub const fn counters(&self) -> &Counters {
        &self.association.counters
    }

    /// Whether the connection has the keys of `epoch`.
    pub(crate) fn has_epoch(&self, epoch: u16) -> bool {
        self.association.epoch(epoch).is_some()
    }

    /// Whether the memory of a handshake is there.
    pub(crate) const fn has_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    /// Whether this server's handshake started from a ClientHello with this random and message_seq; once it is established,
    /// one with this random is a late copy.
    pub(crate) fn started_from(&self, random: &[u8; 32], message_seq: u16) -> bool {
        let is_same_seq = |handshake: &H| handshake.borrow().core.hello_seq == message_seq;
        self.association.role == Role::Server
            && random.starts_with(&self.association.hello)
            && (self.is_established() || self.handshake.as_ref().is_some_and(is_same_seq))
    }

    /// Whether a handshake waits for the keys of its protected epoch.
    pub(crate) fn awaits_keys(&self) -> bool {
        self.handshake.is_some() && !self.has_epoch(PROTECTED)
    }

    fn step(&mut self, now: Instant) -> Option<(Step<'_, N>, &mut crate::reassembly::Reassembly<N>)> {
        let Handshake { core, flight, reassembly } = self.handshake.as_mut()?.borrow_mut();
        Some((Step { now, association: &mut self.association, core, flight }, reassembly))
    }

    fn handle_record<'d>(
        &mut self,
        now: Instant,
        header: Header,
        body: &'d mut [u8],
    ) -> Result<Option<Input<'d>>, Dropped> {
        if self.association.phase == Phase::Closed {
            return Err(Dropped::Unexpected);
        }
        let content_type = ContentType::from_code(header.content_type).ok_or(Dropped::Unsupported)?;
        let is_known =
            header.version == Version::DTLS_1_2 || (header.version == Version::DTLS_1_0 && header.epoch == 0);
        if !is_known {
            return Err(Dropped::Unsupported);
        }
        if header.epoch == 0 {
            return self.handle_plain(now, content_type, header, body);
        }
        let Some(epoch) = self.association.epoch_mut(header.epoch) else {
            return self.keep_early(content_type, header, body);
        };
        let plaintext = match epoch.open(header, body) {
            Ok(plaintext) => plaintext,
            Err(dropped) => {
                // A server that answers our Finished has our key: what cannot be decrypted on a client is forged.
                if dropped == Dropped::Unauthenticated && self.association.role == Role::Server {
                    self.suspect(Reason::WrongKey);
                }
                return Err(dropped);
            }
        };
        match content_type {
            ContentType::ApplicationData if self.association.phase == Phase::Established => {
                // RFC 6347 §4.2.4: the peer has our last flight.
                self.handshake = None;
                Ok(Some(Input::Application(plaintext)))
            }
            ContentType::ApplicationData | ContentType::ChangeCipherSpec => Err(Dropped::Unexpected),
            ContentType::Alert => match alert::parse(plaintext).ok_or(Dropped::Malformed)? {
                (_, Alert::CLOSE_NOTIFY) => {
                    // RFC 5246 §7.2.1: answered with one of our own.
                    self.close();
                    Ok(Some(Input::Closed(Reason::PeerClosed)))
                }
                (Level::Fatal, alert) => Ok(Some(self.close_for(Reason::PeerAlert(alert)))),
                (Level::Warning, _) => Ok(None),
            },
            ContentType::Handshake => self.handle_fragments(now, header, plaintext),
        }
    }

    /// A record in the clear: anyone may have sent it.
    fn handle_plain(
        &mut self,
        now: Instant,
        content_type: ContentType,
        header: Header,
        body: &[u8],
    ) -> Result<Option<Input<'static>>, Dropped> {
        match content_type {
            ContentType::ApplicationData => Err(Dropped::Unexpected),
            ContentType::Handshake => self.handle_fragments(now, header, body),
            ContentType::Alert => {
                let (level, alert) = alert::parse(body).ok_or(Dropped::Malformed)?;
                if level == Level::Fatal || alert == Alert::CLOSE_NOTIFY {
                    self.suspect(Reason::PeerAlert(alert));
                }
                Err(Dropped::Unexpected)
            }
            ContentType::ChangeCipherSpec => {
                if body != [1] {
                    return Err(Dropped::Malformed);
                }
                let (step, _) = self.step(now).ok_or(Dropped::Unexpected)?;
                if step.core.change_cipher_spec {
                    return Err(Dropped::Duplicate);
                }
                // It carries nothing and may overtake what it belongs to: it only allows a Finished, once there are keys.
                step.core.change_cipher_spec = true;
                Ok(self.handle_complete(now))
            }
        }
    }

    /// Notes what will be the reason if the handshake does not get on. What is known of the peer's key stays.
    fn suspect(&mut self, reason: Reason) {
        if self.association.phase == Phase::Handshaking
            && let Some(handshake) = &mut self.handshake
        {
            let suspicion = &mut handshake.borrow_mut().core.suspicion;
            if !matches!(
                suspicion,
                Some(Reason::UnknownIdentity | Reason::IdentityTooLong | Reason::WrongKey)
            ) {
                *suspicion = Some(reason);
            }
        }
    }

    /// A Finished may overtake what its keys come from, or wait for a look-up.
    fn keep_early<'d>(
        &mut self,
        content_type: ContentType,
        header: Header,
        body: &[u8],
    ) -> Result<Option<Input<'d>>, Dropped> {
        let handshake = self.handshake.as_mut().ok_or(Dropped::Unsupported)?.borrow_mut();
        if content_type != ContentType::Handshake || header.epoch != PROTECTED {
            return Err(Dropped::Unsupported);
        }
        let body = heapless::Vec::from_slice(body).map_err(|_| Dropped::TooLarge)?;
        handshake.core.early = Some(EarlyRecord { header, body });
        Ok(None)
    }

    fn handle_early(&mut self, now: Instant) -> Option<Input<'static>> {
        let (step, _) = self.step(now)?;
        let EarlyRecord { header, mut body } = step.core.early.take()?;
        match self.handle_record(now, header, &mut body) {
            // A handshake record never holds application data.
            Ok(None | Some(Input::Application(_))) => None,
            Ok(Some(Input::Established { full })) => Some(Input::Established { full }),
            Ok(Some(Input::Closed(reason))) => Some(Input::Closed(reason)),
            Err(dropped) => {
                self.association.count(dropped);
                None
            }
        }
    }

    fn handle_fragments<'d>(
        &mut self,
        now: Instant,
        header: Header,
        plaintext: &[u8],
    ) -> Result<Option<Input<'d>>, Dropped> {
        let mut reader = Reader::new(plaintext);
        if reader.is_empty() {
            return Err(Dropped::Malformed);
        }
        while !reader.is_empty() {
            let fragment = Fragment::parse(&mut reader).ok_or(Dropped::Malformed)?;
            match self.handle_fragment(now, header, &fragment) {
                Ok(()) => {}
                Err(Failure::Dropped(dropped)) => self.association.count(dropped),
                Err(Failure::Refused(reason)) => return Ok(Some(self.close_for(reason))),
            }
            if let Some(input) = self.handle_complete(now) {
                return Ok(Some(input));
            }
        }
        Ok(None)
    }

    /// Keeps a fragment, or answers a message that needs no order.
    fn handle_fragment(
        &mut self,
        now: Instant,
        Header { epoch, sequence, .. }: Header,
        fragment: &Fragment<'_>,
    ) -> Result<(), Failure> {
        let message_type = MessageType::from_code(fragment.header.code).ok_or(Dropped::Unexpected)?;
        let role = self.association.role;
        let is_established = self.association.phase == Phase::Established;
        let starts_handshake = match role {
            Role::Client => MessageType::HelloRequest,
            Role::Server => MessageType::ClientHello,
        };
        if epoch != 0 && is_established && message_type == starts_handshake {
            // RFC 5746: no renegotiation, whoever wants it.
            self.association.queue_alert(Level::Warning, Alert::NO_RENEGOTIATION);
            return Err(Dropped::Unexpected.into());
        }
        // A Finished is protected and everything before it is not.
        if (message_type == MessageType::Finished) != (epoch == PROTECTED) {
            return Err(Dropped::Unexpected.into());
        }
        let (mut step, reassembly) = self.step(now).ok_or(Dropped::Duplicate)?;
        let message =
            Message { message_type, message_seq: fragment.header.message_seq, body: fragment.bytes };
        match (message_type, role) {
            (MessageType::HelloVerifyRequest, Role::Client) => {
                if !fragment.is_whole() {
                    return Err(Dropped::TooLarge.into());
                }
                step.handle_hello_verify_request(&message, sequence)?;
                reassembly.restart(message.message_seq.saturating_add(1));
                return Ok(());
            }
            (MessageType::ClientHello, Role::Server) => {
                return step.repeat_for_client_hello(fragment).map_err(Failure::from);
            }
            // A server that asked for several cookies may count its messages differently.
            (MessageType::ServerHello, Role::Client)
                if step.core.state == State::ServerHello
                    && message.message_seq > reassembly.next()
                    && message.message_seq <= step.core.hello_seq =>
            {
                reassembly.restart(message.message_seq);
            }
            _ => {}
        }
        if message.message_seq < reassembly.next() {
            step.repeat_for(message_type);
            return Err(Dropped::Duplicate.into());
        }
        // The usual case needs no copy: whole, and its turn.
        if fragment.is_whole() && message.message_seq == reassembly.next() && step.is_ready_for(message_type)
        {
            step.handle(&message)?;
            reassembly.advance();
            return Ok(());
        }
        reassembly.insert(message_type, fragment).map_err(Failure::from)
    }

    /// Processes what is complete, in order, and reports what came of it.
    fn handle_complete(&mut self, now: Instant) -> Option<Input<'static>> {
        while let Some((mut step, reassembly)) = self.step(now) {
            let Some(message) = reassembly.complete() else { break };
            if !step.is_ready_for(message.message_type) {
                break;
            }
            match step.handle(&message) {
                Ok(()) => reassembly.advance(),
                Err(Failure::Dropped(dropped)) => {
                    reassembly.discard_next();
                    self.association.count(dropped);
                }
                Err(Failure::Refused(reason)) => return Some(self.close_for(reason)),
            }
        }
        let is_finished = self.handshake.as_ref()?.borrow().core.state == State::Kept;
        if self.association.phase != Phase::Handshaking || !is_finished {
            return None;
        }
        self.association.phase = Phase::Established;
        if self.association.role == Role::Client {
            // The server sent the last flight: there is nothing to keep.
            self.handshake = None;
        }
        Some(Input::Established { full: true })
    }

    /// The connection is over for `reason`, and the peer is told if that is of use.
    fn close_for(&mut self, reason: Reason) -> Input<'static> {
        if let Some(alert) = reason.alert() {
            self.association.queue_alert(Level::Fatal, alert);
        }
        self.end();
        Input::Closed(reason)
    }

    fn end(&mut self) {
        self.handshake = None;
        self.association.phase = Phase::Closed;
        self.association.forget_keys_if_done();
    }
}

/// Random bytes from the caller; only zeros are a broken source.
fn random<const COUNT: usize>(rng: &mut Rng<'_>) -> Result<[u8; COUNT], SetUpError> {
    let mut bytes = [0; COUNT];
    rng(&mut bytes);
    if bytes == [0; COUNT] { Err(SetUpError::NotRandom) } else { Ok(bytes) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::message::{Fragment, OfferedHello};
    use crate::record::Datagram;

    type Small = Connection<384>;

    const NOW: Instant = Instant::from_millis(0);
    const PSK: Psk<'_> = Psk { identity: b"me", key: &[7; 16] };

    fn client() -> Small {
        Small::client(NOW, &Config::DEFAULT, PSK, &mut |bytes| bytes.fill(3), Handshake::new()).unwrap()
    }

    /// A server that takes the client's first flight without a cookie exchange.
    fn server(client: &mut Small) -> Small {
        let datagram = sent(client).concat();
        let body = Fragment::parse(&mut Reader::new(&datagram[HEADER..])).unwrap().bytes;
        let offered = OfferedHello::parse(body).unwrap();
        let (suite, flags) = offered.choose().unwrap();
        let hello = ClientHello {
            record_sequence: 0,
            message_seq: 0,
            body,
            random: offered.random,
            suite,
            extended_master_secret: flags.extended_master_secret,
            secure_renegotiation: flags.secure_renegotiation,
        };
        Small::server(NOW, &Config::DEFAULT, &hello, &mut |bytes| bytes.fill(4), Handshake::new()).unwrap()
    }

    fn sent(connection: &mut Small) -> Vec<Vec<u8>> {
        let mut out = vec![0; 1200];
        std::iter::from_fn(|| {
            let length = connection.poll_transmit(NOW, &mut out)?;
            Some(out[..length].to_vec())
        })
        .collect()
    }

    /// Hands over everything `from` has to say; returns what became of the connection.
    fn deliver(from: &mut Small, to: &mut Small) -> Option<Input<'static>> {
        let mut last = None;
        for mut datagram in sent(from) {
            let mut datagram = Datagram::new(&mut datagram);
            while let Some(input) = to.handle(NOW, &mut datagram) {
                last = match input {
                    Input::Established { full } => Some(Input::Established { full }),
                    Input::Closed(reason) => Some(Input::Closed(reason)),
                    Input::Application(_) => last,
                };
            }
            if let Some(id) = to.poll_pending().map(|pending| pending.id) {
                last = to.provide(NOW, id, Answer::Psk { key: PSK.key, tag: 0 }).unwrap();
            }
        }
        last
    }

    const ESTABLISHED: Option<Input<'static>> = Some(Input::Established { full: true });

    #[test]
    fn the_smallest_memory_takes_the_longest_identity_and_long_cookies() {
        let client = |identity: &[u8]| {
            let psk = Psk { identity, ..PSK };
            Connection::<192>::client(
                NOW,
                &Config::DEFAULT,
                psk,
                &mut |bytes| bytes.fill(3),
                Handshake::new(),
            )
            .unwrap()
        };
        for (cookie, ended) in [(142_u8, None), (143, Some(Input::Closed(Reason::TooLong)))] {
            let body = [&[0xfe, 0xff, cookie][..], &vec![5; cookie.into()]].concat();
            let length = u8::try_from(body.len()).unwrap();
            let message = [&[3, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length][..], &body].concat();
            let length = u8::try_from(message.len()).unwrap();
            let mut request = [&[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, length][..], &message].concat();
            assert_eq!(client(b"me").handle(NOW, &mut Datagram::new(&mut request)), ended);
        }
        let mut client = client(&[b'i'; 128]);
        let (mut step, _) = client.step(NOW).unwrap();
        step.core.state = State::ServerHelloDone;
        let done = Message { message_type: MessageType::ServerHelloDone, message_seq: 1, body: &[] };
        assert!(step.handle(&done).is_ok());
    }

    #[test]
    fn a_peer_without_the_extended_master_secret_gets_the_plain_one() {
        let mut client = client();
        {
            // As an older client would send it: no extension, so no extensions at all.
            let (step, _) = client.step(NOW).unwrap();
            let whole = step.flight.first_body().unwrap().to_vec();
            let body = &whole[..whole.len().checked_sub(6).unwrap()];
            step.flight.clear();
            let message = step.flight.push(MessageType::ClientHello, 0, 0, |out| {
                out.get_mut(..body.len())?.copy_from_slice(body);
                Some(body.len())
            });
            step.core.transcript = crate::crypto::Sha256::new();
            step.core.absorb(&message.unwrap());
        }
        let mut server = server(&mut client);
        assert_eq!(deliver(&mut server, &mut client), None);
        assert!(!client.handshake.as_ref().unwrap().core.extended_master_secret);
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        assert_eq!(deliver(&mut server, &mut client), ESTABLISHED);
    }

    #[test]
    fn a_handshake_without_a_cookie_works_and_uses_the_extended_master_secret() {
        let mut client = client();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        assert!(client.handshake.as_ref().unwrap().core.extended_master_secret);
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        assert_eq!(deliver(&mut server, &mut client), ESTABLISHED);
    }

    #[test]
    fn a_servers_finished_with_other_content_ends_the_handshake() {
        // Corpus 13: it decrypts, and only its content is wrong.
        let mut client = client();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        client.handshake.as_mut().unwrap().core.break_verify_data();
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        assert_eq!(deliver(&mut server, &mut client), Some(Input::Closed(Reason::BadFinished)));
        assert!(!client.is_established());
        // The alert is protected, and so believed.
        let ended = deliver(&mut client, &mut server);
        assert_eq!(ended, Some(Input::Closed(Reason::PeerAlert(Alert::DECRYPT_ERROR))));
    }

    fn established() -> (Small, Small) {
        let mut client = client();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        deliver(&mut client, &mut server);
        deliver(&mut server, &mut client);
        assert!(client.is_established() && server.is_established());
        (client, server)
    }

    /// A protected record of any type from `from`.
    fn protected(from: &mut Small, content_type: ContentType, body: &[u8]) -> Vec<u8> {
        let mut buffer = [&[0; crate::HEADROOM], body, &[0; crate::TAILROOM]].concat();
        let payload = crate::HEADROOM..crate::HEADROOM.saturating_add(body.len());
        let record = from.association.seal_in(1, content_type, &mut buffer, payload).unwrap();
        buffer[record].to_vec()
    }

    #[test]
    fn renegotiation_is_refused_by_both_sides() {
        let (mut client, mut server) = established();
        let hello_request = [0; 12];
        let mut record = protected(&mut server, ContentType::Handshake, &hello_request);
        assert_eq!(client.handle(NOW, &mut Datagram::new(&mut record)), None);
        let client_hello = [1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
        let mut record = protected(&mut client, ContentType::Handshake, &client_hello);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut record)), None);
        // A warning alert each: 13 + 8 + 2 + 8 bytes, and it ends nothing.
        let mut answer = sent(&mut client).concat();
        assert_eq!(answer.len(), 31);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut answer)), None);
        assert!(server.is_established());
        assert_eq!(sent(&mut server).last().map(Vec::len), Some(31));
    }

    #[test]
    fn protected_alerts_are_believed() {
        for (body, ended) in [
            (&[2, 20][..], Some(Reason::PeerAlert(Alert(20)))),
            (&[1, 0], Some(Reason::PeerClosed)),
            (&[2, 0], Some(Reason::PeerClosed)),
            (&[1, 90], None),
            (&[3, 20], None),
            (&[2], None),
            (&[], None),
            (&[2, 20, 0], None),
        ] {
            let (mut client, mut server) = established();
            let mut record = protected(&mut server, ContentType::Alert, body);
            let input = client.handle(NOW, &mut Datagram::new(&mut record));
            assert_eq!(input, ended.map(Input::Closed), "{body:?}");
        }
    }

    #[test]
    fn a_protected_change_cipher_spec_is_dropped() {
        let (mut client, mut server) = established();
        let mut record = protected(&mut client, ContentType::ChangeCipherSpec, &[1]);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut record)), None);
        assert_eq!(server.counters().unexpected, 1);
    }

    #[test]
    fn a_finished_before_its_change_cipher_spec_waits_for_it() {
        let mut client = client();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        let mut flight = sent(&mut client).concat();
        let mut records = Vec::new();
        let mut datagram = Datagram::new(&mut flight);
        while let Some(Ok((header, body))) = datagram.next() {
            let length = u16::try_from(body.len()).unwrap();
            records.push([&header.emit(length)[..], body].concat());
        }
        let mut key_exchange = records.remove(0);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut key_exchange)), None);
        let id = server.poll_pending().unwrap().id;
        assert_eq!(server.provide(NOW, id, Answer::Psk { key: PSK.key, tag: 0 }), Ok(None));
        // Authentic, but the ChangeCipherSpec is missing.
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut records[1])), None);
        assert!(!server.is_established());
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut records[0])), ESTABLISHED);
    }

    #[test]
    fn keys_are_forgotten_with_the_last_alert() {
        let (mut client, _) = established();
        client.close();
        assert!(client.has_epoch(1), "the close_notify still needs them");
        assert_eq!(sent(&mut client).len(), 1);
        assert!(!client.has_epoch(1));
    }

    #[test]
    fn an_exhausted_connection_says_so() {
        let (mut client, _) = established();
        client.association.epoch_mut(1).unwrap().next_sequence = crate::record::SEQUENCE_MAX;
        let mut buffer = [0; 29];
        assert!(client.seal(&mut buffer, 21..21).is_ok());
        assert_eq!(client.seal(&mut buffer, 21..21), Err(SealError::SequenceExhausted));
    }
}
