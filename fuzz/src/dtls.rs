//! DTLS 1.2 (RFC 6347) with pre-shared keys, raw public keys and certificates: both sides in memory, and somebody on the path.

use std::collections::VecDeque;

use dtls_psk::{
    Accepted, CertificateTypes, Choice, ClientCertificate, ClientHello, Config, Connection, ConnectionId,
    CookieJar, Datagram, HEADROOM, Handshake, Input, Instant, Operation, ProvideError, Psk, Resumption, Rng,
    SAVED_MAX, SealError, Session, Suite, Suites, TAILROOM, TicketKey, choose,
};

use crate::forgery::{change, client_hello, forge};
use crate::owner::{Manner, Owner, Reply};
use crate::script::{Script, random};

pub(crate) const IDENTITY: &[u8] = b"urn:imei:123456";
pub(crate) const KEY: &[u8; 16] = b"0123456789abcdef";
pub(crate) const PSK: Psk<'_> = Psk { identity: IDENTITY, key: KEY };
pub(crate) const ADDRESS: &[u8] = b"client";

/// How long a ticket is good, in seconds.
const LIFETIME: u32 = 3600;

type Side = Connection<512>;

/// A client between an honest server and somebody who drops, repeats, changes and invents what the server sends.
pub fn handshake_client(script: &[u8]) {
    let mut script = Script(script);
    Pair::new(Victim::Client, &Setup::read(&mut script)).play(script);
}

/// The same on the server's side, cookie included.
pub fn handshake_server(script: &[u8]) {
    let mut script = Script(script);
    Pair::new(Victim::Server, &Setup::read(&mut script)).play(script);
}

/// An established connection: what comes out went in, and only once.
pub fn record(script: &[u8]) {
    let mut script = Script(script);
    let setup = Setup { manners: [Manner::Honest; 2], ..Setup::read(&mut script) };
    let mut pair = Pair::new(Victim::Server, &setup);
    pair.honestly();
    assert!(pair.client.is_established() && pair.servers.iter().any(Side::is_established));
    while let Some(act) = script.byte() {
        if act & 0x80 == 0
            && let Some(text) = script.bytes()
        {
            pair.send(if act & 0x40 == 0 { Victim::Client } else { Victim::Server }, text);
        }
        if pair.attack(act, &mut script).is_none() {
            break;
        }
        pair.pump();
    }
    pair.honestly();
    pair.rest();
}

/// How both sides are configured, and what they know of each other: the first three bytes of a script, and with certificates
/// a fourth.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) client: Config,
    pub(crate) server: Config,
    acquaintance: Acquaintance,
    /// What the client proves itself with in place of a pre-shared key.
    pub(crate) certificate: Option<ClientCertificate<'static>>,
    /// Of the owners of client and server, and whether they answer late.
    manners: [Manner; 2],
    are_late: [bool; 2],
}

/// What there is of an earlier handshake.
#[derive(Clone, Copy, PartialEq)]
enum Acquaintance {
    /// Nothing, and nothing is kept of this one.
    None,
    /// Nothing yet.
    Wanted,
    /// A session, which the server knows by its id.
    ById,
    /// The same, and the server has forgotten it.
    Forgotten,
    /// A session that comes out of a ticket.
    ByTicket,
}

