//! Protects and unprotects messages in place (RFC 8613 §5 to §8): the hook of a [`lwm2m_coap::Peer`].
//!
//! ```text
//! before: header | token |                         options | ff | payload
//! after:  header | token | outer options | ff | { code | inner options | ff | payload } | tag
//! ```
//!
//! Invariant: the replay window and the order of notifications change only with what was verified.

use core::ops::Range;

use lwm2m_coap::observe::REGISTER;
use lwm2m_coap::protect::{Incoming, Keep, Protect, Refused, Unprotectable, rewrite};
use lwm2m_coap::{Code, Draft, Message, OptionNumber, Options, Room, Token, Writer};

use crate::aad;
use crate::context::{Context, End, Nonce, Request};
use crate::option::{MalformedOption, OscoreOption, PartialIv};
use crate::parameters::{KeyId, Parameters};
use crate::rederive::Rederivation;
use crate::session::{Binding, Kind, Observation, Observations, Session, Wrapped};

/// A [`Session`] for the time of one call of a [`lwm2m_coap::Peer`].
pub struct Protection<'a, O> {
    session: &'a mut Session,
    observations: &'a mut O,
    rederivation: Option<Rederivation<'a>>,
}

impl<'a, O: Observations> Protection<'a, O> {
    /// Protects with `session`, where `observations` are those of this end; without `rederivation` the other end cannot
    /// have the keys replaced (Appendix B.2).
    pub const fn new(
        session: &'a mut Session,
        observations: &'a mut O,
        rederivation: Option<Rederivation<'a>>,
    ) -> Self {
        Self { session, observations, rederivation }
    }

