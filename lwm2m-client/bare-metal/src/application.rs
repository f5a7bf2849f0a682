//! The application of both programs: a device with the objects Security, Server and Device, driven as the client's
//! contract says.

use lwm2m_client::objects::{Arguments, At, Completion, Error, Object, ObjectDef, Path, Value, defs};
use lwm2m_client::{
    AccountId, Client, Config, Credential, Event, FactoryAccount, Instant, Notice, PresharedKey, Rng, Server,
    ShortServerId,
};

#[cfg(feature = "offline")]
use lwm2m_client::KEPT_MAX;
#[cfg(feature = "rpk")]
use lwm2m_client::RawPublicKey;
#[cfg(feature = "oscore")]
use lwm2m_client::SecurityContext;
#[cfg(feature = "x509")]
use lwm2m_client::{Certificate, CertificateUsage, MatchingType};

use crate::storage::Storage;

/// The sizes of the published figures: one bootstrap and one server account, 4 observations, 4 paths with attributes, no
/// Access Control.
pub type Core = Client<'static, 2, 4, 4, 0, BODY>;

/// Bytes of bodies: enough for an account, with certificates where there are such.
const BODY: usize = if cfg!(feature = "x509") { 1024 } else { 512 };

/// The largest datagram.
pub const MTU: usize = 576;

/// The pre-shared key of the test, with its identity.
pub const KEY: PresharedKey<'_> = PresharedKey { identity: b"urn:imei:123456", key: b"0123456789abcdef" };

/// The security context of the test.
#[cfg(feature = "oscore")]
pub const CONTEXT: SecurityContext<'_> = SecurityContext::new(b"0123456789abcdef", &[0x01], &[0x02]);

/// The private keys of the device and of its server.
#[cfg(feature = "rpk")]
pub const PRIVATE_KEYS: [[u8; 32]; 2] = [[0xd1; 32], [0x5e; 32]];

/// The public keys that belong to them.
#[cfg(feature = "rpk")]
pub const PUBLIC_KEYS: [[u8; 91]; 2] = [public_key(&DEVICE_POINT), public_key(&SERVER_POINT)];

#[cfg(feature = "rpk")]
const DEVICE_POINT: [u8; 64] = [
    0xe5, 0xeb, 0xb0, 0xe4, 0xfb, 0xe9, 0x03, 0x76, 0xd3, 0x77, 0x07, 0x32, 0xa2, 0x8b, 0xf0, 0xc7, 0x6c,
    0x84, 0x02, 0x9b, 0x54, 0x3c, 0xcb, 0xea, 0x5c, 0x59, 0xf1, 0x65, 0xf4, 0x54, 0x5b, 0x71, 0x17, 0x0e,
    0x06, 0x00, 0xe5, 0xd9, 0xdc, 0xba, 0x7c, 0x50, 0x12, 0xff, 0x2a, 0x0b, 0xc4, 0xe7, 0x8d, 0xb2, 0xea,
    0x66, 0x25, 0xb4, 0x10, 0x7b, 0xd5, 0xa6, 0xe4, 0xfd, 0xc0, 0xaa, 0x07, 0x7f,
];
#[cfg(feature = "rpk")]
const SERVER_POINT: [u8; 64] = [
    0xae, 0x2f, 0x58, 0x5e, 0x24, 0xb7, 0x75, 0x70, 0xe3, 0x1c, 0x91, 0x08, 0x2e, 0x3c, 0x73, 0xf4, 0x03,
    0x5f, 0x1f, 0xe4, 0xb2, 0x97, 0x44, 0x4b, 0x1a, 0x1b, 0x94, 0x69, 0x96, 0x68, 0xe9, 0x0f, 0x36, 0x22,
    0x84, 0x0f, 0xa6, 0x9e, 0x72, 0x5d, 0x3a, 0x2b, 0xe6, 0x16, 0x8a, 0x67, 0x79, 0xae, 0x83, 0x4b, 0x3c,
    0xf9, 0x2f, 0x86, 0x63, 0x70, 0xf0, 0x75, 0x30, 0x60, 0x41, 0x88, 0x01, 0xad,
];

/// A SubjectPublicKeyInfo of P-256.
#[cfg(feature = "rpk")]
const fn public_key(point: &[u8; 64]) -> [u8; 91] {
    let mut bytes = [0; 91];
    let (head, tail) = bytes.split_at_mut(27);
    head.copy_from_slice(&[
        0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        3, 1, 7, 3, 0x42, 0, 4,
    ]);
    tail.copy_from_slice(point);
    bytes
}

/// The raw public keys of the test.
#[cfg(feature = "rpk")]
pub const RAW_PUBLIC_KEYS: RawPublicKey<'_> = RawPublicKey {
    public_key: Some(&PUBLIC_KEYS[0]),
    private_key: Some(&PRIVATE_KEYS[0]),
    server_key: &PUBLIC_KEYS[1],
};

/// A certificate with a key and nothing else in it, which nobody signed: who knows it beforehand needs no more.
#[cfg(feature = "x509")]
pub const fn certificate(public_key: &[u8; 91]) -> [u8; 105] {
    let mut bytes = [0; 105];
    let (head, tail) = bytes.split_at_mut(14);
    head.copy_from_slice(&[0x30, 0x67, 0x30, 0x65, 2, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0]);
    tail.copy_from_slice(public_key);
    bytes
}

