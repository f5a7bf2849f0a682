//! A device, scripted servers and a network between them, all in memory and on a virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dtls_psk::{Accepted, Choice, Connection, CookieJar, Datagram, HEADROOM, Handshake, TAILROOM};
use lwm2m_client::objects::{
    Arguments, At, Change, Completion, Content, Error, Format, Object, ObjectDef, Operation, Target, Value,
    defs, format, mapping,
};
use lwm2m_client::{
    Action, Client, Config, Credential, Event, FactoryAccount, Instant, Key, Notice, PresharedKey, Server,
    ShortServerId, Store, StoreError, provision,
};
use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{
    Code, Delivery, Exchange, Input, Kind, OptionNumber, Parameters, Peer, Room, Token, TokenPolicy, Writer,
};

use crate::prover::{Owner, Secured};
use crate::shield::{Bound, Shield, hook};

pub type TestClient = Client<'static, 4, 4, 4, 6, BODY>;

/// A certificate needs more.
pub const BODY: usize = if cfg!(feature = "x509") { 2048 } else { 512 };

/// What a server got: a request of the device, or a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub code: Code,
    pub path: String,
    pub query: Vec<String>,
    pub payload: Vec<u8>,
    pub token: Vec<u8>,
    pub observe: Option<u32>,
    pub format: Option<u16>,
    pub echo: Option<Vec<u8>>,
    pub tag: Option<Vec<u8>>,
    pub is_confirmable: bool,
    pub at: Instant,
}

impl Received {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    fn new(message: &lwm2m_coap::Message<'_>, at: Instant) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Received {
            code: message.code,
            path: message.options.uri_path().map(|segment| format!("/{}", text(segment))).collect(),
            query: message.options.uri_query().map(text).collect(),
            payload: message.payload.to_vec(),
            token: message.token.bytes().to_vec(),
            observe: message.options.observe(),
            format: message.options.content_format().map(|format| format.0),
            echo: message.options.echo().map(<[u8]>::to_vec),
            tag: message.options.get(OptionNumber::REQUEST_TAG).map(<[u8]>::to_vec),
            is_confirmable: false,
            at,
        }
    }
}

type ServerPeer = Peer<Kept, 4, 16, 0, Bound>;

/// The copy of a message, of any length.
struct Kept(Vec<u8>);

