//! The big part of a connection, which exists only while a handshake or the kept last flight lives (RFC 6347 §4.2; invariant:
//! secrets in it are wiped when it is dropped).

use zeroize::Zeroize as _;

use crate::association::{Association, Role};
#[cfg(feature = "rpk")]
use crate::authentication::Authentication;
#[cfg(feature = "rpk")]
use crate::certificate::ClientCertificate;
use crate::config::Config;
use crate::connection_id::ConnectionId;
use crate::crypto::{Crypto, RunningHash as _, RustCrypto};
use crate::error::{Dropped, Reason, SetUpError};
use crate::flight::Flight;
use crate::keys::Epoch;
use crate::message::{Message, MessageType};
use crate::prf::{Inputs, KeyBlock, Secrets, VerifyData};
use crate::psk::{Psk, StoredIdentity, StoredKey};
use crate::reassembly::Reassembly;
use crate::replay::ReplayWindow;
use crate::suite::{Suite, Suites};
use crate::time::{Instant, milliseconds};

/// The longest time between two retransmissions (RFC 6347 §4.2.4.1), in milliseconds.
const BACKOFF_MAX: u32 = 60_000;

/// How long the sender of the last flight keeps it, in milliseconds: twice the maximum segment lifetime of two minutes.
const KEEP_LAST_FLIGHT: u64 = 240_000;

/// The epoch that the first ChangeCipherSpec starts.
pub(crate) const PROTECTED: u16 = 1;

/// The longest ClientKeyExchange, which is an identity of 128 bytes and perhaps a share, and a Finished; rounded up to what
/// a ClientHello and a ServerHello need.
pub(crate) const MEMORY_MIN: usize = if cfg!(feature = "ecdhe") { 2 + 128 + 1 + 65 + 12 } else { 192 };

/// Memory for a handshake: our flight and the peer's messages with up to `N` bytes each, transcript and randoms.
///
/// 384 bytes are enough for everything with pre-shared keys or raw public keys (a client needs 320 for the latter), and with
/// certificates the longer one of both chains and 320 bytes. 192, or 208 with the feature `ecdhe`, are the least that
/// compiles, and enough as well but for cookies of more than 142 bytes (less where more than one suite, a session or a
/// Connection ID is offered), which a client then refuses with [`Reason::TooLong`]. A client has the memory inline, a server
/// boxes it, so that an idle connection is small.
pub struct Handshake<const N: usize, C: Crypto = RustCrypto> {
    pub(crate) core: Core<C>,
    pub(crate) flight: Flight<N>,
    pub(crate) reassembly: Reassembly<N>,
}

impl<const N: usize> Handshake<N> {
    /// Empty memory, to be handed to [`Connection::client`](crate::Connection::client) or
    /// [`Connection::server`](crate::Connection::server). With another [`Crypto`] it comes from `default`.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<const N: usize, C: Crypto> Handshake<N, C> {
    /// Forgets what is in it, secrets, identity and our messages byte by byte: for memory that was lent to a connection which is
    /// gone before its handshake was over.
    pub fn wipe(&mut self) {
        self.core = Core::new();
        self.flight.clear();
        self.reassembly.restart(0);
    }

    /// Prepares wiped memory for [`Connection::prepared_client`](crate::Connection::prepared_client): the identity of a
    /// pre-shared key.
    ///
    /// # Errors
    /// It is longer than 128 bytes.
    pub fn set_identity(&mut self, identity: &[u8]) -> Result<(), SetUpError> {
        self.core.identity = StoredIdentity::from_slice(identity).map_err(|_| SetUpError::IdentityTooLong)?;
        Ok(())
    }

    /// The same: the pre-shared key itself.
    ///
    /// # Errors
    /// It is empty or longer than 64 bytes.
    pub fn set_key(&mut self, key: &[u8]) -> Result<(), SetUpError> {
        self.core.key = StoredKey::new(key).ok_or(SetUpError::KeyLength)?;
        Ok(())
    }

    pub(crate) fn set_psk(&mut self, psk: Psk<'_>) -> Result<(), SetUpError> {
        self.set_identity(psk.identity)?;
        self.set_key(psk.key)
    }

