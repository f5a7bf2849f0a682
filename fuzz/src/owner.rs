//! The owner of one side of a handshake with raw public keys or certificates (RFC 7250, RFC 5280): it has a key in memory,
//! and does what it is asked, or something else.

use std::sync::LazyLock;

use dtls_psk::{
    Answer, CertificateType, Computed, Crypto as _, Operation, Pending, PendingId, Refusal, RustCrypto,
    SIGNATURE, raw_public_key,
};

/// What an owner does that is not what it should.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Manner {
    Honest,
    TrustsAnybody,
    RefusesEverybody,
    PresentsNothing,
    PresentsAnother,
    SignsNothing,
    SignsSomethingElse,
    /// At first it gives answers to other questions.
    Confused,
}

impl Manner {
    pub(crate) const ALL: [Self; 8] = [
        Self::Honest,
        Self::TrustsAnybody,
        Self::RefusesEverybody,
        Self::PresentsNothing,
        Self::PresentsAnother,
        Self::SignsNothing,
        Self::SignsSomethingElse,
        Self::Confused,
    ];

    /// Whether a handshake with such an owner succeeds.
    pub(crate) fn succeeds(self) -> bool {
        matches!(self, Self::Honest | Self::TrustsAnybody | Self::Confused)
    }
}

/// What it knows and decided.
pub(crate) struct Owner {
    manner: Manner,
    secret: [u8; 32],
    presented: &'static [u8; KEY],
    expected: &'static [u8; KEY],
    /// Whether the last peer that was judged is the one that there is.
    pub(crate) has_seen_the_peer: bool,
}

const KEY: usize = dtls_psk::RAW_PUBLIC_KEY;
const CLIENT: [u8; 32] = [0xc1; 32];
const SERVER: [u8; 32] = [0x51; 32];

static CLIENT_KEY: LazyLock<[u8; KEY]> = LazyLock::new(|| public_key(&CLIENT));
static SERVER_KEY: LazyLock<[u8; KEY]> = LazyLock::new(|| public_key(&SERVER));
static ANOTHER_KEY: LazyLock<[u8; KEY]> = LazyLock::new(|| public_key(&[0x66; 32]));

fn public_key(secret: &[u8; 32]) -> [u8; KEY] {
    raw_public_key(&RustCrypto::p256_public(secret).expect("it is less than the order of the group"))
}

/// A certificate in DER that holds a public key and nothing else: serial number, algorithm, issuer, validity and subject are
/// empty, and there is no signature.
pub(crate) fn certificate(public_key: &[u8]) -> Vec<u8> {
    let fields = [&[0x02, 0], &[0x30, 0].repeat(4)[..], public_key].concat();
    let inner = [&[0x30, fields.len() as u8][..], &fields].concat();
    [&[0x30, inner.len() as u8][..], &inner].concat()
}

/// An answer that may be given later.
pub(crate) struct Reply {
    id: PendingId,
    decision: Decision,
    is_other: bool,
}

enum Decision {
    Psk(Option<&'static [u8]>),
    Judged(Result<(), Refusal>),
    Computed(Computed),
    Presented(Vec<Vec<u8>>),
    Signed(Option<[u8; SIGNATURE]>),
}

impl Owner {
    pub(crate) fn of_client(manner: Manner) -> Self {
        Self {
            manner,
            secret: CLIENT,
            presented: &CLIENT_KEY,
            expected: &SERVER_KEY,
            has_seen_the_peer: false,
        }
    }

    pub(crate) fn of_server(manner: Manner) -> Self {
        Self {
            manner,
            secret: SERVER,
            presented: &SERVER_KEY,
            expected: &CLIENT_KEY,
            has_seen_the_peer: false,
        }
    }

    /// Decides; `keys` are the pre-shared ones.
    pub(crate) fn decide(
        &mut self,
        pending: &Pending<'_>,
        keys: impl FnOnce(&[u8]) -> Option<&'static [u8]>,
    ) -> Reply {
        let decision = match &pending.operation {
            Operation::LookUpPsk { identity } => Decision::Psk(keys(identity)),
            Operation::CheckPeer { certificate } => {
                let key = certificate.public_key().expect("what is judged has a key");
                assert!(dtls_psk::point_of(key).is_some(), "and it is one of P-256");
                self.has_seen_the_peer = key == self.expected;
                Decision::Judged(match self.manner {
                    Manner::TrustsAnybody => Ok(()),
                    Manner::RefusesEverybody => Err(Refusal::Expired),
                    _ => self.has_seen_the_peer.then_some(()).ok_or(Refusal::Unknown),
                })
            }
            Operation::Compute(computation) => Decision::Computed(computation.run::<RustCrypto>()),
            Operation::Present { certificate_type } => {
                let key = match self.manner {
                    Manner::PresentsAnother => &*ANOTHER_KEY,
                    _ => self.presented,
                };
                Decision::Presented(match (self.manner, certificate_type) {
                    (Manner::PresentsNothing, _) => vec![],
                    (_, CertificateType::RawPublicKey) => vec![key.to_vec()],
                    (_, CertificateType::X509) => vec![certificate(key), certificate(&*ANOTHER_KEY)],
                })
            }
            Operation::Sign { digest } => {
                let mut digest: [u8; 32] = **digest;
                if self.manner == Manner::SignsSomethingElse {
                    digest[0] ^= 1;
                }
                let signature = RustCrypto::p256_sign(&self.secret, &digest);
                Decision::Signed(signature.filter(|_| self.manner != Manner::SignsNothing))
            }
            other => panic!("{other:?} is not known here"),
        };
        let is_other = self.manner == Manner::Confused && !matches!(decision, Decision::Psk(_));
        Reply { id: pending.id, decision, is_other }
    }
}

impl Reply {
    pub(crate) fn id(&self) -> PendingId {
        self.id
    }

    /// One that belongs to another question, if it is to be given first.
    pub(crate) fn other(&self) -> Option<Answer<'static>> {
        self.is_other.then_some(match self.decision {
            Decision::Judged(_) => Answer::Unknown,
            _ => Answer::Trusted,
        })
    }

    /// The answer, for as long as `give` takes.
    pub(crate) fn with<T>(self, give: impl FnOnce(PendingId, Answer<'_>) -> T) -> T {
        let slices: Vec<&[u8]>;
        let answer = match &self.decision {
            Decision::Psk(key) => key.map_or(Answer::Unknown, |key| Answer::Psk { key }),
            Decision::Judged(judged) => judged.map_or_else(Answer::Refused, |()| Answer::Trusted),
            Decision::Presented(certificates) if certificates.is_empty() => Answer::Unknown,
            Decision::Presented(certificates) => {
                slices = certificates.iter().map(Vec::as_slice).collect();
                Answer::Certificates(&slices)
            }
            Decision::Signed(signature) => signature.as_ref().map_or(Answer::Unknown, Answer::Signature),
            Decision::Computed(_) => {
                let Decision::Computed(computed) = self.decision else {
                    unreachable!("it was matched just now")
                };
                return give(self.id, Answer::Computed(computed));
            }
        };
        give(self.id, answer)
    }
}
