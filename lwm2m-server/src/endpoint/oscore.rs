//! What is kept of the OSCORE context of a device (RFC 8613 §3), and its messages as they are to be seen.
//!
//! Invariant: nothing of a secret shows in it.

use lwm2m_coap::{
    Code, Exchange, Header, Input, Instant, Message, OptionNumber, Parameters as Timing, Rng, Room,
    TokenPolicy, WriteError, Writer, udp,
};
use oscore::{
    Observation, Observations, OscoreOption, Parameters, Protection, Saved, SenderSequence, Session,
};

use crate::credentials::{Authenticated, Context, ContextId, Fact, Named, Rederivation};

use super::Address;
use super::association::{Association, Bound, CoapPeer};
use super::counters::Counters;

/// What is kept of a device's context.
pub(crate) struct Oscore {
    pub(crate) session: Session,
    pub(crate) observations: Observed,
    /// What keys are derived from anew, where they may be.
    parameters: Option<Box<Parameters>>,
    /// What it is found by.
    pub(crate) id: ContextId,
    /// Whom its keys prove.
    pub(crate) who: Authenticated,
    pub(crate) fingerprint: [u8; Parameters::FINGERPRINT],
    /// What storage had of it last.
    pub(crate) reserved: Option<Saved>,
    /// Whether it was told that the keys are worn.
    pub(crate) is_worn_told: bool,
    /// Whether a reservation is on its way to storage.
    pub(crate) is_reserving: bool,
    /// What waits for it.
    pub(crate) held: Option<Held>,
}

/// A request that waits.
pub(crate) enum Held {
    /// As it came, and from where.
    Datagram(Address, Box<[u8]>),
    /// As it was unprotected.
    Request(Address, Exchange<Bound>, Box<[u8]>),
}

/// The observations of one context, as far as object security has to know them.
#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) all: Vec<Observation>,
    most: usize,
}

impl Observations for Observed {
    fn find(&mut self, token: lwm2m_coap::Token) -> Option<&mut Observation> {
        self.all.iter_mut().find(|observation| observation.token == token)
    }

    fn keep(&mut self, observation: Observation) -> bool {
        if let Some(known) = self.find(observation.token) {
            *known = observation;
            return true;
        }
        let has_room = self.all.len() < self.most;
        if has_room {
            self.all.reserve_exact(1);
            self.all.push(observation);
        }
        has_room
    }
}

impl Observed {
    /// Forgets those that do not stand any more.
    pub(crate) fn retain(&mut self, stands: impl Fn(lwm2m_coap::Token) -> bool) {
        self.all.retain(|observation| stands(observation.token));
    }
}

impl Oscore {
    pub(crate) fn new(context: &Context, most: usize, rng: &mut Rng<'_>) -> Self {
        let parameters = context.key.parameters();
        let mut random = [0; Session::RANDOM];
        rng(&mut random);
        let mut session = match &context.saved {
            None => Session::new(parameters, random),
            Some(saved) => Session::restored(parameters, saved, random),
        };
        if context.key.rederivation() == Rederivation::Required {
            session.renew();
        }
        let may_rederive = context.key.rederivation() != Rederivation::Never;
        Self {
            session,
            observations: Observed { all: Vec::new(), most },
            parameters: may_rederive.then(|| Box::new(parameters.clone())),
            id: context.key.context_id(),
            who: context.who.clone(),
            fingerprint: parameters.fingerprint(),
            reserved: context.saved.clone(),
            is_worn_told: false,
            is_reserving: false,
            held: None,
        }
    }

    /// Whether storage knows of the keys: only then something was ever sent under them.
    pub(crate) fn is_stored(&self) -> bool {
        self.session.wanted().is_none() || self.session.context().sequence().next() > 0
    }

    /// Whether a request would come to nothing for want of a number: one that may be a replay is answered with one of its own, and
    /// keys that storage does not know are not used.
    pub(crate) fn is_waiting(&self) -> bool {
        let sequence = self.session.context().sequence();
        let is_used_up = sequence
            .wanted()
            .is_some_and(|bound| bound.saturating_sub(SenderSequence::STEP) <= sequence.next());
        is_used_up && (self.session.context().window().is_lost() || !self.is_stored())
    }

