//! The key agreement of the suites with forward secrecy (RFC 5489 §2, RFC 8442, RFC 8422 §5, RFC 7748 §6.1; invariant: a share of
//! the peer goes into keys only if it is a point of P-256 and not its neutral element, or of Curve25519 and gives a secret that
//! is not all zeros).
//!
//! P-256 in the uncompressed form is always possible: LwM2M demands both. The feature `x25519` has Curve25519 beside it.

use core::marker::PhantomData;

use zeroize::ZeroizeOnDrop;

use crate::Rng;
use crate::config::Config;
use crate::crypto::{Crypto, POINT};
use crate::error::SetUpError;
use crate::wire::{Reader, Writer};

/// A group in which both sides agree on a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Group {
    /// secp256r1, which LwM2M demands: a share is a point in the uncompressed form, of 65 bytes.
    Secp256r1,
    /// x25519: a share has 32 bytes.
    #[cfg(feature = "x25519")]
    X25519,
}

impl Group {
    /// In supported_groups and as named_curve.
    const fn code(self) -> u16 {
        match self {
            Self::Secp256r1 => 0x0017,
            #[cfg(feature = "x25519")]
            Self::X25519 => 0x001d,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        match code {
            0x0017 => Some(Self::Secp256r1),
            #[cfg(feature = "x25519")]
            0x001d => Some(Self::X25519),
            _ => None,
        }
    }

    /// Whether a share belongs to this secret, which is then between zero and the order of the group. In constant time but for
    /// that.
    fn has_secret(self, secret: &[u8; 32]) -> bool {
        let is_below_order = match self {
            Self::Secp256r1 => {
                // Whether the order can be taken away from it, byte by byte.
                let borrow = |borrow: u16, (byte, order): (&u8, u8)| {
                    u16::from(*byte).wrapping_sub(order.into()).wrapping_sub(borrow) >> 15
                };
                secret.iter().zip(ORDER).rev().fold(0, borrow) == 1
            }
            #[cfg(feature = "x25519")]
            Self::X25519 => true,
        };
        is_below_order && secret.iter().fold(0, |all, byte| all | byte) != 0
    }

    const fn share_length(self) -> usize {
        match self {
            Self::Secp256r1 => POINT,
            #[cfg(feature = "x25519")]
            Self::X25519 => 32,
        }
    }
}

/// named_curve in ECParameters.
const NAMED_CURVE: u8 = 3;

/// The order of the groups of this build; takes no place where there is one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Preference {
    #[cfg(feature = "x25519")]
    x25519_first: bool,
}

impl Preference {
    pub(crate) const fn of(config: &Config) -> Self {
        let _ = config;
        Self {
            #[cfg(feature = "x25519")]
            x25519_first: config.prefers_x25519,
        }
    }

    /// The groups, the preferred one first.
    pub(crate) const fn groups(self) -> &'static [Group] {
        #[cfg(feature = "x25519")]
        return if self.x25519_first {
            &[Group::X25519, Group::Secp256r1]
        } else {
            &[Group::Secp256r1, Group::X25519]
        };
        #[cfg(not(feature = "x25519"))]
        &[Group::Secp256r1]
    }
}

/// What a client with these groups sends in supported_groups.
pub(crate) fn codes(groups: &[Group]) -> heapless::Vec<u8, 4, u8> {
    groups.iter().flat_map(|group| group.code().to_be_bytes()).collect()
}

/// What a client sends in ec_point_formats: uncompressed.
pub(crate) const POINT_FORMATS: &[u8] = &[0];

/// How often a secret is drawn: one of 2^32 is no number below the order of the group.
const DRAWS: usize = 4;

/// The order of P-256 (SEC 2 §2.4.2), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Half of an agreement, as it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    group: Group,
    /// As many of them as the group needs.
    bytes: [u8; POINT],
}

impl Share {
    /// In place of one.
    const NONE: Self = Self::none_in(Group::Secp256r1);

