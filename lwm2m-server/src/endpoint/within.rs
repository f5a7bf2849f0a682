//! OSCORE inside DTLS (RFC 8613, LwM2M Transport 1.2.1 §5.5): sessions whose credential has a context beside its keys.
//!
//! 1. The context comes with the admission of the session. From then on nothing counts in it that the context does not protect, and all
//!    that is asked of the device is protected.
//! 2. A former session of the same credential gives its context away, with numbers, window and observations, and ends. Where there is none,
//!    or it is in another part of the server, the context goes on behind what storage has, and the device has to prove that its next
//!    request is fresh.
//! 3. A request under other keys is looked up, in a session with a context or without: it is answered 4.00 if they are those of another
//!    device, else 4.01, and nothing else comes of it.
//!
//! Invariants: a context is in one session, the newest of its credential, and in none of another device; it is not found by its kid.

use std::ops::Range;

use lwm2m_coap::protect::{Incoming, Protect, Refused, Unprotectable};
use lwm2m_coap::{Code, Draft, Input, Instant, Message, NoResponse, Rng};

use crate::credentials::{Authenticated, Context};

use super::Endpoint;
use super::association::{Admission, Association, Bound, Who};
use super::counters::Counters;
use super::oscore::{Oscore, named};
use super::question::{Question, Verdict};
use super::slab::Key;
use super::uplink::{Parked, What};

/// Leaves a request under keys that are not known here as it came: its OSCORE option is a critical one that is not understood.
struct Unread;

impl Protect for Unread {
    type Binding = Bound;

    fn protects(&self) -> bool {
        true
    }

    fn unprotect_request<'m>(
        &mut self,
        message: Incoming<'m>,
        _: bool,
    ) -> Result<(Message<'m>, Bound), Refused> {
        Ok((message.message(), None))
    }

    fn unprotect_response<'m>(&mut self, _: &Bound, _: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Err(Refused::Silent)
    }

    fn unprotect_notification<'m>(&mut self, _: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Err(Refused::Silent)
    }

    fn protect_request(&mut self, _: &mut Draft<'_>) -> Result<Bound, Unprotectable> {
        Err(Unprotectable::Superseded)
    }

    fn protect_response(&mut self, _: &Bound, _: bool, _: &mut Draft<'_>) -> Result<(), Unprotectable> {
        Err(Unprotectable::Superseded)
    }
}

impl Association {
    /// Whether a request names other keys than those of its session.
    pub(crate) fn is_foreign(&self, datagram: &[u8]) -> bool {
        let own = self.oscore.as_ref().map(|oscore| oscore.id.kid);
        named(datagram).is_some_and(|named| Some(named.kid) != own)
    }
}

impl Endpoint {
    /// Puts the context that a session was admitted with into it. Answers which one had it so far: that is to be removed.
    pub(crate) fn enter_context(&mut self, key: Key, verdict: &Verdict, rng: &mut Rng<'_>) -> Option<Key> {
        match verdict {
            Verdict::Protected(context) => self.put_context(key, context, rng),
            _ => None,
        }
    }

    /// The same of a context.
    pub(crate) fn put_context(&mut self, key: Key, context: &Context, rng: &mut Rng<'_>) -> Option<Key> {
        let has_it = |other: &Key| {
            let association =
                self.associations.get(*other).filter(|association| association.session.is_some());
            let oscore = association.and_then(|association| association.oscore.as_deref());
            *other != key && oscore.is_some_and(|oscore| oscore.who == context.who)
        };
        let known = self.by_name.get(&context.who.endpoint).map(|keys| &**keys).unwrap_or_default();
        let former = known.iter().copied().find(has_it);
        let taken = former.and_then(|former| self.associations.get_mut(former)?.oscore.take());
        // Else it was somewhere else meanwhile, and what it knows is out of date.
        let taken = taken.filter(|oscore| oscore.reserved == context.saved);
        let new = || Box::new(Oscore::new(context, self.config.observations, rng));
        let mut oscore = taken.unwrap_or_else(new);
        // Both were the former session's.
        (oscore.is_reserving, oscore.held) = (false, None);
        self.associations.get_mut(key)?.oscore = Some(oscore);
        self.reserve_ahead(key);
        former
    }

