//! Who may connect, and the lifecycle of every credential.
//!
//! Three parts: [`Device`] is the record, with its lifecycle as a pure machine; [`Credentials`] is the thread-safe façade
//! that stores every step before anything follows from it; [`BootstrapPlan`] is what a bootstrap writes, by the configuration, the
//! [profile](crate::profiles) that the device follows, and its own departures.
//!
//! The driver asks [`Credentials::look_up`] when a handshake needs a key, [`Credentials::identify`] when one presents a public
//! key, [`Credentials::admit`] at Register and Bootstrap-Request, [`Credentials::bootstrap_plan`] for the writes, and tells what happened by
//! [`Credentials::report`]; it carries out the [`Command`]s that come back.
//!
//! Invariants: a credential that a device was told to use, and may still hold, is accepted; a revoked one never is, from
//! the moment the revocation is acknowledged.

mod assignment;
mod certificate;
mod contexts;
mod date;
mod delivery;
mod der;
mod device;
mod encoding;
mod enrolment;
mod facade;
mod hold;
mod issue;
mod kept;
mod lifecycle;
mod merge;
mod operator;
mod oscore;
mod plan;
mod presented;
mod private_key;
mod revocation;
mod secret;
mod subject;
mod trust;
mod validity;

use core::fmt;
use std::sync::Arc;

pub use assignment::{Assign, Preview};
pub use certificate::Certificate;
pub use date::utc;
pub use delivery::ServerPublic;
pub use device::{
    Account, Applied, Assigned, CampaignRound, Credential, Device, Fetch, Hold, HoldKind, Phase, Pin,
    PinKind, Profile, Role, Rotation, Standing, State, Trigger,
};
pub use encoding::{certificates, pem};
pub use enrolment::{Created, Enrol, EnrolAccount, EnrolOutcome};
pub use facade::{Credentials, Retry, Settings};
pub use issue::KeyMaterial;
pub use kept::{DeviceKey, Kept, public_key};
pub use lifecycle::Outcome;
pub use operator::{OperatorError, Rotate, Rotated};
pub use oscore::{ContextId, Named, OscoreKey, OscoreParts, Rederivation};
pub use plan::{AccountInstance, BootstrapPlan, BootstrapStep, Discovered, ServerAccount, Setting};
pub use presented::{Presented, Untrusted};
pub use private_key::PrivateKey;
pub use secret::{Identity, Key, MAX_IDENTITY, MAX_KEY, MIN_KEY};
pub use subject::{Binding, Fingerprint, Mode, Subject};
pub use trust::{CHAIN_MAX, DeviceTrust, TrustError, TrustedPath};
pub use validity::Validity;

/// Who a finished handshake proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Authenticated {
    /// Endpoint client name.
    pub endpoint: Arc<str>,
    /// Which interface the credential opens.
    pub role: Role,
    /// Which of the account's credentials it was.
    pub generation: u32,
    /// Until when, if a certificate proved it.
    pub validity: Option<Arc<Validity>>,
}

impl Authenticated {
    /// By a credential without an end of its own.
    #[must_use]
    pub const fn new(endpoint: Arc<str>, role: Role, generation: u32) -> Self {
        Self { endpoint, role, generation, validity: None }
    }

    fn with_validity(self, validity: Validity) -> Self {
        Self { validity: Some(Arc::new(validity)), ..self }
    }
}

/// A key and whom it proves.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The pre-shared key.
    pub key: Key,
    /// The device it belongs to.
    pub who: Authenticated,
}

/// An OSCORE context and whom it proves.
#[derive(Clone, Debug)]
pub struct Context {
    /// What it is derived from.
    pub key: OscoreKey,
    /// The device it belongs to.
    pub who: Authenticated,
    /// What storage has of it: how far its numbers were reserved, and under which keys.
    pub saved: Option<::oscore::Saved>,
    /// Whether it is good inside the sessions of its credential alone, and not without DTLS.
    pub is_within: bool,
}

