//! The DTLS sessions that devices may take up again by an abbreviated handshake (RFC 5246 §7.3).
//!
//! Invariants: the latest session of each endpoint and role, and no more than a fixed number of all; one is kept only when
//! its device was admitted, and goes with the credential that it came from.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dtls_psk::{ClientHello, Handshake, Resumption, Session, SetUpError};
use lwm2m_coap::{Instant, Rng};
use zeroize::Zeroizing;

use crate::credentials::{Authenticated, Role};

use super::association::{Association, Proving};
use super::session::{Connection, dtls};
use super::slab::Key;
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
}

/// Random. A longer one would cost bytes in three messages; whoever guesses one has nothing without the secret.
type Id = [u8; 8];

struct One {
    session: Zeroizing<[u8; EMITTED]>,
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
        })))
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

    /// The session with this id and whom it proves, if it is one of this role.
    pub(crate) fn find(&self, now: Instant, role: Role, id: &[u8]) -> Option<(Session, Authenticated)> {
        let mut kept = self.kept();
        let Entry::Occupied(found) = kept.by_id.entry(id.try_into().ok()?) else { return None };
        if found.get().until <= now {
            found.remove();
            return None;
        }
        let One { session, who, .. } = &**found.get();
        (who.role == role).then(|| Some((Session::parse(session.as_slice())?, who.clone())))?
    }

    /// Keeps the session that an admitted device made, in place of the one before it.
    pub(crate) fn keep(&self, now: Instant, session: &Session, who: Authenticated) {
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
        kept.by_id.insert(id, Box::new(One { session: bytes, who, until }));
        kept.order.push_back(id);
        kept.make_room();
    }

    /// The session of an endpoint ends; with `generation` only if it came from that credential.
    pub(crate) fn forget(&self, endpoint: &str, role: Role, generation: Option<u32>) {
        let mut kept = self.kept();
        let owner = kept.owner(endpoint, role);
        let Some(id) = kept.by_owner.get(&owner).copied() else { return };
        let is_meant = |one: &One| {
            *one.who.endpoint == *endpoint && generation.is_none_or(|known| known == one.who.generation)
        };
        if kept.by_id.get(&id).is_none_or(|one| is_meant(one)) {
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
        let known = self.config.sessions.find(now, local.role(), hello.session_id());
        let id = self.config.sessions.new_id(rng);
        let resumption = match (&known, &id) {
            (Some((session, _)), _) => Resumption::Accept(session),
            (None, Some(id)) => Resumption::Offer(id),
            (None, None) => Resumption::No,
        };
        let memory = Box::new(Handshake::new());
        let session = Connection::resuming_server(dtls(now), config, hello, resumption, rng, memory)?;
        let mut association = Association::new(now, local, from, Some(session), rng);
        // Where the handshake becomes a full one after all, the identity takes its place.
        association.proving = known.map(|(_, who)| {
            Box::new(Proving { identity: who.endpoint.as_bytes().to_vec(), look_up: None, who: Some(who) })
        });
        Ok(association)
    }

    /// What a refused peer was let in by is not to let it in again.
    pub(crate) fn forget_session_of(&self, key: Key) {
        let who = self.associations.get(key).and_then(|association| association.who.as_ref()?.proven());
        if let Some(who) = who {
            self.config.sessions.forget(&who.endpoint, who.role, Some(who.generation));
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(0);

    fn session(id: u64) -> Session {
        let id = id.to_be_bytes();
        Session::parse(&[&[1, 0xc0, 0xa8][..], &[7; 48], &[8], &id].concat()).unwrap()
    }

    fn who(endpoint: &str, role: Role, generation: u32) -> Authenticated {
        Authenticated { endpoint: endpoint.into(), role, generation }
    }

    fn is_known(sessions: &Sessions, role: Role, id: u64) -> bool {
        sessions.find(NOW, role, &id.to_be_bytes()).is_some()
    }

    #[test]
    fn a_session_is_found_under_its_id_for_its_role_and_its_time() {
        let sessions = Sessions::new(10, Duration::from_secs(5));
        let device = who("a", Role::Management, 3);
        sessions.keep(NOW, &session(1), device.clone());
        let id = 1_u64.to_be_bytes();
        assert_eq!(sessions.find(NOW, Role::Management, &id), Some((session(1), device)));
        assert_eq!(sessions.find(NOW, Role::Bootstrap, &id), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[0; 8]), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[]), None);
        assert_eq!(sessions.find(NOW, Role::Management, &[1; 32]), None);
        assert!(sessions.find(Instant::from_millis(4_999), Role::Management, &id).is_some());
        assert_eq!(sessions.find(Instant::from_millis(5_000), Role::Management, &id), None);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn the_latest_session_of_an_endpoint_and_role_is_kept() {
        let sessions = Sessions::new(10, Duration::from_secs(5));
        sessions.keep(NOW, &session(1), who("a", Role::Management, 1));
        sessions.keep(NOW, &session(2), who("a", Role::Bootstrap, 1));
        sessions.keep(NOW, &session(3), who("a", Role::Management, 2));
        assert!(!is_known(&sessions, Role::Management, 1));
        assert!(is_known(&sessions, Role::Bootstrap, 2) && is_known(&sessions, Role::Management, 3));
    }

    #[test]
    fn beyond_the_most_the_oldest_goes() {
        let sessions = Sessions::new(3, Duration::from_secs(5));
        for number in 0..1000 {
            sessions.keep(NOW, &session(number), who(&format!("{}", number % 7), Role::Management, 1));
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
            sessions.keep(NOW, &session(1), who("a", Role::Management, 2));
            sessions.forget(endpoint, role, generation);
            assert_eq!(is_known(&sessions, Role::Management, 1), !goes);
        }
    }

    #[test]
    fn without_room_no_id_is_given() {
        let rng = &mut |bytes: &mut [u8]| bytes.fill(1);
        assert_eq!(Sessions::new(0, Duration::MAX).new_id(rng), None);
        let sessions = Sessions::default();
        let id = sessions.new_id(rng).unwrap();
        sessions.keep(NOW, &session(u64::from_be_bytes(id)), who("a", Role::Management, 1));
        assert_eq!(sessions.new_id(rng), None, "and none that is in use");
    }
}