    /// The response to a request of this end, or a notification.
    fn open_response<'m>(&mut self, request: Binding, incoming: Incoming<'m>) -> Result<Opened<'m>, Refused> {
        if request.generation != self.session.generation {
            return Err(Refused::Silent);
        }
        let outer = Outer::of(&incoming);
        let option = match outer.option {
            Some(Ok(option)) => option,
            Some(Err(_)) => return Err(Refused::Silent),
            None => {
                // RFC 8613 §8.4: without protection it is from somebody on the way, or from an end that has no context.
                if incoming.code().class() >= 4 {
                    self.session.hint = Some(incoming.code());
                }
                return Err(Refused::Silent);
            }
        };
        let (partial_iv, outer_observes) = (option.partial_iv, outer.observes);
        let other = option.kid_context.filter(|id| !self.session.context.is_of(id.bytes()));
        let other = other.and_then(|id| Wrapped::bare(id.bytes()));
        let aad = Request { by: End::Sender, partial_iv: request.partial_iv };
        let (datagram, place) = match (other, self.rederivation) {
            (Some(r2), Some(rederivation)) => {
                let asked = self.session.context.nonce(End::Sender, request.partial_iv);
                let context = rederivation.second(self.session, r2.bytes());
                let mut context = context.ok_or(Refused::Silent)?;
                let nonce = partial_iv.map_or(asked, |number| context.nonce(End::Recipient, number));
                let opened = open(&mut context, aad, &nonce, incoming)?;
                rederivation.third(self.session, r2.bytes()).ok_or(Refused::Silent)?;
                opened
            }
            _ => {
                let context = &self.session.context;
                let nonce = match partial_iv {
                    Some(partial_iv) => context.nonce(End::Recipient, partial_iv),
                    None => context.nonce(End::Sender, request.partial_iv),
                };
                let opened = open(&mut self.session.context, aad, &nonce, incoming)?;
                self.session.confirm();
                opened
            }
        };
        match datagram.get(place.start).map(|code| Code::from_u8(*code)) {
            Some(code) if code.is_response() => {
                Ok(Opened { datagram, place, partial_iv, observes_outside: outer_observes })
            }
            _ => Err(Refused::Silent),
        }
    }

    /// Gives a notification the number that orders it, in place of the value its Observe option must not have. Without that
    /// option it is the last one (RFC 7641 §3.2).
    fn number<'m>(&mut self, opened: Opened<'m>, token: Token) -> Result<Message<'m>, Refused> {
        let is_last = !opened.observes();
        let Opened { datagram, place, partial_iv, .. } = opened;
        let Some(observation) = self.observations.find(token) else { return message(datagram, place, token) };
        let value = match (partial_iv, &mut observation.numbers) {
            (None, _) => 0,
            (Some(partial_iv), numbers @ None) => {
                *numbers = Some((partial_iv, partial_iv));
                1
            }
            // RFC 8613 §7.4.1: only what is newer than all that came before.
            (Some(partial_iv), Some((_, last))) if partial_iv <= *last => return Err(Refused::Acknowledge),
            (Some(partial_iv), Some((first, last))) => {
                *last = partial_iv;
                partial_iv.sequence().saturating_sub(first.sequence()).saturating_add(1)
            }
        };
        if is_last {
            return message(datagram, place, token);
        }
        let place = set_observe(datagram, place, value).ok_or(Refused::Silent)?;
        message(datagram, place, token)
    }

    /// Seals a draft.
    fn seal(
        context: &Context,
        option: OscoreOption<'_>,
        (request, nonce): (Request, &Nonce),
        draft: &mut Draft<'_>,
    ) -> Result<(), Unprotectable> {
        let code = draft.code();
        let is_response = code.is_response();
        let (buffer, place) = draft.parts_mut();
        let text = buffer.get(place.clone()).unwrap_or_default();
        let (options, payload) = Options::parse(text).map_err(|_| Unprotectable::Full)?;
        let behind = if payload.is_empty() { 0 } else { payload.len().saturating_add(1) };

        let mut scratch = [0; SCRATCH];
        let observes = options.observe().is_some();
        let mut outer = Writer::new(&mut scratch, Room::NONE, code);
        let mut changes = is_response && observes;
        let mut pending = Some(option);
        for (number, value) in options {
            if number > OptionNumber::OSCORE
                && let Some(option) = pending.take()
            {
                write_option(&mut outer, option)?;
            }
            match number {
                OptionNumber::PROXY_URI => return Err(Unprotectable::Exposed),
                OptionNumber::OBSERVE => {}
                // Its own takes the place of one.
                OptionNumber::OSCORE => {
                    changes = true;
                    continue;
                }
                number if is_outer(number) => changes = true,
                _ => continue,
            }
            outer.option(number, value).map_err(|_| Unprotectable::Full)?;
        }
        if let Some(option) = pending {
            write_option(&mut outer, option)?;
        }
        let outer = outer.finish().map_err(|_| Unprotectable::Full)?;

        // The payload stays where it is; the inner options end right in front of it.
        let mut start = place.start;
        if changes {
            let end = place.end.saturating_sub(behind);
            let list = buffer.get_mut(place.start..end).ok_or(Unprotectable::Full)?;
            // RFC 8613 §4.1.3.5.2: the inner Observe of a notification has no value.
            let length = rewrite(list, |number| match number {
                OptionNumber::OBSERVE if is_response => Keep::Empty,
                number if is_outer(number) => Keep::Nothing,
                _ => Keep::Whole,
            });
            let length = length.ok_or(Unprotectable::Full)?;
            start = end.saturating_sub(length);
            buffer.copy_within(place.start..place.start.saturating_add(length), start);
        }
        let inner = start.checked_sub(1).ok_or(Unprotectable::Full)?;
        let marker = inner.checked_sub(1).ok_or(Unprotectable::Full)?;
        let begin = marker.checked_sub(outer.bytes().len()).ok_or(Unprotectable::Full)?;
        let end = place.end.saturating_add(context.aead().tag_length());
        *buffer.get_mut(inner).ok_or(Unprotectable::Full)? = code.as_u8();
        let sealed = buffer.get_mut(inner..end).ok_or(Unprotectable::Full)?;
        context.seal(request, nonce, sealed).ok_or(Unprotectable::Full)?;
        *buffer.get_mut(marker).ok_or(Unprotectable::Full)? = PAYLOAD_MARKER;
        buffer.get_mut(begin..marker).ok_or(Unprotectable::Full)?.copy_from_slice(outer.bytes());
        // RFC 8613 §4.2: what stays visible says no more than that it is a request or a response, observed or not.
        let code = match (is_response, observes) {
            (false, false) => Code::POST,
            (false, true) => Code::FETCH,
            (true, false) => Code::CHANGED,
            (true, true) => Code::CONTENT,
        };
        draft.replace(code, begin..end).map_err(|_| Unprotectable::Full)
    }
}