    /// A context is in one session: of those that had it, here or in other parts, nothing is taken any more.
    pub(crate) fn end_former(&mut self, key: Key, former: Option<Key>) {
        former.into_iter().for_each(|former| self.remove(former));
        let oscore = self.associations.get(key).and_then(|association| association.oscore.as_deref());
        if let Some(who) = oscore.map(|oscore| oscore.who.clone()) {
            self.end_contexts_elsewhere(&who);
        }
    }

    /// The context of a credential is in a session of another part.
    pub(crate) fn end_contexts(&mut self, who: &Authenticated) {
        for key in self.by_name.get(&who.endpoint).cloned().unwrap_or_default() {
            let oscore = self.associations.get(key).and_then(|association| association.oscore.as_deref());
            if oscore.is_some_and(|oscore| oscore.who == *who) {
                self.remove(key);
            }
        }
    }

    /// Numbers of a context were reserved elsewhere: another session has it by now, or another context its sender key. It goes on behind
    /// them, if its session may.
    pub(crate) fn overtaken(&mut self, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let is_asked = association.admission.is_awaited();
        let who = association.who.clone().filter(|_| association.session.is_some());
        match who {
            _ if is_asked => {}
            Some(who) if !association.passing.is_parked() => {
                association.admission = Admission::Overtaken;
                self.ask(key, Question::Admit { who });
            }
            // Under OSCORE alone its keys are looked up again with the next request.
            _ => self.remove(key),
        }
    }

    /// Takes a request of a session under keys that are not those of its credential.
    pub(crate) fn take_foreign(
        &mut self,
        now: Instant,
        key: Key,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Range<usize>> {
        let association = self.associations.get_mut(key)?;
        let (who, from) = (association.who.clone()?, association.address);
        let (named, copy) = (named(datagram)?, Box::from(&*datagram));
        let mut exchange = match association.coap.handle(now, datagram, &mut Unread) {
            Input::Unacceptable { exchange, .. } => exchange,
            input => return self.take_input(now, key, input, rng, out),
        };
        if !self.rates.look_up(now, from) {
            Counters::add(&mut self.counters.look_ups_over_rate);
            return self.respond(now, key, &mut exchange, &Code::UNAUTHORIZED.into(), rng, out);
        }
        Counters::add(&mut self.counters.look_ups);
        let what = What::Foreign { named, datagram: copy };
        self.park(now, key, Parked { exchange, no_response: NoResponse::default(), who, what }, rng, out)
    }

    /// What a request under other keys is answered with, now that they were looked up (LwM2M Transport 1.2.1 §5.5: both names are one).
    pub(crate) fn judge_foreign(
        &mut self,
        now: Instant,
        key: Key,
        who: &Who,
        verdict: &Verdict,
        datagram: &[u8],
        rng: &mut Rng<'_>,
    ) -> Code {
        let contexts = if let Verdict::Contexts(contexts) = verdict { contexts.as_slice() } else { &[] };
        let owner = contexts.iter().find(|context| Oscore::verifies(context, now, datagram, rng));
        let name = who.endpoint();
        let (code, reason) = match owner.map(|context| &context.who.endpoint) {
            Some(owner) if owner != name => {
                (Code::BAD_REQUEST, format!("{name} proved its name and came with the keys of {owner}"))
            }
            Some(_) => {
                (Code::UNAUTHORIZED, format!("{name} came with other keys of its own than its session has"))
            }
            None => (Code::UNAUTHORIZED, format!("{name} came with keys that its session does not have")),
        };
        Counters::add(&mut self.counters.contexts_unknown);
        if let Some(Association { local, address, .. }) = self.associations.get(key) {
            let (place, identity) = ((*local, *address), named(datagram).map(|named| named.to_string()));
            self.handshake_refused(now, place, identity, owner.is_some(), reason);
        }
        code
    }
}
