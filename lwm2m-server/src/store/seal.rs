//! Sealing of secrets at rest: XChaCha20-Poly1305 under a key that lives outside the store.
//!
//! Invariants: every seal draws a fresh 24-byte nonce; the associated data binds a secret to its endpoint, role and
//! generation, so that swapping two sealed values is noticed; the key is never written into the store.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::StoreError;
use crate::credentials::{DeviceKey, Kept, Key, OscoreKey, Role};
use crate::profiles::Secrets;

/// Length of a nonce in bytes.
const NONCE: usize = 24;
/// Associated data of the value that shows whether the key is right.
const CHECK: &[u8] = b"lwm2m-server secrets key check";

/// Where the secrets key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `--secrets-key FILE`.
    File(PathBuf),
    /// Environment variable `LWM2M_SECRETS_KEY`, 64 hex digits.
    Environment,
    /// `DIR/secrets.key`, made at first start.
    Beside(PathBuf),
}

impl core::fmt::Display for KeySource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::File(path) | Self::Beside(path) => write!(f, "{}", path.display()),
            Self::Environment => f.write_str("the environment variable LWM2M_SECRETS_KEY"),
        }
    }
}

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    source: String,
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sealer(key from {})", self.source)
    }
}

impl Sealer {
    /// Finds the key: the file given, else the environment, else `secrets.key` in the data folder.
    ///
    /// The last one is made, with mode 0600, when there is no store yet.
    ///
    /// # Errors
    /// When the key cannot be read, has the wrong length, or is missing while a store exists.
    pub fn find(
        data: &Path,
        file: Option<&Path>,
        environment: Option<&str>,
        has_store: bool,
    ) -> Result<(Self, KeySource), StoreError> {
        let source = match (file, environment) {
            (Some(file), _) => KeySource::File(file.to_owned()),
            (None, Some(_)) => KeySource::Environment,
            (None, None) => KeySource::Beside(data.join("secrets.key")),
        };
        let bytes = match (&source, environment) {
            (KeySource::Environment, Some(text)) => Zeroizing::new(text.as_bytes().to_vec()),
            (KeySource::Beside(path), _) if !path.exists() => {
                if has_store {
                    return Err(StoreError::BadKey {
                        source: source.to_string(),
                        what: "the file is missing while the store exists; put it back or name the key by --secrets-key"
                            .to_owned(),
                    });
                }
                make(path)?
            }
            (KeySource::File(path) | KeySource::Beside(path), _) => read(path, &source)?,
            (KeySource::Environment, None) => Zeroizing::new(Vec::new()),
        };
        Ok((Self::new(&bytes, &source.to_string())?, source))
    }

    /// Takes a key of 32 bytes, or of 64 hex digits with white space around them.
    ///
    /// # Errors
    /// [`StoreError::BadKey`] with the length found.
    pub fn new(bytes: &[u8], source: &str) -> Result<Self, StoreError> {
        let bad = |what: String| StoreError::BadKey { source: source.to_owned(), what };
        let mut key = Zeroizing::new([0_u8; 32]);
        if bytes.len() == key.len() {
            key.copy_from_slice(bytes);
        } else {
            let text = core::str::from_utf8(bytes)
                .map_err(|_| bad(format!("{} bytes that are not text", bytes.len())))?
                .trim();
            hex::decode_to_slice(text, key.as_mut_slice())
                .map_err(|_| bad(format!("{} characters that are not 64 hex digits", text.len())))?;
        }
        Ok(Self { cipher: XChaCha20Poly1305::new(key.as_slice().into()), source: source.to_owned() })
    }

