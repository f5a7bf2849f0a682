//! Operations as CoAP messages, in both directions and both roles (LwM2M Transport 1.2.1 §6.4): the one place that knows.
//!
//! Invariant: what [`emit`] writes, [`management`], [`bootstrap`] or [`registration`] reads as the same operation.
//!
//! | | request comes in | request goes out |
//! |---|---|---|
//! | device | [`management`], [`bootstrap`] | [`emit_registration`] |
//! | server | [`registration`] | [`emit`] |
//!
//! Responses go out with [`respond`] and come in with [`outcome`] and [`location`].

use lwm2m_coap::{Code, ContentFormat, Message, OptionNumber, WriteError, Writer};

use crate::{
    Arguments, AttributesChange, Content, Error, Format, Level, Location, Operation, Outcome, Parameters,
    Path, Paths, Target, UNASSIGNED, WriteMode,
};

/// Reads a request of the device management or reporting interface, as the device gets it. `alternate` is the alternate
/// path of the client (as `/lwm2m`), or empty.
///
/// # Errors
/// The response code: [`Error::NotFound`] for a path that is none, [`Error::MethodNotAllowed`] for what is no operation.
pub fn management<'a>(message: &Message<'a>, alternate: &'a str) -> Result<Operation<'a>, Error> {
    let prefix = alternate.strip_prefix('/').unwrap_or(alternate);
    let Head { path, content, accept, observe, has_query } = Head::read(message, prefix)?;
    let target = Target { prefix: (!prefix.is_empty()).then_some(prefix), path };
    match message.code {
        Code::GET => match observe {
            // LwM2M Core 1.2.1 §6.4.1: attributes in an Observe are refused by a client that does not know them.
            Some(0) if has_query => Err(Error::BadRequest),
            Some(0) => Ok(Operation::Observe { target, accept }),
            Some(1) => Ok(Operation::CancelObservation { target, accept }),
            Some(_) => Err(Error::BadRequest),
            None if accept == Some(Format::LINK) => {
                Ok(Operation::Discover { target, depth: depth(message)? })
            }
            None => Ok(Operation::Read { target, accept }),
        },
        Code::PUT => match content {
            Some(_) if has_query => Err(Error::BadRequest),
            Some(content) => Ok(Operation::Write { target, mode: WriteMode::Replace, content }),
            None if has_query => {
                let mut change = AttributesChange::default();
                for query in queries(message) {
                    change.query(query)?;
                }
                Ok(Operation::WriteAttributes { target, change })
            }
            None => Err(Error::BadRequest),
        },
        Code::POST => match (path.level(), content) {
            (Level::Object, content) => {
                let empty = Content { format: Format::TLV, payload: &[] };
                Ok(Operation::Create { target, content: content.unwrap_or(empty) })
            }
            (Level::Instance, None) => Err(Error::BadRequest),
            (Level::Resource, content) if content.is_none_or(|content| content.format == Format::TEXT) => {
                Ok(Operation::Execute { target, arguments: arguments(message)? })
            }
            (Level::Instance | Level::Resource, Some(content)) => {
                Ok(Operation::Write { target, mode: WriteMode::Partial, content })
            }
            _ => Err(Error::MethodNotAllowed),
        },
        Code::DELETE => Ok(Operation::Delete { target }),
        // LwM2M Core 1.2.1 §6.4.2: as with Observe, attributes are refused by a client that does not know them.
        _ if has_query => Err(Error::BadRequest),
        Code::FETCH => {
            let content = content.ok_or(Error::UnsupportedFormat)?;
            let paths = Paths::Payload { prefix: target.prefix, content };
            match observe {
                None => Ok(Operation::ReadComposite { paths, accept }),
                Some(0) => Ok(Operation::ObserveComposite { paths, accept }),
                Some(1) => Ok(Operation::CancelObservationComposite { paths, accept }),
                Some(_) => Err(Error::BadRequest),
            }
        }
        Code::IPATCH => {
            let content = content.ok_or(Error::UnsupportedFormat)?;
            Ok(Operation::WriteComposite { prefix: target.prefix, content })
        }
        _ => Err(Error::MethodNotAllowed),
    }
}

