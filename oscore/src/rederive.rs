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
//! Invariant: for 4 the server keeps nothing of 2: R2 holds when it was made, and a MAC of this session. So who replays an old
//! request 1 gets an answer that leads him nowhere, and changes nothing. Keys are derived for so many requests a second only.

use lwm2m_coap::Instant;
use subtle::ConstantTimeEq;

use crate::aad::Cbor;
use crate::context::{Context, Nonce};
use crate::crypto::mac;
use crate::option::PartialIv;
use crate::parameters::{Bytes, Parameters};
use crate::replay::ReplayWindow;
use crate::sequence::SenderSequence;
use crate::session::{Announce, Answering, Kind, Session};

/// What new keys are made of, for the time of one call.
#[derive(Clone, Copy, Debug)]
pub struct Rederivation<'a> {
    /// Master Secret and all else.
    pub parameters: &'a Parameters,
    /// The time.
    pub now: Instant,
    /// Random bytes, others for each call.
    pub random: [u8; Rederivation::RANDOM],
    /// Whether the owner puts [`Session::wanted`] into durable storage: numbers have to be reserved then. Otherwise the keys
    /// end with this process.
    pub durable: bool,
}

impl Session {
    /// Begins to have the keys replaced, as the client: the next request is request 1. Its answer is 4.01; then send it
    /// again. The keys so far are gone: not to be called because of a [`Session::hint`] while they work.
    pub fn rederive(&mut self, rederivation: &Rederivation<'_>) {
        // These keys protect one request and are never stored.
        let (sequence, window) = (SenderSequence::VOLATILE, ReplayWindow::FRESH);
        let context = Context::derive(rederivation.parameters, Some(&rederivation.random), sequence, window);
        self.replace(context, Announce::Wrapped);
        self.is_asking = true;
    }

    /// Has the keys replaced, as the server: requests are not carried out, and their answers bring the client to send them
    /// again under new keys. For an ID Context of at most 24 bytes.
    pub const fn renew(&mut self) {
        self.is_renewing = true;
    }

    /// Whether new keys are under way, so that a 4.01 means to send the request again.
    #[must_use]
    pub fn is_rederiving(&self) -> bool {
        self.is_asking || (self.announce == Announce::Wrapped && !self.confirmed)
    }
}

impl Rederivation<'_> {
    /// How many random bytes it takes.
    pub const RANDOM: usize = 8;

    /// Client: the second keys, of R2 and the ID Context of the request.
    ///
    /// Not rationed, unlike the keys of requests: who spoofs answers could use the ration up before the genuine one comes.
    pub(crate) fn second(&self, session: &Session, r2: &[u8]) -> Option<Context> {
        let id1 = session.context.id_context().unwrap_or_default();
        self.derive(&[r2, id1], false)
    }

    /// Client: the third keys, after the answer verified with the second.
    pub(crate) fn third(&self, session: &mut Session, r2: &[u8]) -> Option<()> {
        let context = self.derive(&[r2, &self.random], self.durable)?;
        session.replace(context, Announce::Wrapped);
        Some(())
    }

    /// Server: the keys of a request with another ID Context than the current one, and of request 2 the number that was made
    /// for it.
    pub(crate) fn asked(&self, session: &Session, id_context: &[u8]) -> Option<(Context, Option<u64>)> {
        let made = id_context
            .split_at_checked(R2)
            .filter(|(_, r3)| !r3.is_empty())
            .and_then(|(r2, _)| self.issued(session, r2))
            .filter(|made| *made > session.used);
        Some((self.derive(&[id_context], made.is_some() && self.durable)?, made))
    }

    /// Server: after a request verified with keys of [`Rederivation::asked`]; says what it is.
    pub(crate) fn answer(
        &self,
        session: &mut Session,
        context: Context,
        made: Option<u64>,
        request: (PartialIv, Nonce),
    ) -> Option<Kind> {
        let Some(made) = made else {
            return self.challenge(session, Some(&context), request);
        };
        session.replace(context, Announce::Never);
        session.used = made;
        session.confirm();
        Some(Kind::Fresh)
    }

    /// Server: the answer to this request carries a new R2 and has the keys of R2 ‖ the ID Context of
    /// `other` keys or the current ones. `None` when that is too long.
    pub(crate) fn challenge(
        &self,
        session: &mut Session,
        other: Option<&Context>,
        (partial_iv, nonce): (PartialIv, Nonce),
    ) -> Option<Kind> {
        let [a, b, c, d, ..] = self.random;
        // 44 bits of milliseconds and 20 random ones; R2 ascends, and never comes twice.
        let s2 = self.now.as_millis() << 20 | u64::from(u32::from_le_bytes([a, b, c, d]) >> 12);
        let s2 = s2.max(session.made.saturating_add(1));
        let id1 = other.unwrap_or(&session.context).id_context().unwrap_or_default();
        let mut id_context = Bytes::new();
        let bytes = s2.to_be_bytes();
        for part in [&bytes, &mac(&session.key, b"R2", &bytes), id1] {
            id_context.extend_from_slice(part).ok()?;
        }
        session.made = s2;
        session.answering = Some(Answering { id_context, partial_iv, nonce });
        Some(Kind::Rederiving)
    }

    /// Server: the second keys, the nonce to use with them, and R2 for the option; once for each challenge.
    pub(crate) fn answering(
        &self,
        session: &mut Session,
        request: PartialIv,
    ) -> Option<(Context, Nonce, Cbor)> {
        let answering = session.answering.as_ref().filter(|answering| answering.partial_iv == request)?;
        let r2 = Cbor::byte_string(answering.id_context.get(..R2)?);
        let (context, nonce) = (self.derive(&[&answering.id_context], false)?, answering.nonce);
        session.answering = None;
        Some((context, nonce, r2))
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

    /// Which number `r2` is, if it was made by this session, and not too long ago.
    fn issued(&self, session: &Session, r2: &[u8]) -> Option<u64> {
        let (s2, tag) = r2.split_first_chunk::<8>()?;
        let made = u64::from_be_bytes(*s2);
        let age = self.now.as_millis().checked_sub(made >> 20)?;
        let genuine = bool::from(mac(&session.key, b"R2", s2).ct_eq(tag));
        (genuine && age <= LIFETIME).then_some(made)
    }
}

/// The bytes of R2: a number and its MAC.
const R2: usize = 16;
/// How long R2 can be used, in milliseconds.
const LIFETIME: u64 = 60_000;
