//! What the client asks of its servers: Bootstrap-Request, Register, Update, De-register, Send, and what their answers mean.
//!
//! LwM2M Core 1.1.1 §6.1.7.1, §6.2.1 to §6.2.3. Invariant: one request of ours is under way with a server at a time.

use core::ops::Range;

use heapless::Vec;
use lwm2m_coap::block::{Szx, Upload, UploadError, Uploaded, Window};
#[cfg(feature = "oscore")]
use lwm2m_coap::protect::Unprotectable;
use lwm2m_coap::{
    Code, Delivery, Instant, Message, OptionNumber, RequestId, Rng, SendError, Sink, WriteError, Writer,
};
use lwm2m_objects::{Error, Format, Location, Object, Operation, Parameters, Root, Tree, Version, mapping};

use crate::account::{Security, ShortServerId};
use crate::bootstrap::{BootstrapFormat, LONGEST_PAUSE, Phase, spread};
use crate::client::Client;
use crate::error::Reason;
use crate::event::{Notice, Role};
use crate::registration::{Due, State, Then};
use crate::server::Binding;
use crate::session::{Echo, LARGEST, Outstanding, Request, Session};

/// What of a kept request is not its payload: header, token, path, format, queries but for the name, block options, Echo.
pub(crate) const REQUEST_OVERHEAD: usize = 112;

/// For how many seconds a server that answers 5.03 without Max-Age is left alone (RFC 7252 §5.10.5), and at least before the next
/// Update.
const DEFAULT_PAUSE: u32 = 60;
const SHORTEST_PAUSE: u32 = 10;

/// Why a body, or a block of it, was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFailed {
    /// It changed on the way.
    Changed,
    /// It does not fit.
    TooLong,
}

