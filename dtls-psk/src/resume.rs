//! Session resumption (RFC 5246 §7.3, RFC 6347 §4.2.4, RFC 7627 §5.3): what of a full handshake is kept, and the abbreviated
//! handshake that it allows.
//!
//! 1. ClientHello with the id of a session →, after the cookie as ever
//! 2. ← ServerHello with the same id, ChangeCipherSpec, Finished
//! 3. ChangeCipherSpec, Finished →, kept by the client until the server's application data shows that they arrived
//!
//! Invariant: a session is kept and taken up only with the extended master secret, and only under its own cipher suite. Both
//! randoms are new, so that keys and record numbers never meet those of an earlier connection.

use core::borrow::BorrowMut;

use heapless::Vec;
use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::Rng;
use crate::association::{Association, Role};
#[cfg(feature = "server")]
use crate::client_hello::{ClientHello, OfferedHello};
use crate::config::Config;
use crate::connection::Connection;
use crate::crypto::{Crypto, RunningHash as _};
use crate::error::{Reason, SetUpError};
use crate::handshake::{Core, Failure, Handshake, State, Step};
use crate::message::{Message, MessageType};
use crate::prf::Secrets;
use crate::psk::Psk;
use crate::suite::Suite;
use crate::time::Instant;
use crate::wire::{Reader, Writer};

/// The longest id of a session, in bytes.
pub const SESSION_ID_MAX: usize = 32;

/// The first byte of an emitted session.
const FORMAT: u8 = 1;

type SessionId = Vec<u8, SESSION_ID_MAX, u8>;

/// A session: what one full handshake leaves to the abbreviated ones that follow it.
///
/// Whoever has it can go on in the name of its peer. Keep it as the key itself is kept, and forget it when the key it came
/// from is replaced or withdrawn: the engine cannot know of that.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Session {
    #[zeroize(skip)]
    id: SessionId,
    master_secret: [u8; 48],
    #[zeroize(skip)]
    suite: Suite,
}

impl Session {
    /// The most bytes that [`Session::emit`] writes.
    pub const LONGEST: usize = 1 + 2 + 48 + 1 + SESSION_ID_MAX;