impl lwm2m_coap::Stored for Kept {
    fn store(bytes: &[u8]) -> Option<Self> {
        Some(Kept(bytes.to_vec()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

static PARAMETERS: Parameters = Parameters::DEFAULT;

/// A response of the device: to what, what, the segments of its location, its block.
type Answered = (lwm2m_coap::RequestId, Received, Vec<String>, Option<(u32, bool)>);

type BoxedRng = Box<dyn FnMut(&mut [u8])>;

/// A server at one port, which answers what devices ask of it and does what a test says.
pub struct Script {
    pub port: u16,
    peer: ServerPeer,
    pub requests: Vec<Received>,
    pub notifications: Vec<Received>,
    responses: Vec<Answered>,
    /// Keys by identity; without any, and without a key to sign with, the server speaks plain CoAP.
    pub keys: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What messages are protected with.
    pub shield: Option<Shield>,
    /// Resets requests with an ID Context.
    pub resets_id_contexts: bool,
    /// What the server proves itself with by a signature, and whom it takes.
    pub owner: Owner,
    jar: Option<CookieJar>,
    connections: Vec<Secured>,
    pub handshakes: usize,
    /// Sessions that the server goes on with, of those that it made; without a list it makes none.
    #[cfg(feature = "resumption")]
    pub sessions: Option<Vec<dtls_psk::Session>>,
    /// Handshakes that took one up.
    pub resumed: usize,
    /// The cipher suites that the server takes.
    pub suites: dtls_psk::Suites,
    /// The list of them in the last ClientHello with a cookie.
    pub offered: Vec<u8>,
    /// The names that devices asked for.
    #[cfg(feature = "x509")]
    pub names: Vec<Option<String>>,
    /// Datagrams that an alert answered.
    pub hellos: usize,
    /// Nothing arrives and nothing leaves.
    pub is_dead: bool,
    /// Answers every ClientHello with this fatal alert instead.
    pub alert: Option<u8>,
    /// Answers what comes without this Echo value with 4.01 and the value.
    pub challenge: Option<Vec<u8>>,
    /// Takes no Echo value at all.
    pub is_never_convinced: bool,
    /// Answers the next request with 4.13 and blocks of this size.
    pub smaller: Option<usize>,
    /// Answers Register and Bootstrap-Request with that instead.
    pub refusal: Option<Code>,
    /// Answers Bootstrap-Request with 4.15 while it asks for a format.
    pub knows_no_format: bool,
    /// The only version it knows, as a query.
    pub only: Option<&'static str>,
    /// Answers Update with that instead.
    pub update_code: Code,
    /// What every other answer says about when to come again.
    pub max_age: Option<u32>,
    /// What leaves waits until it is released.
    pub is_held: bool,
    held: VecDeque<Vec<u8>>,
    /// The last request.
    pub posted: Vec<u8>,
    pub reject_notifications: bool,
    deliver: VecDeque<Vec<u8>>,
    registrations: usize,
    seed: u8,
}

impl Script {
    pub fn new(port: u16) -> Self {
        let mut rng = counter_rng(7);
        Script {
            port,
            peer: Peer::new(&PARAMETERS, TokenPolicy::Random, &mut rng),
            requests: Vec::new(),
            notifications: Vec::new(),
            responses: Vec::new(),
            keys: BTreeMap::new(),
            shield: None,
            resets_id_contexts: false,
            owner: Owner::default(),
            jar: None,
            connections: Vec::new(),
            handshakes: 0,
            #[cfg(feature = "resumption")]
            sessions: None,
            resumed: 0,
            suites: dtls_psk::Suites::DEFAULT,
            offered: Vec::new(),
            #[cfg(feature = "x509")]
            names: Vec::new(),
            hellos: 0,
            is_dead: false,
            challenge: None,
            is_never_convinced: false,
            smaller: None,
            alert: None,
            refusal: None,
            knows_no_format: false,
            only: None,
            update_code: Code::CHANGED,
            max_age: None,
            is_held: false,
            held: VecDeque::new(),
            posted: Vec::new(),
            reject_notifications: false,
            deliver: VecDeque::new(),
            registrations: 0,
            seed: 1,
        }
    }

    pub fn secured(port: u16, identity: &str, key: &[u8]) -> Self {
        let mut script = Script::new(port);
        script.keys.insert(identity.into(), key.into());
        script
    }

    /// The same with messages that are protected, whether in DTLS or not.
    pub fn shielded(self, parameters: oscore::Parameters) -> Self {
        let peer = Peer::new(&PARAMETERS, TokenPolicy::SECURED, &mut counter_rng(9));
        Script { shield: Some(Shield::new(parameters)), peer, ..self }
    }

    /// A server that proves itself by a signature.
    #[cfg(feature = "rpk")]
    pub fn signing(port: u16, owner: Owner) -> Self {
        let suites = [dtls_psk::Suite::PskAes128Ccm8, dtls_psk::Suite::EcdheEcdsaAes128Ccm8];
        Script { owner, suites: dtls_psk::Suites::new(&suites).unwrap(), ..Script::new(port) }
    }

    fn rng(&mut self) -> impl FnMut(&mut [u8]) + use<> {
        self.seed = self.seed.wrapping_add(1);
        counter_rng(self.seed)
    }

    fn handle(&mut self, now: Instant, datagram: &mut [u8]) {
        if self.is_dead {
            return;
        }
        if self.keys.is_empty() && !self.owner.signs() {
            return self.handle_message(now, datagram);
        }
        if let Some(alert) = self.alert {
            self.hellos += 1;
            return self.deliver.push_back([21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, alert].into());
        }
        let mut rng = self.rng();
        let time = dtls_psk::Instant::from_millis(now.as_millis());
        let mut scratch = vec![0; datagram.len()];
        match dtls_psk::choose(self.connections.iter(), datagram, &mut scratch) {
            Choice::New => {
                let jar = self.jar.get_or_insert_with(|| CookieJar::new(time, &mut rng));
                let mut out = [0; 256];
                let config = self.owner.config(self.suites);
                // Behind the headers, version, random and empty session id: the cookie, then the suites.
                let behind = datagram.get(13 + 12 + 2 + 32 + 1..).unwrap_or_default();
                let behind = behind.get(1 + usize::from(behind[0])..).unwrap_or_default();
                self.offered = behind[2..][..usize::from(behind[1])].to_vec();
                match jar.accept(time, &config, &mut rng, b"address", datagram, &mut out) {
                    Accepted::Reply(length) => self.deliver.push_back(out[..length].to_vec()),
                    Accepted::Verified(hello) => {
                        #[cfg(feature = "x509")]
                        self.names
                            .push(hello.server_name().map(|name| String::from_utf8(name.to_vec()).unwrap()));
                        let memory = Box::new(Handshake::new());
                        #[cfg(feature = "resumption")]
                        let connection = {
                            let id = [u8::try_from(self.handshakes).unwrap() + 1; 8];
                            let known = self.sessions.iter().flatten();
                            let resumption =
                                match known.clone().find(|known| known.id() == hello.session_id()) {
                                    Some(session) => dtls_psk::Resumption::Accept(session),
                                    None if self.sessions.is_some() => dtls_psk::Resumption::Offer(&id),
                                    None => dtls_psk::Resumption::No,
                                };
                            Connection::resuming_server(time, &config, &hello, resumption, &mut rng, memory)
                                .unwrap()
                        };
                        #[cfg(not(feature = "resumption"))]
                        let connection = Connection::server(time, &config, &hello, &mut rng, memory).unwrap();
                        self.connections.insert(0, connection);
                        self.connections.truncate(2);
                    }
                    Accepted::Refused { length, .. } => self.deliver.push_back(out[..length].to_vec()),
                    other => panic!("{other:?}"),
                }
            }
            Choice::Candidate(index) => {
                let mut records = Datagram::new(datagram);
                while let Some(input) = self.connections[index].handle(time, &mut records) {
                    match input {
                        dtls_psk::Input::Established { full } => {
                            self.resumed += usize::from(!full);
                            self.established(index);
                        }
                        dtls_psk::Input::Application(bytes) => {
                            let mut bytes = bytes.to_vec();
                            self.handle_message(now, &mut bytes);
                        }
                        _ => {}
                    }
                }
                let connection = &mut self.connections[index];
                if self.owner.answer(&self.keys, connection, time) {
                    self.established(index);
                }
            }
            Choice::Dropped(_) => {}
        }
        let mut out = [0; 1500];
        for index in 0..self.connections.len() {
            while let Some(length) = self.connections[index].poll_transmit(time, &mut out) {
                self.deliver.push_back(out[..length].to_vec());
            }
        }
    }

    fn established(&mut self, index: usize) {
        self.handshakes += 1;
        self.connections.swap(0, index);
        #[cfg(feature = "resumption")]
        if let Some(sessions) = &mut self.sessions {
            sessions.extend(self.connections[0].take_session());
        }
        let mut rng = self.rng();
        self.peer = Peer::new(&PARAMETERS, TokenPolicy::SECURED, &mut rng);
    }

    /// The association is lost here, as after a restart of the server.
    pub fn forget(&mut self) {
        self.connections.clear();
        let mut rng = self.rng();
        self.peer = Peer::new(&PARAMETERS, TokenPolicy::Random, &mut rng);
    }

    /// Lets go what was held back so far.
    pub fn release(&mut self) {
        self.deliver.append(&mut self.held);
    }

    /// Sends close_notify.
    pub fn close(&mut self) {
        let mut out = [0; 256];
        let time = dtls_psk::Instant::from_millis(0);
        self.connections[0].close();
        while let Some(length) = self.connections[0].poll_transmit(time, &mut out) {
            self.deliver.push_back(out[..length].to_vec());
        }
        self.connections.clear();
    }

    fn handle_message(&mut self, now: Instant, datagram: &mut [u8]) {
        if self.resets_id_contexts
            && crate::shield::option(datagram).is_some_and(|option| option.kid_context.is_some())
        {
            self.posted = vec![0x70, 0, datagram[2], datagram[3]];
            return self.deliver.push_back(self.posted.clone());
        }
        let mut rng = self.rng();
        let mut hook = hook(&mut self.shield, now, &mut rng);
        let number = crate::shield::option(datagram).and_then(|option| Some(option.partial_iv?.sequence()));
        let input = self.peer.handle(now, datagram, &mut hook);
        let is_current = match &input {
            Input::Request { exchange, .. } => {
                exchange.binding().is_some_and(|binding| binding.standing() != oscore::Standing::Rederiving)
            }
            Input::Response { .. } | Input::Unsolicited { .. } => true,
            _ => false,
        };
        if let Some(shield) = self.shield.as_mut().filter(|_| is_current) {
            shield.note(number);
        }
        match input {
            Input::Request { mut exchange, message } => {
                if let Some(shield) = &mut self.shield
                    && let Some(code) = shield.refuse(now, &mut exchange, &message)
                {
                    return self.refuse(now, exchange, code);
                }
                let received = Received::new(&message, now);
                let block1 = message.options.block1().unwrap();
                self.requests.push(received.clone());
                self.answer(now, exchange, &received, block1);
            }
            Input::Response { request, message } => {
                let location = message.options.location_path();
                let location = location.map(|segment| String::from_utf8(segment.to_vec()).unwrap()).collect();
                let block1 = message.options.block1().unwrap();
                let block2 = message.options.block2().unwrap();
                let block = block1.or(block2).map(|block| (block.number(), block.more()));
                self.responses.push((request, Received::new(&message, now), location, block));
            }
            Input::Unsolicited { header, message } => {
                let is_confirmable = header.kind == Kind::Confirmable;
                self.notifications.push(Received { is_confirmable, ..Received::new(&message, now) });
                if self.reject_notifications { self.peer.reject(header) } else { self.peer.accept(header) }
            }
            _ => {}
        }
        self.drain(now);
    }

    /// Answers what has to prove that it is fresh, or is to come again under new keys.
    fn refuse(&mut self, now: Instant, mut exchange: Exchange<Bound>, code: crate::shield::Refusal) {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, ROOM, Code::UNAUTHORIZED);
        code.write(&mut writer);
        let mut rng = self.rng();
        let mut hook = hook(&mut self.shield, now, &mut rng);
        let range = self.peer.respond(now, &mut exchange, writer, &mut hook, &mut counter_rng(3)).unwrap();
        self.post(&mut buffer, range);
        self.drain(now);
    }

    fn answer(
        &mut self,
        now: Instant,
        mut exchange: Exchange<Bound>,
        received: &Received,
        block1: Option<lwm2m_coap::block::Block>,
    ) {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, ROOM, Code::CHANGED);
        let is_new = |value: &Vec<u8>| self.is_never_convinced || received.echo.as_ref() != Some(value);
        if let Some(value) = self.challenge.clone().filter(is_new) {
            writer.set_code(Code::UNAUTHORIZED);
            writer.option(OptionNumber::ECHO, &value).unwrap();
        } else if let Some(size) = self.smaller.take() {
            writer.set_code(Code::REQUEST_ENTITY_TOO_LARGE);
            writer.block1(Block::new(0, false, Szx::fitting(size)).unwrap()).unwrap();
        } else if let Some(block) = block1.filter(|block| block.more()) {
            writer.set_code(Code::CONTINUE);
            writer.block1(block).unwrap();
        } else {
            match (received.path.as_str(), received.code) {
                ("/rd", Code::POST)
                    if self.only.is_some_and(|only| !received.query.iter().any(|query| query == only)) =>
                {
                    writer.set_code(Code::PRECONDITION_FAILED);
                }
                ("/bs", Code::POST)
                    if self.knows_no_format
                        && received.query.iter().any(|query| query.starts_with("pct=")) =>
                {
                    writer.set_code(Code::UNSUPPORTED_CONTENT_FORMAT);
                }
                ("/rd" | "/bs", Code::POST) if self.refusal.is_some() => {
                    writer.set_code(self.refusal.unwrap())
                }
                ("/rd", Code::POST) => {
                    self.registrations += 1;
                    writer.set_code(Code::CREATED);
                    writer.option(OptionNumber::LOCATION_PATH, b"rd").unwrap();
                    let name = format!("r{}", self.registrations);
                    writer.option(OptionNumber::LOCATION_PATH, name.as_bytes()).unwrap();
                }
                ("/bs", Code::POST) => {}
                (_, Code::POST) => writer.set_code(self.update_code),
                (_, Code::DELETE) => writer.set_code(Code::DELETED),
                other => panic!("{other:?}"),
            }
            if let Some(max_age) = self.max_age {
                writer.uint(OptionNumber::MAX_AGE, max_age).unwrap();
            }
            if let Some(block) = block1 {
                writer.block1(block).unwrap();
            }
        }
        let mut rng = self.rng();
        let mut hook = hook(&mut self.shield, now, &mut rng);
        let range = self.peer.respond(now, &mut exchange, writer, &mut hook, &mut counter_rng(4)).unwrap();
        self.post(&mut buffer, range);
    }

    fn drain(&mut self, now: Instant) {
        let mut buffer = [0; 1500];
        while let Some(length) = self.peer.poll_transmit(now, &mut buffer[HEADROOM..]) {
            self.post(&mut buffer, HEADROOM..HEADROOM + length);
        }
        while self.peer.poll_event(now).is_some() {}
    }

    fn post(&mut self, buffer: &mut [u8], range: std::ops::Range<usize>) {
        let range = match self.connections.first_mut() {
            Some(connection) => connection.seal(buffer, range).unwrap(),
            None => range,
        };
        self.posted = buffer[range].to_vec();
        if self.is_held {
            self.held.push_back(self.posted.clone());
        } else if !self.is_dead {
            self.deliver.push_back(self.posted.clone());
        }
    }
}

/// What a request of a server became.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub code: Code,
    pub payload: Vec<u8>,
    pub format: Option<u16>,
    pub observe: Option<u32>,
    pub location: Vec<String>,
    pub token: Vec<u8>,
    pub block: Option<(u32, bool)>,
    pub echo: Option<Vec<u8>>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

const ROOM: Room = Room { head: HEADROOM + 64, tail: TAILROOM + 16 };

pub fn counter_rng(seed: u8) -> impl FnMut(&mut [u8]) {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(12_345);
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
    }
}

/// The objects of the test device: Device, a temperature, and an object whose instances come and go.
pub struct Objects {
    pub device: Device,
    pub temperature: Temperature,
    pub notes: Notes,
}

impl Objects {
    pub fn with<R>(&mut self, with: impl FnOnce(&mut [&mut dyn Object]) -> R) -> R {
        let mut objects: [&mut dyn Object; 3] = [&mut self.device, &mut self.temperature, &mut self.notes];
        with(&mut objects)
    }
}

#[derive(Default)]
pub struct Device {
    pub reboots: usize,
    pub clock: Option<i64>,
}

impl Object for Device {
    fn definition(&self) -> &'static ObjectDef {
        &defs::DEVICE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 0 | 4 | 11 | 16) || (resource == 13 && self.clock.is_some())
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match (at.resource, at.resource_instance) {
            (0, _) => Some(Value::String("Acme")),
            (11, 0) => Some(Value::Integer(0)),
            (13, _) => self.clock.map(Value::Time),
            (16, _) => Some(Value::String("U")),
            _ => None,
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        let Change::Set { resource: 13, value: Value::Time(time), .. } = *change else {
            return Err(Error::MethodNotAllowed);
        };
        self.clock = Some(time);
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        assert_eq!(resource, 4);
        self.reboots += 1;
        Ok(Completion::Done)
    }
}

