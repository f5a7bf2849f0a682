//! The keys of identities: asked for once for all handshakes that wait for the same one, a bounded number at once.
//!
//! 1. A handshake has named its identity. Its address group has a rate of look-ups; beyond it the handshake is forgotten
//!    without a word, before anybody knows what the identity is.
//!    A request under OSCORE has named its keys: it is dropped likewise, and waits in a bounded number.
//! 2. Whoever waits for the same identity waits with it. Beyond the number that may be asked at once others wait their turn.
//! 3. The answer goes to all who still wait. An unknown or refused identity goes on with a random key, so that its peer
//!    cannot tell.
//!
//! Invariant: what waits belongs to a handshake under way, or is one of a bounded number of requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dtls_psk::{Answer, PendingId};
use lwm2m_coap::{Instant, Rng};

use crate::credentials::{Named, Role};

use super::association::Proving;
use super::counters::Counters;
use super::question::{Asker, Question, QuestionId, Verdict};
use super::session::dtls;
use super::slab::Key;
use super::{Address, Endpoint, Listener, Transmit};

/// An identity of one of the two servers.
type Identity = (Role, Claimed);

/// What a device says that it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Claimed {
    /// A PSK identity.
    Psk(Arc<[u8]>),
    /// An OSCORE context.
    Context(Arc<Named>),
}

/// Who waits for what an identity leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A handshake under way.
    Handshake(Key),
    /// A request that names its keys, where it came to and from.
    Request(Listener, Address, Box<[u8]>),
}

/// The identities that are looked up.
#[derive(Debug)]
pub(crate) struct LookUps {
    /// How many may be asked for at once.
    most: usize,
    asked: HashMap<u64, Identity>,
    wanted: HashMap<Identity, Wanted>,
    /// Those that wait for their turn, and some that nobody waits for any more.
    queue: VecDeque<Identity>,
    /// Requests that wait.
    requests: usize,
    next: u64,
}

#[derive(Debug)]
struct Wanted {
    by: Vec<Waiting>,
    from: Address,
    is_asked: bool,
}

impl LookUps {
    /// At most `most` are asked for at once.
    pub(crate) fn new(most: usize) -> Self {
        let (asked, wanted, queue) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { most, asked, wanted, queue, requests: 0, next: 0 }
    }

    /// Answers whether it is waited for already.
    fn want(&mut self, identity: Identity, by: Waiting, from: Address) -> bool {
        if matches!(by, Waiting::Request(..)) {
            self.requests = self.requests.saturating_add(1);
        }
        if let Some(wanted) = self.wanted.get_mut(&identity) {
            wanted.by.push(by);
            return true;
        }
        if self.queue.len() > self.wanted.len().saturating_mul(2).saturating_add(self.most) {
            let Self { queue, wanted, .. } = self;
            queue.retain(|identity| wanted.get(identity).is_some_and(|wanted| !wanted.is_asked));
        }
        self.queue.push_back(identity.clone());
        self.wanted.insert(identity, Wanted { by: vec![by], from, is_asked: false });
        false
    }

    /// The next one whose turn it is.
    fn ask(&mut self) -> Option<(u64, Identity, Address)> {
        while self.asked.len() < self.most {
            let identity = self.queue.pop_front()?;
            let Some(wanted) = self.wanted.get_mut(&identity).filter(|wanted| !wanted.is_asked) else {
                continue;
            };
            wanted.is_asked = true;
            let id = self.next;
            self.next = id.wrapping_add(1);
            self.asked.insert(id, identity.clone());
            return Some((id, identity, wanted.from));
        }
        None
    }

    /// Whether one more request may wait.
    const fn has_room_for_request(&self) -> bool {
        self.requests < self.most
    }

    /// Who waits for the answer.
    fn answered(&mut self, id: u64) -> Vec<Waiting> {
        let Some(identity) = self.asked.remove(&id) else { return Vec::new() };
        let by = self.wanted.remove(&identity).map(|wanted| wanted.by).unwrap_or_default();
        let requests = by.iter().filter(|by| matches!(by, Waiting::Request(..))).count();
        self.requests = self.requests.saturating_sub(requests);
        by
    }