    const fn none_in(group: Group) -> Self {
        Self { group, bytes: [0; POINT] }
    }

    /// `None` if a share of this group has another length.
    pub(crate) fn new(group: Group, share: &[u8]) -> Option<Self> {
        let mut bytes = [0; POINT];
        bytes.get_mut(..share.len()).filter(|_| share.len() == group.share_length())?.copy_from_slice(share);
        Some(Self { group, bytes })
    }

    /// Whether it is one.
    fn is_there(&self) -> bool {
        // The secrets that are drawn have no share of zeros.
        self.bytes != [0; POINT]
    }

    /// That of a secret; `None` if it is none of the group.
    pub(crate) fn of<C: Crypto>(group: Group, secret: &[u8; 32]) -> Option<Self> {
        match group {
            Group::Secp256r1 => C::p256_public(secret).map(|bytes| Self { group, bytes }),
            #[cfg(feature = "x25519")]
            Group::X25519 => Self::new(group, &C::x25519_public(secret)?),
        }
    }

    pub(crate) const fn group(&self) -> Group {
        self.group
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.group.share_length()).unwrap_or_default()
    }

    /// Agrees with `secret`, which is the other half; `None` if this is no half of anything.
    pub(crate) fn agree<C: Crypto>(&self, secret: &[u8; 32], shared: &mut [u8; 32]) -> Option<()> {
        match self.group {
            // RFC 8422 §5.4.1: uncompressed, which is two coordinates; the neutral element has no such form.
            Group::Secp256r1 => C::p256_shared(secret, &self.bytes, shared),
            // RFC 8422 §5.11
            #[cfg(feature = "x25519")]
            Group::X25519 => C::x25519_shared(secret, self.bytes.first_chunk()?, shared),
        }
    }
}

/// Our half of the agreement, and what came of both.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Agreement<C: Crypto> {
    /// All zeros where there is none.
    secret: [u8; 32],
    /// What belongs to it, once that was computed.
    #[zeroize(skip)]
    own: Share,
    /// The peer's, from when it came until somebody else has agreed with it.
    #[cfg(any(feature = "server", feature = "rpk"))]
    #[zeroize(skip)]
    peer: Share,
    shared: [u8; 32],
    #[zeroize(skip)]
    is_agreed: bool,
    #[zeroize(skip)]
    crypto: PhantomData<fn() -> C>,
}

impl<C: Crypto> Agreement<C> {
    pub(crate) const NONE: Self = Self {
        secret: [0; 32],
        own: Share::NONE,
        #[cfg(any(feature = "server", feature = "rpk"))]
        peer: Share::NONE,
        shared: [0; 32],
        is_agreed: false,
        crypto: PhantomData,
    };

    /// Starts with a fresh secret, drawn where it stays; its share is still to be computed.
    pub(crate) fn draw(&mut self, group: Group, rng: &mut Rng<'_>) -> Result<(), SetUpError> {
        self.own = Share::none_in(group);
        for _ in 0..DRAWS {
            rng(&mut self.secret);
            if group.has_secret(&self.secret) {
                return Ok(());
            }
        }
        Err(SetUpError::NotRandom)
    }

    /// The same with its share.
    pub(crate) fn draw_share(&mut self, group: Group, rng: &mut Rng<'_>) -> Result<(), SetUpError> {
        self.draw(group, rng)?;
        self.own = Share::of::<C>(group, &self.secret).ok_or(SetUpError::NotRandom)?;
        Ok(())
    }

    /// In which group both sides are to agree.
    #[cfg(feature = "server")]
    pub(crate) const fn group(&self) -> Group {
        self.own.group
    }

    /// The share that somebody else computed.
    #[cfg(feature = "server")]
    pub(crate) const fn set_share(&mut self, share: Share) {
        self.own = share;
    }

    /// What the peer needs of us.
    pub(crate) fn share(&self) -> Option<Share> {
        self.own.is_there().then_some(self.own)
    }

