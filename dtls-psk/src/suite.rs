//! The cipher suites this engine speaks, and lists of them (RFC 6655 §4, RFC 5487 §3, RFC 8442 §3,
//! RFC 5489 §3; invariant: a suite is chosen only from
//! what the client offered, and accepted only from what we offered).

use crate::crypto::Aead;
use crate::keys::Protection;

/// A cipher suite. Those beyond the first come with features of this crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Suite {
    /// TLS_PSK_WITH_AES_128_CCM_8, which LwM2M demands: eight bytes of explicit nonce, eight of tag.
    #[default]
    PskAes128Ccm8,
    /// TLS_PSK_WITH_AES_128_CCM: the same with a tag of 16 bytes.
    #[cfg(feature = "ccm16")]
    PskAes128Ccm,
    /// TLS_PSK_WITH_AES_128_GCM_SHA256.
    #[cfg(feature = "gcm")]
    PskAes128Gcm,
    /// TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256: as the first, with a key agreement on P-256 besides, so that who learns the
    /// key later cannot read what was sent before.
    #[cfg(feature = "ecdhe")]
    EcdhePskAes128Ccm8,
    /// TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256: the same with a tag of 16 bytes.
    #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
    EcdhePskAes128Ccm,
    /// TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256.
    #[cfg(feature = "cbc")]
    EcdhePskAes128CbcSha256,
    /// TLS_PSK_WITH_AES_128_CBC_SHA256: only for servers, whose clients may know LwM2M 1.0 alone. No client offers it.
    #[cfg(all(feature = "cbc", feature = "server"))]
    PskAes128CbcSha256,
}

/// How many suites there are.
const COUNT: usize = Suite::ALL.len();

impl Suite {
    /// All suites, the cheapest first.
    pub const ALL: &'static [Self] = &[
        Self::PskAes128Ccm8,
        #[cfg(feature = "ccm16")]
        Self::PskAes128Ccm,
        #[cfg(feature = "gcm")]
        Self::PskAes128Gcm,
        #[cfg(feature = "ecdhe")]
        Self::EcdhePskAes128Ccm8,
        #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
        Self::EcdhePskAes128Ccm,
        #[cfg(feature = "cbc")]
        Self::EcdhePskAes128CbcSha256,
        #[cfg(all(feature = "cbc", feature = "server"))]
        Self::PskAes128CbcSha256,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::PskAes128Ccm8 => 0xc0a8,
            #[cfg(feature = "ccm16")]
            Self::PskAes128Ccm => 0xc0a4,
            #[cfg(feature = "gcm")]
            Self::PskAes128Gcm => 0x00a8,
            #[cfg(feature = "ecdhe")]
            Self::EcdhePskAes128Ccm8 => 0xd003,
            #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
            Self::EcdhePskAes128Ccm => 0xd005,
            #[cfg(feature = "cbc")]
            Self::EcdhePskAes128CbcSha256 => 0xc037,
            #[cfg(all(feature = "cbc", feature = "server"))]
            Self::PskAes128CbcSha256 => 0x00ae,
        }
    }

    /// The name in the register of cipher suites.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PskAes128Ccm8 => "TLS_PSK_WITH_AES_128_CCM_8",
            #[cfg(feature = "ccm16")]
            Self::PskAes128Ccm => "TLS_PSK_WITH_AES_128_CCM",
            #[cfg(feature = "gcm")]
            Self::PskAes128Gcm => "TLS_PSK_WITH_AES_128_GCM_SHA256",
            #[cfg(feature = "ecdhe")]
            Self::EcdhePskAes128Ccm8 => "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256",
            #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
            Self::EcdhePskAes128Ccm => "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256",
            #[cfg(feature = "cbc")]
            Self::EcdhePskAes128CbcSha256 => "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
            #[cfg(all(feature = "cbc", feature = "server"))]
            Self::PskAes128CbcSha256 => "TLS_PSK_WITH_AES_128_CBC_SHA256",
        }
    }

    /// The suite with this number; `None` if this build has none.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|suite| suite.code() == code)
    }

    /// The suite with this name; `None` if this build has none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|suite| suite.name() == name)
    }

    /// Whether a client may offer it.
    pub const fn is_for_clients(self) -> bool {
        match self {
            #[cfg(all(feature = "cbc", feature = "server"))]
            Self::PskAes128CbcSha256 => false,
            _ => true,
        }
    }

    pub(crate) const fn protection(self) -> Protection {
        match self {
            Self::PskAes128Ccm8 => Protection::Aead(Aead::Ccm8),
            #[cfg(feature = "ccm16")]
            Self::PskAes128Ccm => Protection::Aead(Aead::Ccm),
            #[cfg(feature = "gcm")]
            Self::PskAes128Gcm => Protection::Aead(Aead::Gcm),
            #[cfg(feature = "ecdhe")]
            Self::EcdhePskAes128Ccm8 => Protection::Aead(Aead::Ccm8),
            #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
            Self::EcdhePskAes128Ccm => Protection::Aead(Aead::Ccm),
            #[cfg(feature = "cbc")]
            Self::EcdhePskAes128CbcSha256 => Protection::Cbc,
            #[cfg(all(feature = "cbc", feature = "server"))]
            Self::PskAes128CbcSha256 => Protection::Cbc,
        }
    }

    #[cfg(feature = "cbc")]
    pub(crate) const fn is_cbc(self) -> bool {
        matches!(self.protection(), Protection::Cbc)
    }

    /// Whether the two sides agree on a secret besides the pre-shared key.
    pub(crate) const fn is_ecdhe(self) -> bool {
        match self {
            #[cfg(feature = "ecdhe")]
            Self::EcdhePskAes128Ccm8 => true,
            #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
            Self::EcdhePskAes128Ccm => true,
            #[cfg(feature = "cbc")]
            Self::EcdhePskAes128CbcSha256 => true,
            _ => false,
        }
    }
}

