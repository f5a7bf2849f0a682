//! A device in this process: a whole client of this project with a socket of its own.
//!
//! `figures` counts its bytes; many devices are over fewer sockets (module `swarm`). What is measured is seen from the device:
//! a latency runs from the moment at which the device is told to act until the server's answer was processed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use lwm2m_client::objects::{At, Object, ObjectDef, Path, Value, defs};
use lwm2m_client::{
    AccountId, Client, Config, Event, FactoryAccount, Instant, Notice, PresharedKey, Reason, Server,
    ShortServerId, Store,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// The client of one device: as small as on a microcontroller.
type Core = Client<'static, 2, 4, 4, 4, 512>;

/// What all devices have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The key of every device; the identity is the endpoint name. Without it the devices come without security.
    pub key: Option<Vec<u8>>,
    /// The lifetime that is registered, in seconds.
    pub lifetime: u32,
    /// The objects beside Security and Server.
    pub objects: Objects,
}

/// Which objects a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// Device and Temperature.
    Sensor,
    /// Device, Connectivity Monitoring and Firmware Update: those of the published bytes.
    Recipe,
}

/// What a device is told.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Send an Update.
    Update,
    /// The temperature is this now.
    Measure(f64),
    /// De-register and end.
    Stop,
}

/// What a device tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is registered; so long after its start, security included.
    Registered(Duration),
    /// Its Update was answered.
    Updated(Duration),
    /// It gives up for now and tries again later.
    Failed(Reason),
    /// A datagram of so many bytes was sent.
    Sent(usize),
    /// A datagram of so many bytes was received.
    Received(usize),
    /// It is de-registered.
    Stopped,
}

/// A running device; it ends when this is dropped.
#[derive(Debug)]
pub struct Device {
    orders: mpsc::Sender<Order>,
}

impl Device {
    /// Starts a device. It reports to `reports` with `number`; datagrams only when `is_traced`.
    #[must_use]
    pub fn start(
        plan: Arc<Plan>,
        endpoint: String,
        number: usize,
        is_traced: bool,
        reports: mpsc::UnboundedSender<(usize, Report)>,
    ) -> Self {
        let (orders, receiver) = mpsc::channel(4);
        let report = move |report| {
            // Nobody listens any more at the end.
            let _ = reports.send((number, report));
        };
        tokio::spawn(async move {
            // The name lives as long as the process, as that of a real device does.
            let endpoint: &'static str = endpoint.leak();
            if let Some(mut body) = Body::new(&plan, endpoint, is_traced) {
                body.run(&plan, receiver, &report).await;
            }
        });
        Self { orders }
    }

    /// Tells the device something; waits while it has not heard what it was told before.
    pub async fn order(&self, order: Order) {
        // A device that ended needs no orders.
        let _ = self.orders.send(order).await;
    }
}

/// The endpoint name, and PSK identity, of the device with this number.
#[must_use]
pub fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:05}")
}

struct Body {
    client: Box<Core>,
    store: Store,
    socket: Option<(AccountId, UdpSocket)>,
    objects: Vec<Stub>,
    began: Clock,
    ordered: Option<Clock>,
    is_traced: bool,
}

impl Body {
    fn new(plan: &Plan, endpoint: &'static str, is_traced: bool) -> Option<Self> {
        let mut store = Store::in_memory();
        let server = Server::new(0, ShortServerId::FIRST, plan.lifetime);
        let scheme = if plan.key.is_some() { "coaps" } else { "coap" };
        let uri = format!("{scheme}://{}", plan.server);
        let key = plan.key.as_deref().map(|key| PresharedKey { identity: endpoint.as_bytes(), key }.into());
        let account = FactoryAccount::server(1, &uri, server, key);
        lwm2m_client::provision(&[account], &mut |action| store.apply(action)).ok()?;
        let objects = match plan.objects {
            Objects::Sensor => vec![Stub::new(&defs::DEVICE), Stub::new(&defs::TEMPERATURE)],
            Objects::Recipe => vec![
                Stub::new(&defs::DEVICE),
                Stub::new(&defs::CONNECTIVITY_MONITORING),
                Stub::new(&defs::FIRMWARE_UPDATE),
            ],
        };
        Some(Self {
            client: Box::new(Client::new(Config::new(endpoint))),
            store,
            socket: None,
            objects,
            began: Clock::now(),
            ordered: None,
            is_traced,
        })
    }

