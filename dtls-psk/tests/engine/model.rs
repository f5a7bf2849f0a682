//! Both roles against a model: records of one handshake in any order, repeated, left out and mixed with forged ones of every
//! type and epoch. The model knows only which order is specified (RFC 6347 §4.2.4); the engine must complete exactly where
//! the model does. `LWM2M_SEEDS` sets the number of cases; a failure names its seed.

use crate::support::*;
use dtls_psk::{Config, Psk};

const STRANGER: &[u8] = b"urn:dev:os:0002";
const STRANGERS_KEY: &[u8] = &[0x33; 16];

fn seeds() -> u64 {
    std::env::var("LWM2M_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20_000)
}

/// A server that knows a second identity, whose key the man in the middle has.
fn server_with(seed: u64) -> Server {
    let mut server = Server::new(seed);
    server.keys.push((STRANGER.to_vec(), STRANGERS_KEY.to_vec()));
    server
}

fn server() -> Server {
    server_with(2)
}

/// The records of one whole handshake and of what followed. Parties made anew with the same randomness expect the same ones.
struct Recording {
    hellos: [Vec<u8>; 2],
    hello_verify_request: Vec<u8>,
    server_hello: Vec<u8>,
    server_hello_done: Vec<u8>,
    key_exchange: Vec<u8>,
    change_cipher_spec: Vec<u8>,
    client_finished: Vec<u8>,
    server_finished: Vec<u8>,
    client_data: Vec<u8>,
    server_data: Vec<u8>,
    client_close: Vec<u8>,
    server_close: Vec<u8>,
}

impl Recording {
    fn of(mut client: Client, mut server: Server) -> Self {
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
        let up: Vec<_> = talk.from_client.iter().flat_map(|datagram| records_of(datagram)).collect();
        let down: Vec<_> = talk.from_server.iter().flat_map(|datagram| records_of(datagram)).collect();
        let [first, second, key_exchange, change_cipher_spec, client_finished] = up.try_into().unwrap();
        let [hello_verify_request, hello_and_done, _, server_finished] = <[_; 4]>::try_from(down).unwrap();
        // ServerHelloDone is a header without a body.
        let (server_hello, server_hello_done) = hello_and_done[13..].split_at(hello_and_done.len() - 13 - 12);
        let (client_data, server_data) = (seal(&mut client, b"up"), seal(server.peer(), b"down"));
        client.close();
        server.peer().close();
        Self {
            hellos: [first, second],
            hello_verify_request,
            server_hello: record(22, 0, 1, server_hello),
            server_hello_done: record(22, 0, 1, server_hello_done),
            key_exchange,
            change_cipher_spec,
            client_finished,
            server_finished,
            client_data,
            server_data,
            client_close: transmit(&mut client, at(1), 1200).remove(0),
            server_close: transmit(server.peer_any(), at(1), 1200).remove(0),
        }
    }
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; random.below(70) as usize];
    random.fill(&mut bytes);
    bytes
}

fn random_message(random: &mut Random, epoch: u16, but: &[u8]) -> Vec<u8> {
    let code = [0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 24, 255][random.below(14) as usize];
    if but.contains(&code) {
        return vec![];
    }
    let body = random_bytes(random);
    let message_seq = random.below(6) as u16;
    record(22, epoch, random.below(8), &fragment(code, body.len(), message_seq, 0, &body))
}

/// What the man in the middle can make without a key and may send at any time: none of it changes anything.
fn forged(random: &mut Random) -> Vec<u8> {
    let epoch = [0, 1, 2, 0xffff][random.below(4) as usize];
    let sequence = [random.below(8), (1 << 48) - 1][random.below(2) as usize];
    match random.below(6) {
        0 => record(21, epoch, sequence, &[1 + random.below(2) as u8, random.next() as u8]),
        1 => record(21, epoch, sequence, &[2, [0, 40][random.below(2) as usize]]),
        2 => record(23, epoch, sequence, &random_bytes(random)),
        3 => record(random.next() as u8, epoch.max(2), sequence, &random_bytes(random)),
        // RFC 5246 §7.1: a ChangeCipherSpec is the single byte 1; one that is protected is none of ours.
        4 if epoch == 0 => record(20, 0, sequence, &[0]),
        4 => record(20, epoch, sequence, &[1]),
        _ => random_message(random, epoch.max(2), &[]),
    }
}

