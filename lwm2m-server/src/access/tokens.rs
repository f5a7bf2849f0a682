//! Bearer tokens (RFC 6750): 32 random bytes, of which only the SHA-256 is kept.
//!
//! Invariants: every token is compared, in constant time, so that timing shows nothing about any of them; a token is shown once,
//! the first one in a file with mode 0600, each other one in the answer to who made it; a change is in the store with its audit row
//! before it counts; there is always an administrator for all devices that does not expire.

use core::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Scope, TokenRole};
use crate::api::now_ms;
use crate::store::{Store, StoreError, TokenRecord, write_private};

/// The most tokens: each request is compared with all of them.
const MOST: usize = 1000;
/// Longest name of a token in bytes.
const LONGEST_NAME: usize = 64;
/// How often the clock is asked whether a token has expired that holds a stream open: it may have been set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// A token that opens the interface.
pub(crate) struct Token {
    hash: [u8; 32],
    pub(crate) record: TokenRecord,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.record.name)
    }
}

impl Token {
    /// Who acts with it, as the audit log has it.
    pub(crate) fn actor(&self) -> String {
        format!("token:{}", self.record.name)
    }

    /// Whether the interface would be closed for good without one of its kind.
    fn is_lasting_administrator(&self) -> bool {
        let TokenRecord { role, scope, expires_ms, .. } = &self.record;
        *role == TokenRole::Administrator && scope.is_all() && expires_ms.is_none()
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It has no bearer token.
    Missing,
    /// It has one that is none of ours.
    Unknown,
    /// It was one of ours until then, in milliseconds since 1970.
    Expired(u64),
}

/// A token that is to be made.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) role: TokenRole,
    pub(crate) scope: Scope,
    pub(crate) expires_ms: Option<u64>,
}

/// Why a token is not made or not revoked.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The name is no name of a token.
    Name,
    /// The expiry has passed.
    Past,
    /// There is one of that name.
    Taken(String),
    /// There are as many as there may be.
    Full,
    /// It would have devices that the one that asks has not.
    Wider(Scope),
    /// It would outlive the one that asks.
    Longer(u64),
    /// There is none of that name, or it has other devices than the one that asks.
    Unknown(String),
    /// The interface would be closed for good.
    Last,
    /// The one that asks was revoked or has expired meanwhile.
    Gone,
    /// The system gives no randomness.
    NoRandomness,
    /// What the store said.
    Store(StoreError),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "name: 1 to {LONGEST_NAME} printable characters of ASCII"),
            Self::Past => f.write_str("expires_ms: milliseconds since 1970, after now"),
            Self::Taken(name) => {
                write!(f, "there is a token '{name}': revoke it first, or choose another name")
            }
            Self::Full => write!(f, "there are {MOST} tokens: revoke those that have expired"),
            Self::Wider(scope) => {
                write!(f, "scope: a token is made for devices that the own one is good for: {scope}")
            }
            Self::Longer(at) => {
                write!(f, "expires_ms: a token does not outlive the one that makes it: {at} at most")
            }
            Self::Unknown(name) => write!(f, "there is no token '{name}'"),
            Self::Last => f.write_str(
                "it is the last administrator for all devices that does not expire: make another one first",
            ),
            Self::Gone => f.write_str("the token was revoked or has expired meanwhile"),
            Self::NoRandomness => f.write_str("the system gives no randomness"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

/// The tokens that open the interface.
pub struct Tokens {
    store: Arc<dyn Store>,
    /// Replaced as a whole, so that who looks one up waits for no write to the store.
    known: watch::Sender<Arc<[Arc<Token>]>>,
    /// Held from looking at what is known to showing what has changed.
    turn: Mutex<()>,
    is_first_start: bool,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.known.borrow().len())
    }
}

