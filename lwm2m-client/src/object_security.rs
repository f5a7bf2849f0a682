//! Object security with a server (OSCORE, RFC 8613): its keys, from storage to messages.
//!
//! 1. The way to the server is made: the Master Secret is loaded, then what storage knows of the keys.
//! 2. It knows something: they go on behind it. It knows nothing: new ones by Appendix B.2, or those of the account from their
//!    first number on, as [`Rederive`] says.
//! 3. Numbers are reserved in storage; then the first request leaves, and with its answer the Master Secret is wiped.
//! 4. A server that knows no such keys brings the others of 2; one that wants new ones itself has the Master Secret loaded again.
//!
//! LwM2M Transport 1.1.1 §5.4. Invariant: with a server whose account has keys no message goes without them, and none before
//! storage has reserved its number.

use heapless::Vec;
use lwm2m_coap::{Code, Instant, Message, OptionNumber, Rng, Room, Token, WriteError, Writer, udp};
use oscore::{
    MasterSecret, Observation, Observations, OscoreOption, Parameters, Protection, Rederivation, Saved,
    Session, Standing,
};

use crate::client::Client;
use crate::error::{Reason, StoreError};
use crate::event::{Notice, Role};
use crate::persist::{STATE_CAPACITY, StateName};
use crate::registration::MAX_TRANSMIT_WAIT;
use crate::reply::Body;
use crate::session::{Exchange, Request};

/// When a client has its keys replaced by fresh ones (RFC 8613 Appendix B.2): before the first message under those of an account, as
/// LwM2M wants it, and when a server has lost them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rederive {
    /// Always; a server that does not do so is not registered with.
    Required,
    /// If the server does so; else the keys of the account are used. Who answers in its place can bring that about.
    #[default]
    Offered,
    /// Not at all, also not when a server asks for it.
    Never,
}

/// What is asked of the storage for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The Master Secret of this instance of `/21`.
    Secret(u16),
    /// What is known of the keys of this name.
    State(StateName),
    /// To reserve numbers of theirs.
    Reservation(StateName),
}

/// Object security with one server.
pub(crate) struct ObjectSecurity {
    /// The instance of `/21`.
    context: u16,
    policy: Rederive,
    way: Way,
    keys: Keys,
    /// What the state of the keys is put away under, once `parameters` were there.
    name: StateName,
    /// What keys are made of, while some may have to be.
    parameters: Option<Parameters>,
    is_secret_wanted: bool,
    /// The server asked for new keys: until then it may go on with that.
    secret_until: Instant,
    /// Requests wait for the keys.
    is_awaited: bool,
    /// The server has shown that it has the keys since the way to it was made.
    is_answered: bool,
    none: NoObservations,
}

/// What protects the messages of a peer, or of one without object security leaves them alone.
pub(crate) type Hook<'a> = Option<Protection<'a, NoObservations>>;

/// Which keys are tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Those that storage knows of; without any, as the policy says.
    Known,
    /// New ones.
    Rederived,
    /// Those of the account, or what became of them.
    Given,
}

/// How far the keys are.
enum Keys {
    /// Storage is to say what it knows.
    Unknown,
    /// That is what it knows.
    Stored(Option<Saved>),
    Made(Session),
}

/// A client observes nothing.
pub(crate) struct NoObservations;

impl Observations for NoObservations {
    fn find(&mut self, _: Token) -> Option<&mut Observation> {
        None
    }

    fn keep(&mut self, _: Observation) -> bool {
        false
    }
}

fn drawn<const N: usize>(rng: &mut Rng<'_>) -> [u8; N] {
    let mut random = [0; N];
    rng(&mut random);
    random
}

/// Whether numbers have to be reserved.
const fn wants_numbers(session: &Session) -> bool {
    session.context().sequence().wanted().is_some()
}