/// The only orders that complete: the messages of the peer's flights one after the other, then its Finished, and somewhere a
/// ChangeCipherSpec, which carries nothing. What overtakes its neighbour waits for it.
#[derive(Default)]
struct Model {
    in_order: usize,
    /// A ServerHelloDone overtook its ServerHello.
    held: bool,
    /// A Finished overtook the ClientKeyExchange: a server keeps one record for which it has no keys yet.
    early: bool,
    change_cipher_spec: bool,
    finished: bool,
    established: bool,
    data: bool,
    delivered: bool,
    closed: bool,
    spoilt: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Symbol {
    /// The message at this place of the peer's flights before its ChangeCipherSpec.
    InOrder(usize),
    ChangeCipherSpec,
    Finished,
    Data,
    Close,
    /// An awaited message in the clear, with other content.
    Spoilt(usize),
    /// A message of any type, in the clear or not authentic, which may displace one that waits for its turn, and can do no
    /// more.
    Displacing,
    /// Changes nothing, ever.
    Idle,
}

impl Model {
    /// What the engine must report, given that the peer needs `needed` messages before its ChangeCipherSpec.
    fn step(&mut self, symbol: Symbol, needed: usize, data: &[u8]) -> Option<&'static str> {
        let keys = self.in_order == needed;
        if self.closed {
            return None;
        }
        match symbol {
            Symbol::InOrder(place) if place == self.in_order => self.in_order += 1,
            Symbol::InOrder(2) if self.in_order == 1 => self.held = true,
            Symbol::Spoilt(place) if place == self.in_order => {
                self.in_order += 1;
                self.spoilt = true;
            }
            Symbol::ChangeCipherSpec => self.change_cipher_spec = true,
            Symbol::Finished if keys => self.finished = true,
            Symbol::Finished if needed == 1 => self.early = true,
            Symbol::Data if self.established && !self.data => {
                assert!(!data.is_empty());
                self.data = true;
                return Some("data");
            }
            // Authentic but early: dropped, and its number is used up.
            Symbol::Data if keys && !self.spoilt => self.data = true,
            Symbol::Close if keys && !self.spoilt => {
                self.closed = true;
                return Some("closed");
            }
            _ => {}
        }
        if self.held && self.in_order == 2 {
            self.in_order = 3;
        }
        if self.early && self.in_order == needed {
            self.early = false;
            self.finished = true;
        }
        if self.change_cipher_spec && self.finished && !self.spoilt && !self.established {
            self.established = true;
            return Some("established");
        }
        None
    }

    /// Compares what was expected with what came. What was displaced may be missing and comes again; nothing may come too
    /// soon or twice.
    fn check(&mut self, expected: Option<&str>, came: Option<&str>, order: &[Symbol]) -> bool {
        let is_first_data = came == Some("data") && !self.delivered;
        self.delivered |= came == Some("data");
        if expected == came {
            return true;
        }
        let displaced = order.contains(&Symbol::Displacing);
        match (expected, came) {
            (Some("established"), None) => {
                self.established = false;
                self.finished = false;
                displaced
            }
            (Some("closed"), None) => {
                self.closed = false;
                displaced && !self.established
            }
            (None, Some("data")) => displaced && self.established && is_first_data,
            _ => false,
        }
    }
}

fn names(events: &[Event], data: &[u8]) -> Option<&'static str> {
    match events {
        [] => None,
        [Event::Established | Event::Resumed] => Some("established"),
        [Event::Application(bytes)] => {
            assert_eq!(bytes, data);
            Some("data")
        }
        [Event::Closed(_)] => Some("closed"),
        other => panic!("{other:?}"),
    }
}

