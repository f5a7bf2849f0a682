//! The cipher suites this engine speaks, in order of preference (RFC 6655 §4; invariant: a suite is chosen only from what
//! the client offered, and accepted only from what we offered).

/// A cipher suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Suite {
    /// TLS_PSK_WITH_AES_128_CCM_8: eight bytes of explicit nonce, eight of tag.
    #[default]
    PskAes128Ccm8,
}

impl Suite {
    /// All suites, the preferred one first.
    pub(crate) const ALL: [Self; 1] = [Self::PskAes128Ccm8];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::PskAes128Ccm8 => 0xc0a8,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }
}

/// Says that the client knows RFC 5746, in place of an empty renegotiation_info.
pub(crate) const EMPTY_RENEGOTIATION_INFO_SCSV: u16 = 0x00ff;
