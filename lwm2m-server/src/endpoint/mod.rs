//! The server side of LwM2M as a state machine: bytes, time and randomness in; bytes, events and questions out.
//!
//! Call one of [`Endpoint::handle`], [`Endpoint::handle_timeout`], [`Endpoint::provide`], [`Endpoint::provide_work`], [`Endpoint::request`],
//! [`Endpoint::trigger_bootstrap`] and [`Endpoint::close_sessions`]; then drain [`Endpoint::poll_question`] (answer each
//! with `provide`), [`Endpoint::poll_work`] (give what comes of it to [`Endpoint::provide_work`]), [`Endpoint::poll_transmit`], [`Endpoint::poll_fact`], [`Endpoint::poll_outcome`] and
//! [`Endpoint::poll_event`]; then sleep until [`Endpoint::poll_timeout`] or input. No other rule.
//!
//! Invariants: state is keyed by association, an address only finds it; nothing is kept of a remote before its cookie
//! came back, or, without security, before it registers; everything kept for one remote is bounded.

mod address;
mod admission;
mod association;
mod bootstrap;
mod budget;
mod connection_id;
mod content;
mod counters;
mod directory;
mod downlink;
mod exchange;
mod incoming;
mod location;
mod lookup;
mod moving;
mod notification;
mod observation;
mod oscore;
mod path;
mod preview;
mod protected;
mod question;
mod refusal;
mod registration;
mod registry;
mod request;
mod resumption;
mod saved;
mod send;
mod session;
mod shard;
mod slab;
mod stranger;
mod timer;
mod trace;
mod trigger;
mod uplink;
mod upload;
mod wall_clock;
mod within;
mod work;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dtls_psk::CookieJar;
use lwm2m_coap::{Code, Instant, Rng};

use crate::credentials::{ContextId, Fact, Role};
use crate::crypto::Provider;
use crate::event::Event;
use crate::keys::ServerKeys;
use crate::models::Models;
use crate::operation::{Answer, RequestError};

pub use address::{Address, Addresses, Listener};
pub use association::Who;
pub use counters::Counters;
pub use location::VirtualShard;
pub use preview::{Previewed, Shown, preview};
pub use question::{Question, QuestionId, Verdict};
pub use resumption::Sessions;
pub use saved::{NotRestored, Saved};
pub use shard::{Parcel, Part, Shared};
pub use trace::{Direction, Packet, Payload, Watcher};
pub(crate) use work::Lane;
pub use work::{Done, Work, WorkId};

use admission::{Rates, UnderWay};
use association::Association;
use budget::Budget;
use connection_id::ConnectionIds;
use lookup::LookUps;
use moving::Moves;
use refusal::Refusals;
use registry::Registry;

use slab::{Key, Slab};
use timer::{NEVER, Timers};
use trace::Trace;
use wall_clock::WallClock;
use work::Works;