/// Reads a request of the bootstrap interface, as the device gets it.
///
/// # Errors
/// The response code.
pub fn bootstrap<'a>(message: &Message<'a>) -> Result<Operation<'a>, Error> {
    if message.code == Code::POST {
        let finish = message.options.uri_path().eq([b"bs"]);
        return if finish { Ok(Operation::BootstrapFinish) } else { Err(Error::MethodNotAllowed) };
    }
    let Head { path, content, accept, .. } = Head::read(message, "")?;
    match message.code {
        Code::GET => match accept {
            Some(Format::LINK) => Ok(Operation::BootstrapDiscover { path }),
            None if path == Path::ROOT => Ok(Operation::BootstrapDiscover { path }),
            accept => Ok(Operation::BootstrapRead { path, accept }),
        },
        Code::PUT => Ok(Operation::BootstrapWrite { path, content: content.ok_or(Error::BadRequest)? }),
        Code::DELETE => Ok(Operation::BootstrapDelete { path }),
        _ => Err(Error::MethodNotAllowed),
    }
}

/// Reads a request of a device, as a server or Bootstrap-Server gets it.
///
/// # Errors
/// The response code: [`Error::NotFound`] for another path, [`Error::BadRequest`] for a bad parameter.
pub fn registration<'a>(message: &Message<'a>) -> Result<Operation<'a>, Error> {
    let mut segments =
        message.options.uri_path().map(|segment| core::str::from_utf8(segment).unwrap_or_default());
    let place = [segments.next(), segments.next(), segments.next()];
    let parameters = || {
        let mut parameters = Parameters::default();
        for query in queries(message) {
            parameters.query(query)?;
        }
        Ok::<_, Error>(parameters)
    };
    match (place, message.code) {
        ([Some("rd"), None, None], Code::POST) => {
            Ok(Operation::Register { parameters: parameters()?, links: message.payload })
        }
        // Empty is also what is no text.
        ([Some("rd"), Some(name), None], Code::POST | Code::DELETE)
            if name.is_empty() || name.contains('/') =>
        {
            Err(Error::NotFound)
        }
        ([Some("rd"), Some(name), None], Code::POST) => {
            let links = (!message.payload.is_empty()).then_some(message.payload);
            Ok(Operation::Update { location: Location(name), parameters: parameters()?, links })
        }
        ([Some("rd"), Some(name), None], Code::DELETE) => {
            Ok(Operation::Deregister { location: Location(name) })
        }
        // Core 1.1.1 §6.2.3: a De-register without the location that it needs.
        ([Some("rd"), None, None], Code::DELETE) => Err(Error::BadRequest),
        ([Some("bs"), None, None], Code::POST) => {
            let mut preferred = None;
            for query in queries(message) {
                if let Some(number) = query.strip_prefix(b"pct=") {
                    let number =
                        crate::decimal::parse_unsigned(number).and_then(|number| u16::try_from(number).ok());
                    preferred = Some(Format(number.ok_or(Error::BadRequest)?));
                }
            }
            Ok(Operation::BootstrapRequest { endpoint: parameters()?.endpoint, preferred })
        }
        ([Some("dp"), None, None], Code::POST) => {
            let format = message.options.content_format().ok_or(Error::UnsupportedFormat)?;
            let content = Content { format: current(Format(format.0)), payload: message.payload };
            Ok(Operation::Send { content })
        }
        // RFC 7252 §5.8: 4.05 to a method that is unknown or not supported, whatever it is asked of.
        ([Some("rd"), _, None] | [Some("bs" | "dp"), None, None], _) => Err(Error::MethodNotAllowed),
        _ if message.code > Code::DELETE => Err(Error::MethodNotAllowed),
        ([Some("bspack"), None, None], _) => Err(Error::NotImplemented),
        _ => Err(Error::NotFound),
    }
}

