//! Credentials: sizes, and how a factory puts the first accounts into storage.
//!
//! LwM2M Core 1.1.1 §5.2.8.1: identities of 128 bytes and keys of 64 bytes must be supported. Invariant: the client
//! holds a pre-shared key only while a handshake needs it, and wipes it afterwards; a private key it never holds.

use heapless::Vec;

#[cfg(feature = "x509")]
use crate::account::MatchingType;
use crate::account::{Instance, Part, Security, SecurityMode};
use crate::persist::{Action, Key, RecordWriter, Stored, TABLE_RECORD_CAPACITY};
use crate::server::Server;

/// The longest pre-shared key identity, in bytes.
pub const IDENTITY_CAPACITY: usize = 128;
/// The longest pre-shared key, in bytes.
pub const SECRET_CAPACITY: usize = 64;

/// The longest private key in an account (`/0/x/5`), in bytes: one on P-256 with its public key has 138 as a OneAsymmetricKey.
#[cfg(feature = "rpk")]
pub const PRIVATE_KEY_CAPACITY: usize = 160;

/// The longest certificate of a server, and the longest chain of our own, in bytes: 960 on a device, 3,584 with the feature
/// `std`.
#[cfg(feature = "x509")]
pub const CERTIFICATE_CAPACITY: usize = if cfg!(feature = "std") { 3584 } else { 960 };

/// The longest `/0/x/3` and `/0/x/4`, in bytes.
#[cfg(feature = "x509")]
pub(crate) const PUBLIC_CAPACITY: usize = CERTIFICATE_CAPACITY;
#[cfg(not(feature = "x509"))]
pub(crate) const PUBLIC_CAPACITY: usize = IDENTITY_CAPACITY;
/// The longest `/0/x/5`, in bytes.
#[cfg(feature = "rpk")]
pub(crate) const PRIVATE_CAPACITY: usize = PRIVATE_KEY_CAPACITY;
#[cfg(not(feature = "rpk"))]
pub(crate) const PRIVATE_CAPACITY: usize = SECRET_CAPACITY;

/// A pre-shared key with its identity, as a factory knows it.
#[derive(Clone, Copy)]
pub struct PresharedKey<'a> {
    /// 1 to 128 bytes, often text.
    pub identity: &'a [u8],
    /// 1 to 64 bytes, at least 16 random ones recommended.
    pub key: &'a [u8],
}

impl core::fmt::Debug for PresharedKey<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PresharedKey").finish_non_exhaustive()
    }
}

/// Raw public keys on P-256, as a factory knows them.
#[cfg(feature = "rpk")]
#[derive(Clone, Copy)]
pub struct RawPublicKey<'a> {
    /// Our own, a SubjectPublicKeyInfo in DER of 91 bytes; `None` where the storage answers for
    /// [`Key::Identity`] by itself.
    pub public_key: Option<&'a [u8]>,
    /// What belongs to it: a OneAsymmetricKey (PKCS #8) or ECPrivateKey (SEC 1) in DER of at most
    /// [`PRIVATE_KEY_CAPACITY`] bytes, or 32 bytes, big-endian. `None` where a secure element has it.
    pub private_key: Option<&'a [u8]>,
    /// The server's, in the form of our own.
    pub server_key: &'a [u8],
}

#[cfg(feature = "rpk")]
impl core::fmt::Debug for RawPublicKey<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RawPublicKey").finish_non_exhaustive()
    }
}

/// X.509 certificates on P-256, as a factory knows them.
#[cfg(feature = "x509")]
#[derive(Clone, Copy)]
pub struct Certificate<'a> {
    /// Our own certificate in DER, and behind it those of the authorities between it and the server's trust anchor, if there are
    /// any: at most 5, and [`CERTIFICATE_CAPACITY`] bytes in all. `None` where the storage answers for [`Key::Identity`] by
    /// itself.
    pub chain: Option<&'a [u8]>,
    /// What belongs to it, as in [`RawPublicKey::private_key`].
    pub private_key: Option<&'a [u8]>,
    /// What is known of the server's certificate (`/0/x/4`): by `usage` that, or that of an authority, as `matching` says.
    pub server_certificate: &'a [u8],
    /// How it is known (`/0/x/13`).
    pub matching: MatchingType,
    /// What it is (`/0/x/15`).
    pub usage: dtls_psk::CertificateUsage,
    /// The name of the server (`/0/x/14`), at most 253 bytes, where it is not the one in the URI: it is asked for that name, and
    /// must have a certificate with it unless its certificate is known.
    pub server_name: Option<&'a str>,
}

