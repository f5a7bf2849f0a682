//! Proof by signature instead of a pre-shared key (RFC 5246 §7.4.2 to §7.4.8, RFC 7250 §4, RFC 8422 §5).
//!
//! The order of a client: trust in the server's certificate, the server's signature, then our certificate and our signature.
//! The order of a server: our certificate and signature; then trust in the client's certificate, and its signature.
//!
//! Invariant: no keys before the peer's certificate was trusted and its signature over this handshake verified.

use crate::association::Role;
use crate::certificate::{self, CertificateType, PeerCertificate};
use crate::computation::Signed;
use crate::crypto::{Crypto, POINT, RunningHash as _};
#[cfg(not(feature = "server"))]
use crate::error::Dropped;
use crate::error::Reason;
use crate::handshake::{Failure, State, Step};
use crate::message::{self, Message, MessageType};
use crate::pending::Wait;
use crate::public_key;
use crate::signature::{self, SIGNATURE, SignedShare};
#[cfg(feature = "server")]
use crate::wire::Reader;
use crate::wire::Writer;

/// The longest server name, in bytes (RFC 1035 §3.1).
#[cfg(feature = "x509")]
pub const SERVER_NAME_MAX: usize = 253;

/// What is known of both sides' keys.
pub(crate) struct Authentication {
    /// What we present, and what the peer does.
    pub(crate) own: CertificateType,
    pub(crate) peer: CertificateType,
    /// Whether the client presents something: the server asked for it.
    pub(crate) is_mutual: bool,
    /// Client: whether the server said which kind it would take.
    pub(crate) is_own_agreed: bool,
    /// What we sign next, or the peer signed.
    pub(crate) digest: [u8; 32],
    /// The handshake up to the ClientKeyExchange (RFC 7627 §3).
    pub(crate) session_hash: [u8; 32],
    /// The peer's key and signature.
    key: [u8; POINT],
    signature: [u8; SIGNATURE],
    /// Client: the name of the server that it means.
    #[cfg(feature = "x509")]
    pub(crate) server_name: heapless::Vec<u8, SERVER_NAME_MAX>,
}

impl Authentication {
    pub(crate) const NONE: Self = Self {
        own: CertificateType::RawPublicKey,
        peer: CertificateType::RawPublicKey,
        is_mutual: false,
        is_own_agreed: false,
        digest: [0; 32],
        session_hash: [0; 32],
        key: [0; POINT],
        signature: [0; SIGNATURE],
        #[cfg(feature = "x509")]
        server_name: heapless::Vec::new(),
    };

    /// With certificates on both sides.
    #[cfg(feature = "x509")]
    pub(crate) fn by_certificates(server_name: heapless::Vec<u8, SERVER_NAME_MAX>) -> Self {
        let (own, peer) = (CertificateType::X509, CertificateType::X509);
        Self { own, peer, server_name, ..Self::NONE }
    }

