//! A credential as JSON: what is given for a new one, and what is shown of one that is there.
//! The forms are those that [`credentials`](super::credentials) describes. Invariant: of what is secret only what was drawn here is ever
//! shown, and once.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::now_ms;
use super::problem::Problem;
use crate::credentials::{
    Binding, Certificate, ContextId, Created, Credential, DeviceKey, DeviceTrust, Fingerprint, Identity,
    Kept, Key, KeyMaterial, Mode, OscoreKey, OscoreParts, Pin, Presented, PrivateKey, Rederivation, Role,
    Standing, Subject, certificates, pem, public_key, utc,
};

/// A new credential: one that is given, or `generate` for one that is drawn here.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "{\"identity\": …, \"key\": …}, {\"generate\": true} or {\"mode\": \"rpk\", \"x509\" or \"oscore\", …}"
)]
pub(super) struct Material {
    /// `psk` where nothing says another one.
    mode: Option<Mode>,
    /// Identity of a pre-shared key.
    identity: Option<String>,
    /// The same in hex digits.
    identity_hex: Option<String>,
    /// Pre-shared key, 16 to 64 bytes in hex digits.
    #[schema(value_type = Option<String>)]
    key: Option<Zeroizing<String>>,
    /// Draw it here, and show it once.
    #[serde(default)]
    generate: bool,
    /// Raw public key: PEM, or DER in hex digits or base64.
    public_key: Option<String>,
    public_key_sha256: Option<Fingerprint>,
    /// Certificate, and those between it and an anchor behind it.
    certificate: Option<String>,
    certificate_sha256: Option<Fingerprint>,
    /// Private key to deliver: PKCS#8 or ECPrivateKey.
    #[schema(value_type = Option<String>)]
    private_key: Option<Zeroizing<String>>,
    /// What makes a certificate the device's.
    binding: Option<BindBy>,
    /// The authority of the certificate, or the SHA-256 of its public key.
    issuer: Option<String>,
    /// Master Secret of an OSCORE context, in hex digits as its other parts.
    #[schema(value_type = Option<String>)]
    master_secret: Option<Zeroizing<String>>,
    #[schema(value_type = Option<String>)]
    master_salt: Option<Zeroizing<String>>,
    /// The Sender ID of the server.
    sender_id: Option<String>,
    /// The Sender ID of the device.
    recipient_id: Option<String>,
    id_context: Option<String>,
    /// COSE number of the AEAD algorithm.
    aead: Option<i32>,
    /// COSE number of the HMAC algorithm.
    hmac: Option<i32>,
    /// Whether the keys may be replaced (RFC 8613 Appendix B.2).
    rederivation: Option<Rederivation>,
    /// The context inside the sessions of a credential of DTLS.
    #[schema(no_recursion)]
    oscore: Option<Box<Self>>,
}

/// What makes a certificate that of a device: it is this one, or it has this key, or its name is the endpoint name.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BindBy {
    Pinned,
    Key,
    Name,
}

impl Material {
    /// What it stands for, or why it stands for nothing.
    pub(super) fn read(&self, role: Role, trust: &DeviceTrust) -> Result<KeyMaterial, Problem> {
        self.material(trust, Mode::Psk).map_err(|what| Problem::invalid(format!("{role}: {what}")))
    }

    /// A credential, of this mode where nothing says another one.
    fn material(&self, trust: &DeviceTrust, otherwise: Mode) -> Result<KeyMaterial, String> {
        let Some(context) = &self.oscore else { return self.alone(trust, otherwise) };
        let dtls = Box::new(self.alone(trust, otherwise)?);
        match (&*dtls, context.material(trust, Mode::Oscore).map_err(|what| format!("oscore: {what}"))?) {
            (KeyMaterial::Oscore(_) | KeyMaterial::Generate(Mode::Oscore), _) => {
                Err("oscore: it goes inside DTLS, with the mode psk, rpk or x509".to_owned())
            }
            (_, KeyMaterial::Oscore(key)) => Ok(KeyMaterial::Within { dtls, context: Some(key) }),
            (_, KeyMaterial::Generate(Mode::Oscore)) => Ok(KeyMaterial::Within { dtls, context: None }),
            _ => Err("oscore: no OSCORE context".to_owned()),
        }
    }