impl Setup {
    pub(crate) fn read(script: &mut Script<'_>) -> Self {
        let [first, ids, limits] = [(); 3].map(|()| script.byte().unwrap_or_default());
        let certificate = match first >> 3 & 7 {
            6 => Some(ClientCertificate::RawPublicKey),
            7 => Some(ClientCertificate::X509 { server_name: (ids & 1 == 0).then_some("server.example") }),
            _ => None,
        };
        let ways = certificate.and_then(|_| script.byte()).unwrap_or_default();
        let of_client = Suites::ALL.only(|suite| suite.is_ecdsa() == certificate.is_some());
        let of_client = of_client.expect("there are both kinds of them");
        let one = of_client.as_slice().get(usize::from(first & 7));
        let suites = |all: &[Suite]| Suites::new(one.map_or(all, std::slice::from_ref)).expect("a list");
        let mut client = Config::DEFAULT.with_suites(suites(of_client.as_slice()));
        let mut server = Config::DEFAULT.with_suites(suites(Suite::ALL));
        // So both groups have their turn.
        server = server.with_x25519_preferred(first & 0x40 != 0);
        if certificate.is_some() {
            server = server.with_certificate_types(CertificateTypes { raw_public_key: true, x509: true });
        }
        for (config, id, limit) in
            [(&mut client, ids & 0x0f, limits & 0x0f), (&mut server, ids >> 4, limits >> 4)]
        {
            *config = config.with_shared_records(first & 0x40 == 0);
            if let Some(length) = id.checked_sub(1) {
                let id = [0xc1; ConnectionId::MAX].get(..length.into()).and_then(ConnectionId::new);
                *config = config.with_connection_id(id.unwrap_or(ConnectionId::EMPTY));
            }
            if let Some(step) = limit.checked_sub(1) {
                *config = config.with_record_size_limit((64_u16 << (step / 2)) + u16::from(step % 2) * 17);
            }
        }
        if first & 0x80 != 0 {
            // A ClientHello is to be whole: a server without memory has no place for a part of it.
            let mtu = if certificate.is_some() { 240 } else { 160 };
            (client, server) = (client.with_mtu(mtu), server.with_mtu(80));
        }
        // Who has a certificate says it by the length of a Connection ID that is too long to be one.
        let acquaintance = match certificate.map_or(first >> 3 & 7, |_| (ids & 0x0f).saturating_sub(10)) {
            1 => Acquaintance::Wanted,
            2 => Acquaintance::ById,
            3 => Acquaintance::Forgotten,
            4 => Acquaintance::ByTicket,
            _ => Acquaintance::None,
        };
        Self {
            client,
            server,
            acquaintance,
            certificate,
            manners: [ways, ways >> 4].map(|way| Manner::ALL[usize::from(way & 7)]),
            are_late: [ways, ways >> 4].map(|way| way & 8 != 0),
        }
    }

    fn client(&self, now: u64, session: Option<&Session>, seed: u64) -> Side {
        let (now, memory, rng) = (Instant::from_millis(now), Handshake::new(), &mut random(seed));
        let client = match (self.acquaintance, self.certificate) {
            (Acquaintance::None, Some(certificate)) => {
                Side::certificate_client(now, &self.client, certificate, rng, memory)
            }
            (_, Some(certificate)) => {
                Side::resuming_certificate_client(now, &self.client, certificate, session, rng, memory)
            }
            (Acquaintance::None, _) => Side::client(now, &self.client, PSK, rng, memory),
            _ => Side::resuming_client(now, &self.client, PSK, session, rng, memory),
        };
        client.expect("identity, key and name are of a possible length")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Client,
    Server,
}

struct Pair {
    victim: Victim,
    setup: Setup,
    now: u64,
    client: Side,
    jar: CookieJar,
    /// At most one that is established and one under way, the newest first.
    servers: Vec<Side>,
    session: Option<Session>,
    tickets: TicketKey,
    /// Of the client and of the newest server, and what they have to answer.
    owners: [Owner; 2],
    replies: [Option<Reply>; 2],
    /// On the way to the victim; what goes the other way arrives at once.
    path: VecDeque<Vec<u8>>,
    /// Application data on its way from the client, and from the server.
    sent: [Vec<Vec<u8>>; 2],
    was_closed: bool,
    seed: u64,
}

impl Pair {
    fn new(victim: Victim, setup: &Setup) -> Self {
        let session = match setup.acquaintance {
            Acquaintance::None | Acquaintance::Wanted => None,
            _ => {
                let (acquaintance, manners) = (Acquaintance::Wanted, [Manner::Honest; 2]);
                let mut before = Self::new(victim, &Setup { acquaintance, manners, ..*setup });
                before.honestly();
                before.client.take_session()
            }
        };
        // Nothing is drawn twice: the id of a session that was forgotten is not that of the next one.
        let drawn = if session.is_some() { 1000 } else { 0 };
        Self {
            victim,
            setup: *setup,
            now: 0,
            client: setup.client(0, session.as_ref(), drawn + 1),
            jar: CookieJar::new(Instant::from_millis(0), &mut random(2)),
            servers: Vec::new(),
            session: session.filter(|_| setup.acquaintance != Acquaintance::Forgotten),
            tickets: TicketKey::derive(&[7; 32], 1),
            owners: [Owner::of_client(setup.manners[0]), Owner::of_server(setup.manners[1])],
            replies: [None, None],
            path: VecDeque::new(),
            sent: [Vec::new(), Vec::new()],
            was_closed: false,
            seed: drawn + 3,
        }
    }

