//! OSCORE between two ends (RFC 8613 §7, §8, Appendix B), and under a peer that has the keys and keeps to no rule.

use aes::Aes128;
use ccm::aead::generic_array::GenericArray;
use ccm::consts::{U8, U13};
use ccm::{AeadInPlace, Ccm, KeyInit};
use lwm2m_coap::{
    Code, Delivery, Exchange, Input, Instant, Observer, OptionNumber, Peer, Room, TokenPolicy, Writer,
};
use oscore::{
    Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Rederivation, Saved, Session, Standing,
};

use crate::script::{Clock, Script, random};

type Remote = Peer<heapless::Vec<u8, 256>, 4, 4, 2, Binding>;

static KNOWN: lwm2m_coap::Parameters = lwm2m_coap::Parameters {
    known: &[OptionNumber::URI_PATH, OptionNumber::ACCEPT, OptionNumber::BLOCK1, OptionNumber::BLOCK2],
    nstart: 4,
    ..lwm2m_coap::Parameters::DEFAULT
};

/// The keys of RFC 8613 Appendix C.1: the client has no id, the server 01.
fn parameters(is_client: bool) -> Parameters {
    let secret = MasterSecret::new(&(1..=16).collect::<Vec<u8>>()).unwrap();
    let (client, server) = (KeyId::EMPTY, KeyId::new(&[1]).unwrap());
    let (own, other) = if is_client { (client, server) } else { (server, client) };
    let parameters = Parameters::new(secret, own, other).unwrap();
    parameters.with_salt(&[0x9e, 0x7c, 0xa9, 0x22, 0x23, 0x78, 0x63, 0x40]).unwrap()
}

struct End {
    parameters: Parameters,
    session: Session,
    peer: Remote,
    observations: heapless::Vec<Observation, 2>,
    observer: Option<Observer<Binding>>,
    /// What storage has.
    saved: Saved,
    seed: u64,
}

/// What was understood of a message.
enum Read {
    Request { exchange: Exchange<Binding>, payload: Vec<u8> },
    Response(Vec<u8>),
    Nothing,
}

impl End {
    fn new(is_client: bool, seed: u64) -> Self {
        let parameters = parameters(is_client);
        let mut session = Session::new(&parameters, [u8::from(is_client); 16]);
        let saved = session.wanted().unwrap();
        session.saved(&saved);
        let peer = Peer::new(&KNOWN, TokenPolicy::SECURED, &mut random(seed));
        Self { parameters, session, peer, observations: heapless::Vec::new(), observer: None, saved, seed }
    }

    fn restart(&mut self) {
        let mut key = [0; Session::RANDOM];
        random(self.seed)(&mut key);
        self.session = Session::restored(&self.parameters, &self.saved, key);
        self.store();
        self.seed = self.seed.wrapping_add(2);
        self.peer = Peer::new(&KNOWN, TokenPolicy::SECURED, &mut random(self.seed));
        self.observations.clear();
        self.observer = None;
    }

    /// Storage gets what the session wants there.
    fn store(&mut self) {
        if let Some(wanted) = self.session.wanted() {
            self.session.saved(&wanted);
            self.saved = wanted;
        }
    }

