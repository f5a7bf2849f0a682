//! The client: what a device maker calls, and the clockwork that moves all accounts.
//!
//! The driving contract: call one of the `handle_*` methods; then drain [`Client::poll_transmit`] and
//! [`Client::poll_event`] until both are empty; then sleep until [`Client::poll_timeout`] or input. No other rule.
//! LwM2M Core 1.1.1 §6. Invariant: nothing happens but inside a call, and no call waits.

use heapless::{Deque, Vec};
use lwm2m_coap::{Instant, Rng};
use lwm2m_objects::{Object, Path, Version};

use crate::account::Means;
use crate::assembly::Assembly;
use crate::bootstrap::{Bootstrap, BootstrapFormat};
use crate::core_objects::Core;
use crate::error::Reason;
#[cfg(feature = "std")]
use crate::event::Role;
use crate::event::{AccountId, Counters, Event, Notice};
use crate::persist::RECORD_OVERHEAD;
use crate::registration::{State, Then};
use crate::reporting::Reporting;
use crate::session::{Echo, Link, Session};
use crate::storage::Storage;

/// Notices that wait to be polled.
const NOTICES: usize = 8;

/// What a client needs to know about itself.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// The endpoint client name, at most 128 bytes.
    pub endpoint: &'a str,
    /// Whether the name is told to a server that can know it from the credential of the device: from LwM2M 1.1 on it may be left out
    /// there.
    pub names_itself: bool,
    /// The enabler version that is announced: 1.0 or 1.1.
    pub version: Version,
    /// Whether the device sleeps between its messages (queue mode).
    pub is_queue_mode: bool,
    /// The largest datagram to send, in bytes.
    pub mtu: usize,
    /// The largest block of a block-wise transfer, in bytes; a power of two from 16 to 1024.
    pub block_size: usize,
    /// Connection IDs (RFC 9146), which keep a session when the address of the device changes: `None` does not offer them,
    /// `Some(n)` does and asks for `n` bytes in the records to this client, 0 to 8. 0 costs nothing and is right for whoever
    /// has a socket for each server. Without the feature `connection-id` they are not offered.
    pub connection_id: Option<u8>,
    /// The longest record that a server may send, in bytes before encryption: 64 to 16,384, for devices with little memory.
    /// With a Connection ID the message is a byte shorter. Servers that know record_size_limit (RFC 8449) or, from 512 bytes
    /// on, max_fragment_length (RFC 6066) keep to it and send bodies in smaller blocks; others do not. `None` offers neither,
    /// and so does a client without the feature `record-size-limit`.
    pub record_size_limit: Option<u16>,
    /// The content format to be bootstrapped in; the server's choice when there is none, when it does not know the one that is asked for
    /// (4.15), and in LwM2M 1.0.
    pub bootstrap_format: Option<BootstrapFormat>,
    /// Where the objects lie for management servers; at the root when there is none.
    #[cfg(feature = "alternate-path")]
    pub alternate_path: Option<crate::AlternatePath<'a>>,
    /// Is shown every CoAP message, before encryption and after decryption, for those who test servers. Keys that a bootstrap
    /// writes are among it: it belongs into no log.
    #[cfg(feature = "std")]
    pub tap: Option<Tap>,
    /// Whether the device has a private key of its own, on P-256, that it signs with when [`Event::Sign`] asks for it: then an
    /// account without a private key is whole.
    #[cfg(feature = "rpk")]
    pub has_secure_element: bool,
    /// When keys of object security are replaced by fresh ones.
    #[cfg(feature = "oscore")]
    pub rederive: crate::Rederive,
    /// The trust store of the device, certificates of authorities in DER, for the certificate usages 0 and 1 (`/0/x/15`). The
    /// first 4 of them count.
    #[cfg(feature = "x509")]
    pub trust_anchors: &'a [&'a [u8]],
}

/// What [`Config::tap`] calls: whether the server bootstraps, whether the message is ours, and the message.
#[cfg(feature = "std")]
pub type Tap = fn(Role, bool, &[u8]);