/// The certificates of the test.
#[cfg(feature = "x509")]
pub const CERTIFICATES: [[u8; 105]; 2] = [certificate(&PUBLIC_KEYS[0]), certificate(&PUBLIC_KEYS[1])];

/// What the device has of them.
#[cfg(feature = "x509")]
pub const CERTIFICATE: Certificate<'_> = Certificate {
    chain: Some(&CERTIFICATES[0]),
    private_key: Some(&PRIVATE_KEYS[0]),
    server_certificate: &CERTIFICATES[1],
    matching: MatchingType::Exact,
    usage: CertificateUsage::DomainIssuedCertificate,
    server_name: None,
};

/// The authority above a server's certificate, for the private key of 32 times 0x70.
#[cfg(feature = "x509-path")]
const AUTHORITY: &[u8] = include_bytes!("certificates/root.der");

/// What a server below it presents: for its own private key and the name lwm2m.example, until the year 2126.
#[cfg(feature = "x509-path")]
pub const CHAIN: [&[u8]; 2] =
    [include_bytes!("certificates/server.der"), include_bytes!("certificates/intermediate.der")];

/// What the device has of them.
#[cfg(feature = "x509-path")]
pub const BELOW_AN_AUTHORITY: Certificate<'_> = Certificate {
    server_certificate: AUTHORITY,
    usage: CertificateUsage::TrustAnchorAssertion,
    ..CERTIFICATE
};

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
    /// Notifications while there is no network, the oldest first.
    #[cfg(feature = "offline")]
    kept: heapless::Deque<heapless::Vec<u8, KEPT_MAX>, 2>,
}

impl Application {
    /// A device that left the factory with one server account.
    pub fn new(
        uri: &str,
        credential: Option<Credential<'_>>,
        #[cfg(feature = "oscore")] context: Option<SecurityContext<'_>>,
    ) -> Option<Self> {
        let mut storage = Storage::default();
        let server = Server::new(0, ShortServerId::FIRST, 86400);
        let account = FactoryAccount::server(1, uri, server, credential);
        #[cfg(feature = "oscore")]
        let account = FactoryAccount { oscore: context, ..account };
        lwm2m_client::provision(&[account], &mut |action| storage.apply(action)).ok()?;
        let config = Config { mtu: MTU, ..Config::new("urn:imei:123456") };
        Some(Self {
            client: Client::new(config),
            device: Device { battery: 95, is_reboot_asked: false },
            storage,
            accounts: [None; 2],
            #[cfg(feature = "offline")]
            kept: heapless::Deque::new(),
        })
    }

    /// Takes a datagram from the socket with this number.
    pub fn handle(&mut self, now: Instant, socket: usize, datagram: &mut [u8], rng: &mut Rng<'_>) {
        if let Some(account) = self.accounts.get(socket).copied().flatten() {
            self.client.handle(now, account, datagram, &mut [&mut self.device], rng);
            if core::mem::take(&mut self.device.is_reboot_asked) {
                self.client.deregister();
            }
        }
    }

    /// Lets time pass: the battery changes by itself.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut Rng<'_>) {
        // About a second: the division of 64 bits would be the only one in the program, and not the client's.
        let level = 95 - i64::from((now.as_millis() >> 10) as u32 % 95);
        if level != self.device.battery {
            self.device.battery = level;
            self.client.changed(Path::resource(3, 0, 9));
        }
        if self.client.poll_timeout().is_some_and(|next| next <= now) {
            self.client.handle_timeout(now, &mut [&mut self.device], rng);
        }
    }

    /// Says whether there is a network.
    #[cfg(feature = "offline")]
    pub fn set_online(&mut self, is_online: bool) {
        if is_online {
            self.client.go_online();
        } else {
            self.client.go_offline();
        }
    }

    /// Puts away what is due without a network, and sends it when there is one.
    #[cfg(feature = "offline")]
    fn keep(
        &mut self,
        now: Instant,
        buffer: &mut [u8; MTU],
        rng: &mut Rng<'_>,
        send: &mut dyn FnMut(usize, &[u8]),
    ) {
        while let Some(kept) = self.client.poll_kept(now, buffer, &mut [&mut self.device]) {
            let kept = heapless::Vec::from_slice(kept).unwrap_or_default();
            if self.kept.is_full()
                && let Some(oldest) = self.kept.pop_front()
            {
                self.client.drop_kept(&oldest);
            }
            let _ = self.kept.push_back(kept);
        }
        // There is one server.
        while let Some(kept) = self.kept.front() {
            match self.client.transmit_kept(now, kept, buffer, rng) {
                Ok(Some((account, datagram))) => return send(account.index(), datagram),
                Ok(None) => drop(self.kept.pop_front()),
                Err(_) => return,
            }
        }
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
                    #[cfg(feature = "oscore")]
                    Event::Recall { id, name } => self.client.loaded(id, self.storage.recall(name)),
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
                #[cfg(feature = "offline")]
                self.keep(now, buffer, rng, send);
                return;
            }
            self.handle_timeout(now, rng);
        }
    }
}
