//! Session resumption (RFC 5246 §7.3, RFC 6347 §4.2.4, RFC 7627 §5.3): what of a full handshake is kept, and the abbreviated
//! handshake that it allows.
//!
//! 1. ClientHello with the id of a session →, after the cookie as ever
//! 2. ← ServerHello with the same id, ChangeCipherSpec, Finished
//! 3. ChangeCipherSpec, Finished →, kept by the client until the server's application data shows that they arrived
//!
//! Invariant: a session is kept and taken up only with the extended master secret, and only under its own cipher suite, which
//! also tells whether a pre-shared key or signatures proved its sides: neither stands in for the other. Both randoms are new, so
//! that keys and record numbers never meet those of an earlier connection.

use core::borrow::BorrowMut;

use heapless::Vec;
use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::Rng;
use crate::association::{Association, Role};
#[cfg(all(feature = "rpk", feature = "server"))]
use crate::certificate::CertificateTypes;
#[cfg(feature = "rpk")]
use crate::certificate::ClientCertificate;
#[cfg(feature = "server")]
use crate::client_hello::{ClientHello, OfferedHello};
use crate::config::Config;
use crate::connection::Connection;
use crate::crypto::{Crypto, RunningHash as _};
use crate::error::{Reason, SetUpError};
use crate::handshake::{Core, Failure, Handshake, State, Step};
#[cfg(feature = "record-size-limit")]
use crate::limits::{FragmentLength, Limits};
use crate::message::{Message, MessageType};
use crate::prf::Secrets;
use crate::psk::Psk;
use crate::suite::Suite;
#[cfg(feature = "server")]
use crate::ticket::{NewTicket, Ticket};
use crate::time::Instant;
use crate::wire::{Reader, Writer};

/// The longest id of a session, in bytes.
pub const SESSION_ID_MAX: usize = 32;

/// The first byte of an emitted session.
const FORMAT: u8 = 2;

/// More than a ServerHello of ours has, in bytes.
#[cfg(feature = "server")]
const SERVER_HELLO_MAX: usize = 128;

type SessionId = Vec<u8, SESSION_ID_MAX, u8>;

/// A session: what one full handshake leaves to the abbreviated ones that follow it.
///
/// Whoever has it can go on in the name of its peer. Keep it as the key itself is kept, and forget it when the key or a
/// certificate that it came from is replaced, withdrawn or not valid any more: the engine cannot know of that.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Session {
    #[zeroize(skip)]
    id: SessionId,
    master_secret: [u8; 48],
    #[zeroize(skip)]
    suite: Suite,
    /// The max_fragment_length, which lasts as long as the session (RFC 6066 §4).
    #[cfg(feature = "record-size-limit")]
    #[zeroize(skip)]
    fragment_length: Option<FragmentLength>,
}

impl Session {
    /// The most bytes that [`Session::emit`] writes.
    pub const LONGEST: usize = 1 + 2 + 48 + 1 + 1 + SESSION_ID_MAX;