impl From<WriteFailed> for SendError {
    fn from(failed: WriteFailed) -> Self {
        match failed {
            WriteFailed::Changed => SendError::Busy,
            WriteFailed::TooLong => SendError::TooLong,
        }
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// The version that is spoken with a server.
    pub(crate) fn version_of(&self, slot: usize) -> Version {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        let newest = self.config.version;
        session.map_or(newest, |session| session.registration.version(newest))
    }

    /// Writes the request that is due to a server; the message's place in `out`.
    pub(crate) fn poll_request(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<Range<usize>> {
        self.check_links(slot, objects);
        let what = self.next_request_of(now, slot)?;
        match self.send_request(now, slot, what, out, objects, rng) {
            Ok(range) => {
                if what == Request::Bootstrap && self.echo.is_none() {
                    self.notice(Notice::BootstrapStarted);
                }
                Some(range)
            }
            Err(error) if is_to_wait(error) => None,
            #[cfg(feature = "send")]
            Err(_) if what == Request::Send => {
                self.end_report(Some(Reason::Unsupported));
                None
            }
            // Nothing that could be sent at all: a name beyond every bound.
            Err(_) => {
                self.attempt_failed(now, slot, Reason::Unsupported, rng);
                None
            }
        }
    }

    /// The format that Bootstrap-Request asks for.
    fn bootstrap_format(&self) -> Option<BootstrapFormat> {
        let is_known = self.config.version >= Version::new(1, 1) && !self.bootstrap.is_format_refused;
        self.config.bootstrap_format.filter(|_| is_known)
    }

    pub(crate) fn next_request_of(&self, now: Instant, slot: usize) -> Option<Request> {
        let phase = self.bootstrap.phase;
        let session = self.sessions.get(slot)?.as_ref()?;
        if session.request.is_some()
            || session.lingers_until.is_some()
            || !session.peer.as_ref()?.can_request(now)
        {
            return None;
        }
        let Role::Server(id) = session.role else {
            let is_due = phase == Phase::Requesting && !session.is_asked;
            return is_due.then_some(Request::Bootstrap);
        };
        let (lifetime, binding) = self.wanted(id, session);
        let registration = &session.registration;
        match registration.state {
            State::Registering => Some(Request::Register { lifetime, binding }),
            State::Registered => {
                let is_due = registration.due.refresh
                    || (registration.due.objects && !self.is_table_changing())
                    || (registration.lifetime, registration.binding) != (lifetime, binding);
                let update = is_due.then_some(Request::Update { lifetime, binding });
                #[cfg(feature = "send")]
                let update = update.or(self.is_report_due(slot).then_some(Request::Send));
                update
            }
            State::Deregistering { .. } => Some(Request::Deregister),
            _ => None,
        }
    }

    /// Lifetime and binding that a server should know. While the table is being changed it is what it knows already.
    fn wanted(&self, id: ShortServerId, session: &Session<O>) -> (u32, Binding) {
        let server = self.core.accounts.server_of(id).filter(|_| !self.is_table_changing());
        match server {
            Some(server) => (server.lifetime().unwrap_or(86_400), server.binding.unwrap_or_default()),
            None => (session.registration.lifetime, session.registration.binding),
        }
    }

    fn send_request(
        &mut self,
        now: Instant,
        slot: usize,
        what: Request,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Result<Range<usize>, SendError> {
        let session = self.sessions.get(slot).and_then(Option::as_ref).ok_or(SendError::Full)?;
        let has_links = match what {
            Request::Register { .. } => true,
            Request::Update { .. } => {
                (session.registration.due.objects && !self.is_table_changing()) || session.upload.is_some()
            }
            Request::Bootstrap | Request::Deregister => false,
            #[cfg(feature = "send")]
            Request::Send => false,
        };
        let version = session.registration.version(self.config.version);
        let mut writer = Writer::new(out, session.room(), Code::POST);
        let mut tag = None;
        #[cfg(feature = "send")]
        if what == Request::Send {
            tag = self.write_report(&mut writer, objects)?;
        }
        let session = self.sessions.get(slot).and_then(Option::as_ref).ok_or(SendError::Full)?;
        self.write_parameters(session, what, has_links, &mut writer)?;
        if has_links {
            let room = LARGEST.saturating_sub(REQUEST_OVERHEAD).saturating_sub(self.config.endpoint.len());
            let largest = Szx::fitting(room.min(self.config.block_size));
            let begun = self.session_mut(slot).and_then(|session| session.upload.take());
            let links = if begun.is_none() { Some(self.links(version, objects)) } else { None };
            if let (Some(session), Some(links)) = (self.session_mut(slot), links) {
                session.registration.links = links;
            }
            let mut upload = begun.unwrap_or(Upload::new(largest));
            tag = self.write_links(version, &mut upload, &mut writer, objects)?;
            if let Some(session) = self.session_mut(slot) {
                session.upload = Some(upload);
            }
        }
        if let Some(echo) = self.echo.as_ref().filter(|echo| usize::from(echo.slot) == slot) {
            writer.option(OptionNumber::ECHO, &echo.value)?;
        }
        if let Some(tag) = tag {
            writer.option(OptionNumber::REQUEST_TAG, &tag)?;
        }
        let session = self.sessions.get_mut(slot).and_then(Option::as_mut).ok_or(SendError::Full)?;
        let (peer, mut hook) = session.peer(now, rng).ok_or(SendError::Full)?;
        let token = peer.next_token(rng, |token| self.reporting.is_token(slot, token));
        let (id, range) = peer.request(now, Delivery::Confirmable, token, writer, &mut hook, rng)?;
        session.request = Some(Outstanding { id, what });
        match what {
            Request::Bootstrap => session.is_asked = true,
            Request::Register { .. } => session.registration.due = Due::default(),
            Request::Update { .. } => {
                session.registration.state = State::Updating;
                let objects = session.registration.due.objects && !has_links;
                session.registration.due = Due { objects, ..Due::default() };
            }
            Request::Deregister => {}
            #[cfg(feature = "send")]
            Request::Send => {}
        }
        Ok(range)
    }

    /// The endpoint client name, unless the server knows it by whom it talks to (LwM2M Core 1.1.1 §6.2.1; LwM2M 1.0 wants it).
    fn told_name(&self, session: &Session<O>, version: Version) -> Option<&str> {
        let security = self.core.accounts.security(session.security);
        let is_known = version >= Version::new(1, 1) && security.is_some_and(Security::is_proving_name);
        (self.config.names_itself || !is_known).then_some(self.config.endpoint)
    }

    /// Code, path and queries.
    fn write_parameters(
        &self,
        session: &Session<O>,
        what: Request,
        has_links: bool,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        let version = session.registration.version(self.config.version);
        let endpoint = self.told_name(session, version);
        let location = Location(&session.registration.location);
        let operation = match &what {
            Request::Bootstrap => {
                let preferred = self.bootstrap_format().map(Format::from);
                Operation::BootstrapRequest { endpoint, preferred }
            }
            Request::Deregister => Operation::Deregister { location },
            // Written with its body.
            #[cfg(feature = "send")]
            Request::Send => return Ok(()),
            Request::Register { lifetime, binding } => {
                let (binding, queue_mode) = self.binding_of(version, binding);
                let parameters = Parameters {
                    endpoint,
                    lifetime: Some(*lifetime),
                    version: Some(version),
                    binding: Some(binding),
                    queue_mode,
                    ..Parameters::default()
                };
                return mapping::emit_registration(&Operation::Register { parameters, links: &[] }, writer);
            }
            Request::Update { lifetime, binding } => {
                let mut parameters = Parameters::default();
                if *lifetime != session.registration.lifetime {
                    parameters.lifetime = Some(*lifetime);
                }
                if *binding != session.registration.binding {
                    let (binding, queue_mode) = self.binding_of(version, binding);
                    parameters.binding = Some(binding);
                    parameters.queue_mode = queue_mode;
                }
                let links = if has_links { Some(&[][..]) } else { None };
                return mapping::emit_registration(
                    &Operation::Update { location, parameters, links },
                    writer,
                );
            }
        };
        mapping::emit_registration(&operation, writer)
    }

    /// `b` and `Q`: in 1.0 the queue mode is a letter of the binding.
    fn binding_of<'b>(&self, version: Version, binding: &'b Binding) -> (&'b str, bool) {
        let is_queue = self.config.is_queue_mode || binding.is_queue();
        if version.minor > 0 {
            (binding.without_queue_str(), is_queue)
        } else if is_queue && !binding.is_queue() {
            ("UQ", false)
        } else {
            (binding.as_str(), false)
        }
    }

    /// Something may have changed the object list: an Update has to carry it only if it is not what the server knows.
    fn check_links(&mut self, slot: usize, objects: &mut [&mut dyn Object]) {
        let Some(session) = self.sessions.get(slot).and_then(Option::as_ref) else { return };
        let is_open = session.registration.state == State::Registered && session.upload.is_none();
        if !is_open || !session.registration.due.objects || self.is_table_changing() {
            return;
        }
        let version = session.registration.version(self.config.version);
        let links = self.links(version, objects);
        if let Some(session) = self.session_mut(slot) {
            session.registration.due.objects = session.registration.links != links;
        }
    }

    /// The hash of the object list.
    fn links(&mut self, version: Version, objects: &mut [&mut dyn Object]) -> [u8; 4] {
        let mut window = Window::new(&mut [], 0);
        // A window without space takes everything.
        let root = Root { alternate: self.config.alternate(), formats: &[] };
        let _ = self.core.with_tree(false, objects, |tree| tree.emit_links(version, &root, &mut window));
        window.etag()
    }

    /// The list of objects, or the block of it that is due; the Request-Tag that belongs to it.
    fn write_links(
        &mut self,
        version: Version,
        upload: &mut Upload,
        writer: &mut Writer<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<Option<[u8; 4]>, WriteFailed> {
        let root = Root { alternate: self.config.alternate(), formats: &[] };
        self.write_upload(upload, writer, objects, &mut |tree, sink| {
            tree.emit_links(version, &root, sink).map_err(Error::from)
        })
    }

    /// A body, or the block of it that is due; the Request-Tag that belongs to it.
    pub(crate) fn write_upload(
        &mut self,
        upload: &mut Upload,
        writer: &mut Writer<'_>,
        objects: &mut [&mut dyn Object],
        produce: &mut dyn FnMut(&mut Tree<'_, '_, '_>, &mut dyn Sink) -> Result<(), Error>,
    ) -> Result<Option<[u8; 4]>, WriteFailed> {
        const BLOCK_OPTIONS: usize = 61;
        let mut window = upload.window(writer.body(BLOCK_OPTIONS));
        let produced = self.core.with_tree(false, objects, |tree| produce(tree, &mut window));
        produced.map_err(|_| WriteFailed::TooLong)?;
        let portion = match upload.portion(&window) {
            Ok(portion) => portion,
            Err(UploadError::Changed) => {
                // It is sent from its beginning.
                self.is_due = true;
                return Err(WriteFailed::Changed);
            }
            Err(_) => return Err(WriteFailed::TooLong),
        };
        let options = |writer: &mut Writer<'_>| -> Result<(), WriteError> {
            writer.set_body(portion.length)?;
            if let Some(block) = portion.block {
                writer.block1(block)?;
            }
            if let Some(size) = portion.size {
                writer.uint(OptionNumber::SIZE1, size)?;
            }
            Ok(())
        };
        options(writer).map_err(|_| WriteFailed::TooLong)?;
        Ok(portion.tag)
    }

    /// Takes the response to a request of ours.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        slot: usize,
        id: RequestId,
        message: &Message<'_>,
        #[cfg_attr(not(feature = "send"), expect(unused_variables, reason = "of reports"))]
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) {
        let Some(session) = self.session_mut(slot) else { return };
        let Some(request) = session.request.take_if(|request| request.id == id) else { return };
        self.is_due = true;
        let code = message.code;
        // RFC 8613 Appendix B.2: once more under the new keys.
        #[cfg(feature = "oscore")]
        let is_rederiving = self.is_rederiving(slot);
        #[cfg(not(feature = "oscore"))]
        let is_rederiving = false;
        let is_echoed = self.echo.take_if(|echo| usize::from(echo.slot) == slot).is_some();
        let Some(session) = self.session_mut(slot) else { return };
        // RFC 9175 §2.3: the same request once more, with the value. Who refuses that too refuses the request.
        let echo = message.options.echo().filter(|_| !is_echoed || is_rederiving);
        if code == Code::UNAUTHORIZED && (echo.is_some() || is_rederiving) {
            match request.what {
                Request::Bootstrap => session.is_asked = false,
                Request::Update { .. } => session.registration.due.refresh |= session.registration.reopen(),
                Request::Register { .. } | Request::Deregister => {}
                #[cfg(feature = "send")]
                Request::Send => {}
            }
            self.echo = echo.map(|value| Echo {
                slot: u8::try_from(slot).unwrap_or_default(),
                value: Vec::from_slice(value).unwrap_or_default(),
            });
            return;
        }
        if code == Code::SERVICE_UNAVAILABLE && matches!(request.what, Request::Update { .. }) {
            let had_objects = session.upload.take().is_some();
            let earliest = now.after_secs(pause(message).max(SHORTEST_PAUSE));
            return session.registration.postpone_update(now, earliest, had_objects);
        }
        #[cfg(feature = "send")]
        if request.what == Request::Send {
            return self.report_answered(message, objects);
        }
        let uploaded = session.upload.as_mut().map(|upload| upload.handle(message));
        match uploaded {
            Some(Ok(Uploaded::Continue)) => {
                // The next portion goes out as the same request.
                if let Request::Update { .. } = request.what {
                    session.registration.due.objects |= session.registration.reopen();
                }
                return;
            }
            Some(Ok(Uploaded::Done)) | None => session.upload = None,
            Some(Err(_)) => {
                session.upload = None;
                self.attempt_failed(now, slot, Reason::Refused(code.as_u8()), rng);
                return self.postpone(now, slot, request.what, message, rng);
            }
        }
        match request.what {
            Request::Bootstrap if code == Code::CHANGED => self.bootstrap.heard(now),
            // It is asked again, in whatever format it writes.
            Request::Bootstrap
                if code == Code::UNSUPPORTED_CONTENT_FORMAT && self.bootstrap_format().is_some() =>
            {
                self.bootstrap.is_format_refused = true;
                if let Some(session) = self.session_mut(slot) {
                    session.is_asked = false;
                }
            }
            Request::Bootstrap => self.bootstrap_failed(now, Reason::Refused(code.as_u8()), rng),
            Request::Register { lifetime, binding } => {
                self.registered(now, slot, (lifetime, binding), message, rng)
            }
            Request::Update { lifetime, binding } => self.updated(now, slot, (lifetime, binding), code),
            Request::Deregister => self.deregistered(now, slot),
            #[cfg(feature = "send")]
            Request::Send => {}
        }
        self.postpone(now, slot, request.what, message, rng);
    }

    /// A server that answers 5.03 to Register or Bootstrap-Request is left alone for as long as it says.
    fn postpone(
        &mut self,
        now: Instant,
        slot: usize,
        what: Request,
        message: &Message<'_>,
        rng: &mut Rng<'_>,
    ) {
        if message.code != Code::SERVICE_UNAVAILABLE {
            return;
        }
        let mut random = [0];
        rng(&mut random);
        let [random] = random;
        let earliest = spread(now, pause(message), random);
        if what == Request::Bootstrap {
            self.bootstrap.postpone(earliest);
        } else if let Some(session) = self.session_mut(slot) {
            session.registration.postpone(earliest);
        }
    }

    fn registered(
        &mut self,
        now: Instant,
        slot: usize,
        (lifetime, binding): (u32, Binding),
        message: &Message<'_>,
        rng: &mut Rng<'_>,
    ) {
        let (is_stopping, newest) = (self.is_stopping, self.config.version);
        let Some(session) = self.session_mut(slot) else { return };
        let Role::Server(server) = session.role else { return };
        if session.registration.state != State::Registering {
            return;
        }
        let location = mapping::location(message).filter(|_| message.code == Code::CREATED);
        let Some(location) = location else {
            // Core 1.1.1 §6.2.1: the version is not supported. The one before is tried at once.
            if message.code == Code::PRECONDITION_FAILED && session.registration.fall_back(newest) {
                let reason = Reason::Refused(message.code.as_u8());
                return self.notice(Notice::RegistrationRetry { server, reason });
            }
            return self.attempt_failed(now, slot, Reason::Refused(message.code.as_u8()), rng);
        };
        session.registration.location = location;
        session.registration.registered(now, lifetime, binding);
        #[cfg(feature = "resumption")]
        {
            session.resumption.is_doubted = false;
        }
        if is_stopping {
            session.registration.state = State::Deregistering { then: Then::Stop };
        }
        // Core 1.1.1 §6.4: a new registration starts without observations.
        self.reporting.forget_session(slot);
        self.notice(Notice::Registered { server });
    }

    fn updated(&mut self, now: Instant, slot: usize, (lifetime, binding): (u32, Binding), code: Code) {
        let Some(session) = self.session_mut(slot) else { return };
        let Role::Server(server) = session.role else { return };
        if session.registration.state != State::Updating {
            return;
        }
        if code == Code::CHANGED {
            session.registration.state = State::Registered;
            session.registration.refreshed(now, lifetime, binding);
            self.notice(Notice::Updated { server });
        } else {
            // Core 1.1.1 §6.2.2: the server does not know this registration any more.
            session.registration.forget();
            session.registration.state = State::Registering;
            self.reporting.forget_session(slot);
            self.notice(Notice::RegistrationRetry { server, reason: Reason::Refused(code.as_u8()) });
        }
    }
}

/// Whether what could not be sent goes out later.
pub(crate) const fn is_to_wait(error: SendError) -> bool {
    #[cfg(feature = "oscore")]
    if matches!(error, SendError::Protect(Unprotectable::NoSequence)) {
        return true;
    }
    matches!(error, SendError::Busy | SendError::Full)
}

/// RFC 7252 §5.9.3.4: for how many seconds a server that answers 5.03 wants to be left alone.
fn pause(message: &Message<'_>) -> u32 {
    let seconds = message.options.uint(OptionNumber::MAX_AGE).unwrap_or(DEFAULT_PAUSE);
    // Departure: an hour at most, so that no answer takes a device away for good.
    seconds.min(LONGEST_PAUSE)
}