impl<'a> Config<'a> {
    /// A device that tells its name, LwM2M 1.1, always awake, datagrams of 576 bytes, blocks of 256 bytes, Connection IDs towards the servers, no
    /// limit for their records, objects at the root, no secure element, no trust anchors.
    pub const fn new(endpoint: &'a str) -> Self {
        Config {
            endpoint,
            names_itself: true,
            version: Version { major: 1, minor: 1 },
            is_queue_mode: false,
            mtu: 576,
            block_size: 256,
            connection_id: Some(0),
            record_size_limit: None,
            bootstrap_format: None,
            #[cfg(feature = "alternate-path")]
            alternate_path: None,
            #[cfg(feature = "std")]
            tap: None,
            #[cfg(feature = "rpk")]
            has_secure_element: false,
            #[cfg(feature = "oscore")]
            rederive: crate::Rederive::Offered,
            #[cfg(feature = "x509")]
            trust_anchors: &[],
        }
    }

    /// The alternate path, or nothing for the root.
    pub(crate) fn alternate(&self) -> &'a str {
        #[cfg(feature = "alternate-path")]
        if let Some(path) = &self.alternate_path {
            return path.as_str();
        }
        ""
    }

    /// The same as what stands before paths.
    pub(crate) fn prefix(&self) -> Option<&'a str> {
        self.alternate().strip_prefix('/')
    }

    /// What the device has by itself.
    pub(crate) const fn means(&self) -> Means {
        Means {
            #[cfg(feature = "rpk")]
            signs: self.has_secure_element,
            #[cfg(feature = "x509")]
            has_anchors: !self.trust_anchors.is_empty(),
        }
    }
}