    /// Reads what [`Session::emit`] wrote.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let suite = Suite::from_code(reader.u16()?)?;
        let master_secret = *reader.array()?;
        let length = reader.u8()?;
        #[cfg(feature = "record-size-limit")]
        let fragment_length = FragmentLength::from_code(length);
        #[cfg(not(feature = "record-size-limit"))]
        let fragment_length = None::<()>;
        if length != 0 && fragment_length.is_none() {
            return None;
        }
        let id = SessionId::from_slice(reader.vector8()?).ok()?;
        reader.is_empty().then_some(Self {
            id,
            master_secret,
            suite,
            #[cfg(feature = "record-size-limit")]
            fragment_length,
        })
    }

    /// Writes the session to the front of `out`, the secret in the clear, and returns its length; `None` if `out` is too
    /// short. [`Session::LONGEST`] bytes are always enough.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        self.emit_to(&mut writer)?;
        Some(writer.len())
    }

    pub(crate) fn emit_to(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.u8(FORMAT)?;
        writer.u16(self.suite.code())?;
        writer.bytes(&self.master_secret)?;
        #[cfg(feature = "record-size-limit")]
        writer.u8(self.fragment_length.map_or(0, FragmentLength::code))?;
        #[cfg(not(feature = "record-size-limit"))]
        writer.u8(0)?;
        writer.vector8(&self.id)
    }

    /// The same without an id, as it lies in a ticket.
    #[cfg(feature = "server")]
    pub(crate) fn without_id(&self) -> Self {
        Self { id: SessionId::new(), ..self.clone() }
    }

    /// What a full handshake made, without an id.
    pub(crate) fn made(
        master_secret: &[u8; 48],
        suite: Suite,
        #[cfg(feature = "record-size-limit")] fragment_length: Option<FragmentLength>,
    ) -> Self {
        Self {
            id: SessionId::new(),
            master_secret: *master_secret,
            suite,
            #[cfg(feature = "record-size-limit")]
            fragment_length,
        }
    }

    /// The server's name for it, of 1 to [`SESSION_ID_MAX`] bytes.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Whether a handshake in which this max_fragment_length counts may take it up.
    #[cfg(feature = "record-size-limit")]
    fn fits(&self, length: Option<FragmentLength>) -> bool {
        self.fragment_length == length
    }

    /// The cipher suite, which every connection of this session has.
    pub const fn suite(&self) -> Suite {
        self.suite
    }
}

impl core::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("id", &self.id)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        let is_same = self.master_secret.ct_eq(&other.master_secret);
        #[cfg(feature = "record-size-limit")]
        let is_same = is_same & u8::from(self.fragment_length == other.fragment_length).into();
        self.id == other.id && self.suite == other.suite && bool::from(is_same)
    }
}

impl Eq for Session {}

