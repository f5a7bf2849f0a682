//! CoAP messages and peers (RFC 7252).

use std::collections::VecDeque;
use std::time::Duration;

use coap_lite::{MessageClass, Packet};
use lwm2m_coap::echo::Challenge;
use lwm2m_coap::protect::Plain;
use lwm2m_coap::udp::{self, Fault, HEADER_LENGTH};
use lwm2m_coap::{
    Code, ContentFormat, Delivery, Exchange, Header, Input, Instant, Kind, Message, MessageId, Observer,
    OptionNumber, Parameters, Peer, RequestId, Room, TokenPolicy, Writer,
};

use crate::script::{Clock, Script, random};

/// A message that parses is emitted again byte for byte, and an independent codec reads the same in it.
pub fn message(datagram: &[u8]) {
    let theirs = Packet::from_bytes(datagram);
    let (header, message) = match udp::parse(datagram) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            // What coap-lite lets pass: other versions, reserved classes, an empty payload behind a marker, and more
            // than a header in an empty message.
            let lenient = matches!(malformed.fault, Fault::Version | Fault::Class | Fault::Empty)
                || malformed.fault == Fault::Options && datagram.last() == Some(&0xff);
            assert!(theirs.is_err() || lenient, "coap-lite reads what is {malformed}");
            return;
        }
    };
    let mut buffer = vec![0; datagram.len() + Writer::HEAD + 1];
    let mut writer = Writer::new(&mut buffer, Room::NONE, message.code);
    for (number, value) in message.options {
        writer.option(number, value).expect("parsed options are in order and fit");
    }
    writer.payload(message.payload).expect("the payload fits");
    let draft = writer.finish().expect("the message fits");
    let head = HEADER_LENGTH + usize::from(message.token.length());
    assert_eq!(draft.bytes(), &datagram[head..]);
    look_at(&message);
    compare(&header, &message, &theirs.expect("coap-lite reads every message that we read"));
}

/// Calls every accessor, whose results must agree with walking the options.
fn look_at(message: &Message<'_>) {
    let options = message.options;
    let count = |number| options.iter().filter(|(other, _)| *other == number).count();
    assert_eq!(options.uri_path().count(), count(OptionNumber::URI_PATH));
    assert_eq!(options.uri_query().count(), count(OptionNumber::URI_QUERY));
    assert_eq!(options.location_path().count(), count(OptionNumber::LOCATION_PATH));
    assert!(options.observe().is_none_or(|value| value < 1 << 24));
    for block in [options.block1(), options.block2()].into_iter().flatten().flatten() {
        assert_eq!(lwm2m_coap::block::Block::parse(&block.value().to_be_bytes()[1..]), Ok(block));
    }
    let _ = options.no_response().covers(Code::CONTENT);
    assert_eq!(Code::new(message.code.class(), message.code.detail()), message.code);
    assert!(!format!("{message:?} {}", message.code).is_empty());
    echo(options.echo());
    for number in [OptionNumber::URI_HOST, OptionNumber::OSCORE, OptionNumber::HOP_LIMIT] {
        assert_eq!(options.get(number), options.all(number).next());
        let _ = (options.uint(number), number.is_unsafe_to_forward(), number.is_no_cache_key());
    }
    let _ = (options.content_format(), options.accept(), options.etag(), options.size1(), options.size2());
    let unknown = options.first_unknown_critical(Parameters::DEFAULT.known);
    assert!(unknown.is_none_or(|number| number.is_critical() && count(number) > 0));
}

/// A value is good for as long as it says, for whom it was made; whatever else comes is not.
fn echo(value: Option<&[u8]>) {
    let challenge = Challenge::new(Duration::from_secs(10), |time: &[u8; 4]| {
        let [a, b, c, d] = *time;
        [a ^ 7, b, c, d, 1, 2, 3, 4]
    });
    let now = Instant::from_millis(50_000);
    let own = challenge.value(now);
    assert!(challenge.accepts(now.saturating_add(Duration::from_secs(10)), Some(&own)));
    assert!(!challenge.accepts(now.saturating_add(Duration::from_secs(11)), Some(&own)));
    assert!(!challenge.accepts(now, value) || value.is_some_and(|value| value.len() == own.len()));
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
    challenge.refuse(now, &mut writer).expect("it is short");
    assert_eq!(writer.code(), Code::UNAUTHORIZED);
}