    fn play(mut self, mut script: Script<'_>) {
        let is_left_alone = script.0.is_empty();
        let mut succeeded = false;
        self.pump();
        while let Some(act) = script.byte() {
            if self.attack(act, &mut script).is_none() {
                break;
            }
            self.pump();
        }
        // Left alone it comes to an end: mostly a good one, for nobody on the path can make an honest pair fail for good
        // but by keeping it apart.
        for _ in 0..40 {
            self.honestly();
            let is_alone = matches!(self.servers.as_slice(), [server] if server.is_established());
            if !self.was_closed && self.client.is_established() && is_alone {
                for from in [Victim::Client, Victim::Server] {
                    self.send(from, b"hello");
                    self.honestly();
                }
                assert_eq!(
                    self.sent,
                    [const { Vec::<Vec<u8>>::new() }; 2],
                    "two sides understand each other"
                );
                succeeded = true;
                break;
            }
            self.later();
        }
        // Nothing is asked where a session is taken up.
        let is_known = matches!(self.setup.acquaintance, Acquaintance::ById | Acquaintance::ByTicket);
        let should_succeed = is_known || self.setup.manners.iter().all(|manner| manner.succeeds());
        assert!(!is_left_alone || succeeded == should_succeed, "it is for the owners to say");
        self.rest();
    }

    fn attack(&mut self, act: u8, script: &mut Script<'_>) -> Option<()> {
        match act & 0x1f {
            3 | 4 => {
                let changes = script.bytes()?;
                self.deliver_next(|datagram| change(datagram, changes));
            }
            5 => drop(self.path.pop_front()),
            6 => {
                let again = self.path.front().cloned();
                self.deliver_next(|_| {});
                self.path.extend(again);
            }
            7 => self.path.rotate_left(usize::from(self.path.len() > 1)),
            8 => self.deliver(script.bytes()?.to_vec()),
            9 | 10 => {
                let [number, code, seq] = [script.byte()?, script.byte()?, script.byte()?];
                let forged = forge(number, code, seq, script.bytes()?);
                self.deliver(forged);
            }
            11 => {
                let length = usize::from(script.byte()?);
                self.deliver_next(|datagram| datagram.truncate(length));
            }
            12 => self.reply(self.victim),
            13 => self.later(),
            14 | 15 => self.now += script.millis()?,
            16 => self.introduce([script.bytes()?, script.bytes()?, script.bytes()?]),
            17 => self.challenge(script.byte()?),
            18 => match script.byte()? & 1 {
                0 => self.client.close(),
                _ => self.servers.iter_mut().for_each(Side::close),
            },
            19 => self.restore(script.millis()?),
            20 => self.restart(),
            _ => self.deliver_next(|_| {}),
        }
        Some(())
    }

    fn deliver_next(&mut self, changed: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mut datagram) = self.path.pop_front() {
            changed(&mut datagram);
            self.deliver(datagram);
        }
    }

    fn deliver(&mut self, datagram: Vec<u8>) {
        self.give(self.victim, datagram);
    }

