//! Handshakes and records: from the credential in storage to messages, and messages to datagrams.
//!
//! LwM2M Transport 1.1.1 §5.2, DTLS 1.2. Module `pending` has what handshakes with raw public keys need besides. Invariant: a new association starts with a new CoAP peer, and
//! with a full handshake whenever a key was written, so that a changed key is proven.

use core::ops::Range;

#[cfg(feature = "x509")]
use dtls_psk::ClientCertificate;
#[cfg(feature = "connection-id")]
use dtls_psk::ConnectionId;
#[cfg(feature = "psk")]
use dtls_psk::{Config, Connection, Datagram, Input, Reason as Closed, SetUpError};
#[cfg(feature = "rpk")]
use dtls_psk::{Suite, Suites};
use lwm2m_coap::{Instant, Rng};
use lwm2m_objects::Object;
#[cfg(feature = "psk")]
use lwm2m_objects::{Path, defs};

use crate::account::SecurityMode;
#[cfg(any(feature = "rpk", feature = "suites"))]
use crate::account::{Accounts, Security};
#[cfg(feature = "x509")]
use crate::address::host_name;
use crate::client::Client;
use crate::error::Reason;
#[cfg(feature = "psk")]
use crate::event::Notice;
use crate::event::Role;
use crate::session::Link;
#[cfg(any(feature = "rpk", feature = "suites"))]
use crate::session::Session;
#[cfg(feature = "psk")]
use crate::{
    persist::Key,
    registration::State,
    server::TLS_ALERT,
    session::{HANDSHAKE, Memory, Place, Stage},
};

#[cfg(feature = "psk")]
pub(crate) fn time(now: Instant) -> dtls_psk::Instant {
    dtls_psk::Instant::from_millis(now.as_millis())
}

/// How a handshake is done that offers a Connection ID of `length` bytes, drawn anew for each.
#[cfg(feature = "connection-id")]
fn offering(length: Option<u8>, rng: &mut Rng<'_>) -> Config {
    let mut bytes = [0; ConnectionId::MAX];
    let own = length.map(|length| bytes.split_at_mut(usize::from(length).min(ConnectionId::MAX)).0);
    let own = own.and_then(|own| {
        if !own.is_empty() {
            rng(own);
        }
        ConnectionId::new(own)
    });
    own.map_or(Config::DEFAULT, |own| Config::DEFAULT.with_connection_id(own))
}

