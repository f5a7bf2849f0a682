//! One pair of endpoints over time: the current Security Context and what Appendix B.2 is about to make of it.
//!
//! Invariant: a message of keys that were replaced is neither protected nor accepted: every request remembers which keys it
//! was protected with.

use heapless::Vec;
use lwm2m_coap::{Code, Room, Token};

use crate::context::{Context, Nonce};
use crate::option::{IdContext, PartialIv};
use crate::parameters::{Bytes, KeyId, Parameters};
use crate::replay::ReplayWindow;
use crate::sequence::SenderSequence;

/// What both ends know of each other under object security. Give it to a [`lwm2m_coap::Peer`] as a
/// [`crate::Protection`].
#[derive(Debug)]
pub struct Session {
    pub(crate) context: Context,
    pub(crate) generation: u16,
    pub(crate) announce: Announce,
    /// Whether a message of the other end was verified with these keys.
    pub(crate) confirmed: bool,
    pub(crate) step: Step,
    /// The latest number of this end, as a server, with which keys were replaced: none before it is good any more.
    pub(crate) used: u64,
    pub(crate) hint: Option<Code>,
}

/// How the ID Context goes into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announce {
    /// Not at all.
    Never,
    /// As it is: the ID Context both ends were given.
    Bare,
    /// As a CBOR byte string (Appendix B.2), until an answer shows that the other end has it too.
    Wrapped,
}

/// How far Appendix B.2 has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is under way.
    Idle,
    /// Client: the keys are those of request 1.
    Asked,
    /// Server: the next request is to be taken for request 1.
    Renewing,
    /// Server: request 1 is about to be answered, with the keys of this ID Context and under the nonce of the request.
    Answering { id_context: Bytes<{ Parameters::ID_CONTEXT_LENGTH }>, nonce: Nonce },
}

impl Session {
    /// The session of `parameters` under which nothing was ever sent or received: the first message needs a number that is
    /// reserved in durable storage.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self::begin(parameters, SenderSequence::FRESH, ReplayWindow::FRESH)
    }

    /// The session of `parameters` after a restart: `bound` is the last one of [`SenderSequence::wanted`] that storage has.
    /// What the other end sent is forgotten, so that its next request has to prove that it is fresh.
    #[must_use]
    pub fn restored(parameters: &Parameters, bound: u64) -> Self {
        Self::begin(parameters, SenderSequence::restored(bound), ReplayWindow::LOST)
    }

    fn begin(parameters: &Parameters, sequence: SenderSequence, window: ReplayWindow) -> Self {
        let announce = if parameters.id_context().is_some() { Announce::Bare } else { Announce::Never };
        Self {
            context: Context::derive(parameters, None, sequence, window),
            generation: 0,
            announce,
            confirmed: false,
            step: Step::Idle,
            used: 0,
            hint: None,
        }
    }

    /// Goes on with a request that an Echo proved to be fresh (RFC 8613 Appendix B.1.2): from now on the window is known.
    /// Returns what the request counts as.
    pub fn recover(&mut self, binding: Binding) -> Binding {
        match binding.kind {
            Kind::Unproven if binding.generation == self.generation => {
                self.context.window.recover(binding.partial_iv);
                Binding { kind: Kind::Proven, ..binding }
            }
            _ => binding,
        }
    }

    /// Whether what was protected with this binding can still be answered: its keys are the current ones.
    #[must_use]
    pub const fn is_current(&self, binding: &Binding) -> bool {
        binding.generation == self.generation
    }

    /// The current keys and their state.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The sequence of what this end sends, for reservations.
    pub const fn sequence_mut(&mut self) -> &mut SenderSequence {
        &mut self.context.sequence
    }

    /// Whether a message of the other end was verified with the current keys.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// The code of the last error that came without protection in place of a protected response, since the last one that
    /// verified. Anybody can send such a thing: a hint for a log, and for who wants to fall back.
    #[must_use]
    pub const fn hint(&self) -> Option<Code> {
        self.hint
    }

    /// Whether the keys are near the end of what their algorithm bears: new ones should come soon, by Appendix B.2 or from
    /// the bootstrap server.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.context.failures >= FAILURES || self.context.sequence.next() >= SEALED
    }

    /// The room that protection takes around a message that is written now.
    #[must_use]
    pub fn room(&self) -> Room {
        let context = self.context.id_context.as_ref().map_or(0, |id| id.len().saturating_add(WRAPPED));
        let head = OUTER_OPTIONS.saturating_add(context);
        Room { head, tail: self.context.aead().tag_length() }
    }

    /// The ID Context as requests carry it.
    pub(crate) fn announcement(&self) -> Option<Wrapped> {
        let id_context = self.context.id_context()?;
        match self.announce {
            Announce::Never => None,
            Announce::Bare => Wrapped::bare(id_context),
            Announce::Wrapped => Wrapped::new(id_context),
        }
    }

    /// Replaces the keys.
    pub(crate) fn replace(&mut self, context: Context, announce: Announce, step: Step) {
        self.context = context;
        self.generation = self.generation.wrapping_add(1);
        self.announce = announce;
        self.confirmed = false;
        self.step = step;
    }

    /// Notes that a message of the other end was verified.
    pub(crate) fn confirm(&mut self) {
        self.confirmed = true;
        self.hint = None;
        if self.announce == Announce::Wrapped && self.step == Step::Idle {
            self.announce = Announce::Never;
        }
    }
}

