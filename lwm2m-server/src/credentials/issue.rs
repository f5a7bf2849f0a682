//! Where a new credential comes from: drawn here, or given by the operator, in whole or by its public part.
//!
//! Invariants: a subject is never given out twice, except a key that a device kept and whose former credential was only retired or
//! rolled back; what is given belongs together and is good on the day it is given.

use super::Credentials;
use super::certificate::Certificate;
use super::device::{Device, Role, Standing};
use super::kept::{DeviceKey, Kept};
use super::operator::OperatorError;
use super::oscore::{ContextId, OscoreKey};
use super::presented::Presented;
use super::private_key::PrivateKey;
use super::secret::{Identity, Key};
use super::subject::{Binding, Mode, Subject};

/// Where the key of a new credential comes from.
#[derive(Clone, Debug)]
pub enum KeyMaterial {
    /// Drawn here and shown once: an identity with 16 random bytes, or a key pair of P-256, with a certificate that is signed with
    /// itself and pinned where the mode is [`Mode::Certificate`].
    Generate(Mode),
    /// A pre-shared key given by the operator.
    Given {
        /// PSK identity.
        identity: Identity,
        /// Pre-shared key.
        key: Key,
    },
    /// A raw public key or certificate given by the operator.
    Public {
        /// What it is known by.
        subject: Subject,
        /// What is known besides: the key or chain itself, with a private key if the server is to deliver that one. Without it, or
        /// without a private key, the device has its own.
        key: Option<DeviceKey>,
    },
    /// An OSCORE context given by the operator.
    Oscore(OscoreKey),
    /// A credential of DTLS with an OSCORE context inside its sessions.
    Within {
        /// The credential.
        dtls: Box<Self>,
        /// The context; one drawn here where it is left out.
        context: Option<OscoreKey>,
    },
}

impl KeyMaterial {
    /// One drawn here, with an OSCORE context inside its sessions or without.
    pub(super) fn drawn(mode: Mode, is_within: bool) -> Self {
        match is_within {
            true => Self::Within { dtls: Box::new(Self::Generate(mode)), context: None },
            false => Self::Generate(mode),
        }
    }

    /// Whether any of it is drawn here.
    pub(super) fn is_drawn(&self) -> bool {
        match self {
            Self::Generate(_) => true,
            Self::Within { dtls, context } => context.is_none() || dtls.is_drawn(),
            Self::Given { .. } | Self::Public { .. } | Self::Oscore(_) => false,
        }
    }
}

/// A credential that is not in any record yet.
pub(super) struct Issued {
    pub(super) subject: Subject,
    pub(super) kept: Option<Kept>,
    /// The earliest end of its certificates.
    pub(super) expires_ms: Option<u64>,
    detail: &'static str,
    /// What of it was drawn here: nobody else has seen it, and it is shown once.
    pub(super) drawn: Option<Kept>,
}

impl Issued {
    fn drawn(subject: Subject, kept: Kept, detail: &'static str) -> Self {
        // A certificate that is made here has no end.
        Self { subject, kept: Some(kept.clone()), expires_ms: None, detail, drawn: Some(kept) }
    }

    /// For the audit log.
    pub(super) fn detail(&self) -> String {
        let within = if self.within().is_some() { ", with an oscore context inside dtls" } else { "" };
        format!("{}{within}", self.detail)
    }

    /// What the OSCORE context inside its sessions is known by.
    pub(super) fn within(&self) -> Option<ContextId> {
        match &self.kept {
            Some(Kept::Within(_, key)) => Some(key.context_id()),
            _ => None,
        }
    }
}

