//! A device under OSCORE that says what it is told to say.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;

use lwm2m_coap::{Code, Delivery, Exchange, Input, OptionNumber, Peer, Rng, TokenPolicy, Writer, udp};
use lwm2m_server::Operation;
use lwm2m_server::credentials::{
    Enrol, EnrolAccount, KeyMaterial, OscoreKey, OscoreParts, Rederivation, Role,
};
use lwm2m_server::endpoint::{Address, Listener};
use oscore::{Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Session};
use zeroize::Zeroizing;

use crate::support::{Device, World, address};

pub(crate) const LINKS: &str = "</1/0>,</3/0>";
pub(crate) const SECRET: [u8; 16] = [0x42; 16];

/// What the server knows of a device with this kid.
pub(crate) fn parts(kid: &[u8]) -> OscoreParts {
    OscoreParts {
        master_secret: Zeroizing::new(SECRET.to_vec()),
        sender_id: b"s".to_vec(),
        recipient_id: kid.to_vec(),
        rederivation: Rederivation::Never,
        ..OscoreParts::default()
    }
}

pub(crate) fn enrol(world: &mut World, endpoint: &str, role: Role, parts: OscoreParts) {
    enrol_as(world, endpoint, role, KeyMaterial::Oscore(OscoreKey::new(parts).unwrap()));
}

pub(crate) fn enrol_as(world: &mut World, endpoint: &str, role: Role, key: KeyMaterial) {
    let enrol = Enrol { accounts: vec![EnrolAccount { role, key }], ..Enrol::default() };
    let outcome = world.credentials.enrol(world.now.as_millis(), "test", endpoint, &enrol).unwrap();
    for command in outcome.commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.settle();
}

/// A message as the device reads it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) code: Code,
    pub(crate) options: Vec<(OptionNumber, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
}

impl Got {
    pub(crate) fn of(message: &lwm2m_coap::Message<'_>) -> Self {
        Self {
            code: message.code,
            options: message.options.iter().map(|(number, value)| (number, value.to_vec())).collect(),
            payload: message.payload.to_vec(),
        }
    }

    pub(crate) fn option(&self, number: OptionNumber) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == number).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn path(&self, number: OptionNumber) -> String {
        let segments = self.options.iter().filter(|(other, _)| *other == number);
        segments.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join("/")
    }
}

/// A device under OSCORE that says what it is told to say.
pub(crate) struct Thing {
    /// The DTLS session that its messages go through, if there is one.
    pub(crate) dtls: Option<Device>,
    pub(crate) local: Listener,
    pub(crate) address: Address,
    pub(crate) parameters: Parameters,
    pub(crate) session: Session,
    pub(crate) observations: heapless::Vec<Observation, 4>,
    pub(crate) peer: Peer<heapless::Vec<u8, 1280>, 4, 8, 0, Binding>,
    pub(crate) asked: VecDeque<(Exchange<Binding>, Got)>,
    pub(crate) answers: VecDeque<Got>,
    /// What came without protection.
    pub(crate) bare: Vec<Code>,
    /// What it sent last.
    pub(crate) last: Vec<u8>,
    pub(crate) may_rederive: bool,
}

pub(crate) fn rng() -> impl FnMut(&mut [u8]) {
    let mut state = 0_u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(5).wrapping_add(113);
            *byte = state;
        }
    }
}

pub(crate) fn reserve(session: &mut Session) {
    while let Some(wanted) = session.wanted() {
        session.saved(&wanted);
    }
}

impl Thing {
    pub(crate) fn new(world: &World, port: u16, parts: &OscoreParts) -> Self {
        Self::with(world, port, parts, |parameters| parameters)
    }

