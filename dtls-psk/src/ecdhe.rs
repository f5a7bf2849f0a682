//! The key agreement of the suites with forward secrecy (RFC 5489 §2, RFC 8442, RFC 8422 §5; invariant: a share of the peer
//! goes into keys only if it is a point of P-256 and not its neutral element).
//!
//! P-256 is the only group and the uncompressed form the only one: LwM2M demands both.

use core::marker::PhantomData;

use zeroize::ZeroizeOnDrop;

use crate::Rng;
use crate::crypto::{Crypto, POINT};
use crate::error::SetUpError;
use crate::wire::{Reader, Writer};

/// secp256r1 in supported_groups and as named_curve.
const SECP256R1: u16 = 0x0017;

/// named_curve in ECParameters.
const NAMED_CURVE: u8 = 3;

/// What a client sends in supported_groups.
pub(crate) const GROUPS: &[u8] = &SECP256R1.to_be_bytes();

/// What a client sends in ec_point_formats: uncompressed.
pub(crate) const POINT_FORMATS: &[u8] = &[0];

/// How often a secret is drawn: one of 2^32 is no number below the order of the group.
const DRAWS: usize = 4;

/// Our half of the agreement, and what came of both.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Agreement<C: Crypto> {
    /// All zeros where there is none.
    secret: [u8; 32],
    /// What belongs to it.
    #[zeroize(skip)]
    public: [u8; POINT],
    shared: [u8; 32],
    #[zeroize(skip)]
    is_agreed: bool,
    #[zeroize(skip)]
    crypto: PhantomData<fn() -> C>,
}

impl<C: Crypto> Agreement<C> {
    pub(crate) const NONE: Self =
        Self { secret: [0; 32], public: [0; POINT], shared: [0; 32], is_agreed: false, crypto: PhantomData };

    /// Starts with a fresh secret, drawn where it stays.
    pub(crate) fn draw(&mut self, rng: &mut Rng<'_>) -> Result<(), SetUpError> {
        for _ in 0..DRAWS {
            rng(&mut self.secret);
            if let Some(public) = C::p256_public(&self.secret) {
                self.public = public;
                return Ok(());
            }
        }
        Err(SetUpError::NotRandom)
    }

    /// What the peer needs of us.
    pub(crate) fn share(&self) -> Option<[u8; POINT]> {
        self.public.starts_with(&[4]).then_some(self.public)
    }

    /// Agrees with the peer; `None` if its share is none.
    pub(crate) fn agree(&mut self, share: &[u8]) -> Option<()> {
        // RFC 8422 §5.4.1: uncompressed, which is two coordinates; the neutral element has no such form.
        let share = share.try_into().ok()?;
        C::p256_shared(&self.secret, share, &mut self.shared)?;
        self.is_agreed = true;
        Some(())
    }

    #[cfg(feature = "rpk")]
    pub(crate) const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What somebody else agreed on with our secret.
    #[cfg(feature = "rpk")]
    pub(crate) const fn set_shared(&mut self, shared: &[u8; 32]) {
        self.shared = *shared;
        self.is_agreed = true;
    }

    /// The secret that only the two sides have.
    pub(crate) fn shared(&self) -> Option<&[u8; 32]> {
        self.is_agreed.then_some(&self.shared)
    }
}

/// Whether a client that sent these extensions, or left them out, can use P-256 in the uncompressed form (RFC 8422 §4).
pub(crate) fn is_possible(groups: Option<&[u8]>, point_formats: Option<&[u8]>) -> bool {
    groups.is_none_or(|groups| groups.chunks_exact(2).any(|group| group == GROUPS))
        && point_formats.is_none_or(|formats| formats.contains(&0))
}

/// The body of a ServerKeyExchange with an empty identity hint (RFC 5489 §2).
pub(crate) fn emit_server_key_exchange(out: &mut [u8], share: &[u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.vector16(&[])?;
    emit_parameters(&mut writer, share)?;
    Some(writer.len())
}

/// ServerECDHParams (RFC 8422 §5.4).
pub(crate) fn emit_parameters(writer: &mut Writer<'_>, share: &[u8]) -> Option<()> {
    writer.u8(NAMED_CURVE)?;
    writer.u16(SECP256R1)?;
    writer.vector8(share)
}

/// The server's share. The inner `None` is one on another curve.
pub(crate) fn parse_server_key_exchange(body: &[u8]) -> Option<Option<&[u8]>> {
    let mut reader = Reader::new(body);
    // RFC 4279 §5.2: without an agreed meaning the hint is ignored.
    reader.vector16()?;
    let share = parse_parameters(&mut reader)?;
    (share.is_none() || reader.is_empty()).then_some(share)
}

/// The share in ServerECDHParams. The inner `None` is one on another curve.
pub(crate) fn parse_parameters<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    if (reader.u8()?, reader.u16()?) != (NAMED_CURVE, SECP256R1) {
        return Some(None);
    }
    reader.vector8().map(Some)
}

