//! A blocking DTLS client and server on `dtls-psk`, over any transport: what the tests put in front of foreign endpoints.

use std::collections::VecDeque;
use std::time::{Duration, Instant as Clock};

use dtls_psk::{
    Accepted, Answer, CertificateTypes, ClientCertificate, Config, Connection, ConnectionId, CookieJar,
    Counters, Datagram, HEADROOM, Handshake, Input, Instant, Operation, Psk, Reason, Resumption, RustCrypto,
    Session, Suite, Suites, TAILROOM, TicketKey,
};

use crate::coap::Transport;
use crate::owner::Owner;
use crate::process::PATIENCE;
use crate::random::Random;

/// Foreign peers offer much in their hellos; a device's own handshakes need less.
const MEMORY: usize = 2048;

/// A peer on loopback answers soon or never.
const CONFIG: Config = Config::DEFAULT.with_handshake_timeout(Duration::from_secs(5));

type Inner = Connection<MEMORY, Box<Handshake<MEMORY>>>;

/// A DTLS connection to one peer; carries application data once it is established.
pub struct Secure<T> {
    transport: T,
    connection: Option<Inner>,
    config: Config,
    jar: Option<CookieJar>,
    keys: Vec<(Vec<u8>, Vec<u8>)>,
    random: Random,
    began: Clock,
    received: VecDeque<Vec<u8>>,
    /// Why the last connection ended.
    ended: Option<Reason>,
    established: usize,
    /// How many of the handshakes were abbreviated.
    resumed: usize,
    /// Those that full handshakes made. A server takes them up again.
    sessions: Vec<Session>,
    /// Who answers where both sides prove themselves by a signature.
    owner: Owner,
    /// Server: the keys that tickets are sealed under and were before; none if there are to be none.
    tickets: Vec<TicketKey>,
}

impl<T: Transport> Secure<T> {
    /// Begins a handshake with the server behind `transport`.
    pub fn client(transport: T, identity: &[u8], key: &[u8]) -> Self {
        Self::client_offering(transport, identity, key, Suites::DEFAULT.as_slice())
    }

    /// As [`Secure::client`], with the cipher suites that are offered.
    pub fn client_offering(transport: T, identity: &[u8], key: &[u8], suites: &[Suite]) -> Self {
        Self::new(transport, None).with_suites(suites).begin(identity, key, None)
    }

    /// As [`Secure::client`], and goes on with a session of an earlier connection if the server does.
    pub fn client_resuming(transport: T, identity: &[u8], key: &[u8], session: &Session) -> Self {
        Self::new(transport, None).begin(identity, key, Some(session))
    }

    /// As [`Secure::client`], and asks for this Connection ID in records to it; with an empty one it only takes the server's.
    pub fn client_with_connection_id(transport: T, identity: &[u8], key: &[u8], id: &[u8]) -> Self {
        Self::new(transport, None).with_connection_id(id).begin(identity, key, None)
    }

    /// As [`Secure::client`], and wants records of at most this many bytes, before encryption.
    pub fn client_limited(transport: T, identity: &[u8], key: &[u8], limit: u16) -> Self {
        Self::new(transport, None).with_record_size_limit(limit).begin(identity, key, None)
    }

    fn begin(mut self, identity: &[u8], key: &[u8], session: Option<&Session>) -> Self {
        let now = self.now();
        let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
        let psk = Psk { identity, key };
        self.connection = Some(
            Inner::resuming_client(now, &self.config, psk, session, rng, Box::new(Handshake::new()))
                .expect("identity and key have possible lengths"),
        );
        self
    }

    /// Waits for clients that hold one of the keys; the newest handshake replaces the connection before.
    pub fn server(transport: T, keys: &[(&[u8], &[u8])]) -> Self {
        let mut random = Random::new(u64::from(std::process::id()));
        let jar = CookieJar::new(Instant::from_millis(0), &mut |bytes| random.fill(bytes));
        let mut secure = Self::new(transport, Some(jar));
        secure.keys = keys.iter().map(|(identity, key)| (identity.to_vec(), key.to_vec())).collect();
        secure
    }

