//! What a case is: data, which [`run`](super::run) interprets step by step.
//!
//! Invariant: a case names only what its device must hold and what is sent and expected; nothing of one certain device.

use core::fmt;

use lwm2m_server::WriteMode;

/// One case of the LightweightM2M enabler test specification.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The number in `LightweightM2M-1.1-int-<id>`.
    pub id: &'static str,
    /// The title in the specification, shortened.
    pub title: &'static str,
    /// What the device must hold (appendix C), in words.
    pub configuration: &'static str,
    /// How the device comes in.
    pub entry: Entry,
    /// The lifetime it begins with, in seconds.
    pub lifetime: u32,
    /// What happens, in order.
    pub steps: &'static [Step],
}

impl Case {
    /// The seconds that the steps ask for, about; what a client takes beyond them is its own.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        let seconds = |step: &Step| match *step {
            Step::UpdatesBareOrExpires { lifetime } => u64::from(lifetime),
            Step::StaysRegistered { seconds } | Step::StaysSilent { seconds, .. } => seconds,
            Step::Notifies { times, pmax, .. } => {
                pmax.saturating_mul(u64::try_from(times).unwrap_or(u64::MAX))
            }
            _ => 0,
        };
        self.steps.iter().map(seconds).fold(0, u64::saturating_add)
    }
}

/// How a device comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By its bootstrap account; it has no other.
    Bootstrap,
    /// By an account of the management server.
    Management,
}

/// What a resource has to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Is {
    /// Any value.
    There,
    /// Text that is not empty.
    Text,
    /// An integer.
    Number,
    /// A boolean.
    Flag,
    /// The lifetime that the Register carried.
    Lifetime,
    /// This value.
    Exactly(Literal),
}

/// A value in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// Text.
    Text(&'static str),
}

/// A path to read, with the resources that must be among what comes back; paths are relative to it, empty for itself.
pub type Expected = &'static [(&'static str, Is)];

