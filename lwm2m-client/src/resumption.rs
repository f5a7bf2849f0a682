//! DTLS sessions that outlive their association: after a restart or a loss the handshake is an abbreviated one.
//!
//! 1. A full handshake made a session, and the registration over it succeeded: the session is stored, once for each full
//!    handshake.
//! 2. The next handshake with this server loads it beside the credential and offers it.
//! 3. The server took it up: our last flight stays ready until the server's data shows that it has it.
//! 4. It did not, or nothing came of it: the next handshake is a full one.
//!
//! RFC 5246 §7.3. Invariant: a session belongs to one instance of `/0`, ends when a server writes the credential of that
//! instance, and is offered to nobody but the server that it was made with. Every connection of it has new keys, so that it
//! may be used again after a power loss.

use dtls_psk::Session as Kept;
use lwm2m_coap::Rng;

use crate::client::Client;
use crate::event::Role;
use crate::persist::Key;
use crate::registration::State;
use crate::session::{Link, Place, Stage};
use crate::storage::Job;

/// What is known of the session with one server.
#[derive(Default)]
pub(crate) struct Resumption {
    /// It was offered and led to no registration since, or belongs to accounts that did not work.
    pub(crate) is_doubted: bool,
    /// It was made and is to be stored.
    made: Option<Kept>,
}

/// How far the storing of a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    Stage,
    Commit,
    Confirm,
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Whether the next handshake with this server loads a session to offer.
    pub(crate) fn is_session_wanted(&self, slot: usize) -> bool {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        session
            .is_some_and(|session| matches!(session.role, Role::Server(_)) && !session.resumption.is_doubted)
    }

    /// A handshake came to its end: takes what a full one made. An abbreviated one goes on in its place, with our last flight;
    /// returns whether it does not.
    pub(crate) fn take_session(&mut self, slot: usize, full: bool, rng: &mut Rng<'_>) -> bool {
        if full {
            let made = self.running(slot, |connection| connection.take_session()).flatten();
            if let Some(session) = self.session_mut(slot) {
                session.resumption = Resumption { is_doubted: false, made };
            }
        } else if let Some(session) = self.session_mut(slot) {
            session.open(Link::Resumed, rng);
        }
        full
    }

    /// The place of the handshake is free once the server has shown that it has our last flight.
    pub(crate) fn release_resumed(&mut self, slot: usize) {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        if !session.is_some_and(|session| matches!(session.link, Link::Resumed)) {
            return;
        }
        let is_free = |place: &mut Place| {
            let Stage::Running(Some(connection)) = &place.stage else { return false };
            place.slot == slot && !place.needs_memory() && !connection.is_closed()
        };
        let connection = self.handshake.take_if(is_free).and_then(Place::finish);
        if let (Some(connection), Some(session)) = (connection, self.session_mut(slot)) {
            session.link = Link::Secured(connection);
        }
    }

    /// Stores what a full handshake made, once the accounts have proven themselves and nothing else is going on.
    pub(crate) fn keep_sessions(&mut self) {
        if self.storage.job != Job::Idle || self.is_unproven || self.bootstrap.is_under_way() {
            return;
        }
        let is_due = |session: &Option<crate::session::Session<O>>| {
            session.as_ref().is_some_and(|session| {
                session.resumption.made.is_some() && session.registration.state == State::Registered
            })
        };
        if let Some(slot) = self.sessions.iter().position(is_due) {
            self.storage.job = Job::Keep { slot, step: Keeping::Stage };
            self.is_due = true;
        }
    }

    /// Writes the session of this slot into the body buffer.
    pub(crate) fn emit_session(&mut self, slot: usize) -> Option<(Key, usize)> {
        self.free_body();
        self.body.resize_default(B).ok()?;
        let session = self.sessions.get(slot)?.as_ref()?;
        let length = session.resumption.made.as_ref()?.emit(&mut self.body)?;
        Some((Key::Session(session.security), length))
    }

    /// A step of the storing is done, or failed: then the next full handshake tries again.
    pub(crate) fn session_kept(&mut self, slot: usize, step: Keeping, is_stored: bool) {
        if step == Keeping::Stage {
            self.free_body();
        }
        self.storage.job = match step {
            Keeping::Stage if is_stored => Job::Keep { slot, step: Keeping::Commit },
            Keeping::Commit if is_stored => Job::Keep { slot, step: Keeping::Confirm },
            _ => Job::Idle,
        };
        if self.storage.job == Job::Idle
            && let Some(session) = self.session_mut(slot)
        {
            session.resumption.made = None;
        }
    }
}
