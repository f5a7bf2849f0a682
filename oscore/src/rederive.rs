//! New keys from fresh random numbers of both ends (RFC 8613 Appendix B.2), for an end that lost the state of its context.
//!
//! 1. Client: [`Session::rederive`] makes the first keys, of the ID Context R1; request 1 carries R1.
//! 2. Server: takes request 1 for no more than that and answers 4.01 with the second keys, of R2 ‖ R1, under the nonce that
//!    request 1 had with the first ones; the answer carries R2.
//! 3. Client: verifies it and makes the third keys, of R2 ‖ R3; it sends the request again, as request 2, with R2 ‖ R3.
//! 4. Server: accepts an R2 that it issued less than a minute ago and after the last one that was used; the third keys
//!    replace all others.
//!
//! A server that wants new keys itself ([`Session::renew`]) answers any request as if it were request 1.
//!
//! Invariant: the server keeps nothing between 2 and 4: R2 holds when it was made, and a MAC. So who replays an old request
//! 1 gets an answer that leads him nowhere, and changes nothing.

use hmac::{Hmac, Mac};
use lwm2m_coap::{Instant, Rng};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::aad;
use crate::context::{Context, Nonce};
use crate::parameters::{Bytes, KeyId, Parameters};
use crate::replay::ReplayWindow;
use crate::sequence::SenderSequence;
use crate::session::{Announce, Kind, Session, Step, Wrapped};

/// What new keys are made of, for the time of one call.
pub struct Rederivation<'a> {
    /// Master Secret and all else.
    pub parameters: &'a Parameters,
    /// A key that nobody else has, for the server's numbers. It lives no longer than `now` counts, and than the server knows
    /// which number of a client was used last: a session that is dropped and made anew within a minute wants another key.
    pub key: &'a [u8; 32],
    /// The time.
    pub now: Instant,
    /// Randomness.
    pub rng: &'a mut Rng<'a>,
    /// Whether the owner keeps [`Context::id_context`] and the bound of the sender sequence in durable storage: numbers
    /// have to be reserved then. Otherwise the keys end with this process.
    pub durable: bool,
}

impl Session {
    /// Begins to have the keys replaced, as the client: the next request is request 1. Its answer is 4.01; then send it
    /// again.
    pub fn rederive(&mut self, rederivation: &mut Rederivation<'_>) {
        let mut r1 = [0; RANDOM];
        (rederivation.rng)(&mut r1);
        // These keys protect one request and are never stored.
        let context = Context::derive(
            rederivation.parameters,
            Some(&r1),
            SenderSequence::VOLATILE,
            ReplayWindow::FRESH,
        );
        self.replace(context, Announce::Wrapped, Step::Asked);
    }

    /// Has the keys replaced, as the server: the next request is not carried out, and its answer brings the client to send
    /// it again under new keys.
    pub fn renew(&mut self) {
        if self.step == Step::Idle {
            self.step = Step::Renewing;
        }
    }

    /// Whether new keys are under way, so that a 4.01 means to send the request again.
    #[must_use]
    pub fn is_rederiving(&self) -> bool {
        self.step == Step::Asked || (self.announce == Announce::Wrapped && !self.confirmed)
    }
}