    /// Takes these cipher suites, the preferred one first, in the handshakes to come.
    #[must_use]
    pub fn with_suites(mut self, suites: &[Suite]) -> Self {
        self.config = self.config.with_suites(Suites::new(suites).expect("suites, each once"));
        self
    }

    /// Asks for this Connection ID, 8 bytes at most, in the records of the handshakes to come.
    #[must_use]
    pub fn with_connection_id(mut self, id: &[u8]) -> Self {
        let id = ConnectionId::new(id).expect("an id of 8 bytes at most");
        self.config = self.config.with_connection_id(id);
        self
    }

    /// Wants records of at most this many bytes in the handshakes to come, before encryption.
    #[must_use]
    pub fn with_record_size_limit(mut self, limit: u16) -> Self {
        self.config = self.config.with_record_size_limit(limit);
        self
    }

    /// Takes x25519 before secp256r1 in the handshakes to come.
    #[must_use]
    pub fn preferring_x25519(mut self) -> Self {
        self.config = self.config.with_x25519_preferred(true);
        self
    }

    /// The most bytes that the peer takes in one record.
    pub fn longest_payload(&self) -> Option<usize> {
        self.connection.as_ref().map(Inner::longest_payload)
    }

    /// The Connection IDs in the records to this side and to the peer; empty where none was agreed.
    pub fn connection_ids(&self) -> (&[u8], &[u8]) {
        let connection = self.connection.as_ref();
        connection.map_or((&[], &[]), |known| (known.own_connection_id(), known.peer_connection_id()))
    }

    /// Drives the handshake to its end.
    ///
    /// # Errors
    /// Why it failed; `None` when it was still under way after [`PATIENCE`].
    pub fn establish(&mut self) -> Result<(), Option<Reason>> {
        let began = Clock::now();
        let before = self.established;
        while began.elapsed() < PATIENCE {
            self.turn(Duration::from_millis(50));
            if self.established > before {
                return Ok(());
            }
            if let Some(reason) = self.ended.take() {
                return Err(Some(reason));
            }
        }
        Err(None)
    }

