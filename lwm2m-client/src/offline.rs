//! Offline: notifications that are due while the device has no network are kept, and sent afterwards (`/1/x/6`; LwM2M Core
//! 1.1.1 §6.4.2, appendix E.2).
//!
//! 1. [`Client::go_offline`]: nothing is sent and nothing fails, but what servers observe is looked at as before.
//! 2. [`Client::poll_kept`] writes a notification that is due; the owner puts it away, in memory or in flash, as many as it likes.
//! 3. [`Client::go_online`]: an Update shows whether the server still knows the device.
//! 4. [`Client::transmit_kept`] sends what the owner gives back, the oldest first.
//!
//! Invariant: nothing newer is notified before what was kept.

use core::fmt;
use core::ops::Range;

use lwm2m_coap::{
    Buffer, Code, ContentFormat, Delivery, Event as PeerEvent, Instant, Rng, SendError, Sent, Token, Writer,
};
use lwm2m_objects::{Context, Format, Object, format};

use crate::account::ShortServerId;
use crate::bootstrap::Phase;
use crate::client::Client;
use crate::event::{AccountId, Role};
use crate::registration::State;
use crate::reporting::LARGEST_KEPT;
use crate::storage::Job;

/// Whether there is a network.
#[derive(Debug, Default)]
pub(crate) struct Offline {
    pub(crate) is_offline: bool,
    /// Tells what was kept by this client from what was kept before a restart; zero until it is drawn.
    run: [u8; 4],
}

impl Offline {
    /// Draws what tells this run from others, once.
    pub(crate) fn name_run(&mut self, rng: &mut Rng<'_>) {
        if self.run == [0; 4] {
            rng(&mut self.run);
        }
    }
}

/// What the owner keeps for one server.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    count: u32,
    /// The one that was sent and not acknowledged yet.
    sent: Option<(Token, Instant)>,
}

impl Backlog {
    /// Whether ordinary notifications to the server have to wait.
    pub(crate) const fn is_there(&self) -> bool {
        self.count > 0
    }
}

/// What a kept notification begins with: the run of the client, Short Server ID, length of the token, token, format, and when it was due.
const HEAD: usize = 4 + 2 + 1 + Token::MAX_LENGTH + 2 + 8;

/// The format of a notification that is not kept itself, because it is too long or could not be read: what it is about is looked at
/// again. It stands for none (RFC 7252 §12.3).
const LATER: u16 = 0xffff;

/// The longest payload that is kept, in bytes: it goes out in one message, with its age in it.
const LONGEST: usize = LARGEST_KEPT - format::AGE_MAX;

/// The length of the longest kept notification, in bytes: the least room for [`Client::poll_kept`].
pub const KEPT_MAX: usize = HEAD + LONGEST;

/// A notification that is kept cannot be sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet {
    /// The server that it is for: go on with those for others.
    pub server: ShortServerId,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server was not reached yet, or has not acknowledged what was sent before")
    }
}

impl core::error::Error for NotYet {}

/// Returns the server that a kept notification is for.
pub fn kept_for(kept: &[u8]) -> Option<ShortServerId> {
    Kept::parse(kept).map(|kept| kept.server)
}

/// A kept notification, taken apart.
struct Kept<'k> {
    run: [u8; 4],
    server: ShortServerId,
    token: Token,
    format: u16,
    due: Instant,
    payload: &'k [u8],
}

