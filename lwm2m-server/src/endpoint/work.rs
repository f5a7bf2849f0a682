//! What handshakes need that takes longer than a packet may wait: shares and agreements, signatures, whose a certificate is.
//! It goes out to workers and comes back (RFC 5246 §7.4, RFC 5489, RFC 7250).
//!
//! 1. The ClientHello chose a suite with a key agreement: the server's share is a piece of [`Work`], and so is what both agree on.
//!    With signatures the server's key is chosen by listener and name, and presented at once.
//! 2. Its signature, the judgement of the device's certificate and the proof of the device's key are each a piece of work too.
//! 3. What is done is good for its handshake alone; one that is gone takes nothing any more.
//!
//! Sequence numbers of OSCORE contexts are reserved in durable storage in the same way; what waits then is an association, once.
//!
//! Invariant: a bounded number of each [`Lane`] is out at once; what waits belongs to a handshake under way. No lane waits for a
//! slower one.

use std::collections::VecDeque;
use std::sync::Arc;

use dtls_psk::{
    Answer, CertificateType, ClientHello, Computation, Computed, Operation, PeerCertificate, PendingId,
    SIGNATURE,
};
use lwm2m_coap::{Instant, Rng};
use sha2::{Digest as _, Sha256};

use crate::credentials::{Authenticated, CHAIN_MAX, Credentials, Presented, Role, Untrusted};
use crate::crypto::Provider;
use crate::keys::{ServerKey, ServerKeys};
use crate::store::Reservation;

use super::association::Association;
use super::counters::Counters;
use super::resumption::Named;
use super::session::dtls;
use super::slab::Key;
use super::{Endpoint, Listener, Transmit};

/// Names a piece of work until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkId {
    key: Key,
    /// What of a handshake waits for it; nothing of a handshake waits for a reservation.
    pending: Option<PendingId>,
    lane: Lane,
}

/// What kind of work it is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// The little that every handshake with an agreement needs.
    Curves,
    /// Certificates, and signatures of keys in memory.
    Keys,
    /// Signatures of keys elsewhere, which may never come.
    Elsewhere,
    /// Writes to durable storage: many are one.
    Storage,
}

impl WorkId {
    pub(crate) const fn lane(self) -> Lane {
        self.lane
    }
}

/// A piece of work; give what comes of it to [`Endpoint::provide_work`](super::Endpoint::provide_work).
#[derive(Debug)]
pub enum Work {
    /// Whose is what a device presents, and is it to be trusted?
    CheckPeer {
        /// Which server it talks to.
        role: Role,
        /// As it came; that the device has the key is proven later.
        presented: Presented,
    },
    /// The server's share, what both sides agree on, or whether the device has its key besides.
    /// In a box, which is wiped: a queue that held its secret would keep a copy.
    Compute(Box<Computation>),
    /// The server's signature.
    Sign {
        /// The key that was presented.
        key: Arc<ServerKey>,
        /// What is signed.
        digest: [u8; 32],
    },
    /// Reserve sequence numbers of an OSCORE context in durable storage.
    Reserve(Reservation),
}

/// What came of a piece of [`Work`].
#[derive(Debug)]
pub enum Done {
    /// Whom it proves if its key is proven, or why it is not let in.
    Checked(Result<Authenticated, Untrusted>),
    /// For its handshake alone.
    Computed(Box<Computed>),
    /// `None` where the key cannot be used.
    Signed(Option<[u8; SIGNATURE]>),
    /// They are reserved.
    Reserved(Reservation),
    /// Another context with the same sender key has reserved them meanwhile.
    Overtaken,
    /// Nothing: whoever did it failed. The handshake is given up.
    Lost,
}

impl Work {
    fn lane(&self) -> Lane {
        match self {
            Self::Compute(_) => Lane::Curves,
            Self::Reserve(_) => Lane::Storage,
            Self::Sign { key, .. } if key.is_elsewhere() => Lane::Elsewhere,
            Self::CheckPeer { .. } | Self::Sign { .. } => Lane::Keys,
        }
    }

    /// Does it, which takes some hundred microseconds at most where keys are in memory. `now_ms` is milliseconds since 1970.
    #[must_use]
    pub fn run(self, now_ms: u64, credentials: &Credentials) -> Done {
        match self {
            Self::CheckPeer { role, presented } => {
                Done::Checked(credentials.identify(now_ms, role, &presented))
            }
            Self::Compute(computation) => Done::Computed(Box::new(computation.run::<Provider>())),
            Self::Sign { key, digest } => Done::Signed(key.sign(&digest)),
            Self::Reserve(reservation) => {
                let mut done = Self::reserve(vec![reservation], credentials);
                done.pop().unwrap_or(Done::Lost)
            }
        }
    }

