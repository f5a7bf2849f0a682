//! Two ends that send each other protected messages.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(dead_code, clippy::allow_attributes, reason = "not every file needs all of it")]

use lwm2m_coap::{
    Code, Delivery, Exchange, Ignored, Input, Instant, Observer, OptionNumber, Peer, Room, Token,
    TokenPolicy, Writer,
};
use oscore::{
    Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Rederivation, Saved, Session, Standing,
};

pub(crate) static KNOWN: lwm2m_coap::Parameters = lwm2m_coap::Parameters {
    known: &[
        OptionNumber::URI_HOST,
        OptionNumber::URI_PORT,
        OptionNumber::PROXY_SCHEME,
        OptionNumber::URI_PATH,
        OptionNumber::URI_QUERY,
        OptionNumber::ACCEPT,
        OptionNumber::BLOCK1,
        OptionNumber::BLOCK2,
        OptionNumber::IF_MATCH,
    ],
    nstart: 8,
    ..lwm2m_coap::Parameters::DEFAULT
};

pub(crate) fn parameters(sender: &[u8], recipient: &[u8]) -> Parameters {
    let id = |bytes| KeyId::new(bytes).unwrap();
    let secret = MasterSecret::new(b"sixteen bytes ok").unwrap();
    Parameters::new(secret, id(sender), id(recipient)).unwrap().with_salt(b"saltsalt").unwrap()
}

/// What came in, owned.
#[derive(Debug)]
pub(crate) enum Came {
    Request {
        exchange: Exchange<Binding>,
        code: Code,
        options: Vec<(u16, Vec<u8>)>,
        payload: Vec<u8>,
    },
    Unacceptable {
        exchange: Exchange<Binding>,
        number: OptionNumber,
    },
    Response {
        code: Code,
        options: Vec<(u16, Vec<u8>)>,
        payload: Vec<u8>,
    },
    /// A notification: its number.
    Notification {
        number: Option<u32>,
        payload: Vec<u8>,
    },
    Duplicate,
    Ignored(Ignored),
    Other,
}

pub(crate) struct End {
    pub(crate) parameters: Parameters,
    pub(crate) session: Session,
    pub(crate) peer: Peer<heapless::Vec<u8, 1200>, 4, 8, 4, Binding>,
    pub(crate) observations: heapless::Vec<Observation, 2>,
    pub(crate) now: Instant,
    pub(crate) rederives: bool,
    pub(crate) delivery: Delivery,
    /// Whether new keys have to be stored before they are used.
    pub(crate) is_durable: bool,
    random: u64,
    buffer: Vec<u8>,
}

impl End {
    pub(crate) fn new(parameters: Parameters, seed: u64) -> Self {
        let mut session = Session::new(&parameters, random(seed));
        store(&mut session);
        Self::with(parameters, session, seed)
    }

    pub(crate) fn with(parameters: Parameters, session: Session, seed: u64) -> Self {
        let mut random = seed;
        Self {
            parameters,
            session,
            peer: Peer::new(&KNOWN, TokenPolicy::SECURED, &mut |out: &mut [u8]| fill(&mut random, out)),
            observations: heapless::Vec::new(),
            now: Instant::from_millis(0),
            rederives: false,
            delivery: Delivery::NonConfirmable,
            is_durable: false,
            random: seed ^ 0x5555,
            buffer: vec![0; 2048],
        }
    }

    /// Calls `call` with what a peer needs.
    fn turn<T>(
        &mut self,
        call: impl FnOnce(
            &mut Peer<heapless::Vec<u8, 1200>, 4, 8, 4, Binding>,
            &mut Protection<'_, heapless::Vec<Observation, 2>>,
            &mut [u8],
            Room,
        ) -> T,
    ) -> T {
        let room = self.session.room();
        let room = Room { head: room.head.saturating_add(64), tail: room.tail };
        let (now, random) = (self.now, self.random());
        let parameters = &self.parameters;
        let durable = self.is_durable;
        let rederivation = self.rederives.then_some(Rederivation { parameters, now, random, durable });
        let mut protection = Protection::new(&mut self.session, &mut self.observations, rederivation);
        call(&mut self.peer, &mut protection, &mut self.buffer, room)
    }

    pub(crate) fn rederive(&mut self) {
        let (now, random) = (self.now, self.random());
        let (parameters, durable) = (&self.parameters, self.is_durable);
        self.session.rederive(&Rederivation { parameters, now, random, durable });
    }

    fn random(&mut self) -> [u8; 8] {
        let mut random = [0; 8];
        fill(&mut self.random, &mut random);
        random
    }