/// Writes code and options of a request; the caller adds block options and [`payload`] of it.
///
/// # Errors
/// The writer is full; [`WriteError::Order`] for a composite operation whose paths are in no payload.
pub fn emit(operation: &Operation<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    match *operation {
        Operation::BootstrapWrite { path, content } => {
            head(Code::PUT, None, "", path, Some(content.format), writer)
        }
        Operation::BootstrapDiscover { path } => {
            head(Code::GET, None, "", path, None, writer)?;
            push_accept(Some(Format::LINK), writer)
        }
        Operation::BootstrapRead { path, accept } => {
            head(Code::GET, None, "", path, None, writer)?;
            push_accept(accept, writer)
        }
        Operation::BootstrapDelete { path } => head(Code::DELETE, None, "", path, None, writer),
        Operation::BootstrapFinish => head(Code::POST, None, "bs", Path::ROOT, None, writer),

        Operation::Read { target, accept } => {
            managed(Code::GET, None, &target, None, writer)?;
            push_accept(accept, writer)
        }
        Operation::Discover { target, depth } => {
            managed(Code::GET, None, &target, None, writer)?;
            if let Some(depth) = depth {
                let query = [b'd', b'e', b'p', b't', b'h', b'=', b'0' | depth.min(3)];
                writer.option(OptionNumber::URI_QUERY, &query)?;
            }
            push_accept(Some(Format::LINK), writer)
        }
        Operation::Write { target, mode, content } => {
            let method = if mode == WriteMode::Replace { Code::PUT } else { Code::POST };
            managed(method, None, &target, Some(content.format), writer)
        }
        Operation::WriteAttributes { target, change } => {
            managed(Code::PUT, None, &target, None, writer)?;
            Ok(change.try_for_each_query(&mut |query| push_query(writer, query))?)
        }
        Operation::Execute { target, arguments } if arguments.is_bare() => {
            managed(Code::POST, None, &target, None, writer)?;
            Ok(push_query(writer, arguments.as_str().as_bytes())?)
        }
        Operation::Execute { target, arguments } => {
            let format = (arguments != Arguments::NONE).then_some(Format::TEXT);
            managed(Code::POST, None, &target, format, writer)
        }
        Operation::Create { target, content } => {
            managed(Code::POST, None, &target, Some(content.format), writer)
        }
        Operation::Delete { target } => managed(Code::DELETE, None, &target, None, writer),
        Operation::Observe { target, accept } => {
            managed(Code::GET, Some(0), &target, None, writer)?;
            push_accept(accept, writer)
        }
        Operation::CancelObservation { target, accept } => {
            managed(Code::GET, Some(1), &target, None, writer)?;
            push_accept(accept, writer)
        }
        Operation::ReadComposite { paths, accept } => composite(None, &paths, accept, writer),
        Operation::ObserveComposite { paths, accept } => composite(Some(0), &paths, accept, writer),
        Operation::CancelObservationComposite { paths, accept } => composite(Some(1), &paths, accept, writer),
        Operation::WriteComposite { content, .. } => {
            head(Code::IPATCH, None, "", Path::ROOT, Some(content.format), writer)
        }
        Operation::BootstrapRequest { .. }
        | Operation::Register { .. }
        | Operation::Update { .. }
        | Operation::Deregister { .. }
        | Operation::Send { .. } => emit_registration(operation, writer),
    }
}

/// Writes code and options of a request that a device sends: [`emit`] for Bootstrap-Request, Register, Update,
/// De-register and Send only, so that a device links no other.
///
/// # Errors
/// The writer is full; [`WriteError::Order`] for an operation that a device does not send.
pub fn emit_registration(operation: &Operation<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    match *operation {
        Operation::BootstrapRequest { endpoint, preferred } => {
            head(Code::POST, None, "bs", Path::ROOT, None, writer)?;
            let parameters = Parameters { endpoint, ..Parameters::default() };
            parameters.try_for_each_query(&mut |query| push_query(writer, query))?;
            if let Some(format) = preferred {
                let mut text = heapless::Vec::<u8, 24>::new();
                lwm2m_coap::Sink::write(&mut text, b"pct=")?;
                crate::decimal::emit_unsigned(u64::from(format.0), &mut text)?;
                writer.option(OptionNumber::URI_QUERY, &text)?;
            }
        }
        Operation::Register { parameters, .. } => {
            head(Code::POST, None, "rd", Path::ROOT, Some(Format::LINK), writer)?;
            parameters.try_for_each_query(&mut |query| push_query(writer, query))?;
        }
        Operation::Update { location, parameters, links } => {
            writer.set_code(Code::POST);
            push_location(location, writer)?;
            if links.is_some() {
                writer.content_format(ContentFormat::LINK_FORMAT)?;
            }
            parameters.try_for_each_query(&mut |query| push_query(writer, query))?;
        }
        Operation::Deregister { location } => {
            writer.set_code(Code::DELETE);
            push_location(location, writer)?;
        }
        Operation::Send { content } => {
            head(Code::POST, None, "dp", Path::ROOT, Some(content.format), writer)?;
        }
        _ => return Err(WriteError::Order),
    }
    Ok(())
}