    /// Writes all reservations at once.
    pub(crate) fn reserve(reservations: Vec<Reservation>, credentials: &Credentials) -> Vec<Done> {
        let written = credentials.reserve(&reservations).inspect_err(|error| {
            tracing::error!(%error, "sequence numbers of OSCORE contexts could not be reserved");
        });
        let Ok(written) = written else { return Vec::new() };
        let done = |(reservation, is_written)| match is_written {
            true => Done::Reserved(reservation),
            false => Done::Overtaken,
        };
        reservations.into_iter().zip(written).map(done).collect()
    }
}

/// What is out, and what waits for its turn.
#[derive(Debug)]
pub(crate) struct Works {
    /// How many of each lane may be out at once.
    most: usize,
    curves: Waiting,
    keys: Waiting,
    elsewhere: Waiting,
    storage: Waiting,
}

#[derive(Debug, Default)]
struct Waiting {
    out: usize,
    queue: VecDeque<(WorkId, Work)>,
}

impl Works {
    pub(crate) fn new(most: usize) -> Self {
        let [curves, keys, elsewhere, storage] = core::array::from_fn(|_| Waiting::default());
        Self { most, curves, keys, elsewhere, storage }
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting {
        match lane {
            Lane::Curves => &mut self.curves,
            Lane::Keys => &mut self.keys,
            Lane::Elsewhere => &mut self.elsewhere,
            Lane::Storage => &mut self.storage,
        }
    }

    /// The most urgent piece that somebody still waits for.
    fn next(&mut self, is_awaited: impl Fn(WorkId) -> bool) -> Option<(WorkId, Work)> {
        for waiting in [&mut self.curves, &mut self.keys, &mut self.elsewhere, &mut self.storage] {
            while waiting.out < self.most
                && let Some((id, work)) = waiting.queue.pop_front()
            {
                if is_awaited(id) {
                    waiting.out = waiting.out.saturating_add(1);
                    return Some((id, work));
                }
            }
        }
        None
    }
}

/// The server's keys that one handshake may use: chosen when it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presenting {
    raw_public_key: Option<Arc<ServerKey>>,
    certificate: Option<Arc<ServerKey>>,
    /// By which name they were chosen.
    pub(crate) named: Named,
}

impl Presenting {
    /// For the name that a device asks for.
    pub(crate) fn of(keys: &ServerKeys, listener: Listener, hello: &ClientHello<'_>) -> Self {
        let name = hello.server_name();
        let choose = |kind| keys.choose(listener, kind, name).cloned();
        Self {
            raw_public_key: choose(CertificateType::RawPublicKey),
            certificate: choose(CertificateType::X509),
            named: Named::of(hello.suite(), name),
        }
    }

    /// Keeps the one that is presented, which is the one that signs.
    fn settle(&mut self, certificate_type: CertificateType) -> Option<Arc<ServerKey>> {
        let key = match certificate_type {
            CertificateType::RawPublicKey => self.raw_public_key.clone(),
            CertificateType::X509 => self.certificate.clone(),
        };
        self.raw_public_key.clone_from(&key);
        self.certificate.clone_from(&key);
        key
    }

    fn signer(&self) -> Option<Arc<ServerKey>> {
        self.raw_public_key.clone()
    }
}

impl Endpoint {
    /// The next piece of work. Call until `None`; some may be left that wait until others are done.
    pub fn poll_work(&mut self) -> Option<(WorkId, Work)> {
        let next = self.works.next(|id| self.associations.get(id.key).is_some())?;
        Counters::add(&mut self.counters.works);
        Some(next)
    }

    /// Takes what came of a piece of work. What is returned lies in `out` and is to be sent first; then drain the `poll_*`
    /// methods.
    pub fn provide_work(
        &mut self,
        now: Instant,
        id: WorkId,
        done: Done,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let WorkId { key, pending, lane } = id;
        let waiting = self.works.lane(lane);
        waiting.out = waiting.out.saturating_sub(1);
        let Some(pending) = pending else { return self.reserved(now, key, done, rng, out) };
        self.take_work(now, key, pending, done);
        None
    }