/// Why a device is refused: for events and the audit log, never for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No credential of this role has the identity.
    UnknownIdentity,
    /// No device has the endpoint name.
    UnknownEndpoint,
    /// A proven successor replaced the credential.
    Retired,
    /// The credential was rotated in, never proven, and rolled back.
    RolledBack,
    /// The credential or the device was revoked.
    Revoked,
    /// The device is suspended.
    Suspended,
    /// The device was decommissioned.
    Decommissioned,
    /// It has to bootstrap before it may register.
    Withheld,
    /// Plain coap is closed for this device.
    NoSecClosed,
    /// The device has a credential and has to use it.
    HasCredential,
    /// There is no management account that a bootstrap could write.
    NothingToDeliver,
    /// The certificate that it came with has expired, or one above it.
    CertificateExpired,
    /// Its authority revoked the certificate that it came with, or one above it.
    CertificateRevoked,
    /// The authority of its certificate is not trusted any more.
    AuthorityRemoved,
    /// The certificate that a bootstrap would deliver has expired, or one above it.
    DeliversExpired,
    /// The server has no key of its own that a device of this mode could be told of.
    NoServerKey,
    /// Its bootstrap profile cannot be followed as things stand.
    Profile,
    /// The store could not be read or written.
    Store,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownIdentity => "unknown identity",
            Self::UnknownEndpoint => "unknown endpoint name",
            Self::Retired => "a retired credential: a newer one was proven",
            Self::RolledBack => "a credential that was rolled back",
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Decommissioned => "decommissioned",
            Self::Withheld => "it has to bootstrap first: a rotation waits for that, as its operator agreed",
            Self::NoSecClosed => "plain coap is not allowed for it",
            Self::HasCredential => "it has a credential and came without",
            Self::NothingToDeliver => "it has no management account to deliver",
            Self::CertificateExpired => "the certificate that it came with, or one above it, has expired",
            Self::CertificateRevoked => {
                "the certificate that it came with, or one above it, was revoked by its authority"
            }
            Self::AuthorityRemoved => "the authority of its certificate is not trusted any more",
            Self::DeliversExpired => {
                "the certificate to deliver, or one above it, has expired: enrol the renewed one, or rotate"
            }
            Self::NoServerKey => {
                "the server has no key, certificate or anchor of its own for what is to be delivered"
            }
            Self::Profile => {
                "its bootstrap profile cannot be followed: GET /devices/ENDPOINT/bootstrap says why"
            }
            Self::Store => "the store failed",
        })
    }
}

impl core::error::Error for Refusal {}

/// What the driver tells the lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A handshake finished.
    Handshake {
        /// Whom it proved.
        who: Authenticated,
        /// A full handshake with the key, not a resumption.
        full: bool,
    },
    /// A Register was accepted over a session of this credential.
    Registered {
        /// Whom the session belongs to.
        who: Authenticated,
    },
    /// A Bootstrap-Request was accepted over a session of this credential.
    BootstrapRequested {
        /// Whom the session belongs to.
        who: Authenticated,
    },
    /// The OSCORE keys of this credential are near the end of what their algorithm bears.
    KeysWorn {
        /// Whose they are.
        who: Authenticated,
        /// Whether the next request replaces them (RFC 8613 Appendix B.2).
        is_renewed: bool,
    },
    /// The device answered Bootstrap-Finish with 2.04.
    BootstrapDelivered {
        /// The device.
        endpoint: Arc<str>,
        /// [`BootstrapPlan::generation`] of the plan that was carried out.
        generation: u32,
    },
    /// The bootstrap ended without a 2.04 to its Finish.
    BootstrapFailed {
        /// The device.
        endpoint: Arc<str>,
        /// [`BootstrapPlan::generation`] of the plan.
        generation: u32,
        /// The request that failed, in words: `Bootstrap-Write /0/1`.
        step: String,
        /// The response code, as `4.06`; `None` when there was no answer.
        code: Option<String>,
    },
    /// [`Command::TriggerBootstrap`] was carried out.
    TriggerAnswered {
        /// The device.
        endpoint: Arc<str>,
        /// How the device answered.
        answer: TriggerAnswer,
    },
    /// Time passed. Tell it about once a second.
    Tick,
}

impl Fact {
    /// The device it is about; `None` for a tick.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Arc<str>> {
        match self {
            Self::Handshake { who, .. }
            | Self::Registered { who }
            | Self::BootstrapRequested { who }
            | Self::KeysWorn { who, .. } => Some(&who.endpoint),
            Self::BootstrapDelivered { endpoint, .. }
            | Self::BootstrapFailed { endpoint, .. }
            | Self::TriggerAnswered { endpoint, .. } => Some(endpoint),
            Self::Tick => None,
        }
    }
}

/// The answer to Execute `/1/x/9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerAnswer {
    /// 2.04: the device will bootstrap.
    Accepted,
    /// Another code, as `4.05`.
    Refused {
        /// The response code.
        code: String,
        /// Seconds after which a device that is only busy wants to be asked again.
        after: Option<u32>,
    },
    /// Not registered, asleep, or no answer.
    Unanswered,
}

/// What has to be done after a step was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Execute `/1/x/9` on the device, queued until it is awake; report [`Fact::TriggerAnswered`].
    TriggerBootstrap {
        /// The device.
        endpoint: Arc<str>,
    },
    /// Forget the registration of a device, so that its next Update is answered with 4.04.
    ForgetRegistration {
        /// The device.
        endpoint: Arc<str>,
    },
    /// Drop the sessions of a credential with their observations and requests, so that the next record is refused.
    CloseSessions {
        /// The device.
        endpoint: Arc<str>,
        /// Which interface.
        role: Role,
        /// Sessions of this generation; of every one, and those without security, when `None`.
        generation: Option<u32>,
    },
}

/// A lifecycle step, for those who [subscribed](Credentials::subscribe).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CredentialEvent {
    /// The device.
    pub endpoint: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub happened: Happened,
}

/// A lifecycle step in words, as the audit log keeps it. Carries no secrets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Happened {
    /// The account, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The credential, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// What happened, in one or a few fixed words.
    pub what: &'static str,
    /// Reason or detail in words; may be empty.
    pub detail: String,
}