    /// The same: which kind of certificate, and the name that the server is asked for.
    ///
    /// # Errors
    /// The name is empty or longer than 253 bytes.
    #[cfg(feature = "rpk")]
    pub fn set_certificate(&mut self, certificate: ClientCertificate<'_>) -> Result<(), SetUpError> {
        self.core.authentication = match certificate {
            ClientCertificate::RawPublicKey => Authentication::NONE,
            #[cfg(feature = "x509")]
            ClientCertificate::X509 { server_name } => {
                let name = heapless::Vec::from_slice(server_name.unwrap_or_default().as_bytes());
                let name = name.ok().filter(|name| server_name.is_none() || !name.is_empty());
                Authentication::by_certificates(name.ok_or(SetUpError::ServerName)?)
            }
            #[cfg(not(feature = "x509"))]
            ClientCertificate::Never(never, _) => match never {},
        };
        Ok(())
    }

    /// The same: a session is to be had afterwards, and this one is offered if there is one.
    #[cfg(feature = "resumption")]
    pub fn set_session(&mut self, session: Option<&crate::Session>) {
        self.core.resuming = crate::resume::Resuming::with(session);
    }

    /// The same as [`Connection::poll_timeout`](crate::Connection::poll_timeout), of memory that is lent.
    pub fn poll_timeout(&self) -> Instant {
        self.core.timers.next()
    }

    /// A client with certificates: the name of the server that it asks for.
    #[cfg(feature = "x509")]
    pub fn server_name(&self) -> Option<&str> {
        core::str::from_utf8(&self.core.authentication.server_name).ok().filter(|name| !name.is_empty())
    }
}

impl<const N: usize, C: Crypto> Default for Handshake<N, C> {
    fn default() -> Self {
        const {
            assert!(N >= MEMORY_MIN, "the longest identity, a share and a Finished need as much");
            assert!(N <= 16384, "a message is never longer than a record");
        }
        Self { core: Core::new(), flight: Flight::new(), reassembly: Reassembly::new() }
    }
}

impl<const N: usize, C: Crypto> core::fmt::Debug for Handshake<N, C> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Handshake").field("state", &self.core.state).finish_non_exhaustive()
    }
}

/// The place of a handshake's memory that is never taken: see
/// [`Connection::detach`](crate::Connection::detach).
#[derive(Clone, Copy, Debug)]
pub enum NoHandshake {}

impl<const N: usize, C: Crypto> core::borrow::Borrow<Handshake<N, C>> for NoHandshake {
    fn borrow(&self) -> &Handshake<N, C> {
        match *self {}
    }
}

impl<const N: usize, C: Crypto> core::borrow::BorrowMut<Handshake<N, C>> for NoHandshake {
    fn borrow_mut(&mut self) -> &mut Handshake<N, C> {
        match *self {}
    }
}

/// What the handshake waits for, in protocol order of both roles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum State {
    ServerHello,
    /// Of the peer, whoever that is.
    #[cfg(feature = "rpk")]
    Certificate,
    ServerHelloDone,
    ClientKeyExchange,
    #[cfg(feature = "rpk")]
    CertificateVerify,
    /// What the peer's key comes from is there, and the key is not.
    LookUp,
    Finished,
    /// Nothing: the last flight is kept.
    Kept,
}

/// The state of a handshake without its buffers.
pub(crate) struct Core<C: Crypto> {
    pub(crate) state: State,
    /// Client: what was offered.
    pub(crate) suites: Suites,
    pub(crate) suite: Suite,
    pub(crate) extended_master_secret: bool,
    #[cfg(feature = "cbc")]
    pub(crate) encrypt_then_mac: bool,
    pub(crate) change_cipher_spec: bool,
    /// The message_seq of our last (client) or the peer's accepted (server) ClientHello.
    pub(crate) hello_seq: u16,
    /// The number of the first record of our last ClientHello.
    pub(crate) hello_sequence: u64,
    pub(crate) hello_verify_requests: u8,
    pub(crate) has_server_key_exchange: bool,
    /// Client: the Connection ID offered, and whether the return routability check is.
    pub(crate) offered_id: Option<ConnectionId>,
    pub(crate) return_routability: bool,
    /// Client: the limit offered. Server: the one to tell.
    #[cfg(feature = "record-size-limit")]
    pub(crate) record_size_limit: Option<u16>,
    pub(crate) client_random: [u8; 32],
    pub(crate) server_random: [u8; 32],
    pub(crate) transcript: C::Sha256,
    pub(crate) identity: StoredIdentity,
    /// Client: its key. Server: a random key for unknown identities.
    pub(crate) key: StoredKey,
    pub(crate) verify_data: VerifyData,
    #[cfg(feature = "ecdhe")]
    pub(crate) agreement: crate::ecdhe::Agreement<C>,
    /// Client: the order of the groups to offer.
    #[cfg(feature = "ecdhe")]
    pub(crate) group_preference: crate::ecdhe::Preference,
    #[cfg(feature = "resumption")]
    pub(crate) resuming: crate::resume::Resuming,
    #[cfg(any(feature = "server", feature = "rpk"))]
    pub(crate) waiting: crate::pending::Waiting,
    #[cfg(feature = "rpk")]
    pub(crate) authentication: crate::authentication::Authentication,
    #[cfg(all(feature = "resumption", feature = "server"))]
    pub(crate) ticket: crate::ticket::NewTicket,
    #[cfg(feature = "server")]
    pub(crate) early: crate::server::EarlyRecords,
    /// What will be the reason unless the handshake gets on.
    pub(crate) suspicion: Option<Reason>,
    pub(crate) timers: Timers,
}