    fn alone(&self, trust: &DeviceTrust, otherwise: Mode) -> Result<KeyMaterial, String> {
        let of_psk = self.identity.is_some() || self.identity_hex.is_some() || self.key.is_some();
        let of_key = self.public_key.is_some() || self.public_key_sha256.is_some();
        let of_certificate = self.certificate.is_some()
            || self.certificate_sha256.is_some()
            || self.binding.is_some()
            || self.issuer.is_some();
        let of_oscore =
            [&self.sender_id, &self.recipient_id, &self.id_context].into_iter().any(Option::is_some)
                || self.master_secret.is_some()
                || self.master_salt.is_some()
                || self.aead.or(self.hmac).is_some()
                || self.rederivation.is_some();
        let mode = self.mode.unwrap_or(match (of_certificate, of_key, of_oscore) {
            (true, ..) => Mode::Certificate,
            (false, true, _) => Mode::RawPublicKey,
            (false, false, true) => Mode::Oscore,
            (false, false, false) if of_psk => Mode::Psk,
            (false, false, false) => otherwise,
        });
        let is_public = of_key || of_certificate || self.private_key.is_some();
        if self.generate {
            return match of_psk || is_public || of_oscore {
                true => Err("\"generate\": true is for a credential of which nothing is given".to_owned()),
                false => Ok(KeyMaterial::Generate(mode)),
            };
        }
        let misplaced = match mode {
            Mode::Psk => is_public || of_oscore,
            Mode::RawPublicKey => of_psk || of_certificate || of_oscore,
            Mode::Certificate => of_psk || self.public_key.is_some() || of_oscore,
            Mode::Oscore => of_psk || is_public,
        };
        if misplaced {
            return Err(format!("something is given that the mode {mode} does not have"));
        }
        match mode {
            Mode::Psk => self.psk(),
            Mode::RawPublicKey => self.raw_public_key(),
            Mode::Certificate => self.certificate(trust),
            Mode::Oscore => self.oscore(),
        }
    }

