//! Whoever owns a DTLS connection without a pre-shared key: has a key in memory, and trusts who it is told to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use dtls_psk::{
    Answer, CertificateAssociation, CertificateType, CertificateUsage, Connection, Crypto as _, Handshake,
    Input, Instant, Operation, PeerCertificate, Refusal, RustCrypto, ServerTrust, Session, TicketKey,
    raw_public_key,
};
use lwm2m_server::credentials::DeviceTrust;

use crate::peers;

/// Returns a file of `peers/keys`.
#[must_use]
pub fn key_file(name: &str) -> PathBuf {
    peers::source("keys").join(name)
}

/// A key of P-256 with what is presented for it, and who is trusted.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The private key, big-endian.
    pub secret: [u8; 32],
    /// Certificates in DER, the one of the key first; for raw public keys none are needed.
    pub chain: Vec<Vec<u8>>,
    /// The raw public keys, and the certificates themselves, of the peers that are trusted.
    pub trusted: Vec<Vec<u8>>,
    /// Who judges the certificates of other peers.
    pub judge: Judge,
}

/// Whose judgement counts for certificates that are not known beforehand.
#[derive(Clone, Debug, Default)]
pub enum Judge {
    /// None is trusted.
    #[default]
    Nobody,
    /// A device's, with a clock and certificate usage 2.
    Device {
        /// The certificate of the authority that it was provisioned with.
        anchor: Vec<u8>,
        /// The name that its server has to have.
        name: String,
    },
    /// A server's.
    Server(Arc<DeviceTrust>),
}

impl Judge {
    fn check<'c>(&self, chain: impl Iterator<Item = &'c [u8]> + Clone) -> Result<(), Refusal> {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970");
        match self {
            Self::Nobody => Err(Refusal::Unknown),
            Self::Device { anchor, name } => {
                let trust = ServerTrust {
                    usage: CertificateUsage::TrustAnchorAssertion,
                    association: CertificateAssociation::Full(anchor),
                    anchors: &[],
                    name,
                    now: Some(now.as_secs()),
                };
                trust.check::<RustCrypto>(chain)
            }
            Self::Server(trust) => {
                let chain: Vec<Vec<u8>> = chain.map(<[u8]>::to_vec).collect();
                let now = u64::try_from(now.as_millis()).expect("it is long before the end of time");
                trust.check(now, &chain).map(|_| ()).map_err(|untrusted| untrusted.refusal)
            }
        }
    }
}

impl Owner {
    /// The device of `peers/keys`, which knows the server's raw public key and certificate.
    #[must_use]
    pub fn device() -> Self {
        Self::known("device", [0xc1; 32], "server", [0x51; 32])
    }

    /// The server of `peers/keys`, which knows the device's raw public key and certificate.
    #[must_use]
    pub fn server() -> Self {
        Self::known("server", [0x51; 32], "device", [0xc1; 32])
    }

    fn known(name: &str, secret: [u8; 32], peer: &str, secret_of_peer: [u8; 32]) -> Self {
        let read =
            |name: &str| std::fs::read(key_file(&format!("{name}.der"))).expect("a file of this repository");
        let peer_key = Self { secret: secret_of_peer, ..Self::default() }.raw_public_key();
        let trusted = vec![peer_key, read(peer)];
        Self { secret, chain: vec![read(name), read("issuer")], trusted, judge: Judge::Nobody }
    }

    /// The SubjectPublicKeyInfo of the key, in DER.
    #[must_use]
    pub fn raw_public_key(&self) -> Vec<u8> {
        let point = RustCrypto::p256_public(&self.secret).expect("a key of P-256");
        raw_public_key(&point).to_vec()
    }

    /// Answers everything that `connection` asks, and returns what came of it. Tickets that were promised are sealed under
    /// `tickets`.
    pub(crate) fn answer<const N: usize>(
        &self,
        connection: &mut Connection<N, Box<Handshake<N>>>,
        now: Instant,
        tickets: Option<&TicketKey>,
    ) -> Option<Input<'static>> {
        let mut last = None;
        while let Some(pending) = connection.poll_pending() {
            let id = pending.id;
            let signature;
            let own;
            let slices: Vec<&[u8]>;
            let answer = match pending.operation {
                Operation::CheckPeer { certificate } => {
                    let is_known = |own: Option<&[u8]>| {
                        own.is_some_and(|own| self.trusted.iter().any(|known| known == own))
                    };
                    let judged = match certificate {
                        PeerCertificate::RawPublicKey(key) if is_known(Some(key)) => Ok(()),
                        PeerCertificate::X509(chain) if is_known(chain.clone().next()) => Ok(()),
                        PeerCertificate::X509(chain) => self.judge.check(chain),
                        _ => Err(Refusal::Unknown),
                    };
                    judged.map_or_else(Answer::Refused, |()| Answer::Trusted)
                }
                Operation::Compute(computation) => Answer::Computed(computation.run::<RustCrypto>()),
                Operation::Present { certificate_type } => {
                    own = match certificate_type {
                        CertificateType::RawPublicKey => vec![self.raw_public_key()],
                        CertificateType::X509 => self.chain.clone(),
                    };
                    slices = own.iter().map(Vec::as_slice).collect();
                    Answer::Certificates(&slices)
                }
                Operation::Sign { digest } => {
                    signature = RustCrypto::p256_sign(&self.secret, digest).expect("a key of P-256");
                    Answer::Signature(&signature)
                }
                _ => Answer::Unknown,
            };
            let seal = |session: &Session| tickets?.seal(session, b"context", 3600);
            last = connection.provide_with_ticket(now, id, answer, seal).ok().flatten().or(last);
        }
        last
    }
}