fn compare(header: &Header, message: &Message<'_>, theirs: &Packet) {
    assert_eq!(theirs.header.message_id, header.id.0);
    assert_eq!(theirs.header.get_type() as u8, header.kind as u8);
    // coap-lite folds codes it does not know into one, so only its own names can be compared.
    if !matches!(theirs.header.code, MessageClass::Reserved(_)) {
        assert_eq!(u8::from(theirs.header.code), message.code.as_u8());
    }
    assert_eq!(theirs.get_token(), message.token.bytes());
    assert_eq!(theirs.payload, message.payload);
    let flat = theirs
        .options()
        .flat_map(|(number, values)| values.iter().map(move |value| (*number, value.as_slice())));
    assert!(flat.eq(message.options.iter().map(|(number, value)| (number.0, value))));
}

type Remote = Peer<heapless::Vec<u8, 128>, 4, 4, 2>;

/// A peer fed any datagrams and used in any way drains its queues, emits only messages, and comes to rest.
pub fn peer(script: &[u8]) {
    let mut world = World::new();
    let mut script = Script(script);
    while world.step(&mut script).is_some() {
        world.drain();
    }
    world.rest();
}

struct World {
    peer: Remote,
    clock: Clock,
    exchanges: VecDeque<Exchange>,
    observers: VecDeque<Observer>,
    requests: VecDeque<RequestId>,
    /// The last datagram that went out, which the remote can answer.
    sent: Vec<u8>,
    buffer: [u8; 256],
}

impl World {
    fn new() -> Self {
        let peer = Remote::new(&Parameters::DEFAULT, TokenPolicy::SECURED, &mut random(7));
        Self {
            peer,
            clock: Clock::default(),
            exchanges: VecDeque::new(),
            observers: VecDeque::new(),
            requests: VecDeque::new(),
            sent: Vec::new(),
            buffer: [0; 256],
        }
    }

    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let mut rng = random(11);
        let now = self.clock.now();
        let act = script.byte()?;
        let delivery = if act & 0x80 == 0 { Delivery::Confirmable } else { Delivery::NonConfirmable };
        match act & 0x0f {
            0..=2 => self.handle(script.bytes()?, act & 0x40 == 0),
            3 | 4 => self.echo(act, script)?,
            5 => self.clock.pass(script.millis()?),
            6 | 7 => {
                let token = self.peer.next_token(&mut rng, |_| false);
                let writer = write(&mut self.buffer, Code::POST, script.bytes()?);
                match self.peer.request(now, delivery, token, writer, &mut Plain, &mut rng) {
                    Ok((id, range)) => {
                        self.requests.push_back(id);
                        self.sent = self.buffer[range].to_vec();
                    }
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
            8 | 9 => {
                let payload = script.bytes()?;
                let Some(mut exchange) = self.exchanges.pop_front() else { return Some(()) };
                let writer = write(&mut self.buffer, Code::CONTENT, payload);
                match self.peer.respond(now, &mut exchange, writer, &mut Plain, &mut rng) {
                    Ok(range) => self.sent = self.buffer[range].to_vec(),
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        self.exchanges.push_back(exchange);
                    }
                }
            }
            10 if act & 0x40 == 0 => {
                if let Some(exchange) = self.exchanges.front_mut() {
                    self.peer.defer(exchange, delivery);
                }
            }
            10 => {
                if let Some(mut exchange) = self.exchanges.pop_front() {
                    self.peer.suppress(&mut exchange);
                    let writer = write(&mut self.buffer, Code::CONTENT, b"late");
                    let again = self.peer.respond(now, &mut exchange, writer, &mut Plain, &mut rng);
                    assert!(again.is_err(), "what is suppressed is answered");
                }
            }
            11 | 12 => {
                let payload = script.bytes()?;
                let Some(observer) = self.observers.front() else { return Some(()) };
                let writer = write(&mut self.buffer, Code::CONTENT, payload);
                if let Ok(range) = self.peer.notify(now, delivery, observer, writer, &mut Plain, &mut rng) {
                    self.sent = self.buffer[range].to_vec();
                }
            }
            13 => {
                if let Some(request) = self.requests.pop_front() {
                    self.peer.cancel(request);
                }
            }
            15 if act & 0x40 != 0 => self.save(now),
            14 => self.observers.rotate_left(usize::from(self.observers.len() > 1)),
            _ => self.peer.fail_all(),
        }
        Some(())
    }