impl<'k> Kept<'k> {
    fn parse(bytes: &'k [u8]) -> Option<Self> {
        let (run, rest) = bytes.split_first_chunk()?;
        let (server, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (token, rest) = rest.split_first_chunk::<{ Token::MAX_LENGTH }>()?;
        let (format, rest) = rest.split_first_chunk()?;
        let (due, payload) = rest.split_first_chunk()?;
        Some(Self {
            run: *run,
            server: ShortServerId::new(u16::from_be_bytes(*server))?,
            token: Token::new(token.get(..usize::from(*length))?)?,
            format: u16::from_be_bytes(*format),
            due: Instant::from_millis(u64::from_be_bytes(*due)),
            payload,
        })
    }

    /// Writes what stands before the payload.
    fn emit(&self, out: &mut [u8]) -> Option<()> {
        let token = self.token.bytes();
        let mut padded = [0; Token::MAX_LENGTH];
        padded.get_mut(..token.len())?.copy_from_slice(token);
        let head = out.first_chunk_mut::<HEAD>()?;
        let (run, rest) = head.split_first_chunk_mut()?;
        let (server, rest) = rest.split_first_chunk_mut()?;
        let (length, rest) = rest.split_first_mut()?;
        let (place, rest) = rest.split_first_chunk_mut()?;
        let (format, rest) = rest.split_first_chunk_mut()?;
        *run = self.run;
        *server = self.server.get().to_be_bytes();
        *length = u8::try_from(token.len()).ok()?;
        *place = padded;
        *format = self.format.to_be_bytes();
        *rest.first_chunk_mut()? = self.due.as_millis().to_be_bytes();
        Some(())
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Says that there is no network: nothing is sent, no time runs out, and datagrams that come in are dropped. Drain
    /// [`Client::poll_kept`] after every call, and call [`Client::handle_timeout`] at [`Client::poll_timeout`] as before. A
    /// [`Client::deregister`] waits for the network too.
    pub fn go_offline(&mut self) {
        self.offline.is_offline = true;
        self.is_due = true;
    }

    /// Whether the client was told that there is no network.
    pub const fn is_offline(&self) -> bool {
        self.offline.is_offline
    }

    /// Says that there is a network again. Servers get an Update, what was under way begins anew, and then
    /// [`Client::transmit_kept`] sends what was kept. If the device has another address now, say that too
    /// ([`Client::address_changed`]).
    pub fn go_online(&mut self) {
        if !core::mem::take(&mut self.offline.is_offline) {
            return;
        }
        self.is_due = true;
        for slot in 0..S {
            match self.role_of(slot) {
                Some(Role::Server(_)) => self.take_up(slot),
                Some(Role::Bootstrap) => self.bootstrap_anew(slot),
                None => {}
            }
        }
    }

    /// A bootstrap that was under way begins anew; one whose result is being stored goes on.
    fn bootstrap_anew(&mut self, slot: usize) {
        if !self.bootstrap.is_under_way() || self.bootstrap.phase == Phase::Saving {
            return;
        }
        self.drop_session(slot);
        self.core.staging.clear();
        self.storage.start(Job::Discard);
        self.bootstrap.phase = Phase::Wanted { at: self.now };
    }

    /// What was under way with a server begins anew.
    fn take_up(&mut self, slot: usize) {
        let now = self.now;
        let Some(session) = self.session_mut(slot) else { return };
        session.backlog.sent = None;
        if !session.registration.is_alive() {
            if matches!(session.registration.state, State::Connecting | State::Registering) {
                session.disconnect();
                session.registration.start(now, 0);
                self.close_socket(slot);
            }
            return;
        }
        session.request = None;
        // An object list that did not arrive is sent again.
        if session.upload.take().is_some() {
            session.registration.forget_links();
        }
        session.registration.reopen();
        session.registration.want_update();
        if let Some(peer) = session.peer.as_mut() {
            peer.fail_begun();
        }
        // A notification that was under way is due again.
        while let Some(event) = self.session_mut(slot).and_then(|it| it.peer.as_mut()?.poll_event(now)) {
            if let PeerEvent::Failed { sent: Sent::Notification(token), .. } = event {
                self.reporting.repeat(slot, token);
            }
        }
    }

    /// Writes the next notification that is due to a server that wants them kept; put its bytes away, and send them with
    /// [`Client::transmit_kept`] later. They are of this `Client` only: after a restart they are worth nothing. Call it until `None` after
    /// every other call while offline. `out` has room for [`KEPT_MAX`] bytes.
    ///
    /// While the owner keeps notifications for a server it gets no others. What there is no room for may be dropped, the oldest
    /// first: [`Client::drop_kept`] says so, and [`Client::forget_kept`] that all is lost.
    pub fn poll_kept<'b>(
        &mut self,
        now: Instant,
        out: &'b mut [u8],
        objects: &mut [&mut dyn Object],
    ) -> Option<&'b [u8]> {
        if !self.offline.is_offline || self.offline.run == [0; 4] {
            return None;
        }
        self.now = now;
        for index in 0.. {
            let Some((slot, server)) = self.reporting.observer_at(index) else { break };
            if self.is_stored_for(server) && self.is_notification_due(now, slot, index, objects) {
                let length = self.keep(now, index, slot, server, out, objects)?;
                let backlog = &mut self.session_mut(slot)?.backlog;
                backlog.count = backlog.count.saturating_add(1);
                return out.get(..length);
            }
        }
        None
    }

