//! Answers to what servers ask: decided when the request comes, written when there is a buffer for it.
//!
//! Bodies are produced into the datagram, block by block, and held nowhere (RFC 7959 §2.4). Invariant: an answer that
//! waits for the storage leaves only after the storage has answered.

use core::ops::Range;

use lwm2m_coap::block::{Block, Head, Refusal, Serve, ServeError, Served, Szx};
use lwm2m_coap::{Code, ContentFormat, Delivery, Instant, OptionNumber, Rng, Writer};
#[cfg(feature = "composite")]
use lwm2m_objects::Paths;
use lwm2m_objects::{Context, Error, Format, Object, Operation, Path, Target, decimal, mapping};

use crate::client::Client;
use crate::event::Role;
use crate::observation::Observation;
use crate::requests::is_to_wait;
use crate::session::{Deferred, Exchange};

/// One answer.
pub(crate) struct Reply {
    exchange: Exchange,
    body: Body,
    /// Block1 of the request, to be confirmed.
    block1: Option<Block>,
    /// It waits for the storage.
    is_held: bool,
}

/// What an answer carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// Nothing but its code.
    Code(Code),
    /// 2.01 with the path of the instance.
    Created(Path),
    /// A block is refused.
    Refused(Refusal),
    /// 2.05 with what an operation gives.
    Content { what: Content, format: Format, block2: Option<Block> },
    /// 4.01 with what is to come back with the request.
    #[cfg(feature = "oscore")]
    Challenge,
    /// An empty acknowledgement; the response follows when the object says so.
    Deferred(Path),
}

/// Operations whose answer is performed again for each block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Read(Path),
    Observe(Path),
    /// Of the places that are selected.
    #[cfg(feature = "composite")]
    ReadComposite,
    #[cfg(feature = "composite")]
    ObserveComposite,
    Discover(Path, Option<u8>),
    BootstrapRead(Path),
    BootstrapDiscover(Path),
}

impl Content {
    #[cfg_attr(not(feature = "composite"), expect(unused_variables, reason = "of composite operations"))]
    fn operation<'p>(self, format: Format, prefix: Option<&'p str>, places: &'p [Path]) -> Operation<'p> {
        match self {
            #[cfg(feature = "composite")]
            Content::ReadComposite | Content::ObserveComposite => Operation::ReadComposite {
                paths: Paths::List { prefix, paths: places },
                accept: Some(format),
            },
            Content::Read(path) | Content::Observe(path) => {
                Operation::Read { target: Target { prefix, path }, accept: Some(format) }
            }
            Content::Discover(path, depth) => Operation::Discover { target: path.into(), depth },
            Content::BootstrapRead(path) => Operation::BootstrapRead { path, accept: Some(format) },
            Content::BootstrapDiscover(path) => Operation::BootstrapDiscover { path },
        }
    }
}

impl Reply {
    pub(crate) fn new(exchange: Exchange, body: Body, block1: Option<Block>) -> Self {
        Reply { exchange, body, block1, is_held: false }
    }

    /// Completes an operation that was to be deferred, before its acknowledgement went out; whether it was this one.
    pub(crate) fn complete(&mut self, path: Path, code: Code) -> bool {
        let is_here = matches!(self.body, Body::Deferred(deferred) if deferred == path);
        if is_here {
            self.body = Body::Code(code);
        }
        is_here
    }

    /// Whether it is about the places that are selected.
    #[cfg(feature = "composite")]
    pub(crate) const fn is_composite(&self) -> bool {
        matches!(self.body, Body::Content { what: Content::ReadComposite | Content::ObserveComposite, .. })
    }

    /// Keeps the answer until [`Reply::release`].
    pub(crate) fn held(self) -> Self {
        Reply { is_held: true, ..self }
    }

