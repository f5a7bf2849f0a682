//! One pair of endpoints over time: the current Security Context and what Appendix B.2 is about to make of it.
//!
//! Invariant: a message of keys that were replaced is neither protected nor accepted: every request remembers which keys it
//! was protected with.

use core::fmt;
use core::time::Duration;

use heapless::Vec;
use lwm2m_coap::echo::Challenge;
use lwm2m_coap::{Code, Instant, Room, Token, WriteError, Writer};
use zeroize::Zeroize;

use crate::aad::Cbor;
use crate::context::{Context, Nonce};
use crate::crypto::mac;
use crate::option::PartialIv;
use crate::parameters::{Bytes, KeyId, Parameters};
use crate::replay::ReplayWindow;
use crate::saved::Saved;
use crate::sequence::SenderSequence;

/// What both ends know of each other under object security. Give it to a [`lwm2m_coap::Peer`] as a
/// [`crate::Protection`].
pub struct Session {
    pub(crate) context: Context,
    pub(crate) generation: u32,
    pub(crate) announce: Announce,
    /// Whether Appendix B.2 made the keys: their ID Context is not that of the parameters.
    pub(crate) is_rederived: bool,
    /// Whether a message of the other end was verified with these keys.
    pub(crate) confirmed: bool,
    /// Client: the keys are those of request 1 of Appendix B.2.
    pub(crate) is_asking: bool,
    /// Server: the next requests are to be taken for request 1, until the keys are replaced.
    pub(crate) is_renewing: bool,
    /// Server: request 1 is about to be answered.
    pub(crate) answering: Option<Answering>,
    /// The latest number R2 that was made here, and the latest with which keys were replaced: none up to it is good any more.
    pub(crate) made: u64,
    pub(crate) used: u64,
    pub(crate) budget: Budget,
    /// Of this value alone, so that what one session made means nothing to another.
    pub(crate) key: [u8; Session::RANDOM],
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

/// What the second keys of Appendix B.2 are made of, and which request they answer under its nonce.
pub(crate) struct Answering {
    pub(crate) id_context: Bytes<{ Parameters::ID_CONTEXT_LENGTH }>,
    pub(crate) partial_iv: PartialIv,
    pub(crate) nonce: Nonce,
}

/// How many times keys may be derived because of requests: each time costs several hashes, and nothing is verified before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u8,
    second: u32,
}

impl Budget {
    /// At once, and then one for each second.
    const MOST: u8 = 8;

    const FULL: Self = Self { left: Self::MOST, second: 0 };

    /// Whether one more is within the budget.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let (second, _) = now.as_secs();
        let passed = u8::try_from(second.saturating_sub(self.second)).unwrap_or(u8::MAX);
        self.left = self.left.saturating_add(passed).min(Self::MOST);
        self.second = second;
        let is_within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_within
    }
}

impl Session {
    /// How many random bytes a session takes.
    pub const RANDOM: usize = 16;

    /// The session of `parameters` under which nothing was ever sent or received: nothing is, before a first
    /// [`Session::wanted`] is in durable storage. Who finds one there makes the session with [`Session::restored`].
    #[must_use]
    pub fn new(parameters: &Parameters, random: [u8; Self::RANDOM]) -> Self {
        Self::begin(parameters, None, SenderSequence::FRESH, ReplayWindow::FRESH, random)
    }

    /// The session of `parameters` after a restart, or after it was dropped: `saved` is the last [`Session::wanted`] that
    /// storage has. What the other end sent is forgotten, so that its next request has to prove that it is fresh.
    #[must_use]
    pub fn restored(parameters: &Parameters, saved: &Saved, random: [u8; Self::RANDOM]) -> Self {
        let sequence = SenderSequence::restored(saved.bound);
        Self::begin(parameters, saved.id_context.as_deref(), sequence, ReplayWindow::LOST, random)
    }

    pub(crate) fn begin(
        parameters: &Parameters,
        rederived: Option<&[u8]>,
        sequence: SenderSequence,
        window: ReplayWindow,
        random: [u8; Self::RANDOM],
    ) -> Self {
        let announce = match rederived {
            Some(_) => Announce::Wrapped,
            None if parameters.id_context().is_some() => Announce::Bare,
            None => Announce::Never,
        };
        let [a, b, c, d, ..] = random;
        Self {
            context: Context::derive(parameters, rederived, sequence, window),
            // A request that a former session of the same keys took is none of this one.
            generation: u32::from_le_bytes([a, b, c, d]),
            announce,
            is_rederived: rederived.is_some(),
            confirmed: false,
            is_asking: false,
            is_renewing: false,
            answering: None,
            made: 0,
            used: 0,
            budget: Budget::FULL,
            key: random,
            hint: None,
        }
    }

    /// Writes the answer to a request that is [`Standing::Unproven`]: 4.01 with an Echo value (RFC 8613 Appendix B.1.2).
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn challenge(&self, now: Instant, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        self.echo().refuse(now, writer)
    }

    /// Goes on with a request that is [`Standing::Unproven`] if its Echo value is one of [`Session::challenge`], made at most
    /// 45 seconds ago: from now on the window is known. Returns what the request counts as; `None` when it is not to be
    /// carried out.
    pub fn recover(&mut self, binding: Binding, now: Instant, echo: Option<&[u8]>) -> Option<Binding> {
        let is_here = binding.kind == Kind::Unproven && binding.generation == self.generation;
        if !is_here || !self.echo().accepts(now, echo) {
            return None;
        }
        self.context.window.recover(binding.partial_iv).then_some(Binding { kind: Kind::Again, ..binding })
    }