    /// Somebody whose address is right comes with a ClientHello of his own.
    fn introduce(&mut self, [session_id, suites, extensions]: [&[u8]; 3]) {
        let (now, mut out) = (Instant::from_millis(self.now), [0; 256]);
        let first = client_hello(session_id, &[], suites, extensions);
        let rng = &mut random(5);
        if let Accepted::Reply(length) =
            self.jar.accept(now, &self.setup.server, rng, ADDRESS, &first, &mut out)
        {
            let cookie = out.get(28..length).unwrap_or_default();
            self.give(Victim::Server, client_hello(session_id, cookie, suites, extensions));
        }
    }

    /// One side wants to know whether the other is where its datagrams come from.
    fn challenge(&mut self, cookie: u8) {
        let mut out = [0; 100];
        let challenger = if cookie & 1 == 0 { Some(&mut self.client) } else { self.servers.first_mut() };
        let length = challenger.and_then(|side| side.challenge_path([cookie; 8], &mut out));
        if let Some(length) = length {
            let from = if cookie & 1 == 0 { Victim::Client } else { Victim::Server };
            self.forward(from, out[..length].to_vec());
        }
    }

    /// The server stops, and goes on with what it saved.
    fn restore(&mut self, skip: u64) {
        let Some(index) = self.servers.iter().position(Side::is_established) else { return };
        let mut saved = [0; SAVED_MAX];
        let length = self.servers.remove(index).save(&mut saved).expect("an established one is saved");
        let restored = Side::restore(&saved[..length], skip).expect("what was saved is restored");
        self.servers.insert(index, restored);
    }

    /// The client starts again, with its session if it has one.
    fn restart(&mut self) {
        let session = self.client.take_session();
        if session.is_some() && self.setup.acquaintance == Acquaintance::Wanted {
            self.setup.acquaintance = Acquaintance::ById;
        }
        self.seed += 2;
        self.client = self.setup.client(self.now, session.as_ref(), self.seed);
        self.replies[Victim::Client as usize] = None;
    }

    fn give(&mut self, side: Victim, mut bytes: Vec<u8>) {
        let now = Instant::from_millis(self.now);
        let connection = match side {
            Victim::Client => &mut self.client,
            Victim::Server => match choose(self.servers.iter(), &bytes, &mut vec![0; bytes.len()]) {
                Choice::New => return self.accept(&bytes),
                Choice::Candidate(index) => &mut self.servers[index],
                Choice::Dropped(_) => return,
            },
        };
        let mut datagram = Datagram::new(&mut bytes);
        let mut was_established = connection.is_established();
        let from_other = &mut self.sent[usize::from(side == Victim::Client)];
        let mut inputs = 0;
        while let Some(input) = connection.handle(now, &mut datagram) {
            inputs += 1;
            assert!(inputs < 200, "a datagram is used up");
            match input {
                Input::Application(text) => {
                    let index = from_other.iter().position(|sent| *sent == text);
                    from_other.remove(index.expect("what comes out went in, and only once"));
                }
                Input::Established { full } => {
                    assert!(!was_established, "a connection is established once");
                    was_established = true;
                    assert!(full || self.setup.acquaintance != Acquaintance::None);
                    let owner = &self.owners[side as usize];
                    assert!(!full || !connection.has_certificates() || owner.has_seen_the_peer);
                }
                Input::Closed(reason) => {
                    assert!(connection.is_closed() && !reason.to_string().is_empty());
                    self.was_closed = true;
                }
                _ => {}
            }
        }
        self.ask(side);
        self.settle();
    }

    /// Has the owner of a side decide what that asks.
    fn ask(&mut self, side: Victim) {
        let index = side as usize;
        let asks = match side {
            Victim::Client => Some(&mut self.client),
            Victim::Server => self.servers.first_mut(),
        };
        let Some(pending) = asks.and_then(Side::poll_pending) else { return };
        let find = |identity: &[u8]| (identity == IDENTITY).then_some(&KEY[..]);
        let is_look_up = matches!(pending.operation, Operation::LookUpPsk { .. });
        self.replies[index] = Some(self.owners[index].decide(&pending, find));
        // A key is looked up late always.
        if !is_look_up && !self.setup.are_late[index] {
            self.reply(side);
        }
    }

