//! Whole handshakes, record by record, for the model: of every suite, with and without sessions, tickets and Connection IDs.

use crate::other_client;
#[cfg(feature = "rpk")]
use crate::owner::{Owner, bare_certificate};
use crate::support::*;
#[cfg(any(feature = "resumption", feature = "rpk"))]
use dtls_psk::Handshake;
#[cfg(feature = "rpk")]
use dtls_psk::{CertificateTypes, ClientCertificate};
use dtls_psk::{Config, Instant, Psk, Suite, Suites};
#[cfg(feature = "resumption")]
use dtls_psk::{Session, TicketKey};

pub(crate) const STRANGER: &[u8] = b"urn:dev:os:0002";
pub(crate) const STRANGERS_KEY: &[u8] = &[0x33; 16];

/// How many copies of a Finished there are at least, each with a record number of its own.
pub(crate) const COPIES: usize = 40;

/// How many records of data there are.
pub(crate) const DATA: usize = COPIES / 2;

/// What the sides know of each other before a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    Nothing,
    /// A session under the id that the client offers.
    #[cfg(feature = "resumption")]
    Session,
    /// The same, and the server has forgotten it: a full handshake, which makes another.
    #[cfg(feature = "resumption")]
    Forgotten,
    /// A session out of a ticket.
    #[cfg(feature = "resumption")]
    Ticket,
    /// The client asks for a ticket.
    #[cfg(feature = "resumption")]
    NewTicket,
    /// The client has a ticket that is taken and renewed.
    #[cfg(feature = "resumption")]
    RenewedTicket,
    /// The client has a ticket that is none of the server's: a full handshake, and a new ticket.
    #[cfg(feature = "resumption")]
    RefusedTicket,
}

impl Known {
    const ALL: &[Self] = &[
        Self::Nothing,
        #[cfg(feature = "resumption")]
        Self::Session,
        #[cfg(feature = "resumption")]
        Self::Forgotten,
        #[cfg(feature = "resumption")]
        Self::Ticket,
        #[cfg(feature = "resumption")]
        Self::NewTicket,
        #[cfg(feature = "resumption")]
        Self::RenewedTicket,
        #[cfg(feature = "resumption")]
        Self::RefusedTicket,
    ];

    /// Whether the client speaks of tickets, which that of this crate does not.
    pub(crate) fn has_tickets(self) -> bool {
        #[cfg(feature = "resumption")]
        return matches!(self, Self::NewTicket | Self::RenewedTicket | Self::RefusedTicket);
        #[cfg(not(feature = "resumption"))]
        false
    }

    pub(crate) fn is_abbreviated(self) -> bool {
        #[cfg(feature = "resumption")]
        return matches!(self, Self::Session | Self::Ticket | Self::RenewedTicket);
        #[cfg(not(feature = "resumption"))]
        false
    }
}

/// The Connection IDs that client and server want, each with the other's agreement.
type Ids = Option<[&'static [u8]; 2]>;

const IDS: &[Ids] = &[
    None,
    #[cfg(feature = "connection-id")]
    Some([&[], &[9; 6]]),
    #[cfg(feature = "connection-id")]
    Some([&[4; 3], &[]]),
    #[cfg(feature = "connection-id")]
    Some([&[4; 8], &[9; 1]]),
    #[cfg(feature = "connection-id")]
    Some([&[], &[]]),
];

/// What both sides prove themselves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proven {
    PreSharedKey,
    #[cfg(feature = "rpk")]
    RawPublicKey,
    #[cfg(feature = "x509")]
    Certificate,
}

impl Proven {
    const ALL: &[Self] = &[
        Self::PreSharedKey,
        #[cfg(feature = "rpk")]
        Self::RawPublicKey,
        #[cfg(feature = "x509")]
        Self::Certificate,
    ];
}

/// What a side goes through before it has keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// The peer's message at this place.
    Message(usize),
    /// Its owner answers this question.
    Question(&'static str),
}

/// A kind of handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) proven: Proven,
    pub(crate) suite: Suite,
    pub(crate) known: Known,
    pub(crate) ids: Ids,
}

impl Kind {
    /// Whether this crate's client can be one side of it; else [`crate::other_client`] is.
    pub(crate) fn is_for_own_client(&self) -> bool {
        self.suite.is_for_clients() && !self.known.has_tickets()
    }

    pub(crate) fn has_share(&self) -> bool {
        self.suite.name().starts_with("TLS_ECDHE")
    }