    /// Seals what is kept of one credential: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal(
        &self,
        endpoint: &str,
        role: Role,
        generation: u32,
        kept: &Kept,
    ) -> Result<Vec<u8>, StoreError> {
        let kind = match kept {
            Kept::Psk(_) => PSK,
            Kept::Device(_) => DEVICE_KEY,
            Kept::Oscore(_) => OSCORE,
            Kept::Within(..) => WITHIN,
        };
        self.seal_with(&binding(kind, endpoint, role, generation), &kept.to_bytes())
    }

    /// Opens what is kept of one credential; `None` when it was not sealed for this one or under this key.
    #[must_use]
    pub fn open(&self, endpoint: &str, role: Role, generation: u32, sealed: &[u8]) -> Option<Kept> {
        let aad = |kind| binding(kind, endpoint, role, generation);
        if let Some(key) = self.open_with(&aad(PSK), sealed) {
            return Key::new(key).ok().map(Kept::Psk);
        }
        if let Some(key) = self.open_with(&aad(DEVICE_KEY), sealed).map(Zeroizing::new) {
            return DeviceKey::from_bytes(&key).map(Kept::Device);
        }
        if let Some(key) = self.open_with(&aad(OSCORE), sealed).map(Zeroizing::new) {
            return OscoreKey::from_bytes(&key).map(Kept::Oscore);
        }
        let kept = Zeroizing::new(self.open_with(&aad(WITHIN), sealed)?);
        Kept::within_from_bytes(&kept)
    }

    /// Seals the secret variables of the profile of a device.
    pub(super) fn seal_variables(&self, endpoint: &str, secrets: &Secrets) -> Result<Vec<u8>, StoreError> {
        self.seal_with(&[VARIABLES, endpoint.as_bytes()].concat(), &secrets.to_bytes())
    }

    /// Opens them again.
    pub(super) fn open_variables(&self, endpoint: &str, sealed: &[u8]) -> Option<Secrets> {
        let plain = Zeroizing::new(self.open_with(&[VARIABLES, endpoint.as_bytes()].concat(), sealed)?);
        Secrets::from_bytes(&plain)
    }

    /// The value that tells at the next start whether the key is right.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn check_value(&self) -> Result<Vec<u8>, StoreError> {
        self.seal_with(CHECK, b"")
    }

    /// Whether a check value was made with this key.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`] when it was not.
    pub fn check(&self, value: &[u8]) -> Result<(), StoreError> {
        match self.open_with(CHECK, value) {
            Some(_) => Ok(()),
            None => Err(StoreError::WrongKey { source: self.source.clone() }),
        }
    }

    /// Seals 32 bytes of the store's own under their name.
    pub(super) fn seal_named(&self, name: &str, secret: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        self.seal_with(&named(name), secret)
    }

    /// Opens them again.
    pub(super) fn open_named(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let plain = Zeroizing::new(self.open_with(&named(name), sealed)?);
        plain.as_slice().try_into().ok().map(Zeroizing::new)
    }

    /// 32 random bytes.
    pub(super) fn random(&self) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| StoreError::BadKey {
            source: self.source.clone(),
            what: "the operating system gives no randomness".to_owned(),
        })?;
        Ok(bytes)
    }

    pub(super) fn seal_with(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let bad = |what: &str| StoreError::BadKey { source: self.source.clone(), what: what.to_owned() };
        let mut out = vec![0; NONCE];
        getrandom::fill(&mut out).map_err(|_| bad("the operating system gives no randomness"))?;
        let sealed = self
            .cipher
            .encrypt(out.as_slice().into(), Payload { msg: plain, aad })
            .map_err(|_| bad("sealing failed"))?;
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    pub(super) fn open_with(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        self.cipher.decrypt(nonce.into(), Payload { msg: sealed, aad }).ok()
    }
}

fn named(name: &str) -> Vec<u8> {
    [b"lwm2m-server own 1 ".as_slice(), name.as_bytes()].concat()
}

/// What a sealed secret is: which of them it is belongs to the associated data, so that none opens as the other.
const PSK: &[u8] = b"lwm2m-server secret 1 ";
const DEVICE_KEY: &[u8] = b"lwm2m-server secret 2 ";
const OSCORE: &[u8] = b"lwm2m-server secret 3 ";
const WITHIN: &[u8] = b"lwm2m-server secret 4 ";
const VARIABLES: &[u8] = b"lwm2m-server variables 1 ";

/// Associated data: the endpoint comes last, so that no two bindings share an encoding.
fn binding(kind: &[u8], endpoint: &str, role: Role, generation: u32) -> Vec<u8> {
    let mut out = kind.to_vec();
    out.push(match role {
        Role::Bootstrap => 0,
        Role::Management => 1,
    });
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(endpoint.as_bytes());
    out
}

fn read(path: &Path, source: &KeySource) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let what =
        |error: std::io::Error| StoreError::BadKey { source: source.to_string(), what: error.to_string() };
    let length = fs::metadata(path).map_err(what)?.len();
    if length > 4096 {
        return Err(StoreError::BadKey {
            source: source.to_string(),
            what: format!("a file of {length} bytes"),
        });
    }
    Ok(Zeroizing::new(fs::read(path).map_err(what)?))
}

/// Makes a key file that is complete or absent: written beside, synced, then renamed.
fn make(path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let io = |error| StoreError::Io { path: path.to_owned(), error };
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| StoreError::BadKey {
        source: path.display().to_string(),
        what: "the operating system gives no randomness".to_owned(),
    })?;
    let text = Zeroizing::new(hex::encode(key.as_slice()).into_bytes());
    write_private(path, &text).map_err(io)?;
    Ok(text)
}

