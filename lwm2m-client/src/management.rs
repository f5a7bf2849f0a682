//! Requests of servers: who may ask what and when, bodies put together, operations performed.
//!
//! LwM2M Core 1.1.1 §6.1.7, §6.3, §6.4, §7.3. Invariant: a management server never reaches the bootstrap interface, and
//! the bootstrap server reaches the device only while a bootstrap is under way.

use core::cmp::Reverse;

use heapless::Vec;
use lwm2m_coap::block::{Block, Received, Szx};
use lwm2m_coap::{Code, Input, Instant, Message, Rng, Sent, Sink};
use lwm2m_objects::{Access, Context, Error, Format, Object, Operation, Outcome, Path, mapping};

use crate::access::{AccessControl, Alone, Guard, Rights};
use crate::account::{Instance, ShortServerId};
use crate::assembly::Assembly;
use crate::bootstrap::Phase;
use crate::client::Client;
use crate::core_objects::{self, AccessObject};
use crate::error::Reason;
use crate::event::Role;
use crate::persist::Key;
use crate::reply::{Body, Content, Reply};
use crate::server::Server;
use crate::session::Exchange;
use crate::storage::{AfterSave, Job};

/// What a message is, before it is taken: an answer that is due blocks only requests.
fn is_request(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|code| Code::from_u8(*code).is_request())
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Takes a CoAP message of a server, decrypted.
    #[inline(never)]
    pub(crate) fn receive_message(
        &mut self,
        now: Instant,
        slot: usize,
        datagram: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) {
        #[cfg(feature = "std")]
        self.show(slot, false, datagram);
        let is_request = is_request(datagram);
        let Some(session) = self.session_mut(slot) else { return };
        // A request that cannot be taken now is as lost: the server sends it again. Core 1.1.1 §6.2.1: nothing is asked of
        // a client that is not registered.
        let is_alive = session.registration.is_alive() || session.role == Role::Bootstrap;
        let is_blocked = is_request && (session.reply.is_some() || !is_alive);
        #[cfg(feature = "oscore")]
        if self.awaits_secret(now, slot, datagram) {
            self.is_due = true;
            return self.drop_datagram();
        }
        #[cfg(feature = "oscore")]
        let keys = self.generation(slot);
        #[cfg(feature = "oscore")]
        let Some(session) = self.session_mut(slot) else { return };
        let Some((peer, mut hook)) = session.peer(now, rng).filter(|_| !is_blocked) else {
            return self.drop_datagram();
        };
        let input = peer.handle(now, datagram, &mut hook);
        #[cfg(feature = "oscore")]
        let is_verified =
            matches!(input, Input::Request { .. } | Input::Unacceptable { .. } | Input::Response { .. });
        match input {
            #[cfg_attr(not(feature = "oscore"), expect(unused_mut, reason = "nothing proves a request"))]
            Input::Request { mut exchange, message } => {
                #[cfg(feature = "oscore")]
                let refusal = self.refusal_of(now, slot, &mut exchange, &message);
                #[cfg(not(feature = "oscore"))]
                let refusal = None;
                let reply = match refusal {
                    Some(body) => Reply::new(exchange, body, None),
                    None => self.handle_request(now, slot, exchange, &message, objects),
                };
                if let Some(session) = self.session_mut(slot) {
                    session.reply = Some(reply);
                }
            }
            Input::Unacceptable { exchange, number } => {
                if let Some(session) = self.session_mut(slot) {
                    session.reply = Some(Reply::new(exchange, Body::Code(number.refused_with()), None));
                }
            }
            Input::Response { request, message } => {
                self.handle_response(now, slot, request, &message, objects, rng)
            }
            // A client observes nothing: whatever it is, nobody waits for it.
            Input::Unsolicited { header, .. } => peer.reject(header),
            Input::Reset(Sent::Notification(token)) => self.reporting.cancel(slot, token),
            Input::Reset(Sent::Request(id)) => {
                if self
                    .session_mut(slot)
                    .is_some_and(|session| session.request.is_some_and(|request| request.id == id))
                {
                    self.request_failed(now, slot, Reason::Reset, rng);
                }
            }
            Input::Ignored(_) => self.drop_datagram(),
            Input::Acknowledged(_) | Input::Reset(Sent::Response(_)) | Input::Duplicate => {}
        }
        #[cfg(feature = "oscore")]
        self.heed(now, slot, keys, is_verified);
    }

    #[inline(never)]
    fn handle_request(
        &mut self,
        now: Instant,
        slot: usize,
        exchange: Exchange,
        message: &Message<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Reply {
        let role = self.role_of(slot).unwrap_or(Role::Bootstrap);
        let is_open = match role {
            Role::Bootstrap => self.bootstrap.is_open(),
            Role::Server(_) => true,
        };
        if !is_open {
            return Reply::new(exchange, Body::Code(Code::UNAUTHORIZED), None);
        }
        if role != Role::Bootstrap && self.is_table_changing() {
            return Reply::new(exchange, Body::Code(Code::SERVICE_UNAVAILABLE), None);
        }
        if role == Role::Bootstrap {
            self.bootstrap.heard(now);
        }
        let (block1, body) = match self.take_body(now, slot, message, objects) {
            Ok(taken) => taken,
            Err((block1, body)) => return Reply::new(exchange, body, block1),
        };
        let body = match body {
            Some(length) => {
                let assembled = core::mem::take(&mut self.body);
                let payload = assembled.get(..length).unwrap_or_default();
                let body = self.operate(now, slot, &exchange, &Message { payload, ..*message }, objects);
                // Back where it was, so that it is wiped there: it may have held a key.
                self.body = assembled;
                self.reset_assembly();
                body
            }
            None => self.operate(now, slot, &exchange, message, objects),
        };
        match body {
            // Bootstrap-Finish is answered when the accounts are safe.
            Ok((body, is_held)) => {
                let reply = Reply::new(exchange, body, block1);
                if is_held { reply.held() } else { reply }
            }
            Err(error) => Reply::new(exchange, Body::Code(mapping::code(&Err(error))), block1),
        }
    }

    /// Takes the body of a request. `Ok` with the length of an assembled body, or nothing when the message carries all of
    /// it; `Err` with the answer to a block that is not the last, or that is refused.
    #[expect(clippy::type_complexity, reason = "used once")]
    #[inline(never)]
    fn take_body(
        &mut self,
        now: Instant,
        slot: usize,
        message: &Message<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<(Option<Block>, Option<usize>), (Option<Block>, Body)> {
        let block1 = message.options.block1();
        if block1 == Ok(None) {
            return Ok((None, None));
        }
        let is_first = matches!(block1, Ok(Some(block)) if block.number() == 0);
        let largest = Szx::fitting(self.config.block_size);
        let streamed = self.streamed_path(slot, message, objects);
        let cap = if streamed.is_some() { Assembly::STREAMED } else { u32::try_from(B).unwrap_or(u32::MAX) };
        // The body buffer may be on its way to storage.
        let is_busy = streamed.is_none() && matches!(self.storage.job, Job::Save { .. });
        let receive = self.assembly.receive(now, slot, is_first, largest, cap).filter(|_| !is_busy);
        let Some(receive) = receive else { return Err((None, Body::Code(Code::SERVICE_UNAVAILABLE))) };
        let (offset, bytes, last, answer) = match receive.handle(message) {
            Ok(Received::Part { offset, bytes, last, answer }) => (offset, bytes, last, answer),
            Ok(Received::Repeated { answer }) => return Err((Some(answer), Body::Code(Code::CONTINUE))),
            Err(refusal) => {
                if !receive.is_active() {
                    self.reset_assembly();
                }
                return Err((None, Body::Refused(refusal)));
            }
        };
        if let Some(path) = streamed {
            if last && self.session_mut(slot).is_some_and(|session| session.deferred.is_some()) {
                self.reset_assembly();
                return Err((None, Body::Code(Code::SERVICE_UNAVAILABLE)));
            }
            let taken = self.write_chunk(slot, path, (offset, bytes, last), objects);
            return match taken {
                Ok(Outcome::Continue) => Err((answer, Body::Code(Code::CONTINUE))),
                Ok(Outcome::Deferred) => Err((answer, Body::Deferred(path))),
                Ok(_) => Err((answer, Body::Code(Code::CHANGED))),
                Err(error) => {
                    self.reset_assembly();
                    Err((None, Body::Code(mapping::code(&Err(error)))))
                }
            };
        }
        if offset == 0 {
            self.body.clear();
        }
        if self.body.extend_from_slice(bytes).is_err() {
            self.reset_assembly();
            return Err((None, Body::Code(Code::REQUEST_ENTITY_TOO_LARGE)));
        }
        if last { Ok((answer, Some(self.body.len()))) } else { Err((answer, Body::Code(Code::CONTINUE))) }
    }

    /// Drops what was assembled; a block that follows is refused with 4.08.
    pub(crate) fn reset_assembly(&mut self) {
        self.free_body();
        self.assembly.clear();
    }

    /// Takes the body buffer for something else; what is streamed goes on.
    pub(crate) fn free_body(&mut self) {
        zeroize::Zeroize::zeroize(self.body.as_mut_slice());
        self.body.clear();
        self.assembly.give_way();
    }

    fn streamed_path(
        &mut self,
        slot: usize,
        message: &Message<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Option<Path> {
        let Some(Role::Server(_)) = self.role_of(slot) else { return None };
        match mapping::management(message, self.config.alternate()).ok()? {
            Operation::Write { target, content, .. } if content.format == Format::OPAQUE => {
                let path = target.path;
                self.core.with_tree(false, objects, |tree| tree.is_streamed(path)).then_some(path)
            }
            _ => None,
        }
    }

    fn write_chunk(
        &mut self,
        slot: usize,
        path: Path,
        (offset, bytes, last): (u32, &[u8], bool),
        objects: &mut [&mut dyn Object],
    ) -> Result<Outcome, Error> {
        let guard = self.guard(self.role_of(slot).ok_or(Error::Internal)?);
        let context = Context { access: Self::access(&guard), ..Context::default() };
        let outcome = self
            .core
            .with_tree(false, objects, |tree| tree.write_chunk(path, &context, offset, bytes, last))?;
        self.reporting.changed(path);
        Ok(outcome)
    }

    /// Performs the operation that a whole request stands for; the answer, and whether it waits for the storage.
    fn operate(
        &mut self,
        now: Instant,
        slot: usize,
        exchange: &Exchange,
        message: &Message<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<(Body, bool), Error> {
        let role = self.role_of(slot).ok_or(Error::Internal)?;
        // Borrowed rather than unwrapped: an operation is too large to be moved about.
        let operation = match role {
            Role::Bootstrap => mapping::bootstrap(message),
            Role::Server(_) => mapping::management(message, self.config.alternate()),
        };
        let operation = operation.as_ref().map_err(|error| *error)?;
        let block2 = message.options.block2().map_err(|_| Error::BadRequest)?;
        let preferred = self.preferred_format(slot);
        let content = |what, accept: Option<Format>| {
            let format = match what {
                Content::Discover(..) | Content::BootstrapDiscover(_) => Format::LINK,
                _ => accept.unwrap_or(preferred),
            };
            Ok((Body::Content { what, format, block2 }, false))
        };
        match *operation {
            Operation::Read { target, accept } => content(Content::Read(target.path), accept),
            Operation::Discover { target, depth } => content(Content::Discover(target.path, depth), None),
            Operation::BootstrapRead { path, accept } => content(Content::BootstrapRead(path), accept),
            Operation::BootstrapDiscover { path } => content(Content::BootstrapDiscover(path), None),
            Operation::Observe { target, accept } => {
                // A later block of a notification is read, not observed.
                let is_first = block2.is_none_or(|block| block.number() == 0);
                let what = if is_first { Content::Observe(target.path) } else { Content::Read(target.path) };
                content(what, accept)
            }
            Operation::CancelObservation { target, accept } => {
                let answer = content(Content::Read(target.path), accept);
                self.reporting.cancel_path(slot, exchange.token(), target.path);
                answer
            }
            #[cfg(feature = "composite")]
            Operation::ReadComposite { ref paths, accept } => {
                self.select(slot, message, paths)?;
                content(Content::ReadComposite, accept)
            }
            #[cfg(feature = "composite")]
            Operation::ObserveComposite { ref paths, accept } => {
                self.select(slot, message, paths)?;
                let is_first = block2.is_none_or(|block| block.number() == 0);
                content(if is_first { Content::ObserveComposite } else { Content::ReadComposite }, accept)
            }
            #[cfg(feature = "composite")]
            Operation::CancelObservationComposite { ref paths, accept } => {
                self.select(slot, message, paths)?;
                self.cancel_composite(slot, exchange.token());
                content(Content::ReadComposite, accept)
            }
            Operation::BootstrapFinish => self.finish_bootstrap(objects),
            _ => self.perform(now, slot, role, operation, objects),
        }
    }

    /// Performs an operation that changes something.
    fn perform(
        &mut self,
        now: Instant,
        slot: usize,
        role: Role,
        operation: &Operation<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<(Body, bool), Error> {
        // Accounts come from the bootstrap server alone, and the rights to an instance come and go with it.
        if let Operation::Create { target, .. } | Operation::Delete { target } = operation
            && role != Role::Bootstrap
            && matches!(target.path.object_id(), Some(1 | 2))
            && target.path.resource_id().is_none()
        {
            return Err(Error::MethodNotAllowed);
        }
        if let Operation::Execute { .. } | Operation::Write { .. } = operation
            && self.session_mut(slot).is_some_and(|session| session.deferred.is_some())
        {
            return Err(Error::Unavailable);
        }
        let guard = self.guard(role);
        let reporting = &self.reporting;
        let version = self.version_of(slot);
        let is_bootstrap = role == Role::Bootstrap;
        let outcome = self.core.with_tree(is_bootstrap, objects, |tree| {
            let attributes = |path| match role {
                Role::Server(id) => reporting.attributes_at(id, path),
                Role::Bootstrap => Default::default(),
            };
            let context = Context {
                access: Self::access(&guard),
                attributes: &attributes,
                version,
                ..Context::default()
            };
            tree.perform(operation, &context, &mut NoBody)
        })?;
        match (role, operation) {
            (Role::Server(id), _) => self.note_change(id, operation, outcome, objects)?,
            (Role::Bootstrap, Operation::BootstrapDelete { .. }) => {
                let reporting = &mut self.reporting;
                self.core.with_tree(true, objects, |tree| reporting.forget_deleted(tree));
            }
            _ => {}
        }
        self.act_on_execution(now);
        let is_held = is_bootstrap && self.drain_staging();
        Ok((
            match outcome {
                Outcome::Created(Some(path)) => Body::Created(path),
                Outcome::Created(None) => Body::Code(Code::CREATED),
                Outcome::Deleted => Body::Code(Code::DELETED),
                Outcome::Deferred => match operation {
                    Operation::Execute { target, .. } | Operation::Write { target, .. } => {
                        Body::Deferred(target.path)
                    }
                    _ => Body::Code(Code::CHANGED),
                },
                _ => Body::Code(Code::CHANGED),
            },
            is_held,
        ))
    }

    /// What follows from a change that a management server made.
    fn note_change(
        &mut self,
        server: ShortServerId,
        operation: &Operation<'_>,
        outcome: Outcome,
        objects: &mut [&mut dyn Object],
    ) -> Result<(), Error> {
        match *operation {
            Operation::Write { target, .. } => {
                self.reporting.changed(target.path);
                self.is_changed |= matches!(target.path.object_id(), Some(1 | 2));
            }
            #[cfg(feature = "composite")]
            Operation::WriteComposite { prefix, content } => self.note_composite(prefix, content),
            Operation::Execute { target, .. } => self.reporting.changed(target.path),
            Operation::WriteAttributes { ref target, ref change } => {
                self.attach(server, target.path, change, objects)?;
            }
            Operation::Create { .. } => {
                if let Outcome::Created(Some(path)) = outcome {
                    self.grant(server, path);
                    self.reporting.changed(path);
                    self.instances_changed();
                }
            }
            Operation::Delete { target } => {
                self.reporting.forget_instance(target.path);
                self.is_changed |= matches!(target.path.object_id(), Some(1 | 2));
                if let (Some(object), Some(instance), None) =
                    (target.path.object_id(), target.path.instance_id(), target.path.resource_id())
                {
                    self.withdraw(object, instance);
                    self.instances_changed();
                }
            }
            _ => {}
        }
        self.is_due = true;
        Ok(())
    }

    /// Core 1.1.1 §7.3.1.2: who creates an instance while access control is on owns it.
    fn grant(&mut self, server: ShortServerId, path: Path) {
        if A == 0 || !self.is_guarded() {
            return;
        }
        let mut instance = 0_u16;
        while self.core.access.iter().any(|access| access.instance == instance) {
            instance = instance.saturating_add(1);
        }
        let mut access = AccessControl::empty(instance);
        access.object = path.object_id();
        access.object_instance = path.instance_id();
        access.owner = Some(server.get());
        let own = access.list.push((server.get(), Rights::ALL));
        let at = self.core.access.iter().position(|other| other.instance > instance);
        let at = at.unwrap_or(self.core.access.len());
        // Without room the instance belongs to nobody: only the bootstrap server can give rights to it.
        if own.is_ok() && self.core.access.insert(at, access).is_ok() {
            self.is_changed = true;
        }
    }

    /// The rights to an instance go with it.
    fn withdraw(&mut self, object: u16, instance: u16) {
        if A == 0 {
            return;
        }
        let mut gone = None;
        self.core.access.retain(|access| {
            let is_about = access.object == Some(object) && access.object_instance == Some(instance);
            if is_about {
                gone = Some(access.instance);
            }
            !is_about
        });
        if let Some(gone) = gone {
            self.is_changed |= self.core.staging.credentials.remove(Key::AccessControl(gone));
        }
    }

    /// Core 1.1.1 appendix E.1 (Unbootstrapping): a server whose account has gone loses its rights. What it owned goes to the server that
    /// may write and delete most of it, and what no server may reach without it is deleted.
    fn unbootstrap(&mut self, objects: &mut [&mut dyn Object]) {
        if A == 0 {
            return;
        }
        let accounts = &self.core.accounts;
        let known = self.sessions.iter().flatten().filter_map(|session| match session.role {
            Role::Server(id) if accounts.server_of(id).is_none() => Some(id.get()),
            _ => None,
        });
        let gone: Vec<u16, S> = known.collect();
        for index in (0..self.core.access.len()).rev() {
            let Some(access) = self.core.access.get_mut(index) else { continue };
            if !access.forget(&gone) {
                continue;
            }
            let (entry, object, instance) = (access.instance, access.object, access.object_instance);
            let table = AccessObject { table: &mut self.core.access, is_bootstrap: true };
            let left = self.core.accounts.servers.iter().filter_map(Server::short_server_id);
            let left = left.map(|server| (server, Guard { server, is_on: true }.rights(&table, entry)));
            let heir = left
                .filter(|(_, rights)| rights.bits() & Rights::OWNER.bits() != 0)
                .max_by_key(|(server, rights)| (rights.weight(), Reverse(*server)));
            if let (None, Some(object), Some(instance)) = (heir, object, instance)
                && self.remove(object, instance, objects)
            {
                self.withdraw(object, instance);
            } else if let Some(access) = self.core.access.get_mut(index) {
                let heir = heir.map_or(AccessControl::BOOTSTRAP, |(server, _)| server.get());
                access.owner.get_or_insert(heir);
            }
        }
    }

    /// Deletes an instance that no server may reach, but for accounts; whether there is none any more.
    fn remove(&mut self, object: u16, instance: u16, objects: &mut [&mut dyn Object]) -> bool {
        let path = Path::instance(object, instance);
        let delete = Operation::BootstrapDelete { path };
        let is_gone = instance != AccessControl::OBJECT_LEVEL
            && self.core.with_tree(true, objects, |tree| {
                let is_account = matches!(object, 0..=2);
                !tree.has_instance(object, instance)
                    || !is_account && tree.perform(&delete, &Context::default(), &mut NoBody).is_ok()
            });
        if is_gone {
            self.reporting.forget_instance(path);
        }
        is_gone
    }

    /// Core 1.1.1 §6.1.7.6: 2.04 waits for the commit; 4.06 for a configuration that cannot work.
    fn finish_bootstrap(&mut self, objects: &mut [&mut dyn Object]) -> Result<(Body, bool), Error> {
        self.core.accounts.drop_halves();
        if self.core.accounts.check(self.config.means()).is_err() {
            return Err(Error::NotAcceptable);
        }
        self.unbootstrap(objects);
        self.core.accounts.date(core_objects::clock(objects));
        self.bootstrap.phase = Phase::Saving;
        self.storage.start(Job::Save { number: 0, then: AfterSave::Bootstrap });
        Ok((Body::Code(Code::CHANGED), true))
    }

    /// Completes an operation that an object deferred at this path: its answer goes to the server that asked.
    /// Afterwards drain [`Client::poll_transmit`]. Nothing happens when none is deferred there.
    pub fn complete(&mut self, path: Path, result: Result<(), Error>) {
        let code = mapping::code(&result.map(|()| Outcome::Changed));
        for session in self.sessions.iter_mut().flatten() {
            let is_reply = session.reply.as_mut().is_some_and(|reply| reply.complete(path, code));
            let mut is_deferred = false;
            if let Some(deferred) =
                session.deferred.as_mut().filter(|deferred| deferred.path == path && !is_reply)
            {
                is_deferred = deferred.code.replace(code).is_none();
            }
            if is_reply || is_deferred {
                self.is_due = true;
                return;
            }
        }
    }

    /// The rights of a server.
    pub(crate) fn guard(&self, role: Role) -> (Guard, Alone) {
        let guard = match role {
            Role::Server(server) => Guard { server, is_on: self.is_guarded() },
            Role::Bootstrap => Guard { server: ShortServerId::LAST, is_on: false },
        };
        (guard, Alone(!guard.is_on))
    }

    /// The rights as far as this client has room for them.
    pub(crate) fn access((guard, alone): &(Guard, Alone)) -> &dyn Access {
        if A == 0 { alone } else { guard }
    }

    /// Core 1.1.1 §7.3.1: access control is on as soon as there are several servers.
    pub(crate) fn is_guarded(&self) -> bool {
        self.core.accounts.servers.len() > 1
    }

    /// Whether the accounts in memory are not those that count.
    pub(crate) fn is_table_changing(&self) -> bool {
        self.bootstrap.is_open() || self.bootstrap.phase == Phase::Saving || !self.is_table_ready()
    }

    fn preferred_format(&self, slot: usize) -> Format {
        if self.version_of(slot).minor == 0 { Format::TLV } else { Format::SENML_CBOR }
    }
}

/// Takes the body of an operation that has none.
struct NoBody;

impl Sink for NoBody {
    fn write(&mut self, bytes: &[u8]) -> Result<(), lwm2m_coap::Full> {
        if bytes.is_empty() { Ok(()) } else { Err(lwm2m_coap::Full) }
    }
}