    pub(crate) fn request(
        &mut self,
        code: Code,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(Token, Vec<u8>), lwm2m_coap::SendError> {
        let mut rng = |out: &mut [u8]| out.fill(1);
        let token = self.peer.next_token(&mut rng, |_| false);
        Ok((token, self.request_with(token, code, write)?))
    }

    pub(crate) fn request_with(
        &mut self,
        token: Token,
        code: Code,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Vec<u8>, lwm2m_coap::SendError> {
        let (now, delivery) = (self.now, self.delivery);
        self.turn(|peer, protection, buffer, room| {
            let mut writer = Writer::new(buffer, room, code);
            write(&mut writer);
            let (_, range) =
                peer.request(now, delivery, token, writer, protection, &mut |out| out.fill(1))?;
            Ok(buffer[range].to_vec())
        })
    }

    pub(crate) fn respond(
        &mut self,
        exchange: &mut Exchange<Binding>,
        code: Code,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Vec<u8> {
        let now = self.now;
        self.turn(|peer, protection, buffer, room| {
            let mut writer = Writer::new(buffer, room, code);
            write(&mut writer);
            let range = peer.respond(now, exchange, writer, protection, &mut |out| out.fill(1)).unwrap();
            buffer[range].to_vec()
        })
    }

    pub(crate) fn notify(
        &mut self,
        observer: &Observer<Binding>,
        delivery: Delivery,
        payload: &[u8],
    ) -> Vec<u8> {
        let now = self.now;
        self.turn(|peer, protection, buffer, room| {
            let mut writer = Writer::new(buffer, room, Code::CONTENT);
            writer.observe(77).unwrap();
            writer.payload(payload).unwrap();
            let range =
                peer.notify(now, delivery, observer, writer, protection, &mut |out| out.fill(1)).unwrap();
            buffer[range].to_vec()
        })
    }

    pub(crate) fn try_respond(
        &mut self,
        exchange: &mut Exchange<Binding>,
        code: Code,
    ) -> Result<Vec<u8>, lwm2m_coap::SendError> {
        let now = self.now;
        self.turn(|peer, protection, buffer, room| {
            let writer = Writer::new(buffer, room, code);
            let range = peer.respond(now, exchange, writer, protection, &mut |out| out.fill(1))?;
            Ok(buffer[range].to_vec())
        })
    }

    /// The Echo value that is good now.
    pub(crate) fn echo(&self) -> Vec<u8> {
        let mut space = [0; 64];
        let mut writer = Writer::new(&mut space, Room::NONE, Code::EMPTY);
        self.session.challenge(self.now, &mut writer).unwrap();
        let draft = writer.finish().unwrap();
        let (options, _) = lwm2m_coap::Options::parse(draft.bytes()).unwrap();
        options.echo().unwrap().to_vec()
    }

    /// Answers a request that has to prove that it is fresh.
    pub(crate) fn challenge(&mut self, exchange: &mut Exchange<Binding>) -> Vec<u8> {
        let value = self.echo();
        self.respond(exchange, Code::UNAUTHORIZED, |writer| {
            writer.option(OptionNumber::ECHO, &value).unwrap();
        })
    }

    /// Ends an observation with an error.
    pub(crate) fn end(&mut self, observer: &Observer<Binding>, code: Code) -> Vec<u8> {
        let now = self.now;
        self.turn(|peer, protection, buffer, room| {
            let writer = Writer::new(buffer, room, code);
            let delivery = Delivery::NonConfirmable;
            let range =
                peer.notify(now, delivery, observer, writer, protection, &mut |out| out.fill(1)).unwrap();
            buffer[range].to_vec()
        })
    }

    pub(crate) fn handle(&mut self, datagram: &[u8]) -> Came {
        let now = self.now;
        let mut datagram = datagram.to_vec();
        self.turn(|peer, protection, _, _| match peer.handle(now, &mut datagram, protection) {
            Input::Request { exchange, message } => Came::Request {
                exchange,
                code: message.code,
                options: message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect(),
                payload: message.payload.to_vec(),
            },
            Input::Unacceptable { exchange, number } => Came::Unacceptable { exchange, number },
            Input::Response { message, .. } => Came::Response {
                code: message.code,
                options: message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect(),
                payload: message.payload.to_vec(),
            },
            Input::Unsolicited { message, .. } => {
                Came::Notification { number: message.options.observe(), payload: message.payload.to_vec() }
            }
            Input::Duplicate => Came::Duplicate,
            Input::Ignored(reason) => Came::Ignored(reason),
            _ => Came::Other,
        })
    }

    pub(crate) fn expect_request(&mut self, datagram: &[u8]) -> (Exchange<Binding>, Code) {
        match self.handle(datagram) {
            Came::Request { exchange, code, .. } => (exchange, code),
            other => panic!("no request but {other:?}"),
        }
    }

    pub(crate) fn expect_response(&mut self, datagram: &[u8]) -> (Code, Vec<u8>) {
        match self.handle(datagram) {
            Came::Response { code, payload, .. } => (code, payload),
            other => panic!("no response but {other:?}"),
        }
    }

    /// What is due: an acknowledgement, a Reset, an answer without protection.
    pub(crate) fn due(&mut self) -> Option<Vec<u8>> {
        let mut out = [0; 1200];
        let length = self.peer.poll_transmit(self.now, &mut out)?;
        Some(out[..length].to_vec())
    }
}

/// A device with id 0x0a and a server with id 0x5b.
pub(crate) fn ends() -> (End, End) {
    (End::new(parameters(&[0x0a], &[0x5b]), 1), End::new(parameters(&[0x5b], &[0x0a]), 2))
}

/// What `session` wants in storage goes there.
pub(crate) fn store(session: &mut Session) -> Option<Saved> {
    let wanted = session.wanted()?;
    session.saved(&wanted);
    Some(wanted)
}

/// A bound in storage.
pub(crate) fn stored(bound: u64) -> Saved {
    Saved::parse(&bound.to_be_bytes()[2..]).unwrap()
}

/// What a session takes.
pub(crate) fn random(seed: u64) -> [u8; 16] {
    let mut random = [0; 16];
    fill(&mut seed.wrapping_add(77), &mut random);
    random
}

pub(crate) fn standing(exchange: &Exchange<Binding>) -> Standing {
    exchange.binding().standing()
}

pub(crate) fn get(writer: &mut Writer<'_>) {
    writer.split(OptionNumber::URI_PATH, "3/0/9", '/').unwrap();
}

pub(crate) fn observe(writer: &mut Writer<'_>) {
    writer.observe(0).unwrap();
    get(writer);
}

fn fill(state: &mut u64, out: &mut [u8]) {
    for byte in out {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_be_bytes()[0];
    }
}