    /// Moves to the group that the peer chose. The secret is good for one of them: no share of it was sent yet.
    pub(crate) fn move_to(&mut self, group: Group) -> Option<()> {
        if self.share()?.group != group {
            self.own = Share::of::<C>(group, &self.secret)?;
        }
        Some(())
    }

    /// Keeps the peer's share, which is one of our group, for who agrees with it; `None` if it has another length.
    #[cfg(feature = "server")]
    pub(crate) fn keep_peer_share(&mut self, share: &[u8]) -> Option<()> {
        self.peer = Share::new(self.own.group, share)?;
        Some(())
    }

    /// Moves to the group of the peer's share, and keeps that.
    #[cfg(feature = "rpk")]
    pub(crate) fn move_to_peer(&mut self, share: Share) -> Option<()> {
        self.move_to(share.group)?;
        self.peer = share;
        Some(())
    }

    #[cfg(any(feature = "server", feature = "rpk"))]
    pub(crate) const fn peer(&self) -> Share {
        self.peer
    }

    /// Agrees with the peer; `None` if its share is none.
    pub(crate) fn agree(&mut self, share: &Share) -> Option<()> {
        share.agree::<C>(&self.secret, &mut self.shared)?;
        self.is_agreed = true;
        Some(())
    }

    #[cfg(any(feature = "server", feature = "rpk"))]
    pub(crate) const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What somebody else agreed on with our secret.
    #[cfg(any(feature = "server", feature = "rpk"))]
    pub(crate) const fn set_shared(&mut self, shared: &[u8; 32]) {
        self.shared = *shared;
        self.is_agreed = true;
    }

    /// The secret that only the two sides have.
    pub(crate) fn shared(&self) -> Option<&[u8; 32]> {
        self.is_agreed.then_some(&self.shared)
    }
}

/// Whether who sent this in ec_point_formats, or left it out, reads the uncompressed form (RFC 8422 §5.1.2).
pub(crate) fn reads_points(point_formats: Option<&[u8]>) -> bool {
    point_formats.is_none_or(|formats| formats.contains(&0))
}

/// Whether a client that sent this in supported_groups, or left it out, knows the group (RFC 8422 §4). Who left it out knows what
/// LwM2M demands.
pub(crate) fn knows(groups: Option<&[u8]>, group: Group) -> bool {
    let code = group.code().to_be_bytes();
    groups.map_or(group == Group::Secp256r1, |groups| groups.chunks_exact(2).any(|group| group == code))
}

/// Of our groups the first that such a client knows.
pub(crate) fn choose(own: &[Group], groups: Option<&[u8]>, point_formats: Option<&[u8]>) -> Option<Group> {
    let chosen = own.iter().copied().find(|group| knows(groups, *group));
    chosen.filter(|_| reads_points(point_formats))
}

/// The body of a ServerKeyExchange with an empty identity hint (RFC 5489 §2).
pub(crate) fn emit_server_key_exchange(out: &mut [u8], share: &Share) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.vector16(&[])?;
    emit_parameters(&mut writer, share)?;
    Some(writer.len())
}

/// ServerECDHParams (RFC 8422 §5.4).
pub(crate) fn emit_parameters(writer: &mut Writer<'_>, share: &Share) -> Option<()> {
    writer.u8(NAMED_CURVE)?;
    writer.u16(share.group.code())?;
    writer.vector8(share.bytes())
}

/// The server's share. The inner `None` is one in another group, or of another length.
pub(crate) fn parse_server_key_exchange(body: &[u8]) -> Option<Option<Share>> {
    let mut reader = Reader::new(body);
    // RFC 4279 §5.2: without an agreed meaning the hint is ignored.
    reader.vector16()?;
    match parse_parameters(&mut reader)? {
        Some((group, share)) => reader.is_empty().then(|| Share::new(group, share)),
        None => Some(None),
    }
}

