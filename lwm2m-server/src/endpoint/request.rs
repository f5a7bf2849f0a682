//! What an operation of the application is on the wire, and what the device's answer means (LwM2M Core 1.2.1 §6.3, §6.4).
//!
//! Invariant: what the device would have to refuse as no operation at all is refused here.

use std::borrow::Cow;
use std::sync::Arc;

use lwm2m_coap::{Code, Token, link};
use lwm2m_objects::{Format, Kind, Path, Target, Version};

use crate::models::Models;
use crate::operation::{
    Answer, Content, Discovered, Link, ObservationId, Operation, Report, RequestError, WriteMode,
};

use super::content;
use super::exchange::{Outgoing, Reply};
use super::observation::Observed;
use super::registry::Registration;

/// What is expected of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    /// Write, Write-Attributes, Execute.
    Changed,
    Deleted,
    Created {
        object: u16,
    },
    Content {
        path: Path,
    },
    Discovered,
    Observing {
        what: Observed,
        format: Option<Format>,
        /// The id that it is to have.
        id: Option<ObservationId>,
    },
    Cancelled {
        observation: ObservationId,
    },
}

/// A request made of an operation.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) outgoing: Outgoing,
    pub(crate) meaning: Meaning,
    /// The token to use: that of the observation it cancels or renews.
    pub(crate) token: Option<Token>,
}

impl Request {
    pub(crate) fn new(device: &Registration, operation: Operation) -> Result<Self, RequestError> {
        let invalid = |why| Err(RequestError::Invalid(why));
        let prefix = device.objects.prefix.as_deref();
        let mut token = None;
        let (outgoing, meaning) = match operation {
            Operation::Read { path, format } => {
                if path == Path::ROOT {
                    return invalid("a Read needs at least an object");
                }
                let format = match format {
                    Some(Operation::ANY_FORMAT) => None,
                    format => format.map(Format).or(preferred(device)),
                };
                let outgoing = Outgoing::new(Code::GET, uri(prefix, path));
                (outgoing.accept(format), Meaning::Content { path })
            }
            Operation::Observe { path, format } => {
                if path == Path::ROOT {
                    return invalid("an Observe needs at least an object");
                }
                let format = format.map(Format).or(preferred(device));
                observing(device, Observed::One(path), format, &mut token)?
            }
            Operation::ObserveComposite { paths, format } => {
                let format = Some(format.map_or(pack(device), Format));
                observing(device, Observed::Several(Arc::new(paths)), format, &mut token)?
            }
            Operation::ReadComposite { paths, format } => {
                let outgoing = reading(device, &Observed::Several(Arc::new(paths)))?;
                let format = format.map_or(pack(device), Format);
                (outgoing.accept(format), Meaning::Content { path: Path::ROOT })
            }
            Operation::WriteComposite { values } => {
                check_composite(device, values.len())?;
                if values.iter().any(|(path, _)| path.ids().len() < 3) {
                    return invalid("a Write-Composite needs resources or resource instances");
                }
                let format = composite(device);
                let target = Target { prefix, path: Path::ROOT };
                let body = content::encode(format, &target, &values).map_err(RequestError::Invalid)?;
                (Outgoing::new(Code::IPATCH, "").body(format, body), Meaning::Changed)
            }
            Operation::Cancel { observation } => {
                let known = device.observations.iter().find(|other| other.id == observation);
                let Some(known) = known else { return Err(RequestError::UnknownObservation) };
                token = Some(known.token);
                let mut outgoing = reading(device, &known.what)?.accept(known.wanted.format());
                outgoing.observe = Some(1);
                (outgoing, Meaning::Cancelled { observation })
            }
            Operation::Write { path, mode, values, format } => {
                let code = match mode {
                    WriteMode::Replace => Code::PUT,
                    WriteMode::Update => Code::POST,
                };
                if path.ids().len() < 2 {
                    return invalid("a Write needs at least an object instance");
                }
                if values.is_empty() && path.ids().len() != 2 {
                    return invalid("a Write of a resource needs a value");
                }
                let format = format.map_or_else(|| writable(device, path, &values), Format);
                let body = content::encode(format, &Target { prefix, path }, &values)
                    .map_err(RequestError::Invalid)?;
                (Outgoing::new(code, uri(prefix, path)).body(format, body), Meaning::Changed)
            }
            Operation::Execute { path, arguments } => {
                if path.ids().len() != 3 {
                    return invalid("an Execute needs a resource");
                }
                if lwm2m_objects::Arguments::parse(arguments.as_bytes()).is_err() {
                    return invalid("the arguments are not of the form 0,1='text'");
                }
                let outgoing = Outgoing::new(Code::POST, uri(prefix, path));
                let outgoing = match arguments.is_empty() {
                    true => outgoing,
                    false => outgoing.body(Format::TEXT, arguments.into_bytes()),
                };
                (outgoing, Meaning::Changed)
            }
            Operation::Create { object, instance, values } => {
                let format = structured(device);
                let (format, body) = content::encode_created(format, prefix, object, instance, &values)
                    .map_err(RequestError::Invalid)?;
                let outgoing = Outgoing::new(Code::POST, uri(prefix, Path::object(object)));
                (outgoing.body(format, body), Meaning::Created { object })
            }
            Operation::Delete { path } => {
                if !matches!(path.ids().len(), 2 | 4) {
                    return invalid("a Delete needs an object instance or a resource instance");
                }
                (Outgoing::new(Code::DELETE, uri(prefix, path)), Meaning::Deleted)
            }
            Operation::Discover { path, depth } => {
                if !matches!(path.ids().len(), 1..=3) {
                    return invalid("a Discover needs an object, an instance or a resource");
                }
                let mut outgoing = Outgoing::new(Code::GET, uri(prefix, path)).accept(Format::LINK);
                outgoing.query = depth.map(|depth| format!("depth={depth}")).unwrap_or_default();
                (outgoing, Meaning::Discovered)
            }
            Operation::WriteAttributes { path, attributes } => {
                if path == Path::ROOT || attributes.is_empty() {
                    return invalid("Write-Attributes needs at least an object and an attribute");
                }
                let mut outgoing = Outgoing::new(Code::PUT, uri(prefix, path));
                outgoing.query = attributes;
                (outgoing, Meaning::Changed)
            }
        };
        Ok(Self { outgoing, meaning, token })
    }
}