impl<O: Observations> Protect for Protection<'_, O> {
    type Binding = Binding;

    fn protects(&self) -> bool {
        true
    }

    fn unprotect_request<'m>(
        &mut self,
        incoming: Incoming<'m>,
        repeated: bool,
    ) -> Result<(Message<'m>, Binding), Refused> {
        let token = incoming.token();
        // Keys that storage does not know of may be used for the first time only: an answer under the nonce of a request would
        // leave no trace, and the request could come again after a restart.
        if !self.session.context.sequence.is_reserved() {
            return Err(Refused::Answer(Code::SERVICE_UNAVAILABLE));
        }
        let outer = Outer::of(&incoming);
        // Whatever else is in it.
        let Some(option) = outer.option else { return Err(Refused::Answer(Code::UNAUTHORIZED)) };
        if let Some(code) = refused_outside(incoming.options()) {
            return Err(Refused::Answer(code));
        }
        // RFC 8613 §8.2: an option that cannot be read, or a request without kid and Partial IV, is a bad option.
        let option = option.map_err(|_| Refused::Answer(Code::BAD_OPTION))?;
        let (Some(kid), Some(partial_iv)) = (option.kid, option.partial_iv) else {
            return Err(Refused::Answer(Code::BAD_OPTION));
        };
        if kid != self.session.context.recipient_id() {
            return Err(Refused::Answer(Code::UNAUTHORIZED));
        }
        let observes = outer.observes;
        let other = option.kid_context.filter(|id| !self.session.context.is_of(id.bytes()));
        let request = Request { by: End::Recipient, partial_iv };
        let (opened, kind) = if let Some(other) = other {
            // RFC 8613 Appendix B.2: another ID Context is one of its random numbers.
            let (id_context, rederivation) = aad::unwrap(other.bytes())
                .zip(self.rederivation)
                .ok_or(Refused::Answer(Code::UNAUTHORIZED))?;
            if !self.session.budget.take(rederivation.now) {
                return Err(Refused::Answer(Code::SERVICE_UNAVAILABLE));
            }
            let derived = rederivation.asked(self.session, id_context);
            let (mut context, made) = derived.ok_or(Refused::Answer(Code::UNAUTHORIZED))?;
            let nonce = context.nonce(End::Recipient, partial_iv);
            let opened = open(&mut context, request, &nonce, incoming).map_err(undecryptable)?;
            context.window.note(partial_iv);
            let kind = rederivation.answer(self.session, (context, made), (partial_iv, nonce));
            let kind = kind.ok_or(Refused::Answer(Code::UNAUTHORIZED))?;
            (opened, kind)
        } else {
            // The window is asked before the work and told after it.
            let is_new = self.session.context.window.accepts(partial_iv);
            if !is_new && !repeated {
                return Err(Refused::Answer(Code::UNAUTHORIZED));
            }
            let nonce = self.session.context.nonce(End::Recipient, partial_iv);
            let opened = open(&mut self.session.context, request, &nonce, incoming).map_err(undecryptable)?;
            self.session.context.window.note(partial_iv);
            self.session.confirm();
            let kind = match self.rederivation {
                _ if !is_new => Kind::Again,
                Some(rederivation) if self.session.is_renewing => {
                    let id1 = self.session.context.id_context.clone().unwrap_or_default();
                    let challenged = rederivation.challenge(self.session, &id1, (partial_iv, nonce));
                    challenged.ok_or(Refused::Answer(Code::UNAUTHORIZED))?;
                    Kind::Rederiving
                }
                _ if self.session.context.window.is_lost() => Kind::Unproven,
                _ => Kind::Fresh,
            };
            (opened, kind)
        };
        let (datagram, mut place) = opened;
        // RFC 8613 §4.1.3.5.1: an observation needs both, because somebody on the way may have taken the outer one off.
        if !observes {
            place =
                replace_observe(datagram, place, Keep::Nothing).ok_or(Refused::Answer(Code::BAD_REQUEST))?;
        }
        let message = message(datagram, place, token).map_err(undecryptable)?;
        if !message.code.is_request() {
            return Err(Refused::Answer(Code::BAD_REQUEST));
        }
        // What changes something may have been followed by another change.
        if kind == Kind::Again && !message.code.is_safe() {
            return Err(Refused::Answer(Code::UNAUTHORIZED));
        }
        Ok((message, Binding { partial_iv, generation: self.session.generation, kind }))
    }

    fn unprotect_response<'m>(
        &mut self,
        binding: &Binding,
        incoming: Incoming<'m>,
    ) -> Result<Message<'m>, Refused> {
        let token = incoming.token();
        let opened = self.open_response(*binding, incoming)?;
        // RFC 8613 §4.1.3.5: only what registered is answered with an observation; and no more of them than are kept.
        let registers = binding.kind == Kind::Own { registers: true };
        let observation = Observation { token, request: *binding, numbers: None };
        if registers && opened.observes_outside && opened.observes() && self.observations.keep(observation) {
            return self.number(opened, token);
        }
        let Opened { datagram, place, .. } = opened;
        let place = replace_observe(datagram, place, Keep::Nothing).ok_or(Refused::Silent)?;
        message(datagram, place, token)
    }

    fn unprotect_notification<'m>(&mut self, incoming: Incoming<'m>) -> Result<Message<'m>, Refused> {
        let token = incoming.token();
        let observation = self.observations.find(token).ok_or(Refused::Reset)?;
        let request = observation.request;
        let opened = self.open_response(request, incoming)?;
        // RFC 8613 §7.4.1: each has a number of its own.
        if opened.partial_iv.is_none() {
            return Err(Refused::Silent);
        }
        self.number(opened, token)
    }

    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<Binding, Unprotectable> {
        let registers =
            Options::parse(draft.bytes()).is_ok_and(|(options, _)| options.observe() == Some(REGISTER));
        let partial_iv = self.session.context.sequence.take().ok_or(Unprotectable::NoSequence)?;
        let announced = self.session.announcement();
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: announced.as_ref().and_then(Wrapped::context),
            kid: Some(self.session.context.sender_id()),
        };
        let request = Request { by: End::Sender, partial_iv };
        let nonce = self.session.context.nonce(End::Sender, partial_iv);
        Self::seal(&self.session.context, option, (request, &nonce), draft)?;
        Ok(Binding { partial_iv, generation: self.session.generation, kind: Kind::Own { registers } })
    }

    fn protect_response(
        &mut self,
        binding: &Binding,
        notification: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(), Unprotectable> {
        if binding.generation != self.session.generation {
            return Err(Unprotectable::Superseded);
        }
        let request = Request { by: End::Recipient, partial_iv: binding.partial_iv };
        if binding.kind == Kind::Rederiving {
            let rederivation = self.rederivation.ok_or(Unprotectable::Superseded)?;
            let answering = rederivation.answering(self.session, binding.partial_iv);
            let (context, nonce, r2) = answering.ok_or(Unprotectable::Superseded)?;
            let option = OscoreOption { kid_context: r2.context(), ..OscoreOption::default() };
            return Self::seal(&context, option, (request, &nonce), draft);
        }
        // One response may go under the nonce of its request, which costs no byte. Not a notification; and not what
        // answers a request that may be a replay, because it may have been answered before (RFC 8613 Appendix B.1.2).
        let (option, nonce) = if notification || binding.kind != Kind::Fresh {
            let partial_iv = self.session.context.sequence.take().ok_or(Unprotectable::NoSequence)?;
            let option = OscoreOption { partial_iv: Some(partial_iv), ..OscoreOption::default() };
            (option, self.session.context.nonce(End::Sender, partial_iv))
        } else {
            (OscoreOption::default(), self.session.context.nonce(End::Recipient, binding.partial_iv))
        };
        Self::seal(&self.session.context, option, (request, &nonce), draft)
    }
}

