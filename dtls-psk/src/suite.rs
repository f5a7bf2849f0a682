//! The cipher suites this engine speaks, and lists of them (RFC 6655 §4, RFC 5487 §3, RFC 8442 §3, RFC 5489 §3, RFC 7251 §2,
//! RFC 5289 §3; invariant: a suite is chosen only from what the client offered, and accepted only from what we offered).

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
    /// TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256: as the first, with a key agreement besides, so that who learns the
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
    /// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, which LwM2M demands for raw public keys and certificates.
    #[cfg(feature = "rpk")]
    EcdheEcdsaAes128Ccm8,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_CCM: the same with a tag of 16 bytes.
    #[cfg(all(feature = "rpk", feature = "ccm16"))]
    EcdheEcdsaAes128Ccm,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
    #[cfg(all(feature = "rpk", feature = "gcm"))]
    EcdheEcdsaAes128Gcm,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: only for servers, whose clients may know LwM2M 1.0 alone. No client offers it.
    #[cfg(all(feature = "rpk", feature = "cbc", feature = "server"))]
    EcdheEcdsaAes128CbcSha256,
}

/// How two sides come to a secret, and what proves them to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyExchange {
    /// A pre-shared key.
    Psk,
    /// A pre-shared key and a key agreement.
    #[cfg(feature = "ecdhe")]
    EcdhePsk,
    /// A key agreement, signed by both sides.
    #[cfg(feature = "rpk")]
    EcdheEcdsa,
}

/// What makes up a suite.
struct Properties {
    code: u16,
    name: &'static str,
    key_exchange: KeyExchange,
    protection: Protection,
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
        #[cfg(feature = "rpk")]
        Self::EcdheEcdsaAes128Ccm8,
        #[cfg(all(feature = "rpk", feature = "ccm16"))]
        Self::EcdheEcdsaAes128Ccm,
        #[cfg(all(feature = "rpk", feature = "gcm"))]
        Self::EcdheEcdsaAes128Gcm,
        #[cfg(all(feature = "cbc", feature = "server"))]
        Self::PskAes128CbcSha256,
        #[cfg(all(feature = "rpk", feature = "cbc", feature = "server"))]
        Self::EcdheEcdsaAes128CbcSha256,
    ];

    const fn properties(self) -> Properties {
        #[cfg(feature = "ecdhe")]
        use KeyExchange::EcdhePsk;
        use KeyExchange::Psk;
        const fn of(code: u16, name: &'static str, key_exchange: KeyExchange, aead: Aead) -> Properties {
            Properties { code, name, key_exchange, protection: Protection::Aead(aead) }
        }
        #[cfg(feature = "cbc")]
        const fn cbc(code: u16, name: &'static str, key_exchange: KeyExchange) -> Properties {
            Properties { code, name, key_exchange, protection: Protection::Cbc }
        }
        match self {
            Self::PskAes128Ccm8 => of(0xc0a8, "TLS_PSK_WITH_AES_128_CCM_8", Psk, Aead::Ccm8),
            #[cfg(feature = "ccm16")]
            Self::PskAes128Ccm => of(0xc0a4, "TLS_PSK_WITH_AES_128_CCM", Psk, Aead::Ccm),
            #[cfg(feature = "gcm")]
            Self::PskAes128Gcm => of(0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256", Psk, Aead::Gcm),
            #[cfg(feature = "ecdhe")]
            Self::EcdhePskAes128Ccm8 => {
                of(0xd003, "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256", EcdhePsk, Aead::Ccm8)
            }
            #[cfg(all(feature = "ecdhe", feature = "ccm16"))]
            Self::EcdhePskAes128Ccm => {
                of(0xd005, "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256", EcdhePsk, Aead::Ccm)
            }
            #[cfg(feature = "cbc")]
            Self::EcdhePskAes128CbcSha256 => cbc(0xc037, "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", EcdhePsk),
            #[cfg(all(feature = "cbc", feature = "server"))]
            Self::PskAes128CbcSha256 => cbc(0x00ae, "TLS_PSK_WITH_AES_128_CBC_SHA256", Psk),
            #[cfg(feature = "rpk")]
            Self::EcdheEcdsaAes128Ccm8 => {
                of(0xc0ae, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", KeyExchange::EcdheEcdsa, Aead::Ccm8)
            }
            #[cfg(all(feature = "rpk", feature = "ccm16"))]
            Self::EcdheEcdsaAes128Ccm => {
                of(0xc0ac, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", KeyExchange::EcdheEcdsa, Aead::Ccm)
            }
            #[cfg(all(feature = "rpk", feature = "gcm"))]
            Self::EcdheEcdsaAes128Gcm => {
                of(0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", KeyExchange::EcdheEcdsa, Aead::Gcm)
            }
            #[cfg(all(feature = "rpk", feature = "cbc", feature = "server"))]
            Self::EcdheEcdsaAes128CbcSha256 => {
                cbc(0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", KeyExchange::EcdheEcdsa)
            }
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self.properties().code
    }

    /// The name in the register of cipher suites.
    pub const fn name(self) -> &'static str {
        self.properties().name
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
            #[cfg(all(feature = "rpk", feature = "cbc", feature = "server"))]
            Self::EcdheEcdsaAes128CbcSha256 => false,
            _ => true,
        }
    }

    pub(crate) const fn protection(self) -> Protection {
        self.properties().protection
    }

    #[cfg(feature = "cbc")]
    pub(crate) const fn is_cbc(self) -> bool {
        matches!(self.protection(), Protection::Cbc)
    }

    /// Whether the two sides agree on a secret, with or without a pre-shared key.
    pub(crate) const fn is_ecdhe(self) -> bool {
        !matches!(self.properties().key_exchange, KeyExchange::Psk)
    }

    /// Whether both sides prove themselves by a signature, and need no pre-shared key.
    pub const fn is_ecdsa(self) -> bool {
        #[cfg(feature = "rpk")]
        return matches!(self.properties().key_exchange, KeyExchange::EcdheEcdsa);
        #[cfg(not(feature = "rpk"))]
        false
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
        // The others are the last.
        while let Some((last, _)) = all.as_slice().split_last()
            && !last.is_for_clients()
        {
            all.length -= 1;
        }
        all
    };

    /// Those of pre-shared keys among [`Suites::ALL`].
    pub const PSK: Self = {
        let mut psk = Self::ALL;
        while let Some((last, _)) = psk.as_slice().split_last()
            && last.is_ecdsa()
        {
            psk.length -= 1;
        }
        psk
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

    /// Those of them of which `is_wanted` says so; `None` if that are none.
    pub fn only(&self, is_wanted: impl Fn(Suite) -> bool) -> Option<Self> {
        let mut only = Self { length: 0, ..*self };
        for suite in self.as_slice().iter().copied().filter(|suite| is_wanted(*suite)) {
            *only.list.get_mut(usize::from(only.length))? = suite;
            only.length = only.length.saturating_add(1);
        }
        (only.length > 0).then_some(only)
    }

    /// Whether one of them needs a key agreement.
    #[cfg(feature = "ecdhe")]
    pub(crate) fn has_ecdhe(&self) -> bool {
        self.as_slice().iter().any(|suite| suite.is_ecdhe())
    }

    /// Whether one of them needs certificates.
    #[cfg(feature = "rpk")]
    pub(crate) fn has_ecdsa(&self) -> bool {
        self.as_slice().iter().any(|suite| suite.is_ecdsa())
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