    /// Saved and taken up again it goes on, without what was under way.
    fn save(&mut self, now: Instant) {
        let mut next = Remote::restored(&Parameters::DEFAULT, self.peer.numbers());
        self.peer.settled().for_each(|settled| next.remember(now, &settled));
        assert!(next.settled().count() <= self.peer.settled().count());
        self.peer = next;
        self.exchanges.clear();
        self.observers.clear();
        self.requests.clear();
    }

    /// The remote answers what was sent last, rightly or with a changed byte.
    fn echo(&mut self, act: u8, script: &mut Script<'_>) -> Option<()> {
        let Ok((header, message)) = udp::parse(&self.sent) else { return Some(()) };
        let mut answer = match act >> 4 & 0x03 {
            0 => udp::empty(Kind::Acknowledgement, header.id).to_vec(),
            1 => udp::empty(Kind::Reset, header.id).to_vec(),
            // An ACK, CON or NON with the token of the request.
            kind => {
                let first = if kind == 2 { 0x60 } else { 0x40 };
                let MessageId(id) = header.id;
                let mut bytes = vec![first | message.token.length(), Code::CONTENT.as_u8()];
                bytes.extend(id.to_be_bytes());
                bytes.extend(message.token.bytes());
                bytes
            }
        };
        let change = script.bytes()?;
        if let [at, to, ..] = change {
            let at = usize::from(*at) % answer.len();
            answer[at] = *to;
        }
        self.handle(&answer, act & 0x80 == 0);
        Some(())
    }

    fn handle(&mut self, datagram: &[u8], accept: bool) {
        let mut datagram = datagram.to_vec();
        let now = self.clock.now();
        match self.peer.handle(now, &mut datagram, &mut Plain) {
            Input::Request { exchange, .. } => {
                self.observers.push_back(exchange.observer());
                self.observers.truncate(8);
                self.exchanges.push_back(exchange);
                self.exchanges.truncate(8);
            }
            Input::Unsolicited { header, .. } if accept => self.peer.accept(header),
            Input::Unsolicited { header, .. } => self.peer.reject(header),
            Input::Response { request, .. } => self.requests.retain(|other| *other != request),
            _ => {}
        }
    }

    fn drain(&mut self) {
        let now = self.clock.now();
        let mut datagrams = 0;
        while let Some(length) = self.peer.poll_transmit(now, &mut self.buffer) {
            assert!(udp::parse(&self.buffer[..length]).is_ok(), "what goes out is a message");
            datagrams += 1;
            assert!(datagrams <= 8, "the queue drains");
        }
        let mut events = 0;
        while let Some(event) = self.peer.poll_event(now) {
            assert!(!format!("{event:?}").is_empty());
            events += 1;
            assert!(events <= 4, "there are no more events than requests");
        }
        assert!(
            self.peer.poll_timeout().is_none_or(|next| next > now),
            "a drained peer does not ask to be called now"
        );
    }

    /// Left alone, everything that is outstanding ends.
    fn rest(&mut self) {
        self.drain();
        for _ in 0..64 {
            let Some(next) = self.peer.poll_timeout() else { break };
            self.clock.reach(next);
            self.drain();
        }
        assert_eq!(self.peer.poll_timeout(), None, "the peer comes to rest");
        assert!(self.peer.is_idle());
        self.clock.pass(1_000_000);
        self.peer.forget(self.clock.now());
        assert_eq!(self.peer.next_expiry(), None, "what is remembered expires");
    }
}

fn write<'b>(buffer: &'b mut [u8], code: Code, payload: &[u8]) -> Writer<'b> {
    let mut writer = Writer::new(buffer, Room { head: 29, tail: 8 }, code);
    // A payload past the buffer leaves the message without one.
    let _ = writer.content_format(ContentFormat::TEXT).map(|writer| writer.payload(payload));
    writer
}