    pub(crate) fn with(
        world: &World,
        port: u16,
        parts: &OscoreParts,
        change: impl FnOnce(Parameters) -> Parameters,
    ) -> Self {
        let id = |bytes: &[u8]| KeyId::new(bytes).unwrap();
        let secret = MasterSecret::new(&parts.master_secret).unwrap();
        let mut parameters = Parameters::new(secret, id(&parts.recipient_id), id(&parts.sender_id)).unwrap();
        if let Some(id) = &parts.id_context {
            parameters = parameters.with_id_context(id).unwrap();
        }
        let parameters = change(parameters);
        let mut random = rng();
        let mut random: &mut Rng<'_> = &mut random;
        let mut session = Session::new(&parameters, [9; Session::RANDOM]);
        reserve(&mut session);
        Self {
            dtls: None,
            local: Listener::Coap,
            address: address(port),
            parameters,
            session,
            observations: heapless::Vec::new(),
            peer: Peer::new(&lwm2m_coap::Parameters::DEFAULT, TokenPolicy::SECURED, &mut random),
            asked: VecDeque::new(),
            answers: VecDeque::new(),
            bare: Vec::new(),
            last: Vec::new(),
            may_rederive: !matches!(parts.rederivation, Rederivation::Never) && world.now.as_millis() > 0,
        }
    }

    /// Registered, after the server wanted to see whatever it wanted to see.
    pub(crate) fn registered(
        world: &mut World,
        port: u16,
        endpoint: &str,
        parts: OscoreParts,
    ) -> (Self, String) {
        enrol(world, endpoint, Role::Management, parts.clone());
        let mut thing = Self::new(world, port, &parts);
        let location = thing.register(world, endpoint);
        (thing, location)
    }

    pub(crate) fn register(&mut self, world: &mut World, endpoint: &str) -> String {
        let answer = self.request(world, Code::POST, &format!("rd?ep={endpoint}&lt=86400&lwm2m=1.1"), LINKS);
        assert_eq!(answer.code, Code::CREATED, "{answer:?}");
        answer.path(OptionNumber::LOCATION_PATH)
    }

    /// Protects a request; `echo` is the value that the server wants to see.
    pub(crate) fn protect(
        &mut self,
        world: &World,
        code: Code,
        uri: &str,
        payload: &str,
        echo: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut random = rng();
        let token = self.peer.next_token(&mut random, |_| false);
        let mut buffer = vec![0; 1280];
        let mut writer = Writer::new(&mut buffer, self.session.room(), code);
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        writer.split(OptionNumber::URI_PATH, path, '/').unwrap();
        if !payload.is_empty() {
            writer.option(OptionNumber::CONTENT_FORMAT, &[40]).unwrap();
        }
        writer.split(OptionNumber::URI_QUERY, query, '&').unwrap();
        if let Some(echo) = echo {
            writer.option(OptionNumber::ECHO, echo).unwrap();
        }
        writer.payload(payload.as_bytes()).unwrap();
        let Self { parameters, session, observations, peer, .. } = self;
        let mut protection = Protection::new(session, observations, rederivation(parameters, world));
        let (_, range) = peer
            .request(world.now, Delivery::Confirmable, token, writer, &mut protection, &mut random)
            .unwrap();
        reserve(session);
        self.last = buffer[range].to_vec();
        self.last.clone()
    }

    /// Sends a request once and takes in what comes.
    pub(crate) fn send(
        &mut self,
        world: &mut World,
        code: Code,
        uri: &str,
        payload: &str,
        echo: Option<&[u8]>,
    ) -> Option<Got> {
        let bytes = self.protect(world, code, uri, payload, echo);
        self.deliver(world, &bytes);
        self.run(world);
        self.answers.pop_front()
    }

    /// Sends a request, again where the server wants to see an Echo value or new keys.
    pub(crate) fn request(&mut self, world: &mut World, code: Code, uri: &str, payload: &str) -> Got {
        let mut answer = self.send(world, code, uri, payload, None).expect("an answer");
        for _ in 0..2 {
            if answer.code == Code::UNAUTHORIZED {
                let echo = answer.option(OptionNumber::ECHO).map(<[u8]>::to_vec);
                answer = self.send(world, code, uri, payload, echo.as_deref()).expect("an answer");
            }
        }
        answer
    }

