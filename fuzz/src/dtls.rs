//! DTLS 1.2 with pre-shared keys (RFC 6347): both sides in memory, and somebody on the path.

use std::collections::VecDeque;

use dtls_psk::{
    Accepted, Answer, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Instant,
    Operation, PendingId, Psk, TAILROOM,
};

use crate::script::{Script, random};

const IDENTITY: &[u8] = b"urn:imei:123456";
const KEY: &[u8; 16] = b"0123456789abcdef";
const ADDRESS: &[u8] = b"client";

type Side = Connection<512>;

/// A client between an honest server and somebody who drops, repeats, changes and invents what the server sends.
pub fn handshake_client(script: &[u8]) {
    Pair::new(Victim::Client).play(script);
}

/// The same on the server's side, cookie included.
pub fn handshake_server(script: &[u8]) {
    Pair::new(Victim::Server).play(script);
}

/// An established connection: what comes out went in, and only once.
pub fn record(script: &[u8]) {
    let mut pair = Pair::new(Victim::Server);
    pair.honestly();
    assert!(pair.client.is_established() && pair.server.as_ref().is_some_and(Side::is_established));
    let mut script = Script(script);
    while let Some(act) = script.byte() {
        if act & 0x80 == 0
            && let Some(text) = script.bytes()
        {
            pair.send(text);
        }
        if pair.attack(act, &mut script).is_none() {
            break;
        }
        pair.pump();
    }
    pair.honestly();
    pair.rest();
}

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Client,
    Server,
}

struct Pair {
    victim: Victim,
    now: u64,
    client: Side,
    jar: CookieJar,
    server: Option<Side>,
    /// A look-up that the server waits for.
    pending: Option<(PendingId, bool)>,
    /// On the way to the victim; what goes the other way arrives at once.
    path: VecDeque<Vec<u8>>,
    /// Application data on its way to the server.
    sent: Vec<Vec<u8>>,
    established: [u8; 2],
    seed: u64,
}

impl Pair {
    fn new(victim: Victim) -> Self {
        let now = Instant::from_millis(0);
        let psk = Psk { identity: IDENTITY, key: KEY };
        let client = Side::client(now, &Config::DEFAULT, psk, &mut random(1), Handshake::new());
        Self {
            victim,
            now: 0,
            client: client.expect("identity and key are of a possible length"),
            jar: CookieJar::new(now, &mut random(2)),
            server: None,
            pending: None,
            path: VecDeque::new(),
            sent: Vec::new(),
            established: [0; 2],
            seed: 3,
        }
    }

    fn play(mut self, script: &[u8]) {
        let mut script = Script(script);
        self.pump();
        while let Some(act) = script.byte() {
            if self.attack(act, &mut script).is_none() {
                break;
            }
            self.pump();
        }
        let was_open =
            [self.client.is_closed(), self.server.as_ref().is_some_and(Side::is_closed)] == [false; 2];
        // Left alone it comes to an end: mostly a good one, for nobody on the path can make an honest pair fail for good
        // but by keeping it apart.
        for _ in 0..40 {
            self.honestly();
            if was_open
                && self.client.is_established()
                && self.server.as_ref().is_some_and(Side::is_established)
            {
                self.send(b"hello");
                self.honestly();
                assert!(self.sent.is_empty(), "two sides that are established understand each other");
                break;
            }
            self.later();
        }
        self.rest();
    }

