//! What is asked of a device, what it answers and what it reports, independent of the transport (LwM2M Core 1.2.1 §6.3, §6.4).

use crate::{Path, Value};

/// One operation on a device, independent of the transport (LwM2M Core 1.2.1 §6.3, §6.4).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Reads an object, instance, resource or resource instance.
    Read {
        /// What to read.
        path: Path,
        /// The content format to ask for (a CoAP number); `None` chooses by the device's version, [`Operation::ANY_FORMAT`] leaves
        /// it to the device.
        format: Option<u16>,
    },
    /// Writes values; `path` is the instance, resource or resource instance, the values' paths lie at or below it.
    Write {
        /// Where to write.
        path: Path,
        /// Replace or partial update.
        mode: WriteMode,
        /// The values.
        values: Vec<(Path, Value)>,
        /// The content format to write in (a CoAP number); `None` chooses by what the device announced.
        format: Option<u16>,
    },
    /// Executes a resource.
    Execute {
        /// The resource.
        path: Path,
        /// The arguments in the grammar of §6.3.5; empty for none.
        arguments: String,
    },
    /// Creates an object instance.
    Create {
        /// The object.
        object: u16,
        /// The instance id; `None` lets the device choose.
        instance: Option<u16>,
        /// Resources, instances of those that have several, and values.
        values: Vec<(u16, Option<u16>, Value)>,
    },
    /// Deletes an object instance, or a resource instance (1.2).
    Delete {
        /// What to delete.
        path: Path,
    },
    /// Lists what is instantiated, with attributes.
    Discover {
        /// Where to start.
        path: Path,
        /// 0..=3 (1.2), `None` for the default.
        depth: Option<u8>,
    },
    /// Sets or unsets notification attributes.
    WriteAttributes {
        /// Which level.
        path: Path,
        /// The attributes as a query, for example `pmin=10&pmax=60&gt`; a name without a value unsets it.
        attributes: String,
    },
    /// Observes; the answer carries the current values.
    Observe {
        /// What to observe.
        path: Path,
        /// The content format to ask for; `None` chooses by the device's version.
        format: Option<u16>,
    },
    /// Reads several places at once (1.1).
    ReadComposite {
        /// What to read, at any level; what is not there is left out of the answer.
        paths: Vec<Path>,
        /// The content format to ask for (110 or 112); `None` chooses by what the device announced.
        format: Option<u16>,
    },
    /// Writes several resources or resource instances at once, all or none (1.1).
    WriteComposite {
        /// The values.
        values: Vec<(Path, Value)>,
    },
    /// Observes several places at once (1.1); the answer carries the current values.
    ObserveComposite {
        /// What to observe, at any level.
        paths: Vec<Path>,
        /// The content format to ask for (110 or 112); `None` chooses by what the device announced.
        format: Option<u16>,
    },
    /// Ends an observation.
    Cancel {
        /// Which one.
        observation: ObservationId,
    },
}

impl Operation {
    /// In a Read: no format is asked for. The number is reserved for experiments and names no format (RFC 7252 §12.3).
    pub const ANY_FORMAT: u16 = u16::MAX;
}

/// How a Write treats what its payload leaves out (§6.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// PUT: what is left out is removed or reset.
    Replace,
    /// POST: what is left out stays.
    Update,
}

/// The successful answer to an [`Operation`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// Done; there is nothing to tell (Write, Execute, Delete, Write-Attributes).
    Done,
    /// The values read.
    Content(Content),
    /// The instance created; `None` when the device did not name it.
    Created(Option<Path>),
    /// What Discover found.
    Discovered(Discovered),
    /// The observation that now stands, with the current values.
    Observing(ObservationId, Content),
}

/// Values read from a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The content format they came in (a CoAP number).
    pub format: u16,
    /// Paths down to the resource or resource instance, in the payload's order.
    pub items: Vec<(Path, Value)>,
}

/// What a device reports by itself (Send, or a notification).
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The content format it came in (a CoAP number).
    pub format: u16,
    /// The values, in the payload's order; one path may come several times, with different times.
    pub values: Vec<Reported>,
}

/// A value that a device reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The resource or resource instance.
    pub path: Path,
    /// Its value.
    pub value: Value,
    /// When it was so, in milliseconds since 1970; `None` when the device does not say.
    pub time: Option<i64>,
}

/// What was read, as it is now.
impl From<Content> for Report {
    fn from(Content { format, items }: Content) -> Self {
        let values = items.into_iter().map(|(path, value)| Reported { path, value, time: None });
        Self { format, values: values.collect() }
    }
}

impl From<Report> for Content {
    fn from(Report { format, values }: Report) -> Self {
        let items = values.into_iter().map(|Reported { path, value, .. }| (path, value));
        Self { format, items: items.collect() }
    }
}

/// One link of a Discover answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link's target as the device wrote it, for example `/3/0/1`.
    pub target: String,
    /// Names and values of the attributes; a value is without its quotes, `None` when there is none.
    pub attributes: Vec<(String, Option<String>)>,
}

/// What Discover found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The links in the device's order.
    pub links: Vec<Link>,
}

/// Names one observation: a lasting one for good, another one for as long as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObservationId(pub u64);

impl ObservationId {
    /// From here on are the numbers of those that do not last: the store numbers the others, so that neither has to know what the other
    /// one has given out.
    pub(crate) const PASSING: u64 = 1 << 32;

    /// Whether it names one of the [lasting observations](crate::observations).
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        self.0 < Self::PASSING
    }
}

/// Why a request to a device has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// No device of this name is registered.
    UnknownDevice,
    /// The device is registered but has no session now: it closed it, or it ended.
    Unreachable,
    /// No such observation.
    UnknownObservation,
    /// The operation cannot be asked at this path or with these values; says why.
    Invalid(&'static str),
    /// Too many requests wait for this device.
    QueueFull,
    /// The request did not leave in time, or before the device registered again or its session ended: it was not executed.
    NotSent,
    /// The device did not answer in time; it may have executed the request.
    TimedOut,
    /// The device refused; the CoAP code as class and detail, for example `(4, 5)`, and its diagnostic text.
    Refused((u8, u8), String),
    /// The device registered again or its session ended while the request was under way; it may have been executed.
    Interrupted,
    /// The answer is longer than the server accepts, or has memory for now.
    TooLarge,
    /// The answer cannot be understood; says why.
    Malformed(&'static str),
    /// The server is stopping.
    Stopped,
}

impl core::fmt::Display for RequestError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownDevice => f.write_str("no such device is registered"),
            Self::Unreachable => f.write_str("the device has no session with this server now"),
            Self::UnknownObservation => f.write_str("no such observation"),
            Self::Invalid(why) => write!(f, "the request is not valid: {why}"),
            Self::QueueFull => f.write_str("too many requests wait for this device"),
            Self::NotSent => f.write_str("the request did not leave, and was not executed"),
            Self::TimedOut => f.write_str("the device did not answer in time"),
            Self::Refused((class, detail), text) if text.is_empty() => {
                write!(f, "the device answered {class}.{detail:02}")
            }
            Self::Refused((class, detail), text) => {
                write!(f, "the device answered {class}.{detail:02}: {text}")
            }
            Self::Interrupted => f.write_str("the device registered again or its session ended meanwhile"),
            Self::TooLarge => f.write_str("the answer is longer than this server accepts"),
            Self::Malformed(why) => write!(f, "the answer cannot be understood: {why}"),
            Self::Stopped => f.write_str("the server is stopping"),
        }
    }
}

impl core::error::Error for RequestError {}