/// Retransmission and deadline; durations in milliseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Timers {
    initial: u32,
    backoff: u32,
    was_lost: bool,
    pub(crate) retransmit: Option<Instant>,
    pub(crate) deadline: Instant,
    last_sent: Instant,
}

impl Timers {
    pub(crate) fn start(&mut self, now: Instant, config: &Config) {
        let initial = u32::try_from(milliseconds(config.retransmit_after)).unwrap_or(BACKOFF_MAX);
        let initial = initial.clamp(1, BACKOFF_MAX);
        let deadline = now.after(milliseconds(config.handshake_timeout));
        *self =
            Self { initial, backoff: initial, was_lost: false, retransmit: None, deadline, last_sent: now };
    }

    /// A new flight was queued that expects an answer. The time-out starts anew unless the flight before was lost, because
    /// then it may have been too short (RFC 6347 §4.2.4.1).
    pub(crate) fn flight(&mut self, now: Instant) {
        if !core::mem::replace(&mut self.was_lost, false) {
            self.backoff = self.initial;
        }
        self.arm(now);
    }

    /// The last flight was queued: nothing answers it.
    pub(crate) fn last_flight(&mut self, now: Instant) {
        self.retransmit = None;
        self.deadline = now.after(KEEP_LAST_FLIGHT);
    }

    /// A part of the flight goes out: its time-out counts from here.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
        if self.retransmit.is_some() {
            self.arm(now);
        }
    }

    /// The flight goes out again because nothing came.
    pub(crate) fn back_off(&mut self, now: Instant) {
        self.was_lost = true;
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
        self.arm(now);
    }

    fn arm(&mut self, now: Instant) {
        self.retransmit = Some(now.after(self.backoff.into()));
    }

    /// Whether a repetition by the peer, which anyone may forge, is to be answered: not more often than four times in the
    /// initial time-out.
    pub(crate) fn may_repeat(&self, now: Instant) -> bool {
        now >= self.last_sent.after((self.initial >> 2).into())
    }

    pub(crate) fn next(&self) -> Instant {
        self.retransmit.map_or(self.deadline, |at| at.min(self.deadline))
    }
}

impl<C: Crypto> Core<C> {
    pub(crate) fn new() -> Self {
        Self {
            state: State::ServerHello,
            suites: Suites::DEFAULT,
            suite: Suite::default(),
            extended_master_secret: false,
            #[cfg(feature = "cbc")]
            encrypt_then_mac: false,
            change_cipher_spec: false,
            hello_seq: 0,
            hello_sequence: 0,
            hello_verify_requests: 0,
            has_server_key_exchange: false,
            offered_id: None,
            return_routability: false,
            #[cfg(feature = "record-size-limit")]
            record_size_limit: None,
            client_random: [0; 32],
            server_random: [0; 32],
            transcript: C::Sha256::new(),
            identity: StoredIdentity::new(),
            key: StoredKey::EMPTY,
            verify_data: VerifyData::default(),
            #[cfg(feature = "ecdhe")]
            agreement: crate::ecdhe::Agreement::NONE,
            #[cfg(feature = "ecdhe")]
            group_preference: crate::ecdhe::Preference::default(),
            #[cfg(feature = "resumption")]
            resuming: crate::resume::Resuming::No,
            #[cfg(any(feature = "server", feature = "rpk"))]
            waiting: crate::pending::Waiting::NONE,
            #[cfg(feature = "rpk")]
            authentication: crate::authentication::Authentication::NONE,
            #[cfg(all(feature = "resumption", feature = "server"))]
            ticket: crate::ticket::NewTicket::No,
            #[cfg(feature = "server")]
            early: crate::server::EarlyRecords::new(),
            suspicion: None,
            timers: Timers::default(),
        }
    }