    fn psk(&self) -> Result<KeyMaterial, String> {
        let identity = match (&self.identity, &self.identity_hex) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(digits)) => hex::decode(digits).map_err(|error| format!("identity_hex: {error}"))?,
            (Some(_), Some(_)) => return Err("give identity or identity_hex, not both".to_owned()),
            (None, None) => return Err("give identity and key, or {\"generate\": true}".to_owned()),
        };
        let Some(key) = &self.key else {
            return Err("give identity and key, or {\"generate\": true}".to_owned());
        };
        let identity =
            Identity::new(&identity).map_err(|length| format!("identity: 1 to 128 bytes, not {length}"))?;
        let bytes = hex::decode(key.as_bytes()).map_err(|error| format!("key, hex digits: {error}"))?;
        let key = Key::new(bytes)
            .map_err(|length| format!("key: 16 to 64 bytes, the decoded length is {length}"))?;
        Ok(KeyMaterial::Given { identity, key })
    }

    fn oscore(&self) -> Result<KeyMaterial, String> {
        const MISSING: &str =
            "give master_secret, sender_id and recipient_id, or {\"mode\": \"oscore\", \"generate\": true}";
        let decoded = |name: &str, text: &str| {
            hex::decode(text).map_err(|error| format!("{name}, hex digits: {error}"))
        };
        let secret = |name, text: Option<&Zeroizing<String>>| {
            text.map_or(Ok(Vec::new()), |text| decoded(name, text)).map(Zeroizing::new)
        };
        let parts = OscoreParts {
            master_secret: secret("master_secret", Some(self.master_secret.as_ref().ok_or(MISSING)?))?,
            master_salt: secret("master_salt", self.master_salt.as_ref())?,
            sender_id: decoded("sender_id", self.sender_id.as_ref().ok_or(MISSING)?)?,
            recipient_id: decoded("recipient_id", self.recipient_id.as_ref().ok_or(MISSING)?)?,
            id_context: self.id_context.as_ref().map(|text| decoded("id_context", text)).transpose()?,
            aead: self.aead,
            hmac: self.hmac,
            rederivation: self.rederivation.unwrap_or_default(),
        };
        Ok(KeyMaterial::Oscore(OscoreKey::new(parts)?))
    }

    fn private(&self) -> Result<Option<PrivateKey>, String> {
        let Some(text) = &self.private_key else { return Ok(None) };
        Ok(Some(PrivateKey::parse(&bytes_of("private_key", text, SectionKind::PrivateKey)?)?))
    }

    fn raw_public_key(&self) -> Result<KeyMaterial, String> {
        let private = self.private()?;
        let public = match (&self.public_key, &private) {
            (Some(text), _) => Some(public_key(&bytes_of("public_key", text, SectionKind::PublicKey)?)?),
            (None, Some(private)) => Some(private.public_key()),
            (None, None) => None,
        };
        let hash = public.as_deref().map(Fingerprint::of);
        if let (Some(hash), Some(given)) = (hash, self.public_key_sha256)
            && hash != given
        {
            return Err("public_key_sha256 is not that of the key beside it".to_owned());
        }
        let subject = hash.or(self.public_key_sha256).ok_or(
            "give public_key, private_key or public_key_sha256, or {\"mode\": \"rpk\", \"generate\": true}",
        )?;
        let key =
            public.map(|public| DeviceKey::new(Presented::RawPublicKey(public), private)).transpose()?;
        Ok(KeyMaterial::Public { subject: Subject::RawPublicKey(subject), key })
    }

    fn certificate(&self, trust: &DeviceTrust) -> Result<KeyMaterial, String> {
        let private = self.private()?;
        let chain = match &self.certificate {
            None => None,
            Some(text) => {
                let found = certificates(&bytes_of("certificate", text, SectionKind::Certificate)?);
                Some(found)
                    .filter(|found| !found.is_empty())
                    .ok_or("certificate: neither PEM nor DER of one")?
                    .into()
            }
        };
        if private.is_some() && chain.is_none() {
            return Err("private_key: the certificate that belongs to it is missing".to_owned());
        }
        let issuer = self.issuer.as_deref().map(issuer).transpose()?;
        let key = match chain.clone() {
            Some(chain) => Some(DeviceKey::new(Presented::Certificates(chain), private)?),
            None => None,
        };
        let own = key.as_ref().and_then(|key| key.certificates().into_iter().next());
        let binding = match self.binding.unwrap_or(BindBy::Pinned) {
            BindBy::Pinned => {
                let hash = own.as_ref().map(|own| own.fingerprint);
                if let (Some(hash), Some(given)) = (hash, self.certificate_sha256)
                    && hash != given
                {
                    return Err("certificate_sha256 is not that of the certificate beside it".to_owned());
                }
                let hash = hash.or(self.certificate_sha256);
                Binding::Pinned(hash.ok_or(
                    "give certificate or certificate_sha256, \"binding\": \"key\" or \"name\", or {\"mode\": \"x509\", \"generate\": true}",
                )?)
            }
            BindBy::Key => {
                let hash = own.as_ref().map(|own| own.key).or(self.public_key_sha256);
                let key = hash.ok_or("binding by key: give certificate or public_key_sha256")?;
                let issuer = match (issuer, &chain) {
                    (Some(issuer), _) => issuer,
                    (None, Some(chain)) => {
                        let path = trust
                            .check(now_ms(), chain)
                            .map_err(|why| format!("binding by key without issuer: {why}"))?;
                        *path.authorities.last().ok_or("binding by key without issuer: no anchor")?
                    }
                    (None, None) => return Err("binding by key: give issuer".to_owned()),
                };
                Binding::Key { issuer, key }
            }
            // Else an authority of one tenant could name the devices of another.
            BindBy::Name if issuer.is_none() && trust.authorities().len() > 1 => {
                return Err(
                    "binding by name: give issuer, because several authorities are trusted".to_owned()
                );
            }
            BindBy::Name => Binding::Name { issuer },
        };
        Ok(KeyMaterial::Public { subject: Subject::Certificate(binding), key })
    }
}

