//! OSCORE alone (RFC 8613, LwM2M Transport 1.2.1 §5.5): devices that protect each message, from whatever address.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test")]

mod support;

use std::collections::VecDeque;



use lwm2m_coap::{
    Code, Delivery, Exchange, Input, OptionNumber, Peer, Rng, Token, TokenPolicy, Writer, udp,
};
use lwm2m_server::credentials::{
    Enrol, EnrolAccount, KeyMaterial, OscoreKey, OscoreParts, Rederivation, Role,
};
use lwm2m_server::endpoint::{Address, Listener};
use lwm2m_server::Operation;
use oscore::{Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Session};
use support::{World, address};
use zeroize::Zeroizing;

const LINKS: &str = "</1/0>,</3/0>";
const SECRET: [u8; 16] = [0x42; 16];

/// What the server knows of a device with this kid.
fn parts(kid: &[u8]) -> OscoreParts {
    OscoreParts {
        master_secret: Zeroizing::new(SECRET.to_vec()),
        sender_id: b"s".to_vec(),
        recipient_id: kid.to_vec(),
        rederivation: Rederivation::Never,
        ..OscoreParts::default()
    }
}

fn enrol(world: &mut World, endpoint: &str, role: Role, parts: OscoreParts) {
    let key = KeyMaterial::Oscore(OscoreKey::new(parts).unwrap());
    let enrol = Enrol { accounts: vec![EnrolAccount { role, key }], ..Enrol::default() };
    let outcome = world.credentials.enrol(world.now.as_millis(), "test", endpoint, &enrol).unwrap();
    for command in outcome.commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
}

/// A message as the device reads it.
#[derive(Clone, Debug)]
struct Got {
    code: Code,
    token: Token,
    options: Vec<(OptionNumber, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Got {
    fn of(message: &lwm2m_coap::Message<'_>) -> Self {
        Self {
            code: message.code,
            token: message.token,
            options: message.options.iter().map(|(number, value)| (number, value.to_vec())).collect(),
            payload: message.payload.to_vec(),
        }
    }

    fn option(&self, number: OptionNumber) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == number).map(|(_, value)| value.as_slice())
    }

    fn path(&self, number: OptionNumber) -> String {
        let segments = self.options.iter().filter(|(other, _)| *other == number);
        segments.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join("/")
    }
}

/// A device under OSCORE that says what it is told to say.
struct Thing {
    local: Listener,
    address: Address,
    parameters: Parameters,
    session: Session,
    observations: heapless::Vec<Observation, 4>,
    peer: Peer<heapless::Vec<u8, 1280>, 4, 8, 0, Binding>,
    asked: VecDeque<(Exchange<Binding>, Got)>,
    answers: VecDeque<Got>,
    /// What came without protection.
    bare: Vec<Code>,
    /// What it sent last.
    last: Vec<u8>,
    may_rederive: bool,
}

fn rng() -> impl FnMut(&mut [u8]) {
    let mut state = 0_u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(5).wrapping_add(113);
            *byte = state;
        }
    }
}

fn reserve(session: &mut Session) {
    while let Some(wanted) = session.wanted() {
        session.saved(&wanted);
    }
}

