//! Whether a profile can be carried out, before any device follows it.
//!
//! Invariants: everything that is wrong is told at once, each thing with its place; no fault repeats what may be a key.

use std::collections::BTreeSet;
use std::sync::Arc;

use lwm2m_objects::{Kind, defs};

use super::body::{AccessControl, Body, Discover, FurtherSecurity, FurtherServer, Right, WriteItem};
use super::variables::{self, ENDPOINT, LONGEST as LONGEST_VALUE, MOST as MOST_VARIABLES, Piece};
use super::{Fault, LONGEST, Secrets, Variables, Version, Written};
use crate::api::values::{self, Types};
use crate::credentials::MAX_IDENTITY;
use crate::models::Model;
use crate::{Path, Value};

/// The most accounts of other servers.
const MOST_SERVERS: usize = 16;
/// The most instances of Access Control, and the most objects and instances to delete.
const MOST_PATHS: usize = 64;
/// The most writes.
const MOST_WRITES: usize = 256;
/// The longest text in bytes.
const LONGEST_TEXT: usize = 1024;
/// What accounts may leave out: resources that came with 1.1, and that have a default.
const OPTIONAL: [&str; 7] = ["/0/x/13", "/0/x/14", "/0/x/15", "/1/x/17", "/1/x/18", "/1/x/19", "/1/x/20"];

/// What a device is given for its profile.
#[derive(Debug)]
pub(crate) struct Given<'g> {
    pub(crate) endpoint: &'g str,
    pub(crate) variables: &'g Variables,
    pub(crate) secrets: &'g Secrets,
}

pub(super) fn check(body: Body, types: &Types, ours: u16) -> Result<Version, Vec<Fault>> {
    let mut faults = Faults::default();
    let counts = [
        ("servers", body.servers.len(), MOST_SERVERS),
        ("access_control", body.access_control.len(), MOST_PATHS),
        ("delete", body.delete.len(), MOST_PATHS),
        ("write", body.write.len(), MOST_WRITES),
    ];
    for (at, count, most) in counts {
        faults.unless(count <= most, at, format!("{count} of them: at most {most}"));
    }
    let size = serde_json::to_vec(&body).map_or(usize::MAX, |bytes| bytes.len());
    faults.unless(size <= LONGEST, "", format!("it takes {size} bytes: at most {LONGEST}"));
    // What is beyond its bounds is not looked at any further.
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    faults.of_account(&body);
    for (at, server) in body.servers.iter().enumerate() {
        faults.of_server(&format!("servers[{at}]"), server, &body, ours);
    }
    let ids: BTreeSet<u16> = body.servers.iter().map(|server| server.short_server_id).chain([ours]).collect();
    for (at, access) in body.access_control.iter().enumerate() {
        faults.of_access(&format!("access_control[{at}]"), access, &ids);
        let is_same =
            |other: &AccessControl| (other.object, other.instance) == (access.object, access.instance);
        faults.unless(
            !body.access_control.iter().take(at).any(is_same),
            format!("access_control[{at}]"),
            "another one is about the same",
        );
    }
    let is_blind = body.discover == Discover::Never;
    let (version, more) = parse(body, types);
    faults.0.extend(more);
    for (at, path) in version.body.delete.iter().enumerate() {
        if let Ok(path) = path.parse() {
            faults.of_delete(&format!("delete[{at}]"), path, is_blind);
        }
    }
    for (at, item) in version.body.write.iter().enumerate() {
        let at = format!("write[{at}]");
        let path = item.path.parse().map(whole);
        if let Some(written) = version.writes.iter().find(|written| path == Ok(written.path)) {
            faults.of_write(&at, item, written, types);
        }
    }
    if faults.0.is_empty() { Ok(version) } else { Err(faults.0) }
}

/// What is read of a profile that is good.
pub(super) fn compile(body: Body, types: &Types) -> Result<Version, Vec<Fault>> {
    let (version, faults) = parse(body, types);
    if faults.is_empty() { Ok(version) } else { Err(faults) }
}