/// What a server does about a session in its answer to a ClientHello.
#[cfg(feature = "server")]
#[derive(Clone, Copy, Debug)]
pub enum Resumption<'s> {
    /// A full handshake, of which nothing is kept.
    No,
    /// A full handshake. The client is told this id, of 1 to [`SESSION_ID_MAX`] bytes and not in use for another session, and
    /// [`Connection::take_session`] has the session. Without the extended master secret it is as with [`Resumption::No`].
    Offer(&'s [u8]),
    /// The abbreviated handshake, if the client still offers the session's cipher suite (and its max_fragment_length, where
    /// there is one) and the configuration still has it, for a suite with signatures also a kind of certificates; else as
    /// with [`Resumption::No`].
    Accept(&'s Session),
    /// A full handshake. The client is promised a ticket, which [`Connection::provide_with_ticket`] gives it, and no id; else
    /// as with [`Resumption::No`] where the client did not ask for one, or offers no extended master secret.
    OfferTicket,
    /// The abbreviated handshake as with [`Resumption::Accept`], for a session that came out of the client's ticket.
    AcceptTicket {
        /// What was in it.
        session: &'s Session,
        /// The ticket that takes its place, if there is to be one.
        renewed: Option<&'s Ticket>,
    },
}

/// What becomes of the session of a handshake.
pub(crate) enum Resuming {
    /// There is none.
    No,
    /// It is to be kept; on a server under this id.
    Wanted(SessionId),
    /// Client: this one is offered.
    Offered(Session),
    /// The handshake is abbreviated: this one is taken up.
    Accepted(Session),
    /// It was made, by a full handshake.
    Made(Session),
}

impl Resuming {
    /// Client: a session is wanted, and this one offered.
    pub(crate) fn with(session: Option<&Session>) -> Self {
        session.cloned().map_or(Self::Wanted(SessionId::new()), Self::Offered)
    }

    /// Client: it is not offered after all unless what it needs is offered too.
    pub(crate) fn restrict(&mut self, config: &Config) {
        let Self::Offered(session) = self else { return };
        let is_possible = !session.id.is_empty() && config.suites.contains(session.suite);
        #[cfg(feature = "record-size-limit")]
        let is_possible = is_possible
            && (session.fragment_length.is_none()
                || session.fits(crate::limits::offer(config.record_size_limit).1));
        if !is_possible {
            *self = Self::Wanted(SessionId::new());
        }
    }

    /// Client: the session that a ServerHello with this id takes up.
    #[cfg(feature = "rpk")]
    pub(crate) fn taken_up_by(&self, id: &[u8]) -> Option<&Session> {
        if let Self::Offered(session) = self {
            Some(session).filter(|session| session.id == id)
        } else {
            None
        }
    }

    /// Client: the id to send in the ClientHello.
    pub(crate) fn offered_id(&self) -> &[u8] {
        if let Self::Offered(session) = self { &session.id } else { &[] }
    }

    /// Server: the id to send in the ServerHello.
    #[cfg(feature = "server")]
    pub(crate) fn answered_id<'h>(&'h self, hello: &ClientHello<'h>) -> &'h [u8] {
        match self {
            Self::Accepted(_) => hello.session_id(),
            Self::Wanted(id) => id,
            _ => &[],
        }
    }

    /// Server: the suite to send in the ServerHello, if a session decides it.
    #[cfg(feature = "server")]
    pub(crate) const fn suite(&self) -> Option<Suite> {
        if let Self::Accepted(session) = self { Some(session.suite) } else { None }
    }
}

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    /// As [`Connection::client`], and [`Connection::take_session`] has the session afterwards, if the server lets it be taken
    /// up again. With a `session` of an earlier connection to the same server the handshake is abbreviated where the server
    /// still knows it, and a full one with `psk` where not; [`Input::Established`](crate::Input::Established) says which.
    ///
    /// # Errors
    /// As those of [`Connection::client`].
    pub fn resuming_client(
        now: Instant,
        config: &Config,
        psk: Psk<'_>,
        session: Option<&Session>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        let prepared = Self::prepared_by(handshake, |memory| {
            memory.set_session(session);
            memory.set_psk(psk)
        });
        prepared.and_then(|handshake| Self::prepared_client(now, config, rng, handshake))
    }

    /// The same for [`Connection::certificate_client`]. Where a session is taken up nothing is presented, judged or signed: both
    /// sides know each other by what proved them when it was made.
    ///
    /// # Errors
    /// As those of [`Connection::certificate_client`].
    #[cfg(feature = "rpk")]
    pub fn resuming_certificate_client(
        now: Instant,
        config: &Config,
        certificate: ClientCertificate<'_>,
        session: Option<&Session>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        let prepared = Self::prepared_by(handshake, |memory| {
            memory.set_session(session);
            memory.set_certificate(certificate)
        });
        prepared.and_then(|handshake| Self::prepared_client(now, config, rng, handshake))
    }

    /// As [`Connection::server`], and what is to be done about a session: whether the caller still has the one that
    /// [`ClientHello::session_id`] names. Nothing else may be taken for it, and only after the cookie came back.
    ///
    /// # Errors
    /// As those of [`Connection::server`].
    #[cfg(feature = "server")]
    pub fn resuming_server(
        now: Instant,
        config: &Config,
        hello: &ClientHello<'_>,
        resumption: Resumption<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        let goes_on = |session: &Session| {
            #[cfg(feature = "rpk")]
            let is_taken = !session.suite.is_ecdsa() || config.certificate_types != CertificateTypes::NONE;
            #[cfg(not(feature = "rpk"))]
            let is_taken = true;
            let is_offered = hello.offers(session.suite) && hello.fits(session);
            is_taken && is_offered && config.suites.contains(session.suite)
        };
        let mut ticket = NewTicket::No;
        let resuming = match resumption {
            Resumption::Offer(id) if hello.extensions.extended_master_secret => {
                SessionId::from_slice(id).map_or(Resuming::No, Resuming::Wanted)
            }
            Resumption::Accept(session)
                if goes_on(session) && !session.id.is_empty() && session.id == hello.session_id() =>
            {
                Resuming::Accepted(session.clone())
            }
            Resumption::OfferTicket
                if hello.session_ticket().is_some() && hello.extensions.extended_master_secret =>
            {
                ticket = NewTicket::Promised;
                Resuming::No
            }
            Resumption::AcceptTicket { session, renewed } if goes_on(session) => {
                let renewed = renewed.filter(|ticket| ticket.fits(N, SERVER_HELLO_MAX)).cloned();
                ticket = renewed.map_or(NewTicket::No, NewTicket::Ready);
                Resuming::Accepted(session.clone())
            }
            _ => Resuming::No,
        };
        Self::start_server(now, config, hello, rng, handshake, |core| {
            core.resuming = resuming;
            core.ticket = ticket;
        })
    }

    /// The session that a full handshake made, once: to be had after [`Input::Established`](crate::Input::Established), until
    /// the first application data came. There is none after an abbreviated handshake, which leaves the session as it was, nor
    /// where the server gave it no id.
    pub fn take_session(&mut self) -> Option<Session> {
        if !self.is_established() {
            return None;
        }
        let core = &mut self.handshake.as_mut()?.borrow_mut().core;
        let Resuming::Made(session) = &core.resuming else { return None };
        // Moved out it would stay behind, and not be wiped.
        let session = session.clone();
        core.resuming = Resuming::No;
        if self.association.role == Role::Client {
            // It was kept for this only.
            self.release();
        }
        (!session.id.is_empty()).then_some(session)
    }
}

