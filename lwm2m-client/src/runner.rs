//! The client on an operating system: UDP sockets, the clock, randomness, and a storage of files.
//!
//! One thread for each socket hands datagrams on; everything else happens in [`Runner::turn`]. Invariant: what arrives on
//! a socket that was replaced never reaches the client.

#[cfg(feature = "offline")]
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant as Clock};

use lwm2m_coap::Instant;
use lwm2m_objects::Object;

use crate::client::{Client, Config};
use crate::error::StoreError;
use crate::event::{AccountId, Event, Notice};
#[cfg(feature = "offline")]
use crate::offline::kept_for;
use crate::store::Store;

/// The client of the runner: six accounts, 16 observations, 32 paths with attributes, 16 instances of Access Control,
/// structured bodies of up to 8 KiB.
pub type StdClient<'a> = Client<'a, 6, 16, 32, 16, 8192>;

/// How long a receiving thread sleeps before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many notifications are kept while there is no network; the oldest go.
#[cfg(feature = "offline")]
const KEPT: usize = 1024;

/// A client with its sockets and its storage.
pub struct Runner<'a> {
    client: Box<StdClient<'a>>,
    config: Config<'a>,
    store: Store,
    sockets: [Option<Socket>; 6],
    generation: u64,
    sender: Sender<Datagram>,
    receiver: Receiver<Datagram>,
    started: Clock,
    last_sent: Instant,
    #[cfg(feature = "offline")]
    kept: VecDeque<Vec<u8>>,
    /// There is another network, once there is one.
    #[cfg(feature = "offline")]
    is_moved: bool,
    sent: Vec<usize>,
    received: Option<usize>,
    buffer: Vec<u8>,
    #[cfg(feature = "rpk")]
    signer: Option<Signer<'a>>,
}

/// The secure element of the device: for an instance of `/0` and a SHA-256 the signature, r and s.
#[cfg(feature = "rpk")]
pub type Signer<'a> = Box<dyn FnMut(u16, &[u8; 32]) -> Option<[u8; dtls_psk::SIGNATURE]> + Send + 'a>;

struct Socket {
    account: AccountId,
    generation: u64,
    socket: UdpSocket,
    is_wanted: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }
}

struct Datagram {
    account: AccountId,
    generation: u64,
    bytes: Vec<u8>,
}

impl<'a> Runner<'a> {
    /// A client that starts with the first [`Runner::turn`], with the accounts in `store`.
    pub fn new(config: Config<'a>, store: Store) -> Self {
        let (sender, receiver) = channel();
        Runner {
            client: Box::new(Client::new(config)),
            config,
            store,
            sockets: Default::default(),
            generation: 0,
            sender,
            receiver,
            started: Clock::now(),
            last_sent: Instant::from_millis(0),
            #[cfg(feature = "offline")]
            kept: VecDeque::new(),
            #[cfg(feature = "offline")]
            is_moved: false,
            sent: Vec::new(),
            received: None,
            buffer: vec![0; config.mtu],
            #[cfg(feature = "rpk")]
            signer: None,
        }
    }

    /// The same with a secure element, which answers [`Event::Sign`] ([`Config::has_secure_element`]).
    #[cfg(feature = "rpk")]
    #[must_use]
    pub fn with_signer(self, signer: Signer<'a>) -> Self {
        Runner { signer: Some(signer), ..self }
    }

