//! One peer with a clock and a generator, spoken to in bytes.
#![expect(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests; each file uses its part")]

use lwm2m_coap::protect::Plain;
use lwm2m_coap::{
    Code, Delivery, Event, Exchange, Header, Input, Instant, Kind, Message, MessageId, Observer,
    OptionNumber, Parameters, Peer, RequestId, Room, SendError, Token, TokenPolicy, Writer, udp,
};

pub(crate) type Copy128 = heapless::Vec<u8, 128>;

/// SplitMix64: repeatable.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next().to_le_bytes()[0];
        }
    }
}

pub(crate) struct Side<const REQUESTS: usize, const ANSWERS: usize> {
    pub(crate) peer: Peer<Copy128, REQUESTS, ANSWERS, 2>,
    pub(crate) random: Random,
    pub(crate) now: u64,
}

/// What came of a datagram, owned.
#[derive(Debug)]
pub(crate) enum Got {
    Request(Exchange, Owned),
    Response(RequestId, Owned),
    Unsolicited(Header, Owned),
    Other(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) code: Code,
    pub(crate) token: Token,
    pub(crate) payload: Vec<u8>,
}

impl Owned {
    fn new(message: &Message<'_>) -> Self {
        Self { code: message.code, token: message.token, payload: message.payload.to_vec() }
    }
}

impl<const REQUESTS: usize, const ANSWERS: usize> Side<REQUESTS, ANSWERS> {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, &Parameters::DEFAULT, TokenPolicy::Random)
    }

    pub(crate) fn with(seed: u64, parameters: &'static Parameters, tokens: TokenPolicy) -> Self {
        let mut random = Random(seed);
        let peer = Peer::new(parameters, tokens, &mut |bytes| random.fill(bytes));
        Self { peer, random, now: 1_000_000 }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    pub(crate) fn handle(&mut self, datagram: &[u8]) -> Got {
        let mut datagram = datagram.to_vec();
        match self.peer.handle(self.now(), &mut datagram, &mut Plain) {
            Input::Request { exchange, message } => Got::Request(exchange, Owned::new(&message)),
            Input::Response { request, message } => Got::Response(request, Owned::new(&message)),
            Input::Unsolicited { header, message } => Got::Unsolicited(header, Owned::new(&message)),
            other => Got::Other(format!("{other:?}")),
        }
    }

    /// What `handle` says, when it is neither request nor response.
    pub(crate) fn hears(&mut self, datagram: &[u8]) -> String {
        match self.handle(datagram) {
            Got::Other(text) => text,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn hears_request(&mut self, datagram: &[u8]) -> (Exchange, Owned) {
        match self.handle(datagram) {
            Got::Request(exchange, message) => (exchange, message),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn hears_response(&mut self, datagram: &[u8]) -> (RequestId, Owned) {
        match self.handle(datagram) {
            Got::Response(request, message) => (request, message),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn hears_unsolicited(&mut self, datagram: &[u8]) -> (Header, Owned) {
        match self.handle(datagram) {
            Got::Unsolicited(header, message) => (header, message),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn try_request(
        &mut self,
        delivery: Delivery,
        code: Code,
        payload: &[u8],
    ) -> Result<(RequestId, Vec<u8>), SendError> {
        let now = self.now();
        let mut buffer = [0; 256];
        let mut rng = |bytes: &mut [u8]| self.random.fill(bytes);
        let token = self.peer.next_token(&mut rng, |_| false);
        let mut writer = Writer::new(&mut buffer, Room::NONE, code);
        writer.option(OptionNumber::URI_PATH, b"p")?;
        writer.payload(payload)?;
        let (id, range) = self.peer.request(now, delivery, token, writer, &mut Plain, &mut rng)?;
        Ok((id, buffer.get(range).unwrap().to_vec()))
    }

    pub(crate) fn request(&mut self, delivery: Delivery, code: Code) -> (RequestId, Vec<u8>) {
        self.try_request(delivery, code, b"").unwrap()
    }

    pub(crate) fn try_respond(
        &mut self,
        exchange: &mut Exchange,
        code: Code,
        payload: &[u8],
    ) -> Result<Vec<u8>, SendError> {
        let now = self.now();
        let mut buffer = [0; 256];
        let mut rng = |bytes: &mut [u8]| self.random.fill(bytes);
        let mut writer = Writer::new(&mut buffer, Room::NONE, code);
        writer.payload(payload)?;
        let range = self.peer.respond(now, exchange, writer, &mut Plain, &mut rng)?;
        Ok(buffer.get(range).unwrap().to_vec())
    }

    pub(crate) fn respond(&mut self, exchange: &mut Exchange, code: Code, payload: &[u8]) -> Vec<u8> {
        self.try_respond(exchange, code, payload).unwrap()
    }

    pub(crate) fn try_notify(
        &mut self,
        delivery: Delivery,
        observer: &Observer,
        sequence: u32,
    ) -> Result<Vec<u8>, SendError> {
        let now = self.now();
        let mut buffer = [0; 256];
        let mut rng = |bytes: &mut [u8]| self.random.fill(bytes);
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
        writer.observe(sequence)?;
        let range = self.peer.notify(now, delivery, observer, writer, &mut Plain, &mut rng)?;
        Ok(buffer.get(range).unwrap().to_vec())
    }

    pub(crate) fn notify(&mut self, delivery: Delivery, observer: &Observer, sequence: u32) -> Vec<u8> {
        self.try_notify(delivery, observer, sequence).unwrap()
    }

    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        let now = self.now();
        let mut out = [0; 256];
        let length = self.peer.poll_transmit(now, &mut out)?;
        Some(out.get(..length).unwrap().to_vec())
    }

    pub(crate) fn event(&mut self) -> Option<Event> {
        let now = self.now();
        self.peer.poll_event(now)
    }
}

pub(crate) fn parsed(datagram: &[u8]) -> (Kind, Code, MessageId) {
    let (header, message) = udp::parse(datagram).unwrap();
    (header.kind, message.code, header.id)
}