impl Credentials {
    /// Draws or checks a new credential of a device.
    pub(super) fn issue(
        &self,
        now_ms: u64,
        endpoint: &str,
        role: Role,
        material: &KeyMaterial,
    ) -> Result<Issued, OperatorError> {
        let given = |subject: &Subject, kept, expires_ms, detail| Issued {
            subject: subject.clone(),
            kept,
            expires_ms,
            detail,
            drawn: None,
        };
        match material {
            KeyMaterial::Generate(mode) => self.draw(now_ms, endpoint, role, *mode),
            KeyMaterial::Within { dtls, context } => {
                self.issue_within(now_ms, endpoint, role, dtls, context.as_ref())
            }
            KeyMaterial::Given { identity, key } => {
                let subject = Subject::Psk(identity.clone());
                Ok(given(&subject, Some(Kept::Psk(key.clone())), None, "key given"))
            }
            KeyMaterial::Oscore(key) => {
                let subject = Subject::Oscore(key.context_id());
                Ok(given(&subject, Some(Kept::Oscore(key.clone())), None, "oscore context given"))
            }
            KeyMaterial::Public { subject, key } => {
                if let Some(key) = key {
                    check_belongs(endpoint, subject, key)?;
                    for certificate in key.certificates() {
                        certificate.check_dates(now_ms / 1000).map_err(OperatorError::Unusable)?;
                    }
                }
                let has_private = key.as_ref().is_some_and(|key| key.private_key().is_some());
                let detail = match (subject, has_private) {
                    (Subject::Psk(_), _) => {
                        return Err(OperatorError::Invalid("a pre-shared key is needed with its identity"));
                    }
                    (Subject::Oscore(_), _) => {
                        return Err(OperatorError::Invalid("an OSCORE context is needed with its secret"));
                    }
                    (Subject::RawPublicKey(_), true) => "raw public key given, to be delivered",
                    (Subject::RawPublicKey(_), false) => "raw public key given, which the device has",
                    (Subject::Certificate(_), true) => "certificate given, to be delivered",
                    (Subject::Certificate(_), false) => "certificate given, whose key the device has",
                };
                let expires_ms = key.as_ref().and_then(DeviceKey::expires_ms);
                Ok(given(subject, key.clone().map(Kept::Device), expires_ms, detail))
            }
        }
    }

    /// A credential of DTLS and the context inside its sessions are one: they come and go together.
    fn issue_within(
        &self,
        now_ms: u64,
        endpoint: &str,
        role: Role,
        dtls: &KeyMaterial,
        context: Option<&OscoreKey>,
    ) -> Result<Issued, OperatorError> {
        let issued = self.issue(now_ms, endpoint, role, dtls)?;
        if issued.within().is_some() || issued.subject.mode() == Mode::Oscore {
            return Err(OperatorError::Invalid(
                "an OSCORE context is inside DTLS or alone, and there is one of it",
            ));
        }
        let beside = |kept: Option<Kept>, key| Some(Kept::Within(kept.map(Box::new), key));
        let (key, drawn) = match context {
            Some(key) => (key.clone(), issued.drawn),
            None => {
                let key = self.new_context(role)?;
                (key.clone(), beside(issued.drawn, key))
            }
        };
        Ok(Issued { kept: beside(issued.kept, key), drawn, ..issued })
    }

    fn draw(&self, now_ms: u64, endpoint: &str, role: Role, mode: Mode) -> Result<Issued, OperatorError> {
        let random = |_| OperatorError::NoRandomness;
        if mode == Mode::Psk {
            let key = Key::generate().map_err(random)?;
            let subject = Subject::Psk(self.new_identity(role)?);
            return Ok(Issued::drawn(subject, Kept::Psk(key), "key drawn by the server"));
        }
        if mode == Mode::Oscore {
            let key = self.new_context(role)?;
            let subject = Subject::Oscore(key.context_id());
            return Ok(Issued::drawn(subject, Kept::Oscore(key), "oscore context drawn by the server"));
        }
        let private = PrivateKey::generate().map_err(random)?;
        let presents = match mode {
            Mode::Certificate => {
                Presented::Certificates(vec![private.self_signed(endpoint, now_ms).map_err(random)?])
            }
            Mode::Psk | Mode::Oscore | Mode::RawPublicKey => Presented::RawPublicKey(private.public_key()),
        };
        let key = DeviceKey::new(presents, Some(private)).map_err(OperatorError::Invalid)?;
        Ok(Issued::drawn(key.subject(), Kept::Device(key), "key pair drawn by the server"))
    }

