//! What a case is: data, which [`run`](super::run) interprets step by step.
//!
//! Invariant: a case names only what its device must hold and what is sent and expected; nothing of one certain device.

use core::fmt;

use lwm2m_server::WriteMode;

use super::step::Step;

/// One case of the LightweightM2M enabler test specification.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The number in `LightweightM2M-1.1-int-<number>`.
    pub number: &'static str,
    /// The title in the specification, shortened.
    pub title: &'static str,
    /// What the device must hold (appendix C), in words.
    pub configuration: &'static str,
    /// The first enabler version whose specification has it.
    pub since: Enabler,
    /// Whether what it asks for is of LwM2M 1.0 alone.
    pub is_of_1_0: bool,
    /// How the device comes in.
    pub entry: Entry,
    /// What the device and the server prove themselves with.
    pub security: Security,
    /// The lifetime it begins with, in seconds.
    pub lifetime: u32,
    /// Whether it is in queue mode.
    pub is_queue_mode: bool,
    /// What the bootstrap server does after its first Discover; it writes the account where this is empty.
    pub script: &'static [Script],
    /// What happens, in order.
    pub steps: &'static [Step],
    /// Why it is not run against any client.
    pub left_out: Option<&'static str>,
}

/// An enabler version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enabler {
    /// LwM2M 1.0.
    V1_0,
    /// LwM2M 1.1.
    V1_1,
    /// LwM2M 1.2.
    V1_2,
}

impl fmt::Display for Enabler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        })
    }
}

/// How a device comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By its bootstrap account; it has no other.
    Bootstrap,
    /// By an account of the management server.
    Management,
    /// By an account of the management server, beside which it has a bootstrap account.
    Both,
    /// By an account of a management server that does not exist, beside which it has a bootstrap account.
    Fallback,
}

/// What device and server prove themselves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// A pre-shared key, or nothing in a run without security.
    Usual,
    /// Certificates.
    Certificate,
    /// Certificates, and that of the server has another name than its URI.
    Mismatch,
    /// An OSCORE context, without DTLS.
    Oscore,
}

impl Security {
    /// Whether both prove themselves with certificates.
    pub(crate) const fn is_by_certificate(self) -> bool {
        matches!(self, Self::Certificate | Self::Mismatch)
    }

    /// What the command of a client has for it, besides a URI, in words.
    pub(crate) const fn placeholder(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Certificate | Self::Mismatch => " and {certificate}",
            Self::Oscore => " and {oscore-secret}",
        }
    }
}

/// What the bootstrap server does.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// Writes the account of the management server.
    Account,
    /// Writes the account of a second management server, with Short Server ID 2, at these instances of `/0` and `/1`.
    SecondAccount(u16, u16),
    /// Bootstrap-Discover.
    Discover,
    /// Bootstrap-Read.
    Read(&'static str),
    /// Bootstrap-Delete.
    Delete(&'static str),
    /// Bootstrap-Write of values at paths relative to this one.
    Write(&'static str, Values),
}

/// Values at paths relative to the one that is written.
pub(crate) type Values = &'static [(&'static str, Literal)];

/// What a resource has to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Is {
    /// Any value.
    There,
    /// Text that is not empty.
    Text,
    /// An integer.
    Number,
    /// A number with or without a fraction.
    Float,
    /// A boolean.
    Flag,
    /// Bytes.
    Bytes,
    /// A link to an object instance.
    Link,
    /// The lifetime that the Register carried.
    Lifetime,
    /// What the first Read of this place showed.
    Unchanged,
    /// Another value than the first Read of this place showed.
    Changed,
    /// A time from this moment to two minutes later: a clock that was set goes on.
    From(i64),
    /// One of these integers.
    OneOf(&'static [i64]),
    /// This integer or a larger one.
    AtLeast(i64),
    /// This value.
    Exactly(Literal),
}

/// A value in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// Text.
    Text(&'static str),
    /// Bytes.
    Bytes(&'static [u8]),
    /// Seconds since 1970.
    Time(i64),
    /// A link to an object instance.
    Link(u16, u16),
    /// A firmware image that is given to the run.
    Image(Image),
    /// The URI where that image is offered.
    ImageUri(Image, Offer),
}

/// How an image is offered for download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All of it, as fast as it is asked for.
    Whole,
    /// So that it takes a while.
    Slowly,
    /// Its beginning alone: then the link is cut.
    Cut,
}

impl Offer {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Whole, Self::Slowly, Self::Cut];
}

/// The firmware images that a run may be given, by what a device does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Image {
    /// Installs it.
    Good,
    /// Has not the storage for it.
    TooLarge,
    /// Has not the memory for it.
    TooMuchMemory,
    /// Finds it damaged.
    Corrupt,
    /// Finds that it is of a type that it does not know.
    WrongType,
    /// Cannot install it.
    Failing,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Good, Self::TooLarge, Self::TooMuchMemory, Self::Corrupt, Self::WrongType, Self::Failing];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::TooLarge => "too-large",
            Self::TooMuchMemory => "too-much-memory",
            Self::Corrupt => "corrupt",
            Self::WrongType => "wrong-type",
            Self::Failing => "failing",
        }
    }
}