/// What is outside of a protected message.
struct Outer<'m> {
    option: Option<Result<OscoreOption<'m>, MalformedOption>>,
    observes: bool,
}

impl<'m> Outer<'m> {
    fn of(incoming: &'m Incoming<'_>) -> Self {
        let options = incoming.options();
        Self {
            option: options.get(OptionNumber::OSCORE).map(OscoreOption::parse),
            observes: options.observe().is_some(),
        }
    }
}

/// A response that verified.
struct Opened<'m> {
    datagram: &'m mut [u8],
    place: Range<usize>,
    partial_iv: Option<PartialIv>,
    /// Whether it has the outer Observe option.
    observes_outside: bool,
}

impl Opened<'_> {
    /// Whether it has the inner Observe option.
    fn observes(&self) -> bool {
        let inner =
            self.datagram.get(self.place.clone()).and_then(|inner| inner.get(1..)).unwrap_or_default();
        Options::parse(inner).is_ok_and(|(options, _)| options.observe().is_some())
    }
}

/// Verifies and decrypts the payload of `incoming`; says where in the datagram code, options and payload lie.
fn open<'m>(
    context: &mut Context,
    request: Request,
    nonce: &Nonce,
    incoming: Incoming<'m>,
) -> Result<(&'m mut [u8], Range<usize>), Refused> {
    let (datagram, _, payload) = incoming.into_parts();
    let sealed = datagram.get_mut(payload.clone()).ok_or(Refused::Silent)?;
    let length = context.open(request, nonce, sealed).ok_or(Refused::Silent)?;
    let place = payload.start..payload.start.saturating_add(length);
    Ok((datagram, place))
}

