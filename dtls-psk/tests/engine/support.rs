//! Two parties in memory: a client, a server that does what the crate documentation says, and datagrams between them.

use std::time::Duration;

use dtls_psk::{
    Accepted, Answer, Choice, Config, Connection, CookieJar, Datagram, Dropped, HEADROOM, Handshake, Input,
    Instant, Operation, PendingId, Psk, Reason, TAILROOM, choose,
};

pub(crate) type Client = Connection<512>;
pub(crate) type Peer = Connection<1024, Box<Handshake<1024>>>;

pub(crate) const IDENTITY: &[u8] = b"urn:dev:os:0001";
pub(crate) const KEY: &[u8] = &[0x5a; 16];
pub(crate) const ADDRESS: &[u8] = &[192, 0, 2, 1, 0x16, 0x34];

/// A deterministic stand-in for randomness (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn at(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

/// What came of a datagram, owned.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Event {
    Established,
    /// By an abbreviated handshake.
    Resumed,
    Application(Vec<u8>),
    PathResponse([u8; 8]),
    Closed(Reason),
}

impl Event {
    pub(crate) fn of(input: Input<'_>) -> Self {
        match input {
            Input::Established { full: true } => Self::Established,
            Input::Established { full: false } => Self::Resumed,
            Input::Application(bytes) => Self::Application(bytes.to_vec()),
            Input::PathResponse(cookie) => Self::PathResponse(cookie),
            Input::Closed(reason) => Self::Closed(reason),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn client_with(config: &Config, psk: Psk<'_>, seed: u64) -> Client {
    let mut random = Random(seed);
    Client::client(at(0), config, psk, &mut |bytes| random.fill(bytes), Handshake::new()).unwrap()
}

pub(crate) fn new_client() -> Client {
    client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 1)
}

pub(crate) fn transmit<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(
    connection: &mut Connection<N, H>,
    now: Instant,
    mtu: usize,
) -> Vec<Vec<u8>> {
    let mut out = vec![0; mtu];
    std::iter::from_fn(|| {
        let length = connection.poll_transmit(now, &mut out)?;
        Some(out.get(..length)?.to_vec())
    })
    .collect()
}

pub(crate) fn receive<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(
    connection: &mut Connection<N, H>,
    now: Instant,
    datagram: &[u8],
) -> Vec<Event> {
    let mut bytes = datagram.to_vec();
    let mut datagram = Datagram::new(&mut bytes);
    std::iter::from_fn(|| connection.handle(now, &mut datagram).map(Event::of)).collect()
}

pub(crate) fn seal<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(
    connection: &mut Connection<N, H>,
    payload: &[u8],
) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM + payload.len() + TAILROOM];
    let range = HEADROOM..HEADROOM + payload.len();
    buffer.get_mut(range.clone()).unwrap().copy_from_slice(payload);
    let record = connection.seal(&mut buffer, range).unwrap();
    buffer.get(record).unwrap().to_vec()
}

/// What is asked when that is to be computed.
#[cfg(feature = "ecdhe")]
pub(crate) fn question_of(purpose: dtls_psk::Purpose) -> &'static str {
    use dtls_psk::Purpose;
    match purpose {
        Purpose::Share => "share",
        Purpose::Agreement => "agree",
        Purpose::Proof => "prove",
        other => panic!("{other:?}"),
    }
}