    pub(crate) fn absorb(&mut self, message: &Message<'_>) {
        self.transcript.update(&message.header());
        self.transcript.update(message.body);
    }

    /// Derives the keys of the protected epoch from `psk`. `between` adds to the transcript what follows the client's Finished,
    /// and may use the master secret.
    pub(crate) fn derive(
        &mut self,
        association: &mut Association,
        psk: &[u8],
        between: impl FnOnce(&mut C::Sha256, &[u8; 48]),
    ) {
        let finished = Message {
            message_type: MessageType::Finished,
            message_seq: self.client_finished_seq(),
            body: &[0; 12],
        };
        let inputs = Inputs {
            suite: self.suite,
            psk,
            #[cfg(feature = "ecdhe")]
            shared: self.agreement.shared(),
            #[cfg(feature = "rpk")]
            session_hash: self.suite.is_ecdsa().then_some(&self.authentication.session_hash),
            client_random: &self.client_random,
            server_random: &self.server_random,
            extended_master_secret: self.extended_master_secret,
            transcript: core::mem::replace(&mut self.transcript, C::Sha256::new()),
            client_finished_header: finished.header(),
        };
        let secrets = Secrets::derive::<C>(inputs, between);
        #[cfg(feature = "ecdhe")]
        {
            self.agreement = crate::ecdhe::Agreement::NONE;
        }
        self.key.clear();
        self.verify_data = secrets.verify_data;
        #[cfg(feature = "resumption")]
        self.keep_session(association, &secrets.master_secret);
        self.install(association, &secrets.keys);
    }

    /// Puts the keys of the protected epoch in their place.
    pub(crate) fn install(&self, association: &mut Association, keys: &KeyBlock) {
        let (write, read) = match association.role {
            Role::Client => (&keys.client, &keys.server),
            Role::Server => (&keys.server, &keys.client),
        };
        association.install(Epoch {
            number: PROTECTED,
            suite: self.suite,
            #[cfg(feature = "cbc")]
            encrypt_then_mac: self.encrypt_then_mac,
            write: write.clone(),
            read: read.clone(),
            next_sequence: 0,
            window: ReplayWindow::default(),
        });
    }

    /// The verify_data of `sender`.
    pub(crate) fn verify_data(&self, sender: Role) -> &[u8; 12] {
        match sender {
            Role::Client => &self.verify_data.client,
            Role::Server => &self.verify_data.server,
        }
    }

    #[cfg(test)]
    pub(crate) fn break_verify_data(&mut self) {
        self.verify_data.server = [0; 12];
    }

    /// Whether both sides prove themselves by a signature, and not by a pre-shared key.
    pub(crate) const fn is_certified(&self) -> bool {
        #[cfg(feature = "rpk")]
        return self.suite.is_ecdsa();
        #[cfg(not(feature = "rpk"))]
        false
    }

    /// The number of the client's Finished in a full handshake: behind its Certificate, ClientKeyExchange and CertificateVerify.
    pub(crate) const fn client_finished_seq(&self) -> u16 {
        #[cfg(feature = "rpk")]
        if self.authentication.is_mutual {
            return self.hello_seq.wrapping_add(4);
        }
        self.hello_seq.wrapping_add(2)
    }

    /// Whether a session is taken up: the server's Finished comes before the client's, and each side's ChangeCipherSpec right
    /// before its Finished.
    pub(crate) const fn is_abbreviated(&self) -> bool {
        #[cfg(feature = "resumption")]
        return matches!(self.resuming, crate::resume::Resuming::Accepted(_));
        #[cfg(not(feature = "resumption"))]
        false
    }

    /// Whether there is something to keep when both Finished were verified: the last flight, on the side `role` that sent it,
    /// or a session that waits to be taken.
    pub(crate) const fn is_needed_by(&self, role: Role) -> bool {
        #[cfg(feature = "resumption")]
        if matches!(self.resuming, crate::resume::Resuming::Made(_)) {
            return true;
        }
        matches!(role, Role::Client) == self.is_abbreviated()
    }