    /// A handshake waits no longer. What nobody waits for is not asked for; if it is already its answer ends it.
    pub(crate) fn forget(&mut self, role: Role, identity: &[u8], by: Key) {
        let identity = (role, Claimed::Psk(Arc::from(identity)));
        let Some(wanted) = self.wanted.get_mut(&identity) else { return };
        wanted.by.retain(|other| *other != Waiting::Handshake(by));
        if wanted.by.is_empty() && !wanted.is_asked {
            self.wanted.remove(&identity);
        }
    }
}

impl Endpoint {
    /// Asks for the key of an identity that a handshake has named.
    pub(crate) fn look_up(&mut self, now: Instant, key: Key, pending: PendingId, identity: Vec<u8>) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let (role, from) = (association.local.role(), association.address);
        if !self.rates.look_up(now, from) {
            Counters::add(&mut self.counters.look_ups_over_rate);
            return self.remove(key);
        }
        let shared = Arc::from(identity.as_slice());
        association.passing.make().proving =
            Some(Box::new(Proving { identity, look_up: Some(pending), ..Proving::default() }));
        if self.look_ups.want((role, Claimed::Psk(shared)), Waiting::Handshake(key), from) {
            Counters::add(&mut self.counters.look_ups_shared);
        }
        self.ask_for_keys();
    }

    /// Asks for the keys of a request that names them. It waits with at most as many others as may be asked for at once; CoAP
    /// repeats what is dropped.
    pub(crate) fn look_up_context(
        &mut self,
        now: Instant,
        (local, from): (Listener, Address),
        named: Named,
        datagram: &[u8],
    ) {
        // No cookie came back: all of them have the rate of handshakes besides.
        let may = self.rates.look_up(now, from)
            && self.look_ups.has_room_for_request()
            && self.rates.begin(now, from);
        if !may {
            Counters::add(&mut self.counters.look_ups_over_rate);
            return;
        }
        let identity = (local.role(), Claimed::Context(Arc::new(named)));
        if self.look_ups.want(identity, Waiting::Request(local, from, datagram.into()), from) {
            Counters::add(&mut self.counters.look_ups_shared);
        }
        self.ask_for_keys();
    }

    fn ask_for_keys(&mut self) {
        while let Some((id, (role, identity), from)) = self.look_ups.ask() {
            Counters::add(&mut self.counters.look_ups);
            let question = match identity {
                Claimed::Psk(identity) => Question::LookUp { role, identity: identity.to_vec(), from },
                Claimed::Context(named) => Question::LookUpContext { role, named: (*named).clone(), from },
            };
            self.questions.push_back((QuestionId(Asker::LookUp(id)), question));
        }
    }

    /// Goes on with who waited for a key, now that it is known, or that there is none.
    pub(crate) fn looked_up(
        &mut self,
        now: Instant,
        id: u64,
        verdict: &Verdict,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let mut answer = None;
        for waiting in self.look_ups.answered(id) {
            match waiting {
                Waiting::Handshake(key) => {
                    self.take_key(now, key, verdict);
                    self.mark_ready(key);
                }
                Waiting::Request(local, from, datagram) => {
                    let taken = self.take_contexts(now, (local, from), datagram, verdict, rng, out);
                    answer = answer.or(taken);
                }
            }
        }
        self.ask_for_keys();
        answer
    }

    fn take_key(&mut self, now: Instant, key: Key, verdict: &Verdict) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let (local, from) = (association.local, association.address);
        let (Some(session), Some(proving)) = (&mut association.session, association.passing.proving_mut())
        else {
            return;
        };
        let Some(pending) = proving.look_up.take() else { return };
        let provided = match verdict {
            Verdict::Key { key: psk, who } => {
                proving.who = Some(who.clone());
                let sessions = &self.config.sessions;
                let seal = |made: &dtls_psk::Session| proving.seal(now, sessions, made);
                session.provide_with_ticket(dtls(now), pending, Answer::Psk { key: psk }, seal)
            }
            Verdict::Refused { reason } => {
                proving.is_told = true;
                let identity = Some(String::from_utf8_lossy(&proving.identity).into_owned());
                let provided = session.provide(dtls(now), pending, Answer::Unknown);
                self.handshake_refused(now, (local, from), identity, false, reason.clone());
                provided
            }
            _ => session.provide(dtls(now), pending, Answer::Unknown),
        };
        if let Ok(Some(input)) = provided {
            self.session_changed(now, key, &input);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const FROM: [u8; 4] = [192, 0, 2, 1];

    fn key(slot: u32) -> Key {
        Key { slot, generation: NonZeroU32::MIN }
    }

    fn psk(identity: &str) -> Claimed {
        Claimed::Psk(Arc::from(identity.as_bytes()))
    }

    fn handshakes(of: &[u32]) -> Vec<Waiting> {
        of.iter().map(|slot| Waiting::Handshake(key(*slot))).collect()
    }

    fn want(look_ups: &mut LookUps, identity: &str, by: u32) -> bool {
        let from = std::net::SocketAddr::from((FROM, 1)).into();
        look_ups.want((Role::Management, psk(identity)), Waiting::Handshake(key(by)), from)
    }

    fn ask(look_ups: &mut LookUps) -> Option<(u64, String)> {
        let (id, (_, Claimed::Psk(identity)), _) = look_ups.ask()? else { return None };
        Some((id, String::from_utf8_lossy(&identity).into_owned()))
    }

    #[test]
    fn equal_identities_are_asked_for_once_and_all_get_the_answer() {
        let mut look_ups = LookUps::new(10);
        assert!(!want(&mut look_ups, "a", 1));
        assert_eq!(ask(&mut look_ups), Some((0, "a".to_owned())));
        assert!(want(&mut look_ups, "a", 2), "while it is asked for");
        assert!(!look_ups.want(
            (Role::Bootstrap, psk("a")),
            Waiting::Handshake(key(3)),
            std::net::SocketAddr::from((FROM, 1)).into()
        ));
        assert_eq!(ask(&mut look_ups), Some((1, "a".to_owned())), "that of the other server");
        assert_eq!(look_ups.answered(0), handshakes(&[1, 2]));
        assert!(look_ups.answered(0).is_empty());
        assert!(!want(&mut look_ups, "a", 4), "the answer is not kept");
    }

    #[test]
    fn beyond_the_most_at_once_others_wait_their_turn() {
        let mut look_ups = LookUps::new(2);
        for (by, identity) in ["a", "b", "c", "d"].into_iter().enumerate() {
            want(&mut look_ups, identity, u32::try_from(by).unwrap_or(0));
        }
        assert_eq!(
            [ask(&mut look_ups), ask(&mut look_ups)].map(|asked| asked.map(|(_, name)| name)),
            [Some("a".to_owned()), Some("b".to_owned())]
        );
        assert_eq!(ask(&mut look_ups), None);
        // Who waited for c has gone: d is next.
        look_ups.forget(Role::Management, b"c", key(2));
        assert_eq!(look_ups.answered(1), handshakes(&[1]));
        assert_eq!(ask(&mut look_ups), Some((2, "d".to_owned())));
        assert_eq!(ask(&mut look_ups), None);
    }

    #[test]
    fn what_nobody_waits_for_is_not_kept() {
        let mut look_ups = LookUps::new(1);
        want(&mut look_ups, "asked", 0);
        assert!(ask(&mut look_ups).is_some());
        for by in 1..10_000 {
            want(&mut look_ups, &format!("identity-{by}"), by);
            look_ups.forget(Role::Management, format!("identity-{by}").as_bytes(), key(by));
            assert!(look_ups.wanted.len() == 1 && look_ups.queue.len() < 10);
        }
        look_ups.forget(Role::Management, b"asked", key(0));
        assert!(look_ups.answered(0).is_empty());
        assert!(look_ups.wanted.is_empty() && look_ups.asked.is_empty());
    }
}
