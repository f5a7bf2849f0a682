//! A key of P-256 in a PKCS#11 token (PKCS #11 3.1 §6.3, RFC 7512): a secure element, a smart card or the module of a server
//! (invariant: the private key stays there; what it signed was verified before anybody else sees it).
//!
//! The only part of this crate that needs `std`, by the feature `pkcs11`.

mod uri;

use core::fmt;
use std::path::PathBuf;
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;

use crate::crypto::{Crypto as _, POINT, RustCrypto};
use crate::signature::SIGNATURE;

use uri::Uri;

/// A private key in a token.
pub struct TokenKey {
    module: Pkcs11,
    uri: Uri,
    point: [u8; POINT],
    /// Sessions that nobody signs with right now, which are logged in.
    idle: Mutex<Vec<Opened>>,
    /// The token refused its PIN: each further try would bring it nearer to being locked.
    is_refused: AtomicBool,
}

struct Opened {
    session: Session,
    key: ObjectHandle,
}

impl TokenKey {
    /// Finds the key that a URI names (RFC 7512), and has it sign for a test:
    /// `pkcs11:token=NAME;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/pin`. Of the attributes `token`,
    /// `serial`, `slot-id`, `object` and `id` enough must be given that one key is meant; `pin-value` in place of `pin-source`
    /// shows the PIN to whoever sees the URI.
    ///
    /// The token must hold the public key beside it, under the same label and id.
    ///
    /// # Errors
    /// The URI, the module, the token or the key cannot be used.
    pub fn open(uri: &str) -> Result<Self, TokenError> {
        let uri = Uri::parse(uri)?;
        let module = Pkcs11::new(&uri.module).map_err(|error| TokenError::module(&uri.module, &error))?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(TokenError::module(&uri.module, &error)),
        }
        let mut key = Self {
            module,
            uri,
            point: [0; POINT],
            idle: Mutex::default(),
            is_refused: AtomicBool::new(false),
        };
        let opened = key.log_in()?;
        key.point = key.public_half(&opened)?;
        let digest = [0x5a; 32];
        key.sign_with(&opened, &digest)?;
        key.put_back(opened);
        Ok(key)
    }

    /// The point of its public half, uncompressed.
    pub const fn point(&self) -> &[u8; POINT] {
        &self.point
    }

    /// Signs the SHA-256 of a message (ECDSA). May be called by several threads; each has a session of its own then.
    ///
    /// # Errors
    /// The token failed twice, the second time in a new session; or what it signed does not verify.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<[u8; SIGNATURE], TokenError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(opened) = idle
            && let Ok(signature) = self.sign_with(&opened, digest)
        {
            self.put_back(opened);
            return Ok(signature);
        }
        // The token may have been out, or its service started anew: sessions from before are over.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let opened = self.log_in()?;
        let signature = self.sign_with(&opened, digest)?;
        self.put_back(opened);
        Ok(signature)
    }

    fn put_back(&self, opened: Opened) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
    }

    fn sign_with(&self, opened: &Opened, digest: &[u8; 32]) -> Result<[u8; SIGNATURE], TokenError> {
        let signed = opened.session.sign(&Mechanism::Ecdsa, opened.key, digest)?;
        let signature = signed.as_slice().try_into().map_err(|_| TokenError::WrongSignature)?;
        RustCrypto::p256_verify(&self.point, digest, &signature)
            .then_some(signature)
            .ok_or(TokenError::WrongSignature)
    }

    fn log_in(&self) -> Result<Opened, TokenError> {
        if self.is_refused.load(Ordering::Relaxed) {
            return Err(TokenError::WrongPin);
        }
        let session = self.module.open_ro_session(self.slot()?)?;
        if let Some(pin) = self.uri.pin()? {
            match session.login(UserType::User, Some(&pin)) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                Err(Error::Pkcs11(
                    RvError::PinIncorrect
                    | RvError::PinLocked
                    | RvError::PinExpired
                    | RvError::PinInvalid
                    | RvError::PinLenRange,
                    _,
                )) => {
                    self.is_refused.store(true, Ordering::Relaxed);
                    return Err(TokenError::WrongPin);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let key = self.find(&session, ObjectClass::PRIVATE_KEY)?;
        Ok(Opened { session, key })
    }

    fn slot(&self) -> Result<Slot, TokenError> {
        let mut found = None;
        for slot in self.module.get_slots_with_token()? {
            let Ok(token) = self.module.get_token_info(slot) else { continue };
            let is_meant = self.uri.slot.is_none_or(|id| id == slot.id())
                && self.uri.token.as_deref().is_none_or(|label| label == token.label())
                && self.uri.serial.as_deref().is_none_or(|serial| serial == token.serial_number());
            if is_meant && found.replace(slot).is_some() {
                return Err(TokenError::SeveralTokens);
            }
        }
        found.ok_or(TokenError::NoToken)
    }

    fn find(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, TokenError> {
        let mut template = Vec::from([Attribute::Class(class), Attribute::KeyType(KeyType::EC)]);
        template.extend(self.uri.object.clone().map(|label| Attribute::Label(label.into_bytes())));
        template.extend(self.uri.id.clone().map(Attribute::Id));
        match *session.find_objects(&template)? {
            [] if class == ObjectClass::PRIVATE_KEY => Err(TokenError::NoKey),
            [] => Err(TokenError::NoPublicKey),
            [key] => Ok(key),
            _ => Err(TokenError::SeveralKeys),
        }
    }

    fn public_half(&self, opened: &Opened) -> Result<[u8; POINT], TokenError> {
        let public = self.find(&opened.session, ObjectClass::PUBLIC_KEY)?;
        let attributes = opened.session.get_attributes(public, &[AttributeType::EcPoint])?;
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => Some(point.as_slice()),
            _ => None,
        });
        // An octet string in DER; some modules have the bare point.
        let point = point.map(|point| point.strip_prefix(&[0x04, 0x41]).unwrap_or(point));
        let point: Option<&[u8; POINT]> = point.and_then(|point| point.try_into().ok());
        point.filter(|point| point.starts_with(&[4])).copied().ok_or(TokenError::OtherCurve)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("token", &self.uri.token)
            .field("object", &self.uri.object)
            .finish_non_exhaustive()
    }
}

