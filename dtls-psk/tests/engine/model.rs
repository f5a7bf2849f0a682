//! Both roles against a model: records of one handshake in any order, repeated, in fragments, left out, and mixed with
//! messages of every type and epoch that somebody without a key makes up. Every kind of handshake has its turn: all suites,
//! sessions taken up and refused, tickets, Connection IDs; raw public keys and certificates, whose owners answer at once or
//! late.
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
    /// What the owner is asked, one question: the key, where a server looks it up.
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
    /// The message at this place of the peer's, under the number of the one at that place: out of its order, it may spoil
    /// a handshake, and is never one step of it.
    Displaced(usize, usize),
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
    /// What comes before there are keys, and after how much of it a ChangeCipherSpec has its place.
    turns: Vec<Turn>,
    ready: usize,
    received: Vec<bool>,
    /// How many turns a receiver that keeps nothing has behind it.
    sure: usize,
    answers_at_once: bool,
    answered: usize,
    spoilt: Spoilt,
    /// Something came that the owner may have been asked about.
    is_misled: bool,
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
    /// Of a side that has `needed` messages to come. A client says its ChangeCipherSpec before the server does, and needs
    /// everything for it.
    fn new(kind: Kind, needed: usize, turns: Vec<Turn>, is_client: bool, answers_at_once: bool) -> Self {
        let is_message = |turn: &Turn| matches!(turn, Turn::Message(_));
        let ready = turns.iter().rposition(is_message).map_or(0, |last| last + 1);
        Self {
            end: if kind.known.is_abbreviated() { Event::Resumed } else { Event::Established },
            ready: if is_client { turns.len() } else { ready },
            turns,
            received: vec![false; needed],
            sure: 0,
            answers_at_once,
            answered: 0,
            spoilt: Spoilt::No,
            is_misled: false,
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

    /// How many turns a receiver that keeps everything has behind it.
    fn most(&self) -> usize {
        let mut answers = 0..self.answered;
        let is_done = |turn: &Turn| match turn {
            Turn::Message(place) => self.received[*place],
            Turn::Question(_) => answers.next().is_some(),
        };
        self.turns.iter().copied().take_while(is_done).count()
    }

    /// What has its turn, if that is certain.
    fn certain(&self) -> Option<Turn> {
        let turn = (self.spoilt == Spoilt::No).then(|| self.turns.get(self.sure)).flatten();
        turn.copied()
    }

    fn must_have_keys(&self) -> bool {
        self.sure == self.turns.len() && self.spoilt == Spoilt::No
    }

    fn may_have_keys(&self) -> bool {
        self.most() == self.turns.len() && self.spoilt != Spoilt::Surely
    }

    /// The owner was asked this, and answered.
    fn answer(&mut self, question: &'static str) -> Result<(), &'static str> {
        let asked = Turn::Question(question);
        if !self.is_misled && self.turns.get(self.most()) != Some(&asked) {
            return Err("a question before its turn");
        }
        self.answered += 1;
        self.pass_answered();
        Ok(())
    }

    /// What is answered is not asked again.
    fn pass_answered(&mut self) {
        let is_question = |turn: &&Turn| matches!(turn, Turn::Question(_));
        while let Some(Turn::Question(_)) = self.turns.get(self.sure)
            && self.turns.iter().take(self.sure).filter(is_question).count() < self.answered
        {
            self.sure += 1;
        }
    }

    /// Whether a record number is used for the first time since there may be keys.
    fn is_fresh(&mut self, number: usize) -> bool {
        let was_used = self.used[number];
        self.used[number] |= self.may_have_keys();
        !was_used
    }

    fn is_surely_past(&self, place: usize) -> bool {
        self.turns.iter().take(self.sure).any(|turn| *turn == Turn::Message(place))
    }

    /// Takes a record in, and checks what the engine made of it: what it asked of the owner, and what came of that.
    fn step(
        &mut self,
        symbol: Symbol,
        asked: &[&'static str],
        came: Option<&Event>,
    ) -> Result<(), &'static str> {
        if self.closed {
            return if came.is_none() && asked.is_empty() { Ok(()) } else { Err("something after the end") };
        }
        let mut must_deliver = None;
        match symbol {
            Symbol::Message(place) => {
                self.received[place] = true;
                // RFC 6347 §4.2.2: a message whose turn it is is processed.
                self.sure += usize::from(self.turns.get(self.sure) == Some(&Turn::Message(place)));
                self.pass_answered();
            }
            Symbol::ChangeCipherSpec => {
                self.change_cipher_spec = true;
                self.sure_change_cipher_spec |= self.sure >= self.ready;
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
            Symbol::Spoilt(place) if self.is_surely_past(place) => {}
            Symbol::Spoilt(place) => {
                let is_next = self.certain() == Some(Turn::Message(place)) && self.most() == self.sure;
                self.spoilt = if is_next { Spoilt::Surely } else { self.spoilt.max_with(Spoilt::Maybe) };
                self.is_misled = true;
            }
            Symbol::Displaced(_, number) if self.is_surely_past(number) => {}
            Symbol::Displaced(..) => self.spoilt = self.spoilt.max_with(Spoilt::Maybe),
            Symbol::Acceptable if !self.must_have_keys() => {
                self.spoilt = self.spoilt.max_with(Spoilt::Maybe);
                self.is_misled = true;
            }
            Symbol::Close => self.close_notify = true,
            Symbol::Acceptable | Symbol::Answer | Symbol::Idle => {}
        }
        asked.iter().try_for_each(|question| self.answer(question))?;
        let is_owner_here = self.answers_at_once || (symbol == Symbol::Answer && asked.is_empty());
        if is_owner_here && came.is_none() && matches!(self.certain(), Some(Turn::Question(_))) {
            return Err("the owner was not asked");
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
fn symbols(random: &mut Random, needed: usize, turns: &[Turn]) -> Vec<Symbol> {
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
            0..=4 | 15 | 17 if needed == 0 => Symbol::Idle,
            0..=4 => Symbol::Message(place(random)),
            5 => Symbol::Answer,
            // Where there are more questions.
            18 | 19 if turns.len() > needed + 1 => Symbol::Answer,
            17 if random.below(4) == 0 => Symbol::Displaced(place(random), place(random)),
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
        // Now and then with one that has its turn once more, or another, in place of the next one.
        let displaced = if needed > 1 && random.below(4) == 0 { 1 + place(random) } else { needed };
        for turn in turns {
            if *turn == Turn::Message(displaced) {
                let other = [displaced - 1, place(random)][random.below(2) as usize];
                symbols.push(Symbol::Displaced(other, displaced));
            }
            symbols.push(match turn {
                Turn::Message(place) => Symbol::Message(*place),
                Turn::Question(_) => Symbol::Answer,
            });
        }
        symbols.extend([Symbol::ChangeCipherSpec, Symbol::Finished(COPIES - 1)]);
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
        Symbol::Displaced(place, number) => {
            let mut message = said.messages[place].clone();
            message[17..19].copy_from_slice(&said.messages[number][17..19]);
            vec![message]
        }
        Symbol::Answer | Symbol::Acceptable | Symbol::Idle => vec![],
    }
}

/// Whether this is the one that the other side said, under any number where it is in the clear.
fn is_same(record: &[u8], said: &[u8]) -> bool {
    record == said || (record[4] == 0 && record[0] == said[0] && record[13..] == said[13..])
}

/// Answers one question of the newest connection: which it was, and what came of it.
fn answer_of_server(server: &mut Server) -> Option<(&'static str, Option<Event>)> {
    if let Some((id, identity)) = server.asked.pop() {
        return Some(("look up", server.provide(at(1), 0, id, &identity)));
    }
    #[cfg(feature = "rpk")]
    if let Some(peer) = server.peers.first_mut().filter(|peer| peer.has_certificates()) {
        let event = server.owner.answer_one(peer, at(1))?;
        return Some((server.owner.asked.pop()?, event));
    }
    #[cfg(feature = "ecdhe")]
    if let Some((purpose, event)) = server.compute(at(1), 0) {
        // What it asks next is answered next.
        server.answer(at(1), 0);
        return Some((question_of(purpose), event));
    }
    None
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
        // Its owner is asked here.
        server.answers_at_once = false;
        let answers_at_once = random.below(2) == 0;
        server.handle(at(0), first);
        server.handle(at(0), second);
        let needed = recording.client.messages.len();
        let turns = kind.turns_of_server(needed);
        let mut model = Model::new(*kind, needed, turns.clone(), false, answers_at_once);
        let (mut order, mut script) = (Vec::new(), symbols(&mut random, needed, &turns));
        if answers_at_once {
            script.insert(0, Symbol::Answer);
        }
        // The types of the messages that are awaited in the clear.
        let codes: &[u8] = match needed {
            0 => &[],
            1 => &[16],
            _ => &[11, 15, 16],
        };
        for symbol in script {
            let symbol = match symbol {
                Symbol::Displaced(place, number) if place == number => Symbol::Idle,
                symbol => symbol,
            };
            order.push(symbol);
            let mut given = datagrams(&mut random, &recording.client, &other.client, symbol);
            match symbol {
                Symbol::Acceptable => {
                    let code = [16, 11, 15][random.below(codes.len().max(1) as u64) as usize];
                    given.push(message(code, random.below(5) as u16, &random_bytes(&mut random)))
                }
                Symbol::Idle => given.push(match random.below(12) {
                    0 => first.clone(),
                    1 if !model.closed => second.clone(),
                    2 => other.client.data[0].clone(),
                    3 => other.client.finished[random.below(COPIES as u64) as usize].clone(),
                    4 => {
                        let messages = &recording.server.messages;
                        let message = &messages[random.below(messages.len() as u64) as usize];
                        // A Certificate of its own comes back as one of the client's.
                        if codes.contains(&message[13]) { first.clone() } else { message.clone() }
                    }
                    5 => recording.server.finished[0].clone(),
                    _ => forged(&mut random, kind.id(false), codes),
                }),
                _ => {}
            }
            let (mut events, mut sent) = (Vec::new(), Vec::new());
            for datagram in given {
                let (more, answers) = server.handle(at(1), &datagram);
                events.extend(more);
                sent.extend(answers);
            }
            let mut asked = Vec::new();
            while (answers_at_once || (symbol == Symbol::Answer && asked.is_empty()))
                && let Some((question, event)) = answer_of_server(&mut server)
            {
                asked.push(question);
                events.extend(event);
                sent.extend(server.handle_timeout(at(1)).1);
            }
            assert!(events.len() <= 1, "seed {seed}, {kind:?}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, &asked, came) {
                panic!("seed {seed}, {kind:?}: {fault}: {asked:?} {came:?} after {order:?}");
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
                    let identity = (kind.proven == Proven::PreSharedKey).then_some(IDENTITY);
                    assert_eq!(server.peer().identity(), identity, "seed {seed}");
                }
                Some(Event::Resumed) => {
                    completed += 1;
                    assert!(sent.is_empty(), "seed {seed}: the server's Finished came first");
                }
                None if matches!(symbol, Symbol::Message(_) | Symbol::ChangeCipherSpec | Symbol::Data(_)) => {
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
        let turns = kind.turns_of_client(needed);
        let answers_at_once = random.below(2) == 0;
        let mut answer = case.answers_of_client(false);
        let mut model = Model::new(*kind, needed, turns.clone(), true, answers_at_once);
        let (mut order, mut said) = (Vec::new(), Vec::new());
        let codes: &[u8] =
            if kind.proven == Proven::PreSharedKey { &[2, 3, 12, 14] } else { &[2, 3, 12, 14, 11, 13] };
        for symbol in symbols(&mut random, needed, &turns) {
            // A ServerHelloDone has no content that could differ: made up, it is the genuine one in its place. And one cookie
            // is as good as another.
            let messages = &recording.server.messages;
            let code = codes[random.below(codes.len() as u64) as usize];
            let acceptable = message(code, random.below(7) as u16, &random_bytes(&mut random));
            let symbol = match symbol {
                // Nor has a CertificateRequest.
                Symbol::Spoilt(place) if [3, 13, 14].contains(&messages[place][13]) => Symbol::Idle,
                // What is not needed may be left out, so that what follows comes sooner.
                Symbol::Displaced(place, number)
                    if place == number || number < 2 || [2, 3, 14].contains(&messages[place][13]) =>
                {
                    Symbol::Idle
                }
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
                    _ => forged(&mut random, kind.id(true), codes),
                }),
                _ => {}
            }
            let mut events: Vec<_> =
                given.iter().flat_map(|datagram| receive(&mut client, at(1), datagram)).collect();
            let mut asked = Vec::new();
            while (answers_at_once || (symbol == Symbol::Answer && asked.is_empty()))
                && let Some((question, event)) = answer(&mut client, at(1))
            {
                asked.push(question);
                events.extend(event);
            }
            assert!(events.len() <= 1, "seed {seed}, {kind:?}: {events:?} after {order:?}");
            let came = events.first();
            if let Err(fault) = model.step(symbol, &asked, came) {
                panic!("seed {seed}, {kind:?}: {fault}: {asked:?} {came:?} after {order:?}");
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
                    let flight = said.iter().find(|datagram| [11, 16].contains(&datagram[13]));
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