    fn echo(&self) -> Challenge<impl Fn(&[u8; 4]) -> [u8; 8]> {
        Challenge::new(ECHO_WINDOW, |time: &[u8; 4]| mac(&self.key, b"Echo", time))
    }

    /// Whether what was protected with this binding can still be answered: its keys are the current ones.
    #[must_use]
    pub const fn is_current(&self, binding: &Binding) -> bool {
        binding.generation == self.generation
    }

    /// Whether the other end has sent nothing newer than this request, as far as it verified: for who follows it to another
    /// address.
    #[must_use]
    pub const fn is_newest(&self, binding: &Binding) -> bool {
        self.is_current(binding) && self.context.window.is_last(binding.partial_iv)
    }

    /// Counts the keys: another number means that they were replaced. Outstanding requests, exchanges and observations of
    /// former keys have ended, and what storage knows belongs to them.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The current keys and their state.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// What durable storage should have next: few numbers are left, or none of these keys. `None` when enough are. What is
    /// left may be used meanwhile.
    #[must_use]
    pub fn wanted(&self) -> Option<Saved> {
        Some(Saved { id_context: self.rederived().cloned(), bound: self.context.sequence.wanted()? })
    }

    /// Notes that storage has `saved`. One of former keys, or of a lower bound than before, changes nothing.
    pub fn saved(&mut self, saved: &Saved) {
        if saved.id_context.as_ref() == self.rederived() {
            self.context.sequence.reserve(saved.bound);
        }
    }

    /// The ID Context, if it is one of Appendix B.2.
    fn rederived(&self) -> Option<&Bytes<{ Parameters::ID_CONTEXT_LENGTH }>> {
        self.context.id_context.as_ref().filter(|_| self.is_rederived)
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

    /// Server: whether the keys came by Appendix B.2, and can be [renewed](Session::renew) so: the other end knows how.
    #[must_use]
    pub fn is_renewable(&self) -> bool {
        self.rederived().is_some_and(|id_context| id_context.len() <= RENEWABLE)
    }

    /// Whether the keys are near the end of what their algorithm bears: new ones should come soon, by Appendix B.2 or from
    /// the bootstrap server. Anybody can forge messages until it says so: act on it once in a long while at most.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.context.failures >= FAILURES || self.context.sequence.next() >= SEALED
    }

    /// The room that protection takes around a message that is written now. Uri-Host and other options for those on the way
    /// only change their place; who writes any of them adds 2 bytes in front.
    #[must_use]
    pub fn room(&self) -> Room {
        let context = self.context.id_context.as_ref().map_or(0, |id| id.len().saturating_add(WRAPPED));
        let head = OUTER_OPTIONS.saturating_add(context);
        Room { head, tail: self.context.aead().tag_length() }
    }

    /// The ID Context as requests carry it.
    pub(crate) fn announcement(&self) -> Option<Cbor> {
        let id_context = self.context.id_context()?;
        match self.announce {
            Announce::Never => None,
            Announce::Bare => Some(Cbor::raw(id_context)),
            Announce::Wrapped => Some(Cbor::byte_string(id_context)),
        }
    }

    /// Replaces the keys.
    pub(crate) fn replace(&mut self, context: Context, announce: Announce) {
        self.context = context;
        self.generation = self.generation.wrapping_add(1);
        self.announce = announce;
        self.is_rederived = true;
        self.confirmed = false;
        self.is_asking = false;
        self.is_renewing = false;
        self.answering = None;
    }

    /// Notes that a message of the other end was verified.
    pub(crate) fn confirm(&mut self) {
        self.confirmed = true;
        self.hint = None;
        if self.announce == Announce::Wrapped && !self.is_asking {
            self.announce = Announce::Never;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// No nonce and no key.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("context", &self.context)
            .field("generation", &self.generation)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

/// As long as a request may be sent again (MAX_TRANSMIT_SPAN).
const ECHO_WINDOW: Duration = Duration::from_secs(45);

/// What lies in front of a protected message besides an ID Context: Observe with 3 bytes, the OSCORE option with its head,
/// flags, Partial IV, length and kid, the payload marker, and the inner code.
const OUTER_OPTIONS: usize = 4 + (3 + 1 + 5 + 1 + KeyId::MAX_LENGTH) + 1 + 1;

/// Forgeries that AES-CCM with a tag of 8 bytes bears before new keys are due, and messages protected with one key.
const FAILURES: u32 = 1 << 20;
const SEALED: u64 = 1 << 20;

/// The longest ID Context behind which there is room for another R2.
const RENEWABLE: usize = 24;

/// The longest head of a CBOR byte string of an ID Context.
const WRAPPED: usize = 2;

/// What ties a response to its request, and a notification to its registration: the number of the request, and which keys
/// protected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub(crate) partial_iv: PartialIv,
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
}

/// What may be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is no replay: carry it out.
    Fresh,
    /// It is authentic and may be an old one: unless [`Session::recover`] says otherwise it must not be carried out. Answer with
    /// [`Session::challenge`].
    Unproven,
    /// It is the first one of Appendix B.2 and must not be carried out. Answer 4.01, without an Echo option.
    Rederiving,
}

impl Binding {
    /// What may be done with the request.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self.kind {
            Kind::Own { .. } | Kind::Fresh | Kind::Again => Standing::Fresh,
            Kind::Unproven => Standing::Unproven,
            Kind::Rederiving => Standing::Rederiving,
        }
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of this end; whether it registers an observation.
    Own { registers: bool },
    /// Of the other end, and no replay.
    Fresh,
    /// Of the other end and to be carried out, though a response to it was protected before: an Echo proved it, or it is safe
    /// and is repeated because the response was lost.
    Again,
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
