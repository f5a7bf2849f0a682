//! Devices in queue mode: each is a whole client of this project with a socket of its own, whose receiver is off while it sleeps.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant as Clock};

use lwm2m_client::objects::{Arguments, At, Completion, Error, Object, ObjectDef, Value, defs};
use lwm2m_client::{
    AccountId, Client, Config, Event, FactoryAccount, Instant, Server, ShortServerId, Store, provision,
};

/// A device in queue mode.
pub(crate) struct Sleeper {
    client: Box<Client<'static, 1, 2, 2, 0, 512, 64>>,
    store: Store,
    socket: UdpSocket,
    account: Option<AccountId>,
    started: Clock,
    last_sent: Instant,
    awake: Duration,
    pub(crate) counter: Counter,
}

/// A temperature whose reset is counted by the argument it comes with.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) executed: HashMap<String, u32>,
    /// Nothing is sent once something was executed, as if the battery came out at that moment.
    pub(crate) is_mute: bool,
}

impl Counter {
    pub(crate) fn total(&self) -> usize {
        self.executed.values().map(|count| *count as usize).sum()
    }
}

impl Object for Counter {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 5605 | 5700)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        (at.resource == 5700).then_some(Value::Float(20.5))
    }

    fn execute(&mut self, _: u16, _: u16, arguments: Arguments<'_>) -> Result<Completion, Error> {
        let argument = arguments.iter().next().and_then(|(_, text)| text).unwrap_or_default().to_owned();
        *self.executed.entry(argument).or_default() += 1;
        Ok(Completion::Done)
    }
}

impl Sleeper {
    /// A device without security that registers at the first turn, and listens for so many seconds after each of its messages.
    pub(crate) fn new(name: &str, server: &str, awake: u64) -> Self {
        let mut store = Store::in_memory();
        let uri = format!("coap://{server}");
        let account = FactoryAccount::server(1, &uri, Server::new(0, ShortServerId::FIRST, 3600), None);
        provision(&[account], &mut |action| store.apply(action)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_nonblocking(true).unwrap();
        // The name lives as long as the process, as that of a real device does.
        let name: &'static str = name.to_owned().leak();
        Self {
            client: Box::new(Client::new(Config { is_queue_mode: true, ..Config::new(name) })),
            store,
            socket,
            account: None,
            started: Clock::now(),
            last_sent: Instant::from_millis(0),
            awake: Duration::from_secs(awake),
            counter: Counter::default(),
        }
    }

    /// Takes what has come and does what is due. Whether a datagram came.
    pub(crate) fn turn(&mut self) -> bool {
        let mut bytes = [0; 2048];
        let mut has_come = false;
        while let Some(length) = self.receive(&mut bytes) {
            has_come = true;
            let now = self.now();
            let Some(account) = self.account else { continue };
            let datagram = &mut bytes[..length];
            self.client.handle(now, account, datagram, &mut [&mut self.counter], &mut fill);
            self.drain();
        }
        self.client.handle_timeout(self.now(), &mut [&mut self.counter], &mut fill);
        self.drain();
        has_come
    }

    /// Wakes up: what came while the receiver was off is lost, and an Update tells the server.
    pub(crate) fn wake(&mut self) {
        let mut bytes = [0; 2048];
        while self.receive(&mut bytes).is_some() {}
        self.client.update();
        self.turn();
    }

    /// Takes part until `is_so` holds.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Clock::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "{what} did not come");
            if !self.turn() {
                // The socket does not block: without a pause it would take a whole processor.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Whether its receiver is off.
    pub(crate) fn is_asleep(&self) -> bool {
        self.client.is_quiet() && self.now() >= self.last_sent.saturating_add(self.awake)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.client.is_registered()
    }

    fn receive(&self, bytes: &mut [u8]) -> Option<usize> {
        loop {
            match self.socket.recv(bytes) {
                Ok(length) => return Some(length),
                // What an earlier datagram met: the server is away.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap())
    }

    fn drain(&mut self) {
        let mut buffer = [0; 1280];
        loop {
            let now = self.now();
            while let Some((_, datagram)) =
                self.client.poll_transmit(now, &mut buffer, &mut [&mut self.counter], &mut fill)
            {
                self.last_sent = now;
                let is_off = self.counter.is_mute && !self.counter.executed.is_empty();
                if !is_off {
                    // As lost on the way.
                    let _ = self.socket.send(datagram);
                }
            }
            match self.client.poll_event() {
                None => return,
                Some(Event::Persist { id, action }) => {
                    let result = self.store.apply(&action);
                    self.client.persisted(id, result);
                }
                Some(Event::Load { id, key }) => self.client.loaded(id, self.store.load(key)),
                Some(Event::Recall { id, name }) => self.client.loaded(id, self.store.recall(name)),
                Some(Event::Resolve { account, .. }) => {
                    self.account = Some(account);
                    self.client.resolved(account, true);
                }
                Some(Event::Closed { .. }) => self.account = None,
                Some(_) => {}
            }
        }
    }
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}