    /// The storage has answered: the reply goes, and says so when the storage failed.
    pub(crate) fn release(&mut self, is_stored: bool) {
        if core::mem::take(&mut self.is_held) && !is_stored {
            self.body = Body::Code(Code::INTERNAL_SERVER_ERROR);
        }
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Writes the answer that is due to a server; the message's place in `out`.
    pub(crate) fn poll_reply(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<Range<usize>> {
        let session = self.session_mut(slot)?;
        let room = session.room();
        if session.reply.is_none()
            && let Some(Deferred { exchange, code: Some(code), block1, .. }) =
                session.deferred.take_if(|deferred| deferred.code.is_some())
        {
            session.reply = Some(Reply::new(exchange, Body::Code(code), block1));
        }
        let mut reply = session.reply.take_if(|reply| !reply.is_held)?;
        if let Body::Deferred(path) = reply.body {
            session.peer.as_mut()?.defer(&mut reply.exchange, Delivery::Confirmable);
            session.deferred =
                Some(Deferred { exchange: reply.exchange, path, block1: reply.block1, code: None });
            return None;
        }
        let mut writer = Writer::new(out, room, Code::CONTENT);
        let code = match self.write_reply(now, slot, &reply, &mut writer, objects) {
            Ok(code) => code,
            Err(code) => {
                writer.restart(code);
                code
            }
        };
        let session = self.session_mut(slot)?;
        let (peer, mut hook) = session.peer(now, rng)?;
        let sent = peer.respond(now, &mut reply.exchange, writer, &mut hook, rng);
        match sent {
            Ok(range) => {
                if !code.is_success() {
                    self.counters.refused = self.counters.refused.saturating_add(1);
                }
                Some(range)
            }
            // A separate response waits for its turn.
            Err(error) if is_to_wait(error) => {
                session.reply = Some(reply);
                None
            }
            Err(_) => None,
        }
    }

    fn write_reply(
        &mut self,
        now: Instant,
        slot: usize,
        reply: &Reply,
        writer: &mut Writer<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<Code, Code> {
        let full = Code::INTERNAL_SERVER_ERROR;
        let mut code = Code::CONTENT;
        match reply.body {
            Body::Code(plain) => code = plain,
            #[cfg(feature = "oscore")]
            Body::Challenge => {
                self.write_challenge(now, slot, writer).map_err(|_| full)?;
                return Ok(Code::UNAUTHORIZED);
            }
            Body::Refused(refusal) => {
                refusal.write(writer).map_err(|_| full)?;
                return Ok(refusal.code);
            }
            Body::Created(path) => {
                code = Code::CREATED;
                for id in path.ids() {
                    let mut text = heapless::Vec::<u8, 8>::new();
                    decimal::emit_unsigned(u64::from(*id), &mut text).map_err(|_| full)?;
                    writer.option(OptionNumber::LOCATION_PATH, &text).map_err(|_| full)?;
                }
            }
            Body::Content { what, format, block2 } => {
                let observe = match what {
                    Content::Observe(path) => self.begin_observation(now, slot, reply, path, format, objects),
                    #[cfg(feature = "composite")]
                    Content::ObserveComposite => {
                        self.begin_composite(now, slot, &reply.exchange.observer(), format, objects)
                    }
                    _ => None,
                };
                let head = Head { observe, content_format: Some(ContentFormat(format.0)), max_age: None };
                let serve = Serve::new(block2, Szx::fitting(self.config.block_size));
                #[cfg(feature = "composite")]
                let places = self.selection.places.clone();
                #[cfg(not(feature = "composite"))]
                let places = [];
                let operation = what.operation(format, self.config.prefix(), &places);
                let written = self.write_content(slot, &operation, serve, &head, writer, objects);
                if let Err(error) = written {
                    self.reporting.cancel(slot, reply.exchange.token());
                    return Err(code_of_serve(error));
                }
            }
            Body::Deferred(_) => {}
        }
        writer.set_code(code);
        if let Some(block) = reply.block1 {
            writer.block1(block).map_err(|_| full)?;
        }
        Ok(code)
    }

    /// Performs an operation on behalf of a server, into the block that is due.
    pub(crate) fn write_content(
        &mut self,
        slot: usize,
        operation: &Operation<'_>,
        serve: Serve,
        head: &Head,
        writer: &mut Writer<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<Served, ServeError<Error>> {
        let Some(role) = self.role_of(slot) else { return Err(ServeError::Produce(Error::Internal)) };
        let guard = self.guard(role);
        let is_bootstrap = role == Role::Bootstrap;
        let version = self.version_of(slot);
        let reporting = &self.reporting;
        self.core.with_tree(is_bootstrap, objects, |tree| {
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
            serve.respond(writer, head, |sink| tree.perform(operation, &context, sink).map(|_| ()))
        })
    }

    fn begin_observation(
        &mut self,
        now: Instant,
        slot: usize,
        reply: &Reply,
        path: Path,
        format: Format,
        objects: &mut [&mut dyn Object],
    ) -> Option<u32> {
        let Some(Role::Server(id)) = self.role_of(slot) else { return None };
        let observer = reply.exchange.observer();
        let slot = u8::try_from(slot).ok()?;
        let mut observation = Observation::new(now, slot, id, observer, (path, format));
        self.reporting.replace(&mut observation);
        self.begin(observation, objects).then(|| self.reporting.advance())
    }

    pub(crate) fn role_of(&self, slot: usize) -> Option<Role> {
        Some(self.sessions.get(slot)?.as_ref()?.role)
    }
}

fn code_of_serve(error: ServeError<Error>) -> Code {
    match error {
        ServeError::Produce(error) => mapping::code(&Err(error)),
        ServeError::OutOfRange => Code::BAD_REQUEST,
        ServeError::Write(_) => Code::INTERNAL_SERVER_ERROR,
    }
}