    /// Takes in what was sent to it.
    pub(crate) fn run(&mut self, world: &mut World) {
        while let Some(bytes) = self.next_datagram(world) {
            self.take_in(world, bytes);
        }
    }

    /// Takes in a message, and sends what it leads to.
    pub(crate) fn take_in(&mut self, world: &mut World, mut bytes: Vec<u8>) {
        if let Ok((_, message)) = udp::parse(&bytes)
            && message.code != Code::EMPTY
            && message.options.get(OptionNumber::OSCORE).is_none()
        {
            self.bare.push(message.code);
        }
        let rederivation = rederivation(&self.parameters, world).filter(|_| self.may_rederive);
        let mut protection = Protection::new(&mut self.session, &mut self.observations, rederivation);
        match self.peer.handle(world.now, &mut bytes, &mut protection) {
            Input::Request { exchange, message } => {
                let got = Got::of(&message);
                self.asked.push_back((exchange, got));
            }
            Input::Response { message, .. } => self.answers.push_back(Got::of(&message)),
            _ => {}
        }
        reserve(&mut self.session);
        let mut out = [0; 1280];
        while let Some(length) = self.peer.poll_transmit(world.now, &mut out) {
            self.deliver(world, &out[..length]);
        }
    }

    /// Sends a message as it is, in a record if there is a session.
    pub(crate) fn deliver(&mut self, world: &mut World, message: &[u8]) {
        let datagram = self.dtls.as_mut().map(|dtls| dtls.sealed(message));
        world.receive(self.local, self.address, datagram.as_deref().unwrap_or(message));
    }

    pub(crate) fn next_datagram(&mut self, world: &mut World) -> Option<Vec<u8>> {
        loop {
            let is_here =
                |(local, to, _): &(Listener, Address, Vec<u8>)| (*local, *to) == (self.local, self.address);
            let index = world.sent.iter().position(is_here)?;
            let (_, _, bytes) = world.sent.remove(index)?;
            let Some(dtls) = &mut self.dtls else { return Some(bytes) };
            let message = dtls.opened(world, &bytes);
            // What its session has to say by itself.
            for datagram in dtls.due(world) {
                world.receive(self.local, self.address, &datagram);
            }
            if message.is_some() {
                return message;
            }
        }
    }

    /// The next request of the server.
    pub(crate) fn next(&mut self, world: &mut World) -> (Exchange<Binding>, Got) {
        self.run(world);
        self.asked.pop_front().expect("a request of the server")
    }

    /// Waits for no answer any more.
    pub(crate) fn forget(&mut self, world: &World) {
        self.peer.fail_all();
        while self.peer.poll_event(world.now).is_some() {}
    }

    /// Answers a request of the server.
    pub(crate) fn answer(
        &mut self,
        world: &mut World,
        exchange: &mut Exchange<Binding>,
        code: Code,
        options: &[(OptionNumber, &[u8])],
        payload: &str,
    ) {
        let mut buffer = vec![0; 1280];
        let mut writer = Writer::new(&mut buffer, self.session.room(), code);
        for (number, value) in options {
            writer.option(*number, value).unwrap();
        }
        writer.payload(payload.as_bytes()).unwrap();
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        let range = self.peer.respond(world.now, exchange, writer, &mut protection, &mut rng()).unwrap();
        reserve(&mut self.session);
        self.deliver(world, &buffer[range]);
    }