pub struct Temperature {
    pub celsius: f64,
    /// Reset of the extremes is slow: it is completed later.
    pub is_slow: bool,
    /// Measurements that wait to be reported.
    pub kept: Vec<(i64, f64)>,
}

impl Object for Temperature {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 5605 | 5700)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        (at.resource == 5700).then_some(Value::Float(self.celsius))
    }

    fn dated(&self, at: At, index: usize) -> Option<(i64, Value<'_>)> {
        let kept = self.kept.get(index).filter(|_| at.resource == 5700)?;
        Some((kept.0, Value::Float(kept.1)))
    }

    fn reported(&mut self, at: At, until: i64) {
        assert_eq!(at.instance, 0);
        if at.resource == 5700 {
            self.kept.retain(|(time, _)| *time > until);
        }
    }

    fn execute(&mut self, _: u16, _: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        Ok(if self.is_slow { Completion::Deferred } else { Completion::Done })
    }
}

lwm2m_objects::object! {
    /// Notes: a text and an attachment.
    pub NOTES = 42800 version 1.0, multiple, optional {
        0 RW S M String;
        1 RW S O Opaque;
        2 RW M O Integer;
        3 RW S O Opaque;
    }
}

#[derive(Default)]
pub struct Notes {
    pub list: BTreeMap<u16, Note>,
    pub streamed: Vec<u8>,
    /// What is streamed is completed later.
    pub is_slow: bool,
}