    /// Why the handshake failed if its deadline passed now.
    pub(crate) fn reason(&self, role: Role) -> Reason {
        self.suspicion.unwrap_or(match (self.state, role) {
            (State::ServerHello, _) if self.hello_verify_requests == 0 => Reason::NoAnswer,
            #[cfg(any(feature = "server", feature = "rpk"))]
            _ if self.waiting.is_for_more_than_a_key() => Reason::OperationUnanswered,
            (State::LookUp, _) => Reason::LookUpUnanswered,
            (State::Finished, Role::Client) if !self.is_abbreviated() => Reason::FinishedUnanswered,
            _ => Reason::Stalled,
        })
    }
}

impl<C: Crypto> Drop for Core<C> {
    fn drop(&mut self) {
        self.client_random.zeroize();
        self.server_random.zeroize();
        self.verify_data.client.zeroize();
        self.verify_data.server.zeroize();
        self.identity.as_mut_slice().zeroize();
    }
}

/// Why a message did not bring the handshake on.
pub(crate) enum Failure {
    /// Dropped and counted; the handshake goes on.
    Dropped(Dropped),
    /// The handshake is over.
    Refused(Reason),
}

impl From<Dropped> for Failure {
    fn from(dropped: Dropped) -> Self {
        Self::Dropped(dropped)
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// One step of a handshake: its parts, borrowed for one message.
pub(crate) struct Step<'a, const N: usize, C: Crypto> {
    pub(crate) now: Instant,
    pub(crate) association: &'a mut Association,
    pub(crate) core: &'a mut Core<C>,
    pub(crate) flight: &'a mut Flight<N>,
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// Processes the message whose turn it is.
    pub(crate) fn handle(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        #[cfg(any(feature = "server", feature = "rpk"))]
        if self.core.waiting.is_for_any() {
            return Err(Dropped::Unexpected.into());
        }
        match self.association.role {
            Role::Client => self.handle_as_client(message),
            #[cfg(feature = "server")]
            Role::Server => self.handle_as_server(message),
            #[cfg(not(feature = "server"))]
            Role::Server => Err(Dropped::Unexpected.into()),
        }
    }

    /// Whether a message of this type can be processed at all by now: a Finished needs its keys and a ChangeCipherSpec, and what
    /// follows a certificate waits until that was judged.
    pub(crate) fn is_ready_for(&self, message_type: MessageType) -> bool {
        #[cfg(feature = "rpk")]
        if self.core.waiting.is_for_message() {
            return false;
        }
        message_type != MessageType::Finished
            || (self.core.change_cipher_spec && self.core.state == State::Finished)
    }

    /// Whether the message is processed where it was put together, because it is needed for longer.
    #[cfg(feature = "rpk")]
    pub(crate) fn keeps(&self, message_type: MessageType) -> bool {
        message_type == MessageType::Certificate && self.core.state == State::Certificate
    }

    /// Repeats our flight if the peer repeats the end of the one before (RFC 6347 §4.2.4).
    pub(crate) fn repeat_for(&mut self, message_type: MessageType) {
        match (self.core.state, message_type) {
            (State::Finished, MessageType::ServerHelloDone) if self.core.timers.may_repeat(self.now) => {
                self.flight.repeat();
            }
            // It was authenticated and is not a replay: the client did not get our Finished.
            (State::Kept, MessageType::Finished) => self.flight.repeat(),
            _ => {}
        }
    }

    /// Queues ChangeCipherSpec and Finished.
    pub(crate) fn push_finished(&mut self, message_seq: u16) -> Result<(), Failure> {
        let verify_data = *self.core.verify_data(self.association.role);
        self.flight.push_change_cipher_spec().ok_or(Reason::TooLong)?;
        self.flight
            .push(MessageType::Finished, message_seq, PROTECTED, |out| {
                *out.first_chunk_mut()? = verify_data;
                Some(verify_data.len())
            })
            .ok_or(Reason::TooLong)?;
        self.association.write_epoch = PROTECTED;
        Ok(())
    }

    /// Checks the peer's Finished (RFC 5246 §7.4.9).
    pub(crate) fn verify_finished(&mut self, message: &Message<'_>, sender: Role) -> Result<(), Failure> {
        use subtle::ConstantTimeEq as _;
        // Slices of different lengths are never equal.
        if bool::from(self.core.verify_data(sender).as_slice().ct_eq(message.body)) {
            self.core.state = State::Kept;
            Ok(())
        } else {
            Err(Reason::BadFinished.into())
        }
    }
}
