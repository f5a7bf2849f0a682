//! A Security Context (RFC 8613 §3): keys, Common IV, sender sequence and replay window of one pair of endpoints.
//!
//! Invariant: no nonce is used twice with the sender key but that of a request for its one response.

use core::fmt;

use zeroize::Zeroize;

use crate::aad::{self, Cbor};
use crate::crypto::{self, KEY_LENGTH, NONCE_LENGTH};
use crate::option::PartialIv;
use crate::parameters::{AeadAlgorithm, Bytes, KeyId, Parameters};
use crate::replay::ReplayWindow;
use crate::sequence::SenderSequence;

/// The derived keys and the changing state of one pair of endpoints; keys are wiped when dropped and never shown.
pub struct Context {
    aead: AeadAlgorithm,
    sender_id: KeyId,
    recipient_id: KeyId,
    pub(crate) id_context: Option<Bytes<{ Parameters::ID_CONTEXT_LENGTH }>>,
    sender_key: [u8; KEY_LENGTH],
    recipient_key: [u8; KEY_LENGTH],
    common_iv: [u8; NONCE_LENGTH],
    pub(crate) sequence: SenderSequence,
    pub(crate) window: ReplayWindow,
    /// Messages that did not verify (limit on forgeries of the AEAD algorithm).
    pub(crate) failures: u32,
}

impl Context {
    /// The bytes of the keys of both ends and of the Common IV for `parameters`, the ID Context of which is replaced by
    /// `id_context` when it is given (Appendix B.2).
    pub(crate) fn derive(
        parameters: &Parameters,
        id_context: Option<&[u8]>,
        sequence: SenderSequence,
        window: ReplayWindow,
    ) -> Self {
        let aead = parameters.aead();
        let id_context = id_context.or(parameters.id_context());
        let mut context = Self {
            aead,
            sender_id: parameters.sender_id(),
            recipient_id: parameters.recipient_id(),
            id_context: id_context.and_then(|bytes| Bytes::from_slice(bytes).ok()),
            sender_key: [0; KEY_LENGTH],
            recipient_key: [0; KEY_LENGTH],
            common_iv: [0; NONCE_LENGTH],
            sequence,
            window,
            failures: 0,
        };
        let (sender, recipient) = (parameters.sender_id(), parameters.recipient_id());
        for (id, name, out) in [
            (sender.bytes(), "Key", context.sender_key.get_mut(..aead.key_length())),
            (recipient.bytes(), "Key", context.recipient_key.get_mut(..aead.key_length())),
            (&[][..], "IV", context.common_iv.get_mut(..aead.nonce_length())),
        ] {
            let out = out.unwrap_or_default();
            derive(parameters, id, id_context, name, out);
        }
        context
    }

    /// The AEAD algorithm.
    #[must_use]
    pub const fn aead(&self) -> AeadAlgorithm {
        self.aead
    }

    /// The identifier this end puts into its requests.
    #[must_use]
    pub const fn sender_id(&self) -> KeyId {
        self.sender_id
    }

    /// The identifier the other end puts into its requests.
    #[must_use]
    pub const fn recipient_id(&self) -> KeyId {
        self.recipient_id
    }

    /// The ID Context that the keys were derived with.
    #[must_use]
    pub fn id_context(&self) -> Option<&[u8]> {
        self.id_context.as_deref()
    }

    /// Whether a kid context is the ID Context of these keys, as it is or as a CBOR byte string: the field has both.
    pub(crate) fn is_of(&self, kid_context: &[u8]) -> bool {
        let id_context = self.id_context();
        id_context == Some(kid_context) || (id_context.is_some() && id_context == aad::unwrap(kid_context))
    }

    /// The numbers of what this end sends.
    #[must_use]
    pub const fn sequence(&self) -> SenderSequence {
        self.sequence
    }

    /// The window of what the other end sends.
    #[must_use]
    pub const fn window(&self) -> ReplayWindow {
        self.window
    }