    /// Keys that are near the end of what their algorithm bears: replaced where their device is known to do that (RFC 8613
    /// Appendix B.2), and told of, once.
    pub(crate) fn mind_wear(&mut self) -> Option<Fact> {
        if self.is_worn_told || !self.session.is_worn() {
            return None;
        }
        self.is_worn_told = true;
        let is_renewed = self.parameters.is_some() && self.session.is_renewable();
        if is_renewed {
            self.session.renew();
        }
        Some(Fact::KeysWorn { who: self.who.clone(), is_renewed })
    }

    /// Whether the number of a request under these keys came before.
    fn is_replay(&self, datagram: &[u8]) -> bool {
        let number = || {
            let (_, message) = udp::parse(datagram).ok()?;
            let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE)?).ok()?;
            option.partial_iv.filter(|_| message.code.is_request() && option.kid == Some(self.id.kid))
        };
        number().is_some_and(|number| !self.session.context().window().accepts(number))
    }

    /// Counts a message that was refused. What names its keys is as it came.
    pub(crate) fn count_refused(&self, counters: &mut Counters, datagram: &[u8]) {
        Counters::add(match self.is_replay(datagram) {
            true => &mut counters.requests_replayed,
            false => &mut counters.unverified,
        });
    }

    /// The hook for one call of the association's peer.
    pub(crate) fn protection(&mut self, now: Instant, rng: &mut Rng<'_>) -> Protection<'_, Observed> {
        let rederivation = self.parameters.as_deref().map(|parameters| {
            let mut random = [0; oscore::Rederivation::RANDOM];
            rng(&mut random);
            oscore::Rederivation { parameters, now, random, durable: true }
        });
        Protection::new(&mut self.session, &mut self.observations, rederivation)
    }

    /// Whether somebody who has these keys has sent a datagram, of which nothing else is found out or kept.
    pub(crate) fn verifies(context: &Context, now: Instant, datagram: &[u8], rng: &mut Rng<'_>) -> bool {
        let mut tried = Self::new(context, 0, rng);
        // Numbers of a session that is dropped, and sends nothing, are none.
        if let Some(wanted) = tried.session.wanted() {
            tried.session.saved(&wanted);
        }
        let mut datagram = datagram.to_vec();
        let mut visitor = CoapPeer::new(&Timing::DEFAULT, TokenPolicy::Random, rng);
        let input = visitor.handle(now, &mut datagram, &mut Some(tried.protection(now, rng)));
        matches!(input, Input::Request { .. } | Input::Unacceptable { .. })
    }
}

/// How a request names its keys; `None` of what is no request under OSCORE, or cannot be read.
pub(crate) fn named(datagram: &[u8]) -> Option<Named> {
    // Most messages of a device are none: they need not be read for it.
    datagram.get(1).filter(|code| Code::from_u8(**code).is_request())?;
    let (_, message) = udp::parse(datagram).ok()?;
    let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE)?).ok()?;
    Some(Named::new(option.kid?, option.kid_context))
}

/// A message as it was before it was protected, as a datagram.
pub(crate) fn plain(header: Header, message: &Message<'_>) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; PLAIN];
    let mut writer = Writer::new(&mut bytes, Room::NONE, message.code);
    for (number, value) in message.options {
        writer.option(number, value).ok()?;
    }
    writer.payload(message.payload).ok()?;
    let range = writer.finish().ok()?.emit(header, message.token);
    bytes.get(range).map(Into::into)
}

impl Association {
    /// A protected message that was sent as it is to be seen in the trace: written once more, where anybody watches.
    pub(crate) fn as_seen(
        &self,
        sent: Option<&[u8]>,
        is_watched: bool,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Option<Box<[u8]>> {
        if self.oscore.is_none() || !is_watched {
            return None;
        }
        let (header, message) = udp::parse(sent?).ok()?;
        let mut bytes = vec![0; PLAIN];
        let mut writer = Writer::new(&mut bytes, Room::NONE, message.code);
        write(&mut writer).ok()?;
        let range = writer.finish().ok()?.emit(header, message.token);
        bytes.get(range).map(Into::into)
    }
}

/// The longest message that is shown.
const PLAIN: usize = 2048;

/// The header of a datagram that is a message.
pub(crate) fn header(datagram: &[u8]) -> Option<Header> {
    udp::parse(datagram).ok().map(|(header, _)| header)
}
