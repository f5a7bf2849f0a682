//! Real clients against the real server over the virtual link: no socket, no clock, no thread.
//!
//! A [`World`] holds one server, its credentials in a store in memory, and devices that come from the factory with a
//! bootstrap account over PSK. Time jumps from one event to the next. Everything that happens follows from the seed, so that a
//! failing run repeats exactly.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lwm2m_client::objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value as Resource};
use lwm2m_client::{
    AccountId, Action, Client, Config as ClientConfig, Event as ClientEvent, FactoryAccount, Notice,
    PresharedKey, Store as ClientStore, provision, simulated,
};
use lwm2m_coap::Instant;
use lwm2m_server::credentials::{
    Command, Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Mode, Role, Rotate, Settings,
    State,
};
use lwm2m_server::driver::{execute, settle, tick};
use lwm2m_server::endpoint::{Address, Config, Endpoint, Listener, RequestId};
use lwm2m_server::store::{RedbStore, Sealer, Store};
use lwm2m_server::{Answer, Event, Operation, Path, RequestError, Value, WriteMode};

use crate::link::{Conditions, Host, Link};
use crate::random::Random;

/// The instant on the server's clock at which the simulation starts, in milliseconds since 1970.
const START: u64 = 1_800_000_000_000;
/// How often the credentials are told that time passes.
const TICK: Duration = Duration::from_secs(5);
/// The largest datagram.
const DATAGRAM: usize = 1500;
/// Sockets of devices have host numbers from here on; the server's four listeners have those below.
const FIRST_SOCKET: Host = 16;

lwm2m_client::objects::object! {
    /// A ledger of what was done to the device (an id of the range for private tests).
    pub LEDGER = 42770 version 1.0, multiple, optional {
        0 RW S M Integer;
        1 E  S M Nothing;
    }
}

/// Counts how often its handlers ran for what.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The value written last.
    pub state: i64,
    /// How often each value was written.
    pub written: BTreeMap<i64, u32>,
    /// How often each argument was executed.
    pub executed: BTreeMap<i64, u32>,
    /// How often each instance was created.
    pub created: BTreeMap<u16, u32>,
    instances: BTreeSet<u16>,
}

impl Object for Ledger {
    fn definition(&self) -> &'static ObjectDef {
        &LEDGER
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        match after {
            None => Some(0),
            Some(after) => self.instances.range(after.checked_add(1)?..).next().copied(),
        }
    }

    fn read(&self, at: At) -> Option<Resource<'_>> {
        (at.resource == 0).then_some(Resource::Integer(self.state))
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let Change::Set { resource: 0, value: Resource::Integer(value), .. } = *change else {
            return Err(Error::MethodNotAllowed);
        };
        if instance == 0 {
            self.state = value;
            count(&mut self.written, value);
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, _: u16, arguments: Arguments<'_>) -> Result<Completion, Error> {
        let number = arguments.value(0).and_then(|text| text.parse().ok()).ok_or(Error::BadRequest)?;
        count(&mut self.executed, number);
        Ok(Completion::Done)
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        count(&mut self.created, instance);
        self.instances.insert(instance);
        Ok(())
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    let runs = counts.entry(key).or_default();
    *runs = runs.saturating_add(1);
}

/// One device: the client core, its objects and its storage.
pub struct Device {
    /// Endpoint client name.
    pub name: String,
    /// What was done to it.
    pub ledger: Ledger,
    /// What its client told.
    pub notices: Vec<Notice>,
    client: Box<Client<'static, 2, 4, 4, 4, 512>>,
    device: simulated::Device<'static>,
    store: ClientStore,
    /// By account: our socket and the server's listener.
    sockets: [Option<(Host, Listener)>; 2],
    random: Random,
}

impl Device {
    /// A record of its storage.
    pub fn stored(&self, key: lwm2m_client::Key) -> Option<Vec<u8>> {
        self.store.load(key).map(<[u8]>::to_vec)
    }

    /// Puts a record into its storage, whatever the client thinks.
    pub fn store(&mut self, key: lwm2m_client::Key, bytes: &[u8]) {
        for action in [Action::Stage { key, bytes }, Action::Commit, Action::Confirm] {
            self.store.apply(&action).expect("memory does not fail");
        }
    }
}

/// Server, devices and the link between them.
pub struct World {
    /// The network and its clock.
    pub link: Link,
    /// The server.
    pub endpoint: Endpoint,
    /// What outlives a kill of the server.
    pub store: Arc<dyn Store>,
    /// Who may connect.
    pub credentials: Credentials,
    /// The devices, by number.
    pub devices: Vec<Device>,
    /// Everything the server told.
    pub events: Vec<Event>,
    outcomes: HashMap<RequestId, Result<Answer, RequestError>>,
    sockets: HashMap<Host, (usize, AccountId)>,
    next_socket: Host,
    random: Random,
    next_tick: Duration,
}