    fn accept(&mut self, bytes: &[u8]) {
        let now = Instant::from_millis(self.now);
        self.seed += 2;
        let mut rng = random(self.seed);
        let mut out = [0; 256];
        match self.jar.accept(now, &self.setup.server, &mut rng, ADDRESS, bytes, &mut out) {
            Accepted::Reply(length) => {
                assert!(length <= bytes.len(), "nobody is sent more than he sent");
                self.forward(Victim::Server, out[..length].to_vec());
            }
            Accepted::Verified(hello) => {
                let server = self.serve(now, &hello, &mut rng);
                self.servers.retain(Side::is_established);
                self.servers.insert(0, server);
                self.replies[Victim::Server as usize] = None;
                self.ask(Victim::Server);
            }
            Accepted::Refused { length, .. } => self.forward(Victim::Server, out[..length].to_vec()),
            Accepted::Dropped(_) => {}
        }
    }

    /// A connection for a client whose cookie was good.
    fn serve(&self, now: Instant, hello: &ClientHello<'_>, rng: &mut Rng<'_>) -> Side {
        let Setup { acquaintance, server, .. } = &self.setup;
        let known = self.session.as_ref().filter(|session| session.id() == hello.session_id());
        let of_known = known.filter(|_| *acquaintance == Acquaintance::ByTicket);
        let of_known = of_known.and_then(|session| self.tickets.seal(session, IDENTITY, LIFETIME));
        let ticket = of_known.as_ref().map_or(hello.session_ticket(), |ticket| Some(ticket.bytes()));
        let opened = ticket.and_then(|ticket| self.tickets.open(ticket)).map(|(session, _)| session);
        let renewed = (opened.as_ref().filter(|_| of_known.is_none()))
            .and_then(|session| self.tickets.seal(session, IDENTITY, LIFETIME));
        let mut id = [0; 4];
        rng(&mut id);
        let resumption = match (acquaintance, &opened, known) {
            (Acquaintance::None, ..) => Resumption::No,
            (_, Some(session), _) => Resumption::AcceptTicket { session, renewed: renewed.as_ref() },
            (_, None, Some(session)) => Resumption::Accept(session),
            _ if ticket.is_some() => Resumption::OfferTicket,
            _ => Resumption::Offer(&id),
        };
        Side::resuming_server(now, server, hello, resumption, rng, Handshake::new())
            .expect("the randomness is not all zeros")
    }

    /// Gives a side the answer that it waits for.
    fn reply(&mut self, side: Victim) {
        let index = side as usize;
        let asked = match side {
            Victim::Client => Some(&mut self.client),
            Victim::Server => self.servers.first_mut(),
        };
        let (Some(reply), Some(asked)) = (self.replies[index].take(), asked) else { return };
        let now = Instant::from_millis(self.now);
        let was_established = asked.is_established();
        if let Some(other) = reply.other() {
            let refused = asked.provide(now, reply.id(), other).expect_err("it is no answer");
            assert!(matches!(refused, ProvideError::OtherOperation | ProvideError::NotPending));
        }
        let tickets = &self.tickets;
        let provided = reply.with(|id, answer| {
            asked.provide_with_ticket(now, id, answer, |session| tickets.seal(session, IDENTITY, LIFETIME))
        });
        assert!(!was_established || provided.is_err(), "nothing is asked twice");
        if let Ok(Some(Input::Established { .. })) = provided {
            assert!(!asked.has_certificates() || self.owners[index].has_seen_the_peer);
        }
        self.was_closed |= matches!(provided, Ok(Some(Input::Closed(_))));
        self.ask(side);
        self.settle();
    }

