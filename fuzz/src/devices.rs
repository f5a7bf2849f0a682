//! A whole device and a whole server in memory, and somebody on the path between them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lwm2m_client::{
    AccountId, Action, Client, Config, Event, FactoryAccount, Key, PresharedKey, Server, ShortServerId,
    StoreError, Stored,
};
use lwm2m_coap::Instant;
use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value, defs};
use lwm2m_server::credentials::{Authenticated, Role};
use lwm2m_server::endpoint::{self, Endpoint, Listener, Question, Transmit, Verdict};
use lwm2m_server::{Operation, WriteMode};

use crate::script::{Script, random};

const IDENTITY: &[u8] = b"urn:imei:123456";
const ENDPOINT: &str = "urn:imei:123456";
const KEY: &[u8; 16] = b"0123456789abcdef";

/// Somebody drops, repeats, changes and invents what the server sends to the device.
pub fn client_datagram(script: &[u8]) {
    play(script, Side::Device);
}

/// The same the other way round.
pub fn server_datagram(script: &[u8]) {
    play(script, Side::Server);
}

fn play(script: &[u8], victim: Side) {
    let Some((first, rest)) = script.split_first() else { return };
    let mut world = World::new(victim, first & 1 != 0);
    let mut script = Script(rest);
    world.pump();
    // Most scripts are about a device that is registered.
    if first & 2 == 0 {
        world.honestly();
    }
    while let Some(act) = script.byte() {
        if world.act(act, &mut script).is_none() {
            break;
        }
        world.pump();
    }
    for _ in 0..20 {
        world.honestly();
        world.later();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Device,
    Server,
}

struct World {
    victim: Side,
    now: u64,
    client: Box<Client<'static, 2, 4, 4, 4, 512>>,
    account: Option<AccountId>,
    storage: Storage,
    device: Device,
    firmware: Firmware,
    server: Endpoint,
    listener: Listener,
    address: endpoint::Address,
    /// On the way to the victim; what goes the other way arrives at once.
    path: VecDeque<Vec<u8>>,
    seed: u64,
}

impl World {
    fn new(victim: Side, is_secure: bool) -> Self {
        let mut storage = Storage::default();
        let server = Server::new(0, ShortServerId::FIRST, 300);
        let (uri, key, listener) = match is_secure {
            true => (
                "coaps://192.0.2.1",
                Some(PresharedKey { identity: IDENTITY, key: KEY }.into()),
                Listener::Coaps,
            ),
            false => ("coap://192.0.2.1", None, Listener::Coap),
        };
        let account = FactoryAccount::server(1, uri, server, key);
        lwm2m_client::provision(&[account], &mut |action| storage.apply(action))
            .expect("memory does not fail");
        Self {
            victim,
            now: 1_800_000_000_000,
            client: Box::new(Client::new(Config::new(ENDPOINT))),
            account: None,
            storage,
            device: Device { battery: 95, offset: "+00:00".to_owned() },
            firmware: Firmware,
            server: Endpoint::new(endpoint::Config::default()),
            listener,
            address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 49_152)).into(),
            path: VecDeque::new(),
            seed: 5,
        }
    }

    fn act(&mut self, act: u8, script: &mut Script<'_>) -> Option<()> {
        match act & 0x0f {
            0 | 1 => self.deliver_next(|_| {}),
            2 | 3 => {
                let changes = script.bytes()?;
                self.deliver_next(|datagram| {
                    let length = datagram.len();
                    for pair in changes.chunks_exact(2).take_while(|_| length > 0) {
                        datagram[usize::from(pair[0]) % length] ^= pair[1];
                    }
                });
            }
            4 => drop(self.path.pop_front()),
            5 => {
                let again = self.path.front().cloned();
                self.deliver_next(|_| {});
                self.path.extend(again);
            }
            6 => self.path.rotate_left(usize::from(self.path.len() > 1)),
            7 | 8 => {
                let datagram = script.bytes()?.to_vec();
                self.give(self.victim, datagram);
            }
            9 => {
                let length = usize::from(script.byte()?);
                self.deliver_next(|datagram| datagram.truncate(length));
            }
            10 | 11 => self.request(script)?,
            12 => match act >> 4 & 0x07 {
                0 => self.client.update(),
                1 => self.client.bootstrap(),
                2 => self.client.deregister(),
                _ => {
                    self.device.battery = i64::from(script.byte()?);
                    self.client.changed(Path::resource(3, 0, 9));
                }
            },
            13 => self.later(),
            14 => self.honestly(),
            _ => self.now += script.millis()?,
        }
        Some(())
    }

    /// The application of the server asks something.
    fn request(&mut self, script: &mut Script<'_>) -> Option<()> {
        let [which, at] = [script.byte()?, script.byte()?];
        let path = match at & 0x0f {
            0 => Path::object(3),
            1 => Path::instance(3, 0),
            2 => Path::resource(3, 0, 9),
            3 => Path::resource(3, 0, 14),
            4 => Path::resource(3, 0, 4),
            5 => Path::resource(3, 0, 11),
            6 => Path::resource_instance(3, 0, 11, 0),
            7 => Path::object(1),
            8 => Path::resource(1, 0, 1),
            9 => Path::resource(5, 0, 0),
            10 => Path::instance(1, 0),
            11 => Path::object(0),
            12 => Path::resource(1, 0, 8),
            _ => Path::ROOT,
        };
        let format = [None, Some(0), Some(112), Some(11542)][usize::from(which >> 6)];
        let operation = match which & 0x0f {
            0 | 1 => Operation::Read { path, format },
            2 | 3 => Operation::Observe { path, format },
            4 => {
                let text = String::from_utf8_lossy(script.bytes()?).into_owned();
                let values = vec![(path, lwm2m_server::Value::String(text))];
                Operation::Write { path, mode: WriteMode::Update, values, format }
            }
            5 => {
                let value = lwm2m_server::Value::Integer(i64::from(script.byte()?));
                Operation::Write { path, mode: WriteMode::Replace, values: vec![(path, value)], format }
            }
            6 => Operation::Execute { path, arguments: "0='a',1".to_owned() },
            7 => Operation::Discover { path, depth: None },
            8 => Operation::WriteAttributes { path, attributes: "pmin=1&pmax=20&gt=50".to_owned() },
            9 => Operation::Delete { path },
            10 => Operation::Write {
                path,
                mode: WriteMode::Replace,
                values: vec![(path, lwm2m_server::Value::Opaque(vec![7; 1500]))],
                format,
            },
            11 => Operation::ReadComposite { paths: vec![path, Path::resource(3, 0, 0)], format },
            12 => Operation::ObserveComposite { paths: vec![Path::object(1), path], format },
            13 => {
                let value = lwm2m_server::Value::Integer(i64::from(script.byte()?));
                Operation::WriteComposite {
                    values: vec![(Path::resource(1, 0, 1), value.clone()), (path, value)],
                }
            }
            _ => Operation::Create { object: 1, instance: None, values: Vec::new() },
        };
        // Refused where it makes no sense.
        let _ =
            self.server.request(Instant::from_millis(self.now), ENDPOINT, operation, Duration::from_secs(93));
        Some(())
    }

    fn deliver_next(&mut self, changed: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mut datagram) = self.path.pop_front() {
            changed(&mut datagram);
            self.give(self.victim, datagram);
        }
    }

    fn give(&mut self, side: Side, mut datagram: Vec<u8>) {
        let now = Instant::from_millis(self.now);
        self.seed += 2;
        let mut rng = random(self.seed);
        match side {
            Side::Device => {
                let Some(account) = self.account else { return };
                let objects: &mut [&mut dyn Object] = &mut [&mut self.device, &mut self.firmware];
                self.client.handle(now, account, &mut datagram, objects, &mut rng);
            }
            Side::Server => {
                let mut out = [0; 1500];
                let (listener, from) = (self.listener, self.address);
                let answer = self.server.handle(now, listener, from, &mut datagram, &mut rng, &mut out);
                self.answer(answer, &out);
            }
        }
    }

    fn answer(&mut self, answer: Option<Transmit>, out: &[u8]) {
        if let Some(transmit) = answer {
            assert_eq!((transmit.local, transmit.to), (self.listener, self.address));
            let datagram = out[transmit.range].to_vec();
            self.forward(Side::Server, datagram);
        }
    }

    /// Puts a datagram from `side` on its way.
    fn forward(&mut self, side: Side, datagram: Vec<u8>) {
        assert!(!datagram.is_empty());
        if side == self.victim {
            self.give(if side == Side::Device { Side::Server } else { Side::Device }, datagram);
        } else {
            self.path.push_back(datagram);
            self.path.truncate(16);
        }
    }

    /// Sends what both have to send.
    fn pump(&mut self) {
        for _ in 0..400 {
            if !self.turn_device() && !self.turn_server() {
                return;
            }
        }
        panic!("device and server answer each other without end");
    }

    fn turn_device(&mut self) -> bool {
        let now = Instant::from_millis(self.now);
        self.seed += 2;
        let mut rng = random(self.seed);
        let mut out = [0; 576];
        let objects: &mut [&mut dyn Object] = &mut [&mut self.device, &mut self.firmware];
        if self.client.poll_timeout().is_some_and(|next| next <= now) {
            self.client.handle_timeout(now, objects, &mut rng);
        }
        if let Some((_, datagram)) = self.client.poll_transmit(now, &mut out, objects, &mut rng) {
            let datagram = datagram.to_vec();
            self.forward(Side::Device, datagram);
            return true;
        }
        match self.client.poll_event() {
            None => return self.client.poll_timeout().is_some_and(|next| next <= now),
            Some(Event::Persist { id, action }) => {
                let result = self.storage.apply(&action);
                self.client.persisted(id, result);
            }
            Some(Event::Load { id, key }) => {
                let record = self.storage.current.get(&key).cloned();
                self.client.loaded(id, record.as_deref());
            }
            Some(Event::Resolve { account, .. }) => {
                self.account = Some(account);
                self.client.resolved(account, true);
            }
            Some(Event::Closed { .. }) => self.account = None,
            Some(_) => {}
        }
        true
    }

    fn turn_server(&mut self) -> bool {
        let now = Instant::from_millis(self.now);
        self.seed += 2;
        let mut rng = random(self.seed);
        let mut out = [0; 1500];
        if let Some((id, question)) = self.server.poll_question() {
            let verdict = match question {
                Question::LookUp { identity, .. } if identity == IDENTITY => {
                    let who = Authenticated::new(ENDPOINT.into(), Role::Management, 1);
                    Verdict::Key { key: KEY.to_vec().into(), who }
                }
                Question::Admit { .. } | Question::Register { .. } => Verdict::Admitted,
                _ => Verdict::Refused { reason: "not here".to_owned() },
            };
            let answer = self.server.provide(now, id, verdict, &mut rng, &mut out);
            self.answer(answer, &out);
            return true;
        }
        if let Some(transmit) = self.server.poll_transmit(now, &mut rng, &mut out) {
            self.answer(Some(transmit), &out);
            return true;
        }
        while self.server.poll_fact().is_some() {}
        while self.server.poll_event().is_some() {}
        while self.server.poll_outcome().is_some() {}
        assert!(self.server.associations() < 64, "what is kept of one remote is bounded");
        false
    }

    /// Delivers everything.
    fn honestly(&mut self) {
        for _ in 0..200 {
            self.pump();
            if self.path.is_empty() {
                return;
            }
            self.deliver_next(|_| {});
        }
        panic!("device and server answer each other without end");
    }

    /// Moves on to the next time-out of either.
    fn later(&mut self) {
        let next = [self.client.poll_timeout(), self.server.poll_timeout()].into_iter().flatten().min();
        self.now = next.map_or(self.now, |next| self.now.max(next.as_millis()));
        self.server.handle_timeout(Instant::from_millis(self.now));
    }
}