impl Tokens {
    /// Reads the tokens, and makes the first one, an administrator, in `DIR/admin.token`, when there is none.
    ///
    /// # Errors
    /// When the store or the file cannot be read or written, or a token has a role that this server does not know.
    pub fn open(store: Arc<dyn Store>, data: &Path, now_ms: u64) -> Result<Self, StoreError> {
        let mut known: Vec<Arc<Token>> = Vec::new();
        for (hash, record) in store.tokens()? {
            known.push(Arc::new(Token { hash, record }));
        }
        let is_first_start = known.is_empty();
        if is_first_start {
            let path = data.join("admin.token");
            let io = |error| StoreError::Io { path: path.clone(), error };
            let text = random().map_err(|error| io(std::io::Error::other(error.to_string())))?;
            // The file first: a crash in between leaves a token that opens nothing, and the next start makes another.
            write_private(&path, text.as_bytes()).map_err(io)?;
            let record = TokenRecord {
                name: "admin".to_owned(),
                role: TokenRole::Administrator,
                scope: Scope::default(),
                expires_ms: None,
                created_ms: now_ms,
                made_by: "server".to_owned(),
            };
            let token = Token { hash: digest(&text), record };
            store.put_token(&token.hash, &token.record)?;
            known.push(Arc::new(token));
        }
        Ok(Self { store, known: watch::Sender::new(known.into()), turn: Mutex::new(()), is_first_start })
    }

    /// Whether the first administrator token was made by this start.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.is_first_start
    }

    /// The token in an `Authorization` header.
    pub(crate) fn check(&self, header: Option<&str>, now_ms: u64) -> Result<Arc<Token>, Denied> {
        let (scheme, token) = header.and_then(|value| value.split_once(' ')).ok_or(Denied::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Missing);
        }
        let hash = digest(token.trim());
        let known = Arc::clone(&self.known.borrow());
        let mut found = None;
        for token in &*known {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Denied::Unknown)?;
        match token.record.expires_ms.filter(|at| *at <= now_ms) {
            Some(at) => Err(Denied::Expired(at)),
            None => Ok(Arc::clone(token)),
        }
    }

    /// Whether a token that was good is so still.
    pub(crate) fn is_still_good(&self, token: &Arc<Token>, now_ms: u64) -> Result<(), Denied> {
        match token.record.expires_ms {
            Some(at) if at <= now_ms => Err(Denied::Expired(at)),
            _ => self.known_to(token, now_ms).map(drop).map_err(|_| Denied::Unknown),
        }
    }

    /// Completes when a token is good no more.
    pub(crate) fn ended(&self, token: Arc<Token>) -> impl Future<Output = ()> + Send + use<> {
        let mut known = self.known.subscribe();
        async move {
            let expired = async {
                match token.record.expires_ms {
                    None => core::future::pending().await,
                    Some(at) => {
                        while let left @ 1.. = at.saturating_sub(now_ms()) {
                            tokio::time::sleep(LOOK.min(Duration::from_millis(left))).await;
                        }
                    }
                }
            };
            tokio::select! {
                // It ends with the tokens themselves as well.
                _ = known.wait_for(|known| !is_among(known, &token)) => {}
                () = expired => {}
            }
        }
    }

    /// Those whose devices `holder` has too, by name.
    pub(crate) fn list(&self, holder: &Token) -> Vec<Arc<Token>> {
        let known = Arc::clone(&self.known.borrow());
        let is_shown = |token: &&Arc<Token>| holder.record.scope.covers(&token.record.scope);
        let mut shown: Vec<Arc<Token>> = known.iter().filter(is_shown).cloned().collect();
        shown.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        shown
    }

    /// Makes a token for `holder`, an administrator, and returns its text, which nobody is told again. Waits for the store.
    pub(crate) fn make(
        &self,
        holder: &Arc<Token>,
        wanted: Wanted,
        now_ms: u64,
    ) -> Result<(Zeroizing<String>, Arc<Token>), TokenError> {
        let Wanted { name, role, scope, expires_ms } = wanted;
        let is_printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_printable || name.trim() != name || !(1..=LONGEST_NAME).contains(&name.len()) {
            return Err(TokenError::Name);
        }
        if expires_ms.is_some_and(|at| at <= now_ms) {
            return Err(TokenError::Past);
        }
        let own = &holder.record;
        if !own.scope.covers(&scope) {
            return Err(TokenError::Wider(own.scope.clone()));
        }
        if let Some(last) = own.expires_ms
            && expires_ms.is_none_or(|at| at > last)
        {
            return Err(TokenError::Longer(last));
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known_to(holder, now_ms)?;
        if known.iter().any(|token| token.record.name == name) {
            return Err(TokenError::Taken(name));
        }
        if known.len() >= MOST {
            return Err(TokenError::Full);
        }
        let text = random().map_err(|_| TokenError::NoRandomness)?;
        let record =
            TokenRecord { name, role, scope, expires_ms, created_ms: now_ms, made_by: holder.actor() };
        let token = Arc::new(Token { hash: digest(&text), record });
        self.store.put_token(&token.hash, &token.record)?;
        self.known.send_replace(known.iter().chain([&token]).cloned().collect());
        Ok((text, token))
    }

    /// Revokes a token for `holder`, an administrator; from then on it opens nothing. Waits for the store.
    pub(crate) fn revoke(&self, holder: &Arc<Token>, name: &str, now_ms: u64) -> Result<(), TokenError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known_to(holder, now_ms)?;
        let is_meant = |token: &&Arc<Token>| {
            token.record.name == name && holder.record.scope.covers(&token.record.scope)
        };
        let Some(token) = known.iter().find(is_meant) else {
            return Err(TokenError::Unknown(name.to_owned()));
        };
        let is_other = |other: &&Arc<Token>| !Arc::ptr_eq(other, token);
        if token.is_lasting_administrator()
            && !known.iter().filter(is_other).any(|other| other.is_lasting_administrator())
        {
            return Err(TokenError::Last);
        }
        self.store.remove_token(&token.hash, &holder.actor(), now_ms)?;
        self.known.send_replace(known.iter().filter(is_other).cloned().collect());
        Ok(())
    }

    /// What is known, to one that is known still: what is revoked leaves no other behind.
    fn known_to(&self, holder: &Arc<Token>, now_ms: u64) -> Result<Arc<[Arc<Token>]>, TokenError> {
        let known = Arc::clone(&self.known.borrow());
        let is_good = is_among(&known, holder) && holder.record.expires_ms.is_none_or(|at| at > now_ms);
        is_good.then_some(known).ok_or(TokenError::Gone)
    }
}