/// A random order; the second half of the cases gets the specified order at its end.
fn symbols(random: &mut Random, needed: usize) -> Vec<Symbol> {
    let length = 1 + random.below(24);
    let mut symbols: Vec<_> = (0..length)
        .map(|_| match random.below(20) {
            0..=4 => Symbol::InOrder(random.below(needed as u64) as usize),
            5..=7 => Symbol::ChangeCipherSpec,
            8..=10 => Symbol::Finished,
            11 | 12 => Symbol::Data,
            13 => Symbol::Close,
            14 => Symbol::Displacing,
            15 if random.below(8) == 0 => Symbol::Spoilt(random.below(needed as u64) as usize),
            _ => Symbol::Idle,
        })
        .collect();
    if random.below(2) == 0 {
        symbols.extend((0..needed).map(Symbol::InOrder));
        symbols.extend([
            Symbol::ChangeCipherSpec,
            Symbol::Finished,
            Symbol::Data,
            Symbol::Data,
            Symbol::Close,
        ]);
        symbols.extend([Symbol::Data, Symbol::Finished, Symbol::Close]);
    }
    symbols
}

#[test]
fn a_server_completes_in_the_specified_order_only() {
    let recording = Recording::of(new_client(), server());
    let [first, second] = &recording.hellos;
    let other = Recording::of(
        client_with(&Config::DEFAULT, Psk { identity: STRANGER, key: STRANGERS_KEY }, 7),
        server_with(3),
    );
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut server = server();
        server.handle(at(0), first);
        server.handle(at(0), second);
        let mut model = Model::default();
        let mut order = Vec::new();
        for symbol in symbols(&mut random, 1) {
            order.push(symbol);
            let datagram = match symbol {
                Symbol::InOrder(_) => recording.key_exchange.clone(),
                Symbol::ChangeCipherSpec => recording.change_cipher_spec.clone(),
                Symbol::Finished => recording.client_finished.clone(),
                Symbol::Data => recording.client_data.clone(),
                Symbol::Close => recording.client_close.clone(),
                // The identity whose key the man in the middle has.
                Symbol::Spoilt(_) => other.key_exchange.clone(),
                Symbol::Displacing => match random.below(5) {
                    0 => other.client_finished.clone(),
                    1 => recording.server_finished.clone(),
                    2 => random_message(&mut random, 1, &[]),
                    _ => random_message(&mut random, 0, &[16]),
                },
                Symbol::Idle => match random.below(6) {
                    0 => first.clone(),
                    1 if !model.closed => second.clone(),
                    2 => other.client_data.clone(),
                    3 => recording.server_hello.clone(),
                    _ => forged(&mut random),
                },
            };
            let expected = model.step(symbol, 1, b"up");
            let (events, sent) = server.handle(at(1), &datagram);
            let came = names(&events, b"up");
            assert!(
                model.check(expected, came, &order),
                "seed {seed}: {came:?} for {expected:?} after {order:?}"
            );
            if came == Some("established") {
                completed += 1;
                // The same keys as the client has.
                assert_eq!(records_of(&sent[0])[1], recording.server_finished, "seed {seed}");
                assert!(server.peer().is_established(), "seed {seed}");
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}

#[test]
fn a_client_completes_in_the_specified_order_only() {
    let recording = Recording::of(new_client(), server());
    let other =
        Recording::of(client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, 7), server_with(3));
    let mut completed = 0;
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let mut client = new_client();
        transmit(&mut client, at(0), 1200);
        let mut model = Model::default();
        let mut order = Vec::new();
        for symbol in symbols(&mut random, 3) {
            order.push(symbol);
            let datagram = match symbol {
                Symbol::InOrder(0) => recording.hello_verify_request.clone(),
                Symbol::InOrder(1) => recording.server_hello.clone(),
                Symbol::InOrder(_) => recording.server_hello_done.clone(),
                Symbol::ChangeCipherSpec => recording.change_cipher_spec.clone(),
                Symbol::Finished => recording.server_finished.clone(),
                Symbol::Data => recording.server_data.clone(),
                Symbol::Close => recording.server_close.clone(),
                Symbol::Spoilt(1) => other.server_hello.clone(),
                Symbol::Displacing => random_message(&mut random, 0, &[2, 3, 12, 14]),
                // The others have no content that could differ and still be taken.
                Symbol::Spoilt(_) | Symbol::Idle => match random.below(5) {
                    0 => other.server_finished.clone(),
                    1 => other.server_data.clone(),
                    2 => recording.client_finished.clone(),
                    3 => recording.hellos[1].clone(),
                    // A HelloRequest has no place in a handshake and starts none after it.
                    _ => forged(&mut random),
                },
            };
            let symbol = if matches!(symbol, Symbol::Spoilt(0 | 2)) { Symbol::Idle } else { symbol };
            let expected = model.step(symbol, 3, b"down");
            let events = receive(&mut client, at(1), &datagram);
            let came = names(&events, b"down");
            assert!(
                model.check(expected, came, &order),
                "seed {seed}: {came:?} for {expected:?} after {order:?}"
            );
            transmit(&mut client, at(1), 1200);
            if came == Some("established") {
                completed += 1;
                // The same keys as the server has.
                assert_eq!(seal(&mut client, b"up"), recording.client_data, "seed {seed}");
            }
        }
    }
    assert!(completed > seeds() / 3, "{completed}");
}