/// Why a key in a token cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenError {
    /// The URI is none of RFC 7512, or leaves out what is needed.
    Uri(&'static str),
    /// The module cannot be loaded or started.
    Module {
        /// Its file.
        path: PathBuf,
        /// What it said.
        error: String,
    },
    /// The file with the PIN cannot be read.
    Pin(std::io::Error),
    /// The token refuses the PIN; it is not tried again.
    WrongPin,
    /// No token is meant by the URI.
    NoToken,
    /// More than one is.
    SeveralTokens,
    /// The token has no such private key of an elliptic curve.
    NoKey,
    /// It has no public key under the same label and id.
    NoPublicKey,
    /// It has more than one.
    SeveralKeys,
    /// The key is not one of P-256.
    OtherCurve,
    /// What the token signed does not verify with the public key.
    WrongSignature,
    /// The token failed, as it says.
    Failed(String),
}

impl TokenError {
    fn module(path: &std::path::Path, error: &Error) -> Self {
        Self::Module { path: PathBuf::from(path), error: std::string::ToString::to_string(error) }
    }
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        Self::Failed(std::string::ToString::to_string(&error))
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(what) => write!(f, "the pkcs11: URI {what} (RFC 7512)"),
            Self::Module { path, error } => {
                write!(f, "the PKCS#11 module {} cannot be used: {error}", path.display())
            }
            Self::Pin(error) => write!(f, "the PIN cannot be read: {error}"),
            Self::WrongPin => {
                f.write_str("the token refuses the PIN; it is not tried again before the next start")
            }
            Self::NoToken => f.write_str("there is no such token"),
            Self::SeveralTokens => f.write_str("several tokens are meant: add token, serial or slot-id"),
            Self::NoKey => f.write_str("the token has no such private key, or wants its PIN first"),
            Self::NoPublicKey => {
                f.write_str("the token has no public key under the label and id of the private one")
            }
            Self::SeveralKeys => f.write_str("the token has several such keys: add object or id"),
            Self::OtherCurve => f.write_str("the key in the token is not one of P-256 (secp256r1)"),
            Self::WrongSignature => f.write_str("what the token signed does not verify"),
            Self::Failed(error) => write!(f, "the token failed: {error}"),
        }
    }
}

impl core::error::Error for TokenError {}