/// A profile with its paths and values read, and with the type of each value said, as far as that can be done.
fn parse(mut body: Body, types: &Types) -> (Version, Vec<Fault>) {
    let mut faults = Faults::default();
    let mut names = Names::default();
    let mut deletes: Vec<Path> = Vec::new();
    for (at, path) in body.delete.iter().enumerate() {
        let at = format!("delete[{at}]");
        let Some(path) = path.parse().ok().filter(|path: &Path| (1..=2).contains(&path.ids().len())) else {
            faults.add(at, "the path of an object or instance, as /3303 or /3303/0");
            continue;
        };
        let is_again = |other: &Path| path.starts_with(*other) || other.starts_with(path);
        faults.unless(!deletes.iter().any(is_again), at, format!("{path} is deleted twice"));
        deletes.push(path);
    }
    let mut writes: Vec<Written> = Vec::new();
    for (at, item) in body.write.iter_mut().enumerate() {
        let at = format!("write[{at}]");
        let Ok(path) = item.path.parse::<Path>() else {
            faults.add(format!("{at}.path"), "the path of an instance, resource or resource instance");
            continue;
        };
        let values = match values::parse_write(types, &path, &item.value) {
            Ok(values) if values.is_empty() => Err("it writes nothing".to_owned()),
            Ok(values) => Ok(values),
            Err(problem) => Err(problem.into_detail()),
        };
        let values = match values {
            Ok(values) => values,
            Err(what) => {
                faults.add(format!("{at}.value"), what);
                continue;
            }
        };
        item.value = values::emit_write(&path, &values);
        // A Bootstrap-Write goes to nothing below a resource.
        let path = whole(path);
        let is_again = |other: &Written| path.starts_with(other.path) || other.path.starts_with(path);
        faults.unless(
            !writes.iter().any(is_again),
            format!("{at}.path"),
            format!("{path} is written twice: one write has all of its values"),
        );
        let mut has_variables = false;
        for (_, value) in &values {
            if let Value::String(text) | Value::CoreLink(text) = value {
                has_variables |= names.of(&mut faults, &format!("{at}.value"), text);
            }
        }
        writes.push(Written { path, values: Arc::from(values), has_variables });
    }
    for (at, text) in [("server_uri", &body.server_uri), ("server_uri_nosec", &body.server_uri_nosec)] {
        names.of(&mut faults, at, text.as_deref().unwrap_or_default());
    }
    for (at, server) in body.servers.iter().enumerate() {
        names.of(&mut faults, &format!("servers[{at}].uri"), &server.uri);
        let identity = server.identity.as_deref().unwrap_or_default();
        names.of(&mut faults, &format!("servers[{at}].identity"), identity);
        if let Some(name) = server.key.as_deref().and_then(variables::alone) {
            names.secrets.insert(name.to_owned());
        }
    }
    if let Some(both) = names.texts.intersection(&names.secrets).next() {
        faults.add(
            "",
            format!("the variable {both} is that of a key, and stands in a text: a key is in no text"),
        );
    }
    let is_endpoint = names.secrets.contains(ENDPOINT);
    faults.unless(!is_endpoint, "", "the variable endpoint is the name of the device, and no key");
    let Names { texts: variables, secrets } = names;
    let version = Version { number: 0, created_ms: 0, body, deletes, writes, variables, secrets, size: 0 };
    (version, faults.0)
}

/// The path of the resource, of what is below one.
fn whole(path: Path) -> Path {
    path.parent().filter(|_| path.resource_instance_id().is_some()).unwrap_or(path)
}

#[derive(Default)]
struct Names {
    texts: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

impl Names {
    /// Takes in the variables of a text; whether there are any.
    fn of(&mut self, faults: &mut Faults, at: &str, text: &str) -> bool {
        match variables::pieces(text) {
            Err(what) => {
                faults.add(at, what);
                false
            }
            Ok(pieces) => {
                self.texts.extend(pieces.iter().filter_map(|piece| match piece {
                    Piece::Variable(name) => Some((*name).to_owned()),
                    Piece::Text(_) => None,
                }));
                pieces.len() > 1
            }
        }
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.0.push(Fault::new(at, what));
    }

    fn unless(&mut self, is_good: bool, at: impl Into<String>, what: impl Into<String>) {
        if !is_good {
            self.add(at, what);
        }
    }

    fn of_account(&mut self, body: &Body) {
        let is_plain = |character: char| !character.is_control() || character == '\n';
        self.unless(
            body.description.len() <= LONGEST_TEXT && body.description.chars().all(is_plain),
            "description",
            "at most 1024 bytes without control characters",
        );
        self.of_uri("server_uri", body.server_uri.as_deref(), "coaps");
        self.of_uri("server_uri_nosec", body.server_uri_nosec.as_deref(), "coap");
        self.of_binding("binding", body.binding.as_deref());
        self.of_instance("security_instance", body.security_instance);
        self.of_instance("server_instance", body.server_instance);
        self.unless(body.certificate_usage.is_none_or(|usage| usage <= 3), "certificate_usage", "0 to 3");
        for (at, path) in body.quirks.leave_out.iter().enumerate() {
            self.unless(
                OPTIONAL.contains(&path.as_str()),
                format!("quirks.leave_out[{at}]"),
                format!("no account is without it: one of {}", OPTIONAL.join(", ")),
            );
        }
    }

