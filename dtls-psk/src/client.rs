//! The client's side of a PSK handshake (RFC 6347 §4.2, RFC 4279 §2).
//!
//! 1. ClientHello →
//! 2. ← HelloVerifyRequest (some servers leave it out)
//! 3. ClientHello with the cookie →
//! 4. ← ServerHello, ServerKeyExchange with an identity hint (mostly left out) or a share, ServerHelloDone
//! 5. ClientKeyExchange, ChangeCipherSpec, Finished →
//! 6. ← ChangeCipherSpec, Finished
//!
//! Module `resume` has the abbreviated one.
//!
//! Invariant: established only after the server's Finished was decrypted and verified.

use crate::association::Role;
#[cfg(feature = "rpk")]
use crate::certificate::CertificateType;
use crate::connection_id::{ConnectionId, PeerId};
use crate::crypto::{Crypto, RunningHash as _};
use crate::error::{Dropped, Reason};
use crate::handshake::{Core, Failure, State, Step};
#[cfg(feature = "record-size-limit")]
use crate::limits::{self, FragmentLength, Limits};
use crate::message::{self, HelloExtensions, Message, MessageType, ServerHello};
use crate::psk::{StoredIdentity, StoredKey};
use crate::wire::Writer;

/// How many cookies a client lets itself be asked for.
const HELLO_VERIFY_REQUESTS_MAX: u8 = 4;

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// Queues a ClientHello; the transcript starts with it.
    pub(crate) fn push_client_hello(&mut self, cookie: &[u8]) -> Result<(), Failure> {
        let Self { association, core, flight, now } = self;
        flight.clear();
        core.hello_sequence = association.plain_sequence;
        let Core { client_random, suites, offered_id, return_routability, .. } = core;
        #[cfg(feature = "record-size-limit")]
        let (record_size_limit, fragment_length) = limits::offer(core.record_size_limit);
        // RFC 7250 §4.1: certificates need no word.
        #[cfg(feature = "rpk")]
        let certificate_type = (suites.has_ecdsa()
            && core.authentication.own == CertificateType::RawPublicKey)
            .then_some(RAW_PUBLIC_KEYS);
        #[cfg(feature = "ecdhe")]
        let groups = crate::ecdhe::codes(core.group_preference.groups());
        #[cfg(feature = "resumption")]
        let session_id = core.resuming.offered_id();
        #[cfg(not(feature = "resumption"))]
        let session_id = &[];
        let extensions = HelloExtensions {
            extended_master_secret: true,
            connection_id: offered_id.as_ref().map(ConnectionId::bytes),
            return_routability: *return_routability && offered_id.is_some(),
            #[cfg(feature = "cbc")]
            encrypt_then_mac: suites.has_cbc(),
            #[cfg(feature = "record-size-limit")]
            max_fragment_length: fragment_length.map(FragmentLength::code),
            #[cfg(feature = "record-size-limit")]
            record_size_limit,
            #[cfg(feature = "ecdhe")]
            groups: suites.has_ecdhe().then_some(&groups),
            #[cfg(feature = "ecdhe")]
            point_formats: suites.has_ecdhe().then_some(crate::ecdhe::POINT_FORMATS),
            #[cfg(feature = "rpk")]
            client_certificate_type: certificate_type,
            #[cfg(feature = "rpk")]
            server_certificate_type: certificate_type,
            #[cfg(feature = "rpk")]
            signature_algorithms: suites.has_ecdsa().then_some(&crate::signature::ALGORITHM),
            #[cfg(feature = "x509")]
            server_name: Some(&*core.authentication.server_name).filter(|name| !name.is_empty()),
            ..HelloExtensions::default()
        };
        let message = flight
            .push(MessageType::ClientHello, core.hello_seq, 0, |out| {
                message::emit_client_hello(out, client_random, session_id, cookie, suites, &extensions)
            })
            .ok_or(Reason::TooLong)?;
        core.transcript = C::Sha256::new();
        core.absorb(&message);
        core.timers.flight(*now);
        Ok(())
    }

    /// Repeats the ClientHello with the server's cookie.
    ///
    /// The request's record has the number of the ClientHello it answers (RFC 6347 §4.2.1). One that answers an earlier
    /// ClientHello came late: the server may have taken the cookie that was sent meanwhile.
    pub(crate) fn handle_hello_verify_request(
        &mut self,
        message: &Message<'_>,
        record_sequence: u64,
    ) -> Result<(), Failure> {
        if self.core.state != State::ServerHello {
            return Err(Dropped::Unexpected.into());
        }
        if self.core.hello_verify_requests > 0 && record_sequence < self.core.hello_sequence {
            return Err(Dropped::Duplicate.into());
        }
        let cookie = message::or_malformed(message::parse_hello_verify_request(message.body))?;
        if self.flight.first_body().and_then(message::own_cookie) == Some(cookie) {
            return Err(Dropped::Duplicate.into());
        }
        if self.core.hello_verify_requests >= HELLO_VERIFY_REQUESTS_MAX {
            return Err(Reason::CookieLoop.into());
        }
        self.core.hello_verify_requests = self.core.hello_verify_requests.saturating_add(1);
        self.core.hello_seq = self.core.hello_seq.saturating_add(1);
        self.core.suspicion = None;
        self.push_client_hello(cookie)
    }

    pub(crate) fn handle_as_client(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        match (self.core.state, message.message_type) {
            (State::ServerHello, MessageType::ServerHello) => {
                let hello = ServerHello::parse(message.body)?;
                if !self.core.suites.contains(hello.suite) {
                    return Err(Reason::NoCommonSuite.into());
                }
                #[cfg(feature = "ecdhe")]
                self.check_curves(&hello.extensions)?;
                #[cfg(feature = "rpk")]
                self.check_certificate_types(&hello)?;
                #[cfg(feature = "cbc")]
                if hello.extensions.encrypt_then_mac {
                    // RFC 7366 §2: it was offered with such a suite, and answered with one.
                    if !self.core.suites.has_cbc() {
                        return Err(Reason::UnofferedExtension.into());
                    }
                    if !hello.suite.is_cbc() {
                        return Err(Reason::ProtocolViolation.into());
                    }
                    self.core.encrypt_then_mac = true;
                }
                self.core.server_random = *hello.random;
                self.core.suite = hello.suite;
                self.core.extended_master_secret = hello.extensions.extended_master_secret;
                self.take_connection_id(&hello.extensions)?;
                #[cfg(feature = "record-size-limit")]
                self.take_limits(&hello.extensions)?;
                self.core.absorb(message);
                self.core.state = State::ServerHelloDone;
                #[cfg(feature = "rpk")]
                if hello.suite.is_ecdsa() {
                    self.core.state = State::Certificate;
                }
                #[cfg(feature = "resumption")]
                self.take_up_session(hello.session_id, message.message_seq)?;
            }
            (State::ServerHelloDone, MessageType::ServerKeyExchange)
                if !self.core.has_server_key_exchange =>
            {
                self.take_server_key_exchange(message.body)?;
                self.core.has_server_key_exchange = true;
                self.core.absorb(message);
            }
            #[cfg(feature = "rpk")]
            (State::Certificate, MessageType::Certificate) => self.take_certificate(message)?,
            #[cfg(feature = "rpk")]
            (State::ServerHelloDone, MessageType::CertificateRequest)
                if self.core.suite.is_ecdsa()
                    && self.core.has_server_key_exchange
                    && !self.core.authentication.is_mutual =>
            {
                self.take_certificate_request(message)?;
            }
            (State::ServerHelloDone, MessageType::ServerHelloDone)
                if message.body.is_empty()
                    && (self.core.has_server_key_exchange || !self.core.suite.is_ecdhe()) =>
            {
                self.core.absorb(message);
                #[cfg(feature = "rpk")]
                if self.core.suite.is_ecdsa() {
                    self.await_proof();
                } else {
                    self.answer_server_hello_done()?;
                }
                #[cfg(not(feature = "rpk"))]
                self.answer_server_hello_done()?;
            }
            (State::Finished, MessageType::Finished) => {
                self.verify_finished(message, Role::Server)?;
                let Self { core, flight, now, .. } = self;
                if core.is_needed_by(Role::Client) {
                    flight.clear();
                    core.timers.last_flight(*now);
                }
                if core.is_abbreviated() {
                    let message_seq = core.hello_seq.wrapping_add(1);
                    self.push_finished(message_seq)?;
                }
            }
            _ => return Err(Dropped::Unexpected.into()),
        }
        self.core.suspicion = None;
        Ok(())
    }

    fn take_server_key_exchange(&mut self, body: &[u8]) -> Result<(), Failure> {
        #[cfg(feature = "rpk")]
        if self.core.suite.is_ecdsa() {
            return self.take_signed_share(body);
        }
        #[cfg(feature = "ecdhe")]
        if self.core.suite.is_ecdhe() {
            let share = message::or_malformed(crate::ecdhe::parse_server_key_exchange(body))?;
            let agreement = &mut self.core.agreement;
            let agreed = share.and_then(|share| {
                agreement.move_to(share.group())?;
                agreement.agree(&share)
            });
            return agreed.ok_or(Reason::InvalidShare.into());
        }
        // RFC 4279 §5.2: without an agreed meaning the hint is ignored.
        message::or_malformed(message::parse_vector(body))?;
        Ok(())
    }

    /// RFC 8422 §5.2: a server that says which forms of points it reads must read the one that there is.
    #[cfg(feature = "ecdhe")]
    fn check_curves(&self, extensions: &HelloExtensions<'_>) -> Result<(), Reason> {
        let HelloExtensions { groups, point_formats, .. } = extensions;
        if (groups.is_some() || point_formats.is_some()) && !self.core.suites.has_ecdhe() {
            return Err(Reason::UnofferedExtension);
        }
        crate::ecdhe::reads_points(*point_formats).then_some(()).ok_or(Reason::ProtocolViolation)
    }

    /// RFC 7250 §4.2: the server answers with the kind that was offered, for the client only if it wants to know who that is; who
    /// does not know the extension has certificates.
    #[cfg(feature = "rpk")]
    fn check_certificate_types(&mut self, hello: &ServerHello<'_>) -> Result<(), Reason> {
        let HelloExtensions {
            client_certificate_type, server_certificate_type, signature_algorithms, ..
        } = hello.extensions;
        let own = self.core.authentication.own;
        let are_raw = self.core.suites.has_ecdsa() && own == CertificateType::RawPublicKey;
        let answers = [client_certificate_type, server_certificate_type];
        if signature_algorithms.is_some() || (answers.iter().any(Option::is_some) && !are_raw) {
            return Err(Reason::UnofferedExtension);
        }
        #[cfg(feature = "x509")]
        if let Some(answer) = hello.extensions.server_name {
            if self.core.authentication.server_name.is_empty() {
                return Err(Reason::UnofferedExtension);
            }
            // RFC 6066 §3: an answer holds nothing.
            if !answer.is_empty() {
                return Err(Reason::ProtocolViolation);
            }
        }
        let is_raw = |answer: &[u8]| answer == [CertificateType::RawPublicKey.code()];
        self.core.authentication.is_own_agreed = client_certificate_type.is_some();
        // Nobody presents anything where a session is taken up.
        #[cfg(feature = "resumption")]
        let is_presented = self.core.resuming.taken_up_by(hello.session_id).is_none();
        #[cfg(not(feature = "resumption"))]
        let is_presented = true;
        let is_possible = !are_raw
            || !hello.suite.is_ecdsa()
            || !is_presented
            || (server_certificate_type.is_some_and(is_raw) && client_certificate_type.is_none_or(is_raw));
        is_possible.then_some(()).ok_or(Reason::WrongCertificateType)
    }

    /// RFC 9146 §3: with the server's answer each side's records have the other's Connection ID.
    fn take_connection_id(&mut self, extensions: &HelloExtensions<'_>) -> Result<(), Failure> {
        let Self { association, core, .. } = self;
        let Some(peer) = extensions.connection_id else {
            // RFC 9853 §3: the check goes with Connection IDs.
            return if extensions.return_routability {
                Err(Reason::UnofferedExtension.into())
            } else {
                Ok(())
            };
        };
        let own = core.offered_id.ok_or(Reason::UnofferedExtension)?;
        if extensions.return_routability && !core.return_routability {
            return Err(Reason::UnofferedExtension.into());
        }
        let peer = PeerId::from_slice(peer).map_err(|_| Reason::TooLong)?;
        association.agree_ids(own, peer, extensions.return_routability);
        Ok(())
    }

    /// RFC 8449 §4, RFC 6066 §4: the server tells its own limit, or repeats our length.
    #[cfg(feature = "record-size-limit")]
    fn take_limits(&mut self, extensions: &HelloExtensions<'_>) -> Result<(), Reason> {
        let (offered, length) = limits::offer(self.core.record_size_limit);
        self.association.limits = match (extensions.record_size_limit, extensions.max_fragment_length) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => return Err(Reason::ProtocolViolation),
            (Some(peer), None) => {
                let own = offered.ok_or(Reason::UnofferedExtension)?;
                let has_id = (!self.association.peer_id().is_empty(), !self.association.own_id().is_empty());
                Limits::of_sizes(peer, own, has_id)
            }
            (None, Some(code)) => {
                let length = length.ok_or(Reason::UnofferedExtension)?;
                if length.code() != code {
                    return Err(Reason::ProtocolViolation);
                }
                Limits::of_fragments(length)
            }
        };
        Ok(())
    }

    fn answer_server_hello_done(&mut self) -> Result<(), Failure> {
        let Self { association, core, flight, now } = self;
        flight.clear();
        let identity: &StoredIdentity = &core.identity;
        #[cfg(feature = "ecdhe")]
        let share = if core.suite.is_ecdhe() { core.agreement.share() } else { None };
        let message = flight
            .push(MessageType::ClientKeyExchange, core.hello_seq.wrapping_add(1), 0, |out| {
                let mut writer = Writer::new(out);
                writer.vector16(identity)?;
                #[cfg(feature = "ecdhe")]
                if let Some(share) = share {
                    writer.vector8(share.bytes())?;
                }
                Some(writer.len())
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        let key = core::mem::replace(&mut core.key, StoredKey::EMPTY);
        core.derive(association, key.bytes(), |_, _| ());
        core.state = State::Finished;
        core.timers.flight(*now);
        let message_seq = core.client_finished_seq();
        self.push_finished(message_seq)
    }
}

/// RawPublicKey alone, as the value of client_certificate_type and server_certificate_type.
#[cfg(feature = "rpk")]
const RAW_PUBLIC_KEYS: &[u8] = &[1, CertificateType::RawPublicKey.code()];