    /// The client, for [`Client::changed`], [`Client::update`], [`Client::deregister`] and the like.
    pub fn client(&mut self) -> &mut StdClient<'a> {
        &mut self.client
    }

    /// The storage.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts over as after a power loss: the storage stays, everything else is lost.
    pub fn reboot(&mut self) {
        self.sockets = Default::default();
        #[cfg(feature = "offline")]
        let is_offline = self.client.is_offline();
        *self.client = Client::new(self.config);
        #[cfg(feature = "offline")]
        {
            self.kept.clear();
            if is_offline {
                self.client.go_offline();
            }
        }
    }

    /// Starts over with what left the factory: `provision` fills the storage, which holds nothing any more.
    ///
    /// # Errors
    /// The storage failed; at the next start it is empty, or as it was.
    pub fn factory_reset(
        &mut self,
        provision: impl FnOnce(&mut Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.clear()?;
        provision(&mut self.store)?;
        self.reboot();
        Ok(())
    }

    /// Says whether there is a network. Without one nothing is sent; the last 1,024 notifications for servers that want them kept
    /// (`/1/x/6`) go out afterwards.
    #[cfg(feature = "offline")]
    pub fn set_offline(&mut self, is_offline: bool) {
        if is_offline {
            self.client.go_offline();
        } else {
            self.client.go_online();
            if core::mem::take(&mut self.is_moved) {
                self.network_changed();
            }
        }
    }

    /// Goes on over new sockets towards the same servers: the device is in another network.
    pub fn network_changed(&mut self) {
        #[cfg(feature = "offline")]
        if self.client.is_offline() {
            self.is_moved = true;
            return;
        }
        for index in 0..self.sockets.len() {
            let Some(place) = self.sockets.get(index).and_then(Option::as_ref) else { continue };
            let Ok(remote) = place.socket.peer_addr() else { continue };
            let account = place.account;
            let changed = open((remote.ip(), remote.port())).and_then(|socket| self.adopt(account, socket));
            if let Err(error) = changed {
                tracing::warn!(%error, "no new socket towards a server");
            }
        }
        self.client.address_changed();
    }

    /// The lengths of the datagrams that the last turn sent, in bytes.
    pub fn sent(&self) -> &[usize] {
        &self.sent
    }

    /// The length of the datagram that the last turn received, in bytes.
    pub fn received(&self) -> Option<usize> {
        self.received
    }

    /// Waits for the network or for the clock, `wait` at most, and does what is due. Returns what happened.
    pub fn turn(&mut self, objects: &mut [&mut dyn Object], wait: Duration) -> Vec<Notice> {
        let mut rng = fill_with_randomness;
        let due = self.client.poll_timeout().map(|at| at.since(self.now()));
        let received = self.receiver.recv_timeout(due.unwrap_or(wait).min(wait)).ok();
        let now = self.now();
        (self.received, self.sent) = (None, Vec::new());
        match received.filter(|datagram| self.is_current(datagram)) {
            Some(mut datagram) => {
                self.received = Some(datagram.bytes.len());
                self.client.handle(now, datagram.account, &mut datagram.bytes, objects, &mut rng);
            }
            None => self.client.handle_timeout(now, objects, &mut rng),
        }
        let mut notices = Vec::new();
        loop {
            self.send(objects);
            let is_active = self.act(&mut notices);
            #[cfg(feature = "offline")]
            let is_active = is_active || self.keep(objects);
            if !is_active {
                return notices;
            }
        }
    }

    /// In queue mode, from when the receiver may be switched off: `awake` after the last message, 93 seconds unless the servers
    /// know of another time. `None` without queue mode, and while an answer is awaited. Ask again after every turn, and take
    /// turns again from [`Client::poll_timeout`] on.
    pub fn sleeps_from(&self, awake: Duration) -> Option<Instant> {
        (self.config.is_queue_mode && self.client.is_quiet()).then(|| self.last_sent.saturating_add(awake))
    }

    /// The time on the client's clock.
    pub fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn is_current(&self, datagram: &Datagram) -> bool {
        let socket = self.sockets.get(datagram.account.index()).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.generation == datagram.generation)
    }

    /// Puts away what is due without a network, and sends it when there is one; whether there was something to do.
    #[cfg(feature = "offline")]
    fn keep(&mut self, objects: &mut [&mut dyn Object]) -> bool {
        let now = self.now();
        let mut is_active = false;
        let mut space = [0; crate::offline::KEPT_MAX];
        while let Some(kept) = self.client.poll_kept(now, &mut space, objects) {
            self.kept.push_back(kept.to_vec());
            if self.kept.len() > KEPT
                && let Some(oldest) = self.kept.pop_front()
            {
                self.client.drop_kept(&oldest);
            }
        }
        let mut waiting = Vec::new();
        let mut index = 0_usize;
        while let Some(kept) = self.kept.get(index) {
            let mut rng = fill_with_randomness;
            let server = kept_for(kept);
            if waiting.contains(&server) {
                index = index.saturating_add(1);
                continue;
            }
            match self.client.transmit_kept(now, kept, &mut self.buffer, &mut rng) {
                Ok(None) => {
                    self.kept.remove(index);
                    is_active = true;
                    continue;
                }
                Ok(Some((account, datagram))) => {
                    self.last_sent = now;
                    self.sent.push(datagram.len());
                    transmit(&self.sockets, account, datagram);
                    is_active = true;
                }
                Err(_) => {}
            }
            waiting.push(server);
        }
        is_active
    }

    fn send(&mut self, objects: &mut [&mut dyn Object]) {
        let mut rng = fill_with_randomness;
        let now = self.now();
        while let Some((account, datagram)) =
            self.client.poll_transmit(now, &mut self.buffer, objects, &mut rng)
        {
            self.last_sent = now;
            self.sent.push(datagram.len());
            transmit(&self.sockets, account, datagram);
        }
    }

    /// Does what the next event asks for; whether there was one.
    fn act(&mut self, notices: &mut Vec<Notice>) -> bool {
        match self.client.poll_event() {
            None => return false,
            Some(Event::Persist { id, action }) => {
                let result = self.store.apply(&action);
                if let Err(error) = result {
                    tracing::debug!(%error, ?action, "storage");
                }
                self.client.persisted(id, result);
            }
            Some(Event::Load { id, key }) => self.client.loaded(id, self.store.load(key)),
            #[cfg(feature = "oscore")]
            Some(Event::Recall { id, name }) => self.client.loaded(id, self.store.recall(name)),
            Some(Event::Resolve { account, host, port }) => {
                let socket = open((host, port));
                let is_found = match socket {
                    Ok(socket) => self.adopt(account, socket).is_ok(),
                    Err(error) => {
                        tracing::warn!(%error, "no socket towards the server");
                        false
                    }
                };
                self.client.resolved(account, is_found);
            }
            #[cfg(feature = "rpk")]
            Some(Event::Sign { id, instance, digest }) => {
                let signature = self.signer.as_mut().and_then(|sign| sign(instance, digest));
                self.client.signed(id, signature.as_ref());
            }
            Some(Event::Closed { account }) => {
                if let Some(place) = self.sockets.get_mut(account.index()) {
                    *place = None;
                }
            }
            Some(Event::Notice(notice)) => notices.push(notice),
        }
        true
    }

    /// Puts a socket in the place of an account and starts to listen on it.
    fn adopt(&mut self, account: AccountId, socket: UdpSocket) -> io::Result<()> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let listener = socket.try_clone()?;
        listener.set_read_timeout(Some(PATIENCE))?;
        let is_wanted = Arc::new(AtomicBool::new(true));
        let (sender, wanted) = (self.sender.clone(), is_wanted.clone());
        std::thread::Builder::new().name("lwm2m-receive".into()).spawn(move || {
            let mut buffer = vec![0; 0x1_0000];
            while wanted.load(Ordering::Relaxed) {
                // Errors are time-outs, or what an unreachable server's network says: neither ends the account.
                let Ok(length) = listener.recv(&mut buffer) else { continue };
                let Some(bytes) = buffer.get(..length) else { continue };
                if sender.send(Datagram { account, generation, bytes: bytes.to_vec() }).is_err() {
                    return;
                }
            }
        })?;
        if let Some(place) = self.sockets.get_mut(account.index()) {
            *place = Some(Socket { account, generation, socket, is_wanted });
        }
        Ok(())
    }
}

fn transmit(sockets: &[Option<Socket>], account: AccountId, datagram: &[u8]) {
    if let Some(Some(socket)) = sockets.get(account.index())
        && let Err(error) = socket.socket.send(datagram)
    {
        // As lost on the way: the client sends again.
        tracing::debug!(%error, "a datagram could not be sent");
    }
}

fn open(remote: impl ToSocketAddrs) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in remote.to_socket_addrs()? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fill_with_randomness(bytes: &mut [u8]) {
    // Without randomness there is no security: better no client than one that can be foreseen.
    getrandom::fill(bytes).expect("the operating system has randomness");
}
