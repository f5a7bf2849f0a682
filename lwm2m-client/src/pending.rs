//! What a handshake with raw public keys or certificates waits for, and the record of storage that each operation takes.
//!
//! 1. To judge the server by `/0/x/4`: a raw public key is that one, a certificate is trusted by its usage.
//! 2. To prove it: mathematics, done at once.
//! 3. To present ourselves: `/0/x/3`.
//! 4. To sign: with `/0/x/5`, or by [`Event::Sign`] with the key of the device.
//!
//! LwM2M Transport 1.1.1 §5.2.8.2, RFC 7250. Invariant: a record is used where it lies in the memory of the storage, and what is
//! secret in it is not copied.

use dtls_psk::{
    Answer, CertificateType, Crypto as _, Input, Operation, PeerCertificate, PendingId, Refusal, RustCrypto,
    SIGNATURE, point_of,
};
#[cfg(feature = "x509")]
use dtls_psk::{CertificateAssociation, ServerTrust};
use heapless::Vec;
use subtle::ConstantTimeEq as _;

#[cfg(feature = "x509")]
use crate::account::MatchingType;
use crate::account::{Part, SecurityMode};
use crate::client::Client;
use crate::der;
use crate::der::CHAIN_MAX;
use crate::error::Reason;
use crate::event::{Event, SignId};
use crate::persist::Key;
use crate::security::time;
use crate::session::Stage;

/// The operation that a handshake waits for.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    id: PendingId,
    wait: Wait,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// To judge the server; `clock` is the time, in seconds since 1970, if the device knows it.
    ServerKey {
        #[cfg(feature = "x509")]
        clock: Option<u32>,
    },
    Identity,
    Secret,
    /// The owner signs; `told` once it was asked to.
    Signature {
        told: bool,
    },
}

