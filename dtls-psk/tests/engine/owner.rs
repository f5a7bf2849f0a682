//! The owner of a connection that proves itself by a signature: has a key in memory, and judges what its peer presents.

use std::borrow::BorrowMut;

use crate::support::{Event, question_of};
use dtls_psk::{
    Answer, CertificateType, Connection, Crypto as _, Group, Handshake, Instant, Operation, PeerCertificate,
    Purpose, Refusal, RustCrypto, SIGNATURE, raw_public_key,
};

pub(crate) struct Owner {
    pub(crate) secret: [u8; 32],
    /// Our own first.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) refusal: Option<Refusal>,
    /// What the peers presented.
    pub(crate) seen: Vec<Vec<u8>>,
    /// The groups of the agreements that were proven.
    pub(crate) groups: Vec<Group>,
    /// What was asked, in its order.
    pub(crate) asked: Vec<&'static str>,
    pub(crate) bend: fn(&mut [u8; SIGNATURE]),
    /// The question that it never answers, and the one to which it has nothing.
    pub(crate) ignores: &'static str,
    pub(crate) lacks: &'static str,
}

impl Owner {
    pub(crate) fn new(secret: u8) -> Self {
        Self {
            secret: [secret; 32],
            chain: Vec::new(),
            refusal: None,
            seen: Vec::new(),
            groups: Vec::new(),
            asked: Vec::new(),
            bend: |_| (),
            ignores: "",
            lacks: "",
        }
    }

    pub(crate) fn raw_public_key(&self) -> Vec<u8> {
        raw_public_key(&RustCrypto::p256_public(&self.secret).unwrap()).to_vec()
    }

    /// Answers what `connection` asks until it asks nothing more.
    pub(crate) fn answer<const N: usize, H: BorrowMut<Handshake<N>>>(
        &mut self,
        connection: &mut Connection<N, H>,
        now: Instant,
    ) -> Vec<Event> {
        std::iter::from_fn(|| self.answer_one(connection, now)).flatten().collect()
    }

    /// Answers one question; `None` if there is none.
    pub(crate) fn answer_one<const N: usize, H: BorrowMut<Handshake<N>>>(
        &mut self,
        connection: &mut Connection<N, H>,
        now: Instant,
    ) -> Option<Option<Event>> {
        assert_eq!(connection.pending(), None, "it was not polled yet, or was answered");
        let id = connection.poll_pending()?.id;
        let pending = connection.pending().unwrap();
        assert_eq!(pending.id, id);
        let certificates;
        let slices: Vec<&[u8]>;
        let mut signature;
        let answer = match pending.operation {
            Operation::CheckPeer { certificate } => {
                self.asked.push("check");
                self.seen.extend(match certificate {
                    PeerCertificate::RawPublicKey(key) => vec![key.to_vec()],
                    #[cfg(feature = "x509")]
                    PeerCertificate::X509(chain) => chain.map(<[u8]>::to_vec).collect(),
                    _ => panic!("{certificate:?}"),
                });
                self.refusal.map_or(Answer::Trusted, Answer::Refused)
            }
            Operation::Compute(computation) => {
                self.asked.push(question_of(computation.purpose()));
                if computation.purpose() == Purpose::Proof {
                    self.groups.push(computation.group());
                }
                Answer::Computed(computation.run::<RustCrypto>())
            }
            Operation::Present { certificate_type } => {
                self.asked.push("present");
                certificates = match certificate_type {
                    CertificateType::RawPublicKey => vec![self.raw_public_key()],
                    CertificateType::X509 => self.chain.clone(),
                };
                slices = certificates.iter().map(Vec::as_slice).collect();
                Answer::Certificates(&slices)
            }
            Operation::Sign { digest } => {
                self.asked.push("sign");
                signature = RustCrypto::p256_sign(&self.secret, digest).unwrap();
                (self.bend)(&mut signature);
                Answer::Signature(&signature)
            }
            other => panic!("{other:?}"),
        };
        let question = self.asked.last().copied()?;
        if question == self.ignores {
            return None;
        }
        let answer = if question == self.lacks { Answer::Unknown } else { answer };
        Some(connection.provide(now, id, answer).unwrap().map(Event::of))
    }
}

/// A key in a certificate in DER with nothing else in it: serial number, algorithm, issuer, validity and subject are empty, and
/// nobody signed it.
pub(crate) fn bare_certificate(key: &[u8]) -> Vec<u8> {
    let fields = [&[0x02, 0][..], &[0x30, 0].repeat(4), key].concat();
    let inner = [&[0x30, fields.len() as u8][..], &fields].concat();
    [&[0x30, inner.len() as u8][..], &inner].concat()
}