/// Returns the payload of a request.
pub fn payload<'a>(operation: &Operation<'a>) -> &'a [u8] {
    match *operation {
        Operation::BootstrapWrite { content, .. }
        | Operation::Write { content, .. }
        | Operation::WriteComposite { content, .. }
        | Operation::Create { content, .. }
        | Operation::Send { content } => content.payload,
        Operation::ReadComposite { paths, .. }
        | Operation::ObserveComposite { paths, .. }
        | Operation::CancelObservationComposite { paths, .. } => match paths.content() {
            Some(content) => content.payload,
            None => &[],
        },
        Operation::Register { links, .. } => links,
        Operation::Update { links, .. } => links.unwrap_or_default(),
        Operation::Execute { arguments, .. } if !arguments.is_bare() => arguments.as_str().as_bytes(),
        _ => &[],
    }
}

/// Writes code and options of a response, between the options Observe or ETag and those of a block-wise transfer.
///
/// # Errors
/// The writer is full.
pub fn respond(result: &Result<Outcome, Error>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    writer.set_code(code(result));
    match result {
        Ok(Outcome::Created(Some(path))) => {
            push_path(OptionNumber::LOCATION_PATH, *path, writer)?;
        }
        Ok(Outcome::Content(format)) => {
            writer.content_format(ContentFormat(format.0))?;
        }
        _ => {}
    }
    Ok(())
}

/// Returns the response code of a result. What is deferred has none yet; it is 2.04 until then.
pub fn code(result: &Result<Outcome, Error>) -> Code {
    match *result {
        Ok(Outcome::Created(_)) => Code::CREATED,
        Ok(Outcome::Deleted) => Code::DELETED,
        Ok(Outcome::Changed | Outcome::Deferred) => Code::CHANGED,
        Ok(Outcome::Content(_)) => Code::CONTENT,
        Ok(Outcome::Continue) => Code::CONTINUE,
        Err(error) => error_code(error),
    }
}

/// Returns the response code of an error.
pub fn error_code(error: Error) -> Code {
    CODES.iter().find(|(known, _)| *known == error).map_or(Code::INTERNAL_SERVER_ERROR, |(_, code)| *code)
}

const CODES: [(Error, Code); 15] = [
    (Error::BadRequest, Code::BAD_REQUEST),
    (Error::Unauthorized, Code::UNAUTHORIZED),
    (Error::Forbidden, Code::FORBIDDEN),
    (Error::NotFound, Code::NOT_FOUND),
    (Error::MethodNotAllowed, Code::METHOD_NOT_ALLOWED),
    (Error::NotAcceptable, Code::NOT_ACCEPTABLE),
    (Error::Incomplete, Code::REQUEST_ENTITY_INCOMPLETE),
    (Error::Conflict, Code::CONFLICT),
    (Error::PreconditionFailed, Code::PRECONDITION_FAILED),
    (Error::TooLarge, Code::REQUEST_ENTITY_TOO_LARGE),
    (Error::UnsupportedFormat, Code::UNSUPPORTED_CONTENT_FORMAT),
    (Error::Unprocessable, Code::UNPROCESSABLE_ENTITY),
    (Error::Internal, Code::INTERNAL_SERVER_ERROR),
    (Error::NotImplemented, Code::NOT_IMPLEMENTED),
    (Error::Unavailable, Code::SERVICE_UNAVAILABLE),
];

/// Reads a response.
///
/// # Errors
/// What the peer answered; a code without a name here as the general one of its class.
pub fn outcome(message: &Message<'_>) -> Result<Outcome, Error> {
    Ok(match message.code {
        Code::CREATED => {
            let mut segments = Segments::default();
            let parsed = message.options.location_path().try_for_each(|segment| segments.push(segment));
            let named = parsed.is_ok() && segments.path.level() == Level::Instance;
            Outcome::Created(named.then_some(segments.path))
        }
        Code::DELETED => Outcome::Deleted,
        Code::CHANGED => Outcome::Changed,
        Code::CONTENT => {
            let format = message.options.content_format().map_or(Format::TEXT, |format| Format(format.0));
            Outcome::Content(current(format))
        }
        Code::CONTINUE => Outcome::Continue,
        code => {
            let general = if code.class() == 4 { Error::BadRequest } else { Error::Internal };
            return Err(CODES.iter().find(|(_, known)| *known == code).map_or(general, |(error, _)| *error));
        }
    })
}

