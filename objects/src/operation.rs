//! The operations of all interfaces, free of any transport (LwM2M Core 1.2.1 §6).
//!
//! Invariant: nothing here knows CoAP; the module `mapping` does.

use core::fmt;

use crate::format::Items;
use crate::{Arguments, AttributesChange, Location, Parameters, Path, Target};

/// An operation with its parameters, borrowed from the message it came in.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Operation<'a> {
    // --- Bootstrap interface
    /// A client asks to be bootstrapped.
    BootstrapRequest {
        /// The endpoint name; a client that its credentials identify may leave it out.
        endpoint: Option<&'a str>,
        /// The format that the client wants to be written in (1.1).
        preferred: Option<Format>,
    },
    /// Sets resources, whatever they were and whoever may write them.
    BootstrapWrite {
        /// Object, instance or resource.
        path: Path,
        /// The values.
        content: Content<'a>,
    },
    /// Lists objects and instances.
    BootstrapDiscover {
        /// Root or object.
        path: Path,
    },
    /// Reads object 1 or 2.
    BootstrapRead {
        /// Object or instance.
        path: Path,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Deletes instances, except for the account of the Bootstrap-Server and `/3/0`.
    BootstrapDelete {
        /// Root, object or instance.
        path: Path,
    },
    /// Ends the bootstrap.
    BootstrapFinish,

    // --- Registration interface
    /// Registers a client.
    Register {
        /// Who registers, for how long and how.
        parameters: Parameters<'a>,
        /// Objects and instances as link-format.
        links: &'a [u8],
    },
    /// Renews or changes a registration.
    Update {
        /// Which registration.
        location: Location<'a>,
        /// What changed.
        parameters: Parameters<'a>,
        /// All objects and instances as link-format, when they changed.
        links: Option<&'a [u8]>,
    },
    /// Ends a registration.
    Deregister {
        /// Which registration.
        location: Location<'a>,
    },

    // --- Device management interface
    /// Reads values.
    Read {
        /// Object or below.
        target: Target<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Reads values of several places at once (1.1).
    ReadComposite {
        /// Which places.
        paths: Paths<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Lists what there is, with attributes.
    Discover {
        /// Object, instance or resource.
        target: Target<'a>,
        /// How many levels down (1.2).
        depth: Option<u8>,
    },
    /// Writes values.
    Write {
        /// Instance or below.
        target: Target<'a>,
        /// What happens to that which is not written.
        mode: WriteMode,
        /// The values.
        content: Content<'a>,
    },
    /// Writes values of several places at once, all or none (1.1).
    WriteComposite {
        /// What stands before the paths in the content: the alternate path of the client, as in [`Target`].
        prefix: Option<&'a str>,
        /// The values.
        content: Content<'a>,
    },
    /// Sets or unsets notification attributes.
    WriteAttributes {
        /// Object or below.
        target: Target<'a>,
        /// Which attributes change.
        change: AttributesChange,
    },
    /// Executes a resource.
    Execute {
        /// A resource.
        target: Target<'a>,
        /// Its arguments.
        arguments: Arguments<'a>,
    },
    /// Creates an object instance.
    Create {
        /// An object.
        target: Target<'a>,
        /// Its values, with or without the identifier of the instance.
        content: Content<'a>,
    },
    /// Deletes an object instance or (1.2) a resource instance.
    Delete {
        /// Instance or resource instance.
        target: Target<'a>,
    },

    // --- Information reporting interface
    /// Reads values and asks to be notified of changes.
    Observe {
        /// Object or below.
        target: Target<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Ends an observation and reads once more.
    CancelObservation {
        /// As observed.
        target: Target<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Reads values of several places and asks to be notified of changes in any of them (1.1).
    ObserveComposite {
        /// Which places.
        paths: Paths<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// Ends an observation of several places and reads once more (1.1).
    CancelObservationComposite {
        /// As observed.
        paths: Paths<'a>,
        /// The format wanted.
        accept: Option<Format>,
    },
    /// A client reports values by itself (1.1).
    Send {
        /// The values, with their paths and perhaps times.
        content: Content<'a>,
    },
}

impl Operation<'_> {
    /// The format that the answer is wanted in, and that of the content, where there are such.
    pub const fn formats(&self) -> (Option<Format>, Option<Format>) {
        match *self {
            Self::Read { accept, .. }
            | Self::BootstrapRead { accept, .. }
            | Self::Observe { accept, .. }
            | Self::CancelObservation { accept, .. }
            | Self::ReadComposite { accept, .. }
            | Self::ObserveComposite { accept, .. }
            | Self::CancelObservationComposite { accept, .. } => (accept, None),
            Self::Write { content, .. }
            | Self::WriteComposite { content, .. }
            | Self::Send { content }
            | Self::Create { content, .. }
            | Self::BootstrapWrite { content, .. } => (None, Some(content.format)),
            _ => (None, None),
        }
    }
}

/// The places that a composite operation is about: a list, or what a payload lists.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Paths<'a> {
    /// A list.
    List {
        /// What stands before the names in the answer: the alternate path of the client, as in [`Target`].
        prefix: Option<&'a str>,
        /// The paths.
        paths: &'a [Path],
    },
    /// A payload of SenML or SenML-ETCH.
    Payload {
        /// What stands before the paths: the alternate path of the client, as in [`Target`].
        prefix: Option<&'a str>,
        /// The names.
        content: Content<'a>,
    },
}

impl<'a> Paths<'a> {
    /// Calls `each` for every path, in order.
    ///
    /// # Errors
    /// Those of `each`; of a payload [`Error::UnsupportedFormat`] for another format, [`Error::BadRequest`] when it is malformed
    /// or names nothing.
    pub fn try_for_each(&self, each: &mut dyn FnMut(Path) -> Result<(), Error>) -> Result<(), Error> {
        match *self {
            Self::List { paths, .. } => paths.iter().try_for_each(|path| each(*path)),
            Self::Payload { prefix, content } => {
                let mut items = Items::names(prefix, content)?;
                let mut has_some = false;
                for item in items.by_ref() {
                    has_some = true;
                    each(item?.path)?;
                }
                if has_some { Ok(()) } else { each(items.base_name().ok_or(Error::BadRequest)?) }
            }
        }
    }

    /// What stands before the paths.
    pub const fn prefix(&self) -> Option<&'a str> {
        match *self {
            Self::List { prefix, .. } | Self::Payload { prefix, .. } => prefix,
        }
    }

    /// The payload that lists them, if there is one.
    pub const fn content(&self) -> Option<Content<'a>> {
        match *self {
            Self::List { .. } => None,
            Self::Payload { content, .. } => Some(content),
        }
    }
}

/// What a Write does to that which is not in its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// What is not written goes or returns to its default.
    Replace,
    /// What is not written stays.
    Partial,
}