fn is_among(known: &[Arc<Token>], token: &Arc<Token>) -> bool {
    known.iter().any(|each| Arc::ptr_eq(each, token))
}

/// 32 random bytes as hex digits.
fn random() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(hex::encode(bytes.as_slice())))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::store::{RedbStore, Sealer};

    fn store() -> Arc<RedbStore> {
        Arc::new(RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap())
    }

    fn opened(store: &Arc<RedbStore>) -> (Tokens, Arc<Token>) {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(Arc::clone(store) as Arc<dyn Store>, folder.path(), 1).unwrap();
        let text = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
        let admin = tokens.check(Some(&format!("Bearer {text}")), 1).unwrap();
        (tokens, admin)
    }

    fn wanted(name: &str, role: TokenRole, scope: Option<&str>, expires_ms: Option<u64>) -> Wanted {
        let scope = Scope::try_from(scope.map(|pattern| vec![pattern.to_owned()])).unwrap();
        Wanted { name: name.to_owned(), role, scope, expires_ms }
    }

    #[test]
    fn the_first_token_is_written_once_and_opens_the_interface() {
        let folder = tempfile::tempdir().unwrap();
        let store = store();
        let open =
            |now_ms| Tokens::open(Arc::clone(&store) as Arc<dyn Store>, folder.path(), now_ms).unwrap();
        let first = open(1);
        assert!(first.is_first_start());
        let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
        let header = format!("Bearer {}", token.trim());
        assert_eq!(first.check(Some(&header), 1).unwrap().record.name, "admin");
        let second = open(2);
        assert!(!second.is_first_start());
        assert_eq!(second.check(Some(&header), 2).unwrap().actor(), "token:admin");
        for (header, why) in [
            (Some("Bearer 00".to_owned()), Denied::Unknown),
            (Some(token.trim().to_owned()), Denied::Missing),
            (Some(format!("Basic {}", token.trim())), Denied::Missing),
            (None, Denied::Missing),
        ] {
            assert_eq!(second.check(header.as_deref(), 2).unwrap_err(), why);
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked_and_after_a_restart() {
        let store = store();
        let (tokens, admin) = opened(&store);
        let (text, _) = tokens.make(&admin, wanted("a", TokenRole::Viewer, None, Some(10)), 5).unwrap();
        let header = format!("bearer {}", *text);
        assert!(tokens.check(Some(&header), 9).is_ok());
        assert_eq!(tokens.check(Some(&header), 10).unwrap_err(), Denied::Expired(10));
        let again = Tokens::open(Arc::clone(&store) as Arc<dyn Store>, Path::new("/nonexistent"), 6).unwrap();
        assert_eq!(again.check(Some(&header), 9).unwrap().record.made_by, "token:admin");
        tokens.revoke(&admin, "a", 6).unwrap();
        assert_eq!(tokens.check(Some(&header), 9).unwrap_err(), Denied::Unknown);
        let rows = store.audit(None, None, 10).unwrap();
        let told: Vec<String> =
            rows.iter().map(|row| format!("{} {}: {}", row.actor, row.what, row.detail)).collect();
        assert_eq!(
            told,
            [
                "server token made: admin (administrator)",
                "token:admin token made: a (viewer), expires 1970-01-01T00:00:00Z",
                "token:admin token revoked: a (viewer)",
            ]
        );
    }

    #[test]
    fn nobody_makes_a_token_of_more_devices_or_longer_life_than_the_own_one() {
        let (tokens, admin) = opened(&store());
        let role = TokenRole::Administrator;
        let make = |holder: &Arc<Token>, name, scope, expires| {
            tokens.make(holder, wanted(name, role, scope, expires), 1).map(|(_, token)| token)
        };
        let narrow = make(&admin, "narrow", Some("meter-*"), Some(9)).unwrap();
        assert!(make(&narrow, "narrower", Some("meter-1*"), Some(9)).is_ok());
        assert!(matches!(make(&narrow, "b", None, Some(9)), Err(TokenError::Wider(_))));
        assert!(matches!(make(&narrow, "b", Some("*"), Some(9)), Err(TokenError::Wider(_))));
        assert!(matches!(make(&narrow, "b", Some("meter-1"), None), Err(TokenError::Longer(9))));
        assert!(matches!(make(&narrow, "b", Some("meter-1"), Some(10)), Err(TokenError::Longer(9))));
        // Nor sees or revokes one.
        let names: Vec<String> = tokens.list(&narrow).iter().map(|token| token.record.name.clone()).collect();
        assert_eq!(names, ["narrow", "narrower"]);
        assert!(matches!(tokens.revoke(&narrow, "admin", 1), Err(TokenError::Unknown(_))));
        // What was revoked leaves no other behind.
        tokens.revoke(&admin, "narrow", 1).unwrap();
        assert!(matches!(make(&narrow, "b", Some("meter-1"), Some(9)), Err(TokenError::Gone)));
    }

    #[test]
    fn the_last_lasting_administrator_stays() {
        let (tokens, admin) = opened(&store());
        for (name, scope, expires) in [("scoped", Some("a"), None), ("passing", None, Some(9))] {
            tokens.make(&admin, wanted(name, TokenRole::Administrator, scope, expires), 1).unwrap();
        }
        assert!(matches!(tokens.revoke(&admin, "admin", 1), Err(TokenError::Last)));
        tokens.make(&admin, wanted("other", TokenRole::Administrator, None, None), 1).unwrap();
        tokens.revoke(&admin, "admin", 1).unwrap();
        assert!(matches!(tokens.revoke(&admin, "other", 1), Err(TokenError::Gone)));
    }

    #[test]
    fn a_name_is_printable_and_stands_once() {
        let (tokens, admin) = opened(&store());
        let make = |name: &str| tokens.make(&admin, wanted(name, TokenRole::Viewer, None, None), 1);
        for bad in ["", " a", "a\n", "ü", &"a".repeat(65)] {
            assert!(matches!(make(bad), Err(TokenError::Name)), "{bad:?}");
        }
        make(&"a".repeat(64)).unwrap();
        make("b c").unwrap();
        assert!(matches!(make("b c"), Err(TokenError::Taken(_))));
        let past = wanted("d", TokenRole::Viewer, None, Some(1));
        assert!(matches!(tokens.make(&admin, past, 1), Err(TokenError::Past)));
    }

    #[tokio::test]
    async fn whoever_holds_a_stream_open_is_told_when_the_token_ends() {
        let (tokens, admin) = opened(&store());
        let now = now_ms();
        let expires = Some(now.saturating_add(20));
        let (_, passing) = tokens.make(&admin, wanted("a", TokenRole::Viewer, None, expires), now).unwrap();
        tokens.ended(passing).await;
        let (_, revoked) = tokens.make(&admin, wanted("b", TokenRole::Viewer, None, None), now).unwrap();
        let ended = tokio::spawn(tokens.ended(revoked));
        let admins = tokio::spawn(tokens.ended(Arc::clone(&admin)));
        tokens.revoke(&admin, "b", now).unwrap();
        ended.await.unwrap();
        assert!(!admins.is_finished());
    }
}