    /// Encrypts `buffer` but its last [`AeadAlgorithm::tag_length`] bytes, which take the tag, for `request`. `None` when it
    /// is too short.
    pub(crate) fn seal(&self, request: Request, nonce: &Nonce, buffer: &mut [u8]) -> Option<()> {
        let key = self.sender_key.get(..self.aead.key_length())?;
        crypto::seal(self.aead, key, self.cut(nonce), &self.aad(request), buffer)
    }

    /// Decrypts `buffer` and returns how long the plaintext at its start is; `None` when it does not verify.
    pub(crate) fn open(&mut self, request: Request, nonce: &Nonce, buffer: &mut [u8]) -> Option<usize> {
        let aad = self.aad(request);
        let key = self.recipient_key.get(..self.aead.key_length())?;
        let opened = crypto::open(self.aead, key, self.cut(nonce), &aad, buffer);
        if opened.is_none() {
            self.failures = self.failures.saturating_add(1);
        }
        opened
    }

    pub(crate) fn aad(&self, request: Request) -> Cbor {
        let kid = match request.by {
            End::Sender => &self.sender_id,
            End::Recipient => &self.recipient_id,
        };
        aad::aad(self.aead, kid, request.partial_iv)
    }

    /// The AEAD nonce with the number of one end (RFC 8613 §5.2): length of its id, padded id and padded Partial IV, xored
    /// with the Common IV.
    pub(crate) fn nonce(&self, of: End, partial_iv: PartialIv) -> Nonce {
        let id = match of {
            End::Sender => self.sender_id.bytes(),
            End::Recipient => self.recipient_id.bytes(),
        };
        let [_, _, _, partial_iv @ ..] = partial_iv.sequence().to_be_bytes();
        let mut nonce = self.common_iv;
        let used = nonce.get_mut(..self.aead.nonce_length()).unwrap_or_default();
        if let Some((front, back)) = used.split_last_chunk_mut::<5>() {
            add(back, &partial_iv);
            add(front, id);
            if let Some(first) = front.first_mut() {
                *first ^= u8::try_from(id.len()).unwrap_or_default();
            }
        }
        nonce
    }

    /// The bytes of a nonce that the algorithm takes.
    fn cut<'n>(&self, nonce: &'n Nonce) -> &'n [u8] {
        nonce.get(..self.aead.nonce_length()).unwrap_or_default()
    }
}

/// Adds `with`, padded in front, bit by bit.
fn add(to: &mut [u8], with: &[u8]) {
    to.iter_mut().rev().zip(with.iter().rev()).for_each(|(byte, with)| *byte ^= with);
}

#[cfg(test)]
impl Context {
    /// Sender key, recipient key and Common IV.
    pub(crate) fn keys(&self) -> [&[u8]; 3] {
        let key = self.aead.key_length();
        let parts = [
            self.sender_key.get(..key),
            self.recipient_key.get(..key),
            self.common_iv.get(..self.aead.nonce_length()),
        ];
        parts.map(Option::unwrap_or_default)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.sender_key.zeroize();
        self.recipient_key.zeroize();
        self.common_iv.zeroize();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("aead", &self.aead)
            .field("sender_id", &self.sender_id)
            .field("recipient_id", &self.recipient_id)
            .field("id_context", &self.id_context)
            .field("sequence", &self.sequence)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// One of both ends, seen from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Sender,
    Recipient,
}

/// The request that a message is, or answers: what its additional authenticated data name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) by: End,
    pub(crate) partial_iv: PartialIv,
}

/// An AEAD nonce, behind which nothing counts when the algorithm has a shorter one.
pub(crate) type Nonce = [u8; NONCE_LENGTH];

/// HKDF with the info of a key or of the Common IV (RFC 8613 §3.2.1); fills `out`.
pub(crate) fn derive(
    parameters: &Parameters,
    id: &[u8],
    id_context: Option<&[u8]>,
    name: &str,
    out: &mut [u8],
) {
    let info = aad::info(parameters.aead(), id, id_context, name, out.len());
    crypto::derive(parameters, &info, out);
}
