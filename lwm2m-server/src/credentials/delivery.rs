//! What a bootstrap writes for a credential of each mode (LwM2M Core 1.2.1 §E.1, Transport 1.1.1 §5.2.8): `/0/x/2` to `/0/x/5`, and for
//! certificates `/0/x/13` to `/0/x/15`.
//!
//! | mode | `/0/x/3` | `/0/x/4` | `/0/x/5` |
//! |---|---|---|---|
//! | 0 | PSK identity | zero length | key |
//! | 1 | the device's raw public key | the server's | private key, PKCS#8 |
//! | 2 | the device's certificates, one after the other | the server's, or its anchor | private key, PKCS#8 |
//! | 3 | zero length | zero length | zero length |
//!
//! An account under OSCORE is one of mode 3 that links an instance of `/21` (`/0/x/17`), with the ids as the device sees them. Algorithms
//! are written where they are not the defaults. One of another mode links an instance of `/21` in the same way where it has a context
//! inside DTLS.
//!
//! What `/0/x/4` holds of the server in mode 2 goes with the certificate usage, `/0/x/15`.
//!
//! A device that has its own key gets `/0/x/5` with zero length, and `/0/x/3` too, unless the certificates that belong to its key are
//! known: so a renewed one reaches it.
//!
//! Invariant: an account is written whole or not at all; what is missing of the server's own key refuses the bootstrap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oscore::{AeadAlgorithm, HmacAlgorithm};
use zeroize::Zeroizing;

use super::Refusal;
use super::device::{Device, Pin, PinKind, Profile, Role, State};
use super::facade::Credentials;
use super::kept::{DeviceKey, Kept};
use super::operator::OperatorError;
use super::oscore::OscoreKey;
use super::plan::{BootstrapPlan, Setting};
use super::presented::Presented;
use super::private_key::PrivateKey;
use super::subject::{Fingerprint, Mode, Subject};

/// The public parts of the server's own key, which devices are told to expect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPublic {
    /// SubjectPublicKeyInfo in DER; empty without one.
    pub raw_public_key: Vec<u8>,
    /// Its certificate in DER.
    pub certificate: Option<Vec<u8>>,
    /// The authority that devices are to trust instead of the one certificate, in DER.
    pub anchor: Option<Vec<u8>>,
    /// The name for SNI, `/0/x/14`, where it is not the host of the URI.
    pub server_name: Option<String>,
}

/// What `/0/x/4`, `/0/x/13` and `/0/x/15` become.
struct Expected<'s> {
    pin: Option<(PinKind, &'s [u8])>,
    usage: Option<i64>,
}

impl ServerPublic {
    /// What a device of this mode is told to expect, with this certificate usage where it is to have a certain one; `None` where
    /// there is none for it.
    fn expected(&self, mode: Mode, usage: Option<u8>) -> Option<Expected<'_>> {
        match mode {
            Mode::Psk | Mode::Oscore => Some(Expected { pin: None, usage: None }),
            Mode::RawPublicKey => {
                let pin = Some((PinKind::RawPublicKey, self.raw_public_key.as_slice()));
                (!self.raw_public_key.is_empty()).then_some(Expected { pin, usage: None })
            }
            Mode::Certificate => {
                let usage = usage.unwrap_or(if self.anchor.is_some() { 2 } else { 3 });
                let pin = match usage {
                    0 | 2 => (PinKind::Anchor, self.anchor.as_deref()?),
                    _ => (PinKind::Certificate, self.certificate.as_deref()?),
                };
                Some(Expected { pin: Some(pin), usage: Some(i64::from(usage)) })
            }
        }
    }

    /// Every pin that names this key.
    #[must_use]
    pub fn pins(&self) -> Vec<Pin> {
        let key = Some(self.raw_public_key.as_slice()).filter(|key| !key.is_empty());
        [
            (PinKind::RawPublicKey, key),
            (PinKind::Certificate, self.certificate.as_deref()),
            (PinKind::Anchor, self.anchor.as_deref()),
        ]
        .into_iter()
        .filter_map(|(of, der)| Some(Pin { of, sha256: Fingerprint::of(der?) }))
        .collect()
    }
}

impl Credentials {
    /// Whether the management server has a key of its own that a device of this mode can be told of.
    pub(super) fn check_server_key(&self, mode: Mode, profile: &Profile) -> Result<(), OperatorError> {
        self.check_usage(profile)?;
        match self.server_keys(Role::Management).expected(mode, profile.certificate_usage) {
            Some(_) => Ok(()),
            None => Err(OperatorError::Refused(NO_SERVER_KEY)),
        }
    }