impl Thing {
    fn new(world: &World, port: u16, parts: &OscoreParts) -> Self {
        let id = |bytes: &[u8]| KeyId::new(bytes).unwrap();
        let secret = MasterSecret::new(&parts.master_secret).unwrap();
        let mut parameters =
            Parameters::new(secret, id(&parts.recipient_id), id(&parts.sender_id)).unwrap();
        if let Some(id) = &parts.id_context {
            parameters = parameters.with_id_context(id).unwrap();
        }
        let mut random = rng();
        let mut random: &mut Rng<'_> = &mut random;
        let mut session = Session::new(&parameters, [9; Session::RANDOM]);
        reserve(&mut session);
        Self {
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
    fn registered(world: &mut World, port: u16, endpoint: &str, parts: OscoreParts) -> (Self, String) {
        enrol(world, endpoint, Role::Management, parts.clone());
        let mut thing = Self::new(world, port, &parts);
        let location = thing.register(world, endpoint);
        (thing, location)
    }

    fn register(&mut self, world: &mut World, endpoint: &str) -> String {
        let answer = self.request(world, Code::POST, &format!("rd?ep={endpoint}&lt=86400&lwm2m=1.1"), LINKS);
        assert_eq!(answer.code, Code::CREATED, "{answer:?}");
        answer.path(OptionNumber::LOCATION_PATH)
    }

    /// Protects a request; `echo` is the value that the server wants to see.
    fn protect(&mut self, world: &World, code: Code, uri: &str, payload: &str, echo: Option<&[u8]>) -> Vec<u8> {
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
    fn send(&mut self, world: &mut World, code: Code, uri: &str, payload: &str, echo: Option<&[u8]>) -> Option<Got> {
        let bytes = self.protect(world, code, uri, payload, echo);
        world.receive(self.local, self.address, &bytes);
        self.run(world);
        self.answers.pop_front()
    }

    /// Sends a request, again where the server wants to see an Echo value or new keys.
    fn request(&mut self, world: &mut World, code: Code, uri: &str, payload: &str) -> Got {
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
    fn run(&mut self, world: &mut World) {
        while let Some(mut bytes) = self.next_datagram(world) {
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
                world.receive(self.local, self.address, &out[..length]);
            }
        }
    }

    fn next_datagram(&self, world: &mut World) -> Option<Vec<u8>> {
        let index = world.sent.iter().position(|(local, to, _)| (*local, *to) == (self.local, self.address))?;
        world.sent.remove(index).map(|(_, _, bytes)| bytes)
    }

    /// The next request of the server.
    fn next(&mut self, world: &mut World) -> (Exchange<Binding>, Got) {
        self.run(world);
        self.asked.pop_front().expect("a request of the server")
    }

    /// Answers a request of the server.
    fn answer(
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
        world.receive(self.local, self.address, &buffer[range]);
    }

    /// Notifies the server of what it observes by this request.
    fn notify(&mut self, world: &mut World, exchange: &Exchange<Binding>, payload: &str) {
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
        world.receive(self.local, self.address, &buffer[range]);
    }

    /// It lost all but what storage has.
    fn restart(&mut self) {
        let mut session = Session::new(&self.parameters, [10; Session::RANDOM]);
        reserve(&mut session);
        self.session = session;
    }
}

fn rederivation<'a>(parameters: &'a Parameters, world: &World) -> Option<oscore::Rederivation<'a>> {
    Some(oscore::Rederivation { parameters, now: world.now, random: [0x31; 8], durable: false })
}

fn read(path: &str) -> Operation {
    Operation::Read { path: path.parse().unwrap(), format: None }
}

// --- Management

#[test]
fn a_device_registers_under_oscore_and_is_read_written_and_observed() {
    let mut world = World::new(false);
    let (mut thing, location) = Thing::registered(&mut world, 40_000, "a", parts(b"1"));
    let device = world.endpoint.device("a").unwrap();
    assert_eq!((device.location, device.generation), (format!("/{location}"), 1));
    assert_eq!(world.told(), ["registered a"]);
    assert_eq!(thing.request(&mut world, Code::POST, &location, "").code, Code::CHANGED);

    let id = world.request("a", read("/3/0/0")).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!((got.code, got.path(OptionNumber::URI_PATH).as_str()), (Code::GET, "3/0/0"));
    thing.answer(&mut world, &mut exchange, Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, &[])], "maker");
    assert!(format!("{:?}", world.outcome(id).unwrap()).contains("maker"));

    let id = world.request("a", Operation::Observe { path: "/3/0/9".parse().unwrap(), format: None }).unwrap();
    let (mut exchange, got) = thing.next(&mut world);
    assert_eq!(got.option(OptionNumber::OBSERVE), Some(&[][..]));
    let options = [(OptionNumber::OBSERVE, &[][..]), (OptionNumber::CONTENT_FORMAT, &[][..])];
    thing.answer(&mut world, &mut exchange, Code::CONTENT, &options, "90");
    assert!(world.outcome(id).is_ok());
    world.told();
    for value in ["80", "70"] {
        thing.notify(&mut world, &exchange, value);
    }
    let told = world.told();
    assert!(told.len() == 2 && told[0].contains("Integer(80)") && told[1].contains("Integer(70)"), "{told:?}");
    assert_eq!(thing.request(&mut world, Code::DELETE, &location, "").code, Code::DELETED);
    assert!(thing.bare.is_empty());
}
