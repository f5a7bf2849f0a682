//! The DTLS sessions that devices may take up again by an abbreviated handshake (RFC 5246 §7.3): kept here under an id, or by
//! the device in a ticket (RFC 5077).
//!
//! Invariants: the latest session of each endpoint and role, and no more than a fixed number of all; one is kept only when
//! its device was admitted, and goes with the credential that it came from. A ticket names its credential and when it was
//! made; what ends an endpoint's sessions ends the tickets made before. After a restart, when that is forgotten, the question
//! that follows every handshake refuses them. A session of signatures is good for the name that it was made under (RFC 6066 §3).

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dtls_psk::{ClientHello, Resumption, Session, SetUpError, Suite, Ticket, TicketKey};
use lwm2m_coap::{Instant, Rng};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::credentials::{Authenticated, Role};

use super::association::{Association, Proving};
use super::session::{Connection, Memory, dtls};
use super::slab::Key;
use super::work::Presenting;
use super::{Address, Endpoint, Listener};

/// The sessions that may be taken up again. Endpoints that are to take up each other's share them: a clone is the same ones.
///
/// The lock is taken once for each handshake whose cookie came back, never for a record.
#[derive(Clone)]
pub struct Sessions(Arc<Mutex<Kept>>);

struct Kept {
    by_id: HashMap<Id, Box<One>>,
    /// The session of each endpoint and role, by a hash of them. Where two have the same the later one wins.
    by_owner: HashMap<u64, Id>,
    hasher: RandomState,
    /// Oldest first; some of them are gone.
    order: VecDeque<Id>,
    most: usize,
    lifetime: Duration,
    /// What the keys of tickets come from; `None` if there are to be none.
    tickets: Option<Zeroizing<[u8; 32]>>,
    /// The owners of sessions that were ended, or who was refused, and when: no ticket of theirs from before is taken.
    ended: HashMap<u64, Instant>,
    /// The latest time that was told.
    now: Instant,
}

/// What is in a ticket beside the session.
struct Context {
    made: Instant,
    who: Authenticated,
    named: Named,
}

/// The name by which the server chose what it presented, where it presented anything: the first bytes of its SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named(Option<[u8; 4]>);

impl Named {
    /// What a handshake under this suite goes by whose device asks for this name.
    pub(crate) fn of(suite: Suite, name: Option<&[u8]>) -> Self {
        let name = name.filter(|_| suite.is_ecdsa());
        Self(name.and_then(|name| Sha256::digest(name.to_ascii_lowercase()).first_chunk().copied()))
    }

    /// Whether a device that asks for this name means it too. Who asks for none does not say another.
    fn is_meant_by(self, suite: Suite, name: Option<&[u8]>) -> bool {
        name.is_none() || self == Self::of(suite, name)
    }
}

/// Random. A longer one would cost bytes in three messages; whoever guesses one has nothing without the secret.
type Id = [u8; 8];

struct One {
    session: Zeroizing<[u8; EMITTED]>,
    named: Named,
    who: Authenticated,
    until: Instant,
}

/// A session in bytes, with an id of 8.
const EMITTED: usize = Session::LONGEST - dtls_psk::SESSION_ID_MAX + size_of::<Id>();

