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
use std::sync::{Arc, PoisonError};

use lwm2m_objects::Format;
use oscore::{AeadAlgorithm, HmacAlgorithm};
use zeroize::Zeroizing;

use super::device::{Device, Pin, PinKind, Role, State};
use super::facade::Credentials;
use super::kept::{DeviceKey, Kept};
use super::merge::{Merged, usage};
use super::operator::OperatorError;
use super::oscore::OscoreKey;
use super::plan::{BootstrapPlan, BootstrapStep, ServerAccount, Setting};
use super::presented::Presented;
use super::private_key::PrivateKey;
use super::subject::{Fingerprint, Mode, Subject};
use super::{Authenticated, Refusal};
use crate::profiles::Filled;

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
    /// Whether the management server has a key of its own that a device can be told of when it gets a credential of this mode.
    pub(super) fn check_server_key(&self, mode: Mode, device: &Device) -> Result<(), OperatorError> {
        let usage = self.usage(device);
        self.check_usage(usage)?;
        match self.server_keys(Role::Management).expected(mode, usage) {
            Some(_) => Ok(()),
            None => Err(OperatorError::Refused(NO_SERVER_KEY)),
        }
    }

    /// The certificate usage that bootstraps of a device write, if it is to be a certain one.
    fn usage(&self, device: &Device) -> Option<u8> {
        let profiles = self.profiles();
        let assigned = device.assigned.as_ref();
        let version = assigned.and_then(|assigned| profiles.find(&assigned.name, Some(assigned.version)));
        usage(&device.profile, version.map(|version| &version.body))
    }

    /// Whether the management server has what devices are to expect with this certificate usage.
    pub(super) fn check_usage(&self, usage: Option<u8>) -> Result<(), OperatorError> {
        let has_anchor = self.server_keys(Role::Management).anchor.is_some();
        match usage {
            Some(0 | 2) if !has_anchor => Err(OperatorError::Refused(NO_ANCHOR)),
            Some(4..) => Err(OperatorError::Invalid("certificate_usage: 0 to 3")),
            _ => Ok(()),
        }
    }

    /// What a bootstrap with this credential writes of the server's own key.
    fn pin(&self, subject: &Subject, usage: Option<u8>) -> Result<Option<Pin>, Refusal> {
        let server = self.server_keys(Role::Management);
        let expected = server.expected(subject.mode(), usage).ok_or(Refusal::NoServerKey)?;
        Ok(expected.pin.map(|(of, der)| Pin { of, sha256: Fingerprint::of(der) }))
    }

    /// Has the bootstraps of a device do these steps after their first Discover, in this order, until the server ends, whatever their profile
    /// says; without any they do as that says. What an application adds to an account in this way, Access Control or the account of another server,
    /// it adds for devices that it knows.
    pub fn set_bootstrap_steps(&self, endpoint: &str, steps: Vec<BootstrapStep>) {
        let mut all = self.steps.write().unwrap_or_else(PoisonError::into_inner);
        match steps.is_empty() {
            true => drop(all.remove(endpoint)),
            false => drop(all.insert(endpoint.to_owned(), steps)),
        }
    }

    pub(super) fn bootstrap_steps(&self, endpoint: &str) -> Vec<BootstrapStep> {
        let all = self.steps.read().unwrap_or_else(PoisonError::into_inner);
        all.get(endpoint).cloned().unwrap_or_default()
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

    /// The writes of a bootstrap. From here on the device may hold the credential in it.
    ///
    /// # Errors
    /// When the device is refused, there is nothing to deliver, or the step cannot be stored.
    pub fn bootstrap_plan(&self, now_ms: u64, who: &Authenticated) -> Result<BootstrapPlan, Refusal> {
        if who.role != Role::Bootstrap {
            return Err(Refusal::NothingToDeliver);
        }
        let turn = self.take_turn();
        let device = self.device(&who.endpoint).ok_or(Refusal::UnknownEndpoint)?;
        device.accepts(Role::Bootstrap, who.generation)?;
        let filled = self.filled(&device).map_err(|_| Refusal::Profile)?;
        let (plan, pin) = self.draft(now_ms, &who.endpoint, &device, filled.as_ref())?;
        let mut changed = (*device).clone();
        let outcome = changed.hand_out(now_ms, pin);
        changed.handed = device.assigned.as_ref().map(|of| Box::new((of.name.clone(), of.version)));
        self.keep(&turn, now_ms, "device", changed, outcome, &[]).map_err(|_| Refusal::Store)?;
        Ok(plan)
    }

    /// The writes of a bootstrap without security: accounts without security.
    ///
    /// # Errors
    /// When plain coap is closed for the device, or its profile has keys, which would be seen by everybody.
    pub fn bootstrap_plan_without_security(&self, endpoint: &str) -> Result<BootstrapPlan, Refusal> {
        self.admit_without_security(Role::Bootstrap, endpoint)?;
        let device = self.device(endpoint).unwrap_or_else(|| Arc::new(Device::new(endpoint)));
        let filled = self.filled(&device).map_err(|_| Refusal::Profile)?;
        self.plan_without_security(&endpoint.into(), &device, filled.as_ref())
    }

    pub(super) fn plan_without_security(
        &self,
        endpoint: &Arc<str>,
        device: &Device,
        filled: Option<&Filled>,
    ) -> Result<BootstrapPlan, Refusal> {
        if filled.is_some_and(|filled| filled.version.secrets().next().is_some()) {
            return Err(Refusal::Profile);
        }
        self.plan(endpoint, device, 0, None, filled)
    }

    /// What a bootstrap of a device delivers now, and what it tells of the server's key. Nothing is changed by it.
    pub(super) fn draft(
        &self,
        now_ms: u64,
        endpoint: &Arc<str>,
        device: &Device,
        filled: Option<&Filled>,
    ) -> Result<(BootstrapPlan, Option<Pin>), Refusal> {
        let account = device.account(Role::Management).ok_or(Refusal::NothingToDeliver)?;
        let generation = account.deliverable();
        device.accepts(Role::Management, generation)?;
        let credential = account.credential(generation).ok_or(Refusal::NothingToDeliver)?;
        if credential.expires_ms.is_some_and(|end| end < now_ms) {
            return Err(Refusal::DeliversExpired);
        }
        let kept = self.store.secret(endpoint, Role::Management, generation).map_err(|_| Refusal::Store)?;
        let usage = usage(&device.profile, filled.map(|filled| &filled.version.body));
        let pin = self.pin(&credential.subject, usage)?;
        let credential = Some((&credential.subject, kept.as_ref()));
        Ok((self.plan(endpoint, device, generation, credential, filled)?, pin))
    }

    /// The writes for a credential, or for an account without security.
    pub(super) fn plan(
        &self,
        endpoint: &Arc<str>,
        device: &Device,
        generation: u32,
        credential: Option<(&Subject, Option<&Kept>)>,
        filled: Option<&Filled>,
    ) -> Result<BootstrapPlan, Refusal> {
        let settings = self.settings();
        let merged = Merged::of(&device.profile, filled, &settings);
        let overridden = device.account(Role::Management).and_then(|account| match &account.state {
            State::Rotating(rotation) => rotation.server_uri.clone(),
            _ => None,
        });
        let uri = match credential {
            Some((Subject::Oscore(_), _)) => overridden.unwrap_or(merged.server_uri_nosec),
            Some(_) => overridden.unwrap_or(merged.server_uri),
            None => merged.server_uri_nosec,
        };
        let id = i64::from(settings.short_server_id);
        let mut server = vec![
            (0, Setting::Integer(id)),
            (1, Setting::Integer(i64::from(merged.lifetime))),
            (6, Setting::Boolean(merged.notification_storing)),
            (7, Setting::Text(merged.binding)),
        ];
        let retry = merged.retry;
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
                let dtls = kept.and_then(Kept::dtls);
                self.write_credential(subject, dtls, merged.certificate_usage, &mut security)?;
                oscore = kept.and_then(Kept::oscore).map(context).unwrap_or_default();
            }
            None => security.extend(without_dtls(id)),
        }
        let bootstrap = device.bootstrap.as_ref().and_then(|account| account.credential(account.current));
        let mut account = ServerAccount {
            short_server_id: settings.short_server_id,
            security_instance: Some(merged.security_instance),
            server_instance: Some(merged.server_instance),
            security,
            oscore,
            server,
        };
        let body = filled.map(|filled| &filled.version.body);
        if let Some(body) = body {
            body.quirks.apply(&mut account);
        }
        let mut steps = self.bootstrap_steps(endpoint);
        if steps.is_empty() {
            steps = filled.map(|filled| filled.steps.clone()).unwrap_or_default();
        }
        Ok(BootstrapPlan {
            endpoint: Arc::clone(endpoint),
            generation,
            is_blind: merged.is_blind,
            account,
            further: filled.map(|filled| filled.further.clone()).unwrap_or_default(),
            is_under_oscore: bootstrap.is_some_and(|credential| {
                credential.subject.mode() == Mode::Oscore || credential.within.is_some()
            }),
            // The configuration wants it for certificates, a profile for whatever it wants it for.
            writes_time: merged.write_time
                && (credential.is_some() || body.is_some_and(|body| body.quirks.write_time.is_some())),
            is_verified: merged.verify,
            write_by: body.map(|body| body.write_by).unwrap_or_default(),
            format: body.and_then(|body| body.quirks.format).map(Format::from),
            steps,
        })
    }

    fn write_credential(
        &self,
        subject: &Subject,
        kept: Option<&Kept>,
        usage: Option<u8>,
        security: &mut Vec<(u16, Setting)>,
    ) -> Result<(), Refusal> {
        let server = self.server_keys(Role::Management);
        let expected = server.expected(subject.mode(), usage).ok_or(Refusal::NoServerKey)?;
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