#[derive(Default)]
pub struct Note {
    pub text: String,
    pub attachment: Vec<u8>,
    pub numbers: BTreeMap<u16, i64>,
}

impl Object for Notes {
    fn definition(&self) -> &'static ObjectDef {
        &NOTES
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        self.list.keys().copied().find(|id| after.is_none_or(|after| *id > after))
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        self.list.get(&instance).is_some_and(|note| match resource {
            0 | 3 => true,
            1 => !note.attachment.is_empty(),
            2 => !note.numbers.is_empty(),
            _ => false,
        })
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let note = self.list.get(&at.instance)?;
        match at.resource {
            0 => Some(Value::String(&note.text)),
            1 => (!note.attachment.is_empty()).then_some(Value::Opaque(&note.attachment)),
            2 => note.numbers.get(&at.resource_instance).copied().map(Value::Integer),
            _ => None,
        }
    }

    fn next_resource_instance(&self, instance: u16, _: u16, after: Option<u16>) -> Option<u16> {
        self.list.get(&instance)?.numbers.keys().copied().find(|id| after.is_none_or(|after| *id > after))
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let note = self.list.get_mut(&instance).ok_or(Error::NotFound)?;
        match *change {
            Change::Set { resource: 0, value: Value::String(text), .. } => note.text = text.into(),
            Change::Set { resource: 1, value: Value::Opaque(bytes), .. } => note.attachment = bytes.into(),
            Change::Set { resource: 2, resource_instance, value: Value::Integer(number) } => {
                note.numbers.insert(resource_instance, number);
            }
            Change::Remove { resource: 2, resource_instance } => _ = note.numbers.remove(&resource_instance),
            Change::Reset { resource: 1 } => note.attachment.clear(),
            Change::Reset { resource: 2 } => note.numbers.clear(),
            Change::Reset { .. } => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 3
    }

    fn write_opaque(&mut self, _: At, offset: u32, chunk: &[u8], is_last: bool) -> Result<Completion, Error> {
        self.streamed.truncate(offset as usize);
        self.streamed.extend_from_slice(chunk);
        Ok(if self.is_slow && is_last { Completion::Deferred } else { Completion::Done })
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        self.list.insert(instance, Note::default());
        Ok(())
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        self.list.remove(&instance).map(|_| ()).ok_or(Error::NotFound)
    }
}