    fn turn<T>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Remote, &mut Protection<'_, heapless::Vec<Observation, 2>>, Room) -> T,
    ) -> T {
        let room = self.session.room();
        let random = self.draw();
        let rederivation = Rederivation { parameters: &self.parameters, now, random, durable: true };
        let mut protection = Protection::new(&mut self.session, &mut self.observations, Some(rederivation));
        let result = call(&mut self.peer, &mut protection, room);
        self.store();
        result
    }

    fn rederive(&mut self, now: Instant) {
        let random = self.draw();
        self.session.rederive(&Rederivation { parameters: &self.parameters, now, random, durable: true });
    }

    fn draw(&mut self) -> [u8; 8] {
        self.seed = self.seed.wrapping_mul(31).wrapping_add(7);
        let mut bytes = [0; 8];
        random(self.seed)(&mut bytes);
        bytes
    }

    fn request(&mut self, now: Instant, observes: bool, payload: &[u8]) -> Option<Vec<u8>> {
        self.turn(now, |peer, protection, room| {
            let mut buffer = [0; 512];
            let token = peer.next_token(&mut random(3), |_| false);
            let mut writer = Writer::new(&mut buffer, room, Code::POST);
            if observes {
                writer.observe(0).ok()?;
            }
            writer.option(OptionNumber::URI_PATH, b"3").ok()?;
            writer.payload(payload).ok()?;
            let kind = Delivery::NonConfirmable;
            let (_, range) = peer.request(now, kind, token, writer, protection, &mut random(5)).ok()?;
            Some(buffer[range].to_vec())
        })
    }

    fn respond(
        &mut self,
        now: Instant,
        exchange: &mut Exchange<Binding>,
        code: Code,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        self.turn(now, |peer, protection, room| {
            let mut buffer = [0; 512];
            let mut writer = Writer::new(&mut buffer, room, code);
            writer.observe(1).ok()?;
            writer.payload(payload).ok()?;
            let range = peer.respond(now, exchange, writer, protection, &mut random(5)).ok()?;
            Some(buffer[range].to_vec())
        })
    }

    fn notify(&mut self, now: Instant, payload: &[u8]) -> Option<Vec<u8>> {
        let observer = self.observer.clone()?;
        self.turn(now, |peer, protection, room| {
            let mut buffer = [0; 512];
            let mut writer = Writer::new(&mut buffer, room, Code::CONTENT);
            writer.observe(2).ok()?;
            writer.payload(payload).ok()?;
            let kind = Delivery::NonConfirmable;
            let range = peer.notify(now, kind, &observer, writer, protection, &mut random(5)).ok()?;
            Some(buffer[range].to_vec())
        })
    }

    fn read(&mut self, now: Instant, datagram: &[u8]) -> Read {
        let mut datagram = datagram.to_vec();
        self.turn(now, |peer, protection, _| match peer.handle(now, &mut datagram, protection) {
            Input::Request { exchange, message } => {
                Read::Request { exchange, payload: message.payload.to_vec() }
            }
            Input::Response { message, .. } | Input::Unsolicited { message, .. } => {
                Read::Response(message.payload.to_vec())
            }
            _ => Read::Nothing,
        })
    }

    /// Ends what waits, so that there is room for more.
    fn settle(&mut self, now: Instant) {
        let mut out = [0; 512];
        while self.peer.poll_transmit(now, &mut out).is_some() {}
        self.peer.fail_begun();
        while self.peer.poll_event(now).is_some() {}
    }
}

/// Messages between two ends are lost, repeated, changed, stripped and mixed up, and either end starts anew. Whatever is
/// understood was sent, and no request is carried out twice.
pub fn ends(script: &[u8]) {
    let mut script = Script(script);
    let mut clock = Clock::default();
    let mut ends = [End::new(true, 1), End::new(false, 2)];
    let mut sent: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut carried_out: Vec<Vec<u8>> = Vec::new();
    while let (Some(act), true) = (script.byte(), sent.len() < 64) {
        let now = clock.now();
        let by = usize::from(act & 1);
        // Every text is another.
        let text = vec![b'a' + u8::try_from(texts.len() % 26).unwrap(); texts.len() + 1];
        let made = match act >> 1 & 0x0f {
            0..=3 => ends[by].request(now, act & 0x80 != 0, &text),
            4 => ends[by].notify(now, &text),
            5 => {
                ends[by].rederive(now);
                None
            }
            6 => {
                ends[by].session.renew();
                None
            }
            7 => {
                ends[by].restart();
                None
            }
            8 => {
                clock.pass(script.millis().unwrap_or(0));
                None
            }
            9 => {
                ends[by].settle(now);
                None
            }
            _ => {
                // A message that was sent before reaches its end, whole or changed.
                let Some(which) = script.byte() else { return };
                let Some((from, datagram)) = sent.get(usize::from(which) % sent.len().max(1)).cloned() else {
                    continue;
                };
                let mut changed = datagram.clone();
                let is_changed = act & 0x80 != 0;
                if is_changed {
                    let at = usize::from(script.byte().unwrap_or(0)) % changed.len();
                    changed[at] ^= script.byte().unwrap_or(1).max(1);
                }
                // Another message id, so that it is no duplicate of the message layer.
                changed[3] ^= act & 0x40;
                let end = &mut ends[1 - from];
                match end.read(now, &changed) {
                    Read::Request { mut exchange, payload } => {
                        assert!(texts.contains(&payload), "a request that nobody sent");
                        let binding = *exchange.binding();
                        let is_challenged = binding.standing() != Standing::Fresh;
                        if !is_challenged {
                            assert!(!carried_out.contains(&payload), "a request is carried out twice");
                            carried_out.push(payload);
                            end.observer = Some(exchange.observer());
                        }
                        let code = if is_challenged { Code::UNAUTHORIZED } else { Code::CONTENT };
                        end.respond(now, &mut exchange, code, &text).map(|datagram| (1 - from, datagram))
                    }
                    Read::Response(payload) => {
                        assert!(texts.contains(&payload), "a response that nobody sent");
                        None
                    }
                    Read::Nothing => None,
                }
                .into_iter()
                .for_each(|(by, datagram)| {
                    texts.push(text.clone());
                    sent.push((by, datagram));
                });
                continue;
            }
        };
        if let Some(datagram) = made {
            texts.push(text);
            sent.push((by, datagram));
        }
    }
}