impl Sessions {
    /// Keeps at most `most` sessions, each for `lifetime`; beyond it the oldest goes. With 0 every handshake is a full one.
    #[must_use]
    pub fn new(most: usize, lifetime: Duration) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            by_id: HashMap::new(),
            by_owner: HashMap::new(),
            hasher: RandomState::new(),
            order: VecDeque::new(),
            most,
            lifetime,
            tickets: None,
            ended: HashMap::new(),
            now: Instant::from_millis(0),
        })))
    }

    /// Gives tickets to devices that want to keep their sessions themselves, under keys that come from `root`: 32 random bytes,
    /// the same after a restart if tickets are to outlive it. Each key seals for as long as a session lives, and opens for as
    /// long again.
    #[must_use]
    pub fn with_tickets(self, root: &[u8; 32]) -> Self {
        self.kept().tickets = Some(Zeroizing::new(*root));
        self
    }

    /// How many are kept, those included whose time is over and that nobody asked for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept().by_id.len()
    }

    /// An id for a new session; `None` if none is to be kept.
    pub(crate) fn new_id(&self, rng: &mut Rng<'_>) -> Option<Id> {
        let kept = self.kept();
        let mut id = Id::default();
        rng(&mut id);
        (kept.most > 0 && !kept.by_id.contains_key(&id)).then_some(id)
    }

    /// The session with this id and whom it proves, if it is one of this role, and of this name where it has any.
    pub(crate) fn find(
        &self,
        now: Instant,
        role: Role,
        id: &[u8],
        name: Option<&[u8]>,
    ) -> Option<(Session, Authenticated)> {
        let mut kept = self.kept();
        let Entry::Occupied(found) = kept.by_id.entry(id.try_into().ok()?) else { return None };
        if found.get().until <= now {
            found.remove();
            return None;
        }
        let One { session, named, who, .. } = &**found.get();
        let session = Session::parse(session.as_slice())?;
        let is_meant = who.role == role && named.is_meant_by(session.suite(), name);
        is_meant.then(|| (session, who.clone()))
    }

    /// Whether devices get tickets.
    pub(crate) fn has_tickets(&self) -> bool {
        let kept = self.kept();
        kept.tickets.is_some() && kept.most > 0
    }

    /// Seals a session of a full handshake that proves `who`; `None` if there are to be no tickets, or the name and the path of
    /// its certificate are too long for one: a name of 152 bytes fits without a certificate, one of 76 with any.
    pub(crate) fn seal(
        &self,
        now: Instant,
        session: &Session,
        who: &Authenticated,
        named: Named,
    ) -> Option<Ticket> {
        let mut kept = self.kept();
        kept.now = kept.now.max(now);
        let context = Context { made: now, who: who.clone(), named };
        kept.key(now, 0)?.seal(session, &context.emit(), seconds(kept.lifetime))
    }

    /// The session in a ticket and whom it proves, as [`Sessions::find`]; and a new ticket for it if its key is not the one
    /// of now any more. The new one is as old as the first.
    pub(crate) fn open(
        &self,
        now: Instant,
        role: Role,
        ticket: &[u8],
        name: Option<&[u8]>,
    ) -> Option<(Session, Authenticated, Option<Ticket>)> {
        let mut kept = self.kept();
        kept.now = kept.now.max(now);
        let current = kept.key(now, 0)?;
        let (opened, is_former) = match current.open(ticket) {
            Some(opened) => (opened, false),
            None => (kept.key(now, 1)?.open(ticket)?, true),
        };
        let (session, context) = opened;
        let context = Context::parse(&context)?;
        let left = kept.lifetime.checked_sub(now.since(context.made)).filter(|left| !left.is_zero())?;
        let ended = [kept.owner(&context.who.endpoint, role), kept.hasher.hash_one(&context.who)]
            .map(|of| kept.ended.get(&of).is_some_and(|ended| context.made <= *ended));
        let is_meant = context.who.role == role && context.named.is_meant_by(session.suite(), name);
        if !is_meant || ended.contains(&true) {
            return None;
        }
        let renewed = is_former.then(|| current.seal(&session, &context.emit(), seconds(left))).flatten();
        Some((session, context.who, renewed))
    }

    /// Keeps the session that an admitted device made, in place of the one before it.
    pub(crate) fn keep(&self, now: Instant, session: &Session, who: Authenticated, named: Named) {
        let mut bytes = Zeroizing::new([0; EMITTED]);
        let (Ok(id), Some(EMITTED)) = (Id::try_from(session.id()), session.emit(bytes.as_mut_slice())) else {
            return;
        };
        let mut kept = self.kept();
        let owner = kept.owner(&who.endpoint, who.role);
        if let Some(former) = kept.by_owner.insert(owner, id) {
            kept.by_id.remove(&former);
        }
        let until = now.saturating_add(kept.lifetime);
        kept.by_id.insert(id, Box::new(One { session: bytes, named, who, until }));
        kept.order.push_back(id);
        kept.make_room();
    }

    /// The session of an endpoint ends; with `generation` only if it came from that credential.
    pub(crate) fn forget(&self, endpoint: &str, role: Role, generation: Option<u32>) {
        let mut kept = self.kept();
        let owner = kept.owner(endpoint, role);
        kept.end_tickets(owner);
        let Some(id) = kept.by_owner.get(&owner).copied() else { return };
        let is_meant = |one: &One| {
            *one.who.endpoint == *endpoint && generation.is_none_or(|known| known == one.who.generation)
        };
        if kept.by_id.get(&id).is_none_or(|one| is_meant(one)) {
            kept.remove(id);
        }
    }

    /// What proved `who` is refused: the session that came from it ends, and no other one of its endpoint, such as that of a renewed
    /// certificate.
    pub(crate) fn refuse(&self, who: &Authenticated) {
        let mut kept = self.kept();
        let refused = kept.hasher.hash_one(who);
        kept.end_tickets(refused);
        let id = kept.by_owner.get(&kept.owner(&who.endpoint, who.role)).copied();
        if let Some(id) = id.filter(|id| kept.by_id.get(id).is_some_and(|one| one.who == *who)) {
            kept.remove(id);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held, and every state of it is a good one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// Answers a ClientHello whose cookie came back: with the session that it names, or with an id for a new one.
    pub(crate) fn begin_session(
        &self,
        now: Instant,
        (local, from): (Listener, Address),
        config: &dtls_psk::Config,
        hello: &ClientHello<'_>,
        rng: &mut Rng<'_>,
    ) -> Result<Association, SetUpError> {
        let (sessions, name) = (&self.config.sessions, hello.server_name());
        // RFC 5077 §3.4: beside a ticket the id names nothing.
        let ticket = hello.session_ticket().filter(|ticket| !ticket.is_empty());
        let opened = ticket.and_then(|ticket| sessions.open(now, local.role(), ticket, name));
        let (known, renewed) = match (ticket, opened) {
            (Some(_), Some((session, who, renewed))) => (Some((session, who)), renewed),
            (Some(_), None) => (None, None),
            (None, _) => (sessions.find(now, local.role(), hello.session_id(), name), None),
        };
        let wants_ticket = hello.session_ticket().is_some() && sessions.has_tickets();
        let id = sessions.new_id(rng);
        let resumption = match (&known, &id) {
            (Some((session, _)), _) if ticket.is_some() => {
                Resumption::AcceptTicket { session, renewed: renewed.as_ref() }
            }
            (Some((session, _)), _) => Resumption::Accept(session),
            (None, _) if wants_ticket => Resumption::OfferTicket,
            (None, Some(id)) => Resumption::Offer(id),
            (None, None) => Resumption::No,
        };
        let memory = Box::new(Memory::default());
        let session = Connection::resuming_server(dtls(now), config, hello, resumption, rng, memory)?;
        let mut association = Association::new(now, local, from, Some(session), rng);
        // Where the handshake becomes a full one after all, the identity takes its place.
        if known.is_some() || hello.suite().is_ecdsa() {
            let presenting = Presenting::of(&self.config.keys, local, hello);
            let (identity, who) = known.map(|(_, who)| (who.endpoint.as_bytes().to_vec(), who)).unzip();
            let identity = identity.unwrap_or_default();
            association.passing.make().proving =
                Some(Box::new(Proving { identity, who, presenting, ..Proving::default() }));
        }
        Ok(association)
    }

    /// What a refused peer was let in by is not to let it in again.
    pub(crate) fn forget_session_of(&self, key: Key) {
        let who = self.associations.get(key).and_then(|association| association.who.as_ref()?.proven());
        if let Some(who) = who {
            self.config.sessions.refuse(who);
        }
    }
}

impl Default for Sessions {
    /// 100,000 sessions, which take 15 MB, for a day each (RFC 5246 §F.1.4).
    fn default() -> Self {
        Self::new(100_000, Duration::from_secs(86_400))
    }
}

impl core::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sessions").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Kept {
    fn owner(&self, endpoint: &str, role: Role) -> u64 {
        self.hasher.hash_one((endpoint, role))
    }

    /// The key that tickets are sealed under, or one of those before it.
    fn key(&self, now: Instant, before: u64) -> Option<TicketKey> {
        let root = self.tickets.as_ref().filter(|_| self.most > 0)?;
        let length = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX).max(1);
        let period = now.as_millis().checked_div(length)?.checked_sub(before)?;
        Some(TicketKey::derive(root, period))
    }

    /// No ticket of this owner, or of who was refused, from before now is taken any more.
    fn end_tickets(&mut self, owner: u64) {
        let Self { ended, now, lifetime, tickets, .. } = self;
        if tickets.is_none() {
            return;
        }
        // Older ones are over by themselves.
        if ended.len() == ended.capacity() {
            ended.retain(|_, at| now.since(*at) < *lifetime);
        }
        ended.insert(owner, *now);
    }

    fn make_room(&mut self) {
        while self.by_id.len() > self.most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        if self.order.len() > self.most.saturating_mul(2) {
            let Self { by_id, order, .. } = self;
            order.retain(|id| by_id.contains_key(id));
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(one) = self.by_id.remove(&id) else { return };
        let owner = self.owner(&one.who.endpoint, one.who.role);
        if let Entry::Occupied(known) = self.by_owner.entry(owner)
            && *known.get() == id
        {
            known.remove();
        }
    }
}