/// What is needed to understand an answer.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) models: &'a Models,
    pub(crate) device: Option<&'a Registration>,
}

impl Meaning {
    /// What the answer tells the application; an observation's id is for the caller to give.
    pub(crate) fn answer(
        &self,
        reply: &Reply,
        context: Context<'_>,
        observation: ObservationId,
    ) -> Result<Answer, RequestError> {
        if !reply.code.is_success() {
            let text = String::from_utf8_lossy(&reply.body);
            let text = text.chars().filter(|c| !c.is_control()).take(LONGEST_DIAGNOSTIC).collect();
            return Err(RequestError::Refused((reply.code.class(), reply.code.detail()), text));
        }
        let expected = match self {
            Self::Changed => Code::CHANGED,
            Self::Deleted => Code::DELETED,
            Self::Created { .. } => Code::CREATED,
            _ => Code::CONTENT,
        };
        if reply.code != expected {
            return Err(RequestError::Malformed("a success of another operation"));
        }
        Ok(match self {
            Self::Changed | Self::Deleted | Self::Cancelled { .. } => Answer::Done,
            Self::Created { object } => Answer::Created(created(*object, &reply.location)),
            Self::Content { path } => Answer::Content(context.decode(*path, reply)?),
            Self::Observing { .. } if reply.observe.is_none() => {
                return Err(RequestError::Malformed("the device answered but does not observe"));
            }
            Self::Observing { what, .. } => {
                Answer::Observing(observation, context.decode(what.path(), reply)?)
            }
            Self::Discovered => Answer::Discovered(links(&reply.body).0),
        })
    }
}