    /// Answers the next request of the server with a text.
    pub(crate) fn answer_next(&mut self, world: &mut World, text: &str) {
        let (mut exchange, _) = self.next(world);
        self.answer(world, &mut exchange, Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, &[])], text);
    }

    /// Notifies the server of what it observes by this request.
    pub(crate) fn notify(&mut self, world: &mut World, exchange: &Exchange<Binding>, payload: &str) {
        let mut buffer = vec![0; 1280];
        let mut writer = Writer::new(&mut buffer, self.session.room(), Code::CONTENT);
        writer.observe(1).unwrap();
        writer.option(OptionNumber::CONTENT_FORMAT, &[]).unwrap();
        writer.payload(payload.as_bytes()).unwrap();
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        let observer = exchange.observer();
        let delivery = Delivery::NonConfirmable;
        let range =
            self.peer.notify(world.now, delivery, &observer, writer, &mut protection, &mut rng()).unwrap();
        reserve(&mut self.session);
        self.deliver(world, &buffer[range]);
    }

    /// The same, while the test holds back what the server has to say.
    pub(crate) fn answer_unsettled(&mut self, world: &mut World, exchange: &mut Exchange<Binding>) {
        let mut buffer = vec![0; 1280];
        let writer = Writer::new(&mut buffer, self.session.room(), Code::CONTENT);
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        let range = self.peer.respond(world.now, exchange, writer, &mut protection, &mut rng()).unwrap();
        reserve(&mut self.session);
        world.receive_unsettled(self.local, self.address, &buffer[range]);
    }
}

pub(crate) fn rederivation<'a>(
    parameters: &'a Parameters,
    world: &World,
) -> Option<oscore::Rederivation<'a>> {
    Some(oscore::Rederivation { parameters, now: world.now, random: [0x31; 8], durable: false })
}

impl Thing {
    /// Begins Appendix B.2: the next request is its first.
    pub(crate) fn rederive(&mut self, world: &World) {
        let random = [world.now.as_millis() as u8; oscore::Rederivation::RANDOM];
        self.session.rederive(&oscore::Rederivation {
            parameters: &self.parameters,
            now: world.now,
            random,
            durable: false,
        });
    }
}

pub(crate) fn read(path: &str) -> Operation {
    Operation::Read { path: path.parse().unwrap(), format: None }
}

impl Thing {
    /// Carries out a bootstrap: what was written, and where, in the order of the requests.
    pub(crate) fn bootstrap(
        &mut self,
        world: &mut World,
        endpoint: &str,
        discovered: &str,
    ) -> Vec<(Code, String, Vec<u8>)> {
        if self.dtls.is_none() {
            self.local = Listener::BootstrapCoap;
        }
        let answer = self.request(world, Code::POST, &format!("bs?ep={endpoint}"), "");
        assert_eq!(answer.code, Code::CHANGED);
        self.bootstrapped(world, discovered, &[])
    }

    /// Answers the requests of a bootstrap, its first Finishes with these codes; what was written, and where, in the order of the
    /// requests.
    pub(crate) fn bootstrapped(
        &mut self,
        world: &mut World,
        discovered: &str,
        finishes: &[Code],
    ) -> Vec<(Code, String, Vec<u8>)> {
        let mut requests = Vec::new();
        let mut finishes = finishes.iter().peekable();
        loop {
            let (mut exchange, got) = self.next(world);
            let path = got.path(OptionNumber::URI_PATH);
            let (code, body) = match (got.code, path.as_str()) {
                (Code::GET, _) => (Code::CONTENT, discovered),
                (Code::DELETE, _) => (Code::DELETED, ""),
                _ => (Code::CHANGED, ""),
            };
            let is_finish = path == "bs";
            let refused = finishes.next_if(|_| is_finish);
            let (is_over, code) = (is_finish && refused.is_none(), refused.copied().unwrap_or(code));
            requests.push((got.code, path, got.payload));
            let format = [(OptionNumber::CONTENT_FORMAT, &[40][..])];
            self.answer(world, &mut exchange, code, if body.is_empty() { &[] } else { &format }, body);
            if is_over {
                world.settle();
                return requests;
            }
        }
    }
}

/// The resources of an instance in TLV, each of less than 256 bytes.
pub(crate) fn resources(mut tlv: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut resources = Vec::new();
    while let [head, id, rest @ ..] = tlv {
        let (length, rest) = if head & 0x18 == 0x08 { (rest[0], &rest[1..]) } else { (head & 7, rest) };
        let (value, behind) = rest.split_at(length.into());
        resources.push((*id, value.to_vec()));
        tlv = behind;
    }
    resources
}