    fn of_server(&mut self, at: &str, server: &FurtherServer, body: &Body, ours: u16) {
        let id = server.short_server_id;
        self.unless((1..u16::MAX).contains(&id), format!("{at}.short_server_id"), "1 to 65534");
        self.unless(id != ours, format!("{at}.short_server_id"), format!("{id} is that of this server"));
        let is_before = |other: &&FurtherServer| !core::ptr::eq(*other, server);
        let before = || body.servers.iter().take_while(is_before);
        self.unless(
            before().all(|other| other.short_server_id != id),
            format!("{at}.short_server_id"),
            format!("another server of the profile has {id}"),
        );
        let (is_psk, scheme) = match server.security {
            FurtherSecurity::Psk => (true, "coaps"),
            FurtherSecurity::NoSec => (false, "coap"),
        };
        self.of_uri(&format!("{at}.uri"), Some(&server.uri), scheme);
        match &server.identity {
            Some(identity) => {
                self.unless(is_psk, format!("{at}.identity"), "without security there is none");
                self.unless(
                    (1..=MAX_IDENTITY).contains(&identity.len()) || has_variables(identity),
                    format!("{at}.identity"),
                    "1 to 128 bytes",
                );
            }
            None => self.unless(!is_psk, format!("{at}.identity"), "it is missing"),
        }
        match &server.key {
            Some(key) => {
                self.unless(is_psk, format!("{at}.key"), "without security there is none");
                // What stands there may be one.
                self.unless(
                    variables::alone(key).is_some(),
                    format!("{at}.key"),
                    "a profile holds no key, but the name of a secret variable: ${name}",
                );
            }
            None => self.unless(!is_psk, format!("{at}.key"), "it is missing"),
        }
        self.of_binding(&format!("{at}.binding"), server.binding.as_deref());
        for (name, instance, of_ours, of_others) in [
            (
                "security_instance",
                server.security_instance,
                body.security_instance.unwrap_or(1),
                before().filter_map(|other| other.security_instance).collect::<Vec<_>>(),
            ),
            (
                "server_instance",
                server.server_instance,
                body.server_instance.unwrap_or(0),
                before().filter_map(|other| other.server_instance).collect(),
            ),
        ] {
            let at = format!("{at}.{name}");
            self.of_instance(&at, instance);
            let Some(instance) = instance else { continue };
            self.unless(instance != of_ours, &at, format!("{instance} is that of this server"));
            self.unless(
                !of_others.contains(&instance),
                &at,
                format!("{instance} is that of another server of the profile"),
            );
        }
    }

    fn of_access(&mut self, at: &str, access: &AccessControl, ids: &BTreeSet<u16>) {
        self.unless(
            (1..u16::MAX).contains(&access.object) && access.object != 2,
            format!("{at}.object"),
            "1 to 65534, and not Access Control itself",
        );
        self.of_instance(&format!("{at}.instance"), access.instance);
        let of_profile = || {
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            format!("the Short Server ID of this server or another one of the profile: {}", ids.join(", "))
        };
        self.unless(
            access.owner.is_none_or(|owner| ids.contains(&owner)),
            format!("{at}.owner"),
            of_profile(),
        );
        for (id, rights) in &access.acl {
            let at = format!("{at}.acl.{id}");
            let is_known = id.parse().is_ok_and(|id: u16| id == 0 || ids.contains(&id));
            self.unless(is_known, &at, format!("0 for all others, or {}", of_profile()));
            // Core 1.2.1 §7.3: Create is a matter of the object, everything else one of its instances.
            let is_create = |right: &Right| *right == Right::Create;
            match access.instance {
                Some(_) => self.unless(
                    !rights.iter().any(is_create),
                    at,
                    "create is a right at an object: leave instance out",
                ),
                None => self.unless(
                    rights.iter().all(is_create),
                    at,
                    "at an object create is the only right: name an instance",
                ),
            }
        }
    }