/// One or more suites, each once, the preferred one first.
#[derive(Clone, Copy)]
pub struct Suites {
    list: [Suite; COUNT],
    length: u8,
}

impl Suites {
    /// TLS_PSK_WITH_AES_128_CCM_8 alone.
    pub const DEFAULT: Self = Self { list: [Suite::PskAes128Ccm8; COUNT], length: 1 };

    /// Every suite of this build that a client may offer, the cheapest first. What is for servers only is to be asked for
    /// by name.
    pub const ALL: Self = {
        let mut all = Self { list: [Suite::PskAes128Ccm8; COUNT], length: COUNT as u8 };
        all.list.copy_from_slice(Suite::ALL);
        // The last, if it is there.
        if cfg!(all(feature = "cbc", feature = "server")) {
            all.length -= 1;
        }
        all
    };

    /// `None` if the list is empty or has one twice.
    pub fn new(suites: &[Suite]) -> Option<Self> {
        let mut list = [Suite::PskAes128Ccm8; COUNT];
        list.get_mut(..suites.len())?.copy_from_slice(suites);
        let mut rest = suites;
        while let Some((first, behind)) = rest.split_first() {
            if behind.contains(first) {
                return None;
            }
            rest = behind;
        }
        let length = u8::try_from(suites.len()).ok().filter(|length| *length > 0)?;
        Some(Self { list, length })
    }

    /// The suites, the preferred one first.
    pub const fn as_slice(&self) -> &[Suite] {
        // The constant lets the compiler leave out what is not there.
        let length = if COUNT == 1 { 1 } else { self.length as usize };
        match self.list.split_at_checked(length) {
            Some((suites, _)) => suites,
            None => &[],
        }
    }

    /// Whether one of them needs a key agreement.
    #[cfg(feature = "ecdhe")]
    pub(crate) fn has_ecdhe(&self) -> bool {
        self.as_slice().iter().any(|suite| suite.is_ecdhe())
    }

    #[cfg(feature = "cbc")]
    pub(crate) fn has_cbc(&self) -> bool {
        self.as_slice().iter().any(|suite| suite.is_cbc())
    }

    /// Whether `suite` is among them.
    pub fn contains(&self, suite: Suite) -> bool {
        self.as_slice().contains(&suite)
    }
}

impl Default for Suites {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl PartialEq for Suites {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Suites {}

impl core::fmt::Debug for Suites {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(self.as_slice()).finish()
    }
}

/// Says that the client knows RFC 5746, in place of an empty renegotiation_info.
pub(crate) const EMPTY_RENEGOTIATION_INFO_SCSV: u16 = 0x00ff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_suite() {
        for suite in Suite::ALL.iter().copied() {
            assert_eq!(Suite::from_code(suite.code()), Some(suite));
            assert_eq!(Suite::from_name(suite.name()), Some(suite));
        }
        assert_eq!(Suite::from_code(0x00ff), None);
        assert_eq!(Suite::from_name("TLS_NULL_WITH_NULL_NULL"), None);
    }

    #[test]
    fn all_suites_together_are_those_that_a_client_may_offer() {
        assert!(Suite::ALL.iter().all(|suite| Suites::ALL.contains(*suite) == suite.is_for_clients()));
    }

    #[test]
    fn a_list_is_not_empty_and_names_nothing_twice() {
        assert_eq!(Suites::new(&[]), None);
        assert_eq!(Suites::new(&[Suite::default(); 2]), None);
        assert_eq!(Suites::new(&[Suite::default(); 40]), None);
        assert_eq!(Suites::new(&[Suite::default()]), Some(Suites::DEFAULT));
        assert_eq!(Suites::new(Suite::ALL).map(|all| all.as_slice().len()), Some(Suite::ALL.len()));
    }
}