/// The group and the share in ServerECDHParams. The inner `None` is another group.
pub(crate) fn parse_parameters<'a>(reader: &mut Reader<'a>) -> Option<Option<(Group, &'a [u8])>> {
    let (curve_type, code) = (reader.u8()?, reader.u16()?);
    let Some(group) = Group::from_code(code).filter(|_| curve_type == NAMED_CURVE) else {
        return Some(None);
    };
    reader.vector8().map(|share| Some((group, share)))
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
        agreement.draw_share(Group::Secp256r1, rng).unwrap();
        agreement
    }

    /// Agrees with a share of the own group.
    fn agree(agreement: &mut Agreement, share: &[u8]) -> Option<()> {
        let share = Share::new(agreement.share()?.group, share)?;
        agreement.agree(&share)
    }

    const SHARE: &str = "04515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f\
                         4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";

    #[test]
    fn shares_and_the_shared_secret_match_an_independent_computation() {
        let (mut one, mut other) = (agreement(1), agreement(0x41));
        assert_eq!(one.share().unwrap().bytes(), hex(SHARE));
        one.agree(&other.share().unwrap()).unwrap();
        agree(&mut other, &hex(SHARE)).unwrap();
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
            assert_eq!(agree(&mut agreement, &share), None, "{share:02x?}");
        }
        assert!(agreement.shared().is_none());
    }

    #[test]
    fn a_source_without_a_possible_secret_is_refused() {
        for byte in [0, 0xff] {
            let mut agreement = Agreement::NONE;
            let rng = &mut |bytes: &mut [u8]| bytes.fill(byte);
            assert_eq!(agreement.draw(Group::Secp256r1, rng), Err(SetUpError::NotRandom));
        }
        // Drawn again where the first is beyond the order of the group.
        let mut draws = [0xff, 7].into_iter();
        let mut agreement = Agreement::NONE;
        let rng = &mut |bytes: &mut [u8]| bytes.fill(draws.next().unwrap());
        assert_eq!(agreement.draw(Group::Secp256r1, rng), Ok(()));
        assert!(agreement.share().is_none(), "it is not computed yet");
    }

    #[test]
    fn a_secret_is_one_where_it_has_a_share() {
        // The order and its neighbours, what differs from it in one byte alone, and the ends.
        let mut secrets = vec![[0; 32], [0xff; 32], [1; 32]];
        for (index, byte) in ORDER.into_iter().enumerate() {
            for byte in [byte, byte.wrapping_sub(1), byte.wrapping_add(1)] {
                let mut secret = ORDER;
                *secret.get_mut(index).unwrap() = byte;
                secrets.push(secret);
                secret = [0; 32];
                *secret.get_mut(index).unwrap() = byte;
                secrets.push(secret);
            }
        }
        for secret in secrets {
            let share = RustCrypto::p256_public(&secret);
            assert_eq!(Group::Secp256r1.has_secret(&secret), share.is_some(), "{secret:02x?}");
        }
    }

    #[cfg(feature = "x25519")]
    #[test]
    fn a_secret_moves_to_the_group_that_the_peer_chose() {
        let mut agreement = Agreement::NONE;
        agreement.draw_share(Group::Secp256r1, &mut |bytes| bytes.fill(5)).unwrap();
        let before = agreement.share().unwrap();
        agreement.move_to(Group::Secp256r1).unwrap();
        assert!(agreement.share() == Some(before));
        agreement.move_to(Group::X25519).unwrap();
        let moved = agreement.share().unwrap();
        assert_eq!(moved.bytes(), RustCrypto::x25519_public(&[5; 32]).unwrap());
        let mut other = Agreement::NONE;
        other.draw_share(Group::X25519, &mut |bytes| bytes.fill(9)).unwrap();
        other.agree(&moved).unwrap();
        agreement.agree(&other.share().unwrap()).unwrap();
        assert_eq!(agreement.shared(), other.shared());
        // Nothing was drawn: there is nothing to move.
        let mut nothing = Agreement::NONE;
        assert_eq!(nothing.move_to(Group::X25519), None);
    }

    #[cfg(feature = "x25519")]
    #[test]
    fn a_source_of_zeros_gives_no_secret_of_x25519() {
        let rng = &mut |bytes: &mut [u8]| bytes.fill(0);
        let mut agreement = Agreement::NONE;
        assert_eq!(agreement.draw(Group::X25519, rng), Err(SetUpError::NotRandom));
    }

    #[cfg(feature = "x25519")]
    #[test]
    fn a_share_of_x25519_has_32_bytes_and_gives_a_secret_that_is_not_all_zeros_14() {
        let mut agreement = Agreement::NONE;
        agreement.draw_share(Group::X25519, &mut |bytes| bytes.fill(7)).unwrap();
        // The points of small order (RFC 7748 §7), also with the highest bit, which does not count.
        let small = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for share in small {
            let mut share = hex(share);
            assert_eq!(agree(&mut agreement, &share), None, "{share:02x?}");
            *share.last_mut().unwrap() |= 0x80;
            assert_eq!(agree(&mut agreement, &share), None, "{share:02x?}");
        }
        for length in [0, 31, 33, POINT] {
            assert_eq!(agree(&mut agreement, &vec![9; length]), None, "{length}");
        }
        assert!(agreement.shared().is_none());
        assert_eq!(agree(&mut agreement, &[9; 32]), Some(()));
    }

    #[test]
    fn a_client_without_the_group_or_the_form_cannot_agree() {
        let own = Preference::of(&Config::DEFAULT).groups();
        let of_p256 = Some(Group::Secp256r1);
        assert_eq!(choose(own, None, None), of_p256);
        assert_eq!(choose(own, Some(&[0, 0x1d, 0, 0x17]), Some(&[1, 0])), of_p256);
        assert_eq!(choose(own, Some(&[0, 0x1e]), None), None);
        assert_eq!(choose(own, Some(&[]), None), None);
        assert_eq!(choose(own, None, Some(&[1, 2])), None);
    }

    #[cfg(feature = "x25519")]
    #[test]
    fn the_order_of_a_server_counts_among_what_a_client_knows() {
        let first = Preference::of(&Config::DEFAULT.with_x25519_preferred(true)).groups();
        for (known, of_first, of_default) in [
            (Some(&[0, 0x17, 0, 0x1d][..]), Some(Group::X25519), Some(Group::Secp256r1)),
            (Some(&[0, 0x1d, 0, 0x17]), Some(Group::X25519), Some(Group::Secp256r1)),
            (Some(&[0, 0x1d]), Some(Group::X25519), Some(Group::X25519)),
            (Some(&[0, 0x17]), Some(Group::Secp256r1), Some(Group::Secp256r1)),
            // Who names nothing knows what LwM2M demands.
            (None, Some(Group::Secp256r1), Some(Group::Secp256r1)),
        ] {
            assert_eq!(choose(first, known, None), of_first);
            assert_eq!(choose(Preference::of(&Config::DEFAULT).groups(), known, None), of_default);
        }
        assert_eq!(codes(first), [0, 0x1d, 0, 0x17]);
        assert_eq!(codes(Preference::of(&Config::DEFAULT).groups()), [0, 0x17, 0, 0x1d]);
    }

    #[test]
    fn messages_come_back_and_every_other_length_is_malformed() {
        let mut out = [0; 128];
        let share = Share::new(Group::Secp256r1, &hex(SHARE)).unwrap();
        let length = emit_server_key_exchange(&mut out, &share).unwrap();
        let body = out.get(..length).unwrap();
        assert!(parse_server_key_exchange(body) == Some(Some(share)));
        for length in (0..length).chain([length + 1]) {
            let parsed = parse_server_key_exchange(out.get(..length).unwrap());
            assert!(parsed.is_none(), "{length}");
        }
        // Explicit parameters, and another curve.
        for (index, byte) in [(2, 1), (4, 0x18)] {
            let mut other = body.to_vec();
            *other.get_mut(index).unwrap() = byte;
            assert!(parse_server_key_exchange(&other) == Some(None));
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