#[cfg(feature = "resumption")]
mod resumed {
    use super::*;
    use crate::resumption::{client_with_session, with_session};

    /// The records of one abbreviated handshake and of what followed.
    struct Abbreviated {
        hellos: [Vec<u8>; 2],
        hello_verify_request: Vec<u8>,
        server_hello: Vec<u8>,
        change_cipher_spec: Vec<u8>,
        client_finished: Vec<u8>,
        server_finished: Vec<u8>,
        client_data: Vec<u8>,
        server_data: Vec<u8>,
        client_close: Vec<u8>,
        server_close: Vec<u8>,
    }

    /// A server that has the session of the clients, and nobody connected.
    fn server() -> (Server, dtls_psk::Session) {
        let (mut server, session) = with_session();
        server.peers.clear();
        (server, session)
    }

    fn client(seed: u64) -> Client {
        client_with_session(at(0), Some(&server().1), seed)
    }

    impl Abbreviated {
        fn of(mut client: Client, mut server: Server) -> Self {
            let talk = talk(&mut client, &mut server);
            assert_eq!((talk.client, talk.server), (vec![Event::Resumed], vec![Event::Resumed]));
            let up: Vec<_> = talk.from_client.iter().flat_map(|datagram| records_of(datagram)).collect();
            let down: Vec<_> = talk.from_server.iter().flat_map(|datagram| records_of(datagram)).collect();
            let [first, second, change_cipher_spec, client_finished] = up.try_into().unwrap();
            let [hello_verify_request, server_hello, _, server_finished] = <[_; 4]>::try_from(down).unwrap();
            let (client_data, server_data) = (seal(&mut client, b"up"), seal(server.peer(), b"down"));
            client.close();
            server.peer().close();
            Self {
                hellos: [first, second],
                hello_verify_request,
                server_hello,
                change_cipher_spec,
                client_finished,
                server_finished,
                client_data,
                server_data,
                client_close: transmit(&mut client, at(1), 1200).remove(0),
                server_close: transmit(server.peer_any(), at(1), 1200).remove(0),
            }
        }
    }