impl Context<'_> {
    /// The values of an answer.
    pub(crate) fn decode(&self, path: Path, reply: &Reply) -> Result<Content, RequestError> {
        self.report(path, reply, 0).map(Content::from)
    }

    /// The values of a notification that came at `now`, in milliseconds since 1970.
    pub(crate) fn report(&self, path: Path, reply: &Reply, now: u64) -> Result<Report, RequestError> {
        // RFC 7252 §5.5.1: without Content-Format the recipient decides.
        let format = reply.format.unwrap_or(Format::TEXT);
        let target = Target { prefix: self.device.and_then(|device| device.objects.prefix.as_deref()), path };
        let kinds = |object, resource| self.kind(object, resource);
        let values = content::decode(kinds, format, &target, &reply.body, now);
        Ok(Report { format: format.0, values: values.map_err(RequestError::Malformed)? })
    }

    /// The type of a resource in the version that the device has of its object.
    pub(crate) fn kind(&self, object: u16, resource: u16) -> Option<Kind> {
        let device = self.device?;
        let version = device.objects.versions.version(device.version, object);
        self.models.kind(object, version, resource)
    }
}

/// Characters of a diagnostic payload that are passed on.
const LONGEST_DIAGNOSTIC: usize = 200;

/// Prefix and path as Uri-Path segments.
pub(crate) fn uri(prefix: Option<&str>, path: Path) -> String {
    let path = path.to_string();
    match prefix {
        Some(prefix) => format!("{prefix}{path}"),
        None => path.trim_start_matches('/').to_owned(),
    }
}

/// The most places or values of one composite operation.
const MOST_PLACES: usize = 256;

/// The request that begins an observation, with the token of the one that it renews.
fn observing(
    device: &Registration,
    what: Observed,
    format: Option<Format>,
    token: &mut Option<Token>,
) -> Result<(Outgoing, Meaning), RequestError> {
    *token = device.observations.iter().find(|other| other.what == what).map(|other| other.token);
    let mut outgoing = reading(device, &what)?.accept(format);
    outgoing.observe = Some(0);
    Ok((outgoing, Meaning::Observing { what, format, id: None }))
}

/// The request that reads one place or several.
pub(crate) fn reading(device: &Registration, what: &Observed) -> Result<Outgoing, RequestError> {
    let prefix = device.objects.prefix.as_deref();
    match what {
        Observed::One(path) => Ok(Outgoing::new(Code::GET, uri(prefix, *path))),
        Observed::Several(paths) => {
            check_composite(device, paths.len())?;
            let format = composite(device);
            let body = content::encode_names(format, prefix, paths).map_err(RequestError::Invalid)?;
            Ok(Outgoing::new(Code::FETCH, "").body(format, body))
        }
    }
}

/// What a composite operation needs of a device, and it of the operation.
fn check_composite(device: &Registration, places: usize) -> Result<(), RequestError> {
    if device.version < Version::new(1, 1) {
        return Err(RequestError::Invalid("a device of LwM2M 1.0 has no composite operations"));
    }
    if !(1..=MOST_PLACES).contains(&places) {
        return Err(RequestError::Invalid("a composite operation is about 1 to 256 places"));
    }
    Ok(())
}

/// The format of values that lie apart: SenML, in JSON if the device announced that alone.
fn pack(device: &Registration) -> Format {
    match preferred(device) {
        Some(Format::SENML_JSON) => Format::SENML_JSON,
        _ => Format::SENML_CBOR,
    }
}

/// The format of the request of a composite operation (LwM2M Core 1.2.1 §7.4.6: SenML-ETCH from 1.2 on, SenML before).
fn composite(device: &Registration) -> Format {
    match (pack(device), device.version >= Version::new(1, 2)) {
        (Format::SENML_JSON, true) => Format::SENML_ETCH_JSON,
        (_, true) => Format::SENML_ETCH_CBOR,
        (format, false) => format,
    }
}

/// The format to ask for: what the device announced, else SenML CBOR from 1.1 on and TLV before; `None` leaves it to a
/// device that announced neither.
fn preferred(device: &Registration) -> Option<Format> {
    let announced = &device.objects.formats;
    let is_old = device.version < Version::new(1, 1);
    match announced.is_empty() {
        true if is_old => Some(Format::TLV),
        true => Some(Format::SENML_CBOR),
        // LwM2M Core 1.1.1 §7.4: that JSON is of LwM2M 1.0 alone, whatever is announced.
        false => [Format::SENML_CBOR, Format::TLV, Format::SENML_JSON, Format::JSON]
            .into_iter()
            .find(|format| announced.contains(format) && (is_old || *format != Format::JSON)),
    }
}