/// What lies in front of a protected message besides an ID Context: Observe with 3 bytes, the OSCORE option with its head,
/// flags, Partial IV, length and kid, Uri-Host and whatever else stays outside, the payload marker, and the inner code.
const OUTER_OPTIONS: usize = 4 + (3 + 1 + 5 + 1 + KeyId::MAX_LENGTH) + 1 + 1;

/// Forgeries that AES-CCM with a tag of 8 bytes bears before new keys are due, and messages protected with one key.
const FAILURES: u32 = 1 << 20;
const SEALED: u64 = 1 << 20;

/// A kid context as it is on the wire.
pub(crate) struct Wrapped(Vec<u8, { Parameters::ID_CONTEXT_LENGTH + WRAPPED }>);

/// The longest head of a CBOR byte string of an ID Context.
const WRAPPED: usize = 2;

impl Wrapped {
    /// A CBOR byte string of `id`.
    pub(crate) fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = Vec::from_slice(&crate::aad::byte_string(id.len())).ok()?;
        bytes.extend_from_slice(id).ok()?;
        Some(Self(bytes))
    }

    /// `bytes` as they are.
    pub(crate) fn bare(bytes: &[u8]) -> Option<Self> {
        Vec::from_slice(bytes).ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value for the option.
    pub(crate) fn context(&self) -> Option<IdContext<'_>> {
        IdContext::new(&self.0)
    }
}

/// What ties a response to its request, and a notification to its registration: the number of the request, and which keys
/// protected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub(crate) partial_iv: PartialIv,
    pub(crate) generation: u16,
    pub(crate) kind: Kind,
}

impl Binding {
    /// Whether the request is authentic and yet may be an old one: it must not be carried out. Answer 4.01 with an Echo
    /// option, unless it carries the right one: then [`Session::recover`].
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.kind == Kind::Unproven
    }

    /// Whether the request is the first of Appendix B.2: it must not be carried out. Answer 4.01, without an Echo option.
    #[must_use]
    pub fn is_rederiving(&self) -> bool {
        self.kind == Kind::Rederiving
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of this end.
    Own,
    /// Of the other end, and no replay.
    Fresh,
    /// Of the other end; an Echo proved it, so that another response was protected before.
    Proven,
    /// Of the other end, while the replay window is lost.
    Unproven,
    /// Of the other end: request 1 of Appendix B.2.
    Rederiving,
}

/// One observation of this end, as far as object security has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The token of the registration, which every notification carries.
    pub token: Token,
    pub(crate) request: Binding,
    /// The number of the first notification, from which on they are counted, and of the last one.
    pub(crate) numbers: Option<(PartialIv, PartialIv)>,
}

/// Where the owner keeps the observations of one session.
pub trait Observations {
    /// The observation with this token.
    fn find(&mut self, token: Token) -> Option<&mut Observation>;

    /// Keeps an observation, in place of one with its token. Whether there is room for it.
    fn keep(&mut self, observation: Observation) -> bool;
}

impl<const N: usize> Observations for Vec<Observation, N> {
    fn find(&mut self, token: Token) -> Option<&mut Observation> {
        self.iter_mut().find(|observation| observation.token == token)
    }

    fn keep(&mut self, observation: Observation) -> bool {
        match self.find(observation.token) {
            Some(known) => {
                *known = observation;
                true
            }
            None => self.push(observation).is_ok(),
        }
    }
}