/// The storage of the test device, which may fail or lose power at a certain step.
pub struct Flash {
    pub store: Store,
    pub folder: Option<tempfile::TempDir>,
    /// Every action so far, by name.
    pub log: Vec<String>,
    /// Loses power right before the action with this number.
    pub cut_before: Option<usize>,
    pub actions: usize,
    pub fails: bool,
    /// What was loaded.
    pub loaded: Vec<Key>,
    /// What it answers by itself for `/0/x/3`, where nothing was stored.
    pub own: Option<Vec<u8>>,
}

/// The secure element of the test device.
#[cfg(feature = "rpk")]
#[derive(Default)]
pub struct Element {
    pub secret: Option<[u8; 32]>,
    /// For which instances of `/0` it was asked.
    pub asked: Vec<u16>,
    /// Answers wait until they are released.
    pub waiting: Option<Vec<(lwm2m_client::SignId, Option<[u8; 64]>)>>,
}

/// Everything.
pub struct World {
    pub client: TestClient,
    pub config: Config<'static>,
    pub objects: Objects,
    pub flash: Flash,
    #[cfg(feature = "rpk")]
    pub element: Element,
    pub servers: Vec<Script>,
    pub now: Instant,
    pub notices: Vec<Notice>,
    pub sent: Vec<(u16, usize)>,
    /// The last datagram of the device.
    pub last: Vec<u8>,
    /// All of them.
    pub datagrams: Vec<Vec<u8>>,
    /// Notifications that it keeps, the oldest first.
    #[cfg(feature = "offline")]
    pub kept: VecDeque<Vec<u8>>,
    ports: [Option<u16>; 4],
    accounts_seen: [Option<lwm2m_client::AccountId>; 4],
    /// Names that cannot be resolved.
    pub unresolved: Vec<String>,
    pub reboots: usize,
    /// An operation that the device completes before anything is sent.
    pub completes_at_once: Option<lwm2m_client::objects::Path>,
    seed: u8,
    rng: BoxedRng,
}

pub fn server_instance(id: u16, lifetime: u32) -> Server {
    Server::new(id, ShortServerId::new(id).unwrap(), lifetime)
}

/// The URI of the server at this port.
fn uri(port: u16, is_secure: bool) -> &'static str {
    match (port, is_secure) {
        (5683, false) => "coap://host:5683",
        (5684, true) => "coaps://host:5684",
        (5783, false) => "coap://host:5783",
        (5683, true) => "coaps://host:5683",
        (5784, true) => "coaps://host:5784",
        (1001, false) => "coap://host:1001",
        (1002, false) => "coap://host:1002",
        _ => panic!("no server is at {port}"),
    }
}

/// An account for the server at this port: NoSec without a key.
pub fn account(id: u16, port: u16, key: Option<PresharedKey<'_>>) -> FactoryAccount<'_> {
    FactoryAccount::server(id, uri(port, key.is_some()), server_instance(id, 86_400), key.map(Into::into))
}

/// An account for the server at this port with settings of its own.
pub fn account_with(server: Server, port: u16) -> FactoryAccount<'static> {
    let id = server.instance;
    FactoryAccount::server(id, uri(port, false), server, None)
}