impl World {
    /// A server and `devices` devices fresh from the factory; nothing has been sent yet.
    pub fn new(seed: u64, devices: usize, conditions: Conditions, settings: Settings) -> Self {
        Self::with(seed, devices, conditions, settings, Config::default())
    }

    /// As [`World::new`], with limits and times of the server's.
    pub fn with(
        seed: u64,
        devices: usize,
        conditions: Conditions,
        settings: Settings,
        config: Config,
    ) -> Self {
        let sealer = Sealer::new(&[1; 32], "simulation").expect("32 bytes are a key");
        let store: Arc<dyn Store> = Arc::new(RedbStore::in_memory(sealer).expect("a store in memory opens"));
        let settings = Settings { server_uri: "coaps://server:5684".to_owned(), ..settings };
        let credentials =
            Credentials::open(Arc::clone(&store), settings).expect("an empty store has no bad record");
        let mut world = Self {
            link: Link::new(seed, conditions),
            endpoint: Endpoint::new(config),
            store,
            credentials,
            devices: Vec::new(),
            events: Vec::new(),
            outcomes: HashMap::new(),
            sockets: HashMap::new(),
            next_socket: FIRST_SOCKET,
            random: Random::new(seed),
            next_tick: Duration::ZERO,
        };
        for number in 0..devices {
            world.add_device(number);
        }
        world
    }

