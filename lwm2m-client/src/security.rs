//! Handshakes and records: from the credential in storage to messages, and messages to datagrams.
//!
//! LwM2M Transport 1.1.1 §5.2, DTLS 1.2 with pre-shared keys. Invariant: a new association starts with a full handshake
//! and a new CoAP peer; nothing of an old one is resumed, so that a changed key is proven.

use core::ops::Range;

#[cfg(feature = "psk")]
use dtls_psk::{Config, Connection, Datagram, Handshake, Input, Psk, Reason as Closed};
use lwm2m_coap::{Instant, Rng, TokenPolicy};
use lwm2m_objects::Object;

use crate::account::SecurityMode;
use crate::client::Client;
use crate::error::Reason;
use crate::session::{Link, ROOM};
#[cfg(feature = "psk")]
use crate::{
    event::{Notice, Role},
    identity::Secret,
    session::HANDSHAKE,
};

#[cfg(feature = "psk")]
fn time(now: Instant) -> dtls_psk::Instant {
    dtls_psk::Instant::from_millis(now.as_millis())
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize>
    Client<'_, S, O, T, A, B>
{
    /// Moves the way to a server on.
    pub(crate) fn advance_link(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        let Some(session) = self.session_mut(slot) else { return };
        match core::mem::take(&mut session.link) {
            Link::Broken { reason } => self.attempt_failed(now, slot, reason, rng),
            Link::Resolved => {
                let security = session.security;
                let mode = self.core.accounts.security(security).and_then(|security| security.mode());
                let Some(session) = self.session_mut(slot) else { return };
                match mode {
                    Some(SecurityMode::NoSec) => {
                        session.open(Link::Plain, TokenPolicy::Random, rng);
                        self.connected(slot);
                    }
                    #[cfg(feature = "psk")]
                    Some(SecurityMode::Psk) => session.link = Link::LoadingIdentity,
                    _ => self.attempt_failed(now, slot, Reason::Unsupported, rng),
                }
            }
            #[cfg(feature = "psk")]
            Link::Loaded { identity, secret } => {
                let psk = Psk { identity: identity.bytes(), key: secret.bytes() };
                match Connection::client(time(now), &Config::DEFAULT, psk, rng, Handshake::<HANDSHAKE>::new())
                {
                    Ok(connection) => session.link = Link::Secured(connection),
                    Err(_) => self.attempt_failed(now, slot, Reason::NoCredential, rng),
                }
            }
            #[cfg(feature = "psk")]
            Link::Secured(mut connection) => {
                let input = connection.handle_timeout(time(now));
                session.link = Link::Secured(connection);
                if let Some(Input::Closed(reason)) = input {
                    self.association_closed(now, slot, reason, rng);
                }
            }
            link => session.link = link,
        }
    }

    /// The key of a server came from storage.
    #[cfg(feature = "psk")]
    pub(crate) fn secret_loaded(&mut self, slot: usize, secret: &[u8]) {
        let Some(session) = self.session_mut(slot) else { return };
        session.link = match (core::mem::take(&mut session.link), Secret::new(secret)) {
            (Link::LoadingSecret { identity }, Some(secret)) => Link::Loaded { identity, secret },
            (Link::LoadingSecret { .. }, None) => Link::Broken { reason: Reason::NoCredential },
            (link, _) => link,
        };
    }

    /// Takes a datagram of a server.
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
            Link::Secured(_) => {
                let mut datagram = Datagram::new(datagram);
                loop {
                    let Some(session) = self.session_mut(slot) else { return };
                    let Link::Secured(connection) = &mut session.link else { return };
                    match connection.handle(time(now), &mut datagram) {
                        Some(Input::Application(message)) => {
                            self.receive_message(now, slot, message, objects, rng)
                        }
                        Some(Input::Established { .. }) => {
                            session.start_peer(TokenPolicy::SECURED, rng);
                            let role = session.role;
                            self.notice(Notice::Secured { role });
                            self.connected(slot);
                        }
                        Some(Input::Closed(reason)) => {
                            return self.association_closed(now, slot, reason, rng);
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
            }
            _ => self.drop_datagram(),
        }
    }

    pub(crate) fn drop_datagram(&mut self) {
        self.counters.dropped = self.counters.dropped.saturating_add(1);
    }

    /// The handshake failed, or the association ended.
    #[cfg(feature = "psk")]
    fn association_closed(&mut self, now: Instant, slot: usize, closed: Closed, rng: &mut Rng<'_>) {
        let reason = match closed {
            Closed::PeerAlert(alert) => Reason::Alert(alert.0),
            Closed::NoAnswer => Reason::HandshakeTimeout,
            Closed::Stalled | Closed::FinishedUnanswered => Reason::HandshakeTimeout,
            Closed::PeerClosed => Reason::AssociationLost,
            _ => Reason::Handshake,
        };
        let Some(session) = self.session_mut(slot) else { return };
        let (role, is_alive) = (session.role, session.registration.is_alive());
        if let (Role::Server(id), Reason::Alert(alert)) = (role, reason)
            && let Some(server) = self.core.accounts.server_of_mut(id)
        {
            // Core 1.1.1 appendix E.2: /1/x/11 keeps the last alert.
            server.alert = Some(alert);
        }
        match role {
            // Core 1.1.1 §6.2.1: a new security context means a new registration.
            Role::Server(_) if is_alive => self.reconnect(now, slot, reason),
            _ if self.session_mut(slot).is_some_and(|session| session.is_lingering) => {
                self.drop_session(slot)
            }
            _ => self.attempt_failed(now, slot, reason, rng),
        }
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
        for slot in 0..S {
            if let Some(range) = self.transmit(now, slot, out, objects, rng) {
                let account = crate::AccountId(u8::try_from(slot).ok()?);
                return Some((account, out.get(range)?));
            }
        }
        None
    }

    fn transmit(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<Range<usize>> {
        let session = self.session_mut(slot)?;
        #[cfg(feature = "psk")]
        if let Link::Secured(connection) = &mut session.link
            && let Some(length) = connection.poll_transmit(time(now), out)
        {
            return Some(0..length);
        }
        let behind = out.get_mut(ROOM.head..)?;
        let room = behind.len().saturating_sub(ROOM.tail);
        let range = match session.peer.as_mut()?.poll_transmit(now, behind.get_mut(..room)?) {
            Some(length) => ROOM.head..ROOM.head.saturating_add(length),
            None => self
                .poll_reply(now, slot, out, objects, rng)
                .or_else(|| self.poll_request(now, slot, out, objects, rng))
                .or_else(|| self.poll_notification(now, slot, out, objects, rng))
                // A deferred answer is acknowledged by the peer.
                .or_else(|| {
                    let behind = out.get_mut(ROOM.head..)?;
                    let length = self.session_mut(slot)?.peer.as_mut()?.poll_transmit(now, behind)?;
                    Some(ROOM.head..ROOM.head.saturating_add(length))
                })?,
        };
        match &mut self.session_mut(slot)?.link {
            #[cfg(feature = "psk")]
            Link::Secured(connection) => connection.seal(out, range).ok(),
            _ => Some(range),
        }
    }
}