    #[test]
    fn a_server_takes_a_session_up_in_the_specified_order_only() {
        let recording = Abbreviated::of(client(5), server().0);
        let other = Abbreviated::of(client(7), server().0);
        let mut completed = 0;
        for seed in 0..seeds() {
            let mut random = Random(seed);
            let (mut server, _) = server();
            for hello in &recording.hellos {
                server.handle(at(0), hello);
            }
            let mut model = Model::default();
            let mut order = Vec::new();
            for symbol in symbols(&mut random, 1) {
                // The server waits for nothing in the clear but the ChangeCipherSpec.
                let symbol = if matches!(symbol, Symbol::InOrder(_) | Symbol::Spoilt(_)) {
                    Symbol::Idle
                } else {
                    symbol
                };
                order.push(symbol);
                let datagram = match symbol {
                    Symbol::ChangeCipherSpec => recording.change_cipher_spec.clone(),
                    Symbol::Finished => recording.client_finished.clone(),
                    Symbol::Data => recording.client_data.clone(),
                    Symbol::Close => recording.client_close.clone(),
                    Symbol::Displacing => random_message(&mut random, 0, &[]),
                    _ => match random.below(7) {
                        0 => recording.hellos[0].clone(),
                        1 if !model.closed => recording.hellos[1].clone(),
                        2 => other.client_data.clone(),
                        3 => other.client_finished.clone(),
                        4 => recording.server_finished.clone(),
                        5 => recording.server_hello.clone(),
                        _ => forged(&mut random),
                    },
                };
                let expected = model.step(symbol, 0, b"up");
                let (events, _) = server.handle(at(1), &datagram);
                let came = names(&events, b"up");
                assert!(
                    model.check(expected, came, &order),
                    "seed {seed}: {came:?} for {expected:?} after {order:?}"
                );
                if came == Some("established") {
                    completed += 1;
                    // The same keys as the client has.
                    assert_eq!(seal(server.peer(), b"down"), recording.server_data, "seed {seed}");
                }
            }
        }
        assert!(completed > seeds() / 3, "{completed}");
    }

    #[test]
    fn a_client_takes_a_session_up_in_the_specified_order_only() {
        let recording = Abbreviated::of(client(5), server().0);
        let mut others = server().0;
        others.random = Random(99);
        let other = Abbreviated::of(client(7), others);
        let mut completed = 0;
        for seed in 0..seeds() {
            let mut random = Random(seed);
            let mut client = client(5);
            transmit(&mut client, at(0), 1200);
            let mut model = Model::default();
            let mut order = Vec::new();
            for symbol in symbols(&mut random, 2) {
                let symbol = if symbol == Symbol::Spoilt(0) { Symbol::Idle } else { symbol };
                order.push(symbol);
                let datagram = match symbol {
                    Symbol::InOrder(0) => recording.hello_verify_request.clone(),
                    Symbol::InOrder(_) => recording.server_hello.clone(),
                    Symbol::ChangeCipherSpec => recording.change_cipher_spec.clone(),
                    Symbol::Finished => recording.server_finished.clone(),
                    Symbol::Data => recording.server_data.clone(),
                    Symbol::Close => recording.server_close.clone(),
                    // Takes the session up, with another random.
                    Symbol::Spoilt(_) => other.server_hello.clone(),
                    Symbol::Displacing => random_message(&mut random, 0, &[2, 3]),
                    Symbol::Idle => match random.below(5) {
                        0 => other.server_finished.clone(),
                        1 => other.server_data.clone(),
                        2 => recording.client_finished.clone(),
                        3 => recording.hellos[1].clone(),
                        _ => forged(&mut random),
                    },
                };
                let expected = model.step(symbol, 2, b"down");
                let events = receive(&mut client, at(1), &datagram);
                let came = names(&events, b"down");
                assert!(
                    model.check(expected, came, &order),
                    "seed {seed}: {came:?} for {expected:?} after {order:?}"
                );
                let sent = transmit(&mut client, at(1), 1200);
                if came == Some("established") {
                    completed += 1;
                    assert_eq!(records_of(&sent[0])[1], recording.client_finished, "seed {seed}");
                    // The same keys as the server has.
                    assert_eq!(seal(&mut client, b"up"), recording.client_data, "seed {seed}");
                }
            }
        }
        assert!(completed > seeds() / 3, "{completed}");
    }
}
