//! One server, as the client talks to it: the way there, the CoAP peer at its end, and what is under way with it.
//!
//! LwM2M Transport 1.1.1 §5. Invariant: a peer lives as long as its security association; a new handshake starts with a
//! new peer.

#[cfg(feature = "psk")]
use dtls_psk::{Connection, Handshake, NoHandshake};
#[cfg(all(feature = "psk", any(not(feature = "suites"), feature = "resumption")))]
use dtls_psk::{HEADROOM, TAILROOM};
use heapless::Vec;
use lwm2m_coap::block::{Block, Upload};
#[cfg(not(feature = "oscore"))]
use lwm2m_coap::protect::Plain;
use lwm2m_coap::{Code, Instant, Parameters, Peer, RequestId, Rng, Room, TokenPolicy};
use lwm2m_objects::Path;

use crate::error::Reason;
use crate::event::Role;
#[cfg(feature = "oscore")]
use crate::object_security::{Hook, ObjectSecurity};
use crate::registration::{Registration, State};
use crate::reply::Reply;
use crate::reporting::Pace;
use crate::server::Binding;

/// Bytes of a request, a confirmable notification or a separate response that are kept for retransmission; a longer
/// object list goes block-wise.
pub(crate) const LARGEST: usize = 304;
/// The same with protection.
const REQUEST_COPY: usize = LARGEST + OBJECT_SECURITY;
/// The most that protection takes of them: Observe, the OSCORE option with its head, flags, Partial IV, ID Context and id, inner
/// code and payload marker, and the tag.
const OBJECT_SECURITY: usize =
    if cfg!(feature = "oscore") { 4 + (3 + 1 + 5 + 1 + 2 + 40 + 7) + 2 + 16 } else { 0 };
/// Bytes of an answer that are kept for duplicates; a longer one is produced again.
const ANSWER_COPY: usize = 64;
/// How many messages of a server are remembered.
const ANSWERS: usize = 4;
/// How many messages of ours may be unsettled with one server.
const REQUESTS: usize = 1;
/// Bytes of a handshake's flight, and of the server's.
#[cfg(feature = "psk")]
pub(crate) const HANDSHAKE: usize = if cfg!(all(feature = "x509", feature = "std")) {
    4096
} else if cfg!(feature = "x509") {
    1408
} else if cfg!(feature = "rpk") {
    512
} else {
    384
};
/// What a message leaves free for the record around it at most.
#[cfg(all(feature = "psk", any(not(feature = "suites"), feature = "resumption")))]
const ROOM: Room = Room { head: HEADROOM, tail: TAILROOM };
/// There are no records.
#[cfg(not(feature = "psk"))]
const ROOM: Room = Room::NONE;

/// The CoAP side of a server.
pub(crate) type ServerPeer<const O: usize> =
    Peer<Vec<u8, REQUEST_COPY, u16>, REQUESTS, ANSWERS, O, Bound, Vec<u8, ANSWER_COPY, u8>>;

/// What ties an answer to its request, if messages are protected.
#[cfg(feature = "oscore")]
pub(crate) type Bound = Option<oscore::Binding>;
#[cfg(not(feature = "oscore"))]
pub(crate) type Bound = ();

/// A request of a server.
pub(crate) type Exchange = lwm2m_coap::Exchange<Bound>;

/// A server that observes.
pub(crate) type Observer = lwm2m_coap::Observer<Bound>;

/// The memory of a handshake.
#[cfg(feature = "psk")]
pub(crate) type Memory = Handshake<HANDSHAKE>;

/// What a handshake needs besides its memory, and the slot of its server. There is memory for one at a time.
///
/// The memory stays where it is, in the client, and is lent for each call: moved about it would take the stack several times.
#[cfg(feature = "psk")]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) stage: Stage,
    needs_memory: bool,
    /// What the handshake waits for.
    #[cfg(feature = "rpk")]
    pub(crate) pending: Option<crate::pending::Pending>,
}

#[cfg(feature = "psk")]
impl Place {
    pub(crate) const fn new(slot: usize, stage: Stage) -> Self {
        Place {
            slot,
            stage,
            needs_memory: false,
            #[cfg(feature = "rpk")]
            pending: None,
        }
    }

    /// The connection goes on here.
    pub(crate) fn run(&mut self, connection: Connection<HANDSHAKE, &mut Memory>) {
        let (connection, memory) = connection.detach();
        self.needs_memory = memory.is_some();
        self.stage = Stage::Running(Some(connection));
    }

    /// Calls the connection, if it runs.
    pub(crate) fn call<R>(
        &mut self,
        memory: &mut Memory,
        call: impl FnOnce(&mut Connection<HANDSHAKE, &mut Memory>) -> R,
    ) -> Option<R> {
        let Stage::Running(connection) = &mut self.stage else { return None };
        let mut connection = connection.take()?.attach(self.needs_memory.then_some(memory));
        let result = call(&mut connection);
        self.run(connection);
        Some(result)
    }