    pub(crate) fn certificate<'m>(&self, body: &'m [u8]) -> Option<PeerCertificate<'m>> {
        PeerCertificate::parse(self.peer, body)?
    }

    pub(crate) const fn signed(&self) -> Signed {
        let Self { key, digest, signature, .. } = *self;
        Signed { key, digest, signature }
    }
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    /// The peer's Certificate, which stays where it is until its owner has judged it.
    pub(crate) fn take_certificate(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let core = &mut *self.core;
        let parsed = PeerCertificate::parse(core.authentication.peer, message.body);
        let certificate = message::or_malformed(parsed)?.ok_or(Reason::NoCertificate)?;
        let key = certificate.public_key().and_then(public_key::point_of).ok_or(Reason::UnsupportedKey)?;
        core.authentication.key = *key;
        core.absorb(message);
        core.suspicion = None;
        // It has our flight, and our owner may take its time.
        core.timers.retransmit = None;
        // Some small stacks (tinydtls) understand only one message in a record.
        self.flight.separate();
        core.waiting.want(Wait::CheckPeer);
        Ok(())
    }

    pub(crate) fn go_on_with_trusted(&mut self) {
        match self.association.role {
            Role::Client => {
                self.core.state = State::ServerHelloDone;
                // The rest of the server's flight may be lost.
                self.core.timers.flight(self.now);
            }
            Role::Server => self.core.state = State::ClientKeyExchange,
        }
    }

    /// A client: the server's share and signature.
    pub(crate) fn take_signed_share(&mut self, body: &[u8]) -> Result<(), Failure> {
        let SignedShare { parameters, share, signature } = message::or_malformed(SignedShare::parse(body))?;
        let share = share.ok_or(Reason::InvalidShare)?;
        self.core.authentication.signature = signature.ok_or(Reason::UnofferedAlgorithm)?;
        self.core.agreement.move_to_peer(share).ok_or(Reason::InvalidShare)?;
        self.core.authentication.digest = self.core.digest_of_share(parameters);
        Ok(())
    }

    /// A client: the server wants to know who we are.
    pub(crate) fn take_certificate_request(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        // Departure: RFC 5246 §7.4.6 lets a client without a suitable certificate go on without one; LwM2M needs it.
        if !message::or_malformed(certificate::is_request_for_us(message.body))? {
            return Err(Reason::UnofferedAlgorithm.into());
        }
        let Authentication { own, is_own_agreed, .. } = self.core.authentication;
        if own == CertificateType::RawPublicKey && !is_own_agreed {
            return Err(Reason::WrongCertificateType.into());
        }
        self.core.authentication.is_mutual = true;
        self.core.absorb(message);
        Ok(())
    }

    /// A client: the server's flight is there.
    pub(crate) const fn await_proof(&mut self) {
        // It has our ClientHello.
        self.core.timers.retransmit = None;
        self.core.waiting.want(Wait::Prove);
    }

    /// The peer has its key, and both sides have agreed.
    pub(crate) fn go_on_with_proven(
        &mut self,
        shared: &[u8; 32],
        use_key: impl FnOnce(&mut Self, &[u8]),
    ) -> Result<(), Failure> {
        self.core.agreement.set_shared(shared);
        match self.association.role {
            Role::Server => use_key(self, &[]),
            Role::Client => {
                self.flight.clear();
                self.flight.hold();
                if self.core.authentication.is_mutual {
                    self.core.waiting.want(Wait::Present);
                } else {
                    self.push_share()?;
                    self.finish_as_client()?;
                }
            }
        }
        Ok(())
    }

    /// Queues our Certificate and what goes before the signature, and wants that.
    pub(crate) fn go_on_with_own(&mut self, certificates: &[&[u8]]) -> Result<(), Failure> {
        let Self { core, flight, .. } = self;
        let own = core.authentication.own;
        let message = flight
            .push(MessageType::Certificate, core.hello_seq.wrapping_add(1), 0, |out| {
                certificate::emit(out, own, certificates)
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        self.core.authentication.digest = match self.association.role {
            Role::Server => {
                let share = self.core.agreement.share().ok_or(Reason::InvalidShare)?;
                let mut parameters = [0; 4 + POINT];
                let mut writer = Writer::new(&mut parameters);
                crate::ecdhe::emit_parameters(&mut writer, &share).ok_or(Reason::TooLong)?;
                let length = writer.len();
                self.core.digest_of_share(parameters.get(..length).unwrap_or_default())
            }
            Role::Client => {
                self.push_share()?;
                self.core.transcript.clone().finish()
            }
        };
        self.core.waiting.want(Wait::Sign);
        Ok(())
    }

    pub(crate) fn go_on_with_signature(&mut self, signature: &[u8; SIGNATURE]) -> Result<(), Failure> {
        match self.association.role {
            #[cfg(feature = "server")]
            Role::Server => self.finish_hello(signature),
            #[cfg(not(feature = "server"))]
            Role::Server => Err(Dropped::Unexpected.into()),
            Role::Client => {
                let Self { core, flight, .. } = self;
                let message = flight
                    .push(MessageType::CertificateVerify, core.hello_seq.wrapping_add(3), 0, |out| {
                        let mut writer = Writer::new(out);
                        signature::emit(&mut writer, signature)?;
                        Some(writer.len())
                    })
                    .ok_or(Reason::TooLong)?;
                core.absorb(&message);
                self.finish_as_client()
            }
        }
    }

    /// A client's ClientKeyExchange.
    fn push_share(&mut self) -> Result<(), Failure> {
        let Self { core, flight, .. } = self;
        let share = core.agreement.share().ok_or(Reason::InvalidShare)?;
        let message_seq = core.hello_seq.wrapping_add(1).wrapping_add(core.authentication.is_mutual.into());
        let message = flight
            .push(MessageType::ClientKeyExchange, message_seq, 0, |out| {
                let mut writer = Writer::new(out);
                writer.vector8(share.bytes())?;
                Some(writer.len())
            })
            .ok_or(Reason::TooLong)?;
        core.absorb(&message);
        core.authentication.session_hash = core.transcript.clone().finish();
        Ok(())
    }

    fn finish_as_client(&mut self) -> Result<(), Failure> {
        let Self { association, core, flight, now } = self;
        core.derive(association, &[], |_, _| ());
        core.state = State::Finished;
        core.suspicion = None;
        core.timers.flight(*now);
        flight.release();
        let message_seq = core.client_finished_seq();
        self.push_finished(message_seq)
    }

    /// A server: the rest of the flight behind the Certificate.
    #[cfg(feature = "server")]
    fn finish_hello(&mut self, signature: &[u8; SIGNATURE]) -> Result<(), Failure> {
        let Self { core, flight, .. } = self;
        let share = core.agreement.share().ok_or(Reason::InvalidShare)?;
        let mut push = |message_type, ahead: u16, write: &dyn Fn(&mut [u8]) -> Option<usize>| {
            let message_seq = core.hello_seq.wrapping_add(ahead);
            let message = flight.push(message_type, message_seq, 0, write).ok_or(Reason::TooLong)?;
            core.absorb(&message);
            Ok::<_, Reason>(())
        };
        push(MessageType::ServerKeyExchange, 2, &|out| {
            signature::emit_server_key_exchange(out, &share, signature)
        })?;
        push(MessageType::CertificateRequest, 3, &certificate::emit_request)?;
        self.push_server_hello_done(4)
    }

    /// A server: the client's share.
    #[cfg(feature = "server")]
    pub(crate) fn take_share(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let mut reader = Reader::new(message.body);
        let share = message::or_malformed(reader.vector8().filter(|_| reader.is_empty()))?;
        let core = &mut *self.core;
        core.agreement.keep_peer_share(share).ok_or(Reason::InvalidShare)?;
        core.absorb(message);
        core.authentication.session_hash = core.transcript.clone().finish();
        core.state = State::CertificateVerify;
        Ok(())
    }

    /// A server: the client's signature.
    #[cfg(feature = "server")]
    pub(crate) fn take_certificate_verify(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let mut reader = Reader::new(message.body);
        let signature = message::or_malformed(signature::parse(&mut reader).filter(|_| reader.is_empty()))?;
        let core = &mut *self.core;
        core.authentication.signature = signature.ok_or(Reason::UnofferedAlgorithm)?;
        core.authentication.digest = core.transcript.clone().finish();
        core.absorb(message);
        // The client repeats its flight by itself from here on.
        core.timers.retransmit = None;
        core.state = State::LookUp;
        core.waiting.want(Wait::Prove);
        Ok(())
    }
}

impl<C: Crypto> crate::handshake::Core<C> {
    /// What a server signs: both randoms and its share (RFC 8422 §5.4).
    fn digest_of_share(&self, parameters: &[u8]) -> [u8; 32] {
        let mut hash = C::Sha256::new();
        hash.update(&self.client_random);
        hash.update(&self.server_random);
        hash.update(parameters);
        hash.finish()
    }
}