/// A server for one address.
pub(crate) struct Server {
    pub(crate) jar: CookieJar,
    /// The newest first.
    pub(crate) peers: Vec<Peer>,
    pub(crate) random: Random,
    pub(crate) config: Config,
    pub(crate) mtu: usize,
    /// What is known, and whether questions are answered at once.
    pub(crate) keys: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) answers_at_once: bool,
    /// Look-ups to be answered, the latest last.
    pub(crate) asked: Vec<(PendingId, Vec<u8>)>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) refused: Vec<Reason>,
    pub(crate) address: Vec<u8>,
    /// The sessions that can be taken up; `None` if there are to be none.
    #[cfg(feature = "resumption")]
    pub(crate) sessions: Option<Vec<dtls_psk::Session>>,
    /// What tickets are sealed under; `None` if there are to be none. And the session of a ticket that is not in the hello.
    #[cfg(feature = "resumption")]
    pub(crate) tickets: Option<dtls_psk::TicketKey>,
    #[cfg(feature = "resumption")]
    pub(crate) opened: Option<dtls_psk::Session>,
    /// Whether a ticket that was taken is renewed.
    #[cfg(feature = "resumption")]
    pub(crate) renews: bool,
    /// Who answers for its raw public key or certificate.
    #[cfg(feature = "rpk")]
    pub(crate) owner: crate::owner::Owner,
}