    /// Whether the handshake's memory is still needed.
    pub(crate) const fn needs_memory(&self) -> bool {
        self.needs_memory
    }

    /// The connection, once it needs no memory.
    pub(crate) fn finish(self) -> Option<Connection<HANDSHAKE, NoHandshake>> {
        let Stage::Running(connection) = self.stage else { return None };
        connection.filter(|_| !self.needs_memory)
    }
}

/// How far a handshake has come. What was loaded is in its memory.
#[cfg(feature = "psk")]
pub(crate) enum Stage {
    /// The identity is on its way from storage.
    LoadingIdentity,
    /// The key is on its way from storage.
    LoadingSecret,
    /// The name of the server is on its way from storage.
    #[cfg(feature = "x509")]
    LoadingName,
    /// The session to be taken up is on its way from storage.
    #[cfg(feature = "resumption")]
    LoadingSession,
    /// It can start.
    Loaded {
        #[cfg(feature = "resumption")]
        is_resuming: bool,
    },
    /// It runs.
    Running(Option<Connection<HANDSHAKE, NoHandshake>>),
}

static PARAMETERS: Parameters = Parameters::DEFAULT;

/// The way to a server, in the order in which it is made.
#[derive(Default)]
pub(crate) enum Link {
    /// There is none.
    #[default]
    Closed,
    /// The owner looks for the address; `told` once it was asked to.
    Resolving { told: bool },
    /// The address is known.
    Resolved,
    /// A handshake runs, or waits for its place.
    #[cfg(feature = "psk")]
    Handshaking,
    /// The handshake came to nothing, and the server is told.
    #[cfg(feature = "psk")]
    Ending { reason: Reason },
    /// Messages go through an association.
    #[cfg(feature = "psk")]
    Secured(Connection<HANDSHAKE, NoHandshake>),
    /// Messages go through an association that keeps the last flight of its handshake, in the place of the handshake.
    #[cfg(feature = "resumption")]
    Resumed,
    /// Messages go as they are.
    Plain,
    /// It came to nothing.
    Broken { reason: Reason },
}

/// One server.
pub(crate) struct Session<const O: usize> {
    pub(crate) role: Role,
    /// The instance of `/0` that says how to reach it.
    pub(crate) security: u16,
    pub(crate) link: Link,
    pub(crate) peer: Option<ServerPeer<O>>,
    /// What its messages are protected with, if they are.
    #[cfg(feature = "oscore")]
    pub(crate) object_security: Option<ObjectSecurity>,
    pub(crate) registration: Registration,
    /// The request of ours that is under way.
    pub(crate) request: Option<Outstanding>,
    /// The object list that is under way, in blocks.
    pub(crate) upload: Option<Upload>,
    /// The answer that is due.
    pub(crate) reply: Option<Reply>,
    /// An operation that an object will complete later.
    pub(crate) deferred: Option<Deferred>,
    /// How often it may be notified without an acknowledgement.
    pub(crate) pace: Pace,
    /// Notifications to it that the owner keeps.
    #[cfg(feature = "offline")]
    pub(crate) backlog: crate::offline::Backlog,
    /// Bootstrap-Request was sent.
    pub(crate) is_asked: bool,
    /// The bootstrap is over; until then duplicates are still answered.
    pub(crate) lingers_until: Option<Instant>,
    #[cfg(feature = "resumption")]
    pub(crate) resumption: crate::resumption::Resumption,
}

#[cfg(feature = "psk")]
impl Link {
    /// Whether the place of the handshake is its.
    pub(crate) const fn has_place(&self) -> bool {
        #[cfg(feature = "resumption")]
        if matches!(self, Link::Resumed) {
            return true;
        }
        matches!(self, Link::Handshaking | Link::Ending { .. })
    }
}

impl<const O: usize> Session<O> {
    /// A handshake that is under way leaves its place, and is to begin again.
    pub(crate) fn begin_anew(&mut self) {
        #[cfg(feature = "psk")]
        if matches!(self.link, Link::Handshaking) {
            self.link = Link::Resolved;
        }
    }