    /// Whether the management server has what devices are to expect with the certificate usage of this profile.
    pub(super) fn check_usage(&self, profile: &Profile) -> Result<(), OperatorError> {
        let has_anchor = self.server_keys(Role::Management).anchor.is_some();
        match profile.certificate_usage {
            Some(0 | 2) if !has_anchor => Err(OperatorError::Refused(NO_ANCHOR)),
            Some(4..) => Err(OperatorError::Invalid("certificate_usage: 0 to 3")),
            _ => Ok(()),
        }
    }

    /// What a bootstrap with this credential writes of the server's own key.
    pub(super) fn pin(&self, subject: &Subject, profile: &Profile) -> Result<Option<Pin>, Refusal> {
        let server = self.server_keys(Role::Management);
        let expected =
            server.expected(subject.mode(), profile.certificate_usage).ok_or(Refusal::NoServerKey)?;
        Ok(expected.pin.map(|(of, der)| Pin { of, sha256: Fingerprint::of(der) }))
    }

    /// What devices were told to expect of the management server, and who was: those whose credential is accepted, by name. Only what
    /// bootstraps of this server wrote is known.
    #[must_use]
    pub fn pinned(&self) -> BTreeMap<Pin, Vec<String>> {
        let mut pinned: BTreeMap<Pin, Vec<String>> = BTreeMap::new();
        for device in self.devices() {
            let credentials = device.management.iter().flat_map(|account| &account.credentials);
            let pins: BTreeSet<Pin> = credentials
                .filter(|credential| device.accepts(Role::Management, credential.generation).is_ok())
                .flat_map(|credential| credential.pins.iter().copied())
                .collect();
            for pin in pins {
                pinned.entry(pin).or_default().push(device.endpoint.clone());
            }
        }
        pinned
    }

    /// The writes for a credential, or for an account without security.
    pub(super) fn plan(
        &self,
        endpoint: &Arc<str>,
        device: &Device,
        generation: u32,
        credential: Option<(&Subject, Option<&Kept>)>,
    ) -> Result<BootstrapPlan, Refusal> {
        let (profile, settings) = (&device.profile, self.settings());
        let overridden = device.account(Role::Management).and_then(|account| match &account.state {
            State::Rotating(rotation) => rotation.server_uri.clone(),
            _ => None,
        });
        let uri = match credential {
            Some((Subject::Oscore(_), _)) => overridden.unwrap_or_else(|| settings.server_uri_nosec.clone()),
            Some(_) => overridden
                .or_else(|| profile.server_uri.clone())
                .unwrap_or_else(|| settings.server_uri.clone()),
            None => settings.server_uri_nosec.clone(),
        };
        let id = i64::from(settings.short_server_id);
        let mut server = vec![
            (0, Setting::Integer(id)),
            (1, Setting::Integer(i64::from(profile.lifetime.unwrap_or(settings.lifetime)))),
            (6, Setting::Boolean(profile.notification_storing.unwrap_or(settings.notification_storing))),
            (7, Setting::Text(profile.binding.clone().unwrap_or_else(|| settings.binding.clone()))),
        ];
        let retry = settings.retry;
        for (resource, value) in
            [(17, retry.count), (18, retry.timer), (19, retry.sequence_delay), (20, retry.sequence_count)]
        {
            server.extend(value.map(|value| (resource, Setting::Integer(i64::from(value)))));
        }
        let mut oscore = Vec::new();
        let mut security = vec![(0, Setting::Text(uri)), (1, Setting::Boolean(false))];
        match credential {
            Some((Subject::Oscore(_), Some(Kept::Oscore(key)))) => {
                security.extend(without_dtls(id));
                oscore = context(key);
            }
            Some((subject, kept)) => {
                self.write_credential(subject, kept.and_then(Kept::dtls), profile, &mut security)?;
                oscore = kept.and_then(Kept::oscore).map(context).unwrap_or_default();
            }
            None => security.extend(without_dtls(id)),
        }
        let bootstrap = device.bootstrap.as_ref().and_then(|account| account.credential(account.current));
        Ok(BootstrapPlan {
            endpoint: Arc::clone(endpoint),
            generation,
            short_server_id: settings.short_server_id,
            is_blind: profile.write_blind.unwrap_or(false),
            security_instance: profile.security_instance.unwrap_or(1),
            server_instance: profile.server_instance.unwrap_or(0),
            security,
            oscore,
            is_under_oscore: bootstrap.is_some_and(|credential| {
                credential.subject.mode() == Mode::Oscore || credential.within.is_some()
            }),
            server,
            writes_time: false,
            steps: self.bootstrap_steps(endpoint),
        })
    }

