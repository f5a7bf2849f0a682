//! OSCORE (RFC 8613): requests that name their keys, whatever address they come from.
//!
//! 1. A request has a kid, and perhaps a kid context. The association with these keys takes it, wherever it comes from: from another
//!    address it moves there, if it is newer than all before.
//! 2. Keys that are not known here are looked up (`lookup.rs`). Whoever sent what verifies under them gets an association; of anybody else
//!    nothing is kept.
//! 3. Sequence numbers are reserved in durable storage, ahead of need: nothing is carried out or sent before the first ones are.
//! 4. A request that may be a replay, because what came before is not known, is answered with an Echo value; one that begins Appendix B.2
//!    with a random number. Neither is carried out.
//!
//! Invariants: only what verified changes anything; each context is in one part of the server, that of its kid, so that there is one
//! replay window and one sequence of each; who is not proven by a request that counts has no name and no address here.

use std::ops::Range;

use lwm2m_coap::{
    Code, Exchange, Header, Input, Instant, Message, OptionNumber, Parameters as Timing, Peer, Reply, Rng, Settled,
    TokenPolicy, Writer, udp,
};
use oscore::{Binding, Observation, Observations, OscoreOption, Parameters, Protection, Session, Standing};

use crate::credentials::{Authenticated, Context, ContextId, Named, Rederivation, Role};
use crate::event::Event;

use super::association::{Association, Bound, CoapPeer, Who};
use super::counters::Counters;
use super::location::VirtualShard;
use super::path::Unproven;
use super::shard::Content;
use super::slab::Key;
use super::work::{Reservation, Work, WorkId};
use super::{Address, Candidates, Endpoint, Listener, Transmit};

/// What is kept of a device's context.
pub(crate) struct Oscore {
    pub(crate) session: Session,
    pub(crate) observations: Observed,
    /// What keys are derived from anew, where they may be.
    parameters: Option<Box<Parameters>>,
    /// What it is found by.
    pub(crate) id: ContextId,
    /// Whom its keys prove.
    who: Authenticated,
    fingerprint: [u8; 8],
    /// Whether a reservation is on its way to storage.
    is_reserving: bool,
    /// What waits for it.
    held: Option<Held>,
}

/// A request that waits.
enum Held {
    /// As it came, and from where.
    Datagram(Address, Box<[u8]>),
    /// As it was unprotected.
    Request(Exchange<Bound>, Box<[u8]>),
}

/// The observations of one context, as far as object security has to know them.
#[derive(Default)]
pub(crate) struct Observed {
    all: Vec<Observation>,
    most: usize,
}

impl Observations for Observed {
    fn find(&mut self, token: lwm2m_coap::Token) -> Option<&mut Observation> {
        self.all.iter_mut().find(|observation| observation.token == token)
    }

    fn keep(&mut self, observation: Observation) -> bool {
        match self.find(observation.token) {
            Some(known) => *known = observation,
            None if self.all.len() >= self.most => return false,
            None => {
                self.all.reserve_exact(1);
                self.all.push(observation);
            }
        }
        true
    }
}

impl Observed {
    /// Forgets those that do not stand any more.
    pub(crate) fn retain(&mut self, stands: impl Fn(lwm2m_coap::Token) -> bool) {
        self.all.retain(|observation| stands(observation.token));
    }
}

impl Oscore {
    fn new(context: &Context, most: usize, rng: &mut Rng<'_>) -> Self {
        let parameters = context.key.parameters();
        let mut random = [0; Session::RANDOM];
        rng(&mut random);
        let mut session = match context.reserved {
            0 => Session::new(parameters, random),
            bound => Session::restored(parameters, bound, random),
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
            fingerprint: context.key.fingerprint(),
            is_reserving: false,
            held: None,
        }
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
    fn verifies(context: &Context, now: Instant, datagram: &[u8], rng: &mut Rng<'_>) -> bool {
        let mut tried = Self::new(context, 0, rng);
        // Numbers of a session that is dropped, and sends nothing, are none.
        tried.session.sequence_mut().reserve(u64::MAX);
        let mut datagram = datagram.to_vec();
        let mut visitor = CoapPeer::new(&Timing::DEFAULT, TokenPolicy::Random, rng);
        let input = visitor.handle(now, &mut datagram, &mut Some(tried.protection(now, rng)));
        matches!(input, Input::Request { .. })
    }
}

/// How a request names its keys; `None` of what is no request under OSCORE, or cannot be read.
pub(crate) fn named(datagram: &[u8]) -> Option<Named> {
    let (_, message) = udp::parse(datagram).ok()?;
    if !message.code.is_request() {
        return None;
    }
    let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE)?).ok()?;
    Some(Named::new(option.kid?, option.kid_context))
}

/// A message as it was before it was protected, as a datagram.
pub(crate) fn plain(header: Header, message: &Message<'_>) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; 64_usize.saturating_add(message.options.length()).saturating_add(message.payload.len())];
    let mut writer = Writer::new(&mut bytes, lwm2m_coap::Room::NONE, message.code);
    for (number, value) in message.options {
        writer.option(number, value).ok()?;
    }
    writer.payload(message.payload).ok()?;
    let range = writer.finish().ok()?.emit(header, message.token);
    bytes.get(range).map(Into::into)
}