/// RFC 8613 §8.2: what a request that does not verify is answered with.
fn undecryptable(_: Refused) -> Refused {
    Refused::Answer(Code::BAD_REQUEST)
}

/// The message of code, options and payload at `place`.
fn message(datagram: &mut [u8], place: Range<usize>, token: Token) -> Result<Message<'_>, Refused> {
    let (code, rest) = datagram.get(place).and_then(<[u8]>::split_first).ok_or(Refused::Silent)?;
    let (options, payload) = Options::parse(rest).map_err(|_| Refused::Silent)?;
    Ok(Message { code: Code::from_u8(*code), token, options, payload })
}

/// Takes the Observe option out, or its value. Code and options then end in front of the payload, which stays.
fn replace_observe(datagram: &mut [u8], place: Range<usize>, keep: Keep) -> Option<Range<usize>> {
    let (code, inner) = datagram.get(place.clone())?.split_first()?;
    let code = *code;
    let (options, payload) = Options::parse(inner).ok()?;
    if options.get(OptionNumber::OBSERVE).is_none() {
        return Some(place);
    }
    let behind = if payload.is_empty() { 0 } else { payload.len().checked_add(1)? };
    let list = place.start.checked_add(1)?..place.end.checked_sub(behind)?;
    let length = rewrite(datagram.get_mut(list.clone())?, |number| match number {
        OptionNumber::OBSERVE => keep,
        _ => Keep::Whole,
    })?;
    let options = list.end.checked_sub(length)?;
    datagram.copy_within(list.start..list.start.checked_add(length)?, options);
    let start = options.checked_sub(1)?;
    *datagram.get_mut(start)? = code;
    Some(start..place.end)
}