impl Pending {
    /// The record that it takes, of this instance of `/0`.
    pub(crate) const fn record(self, instance: u16) -> Option<Key> {
        match self.wait {
            Wait::ServerKey { .. } => Some(Key::ServerKey(instance)),
            Wait::Identity => Some(Key::Identity(instance)),
            Wait::Secret => Some(Key::Secret(instance)),
            Wait::Signature { .. } => None,
        }
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// What a handshake with this server begins with.
    pub(crate) fn first_stage(&self, slot: usize) -> Stage {
        if let Some(account) = self.account(slot)
            && account.mode() != Some(SecurityMode::Psk)
        {
            #[cfg(feature = "x509")]
            if account.mode() == Some(SecurityMode::Certificate) && account.has_server_name {
                return Stage::LoadingName;
            }
            return self.stage_behind_credential(slot);
        }
        Stage::LoadingIdentity
    }

    /// Takes up what the handshake in this slot waits for, and does at once what needs nobody else. `_clock` is the time, in
    /// seconds since 1970, if it is known.
    pub(crate) fn advance_operation(&mut self, slot: usize, _clock: Option<u32>) {
        let has_secret = self.account(slot).is_some_and(|account| account.secret != Part::Missing);
        while self.running(slot, |connection| connection.poll_pending().is_some()) == Some(true) {
            let Some(pending) = self.memory.pending() else { return };
            let id = pending.id;
            let wait = match pending.operation {
                Operation::CheckPeer { .. } => Wait::ServerKey {
                    #[cfg(feature = "x509")]
                    clock: _clock,
                },
                Operation::Present { .. } => Wait::Identity,
                Operation::Sign { .. } if has_secret => Wait::Secret,
                Operation::Sign { .. } => Wait::Signature { told: false },
                Operation::Compute(computation) => {
                    let computed = computation.run::<RustCrypto>();
                    self.provide(slot, id, Answer::Computed(computed));
                    continue;
                }
                _ => return,
            };
            if let Some(place) = self.handshake.as_mut() {
                place.pending = Some(Pending { id, wait });
            }
        }
    }

    /// The record came from storage, or there is none.
    pub(crate) fn operation_loaded(&mut self, slot: usize, record: Option<&[u8]>) {
        let Some(Pending { id, wait: _wait }) =
            self.handshake.as_mut().and_then(|place| place.pending.take())
        else {
            return;
        };
        let Some(record) = record else { return self.connection_failed(slot, Reason::NoCredential) };
        let (own, signature): (Vec<&[u8], CHAIN_MAX>, _);
        let answer = match self.memory.pending().map(|pending| pending.operation) {
            Some(Operation::CheckPeer { certificate }) => {
                let verdict = match &certificate {
                    PeerCertificate::RawPublicKey(key) => point_of(record).map(|_| is_known(key, record)),
                    #[cfg(feature = "x509")]
                    PeerCertificate::X509(chain) => self
                        .trust(slot, _wait, record, self.memory.server_name())
                        .map(|trust| trust.check::<RustCrypto>(chain.clone())),
                    _ => None,
                };
                verdict.map(|verdict| verdict.map_or_else(Answer::Refused, |()| Answer::Trusted))
            }
            Some(Operation::Present { certificate_type }) => {
                let presented = match certificate_type {
                    CertificateType::RawPublicKey => {
                        point_of(record).and_then(|_| Vec::from_slice(&[record]).ok())
                    }
                    #[cfg(feature = "x509")]
                    CertificateType::X509 => der::chain(record),
                    #[cfg(not(feature = "x509"))]
                    CertificateType::X509 => None,
                };
                own = presented.unwrap_or_default();
                (!own.is_empty()).then(|| Answer::Certificates(&own))
            }
            Some(Operation::Sign { digest }) => {
                let made = der::private_key(record).and_then(|key| RustCrypto::p256_sign(key, digest));
                signature = made.unwrap_or([0; SIGNATURE]);
                made.map(|_| Answer::Signature(&signature))
            }
            _ => return,
        };
        let Some(answer) = answer else { return self.connection_failed(slot, Reason::MalformedCredential) };
        self.provide(slot, id, answer);
        self.advance_operation(slot, None);
    }

    /// What is held against the certificate of a server: `None` if `known`, its `/0/x/4`, is not what it must be.
    #[cfg(feature = "x509")]
    fn trust<'t>(
        &'t self,
        slot: usize,
        wait: Wait,
        known: &'t [u8],
        server_name: Option<&'t str>,
    ) -> Option<ServerTrust<'t>> {
        let account = self.account(slot)?;
        let association = match MatchingType::from_value(account.matching.unwrap_or(0))? {
            MatchingType::Exact => CertificateAssociation::Full(known),
            MatchingType::Sha256 => CertificateAssociation::Sha256(known.try_into().ok()?),
            MatchingType::Sha384 => CertificateAssociation::Sha384(known.try_into().ok()?),
            MatchingType::Sha512 => CertificateAssociation::Sha512(known.try_into().ok()?),
        };
        let Wait::ServerKey { clock } = wait else { return None };
        Some(ServerTrust {
            usage: account.certificate_usage()?,
            association,
            anchors: self.config.trust_anchors,
            // The name for SNI is the one that counts; without one it is an address.
            name: server_name.or_else(|| Some(account.address()?.host))?,
            now: clock.map(u64::from),
        })
    }

    /// Whether the owner is to be asked for a signature.
    pub(crate) fn is_signature_wanted(&self) -> bool {
        let pending = self.handshake.as_ref().and_then(|place| place.pending);
        pending.is_some_and(|pending| pending.wait == Wait::Signature { told: false })
    }

    /// Asks for it.
    pub(crate) fn poll_signature(&mut self) -> Option<Event<'_>> {
        let place = self.handshake.as_mut()?;
        let pending = place.pending.as_mut()?;
        pending.wait = Wait::Signature { told: true };
        let (id, slot) = (SignId(pending.id), place.slot);
        let instance = self.sessions.get(slot)?.as_ref()?.security;
        match self.memory.pending()?.operation {
            Operation::Sign { digest } => Some(Event::Sign { id, instance, digest }),
            _ => None,
        }
    }

    /// Answers [`Event::Sign`] with r and s, 32 bytes each, big-endian; `None` where there is no such key: then the handshake
    /// fails. Then go on draining; an answer to anything else is ignored.
    pub fn signed(&mut self, id: SignId, signature: Option<&[u8; SIGNATURE]>) {
        let is_asked =
            |pending: &mut Pending| pending.id == id.0 && pending.wait == Wait::Signature { told: true };
        let Some(place) = self.handshake.as_mut() else { return };
        if place.pending.take_if(is_asked).is_none() {
            return;
        }
        let slot = place.slot;
        self.provide(slot, id.0, signature.map_or(Answer::Unknown, Answer::Signature));
    }

    /// Hands an answer to the engine. None of them establishes the connection: the server's Finished answers a flight that is
    /// complete only after the last of them.
    fn provide(&mut self, slot: usize, id: PendingId, answer: Answer<'_>) {
        let now = time(self.now);
        let provided = self.running(slot, |connection| connection.provide(now, id, answer));
        if let Some(Ok(Some(Input::Closed(reason)))) = provided {
            self.handshake_ended(slot, reason);
        }
        self.is_due = true;
    }
}

/// Whether the server presents the key of its account.
fn is_known(key: &[u8], known: &[u8]) -> Result<(), Refusal> {
    if key.ct_eq(known).into() { Ok(()) } else { Err(Refusal::Unknown) }
}