/// One step. In a path, `x` stands for the instance of this server in `/1`, or for the first resource instance there is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The device sends a Register that is complete and correct, and is accepted.
    Registers,
    /// The server reads.
    Read {
        /// What.
        path: &'static str,
        /// The format asked for; `None` is the server's choice.
        format: Option<u16>,
        /// What must come back; anything else may.
        has: Expected,
        /// Whether nothing else may come back.
        only: bool,
    },
    /// The device must hold this resource, else the case is not applicable.
    Needs {
        /// The resource.
        path: &'static str,
    },
    /// The server writes.
    Write {
        /// The instance or resource.
        path: &'static str,
        /// Replace or partial update.
        mode: WriteMode,
        /// Values at paths relative to it.
        values: &'static [(&'static str, Literal)],
    },
    /// The server writes back, as a partial update, what the case's first Read of this instance showed.
    Restore {
        /// The instance.
        path: &'static str,
        /// Which of its resources.
        resources: &'static [u16],
    },
    /// The server executes a resource.
    Execute {
        /// The resource.
        path: &'static str,
        /// Whether the case is not applicable to a device without it.
        is_optional: bool,
    },
    /// The server sets notification attributes.
    Attributes {
        /// Where.
        path: &'static str,
        /// Which, as a query.
        query: &'static str,
    },
    /// The device sends an Update that carries this lifetime.
    UpdatesLifetime {
        /// Seconds; `None` is the one that the Register carried.
        lifetime: Option<u32>,
    },
    /// The device sends an Update without parameters.
    UpdatesBare,
    /// The device sends an Update without parameters, or its registration ends after its lifetime.
    UpdatesBareOrExpires {
        /// The lifetime in seconds.
        lifetime: u32,
    },
    /// The registration still stands so many seconds after it began, without having been made anew.
    StaysRegistered {
        /// Seconds.
        seconds: u64,
    },
    /// The device sends a De-register, and is gone.
    Deregisters,
    /// The server forgets the registration without a word.
    Forget,
    /// The device sends an Update, which the server answers with 4.04.
    UpdateIsNotFound,
    /// The server observes.
    Observe {
        /// What.
        path: &'static str,
    },
    /// The device sends notifications within their window.
    Notifies {
        /// What is observed.
        path: &'static str,
        /// How many at least.
        times: usize,
        /// Seconds that lie between two of them at least.
        pmin: u64,
        /// Seconds that lie between two of them at most.
        pmax: u64,
    },
    /// The server answers the next notification with a Reset.
    Reset {
        /// What is observed.
        path: &'static str,
        /// Seconds after which the next notification is there at the latest.
        pmax: u64,
    },
    /// No notification comes.
    StaysSilent {
        /// What was observed.
        path: &'static str,
        /// For so many seconds after the Reset.
        seconds: u64,
    },
    /// The device sends a Bootstrap-Request, which is accepted.
    AsksForBootstrap,
    /// The device accepts a Bootstrap-Write of an instance of this object.
    TakesAccount {
        /// 0 or 1.
        object: u16,
    },
    /// The device shows the accounts it has now in a Bootstrap-Discover.
    ShowsAccounts,
    /// The device accepts Bootstrap-Finish.
    FinishesBootstrap,
    /// Everything since the case began came over DTLS, and the key opened the session.
    CameSecured,
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There => f.write_str("any value"),
            Self::Text => f.write_str("text"),
            Self::Number => f.write_str("an integer"),
            Self::Flag => f.write_str("a boolean"),
            Self::Lifetime => f.write_str("the lifetime registered"),
            Self::Exactly(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registers => f.write_str("the client registers"),
            Self::Read { path, format: None, .. } => write!(f, "read {path}"),
            Self::Read { path, format: Some(format), .. } => write!(f, "read {path} in format {format}"),
            Self::Needs { path } => write!(f, "the client has {path}"),
            Self::Write { path, mode, values } => {
                write!(f, "{} {path}:", if *mode == WriteMode::Replace { "write" } else { "update" })?;
                values.iter().try_for_each(|(at, value)| match at.is_empty() {
                    true => write!(f, " {value}"),
                    false => write!(f, " {at}={value}"),
                })
            }
            Self::Execute { path, .. } => write!(f, "execute {path}"),
            Self::Attributes { path, query } => write!(f, "write the attributes {query} of {path}"),
            Self::Restore { path, .. } => write!(f, "restore {path}"),
            Self::UpdatesLifetime { lifetime: Some(lifetime) } => {
                write!(f, "the client sends an Update with lt={lifetime}")
            }
            Self::UpdatesLifetime { lifetime: None } => {
                f.write_str("the client sends an Update with its first lifetime")
            }
            Self::UpdatesBare => f.write_str("the client sends an Update without parameters"),
            Self::UpdatesBareOrExpires { lifetime } => {
                write!(f, "the client sends an Update without parameters, or is dropped after {lifetime} s")
            }
            Self::StaysRegistered { seconds } => {
                write!(f, "the client is still registered {seconds} s after it began")
            }
            Self::Deregisters => f.write_str("the client de-registers"),
            Self::Forget => f.write_str("the server forgets the client"),
            Self::UpdateIsNotFound => f.write_str("the next Update is answered 4.04"),
            Self::Observe { path } => write!(f, "observe {path}"),
            Self::Notifies { path, times, pmin, pmax } => {
                write!(f, "{times} or more notifications of {path}, {pmin} to {pmax} s apart")
            }
            Self::Reset { path, .. } => write!(f, "the server resets the next notification of {path}"),
            Self::StaysSilent { path, seconds } => {
                write!(f, "no notification of {path} in the next {seconds} s")
            }
            Self::AsksForBootstrap => f.write_str("the client sends a Bootstrap-Request"),
            Self::TakesAccount { object } => write!(f, "the client takes a Bootstrap-Write of /{object}"),
            Self::ShowsAccounts => f.write_str("the client shows its accounts in a Bootstrap-Discover"),
            Self::FinishesBootstrap => f.write_str("the client acknowledges Bootstrap-Finish"),
            Self::CameSecured => f.write_str("everything came over DTLS"),
        }
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