    fn all() -> impl Iterator<Item = Self> {
        let of_known = |known: &'static Known| IDS.iter().map(|ids| (*known, *ids));
        let known = move || Known::ALL.iter().flat_map(of_known);
        let of_suite = move |suite: &'static Suite| {
            let of_proven = move |proven: &'static Proven| {
                known().map(|(known, ids)| Self { proven: *proven, suite: *suite, known, ids })
            };
            Proven::ALL.iter().flat_map(of_proven)
        };
        Suite::ALL.iter().flat_map(of_suite).filter(|kind| {
            if kind.suite.is_ecdsa() != (kind.proven != Proven::PreSharedKey) {
                return false;
            }
            let is_known_to_other =
                !kind.suite.is_ecdsa() && other_client::knows(kind.suite) && kind.ids.is_none();
            kind.is_for_own_client() || is_known_to_other
        })
    }

    /// RFC 5246 §7.3, RFC 6347 §4.2.4, and for what is proven by a signature RFC 8422 §2: the turns of a server, of `messages`
    /// from the client, up to its keys.
    pub(crate) fn turns_of_server(&self, messages: usize) -> Vec<Turn> {
        if self.known.is_abbreviated() {
            return Vec::new();
        }
        if !self.suite.is_ecdsa() {
            let mut turns: Vec<_> = (0..messages).map(Turn::Message).collect();
            turns.push(Turn::Question("look up"));
            if self.has_share() {
                // ClientKeyExchange.
                assert_eq!(messages, 1);
                turns.insert(0, Turn::Question("share"));
                turns.insert(2, Turn::Question("agree"));
            }
            return turns;
        }
        // Certificate, ClientKeyExchange, CertificateVerify.
        assert_eq!(messages, 3);
        vec![
            Turn::Question("share"),
            Turn::Question("present"),
            Turn::Question("sign"),
            Turn::Message(0),
            Turn::Question("check"),
            Turn::Message(1),
            Turn::Message(2),
            Turn::Question("prove"),
        ]
    }

    /// The same of a client.
    pub(crate) fn turns_of_client(&self, messages: usize) -> Vec<Turn> {
        let mut turns: Vec<_> = (0..messages).map(Turn::Message).collect();
        if self.suite.is_ecdsa() && !self.known.is_abbreviated() {
            // HelloVerifyRequest, ServerHello, Certificate; ServerKeyExchange, CertificateRequest, ServerHelloDone.
            assert_eq!(messages, 6);
            turns.insert(3, Turn::Question("check"));
            turns.extend(["prove", "present", "sign"].map(Turn::Question));
        }
        turns
    }

    #[cfg(feature = "rpk")]
    fn certificate_types(&self) -> CertificateTypes {
        CertificateTypes {
            raw_public_key: self.proven == Proven::RawPublicKey,
            #[cfg(feature = "x509")]
            x509: self.proven == Proven::Certificate,
        }
    }

    /// The Connection ID in records to the client, or to the server.
    pub(crate) fn id(&self, to_client: bool) -> &'static [u8] {
        self.ids.map_or(&[], |[client, server]| if to_client { client } else { server })
    }

    fn config(&self, to_client: bool) -> Config {
        // Repeats a flight as often as it is asked for.
        let config = config(1, 1_000_000).with_suites(Suites::new(&[self.suite]).unwrap());
        #[cfg(feature = "rpk")]
        let config = config.with_certificate_types(self.certificate_types());
        // The groups take turns.
        #[cfg(feature = "x25519")]
        let config = config.with_x25519_preferred(self.ids.is_some());
        let id = self.ids.and_then(|_| dtls_psk::ConnectionId::new(self.id(to_client)));
        id.map_or(config, |id| config.with_connection_id(id))
    }
}

/// A kind of handshake with what its sides know, and two handshakes of it.
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// What parties made anew with the same randomness expect.
    pub(crate) recording: Recording,
    /// Of somebody else with a server that is not the same.
    pub(crate) other: Recording,
}

impl Case {
    /// All kinds of handshakes.
    pub(crate) fn all() -> Vec<Self> {
        Kind::all().map(Self::of).collect()
    }

