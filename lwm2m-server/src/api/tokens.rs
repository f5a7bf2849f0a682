//! Bearer tokens (RFC 6750): 32 random bytes, of which only the SHA-256 is kept.
//!
//! Invariants: every token is compared, in constant time, so that timing shows nothing about any of them; a token is
//! written to a file with mode 0600 once and appears nowhere else.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError, TokenRecord, write_private};

/// The tokens that open the interface.
pub struct Tokens {
    known: Vec<([u8; 32], TokenRecord)>,
    /// Set when the first administrator token was made just now.
    made: bool,
}

impl core::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tokens({})", self.known.len())
    }
}

impl Tokens {
    /// Reads the tokens, and makes the first one, in `DIR/admin.token`, when there is none.
    ///
    /// # Errors
    /// When the store or the file cannot be read or written.
    pub fn open(store: &dyn Store, data: &Path, now_ms: u64) -> Result<Self, StoreError> {
        let known = store.tokens()?;
        if !known.is_empty() {
            return Ok(Self { known, made: false });
        }
        let path = data.join("admin.token");
        let io = |error| StoreError::Io { path: path.clone(), error };
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| io(std::io::Error::other(error.to_string())))?;
        let text = Zeroizing::new(hex::encode(bytes.as_slice()));
        // The file first: a crash in between leaves a token that opens nothing, and the next start makes another.
        write_private(&path, text.as_bytes()).map_err(io)?;
        let record =
            TokenRecord { name: "admin".to_owned(), role: "administrator".to_owned(), created_ms: now_ms };
        let hash = digest(&text);
        store.put_token(&hash, &record)?;
        Ok(Self { known: vec![(hash, record)], made: true })
    }

    /// Whether the first administrator token was made by this start.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.made
    }

    /// The name of the token in an `Authorization` header, if it is one of ours.
    #[must_use]
    pub fn check(&self, header: &str) -> Option<&str> {
        let (scheme, token) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let hash = digest(token.trim());
        let mut found = None;
        for (known, record) in &self.known {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(record.name.as_str());
            }
        }
        found
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::store::{RedbStore, Sealer};

    #[test]
    fn the_first_token_is_written_once_and_opens_the_interface() {
        let folder = tempfile::tempdir().unwrap();
        let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
        let first = Tokens::open(&store, folder.path(), 1).unwrap();
        assert!(first.is_first_start());
        let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
        let header = format!("Bearer {}", token.trim());
        assert_eq!(first.check(&header), Some("admin"));
        let second = Tokens::open(&store, folder.path(), 2).unwrap();
        assert!(!second.is_first_start());
        assert_eq!(second.check(&header), Some("admin"));
        assert_eq!(second.check("Bearer 00"), None);
        assert_eq!(second.check(token.trim()), None);
        assert_eq!(second.check(&format!("Basic {}", token.trim())), None);
    }
}