    /// `/1/x/6`: whether notifications are kept for a server.
    pub(crate) fn is_stored_for(&self, server: ShortServerId) -> bool {
        self.core.accounts.server_of(server).is_none_or(crate::server::Server::is_storing)
    }

    /// Writes a notification that is due, and notes that it is told.
    fn keep(
        &mut self,
        now: Instant,
        index: usize,
        slot: usize,
        server: ShortServerId,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
    ) -> Option<usize> {
        let (token, format) = self.reporting.observed_as(index)?;
        let guard = self.guard(Role::Server(server));
        let version = self.version_of(slot);
        let context = Context { access: Self::access(&guard), version, ..Context::default() };
        let room = out.get_mut(HEAD..KEPT_MAX)?;
        let mut buffer = Buffer::new(room);
        let is_read = self.reporting.read_of(index, self.config.prefix(), |read| {
            self.core.with_tree(false, objects, |tree| tree.perform(read, &context, &mut buffer)).is_ok()
        })?;
        let length = if is_read { buffer.written().len() } else { 0 };
        let format = if is_read { format.0 } else { LATER };
        Kept { run: self.offline.run, server, token, format, due: now, payload: &[] }.emit(out)?;
        self.told(now, slot, token, Delivery::NonConfirmable, objects);
        HEAD.checked_add(length)
    }

