//! The clockwork: accounts become sessions, sessions connect, fail, try again, and new accounts prove themselves.
//!
//! 1. The table was read: every server gets a session, in its order (LwM2M Core 1.1.1 §6.2.1.1).
//! 2. No server, or one that failed for good: client-initiated bootstrap after the hold-off (§6.1.3).
//! 3. After a bootstrap: all new accounts must register, then the table is confirmed; one that fails for good brings the
//!    last working table back.
//!
//! Invariant: while the table is being read or a bootstrap is under way no session starts to connect.

use lwm2m_coap::{Event as PeerEvent, Failure, Instant, Rng, Sent};

use lwm2m_objects::Object;

use crate::account::ShortServerId;
use crate::bootstrap::{Phase, SILENCE};
use crate::client::Client;
use crate::core_objects::{Executed, SecurityObject};
use crate::error::{Reason, StoreError};
use crate::event::{Notice, Role};
use crate::registration::{RetryPolicy, State, Then, Turn, is_turn};
use crate::session::{Link, Request, Session};
use crate::storage::{AfterLoad, Job};

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Instant, rng: &mut Rng<'_>) {
        self.is_due = false;
        #[cfg(feature = "offline")]
        if self.offline.is_offline {
            self.offline.name_run(rng);
            return;
        }
        if !core::mem::replace(&mut self.is_started, true) {
            self.load(AfterLoad::Restart);
        }
        if core::mem::take(&mut self.is_restart_due) {
            self.restart(now);
        }
        if core::mem::take(&mut self.is_resume_due) {
            self.resume(now);
        }
        for slot in 0..S {
            self.advance_session(now, slot, rng);
        }
        self.advance_bootstrap(now, rng);
        self.release_handshake();
        self.settle(now);
        self.purge(now);
        self.save_changes();
        #[cfg(feature = "resumption")]
        self.keep_sessions();
        self.assembly.expire(now);
    }

    /// The table was read anew: every server is approached from the beginning.
    fn restart(&mut self, now: Instant) {
        for slot in 0..S {
            if self.session_mut(slot).is_some_and(|session| session.lingers_until.is_none()) {
                self.drop_session(slot);
            }
        }
        let accounts = &self.core.accounts;
        self.reporting.forget_servers(|id| accounts.server_of(id).is_some());
        if !self.is_stopping && !self.open_sessions(now) {
            self.want_bootstrap(now);
        }
    }

    /// Gives every server of the table a session; whether there is any.
    fn open_sessions(&mut self, now: Instant) -> bool {
        for number in 0..self.core.accounts.securities.len() {
            let Some(security) = self.core.accounts.securities.get(number) else { continue };
            let (Some(id), false) = (security.short_server_id, security.is_bootstrap) else { continue };
            let Some(server) = self.core.accounts.server_of(id) else { continue };
            let (instance, delay) = (security.instance, server.initial_delay());
            if self.sessions.iter().flatten().any(|session| session.role == Role::Server(id)) {
                continue;
            }
            let Some(slot) = self.free_slot() else { continue };
            #[cfg(feature = "resumption")]
            let is_doubted = self.is_session_doubted;
            let Some(session) = self.begin_session(slot, Role::Server(id), instance) else { continue };
            session.registration.start(now, delay);
            #[cfg(feature = "resumption")]
            {
                session.resumption.is_doubted = is_doubted;
            }
            self.is_due = true;
        }
        !self.core.accounts.servers.is_empty()
    }

    /// Gives a server the session in a slot. Never inlined: it is made on the stack, where others do not have to carry it.
    #[inline(never)]
    fn begin_session(&mut self, slot: usize, role: Role, security: u16) -> Option<&mut Session<O>> {
        Some(self.sessions.get_mut(slot)?.insert(Session::new(role, security)))
    }

    /// A bootstrap failed and nothing has changed: servers that had failed before get another chance.
    fn resume(&mut self, now: Instant) {
        if self.is_stopping {
            return;
        }
        for session in self.sessions.iter_mut().flatten() {
            if matches!(session.registration.state, State::Failed { .. }) {
                session.registration.start(now, 0);
                self.is_due = true;
            }
        }
        if !self.open_sessions(now) {
            self.want_bootstrap(now);
        }
    }

    /// Wants a client-initiated bootstrap after the hold-off of the account.
    fn want_bootstrap(&mut self, now: Instant) {
        match self.core.accounts.bootstrap() {
            Some(account) => {
                self.bootstrap.want(now, account.hold_off);
            }
            None => self.notice(Notice::NoAccounts),
        }
    }

    fn free_slot(&mut self) -> Option<usize> {
        let free = self.sessions.iter().position(Option::is_none);
        free.or_else(|| {
            let lingering = self
                .sessions
                .iter()
                .position(|session| session.as_ref().is_some_and(|s| s.lingers_until.is_some()));
            self.drop_session(lingering?);
            lingering
        })
    }

    /// The owner is told that a socket is not used any more.
    pub(crate) fn close_socket(&mut self, slot: usize) {
        self.closed |= 1_u32.checked_shl(u32::try_from(slot).unwrap_or(u32::MAX)).unwrap_or_default();
    }

    pub(crate) fn drop_session(&mut self, slot: usize) {
        if let Some(session) = self.session_mut(slot) {
            if !matches!(session.link, Link::Closed) {
                self.close_socket(slot);
            }
            // Where it lies: it is too large to be moved about.
            if let Some(place) = self.sessions.get_mut(slot) {
                *place = None;
            }
            self.reporting.forget_session(slot);
            self.assembly.forget(slot);
        }
    }

    fn advance_session(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        self.advance_link(now, slot, rng);
        #[cfg(feature = "oscore")]
        self.advance_keys(now, slot, rng);
        self.collect_failures(now, slot, rng);
        let is_free = self.is_table_ready() && !self.bootstrap.is_under_way();
        let is_turn = self.is_turn_of(slot);
        #[cfg(feature = "oscore")]
        let are_keys_worn = self.are_keys_worn(slot);
        let Some(session) = self.session_mut(slot) else { return };
        if session.lingers_until.is_some_and(|until| until <= now) {
            session.lingers_until = None;
            if !session.close() {
                self.drop_session(slot);
            }
            return;
        }
        match session.registration.state {
            State::Delayed { until } if until <= now && is_free && is_turn => {
                session.registration.state = State::Connecting;
                session.connect();
                self.echo = None;
            }
            State::Registered if session.registration.update_at().is_some_and(|at| at <= now) => {
                #[cfg(feature = "oscore")]
                if are_keys_worn {
                    return self.reconnect(now, slot, Reason::WornKeys);
                }
                session.registration.due.refresh = true;
            }
            State::PutOff { until } if until <= now => session.registration.want_update(),
            State::Disabled { until } if until <= now => session.registration.start(now, 0),
            State::Failed { at } => {
                if self.next_life(slot, at).is_some_and(|at| at <= now)
                    && let Some(session) = self.session_mut(slot)
                {
                    session.registration.start(now, 0);
                }
            }
            _ => {}
        }
    }

    /// When a registration that failed for good at `at` begins anew: after the sequence delay, where no bootstrap follows.
    fn next_life(&self, slot: usize, at: Instant) -> Option<Instant> {
        let Some(Role::Server(id)) = self.role_of(slot) else { return None };
        let delay = self.policy(slot).sequence_delay;
        if self.is_unproven || self.is_bootstrap_wanted_by(id) || delay == u32::MAX {
            return None;
        }
        Some(at.after_secs(delay))
    }

    /// Whether a registration that failed for good leads to a bootstrap: `/1/x/16`, and a server to ask.
    fn is_bootstrap_wanted_by(&self, id: ShortServerId) -> bool {
        let accounts = &self.core.accounts;
        let is_allowed = accounts.server_of(id).is_none_or(|server| server.is_bootstrap_on_failure());
        is_allowed && accounts.bootstrap().is_some()
    }

    /// The way to a server is open.
    pub(crate) fn connected(&mut self, slot: usize) {
        #[cfg(feature = "oscore")]
        if self.awaits_keys(slot) {
            return;
        }
        self.reachable(slot);
    }

    /// Messages to a server can go.
    pub(crate) fn reachable(&mut self, slot: usize) {
        let Some(session) = self.session_mut(slot) else { return };
        match session.role {
            Role::Server(_) => session.registration.state = State::Registering,
            Role::Bootstrap => self.bootstrap.phase = Phase::Requesting,
        }
    }

    fn collect_failures(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        loop {
            let Some(session) = self.session_mut(slot) else { return };
            let Some(event) = session.peer.as_mut().and_then(|peer| peer.poll_event(now)) else { return };
            let PeerEvent::Failed { sent, failure } = event else { continue };
            match sent {
                Sent::Request(id) if session.request.is_some_and(|request| request.id == id) => {
                    let reason =
                        if failure == Failure::TimedOut { Reason::Timeout } else { Reason::AssociationLost };
                    self.request_failed(now, slot, reason, rng);
                }
                // RFC 7641 §4.5: an observer that does not acknowledge is removed. Core 1.1.1 §6.4: who lost observations
                // registers again, so that the server observes anew.
                Sent::Notification(_) if session.registration.is_alive() => {
                    return self.reconnect(now, slot, Reason::Timeout);
                }
                Sent::Notification(token) => self.reporting.cancel(slot, token),
                _ => {}
            }
        }
    }

    /// A request of ours got no answer, or was reset.
    pub(crate) fn request_failed(&mut self, now: Instant, slot: usize, reason: Reason, rng: &mut Rng<'_>) {
        let Some(session) = self.session_mut(slot) else { return };
        let Some(request) = session.request.take() else { return };
        #[cfg(feature = "oscore")]
        let Some(reason) = self.try_other_keys(slot, request.what, reason) else { return };
        match request.what {
            Request::Deregister => self.deregistered(now, slot),
            // The server may have forgotten us, or the way to it is broken: a new handshake, then Register.
            Request::Update { .. } => self.reconnect(now, slot, reason),
            #[cfg(feature = "send")]
            Request::Send => self.reconnect(now, slot, reason),
            Request::Register { .. } | Request::Bootstrap => self.attempt_failed(now, slot, reason, rng),
        }
    }

    /// The registration is approached from the beginning, at once.
    pub(crate) fn reconnect(&mut self, now: Instant, slot: usize, reason: Reason) {
        let Some(session) = self.session_mut(slot) else { return };
        let Role::Server(server) = session.role else { return };
        session.disconnect();
        session.registration.start(now, 0);
        self.reporting.forget_session(slot);
        self.assembly.forget(slot);
        #[cfg(feature = "send")]
        self.forget_report(slot, reason);
        self.notice(Notice::RegistrationRetry { server, reason });
        self.is_due = true;
    }

    /// The owner or the storage could not help: taken up with the next `handle_timeout`.
    pub(crate) fn connection_failed(&mut self, slot: usize, reason: Reason) {
        if let Some(session) = self.session_mut(slot) {
            session.link = Link::Broken { reason };
        }
        self.is_due = true;
    }

    /// An attempt to reach a server came to nothing.
    pub(crate) fn attempt_failed(&mut self, now: Instant, slot: usize, reason: Reason, rng: &mut Rng<'_>) {
        let (policy, is_stopping) = (self.policy(slot), self.is_stopping);
        let Some(session) = self.session_mut(slot) else { return };
        let Role::Server(server) = session.role else { return self.bootstrap_failed(now, reason, rng) };
        session.disconnect();
        let next = if reason.needs_configuration() {
            session.registration.give_up(now);
            None
        } else {
            session.registration.failed(now, policy)
        };
        if is_stopping {
            session.registration.state = State::Idle;
        }
        self.close_socket(slot);
        self.reporting.forget_session(slot);
        self.assembly.forget(slot);
        self.notice(match next {
            Some(_) => Notice::RegistrationRetry { server, reason },
            None => Notice::RegistrationFailed { server, reason },
        });
        self.is_due = true;
    }

    fn policy(&self, slot: usize) -> RetryPolicy {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        let server = session.and_then(|session| match session.role {
            Role::Server(id) => self.core.accounts.server_of(id),
            Role::Bootstrap => None,
        });
        server.map_or(RetryPolicy::DEFAULT, RetryPolicy::of)
    }

    /// Whether the order of registration lets this server try.
    pub(crate) fn is_turn_of(&self, slot: usize) -> bool {
        let server_of = |session: &Session<O>| match session.role {
            Role::Server(id) => self.core.accounts.server_of(id),
            Role::Bootstrap => None,
        };
        let Some(own) = self.sessions.get(slot).and_then(Option::as_ref) else { return false };
        let priority = server_of(own).and_then(|server| server.priority());
        is_turn(
            priority,
            self.sessions.iter().flatten().map(|session| {
                let server = server_of(session);
                Turn {
                    priority: server.and_then(|server| server.priority()),
                    is_blocking: server.is_some_and(|server| server.is_failure_blocking()),
                    state: session.registration.state,
                }
            }),
        )
    }

    fn advance_bootstrap(&mut self, now: Instant, rng: &mut Rng<'_>) {
        match self.bootstrap.phase {
            Phase::Wanted { at } if at <= now && self.is_table_ready() && self.storage.job == Job::Idle => {
                let Some(security) = self.core.accounts.bootstrap().map(|security| security.instance) else {
                    self.bootstrap.phase = Phase::Idle;
                    return self.notice(Notice::NoAccounts);
                };
                for slot in 0..S {
                    if self.session_mut(slot).is_some_and(|session| session.role == Role::Bootstrap) {
                        self.drop_session(slot);
                    }
                }
                // With all slots taken by servers that failed, one of them makes room; the table brings it back.
                let Some(slot) = self.free_slot().or_else(|| self.failed_slot()) else {
                    self.bootstrap.phase = Phase::Idle;
                    return;
                };
                if let Some(session) = self.begin_session(slot, Role::Bootstrap, security) {
                    session.connect();
                }
                self.echo = None;
                self.bootstrap.phase = Phase::Connecting;
                self.is_due = true;
            }
            Phase::Writing { deadline } if deadline <= now => {
                self.bootstrap_failed(now, Reason::BootstrapTimeout, rng);
            }
            _ => {}
        }
    }

    fn failed_slot(&mut self) -> Option<usize> {
        let is_failed = |session: &Option<Session<O>>| {
            session.as_ref().is_some_and(|session| matches!(session.registration.state, State::Failed { .. }))
        };
        let slot = self.sessions.iter().position(is_failed)?;
        self.drop_session(slot);
        Some(slot)
    }

    /// The bootstrap came to nothing: what was staged is dropped, and the table read again. A server that leaves once it
    /// has finished changes nothing.
    pub(crate) fn bootstrap_failed(&mut self, now: Instant, reason: Reason, rng: &mut Rng<'_>) {
        for slot in 0..S {
            if self.session_mut(slot).is_some_and(|session| session.role == Role::Bootstrap) {
                self.drop_session(slot);
            }
        }
        if self.bootstrap.phase == Phase::Saving {
            return;
        }
        let mut random = [0];
        rng(&mut random);
        let [random] = random;
        self.bootstrap.failed(now, random);
        self.notice(Notice::BootstrapFailed { reason });
        self.core.staging.clear();
        self.storage.start(Job::Discard);
        self.is_due = true;
    }

    /// Bootstrap-Finish reached storage, or not.
    pub(crate) fn bootstrap_saved(&mut self, result: Result<(), StoreError>) {
        let now = self.now;
        if result.is_ok() {
            self.bootstrap.succeeded();
            self.is_trial = true;
            self.is_unproven = true;
            self.is_changed = false;
            self.is_restart_due = true;
            self.notice(Notice::Bootstrapped);
        } else {
            self.bootstrap.phase = Phase::Requesting;
            self.bootstrap.heard(now);
        }
        for session in self.sessions.iter_mut().flatten() {
            if session.role == Role::Bootstrap {
                session.lingers_until = result.is_ok().then(|| now.after_secs(SILENCE));
                if let Some(reply) = &mut session.reply {
                    reply.release(result.is_ok());
                }
            }
        }
        self.is_due = true;
    }

    /// The storage did not take a credential: the Bootstrap-Write failed.
    pub(crate) fn write_failed(&mut self) {
        for session in self.sessions.iter_mut().flatten() {
            if let Some(reply) = &mut session.reply {
                reply.release(false);
            }
        }
    }

    /// Answers that waited for the storage can go.
    pub(crate) fn release_replies(&mut self) {
        for session in self.sessions.iter_mut().flatten() {
            if let Some(reply) = &mut session.reply {
                reply.release(true);
            }
        }
    }

    /// Draws the conclusions from where the registrations stand.
    fn settle(&mut self, now: Instant) {
        if self.storage.job != Job::Idle
            || self.bootstrap.is_under_way()
            || self.is_stopping
            || self.is_restart_due
        {
            return;
        }
        let servers =
            || self.sessions.iter().flatten().filter(|session| matches!(session.role, Role::Server(_)));
        let failed = servers().find(|session| matches!(session.registration.state, State::Failed { .. }));
        if let Some(failed) = failed {
            let Role::Server(id) = failed.role else { return };
            if self.is_unproven {
                self.storage.start(Job::Revert);
                self.is_due = true;
            } else if self.is_bootstrap_wanted_by(id) && self.bootstrap.phase == Phase::Idle {
                self.want_bootstrap(now);
            }
            return;
        }
        let is_settled =
            |state| !matches!(state, State::Delayed { .. } | State::Connecting | State::Registering);
        let is_proven =
            servers().next().is_some() && servers().all(|session| is_settled(session.registration.state));
        if self.is_unproven && is_proven {
            self.is_unproven = false;
            self.storage.start(Job::Confirm);
            self.is_due = true;
            // Core 1.1.1 appendix E.1: /0/x/12 counts from the success of the bootstrap.
            let timeout = self.core.accounts.bootstrap().map_or(0, |account| account.account_timeout);
            let timeout = Some(timeout).filter(|timeout| *timeout > 0);
            self.purge_at = timeout.map(|timeout| now.after_secs(timeout));
        }
    }

    /// Purges the bootstrap account when its time has come, and stores the table without it.
    fn purge(&mut self, now: Instant) {
        if self.purge_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.purge_at = None;
        if let Some(instance) = self.core.accounts.bootstrap().map(|account| account.instance) {
            let staging = &mut self.core.staging.credentials;
            let mut security = SecurityObject { securities: &mut self.core.accounts.securities, staging };
            self.is_changed |= security.delete(instance).is_ok();
        }
    }

    /// When the bootstrap account is to be purged, unless something else has to end first.
    pub(crate) fn purge_timeout(&self) -> Option<Instant> {
        let is_quiet = self.storage.job == Job::Idle && !self.bootstrap.is_under_way() && !self.is_unproven;
        self.purge_at.filter(|_| is_quiet)
    }

    /// When the bootstrap has something to do, unless the storage has to end first.
    pub(crate) fn bootstrap_timeout(&self) -> Option<Instant> {
        self.bootstrap.poll_timeout().filter(|_| self.storage.job == Job::Idle || self.bootstrap.is_open())
    }

    /// Acts on what a server executed on `/1`, once its answer is on the way.
    pub(crate) fn act_on_execution(&mut self, now: Instant) {
        let Some((instance, what)) = self.core.executed.take() else { return };
        self.is_due = true;
        if what == Executed::Bootstrap {
            return self.bootstrap.trigger(now);
        }
        let server = self.core.accounts.servers.iter().find(|server| server.instance == instance);
        let Some((Some(id), timeout)) =
            server.map(|server| (server.short_server_id(), server.disable_timeout()))
        else {
            return;
        };
        let Some(session) =
            self.sessions.iter_mut().flatten().find(|session| session.role == Role::Server(id))
        else {
            return;
        };
        match what {
            Executed::Update => session.registration.want_update(),
            _ if session.registration.is_alive() => {
                session.registration.state = State::Deregistering { then: Then::Disable(timeout) };
            }
            _ => {}
        }
    }

    /// The server answered De-register, or did not.
    pub(crate) fn deregistered(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.session_mut(slot) else { return };
        let (Role::Server(server), State::Deregistering { then }) =
            (session.role, session.registration.state)
        else {
            return;
        };
        session.registration.forget();
        session.registration.state = match then {
            Then::Disable(timeout) => State::Disabled { until: now.after_secs(timeout) },
            Then::Stop => State::Idle,
        };
        if !session.close() {
            self.close_socket(slot);
        }
        self.reporting.forget_session(slot);
        self.assembly.forget(slot);
        self.notice(Notice::Deregistered { server });
        self.is_due = true;
    }

    /// When something of a session is due.
    pub(crate) fn session_timeout(&self, slot: usize) -> Option<Instant> {
        let session = self.sessions.get(slot)?.as_ref()?;
        let is_free = self.is_table_ready() && !self.bootstrap.is_under_way();
        let registration = match session.registration.state {
            State::Delayed { until } if is_free && self.is_turn_of(slot) => Some(until),
            State::Registered => {
                session.registration.update_at().filter(|_| !session.registration.due.refresh)
            }
            State::PutOff { until } => Some(until),
            State::Disabled { until } => Some(until),
            State::Failed { at } => self.next_life(slot, at),
            _ => None,
        };
        let peer = session.peer.as_ref().and_then(|peer| peer.poll_timeout());
        [registration, peer, self.security_timeout(slot), session.lingers_until].into_iter().flatten().min()
    }
}