    fn new_identity(&self, role: Role) -> Result<Identity, OperatorError> {
        loop {
            let identity = Identity::generate().map_err(|_| OperatorError::NoRandomness)?;
            if self.owner(role, &Subject::Psk(identity.clone())).is_none() {
                return Ok(identity);
            }
        }
    }

    /// One with a kid that no other context has, so that none has to be tried.
    fn new_context(&self, role: Role) -> Result<OscoreKey, OperatorError> {
        loop {
            let mut kid = [0; DRAWN_KID];
            getrandom::fill(&mut kid).map_err(|_| OperatorError::NoRandomness)?;
            let key = OscoreKey::generate(&kid).map_err(|_| OperatorError::NoRandomness)?;
            if let Some(key) = key
                && self.contexts_of(role, &key.context_id().kid).is_empty()
            {
                return Ok(key);
            }
        }
    }

    /// Whether what a credential is known by may become that of a device.
    pub(super) fn check_free(
        &self,
        device: &Device,
        role: Role,
        issued: &Issued,
    ) -> Result<(), OperatorError> {
        if let Some(within) = issued.within().map(Subject::Oscore)
            && let Some((owner, _)) = self.owner(role, &within)
        {
            return Err(OperatorError::SubjectTaken(owner));
        }
        let subject = &issued.subject;
        // A name has no owner; who has a revoked certificate of it would come in again.
        let revoked_by_name = device.account(role).is_some_and(|account| {
            account.credentials.iter().any(|credential| {
                credential.standing == Standing::Revoked
                    && matches!(credential.subject, Subject::Certificate(Binding::Name { .. }))
            })
        });
        if revoked_by_name && matches!(subject, Subject::Certificate(Binding::Name { .. })) {
            return Err(OperatorError::Refused(
                "a certificate under its name was revoked: bind the next one by its key, or pin it",
            ));
        }
        let Some((owner, generation)) = self.owner(role, subject) else { return Ok(()) };
        let former = device.account(role).and_then(|account| account.credential(generation));
        let is_own_again = *owner == *device.endpoint
            && matches!(subject, Subject::RawPublicKey(_) | Subject::Certificate(_))
            && former.is_some_and(|former| {
                former.subject == *subject
                    && matches!(former.standing, Standing::Retired | Standing::RolledBack)
            });
        if is_own_again { Ok(()) } else { Err(OperatorError::SubjectTaken(owner)) }
    }
}

/// The bytes of a kid that is drawn here: each request of the device carries it, and a fleet of millions is to have different ones.
const DRAWN_KID: usize = 4;

fn check_belongs(endpoint: &str, subject: &Subject, key: &DeviceKey) -> Result<(), OperatorError> {
    let certificates = key.certificates();
    let belongs = match subject {
        Subject::Psk(_) | Subject::Oscore(_) => false,
        Subject::RawPublicKey(_) | Subject::Certificate(Binding::Pinned(_)) => key.subject() == *subject,
        Subject::Certificate(Binding::Key { key, .. }) => {
            certificates.first().is_some_and(|own| own.key == *key)
        }
        Subject::Certificate(Binding::Name { .. }) => {
            let is_named = |own: &Certificate| own.bindable_names().contains(&endpoint);
            if certificates.first().is_some_and(|own| !is_named(own)) {
                return Err(OperatorError::Invalid("certificate: none of its names is the endpoint name"));
            }
            !certificates.is_empty()
        }
    };
    if belongs {
        Ok(())
    } else {
        Err(OperatorError::Invalid("the key or certificate is not the one that it is said to be known by"))
    }
}
