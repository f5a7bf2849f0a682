//! A credential as JSON: what is given for a new one, and what is shown of one that is there.
//! The forms are those that [`credentials`](super::credentials) describes. Invariant: of what is secret only what was drawn here is ever
//! shown, and once.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::now_ms;
use super::problem::Problem;
use crate::credentials::{
    Binding, Certificate, ContextId, Created, Credential, DeviceKey, DeviceTrust, Fingerprint, Identity,
    Kept, Key, KeyMaterial, Mode, OscoreKey, OscoreParts, Presented, PrivateKey, Rederivation, Role, Subject,
    certificates, pem, public_key, utc,
};

/// A new credential.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "{\"identity\": …, \"key\": …}, {\"generate\": true} or {\"mode\": \"rpk\", \"x509\" or \"oscore\", …}"
)]
pub(super) struct Material {
    mode: Option<Mode>,
    identity: Option<String>,
    identity_hex: Option<String>,
    key: Option<Zeroizing<String>>,
    #[serde(default)]
    generate: bool,
    public_key: Option<String>,
    public_key_sha256: Option<Fingerprint>,
    certificate: Option<String>,
    certificate_sha256: Option<Fingerprint>,
    private_key: Option<Zeroizing<String>>,
    binding: Option<BindBy>,
    issuer: Option<String>,
    master_secret: Option<Zeroizing<String>>,
    master_salt: Option<Zeroizing<String>>,
    sender_id: Option<String>,
    recipient_id: Option<String>,
    id_context: Option<String>,
    aead: Option<i32>,
    hmac: Option<i32>,
    rederivation: Option<Rederivation>,
    /// The context inside the sessions of a credential of DTLS.
    oscore: Option<Box<Self>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
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

/// Everything of a credential but what is secret.
pub(super) fn shown(credential: &Credential, kept: Option<&Kept>) -> Value {
    let mut shown = Map::new();
    let mut show = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    show("generation", json!(credential.generation));
    show("mode", json!(credential.subject.mode()));
    show("subject", json!(credential.subject.to_string()));
    match &credential.subject {
        Subject::Psk(identity) => {
            show("identity", json!(identity.to_string()));
            show("identity_hex", json!(hex::encode(identity.bytes())));
            show("key", json!("masked"));
        }
        Subject::RawPublicKey(key) => {
            show("public_key_sha256", json!(key));
        }
        Subject::Certificate(binding) => {
            show("binding", json!(binding));
        }
        Subject::Oscore(id) => {
            for (name, value) in context(id, kept.and_then(Kept::oscore)) {
                show(name, value);
            }
        }
    }
    if let Some(id) = &credential.within {
        let context = context(id, kept.and_then(Kept::oscore)).into_iter();
        show("oscore", context.map(|(name, value)| (name.to_owned(), value)).collect());
    }
    if matches!(credential.subject, Subject::RawPublicKey(_) | Subject::Certificate(_)) {
        let is_delivered = kept.and_then(Kept::device).is_some_and(|key| key.private_key().is_some());
        show("private_key", json!(if is_delivered { "masked" } else { "in the device" }));
    }
    if let Some(key) = kept.and_then(Kept::device) {
        match key.presents() {
            Presented::RawPublicKey(public) => show("public_key", json!(hex::encode(public))),
            Presented::Certificates(_) => {
                let certificates: Vec<Value> = key.certificates().iter().map(certificate).collect();
                show("certificates", json!(certificates))
            }
        };
    }
    if let Some(expires_ms) = credential.expires_ms {
        show("expires_ms", json!(expires_ms));
    }
    show("server_keys", json!(credential.pins));
    show("standing", json!(credential.standing));
    show("created_ms", json!(credential.created_ms));
    Value::Object(shown)
}

/// Everything of an OSCORE context but what is secret.
fn context(id: &ContextId, kept: Option<&OscoreKey>) -> Vec<(&'static str, Value)> {
    let mut shown = vec![
        ("recipient_id", json!(hex::encode(id.kid.bytes()))),
        ("id_context", json!(id.id_context.as_deref().map(hex::encode))),
        ("master_secret", json!("masked")),
    ];
    if let Some(key) = kept {
        shown.extend([
            ("sender_id", json!(hex::encode(key.parameters().sender_id().bytes()))),
            ("aead", json!(key.aead())),
            ("hmac", json!(key.hmac())),
            ("rederivation", json!(key.rederivation())),
        ]);
    }
    shown
}

fn certificate(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "names": certificate.bindable_names(),
        "not_before": utc(certificate.not_before),
        "not_after": utc(certificate.not_after),
        "sha256": certificate.fingerprint,
        "public_key_sha256": certificate.key,
    })
}

/// A credential that was made, with what was drawn for it: the one answer that shows it.
pub(super) fn created(created: &Created) -> Value {
    let mut shown = json!({
        "role": created.role,
        "generation": created.generation,
        "mode": created.subject.mode(),
        "identity": created.subject.to_string(),
        "key": created.key.as_ref().and_then(Kept::psk).map(|key| hex::encode(key.bytes())),
    });
    if let (Some(key), Some(shown)) = (created.key.as_ref().and_then(Kept::device), shown.as_object_mut()) {
        if let Some(private) = key.private_key() {
            shown.insert("private_key".to_owned(), json!(*pem("PRIVATE KEY", &private.pkcs8())));
            shown.insert("public_key".to_owned(), json!(*pem("PUBLIC KEY", &private.public_key())));
        }
        if let Presented::Certificates(chain) = key.presents() {
            let chain: String = chain.iter().map(|der| pem("CERTIFICATE", der).as_str().to_owned()).collect();
            shown.insert("certificate".to_owned(), json!(chain));
        }
    }
    if let (Some(key), Some(shown)) = (created.key.as_ref().and_then(Kept::oscore), shown.as_object_mut()) {
        let parameters = key.parameters();
        let context = [
            ("master_secret", hex::encode(key.master_secret())),
            ("master_salt", hex::encode(key.master_salt())),
            ("sender_id", hex::encode(parameters.sender_id().bytes())),
            ("recipient_id", hex::encode(parameters.recipient_id().bytes())),
        ];
        let context = context.map(|(name, digits)| (name.to_owned(), json!(digits)));
        match created.subject.mode() {
            Mode::Oscore => shown.extend(context),
            _ => drop(shown.insert("oscore".to_owned(), Value::Object(context.into_iter().collect()))),
        }
    }
    shown
}