/// An authority: its certificate, or the SHA-256 of its public key.
fn issuer(text: &str) -> Result<Fingerprint, String> {
    if let Ok(hash) = Fingerprint::try_from(text.trim().to_owned()) {
        return Ok(hash);
    }
    let found = certificates(&bytes_of("issuer", text, SectionKind::Certificate)?);
    let authority = found.first().and_then(|der| Certificate::parse(der));
    Ok(authority.ok_or("issuer: neither a certificate nor 64 hex digits of a SHA-256")?.key)
}

/// PEM as it is; DER in hex digits or base64 as DER.
fn bytes_of(what: &str, text: &str, kind: SectionKind) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        return Ok(Zeroizing::new(text.as_bytes().to_vec()));
    }
    // A sequence in DER begins with 30 in hex digits and with M in base64.
    if text.starts_with('M') {
        let label = match kind {
            SectionKind::PublicKey => "PUBLIC KEY",
            SectionKind::PrivateKey => "PRIVATE KEY",
            _ => "CERTIFICATE",
        };
        let text = Zeroizing::new(format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"));
        if let Ok((_, der)) = <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes()) {
            return Ok(Zeroizing::new(der));
        }
    }
    hex::decode(text)
        .map(Zeroizing::new)
        .map_err(|_| format!("{what}: neither PEM nor DER in hex digits or base64"))
}

/// What is shown for what is secret and known here.
const MASKED: &str = "masked";

/// A credential: everything but what is secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Credential)]
pub(super) struct ShownCredential {
    /// Counts the credentials of the account.
    generation: u32,
    mode: Mode,
    /// What it is known by.
    subject: String,
    /// Identity of a pre-shared key.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_hex: Option<String>,
    /// `masked`, of a pre-shared key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key_sha256: Option<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<Binding>,
    /// Of an OSCORE context.
    #[serde(flatten)]
    #[schema(value_type = ShownContext)]
    context: Option<ShownContext>,
    /// The OSCORE context inside its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    oscore: Option<ShownContext>,
    /// `masked`, or `in the device`.
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<&'static str>,
    /// Raw public key in hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<ShownCertificate>>,
    /// The earliest end of its certificates, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    /// What the device was told to expect of the server with it.
    server_keys: Vec<Pin>,
    standing: Standing,
    created_ms: u64,
}

impl ShownCredential {
    pub(super) fn new(credential: &Credential, kept: Option<&Kept>) -> Self {
        let device_key = kept.and_then(Kept::device);
        let context = |id| ShownContext::new(id, kept.and_then(Kept::oscore));
        let subject = &credential.subject;
        let identity = match subject {
            Subject::Psk(identity) => Some(identity),
            _ => None,
        };
        let is_public = matches!(subject, Subject::RawPublicKey(_) | Subject::Certificate(_));
        let is_delivered = device_key.is_some_and(|key| key.private_key().is_some());
        Self {
            generation: credential.generation,
            mode: subject.mode(),
            subject: subject.to_string(),
            identity: identity.map(ToString::to_string),
            identity_hex: identity.map(|identity| hex::encode(identity.bytes())),
            key: identity.map(|_| MASKED),
            public_key_sha256: match subject {
                Subject::RawPublicKey(key) => Some(*key),
                _ => None,
            },
            binding: match subject {
                Subject::Certificate(binding) => Some(binding.clone()),
                _ => None,
            },
            context: match subject {
                Subject::Oscore(id) => Some(context(id)),
                _ => None,
            },
            oscore: credential.within.as_ref().map(context),
            private_key: is_public.then_some(if is_delivered { MASKED } else { "in the device" }),
            public_key: device_key.and_then(|key| match key.presents() {
                Presented::RawPublicKey(public) => Some(hex::encode(public)),
                Presented::Certificates(_) => None,
            }),
            certificates: device_key.and_then(|key| match key.presents() {
                Presented::RawPublicKey(_) => None,
                Presented::Certificates(_) => {
                    Some(key.certificates().iter().map(ShownCertificate::new).collect())
                }
            }),
            expires_ms: credential.expires_ms,
            server_keys: credential.pins.clone(),
            standing: credential.standing,
            created_ms: credential.created_ms,
        }
    }
}

