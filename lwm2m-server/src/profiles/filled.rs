//! A version of a profile with the variables of one device in their places: what its bootstrap carries out.
//!
//! Invariant: a URI, an identity or a text that the variables make is judged as one that was given.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::body::{AccessControl, FurtherSecurity, FurtherServer, Quirks};
use super::check::{Given, check_given, is_uri, uri_form};
use super::variables;
use super::{Fault, Secrets, Version, Written};
use crate::credentials::{BootstrapStep, MAX_IDENTITY, ServerAccount, Setting, Settings};
use crate::{Path, Value};

/// The longest text that variables make, in bytes.
const LONGEST: usize = 4096;

/// What one device gets of a version of a profile.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The version.
    pub version: Arc<Version>,
    /// LwM2M Server URI of this server, if the profile says.
    pub server_uri: Option<String>,
    /// The same of accounts without DTLS.
    pub server_uri_nosec: Option<String>,
    /// Accounts of other servers.
    pub further: Vec<ServerAccount>,
    /// What the bootstrap does after its first Discover.
    pub steps: Vec<BootstrapStep>,
}

impl Filled {
    /// Puts the variables of a device into their places.
    ///
    /// # Errors
    /// Everything that is missing, or makes something that cannot be.
    pub(crate) fn new(
        version: &Arc<Version>,
        given: &Given<'_>,
        settings: &Settings,
    ) -> Result<Self, Vec<Fault>> {
        let missing = check_given(version, given);
        if !missing.is_empty() {
            return Err(missing);
        }
        let (filled, faults) = Self::make(version, given, settings);
        if faults.is_empty() { Ok(filled) } else { Err(faults) }
    }

    /// What a device would get that has something for every variable.
    pub(crate) fn stand_in(version: &Arc<Version>, settings: &Settings) -> Self {
        let variables = version.variables().map(|name| (name.to_owned(), "x".to_owned())).collect();
        let mut secrets = Secrets::default();
        secrets.stand_in(version.secrets());
        let given = Given { endpoint: "endpoint", variables: &variables, secrets: &secrets };
        Self::make(version, &given, settings).0
    }

    fn make(version: &Arc<Version>, given: &Given<'_>, settings: &Settings) -> (Self, Vec<Fault>) {
        let mut faults = Vec::new();
        let body = &version.body;
        let mut uri = |at: &str, text: Option<&String>, scheme| {
            let filled = fill(text?, given);
            if !is_uri(&filled, scheme) {
                faults.push(Fault::new(at, format!("'{filled}' is not {}", uri_form(scheme))));
            }
            Some(filled)
        };
        let server_uri = uri("server_uri", body.server_uri.as_ref(), "coaps");
        let server_uri_nosec = uri("server_uri_nosec", body.server_uri_nosec.as_ref(), "coap");
        let uris: Vec<String> = body
            .servers
            .iter()
            .enumerate()
            .filter_map(|(at, server)| uri(&format!("servers[{at}].uri"), Some(&server.uri), scheme(server)))
            .collect();
        let mut further = Vec::new();
        for (at, (server, uri)) in body.servers.iter().zip(uris).enumerate() {
            let identity = server.identity.as_ref().map(|text| fill(text, given)).unwrap_or_default();
            if server.identity.is_some() && !(1..=MAX_IDENTITY).contains(&identity.len()) {
                let at = format!("servers[{at}].identity");
                faults.push(Fault::new(at, format!("{} bytes: 1 to {MAX_IDENTITY}", identity.len())));
            }
            further.push(account(server, uri, &identity, given, settings, &body.quirks));
        }
        let mut steps: Vec<_> = version.deletes.iter().map(|path| BootstrapStep::Clear(*path)).collect();
        steps.push(BootstrapStep::Account);
        if !further.is_empty() {
            steps.push(BootstrapStep::Further);
        }
        steps.extend((0..).zip(&body.access_control).map(|(instance, access)| rule(instance, access)));
        for (at, written) in version.writes.iter().enumerate() {
            let values = written.filled(given);
            let is_text = |value: &Value| !matches!(value, Value::String(text) if text.len() > LONGEST);
            if !values.iter().all(|(_, value)| is_text(value)) {
                let what = format!("{}: a text of more than {LONGEST} bytes", written.path);
                faults.push(Fault::new(format!("write[{at}].value"), what));
            }
            steps.push(BootstrapStep::Write(written.path, values));
        }
        (Self { version: Arc::clone(version), server_uri, server_uri_nosec, further, steps }, faults)
    }
}