    fn of_delete(&mut self, at: &str, path: Path, is_blind: bool) {
        match path.object_id() {
            Some(0 | 21) => self.unless(
                !is_blind,
                at,
                "written blind, nobody knows which instance is the bootstrap account, which is never deleted",
            ),
            Some(23 | 24) => self.add(at, "it may belong to the bootstrap account, which is never deleted"),
            Some(3) => self.add(at, "no device is without it"),
            _ => {}
        }
    }

    fn of_write(&mut self, at: &str, item: &WriteItem, written: &Written, types: &Types) {
        let Some(object) = written.path.object_id() else { return };
        if matches!(object, 0 | 1 | 21 | 23 | 24) {
            return self
                .add(format!("{at}.path"), "accounts are written by what the profile says of servers");
        }
        if object == 2 {
            return self.add(format!("{at}.path"), "Access Control is written by access_control");
        }
        let model = types.model(object);
        if let Some(model) = model {
            let instance = written.path.instance_id().unwrap_or_default();
            self.unless(
                model.multiple || instance == 0,
                format!("{at}.path"),
                format!("object {object} has one instance, {object}/0"),
            );
        } else if !item.unchecked {
            return self.add(
                format!("{at}.path"),
                format!("object {object} is not known here: add its definition, or say \"unchecked\": true"),
            );
        }
        for (path, value) in &*written.values {
            let what = match (model, path.resource_id()) {
                (Some(model), Some(resource)) => unfit(model, resource, *path, value, item.unchecked),
                _ => None,
            };
            if let Some(what) = what {
                self.add(format!("{at}.value"), format!("{path}: {what}"));
            }
        }
    }

    fn of_uri(&mut self, at: &str, uri: Option<&str>, scheme: &str) {
        let is_good = uri.is_none_or(|uri| has_variables(uri) || is_uri(uri, scheme));
        self.unless(is_good, at, uri_form(scheme));
    }

    fn of_binding(&mut self, at: &str, binding: Option<&str>) {
        self.unless(binding.is_none_or(is_binding), at, "letters of U, Q, T, S, N, M, H");
    }

    fn of_instance(&mut self, at: &str, instance: Option<u16>) {
        self.unless(instance != Some(u16::MAX), at, "0 to 65534");
    }
}

/// What is wrong with a value of an object that is known.
fn unfit(model: &Model, resource: u16, path: Path, value: &Value, is_unchecked: bool) -> Option<String> {
    // What a definition says never counts for what is secret.
    if defs::secrets(model.id).is_some_and(|secrets| secrets.contains(&resource)) {
        return Some("it is a secret, and a profile holds none".to_owned());
    }
    let Some(defined) = model.resource(resource) else {
        let what =
            "the resource is not known here: add the definition that has it, or say \"unchecked\": true";
        return (!is_unchecked).then(|| what.to_owned());
    };
    if defined.kind == Kind::Nothing {
        return Some("it is executed, and has no value".to_owned());
    }
    let (kind, wanted) = (values::emit(value).0, values::name(defined.kind));
    if wanted != Some(kind) {
        return Some(format!("it is of type {}, not {kind}", wanted.unwrap_or_default()));
    }
    if path.resource_instance_id().is_some() && !defined.multiple {
        return Some("it has no resource instances".to_owned());
    }
    if path.resource_instance_id().is_none() && defined.multiple {
        return Some("it has resource instances: {\"values\": {\"0\": …}}".to_owned());
    }
    let is_text_with_variables = matches!(value, Value::String(text) if has_variables(text));
    let built_in = defs::definition(model.id).and_then(|definition| definition.resource(resource));
    let is_within = built_in
        .is_none_or(|built_in| built_in.kind != defined.kind || built_in.holds(&value.borrowed()))
        && is_within(&defined.range, value);
    let range = match built_in {
        Some(built_in) => format!("{} to {}", built_in.range.0, built_in.range.1),
        None => defined.range.to_string(),
    };
    (!is_within && !is_text_with_variables).then(|| format!("it is out of its range, {range}"))
}

/// Whether a number is in a range of the registry, as `0..100`; what is written otherwise is not judged.
fn is_within(range: &str, value: &Value) -> bool {
    let bounds = range.trim().split_once("..").or_else(|| range.trim().split_once('-'));
    let bound = |text: &str| text.trim().trim_matches('.').parse::<f64>().ok();
    let Some((least, greatest)) = bounds.and_then(|(least, greatest)| bound(least).zip(bound(greatest)))
    else {
        return true;
    };
    let value = match value {
        #[expect(clippy::cast_precision_loss, reason = "compared with bounds that are floats")]
        Value::Integer(value) | Value::Time(value) => *value as f64,
        #[expect(clippy::cast_precision_loss, reason = "compared with bounds that are floats")]
        Value::Unsigned(value) => *value as f64,
        Value::Float(value) => *value,
        _ => return true,
    };
    (least..=greatest).contains(&value)
}

/// Whether variables and secrets of a device are those that a version needs.
pub(crate) fn check_given(version: &Version, given: &Given<'_>) -> Vec<Fault> {
    let mut faults = Faults::default();
    let bound = format!("at most {MOST_VARIABLES} of them");
    faults.unless(given.variables.len() <= MOST_VARIABLES, "variables", &bound);
    faults.unless(given.secrets.names().count() <= MOST_VARIABLES, "secrets", &bound);
    for (name, value) in given.variables {
        let is_used = version.variables().any(|other| other == name);
        let what = "it stands in no text of this version of the profile";
        faults.unless(is_used, format!("variables.{name}"), what);
        let is_value = value.len() <= LONGEST_VALUE && !value.chars().any(char::is_control);
        let what = "at most 255 bytes without control characters";
        faults.unless(is_value, format!("variables.{name}"), what);
    }
    for name in given.secrets.names().filter(|name| !version.has_secret(name)) {
        faults.add(format!("secrets.{name}"), "no server of this version of the profile has it as its key");
    }
    for name in version.variables().filter(|name| !given.variables.contains_key(*name)) {
        faults.add(format!("variables.{name}"), "the profile needs it");
    }
    for name in version.secrets().filter(|name| given.secrets.get(name).is_none()) {
        faults.add(format!("secrets.{name}"), "the profile needs it");
    }
    faults.0
}

fn has_variables(text: &str) -> bool {
    text.contains("${")
}

/// Whether a text is a URI of a scheme with a host.
pub(crate) fn is_uri(uri: &str, scheme: &str) -> bool {
    let Some(rest) = uri.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or((!port.is_empty()).then_some("?"))),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    !host.is_empty()
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
        && uri.len() <= 255
        && !uri.chars().any(|each| each.is_control() || each.is_whitespace())
}

