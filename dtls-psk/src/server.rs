//! The server's side of a PSK handshake, from the ClientHello with a valid cookie on (RFC 6347 §4.2, RFC 4279 §2).
//!
//! 1. → ClientHello with the cookie: [`CookieJar::accept`](crate::CookieJar::accept) did what comes before
//! 2. ServerHello, ServerKeyExchange with a share where the suite has one, which is computed first, ServerHelloDone →
//! 3. ← ClientKeyExchange: both agree where the suite has shares, and then the identity is looked up; ChangeCipherSpec, Finished
//! 4. ChangeCipherSpec, Finished →, kept until the client's application data shows that they arrived
//!
//! Module `resume` has the abbreviated one.
//!
//! Invariant: an unknown identity goes on with a random key, and what is computed comes before it is looked up, so that nothing
//! tells it from a wrong key.

use core::borrow::BorrowMut;

use zeroize::Zeroizing;

use crate::Rng;
use crate::association::{Phase, Role};
use crate::client_hello::{self, ClientHello, OfferedHello};
use crate::config::Config;
use crate::connection::{Connection, random};
use crate::connection_id::{ConnectionId, ENABLED};
use crate::crypto::Crypto;
#[cfg(feature = "ecdhe")]
use crate::ecdhe::{self, Share};
use crate::error::{Dropped, OpenError, Reason, SetUpError};
use crate::event::Input;
use crate::handshake::{Core, Failure, Handshake, PROTECTED, State, Step};
use crate::message::{self, Fragment, HelloExtensions, Message, MessageType};
use crate::pending::{Wait, Waiting};
use crate::psk::{StoredIdentity, StoredKey};
use crate::record::{ContentType, Header};
use crate::time::Instant;

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
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
        Self::start_server(now, config, hello, rng, handshake, |_| ())
    }

    /// A server, which answers the ClientHello after `prepare`.
    pub(crate) fn start_server(
        now: Instant,
        config: &Config,
        hello: &ClientHello<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
        prepare: impl FnOnce(&mut Core<C>),
    ) -> Result<Self, SetUpError> {
        // It may come from an earlier handshake.
        let handshake = Self::prepared_by(handshake, |_| Ok(()))?;
        let server_random = random(rng)?;
        let decoy = Zeroizing::new(random::<16>(rng)?);
        let decoy = StoredKey::new(&*decoy).ok_or(SetUpError::KeyLength)?;
        // RFC 6347 §4.2.1: the answer takes over the ClientHello's record number.
        // Among the clients from before RFC 7627, and among those with raw public keys, are some that understand only one
        // message in a record.
        let shares_records =
            config.shares_records && hello.extensions.extended_master_secret && !hello.suite.is_ecdsa();
        let config = config.with_shared_records(shares_records);
        let mut connection = Self::start(Role::Server, hello.record_sequence, now, &config, handshake);
        if let Some((mut step, reassembly)) = connection.step(now) {
            step.core.server_random = server_random;
            step.core.waiting = Waiting::of(&server_random);
            step.core.key = decoy;
            #[cfg(feature = "ecdhe")]
            if hello.suite.is_ecdhe() {
                step.core.agreement.draw(hello.group, rng)?;
            }
            if let (true, Some(own), Some(peer)) = (ENABLED, config.connection_id, hello.peer_id()) {
                step.core.offered_id = Some(own);
                let is_checkable = config.return_routability && hello.extensions.return_routability;
                step.association.agree_ids(own, peer, is_checkable);
            }
            #[cfg(feature = "rpk")]
            {
                (step.core.authentication.own, step.core.authentication.peer) = hello.certificate_types;
            }
            #[cfg(feature = "record-size-limit")]
            step.keep_limits(config.record_size_limit, hello);
            prepare(step.core);
            let answered = step.answer_client_hello(hello);
            debug_assert!(answered.is_ok(), "ServerHello and ServerHelloDone fit into any handshake memory");
            reassembly.restart(hello.message_seq.wrapping_add(1));
        }
        Ok(connection)
    }

    /// Tries whether `record`, the first of a datagram, is authentic here, without destroying it: the plaintext goes to
    /// `scratch`, which must be as long as the record's body. The record stays fresh for [`Connection::handle`].
    ///
    /// # Errors
    /// The record is not of this connection, it is and was seen before ([`Dropped::Replayed`]), or `scratch` is too short.
    pub fn open_into<'s>(&self, record: &[u8], scratch: &'s mut [u8]) -> Result<&'s mut [u8], OpenError> {
        self.association.open_into::<C>(record, scratch)
    }

    /// Whether the connection has the keys of `epoch`.
    pub(crate) fn has_epoch(&self, epoch: u16) -> bool {
        self.association.epoch(epoch).is_some()
    }

    /// Whether the memory of a handshake is there.
    pub(crate) const fn has_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    /// Whether this server's handshake started from a ClientHello with this cookie and message_seq; once it is established,
    /// one with this cookie is a late copy. So is, for a minute at most, that of a device that starts again with the same
    /// random: until the secret of the cookies changes.
    pub(crate) fn started_from(&self, cookie: &[u8], message_seq: u16) -> bool {
        let is_same_seq = |handshake: &H| handshake.borrow().core.hello_seq == message_seq;
        self.association.role == Role::Server
            && cookie.starts_with(&self.association.cookie)
            && (self.is_established() || self.handshake.as_ref().is_some_and(is_same_seq))
    }

    /// Whether a handshake waits for the keys of its protected epoch.
    pub(crate) fn awaits_keys(&self) -> bool {
        self.handshake.is_some() && !self.has_epoch(PROTECTED)
    }

    /// Whether the peer's Finished is still to come.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.association.phase == Phase::Handshaking
    }

    /// A Finished may overtake what its keys come from, or wait for a look-up. Which of several is the genuine one cannot be
    /// told before. Mostly it follows its ClientKeyExchange at once: of those that follow it the first ones are kept, of
    /// those before it the last one, so that no flood before or after displaces it.
    pub(crate) fn keep_early(&mut self, content_type: ContentType, header: Header, body: &[u8]) -> bool {
        let Some(handshake) = &mut self.handshake else { return false };
        let Ok(body) = heapless::Vec::from_slice(body) else { return false };
        if !matches!(content_type, ContentType::Handshake | ContentType::ConnectionId)
            || header.epoch != PROTECTED
        {
            return false;
        }
        let core = &mut handshake.borrow_mut().core;
        let early = &mut core.early;
        if core.state < State::LookUp {
            early.clear();
        }
        early.push(EarlyRecord { header, body }).is_ok()
    }

    /// Processes the records that waited for their keys.
    pub(crate) fn handle_early(&mut self, now: Instant) -> Option<Input<'static>> {
        let (step, _) = self.step(now)?;
        let early = core::mem::take(&mut step.core.early);
        early.into_iter().find_map(|EarlyRecord { header, mut body }| {
            match self.handle_record(now, header, &mut body) {
                // A record of a handshake holds nothing else.
                Ok(Some(Input::Established { full })) => Some(Input::Established { full }),
                Ok(Some(Input::Closed(reason))) => Some(Input::Closed(reason)),
                Ok(_) => None,
                Err(dropped) => {
                    self.association.count(dropped);
                    None
                }
            }
        })
    }
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// Takes over the ClientHello and queues the answer.
    pub(crate) fn answer_client_hello(&mut self, hello: &ClientHello<'_>) -> Result<(), Failure> {
        let Self { association, core, flight, now } = self;
        association.cookie = *hello.cookie.first_chunk().unwrap_or(&[0; 8]);
        core.state = State::ClientKeyExchange;
        core.suite = hello.suite;
        core.extended_master_secret = hello.extensions.extended_master_secret;
        core.client_random = *hello.random;
        core.hello_seq = hello.message_seq;
        core.absorb(&Message {
            message_type: MessageType::ClientHello,
            message_seq: hello.message_seq,
            body: hello.body,
        });
        #[cfg(feature = "resumption")]
        let session_id = {
            core.suite = core.resuming.suite().unwrap_or(hello.suite);
            core.resuming.answered_id(hello)
        };
        #[cfg(not(feature = "resumption"))]
        let session_id = &[];
        #[cfg(feature = "cbc")]
        {
            core.encrypt_then_mac = hello.extensions.encrypt_then_mac && core.suite.is_cbc();
        }
        #[cfg(feature = "rpk")]
        let (own, peer) = ([core.authentication.own.code()], [core.authentication.peer.code()]);
        #[cfg(feature = "rpk")]
        let types = {
            // RFC 7250 §4.2: who did not say a kind is not answered, nor is a suite without certificates.
            let answers = core.suite.is_ecdsa() && !core.is_abbreviated();
            let HelloExtensions { client_certificate_type, server_certificate_type, .. } = hello.extensions;
            let answer = |asked: Option<_>, answer| asked.filter(|_| answers).map(|_| answer);
            (answer(client_certificate_type, &peer[..]), answer(server_certificate_type, &own[..]))
        };
        let extensions = HelloExtensions {
            connection_id: core.offered_id.as_ref().map(ConnectionId::bytes),
            return_routability: association.path.is_checkable,
            // RFC 7366 §2: only where the suite has a use for it.
            #[cfg(feature = "cbc")]
            encrypt_then_mac: core.encrypt_then_mac,
            #[cfg(feature = "ecdhe")]
            groups: None,
            // RFC 8449 §5: beside a limit the length is not answered.
            #[cfg(feature = "record-size-limit")]
            max_fragment_length: hello
                .extensions
                .max_fragment_length
                .filter(|_| core.record_size_limit.is_none()),
            #[cfg(feature = "record-size-limit")]
            record_size_limit: core.record_size_limit,
            #[cfg(feature = "rpk")]
            client_certificate_type: types.0,
            #[cfg(feature = "rpk")]
            server_certificate_type: types.1,
            #[cfg(feature = "rpk")]
            signature_algorithms: None,
            // RFC 6066 §3: it guides what is presented, and nothing is where a session is taken up.
            #[cfg(feature = "x509")]
            server_name: (core.suite.is_ecdsa() && !core.is_abbreviated() && hello.server_name().is_some())
                .then_some(&[]),
            // Departure: RFC 8422 §5.2 wants the answer, which would say that the only form there is can be read.
            #[cfg(feature = "ecdhe")]
            point_formats: None,
            #[cfg(feature = "resumption")]
            session_ticket: core.ticket.is_promised().then_some(&[]),
            others: false,
            ..hello.extensions
        };
        flight.clear();
        let message = flight
            .push(MessageType::ServerHello, hello.message_seq, 0, |out| {
                client_hello::emit_server_hello(out, &core.server_random, session_id, core.suite, &extensions)
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        core.timers.flight(*now);
        #[cfg(feature = "resumption")]
        if core.is_abbreviated() {
            return self.go_on_with_session();
        }
        #[cfg(feature = "ecdhe")]
        if core.suite.is_ecdhe() {
            core.timers.retransmit = None;
            core.waiting.want(Wait::Share);
            flight.hold();
            #[cfg(feature = "rpk")]
            if core.suite.is_ecdsa() {
                core.state = State::Certificate;
                core.authentication.is_mutual = true;
            }
            return Ok(());
        }
        self.push_server_hello_done(1)
    }

    /// Our share was computed: it goes out, or is to be signed.
    #[cfg(feature = "ecdhe")]
    pub(crate) fn go_on_with_share(&mut self, share: Share) -> Result<(), Failure> {
        let Self { core, flight, .. } = self;
        core.agreement.set_share(share);
        #[cfg(feature = "rpk")]
        if core.suite.is_ecdsa() {
            core.waiting.want(Wait::Present);
            return Ok(());
        }
        let message_seq = core.hello_seq.wrapping_add(1);
        let message = flight
            .push(MessageType::ServerKeyExchange, message_seq, 0, |out| {
                ecdhe::emit_server_key_exchange(out, &share)
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        self.push_server_hello_done(2)
    }

    /// The end of a flight that may go out now.
    pub(crate) fn push_server_hello_done(&mut self, ahead: u16) -> Result<(), Failure> {
        let Self { core, flight, now, .. } = self;
        let message_seq = core.hello_seq.wrapping_add(ahead);
        let message =
            flight.push(MessageType::ServerHelloDone, message_seq, 0, |_| Some(0)).ok_or(Reason::TooLong)?;
        core.absorb(&message);
        #[cfg(feature = "ecdhe")]
        flight.release();
        core.timers.flight(*now);
        Ok(())
    }

    /// RFC 8449 §4, RFC 6066 §4: keeps to what the client wants, and tells a limit of our own to who told one.
    #[cfg(feature = "record-size-limit")]
    fn keep_limits(&mut self, own: Option<u16>, hello: &ClientHello<'_>) {
        use crate::limits::{self, LIMIT_MAX, Limits};
        let Self { association, core, .. } = self;
        let HelloExtensions { record_size_limit, .. } = hello.extensions;
        if let Some(peer) = record_size_limit {
            let own = limits::offer(own).0.unwrap_or(LIMIT_MAX);
            let has_id = (!association.peer_id().is_empty(), !association.own_id().is_empty());
            core.record_size_limit = Some(own);
            association.limits = Limits::of_sizes(peer, own, has_id);
        } else if let Ok(Some(length)) = hello.extensions.fragment_length() {
            association.limits = Limits::of_fragments(length);
        }
    }

    /// Repeats the answer to the ClientHello that this handshake started from; any other starts its own.
    pub(crate) fn repeat_for_client_hello(&mut self, fragment: &Fragment<'_>) -> Result<(), Dropped> {
        let Self { core, flight, now, .. } = self;
        let is_repeated = fragment.header.message_seq == core.hello_seq
            && OfferedHello::parse(fragment.bytes).is_some_and(|hello| *hello.random == core.client_random);
        if !is_repeated {
            return Err(Dropped::Unexpected);
        }
        #[cfg(feature = "rpk")]
        let awaits_client = matches!(core.state, State::Certificate | State::ClientKeyExchange);
        #[cfg(not(feature = "rpk"))]
        let awaits_client = core.state == State::ClientKeyExchange;
        let is_answered = awaits_client || (core.state == State::Finished && core.is_abbreviated());
        if is_answered && core.timers.may_repeat(*now) {
            flight.repeat();
        }
        Err(Dropped::Duplicate)
    }

    pub(crate) fn handle_as_server(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        match (self.core.state, message.message_type) {
            #[cfg(feature = "rpk")]
            (State::Certificate, MessageType::Certificate) => self.take_certificate(message)?,
            #[cfg(feature = "rpk")]
            (State::ClientKeyExchange, MessageType::ClientKeyExchange) if self.core.suite.is_ecdsa() => {
                self.take_share(message)?;
            }
            #[cfg(feature = "rpk")]
            (State::CertificateVerify, MessageType::CertificateVerify) => {
                self.take_certificate_verify(message)?;
            }
            (State::ClientKeyExchange, MessageType::ClientKeyExchange) => {
                let identity = self.take_client_key_exchange(message.body)?;
                self.core.absorb(message);
                // The client repeats its flight by itself from here on.
                self.core.timers.retransmit = None;
                self.core.suspicion = match StoredIdentity::from_slice(identity) {
                    Ok(identity) => {
                        self.core.identity = identity;
                        None
                    }
                    Err(_) => Some(Reason::IdentityTooLong),
                };
                self.core.state = State::LookUp;
                #[cfg(feature = "ecdhe")]
                if self.core.suite.is_ecdhe() {
                    self.core.waiting.want(Wait::Agree);
                    return Ok(());
                }
                self.go_on_with_identity();
            }
            (State::Finished, MessageType::Finished) => {
                // Whoever guesses the random key of an identity without one is still nobody.
                if let Some(reason @ (Reason::UnknownIdentity | Reason::IdentityTooLong)) =
                    self.core.suspicion
                {
                    return Err(reason.into());
                }
                self.verify_finished(message, Role::Client)?;
                let Self { core, flight, now, .. } = self;
                core.timers.last_flight(*now);
                flight.clear();
                if !core.is_abbreviated() {
                    let message_seq = core.last_flight_seq();
                    #[cfg(feature = "resumption")]
                    let message_seq = self.push_ticket(message_seq)?;
                    self.push_finished(message_seq)?;
                }
            }
            _ => return Err(Dropped::Unexpected.into()),
        }
        Ok(())
    }

    /// The identity; a share besides is kept for the agreement.
    fn take_client_key_exchange<'m>(&mut self, body: &'m [u8]) -> Result<&'m [u8], Failure> {
        #[cfg(feature = "ecdhe")]
        if self.core.suite.is_ecdhe() {
            let (identity, share) = message::or_malformed(ecdhe::parse_client_key_exchange(body))?;
            self.core.agreement.keep_peer_share(share).ok_or(Reason::InvalidShare)?;
            return Ok(identity);
        }
        Ok(message::or_malformed(message::parse_vector(body))?)
    }

    /// Both sides have agreed, whoever the client is.
    #[cfg(feature = "ecdhe")]
    pub(crate) fn go_on_with_agreed(&mut self, shared: &[u8; 32]) {
        self.core.agreement.set_shared(shared);
        self.go_on_with_identity();
    }

    /// The key is looked up, where there can be one.
    fn go_on_with_identity(&mut self) {
        if self.core.suspicion == Some(Reason::IdentityTooLong) {
            self.use_decoy(Reason::IdentityTooLong);
        } else {
            self.core.waiting.want(Wait::LookUp);
        }
    }

    /// The key was found: the handshake goes on with it. `between` as with [`Core::derive`].
    pub(crate) fn use_key(&mut self, psk: &[u8], between: impl FnOnce(&mut C::Sha256, &[u8; 48])) {
        self.core.derive(self.association, psk, between);
        self.core.state = State::Finished;
    }

    /// There is no key: the handshake goes on with a random one, to fail as it does for a wrong key.
    pub(crate) fn use_decoy(&mut self, reason: Reason) {
        let decoy = core::mem::replace(&mut self.core.key, StoredKey::EMPTY);
        self.use_key(decoy.bytes(), |_, _| ());
        self.core.suspicion = Some(reason);
    }
}

impl<C: Crypto> Core<C> {
    /// The number of the first message behind the client's Finished in a full handshake.
    pub(crate) const fn last_flight_seq(&self) -> u16 {
        #[cfg(feature = "rpk")]
        if self.suite.is_ecdsa() {
            return self.hello_seq.wrapping_add(5);
        }
        self.hello_seq.wrapping_add(2).wrapping_add(self.suite.is_ecdhe() as u16)
    }
}

/// Records that came before their keys.
pub(crate) type EarlyRecords = heapless::Vec<EarlyRecord, EARLY, u8>;

/// A record of the protected epoch that came before its keys.
pub(crate) struct EarlyRecord {
    header: Header,
    body: heapless::Vec<u8, EARLY_MAX>,
}

/// How many early records are kept.
const EARLY: usize = 3;

/// The longest early record kept: a Finished has 40 bytes, and 80 with a code and padding.
const EARLY_MAX: usize = if cfg!(feature = "cbc") { 96 } else { 64 };