    async fn run(&mut self, plan: &Plan, mut orders: mpsc::Receiver<Order>, report: &impl Fn(Report)) {
        let mut buffer = [0; 1280];
        loop {
            self.drain(plan, &mut buffer, report).await;
            if self.client.is_stopped() {
                report(Report::Stopped);
                return;
            }
            let wait =
                self.client.poll_timeout().map_or(Duration::from_secs(3600), |at| at.since(self.now()));
            let received = match &self.socket {
                Some((account, socket)) => tokio::select! {
                    received = socket.recv(&mut buffer) => received.ok().map(|length| (*account, length)),
                    order = orders.recv() => {
                        let Some(order) = order else { return };
                        self.obey(order);
                        None
                    }
                    () = tokio::time::sleep(wait) => None,
                },
                None => {
                    tokio::time::sleep(wait).await;
                    None
                }
            };
            let now = self.now();
            let mut objects: Vec<&mut dyn Object> =
                self.objects.iter_mut().map(|object| object as &mut dyn Object).collect();
            match received {
                Some((account, length)) => {
                    if self.is_traced {
                        report(Report::Received(length));
                    }
                    let datagram = buffer.get_mut(..length).unwrap_or_default();
                    self.client.handle(now, account, datagram, &mut objects, &mut random);
                }
                None => self.client.handle_timeout(now, &mut objects, &mut random),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Update => {
                self.ordered = Some(Clock::now());
                self.client.update();
            }
            Order::Measure(value) => {
                for object in &mut self.objects {
                    object.value = value;
                }
                self.client.changed(Path::resource(3303, 0, 5700));
            }
            Order::Stop => self.client.deregister(),
        }
    }

    async fn drain(&mut self, plan: &Plan, buffer: &mut [u8], report: &impl Fn(Report)) {
        loop {
            if self.send(buffer, report) {
                continue;
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
                    self.socket = open(plan.server).await.map(|socket| (account, socket));
                    self.client.resolved(account, self.socket.is_some());
                }
                Some(Event::Closed { .. }) => self.socket = None,
                Some(Event::Notice(Notice::Registered { .. })) => {
                    report(Report::Registered(self.began.elapsed()))
                }
                Some(Event::Notice(Notice::Updated { .. })) => {
                    if let Some(ordered) = self.ordered.take() {
                        report(Report::Updated(ordered.elapsed()));
                    }
                }
                Some(Event::Notice(
                    Notice::RegistrationRetry { reason, .. } | Notice::RegistrationFailed { reason, .. },
                )) => report(Report::Failed(reason)),
                Some(_) => {}
            }
        }
    }

    /// Sends the next datagram; false when there is none.
    fn send(&mut self, buffer: &mut [u8], report: &impl Fn(Report)) -> bool {
        let now = self.now();
        let mut objects: Vec<&mut dyn Object> =
            self.objects.iter_mut().map(|object| object as &mut dyn Object).collect();
        let Some((_, datagram)) = self.client.poll_transmit(now, buffer, &mut objects, &mut random) else {
            return false;
        };
        if self.is_traced {
            report(Report::Sent(datagram.len()));
        }
        if let Some((_, socket)) = &self.socket {
            // What cannot be sent is as lost.
            let _ = socket.try_send(datagram);
        }
        true
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

async fn open(server: SocketAddr) -> Option<UdpSocket> {
    let local = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { "[::]:0".parse().ok()? };
    let socket = UdpSocket::bind::<SocketAddr>(local).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.writable().await.ok()?;
    Some(socket)
}

fn random(bytes: &mut [u8]) {
    assert!(getrandom::fill(bytes).is_ok(), "the operating system has randomness");
}

/// An object with instance 0 that has only what is asked for here.
#[derive(Debug)]
pub(crate) struct Stub {
    definition: &'static ObjectDef,
    value: f64,
}

impl Stub {
    fn new(definition: &'static ObjectDef) -> Self {
        Self::with_value(definition, 20.5)
    }

    pub(crate) fn with_value(definition: &'static ObjectDef, value: f64) -> Self {
        Self { definition, value }
    }
}

impl Object for Stub {
    fn definition(&self) -> &'static ObjectDef {
        self.definition
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match (self.definition.id, at.resource, at.resource_instance) {
            (3, 9, _) => Some(Value::Integer(95)),
            (3, 11, 0) => Some(Value::Integer(0)),
            (3, 16, _) => Some(Value::String("U")),
            (3303, 5700, _) => Some(Value::Float(self.value)),
            _ => None,
        }
    }
}