#[cfg(feature = "x509")]
impl core::fmt::Debug for Certificate<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// What the keys of OSCORE are derived from, as a factory knows it (`/21`), seen from the device.
#[cfg(feature = "oscore")]
#[derive(Clone, Copy)]
pub struct SecurityContext<'a> {
    /// 1 to 64 random bytes, 16 recommended.
    pub master_secret: &'a [u8],
    /// Of the device: 0 to 7 bytes, with an AEAD algorithm of a shorter nonce less.
    pub sender_id: &'a [u8],
    /// Of the server: the same, and another one.
    pub recipient_id: &'a [u8],
    /// The COSE number of the AEAD algorithm; 10 (AES-CCM-16-64-128) if it is not given.
    pub aead: Option<i32>,
    /// The COSE number of the HMAC algorithm, as that of the HMAC or of HKDF; 5 or -10 (SHA-256) if it is not given.
    pub hmac: Option<i32>,
    /// At most 32 bytes, or none.
    pub master_salt: &'a [u8],
    /// At most 40 bytes, or none; with Appendix B.2 of RFC 8613 at most 24.
    pub id_context: &'a [u8],
}

#[cfg(feature = "oscore")]
impl<'a> SecurityContext<'a> {
    /// With the default algorithms, without salt and ID Context.
    pub const fn new(master_secret: &'a [u8], sender_id: &'a [u8], recipient_id: &'a [u8]) -> Self {
        SecurityContext {
            master_secret,
            sender_id,
            recipient_id,
            aead: None,
            hmac: None,
            master_salt: &[],
            id_context: &[],
        }
    }

    /// Whether keys can be derived from it, with the algorithms of this build.
    pub fn is_usable(&self) -> bool {
        self.record(0).is_some()
    }

    /// As an instance of `/21` has it.
    fn record(&self, instance: u16) -> Option<crate::oscore_object::SecurityContext> {
        use lwm2m_objects::Value;
        let mut record = crate::oscore_object::SecurityContext::empty(instance);
        record.has_secret = oscore::MasterSecret::new(self.master_secret).is_some();
        for (resource, bytes) in
            [(1, self.sender_id), (2, self.recipient_id), (5, self.master_salt), (6, self.id_context)]
        {
            record.set(resource, Some(&Value::Opaque(bytes)))?;
        }
        for (resource, number) in [(3, self.aead), (4, self.hmac)] {
            record.set(resource, number.map(|number| Value::Integer(number.into())).as_ref())?;
        }
        record.is_whole().then_some(record)
    }
}

#[cfg(feature = "oscore")]
impl core::fmt::Debug for SecurityContext<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecurityContext").finish_non_exhaustive()
    }
}

/// What a device and a server prove themselves to each other with.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// Security mode 0.
    PresharedKey(PresharedKey<'a>),
    /// Security mode 1.
    #[cfg(feature = "rpk")]
    RawPublicKey(RawPublicKey<'a>),
    /// Security mode 2.
    #[cfg(feature = "x509")]
    Certificate(Certificate<'a>),
}

impl<'a> From<PresharedKey<'a>> for Credential<'a> {
    fn from(key: PresharedKey<'a>) -> Self {
        Credential::PresharedKey(key)
    }
}

#[cfg(feature = "rpk")]
impl<'a> From<RawPublicKey<'a>> for Credential<'a> {
    fn from(key: RawPublicKey<'a>) -> Self {
        Credential::RawPublicKey(key)
    }
}

#[cfg(feature = "x509")]
impl<'a> From<Certificate<'a>> for Credential<'a> {
    fn from(certificate: Certificate<'a>) -> Self {
        Credential::Certificate(certificate)
    }
}

impl<'a> Credential<'a> {
    /// `/0/x/2`.
    const fn mode(&self) -> SecurityMode {
        match self {
            Credential::PresharedKey(_) => SecurityMode::Psk,
            #[cfg(feature = "rpk")]
            Credential::RawPublicKey(_) => SecurityMode::RawPublicKey,
            #[cfg(feature = "x509")]
            Credential::Certificate(_) => SecurityMode::Certificate,
        }
    }

    /// `/0/x/3`, `/0/x/4` and `/0/x/5`, as far as there are such.
    const fn parts(&self) -> [Option<&'a [u8]>; 3] {
        match self {
            Credential::PresharedKey(PresharedKey { identity, key }) => [Some(identity), None, Some(key)],
            #[cfg(feature = "rpk")]
            Credential::RawPublicKey(RawPublicKey { public_key, private_key, server_key }) => {
                [*public_key, Some(server_key), *private_key]
            }
            #[cfg(feature = "x509")]
            Credential::Certificate(Certificate { chain, private_key, server_certificate, .. }) => {
                [*chain, Some(server_certificate), *private_key]
            }
        }
    }
}

/// An account that a device comes with. [`provision`] writes it to storage before the client starts for the first time.
#[derive(Clone, Debug)]
pub struct FactoryAccount<'a> {
    /// The instance of `/0`.
    pub instance: u16,
    /// `/0/x/0`, at most 255 bytes and no more than the client takes.
    pub uri: &'a str,
    /// The instance of `/1`; `None` for the bootstrap account.
    pub server: Option<Server>,
    /// `/0/x/11` in seconds, for the bootstrap account.
    pub hold_off: u32,
    /// `None` for NoSec.
    pub credential: Option<Credential<'a>>,
    /// What messages are protected with besides, or in place of, a credential.
    #[cfg(feature = "oscore")]
    pub oscore: Option<SecurityContext<'a>>,
}

