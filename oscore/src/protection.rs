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
use crate::option::{IdContext, OscoreOption, PartialIv};
use crate::parameters::{Bytes, KeyId, Parameters};
use crate::rederive::Rederivation;
use crate::session::{Binding, Kind, Observation, Observations, Session};

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

    /// The response to a request of this end, or a notification; `None` unless it verifies.
    fn open_response<'m>(&mut self, request: Binding, incoming: Incoming<'m>) -> Option<Opened<'m>> {
        if request.generation != self.session.generation {
            return None;
        }
        let Some(option) = incoming.options().get(OptionNumber::OSCORE) else {
            // RFC 8613 §8.4: without protection it is from somebody on the way, or from an end that has no context.
            if incoming.code().class() >= 4 {
                self.session.hint = Some(incoming.code());
            }
            return None;
        };
        let OscoreOption { partial_iv, kid_context, .. } = OscoreOption::parse(option).ok()?;
        let observes_outside = incoming.options().observe().is_some();
        // RFC 8613 Appendix B.2: another ID Context is one of its random numbers.
        let announced = kid_context.filter(|id| !self.session.context.is_of(id.bytes()));
        let mut r2: Bytes<{ Parameters::ID_CONTEXT_LENGTH }> = Bytes::new();
        let mut second = None;
        if let (Some(announced), Some(rederivation)) = (announced, self.rederivation) {
            r2.extend_from_slice(aad::unwrap(announced.bytes())?).ok()?;
            second = rederivation.second(self.session, &r2);
            second.as_ref()?;
        }
        let asked = self.session.context.nonce(End::Sender, request.partial_iv);
        let context = second.as_mut().unwrap_or(&mut self.session.context);
        let nonce = partial_iv.map_or(asked, |number| context.nonce(End::Recipient, number));
        let aad = Request { by: End::Sender, partial_iv: request.partial_iv };
        let (datagram, place) = open(context, aad, &nonce, incoming)?;
        match self.rederivation.filter(|_| second.is_some()) {
            Some(rederivation) => rederivation.third(self.session, &r2)?,
            None => self.session.confirm(),
        }
        let is_response = Code::from_u8(*datagram.get(place.start)?).is_response();
        is_response.then_some(Opened { datagram, place, partial_iv, observes_outside })
    }

    /// Gives a notification the number that orders it, in place of the value its Observe option must not have. Without that
    /// option it is the last one (RFC 7641 §3.2).
    fn number<'m>(&mut self, opened: Opened<'m>, token: Token) -> Result<Message<'m>, Refused> {
        let is_last = !opened.observes();
        let Opened { datagram, place, partial_iv, .. } = opened;
        let Some(observation) = self.observations.find(token) else {
            return message(datagram, place, token).ok_or(Refused::Silent);
        };
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
        let place = if is_last { Some(place) } else { set_observe(datagram, place, value) };
        place.and_then(|place| message(datagram, place, token)).ok_or(Refused::Silent)
    }

    /// A request of the other end, and what it is; else what it is answered with.
    #[inline(never)]
    fn open_request<'m>(
        &mut self,
        incoming: Incoming<'m>,
        repeated: bool,
    ) -> Result<(Message<'m>, Binding), Code> {
        let token = incoming.token();
        // Keys that storage does not know of may be used for the first time only: an answer under the nonce of a request would
        // leave no trace, and the request could come again after a restart.
        if !self.session.context.sequence.is_reserved() {
            return Err(Code::SERVICE_UNAVAILABLE);
        }
        let options = incoming.options();
        // Whatever else is in it.
        let option = options.get(OptionNumber::OSCORE).ok_or(Code::UNAUTHORIZED)?;
        if let Some(code) = refused_outside(options) {
            return Err(code);
        }
        // RFC 8613 §8.2: an option that cannot be read, or a request without kid and Partial IV, is a bad option.
        let option = OscoreOption::parse(option).map_err(|_| Code::BAD_OPTION)?;
        let (Some(kid), Some(partial_iv)) = (option.kid, option.partial_iv) else {
            return Err(Code::BAD_OPTION);
        };
        if kid != self.session.context.recipient_id() {
            return Err(Code::UNAUTHORIZED);
        }
        let observes = options.observe().is_some();
        let announced = option.kid_context.filter(|id| !self.session.context.is_of(id.bytes()));
        let mut other = None;
        let mut is_new = true;
        if let Some(announced) = announced {
            // RFC 8613 Appendix B.2: another ID Context is one of its random numbers.
            let (id_context, rederivation) =
                aad::unwrap(announced.bytes()).zip(self.rederivation).ok_or(Code::UNAUTHORIZED)?;
            if !self.session.budget.take(rederivation.now) {
                return Err(Code::SERVICE_UNAVAILABLE);
            }
            other = rederivation.asked(self.session, id_context);
            other.as_ref().ok_or(Code::UNAUTHORIZED)?;
        } else {
            // The window is asked before the work and told after it.
            is_new = self.session.context.window.accepts(partial_iv);
            if !is_new && !repeated {
                return Err(Code::UNAUTHORIZED);
            }
        }
        let context = match &mut other {
            Some((context, _)) => context,
            None => &mut self.session.context,
        };
        let nonce = context.nonce(End::Recipient, partial_iv);
        let request = Request { by: End::Recipient, partial_iv };
        // RFC 8613 §8.2: what does not verify is a bad request.
        let (datagram, mut place) = open(context, request, &nonce, incoming).ok_or(Code::BAD_REQUEST)?;
        context.window.note(partial_iv);
        let kind = match (other, self.rederivation) {
            (Some((context, made)), Some(rederivation)) => {
                rederivation.answer(self.session, context, made, (partial_iv, nonce))
            }
            (_, rederivation) => {
                self.session.confirm();
                match rederivation {
                    _ if !is_new => Some(Kind::Again),
                    Some(rederivation) if self.session.is_renewing => {
                        rederivation.challenge(self.session, None, (partial_iv, nonce))
                    }
                    _ if self.session.context.window.is_lost() => Some(Kind::Unproven),
                    _ => Some(Kind::Fresh),
                }
            }
        };
        let kind = kind.ok_or(Code::UNAUTHORIZED)?;
        // RFC 8613 §4.1.3.5.1: an observation needs both, because somebody on the way may have taken the outer one off.
        if !observes {
            place = replace_observe(datagram, place, Keep::Nothing).ok_or(Code::BAD_REQUEST)?;
        }
        let message = message(datagram, place, token).ok_or(Code::BAD_REQUEST)?;
        if !message.code.is_request() {
            return Err(Code::BAD_REQUEST);
        }
        // What changes something may have been followed by another change.
        if kind == Kind::Again && !message.code.is_safe() {
            return Err(Code::UNAUTHORIZED);
        }
        Ok((message, Binding { partial_iv, generation: self.session.generation, kind }))
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
        self.open_request(incoming, repeated).map_err(Refused::Answer)
    }

    fn unprotect_response<'m>(
        &mut self,
        binding: &Binding,
        incoming: Incoming<'m>,
    ) -> Result<Message<'m>, Refused> {
        let token = incoming.token();
        let opened = self.open_response(*binding, incoming).ok_or(Refused::Silent)?;
        // RFC 8613 §4.1.3.5: only what registered is answered with an observation; and no more of them than are kept.
        let registers = binding.kind == Kind::Own { registers: true };
        let observation = Observation { token, request: *binding, numbers: None };
        if registers && opened.observes_outside && opened.observes() && self.observations.keep(observation) {
            return self.number(opened, token);
        }
        let Opened { datagram, place, .. } = opened;
        let place = replace_observe(datagram, place, Keep::Nothing);
        place.and_then(|place| message(datagram, place, token)).ok_or(Refused::Silent)
    }

    fn unprotect_notification<'m>(&mut self, incoming: Incoming<'m>) -> Result<Message<'m>, Refused> {
        let token = incoming.token();
        let observation = self.observations.find(token).ok_or(Refused::Reset)?;
        let request = observation.request;
        let opened = self.open_response(request, incoming).ok_or(Refused::Silent)?;
        // RFC 8613 §7.4.1: each has a number of its own.
        if opened.partial_iv.is_none() {
            return Err(Refused::Silent);
        }
        self.number(opened, token)
    }

    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<Binding, Unprotectable> {
        let partial_iv = self.session.context.sequence.take().ok_or(Unprotectable::NoSequence)?;
        let announced = self.session.announcement();
        let context = &self.session.context;
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: announced.as_deref().and_then(IdContext::new),
            kid: Some(context.sender_id()),
        };
        let request = Request { by: End::Sender, partial_iv };
        let nonce = context.nonce(End::Sender, partial_iv);
        let registers = seal(context, option, (request, &nonce), draft)? == Some(REGISTER);
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
        let second;
        let mut option = OscoreOption::default();
        let (context, nonce) = if binding.kind == Kind::Rederiving {
            let rederivation = self.rederivation.ok_or(Unprotectable::Superseded)?;
            second = rederivation.answering(self.session, binding.partial_iv);
            let (context, nonce, r2) = second.as_ref().ok_or(Unprotectable::Superseded)?;
            option.kid_context = IdContext::new(r2);
            (context, *nonce)
        } else {
            // One response may go under the nonce of its request, which costs no byte. Not a notification; and not what
            // answers a request that may be a replay, because it may have been answered before (RFC 8613 Appendix B.1.2).
            let mut number = (End::Recipient, binding.partial_iv);
            if notification || binding.kind != Kind::Fresh {
                let partial_iv = self.session.context.sequence.take().ok_or(Unprotectable::NoSequence)?;
                option.partial_iv = Some(partial_iv);
                number = (End::Sender, partial_iv);
            }
            (&self.session.context, self.session.context.nonce(number.0, number.1))
        };
        let request = Request { by: End::Recipient, partial_iv: binding.partial_iv };
        seal(context, option, (request, &nonce), draft).map(|_| ())
    }
}