pub(super) fn uri_form(scheme: &str) -> String {
    format!("{scheme}://HOST[:PORT], at most 255 bytes")
}

/// Whether a text is a binding: letters of all versions.
pub(crate) fn is_binding(binding: &str) -> bool {
    (1..=8).contains(&binding.len()) && binding.bytes().all(|letter| b"UQTSNMH".contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_the_scheme_that_is_wanted_and_a_host() {
        for (uri, scheme, is_good) in [
            ("coaps://a.example", "coaps", true),
            ("coaps://a.example:5684", "coaps", true),
            ("coaps://[2001:db8::1]:5684", "coaps", true),
            ("coaps://[2001:db8::1]", "coaps", true),
            ("coap://192.0.2.1:5683/path", "coap", true),
            ("coaps://a.example", "coap", false),
            ("coap://a.example", "coaps", false),
            ("coaps://", "coaps", false),
            ("coaps://:5684", "coaps", false),
            ("coaps:///path", "coaps", false),
            ("coaps://a.example:", "coaps", false),
            ("coaps://a.example:65536", "coaps", false),
            ("coaps://[]:1", "coaps", false),
            ("coaps://[::1]5684", "coaps", false),
            ("coaps://a example", "coaps", false),
            ("a.example", "coaps", false),
        ] {
            assert_eq!(is_uri(uri, scheme), is_good, "{uri}");
        }
        assert!(!is_uri(&format!("coaps://{}", "a".repeat(250)), "coaps"));
    }

    #[test]
    fn a_range_of_the_registry_bounds_numbers_and_what_is_no_range_bounds_nothing() {
        for (range, value, is_good) in [
            ("0..100", Value::Integer(100), true),
            ("0..100", Value::Integer(101), false),
            ("0-100", Value::Unsigned(101), false),
            ("-1.5..1.5", Value::Float(-2.0), false),
            ("-1.5..1.5", Value::Float(1.0), true),
            ("1...5", Value::Integer(6), false),
            ("", Value::Integer(7), true),
            ("any text - or none", Value::Integer(7), true),
            ("0..1", Value::String("long".to_owned()), true),
        ] {
            assert_eq!(is_within(range, &value), is_good, "{range} {value:?}");
        }
    }
}