#[cfg(feature = "server")]
impl<'a> ClientHello<'a> {
    /// The id of the session that the client wants to go on with; empty if it wants none. Anyone may send any id.
    pub fn session_id(&self) -> &'a [u8] {
        OfferedHello::parse(self.body).map_or(&[], |offered| offered.session_id)
    }

    /// Whether what the client offers besides agrees with the session.
    fn fits(&self, session: &Session) -> bool {
        #[cfg(feature = "record-size-limit")]
        return self.extensions.fragment_length().is_ok_and(|length| session.fits(length));
        #[cfg(not(feature = "record-size-limit"))]
        {
            let _ = session;
            true
        }
    }

    fn offers(&self, suite: Suite) -> bool {
        OfferedHello::parse(self.body).is_some_and(|offered| offered.offers(suite.code()))
    }
}

impl<C: Crypto> Core<C> {
    /// What a full handshake made is kept if it is wanted and safe to take up (RFC 7627 §5.4).
    pub(crate) fn keep_session(&mut self, association: &Association, master_secret: &[u8; 48]) {
        let _ = association;
        if let Resuming::Wanted(id) = &self.resuming {
            let mut session = Session::made(
                master_secret,
                self.suite,
                #[cfg(feature = "record-size-limit")]
                association.limits.fragment_length(),
            );
            session.id.clone_from(id);
            self.resuming = if self.extended_master_secret { Resuming::Made(session) } else { Resuming::No };
        }
    }

    /// Derives the keys of a connection from the session that is taken up; the server's Finished has this number.
    fn derive_from_session(&mut self, association: &mut Association, server_finished: u16) {
        let Resuming::Accepted(session) = &self.resuming else { return };
        let finished =
            Message { message_type: MessageType::Finished, message_seq: server_finished, body: &[0; 12] };
        let (keys, verify_data) = Secrets::resume::<C>(
            self.suite,
            &session.master_secret,
            &self.client_random,
            &self.server_random,
            core::mem::replace(&mut self.transcript, C::Sha256::new()),
            &finished.header(),
        );
        self.key.clear();
        #[cfg(feature = "ecdhe")]
        {
            self.agreement = crate::ecdhe::Agreement::NONE;
        }
        self.verify_data = verify_data;
        self.install(association, &keys);
        self.state = State::Finished;
    }
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// Client: a ServerHello with this id came, which says whether the handshake is an abbreviated one. Its number is the
    /// server's: one that asked for several cookies may count differently.
    pub(crate) fn take_up_session(&mut self, id: &[u8], server_hello: u16) -> Result<(), Failure> {
        let Self { association, core, .. } = self;
        if let Resuming::Offered(session) = &core.resuming
            && session.id == id
        {
            // RFC 5246 §7.4.1.3, RFC 7627 §5.3: the suite is the session's, and the extension is there again.
            if session.suite != core.suite || !core.extended_master_secret {
                return Err(Reason::ResumedDifferently.into());
            }
            #[cfg(feature = "record-size-limit")]
            if let (Some(length), Limits::NONE) = (session.fragment_length, association.limits) {
                association.limits = Limits::of_fragments(length);
            }
            core.resuming = Resuming::Accepted(session.clone());
            core.derive_from_session(association, server_hello.wrapping_add(1));
            return Ok(());
        }
        let is_wanted = !id.is_empty() && matches!(core.resuming, Resuming::Offered(_) | Resuming::Wanted(_));
        let id = SessionId::from_slice(id).ok().filter(|_| is_wanted);
        core.resuming = id.map_or(Resuming::No, Resuming::Wanted);
        Ok(())
    }