    fn add_device(&mut self, number: usize) {
        let name = format!("device-{number}");
        let mut key = [0; 16];
        self.random.fill(&mut key);
        let identity = format!("{name}-factory");
        let given = KeyMaterial::Given {
            identity: Identity::new(identity.as_bytes()).expect("a short identity"),
            key: Key::new(key.to_vec()).expect("16 bytes are a key"),
        };
        let accounts = vec![
            EnrolAccount { role: Role::Bootstrap, key: given },
            EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::Psk) },
        ];
        let enrol = Enrol { accounts, ..Enrol::default() };
        self.credentials.enrol(START, "simulation", &name, &enrol).expect("a new device is enrolled");
        let mut store = ClientStore::in_memory();
        let credential = Some(PresharedKey { identity: identity.as_bytes(), key: &key }.into());
        let account = FactoryAccount::bootstrap(0, "coaps://server:5784", credential);
        provision(&[account], &mut |action| store.apply(action)).expect("memory does not fail");
        let leaked: &'static str = String::leak(name.clone());
        self.devices.push(Device {
            client: Box::new(Client::new(ClientConfig::new(leaked))),
            device: simulated::Device::new(leaked),
            name,
            ledger: Ledger::default(),
            notices: Vec::new(),
            store,
            sockets: [None; 2],
            random: Random::new(self.random.number()),
        });
    }

    /// Asks a device for something; the outcome comes with [`World::take_outcome`].
    ///
    /// # Errors
    /// When it cannot be asked, for example because it is not registered.
    pub fn request(&mut self, device: usize, operation: Operation) -> Result<RequestId, RequestError> {
        let Some(device) = self.devices.get(device) else { return Err(RequestError::UnknownDevice) };
        self.endpoint.request(self.server_now(), &device.name, operation, lwm2m_server::DEFAULT_TIMEOUT)
    }

    /// Writes the ledger's state.
    ///
    /// # Errors
    /// As [`World::request`].
    pub fn write(&mut self, device: usize, value: i64) -> Result<RequestId, RequestError> {
        let path = Path::resource(LEDGER.id, 0, 0);
        let values = vec![(path, Value::Integer(value))];
        self.request(device, Operation::Write { path, mode: WriteMode::Replace, values, format: None })
    }

    /// Starts a rotation of the management credential.
    pub fn rotate(&mut self, device: usize, rotate: &Rotate) {
        let Some(device) = self.devices.get(device) else { return };
        let now = self.server_now();
        let rotated = self
            .credentials
            .rotate(now.as_millis(), "simulation", &device.name, rotate)
            .expect("a registered device can be rotated");
        self.carry_out(rotated.commands);
    }

    /// Does what follows from a change of credentials.
    pub fn carry_out(&mut self, commands: Vec<Command>) {
        let now = self.server_now();
        for command in commands {
            execute(&mut self.endpoint, now, command);
        }
    }

    /// The time on the server's clock, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.server_now().as_millis()
    }

    /// Gives a device another address, as a translator does that forgot it: nothing sent to the former one arrives.
    pub fn translate(&mut self, device: usize) {
        let Some(device) = self.devices.get_mut(device) else { return };
        for (host, _) in device.sockets.iter_mut().flatten() {
            if let Some(owner) = self.sockets.remove(host) {
                self.sockets.insert(self.next_socket, owner);
            }
            *host = self.next_socket;
            self.next_socket = self.next_socket.saturating_add(1);
        }
    }

    /// A device loses its power and starts again: its storage is all that it has.
    pub fn restart_device(&mut self, device: usize) {
        let Some(device) = self.devices.get_mut(device) else { return };
        for (host, _) in device.sockets.iter_mut().filter_map(Option::take) {
            self.sockets.remove(&host);
        }
        let name: &'static str = String::leak(device.name.clone());
        *device.client = Client::new(ClientConfig::new(name));
    }

    /// The server loses its power and starts again: what the credentials are is all that it has.
    pub fn restart_server(&mut self, config: Config) {
        self.endpoint = Endpoint::new(config);
        self.outcomes.clear();
    }

    /// The same, and what is in its store is all that is left of the credentials.
    pub fn kill_server(&mut self, config: Config) {
        let settings = (*self.credentials.settings()).clone();
        let keys = Role::ALL.map(|role| (role, self.credentials.server_keys(role)));
        self.credentials =
            Credentials::open(Arc::clone(&self.store), settings).expect("what was written is read");
        for (role, keys) in keys {
            self.credentials.set_server_keys(role, (*keys).clone());
        }
        self.restart_server(config);
    }

    /// The ledger's state changes by itself.
    pub fn change(&mut self, device: usize, value: i64) {
        let Some(device) = self.devices.get_mut(device) else { return };
        device.ledger.state = value;
        device.client.changed(Path::resource(LEDGER.id, 0, 0));
    }

    /// What became of a request, once it is known.
    pub fn take_outcome(&mut self, id: RequestId) -> Option<Result<Answer, RequestError>> {
        self.outcomes.remove(&id)
    }

    /// Whether the management account of a device counts on generation `generation`, with no rotation under way.
    pub fn is_in_use(&self, device: usize, generation: u32) -> bool {
        let known = self.devices.get(device).and_then(|device| self.credentials.device(&device.name));
        let account = known.as_ref().and_then(|known| known.account(Role::Management));
        account.is_some_and(|account| {
            account.current == generation
                && account.rotation().is_none()
                && matches!(account.state, State::InUse)
        })
    }

    /// Runs until `end` of virtual time.
    pub fn run_until(&mut self, end: Duration) {
        loop {
            self.drain_server();
            for number in 0..self.devices.len() {
                self.drain_device(number);
            }
            let Some(next) = self.next_event().filter(|next| *next <= end) else { break };
            self.link.advance(next);
            while let Some(arrival) = self.link.receive() {
                self.deliver(arrival.from, arrival.to, arrival.bytes);
            }
            self.let_time_pass();
        }
        self.link.advance(end);
    }

    fn next_event(&self) -> Option<Duration> {
        let server = self.endpoint.poll_timeout().map(|at| at.since(Instant::from_millis(START)));
        let devices = self.devices.iter().filter_map(|device| device.client.poll_timeout());
        let devices = devices.map(|at| Duration::from_millis(at.as_millis())).min();
        [self.link.next_arrival(), server, devices, Some(self.next_tick)].into_iter().flatten().min()
    }

    fn server_now(&self) -> Instant {
        Instant::from_millis(START).saturating_add(self.link.now())
    }

    fn device_now(&self) -> Instant {
        Instant::from_millis(0).saturating_add(self.link.now())
    }

    fn deliver(&mut self, from: Host, to: Host, mut bytes: Vec<u8>) {
        if let Some(listener) = listener(to) {
            let now = self.server_now();
            let mut out = vec![0; DATAGRAM];
            let random = &mut self.random;
            let mut rng = |bytes: &mut [u8]| random.fill(bytes);
            let answer = self.endpoint.handle(now, listener, address(from), &mut bytes, &mut rng, &mut out);
            if let Some(answer) = answer {
                let bytes = out.get(answer.range).unwrap_or_default();
                self.link.send(to, host_of(answer.to), bytes);
            }
            self.drain_server();
        } else if let Some(&(number, account)) = self.sockets.get(&to) {
            let now = self.device_now();
            let Some(device) = self.devices.get_mut(number) else { return };
            // What still arrives on a socket that was replaced never reaches the client.
            let socket = device.sockets.get(account.index()).copied().flatten();
            if socket.is_some_and(|(host, _)| host == to) {
                let random = &mut device.random;
                let mut rng = |bytes: &mut [u8]| random.fill(bytes);
                let objects: &mut [&mut dyn Object] = &mut [&mut device.device, &mut device.ledger];
                device.client.handle(now, account, &mut bytes, objects, &mut rng);
            }
            self.drain_device(number);
        }
    }

    fn let_time_pass(&mut self) {
        let now = self.server_now();
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        if self.link.now() >= self.next_tick {
            self.next_tick = self.link.now().saturating_add(TICK);
            tick(&mut self.endpoint, &self.credentials, now);
        }
        let now = self.device_now();
        for device in &mut self.devices {
            if device.client.poll_timeout().is_some_and(|at| at <= now) {
                let random = &mut device.random;
                let mut rng = |bytes: &mut [u8]| random.fill(bytes);
                let objects: &mut [&mut dyn Object] = &mut [&mut device.device, &mut device.ledger];
                device.client.handle_timeout(now, objects, &mut rng);
            }
        }
    }

    fn drain_server(&mut self) {
        let now = self.server_now();
        let mut out = vec![0; DATAGRAM];
        let Self { endpoint, credentials, link, random, .. } = self;
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        let mut send = |transmit: &lwm2m_server::endpoint::Transmit, out: &[u8]| {
            let bytes = out.get(transmit.range.clone()).unwrap_or_default();
            link.send(host(transmit.local), host_of(transmit.to), bytes);
        };
        let at = now.as_millis();
        let mut work = |_, work: lwm2m_server::endpoint::Work| Some(work.run(at, credentials));
        settle(endpoint, credentials, now, &mut rng, &mut out, &mut send, &mut work);
        while let Some(transmit) = endpoint.poll_transmit(now, &mut rng, &mut out) {
            send(&transmit, &out);
        }
        self.outcomes.extend(std::iter::from_fn(|| self.endpoint.poll_outcome()));
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
    }

    fn drain_device(&mut self, number: usize) {
        let now = self.device_now();
        let mut out = vec![0; DATAGRAM];
        let Self { devices, link, sockets, next_socket, .. } = self;
        let Some(device) = devices.get_mut(number) else { return };
        let Device { client, device, ledger, store, sockets: own, notices, random, .. } = device;
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        loop {
            let objects: &mut [&mut dyn Object] = &mut [device, ledger];
            while let Some((account, datagram)) = client.poll_transmit(now, &mut out, objects, &mut rng) {
                if let Some(Some((socket, listener))) = own.get(account.index()) {
                    link.send(*socket, host(*listener), datagram);
                }
            }
            match client.poll_event() {
                None => return,
                Some(ClientEvent::Persist { id, action }) => {
                    let result = store.apply(&action);
                    client.persisted(id, result);
                }
                Some(ClientEvent::Load { id, key }) => client.loaded(id, store.load(key)),
                Some(ClientEvent::Recall { id, name }) => client.loaded(id, store.recall(name)),
                Some(ClientEvent::Resolve { account, port, .. }) => {
                    let listener = Listener::ALL.into_iter().find(|listener| port_of(*listener) == port);
                    if let (Some(listener), Some(place)) = (listener, own.get_mut(account.index())) {
                        *place = Some((*next_socket, listener));
                        sockets.insert(*next_socket, (number, account));
                        *next_socket = next_socket.saturating_add(1);
                    }
                    client.resolved(account, listener.is_some());
                }
                Some(ClientEvent::Closed { account }) => {
                    if let Some(place) = own.get_mut(account.index()) {
                        *place = None;
                    }
                }
                Some(ClientEvent::Notice(notice)) => notices.push(notice),
                Some(_) => {}
            }
        }
    }
}

fn listener(host: Host) -> Option<Listener> {
    Listener::ALL.get(usize::try_from(host).ok()?).copied()
}

fn host(listener: Listener) -> Host {
    listener as Host
}

fn port_of(listener: Listener) -> u16 {
    match listener {
        Listener::Coap => 5683,
        Listener::Coaps => 5684,
        Listener::BootstrapCoap => 5783,
        Listener::BootstrapCoaps => 5784,
        Listener::FormerCoaps => 5694,
        Listener::FormerBootstrapCoaps => 5794,
    }
}

/// A host number as an address: it is the IPv4 address.
fn address(host: Host) -> Address {
    std::net::SocketAddr::from((std::net::Ipv4Addr::from_bits(host), 1000)).into()
}

fn host_of(address: Address) -> Host {
    match address.socket_address() {
        std::net::SocketAddr::V4(address) => address.ip().to_bits(),
        std::net::SocketAddr::V6(_) => Host::MAX,
    }
}