    /// Reads what [`Session::emit`] wrote.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let suite = Suite::from_code(reader.u16()?)?;
        let master_secret = *reader.array()?;
        let id = SessionId::from_slice(reader.vector8()?).ok()?;
        reader.is_empty().then_some(Self { id, master_secret, suite })
    }

    /// Writes the session to the front of `out`, the secret in the clear, and returns its length; `None` if `out` is too
    /// short. [`Session::LONGEST`] bytes are always enough.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.u8(FORMAT)?;
        writer.u16(self.suite.code())?;
        writer.bytes(&self.master_secret)?;
        writer.vector8(&self.id)?;
        Some(writer.len())
    }

    /// The server's name for it, of 1 to [`SESSION_ID_MAX`] bytes.
    pub fn id(&self) -> &[u8] {
        &self.id
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
    /// The abbreviated handshake, if the client still offers the session's cipher suite and the configuration still has it;
    /// else as with [`Resumption::No`].
    Accept(&'s Session),
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
        let resuming = match session {
            Some(session) if !session.id.is_empty() && config.suites.contains(session.suite) => {
                Resuming::Offered(session.clone())
            }
            _ => Resuming::Wanted(SessionId::new()),
        };
        Self::start_client(now, config, psk, rng, handshake, |core| core.resuming = resuming)
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
        let resuming = match resumption {
            Resumption::Offer(id) if hello.extensions.extended_master_secret => {
                SessionId::from_slice(id).map_or(Resuming::No, Resuming::Wanted)
            }
            Resumption::Accept(session)
                if config.suites.contains(session.suite)
                    && hello.offers(session.suite)
                    && !session.id.is_empty()
                    && session.id == hello.session_id() =>
            {
                Resuming::Accepted(session.clone())
            }
            _ => Resuming::No,
        };
        Self::start_server(now, config, hello, rng, handshake, |core| core.resuming = resuming)
    }

    /// The session that a full handshake made, once: to be had after [`Input::Established`](crate::Input::Established), until
    /// the first application data came. There is none after an abbreviated handshake, which leaves the session as it was, nor
    /// where the server gave it no id.
    pub fn take_session(&mut self) -> Option<Session> {
        if !self.is_established() {
            return None;
        }
        let core = &mut self.handshake.as_mut()?.borrow_mut().core;
        let Resuming::Made(session) = core::mem::replace(&mut core.resuming, Resuming::No) else {
            return None;
        };
        if self.association.role == Role::Client {
            // It was kept for this only.
            self.handshake = None;
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

    fn offers(&self, suite: Suite) -> bool {
        OfferedHello::parse(self.body).is_some_and(|offered| offered.offers(suite.code()))
    }
}

impl<C: Crypto> Core<C> {
    /// What a full handshake made is kept if it is wanted and safe to take up (RFC 7627 §5.4).
    pub(crate) fn keep_session(&mut self, master_secret: &[u8; 48]) {
        if let Resuming::Wanted(id) = &self.resuming {
            let session = Session { id: id.clone(), master_secret: *master_secret, suite: self.suite };
            self.resuming = if self.extended_master_secret { Resuming::Made(session) } else { Resuming::No };
        }
    }

    /// Derives the keys of a connection from the session that is taken up, after the ServerHello, which has this number.
    fn derive_from_session(&mut self, association: &mut Association, server_hello: u16) {
        let Resuming::Accepted(session) = &self.resuming else { return };
        let finished = Message {
            message_type: MessageType::Finished,
            message_seq: server_hello.wrapping_add(1),
            body: &[0; 12],
        };
        let (keys, verify_data) = Secrets::resume::<C>(
            self.suite,
            &session.master_secret,
            &self.client_random,
            &self.server_random,
            core::mem::replace(&mut self.transcript, C::Sha256::new()),
            &finished.header(),
        );
        self.key.clear();
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
        core.resuming = match core::mem::replace(&mut core.resuming, Resuming::No) {
            Resuming::Offered(session) if session.id == id => {
                // RFC 5246 §7.4.1.3, RFC 7627 §5.3: the suite is the session's, and the extension is there again.
                if session.suite != core.suite || !core.extended_master_secret {
                    return Err(Reason::ResumedDifferently.into());
                }
                core.resuming = Resuming::Accepted(session);
                core.derive_from_session(association, server_hello);
                return Ok(());
            }
            Resuming::Offered(_) | Resuming::Wanted(_) if !id.is_empty() => {
                SessionId::from_slice(id).map_or(Resuming::No, Resuming::Wanted)
            }
            _ => Resuming::No,
        };
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
        self.core.derive_from_session(self.association, self.core.hello_seq);
        self.push_finished(self.core.hello_seq.wrapping_add(1))
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::event::Input;
    use crate::message::Fragment;
    use crate::record::{Datagram, HEADER};

    type Small = Connection<384>;

    const NOW: Instant = Instant::from_millis(0);

    fn session() -> Session {
        let id = SessionId::from_slice(b"id").unwrap();
        Session { id, master_secret: [9; 48], suite: Suite::default() }
    }

    fn client() -> Small {
        let psk = Psk { identity: b"me", key: &[7; 16] };
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        Small::resuming_client(NOW, &Config::DEFAULT, psk, Some(&session()), rng, Handshake::new()).unwrap()
    }

    /// A server that takes up the session of the client, without a cookie exchange.
    fn server(client: &mut Small) -> Small {
        let datagram = sent(client).concat();
        let body = Fragment::parse(&mut Reader::new(&datagram[HEADER..])).unwrap().bytes;
        let offered = OfferedHello::parse(body).unwrap();
        let (suite, extensions) = offered.choose(&Config::DEFAULT.suites).unwrap();
        let hello = ClientHello {
            record_sequence: 0,
            message_seq: 0,
            body,
            random: offered.random,
            cookie: offered.cookie,
            suite,
            extensions,
        };
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