    /// One of `cases`; few with a key agreement, which takes more time than all the rest, and as many with signatures.
    pub(crate) fn draw<'a>(random: &mut Random, cases: &'a [Self]) -> &'a Self {
        let may_share = random.below(12) == 0;
        let is_signed = cfg!(feature = "rpk") && may_share && random.below(2) == 0;
        loop {
            let case = &cases[random.below(cases.len() as u64) as usize];
            if case.kind.suite.is_ecdsa() == is_signed && (may_share || !case.kind.has_share()) {
                return case;
            }
        }
    }

    fn of(kind: Kind) -> Self {
        let mut case = Self { kind, recording: Recording::default(), other: Recording::default() };
        case.other = case.record(true);
        case.recording = case.record(false);
        case
    }

    /// A handshake, of a stranger or of the party that is made anew.
    fn record(&self, of_stranger: bool) -> Recording {
        let (identity, key) = if of_stranger { (STRANGER, STRANGERS_KEY) } else { (IDENTITY, KEY) };
        let (client, server) = if of_stranger { (7_u8, 3) } else { (1, 2) };
        let psk = Psk { identity, key };
        if self.kind.is_for_own_client() {
            let answer = &mut self.answers_of_client(of_stranger);
            let server = Server { answers_at_once: true, ..self.server_as(of_stranger, server) };
            Recording::of(self.kind, self.client_as(psk, client.into()), answer, server)
        } else {
            other_client::record_with(self.kind, psk, [client; 32], self.server(server))
        }
    }

    pub(crate) fn client(&self, seed: u64) -> Client {
        self.client_as(Psk { identity: IDENTITY, key: KEY }, seed)
    }

    fn client_as(&self, psk: Psk<'_>, seed: u64) -> Client {
        let config = self.kind.config(true);
        #[cfg(feature = "rpk")]
        if self.kind.suite.is_ecdsa() {
            let mut random = Random(seed);
            let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
            let certificate = match self.kind.proven {
                #[cfg(feature = "x509")]
                Proven::Certificate => ClientCertificate::X509 { server_name: Some("server.example") },
                _ => ClientCertificate::RawPublicKey,
            };
            let memory = Handshake::new();
            #[cfg(feature = "resumption")]
            if self.kind.known != Known::Nothing {
                let session = Some(&made_up_session(self.kind.suite));
                return Client::resuming_certificate_client(
                    at(0),
                    &config,
                    certificate,
                    session,
                    rng,
                    memory,
                )
                .unwrap();
            }
            return Client::certificate_client(at(0), &config, certificate, rng, memory).unwrap();
        }
        #[cfg(feature = "resumption")]
        if self.kind.known != Known::Nothing {
            let mut random = Random(seed);
            let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
            let session = made_up_session(self.kind.suite);
            let memory = Handshake::new();
            return Client::resuming_client(at(0), &config, psk, Some(&session), rng, memory).unwrap();
        }
        client_with(&config, psk, seed)
    }

    /// Answers one question of the client that is made anew: which it was, and what came of it.
    pub(crate) fn answers_of_client(&self, _of_stranger: bool) -> Answers {
        #[cfg(feature = "rpk")]
        if self.kind.suite.is_ecdsa() {
            let mut owner = owner(if _of_stranger { 0x66 } else { 0xc1 });
            return Box::new(move |client, now| {
                let event = owner.answer_one(client, now)?;
                Some((owner.asked.pop().unwrap(), event))
            });
        }
        Box::new(|_, _| None)
    }

    /// A server that knows a second identity, whose key the man in the middle has.
    pub(crate) fn server(&self, seed: u64) -> Server {
        self.server_as(false, seed)
    }

    fn server_as(&self, _of_stranger: bool, seed: u64) -> Server {
        let mut server = Server::new(seed);
        #[cfg(feature = "rpk")]
        {
            server.owner = owner(if _of_stranger { 0x99 } else { 0x51 });
        }
        server.keys.push((STRANGER.to_vec(), STRANGERS_KEY.to_vec()));
        server.config = self.kind.config(false);
        #[cfg(feature = "resumption")]
        match self.kind.known {
            Known::Nothing => {}
            Known::Session => server.sessions = Some(vec![made_up_session(self.kind.suite)]),
            Known::Forgotten => server.sessions = Some(Vec::new()),
            Known::Ticket => server.opened = Some(made_up_session(self.kind.suite)),
            Known::NewTicket | Known::RenewedTicket | Known::RefusedTicket => {
                server.tickets = Some(TicketKey::derive(&[1; 32], 1));
                server.renews = true;
            }
        }
        server
    }
}

/// What [`Case::answers_of_client`] does.
pub(crate) type Answers = Box<dyn FnMut(&mut Client, Instant) -> Option<(&'static str, Option<Event>)>>;

#[cfg(feature = "rpk")]
fn owner(secret: u8) -> Owner {
    let mut owner = Owner::new(secret);
    owner.chain.push(bare_certificate(&owner.raw_public_key()));
    owner
}

/// The master secret of all sessions here.
pub(crate) const SECRET: &[u8] = &[0x77; 48];

#[cfg(feature = "resumption")]
pub(crate) fn made_up_session(suite: Suite) -> Session {
    Session::parse(&[&[2][..], &suite.code().to_be_bytes(), SECRET, &[0, 8], &[5; 8]].concat()).unwrap()
}

/// What one side says in a handshake and after it, record by record.
#[derive(Default)]
pub(crate) struct Said {
    /// The messages in the clear but for ClientHellos, in their order, each in a record of its own.
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) change_cipher_spec: Vec<u8>,
    pub(crate) finished: Vec<Vec<u8>>,
    pub(crate) data: Vec<Vec<u8>>,
    pub(crate) close: Vec<u8>,
}

