//! Keys and certificates from files, as PEM (RFC 7468) or DER (RFC 5958, RFC 5915, RFC 5280; invariant: what
//! cannot be used is refused when the server starts, and not in a handshake).

use core::fmt;
use std::path::{Path, PathBuf};

#[cfg(feature = "pkcs11")]
use dtls_psk::TokenError;
use p256::SecretKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::config::KeyConfig;
use crate::credentials::{Certificate, certificates as certificates_in};
use crate::store::write_private;

use super::{ServerKey, ServerKeys};

/// How many bytes the certificates of one key may have: with the rest of the flight they have to fit into the memory of a
/// handshake.
const CHAIN_BYTES_MAX: usize = 3584;

/// Why a file is none of a key or a certificate.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// It cannot be read, or written.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// There is no private key in it.
    NoPrivateKey(PathBuf),
    /// The private key in it is encrypted, or not one of P-256.
    UnsupportedKey(PathBuf),
    /// There is no certificate in it, or one that cannot be read.
    NoCertificate(PathBuf),
    /// The first certificate is not that of the key.
    OtherKey {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        private_key: PathBuf,
    },
    /// Its certificates together are longer than a handshake has room for.
    TooLong {
        /// The file with them.
        certificate: PathBuf,
        /// How many bytes they have in DER.
        length: usize,
    },
    /// Devices would not trust it by the anchor that they were told to expect.
    NotBelow {
        /// The file with the anchor.
        anchor: PathBuf,
        /// Why not.
        refusal: dtls_psk::Refusal,
    },
    /// An anchor is named for a key without a certificate.
    AnchorAlone(PathBuf),
    /// The key that was made at the first start is gone, and devices were told to expect it.
    Lost(PathBuf),
    /// The operating system gives no randomness for a new key.
    NoRandomness,
    /// The key in a token cannot be used.
    #[cfg(feature = "pkcs11")]
    Token(TokenError),
    /// It is one in a token, and this build has no feature `pkcs11`.
    #[cfg(not(feature = "pkcs11"))]
    NoTokens,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{}: {error}", path.display()),
            Self::NoPrivateKey(path) => {
                write!(f, "{}: no private key: PKCS#8 or SEC 1, as PEM or DER, is wanted", path.display())
            }
            Self::UnsupportedKey(path) => {
                write!(f, "{}: the private key is encrypted or not one of P-256 (secp256r1)", path.display())
            }
            Self::NoCertificate(path) => write!(f, "{}: no certificate, as PEM or DER", path.display()),
            Self::OtherKey { certificate, private_key } => {
                // What follows in the URI of a token may be its PIN.
                let key = private_key.to_string_lossy();
                let key = key.split('?').next().unwrap_or_default();
                write!(f, "{}: the first certificate is not that of the key in {key}", certificate.display())
            }
            Self::TooLong { certificate, length } => write!(
                f,
                "{}: the certificates in it have {length} bytes, and {CHAIN_BYTES_MAX} are the most: leave out the anchor, \
                 and extensions that no device needs",
                certificate.display()
            ),
            Self::NotBelow { anchor, refusal } => write!(
                f,
                "{}: no device would trust the server's certificate by this anchor: {refusal}",
                anchor.display()
            ),
            Self::AnchorAlone(anchor) => write!(
                f,
                "{}: an anchor for a key without a certificate: name the certificate as well",
                anchor.display()
            ),
            Self::Lost(path) => write!(
                f,
                "{}: there is none, and devices were told to expect one of this server: bring it back, or name one by [[server_keys]] \
                 and bootstrap them anew",
                path.display()
            ),
            #[cfg(feature = "pkcs11")]
            Self::Token(error) => write!(f, "the server's key: {error}"),
            #[cfg(not(feature = "pkcs11"))]
            Self::NoTokens => {
                f.write_str("this build takes no keys in tokens: build it with the feature pkcs11")
            }
            Self::NoRandomness => f.write_str("the operating system gives no randomness for a new key"),
        }
    }
}

impl core::error::Error for KeyError {}

impl ServerKeys {
    /// Reads the keys that a configuration names; if it names none, the one at `default`, which is made there at first, but not again
    /// when devices expect it. Whether it was made.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(named: &[KeyConfig], default: &Path, is_expected: bool) -> Result<(Self, bool), KeyError> {
        if named.is_empty() {
            let unreadable = |error| KeyError::Unreadable { path: default.to_owned(), error };
            if is_expected && !default.try_exists().map_err(unreadable)? {
                return Err(KeyError::Lost(default.to_owned()));
            }
            let (key, is_new) = ServerKey::read_or_make(default)?;
            return Ok((Self::new(vec![key]), is_new));
        }
        let read = |named: &KeyConfig| {
            let key = ServerKey::read(&named.private_key, named.certificate.as_deref())?;
            let key = key.for_role(named.listener).retiring(named.retiring);
            let key = match &named.names {
                Some(names) => key.with_names(names.clone()),
                None => key,
            };
            match &named.anchor {
                Some(anchor) => key.below(anchor),
                None => Ok(key),
            }
        };
        Ok((Self::new(named.iter().map(read).collect::<Result<_, _>>()?), false))
    }
}