/// A payload with its format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// How it is encoded.
    pub format: Format,
    /// The bytes.
    pub payload: &'a [u8],
}

impl fmt::Debug for Content<'_> {
    // A payload may hold keys: only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, {} bytes)", self.format.0, self.payload.len())
    }
}

/// A content format, by its number in the CoAP registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Format(pub u16);

impl Format {
    /// `text/plain`
    pub const TEXT: Self = Self(0);
    /// `application/link-format`
    pub const LINK: Self = Self(40);
    /// `application/octet-stream`
    pub const OPAQUE: Self = Self(42);
    /// `application/cbor`
    pub const CBOR: Self = Self(60);
    /// `application/senml+json`
    pub const SENML_JSON: Self = Self(110);
    /// `application/senml+cbor`
    pub const SENML_CBOR: Self = Self(112);
    /// `application/senml-etch+json`
    pub const SENML_ETCH_JSON: Self = Self(320);
    /// `application/senml-etch+cbor`
    pub const SENML_ETCH_CBOR: Self = Self(322);
    /// `application/vnd.oma.lwm2m+tlv`
    pub const TLV: Self = Self(11542);
    /// `application/vnd.oma.lwm2m+json`
    pub const JSON: Self = Self(11543);
    /// `application/vnd.oma.lwm2m+cbor`
    pub const LWM2M_CBOR: Self = Self(11544);
}

/// How an operation succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// An instance was created (its path tells the server which), or a registration.
    Created(Option<Path>),
    /// Something was deleted or ended.
    Deleted,
    /// Something was changed or executed.
    Changed,
    /// Content of that format follows.
    Content(Format),
    /// A block was taken, more are awaited.
    Continue,
    /// The answer follows later.
    Deferred,
}

/// Why an operation failed: the response codes that LwM2M uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is not understood, or a value does not suit (4.00).
    BadRequest,
    /// No right (4.01).
    Unauthorized,
    /// The endpoint is not allowed here (4.03).
    Forbidden,
    /// There is no such object, instance, resource or registration (4.04).
    NotFound,
    /// It cannot be done with this target (4.05).
    MethodNotAllowed,
    /// The format asked for is not available (4.06).
    NotAcceptable,
    /// Blocks are missing (4.08).
    Incomplete,
    /// The state does not allow it now (4.09).
    Conflict,
    /// The version is not supported (4.12).
    PreconditionFailed,
    /// More than can be taken (4.13).
    TooLarge,
    /// The format of the request is not supported (4.15).
    UnsupportedFormat,
    /// The request is understood and cannot be carried out (4.22).
    Unprocessable,
    /// It failed for a reason of the peer's own (5.00 and what has no name here).
    Internal,
    /// The operation is not supported (5.01).
    NotImplemented,
    /// Not now (5.03).
    Unavailable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "4.00 bad request",
            Self::Unauthorized => "4.01 unauthorized",
            Self::Forbidden => "4.03 forbidden",
            Self::NotFound => "4.04 not found",
            Self::MethodNotAllowed => "4.05 method not allowed",
            Self::NotAcceptable => "4.06 not acceptable",
            Self::Incomplete => "4.08 request entity incomplete",
            Self::Conflict => "4.09 conflict",
            Self::PreconditionFailed => "4.12 precondition failed",
            Self::TooLarge => "4.13 request entity too large",
            Self::UnsupportedFormat => "4.15 unsupported content format",
            Self::Unprocessable => "4.22 unprocessable entity",
            Self::Internal => "5.00 internal error",
            Self::NotImplemented => "5.01 not implemented",
            Self::Unavailable => "5.03 service unavailable",
        })
    }
}

impl core::error::Error for Error {}

impl From<lwm2m_coap::Full> for Error {
    fn from(_: lwm2m_coap::Full) -> Self {
        Self::Internal
    }
}
