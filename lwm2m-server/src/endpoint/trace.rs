//! The messages of devices as support wants to see them: CoAP as it was before encryption and after decryption, and what
//! it means in LwM2M, without secrets.
//!
//! Invariants: nothing is copied while nobody looks. A payload is shown as values, each at its path, as the paths that it names,
//! or as bytes where nothing at or below the paths it belongs to may be secret; else neither it nor its length is.

use std::collections::VecDeque;
use std::sync::Arc;

use lwm2m_coap::{Instant, Message, Token, udp};
use lwm2m_objects::format::{Item, Items};
use lwm2m_objects::{Content, Format, Kind, Operation, Path, Paths, Target, WriteMode, defs, mapping};

use crate::Value;
use crate::credentials::Role;

use super::Endpoint;
use super::association::{Association, Who};
use super::content;
use super::registry::Registration;

/// One CoAP message on its way to or from a device.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Packet {
    /// Milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Endpoint client name; `None` before it is proven or, without security, admitted.
    pub endpoint: Option<Arc<str>>,
    /// Which of the two servers it talks to.
    pub role: Role,
    /// Whether it goes through a DTLS session, or is under OSCORE.
    pub secure: bool,
    /// Address and port of the device, as text.
    pub address: String,
    /// Which way it goes.
    pub direction: Direction,
    /// The message (RFC 7252 §3) up to its payload. Of what is no CoAP message the first four bytes at most.
    pub bytes: Arc<[u8]>,
    /// The operation that a request asks for or a response answers, by its name in LwM2M Core 1.2.1 §6; `None` where that
    /// is not known, as of an answer to what was asked before anybody looked.
    pub operation: Option<&'static str>,
    /// Where in the data model of the device it belongs.
    pub path: Option<Path>,
    /// What it carries.
    pub payload: Payload,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device to this server.
    FromDevice,
    /// From this server to the device.
    ToDevice,
}

/// What a message carries, as far as it may be shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// Nothing.
    Empty,
    /// Link-format, a diagnostic text, arguments; or what cannot be read and may not be secret, as a block of many.
    Bytes(Arc<[u8]>),
    /// The places that a composite operation names.
    Paths(Arc<[Path]>),
    /// Values at their paths. `None` stands for one that is secret, or may be because the object is not known here.
    Values(Arc<[(Path, Option<Value>)]>),
    /// It may hold a secret and cannot be read, or it answers what is not known.
    Withheld,
}

/// What a request to a device asked for, which its answer does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    operation: &'static str,
    path: Option<Path>,
    /// Whether link-format was asked for, which holds no values.
    is_discover: bool,
    /// Whether a text in the answer may be shown: a device may quote there what was written, or what it has at the place.
    is_quotable: bool,
}

/// The longest diagnostic text that is shown, in characters.
const LONGEST_TEXT: usize = 256;

/// What was traced and not fetched yet.
#[derive(Debug)]
pub(crate) struct Trace {
    /// `None` when nobody looks.
    packets: Option<VecDeque<Packet>>,
}

impl Trace {
    pub(crate) const fn new() -> Self {
        Self { packets: None }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.packets.is_some()
    }

    /// Keeps a message; `device` is the registration it belongs to. Of a request to a device the answer is what it asks.
    pub(crate) fn record(
        &mut self,
        now: Instant,
        association: &Association,
        device: Option<&Registration>,
        direction: Direction,
        bytes: Option<&[u8]>,
    ) -> Option<Asked> {
        let (Some(packets), Some(bytes)) = (&mut self.packets, bytes) else { return None };
        let role = association.local.role();
        let prefix = device.and_then(|device| device.objects.prefix.as_deref());
        let parsed = udp::parse(bytes).ok();
        let (asked, payload) = match &parsed {
            None => (None, Payload::Withheld),
            Some((_, message)) if message.code.is_request() => match direction {
                Direction::FromDevice => from_device(message, prefix),
                // Nothing is asked of a device that is not registered.
                Direction::ToDevice if role == Role::Management && device.is_none() => {
                    (None, unless_empty(message))
                }
                Direction::ToDevice => to_device(message, role, prefix),
            },
            Some((_, message)) if direction == Direction::ToDevice => (None, said(message)),
            Some((_, message)) => {
                let asked = asked(association, device, message.token);
                (asked, answered(asked, message, prefix))
            }
        };
        packets.push_back(Packet {
            at: now.as_millis(),
            endpoint: association.who.as_ref().map(Who::endpoint).cloned(),
            role,
            secure: !association.is_without_security(),
            address: association.address.to_string(),
            direction,
            bytes: head(bytes, parsed.as_ref().map(|(_, message)| message)).into(),
            operation: asked.map(|asked| asked.operation),
            path: asked.and_then(|asked| asked.path),
            payload,
        });
        asked
    }
}