/// Limits and times. The defaults suit a fleet on the open internet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Short Server ID of this server (`/1/x/0`), 1..=65534.
    pub short_server_id: u16,
    /// Requests that may wait for one device beside the one in flight.
    pub queue: usize,
    /// For how long a device in queue mode listens after it was heard: its MAX_TRANSMIT_WAIT (LwM2M Core 1.2.1 §6.5).
    pub awake: Duration,
    /// Observations one device may have.
    pub observations: usize,
    /// The longest body taken from a device, in bytes.
    pub longest_answer: u32,
    /// Bytes that bodies on their way here in blocks may take at once, over all devices.
    pub assembling: usize,
    /// Whether a device without security first has to prove by Echo that it receives what is sent to its address
    /// (RFC 9175). Many devices do not know how.
    pub challenge: bool,
    /// Remotes without a registration that may be kept at once; beyond it new ones are turned away.
    pub unregistered: usize,
    /// Devices that may be registered at once; beyond it a Register is answered 5.03.
    pub devices: usize,
    /// Bytes that their object lists may take, equal ones once; beyond it a Register or Update with another one is answered 5.03.
    pub object_lists: usize,
    /// Messages that one device may send at once; more are dropped.
    pub burst: u16,
    /// Messages that one device may send in a second in the long run.
    pub rate: u16,
    /// Handshakes that may be under way at once; beyond it one makes room whose address group has most.
    pub handshakes: usize,
    /// Handshakes that may begin in a second, and at once after a second without any, 1 or more; others are dropped, those
    /// of the address groups that take most first. Their devices repeat them.
    pub handshake_rate: u32,
    /// PSK identities that may be asked for at once; others wait their turn.
    pub look_ups: usize,
    /// PSK identities that one address group (an IPv4 network of 24 bits, an IPv6 network of 48 bits) may name in a second, with
    /// the raw public keys and certificates that it presents.
    pub look_up_rate: u32,
    /// Pieces of work of handshakes that may be out at once: so many each of key agreements, of signatures and certificates, and of
    /// signatures of keys in tokens.
    pub works: usize,
    /// What the server proves itself with where its devices have raw public keys or certificates; without any they are refused.
    pub keys: ServerKeys,
    /// Whether peers that offer it get a Connection ID, by which their sessions survive a change of their address.
    pub connection_ids: bool,
    /// The DTLS sessions that devices may take up again. Clones of a configuration share them.
    pub sessions: Sessions,
    /// Cipher suites and timing of handshakes.
    pub dtls: dtls_psk::Config,
    /// What types resources have where a payload does not say: TLV and text.
    pub models: Arc<Models>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            short_server_id: 1,
            queue: 16,
            awake: crate::server::DEFAULT_TIMEOUT,
            observations: 64,
            longest_answer: 1 << 20,
            assembling: 64 << 20,
            challenge: false,
            unregistered: 10_000,
            devices: 1_000_000,
            object_lists: 512 << 20,
            burst: 200,
            rate: 50,
            handshakes: 10_000,
            handshake_rate: 10_000,
            look_ups: 256,
            look_up_rate: 1_000,
            works: 256,
            keys: ServerKeys::default(),
            connection_ids: true,
            sessions: Sessions::default(),
            dtls: dtls_psk::Config::DEFAULT.with_suites(dtls_psk::Suites::ALL),
            models: Arc::default(),
        }
    }
}

/// A datagram to send: `range` of the buffer that was handed in, to `to`, from the socket of `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The socket it leaves by.
    pub local: Listener,
    /// Where it goes.
    pub to: Address,
    /// Where in the buffer it lies.
    pub range: Range<usize>,
}

/// Names a request of the application until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// The server side of any number of devices.
pub struct Endpoint {
    config: Config,
    part: Part,
    shared: Arc<Shared>,
    parcels: VecDeque<(u8, Parcel)>,
    moves: Moves,
    associations: Slab<Association>,
    by_address: HashMap<(Listener, Address), Candidates>,
    /// The associations with an OSCORE context, by what their requests name; those of one kid stand together.
    contexts: BTreeMap<(Role, ContextId), Key>,
    /// The associations of each endpoint name, oldest first.
    by_name: HashMap<Arc<str>, Box<[Key]>>,
    registry: Registry,
    timers: Timers<Key>,
    ready: VecDeque<Key>,
    questions: VecDeque<(QuestionId, Question)>,
    facts: VecDeque<Fact>,
    events: VecDeque<Event>,
    outcomes: VecDeque<(RequestId, Result<Answer, RequestError>)>,
    counters: Counters,
    cookies: Option<CookieJar<Provider>>,
    /// What bodies in blocks may take.
    budget: Budget,
    connection_ids: Option<ConnectionIds>,
    /// Associations without security that have no registration.
    strangers: usize,
    rates: Rates,
    /// Handshakes begun and neither finished nor given up.
    under_way: UnderWay,
    look_ups: LookUps,
    works: Works,
    /// The addresses that answered a flight with an alert, the latest first.
    complained: VecDeque<IpAddr>,
    refusals: Refusals,
    /// Where records are tried that may belong to several sessions.
    scratch: Vec<u8>,
    trace: Trace,
    wall_clock: WallClock,
    next_request: u64,
    next_observation: u64,
}

/// The associations of one address: one established, and one whose handshake is under way beside it.
#[derive(Clone, Copy, Debug)]
struct Candidates {
    newest: Key,
    older: Option<Key>,
}

impl Candidates {
    fn newest_first(&self) -> [Option<Key>; 2] {
        [Some(self.newest), self.older]
    }
}