impl Context {
    fn emit(&self) -> Vec<u8> {
        let Authenticated { endpoint, role, generation, validity } = &self.who;
        let mut bytes = self.made.as_millis().to_be_bytes().to_vec();
        let Named(named) = self.named;
        bytes.push(u8::from(*role == Role::Bootstrap) | u8::from(named.is_some()) << 1);
        bytes.extend(named.into_iter().flatten());
        bytes.extend(generation.to_be_bytes());
        let validity = postcard::to_stdvec(validity).unwrap_or_default();
        bytes.push(u8::try_from(validity.len()).unwrap_or(u8::MAX));
        bytes.extend(validity);
        bytes.extend(endpoint.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (made, bytes) = bytes.split_first_chunk()?;
        let (flags, bytes) = bytes.split_first()?;
        let (named, bytes) = match flags & 2 {
            0 => (None, bytes),
            _ => bytes.split_first_chunk().map(|(named, bytes)| (Some(*named), bytes))?,
        };
        let (generation, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first()?;
        let (validity, endpoint) = bytes.split_at_checked(usize::from(*length))?;
        let validity = postcard::from_bytes(validity).ok()?;
        let role = if flags & 1 == 0 { Role::Management } else { Role::Bootstrap };
        let endpoint = core::str::from_utf8(endpoint).ok()?.into();
        let generation = u32::from_be_bytes(*generation);
        let who = Authenticated { endpoint, role, generation, validity };
        Some(Self { made: Instant::from_millis(u64::from_be_bytes(*made)), who, named: Named(named) })
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::credentials::CHAIN_MAX;

    const NOW: Instant = Instant::from_millis(0);

    fn session(id: u64) -> Session {
        session_of([0xc0, 0xa8], id)
    }

    fn session_of(suite: [u8; 2], id: u64) -> Session {
        let id = id.to_be_bytes();
        Session::parse(&[&[2][..], &suite, &[7; 48], &[0, 8], &id].concat()).unwrap()
    }

    fn who(endpoint: &str, role: Role, generation: u32) -> Authenticated {
        Authenticated::new(endpoint.into(), role, generation)
    }

    fn is_known(sessions: &Sessions, role: Role, id: u64) -> bool {
        sessions.find(NOW, role, &id.to_be_bytes(), None).is_some()
    }

    #[test]
    fn a_session_is_found_under_its_id_for_its_role_and_its_time() {
        let sessions = Sessions::new(10, Duration::from_secs(5));
        let device = who("a", Role::Management, 3);
        sessions.keep(NOW, &session(1), device.clone(), Named::default());
        let id = 1_u64.to_be_bytes();
        assert_eq!(sessions.find(NOW, Role::Management, &id, None), Some((session(1), device)));
        assert_eq!(sessions.find(NOW, Role::Bootstrap, &id, None), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[0; 8], None), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[], None), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[1; 32], None), None);
        assert!(sessions.find(Instant::from_millis(4_999), Role::Management, &id, None).is_some());
        assert_eq!(sessions.find(Instant::from_millis(5_000), Role::Management, &id, None), None);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn the_latest_session_of_an_endpoint_and_role_is_kept() {
        let sessions = Sessions::new(10, Duration::from_secs(5));
        sessions.keep(NOW, &session(1), who("a", Role::Management, 1), Named::default());
        sessions.keep(NOW, &session(2), who("a", Role::Bootstrap, 1), Named::default());
        sessions.keep(NOW, &session(3), who("a", Role::Management, 2), Named::default());
        assert!(!is_known(&sessions, Role::Management, 1));
        assert!(is_known(&sessions, Role::Bootstrap, 2) && is_known(&sessions, Role::Management, 3));
    }

    #[test]
    fn beyond_the_most_the_oldest_goes() {
        let sessions = Sessions::new(3, Duration::from_secs(5));
        for number in 0..1000 {
            sessions.keep(
                NOW,
                &session(number),
                who(&format!("{}", number % 7), Role::Management, 1),
                Named::default(),
            );
        }
        assert_eq!(sessions.count(), 3);
        assert!((997..1000).all(|number| is_known(&sessions, Role::Management, number)));
        let kept = sessions.kept();
        assert!(kept.by_owner.len() == 3 && kept.order.len() <= 6);
    }

    #[test]
    fn a_session_goes_with_its_credential_and_no_other() {
        let sessions = Sessions::default();
        for (endpoint, role, generation, goes) in [
            ("a", Role::Management, None, true),
            ("a", Role::Management, Some(2), true),
            ("a", Role::Management, Some(1), false),
            ("a", Role::Bootstrap, None, false),
            ("b", Role::Management, None, false),
        ] {
            sessions.keep(NOW, &session(1), who("a", Role::Management, 2), Named::default());
            sessions.forget(endpoint, role, generation);
            assert_eq!(is_known(&sessions, Role::Management, 1), !goes);
        }
    }

    fn ticketing() -> Sessions {
        Sessions::new(10, Duration::from_secs(100)).with_tickets(&[7; 32])
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds.saturating_mul(1000))
    }

