//! The application of both programs: a device with the objects Security, Server and Device, driven as the client's
//! contract says.

use lwm2m_client::objects::{Arguments, At, Completion, Error, Object, ObjectDef, Path, Value, defs};
use lwm2m_client::{
    AccountId, Client, Config, Credential, Event, FactoryAccount, Instant, Notice, PresharedKey, Rng, Server,
    ShortServerId,
};

use crate::storage::Storage;

/// The sizes of the published figures: one bootstrap and one server account, 4 observations, 4 paths with attributes, no
/// Access Control, bodies of 512 bytes.
pub type Core = Client<'static, 2, 4, 4, 0, 512>;

/// The largest datagram.
pub const MTU: usize = 576;

/// The pre-shared key of the test, with its identity.
pub const KEY: PresharedKey<'_> = PresharedKey { identity: b"urn:imei:123456", key: b"0123456789abcdef" };

/// The Device object (3).
pub struct Device {
    battery: i64,
    is_reboot_asked: bool,
}

impl Object for Device {
    fn definition(&self) -> &'static ObjectDef {
        &defs::DEVICE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match (at.resource, at.resource_instance) {
            (0, _) => Some(Value::String("Bare Metal")),
            (9, _) => Some(Value::Integer(self.battery)),
            (11, 0) => Some(Value::Integer(0)),
            (16, _) => Some(Value::String("U")),
            _ => None,
        }
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match resource {
            4 => self.is_reboot_asked = true,
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }
}

/// The whole device but its board.
pub struct Application {
    /// The client.
    pub client: Core,
    device: Device,
    storage: Storage,
    accounts: [Option<AccountId>; 2],
}

impl Application {
    /// A device that left the factory with one server account.
    pub fn new(uri: &str, credential: Option<Credential<'_>>) -> Option<Self> {
        let mut storage = Storage::default();
        let server = Server::new(0, ShortServerId::FIRST, 86400);
        let account = FactoryAccount::server(1, uri, server, credential);
        lwm2m_client::provision(&[account], &mut |action| storage.apply(action)).ok()?;
        let config = Config { mtu: MTU, ..Config::new("urn:imei:123456") };
        Some(Self {
            client: Client::new(config),
            device: Device { battery: 95, is_reboot_asked: false },
            storage,
            accounts: [None; 2],
        })
    }

    /// Takes a datagram from the socket with this number.
    pub fn handle(&mut self, now: Instant, socket: usize, datagram: &mut [u8], rng: &mut Rng<'_>) {
        if let Some(account) = self.accounts.get(socket).copied().flatten() {
            self.client.handle(now, account, datagram, &mut [&mut self.device], rng);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut Rng<'_>) {
        if self.client.poll_timeout().is_some_and(|next| next <= now) {
            self.client.handle_timeout(now, &mut [&mut self.device], rng);
        }
    }

    /// The battery changes by itself.
    pub fn discharge(&mut self) {
        self.device.battery = self.device.battery.saturating_sub(1);
        self.client.changed(Path::resource(3, 0, 9));
    }

    /// Drains what the client has to send and to say.
    pub fn drain(
        &mut self,
        now: Instant,
        buffer: &mut [u8; MTU],
        rng: &mut Rng<'_>,
        send: &mut dyn FnMut(usize, &[u8]),
        tell: &mut dyn FnMut(Notice),
    ) {
        loop {
            let mut is_idle = true;
            while let Some((account, datagram)) =
                self.client.poll_transmit(now, buffer, &mut [&mut self.device], rng)
            {
                send(account.index(), datagram);
                is_idle = false;
            }
            while let Some(event) = self.client.poll_event() {
                is_idle = false;
                match event {
                    Event::Persist { id, action } => {
                        let result = self.storage.apply(&action);
                        self.client.persisted(id, result);
                    }
                    Event::Load { id, key } => self.client.loaded(id, self.storage.load(key)),
                    Event::Resolve { account, .. } => {
                        if let Some(socket) = self.accounts.get_mut(account.index()) {
                            *socket = Some(account);
                        }
                        self.client.resolved(account, true);
                    }
                    Event::Closed { account } => {
                        if let Some(socket) = self.accounts.get_mut(account.index()) {
                            *socket = None;
                        }
                    }
                    Event::Notice(notice) => tell(notice),
                    _ => {}
                }
            }
            if is_idle {
                return;
            }
            self.handle_timeout(now, rng);
        }
    }
}
