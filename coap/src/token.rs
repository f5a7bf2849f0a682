//! Tokens (RFC 7252 §5.3.1): what matches a response to its request; 0 to 8 bytes.

use core::fmt;
use core::hash::{Hash, Hasher};

/// A token of 0 to 8 bytes.
#[derive(Clone, Copy, Default, Eq, PartialOrd, Ord)]
pub struct Token {
    length: u8,
    /// What lies behind `length` is zero, so that comparisons may take all of it.
    bytes: [u8; Token::MAX_LENGTH],
}

impl Token {
    /// The longest token, in bytes.
    pub const MAX_LENGTH: usize = 8;

    /// The token of no bytes.
    pub const EMPTY: Token = Token { length: 0, bytes: [0; Self::MAX_LENGTH] };

    /// The token of `bytes`, or `None` past [`Token::MAX_LENGTH`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self::EMPTY;
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        token.length = u8::try_from(bytes.len()).ok()?;
        Some(token)
    }

    /// The shortest token that holds `counter`: different counters make different tokens.
    #[must_use]
    pub fn from_counter(counter: u64) -> Self {
        let bytes = counter.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).and_then(Self::new).unwrap_or(Self::EMPTY)
    }

    /// The bytes as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The length in bytes, 0 to 8.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && u64::from_ne_bytes(self.bytes) == u64::from_ne_bytes(other.bytes)
    }
}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(")?;
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}