    /// Server: goes on behind the ServerHello with which it took up a session.
    #[cfg(feature = "server")]
    pub(crate) fn go_on_with_session(&mut self) -> Result<(), Failure> {
        // RFC 7627 §5.3: a session with the extension is not taken up by a ClientHello without it. Somebody took it out.
        if !self.core.extended_master_secret {
            self.flight.clear();
            self.core.suspicion = Some(Reason::ResumedDifferently);
            self.core.timers.deadline = self.now;
            return Ok(());
        }
        let message_seq = self.push_renewed_ticket(self.core.hello_seq.wrapping_add(1))?;
        self.core.derive_from_session(self.association, message_seq);
        self.push_finished(message_seq)
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::crypto::RustCrypto;
    use crate::event::Input;
    use crate::message::Fragment;
    use crate::record::{Datagram, HEADER};

    type Small = Connection<384>;

    const NOW: Instant = Instant::from_millis(0);

    fn session() -> Session {
        let id = SessionId::from_slice(b"id").unwrap();
        Session {
            id,
            master_secret: [9; 48],
            suite: Suite::default(),
            #[cfg(feature = "record-size-limit")]
            fragment_length: None,
        }
    }

    fn client() -> Small {
        client_with(&Config::DEFAULT)
    }

    fn client_with(config: &Config) -> Small {
        let psk = Psk { identity: b"me", key: &[7; 16] };
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        Small::resuming_client(NOW, config, psk, Some(&session()), rng, Handshake::new()).unwrap()
    }

    /// A server that takes up the session of the client, without a cookie exchange.
    fn server(client: &mut Small) -> Small {
        server_counting_from(0, client)
    }

    /// The same, whose ServerHello has the number `message_seq`.
    fn server_counting_from(message_seq: u16, client: &mut Small) -> Small {
        let datagram = sent(client).concat();
        let body = Fragment::parse(&mut Reader::new(&datagram[HEADER..])).unwrap().bytes;
        let offered = OfferedHello::parse(body).unwrap();
        let hello = offered.choose(&Config::DEFAULT, 0, message_seq, body).unwrap();
        let rng = &mut |bytes: &mut [u8]| bytes.fill(4);
        let session = session();
        let resumption = Resumption::Accept(&session);
        Small::resuming_server(NOW, &Config::DEFAULT, &hello, resumption, rng, Handshake::new()).unwrap()
    }

    fn sent(connection: &mut Small) -> Vec<Vec<u8>> {
        let mut out = vec![0; 1200];
        std::iter::from_fn(|| {
            let length = connection.poll_transmit(NOW, &mut out)?;
            Some(out[..length].to_vec())
        })
        .collect()
    }

    fn handle(connection: &mut Small, mut bytes: Vec<u8>) -> Option<Input<'static>> {
        let mut datagram = Datagram::new(&mut bytes);
        std::iter::from_fn(|| connection.handle(NOW, &mut datagram))
            .map(|input| match input {
                Input::Established { full } => Input::Established { full },
                Input::Closed(reason) => Input::Closed(reason),
                other => unreachable!("{other:?}"),
            })
            .last()
    }

    #[test]
    fn a_servers_finished_with_other_content_ends_the_abbreviated_handshake() {
        let mut client = client();
        let mut flight = sent(&mut server(&mut client)).concat();
        let rest = flight.split_off(HEADER.saturating_add(usize::from(flight[12])));
        assert_eq!(handle(&mut client, flight), None);
        client.handshake.as_mut().unwrap().core.verify_data.server = [0; 12];
        assert_eq!(handle(&mut client, rest), Some(Input::Closed(Reason::BadFinished)));
        assert!(!client.is_established());
    }