impl<'a> FactoryAccount<'a> {
    /// A bootstrap account in the Security instance `instance`, without a hold-off.
    pub const fn bootstrap(instance: u16, uri: &'a str, credential: Option<Credential<'a>>) -> Self {
        FactoryAccount {
            instance,
            uri,
            server: None,
            hold_off: 0,
            credential,
            #[cfg(feature = "oscore")]
            oscore: None,
        }
    }

    /// A management server: Security instance `instance`, and `server` as it is.
    pub const fn server(
        instance: u16,
        uri: &'a str,
        server: Server,
        credential: Option<Credential<'a>>,
    ) -> Self {
        FactoryAccount {
            instance,
            uri,
            server: Some(server),
            hold_off: 0,
            credential,
            #[cfg(feature = "oscore")]
            oscore: None,
        }
    }

    /// The same with messages protected by OSCORE, in the instance of `/21` with the number of the Security instance.
    #[cfg(feature = "oscore")]
    #[must_use]
    pub const fn with_oscore(self, context: SecurityContext<'a>) -> Self {
        FactoryAccount { oscore: Some(context), ..self }
    }
}

/// Writes the accounts that a device comes with, through the same contract that the client uses later: stage, commit,
/// confirm. `apply` is the storage.
///
/// # Errors
/// The first error of the storage; [`StoreError::Failed`](crate::StoreError::Failed) also for a URI that is too long, and a
/// security context that no keys can be derived from.
#[inline(never)]
pub fn provision(accounts: &[FactoryAccount<'_>], apply: &mut dyn FnMut(&Action<'_>) -> Stored) -> Stored {
    let mut buffer = [0; TABLE_RECORD_CAPACITY];
    let mut securities = Vec::<u16, 16>::new();
    let mut servers = Vec::<u16, 16>::new();
    #[cfg(feature = "oscore")]
    let mut contexts = Vec::<u16, 16>::new();
    let failed = crate::error::StoreError::Failed;
    for account in accounts {
        let instance = account.instance;
        let mut security = Security::<255>::empty(instance);
        security.uri.push_str(account.uri).map_err(|_| failed)?;
        security.is_bootstrap = account.server.is_none();
        security.short_server_id = account.server.as_ref().and_then(|server| server.short_server_id());
        security.hold_off = account.hold_off;
        let mode = account.credential.as_ref().map_or(SecurityMode::NoSec, Credential::mode);
        security.mode_value = Some(mode as u8);
        let parts = account.credential.as_ref().map_or([None; 3], Credential::parts);
        for (resource, part) in (3..).zip(parts) {
            security.set(resource, part.map(|part| Part::of(resource, part.len()) as u32));
        }
        #[cfg(feature = "x509")]
        {
            let name = match account.credential {
                Some(Credential::Certificate(Certificate { matching, usage, server_name, .. })) => {
                    security.matching = Some(matching as u8);
                    security.usage = Some(usage as u8);
                    server_name
                }
                _ => None,
            };
            security.has_server_name = name.is_some();
            let key = Key::ServerName(instance);
            let bytes = name.map(str::as_bytes);
            apply(&bytes.map_or(Action::Remove { key }, |bytes| Action::Stage { key, bytes }))?;
        }
        #[cfg(feature = "oscore")]
        if let Some(context) = &account.oscore {
            let mut out = RecordWriter::new(&mut buffer);
            context.record(instance).ok_or(failed)?.emit(&mut out);
            apply(&Action::Stage { key: Key::Oscore(instance), bytes: out.finish().ok_or(failed)? })?;
            apply(&Action::Stage { key: Key::MasterSecret(instance), bytes: context.master_secret })?;
            security.oscore = Some(instance);
            contexts.push(instance).map_err(|_| failed)?;
        }
        let mut out = RecordWriter::new(&mut buffer);
        security.emit(&mut out);
        apply(&Action::Stage { key: Key::Security(instance), bytes: out.finish().ok_or(failed)? })?;
        #[cfg(feature = "resumption")]
        apply(&Action::Remove { key: Key::Session(instance) })?;
        let keys = [Key::Identity(instance), Key::ServerKey(instance), Key::Secret(instance)];
        for (&key, part) in keys.iter().zip(&parts) {
            apply(&part.map_or(Action::Remove { key }, |bytes| Action::Stage { key, bytes }))?;
        }
        securities.push(instance).map_err(|_| failed)?;
        if let Some(server) = &account.server {
            let mut out = RecordWriter::new(&mut buffer);
            server.emit(&mut out);
            apply(&Action::Stage { key: Key::Server(server.instance), bytes: out.finish().ok_or(failed)? })?;
            servers.push(server.instance).map_err(|_| failed)?;
        }
    }
    let mut out = RecordWriter::new(&mut buffer);
    crate::persist::emit_index(
        &mut out,
        securities.iter(),
        servers.iter(),
        [].iter(),
        #[cfg(feature = "oscore")]
        contexts.iter(),
    );
    apply(&Action::Stage { key: Key::Index, bytes: out.finish().ok_or(failed)? })?;
    apply(&Action::Commit)?;
    apply(&Action::Confirm)
}
