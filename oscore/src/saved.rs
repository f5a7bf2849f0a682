//! What durable storage knows of a session (RFC 8613 Appendix B.1.1): up to which number it may send, and under which keys.

use crate::parameters::{Bytes, Parameters};
use crate::sequence::SenderSequence;

/// What storage has to have before more can be sent: [`crate::Session::wanted`] makes it, [`crate::Session::saved`] is told
/// that it is there, and [`crate::Session::restored`] goes on with it. It holds no secret. Keep the latest one for each
/// [`Parameters::fingerprint`], and never bring an older one back; from a backup no other way than by [`Saved::leap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The ID Context of keys that replaced those of the parameters (Appendix B.2).
    pub(crate) id_context: Option<Bytes<{ Parameters::ID_CONTEXT_LENGTH }>>,
    pub(crate) bound: u64,
}

impl Saved {
    /// The bytes of [`Saved::emit`] at most.
    pub const MAX_LENGTH: usize = Self::BOUND + Parameters::ID_CONTEXT_LENGTH;

    /// Numbers that are left out where it is not known which were used.
    const LEAP: u64 = 1 << 32;

    /// The bytes of the bound: there are 2^40 numbers, and it may lie behind the last.
    const BOUND: usize = 6;

    /// Whether storage may put this in the place of `former`: it reserves the numbers right behind it, or the first ones of other
    /// keys. Else another session of the same sender key has reserved them meanwhile, and this one must not use them.
    #[must_use]
    pub fn follows(&self, former: Option<&Self>) -> bool {
        let reserved = match former {
            Some(former) if former.id_context == self.id_context => former.bound,
            // Keys that were replaced do not come back.
            Some(_) if self.id_context.is_none() => return false,
            _ => 0,
        };
        SenderSequence::restored(reserved).wanted() == Some(self.bound)
    }

    /// What storage has to have of a context of which it has nothing, though it may have been used: a backup has its keys, and none of what
    /// was done with them since.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { id_context: None, bound: Self::LEAP }
    }

    /// What an older state becomes that is to be used again, because a backup was put back: of each 2^40 numbers 2^32 are left out, which
    /// is more than were used since.
    #[must_use]
    pub fn leap(self) -> Self {
        Self { bound: self.bound.saturating_add(Self::LEAP).min(SenderSequence::END), ..self }
    }

    /// Writes the bound and the ID Context to the beginning of `out`.
    pub fn emit<'o>(&self, out: &'o mut [u8; Self::MAX_LENGTH]) -> &'o [u8] {
        let [_, _, bound @ ..] = self.bound.to_be_bytes();
        let id_context = self.id_context.as_deref().unwrap_or_default();
        let bytes = bound.iter().chain(id_context);
        out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
        out.get(..Self::BOUND.saturating_add(id_context.len())).unwrap_or_default()
    }

    /// Reads what [`Saved::emit`] wrote; `None` when it is something else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (bound, id_context) = bytes.split_first_chunk::<{ Self::BOUND }>()?;
        let [a, b, c, d, e, f] = *bound;
        let bound = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let id_context = Bytes::from_slice(id_context).ok()?;
        let is_bound = bound > 0 && bound <= SenderSequence::END;
        is_bound.then(|| Self { id_context: Some(id_context).filter(|id| !id.is_empty()), bound })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_another_session_reserved_are_not_reserved_again() {
        let saved = |bound, id: &[u8]| {
            let id_context = Some(Bytes::from_slice(id).unwrap()).filter(|id| !id.is_empty());
            Saved { id_context, bound }
        };
        let step = SenderSequence::STEP;
        for (next, former, follows) in [
            (saved(step, b""), None, true),
            (saved(2 * step, b""), None, false),
            (saved(2 * step, b""), Some(saved(step, b"")), true),
            (saved(step, b""), Some(saved(step, b"")), false),
            (saved(2 * step, b""), Some(saved(2 * step, b"")), false),
            (saved(step, b"new"), Some(saved(9 * step, b"")), true),
            (saved(2 * step, b"new"), Some(saved(step, b"")), false),
            (saved(step, b""), Some(saved(step, b"new")), false),
            (saved(2 * step, b"new"), Some(saved(step, b"new")), true),
            (saved(SenderSequence::END, b""), Some(saved(SenderSequence::END - 1, b"")), true),
            (saved(SenderSequence::END, b""), Some(saved(SenderSequence::END, b"")), false),
        ] {
            assert_eq!(next.follows(former.as_ref()), follows, "{next:?} after {former:?}");
        }
    }

    #[test]
    fn what_comes_back_from_a_backup_leaves_numbers_out_and_ends_at_the_last() {
        let saved = |bound| Saved { id_context: Some(Bytes::from_slice(b"new").unwrap()), bound };
        assert_eq!(saved(256).leap(), saved(256 + (1 << 32)));
        assert_eq!(saved(SenderSequence::END - 1).leap(), saved(SenderSequence::END));
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        for id_context in [None, Some(Bytes::from_slice(&[7; 24]).unwrap())] {
            let saved = Saved { id_context, bound: SenderSequence::END };
            let mut out = [0; Saved::MAX_LENGTH];
            let bytes = saved.emit(&mut out);
            assert_eq!(bytes.len(), 6 + saved.id_context.as_ref().map_or(0, |id| id.len()));
            assert_eq!(Saved::parse(bytes), Some(saved));
        }
        for wrong in [&[][..], &[0; 5], &[0; 6], &[2, 0, 0, 0, 0, 0], &[1; Saved::MAX_LENGTH + 1]] {
            assert_eq!(Saved::parse(wrong), None, "{wrong:?}");
        }
    }
}
