//! Both roles against a model: records of one handshake in any order, repeated, in fragments, left out, and mixed with
//! messages of every type and epoch that somebody without a key makes up. Every kind of handshake has its turn: all suites of
//! pre-shared keys, sessions taken up and refused, tickets, Connection IDs.
//!
//! The model knows the specification and not the engine. Where RFC 6347 leaves a choice, whether what comes too soon is kept
//! or dropped (§4.1, §4.2.2), it takes both ways: what a receiver does that keeps everything is the most that may happen, and
//! what one does that keeps nothing is the least that must. `LWM2M_SEEDS` sets the number of cases; a failure names its seed.

use crate::recordings::*;
use crate::support::*;

fn seeds() -> u64 {
    std::env::var("LWM2M_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20_000)
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

/// What somebody without a key can make at any time, for who wants this Connection ID. The messages in the clear that are
/// awaited (`but`) are left out: those can spoil a handshake, as anything in the clear can.
fn forged(random: &mut Random, id: &[u8], but: &[u8]) -> Vec<u8> {
    let epoch = [0, 1, 2, 0xffff][random.below(4) as usize];
    let sequence = [random.below(90), (1 << 48) - 1][random.below(2) as usize];
    match random.below(11) {
        10 => {
            let mut record = record(25, epoch.max(1), sequence, &random_bytes(random));
            record.splice(11..11, id.iter().copied());
            record
        }
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
    /// What a handshake of this kind ends with.
    end: Event,
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
    close_notify: bool,
    closed: bool,
}

impl Model {
    fn new(kind: Kind, needed: usize, answered: bool) -> Self {
        Self {
            end: if kind.known.is_abbreviated() { Event::Resumed } else { Event::Established },
            needed,
            received: vec![false; needed],
            sure: 0,
            answered,
            spoilt: Spoilt::No,
            change_cipher_spec: false,
            sure_change_cipher_spec: false,
            finished: false,
            used: vec![false; DATA + COPIES],
            must_be_established: false,
            established: false,
            delivered: vec![false; DATA],
            close_notify: false,
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
                let is_fresh = self.is_fresh(DATA + copy);
                self.must_be_established |= is_fresh && self.must_have_keys() && self.sure_change_cipher_spec;
            }
            Symbol::Data(number) => {
                must_deliver = (self.is_fresh(number) && self.established).then_some(number);
                // Where types are hidden, what comes before its keys may be kept as a Finished is, and is too early even then.
                self.used[number] = true;
            }
            Symbol::Spoilt(place) if place < self.sure => {}
            Symbol::Spoilt(place) => {
                let surely = place == self.sure && self.most() == place && self.spoilt == Spoilt::No;
                self.spoilt = if surely { Spoilt::Surely } else { self.spoilt.max_with(Spoilt::Maybe) };
            }
            Symbol::Acceptable if !self.must_have_keys() => self.spoilt = self.spoilt.max_with(Spoilt::Maybe),
            Symbol::Close => self.close_notify = true,
            Symbol::Acceptable | Symbol::Idle => {}
        }
        match came {
            None => {}
            Some(end @ (Event::Established | Event::Resumed)) => {
                if *end != self.end {
                    return Err("a handshake of the other kind");
                }
                if self.established || !self.may_have_keys() || !self.change_cipher_spec || !self.finished {
                    return Err("established without all of the handshake");
                }
                self.established = true;
            }
            Some(Event::Application(bytes)) => {
                let number = (0..DATA).find(|number| *bytes == data(*number));
                let number = number.ok_or("data that nobody sent")?;
                if !self.established || symbol != Symbol::Data(number) || self.delivered[number] {
                    return Err("data too soon, or twice");
                }
                self.delivered[number] = true;
            }
            Some(Event::Closed(_)) => {
                // RFC 5246 §7.2.1: authentic, or a refusal of what is in the clear.
                let is_authentic = self.close_notify && self.may_have_keys();
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
            0..=4 | 15 if needed == 0 => Symbol::Idle,
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
        Symbol::Message(place) if said.messages[place][13] == 3 => vec![said.messages[place].clone()],
        Symbol::Message(place) => in_pieces(random, &said.messages[place]),
        Symbol::ChangeCipherSpec => vec![said.change_cipher_spec.clone()],
        Symbol::Finished(copy) => vec![said.finished[copy].clone()],
        Symbol::Data(number) => vec![said.data[number].clone()],
        Symbol::Close => vec![said.close.clone()],
        Symbol::Spoilt(place) => vec![other.messages[place].clone()],
        Symbol::Answer | Symbol::Acceptable | Symbol::Idle => vec![],
    }
}

/// Whether this is the one that the other side said, under any number where it is in the clear.
fn is_same(record: &[u8], said: &[u8]) -> bool {
    record == said || (record[4] == 0 && record[0] == said[0] && record[13..] == said[13..])
}

#[test]
fn a_server_completes_in_the_specified_order_only() {
    let cases = Case::all();
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let case = Case::draw(&mut random, &cases);
        let Case { kind, recording, other } = case;
        let [first, second] = &recording.hellos;
        let mut server = case.server(2);
        server.answers_at_once = random.below(2) == 0;
        server.handle(at(0), first);
        server.handle(at(0), second);
        let needed = recording.client.messages.len();
        let mut model = Model::new(*kind, needed, server.answers_at_once || needed == 0);
        let mut order = Vec::new();
        for symbol in symbols(&mut random, needed) {
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
                    4 => {
                        let messages = &recording.server.messages;
                        messages[random.below(messages.len() as u64) as usize].clone()
                    }
                    5 => recording.server.finished[0].clone(),
                    // A ClientKeyExchange is awaited in a full handshake only.
                    _ => forged(&mut random, kind.id(false), if needed == 0 { &[] } else { &[16] }),
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
            assert!(events.len() <= 1, "seed {seed}, {kind:?}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, came) {
                panic!("seed {seed}, {kind:?}: {fault}: {came:?} after {order:?}");
            }
            match came {
                Some(Event::Established) => {
                    completed += 1;
                    // The same keys as the client has, and in front of them the ticket that was promised.
                    let Said { messages, change_cipher_spec, finished, .. } = &recording.server;
                    let ticket = messages.last().filter(|message| message[13] == 4);
                    let expected = ticket.into_iter().chain([change_cipher_spec, &finished[0]]);
                    let sent = split(&sent.concat(), kind.id(true).len());
                    assert!(
                        sent.iter().zip(expected.clone()).all(|(sent, said)| is_same(sent, said)),
                        "seed {seed}"
                    );
                    assert_eq!(sent.len(), expected.count(), "seed {seed}");
                    assert_eq!(server.peer().identity(), Some(IDENTITY), "seed {seed}");
                }
                Some(Event::Resumed) => {
                    completed += 1;
                    assert!(sent.is_empty(), "seed {seed}: the server's Finished came first");
                }
                _ if matches!(symbol, Symbol::Message(_) | Symbol::ChangeCipherSpec | Symbol::Data(_)) => {
                    assert!(sent.is_empty(), "seed {seed}: nothing is to be answered after {order:?}");
                }
                _ => {}
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}

#[test]
fn a_client_completes_in_the_specified_order_only() {
    let mut cases = Case::all();
    cases.retain(|case| case.kind.is_for_own_client());
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let case = Case::draw(&mut random, &cases);
        let Case { kind, recording, other } = case;
        let mut client = case.client(1);
        transmit(&mut client, at(0), 1200);
        let needed = recording.server.messages.len();
        let mut model = Model::new(*kind, needed, true);
        let (mut order, mut said) = (Vec::new(), Vec::new());
        for symbol in symbols(&mut random, needed) {
            // A ServerHelloDone has no content that could differ: made up, it is the genuine one in its place. And one cookie
            // is as good as another.
            let messages = &recording.server.messages;
            let code = [2, 3, 12, 14][random.below(4) as usize];
            let acceptable = message(code, random.below(4) as u16, &random_bytes(&mut random));
            let symbol = match symbol {
                Symbol::Spoilt(place) if [3, 14].contains(&messages[place][13]) => Symbol::Idle,
                Symbol::Acceptable => (messages.iter())
                    .position(|genuine| genuine[13..] == acceptable[13..])
                    .map_or(Symbol::Acceptable, Symbol::Message),
                symbol => symbol,
            };
            order.push(symbol);
            let mut given = datagrams(&mut random, &recording.server, &other.server, symbol);
            match symbol {
                Symbol::Acceptable => given.push(acceptable),
                Symbol::Idle => given.push(match random.below(12) {
                    0 => other.server.finished[random.below(COPIES as u64) as usize].clone(),
                    1 => other.server.data[0].clone(),
                    2 => recording.client.finished[0].clone(),
                    3 => message(16, random.below(4) as u16, &random_bytes(&mut random)),
                    4 => recording.hellos[1].clone(),
                    // A HelloRequest has no place in a handshake and starts none after it, and a NewSessionTicket is only for
                    // who asked for one.
                    _ => forged(&mut random, kind.id(true), &[2, 3, 12, 14]),
                }),
                _ => {}
            }
            let events: Vec<_> =
                given.iter().flat_map(|datagram| receive(&mut client, at(1), datagram)).collect();
            assert!(events.len() <= 1, "seed {seed}, {kind:?}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, came) {
                panic!("seed {seed}, {kind:?}: {fault}: {came:?} after {order:?}");
            }
            // Now and then what it has to say waits, the alert of an end too.
            if random.below(4) > 0 || came == Some(&Event::Resumed) {
                said.extend(transmit(&mut client, at(1), 1200));
            }
            // The same keys as the server has, and the same transcript.
            let finished = &recording.client.finished[0];
            match came {
                Some(Event::Established) => {
                    completed += 1;
                    let flight = said.iter().find(|datagram| datagram[13] == 16);
                    assert!(flight.is_none_or(|flight| flight.ends_with(finished)), "seed {seed}");
                }
                Some(Event::Resumed) => {
                    completed += 1;
                    let last = split(said.last().unwrap(), kind.id(false).len());
                    assert!(last.len() == 2 && last[0][0] == 20 && last[1] == *finished, "seed {seed}");
                }
                _ => {}
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}
