//! What comes in (RFC 7252 §4.2, §4.3, §5.2, §5.3): from a datagram to a request, a response, or what to make of it.
//!
//! Invariant: duplicates are found before anything is unprotected, and message ids are remembered after.

use super::answers::State;
use super::exchange::Answer;
use super::outgoing::{Phase, Role};
use super::{Delivery, Due, Exchange, Failure, Ignored, Input, Peer, RequestId, Sent, Stored, refusal};
use crate::code::Code;
use crate::protect::{Incoming, Protect, Refused};
use crate::time::Instant;
use crate::token::Token;
use crate::udp::{HEADER_LENGTH, Header, Kind};

impl<B: Stored, const REQUESTS: usize, const ANSWERS: usize, const NOTIFIED: usize, K: Clone, A: Stored>
    Peer<B, REQUESTS, ANSWERS, NOTIFIED, K, A>
{
    /// Takes a datagram of the remote, which was decrypted if the transport is secure. Act on what is returned, then
    /// drain [`Peer::poll_transmit`].
    pub fn handle<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        datagram: &'m mut [u8],
        protect: &mut P,
    ) -> Input<'m, K> {
        let length = datagram.len();
        let (header, incoming) = match Incoming::parse(datagram) {
            Ok(parsed) => parsed,
            Err(malformed) => {
                if let Some(id) = malformed.reject {
                    self.due = Due::Reset(id);
                }
                return Input::Ignored(Ignored::Malformed(malformed.fault));
            }
        };
        let code = incoming.code();
        match header.kind {
            _ if code == Code::EMPTY => self.handle_empty(now, header),
            Kind::Confirmable | Kind::NonConfirmable if code.is_request() => {
                self.handle_request(now, header, (incoming, length), protect)
            }
            Kind::Confirmable | Kind::NonConfirmable | Kind::Acknowledgement if code.is_response() => {
                self.handle_response(now, header, incoming, protect)
            }
            // RFC 7252 §4.2: a Reset is empty, an Acknowledgement carries no request.
            _ => Input::Ignored(Ignored::Kind),
        }
    }

    #[inline(never)]
    fn handle_empty(&mut self, now: Instant, header: Header) -> Input<'static, K> {
        let id = header.id;
        let index = || self.outgoing.iter().position(|outgoing| outgoing.id == id);
        match header.kind {
            Kind::Confirmable => {
                // RFC 7252 §4.3: a ping is answered with a Reset.
                self.due = Due::Reset(id);
                Input::Ignored(Ignored::Ping)
            }
            Kind::NonConfirmable => Input::Ignored(Ignored::Kind),
            Kind::Acknowledgement => {
                let Some(index) = index() else { return Input::Ignored(Ignored::Unknown) };
                let parameters = self.parameters;
                let Some(outgoing) = self.outgoing.get_mut(index) else {
                    return Input::Ignored(Ignored::Unknown);
                };
                if outgoing.phase != Phase::Unacknowledged {
                    return Input::Ignored(Ignored::Unknown);
                }
                let sent = outgoing.sent();
                if outgoing.role == Role::Request {
                    outgoing.acknowledge(now, parameters);
                } else {
                    self.outgoing.remove(index);
                }
                Input::Acknowledged(sent)
            }
            Kind::Reset => {
                if let Some(index) = index() {
                    return Input::Reset(self.outgoing.remove(index).sent());
                }
                match self.notified.iter().position(|(other, _)| *other == id) {
                    Some(index) => Input::Reset(Sent::Notification(self.notified.remove(index).1)),
                    None => Input::Ignored(Ignored::Unknown),
                }
            }
        }
    }

    fn handle_request<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        header: Header,
        (incoming, length): (Incoming<'m>, usize),
        protect: &mut P,
    ) -> Input<'m, K> {
        let Header { kind, id } = header;
        self.answers.forget(now);
        // A remote that started again counts its message ids from where it did before: another token shows another request.
        let is_same =
            |answer: Option<&A>| answer.is_none_or(|answer| has_token(answer.bytes(), incoming.token()));
        let known = self.answers.find(id).filter(|(_, answer)| is_same(*answer)).map(|(state, _)| state);
        match known {
            Some(State::Answered) => self.due = Due::Repeat(id),
            Some(State::Deferred | State::Acknowledged) => self.due = Due::Acknowledge(id),
            Some(State::InProcess | State::Silent | State::Repeatable) | None => {}
        }
        let is_repeated = known == Some(State::Repeatable);
        if known.is_some() && !is_repeated {
            return Input::Duplicate;
        }
        let confirmable = kind == Kind::Confirmable;
        let token = incoming.token();
        let protects = protect.protects();
        // What cannot be remembered must not be executed twice; nothing has changed yet that would refuse it when it comes again.
        if !self.answers.has_room() && (protects || !incoming.code().is_idempotent()) {
            if confirmable {
                let code = Code::SERVICE_UNAVAILABLE;
                self.due = match protects {
                    true => Due::Unprotected { id, token, code },
                    false => Due::Refuse { id, token, code },
                };
            }
            return Input::Ignored(Ignored::Busy);
        }
        let (message, binding) = match protect.unprotect_request(incoming, is_repeated) {
            Ok(unprotected) => unprotected,
            Err(refused) => {
                if let (Refused::Answer(code), true) = (refused, confirmable) {
                    self.due = Due::Unprotected { id, token, code };
                }
                return Input::Ignored(Ignored::Refused);
            }
        };
        let unknown = message.options.first_unknown_critical(self.parameters.known);
        if let Some(number) = unknown.filter(|_| !protects || !confirmable) {
            // RFC 7252 §5.4.1: a Confirmable request is refused, a Non-confirmable one is rejected in silence.
            if confirmable {
                let code = number.refused_with();
                // A text that would make the answer longer than what came is left out.
                let has_text = code == Code::BAD_OPTION
                    && length >= refusal(id, token, code, &number.diagnostic()).len();
                self.due = match has_text {
                    true => Due::BadOption { id, token, number },
                    false => Due::Refuse { id, token, code },
                };
            }
            return Input::Ignored(Ignored::BadOption(number));
        }
        let lifetime = match confirmable {
            true => self.parameters.exchange_lifetime,
            false => self.parameters.non_lifetime,
        };
        self.answers.remember(now, lifetime, id, State::InProcess, true);
        let idempotent = message.code.is_idempotent();
        let answer = match confirmable {
            true => Answer::Piggybacked,
            false => Answer::Separate(Delivery::NonConfirmable),
        };
        let exchange = Exchange { kind, answer, idempotent, id, token, binding };
        match unknown {
            // RFC 8613 §8.2: what follows decryption is answered with protection.
            Some(number) => Input::Unacceptable { exchange, number },
            None => Input::Request { exchange, message },
        }
    }

    #[inline(never)]
    fn handle_response<'m, P: Protect<Binding = K>>(
        &mut self,
        now: Instant,
        header: Header,
        incoming: Incoming<'m>,
        protect: &mut P,
    ) -> Input<'m, K> {
        let Header { kind, id } = header;
        let confirmable = kind == Kind::Confirmable;
        if confirmable {
            self.answers.forget(now);
            if let Some((State::Acknowledged, _)) = self.answers.find(id) {
                self.due = Due::Acknowledge(id);
                return Input::Duplicate;
            }
        }
        let token = incoming.token();
        // RFC 7252 §5.3.2: a piggybacked response matches by message id and token, a separate one by token.
        let index = self.outgoing.iter().position(|outgoing| {
            outgoing.role == Role::Request
                && outgoing.token == token
                && !matches!(outgoing.phase, Phase::Failed(_))
                && (kind != Kind::Acknowledgement || outgoing.id == id)
        });
        let binding = index.and_then(|index| self.outgoing.get(index)?.binding.clone());
        let message = match &binding {
            Some(binding) => match protect.unprotect_response(binding, incoming) {
                Ok(message) => message,
                Err(_) => return Input::Ignored(Ignored::Refused),
            },
            None if kind == Kind::Acknowledgement => return Input::Ignored(Ignored::Unknown),
            None => match protect.unprotect_notification(incoming) {
                Ok(message) => message,
                Err(refused) => {
                    match refused {
                        Refused::Acknowledge => self.accept(header),
                        Refused::Reset => self.reject(header),
                        Refused::Silent | Refused::Answer(_) => {}
                    }
                    return Input::Ignored(Ignored::Refused);
                }
            },
        };
        if let Some(number) = message.options.first_unknown_critical(self.parameters.known) {
            // RFC 7252 §5.4.1: such a response is rejected, so its request will have no other.
            if confirmable {
                self.due = Due::Reset(id);
            }
            if let Some(outgoing) = index.and_then(|index| self.outgoing.get_mut(index)) {
                outgoing.fail(Failure::BadOption);
            }
            return Input::Ignored(Ignored::BadOption(number));
        }
        let Some(index) = index else { return Input::Unsolicited { header, message } };
        if confirmable {
            self.due = Due::Acknowledge(id);
            // Not worth forgetting an answer: a duplicate that is not recognised is rejected, which harms nobody.
            let lifetime = self.parameters.exchange_lifetime;
            self.answers.remember(now, lifetime, id, State::Acknowledged, false);
        }
        let request = RequestId(self.outgoing.remove(index).id);
        Input::Response { request, message }
    }
}

/// Whether a message that was sent has this token.
fn has_token(datagram: &[u8], token: Token) -> bool {
    datagram.first().is_some_and(|first| first & 0x0f == token.length())
        && datagram.get(HEADER_LENGTH..).is_some_and(|rest| rest.starts_with(token.bytes()))
}