impl ServerKey {
    /// Reads a private key of P-256, or opens the one in a token that a `pkcs11:` URI names, and, if it has any, its certificates,
    /// its own first. The names are those in the certificate.
    ///
    /// # Errors
    /// A file that cannot be read or is something else, or a certificate of another key.
    pub fn read(private_key: &Path, certificate: Option<&Path>) -> Result<Self, KeyError> {
        let key = match private_key.to_str().filter(|text| text.starts_with("pkcs11:")) {
            #[cfg(feature = "pkcs11")]
            Some(uri) => Self::in_token(uri).map_err(KeyError::Token)?,
            #[cfg(not(feature = "pkcs11"))]
            Some(_) => return Err(KeyError::NoTokens),
            None => Self::of(&private_key_of(private_key)?, private_key)?,
        };
        let Some(certificate) = certificate else { return Ok(key) };
        let chain = certificates(certificate)?;
        let length = chain.iter().map(Vec::len).fold(0, usize::saturating_add);
        if length > CHAIN_BYTES_MAX {
            return Err(KeyError::TooLong { certificate: certificate.to_owned(), length });
        }
        key.with_certificates(chain).ok_or_else(|| KeyError::OtherKey {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
        })
    }

    /// The same where devices are told to expect the authority in a file.
    fn below(self, anchor: &Path) -> Result<Self, KeyError> {
        let own = self.chain.first().and_then(|own| Certificate::parse(own));
        let own = own.ok_or_else(|| KeyError::AnchorAlone(anchor.to_owned()))?;
        let der = certificates(anchor)?.swap_remove(0);
        let mut names =
            self.server_name.iter().chain(&self.names).chain(&own.common_name).chain(&own.addresses);
        // Any label stands for the one that is left open.
        let name = names.next().map(|name| name.replacen('*', "any", 1)).unwrap_or_default();
        self.with_anchor(der, &name)
            .map_err(|refusal| KeyError::NotBelow { anchor: anchor.to_owned(), refusal })
    }

    /// Reads the key at `path`, or makes one there, which only its owner may read. Whether it was made.
    ///
    /// # Errors
    /// A file that cannot be read or written, or is something else.
    pub fn read_or_make(path: &Path) -> Result<(Self, bool), KeyError> {
        let unreadable = |error| KeyError::Unreadable { path: path.to_owned(), error };
        if path.try_exists().map_err(unreadable)? {
            return Ok((Self::read(path, None)?, false));
        }
        let secret = loop {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *bytes).map_err(|_| KeyError::NoRandomness)?;
            if let Ok(secret) = SecretKey::from_slice(&*bytes) {
                break secret;
            }
        };
        let pem =
            secret.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::UnsupportedKey(path.to_owned()))?;
        write_private(path, pem.trim_end().as_bytes()).map_err(unreadable)?;
        Ok((Self::of(&secret, path)?, true))
    }

    fn of(secret: &SecretKey, path: &Path) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
        Self::in_memory(&bytes).ok_or_else(|| KeyError::UnsupportedKey(path.to_owned()))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let read = std::fs::read(path).map(Zeroizing::new);
    read.map_err(|error| KeyError::Unreadable { path: path.to_owned(), error })
}

fn private_key_of(path: &Path) -> Result<SecretKey, KeyError> {
    let bytes = read(path)?;
    let unsupported = || KeyError::UnsupportedKey(path.to_owned());
    let is_pem = is_pem(&bytes);
    if is_pem && bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(unsupported());
    }
    let key = if is_pem {
        PrivateKeyDer::from_pem_slice(&bytes).ok()
    } else {
        PrivateKeyDer::try_from(bytes.as_slice()).ok()
    };
    match key.ok_or_else(|| KeyError::NoPrivateKey(path.to_owned()))? {
        PrivateKeyDer::Pkcs8(key) => {
            SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).map_err(|_| unsupported())
        }
        PrivateKeyDer::Sec1(key) => {
            SecretKey::from_sec1_der(key.secret_sec1_der()).map_err(|_| unsupported())
        }
        _ => Err(unsupported()),
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(10).any(|window| window == b"-----BEGIN")
}

/// The certificates of a file, in their order, as DER.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, KeyError> {
    let found = certificates_in(&read(path)?);
    let is_good = !found.is_empty() && found.iter().all(|der| Certificate::parse(der).is_some());
    is_good.then_some(found).ok_or_else(|| KeyError::NoCertificate(path.to_owned()))
}