/// A storage that does what its contract says.
#[derive(Default)]
pub(crate) struct Storage {
    pub(crate) current: BTreeMap<Key, Vec<u8>>,
    staged: Option<BTreeMap<Key, Vec<u8>>>,
    previous: Option<BTreeMap<Key, Vec<u8>>>,
}

impl Storage {
    pub(crate) fn apply(&mut self, action: &Action<'_>) -> Stored {
        let Self { current, staged, previous } = self;
        match action {
            Action::Stage { key, bytes } => {
                staged.get_or_insert_with(|| current.clone()).insert(*key, bytes.to_vec());
            }
            Action::Remove { key } => {
                staged.get_or_insert_with(|| current.clone()).remove(key);
            }
            Action::Commit => {
                if let Some(staged) = staged.take() {
                    let before = std::mem::replace(current, staged);
                    previous.get_or_insert(before);
                }
            }
            Action::Confirm => *previous = None,
            Action::Discard => *staged = None,
            Action::Revert => *current = previous.take().ok_or(StoreError::NothingToRevert)?,
        }
        Ok(())
    }
}

/// An object with values that are read, written and executed.
struct Device {
    battery: i64,
    offset: String,
}

impl Object for Device {
    fn definition(&self) -> &'static ObjectDef {
        &defs::DEVICE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match (at.resource, at.resource_instance) {
            (0, _) => Some(Value::String("fuzz")),
            (9, _) => Some(Value::Integer(self.battery)),
            (11, 0 | 1) => Some(Value::Integer(0)),
            (14, _) => Some(Value::String(&self.offset)),
            (16, _) => Some(Value::String("U")),
            _ => None,
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match change {
            Change::Set { resource: 14, value: Value::String(text), .. } => self.offset = (*text).to_owned(),
            Change::Reset { resource: 14 } => self.offset.clear(),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, arguments: Arguments<'_>) -> Result<Completion, Error> {
        let _ = arguments;
        if resource == 4 { Ok(Completion::Done) } else { Err(Error::MethodNotAllowed) }
    }
}

/// An object that takes a long opaque block by block.
struct Firmware;

impl Object for Firmware {
    fn definition(&self) -> &'static ObjectDef {
        &defs::FIRMWARE_UPDATE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        matches!(at.resource, 3 | 5).then_some(Value::Integer(0))
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 0
    }

    fn write_opaque(&mut self, _: At, _: u32, _: &[u8], _: bool) -> Result<Completion, Error> {
        Ok(Completion::Done)
    }
}
