//! Both roles against a model: records of one handshake in any order, repeated, in fragments, left out, and mixed with
//! messages of every type and epoch that somebody without a key makes up.
//!
//! The model knows the specification and not the engine. Where RFC 6347 leaves a choice, whether what comes too soon is kept
//! or dropped (§4.1, §4.2.2), it takes both ways: what a receiver does that keeps everything is the most that may happen, and
//! what one does that keeps nothing is the least that must. `LWM2M_SEEDS` sets the number of cases; a failure names its seed.

use crate::support::*;
use dtls_psk::{Config, Psk};

const STRANGER: &[u8] = b"urn:dev:os:0002";
const STRANGERS_KEY: &[u8] = &[0x33; 16];

/// How many copies of a Finished there are, each with a record number of its own, and how many records of data.
const COPIES: usize = 40;

fn seeds() -> u64 {
    std::env::var("LWM2M_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20_000)
}

/// Repeats a flight as often as it is asked for.
fn patient() -> Config {
    config(1, 1_000_000)
}

/// A server that knows a second identity, whose key the man in the middle has.
fn server_with(seed: u64) -> Server {
    let mut server = Server::new(seed);
    server.keys.push((STRANGER.to_vec(), STRANGERS_KEY.to_vec()));
    server.config = patient();
    server
}

fn client_as(identity: &[u8], key: &[u8], seed: u64) -> Client {
    client_with(&patient(), Psk { identity, key }, seed)
}

/// What one side says in a handshake and after it, record by record.
struct Said {
    /// The messages before its ChangeCipherSpec that the other side needs, in their order.
    messages: Vec<Vec<u8>>,
    change_cipher_spec: Vec<u8>,
    finished: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    close: Vec<u8>,
}

/// One whole handshake. Parties made anew with the same randomness expect the same one.
struct Recording {
    hellos: [Vec<u8>; 2],
    client: Said,
    server: Said,
}

impl Recording {
    fn of(mut client: Client, mut server: Server) -> Self {
        // The server's last flight is lost, and both sides repeat theirs.
        let (mut up, mut down, mut now) = (Vec::new(), Vec::new(), at(0));
        let mut last = Vec::new();
        while up.len() < COPIES + 2 {
            for datagram in transmit(&mut client, now, 1200) {
                let (_, answers) = server.handle(now, &datagram);
                up.push(records_of(&datagram));
                for answer in answers {
                    let records = records_of(&answer);
                    match records[0][0] {
                        20 => last = answer,
                        _ => assert!(receive(&mut client, now, &answer).is_empty()),
                    }
                    down.push(records);
                }
            }
            now = client.poll_timeout().unwrap().min(at(now.as_millis() + 60_000));
            client.handle_timeout(now);
        }
        assert_eq!(receive(&mut client, now, &last), [Event::Established]);
        let data = |number: usize| format!("data {number}").into_bytes();
        let client_data = (0..COPIES / 2).map(|number| seal(&mut client, &data(number))).collect();
        let server_data = (0..COPIES / 2).map(|number| seal(server.peer(), &data(number))).collect();
        client.close();
        server.peer().close();
        // ServerHelloDone is a header without a body.
        let (server_hello, server_hello_done) = down[1][0][13..].split_at(down[1][0].len() - 13 - 12);
        Self {
            hellos: [up[0][0].clone(), up[1][0].clone()],
            client: Said {
                messages: vec![up[2][0].clone()],
                change_cipher_spec: up[2][1].clone(),
                finished: up[2..].iter().map(|flight| flight[2].clone()).collect(),
                data: client_data,
                close: transmit(&mut client, now, 1200).remove(0),
            },
            server: Said {
                messages: vec![
                    down[0][0].clone(),
                    record(22, 0, 1, server_hello),
                    record(22, 0, 1, server_hello_done),
                ],
                change_cipher_spec: down[2][0].clone(),
                finished: down[2..].iter().map(|flight| flight[1].clone()).collect(),
                data: server_data,
                close: transmit(server.peer_any(), now, 1200).remove(0),
            },
        }
    }
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; random.below(70) as usize];
    random.fill(&mut bytes);
    bytes
}