    fn is_open(sessions: &Sessions, seconds: u64, ticket: &Ticket) -> bool {
        sessions.open(at(seconds), Role::Management, ticket.bytes(), None).is_some()
    }

    #[test]
    fn a_ticket_opens_for_its_role_and_its_time_also_after_a_restart() {
        let device = who("a", Role::Management, 3);
        let made = session(1);
        let ticket = ticketing().seal(at(150), &made, &device, Named::default()).unwrap();
        let sessions = ticketing();
        let (opened, known, renewed) =
            sessions.open(at(199), Role::Management, ticket.bytes(), None).unwrap();
        // It has no id.
        assert!(opened.id().is_empty() && opened.suite() == made.suite() && known == device);
        assert_eq!(renewed, None, "its key is that of now");
        assert!(sessions.open(at(199), Role::Bootstrap, ticket.bytes(), None).is_none());
        assert!(is_open(&sessions, 249, &ticket) && !is_open(&sessions, 250, &ticket));
        let others = Sessions::new(10, Duration::from_secs(100)).with_tickets(&[8; 32]);
        assert!(!is_open(&others, 199, &ticket), "of another root");
        for without in [
            Sessions::new(10, Duration::from_secs(100)),
            Sessions::new(0, Duration::MAX).with_tickets(&[7; 32]),
        ] {
            assert!(
                !without.has_tickets() && without.seal(at(150), &made, &device, Named::default()).is_none()
            );
        }
    }