/// An OSCORE context: everything but what is secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Context)]
struct ShownContext {
    // Required of none, because it stands among the members of a credential that may have none.
    #[schema(required = false)]
    recipient_id: String,
    id_context: Option<String>,
    /// `masked`.
    #[schema(required = false)]
    master_secret: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aead: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hmac: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rederivation: Option<Rederivation>,
}

impl ShownContext {
    fn new(id: &ContextId, kept: Option<&OscoreKey>) -> Self {
        Self {
            recipient_id: hex::encode(id.kid.bytes()),
            id_context: id.id_context.as_deref().map(hex::encode),
            master_secret: MASKED,
            sender_id: kept.map(|key| hex::encode(key.parameters().sender_id().bytes())),
            aead: kept.map(OscoreKey::aead),
            hmac: kept.map(OscoreKey::hmac),
            rederivation: kept.map(OscoreKey::rederivation),
        }
    }
}

/// A certificate of a device.
#[derive(Serialize, ToSchema)]
#[schema(as = Certificate)]
struct ShownCertificate {
    subject: String,
    issuer: String,
    serial: String,
    /// What it could be bound by.
    names: Vec<String>,
    not_before: String,
    not_after: String,
    sha256: Fingerprint,
    public_key_sha256: Fingerprint,
}

impl ShownCertificate {
    fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            serial: certificate.serial.clone(),
            names: certificate.bindable_names().into_iter().map(str::to_owned).collect(),
            not_before: utc(certificate.not_before),
            not_after: utc(certificate.not_after),
            sha256: certificate.fingerprint,
            public_key_sha256: certificate.key,
        }
    }
}

/// A credential that was made, with what was drawn for it: the one answer that shows it.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedCredential {
    role: Role,
    generation: u32,
    mode: Mode,
    /// What it is known by.
    identity: String,
    /// Pre-shared key in hex digits.
    key: Option<String>,
    /// PEM, as public key and certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// Of an OSCORE context.
    #[serde(flatten)]
    #[schema(value_type = CreatedContext)]
    context: Option<CreatedContext>,
    /// The OSCORE context inside its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    oscore: Option<CreatedContext>,
}

/// What was drawn for an OSCORE context, in hex digits.
#[derive(Serialize, ToSchema)]
struct CreatedContext {
    #[schema(required = false)]
    master_secret: String,
    #[schema(required = false)]
    master_salt: String,
    #[schema(required = false)]
    sender_id: String,
    #[schema(required = false)]
    recipient_id: String,
}

impl CreatedCredential {
    pub(super) fn new(created: &Created) -> Self {
        let device_key = created.key.as_ref().and_then(Kept::device);
        let private = device_key.and_then(DeviceKey::private_key);
        let context = created.key.as_ref().and_then(Kept::oscore).map(|key| {
            let parameters = key.parameters();
            CreatedContext {
                master_secret: hex::encode(key.master_secret()),
                master_salt: hex::encode(key.master_salt()),
                sender_id: hex::encode(parameters.sender_id().bytes()),
                recipient_id: hex::encode(parameters.recipient_id().bytes()),
            }
        });
        let (context, oscore) = match created.subject.mode() {
            Mode::Oscore => (context, None),
            _ => (None, context),
        };
        Self {
            role: created.role,
            generation: created.generation,
            mode: created.subject.mode(),
            identity: created.subject.to_string(),
            key: created.key.as_ref().and_then(Kept::psk).map(|key| hex::encode(key.bytes())),
            private_key: private.map(|private| pem("PRIVATE KEY", &private.pkcs8()).as_str().to_owned()),
            public_key: private.map(|private| pem("PUBLIC KEY", &private.public_key()).as_str().to_owned()),
            certificate: device_key.and_then(|key| match key.presents() {
                Presented::Certificates(chain) => {
                    Some(chain.iter().map(|der| pem("CERTIFICATE", der).as_str().to_owned()).collect())
                }
                Presented::RawPublicKey(_) => None,
            }),
            context,
            oscore,
        }
    }
}