/// At the first message of each so many milliseconds a session is asked for the certificate that opened it: revocation lists are
/// read again as often.
const REVIEW: u64 = 60_000;

/// How long a bootstrap may take: EXCHANGE_LIFETIME (LwM2M Core 1.2.1 §6.1.7.6).
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(247);

impl Endpoint {
    /// An endpoint that knows nobody.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::part(config, Part::WHOLE, Arc::new(Shared::new()))
    }

    /// One of several endpoints that are one server to the outside. Beside the other `poll_*` methods drain
    /// [`poll_parcel`](Self::poll_parcel), and hand each parcel to [`accept`](Self::accept) of the part it is for. Limits
    /// are those of the server; each part has its share.
    #[must_use]
    pub fn part(config: Config, part: Part, shared: Arc<Shared>) -> Self {
        let config = Config {
            unregistered: part.share(config.unregistered),
            devices: part.share(config.devices),
            handshakes: part.share(config.handshakes),
            handshake_rate: part.share_of_rate(config.handshake_rate),
            look_ups: part.share(config.look_ups),
            works: part.share(config.works),
            look_up_rate: part.share_of_rate(config.look_up_rate),
            assembling: part.share(config.assembling),
            ..config
        };
        let (budget, trace) = (Budget::new(config.assembling), Trace::new());
        let rates = Rates::new(config.handshake_rate, config.look_up_rate);
        let (look_ups, works) = (LookUps::new(config.look_ups), Works::new(config.works));
        Self {
            config,
            part,
            parcels: VecDeque::new(),
            moves: Moves::default(),
            associations: Slab::new(),
            by_address: HashMap::new(),
            contexts: BTreeMap::new(),
            by_name: HashMap::new(),
            registry: Registry::new(Arc::clone(&shared), part.index),
            shared,
            timers: Timers::new(),
            ready: VecDeque::new(),
            questions: VecDeque::new(),
            facts: VecDeque::new(),
            events: VecDeque::new(),
            outcomes: VecDeque::new(),
            counters: Counters::default(),
            cookies: None,
            budget,
            connection_ids: None,
            strangers: 0,
            rates,
            under_way: UnderWay::default(),
            look_ups,
            works,
            complained: VecDeque::new(),
            refusals: Refusals::new(),
            scratch: Vec::new(),
            trace,
            wall_clock: WallClock::default(),
            next_request: 0,
            next_observation: 1,
        }
    }

    /// Takes a datagram, which is decrypted in place. What is returned lies in `out` and is to be sent first; then drain
    /// the `poll_*` methods. `out` should have 1500 bytes.
    pub fn handle(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        Counters::add(&mut self.counters.datagrams);
        self.handle_datagram(now, local, from, datagram, rng, out)
    }

    fn handle_datagram(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        if local.is_secure() {
            return self.handle_secure(now, local, from, datagram, rng, out);
        }
        self.handle_plain(now, local, from, datagram, rng, out)
    }

    /// The next thing the credentials should know. Call until `None`.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// The next thing that happened. Call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next outcome of a request. Call until `None`.
    pub fn poll_outcome(&mut self) -> Option<(RequestId, Result<Answer, RequestError>)> {
        self.outcomes.pop_front()
    }

    /// The next datagram to send, in `out`. Call until `None`; a spurious call is harmless.
    pub fn poll_transmit(&mut self, now: Instant, rng: &mut Rng<'_>, out: &mut [u8]) -> Option<Transmit> {
        while let Some(&key) = self.ready.front() {
            let Some((local, to, range)) = self.next_datagram(now, key, rng, out) else {
                self.ready.pop_front();
                self.settle(now, key);
                continue;
            };
            if let Some(transmit) = self.transmit(key, local, to, range) {
                return Some(transmit);
            }
        }
        None
    }

    fn next_datagram(
        &mut self,
        now: Instant,
        key: Key,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<(Listener, Address, Range<usize>)> {
        let association = self.associations.get_mut(key)?;
        let (local, to) = (association.local, association.address);
        if let Some((to, range)) = association.poll_challenge(out) {
            return Some((local, to, range));
        }
        let device = association.registration.filter(|_| self.trace.is_on());
        let device = device.and_then(|device| self.registry.get(device));
        let notes = (&mut self.trace, &mut self.counters);
        if let Some(range) = association.poll_probe(now, rng, out, notes, device) {
            return Some((local, to, range));
        }
        let notes = (&mut self.trace, &mut self.counters);
        let range = association.poll_transmit(now, out, notes, device);
        Some((local, to, range.or_else(|| self.start_next(now, key, rng, out))?))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) if nothing happens before; may be in the past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.registry.next_expiry(), self.moves.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due by `now`; then drain the `poll_*` methods. A spurious call is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(association) = self.associations.get_mut(key) else { continue };
            if association.armed != at {
                continue;
            }
            association.armed = NEVER;
            association.coap.forget(now);
            association.passing.tidy(|upload| upload.is_over(now));
            self.session_timeout(now, key);
            self.failures(now, key);
            self.expire_jobs(now, key);
            self.mark_ready(key);
        }
        while let Some((registered, registration)) = self.registry.expire(now) {
            Counters::add(&mut self.counters.expired);
            self.observations_ended(&registration, "the registration expired");
            self.events.push_back(Event::Expired { endpoint: registration.endpoint.clone() });
            self.forget_registration(now, registered, &registration);
        }
        self.give_up_moves(now);
    }

    /// Closes the sessions of an endpoint with what hangs on them: the registration made in them, its observations and
    /// requests, also when its session is gone or it is on its way here. With `generation` only those of that credential.
    /// Answers how many sessions were closed. Those that could be taken up again cannot any more.
    pub fn close_sessions(
        &mut self,
        now: Instant,
        endpoint: &str,
        role: Role,
        generation: Option<u32>,
        reason: &str,
    ) -> usize {
        self.config.sessions.forget(endpoint, role, generation);
        let keys = self.by_name.get(endpoint).cloned().unwrap_or_default();
        let is_meant = |key: &Key| {
            let who = self.associations.get(*key).and_then(|association| association.who.as_ref());
            who.is_some_and(|who| {
                who.role() == role && generation.is_none_or(|generation| who.generation() == Some(generation))
            })
        };
        let meant: Vec<Key> = keys.into_iter().filter(is_meant).collect();
        for key in &meant {
            self.close(now, *key, reason);
        }
        if role == Role::Management {
            self.end_registration_of(now, endpoint, generation, reason);
            self.moves.close(endpoint, generation, reason);
        }
        meant.len()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many remotes are known, registered or not.
    #[must_use]
    pub const fn associations(&self) -> usize {
        self.associations.len()
    }

    fn mark_ready(&mut self, key: Key) {
        if let Some(association) = self.associations.get_mut(key)
            && !core::mem::replace(&mut association.is_ready, true)
        {
            self.ready.push_back(key);
        }
    }

    /// Nothing is left to send: frees what is not needed and arms the timer.
    fn settle(&mut self, now: Instant, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        if association.is_over(now) {
            return self.remove(key);
        }
        association.is_ready = false;
        self.reserve_ahead(key);
        let Some(association) = self.associations.get_mut(key) else { return };
        association.passing.tidy(|_| false);
        if association.is_found_by_id_alone() {
            self.forget_address(key);
        }
        let Some(association) = self.associations.get_mut(key) else { return };
        if let Some(at) = association.next_timeout() {
            self.timers.arm(&mut association.armed, at, key);
        }
    }
}

impl core::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Endpoint")
            .field("associations", &self.associations.len())
            .field("registrations", &self.registry.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// A code as it is read: `4.06`.
fn code_text(code: Code) -> String {
    format!("{}.{:02}", code.class(), code.detail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_registered_device_with_a_session_and_two_observations_takes_a_kilobyte_at_most() {
        let structures = size_of::<Association>()
            .saturating_add(size_of::<registry::Registration>())
            .saturating_add(size_of::<[observation::Observation; 2]>());
        // The name; the indexes by address, by name and of the directory at half load; the list of associations of the
        // name; the entries of two timers at half load. The object list is shared.
        let index = (18 + 2 + 16) * 2 + (16 + 16) * 2 + (16 + 16) * 2 + 32 + 2 * 24;
        let total = structures.saturating_add(32).saturating_add(index);
        // The feature adds keys of 64 bytes to every session.
        let most = if cfg!(feature = "cbc") { 1024 + 72 } else { 1024 };
        assert!(total <= most, "{total}");
    }
}