/// A client, and then a server, that has the keys puts anything at all into its messages: nothing panics, and what is
/// understood is a message.
pub fn insider(script: &[u8]) {
    let mut script = Script(script);
    let now = Instant::from_millis(0);
    let (mut client, mut server) = (End::new(true, 1), End::new(false, 2));
    let mut number = 0_u8;
    while let (Some(act), Some(inner), Some(outer)) = (script.byte(), script.bytes(), script.bytes()) {
        number = number.wrapping_add(act & 0x07);
        let option = [0x09, number];
        if act & 0x80 == 0 {
            // A request of the client, which has no id.
            let sealed = seal(&CLIENT_KEY, &[0, number], number, inner);
            let datagram =
                [&[0x50 | act & 0x20, 0x02, number, act, 0x92][..], &option, outer, &[0xff], &sealed]
                    .concat();
            if let Read::Request { mut exchange, .. } = server.read(now, &datagram) {
                server.respond(now, &mut exchange, Code::CONTENT, b"answer");
            }
        } else {
            // The server's answer to a request of the client, or a notification.
            let Some(asked) = client.request(now, true, b"x") else { return };
            let token = asked[4];
            let sequence = u8::try_from(client.session.context().sequence().next() - 1).unwrap_or(0);
            let sealed = seal(&SERVER_KEY, &[1, number], sequence, inner);
            let datagram =
                [&[0x51, 0x45, number, act, token, 0x60, 0x32, 0x01, number][..], &[0xff], &sealed].concat();
            client.read(now, &datagram);
            client.settle(now);
        }
    }
}

/// Encrypts under the nonce of an id of one byte's length, or none, and a number; the request is the client's.
fn seal(key: &[u8; 16], [id, number]: &[u8; 2], request: u8, inner: &[u8]) -> Vec<u8> {
    let mut nonce = COMMON_IV;
    nonce[0] ^= u8::from(*id != 0);
    nonce[7] ^= id;
    nonce[12] ^= number;
    let aad = [&b"\x83\x68Encrypt0\x40\x48\x85\x01\x81\x0a\x40\x41"[..], &[request, 0x40]].concat();
    let mut text = inner.to_vec();
    let cipher = Ccm::<Aes128, U8, U13>::new(GenericArray::from_slice(key));
    let tag = cipher.encrypt_in_place_detached(GenericArray::from_slice(&nonce), &aad, &mut text).unwrap();
    text.extend_from_slice(&tag);
    text
}

const CLIENT_KEY: [u8; 16] = 0xf091_0ed7_295e_6ad4_b54f_c793_1543_02ff_u128.to_be_bytes();
const SERVER_KEY: [u8; 16] = 0xffb1_4e09_3c94_c9ca_c947_1648_b4f9_8710_u128.to_be_bytes();
const COMMON_IV: [u8; 13] = [0x46, 0x22, 0xd4, 0xdd, 0x6d, 0x94, 0x41, 0x68, 0xee, 0xfb, 0x54, 0x98, 0x7c];