/// A handshake message of any type, or a piece of one, but none of those that could be taken for one that is awaited.
fn random_message(random: &mut Random, epoch: u16, sequence: u64, but: &[u8]) -> Vec<u8> {
    let known = [0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 24];
    let code = match random.below(16) as usize {
        index if index < known.len() => known[index],
        _ => random.next() as u8,
    };
    if but.contains(&code) {
        return record(22, epoch, sequence, &[]);
    }
    let body = random_bytes(random);
    let message_seq = [random.below(8) as u16, random.next() as u16][random.below(2) as usize];
    let length = body.len() + [0, 0, 40, 5000][random.below(4) as usize];
    let offset = if length == body.len() { 0 } else { random.below(40) as usize };
    record(22, epoch, sequence, &fragment(code, length.max(offset + body.len()), message_seq, offset, &body))
}

/// What somebody without a key can make at any time. The messages in the clear that are awaited (`but`) are left out: those
/// can spoil a handshake, as anything in the clear can.
fn forged(random: &mut Random, but: &[u8]) -> Vec<u8> {
    let epoch = [0, 1, 2, 0xffff][random.below(4) as usize];
    let sequence = [random.below(90), (1 << 48) - 1][random.below(2) as usize];
    match random.below(10) {
        0 => record(21, epoch, sequence, &[1 + random.below(2) as u8, random.next() as u8]),
        1 => record(21, epoch, sequence, &[2, [0, 40][random.below(2) as usize]]),
        2 => record(23, epoch, sequence, &random_bytes(random)),
        3 => record(random.next() as u8, epoch.max(1), sequence, &random_bytes(random)),
        // RFC 5246 §7.1: a ChangeCipherSpec is the single byte 1; one that is protected is none of ours.
        4 if epoch == 0 => record(20, 0, sequence, &[0]),
        4 => record(20, epoch, sequence, &[1]),
        5 => random_message(random, epoch.max(1), sequence, &[]),
        _ => random_message(random, 0, sequence, but),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Symbol {
    /// The message at this place of the peer's, whole or in fragments.
    Message(usize),
    /// The key, where the server waits for it.
    Answer,
    ChangeCipherSpec,
    /// This copy of the Finished.
    Finished(usize),
    Data(usize),
    Close,
    /// The message at this place, of another handshake: in the clear it is as good as the genuine one.
    Spoilt(usize),
    /// A message in the clear of a type that is awaited, with any content.
    Acceptable,
    /// What can have no effect, ever: forged, or of another handshake and protected, or for the other role.
    Idle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoilt {
    No,
    Maybe,
    Surely,
}

/// What the specification says about the records that came so far.
struct Model {
    /// How many messages come before the peer's ChangeCipherSpec.
    needed: usize,
    received: Vec<bool>,
    /// How many of them a receiver that keeps nothing has processed.
    sure: usize,
    answered: bool,
    spoilt: Spoilt,
    change_cipher_spec: bool,
    /// One came where the specification has it, behind the messages.
    sure_change_cipher_spec: bool,
    finished: bool,
    used: Vec<bool>,
    must_be_established: bool,
    established: bool,
    delivered: Vec<bool>,
    closed: bool,
}

impl Model {
    fn new(needed: usize, answered: bool) -> Self {
        Self {
            needed,
            received: vec![false; needed],
            sure: 0,
            answered,
            spoilt: Spoilt::No,
            change_cipher_spec: false,
            sure_change_cipher_spec: false,
            finished: false,
            used: vec![false; COPIES / 2 + COPIES],
            must_be_established: false,
            established: false,
            delivered: vec![false; COPIES / 2],
            closed: false,
        }
    }

    /// How many messages a receiver that keeps everything has processed.
    fn most(&self) -> usize {
        self.received.iter().take_while(|received| **received).count()
    }

    fn must_have_keys(&self) -> bool {
        self.sure == self.needed && self.answered && self.spoilt == Spoilt::No
    }

    fn may_have_keys(&self) -> bool {
        self.most() == self.needed && self.answered && self.spoilt != Spoilt::Surely
    }

    /// Whether a record number is used for the first time since there may be keys.
    fn is_fresh(&mut self, number: usize) -> bool {
        let was_used = self.used[number];
        self.used[number] |= self.may_have_keys();
        !was_used
    }

    /// Takes a record in, and checks what the engine made of it.
    fn step(&mut self, symbol: Symbol, came: Option<&Event>) -> Result<(), &'static str> {
        if self.closed {
            return came.map_or(Ok(()), |_| Err("something after the end"));
        }
        let mut must_deliver = None;
        match symbol {
            Symbol::Message(place) => {
                self.received[place] = true;
                // RFC 6347 §4.2.2: a message whose turn it is is processed.
                self.sure += usize::from(place == self.sure);
            }
            Symbol::Answer => self.answered |= self.sure == self.needed || self.most() == self.needed,
            Symbol::ChangeCipherSpec => {
                self.change_cipher_spec = true;
                self.sure_change_cipher_spec |= self.sure == self.needed;
            }
            Symbol::Finished(copy) => {
                self.finished = true;
                let is_fresh = self.is_fresh(COPIES / 2 + copy);
                self.must_be_established |= is_fresh && self.must_have_keys() && self.sure_change_cipher_spec;
            }
            Symbol::Data(number) => {
                must_deliver = (self.is_fresh(number) && self.established).then_some(number)
            }
            Symbol::Spoilt(place) if place < self.sure => {}
            Symbol::Spoilt(place) => {
                let surely = place == self.sure && self.most() == place && self.spoilt == Spoilt::No;
                self.spoilt = if surely { Spoilt::Surely } else { self.spoilt.max_with(Spoilt::Maybe) };
            }
            Symbol::Acceptable if !self.must_have_keys() => self.spoilt = self.spoilt.max_with(Spoilt::Maybe),
            Symbol::Close | Symbol::Acceptable | Symbol::Idle => {}
        }
        match came {
            None => {}
            Some(Event::Established) => {
                if self.established || !self.may_have_keys() || !self.change_cipher_spec || !self.finished {
                    return Err("established without all of the handshake");
                }
                self.established = true;
            }
            Some(Event::Application(bytes)) => {
                let number = (0..COPIES / 2).find(|number| *bytes == format!("data {number}").into_bytes());
                let number = number.ok_or("data that nobody sent")?;
                if !self.established || symbol != Symbol::Data(number) || self.delivered[number] {
                    return Err("data too soon, or twice");
                }
                self.delivered[number] = true;
            }
            Some(Event::Closed(_)) => {
                // RFC 5246 §7.2.1: authentic, or a refusal of what is in the clear.
                let is_authentic = symbol == Symbol::Close && self.may_have_keys();
                let is_refusal = self.spoilt != Spoilt::No && !self.established;
                if !is_authentic && !is_refusal {
                    return Err("closed without a reason");
                }
                self.closed = true;
            }
            Some(_) => return Err("what no handshake of this kind brings"),
        }
        if symbol == Symbol::Close && self.established && !self.closed {
            return Err("not closed");
        }
        if must_deliver.is_some_and(|number| !self.delivered[number]) {
            return Err("data not delivered");
        }
        if self.must_be_established && !self.established && !self.closed {
            return Err("not established");
        }
        Ok(())
    }
}

impl Spoilt {
    fn max_with(self, other: Self) -> Self {
        if self == Self::No { other } else { self }
    }
}

/// A random order; the second half of the cases gets the specified order at its end.
fn symbols(random: &mut Random, needed: usize) -> Vec<Symbol> {
    let length = 1 + random.below(24);
    let mut copies = 0..COPIES;
    let mut finished = |random: &mut Random| {
        // Repeated by its sender under a new number, or by somebody else under an old one.
        let again = random.below(4) == 0;
        Symbol::Finished(if again { 0 } else { copies.next().unwrap() })
    };
    let place = |random: &mut Random| random.below(needed as u64) as usize;
    let mut symbols: Vec<_> = (0..length)
        .map(|_| match random.below(24) {
            0..=4 => Symbol::Message(place(random)),
            5 => Symbol::Answer,
            6..=8 => Symbol::ChangeCipherSpec,
            9..=11 => finished(random),
            12 | 13 => Symbol::Data(random.below(4) as usize),
            14 if random.below(2) == 0 => Symbol::Close,
            15 if random.below(8) == 0 => Symbol::Spoilt(place(random)),
            16 if random.below(8) == 0 => Symbol::Acceptable,
            _ => Symbol::Idle,
        })
        .collect();
    if random.below(2) == 0 {
        symbols.extend((0..needed).map(Symbol::Message));
        symbols.extend([Symbol::Answer, Symbol::ChangeCipherSpec, Symbol::Finished(COPIES - 1)]);
        symbols.extend([Symbol::Data(4), Symbol::Idle, Symbol::Data(5), Symbol::Data(4), Symbol::Close]);
        symbols.extend([Symbol::Data(6), Symbol::Finished(COPIES - 2), Symbol::Close]);
    }
    symbols
}

/// A message whole, or in two or three pieces that come in any order and overlap.
fn in_pieces(random: &mut Random, message: &[u8]) -> Vec<Vec<u8>> {
    let body = &message[25..];
    if random.below(2) == 0 || body.len() < 2 {
        return vec![message.to_vec()];
    }
    let message_seq = u16::from_be_bytes([message[17], message[18]]);
    let cut = 1 + random.below(body.len() as u64 - 1) as usize;
    let back = cut - random.below(cut as u64) as usize;
    let mut pieces: Vec<_> = [(0, cut), (back, body.len())]
        .map(|(from, to)| fragment(message[13], body.len(), message_seq, from, &body[from..to]))
        .map(|piece| record(22, 0, 3, &piece))
        .into();
    if random.below(2) == 0 {
        pieces.reverse();
    }
    pieces
}

/// What of the peer's a symbol stands for, one datagram or several.
fn datagrams(random: &mut Random, said: &Said, other: &Said, symbol: Symbol) -> Vec<Vec<u8>> {
    match symbol {
        // A HelloVerifyRequest is never in pieces: its sender keeps nothing.
        Symbol::Message(0) if said.messages.len() > 1 => vec![said.messages[0].clone()],
        Symbol::Message(place) => in_pieces(random, &said.messages[place]),
        Symbol::ChangeCipherSpec => vec![said.change_cipher_spec.clone()],
        Symbol::Finished(copy) => vec![said.finished[copy].clone()],
        Symbol::Data(number) => vec![said.data[number].clone()],
        Symbol::Close => vec![said.close.clone()],
        Symbol::Spoilt(place) => vec![other.messages[place].clone()],
        Symbol::Answer | Symbol::Acceptable | Symbol::Idle => vec![],
    }
}

#[test]
fn a_server_completes_in_the_specified_order_only() {
    let recording = Recording::of(client_as(IDENTITY, KEY, 1), server_with(2));
    let other = Recording::of(client_as(STRANGER, STRANGERS_KEY, 7), server_with(3));
    let [first, second] = &recording.hellos;
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut server = server_with(2);
        server.answers_at_once = random.below(2) == 0;
        server.handle(at(0), first);
        server.handle(at(0), second);
        let mut model = Model::new(1, server.answers_at_once);
        let mut order = Vec::new();
        for symbol in symbols(&mut random, 1) {
            order.push(symbol);
            let mut given = datagrams(&mut random, &recording.client, &other.client, symbol);
            match symbol {
                Symbol::Acceptable => {
                    given.push(message(16, random.below(4) as u16, &random_bytes(&mut random)))
                }
                Symbol::Idle => given.push(match random.below(12) {
                    0 => first.clone(),
                    1 if !model.closed => second.clone(),
                    2 => other.client.data[0].clone(),
                    3 => other.client.finished[random.below(COPIES as u64) as usize].clone(),
                    4 => recording.server.messages[random.below(3) as usize].clone(),
                    5 => recording.server.finished[0].clone(),
                    _ => forged(&mut random, &[16]),
                }),
                _ => {}
            }
            let (mut events, mut sent) = (Vec::new(), Vec::new());
            for datagram in given {
                let (more, answers) = server.handle(at(1), &datagram);
                events.extend(more);
                sent.extend(answers);
            }
            if symbol == Symbol::Answer
                && let Some((id, identity)) = server.asked.pop()
            {
                events.extend(server.provide(at(1), 0, id, &identity));
                sent.extend(server.handle_timeout(at(1)).1);
            }
            assert!(events.len() <= 1, "seed {seed}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, came) {
                panic!("seed {seed}: {fault}: {came:?} after {order:?}");
            }
            if came == Some(&Event::Established) {
                completed += 1;
                // The same keys as the client has.
                assert_eq!(records_of(&sent[0])[1], recording.server.finished[0], "seed {seed}");
                assert_eq!(server.peer().identity(), Some(IDENTITY), "seed {seed}");
            } else if matches!(symbol, Symbol::Message(_) | Symbol::ChangeCipherSpec | Symbol::Data(_)) {
                assert!(sent.is_empty(), "seed {seed}: nothing is to be answered after {order:?}");
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}

#[test]
fn a_client_completes_in_the_specified_order_only() {
    let recording = Recording::of(client_as(IDENTITY, KEY, 1), server_with(2));
    let other = Recording::of(client_as(IDENTITY, KEY, 7), server_with(3));
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut client = client_as(IDENTITY, KEY, 1);
        transmit(&mut client, at(0), 1200);
        let mut model = Model::new(3, true);
        let (mut order, mut said) = (Vec::new(), Vec::new());
        for symbol in symbols(&mut random, 3) {
            // A ServerHelloDone has no content that could differ, and one cookie is as good as another.
            let symbol = if matches!(symbol, Symbol::Spoilt(0 | 2)) { Symbol::Idle } else { symbol };
            order.push(symbol);
            let mut given = datagrams(&mut random, &recording.server, &other.server, symbol);
            match symbol {
                Symbol::Acceptable => {
                    let code = [2, 3, 12, 14][random.below(4) as usize];
                    given.push(message(code, random.below(4) as u16, &random_bytes(&mut random)));
                }
                Symbol::Idle => given.push(match random.below(12) {
                    0 => other.server.finished[random.below(COPIES as u64) as usize].clone(),
                    1 => other.server.data[0].clone(),
                    2 => recording.client.finished[0].clone(),
                    3 => recording.client.messages[0].clone(),
                    4 => recording.hellos[1].clone(),
                    // A HelloRequest has no place in a handshake and starts none after it.
                    _ => forged(&mut random, &[2, 3, 12, 14]),
                }),
                _ => {}
            }
            let events: Vec<_> =
                given.iter().flat_map(|datagram| receive(&mut client, at(1), datagram)).collect();
            assert!(events.len() <= 1, "seed {seed}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, came) {
                panic!("seed {seed}: {fault}: {came:?} after {order:?}");
            }
            // Now and then what it has to say waits, the alert of an end too.
            if random.below(4) > 0 {
                said.extend(transmit(&mut client, at(1), 1200));
            }
            if came == Some(&Event::Established) {
                completed += 1;
                // The same keys as the server has, and the same transcript.
                let is_flight = |datagram: &&Vec<u8>| records_of(datagram).len() == 3;
                let flight = said.iter().find(is_flight);
                let finished = &recording.client.finished[0];
                assert!(flight.is_none_or(|flight| flight.ends_with(finished)), "seed {seed}");
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}
