//! The server's side of a PSK handshake, from the ClientHello with a valid cookie on (RFC 6347 §4.2, RFC 4279 §2).
//!
//! 1. → ClientHello with the cookie: [`CookieJar::accept`](crate::CookieJar::accept) did what comes before
//! 2. ServerHello, ServerHelloDone →
//! 3. ← ClientKeyExchange: the identity is looked up; ChangeCipherSpec, Finished
//! 4. ChangeCipherSpec, Finished →, kept until the client's application data shows that they arrived
//!
//! Invariant: an unknown identity goes on with a random key, so that nothing tells it from a wrong key.

use crate::association::Role;
use crate::error::{Dropped, Reason};
use crate::event::PendingId;
use crate::handshake::{Failure, LookUp, State, Step};
use crate::message::{self, ClientHello, Fragment, HelloFlags, Message, MessageType, OfferedHello};
use crate::psk::{StoredIdentity, StoredKey};

impl<const N: usize> Step<'_, N> {
    /// Takes over the ClientHello and queues the answer.
    pub(crate) fn answer_client_hello(&mut self, hello: &ClientHello<'_>) -> Result<(), Failure> {
        let Self { association, core, flight, now } = self;
        association.hello = *hello.random.first_chunk().unwrap_or(&[0; 8]);
        core.state = State::ClientKeyExchange;
        core.suite = hello.suite;
        core.extended_master_secret = hello.extended_master_secret;
        core.client_random = *hello.random;
        core.hello_seq = hello.message_seq;
        core.absorb(&Message {
            message_type: MessageType::ClientHello,
            message_seq: hello.message_seq,
            body: hello.body,
        });
        let flags = HelloFlags {
            extended_master_secret: hello.extended_master_secret,
            secure_renegotiation: hello.secure_renegotiation,
            others: false,
        };
        let random = core.server_random;
        flight.clear();
        let message = flight
            .push(MessageType::ServerHello, hello.message_seq, 0, |out| {
                message::emit_server_hello(out, &random, hello.suite, flags)
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        let message = flight
            .push(MessageType::ServerHelloDone, hello.message_seq.wrapping_add(1), 0, |_| Some(0))
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        core.timers.flight(*now);
        Ok(())
    }

    /// Repeats the answer to the ClientHello that this handshake started from; any other starts its own.
    pub(crate) fn repeat_for_client_hello(&mut self, fragment: &Fragment<'_>) -> Result<(), Dropped> {
        let Self { core, flight, now, .. } = self;
        let is_repeated = fragment.header.message_seq == core.hello_seq
            && OfferedHello::parse(fragment.bytes).is_some_and(|hello| *hello.random == core.client_random);
        if !is_repeated {
            return Err(Dropped::Unexpected);
        }
        if core.state == State::ClientKeyExchange && core.timers.may_repeat(*now) {
            flight.rewind();
        }
        Err(Dropped::Duplicate)
    }

    pub(crate) fn handle_as_server(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        match (self.core.state, message.message_type) {
            (State::ClientKeyExchange, MessageType::ClientKeyExchange) => {
                let identity = message::or_malformed(message::parse_vector(message.body))?;
                self.core.absorb(message);
                // The client repeats its flight by itself from here on.
                self.core.timers.retransmit = None;
                self.core.suspicion = None;
                if let Ok(identity) = StoredIdentity::from_slice(identity) {
                    self.core.identity = identity;
                    self.core.state = State::LookUp;
                    self.core.look_up = LookUp::Wanted(PendingId::FIRST);
                } else {
                    self.use_decoy(Reason::IdentityTooLong);
                }
            }
            (State::Finished, MessageType::Finished) => {
                self.verify_finished(message, Role::Client)?;
                let Self { core, flight, now, .. } = self;
                core.state = State::Kept;
                core.timers.last_flight(*now);
                flight.clear();
                let message_seq = core.hello_seq.wrapping_add(2);
                self.push_finished(message_seq)?;
            }
            _ => return Err(Dropped::Unexpected.into()),
        }
        Ok(())
    }

    /// The key was found: the handshake goes on with it.
    pub(crate) fn use_key(&mut self, psk: &[u8]) {
        self.core.look_up = LookUp::None;
        self.core.derive(self.association, psk);
        self.core.state = State::Finished;
    }

    /// There is no key: the handshake goes on with a random one, to fail as it does for a wrong key.
    pub(crate) fn use_decoy(&mut self, reason: Reason) {
        let decoy = core::mem::replace(&mut self.core.key, StoredKey::EMPTY);
        self.use_key(decoy.bytes());
        self.core.suspicion = Some(reason);
    }
}