/// Writes a file that only its owner may read, atomically and durably.
///
/// # Errors
/// What the operating system said.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_private(path, |file| {
        file.write_all(bytes)?;
        file.write_all(b"\n")
    })
}

/// The same with what `write` writes.
pub(super) fn replace_private(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let beside = beside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(0o600))
        .and_then(|()| write(&mut file))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // A disk that is full should not stay so because of this.
        let _ = fs::remove_file(&beside);
    }
    written.and_then(|()| sync_folder(path))
}

/// Where a file is written until it is whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Makes durable what happened to the name of a file.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::credentials::{Presented, PrivateKey};

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&[byte; 32], "test").unwrap()
    }

    fn psk() -> Kept {
        Kept::Psk(Key::new(vec![7; 16]).unwrap())
    }

    #[test]
    fn a_secret_opens_only_for_its_endpoint_role_and_generation() {
        let private = PrivateKey::generate().unwrap();
        let device = DeviceKey::new(Presented::RawPublicKey(private.public_key()), Some(private)).unwrap();
        let context = OscoreKey::generate(&[1]).unwrap().unwrap();
        let within = Kept::Within(Some(Box::new(psk())), context.clone());
        for kept in [psk(), Kept::Device(device), Kept::Oscore(context), within] {
            let sealed = sealer(1).seal("a", Role::Management, 2, &kept).unwrap();
            assert_eq!(sealer(1).open("a", Role::Management, 2, &sealed), Some(kept));
            assert_eq!(sealer(1).open("b", Role::Management, 2, &sealed), None);
            assert_eq!(sealer(1).open("a", Role::Bootstrap, 2, &sealed), None);
            assert_eq!(sealer(1).open("a", Role::Management, 3, &sealed), None);
            assert_eq!(sealer(2).open("a", Role::Management, 2, &sealed), None);
        }
    }

    #[test]
    fn a_key_that_was_sealed_before_there_were_others_opens() {
        // The encoding of 0.1.0: the bytes of the key, and this associated data.
        let aad = [&b"lwm2m-server secret 1 "[..], &[1], &2_u32.to_be_bytes(), b"a"].concat();
        let sealed = sealer(1).seal_with(&aad, &[7; 16]).unwrap();
        assert_eq!(sealer(1).open("a", Role::Management, 2, &sealed), Some(psk()));
    }

    #[test]
    fn secret_variables_open_only_for_their_endpoint_and_as_nothing_else() {
        let mut secrets = Secrets::default();
        secrets.insert("key".to_owned(), Key::new(vec![7; 16]).unwrap());
        let sealed = sealer(1).seal_variables("a", &secrets).unwrap();
        assert_eq!(sealer(1).open_variables("a", &sealed), Some(secrets));
        assert_eq!(sealer(1).open_variables("b", &sealed), None);
        assert_eq!(sealer(2).open_variables("a", &sealed), None);
        assert_eq!(sealer(1).open("a", Role::Management, 1, &sealed), None);
        let key = sealer(1).seal("a", Role::Management, 1, &psk()).unwrap();
        assert_eq!(sealer(1).open_variables("a", &key), None);
    }

    #[test]
    fn a_truncated_secret_does_not_open() {
        let sealed = sealer(1).seal("a", Role::Management, 1, &psk()).unwrap();
        for length in 0..sealed.len() {
            assert_eq!(sealer(1).open("a", Role::Management, 1, sealed.get(..length).unwrap()), None);
        }
    }

    #[test]
    fn keys_come_as_bytes_or_as_hex_digits() {
        assert!(Sealer::new(&[0; 32], "test").is_ok());
        assert!(Sealer::new(format!("{}\n", "0f".repeat(32)).as_bytes(), "test").is_ok());
        let error = Sealer::new(b"0f0f", "key.txt").unwrap_err().to_string();
        assert!(error.contains("key.txt") && error.contains("4 characters"), "{error}");
    }

    #[test]
    fn the_key_beside_the_store_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let (first, source) = Sealer::find(folder.path(), None, None, false).unwrap();
        let path = folder.path().join("secrets.key");
        assert_eq!(source, KeySource::Beside(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (second, _) = Sealer::find(folder.path(), None, None, true).unwrap();
        second.check(&first.check_value().unwrap()).unwrap();
    }

    #[test]
    fn a_missing_key_is_not_replaced_while_a_store_exists() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Sealer::find(folder.path(), None, None, true), Err(StoreError::BadKey { .. })));
        assert!(!folder.path().join("secrets.key").exists());
    }
}