/// The identity and the client's share.
#[cfg(feature = "server")]
pub(crate) fn parse_client_key_exchange(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(body);
    let (identity, share) = (reader.vector16()?, reader.vector8()?);
    reader.is_empty().then_some((identity, share))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::vec;

    use super::*;
    use crate::crypto::RustCrypto;
    use crate::prf::tests::hex;

    type Agreement = super::Agreement<RustCrypto>;

    fn agreement(first: u8) -> Agreement {
        let mut agreement = Agreement::NONE;
        let rng = &mut |bytes: &mut [u8]| bytes.iter_mut().zip(first..).for_each(|(to, from)| *to = from);
        agreement.draw(rng).unwrap();
        agreement
    }

    const SHARE: &str = "04515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f\
                         4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";

    #[test]
    fn shares_and_the_shared_secret_match_an_independent_computation() {
        let (mut one, mut other) = (agreement(1), agreement(0x41));
        assert_eq!(one.share().unwrap().as_slice(), hex(SHARE));
        one.agree(&other.share().unwrap()).unwrap();
        other.agree(&hex(SHARE)).unwrap();
        let shared = hex("7434f2c52e0d08dc73394aae3d2d55d5b88bc570f21cc2b8f8b80b273ddbf76f");
        assert_eq!(one.shared().unwrap().as_slice(), shared);
        assert_eq!(other.shared().unwrap().as_slice(), shared);
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_no_share_14() {
        let mut agreement = agreement(1);
        let point = hex(SHARE);
        let with = |index: usize, byte: u8| {
            let mut point = point.clone();
            *point.get_mut(index).unwrap() = byte;
            point
        };
        let refused = [
            vec![],
            // The neutral element.
            vec![0],
            vec![0; POINT],
            // Compressed, hybrid, and uncompressed without a form.
            hex(&SHARE.replacen("04", "02", 1)).get(..33).unwrap().to_vec(),
            with(0, 6),
            with(0, 0),
            // Too short, and too long.
            point.get(..POINT - 1).unwrap().to_vec(),
            [&*point, &[0]].concat(),
            // Beside the curve; the origin; beyond the field.
            with(POINT - 1, 0x55),
            [&[4][..], &[0; 64]].concat(),
            [&[4][..], &[0xff; 64]].concat(),
        ];
        for share in refused {
            assert_eq!(agreement.agree(&share), None, "{share:02x?}");
        }
        assert!(agreement.shared().is_none());
    }

    #[test]
    fn a_source_without_a_possible_secret_is_refused() {
        for byte in [0, 0xff] {
            let mut agreement = Agreement::NONE;
            assert_eq!(agreement.draw(&mut |bytes| bytes.fill(byte)), Err(SetUpError::NotRandom));
        }
        // Drawn again where the first is beyond the order of the group.
        let mut draws = [0xff, 7].into_iter();
        let mut agreement = Agreement::NONE;
        assert_eq!(agreement.draw(&mut |bytes| bytes.fill(draws.next().unwrap())), Ok(()));
    }

    #[test]
    fn a_client_without_the_group_or_the_form_cannot_agree() {
        assert!(is_possible(None, None));
        assert!(is_possible(Some(&[0, 0x1d, 0, 0x17]), Some(&[1, 0])));
        assert!(!is_possible(Some(&[0, 0x1d]), None));
        assert!(!is_possible(Some(&[]), None));
        assert!(!is_possible(None, Some(&[1, 2])));
    }

    #[test]
    fn messages_come_back_and_every_other_length_is_malformed() {
        let mut out = [0; 128];
        let length = emit_server_key_exchange(&mut out, &hex(SHARE)).unwrap();
        let body = out.get(..length).unwrap();
        assert_eq!(parse_server_key_exchange(body), Some(Some(&*hex(SHARE))));
        for length in (0..length).chain([length + 1]) {
            let parsed = parse_server_key_exchange(out.get(..length).unwrap());
            assert_eq!(parsed, None, "{length}");
        }
        // Explicit parameters, and another curve.
        for (index, byte) in [(2, 1), (4, 0x18)] {
            let mut other = body.to_vec();
            *other.get_mut(index).unwrap() = byte;
            assert_eq!(parse_server_key_exchange(&other), Some(None));
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_client_key_exchange_has_an_identity_and_a_share() {
        let body = [0, 2, b'm', b'e', 1, 9];
        assert_eq!(parse_client_key_exchange(&body), Some((&b"me"[..], &[9][..])));
        for length in 0..body.len() {
            assert_eq!(parse_client_key_exchange(body.get(..length).unwrap()), None);
        }
        assert_eq!(parse_client_key_exchange(&[0, 2, b'm', b'e', 1, 9, 0]), None);
    }
}
