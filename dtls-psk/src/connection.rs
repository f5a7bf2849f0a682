//! A connection: the association, and the handshake while there is one (RFC 6347 §4; invariant: application data goes in and
//! out only after the peer's Finished was verified, and only protected).

use core::borrow::BorrowMut;
use core::marker::PhantomData;
use core::ops::Range;

use crate::Rng;
use crate::alert::{Alert, Level};
use crate::association::{Association, Phase, Role};
#[cfg(feature = "rpk")]
use crate::certificate::ClientCertificate;
use crate::config::Config;
use crate::connection_id::ENABLED;
use crate::crypto::{Crypto, RustCrypto};
#[cfg(feature = "ecdhe")]
use crate::ecdhe::Group;
use crate::error::{Counters, Reason, SealError, SetUpError};
use crate::event::Input;
use crate::handshake::{Handshake, NoHandshake, PROTECTED, State, Step};
use crate::path::PathMessage;
use crate::psk::Psk;
use crate::reassembly::Reassembly;
use crate::record::{ContentType, Datagram};
use crate::suite::Suite;
use crate::time::Instant;

/// A DTLS 1.2 connection in either role.
///
/// `H` is where the handshake's memory lives: inline (`Handshake<N>`, the default), or behind a pointer of the caller
/// (`Box<Handshake<N>>`, `&mut Handshake<N>`). It is dropped as soon as it is not needed any more; what remains is small.
///
/// `C` is where the cryptographic primitives come from.
///
/// See the [crate documentation](crate) for how to drive it.
pub struct Connection<const N: usize, H = Handshake<N>, C = RustCrypto>
where
    H: BorrowMut<Handshake<N, C>>,
    C: Crypto,
{
    pub(crate) association: Association,
    pub(crate) handshake: Option<H>,
    pub(crate) crypto: PhantomData<fn() -> C>,
}

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> core::fmt::Debug for Connection<N, H, C> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("role", &self.association.role)
            .field("phase", &self.association.phase)
            .finish_non_exhaustive()
    }
}

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    /// Starts a handshake as a client with a pre-shared key: [`Connection::poll_transmit`] has the ClientHello. Of the suites
    /// those without such keys are left out.
    ///
    /// # Errors
    /// The identity or key is too long, the key is empty, `rng` returns only zeros, or no suite of pre-shared keys or one
    /// for servers only is configured.
    pub fn client(
        now: Instant,
        config: &Config,
        psk: Psk<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        Self::prepared_by(handshake, |memory| memory.set_psk(psk))
            .and_then(|handshake| Self::prepared_client(now, config, rng, handshake))
    }

    /// Starts a handshake as a client with a raw public key or a certificate: [`Connection::poll_transmit`] has the ClientHello.
    /// What is presented and who signs is asked by [`Connection::poll_pending`], and so is whether the server's is to be
    /// trusted. Of the suites those of pre-shared keys are left out.
    ///
    /// # Errors
    /// `rng` returns only zeros, or no suite with signatures or one for servers only is configured.
    #[cfg(feature = "rpk")]
    pub fn certificate_client(
        now: Instant,
        config: &Config,
        certificate: ClientCertificate<'_>,
        rng: &mut Rng<'_>,
        handshake: H,
    ) -> Result<Self, SetUpError> {
        Self::prepared_by(handshake, |memory| memory.set_certificate(certificate))
            .and_then(|handshake| Self::prepared_client(now, config, rng, handshake))
    }

    pub(crate) fn prepared_by(
        mut handshake: H,
        prepare: impl FnOnce(&mut Handshake<N, C>) -> Result<(), SetUpError>,
    ) -> Result<H, SetUpError> {
        let memory = handshake.borrow_mut();
        memory.wipe();
        prepare(memory).inspect_err(|_| memory.wipe())?;
        Ok(handshake)
    }

    /// Starts a handshake as a client with what its memory was prepared for, piece by piece as a device has it from storage:
    /// [`Handshake::set_identity`] and [`Handshake::set_key`] in memory that is wiped, or else as with
    /// [`Connection::certificate_client`].
    ///
    /// # Errors
    /// `rng` returns only zeros, or no suite of this kind or one for servers only is configured. Memory that is lent is to be
    /// wiped then.
    pub fn prepared_client(
        now: Instant,
        config: &Config,
        rng: &mut Rng<'_>,
        mut handshake: H,
    ) -> Result<Self, SetUpError> {
        let _core = &mut handshake.borrow_mut().core;
        #[cfg(feature = "rpk")]
        let config = {
            let is_certified = _core.key.bytes().is_empty();
            let suites = config.suites.only(|suite| suite.is_ecdsa() == is_certified);
            &config.with_suites(suites.ok_or(SetUpError::NoSuite)?)
        };
        #[cfg(feature = "resumption")]
        _core.resuming.restrict(config);
        Self::offer(now, config, rng, handshake)
    }

    /// A client that offers what is configured.
    fn offer(now: Instant, config: &Config, rng: &mut Rng<'_>, handshake: H) -> Result<Self, SetUpError> {
        if !config.suites.as_slice().iter().all(|suite| suite.is_for_clients()) {
            return Err(SetUpError::ServerSuite);
        }
        let random = random(rng)?;
        let mut connection = Self::start(Role::Client, 0, now, config, handshake);
        if let Some((mut step, _)) = connection.step(now) {
            step.core.client_random = random;
            #[cfg(feature = "rpk")]
            {
                step.core.waiting = crate::pending::Waiting::of(&random);
            }
            step.core.suites = config.suites;
            #[cfg(feature = "ecdhe")]
            {
                step.core.group_preference = crate::ecdhe::Preference::of(config);
            }
            #[cfg(feature = "ecdhe")]
            if config.suites.has_ecdhe() {
                // What LwM2M demands; a server that wants another group is told of it by the same secret.
                step.core.agreement.draw_share(Group::Secp256r1, rng)?;
            }
            step.core.offered_id = config.connection_id.filter(|_| ENABLED);
            step.core.return_routability = config.return_routability;
            #[cfg(feature = "record-size-limit")]
            {
                step.core.record_size_limit = config.record_size_limit;
            }
            step.push_client_hello(&[]).map_err(|_| SetUpError::Memory)?;
        }
        Ok(connection)
    }

    pub(crate) fn start(
        role: Role,
        plain_sequence: u64,
        now: Instant,
        config: &Config,
        mut handshake: H,
    ) -> Self {
        let memory = handshake.borrow_mut();
        memory.flight.start(config);
        memory.core.timers.start(now, config);
        let association = Association::new(role, plain_sequence);
        Self { association, handshake: Some(handshake), crypto: PhantomData }
    }

    /// Processes the next record of a datagram that belongs to this connection.
    ///
    /// Call it until it returns `None` (the datagram is used up), then [`Connection::poll_pending`] on a server and
    /// [`Connection::poll_transmit`]. Whatever cannot be processed is dropped and counted.
    pub fn handle<'d>(&mut self, now: Instant, datagram: &mut Datagram<'d>) -> Option<Input<'d>> {
        while let Some(record) = datagram.next(self.association.own_id()) {
            match record.and_then(|(header, body)| self.handle_record(now, header, body)) {
                Ok(None) => {}
                Ok(Some(input)) => return Some(input),
                Err(dropped) => self.association.count(dropped),
            }
        }
        None
    }

    /// Writes the next datagram to the front of `out` and returns its length.
    ///
    /// `out`, of at least [`DATAGRAM_MIN`](crate::DATAGRAM_MIN) bytes, limits the size of the datagram as [`Config::mtu`] does.
    /// Call it until it returns `None`; a call too many is harmless.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if let Some(handshake) = &mut self.handshake {
            let Handshake { core, flight, .. } = handshake.borrow_mut();
            if !flight.is_sent() {
                core.timers.sent(now);
                return flight.emit::<C>(&mut self.association, out);
            }
        }
        self.association.emit_alert::<C>(out).or_else(|| self.emit_path_response(out))
    }

    /// When [`Connection::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.handshake.as_ref()?.borrow().poll_timeout())
    }

    /// Lets time pass: retransmits, gives up, or frees the kept flight. Call [`Connection::poll_transmit`] afterwards. A call
    /// too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Input<'static>> {
        let role = self.association.role;
        let Handshake { core, flight, .. } = self.handshake.as_mut()?.borrow_mut();
        if now >= core.timers.deadline {
            if core.state == State::Kept {
                self.release();
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
            flight.repeat();
        }
        None
    }

    /// Seals `buffer[payload]` in place as a record of application data and returns where the record lies in `buffer`:
    /// at most [`HEADROOM`](crate::HEADROOM) bytes in front of the payload and [`TAILROOM`](crate::TAILROOM) behind it are
    /// written.
    ///
    /// # Errors
    /// The connection is not established, there is no room, the payload is too long, the sequence numbers are used up, or the
    /// primitives refused,
    /// and then the payload is lost.
    pub fn seal(&mut self, buffer: &mut [u8], payload: Range<usize>) -> Result<Range<usize>, SealError> {
        if self.association.phase != Phase::Established {
            return Err(SealError::NotEstablished);
        }
        self.association.seal_in::<C>(PROTECTED, ContentType::ApplicationData, buffer, payload)
    }

    /// How many bytes [`Connection::seal`] writes in front of a payload, and how many behind it at most:
    /// [`HEADROOM`](crate::HEADROOM) and [`TAILROOM`](crate::TAILROOM) are never less.
    pub fn room(&self) -> (usize, usize) {
        self.association.room(PROTECTED).unwrap_or((crate::HEADROOM, crate::TAILROOM))
    }

    /// The most bytes of payload that [`Connection::seal`] takes: 2^14, or less where the peer wants shorter records
    /// ([`Config::record_size_limit`]), 63 at the least.
    pub const fn longest_payload(&self) -> usize {
        self.association.longest_payload()
    }

    /// The Connection ID in records to this side; empty if there is none.
    pub fn own_connection_id(&self) -> &[u8] {
        self.association.own_id()
    }

    /// The Connection ID in records to the peer; empty if there is none.
    pub fn peer_connection_id(&self) -> &[u8] {
        self.association.peer_id()
    }

    /// Whether the last authentic record is newer than all before it. Only such a one may move the peer to the address that
    /// it came from (RFC 9146 §6).
    pub const fn is_newest(&self) -> bool {
        self.association.path.is_newest
    }

    /// Whether the peer answers a [`Connection::challenge_path`].
    pub const fn is_path_checkable(&self) -> bool {
        self.association.path.is_checkable
    }

    /// Writes a datagram with a path_challenge to the front of `out` and returns its length (RFC 9853 §4): send it to the
    /// address that is to be proven. The peer's answer is [`Input::PathResponse`] with the same cookie, 8 fresh random
    /// bytes. `None` if the peer does not know the check, or `out` is too short.
    pub fn challenge_path(&mut self, cookie: [u8; 8], out: &mut [u8]) -> Option<usize> {
        let may = self.association.path.is_checkable && self.is_established();
        let content_type = ContentType::ReturnRoutabilityCheck;
        let body = PathMessage::challenge(cookie);
        may.then(|| self.association.emit_sealed::<C>(PROTECTED, content_type, &body, out)).flatten()
    }

    fn emit_path_response(&mut self, out: &mut [u8]) -> Option<usize> {
        let may = self.association.path.is_checkable && self.is_established();
        let cookie = *self.association.path.answer.first_chunk().filter(|_| may)?;
        let content_type = ContentType::ReturnRoutabilityCheck;
        let body = PathMessage::response(cookie);
        let length = self.association.emit_sealed::<C>(PROTECTED, content_type, &body, out)?;
        self.association.path.answer.clear();
        Some(length)
    }

    /// Closes the connection: [`Connection::poll_transmit`] has a close_notify if keys were agreed. A call too many is
    /// harmless.
    pub fn close(&mut self) {
        if self.association.phase == Phase::Established {
            self.association.queue_alert(Level::Warning, Alert::CLOSE_NOTIFY);
        }
        self.end();
    }

    /// Takes the connection and the memory of its handshake apart: memory that was lent (`&mut Handshake`) is lent to the next
    /// call by [`Connection::attach`], so that it stays where it is. `None` once the handshake needs it no more; what was lent
    /// is wiped then, and the connection takes no more room than its association.
    pub fn detach(self) -> (Connection<N, NoHandshake, C>, Option<H>) {
        let Self { association, handshake, crypto } = self;
        (Connection { association, handshake: None, crypto }, handshake)
    }

    /// The cipher suite whose keys are in use, once there are keys.
    pub fn suite(&self) -> Option<Suite> {
        Some(self.association.epoch(PROTECTED)?.suite)
    }

    /// The role in the handshake.
    pub const fn role(&self) -> Role {
        self.association.role
    }

    /// A client with certificates: the name of the server that it asks for, while the handshake's memory lives.
    #[cfg(feature = "x509")]
    pub fn server_name(&self) -> Option<&str> {
        self.handshake.as_ref()?.borrow().server_name()
    }

    /// Whether both sides prove themselves by a signature, not by a pre-shared key; decided once a suite was chosen.
    #[cfg(feature = "rpk")]
    pub fn has_certificates(&self) -> bool {
        let suite = self.suite().or_else(|| Some(self.handshake.as_ref()?.borrow().core.suite));
        suite.is_some_and(Suite::is_ecdsa)
    }

    /// Whether application data may be sent.
    pub fn is_established(&self) -> bool {
        self.association.phase == Phase::Established
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.association.phase == Phase::Closed
    }

    /// The peer's identity (on a client: its own) while the handshake's memory lives, which on a server includes the moment
    /// of [`Input::Established`]. It is proven only once the connection is established. A server has none before the peer
    /// named itself, nor after an abbreviated handshake, in which no identity is sent; and nobody has one who proves itself by a
    /// signature.
    pub fn identity(&self) -> Option<&[u8]> {
        let core = &self.handshake.as_ref()?.borrow().core;
        let is_named = core.state >= State::LookUp
            && !core.is_abbreviated()
            && !core.is_certified()
            && core.suspicion != Some(Reason::IdentityTooLong);
        (is_named || (self.association.role == Role::Client && !core.is_certified()))
            .then_some(&core.identity)
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

    /// The parts of the handshake, if there is one.
    pub(crate) fn step(&mut self, now: Instant) -> Option<(Step<'_, N, C>, &mut Reassembly<N>)> {
        let Handshake { core, flight, reassembly } = self.handshake.as_mut()?.borrow_mut();
        Some((Step { now, association: &mut self.association, core, flight }, reassembly))
    }

    /// The connection is over for `reason`, and the peer is told if that is of use.
    pub(crate) fn close_for(&mut self, reason: Reason) -> Input<'static> {
        if let Some(alert) = reason.alert() {
            self.association.queue_alert(Level::Fatal, alert);
        }
        self.end();
        Input::Closed(reason)
    }

    /// The handshake needs its memory no more.
    pub(crate) fn release(&mut self) {
        if let Some(handshake) = &mut self.handshake {
            handshake.borrow_mut().wipe();
        }
        self.handshake = None;
    }

    fn end(&mut self) {
        self.release();
        self.association.phase = Phase::Closed;
        self.association.forget_keys_if_done();
    }
}