/// A message without its payload.
fn head<'b>(bytes: &'b [u8], message: Option<&Message<'_>>) -> &'b [u8] {
    let length = match message {
        None => bytes.len().min(HEADER),
        Some(message) if message.payload.is_empty() => bytes.len(),
        // The marker in front of the payload goes with it.
        Some(message) => bytes.len().saturating_sub(message.payload.len()).saturating_sub(1),
    };
    bytes.get(..length).unwrap_or_default()
}

/// Tells of messages that were seen elsewhere, at the device, as the trace of a server tells of its own.
#[derive(Debug)]
pub struct Watcher {
    endpoint: Arc<str>,
    secure: bool,
    /// What servers asked last, by the token.
    asked: VecDeque<(Vec<u8>, Asked)>,
}

/// Questions of servers that are remembered: those under way, and observations.
const REMEMBERED: usize = 64;

impl Watcher {
    /// Watches a device without an alternate path.
    #[must_use]
    pub fn new(endpoint: &str, secure: bool) -> Self {
        Self { endpoint: endpoint.into(), secure, asked: VecDeque::new() }
    }

    /// A message as it was before encryption or after decryption, at this time in milliseconds since 1970.
    pub fn see(&mut self, at: u64, role: Role, direction: Direction, bytes: &[u8]) -> Packet {
        let parsed = udp::parse(bytes).ok();
        let (asked, payload) = match &parsed {
            None => (None, Payload::Withheld),
            Some((_, message)) if message.code.is_request() => match direction {
                Direction::FromDevice => from_device(message, None),
                Direction::ToDevice => {
                    let (asked, payload) = to_device(message, role, None);
                    self.remember(message.token, asked);
                    (asked, payload)
                }
            },
            Some((_, message)) if direction == Direction::ToDevice => (None, said(message)),
            Some((_, message)) => {
                let token = message.token.bytes();
                let asked =
                    self.asked.iter().rev().find(|(other, _)| other == token).map(|(_, asked)| *asked);
                (asked, answered(asked, message, None))
            }
        };
        Packet {
            at,
            endpoint: Some(Arc::clone(&self.endpoint)),
            role,
            secure: self.secure,
            address: String::new(),
            direction,
            bytes: head(bytes, parsed.as_ref().map(|(_, message)| message)).into(),
            operation: asked.map(|asked| asked.operation),
            path: asked.and_then(|asked| asked.path),
            payload,
        }
    }

    fn remember(&mut self, token: Token, asked: Option<Asked>) {
        let Some(asked) = asked else { return };
        self.asked.retain(|(other, _)| other != token.bytes());
        if self.asked.len() >= REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back((token.bytes().to_vec(), asked));
    }
}

/// Version, type, code and message id.
const HEADER: usize = 4;

impl Endpoint {
    /// Turns the trace on or off; what was not fetched is gone when it is turned off.
    pub fn set_trace(&mut self, is_on: bool) {
        match is_on {
            true => drop(self.trace.packets.get_or_insert_default()),
            false => self.trace.packets = None,
        }
    }

    /// The next message of the trace. Call until `None`.
    pub fn poll_packet(&mut self) -> Option<Packet> {
        let packet = self.trace.packets.as_mut()?.pop_front()?;
        Some(Packet { at: self.wall_clock(Instant::from_millis(packet.at)), ..packet })
    }
}

/// A request of a device.
fn from_device(message: &Message<'_>, prefix: Option<&str>) -> (Option<Asked>, Payload) {
    let Ok(operation) = mapping::registration(message) else { return (None, unless_empty(message)) };
    let is_list = message.options.content_format().is_none_or(|format| Format(format.0) == Format::LINK);
    let payload = match operation {
        Operation::Register { .. } | Operation::Update { .. } if is_list => shown(message.payload),
        Operation::Send { content } => values(&Target { prefix, path: Path::ROOT }, content, message),
        _ => unless_empty(message),
    };
    (Some(describe(&operation)), payload)
}