impl ObjectSecurity {
    pub(crate) const fn new(context: u16, policy: Rederive) -> Self {
        ObjectSecurity {
            context,
            policy,
            way: Way::Known,
            keys: Keys::Unknown,
            name: [0; Parameters::FINGERPRINT],
            parameters: None,
            is_secret_wanted: true,
            secret_until: Instant::from_millis(0),
            is_awaited: false,
            is_answered: false,
            none: NoObservations,
        }
    }

    const fn made(&self) -> Option<&Session> {
        match &self.keys {
            Keys::Made(session) => Some(session),
            _ => None,
        }
    }

    /// The hook of the CoAP peer; none while there are no keys.
    pub(crate) fn hook(&mut self, now: Instant, rng: &mut Rng<'_>) -> Option<Protection<'_, NoObservations>> {
        let Keys::Made(session) = &mut self.keys else { return None };
        let rederivation = self.parameters.as_ref().map(|parameters| Rederivation {
            parameters,
            now,
            random: drawn(rng),
            durable: true,
        });
        Some(Protection::new(session, &mut self.none, rederivation))
    }

    /// What a message leaves free for its protection.
    pub(crate) fn room(&self) -> Room {
        self.made().map_or(Room::NONE, Session::room)
    }

    /// What storage is asked next.
    fn wanted(&self) -> Option<Wanted> {
        match &self.keys {
            Keys::Made(session) if wants_numbers(session) => Some(Wanted::Reservation(self.name)),
            Keys::Unknown if !self.is_awaited => None,
            _ if self.is_secret_wanted && self.parameters.is_none() => Some(Wanted::Secret(self.context)),
            Keys::Unknown => Some(Wanted::State(self.name)),
            _ => None,
        }
    }

    /// Makes the keys when everything for them is there; whether requests can go that waited for them.
    #[inline(never)]
    fn advance(&mut self, now: Instant, rng: &mut Rng<'_>) -> bool {
        if let (Keys::Stored(saved), Some(parameters)) = (&self.keys, &self.parameters) {
            // LwM2M Transport 1.1.1 §5.4: the first use of a context begins with Appendix B.2.
            if self.way == Way::Known && saved.is_none() && self.policy != Rederive::Never {
                self.way = Way::Rederived;
            }
            self.keys = Keys::Made(match saved {
                Some(saved) => Session::restored(parameters, saved, drawn(rng)),
                None => Session::new(parameters, drawn(rng)),
            });
            if self.way == Way::Known && self.is_worn() {
                self.way = Way::Rederived;
            }
            if let (Keys::Made(session), Way::Rederived) = (&mut self.keys, self.way) {
                let random = drawn(rng);
                session.rederive(&Rederivation { parameters, now, random, durable: true });
            }
            if self.policy == Rederive::Never {
                self.forget_secret();
            }
        }
        let is_reserved = self.made().is_some_and(|session| !wants_numbers(session));
        is_reserved && core::mem::take(&mut self.is_awaited)
    }

    /// Whether a message is of other keys than those that there are (RFC 8613 Appendix B.2), and what they are made of has to be
    /// loaded first: it is as lost meanwhile, and the server sends it again.
    fn is_of_other_keys(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Keys::Made(session) = &self.keys else { return false };
        if self.parameters.is_some() || self.policy == Rederive::Never {
            return false;
        }
        let Ok((_, message)) = udp::parse(datagram) else { return false };
        let option = message.options.get(OptionNumber::OSCORE).map(OscoreOption::parse);
        let Some(Some(announced)) = option.map(|option| option.ok()?.kid_context) else { return false };
        // As it is, or behind the head of a CBOR byte string.
        let is_own = session
            .context()
            .id_context()
            .is_some_and(|own| announced.bytes().strip_suffix(own).is_some_and(|head| head.len() <= 2));
        self.is_secret_wanted |= !is_own;
        self.secret_until = now.after_secs(MAX_TRANSMIT_WAIT);
        !is_own
    }

    /// Whether the keys are near the end of what their algorithm bears, and may be replaced.
    fn is_worn(&self) -> bool {
        self.policy != Rederive::Never && self.made().is_some_and(Session::is_worn)
    }

    fn forget_secret(&mut self) {
        self.parameters = None;
        self.is_secret_wanted = false;
    }

    /// Storage cannot help: there are no keys until the next attempt.
    fn fail(&mut self) {
        self.forget_secret();
        self.restart(Way::Known);
        self.is_awaited = false;
    }

    /// The keys are made again, of what storage knows.
    fn restart(&mut self, way: Way) {
        self.way = way;
        self.keys = Keys::Unknown;
        self.is_secret_wanted = true;
    }

    /// The way to the server is no more. Keys that it has shown to have stay.
    pub(crate) fn disconnect(&mut self) {
        self.is_awaited = false;
        self.is_answered = false;
        self.way = Way::Known;
        self.forget_secret();
        let is_kept = self.made().is_some_and(|session| session.is_confirmed() && session.hint().is_none());
        if !is_kept || self.is_worn() {
            self.restart(Way::Known);
        }
    }

    /// The server does not take the keys, or does not answer at all; whether others are tried.
    fn try_others(&mut self) -> bool {
        let hint = self.made().and_then(Session::hint);
        let way = match (self.way, self.policy) {
            _ if self.is_answered => return false,
            (Way::Rederived, Rederive::Offered) => Way::Given,
            (Way::Known, Rederive::Required | Rederive::Offered)
                if hint.is_some_and(|code| code.class() == 4) =>
            {
                Way::Rederived
            }
            _ => return false,
        };
        self.restart(way);
        self.is_awaited = true;
        true
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// The server's account tells whether messages are protected.
    pub(crate) fn begin_object_security(&mut self, slot: usize) {
        let policy = self.config.rederive;
        let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) else { return };
        let context = self.core.accounts.security(session.security).and_then(|security| security.oscore);
        if session.object_security.as_ref().map(|security| security.context) != context {
            session.object_security = context.map(|context| ObjectSecurity::new(context, policy));
        }
    }

    /// Whether requests have to wait for keys, which is noted.
    pub(crate) fn awaits_keys(&mut self, slot: usize) -> bool {
        let session = self.session_mut(slot);
        let Some(security) = session.and_then(|session| session.object_security.as_mut()) else {
            return false;
        };
        security.is_awaited = true;
        self.is_due = true;
        true
    }

    /// Makes keys for which everything is there, and lets go what waits for them.
    pub(crate) fn advance_keys(&mut self, now: Instant, slot: usize, rng: &mut Rng<'_>) {
        let session = self.session_mut(slot);
        let security = session.and_then(|session| session.object_security.as_mut());
        if security.is_some_and(|security| security.advance(now, rng)) {
            self.reachable(slot);
        }
    }

    /// What the storage is asked for keys, and for which slot.
    pub(crate) fn wanted_for_keys(&self) -> Option<(usize, Wanted)> {
        let is_changing = self.is_table_changing();
        self.sessions.iter().enumerate().find_map(|(slot, session)| {
            let session = session.as_ref()?;
            let wanted = session.object_security.as_ref()?.wanted()?;
            // While accounts are written, what is known of a server is none of those that count.
            let is_held = is_changing && session.role != Role::Bootstrap;
            (!is_held || matches!(wanted, Wanted::Reservation(_))).then_some((slot, wanted))
        })
    }

    /// What storage is to have for this slot before more can be sent.
    pub(crate) fn wanted_state(&self, slot: usize) -> Option<Saved> {
        self.sessions.get(slot)?.as_ref()?.object_security.as_ref()?.made()?.wanted()
    }

    /// Object security of a slot, if what was asked for is still what it wants.
    fn that_wants(&mut self, slot: usize, wanted: Wanted) -> Option<&mut ObjectSecurity> {
        let security = self.session_mut(slot)?.object_security.as_mut()?;
        (security.wanted() == Some(wanted)).then_some(security)
    }

    /// What keys are made of came from storage, or what it knows of them.
    #[inline(never)]
    pub(crate) fn key_record_loaded(&mut self, slot: usize, wanted: Wanted, record: Option<&[u8]>) {
        let parameters = match wanted {
            Wanted::Secret(instance) => record
                .and_then(MasterSecret::new)
                .and_then(|secret| self.core.accounts.context(instance)?.parameters(secret)),
            _ => None,
        };
        // Two sessions of one sender key would each reserve, and use, the same numbers.
        let is_shared = parameters.as_ref().is_some_and(|parameters| {
            let name = parameters.fingerprint();
            self.sessions.iter().enumerate().any(|(other, session)| {
                let security = session.as_ref().and_then(|session| session.object_security.as_ref());
                other != slot && security.is_some_and(|security| security.name == name)
            })
        });
        let Some(security) = self.that_wants(slot, wanted) else { return };
        let is_loaded = match (wanted, parameters) {
            (Wanted::Secret(_), Some(_)) if is_shared => false,
            (Wanted::Secret(_), Some(parameters)) => {
                security.name = parameters.fingerprint();
                security.parameters = Some(parameters);
                true
            }
            (Wanted::Secret(_), None) => false,
            _ => {
                let saved = record.map(Saved::parse);
                // What cannot be read was used up to nobody knows where.
                if saved == Some(None) && security.way == Way::Known {
                    security.way = Way::Rederived;
                }
                let is_lost = saved == Some(None)
                    && (security.way != Way::Rederived || security.policy == Rederive::Never);
                security.keys = Keys::Stored(saved.flatten());
                !is_lost
            }
        };
        if !is_loaded && security.made().is_some() {
            // The server may ask again.
            return security.forget_secret();
        }
        if !is_loaded {
            security.fail();
            let reason = match wanted {
                _ if is_shared => Reason::SharedKeys,
                Wanted::Secret(_) => Reason::NoCredential,
                _ => Reason::Storage,
            };
            self.connection_failed(slot, reason);
        }
    }

    /// Storage has reserved numbers, as this state says, or failed.
    pub(crate) fn numbers_reserved(
        &mut self,
        slot: usize,
        name: StateName,
        state: Result<Vec<u8, STATE_CAPACITY>, StoreError>,
    ) {
        let Some(session) = self.session_mut(slot) else { return };
        let Some(security) = session.object_security.as_mut().filter(|security| security.name == name) else {
            return;
        };
        match (state, &mut security.keys) {
            (Ok(state), Keys::Made(session)) => {
                if let Some(saved) = Saved::parse(&state) {
                    session.saved(&saved);
                }
            }
            (Ok(_), _) => {}
            (Err(_), _) => {
                security.fail();
                self.notice(Notice::StorageFailed);
                self.connection_failed(slot, Reason::Storage);
            }
        }
    }

    /// Says whether a request may be carried out: what it is answered with if not.
    pub(crate) fn refusal_of(
        &mut self,
        now: Instant,
        slot: usize,
        exchange: &mut Exchange,
        message: &Message<'_>,
    ) -> Option<Body> {
        let binding = (*exchange.binding())?;
        match binding.standing() {
            Standing::Fresh => None,
            Standing::Rederiving => Some(Body::Code(Code::UNAUTHORIZED)),
            // RFC 8613 Appendix B.1.2: what came before a restart may come again.
            Standing::Unproven => {
                let security = self.session_mut(slot)?.object_security.as_mut()?;
                let Keys::Made(session) = &mut security.keys else { return Some(Body::Challenge) };
                match session.recover(binding, now, message.options.echo()) {
                    Some(proven) => {
                        exchange.set_binding(Some(proven));
                        None
                    }
                    None => Some(Body::Challenge),
                }
            }
        }
    }

    /// Writes the answer to a request that has to prove that it is fresh.
    pub(crate) fn write_challenge(
        &self,
        now: Instant,
        slot: usize,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        let keys = session.and_then(|session| session.object_security.as_ref()?.made());
        keys.map_or(Ok(()), |keys| keys.challenge(now, writer))
    }

    /// How far the keys with this server are, to be compared after a message.
    pub(crate) fn generation(&self, slot: usize) -> Option<(u32, bool)> {
        let keys = self.sessions.get(slot)?.as_ref()?.object_security.as_ref()?.made()?;
        Some((keys.generation(), keys.is_confirmed()))
    }

    /// Whether a message has to come again because what its keys are made of is on its way from storage.
    pub(crate) fn awaits_secret(&mut self, now: Instant, slot: usize, datagram: &[u8]) -> bool {
        let session = self.session_mut(slot);
        let security = session.and_then(|session| session.object_security.as_mut());
        security.is_some_and(|security| security.is_of_other_keys(now, datagram))
    }

    /// Draws the conclusions from a message under or without the keys; `before` is how far they were, `is_verified` whether it
    /// was protected with them.
    pub(crate) fn heed(&mut self, now: Instant, slot: usize, before: Option<(u32, bool)>, is_verified: bool) {
        let after = self.generation(slot);
        let Some(session) = self.session_mut(slot) else { return };
        let role = session.role;
        let Some(security) = session.object_security.as_mut() else { return };
        let (Some((generation, _)), Some((current, is_confirmed))) = (before, after) else { return };
        security.is_answered |= is_verified;
        if is_verified && is_confirmed {
            let is_news = before != after;
            let is_rederived = security.way == Way::Rederived || generation != current;
            if is_news || security.secret_until <= now {
                security.forget_secret();
            }
            if is_news {
                self.notice(Notice::Protected { role, is_rederived });
            }
        }
        if generation != current {
            // What was observed under the former keys has ended.
            self.reporting.forget_session(slot);
            self.is_due = true;
        }
        if !is_verified {
            self.heed_hint(slot);
        }
    }

    /// A server that does not know the keys says so without any: with others the request is sent again. Who gets an answer under
    /// its keys does not listen to that, and who has no others goes on with the request: anybody may have sent it.
    fn heed_hint(&mut self, slot: usize) {
        let Some(session) = self.session_mut(slot) else { return };
        let Some(security) = session.object_security.as_mut() else { return };
        let is_refused = security.made().and_then(Session::hint).is_some_and(|code| code.class() == 4);
        let is_first = session.request.is_some_and(|request| request.what.is_first());
        if is_refused
            && is_first
            && security.try_others()
            && let (Some(peer), Some(request)) = (session.peer.as_mut(), session.request.take())
        {
            peer.cancel(request.id);
            session.is_asked = false;
            self.is_due = true;
        }
    }

    /// The request got no answer, or was reset; `None` when it is sent again with other keys, else why that is.
    pub(crate) fn try_other_keys(&mut self, slot: usize, what: Request, reason: Reason) -> Option<Reason> {
        let Some(session) = self.session_mut(slot) else { return Some(reason) };
        let Some(security) = session.object_security.as_mut() else { return Some(reason) };
        let is_unknown = security.made().and_then(Session::hint).is_some_and(|code| code.class() == 4);
        // Leshan's server resets what comes with an ID Context.
        let is_unanswered = matches!(reason, Reason::Timeout | Reason::Reset);
        if is_unanswered && what.is_first() && security.try_others() {
            session.is_asked = false;
            self.is_due = true;
            return None;
        }
        Some(if is_unknown && reason == Reason::Timeout { Reason::NoSecurityContext } else { reason })
    }

    /// Whether the keys with this server are to be replaced at the next occasion.
    pub(crate) fn are_keys_worn(&self, slot: usize) -> bool {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        session.and_then(|session| session.object_security.as_ref()).is_some_and(ObjectSecurity::is_worn)
    }

    /// Whether new keys are under way, so that 4.01 means to send the request again.
    pub(crate) fn is_rederiving(&self, slot: usize) -> bool {
        let session = self.sessions.get(slot).and_then(Option::as_ref);
        session
            .and_then(|session| session.object_security.as_ref()?.made())
            .is_some_and(Session::is_rederiving)
    }
}