pub fn bootstrap_account(port: u16, key: Option<PresharedKey<'_>>) -> FactoryAccount<'_> {
    FactoryAccount::bootstrap(0, uri(port, key.is_some()), key.map(Into::into))
}

/// An account for the bootstrap server at this port with this credential.
#[cfg(feature = "x509-path")]
pub fn bootstrap_account_of(port: u16, credential: Option<Credential<'_>>) -> FactoryAccount<'_> {
    FactoryAccount::bootstrap(0, uri(port, credential.is_some()), credential)
}

/// An account for the server at this port with this credential.
#[cfg(feature = "rpk")]
pub fn account_of(port: u16, credential: Credential<'_>) -> FactoryAccount<'_> {
    FactoryAccount::server(1, uri(port, true), server_instance(1, 86_400), Some(credential))
}

impl World {
    pub fn new(accounts: &[FactoryAccount<'_>], servers: Vec<Script>) -> Self {
        Self::with_store(accounts, servers, Store::in_memory(), None)
    }

    /// With a storage that survives a power loss.
    pub fn durable(accounts: &[FactoryAccount<'_>], servers: Vec<Script>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self::with_store(accounts, servers, store, Some(folder))
    }

    fn with_store(
        accounts: &[FactoryAccount<'_>],
        servers: Vec<Script>,
        mut store: Store,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        provision(accounts, &mut |action| store.apply(action)).unwrap();
        let config = Config::new("urn:dev:test");
        World {
            client: Client::new(config),
            config,
            objects: Objects {
                device: Device::default(),
                temperature: Temperature { celsius: 20.0, is_slow: false, kept: Vec::new() },
                notes: Notes::default(),
            },
            flash: Flash {
                store,
                folder,
                log: Vec::new(),
                cut_before: None,
                actions: 0,
                fails: false,
                loaded: Vec::new(),
                own: None,
            },
            #[cfg(feature = "rpk")]
            element: Element::default(),
            servers,
            now: Instant::from_millis(1000),
            notices: Vec::new(),
            sent: Vec::new(),
            last: Vec::new(),
            datagrams: Vec::new(),
            #[cfg(feature = "offline")]
            kept: VecDeque::new(),
            ports: [None; 4],
            accounts_seen: [None; 4],
            unresolved: Vec::new(),
            reboots: 0,
            completes_at_once: None,
            seed: 1,
            rng: Box::new(counter_rng(1)),
        }
    }

    /// The power goes and comes back.
    pub fn power_loss(&mut self) {
        self.reboots += 1;
        self.seed = self.seed.wrapping_add(1);
        self.rng = Box::new(counter_rng(self.seed));
        self.client = Client::new(self.config);
        self.ports = [None; 4];
        if let Some(folder) = &self.flash.folder {
            self.flash.store = Store::open(folder.path()).unwrap();
        }
    }

    pub fn server(&mut self, port: u16) -> &mut Script {
        self.servers.iter_mut().find(|server| server.port == port).unwrap()
    }

    /// Lets that much time pass.
    pub fn run(&mut self, seconds: u64) {
        self.run_until(seconds, |_| false);
    }

    /// Lets time pass until something is so; whether it came to that.
    pub fn run_until(&mut self, seconds: u64, is_done: impl Fn(&World) -> bool) -> bool {
        let end = self.now.saturating_add(Duration::from_secs(seconds));
        self.client_timeout();
        loop {
            self.exchange();
            if is_done(self) {
                return true;
            }
            let client = self.client.poll_timeout();
            let next =
                self.servers.iter().filter_map(|server| server.peer.poll_timeout()).chain(client).min();
            let next = next.unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return false;
            }
            // A state machine that wants to be called for ever at the same time would hang here: it moves on a little.
            self.now =
                if next == self.now { self.now.saturating_add(Duration::from_millis(1)) } else { next };
            for server in &mut self.servers {
                server.drain(self.now);
            }
            self.client_timeout();
        }
    }

    fn client_timeout(&mut self) {
        let (client, rng, now) = (&mut self.client, &mut self.rng, self.now);
        self.objects.with(|objects| client.handle_timeout(now, objects, rng));
        #[cfg(feature = "offline")]
        self.keep();
    }

    #[cfg(feature = "offline")]
    fn keep(&mut self) {
        let mut space = [0; lwm2m_client::KEPT_MAX];
        let (client, kept, now) = (&mut self.client, &mut self.kept, self.now);
        self.objects.with(|objects| {
            while let Some(bytes) = client.poll_kept(now, &mut space, objects) {
                kept.push_back(bytes.to_vec());
            }
        });
    }

    /// Delivers everything that is on its way, without letting time pass.
    pub fn exchange(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the parties never come to rest");
            let mut is_quiet = true;
            while self.transmit() {
                is_quiet = false;
            }
            while self.act() {
                is_quiet = false;
            }
            for index in 0..self.servers.len() {
                let port = self.servers[index].port;
                while let Some(mut datagram) = self.servers[index].deliver.pop_front() {
                    is_quiet = false;
                    let Some(slot) = self.ports.iter().position(|other| *other == Some(port)) else {
                        continue;
                    };
                    self.deliver(slot, &mut datagram);
                }
            }
            if is_quiet {
                // Answers of the storage are taken up by the next call.
                if self.client.poll_timeout().is_some_and(|at| at <= self.now) && round < 100 {
                    self.client_timeout();
                    continue;
                }
                return;
            }
        }
    }

    /// Hands a datagram to the client as if it came from the server in this slot.
    pub fn deliver(&mut self, slot: usize, datagram: &mut [u8]) {
        let account = self.account(slot);
        let (client, rng, now) = (&mut self.client, &mut self.rng, self.now);
        self.objects.with(|objects| client.handle(now, account, datagram, objects, rng));
        if let Some(path) = self.completes_at_once {
            self.client.complete(path, Ok(()));
        }
        while self.transmit() {}
    }

    fn account(&self, slot: usize) -> lwm2m_client::AccountId {
        self.accounts_seen[slot].unwrap()
    }

    fn transmit(&mut self) -> bool {
        let mut buffer = [0; 600];
        let (client, rng, now) = (&mut self.client, &mut self.rng, self.now);
        let out = self.objects.with(|objects| {
            let (account, bytes) = client.poll_transmit(now, &mut buffer, objects, rng)?;
            Some((account, bytes.to_vec()))
        });
        #[cfg(feature = "offline")]
        let out = out.or_else(|| self.transmit_kept());
        let Some((account, datagram)) = out else { return false };
        self.pass_on(account, datagram);
        true
    }

    /// What is kept goes out behind everything else, for each server in order.
    #[cfg(feature = "offline")]
    fn transmit_kept(&mut self) -> Option<(lwm2m_client::AccountId, Vec<u8>)> {
        let (mut buffer, mut index, mut waiting) = ([0; 600], 0, Vec::new());
        while let Some(kept) = self.kept.get(index) {
            let server = lwm2m_client::kept_for(kept);
            let (client, rng, now) = (&mut self.client, &mut self.rng, self.now);
            if waiting.contains(&server) {
                index += 1;
                continue;
            }
            match client.transmit_kept(now, kept, &mut buffer, rng) {
                Ok(Some((account, bytes))) => return Some((account, bytes.to_vec())),
                Ok(None) => {
                    self.kept.remove(index);
                }
                Err(_) => waiting.push(server),
            }
        }
        None
    }

    /// Brings a datagram of the device to its server.
    fn pass_on(&mut self, account: lwm2m_client::AccountId, mut datagram: Vec<u8>) {
        let now = self.now;
        let Some(port) = self.ports[account.index()] else {
            panic!("a datagram for an account without a socket")
        };
        self.sent.push((port, datagram.len()));
        self.last.clone_from(&datagram);
        self.datagrams.push(datagram.clone());
        if let Some(server) = self.servers.iter_mut().find(|server| server.port == port) {
            server.handle(now, &mut datagram);
        }
    }

    fn act(&mut self) -> bool {
        match self.client.poll_event() {
            None => return false,
            Some(Event::Persist { id, action }) => {
                if self.flash.cut_before == Some(self.flash.actions) {
                    self.flash.cut_before = None;
                    self.power_loss();
                    self.client_timeout();
                    return true;
                }
                self.flash.actions += 1;
                let name = format!("{action:?}");
                self.flash.log.push(name.split([' ', '{']).next().unwrap().into());
                let is_failing = self.flash.fails && !matches!(action, Action::Discard);
                let result =
                    if is_failing { Err(StoreError::Failed) } else { self.flash.store.apply(&action) };
                self.client.persisted(id, result);
            }
            Some(Event::Load { id, key }) => {
                self.flash.loaded.push(key);
                let own = self.flash.own.as_deref().filter(|_| matches!(key, Key::Identity(_)));
                self.client.loaded(id, self.flash.store.load(key).or(own));
            }
            #[cfg(feature = "rpk")]
            Some(Event::Sign { id, instance, digest }) => {
                use dtls_psk::Crypto as _;
                self.element.asked.push(instance);
                let secret = self.element.secret.as_ref();
                let signature = secret.and_then(|secret| dtls_psk::RustCrypto::p256_sign(secret, digest));
                match &mut self.element.waiting {
                    Some(waiting) => waiting.push((id, signature)),
                    None => self.client.signed(id, signature.as_ref()),
                }
            }
            #[cfg(feature = "oscore")]
            Some(Event::Recall { id, name }) => self.client.loaded(id, self.flash.store.recall(name)),
            Some(Event::Resolve { account, host, port }) => {
                let is_found = !self.unresolved.iter().any(|name| name == host);
                self.ports[account.index()] = is_found.then_some(port);
                self.accounts_seen[account.index()] = Some(account);
                self.client.resolved(account, is_found);
            }
            Some(Event::Closed { account }) => self.ports[account.index()] = None,
            Some(Event::Notice(notice)) => self.notices.push(notice),
            Some(other) => panic!("{other:?}"),
        }
        true
    }

    /// A server asks, and time passes until the answer is there.
    pub fn ask(&mut self, port: u16, operation: &Operation<'_>) -> Response {
        self.ask_with(port, |writer| {
            mapping::emit(operation, writer).unwrap();
            writer.payload(mapping::payload(operation)).unwrap();
        })
    }

    pub fn ask_with(&mut self, port: u16, write: impl FnOnce(&mut Writer<'_>)) -> Response {
        self.try_ask_with(port, write).expect("no answer from the device")
    }

    fn try_ask_with(&mut self, port: u16, write: impl FnOnce(&mut Writer<'_>)) -> Option<Response> {
        let id = self.send(port, write);
        let is_there = |world: &World| {
            world.servers.iter().any(|server| server.responses.iter().any(|(other, ..)| *other == id))
        };
        self.run_until(100, is_there);
        self.response(port, id)
    }

    /// Takes the response to a request that was sent before.
    pub fn response(&mut self, port: u16, id: lwm2m_coap::RequestId) -> Option<Response> {
        let server = self.server(port);
        let at = server.responses.iter().position(|(other, ..)| *other == id)?;
        let (_, received, location, block) = server.responses.remove(at);
        Some(Response {
            code: received.code,
            payload: received.payload,
            format: received.format,
            observe: received.observe,
            location,
            token: received.token,
            block,
            echo: received.echo,
        })
    }

    /// A server sends a request and does not wait.
    pub fn send(&mut self, port: u16, write: impl FnOnce(&mut Writer<'_>)) -> lwm2m_coap::RequestId {
        self.send_as(port, None, write)
    }

    /// The same with a token of its choice.
    fn send_as(
        &mut self,
        port: u16,
        token: Option<Token>,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> lwm2m_coap::RequestId {
        let now = self.now;
        let server = self.server(port);
        let mut buffer = [0; 1500];
        let mut writer = Writer::new(&mut buffer, ROOM, Code::GET);
        write(&mut writer);
        let mut rng = server.rng();
        let token = token.unwrap_or_else(|| server.peer.next_token(&mut rng, |_| false));
        let mut hook = hook(&mut server.shield, now, &mut rng);
        let (id, range) = server
            .peer
            .request(now, Delivery::Confirmable, token, writer, &mut hook, &mut counter_rng(5))
            .unwrap();
        server.post(&mut buffer, range);
        id
    }

    pub fn read(&mut self, port: u16, path: &str, accept: Format) -> Response {
        self.ask(port, &Operation::Read { target: target(path), accept: Some(accept) })
    }

    pub fn write_text(&mut self, port: u16, path: &str, text: &str) -> Code {
        let content = Content { format: Format::TEXT, payload: text.as_bytes() };
        let mode = lwm2m_client::objects::WriteMode::Replace;
        self.ask(port, &Operation::Write { target: target(path), mode, content }).code
    }

    pub fn execute(&mut self, port: u16, path: &str) -> Code {
        self.ask(port, &Operation::Execute { target: target(path), arguments: Arguments::NONE }).code
    }

    pub fn observe(&mut self, port: u16, path: &str) -> Response {
        self.ask(port, &Operation::Observe { target: target(path), accept: Some(Format::TEXT) })
    }

    /// The same with the token of an observation that may be there.
    pub fn observe_as(&mut self, port: u16, token: &[u8], path: &str) -> Response {
        let operation = Operation::Observe { target: target(path), accept: Some(Format::TEXT) };
        self.ask_with_token(port, token, &operation)
    }

    /// A server asks with a token of its choice.
    pub fn ask_with_token(&mut self, port: u16, token: &[u8], operation: &Operation<'_>) -> Response {
        let id = self.send_as(port, Token::new(token), |writer| mapping::emit(operation, writer).unwrap());
        self.run(1);
        self.response(port, id).expect("no answer from the device")
    }

    pub fn attributes(&mut self, port: u16, path: &str, queries: &[&str]) -> Code {
        let path = path.to_owned();
        let queries: Vec<String> = queries.iter().map(|query| (*query).to_owned()).collect();
        let response = self.ask_with(port, move |writer| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, path.trim_start_matches('/'), '/').unwrap();
            for query in &queries {
                writer.option(OptionNumber::URI_QUERY, query.as_bytes()).unwrap();
            }
        });
        response.code
    }

    /// The bootstrap server writes values.
    pub fn bootstrap_write(&mut self, port: u16, path: &str, values: &[(&str, Value<'_>)]) -> Code {
        let payload = tlv(path, values);
        let content = Content { format: Format::TLV, payload: &payload };
        self.ask(port, &Operation::BootstrapWrite { path: target(path).path, content }).code
    }

    pub fn finish(&mut self, port: u16) -> Code {
        self.ask(port, &Operation::BootstrapFinish).code
    }

    /// Writes a whole server account: `/0/{instance}` and `/1/{id}`.
    pub fn write_account(
        &mut self,
        port: u16,
        instance: u16,
        id: u16,
        at: u16,
        key: Option<PresharedKey<'_>>,
    ) {
        assert!(self.try_write_account(port, instance, id, at, key.map(Into::into)));
    }

    /// The same with any credential.
    #[cfg(feature = "rpk")]
    pub fn write_credential(&mut self, port: u16, at: u16, credential: Credential<'_>) {
        assert!(self.try_write_account(port, 1, 1, at, Some(credential)));
    }

    /// The same with a device that may lose its power.
    pub fn try_write_account(
        &mut self,
        port: u16,
        instance: u16,
        id: u16,
        at: u16,
        credential: Option<Credential<'_>>,
    ) -> bool {
        let scheme = if credential.is_some() { "coaps" } else { "coap" };
        let uri = format!("{scheme}://host:{at}");
        let mut security = vec![("0", Value::String(&uri)), ("1", Value::Boolean(false))];
        security.extend(crate::prover::resources(credential.as_ref()));
        security.push(("10", Value::Integer(i64::from(id))));
        let server = vec![
            ("0", Value::Integer(i64::from(id))),
            ("1", Value::Integer(3600)),
            ("6", Value::Boolean(true)),
            ("7", Value::String("U")),
        ];
        [(format!("/0/{instance}"), security), (format!("/1/{id}"), server)].iter().all(|(path, values)| {
            self.try_write_blocks(port, path, &tlv(path, values)) == Some(Code::CHANGED)
        })
    }

    /// Writes in blocks of 512 bytes what is longer than that; the answer to the last one.
    pub fn try_write_blocks(&mut self, port: u16, path: &str, payload: &[u8]) -> Option<Code> {
        let mut blocks = payload.chunks(512).zip(0..).peekable();
        while let Some((bytes, number)) = blocks.next() {
            let is_last = blocks.peek().is_none();
            let content = Content { format: Format::TLV, payload: bytes };
            let operation = Operation::BootstrapWrite { path: target(path).path, content };
            let block = Block::new(number, !is_last, Szx::fitting(512)).unwrap();
            let response = self.try_ask_with(port, |writer| {
                mapping::emit(&operation, writer).unwrap();
                if payload.len() > 512 {
                    writer.block1(block).unwrap();
                }
                writer.payload(bytes).unwrap();
            });
            let code = response?.code;
            if is_last || code != Code::CONTINUE {
                return Some(code);
            }
        }
        None
    }

    pub fn try_finish(&mut self, port: u16) -> bool {
        self.try_ask(port, &Operation::BootstrapFinish) == Some(Code::CHANGED)
    }

    fn try_ask(&mut self, port: u16, operation: &Operation<'_>) -> Option<Code> {
        let response = self.try_ask_with(port, |writer| {
            mapping::emit(operation, writer).unwrap();
            writer.payload(mapping::payload(operation)).unwrap();
        });
        response.map(|response| response.code)
    }

    pub fn is_registered(&self, port: u16) -> bool {
        let server = self.servers.iter().find(|server| server.port == port).unwrap();
        server.requests.iter().any(|request| request.path == "/rd") && self.client.is_registered()
    }

    pub fn requests(&mut self, port: u16) -> Vec<String> {
        self.server(port)
            .requests
            .iter()
            .map(|request| format!("{:?} {}", request.code, request.path))
            .collect()
    }

    pub fn count_of(&self, port: u16) -> usize {
        let server = self.servers.iter().find(|server| server.port == port).unwrap();
        server.requests.iter().filter(|request| request.path == "/rd").count()
    }

    pub fn notifications(&self, port: u16) -> usize {
        let server = self.servers.iter().find(|server| server.port == port).unwrap();
        server.notifications.len()
    }

    pub fn count(&mut self, port: u16, path: &str) -> usize {
        self.server(port).requests.iter().filter(|request| request.path == path).count()
    }
}

pub fn target(path: &str) -> Target<'static> {
    lwm2m_client::objects::Path::parse(path).unwrap().into()
}

/// Encodes values below a path as TLV; the names are relative paths.
pub fn tlv(path: &str, values: &[(&str, Value<'_>)]) -> Vec<u8> {
    let list: Vec<(lwm2m_client::objects::Path, Value<'_>)> = values
        .iter()
        .map(|(name, value)| (lwm2m_client::objects::Path::parse(&format!("{path}/{name}")).unwrap(), *value))
        .collect();
    let mut space = [0; 4096];
    let mut buffer = lwm2m_coap::Buffer::new(&mut space);
    format::encode(Format::TLV, &target(path), &list.as_slice(), &mut buffer).unwrap();
    buffer.written().to_vec()
}

pub const OLD: PresharedKey<'static> = PresharedKey { identity: b"old", key: b"0123456789abcdef" };
pub const NEW: PresharedKey<'static> = PresharedKey { identity: b"new", key: b"fedcba9876543210" };
pub const BOOT: PresharedKey<'static> = PresharedKey { identity: b"boot", key: b"bootbootbootboot" };