/// One whole handshake.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) hellos: [Vec<u8>; 2],
    pub(crate) client: Said,
    pub(crate) server: Said,
}

impl Said {
    /// Sorts the records of one side.
    pub(crate) fn of(records: &[Vec<u8>]) -> Self {
        let mut said = Self::default();
        for record in records {
            match (record[0], record[4]) {
                (20, 0) => said.change_cipher_spec.clone_from(record),
                (22, 0) => said.messages.extend(messages_of(record)),
                (_, 1) => said.finished.push(record.clone()),
                _ => panic!("{record:?}"),
            }
        }
        // Those that were repeated are there twice.
        let mut seen = Vec::new();
        said.messages.retain(|message| {
            let seq_and_code = (message[17..19].to_vec(), message[13]);
            let is_new = !seen.contains(&seq_and_code);
            seen.push(seq_and_code);
            is_new
        });
        said
    }

    /// Its hellos, taken out.
    pub(crate) fn take_hellos(&mut self) -> [Vec<u8>; 2] {
        let rest = self.messages.split_off(2);
        std::mem::replace(&mut self.messages, rest).try_into().unwrap()
    }
}

impl Recording {
    /// The last flight is lost, and both sides repeat theirs.
    fn of(kind: Kind, mut client: Client, answer: &mut Answers, mut server: Server) -> Self {
        let is_last = |from_client: bool, records: &[Vec<u8>]| {
            from_client == kind.known.is_abbreviated() && records.iter().any(|record| record[0] == 20)
        };
        let finished = |records: &[Vec<u8>]| records.iter().filter(|record| record[4] == 1).count();
        let (mut up, mut down, mut last) = (Vec::new(), Vec::new(), Vec::new());
        let (mut now, mut to_client) = (at(0), Vec::new());
        while finished(&up).min(finished(&down)) < COPIES {
            let to_server = transmit(&mut client, now, 1200);
            if to_server.is_empty() && to_client.is_empty() {
                let side =
                    if kind.known.is_abbreviated() { server.poll_timeout() } else { client.poll_timeout() };
                now = side.unwrap().min(at(now.as_millis() + 60_000));
                if kind.known.is_abbreviated() {
                    to_client = server.handle_timeout(now).1;
                } else {
                    client.handle_timeout(now);
                }
                continue;
            }
            for datagram in to_server {
                let records = split(&datagram, kind.id(false).len());
                if is_last(true, &records) {
                    last = datagram;
                } else {
                    to_client.extend(server.handle(now, &datagram).1);
                }
                up.extend(records);
            }
            for datagram in to_client.drain(..) {
                let records = split(&datagram, kind.id(true).len());
                if is_last(false, &records) {
                    last = datagram;
                } else {
                    receive(&mut client, now, &datagram);
                    while answer(&mut client, now).is_some() {}
                }
                down.extend(records);
            }
        }
        if kind.known.is_abbreviated() {
            assert_eq!(server.handle(now, &last).0, [Event::Resumed], "{kind:?}");
        } else {
            assert_eq!(receive(&mut client, now, &last), [Event::Established], "{kind:?}");
        }
        let (mut from_client, mut from_server) = (Said::of(&up), Said::of(&down));
        from_client.data = (0..DATA).map(|number| seal(&mut client, &data(number))).collect();
        from_server.data = (0..DATA).map(|number| seal(server.peer(), &data(number))).collect();
        client.close();
        server.peer().close();
        from_client.close = transmit(&mut client, now, 1200).pop().unwrap();
        from_server.close = transmit(server.peer_any(), now, 1200).pop().unwrap();
        Self { hellos: from_client.take_hellos(), client: from_client, server: from_server }
    }
}

pub(crate) fn data(number: usize) -> Vec<u8> {
    format!("data {number}").into_bytes()
}

/// The messages of a record in the clear, each in a record of its own. Flights that are repeated again and again are in pieces
/// at last, which are left out.
pub(crate) fn messages_of(record_of_several: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &record_of_several[13..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[9], rest[10], rest[11]]) as usize;
        let (message, behind) = rest.split_at(12 + length);
        if message[1..4] == message[9..12] {
            messages.push(record(22, 0, 1, message));
        }
        rest = behind;
    }
    messages
}

/// The records of a datagram to who wants a Connection ID of `id` bytes.
pub(crate) fn split(mut datagram: &[u8], id: usize) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        let head = if datagram[0] == 25 { 11 + id } else { 11 };
        let length = usize::from(u16::from_be_bytes([datagram[head], datagram[head + 1]]));
        let (record, rest) = datagram.split_at(head + 2 + length);
        records.push(record.to_vec());
        datagram = rest;
    }
    records
}