    fn write_credential(
        &self,
        subject: &Subject,
        kept: Option<&Kept>,
        profile: &Profile,
        security: &mut Vec<(u16, Setting)>,
    ) -> Result<(), Refusal> {
        let server = self.server_keys(Role::Management);
        let expected =
            server.expected(subject.mode(), profile.certificate_usage).ok_or(Refusal::NoServerKey)?;
        let (mode, own, secret) = match (subject, kept) {
            (Subject::Psk(identity), Some(Kept::Psk(key))) => {
                (0, opaque(identity.bytes()), opaque(key.bytes()))
            }
            (Subject::Psk(_) | Subject::Oscore(_), _) => return Err(Refusal::Store),
            (_, None) => (mode(subject), opaque(b""), opaque(b"")),
            (_, Some(Kept::Device(key))) => (mode(subject), presented(key), private(key)),
            (_, Some(Kept::Psk(_) | Kept::Oscore(_) | Kept::Within(..))) => return Err(Refusal::Store),
        };
        security.extend([
            (2, Setting::Integer(mode)),
            (3, own),
            (4, opaque(expected.pin.map(|(_, der)| der).unwrap_or_default())),
            (5, secret),
            (10, Setting::Integer(i64::from(self.settings().short_server_id))),
        ]);
        if let Some(usage) = expected.usage {
            // All of it is written, not a digest. Both are said even where they are the defaults: an account that is written over
            // may have had others.
            security.push((13, Setting::Integer(0)));
            security.extend(server.server_name.clone().map(|name| (14, Setting::Text(name))));
            security.push((15, Setting::Integer(usage)));
        }
        Ok(())
    }
}

const NO_SERVER_KEY: &str = "the server has no key of its own for this mode (raw public key, or certificate): configure one, for a \
                             device has to know whom it talks to";
const NO_ANCHOR: &str = "with certificate_usage 0 or 2 a device is told to expect an authority, and the server has none to name: \
                         configure the anchor of its key, or choose 1 or 3";

fn without_dtls(short_server_id: i64) -> [(u16, Setting); 5] {
    [
        (2, Setting::Integer(3)),
        // Mandatory in the registry, unused without security: zero length.
        (3, opaque(b"")),
        (4, opaque(b"")),
        (5, opaque(b"")),
        (10, Setting::Integer(short_server_id)),
    ]
}

/// The instance of `/21`.
fn context(key: &OscoreKey) -> Vec<(u16, Setting)> {
    let parameters = key.parameters();
    let mut context = vec![
        (0, opaque(key.master_secret())),
        (1, opaque(parameters.recipient_id().bytes())),
        (2, opaque(parameters.sender_id().bytes())),
    ];
    let number = |number: i32| Setting::Integer(number.into());
    context.extend((parameters.aead() != AeadAlgorithm::default()).then(|| (3, number(key.aead()))));
    context.extend((parameters.hmac() != HmacAlgorithm::default()).then(|| (4, number(key.hmac()))));
    context.extend((!key.master_salt().is_empty()).then(|| (5, opaque(key.master_salt()))));
    context.extend(parameters.id_context().map(|id| (6, opaque(id))));
    context
}

fn mode(subject: &Subject) -> i64 {
    match subject.mode() {
        Mode::Psk => 0,
        Mode::RawPublicKey => 1,
        Mode::Certificate => 2,
        Mode::Oscore => 3,
    }
}

fn presented(key: &DeviceKey) -> Setting {
    match (key.presents(), key.private_key()) {
        (Presented::RawPublicKey(_), None) => opaque(b""),
        (Presented::RawPublicKey(own), Some(_)) => opaque(own),
        (Presented::Certificates(chain), _) => opaque(&chain.concat()),
    }
}

fn private(key: &DeviceKey) -> Setting {
    Setting::Opaque(key.private_key().map(PrivateKey::pkcs8).unwrap_or_default())
}

fn opaque(bytes: &[u8]) -> Setting {
    Setting::Opaque(Zeroizing::new(bytes.to_vec()))
}