/// Returns the name of the registration from the response to a Register: the text of a [`Location`] of at most `N` bytes.
pub fn location<const N: usize>(message: &Message<'_>) -> Option<heapless::String<N>> {
    let mut segments = message.options.location_path().peekable();
    let under_rd = segments.next_if_eq(&b"rd".as_slice()).is_some();
    let mut text = heapless::String::new();
    for (index, segment) in segments.enumerate() {
        let segment = core::str::from_utf8(segment).ok().filter(|segment| !segment.contains('/'))?;
        if index > 0 || !under_rd {
            text.push('/').ok()?;
        }
        text.push_str(segment).ok()?;
    }
    (!text.is_empty()).then_some(text)
}

/// What the options of a request to a device say.
struct Head<'a> {
    path: Path,
    content: Option<Content<'a>>,
    accept: Option<Format>,
    observe: Option<u32>,
    has_query: bool,
}

impl<'a> Head<'a> {
    fn read(message: &Message<'a>, prefix: &str) -> Result<Self, Error> {
        let is_composite = matches!(message.code, Code::FETCH | Code::IPATCH);
        // RFC 7252 §5.8: 4.05 to a method that is unknown or not supported, whatever it is asked of.
        if message.code > Code::DELETE && !(is_composite && Self::is_at_root(message, prefix)) {
            return Err(Error::MethodNotAllowed);
        }
        let mut head =
            Self { path: Path::ROOT, content: None, accept: None, observe: None, has_query: false };
        let mut prefix = prefix.as_bytes();
        let mut segments = Segments::default();
        for (number, value) in message.options {
            let number_of =
                |value: &[u8]| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            let format_of = |value| current(Format(u16::try_from(number_of(value)).unwrap_or(u16::MAX)));
            match number {
                OptionNumber::URI_PATH if prefix.is_empty() => segments.push(value)?,
                OptionNumber::URI_PATH => {
                    prefix = match prefix.strip_prefix(value) {
                        Some([b'/', rest @ ..]) => rest,
                        Some([]) => &[],
                        _ => return Err(Error::NotFound),
                    };
                }
                // Of what may come once the first counts (RFC 7252 §5.4.5). Over-long is as absent where the option is
                // elective (§5.4.3).
                OptionNumber::CONTENT_FORMAT if value.len() <= 2 && head.content.is_none() => {
                    head.content = Some(Content { format: format_of(value), payload: message.payload });
                }
                OptionNumber::ACCEPT => head.accept = Some(format_of(value)),
                OptionNumber::OBSERVE if value.len() <= 3 && head.observe.is_none() => {
                    head.observe = Some(number_of(value));
                }
                OptionNumber::URI_QUERY => head.has_query = true,
                _ => {}
            }
        }
        if !prefix.is_empty() && !is_composite {
            return Err(Error::NotFound);
        }
        head.path = segments.path;
        // LwM2M Core 1.2.1 §7.4: a payload has its format. Of an Execute it is an argument that is not understood, because
        // LwM2M Transport 1.2.1 §6.4.4 knows no 4.15 for it.
        if head.content.is_none() && !message.payload.is_empty() {
            let is_execute = message.code == Code::POST && head.path.level() == Level::Resource;
            return Err(if is_execute { Error::BadRequest } else { Error::UnsupportedFormat });
        }
        Ok(head)
    }

    /// Whether no path is named, or what stands before all of them: the payload of a composite operation names the paths.
    fn is_at_root(message: &Message<'_>, prefix: &str) -> bool {
        let named = || message.options.uri_path().filter(|segment| !segment.is_empty());
        named().next().is_none() || named().eq(prefix.split('/').map(str::as_bytes))
    }
}

/// Puts the segments of a path in the data model together.
#[derive(Default)]
struct Segments {
    path: Path,
    /// A slash at the end is an empty segment.
    ended: bool,
}