impl Written {
    /// The values of a device; what has no variables is the same for all.
    fn filled(&self, given: &Given<'_>) -> Arc<[(Path, Value)]> {
        if !self.has_variables {
            return Arc::clone(&self.values);
        }
        let value = |value: &Value| match value {
            Value::String(text) => Value::String(fill(text, given)),
            Value::CoreLink(text) => Value::CoreLink(fill(text, given)),
            value => value.clone(),
        };
        self.values.iter().map(|(path, each)| (*path, value(each))).collect()
    }
}

impl Quirks {
    /// Leaves out of an account what the devices do not take.
    pub(crate) fn apply(&self, account: &mut ServerAccount) {
        let is_left_out = |object: u16, resource: u16| {
            self.leave_out.iter().any(|path| *path == format!("/{object}/x/{resource}"))
        };
        account.security.retain(|(resource, value)| {
            let is_empty = matches!(value, Setting::Opaque(bytes) if bytes.is_empty());
            !(is_left_out(0, *resource) || is_empty && self.leave_out_empty)
        });
        account.server.retain(|(resource, _)| !is_left_out(1, *resource));
    }
}

/// A text of a profile with the values in their places, all of which are there.
fn fill(text: &str, given: &Given<'_>) -> String {
    variables::fill(text, given.endpoint, given.variables).unwrap_or_default()
}

const fn scheme(server: &FurtherServer) -> &'static str {
    match server.security {
        FurtherSecurity::Psk => "coaps",
        FurtherSecurity::NoSec => "coap",
    }
}

fn account(
    server: &FurtherServer,
    uri: String,
    identity: &str,
    given: &Given<'_>,
    settings: &Settings,
    quirks: &Quirks,
) -> ServerAccount {
    let id = i64::from(server.short_server_id);
    let opaque = |bytes: &[u8]| Setting::Opaque(Zeroizing::new(bytes.to_vec()));
    let key = server.key.as_deref().and_then(variables::alone).and_then(|name| given.secrets.get(name));
    let mode = match server.security {
        FurtherSecurity::Psk => 0,
        FurtherSecurity::NoSec => 3,
    };
    let binding = server.binding.clone().unwrap_or_else(|| settings.binding.clone());
    let storing = server.notification_storing.unwrap_or(settings.notification_storing);
    let mut account = ServerAccount {
        short_server_id: server.short_server_id,
        security_instance: server.security_instance,
        server_instance: server.server_instance,
        security: vec![
            (0, Setting::Text(uri)),
            (1, Setting::Boolean(false)),
            (2, Setting::Integer(mode)),
            (3, opaque(identity.as_bytes())),
            (4, opaque(b"")),
            (5, opaque(key.map(|key| key.bytes()).unwrap_or_default())),
            (10, Setting::Integer(id)),
        ],
        oscore: Vec::new(),
        server: vec![
            (0, Setting::Integer(id)),
            (1, Setting::Integer(i64::from(server.lifetime.unwrap_or(settings.lifetime)))),
            (6, Setting::Boolean(storing)),
            (7, Setting::Text(binding)),
        ],
    };
    quirks.apply(&mut account);
    account
}

/// An instance of Access Control.
fn rule(instance: u16, access: &AccessControl) -> BootstrapStep {
    let number = |id: Option<u16>| Value::Integer(i64::from(id.unwrap_or(u16::MAX)));
    let at = |resource| Path::resource(2, instance, resource);
    let mut values =
        vec![(at(0), Value::Integer(i64::from(access.object))), (at(1), number(access.instance))];
    values.extend(access.acl.iter().filter_map(|(id, rights)| {
        let bits = rights.iter().fold(0, |bits, right| bits | right.bit());
        Some((Path::resource_instance(2, instance, 2, id.parse().ok()?), Value::Integer(bits)))
    }));
    values.push((at(3), number(access.owner)));
    // By resource instances, which are numbers, not texts.
    values.sort_by_key(|(path, _)| *path);
    BootstrapStep::Write(Path::instance(2, instance), values.into())
}
