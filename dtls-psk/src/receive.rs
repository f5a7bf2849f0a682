//! The way of a record into a connection: protection, content type, fragments, messages in their order (RFC 6347 §4.1,
//! §4.2; invariant: nothing that is not authentic ends an association or moves its replay window).

use core::borrow::BorrowMut;

use crate::alert::{self, Alert, Level};
use crate::association::{Phase, Role};
use crate::connection::Connection;
use crate::crypto::Crypto;
use crate::error::{Dropped, Reason};
use crate::event::Input;
use crate::handshake::{Failure, Handshake, PROTECTED, State};
use crate::message::{Fragment, Message, MessageType};
use crate::path::PathMessage;
use crate::record::{ContentType, Header, Version};
use crate::time::Instant;
use crate::wire::Reader;

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    pub(crate) fn handle_record<'d>(
        &mut self,
        now: Instant,
        header: Header,
        body: &'d mut [u8],
    ) -> Result<Option<Input<'d>>, Dropped> {
        if self.association.phase == Phase::Closed {
            return Err(Dropped::Unexpected);
        }
        let content_type = ContentType::from_code(header.content_type).ok_or(Dropped::Unsupported)?;
        let is_known =
            header.version == Version::DTLS_1_2 || (header.version == Version::DTLS_1_0 && header.epoch == 0);
        if !is_known {
            return Err(Dropped::Unsupported);
        }
        if header.epoch == 0 {
            return self.handle_plain(now, content_type, header, body);
        }
        #[cfg(feature = "server")]
        if self.association.role == Role::Server
            && self.association.epoch(header.epoch).is_none()
            && self.keep_early(content_type, header, body)
        {
            return Ok(None);
        }
        let (content_type, plaintext) = match self.association.open::<C>(header, body) {
            Ok(opened) => opened,
            Err(dropped) => {
                // A server that answers our Finished has our key: what cannot be decrypted on a client is forged.
                if dropped == Dropped::Unauthenticated && self.association.role == Role::Server {
                    self.suspect(Reason::WrongKey);
                }
                return Err(dropped);
            }
        };
        match content_type {
            ContentType::ApplicationData if self.association.phase == Phase::Established => {
                // RFC 6347 §4.2.4: the peer has our last flight.
                self.release();
                Ok(Some(Input::Application(plaintext)))
            }
            ContentType::ReturnRoutabilityCheck
                if self.association.phase == Phase::Established && self.association.path.is_checkable =>
            {
                self.handle_path_message(plaintext)
            }
            ContentType::ApplicationData
            | ContentType::ChangeCipherSpec
            | ContentType::ReturnRoutabilityCheck
            | ContentType::ConnectionId => Err(Dropped::Unexpected),
            ContentType::Alert => match alert::parse(plaintext).ok_or(Dropped::Malformed)? {
                (_, Alert::CLOSE_NOTIFY) => {
                    // RFC 5246 §7.2.1: answered with one of our own.
                    self.close();
                    Ok(Some(Input::Closed(Reason::PeerClosed)))
                }
                (Level::Fatal, alert) => Ok(Some(self.close_for(Reason::PeerAlert(alert)))),
                (Level::Warning, _) => Ok(None),
            },
            ContentType::Handshake => self.handle_fragments(now, header, plaintext),
        }
    }

    fn handle_path_message(&mut self, body: &[u8]) -> Result<Option<Input<'static>>, Dropped> {
        match PathMessage::parse(body).ok_or(Dropped::Malformed)? {
            PathMessage::Challenge(cookie) => {
                self.association.path.answer = heapless::Vec::from_slice(&cookie).unwrap_or_default();
                Ok(None)
            }
            PathMessage::Response(cookie) => Ok(Some(Input::PathResponse(cookie))),
            PathMessage::Drop(cookie) => Ok(Some(Input::PathDrop(cookie))),
            PathMessage::Other => Err(Dropped::Unexpected),
        }
    }

    /// A record in the clear: anyone may have sent it.
    fn handle_plain(
        &mut self,
        now: Instant,
        content_type: ContentType,
        header: Header,
        body: &[u8],
    ) -> Result<Option<Input<'static>>, Dropped> {
        match content_type {
            ContentType::ApplicationData
            | ContentType::ReturnRoutabilityCheck
            | ContentType::ConnectionId => Err(Dropped::Unexpected),
            ContentType::Handshake => self.handle_fragments(now, header, body),
            ContentType::Alert => {
                let (level, alert) = alert::parse(body).ok_or(Dropped::Malformed)?;
                let is_end = level == Level::Fatal || alert == Alert::CLOSE_NOTIFY;
                let is_possible = self.association.role == Role::Server || alert.is_from_a_server();
                if is_end && is_possible {
                    self.suspect(Reason::PeerAlert(alert));
                }
                Err(Dropped::Unexpected)
            }
            ContentType::ChangeCipherSpec => {
                if body != [1] {
                    return Err(Dropped::Malformed);
                }
                let (step, _) = self.step(now).ok_or(Dropped::Unexpected)?;
                if step.core.change_cipher_spec {
                    return Err(Dropped::Duplicate);
                }
                // It carries nothing and may overtake what it belongs to: it only allows a Finished, once there are keys.
                step.core.change_cipher_spec = true;
                Ok(self.handle_complete(now))
            }
        }
    }

    /// Notes what will be the reason if the handshake does not get on. What is known of the peer's key stays.
    fn suspect(&mut self, reason: Reason) {
        if self.association.phase == Phase::Handshaking
            && let Some(handshake) = &mut self.handshake
        {
            let suspicion = &mut handshake.borrow_mut().core.suspicion;
            if !matches!(
                suspicion,
                Some(Reason::UnknownIdentity | Reason::IdentityTooLong | Reason::WrongKey)
            ) {
                *suspicion = Some(reason);
            }
        }
    }

    fn handle_fragments<'d>(
        &mut self,
        now: Instant,
        header: Header,
        plaintext: &[u8],
    ) -> Result<Option<Input<'d>>, Dropped> {
        let mut reader = Reader::new(plaintext);
        if reader.is_empty() {
            return Err(Dropped::Malformed);
        }
        while !reader.is_empty() {
            let fragment = Fragment::parse(&mut reader).ok_or(Dropped::Malformed)?;
            match self.handle_fragment(now, header, &fragment) {
                Ok(()) => {}
                Err(Failure::Dropped(dropped)) => {
                    if dropped == Dropped::TooLarge {
                        self.suspect(Reason::TooLong);
                    }
                    self.association.count(dropped);
                }
                Err(Failure::Refused(reason)) => return Ok(Some(self.close_for(reason))),
            }
            if let Some(input) = self.handle_complete(now) {
                return Ok(Some(input));
            }
        }
        Ok(None)
    }

    /// Keeps a fragment, or answers a message that needs no order.
    fn handle_fragment(
        &mut self,
        now: Instant,
        Header { epoch, sequence, .. }: Header,
        fragment: &Fragment<'_>,
    ) -> Result<(), Failure> {
        let message_type = MessageType::from_code(fragment.header.code).ok_or(Dropped::Unexpected)?;
        let role = self.association.role;
        let is_established = self.association.phase == Phase::Established;
        let starts_handshake = match role {
            Role::Client => MessageType::HelloRequest,
            Role::Server => MessageType::ClientHello,
        };
        if epoch != 0 && is_established && message_type == starts_handshake {
            // RFC 5746: no renegotiation, whoever wants it.
            self.association.queue_alert(Level::Warning, Alert::NO_RENEGOTIATION);
            return Err(Dropped::Unexpected.into());
        }
        // A Finished is protected and everything before it is not.
        if (message_type == MessageType::Finished) != (epoch == PROTECTED) {
            return Err(Dropped::Unexpected.into());
        }
        let (mut step, reassembly) = self.step(now).ok_or(Dropped::Duplicate)?;
        let message =
            Message { message_type, message_seq: fragment.header.message_seq, body: fragment.bytes };
        match (message_type, role) {
            (MessageType::HelloVerifyRequest, Role::Client) => {
                if !fragment.is_whole() {
                    return Err(Dropped::TooLarge.into());
                }
                step.handle_hello_verify_request(&message, sequence)?;
                reassembly.restart(message.message_seq.saturating_add(1));
                return Ok(());
            }
            #[cfg(feature = "server")]
            (MessageType::ClientHello, Role::Server) => {
                return step.repeat_for_client_hello(fragment).map_err(Failure::from);
            }
            // A server that asked for several cookies may count its messages differently.
            (MessageType::ServerHello, Role::Client)
                if step.core.state == State::ServerHello
                    && message.message_seq > reassembly.next()
                    && message.message_seq <= step.core.hello_seq =>
            {
                reassembly.restart(message.message_seq);
            }
            _ => {}
        }
        if message.message_seq < reassembly.next() {
            step.repeat_for(message_type);
            return Err(Dropped::Duplicate.into());
        }
        // What the owner judges is what was taken: nothing takes its place.
        #[cfg(feature = "rpk")]
        if message.message_seq == reassembly.next() && step.core.waiting.is_for_message() {
            return Err(Dropped::Duplicate.into());
        }
        // The usual case needs no copy: whole, and its turn.
        let is_next = fragment.is_whole() && message.message_seq == reassembly.next();
        #[cfg(feature = "rpk")]
        let is_next = is_next && !step.keeps(message_type);
        if is_next && step.is_ready_for(message_type) {
            step.handle(&message)?;
            reassembly.advance();
            return Ok(());
        }
        reassembly.insert(message_type, fragment).map_err(Failure::from)
    }

    /// Processes what is complete, in order, and reports what came of it.
    pub(crate) fn handle_complete(&mut self, now: Instant) -> Option<Input<'static>> {
        while let Some((mut step, reassembly)) = self.step(now) {
            let Some(message) = reassembly.complete() else {
                break;
            };
            if !step.is_ready_for(message.message_type) {
                break;
            }
            match step.handle(&message) {
                #[cfg(feature = "rpk")]
                Ok(()) if step.keeps(message.message_type) => break,
                Ok(()) => reassembly.advance(),
                Err(Failure::Dropped(dropped)) => {
                    reassembly.discard_next();
                    self.association.count(dropped);
                }
                Err(Failure::Refused(reason)) => return Some(self.close_for(reason)),
            }
        }
        let core = &self.handshake.as_ref()?.borrow().core;
        if self.association.phase != Phase::Handshaking || core.state != State::Kept {
            return None;
        }
        let full = !core.is_abbreviated();
        if !core.is_needed_by(self.association.role) {
            self.release();
        }
        self.association.phase = Phase::Established;
        Some(Input::Established { full })
    }
}