    /// Sends a notification that was kept, the oldest one for its server: the datagram. It is done with when the same bytes give `None`:
    /// then it was acknowledged, or there is nothing to send any more, because its observation has ended, or because what it is about goes
    /// out as it is now. Drain [`Client::poll_transmit`] first.
    ///
    /// # Errors
    /// [`NotYet`]: try again after the next call of [`Client::handle`] or [`Client::handle_timeout`], and go on with those for other servers.
    pub fn transmit_kept<'b>(
        &mut self,
        now: Instant,
        kept: &[u8],
        out: &'b mut [u8],
        rng: &mut Rng<'_>,
    ) -> Result<Option<(AccountId, &'b [u8])>, NotYet> {
        self.now = now;
        let Some((slot, kept)) = self.still_observed(kept) else {
            self.drop_kept(kept);
            return Ok(None);
        };
        let not_yet = NotYet { server: kept.server };
        if self.offline.is_offline {
            return Err(not_yet);
        }
        let session = self.session_mut(slot).ok_or(not_yet)?;
        if session.backlog.sent == Some((kept.token, kept.due)) {
            let is_under_way = session.peer.as_ref().is_some_and(|peer| peer.is_notifying(kept.token));
            return if is_under_way {
                Err(not_yet)
            } else {
                self.done_with(slot);
                Ok(None)
            };
        }
        if !self.is_free_for_kept(now, slot) {
            return Err(not_yet);
        }
        if kept.format == LATER {
            self.reporting.repeat(slot, kept.token);
            self.done_with(slot);
            return Ok(None);
        }
        let length = out.len().min(self.config.mtu);
        let out = out.get_mut(..length).and_then(|out| self.within_limit(slot, out)).ok_or(not_yet)?;
        match self.notify_kept(now, slot, &kept, out, rng) {
            Ok(range) => {
                self.counters.notifications = self.counters.notifications.saturating_add(1);
                if let Some(session) = self.session_mut(slot) {
                    session.backlog.sent = Some((kept.token, kept.due));
                }
                let account = AccountId(u8::try_from(slot).unwrap_or_default());
                // Without a datagram it is as lost: it is confirmable, and goes out again.
                let sealed = self.seal(slot, out, range).and_then(|range| out.get(range));
                sealed.map(|datagram| Some((account, datagram))).ok_or(not_yet)
            }
            Err(SendError::Busy | SendError::Full) => Err(not_yet),
            // It does not fit: what it is about goes out in blocks, as it is now.
            Err(_) => {
                self.reporting.repeat(slot, kept.token);
                self.done_with(slot);
                Ok(None)
            }
        }
    }

    /// Whether a server knows the device, and nothing else goes to it first.
    fn is_free_for_kept(&self, now: Instant, slot: usize) -> bool {
        let Some(session) = self.sessions.get(slot).and_then(Option::as_ref) else { return false };
        session.registration.state == State::Registered
            && session.request.is_none()
            && session.upload.is_none()
            && session.peer.as_ref().is_some_and(|peer| peer.can_request(now))
            && self.next_request_of(now, slot).is_none()
    }

    /// Says that a notification that is kept will not be sent.
    pub fn drop_kept(&mut self, kept: &[u8]) {
        let server = Kept::parse(kept).filter(|kept| kept.run == self.offline.run).map(|kept| kept.server);
        let slot = (0..S).find(|slot| server.is_some_and(|it| self.role_of(*slot) == Some(Role::Server(it))));
        if let Some(slot) = slot {
            self.done_with(slot);
        }
    }

    /// Says that all notifications that were kept are lost.
    pub fn forget_kept(&mut self) {
        self.is_due = true;
        for session in self.sessions.iter_mut().flatten() {
            session.backlog = Backlog::default();
        }
    }

    /// One less is kept for a server.
    fn done_with(&mut self, slot: usize) {
        self.is_due = true;
        if let Some(session) = self.session_mut(slot) {
            session.backlog = Backlog { count: session.backlog.count.saturating_sub(1), sent: None };
        }
    }

    /// The session of the observation that a notification was kept for, unless that began after it.
    fn still_observed<'k>(&self, bytes: &'k [u8]) -> Option<(usize, Kept<'k>)> {
        let kept = Kept::parse(bytes).filter(|kept| kept.run == self.offline.run)?;
        let slot = self.reporting.slot_of(kept.server, kept.token, kept.due)?;
        Some((slot, kept))
    }

    fn notify_kept(
        &mut self,
        now: Instant,
        slot: usize,
        kept: &Kept<'_>,
        out: &mut [u8],
        rng: &mut Rng<'_>,
    ) -> Result<Range<usize>, SendError> {
        let observer = self.reporting.observer_of(slot, kept.token).ok_or(SendError::TooLong)?;
        let sequence = self.reporting.advance();
        let session = self.session_mut(slot).ok_or(SendError::Full)?;
        let mut writer = Writer::new(out, session.room(), Code::CONTENT);
        writer.observe(sequence)?.content_format(ContentFormat(kept.format))?;
        let age = now.since(kept.due).as_secs();
        let mut aged = heapless::Vec::<u8, LARGEST_KEPT>::new();
        format::emit_aged(Format(kept.format), kept.payload, age, &mut aged)
            .map_err(|_| SendError::TooLong)?;
        writer.payload(&aged)?;
        let (peer, mut hook) = session.peer(now, rng).ok_or(SendError::Full)?;
        peer.notify(now, Delivery::Confirmable, &observer, writer, &mut hook, rng)
    }
}
