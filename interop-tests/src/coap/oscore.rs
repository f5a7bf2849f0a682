//! Object security of the test's client and server.

use lwm2m_coap::{Instant, Rng, Room};
use oscore::{Binding, Observation, Parameters, Protection, Rederivation, SenderSequence, Session};

use crate::random::Random;

/// The Security Context that one end has with the other.
pub struct Oscore {
    parameters: Parameters,
    session: Session,
    observations: heapless::Vec<Observation, 4>,
    rng: Box<Rng<'static>>,
    key: [u8; 32],
    rederives: bool,
}

impl Oscore {
    /// Fresh keys, to which the other end has had nothing from this one.
    pub fn new(parameters: Parameters) -> Self {
        let session = Session::new(&parameters);
        Self::with(parameters, session)
    }

    /// The keys after a restart, behind a first reservation of numbers.
    pub fn restarted(parameters: Parameters) -> Self {
        let session = Session::restored(&parameters, SenderSequence::STEP);
        Self::with(parameters, session)
    }

    fn with(parameters: Parameters, mut session: Session) -> Self {
        // A test ends before it has used them up.
        let bound = session.sequence_mut().next().saturating_add(1 << 16);
        session.sequence_mut().reserve(bound);
        let mut random = Random::new(u64::from(std::process::id()).wrapping_add(1));
        let mut key = [0; 32];
        random.fill(&mut key);
        let rng = Box::new(move |bytes: &mut [u8]| random.fill(bytes));
        Self { parameters, session, observations: heapless::Vec::new(), rng, key, rederives: false }
    }

    /// The same, ready to have its keys replaced (RFC 8613 Appendix B.2).
    #[must_use]
    pub fn rederiving(self) -> Self {
        Self { rederives: true, ..self }
    }

    /// Begins to have the keys replaced, as the client.
    pub fn rederive(&mut self) {
        let mut rederivation = Rederivation {
            parameters: &self.parameters,
            key: &self.key,
            now: Instant::default(),
            rng: &mut *self.rng,
            durable: false,
        };
        self.session.rederive(&mut rederivation);
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

    pub(super) fn recover(&mut self, binding: Binding) -> Binding {
        self.session.recover(binding)
    }
}

/// The hook of a peer, if it has one.
pub(super) fn guard(
    oscore: &mut Option<Oscore>,
    now: Instant,
) -> Option<Protection<'_, '_, heapless::Vec<Observation, 4>>> {
    let Oscore { parameters, session, observations, rng, key, rederives } = oscore.as_mut()?;
    let rederivation =
        rederives.then_some(Rederivation { parameters, key, now, rng: &mut **rng, durable: false });
    Some(Protection::new(session, observations, rederivation))
}

/// The room that it needs.
pub(super) fn room(oscore: Option<&Oscore>) -> Room {
    // Uri-Host stays outside, which the crate leaves to its owner to count.
    oscore.map_or(Room::NONE, |oscore| oscore.session.room())
}