/// A request to a device.
fn to_device(message: &Message<'_>, role: Role, prefix: Option<&str>) -> (Option<Asked>, Payload) {
    let operation = match role {
        Role::Bootstrap => mapping::bootstrap(message),
        Role::Management => mapping::management(message, prefix.unwrap_or_default()),
    };
    let Ok(operation) = operation else { return (None, unless_empty(message)) };
    let payload = match operation {
        Operation::BootstrapWrite { path, content } => values(&path.into(), content, message),
        Operation::Write { target, content, .. } | Operation::Create { target, content } => {
            values(&target, content, message)
        }
        Operation::WriteComposite { prefix, content } => {
            values(&Target { prefix, path: Path::ROOT }, content, message)
        }
        // Names, and no values.
        Operation::ReadComposite { ref paths, .. }
        | Operation::ObserveComposite { ref paths, .. }
        | Operation::CancelObservationComposite { ref paths, .. } => match named(paths) {
            Some(paths) => Payload::Paths(paths.into()),
            None => shown(message.payload),
        },
        Operation::Execute { target, .. } if is_harmless(target.path) => shown(message.payload),
        _ => unless_empty(message),
    };
    (Some(describe(&operation)), payload)
}

/// What a response of the device answers: the request in flight, or an observation.
fn asked(association: &Association, device: Option<&Registration>, token: Token) -> Option<Asked> {
    let active = association.passing.downlink().and_then(|downlink| downlink.active.as_ref());
    if let Some(active) = active.filter(|active| active.token == token) {
        return active.asked;
    }
    let observation = device?.observations.iter().find(|observation| observation.token == token)?;
    let is_quotable = observation.what.paths().iter().copied().all(is_harmless);
    Some(Asked { operation: "Notify", path: Some(observation.what.path()), is_discover: false, is_quotable })
}

/// The payload of a response of a device.
fn answered(asked: Option<Asked>, message: &Message<'_>, prefix: Option<&str>) -> Payload {
    let Some(Asked { path: Some(path), is_discover, is_quotable, .. }) = asked else {
        return unless_empty(message);
    };
    let format = message.options.content_format().map_or(Format::TEXT, |format| Format(format.0));
    match message.code.is_success() {
        true if is_discover && format == Format::LINK => shown(message.payload),
        true => {
            let content = Content { format, payload: message.payload };
            values(&Target { prefix, path }, content, message)
        }
        // RFC 7252 §5.5.2: the payload of an error is a text.
        false if format == Format::TEXT && (is_discover || is_quotable) => diagnostic(message.payload),
        false => unless_empty(message),
    }
}

/// A diagnostic text of a device, as far as it can be printed.
fn diagnostic(payload: &[u8]) -> Payload {
    let Ok(text) = core::str::from_utf8(payload) else { return Payload::Withheld };
    let is_printable = |c: &char| c.is_alphanumeric() || c.is_ascii_punctuation();
    let printed = text.chars().take(LONGEST_TEXT).map(|c| if is_printable(&c) { c } else { ' ' });
    shown(printed.collect::<String>().as_bytes())
}

/// The places that a list names, if it can be read.
fn named(paths: &Paths<'_>) -> Option<Vec<Path>> {
    let mut named = Vec::new();
    paths
        .try_for_each(&mut |path| {
            named.push(path);
            Ok(())
        })
        .ok()?;
    Some(named)
}

/// The payload of a response of this server: the diagnostic text of a refusal.
fn said(message: &Message<'_>) -> Payload {
    match message.code.class() {
        4 | 5 => shown(message.payload),
        _ => unless_empty(message),
    }
}

/// The values of a payload.
fn values(target: &Target<'_>, content: Content<'_>, message: &Message<'_>) -> Payload {
    if content.payload.is_empty() {
        return Payload::Empty;
    }
    let is_block = |block| !matches!(block, Ok(None));
    let is_whole = ![message.options.block1(), message.options.block2()].into_iter().any(is_block);
    match read(target, content) {
        Ok(values) if is_whole => Payload::Values(values.into()),
        _ if is_harmless(target.path) => shown(content.payload),
        _ => Payload::Withheld,
    }
}

fn read(
    target: &Target<'_>,
    content: Content<'_>,
) -> Result<Vec<(Path, Option<Value>)>, lwm2m_objects::Error> {
    let mut values = Vec::new();
    for item in Items::new(target, content)? {
        let item = item?;
        if let Some(value) = content::value(known_kind, &item) {
            let is_public = is_public(item.path, &value);
            values.push((item.path, is_public.then_some(value)));
        }
    }
    Ok(values)
}