impl Rederivation<'_> {
    /// Client: the second keys, of R2 as it came and the ID Context of the request.
    pub(crate) fn second(&self, current: &Context, announced: &[u8]) -> Option<Context> {
        self.derive(&[aad::unwrap(announced)?, current.id_context().unwrap_or_default()], false)
    }

    /// Client: the third keys, after the answer verified with the second.
    pub(crate) fn third(&mut self, session: &mut Session, announced: &[u8]) -> Option<()> {
        let mut r3 = [0; RANDOM];
        (self.rng)(&mut r3);
        let context = self.derive(&[aad::unwrap(announced)?, &r3], self.durable)?;
        session.replace(context, Announce::Wrapped, Step::Idle);
        Some(())
    }

    /// Server: the keys of a request with another ID Context than the current one, and of request 2 the number that was made
    /// for it.
    pub(crate) fn asked(&self, session: &Session, id_context: &[u8]) -> Option<(Context, Option<u64>)> {
        let client = session.context.recipient_id();
        let made = id_context
            .split_at_checked(R2)
            .filter(|(_, r3)| !r3.is_empty())
            .and_then(|(r2, _)| self.issued(client, r2))
            .filter(|made| *made > session.used);
        Some((self.derive(&[id_context], made.is_some() && self.durable)?, made))
    }

    /// Server: after a request verified with keys of [`Rederivation::asked`]; says what it is.
    pub(crate) fn answer(
        &mut self,
        session: &mut Session,
        (context, made): (Context, Option<u64>),
        nonce: Nonce,
    ) -> Kind {
        let Some(made) = made else {
            self.challenge(session, context.id_context().unwrap_or_default(), nonce);
            return Kind::Rederiving;
        };
        session.replace(context, Announce::Never, Step::Idle);
        session.used = made;
        session.confirm();
        Kind::Fresh
    }

    /// Server: the next answer carries a new R2 and has the keys of R2 ‖ `id1`.
    pub(crate) fn challenge(&mut self, session: &mut Session, id1: &[u8], nonce: Nonce) {
        let mut random = [0; 4];
        (self.rng)(&mut random);
        // 44 bits of milliseconds and 20 random ones: R2 ascends, and hardly ever comes twice.
        let s2 = self.now.as_millis() << 20 | u64::from(u32::from_le_bytes(random) >> 12);
        let s2 = s2.to_be_bytes();
        let mut id_context = Bytes::new();
        for part in [&s2, &self.mac(session.context.recipient_id(), &s2), id1] {
            // An ID Context that is too long shows when the keys are derived.
            let _ = id_context.extend_from_slice(part);
        }
        session.step = Step::Answering { id_context, nonce };
    }

    /// Server: the second keys, the nonce to use with them, and R2 for the option.
    pub(crate) fn answering(&self, session: &Session) -> Option<(Context, Nonce, Wrapped)> {
        let Step::Answering { id_context, nonce } = &session.step else { return None };
        let r2 = Wrapped::new(id_context.get(..R2)?)?;
        Some((self.derive(&[id_context], false)?, nonce.clone(), r2))
    }

    /// Keys with the ID Context of these parts.
    fn derive(&self, id_context: &[&[u8]], durable: bool) -> Option<Context> {
        let mut id: Bytes<{ Parameters::ID_CONTEXT_LENGTH }> = Bytes::new();
        for part in id_context {
            id.extend_from_slice(part).ok()?;
        }
        let sequence = if durable { SenderSequence::FRESH } else { SenderSequence::VOLATILE };
        Some(Context::derive(self.parameters, Some(&id), sequence, ReplayWindow::FRESH))
    }

    /// When `r2` was made here for this client, and not too long ago.
    fn issued(&self, client: KeyId, r2: &[u8]) -> Option<u64> {
        let (s2, mac) = r2.split_first_chunk::<RANDOM>()?;
        let made = u64::from_be_bytes(*s2);
        let age = self.now.as_millis().checked_sub(made >> 20)?;
        let genuine = bool::from(self.mac(client, s2).ct_eq(mac));
        (genuine && age <= LIFETIME).then_some(made)
    }

    /// The second half of R2.
    fn mac(&self, client: KeyId, s2: &[u8; RANDOM]) -> [u8; RANDOM] {
        let mut truncated = [0; RANDOM];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key) {
            mac.update(b"R2");
            mac.update(s2);
            mac.update(client.bytes());
            let mac = mac.finalize().into_bytes();
            truncated.iter_mut().zip(mac).for_each(|(byte, mac)| *byte = mac);
        }
        truncated
    }
}

/// The bytes of R1, of R3, and of both halves of R2.
const RANDOM: usize = 8;
/// The bytes of R2.
const R2: usize = 2 * RANDOM;
/// How long R2 can be used, in milliseconds.
const LIFETIME: u64 = 60_000;