    #[test]
    fn under_the_key_before_a_ticket_still_opens_and_is_renewed_without_getting_younger() {
        let sessions = ticketing();
        let ticket =
            sessions.seal(at(150), &session(1), &who("a", Role::Management, 3), Named::default()).unwrap();
        let (.., renewed) = sessions.open(at(201), Role::Management, ticket.bytes(), None).unwrap();
        let renewed = renewed.unwrap();
        assert_ne!(renewed, ticket);
        assert!(sessions.open(at(202), Role::Management, renewed.bytes(), None).unwrap().2.is_none());
        assert!(is_open(&sessions, 249, &renewed) && !is_open(&sessions, 250, &renewed));
    }

    #[test]
    fn what_ends_sessions_ends_the_tickets_from_before() {
        let sessions = ticketing();
        let ticket = |seconds, endpoint: &str, role| {
            sessions.seal(at(seconds), &session(1), &who(endpoint, role, 3), Named::default()).unwrap()
        };
        let (before, other) = (ticket(5, "a", Role::Management), ticket(5, "b", Role::Management));
        sessions.forget("a", Role::Bootstrap, None);
        assert!(is_open(&sessions, 6, &before));
        sessions.forget("a", Role::Management, Some(3));
        assert!(!is_open(&sessions, 7, &before) && is_open(&sessions, 7, &other));
        assert!(is_open(&sessions, 8, &ticket(8, "a", Role::Management)));
        // What is forgotten is not needed any more.
        for number in 0..10_000_u64 {
            assert!(!is_open(&sessions, number.saturating_add(9), &before));
            sessions.forget(&format!("{number}"), Role::Management, None);
        }
        assert!(sessions.kept().ended.len() < 500);
    }