/// The type of a resource of an object of which is known what is secret. What else an operator may have defined counts here as
/// unknown: a definition does not say what is secret.
fn known_kind(object: u16, resource: u16) -> Option<Kind> {
    Some(defs::definition(object)?.resource(resource)?.kind)
}

/// Whether a value may be shown. Of an object that is not known here numbers may, texts and bytes may not.
fn is_public(path: Path, value: &Value) -> bool {
    let (Some(object), Some(resource)) = (path.object_id(), path.resource_id()) else { return false };
    match defs::secrets(object) {
        Some(secrets) => !secrets.contains(&resource),
        None => !matches!(value, Value::String(_) | Value::Opaque(_) | Value::CoreLink(_)),
    }
}

/// Whether nothing at or below a path can be secret.
fn is_harmless(path: Path) -> bool {
    let secrets = path.object_id().and_then(defs::secrets);
    secrets.is_some_and(|secrets| match path.resource_id() {
        Some(resource) => !secrets.contains(&resource),
        None => secrets.is_empty(),
    })
}

fn shown(payload: &[u8]) -> Payload {
    if payload.is_empty() { Payload::Empty } else { Payload::Bytes(payload.into()) }
}

fn unless_empty(message: &Message<'_>) -> Payload {
    if message.payload.is_empty() { Payload::Empty } else { Payload::Withheld }
}

/// The operation by its name.
fn describe(asked: &Operation<'_>) -> Asked {
    let (operation, path) = match *asked {
        Operation::BootstrapRequest { .. } => ("Bootstrap-Request", None),
        Operation::BootstrapWrite { path, .. } => ("Bootstrap-Write", Some(path)),
        Operation::BootstrapDiscover { path } => ("Bootstrap-Discover", Some(path)),
        Operation::BootstrapRead { path, .. } => ("Bootstrap-Read", Some(path)),
        Operation::BootstrapDelete { path } => ("Bootstrap-Delete", Some(path)),
        Operation::BootstrapFinish => ("Bootstrap-Finish", None),
        Operation::Register { .. } => ("Register", None),
        Operation::Update { .. } => ("Update", None),
        Operation::Deregister { .. } => ("De-register", None),
        Operation::Read { target, .. } => ("Read", Some(target.path)),
        Operation::Discover { target, .. } => ("Discover", Some(target.path)),
        Operation::Write { target, mode: WriteMode::Replace, .. } => ("Write", Some(target.path)),
        Operation::Write { target, mode: WriteMode::Partial, .. } => {
            ("Write (partial update)", Some(target.path))
        }
        Operation::WriteAttributes { target, .. } => ("Write-Attributes", Some(target.path)),
        Operation::Execute { target, .. } => ("Execute", Some(target.path)),
        Operation::Create { target, .. } => ("Create", Some(target.path)),
        Operation::Delete { target } => ("Delete", Some(target.path)),
        Operation::Observe { target, .. } => ("Observe", Some(target.path)),
        Operation::CancelObservation { target, .. } => ("Cancel Observation", Some(target.path)),
        Operation::ReadComposite { .. } => ("Read-Composite", Some(Path::ROOT)),
        Operation::WriteComposite { .. } => ("Write-Composite", Some(Path::ROOT)),
        Operation::ObserveComposite { .. } => ("Observe-Composite", Some(Path::ROOT)),
        Operation::CancelObservationComposite { .. } => ("Cancel Observation-Composite", Some(Path::ROOT)),
        Operation::Send { .. } => ("Send", Some(Path::ROOT)),
        _ => ("", None),
    };
    let is_discover = matches!(operation, "Discover" | "Bootstrap-Discover");
    Asked { operation, path, is_discover, is_quotable: is_quotable(asked, path) }
}

/// Whether nothing may be secret of what an operation is about.
fn is_quotable(operation: &Operation<'_>, path: Option<Path>) -> bool {
    match *operation {
        // Keys may have been written with it, or before.
        Operation::BootstrapWrite { .. } => false,
        Operation::ReadComposite { ref paths, .. }
        | Operation::ObserveComposite { ref paths, .. }
        | Operation::CancelObservationComposite { ref paths, .. } => {
            named(paths).is_some_and(|paths| paths.into_iter().all(is_harmless))
        }
        Operation::WriteComposite { prefix, content } => {
            let target = Target { prefix, path: Path::ROOT };
            let is_harmless = |item: Result<Item<'_>, _>| item.is_ok_and(|item| is_harmless(item.path));
            Items::new(&target, content).is_ok_and(|mut items| items.all(is_harmless))
        }
        _ => path.is_some_and(is_harmless),
    }
}