    fn attack(&mut self, act: u8, script: &mut Script<'_>) -> Option<()> {
        match act & 0x0f {
            0..=2 => self.deliver_next(|_| {}),
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
            12 => self.provide(),
            13 => self.later(),
            _ => self.now += script.millis()?,
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

    fn give(&mut self, side: Victim, mut bytes: Vec<u8>) {
        let now = Instant::from_millis(self.now);
        self.seed += 2;
        let mut rng = random(self.seed);
        let connection = match side {
            Victim::Client => &mut self.client,
            Victim::Server => {
                if let Some(server) = &mut self.server {
                    server
                } else {
                    let mut out = [0; 256];
                    match self.jar.accept(now, &Config::DEFAULT, &mut rng, ADDRESS, &bytes, &mut out) {
                        Accepted::Reply(length) => {
                            assert!(length <= bytes.len(), "nobody is sent more than he sent");
                            let reply = out[..length].to_vec();
                            self.forward(side, reply);
                        }
                        Accepted::Verified(hello) => {
                            let server =
                                Side::server(now, &Config::DEFAULT, &hello, &mut rng, Handshake::new());
                            self.server = Some(server.expect("the randomness is not all zeros"));
                        }
                        Accepted::Refused { length, .. } => {
                            let alert = out[..length].to_vec();
                            self.forward(side, alert);
                        }
                        Accepted::Dropped(_) => {}
                    }
                    return;
                }
            }
        };
        let mut datagram = Datagram::new(&mut bytes);
        let mut inputs = 0;
        while let Some(input) = connection.handle(now, &mut datagram) {
            inputs += 1;
            assert!(inputs < 200, "a datagram is used up");
            match input {
                Input::Application(text) => {
                    let index = self.sent.iter().position(|sent| *sent == text);
                    self.sent.remove(index.expect("what comes out went in, and only once"));
                }
                Input::Established { .. } => {
                    let count = &mut self.established[side as usize];
                    *count += 1;
                    assert_eq!(*count, 1, "a connection is established once");
                }
                Input::Closed(_) => assert!(connection.is_closed()),
                _ => {}
            }
        }
        if side == Victim::Server
            && let Some(pending) = connection.poll_pending()
        {
            let Operation::LookUpPsk { identity } = pending.operation else { return };
            self.pending = Some((pending.id, identity == IDENTITY));
        }
    }

    fn provide(&mut self) {
        let (Some((id, is_known)), Some(server)) = (self.pending.take(), &mut self.server) else { return };
        let answer = if is_known { Answer::Psk { key: KEY } } else { Answer::Unknown };
        if let Ok(Some(Input::Established { .. })) =
            server.provide(Instant::from_millis(self.now), id, answer)
        {
            self.established[Victim::Server as usize] += 1;
        }
    }

    fn send(&mut self, text: &[u8]) {
        let mut buffer = vec![0; HEADROOM + text.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + text.len()].copy_from_slice(text);
        if let Ok(range) = self.client.seal(&mut buffer, HEADROOM..HEADROOM + text.len()) {
            self.sent.push(text.to_vec());
            self.forward(Victim::Client, buffer[range].to_vec());
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
                    let connection = match side {
                        Victim::Client => Some(&mut self.client),
                        Victim::Server => self.server.as_mut(),
                    };
                    let Some(length) =
                        connection.and_then(|connection| connection.poll_transmit(now, &mut out))
                    else {
                        break;
                    };
                    assert!(count < 8, "the flight ends");
                    is_idle = false;
                    let datagram = out[..length].to_vec();
                    self.forward(side, datagram);
                }
            }
            // An honest server answers its look-ups.
            if self.victim == Victim::Client {
                self.provide();
            }
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
            self.provide();
            self.pump();
            if self.path.is_empty() {
                return;
            }
            self.deliver_next(|_| {});
        }
        panic!("two sides answer each other without end");
    }

    /// Moves on to the next time-out of either side.
    fn later(&mut self) {
        let sides = [Some(&self.client), self.server.as_ref()];
        let next = sides.iter().flatten().filter_map(|side| side.poll_timeout()).min();
        self.now = next.map_or(self.now, |next| self.now.max(next.as_millis()));
        let now = Instant::from_millis(self.now);
        for side in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
            side.handle_timeout(now);
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
            while self.server.as_mut().and_then(|server| server.poll_transmit(now, &mut out)).is_some() {}
        }
        for side in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            assert!(side.is_established() || side.is_closed());
            assert_eq!(side.poll_timeout(), None);
        }
    }
}

/// Changes bytes: pairs of a place and what is added there.
fn change(datagram: &mut [u8], changes: &[u8]) {
    let length = datagram.len();
    for pair in changes.chunks_exact(2) {
        if length > 0 {
            datagram[usize::from(pair[0]) % length] ^= pair[1];
        }
    }
}

/// A well-formed record of epoch 0 with a handshake message.
fn forge(number: u8, code: u8, message_seq: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u8;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, number, 0, length.saturating_add(12)];
    record.extend([code, 0, 0, length, 0, message_seq, 0, 0, 0, 0, 0, length]);
    record.extend(&body[..usize::from(length.min(243))]);
    record
}