/// A format for several values.
fn structured(device: &Registration) -> Format {
    preferred(device).unwrap_or(Format::TLV)
}

/// A format for what is written: opaque and text, which every device takes, need no structure when it is one value of one resource.
fn writable(device: &Registration, path: Path, values: &[(Path, crate::Value)]) -> Format {
    let format = structured(device);
    match values {
        [(only, crate::Value::Opaque(_))] if *only == path && path.ids().len() >= 3 => Format::OPAQUE,
        // Wakaama announces SenML JSON and does not take it for a single resource.
        [(only, _)]
            if *only == path
                && path.ids().len() >= 3
                && format != Format::TLV
                && format != Format::SENML_CBOR =>
        {
            Format::TEXT
        }
        _ => format,
    }
}

/// The instance that a Location-Path names, whatever stands in front of it.
fn created(object: u16, location: &str) -> Option<Path> {
    let mut segments = location.rsplit('/');
    let instance = segments.next()?.parse().ok()?;
    let is_object = segments.next()?.parse() == Ok(object);
    is_object.then(|| Path::instance(object, instance))
}

/// Reads link-format as far as it can be read (RFC 6690; LwM2M Core 1.2.1 §6.3.2). What stands in front of the first
/// link, as in `lwm2m=1.0,</0/0>`, is skipped. Tells whether all of it could be read, too.
pub(crate) fn links(body: &[u8]) -> (Discovered, bool) {
    let text = String::from_utf8_lossy(body);
    let mut is_whole = matches!(text, Cow::Borrowed(_));
    let Some(text) = text.find('<').and_then(|start| text.get(start..)) else {
        return (Discovered::default(), text.is_empty());
    };
    let links = link::parse(text).map_while(|link| {
        is_whole &= link.is_ok();
        link.ok()
    });
    let links = links.map(|link| Link {
        target: link.path().to_owned(),
        attributes: link
            .attributes()
            .map(|attribute| (attribute.name.to_owned(), attribute.value.map(str::to_owned)))
            .collect(),
    });
    let found = Discovered { links: links.collect() };
    (found, is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_with_their_attributes_and_what_is_no_link_is_skipped() {
        let (found, is_whole) =
            links(b"lwm2m=1.0,</3/0>;pmin=10;ver=\"1.1\" ,</3/0/1/>;uri=\"coaps://a,b;c\",<");
        assert!(!is_whole);
        let targets: Vec<&str> = found.links.iter().map(|link| link.target.as_str()).collect();
        assert_eq!(targets, ["/3/0", "/3/0/1"]);
        let attributes = found.links.iter().map(|link| link.attributes.clone()).collect::<Vec<_>>();
        assert_eq!(
            attributes.concat(),
            [
                ("pmin".to_owned(), Some("10".to_owned())),
                ("ver".to_owned(), Some("1.1".to_owned())),
                ("uri".to_owned(), Some("coaps://a,b;c".to_owned())),
            ]
        );
        assert_eq!(links(b""), (Discovered::default(), true));
    }

    #[test]
    fn links_that_were_not_all_read_are_told_from_those_that_were() {
        for (body, is_whole) in [
            (&b"</0/0>,</1/0>;ssid=1,"[..], true),
            (b"lwm2m=1.0,</0/0>", true),
            (b"</0/0>,</1/0", false),
            (b"</0/0>,</1/0>;uri=\"coaps", false),
            (b"</0/0>;uri=\"\xff\"", false),
            (b"busy", false),
            (b" ", false),
        ] {
            assert_eq!(links(body).1, is_whole, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_created_instance_is_found_behind_any_prefix() {
        assert_eq!(created(3303, "/3303/7"), Some(Path::instance(3303, 7)));
        assert_eq!(created(3303, "/lwm2m/3303/7"), Some(Path::instance(3303, 7)));
        assert_eq!(created(3303, "/3304/7"), None);
        assert_eq!(created(3303, ""), None);
    }
}