/// A path to read, with the resources that must be among what comes back; paths are relative to it, empty for itself.
pub(crate) type Expected = &'static [(&'static str, Is)];

/// Links that a Discover must show, with attributes: a value, or `None` for any. `x` in a target stands for any number.
pub(crate) type Links = &'static [(&'static str, &'static [(&'static str, Option<&'static str>)])];

/// A request that a device has to refuse.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// Read.
    Read(&'static str),
    /// Write.
    Write(&'static str, WriteMode, Values),
    /// Write-Attributes.
    Attributes(&'static str, &'static str),
    /// Create.
    Create(u16),
    /// Delete.
    Delete(&'static str),
    /// Execute.
    Execute(&'static str),
}

/// The lifetime of a device that a case says nothing about.
pub(crate) const DAY: u32 = 86_400;

impl Case {
    /// A case since LwM2M 1.0, with a device that has a server account.
    pub(crate) const fn new(
        number: &'static str,
        title: &'static str,
        configuration: &'static str,
        steps: &'static [Step],
    ) -> Self {
        Self {
            number,
            title,
            configuration,
            since: Enabler::V1_0,
            is_of_1_0: false,
            entry: Entry::Management,
            security: Security::Usual,
            lifetime: DAY,
            is_queue_mode: false,
            script: &[],
            steps,
            left_out: None,
        }
    }

    /// A case since LwM2M 1.0 that is not run, with the reason.
    pub(crate) const fn left_out(number: &'static str, title: &'static str, reason: &'static str) -> Self {
        Self { left_out: Some(reason), ..Self::new(number, title, "", &[]) }
    }

    pub(crate) const fn since(self, since: Enabler) -> Self {
        Self { since, ..self }
    }

    pub(crate) const fn of_1_0(self) -> Self {
        Self { is_of_1_0: true, ..self }
    }

    pub(crate) const fn by(self, entry: Entry) -> Self {
        Self { entry, ..self }
    }

    pub(crate) const fn with(self, security: Security) -> Self {
        Self { security, ..self }
    }

    pub(crate) const fn lifetime(self, lifetime: u32) -> Self {
        Self { lifetime, ..self }
    }

    pub(crate) const fn queued(self) -> Self {
        Self { is_queue_mode: true, ..self }
    }

    pub(crate) const fn scripted(self, script: &'static [Script]) -> Self {
        Self { script, ..self }
    }

    /// Its id in the specification of this enabler version.
    #[must_use]
    pub fn id(&self, version: Enabler) -> String {
        format!("{}-int-{}", version.max(self.since), self.number)
    }

    /// The seconds that the steps ask for, about; what a client takes beyond them is its own.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.steps.iter().map(Step::seconds).fold(0, u64::saturating_add)
    }
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step went as expected.
    Pass,
    /// A step did not.
    Fail {
        /// Which one, in words.
        step: String,
        /// What the specification expects.
        expected: String,
        /// What came instead.
        seen: String,
    },
    /// The case says nothing about this client.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) | Self::Time(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => write!(f, "0x{}", hex::encode(value)),
            Self::Link(object, instance) => write!(f, "{object}:{instance}"),
            Self::Image(image) => write!(f, "the {} image", image.name()),
            Self::ImageUri(image, Offer::Whole) => write!(f, "the URI of the {} image", image.name()),
            Self::ImageUri(image, Offer::Slowly) => write!(f, "a slow URI of the {} image", image.name()),
            Self::ImageUri(image, Offer::Cut) => {
                write!(f, "a URI of the {} image with a link that is cut", image.name())
            }
        }
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There => f.write_str("any value"),
            Self::Text => f.write_str("text"),
            Self::Number => f.write_str("an integer"),
            Self::Float => f.write_str("a number"),
            Self::Flag => f.write_str("a boolean"),
            Self::Bytes => f.write_str("bytes"),
            Self::Link => f.write_str("a link to an object instance"),
            Self::Lifetime => f.write_str("the lifetime registered"),
            Self::Unchanged => f.write_str("what was there before"),
            Self::Changed => f.write_str("another value than before"),
            Self::From(time) => write!(f, "{time} or up to 120 s later"),
            Self::OneOf(values) => write!(f, "one of {values:?}"),
            Self::AtLeast(least) => write!(f, "{least} or more"),
            Self::Exactly(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) => write!(f, "a Read of {path}"),
            Self::Write(path, ..) => write!(f, "a Write of {path}"),
            Self::Attributes(path, query) => write!(f, "the attributes {query} of {path}"),
            Self::Create(object) => write!(f, "a Create of /{object}"),
            Self::Delete(path) => write!(f, "a Delete of {path}"),
            Self::Execute(path) => write!(f, "an Execute of {path}"),
        }
    }
}
