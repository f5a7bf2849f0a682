//! The OSCORE contexts of devices, with what storage has of them: found by what a request names, or by the credential whose sessions
//! have one inside.
//!
//! Invariant: the standing of a credential is looked at as for a PSK identity.

use std::sync::Arc;

use super::facade::Credentials;
use super::kept::Kept;
use super::oscore::{Named, Rederivation};
use super::subject::Subject;
use super::{Authenticated, Context, Refusal, Role};
use crate::store::{Reservation, StoreError};

/// Contexts that are tried for one request.
const CANDIDATES: usize = 4;

impl Credentials {
    /// Finds the OSCORE contexts that a request may be protected with: the one that it names, or, where the kid alone is known of
    /// one, those with that kid, 4 at most.
    ///
    /// # Errors
    /// Why there is none.
    pub fn look_up_context(&self, role: Role, named: &Named) -> Result<Vec<Context>, Refusal> {
        for own in named.context_ids().into_iter().flatten().map(Subject::Oscore) {
            if self.owner(role, &own).is_some() {
                return self.context(role, &own).map(|context| vec![context]);
            }
        }
        // RFC 8613 §5.1: a kid context may be left out; Appendix B.2: it may be a random number, wrapped.
        let mut refusal = Refusal::UnknownIdentity;
        let mut found = Vec::new();
        for id in self.contexts_of(role, &named.kid) {
            match self.context(role, &Subject::Oscore(id)) {
                Ok(context)
                    if named.kid_context.is_some() && context.key.rederivation() == Rederivation::Never => {}
                Ok(context) => found.push(context),
                Err(why) => refusal = why,
            }
        }
        found.truncate(CANDIDATES);
        if found.is_empty() { Err(refusal) } else { Ok(found) }
    }

    /// The OSCORE context that the sessions of this credential have inside, if it has one.
    ///
    /// # Errors
    /// When it cannot be read: then no session may go on.
    pub fn context_within(&self, who: &Authenticated) -> Result<Option<Context>, Refusal> {
        let device = self.device(&who.endpoint).ok_or(Refusal::UnknownEndpoint)?;
        let credential = device.account(who.role).and_then(|account| account.credential(who.generation));
        let has_one = credential.is_some_and(|credential| credential.within.is_some());
        let who = Authenticated::new(Arc::clone(&who.endpoint), who.role, who.generation);
        has_one.then(|| self.context_of(who)).transpose()
    }

    /// Reserves sequence numbers of OSCORE contexts, durably, before it returns. Says which were reserved: others were overtaken by
    /// a context with the same sender key.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn reserve(&self, reservations: &[Reservation]) -> Result<Vec<bool>, StoreError> {
        self.store.reserve(reservations)
    }

    fn context(&self, role: Role, subject: &Subject) -> Result<Context, Refusal> {
        let (endpoint, generation) = self.owner(role, subject).ok_or(Refusal::UnknownIdentity)?;
        self.device(&endpoint).ok_or(Refusal::UnknownEndpoint)?.accepts(role, generation)?;
        self.context_of(Authenticated::new(endpoint, role, generation))
    }

    /// The OSCORE context that an accepted credential has.
    fn context_of(&self, who: Authenticated) -> Result<Context, Refusal> {
        let (key, is_within) = match self.store.secret(&who.endpoint, who.role, who.generation) {
            Ok(Some(Kept::Oscore(key))) => (key, false),
            Ok(Some(Kept::Within(_, key))) => (key, true),
            // Retired between the two look-ups.
            Ok(None) => return Err(Refusal::Retired),
            Ok(Some(Kept::Psk(_) | Kept::Device(_))) | Err(_) => return Err(Refusal::Store),
        };
        let saved = self.store.reserved(&key.parameters().fingerprint()).map_err(|_| Refusal::Store)?;
        Ok(Context { key, who, saved, is_within })
    }
}