    #[test]
    fn a_clients_finished_with_other_content_ends_the_abbreviated_handshake() {
        let mut client = client();
        let mut server = server(&mut client);
        let flight = sent(&mut server).concat();
        assert_eq!(handle(&mut client, flight), Some(Input::Established { full: false }));
        server.handshake.as_mut().unwrap().core.verify_data.client = [0; 12];
        let flight = sent(&mut client).concat();
        assert_eq!(handle(&mut server, flight), Some(Input::Closed(Reason::BadFinished)));
        assert!(!server.is_established());
    }

    #[test]
    fn a_server_of_several_cookies_may_count_its_messages_for_itself() {
        let request = |record: u8, message_seq: u8, cookie: u8| {
            let front = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, record, 0, 16];
            [&front[..], &[3, 0, 0, 4, 0, message_seq, 0, 0, 0, 0, 0, 4, 0xfe, 0xff, 1, cookie]].concat()
        };
        for (second, server_hello) in [(0, 1), (0, 2), (1, 2)] {
            let mut client = client();
            assert_eq!(handle(&mut client, request(0, 0, 7)), None);
            assert_eq!(handle(&mut client, request(1, second, 8)), None);
            // The third ClientHello, as a server that counts so sees it.
            let mut server = server_counting_from(server_hello, &mut client);
            let step = server.step(NOW).unwrap().0;
            // It hashes and expects what the client numbers.
            assert_eq!(step.core.hello_seq, server_hello);
            answer_as(&mut server, 2, &mut client);
            let flight = sent(&mut server).concat();
            assert_eq!(handle(&mut client, flight), Some(Input::Established { full: false }));
            // The client's Finished covers the number of the server's.
            let flight = sent(&mut client).concat();
            assert_eq!(handle(&mut server, flight), Some(Input::Established { full: false }));
        }
    }

    /// Lets the server know that the ClientHello has the number `message_seq`.
    fn answer_as(server: &mut Small, message_seq: u16, client: &mut Small) {
        let hello_body = client.step(NOW).unwrap().0.flight.first_body().unwrap().to_vec();
        let (mut step, reassembly) = server.step(NOW).unwrap();
        reassembly.restart(message_seq.saturating_add(1));
        let own_seq = step.core.hello_seq;
        let answer_body = step.flight.first_body().unwrap().to_vec();
        let mut transcript = <RustCrypto as Crypto>::Sha256::new();
        for (message_type, message_seq, body) in [
            (MessageType::ClientHello, message_seq, &hello_body),
            (MessageType::ServerHello, own_seq, &answer_body),
        ] {
            let message = Message { message_type, message_seq, body };
            transcript.update(&message.header());
            transcript.update(message.body);
        }
        step.core.transcript = transcript;
        step.flight.clear();
        step.flight.push(MessageType::ServerHello, own_seq, 0, |out| {
            out.get_mut(..answer_body.len())?.copy_from_slice(&answer_body);
            Some(answer_body.len())
        });
        assert!(step.go_on_with_session().is_ok());
    }

    #[cfg(any(feature = "ccm16", feature = "gcm", feature = "ecdhe"))]
    #[test]
    fn a_session_taken_up_under_another_suite_is_refused() {
        let offered = [Suite::default(), Suite::ALL[1]];
        let config = Config::DEFAULT.with_suites(crate::suite::Suites::new(&offered).unwrap());
        for (suite, ended) in [
            (offered[0], Some(Input::Established { full: false })),
            (offered[1], Some(Input::Closed(Reason::ResumedDifferently))),
        ] {
            let mut client = client_with(&config);
            let mut flight = sent(&mut server(&mut client)).concat();
            // Behind version, random and the id of two bytes.
            let place = HEADER.saturating_add(12 + 2 + 32 + 1 + 2);
            flight[place..][..2].copy_from_slice(&suite.code().to_be_bytes());
            assert_eq!(handle(&mut client, flight), ended, "{suite:?}");
        }
    }

    #[test]
    fn no_session_is_kept_without_the_extended_master_secret() {
        // RFC 7627 §5.4
        for (has_extension, is_kept) in [(true, true), (false, false)] {
            let mut client = client();
            let (step, _) = client.step(NOW).unwrap();
            step.core.resuming = Resuming::Wanted(SessionId::new());
            step.core.extended_master_secret = has_extension;
            step.core.keep_session(step.association, &[1; 48]);
            assert_eq!(matches!(step.core.resuming, Resuming::Made(_)), is_kept);
        }
    }

    #[cfg(feature = "record-size-limit")]
    #[test]
    fn the_length_is_kept_with_the_session() {
        let mut client = client();
        let (step, _) = client.step(NOW).unwrap();
        let length = FragmentLength::from_code(3).unwrap();
        step.association.limits = Limits::of_fragments(length);
        step.core.resuming = Resuming::Wanted(SessionId::new());
        step.core.extended_master_secret = true;
        step.core.keep_session(step.association, &[1; 48]);
        let Resuming::Made(session) = &step.core.resuming else { unreachable!("it is kept") };
        assert_eq!(session.fragment_length, Some(length));
    }

    #[cfg(feature = "record-size-limit")]
    #[test]
    fn the_length_of_the_session_lasts_where_the_server_does_not_repeat_it() {
        let limited = Config::DEFAULT.with_record_size_limit(600);
        for (length, longest) in [(None, 1 << 14), (FragmentLength::from_code(1), 512)] {
            let mut session = session();
            session.fragment_length = length;
            let psk = Psk { identity: b"me", key: &[7; 16] };
            let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
            let mut client =
                Small::resuming_client(NOW, &limited, psk, Some(&session), rng, Handshake::new()).unwrap();
            let hello =
                [&[0xfe, 0xfd][..], &[7; 32], &[2], b"id", &[0xc0, 0xa8, 0, 0, 4, 0, 0x17, 0, 0]].concat();
            let message = Message { message_type: MessageType::ServerHello, message_seq: 0, body: &hello };
            assert!(client.step(NOW).unwrap().0.handle(&message).is_ok());
            assert_eq!(client.longest_payload(), longest);
        }
    }

    #[cfg(feature = "ecdhe")]
    #[test]
    fn the_secret_of_an_agreement_that_never_was_is_forgotten() {
        let offered = [Suite::default(), Suite::EcdhePskAes128Ccm8];
        let config = Config::DEFAULT.with_suites(crate::suite::Suites::new(&offered).unwrap());
        let mut client = client_with(&config);
        assert!(client.step(NOW).unwrap().0.core.agreement.share().is_some());
        let flight = sent(&mut server(&mut client)).concat();
        assert_eq!(handle(&mut client, flight), Some(Input::Established { full: false }));
        assert!(client.step(NOW).unwrap().0.core.agreement.share().is_none());
    }

    #[test]
    fn no_identity_is_known_after_an_abbreviated_handshake() {
        let mut client = client();
        let mut server = server(&mut client);
        let flight = sent(&mut server).concat();
        handle(&mut client, flight);
        let flight = sent(&mut client).concat();
        // A record of the flight at a time: the memory is gone with the last one.
        assert_eq!(server.identity(), None);
        let rest = usize::from(flight[12]).saturating_add(HEADER);
        assert_eq!(handle(&mut server, flight[..rest].to_vec()), None);
        assert_eq!(server.identity(), None);
        assert_eq!(handle(&mut server, flight[rest..].to_vec()), Some(Input::Established { full: false }));
        assert_eq!(server.identity(), None);
    }

    #[test]
    fn the_server_proves_itself_before_the_client_does() {
        // RFC 5246 §7.3
        let mut client = client();
        let mut server = server(&mut client);
        let flight = sent(&mut server).concat();
        assert!(!server.is_established() && !client.is_established());
        assert_eq!(handle(&mut client, flight), Some(Input::Established { full: false }));
        let flight = sent(&mut client).concat();
        assert_eq!(handle(&mut server, flight), Some(Input::Established { full: false }));
        assert!(server.handshake.is_none(), "the client sent the last flight");
    }
}