    /// Whether nothing is under way that ends with an answer.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_settled = !matches!(
            self.registration.state,
            State::Connecting | State::Registering | State::Updating | State::Deregistering { .. }
        );
        let is_linked = match self.link {
            Link::Resolving { .. } | Link::Resolved => false,
            #[cfg(feature = "psk")]
            Link::Handshaking | Link::Ending { .. } => false,
            _ => true,
        };
        let is_idle = self.peer.as_ref().is_none_or(ServerPeer::is_idle);
        #[cfg(feature = "offline")]
        let is_idle = is_idle && !self.backlog.is_there();
        is_settled
            && is_linked
            && is_idle
            && self.request.is_none()
            && self.reply.is_none()
            && self.deferred.is_none()
    }

    /// The peer, and the hook that protects its messages; none while a server with object security has no keys here.
    #[cfg(feature = "oscore")]
    pub(crate) fn peer(&mut self, now: Instant, rng: &mut Rng<'_>) -> Option<(&mut ServerPeer<O>, Hook<'_>)> {
        let hook = match &mut self.object_security {
            Some(security) => Some(security.hook(now, rng)?),
            None => None,
        };
        Some((self.peer.as_mut()?, hook))
    }

    /// The peer, and the hook that leaves its messages alone.
    #[cfg(not(feature = "oscore"))]
    pub(crate) fn peer(&mut self, _: Instant, _: &mut Rng<'_>) -> Option<(&mut ServerPeer<O>, Plain)> {
        Some((self.peer.as_mut()?, Plain))
    }

    /// How tokens are made. Under object security an answer is tied to its request by more than them.
    const fn tokens(&self) -> TokenPolicy {
        #[cfg(feature = "oscore")]
        if self.object_security.is_some() {
            return TokenPolicy::SECURED;
        }
        if matches!(self.link, Link::Plain) { TokenPolicy::Random } else { TokenPolicy::SECURED }
    }

    /// What a message leaves free around it.
    pub(crate) fn room(&self) -> Room {
        let room = self.record_room();
        #[cfg(feature = "oscore")]
        if let Some(security) = &self.object_security {
            let Room { head, tail } = security.room();
            return Room { head: room.head.saturating_add(head), tail: room.tail.saturating_add(tail) };
        }
        room
    }

    /// What a message leaves free for the record around it.
    pub(crate) fn record_room(&self) -> Room {
        // Suites differ in what they need; a build of one suite knows it beforehand.
        #[cfg(feature = "suites")]
        return match &self.link {
            Link::Secured(connection) => {
                let (head, tail) = connection.room();
                Room { head, tail }
            }
            // The most, which is never too little: the connection is in the place of the handshake.
            #[cfg(feature = "resumption")]
            Link::Resumed => ROOM,
            _ => Room::NONE,
        };
        #[cfg(not(feature = "suites"))]
        ROOM
    }

    pub(crate) fn new(role: Role, security: u16) -> Self {
        Session {
            role,
            security,
            link: Link::Closed,
            peer: None,
            #[cfg(feature = "oscore")]
            object_security: None,
            registration: Registration::default(),
            request: None,
            upload: None,
            reply: None,
            deferred: None,
            pace: Pace::default(),
            #[cfg(feature = "offline")]
            backlog: crate::offline::Backlog::default(),
            is_asked: false,
            lingers_until: None,
            #[cfg(feature = "resumption")]
            resumption: crate::resumption::Resumption::default(),
        }
    }

    /// Starts on the way to the server.
    pub(crate) fn connect(&mut self) {
        self.disconnect();
        self.link = Link::Resolving { told: false };
    }

    /// Drops the way to the server and what was under way on it.
    pub(crate) fn disconnect(&mut self) {
        self.link = Link::Closed;
        self.peer = None;
        #[cfg(feature = "oscore")]
        if let Some(security) = &mut self.object_security {
            security.disconnect();
        }
        self.request = None;
        self.upload = None;
        self.reply = None;
        self.deferred = None;
        self.is_asked = false;
    }

    /// Ends the association in order: a close_notify goes out before the way is dropped. Whether one does.
    pub(crate) fn close(&mut self) -> bool {
        #[cfg(feature = "psk")]
        if let Link::Secured(mut connection) = core::mem::take(&mut self.link) {
            connection.close();
            self.disconnect();
            self.link = Link::Secured(connection);
            return true;
        }
        self.disconnect();
        false
    }

    /// The way is made.
    pub(crate) fn open(&mut self, link: Link, rng: &mut Rng<'_>) {
        self.link = link;
        self.peer = Some(Peer::new(&PARAMETERS, self.tokens(), rng));
    }
}

/// An operation that an object completes later.
pub(crate) struct Deferred {
    pub(crate) exchange: Exchange,
    pub(crate) path: Path,
    /// Block1 of the request, to be confirmed.
    pub(crate) block1: Option<Block>,
    /// How it ended, until there is room for the answer.
    pub(crate) code: Option<Code>,
}

/// A request of ours that waits for its response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    pub(crate) id: RequestId,
    pub(crate) what: Request,
}

/// The Echo value that a server wants to see with the request that it did not take yet (RFC 9175 §2.3). There is memory
/// for one at a time: a server whose value had to give way sends another.
pub(crate) struct Echo {
    pub(crate) slot: u8,
    pub(crate) value: Vec<u8, { lwm2m_coap::echo::MAX_LENGTH }, u8>,
}

#[cfg(feature = "oscore")]
impl Request {
    /// Whether it is the first one on a way to a server.
    pub(crate) const fn is_first(self) -> bool {
        matches!(self, Request::Bootstrap | Request::Register { .. })
    }
}

/// What we asked a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// POST /bs
    Bootstrap,
    /// POST /rd
    Register { lifetime: u32, binding: Binding },
    /// POST to the location
    Update { lifetime: u32, binding: Binding },
    /// DELETE of the location
    Deregister,
    /// POST /dp
    #[cfg(feature = "send")]
    Send,
}