impl<const N: usize, C: Crypto> Connection<N, NoHandshake, C> {
    /// Gives a connection the memory of its handshake, as [`Connection::detach`] returned it. Without it a connection whose
    /// handshake goes on does nothing.
    pub fn attach<H: BorrowMut<Handshake<N, C>>>(self, handshake: Option<H>) -> Connection<N, H, C> {
        let Self { association, crypto, .. } = self;
        Connection { association, handshake, crypto }
    }
}

/// Random bytes from the caller; only zeros are a broken source.
pub(crate) fn random<const COUNT: usize>(rng: &mut Rng<'_>) -> Result<[u8; COUNT], SetUpError> {
    let mut bytes = [0; COUNT];
    rng(&mut bytes);
    if bytes == [0; COUNT] { Err(SetUpError::NotRandom) } else { Ok(bytes) }
}

#[cfg(test)]
#[cfg(feature = "server")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::client_hello::OfferedHello;
    use crate::event::Answer;
    use crate::message::{Fragment, Message, MessageType};
    use crate::record::{Datagram, HEADER, Header};
    use crate::suite::Suites;
    use crate::wire::Reader;

    type Small = Connection<384>;

    const NOW: Instant = Instant::from_millis(0);
    const PSK: Psk<'_> = Psk { identity: b"me", key: &[7; 16] };

    fn client() -> Small {
        Small::client(NOW, &Config::DEFAULT, PSK, &mut |bytes| bytes.fill(3), Handshake::new()).unwrap()
    }

    /// A server that takes the client's first flight without a cookie exchange.
    fn server(client: &mut Small) -> Small {
        server_with(&Config::DEFAULT, client)
    }

    fn server_with(config: &Config, client: &mut Small) -> Small {
        let datagram = sent(client).concat();
        server_for(config, Fragment::parse(&mut Reader::new(&datagram[HEADER..])).unwrap().bytes)
    }

    fn server_for(config: &Config, body: &[u8]) -> Small {
        let offered = OfferedHello::parse(body).unwrap();
        let hello = offered.choose(config, 0, 0, body).unwrap();
        Small::server(NOW, config, &hello, &mut |bytes| bytes.fill(4), Handshake::new()).unwrap()
    }

    fn sent(connection: &mut Small) -> Vec<Vec<u8>> {
        let mut out = vec![0; 1200];
        std::iter::from_fn(|| {
            let length = connection.poll_transmit(NOW, &mut out)?;
            Some(out[..length].to_vec())
        })
        .collect()
    }

    /// Answers everything that is asked.
    fn answer(connection: &mut Small) -> Option<Input<'static>> {
        let mut last = None;
        while let Some(pending) = connection.poll_pending() {
            let id = pending.id;
            let answer = match pending.operation {
                #[cfg(feature = "ecdhe")]
                crate::event::Operation::Compute(computation) => {
                    Answer::Computed(computation.run::<RustCrypto>())
                }
                _ => Answer::Psk { key: PSK.key },
            };
            last = connection.provide(NOW, id, answer).unwrap();
        }
        last
    }

    /// Hands over everything `from` has to say; returns what became of the connection.
    fn deliver(from: &mut Small, to: &mut Small) -> Option<Input<'static>> {
        let mut last = None;
        assert_eq!(answer(from), None);
        for mut datagram in sent(from) {
            let mut datagram = Datagram::new(&mut datagram);
            while let Some(input) = to.handle(NOW, &mut datagram) {
                last = match input {
                    Input::Established { full } => Some(Input::Established { full }),
                    Input::Closed(reason) => Some(Input::Closed(reason)),
                    _ => last,
                };
            }
            last = answer(to).or(last);
        }
        last
    }

    const ESTABLISHED: Option<Input<'static>> = Some(Input::Established { full: true });

    #[test]
    fn the_smallest_memory_takes_the_longest_identity_and_long_cookies() {
        const LEAST: usize = crate::handshake::MEMORY_MIN;
        let client = |config: &Config, identity: &[u8]| {
            let psk = Psk { identity, ..PSK };
            let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
            Connection::<LEAST>::client(NOW, config, psk, rng, Handshake::new()).unwrap()
        };
        let longest = u8::try_from(LEAST.checked_sub(50).unwrap()).unwrap();
        for (cookie, ended) in
            [(142, None), (longest, None), (longest.saturating_add(1), Some(Input::Closed(Reason::TooLong)))]
        {
            let body = [&[0xfe, 0xff, cookie][..], &vec![5; cookie.into()]].concat();
            let length = u8::try_from(body.len()).unwrap();
            let message = [&[3, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length][..], &body].concat();
            let length = u8::try_from(message.len()).unwrap();
            let mut request = [&[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, length][..], &message].concat();
            let mut client = client(&Config::DEFAULT, b"me");
            assert_eq!(client.handle(NOW, &mut Datagram::new(&mut request)), ended);
        }
        for suite in Suites::PSK.as_slice() {
            let config = Config::DEFAULT.with_suites(Suites::new(&[*suite]).unwrap());
            let mut client = client(&config, &[b'i'; 128]);
            let (mut step, _) = client.step(NOW).unwrap();
            step.core.state = State::ServerHelloDone;
            step.core.suite = *suite;
            step.core.has_server_key_exchange = true;
            let done = Message { message_type: MessageType::ServerHelloDone, message_seq: 1, body: &[] };
            assert!(step.handle(&done).is_ok(), "{suite:?}");
        }
    }

    #[test]
    fn an_early_record_is_kept_for_servers_only() {
        let mut client = client();
        let mut early = [&Header::new(ContentType::Handshake, 1, 0).emit(40)[..], &[9; 40]].concat();
        assert_eq!(client.handle(NOW, &mut Datagram::new(&mut early.clone())), None);
        assert_eq!(client.counters().unsupported, 1, "nothing would ever ask for it");
        let mut server = server(&mut client);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut early)), None);
        assert_eq!(server.counters().unsupported, 0);
    }

    #[test]
    fn a_server_knows_an_identity_once_it_was_sent() {
        let mut client = client();
        let mut server = server(&mut client);
        assert_eq!((client.identity(), server.identity()), (Some(PSK.identity), None));
        deliver(&mut server, &mut client);
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        assert_eq!(server.identity(), Some(PSK.identity));
        for (length, known) in [(0_u8, Some(&[][..])), (129, None)] {
            let mut client = super::tests::client();
            let mut server = super::tests::server(&mut client);
            let body = [&[0, length][..], &vec![b'i'; length.into()]].concat();
            let message =
                Message { message_type: MessageType::ClientKeyExchange, message_seq: 1, body: &body };
            assert!(server.step(NOW).unwrap().0.handle(&message).is_ok());
            assert_eq!(server.identity(), known);
        }
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
            step.core.transcript = crate::crypto::RunningHash::new();
            step.core.absorb(&message.unwrap());
        }
        let mut server = server(&mut client);
        assert_eq!(deliver(&mut server, &mut client), None);
        assert!(!client.handshake.as_ref().unwrap().core.extended_master_secret);
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        assert_eq!(deliver(&mut server, &mut client), ESTABLISHED);
    }

    /// A client that offers a suite of CBC, also one that none offers, and a server that takes it.
    #[cfg(feature = "cbc")]
    fn with_cbc(suite: Suite, encrypt_then_mac: bool) -> (Small, Small) {
        let config = Config::DEFAULT.with_suites(Suites::new(&[Suite::EcdhePskAes128CbcSha256]).unwrap());
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        let mut client = Small::client(NOW, &config, PSK, rng, Handshake::new()).unwrap();
        let config = config.with_suites(Suites::new(&[suite]).unwrap());
        let (step, _) = client.step(NOW).unwrap();
        step.core.suites = config.suites;
        let mut body = step.flight.first_body().unwrap().to_vec();
        // Behind version, random, empty session id and cookie, and the length of the suites.
        body[2 + 32 + 1 + 1 + 2..][..2].copy_from_slice(&suite.code().to_be_bytes());
        if !encrypt_then_mac {
            let place = body.windows(4).position(|window| window == [0, 0x16, 0, 0]).unwrap();
            // An extension that nobody knows.
            body[place] = 0x7f;
        }
        step.flight.clear();
        let message = step.flight.push(MessageType::ClientHello, 0, 0, |out| {
            out.get_mut(..body.len())?.copy_from_slice(&body);
            Some(body.len())
        });
        step.core.transcript = crate::crypto::RunningHash::new();
        step.core.absorb(&message.unwrap());
        let server = server_with(&config, &mut client);
        (client, server)
    }

    #[cfg(feature = "cbc")]
    #[test]
    fn suites_of_cbc_establish_with_and_without_encrypt_then_mac() {
        for suite in [Suite::EcdhePskAes128CbcSha256, Suite::PskAes128CbcSha256] {
            for encrypt_then_mac in [true, false] {
                let (mut client, mut server) = with_cbc(suite, encrypt_then_mac);
                assert_eq!(deliver(&mut server, &mut client), None);
                assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
                assert_eq!(deliver(&mut server, &mut client), ESTABLISHED);
                let epoch = client.association.epoch(1).unwrap();
                assert_eq!((epoch.suite, epoch.encrypt_then_mac), (suite, encrypt_then_mac));
                // 5 bytes and a code of 32 need 11 of padding behind them; 5 bytes alone 11 in front of the code.
                let mut record = protected(&mut client, ContentType::ApplicationData, b"hello");
                assert_eq!(record.len(), HEADER + 16 + 48);
                let mut datagram = Datagram::new(&mut record);
                let came = server.handle(NOW, &mut datagram);
                assert_eq!(came, Some(Input::Application(&mut b"hello".to_vec())));
            }
        }
    }

    #[cfg(feature = "cbc")]
    #[test]
    fn encrypt_then_mac_is_answered_only_to_who_offered_it_and_has_a_use_for_it() {
        let answer = |extensions: &[u8], suites: &[u16]| {
            let suites = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect::<Vec<_>>();
            let count = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let front = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0]].concat();
            let (suite_count, count) = (count(&suites), count(extensions));
            let body = [&front[..], &suite_count, &suites, &[1, 0], &count, extensions].concat();
            let config = Config::DEFAULT.with_suites(Suites::new(Suite::ALL).unwrap());
            let mut server = server_for(&config, &body);
            let hello = sent(&mut server).concat();
            hello.windows(4).any(|window| window == [0, 0x16, 0, 0])
        };
        assert!(answer(&[0, 0x16, 0, 0], &[0x00ae]));
        assert!(!answer(&[0, 0x17, 0, 0], &[0x00ae]));
        // RFC 7366 §2: not with a suite of authenticated encryption.
        assert!(!answer(&[0, 0x16, 0, 0], &[0x00ae, 0xc0a8]));
    }

    #[cfg(feature = "cbc")]
    #[test]
    fn a_client_takes_encrypt_then_mac_only_where_it_offered_it_and_the_suite_has_a_use_for_it() {
        for (offered, chosen, expected) in [
            (&[Suite::PskAes128Ccm8][..], 0xc0a8_u16, Some(Reason::UnofferedExtension)),
            (
                &[Suite::PskAes128Ccm8, Suite::EcdhePskAes128CbcSha256],
                0xc0a8,
                Some(Reason::ProtocolViolation),
            ),
            (&[Suite::EcdhePskAes128CbcSha256], 0xc037, None),
        ] {
            let config = Config::DEFAULT.with_suites(Suites::new(offered).unwrap());
            let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
            let mut client = Small::client(NOW, &config, PSK, rng, Handshake::new()).unwrap();
            let body = [&[0xfe, 0xfd][..], &[7; 32], &[0], &chosen.to_be_bytes(), &[0, 0, 4, 0, 0x16, 0, 0]]
                .concat();
            let message = Message { message_type: MessageType::ServerHello, message_seq: 0, body: &body };
            let (mut step, _) = client.step(NOW).unwrap();
            let refused = match step.handle(&message) {
                Err(crate::handshake::Failure::Refused(reason)) => Some(reason),
                _ => None,
            };
            assert_eq!(refused, expected, "{chosen:04x}");
        }
    }

    #[cfg(feature = "cbc")]
    #[test]
    fn a_client_offers_no_suite_that_is_for_servers() {
        let suites = Suites::new(&[Suite::PskAes128Ccm8, Suite::PskAes128CbcSha256]).unwrap();
        let config = Config::DEFAULT.with_suites(suites);
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        let refused = Small::client(NOW, &config, PSK, rng, Handshake::new());
        assert_eq!(refused.err(), Some(SetUpError::ServerSuite));
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
    fn an_unknown_identity_is_never_established_even_under_the_right_random_key() {
        // The random source of this server gives the key away.
        let psk = Psk { identity: b"nobody", key: &[4; 16] };
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        let mut client = Small::client(NOW, &Config::DEFAULT, psk, rng, Handshake::new()).unwrap();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        let mut flight = sent(&mut client).concat();
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut flight)), None);
        let id = server.poll_pending().unwrap().id;
        let ended = server.provide(NOW, id, Answer::Unknown);
        assert_eq!(ended, Ok(Some(Input::Closed(Reason::UnknownIdentity))));
        assert!(sent(&mut server).is_empty(), "and is told nothing");
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
        let record = from.association.seal_in::<RustCrypto>(1, content_type, &mut buffer, payload).unwrap();
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
    fn a_challenge_is_dropped_where_no_check_was_agreed() {
        let (mut client, mut server) = established();
        let challenge = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut record = protected(&mut server, ContentType::ReturnRoutabilityCheck, &challenge);
        assert_eq!(client.handle(NOW, &mut Datagram::new(&mut record)), None);
        assert_eq!(client.counters().unexpected, 1);
        assert!(sent(&mut client).is_empty());
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
        while let Some(Ok((header, body))) = datagram.next(&[]) {
            let length = u16::try_from(body.len()).unwrap();
            records.push([&header.emit(length)[..], body].concat());
        }
        let mut key_exchange = records.remove(0);
        assert_eq!(server.handle(NOW, &mut Datagram::new(&mut key_exchange)), None);
        let id = server.poll_pending().unwrap().id;
        assert_eq!(server.provide(NOW, id, Answer::Psk { key: PSK.key }), Ok(None));
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

    #[cfg(feature = "record-size-limit")]
    #[test]
    fn a_record_longer_than_what_was_told_is_dropped_though_authentic() {
        let config = Config::DEFAULT.with_record_size_limit(64);
        let rng = &mut |bytes: &mut [u8]| bytes.fill(3);
        let mut client = Small::client(NOW, &config, PSK, rng, Handshake::new()).unwrap();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        deliver(&mut client, &mut server);
        deliver(&mut server, &mut client);
        server.association.limits = crate::limits::Limits::NONE;
        for (length, dropped) in [(64, 0), (65, 1)] {
            let mut record = protected(&mut server, ContentType::ApplicationData, &vec![1; length]);
            let came = client.handle(NOW, &mut Datagram::new(&mut record)).is_some();
            assert_eq!((came, client.counters().too_large), (dropped == 0, dropped));
        }
        assert!(client.is_established());
    }

    #[test]
    fn no_message_but_a_finished_counts_under_protection() {
        let mut client = client();
        let mut server = server(&mut client);
        deliver(&mut server, &mut client);
        assert_eq!(deliver(&mut client, &mut server), ESTABLISHED);
        // In the clear it would be a repetition, and make the client repeat its flight.
        let done = [14, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut record = protected(&mut server, ContentType::Handshake, &done);
        assert_eq!(client.handle(NOW, &mut Datagram::new(&mut record)), None);
        assert_eq!((client.counters().unexpected, client.counters().duplicate), (1, 0));
    }

    #[test]
    fn the_numbers_of_records_in_the_clear_never_wrap() {
        let mut client = client();
        client.association.plain_sequence = crate::record::SEQUENCE_MAX;
        assert_eq!(sent(&mut client).len(), 1);
        assert_eq!(client.handle_timeout(client.poll_timeout().unwrap()), None);
        assert!(sent(&mut client).is_empty());
    }

    #[test]
    fn an_exhausted_connection_says_so() {
        let (mut client, _) = established();
        client.association.epoch_mut(1).unwrap().next_sequence = crate::record::SEQUENCE_MAX;
        let mut buffer = [0; crate::HEADROOM + crate::TAILROOM];
        let nothing = crate::HEADROOM..crate::HEADROOM;
        assert!(client.seal(&mut buffer, nothing.clone()).is_ok());
        assert_eq!(client.seal(&mut buffer, nothing), Err(SealError::SequenceExhausted));
    }
}