    /// Trusted by a path of so many certificates, all numbers as long as they can be.
    fn certified(endpoint: &str, certificates: usize, serial: u8) -> Authenticated {
        let mut emitted = [&[0xff; 9][..], &[1, 1]].concat();
        let mark = |first: u8| core::iter::once(first | 0x80).chain([0xff; 8]).chain([1]);
        emitted.extend(mark(0));
        emitted.push(u8::try_from(certificates).unwrap());
        (0..certificates).for_each(|_| emitted.extend(mark(serial)));
        let validity = Some(Arc::new(postcard::from_bytes(&emitted).unwrap()));
        Authenticated { validity, ..who(endpoint, Role::Management, 3) }
    }

    #[test]
    fn what_is_refused_ends_its_own_session_and_not_that_of_a_renewed_certificate() {
        let sessions = ticketing();
        let (former, renewed) = (certified("a", 2, 1), certified("a", 2, 2));
        for (kept, goes) in [(&former, true), (&renewed, false)] {
            sessions.keep(NOW, &session(1), kept.clone(), Named::default());
            sessions.refuse(&former);
            assert_eq!(is_known(&sessions, Role::Management, 1), !goes);
        }
        let [before, other] =
            [&former, &renewed].map(|who| sessions.seal(at(5), &session(1), who, Named::default()).unwrap());
        sessions.refuse(&former);
        assert!(!is_open(&sessions, 6, &before) && is_open(&sessions, 6, &other));
        sessions.forget("a", Role::Management, Some(3));
        assert!(!is_open(&sessions, 6, &other), "the credential ends both");
    }

    #[test]
    fn a_ticket_has_room_for_long_names_and_whoever_has_a_longer_one_is_remembered() {
        let sessions = ticketing();
        let name = "n".repeat(255);
        let named = Named::of(Suite::EcdheEcdsaAes128Ccm8, Some(b"lwm2m.example"));
        for (longest, certificates, named) in [
            (152, None, Named::default()),
            (120, Some(1), Named::default()),
            (80, Some(CHAIN_MAX + 1), Named::default()),
            (76, Some(CHAIN_MAX + 1), named),
        ] {
            let is_sealed = |length: usize| {
                let who = match certificates {
                    Some(certificates) => certified(&name[..length], certificates, 1),
                    None => who(&name[..length], Role::Management, 3),
                };
                let mut proving = Proving { who: Some(who), ..Proving::default() };
                proving.presenting.named = named;
                let is_sealed = proving.seal(at(5), &sessions, &session(1)).is_some();
                assert_eq!(proving.is_too_long_for_a_ticket, !is_sealed);
                is_sealed
            };
            assert_eq!([longest, longest + 1].map(is_sealed), [true, false], "{certificates:?}");
        }
    }

    #[test]
    fn a_session_of_signatures_is_good_for_the_name_that_it_was_made_under() {
        let (sessions, device) = (ticketing(), who("a", Role::Management, 1));
        let name = |name: &'static str| Some(name.as_bytes());
        for (suite, goes_by_names) in [([0xc0, 0xae], true), ([0xc0, 0xa8], false)] {
            let made = session_of(suite, 1);
            for made_under in [None, name("a.example")] {
                let named = Named::of(made.suite(), made_under);
                sessions.keep(NOW, &made, device.clone(), named);
                let ticket = sessions.seal(NOW, &made, &device, named).unwrap();
                for asked in [None, name("a.example"), name("A.Example"), name("b.example")] {
                    let is_same = asked.map(<[u8]>::to_ascii_lowercase).as_deref() == made_under;
                    let is_good = is_same || asked.is_none() || !goes_by_names;
                    let found = sessions.find(NOW, Role::Management, made.id(), asked);
                    assert_eq!(found.is_some(), is_good, "{made_under:?}, {asked:?}");
                    let opened = sessions.open(NOW, Role::Management, ticket.bytes(), asked);
                    assert_eq!(opened.is_some(), is_good, "{made_under:?}, {asked:?}");
                }
            }
        }
    }

    #[test]
    fn without_room_no_id_is_given() {
        let rng = &mut |bytes: &mut [u8]| bytes.fill(1);
        assert_eq!(Sessions::new(0, Duration::MAX).new_id(rng), None);
        let sessions = Sessions::default();
        let id = sessions.new_id(rng).unwrap();
        sessions.keep(NOW, &session(u64::from_be_bytes(id)), who("a", Role::Management, 1), Named::default());
        assert_eq!(sessions.new_id(rng), None, "and none that is in use");
    }
}
