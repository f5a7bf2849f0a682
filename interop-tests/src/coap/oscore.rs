//! Object security of the test's client and server.

use lwm2m_coap::{Instant, Message, Room, WriteError, Writer};
use oscore::{
    Binding, Observation, Parameters, Protection, Rederivation, Saved, SenderSequence, Session, Standing,
};

use crate::random::Random;

/// The Security Context that one end has with the other.
pub struct Oscore {
    parameters: Parameters,
    session: Session,
    observations: heapless::Vec<Observation, 4>,
    random: Random,
    rederives: bool,
}

impl Oscore {
    /// Fresh keys, to which the other end has had nothing from this one.
    pub fn new(parameters: Parameters) -> Self {
        Self::with(parameters, Session::new)
    }

    /// The keys after a restart, behind a first reservation of numbers.
    pub fn restarted(parameters: Parameters) -> Self {
        Self::with(parameters, |parameters, random| {
            Session::restored(parameters, &saved(SenderSequence::STEP), random)
        })
    }

    fn with(parameters: Parameters, make: impl Fn(&Parameters, [u8; Session::RANDOM]) -> Session) -> Self {
        let mut random = Random::new(u64::from(std::process::id()).wrapping_add(1));
        let mut bytes = [0; Session::RANDOM];
        random.fill(&mut bytes);
        let mut session = make(&parameters, bytes);
        // A test ends before it has used them up.
        session.saved(&saved(1 << 16));
        Self { parameters, session, observations: heapless::Vec::new(), random, rederives: false }
    }

    /// The same, ready to have its keys replaced (RFC 8613 Appendix B.2).
    #[must_use]
    pub fn rederiving(self) -> Self {
        Self { rederives: true, ..self }
    }

    /// Begins to have the keys replaced, as the client.
    pub fn rederive(&mut self) {
        let mut random = [0; Rederivation::RANDOM];
        self.random.fill(&mut random);
        let now = Instant::default();
        self.session.rederive(&Rederivation { parameters: &self.parameters, now, random, durable: false });
    }

    /// Has the keys replaced at the next request, as the server.
    pub fn renew(&mut self) {
        self.session.renew();
    }

    /// What is known of the other end.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn is_rederiving(&self) -> bool {
        self.session.is_rederiving()
    }

    /// What a request counts as, its Echo value considered.
    pub(super) fn judge(&mut self, binding: Binding, now: Instant, message: &Message<'_>) -> Binding {
        match binding.standing() {
            Standing::Unproven => {
                self.session.recover(binding, now, message.options.echo()).unwrap_or(binding)
            }
            _ => binding,
        }
    }

    /// Writes the answer to a request that may be an old one.
    pub(super) fn challenge(&self, now: Instant, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        self.session.challenge(now, writer)
    }
}

/// A bound as storage has it.
fn saved(bound: u64) -> Saved {
    let [_, _, bytes @ ..] = bound.to_be_bytes();
    Saved::parse(&bytes).expect("a bound")
}

/// The hook of a peer, if it has one.
pub(super) fn guard(
    oscore: &mut Option<Oscore>,
    now: Instant,
) -> Option<Protection<'_, heapless::Vec<Observation, 4>>> {
    let Oscore { parameters, session, observations, random, rederives } = oscore.as_mut()?;
    let mut bytes = [0; Rederivation::RANDOM];
    random.fill(&mut bytes);
    let rederivation = rederives.then_some(Rederivation { parameters, now, random: bytes, durable: false });
    Some(Protection::new(session, observations, rederivation))
}

/// The room that it needs.
pub(super) fn room(oscore: Option<&Oscore>) -> Room {
    oscore.map_or(Room::NONE, |oscore| oscore.session.room())
}