/// The bound for a device with a bootstrap and a server account, 4 observations, 4 paths with attributes, bodies of up to
/// 512 bytes and URIs of up to 255, on a machine of 32 bits: 6 KiB for everything that the client keeps. Handshakes with
/// signatures need more, and so do accounts with certificates, in bodies of up to 1,024 bytes: 10 KiB. Sessions that are
/// kept, lists of suites, and the places of composite operations come on top.
#[cfg(all(
    target_pointer_width = "32",
    not(any(
        feature = "alternate-path",
        feature = "composite",
        feature = "oscore",
        feature = "resumption",
        feature = "rpk",
        feature = "suites"
    ))
))]
const _: () = assert!(size_of::<Client<'static, 2, 4, 4, 0, 512, 255>>() <= 6144);
#[cfg(all(
    target_pointer_width = "32",
    not(any(
        feature = "alternate-path",
        feature = "composite",
        feature = "oscore",
        feature = "resumption",
        feature = "std",
        feature = "suites"
    ))
))]
const _: () = assert!(size_of::<Client<'static, 2, 4, 4, 0, 1024, 255>>() <= 10_240);

/// Records of each account besides rights.
const TABLES: usize = if cfg!(feature = "oscore") { 3 } else { 2 };

/// With object security 1.75 KiB more: the keys of two accounts, what they are made of, and longer copies.
#[cfg(all(
    feature = "oscore",
    target_pointer_width = "32",
    not(any(
        feature = "alternate-path",
        feature = "composite",
        feature = "resumption",
        feature = "rpk",
        feature = "suites"
    ))
))]
const _: () = assert!(size_of::<Client<'static, 2, 4, 4, 0, 512, 255>>() <= 6144 + 1792);

/// An LwM2M client for `S` accounts (the bootstrap account among them), `O` observations, `T` paths with notification
/// attributes and as many numbers that are compared with thresholds below what is observed, `A` instances of Access Control,
/// structured bodies of up to `B` bytes, and server URIs of up to `U` bytes, which the specification wants to be 255. `B` must be
/// at least `U` + 48, 104, and four times 2 `S` + `A`.
///
/// Everything is inside: there is no allocation. Sockets, clock, randomness, objects and storage are the owner's.
pub struct Client<
    'a,
    const S: usize = 2,
    const O: usize = 4,
    const T: usize = 4,
    const A: usize = 4,
    const B: usize = 512,
    const U: usize = 255,
> {
    pub(crate) config: Config<'a>,
    pub(crate) core: Core<S, A, U>,
    pub(crate) storage: Storage,
    pub(crate) sessions: [Option<Session<O>>; S],
    pub(crate) bootstrap: Bootstrap,
    pub(crate) reporting: Reporting<O, T>,
    /// The handshake that runs.
    #[cfg(feature = "psk")]
    pub(crate) handshake: Option<crate::session::Place>,
    /// Its memory.
    #[cfg(feature = "psk")]
    pub(crate) memory: crate::session::Memory,
    pub(crate) assembly: Assembly,
    #[cfg(feature = "composite")]
    pub(crate) selection: crate::composite::Selection,
    #[cfg(feature = "send")]
    pub(crate) report: Option<crate::send::Report>,
    #[cfg(feature = "offline")]
    pub(crate) offline: crate::offline::Offline,
    /// What a server wants back with the next request.
    pub(crate) echo: Option<Echo>,
    /// A body that is being assembled, or a record on its way to storage.
    pub(crate) body: Vec<u8, B>,
    /// Bits by slot: accounts whose sockets can be closed.
    pub(crate) closed: u32,
    notices: Deque<Notice, NOTICES>,
    pub(crate) counters: Counters,
    /// The time of the last call.
    pub(crate) now: Instant,
    pub(crate) is_started: bool,
    /// Something waits for the next call of `handle_timeout`.
    pub(crate) is_due: bool,
    pub(crate) is_restart_due: bool,
    pub(crate) is_resume_due: bool,
    /// Storage may keep a previous set of accounts.
    pub(crate) is_unproven: bool,
    /// New accounts came from a bootstrap of this run.
    pub(crate) is_trial: bool,
    /// The accounts before came back: the sessions kept for them are not offered.
    #[cfg(feature = "resumption")]
    pub(crate) is_session_doubted: bool,
    /// A server changed `/1` or `/2`.
    pub(crate) is_changed: bool,
    /// When the bootstrap account is purged.
    pub(crate) purge_at: Option<Instant>,
    pub(crate) is_stopping: bool,
}

impl<'a, const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'a, S, O, T, A, B, U>
{
    /// A client at rest. The first [`Client::handle_timeout`] makes it ask for its accounts.
    pub fn new(config: Config<'a>) -> Self {
        const { assert!(B >= U + RECORD_OVERHEAD, "the body buffer also carries records to storage") };
        const { assert!(B >= 104 && B >= 4 * (TABLES * S + A), "and that of a server, and the index") };
        const { assert!(S >= 1 && S <= 32, "1 to 32 accounts") };
        Client {
            config,
            core: Core::new(),
            storage: Storage::default(),
            sessions: [const { None }; S],
            bootstrap: Bootstrap::default(),
            reporting: Reporting::new(),
            #[cfg(feature = "psk")]
            handshake: None,
            #[cfg(feature = "psk")]
            memory: crate::session::Memory::new(),
            assembly: Assembly::default(),
            #[cfg(feature = "composite")]
            selection: crate::composite::Selection::NONE,
            #[cfg(feature = "send")]
            report: None,
            #[cfg(feature = "offline")]
            offline: crate::offline::Offline::default(),
            echo: None,
            body: Vec::new(),
            closed: 0,
            notices: Deque::new(),
            counters: Counters::default(),
            now: Instant::from_millis(0),
            is_started: false,
            is_due: true,
            is_restart_due: false,
            is_resume_due: false,
            is_unproven: true,
            is_trial: false,
            #[cfg(feature = "resumption")]
            is_session_doubted: false,
            is_changed: false,
            purge_at: None,
            is_stopping: false,
        }
    }

    /// Takes a datagram that came on the socket of `account`; it is decrypted in place. Then drain
    /// [`Client::poll_transmit`] and [`Client::poll_event`]. A datagram for an account without a socket is dropped.
    pub fn handle(
        &mut self,
        now: Instant,
        account: AccountId,
        datagram: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) {
        self.now = now;
        #[cfg(feature = "offline")]
        if self.offline.is_offline {
            return;
        }
        self.receive(now, account.index(), datagram, objects, rng);
        self.advance(now, rng);
    }

    /// Does what is due at `now`. Then drain [`Client::poll_transmit`] and [`Client::poll_event`]. A spurious call is
    /// harmless.
    pub fn handle_timeout(&mut self, now: Instant, _: &mut [&mut dyn Object], rng: &mut Rng<'_>) {
        self.now = now;
        self.advance(now, rng);
    }

    /// The next thing to do or to know. Drain it, together with [`Client::poll_transmit`], after every call.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(Event::Notice(notice));
        }
        if self.closed != 0 {
            let slot = self.closed.trailing_zeros();
            self.closed &= self.closed.wrapping_sub(1);
            return Some(Event::Closed { account: AccountId(u8::try_from(slot).unwrap_or_default()) });
        }
        let wanted = self.sessions.iter().position(|session| {
            matches!(session, Some(Session { link: Link::Resolving { told: false }, .. }))
        });
        #[cfg(feature = "offline")]
        let wanted = wanted.filter(|_| !self.offline.is_offline);
        if let Some(slot) = wanted {
            let session = self.sessions.get_mut(slot)?.as_mut()?;
            session.link = Link::Resolving { told: true };
            let security = session.security;
            if self.core.accounts.security(security).and_then(|security| security.address()).is_some() {
                let address = self.core.accounts.security(security)?.address()?;
                let account = AccountId(u8::try_from(slot).unwrap_or_default());
                return Some(Event::Resolve { account, host: address.host, port: address.port });
            }
            self.connection_failed(slot, Reason::Unsupported);
        }
        #[cfg(feature = "rpk")]
        if self.is_signature_wanted() {
            return self.poll_signature();
        }
        self.poll_storage()
    }

    /// When to call [`Client::handle_timeout`] if nothing comes in before: maybe at once, `None` for never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_due {
            return Some(self.now);
        }
        #[cfg(feature = "offline")]
        if self.offline.is_offline {
            return self.next_report();
        }
        let sessions = (0..S).filter_map(|slot| self.session_timeout(slot)).min();
        let reports = self.next_report();
        let assembly = self.assembly.poll_timeout();
        [sessions, reports, assembly, self.bootstrap_timeout(), self.purge_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nothing is under way that ends with an answer. In queue mode the receiver may be switched off when that has been so
    /// for as long as servers think that the device listens, [`MAX_TRANSMIT_WAIT`](crate::MAX_TRANSMIT_WAIT) seconds by default, since the last datagram of
    /// [`poll_transmit`](Self::poll_transmit) (LwM2M Core 1.1.1 §6.5). The clock goes on meanwhile: at
    /// [`poll_timeout`](Self::poll_timeout) the device has something to say, and every message of it wakes the servers' queues.
    pub fn is_quiet(&self) -> bool {
        !self.is_due
            && self.is_started
            && !self.bootstrap.is_under_way()
            && self.sessions.iter().flatten().all(Session::is_quiet)
    }

    /// Tells that something changed by itself: a value, or for a path above, any number of values, or which instances there
    /// are. Observers are notified as their attributes say, and servers get an Update when the list of instances is not
    /// what they were told.
    pub fn changed(&mut self, path: Path) {
        self.is_due = true;
        self.reporting.changed(path);
        if path.resource_id().is_none() {
            self.instances_changed();
        }
    }

    /// Answers [`Event::Resolve`]: whether there is a socket towards the server now.
    pub fn resolved(&mut self, account: AccountId, is_found: bool) {
        let slot = account.index();
        let Some(session) = self.session_mut(slot) else { return };
        if !matches!(session.link, Link::Resolving { told: true }) {
            return;
        }
        if is_found {
            session.link = Link::Resolved;
        } else {
            self.connection_failed(slot, Reason::Unresolved);
        }
        self.is_due = true;
    }

    /// Sends an Update to every server that knows the device.
    pub fn update(&mut self) {
        for session in self.sessions.iter_mut().flatten().filter(|session| session.registration.is_alive()) {
            session.registration.due.refresh = true;
        }
        self.is_due = true;
    }

    /// Says that datagrams leave from another address from now on. Where the session has a Connection ID an Update shows it to the
    /// server; else the device is registered with anew, after another handshake (LwM2M Core 1.1.1 §6.2.1).
    pub fn address_changed(&mut self) {
        self.update();
        for slot in 0..S {
            let session = self.sessions.get(slot).and_then(Option::as_ref);
            if session.is_some_and(|it| it.registration.is_alive()) && !self.has_connection_id(slot) {
                self.reconnect(self.now, slot, Reason::AddressChanged);
            }
        }
    }

    /// Whether a server finds the session by a Connection ID.
    fn has_connection_id(&mut self, slot: usize) -> bool {
        match self.sessions.get(slot).and_then(Option::as_ref).map(|session| &session.link) {
            #[cfg(feature = "connection-id")]
            Some(Link::Secured(connection)) => !connection.peer_connection_id().is_empty(),
            #[cfg(all(feature = "connection-id", feature = "resumption"))]
            Some(Link::Resumed) => self
                .running(slot, |connection| !connection.peer_connection_id().is_empty())
                .unwrap_or_default(),
            _ => false,
        }
    }

    /// Starts a bootstrap, unless one is under way.
    pub fn bootstrap(&mut self) {
        self.bootstrap.trigger(self.now);
        self.is_due = true;
    }

    /// De-registers from every server and stays silent from then on: the orderly end. [`Client::is_stopped`] tells when
    /// it is reached.
    pub fn deregister(&mut self) {
        self.is_stopping = true;
        self.is_due = true;
        self.bootstrap.succeeded();
        for session in self.sessions.iter_mut().flatten() {
            let is_leaving = matches!(session.registration.state, State::Deregistering { .. });
            let is_joining = session.registration.state == State::Registering && session.request.is_some();
            if session.registration.is_alive() || is_leaving {
                session.registration.state = State::Deregistering { then: Then::Stop };
            } else if !is_joining {
                // A registration under way is waited for: the server may know the device already.
                session.registration.state = State::Idle;
                session.disconnect();
            }
        }
    }

    /// Whether [`Client::deregister`] has come to its end.
    pub fn is_stopped(&self) -> bool {
        self.is_stopping
            && self.sessions.iter().flatten().all(|session| session.registration.state == State::Idle)
    }

    /// Whether at least one server knows the device.
    pub fn is_registered(&self) -> bool {
        self.sessions.iter().flatten().any(|session| session.registration.is_alive())
    }

    /// What was dropped or refused so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Shows a message to who watches.
    #[cfg(feature = "std")]
    pub(crate) fn show(&self, slot: usize, is_ours: bool, message: &[u8]) {
        if let (Some(tap), Some(role)) = (self.config.tap, self.role_of(slot)) {
            tap(role, is_ours, message);
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        if self.notices.push_back(notice).is_err() {
            self.counters.lost_notices = self.counters.lost_notices.saturating_add(1);
        }
    }

    #[inline(never)]
    pub(crate) fn session_mut(&mut self, slot: usize) -> Option<&mut Session<O>> {
        self.sessions.get_mut(slot)?.as_mut()
    }

    /// Instances came or went: every server is told with an Update.
    pub(crate) fn instances_changed(&mut self) {
        for session in self.sessions.iter_mut().flatten() {
            session.registration.due.objects = true;
        }
    }
}