impl Server {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0xffff_0000);
        Self {
            jar: CookieJar::new(at(0), &mut |bytes| random.fill(bytes)),
            peers: Vec::new(),
            random,
            config: Config::DEFAULT,
            mtu: 1200,
            keys: vec![(IDENTITY.to_vec(), KEY.to_vec())],
            answers_at_once: true,
            asked: Vec::new(),
            dropped: Vec::new(),
            refused: Vec::new(),
            address: ADDRESS.to_vec(),
            #[cfg(feature = "resumption")]
            sessions: None,
            #[cfg(feature = "resumption")]
            tickets: None,
            #[cfg(feature = "resumption")]
            opened: None,
            #[cfg(feature = "resumption")]
            renews: false,
            #[cfg(feature = "rpk")]
            owner: crate::owner::Owner::new(0x51),
        }
    }

    /// Takes a datagram; returns what happened and what is to be sent.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> (Vec<Event>, Vec<Vec<u8>>) {
        let mut scratch = vec![0; datagram.len()];
        let mut events = Vec::new();
        let mut sent = Vec::new();
        match choose(self.peers.iter(), datagram, &mut scratch) {
            Choice::New => {
                let mut out = vec![0; dtls_psk::REPLY_MAX];
                let Self { jar, random, .. } = self;
                let mut rng = |bytes: &mut [u8]| random.fill(bytes);
                match jar.accept(now, &self.config, &mut rng, &self.address, datagram, &mut out) {
                    Accepted::Reply(length) => sent.push(out.get(..length).unwrap().to_vec()),
                    Accepted::Refused { length, reason } => {
                        self.refused.push(reason);
                        sent.push(out.get(..length).unwrap().to_vec());
                    }
                    Accepted::Verified(hello) => {
                        let handshake = Box::new(Handshake::new());
                        #[cfg(feature = "resumption")]
                        let peer = {
                            use dtls_psk::Resumption;
                            let mut id = [0; 8];
                            rng(&mut id);
                            let known = self.sessions.as_deref().unwrap_or_default();
                            let known = known.iter().find(|session| session.id() == hello.session_id());
                            let opened = self
                                .tickets
                                .as_ref()
                                .and_then(|key| key.open(hello.session_ticket()?).map(|opened| opened.0));
                            let opened = opened.as_ref().or(self.opened.as_ref());
                            let renewed = self.tickets.as_ref().filter(|_| self.renews);
                            let renewed =
                                renewed.zip(opened).and_then(|(key, session)| key.seal(session, b"", 100));
                            let resumption = match known {
                                _ if opened.is_some() => Resumption::AcceptTicket {
                                    session: opened.unwrap(),
                                    renewed: renewed.as_ref(),
                                },
                                _ if self.tickets.is_some() => Resumption::OfferTicket,
                                Some(session) => Resumption::Accept(session),
                                None if self.sessions.is_some() => Resumption::Offer(&id),
                                None => Resumption::No,
                            };
                            let config = &self.config;
                            Peer::resuming_server(now, config, &hello, resumption, &mut rng, handshake)
                                .unwrap()
                        };
                        #[cfg(not(feature = "resumption"))]
                        let peer = Peer::server(now, &self.config, &hello, &mut rng, handshake).unwrap();
                        // At most one that is established and one under way.
                        self.peers.retain(Connection::is_established);
                        self.peers.insert(0, peer);
                        events.extend(self.answer(now, 0));
                    }
                    Accepted::Dropped(dropped) => self.dropped.push(dropped),
                }
            }
            Choice::Candidate(index) => {
                let peer = self.peers.get_mut(index).unwrap();
                events = receive(peer, now, datagram);
                events.extend(self.answer(now, index));
            }
            Choice::Dropped(dropped) => self.dropped.push(dropped),
        }
        sent.extend(self.settle(now, &events));
        (events, sent)
    }

    /// Answers what a connection asks.
    pub(crate) fn answer(&mut self, now: Instant, index: usize) -> Vec<Event> {
        let peer = self.peers.get_mut(index).unwrap();
        #[cfg(feature = "rpk")]
        if peer.has_certificates() {
            return if self.answers_at_once { self.owner.answer(peer, now) } else { Vec::new() };
        }
        let Some(pending) = peer.poll_pending() else { return Vec::new() };
        let id = pending.id;
        match pending.operation {
            // It stays pending.
            #[cfg(feature = "ecdhe")]
            Operation::Compute(_) if !self.answers_at_once => Vec::new(),
            #[cfg(feature = "ecdhe")]
            Operation::Compute(_) => {
                let computed = self.compute(now, index);
                computed.and_then(|(_, event)| event).into_iter().chain(self.answer(now, index)).collect()
            }
            Operation::LookUpPsk { identity } => {
                let identity = identity.to_vec();
                if self.answers_at_once {
                    return self.provide(now, index, id, &identity).into_iter().collect();
                }
                self.asked.push((id, identity));
                Vec::new()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Computes what is pending: what that was, and what came of it.
    #[cfg(feature = "ecdhe")]
    pub(crate) fn compute(
        &mut self,
        now: Instant,
        index: usize,
    ) -> Option<(dtls_psk::Purpose, Option<Event>)> {
        let peer = self.peers.get_mut(index)?;
        let pending = peer.pending()?;
        let (id, Operation::Compute(computation)) = (pending.id, pending.operation) else { return None };
        let computed = Answer::Computed(computation.run::<dtls_psk::RustCrypto>());
        Some((computation.purpose(), peer.provide(now, id, computed).unwrap().map(Event::of)))
    }

    pub(crate) fn provide(
        &mut self,
        now: Instant,
        index: usize,
        id: PendingId,
        identity: &[u8],
    ) -> Option<Event> {
        let found = self.keys.iter().find(|(known, _)| known == identity);
        #[cfg(feature = "resumption")]
        if let (Some(tickets), Some((_, key))) = (&self.tickets, found) {
            let seal = |session: &dtls_psk::Session| tickets.seal(session, b"", 100);
            let peer = self.peers.get_mut(index).unwrap();
            return peer.provide_with_ticket(now, id, Answer::Psk { key }, seal).unwrap().map(Event::of);
        }
        let answer = found.map_or(Answer::Unknown, |(_, key)| Answer::Psk { key });
        self.peers.get_mut(index).unwrap().provide(now, id, answer).unwrap().map(Event::of)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> (Vec<Event>, Vec<Vec<u8>>) {
        let events: Vec<_> =
            self.peers.iter_mut().filter_map(|peer| peer.handle_timeout(now)).map(Event::of).collect();
        let sent = self.settle(now, &events);
        (events, sent)
    }

    /// Sends what is to be sent and forgets what is over or replaced.
    fn settle(&mut self, now: Instant, events: &[Event]) -> Vec<Vec<u8>> {
        let mtu = self.mtu;
        let sent = self.peers.iter_mut().flat_map(|peer| transmit(peer, now, mtu)).collect();
        self.peers.retain(|peer| !peer.is_closed());
        #[cfg(feature = "resumption")]
        if let Some(sessions) = &mut self.sessions
            && events.contains(&Event::Established)
        {
            sessions.extend(self.peers.first_mut().and_then(Connection::take_session));
        }
        if events.iter().any(|event| matches!(event, Event::Established | Event::Resumed)) {
            self.peers.truncate(1);
        }
        sent
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.peers.iter().filter_map(Connection::poll_timeout).min()
    }

    /// The newest connection, whatever its state.
    pub(crate) fn peer_any(&mut self) -> &mut Peer {
        self.peers.first_mut().unwrap()
    }

    /// The established connection.
    pub(crate) fn peer(&mut self) -> &mut Peer {
        self.peers.iter_mut().find(|peer| peer.is_established()).unwrap()
    }
}

/// Everything that went over a perfect link.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub(crate) struct Talk {
    pub(crate) from_client: Vec<Vec<u8>>,
    pub(crate) from_server: Vec<Vec<u8>>,
    pub(crate) client: Vec<Event>,
    pub(crate) server: Vec<Event>,
}

/// Lets both sides talk over a perfect link until neither has anything to say. `tamper` may change each datagram (`true`:
/// from the client) or drop it.
pub(crate) fn talk_with(
    client: &mut Client,
    server: &mut Server,
    now: Instant,
    tamper: impl FnMut(bool, &mut Vec<u8>) -> bool,
) -> Talk {
    talk_answering(client, server, now, tamper, |_| Vec::new())
}

/// The same for a client that asks for something.
pub(crate) fn talk_answering(
    client: &mut Client,
    server: &mut Server,
    now: Instant,
    mut tamper: impl FnMut(bool, &mut Vec<u8>) -> bool,
    mut answer: impl FnMut(&mut Client) -> Vec<Event>,
) -> Talk {
    let mut talk = Talk::default();
    loop {
        let mut to_server = transmit(client, now, 1200);
        if to_server.is_empty() {
            return talk;
        }
        for datagram in &mut to_server {
            talk.from_client.push(datagram.clone());
            if !tamper(true, datagram) {
                continue;
            }
            let (events, to_client) = server.handle(now, datagram);
            talk.server.extend(events);
            for mut datagram in to_client {
                talk.from_server.push(datagram.clone());
                if tamper(false, &mut datagram) {
                    talk.client.extend(receive(client, now, &datagram));
                    talk.client.extend(answer(client));
                }
            }
        }
    }
}

pub(crate) fn talk(client: &mut Client, server: &mut Server) -> Talk {
    talk_with(client, server, at(0), |_, _| true)
}

#[cfg(feature = "connection-id")]
/// A client that wants `client_id` in records to it and a server that wants `server_id`, before they talk.
pub(crate) fn with_connection_ids(config: &Config, client_id: &[u8], server_id: &[u8]) -> (Client, Server) {
    let config = |id| config.with_connection_id(dtls_psk::ConnectionId::new(id).unwrap());
    let client = client_with(&config(client_id), Psk { identity: IDENTITY, key: KEY }, 1);
    let mut server = Server::new(2);
    server.config = config(server_id);
    (client, server)
}

/// A client and its server after a handshake.
pub(crate) fn established() -> (Client, Server) {
    let (mut client, mut server) = (new_client(), Server::new(2));
    let talk = talk(&mut client, &mut server);
    assert_eq!(talk.client, [Event::Established]);
    assert_eq!(talk.server, [Event::Established]);
    (client, server)
}

pub(crate) fn config(retransmit_ms: u64, timeout_s: u64) -> Config {
    Config::DEFAULT
        .with_retransmit_after(Duration::from_millis(retransmit_ms))
        .with_handshake_timeout(Duration::from_secs(timeout_s))
}

/// A record in the clear.
pub(crate) fn record(content_type: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 0xfe, 0xfd];
    record.extend(((u64::from(epoch) << 48) | sequence).to_be_bytes());
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// A fragment of a handshake message of `length` bytes.
pub(crate) fn fragment(code: u8, length: usize, message_seq: u16, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let u24 = |value: usize| (value as u32).to_be_bytes().into_iter().skip(1);
    let mut fragment = vec![code];
    fragment.extend(u24(length));
    fragment.extend(message_seq.to_be_bytes());
    fragment.extend(u24(offset));
    fragment.extend(u24(bytes.len()));
    fragment.extend(bytes);
    fragment
}

/// A whole handshake message in a record of epoch 0.
pub(crate) fn message(code: u8, message_seq: u16, body: &[u8]) -> Vec<u8> {
    record(22, 0, 7, &fragment(code, body.len(), message_seq, 0, body))
}

/// A ClientHello to be bent.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) random: [u8; 32],
    pub(crate) session_id: Vec<u8>,
    pub(crate) cookie: Vec<u8>,
    pub(crate) suites: Vec<u8>,
    pub(crate) compressions: Vec<u8>,
    pub(crate) extensions: Option<Vec<u8>>,
}

impl Hello {
    pub(crate) fn new() -> Self {
        Self {
            version: 0xfefd,
            random: [0x77; 32],
            session_id: vec![],
            cookie: vec![],
            suites: vec![0xc0, 0xa8, 0x00, 0xff],
            compressions: vec![0],
            extensions: Some(vec![0, 0x17, 0, 0]),
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend(self.random);
        for vector in [&self.session_id, &self.cookie] {
            body.push(vector.len() as u8);
            body.extend(vector);
        }
        body.extend((self.suites.len() as u16).to_be_bytes());
        body.extend(&self.suites);
        body.push(self.compressions.len() as u8);
        body.extend(&self.compressions);
        if let Some(extensions) = &self.extensions {
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
        }
        body
    }

    pub(crate) fn datagram(&self, message_seq: u16) -> Vec<u8> {
        message(1, message_seq, &self.body())
    }

    /// Goes through the cookie exchange and returns the answer to the second ClientHello.
    pub(crate) fn send(&mut self, server: &mut Server, now: Instant) -> Vec<Vec<u8>> {
        let (_, replies) = server.handle(now, &self.datagram(0));
        let [reply] = replies.as_slice() else { panic!("{replies:?}") };
        self.cookie = reply.get(28..).unwrap().to_vec();
        server.handle(now, &self.datagram(1)).1
    }
}

/// The records of a datagram.
pub(crate) fn records_of(mut datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        let length = datagram.get(11..13).unwrap().try_into().map(u16::from_be_bytes).unwrap();
        let (record, rest) = datagram.split_at(13 + usize::from(length));
        records.push(record.to_vec());
        datagram = rest;
    }
    records
}

/// Changes the bodies of the handshake messages of a type that are in the clear.
#[cfg(feature = "ecdhe")]
pub(crate) fn change_messages(datagram: &mut Vec<u8>, code: u8, change: impl Fn(&mut Vec<u8>)) {
    *datagram = records_of(datagram)
        .into_iter()
        .flat_map(|record| {
            let (is_plain, header) = (record[3..5] == [0, 0], record[..11].to_vec());
            if record[0] != 22 || !is_plain {
                return record;
            }
            let mut messages = Vec::new();
            let mut rest = &record[13..];
            while let Some(length) = rest.get(9..12) {
                let length = usize::from(u16::from_be_bytes([length[1], length[2]]));
                let (message, behind) = rest.split_at(12 + length);
                let mut body = message[12..].to_vec();
                if message[0] == code {
                    change(&mut body);
                }
                let seq = u16::from_be_bytes([message[4], message[5]]);
                messages.extend(fragment(message[0], body.len(), seq, 0, &body));
                rest = behind;
            }
            [header, (messages.len() as u16).to_be_bytes().to_vec(), messages].concat()
        })
        .collect();
}