/// The account of the server in a slot.
#[cfg(any(feature = "rpk", feature = "suites"))]
fn account<'t, const S: usize, const O: usize, const U: usize>(
    sessions: &[Option<Session<O>>; S],
    accounts: &'t Accounts<S, U>,
    slot: usize,
) -> Option<&'t Security<U>> {
    accounts.security(sessions.get(slot)?.as_ref()?.security)
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Moves the way to a server on. While accounts are written, what is known of a server is none of those that count.
    pub(crate) fn advance_link(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        let is_held = self.is_table_changing() && self.role_of(slot) != Some(Role::Bootstrap);
        let Some(session) = self.session_mut(slot) else { return };
        if is_held {
            return session.begin_anew();
        }
        match core::mem::take(&mut session.link) {
            Link::Broken { reason } => self.attempt_failed(now, slot, reason, rng),
            Link::Resolved => {
                let security = session.security;
                #[cfg(feature = "oscore")]
                self.begin_object_security(slot);
                let mode = self.core.accounts.security(security).and_then(|security| security.mode());
                let Some(session) = self.session_mut(slot) else { return };
                match mode {
                    Some(SecurityMode::NoSec) => {
                        session.open(Link::Plain, rng);
                        self.connected(slot);
                    }
                    #[cfg(feature = "psk")]
                    Some(mode) if mode.is_secured() => {
                        session.link = Link::Handshaking;
                        // What may still be there is a former attempt.
                        self.abandon_handshake(|place| place.slot == slot);
                        self.advance_handshake(now, slot, rng);
                    }
                    _ => self.attempt_failed(now, slot, Reason::Unsupported, rng),
                }
            }
            #[cfg(feature = "psk")]
            link if link.has_place() => {
                session.link = link;
                self.advance_handshake(now, slot, rng);
            }
            link => session.link = link,
        }
    }

    /// Gives up the handshake of a server that it is not wanted with any more, and wakes nobody.
    pub(crate) fn release_handshake(&mut self) {
        #[cfg(feature = "psk")]
        {
            let is_wanted = self.is_handshake_wanted();
            self.abandon_handshake(|_| !is_wanted);
        }
    }

    #[cfg(feature = "psk")]
    fn is_handshake_wanted(&self) -> bool {
        let link = |slot: usize| self.sessions.get(slot)?.as_ref().map(|session| &session.link);
        self.handshake.as_ref().and_then(|place| link(place.slot)).is_some_and(Link::has_place)
    }

    /// Gives up a handshake of which this is true: its credential and its memory are wiped.
    #[cfg(feature = "psk")]
    fn abandon_handshake(&mut self, is_over: impl FnOnce(&Place) -> bool) {
        if self.handshake.as_ref().is_some_and(is_over) {
            self.handshake = None;
            self.memory.wipe();
        }
    }

    /// Takes the place for a handshake when it is free, and moves on what is in it.
    #[cfg(feature = "psk")]
    fn advance_handshake(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        if !self.is_handshake_wanted() {
            self.memory.wipe();
            #[cfg(feature = "rpk")]
            let stage = self.first_stage(slot);
            #[cfg(not(feature = "rpk"))]
            let stage = Stage::LoadingIdentity;
            self.handshake = Some(Place::new(slot, stage));
        }
        let Some(place) = self.handshake.as_ref().filter(|place| place.slot == slot) else { return };
        match place.stage {
            Stage::Loaded { .. } => self.start_handshake(now, slot, rng),
            Stage::Running(_) => self.time_handshake(now, slot, rng),
            _ => {}
        }
    }

    /// What comes when the credential is there.
    #[cfg(feature = "psk")]
    pub(crate) fn stage_behind_credential(&self, _slot: usize) -> Stage {
        #[cfg(feature = "resumption")]
        if self.is_session_wanted(_slot) {
            return Stage::LoadingSession;
        }
        Stage::Loaded {
            #[cfg(feature = "resumption")]
            is_resuming: false,
        }
    }

    /// The account of this slot.
    #[cfg(any(feature = "rpk", feature = "suites"))]
    pub(crate) fn account(&self, slot: usize) -> Option<&Security<U>> {
        account(&self.sessions, &self.core.accounts, slot)
    }

    /// How the handshake with this server is done; `None` without a cipher suite to offer.
    #[cfg(feature = "psk")]
    fn handshake_config(&self, slot: usize, rng: &mut Rng<'_>) -> Option<Config> {
        #[cfg(feature = "connection-id")]
        let config = offering(self.config.connection_id, rng);
        #[cfg(not(feature = "connection-id"))]
        let config = Config::DEFAULT;
        #[cfg(feature = "record-size-limit")]
        let config = match self.config.record_size_limit {
            Some(limit) => config.with_record_size_limit(limit),
            None => config,
        };
        #[cfg(feature = "rpk")]
        let config = match self.account(slot)?.mode()? {
            SecurityMode::Psk => config,
            _ => config.with_suites(Suites::new(&[Suite::EcdheEcdsaAes128Ccm8])?),
        };
        // Core 1.1.1 appendix E.1: /0/x/16 limits what is offered.
        #[cfg(feature = "suites")]
        let config = config.with_suites(self.account(slot)?.offered(config.suites)?);
        let _ = (slot, rng);
        Some(config)
    }

    /// Starts the handshake for which everything is there.
    #[cfg(feature = "psk")]
    fn start_handshake(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        let Some(config) = self.handshake_config(slot, rng) else {
            return self.attempt_failed(now, slot, Reason::NoSuite, rng);
        };
        #[cfg(feature = "x509")]
        if let Some(account) = account(&self.sessions, &self.core.accounts, slot)
            && account.mode() == Some(SecurityMode::Certificate)
            && self.memory.server_name().is_none()
        {
            let server_name = account.address().and_then(|address| host_name(address.host));
            // A host is a name that fits, or none.
            let _ = self.memory.set_certificate(ClientCertificate::X509 { server_name });
        }
        let place = self.handshake.as_mut().filter(|place| place.slot == slot);
        let Some(place) = place else { return };
        #[cfg(feature = "resumption")]
        let is_resuming = matches!(place.stage, Stage::Loaded { is_resuming: true });
        #[cfg(feature = "resumption")]
        if !is_resuming {
            self.memory.set_session(None);
        }
        let started = Connection::prepared_client(time(now), &config, rng, &mut self.memory);
        match started {
            Ok(connection) => {
                place.run(connection);
                #[cfg(feature = "resumption")]
                if let Some(session) = self.session_mut(slot) {
                    session.resumption.is_doubted |= is_resuming;
                }
            }
            Err(SetUpError::NoSuite) => self.attempt_failed(now, slot, Reason::NoSuite, rng),
            Err(_) => self.attempt_failed(now, slot, Reason::NoCredential, rng),
        }
    }

    /// Lets time pass for the handshake with this server.
    #[cfg(feature = "psk")]
    fn time_handshake(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        let ended = self.running(slot, |connection| connection.handle_timeout(time(now))).flatten();
        #[cfg(feature = "resumption")]
        self.release_resumed(slot);
        if let Some(Input::Closed(reason)) = ended {
            self.association_closed(now, slot, reason, rng);
        }
    }

    /// The place of the handshake with this server.
    #[cfg(feature = "psk")]
    fn stage(&mut self, slot: usize) -> Option<&mut Stage> {
        self.handshake.as_mut().filter(|place| place.slot == slot).map(|place| &mut place.stage)
    }

    /// Calls the connection whose handshake runs with this server.
    #[cfg(feature = "psk")]
    pub(crate) fn running<R>(
        &mut self,
        slot: usize,
        call: impl FnOnce(&mut Connection<HANDSHAKE, &mut Memory>) -> R,
    ) -> Option<R> {
        let place = self.handshake.as_mut().filter(|place| place.slot == slot)?;
        place.call(&mut self.memory, call)
    }

    /// Whether a handshake runs with this server.
    #[cfg(feature = "rpk")]
    fn is_running(&mut self, slot: usize) -> bool {
        matches!(self.stage(slot), Some(Stage::Running(_)))
    }

    /// Which record the handshake that is being prepared needs next, and for which slot.
    #[cfg(feature = "psk")]
    pub(crate) fn wanted_credential(&self) -> Option<(usize, Key)> {
        let place = self.handshake.as_ref()?;
        // One that came to nothing is about to give its place up.
        let session = self.sessions.get(place.slot)?.as_ref().filter(|session| session.link.has_place())?;
        let security = session.security;
        match place.stage {
            Stage::LoadingIdentity => Some((place.slot, Key::Identity(security))),
            Stage::LoadingSecret => Some((place.slot, Key::Secret(security))),
            #[cfg(feature = "resumption")]
            Stage::LoadingSession => Some((place.slot, Key::Session(security))),
            #[cfg(feature = "rpk")]
            Stage::Running(_) => Some((place.slot, place.pending?.record(security)?)),
            #[cfg(feature = "x509")]
            Stage::LoadingName => Some((place.slot, Key::ServerName(security))),
            #[cfg(not(feature = "rpk"))]
            Stage::Running(_) => None,
            Stage::Loaded { .. } => None,
        }
    }

    /// A part of a credential came from storage.
    #[cfg(feature = "psk")]
    #[inline(never)]
    pub(crate) fn credential_loaded(&mut self, slot: usize, key: Key, record: Option<&[u8]>) {
        // The place may have changed hands since it was asked for.
        if self.wanted_credential() != Some((slot, key)) {
            return;
        }
        #[cfg(feature = "rpk")]
        if self.is_running(slot) {
            return self.operation_loaded(slot, record);
        }
        let Some(place) = self.handshake.as_ref().filter(|place| place.slot == slot) else { return };
        let set = |is_set: bool, next| if is_set { Ok(next) } else { Err(Reason::NoCredential) };
        let record = record.unwrap_or_default();
        let next = match place.stage {
            Stage::LoadingIdentity => {
                let is_set = !record.is_empty() && self.memory.set_identity(record).is_ok();
                set(is_set, Stage::LoadingSecret)
            }
            Stage::LoadingSecret => {
                set(self.memory.set_key(record).is_ok(), self.stage_behind_credential(slot))
            }
            #[cfg(feature = "x509")]
            Stage::LoadingName => {
                let name = core::str::from_utf8(record).ok().and_then(host_name);
                let certificate = name.map(|name| ClientCertificate::X509 { server_name: Some(name) });
                match certificate.map(|certificate| self.memory.set_certificate(certificate)) {
                    Some(Ok(())) => Ok(self.stage_behind_credential(slot)),
                    _ if record.is_empty() => Err(Reason::NoCredential),
                    _ => Err(Reason::MalformedCredential),
                }
            }
            #[cfg(feature = "resumption")]
            Stage::LoadingSession => {
                let session = dtls_psk::Session::parse(record);
                self.memory.set_session(session.as_ref());
                Ok(Stage::Loaded { is_resuming: session.is_some() })
            }
            Stage::Loaded { .. } | Stage::Running(_) => return,
        };
        match (next, self.stage(slot)) {
            (Ok(next), Some(stage)) => *stage = next,
            (Ok(_), None) => {}
            (Err(reason), _) => self.connection_failed(slot, reason),
        }
    }

    /// Takes a datagram of a server.
    #[cfg_attr(feature = "psk", inline(never))]
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        slot: usize,
        datagram: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) {
        let Some(session) = self.session_mut(slot) else { return self.drop_datagram() };
        match &session.link {
            Link::Plain => self.receive_message(now, slot, datagram, objects, rng),
            #[cfg(feature = "psk")]
            link if link.has_place() || matches!(link, Link::Secured(_)) => {
                let mut records = Datagram::new(datagram);
                while let Some(input) = self.next_input(now, slot, &mut records) {
                    match input {
                        Input::Application(message) => self.receive_message(now, slot, message, objects, rng),
                        Input::Established { full } => self.established(slot, full, rng),
                        Input::Closed(reason) => return self.association_closed(now, slot, reason, rng),
                        _ => {}
                    }
                }
                #[cfg(feature = "rpk")]
                if self.is_running(slot) {
                    self.advance_operation(slot, crate::core_objects::clock(objects));
                }
            }
            _ => self.drop_datagram(),
        }
    }

    #[cfg(feature = "psk")]
    fn next_input<'d>(&mut self, now: Instant, slot: usize, records: &mut Datagram<'d>) -> Option<Input<'d>> {
        let session = self.sessions.get_mut(slot)?.as_mut()?;
        match &mut session.link {
            Link::Secured(connection) => connection.handle(time(now), records),
            link if link.has_place() => {
                self.running(slot, |connection| connection.handle(time(now), records)).flatten()
            }
            _ => None,
        }
    }

    /// The handshake is over: its memory is free for the next one, unless it keeps our last flight.
    #[cfg(feature = "psk")]
    fn established(&mut self, slot: usize, full: bool, rng: &mut Rng<'_>) {
        let Some(suite) = self.running(slot, |connection| connection.suite().unwrap_or_default()) else {
            return;
        };
        let Some(session) = self.session_mut(slot) else { return };
        let role = session.role;
        #[cfg(feature = "resumption")]
        let is_free = self.take_session(slot, full, rng);
        #[cfg(not(feature = "resumption"))]
        let is_free = true;
        let place = self.handshake.take_if(|place| is_free && place.slot == slot);
        if let Some(place) = place {
            let Some(session) = self.session_mut(slot) else { return };
            match place.finish().filter(|_| full) {
                Some(connection) => session.open(Link::Secured(connection), rng),
                // A client's last flight is never the last of a full handshake.
                None => return self.connection_failed(slot, Reason::AssociationLost),
            }
        }
        self.notice(Notice::Secured { role, suite });
        self.connected(slot);
        self.is_due = true;
    }

    /// When the handshake has something to do.
    pub(crate) fn security_timeout(&self, slot: usize) -> Option<Instant> {
        #[cfg(feature = "psk")]
        {
            let place = self.handshake.as_ref().filter(|place| place.slot == slot)?;
            let at = place.needs_memory().then(|| self.memory.poll_timeout())?;
            Some(Instant::from_millis(at.as_millis()))
        }
        #[cfg(not(feature = "psk"))]
        {
            let _ = slot;
            None
        }
    }

    pub(crate) fn drop_datagram(&mut self) {
        self.counters.dropped = self.counters.dropped.saturating_add(1);
    }

    /// The handshake failed, or the association ended.
    #[cfg(feature = "psk")]
    fn association_closed(&mut self, now: Instant, slot: usize, closed: Closed, rng: &mut Rng<'_>) {
        let Some(reason) = self.handshake_ended(slot, closed) else { return };
        self.abandon_handshake(|place| place.slot == slot);
        let Some(session) = self.session_mut(slot) else { return };
        let is_alive = session.registration.is_alive();
        match session.role {
            Role::Server(_) if matches!(session.registration.state, State::Deregistering { .. }) => {
                self.deregistered(now, slot);
            }
            // Core 1.1.1 §6.2.1: a new security context means a new registration.
            Role::Server(_) if is_alive && !reason.needs_configuration() => {
                self.reconnect(now, slot, reason);
            }
            _ if session.lingers_until.is_some() => self.drop_session(slot),
            _ => self.attempt_failed(now, slot, reason, rng),
        }
    }

    /// Notes why a connection is over. A server with which a handshake was under way is told before anything else is tried;
    /// for others the reason is returned.
    #[cfg(feature = "psk")]
    pub(crate) fn handshake_ended(&mut self, slot: usize, closed: Closed) -> Option<Reason> {
        let reason = match closed {
            Closed::PeerAlert(alert) => Reason::Alert(alert.0),
            Closed::NoAnswer => Reason::HandshakeTimeout,
            Closed::Stalled | Closed::FinishedUnanswered => Reason::HandshakeTimeout,
            Closed::PeerClosed => Reason::AssociationLost,
            closed => Reason::Handshake(closed),
        };
        let session = self.sessions.get_mut(slot)?.as_mut()?;
        if let (Role::Server(id), Reason::Alert(alert)) = (session.role, reason)
            && let Some(server) = self.core.accounts.server_of_mut(id)
        {
            // Core 1.1.1 appendix E.2: /1/x/11 keeps the last alert.
            server.set(TLS_ALERT, Some(u32::from(alert)));
            let instance = server.instance;
            self.reporting.changed(Path::resource(defs::SERVER.id, instance, TLS_ALERT));
        }
        if matches!(session.link, Link::Handshaking) {
            session.link = Link::Ending { reason };
            return None;
        }
        Some(reason)
    }

    /// Writes the next datagram for any server to `out` and returns where it lies. Drain it, together with
    /// [`Client::poll_event`], after every call; a spurious call is harmless. `out` should hold
    /// [`Config::mtu`](crate::Config::mtu) bytes: less limits what is sent.
    pub fn poll_transmit<'b>(
        &mut self,
        now: Instant,
        out: &'b mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<(crate::AccountId, &'b [u8])> {
        self.now = now;
        let length = out.len().min(self.config.mtu);
        let out = out.get_mut(..length)?;
        #[cfg(feature = "offline")]
        if self.offline.is_offline {
            return None;
        }
        for slot in 0..S {
            if let Some(range) = self.transmit(now, slot, out, objects, rng) {
                let account = crate::AccountId(u8::try_from(slot).ok()?);
                return Some((account, out.get(range)?));
            }
        }
        None
    }

    #[cfg_attr(feature = "psk", inline(never))]
    fn transmit(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<Range<usize>> {
        #[cfg(feature = "psk")]
        if let Some(length) = self.transmit_record(now, slot, out) {
            return Some(0..length);
        }
        let room = self.session_mut(slot)?.record_room();
        let out = self.within_limit(slot, out)?;
        let behind = out.get_mut(room.head..)?;
        let length = behind.len().saturating_sub(room.tail);
        let range = match self.session_mut(slot)?.peer.as_mut()?.poll_transmit(now, behind.get_mut(..length)?)
        {
            Some(length) => room.head..room.head.saturating_add(length),
            None => self
                .poll_reply(now, slot, out, objects, rng)
                .or_else(|| self.poll_request(now, slot, out, objects, rng))
                .or_else(|| self.poll_notification(now, slot, out, objects, rng))
                // A deferred answer is acknowledged by the peer.
                .or_else(|| {
                    let behind = out.get_mut(room.head..)?;
                    let length = self.session_mut(slot)?.peer.as_mut()?.poll_transmit(now, behind)?;
                    Some(room.head..room.head.saturating_add(length))
                })?,
        };
        self.seal(slot, out, range)
    }

    /// As much of a buffer as a record to this server may take.
    #[cfg(feature = "record-size-limit")]
    pub(crate) fn within_limit<'o>(&mut self, slot: usize, out: &'o mut [u8]) -> Option<&'o mut [u8]> {
        let room = self.session_mut(slot)?.record_room();
        let longest = match &self.session_mut(slot)?.link {
            Link::Secured(connection) => connection.longest_payload(),
            #[cfg(feature = "resumption")]
            Link::Resumed => self.running(slot, |connection| connection.longest_payload())?,
            _ => usize::MAX,
        };
        let length = room.head.saturating_add(longest).saturating_add(room.tail).min(out.len());
        out.get_mut(..length)
    }

    #[cfg(not(feature = "record-size-limit"))]
    #[expect(clippy::unused_self, reason = "there is no limit")]
    pub(crate) fn within_limit<'o>(&mut self, _: usize, out: &'o mut [u8]) -> Option<&'o mut [u8]> {
        Some(out)
    }

    /// Makes a datagram of the message in `out`.
    #[cfg_attr(not(feature = "psk"), expect(unused_variables, reason = "it goes as it is"))]
    pub(crate) fn seal(&mut self, slot: usize, out: &mut [u8], range: Range<usize>) -> Option<Range<usize>> {
        #[cfg(feature = "std")]
        self.show(slot, true, out.get(range.clone()).unwrap_or_default());
        match &mut self.session_mut(slot)?.link {
            #[cfg(feature = "psk")]
            Link::Secured(connection) => connection.seal(out, range).ok(),
            #[cfg(feature = "resumption")]
            Link::Resumed => self.running(slot, |connection| connection.seal(out, range))?.ok(),
            Link::Plain => Some(range),
            _ => None,
        }
    }

    /// A record of a handshake, or the last one of an association.
    #[cfg(feature = "psk")]
    fn transmit_record(&mut self, now: Instant, slot: usize, out: &mut [u8]) -> Option<usize> {
        let session = self.sessions.get_mut(slot)?.as_mut()?;
        match &mut session.link {
            Link::Secured(connection) => {
                let length = connection.poll_transmit(time(now), out);
                if length.is_none() && connection.is_closed() {
                    session.link = Link::Closed;
                    self.close_socket(slot);
                }
                length
            }
            Link::Ending { reason } => {
                let reason = *reason;
                let alert =
                    self.running(slot, |connection| connection.poll_transmit(time(now), out)).flatten();
                if alert.is_none() {
                    self.connection_failed(slot, reason);
                }
                alert
            }
            link if link.has_place() => {
                self.running(slot, |connection| connection.poll_transmit(time(now), out)).flatten()
            }
            _ => None,
        }
    }
}