/// Seals a draft; the value of its Observe option.
fn seal(
    context: &Context,
    option: OscoreOption<'_>,
    (request, nonce): (Request, &Nonce),
    draft: &mut Draft<'_>,
) -> Result<Option<u32>, Unprotectable> {
    let code = draft.code();
    let is_response = code.is_response();
    let (buffer, place) = draft.parts_mut();
    let text = buffer.get(place.clone()).unwrap_or_default();
    let (options, payload) = Options::parse(text).map_err(|_| Unprotectable::Full)?;
    let behind = if payload.is_empty() { 0 } else { payload.len().saturating_add(1) };

    let mut scratch = [0; SCRATCH];
    let observe = options.observe();
    let observes = observe.is_some();
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
        let length = rewrite(list, &|number| match number {
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
    draft.replace(code, begin..end).map_err(|_| Unprotectable::Full)?;
    Ok(observe)
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
) -> Option<(&'m mut [u8], Range<usize>)> {
    let (datagram, _, payload) = incoming.into_parts();
    let length = context.open(request, nonce, datagram.get_mut(payload.clone())?)?;
    let place = payload.start..payload.start.saturating_add(length);
    Some((datagram, place))
}

/// The message of code, options and payload at `place`.
fn message(datagram: &mut [u8], place: Range<usize>, token: Token) -> Option<Message<'_>> {
    let (code, rest) = datagram.get(place)?.split_first()?;
    let (options, payload) = Options::parse(rest).ok()?;
    Some(Message { code: Code::from_u8(*code), token, options, payload })
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
    let length = rewrite(datagram.get_mut(list.clone())?, &|number| match number {
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