/// Gives the Observe option the lower 24 bits of `value`, for which code and lower options move into the room of the outer
/// ones.
fn set_observe(datagram: &mut [u8], place: Range<usize>, value: u64) -> Option<Range<usize>> {
    const LENGTH: usize = 3;
    let [.., high, middle, low] = value.to_be_bytes();
    let place = replace_observe(datagram, place, Keep::Empty)?;
    let inner = datagram.get(place.clone())?.get(1..)?;
    let (options, _) = Options::parse(inner).ok()?;
    options.get(OptionNumber::OBSERVE)?;
    let header = place.start.checked_add(1)?.checked_add(options.length_before(OptionNumber::OBSERVE))?;
    let start = place.start.checked_sub(LENGTH)?;
    datagram.copy_within(place.start..=header, start);
    let values = header.checked_sub(LENGTH)?.checked_add(1)?..=header;
    *datagram.get_mut(header.checked_sub(LENGTH)?)? |= u8::try_from(LENGTH).ok()?;
    datagram.get_mut(values)?.copy_from_slice(&[high, middle, low]);
    Some(start..place.end)
}

/// What a request that is to be refused for its outer options is answered with (RFC 8613 §8.2): this end is no proxy; blocks in the
/// outer position would have to be put together before they can be verified, which this end does not do; and other
/// critical options that it does not know. Those of class E are of somebody else and count nothing.
// Departure: Uri-Host and Uri-Port are not handed on. There is one host here.
fn refused_outside(options: Options<'_>) -> Option<Code> {
    let mut previous = None;
    options.iter().find_map(|(number, _)| {
        let is_repeated = previous.replace(number) == Some(number);
        match number {
            OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME => Some(Code::PROXYING_NOT_SUPPORTED),
            OptionNumber::BLOCK1 | OptionNumber::BLOCK2 => Some(Code::BAD_OPTION),
            OptionNumber::OSCORE if is_repeated => Some(Code::BAD_OPTION),
            OptionNumber::OSCORE
            | OptionNumber::URI_HOST
            | OptionNumber::URI_PORT
            | OptionNumber::URI_PATH
            | OptionNumber::URI_QUERY
            | OptionNumber::ACCEPT
            | OptionNumber::IF_MATCH
            | OptionNumber::IF_NONE_MATCH => None,
            number if number.is_critical() => Some(Code::BAD_OPTION),
            _ => None,
        }
    })
}

/// RFC 8613 §4.1.2, §4.1.3: options for those on the way, which are not encrypted.
const fn is_outer(number: OptionNumber) -> bool {
    matches!(
        number,
        OptionNumber::URI_HOST
            | OptionNumber::URI_PORT
            | OptionNumber::OSCORE
            | OptionNumber::HOP_LIMIT
            | OptionNumber::PROXY_SCHEME
    )
}

fn write_option(writer: &mut Writer<'_>, option: OscoreOption<'_>) -> Result<(), Unprotectable> {
    let mut value = [0; OPTION_LENGTH];
    let length = option.emit(&mut value).ok_or(Unprotectable::Full)?;
    let value = value.get(..length).ok_or(Unprotectable::Full)?;
    writer.option(OptionNumber::OSCORE, value).map(|_| ()).map_err(|_| Unprotectable::Full)
}

/// The longest value of the option that this end writes: flags, Partial IV, length, kid context, kid.
const OPTION_LENGTH: usize = 1 + 5 + 1 + Parameters::ID_CONTEXT_LENGTH + 2 + KeyId::MAX_LENGTH;
/// All that is outside: the option, Observe, and at most 60 bytes of other options.
const SCRATCH: usize = Writer::HEAD + OPTION_LENGTH + 3 + 4 + 60;
const PAYLOAD_MARKER: u8 = 0xff;