    /// Takes what came of a piece of work that a handshake waits for.
    fn take_work(&mut self, now: Instant, key: Key, pending: PendingId, done: Done) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let (local, from) = (association.local, association.address);
        let Association { session: Some(session), passing, .. } = association else { return };
        let provided = match (done, passing.proving_mut()) {
            (Done::Checked(Ok(who)), Some(proving)) => {
                let provided = session.provide(dtls(now), pending, Answer::Trusted);
                if provided.is_ok() {
                    proving.who = Some(who);
                }
                provided
            }
            (Done::Checked(Err(Untrusted { refusal, reason })), Some(proving)) => {
                let provided = session.provide(dtls(now), pending, Answer::Refused(refusal));
                if provided.is_ok() {
                    proving.is_told = true;
                    let identity = Some(String::from_utf8_lossy(&proving.identity).into_owned());
                    self.handshake_refused(now, (local, from), identity, false, reason);
                }
                provided
            }
            (Done::Checked(_), None) => return,
            (Done::Computed(computed), mut proving) => {
                let sessions = &self.config.sessions;
                let seal = |made: &dtls_psk::Session| proving.as_mut()?.seal(now, sessions, made);
                // What is moved out of a box stays in its memory.
                let answer = Answer::Computed(Computed::clone(&computed));
                session.provide_with_ticket(dtls(now), pending, answer, seal)
            }
            (Done::Signed(Some(signature)), _) => {
                session.provide(dtls(now), pending, Answer::Signature(&signature))
            }
            (Done::Signed(None), _) => session.provide(dtls(now), pending, Answer::Unknown),
            (Done::Reserved(_) | Done::Overtaken, _) => return,
            (Done::Lost, _) => return self.remove(key),
        };
        if let Ok(Some(input)) = provided {
            self.session_changed(now, key, &input);
        }
        self.advance_handshake(now, key);
        self.mark_ready(key);
    }

    /// Does what a handshake waits for, or has it done.
    pub(crate) fn advance_handshake(&mut self, now: Instant, key: Key) {
        while let Some(association) = self.associations.get_mut(key) {
            let (role, from) = (association.local.role(), association.address);
            let Association { session: Some(session), passing, .. } = association else { return };
            let Some(pending) = session.poll_pending() else { return };
            let id = pending.id;
            let work = match (pending.operation, passing.proving_mut()) {
                (Operation::LookUpPsk { identity }, _) => {
                    let identity = identity.to_vec();
                    return self.look_up(now, key, id, identity);
                }
                (Operation::Present { certificate_type }, Some(proving)) => {
                    let presented = proving.presenting.settle(certificate_type);
                    let presented = presented.as_ref().map(|key| key.presented(certificate_type));
                    let answer = presented.as_deref().map_or(Answer::Unknown, Answer::Certificates);
                    if let Ok(Some(input)) = session.provide(dtls(now), id, answer) {
                        self.session_changed(now, key, &input);
                    }
                    continue;
                }
                (Operation::Sign { digest }, Some(proving)) => match proving.presenting.signer() {
                    Some(key) => Work::Sign { key, digest: *digest },
                    None => return,
                },
                (Operation::CheckPeer { certificate }, Some(proving)) => {
                    let Some(presented) = presented(&certificate) else { return };
                    proving.identity = words(&presented).into_bytes();
                    if !self.rates.look_up(now, from) {
                        Counters::add(&mut self.counters.look_ups_over_rate);
                        return self.remove(key);
                    }
                    Work::CheckPeer { role, presented }
                }
                (Operation::Compute(computation), _) => Work::Compute(Box::new(computation)),
                _ => return,
            };
            return self.queue_work(key, Some(id), work);
        }
    }

    /// Has a piece of work done, which something of the handshake waits for.
    pub(crate) fn queue_work(&mut self, key: Key, pending: Option<PendingId>, work: Work) {
        let id = WorkId { key, pending, lane: work.lane() };
        let Self { works, associations, under_way, .. } = self;
        let most = under_way.count().saturating_add(works.most);
        let queue = &mut works.lane(id.lane).queue;
        if queue.len() > most && id.pending.is_some() {
            queue.retain(|(id, _)| associations.get(id.key).is_some());
        }
        queue.push_back((id, work));
    }
}

/// What a device presents, as operators see it in events.
fn words(presented: &Presented) -> String {
    match presented {
        Presented::RawPublicKey(key) => format!("raw public key {}", hex::encode(Sha256::digest(key))),
        Presented::Certificates(chain) => {
            let own = chain.first().map(Vec::as_slice).unwrap_or_default();
            format!("certificate {}", hex::encode(Sha256::digest(own)))
        }
    }
}

/// A copy of what a device presents.
fn presented(certificate: &PeerCertificate<'_>) -> Option<Presented> {
    match certificate {
        PeerCertificate::RawPublicKey(key) => Some(Presented::RawPublicKey(key.to_vec())),
        PeerCertificate::X509(chain) => {
            // One more than is looked at says that there are too many.
            let some = chain.clone().take(CHAIN_MAX.saturating_add(2));
            Some(Presented::Certificates(some.map(<[u8]>::to_vec).collect()))
        }
        _ => None,
    }
}