    /// A handshake that is done replaces what was there before.
    fn settle(&mut self) {
        if let Some(newest) = self.servers.first_mut().filter(|newest| newest.is_established()) {
            self.session = newest.take_session().or(self.session.take());
            self.servers.truncate(1);
        }
    }

    fn send(&mut self, from: Victim, text: &[u8]) {
        let mut buffer = vec![0; HEADROOM + text.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + text.len()].copy_from_slice(text);
        let side = match from {
            Victim::Client => Some(&mut self.client),
            Victim::Server => self.servers.iter_mut().find(|server| server.is_established()),
        };
        let Some(side) = side else { return };
        let is_too_long = text.len() > side.longest_payload();
        match side.seal(&mut buffer, HEADROOM..HEADROOM + text.len()) {
            Ok(range) => {
                assert!(!is_too_long, "nothing is longer than what the peer takes");
                self.sent[from as usize].push(text.to_vec());
                self.forward(from, buffer[range].to_vec());
            }
            Err(SealError::TooLong) => assert!(is_too_long),
            Err(error) => assert!(!side.is_established(), "{error}"),
        }
    }

    /// Puts a datagram from `side` on its way.
    fn forward(&mut self, side: Victim, datagram: Vec<u8>) {
        if side == self.victim {
            let other = if side == Victim::Client { Victim::Server } else { Victim::Client };
            self.give(other, datagram);
        } else {
            self.path.push_back(datagram);
            self.path.truncate(16);
        }
    }

    /// Sends what both sides have to send.
    fn pump(&mut self) {
        let now = Instant::from_millis(self.now);
        for _ in 0..8 {
            let mut is_idle = true;
            for side in [Victim::Client, Victim::Server] {
                let mut out = [0; 600];
                for count in 0.. {
                    let length = match side {
                        Victim::Client => self.client.poll_transmit(now, &mut out),
                        Victim::Server => {
                            self.servers.iter_mut().find_map(|server| server.poll_transmit(now, &mut out))
                        }
                    };
                    let Some(length) = length else { break };
                    assert!(count < 24, "the flight ends");
                    is_idle = false;
                    self.forward(side, out[..length].to_vec());
                }
            }
            self.servers.retain(|server| !server.is_closed());
            // The owner of the honest side answers.
            let honest = if self.victim == Victim::Client { Victim::Server } else { Victim::Client };
            is_idle &= self.replies[honest as usize].is_none();
            self.reply(honest);
            if is_idle {
                return;
            }
        }
        panic!("two sides answer each other without end");
    }

    /// Delivers everything.
    fn honestly(&mut self) {
        for _ in 0..64 {
            self.pump();
            self.reply(Victim::Client);
            self.reply(Victim::Server);
            self.pump();
            if self.path.is_empty() && self.replies.iter().all(Option::is_none) {
                return;
            }
            self.deliver_next(|_| {});
        }
        panic!("two sides answer each other without end");
    }

    /// Moves on to the next time-out of either side.
    fn later(&mut self) {
        let sides = std::iter::once(&self.client).chain(&self.servers);
        let next = sides.filter_map(Side::poll_timeout).min();
        self.now = next.map_or(self.now, |next| self.now.max(next.as_millis()));
        let now = Instant::from_millis(self.now);
        for side in std::iter::once(&mut self.client).chain(&mut self.servers) {
            self.was_closed |= matches!(side.handle_timeout(now), Some(Input::Closed(_)));
            assert!(side.poll_timeout().is_none_or(|next| next > now), "a time-out is dealt with");
        }
    }

    /// Alone, each side comes to rest.
    fn rest(mut self) {
        let mut out = [0; 600];
        for _ in 0..400 {
            self.later();
            let now = Instant::from_millis(self.now);
            while self.client.poll_transmit(now, &mut out).is_some() {}
            for server in &mut self.servers {
                while server.poll_transmit(now, &mut out).is_some() {}
            }
        }
        for side in std::iter::once(&self.client).chain(&self.servers) {
            assert!(side.is_established() || side.is_closed());
            assert_eq!(side.poll_timeout(), None);
        }
    }
}