    /// Waits until the peer has closed the connection and returns why it ended.
    pub fn wait_for_close(&mut self) -> Reason {
        let began = Clock::now();
        loop {
            if let Some(reason) = self.ended.take() {
                return reason;
            }
            assert!(began.elapsed() < PATIENCE, "the peer does not close the connection");
            self.turn(Duration::from_millis(50));
        }
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close();
        }
        self.transmit();
    }

    /// Returns how many handshakes were completed.
    pub fn established(&self) -> usize {
        self.established
    }

    /// Returns how many of them were abbreviated.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// Returns the session that the last full handshake made.
    pub fn session(&self) -> Option<&Session> {
        self.sessions.last()
    }

    /// Returns the cipher suite of the connection, once it has keys.
    pub fn suite(&self) -> Option<Suite> {
        self.connection.as_ref()?.suite()
    }

    /// Returns the counters of the connection.
    pub fn counters(&self) -> Option<&Counters> {
        self.connection.as_ref().map(Inner::counters)
    }

    fn new(transport: T, jar: Option<CookieJar>) -> Self {
        Self {
            transport,
            connection: None,
            config: CONFIG,
            jar,
            keys: Vec::new(),
            random: Random::new(u64::from(std::process::id()).wrapping_add(1)),
            began: Clock::now(),
            received: VecDeque::new(),
            ended: None,
            established: 0,
            resumed: 0,
            sessions: Vec::new(),
            owner: Owner::default(),
            tickets: Vec::new(),
        }
    }

    /// Begins a handshake of raw public keys or certificates with the server behind `transport`.
    pub fn certificate_client(
        transport: T,
        suites: &[Suite],
        certificate: ClientCertificate<'_>,
        owner: Owner,
    ) -> Self {
        Self::certificate_client_with(transport, suites, certificate, owner, None)
    }

    /// As [`Secure::certificate_client`], and goes on with a session of an earlier connection if the server does.
    pub fn certificate_client_resuming(
        transport: T,
        certificate: ClientCertificate<'_>,
        owner: Owner,
        session: &Session,
    ) -> Self {
        Self::certificate_client_with(transport, &[session.suite()], certificate, owner, Some(session))
    }

    fn certificate_client_with(
        transport: T,
        suites: &[Suite],
        certificate: ClientCertificate<'_>,
        owner: Owner,
        session: Option<&Session>,
    ) -> Self {
        let mut secure = Self::new(transport, None).with_suites(suites);
        secure.owner = owner;
        let now = secure.now();
        let rng = &mut |bytes: &mut [u8]| secure.random.fill(bytes);
        let memory = Box::new(Handshake::new());
        let begun =
            Inner::resuming_certificate_client(now, &secure.config, certificate, session, rng, memory);
        secure.connection = Some(begun.expect("a suite and a name that are possible"));
        secure
    }

    /// Takes peers with raw public keys and certificates too, in the handshakes to come.
    #[must_use]
    pub fn with_owner(mut self, owner: Owner) -> Self {
        let types = CertificateTypes { raw_public_key: true, x509: !owner.chain.is_empty() };
        self.config = self.config.with_certificate_types(types);
        self.owner = owner;
        self
    }

    /// Gives tickets under a key, and still takes those under the keys before it.
    pub fn rotate_tickets(&mut self) {
        let mut root = [0; 32];
        self.random.fill(&mut root);
        self.tickets.insert(0, TicketKey::derive(&root, 1));
    }

    /// Forgets every key of tickets but that of now.
    pub fn forget_former_tickets(&mut self) {
        self.tickets.truncate(1);
    }

    /// Sends what is due, waits at most `limit` for a datagram and handles it, or the timer.
    fn turn(&mut self, limit: Duration) {
        self.transmit();
        let now = self.now();
        let timeout = self.connection.as_ref().and_then(Inner::poll_timeout);
        let wait = timeout.map_or(limit, |at| at.since(now).min(limit));
        if let Some(mut datagram) = self.transport.receive(wait) {
            self.handle(&mut datagram);
        }
        let now = self.now();
        if let Some(Input::Closed(reason)) = self.connection.as_mut().and_then(|one| one.handle_timeout(now))
        {
            self.ended = Some(reason);
        }
        self.transmit();
    }

    fn handle(&mut self, bytes: &mut [u8]) {
        let now = self.now();
        let mut out = [0; 2048];
        // A hello at epoch 0 outside of a handshake begins another one; of several peers there is only one here.
        let begins = bytes.first() == Some(&22) && bytes.get(3..5) == Some(&[0, 0]);
        let idle = self.connection.as_ref().is_none_or(|one| one.is_established() || one.is_closed());
        if let (true, true, Some(jar)) = (begins, idle, &mut self.jar) {
            let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
            match jar.accept(now, &self.config, rng, b"the only peer", bytes, &mut out) {
                Accepted::Reply(length) | Accepted::Refused { length, .. } => {
                    self.transport.send(out.get(..length).unwrap_or_default());
                }
                Accepted::Verified(hello) => {
                    let memory = Box::new(Handshake::new());
                    let mut id = [0; 8];
                    rng(&mut id);
                    let known = self.sessions.iter().find(|known| known.id() == hello.session_id());
                    let ticket = hello.session_ticket().filter(|_| !self.tickets.is_empty());
                    let opened = ticket.and_then(|ticket| {
                        self.tickets.iter().enumerate().find_map(|(age, key)| Some((age, key.open(ticket)?)))
                    });
                    let renewed = opened
                        .as_ref()
                        .filter(|(age, _)| *age > 0)
                        .and_then(|(_, opened)| self.tickets.first()?.seal(&opened.0, &opened.1, 3600));
                    let resumption = match (&opened, ticket) {
                        (Some((_, (session, _))), _) => {
                            Resumption::AcceptTicket { session, renewed: renewed.as_ref() }
                        }
                        (None, Some(_)) => Resumption::OfferTicket,
                        (None, None) => known.map_or(Resumption::Offer(&id), Resumption::Accept),
                    };
                    self.connection =
                        Inner::resuming_server(now, &self.config, &hello, resumption, rng, memory).ok();
                }
                Accepted::Dropped(_) => {}
            }
            self.answer(now);
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        let mut datagram = Datagram::new(bytes);
        while let Some(input) = connection.handle(now, &mut datagram) {
            match input {
                Input::Application(bytes) => self.received.push_back(bytes.to_vec()),
                Input::Established { full } => {
                    self.established = self.established.saturating_add(1);
                    self.resumed = self.resumed.saturating_add(usize::from(!full));
                    self.sessions.extend(connection.take_session());
                }
                Input::Closed(reason) => self.ended = Some(reason),
                _ => {}
            }
        }
        self.answer(now);
    }

    /// Answers what the connection asks.
    fn answer(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        if connection.has_certificates() {
            match self.owner.answer(connection, now, self.tickets.first()) {
                Some(Input::Established { .. }) => {
                    self.established = self.established.saturating_add(1);
                    self.sessions.extend(connection.take_session());
                }
                Some(Input::Closed(reason)) => self.ended = Some(reason),
                _ => {}
            }
            return;
        }
        while let Some(pending) = connection.poll_pending() {
            let id = pending.id;
            let known = match pending.operation {
                Operation::LookUpPsk { identity } => self.keys.iter().find(|(known, _)| known == identity),
                Operation::Compute(computation) => {
                    let computed = Answer::Computed(computation.run::<RustCrypto>());
                    if let Ok(Some(Input::Closed(reason))) = connection.provide(now, id, computed) {
                        self.ended = Some(reason);
                    }
                    continue;
                }
                other => unreachable!("no other operation without certificates: {other:?}"),
            };
            let provided = match (known, self.tickets.first()) {
                (Some((_, key)), Some(ticket_key)) => {
                    let seal = |session: &Session| ticket_key.seal(session, b"context", 3600);
                    connection.provide_with_ticket(now, id, Answer::Psk { key }, seal)
                }
                (Some((_, key)), None) => connection.provide(now, id, Answer::Psk { key }),
                (None, _) => connection.provide(now, id, Answer::Unknown),
            };
            if let Ok(Some(Input::Established { .. })) = provided {
                self.established = self.established.saturating_add(1);
                self.sessions.extend(connection.take_session());
            }
        }
    }

    fn transmit(&mut self) {
        let now = self.now();
        let mut out = [0; 2048];
        while let Some(length) = self.connection.as_mut().and_then(|one| one.poll_transmit(now, &mut out)) {
            self.transport.send(out.get(..length).unwrap_or_default());
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl<T: Transport> Transport for Secure<T> {
    fn send(&mut self, datagram: &[u8]) {
        let mut record = vec![0; HEADROOM];
        record.extend_from_slice(datagram);
        let end = record.len();
        record.resize(end.saturating_add(TAILROOM), 0);
        if let Some(connection) = &mut self.connection
            && let Ok(range) = connection.seal(&mut record, HEADROOM..end)
        {
            self.transport.send(record.get(range).unwrap_or_default());
        }
    }

    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let began = Clock::now();
        loop {
            if let Some(datagram) = self.received.pop_front() {
                return Some(datagram);
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return None;
            }
            self.turn(left);
        }
    }
}