impl Segments {
    fn push(&mut self, segment: &[u8]) -> Result<(), Error> {
        if self.ended {
            return Err(Error::NotFound);
        }
        if segment.is_empty() {
            self.ended = true;
            return Ok(());
        }
        let canonical = segment.len() == 1 || segment.first() != Some(&b'0');
        let id = crate::decimal::parse_unsigned(segment).and_then(|id| u16::try_from(id).ok());
        let id = id.filter(|id| *id != UNASSIGNED && canonical).ok_or(Error::NotFound)?;
        self.path = self.path.child(id).ok_or(Error::NotFound)?;
        Ok(())
    }
}

fn queries<'a>(message: &Message<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    message.options.iter().filter(|(number, _)| *number == OptionNumber::URI_QUERY).map(|(_, query)| query)
}

/// The arguments of an Execute: the payload, or one query, as the examples of LwM2M Core 1.1.1 appendix E.2 have them. What has
/// both has two lists of them, of which neither is the one that is meant.
fn arguments<'a>(message: &Message<'a>) -> Result<Arguments<'a>, Error> {
    let mut queries = queries(message);
    match (queries.next(), queries.next()) {
        (None, _) => Arguments::parse(message.payload),
        (Some(query), None) if message.payload.is_empty() => Arguments::parse_query(query),
        _ => Err(Error::BadRequest),
    }
}

/// Numbers that were in use before the registration of the formats.
const fn current(format: Format) -> Format {
    match format.0 {
        1541 => Format::TEXT,
        1542 => Format::TLV,
        1543 => Format::JSON,
        _ => format,
    }
}

fn depth(message: &Message<'_>) -> Result<Option<u8>, Error> {
    let mut depth = None;
    for query in queries(message) {
        match query {
            [b'd', b'e', b'p', b't', b'h', b'=', digit @ b'0'..=b'3'] => {
                depth = Some(digit.wrapping_sub(b'0'))
            }
            _ => return Err(Error::BadRequest),
        }
    }
    Ok(depth)
}

fn composite(
    observe: Option<u32>,
    paths: &Paths<'_>,
    accept: Option<Format>,
    writer: &mut Writer<'_>,
) -> Result<(), WriteError> {
    let content = paths.content().ok_or(WriteError::Order)?;
    head(Code::FETCH, observe, "", Path::ROOT, Some(content.format), writer)?;
    push_accept(accept, writer)
}

fn managed(
    code: Code,
    observe: Option<u32>,
    target: &Target<'_>,
    format: Option<Format>,
    writer: &mut Writer<'_>,
) -> Result<(), WriteError> {
    head(code, observe, target.prefix.unwrap_or_default(), target.path, format, writer)
}

/// Writes code, Observe, Uri-Path and Content-Format.
fn head(
    code: Code,
    observe: Option<u32>,
    prefix: &str,
    path: Path,
    format: Option<Format>,
    writer: &mut Writer<'_>,
) -> Result<(), WriteError> {
    writer.set_code(code);
    if let Some(observe) = observe {
        writer.observe(observe)?;
    }
    writer.split(OptionNumber::URI_PATH, prefix, '/')?;
    push_path(OptionNumber::URI_PATH, path, writer)?;
    if let Some(format) = format {
        writer.content_format(ContentFormat(format.0))?;
    }
    Ok(())
}

fn push_path(number: OptionNumber, path: Path, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    for id in path.ids() {
        let mut text = heapless::Vec::<u8, 5>::new();
        crate::decimal::emit_unsigned(u64::from(*id), &mut text)?;
        writer.option(number, &text)?;
    }
    Ok(())
}

fn push_location(location: Location<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    let path = match location.0.strip_prefix('/') {
        Some(path) => path,
        None => {
            writer.option(OptionNumber::URI_PATH, b"rd")?;
            location.0
        }
    };
    writer.split(OptionNumber::URI_PATH, path, '/')?;
    Ok(())
}

fn push_query(writer: &mut Writer<'_>, query: &[u8]) -> Result<(), lwm2m_coap::Full> {
    writer.option(OptionNumber::URI_QUERY, query).map(|_| ()).map_err(|_| lwm2m_coap::Full)
}

fn push_accept(accept: Option<Format>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    if let Some(format) = accept {
        writer.accept(ContentFormat(format.0))?;
    }
    Ok(())
}
