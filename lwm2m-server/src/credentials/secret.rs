//! Keys and identities in memory (transport security: PSK identities up to 128 bytes, keys up to 64 bytes).
//!
//! Invariant: key bytes are wiped when dropped and never appear in `Debug`, `Display` or serialised records.

use core::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest PSK identity in bytes.
pub const MAX_IDENTITY: usize = 128;
/// Shortest pre-shared key in bytes that is accepted.
pub const MIN_KEY: usize = 16;
/// Longest pre-shared key in bytes.
pub const MAX_KEY: usize = 64;

/// A pre-shared key of 16 to 64 bytes, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Takes over key bytes of a length that is allowed.
    ///
    /// # Errors
    /// The decoded length when it is below 16 or above 64 bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, usize> {
        let bytes = Zeroizing::new(bytes);
        if (MIN_KEY..=MAX_KEY).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(bytes.len()) }
    }

    /// Draws 16 bytes from the operating system.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0; 16]);
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The key itself: for a handshake, or for the one answer that shows it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(masked)")
    }
}

/// A PSK identity of 1 to 128 bytes; often, but not always, UTF-8 text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Identity(Box<[u8]>);

impl Identity {
    /// Takes over identity bytes of a length that is allowed.
    ///
    /// # Errors
    /// The length when it is 0 or above 128 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, usize> {
        if bytes.is_empty() || bytes.len() > MAX_IDENTITY { Err(bytes.len()) } else { Ok(Self(bytes.into())) }
    }

    /// Draws a new identity that no one else has: 8 random bytes as 16 hex digits.
    ///
    /// It names neither device nor server: an identity crosses the network in clear.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes).into_bytes().into()))
    }

    /// The identity as it crosses the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Text when the identity is printable, else `0x` and hex digits.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "0x{}", hex::encode(&self.0)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// Records keep the bytes as hex digits, whatever they are.
impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        hex::encode(&identity.0)
    }
}

impl TryFrom<String> for Identity {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = hex::decode(&text).map_err(|_| "an identity that is not hex digits")?;
        Self::new(&bytes).map_err(|_| "an identity of 0 or more than 128 bytes")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_shows_in_debug() {
        let key = Key::new(vec![0xab; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "Key(masked)");
    }

    #[test]
    fn short_and_long_keys_report_their_length() {
        assert_eq!(Key::new(vec![0; 15]).unwrap_err(), 15);
        assert_eq!(Key::new(vec![0; 65]).unwrap_err(), 65);
    }

    #[test]
    fn a_binary_identity_survives_its_record() {
        let identity = Identity::new(&[0, 255, 7]).unwrap();
        assert_eq!(identity.to_string(), "0x00ff07");
        let record = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&record).unwrap(), identity);
    }
}
